// SPDX-License-Identifier: Apache-2.0
// Nothing that takes part in the weights depends on time or on when the training was interrupted: a
// batch follows from its step, and measuring changes nothing.

#include "tools/train_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "tools/answers.h"
#include "tools/output.h"

struct running {
    const struct train_run *run;
    float *best[FUSION_HEAD_SIDES]; // the numbers that did best
    size_t numbers[FUSION_HEAD_SIDES];
    int64_t start_us;
    uint64_t first_step; // of this run of the program
    struct output_progress progress;
};

// --- heads

static void describe(const struct running *running, struct text curve, struct text gate,
                     struct fusion_head_info *info)
{
    const struct train_run *run = running->run;
    const struct fusion_train_params *params = fusion_train_params(run->train);
    *info = (struct fusion_head_info){
        .dimension = params->config[0].dimension,
        .k = params->k,
        .seed = params->seed,
        .steps = run->state->points[run->state->best].step,
        .curve = curve,
        .gate = gate,
    };
    for (size_t side = 0; side < FUSION_HEAD_SIDES; side++)
        info->config[side] = params->config[side];
    (void)snprintf(info->space, sizeof(info->space), "%s", run->space);
    (void)snprintf(info->data, sizeof(info->data), "%s", run->data);
}

static struct text written(const struct json_writer *writer)
{
    return (struct text){(const char *)writer->out.data, writer->out.count};
}

static enum status save_head(const struct running *running, const char *path, struct text gate,
                             struct reason *why)
{
    struct json_writer writer = {.failed = false};
    train_state_put_curve(&writer, running->run->state);
    struct fusion_head_info info;
    describe(running, written(&writer), gate, &info);
    const float *const numbers[FUSION_HEAD_SIDES] = {running->best[0], running->best[1]};
    const enum status status =
        writer.failed ? reason_set(why, STATUS_NO_MEMORY, path, "no memory for the curve")
                      : fusion_head_save(path, &info, numbers, why);
    json_writer_deinit(&writer);
    return status;
}

static void keep_best(struct running *running)
{
    for (size_t side = 0; side < FUSION_HEAD_SIDES; side++)
        memcpy(running->best[side], fusion_train_numbers(running->run->train, (enum modality)side),
               running->numbers[side] * sizeof(float));
}

static enum status load_best(struct running *running, struct reason *why)
{
    const struct train_run *run = running->run;
    const char *path = run->state->best_path;
    struct fusion_head *head = NULL;
    struct reason inner = {.text = ""};
    enum status status = fusion_head_open(path, run->space, 1, &head, &inner);
    if (status)
        return reason_set(why, status, NULL, "%s: %s%s%s; remove %s to begin anew", path,
                          inner.field, inner.field[0] ? ": " : "", inner.text, run->state->path);
    const struct fusion_head_info *info = fusion_head_info(head);
    bool is_ours = strcmp(info->data, run->data) == 0;
    for (size_t side = 0; side < FUSION_HEAD_SIDES; side++)
        is_ours = is_ours && fusion_layout_of(&info->config[side]).count == running->numbers[side];
    for (size_t side = 0; is_ours && side < FUSION_HEAD_SIDES; side++)
        memcpy(running->best[side], fusion_head_numbers(head, (enum modality)side),
               running->numbers[side] * sizeof(float));
    fusion_head_close(&head);
    return is_ours
               ? STATUS_OK
               : reason_set(why, STATUS_FAILED_PRECONDITION, path,
                            "is of another training; remove %s to begin anew", run->state->path);
}

// --- held-out pairs

