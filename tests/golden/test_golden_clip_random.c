// SPDX-License-Identifier: Apache-2.0
// Goal: models of full size (ViT-B/32, and two layers of ViT-L/14 with the exact GELU)
// give the embeddings that transformers gives, to the bit the same alone and in a batch.
//
// Method: the weights are made here from their seed and checked against the digest of
// the file that transformers had; four pictures and four texts. GOLDEN is the folder,
// set by the build. The encoder is also cut behind its first layer and in the middle.

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
#include "tests/golden/golden_embedding.h"
#include "tests/reference/reference_clip.h"
#include "tests/support/npy.h"
#include "tests/support/random_clip.h"
#include "tests/support/vulkan_device.h"

#define FOLDER RECO_SOURCE_DIR "/tests/golden/" GOLDEN
#define PICTURES RECO_SOURCE_DIR "/tests/golden/preprocess/"

enum { COUNT = 4, CONTEXT = 77, SIZE = 224, PICTURE = 3 * SIZE * SIZE };

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

struct model {
    struct buffer config;
    struct buffer file;
    struct weights *weights;
    struct json *golden;
    float *pixels; // [COUNT][PICTURE]
    uint32_t ids[COUNT * CONTEXT];
};

static struct npy load(const char *name, enum npy_type type)
{
    char path[1024];
    struct npy array;
    (void)snprintf(path, sizeof(path), FOLDER "/%s.npy", name);
    npy_read(path, type, &array);
    return array;
}

// --- what goes in

static void check_digest(const struct model *model)
{
    struct hash_sha256 hash;
    uint8_t digest[HASH_SHA256_BYTES];
    char text[HASH_SHA256_HEX_BYTES];
    hash_sha256_init(&hash);
    hash_sha256_update(&hash, model->file.data, model->file.count);
    hash_sha256_final(&hash, digest);
    hash_hex(digest, sizeof(digest), text);
    struct text expected = json_text(json_member(model->golden, "file_sha256"));
    cr_assert(text_equal(text_of(text), expected), "the file's SHA-256 is %s", text);
}

static void read_pictures(struct model *model)
{
    // OpenAI's preprocessing, as the goldens were made.
    static const char preprocessor[] =
        "{\"do_resize\": true, \"size\": {\"shortest_edge\": 224}, \"resample\": 3,"
        " \"do_center_crop\": true, \"crop_size\": {\"height\": 224, \"width\": 224},"
        " \"do_normalize\": true, \"image_mean\": [0.48145466, 0.4578275, 0.40821073],"
        " \"image_std\": [0.26862954, 0.26130258, 0.27577711]}";
    struct image_params params;
    struct reason why = {0};
    const struct bytes json = {(const uint8_t *)preprocessor, sizeof(preprocessor) - 1};
    cr_assert(eq(int, image_params_parse(json, SIZE, &params, &why), STATUS_OK), "%s", why.text);
    params.profile = IMAGE_PROFILE_HF;
    model->pixels = malloc(sizeof(float) * COUNT * PICTURE);
    cr_assert(model->pixels != NULL);
    for (size_t i = 0; i < COUNT; i++) {
        char path[1024];
        struct buffer file = {0};
        struct text name = json_text(json_element(json_member(model->golden, "images"), i));
        (void)snprintf(path, sizeof(path), PICTURES "%.*s", (int)name.bytes, name.data);
        cr_assert(eq(int, bytes_read_file(path, 1u << 24, &file), STATUS_OK), "%s", path);
        cr_assert(eq(int,
                     image_preprocess((struct bytes){file.data, file.count}, &params,
                                      model->pixels + i * PICTURE, NULL, &why),
                     STATUS_OK),
                  "%s: %s", path, why.text);
        buffer_deinit(&file);
    }
}

static void open_model(struct model *model)
{
    struct reason why = {0};
    memset(model, 0, sizeof(*model));
    cr_assert(eq(int, json_parse_file(FOLDER "/golden.json", 16u << 20, &model->golden, &why),
                 STATUS_OK));
    cr_assert(eq(int, bytes_read_file(FOLDER "/config.json", 1u << 16, &model->config), STATUS_OK));
    random_clip_make(FOLDER, &model->file);
    check_digest(model);
    cr_assert(eq(int,
                 weights_open_bytes((struct bytes){model->file.data, model->file.count},
                                    &model->weights, &why),
                 STATUS_OK),
              "%s", why.text);
    struct npy ids = load("input_ids", NPY_I32);
    cr_assert(eq(sz, ids.count, COUNT_OF(model->ids)));
    for (size_t i = 0; i < ids.count; i++)
        model->ids[i] = (uint32_t)npy_ints(&ids)[i];
    npy_free(&ids);
    read_pictures(model);
}

static void close_model(struct model *model)
{
    free(model->pixels);
    weights_close(&model->weights);
    mem_free(model->file.data);
    buffer_deinit(&model->config);
    json_destroy(&model->golden);
}

// The model with the first `layers` layers of each tower, where each has `all`.
static struct clip *open_cut(const struct model *model, uint32_t layers, uint32_t all)
{
    char from[48];
    char to[48];
    char *config = mem_copy_text((const char *)model->config.data);
    (void)snprintf(from, sizeof(from), "\"num_hidden_layers\": %u,", all);
    (void)snprintf(to, sizeof(to), "\"num_hidden_layers\": %-*u,", all > 9 ? 2 : 1, layers);
    cr_assert(eq(sz, strlen(from), strlen(to)));
    for (char *at = strstr(config, from); at; at = strstr(at + 1, from))
        memcpy(at, to, strlen(to));
    const struct clip_params params = {.device = vulkan_device_name()};
    const struct clip_files files = {
        .name = GOLDEN,
        .config = {(const uint8_t *)config, strlen(config)},
    };
    struct clip *clip = NULL;
    struct reason why = {0};
    cr_assert(eq(int, clip_open_files(&params, &files, model->weights, &clip, &why), STATUS_OK),
              "%s: %s", why.field, why.text);
    cr_assert(eq(u32, clip->config.image.layers, layers));
    cr_assert(eq(u32, clip->config.text.layers, layers));
    mem_free(config);
    return clip;
}

