// SPDX-License-Identifier: Apache-2.0
// Goal: a trained head that lies where the coordinator looks for one refines queries that leave the
// fusion to it, with the same bits for every number of nodes; where it does not fit, it is not
// used, or an error says why.
//
// Method: a memory of made-up embeddings in the embedded model's space; a head of random numbers in
// the data directory. The oracle is fusion_head_refine() on the answer's own neighbours, and for
// what a gate weighs the formulas of fusion_gate.h on what the answers tell.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "coordinator/trained_head.h"
#include "proto/base/arena.h"
#include "proto/base/embedding.h"
#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "shaders/models/fusion_gate.h"
#include "shaders/models/fusion_head.h"
#include "tests/e2e/coordinator_house.h"
#include "tests/support/random_head.h"

#define RECORDS 300
#define K 10
#define DIMENSION HOUSE_MODEL_DIMENSION

// Where the coordinator looks for it, once it knows the model's space.
static void head_path(const struct house *house, char path[512])
{
    (void)snprintf(path, 512, "%s/heads", house->root);
    (void)mkdir(path, 0700);
    const char *space = coordinator_clip_info(house->coordinator)->space;
    (void)snprintf(path, 512, "%s/heads/%.*s.safetensors", house->root, (int)strcspn(space, ":"),
                   space);
}

// A gate that always believes the memory, or never.
#define GATE(bias)                                                                                 \
    "{\"bias\":" bias ",\"nearest\":0,\"plain\":0,\"plain_spread\":0,\"refined_margin\":0,"        \
    "\"refined_spread\":0,\"labels\":0,\"known\":0,\"told_plain\":0,\"told_refined\":0}"

// `gate` NULL: without constants of a gate.
static void save_head(const struct house *house, const char *space, const char *gate)
{
    char path[512];
    struct reason why = {0};
    struct fusion_head_info info = random_head_info(DIMENSION, space);
    if (gate)
        info.gate = text_of(gate);
    float *numbers[FUSION_HEAD_SIDES];
    random_head_both(&info, 7, numbers);
    head_path(house, path);
    cr_assert(
        eq(int, fusion_head_save(path, &info, (const float *const[]){numbers[0], numbers[1]}, &why),
           STATUS_OK),
        "%s", why.text);
    mem_free(numbers[0]);
    mem_free(numbers[1]);
}

// What ListModels says of it.
static void expect_listed(struct house *house, const char *file, bool has_gate)
{
    struct buffer request = {0};
    struct bytes reply;
    struct api_model_list list;
    struct reason why = {0};
    struct arena *arena = arena_create(API_ARENA_BYTES(4096));
    cr_assert(eq(int, house_call(house, API_LIST_MODELS, &request, &reply, &why), STATUS_OK));
    cr_assert(eq(int, api_decode_model_list(reply, arena, &list, &why), STATUS_OK));
    cr_assert(eq(sz, list.count, 1));
    cr_expect(text_equal(list.models[0].head, text_of(file)), "%.*s",
              (int)list.models[0].head.bytes, list.models[0].head.data);
    cr_expect(eq(int, list.models[0].head_has_gate, has_gate));
    arena_destroy(&arena);
}

static struct api_query_request question_of(enum modality own, float embedding[DIMENSION])
{
    house_model_embedding(own == MODALITY_IMAGE ? 20 : 21, embedding);
    for (int i = 0; i < DIMENSION; i++) // a record's with some of another's
        embedding[i] += i % 3 == 0 ? 0.3F : 0;
    return (struct api_query_request){
        .input = API_INPUT_EMBEDDING,
        .embedding = embedding,
        .embedding_count = DIMENSION,
        .embedding_modality = own == MODALITY_IMAGE ? API_MODALITY_IMAGE : API_MODALITY_TEXT,
        .options = {.memory = text_of("default"), .k = K},
    };
}

