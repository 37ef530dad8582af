// SPDX-License-Identifier: Apache-2.0
// Queries are taken in blocks: each thread chooses neighbours of its queries and, without a head, fuses them.
// A head gets the whole block at once, since its matrix products like company; its answers do not depend on it.

#include "tools/eval_refine.h"

#include <assert.h>
#include <stdatomic.h>

#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "proto/base/parallel.h"
#include "shaders/models/fusion_head.h"

#define BLOCK_ROWS 8192u // payload rows of a block, about

struct refining {
    const struct eval_refine *refine;
    float *refined;
    size_t first; // query of the block
    size_t count; // queries in it
    uint32_t width;
    float *payload;                 // [count][width][dimension]
    struct fuser_hit *hits;         // [count][width]
    struct fuser_result *selection; // [count]
    atomic_int failure;             // enum status
    // With a head.
    struct fusion_head_query *asked; // [count]
    const float **kept_payload;      // [count][k]
    float *kept_scores;
};

static void choose(struct refining *refining, size_t i)
{
    const struct eval_refine *refine = refining->refine;
    const struct eval_memory *memory = refine->memory;
    const size_t query = refining->first + i;
    const struct eval_hit *found = refine->hits + query * refine->width;
    const uint32_t count =
        refine->found[query] < refining->width ? refine->found[query] : refining->width;
    struct fuser_hit *hits = refining->hits + i * refining->width;
    float *payload = refining->payload + i * refining->width * memory->dimension;
    for (uint32_t j = 0; j < count; j++) {
        float *row = payload + (size_t)j * memory->dimension;
        half_to_floats(memory->rows[refine->payload] + (size_t)found[j].slot * memory->dimension,
                       row, memory->dimension);
        hits[j] = (struct fuser_hit){
            .id = memory->slots[found[j].slot].id,
            .score = found[j].score,
            .pair_score = memory->slots[found[j].slot].pair_score,
            .payload = row,
        };
    }
    fuser_select(refine->params, refine->queries + query * memory->dimension, hits, count,
                 &refining->selection[i]);
}

static void fuse(struct refining *refining, size_t i)
{
    const struct eval_refine *refine = refining->refine;
    const size_t at = (refining->first + i) * refine->memory->dimension;
    const enum status status =
        fuser_refine(refine->params, refine->queries + at, refining->hits + i * refining->width,
                     &refining->selection[i], FUSER_ALL, refining->refined + at);
    if (status)
        atomic_store(&refining->failure, (int)status);
}

// Lays a query and its neighbours out for the head.
static void ask_head(struct refining *refining, size_t i)
{
    const struct eval_refine *refine = refining->refine;
    const struct fuser_result *selection = &refining->selection[i];
    const struct fuser_hit *hits = refining->hits + i * refining->width;
    const size_t at = (refining->first + i) * refine->memory->dimension;
    const float **payload = refining->kept_payload + i * refine->params->k;
    float *scores = refining->kept_scores + i * refine->params->k;
    for (uint32_t j = 0; j < selection->count; j++) {
        payload[j] = hits[selection->kept[j]].payload;
        scores[j] = hits[selection->kept[j]].score;
    }
    refining->asked[i] = (struct fusion_head_query){
        .query = refine->queries + at,
        .neighbours = {.count = selection->count, .scores = scores, .payload = payload},
        .refined = refining->refined + at,
    };
}

static void work(void *context, uint32_t worker, size_t piece)
{
    (void)worker;
    struct refining *refining = context;
    choose(refining, piece);
    if (refining->asked)
        ask_head(refining, piece);
    else
        fuse(refining, piece);
}

static enum status run_head(struct refining *refining, struct reason *why)
{
    const struct eval_refine *refine = refining->refine;
    const uint32_t dimension = refine->memory->dimension;
    enum status status = fusion_head_refine_batch(refine->params->fusion.head, refine->own,
                                                  refining->asked, refining->count, why);
    for (size_t i = 0; i < refining->count && !status; i++) {
        const struct fusion_head_query *asked = &refining->asked[i];
        status = asked->status;
        if (!status)
            status = fusion_apply_gate(asked->query, asked->refined, dimension,
                                       refining->selection[i].gate, asked->refined);
        if (status)
            atomic_store(&refining->failure, (int)status);
        status = STATUS_OK;
    }
    return status;
}

static enum status run_block(struct refining *refining, struct reason *why)
{
    parallel_run(refining->refine->threads, refining->count, work, refining);
    enum status status = STATUS_OK;
    if (refining->asked)
        status = run_head(refining, why);
    if (!status && atomic_load(&refining->failure))
        status = reason_set(why, (enum status)atomic_load(&refining->failure), NULL,
                            "a query and its neighbours cancel out to length 0");
    return status;
}

// Room for blocks of `room` queries.
static bool make_room(struct refining *refining, size_t room)
{
    const struct fuser_params *params = refining->refine->params;
    const size_t rows = room * refining->width;
    refining->payload =
        mem_try_alloc_array(rows, refining->refine->memory->dimension * sizeof(float));
    refining->hits = mem_try_alloc_array(rows, sizeof(refining->hits[0]));
    refining->selection = mem_try_alloc_array(room, sizeof(refining->selection[0]));
    bool fits = refining->payload && refining->hits && refining->selection;
    if (params->fusion.mode == FUSION_HEAD) {
        refining->asked = mem_try_alloc_array(room, sizeof(refining->asked[0]));
        refining->kept_payload =
            mem_try_alloc_array(room * params->k, sizeof(refining->kept_payload[0]));
        refining->kept_scores =
            mem_try_alloc_array(room * params->k, sizeof(refining->kept_scores[0]));
        fits = fits && refining->asked && refining->kept_payload && refining->kept_scores;
    }
    return fits;
}

enum status eval_refine(const struct eval_refine *refine, float *refined, struct reason *why)
{
    assert(refine && refined && refine->params->k >= 1 && refine->params->k <= K_MAX);
    assert(refine->params->dimension == refine->memory->dimension);
    assert(!(refine->params->dedup > 0));

    const uint32_t wanted = EVAL_REFINE_WIDTH(refine->params->k);
    struct refining refining = {
        .refine = refine,
        .width = wanted < refine->width ? wanted : refine->width,
    };
    refining.refined = refined;
    const size_t room = BLOCK_ROWS / refining.width;
    enum status status = STATUS_OK;
    if (!make_room(&refining, room))
        status = reason_set(why, STATUS_NO_MEMORY, NULL, "no memory to refine %zu queries", room);
    for (; refining.first < refine->count && !status; refining.first += room) {
        const size_t left = refine->count - refining.first;
        refining.count = left < room ? left : room;
        status = run_block(&refining, why);
    }
    mem_free(refining.payload);
    mem_free(refining.hits);
    mem_free(refining.selection);
    mem_free(refining.asked);
    mem_free(refining.kept_payload);
    mem_free(refining.kept_scores);
    return status;
}
