// SPDX-License-Identifier: Apache-2.0
// Goal: from 20,000 records on a node answers by an index and says so; what was acknowledged is
// found at once, what was taken away is not, and a filter gets what there is.
//
// Method: a node and a dealer in one process; records asked for by their own rows, which they are
// the nearest to; the exact search of the same node beside it.

#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/limits.h"
#include "tests/unit/node_fixture.h"

#define RECORDS (INDEX_RECORDS_FROM + 400)
#define PAGE 1000
#define K 12
#define INDEX_PATIENCE_US 120000000 // a minute with sanitizers on a machine that others keep busy

TestSuite(node_index, .init = make_directory, .fini = remove_directory, .timeout = 280);

// What a search found, and how.
struct found {
    size_t count;
    uint64_t ids[K_WIRE_MAX];
    float scores[K_WIRE_MAX];
    struct shard_search_reply reply; // its arrays are gone
};

// Searches with the row of a record.
static struct found search_for(struct world *world, uint64_t number,
                               struct shard_search_request request)
{
    uint16_t rows[2 * DIMENSION];
    float query[DIMENSION];
    fill_rows(number, 1, rows);
    half_to_floats(rows, query, DIMENSION);
    request.generation = GENERATION;
    request.modality = MODALITY_IMAGE;
    request.dimension = DIMENSION;
    request.row_count = 1;
    request.k = request.k ? request.k : K;
    struct buffer body = {0};
    cr_assert(eq(int, shard_encode_search_request(&request, &body), STATUS_OK));
    struct answer answer = ask(world, SHARD_SEARCH, &body, query, sizeof(query));
    cr_assert(eq(int, answer.status, STATUS_OK), "%s", answer.text);
    struct reason why = {0};
    struct found found = {0};
    cr_assert(eq(int,
                 shard_decode_search_reply(body_of(&answer), rows_of(&answer), answer.arena,
                                           &found.reply, &why),
                 STATUS_OK),
              "%s", why.text);
    found.count = found.reply.hit_count;
    for (size_t i = 0; i < found.count; i++) {
        found.ids[i] = found.reply.ids[i];
        found.scores[i] = found.reply.scores[i];
    }
    end_answer(&answer);
    return found;
}

static bool has(const struct found *found, uint64_t number)
{
    bool is_there = false;
    for (size_t i = 0; i < found->count; i++)
        is_there = is_there || found->ids[i] == id_of(number);
    return is_there;
}

static void load(struct world *world, uint64_t first, uint64_t end)
{
    for (uint64_t at = first; at < end; at += PAGE)
        (void)write_records(world, SHARD_BULK, at, end - at < PAGE ? end - at : PAGE, 1);
    struct answer answer = ask_generation(world, SHARD_BULK_COMMIT, GENERATION);
    cr_assert(eq(int, answer.status, STATUS_OK), "%s", answer.text);
    end_answer(&answer);
}

// Until the index of the images is there, which is made first. Searches meanwhile would take its
// thread's time.
static void wait_for_index(struct world *world)
{
    const int64_t until_us = clock_deadline_in_us(INDEX_PATIENCE_US);
    while (stats(world, GENERATION).index_lists == 0)
        cr_assert(patience_lasts(until_us), "there is no index");
    cr_assert(not(search_for(world, 0, (struct shard_search_request){0}).reply.exact));
}

static void take_away(struct world *world, enum shard_type type, uint64_t number)
{
    const uint64_t ids[] = {id_of(number)};
    const uint32_t flags[] = {1};
    expect_flags(world, type, ids, 1, flags);
}

