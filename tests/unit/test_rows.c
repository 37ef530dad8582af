// SPDX-License-Identifier: Apache-2.0
// Goal: rows come back after a crash exactly as of the last checkpoint, or are refused; a search
// never sees half a record.
//
// Method: files in a fresh directory, closed without a checkpoint, damaged, cut and removed; ids
// against a model that is a plain array; a reader beside a writer.

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/half.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "shard_node/distance.h"
#include "shard_node/rows.h"

#define DIMENSION 20
#define STORE 77

static char directory[64];

static void make_directory(void)
{
    strcpy(directory, "test-rows-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(directory), NULL));
}

static void remove_directory(void)
{
    struct reason why;
    cr_expect(eq(int, rows_delete_files(directory, &why), STATUS_OK));
}

TestSuite(rows, .init = make_directory, .fini = remove_directory);

static struct rows_params params_of(void)
{
    return (struct rows_params){
        .directory = directory, .generation = 3, .dimension = DIMENSION, .store_identity = STORE};
}

static struct rows *create(void)
{
    struct rows *rows = NULL;
    struct reason why = {0};
    const struct rows_params params = params_of();
    cr_assert(eq(int, rows_create(&params, &rows, &why), STATUS_OK), "%s", why.text);
    return rows;
}

static enum status reopen(struct rows **rows, struct rows_opened *opened)
{
    struct reason why = {0};
    const struct rows_params params = params_of();
    rows_close(rows);
    return rows_open(&params, rows, opened, &why);
}

// A record's rows follow from its id and version.
struct record {
    uint16_t image[DIMENSION];
    uint16_t text[DIMENSION];
};

static struct record record_of(uint64_t id, uint32_t version)
{
    struct record record;
    for (size_t i = 0; i < DIMENSION; i++) {
        record.image[i] = half_from_float((float)((id * 31 + version * 7 + i) % 17) - 8.0f);
        record.text[i] = half_from_float((float)((id * 13 + version * 5 + i) % 19) - 9.0f);
    }
    return record;
}

static struct rows_item item_of(uint64_t id, const struct record *record)
{
    uint32_t crc = hash_crc32c(0, record->image, sizeof(record->image));
    crc = hash_crc32c(crc, record->text, sizeof(record->text));
    return (struct rows_item){.id = id, .image = record->image, .text = record->text, .crc = crc};
}

static void put(struct rows *rows, uint64_t id, uint32_t version)
{
    const struct record record = record_of(id, version);
    const struct rows_item item = item_of(id, &record);
    struct reason why = {0};
    cr_assert(eq(int, rows_append(rows, &item, 1, &why), STATUS_OK), "%s", why.text);
}

static void put_many(struct rows *rows, uint64_t first, size_t count)
{
    struct record *records = calloc(count, sizeof(*records));
    struct rows_item *items = calloc(count, sizeof(*items));
    for (size_t i = 0; i < count; i++) {
        records[i] = record_of(first + i, 0);
        items[i] = item_of(first + i, &records[i]);
    }
    struct reason why = {0};
    cr_assert(eq(int, rows_append(rows, items, count, &why), STATUS_OK), "%s", why.text);
    free(records);
    free(items);
}

static void expect_record(struct rows *rows, uint64_t id, uint32_t version)
{
    const uint32_t slot = rows_find(rows, id);
    cr_assert(ne(u32, slot, ROWS_NONE), "id %" PRIu64 " is missing", id);
    const struct record record = record_of(id, version);
    cr_assert(eq(int, memcmp(rows_row(rows, MODALITY_IMAGE, slot), record.image, DIMENSION * 2), 0),
              "id %" PRIu64, id);
    cr_assert(eq(int, memcmp(rows_row(rows, MODALITY_TEXT, slot), record.text, DIMENSION * 2), 0));
    cr_assert(eq(u64, rows_slot(rows, slot)->id, id));
    const float pair = distance_pair(CPU_SCALAR, record.image, record.text, DIMENSION);
    cr_assert(eq(flt, rows_slot(rows, slot)->pair_score, pair));
}

static void checkpoint(struct rows *rows, uint64_t sequence)
{
    struct reason why = {0};
    cr_assert(eq(int, rows_checkpoint(rows, sequence, &why), STATUS_OK), "%s", why.text);
}

// Changes one byte of a file.
static void damage(const char *name, off_t at)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    const int fd = open(path, O_RDWR);
    uint8_t byte = 0;
    cr_assert(eq(sz, pread(fd, &byte, 1, at), 1));
    byte ^= 0x40;
    cr_assert(eq(sz, pwrite(fd, &byte, 1, at), 1));
    close(fd);
}

