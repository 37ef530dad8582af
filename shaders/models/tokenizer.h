// SPDX-License-Identifier: Apache-2.0
// tokenizer.h - CLIP's byte-pair encoding: text to token ids.
//
// The ids are those of OpenAI's simple_tokenizer without its ftfy step:
//   1. invalid UTF-8: each maximal ill-formed subsequence becomes U+FFFD, as
//      Python's bytes.decode(errors="replace") does;
//   2. HTML character references are replaced twice, as Python's html.unescape
//      (a number of any length beyond U+10FFFF gives U+FFFD);
//   3. white space at both ends goes, U+001C..U+001F included;
//   4. lower case with Unicode's full mappings: U+0130 gives two code points,
//      a sigma that ends a word becomes the final one;
//   5. words: the two end tokens written out, 's 't 're 've 'm 'll 'd, runs of letters,
//      single numbers, runs of anything else but white space (Unicode's
//      White_Space);
//   6. each word's UTF-8 bytes are merged pair by pair, lowest rank first.
// Letters, numbers and lower case follow Unicode 15.0 (utf8proc 2.8).
//
// Thread-safety: an open tokenizer never changes; any number of threads may use it.

#ifndef RECO_SHADERS_MODELS_TOKENIZER_H
#define RECO_SHADERS_MODELS_TOKENIZER_H

#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define TOKENIZER_CONTEXT_MAX 4096           // ids of one text; CLIP has 77
#define TOKENIZER_VOCAB_MAX 1000000u         // tokens of a vocabulary; CLIP has 49,408
#define TOKENIZER_FILE_BYTES_MAX (64u << 20) // of vocab.json, merges.txt; CLIP's is 862,328
#define TOKENIZER_START "<|startoftext|>"
#define TOKENIZER_END "<|endoftext|>"

struct tokenizer;

// Reads a vocabulary: `vocab_json` is an object of token: id, where the ids are
// 0..count-1, each once; `merges_txt` has one pair of tokens a line, best first,
// after an optional line "#version...". Both are read only during the call.
// `context` is the largest number of ids of a text, 2..TOKENIZER_CONTEXT_MAX.
//
// STATUS_INVALID with the reason when an id is missing, doubled or out of
// range, when one of the 512 byte symbols or an end token is missing, and when
// a merge is not two known tokens that make a known third, or comes twice.
// STATUS_NO_MEMORY. *out is unchanged after a failure; the caller ends it with
// tokenizer_close().
enum status tokenizer_open(struct bytes vocab_json, struct bytes merges_txt, uint32_t context,
                           struct tokenizer **out, struct reason *why) MUST_CHECK;

// The same from a Hugging Face tokenizer.json, which holds vocabulary and merges: the ids are those
// that the two files would give. STATUS_UNSUPPORTED naming the section that is not CLIP's.
enum status tokenizer_open_json(struct bytes tokenizer_json, uint32_t context,
                                struct tokenizer **out, struct reason *why) MUST_CHECK;

// Frees *tokenizer and sets it to NULL. *tokenizer may be NULL already.
void tokenizer_close(struct tokenizer **tokenizer);

uint32_t tokenizer_start_id(const struct tokenizer *tokenizer);
uint32_t tokenizer_end_id(const struct tokenizer *tokenizer);
uint32_t tokenizer_context(const struct tokenizer *tokenizer);
uint32_t tokenizer_vocab_count(const struct tokenizer *tokenizer);

// SHA-256 of the tokens by id and the merges by rank: equal where the ids of every text are,
// whatever file they came from. TOKENIZER_HASH_BYTES; it lives as long as the tokenizer.
#define TOKENIZER_HASH_BYTES 32
const uint8_t *tokenizer_hash(const struct tokenizer *tokenizer);

// Writes the ids of `text`, the start and the end token included, to `ids`
// (room for tokenizer_context() ids) and their number to *count, 2..context. A
// longer text is cut: the last id is then the end token all the same.
//
// STATUS_INVALID when the text has more than TEXT_BYTES_MAX bytes;
// STATUS_NO_MEMORY. ids and *count are unchanged after a failure.
enum status tokenizer_encode(const struct tokenizer *tokenizer, struct text text, uint32_t *ids,
                             uint32_t *count, struct reason *why) MUST_CHECK;

#endif
