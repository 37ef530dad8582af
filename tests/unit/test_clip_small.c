// SPDX-License-Identifier: Apache-2.0
// Goal: both towers are right for odd shapes too, an embedding depends on its own text
// or picture only, and weights that do not fit config.json are refused by name.
//
// Method: a model of 140 KB with seeded weights (random_clip_small.h) against both
// towers in double precision; then the same model with one thing wrong at a time,
// and with memory running out at each allocation.

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/cpu.h"
#include "proto/base/mem.h"
#include "shaders/models/clip_internal.h"
#include "shaders/models/image.h"
#include "tests/reference/reference.h"
#include "tests/reference/reference_clip.h"
#include "tests/support/random_clip_small.h"
#include "tests/support/vulkan_device.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define DIMENSION RANDOM_CLIP_SMALL_DIMENSION
#define CONTEXT RANDOM_CLIP_SMALL_CONTEXT
#define END RANDOM_CLIP_SMALL_END
#define PICTURE ((size_t)3 * RANDOM_CLIP_SMALL_IMAGE * RANDOM_CLIP_SMALL_IMAGE)

// Single precision through three layers of unit-sized activations.
#define ERROR_MAX (vulkan_device_is_half() ? 1e-5 : 1e-10)

// --- common to the tests

// Whether two arrays are the same bits, which for floats is more than being equal.
static bool same_bits(const void *a, const void *b, size_t bytes)
{
    return memcmp(a, b, bytes) == 0;
}

static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

static const char *preprocessor = ""; // preprocessor_config.json, if it has one

// Opens a model from its files; *out is NULL after a failure.
static enum status open_model(const char *config, struct bytes file, int threads, struct clip **out,
                              struct reason *why)
{
    *out = NULL;
    struct weights *weights = NULL;
    enum status status = weights_open_bytes(file, &weights, why);
    if (status != STATUS_OK)
        return status;
    const struct clip_params params = {.device = vulkan_device_name(), .threads = threads};
    const struct clip_files files = {
        .name = "small",
        .config = {(const uint8_t *)config, strlen(config)},
        .preprocessor = {*preprocessor ? (const uint8_t *)preprocessor : NULL,
                         strlen(preprocessor)},
    };
    status = clip_open_files(&params, &files, weights, out, why);
    weights_close(&weights);
    return status;
}

static struct clip *open_small(int threads)
{
    struct buffer file;
    struct clip *clip = NULL;
    struct reason why = {0};
    random_clip_small(&file);
    cr_assert(eq(int,
                 open_model(random_clip_small_config, (struct bytes){file.data, file.count},
                            threads, &clip, &why),
                 STATUS_OK),
              "%s: %s", why.field, why.text);
    buffer_deinit(&file);
    return clip;
}

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// A text of `count` ids that ends in the end token.
static void make_text(uint64_t seed, uint32_t count, uint32_t ids[CONTEXT])
{
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (uint32_t i = 0; i < CONTEXT; i++)
        ids[i] = i + 1 < count ? (uint32_t)(next(&state) % END) : END;
}

static void make_picture(uint64_t seed, float pixels[PICTURE])
{
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < PICTURE; i++)
        pixels[i] = (float)((double)(int64_t)next(&state) / 4611686018427387904.0);
}

static void encode_ids(struct clip *clip, const uint32_t *ids, const uint32_t *counts, size_t texts,
                       float *embeddings)
{
    struct reason why = {0};
    const struct clip_ids all = {ids, counts, CONTEXT, texts};
    cr_assert(eq(int, clip_encode_ids(clip, &all, embeddings, &why), STATUS_OK), "%s", why.text);
}

// A device of its own does not know threads.
static bool has_threads(void)
{
    return strcmp(vulkan_device_name(), "cpu") == 0;
}

static void encode_pixels(struct clip *clip, const float *pixels, size_t count, float *embeddings)
{
    struct reason why = {0};
    cr_assert(eq(int, clip_encode_pixels(clip, pixels, count, embeddings, &why), STATUS_OK), "%s",
              why.text);
}

// --- right

