// SPDX-License-Identifier: Apache-2.0
#include "tools/eval_zero.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "tools/eval_oven.h"

#define TOP 5u // of acc5

static struct eval_prototypes prototypes_of(const struct eval_zero *zero, const float *values)
{
    return (struct eval_prototypes){
        .values = values,
        .name_count = zero->classes.labels.name_count,
        .label_of = zero->classes.labels.label_of,
        .label_count = zero->classes.labels.label_count,
        .dimension = zero->eval->dimension,
    };
}

static enum status score(const struct eval_zero *zero, const float *images, const float *names,
                         uint32_t *places, struct reason *why)
{
    if (!names) {
        const struct eval_entities_asked asked = {
            .queries = images,
            .count = zero->set.count,
            .truth = zero->set.truth,
            .threads = zero->eval->threads,
        };
        return eval_entities_places(&zero->entities, &asked, places, why);
    }
    const struct eval_prototypes prototypes = prototypes_of(zero, names);
    const enum status status = eval_score_places(&prototypes, images, zero->set.count,
                                                 zero->set.truth, zero->eval->threads, places);
    return status ? reason_set(why, status, NULL, "no memory to rank %zu labels",
                               prototypes.label_count)
                  : STATUS_OK;
}

// Labels and their prototypes, or entities.
static enum status read_names(struct eval_zero *zero, struct reason *why)
{
    const struct eval *eval = zero->eval;
    const char *entities = zero->is_oven ? eval->options->entities : NULL;
    if (entities && eval->options->labels)
        return reason_set(why, STATUS_INVALID, "--entities",
                          "stands in place of --labels: one of them is allowed");
    if (zero->is_oven && !entities && !eval->options->labels && !zero->place.labels[0])
        return reason_set(why, STATUS_INVALID, "--entities",
                          "or --labels is needed: a memory or a file of all entities");
    if (entities)
        return eval_entities_read(eval->client, entities, eval->space, &zero->entities, why);
    const enum status status = eval_classes_read(eval->options, &zero->place,
                                                 text_of(eval->template_text), &zero->classes, why);
    return status ? status
                  : eval_classes_encode(&zero->classes, &zero->encoder, &zero->prototypes, why);
}

static enum status read_set(struct eval_zero *zero, const struct dataset_place *place,
                            struct reason *why)
{
    const struct options *options = zero->eval->options;
    const char *field = options->split_field ? options->split_field : EVAL_OVEN_FIELD;
    const struct eval_set_params params = {
        .options = options,
        .place = place,
        .classes = zero->prototypes ? &zero->classes : NULL,
        .entities = zero->prototypes ? NULL : &zero->entities,
        .encoder = &zero->encoder,
        .part_field = zero->is_oven ? field : NULL,
    };
    return eval_set_read(&params, &zero->set, why);
}

// The word of a comma list that `at` begins with, owned by the caller.
static char *copy_word(const char *at)
{
    const size_t bytes = strcspn(at, ",");
    char *word = mem_alloc(bytes + 1);
    memcpy(word, at, bytes);
    return word;
}

// Whether the word at `at` stands in front of it in the list, too: its pictures would count twice.
static bool is_repeated(const char *list, const char *at)
{
    const size_t bytes = strcspn(at, ",");
    for (const char *word = list; word < at; word += strcspn(word, ",") + 1)
        if (strcspn(word, ",") == bytes && memcmp(word, at, bytes) == 0)
            return true;
    return false;
}

static enum status read_further(struct eval_zero *zero, const struct args_list *items,
                                const char *splits, struct reason *why)
{
    enum status status = STATUS_OK;
    for (const char *at = strchr(splits, ','); at && !status; at = strchr(at + 1, ',')) {
        if (is_repeated(splits, at + 1))
            return reason_set(why, STATUS_INVALID, "--split", "'%.*s' comes twice",
                              (int)(strcspn(at + 1, ",") < 100 ? strcspn(at + 1, ",") : 100),
                              at + 1);
        char *split = copy_word(at + 1);
        struct dataset_place place;
        status = dataset_place_find(items, split, &place, why);
        if (!status)
            status = read_set(zero, &place, why);
        zero->has_further = true;
        dataset_place_deinit(&place);
        mem_free(split);
    }
    return status;
}

