// SPDX-License-Identifier: Apache-2.0
// The table of layouts, and what their loaders share. Paths and captions stand in one growing
// buffer: a data set of a million pictures is a list of some 80 MB and not a million small
// allocations.

#include <assert.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/dataset_layout_internal.h"
#include "tools/rowfile.h"

// dataset_words.S
#define WORDS(name) extern const char dataset_words_##name[], dataset_words_##name##_end[]
WORDS(cub);
WORDS(cars);
WORDS(flowers);
WORDS(pets);
WORDS(food);
WORDS(imagenet);
WORDS(sun);

#define CLASSED(word)                                                                              \
    .is_here = dataset_layout_is_##word, .read_classes = dataset_layout_classes_##word,            \
    .read_pictures = dataset_layout_pictures_##word, .templates = dataset_words_##word,            \
    .templates_end = dataset_words_##word##_end

static const struct dataset_layout_kind kinds[] = {
    {.name = "cub-200-2011",
     .splits = "train|test",
     .measured = "test",
     .classes = 200,
     CLASSED(cub)},
    {.name = "stanford-cars",
     .splits = "train|test",
     .measured = "test",
     .classes = 196,
     CLASSED(cars)},
    {.name = "flowers-102",
     .splits = "train|val|test",
     .measured = "test",
     .classes = 102,
     CLASSED(flowers)},
    {.name = "oxford-pets",
     .splits = "train|test",
     .measured = "test",
     .classes = 37,
     CLASSED(pets)},
    {.name = "food-101", .splits = "train|test", .measured = "test", .classes = 101, CLASSED(food)},
    {.name = "imagenet",
     .splits = "train|val",
     .measured = "val",
     .classes = 1000,
     CLASSED(imagenet)},
    {.name = "sun397", .splits = "train|test", .measured = "test", .classes = 397, CLASSED(sun)},
    {.name = "flickr30k",
     .is_here = dataset_layout_is_flickr,
     .splits = "train|val|test",
     .measured = "test",
     .read_pictures = dataset_layout_pictures_karpathy},
    {.name = "coco",
     .is_here = dataset_layout_is_coco,
     .splits = "train|val|test",
     .measured = "test",
     .read_pictures = dataset_layout_pictures_karpathy},
    {.name = "oven",
     .is_here = dataset_layout_is_oven,
     .splits = "train|val|query_train|query_val",
     .measured = "val",
     .open_rows = dataset_layout_rows_oven,
     .next = dataset_layout_next_oven},
};

// --- recognising

bool dataset_layout_has_file(const char *root, const char *name)
{
    char path[DATASET_PATH_BYTES];
    return dataset_join(root, name, path) && dataset_is_file(path);
}

bool dataset_layout_has_folder(const char *root, const char *name)
{
    char path[DATASET_PATH_BYTES];
    return dataset_join(root, name, path) && dataset_is_folder(path);
}

const struct dataset_layout_kind *dataset_layout_find(const char *folder)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (kinds[i].is_here(folder))
            return &kinds[i];
    return NULL;
}

const char *dataset_layout_name(const struct dataset_layout_kind *kind)
{
    return kind->name;
}

size_t dataset_layout_whole(const struct dataset_layout_kind *kind)
{
    return kind->classes;
}

struct text dataset_layout_templates(const struct dataset_layout_kind *kind)
{
    return kind->templates
               ? (struct text){kind->templates, (size_t)(kind->templates_end - kind->templates)}
               : (struct text){NULL, 0};
}

// Points *out into kind->splits.
static enum status find_split(const struct dataset_layout_kind *kind, const char *split,
                              const char **out, struct reason *why)
{
    const size_t bytes = strlen(split);
    for (const char *at = kind->splits; at; at = strchr(at, '|')) {
        at += *at == '|';
        if (bytes && strcspn(at, "|") == bytes && memcmp(at, split, bytes) == 0) {
            *out = at;
            return STATUS_OK;
        }
    }
    return reason_set(why, STATUS_INVALID, "--split", "'%.100s' is no split of %s; allowed: %s",
                      split, kind->name, kind->splits);
}

enum status dataset_layout_measured(const struct dataset_layout_kind *kind, const char *split,
                                    const char **out, struct reason *why)
{
    *out = split ? split : kind->measured;
    const char *ignored = NULL;
    return find_split(kind, *out, &ignored, why);
}

