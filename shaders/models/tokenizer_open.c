// SPDX-License-Identifier: Apache-2.0
// Reads vocab.json and merges.txt, checks all that a file can get wrong, and
// builds the tables that encoding needs. Names of tokens are needed only here.
//
// A token's name writes each byte as one printable character: '!'..'~',
// U+00A1..U+00AC and U+00AE..U+00FF stand for themselves, the other bytes take
// U+0100, U+0101, ... in order. "</w>" behind a name marks the end of a word.

#include <assert.h>

#include "proto/base/hash.h"
#include "proto/base/json.h"
#include "proto/base/mem.h"
#include "shaders/models/tokenizer_internal.h"

#define NAME_BYTES_MAX 1024 // of a token; 256 bytes of four characters
#define WORD_END "</w>"
#define WORD_END_BYTES 4

struct vocab {
    struct tokenizer *tokenizer;
    const struct tokenizer_source *source;
    struct hash_sha256 hash;
    const char **names; // of each id; they live in the JSON document
    uint32_t *slots;    // open addressing by name: id, or TOKENIZER_NONE
    size_t slot_mask;
};

// --- names

static bool byte_is_printable(unsigned byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// The character of each byte.
static void byte_characters(uint16_t characters[256])
{
    uint16_t next = 0x100;
    for (unsigned byte = 0; byte < 256; byte++)
        characters[byte] = byte_is_printable(byte) ? (uint16_t)byte : next++;
}

static size_t name_slot(const struct vocab *vocab, const char *name, size_t bytes)
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ (uint8_t)name[i]) * 0x100000001B3u;
    return (size_t)(hash ^ hash >> 32) & vocab->slot_mask;
}

// The id of a name, TOKENIZER_NONE when it is not in the vocabulary.
static uint32_t vocab_find(const struct vocab *vocab, const char *name, size_t bytes)
{
    assert(vocab->slots);
    size_t slot = name_slot(vocab, name, bytes);
    for (;;) {
        uint32_t id = vocab->slots[slot];
        if (id == TOKENIZER_NONE)
            return TOKENIZER_NONE;
        if (strncmp(vocab->names[id], name, bytes) == 0 && vocab->names[id][bytes] == '\0')
            return id;
        slot = (slot + 1) & vocab->slot_mask;
    }
}

static size_t power_of_two_above(size_t count)
{
    size_t power = 16;
    while (power < count)
        power *= 2;
    return power;
}

static unsigned shift_for(size_t slots)
{
    unsigned shift = 64;
    for (; slots > 1; slots /= 2)
        shift--;
    return shift;
}

// --- vocab.json

static enum status add_name(struct vocab *vocab, const char *name, int64_t id, struct reason *why)
{
    uint32_t count = vocab->tokenizer->vocab_count;
    const char *file = vocab->source->vocab_file;
    if (id < 0 || id >= (int64_t)count)
        return reason_set(why, STATUS_INVALID, file,
                          "the id of token \"%.64s\" must be an integer in 0..%u, one less than "
                          "the number of tokens",
                          name, count - 1);
    if (vocab->names[id])
        return reason_set(why, STATUS_INVALID, file,
                          "tokens \"%.64s\" and \"%.64s\" have the same id %u", vocab->names[id],
                          name, (unsigned)id);
    size_t bytes = strlen(name);
    if (bytes == 0 || bytes > NAME_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, file,
                          "the name of token %u has %zu bytes; 1..%d are allowed", (unsigned)id,
                          bytes, NAME_BYTES_MAX);
    vocab->names[id] = name;
    size_t slot = name_slot(vocab, name, bytes);
    while (vocab->slots[slot] != TOKENIZER_NONE)
        slot = (slot + 1) & vocab->slot_mask;
    vocab->slots[slot] = (uint32_t)id;
    return STATUS_OK;
}

