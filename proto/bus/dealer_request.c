// SPDX-License-Identifier: Apache-2.0
// Requests, and the lists that they stand in: waiting, in flight, ended.
//
// A ticket is a number that is never used twice, and in its lowest bits peer and class, so that a
// request is found without a walk through all peers.

#include <assert.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/bus/dealer_internal.h"

#define PEER_BITS 5
#define CLASS_BITS 1

_Static_assert(DEALER_PEERS_MAX <= 1 << PEER_BITS, "a peer no longer fits into a ticket");
_Static_assert(DEALER_CLASSES <= 1 << CLASS_BITS, "a class no longer fits into a ticket");

uint64_t dealer_request_number(struct dealer *dealer)
{
    return dealer->next_number++ << (PEER_BITS + CLASS_BITS);
}

uint32_t dealer_request_peer(uint64_t ticket)
{
    return (uint32_t)(ticket >> CLASS_BITS) & ((1u << PEER_BITS) - 1);
}

enum dealer_class dealer_request_class(uint64_t ticket)
{
    return (ticket & 1) != 0 ? DEALER_BULK : DEALER_QUERY;
}

static bool fill_frame(zmq_msg_t *frame, struct bytes bytes)
{
    if (zmq_msg_init_size(frame, bytes.count) != 0)
        return false;

    if (bytes.count > 0)
        memcpy(zmq_msg_data(frame), bytes.data, bytes.count);
    return true;
}

struct dealer_ask *dealer_request_create(struct dealer *dealer,
                                         const struct dealer_request *request)
{
    struct dealer_ask *ask = mem_alloc(sizeof(*ask));
    if (!fill_frame(&ask->body, request->body)) {
        mem_free(ask);
        return NULL;
    }
    if (!fill_frame(&ask->rows, request->rows)) {
        (void)zmq_msg_close(&ask->body);
        mem_free(ask);
        return NULL;
    }

    ask->ticket = dealer_request_number(dealer) | (uint64_t)request->peer << CLASS_BITS |
                  (uint64_t)request->class;
    ask->type = request->type;
    ask->bytes = request->body.count + request->rows.count;
    if (request->trace)
        ask->trace = *request->trace;
    ask->sent_us = clock_now_us();
    ask->deadline_us = request->deadline_us;
    ask->done = request->done;
    ask->context = request->context;
    return ask;
}

void dealer_request_destroy(struct dealer_ask *ask)
{
    assert(!ask->list);

    (void)zmq_msg_close(&ask->body);
    (void)zmq_msg_close(&ask->rows);
    mem_free(ask);
}

void dealer_request_append(struct dealer_list *list, struct dealer_ask *ask)
{
    assert(!ask->list);

    ask->list = list;
    ask->next = NULL;
    ask->previous = list->last;
    if (list->last)
        list->last->next = ask;
    else
        list->first = ask;
    list->last = ask;
    list->count++;
}

void dealer_request_remove(struct dealer_ask *ask)
{
    struct dealer_list *list = ask->list;
    if (ask->previous)
        ask->previous->next = ask->next;
    else
        list->first = ask->next;
    if (ask->next)
        ask->next->previous = ask->previous;
    else
        list->last = ask->previous;
    list->count--;
    ask->list = NULL;
}

struct dealer_ask *dealer_request_find(const struct dealer_list *list, uint64_t ticket)
{
    struct dealer_ask *ask = list->first;
    while (ask && ask->ticket != ticket)
        ask = ask->next;
    return ask;
}
