// SPDX-License-Identifier: Apache-2.0
// Cuts cleaned text into words, as the regular expression of CLIP does, and
// turns each into ids. Most words of real text are one token and are found by
// one look into a table; the others are merged by tokenizer_bpe().
//
// The expression, alternatives in this order, without regard to case:
//   <|startoftext|>  <|endoftext|>  's 't 're 've 'm 'll 'd  letters+  number  others+
// After lower case the long s (U+017F) is the one character left that is equal to
// a letter of these without being it.

#include <assert.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "shaders/models/tokenizer_internal.h"

// Texts whose cleaned form is sure to fit take their working memory from the stack.
#define SMALL_ROOM ((size_t)768)

struct output {
    uint32_t *ids;
    size_t count;
    size_t room;
};

static void emit_word(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                      size_t at, size_t bytes, struct output *output)
{
    const uint8_t *word = scratch->bytes + at;
    if (bytes <= TOKENIZER_WORD_BYTES) {
        struct tokenizer_word key = tokenizer_word_key(word, bytes);
        size_t slot = tokenizer_word_slot(tokenizer, &key);
        for (; tokenizer->words[slot].high; slot = (slot + 1) & tokenizer->word_mask) {
            const struct tokenizer_word *found = &tokenizer->words[slot];
            if (found->low == key.low && found->high == key.high) {
                output->ids[output->count++] = found->id;
                return;
            }
        }
    }
    output->count += tokenizer_bpe(tokenizer, word, bytes, scratch, output->ids + output->count,
                                   output->room - output->count);
}

// The bytes of `pattern` (ASCII, lower case) at `text`, where an 's' may be the
// long one; 0 when it is not there. The text ends with a NUL that no pattern has.
static size_t match(const uint8_t *text, const char *pattern)
{
    size_t at = 0;
    for (; *pattern; pattern++) {
        if (text[at] == (uint8_t)*pattern) {
            at++;
        } else if (*pattern == 's' && text[at] == 0xC5 && text[at + 1] == 0xBF) {
            at += 2;
        } else {
            return 0;
        }
    }
    return at;
}

static size_t match_contraction(const uint8_t *text)
{
    static const char *const contractions[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof(contractions) / sizeof(contractions[0]); i++) {
        size_t bytes = match(text, contractions[i]);
        if (bytes > 0)
            return bytes;
    }
    return 0;
}

// An end token written out in the text: its id when every letter is as it
// should be; with a long s it is an ordinary word.
static size_t match_end_token(const struct tokenizer *tokenizer, const uint8_t *text, uint32_t *id)
{
    size_t bytes = match(text, TOKENIZER_START);
    *id = bytes == strlen(TOKENIZER_START) ? tokenizer->start_id : TOKENIZER_NONE;
    if (bytes > 0)
        return bytes;
    bytes = match(text, TOKENIZER_END);
    *id = bytes == strlen(TOKENIZER_END) ? tokenizer->end_id : TOKENIZER_NONE;
    return bytes;
}

static size_t run_length(const uint8_t *kind, enum tokenizer_kind which)
{
    size_t length = 1;
    while (kind[length] == which)
        length++;
    return length;
}

// Handles the word that starts at `at` with a character that is no letter, number or
// white space; returns its bytes.
static size_t emit_other(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                         size_t at, struct output *output)
{
    const uint8_t *text = scratch->bytes + at;
    size_t bytes = 0;
    if (text[0] == '\'')
        bytes = match_contraction(text);
    if (text[0] == '<') {
        uint32_t id = TOKENIZER_NONE;
        bytes = match_end_token(tokenizer, text, &id);
        if (id != TOKENIZER_NONE) {
            output->ids[output->count++] = id;
            return bytes;
        }
    }
    if (bytes == 0)
        bytes = run_length(scratch->kind + at, TOKENIZER_OTHER);
    emit_word(tokenizer, scratch, at, bytes, output);
    return bytes;
}

static void emit_words(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                       size_t count, struct output *output)
{
    size_t at = 0;
    while (at < count && output->count < output->room) {
        size_t bytes = 1;
        switch (scratch->kind[at]) {
        case TOKENIZER_SPACE:
            break;
        case TOKENIZER_LETTER:
            bytes = run_length(scratch->kind + at, TOKENIZER_LETTER);
            emit_word(tokenizer, scratch, at, bytes, output);
            break;
        case TOKENIZER_NUMBER: {
            uint8_t lead = scratch->bytes[at];
            bytes = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
            emit_word(tokenizer, scratch, at, bytes, output);
            break;
        }
        default:
            bytes = emit_other(tokenizer, scratch, at, output);
            break;
        }
        at += bytes;
    }
}

static struct tokenizer_scratch scratch_at(void *block, size_t room)
{
    struct tokenizer_scratch scratch;
    scratch.heap = block;
    scratch.symbols = (struct tokenizer_symbol *)(scratch.heap + 3 * room);
    scratch.touched = (uint32_t *)(scratch.symbols + room);
    scratch.code = scratch.touched + room;
    scratch.bytes = (uint8_t *)(scratch.code + room);
    scratch.kind = scratch.bytes + room + TOKENIZER_PAD;
    return scratch;
}

static void encode(const struct tokenizer *tokenizer, struct text text,
                   struct tokenizer_scratch *scratch, uint32_t *ids, uint32_t *count)
{
    // One id more than the context leaves room for tells that the text is too long; it
    // lies where the end token goes.
    struct output output = {.ids = ids + 1, .room = tokenizer->context - 1};
    size_t bytes = text.bytes > 0 ? tokenizer_clean(tokenizer, text, scratch) : 0;
    emit_words(tokenizer, scratch, bytes, &output);

    size_t end = output.count < output.room ? output.count + 1 : output.room;
    ids[0] = tokenizer->start_id;
    ids[end] = tokenizer->end_id;
    *count = (uint32_t)end + 1;
}

static void encode_small(const struct tokenizer *tokenizer, struct text text, uint32_t *ids,
                         uint32_t *count)
{
    uint64_t block[TOKENIZER_SCRATCH_BYTES(SMALL_ROOM) / sizeof(uint64_t)];
    struct tokenizer_scratch scratch = scratch_at(block, SMALL_ROOM);
    encode(tokenizer, text, &scratch, ids, count);
}

enum status tokenizer_encode(const struct tokenizer *tokenizer, struct text text, uint32_t *ids,
                             uint32_t *count, struct reason *why)
{
    assert(tokenizer && ids && count);
    assert(text.data || text.bytes == 0);

    if (text.bytes > TEXT_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, "text", "%zu bytes; at most %d are allowed",
                          text.bytes, TEXT_BYTES_MAX);
    if (3 * text.bytes <= SMALL_ROOM) {
        encode_small(tokenizer, text, ids, count);
        return STATUS_OK;
    }

    size_t room = 3 * text.bytes;
    void *block = mem_try_alloc(TOKENIZER_SCRATCH_BYTES(room));
    if (!block)
        return reason_set(why, STATUS_NO_MEMORY, "text", "no memory to encode %zu bytes",
                          text.bytes);
    struct tokenizer_scratch scratch = scratch_at(block, room);
    encode(tokenizer, text, &scratch, ids, count);
    mem_free(block);
    return STATUS_OK;
}
