// SPDX-License-Identifier: Apache-2.0
// Goal: pictures are encoded, stored and classified by the embedded model; both lists are what the
// formulas say; label sets are found again, and refined anew when the memory changes.
//
// Method: the 64 golden drawings: three styles are the memory, the fourth asks. The oracle uses
// EncodeText and RefineText of the same coordinator and the arithmetic of shaders/models/fusion.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/half.h"
#include "shaders/models/fusion.h"
#include "tests/e2e/coordinator_house.h"
#include "tests/support/npy.h"

#define THINGS 16
#define DIMENSION 128

static const char *const things[THINGS] = {
    "penguin",  "octopus", "rocket",    "anchor",  "mushroom", "guitar", "violin", "tiger",
    "elephant", "cactus",  "pineapple", "bicycle", "umbrella", "snail",  "crab",   "owl",
};
static const char *const styles[3] = {"noto", "twemoji", "emojione"};

static struct buffer picture(const char *thing, const char *style)
{
    char path[512];
    struct buffer file = {0};
    (void)snprintf(path, sizeof(path), "%s/tests/golden/tiny/images/%s.%s.png", RECO_SOURCE_DIR,
                   thing, style);
    cr_assert(eq(int, bytes_read_file(path, 1 << 20, &file), STATUS_OK), "%s", path);
    return file;
}

static struct text label_at(size_t i)
{
    return text_of(things[i]);
}

// A memory of the model's space with all drawings of three styles.
static void fill_drawings(struct house *house)
{
    static struct buffer files[THINGS * 3];
    static char keys[THINGS * 3][64];
    static char captions[THINGS * 3][64];
    static struct api_ingest_record records[THINGS * 3];
    struct api_memory_info info;
    struct api_create_request create = {.name = text_of("m")};
    cr_assert(eq(int, house_create_status(house, &create, &info, NULL), STATUS_OK));
    for (size_t i = 0; i < THINGS * 3; i++) {
        files[i] = picture(things[i / 3], styles[i % 3]);
        (void)snprintf(keys[i], sizeof(keys[i]), "%s.%s", things[i / 3], styles[i % 3]);
        (void)snprintf(captions[i], sizeof(captions[i]), "%s", things[i / 3]);
        records[i] = (struct api_ingest_record){.key = text_of(keys[i]),
                                                .caption = text_of(captions[i]),
                                                .image = {files[i].data, files[i].count}};
    }
    struct api_ingest_request request = {
        .memory = text_of("m"), .records = records, .count = THINGS * 3};
    struct buffer message = {0};
    struct buffer out = {0};
    struct coordinator_stream *stream = NULL;
    struct api_ingest_reply reply;
    cr_assert(eq(int, api_encode_ingest_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, coordinator_stream_open(house->coordinator, API_MEMORY_INGEST, &stream, NULL),
                 STATUS_OK));
    cr_assert(eq(int, coordinator_stream_send(stream, (struct bytes){message.data, message.count}),
                 STATUS_OK));
    cr_assert(eq(int, coordinator_stream_finish(&stream, &out, NULL), STATUS_OK));
    cr_assert(
        eq(int,
           api_decode_ingest_reply((struct bytes){out.data, out.count}, house->arena, &reply, NULL),
           STATUS_OK));
    cr_assert(eq(u64, reply.stored, THINGS * 3));
    buffer_deinit(&message);
    buffer_deinit(&out);
    for (size_t i = 0; i < THINGS * 3; i++)
        buffer_deinit(&files[i]);
}

static struct api_query_request question_of(const struct buffer *file, struct text labels[THINGS])
{
    for (size_t i = 0; i < THINGS; i++)
        labels[i] = label_at(i);
    return (struct api_query_request){
        .input = API_INPUT_IMAGE,
        .image = {file->data, file->count},
        .options = {.memory = text_of("m"), .k = 5},
        .labels = labels,
        .label_count = THINGS,
    };
}

// --- encoding

