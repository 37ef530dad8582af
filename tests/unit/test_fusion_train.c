// SPDX-License-Identifier: Apache-2.0
// Goal: the gradient of every number of a head, of any config, is that of the loss; training is the
// same to the bit with any number of threads and after a restored state; what cannot be trained on
// is named and changes nothing.
//
// Method: central differences of the loss in double precision (tests/reference), one number after
// the other; the error of a tensor's gradient is compared with the largest gradient of the side,
// 2e-4 of it at most: single precision stays below 2e-5, a wrong sign or factor is above 1e-2.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/mem.h"
#include "shaders/models/fusion_train.h"
#include "tests/reference/reference.h"
#include "tests/reference/reference_fusion.h"
#include "tests/support/random_batch.h"
#include "tests/support/random_head.h"

#define SEED 20261129u
#define DIMENSION 12u
#define PAIRS 9u
#define K 4u
#define ERROR_MAX 2e-4
#define STEP 1e-4 // of the differences

static struct fusion_train_params small_params(void)
{
    struct fusion_train_params params = fusion_train_default(DIMENSION);
    params.k = K;
    params.pairs = PAIRS;
    params.seed = SEED;
    params.steps = 30;
    params.warmup = 5;
    params.scale = 20.0f;
    params.rate = 1e-2f;
    params.rate_start = 1.0f;
    params.rate_scale = 1.0f;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        params.config[s].heads = 3;
        params.config[s].mlp = 10;
    }
    return params;
}

static struct fusion_train *new_train(const struct fusion_train_params *params, uint32_t threads)
{
    struct fusion_train *train = NULL;
    struct reason why = {0};
    cr_assert(eq(int, fusion_train_create(params, threads, &train, &why), STATUS_OK), "%s: %s",
              why.field, why.text);
    return train;
}

static void step(struct fusion_train *train, const struct random_batch *batch,
                 struct fusion_train_result *result)
{
    struct reason why = {0};
    cr_assert(eq(int, fusion_train_step(train, &batch->batch, result, &why), STATUS_OK), "%s: %s",
              why.field, why.text);
}

// --- gradients

struct wide {
    struct reference_fusion_batch batch;
    double *all[FUSION_HEAD_SIDES][5];
};

static void widen(const struct fusion_train *train, const struct random_batch *from,
                  struct wide *out)
{
    const struct fusion_train_params *params = fusion_train_params(train);
    out->batch = (struct reference_fusion_batch){
        .pairs = from->batch.pairs,
        .k = params->k,
        .entities = from->batch.entities,
        .same_is_positive = params->same == FUSION_SAME_POSITIVE,
        .is_absolute = params->loss == FUSION_LOSS_ABSOLUTE,
        .log_scale = log((double)params->scale),
    };
    size_t pairs = from->batch.pairs;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        size_t d = params->config[s].dimension;
        out->all[s][0] = reference_widen(fusion_train_numbers(train, (enum modality)s),
                                         fusion_layout_of(&params->config[s]).count);
        out->all[s][1] = reference_widen(from->embeddings[s], pairs * d);
        out->all[s][2] = reference_widen(from->payload[s], pairs * params->k * d);
        out->all[s][3] = reference_widen(from->scores[s], pairs * params->k);
        out->all[s][4] = reference_widen(from->pair_scores[s], pairs * params->k);
        out->batch.config[s] = &params->config[s];
        out->batch.numbers[s] = out->all[s][0];
        out->batch.embeddings[s] = out->all[s][1];
        out->batch.payload[s] = out->all[s][2];
        out->batch.scores[s] = out->all[s][3];
        out->batch.pair_scores[s] = out->all[s][4];
        out->batch.counts[s] = from->counts[s];
    }
    for (uint32_t t = 0; t < FUSION_TRAIN_TERMS; t++)
        out->batch.weight[t] = (double)params->weight[t];
}

static void narrow(struct wide *wide)
{
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        for (uint32_t i = 0; i < 5; i++)
            free(wide->all[s][i]);
    }
}

static double difference(struct wide *wide, double *number)
{
    double before = *number;
    *number = before + STEP;
    double above = reference_fusion_loss(&wide->batch);
    *number = before - STEP;
    double below = reference_fusion_loss(&wide->batch);
    *number = before;
    return (above - below) / (2 * STEP);
}

