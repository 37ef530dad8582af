// SPDX-License-Identifier: Apache-2.0
// Goal: a filtered query finds the best k of the records that pass, whatever was written, replaced,
// deleted or restarted before; dedup and fields give what they say.
//
// Method: real nodes behind inproc:// and a real coordinator; record i has the tags "m<i % 10>" and
// one of its version; a brute-force oracle over the records that pass.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/embedding.h"
#include "proto/base/half.h"
#include "proto/base/hash.h"
#include "tests/e2e/coordinator_house.h"

#define T(literal) ((struct text){literal, sizeof(literal) - 1})
#define RECORDS 300

static void ingest(struct house *house, uint32_t from, uint32_t to, const char *tag)
{
    struct api_ingest_reply reply;
    struct reason why = {0};
    struct house_ingest ingest = {.memory = "m", .from = from, .to = to, .tag = tag};
    cr_assert(eq(int, house_ingest(house, &ingest, &reply, &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(u64, reply.stored, to - from));
}

static void open_filled(struct house *house, uint32_t nodes)
{
    house_open(house, nodes, NULL);
    house_create(house, "m", false, false);
    ingest(house, 0, RECORDS, "old");
}

static uint32_t record_of(struct text key)
{
    return (uint32_t)strtoul(key.data + 1, NULL, 10);
}

static double score_of(uint32_t record, const float *query)
{
    float row[HOUSE_DIMENSION];
    double score = 0;
    house_embedding(record, 0, row);
    for (int d = 0; d < HOUSE_DIMENSION; d++)
        score += (double)query[d] * (double)half_to_float(half_from_float(row[d]));
    return score;
}

// Asks with the filter and compares with the oracle over `passes[RECORDS]`.
static void expect_found(struct house *house, const struct api_filter *filter, const bool *passes)
{
    uint64_t candidates = 0;
    for (uint32_t i = 0; i < RECORDS; i++)
        candidates += passes[i];
    for (uint32_t record = 0; record < RECORDS; record += 97) {
        float embedding[HOUSE_DIMENSION];
        struct api_query_request question = house_question(record, embedding);
        question.options.filter = *filter;
        struct api_answer answer;
        struct reason why = {0};
        cr_assert(eq(int, house_query(house, API_SEARCH, &question, &answer, &why), STATUS_OK),
                  "%s", why.text);
        cr_expect(eq(u64, answer.records, candidates));
        size_t want = candidates < 10 ? (size_t)candidates : 10;
        cr_assert(eq(sz, answer.neighbours.count, want));
        cr_assert(eq(int, embedding_normalise(embedding, HOUSE_DIMENSION), STATUS_OK));

        // No record that passes and is not there is better than the worst that is.
        bool there[RECORDS] = {0};
        double worst = want > 0 ? 2 : -2;
        for (size_t i = 0; i < want; i++) {
            uint32_t found = record_of(answer.neighbours.keys[i]);
            cr_assert(found < RECORDS && passes[found] && !there[found], "record %u", found);
            there[found] = true;
            double score = score_of(found, embedding);
            cr_expect(epsilon_eq(dbl, answer.neighbours.scores[i], score, 1e-6));
            worst = score < worst ? score : worst;
        }
        for (uint32_t i = 0; i < RECORDS; i++)
            if (passes[i] && !there[i] && want == 10)
                cr_expect(score_of(i, embedding) <= worst + 1e-6, "record %u", i);
    }
}

Test(filter, finds_the_best_k_that_pass_for_every_kind_and_number_of_nodes)
{
    static const struct text m3[] = {T("m3")};
    static const struct text m3_old[] = {T("m3"), T("old"), T("m3")};
    static const struct text several[] = {T("m1"), T("m7"), T("nobody")};
    static const struct text impossible[] = {T("m1"), T("m2")};
    for (uint32_t nodes = 1; nodes <= 3; nodes += 2) {
        struct house house;
        bool passes[RECORDS];
        open_filled(&house, nodes);
        for (uint32_t i = 0; i < RECORDS; i++)
            passes[i] = i % 10 == 3;
        expect_found(&house, &(struct api_filter){.all_tags = m3, .all_count = 1}, passes);
        expect_found(&house, &(struct api_filter){.all_tags = m3_old, .all_count = 3}, passes);
        for (uint32_t i = 0; i < RECORDS; i++)
            passes[i] = i % 10 == 1 || i % 10 == 7;
        expect_found(&house, &(struct api_filter){.any_tags = several, .any_count = 3}, passes);
        for (uint32_t i = 0; i < RECORDS; i++)
            passes[i] = i % 10 != 1 && i % 10 != 7;
        expect_found(&house, &(struct api_filter){.no_tags = several, .no_count = 3}, passes);
        for (uint32_t i = 0; i < RECORDS; i++)
            passes[i] = i % 10 == 3 && (i == 13 || i == 33);
        static const struct text keys[] = {T("k13"), T("k14"), T("nobody"), T("k33")};
        const uint64_t ids[] = {hash_id("k33", 3), hash_id("k13", 3), 4711};
        struct api_filter both = {.all_tags = m3, .all_count = 1, .keys = keys, .key_count = 4};
        expect_found(&house, &both, passes);
        both.ids = ids; // the same records again, by number
        both.id_count = 3;
        expect_found(&house, &both, passes);
        memset(passes, 0, sizeof(passes));
        expect_found(&house, &(struct api_filter){.all_tags = impossible, .all_count = 2}, passes);
        expect_found(&house, &(struct api_filter){.only_listed = true}, passes);
        house_close(&house);
    }
}

static void delete_one(struct house *house, const char *key)
{
    const struct text keys[] = {text_of(key)};
    struct api_delete_request request = {.memory = T("m"), .keys = keys, .key_count = 1};
    struct buffer message = {0};
    struct bytes reply;
    cr_assert(eq(int, api_encode_delete_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, house_call(house, API_MEMORY_DELETE, &message, &reply, NULL), STATUS_OK));
}

Test(filter, follows_what_is_replaced_and_deleted_also_after_a_restart)
{
    static const struct text old[] = {T("old")};
    static const struct text new[] = {T("new")};
    static const struct text m4[] = {T("m4")};
    struct house house;
    bool is_old[RECORDS];
    bool is_new[RECORDS];
    bool is_m4[RECORDS];
    open_filled(&house, 2);
    ingest(&house, 100, 200, "new"); // replaced
    ingest(&house, 200, 250, NULL);  // replaced by ones without tags
    delete_one(&house, "k14");
    delete_one(&house, "k104");
    for (uint32_t i = 0; i < RECORDS; i++) {
        bool is_gone = i == 14 || i == 104;
        bool has_tags = !is_gone && (i < 200 || i >= 250);
        is_new[i] = has_tags && i >= 100 && i < 200;
        is_old[i] = has_tags && !is_new[i];
        is_m4[i] = has_tags && i % 10 == 4;
    }
    for (int restarts = 0; restarts < 2; restarts++) {
        expect_found(&house, &(struct api_filter){.all_tags = old, .all_count = 1}, is_old);
        expect_found(&house, &(struct api_filter){.all_tags = new, .all_count = 1}, is_new);
        expect_found(&house, &(struct api_filter){.any_tags = m4, .any_count = 1}, is_m4);
        house_restart(&house);
    }
    house_close(&house);
}

Test(filter, holds_for_a_memory_that_was_built_in_bulk)
{
    static const struct text m8[] = {T("m8")};
    struct house house;
    bool passes[RECORDS];
    house_open(&house, 2, NULL);
    house_create(&house, "m", true, false);
    struct api_ingest_reply reply;
    struct house_ingest build = {.memory = "m", .to = RECORDS, .finish = true, .tag = "bulk"};
    cr_assert(eq(int, house_ingest(&house, &build, &reply, NULL), STATUS_OK));
    for (uint32_t i = 0; i < RECORDS; i++)
        passes[i] = i % 10 == 8;
    for (int restarts = 0; restarts < 2; restarts++) {
        expect_found(&house, &(struct api_filter){.all_tags = m8, .all_count = 1}, passes);
        house_restart(&house);
    }
    house_close(&house);
}

Test(filter, holds_for_refinements)
{
    static const struct text m5[] = {T("m5")};
    struct house house;
    open_filled(&house, 2);
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(7, embedding);
    struct api_answer all;
    struct api_answer some;
    cr_assert(eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &all, NULL), STATUS_OK));
    question.options.filter = (struct api_filter){.all_tags = m5, .all_count = 1};
    cr_assert(
        eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &some, NULL), STATUS_OK));
    cr_expect(not(house_same(&all, &some)));
    for (size_t i = 0; i < some.neighbours.count; i++)
        cr_expect(eq(u32, record_of(some.neighbours.keys[i]) % 10, 5));
    // Nothing passes: plain CLIP, and it says so.
    question.options.filter = (struct api_filter){.only_listed = true};
    cr_assert(
        eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &some, NULL), STATUS_OK));
    cr_expect(eq(flt, some.gate, 0));
    cr_expect(eq(sz, some.neighbours.count, 0));
    cr_expect(strstr(some.gate_reason.data, "no neighbour") != NULL, "%s", some.gate_reason.data);
    house_close(&house);
}

