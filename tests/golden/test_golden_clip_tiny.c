// SPDX-License-Identifier: Apache-2.0
// Goal: reco-tiny gives the embeddings that transformers gives, and where the two once
// differ, the step that differs is found.
//
// Method: 64 pictures and 64 texts with the embeddings of transformers' CLIPModel
// in single precision, and for two of each what it made between its layers. The
// encoder is cut behind each layer by a config.json that says so, and must then
// read out what the double precision reference reads out of transformers' values.

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/json.h"
#include "proto/base/mem.h"
#include "shaders/models/clip_internal.h"
#include "shaders/models/image.h"
#include "shaders/models/tokenizer.h"
#include "tests/golden/golden_embedding.h"
#include "tests/reference/reference_clip.h"
#include "tests/support/npy.h"
#include "tests/support/vulkan_device.h"

#define FOLDER RECO_SOURCE_DIR "/tests/golden/tiny/"
#define MODEL RECO_SOURCE_DIR "/shaders/models/reco-tiny/"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { IMAGE_LAYERS = 4, TEXT_LAYERS = 3 };
enum { DIMENSION = 128, COUNT = 64, CONTEXT = 32, SIZE = 64, PICTURE = 3 * SIZE * SIZE };

static struct clip *open_tiny(void)
{
    struct clip *clip = NULL;
    struct reason why = {0};
    const struct clip_params params = {.device = vulkan_device_name()};
    cr_assert(eq(int, clip_open(&params, &clip, &why), STATUS_OK), "%s: %s", why.field, why.text);
    return clip;
}

static struct npy load(const char *name)
{
    char path[1024];
    struct npy array;
    (void)snprintf(path, sizeof(path), FOLDER "%s.npy", name);
    npy_read(path, NPY_F32, &array);
    return array;
}

static struct json *open_index(void)
{
    struct json *index = NULL;
    struct reason why = {0};
    cr_assert(eq(int, json_parse_file(FOLDER "index.json", 1u << 20, &index, &why), STATUS_OK),
              "%s", why.text);
    return index;
}

// --- texts