static void compare_side(const struct fusion_train *train, struct wide *wide, enum modality side,
                         const float *got, const char *name)
{
    const struct fusion_train_params *params = fusion_train_params(train);
    struct fusion_layout layout = fusion_layout_of(&params->config[side]);
    double *want = calloc(layout.count, sizeof(*want));
    double largest = 0;
    for (size_t i = 0; i < layout.count; i++) {
        want[i] = difference(wide, &wide->all[side][0][i]);
        largest = fmax(largest, fabs(want[i]));
    }
    cr_assert(gt(dbl, largest, 1e-6));
    for (int t = 0; t < FUSION_TENSOR_COUNT; t++) {
        const struct fusion_place *place = &layout.tensor[t];
        double error = 0;
        for (size_t i = 0; i < place->count; i++)
            error = fmax(error, fabs((double)got[place->offset + i] - want[place->offset + i]));
        cr_expect(lt(dbl, error / largest, ERROR_MAX), "%s, side %d, %s, seed %u", name, (int)side,
                  place->name, SEED);
    }
    free(want);
}

static void expect_gradients(const struct fusion_train_params *params, const char *name)
{
    struct fusion_train *train = new_train(params, 1);
    struct random_batch batch;
    struct fusion_train_result result;
    struct wide wide;
    random_batch_init(&batch, PAIRS, K, DIMENSION, SEED);
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        float *numbers = mem_alloc_array(fusion_layout_of(&params->config[s]).count, sizeof(float));
        random_head_numbers(&params->config[s], SEED + s, numbers);
        fusion_train_set_numbers(train, (enum modality)s, numbers);
        mem_free(numbers);
    }
    widen(train, &batch, &wide);
    double loss = reference_fusion_loss(&wide.batch);
    step(train, &batch, &result);
    cr_expect(epsilon_eq(dbl, result.loss, loss, 1e-5 * loss), "%s", name);
    compare_side(train, &wide, MODALITY_IMAGE, fusion_train_gradient(train, MODALITY_IMAGE), name);
    compare_side(train, &wide, MODALITY_TEXT, fusion_train_gradient(train, MODALITY_TEXT), name);
    narrow(&wide);
    random_batch_deinit(&batch);
    fusion_train_destroy(&train);
    cr_assert(eq(ptr, train, NULL));
}

Test(fusion_train, gradients_of_the_default_with_everything_on)
{
    struct fusion_train_params params = small_params();
    params.config[0].score_bias = true;
    params.config[0].score_embedding = true;
    params.config[0].consensus = true;
    params.config[1].activation = FUSION_QUICK_GELU;
    params.config[1].type_embedding = false;
    expect_gradients(&params, "pre-norm");
}

Test(fusion_train, gradients_of_post_norm_and_none)
{
    struct fusion_train_params params = small_params();
    params.config[0].norm = FUSION_NORM_POST;
    params.config[0].score_embedding = true;
    params.config[0].baseline = FUSION_BASELINE_MEAN;
    params.config[1].norm = FUSION_NORM_NONE;
    params.config[1].score_bias = true;
    params.config[1].baseline = FUSION_BASELINE_QUERY;
    params.same = FUSION_SAME_POSITIVE;
    expect_gradients(&params, "post and none");
}

Test(fusion_train, gradients_without_mlp_baseline_or_block)
{
    struct fusion_train_params params = small_params();
    params.config[0].mlp = 0;
    params.config[0].baseline = FUSION_BASELINE_NONE;
    params.config[1].block = false;
    params.config[1].consensus = true;
    params.weight[0] = 0.5f;
    params.weight[1] = 0.0f;
    params.weight[2] = 2.0f;
    expect_gradients(&params, "no mlp, no block");

    params = small_params();
    params.config[0].mlp = 0;
    params.config[0].norm = FUSION_NORM_POST;
    params.config[0].heads = 1;
    params.config[1].baseline = FUSION_BASELINE_NONE;
    params.config[1].norm = FUSION_NORM_POST;
    params.config[1].heads = 12;
    expect_gradients(&params, "post-norm, no mlp");
}

Test(fusion_train, gradients_of_pairing_and_of_the_absolute_error)
{
    struct fusion_train_params params = small_params();
    params.config[0].consensus = true;
    params.config[0].pairing = true;
    params.config[0].block = false;
    params.config[1].consensus = true;
    params.config[1].pairing = true;
    params.config[1].block = false;
    expect_gradients(&params, "pairing");
    params.loss = FUSION_LOSS_ABSOLUTE;
    params.rate_scale = 0.0f;
    expect_gradients(&params, "absolute error");
    params.same = FUSION_SAME_POSITIVE;
    params.config[0].block = true;
    params.weight[1] = 0.3f;
    expect_gradients(&params, "absolute error, several targets");
}

