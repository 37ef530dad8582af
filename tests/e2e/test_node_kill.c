// SPDX-License-Identifier: Apache-2.0
// Goal: whatever reco-shard acknowledged is there after kill -9, whole, and nothing else is.
//
// Method: kill_house.h. A new process is asked for every record.

#include <inttypes.h>
#include <stdio.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "tests/e2e/kill_house.h"

#define RECORDS 4000
#define KILLS 20

TestSuite(node_kill, .init = make_directory, .fini = remove_directory, .timeout = 280);

Test(node_kill, every_acknowledged_write_and_deletion_is_there)
{
    kill_and_check(&(struct kill_plan){.name = "writes",
                                       .records = RECORDS,
                                       .first = 1000,
                                       .kills = KILLS,
                                       .longest_us = 250000,
                                       .start = start_single});
}

Test(node_kill, every_committed_bulk_load_is_there_and_no_record_is_torn)
{
    kill_and_check(&(struct kill_plan){.name = "bulk",
                                       .records = RECORDS,
                                       .first = 1000,
                                       .kills = KILLS,
                                       .longest_us = 80000,
                                       .start = start_bulk});
}

// --- hiding

#define HIDE_RECORDS 300
#define HIDE_KILLS 8

// Which of the records a search for everything finds.
static void search_all(struct shard *shard, bool seen[HIDE_RECORDS])
{
    static float query[DIMENSION] = {1};
    const struct shard_search_request request = {.generation = GENERATION,
                                                 .dimension = DIMENSION,
                                                 .row_count = 1,
                                                 .k = K_WIRE_MAX,
                                                 .rows = query};
    struct buffer body = {0};
    cr_assert(eq(int, shard_encode_search_request(&request, &body), STATUS_OK));
    struct answer answer = {0};
    const struct dealer_request sent = {.peer = shard->peer,
                                        .class = DEALER_QUERY,
                                        .type = SHARD_SEARCH,
                                        .body = {body.data, body.count},
                                        .rows = {(const uint8_t *)query, sizeof(query)},
                                        .deadline_us = clock_deadline_in_us(PATIENCE_US),
                                        .done = keep_answer,
                                        .context = &answer};
    uint64_t ticket;
    cr_assert(eq(int, dealer_send(shard->dealer, &sent, &ticket), STATUS_OK));
    while (!answer.is_there)
        cr_assert(eq(int, dealer_poll(shard->dealer, NULL, 0, sent.deadline_us), STATUS_OK));
    struct arena *arena = arena_create(1 << 24);
    struct shard_search_reply reply;
    cr_assert(eq(int, answer.status, STATUS_OK));
    cr_assert(eq(int,
                 shard_decode_search_reply((struct bytes){answer.body.data, answer.body.count},
                                           (struct bytes){0}, arena, &reply, NULL),
                 STATUS_OK));
    for (uint32_t r = 0; r < HIDE_RECORDS; r++) {
        seen[r] = false;
        for (size_t i = 0; i < reply.hit_count; i++)
            seen[r] = seen[r] || reply.ids[i] == id_of(r);
    }
    arena_destroy(&arena);
    buffer_deinit(&body);
    buffer_deinit(&answer.body);
    buffer_deinit(&answer.rows);
}

static void fill_for_hiding(struct shard *shard)
{
    create_generation(shard);
    for (uint32_t first = 0; first < HIDE_RECORDS; first += 50) {
        struct change *change = &changes[0];
        *change = (struct change){.version = 1, .count = 50};
        for (uint32_t i = 0; i < 50; i++)
            change->numbers[i] = first + i;
        cr_assert(send_change(shard, change));
        while (change->used)
            cr_assert(eq(int, dealer_poll(shard->dealer, NULL, 0, clock_deadline_in_us(20000)),
                         STATUS_OK));
    }
}

Test(node_kill, every_acknowledged_mark_holds)
{
    static bool hidden[HIDE_RECORDS]; // as acknowledged
    static bool seen[HIDE_RECORDS];
    set_seed("marks");
    struct shard shard = open_shard();
    fill_for_hiding(&shard);
    for (int kills = 0; kills < HIDE_KILLS; kills++) {
        for (int calls = 0; calls < 12; calls++) {
            struct change change = {.count = 1 + next_number() % 20};
            const bool hide = next_number() % 3 != 0;
            for (size_t i = 0; i < change.count; i++)
                change.numbers[i] = (uint32_t)(next_number() % HIDE_RECORDS);
            struct buffer body = delete_body(&change);
            struct answer answer = ask(&shard, hide ? SHARD_HIDE : SHARD_UNHIDE, &body);
            cr_assert(eq(int, answer.status, STATUS_OK));
            for (size_t i = 0; i < change.count; i++)
                hidden[change.numbers[i]] = hide;
            buffer_deinit(&answer.body);
            buffer_deinit(&answer.rows);
        }
        kill_shard(&shard);
        shard = open_shard();
        search_all(&shard, seen);
        for (uint32_t r = 0; r < HIDE_RECORDS; r++)
            cr_expect(ne(int, seen[r], hidden[r]), "record %" PRIu32 ", kill %d", r, kills);
    }
    stop_shard(&shard);
}
