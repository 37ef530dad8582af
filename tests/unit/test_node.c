// SPDX-License-Identifier: Apache-2.0
// Goal: a node answers over the bus what the messages promise, exactly, also after a restart, and
// bad requests cost only themselves.
//
// Method: a node and a dealer in one process (inproc); answers against a sort of all records;
// bodies of random bytes and of real ones with bytes changed.

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/log.h"
#include "proto/base/neighbour.h"
#include "shard_node/distance.h"
#include "tests/unit/node_fixture.h"

TestSuite(node, .init = make_directory, .fini = remove_directory);

// --- search

struct search {
    enum modality modality;
    size_t queries;
    uint32_t k;
    bool payload;
    const uint64_t *exclude;
    size_t exclude_count;
};

static void fill_query(size_t query, float *values)
{
    uint16_t rows[2 * DIMENSION];
    fill_rows(5000 + query, 77, rows);
    half_to_floats(rows, values, DIMENSION);
}

static struct answer ask_search(struct world *world, const struct search *search,
                                uint32_t generation)
{
    float *rows = calloc(search->queries * DIMENSION, sizeof(*rows));
    for (size_t q = 0; q < search->queries; q++)
        fill_query(q, rows + q * DIMENSION);
    const struct shard_search_request request = {.generation = generation,
                                                 .modality = search->modality,
                                                 .dimension = DIMENSION,
                                                 .row_count = (uint32_t)search->queries,
                                                 .k = search->k,
                                                 .want_payload = search->payload,
                                                 .exclude_ids = search->exclude,
                                                 .exclude_count = search->exclude_count};
    struct buffer body = {0};
    cr_assert(eq(int, shard_encode_search_request(&request, &body), STATUS_OK));
    struct answer answer =
        ask(world, SHARD_SEARCH, &body, rows, search->queries * DIMENSION * sizeof(*rows));
    free(rows);
    return answer;
}

static int compare(const void *a, const void *b)
{
    const struct neighbour x = *(const struct neighbour *)a;
    const struct neighbour y = *(const struct neighbour *)b;
    return neighbour_ahead(x, y) ? -1 : neighbour_ahead(y, x) ? 1 : 0;
}

struct expected {
    const uint32_t *versions; // [count]; 0: the record is not there
    size_t count;
};

static bool is_excluded(const struct search *search, uint64_t id)
{
    for (size_t i = 0; i < search->exclude_count; i++) {
        if (search->exclude[i] == id)
            return true;
    }
    return false;
}

static size_t sort_all(const struct expected *expected, const struct search *search, size_t query,
                       struct neighbour *all)
{
    float values[DIMENSION];
    fill_query(query, values);
    size_t count = 0;
    for (uint64_t number = 0; number < expected->count; number++) {
        if (expected->versions[number] == 0 || is_excluded(search, id_of(number)))
            continue;
        uint16_t rows[2 * DIMENSION];
        fill_rows(number, expected->versions[number], rows);
        const struct distance_block block = {
            .queries = values,
            .query_count = 1,
            .rows = rows + (search->modality == MODALITY_TEXT ? DIMENSION : 0),
            .row_count = 1,
            .dimension = DIMENSION};
        all[count].id = id_of(number);
        distance_scores(CPU_SCALAR, &block, &all[count].score);
        count++;
    }
    qsort(all, count, sizeof(*all), compare);
    return count;
}

static void expect_payload(const struct expected *expected, const struct search *search,
                           uint64_t id, float pair_score, const uint16_t *payload)
{
    uint64_t number = 0;
    while (number < expected->count && id_of(number) != id)
        number++;
    cr_assert(lt(u64, number, expected->count));
    uint16_t rows[2 * DIMENSION];
    fill_rows(number, expected->versions[number], rows);
    const float pair = distance_pair(CPU_SCALAR, rows, rows + DIMENSION, DIMENSION);
    cr_expect(eq(flt, pair_score, pair));
    const uint16_t *other = rows + (search->modality == MODALITY_IMAGE ? DIMENSION : 0);
    if (payload)
        cr_expect(eq(int, memcmp(payload, other, DIMENSION * sizeof(*other)), 0));
}