static enum status add_names(struct vocab *vocab, const struct json *root, struct reason *why)
{
    void *iterator = NULL;
    const char *name = NULL;
    const struct json *value = NULL;
    while (json_next(root, &iterator, &name, &value)) {
        int64_t id = 0;
        enum status status = add_name(vocab, name, json_int(value, &id) ? id : -1, why);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

// Tokens that stand beside the vocabulary: those it has must have the same id there.
static size_t count_added(const struct json *vocab, const struct json *added)
{
    size_t count = 0;
    for (size_t i = 0; i < json_count(added); i++)
        count +=
            !json_member(vocab, json_text(json_member(json_element(added, i), "content")).data);
    return count;
}

static enum status add_added(struct vocab *vocab, const struct json *added, struct reason *why)
{
    for (size_t i = 0; i < json_count(added); i++) {
        const struct json *token = json_element(added, i);
        const char *name = json_text(json_member(token, "content")).data;
        int64_t id = -1;
        (void)json_int(json_member(token, "id"), &id);
        uint32_t found = vocab_find(vocab, name, strlen(name));
        if (found != TOKENIZER_NONE && found != id)
            return reason_set(why, STATUS_INVALID, vocab->source->vocab_file,
                              "token \"%.64s\" is %u in the vocabulary, but %lld as an added token",
                              name, found, (long long)id);
        enum status status = found == TOKENIZER_NONE ? add_name(vocab, name, id, why) : STATUS_OK;
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status need_name(const struct vocab *vocab, const char *name, uint32_t *id,
                             struct reason *why)
{
    uint32_t found = vocab_find(vocab, name, strlen(name));
    if (found == TOKENIZER_NONE)
        return reason_set(why, STATUS_INVALID, vocab->source->vocab_file,
                          "token \"%s\" is missing; CLIP's byte-pair encoding needs it", name);
    *id = found;
    return STATUS_OK;
}

static enum status find_symbols(const struct vocab *vocab, struct reason *why)
{
    struct tokenizer *tokenizer = vocab->tokenizer;
    enum status status = need_name(vocab, TOKENIZER_START, &tokenizer->start_id, why);
    if (status == STATUS_OK)
        status = need_name(vocab, TOKENIZER_END, &tokenizer->end_id, why);

    uint16_t characters[256];
    byte_characters(characters);
    for (unsigned byte = 0; byte < 256 && status == STATUS_OK; byte++) {
        char name[8] = {0};
        size_t bytes = 0;
        if (characters[byte] < 0x80) {
            name[bytes++] = (char)characters[byte];
        } else {
            name[bytes++] = (char)(0xC0 | characters[byte] >> 6);
            name[bytes++] = (char)(0x80 | (characters[byte] & 0x3F));
        }
        status = need_name(vocab, name, &tokenizer->byte_id[byte], why);
        if (status == STATUS_OK) {
            memcpy(name + bytes, WORD_END, WORD_END_BYTES + 1);
            status = need_name(vocab, name, &tokenizer->byte_end_id[byte], why);
        }
    }
    return status;
}

static void hash_names(struct vocab *vocab)
{
    hash_sha256_init(&vocab->hash);
    for (uint32_t id = 0; id < vocab->tokenizer->vocab_count; id++)
        hash_sha256_update(&vocab->hash, vocab->names[id], strlen(vocab->names[id]) + 1);
    hash_sha256_update(&vocab->hash, "", 1); // an empty name: what follows are merges
}

static enum status read_vocab(struct vocab *vocab, struct reason *why)
{
    const struct json *root = vocab->source->vocab;
    const char *file = vocab->source->vocab_file;
    if (!json_is_object(root))
        return reason_set(why, STATUS_INVALID, file, "must be an object of token: id");
    size_t count = json_count(root) + count_added(root, vocab->source->added);
    if (count == 0 || count > TOKENIZER_VOCAB_MAX)
        return reason_set(why, STATUS_INVALID, file, "%zu tokens; 1..%u are allowed", count,
                          TOKENIZER_VOCAB_MAX);

    size_t slots = power_of_two_above(2 * count);
    vocab->names = mem_try_alloc_array(count, sizeof(*vocab->names));
    vocab->slots = mem_try_alloc_array(slots, sizeof(*vocab->slots));
    if (!vocab->names || !vocab->slots)
        return reason_set(why, STATUS_NO_MEMORY, file, "no memory for %zu tokens", count);
    memset(vocab->names, 0, count * sizeof(*vocab->names));
    memset(vocab->slots, 0xFF, slots * sizeof(*vocab->slots));
    vocab->slot_mask = slots - 1;
    vocab->tokenizer->vocab_count = (uint32_t)count;

    enum status status = add_names(vocab, root, why);
    if (status == STATUS_OK)
        status = add_added(vocab, vocab->source->added, why);
    if (status == STATUS_OK)
        status = find_symbols(vocab, why);
    if (status == STATUS_OK)
        hash_names(vocab);
    return status;
}

// --- merges.txt

struct merge_reader {
    const char *at;
    const char *end;
    uint32_t line; // from 1
};

// Takes the next line without its end; false when there is none.
static bool next_line(struct merge_reader *reader, struct text *line)
{
    if (reader->at == reader->end)
        return false;
    const char *stop = memchr(reader->at, '\n', (size_t)(reader->end - reader->at));
    const char *end = stop ? stop : reader->end;
    *line = (struct text){reader->at, (size_t)(end - reader->at)};
    if (line->bytes > 0 && line->data[line->bytes - 1] == '\r')
        line->bytes--;
    reader->at = stop ? stop + 1 : reader->end;
    reader->line++;
    return true;
}

static enum status bad_merge(const struct vocab *vocab, uint32_t line, struct text text,
                             const char *what, struct reason *why)
{
    char field[REASON_FIELD_BYTES];
    (void)snprintf(field, sizeof(field), "%s: line %u", vocab->source->merges_file, line);
    return reason_set(why, STATUS_INVALID, field, "\"%.*s\" %s",
                      (int)(text.bytes < 80 ? text.bytes : 80), text.data, what);
}

// Stores the merge of rank `rank`; false when the pair has one already.
static bool add_pair(struct tokenizer *tokenizer, uint32_t left, uint32_t right, uint32_t rank)
{
    uint64_t key = (uint64_t)left << 20 | right;
    size_t slot = tokenizer_pair_slot(tokenizer, key);
    for (; tokenizer->pairs[slot] != TOKENIZER_PAIR_EMPTY;
         slot = (slot + 1) & tokenizer->pair_mask) {
        if (tokenizer->pairs[slot] >> 24 == key)
            return false;
    }
    tokenizer->pairs[slot] = key << 24 | rank;
    return true;
}

static enum status add_merge(struct vocab *vocab, uint32_t line_number, struct text line,
                             uint32_t rank, struct reason *why)
{
    struct tokenizer *tokenizer = vocab->tokenizer;
    const char *space = memchr(line.data, ' ', line.bytes);
    size_t left_bytes = space ? (size_t)(space - line.data) : 0;
    size_t right_bytes = space ? line.bytes - left_bytes - 1 : 0;
    if (left_bytes == 0 || right_bytes == 0 || memchr(space + 1, ' ', right_bytes) ||
        line.bytes > NAME_BYTES_MAX)
        return bad_merge(vocab, line_number, line, "must be two tokens with one space between",
                         why);

    char name[NAME_BYTES_MAX];
    memcpy(name, line.data, left_bytes);
    memcpy(name + left_bytes, space + 1, right_bytes);
    uint32_t left = vocab_find(vocab, name, left_bytes);
    uint32_t right = vocab_find(vocab, space + 1, right_bytes);
    uint32_t merged = vocab_find(vocab, name, left_bytes + right_bytes);
    if (left == TOKENIZER_NONE || right == TOKENIZER_NONE || merged == TOKENIZER_NONE)
        return bad_merge(vocab, line_number, line,
                         "names a token that the vocabulary lacks: both parts and what they make "
                         "together must be there",
                         why);
    if (!add_pair(tokenizer, left, right, rank))
        return bad_merge(vocab, line_number, line, "comes a second time", why);
    tokenizer->merged[rank] = merged;
    uint8_t pair[8];
    bytes_put_u32_le(pair, left);
    bytes_put_u32_le(pair + 4, right);
    hash_sha256_update(&vocab->hash, pair, sizeof(pair));
    return STATUS_OK;
}

static size_t count_lines(struct bytes text)
{
    size_t count = 1;
    for (size_t i = 0; i < text.count; i++)
        count += text.data[i] == '\n';
    return count;
}

static enum status read_merges(struct vocab *vocab, struct reason *why)
{
    struct bytes text = vocab->source->merges;
    const char *file = vocab->source->merges_file;
    struct tokenizer *tokenizer = vocab->tokenizer;
    size_t lines = count_lines(text);
    if (lines > TOKENIZER_VOCAB_MAX)
        return reason_set(why, STATUS_INVALID, file, "%zu lines; at most %u are allowed", lines,
                          TOKENIZER_VOCAB_MAX);
    size_t slots = power_of_two_above(2 * lines);
    tokenizer->pairs = mem_try_alloc_array(slots, sizeof(*tokenizer->pairs));
    tokenizer->merged = mem_try_alloc_array(lines, sizeof(*tokenizer->merged));
    if (!tokenizer->pairs || !tokenizer->merged)
        return reason_set(why, STATUS_NO_MEMORY, file, "no memory for %zu merges", lines);
    memset(tokenizer->pairs, 0xFF, slots * sizeof(*tokenizer->pairs));
    tokenizer->pair_mask = slots - 1;
    tokenizer->pair_shift = shift_for(slots);

    struct merge_reader reader = {(const char *)text.data, (const char *)text.data + text.count, 0};
    struct text line;
    uint32_t rank = 0;
    while (next_line(&reader, &line)) {
        bool is_version =
            reader.line == 1 && line.bytes >= 8 && memcmp(line.data, "#version", 8) == 0;
        if (is_version || line.bytes == 0)
            continue;
        enum status status = add_merge(vocab, reader.line, line, rank, why);
        if (status != STATUS_OK)
            return status;
        rank++;
    }
    return STATUS_OK;
}

// --- words of one token

// The bytes that a token's name stands for, its "</w>" taken off; 0 when it does not
// end a word, is longer than `room`, or holds a character that is no byte's.
static size_t word_bytes(const char *name, const uint16_t byte_of[512], uint8_t *word, size_t room)
{
    size_t length = strlen(name);
    if (length <= WORD_END_BYTES || strcmp(name + length - WORD_END_BYTES, WORD_END) != 0)
        return 0;
    length -= WORD_END_BYTES;

    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        uint32_t code = (uint8_t)name[i];
        if ((code & 0xE0) == 0xC0)
            code = (code & 0x1F) << 6 | ((uint8_t)name[++i] & 0x3Fu);
        if (code >= 512 || byte_of[code] > 0xFF || count == room)
            return 0;
        word[count++] = (uint8_t)byte_of[code];
    }
    return count;
}

static void add_word(struct tokenizer *tokenizer, const uint8_t *word, size_t bytes, uint32_t id)
{
    struct tokenizer_word key = tokenizer_word_key(word, bytes);
    size_t slot = tokenizer_word_slot(tokenizer, &key);
    while (tokenizer->words[slot].high)
        slot = (slot + 1) & tokenizer->word_mask;
    key.id = id;
    tokenizer->words[slot] = key;
}

// A token that ends a word is not always what merging that word gives: the table
// holds those for which it is, so that looking there changes nothing but time.
static enum status collect_words(const struct vocab *vocab, struct reason *why)
{
    struct tokenizer *tokenizer = vocab->tokenizer;
    size_t slots = power_of_two_above((size_t)tokenizer->vocab_count * 2);
    tokenizer->words = mem_try_alloc_array(slots, sizeof(*tokenizer->words));
    if (!tokenizer->words)
        return reason_set(why, STATUS_NO_MEMORY, vocab->source->vocab_file,
                          "no memory for the table of words");
    memset(tokenizer->words, 0, slots * sizeof(*tokenizer->words));
    tokenizer->word_mask = slots - 1;
    tokenizer->word_shift = shift_for(slots);

    uint16_t characters[256];
    uint16_t byte_of[512];
    byte_characters(characters);
    memset(byte_of, 0xFF, sizeof(byte_of));
    for (uint16_t byte = 0; byte < 256; byte++)
        byte_of[characters[byte]] = byte;

    for (uint32_t id = 0; id < tokenizer->vocab_count; id++) {
        uint8_t word[TOKENIZER_WORD_BYTES + 1] = {0};
        uint32_t found[TOKENIZER_WORD_BYTES];
        size_t bytes = word_bytes(vocab->names[id], byte_of, word, TOKENIZER_WORD_BYTES);
        if (bytes > 0 && tokenizer_bpe(tokenizer, word, bytes, NULL, found, bytes) == 1 &&
            found[0] == id)
            add_word(tokenizer, word, bytes, id);
    }
    return STATUS_OK;
}

// --- life

static enum status fill(struct vocab *vocab, struct reason *why)
{
    enum status status = read_vocab(vocab, why);
    if (status == STATUS_OK)
        status = read_merges(vocab, why);
    if (status == STATUS_OK)
        status = collect_words(vocab, why);
    if (status == STATUS_OK)
        hash_sha256_final(&vocab->hash, vocab->tokenizer->hash);
    return status;
}

enum status tokenizer_check(size_t file_bytes, const char *file, uint32_t context,
                            struct reason *why)
{
    if (context < 2 || context > TOKENIZER_CONTEXT_MAX)
        return reason_set(why, STATUS_INVALID, "context", "%u; 2..%d are allowed", context,
                          TOKENIZER_CONTEXT_MAX);
    if (file_bytes > TOKENIZER_FILE_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, file, "larger than %u bytes",
                          TOKENIZER_FILE_BYTES_MAX);
    return STATUS_OK;
}

enum status tokenizer_build(const struct tokenizer_source *source, uint32_t context,
                            struct tokenizer **out, struct reason *why)
{
    struct tokenizer *tokenizer = mem_alloc(sizeof(*tokenizer));
    struct vocab vocab = {.tokenizer = tokenizer, .source = source};
    tokenizer->context = context;
    enum status status = fill(&vocab, why);
    mem_free(vocab.names);
    mem_free(vocab.slots);
    if (status != STATUS_OK) {
        tokenizer_close(&tokenizer);
        return status;
    }
    for (uint32_t code = 0; code < 0x10000; code++)
        tokenizer->fold[code] = tokenizer_fold(code);
    *out = tokenizer;
    return STATUS_OK;
}

enum status tokenizer_open(struct bytes vocab_json, struct bytes merges_txt, uint32_t context,
                           struct tokenizer **out, struct reason *why)
{
    assert(out);

    struct json *document = NULL;
    enum status status = tokenizer_check(vocab_json.count, "vocab.json", context, why);
    if (status == STATUS_OK)
        status = tokenizer_check(merges_txt.count, "merges.txt", context, why);
    if (status == STATUS_OK)
        status = json_parse(vocab_json.data, vocab_json.count, &document, why);
    if (status != STATUS_OK)
        return status;
    const struct tokenizer_source source = {
        .vocab = document,
        .merges = merges_txt,
        .vocab_file = "vocab.json",
        .merges_file = "merges.txt",
    };
    status = tokenizer_build(&source, context, out, why);
    json_destroy(&document);
    return status;
}

void tokenizer_close(struct tokenizer **tokenizer)
{
    assert(tokenizer);

    if (!*tokenizer)
        return;
    mem_free((*tokenizer)->pairs);
    mem_free((*tokenizer)->merged);
    mem_free((*tokenizer)->words);
    mem_free(*tokenizer);
    *tokenizer = NULL;
}

uint32_t tokenizer_start_id(const struct tokenizer *tokenizer)
{
    return tokenizer->start_id;
}

uint32_t tokenizer_end_id(const struct tokenizer *tokenizer)
{
    return tokenizer->end_id;
}

uint32_t tokenizer_context(const struct tokenizer *tokenizer)
{
    return tokenizer->context;
}

uint32_t tokenizer_vocab_count(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab_count;
}

const uint8_t *tokenizer_hash(const struct tokenizer *tokenizer)
{
    return tokenizer->hash;
}
