// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes make the decoders of gRPC's own messages, or the reader of descriptor sets, crash
// or take more memory than their budget; what they accept goes round without loss.
//
// Method: the first byte chooses the reader, the rest are its bytes. Accepted questions and error
// details are encoded and decoded again and must be the same.

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "proto/wire/rpc/descriptor_index.h"
#include "proto/wire/rpc/rpc_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static struct bytes view(const struct buffer *buffer)
{
    return (struct bytes){buffer->data, buffer->count};
}

static void try_health_request(struct arena *arena, struct bytes in, struct buffer *out)
{
    struct text service;
    struct text again;
    if (rpc_msg_decode_health_request(arena, in, &service, NULL) != STATUS_OK)
        return;
    check(rpc_msg_encode_health_request(service, out) == STATUS_OK);
    check(rpc_msg_decode_health_request(arena, view(out), &again, NULL) == STATUS_OK);
    check(text_equal(service, again));
}

static void try_health_reply(struct arena *arena, struct bytes in, struct buffer *out)
{
    enum rpc_msg_serving serving;
    if (rpc_msg_decode_health_reply(arena, in, &serving, NULL) == STATUS_OK)
        check(rpc_msg_encode_health_reply(serving, out) == STATUS_OK);
}

static void try_reflection(struct arena *arena, struct bytes in, struct buffer *out)
{
    struct rpc_msg_reflection_request asked;
    struct rpc_msg_reflection_request again;
    if (rpc_msg_decode_reflection_request(arena, in, &asked, NULL) != STATUS_OK)
        return;
    check(rpc_msg_encode_reflection_request(&asked, out) == STATUS_OK);
    check(rpc_msg_decode_reflection_request(arena, view(out), &again, NULL) == STATUS_OK);
    check(asked.question == again.question && asked.extension_number == again.extension_number);
    check(text_equal(asked.host, again.host) && text_equal(asked.name, again.name));

    const struct rpc_msg_reflection_reply reply = {
        .request = &asked, .error_code = 5, .error_message = "no"};
    out->count = 0;
    check(rpc_msg_encode_reflection_reply(arena, &reply, out) == STATUS_OK);
}

static void try_status(struct arena *arena, struct bytes in, struct buffer *out)
{
    struct rpc_msg_status details;
    struct rpc_msg_status again;
    if (rpc_msg_decode_status(arena, in, &details, NULL) != STATUS_OK)
        return;
    check(rpc_msg_encode_status(arena, &details, out) == STATUS_OK);
    if (out->count > RPC_MSG_BYTES_MAX) // the types' names can add what was not there
        return;
    check(rpc_msg_decode_status(arena, view(out), &again, NULL) == STATUS_OK);
    check(details.code == again.code && details.retry_us == again.retry_us);
    check(text_equal(details.message, again.message) && text_equal(details.field, again.field));
}

static void try_descriptors(struct bytes in)
{
    struct descriptor_index *index = NULL;
    if (descriptor_index_create(&in, 1, &index, NULL) != STATUS_OK)
        return;
    struct bytes files[DESCRIPTOR_INDEX_FILES_MAX];
    size_t file;
    if (descriptor_index_file_named(index, text_of("a.proto"), &file))
        check(descriptor_index_with_imports(index, file, files) >= 1);
    descriptor_index_destroy(&index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;

    struct bytes in = {data + 1, size - 1};
    struct arena *arena = arena_create(2 * RPC_MSG_ARENA_BYTES);
    struct buffer out = {.count = 0};
    switch (data[0] % 5) {
    case 0:
        try_health_request(arena, in, &out);
        break;
    case 1:
        try_health_reply(arena, in, &out);
        break;
    case 2:
        try_reflection(arena, in, &out);
        break;
    case 3:
        try_status(arena, in, &out);
        break;
    default:
        try_descriptors(in);
        break;
    }
    buffer_deinit(&out);
    arena_destroy(&arena);
    return 0;
}