// --- what loaders share

bool dataset_layout_is_split(const struct dataset_layout *layout, const char *word)
{
    const size_t bytes = strlen(word);
    return strcspn(layout->split, "|") == bytes && memcmp(layout->split, word, bytes) == 0;
}

enum status dataset_layout_path(const struct dataset_layout *layout, const char *name,
                                char out[DATASET_PATH_BYTES], struct reason *why)
{
    if (dataset_join(layout->root, name, out))
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, NULL, "the path %.200s/... is too long", layout->root);
}

enum status dataset_layout_choose(const struct dataset_layout *layout, const char *const *names,
                                  char out[DATASET_PATH_BYTES], struct reason *why)
{
    for (const char *const *name = names; *name; name++) {
        const enum status status = dataset_layout_path(layout, *name, out, why);
        if (status || dataset_is_file(out))
            return status;
    }
    return reason_set(why, STATUS_NOT_FOUND, NULL,
                      "%s/%s: no such file; the split %.*s of %s is listed in it", layout->root,
                      names[0], (int)strcspn(layout->split, "|"), layout->split,
                      layout->kind->name);
}

enum status dataset_layout_add_class(struct dataset_layout *layout, struct text key,
                                     struct text name, struct reason *why)
{
    char text[LABEL_BYTES_MAX + 1];
    if (layout->keys.count == DATASET_LAYOUT_CLASSES_MAX)
        return reason_set(why, STATUS_INVALID, NULL, "more than %d classes",
                          DATASET_LAYOUT_CLASSES_MAX);
    if (key.bytes > LABEL_BYTES_MAX || name.bytes > LABEL_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, NULL,
                          "a class's name of %zu bytes: at most %d are allowed",
                          key.bytes > name.bytes ? key.bytes : name.bytes, LABEL_BYTES_MAX);
    if (!key.bytes || memchr(key.data, 0, key.bytes) || !bytes_is_utf8(name.data, name.bytes) ||
        (name.bytes && memchr(name.data, 0, name.bytes)))
        return reason_set(why, STATUS_INVALID, NULL, "a class's name is empty or not UTF-8");
    (void)snprintf(text, sizeof(text), "%.*s", (int)key.bytes, key.data);
    dataset_list_add(&layout->keys, text);
    (void)snprintf(text, sizeof(text), "%.*s", (int)name.bytes, name.data ? name.data : "");
    for (char *at = text; *at; at++)
        if (*at == '_' || (*at >= '\t' && *at <= '\r'))
            *at = ' ';
    dataset_list_add(&layout->names, text);
    return STATUS_OK;
}

bool dataset_layout_find_class(struct dataset_layout *layout, struct text key, uint32_t *label)
{
    // Lists name the pictures of a class one after the other.
    const size_t count = layout->keys.count;
    for (size_t i = 0; i < count; i++) {
        const size_t at = (layout->last + i) % count;
        if (!text_equal(key, text_of(layout->keys.names[at])))
            continue;
        layout->last = at;
        *label = (uint32_t)at;
        return true;
    }
    return false;
}

// Puts texts behind each other, with a NUL behind them.
static enum status put_text(struct dataset_layout *layout, struct text first, struct text second,
                            size_t *place, struct reason *why)
{
    struct buffer *texts = &layout->texts;
    *place = texts->count;
    enum status status = buffer_append(texts, first.data, first.bytes);
    if (!status)
        status = buffer_append(texts, second.data, second.bytes);
    if (!status)
        status = buffer_append(texts, "", 1);
    return status ? reason_set(why, status, NULL, "no memory for the list of pictures") : STATUS_OK;
}

static bool leads_out(struct text path)
{
    if (!path.bytes || path.data[0] == '/' || memchr(path.data, 0, path.bytes))
        return true;
    for (size_t i = 0; i + 1 < path.bytes; i++)
        if ((i == 0 || path.data[i - 1] == '/') && path.data[i] == '.' && path.data[i + 1] == '.' &&
            (i + 2 == path.bytes || path.data[i + 2] == '/'))
            return true;
    return false;
}

