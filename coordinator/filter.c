// SPDX-License-Identifier: Apache-2.0
// One block of memory: the struct, views, ids, texts. Everything is sorted and without repetitions,
// so that the same question has the same digest, whatever the order it was asked in.

#include "coordinator/filter.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/ids.h"
#include "proto/base/mem.h"

static size_t bytes_of(const struct text *texts, size_t count)
{
    size_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += texts[i].bytes;
    return sum;
}

// Copies tags to *views and *at, which move on; returns how many different ones there are.
static size_t copy_tags(const struct text *tags, size_t count, struct text **views, char **at)
{
    struct text *first = *views;
    for (size_t i = 0; i < count; i++) {
        memcpy(*at, tags[i].data, tags[i].bytes);
        first[i] = (struct text){*at, tags[i].bytes};
        *at += tags[i].bytes;
    }
    qsort(first, count, sizeof(*first), text_compare);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (i == 0 || !text_equal(first[i], first[kept - 1]))
            first[kept++] = first[i];
    *views += count;
    return kept;
}

static size_t collect_ids(const struct api_filter *asked, uint64_t *ids)
{
    size_t count = 0;
    for (size_t i = 0; i < asked->key_count; i++)
        ids[count++] = hash_id(asked->keys[i].data, asked->keys[i].bytes);
    for (size_t i = 0; i < asked->id_count; i++)
        ids[count++] = asked->ids[i];
    return ids_sort(ids, count);
}

static void digest_number(struct hash_sha256 *state, uint64_t number)
{
    uint8_t bytes[8];
    bytes_put_u64_le(bytes, number);
    hash_sha256_update(state, bytes, sizeof(bytes));
}

static void digest_tags(struct hash_sha256 *state, const struct text *tags, size_t count)
{
    digest_number(state, count);
    for (size_t i = 0; i < count; i++) {
        digest_number(state, tags[i].bytes);
        hash_sha256_update(state, tags[i].data, tags[i].bytes);
    }
}

static void digest(struct filter *filter)
{
    struct hash_sha256 state;
    hash_sha256_init(&state);
    digest_tags(&state, filter->all, filter->all_count);
    digest_tags(&state, filter->any, filter->any_count);
    digest_tags(&state, filter->no, filter->no_count);
    digest_number(&state, filter->has_ids);
    digest_number(&state, filter->id_count);
    for (size_t i = 0; i < filter->id_count; i++)
        digest_number(&state, filter->ids[i]);
    hash_sha256_final(&state, filter->digest);
}

enum status filter_create(const struct api_filter *asked, struct filter **out, struct reason *why)
{
    assert(asked && out);

    size_t tags = asked->all_count + asked->any_count + asked->no_count;
    size_t ids = asked->key_count + asked->id_count;
    *out = NULL;
    if (tags == 0 && ids == 0 && !asked->only_listed)
        return STATUS_OK;
    if (ids > FILTER_IDS_MAX)
        return reason_set(why, STATUS_INVALID, "options.filter.ids",
                          "%zu keys and ids together; at most %d", ids, FILTER_IDS_MAX);

    size_t bytes = sizeof(struct filter) + ids * sizeof(uint64_t) + tags * sizeof(struct text) +
                   bytes_of(asked->all_tags, asked->all_count) +
                   bytes_of(asked->any_tags, asked->any_count) +
                   bytes_of(asked->no_tags, asked->no_count);
    struct filter *filter = mem_try_alloc(bytes);
    if (!filter)
        return reason_set(why, STATUS_NO_MEMORY, "options.filter", "no memory for %zu bytes",
                          bytes);
    *filter = (struct filter){.holders = 1, .has_ids = asked->only_listed || ids > 0};
    uint64_t *id_list = (uint64_t *)(void *)(filter + 1);
    struct text *views = (struct text *)(void *)(id_list + ids);
    char *at = (char *)(views + tags);
    filter->ids = id_list;
    filter->id_count = collect_ids(asked, id_list);
    filter->all = views;
    filter->all_count = copy_tags(asked->all_tags, asked->all_count, &views, &at);
    filter->any = views;
    filter->any_count = copy_tags(asked->any_tags, asked->any_count, &views, &at);
    filter->no = views;
    filter->no_count = copy_tags(asked->no_tags, asked->no_count, &views, &at);
    digest(filter);
    *out = filter;
    return STATUS_OK;
}

struct filter *filter_hold(struct filter *filter)
{
    if (filter)
        filter->holders++;
    return filter;
}

void filter_release(struct filter **filter)
{
    assert(filter);

    if (*filter && --(*filter)->holders == 0)
        mem_free(*filter);
    *filter = NULL;
}

void filter_fill(const struct filter *filter, struct shard_search_request *message)
{
    assert(message);

    if (!filter)
        return;
    message->all_tags = filter->all;
    message->all_count = filter->all_count;
    message->any_tags = filter->any;
    message->any_count = filter->any_count;
    message->no_tags = filter->no;
    message->no_count = filter->no_count;
    message->only_ids = filter->ids;
    message->only_count = filter->id_count;
    message->has_only_ids = filter->has_ids;
}