Test(golden_clip_tiny, texts_as_ids_and_as_text_have_transformers_embeddings)
{
    static float embeddings[COUNT * DIMENSION];
    static float again[COUNT * DIMENSION];
    static uint32_t padded[COUNT * CONTEXT];
    struct clip *clip = open_tiny();
    struct npy expected = load("text_embeds_normalised");
    struct npy ids;
    npy_read(FOLDER "input_ids.npy", NPY_I32, &ids);
    cr_assert(eq(sz, expected.count, COUNT_OF(embeddings)));
    cr_assert(eq(sz, ids.count, COUNT_OF(padded)));

    // As transformers sees them: all tokens, padded with the end token.
    uint32_t counts[COUNT];
    struct reason why = {0};
    for (size_t i = 0; i < COUNT_OF(padded); i++)
        padded[i] = (uint32_t)npy_ints(&ids)[i];
    for (size_t i = 0; i < COUNT; i++)
        counts[i] = CONTEXT;
    const struct clip_ids all = {padded, counts, CONTEXT, COUNT};
    cr_assert(eq(int, clip_encode_ids(clip, &all, embeddings, &why), STATUS_OK), "%s", why.text);
    for (size_t i = 0; i < COUNT; i++)
        golden_expect_embedding("ids", i, embeddings + i * DIMENSION,
                                npy_floats(&expected) + i * DIMENSION, DIMENSION);

    struct json *index = open_index();
    struct text texts[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        texts[i] = json_text(json_element(json_member(index, "texts"), i));
    cr_assert(eq(int, clip_encode_texts(clip, texts, COUNT, again, &why), STATUS_OK), "%s",
              why.text);
    cr_expect(golden_same_bits(again, embeddings, sizeof(embeddings)));

    json_destroy(&index);
    npy_free(&ids);
    npy_free(&expected);
    clip_close(&clip);
    golden_log_worst();
}

// --- pictures

Test(golden_clip_tiny, pixels_of_transformers_have_its_embeddings)
{
    float embeddings[2 * DIMENSION];
    struct clip *clip = open_tiny();
    struct npy pixels = load("pixel_values");
    struct npy expected = load("image_embeds_normalised");
    struct reason why = {0};
    cr_assert(eq(sz, pixels.count, (size_t)2 * PICTURE));
    cr_assert(
        eq(int, clip_encode_pixels(clip, npy_floats(&pixels), 2, embeddings, &why), STATUS_OK),
        "%s", why.text);
    for (size_t i = 0; i < 2; i++)
        golden_expect_embedding("pixels", i, embeddings + i * DIMENSION,
                                npy_floats(&expected) + i * DIMENSION, DIMENSION);
    npy_free(&expected);
    npy_free(&pixels);
    clip_close(&clip);
}

Test(golden_clip_tiny, picture_files_have_transformers_embeddings_and_logits)
{
    static float pixels[COUNT * PICTURE];
    static uint8_t pictures[COUNT * PICTURE]; // a multiple of four bytes each
    static float embeddings[COUNT * DIMENSION];
    static float of_bytes[COUNT * DIMENSION];
    struct clip *clip = open_tiny();
    struct json *index = open_index();
    struct reason why = {0};
    for (size_t i = 0; i < COUNT; i++) {
        char path[1024];
        struct buffer file = {0};
        struct text name = json_text(json_element(json_member(index, "images"), i));
        (void)snprintf(path, sizeof(path), FOLDER "images/%.*s", (int)name.bytes, name.data);
        cr_assert(eq(int, bytes_read_file(path, 1u << 20, &file), STATUS_OK), "%s", path);
        cr_assert(eq(int,
                     image_preprocess((struct bytes){file.data, file.count}, clip_info(clip)->image,
                                      pixels + i * PICTURE, NULL, &why),
                     STATUS_OK),
                  "%s: %s", path, why.text);
        cr_assert(eq(int,
                     image_prepare((struct bytes){file.data, file.count}, clip_info(clip)->image,
                                   pictures + i * PICTURE, NULL, &why),
                     STATUS_OK),
                  "%s: %s", path, why.text);
        buffer_deinit(&file);
    }
    struct npy expected = load("image_embeds_normalised");
    struct npy texts = load("text_embeds_normalised");
    struct npy logits = load("logits_per_image");
    cr_assert(eq(int, clip_encode_pixels(clip, pixels, COUNT, embeddings, &why), STATUS_OK), "%s",
              why.text);
    cr_assert(eq(int, clip_encode_pictures(clip, pictures, COUNT, of_bytes, &why), STATUS_OK), "%s",
              why.text);
    cr_expect(memcmp(embeddings, of_bytes, sizeof(embeddings)) == 0);
    for (size_t i = 0; i < COUNT; i++) {
        const float *got = embeddings + i * DIMENSION;
        golden_expect_embedding("file", i, got, npy_floats(&expected) + i * DIMENSION, DIMENSION);
        for (size_t t = 0; t < COUNT; t++) {
            double logit = 0.0;
            for (size_t d = 0; d < DIMENSION; d++)
                logit += (double)got[d] * (double)npy_floats(&texts)[t * DIMENSION + d];
            logit *= clip_info(clip)->logit_scale;
            cr_expect(fabs(logit - (double)npy_floats(&logits)[i * COUNT + t]) <
                      (vulkan_device_is_half() ? 0.1 : 1e-3));
        }
    }
    npy_free(&logits);
    npy_free(&texts);
    npy_free(&expected);
    json_destroy(&index);
    clip_close(&clip);
    golden_log_worst();
}

// --- between the layers

struct model {
    struct buffer config;
    struct weights *weights;
};

static struct model open_files(void)
{
    struct model model = {0};
    struct reason why = {0};
    cr_assert(eq(int, weights_open(MODEL "model.safetensors", &model.weights, &why), STATUS_OK),
              "%s", why.text);
    cr_assert(eq(int, bytes_read_file(MODEL "config.json", 1u << 16, &model.config), STATUS_OK));
    return model;
}

static void close_files(struct model *model)
{
    weights_close(&model->weights);
    buffer_deinit(&model->config);
}

// The model with at most the first `layers` layers of each tower.
static struct clip *open_cut(const struct model *model, uint32_t layers)
{
    static const char key[] = "\"num_hidden_layers\": ";
    char *config = mem_copy_text((const char *)model->config.data);
    for (char *at = strstr(config, key); at; at = strstr(at + 1, key)) {
        char *digit = at + strlen(key);
        if (*digit > '0' + (int)layers)
            *digit = (char)('0' + (int)layers);
    }
    const struct clip_params params = {.device = vulkan_device_name()};
    const struct clip_files files = {
        .name = "cut",
        .config = {(const uint8_t *)config, strlen(config)},
    };
    struct clip *clip = NULL;
    struct reason why = {0};
    cr_assert(eq(int, clip_open_files(&params, &files, model->weights, &clip, &why), STATUS_OK),
              "%s", why.text);
    mem_free(config);
    return clip;
}

// What the reference reads out of one row of transformers' values.
static void read_out(const struct model *model, const struct clip *clip, bool is_image,
                     const float *row, float embedding[DIMENSION])
{
    const struct reference_clip reference = {.weights = model->weights, .config = &clip->config};
    double wide[1024];
    double result[DIMENSION];
    size_t width = is_image ? clip->config.image.width : clip->config.text.width;
    cr_assert(le(sz, width, 1024));
    for (size_t i = 0; i < width; i++)
        wide[i] = (double)row[i];
    reference_clip_read_out(&reference, is_image, wide, result);
    for (size_t i = 0; i < DIMENSION; i++)
        embedding[i] = (float)result[i];
}

Test(golden_clip_tiny, behind_every_layer_a_picture_is_where_transformers_has_it)
{
    struct model model = open_files();
    struct npy pixels = load("pixel_values");
    for (uint32_t layers = 1; layers <= IMAGE_LAYERS; layers++) {
        char name[32];
        float got[2 * DIMENSION];
        struct reason why = {0};
        (void)snprintf(name, sizeof(name), "vision.2_block%u", layers - 1);
        struct npy block = load(name); // [2][tokens][width]
        struct clip *clip = open_cut(&model, layers);
        cr_assert(eq(int, clip_encode_pixels(clip, npy_floats(&pixels), 2, got, &why), STATUS_OK),
                  "%s", why.text);
        for (size_t i = 0; i < 2; i++) {
            float expected[DIMENSION];
            const float *row = npy_floats(&block) + i * block.shape[1] * block.shape[2];
            read_out(&model, clip, true, row, expected);
            golden_expect_embedding(name, i, got + i * DIMENSION, expected, DIMENSION);
        }
        clip_close(&clip);
        npy_free(&block);
    }
    npy_free(&pixels);
    close_files(&model);
}

// Which of the 64 texts the steps were kept of.
static size_t step_text(const struct json *index, size_t step)
{
    struct text wanted = json_text(json_element(json_member(index, "steps_of_texts"), step));
    const struct json *texts = json_member(index, "texts");
    for (size_t i = 0; i < json_count(texts); i++) {
        if (text_equal(json_text(json_element(texts, i)), wanted))
            return i;
    }
    cr_fatal("step %zu is of no text", step);
    return 0;
}

Test(golden_clip_tiny, behind_every_layer_a_text_is_where_transformers_has_it)
{
    struct model model = open_files();
    struct json *index = open_index();
    struct npy all;
    npy_read(FOLDER "input_ids.npy", NPY_I32, &all);
    for (uint32_t layers = 1; layers <= TEXT_LAYERS; layers++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "text.2_block%u", layers - 1);
        struct npy block = load(name); // [2][CONTEXT][width]
        struct clip *clip = open_cut(&model, layers);
        for (size_t i = 0; i < 2; i++) {
            uint32_t ids[CONTEXT];
            float got[DIMENSION];
            float expected[DIMENSION];
            const uint32_t count = CONTEXT;
            uint32_t end = CONTEXT;
            for (uint32_t t = CONTEXT; t-- > 0;) {
                ids[t] = (uint32_t)npy_ints(&all)[step_text(index, i) * CONTEXT + t];
                end = ids[t] == clip->config.end_token ? t : end;
            }
            const struct clip_ids one = {ids, &count, CONTEXT, 1};
            cr_assert(eq(int, clip_encode_ids(clip, &one, got, NULL), STATUS_OK));
            read_out(&model, clip, false, npy_floats(&block) + (i * CONTEXT + end) * block.shape[2],
                     expected);
            golden_expect_embedding(name, i, got, expected, DIMENSION);
        }
        clip_close(&clip);
        npy_free(&block);
    }
    npy_free(&all);
    json_destroy(&index);
    close_files(&model);
}

