// SPDX-License-Identifier: Apache-2.0
// Heads are small and come from the heap; blocks come from their pools.

#include "shard_node/index/lists.h"

#include <assert.h>
#include <string.h>

#include "proto/base/mem.h"

static struct list *new_head(uint32_t block_count)
{
    struct list *list =
        mem_try_alloc(sizeof(*list) + (size_t)block_count * sizeof(list->blocks[0]));
    if (list)
        *list = (struct list){.block_count = block_count};
    return list;
}

static bool is_mapped(const struct lists *lists, const void *block)
{
    const uint8_t *const at = block;
    return at >= lists->map_begin && at < lists->map_end;
}

static void give_back(struct lists *lists, struct blocks *pool, void *block)
{
    if (block && !is_mapped(lists, block))
        blocks_give_back(pool, block);
}

// A block without anything in it; false when there is no memory.
static bool take_empty(struct lists *lists, struct list_block *block)
{
    *block = (struct list_block){.codes = blocks_take(lists->codes)};
    if (!block->codes)
        return false;
    if (lists->extras && !(block->extra = blocks_take(lists->extras))) {
        blocks_give_back(lists->codes, block->codes);
        return false;
    }
    memset(block->codes, 0, codes_block_bytes(&lists->shape));
    return true;
}

// Blocks from `first` on were only taken for this head.
static struct list *give_up(struct lists *lists, struct list *list, uint32_t first, uint32_t end,
                            void *copy)
{
    for (uint32_t i = first; i < end; i++) {
        give_back(lists, lists->codes, list->blocks[i].codes);
        give_back(lists, lists->extras, list->blocks[i].extra);
    }
    give_back(lists, lists->codes, copy);
    mem_free(list);
    return NULL;
}

struct list *lists_grow(struct lists *lists, const struct list *old, uint32_t more)
{
    const uint32_t count = old ? old->count : 0;
    const uint32_t kept = old ? old->block_count : 0;
    struct list *list = new_head((count + more + CODES_BLOCK - 1) / CODES_BLOCK);
    if (!list)
        return NULL;

    list->count = count;
    if (old && kept > 0)
        memcpy(list->blocks, old->blocks, kept * sizeof(old->blocks[0]));
    void *copy = NULL;
    if (old && count % CODES_BLOCK != 0) {
        copy = blocks_take(lists->codes);
        if (!copy)
            return give_up(lists, list, 0, 0, NULL);
        assert(old->blocks[kept - 1].codes);
        memcpy(copy, old->blocks[kept - 1].codes, codes_block_bytes(&lists->shape));
        list->blocks[kept - 1].codes = copy;
        // Places of a mapped extra part cannot be written to.
        if (list->blocks[kept - 1].extra && is_mapped(lists, list->blocks[kept - 1].extra)) {
            void *extra = blocks_take(lists->extras);
            if (!extra)
                return give_up(lists, list, 0, 0, copy);
            memcpy(extra, list->blocks[kept - 1].extra, codes_extra_bytes(&lists->shape));
            list->blocks[kept - 1].extra = extra;
        }
    }
    for (uint32_t i = kept; i < list->block_count; i++) {
        if (!take_empty(lists, &list->blocks[i]))
            return give_up(lists, list, kept, i, copy);
    }
    return list;
}

struct list *lists_map(const struct lists *lists, uint8_t *memory, uint32_t count)
{
    assert(count >= 1 && is_mapped(lists, memory));

    const size_t code_bytes = codes_block_bytes(&lists->shape);
    const size_t extra_bytes = codes_extra_bytes(&lists->shape);
    struct list *list = new_head((count + CODES_BLOCK - 1) / CODES_BLOCK);
    if (!list)
        return NULL;
    list->count = count;
    uint8_t *const extras = memory + list->block_count * code_bytes;
    for (uint32_t b = 0; b < list->block_count; b++)
        list->blocks[b] = (struct list_block){.codes = memory + b * code_bytes,
                                              .extra = extras + b * extra_bytes};
    return list;
}