Test(clip_small, both_towers_agree_with_double_precision_at_odd_sizes)
{
    struct buffer file;
    random_clip_small(&file);
    struct weights *weights = NULL;
    cr_assert(eq(int, weights_open_bytes((struct bytes){file.data, file.count}, &weights, NULL),
                 STATUS_OK));
    struct clip *clip = open_small(2);
    const struct reference_clip reference = {.weights = weights, .config = &clip->config};

    for (uint32_t count = 1; count <= CONTEXT; count++) {
        uint32_t ids[CONTEXT];
        float got[DIMENSION];
        double expected[DIMENSION];
        make_text(count, count, ids);
        encode_ids(clip, ids, &count, 1, got);
        reference_clip_text(&reference, ids, count, expected);
        double error = reference_squared_error(got, expected, DIMENSION);
        cr_expect(error < ERROR_MAX, "text of %u tokens: %g", count, error);
    }
    for (uint64_t seed = 0; seed < 5; seed++) {
        float pixels[PICTURE];
        float got[DIMENSION];
        double expected[DIMENSION];
        make_picture(seed, pixels);
        encode_pixels(clip, pixels, 1, got);
        reference_clip_image(&reference, pixels, expected);
        double error = reference_squared_error(got, expected, DIMENSION);
        cr_expect(error < ERROR_MAX, "picture %llu: %g", (unsigned long long)seed, error);
    }
    clip_close(&clip);
    cr_expect(eq(ptr, clip, NULL));
    weights_close(&weights);
    buffer_deinit(&file);
}

Test(clip_small, a_text_has_the_same_bits_in_every_batch_place_and_thread_count)
{
    // Enough for several batches of the encoder.
    enum { TEXTS = 500 };
    static uint32_t ids[TEXTS][CONTEXT];
    static uint32_t counts[TEXTS];
    static float alone[TEXTS][DIMENSION];
    static float together[TEXTS][DIMENSION];
    struct clip *one = open_small(1);
    struct clip *two = open_small(2);
    for (uint32_t t = 0; t < TEXTS; t++) {
        counts[t] = 1 + t * 5 % CONTEXT;
        make_text(t, counts[t], ids[t]);
        encode_ids(one, ids[t], &counts[t], 1, alone[t]);
    }
    static const size_t sizes[] = {7, 64, 255, TEXTS};
    const size_t step = has_threads() ? 1 : 3;
    for (size_t i = 0; i < 2 * COUNT(sizes); i += has_threads() ? 1 : 2) {
        size_t size = sizes[i / 2];
        for (size_t first = 0; first + size <= TEXTS; first += size == 7 ? step : 61) {
            encode_ids(i % 2 ? one : two, ids[first], counts + first, size, together[0]);
            cr_assert(same_bits(together, alone[first], size * sizeof(alone[0])),
                      "%zu texts from %zu", size, first);
        }
    }
    clip_close(&two);
    clip_close(&one);
}

Test(clip_small, a_picture_has_the_same_bits_in_every_batch_place_and_thread_count)
{
    enum { PICTURES = 230 }; // two batches of the encoder and a bit
    static float pixels[PICTURES][PICTURE];
    static float alone[PICTURES][DIMENSION];
    static float together[PICTURES][DIMENSION];
    struct clip *one = open_small(1);
    struct clip *two = open_small(2);
    for (uint32_t p = 0; p < PICTURES; p++) {
        make_picture(p, pixels[p]);
        encode_pixels(one, pixels[p], 1, alone[p]);
    }
    static const size_t sizes[] = {7, 102, 103, PICTURES};
    const size_t step = has_threads() ? 1 : 3;
    for (size_t i = 0; i < 2 * COUNT(sizes); i += has_threads() ? 1 : 2) {
        size_t size = sizes[i / 2];
        for (size_t first = 0; first + size <= PICTURES; first += size == 7 ? step : 50) {
            encode_pixels(i % 2 ? one : two, pixels[first], size, together[0]);
            cr_assert(same_bits(together, alone[first], size * sizeof(alone[0])),
                      "%zu pictures from %zu", size, first);
        }
    }
    clip_close(&two);
    clip_close(&one);
}

