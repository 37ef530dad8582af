// SPDX-License-Identifier: Apache-2.0
// Goal: no meta.json makes the coordinator crash; what it takes is a table in which every name
// leads somewhere, which stays so under every change, and which is written so that it is read again
// as it was.
//
// Method: the input as meta.json of a folder. What is refused is refused in words. To what is taken
// some changes are made, which the input's hash chooses; some of them are refused, and after each
// one the file is read a second time.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/meta.h"
#include "proto/base/hash.h"
#include "tests/fuzz/scratch.h"

#define NAMES_MAX 8
#define CHANGES 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

// All that can be asked of one generation.
static void check_generation(const struct meta *meta, const struct meta_generation *generation)
{
    struct text names[NAMES_MAX];
    struct meta_generation found;
    struct reason why = {.text = ""};
    char pinned[MEMORY_NAME_BYTES_MAX + 16];
    check(generation->number >= 1 && generation->dimension >= 1 && generation->vshards >= 1);
    check(meta_at(meta, generation->number) == generation);
    size_t count = meta_names(meta, generation->number, names, NAMES_MAX);
    for (size_t i = 0; i < count; i++) {
        check(meta_find(meta, names[i], META_FOR_QUERY, &found, NULL) == STATUS_OK);
        check(found.number == generation->number);
    }
    (void)snprintf(pinned, sizeof(pinned), "%s@%u", generation->memory, generation->number);
    check(meta_find(meta, text_of(pinned), META_FOR_DESCRIBE, &found, NULL) == STATUS_OK);
    check(found.number == generation->number && found.state == generation->state);
    const bool serves = meta_find(meta, text_of(pinned), META_FOR_QUERY, &found, &why) == STATUS_OK;
    check(serves == (generation->state == META_SERVING) && (serves || why.text[0] != '\0'));
    const bool builds = meta_find_building(meta, text_of(generation->memory), &found) == STATUS_OK;
    check(builds || generation->state != META_BUILDING);
}

// Names that may mean something, or nothing, or are none.
static void ask_names(const struct meta *meta)
{
    static const char *const names[] = {"", "m", "nobody", "m@1", "m@9", "m@0", "m@", "-m", "m m"};
    static const enum meta_use uses[] = {META_FOR_QUERY, META_FOR_WRITE, META_FOR_DESCRIBE,
                                         META_FOR_RESTORE};
    static uint32_t numbers[META_GENERATIONS_MAX];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct reason why = {.text = ""};
        struct meta_generation found;
        size_t count = 0;
        for (size_t use = 0; use < sizeof(uses) / sizeof(uses[0]); use++)
            check(meta_find(meta, text_of(names[i]), uses[use], &found, &why) == STATUS_OK
                      ? meta_at(meta, found.number) != NULL
                      : why.text[0] != '\0');
        why.text[0] = '\0';
        check(meta_find_drop(meta, text_of(names[i]), numbers, &count, &why) == STATUS_OK
                  ? count > 0 && count <= META_GENERATIONS_MAX
                  : why.text[0] != '\0');
    }
}

// The table, and the same from its file.
static void check_all(const struct meta *meta)
{
    const struct meta_generation *all = NULL;
    const struct meta_generation *others = NULL;
    struct meta *again = NULL;
    struct reason why = {.text = ""};
    const size_t count = meta_list(meta, &all);
    check(count <= META_GENERATIONS_MAX);
    check(meta_open(scratch_folder(), &again, &why) == STATUS_OK);
    check(meta_list(again, &others) == count);
    for (size_t i = 0; i < count; i++) {
        struct text names[2][NAMES_MAX];
        check_generation(meta, &all[i]);
        check(others[i].number == all[i].number && others[i].state == all[i].state);
        check(strcmp(others[i].memory, all[i].memory) == 0);
        check(meta_names(meta, all[i].number, names[0], NAMES_MAX) ==
              meta_names(again, all[i].number, names[1], NAMES_MAX));
    }
    meta_close(&again);
}

static enum status add(struct meta *meta, const struct meta_generation *like, uint64_t choice,
                       struct reason *why)
{
    static const enum meta_state states[] = {META_BUILDING, META_SERVING, META_RESTORING};
    struct meta_generation fresh = {
        .state = states[choice % 3], .space = "t:4", .dimension = 4, .vshards = 8};
    (void)snprintf(fresh.memory, sizeof(fresh.memory), "%s", like ? like->memory : "fresh");
    if (meta_is_alias(meta, text_of(fresh.memory)))
        return STATUS_OK; // the handlers refuse it
    const enum status status = meta_reserve(meta, &fresh.number, why);
    if (status != STATUS_OK)
        return status;
    check(!meta_at(meta, fresh.number));
    return meta_add(meta, &fresh, why);
}

static enum status drop(struct meta *meta, const struct meta_generation *generation,
                        struct reason *why)
{
    static uint32_t numbers[META_GENERATIONS_MAX];
    size_t count = 0;
    const uint32_t number = generation->number;
    if (generation->state == META_DROPPING)
        return meta_remove(meta, number, why);
    char name[MEMORY_NAME_BYTES_MAX + 16];
    (void)snprintf(name, sizeof(name), "%s@%u", generation->memory, number);
    const enum status status = meta_find_drop(meta, text_of(name), numbers, &count, why);
    if (status != STATUS_OK)
        return status;
    check(count == 1 && numbers[0] == number);
    return meta_drop(meta, number, why);
}

// One change of a table with `count` generations.
static void change(struct meta *meta, uint64_t choice)
{
    const struct meta_generation *all = NULL;
    const size_t count = meta_list(meta, &all);
    struct meta_generation found;
    struct reason why = {.text = ""};
    enum status status = STATUS_OK;
    const uint64_t kind = choice % 8;
    if (count == 0 || kind == 0) {
        status = add(meta, NULL, choice >> 8, &why);
    } else {
        const struct meta_generation *chosen = &all[(choice >> 16) % count];
        struct text names[NAMES_MAX] = {{"p", 1}};
        char target[MEMORY_NAME_BYTES_MAX + 16];
        (void)snprintf(target, sizeof(target), kind == 1 ? "%s" : "%s@%u", chosen->memory,
                       chosen->number);
        if (kind == 1 || kind == 2)
            status = meta_point(meta, text_of("p"), text_of(target), &found, &why);
        else if (kind == 3)
            status = meta_point(meta, text_of(chosen->memory), text_of(target), &found, &why);
        else if (kind == 4) {
            (void)meta_names(meta, chosen->number, names, NAMES_MAX);
            status = meta_unpoint(meta, names[0], &found, &why);
        } else if (kind == 5)
            status = add(meta, chosen, choice >> 8, &why);
        else if (kind == 6)
            status = meta_serve(meta, chosen->number, &why);
        else
            status = drop(meta, chosen, &why);
    }
    check(status == STATUS_OK || why.text[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct meta *meta = NULL;
    struct reason why = {.text = ""};
    scratch_write("meta.json", data, size);
    if (meta_open(scratch_folder(), &meta, &why) != STATUS_OK) {
        check(why.text[0] != '\0' && !meta);
        return 0;
    }
    check_all(meta);
    ask_names(meta);
    uint64_t choice = hash_id(data, size);
    for (int i = 0; i < CHANGES; i++) {
        change(meta, choice >> 8);
        check_all(meta);
        choice = choice * 6364136223846793005u + 1442695040888963407u;
    }
    meta_close(&meta);
    return 0;
}
