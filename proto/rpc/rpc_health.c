// SPDX-License-Identifier: Apache-2.0
// grpc.health.v1: Check answers once; Watch sends the state at once and then every change, until
// the client leaves. A Watch for a service that does not exist stays open, as the standard has
// it. All services of a server are ready or not together.

#include <assert.h>

#include "proto/base/arena.h"
#include "proto/rpc/rpc_internal.h"

// Decodes the question; false when the call has been answered with what is wrong about it.
static bool decode(struct rpc_call *call, bool *known)
{
    const struct rpc_server *server = call->server;
    struct arena *arena = arena_create(RPC_MSG_ARENA_BYTES);
    struct text service;
    struct reason why = {.field = ""};
    enum status status = rpc_msg_decode_health_request(arena, call->message.bytes, &service, &why);
    if (status == STATUS_OK) {
        *known = service.bytes == 0;
        for (size_t i = 0; i < server->service_count && !*known; i++)
            *known = text_equal(text_of(server->services[i]), service);
        if (!*known)
            (void)reason_set(&why, STATUS_NOT_FOUND, "service",
                             "there is no service \"%.*s\"; reflection lists them",
                             (int)service.bytes, service.data);
    }
    arena_destroy(&arena);

    // Watch tells an unknown service in its messages.
    bool asked_once = server->rows[call->row].kind == RPC_ROW_HEALTH_CHECK;
    if (status == STATUS_OK && !*known && asked_once)
        status = STATUS_NOT_FOUND;
    if (status != STATUS_OK)
        rpc_call_answer(call, status, NULL, &why);
    return status == STATUS_OK;
}

static enum rpc_msg_serving state_of(const struct rpc_server *server)
{
    return server->serving ? RPC_MSG_SERVING : RPC_MSG_NOT_SERVING;
}

void rpc_health_check(struct rpc_call *call)
{
    assert(call && call->inner);

    bool known = false;
    if (!decode(call, &known))
        return;

    struct buffer reply = {.count = 0};
    enum status status = rpc_msg_encode_health_reply(state_of(call->server), &reply);
    rpc_call_answer(call, status, &reply, NULL);
}

void rpc_health_watch(struct rpc_call *call)
{
    assert(call && call->inner);

    call->told = RPC_MSG_SERVING_UNKNOWN;
    call->watching = false;
    if (!decode(call, &call->knows_service))
        return;
    call->watching = true;
    rpc_health_update(call);
}

void rpc_health_update(struct rpc_call *call)
{
    assert(call && call->inner);

    enum rpc_msg_serving now =
        call->knows_service ? state_of(call->server) : RPC_MSG_SERVICE_UNKNOWN;
    if (!call->watching || call->told == now || call->sent)
        return; // when `sent` comes back, this is asked again

    struct buffer message = {.count = 0};
    enum status status = rpc_msg_encode_health_reply(now, &message);
    if (status != STATUS_OK) {
        rpc_call_answer(call, status, NULL, NULL);
        return;
    }
    call->told = now;
    rpc_call_send(call, &message);
}