// As open_small(), with weights that are prepared at their second use.
static struct clip *open_hasty(struct buffer *file)
{
    struct weights *weights = NULL;
    struct clip *clip = NULL;
    struct reason why = {0};
    cr_assert(eq(int, weights_open_bytes((struct bytes){file->data, file->count}, &weights, &why),
                 STATUS_OK));
    const struct clip_params params = {.device = vulkan_device_name(), .threads = 2, .hasty = true};
    const struct clip_files files = {
        .name = "small",
        .config = {(const uint8_t *)random_clip_small_config, strlen(random_clip_small_config)},
    };
    cr_assert(eq(int, clip_open_files(&params, &files, weights, &clip, &why), STATUS_OK), "%s",
              why.text);
    clip_keep_weights(clip, &weights);
    cr_expect(eq(int, weights == NULL, has_threads()));
    weights_close(&weights);
    return clip;
}

Test(clip_small, a_hasty_model_gives_the_same_bits_the_first_time_and_later)
{
    struct buffer file;
    random_clip_small(&file);
    struct clip *clip = open_small(1);
    struct clip *hasty = open_hasty(&file);
    cr_expect(strcmp(clip_info(clip)->space, clip_info(hasty)->space) == 0);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t ids[CONTEXT];
        float pixels[PICTURE];
        float got[DIMENSION];
        float wanted[DIMENSION];
        const uint32_t count = 5 + i;
        make_text(i, count, ids);
        make_picture(i, pixels);
        encode_ids(clip, ids, &count, 1, wanted);
        encode_ids(hasty, ids, &count, 1, got);
        cr_expect(same_bits(got, wanted, sizeof(got)), "text %u", i);
        encode_pixels(clip, pixels, 1, wanted);
        encode_pixels(hasty, pixels, 1, got);
        cr_expect(same_bits(got, wanted, sizeof(got)), "picture %u", i);
    }
    clip_close(&hasty);
    clip_close(&clip);
    buffer_deinit(&file);
}

Test(clip_small, a_hasty_model_says_when_it_encodes_which_weight_is_not_finite)
{
    if (!has_threads())
        cr_skip("a GPU's weights are read at once");
    static const char *const names[] = {"text_model.embeddings.token_embedding.weight",
                                        "text_model.encoder.layers.1.mlp.fc2.weight"};
    for (size_t i = 0; i < COUNT(names); i++) {
        struct buffer file;
        random_clip_small(&file);
        struct weights *weights = NULL;
        cr_assert(eq(int, weights_open_bytes((struct bytes){file.data, file.count}, &weights, NULL),
                     STATUS_OK));
        const struct weights_tensor *tensor = weights_find(weights, names[i]);
        const float bad = NAN;
        memcpy(file.data + (tensor->data - file.data) + sizeof(bad), &bad, sizeof(bad));
        weights_close(&weights);

        struct clip *clip = open_hasty(&file);
        for (int round = 0; round < 2; round++) {
            struct reason why = {0};
            float embedding[DIMENSION];
            const uint32_t ids[CONTEXT] = {0, END};
            const uint32_t count = 2;
            const struct clip_ids all = {ids, &count, CONTEXT, 1};
            cr_expect(eq(int, clip_encode_ids(clip, &all, embedding, &why), STATUS_CORRUPT));
            cr_expect(has(why.field, "model.safetensors") && has(why.text, names[i]), "%s: %s",
                      why.field, why.text);
        }
        clip_close(&clip);
        buffer_deinit(&file);
    }
}

// --- bfloat16

static bool has_bf16(void)
{
    return cpu_has_bf16() && has_threads();
}

static enum status open_bf16(struct clip **out, struct reason *why)
{
    struct buffer file;
    struct weights *weights = NULL;
    random_clip_small(&file);
    cr_assert(eq(int, weights_open_bytes((struct bytes){file.data, file.count}, &weights, why),
                 STATUS_OK));
    const struct clip_params params = {.device = "cpu-bf16", .threads = 2};
    const struct clip_files files = {
        .name = "small",
        .config = {(const uint8_t *)random_clip_small_config, strlen(random_clip_small_config)},
    };
    enum status status = clip_open_files(&params, &files, weights, out, why);
    weights_close(&weights);
    buffer_deinit(&file);
    return status;
}

