// SPDX-License-Identifier: Apache-2.0
#include "tools/dataset_place.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/mem.h"
#include "tools/dataset_internal.h"

#define SHARDS_FILE "nshards.txt"
#define LABELS_FILE "classnames.txt"
#define TEMPLATES_FILE "zeroshot_classification_templates.txt"
#define SHARDS_MAX 100000
#define SHARDS_FILE_BYTES_MAX 64

static void add_source(struct dataset_place *place, const char *path)
{
    place->sources = mem_grow(place->sources, place->source_count + 1, sizeof(place->sources[0]));
    place->sources[place->source_count++] = mem_copy_text(path);
}

static void set_name(struct dataset_place *place, const char *path)
{
    size_t bytes = strlen(path);
    while (bytes > 1 && path[bytes - 1] == '/')
        bytes--;
    size_t first = bytes;
    while (first > 0 && path[first - 1] != '/')
        first--;
    (void)snprintf(place->name, sizeof(place->name), "%.*s", (int)(bytes - first), path + first);
}

static enum status read_shard_count(const char *path, uint64_t *count, struct reason *why)
{
    struct buffer data = {0};
    enum status status = dataset_read_file(path, SHARDS_FILE_BYTES_MAX, &data, why);
    if (!status) {
        char digits[SHARDS_FILE_BYTES_MAX + 1];
        const struct text text =
            dataset_trimmed((struct text){(const char *)data.data, data.count});
        (void)snprintf(digits, sizeof(digits), "%.*s", (int)text.bytes, text.data);
        status = args_read_count(SHARDS_FILE, digits, 1, SHARDS_MAX, count, why);
    }
    buffer_deinit(&data);
    return status;
}

static enum status add_shards(struct dataset_place *place, const char *split, struct reason *why)
{
    char path[DATASET_PATH_BYTES];
    uint64_t count = 0;
    if (!dataset_join(split, SHARDS_FILE, path))
        return reason_set(why, STATUS_INVALID, NULL, "the path %s is too long", split);
    if (!dataset_is_file(path))
        return reason_set(
            why, STATUS_NOT_FOUND, NULL,
            "%s: no such file; it says how many shards lie beside it: 0.tar, 1.tar ...", path);
    enum status status = read_shard_count(path, &count, why);
    for (uint64_t i = 0; i < count && !status; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "%llu.tar", (unsigned long long)i);
        if (!dataset_join(split, name, path))
            return reason_set(why, STATUS_INVALID, NULL, "the path %s is too long", split);
        if (!dataset_is_file(path))
            return reason_set(why, STATUS_NOT_FOUND, NULL,
                              "%s: no such shard; " SHARDS_FILE " says that there are %llu", path,
                              (unsigned long long)count);
        add_source(place, path);
    }
    return status;
}

static enum status find_layout(struct dataset_place *place, const char *path, const char *split,
                               bool *is_layout, struct reason *why)
{
    char folder[DATASET_PATH_BYTES];
    char shards[DATASET_PATH_BYTES];
    if (!dataset_join(path, split ? split : DATASET_PLACE_SPLIT, folder) ||
        !dataset_join(folder, SHARDS_FILE, shards) ||
        !dataset_join(path, LABELS_FILE, place->labels) ||
        !dataset_join(path, TEMPLATES_FILE, place->templates))
        return reason_set(why, STATUS_INVALID, NULL, "the path %s is too long", path);
    *is_layout = split || dataset_is_file(shards) ||
                 (dataset_is_folder(folder) && dataset_is_file(place->labels));
    if (!*is_layout)
        place->labels[0] = 0;
    if (!*is_layout || !dataset_is_file(place->templates))
        place->templates[0] = 0;
    return *is_layout ? add_shards(place, folder, why) : STATUS_OK;
}