// The neighbours' other side, as the nodes keep it: asked for with the answer.
static void expect_of_head(const struct house *house, enum modality own, const float *query,
                           const struct api_answer *answer)
{
    char path[512];
    struct reason why = {0};
    struct fusion_head *head = NULL;
    head_path(house, path);
    cr_assert(eq(int, fusion_head_open(path, NULL, 1, &head, &why), STATUS_OK), "%s", why.text);
    const float *payload[K];
    const float *rows = own == MODALITY_IMAGE ? answer->neighbours.text_embeddings
                                              : answer->neighbours.image_embeddings;
    cr_assert(ne(ptr, (void *)rows, NULL));
    for (size_t i = 0; i < answer->neighbours.count; i++)
        payload[i] = rows + i * DIMENSION;
    const struct fusion_params params = {.mode = FUSION_HEAD, .head = head, .modality = own};
    const struct fusion_neighbours neighbours = {answer->neighbours.count,
                                                 answer->neighbours.scores, payload, NULL};
    float unit[DIMENSION];
    float expected[DIMENSION];
    memcpy(unit, query, sizeof(unit));
    cr_assert(eq(int, embedding_normalise(unit, DIMENSION), STATUS_OK));
    cr_assert(eq(
        int, fusion_refine(&params, unit, DIMENSION, &neighbours, (double)answer->gate, expected),
        STATUS_OK));
    for (int i = 0; i < DIMENSION; i++) // the answer's gate is rounded to a float
        cr_expect(epsilon_eq(flt, answer->embedding[i], expected[i], 1e-6F));
    fusion_head_close(&head);
}

Test(head, refines_when_the_fusion_is_left_to_it)
{
    for (int own = MODALITY_IMAGE; own <= MODALITY_TEXT; own++) {
        struct api_answer answers[3];
        struct house houses[3];
        for (uint32_t h = 0; h < 3; h++) {
            float embedding[DIMENSION];
            struct api_answer weighted;
            struct reason why = {0};
            house_open(&houses[h], 1u << h, NULL);
            house_fill_model_space(&houses[h], RECORDS);
            struct api_query_request question = question_of((enum modality)own, embedding);
            question.options.fields = 1u << API_FIELD_KEY | 1u << API_FIELD_CAPTION |
                                      1u << API_FIELD_IMAGE_EMBEDDING |
                                      1u << API_FIELD_TEXT_EMBEDDING;
            struct api_answer embedded;
            cr_assert(eq(int,
                         house_query(&houses[h], API_REFINE_EMBEDDING, &question, &embedded, &why),
                         STATUS_OK),
                      "%s", why.text);
            cr_expect(eq(int, embedded.fusion, API_FUSION_HEAD)); // the one in the program
            question.options.fusion = API_FUSION_WEIGHTED;
            cr_assert(eq(int,
                         house_query(&houses[h], API_REFINE_EMBEDDING, &question, &weighted, &why),
                         STATUS_OK));
            cr_expect(
                ne(int, memcmp(embedded.embedding, weighted.embedding, sizeof(embedding)), 0));
            question.options.fusion = API_FUSION_DEFAULT;
            save_head(&houses[h], coordinator_clip_info(houses[h].coordinator)->space, NULL);
            house_restart(&houses[h]);
            cr_assert(
                eq(int, house_query(&houses[h], API_REFINE_EMBEDDING, &question, &answers[h], &why),
                   STATUS_OK),
                "%s", why.text);
            cr_expect(eq(int, answers[h].fusion, API_FUSION_HEAD));
            cr_expect(
                ne(int, memcmp(answers[h].embedding, weighted.embedding, sizeof(embedding)), 0));
            cr_expect(
                ne(int, memcmp(answers[h].embedding, embedded.embedding, sizeof(embedding)), 0));
            expect_of_head(&houses[h], (enum modality)own, embedding, &answers[h]);
            question.options.fusion = API_FUSION_WEIGHTED;
            struct api_answer again;
            cr_assert(eq(int,
                         house_query(&houses[h], API_REFINE_EMBEDDING, &question, &again, &why),
                         STATUS_OK));
            cr_expect(house_same(&weighted, &again));
        }
        cr_expect(house_same(&answers[0], &answers[1]));
        cr_expect(house_same(&answers[0], &answers[2]));
        for (uint32_t h = 0; h < 3; h++)
            house_close(&houses[h]);
    }
}