Test(clip_small, bfloat16_is_near_single_precision_and_has_the_same_bits_in_every_batch)
{
    if (!has_bf16())
        cr_skip("this device has no bfloat16");
    struct reason why = {0};
    struct clip *half = NULL;
    cr_assert(eq(int, open_bf16(&half, &why), STATUS_OK), "%s", why.text);
    struct clip *clip = open_small(1);
    const struct clip_info *info = clip_info(half);
    cr_expect(strcmp(info->device, "cpu-bf16") == 0);
    cr_expect(info->agreement >= 0.999 && info->agreement < 1.0, "%.6f", info->agreement);
    cr_expect(eq(dbl, clip_info(clip)->agreement, 1.0));
    cr_expect(strcmp(info->space, clip_info(clip)->space) == 0); // they are searched together

    enum { PICTURES = 40 };
    static float pixels[PICTURES][PICTURE];
    static float wanted[PICTURES][DIMENSION];
    static float got[PICTURES][DIMENSION];
    for (uint32_t p = 0; p < PICTURES; p++)
        make_picture(p, pixels[p]);
    encode_pixels(clip, pixels[0], PICTURES, wanted[0]);
    encode_pixels(half, pixels[0], PICTURES, got[0]);
    for (uint32_t p = 0; p < PICTURES; p++) {
        float alone[DIMENSION];
        double cosine = 0.0;
        for (uint32_t i = 0; i < DIMENSION; i++)
            cosine += (double)wanted[p][i] * (double)got[p][i];
        cr_expect(cosine > 0.998 && cosine < 1.0 - 1e-9, "picture %u: %.6f", p, cosine);
        encode_pixels(half, pixels[p], 1, alone);
        cr_expect(same_bits(alone, got[p], sizeof(alone)), "picture %u", p);
    }
    clip_close(&clip);
    clip_close(&half);
}

Test(clip_small, a_model_that_is_not_near_enough_is_refused_with_the_figure)
{
    // The same architecture with other weights stands for a model that bfloat16 ruins.
    struct buffer file;
    struct clip *other = NULL;
    struct reason why = {0};
    random_clip_small(&file);
    size_t data = 8 + (size_t)bytes_get_u64_le(file.data);
    for (size_t at = data; at + 3 < file.count; at += 40)
        file.data[at + 3] ^= 0x80; // the sign
    cr_assert(eq(int,
                 open_model(random_clip_small_config, (struct bytes){file.data, file.count}, 1,
                            &other, &why),
                 STATUS_OK),
              "%s", why.text);
    struct clip *clip = open_small(1);
    cr_expect(eq(int, clip_trial(clip, other, &why), STATUS_FAILED_PRECONDITION));
    cr_expect(has(why.text, "at least 0.999 is needed") && has(why.text, "texts 0."), "%s",
              why.text);
    cr_expect(eq(int, clip_trial(clip, clip, &why), STATUS_OK));
    clip_close(&clip);
    clip_close(&other);
    buffer_deinit(&file);
}

Test(clip_small, what_stands_behind_the_first_end_token_changes_nothing)
{
    struct clip *clip = open_small(1);
    for (uint32_t count = 1; count < CONTEXT; count++) {
        uint32_t ids[CONTEXT];
        float cut[DIMENSION];
        float longer[DIMENSION];
        make_text(count, count, ids);
        encode_ids(clip, ids, &count, 1, cut);
        for (uint32_t i = count; i < CONTEXT; i++)
            ids[i] = i % 3;
        const uint32_t all = CONTEXT;
        encode_ids(clip, ids, &all, 1, longer);
        cr_expect(same_bits(cut, longer, sizeof(cut)), "%u tokens", count);
    }
    clip_close(&clip);
}

// Replaces `from` by `to` in a copy of the config; freed by the caller.
static char *config_with(const char *from, const char *to)
{
    const char *at = strstr(random_clip_small_config, from);
    cr_assert(at != NULL, "%s", from);
    size_t room = strlen(random_clip_small_config) + strlen(to) + 1;
    char *config = malloc(room);
    cr_assert(config != NULL);
    (void)snprintf(config, room, "%.*s%s%s", (int)(at - random_clip_small_config),
                   random_clip_small_config, to, at + strlen(from));
    return config;
}

