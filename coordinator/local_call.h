// SPDX-License-Identifier: Apache-2.0
// local_call.h - calls from another thread of this process, into the loop and back.
//
// The caller puts an event into the loop's queue and waits on a queue of its own; the loop
// answers through the same handlers as gRPC. Of a stream one message at a time changes hands in
// each direction: send waits until the handler wants it, the handler until it has been received.
//
//   caller: OPEN ----> [room <- MESSAGE -> ...] -> END -> done <- -> CLOSE -> closed <-
//                      [message <- TAKEN -> ...]     \-> CANCEL, where it leaves earlier
//
// Thread-safety: the caller's functions may be used by any thread, one stream by one at a
// time; local_calls_handle() and what it leads to is the loop's.

#ifndef RECO_COORDINATOR_LOCAL_CALL_H
#define RECO_COORDINATOR_LOCAL_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/service.h"
#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"

#define LOCAL_CALLS_MAX 256 // at once, from all threads

struct local_calls;
struct local_call;

struct local_calls *local_calls_create(void);         // NULL when no file descriptor is left
void local_calls_destroy(struct local_calls **calls); // with none under way; NULL is allowed

// --- the loop's side

int local_calls_fd(const struct local_calls *calls);

// Hands what has come to the service; `refuse`: new calls are told UNAVAILABLE.
void local_calls_handle(struct local_calls *calls, struct service *service, bool refuse);

// Ends those who wait for all nodes, when all are up or their time has passed.
void local_calls_check_nodes(struct local_calls *calls, const struct fanout *fanout);

int64_t local_calls_next_us(const struct local_calls *calls); // when one of them is due
size_t local_calls_count(const struct local_calls *calls);    // under way

// --- the caller's side

struct local_request {
    enum api_method method;
    struct bytes message; // unary only; borrowed until the end
    int64_t deadline_us;
    const struct trace *trace; // borrowed; NULL: one is begun
    // Unary: asked again and again while it waits; true cancels the call. NULL: nobody leaves.
    bool (*is_gone)(void *context);
    void *context;
};

enum status local_call_unary(struct local_calls *calls, const struct local_request *request,
                             struct buffer *reply, struct reason *why) MUST_CHECK;
enum status local_call_open(struct local_calls *calls, const struct local_request *request,
                            struct local_call **out, struct reason *why) MUST_CHECK;
enum status local_call_send(struct local_call *call, struct bytes message) MUST_CHECK;
void local_call_close(struct local_call *call); // sends no more; never waits
enum status local_call_receive(struct local_call *call, struct buffer *message,
                               bool *ended) MUST_CHECK;
enum status local_call_finish(struct local_call **call, struct buffer *reply,
                              struct reason *why) MUST_CHECK;
enum status local_call_wait_nodes(struct local_calls *calls, int64_t deadline_us) MUST_CHECK;

// Makes local_calls_fd() readable without a call.
void local_calls_wake(struct local_calls *calls);

#endif
