// SPDX-License-Identifier: Apache-2.0
// blocks.h - memory for many things of one size, in huge pages, of which what is free goes back.
//
// A scan reads a few thousand blocks a millisecond from all over the memory; with small pages each
// would cost a walk of the page table.
//
// Blocks lie in slabs, and a slab is unmapped when its last block comes back. That alone would not
// happen: blocks live long and those that go are scattered. So blocks_shrink() picks slabs to be
// closed, and whoever holds blocks in one puts them elsewhere, when that is convenient:
//
//   open --blocks_shrink(): others have room for its blocks--> closing
//        <------------blocks_take(): the others are full------
//   closing --last block back--> unmapped
//
// Thread-safety: any thread.

#ifndef RECO_SHARD_NODE_INDEX_BLOCKS_H
#define RECO_SHARD_NODE_INDEX_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>

#define BLOCKS_SLAB_BYTES ((size_t)2 << 20) // a huge page

struct blocks;

// `bytes` of each, a multiple of CODES_ALIGNMENT, and less than half a slab.
struct blocks *blocks_create(size_t bytes);

// All memory of it goes. Sets *blocks to NULL; NULL is allowed.
void blocks_destroy(struct blocks **blocks);

// Not zeroed; NULL when there is no memory. What is taken in a row lies in a row as far as
// possible.
void *blocks_take(struct blocks *blocks);
void blocks_give_back(struct blocks *blocks, void *block);

// To be called now and then. Closes the emptiest slabs when much has been free ever since the last
// call. Returns whether it has, or would have but for what was taken meanwhile: then it is worth
// calling again.
bool blocks_shrink(struct blocks *blocks);

// Whether a block, which is taken, lies in a slab that is closing.
bool blocks_is_leaving(const void *block);

size_t blocks_bytes(struct blocks *blocks); // mapped

#endif
