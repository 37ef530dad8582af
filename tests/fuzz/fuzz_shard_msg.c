// SPDX-License-Identifier: Apache-2.0
// Goal: no frames make the decoders between coordinator and node crash, read behind a frame, or
// take more memory than their budget; what they accept is encoded and decoded again without loss.
//
// Method: the first byte chooses the message, the next two the length of the rows frame (high
// byte first), which is cut from the end of the input; the rest is the body. What is accepted
// goes round twice: the second and third encoding must be the same.

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire/shard_msg.h"

#define HEAD_BYTES 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

typedef bool (*turn)(struct bytes in, struct bytes rows, struct buffer *out);

#define TURN(name)                                                                                 \
    static bool turn_##name(struct bytes in, struct bytes rows, struct buffer *out)                \
    {                                                                                              \
        struct arena *arena = arena_create(SHARD_ARENA_BYTES(in.count, rows.count));               \
        struct reason why = {{0}, {0}};                                                            \
        struct shard_##name message;                                                               \
        enum status status = shard_decode_##name(in, rows, arena, &message, &why);                 \
        check(status == STATUS_OK || why.text[0] != '\0');                                         \
        if (status == STATUS_OK)                                                                   \
            check(shard_encode_##name(&message, out) == STATUS_OK);                                \
        arena_destroy(&arena);                                                                     \
        return status == STATUS_OK;                                                                \
    }

TURN(hello)
TURN(hello_reply)
TURN(ping_reply)
TURN(search_request)
TURN(search_reply)
TURN(fetch_request)
TURN(fetch_reply)
TURN(write_request)
TURN(write_reply)
TURN(ids_request)
TURN(flags_reply)
TURN(create_request)
TURN(generation_request)
TURN(stats_reply)
TURN(export_request)
TURN(export_reply)

static bool turn_envelope(struct bytes in, struct bytes rows, struct buffer *out)
{
    (void)rows;
    struct arena *arena = arena_create(1 << 20);
    struct reason why = {{0}, {0}};
    struct shard_envelope envelope;
    enum status status = shard_decode_envelope(in, arena, &envelope, &why);
    check(status == STATUS_OK || why.text[0] != '\0');
    if (status == STATUS_OK)
        check(shard_encode_envelope(&envelope, out) == STATUS_OK);
    arena_destroy(&arena);
    return status == STATUS_OK;
}

// The order is the corpus's: lines are only appended.
static const turn turns[] = {
    turn_envelope,       turn_hello,
    turn_hello_reply,    turn_ping_reply,
    turn_search_request, turn_search_reply,
    turn_fetch_request,  turn_fetch_reply,
    turn_write_request,  turn_write_reply,
    turn_ids_request,    turn_flags_reply,
    turn_create_request, turn_generation_request,
    turn_stats_reply,    turn_export_request,
    turn_export_reply,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD_BYTES)
        return 0;
    turn go = turns[data[0] % (sizeof(turns) / sizeof(turns[0]))];
    size_t rows_bytes = bytes_get_u16_be(data + 1);
    if (rows_bytes > size - HEAD_BYTES)
        rows_bytes = size - HEAD_BYTES;
    struct bytes body = {data + HEAD_BYTES, size - HEAD_BYTES - rows_bytes};
    struct bytes rows = {data + size - rows_bytes, rows_bytes};

    struct buffer first = {0};
    struct buffer second = {0};
    if (go(body, rows, &first)) {
        check(go((struct bytes){first.data, first.count}, rows, &second));
        check(first.count == second.count);
        check(first.count == 0 || memcmp(first.data, second.data, first.count) == 0);
    }
    buffer_deinit(&first);
    buffer_deinit(&second);
    return 0;
}
