// SPDX-License-Identifier: Apache-2.0
// A table of pictures: each row names a file and says what it shows. Which column is which is told
// by its name, in a .csv and .tsv from the header, in a .jsonl from each object's members. Lines of
// a .jsonl may have the two embeddings in place of a picture: all of them, or none.
//
// A path may lead anywhere that the caller may read: the table is the caller's own, and what is
// no picture becomes an item left out. Only regular files are opened.

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/dataset_internal.h"
#include "tools/rowfile.h"

#define NO_COLUMN SIZE_MAX

static const struct {
    const char *word;
    const char *names[DATASET_NAMES_MAX + 1];
} roles[DATASET_ROLES] = {
    [DATASET_IMAGE] = {"image",
                       {"image", "path", "file", "image_path", "filepath", "file_name",
                        "filename"}},
    [DATASET_CAPTION] = {"caption", {"caption", "text", "title"}},
    [DATASET_KEY] = {"key", {"key", "id"}},
    [DATASET_SOURCE] = {"source", {"source", "url"}},
    [DATASET_TAGS] = {"tags", {"tags"}},
};

struct dataset_manifest {
    char *path;
    char *folder; // what paths are relative to; NULL: where the program runs
    enum rowfile_format format;
    struct rowfile *rows;
    size_t width;                 // columns of the header
    size_t column[DATASET_ROLES]; // NO_COLUMN: none
    size_t entity;                // NO_COLUMN: none
    const char *image[DATASET_NAMES_MAX + 1];
    struct dataset_names names; // of a .jsonl
    struct rowfile_row first;   // of a .jsonl, until it is taken
    enum rowfile_step first_step;
    bool has_first;
    struct reason first_why;
    uint32_t dimension; // 0: pictures
};

enum status dataset_params_column(struct dataset_params *params, const char *assignment,
                                  struct reason *why)
{
    const char *equals = strchr(assignment, '=');
    for (size_t i = 0; equals && equals[1] && i < DATASET_ROLES; i++) {
        size_t bytes = (size_t)(equals - assignment);
        if (strlen(roles[i].word) == bytes && memcmp(roles[i].word, assignment, bytes) == 0) {
            params->columns[i] = equals + 1;
            return STATUS_OK;
        }
    }
    return reason_set(why, STATUS_INVALID, "--column",
                      "'%s': ROLE=NAME is allowed, where ROLE is one of " DATASET_ROLE_WORDS,
                      assignment);
}

// csv, tsv or jsonl from the name's end; false for another.
static bool format_of(const char *name, enum rowfile_format *out)
{
    static const char *const ends[] = {
        [ROWFILE_CSV] = ".csv", [ROWFILE_TSV] = ".tsv", [ROWFILE_JSONL] = ".jsonl"};
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        if (dataset_ends_with(name, ends[i])) {
            *out = (enum rowfile_format)i;
            return true;
        }
    }
    return false;
}

bool dataset_manifest_is_name(const char *name)
{
    enum rowfile_format ignored;
    return format_of(name, &ignored);
}

// --- the header

static bool is_named(struct text field, const char *name)
{
    field = dataset_trimmed(field);
    return strlen(name) == field.bytes && strncasecmp(name, field.data, field.bytes) == 0;
}

// The column of one of the names (ended by NULL), the first name first.
static enum status find_column(const struct rowfile_row *header, const char *const *names,
                               size_t *out, struct reason *why)
{
    *out = NO_COLUMN;
    for (; *names && *out == NO_COLUMN; names++) {
        for (size_t i = 0; i < header->count; i++) {
            if (!is_named(header->fields[i], *names))
                continue;
            if (*out != NO_COLUMN)
                return reason_set(why, STATUS_INVALID, NULL,
                                  "columns %zu and %zu are both named '%s'", *out + 1, i + 1,
                                  *names);
            *out = i;
        }
    }
    return STATUS_OK;
}

// "a, b, c" of at most 200 bytes.
static void list_columns(const struct rowfile_row *header, char out[256])
{
    size_t used = 0;
    out[0] = 0;
    for (size_t i = 0; i < header->count && used < 200; i++) {
        struct text field = dataset_trimmed(header->fields[i]);
        int more = snprintf(out + used, 256 - used, "%s%.*s", i ? ", " : "",
                            (int)(field.bytes < 40 ? field.bytes : 40), field.data);
        used += more > 0 ? (size_t)more : 0;
    }
}

