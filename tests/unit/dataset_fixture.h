// SPDX-License-Identifier: Apache-2.0
// dataset_fixture.h - a temporary folder, sources written into it, and what a dataset makes of
// them.
//
// Thread-safety: none; one test program includes it once.

#ifndef RECO_TESTS_UNIT_DATASET_FIXTURE_H
#define RECO_TESTS_UNIT_DATASET_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/arena.h"
#include "proto/base/limits.h"
#include "tools/dataset.h"
#include "tools/npyfile.h"

static char top[64];

static inline void make_top(void)
{
    snprintf(top, sizeof(top), "/tmp/reco-dataset-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(top), NULL));
}

static inline void remove_top(void)
{
    char command[96];
    snprintf(command, sizeof(command), "rm -rf %s", top);
    cr_assert(eq(int, system(command), 0));
}

// --- writing sources

static inline const char *in_top(const char *name)
{
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, 256, "%s/%s", top, name);
    return path;
}

static inline void put_bytes(const char *name, const void *data, size_t bytes)
{
    char path[256];
    snprintf(path, sizeof(path), "%s", in_top(name));
    for (char *slash = strchr(path + strlen(top) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        (void)mkdir(path, 0777);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    cr_assert(ne(ptr, file, NULL), "%s", path);
    fwrite(data, 1, bytes, file);
    fclose(file);
}

static inline void put(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text));
}

// A tar being written: members of POSIX' ustar format.
struct tar {
    uint8_t data[65536];
    size_t count;
};

static inline void add_member(struct tar *tar, const char *name, char type, const void *data,
                              size_t bytes, size_t claimed)
{
    uint8_t *header = tar->data + tar->count;
    cr_assert(tar->count + 1024 + bytes < sizeof(tar->data));
    memset(header, 0, 512);
    snprintf((char *)header, 100, "%s", name);
    memcpy(header + 100, "0000644\0000000000\0000000000\000", 24);
    char octal[24];
    snprintf(octal, sizeof(octal), "%011zo", claimed);
    memcpy(header + 124, octal, 12);
    memcpy(header + 136, "00000000000\0        ", 20);
    header[156] = (uint8_t)type;
    memcpy(header + 257, "ustar\00000", 8);
    unsigned sum = 0;
    for (int i = 0; i < 512; i++)
        sum += header[i];
    snprintf((char *)header + 148, 8, "%06o", sum);
    header[155] = ' ';
    tar->count += 512;
    memcpy(tar->data + tar->count, data, bytes);
    memset(tar->data + tar->count + bytes, 0, (512 - bytes % 512) % 512);
    tar->count += (bytes + 511) / 512 * 512;
}

static inline void add_text(struct tar *tar, const char *name, const char *text)
{
    add_member(tar, name, '0', text, strlen(text), strlen(text));
}

static inline void put_tar(const char *name, struct tar *tar)
{
    memset(tar->data + tar->count, 0, 1024);
    put_bytes(name, tar->data, tar->count + 1024);
}

static inline void put_array(const char *name, const float *values, size_t rows, size_t columns)
{
    const size_t shape[2] = {rows, columns};
    struct reason why = {.text = ""};
    put(name, "");
    cr_assert(eq(int, npyfile_save(in_top(name), values, shape, 2, &why), STATUS_OK));
}

// --- reading them

// What came of each step, in order: "key|caption|source" or "!name: field: reason".
struct seen {
    char lines[32][800];
    size_t count;
    uint64_t total;
    uint32_t dimension;
};

static inline enum status read_sources(const char *const *sources, size_t count, struct seen *seen,
                                       struct reason *why)
{
    struct dataset *dataset = NULL;
    seen->count = 0;
    enum status status = dataset_open(sources, count, NULL, &dataset, why);
    if (status)
        return status;
    seen->total = dataset_total(dataset);
    seen->dimension = dataset_dimension(dataset);

    for (;;) {
        struct arena *arena = arena_create((size_t)100 << 20);
        struct dataset_item item;
        struct reason bad = {.text = ""};
        enum dataset_step step = dataset_next(dataset, arena, &item, &bad);
        if (step == DATASET_END) {
            arena_destroy(&arena);
            break;
        }
        cr_assert(seen->count < 32);
        char *line = seen->lines[seen->count++];
        const struct api_ingest_record *record = &item.record;
        if (step == DATASET_BAD)
            snprintf(line, sizeof(seen->lines[0]), "!%s: %s: %s", item.name, bad.field, bad.text);
        else
            snprintf(line, sizeof(seen->lines[0]), "%.*s|%.*s|%.*s", (int)record->key.bytes,
                     record->key.data, (int)record->caption.bytes, record->caption.data,
                     (int)record->source.bytes, record->source.data);
        arena_destroy(&arena);
    }
    dataset_close(&dataset);
    return STATUS_OK;
}

static struct seen seen;

static inline void read_one(const char *name)
{
    const char *sources[1] = {in_top(name)};
    struct reason why = {.text = ""};
    cr_assert(eq(int, read_sources(sources, 1, &seen, &why), STATUS_OK), "%s: %s", why.field,
              why.text);
}

static inline void expect_refused(const char *const *sources, size_t count, enum status status,
                                  const char *words)
{
    struct reason why = {.text = ""};
    cr_expect(eq(int, read_sources(sources, count, &seen, &why), status));
    cr_expect(strstr(why.text, words) != NULL, "'%s: %s' lacks '%s'", why.field, why.text, words);
}

// Line `index` must be `begin` followed by TOP/ and `end`; TOP is the only part that changes.
static inline void expect_line(size_t index, const char *begin, const char *end)
{
    char expected[800];
    cr_assert(index < seen.count, "only %zu lines", seen.count);
    if (end)
        snprintf(expected, sizeof(expected), "%s%s/%s", begin, top, end);
    else
        snprintf(expected, sizeof(expected), "%s", begin);
    cr_expect(eq(str, seen.lines[index], expected));
}

#endif
