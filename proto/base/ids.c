// SPDX-License-Identifier: Apache-2.0

#include "proto/base/ids.h"

#include <assert.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a;
    const uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

size_t ids_sort(uint64_t *ids, size_t count)
{
    assert(ids || count == 0);

    size_t kept = 0;
    if (count > 0)
        qsort(ids, count, sizeof(*ids), compare);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || ids[i] != ids[kept - 1])
            ids[kept++] = ids[i];
    return kept;
}

size_t ids_find(const uint64_t *ids, size_t count, uint64_t id)
{
    assert(ids || count == 0);

    if (count == 0)
        return IDS_NONE;
    const uint64_t *found = bsearch(&id, ids, count, sizeof(*ids), compare);
    return found ? (size_t)(found - ids) : IDS_NONE;
}
