// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes make the reader of traceparent crash; what it tells on is always one that it takes
// itself, with the same trace and another span.
//
// Method: the input is a caller's traceparent, and then a request's id.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct text text = {(const char *)data, size};
    struct trace first = {.id = ""};
    struct trace second = {.id = ""};
    char room[TRACE_PARENT_BYTES + 1];
    char words[TRACE_WORDS_BYTES];

    bool goes_on = trace_begin(&first, text);
    check(trace_is_begun(&first) && first.span != 0);
    check(!goes_on || size >= TRACE_PARENT_BYTES);
    struct text told = trace_parent(&first, room);
    check(told.bytes == TRACE_PARENT_BYTES && (!goes_on || memcmp(room + 2, data + 2, 34) == 0));
    check(trace_begin(&second, told));
    check(second.high == first.high && second.low == first.low && second.span != first.span);
    check(second.sampled == first.sampled);

    (void)trace_set_id(&first, text);
    const size_t count = strlen(trace_words(&first, words));
    check(count < TRACE_WORDS_BYTES && bytes_is_utf8(words, count));
    return 0;
}