static void expect_search(struct world *world, const struct expected *expected,
                          const struct search *search)
{
    struct answer answer = ask_search(world, search, GENERATION);
    cr_assert(eq(int, answer.status, STATUS_OK), "%s", answer.text);
    struct shard_search_reply reply;
    struct reason why = {0};
    cr_assert(eq(int,
                 shard_decode_search_reply(body_of(&answer), rows_of(&answer), answer.arena, &reply,
                                           &why),
                 STATUS_OK),
              "%s", why.text);
    cr_assert(eq(sz, reply.row_count, search->queries));
    cr_expect(eq(u32, reply.vshards, VSHARDS));
    cr_expect(eq(sz, answer.rows_bytes,
                 search->payload ? reply.hit_count * DIMENSION * sizeof(uint16_t) : 0));
    struct neighbour *all = calloc(expected->count + 1, sizeof(*all));
    size_t at = 0;
    for (size_t q = 0; q < search->queries; q++) {
        const size_t count = sort_all(expected, search, q, all);
        cr_assert(eq(sz, reply.counts[q], count < search->k ? count : search->k));
        for (size_t i = 0; i < reply.counts[q]; i++, at++) {
            cr_assert(eq(u64, reply.ids[at], all[i].id), "query %zu, rank %zu", q, i);
            cr_assert(eq(flt, reply.scores[at], all[i].score));
            expect_payload(expected, search, reply.ids[at], reply.pair_scores[at],
                           reply.payload ? reply.payload + at * DIMENSION : NULL);
        }
    }
    free(all);
    end_answer(&answer);
}

Test(node, searches_exactly_what_was_written_replaced_and_deleted)
{
    struct world world = open_world(2);
    create(&world, GENERATION);
    static uint32_t versions[900];
    struct shard_write_reply reply = write_records(&world, SHARD_WRITE, 0, 600, 1);
    cr_expect(eq(u64, reply.stored, 600));
    cr_expect(eq(u64, reply.sequence, 600));
    reply = write_records(&world, SHARD_WRITE, 500, 400, 2);
    cr_expect(eq(u64, reply.duplicates, 100));
    const uint64_t gone[] = {id_of(3), id_of(700), id_of(5000)};
    const uint32_t flags[] = {1, 1, 0};
    expect_flags(&world, SHARD_DELETE, gone, 3, flags);
    for (size_t i = 0; i < 900; i++)
        versions[i] = i < 500 ? 1 : 2;
    versions[3] = 0;
    versions[700] = 0;
    const struct expected expected = {versions, 900};
    const uint64_t exclude[] = {id_of(10), id_of(11), id_of(899), id_of(4000)};
    const struct search searches[] = {
        {MODALITY_IMAGE, 1, 1, false, NULL, 0},     {MODALITY_TEXT, 1, 10, true, NULL, 0},
        {MODALITY_IMAGE, 9, 28, true, exclude, 4},  {MODALITY_TEXT, 33, 5, false, exclude, 4},
        {MODALITY_IMAGE, 2, 512, true, exclude, 1},
    };
    for (int round = 0; round < 2; round++) {
        for (size_t s = 0; s < sizeof(searches) / sizeof(searches[0]); s++)
            expect_search(&world, &expected, &searches[s]);
        close_world(&world);
        world = open_world(round == 0 ? 1 : 3);
    }
    close_world(&world);
}

Test(node, an_empty_generation_has_no_hits_and_an_unknown_one_is_named)
{
    struct world world = open_world(1);
    create(&world, GENERATION);
    const struct expected none = {NULL, 0};
    const struct search search = {MODALITY_IMAGE, 3, 10, true, NULL, 0};
    expect_search(&world, &none, &search);
    struct answer answer = ask_search(&world, &search, GENERATION + 1);
    cr_expect(eq(int, answer.status, STATUS_NOT_FOUND));
    cr_expect(ne(ptr, strstr(answer.text, "generation 13"), NULL), "%s", answer.text);
    end_answer(&answer);
    close_world(&world);
}

Test(node, a_search_of_another_dimension_is_refused_naming_both)
{
    struct world world = open_world(1);
    create(&world, GENERATION);
    float row[DIMENSION / 2] = {0};
    const struct shard_search_request request = {
        .generation = GENERATION, .dimension = DIMENSION / 2, .row_count = 1, .k = 1};
    struct buffer body = {0};
    cr_assert(eq(int, shard_encode_search_request(&request, &body), STATUS_OK));
    struct answer answer = ask(&world, SHARD_SEARCH, &body, row, sizeof(row));
    cr_expect(eq(int, answer.status, STATUS_INVALID));
    cr_expect(ne(ptr, strstr(answer.text, "dimension: 20; generation 12 has 40"), NULL), "%s",
              answer.text);
    end_answer(&answer);

    float huge[DIMENSION] = {1e30f};
    const struct shard_search_request too_large = {
        .generation = GENERATION, .dimension = DIMENSION, .row_count = 1, .k = 1};
    cr_assert(eq(int, shard_encode_search_request(&too_large, &body), STATUS_OK));
    answer = ask(&world, SHARD_SEARCH, &body, huge, sizeof(huge));
    cr_expect(eq(int, answer.status, STATUS_INVALID));
    end_answer(&answer);
    close_world(&world);
}

