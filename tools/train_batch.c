// SPDX-License-Identifier: Apache-2.0
// The entities of all passes are one long row, of which a batch is the next piece; a pass is
// shuffled when its first entity is wanted. So a batch hardly has two pairs of one entity, which
// would not be each other's negatives. What is drawn begins anew for each pass and each step.

#include "tools/train_batch.h"

#include <assert.h>

#include "proto/base/mem.h"
#include "tools/train_draw.h"

#define SIDES FUSION_HEAD_SIDES
#define PASS_NONE UINT64_MAX

struct train_batches {
    struct train_batches_params params;
    uint32_t dimension;
    uint32_t *learnt; // [learnt_count] pairs, by entity
    uint32_t learnt_count;
    uint32_t *first; // [entity_count + 1]: where an entity's pairs begin in `learnt`
    uint32_t entity_count;
    uint32_t *order; // [entity_count], of the pass
    uint64_t pass;
    uint32_t *held_out; // [held_out_count]
    uint32_t held_out_count;
    uint64_t draw; // state of the numbers that are drawn
    double noise;  // of this batch
    uint64_t *entities;
    float *embeddings[SIDES], *payload[SIDES], *scores[SIDES], *pair_scores[SIDES];
    uint32_t *counts[SIDES];
};

// --- who learns

// Sorts the pairs that are learnt by their entities.
static void group(struct train_batches *batches)
{
    const uint32_t count = batches->learnt_count;
    struct train_pairs_place *members = mem_alloc_array(count ? count : 1, sizeof(members[0]));
    for (uint32_t i = 0; i < count; i++)
        members[i] = (struct train_pairs_place){
            .key = batches->params.pairs->entities[batches->learnt[i]],
            .pair = batches->learnt[i],
        };
    train_pairs_sort(members, count);
    batches->first = mem_alloc_array((size_t)count + 1, sizeof(batches->first[0]));
    for (uint32_t i = 0; i < count; i++) {
        batches->learnt[i] = members[i].pair;
        if (i == 0 || members[i].key != members[i - 1].key)
            batches->first[batches->entity_count++] = i;
    }
    batches->first[batches->entity_count] = count;
    mem_free(members);
}

static void part(struct train_batches *batches)
{
    const struct train_batches_params *params = &batches->params;
    const uint32_t count = params->pairs->rows.count;
    batches->learnt = mem_alloc_array(count, sizeof(batches->learnt[0]));
    batches->held_out = mem_alloc_array(count, sizeof(batches->held_out[0]));
    for (uint32_t i = 0; i < count; i++) {
        if (train_pairs_is_held_out(params->pairs->entities[i], params->seed, params->held_out))
            batches->held_out[batches->held_out_count++] = i;
        else
            batches->learnt[batches->learnt_count++] = i;
    }
    group(batches);
    train_draw_shuffle(train_draw_begin(params->seed, TRAIN_DRAW_HELD_OUT, 0), batches->held_out,
                       batches->held_out_count);
    if (batches->held_out_count > TRAIN_HELD_OUT_MAX)
        batches->held_out_count = TRAIN_HELD_OUT_MAX;
}

// Whether there are two pairs of different entities, without which there is no wrong answer.
static bool has_two(const struct train_pairs *pairs, const uint32_t *list, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++)
        if (pairs->entities[list[i]] != pairs->entities[list[0]])
            return true;
    return false;
}

static enum status check(const struct train_batches *batches, struct reason *why)
{
    const struct train_batches_params *params = &batches->params;
    if (!has_two(params->pairs, batches->learnt, batches->learnt_count))
        return reason_set(
            why, STATUS_FAILED_PRECONDITION, "--pairs",
            "%u pairs are left to learn from, of fewer than two entities (--entity-field, "
            "--held-out)",
            batches->learnt_count);
    if (!has_two(params->pairs, batches->held_out, batches->held_out_count))
        return reason_set(why, STATUS_FAILED_PRECONDITION, "--held-out",
                          "%g of the entities are %u pairs of fewer than two entities: nothing "
                          "would say when to stop; more pairs, or a larger share",
                          params->held_out, batches->held_out_count);
    return STATUS_OK;
}