// --- dedup

static double product_of(const float *a, const float *b)
{
    double sum = 0;
    for (int d = 0; d < HOUSE_DIMENSION; d++)
        sum += (double)a[d] * (double)b[d];
    return sum;
}

Test(dedup, gives_k_neighbours_that_differ_and_the_best_of_those_alike)
{
    struct house house;
    open_filled(&house, 3); // forty directions: seven records are alike
    for (uint32_t record = 0; record < 40; record += 13) {
        float embedding[HOUSE_DIMENSION];
        struct api_query_request question = house_question(record, embedding);
        struct api_answer plain;
        struct api_answer answer;
        question.options.fields = API_FIELDS_ALL;
        cr_assert(eq(int, house_query(&house, API_SEARCH, &question, &plain, NULL), STATUS_OK));
        question.options.dedup = 0.7f;
        cr_assert(eq(int, house_query(&house, API_SEARCH, &question, &answer, NULL), STATUS_OK));
        const struct api_neighbours *found = &answer.neighbours;
        cr_assert(eq(sz, found->count, 10));
        cr_expect(eq(sz, answer.degraded_count, 0));
        cr_expect(eq(u64, found->ids[0], plain.neighbours.ids[0]));
        cr_expect(ne(u64, found->ids[1], plain.neighbours.ids[1])); // was like the first
        for (size_t i = 0; i < found->count; i++)
            for (size_t j = 0; j < i; j++)
                cr_expect(product_of(found->image_embeddings + i * HOUSE_DIMENSION,
                                     found->image_embeddings + j * HOUSE_DIMENSION) < 0.7,
                          "%zu and %zu", i, j);
    }
    house_close(&house);
}

