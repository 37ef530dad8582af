// SPDX-License-Identifier: Apache-2.0
// Goal: no text breaks the tokenizer, and its promise about the ids holds for all.
//
// Method: encodes the input with reco-tiny's vocabulary, once whole and once with a
// context of its own length: the short answer is the beginning of the long one.

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "proto/base/limits.h"
#include "shaders/models/tokenizer.h"

#define MODEL RECO_SOURCE_DIR "/shaders/models/reco-tiny/"
#define CONTEXT 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tokenizer *open_tiny(uint32_t context)
{
    struct buffer vocab = {0};
    struct buffer merges = {0};
    struct tokenizer *tokenizer = NULL;
    struct reason why = {0};
    if (bytes_read_file(MODEL "vocab.json", 1 << 20, &vocab) != STATUS_OK ||
        bytes_read_file(MODEL "merges.txt", 1 << 20, &merges) != STATUS_OK ||
        tokenizer_open((struct bytes){vocab.data, vocab.count},
                       (struct bytes){merges.data, merges.count}, context, &tokenizer,
                       &why) != STATUS_OK)
        abort();
    buffer_deinit(&vocab);
    buffer_deinit(&merges);
    return tokenizer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *cut;
    static struct tokenizer *whole;
    static uint32_t all[TOKENIZER_CONTEXT_MAX];
    if (!cut) {
        cut = open_tiny(CONTEXT);
        whole = open_tiny(TOKENIZER_CONTEXT_MAX);
    }

    uint32_t ids[CONTEXT];
    uint32_t count = 0;
    uint32_t all_count = 0;
    struct text text = {(const char *)data, size};
    struct reason why = {0};
    enum status status = tokenizer_encode(cut, text, ids, &count, &why);
    if (status != tokenizer_encode(whole, text, all, &all_count, &why) ||
        (status == STATUS_OK) != (size <= TEXT_BYTES_MAX))
        abort();
    if (status != STATUS_OK)
        return 0;
    if (count != (all_count < CONTEXT ? all_count : CONTEXT) ||
        ids[count - 1] != tokenizer_end_id(cut))
        abort();
    for (uint32_t i = 0; i + 1 < count; i++) {
        if (ids[i] != all[i] || ids[i] >= tokenizer_vocab_count(cut))
            abort();
    }
    return 0;
}