// A part of the classes (Imagenette, a user's own) is told as such: its figures are not those of
// the whole.
static enum status set_native_name(struct dataset_place *place, bool is_usual, struct reason *why)
{
    const size_t whole = dataset_layout_whole(place->layout);
    size_t count = 0;
    char part[64] = "";
    const enum status status =
        whole ? dataset_layout_classes(place->layout, place->sources[0], NULL, &count, why)
              : STATUS_OK;
    if (status)
        return status;
    if (whole)
        (void)snprintf(place->labels, sizeof(place->labels), "%s", place->sources[0]);
    if (count != whole)
        (void)snprintf(part, sizeof(part), " (%zu of %zu classes)", count, whole);
    (void)snprintf(place->name, sizeof(place->name), "%s%s%s%s", dataset_layout_name(place->layout),
                   is_usual ? "" : "/", is_usual ? "" : place->split, part);
    return STATUS_OK;
}

// A data set as its makers publish it.
static enum status find_native(struct dataset_place *place, const struct args_list *items,
                               const char *split, struct reason *why)
{
    if (items->count > 1)
        return reason_set(why, STATUS_INVALID, NULL,
                          "'%s' after a folder with %s, which stands alone", items->items[1],
                          dataset_layout_name(place->layout));
    const char *usual = NULL;
    enum status status = dataset_layout_measured(place->layout, split, &place->split, why);
    if (!status)
        status = dataset_layout_measured(place->layout, NULL, &usual, why);
    if (status)
        return status;
    add_source(place, items->items[0]);
    status = set_native_name(place, strcmp(usual, place->split) == 0, why);
    if (status)
        return status;
    place->templates_text = dataset_layout_templates(place->layout);
    return STATUS_OK;
}

// Whether CLIP_benchmark's layout is there.
static bool has_shards(const char *path, const char *split)
{
    char folder[DATASET_PATH_BYTES];
    char shards[DATASET_PATH_BYTES];
    return dataset_join(path, split ? split : DATASET_PLACE_SPLIT, folder) &&
           dataset_join(folder, SHARDS_FILE, shards) && dataset_is_file(shards);
}

enum status dataset_place_find(const struct args_list *items, const char *split,
                               struct dataset_place *out, struct reason *why)
{
    assert(items && items->count >= 1 && out);

    *out = (struct dataset_place){.source_count = 0};
    set_name(out, items->items[0]);
    bool is_layout = false;
    enum status status = STATUS_OK;
    if (!has_shards(items->items[0], split))
        out->layout = dataset_layout_find(items->items[0]);
    if (out->layout)
        return find_native(out, items, split, why);
    if (split || dataset_is_folder(items->items[0]))
        status = find_layout(out, items->items[0], split, &is_layout, why);
    if (!status && is_layout && items->count > 1)
        status = reason_set(why, STATUS_INVALID, NULL,
                            "'%s' after a folder in CLIP_benchmark's layout, which stands alone",
                            items->items[1]);
    for (size_t i = 0; i < items->count && !status && !is_layout; i++)
        add_source(out, items->items[i]);
    return status;
}

void dataset_place_deinit(struct dataset_place *place)
{
    for (size_t i = 0; i < place->source_count; i++)
        mem_free(place->sources[i]);
    mem_free(place->sources);
    *place = (struct dataset_place){.source_count = 0};
}

enum status dataset_place_classes(const struct dataset_place *place, struct buffer *lines,
                                  size_t *count, struct reason *why)
{
    assert(place && place->layout);
    return dataset_layout_classes(place->layout, place->sources[0], lines, count, why);
}

enum status dataset_place_lines(struct text caption, struct text *lines, size_t most, size_t *count,
                                struct reason *why)
{
    *count = 0;
    while (caption.bytes) {
        const char *newline = memchr(caption.data, '\n', caption.bytes);
        const size_t bytes = newline ? (size_t)(newline - caption.data) : caption.bytes;
        const struct text line = dataset_trimmed((struct text){caption.data, bytes});
        const size_t step = bytes + (newline != NULL);
        caption = (struct text){caption.data + step, caption.bytes - step};
        if (!line.bytes)
            continue;
        if (*count == most)
            return reason_set(why, STATUS_INVALID, "caption", "at most %zu lines are allowed",
                              most);
        lines[(*count)++] = line;
    }
    return STATUS_OK;
}
