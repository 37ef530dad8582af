// SPDX-License-Identifier: Apache-2.0
// Keys become ids here, so that a set may be as large as a message's ids and no longer than it has
// to.

#include "tools/filters.h"

#include <string.h>

#include "proto/base/hash.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/inputs.h"

enum filter_kind { FILTER_ALL, FILTER_ANY, FILTER_NO, FILTER_NONE };

// What one word of --filter asks; *tag is its value.
static enum filter_kind kind_of(const char *word, const char **tag)
{
    static const char *const prefixes[] = {
        [FILTER_ALL] = "tag=", [FILTER_ANY] = "any:tag=", [FILTER_NO] = "no:tag="};
    for (int kind = FILTER_ALL; kind < FILTER_NONE; kind++) {
        const size_t bytes = strlen(prefixes[kind]);
        if (strncmp(word, prefixes[kind], bytes) == 0) {
            *tag = word + bytes;
            return (enum filter_kind)kind;
        }
    }
    return FILTER_NONE;
}

static enum status check_tag(const char *word, const char *tag, struct reason *why)
{
    const size_t bytes = strlen(tag);
    if (bytes < 1 || bytes > TAG_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, "--filter",
                          "'%s': the tag has %zu bytes; allowed: 1..%d", word, bytes,
                          TAG_BYTES_MAX);
    return inputs_check_text(tag, why);
}

static enum status read_tags(const struct options *options, struct filters *out, struct reason *why)
{
    const size_t count = options->filters.count;
    out->tags = mem_alloc_array(count + 1, sizeof(*out->tags));
    struct text *at = out->tags;
    struct api_filter *filter = &out->filter;
    struct {
        const struct text **list;
        size_t *count;
    } const lists[] = {{&filter->all_tags, &filter->all_count},
                       {&filter->any_tags, &filter->any_count},
                       {&filter->no_tags, &filter->no_count}};
    for (int kind = FILTER_ALL; kind < FILTER_NONE; kind++) {
        *lists[kind].list = at;
        for (size_t i = 0; i < count; i++) {
            const char *word = options->filters.items[i];
            const char *tag = "";
            const enum filter_kind found = kind_of(word, &tag);
            if (found == FILTER_NONE)
                return reason_set(why, STATUS_INVALID, "--filter",
                                  "'%s'; allowed: tag=VALUE, any:tag=VALUE, no:tag=VALUE", word);
            if ((int)found != kind)
                continue;
            const enum status status = check_tag(word, tag, why);
            if (status)
                return status;
            *at++ = text_of(tag);
            (*lists[kind].count)++;
        }
        if (*lists[kind].count > FILTER_TAGS_MAX)
            return reason_set(why, STATUS_INVALID, "--filter",
                              "%zu tags of one kind; at most %d are allowed", *lists[kind].count,
                              FILTER_TAGS_MAX);
    }
    return STATUS_OK;
}

static enum status read_keys(const struct options *options, struct filters *out, struct reason *why)
{
    if (options->only.count == 0)
        return STATUS_OK;

    // A list that turns out to be empty, from stdin, still lets nothing pass.
    out->filter.only_listed = true;
    out->ids = mem_alloc_array(FILTER_IDS_MAX, sizeof(*out->ids));
    out->filter.ids = out->ids;
    struct inputs inputs;
    inputs_init(&inputs, &options->only, true);
    enum status status = STATUS_OK;
    for (const char *key = inputs_next(&inputs); key && !status; key = inputs_next(&inputs)) {
        if (out->filter.id_count == FILTER_IDS_MAX)
            status = reason_set(why, STATUS_INVALID, "--only", "more than %d keys", FILTER_IDS_MAX);
        else
            out->ids[out->filter.id_count++] = hash_id(key, strlen(key));
    }
    inputs_deinit(&inputs);
    return status;
}

enum status filters_read(const struct options *options, struct filters *out, struct reason *why)
{
    const enum status status = read_tags(options, out, why);
    return status ? status : read_keys(options, out, why);
}

void filters_deinit(struct filters *filters)
{
    mem_free(filters->tags);
    mem_free(filters->ids);
    *filters = (struct filters){0};
}