enum status dataset_layout_add_picture(struct dataset_layout *layout, const char *folder,
                                       struct text rest, uint32_t label, struct text caption,
                                       struct reason *why)
{
    if (leads_out(rest) || !bytes_is_utf8(rest.data, rest.bytes))
        return reason_set(why, STATUS_INVALID, NULL,
                          "the picture '%.*s': a relative path without .. is allowed",
                          (int)(rest.bytes < 100 ? rest.bytes : 100), rest.data ? rest.data : "");
    if (layout->kind->read_classes && label >= layout->keys.count)
        return reason_set(why, STATUS_INVALID, NULL, "class %u: 1..%zu is allowed",
                          (unsigned)(label + 1), layout->keys.count);
    if (layout->count == DATASET_LAYOUT_PICTURES_MAX)
        return reason_set(why, STATUS_INVALID, NULL, "more than %d pictures",
                          DATASET_LAYOUT_PICTURES_MAX);
    if (layout->count == layout->room) {
        layout->room = layout->room ? 2 * layout->room : 1024;
        layout->pictures = mem_grow(layout->pictures, layout->room, sizeof(layout->pictures[0]));
    }
    struct dataset_layout_picture picture = {.caption = DATASET_LAYOUT_NONE, .label = label};
    char before[DATASET_PATH_BYTES];
    const int used = snprintf(before, sizeof(before), "%s%s", folder, folder[0] ? "/" : "");
    if (used < 0 || (size_t)used >= sizeof(before))
        return reason_set(why, STATUS_INVALID, NULL, "the path %.200s... is too long", folder);
    enum status status = put_text(layout, text_of(before), rest, &picture.path, why);
    if (!status && caption.data)
        status = put_text(layout, caption, (struct text){"", 0}, &picture.caption, why);
    if (!status)
        layout->pictures[layout->count++] = picture;
    return status;
}

// --- lists

enum status dataset_layout_begin_lines(const struct dataset_layout *layout, const char *name,
                                       struct dataset_layout_lines *out, struct reason *why)
{
    *out = (struct dataset_layout_lines){.line = 0};
    enum status status = dataset_layout_path(layout, name, out->path, why);
    if (status)
        return status;
    struct reason inner = {.text = ""};
    status = dataset_read_file(out->path, DATASET_LAYOUT_LIST_BYTES_MAX, &out->data, &inner);
    return status ? reason_set(why, status, NULL, "%s: %s", out->path, inner.text) : STATUS_OK;
}

void dataset_layout_end_lines(struct dataset_layout_lines *lines)
{
    buffer_deinit(&lines->data);
}

static void split_fields(struct dataset_layout_lines *lines)
{
    struct text rest = lines->text;
    lines->field_count = 0;
    while (rest.bytes) {
        size_t bytes = 0;
        while (bytes < rest.bytes && rest.data[bytes] != ' ' && rest.data[bytes] != '\t')
            bytes++;
        if (lines->field_count < sizeof(lines->fields) / sizeof(lines->fields[0]))
            lines->fields[lines->field_count] = (struct text){rest.data, bytes};
        lines->field_count++;
        rest = dataset_trimmed((struct text){rest.data + bytes, rest.bytes - bytes});
    }
}

bool dataset_layout_next_line(struct dataset_layout_lines *lines)
{
    while (lines->at < lines->data.count) {
        const char *begin = (const char *)lines->data.data + lines->at;
        const size_t left = lines->data.count - lines->at;
        const char *newline = memchr(begin, '\n', left);
        const size_t bytes = newline ? (size_t)(newline - begin) : left;
        lines->at += bytes + (newline != NULL);
        lines->line++;
        lines->text = dataset_trimmed((struct text){begin, bytes});
        if (!lines->text.bytes)
            continue;
        split_fields(lines);
        return true;
    }
    return false;
}

