// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes that claim to be an array lead outside the file, and what is accepted fills it
// exactly.
//
// Method: the input is a whole file, of either format.

#include <stdlib.h>

#include "tools/npyfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct npyfile_info info;
    struct reason why = {.text = ""};
    size_t offset = 0;
    enum status status = npyfile_parse((struct bytes){data, size}, size, &info, &offset, &why);
    if (status == STATUS_OK) {
        uint64_t bytes = info.rows * info.columns * npyfile_type_bytes(info.type);
        if (offset > size || bytes != size - offset)
            abort();
    } else if (!why.text[0]) {
        abort();
    }
    if (npyfile_parse_fvecs((struct bytes){data, size}, &info, &why) == STATUS_OK &&
        info.rows * (info.columns + 1) * 4 != size)
        abort();
    return 0;
}
