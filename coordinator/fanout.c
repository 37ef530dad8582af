// SPDX-License-Identifier: Apache-2.0
// fanout.c - one ticket for each request on its way, in a list of its ask.
//
// on_end may free its ask or begin it anew: after it nothing of the ask is touched.

#include "coordinator/fanout.h"

#include <assert.h>
#include <errno.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

struct fanout {
    struct dealer *dealer; // NULL without nodes
    uint32_t count;
    uint32_t up;               // bit for each node
    uint32_t downs[NODES_MAX]; // times a node went down
    struct telemetry *telemetry;
    void (*changed)(void *context);
    void *context;
    size_t waiting; // tickets of all asks
};

struct fanout_ticket {
    struct fanout_ask *ask;
    struct fanout_ticket *next;
    struct fanout_ticket *previous;
    uint64_t number; // the dealer's
    uint32_t tag;
};

// ---------------------------------------------------------------- nodes

static void on_changed(void *context, uint32_t peer, bool up)
{
    struct fanout *fanout = context;
    uint32_t bit = 1u << peer;
    bool was_up = (fanout->up & bit) != 0;
    if (up == was_up)
        return;
    fanout->up ^= bit;
    if (up) {
        log_info("node_up", "node=%u", peer);
    } else {
        fanout->downs[peer]++;
        log_warn("node_down", "node=%u", peer);
    }
    if (fanout->changed)
        fanout->changed(fanout->context);
}

enum status fanout_create(const struct fanout_params *params, struct fanout **out,
                          struct reason *why)
{
    assert(params && out);
    assert(params->bus || params->count == 0);
    _Static_assert(NODES_MAX <= 32, "a mask has 32 bits");

    if (params->count > NODES_MAX)
        return reason_set(why, STATUS_INVALID, "nodes", "%zu nodes; at most %d", params->count,
                          NODES_MAX);
    struct fanout *fanout = mem_alloc(sizeof(*fanout));
    fanout->count = (uint32_t)params->count;
    fanout->telemetry = params->telemetry;
    fanout->changed = params->changed;
    fanout->context = params->context;
    enum status status = STATUS_OK;
    if (params->count > 0)
        status = dealer_create(params->bus, on_changed, fanout, &fanout->dealer, why);
    if (status == STATUS_OK && fanout->dealer && params->are_threads)
        dealer_trust_threads(fanout->dealer);
    for (size_t i = 0; status == STATUS_OK && i < params->count; i++) {
        uint32_t peer = 0;
        status = dealer_add_peer(fanout->dealer, params->nodes[i].query_endpoint,
                                 params->nodes[i].bulk_endpoint, &peer, why);
        assert(status != STATUS_OK || peer == i);
    }
    if (status != STATUS_OK) {
        fanout_destroy(&fanout);
        return status;
    }
    *out = fanout;
    return STATUS_OK;
}

void fanout_destroy(struct fanout **fanout)
{
    assert(fanout);

    if (!*fanout)
        return;
    dealer_destroy(&(*fanout)->dealer);
    mem_free(*fanout);
    *fanout = NULL;
}

uint32_t fanout_count(const struct fanout *fanout)
{
    return fanout->count;
}

bool fanout_is_up(const struct fanout *fanout, uint32_t node)
{
    assert(node < fanout->count);

    return (fanout->up & 1u << node) != 0;
}

uint32_t fanout_up_mask(const struct fanout *fanout)
{
    return fanout->up;
}

uint32_t fanout_downs(const struct fanout *fanout, uint32_t node)
{
    assert(node < fanout->count);

    return fanout->downs[node];
}

enum status fanout_all_up(const struct fanout *fanout, struct reason *why)
{
    for (uint32_t node = 0; node < fanout->count; node++)
        if (!fanout_is_up(fanout, node))
            return reason_set(why, STATUS_UNAVAILABLE, NULL,
                              "node %u is down; this needs all %u nodes", node, fanout->count);
    return STATUS_OK;
}

void fanout_info(const struct fanout *fanout, uint32_t node, struct dealer_peer_info *out)
{
    assert(node < fanout->count && out);

    dealer_peer_info(fanout->dealer, node, out);
}

size_t fanout_waiting(const struct fanout *fanout)
{
    return fanout->waiting;
}

