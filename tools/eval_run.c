// SPDX-License-Identifier: Apache-2.0
// A data set is encoded once and asked in all kinds; the memory is read once for all data sets.

#include "tools/eval_run.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tools/eval_examples.h"
#include "tools/eval_report.h"
#include "tools/eval_result.h"
#include "tools/eval_retrieval.h"
#include "tools/eval_shots.h"
#include "tools/eval_zero.h"
#include "tools/output.h"
#include "tools/verbs.h"

// The first is what CLIP_benchmark's own models are given.
static const enum api_profile profiles[] = {API_PROFILE_OPENAI, API_PROFILE_HF,
                                            API_PROFILE_DEFAULT};

struct run {
    const struct options *options;
    struct eval eval;
    struct eval_report report;
    bool has_failed; // items were left out, and named on stderr
    bool is_told;    // the failure, on stderr
};

static enum api_profile profile_of(const struct run *run)
{
    return profiles[run->options->profile];
}

static enum status add_row(struct run *run, struct eval_result *result, const struct eval_row *row)
{
    const enum status status = eval_result_add(result, row);
    run->is_told = status != STATUS_OK;
    return status;
}

// --- points

static enum status measure_point(struct run *run, struct eval_zero *zero,
                                 const struct eval_point *point, struct eval_result *result,
                                 struct reason *why)
{
    enum status status = STATUS_OK;
    if (run->eval.memory.count && !point->keeps_hits)
        status = eval_zero_search(zero, point->sides, point->k, why);
    for (size_t i = 1; i < run->eval.mode_count && !status; i++) {
        struct eval_row row = {.at = point->at};
        (void)snprintf(row.point, sizeof(row.point), "%s", point->text);
        status = eval_zero_measure(zero, point->sides, run->eval.modes[i], point->k, &row, why);
        if (!status)
            status = add_row(run, result, &row);
    }
    return status;
}

// Plain CLIP asks no memory: one row of it stands for all points.
static enum status measure_points(struct run *run, struct eval_zero *zero,
                                  const struct eval_kind *kind, struct eval_result *result,
                                  struct reason *why)
{
    static const struct eval_zero_sides sides = {.search_across = false};
    struct eval_row row = {.at = (double)NAN, .point = "-"};
    enum status status =
        eval_zero_measure(zero, sides, FUSION_NONE, (uint32_t)run->options->k, &row, why);
    if (!status)
        status = add_row(run, result, &row);
    const size_t count = run->eval.mode_count > 1 ? kind->count(&run->eval) : 0;
    for (size_t i = 0; i < count && !status; i++) {
        const struct eval_asking asking = {&run->eval, zero};
        struct eval_point point;
        status = kind->set(asking, i, &point, why);
        if (!status)
            status = measure_point(run, zero, &point, result, why);
    }
    return status;
}

// Of the best mode, for a kind that changes nothing, and once on a page; NULL: no examples.
static const struct eval_row *row_to_show(const struct run *run, const struct eval_result *result)
{
    const struct eval_row *best = NULL;
    const bool shows = !result->axis && run->report.count == 0;
    for (size_t i = 1; i < result->count && shows; i++)
        if (!best || result->rows[i].metrics[0].value > best->metrics[0].value)
            best = &result->rows[i];
    return best;
}

static enum status add_section(struct run *run, struct eval_zero *zero, const char *what,
                               const struct eval_result *result, struct reason *why)
{
    struct eval_examples examples = {.count = 0};
    const struct eval_row *best = row_to_show(run, result);
    const bool has_examples =
        best && zero && zero->images.hits && zero->prototypes && !zero->has_further;
    enum status status = STATUS_OK;
    if (has_examples)
        status = eval_examples_collect(zero, best->mode, &examples, why);
    const struct eval_section section = {
        .result = result,
        .what = what,
        .classes = zero && zero->prototypes ? &zero->classes : NULL,
        .examples = has_examples ? &examples : NULL,
    };
    if (!status)
        eval_report_add(&run->report, &section);
    eval_examples_deinit(&examples);
    return status;
}

