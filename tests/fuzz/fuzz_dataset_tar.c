// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes of a webdataset make its reader crash, run on for ever, or hand out a record
// beyond the limits.
//
// Method: the input is a whole tar, in a file that has no name. Samples bring captions and JSON
// along, so the reader of those is reached too. It is read twice: for a memory, and with its
// labels.

#define _GNU_SOURCE // memfd_create
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/limits.h"
#include "tools/dataset_internal.h"

#define STEPS_MAX 100000 // a tar of 4 MiB has at most 8,192 members

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static void check_record(const struct api_ingest_record *record)
{
    check(record->key.bytes > 0 && record->key.bytes <= KEY_BYTES_MAX);
    check(record->caption.bytes <= CAPTION_BYTES_MAX);
    check(record->source.bytes <= SOURCE_BYTES_MAX);
    check(record->image.data && record->image.count <= IMAGE_BYTES_MAX);
    check(record->tag_count <= TAGS_MAX);
    check(bytes_is_utf8(record->key.data, record->key.bytes));
    check(bytes_is_utf8(record->caption.data, record->caption.bytes));
}

static void read_all(struct dataset_tar *tar)
{
    for (int i = 0; i < STEPS_MAX; i++) {
        struct arena *arena = arena_create((size_t)40 << 20);
        struct dataset_item item = {.entity_name = "url"};
        struct reason why = {.text = ""};
        enum dataset_step step = dataset_tar_next(tar, arena, &item, &why);
        if (step == DATASET_ITEM) {
            check_record(&item.record);
            check(item.record.caption.bytes > 0 || item.label.bytes > 0);
            check(bytes_is_utf8(item.label.data, item.label.bytes));
        }
        if (step == DATASET_BAD)
            check(item.name && why.text[0]);
        arena_destroy(&arena);
        if (step == DATASET_END)
            return;
    }
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    struct dataset_tar *tar = NULL;
    struct reason why = {.text = ""};
    int file = memfd_create("tar", MFD_CLOEXEC);
    check(file >= 0 && write(file, data, size) == (ssize_t)size);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    for (int labelled = 0; labelled < 2; labelled++) {
        if (dataset_tar_open(path, labelled, &tar, &why) == STATUS_OK)
            read_all(tar);
        dataset_tar_close(&tar);
    }
    (void)close(file);
    return 0;
}
