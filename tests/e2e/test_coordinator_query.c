// SPDX-License-Identifier: Apache-2.0
// Goal: searching and refining give the one right answer, whatever the number of nodes; what is
// missing is named; what cannot be answered is refused with the reason.
//
// Method: real nodes behind inproc:// and a real coordinator, asked with coordinator_call();
// records of known embeddings, a brute-force oracle.

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/embedding.h"
#include "proto/base/half.h"
#include "proto/base/hash.h"
#include "proto/base/thread.h"
#include "shaders/models/fusion.h"
#include "tests/e2e/coordinator_house.h"

#define RECORDS 400

static const enum api_method both[] = {API_SEARCH, API_REFINE_EMBEDDING};

// A small generator: the same numbers in every run.
static uint32_t random_u32(void)
{
    static uint64_t state = 20261124;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static bool degraded_says(const struct api_answer *answer, const char *words)
{
    for (size_t i = 0; i < answer->degraded_count; i++)
        if (strstr(answer->degraded[i].data, words))
            return true;
    return false;
}

// --- the right answer

Test(query, the_same_bits_for_1_2_3_4_and_8_nodes)
{
    static const uint32_t counts[] = {1, 2, 3, 4, 8};
    static const enum api_fusion fusions[] = {API_FUSION_WEIGHTED, API_FUSION_MEAN,
                                              API_FUSION_NONE};
    static struct house houses[5];
    for (int i = 0; i < 5; i++) {
        house_open(&houses[i], counts[i], NULL);
        house_fill(&houses[i], "m", RECORDS);
    }
    for (uint32_t record = 0; record < 20; record++) {
        float embedding[HOUSE_DIMENSION];
        struct api_query_request question = house_question(record * 17, embedding);
        question.options.fusion = fusions[record % 3];
        question.options.k = 1 + record * 13;
        question.options.over = record % 4 == 3 ? API_MODALITY_TEXT : API_MODALITY_DEFAULT;
        for (size_t m = 0; m < 2; m++) {
            const enum api_method method = both[m];
            struct api_answer first;
            cr_assert(eq(int, house_query(&houses[0], method, &question, &first, NULL), STATUS_OK));
            cr_expect(eq(u64, first.records, RECORDS));
            cr_expect(eq(flt, first.coverage, 1));
            cr_expect(eq(sz, first.degraded_count, 0));
            for (int i = 1; i < 5; i++) {
                struct api_answer other;
                cr_assert(
                    eq(int, house_query(&houses[i], method, &question, &other, NULL), STATUS_OK));
                cr_expect(house_same(&first, &other), "record %u, %u nodes", record, counts[i]);
            }
        }
    }
    for (int i = 0; i < 5; i++)
        house_close(&houses[i]);
}

struct ranked {
    uint32_t record;
    double score;
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *left = a;
    const struct ranked *right = b;
    return left->score > right->score ? -1 : left->score < right->score;
}

Test(query, finds_what_brute_force_finds)
{
    struct house house;
    house_open(&house, 3, NULL);
    house_fill(&house, "m", RECORDS);
    for (uint32_t record = 0; record < 10; record++) {
        float embedding[HOUSE_DIMENSION];
        struct api_query_request question = house_question(record * 31, embedding);
        struct api_answer answer;
        cr_assert(eq(int, house_query(&house, API_SEARCH, &question, &answer, NULL), STATUS_OK));
        cr_assert(eq(sz, answer.neighbours.count, 10));

        static struct ranked all[RECORDS];
        cr_assert(eq(int, embedding_normalise(embedding, HOUSE_DIMENSION), STATUS_OK));
        for (uint32_t i = 0; i < RECORDS; i++) {
            float row[HOUSE_DIMENSION];
            house_embedding(i, 0, row);
            all[i] = (struct ranked){i, 0};
            for (int d = 0; d < HOUSE_DIMENSION; d++)
                all[i].score +=
                    (double)embedding[d] * (double)half_to_float(half_from_float(row[d]));
        }
        qsort(all, RECORDS, sizeof(all[0]), compare_ranked);
        for (int i = 0; i < 10; i++) {
            char key[16];
            (void)snprintf(key, sizeof(key), "k%u", all[i].record);
            cr_expect(text_equal(answer.neighbours.keys[i], text_of(key)));
            cr_expect(eq(u64, answer.neighbours.ids[i], hash_id(key, strlen(key))));
            cr_expect(epsilon_eq(dbl, answer.neighbours.scores[i], all[i].score, 1e-6));
        }
    }
    house_close(&house);
}

Test(query, refines_as_the_formula_says)
{
    struct house house;
    house_open(&house, 2, NULL);
    house_fill(&house, "m", RECORDS);
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(5, embedding);
    struct api_answer answer;
    cr_assert(
        eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &answer, NULL), STATUS_OK));
    cr_assert(eq(sz, answer.neighbours.count, 10));
    cr_assert(eq(sz, answer.embedding_count, HOUSE_DIMENSION));

    // The neighbours' texts, as the nodes keep them.
    static float rows[10][HOUSE_DIMENSION];
    const float *payload[10];
    for (size_t i = 0; i < 10; i++) {
        house_embedding((uint32_t)atoi(answer.neighbours.keys[i].data + 1), 1, rows[i]);
        for (int d = 0; d < HOUSE_DIMENSION; d++)
            rows[i][d] = half_to_float(half_from_float(rows[i][d]));
        payload[i] = rows[i];
    }
    struct fusion_params params = {.mode = FUSION_WEIGHTED, .beta = 2, .temperature = 20};
    struct fusion_neighbours neighbours = {10, answer.neighbours.scores, payload, NULL};
    float expected[HOUSE_DIMENSION];
    cr_assert(eq(int, embedding_normalise(embedding, HOUSE_DIMENSION), STATUS_OK));
    cr_assert(eq(int,
                 fusion_refine(&params, embedding, HOUSE_DIMENSION, &neighbours,
                               (double)answer.neighbours.scores[0], expected),
                 STATUS_OK));
    cr_expect(eq(flt, answer.gate, answer.neighbours.scores[0]));
    cr_expect(eq(int, memcmp(expected, answer.embedding, sizeof(expected)), 0));
    float sum = 0;
    for (size_t i = 0; i < 10; i++)
        sum += answer.neighbours.weights[i];
    cr_expect(epsilon_eq(flt, sum, 1, 1e-5f));
    house_close(&house);
}