static void cut(const char *name, off_t bytes)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    cr_assert(eq(int, truncate(path, bytes), 0));
}

Test(rows, are_found_replaced_and_removed_like_in_a_plain_array)
{
    struct rows *rows = create();
    uint32_t version[500] = {0}; // 0: absent
    uint64_t state = 7;
    uint64_t live = 0;
    for (uint32_t step = 1; step < 6000; step++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const uint64_t id = (state >> 33) % 500;
        if ((state >> 60) < 5) {
            cr_assert(eq(int, rows_remove(rows, id * 64), version[id] != 0));
            live -= version[id] != 0;
            version[id] = 0;
        } else {
            put(rows, id * 64, step);
            live += version[id] == 0;
            version[id] = step;
        }
        cr_assert(eq(u64, rows_live_count(rows), live));
    }
    for (uint64_t id = 0; id < 500; id++) {
        if (version[id] != 0)
            expect_record(rows, id * 64, version[id]);
        else
            cr_assert(eq(u32, rows_find(rows, id * 64), ROWS_NONE));
    }
    rows_close(&rows);
    cr_expect(eq(ptr, rows, NULL));
}

Test(rows, the_later_of_two_with_one_id_wins_within_one_call)
{
    struct rows *rows = create();
    const struct record first = record_of(5, 1);
    const struct record second = record_of(5, 2);
    const struct rows_item items[] = {item_of(5, &first), item_of(5, &second)};
    struct reason why;
    cr_assert(eq(int, rows_append(rows, items, 2, &why), STATUS_OK));
    expect_record(rows, 5, 2);
    cr_expect(eq(u64, rows_live_count(rows), 1));
    rows_close(&rows);
}

Test(rows, come_back_as_of_the_last_checkpoint)
{
    struct rows *rows = create();
    put_many(rows, 1000, 3000);
    put(rows, 1001, 9);
    cr_assert(rows_remove(rows, 1002));
    cr_expect(eq(u32, rows_covered(rows), 0));
    checkpoint(rows, 55);
    put(rows, 1003, 4); // behind the checkpoint: forgotten
    cr_expect(eq(u32, rows_covered(rows), 3001));
    put_many(rows, 9000, 10);
    cr_assert(rows_remove(rows, 1004));

    struct rows_opened opened = {0};
    cr_assert(eq(int, reopen(&rows, &opened), STATUS_OK));
    cr_expect(eq(u64, opened.sequence, 55));
    cr_expect(eq(sz, opened.damaged_count, 0));
    cr_expect(eq(u64, rows_live_count(rows), 2999));
    cr_expect(eq(u32, rows_covered(rows), 3001));
    expect_record(rows, 1000, 0);
    expect_record(rows, 1001, 9);
    cr_expect(eq(u32, rows_find(rows, 1002), ROWS_NONE));
    expect_record(rows, 1003, 0);
    expect_record(rows, 1004, 0);
    cr_expect(eq(u32, rows_find(rows, 9000), ROWS_NONE));

    put_many(rows, 9000, 10); // over what was forgotten
    checkpoint(rows, 56);
    cr_assert(eq(int, reopen(&rows, &opened), STATUS_OK));
    expect_record(rows, 9009, 0);
    rows_close(&rows);
}

Test(rows, without_a_checkpoint_there_are_none)
{
    struct rows *rows = create();
    put_many(rows, 1, 10);
    struct rows_opened opened;
    cr_expect(eq(int, reopen(&rows, &opened), STATUS_NOT_FOUND));
    cr_expect(eq(ptr, rows, NULL));
}

Test(rows, empty_ones_come_back_too)
{
    struct rows *rows = create();
    checkpoint(rows, 0);
    struct rows_opened opened = {0};
    cr_assert(eq(int, reopen(&rows, &opened), STATUS_OK));
    cr_expect(eq(u64, rows_live_count(rows), 0));
    put(rows, 1, 1);
    expect_record(rows, 1, 1);
    rows_close(&rows);
}

Test(rows, a_damaged_row_is_out_and_named)
{
    struct rows *rows = create();
    put_many(rows, 0, 100);
    checkpoint(rows, 1);
    rows_close(&rows);
    damage("image", 17 * DIMENSION * 2 + 3);
    damage("text", 42 * DIMENSION * 2);

    struct rows_opened opened = {0};
    cr_assert(eq(int, reopen(&rows, &opened), STATUS_OK));
    cr_assert(eq(sz, opened.damaged_count, 2));
    cr_expect(eq(u64, opened.damaged[0], 17));
    cr_expect(eq(u64, opened.damaged[1], 42));
    cr_expect(eq(u32, rows_find(rows, 17), ROWS_NONE));
    cr_expect(eq(u64, rows_live_count(rows), 98));
    put(rows, 17, 0);
    expect_record(rows, 17, 0);
    mem_free(opened.damaged);
    rows_close(&rows);
}