static const float *encode_texts(struct house *house, const struct text *texts, size_t count)
{
    struct buffer message = {0};
    struct bytes reply;
    struct api_encode_reply encoded;
    struct api_texts_request request = {.texts = texts, .count = count};
    cr_assert(eq(int, api_encode_texts_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, house_call(house, API_ENCODE_TEXT, &message, &reply, NULL), STATUS_OK));
    cr_assert(eq(int, api_decode_encode_reply(reply, house->arena, &encoded, NULL), STATUS_OK));
    cr_assert(eq(u32, encoded.dimension, DIMENSION));
    cr_assert(eq(sz, encoded.float_count, count * DIMENSION));
    return encoded.embeddings;
}

Test(classify, encodes_pictures_and_names_the_broken_one)
{
    struct house house;
    house_open(&house, 1, NULL);
    struct buffer files[4];
    struct bytes images[4];
    struct buffer message = {0};
    struct bytes reply;
    struct api_encode_reply encoded;
    struct reason why = {0};
    struct npy golden;
    char path[512];
    static const char *const order[4] = {"noto", "twemoji", "fluent-emoji", "emojione"};
    for (int i = 0; i < 4; i++) {
        files[i] = picture("penguin", order[i]);
        images[i] = (struct bytes){files[i].data, files[i].count};
    }
    // The golden embeddings are Hugging Face's, which drops transparency.
    struct api_encode_image_request request = {
        .images = images, .count = 4, .profile = API_PROFILE_HF};
    cr_assert(eq(int, api_encode_encode_image_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, house_call(&house, API_ENCODE_IMAGE, &message, &reply, &why), STATUS_OK),
              "%s", why.text);
    cr_assert(eq(int, api_decode_encode_reply(reply, house.arena, &encoded, NULL), STATUS_OK));
    (void)snprintf(path, sizeof(path), "%s/tests/golden/tiny/image_embeds_normalised.npy",
                   RECO_SOURCE_DIR);
    npy_read(path, NPY_F32, &golden);
    double worst = 0;
    for (size_t i = 0; i < (size_t)4 * DIMENSION; i++)
        worst = fmax(worst, fabs((double)encoded.embeddings[i] - (double)npy_floats(&golden)[i]));
    cr_expect(lt(dbl, worst, 2e-3)); // other matrix products than PyTorch's
    cr_expect(gt(flt, encoded.timings.encode, 0));
    npy_free(&golden);

    images[2].count /= 2;
    cr_assert(eq(int, api_encode_encode_image_request(&request, &message), STATUS_OK));
    cr_expect(
        eq(int, house_call(&house, API_ENCODE_IMAGE, &message, &reply, &why), STATUS_INVALID));
    cr_expect(eq(str, why.field, (char *)"images[2]"));
    house.deadline_us = 1;
    images[2] = images[1];
    cr_assert(eq(int, api_encode_encode_image_request(&request, &message), STATUS_OK));
    cr_expect(
        eq(int, house_call(&house, API_ENCODE_IMAGE, &message, &reply, &why), STATUS_DEADLINE));
    for (int i = 0; i < 4; i++)
        buffer_deinit(&files[i]);
    house_close(&house);
}

Test(classify, many_texts_have_the_embeddings_of_single_ones)
{
    enum { COUNT = 300 };
    struct house house;
    static char texts[COUNT][64];
    static struct text all[COUNT];
    house_open(&house, 1, NULL);
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "%d %s with %s", i, things[i % THINGS],
                       things[i / THINGS % THINGS]);
        all[i] = text_of(texts[i]);
    }
    const float *together = encode_texts(&house, all, COUNT);
    for (int i = 0; i < COUNT; i += 37)
        cr_expect(eq(int,
                     memcmp(encode_texts(&house, &all[i], 1), together + (size_t)i * DIMENSION,
                            DIMENSION * sizeof(float)),
                     0));
    house_close(&house);
}