// A table at the end of a kind: what comes later may fail.
static enum status show(struct run *run, struct eval_zero *zero, const char *what,
                        const struct eval_result *result, struct reason *why)
{
    if (!run->options->json)
        eval_result_print(result, run->report.is_of_many ? what : NULL);
    return run->options->report ? add_section(run, zero, what, result, why) : STATUS_OK;
}

static enum status run_kind(struct run *run, struct eval_zero *zero, const struct eval_kind *kind,
                            struct reason *why)
{
    struct eval_result result = {
        .eval = &run->eval,
        .dataset = zero->place.name,
        .task = kind->is_oven ? "oven" : "zeroshot_classification",
        .labels_sha256 = zero->prototypes ? zero->classes.labels_sha256 : NULL,
        .templates_sha256 = zero->classes.templates_sha256,
        .axis = kind->axis,
        .axis_title = kind->title,
        .axis_words = kind->words,
        .encode_seconds = zero->set.seconds,
    };
    enum status status = eval_kind_reset(&run->eval, why);
    if (!status)
        status = measure_points(run, zero, kind, &result, why);
    if (!status)
        status = show(run, zero, kind->name, &result, why);
    eval_result_deinit(&result);
    return status;
}

// The same with a memory of the data set's own pictures.
static enum status run_shots(struct run *run, struct eval_zero *zero, const struct args_list *items,
                             const struct eval_kind *kind, struct reason *why)
{
    const struct eval_memory whole = run->eval.memory;
    struct eval_memory own = {.count = 0};
    bool has_failed = false;
    enum status status = eval_shots_read(zero, items, &own, &has_failed, why);
    run->has_failed |= has_failed;
    if (!status) {
        run->eval.memory = own;
        status = run_kind(run, zero, kind, why);
        eval_memory_deinit(&run->eval.memory);
        run->eval.memory = whole;
    }
    return status;
}

static enum status run_set(struct run *run, const struct args_list *items,
                           const struct eval_kind *const *kinds, size_t count, struct reason *why)
{
    struct eval_zero zero = {.eval = NULL};
    assert(count >= 1);

    const struct eval_zero_params params = {
        .items = items, .profile = profile_of(run), .is_oven = kinds[0]->is_oven};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && !status; i++)
        if (kinds[i]->brings_memory)
            status = eval_shots_check(run->options, items, why);
    if (!status)
        status = eval_zero_begin(&zero, &run->eval, &params, why);
    for (size_t i = 0; i < count && !status; i++)
        status = kinds[i]->brings_memory ? run_shots(run, &zero, items, kinds[i], why)
                                         : run_kind(run, &zero, kinds[i], why);
    run->has_failed |= zero.set.has_failed;
    eval_zero_end(&zero);
    return status;
}

// --- begin and end

// The figures are out by now: a page that cannot be written costs only itself.
static int finish(struct run *run, enum status status, struct reason *why)
{
    if (!status && run->options->report)
        status = eval_report_write(run->options->report, &run->report, why);
    if (status && !run->is_told)
        output_error(NULL, why);
    // A file of this machine, not the cluster.
    if (status == STATUS_IO || (!status && run->has_failed))
        return VERBS_FAILED;
    return status ? output_exit(status) : VERBS_DONE;
}

static void end(struct run *run)
{
    eval_report_deinit(&run->report);
    eval_end(&run->eval);
}

int eval_run_kind(const struct options *options, const struct eval_kind *kind)
{
    struct run run = {.options = options};
    struct reason why = {.text = ""};
    int exit_status = eval_begin(&run.eval, options, kind->brings_memory);
    if (!exit_status) {
        enum status status = kind->check(&run.eval, &why);
        if (!status)
            status = run_set(&run, &options->items, &kind, 1, &why);
        exit_status = finish(&run, status, &why);
    }
    end(&run);
    return exit_status;
}

