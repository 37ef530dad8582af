// SPDX-License-Identifier: Apache-2.0
// Everything inside this process: the data directory is locked, each of its nodes
// started behind inproc:// endpoints of one bus, and a coordinator over them. It is
// the same code as in the programs of a cluster, called without a network.

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/coordinator.h"
#include "coordinator/datadir.h"
#include "proto/base/clock.h"
#include "proto/base/cpu.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/bus/bus.h"
#include "shard_node/node.h"
#include "tools/client_internal.h"

#define NODES_WAIT_US (30 * (int64_t)1000000) // inproc: only the row files take time
#define GRACE_US (10 * (int64_t)1000000)

// What handles of several threads share.
struct house {
    struct datadir *datadir;
    struct bus *bus;
    struct node *nodes[NODES_MAX];
    uint32_t node_count;
    struct coordinator *coordinator;
    char path[CLIENT_PATH_BYTES];
};

struct local {
    struct client base; // first
    struct house *house;
    bool owner; // the handle that closes the house
};

static void house_close(struct house *house)
{
    coordinator_stop(&house->coordinator, GRACE_US);
    for (uint32_t i = 0; i < house->node_count; i++)
        node_stop(&house->nodes[i]);
    bus_close(&house->bus);
    datadir_close(&house->datadir);
    mem_free(house);
}

// --- calls

// A request id is metadata of gRPC; without a network the coordinator makes its own.
static enum status local_call(struct client *client, enum api_method method, struct bytes request,
                              struct buffer *reply, struct reason *why)
{
    struct local *local = (struct local *)client;
    return coordinator_call(local->house->coordinator, method, request, client_deadline_us(client),
                            reply, why);
}

static enum status local_stream_open(struct client *client, enum api_method method, void **out,
                                     struct reason *why)
{
    struct local *local = (struct local *)client;
    struct coordinator_stream *stream = NULL;
    enum status status = coordinator_stream_open(local->house->coordinator, method, &stream, why);
    if (!status)
        *out = stream;
    return status;
}

static enum status local_stream_send(void *stream, struct bytes message)
{
    return coordinator_stream_send(stream, message);
}

static void local_stream_close(void *stream)
{
    coordinator_stream_close(stream);
}

static enum status local_stream_receive(void *stream, struct buffer *message, bool *ended)
{
    return coordinator_stream_receive(stream, message, ended);
}

static enum status local_stream_finish(void **stream, struct buffer *reply, struct reason *why)
{
    struct coordinator_stream *inner = *stream;
    *stream = NULL;
    return coordinator_stream_finish(&inner, reply, why);
}

static void local_close(struct client *client)
{
    struct local *local = (struct local *)client;
    if (local->owner)
        house_close(local->house);
    mem_free(local);
}

static enum status local_share(struct client *client, struct client **out, struct reason *why)
{
    (void)why;
    struct local *copy = mem_alloc(sizeof(*copy));
    *copy = *(struct local *)client;
    copy->owner = false;
    *out = &copy->base;
    return STATUS_OK;
}

static const struct client_calls local_calls = {
    .call = local_call,
    .stream_open = local_stream_open,
    .stream_send = local_stream_send,
    .stream_close = local_stream_close,
    .stream_receive = local_stream_receive,
    .stream_finish = local_stream_finish,
    .share = local_share,
    .close = local_close,
};

// --- opening

static enum status open_data(const struct options *options, enum client_need need,
                             struct house *house, struct reason *why)
{
    enum status status = client_data_path(options, house->path, why);
    if (status)
        return status;

    struct datadir_params params = {.path = house->path, .create = need == CLIENT_WRITE};
    status = datadir_open(&params, &house->datadir, why);
    if (status == STATUS_NOT_FOUND)
        return reason_set(why, STATUS_NOT_FOUND, house->path,
                          "no data directory there; `reco memory build NAME SOURCE` makes one, "
                          "--data DIR names another");
    return status;
}

static enum status start_nodes(struct house *house, struct reason *why)
{
    enum status status = bus_open(NULL, &house->bus, why);

    for (uint32_t i = 0; i < datadir_nodes(house->datadir) && !status; i++) {
        char directory[DATADIR_PATH_BYTES];
        char query[BUS_ENDPOINT_BYTES];
        char bulk[BUS_ENDPOINT_BYTES];
        datadir_node_path(house->datadir, i, directory);
        (void)snprintf(query, sizeof(query), "inproc://node-%u-query", i);
        (void)snprintf(bulk, sizeof(bulk), "inproc://node-%u-bulk", i);
        struct node_params params = {
            .bus = house->bus,
            .directory = directory,
            .query_endpoint = query,
            .bulk_endpoint = bulk,
            .index = i,
            // A query keeps all nodes busy at once: together they use what there is.
            .search_threads = ((uint32_t)cpu_count() + datadir_nodes(house->datadir) - 1) /
                              datadir_nodes(house->datadir),
        };
        status = node_start(&params, &house->nodes[i], why);
        if (!status)
            house->node_count = i + 1;
    }
    return status;
}

static enum status start_coordinator(const struct options *options, struct house *house,
                                     struct reason *why)
{
    struct coordinator_node nodes[NODES_MAX] = {{0}};
    for (uint32_t i = 0; i < house->node_count; i++) {
        nodes[i].query_endpoint = node_query_endpoint(house->nodes[i]);
        nodes[i].bulk_endpoint = node_bulk_endpoint(house->nodes[i]);
    }

    struct coordinator_params params = {
        .data_directory = house->datadir ? datadir_path(house->datadir) : NULL,
        .bus = house->bus,
        .nodes = nodes,
        .node_count = house->node_count,
        .nodes_are_threads = true,
        .clip = {.directory = options->model, .device = options->device, .hasty = true},
        .head = options->head,
        .listen = NULL,
    };
    enum status status = coordinator_start(&params, &house->coordinator, why);
    if (status || !house->node_count)
        return status;

    status = coordinator_wait_nodes(house->coordinator, clock_deadline_in_us(NODES_WAIT_US));
    if (status)
        return reason_set(why, STATUS_UNAVAILABLE, NULL,
                          "the nodes of %s did not come up within %d s", house->path,
                          (int)(NODES_WAIT_US / 1000000));
    return STATUS_OK;
}

enum status client_local_open(const struct options *options, enum client_need need,
                              struct client **out, struct reason *why)
{
    struct house *house = mem_alloc(sizeof(*house));
    enum status status = STATUS_OK;

    if (need != CLIENT_ENCODER)
        status = open_data(options, need, house, why);
    if (!status && need != CLIENT_ENCODER)
        status = start_nodes(house, why);
    if (!status)
        status = start_coordinator(options, house, why);
    if (status) {
        house_close(house);
        return status;
    }

    struct local *local = mem_alloc(sizeof(*local));
    *local = (struct local){
        .base = {.calls = &local_calls,
                 .name = house->path,
                 .deadline_ms = options->deadline_ms,
                 .request_id = options->request_id},
        .house = house,
        .owner = true,
    };
    *out = &local->base;
    return STATUS_OK;
}
