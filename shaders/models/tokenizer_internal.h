// SPDX-License-Identifier: Apache-2.0
// tokenizer_internal.h - what the parts of the tokenizer share; private to tokenizer_*.c.

#ifndef RECO_SHADERS_MODELS_TOKENIZER_INTERNAL_H
#define RECO_SHADERS_MODELS_TOKENIZER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "proto/base/json.h"
#include "shaders/models/tokenizer.h"

#define TOKENIZER_NONE UINT32_MAX
#define TOKENIZER_ENTITY_COUNT 2231
#define TOKENIZER_ENTITY_NAME_BYTES 33 // the longest name has 32

// What a code point is to the regular expression that cuts words.
enum tokenizer_kind {
    TOKENIZER_SPACE = 0,
    TOKENIZER_LETTER = 1, // L*
    TOKENIZER_NUMBER = 2, // N*
    TOKENIZER_OTHER = 3,
};

struct tokenizer_entity {
    char name[TOKENIZER_ENTITY_NAME_BYTES]; // without '&'
    uint32_t first;                         // code points; second is 0 where there is none
    uint32_t second;
};

extern const struct tokenizer_entity tokenizer_entities[TOKENIZER_ENTITY_COUNT];

// A word of at most 15 bytes that is one token: its bytes, zero filled, and its
// length in the last byte.
#define TOKENIZER_WORD_BYTES 15
struct tokenizer_word {
    uint64_t low;
    uint64_t high; // 0 only in an empty slot
    uint32_t id;
};

struct tokenizer {
    uint32_t context;
    uint32_t vocab_count;
    uint32_t start_id;
    uint32_t end_id;
    uint8_t hash[TOKENIZER_HASH_BYTES];
    uint32_t byte_id[256];     // a byte inside a word
    uint32_t byte_end_id[256]; // a word's last byte

    // Merges: open addressing; a slot is left id << 44 | right id << 24 | rank.
    uint64_t *pairs;
    uint32_t *merged; // id that the merge of a rank makes
    size_t pair_mask;
    unsigned pair_shift;

    // Words of one token: open addressing.
    struct tokenizer_word *words;
    size_t word_mask;
    unsigned word_shift;

    // Kind << 24 | lower case of the code points below 0x10000.
    uint32_t fold[0x10000];
};

#define TOKENIZER_PAIR_EMPTY UINT64_MAX
#define TOKENIZER_RANK_MASK 0xFFFFFFu

static inline size_t tokenizer_pair_slot(const struct tokenizer *tokenizer, uint64_t key)
{
    return (size_t)(key * 0x9E3779B97F4A7C15u >> tokenizer->pair_shift);
}

// The rank of the merge of two tokens, TOKENIZER_NONE when there is none.
static inline uint32_t tokenizer_rank(const struct tokenizer *tokenizer, uint32_t left,
                                      uint32_t right)
{
    uint64_t key = (uint64_t)left << 20 | right;
    size_t at = tokenizer_pair_slot(tokenizer, key);
    for (;;) {
        uint64_t slot = tokenizer->pairs[at];
        if (slot >> 24 == key)
            return (uint32_t)slot & TOKENIZER_RANK_MASK;
        if (slot == TOKENIZER_PAIR_EMPTY)
            return TOKENIZER_NONE;
        at = (at + 1) & tokenizer->pair_mask;
    }
}

// The key of a word of 1..TOKENIZER_WORD_BYTES bytes; 16 bytes must be readable at `word`.
static inline struct tokenizer_word tokenizer_word_key(const uint8_t *word, size_t bytes)
{
    struct tokenizer_word key = {0};
    memcpy(&key.low, word, 8);
    memcpy(&key.high, word + 8, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    key.low = __builtin_bswap64(key.low);
    key.high = __builtin_bswap64(key.high);
#endif
    if (bytes < 8) {
        key.low &= ((uint64_t)1 << 8 * bytes) - 1;
        key.high = 0;
    } else {
        key.high &= ((uint64_t)1 << 8 * (bytes - 8)) - 1;
    }
    key.high |= (uint64_t)bytes << 56;
    return key;
}

static inline size_t tokenizer_word_slot(const struct tokenizer *tokenizer,
                                         const struct tokenizer_word *key)
{
    uint64_t mix = key->low * 0x9E3779B97F4A7C15u ^ key->high * 0xC2B2AE3D27D4EB4Fu;
    mix ^= mix >> 29;
    return (size_t)(mix * 0xBF58476D1CE4E5B9u >> tokenizer->word_shift);
}

struct tokenizer_symbol {
    uint32_t id;
    uint32_t next;     // index of the symbol behind, TOKENIZER_NONE at the end
    uint32_t previous; // index of the symbol before, TOKENIZER_NONE at the start
    uint32_t rank;     // of the merge with the next symbol, TOKENIZER_NONE when there is none
};

// Working memory of one call, for `room` bytes of cleaned text.
struct tokenizer_scratch {
    uint64_t *heap; // 3 * room
    struct tokenizer_symbol *symbols;
    uint32_t *touched;
    uint32_t *code; // code points before lower case
    uint8_t *bytes; // cleaned text; 16 bytes behind it are readable
    uint8_t *kind;  // enum tokenizer_kind of each byte, TOKENIZER_SPACE behind the last
};

#define TOKENIZER_PAD ((size_t)16)
#define TOKENIZER_SCRATCH_BYTES(room) ((size_t)(room)*50 + 2 * TOKENIZER_PAD)

// What a tokenizer is made from; read only during tokenizer_build().
struct tokenizer_source {
    const struct json *vocab; // object of token: id
    const struct json *added; // array of {"content","id"} that `vocab` may lack; NULL: none
    struct bytes merges;      // lines
    const char *vocab_file;   // how reasons call them
    const char *merges_file;
};

// Whether a file is small enough and the context in range. STATUS_INVALID.
enum status tokenizer_check(size_t file_bytes, const char *file, uint32_t context,
                            struct reason *why) MUST_CHECK;

// `context` was checked. Fails as tokenizer_open() does.
enum status tokenizer_build(const struct tokenizer_source *source, uint32_t context,
                            struct tokenizer **out, struct reason *why) MUST_CHECK;

// Steps 1 to 4 of tokenizer.h: writes scratch->bytes and scratch->kind and
// returns their count, at most 3 * text.bytes.
size_t tokenizer_clean(const struct tokenizer *tokenizer, struct text text,
                       struct tokenizer_scratch *scratch);

// Kind << 24 | lower case of any code point (sigma and U+0130 are the caller's).
uint32_t tokenizer_fold(uint32_t code);

// Step 6: writes the ids of one word, at most `room` of them, and returns how
// many were written. `word` has at least one byte.
size_t tokenizer_bpe(const struct tokenizer *tokenizer, const uint8_t *word, size_t bytes,
                     struct tokenizer_scratch *scratch, uint32_t *ids, size_t room);

#endif
