// SPDX-License-Identifier: Apache-2.0
// Goal: no tokenizer.json breaks the reader, and one that it accepts can be used.
//
// Method: the input is the file. Since a vocabulary needs 514 tokens that a fuzzer hardly finds, "@@"
// stands for them, as members of an object.

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

static void append_symbols(struct buffer *out)
{
    append(out, "\"<|startoftext|>\":512,\"<|endoftext|>\":513", 41);
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
    struct buffer file = {0};
    bool symbols = false;
    for (size_t i = 0; i < size; i++) {
        if (!symbols && i + 1 < size && data[i] == '@' && data[i + 1] == '@') {
            append_symbols(&file);
            symbols = true;
            i++;
        } else {
            append(&file, data + i, 1);
        }
    }

    struct tokenizer *tokenizer = NULL;
    struct reason why = {0};
    if (tokenizer_open_json((struct bytes){file.data, file.count}, CONTEXT, &tokenizer, &why)) {
        if (!why.text[0] || tokenizer)
            abort();
    } else {
        uint32_t ids[CONTEXT];
        uint32_t count = 0;
        struct text text = {(const char *)data, size < 1000 ? size : 1000};
        if (tokenizer_encode(tokenizer, text, ids, &count, &why) != STATUS_OK)
            abort();
    }
    tokenizer_close(&tokenizer);
    buffer_deinit(&file);
    return 0;
}