Test(fusion_train, gradient_of_the_logit_scale_moves_it_the_right_way)
{
    struct fusion_train_params params = small_params();
    struct random_batch batch;
    struct fusion_train_result result;
    struct wide wide;
    random_batch_init(&batch, PAIRS, K, DIMENSION, SEED);
    // Only the scale learns, so one step tells the gradient's sign, and plain descent its size is
    // not needed.
    params.rate_start = 0.0f;
    params.rate_block = 0.0f;
    params.warmup = 0;
    struct fusion_train *train = new_train(&params, 1);
    widen(train, &batch, &wide);
    double slope = difference(&wide, &wide.batch.log_scale);
    step(train, &batch, &result);
    cr_expect(epsilon_eq(dbl, result.norm, fabs(slope), 1e-3 * fabs(slope)));
    step(train, &batch, &result);
    cr_expect(eq(int, result.scale > 20.0, slope < 0));
    narrow(&wide);
    random_batch_deinit(&batch);
    fusion_train_destroy(&train);
}

// --- training

static void expect_same(const struct fusion_train *a, const struct fusion_train *b)
{
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        size_t count = fusion_layout_of(&fusion_train_params(a)->config[s]).count;
        cr_expect(memcmp(fusion_train_numbers(a, (enum modality)s),
                         fusion_train_numbers(b, (enum modality)s), count * sizeof(float)) == 0,
                  "side %u", s);
    }
}

Test(fusion_train, the_loss_falls_and_any_number_of_threads_gives_the_same_bits)
{
    struct fusion_train_params params = small_params();
    params.dropout = 0.3f;
    params.config[0].consensus = true;
    struct fusion_train *one = new_train(&params, 1);
    struct fusion_train *three = new_train(&params, 3);
    struct random_batch batch;
    struct fusion_train_result first;
    struct fusion_train_result last;
    struct fusion_train_result result;
    random_batch_init(&batch, PAIRS, K, DIMENSION, SEED);
    cr_assert(eq(int, fusion_train_loss(one, &batch.batch, &first, NULL), STATUS_OK));
    for (int i = 0; i < 30; i++) {
        step(one, &batch, &result);
        step(three, &batch, &last);
        cr_assert(memcmp(&result, &last, sizeof(last)) == 0, "step %d", i);
    }
    cr_assert(eq(int, fusion_train_loss(one, &batch.batch, &last, NULL), STATUS_OK));
    cr_expect(lt(dbl, last.loss, 0.7 * first.loss));
    cr_expect(ge(dbl, last.right[0], first.right[0]));
    cr_expect(eq(u64, fusion_train_steps(one), 30));
    expect_same(one, three);
    random_batch_deinit(&batch);
    fusion_train_destroy(&one);
    fusion_train_destroy(&three);
}

Test(fusion_train, a_restored_state_goes_on_with_the_same_bits)
{
    struct fusion_train_params params = small_params();
    params.dropout = 0.5f;
    struct fusion_train *whole = new_train(&params, 1);
    struct fusion_train *second = new_train(&params, 2);
    struct random_batch batches[3];
    struct fusion_train_result result;
    struct buffer state = {0};
    struct reason why = {0};
    char *note = NULL;
    for (uint32_t i = 0; i < 3; i++)
        random_batch_init(&batches[i], PAIRS - i, K, DIMENSION, SEED + i);
    for (uint32_t i = 0; i < 20; i++) {
        if (i == 11)
            cr_assert(
                eq(int, fusion_train_pack(whole, text_of("epoch 3 \"x\""), &state), STATUS_OK));
        step(whole, &batches[i % 3], &result);
    }
    cr_assert(eq(int,
                 fusion_train_restore(second, (struct bytes){state.data, state.count}, &note, &why),
                 STATUS_OK),
              "%s: %s", why.field, why.text);
    cr_expect(eq(int, strcmp(note, "epoch 3 \"x\""), 0));
    cr_expect(eq(u64, fusion_train_steps(second), 11));
    for (uint32_t i = 11; i < 20; i++)
        step(second, &batches[i % 3], &result);
    expect_same(whole, second);
    mem_free(note);
    buffer_deinit(&state);
    for (uint32_t i = 0; i < 3; i++)
        random_batch_deinit(&batches[i]);
    fusion_train_destroy(&whole);
    fusion_train_destroy(&second);
}