Test(query, a_gate_of_0_gives_the_querys_own_bits)
{
    struct house house;
    house_open(&house, 2, NULL);
    house_fill(&house, "m", RECORDS);
    for (int i = 0; i < 3; i++) {
        float embedding[HOUSE_DIMENSION];
        struct api_query_request question = house_question(9, embedding);
        struct api_answer answer;
        if (i == 0)
            question.options.min_similarity = 0.9999f;
        else if (i == 1)
            question.options.fusion = API_FUSION_NONE;
        else
            question.options.min_similarity = 1; // floor and ceiling of the gate in one place
        cr_assert(eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &answer, NULL),
                     STATUS_OK));
        cr_assert(eq(int, embedding_normalise(embedding, HOUSE_DIMENSION), STATUS_OK));
        cr_expect(eq(int, memcmp(embedding, answer.embedding, sizeof(embedding)), 0));
        cr_expect(eq(flt, answer.gate, 0));
        cr_expect(ne(ptr, strstr(answer.gate_reason.data, "plain CLIP"), NULL));
        cr_expect(eq(sz, answer.neighbours.count, i == 1 ? 10 : 0));
    }
    house_close(&house);
}

Test(query, leaves_out_what_it_is_told_to)
{
    struct house house;
    house_open(&house, 3, NULL);
    house_fill(&house, "m", RECORDS);
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(7, embedding);
    struct api_answer all;
    struct api_answer rest;
    cr_assert(eq(int, house_query(&house, API_SEARCH, &question, &all, NULL), STATUS_OK));
    struct text out[] = {all.neighbours.keys[0], all.neighbours.keys[2]};
    question.options.exclude_keys = out;
    question.options.exclude_count = 2;
    cr_assert(eq(int, house_query(&house, API_SEARCH, &question, &rest, NULL), STATUS_OK));
    cr_assert(eq(sz, rest.neighbours.count, 10));
    cr_expect(eq(u64, rest.neighbours.ids[0], all.neighbours.ids[1]));
    cr_expect(eq(u64, rest.neighbours.ids[1], all.neighbours.ids[3]));

    question.options.exclude_count = 0;
    question.options.min_similarity = all.neighbours.scores[4];
    cr_assert(eq(int, house_query(&house, API_SEARCH, &question, &rest, NULL), STATUS_OK));
    cr_expect(eq(sz, rest.neighbours.count, 5));
    question.options.min_similarity = 0;
    question.options.min_pair_similarity = 1; // no pair of random embeddings agrees
    cr_assert(eq(int, house_query(&house, API_SEARCH, &question, &rest, NULL), STATUS_OK));
    cr_expect(eq(sz, rest.neighbours.count, 0));
    house_close(&house);
}