static enum status measure(const struct running *running, bool is_plain, struct train_figures *out,
                           struct reason *why)
{
    const struct train_run *run = running->run;
    double loss[FUSION_TRAIN_TERMS] = {0};
    double right = 0;
    double pairs = 0;
    const uint32_t batches = train_batches_count_held_out(run->batches);
    for (uint32_t i = 0; i < batches; i++) {
        struct fusion_train_batch batch;
        struct fusion_train_result result;
        train_batches_get_held_out(run->batches, i, &batch);
        uint32_t *none = is_plain ? mem_alloc_array(batch.pairs, sizeof(none[0])) : NULL;
        for (size_t side = 0; is_plain && side < FUSION_HEAD_SIDES; side++)
            batch.counts[side] = none; // without neighbours a query stays as it is
        const enum status status = fusion_train_loss(run->train, &batch, &result, why);
        mem_free(none);
        if (status)
            return status;
        for (size_t term = 0; term < FUSION_TRAIN_TERMS; term++)
            loss[term] += batch.pairs * result.term[term];
        right += batch.pairs * result.right[0];
        pairs += batch.pairs;
    }
    for (size_t term = 0; term < FUSION_TRAIN_TERMS; term++)
        out->loss[term] = (float)(loss[term] / pairs);
    out->recall = (float)(right / pairs);
    return STATUS_OK;
}

// --- telling

static void tell(const struct running *running, const struct train_point *point)
{
    const struct train_run *run = running->run;
    const struct fusion_train_params *params = fusion_train_params(run->train);
    const double seconds = (double)(clock_now_us() - running->start_us) / 1e6;
    const double steps = (double)(point->step - running->first_step);
    char left[OUTPUT_FIGURE_BYTES];
    char rate[OUTPUT_FIGURE_BYTES];
    if (point->step == 0) {
        output_note(
            "held out, before training: loss %.4f, recall@1 %.3f; plain CLIP: %.4f, %.3f",
            train_state_sum(run->state, point->held_out.loss), (double)point->held_out.recall,
            train_state_sum(run->state, run->state->plain.loss), (double)run->state->plain.recall);
        return;
    }
    if (run->json) {
        struct json_writer writer = {.failed = false};
        train_state_put_point(&writer, point);
        (void)!answers_end_line(&writer); // a broken stdout is told at the end of the program
        json_writer_deinit(&writer);
        (void)fflush(stdout);
    }
    output_note(
        "step %" PRIu64 " of %" PRIu64 ": loss %.4f (refined-refined %.4f, refined-original %.4f, "
        "original-refined %.4f), held out %.4f, recall@1 %.3f; rate %.2g, %s pairs a second, %s "
        "left",
        point->step, params->steps, train_state_sum(run->state, point->loss),
        (double)point->loss[0], (double)point->loss[1], (double)point->loss[2],
        train_state_sum(run->state, point->held_out.loss), (double)point->held_out.recall,
        (double)point->rate,
        output_count(
            (uint64_t)(seconds > 0 ? steps * train_batches_size(run->batches) / seconds : 0), rate),
        output_seconds(steps > 0 ? (double)(params->steps - point->step) * seconds / steps : 0,
                       left));
}

// --- the training

static void show_step(struct running *running, const struct fusion_train_result *result)
{
    const uint32_t pairs = train_batches_size(running->run->batches);
    (void)snprintf(running->progress.tail, sizeof(running->progress.tail),
                   ", %u pairs each, loss %.3f %.3f %.3f, rate %.2g", pairs, result->term[0],
                   result->term[1], result->term[2], result->rate);
    output_progress_update(&running->progress, fusion_train_steps(running->run->train), 0);
}

// Up to the next point.
static enum status make_steps(struct running *running, struct train_point *point,
                              struct reason *why)
{
    const struct train_run *run = running->run;
    const uint64_t last = fusion_train_params(run->train)->steps;
    double loss[FUSION_TRAIN_TERMS] = {0};
    uint64_t made = 0;
    for (uint64_t step = fusion_train_steps(run->train); made < run->every && step < last; step++) {
        struct fusion_train_batch batch;
        struct fusion_train_result result;
        train_batches_get(run->batches, step, &batch);
        const enum status status = fusion_train_step(run->train, &batch, &result, why);
        if (status)
            return status;
        for (size_t term = 0; term < FUSION_TRAIN_TERMS; term++)
            loss[term] += result.term[term];
        point->rate = (float)result.rate;
        made++;
        show_step(running, &result);
    }
    for (size_t term = 0; term < FUSION_TRAIN_TERMS && made > 0; term++)
        point->loss[term] = (float)(loss[term] / (double)made);
    point->step = fusion_train_steps(run->train);
    return STATUS_OK;
}

