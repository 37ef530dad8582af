// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes of a .csv, .tsv or .jsonl make the reader of rows or of manifests crash, run on
// for ever, lose its place, or hand out a record beyond the limits.
//
// Method: the first byte picks the format, the others are the file, which has no name. Rows are
// read first, then the same file as a manifest. A manifest may name files: those of this machine
// are read.

#define _GNU_SOURCE // memfd_create
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/limits.h"
#include "tools/dataset_internal.h"
#include "tools/rowfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static void read_rows(const char *path, enum rowfile_format format, size_t size)
{
    struct rowfile *file = NULL;
    struct reason why = {.text = ""};
    check(rowfile_open(path, format, &file, &why) == STATUS_OK);
    uint64_t line = 0;
    for (size_t i = 0;; i++) {
        struct rowfile_row row;
        enum rowfile_step step = rowfile_next(file, &row, &why);
        if (step == ROWFILE_END)
            break;
        check(i <= size && row.line > line && row.line <= size + 1);
        line = row.line;
        check(step != ROWFILE_BAD || why.text[0]);
        size_t bytes = 0;
        for (size_t j = 0; step == ROWFILE_ROW && j < row.count; j++)
            bytes += row.fields[j].bytes;
        check(step == ROWFILE_BAD || (row.count > 0 && row.count <= ROWFILE_FIELDS_MAX));
        check(bytes <= size && bytes <= ROWFILE_ROW_BYTES_MAX);
    }
    rowfile_close(&file);
}

static void check_record(const struct api_ingest_record *record)
{
    check(record->key.bytes > 0 && record->key.bytes <= KEY_BYTES_MAX);
    check((record->caption.bytes > 0 || record->image_count) &&
          record->caption.bytes <= CAPTION_BYTES_MAX);
    check(record->source.bytes <= SOURCE_BYTES_MAX);
    check((record->image.data || record->image_count) && record->image.count <= IMAGE_BYTES_MAX);
    check(record->image_count <= DIMENSION_MAX && record->image_count == record->text_count);
    for (size_t i = 0; i < record->image_count; i++)
        check(isfinite(record->image_embedding[i]) && isfinite(record->text_embedding[i]));
    check(record->tag_count <= TAGS_MAX);
    for (size_t i = 0; i < record->tag_count; i++)
        check(record->tags[i].bytes <= TAG_BYTES_MAX);
}

static void read_manifest(const char *path, int format, size_t size)
{
    struct dataset_params params = {.format = format};
    struct dataset_manifest *manifest = NULL;
    struct reason why = {.text = ""};
    if (dataset_manifest_open(path, &params, &manifest, &why)) {
        check(why.text[0]);
        return;
    }
    for (size_t i = 0;; i++) {
        struct arena *arena = arena_create((size_t)40 << 20);
        struct dataset_item item = {.entity_name = "url"};
        enum dataset_step step = dataset_manifest_next(manifest, arena, &item, &why);
        if (step == DATASET_ITEM)
            check_record(&item.record);
        check(step != DATASET_BAD || (item.name && why.text[0]));
        arena_destroy(&arena);
        if (step == DATASET_END)
            break;
        check(i <= size);
    }
    dataset_manifest_close(&manifest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char path[64];
    int file = memfd_create("rows", MFD_CLOEXEC);
    check(file >= 0 && write(file, data + 1, size - 1) == (ssize_t)(size - 1));
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    int format = data[0] % 3;
    read_rows(path, (enum rowfile_format)format, size - 1);
    read_manifest(path, format, size - 1);
    (void)close(file);
    return 0;
}