enum status fanout_poll(struct fanout *fanout, struct pollfd *fds, size_t count, int64_t until_us)
{
    assert(fanout && (fds || count == 0));

    if (fanout->dealer)
        return dealer_poll(fanout->dealer, fds, count, until_us);
    int got = poll(fds, (nfds_t)count, clock_poll_ms(until_us, 60000));
    return got >= 0 || errno == EINTR ? STATUS_OK : STATUS_IO;
}

// ---------------------------------------------------------------- asks

enum status fanout_reply_status(const struct fanout_reply *reply, struct reason *why)
{
    if (reply->status == STATUS_OK)
        return STATUS_OK;
    return reason_set(why, reply->status, NULL, "%.*s", (int)reply->text.bytes,
                      reply->text.data ? reply->text.data : "");
}

void fanout_ask_begin(struct fanout_ask *ask, struct fanout *fanout,
                      const struct fanout_handler *handler)
{
    assert(ask && fanout && handler && handler->on_reply && handler->on_end);
    assert(ask->waiting == 0);

    *ask = (struct fanout_ask){.fanout = fanout, .handler = *handler};
}

static void unlink_ticket(struct fanout_ticket *ticket)
{
    struct fanout_ask *ask = ticket->ask;
    if (ticket->previous)
        ticket->previous->next = ticket->next;
    else
        ask->tickets = ticket->next;
    if (ticket->next)
        ticket->next->previous = ticket->previous;
    ask->waiting--;
    ask->fanout->waiting--;
}

static void on_done(void *context, const struct dealer_reply *reply)
{
    struct fanout_ticket *ticket = context;
    struct fanout_ask *ask = ticket->ask;
    struct fanout_handler handler = ask->handler;
    struct fanout_reply told = {
        .node = reply->peer,
        .tag = ticket->tag,
        .status = reply->status,
        .text = reply->text,
        .body = reply->body,
        .rows = reply->rows,
    };
    telemetry_node(ask->fanout->telemetry, reply->peer, reply->status, reply->took_us);
    unlink_ticket(ticket);
    mem_free(ticket);
    bool is_last = ask->waiting == 0;

    // on_reply must leave the ask alone; on_end may do as it likes.
    handler.on_reply(handler.context, &told);
    if (is_last)
        handler.on_end(handler.context);
}

enum status fanout_send(struct fanout_ask *ask, const struct fanout_send *send, struct reason *why)
{
    assert(ask && ask->fanout && send && send->node < ask->fanout->count);

    if (!fanout_is_up(ask->fanout, send->node)) {
        telemetry_node(ask->fanout->telemetry, send->node, STATUS_UNAVAILABLE, -1);
        return reason_set(why, STATUS_UNAVAILABLE, NULL, "node %u is down", send->node);
    }

    struct fanout_ticket *ticket = mem_alloc(sizeof(*ticket));
    ticket->ask = ask;
    ticket->tag = send->tag;
    struct dealer_request request = {
        .peer = send->node,
        .class = send->class,
        .type = send->type,
        .body = send->body,
        .rows = send->rows,
        .deadline_us = send->deadline_us,
        .trace = send->trace,
        .done = on_done,
        .context = ticket,
    };
    enum status status = dealer_send(ask->fanout->dealer, &request, &ticket->number);
    if (status != STATUS_OK) {
        telemetry_node(ask->fanout->telemetry, send->node, status, -1);
        mem_free(ticket);
        return reason_set(why, status, NULL, "node %u: %s", send->node,
                          status == STATUS_UNAVAILABLE ? "it is down"
                          : status == STATUS_EXHAUSTED ? "too many requests wait for it"
                                                       : status_text(status));
    }
    ticket->next = ask->tickets;
    if (ask->tickets)
        ask->tickets->previous = ticket;
    ask->tickets = ticket;
    ask->waiting++;
    ask->fanout->waiting++;
    return STATUS_OK;
}

uint32_t fanout_ask_waiting(const struct fanout_ask *ask)
{
    return ask->waiting;
}

void fanout_ask_cancel(struct fanout_ask *ask)
{
    assert(ask);

    while (ask->tickets) {
        struct fanout_ticket *ticket = ask->tickets;
        dealer_cancel(ask->fanout->dealer, ticket->number);
        unlink_ticket(ticket);
        mem_free(ticket);
    }
}