Test(rows, many_are_found_as_one_is)
{
    enum { COUNT = 3000 };
    static uint64_t ids[COUNT];
    static uint32_t slots[COUNT];
    struct rows *rows = create();
    for (uint64_t i = 0; i < COUNT; i++)
        ids[i] = i * 7 % COUNT;
    rows_find_many(rows, ids, COUNT, slots); // there is no map yet
    for (size_t i = 0; i < COUNT; i++)
        cr_assert(eq(u32, slots[i], ROWS_NONE));
    put_many(rows, 0, COUNT / 2);
    cr_assert(rows_remove(rows, 17));
    rows_find_many(rows, ids, COUNT, slots);
    for (size_t i = 0; i < COUNT; i++)
        cr_assert(eq(u32, slots[i], rows_find(rows, ids[i])));
    rows_close(&rows);
}

// Several threads check; the ends of what each takes, and the order in which it is told.
Test(rows, damaged_rows_are_found_wherever_they_are)
{
    static const uint64_t at[] = {0, 4095, 4096, 8191, 8192, 8999};
    enum { COUNT = sizeof(at) / sizeof(at[0]) };
    struct rows *rows = create();
    put_many(rows, 0, 9000);
    checkpoint(rows, 1);
    rows_close(&rows);
    for (size_t i = 0; i < COUNT; i++)
        damage(i % 2 ? "text" : "image", (off_t)at[i] * DIMENSION * 2);

    struct rows_opened opened = {0};
    cr_assert(eq(int, reopen(&rows, &opened), STATUS_OK));
    cr_assert(eq(sz, opened.damaged_count, COUNT));
    for (size_t i = 0; i < COUNT; i++)
        cr_expect(eq(u64, opened.damaged[i], at[i]));
    cr_expect(eq(u64, rows_live_count(rows), 9000 - COUNT));
    mem_free(opened.damaged);
    rows_close(&rows);
}

Test(rows, a_damaged_row_that_is_dead_does_no_harm)
{
    struct rows *rows = create();
    put_many(rows, 0, 10);
    put(rows, 3, 1);
    checkpoint(rows, 1);
    rows_close(&rows);
    damage("image", 3 * DIMENSION * 2);
    struct rows_opened opened = {0};
    cr_assert(eq(int, reopen(&rows, &opened), STATUS_OK));
    cr_expect(eq(sz, opened.damaged_count, 0));
    expect_record(rows, 3, 1);
    rows_close(&rows);
}

Test(rows, are_refused_when_slots_head_or_length_are_wrong)
{
    static const struct {
        const char *name;
        off_t at; // -1: cut by one byte; -2: remove
    } cases[] = {{"slots", 40}, {"head", 0},  {"head", 20},  {"head", 50}, {"head", -1},
                 {"image", -1}, {"text", -1}, {"slots", -1}, {"text", -2}, {"slots", -2}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rows *rows = create();
        put_many(rows, 0, 100);
        checkpoint(rows, 1);
        rows_close(&rows);
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/%s", directory, cases[i].name);
        struct stat about;
        cr_assert(eq(int, stat(path, &about), 0));
        if (cases[i].at >= 0)
            damage(cases[i].name, cases[i].at);
        else if (cases[i].at == -1)
            cut(cases[i].name, about.st_size - 1);
        else
            cr_assert(eq(int, unlink(path), 0));
        struct rows_opened opened;
        cr_expect(eq(int, reopen(&rows, &opened), STATUS_CORRUPT), "%s %ld", cases[i].name,
                  (long)cases[i].at);
    }
}

Test(rows, mostly_damaged_ones_are_refused_as_a_whole)
{
    struct rows *rows = create();
    put_many(rows, 0, 80);
    checkpoint(rows, 1);
    rows_close(&rows);
    for (off_t slot = 0; slot < 20; slot++)
        damage("text", slot * DIMENSION * 2);
    struct rows_opened opened;
    cr_expect(eq(int, reopen(&rows, &opened), STATUS_CORRUPT));
}

