// SPDX-License-Identifier: Apache-2.0
// Goal: a list of ids in any order becomes sorted and unique, and every id in it is found.
//
// Method: small hand-written lists, with the largest numbers, which a difference would get wrong.

#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/ids.h"

Test(ids, sorts_and_leaves_each_once)
{
    uint64_t ids[] = {7, UINT64_MAX, 0, 7, 1, UINT64_MAX, 0, UINT64_C(1) << 63};
    const uint64_t wanted[] = {0, 1, 7, UINT64_C(1) << 63, UINT64_MAX};

    cr_assert(eq(sz, ids_sort(ids, sizeof(ids) / sizeof(ids[0])), 5));
    cr_expect(eq(int, memcmp(ids, wanted, sizeof(wanted)), 0));
    cr_expect(eq(sz, ids_sort(ids, 5), 5));
    cr_expect(eq(int, memcmp(ids, wanted, sizeof(wanted)), 0));
}

Test(ids, finds_what_is_there_and_nothing_else)
{
    const uint64_t ids[] = {0, 1, 7, UINT64_MAX};

    for (size_t i = 0; i < 4; i++)
        cr_expect(eq(sz, ids_find(ids, 4, ids[i]), i));
    cr_expect(eq(sz, ids_find(ids, 4, 2), IDS_NONE));
    cr_expect(eq(sz, ids_find(ids, 3, UINT64_MAX), IDS_NONE));
}

Test(ids, takes_an_empty_list)
{
    cr_expect(eq(sz, ids_sort(NULL, 0), 0));
    cr_expect(eq(sz, ids_find(NULL, 0, 1), IDS_NONE));
}
