// SPDX-License-Identifier: Apache-2.0
// Data sets of pictures with captions.
//
//   Flickr30k   dataset_flickr30k.json, flickr30k-images/
//   COCO        dataset_coco.json, val2014/, train2014/ (or both in images/)
//               Karpathy's lists: {"images":[{"filename","filepath","split","sentences":[{"raw"}]}]}. "restval"
//               belongs to train, as it does for everyone who compares with them.
//   OVEN        oven_entity_SPLIT.jsonl or oven_query_SPLIT.jsonl of the official release, or both in oven_data/:
//               {"data_id","image_id","question","entity_id","entity_text","data_split"} in each line;
//               oven_images/04/oven_04925417.jpg. The caption is the entity's name.
//
// COCO's list is 144 MB with ten million values: it is never parsed whole. OVEN's is read line by
// line.

#include <stdio.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/dataset_layout_internal.h"
#include "tools/json_items.h"
#include "tools/rowfile.h"

#define FLICKR_LIST "dataset_flickr30k.json"
#define COCO_LIST "dataset_coco.json"
#define VALUES_MAX 20000 // of one picture's captions and their words

// --- Karpathy's lists

bool dataset_layout_is_flickr(const char *root)
{
    return dataset_layout_has_file(root, FLICKR_LIST);
}

bool dataset_layout_is_coco(const char *root)
{
    return dataset_layout_has_file(root, COCO_LIST);
}

struct karpathy {
    struct dataset_layout *layout;
    char list[DATASET_PATH_BYTES];
    const char *folder; // that has the first picture; NULL: not looked for yet
    struct buffer captions;
};

// A caption as one line: white space of any kind is a blank.
static enum status put_caption(struct buffer *out, struct text raw)
{
    raw = dataset_trimmed(raw);
    if (!raw.bytes)
        return STATUS_OK;
    enum status status = out->count ? buffer_append(out, "\n", 1) : STATUS_OK;
    for (size_t i = 0; i < raw.bytes && !status; i++) {
        const char c = raw.data[i];
        status = buffer_append(out, c == '\n' || c == '\r' || c == '\t' ? " " : &c, 1);
    }
    return status;
}

static enum status put_captions(struct karpathy *karpathy, const struct json *sentences,
                                struct reason *why)
{
    enum status status = STATUS_OK;
    karpathy->captions.count = 0;
    for (size_t i = 0; i < json_count(sentences) && !status; i++)
        status = put_caption(&karpathy->captions,
                             json_text(json_member(json_element(sentences, i), "raw")));
    if (status)
        return reason_set(why, status, NULL, "no memory for its captions");
    if (!karpathy->captions.count)
        return reason_set(why, STATUS_INVALID, "sentences",
                          "no caption: a list of {\"raw\": TEXT} is expected");
    return STATUS_OK;
}

// Where pictures lie is told by the first: people unpack them in different places.
static enum status find_folder(struct karpathy *karpathy, const char *path, struct reason *why)
{
    static const char *const folders[] = {"", "flickr30k-images", "flickr30k_images", "images",
                                          "Images"};
    const char *root = karpathy->layout->root;
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        char inside[DATASET_PATH_BYTES];
        const bool fits = folders[i][0] ? dataset_join(folders[i], path, inside)
                                        : snprintf(inside, sizeof(inside), "%s", path) > 0;
        if (!fits || !dataset_layout_has_file(root, inside))
            continue;
        karpathy->folder = folders[i];
        return STATUS_OK;
    }
    return reason_set(why, STATUS_NOT_FOUND, NULL,
                      "the picture %s lies neither in %s nor in its flickr30k-images, images", path,
                      root);
}

static bool is_wanted(const struct dataset_layout *layout, struct text split)
{
    if (text_equal(split, text_of("restval")))
        split = text_of("train");
    const size_t bytes = strcspn(layout->split, "|");
    return text_equal(split, (struct text){layout->split, bytes});
}

