// SPDX-License-Identifier: Apache-2.0
// Goal: a store that found no space comes back by itself with everything that was acknowledged:
// from its reserve at once, without a reserve when somebody frees space; it reads all the while.
//
// Method: a tmpfs of 256 MiB in a mount namespace of the test's own process; limits that are never
// reached, so that only the disk itself says no. Somebody else's file takes what is left. Skipped
// without the right to mount.

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/log.h"
#include "shard_node/ingest.h"
#include "shard_node/store.h"

#define DIMENSION 512
#define GENERATION 1
#define CHUNK 500 // records of one batch

static char directory[64];
static char other[96];

static void mount_small_disk(void)
{
    strcpy(directory, "test-space-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(directory), NULL));
    (void)snprintf(other, sizeof(other), "%s/somebody-elses", directory);
    log_set_level(LOG_ERROR);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", directory, "tmpfs", 0, "size=256m") != 0) {
        rmdir(directory);
        cr_skip_test("this user may not mount a file system of its own");
    }
}

static void unmount(void)
{
    (void)umount2(directory, MNT_DETACH);
    rmdir(directory);
}

TestSuite(store_space, .init = mount_small_disk, .fini = unmount);

static void fill_disk(void)
{
    static char zeros[1 << 20];
    const int fd = open(other, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    cr_assert(ge(int, fd, 0));
    size_t bytes = sizeof(zeros);
    while (bytes >= 1) {
        if (write(fd, zeros, bytes) <= 0)
            bytes /= 2;
    }
    close(fd);
}

static void free_disk(void)
{
    cr_assert(eq(int, unlink(other), 0));
}

static struct store *open_store(void)
{
    const struct store_params params = {
        .directory = directory, .disk_throttle_percent = 1000, .disk_full_percent = 1000};
    struct store *store = NULL;
    struct reason why = {0};
    cr_assert(eq(int, store_open(&params, &store, &why), STATUS_OK), "%s", why.text);
    return store;
}

static enum status put(struct store *store, uint64_t first, struct reason *why)
{
    static uint16_t rows[DIMENSION];
    struct store_batch *batch = store_batch_begin(store);
    for (uint64_t id = first; id < first + CHUNK; id++) {
        rows[0] = (uint16_t)(id & 0x3bff);
        const struct store_record record = {.place = {GENERATION, 0, id},
                                            .dimension = DIMENSION,
                                            .image = rows,
                                            .text = rows,
                                            .rows_crc = store_rows_crc(rows, rows, DIMENSION),
                                            .key = {"k", 1}};
        store_batch_put(batch, &record);
    }
    return store_batch_commit(&batch, why);
}

// Writes until the disk has no room; the number of records that were acknowledged before.
static uint64_t write_until_full(struct store *store, uint64_t first)
{
    struct reason why = {0};
    for (uint64_t id = first; id < first + 1000000; id += CHUNK) {
        const enum status status = put(store, id, &why);
        if (status != STATUS_OK) {
            cr_expect(eq(int, status, STATUS_EXHAUSTED), "%s", why.text);
            return id;
        }
    }
    cr_assert(false, "the disk is never full");
    return 0;
}

static void expect_records(struct store *store, uint64_t count)
{
    uint16_t rows[2 * DIMENSION];
    struct reason why = {0};
    for (uint64_t id = 0; id < count; id++) {
        const struct store_place place = {GENERATION, 0, id};
        cr_assert(eq(int, store_read_rows(store, place, DIMENSION, rows, &why), STATUS_OK),
                  "record %llu of %llu: %s", (unsigned long long)id, (unsigned long long)count,
                  why.text);
        cr_assert(eq(int, rows[0], (int)(id & 0x3bff)));
    }
}

Test(store_space, the_reserve_brings_a_store_back_and_lets_it_delete)
{
    struct store *store = open_store();
    struct reason why = {0};
    cr_assert(eq(int, put(store, 0, &why), STATUS_OK));
    fill_disk();
    const uint64_t count = write_until_full(store, CHUNK);
    cr_expect(store_is_out_of_space(store));
    cr_expect(not(store_is_read_only(store)));
    cr_expect(eq(int, store_may_write(store, true, &why), STATUS_EXHAUSTED));
    expect_records(store, count);

    const uint64_t acknowledged = store_sequence(store);
    cr_assert(eq(int, store_reopen(store, &why), STATUS_OK), "%s", why.text);
    cr_expect(ge(u64, store_sequence(store), acknowledged));
    expect_records(store, count);
    struct store_batch *batch = store_batch_begin(store);
    store_batch_delete(batch, (struct store_place){GENERATION, 0, 0});
    cr_expect(eq(int, store_batch_commit(&batch, &why), STATUS_OK), "%s", why.text);
    store_close(&store);
}

Test(store_space, without_a_reserve_it_waits_for_space_and_reads_meanwhile)
{
    struct store *store = open_store();
    struct reason why = {0};
    uint64_t count = 0;
    for (int round = 0; round < 3; round++) {
        cr_assert(eq(int, put(store, count, &why), STATUS_OK), "%s", why.text);
        count += CHUNK;
        fill_disk();
        count = write_until_full(store, count);
        // Whatever the reserve gives is taken by somebody else.
        for (int tries = 0; tries < 50 && store_reopen(store, &why) == STATUS_OK; tries++) {
            fill_disk();
            count = write_until_full(store, count);
        }
        fill_disk();
        cr_assert(store_is_out_of_space(store));
        cr_expect(eq(int, store_reopen(store, &why), STATUS_EXHAUSTED), "%s", why.text);
        cr_expect(not(store_is_read_only(store)));
        expect_records(store, count);
        free_disk();
        cr_assert(eq(int, store_reopen(store, &why), STATUS_OK), "%s", why.text);
        cr_expect(eq(int, store_may_write(store, false, &why), STATUS_OK), "%s", why.text);
        expect_records(store, count);
    }
    store_close(&store);
    store = open_store();
    expect_records(store, count);
    store_close(&store);
}

Test(store_space, a_store_that_somebody_walks_over_is_opened_later)
{
    struct store *store = open_store();
    struct reason why = {0};
    cr_assert(eq(int, put(store, 0, &why), STATUS_OK));
    store_set_out_of_space(store, "a test");
    struct store_cursor *cursor = store_cursor_begin(store, GENERATION, DIMENSION);
    cr_expect(eq(int, store_reopen(store, &why), STATUS_UNAVAILABLE));
    cr_expect(store_is_out_of_space(store));
    struct store_cursor_row row;
    cr_expect(eq(int, store_cursor_next(cursor, &row, &why), STATUS_OK));
    store_cursor_end(&cursor);
    cr_expect(eq(int, store_reopen(store, &why), STATUS_OK), "%s", why.text);
    expect_records(store, CHUNK);
    store_close(&store);
}

// The rows of a generation lie on the same disk; here they, or the store, are the first to find
// none.
Test(store_space, rows_follow_the_store_after_it_came_back)
{
    struct store *store = open_store();
    struct shelf *shelf = NULL;
    struct reason why = {0};
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/rows", directory);
    cr_assert(eq(int, shelf_open(store, path, &shelf, &why), STATUS_OK));
    struct ingest *ingest = ingest_create(&(struct ingest_params){.store = store, .shelf = shelf});
    static const uint32_t own[] = {0};
    const struct shard_create_request create = {GENERATION, DIMENSION, 1, own, 1};
    cr_assert(eq(int, ingest_create_generation(ingest, &create, &why), STATUS_OK), "%s", why.text);

    static uint16_t rows[CHUNK * 2 * DIMENSION];
    static struct text keys[CHUNK];
    static char names[CHUNK][16];
    static struct text empty[CHUNK];
    uint64_t count = 0;
    enum status status = STATUS_OK;
    fill_disk();
    while (status == STATUS_OK && count < 1000000) {
        for (size_t i = 0; i < CHUNK; i++) {
            (void)snprintf(names[i], sizeof(names[i]), "%llu", (unsigned long long)(count + i));
            keys[i] = text_of(names[i]);
            empty[i] = text_of("");
        }
        const struct shard_write_request request = {GENERATION, DIMENSION, CHUNK, keys, empty,
                                                    empty,      empty,     NULL,  rows};
        struct arena *arena = arena_create(1 << 20);
        struct shard_write_reply reply;
        cr_assert(eq(int, ingest_begin(ingest, GENERATION, &why), STATUS_OK));
        // The levels are out of the way: the group meets the disk itself.
        status = ingest_write(ingest, &request, arena, &reply, &why);
        const enum status committed = ingest_commit(ingest, &why);
        status = status == STATUS_OK ? committed : status;
        arena_destroy(&arena);
        if (status == STATUS_OK)
            count += CHUNK;
    }
    cr_expect(eq(int, status, STATUS_EXHAUSTED), "%s", why.text);
    free_disk();
    if (store_is_out_of_space(store))
        cr_assert(eq(int, ingest_recover(ingest, &why), STATUS_OK), "%s", why.text);
    cr_expect(not(store_is_read_only(store)));
    struct shelf_generation *generation = shelf_acquire(shelf, GENERATION);
    cr_expect(ge(u64, rows_live_count(generation->rows), count));
    cr_expect(eq(u64, rows_live_count(generation->rows) % CHUNK, 0));
    shelf_release(shelf, &generation);
    ingest_destroy(&ingest);
    shelf_close(&shelf);
    store_close(&store);
}
