// SPDX-License-Identifier: Apache-2.0
// Messages of the Cluster service.

#include <assert.h>

#include "proto/wire/api_internal.h"

enum status api_encode_node_list(const struct api_node_list *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__ListNodesReply raw;
    reco__v1__list_nodes_reply__init(&raw);
    Reco__V1__NodeInfo *infos = wire_array(&memory, message->count, sizeof(*infos));
    raw.nodes = wire_array(&memory, message->count, sizeof(Reco__V1__NodeInfo *));
    raw.n_nodes = raw.nodes ? message->count : 0;
    for (size_t i = 0; i < raw.n_nodes; i++) {
        const struct api_node_info *node = &message->nodes[i];
        reco__v1__node_info__init(&infos[i]);
        infos[i].index = node->index;
        infos[i].address = wire_put_text(&memory, node->address);
        infos[i].state = wire_put_text(&memory, node->state);
        infos[i].records = node->records;
        infos[i].bytes = node->bytes;
        infos[i].in_flight = node->in_flight;
        infos[i].ping_ms = node->ping_ms;
        infos[i].read_only = node->read_only;
        infos[i].vshards = node->vshards;
        infos[i].queue_depth = node->queue_depth;
        raw.nodes[i] = &infos[i];
    }
    raw.version = wire_put_text(&memory, message->version);
    raw.space = wire_put_text(&memory, message->space);
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_node_list(struct bytes message, struct arena *arena,
                                 struct api_node_list *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__list_nodes_reply__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__ListNodesReply *raw = (const void *)found;
    struct wire_memory memory = {arena, STATUS_OK};
    struct api_node_info *nodes = wire_array(&memory, raw->n_nodes, sizeof(*nodes));
    for (size_t i = 0; nodes && i < raw->n_nodes; i++) {
        const Reco__V1__NodeInfo *info = raw->nodes[i];
        nodes[i] = (struct api_node_info){
            .index = info->index,
            .address = wire_text(info->address),
            .state = wire_text(info->state),
            .records = info->records,
            .bytes = info->bytes,
            .in_flight = info->in_flight,
            .ping_ms = info->ping_ms,
            .read_only = info->read_only,
            .vshards = info->vshards,
            .queue_depth = info->queue_depth,
        };
    }

    status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = (struct api_node_list){
            .version = wire_text(raw->version),
            .space = wire_text(raw->space),
            .nodes = nodes,
            .count = raw->n_nodes,
        };
    return status;
}
