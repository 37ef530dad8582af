// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes make the decoders of the public messages crash or take more memory than their
// budget; what they accept is encoded and decoded again without loss.
//
// Method: the first byte chooses the message, the rest are its bytes. What is accepted goes
// round twice: the second and third encoding must be the same.

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire/api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

// One turn: decodes `in`, encodes to *out; false when `in` is refused.
typedef bool (*turn)(struct bytes in, struct buffer *out);

#define TURN(name)                                                                                 \
    static bool turn_##name(struct bytes in, struct buffer *out)                                   \
    {                                                                                              \
        struct arena *arena = arena_create(API_ARENA_BYTES(in.count));                             \
        struct reason why = {{0}, {0}};                                                            \
        struct api_##name message;                                                                 \
        enum status status = api_decode_##name(in, arena, &message, &why);                         \
        check(status == STATUS_OK || why.text[0] != '\0');                                         \
        if (status == STATUS_OK)                                                                   \
            check(api_encode_##name(&message, out) == STATUS_OK);                                  \
        arena_destroy(&arena);                                                                     \
        return status == STATUS_OK;                                                                \
    }

TURN(labels_request)
TURN(encode_image_request)
TURN(texts_request)
TURN(create_request)
TURN(name_request)
TURN(ingest_request)
TURN(delete_request)
TURN(encode_reply)
TURN(tokenize_reply)
TURN(memory_info)
TURN(memory_list)
TURN(ingest_reply)
TURN(delete_reply)
TURN(drop_reply)
TURN(node_list)

TURN(encode_stream_request)
TURN(stream_reply)
TURN(model_list)
TURN(export_request)
TURN(export_reply)

static bool turn_stream_request(struct bytes in, struct buffer *out)
{
    struct reason why = {{0}, {0}};
    struct api_stream_request message;
    enum status status = api_decode_stream_request(in, &message, &why);
    check(status == STATUS_OK || why.text[0] != '\0');
    if (status == STATUS_OK)
        check(api_encode_stream_request(&message, out) == STATUS_OK);
    return status == STATUS_OK;
}

#define METHOD_TURN(kind, struct_name, method)                                                     \
    static bool turn_##kind##_##method(struct bytes in, struct buffer *out)                        \
    {                                                                                              \
        struct arena *arena = arena_create(API_ARENA_BYTES(in.count));                             \
        struct reason why = {{0}, {0}};                                                            \
        struct api_##struct_name message;                                                          \
        enum status status = api_decode_##kind(API_##method, in, arena, &message, &why);           \
        check(status == STATUS_OK || why.text[0] != '\0');                                         \
        if (status == STATUS_OK)                                                                   \
            check(api_encode_##kind(API_##method, &message, out) == STATUS_OK);                    \
        arena_destroy(&arena);                                                                     \
        return status == STATUS_OK;                                                                \
    }

METHOD_TURN(query, query_request, SEARCH)
METHOD_TURN(query, query_request, REFINE_IMAGE)
METHOD_TURN(query, query_request, REFINE_TEXT)
METHOD_TURN(query, query_request, REFINE_EMBEDDING)
METHOD_TURN(query, query_request, CLASSIFY)
METHOD_TURN(query, query_request, DISCOVER_LABELS)
METHOD_TURN(answer, answer, SEARCH)
METHOD_TURN(answer, answer, REFINE_TEXT)
METHOD_TURN(answer, answer, EXPLAIN)
METHOD_TURN(answer, answer, COMPILE_LABELS)

#define RECORDS_TURN(kind, vectors)                                                                \
    static bool turn_records_##kind##_##vectors(struct bytes in, struct buffer *out)               \
    {                                                                                              \
        struct arena *arena = arena_create(API_ARENA_BYTES(in.count));                             \
        struct reason why = {{0}, {0}};                                                            \
        struct api_records_##kind message;                                                         \
        enum status status = api_decode_records_##kind(vectors, in, arena, &message, &why);        \
        check(status == STATUS_OK || why.text[0] != '\0');                                         \
        if (status == STATUS_OK)                                                                   \
            check(api_encode_records_##kind(vectors, &message, out) == STATUS_OK);                 \
        arena_destroy(&arena);                                                                     \
        return status == STATUS_OK;                                                                \
    }

RECORDS_TURN(request, false)
RECORDS_TURN(request, true)
RECORDS_TURN(reply, false)
RECORDS_TURN(reply, true)

// The order is the corpus's: lines are only appended.
static const turn turns[] = {
    turn_labels_request,
    turn_encode_image_request,
    turn_texts_request,
    turn_create_request,
    turn_name_request,
    turn_ingest_request,
    turn_delete_request,
    turn_encode_reply,
    turn_tokenize_reply,
    turn_memory_info,
    turn_memory_list,
    turn_ingest_reply,
    turn_delete_reply,
    turn_drop_reply,
    turn_node_list,
    turn_query_SEARCH,
    turn_query_REFINE_IMAGE,
    turn_query_REFINE_TEXT,
    turn_query_REFINE_EMBEDDING,
    turn_query_CLASSIFY,
    turn_answer_SEARCH,
    turn_answer_REFINE_TEXT,
    turn_answer_EXPLAIN,
    turn_answer_COMPILE_LABELS,
    turn_records_request_false,
    turn_records_request_true,
    turn_records_reply_false,
    turn_records_reply_true,
    turn_stream_request,
    turn_encode_stream_request,
    turn_stream_reply,
    turn_model_list,
    turn_query_DISCOVER_LABELS,
    turn_export_request,
    turn_export_reply,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    turn go = turns[data[0] % (sizeof(turns) / sizeof(turns[0]))];

    struct buffer first = {0};
    struct buffer second = {0};
    if (go((struct bytes){data + 1, size - 1}, &first)) {
        check(go((struct bytes){first.data, first.count}, &second));
        check(first.count == second.count);
        check(first.count == 0 || memcmp(first.data, second.data, first.count) == 0);
    }
    buffer_deinit(&first);
    buffer_deinit(&second);
    return 0;
}