Test(query, gives_all_there_is_when_k_is_more)
{
    struct house house;
    house_open(&house, 4, NULL);
    house_fill(&house, "m", 25);
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(7, embedding);
    struct api_answer answer;
    question.options.k = 256;
    cr_assert(
        eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &answer, NULL), STATUS_OK));
    cr_expect(eq(sz, answer.neighbours.count, 25));
    house_close(&house);
}

Test(query, of_an_empty_memory_has_no_neighbours)
{
    struct house house;
    house_open(&house, 2, NULL);
    house_create(&house, "m", false, false);
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(7, embedding);
    struct api_answer answer;
    cr_assert(eq(int, house_query(&house, API_SEARCH, &question, &answer, NULL), STATUS_OK));
    cr_expect(eq(sz, answer.neighbours.count, 0));
    cr_expect(eq(flt, answer.coverage, 1));
    cr_assert(
        eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &answer, NULL), STATUS_OK));
    cr_expect(eq(flt, answer.gate, 0));
    house_close(&house);
}

Test(query, says_who_answered_and_how_long_it_took)
{
    struct house house;
    house_open(&house, 3, NULL);
    house_fill(&house, "m", RECORDS);
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(7, embedding);
    struct api_answer answer;
    cr_assert(
        eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &answer, NULL), STATUS_OK));
    cr_expect(text_equal(answer.memory, text_of("m")));
    cr_expect(text_equal(answer.space, text_of(HOUSE_SPACE)));
    cr_expect(text_equal(answer.index, text_of("exact")));
    cr_expect(answer.work.exact);
    cr_expect(eq(u32, answer.generation, 1));
    cr_expect(gt(sz, answer.request_id.bytes, 0));
    cr_expect(eq(sz, answer.timings.shard_count, 3));
    cr_expect(gt(flt, answer.timings.fanout, 0));
    cr_expect(ge(flt, answer.timings.total, answer.timings.fanout));

    struct api_query_request named = question;
    struct buffer message = {0};
    struct buffer reply = {0};
    cr_assert(eq(int, api_encode_query(API_SEARCH, &named, &message), STATUS_OK));
    struct trace trace = {.id = "my-request"};
    struct coordinator_request request = {.method = API_SEARCH,
                                          .message = {message.data, message.count},
                                          .deadline_us = DEADLINE_NONE,
                                          .trace = &trace};
    cr_assert(eq(int, coordinator_call_as(house.coordinator, &request, &reply, NULL), STATUS_OK));
    struct bytes bytes = {reply.data, reply.count};
    cr_assert(eq(int, api_decode_answer(API_SEARCH, bytes, house.arena, &answer, NULL), STATUS_OK));
    cr_expect(text_equal(answer.request_id, text_of("my-request")));
    buffer_deinit(&message);
    buffer_deinit(&reply);
    house_close(&house);
}

// --- refusals

Test(query, refuses_what_does_not_fit_the_memory)
{
    struct house house;
    house_open(&house, 2, NULL);
    house_fill(&house, "m", 10);
    float embedding[HOUSE_DIMENSION] = {0};
    struct api_query_request question = house_question(7, embedding);
    struct api_answer answer;
    struct reason why = {0};

    question.embedding_count = 5;
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_INVALID));
    cr_expect(ne(ptr, strstr(why.text, "5 values"), NULL), "%s", why.text);
    cr_expect(ne(ptr, strstr(why.text, "32"), NULL), "%s", why.text);

    question = house_question(7, embedding);
    memset(embedding, 0, sizeof(embedding));
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_INVALID));
    embedding[3] = NAN;
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_INVALID));
    embedding[3] = INFINITY;
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_INVALID));

    question = house_question(7, embedding);
    question.options.memory = text_of("nobody");
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_NOT_FOUND));
    cr_expect(ne(ptr, strstr(why.text, "nobody"), NULL));
    question.options.memory = text_of("m@7");
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_NOT_FOUND));
    question.options.memory = text_of("m/../x");
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_INVALID));

    question = house_question(7, embedding);
    question.options.index = API_INDEX_EXACT;
    question.options.nprobe = 1;
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_INVALID));
    cr_expect(eq(str, why.field, (char *)"options.nprobe"));
    question.options.nprobe = 0;
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_OK));
    question.options.k = 0;
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_INVALID));
    question.options.k = 257;
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_INVALID));
    house_close(&house);
}

