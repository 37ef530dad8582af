// SPDX-License-Identifier: Apache-2.0
// Goal: no meta.json makes the coordinator crash; what it takes is a table in which every name leads
// somewhere, and which is written so that it is read again as it was.
//
// Method: the input as meta.json of a folder. What is refused is refused in words.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/meta.h"
#include "proto/base/mem.h"

#define NAMES_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];
static char path[80];

static void check(bool right)
{
    if (!right)
        abort();
}

static void remove_folder(void)
{
    char reserve[96];
    (void)snprintf(reserve, sizeof(reserve), "%s.reserve", path);
    (void)unlink(reserve);
    (void)unlink(path);
    (void)rmdir(folder);
}

static void make_folder(void)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/reco-fuzz-meta-XXXXXX");
    check(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/meta.json", folder);
    (void)atexit(remove_folder);
}

static void write_meta(const uint8_t *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    check(file && fwrite(data, 1, size, file) == size);
    check(fclose(file) == 0);
}

static void check_names(const struct meta *meta, const struct meta_generation *generation)
{
    struct text names[NAMES_MAX];
    size_t count = meta_names(meta, generation->number, names, NAMES_MAX);
    for (size_t i = 0; i < count && i < NAMES_MAX; i++) {
        struct meta_generation found;
        check(meta_find(meta, names[i], META_FOR_QUERY, &found, NULL) == STATUS_OK);
        check(found.number == generation->number);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!folder[0])
        make_folder();
    write_meta(data, size);
    struct meta *meta = NULL;
    struct reason why = {.text = ""};
    if (meta_open(folder, &meta, &why) != STATUS_OK) {
        check(why.text[0] != '\0' && !meta);
        return 0;
    }
    const struct meta_generation *all = NULL;
    size_t count = meta_list(meta, &all);
    check(count <= META_GENERATIONS_MAX);
    for (size_t i = 0; i < count; i++) {
        check(meta_at(meta, all[i].number) && all[i].dimension >= 1 && all[i].vshards >= 1);
        check_names(meta, &all[i]);
    }
    uint32_t number = 0;
    struct meta *again = NULL;
    if (meta_reserve(meta, &number, &why) == STATUS_OK) {
        const struct meta_generation *others = NULL;
        check(number >= 1 && !meta_at(meta, number));
        check(meta_open(folder, &again, &why) == STATUS_OK);
        check(meta_list(again, &others) == meta_list(meta, &all));
        for (size_t i = 0; i < count; i++)
            check(others[i].number == all[i].number && others[i].state == all[i].state);
        meta_close(&again);
    }
    meta_close(&meta);
    return 0;
}