// Measures, and writes down how far it is.
static enum status add_point(struct running *running, struct train_point *point, struct reason *why)
{
    struct train_state *state = running->run->state;
    enum status status = measure(running, false, &point->held_out, why);
    if (status)
        return status;
    if (train_state_add(state, point)) {
        keep_best(running);
        status = save_head(running, state->best_path, (struct text){NULL, 0}, why);
    }
    if (!status)
        status = train_state_save(state, running->run->train, why);
    if (!status)
        tell(running, point);
    return status;
}

static enum status begin(struct running *running, struct reason *why)
{
    const struct train_run *run = running->run;
    if (run->state->point_count)
        return load_best(running, why);
    struct train_point point = {.step = 0};
    const enum status status = measure(running, true, &run->state->plain, why);
    return status ? status : add_point(running, &point, why);
}

static enum status train_all(struct running *running, struct reason *why)
{
    const struct train_run *run = running->run;
    const uint64_t steps = fusion_train_params(run->train)->steps;
    enum status status = begin(running, why);
    running->start_us = clock_now_us();
    running->first_step = fusion_train_steps(run->train);
    output_progress_begin(&running->progress, "steps", steps);
    running->progress.first = running->first_step;
    while (!status && fusion_train_steps(run->train) < steps &&
           train_state_stale(run->state) < run->patience) {
        struct train_point point = {.step = 0};
        status = make_steps(running, &point, why);
        if (!status)
            status = add_point(running, &point, why);
    }
    output_progress_end(&running->progress);
    return status;
}

// --- the end

// Appends the constants of the best head's gate to `writer`.
static enum status learn_gate(const struct running *running, struct json_writer *writer,
                              struct reason *why)
{
    const struct train_run *run = running->run;
    const float *const numbers[FUSION_HEAD_SIDES] = {running->best[0], running->best[1]};
    struct fusion_head_info info;
    struct fusion_head *head = NULL;
    describe(running, (struct text){NULL, 0}, (struct text){NULL, 0}, &info);
    enum status status = fusion_head_create(&info, numbers, 0, &head, why);
    if (!status) {
        output_note("learning the gate from %u new and %u known pairs",
                    run->gate_params->pairs[TRAIN_GATE_NEW_THINGS]->rows.count,
                    run->gate_params->pairs[TRAIN_GATE_KNOWN_THINGS]->rows.count);
        status = train_gate_fit(run->gate_params, head, run->gate, why);
    }
    fusion_head_close(&head);
    if (status)
        return status;
    fusion_gate_write(&run->gate->gate, writer);
    return writer->failed
               ? reason_set(why, STATUS_NO_MEMORY, run->out, "no memory for the constants")
               : STATUS_OK;
}

// The head's file, with a gate where one is wanted and can be learnt.
static enum status finish(const struct running *running, struct reason *why)
{
    const struct train_run *run = running->run;
    struct json_writer gate = {.failed = false};
    struct reason inner = {.text = ""};
    enum status learnt = STATUS_OK;
    if (run->gate_params)
        learnt = learn_gate(running, &gate, &inner);
    enum status status = learnt;
    if (!learnt || learnt == STATUS_FAILED_PRECONDITION) {
        status = save_head(running, run->out, written(&gate), why);
        if (!status)
            train_state_remove(run->state);
        if (!status && learnt)
            status = reason_set(why, learnt, inner.field, "%s; %s stands without a gate",
                                inner.text, run->out);
    } else {
        *why = inner;
    }
    json_writer_deinit(&gate);
    return status;
}

enum status train_run(const struct train_run *run, struct reason *why)
{
    struct running *running = mem_alloc(sizeof(*running));
    running->run = run;
    running->start_us = clock_now_us();
    for (size_t side = 0; side < FUSION_HEAD_SIDES; side++) {
        running->numbers[side] =
            fusion_layout_of(&fusion_train_params(run->train)->config[side]).count;
        running->best[side] = mem_alloc_array(running->numbers[side], sizeof(float));
    }
    enum status status = train_all(running, why);
    if (!status)
        status = finish(running, why);
    for (size_t side = 0; side < FUSION_HEAD_SIDES; side++)
        mem_free(running->best[side]);
    mem_free(running);
    return status;
}