enum status eval_zero_begin(struct eval_zero *zero, const struct eval *eval,
                            const struct eval_zero_params *params, struct reason *why)
{
    assert(zero && eval && params);

    *zero = (struct eval_zero){.eval = eval, .is_oven = params->is_oven};
    zero->encoder = (struct eval_encoder){
        .client = eval->client, .dimension = eval->dimension, .profile = params->profile};
    const char *splits = eval->options->split;
    const bool has_list = splits && params->is_oven;
    zero->split = has_list ? copy_word(splits) : NULL;
    enum status status =
        dataset_place_find(params->items, has_list ? zero->split : splits, &zero->place, why);
    if (!status)
        status = read_names(zero, why);
    if (!status)
        status = read_set(zero, &zero->place, why);
    if (!status && has_list)
        status = read_further(zero, params->items, splits, why);
    if (status)
        return status;
    zero->images = (struct eval_side){
        .own = MODALITY_IMAGE, .queries = zero->set.images, .count = zero->set.count};
    zero->names = (struct eval_side){.own = MODALITY_TEXT,
                                     .queries = zero->prototypes,
                                     .count = zero->classes.labels.name_count};
    zero->plain = mem_try_alloc_array(zero->set.count, sizeof(zero->plain[0]));
    zero->places = mem_try_alloc_array(zero->set.count, sizeof(zero->places[0]));
    if (!zero->plain || !zero->places)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for %zu answers",
                          zero->set.count);
    return score(zero, zero->images.queries, zero->names.queries, zero->plain, why);
}

void eval_zero_end(struct eval_zero *zero)
{
    eval_side_deinit(&zero->images);
    eval_side_deinit(&zero->names);
    eval_set_deinit(&zero->set);
    eval_classes_deinit(&zero->classes);
    eval_entities_deinit(&zero->entities);
    dataset_place_deinit(&zero->place);
    mem_free(zero->split);
    mem_free(zero->prototypes);
    mem_free(zero->plain);
    mem_free(zero->places);
    *zero = (struct eval_zero){.eval = NULL};
}

static enum modality searched(struct eval_zero_sides sides, enum modality own)
{
    return sides.search_across ? modality_other(own) : own;
}

static enum modality mixed_in(struct eval_zero_sides sides, enum modality own)
{
    return sides.fuse_same ? own : modality_other(own);
}

enum status eval_zero_search(struct eval_zero *zero, struct eval_zero_sides sides, uint32_t k,
                             struct reason *why)
{
    assert(zero);

    const int64_t began = clock_now_us();
    enum status status =
        eval_side_search(&zero->images, zero->eval, searched(sides, MODALITY_IMAGE), k, why);
    if (!status && zero->prototypes)
        status = eval_side_search(&zero->names, zero->eval, searched(sides, MODALITY_TEXT), k, why);
    zero->search_seconds = (double)(clock_now_us() - began) / 1e6;
    return status;
}

static void count_metrics(const struct eval_zero *zero, struct eval_row *row)
{
    static const char *const names[] = {"acc1", "acc5"};
    const size_t count = zero->set.count;
    for (size_t i = 0; i < 2; i++) {
        const uint32_t top = i == 0 ? 1 : TOP;
        struct eval_metric *metric = &row->metrics[i];
        *metric = (struct eval_metric){.name = names[i], .value = (double)NAN, .is_share = true};
        if (zero->classes.labels.label_count < top)
            continue;
        metric->value = eval_score_accuracy(zero->places, count, top);
        metric->interval = eval_score_interval(zero->places, count, top);
        metric->delta = metric->value - eval_score_accuracy(zero->plain, count, top);
        metric->difference = eval_score_difference(zero->places, zero->plain, count, top);
    }
    row->metrics[2] =
        (struct eval_metric){.name = "mean_per_class_recall",
                             .value = eval_score_class_recall(zero->places, zero->set.truth, count,
                                                              zero->classes.labels.label_count)};
    row->metric_count = 3;
}