void lists_abandon(struct lists *lists, const struct list *old, struct list *grown)
{
    if (!grown)
        return;
    const uint32_t kept = old ? old->block_count : 0;
    void *copy = NULL;
    if (kept > 0 && grown->blocks[kept - 1].codes != old->blocks[kept - 1].codes)
        copy = grown->blocks[kept - 1].codes;
    if (kept > 0 && grown->blocks[kept - 1].extra != old->blocks[kept - 1].extra)
        give_back(lists, lists->extras, grown->blocks[kept - 1].extra);
    (void)give_up(lists, grown, kept, grown->block_count, copy);
}

static void free_head(void *owner, void *memory)
{
    (void)owner;
    mem_free(memory);
}

static void free_codes(void *owner, void *memory)
{
    struct lists *lists = owner;
    give_back(lists, lists->codes, memory);
}

static void free_list(void *owner, void *memory)
{
    lists_free(owner, memory);
}

void lists_publish(struct lists *lists, struct list_cell *cell, struct list *grown)
{
    struct list *old = atomic_exchange(&cell->list, grown);
    if (!old)
        return;
    if (old->count % CODES_BLOCK != 0)
        epoch_retire(lists->epoch, free_codes, lists, old->blocks[old->block_count - 1].codes);
    epoch_retire(lists->epoch, free_head, lists, old);
}

void lists_copy(const struct lists *lists, const struct list *from, uint32_t at, struct list *to)
{
    const struct codes_shape *shape = &lists->shape;
    const uint32_t place = to->count++;
    const struct list_block *source = &from->blocks[at / CODES_BLOCK];
    const struct list_block *target = &to->blocks[place / CODES_BLOCK];
    const struct codes_block a = codes_block_at(shape, source->codes);
    const struct codes_block b = codes_block_at(shape, target->codes);
    const uint32_t i = at % CODES_BLOCK;
    const uint32_t j = place % CODES_BLOCK;
    for (size_t m = 0; m < shape->dimensions / 4; m++) {
        const int bits = a.signs[m * 16 + i % 16] >> (i < 16 ? 0 : 4) & 15;
        uint8_t *const byte = &b.signs[m * 16 + j % 16];
        *byte = (uint8_t)(*byte | bits << (j < 16 ? 0 : 4));
    }
    b.add[j] = a.add[i];
    b.factor[j] = a.factor[i];
    b.error[j] = a.error[i];
    b.slots[j] = a.slots[i];
    if (!lists->extras)
        return;
    const size_t row_bytes = codes_extra_row_bytes(shape);
    const struct codes_extra c = codes_extra_at(source->extra);
    const struct codes_extra e = codes_extra_at(target->extra);
    e.add[j] = c.add[i];
    e.factor[j] = c.factor[i];
    memcpy(e.rows + j * row_bytes, c.rows + i * row_bytes, row_bytes);
}

void lists_trim(struct lists *lists, struct list *list)
{
    const uint32_t used = (list->count + CODES_BLOCK - 1) / CODES_BLOCK;
    while (list->block_count > used) {
        list->block_count--;
        give_back(lists, lists->codes, list->blocks[list->block_count].codes);
        give_back(lists, lists->extras, list->blocks[list->block_count].extra);
    }
}

bool lists_shrink(struct lists *lists)
{
    const bool has_closed = blocks_shrink(lists->codes);
    return (lists->extras && blocks_shrink(lists->extras)) || has_closed;
}

static bool is_leaving(const struct lists *lists, const void *block)
{
    return block && !is_mapped(lists, block) && blocks_is_leaving(block);
}

bool lists_is_leaving(const struct lists *lists, const struct list *list)
{
    for (uint32_t i = 0; list && i < list->block_count; i++) {
        if (is_leaving(lists, list->blocks[i].codes) || is_leaving(lists, list->blocks[i].extra))
            return true;
    }
    return false;
}

void lists_free(struct lists *lists, struct list *list)
{
    if (list)
        (void)give_up(lists, list, 0, list->block_count, NULL);
}

void lists_retire(struct lists *lists, struct list *list)
{
    if (list)
        epoch_retire(lists->epoch, free_list, lists, list);
}