static void expect_same_as_exactly(struct world *world)
{
    size_t same = 0;
    for (uint64_t number = 7; number < RECORDS; number += RECORDS / 20) {
        const struct found near =
            search_for(world, number,
                       (struct shard_search_request){.index_mode = SHARD_INDEX_IVF, .probes = 70});
        const struct found all = search_for(
            world, number, (struct shard_search_request){.index_mode = SHARD_INDEX_EXACT});
        cr_expect(not(near.reply.exact));
        cr_expect(all.reply.exact);
        cr_expect(eq(u64, near.reply.lists_probed, 70));
        cr_expect(gt(u64, near.reply.codes_scanned, 0));
        cr_expect(ge(u64, near.reply.rows_read, K));
        cr_expect(eq(u64, near.reply.records, all.reply.records));
        cr_assert(eq(sz, near.count, K));
        cr_expect(eq(u64, near.ids[0], id_of(number)));
        for (size_t i = 0; i < K; i++) {
            for (size_t j = 0; j < K; j++) {
                if (near.ids[i] == all.ids[j]) {
                    same++;
                    cr_expect(eq(flt, near.scores[i], all.scores[j]));
                }
            }
        }
    }
    cr_expect(ge(sz, same, 20 * K * 8 / 10)); // random rows are the hardest there are
}

#define BATCH 37

// Many queries in one request, which the pool's threads share.
static void expect_batch(struct world *world)
{
    static float queries[BATCH * DIMENSION];
    for (size_t q = 0; q < BATCH; q++) {
        uint16_t rows[2 * DIMENSION];
        fill_rows(500 * q, 1, rows);
        half_to_floats(rows, queries + q * DIMENSION, DIMENSION);
    }
    const struct shard_search_request request = {.generation = GENERATION,
                                                 .modality = MODALITY_IMAGE,
                                                 .dimension = DIMENSION,
                                                 .row_count = BATCH,
                                                 .k = K,
                                                 .want_payload = true,
                                                 .probes = 30};
    struct buffer body = {0};
    cr_assert(eq(int, shard_encode_search_request(&request, &body), STATUS_OK));
    struct answer answer = ask(world, SHARD_SEARCH, &body, queries, sizeof(queries));
    cr_assert(eq(int, answer.status, STATUS_OK), "%s", answer.text);
    struct shard_search_reply reply;
    struct reason why = {0};
    cr_assert(eq(
        int,
        shard_decode_search_reply(body_of(&answer), rows_of(&answer), answer.arena, &reply, &why),
        STATUS_OK));
    cr_expect(not(reply.exact));
    cr_expect(eq(u64, reply.lists_probed, BATCH * 30));
    cr_assert(eq(sz, reply.hit_count, BATCH * K));
    for (size_t q = 0; q < BATCH; q++) {
        uint16_t rows[2 * DIMENSION];
        fill_rows(500 * q, 1, rows);
        cr_expect(eq(u32, reply.counts[q], K));
        cr_expect(eq(u64, reply.ids[q * K], id_of(500 * q)));
        cr_expect(eq(
            int,
            memcmp(reply.payload + q * K * DIMENSION, rows + DIMENSION, DIMENSION * sizeof(*rows)),
            0));
    }
    end_answer(&answer);
}

Test(node_index, answers_by_an_index_what_an_exact_search_answers)
{
    struct world world = open_world(2);
    create(&world, GENERATION);
    load(&world, 0, INDEX_RECORDS_FROM - 100);
    cr_expect(search_for(&world, 0, (struct shard_search_request){.index_mode = SHARD_INDEX_IVF})
                  .reply.exact);
    load(&world, INDEX_RECORDS_FROM - 100, RECORDS);
    wait_for_index(&world);
    expect_same_as_exactly(&world);
    expect_batch(&world);

    // After a restart it is there again.
    close_world(&world);
    world = open_world(1);
    wait_for_index(&world);
    const struct found found = search_for(&world, 11, (struct shard_search_request){0});
    cr_expect(eq(u64, found.ids[0], id_of(11)));
    close_world(&world);
}

// The estimate for images as the metrics tell it; -1 when they do not.
static double estimated_recall(const struct world *world)
{
    static const char question[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
                                   "Connection: close\r\n\r\n";
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)node_http_port(world->node)),
                                        .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    double recall = -1;
    char line[512];
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(eq(int, connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0));
    cr_assert(eq(sz, (size_t)send(fd, question, sizeof(question) - 1, MSG_NOSIGNAL),
                 sizeof(question) - 1));
    FILE *answer = fdopen(fd, "r");
    while (fgets(line, sizeof(line), answer)) {
        const char *end = strchr(line, '}');
        if (end && strncmp(line, "reco_shard_index_recall_estimate{", 33) == 0 &&
            strstr(line, "modality=\"image\""))
            recall = strtod(end + 1, NULL);
    }
    (void)fclose(answer);
    return recall;
}

