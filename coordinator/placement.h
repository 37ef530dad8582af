// SPDX-License-Identifier: Apache-2.0
// placement.h - which node holds which record.
//
// A record's vshard is id mod V; vshard v lives on node v mod N. With V no multiple of N some nodes
// hold one vshard more; with V below N the last nodes hold none. N is fixed when the data
// directory is made; a map that can change, and vshards that move, come with the cluster's
// metadata.
//
// Thread-safety: pure.

#ifndef RECO_COORDINATOR_PLACEMENT_H
#define RECO_COORDINATOR_PLACEMENT_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/limits.h"

struct placement {
    uint32_t vshards; // V, 1..VSHARDS_MAX
    uint32_t nodes;   // N, 1..NODES_MAX
};

// The node that holds the record `id`.
uint32_t placement_owner(const struct placement *placement, uint64_t id);

// The vshards of one node, ascending: writes at most VSHARDS_MAX, returns their number. With `out`
// NULL they are only counted.
uint32_t placement_own(const struct placement *placement, uint32_t node, uint32_t *out);

// Groups `count` ids by their node: `order` gets the indices of all ids, node after node, those of
// one node in their given order; node n's are order[starts[n] .. starts[n + 1]).
void placement_split(const struct placement *placement, const uint64_t *ids, size_t count,
                     uint32_t *order, uint32_t starts[NODES_MAX + 1]);

#endif