Test(head, is_used_where_it_fits_only)
{
    struct house house;
    float embedding[DIMENSION];
    struct api_answer answer;
    struct reason why = {0};
    house_open(&house, 1, NULL);
    house_fill_model_space(&house, RECORDS);
    house_fill(&house, "arrays", 50);
    struct api_query_request question = question_of(MODALITY_IMAGE, embedding);
    question.options.fusion = API_FUSION_HEAD;
    save_head(&house, coordinator_clip_info(house.coordinator)->space, NULL);
    house_restart(&house);
    cr_assert(
        eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &answer, &why), STATUS_OK));
    question.options.over = API_MODALITY_TEXT; // across
    cr_assert(eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &answer, &why),
                 STATUS_INVALID));
    cr_expect(eq(int, strcmp(why.field, "options.over"), 0));
    question.options.fusion = API_FUSION_DEFAULT;
    cr_assert(
        eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &answer, &why), STATUS_OK));
    cr_expect(eq(int, answer.fusion, API_FUSION_WEIGHTED));

    float small[HOUSE_DIMENSION];
    struct api_query_request other = house_question(3, small);
    other.options.memory = text_of("arrays"); // another space
    cr_assert(eq(int, house_query(&house, API_REFINE_EMBEDDING, &other, &answer, &why), STATUS_OK));
    cr_expect(eq(int, answer.fusion, API_FUSION_WEIGHTED));
    other.options.fusion = API_FUSION_HEAD;
    cr_assert(eq(int, house_query(&house, API_REFINE_EMBEDDING, &other, &answer, &why),
                 STATUS_FAILED_PRECONDITION));
    cr_expect(ne(ptr, strstr(why.text, HOUSE_SPACE), NULL), "%s", why.text);
    house_close(&house);
}