static enum status missing_column(const struct dataset_params *params, size_t role,
                                  const struct rowfile_row *header, struct reason *why)
{
    char columns[256];
    list_columns(header, columns);
    if (params->columns[role])
        return reason_set(why, STATUS_INVALID, "--column", "no column is named '%s': there are %s",
                          params->columns[role], columns);
    return reason_set(why, STATUS_INVALID, NULL,
                      "the first row names no column of the %s (usual names: %s, %s, %s; or "
                      "--column %s=NAME): it has %s",
                      role == DATASET_IMAGE ? "picture's path" : "caption", roles[role].names[0],
                      roles[role].names[1], roles[role].names[2], roles[role].word, columns);
}

static enum status read_header(struct dataset_manifest *manifest,
                               const struct dataset_params *params, struct reason *why)
{
    struct rowfile_row header;
    enum rowfile_step step = rowfile_next(manifest->rows, &header, why);
    if (step == ROWFILE_END)
        return reason_set(why, STATUS_INVALID, NULL, "is empty: a row of column names is needed");
    if (step == ROWFILE_BAD)
        return STATUS_INVALID;
    manifest->width = header.count;
    for (size_t i = 0; i < DATASET_ROLES; i++) {
        const char *own[2] = {params->columns[i], NULL};
        enum status status =
            find_column(&header, own[0] ? own : roles[i].names, &manifest->column[i], why);
        if (status)
            return status;
        bool needed = own[0] || i == DATASET_IMAGE || i == DATASET_CAPTION;
        if (needed && manifest->column[i] == NO_COLUMN)
            return missing_column(params, i, &header, why);
    }
    const char *entity[2] = {params->entity, NULL};
    const enum status status = find_column(&header, entity, &manifest->entity, why);
    if (!status && params->entity && manifest->entity == NO_COLUMN) {
        char columns[256];
        list_columns(&header, columns);
        return reason_set(why, STATUS_INVALID, "--entity-field",
                          "no column is named '%s': there are %s", params->entity, columns);
    }
    return status;
}

// --- life

static void set_names(struct dataset_manifest *manifest, const struct dataset_params *params)
{
    const char **targets[DATASET_ROLES] = {
        manifest->image,        manifest->names.caption, manifest->names.key,
        manifest->names.source, manifest->names.tags,
    };
    for (size_t i = 0; i < DATASET_ROLES; i++) {
        if (params->columns[i])
            targets[i][0] = params->columns[i];
        for (size_t j = 0; !params->columns[i] && roles[i].names[j]; j++)
            targets[i][j] = roles[i].names[j];
    }
}

// What the first line has decides for all.
static enum status look_at_first(struct dataset_manifest *manifest, struct reason *why)
{
    struct json *document = NULL;
    struct reason ignored;
    manifest->first_step = rowfile_next(manifest->rows, &manifest->first, &manifest->first_why);
    manifest->has_first = true;
    if (manifest->first_step != ROWFILE_ROW ||
        json_parse(manifest->first.fields[0].data, manifest->first.fields[0].bytes, &document,
                   &ignored))
        return STATUS_OK; // told when its turn comes
    const struct json *array =
        json_is_object(document) ? json_member(document, "image_embedding") : NULL;
    const size_t count = json_is_array(array) ? json_count(array) : 0;
    const bool is_fine = !array || (count > 0 && count <= DIMENSION_MAX);
    manifest->dimension = is_fine ? (uint32_t)count : 0;
    json_destroy(&document);
    return is_fine ? STATUS_OK
                   : reason_set(why, STATUS_INVALID, NULL,
                                "image_embedding of the first line has %zu numbers: an array of 1 "
                                "to %d is allowed",
                                count, DIMENSION_MAX);
}

