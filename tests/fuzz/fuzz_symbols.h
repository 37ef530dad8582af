// SPDX-License-Identifier: Apache-2.0
// fuzz_symbols.h - what the targets of vocabularies share: the 514 tokens that each needs and that
// a fuzzer hardly finds, and the use of a vocabulary that was accepted.
//
// Thread-safety: none. Every surprise ends the program.

#ifndef RECO_TESTS_FUZZ_FUZZ_SYMBOLS_H
#define RECO_TESTS_FUZZ_FUZZ_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shaders/models/tokenizer.h"

#define FUZZ_CONTEXT 16
#define FUZZ_TEXT_BYTES 1000

static inline void fuzz_append(struct buffer *out, const void *data, size_t count)
{
    if (buffer_append(out, data, count) != STATUS_OK)
        abort();
}

// "!":0,"!</w>":1, ... as members of an object, without its braces.
static inline void fuzz_append_symbols(struct buffer *out)
{
    static const char ends[] = "\"<|startoftext|>\":512,\"<|endoftext|>\":513";
    fuzz_append(out, ends, sizeof(ends) - 1);
    unsigned next = 0x100;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
        unsigned code = printable ? byte : next++;
        char line[64];
        int count = snprintf(line, sizeof(line), ",\"\\u%04x\":%u,\"\\u%04x</w>\":%u", code,
                             2 * byte, code, 2 * byte + 1);
        fuzz_append(out, line, (size_t)count);
    }
}

// One that was opened must be able to encode; one that was refused must have a reason. Closes it.
static inline void fuzz_use(enum status status, struct tokenizer **tokenizer,
                            const struct reason *refused, struct text text)
{
    uint32_t ids[FUZZ_CONTEXT];
    uint32_t count = 0;
    struct reason why = {0};
    if (status != STATUS_OK && (*tokenizer || !refused->text[0]))
        abort();
    if (text.bytes > FUZZ_TEXT_BYTES)
        text.bytes = FUZZ_TEXT_BYTES;
    if (status == STATUS_OK && tokenizer_encode(*tokenizer, text, ids, &count, &why) != STATUS_OK)
        abort();
    tokenizer_close(tokenizer);
}

#endif
