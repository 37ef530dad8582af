// SPDX-License-Identifier: Apache-2.0
// Nothing is decoded here: the bus thread only looks at the type. Queues are bounded, and a full
// one is an answer to the asker, not a wait.

#include "shard_node/dispatch.h"

#include <assert.h>

#include "proto/base/mem.h"
#include "shard_node/node_parts.h"

static void enqueue(struct node *node, struct queue *queue, struct router_request *request)
{
    const enum status status = queue_push(queue, request);
    if (status == STATUS_OK)
        return;
    struct reason why = {0};
    reason_set(&why, status, "", "node %u has %d requests waiting", (unsigned)node->index,
               NODE_QUEUE_MAX);
    node_reply_failure(&request, status, &why);
}

void dispatch_request(void *context, struct router_request *request)
{
    struct node *node = context;
    struct reason why = {0};
    node_side_asked(node->side, request->type);
    switch (request->type) {
    case SHARD_SEARCH:
        node_search(node, request);
        return;
    case SHARD_FETCH:
    case SHARD_HAS:
    case SHARD_STATS:
        enqueue(node, node->reads, request);
        return;
    case SHARD_EXPORT_BEGIN:
    case SHARD_EXPORT_NEXT:
    case SHARD_EXPORT_END:
        enqueue(node, node->exports, request);
        return;
    case SHARD_WRITE:
    case SHARD_DELETE:
    case SHARD_HIDE:
    case SHARD_UNHIDE:
    case SHARD_CREATE:
    case SHARD_DROP:
    case SHARD_BULK:
    case SHARD_BULK_COMMIT:
        enqueue(node, node->writes, request);
        return;
    case SHARD_NOTHING:
    case SHARD_HELLO:
    case SHARD_PING:
    case SHARD_CANCEL:
        break;
    }
    reason_set(&why, STATUS_UNSUPPORTED, "type", "%d; this node does not know it",
               (int)request->type);
    node_reply_failure(&request, STATUS_UNSUPPORTED, &why);
}

uint32_t node_queue_depth(struct node *node)
{
    return (uint32_t)(scan_pool_depth(node->pool) + queue_count(node->writes) +
                      queue_count(node->reads));
}

void dispatch_load(void *context, struct shard_ping_reply *load)
{
    struct node *node = context;
    *load = (struct shard_ping_reply){
        .queue_depth = node_queue_depth(node),
        .records = atomic_load(&node->records),
        .bytes = atomic_load(&node->bytes),
        .read_only = store_is_read_only(node->store),
    };
}

void node_reply_failure(struct router_request **request, enum status status,
                        const struct reason *why)
{
    assert(status != STATUS_OK);

    router_reply(request, &(struct router_answer){.status = status, .why = why});
}

struct buffer node_body(void)
{
    return (struct buffer){.count_max = BODY_BYTES_MAX};
}

void node_reply_body(struct router_request **request, enum status status, struct buffer *body,
                     void *rows, size_t rows_bytes)
{
    if (status == STATUS_OK) {
        router_reply(request, &(struct router_answer){.status = STATUS_OK,
                                                      .body = body,
                                                      .rows = rows,
                                                      .rows_bytes = rows_bytes});
        return;
    }
    struct reason why = {0};
    reason_set(&why, STATUS_NO_MEMORY, "", "the reply does not fit %u bytes: ask for less at once",
               BODY_BYTES_MAX);
    buffer_deinit(body);
    mem_free(rows);
    node_reply_failure(request, STATUS_NO_MEMORY, &why);
}

bool node_drop_cancelled(struct router_request **request)
{
    if (!router_is_cancelled(*request))
        return false;
    struct reason why = {0};
    reason_set(&why, STATUS_CANCELLED, "", "nobody waits for the answer any more");
    node_reply_failure(request, STATUS_CANCELLED, &why);
    return true;
}