Test(classify, tokenizes_as_the_model_does)
{
    struct house house;
    struct buffer message = {0};
    struct bytes reply;
    struct api_tokenize_reply tokens;
    house_open(&house, 1, NULL);
    const struct text texts[] = {text_of("an owl"), text_of(""), text_of("an owl, an owl")};
    struct api_texts_request request = {.texts = texts, .count = 3};
    cr_assert(eq(int, api_encode_texts_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, house_call(&house, API_TOKENIZE, &message, &reply, NULL), STATUS_OK));
    cr_assert(eq(int, api_decode_tokenize_reply(reply, house.arena, &tokens, NULL), STATUS_OK));
    cr_assert(eq(sz, tokens.count, 3));
    cr_assert(eq(sz, tokens.id_count, tokens.counts[0] + tokens.counts[1] + tokens.counts[2]));
    cr_expect(eq(u32, tokens.counts[1], 2)); // start and end only
    const uint32_t *third = tokens.ids + tokens.counts[0] + tokens.counts[1];
    cr_expect(eq(u32, tokens.ids[0], third[0]));
    for (uint32_t i = 1; i + 1 < tokens.counts[0]; i++) // the same words, the same ids
        cr_expect(eq(u32, tokens.ids[i], third[i]));
    cr_expect(eq(u32, tokens.ids[tokens.counts[0] - 1], third[tokens.counts[2] - 1]));
    house_close(&house);
}

// --- classification

Test(classify, plain_scores_are_inner_products_with_the_prompts)
{
    struct house house;
    struct text labels[THINGS];
    struct api_answer answer;
    struct reason why = {0};
    house_open(&house, 2, NULL);
    fill_drawings(&house);
    struct buffer file = picture("owl", "fluent-emoji");
    struct api_query_request question = question_of(&file, labels);
    question.top = THINGS;
    question.options.fusion = API_FUSION_WEIGHTED; // whose gate is the same for Refine
    cr_assert(eq(int, house_query(&house, API_CLASSIFY, &question, &answer, &why), STATUS_OK), "%s",
              why.text);
    cr_assert(eq(sz, answer.plain.count, THINGS));
    cr_assert(eq(sz, answer.refined.count, THINGS));
    cr_expect(eq(sz, answer.neighbours.count, 5));
    cr_expect(gt(flt, answer.gate, 0));
    cr_expect(gt(flt, answer.timings.labels, 0));

    // The picture's own embeddings, plain and refined, and the labels'.
    struct api_query_request refine = question;
    struct api_answer refined;
    refine.labels = NULL;
    refine.label_count = 0;
    refine.top = 0;
    cr_assert(eq(int, house_query(&house, API_REFINE_IMAGE, &refine, &refined, NULL), STATUS_OK));
    refine.options.fusion = API_FUSION_NONE;
    struct api_answer plain;
    cr_assert(eq(int, house_query(&house, API_REFINE_IMAGE, &refine, &plain, NULL), STATUS_OK));
    const float *prototypes = encode_texts(&house, labels, THINGS);
    for (size_t i = 0; i < THINGS; i++) {
        size_t label = 0;
        while (!text_equal(labels[label], answer.plain.labels[i]))
            label++;
        double sum = 0;
        for (int d = 0; d < DIMENSION; d++)
            sum += (double)plain.embedding[d] * (double)prototypes[label * DIMENSION + d];
        cr_expect(epsilon_eq(dbl, answer.plain.scores[i], sum, 1e-6));
        if (i > 0)
            cr_expect(le(flt, answer.plain.scores[i], answer.plain.scores[i - 1]));
    }
    for (size_t i = 0; i < THINGS; i++) {
        struct api_query_request of_label = {
            .input = API_INPUT_TEXT, .text = answer.refined.labels[i], .options = question.options};
        struct api_answer prototype;
        cr_assert(
            eq(int, house_query(&house, API_REFINE_TEXT, &of_label, &prototype, NULL), STATUS_OK));
        double sum = 0;
        for (int d = 0; d < DIMENSION; d++)
            sum += (double)refined.embedding[d] * (double)prototype.embedding[d];
        cr_expect(epsilon_eq(dbl, answer.refined.scores[i], sum, 1e-6));
    }
    buffer_deinit(&file);
    house_close(&house);
}