Test(fusion_train, a_state_of_other_params_or_damaged_is_refused_and_changes_nothing)
{
    struct fusion_train_params params = small_params();
    struct fusion_train *train = new_train(&params, 1);
    struct buffer state = {0};
    struct reason why = {0};
    char *note = NULL;
    cr_assert(eq(int, fusion_train_pack(train, text_of(""), &state), STATUS_OK));
    params.rate = 2e-2f;
    struct fusion_train *other = new_train(&params, 1);
    struct fusion_train *same = new_train(&params, 1);
    cr_expect(eq(int,
                 fusion_train_restore(other, (struct bytes){state.data, state.count}, &note, &why),
                 STATUS_FAILED_PRECONDITION));
    cr_expect(eq(int, strcmp(why.field, "rate"), 0), "%s", why.field);
    cr_expect(ne(ptr, strstr(why.text, "0.01"), NULL), "%s", why.text);
    for (size_t cut = 0; cut < state.count; cut += state.count / 50)
        cr_expect(eq(int, fusion_train_restore(train, (struct bytes){state.data, cut}, &note, &why),
                     STATUS_CORRUPT));
    expect_same(other, same);
    cr_expect(eq(ptr, note, NULL));
    buffer_deinit(&state);
    fusion_train_destroy(&train);
    fusion_train_destroy(&other);
    fusion_train_destroy(&same);
}

Test(fusion_train, a_batch_that_cannot_be_trained_on_is_named_and_changes_nothing)
{
    struct fusion_train_params params = small_params();
    struct fusion_train *train = new_train(&params, 1);
    struct fusion_train *fresh = new_train(&params, 1);
    struct random_batch batch;
    struct fusion_train_result result;
    struct reason why = {0};
    random_batch_init(&batch, PAIRS, K, DIMENSION, SEED);

    batch.batch.pairs = 1;
    cr_expect(eq(int, fusion_train_step(train, &batch.batch, &result, &why), STATUS_INVALID));
    cr_expect(eq(int, strcmp(why.field, "pairs"), 0));
    batch.batch.pairs = PAIRS;
    batch.counts[1][3] = K + 1;
    cr_expect(eq(int, fusion_train_step(train, &batch.batch, &result, &why), STATUS_INVALID));
    cr_expect(eq(int, strcmp(why.field, "counts"), 0));
    batch.counts[1][3] = K;
    float *places[] = {&batch.embeddings[0][17], &batch.payload[1][8 * K * DIMENSION],
                       &batch.scores[0][8 * K]};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        float before = *places[i];
        *places[i] = NAN;
        cr_expect(eq(int, fusion_train_step(train, &batch.batch, &result, &why), STATUS_INVALID));
        cr_expect(eq(int, strcmp(why.field, "loss"), 0), "%s", why.field);
        *places[i] = before;
    }
    expect_same(train, fresh);
    cr_expect(eq(u64, fusion_train_steps(train), 0));
    random_batch_deinit(&batch);
    fusion_train_destroy(&train);
    fusion_train_destroy(&fresh);
}

Test(fusion_train, params_out_of_range_are_named)
{
    struct fusion_train_params bad[9];
    static const char *const fields[9] = {"heads", "k",     "pairs",  "warmup", "rate",
                                          "beta1", "scale", "weight", "dropout"};
    for (size_t i = 0; i < 9; i++)
        bad[i] = small_params();
    bad[0].config[1].heads = 5;
    bad[1].k = 0;
    bad[2].pairs = 1;
    bad[3].warmup = 31;
    bad[4].rate = NAN;
    bad[5].beta1 = 1.0f;
    bad[6].scale = 200.0f;
    memset(bad[7].weight, 0, sizeof(bad[7].weight));
    bad[8].dropout = 1.0f;
    for (size_t i = 0; i < 9; i++) {
        struct fusion_train *train = NULL;
        struct reason why = {0};
        cr_expect(eq(int, fusion_train_create(&bad[i], 1, &train, &why), STATUS_INVALID));
        cr_expect(eq(int, strcmp(why.field, fields[i]), 0), "%s: %s", why.field, why.text);
    }
}

Test(fusion_train, memory_that_runs_out_is_an_error_wherever_it_does)
{
    struct fusion_train_params params = small_params();
    enum status status = STATUS_INTERNAL;
    uint64_t n = 1;
    for (; status != STATUS_OK && n < 100; n++) {
        struct fusion_train *train = NULL;
        mem_fail_after(n);
        status = fusion_train_create(&params, 1, &train, NULL);
        mem_fail_after(0);
        if (status != STATUS_OK)
            cr_assert(eq(int, status, STATUS_NO_MEMORY));
        fusion_train_destroy(&train);
    }
    cr_expect(eq(int, status, STATUS_OK));
    cr_expect(gt(u64, n, 8));
}