Test(clip_small, an_end_token_of_two_means_the_largest_id)
{
    // Files of OpenAI's models written before 2023 say 2; the end token is the largest id.
    struct buffer file;
    struct reason why = {0};
    random_clip_small(&file);
    char *config = config_with("\"eos_token_id\": 49", "\"eos_token_id\": 2");
    struct clip *legacy = NULL;
    cr_assert(eq(int, open_model(config, (struct bytes){file.data, file.count}, 1, &legacy, &why),
                 STATUS_OK),
              "%s", why.text);
    struct clip *clip = open_small(1);
    uint32_t ids[CONTEXT];
    float expected[DIMENSION];
    float got[DIMENSION];
    const uint32_t all = CONTEXT;
    make_text(3, 8, ids);
    ids[2] = 2;
    encode_ids(clip, ids, &all, 1, expected);
    encode_ids(legacy, ids, &all, 1, got);
    cr_expect(same_bits(got, expected, sizeof(got)));
    clip_close(&clip);
    clip_close(&legacy);
    free(config);
    buffer_deinit(&file);
}

// A picture takes no whole number of words here, and patches do not divide it.
Test(clip_small, pictures_of_bytes_have_the_embeddings_of_the_floats_that_they_stand_for)
{
    enum { COUNT = 5, SIZE = RANDOM_CLIP_SMALL_IMAGE, BYTES = IMAGE_PICTURE_BYTES(SIZE) };
    static uint8_t pictures[COUNT][BYTES];
    static float pixels[COUNT][PICTURE];
    float expected[COUNT][DIMENSION];
    float got[COUNT][DIMENSION];
    float table[3][256];
    preprocessor = "{\"size\": 17, \"crop_size\": 17, \"image_mean\": [0.4, 0.5, 0.6],"
                   " \"image_std\": [0.2, 0.3, 0.4]}";
    struct clip *clip = open_small(1);
    image_table(clip_info(clip)->image, table);
    uint64_t state = 9;
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t at = 0; at < BYTES; at++)
            pictures[i][at] = (uint8_t)(next(&state) >> 40);
        for (size_t at = 0; at < PICTURE; at++)
            pixels[i][at % 3 * SIZE * SIZE + at / 3] = table[at % 3][pictures[i][at]];
    }
    encode_pixels(clip, pixels[0], COUNT, expected[0]);
    cr_assert(eq(int, clip_encode_pictures(clip, pictures[0], COUNT, got[0], NULL), STATUS_OK));
    cr_expect(same_bits(got, expected, sizeof(got)));
    cr_assert(eq(int, clip_encode_pictures(clip, pictures[3], 1, got[0], NULL), STATUS_OK));
    cr_expect(same_bits(got[0], expected[3], sizeof(got[0])));
    clip_close(&clip);
}

Test(clip_small, pictures_of_bytes_are_refused_where_nobody_says_what_a_byte_is)
{
    struct clip *clip = open_small(1);
    struct reason why = {.text = ""};
    cr_expect(eq(int, clip_encode_pictures(clip, NULL, 0, NULL, &why), STATUS_FAILED_PRECONDITION));
    cr_expect(strstr(why.text, "no preprocessor_config.json") != NULL, "%s", why.text);
    clip_close(&clip);
}

Test(clip_small, none_of_anything_is_allowed)
{
    struct clip *clip = open_small(1);
    cr_expect(eq(int, clip_encode_pixels(clip, NULL, 0, NULL, NULL), STATUS_OK));
    cr_expect(eq(int, clip_encode_ids(clip, &(struct clip_ids){0}, NULL, NULL), STATUS_OK));
    clip_close(&clip);
    clip_close(&clip);
}

// --- refused

