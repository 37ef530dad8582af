// SPDX-License-Identifier: Apache-2.0
// blocks.h - memory for many things of one size, in huge pages.
//
// A scan reads a few thousand blocks a millisecond from all over the memory; with small pages each would
// cost a walk of the page table.
//
// Thread-safety: any thread.

#ifndef RECO_SHARD_NODE_INDEX_BLOCKS_H
#define RECO_SHARD_NODE_INDEX_BLOCKS_H

#include <stddef.h>

struct blocks;

// `bytes` of each, a multiple of CODES_ALIGNMENT.
struct blocks *blocks_create(size_t bytes);

// All memory of it goes. Sets *blocks to NULL; NULL is allowed.
void blocks_destroy(struct blocks **blocks);

// Not zeroed; NULL when there is no memory. What is taken in a row lies in a row as far as possible.
void *blocks_take(struct blocks *blocks);
void blocks_give_back(struct blocks *blocks, void *block);

size_t blocks_bytes(struct blocks *blocks); // mapped

#endif