static enum status open_manifest(const char *path, const struct dataset_params *params,
                                 struct dataset_manifest *manifest, struct reason *why)
{
    const char *slash = strrchr(path, '/');
    if (!format_of(path, &manifest->format)) {
        if (params->format < 0)
            return reason_set(why, STATUS_INVALID, path,
                              "a manifest of no known format: .csv, .tsv and .jsonl are known");
        manifest->format = (enum rowfile_format)params->format;
    }
    if (slash) {
        manifest->folder = mem_copy_text(path);
        manifest->folder[slash - path + (slash == path)] = 0;
    }
    set_names(manifest, params);
    enum status status = rowfile_open(path, manifest->format, &manifest->rows, why);
    if (status)
        return status;
    struct reason inner = {.text = ""};
    status = manifest->format == ROWFILE_JSONL ? look_at_first(manifest, &inner)
                                               : read_header(manifest, params, &inner);
    return status ? reason_set(why, status, inner.field[0] ? inner.field : path, "%s", inner.text)
                  : STATUS_OK;
}

enum status dataset_manifest_open(const char *path, const struct dataset_params *params,
                                  struct dataset_manifest **out, struct reason *why)
{
    struct dataset_manifest *manifest = mem_alloc(sizeof(*manifest));
    manifest->path = mem_copy_text(strcmp(path, "-") == 0 ? "stdin" : path);
    enum status status = open_manifest(path, params, manifest, why);
    if (status)
        dataset_manifest_close(&manifest);
    else
        *out = manifest;
    return status;
}

void dataset_manifest_close(struct dataset_manifest **manifest)
{
    if (!*manifest)
        return;
    rowfile_close(&(*manifest)->rows);
    mem_free((*manifest)->path);
    mem_free((*manifest)->folder);
    mem_free(*manifest);
    *manifest = NULL;
}

uint32_t dataset_manifest_dimension(const struct dataset_manifest *manifest)
{
    return manifest->dimension;
}

// --- one row

// "a;b; c" to a list.
static enum status take_tags(struct text tags, struct arena *arena,
                             struct api_ingest_record *record, struct reason *why)
{
    struct text *list = arena_alloc_array(arena, TAGS_MAX, sizeof(*list));
    if (!list)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "%s", status_text(STATUS_NO_MEMORY));
    size_t count = 0;
    while (tags.bytes) {
        const char *stop = memchr(tags.data, ';', tags.bytes);
        size_t bytes = stop ? (size_t)(stop - tags.data) : tags.bytes;
        struct text tag = dataset_trimmed((struct text){tags.data, bytes});
        tags.data += bytes + (stop != NULL);
        tags.bytes -= bytes + (stop != NULL);
        if (!tag.bytes)
            continue;
        if (count == TAGS_MAX)
            return reason_set(why, STATUS_INVALID, "tags", "more than the %d that are allowed",
                              TAGS_MAX);
        list[count++] = tag;
    }
    record->tags = list;
    record->tag_count = count;
    return STATUS_OK;
}

static enum status take_fields(const struct dataset_manifest *manifest,
                               const struct rowfile_row *row, struct arena *arena,
                               struct text *image, struct dataset_item *item, struct reason *why)
{
    struct api_ingest_record *record = &item->record;
    if (row->count != manifest->width)
        return reason_set(why, STATUS_INVALID, NULL, "%zu columns, but the first row names %zu",
                          row->count, manifest->width);
    struct text fields[DATASET_ROLES] = {{NULL, 0}};
    for (size_t i = 0; i < DATASET_ROLES; i++) {
        if (manifest->column[i] == NO_COLUMN)
            continue;
        struct text field = dataset_trimmed(row->fields[manifest->column[i]]);
        enum status status = dataset_copy(arena, field, &fields[i], why);
        if (status)
            return status;
    }
    *image = fields[DATASET_IMAGE];
    record->caption = fields[DATASET_CAPTION];
    record->key = fields[DATASET_KEY];
    record->source = fields[DATASET_SOURCE];
    enum status status = STATUS_OK;
    if (manifest->entity != NO_COLUMN)
        status =
            dataset_copy(arena, dataset_trimmed(row->fields[manifest->entity]), &item->entity, why);
    return status ? status : take_tags(fields[DATASET_TAGS], arena, record, why);
}

