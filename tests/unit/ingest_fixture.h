// SPDX-License-Identifier: Apache-2.0
// ingest_fixture.h - ingest on a real store and shelf in a fresh directory, and records whose rows
// follow from their number and a version.
//
// Thread-safety: none; each Criterion test is a process of its own.

#ifndef RECO_TESTS_INGEST_FIXTURE_H
#define RECO_TESTS_INGEST_FIXTURE_H

#include <inttypes.h>
#include <signal.h>
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
#include "shard_node/ingest.h"

#define DIMENSION 16
#define GENERATION 4
#define VSHARDS 8

static char directory[64];

// A node without a bus.
struct place {
    struct store *store;
    struct shelf *shelf;
    struct ingest *ingest;
    struct arena *arena;
};

static inline void make_directory(void)
{
    strcpy(directory, "test-ingest-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(directory), NULL));
}

static inline void remove_directory(void)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", directory);
    cr_expect(eq(int, system(command), 0));
}

static inline struct place open_place_with(struct ingest_params params, uint32_t disk_full_percent)
{
    struct place place = {0};
    struct reason why = {0};
    const struct store_params store = {.directory = directory,
                                       .disk_full_percent = disk_full_percent};
    cr_assert(eq(int, store_open(&store, &place.store, &why), STATUS_OK), "%s", why.text);
    char rows[128];
    (void)snprintf(rows, sizeof(rows), "%s/rows", directory);
    cr_assert(eq(int, shelf_open(place.store, rows, &place.shelf, &why), STATUS_OK), "%s",
              why.text);
    params.store = place.store;
    params.shelf = place.shelf;
    place.ingest = ingest_create(&params);
    place.arena = arena_create(64 << 20);
    return place;
}

static inline struct place open_place(void)
{
    return open_place_with((struct ingest_params){0}, 0);
}

// With `checkpoint` false as a crash would leave it, but for what the kernel has.
static inline void close_place(struct place *place, bool checkpoint)
{
    struct reason why;
    ingest_destroy(&place->ingest);
    if (checkpoint)
        cr_assert(eq(int, shelf_checkpoint_all(place->shelf, &why), STATUS_OK));
    shelf_close(&place->shelf);
    store_close(&place->store);
    arena_destroy(&place->arena);
}

static inline void reopen(struct place *place, bool checkpoint)
{
    close_place(place, checkpoint);
    *place = open_place();
}

static inline enum status create(struct place *place, uint32_t number, struct reason *why)
{
    static const uint32_t own[VSHARDS] = {7, 6, 5, 4, 3, 2, 1, 0};
    const struct shard_create_request request = {.generation = number,
                                                 .dimension = DIMENSION,
                                                 .vshards = VSHARDS,
                                                 .own = own,
                                                 .own_count = VSHARDS};
    return ingest_create_generation(place->ingest, &request, why);
}

// Requests of records "key-N"; their rows follow from N and a version.
struct batch {
    struct shard_write_request request;
    char (*names)[32];
    struct text *texts; // keys, captions, sources, tags
    uint16_t *rows;
};

static inline void fill_rows(uint16_t *rows, uint64_t number, uint32_t version)
{
    for (size_t i = 0; i < 2 * DIMENSION; i++)
        rows[i] = half_from_float((float)((number * 7 + version * 13 + i) % 23) / 23.0f - 0.5f);
}

static inline struct batch new_batch(uint64_t first, size_t count, uint32_t version)
{
    struct batch batch = {.names = calloc(count, 32),
                          .texts = calloc(4 * count, sizeof(struct text)),
                          .rows = calloc(count * 2 * DIMENSION, sizeof(uint16_t))};
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(batch.names[i], 32, "key-%" PRIu64, first + i);
        batch.texts[i] = text_of(batch.names[i]);
        batch.texts[count + i] = text_of(version % 2 ? "odd" : "even");
        fill_rows(batch.rows + i * 2 * DIMENSION, first + i, version);
    }
    batch.request = (struct shard_write_request){.generation = GENERATION,
                                                 .dimension = DIMENSION,
                                                 .count = count,
                                                 .keys = batch.texts,
                                                 .captions = batch.texts + count,
                                                 .sources = batch.texts + 2 * count,
                                                 .tags = batch.texts + 3 * count,
                                                 .rows = batch.rows};
    return batch;
}

static inline void free_batch(struct batch *batch)
{
    free(batch->names);
    free(batch->texts);
    free(batch->rows);
}

static uint64_t id_of(uint64_t number)
{
    char name[32];
    const int bytes = snprintf(name, sizeof(name), "key-%" PRIu64, number);
    return hash_id(name, (size_t)bytes);
}