Test(classify, names_most_drawings_of_a_style_it_has_not_seen)
{
    struct house house;
    struct text labels[THINGS];
    struct api_answer answer;
    int right = 0;
    house_open(&house, 3, NULL);
    fill_drawings(&house);
    for (size_t i = 0; i < THINGS; i++) {
        struct buffer file = picture(things[i], "fluent-emoji");
        struct api_query_request question = question_of(&file, labels);
        cr_assert(eq(int, house_query(&house, API_CLASSIFY, &question, &answer, NULL), STATUS_OK));
        cr_expect(eq(sz, answer.refined.count, 5)); // unless told otherwise
        right += text_equal(answer.refined.labels[0], label_at(i));
        buffer_deinit(&file);
    }
    cr_expect(ge(int, right, 11));
    house_close(&house);
}

Test(classify, the_same_bits_for_1_2_and_5_nodes)
{
    static const uint32_t counts[] = {1, 2, 5};
    struct api_answer first;
    static struct house houses[3];
    for (int i = 0; i < 3; i++) {
        struct text labels[THINGS];
        struct api_answer answer;
        house_open(&houses[i], counts[i], NULL);
        fill_drawings(&houses[i]);
        struct buffer file = picture("crab", "fluent-emoji");
        struct api_query_request question = question_of(&file, labels);
        cr_assert(
            eq(int, house_query(&houses[i], API_EXPLAIN, &question, &answer, NULL), STATUS_OK));
        if (i == 0)
            first = answer;
        cr_expect(house_same(&first, &answer));
        cr_expect(eq(int,
                     memcmp(first.neighbours.effects, answer.neighbours.effects,
                            answer.neighbours.count * sizeof(float)),
                     0));
        buffer_deinit(&file);
    }
    for (int i = 0; i < 3; i++)
        house_close(&houses[i]);
}

Test(classify, a_gate_of_0_leaves_plain_clip)
{
    struct house house;
    struct text labels[THINGS];
    struct api_answer answer;
    house_open(&house, 2, NULL);
    fill_drawings(&house);
    struct buffer file = picture("owl", "fluent-emoji");
    for (int i = 0; i < 2; i++) {
        struct api_query_request question = question_of(&file, labels);
        if (i == 0)
            question.options.min_similarity = 0.9999f;
        else
            question.options.fusion = API_FUSION_NONE;
        cr_assert(eq(int, house_query(&house, API_EXPLAIN, &question, &answer, NULL), STATUS_OK));
        cr_expect(eq(flt, answer.gate, 0));
        cr_expect(eq(
            int,
            memcmp(answer.plain.scores, answer.refined.scores, answer.plain.count * sizeof(float)),
            0));
        for (size_t j = 0; j < answer.neighbours.count; j++)
            cr_expect(eq(flt, answer.neighbours.effects[j], 0));
    }
    buffer_deinit(&file);
    house_close(&house);
}

// margin of `winner` among the refined labels for an embedding
static double margin_of(const float *embedding, const float *prototypes, size_t winner)
{
    double own = 0;
    double best = -2;
    for (size_t i = 0; i < THINGS; i++) {
        double sum = 0;
        for (int d = 0; d < DIMENSION; d++)
            sum += (double)embedding[d] * (double)prototypes[i * DIMENSION + d];
        if (i == winner)
            own = sum;
        else
            best = fmax(best, sum);
    }
    return own - best;
}

