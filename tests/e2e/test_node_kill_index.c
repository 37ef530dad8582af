// SPDX-License-Identifier: Apache-2.0
// Goal: kill -9 while an index takes rows in, splits its lists and is saved costs no acknowledged
// record, and brings no deleted one back.
//
// Method: kill_house.h, with rows that crowd into few clusters, so that lists split, and so many
// that the index is saved again and again. Each new process is asked, by its index and all of its
// lists, for records by their own rows: one that is there must be found, one that is not must not.
// RECO_KILLS=50 is the long run.

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/half.h"
#include "tests/e2e/kill_house.h"

#define RECORDS 40000
#define FIRST 36000 // records acknowledged, an index is made long before
#define KILLS 6
#define PARTS 8 // of the records, one is asked for after a kill
#define K 4
#define ALL_LISTS 4096

TestSuite(node_kill_index, .init = make_directory, .fini = remove_directory, .timeout = 900);

// Mostly bulk loads, and deletions in between.
static bool start_mixed(struct shard *shard, struct change *change)
{
    return next_number() % 3 == 0 ? start_single(shard, change) : start_bulk(shard, change);
}

struct found {
    bool exact;
    size_t count;
    uint32_t counts[SEARCH_ROWS_MAX];
    uint64_t ids[SEARCH_ROWS_MAX * K];
};

static void search(struct shard *shard, const float *rows, uint32_t count, struct found *out)
{
    const struct shard_search_request request = {.generation = GENERATION,
                                                 .dimension = DIMENSION,
                                                 .row_count = count,
                                                 .k = K,
                                                 .probes = ALL_LISTS};
    struct buffer body = {0};
    struct shard_search_reply reply;
    struct reason why = {.text = ""};
    cr_assert(eq(int, shard_encode_search_request(&request, &body), STATUS_OK));
    struct answer answer = ask_with_rows(
        shard, SHARD_SEARCH, &body,
        (struct bytes){(const uint8_t *)rows, (size_t)count * DIMENSION * sizeof(*rows)});
    cr_assert(eq(int, answer.status, STATUS_OK));
    struct arena *arena = arena_create(16 << 20);
    cr_assert(eq(int,
                 shard_decode_search_reply((struct bytes){answer.body.data, answer.body.count},
                                           (struct bytes){answer.rows.data, answer.rows.count},
                                           arena, &reply, &why),
                 STATUS_OK),
              "%s", why.text);
    cr_assert(eq(sz, reply.row_count, count));
    cr_assert(le(sz, reply.hit_count, (size_t)count * K));
    out->exact = reply.exact;
    out->count = reply.hit_count;
    memcpy(out->counts, reply.counts, count * sizeof(reply.counts[0]));
    memcpy(out->ids, reply.ids, reply.hit_count * sizeof(reply.ids[0]));
    arena_destroy(&arena);
    buffer_deinit(&answer.body);
    buffer_deinit(&answer.rows);
}

static void wait_for_index(struct shard *shard)
{
    static struct found found;
    float row[DIMENSION] = {1};
    const int64_t until_us = clock_deadline_in_us(4 * (int64_t)PATIENCE_US);
    do
        search(shard, row, 1, &found);
    while (found.exact && !clock_passed(until_us));
    cr_assert(not(found.exact), "there is no index");
}

static void check_found(const struct found *found, const uint32_t *numbers, uint32_t count)
{
    const uint64_t *ids = found->ids;
    for (uint32_t i = 0; i < count; i++) {
        bool is_found = false;
        for (uint32_t h = 0; h < found->counts[i]; h++)
            is_found |= ids[h] == id_of(numbers[i]);
        cr_assert(eq(int, is_found, records[numbers[i]].version != 0),
                  "record %" PRIu32 " of version %" PRIu32, numbers[i],
                  records[numbers[i]].version);
        ids += found->counts[i];
    }
}

// Those that never were there have no rows to be asked by.
static void check_by_index(struct shard *shard, int kill)
{
    static float rows[SEARCH_ROWS_MAX][DIMENSION];
    static struct found found;
    uint32_t numbers[SEARCH_ROWS_MAX];
    uint32_t count = 0;
    wait_for_index(shard);
    for (uint32_t number = 0; number < RECORDS; number++) {
        const struct known *known = &records[number];
        if (known->had != 0 && (kill == KILL_LAST || number % PARTS == (uint32_t)kill % PARTS)) {
            uint16_t halves[2 * DIMENSION];
            fill_rows(number, known->version ? known->version : known->had, halves);
            half_to_floats(halves, rows[count], DIMENSION);
            numbers[count++] = number;
        }
        if (count < SEARCH_ROWS_MAX && number + 1 < RECORDS)
            continue;
        search(shard, rows[0], count, &found);
        check_found(&found, numbers, count);
        count = 0;
    }
}

// Lines of the log with a word: what happened between the kills.
static int log_lines(const char *word)
{
    char path[96];
    char line[1024];
    int count = 0;
    (void)snprintf(path, sizeof(path), "%s/log", directory);
    FILE *file = fopen(path, "re");
    cr_assert(ne(ptr, file, NULL));
    while (fgets(line, sizeof(line), file))
        count += strstr(line, word) != NULL;
    (void)fclose(file);
    return count;
}

Test(node_kill_index, every_record_is_found_and_no_deleted_one)
{
    kill_and_check(&(struct kill_plan){.name = "index",
                                       .records = RECORDS,
                                       .first = FIRST,
                                       .kills = KILLS,
                                       .longest_us = 1500000,
                                       .start = start_mixed,
                                       .check = check_by_index});
    // How often a kill left an index that fits is chance. A clean stop does, where no row has to
    // go.
    const int opened = log_lines("index_opened");
    struct shard shard = open_shard();
    check_by_index(&shard, KILL_LAST);
    stop_shard(&shard);
    (void)printf("index: %d times made, %d times saved, %d times opened\n", log_lines("index_made"),
                 log_lines("index_saved"), log_lines("index_opened"));
    cr_expect(gt(int, log_lines("index_opened"), opened));
}