static void make_room(struct train_batches *batches)
{
    const size_t pairs = batches->params.batch;
    const size_t k = batches->params.neighbours->k;
    batches->entities = mem_alloc_array(pairs, sizeof(batches->entities[0]));
    for (size_t side = 0; side < SIDES; side++) {
        batches->embeddings[side] = mem_alloc_array(pairs * batches->dimension, sizeof(float));
        batches->payload[side] = mem_alloc_array(pairs * k * batches->dimension, sizeof(float));
        batches->scores[side] = mem_alloc_array(pairs * k, sizeof(float));
        batches->pair_scores[side] = mem_alloc_array(pairs * k, sizeof(float));
        batches->counts[side] = mem_alloc_array(pairs, sizeof(batches->counts[0][0]));
    }
}

enum status train_batches_create(const struct train_batches_params *params,
                                 struct train_batches **out, struct reason *why)
{
    struct train_batches *batches = mem_alloc(sizeof(*batches));
    batches->params = *params;
    batches->dimension = params->memory->dimension;
    batches->pass = PASS_NONE;
    part(batches);
    if (batches->params.batch > batches->entity_count && batches->entity_count >= 2)
        batches->params.batch = batches->entity_count;
    const enum status status = check(batches, why);
    if (status) {
        train_batches_destroy(&batches);
        return status;
    }
    batches->order = mem_alloc_array(batches->entity_count, sizeof(batches->order[0]));
    make_room(batches);
    *out = batches;
    return STATUS_OK;
}

void train_batches_destroy(struct train_batches **batches)
{
    struct train_batches *ending = *batches;
    if (!ending)
        return;
    mem_free(ending->learnt);
    mem_free(ending->first);
    mem_free(ending->order);
    mem_free(ending->held_out);
    mem_free(ending->entities);
    for (size_t side = 0; side < SIDES; side++) {
        mem_free(ending->embeddings[side]);
        mem_free(ending->payload[side]);
        mem_free(ending->scores[side]);
        mem_free(ending->pair_scores[side]);
        mem_free(ending->counts[side]);
    }
    mem_free(ending);
    *batches = NULL;
}

uint32_t train_batches_size(const struct train_batches *batches)
{
    return batches->params.batch;
}

uint32_t train_batches_learnt(const struct train_batches *batches)
{
    return batches->learnt_count;
}

uint32_t train_batches_held_out(const struct train_batches *batches)
{
    return batches->held_out_count;
}

uint32_t train_batches_count_held_out(const struct train_batches *batches)
{
    // A batch of one pair has no wrong answer.
    const uint32_t batch = batches->params.batch;
    return batches->held_out_count / batch + (batches->held_out_count % batch >= 2);
}

// --- one batch

// Rows of the memory are drawn by the order of the ids, which every cluster has alike.
static uint32_t draw_row(struct train_batches *batches)
{
    const struct train_memory *memory = batches->params.memory;
    return memory->places[train_draw_below(&batches->draw, memory->rows.count)].row;
}

// The payload of one row beside the searched side of another: a record, or one with a wrong
// caption.
static void put_neighbour(struct train_batches *batches, enum modality side, size_t at,
                          uint32_t searched_row, uint32_t payload_row)
{
    const struct train_rows *rows = &batches->params.memory->rows;
    float *payload = batches->payload[side] + at * batches->dimension;
    float searched[DIMENSION_MAX];
    train_rows_get(rows, searched_row, side, searched);
    train_rows_get(rows, payload_row, modality_other(side), payload);
    batches->pair_scores[side][at] = (float)train_rows_dot(searched, payload, batches->dimension);
}