Test(classify, effects_are_what_leaving_each_neighbour_out_changes)
{
    struct house house;
    struct text labels[THINGS];
    struct api_answer answer;
    struct api_answer refined;
    struct api_answer plain;
    house_open(&house, 2, NULL);
    fill_drawings(&house);
    struct buffer file = picture("tiger", "fluent-emoji");
    struct api_query_request question = question_of(&file, labels);
    question.options.fusion = API_FUSION_WEIGHTED;
    cr_assert(eq(int, house_query(&house, API_EXPLAIN, &question, &answer, NULL), STATUS_OK));
    size_t count = answer.neighbours.count;
    cr_assert(ge(sz, count, 2));

    struct api_query_request refine = question;
    refine.labels = NULL;
    refine.label_count = 0;
    cr_assert(eq(int, house_query(&house, API_REFINE_IMAGE, &refine, &refined, NULL), STATUS_OK));
    refine.options.fusion = API_FUSION_NONE;
    cr_assert(eq(int, house_query(&house, API_REFINE_IMAGE, &refine, &plain, NULL), STATUS_OK));
    static float prototypes[THINGS][DIMENSION];
    size_t winner = 0;
    for (size_t i = 0; i < THINGS; i++) {
        struct api_query_request of_label = {
            .input = API_INPUT_TEXT, .text = labels[i], .options = question.options};
        struct api_answer prototype;
        cr_assert(
            eq(int, house_query(&house, API_REFINE_TEXT, &of_label, &prototype, NULL), STATUS_OK));
        memcpy(prototypes[i], prototype.embedding, sizeof(prototypes[i]));
        if (text_equal(labels[i], answer.refined.labels[0]))
            winner = i;
    }

    // Payload: the captions' embeddings as the nodes keep them.
    float rows[8][DIMENSION];
    for (size_t i = 0; i < count; i++) {
        const float *row = encode_texts(&house, &answer.neighbours.captions[i], 1);
        for (int d = 0; d < DIMENSION; d++)
            rows[i][d] = half_to_float(half_from_float(row[d]));
    }
    double with_all = margin_of(refined.embedding, &prototypes[0][0], winner);
    struct fusion_params params = {.mode = FUSION_WEIGHTED, .beta = 2, .temperature = 20};
    for (size_t left = 0; left < count; left++) {
        float scores[8];
        const float *payload[8];
        struct fusion_neighbours neighbours = {0, scores, payload, NULL};
        float result[DIMENSION];
        for (size_t i = 0; i < count; i++) {
            if (i == left)
                continue;
            scores[neighbours.count] = answer.neighbours.scores[i];
            payload[neighbours.count++] = rows[i];
        }
        cr_assert(eq(int,
                     fusion_refine(&params, plain.embedding, DIMENSION, &neighbours,
                                   (double)scores[0], result),
                     STATUS_OK));
        double effect = with_all - margin_of(result, &prototypes[0][0], winner);
        cr_expect(epsilon_eq(dbl, answer.neighbours.effects[left], effect, 1e-5));
    }
    buffer_deinit(&file);
    house_close(&house);
}

Test(classify, an_embedding_is_classified_like_its_picture)
{
    struct house house;
    struct text labels[THINGS];
    struct api_answer by_picture;
    struct api_answer by_embedding;
    struct api_answer plain;
    house_open(&house, 2, NULL);
    fill_drawings(&house);
    struct buffer file = picture("snail", "fluent-emoji");
    struct api_query_request question = question_of(&file, labels);
    cr_assert(eq(int, house_query(&house, API_CLASSIFY, &question, &by_picture, NULL), STATUS_OK));
    struct api_query_request refine = question;
    refine.labels = NULL;
    refine.label_count = 0;
    refine.options.fusion = API_FUSION_NONE;
    cr_assert(eq(int, house_query(&house, API_REFINE_IMAGE, &refine, &plain, NULL), STATUS_OK));
    question.input = API_INPUT_EMBEDDING;
    question.embedding = plain.embedding;
    question.embedding_count = DIMENSION;
    cr_assert(
        eq(int, house_query(&house, API_CLASSIFY, &question, &by_embedding, NULL), STATUS_OK));
    cr_expect(text_equal(by_picture.refined.labels[0], by_embedding.refined.labels[0]));
    cr_expect(epsilon_eq(flt, by_picture.refined.scores[0], by_embedding.refined.scores[0], 1e-5f));
    buffer_deinit(&file);
    house_close(&house);
}

// --- label sets

static struct api_labels_request compile_request(const struct text *labels, size_t count)
{
    return (struct api_labels_request){
        .labels = labels, .label_count = count, .options = {.memory = text_of("m"), .k = 5}};
}

