// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes make the reader of packed records read outside of them, or take a record that
// cannot be written again as it was.
//
// Method: records are taken off the input while that works; each is packed again and compared.

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire/packed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes rest = {data, size};
    struct buffer again = {0};
    for (;;) {
        const struct bytes before = rest;
        struct packed_record record;
        struct reason why = {{0}, {0}};
        if (packed_take(&rest, 0, &record, &why) != STATUS_OK) {
            check(why.text[0] != 0 && rest.count == before.count);
            break;
        }
        again.count = 0;
        check(packed_append(&record, &again) == STATUS_OK);
        check(again.count == before.count - rest.count);
        check(memcmp(again.data, before.data, again.count) == 0);
        struct packed_digest digest = {0};
        packed_digest_add(&digest, (struct bytes){again.data, again.count});
    }
    buffer_deinit(&again);
    return 0;
}