Test(dedup, says_when_the_candidates_were_too_few)
{
    struct house house;
    open_filled(&house, 2);
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(3, embedding);
    question.options.k = 40; // 224 candidates of some 40 directions
    question.options.dedup = 0.5f;
    struct api_answer answer;
    cr_assert(
        eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &answer, NULL), STATUS_OK));
    cr_assert(answer.neighbours.count < 40);
    cr_assert(eq(sz, answer.degraded_count, 1));
    cr_expect(strstr(answer.degraded[0].data, "dedup 0.500") != NULL, "%s",
              answer.degraded[0].data);
    cr_expect(strstr(answer.gate_reason.data, "alike") != NULL, "%s", answer.gate_reason.data);

    const float bad[] = {0.49f, 1.01f, -0.5f, NAN};
    for (size_t i = 0; i < 4; i++) {
        struct reason why = {0};
        question.options.dedup = bad[i];
        cr_expect(
            eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_INVALID));
        cr_expect(eq(str, why.field, (char *)"options.dedup"));
    }
    house_close(&house);
}

// --- fields

Test(fields, are_those_that_were_asked_for)
{
    struct house house;
    open_filled(&house, 2);
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(3, embedding);
    struct api_answer answer;
    question.options.fields = API_FIELDS_ALL;
    cr_assert(eq(int, house_query(&house, API_SEARCH, &question, &answer, NULL), STATUS_OK));
    const struct api_neighbours *found = &answer.neighbours;
    cr_assert(eq(sz, found->count, 10));
    cr_assert(eq(sz, found->dimension, HOUSE_DIMENSION));
    for (size_t i = 0; i < found->count; i++) {
        uint32_t record = record_of(found->keys[i]);
        float row[HOUSE_DIMENSION];
        char tag[8];
        (void)snprintf(tag, sizeof(tag), "m%u", record % 10);
        cr_assert(eq(sz, found->tags[i].count, 2));
        cr_expect(text_equal(found->tags[i].tags[0], text_of(tag)));
        for (uint32_t side = 0; side < 2; side++) {
            const float *rows = side == 0 ? found->image_embeddings : found->text_embeddings;
            house_embedding(record, side, row);
            for (int d = 0; d < HOUSE_DIMENSION; d++)
                cr_expect(
                    eq(flt, rows[i * HOUSE_DIMENSION + d], half_to_float(half_from_float(row[d]))));
        }
    }
    question.options.fields = 1u << API_FIELD_NONE;
    cr_assert(eq(int, house_query(&house, API_SEARCH, &question, &answer, NULL), STATUS_OK));
    cr_expect(eq(sz, answer.neighbours.count, 10));
    cr_expect(eq(ptr, (void *)answer.neighbours.keys, NULL));
    cr_expect(eq(ptr, (void *)answer.neighbours.tags, NULL));
    question.options.fields = 1u << API_FIELD_TAGS;
    cr_assert(eq(int, house_query(&house, API_SEARCH, &question, &answer, NULL), STATUS_OK));
    cr_expect(eq(ptr, (void *)answer.neighbours.keys, NULL));
    cr_expect(ne(ptr, (void *)answer.neighbours.tags, NULL));
    house_close(&house);
}