// --- the reference itself

struct trace {
    const char *prefix; // "vision" or "text"
    size_t item;        // 0 or 1
    size_t steps;
};

static void compare_step(void *context, const char *step, uint32_t layer, const double *values,
                         size_t rows, size_t width)
{
    struct trace *trace = context;
    bool is_image = trace->prefix[0] == 'v';
    char name[48];
    if (strcmp(step, "embeddings") == 0)
        (void)snprintf(name, sizeof(name), "%s.0_embeddings", trace->prefix);
    else if (strcmp(step, "pre_norm") == 0)
        (void)snprintf(name, sizeof(name), "%s.1_pre_norm", trace->prefix);
    else if (strcmp(step, "block") == 0)
        (void)snprintf(name, sizeof(name), "%s.2_block%u", trace->prefix, layer);
    else
        (void)snprintf(name, sizeof(name), is_image ? "vision.3_pooled" : "text.3_final_norm");
    struct npy golden = load(name);
    cr_assert(eq(sz, golden.count, 2 * rows * width), "%s", name);
    double worst = 0.0;
    for (size_t i = 0; i < rows * width; i++)
        worst = fmax(worst,
                     fabs(values[i] - (double)npy_floats(&golden)[trace->item * rows * width + i]));
    cr_expect(worst < (vulkan_device_is_half() ? 0.05 : 1e-4), "%s of item %zu: %g", name,
              trace->item, worst);
    npy_free(&golden);
    trace->steps++;
}