Test(rows, of_another_store_or_shape_are_refused)
{
    struct rows *rows = create();
    put_many(rows, 0, 10);
    checkpoint(rows, 1);
    rows_close(&rows);

    struct rows_params params[3] = {params_of(), params_of(), params_of()};
    params[0].store_identity++;
    params[1].dimension++;
    params[2].generation++;
    for (int i = 0; i < 3; i++) {
        struct rows_opened opened;
        struct reason why = {0};
        cr_expect(eq(int, rows_open(&params[i], &rows, &opened, &why), STATUS_CORRUPT));
        cr_expect(ne(ptr, strstr(why.text, "another store"), NULL));
    }
}

Test(rows, a_view_stays_as_it_was_and_leaves_out_what_is_excluded)
{
    struct rows *rows = create();
    put_many(rows, 0, 200);
    const uint64_t excluded[] = {7, 199, 5000};
    struct rows_view view;
    cr_assert(eq(int,
                 rows_view_begin(
                     rows, &(struct rows_choice){.excluded = excluded, .excluded_count = 3}, &view),
                 STATUS_OK));
    put(rows, 8, 1);
    cr_assert(rows_remove(rows, 9));
    put_many(rows, 1000, 5000);

    cr_expect(eq(u32, view.slot_count, 200));
    cr_expect(eq(u64, view.live_count, 200));
    for (uint32_t slot = 0; slot < 200; slot++) {
        const bool live = (view.live[slot / 64] >> (slot % 64) & 1) != 0;
        cr_expect(eq(int, live, slot != 7 && slot != 199));
        const struct record record = record_of(slot, 0);
        cr_expect(
            eq(int, memcmp(view.rows[MODALITY_TEXT] + slot * DIMENSION, record.text, DIMENSION * 2),
               0));
    }
    rows_view_end(&view);
    rows_close(&rows);
}

struct reader {
    struct rows *rows;
    atomic_bool stop;
    atomic_int views;
};

// Every view holds each of the ids 0..99 exactly once, and whole.
static void *read_views(void *context)
{
    struct reader *reader = context;
    while (!atomic_load(&reader->stop)) {
        struct rows_view view;
        cr_assert(
            eq(int, rows_view_begin(reader->rows, &(struct rows_choice){0}, &view), STATUS_OK));
        int seen[100] = {0};
        for (uint32_t slot = 0; slot < view.slot_count; slot++) {
            if ((view.live[slot / 64] >> (slot % 64) & 1) == 0)
                continue;
            const uint64_t id = view.slots[slot].id;
            cr_assert(lt(u64, id, 100));
            seen[id]++;
            uint32_t crc = hash_crc32c(0, view.rows[0] + slot * DIMENSION, DIMENSION * 2);
            crc = hash_crc32c(crc, view.rows[1] + slot * DIMENSION, DIMENSION * 2);
            cr_assert(eq(u32, crc, view.slots[slot].crc));
        }
        for (int id = 0; id < 100; id++)
            cr_assert(eq(int, seen[id], 1), "id %d is there %d times", id, seen[id]);
        rows_view_end(&view);
        atomic_fetch_add(&reader->views, 1);
    }
    return NULL;
}

Test(rows, a_reader_sees_every_record_once_while_all_are_replaced)
{
    struct reader reader = {.rows = create()};
    put_many(reader.rows, 0, 100);
    pthread_t thread;
    cr_assert(eq(int, pthread_create(&thread, NULL, read_views, &reader), 0));
    for (uint32_t version = 1; version < 20000 || atomic_load(&reader.views) < 20; version++)
        put(reader.rows, version % 100, version);
    atomic_store(&reader.stop, true);
    pthread_join(thread, NULL);
    rows_close(&reader.rows);
}

// Without the lock: what is not visible any more is looked for among the slots that came since.
static void *read_bits(void *context)
{
    struct reader *reader = context;
    const _Atomic uint64_t *visible = rows_visible(reader->rows);
    while (!atomic_load(&reader->stop)) {
        bool seen[100] = {false};
        uint32_t end = 0;
        while (end != rows_slot_count(reader->rows)) {
            const uint32_t count = rows_slot_count(reader->rows);
            for (uint32_t slot = end; slot < count; slot++) {
                if (rows_bit(visible, slot))
                    seen[rows_slot(reader->rows, slot)->id] = true;
            }
            end = count;
        }
        for (int id = 0; id < 100; id++)
            cr_assert(seen[id], "id %d is not there", id);
        atomic_fetch_add(&reader->views, 1);
    }
    return NULL;
}