// Every list is looked into, so that nearly nothing is missed.
Test(node_index, recall_is_estimated_by_searching_again_exactly)
{
    node_listens_at = "127.0.0.1:0";
    struct world world = open_world(2);
    create(&world, GENERATION);
    load(&world, 0, RECORDS);
    wait_for_index(&world);
    const int64_t until_us = clock_deadline_in_us(INDEX_PATIENCE_US);
    double recall;
    while ((recall = estimated_recall(&world)) < 0 && !clock_passed(until_us))
        (void)search_for(&world, 5, (struct shard_search_request){.probes = PROBES_MAX});
    cr_expect(recall > 0.6 && recall <= 1, "%g", recall);
    close_world(&world);
}

Test(node_index, finds_what_was_acknowledged_and_nothing_that_is_gone)
{
    struct world world = open_world(2);
    create(&world, GENERATION);
    load(&world, 0, RECORDS);
    wait_for_index(&world);
    const struct shard_search_request by_index = {.index_mode = SHARD_INDEX_IVF};
    for (uint64_t number = RECORDS; number < RECORDS + 150; number++) {
        (void)write_records(&world, SHARD_WRITE, number, 1, 1);
        const struct found found = search_for(&world, number, by_index);
        cr_assert(not(found.reply.exact));
        cr_assert(eq(u64, found.ids[0], id_of(number)));
    }
    take_away(&world, SHARD_DELETE, 17);
    take_away(&world, SHARD_HIDE, 18);
    take_away(&world, SHARD_DELETE, RECORDS + 149);
    (void)write_records(&world, SHARD_WRITE, 19, 1, 2); // another row
    const uint64_t gone[] = {17, 18, RECORDS + 149, 19};
    for (size_t i = 0; i < 4; i++) {
        const struct found found = search_for(&world, gone[i], by_index);
        cr_expect(not(found.reply.exact));
        cr_expect(ne(u64, found.ids[0], id_of(gone[i])));
        cr_expect(i == 3 || !has(&found, gone[i]));
    }
    take_away(&world, SHARD_UNHIDE, 18);
    const struct found found = search_for(&world, 18, by_index);
    cr_expect(eq(u64, found.ids[0], id_of(18)));
    close_world(&world);
}

Test(node_index, filters_get_as_many_as_there_are)
{
    struct world world = open_world(2);
    create(&world, GENERATION);
    load(&world, 0, RECORDS);
    wait_for_index(&world);
    const struct text red[] = {text_of("red")};
    const struct text blue[] = {text_of("blue")};
    const uint64_t excluded[] = {id_of(30)};
    struct found found = search_for(
        &world, 30, (struct shard_search_request){.all_tags = red, .all_count = 1, .probes = 1});
    cr_expect(not(found.reply.exact)); // all pass
    cr_expect(eq(u64, found.ids[0], id_of(30)));
    found = search_for(&world, 30,
                       (struct shard_search_request){
                           .exclude_ids = excluded, .exclude_count = 1, .k = 512, .probes = 1});
    cr_expect(not(found.reply.exact));
    cr_expect(eq(sz, found.count, 512));
    cr_expect(not(has(&found, 30)));

    uint64_t only[40];
    for (size_t i = 0; i < 40; i++)
        only[i] = id_of(100 * i);
    found = search_for(&world, 3,
                       (struct shard_search_request){
                           .only_ids = only, .only_count = 40, .has_only_ids = true, .k = 64});
    cr_expect(found.reply.exact);
    cr_expect(eq(sz, found.count, 40));
    found = search_for(&world, 30, (struct shard_search_request){.any_tags = blue, .any_count = 1});
    cr_expect(found.reply.exact);
    cr_expect(eq(sz, found.count, 0));
    close_world(&world);
}
