// SPDX-License-Identifier: Apache-2.0
// Embeddings that exist already: two mapped arrays, row i of one belonging to row i of
// the other, and a line of JSON for each row. Rows go as they are: whoever stores them
// makes them unit vectors, so that what another program wrote in half precision is as good as
// our own. What has no direction is found here, where it has a name.

#include <inttypes.h>
#include <stdio.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/dataset_internal.h"
#include "tools/npyfile.h"
#include "tools/rowfile.h"

struct dataset_arrays {
    char *images_path;
    char *metadata_path; // NULL: none
    struct npyfile *images;
    struct npyfile *texts;
    struct rowfile *metadata;
    uint64_t first_row;
    uint64_t at;
    uint64_t rows;
    uint32_t dimension;
};

static enum status open_array(const char *path, struct npyfile **out, struct reason *why)
{
    struct reason inner = {.text = ""};
    enum status status = npyfile_open(path, out, &inner);
    return status ? reason_set(why, status, path, "%s", inner.text) : STATUS_OK;
}

static enum status open_files(struct dataset_arrays *arrays, const char *images, const char *texts,
                              const char *metadata, struct reason *why)
{
    enum status status = open_array(images, &arrays->images, why);
    if (!status)
        status = open_array(texts, &arrays->texts, why);
    if (status)
        return status;

    const struct npyfile_info *a = npyfile_info(arrays->images);
    const struct npyfile_info *b = npyfile_info(arrays->texts);
    if (a->rows != b->rows || a->columns != b->columns)
        return reason_set(why, STATUS_INVALID, texts,
                          "%llu rows of %llu numbers, but %s has %llu of %llu",
                          (unsigned long long)b->rows, (unsigned long long)b->columns, images,
                          (unsigned long long)a->rows, (unsigned long long)a->columns);
    if (a->columns > DIMENSION_MAX)
        return reason_set(why, STATUS_INVALID, images,
                          "rows of %llu numbers: at most %d are allowed",
                          (unsigned long long)a->columns, DIMENSION_MAX);
    arrays->rows = a->rows;
    arrays->dimension = (uint32_t)a->columns;

    if (!metadata)
        return STATUS_OK;
    status = rowfile_open(metadata, ROWFILE_JSONL, &arrays->metadata, why);
    if (!status)
        rowfile_keep_empty(arrays->metadata);
    return status;
}

enum status dataset_arrays_open(const char *images, const char *texts, const char *metadata,
                                uint64_t first_row, struct dataset_arrays **out, struct reason *why)
{
    struct dataset_arrays *arrays = mem_alloc(sizeof(*arrays));
    arrays->images_path = mem_copy_text(images);
    arrays->metadata_path = metadata ? mem_copy_text(metadata) : NULL;
    arrays->first_row = first_row;
    enum status status = open_files(arrays, images, texts, metadata, why);
    if (status)
        dataset_arrays_close(&arrays);
    else
        *out = arrays;
    return status;
}

void dataset_arrays_close(struct dataset_arrays **arrays)
{
    struct dataset_arrays *closing = *arrays;
    if (!closing)
        return;
    rowfile_close(&closing->metadata);
    npyfile_close(&closing->images);
    npyfile_close(&closing->texts);
    mem_free(closing->images_path);
    mem_free(closing->metadata_path);
    mem_free(closing);
    *arrays = NULL;
}

uint64_t dataset_arrays_rows(const struct dataset_arrays *arrays)
{
    return arrays->rows;
}

uint32_t dataset_arrays_dimension(const struct dataset_arrays *arrays)
{
    return arrays->dimension;
}

// One row in the arena.
static enum status take_row(const struct npyfile *file, uint64_t row, const char *what,
                            struct arena *arena, const float **out, struct reason *why)
{
    size_t columns = (size_t)npyfile_info(file)->columns;
    float *values = arena_alloc_array(arena, columns, sizeof(*values));
    if (!values)
        return reason_set(why, STATUS_NO_MEMORY, what, "%s", status_text(STATUS_NO_MEMORY));
    npyfile_read_row(file, row, values);
    if (!dataset_has_direction(values, columns))
        return reason_set(why, STATUS_INVALID, what,
                          "has an element that is not finite, or is all zeros");
    *out = values;
    return STATUS_OK;
}

static enum status take_line(struct dataset_arrays *arrays, struct arena *arena,
                             struct dataset_item *item, struct reason *why)
{
    if (!arrays->metadata)
        return STATUS_OK;
    struct rowfile_row line;
    switch (rowfile_next(arrays->metadata, &line, why)) {
    case ROWFILE_ROW:
        return dataset_take_json(dataset_bytes_of(line.fields[0]), arena, item, why);
    case ROWFILE_BAD:
        return STATUS_INVALID;
    case ROWFILE_END:
    default:
        return reason_set(why, STATUS_INVALID, arrays->metadata_path, "ends after %llu lines",
                          (unsigned long long)arrays->at);
    }
}

static enum status read_row(struct dataset_arrays *arrays, struct arena *arena,
                            struct dataset_item *item, struct reason *why)
{
    struct api_ingest_record *record = &item->record;
    const char *key = dataset_format(arena, "%" PRIu64, arrays->first_row + arrays->at);
    if (!key)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "%s", status_text(STATUS_NO_MEMORY));
    record->key = text_of(key);

    // The line first: it must be taken even when a row is bad.
    enum status status = take_line(arrays, arena, item, why);
    if (!status)
        status = dataset_check(record, false, why);
    if (!status)
        status = take_row(arrays->images, arrays->at, "image embedding", arena,
                          &record->image_embedding, why);
    if (!status)
        status = take_row(arrays->texts, arrays->at, "text embedding", arena,
                          &record->text_embedding, why);
    record->image_count = arrays->dimension;
    record->text_count = arrays->dimension;
    return status;
}

// Whether anything but white space is left of the metadata.
static bool more_lines(struct dataset_arrays *arrays)
{
    if (!arrays->metadata)
        return false;
    struct rowfile_row line;
    struct reason ignored;
    enum rowfile_step step = rowfile_next(arrays->metadata, &line, &ignored);
    while (step == ROWFILE_ROW && dataset_trimmed(line.fields[0]).bytes == 0)
        step = rowfile_next(arrays->metadata, &line, &ignored);
    return step != ROWFILE_END;
}

enum dataset_step dataset_arrays_next(struct dataset_arrays *arrays, struct arena *arena,
                                      struct dataset_item *out, struct reason *why)
{
    dataset_begin_item(out, arrays->images_path);
    if (arrays->at == arrays->rows) {
        bool more = more_lines(arrays);
        arrays->at++;
        if (!more)
            return DATASET_END;
        (void)reason_set(why, STATUS_INVALID, NULL, "%s has more lines than there are rows (%llu)",
                         arrays->metadata_path, (unsigned long long)arrays->rows);
        return DATASET_BAD;
    }
    if (arrays->at > arrays->rows)
        return DATASET_END;

    const char *name =
        dataset_format(arena, "%s row %llu", arrays->images_path, (unsigned long long)arrays->at);
    out->name = name ? name : arrays->images_path;
    enum status status = read_row(arrays, arena, out, why);
    arrays->at++;
    return status ? DATASET_BAD : DATASET_ITEM;
}