Test(rows, a_reader_without_a_lock_misses_no_record_while_all_are_replaced)
{
    struct reader reader = {.rows = create()};
    put_many(reader.rows, 0, 100);
    pthread_t thread;
    cr_assert(eq(int, pthread_create(&thread, NULL, read_bits, &reader), 0));
    for (uint32_t version = 1; version < 5000 || atomic_load(&reader.views) < 20; version++)
        put(reader.rows, version % 100, version);
    atomic_store(&reader.stop, true);
    pthread_join(thread, NULL);
    rows_close(&reader.rows);
}

static bool is_visible(struct rows *rows, uint64_t id)
{
    const uint32_t slot = rows_find(rows, id);
    return slot != ROWS_NONE && rows_bit(rows_visible(rows), slot);
}

Test(rows, bits_follow_what_is_hidden_replaced_and_removed)
{
    struct rows *rows = create();
    put_many(rows, 0, 300);
    cr_assert(rows_hide(rows, 5, true));
    cr_expect(not(is_visible(rows, 5)));
    cr_expect(rows_bit(rows_live(rows), 5));
    put(rows, 5, 1); // hidden as the one before
    cr_expect(not(is_visible(rows, 5)));
    cr_expect(not(rows_bit(rows_live(rows), 5)));
    cr_expect(rows_bit(rows_live(rows), 300));
    cr_expect(rows_hide(rows, 5, false));
    cr_expect(is_visible(rows, 5));

    put(rows, 6, 1);
    cr_expect(not(rows_bit(rows_visible(rows), 6)));
    cr_expect(is_visible(rows, 6));
    const uint32_t slot = rows_find(rows, 7);
    cr_assert(rows_remove(rows, 7));
    cr_expect(not(rows_bit(rows_visible(rows), slot)));
    cr_expect(not(rows_bit(rows_live(rows), slot)));
    cr_expect(eq(u32, rows_slot_count(rows), 302));
    rows_close(&rows);
}

Test(rows, that_cannot_be_written_leave_everything_as_it_was)
{
    struct rows *rows = create();
    put_many(rows, 0, 50);
    (void)signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {60 * DIMENSION * 2, RLIM_INFINITY};
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));

    struct record records[20];
    struct rows_item items[20];
    for (size_t i = 0; i < 20; i++) {
        records[i] = record_of(40 + i, 3);
        items[i] = item_of(40 + i, &records[i]);
    }
    struct reason why = {0};
    const enum status status = rows_append(rows, items, 20, &why);
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &none), 0));
    cr_expect(eq(int, status, STATUS_IO));
    cr_expect(eq(u64, rows_live_count(rows), 50));
    expect_record(rows, 45, 0);
    cr_expect(eq(u32, rows_find(rows, 55), ROWS_NONE));
    cr_assert(eq(int, rows_append(rows, items, 20, &why), STATUS_OK));
    expect_record(rows, 45, 3);
    checkpoint(rows, 2);
    struct rows_opened opened = {0};
    cr_assert(eq(int, reopen(&rows, &opened), STATUS_OK));
    cr_expect(eq(u64, rows_live_count(rows), 60));
    rows_close(&rows);
}

Test(rows, without_memory_leave_everything_as_it_was)
{
    struct rows *rows = create();
    put_many(rows, 0, 600);
    struct record *records = calloc(8000, sizeof(*records));
    struct rows_item *items = calloc(8000, sizeof(*items));
    for (size_t i = 0; i < 8000; i++) {
        records[i] = record_of(600 + i, 0);
        items[i] = item_of(600 + i, &records[i]);
    }
    struct reason why = {0};
    mem_fail_after(1);
    cr_expect(eq(int, rows_append(rows, items, 8000, &why), STATUS_NO_MEMORY));
    mem_fail_after(0);
    cr_expect(eq(u64, rows_live_count(rows), 600));
    cr_expect(eq(int, rows_append(rows, items, 8000, &why), STATUS_OK));
    expect_record(rows, 8599, 0);
    struct rows_view view;
    mem_fail_after(1);
    cr_expect(eq(int, rows_view_begin(rows, &(struct rows_choice){0}, &view), STATUS_NO_MEMORY));
    mem_fail_after(0);
    free(records);
    free(items);
    rows_close(&rows);
}

Test(rows, files_go_and_going_again_is_no_error)
{
    struct rows *rows = create();
    put_many(rows, 0, 10);
    checkpoint(rows, 1);
    rows_close(&rows);
    struct reason why;
    cr_expect(eq(int, rows_delete_files(directory, &why), STATUS_OK));
    struct stat about;
    cr_expect(ne(int, stat(directory, &about), 0));
    cr_expect(eq(int, rows_delete_files(directory, &why), STATUS_OK));
}
