// SPDX-License-Identifier: Apache-2.0
// Byte-pair merging of one word, after Sennrich, Haddow, Birch: Neural Machine
// Translation of Rare Words with Subword Units (2016).
//
// The rule: of all neighbouring pairs take the one of the lowest rank, merge all
// its occurrences from left to right, and repeat until no pair has a rank. The
// new token is longer than both its parts, so that no pair which comes into
// being during a round is the pair of that round. It may have a lower rank,
// though: a round is finished before the next pair is chosen.
//
// Short words use plain arrays. Their cost is quadratic, so that longer words
// (a line without any space, a hostile text) take a linked list and a heap of
// (rank, position), which orders a round's occurrences from left to right and
// costs n log n.

#include <assert.h>

#include "shaders/models/tokenizer_internal.h"

#define SHORT_WORD_BYTES 64

// Merges every pair of rank `rank`, the first of which is at `at`; returns the new count.
static size_t merge_round(const struct tokenizer *tokenizer, uint32_t *ids, uint32_t *ranks,
                          size_t count, size_t at)
{
    uint32_t rank = ranks[at];
    uint32_t merged = tokenizer->merged[rank];
    for (; at + 1 < count; at++) {
        if (ranks[at] != rank)
            continue;
        ids[at] = merged;
        count--;
        for (size_t i = at + 1; i < count; i++) {
            ids[i] = ids[i + 1];
            ranks[i] = ranks[i + 1];
        }
        ranks[at] =
            at + 1 < count ? tokenizer_rank(tokenizer, merged, ids[at + 1]) : TOKENIZER_NONE;
        if (at > 0)
            ranks[at - 1] = tokenizer_rank(tokenizer, ids[at - 1], merged);
    }
    return count;
}

static size_t bpe_short(const struct tokenizer *tokenizer, const uint8_t *word, size_t bytes,
                        uint32_t *out, size_t room)
{
    // ranks[i] is that of (ids[i], ids[i + 1]); the last symbol has none.
    uint32_t ids[SHORT_WORD_BYTES];
    uint32_t ranks[SHORT_WORD_BYTES];

    for (size_t i = 0; i + 1 < bytes; i++)
        ids[i] = tokenizer->byte_id[word[i]];
    ids[bytes - 1] = tokenizer->byte_end_id[word[bytes - 1]];
    for (size_t i = 0; i + 1 < bytes; i++)
        ranks[i] = tokenizer_rank(tokenizer, ids[i], ids[i + 1]);
    ranks[bytes - 1] = TOKENIZER_NONE;

    size_t count = bytes;
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i < count; i++)
            best = ranks[i] < ranks[best] ? i : best;
        if (ranks[best] == TOKENIZER_NONE)
            break;
        count = merge_round(tokenizer, ids, ranks, count, best);
    }

    size_t written = count < room ? count : room;
    memcpy(out, ids, written * sizeof(*out));
    return written;
}

static void heap_push(uint64_t *heap, size_t *count, uint64_t value)
{
    size_t at = (*count)++;
    while (at > 0 && heap[(at - 1) / 2] > value) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = value;
}

static uint64_t heap_pop(uint64_t *heap, size_t *count)
{
    uint64_t top = heap[0];
    uint64_t last = heap[--*count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= *count)
            break;
        if (child + 1 < *count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

// Looks up the pair that starts at `at` and queues it when it has a rank.
static void consider(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                     size_t *heap_count, uint32_t at)
{
    struct tokenizer_symbol *symbol = &scratch->symbols[at];
    symbol->rank = TOKENIZER_NONE;
    if (symbol->next == TOKENIZER_NONE)
        return;
    symbol->rank = tokenizer_rank(tokenizer, symbol->id, scratch->symbols[symbol->next].id);
    if (symbol->rank != TOKENIZER_NONE)
        heap_push(scratch->heap, heap_count, (uint64_t)symbol->rank << 32 | at);
}

// Joins the symbol at `at` with the one behind it. The ranks of the two pairs
// around it are looked up after the round.
static void join(struct tokenizer_symbol *symbols, uint32_t at, uint32_t merged)
{
    struct tokenizer_symbol *symbol = &symbols[at];
    struct tokenizer_symbol *behind = &symbols[symbol->next];
    symbol->id = merged;
    symbol->rank = TOKENIZER_NONE;
    symbol->next = behind->next;
    behind->rank = TOKENIZER_NONE;
    behind->id = TOKENIZER_NONE;
    if (symbol->next != TOKENIZER_NONE)
        symbols[symbol->next].previous = at;
    if (symbol->previous != TOKENIZER_NONE)
        symbols[symbol->previous].rank = TOKENIZER_NONE;
}

static size_t bpe_long(const struct tokenizer *tokenizer, const uint8_t *word, size_t bytes,
                       struct tokenizer_scratch *scratch, uint32_t *out, size_t room)
{
    struct tokenizer_symbol *symbols = scratch->symbols;
    uint32_t last = (uint32_t)bytes - 1;
    for (uint32_t i = 0; i <= last; i++) {
        symbols[i] = (struct tokenizer_symbol){
            .id = i < last ? tokenizer->byte_id[word[i]] : tokenizer->byte_end_id[word[i]],
            .next = i < last ? i + 1 : TOKENIZER_NONE,
            .previous = i > 0 ? i - 1 : TOKENIZER_NONE,
        };
    }

    // Each merge queues at most two pairs and takes one symbol away: 3 * bytes are enough.
    size_t heap_count = 0;
    for (uint32_t i = 0; i <= last; i++)
        consider(tokenizer, scratch, &heap_count, i);

    while (heap_count > 0) {
        uint32_t rank = (uint32_t)(scratch->heap[0] >> 32);
        size_t touched = 0;
        while (heap_count > 0 && scratch->heap[0] >> 32 == rank) {
            uint32_t at = (uint32_t)heap_pop(scratch->heap, &heap_count);
            if (symbols[at].rank != rank)
                continue; // one of the two has gone into another token since
            join(symbols, at, tokenizer->merged[rank]);
            scratch->touched[touched++] = at;
        }
        for (size_t i = 0; i < touched; i++) {
            uint32_t at = scratch->touched[i];
            if (symbols[at].previous != TOKENIZER_NONE)
                consider(tokenizer, scratch, &heap_count, symbols[at].previous);
            consider(tokenizer, scratch, &heap_count, at);
        }
    }

    size_t written = 0;
    for (uint32_t at = 0; at != TOKENIZER_NONE && written < room; at = symbols[at].next)
        out[written++] = symbols[at].id;
    return written;
}

size_t tokenizer_bpe(const struct tokenizer *tokenizer, const uint8_t *word, size_t bytes,
                     struct tokenizer_scratch *scratch, uint32_t *ids, size_t room)
{
    assert(bytes > 0);

    if (bytes <= SHORT_WORD_BYTES)
        return bpe_short(tokenizer, word, bytes, ids, room);
    return bpe_long(tokenizer, word, bytes, scratch, ids, room);
}