static enum status take_image(struct karpathy *karpathy, const struct json *image,
                              struct reason *why)
{
    const struct text folder = json_text(json_member(image, "filepath"));
    const struct text name = json_text(json_member(image, "filename"));
    const struct text split = json_text(json_member(image, "split"));
    if (!name.bytes || memchr(name.data, 0, name.bytes) || !split.bytes)
        return reason_set(why, STATUS_INVALID, NULL, "\"filename\" and \"split\" are expected");
    if (!is_wanted(karpathy->layout, split))
        return STATUS_OK;
    char path[DATASET_PATH_BYTES];
    const int used = snprintf(path, sizeof(path), "%.*s%s%.*s", (int)folder.bytes,
                              folder.data ? folder.data : "", folder.bytes ? "/" : "",
                              (int)name.bytes, name.data);
    if (used < 0 || (size_t)used >= sizeof(path))
        return reason_set(why, STATUS_INVALID, "filename", "is too long");
    enum status status = put_captions(karpathy, json_member(image, "sentences"), why);
    if (!status && !karpathy->folder)
        status = find_folder(karpathy, path, why);
    if (status)
        return status;
    const struct text captions = {(const char *)karpathy->captions.data, karpathy->captions.count};
    return dataset_layout_add_picture(karpathy->layout, karpathy->folder, text_of(path), 0,
                                      captions, why);
}

static enum status take_element(struct karpathy *karpathy, struct text element, size_t number,
                                struct reason *why)
{
    struct json *image = NULL;
    struct reason inner = {.text = ""};
    enum status status = json_parse_few(element.data, element.bytes, VALUES_MAX, &image, &inner);
    if (!status)
        status = take_image(karpathy, image, &inner);
    json_destroy(&image);
    return status ? reason_set(why, status, NULL, "%s: images[%zu]: %s%s%s", karpathy->list, number,
                               inner.field, inner.field[0] ? ": " : "", inner.text)
                  : STATUS_OK;
}

static enum status read_list(struct karpathy *karpathy, struct text document, struct reason *why)
{
    struct json_items items;
    struct reason inner = {.text = ""};
    enum status status = json_items_begin(&items, document, "images", &inner);
    while (!status) {
        struct text element;
        status = json_items_next(&items, &element, &inner);
        if (status || !element.data)
            break;
        status = take_element(karpathy, element, items.count - 1, why);
        if (status)
            return status;
    }
    return status ? reason_set(why, status, NULL, "%s: %s", karpathy->list, inner.text) : STATUS_OK;
}

enum status dataset_layout_pictures_karpathy(struct dataset_layout *layout, struct reason *why)
{
    struct karpathy karpathy = {.layout = layout};
    struct buffer document = {0};
    struct reason inner = {.text = ""};
    const char *list = dataset_layout_is_coco(layout->root) ? COCO_LIST : FLICKR_LIST;
    enum status status = dataset_layout_path(layout, list, karpathy.list, why);
    if (status)
        return status;
    status = dataset_read_file(karpathy.list, DATASET_LAYOUT_LIST_BYTES_MAX, &document, &inner);
    if (status)
        status = reason_set(why, status, NULL, "%s: %s", karpathy.list, inner.text);
    else
        status =
            read_list(&karpathy, (struct text){(const char *)document.data, document.count}, why);
    buffer_deinit(&document);
    buffer_deinit(&karpathy.captions);
    return status;
}

// --- OVEN

static const char *const oven_lists[][3] = {
    {"train", "oven_entity_train.jsonl", "oven_data/oven_entity_train.jsonl"},
    {"val", "oven_entity_val.jsonl", "oven_data/oven_entity_val.jsonl"},
    {"query_train", "oven_query_train.jsonl", "oven_data/oven_query_train.jsonl"},
    {"query_val", "oven_query_val.jsonl", "oven_data/oven_query_val.jsonl"},
};
#define OVEN_LISTS (sizeof(oven_lists) / sizeof(oven_lists[0]))

bool dataset_layout_is_oven(const char *root)
{
    for (size_t i = 0; i < OVEN_LISTS; i++)
        if (dataset_layout_has_file(root, oven_lists[i][1]) ||
            dataset_layout_has_file(root, oven_lists[i][2]))
            return true;
    return false;
}