Test(query, a_text_is_not_compared_with_another_space)
{
    struct house house;
    house_open(&house, 1, NULL);
    house_fill(&house, "m", 10);
    struct api_answer answer;
    struct reason why = {0};
    struct api_query_request question = {.input = API_INPUT_TEXT,
                                         .text = text_of("an owl"),
                                         .options = {.memory = text_of("m"), .k = 3}};
    cr_expect(eq(int, house_query(&house, API_REFINE_TEXT, &question, &answer, &why),
                 STATUS_FAILED_PRECONDITION));
    cr_expect(ne(ptr, strstr(why.text, HOUSE_SPACE), NULL), "%s", why.text);
    cr_expect(ne(ptr, strstr(why.text, coordinator_clip_info(house.coordinator)->space), NULL));
    house_close(&house);
}

Test(query, without_a_memory_and_fusion_is_plain_clip)
{
    struct house house;
    house_open(&house, 1, NULL);
    struct api_answer answer;
    struct reason why = {0};
    struct api_query_request question = {
        .input = API_INPUT_TEXT, .text = text_of("an owl"), .options = {.k = 3}};
    cr_expect(
        eq(int, house_query(&house, API_REFINE_TEXT, &question, &answer, &why), STATUS_NOT_FOUND));
    question.options.fusion = API_FUSION_NONE;
    cr_assert(eq(int, house_query(&house, API_REFINE_TEXT, &question, &answer, &why), STATUS_OK),
              "%s", why.text);
    cr_expect(eq(flt, answer.gate, 0));
    cr_expect(degraded_says(&answer, "no memory"));
    question.options.min_coverage = 0.5f;
    cr_expect(eq(int, house_query(&house, API_REFINE_TEXT, &question, &answer, &why),
                 STATUS_UNAVAILABLE));
    house_close(&house);
}

Test(query, bytes_that_are_no_request_are_refused)
{
    struct house house;
    house_open(&house, 1, NULL);
    house_fill(&house, "m", 10);
    for (int round = 0; round < 400; round++) {
        enum api_method method = (enum api_method)(round % API_METHOD_COUNT);
        struct buffer request = {0};
        struct bytes reply;
        struct reason why = {0};
        uint8_t noise[64];
        size_t count = (size_t)(random_u32() % 64);
        for (size_t i = 0; i < count; i++)
            noise[i] = (uint8_t)random_u32();
        cr_assert(eq(int, buffer_append(&request, noise, count), STATUS_OK));
        enum status status = house_call(&house, method, &request, &reply, &why);
        if (api_method_info(method)->client_streams || api_method_info(method)->server_streams)
            cr_expect(eq(int, status, STATUS_INVALID));
        cr_expect(ne(int, status, STATUS_INTERNAL), "%s: %s", api_method_info(method)->path,
                  why.text);
    }
    struct coordinator_stream *stream = NULL;
    cr_expect(eq(int, coordinator_stream_open(house.coordinator, API_SEARCH, &stream, NULL),
                 STATUS_INVALID));
    house_close(&house);
}

// --- nodes that are missing

Test(query, names_a_node_that_is_down_and_answers_with_the_rest)
{
    struct house house;
    house_open(&house, 4, NULL);
    house_fill(&house, "m", RECORDS);
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(7, embedding);
    struct api_answer whole;
    struct api_answer answer;
    struct reason why = {0};
    cr_assert(eq(int, house_query(&house, API_SEARCH, &question, &whole, NULL), STATUS_OK));
    house_stop_node(&house, 2);
    house_wait_down(&house, 2);

    for (size_t m = 0; m < 2; m++) {
        const enum api_method method = both[m];
        cr_assert(eq(int, house_query(&house, method, &question, &answer, &why), STATUS_OK));
        cr_expect(eq(flt, answer.coverage, 0.75f));
        cr_expect(eq(sz, answer.degraded_count, 1));
        cr_expect(degraded_says(&answer, "node 2 is down"));
        cr_expect(eq(sz, answer.neighbours.count, 10));
        cr_expect(lt(u64, answer.records, RECORDS));
    }
    question.options.min_coverage = 0.75f;
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_OK));
    question.options.min_coverage = 0.8f;
    cr_expect(
        eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_UNAVAILABLE));
    cr_expect(ne(ptr, strstr(why.text, "coverage 0.750"), NULL), "%s", why.text);
    cr_expect(ne(ptr, strstr(why.text, "node 2"), NULL), "%s", why.text);

    house_start_node(&house, 2);
    cr_assert(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_OK));
    cr_expect(house_same(&whole, &answer));
    house_close(&house);
}

