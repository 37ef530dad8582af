// SPDX-License-Identifier: Apache-2.0
// Goal: no pair of vocab.json and merges.txt breaks the reader, and one that it accepts
// can be used.
//
// Method: the input is vocab.json, a byte 0, and merges.txt. Since a vocabulary needs 514
// tokens that a fuzzer hardly finds, "@" at the start of vocab.json stands for them.

#include "tests/fuzz/fuzz_symbols.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    if (!zero)
        return 0;
    size_t count = (size_t)(zero - data);
    struct buffer vocab = {0};
    if (count > 0 && data[0] == '@') {
        fuzz_append(&vocab, "{", 1);
        fuzz_append_symbols(&vocab);
        fuzz_append(&vocab, data + 1, count - 1);
        fuzz_append(&vocab, "}", 1);
    } else if (count > 0) {
        fuzz_append(&vocab, data, count);
    }

    struct tokenizer *tokenizer = NULL;
    struct reason why = {0};
    struct bytes merges = {zero + 1, size - count - 1};
    enum status status = tokenizer_open((struct bytes){vocab.data, vocab.count}, merges,
                                        FUZZ_CONTEXT, &tokenizer, &why);
    fuzz_use(status, &tokenizer, &why, (struct text){(const char *)data, count});
    buffer_deinit(&vocab);
    return 0;
}
