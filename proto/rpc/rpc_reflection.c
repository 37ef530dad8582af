// SPDX-License-Identifier: Apache-2.0
// grpc.reflection: a stream of questions, each answered before the next one is read. Files come
// with everything that they import, so that a client needs one question for one service.
// There are no extensions here: questions for them are told UNIMPLEMENTED, in the stream.

#include <assert.h>
#include <stdio.h>

#include "proto/base/arena.h"
#include "proto/rpc/rpc_internal.h"

#define ERROR_BYTES 256
#define REPLY_ARENA_BYTES ((size_t)64 << 10) // lists and names; file bytes are not copied into it

static void fill_error(struct rpc_msg_reflection_reply *reply, char text[ERROR_BYTES],
                       enum status status, const char *what)
{
    struct text name = reply->request->name;
    (void)snprintf(text, ERROR_BYTES, "%s: \"%.*s\"", what, (int)name.bytes, name.data);
    reply->error_code = status_grpc_code(status);
    reply->error_message = text;
}

// Answers the question in call->message with one message, or ends the call.
void rpc_reflection_message(struct rpc_call *call)
{
    assert(call && call->inner);

    const struct rpc_server *server = call->server;
    struct arena *arena = arena_create(RPC_MSG_ARENA_BYTES + REPLY_ARENA_BYTES);
    struct rpc_msg_reflection_request request;
    struct reason why = {.field = ""};
    enum status status =
        rpc_msg_decode_reflection_request(arena, call->message.bytes, &request, &why);
    if (status != STATUS_OK) {
        arena_destroy(&arena);
        rpc_call_answer(call, status, NULL, &why);
        return;
    }

    struct rpc_msg_reflection_reply reply = {.request = &request};
    struct bytes files[DESCRIPTOR_INDEX_FILES_MAX];
    struct text services[RPC_METHODS_MAX + RPC_INNER_METHODS];
    char error[ERROR_BYTES];
    size_t file;
    switch (request.question) {
    case RPC_MSG_ASK_SERVICES:
        for (size_t i = 0; i < server->service_count; i++)
            services[i] = text_of(server->services[i]);
        reply.services = services;
        reply.service_count = server->service_count;
        break;
    case RPC_MSG_ASK_FILE_BY_NAME:
    case RPC_MSG_ASK_FILE_OF_SYMBOL:
        if (request.question == RPC_MSG_ASK_FILE_BY_NAME
                ? descriptor_index_file_named(server->descriptors, request.name, &file)
                : descriptor_index_file_of(server->descriptors, request.name, &file)) {
            reply.files = files;
            reply.file_count = descriptor_index_with_imports(server->descriptors, file, files);
        } else {
            fill_error(&reply, error, STATUS_NOT_FOUND, "there is no such file or symbol");
        }
        break;
    case RPC_MSG_ASK_EXTENSION:
    case RPC_MSG_ASK_EXTENSION_NUMBERS:
        fill_error(&reply, error, STATUS_UNSUPPORTED, "extensions are not served");
        break;
    case RPC_MSG_ASK_NOTHING:
        fill_error(&reply, error, STATUS_INVALID, "a question of an unknown kind");
        break;
    }

    struct buffer message = {.count = 0};
    status = rpc_msg_encode_reflection_reply(arena, &reply, &message);
    arena_destroy(&arena);
    if (status == STATUS_OK)
        rpc_call_send(call, &message);
    else
        rpc_call_answer(call, status, &message, NULL);
}