Test(head, of_the_embedded_model_is_not_another_ones)
{
    struct house house;
    struct fusion_head *head = NULL;
    struct reason why = {0};
    house_open(&house, 1, NULL);
    struct trained_head_params params = {.space = coordinator_clip_info(house.coordinator)->space,
                                         .threads = 1};
    char file[TRAINED_HEAD_FILE_BYTES];
    cr_assert(eq(int, trained_head_open(&params, &head, file, &why), STATUS_OK), "%s", why.text);
    cr_assert(ne(ptr, (void *)head, NULL));
    cr_expect(eq(str, file, (char *)TRAINED_HEAD_EMBEDDED));
    cr_expect(gt(sz, fusion_head_info(head)->gate.bytes, 0));
    fusion_head_close(&head);
    params.model = house.root; // a folder without a head
    cr_assert(eq(int, trained_head_open(&params, &head, file, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(ptr, (void *)head, NULL));
    cr_expect(eq(str, file, (char *)""));
    house_close(&house);
}

// A head that is there and cannot be used is not passed over in silence.
Test(head, one_of_another_space_stops_the_start)
{
    struct house house;
    house_open(&house, 1, NULL);
    save_head(&house, "other:128", NULL);
    char path[512];
    head_path(&house, path);
    struct coordinator *coordinator = NULL;
    struct reason why = {0};
    const struct coordinator_params params = {
        .data_directory = NULL, .clip = {.threads = 1}, .head = path};
    cr_expect(eq(int, coordinator_start(&params, &coordinator, &why), STATUS_FAILED_PRECONDITION));
    cr_expect(ne(ptr, strstr(why.text, "other:128"), NULL), "%s", why.text);
    cr_expect(ne(ptr, strstr(why.text, path), NULL), "%s", why.text);
    const struct coordinator_params missing = {
        .data_directory = NULL, .clip = {.threads = 1}, .head = "/nowhere/head.safetensors"};
    cr_expect(eq(int, coordinator_start(&missing, &coordinator, &why), STATUS_NOT_FOUND));
    house_close(&house);
}

#define LABELS 6
#define PICTURES 40u

static struct text label(size_t index)
{
    static const char *const names[LABELS] = {"red",         "a dog", "seven",
                                              "under water", "fast",  "music"};
    return text_of(names[index]);
}

// All labels' scores for a picture, plain and refined, and its neighbours' embeddings.
static void classify(struct house *house, uint32_t picture, float embedding[DIMENSION],
                     struct api_answer *answer)
{
    struct text labels[LABELS];
    struct reason why = {0};
    for (size_t i = 0; i < LABELS; i++)
        labels[i] = label(i);
    struct api_query_request question = question_of(MODALITY_IMAGE, embedding);
    house_model_embedding(2 * picture, embedding);
    cr_assert(eq(int, embedding_normalise(embedding, DIMENSION), STATUS_OK));
    question.options.fields = 1u << API_FIELD_KEY | 1u << API_FIELD_TEXT_EMBEDDING;
    question.labels = labels;
    question.label_count = LABELS;
    question.top = LABELS;
    cr_assert(eq(int, house_query(house, API_CLASSIFY, &question, answer, &why), STATUS_OK), "%s",
              why.text);
}

// One answer for each of some pictures; where the two lists begin differently the gate says which
// one stands.
static uint32_t expect_judged(struct house *house, bool believes_memory)
{
    uint32_t differing = 0;
    for (uint32_t record = 0; record < PICTURES; record++) {
        float embedding[DIMENSION];
        struct api_answer answer;
        classify(house, record, embedding, &answer);
        bool is_same = text_equal(answer.plain.labels[0], answer.refined.labels[0]);
        if (believes_memory)
            differing += !is_same;
        else if (!(answer.gate > 0))
            differing++;
        if (!believes_memory)
            cr_expect(is_same, "record %u", record);
        cr_expect(eq(int,
                     strstr(answer.gate_reason.data, "plain CLIP: the memory's answer") != NULL,
                     !(answer.gate > 0)));
        if (!(answer.gate > 0))
            cr_expect(eq(int,
                         memcmp(answer.plain.scores, answer.refined.scores,
                                answer.plain.count * sizeof(float)),
                         0));
        else
            cr_expect(eq(flt, answer.gate, 1));
    }
    return differing;
}

Test(head, judges_answers_by_the_gate_of_its_file)
{
    struct house house;
    house_open(&house, 2, NULL);
    char path[512];
    house_fill_model_space(&house, RECORDS);
    expect_listed(&house, TRAINED_HEAD_EMBEDDED, true);
    head_path(&house, path);
    save_head(&house, coordinator_clip_info(house.coordinator)->space, NULL);
    house_restart(&house);
    expect_listed(&house, path, false);
    save_head(&house, coordinator_clip_info(house.coordinator)->space, GATE("20"));
    house_restart(&house);
    expect_listed(&house, path, true);
    const uint32_t differing = expect_judged(&house, true);
    cr_expect(gt(u32, differing, 0));
    save_head(&house, coordinator_clip_info(house.coordinator)->space, GATE("-20"));
    house_restart(&house);
    cr_expect(eq(u32, expect_judged(&house, false), differing));
    house_close(&house);
}

// --- what a gate weighs

struct known_label {
    float plain[DIMENSION];
    double known; // the best score of its own neighbours
};

static void ask_labels(struct house *house, struct known_label known[LABELS])
{
    for (size_t i = 0; i < LABELS; i++) {
        struct api_answer answer;
        struct api_query_request question = {
            .input = API_INPUT_TEXT,
            .text = label(i),
            .options = {.memory = text_of("default"), .k = K},
        };
        cr_assert(
            eq(int, house_query(house, API_REFINE_TEXT, &question, &answer, NULL), STATUS_OK));
        known[i].known = (double)answer.neighbours.scores[0];
        question.options.fusion = API_FUSION_NONE;
        cr_assert(
            eq(int, house_query(house, API_REFINE_TEXT, &question, &answer, NULL), STATUS_OK));
        memcpy(known[i].plain, answer.embedding, sizeof(known[i].plain));
    }
}

static const struct known_label *find(const struct known_label known[LABELS], struct text name)
{
    size_t at = 0;
    while (!text_equal(label(at), name))
        at++;
    return &known[at];
}

static double nearest(const float *vector, const struct api_neighbours *neighbours)
{
    double best = -1;
    for (size_t i = 0; i < neighbours->count; i++)
        best = fmax(best,
                    embedding_dot(vector, neighbours->text_embeddings + i * DIMENSION, DIMENSION));
    return best;
}

static double mean(const float *scores)
{
    double sum = 0;
    for (size_t i = 0; i < LABELS; i++)
        sum += (double)scores[i];
    return sum / LABELS;
}

static double deviation(const float *scores)
{
    double sum = 0;
    for (size_t i = 0; i < LABELS; i++)
        sum += ((double)scores[i] - mean(scores)) * ((double)scores[i] - mean(scores));
    return sqrt(sum / LABELS);
}

// Of an answer whose refined labels are the memory's; each piece has a weight of its own.
static double weighed(const struct known_label known[LABELS], const float *query,
                      const struct api_answer *answer, const double weights[FUSION_GATE_EVIDENCE])
{
    const struct known_label *plain = find(known, answer->plain.labels[0]);
    const struct known_label *refined = find(known, answer->refined.labels[0]);
    const double level = mean(answer->plain.scores);
    const double evidence[FUSION_GATE_EVIDENCE] = {
        [FUSION_GATE_NEAREST] = nearest(query, &answer->neighbours) - level,
        [FUSION_GATE_PLAIN] = (double)answer->plain.scores[0] - level,
        [FUSION_GATE_PLAIN_SPREAD] = deviation(answer->plain.scores),
        [FUSION_GATE_REFINED_MARGIN] =
            (double)answer->refined.scores[0] - (double)answer->refined.scores[1],
        [FUSION_GATE_REFINED_SPREAD] = deviation(answer->refined.scores),
        [FUSION_GATE_LABELS] = log(LABELS),
        [FUSION_GATE_KNOWN] = plain->known,
        [FUSION_GATE_TOLD_PLAIN] = nearest(plain->plain, &answer->neighbours),
        [FUSION_GATE_TOLD_REFINED] = nearest(refined->plain, &answer->neighbours),
    };
    double sum = 0;
    for (size_t i = 0; i < FUSION_GATE_EVIDENCE; i++)
        sum += weights[i] * evidence[i];
    return sum;
}

Test(head, weighs_for_its_gate_what_the_query_and_the_memory_say)
{
    static const double weights[FUSION_GATE_EVIDENCE] = {1.5, -2, 7, 5, -6, 0.5, 2.5, 3.5, -4.5};
    struct house house;
    struct known_label known[LABELS];
    struct api_answer answer;
    float embedding[DIMENSION];
    double sums[PICTURES];
    bool differs[PICTURES];
    double bias = 0;
    house_open(&house, 2, NULL);
    house_fill_model_space(&house, RECORDS);
    save_head(&house, coordinator_clip_info(house.coordinator)->space, GATE("20"));
    house_restart(&house);
    ask_labels(&house, known);
    for (uint32_t i = 0; i < PICTURES; i++) {
        classify(&house, i, embedding, &answer);
        differs[i] = !text_equal(answer.plain.labels[0], answer.refined.labels[0]);
        sums[i] = weighed(known, embedding, &answer, weights);
        bias -= sums[i] / PICTURES;
    }

    char gate[512];
    (void)snprintf(gate, sizeof(gate),
                   "{\"bias\":%.9g,\"nearest\":%g,\"plain\":%g,\"plain_spread\":%g,"
                   "\"refined_margin\":%g,\"refined_spread\":%g,\"labels\":%g,\"known\":%g,"
                   "\"told_plain\":%g,\"told_refined\":%g}",
                   bias, weights[0], weights[1], weights[2], weights[3], weights[4], weights[5],
                   weights[6], weights[7], weights[8]);
    save_head(&house, coordinator_clip_info(house.coordinator)->space, gate);
    house_restart(&house);
    uint32_t judged = 0;
    for (uint32_t i = 0; i < PICTURES; i++) {
        classify(&house, i, embedding, &answer);
        const char *value = strchr(answer.gate_reason.data, '(');
        if (!differs[i])
            continue;
        cr_assert(ne(ptr, (void *)value, NULL), "%s", answer.gate_reason.data);
        const double expected = 1 / (1 + exp(-bias - sums[i]));
        cr_expect(
            epsilon_eq(dbl, strtod(value + 1, NULL), expected, 0.0051)); // two digits are told
        cr_expect(eq(int, answer.gate > 0, expected >= FUSION_GATE_OPEN));
        judged += expected > 0.1 && expected < 0.9;
    }
    cr_expect(ge(u32, judged, 5)); // enough that a piece in another's place would be seen
    house_close(&house);
}