Test(golden_clip_tiny, the_double_precision_reference_agrees_with_every_step_of_transformers)
{
    struct model model = open_files();
    struct clip *clip = open_cut(&model, IMAGE_LAYERS);
    struct json *index = open_index();
    struct npy pixels = load("pixel_values");
    struct npy all;
    npy_read(FOLDER "input_ids.npy", NPY_I32, &all);
    for (size_t i = 0; i < 2; i++) {
        double embedding[DIMENSION];
        struct trace trace = {.prefix = "vision", .item = i};
        struct reference_clip reference = {model.weights, &clip->config, compare_step, &trace};
        reference_clip_image(&reference, npy_floats(&pixels) + i * PICTURE, embedding);
        cr_expect(eq(sz, trace.steps, 2 + (size_t)clip->config.image.layers + 1));

        uint32_t ids[CONTEXT];
        trace = (struct trace){.prefix = "text", .item = i};
        for (uint32_t t = 0; t < CONTEXT; t++)
            ids[t] = (uint32_t)npy_ints(&all)[step_text(index, i) * CONTEXT + t];
        reference_clip_text(&reference, ids, CONTEXT, embedding);
        cr_expect(eq(sz, trace.steps, 1 + (size_t)clip->config.text.layers + 1));
    }
    npy_free(&all);
    npy_free(&pixels);
    json_destroy(&index);
    clip_close(&clip);
    close_files(&model);
}

int main(int argc, char **argv)
{
    return vulkan_device_main(argc, argv);
}
