// SPDX-License-Identifier: Apache-2.0
// Goal: no pair of vocab.json and merges.txt breaks the reader, and one that it accepts
// can be used.
//
// Method: the input is vocab.json, a byte 0, and merges.txt. Since a vocabulary needs 514
// tokens that a fuzzer hardly finds, "@" at the start of vocab.json stands for them.

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shaders/models/tokenizer.h"

#define CONTEXT 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void append(struct buffer *out, const void *data, size_t count)
{
    if (buffer_append(out, data, count) != STATUS_OK)
        abort();
}

// {"!":0,"!</w>":1, ... without the closing brace.
static void append_symbols(struct buffer *out)
{
    append(out, "{\"<|startoftext|>\":512,\"<|endoftext|>\":513", 42);
    unsigned next = 0x100;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
        unsigned code = printable ? byte : next++;
        char line[64];
        int count = snprintf(line, sizeof(line), ",\"\\u%04x\":%u,\"\\u%04x</w>\":%u", code,
                             2 * byte, code, 2 * byte + 1);
        append(out, line, (size_t)count);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    if (!zero)
        return 0;
    size_t count = (size_t)(zero - data);
    struct buffer vocab = {0};
    if (count > 0 && data[0] == '@') {
        append_symbols(&vocab);
        append(&vocab, data + 1, count - 1);
        append(&vocab, "}", 1);
    } else if (count > 0) {
        append(&vocab, data, count);
    }

    struct tokenizer *tokenizer = NULL;
    struct reason why = {0};
    struct bytes merges = {zero + 1, size - count - 1};
    enum status status =
        tokenizer_open((struct bytes){vocab.data, vocab.count}, merges, CONTEXT, &tokenizer, &why);
    if (status == STATUS_OK) {
        uint32_t ids[CONTEXT];
        uint32_t ids_count = 0;
        struct text text = {(const char *)data, count < 1000 ? count : 1000};
        if (tokenizer_encode(tokenizer, text, ids, &ids_count, &why) != STATUS_OK)
            abort();
    }
    tokenizer_close(&tokenizer);
    buffer_deinit(&vocab);
    return 0;
}