Test(node, fetches_documents_and_rows_and_tells_what_is_gone)
{
    struct world world = open_world(1);
    create(&world, GENERATION);
    (void)write_records(&world, SHARD_WRITE, 0, 20, 3);
    const uint64_t ids[] = {id_of(7), id_of(400), id_of(2)};
    for (int wish = 0; wish < 8; wish++) {
        const struct shard_fetch_request request = {.generation = GENERATION,
                                                    .ids = ids,
                                                    .count = 3,
                                                    .want_documents = (wish & 1) != 0,
                                                    .want_image_rows = (wish & 2) != 0,
                                                    .want_text_rows = (wish & 4) != 0};
        struct buffer body = {0};
        cr_assert(eq(int, shard_encode_fetch_request(&request, &body), STATUS_OK));
        struct answer answer = ask(&world, SHARD_FETCH, &body, NULL, 0);
        cr_assert(eq(int, answer.status, STATUS_OK), "%s", answer.text);
        struct shard_fetch_reply reply;
        struct reason why = {0};
        cr_assert(eq(int,
                     shard_decode_fetch_reply(body_of(&answer), rows_of(&answer), answer.arena,
                                              &reply, &why),
                     STATUS_OK),
                  "%s", why.text);
        cr_assert(eq(sz, reply.count, 3));
        cr_expect(eq(u32, reply.found[0], 1));
        cr_expect(eq(u32, reply.found[1], 0));
        cr_expect(eq(u32, reply.found[2], 1));
        if (wish & 1) {
            cr_expect(text_equal(reply.keys[0], text_of("record 7")));
            cr_expect(text_equal(reply.captions[2], text_of("caption 2 version 3")));
            cr_expect(text_equal(reply.tags[2], text_of("red\x1fgreen")));
            cr_expect(eq(sz, reply.keys[1].bytes, 0));
        }
        const size_t sides = ((wish & 2) != 0) + ((wish & 4) != 0);
        cr_assert(eq(sz, answer.rows_bytes, 3 * sides * DIMENSION * 2));
        uint16_t rows[2 * DIMENSION];
        fill_rows(2, 3, rows);
        const uint16_t *from = wish & 2 ? rows : rows + DIMENSION;
        if (sides > 0) {
            const uint16_t *got = (const uint16_t *)answer.rows + 2 * sides * DIMENSION;
            cr_expect(eq(int, memcmp(got, from, sides * DIMENSION * 2), 0));
            const uint16_t zeros[2 * DIMENSION] = {0};
            cr_expect(eq(int,
                         memcmp((const uint16_t *)answer.rows + sides * DIMENSION, zeros,
                                sides * DIMENSION * 2),
                         0));
        }
        end_answer(&answer);
    }
    close_world(&world);
}

Test(node, bulk_records_are_found_after_the_commit_by_search_has_and_stats)
{
    struct world world = open_world(2);
    create(&world, GENERATION);
    static uint32_t versions[3000];
    for (uint64_t first = 0; first < 3000; first += 1000) {
        const struct shard_write_reply reply = write_records(&world, SHARD_BULK, first, 1000, 1);
        cr_expect(eq(u64, reply.stored, 1000));
    }
    for (size_t i = 0; i < 3000; i++)
        versions[i] = 1;
    const uint64_t ids[] = {id_of(0), id_of(2999), id_of(3000)};
    const uint32_t before[] = {0, 0, 0};
    const uint32_t after[] = {1, 1, 0};
    expect_flags(&world, SHARD_HAS, ids, 3, before);
    struct answer answer = ask_generation(&world, SHARD_BULK_COMMIT, GENERATION);
    cr_assert(eq(int, answer.status, STATUS_OK), "%s", answer.text);
    struct shard_write_reply reply;
    struct reason why = {0};
    cr_assert(eq(
        int,
        shard_decode_write_reply(body_of(&answer), (struct bytes){0}, answer.arena, &reply, &why),
        STATUS_OK));
    cr_expect(eq(u64, reply.stored, 3000));
    end_answer(&answer);
    for (int round = 0; round < 2; round++) {
        expect_flags(&world, SHARD_HAS, ids, 3, after);
        const struct shard_stats_reply figures = stats(&world, GENERATION);
        cr_expect(eq(u64, figures.records, 3000));
        cr_expect(eq(u32, figures.dimension, DIMENSION));
        cr_expect(ge(u64, figures.bytes, 3000 * DIMENSION * 4));
        cr_expect(ge(u64, figures.rows_bytes, 3000 * DIMENSION * 4));
        cr_expect(eq(int, figures.read_only, 0));
        cr_expect(eq(u64, stats(&world, 0).records, 3000));
        const struct expected expected = {versions, 3000};
        const struct search search = {MODALITY_TEXT, 2, 20, true, NULL, 0};
        expect_search(&world, &expected, &search);
        close_world(&world);
        world = open_world(2);
    }
    close_world(&world);
}

