// SPDX-License-Identifier: Apache-2.0
// train_batch.h - batches of pairs with their neighbours, as fusion_train.h takes them.
//
// Every batch follows from the seed and its step alone, so that a training that was interrupted
// goes on with the same ones. A pass goes over the entities in an order of its own and draws one
// pair of each.
//
// What a batch of training has that the memory has not: some neighbours with the payload of another
// record (wrong captions), some that are other records altogether (a memory of unrelated things).
//
// Thread-safety: none.

#ifndef RECO_TOOLS_TRAIN_BATCH_H
#define RECO_TOOLS_TRAIN_BATCH_H

#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/fusion_train.h"
#include "tools/train_memory.h"
#include "tools/train_neighbours.h"
#include "tools/train_pairs.h"

struct train_batches;

struct train_batches_params {
    const struct train_memory *memory;
    const struct train_pairs *pairs;
    const struct train_neighbours *neighbours;
    uint32_t batch; // pairs in one
    uint64_t seed;
    double held_out;  // share of the entities that no batch of training has
    double noise;     // share of neighbours with another record's payload; see train_batch.c
    double unrelated; // share of neighbours that are other records
};

#define TRAIN_HELD_OUT_MAX 4096 // pairs that are measured

// STATUS_FAILED_PRECONDITION when pairs of fewer than two entities are left to learn from, or held
// out.
enum status train_batches_create(const struct train_batches_params *params,
                                 struct train_batches **out, struct reason *why) MUST_CHECK;
void train_batches_destroy(struct train_batches **batches); // NULL is allowed

uint32_t train_batches_size(const struct train_batches *batches);     // pairs in one
uint32_t train_batches_learnt(const struct train_batches *batches);   // pairs
uint32_t train_batches_held_out(const struct train_batches *batches); // pairs that are measured
uint32_t train_batches_count_held_out(const struct train_batches *batches);

// The batch of a step, from 0 on; or batch `number` of the held-out pairs, as they are. What *out
// points to lives until the next call.
void train_batches_get(struct train_batches *batches, uint64_t step,
                       struct fusion_train_batch *out);
void train_batches_get_held_out(struct train_batches *batches, uint32_t number,
                                struct fusion_train_batch *out);

#endif