enum status dataset_layout_refuse_line(const struct dataset_layout_lines *lines, struct reason *why,
                                       const char *format, ...)
{
    char text[REASON_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return reason_set(why, STATUS_INVALID, NULL, "%s line %llu: %s", lines->path,
                      (unsigned long long)lines->line, text);
}

enum status dataset_layout_blame_line(const struct dataset_layout_lines *lines, enum status status,
                                      const struct reason *inner, struct reason *why)
{
    return reason_set(why, status, NULL, "%s line %llu: %s", lines->path,
                      (unsigned long long)lines->line, inner->text);
}

bool dataset_layout_number(struct text digits, uint32_t low, uint32_t high, uint32_t *out)
{
    uint64_t value = 0;
    if (!digits.bytes || digits.bytes > 10)
        return false;
    for (size_t i = 0; i < digits.bytes; i++) {
        if (digits.data[i] < '0' || digits.data[i] > '9')
            return false;
        value = 10 * value + (uint64_t)(digits.data[i] - '0');
    }
    if (value < low || value > high)
        return false;
    *out = (uint32_t)value;
    return true;
}

// --- classes

static struct dataset_layout *begin(const struct dataset_layout_kind *kind, const char *root)
{
    struct dataset_layout *layout = mem_alloc(sizeof(*layout));
    layout->kind = kind;
    layout->root = mem_copy_text(root);
    layout->split = kind->splits;
    return layout;
}

static enum status check_names(const struct dataset_layout *layout, struct reason *why)
{
    for (size_t i = 0; i < layout->names.count; i++)
        if (!layout->names.names[i][0])
            return reason_set(
                why, STATUS_NOT_FOUND, layout->root,
                "class %s has no name here: %s lacks one; --labels FILE with a name in each line, "
                "in the order of the classes, gives them to an evaluation",
                layout->keys.names[i],
                layout->names_from ? layout->names_from
                                   : "classnames.txt, LOC_synset_mapping.txt or the devkit's "
                                     "data/meta.mat would have them, and the folder");
    return STATUS_OK;
}

enum status dataset_layout_classes(const struct dataset_layout_kind *kind, const char *root,
                                   struct buffer *lines, size_t *count, struct reason *why)
{
    assert(kind && root && count);

    *count = 0;
    if (!kind->read_classes && lines)
        return reason_set(why, STATUS_INVALID, root,
                          "%s has no classes: --labels FILE names those to choose from; `reco eval "
                          "%s` measures it",
                          kind->name, kind->next ? "oven" : "retrieval");
    if (!kind->read_classes)
        return STATUS_OK;
    struct dataset_layout *layout = begin(kind, root);
    enum status status = kind->read_classes(layout, why);
    if (!status && lines)
        status = check_names(layout, why);
    for (size_t i = 0; i < layout->names.count && lines && !status; i++) {
        const char *name = layout->names.names[i];
        status = buffer_append(lines, name, strlen(name));
        if (!status)
            status = buffer_append(lines, "\n", 1);
        if (status)
            status = reason_set(why, status, NULL, "no memory for the names of the classes");
    }
    *count = layout->names.count;
    dataset_layout_close(&layout);
    return status;
}

// --- opening

static bool is_there(const struct dataset_layout *layout, size_t picture)
{
    char path[DATASET_PATH_BYTES];
    const char *texts = (const char *)layout->texts.data;
    return dataset_join(layout->root, texts + layout->pictures[picture].path, path) &&
           dataset_is_file(path);
}

// A class without a picture would make a figure that nobody else can have: it is told, not passed
// over.
static enum status check_class(const struct dataset_layout *layout, size_t label, size_t listed,
                               size_t first, struct reason *why)
{
    const char *name =
        layout->names.names[label][0] ? layout->names.names[label] : layout->keys.names[label];
    if (!listed)
        return reason_set(why, STATUS_INVALID, layout->root,
                          "class %zu '%s' has no picture in the split %.*s: the data set is not "
                          "whole",
                          label + 1, name, (int)strcspn(layout->split, "|"), layout->split);
    for (size_t i = first; i < layout->count; i++)
        if (layout->pictures[i].label == label && is_there(layout, i))
            return STATUS_OK;
    return reason_set(why, STATUS_NOT_FOUND, layout->root,
                      "class %zu '%s': none of its %zu pictures is there; the first is %s",
                      label + 1, name, listed,
                      (const char *)layout->texts.data + layout->pictures[first].path);
}

static enum status check_classes(const struct dataset_layout *layout, struct reason *why)
{
    const size_t classes = layout->keys.count;
    size_t *listed = mem_alloc_array(classes + 1, sizeof(*listed));
    size_t *first = mem_alloc_array(classes + 1, sizeof(*first));
    for (size_t i = 0; i < layout->count; i++) {
        const uint32_t label = layout->pictures[i].label;
        if (listed[label]++ == 0)
            first[label] = i;
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; i < classes && !status; i++)
        status = check_class(layout, i, listed[i], first[i], why);
    mem_free(listed);
    mem_free(first);
    return status;
}

static enum status check_pictures(const struct dataset_layout *layout, struct reason *why)
{
    if (!layout->count)
        return reason_set(why, STATUS_INVALID, layout->root, "the split %.*s has no pictures",
                          (int)strcspn(layout->split, "|"), layout->split);
    return layout->kind->read_classes ? check_classes(layout, why) : STATUS_OK;
}

static enum status read_layout(struct dataset_layout *layout, const struct dataset_params *params,
                               struct reason *why)
{
    const struct dataset_layout_kind *kind = layout->kind;
    enum status status = STATUS_OK;
    if (params->split)
        status = find_split(kind, params->split, &layout->split, why);
    if (!status && kind->read_classes)
        status = kind->read_classes(layout, why);
    if (!status && kind->read_classes && !params->labelled)
        status = check_names(layout, why);
    if (status || kind->open_rows)
        return status ? status : kind->open_rows(layout, why);
    status = kind->read_pictures(layout, why);
    return status ? status : check_pictures(layout, why);
}

enum status dataset_layout_open(const struct dataset_layout_kind *kind, const char *root,
                                const struct dataset_params *params, struct dataset_layout **out,
                                struct reason *why)
{
    assert(kind && root && params && out);

    struct dataset_layout *layout = begin(kind, root);
    const enum status status = read_layout(layout, params, why);
    if (status)
        dataset_layout_close(&layout);
    else
        *out = layout;
    return status;
}

void dataset_layout_close(struct dataset_layout **layout)
{
    struct dataset_layout *closing = *layout;
    if (!closing)
        return;
    dataset_list_free(&closing->keys);
    dataset_list_free(&closing->names);
    buffer_deinit(&closing->texts);
    rowfile_close(&closing->rows);
    mem_free(closing->names_from);
    mem_free(closing->rows_path);
    mem_free(closing->pictures);
    mem_free(closing->root);
    mem_free(closing);
    *layout = NULL;
}

void dataset_layout_describe(const struct dataset_layout *layout, char *out, size_t bytes)
{
    (void)snprintf(out, bytes, "%s, split %.*s", layout->kind->name,
                   (int)strcspn(layout->split, "|"), layout->split);
}

size_t dataset_layout_count(const struct dataset_layout *layout)
{
    return layout->count;
}

// --- items

// Without extension, as of a folder.
static struct text key_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(slash ? slash : path, '.');
    return dot && dot != path ? (struct text){path, (size_t)(dot - path)} : text_of(path);
}

