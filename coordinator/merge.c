// SPDX-License-Identifier: Apache-2.0
// merge.c - two sorted lists are joined the way merge sort joins them, into a spare
// buffer that then takes the place of the kept one. Both buffers are part of
// the object, so an offer never allocates.
//
// Why the order of offers does not matter: an id is dropped only when k other
// ids are ahead of it, no id's best score ever gets worse, and of two copies with the same
// score the lower shard always comes first.

#include "coordinator/merge.h"

#include <assert.h>
#include <stdbool.h>

#include "proto/base/mem.h"

struct merge {
    uint32_t k;
    uint32_t count;         // kept neighbours, 0..k
    struct merge_hit *kept; // points into `buffer`, sorted best first
    struct merge_hit *spare;
    struct merge_hit buffer[]; // 2 * k
};

static struct merge_hit list_hit(const struct merge_list *list, size_t place)
{
    return (struct merge_hit){
        .neighbour = {list->ids[place], list->scores[place]},
        .shard = list->shard,
        .place = (uint32_t)place,
    };
}

// Strictly: equal neighbours are none of a search's. A NaN compares false and so never passes.
static bool list_is_sorted(const struct merge_list *list)
{
    if (list->count > 0 && list->scores[0] != list->scores[0])
        return false;
    for (size_t i = 1; i < list->count; i++)
        if (!neighbour_ahead(list_hit(list, i - 1).neighbour, list_hit(list, i).neighbour))
            return false;
    return true;
}

static bool contains(const struct merge_hit *hits, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++)
        if (hits[i].neighbour.id == id)
            return true;
    return false;
}

static bool hit_ahead(const struct merge_hit *a, const struct merge_hit *b)
{
    if (neighbour_ahead(a->neighbour, b->neighbour))
        return true;
    return !neighbour_ahead(b->neighbour, a->neighbour) && a->shard < b->shard;
}

enum status merge_create(uint32_t k, struct merge **out)
{
    assert(out);

    if (k < 1 || k > MERGE_K_MAX)
        return STATUS_INVALID;

    struct merge *merge = mem_alloc(sizeof(*merge) + (size_t)2 * k * sizeof(merge->buffer[0]));
    merge->k = k;
    merge->kept = merge->buffer;
    merge->spare = merge->buffer + k;
    *out = merge;
    return STATUS_OK;
}

void merge_destroy(struct merge **merge)
{
    assert(merge);

    mem_free(*merge);
    *merge = NULL;
}

void merge_reset(struct merge *merge)
{
    assert(merge);

    merge->count = 0;
}

enum status merge_offer(struct merge *merge, const struct merge_list *list)
{
    assert(merge && list);
    assert((list->ids && list->scores) || list->count == 0);

    // A shard is another program: what it sends is checked, not asserted.
    if (list->count > MERGE_K_MAX || !list_is_sorted(list))
        return STATUS_INVALID;

    uint32_t taken = 0;
    uint32_t i = 0; // next of merge->kept
    size_t j = 0;   // next of list
    while (taken < merge->k && (i < merge->count || j < list->count)) {
        struct merge_hit offered = {0};
        if (j < list->count)
            offered = list_hit(list, j);
        bool take_kept =
            j == list->count || (i < merge->count && hit_ahead(&merge->kept[i], &offered));
        struct merge_hit next = offered;
        if (take_kept)
            next = merge->kept[i++];
        else
            j++;

        // Best first: the copy already taken is the better one.
        if (!contains(merge->spare, taken, next.neighbour.id))
            merge->spare[taken++] = next;
    }

    struct merge_hit *previous = merge->kept;
    merge->kept = merge->spare;
    merge->spare = previous;
    merge->count = taken;
    return STATUS_OK;
}

size_t merge_result(const struct merge *merge, const struct merge_hit **out)
{
    assert(merge && out);

    *out = merge->kept;
    return merge->count;
}