static enum status take_object(const struct dataset_manifest *manifest,
                               const struct rowfile_row *row, struct arena *arena,
                               struct text *image, struct dataset_item *item, struct reason *why)
{
    struct api_ingest_record *record = &item->record;
    struct json *document = NULL;
    struct reason inner = {.text = ""};
    enum status status = json_parse(row->fields[0].data, row->fields[0].bytes, &document, &inner);
    if (status)
        return reason_set(why, status, NULL, "broken JSON: %s", inner.text);
    status = dataset_take_object(document, &manifest->names, arena, record, why);
    if (!status)
        status = dataset_take_entity(document, arena, item, why);
    if (!status && manifest->dimension)
        status = dataset_take_embeddings(document, manifest->dimension, arena, record, why);
    else if (!status && json_member(document, "image_embedding"))
        status = reason_set(why, STATUS_INVALID, "image_embedding",
                            "is given, but not in the first line: all lines or none is allowed");
    if (!status && !manifest->dimension)
        status = dataset_take_member(document, manifest->image, arena, image, why);
    json_destroy(&document);
    return status;
}

// The picture's path as it can be opened.
static enum status find_picture(const struct dataset_manifest *manifest, struct text image,
                                char out[DATASET_PATH_BYTES], struct reason *why)
{
    if (!image.bytes)
        return reason_set(why, STATUS_INVALID, "image", "no path is given");
    if (memchr(image.data, 0, image.bytes))
        return reason_set(why, STATUS_INVALID, "image", "a path with a zero byte");
    if (strstr(image.data, "://"))
        return reason_set(why, STATUS_UNSUPPORTED, "image",
                          "'%.100s' is a URL: a path is needed; img2dataset fetches pictures",
                          image.data);
    bool fits = image.bytes < DATASET_PATH_BYTES;
    if (fits && manifest->folder && image.data[0] != '/')
        fits = dataset_join(manifest->folder, image.data, out);
    else if (fits)
        memcpy(out, image.data, image.bytes + 1);
    return fits ? STATUS_OK
                : reason_set(why, STATUS_INVALID, "image",
                             "a path of %zu bytes: less than %d are "
                             "allowed",
                             image.bytes, DATASET_PATH_BYTES);
}

// The path without "./" before it and extension behind it.
static struct text key_of(struct text image)
{
    while (image.bytes > 2 && image.data[0] == '.' && image.data[1] == '/') {
        image.data += 2;
        image.bytes -= 2;
    }
    for (size_t i = image.bytes; i > 1 && image.data[i - 1] != '/'; i--)
        if (image.data[i - 1] == '.' && image.data[i - 2] != '/')
            return (struct text){image.data, i - 1};
    return image;
}

static enum status read_row(const struct dataset_manifest *manifest, const struct rowfile_row *row,
                            struct arena *arena, struct dataset_item *item, struct reason *why)
{
    struct api_ingest_record *record = &item->record;
    struct text image = {NULL, 0};
    char path[DATASET_PATH_BYTES];
    enum status status = manifest->format == ROWFILE_JSONL
                             ? take_object(manifest, row, arena, &image, item, why)
                             : take_fields(manifest, row, arena, &image, item, why);
    if (!status && manifest->dimension)
        return dataset_check(record, false, why);
    if (!status)
        status = find_picture(manifest, image, path, why);
    if (status)
        return status;
    if (!record->key.bytes)
        record->key = key_of(image);
    if (!record->source.bytes)
        status = dataset_copy(arena, text_of(path), &record->source, why);
    if (!status)
        status = dataset_check(record, true, why);
    if (status)
        return status;
    struct reason inner = {.text = ""};
    status = dataset_read_picture(path, arena, record, &inner);
    return status ? reason_set(why, status, "image", "'%.200s': %s", path, inner.text) : STATUS_OK;
}

enum dataset_step dataset_manifest_next(struct dataset_manifest *manifest, struct arena *arena,
                                        struct dataset_item *out, struct reason *why)
{
    struct rowfile_row row;
    enum rowfile_step step = manifest->first_step;
    if (manifest->has_first) {
        row = manifest->first;
        *why = manifest->first_why;
        manifest->has_first = false;
    } else {
        step = rowfile_next(manifest->rows, &row, why);
    }
    dataset_begin_item(out, NULL);
    if (step == ROWFILE_END)
        return DATASET_END;
    const char *name =
        dataset_format(arena, "%s line %llu", manifest->path, (unsigned long long)row.line);
    out->name = name ? name : manifest->path;
    if (step == ROWFILE_BAD || read_row(manifest, &row, arena, out, why))
        return DATASET_BAD;
    return DATASET_ITEM;
}
