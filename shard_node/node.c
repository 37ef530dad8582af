// SPDX-License-Identifier: Apache-2.0
// Builds the parts in the order in which they need each other, and ends them in the reverse one:
// first the router, which waits until every request has been answered, so everything that
// answers must still run; then the threads, the rows, the store.

#include "shard_node/node.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/cpu.h"
#include "proto/base/log.h"
#include "proto/base/machine.h"
#include "proto/base/mem.h"
#include "shard_node/dispatch.h"
#include "shard_node/keeper.h"
#include "shard_node/node_parts.h"

#define PATH_BYTES 4096

static uint64_t memory_limit(const struct node_params *given)
{
    return given->memory_bytes_max ? given->memory_bytes_max
                                   : machine_memory_bytes() / 100 * NODE_MEMORY_PERCENT;
}

static enum status open_data(struct node *node, const struct node_params *given, struct reason *why)
{
    const char *directory = given->directory;
    const struct store_params params = {.directory = directory,
                                        .disk_throttle_percent = given->disk_throttle_percent,
                                        .disk_full_percent = given->disk_full_percent,
                                        .open_files_max = given->open_files_max};
    enum status status = store_open(&params, &node->store, why);
    if (status != STATUS_OK)
        return status;

    char rows[PATH_BYTES];
    const int used = snprintf(rows, sizeof(rows), "%s/rows", directory);
    if (used < 1 || used >= PATH_BYTES)
        return reason_set(why, STATUS_INVALID, "directory", "the path has %d bytes; at most %d",
                          used, PATH_BYTES - 1);
    status = shelf_open(node->store, rows, &node->shelf, why);
    if (status == STATUS_OK)
        node->ingest = ingest_create(&(struct ingest_params){
            .store = node->store, .shelf = node->shelf, .memory_max = memory_limit(given)});
    return status;
}

static enum status start_threads(struct node *node, const struct node_params *given,
                                 struct reason *why)
{
    const struct indexer_params indexer = {.shelf = node->shelf,
                                           .store = node->store,
                                           .side = node->side,
                                           .memory_max = memory_limit(given)};
    node->writes = queue_create(NODE_QUEUE_MAX, false);
    node->reads = queue_create(NODE_QUEUE_MAX, false);
    node->exports = queue_create(NODE_QUEUE_MAX, false);
    enum status status =
        scan_pool_create(given->search_threads, cpu_best(), shelf_epoch(node->shelf), &node->pool);
    if (status == STATUS_OK)
        status = indexer_start(&indexer, &node->indexer);
    const struct audit_params audit = {.shelf = node->shelf, .side = node->side};
    if (status == STATUS_OK)
        status = audit_start(&audit, &node->audit);
    if (status == STATUS_OK)
        status = thread_start("writer", node_write_body, node, &node->writer);
    if (status == STATUS_OK)
        status = thread_start("exporter", node_export_body, node, &node->exporter);
    for (size_t r = 0; r < NODE_READERS && status == STATUS_OK; r++)
        status = thread_start("reader", node_read_body, node, &node->readers[r]);
    return status == STATUS_OK
               ? STATUS_OK
               : reason_set(why, status, "", "cannot start the threads of the node");
}

enum status node_start(const struct node_params *params, struct node **out, struct reason *why)
{
    const int64_t began_us = clock_now_us();
    struct node *node = mem_alloc(sizeof(*node));
    node->index = params->index;
    enum status status = node_side_start(params->http, RECO_VERSION, &node->side, why);
    if (status == STATUS_OK)
        status = open_data(node, params, why);
    if (status == STATUS_OK) {
        store_time_writes(node->store, node_side_fsync_seconds(node->side));
        node_refresh_totals(node); // the writer's from here on
        status = start_threads(node, params, why);
    }
    if (status == STATUS_OK) {
        const struct router_params router = {.bus = params->bus,
                                             .query_endpoint = params->query_endpoint,
                                             .bulk_endpoint = params->bulk_endpoint,
                                             .node = params->index,
                                             .handle = dispatch_request,
                                             .load = dispatch_load,
                                             .context = node};
        status = router_start(&router, &node->router, why);
    }
    if (status != STATUS_OK) {
        node_stop(&node);
        return status;
    }
    node_side_open(node->side, node);
    char quoted[LOG_QUOTE_BYTES];
    log_info("node_started",
             "node=%" PRIu32 " directory=%s records=%" PRIu64 " sequence=%" PRIu64
             " cpu=%s seconds=%.3f",
             node->index, log_quote(params->directory, quoted),
             (uint64_t)atomic_load(&node->records), store_sequence(node->store),
             cpu_level_name(cpu_best()), (double)(clock_now_us() - began_us) / 1e6);
    *out = node;
    return STATUS_OK;
}

static void stop_threads(struct node *node)
{
    atomic_store(&node->stopping, true);
    if (node->writes)
        queue_close(node->writes);
    if (node->reads)
        queue_close(node->reads);
    if (node->exports)
        queue_close(node->exports);
    thread_join(&node->writer);
    indexer_stop(&node->indexer); // after who gives it notice
    thread_join(&node->exporter);
    for (size_t r = 0; r < NODE_READERS; r++)
        thread_join(&node->readers[r]);
    scan_pool_destroy(&node->pool);
    audit_stop(&node->audit); // after who offers it answers
    queue_destroy(&node->writes);
    queue_destroy(&node->reads);
    queue_destroy(&node->exports);
}

static void checkpoint(struct node *node)
{
    struct reason why = {0};
    if (store_is_read_only(node->store))
        return;
    if (shelf_checkpoint_all(node->shelf, &why) == STATUS_OK) {
        keeper_save_all(&(struct keeper){.shelf = node->shelf, .store = node->store});
        return;
    }
    char quoted[LOG_QUOTE_BYTES];
    log_warn("no_checkpoint", "node=%" PRIu32 " reason=%s", node->index,
             log_quote(why.text, quoted)); // the next start looks up what is missing
}

void node_stop(struct node **node_pointer)
{
    struct node *node = *node_pointer;
    if (!node)
        return;
    node_side_drain(node->side);
    router_stop(&node->router);
    node_side_close(node->side); // before what it asks for is gone
    stop_threads(node);
    ingest_destroy(&node->ingest);
    if (node->shelf)
        checkpoint(node);
    shelf_close(&node->shelf);
    store_close(&node->store);
    node_side_stop(&node->side);
    log_info("node_stopped", "node=%" PRIu32, node->index);
    mem_free(node);
    *node_pointer = NULL;
}

const char *node_query_endpoint(const struct node *node)
{
    return router_query_endpoint(node->router);
}

const char *node_bulk_endpoint(const struct node *node)
{
    return router_bulk_endpoint(node->router);
}

int node_http_port(const struct node *node)
{
    return node_side_port(node->side);
}