Test(node, a_dropped_generation_is_gone_and_its_records_are_counted)
{
    struct world world = open_world(1);
    create(&world, GENERATION);
    create(&world, GENERATION + 1);
    (void)write_records(&world, SHARD_WRITE, 0, 30, 1);
    struct answer answer = ask_generation(&world, SHARD_DROP, GENERATION);
    cr_assert(eq(int, answer.status, STATUS_OK), "%s", answer.text);
    struct shard_stats_reply reply;
    struct reason why = {0};
    cr_assert(eq(
        int,
        shard_decode_stats_reply(body_of(&answer), (struct bytes){0}, answer.arena, &reply, &why),
        STATUS_OK));
    cr_expect(eq(u64, reply.records, 30));
    end_answer(&answer);
    for (int round = 0; round < 2; round++) {
        static const enum shard_type types[] = {SHARD_STATS, SHARD_BULK_COMMIT};
        for (size_t i = 0; i < 2; i++) {
            answer = ask_generation(&world, types[i], GENERATION);
            cr_expect(eq(int, answer.status, STATUS_NOT_FOUND));
            end_answer(&answer);
        }
        struct buffer body = create_body(GENERATION);
        answer = ask(&world, SHARD_CREATE, &body, NULL, 0);
        cr_expect(eq(int, answer.status, STATUS_FAILED_PRECONDITION));
        end_answer(&answer);
        cr_expect(eq(u64, stats(&world, GENERATION + 1).records, 0));
        close_world(&world);
        world = open_world(1);
    }
    close_world(&world);
}

// Many writes at once, so that they share groups; each answered, all there.
struct counted {
    int answers;
    int failures;
};

static void count_answer(void *context, const struct dealer_reply *reply)
{
    struct counted *counted = context;
    counted->answers++;
    counted->failures += reply->status != STATUS_OK;
}

Test(node, writes_that_wait_together_are_all_there)
{
    struct world world = open_world(1);
    create(&world, GENERATION);
    struct counted counted = {0};
    uint16_t rows[2 * DIMENSION];
    for (uint64_t number = 0; number < 300; number++) {
        struct buffer body = write_body(number, 1, 1, rows);
        struct dealer_request request = {.done = count_answer, .context = &counted};
        send_request(&world, number % 2 ? DEALER_BULK : DEALER_QUERY, SHARD_WRITE, &body,
                     (struct bytes){(const uint8_t *)rows, sizeof(rows)}, &request);
    }
    while (counted.answers < 300)
        cr_assert(
            eq(int, dealer_poll(world.dealer, NULL, 0, clock_deadline_in_us(1000000)), STATUS_OK));
    cr_expect(eq(int, counted.failures, 0));
    cr_expect(eq(u64, stats(&world, GENERATION).records, 300));
    close_world(&world);
}