Test(query, with_no_node_at_all_a_search_fails_and_a_refinement_is_plain)
{
    struct house house;
    house_open(&house, 2, NULL);
    house_fill(&house, "m", RECORDS);
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(7, embedding);
    struct api_answer answer;
    struct reason why = {0};
    for (uint32_t i = 0; i < 2; i++) {
        house_stop_node(&house, i);
        house_wait_down(&house, i);
    }
    cr_expect(
        eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_UNAVAILABLE));
    cr_expect(ne(ptr, strstr(why.text, "node 0 is down"), NULL), "%s", why.text);
    cr_assert(
        eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &answer, &why), STATUS_OK));
    cr_assert(eq(int, embedding_normalise(embedding, HOUSE_DIMENSION), STATUS_OK));
    cr_expect(eq(int, memcmp(embedding, answer.embedding, sizeof(embedding)), 0));
    cr_expect(eq(flt, answer.gate, 0));
    cr_expect(eq(flt, answer.coverage, 0));
    cr_expect(ne(ptr, strstr(answer.gate_reason.data, "plain CLIP: node 0 is down"), NULL));
    cr_expect(eq(sz, answer.degraded_count, 2));
    question.options.min_coverage = 0.01f;
    cr_expect(eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &answer, &why),
                 STATUS_UNAVAILABLE));
    cr_expect(ne(ptr, strstr(why.text, "coverage 0.000"), NULL), "%s", why.text);
    house_close(&house);
}

Test(query, a_node_that_falls_silent_costs_its_part_and_no_more_than_the_deadline)
{
    struct house house;
    house_open(&house, 2, NULL);
    house_fill(&house, "m", RECORDS);
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(7, embedding);
    struct api_answer answer;
    struct reason why = {0};
    house_stop_node(&house, 1); // nobody knows yet
    house.deadline_us = 300000;
    int64_t begun_us = clock_now_us();
    cr_assert(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_OK), "%s",
              why.text);
    cr_expect(lt(i64, clock_now_us() - begun_us, 300000));
    cr_expect(eq(flt, answer.coverage, 0.5f));
    cr_expect(degraded_says(&answer, "node 1"));
    cr_expect(eq(sz, answer.neighbours.count, 10));
    house_close(&house);
}

// --- deadlines

Test(query, too_short_a_deadline_gives_plain_clip_in_time)
{
    struct house house;
    house_open(&house, 2, NULL);
    house_fill(&house, "m", RECORDS);
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(7, embedding);
    struct api_answer answer;
    struct reason why = {0};
    house.deadline_us = 1900; // less than the margin for the answer itself
    cr_assert(
        eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &answer, &why), STATUS_OK));
    cr_assert(eq(int, embedding_normalise(embedding, HOUSE_DIMENSION), STATUS_OK));
    cr_expect(eq(int, memcmp(embedding, answer.embedding, sizeof(embedding)), 0));
    cr_expect(eq(flt, answer.gate, 0));
    cr_expect(degraded_says(&answer, "deadline"));
    cr_expect(ne(ptr, strstr(answer.gate_reason.data, "deadline"), NULL));
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_DEADLINE));
    question.options.min_coverage = 0.5f;
    cr_expect(eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &answer, &why),
                 STATUS_UNAVAILABLE));
    house_close(&house);
}

Test(query, a_deadline_too_short_to_encode_is_an_error)
{
    struct house house;
    house_open(&house, 1, NULL);
    struct api_answer answer;
    struct reason why = {0};
    struct api_query_request question = {.input = API_INPUT_TEXT,
                                         .text = text_of("an owl"),
                                         .options = {.k = 3, .fusion = API_FUSION_NONE}};
    house.deadline_us = 1;
    cr_expect(
        eq(int, house_query(&house, API_REFINE_TEXT, &question, &answer, &why), STATUS_DEADLINE));
    cr_expect(ne(ptr, strstr(why.text, "encoded"), NULL), "%s", why.text);
    house_close(&house);
}

// --- many at once

struct asker {
    struct house *house;
    struct api_answer expected;
    uint32_t number;
    int wrong;
};