Test(classify, a_compiled_set_answers_like_the_labels_themselves)
{
    struct house house;
    struct text labels[THINGS];
    struct api_answer inline_answer;
    struct api_answer by_id;
    struct api_answer compiled;
    struct reason why = {0};
    house_open(&house, 2, NULL);
    fill_drawings(&house);
    struct buffer file = picture("violin", "fluent-emoji");
    struct api_query_request question = question_of(&file, labels);
    const struct text templates[] = {text_of("a drawing of a {}"), text_of("{}")};
    question.templates = templates;
    question.template_count = 2;
    struct api_labels_request request = compile_request(labels, THINGS);
    request.templates = templates;
    request.template_count = 2;
    cr_assert(eq(int, house_compile(&house, &request, &compiled, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(u32, compiled.label_count, THINGS));
    cr_assert(eq(sz, compiled.label_set_id.bytes, LABEL_SET_ID_BYTES));
    cr_expect(eq(flt, compiled.coverage, 1));
    cr_assert(
        eq(int, house_query(&house, API_CLASSIFY, &question, &inline_answer, NULL), STATUS_OK));
    question.labels = NULL;
    question.label_count = 0;
    question.templates = NULL;
    question.template_count = 0;
    question.label_set_id = compiled.label_set_id;
    cr_assert(eq(int, house_query(&house, API_CLASSIFY, &question, &by_id, &why), STATUS_OK), "%s",
              why.text);
    cr_expect(house_same(&inline_answer, &by_id));

    // The same question has the same id, another one another.
    struct api_answer again;
    cr_assert(eq(int, house_compile(&house, &request, &again, NULL), STATUS_OK));
    cr_expect(text_equal(again.label_set_id, compiled.label_set_id));
    request.template_count = 1;
    cr_assert(eq(int, house_compile(&house, &request, &again, NULL), STATUS_OK));
    cr_expect(not(text_equal(again.label_set_id, compiled.label_set_id)));

    question.label_set_id = text_of("0123456789abcdef0123456789abcdef");
    cr_expect(
        eq(int, house_query(&house, API_CLASSIFY, &question, &by_id, &why), STATUS_NOT_FOUND));
    cr_expect(ne(ptr, strstr(why.text, "CompileLabels"), NULL));
    buffer_deinit(&file);
    house_close(&house);
}

Test(classify, a_label_that_is_there_twice_is_refused)
{
    struct house house;
    struct api_answer answer;
    struct reason why = {0};
    house_open(&house, 1, NULL);
    fill_drawings(&house);
    const struct text labels[] = {text_of("owl"), text_of("crab"), text_of("owl")};
    struct api_labels_request request = compile_request(labels, 3);
    cr_expect(eq(int, house_compile(&house, &request, &answer, &why), STATUS_INVALID));
    cr_expect(ne(ptr, strstr(why.text, "'owl'"), NULL), "%s", why.text);
    house_close(&house);
}

Test(classify, a_write_refines_the_labels_anew)
{
    struct house house;
    struct text labels[THINGS];
    struct api_answer before;
    struct api_answer after;
    house_open(&house, 2, NULL);
    fill_drawings(&house);
    struct buffer file = picture("owl", "fluent-emoji");
    struct api_query_request question = question_of(&file, labels);
    cr_assert(eq(int, house_query(&house, API_CLASSIFY, &question, &before, NULL), STATUS_OK));
    cr_assert(eq(int, house_query(&house, API_CLASSIFY, &question, &after, NULL), STATUS_OK));
    cr_expect(house_same(&before, &after));

    // Every record with the caption "owl" goes: the label's neighbours are others then.
    const struct text keys[] = {text_of("owl.noto"), text_of("owl.twemoji"),
                                text_of("owl.emojione")};
    struct api_delete_request request = {.memory = text_of("m"), .keys = keys, .key_count = 3};
    struct buffer message = {0};
    struct bytes reply;
    cr_assert(eq(int, api_encode_delete_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, house_call(&house, API_MEMORY_DELETE, &message, &reply, NULL), STATUS_OK));
    cr_assert(eq(int, house_query(&house, API_CLASSIFY, &question, &after, NULL), STATUS_OK));
    cr_expect(not(house_same(&before, &after)));

    // A house that never had them agrees.
    struct house other;
    struct api_answer fresh;
    house_open(&other, 1, NULL);
    fill_drawings(&other);
    cr_assert(eq(int, api_encode_delete_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, house_call(&other, API_MEMORY_DELETE, &message, &reply, NULL), STATUS_OK));
    cr_assert(eq(int, house_query(&other, API_CLASSIFY, &question, &fresh, NULL), STATUS_OK));
    cr_expect(house_same(&after, &fresh));
    buffer_deinit(&file);
    house_close(&other);
    house_close(&house);
}

Test(classify, labels_that_cannot_be_refined_in_time_stay_plain_and_that_is_said)
{
    enum { MANY = 4000 };
    struct house house;
    static char names[MANY][16];
    static struct text labels[MANY];
    struct api_answer compiled;
    struct api_answer answer;
    struct api_answer slow;
    struct reason why = {0};
    house_open(&house, 2, NULL);
    fill_drawings(&house);
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "%x", i * 7919);
        labels[i] = text_of(names[i]);
    }
    struct api_labels_request request = compile_request(labels, MANY);
    request.options.fusion = API_FUSION_NONE; // plain prototypes only
    cr_assert(eq(int, house_compile(&house, &request, &compiled, &why), STATUS_OK), "%s", why.text);

    // How long it takes to refine them all, with other options: the deadline is a quarter of that.
    request.options.fusion = API_FUSION_MEAN;
    request.options.k = 40; // 88 neighbours for each of 4,000 labels
    int64_t begun_us = clock_now_us();
    cr_assert(eq(int, house_compile(&house, &request, &compiled, &why), STATUS_OK), "%s", why.text);
    int64_t build_us = clock_now_us() - begun_us;

    float embedding[DIMENSION];
    memcpy(embedding, encode_texts(&house, labels, 1), sizeof(embedding));
    struct api_query_request question = {
        .input = API_INPUT_EMBEDDING,
        .embedding = embedding,
        .embedding_count = DIMENSION,
        .options = {.memory = text_of("m"), .k = 40},
        .label_set_id = compiled.label_set_id,
    };
    house.deadline_us = build_us / 4;
    begun_us = clock_now_us();
    cr_assert(eq(int, house_query(&house, API_CLASSIFY, &question, &answer, &why), STATUS_OK), "%s",
              why.text);
    cr_expect(lt(i64, clock_now_us() - begun_us, build_us / 2));
    bool said = false;
    for (size_t i = 0; i < answer.degraded_count; i++)
        said = said || strstr(answer.degraded[i].data, "labels");
    cr_expect(said);
    cr_expect(gt(flt, answer.gate, 0));

    // Their build went on meanwhile: with time enough they are refined.
    house.deadline_us = 0;
    cr_assert(eq(int, house_query(&house, API_CLASSIFY, &question, &slow, &why), STATUS_OK));
    cr_expect(eq(sz, slow.degraded_count, 0));
    cr_expect(not(house_same(&answer, &slow)));
    house_close(&house);
}