Test(node, hostile_bodies_cost_only_themselves)
{
    log_set_level(LOG_ERROR);
    struct world world = open_world(2);
    create(&world, GENERATION);
    (void)write_records(&world, SHARD_WRITE, 0, 50, 1);
    uint64_t state = 20261124;
    (void)printf("seed %" PRIu64 "\n", state);
    uint16_t rows[3 * 2 * DIMENSION];
    int refused = 0;
    for (int round = 0; round < 3000; round++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        static const enum shard_type types[] = {
            SHARD_SEARCH, SHARD_FETCH, SHARD_WRITE,       SHARD_DELETE, SHARD_HAS,    SHARD_CREATE,
            SHARD_DROP,   SHARD_STATS, SHARD_BULK_COMMIT, SHARD_BULK,   SHARD_NOTHING};
        const enum shard_type type = types[(state >> 33) % 11];
        struct buffer body = write_body(0, 3, 1, rows);
        const size_t changes = 1 + (state >> 40) % 8;
        for (size_t c = 0; c < changes; c++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            body.data[(state >> 20) % body.count] = (uint8_t)(state >> 50);
        }
        if (state >> 62 == 0)
            body.count = (state >> 30) % body.count; // cut
        struct answer answer = ask(&world, type, &body, rows, (state >> 61) % 2 ? sizeof(rows) : 0);
        refused += answer.status != STATUS_OK;
        end_answer(&answer);
    }
    cr_expect(gt(int, refused, 1000));
    // Still there, still right.
    const uint64_t ids[] = {id_of(40)};
    const uint32_t has[] = {1};
    const struct shard_stats_reply figures = stats(&world, 0);
    cr_expect(eq(int, figures.read_only, 0));
    struct answer answer = ask_ids(&world, SHARD_HAS, ids, 1);
    if (answer.status == STATUS_OK) // unless one of them happened to drop it
        expect_flags(&world, SHARD_HAS, ids, 1, has);
    end_answer(&answer);
    close_world(&world);
    world = open_world(1);
    close_world(&world);
}

Test(node, searches_on_and_says_so_when_the_disk_fails)
{
    struct world world = open_world(1);
    create(&world, GENERATION);
    (void)write_records(&world, SHARD_WRITE, 0, 50, 1);
    (void)signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {2000, RLIM_INFINITY};
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
    static uint16_t rows[100 * 2 * DIMENSION];
    for (int round = 0; round < 2; round++) {
        struct buffer body = write_body(0, 100, 2, rows);
        struct answer answer = ask(&world, SHARD_WRITE, &body, rows, sizeof(rows));
        cr_expect(eq(int, answer.status, round == 0 ? STATUS_IO : STATUS_FAILED_PRECONDITION));
        end_answer(&answer);
    }
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &none), 0));
    cr_expect(stats(&world, 0).read_only);
    struct dealer_peer_info info = {0};
    while (!info.load.read_only) { // the next PING tells
        cr_assert(
            eq(int, dealer_poll(world.dealer, NULL, 0, clock_deadline_in_us(100000)), STATUS_OK));
        dealer_peer_info(world.dealer, world.peer, &info);
    }
    static uint32_t versions[50];
    for (size_t i = 0; i < 50; i++)
        versions[i] = 1;
    const struct expected expected = {versions, 50};
    const struct search search = {MODALITY_IMAGE, 2, 10, true, NULL, 0};
    expect_search(&world, &expected, &search);
    close_world(&world);

    world = open_world(1);
    cr_expect(eq(int, stats(&world, 0).read_only, 0));
    expect_search(&world, &expected, &search);
    (void)write_records(&world, SHARD_WRITE, 0, 50, 1);
    close_world(&world);
}

Test(node, stops_while_requests_wait)
{
    for (int round = 0; round < 5; round++) {
        struct world world = open_world(1);
        create(&world, GENERATION);
        (void)write_records(&world, SHARD_WRITE, 0, 1000, 1);
        struct counted counted = {0};
        float *query = calloc(64 * DIMENSION, sizeof(*query));
        for (int i = 0; i < 50; i++) {
            const struct shard_search_request asked = {.generation = GENERATION,
                                                       .dimension = DIMENSION,
                                                       .row_count = 64,
                                                       .k = 100,
                                                       .want_payload = true};
            struct buffer body = {0};
            cr_assert(eq(int, shard_encode_search_request(&asked, &body), STATUS_OK));
            struct dealer_request request = {.done = count_answer, .context = &counted};
            send_request(&world, DEALER_QUERY, SHARD_SEARCH, &body,
                         (struct bytes){(const uint8_t *)query, 64 * DIMENSION * sizeof(*query)},
                         &request);
        }
        free(query);
        while (counted.answers < round * 10) // some rounds with some answered
            cr_assert(eq(int, dealer_poll(world.dealer, NULL, 0, clock_deadline_in_us(1000000)),
                         STATUS_OK));
        node_stop(&world.node);
        cr_expect(eq(ptr, world.node, NULL));
        close_world(&world);
    }
}