static enum status read_kinds(const char *words, const struct eval_kind *kinds[EVAL_KINDS],
                              size_t *count, struct reason *why)
{
    *count = 0;
    for (const char *at = words; at;) {
        const size_t bytes = strcspn(at, ",");
        const struct eval_kind *kind = eval_kind_find((struct text){at, bytes});
        if (!kind)
            return reason_set(why, STATUS_INVALID, "--kinds",
                              "'%.*s' is no kind; allowed: " EVAL_KIND_WORDS, (int)bytes, at);
        for (size_t i = 0; i < *count; i++)
            if (kinds[i] == kind)
                return reason_set(why, STATUS_INVALID, "--kinds", "'%s' comes twice", kind->name);
        kinds[(*count)++] = kind;
        at = at[bytes] == ',' ? at + bytes + 1 : NULL;
    }
    return STATUS_OK;
}

int eval_run_all(const struct options *options)
{
    struct run run = {.options = options, .report = {.is_of_many = true}};
    struct reason why = {.text = ""};
    const struct eval_kind *kinds[EVAL_KINDS] = {NULL};
    size_t count = 0;
    const char *words = options->kinds ? options->kinds : EVAL_KINDS_USUAL;
    if (read_kinds(words, kinds, &count, &why)) {
        output_error(NULL, &why);
        return VERBS_USAGE;
    }
    if (options->labels && strcmp(options->labels, "-") == 0 && options->items.count > 1) {
        (void)reason_set(&why, STATUS_INVALID, "--labels",
                         "- is read once: of several data sets, name a file");
        output_error(NULL, &why);
        return VERBS_USAGE;
    }
    bool brings_memory = options->items.count == 1; // all of them do
    for (size_t i = 0; i < count; i++)
        brings_memory &= kinds[i]->brings_memory;
    int exit_status = eval_begin(&run.eval, options, brings_memory);
    if (!exit_status) {
        enum status status = STATUS_OK;
        for (size_t i = 0; i < count && !status; i++)
            status = kinds[i]->check(&run.eval, &why);
        for (size_t i = 0; i < options->items.count && !status; i++) {
            const struct args_list one = {&options->items.items[i], 1};
            const struct eval_kind *plain = &eval_kinds[0];
            status = i == 0 ? run_set(&run, &one, kinds, count, &why)
                            : run_set(&run, &one, &plain, 1, &why);
        }
        exit_status = finish(&run, status, &why);
    }
    end(&run);
    return exit_status;
}

int eval_run_retrieval(const struct options *options)
{
    struct run run = {.options = options};
    struct reason why = {.text = ""};
    int exit_status = eval_begin(&run.eval, options, false);
    if (!exit_status) {
        struct eval_retrieval retrieval = {.eval = NULL};
        enum status status = eval_check_k(&run.eval, "-k", options->k, run.eval.memory.count, &why);
        if (!status)
            status = eval_retrieval_begin(&retrieval, &run.eval, profile_of(&run), &why);
        struct eval_result result = {
            .eval = &run.eval,
            .dataset = retrieval.place.name,
            .task = "zeroshot_retrieval",
            .encode_seconds = retrieval.set.seconds,
        };
        for (size_t i = 0; i < run.eval.mode_count && !status; i++) {
            struct eval_row row = {.at = (double)NAN};
            status = eval_retrieval_measure(&retrieval, run.eval.modes[i], &row, &why);
            if (!status)
                status = add_row(&run, &result, &row);
        }
        if (!status)
            status = show(&run, NULL, "retrieval", &result, &why);
        run.has_failed = retrieval.set.has_failed;
        exit_status = finish(&run, status, &why);
        eval_result_deinit(&result);
        eval_retrieval_end(&retrieval);
    }
    end(&run);
    return exit_status;
}
