// SPDX-License-Identifier: Apache-2.0
// Goal: a step of training equals PyTorch's with automatic differentiation, and fifty steps stay
// with it.
//
// Method: fusion/train.safetensors, which fusion/make_fusion.py made in double precision: two heads
// of different configs, four batches with pairs without neighbours and two of one entity, clipping,
// warm-up and decay. The largest difference of any number: 1e-5 after one step, 1e-3 after fifty.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shaders/models/fusion_train.h"
#include "shaders/models/weights.h"

#define FILE_PATH RECO_SOURCE_DIR "/tests/golden/fusion/train.safetensors"
#define DIMENSION 16u
#define PAIRS 12u
#define K 5u
#define BATCHES 4u
#define STEPS 50u
#define ONE_STEP_MAX 1e-5
#define ALL_STEPS_MAX 1e-3

static struct weights *golden;

// The tensor "a.b.c", or "a.c" with b NULL.
static float *tensor(const char *a, const char *b, const char *c)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "%s%s%s.%s", a, b ? "." : "", b ? b : "", c);
    const struct weights_tensor *found = weights_find(golden, name);
    cr_assert(found != NULL, "%s is not in the file", name);
    float *values = calloc(found->count + 1, sizeof(*values));
    cr_assert(eq(int, weights_read(found, values, NULL), STATUS_OK));
    return values;
}

static const char *const sides[] = {"image", "text"};

static void read_batch(uint32_t number, struct fusion_train_batch *batch)
{
    char prefix[16];
    (void)snprintf(prefix, sizeof(prefix), "batch%u", number);
    *batch = (struct fusion_train_batch){.pairs = PAIRS};
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        batch->embeddings[s] = tensor(prefix, sides[s], "embeddings");
        batch->payload[s] = tensor(prefix, sides[s], "payload");
        batch->scores[s] = tensor(prefix, sides[s], "scores");
        float *counts = tensor(prefix, sides[s], "counts");
        uint32_t *whole = calloc(PAIRS, sizeof(*whole));
        for (uint32_t i = 0; i < PAIRS; i++)
            whole[i] = (uint32_t)counts[i];
        free(counts);
        batch->counts[s] = whole;
    }
    float *entities = tensor(prefix, NULL, "entities");
    uint64_t *ids = calloc(PAIRS, sizeof(*ids));
    for (uint32_t i = 0; i < PAIRS; i++)
        ids[i] = (uint64_t)entities[i];
    free(entities);
    batch->entities = ids;
}

// As make_fusion.py has them.
static struct fusion_train_params golden_params(void)
{
    struct fusion_train_params params = fusion_train_default(DIMENSION);
    params.k = K;
    params.pairs = PAIRS;
    params.steps = 60;
    params.warmup = 5;
    params.rate = 2e-3f;
    params.rate_start = 10.0f;
    params.rate_scale = 5.0f;
    params.decay = 0.05f;
    params.scale = 30.0f;
    params.scale_max = 40.0f;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        params.config[s].heads = 4;
        params.config[s].mlp = 24;
    }
    return params;
}

static double largest_difference(const struct fusion_train *train, const char *name,
                                 const char *steps)
{
    double largest = 0;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        float *want = tensor(name, sides[s], steps);
        const float *got = fusion_train_numbers(train, (enum modality)s);
        size_t count = fusion_layout_of(&fusion_train_params(train)->config[s]).count;
        for (size_t i = 0; i < count; i++)
            largest = fmax(largest, fabs((double)got[i] - (double)want[i]));
        free(want);
    }
    return largest;
}

static void train_as(const char *name, const struct fusion_train_params *params)
{
    struct fusion_train *train = NULL;
    struct fusion_train_batch batches[BATCHES];
    struct reason why = {0};
    cr_assert(eq(int, weights_open(FILE_PATH, &golden, &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(int, fusion_train_create(params, 1, &train, &why), STATUS_OK), "%s", why.text);
    for (uint32_t i = 0; i < BATCHES; i++)
        read_batch(i, &batches[i]);
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        float *numbers = tensor(name, sides[s], "after0");
        fusion_train_set_numbers(train, (enum modality)s, numbers);
        free(numbers);
    }
    float *steps = tensor(name, NULL, "steps"); // loss, norm, scale afterwards
    for (uint32_t i = 0; i < STEPS; i++) {
        struct fusion_train_result result;
        cr_assert(
            eq(int, fusion_train_step(train, &batches[i % BATCHES], &result, &why), STATUS_OK),
            "%s", why.text);
        double loss = (double)steps[(size_t)i * 3];
        double norm = (double)steps[(size_t)i * 3 + 1];
        double bound = i == 0 ? ONE_STEP_MAX : ALL_STEPS_MAX;
        cr_expect(epsilon_eq(dbl, result.loss, loss, bound * loss), "%s, step %u", name, i);
        cr_expect(epsilon_eq(dbl, result.norm, norm, bound * norm), "%s, step %u", name, i);
        if (i == 0)
            cr_expect(lt(dbl, largest_difference(train, name, "after1"), ONE_STEP_MAX), "%s", name);
        else
            cr_expect(epsilon_eq(dbl, result.scale, (double)steps[(size_t)i * 3 - 1],
                                 bound * result.scale),
                      "%s, step %u", name, i);
    }
    cr_expect(lt(dbl, largest_difference(train, name, "after50"), ALL_STEPS_MAX), "%s", name);
    fusion_train_destroy(&train);
    weights_close(&golden);
    free(steps);
    for (uint32_t i = 0; i < BATCHES; i++) {
        for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
            free((void *)batches[i].embeddings[s]);
            free((void *)batches[i].payload[s]);
            free((void *)batches[i].scores[s]);
            free((void *)batches[i].counts[s]);
        }
        free((void *)batches[i].entities);
    }
}

Test(golden_fusion, pre_norm_with_consensus_and_scores)
{
    struct fusion_train_params params = golden_params();
    params.config[MODALITY_IMAGE].consensus = true;
    params.config[MODALITY_IMAGE].score_bias = true;
    params.config[MODALITY_TEXT].score_embedding = true;
    params.config[MODALITY_TEXT].activation = FUSION_QUICK_GELU;
    train_as("pre", &params);
}

Test(golden_fusion, post_norm_from_the_mean_and_from_nothing)
{
    struct fusion_train_params params = golden_params();
    params.config[MODALITY_IMAGE].norm = FUSION_NORM_POST;
    params.config[MODALITY_IMAGE].baseline = FUSION_BASELINE_MEAN;
    params.config[MODALITY_TEXT].norm = FUSION_NORM_POST;
    params.config[MODALITY_TEXT].baseline = FUSION_BASELINE_NONE;
    params.config[MODALITY_TEXT].type_embedding = false;
    train_as("post", &params);
}
