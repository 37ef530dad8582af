// SPDX-License-Identifier: Apache-2.0
// keeper.h - keeps the indexes of a node on the disk, so that a start need not train them.
//
// A side has one file beside its rows, index-image or index-text (index.h). It is written when a
// tenth of the slots is not in it, as soon as a checkpoint of the rows has all that the index
// covers, and at the end. It is derived: without it, or when it is of no use, the side is trained
// as if it were new.
//
// Thread-safety: the indexer's thread, and when that has ended whoever ends the node.

#ifndef RECO_SHARD_NODE_KEEPER_H
#define RECO_SHARD_NODE_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "shard_node/shelf.h"
#include "shard_node/store.h"

#define KEEPER_PART 10 // of the slots in a file, and as many new ones make it be written again
#define KEEPER_RETRY_US 60000000 // after it could not be

struct keeper {
    struct shelf *shelf;
    struct store *store;
};

// The side's index as it was saved. False when there is none that is of use.
bool keeper_open(const struct keeper *keeper, struct shelf_generation *generation,
                 enum modality modality, const struct index_params *params,
                 struct index **out) MUST_CHECK;

// The slots that the side's index has to cover to be saved now; 0: it need not, or cannot.
uint32_t keeper_due(const struct shelf_generation *generation, enum modality modality);

// Saves an index that covers what keeper_due() has said. What goes wrong is logged, and tried again
// later.
void keeper_save(const struct keeper *keeper, struct shelf_generation *generation,
                 enum modality modality, const struct index *index);

// Saves all that have changed. Nobody writes any more.
void keeper_save_all(const struct keeper *keeper);

#endif