Test(clip_small, refuses_ids_that_are_no_text_and_names_the_text)
{
    static const struct {
        uint32_t second[4];
        uint32_t count;
        const char *says;
    } cases[] = {
        {{1, 50, 49, 49}, 4, "text 1 has the token 50; the vocabulary has 50"},
        {{1, UINT32_MAX, 49, 49}, 4, "text 1 has the token 4294967295"},
        {{1, 2, 3, 4}, 4, "text 1 has no end token 49"},
        {{1, 2, 49, 49}, 2, "text 1 has no end token 49"},
        {{49, 49, 49, 49}, 0, "text 1 has no end token 49"},
        {{49, 49, 49, 49}, CONTEXT + 1, "text 1 has 14 tokens; at most 13"},
        {{49, 49, 49, 49}, UINT32_MAX, "text 1 has 4294967295 tokens"},
    };
    struct clip *clip = open_small(1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint32_t ids[2 * CONTEXT] = {1, END};
        const uint32_t counts[2] = {2, cases[i].count};
        float embeddings[2 * DIMENSION];
        struct reason why = {0};
        memcpy(ids + CONTEXT, cases[i].second, sizeof(cases[i].second));
        const struct clip_ids all = {ids, counts, CONTEXT, 2};
        cr_expect(eq(int, clip_encode_ids(clip, &all, embeddings, &why), STATUS_INVALID));
        cr_expect(has(why.text, cases[i].says), "%s", why.text);
    }
    clip_close(&clip);
}

Test(clip_small, refuses_pixels_that_are_not_finite_and_names_the_picture)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static float pixels[3][PICTURE];
    float embeddings[3 * DIMENSION];
    struct clip *clip = open_small(1);
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct reason why = {0};
        for (uint32_t p = 0; p < 3; p++)
            make_picture(p, pixels[p]);
        pixels[2][PICTURE - 1] = bad[i];
        cr_expect(
            eq(int, clip_encode_pixels(clip, pixels[0], 3, embeddings, &why), STATUS_INVALID));
        cr_expect(has(why.text, "picture 2"), "%s", why.text);
        encode_pixels(clip, pixels[0], 2, embeddings); // and stays usable
    }
    clip_close(&clip);
}

Test(clip_small, without_a_vocabulary_texts_are_refused)
{
    struct clip *clip = open_small(1);
    struct reason why = {0};
    const struct text text = {"x", 1};
    float embedding[DIMENSION];
    cr_expect(
        eq(int, clip_encode_texts(clip, &text, 1, embedding, &why), STATUS_FAILED_PRECONDITION));
    cr_expect(has(why.text, "vocabulary"), "%s", why.text);
    cr_expect(eq(ptr, (void *)clip_tokenizer(clip), NULL));
    clip_close(&clip);
}

// What replaces a text of equal length in the header.
static const struct {
    const char *from;
    const char *to;
    const char *says;
    enum status status;
} replaced[] = {
    {"\"logit_scale\"", "\"logit_scalX\"", "has no tensor logit_scale", STATUS_NOT_FOUND},
    {"\"text_projection.weight\"", "\"text_projectioX.weight\"",
     "has no tensor text_projection.weight", STATUS_NOT_FOUND},
    {"encoder.layers.1.mlp.fc2.bias", "encoder.layers.7.mlp.fc2.bias",
     "has no tensor text_model.encoder.layers.1.mlp.fc2.bias", STATUS_NOT_FOUND},
    {"vision_model.embeddings.class_embedding", "vision_model.embeddings.class_embeddinX",
     "vision_model.embeddings.class_embedding", STATUS_NOT_FOUND},
    {"vision_model.pre_layrnorm.bias", "vision_model.pre_layernorm.bia",
     "vision_model.pre_layrnorm.bias", STATUS_NOT_FOUND},
    {"\"shape\":[18,20]", "\"shape\":[20,18]",
     "text_projection.weight has shape [20,18]; config.json needs [18,20]", STATUS_INVALID},
    {"\"shape\":[50,20]", "\"shape\":[20,50]",
     "token_embedding.weight has shape [20,50]; config.json needs [50,20]", STATUS_INVALID},
    {"\"shape\":[36,20]", "\"shape\":[20,36]", "mlp.fc1.weight has shape [20,36]", STATUS_INVALID},
    {"\"shape\":[10,27]", "\"shape\":[27,10]",
     "vision_model.embeddings.position_embedding.weight has shape [27,10]", STATUS_INVALID},
    {"\"shape\":[27,3,5,5]", "\"shape\":[27,5,3,5]", "patch_embedding.weight has shape",
     STATUS_INVALID},
    {"\"shape\":[]", "\"shape\":7 ", "shape", STATUS_CORRUPT},
    {"\"dtype\":\"F32\",\"shape\":[18,20]", "\"dtype\":\"I32\",\"shape\":[18,20]",
     "text_projection.weight has dtype I32", STATUS_UNSUPPORTED},
    {"\"dtype\":\"F32\",\"shape\":[]", "\"dtype\":\"U32\",\"shape\":[]", "logit_scale has dtype",
     STATUS_UNSUPPORTED},
};