static void put_spoilt_neighbour(struct train_batches *batches, enum modality side, size_t at,
                                 const float *query, uint32_t row)
{
    const struct train_batches_params *params = &batches->params;
    uint32_t payload_row = row;
    if (train_draw_share(&batches->draw, params->unrelated)) {
        float searched[DIMENSION_MAX];
        row = payload_row = draw_row(batches);
        train_rows_get(&params->memory->rows, row, side, searched);
        batches->scores[side][at] = (float)train_rows_dot(query, searched, batches->dimension);
    } else if (train_draw_share(&batches->draw, batches->noise)) {
        payload_row = draw_row(batches);
    }
    put_neighbour(batches, side, at, row, payload_row);
}

static void put_pair(struct train_batches *batches, uint32_t slot, uint32_t pair, bool is_spoilt)
{
    const struct train_batches_params *params = &batches->params;
    const struct train_neighbours *neighbours = params->neighbours;
    const uint32_t dimension = batches->dimension;
    const size_t k = neighbours->k;
    batches->entities[slot] = params->pairs->entities[pair];
    for (size_t i = 0; i < SIDES; i++) {
        const enum modality side = (enum modality)i;
        float *query = batches->embeddings[side] + (size_t)slot * dimension;
        train_rows_get(&params->pairs->rows, pair, side, query);
        const uint32_t count = neighbours->counts[side][pair];
        batches->counts[side][slot] = count;
        for (uint32_t n = 0; n < count; n++) {
            const size_t at = slot * k + n;
            const uint32_t row = neighbours->rows[side][pair * k + n];
            batches->scores[side][at] = neighbours->scores[side][pair * k + n];
            if (is_spoilt)
                put_spoilt_neighbour(batches, side, at, query, row);
            else
                put_neighbour(batches, side, at, row, row);
        }
    }
}

static void give(const struct train_batches *batches, uint32_t pairs,
                 struct fusion_train_batch *out)
{
    *out = (struct fusion_train_batch){.pairs = pairs, .entities = batches->entities};
    for (size_t side = 0; side < SIDES; side++) {
        out->embeddings[side] = batches->embeddings[side];
        out->payload[side] = batches->payload[side];
        out->scores[side] = batches->scores[side];
        out->pair_scores[side] = batches->pair_scores[side];
        out->counts[side] = batches->counts[side];
    }
}

static uint32_t pair_at(struct train_batches *batches, uint64_t position)
{
    const uint64_t pass = position / batches->entity_count;
    if (pass != batches->pass) {
        for (uint32_t i = 0; i < batches->entity_count; i++)
            batches->order[i] = i;
        train_draw_shuffle(train_draw_begin(batches->params.seed, TRAIN_DRAW_PASS, pass),
                           batches->order, batches->entity_count);
        batches->pass = pass;
    }
    const uint32_t entity = batches->order[position % batches->entity_count];
    const uint32_t first = batches->first[entity];
    return batches
        ->learnt[first + train_draw_below(&batches->draw, batches->first[entity + 1] - first)];
}

void train_batches_get(struct train_batches *batches, uint64_t step, struct fusion_train_batch *out)
{
    const uint32_t pairs = batches->params.batch;
    batches->draw = train_draw_begin(batches->params.seed, TRAIN_DRAW_STEP, step);
    // Half of the batches are clean, a quarter has all of the noise, a quarter some of it.
    const uint32_t kind = train_draw_below(&batches->draw, 4);
    const double share = train_draw_unit(&batches->draw);
    batches->noise = kind < 2 ? 0 : batches->params.noise * (kind == 2 ? 1 : share);
    for (uint32_t i = 0; i < pairs; i++)
        put_pair(batches, i, pair_at(batches, step * pairs + i), true);
    give(batches, pairs, out);
}

void train_batches_get_held_out(struct train_batches *batches, uint32_t number,
                                struct fusion_train_batch *out)
{
    assert(number < train_batches_count_held_out(batches));

    const uint32_t first = number * batches->params.batch;
    const uint32_t left = batches->held_out_count - first;
    const uint32_t pairs = left < batches->params.batch ? left : batches->params.batch;
    for (uint32_t i = 0; i < pairs; i++)
        put_pair(batches, i, batches->held_out[first + i], false);
    give(batches, pairs, out);
}