static void ask_often(struct thread *self, void *context)
{
    struct asker *asker = context;
    thread_ready(self, STATUS_OK);
    for (int i = 0; i < 50; i++) {
        float embedding[HOUSE_DIMENSION];
        struct api_query_request question = house_question(asker->number, embedding);
        struct api_answer answer;
        struct buffer message = {0};
        struct buffer reply = {0};
        struct arena *arena = arena_create(1 << 24);
        if (api_encode_query(API_REFINE_EMBEDDING, &question, &message) != STATUS_OK ||
            coordinator_call(asker->house->coordinator, API_REFINE_EMBEDDING,
                             (struct bytes){message.data, message.count}, DEADLINE_NONE, &reply,
                             NULL) != STATUS_OK ||
            api_decode_answer(API_REFINE_EMBEDDING, (struct bytes){reply.data, reply.count}, arena,
                              &answer, NULL) != STATUS_OK ||
            !house_same(&answer, &asker->expected))
            asker->wrong++;
        arena_destroy(&arena);
        buffer_deinit(&message);
        buffer_deinit(&reply);
    }
}

Test(query, many_threads_get_their_own_answers)
{
    struct house house;
    struct asker askers[8];
    struct thread *threads[8] = {NULL};
    house_open(&house, 3, NULL);
    house_fill(&house, "m", RECORDS);
    for (uint32_t i = 0; i < 8; i++) {
        float embedding[HOUSE_DIMENSION];
        askers[i] = (struct asker){.house = &house, .number = i * 11};
        struct api_query_request question = house_question(askers[i].number, embedding);
        cr_assert(
            eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &askers[i].expected, NULL),
               STATUS_OK));
    }
    for (int i = 0; i < 8; i++)
        cr_assert(eq(int, thread_start("asker", ask_often, &askers[i], &threads[i]), STATUS_OK));
    for (int i = 0; i < 8; i++) {
        thread_join(&threads[i]);
        cr_expect(eq(int, askers[i].wrong, 0));
    }
    house_close(&house);
}

// --- a busy encoder

struct encoder_load {
    struct house *house;
    atomic_bool stop;
};

static void encode_on_and_on(struct thread *self, void *context)
{
    enum { COUNT = 512 };
    struct encoder_load *load = context;
    static struct text texts[COUNT];
    thread_ready(self, STATUS_OK);
    for (int i = 0; i < COUNT; i++)
        texts[i] = text_of("one two three four five six seven eight nine ten eleven twelve");
    while (!atomic_load(&load->stop)) {
        struct api_texts_request request = {.texts = texts, .count = COUNT};
        struct buffer message = {0};
        struct buffer reply = {0};
        if (api_encode_texts_request(&request, &message) == STATUS_OK)
            (void)!coordinator_call(load->house->coordinator, API_ENCODE_TEXT,
                                    (struct bytes){message.data, message.count}, DEADLINE_NONE,
                                    &reply, NULL);
        buffer_deinit(&message);
        buffer_deinit(&reply);
    }
}

Test(query, a_busy_encoder_costs_the_fusion_and_not_the_deadline)
{
    struct house house;
    struct thread *thread = NULL;
    int plain = 0;
    int late = 0;
    house_open(&house, 2, NULL);
    house_fill(&house, "m", RECORDS);
    struct encoder_load load = {.house = &house};
    cr_assert(eq(int, thread_start("load", encode_on_and_on, &load, &thread), STATUS_OK));
    for (uint32_t i = 0; i < 60; i++) {
        float embedding[HOUSE_DIMENSION];
        struct api_query_request question = house_question(i, embedding);
        struct api_answer answer;
        struct reason why = {0};
        house.deadline_us = 4000 + 500 * (i % 40);
        int64_t begun_us = clock_now_us();
        cr_assert(
            eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &answer, &why), STATUS_OK),
            "%s", why.text);
        late += clock_now_us() - begun_us > 200000; // the encoder's time, or a machine that stalls
        if (answer.gate > 0)
            continue;
        plain++;
        cr_expect(degraded_says(&answer, "deadline"));
        cr_assert(eq(int, embedding_normalise(embedding, HOUSE_DIMENSION), STATUS_OK));
        cr_expect(eq(int, memcmp(embedding, answer.embedding, sizeof(embedding)), 0));
    }
    cr_expect(gt(int, plain, 0));
    cr_expect(lt(int, late, 6)); // of 60; those that wait for the encoder would all be late
    atomic_store(&load.stop, true);
    thread_join(&thread);
    house_close(&house);
}