static inline struct shard_write_reply write_records(struct place *place, uint64_t first,
                                                     size_t count, uint32_t version)
{
    struct batch batch = new_batch(first, count, version);
    struct shard_write_reply reply = {0};
    struct reason why = {0};
    cr_assert(eq(int, ingest_begin(place->ingest, GENERATION, &why), STATUS_OK), "%s", why.text);
    cr_assert(
        eq(int, ingest_write(place->ingest, &batch.request, place->arena, &reply, &why), STATUS_OK),
        "%s", why.text);
    cr_assert(eq(int, ingest_commit(place->ingest, &why), STATUS_OK), "%s", why.text);
    free_batch(&batch);
    return reply;
}

static inline enum status bulk_records(struct place *place, uint64_t first, size_t count,
                                       uint32_t version, struct shard_write_reply *reply,
                                       struct reason *why)
{
    struct batch batch = new_batch(first, count, version);
    const enum status status = ingest_bulk(place->ingest, &batch.request, place->arena, reply, why);
    free_batch(&batch);
    return status;
}

static inline void commit_bulk(struct place *place, uint64_t stored, uint64_t duplicates)
{
    struct reason why = {0};
    struct shard_write_reply reply = {0};
    cr_assert(eq(int, ingest_bulk_commit(place->ingest, GENERATION, &reply, &why), STATUS_OK), "%s",
              why.text);
    cr_expect(eq(u64, reply.stored, stored));
    cr_expect(eq(u64, reply.duplicates, duplicates));
    cr_expect(eq(u64, reply.sequence, store_sequence(place->store)));
}

static inline struct rows *rows_of(struct place *place)
{
    struct shelf_generation *generation = shelf_acquire(place->shelf, GENERATION);
    cr_assert(ne(ptr, generation, NULL));
    struct rows *rows = generation->rows;
    shelf_release(place->shelf, &generation); // the shelf keeps it
    return rows;
}

static inline void expect_record(struct place *place, uint64_t number, uint32_t version)
{
    const uint64_t id = id_of(number);
    struct rows *rows = rows_of(place);
    const uint32_t slot = rows_find(rows, id);
    cr_assert(ne(u32, slot, ROWS_NONE), "record %" PRIu64 " is not in the rows", number);
    uint16_t expected[2 * DIMENSION];
    fill_rows(expected, number, version);
    const size_t bytes = DIMENSION * sizeof(uint16_t);
    cr_assert(eq(int, memcmp(rows_row(rows, MODALITY_IMAGE, slot), expected, bytes), 0),
              "record %" PRIu64, number);
    cr_assert(eq(int, memcmp(rows_row(rows, MODALITY_TEXT, slot), expected + DIMENSION, bytes), 0));
    uint16_t stored[2 * DIMENSION];
    struct reason why = {0};
    const struct store_place at = {GENERATION, (uint16_t)(id % VSHARDS), id};
    cr_assert(eq(int, store_read_rows(place->store, at, DIMENSION, stored, &why), STATUS_OK));
    cr_assert(eq(int, memcmp(stored, expected, sizeof(stored)), 0));
}

static inline void expect_absent(struct place *place, uint64_t number)
{
    const uint64_t id = id_of(number);
    cr_assert(eq(u32, rows_find(rows_of(place), id), ROWS_NONE));
    uint16_t stored[2 * DIMENSION];
    struct reason why;
    const struct store_place at = {GENERATION, (uint16_t)(id % VSHARDS), id};
    cr_assert(
        eq(int, store_read_rows(place->store, at, DIMENSION, stored, &why), STATUS_NOT_FOUND));
}

static inline void expect_count(struct place *place, uint64_t count)
{
    cr_expect(eq(u64, rows_live_count(rows_of(place)), count));
}

static inline struct place created_place(void)
{
    struct place place = open_place();
    struct reason why = {0};
    cr_assert(eq(int, create(&place, GENERATION, &why), STATUS_OK), "%s", why.text);
    return place;
}

static inline void delete_records(struct place *place, uint64_t first, size_t count,
                                  uint64_t deleted)
{
    uint64_t ids[64];
    cr_assert(le(sz, count, 64));
    for (size_t i = 0; i < count; i++)
        ids[i] = id_of(first + i);
    const struct shard_ids_request request = {GENERATION, ids, count};
    struct shard_flags_reply reply = {0};
    struct reason why = {0};
    cr_assert(eq(int, ingest_begin(place->ingest, GENERATION, &why), STATUS_OK));
    cr_assert(
        eq(int, ingest_delete(place->ingest, &request, place->arena, &reply, &why), STATUS_OK),
        "%s", why.text);
    cr_assert(eq(int, ingest_commit(place->ingest, &why), STATUS_OK));
    uint64_t sum = 0;
    for (size_t i = 0; i < reply.count; i++)
        sum += reply.flags[i];
    cr_expect(eq(u64, sum, deleted));
}

#endif