static void replace_in_header(struct buffer *file, const char *from, const char *to)
{
    size_t header = (size_t)bytes_get_u64_le(file->data);
    size_t length = strlen(from);
    cr_assert(eq(sz, strlen(to), length));
    for (size_t at = 8; at + length <= 8 + header; at++) {
        if (same_bits(file->data + at, from, length)) {
            memcpy(file->data + at, to, length);
            return;
        }
    }
    cr_fatal("no '%s' in the header", from);
}

Test(clip_small, weights_that_do_not_fit_the_config_are_refused_by_name)
{
    for (size_t i = 0; i < COUNT(replaced); i++) {
        struct buffer file;
        struct clip *clip = NULL;
        struct reason why = {0};
        random_clip_small(&file);
        replace_in_header(&file, replaced[i].from, replaced[i].to);
        enum status status = open_model(random_clip_small_config,
                                        (struct bytes){file.data, file.count}, 1, &clip, &why);
        cr_expect(eq(int, status, replaced[i].status), "%s: %s", replaced[i].to, why.text);
        cr_expect(has(why.text, replaced[i].says), "%s: %s", replaced[i].to, why.text);
        cr_expect(eq(ptr, clip, NULL));
        clip_close(&clip);
        buffer_deinit(&file);
    }
}

Test(clip_small, a_config_that_promises_more_than_the_weights_hold_takes_no_memory_for_it)
{
    static const struct {
        const char *from;
        const char *to;
        const char *says;
    } cases[] = {
        {"\"vocab_size\": 50", "\"vocab_size\": 1048576", "needs [1048576,20]"},
        {"\"max_position_embeddings\": 13", "\"max_position_embeddings\": 1024", "needs [1024,20]"},
        {"\"intermediate_size\": 36", "\"intermediate_size\": 32768", "needs [32768,20]"},
        {"\"intermediate_size\": 41", "\"intermediate_size\": 32768", "needs [32768,27]"},
        {"\"num_hidden_layers\": 3", "\"num_hidden_layers\": 128", "encoder.layers.3."},
        {"\"hidden_size\": 27", "\"hidden_size\": 8190", "needs [41,8190]"},
        {"\"projection_dim\": 18", "\"projection_dim\": 4096", "needs [4096,20]"},
        {"\"image_size\": 17", "\"image_size\": 320", "needs [4097,27]"},
    };
    struct buffer file;
    random_clip_small(&file);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct clip *clip = NULL;
        struct reason why = {0};
        char *config = config_with(cases[i].from, cases[i].to);
        enum status status =
            open_model(config, (struct bytes){file.data, file.count}, 1, &clip, &why);
        cr_expect(ne(int, status, STATUS_OK), "%s", cases[i].to);
        cr_expect(has(why.text, cases[i].says), "%s: %s", cases[i].to, why.text);
        clip_close(&clip);
        free(config);
    }
    buffer_deinit(&file);
}

Test(clip_small, a_weight_that_is_not_finite_is_refused_wherever_it_stands)
{
    struct buffer file;
    random_clip_small(&file);
    size_t data = 8 + (size_t)bytes_get_u64_le(file.data);
    size_t values = (file.count - data) / sizeof(float);
    for (size_t i = 0; i < values; i += 997) {
        float before;
        const float bad = i % 2 ? NAN : INFINITY;
        uint8_t *at = file.data + data + i * sizeof(float);
        struct clip *clip = NULL;
        struct reason why = {0};
        memcpy(&before, at, sizeof(before));
        memcpy(at, &bad, sizeof(bad));
        cr_expect(eq(int,
                     open_model(random_clip_small_config, (struct bytes){file.data, file.count}, 1,
                                &clip, &why),
                     STATUS_CORRUPT));
        cr_expect(has(why.field, "model.safetensors") && has(why.text, "not finite"), "%s: %s",
                  why.field, why.text);
        memcpy(at, &before, sizeof(before));
    }
    buffer_deinit(&file);
}