// --- what comes out

// A software device needs many times what the CPU does: there whole models only, one pair alone.
static bool has_time(void)
{
    return strcmp(vulkan_device_name(), "cpu") == 0;
}

static void encode_both(struct clip *clip, const struct model *model, float *images, float *texts)
{
    static const uint32_t counts[COUNT] = {CONTEXT, CONTEXT, CONTEXT, CONTEXT};
    struct reason why = {0};
    const struct clip_ids ids = {model->ids, counts, CONTEXT, COUNT};
    cr_assert(eq(int, clip_encode_pixels(clip, model->pixels, COUNT, images, &why), STATUS_OK),
              "%s", why.text);
    cr_assert(eq(int, clip_encode_ids(clip, &ids, texts, &why), STATUS_OK), "%s", why.text);
}

static void expect_same_alone(struct clip *clip, const struct model *model, const float *images,
                              const float *texts)
{
    static const uint32_t counts[1] = {CONTEXT};
    size_t dimension = clip->config.dimension;
    float *alone = malloc(dimension * sizeof(float));
    cr_assert(alone != NULL);
    for (size_t i = 0; i < (has_time() ? COUNT : 1); i++) {
        const struct clip_ids ids = {model->ids + i * CONTEXT, counts, CONTEXT, 1};
        cr_assert(eq(int, clip_encode_pixels(clip, model->pixels + i * PICTURE, 1, alone, NULL),
                     STATUS_OK));
        cr_expect(golden_same_bits(alone, images + i * dimension, dimension * sizeof(float)));
        cr_assert(eq(int, clip_encode_ids(clip, &ids, alone, NULL), STATUS_OK));
        cr_expect(golden_same_bits(alone, texts + i * dimension, dimension * sizeof(float)));
    }
    free(alone);
}

// Compares with what the reference reads out of transformers' `name`, [COUNT][layers + 1]
// [width]: the row that is read, before the first and behind each layer.
static void expect_step(const struct model *model, const struct clip *clip, bool is_image,
                        uint32_t layers, const float *got)
{
    struct npy rows = load(is_image ? "vision_first_token" : "text_end_token", NPY_F32);
    const struct reference_clip reference = {.weights = model->weights, .config = &clip->config};
    size_t width = rows.shape[2];
    size_t dimension = clip->config.dimension;
    double *wide = malloc(width * sizeof(double));
    double *embedding = malloc(dimension * sizeof(double));
    float *expected = malloc(dimension * sizeof(float));
    cr_assert(wide != NULL && embedding != NULL && expected != NULL);
    for (size_t i = 0; i < COUNT; i++) {
        const float *row = npy_floats(&rows) + (i * rows.shape[1] + layers) * width;
        for (size_t c = 0; c < width; c++)
            wide[c] = (double)row[c];
        reference_clip_read_out(&reference, is_image, wide, embedding);
        for (size_t d = 0; d < dimension; d++)
            expected[d] = (float)embedding[d];
        char what[48];
        (void)snprintf(what, sizeof(what), "%s behind %u layers", is_image ? "picture" : "text",
                       layers);
        golden_expect_embedding(what, i, got + i * dimension, expected, dimension);
    }
    free(expected);
    free(embedding);
    free(wide);
    npy_free(&rows);
}

Test(golden_clip_random, full_size_towers_have_transformers_embeddings_alone_and_in_a_batch)
{
    struct model model;
    open_model(&model);
    struct npy images = load("image_embeds_normalised", NPY_F32);
    struct npy texts = load("text_embeds_normalised", NPY_F32);
    struct npy steps = load("vision_first_token", NPY_F32);
    size_t dimension = images.shape[1];
    uint32_t all = (uint32_t)steps.shape[1] - 1;
    float *got_images = malloc(COUNT * dimension * sizeof(float));
    float *got_texts = malloc(COUNT * dimension * sizeof(float));
    cr_assert(got_images != NULL && got_texts != NULL);

    const uint32_t cuts[] = {1, all / 2, all};
    for (size_t c = all == 2 ? 1 : 0; c < 3; c++) {
        if (cuts[c] < all && !has_time())
            continue;
        struct clip *clip = open_cut(&model, cuts[c], all);
        encode_both(clip, &model, got_images, got_texts);
        expect_step(&model, clip, true, cuts[c], got_images);
        expect_step(&model, clip, false, cuts[c], got_texts);
        if (cuts[c] == all)
            expect_same_alone(clip, &model, got_images, got_texts);
        clip_close(&clip);
    }
    for (size_t i = 0; i < COUNT; i++) {
        golden_expect_embedding("picture", i, got_images + i * dimension,
                                npy_floats(&images) + i * dimension, dimension);
        golden_expect_embedding("text", i, got_texts + i * dimension,
                                npy_floats(&texts) + i * dimension, dimension);
    }
    free(got_texts);
    free(got_images);
    npy_free(&steps);
    npy_free(&texts);
    npy_free(&images);
    close_model(&model);
    golden_log_worst();
}

int main(int argc, char **argv)
{
    return vulkan_device_main(argc, argv);
}
