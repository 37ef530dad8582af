// SPDX-License-Identifier: Apache-2.0
// Goal: no tokenizer.json breaks the reader, and one that it accepts can be used.
//
// Method: the input is the file. Since a vocabulary needs 514 tokens that a fuzzer hardly finds,
// "@@" stands for them, as members of an object.

#include "tests/fuzz/fuzz_symbols.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer file = {0};
    bool symbols = false;
    for (size_t i = 0; i < size; i++) {
        if (!symbols && i + 1 < size && data[i] == '@' && data[i + 1] == '@') {
            fuzz_append_symbols(&file);
            symbols = true;
            i++;
        } else {
            fuzz_append(&file, data + i, 1);
        }
    }

    struct tokenizer *tokenizer = NULL;
    struct reason why = {0};
    enum status status =
        tokenizer_open_json((struct bytes){file.data, file.count}, FUZZ_CONTEXT, &tokenizer, &why);
    fuzz_use(status, &tokenizer, &why, (struct text){(const char *)data, size});
    buffer_deinit(&file);
    return 0;
}