Test(clip_small, memory_that_runs_out_anywhere_is_an_error_and_leaks_nothing)
{
    struct buffer file;
    random_clip_small(&file);
    // A device is opened each time; behind Vulkan, where that takes long, every seventh will do.
    const uint64_t step = has_threads() ? 1 : 7;
    uint64_t n = 1;
    for (;; n += step) {
        struct weights *weights = NULL;
        cr_assert(eq(int, weights_open_bytes((struct bytes){file.data, file.count}, &weights, NULL),
                     STATUS_OK));
        const struct clip_params params = {.device = vulkan_device_name(), .threads = 2};
        const struct clip_files files = {
            .name = "small",
            .config = {(const uint8_t *)random_clip_small_config, strlen(random_clip_small_config)},
        };
        struct clip *clip = NULL;
        struct reason why = {0};
        mem_fail_after(n);
        enum status status = clip_open_files(&params, &files, weights, &clip, &why);
        float embedding[DIMENSION];
        uint32_t ids[CONTEXT];
        const uint32_t count = CONTEXT;
        make_text(1, CONTEXT, ids);
        const struct clip_ids all = {ids, &count, CONTEXT, 1};
        if (status == STATUS_OK)
            status = clip_encode_ids(clip, &all, embedding, &why);
        mem_fail_after(0);
        clip_close(&clip);
        weights_close(&weights);
        if (status == STATUS_OK)
            break;
        cr_assert(eq(int, status, STATUS_NO_MEMORY), "allocation %llu: %s", (unsigned long long)n,
                  why.text);
        cr_assert(lt(u64, n, 5000));
    }
    cr_expect(gt(u64, n, 20)); // there were some to fail
    buffer_deinit(&file);
}

// --- the space

static void space_of(const char *config, const struct buffer *file, char space[CLIP_SPACE_BYTES])
{
    struct clip *clip = NULL;
    struct reason why = {0};
    cr_assert(eq(int, open_model(config, (struct bytes){file->data, file->count}, 1, &clip, &why),
                 STATUS_OK),
              "%s", why.text);
    (void)snprintf(space, CLIP_SPACE_BYTES, "%s", clip_info(clip)->space);
    clip_close(&clip);
}

Test(clip_small, the_space_is_another_when_a_weight_or_the_architecture_is)
{
    struct buffer file;
    char first[CLIP_SPACE_BYTES];
    char other[CLIP_SPACE_BYTES];
    random_clip_small(&file);
    space_of(random_clip_small_config, &file, first);
    cr_expect(eq(sz, strlen(first), 64 + 1 + 2));
    cr_expect(has(first, ":18"));
    space_of(random_clip_small_config, &file, other);
    cr_expect(strcmp(first, other) == 0);

    static const char *const changes[][2] = {
        {"\"quick_gelu\"", "\"gelu\""},
        {"\"num_attention_heads\": 5", "\"num_attention_heads\": 4"},
        {"\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2"},
        {"\"eos_token_id\": 49", "\"eos_token_id\": 48"},
        {"\"image_size\": 17", "\"image_size\": 18"},
        {"\"projection_dim\": 18,", "\"projection_dim\": 18, \"vision_config_dict\": "
                                    "{\"layer_norm_eps\": 1e-6},"},
    };
    for (size_t i = 0; i < COUNT(changes); i++) {
        char *config = config_with(changes[i][0], changes[i][1]);
        space_of(config, &file, other);
        cr_expect(strcmp(first, other) != 0, "%s", changes[i][1]);
        free(config);
    }
    file.data[file.count - 1] ^= 1; // one bit of the last weight
    space_of(random_clip_small_config, &file, other);
    cr_expect(strcmp(first, other) != 0);
    file.data[file.count - 1] ^= 1;

    // What does not decide an embedding does not count: names of files, metadata, keys
    // that say the default.
    char *config = config_with("\"projection_dim\": 18,",
                               "\"projection_dim\": 18, \"torch_dtype\": \"float32\",");
    space_of(config, &file, other);
    cr_expect(strcmp(first, other) == 0);
    free(config);
    buffer_deinit(&file);
}

int main(int argc, char **argv)
{
    return vulkan_device_main(argc, argv);
}