Test(classify, labels_are_refined_with_the_nodes_that_are_left_and_that_is_said)
{
    struct house house;
    struct text labels[THINGS];
    struct api_answer answer;
    struct reason why = {0};
    house_open(&house, 2, NULL);
    fill_drawings(&house);
    struct buffer file = picture("owl", "fluent-emoji");
    struct api_query_request question = question_of(&file, labels);
    house_stop_node(&house, 1);
    house_wait_down(&house, 1);
    for (int i = 0; i < 2; i++) { // made, and found again
        cr_assert(eq(int, house_query(&house, API_CLASSIFY, &question, &answer, &why), STATUS_OK));
        cr_expect(eq(flt, answer.coverage, 0.5f));
        cr_assert(eq(sz, answer.degraded_count, 2));
        cr_expect(ne(ptr, strstr(answer.degraded[1].data, "labels: node 1 is down"), NULL));
    }
    question.options.min_coverage = 0.9f;
    cr_expect(
        eq(int, house_query(&house, API_CLASSIFY, &question, &answer, &why), STATUS_UNAVAILABLE));
    house_stop_node(&house, 0);
    house_wait_down(&house, 0);
    question.options.min_coverage = 0;
    cr_assert(eq(int, house_query(&house, API_CLASSIFY, &question, &answer, &why), STATUS_OK));
    cr_expect(eq(flt, answer.gate, 0));
    cr_expect(eq(
        int, memcmp(answer.plain.scores, answer.refined.scores, answer.plain.count * sizeof(float)),
        0));
    buffer_deinit(&file);
    house_close(&house);
}
