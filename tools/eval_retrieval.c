// SPDX-License-Identifier: Apache-2.0
// Every caption meets every picture once: its score counts for the caption's own place and for the
// picture's. The scores of right pairs are made first, since all others are held against them.

#include "tools/eval_retrieval.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "coordinator/score.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/base/parallel.h"

// --- counting

struct pairing {
    const struct eval_pairs *pairs;
    float *right;            // [text_count]: score of each caption with its own picture
    uint32_t *best;          // [image_count]: the caption that scores best of a picture's own
    uint32_t *of_text;       //
    _Atomic uint32_t *ahead; // [image_count]: captions that rank before the best
};

static const float *image_at(const struct eval_pairs *pairs, size_t image)
{
    return pairs->images + image * pairs->dimension;
}

static const float *text_at(const struct eval_pairs *pairs, size_t text)
{
    return pairs->texts + text * pairs->dimension;
}

static void score_own(void *context, uint32_t worker, size_t text)
{
    (void)worker;
    struct pairing *pairing = context;
    const struct eval_pairs *pairs = pairing->pairs;
    pairing->right[text] =
        score_dot(text_at(pairs, text), image_at(pairs, pairs->image_of[text]), pairs->dimension);
}

static void choose_best(struct pairing *pairing)
{
    const struct eval_pairs *pairs = pairing->pairs;
    for (size_t image = 0; image < pairs->image_count; image++)
        pairing->best[image] = UINT32_MAX;
    for (size_t text = 0; text < pairs->text_count; text++) {
        uint32_t *best = &pairing->best[pairs->image_of[text]];
        if (*best == UINT32_MAX || pairing->right[text] > pairing->right[*best])
            *best = (uint32_t)text;
    }
}

static void meet_all(void *context, uint32_t worker, size_t text)
{
    (void)worker;
    struct pairing *pairing = context;
    const struct eval_pairs *pairs = pairing->pairs;
    const uint32_t own = pairs->image_of[text];
    const float right = pairing->right[text];
    uint32_t ahead = 0;
    for (size_t image = 0; image < pairs->image_count; image++) {
        const float score = image == own ? right
                                         : score_dot(text_at(pairs, text), image_at(pairs, image),
                                                     pairs->dimension);
        ahead += score > right || (!(score < right) && image < own);
        const uint32_t best = pairing->best[image];
        const float highest = pairing->right[best];
        if (score > highest || (!(score < highest) && text < best))
            atomic_fetch_add_explicit(&pairing->ahead[image], 1, memory_order_relaxed);
    }
    pairing->of_text[text] = ahead;
}

enum status eval_retrieval_places(const struct eval_pairs *pairs, uint32_t *of_text,
                                  uint32_t *of_image)
{
    assert(pairs && of_text && of_image);
    assert(pairs->threads >= 1 && pairs->threads <= PARALLEL_THREADS_MAX);

    struct pairing pairing = {
        .pairs = pairs,
        .right = mem_try_alloc_array(pairs->text_count, sizeof(float)),
        .best = mem_try_alloc_array(pairs->image_count, sizeof(uint32_t)),
        .ahead = mem_try_alloc_array(pairs->image_count, sizeof(uint32_t)),
    };
    pairing.of_text = of_text;
    const bool fits = pairing.right && pairing.best && pairing.ahead;
    if (fits) {
        for (size_t i = 0; i < pairs->image_count; i++)
            atomic_init(&pairing.ahead[i], 0);
        parallel_run(pairs->threads, pairs->text_count, score_own, &pairing);
        choose_best(&pairing);
        parallel_run(pairs->threads, pairs->text_count, meet_all, &pairing);
        for (size_t i = 0; i < pairs->image_count; i++)
            of_image[i] = atomic_load(&pairing.ahead[i]);
    }
    mem_free(pairing.right);
    mem_free(pairing.best);
    mem_free(pairing.ahead);
    return fits ? STATUS_OK : STATUS_NO_MEMORY;
}

// --- measuring

static enum status count_places(const struct eval_retrieval *retrieval, const float *images,
                                const float *texts, bool plain, struct reason *why)
{
    const struct eval_pairs pairs = {
        .images = images,
        .texts = texts,
        .image_count = retrieval->set.count,
        .text_count = retrieval->set.text_count,
        .image_of = retrieval->set.image_of,
        .dimension = retrieval->eval->dimension,
        .threads = retrieval->eval->threads,
    };
    const enum status status =
        eval_retrieval_places(&pairs, plain ? retrieval->plain_of_text : retrieval->of_text,
                              plain ? retrieval->plain_of_image : retrieval->of_image);
    return status
               ? reason_set(why, status, NULL, "no memory to rank %zu captions", pairs.text_count)
               : STATUS_OK;
}

static enum status search(struct eval_retrieval *retrieval, struct reason *why)
{
    const struct eval *eval = retrieval->eval;
    const uint32_t k = (uint32_t)eval->options->k;
    const int64_t began = clock_now_us();
    enum status status = eval_side_search(&retrieval->images, eval, MODALITY_IMAGE, k, why);
    if (!status)
        status = eval_side_search(&retrieval->texts, eval, MODALITY_TEXT, k, why);
    retrieval->search_seconds = (double)(clock_now_us() - began) / 1e6;
    return status;
}