// --- weighted parts

Test(parts, ask_with_the_normalised_sum)
{
    struct house house;
    open_filled(&house, 3);
    static float rows[3][HOUSE_DIMENSION];
    static const float weights[] = {0.7f, 2, -0.3f};
    struct api_query_part parts[3];
    double sum[HOUSE_DIMENSION] = {0};
    for (uint32_t i = 0; i < 3; i++) {
        house_embedding(40 * i + i, 0, rows[i]);
        for (int d = 0; d < HOUSE_DIMENSION; d++)
            sum[d] += (double)weights[i] * (double)rows[i][d];
        parts[i] = (struct api_query_part){.input = API_INPUT_EMBEDDING,
                                           .embedding = rows[i],
                                           .embedding_count = HOUSE_DIMENSION,
                                           .weight = weights[i]};
    }
    float wanted[HOUSE_DIMENSION];
    for (int d = 0; d < HOUSE_DIMENSION; d++)
        wanted[d] = (float)sum[d];
    struct api_query_request by_parts = {.input = API_INPUT_PARTS,
                                         .parts = parts,
                                         .part_count = 3,
                                         .options = {.memory = T("m"), .k = 20}};
    struct api_query_request by_sum = {.input = API_INPUT_EMBEDDING,
                                       .embedding = wanted,
                                       .embedding_count = HOUSE_DIMENSION,
                                       .options = {.memory = T("m"), .k = 20}};
    struct api_answer a;
    struct api_answer b;
    cr_assert(eq(int, house_query(&house, API_SEARCH, &by_parts, &a, NULL), STATUS_OK));
    cr_assert(eq(int, house_query(&house, API_SEARCH, &by_sum, &b, NULL), STATUS_OK));
    cr_assert(eq(sz, a.neighbours.count, 20));
    for (size_t i = 0; i < 20; i++) {
        cr_expect(eq(u64, a.neighbours.ids[i], b.neighbours.ids[i]));
        cr_expect(epsilon_eq(flt, a.neighbours.scores[i], b.neighbours.scores[i], 1e-5f));
    }

    // All texts: texts are searched. One image among them: images are.
    for (int i = 0; i < 3; i++)
        parts[i].embedding_modality = API_MODALITY_TEXT;
    cr_assert(eq(int, house_query(&house, API_SEARCH, &by_parts, &b, NULL), STATUS_OK));
    cr_expect(not(house_same(&a, &b)));
    parts[2].embedding_modality = API_MODALITY_IMAGE;
    cr_assert(eq(int, house_query(&house, API_SEARCH, &by_parts, &b, NULL), STATUS_OK));
    cr_expect(house_same(&a, &b));
    house_close(&house);
}

Test(parts, that_cancel_out_or_do_not_fit_are_refused_by_name)
{
    struct house house;
    open_filled(&house, 1);
    static float row[HOUSE_DIMENSION];
    static const float zero[HOUSE_DIMENSION];
    house_embedding(5, 0, row);
    struct api_query_part parts[2] = {{.input = API_INPUT_EMBEDDING,
                                       .embedding = row,
                                       .embedding_count = HOUSE_DIMENSION,
                                       .weight = 2},
                                      {.input = API_INPUT_EMBEDDING,
                                       .embedding = row,
                                       .embedding_count = HOUSE_DIMENSION,
                                       .weight = -2}};
    struct api_query_request question = {.input = API_INPUT_PARTS,
                                         .parts = parts,
                                         .part_count = 2,
                                         .options = {.memory = T("m"), .k = 1}};
    struct api_answer answer;
    struct reason why = {0};
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_INVALID));
    cr_expect(eq(str, why.field, (char *)"parts"));
    cr_expect(strstr(why.text, "cancel out") != NULL, "%s", why.text);
    parts[1].embedding_count = HOUSE_DIMENSION - 1;
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_INVALID));
    cr_expect(eq(str, why.field, (char *)"parts[1].embedding"));
    parts[1].embedding_count = HOUSE_DIMENSION;
    parts[1].embedding = zero;
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_INVALID));
    cr_expect(eq(str, why.field, (char *)"parts[1].embedding"));
    parts[1] = (struct api_query_part){.input = API_INPUT_TEXT, .text = T("x"), .weight = 1};
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why),
                 STATUS_FAILED_PRECONDITION)); // arrays are in another space than the model's
    parts[1] = parts[0];
    cr_expect(eq(int, house_query(&house, API_SEARCH, &question, &answer, &why), STATUS_OK));
    house_close(&house);
}
