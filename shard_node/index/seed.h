// SPDX-License-Identifier: Apache-2.0
// seed.h - numbers that follow from a seed, the same on every machine (splitmix64).

#ifndef RECO_SHARD_NODE_INDEX_SEED_H
#define RECO_SHARD_NODE_INDEX_SEED_H

#include <stdint.h>

static inline uint64_t seed_next(uint64_t *seed)
{
    *seed += 0x9e3779b97f4a7c15u;
    uint64_t mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
}

// 0..below-1; `below` is 1..2^32.
static inline uint64_t seed_below(uint64_t *seed, uint64_t below)
{
    return (seed_next(seed) >> 32) * below >> 32;
}

#endif