enum status eval_retrieval_begin(struct eval_retrieval *retrieval, const struct eval *eval,
                                 enum api_profile profile, struct reason *why)
{
    assert(retrieval && eval);

    *retrieval = (struct eval_retrieval){.eval = eval};
    const struct eval_encoder encoder = {
        .client = eval->client, .dimension = eval->dimension, .profile = profile};
    const struct eval_set_params params = {
        .options = eval->options, .place = &retrieval->place, .encoder = &encoder};
    struct eval_set *set = &retrieval->set;
    enum status status =
        dataset_place_find(&eval->options->items, eval->options->split, &retrieval->place, why);
    if (!status)
        status = eval_set_read(&params, set, why);
    if (status)
        return status;
    retrieval->images =
        (struct eval_side){.own = MODALITY_IMAGE, .queries = set->images, .count = set->count};
    retrieval->texts =
        (struct eval_side){.own = MODALITY_TEXT, .queries = set->texts, .count = set->text_count};
    retrieval->plain_of_text = mem_try_alloc_array(set->text_count, sizeof(uint32_t));
    retrieval->of_text = mem_try_alloc_array(set->text_count, sizeof(uint32_t));
    retrieval->plain_of_image = mem_try_alloc_array(set->count, sizeof(uint32_t));
    retrieval->of_image = mem_try_alloc_array(set->count, sizeof(uint32_t));
    if (!retrieval->plain_of_text || !retrieval->of_text || !retrieval->plain_of_image ||
        !retrieval->of_image)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for %zu answers",
                          set->text_count);
    status = count_places(retrieval, set->images, set->texts, true, why);
    if (!status && eval->memory.count)
        status = search(retrieval, why);
    return status;
}

void eval_retrieval_end(struct eval_retrieval *retrieval)
{
    eval_side_deinit(&retrieval->images);
    eval_side_deinit(&retrieval->texts);
    eval_set_deinit(&retrieval->set);
    dataset_place_deinit(&retrieval->place);
    mem_free(retrieval->plain_of_text);
    mem_free(retrieval->of_text);
    mem_free(retrieval->plain_of_image);
    mem_free(retrieval->of_image);
    *retrieval = (struct eval_retrieval){.eval = NULL};
}

static void count_metrics(const struct eval_retrieval *retrieval, struct eval_row *row)
{
    static const struct {
        const char *name;
        bool of_images; // pictures ask
        uint32_t top;
    } metrics[] = {
        {"image_retrieval_recall@5", false, 5}, {"text_retrieval_recall@5", true, 5},
        {"image_retrieval_recall@1", false, 1}, {"image_retrieval_recall@10", false, 10},
        {"text_retrieval_recall@1", true, 1},   {"text_retrieval_recall@10", true, 10},
    };
    const size_t metric_count = sizeof(metrics) / sizeof(metrics[0]);
    for (size_t i = 0; i < metric_count; i++) {
        const bool of_images = metrics[i].of_images;
        const uint32_t top = metrics[i].top;
        const size_t count = of_images ? retrieval->set.count : retrieval->set.text_count;
        const uint32_t *places = of_images ? retrieval->of_image : retrieval->of_text;
        const uint32_t *plain = of_images ? retrieval->plain_of_image : retrieval->plain_of_text;
        row->metrics[i] = (struct eval_metric){
            .name = metrics[i].name,
            .value = eval_score_accuracy(places, count, top),
            .is_share = true,
            .interval = eval_score_interval(places, count, top),
            .difference = eval_score_difference(places, plain, count, top),
        };
        row->metrics[i].delta = row->metrics[i].value - eval_score_accuracy(plain, count, top);
    }
    row->metric_count = metric_count;
}

enum status eval_retrieval_measure(struct eval_retrieval *retrieval, enum fusion_mode mode,
                                   struct eval_row *row, struct reason *why)
{
    assert(retrieval && row);

    const struct eval *eval = retrieval->eval;
    const int64_t began = clock_now_us();
    const uint32_t k = (uint32_t)eval->options->k;
    const float *images = NULL;
    const float *texts = NULL;
    struct eval_how how = {mode, k, MODALITY_TEXT, false, false};
    enum status status = eval_side_refine(&retrieval->images, eval, how, &images, why);
    how.payload = MODALITY_IMAGE;
    if (!status)
        status = eval_side_refine(&retrieval->texts, eval, how, &texts, why);
    if (!status)
        status = count_places(retrieval, images, texts, false, why);
    if (status)
        return status;
    row->mode = mode;
    row->k = k;
    row->records = eval->memory.live_count;
    row->count = retrieval->set.text_count;
    row->held = mode == FUSION_NONE ? 0 : retrieval->images.held;
    row->seconds = (double)(clock_now_us() - began) / 1e6;
    row->seconds += mode == FUSION_NONE ? 0 : retrieval->search_seconds;
    count_metrics(retrieval, row);
    return STATUS_OK;
}
