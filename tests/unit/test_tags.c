// SPDX-License-Identifier: Apache-2.0
// Goal: a filter by tags keeps the slots that a plain look at every record's tags keeps, at any
// moment and with any tags.
//
// Method: random records with few tags of few letters, so that they repeat; every filter beside a
// loop over all records. Memory that runs out at every place.

#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/mem.h"
#include "proto/wire/shard_msg.h"
#include "shard_node/tags.h"

#define SLOTS 3000
#define WORDS ((SLOTS + 63) / 64)
#define NAMES 40

static uint32_t random_u32(void)
{
    static uint64_t state = 20261128;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static char names[NAMES][8];
static char joined[SLOTS][64];
static bool has[SLOTS][NAMES];

// Tags 0 to 9 are frequent, the others rare.
static struct text make_record(uint32_t slot)
{
    struct text text = {joined[slot], 0};
    memset(has[slot], 0, sizeof(has[slot]));
    uint32_t count = random_u32() % 4;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t tag = random_u32() % 8 == 0 ? 10 + random_u32() % (NAMES - 10) : random_u32() % 10;
        if (text.bytes > 0)
            joined[slot][text.bytes++] = SHARD_TAG_SEPARATOR;
        memcpy(joined[slot] + text.bytes, names[tag], strlen(names[tag]));
        text.bytes += strlen(names[tag]);
        has[slot][tag] = true;
    }
    return text;
}

static struct text name_of(uint32_t tag)
{
    return text_of(names[tag]);
}

static struct tags *fill(void)
{
    struct tags *tags = tags_create();
    for (uint32_t i = 0; i < NAMES; i++)
        (void)snprintf(names[i], sizeof(names[i]), "t%u", i);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        cr_assert(eq(int, tags_add(tags, slot, make_record(slot)), STATUS_OK));
    return tags;
}

static bool passes(uint32_t slot, const uint32_t *all, const uint32_t *any, const uint32_t *no,
                   const size_t counts[3])
{
    bool ok = true;
    for (size_t i = 0; i < counts[0]; i++)
        ok = ok && has[slot][all[i]];
    bool one = counts[1] == 0;
    for (size_t i = 0; i < counts[1]; i++)
        one = one || has[slot][any[i]];
    for (size_t i = 0; i < counts[2]; i++)
        ok = ok && !has[slot][no[i]];
    return ok && one;
}

Test(tags, keep_what_a_look_at_every_record_keeps)
{
    struct tags *tags = fill();
    for (int round = 0; round < 300; round++) {
        uint32_t chosen[3][3];
        struct text texts[3][3];
        size_t counts[3];
        for (int list = 0; list < 3; list++) {
            counts[list] = random_u32() % 3;
            for (size_t i = 0; i < counts[list]; i++) {
                chosen[list][i] = random_u32() % (round % 2 ? 10 : NAMES);
                texts[list][i] = name_of(chosen[list][i]);
            }
        }
        const struct tags_filter filter = {texts[0],  counts[0], texts[1],
                                           counts[1], texts[2],  counts[2]};
        uint32_t slot_count = round % 3 ? SLOTS : random_u32() % SLOTS; // an earlier view
        uint64_t live[WORDS];
        memset(live, 0xff, sizeof(live));
        live[0] = 0xf0f0; // the dead stay dead
        cr_assert(eq(int, tags_keep(tags, &filter, slot_count, live), STATUS_OK));
        for (uint32_t slot = 0; slot < slot_count; slot++) {
            bool was = slot >= 64 || (0xf0f0ull >> slot & 1) != 0;
            bool want = was && passes(slot, chosen[0], chosen[1], chosen[2], counts);
            cr_assert(eq(int, (live[slot / 64] >> (slot % 64) & 1) != 0, want), "round %d slot %u",
                      round, slot);
        }
    }
    tags_destroy(&tags);
    cr_expect(eq(ptr, tags, NULL));
}

Test(tags, that_nobody_has_let_nobody_pass)
{
    struct tags *tags = tags_create();
    const struct text nobody[] = {{"nobody", 6}};
    uint64_t live[1] = {~0ull};
    struct tags_filter filter = {.no = nobody, .no_count = 1};
    cr_assert(eq(int, tags_keep(tags, &filter, 64, live), STATUS_OK));
    cr_expect(eq(u64, live[0], ~0ull));
    filter = (struct tags_filter){.any = nobody, .any_count = 1};
    cr_assert(eq(int, tags_keep(tags, &filter, 64, live), STATUS_OK));
    cr_expect(eq(u64, live[0], 0));
    tags_destroy(&tags);
}

Test(tags, of_records_that_could_not_be_read_pass_no_filter)
{
    struct tags *tags = fill();
    uint64_t *unknown = mem_try_alloc_array(WORDS, sizeof(*unknown));
    memset(unknown, 0, WORDS * sizeof(*unknown));
    unknown[1] = 3; // slots 64 and 65
    tags_set_unknown(tags, unknown, WORDS);
    const struct text nobody[] = {{"nobody", 6}};
    uint64_t live[WORDS];
    memset(live, 0xff, sizeof(live));
    struct tags_filter filter = {.no = nobody, .no_count = 1};
    cr_assert(eq(int, tags_keep(tags, &filter, SLOTS, live), STATUS_OK));
    cr_expect(eq(u64, live[1], ~3ull));
    live[1] = ~0ull;
    filter = (struct tags_filter){0}; // no filter by tags: they are found
    cr_assert(eq(int, tags_keep(tags, &filter, SLOTS, live), STATUS_OK));
    cr_expect(eq(u64, live[1], ~0ull));
    tags_destroy(&tags);
}

Test(tags, tell_when_memory_runs_out)
{
    char text[64];
    for (uint64_t n = 1;; n++) {
        struct tags *tags = tags_create();
        enum status status = STATUS_OK;
        mem_fail_after(n);
        for (uint32_t slot = 0; slot < 200 && status == STATUS_OK; slot++) {
            (void)snprintf(text, sizeof(text), "tag %u", slot / 3);
            status = tags_add(tags, slot, text_of(text));
        }
        mem_fail_after(0);
        cr_assert(status == STATUS_OK || status == STATUS_NO_MEMORY);
        tags_destroy(&tags);
        if (status == STATUS_OK)
            break;
    }
}