static enum status read_picture(const struct dataset_layout *layout, const char *path,
                                struct arena *arena, struct dataset_item *out, struct reason *why)
{
    const struct dataset_layout_picture *picture = &layout->pictures[layout->at];
    const char *texts = (const char *)layout->texts.data;
    struct api_ingest_record *record = &out->record;
    const char *caption = picture->caption != DATASET_LAYOUT_NONE ? texts + picture->caption
                          : layout->names.count ? layout->names.names[picture->label]
                                                : "";
    enum status status = dataset_copy(arena, key_of(texts + picture->path), &record->key, why);
    if (!status)
        status = dataset_copy(arena, text_of(path), &record->source, why);
    if (!status)
        status = dataset_copy(arena, text_of(caption), &record->caption, why);
    if (!status && layout->kind->read_classes) {
        char digits[16];
        (void)snprintf(digits, sizeof(digits), "%u", picture->label);
        status = dataset_copy(arena, text_of(digits), &out->label, why);
    }
    if (!status)
        status = dataset_check(record, !layout->kind->read_classes, why);
    return status ? status : dataset_read_picture(path, arena, record, why);
}

enum dataset_step dataset_layout_next(struct dataset_layout *layout, struct arena *arena,
                                      struct dataset_item *out, struct reason *why)
{
    if (layout->kind->next)
        return layout->kind->next(layout, arena, out, why);
    if (layout->at == layout->count)
        return DATASET_END;
    char path[DATASET_PATH_BYTES] = "";
    const char *relative = (const char *)layout->texts.data + layout->pictures[layout->at].path;
    dataset_begin_item(out, NULL);
    enum status status = dataset_layout_path(layout, relative, path, why);
    const char *name = dataset_format(arena, "%s", path);
    out->name = name ? name : layout->root;
    if (!status)
        status = read_picture(layout, path, arena, out, why);
    layout->at++;
    return status ? DATASET_BAD : DATASET_ITEM;
}