enum status dataset_layout_rows_oven(struct dataset_layout *layout, struct reason *why)
{
    char path[DATASET_PATH_BYTES];
    size_t which = 0;
    while (which + 1 < OVEN_LISTS && !dataset_layout_is_split(layout, oven_lists[which][0]))
        which++;
    const char *const names[] = {oven_lists[which][1], oven_lists[which][2], NULL};
    const enum status status = dataset_layout_choose(layout, names, path, why);
    if (status)
        return status;
    layout->rows_path = mem_copy_text(path);
    return rowfile_open(path, ROWFILE_JSONL, &layout->rows, why);
}

// A picture's file: ROOT/oven_images/04/oven_04925417.jpg.
static enum status find_oven(const struct dataset_layout *layout, struct text id,
                             char out[DATASET_PATH_BYTES], struct reason *why)
{
    static const char *const folders[] = {"oven_images", "images"};
    static const char *const endings[] = {"jpg", "JPEG", "jpeg", "JPG", "png"};
    const char *digits = id.bytes ? memchr(id.data, '_', id.bytes) : NULL;
    char name[128];
    if (!digits || id.bytes > 64 || id.bytes - (size_t)(digits - id.data) < 3 ||
        memchr(id.data, '/', id.bytes) || memchr(id.data, 0, id.bytes))
        return reason_set(why, STATUS_INVALID, "image_id",
                          "'%.*s': one like oven_04925417 is expected",
                          (int)(id.bytes < 64 ? id.bytes : 64), id.data ? id.data : "");
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
        for (size_t j = 0; j < sizeof(endings) / sizeof(endings[0]); j++) {
            (void)snprintf(name, sizeof(name), "%s/%.2s/%.*s.%s", folders[i], digits + 1,
                           (int)id.bytes, id.data, endings[j]);
            if (dataset_layout_has_file(layout->root, name))
                return dataset_layout_path(layout, name, out, why);
        }
    return reason_set(why, STATUS_NOT_FOUND, "image_id",
                      "%.*s: no such picture in %s/oven_images/%.2s", (int)id.bytes, id.data,
                      layout->root, digits + 1);
}

static enum status take_oven(const struct dataset_layout *layout, const struct json *line,
                             struct arena *arena, struct dataset_item *item, struct reason *why)
{
    static const char *const keys[] = {"data_id", NULL};
    static const char *const names[] = {"entity_text", NULL};
    struct api_ingest_record *record = &item->record;
    char path[DATASET_PATH_BYTES];
    enum status status = dataset_take_member(line, keys, arena, &record->key, why);
    if (!status)
        status = dataset_take_member(line, names, arena, &record->caption, why);
    if (!status)
        status = dataset_take_entity(line, arena, item, why);
    if (!status && !record->caption.bytes)
        return reason_set(why, STATUS_INVALID, "entity_text",
                          "is missing: it names what the picture shows (the test splits are "
                          "published without)");
    if (!status)
        status = find_oven(layout, json_text(json_member(line, "image_id")), path, why);
    if (!status)
        status = dataset_copy(arena, text_of(path), &record->source, why);
    if (!status)
        status = dataset_check(record, true, why);
    return status ? status : dataset_read_picture(path, arena, record, why);
}

enum dataset_step dataset_layout_next_oven(struct dataset_layout *layout, struct arena *arena,
                                           struct dataset_item *out, struct reason *why)
{
    struct rowfile_row row;
    const enum rowfile_step step = rowfile_next(layout->rows, &row, why);
    dataset_begin_item(out, NULL);
    if (step == ROWFILE_END)
        return DATASET_END;
    const char *name =
        dataset_format(arena, "%s line %llu", layout->rows_path, (unsigned long long)row.line);
    out->name = name ? name : layout->rows_path;
    if (step == ROWFILE_BAD)
        return DATASET_BAD;
    struct json *line = NULL;
    enum status status =
        json_parse_few(row.fields[0].data, row.fields[0].bytes, VALUES_MAX, &line, why);
    if (!status && !json_is_object(line))
        status = reason_set(why, STATUS_INVALID, NULL, "is no object");
    if (!status)
        status = take_oven(layout, line, arena, out, why);
    json_destroy(&line);
    return status ? DATASET_BAD : DATASET_ITEM;
}