// Two answers of one picture that differ.
static enum status weigh(const struct eval_zero *zero, struct eval_how how, size_t picture,
                         struct fusion_gate_dispute *dispute, double *gate)
{
    const uint32_t dimension = zero->eval->dimension;
    const float *names = zero->names.queries;
    const float *const told[] = {zero->images.queries + picture * dimension,
                                 names + dispute->plain.first * dimension,
                                 names + dispute->refined.first * dimension};
    double nearest[3];
    const enum status status =
        eval_side_nearest(&zero->images, zero->eval, how, picture, told, nearest);
    if (status)
        return status;
    dispute->nearest = nearest[0];
    dispute->told_plain = nearest[1];
    dispute->told_refined = nearest[2];
    dispute->known = (double)zero->names.best[dispute->plain.first];
    double evidence[FUSION_GATE_EVIDENCE];
    fusion_gate_weigh(dispute, evidence);
    *gate = fusion_gate_value(&zero->eval->gate, evidence);
    return STATUS_OK;
}

// Where the head's gate believes CLIP, its answer takes the refined one's place, as a coordinator
// does it. `how` pictures were refined.
static enum status judge(struct eval_zero *zero, struct eval_how how, const float *images,
                         const float *names, struct reason *why)
{
    const size_t count = zero->set.count;
    const struct eval_prototypes plain_names = prototypes_of(zero, zero->names.queries);
    const struct eval_prototypes refined_names = prototypes_of(zero, names);
    struct fusion_gate_list *plain = mem_try_alloc_array(count, sizeof(plain[0]));
    struct fusion_gate_list *refined = mem_try_alloc_array(count, sizeof(refined[0]));
    enum status status = plain && refined ? STATUS_OK : STATUS_NO_MEMORY;
    if (!status) {
        eval_score_lists(&plain_names, zero->images.queries, count, zero->eval->threads, plain);
        eval_score_lists(&refined_names, images, count, zero->eval->threads, refined);
    }
    for (size_t i = 0; i < count && !status; i++) {
        if (plain[i].first == refined[i].first)
            continue;
        struct fusion_gate_dispute dispute = {.plain = plain[i], .refined = refined[i]};
        double gate = 1;
        status = weigh(zero, how, i, &dispute, &gate);
        if (gate < FUSION_GATE_OPEN)
            zero->places[i] = zero->plain[i];
    }
    mem_free(plain);
    mem_free(refined);
    return status ? reason_set(why, status, NULL, "no memory for %zu answers", count) : STATUS_OK;
}

enum status eval_zero_measure(struct eval_zero *zero, struct eval_zero_sides sides,
                              enum fusion_mode mode, uint32_t k, struct eval_row *row,
                              struct reason *why)
{
    assert(zero && row);

    const int64_t began = clock_now_us();
    const float *images = NULL;
    const float *names = NULL;
    struct eval_how how = {mode, k, mixed_in(sides, MODALITY_IMAGE), sides.fuse_itself,
                           mode == FUSION_HEAD && zero->eval->has_gate && zero->prototypes};
    enum status status = eval_side_refine(&zero->images, zero->eval, how, &images, why);
    const struct eval_how of_images = how;
    how.payload = mixed_in(sides, MODALITY_TEXT);
    if (!status && zero->prototypes)
        status = eval_side_refine(&zero->names, zero->eval, how, &names, why);
    if (!status)
        status = score(zero, images, names, zero->places, why);
    if (!status && how.is_open)
        status = judge(zero, of_images, images, names, why);
    if (status)
        return status;
    row->mode = mode;
    row->k = k;
    row->records = zero->eval->memory.live_count;
    row->count = zero->set.count;
    row->held = mode == FUSION_NONE ? 0 : zero->images.held;
    row->seconds = (double)(clock_now_us() - began) / 1e6;
    row->seconds += mode == FUSION_NONE ? 0 : zero->search_seconds;
    const struct eval_oven_answers answers = {
        .places = zero->places,
        .plain = zero->plain,
        .parts = zero->set.parts,
        .count = zero->set.count,
    };
    if (zero->is_oven)
        eval_oven_score(&answers, row);
    else
        count_metrics(zero, row);
    return STATUS_OK;
}
