// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes make the reader of queries in JSON crash or take more memory than its budget; what
// it refuses is refused in words, and what it takes becomes a message that every other call could
// have brought, or one that is refused like theirs.
//
// Method: the first byte chooses search, refine or classify, the rest is the body. What is
// read is encoded as a message and decoded as the server does.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire/api_json.h"

#define ARENA_BYTES ((size_t)16 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static bool same_options(const struct api_options *a, const struct api_options *b)
{
    return a->k == b->k && a->over == b->over && a->fusion == b->fusion && a->index == b->index &&
           a->profile == b->profile && a->fields == b->fields && a->dedup == b->dedup &&
           a->min_similarity == b->min_similarity && a->min_coverage == b->min_coverage &&
           a->min_pair_similarity == b->min_pair_similarity &&
           a->exclude_count == b->exclude_count && text_equal(a->memory, b->memory) &&
           a->filter.all_count == b->filter.all_count &&
           a->filter.any_count == b->filter.any_count && a->filter.no_count == b->filter.no_count &&
           a->filter.id_count == b->filter.id_count && a->filter.key_count == b->filter.key_count;
}

static void decode_as_the_server(const struct api_json_query *query)
{
    struct buffer message = {0};
    struct reason why = {.text = ""};
    struct api_query_request request;
    check(api_encode_query(query->method, &query->request, &message) == STATUS_OK);
    struct arena *arena = arena_create(API_ARENA_BYTES(message.count));
    enum status status = api_decode_query(
        query->method, (struct bytes){message.data, message.count}, arena, &request, &why);
    check(status == STATUS_OK || why.text[0] != '\0');
    if (status == STATUS_OK) {
        check(request.input == query->request.input);
        check(request.image.count == query->request.image.count);
        check(request.embedding_count == query->request.embedding_count);
        check(request.part_count == query->request.part_count);
        check(request.label_count == query->request.label_count);
        check(request.template_count == query->request.template_count);
        check(request.top == query->request.top);
        check(same_options(&request.options, &query->request.options));
    }
    arena_destroy(&arena);
    buffer_deinit(&message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json *document = NULL;
    struct reason why = {.text = ""};
    struct api_json_query query;
    if (size == 0)
        return 0;
    if (json_parse(data + 1, size - 1, &document, &why) != STATUS_OK)
        return 0;
    struct arena *arena = arena_create(ARENA_BYTES);
    enum status status =
        api_json_read_query((enum api_json_verb)(data[0] % 3), document, arena, &query, &why);
    check(status == STATUS_OK || why.text[0] != '\0');
    if (status == STATUS_OK)
        decode_as_the_server(&query);
    arena_destroy(&arena);
    json_destroy(&document);
    return 0;
}
