// SPDX-License-Identifier: Apache-2.0
// Goal: no file in the place of the known spaces is believed unless it is whole, and whatever it
// was, it is replaced by one that is.
//
// Method: the input is read as it is, and once more sealed (sealed.h). An entry is looked for by
// the key that the input has, and another one added.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shaders/models/clip_internal.h"
#include "tests/fuzz/sealed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static void read_file(const uint8_t *data, size_t size)
{
    struct clip_space_entry first = {.dimension = 0};
    struct clip_space_entry added = {.key = {1}, .digest = {2}, .dimension = 3};
    if (size >= 8 + sizeof(first.key))
        memcpy(first.key, data + 8, sizeof(first.key));
    bool found = clip_space_cache_find((struct bytes){data, size}, &first);
    struct buffer after = {0};
    check(clip_space_cache_add((struct bytes){data, size}, &added, &after) == STATUS_OK);
    struct bytes file = {after.data, after.count};
    struct clip_space_entry again = {.key = {1}};
    check(clip_space_cache_find(file, &again) && again.dimension == 3);
    memcpy(again.key, first.key, sizeof(again.key));
    bool is_added = memcmp(first.key, added.key, sizeof(added.key)) == 0;
    check(clip_space_cache_find(file, &again) == (found || is_added));
    check(!found || is_added || memcmp(&again, &first, sizeof(again)) == 0);
    buffer_deinit(&after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sealed_run(data, size, read_file);
    return 0;
}
