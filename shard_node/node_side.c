// SPDX-License-Identifier: Apache-2.0
// node_side.c - the server runs from before the node opens until it has drained, so that
// readiness can be told all the while. What only the node knows is asked when somebody scrapes.

#include "shard_node/node_side.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>

#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/metrics.h"
#include "proto/http/http.h"
#include "shard_node/node_parts.h"

#define US 1e6
#define TYPES 15

static const char *const type_names[TYPES] = {
    "search", "fetch",  "write", "delete", "has",          "create",      "drop",      "stats",
    "bulk",   "commit", "hide",  "unhide", "export_begin", "export_next", "export_end"};
static const enum shard_type types[TYPES] = {
    SHARD_SEARCH, SHARD_FETCH,  SHARD_WRITE,        SHARD_DELETE,      SHARD_HAS,
    SHARD_CREATE, SHARD_DROP,   SHARD_STATS,        SHARD_BULK,        SHARD_BULK_COMMIT,
    SHARD_HIDE,   SHARD_UNHIDE, SHARD_EXPORT_BEGIN, SHARD_EXPORT_NEXT, SHARD_EXPORT_END,
};

static const char *const row_names[] = {
    [NODE_SIDE_WRITTEN] = "write",
    [NODE_SIDE_DELETED] = "delete",
    [NODE_SIDE_BULK] = "bulk",
};
#define ROW_KINDS 3

enum path_name { PATH_IVF, PATH_EXACT, PATHS };
static const char *const path_names[PATHS] = {"ivf", "exact"};

enum upkeep_name { UPKEEP_SPLIT, UPKEEP_MERGE, UPKEEP_REWRITE, UPKEEP_MOVE, UPKEEPS };
static const char *const upkeep_names[UPKEEPS] = {"split", "merge", "rewrite", "move"};

enum queue_name { QUEUE_SEARCH, QUEUE_READ, QUEUE_WRITE, QUEUES };
static const char *const queue_names[QUEUES] = {"search", "read", "write"};

static const struct {
    const char *name;
    const char *help;
} rocksdb[STORE_STATS] = {
    [STORE_STAT_SST_BYTES] = {"reco_rocksdb_sst_bytes", "Bytes of sorted files."},
    [STORE_STAT_MEMTABLE_BYTES] = {"reco_rocksdb_memtable_bytes", "Bytes of memtables."},
    [STORE_STAT_PENDING_COMPACTION_BYTES] = {"reco_rocksdb_pending_compaction_bytes",
                                             "Bytes that compaction has yet to rewrite, about."},
    [STORE_STAT_LEVEL0_FILES] = {"reco_rocksdb_level0_files", "Files on level 0."},
    [STORE_STAT_BLOB_BYTES] = {"reco_rocksdb_blob_bytes", "Bytes of blob files."},
    [STORE_STAT_BLOB_GARBAGE_BYTES] = {"reco_rocksdb_blob_garbage_bytes",
                                       "Bytes of blob files that nothing refers to."},
};

#define RECALL_GENERATIONS 2048 // whose numbers have a metric of their own

struct node_side {
    struct metrics *metrics;
    struct http_server *http;
    _Atomic(struct node *) node; // NULL: not open
    atomic_bool drains;
    struct metric *requests;
    struct metric *queue_wait;
    struct metric *search_seconds;
    struct metric *rows_written;
    struct metric *commit_seconds;
    struct metric *fsync_seconds;
    struct metric *searches;
    struct metric *training_seconds;
    struct metric *upkeep;
    struct metric *recall;
    // Measured when somebody scrapes:
    struct metric *rows;
    struct metric *index_rows;
    struct metric *index_waiting;
    struct metric *index_lists;
    struct metric *index_bytes;
    struct metric *queue_depth;
    struct metric *read_only;
    struct metric *disk_used;
    struct metric *crc_errors;
    struct metric *background_errors;
    struct metric *write_stopped;
    struct metric *rocksdb[STORE_STATS];
};

// ---------------------------------------------------------------- metrics

static void collect_indexes(struct node_side *side, struct node *node)
{
    struct shelf_index_totals totals;
    shelf_index_add_up(node->shelf, &totals);
    metric_set(side->index_rows, 0, (double)totals.rows);
    metric_set(side->index_waiting, 0, (double)totals.waiting);
    metric_set(side->index_lists, 0, (double)totals.lists);
    metric_set(side->index_bytes, 0, (double)totals.bytes);
}

static void collect(void *context)
{
    struct node_side *side = context;
    struct node *node = atomic_load(&side->node);
    if (!node)
        return;
    struct store_stats stats;
    store_statistics(node->store, &stats);
    metric_set(side->rows, 0, (double)atomic_load(&node->records));
    collect_indexes(side, node);
    metric_set(side->queue_depth, QUEUE_SEARCH, (double)scan_pool_depth(node->pool));
    metric_set(side->queue_depth, QUEUE_READ, (double)queue_count(node->reads));
    metric_set(side->queue_depth, QUEUE_WRITE, (double)queue_count(node->writes));
    metric_set(side->read_only, 0, store_is_read_only(node->store) ? 1 : 0);
    if (stats.disk_used >= 0)
        metric_set(side->disk_used, 0, stats.disk_used);
    metric_set(side->crc_errors, 0, (double)stats.crc_errors);
    if (!stats.has_database)
        return;
    metric_set(side->background_errors, 0, (double)stats.background_errors);
    metric_set(side->write_stopped, 0, stats.write_stopped ? 1 : 0);
    for (size_t i = 0; i < STORE_STATS; i++)
        for (size_t family = 0; family < STORE_STATS_FAMILIES; family++)
            metric_set(side->rocksdb[i], family, (double)stats.family[i][family]);
}

static struct metric *add(struct node_side *side, enum metric_kind kind, const char *name,
                          const char *help)
{
    struct metric_params params = {.name = name, .help = help, .kind = kind};
    if (kind == METRIC_HISTOGRAM) {
        params.bounds = metrics_seconds;
        params.bound_count = METRICS_SECONDS_COUNT;
    }
    return metrics_add(side->metrics, &params);
}

static void add_counted(struct node_side *side)
{
    side->requests = metrics_add(
        side->metrics, &(struct metric_params){.name = "reco_shard_requests_total",
                                               .help = "Requests of the coordinator, by type.",
                                               .kind = METRIC_COUNTER,
                                               .labels = {{"type", type_names, TYPES}}});
    side->queue_wait = add(side, METRIC_HISTOGRAM, "reco_shard_queue_wait_seconds",
                           "From the arrival of a search to its begin.");
    side->search_seconds = add(side, METRIC_HISTOGRAM, "reco_shard_search_seconds",
                               "From the begin of a search to its answer.");
    side->rows_written =
        metrics_add(side->metrics,
                    &(struct metric_params){.name = "reco_write_rows_total",
                                            .help = "Records that were stored or deleted durably.",
                                            .kind = METRIC_COUNTER,
                                            .labels = {{"operation", row_names, ROW_KINDS}}});
    side->commit_seconds = add(side, METRIC_HISTOGRAM, "reco_write_commit_seconds",
                               "Time in which a group of writes or a bulk load became durable and "
                               "visible.");
    side->fsync_seconds =
        add(side, METRIC_HISTOGRAM, "reco_fsync_seconds",
            "Time of each synced write to the database's log, its fsync included.");
}

// Labels of metrics are fixed when these are made; generations have numbers.
static void add_recall(struct node_side *side)
{
    static char text[RECALL_GENERATIONS][12];
    static const char *numbers[RECALL_GENERATIONS];
    static const char *const modalities[] = {"image", "text"};
    for (size_t i = 0; i < RECALL_GENERATIONS; i++) {
        (void)snprintf(text[i], sizeof(text[i]), "%zu", i);
        numbers[i] = text[i];
    }
    side->recall = metrics_add(
        side->metrics,
        &(struct metric_params){
            .name = "reco_shard_index_recall_estimate",
            .help = "Recall@10 of searches by the index: a running mean of searches that were "
                    "repeated exactly.",
            .kind = METRIC_GAUGE,
            .labels = {{"generation", numbers, RECALL_GENERATIONS}, {"modality", modalities, 2}}});
}

static void add_indexes(struct node_side *side)
{
    add_recall(side);
    side->searches = metrics_add(
        side->metrics, &(struct metric_params){.name = "reco_shard_searches_total",
                                               .help = "Searches that were answered, by path.",
                                               .kind = METRIC_COUNTER,
                                               .labels = {{"path", path_names, PATHS}}});
    side->training_seconds = add(side, METRIC_HISTOGRAM, "reco_shard_index_training_seconds",
                                 "Time in which an index learnt its lists.");
    side->upkeep = metrics_add(
        side->metrics,
        &(struct metric_params){.name = "reco_shard_index_upkeep_total",
                                .help = "Lists split, merged or written anew, and vectors moved.",
                                .kind = METRIC_COUNTER,
                                .labels = {{"work", upkeep_names, UPKEEPS}}});
    side->index_rows = add(side, METRIC_GAUGE, "reco_shard_index_rows",
                           "Slots that indexes cover; a record counts once for each modality.");
    side->index_waiting = add(side, METRIC_GAUGE, "reco_shard_index_waiting_rows",
                              "Slots behind the end of an index, which searches scan.");
    side->index_lists = add(side, METRIC_GAUGE, "reco_shard_index_lists", "Lists of all indexes.");
    side->index_bytes = add(side, METRIC_GAUGE, "reco_shard_index_bytes", "Memory of all indexes.");
}

static void add_measured(struct node_side *side)
{
    side->rows = add(side, METRIC_GAUGE, "reco_shard_rows", "Records of all memories here.");
    side->queue_depth = metrics_add(
        side->metrics,
        &(struct metric_params){.name = "reco_shard_queue_depth",
                                .help = "Requests that wait; of searches also those that run.",
                                .kind = METRIC_GAUGE,
                                .labels = {{"queue", queue_names, QUEUES}}});
    side->read_only = add(side, METRIC_GAUGE, "reco_readonly",
                          "1 since a write failed: nothing is stored until a restart.");
    side->disk_used =
        add(side, METRIC_GAUGE, "reco_disk_used_ratio", "Share of the file system that is used.");
    side->crc_errors = add(side, METRIC_TOTAL, "reco_crc_errors_total",
                           "Records that failed their checksum when they were read.");
    side->background_errors = add(side, METRIC_TOTAL, "reco_rocksdb_background_errors_total",
                                  "Errors of flushes and compactions.");
    side->write_stopped = add(side, METRIC_GAUGE, "reco_rocksdb_write_stopped",
                              "1 while the database holds writes up.");
    for (size_t i = 0; i < STORE_STATS; i++)
        side->rocksdb[i] = metrics_add(
            side->metrics, &(struct metric_params){
                               .name = rocksdb[i].name,
                               .help = rocksdb[i].help,
                               .kind = METRIC_GAUGE,
                               .labels = {{"cf", store_stats_families, STORE_STATS_FAMILIES}}});
}

void node_side_audited(struct node_side *side, uint32_t generation, enum modality modality,
                       float recall)
{
    if (side && generation < RECALL_GENERATIONS)
        metric_set(side->recall, 2 * (size_t)generation + modality, (double)recall);
}

void node_side_asked(struct node_side *side, enum shard_type type)
{
    for (size_t i = 0; side && i < TYPES; i++)
        if (types[i] == type)
            metric_count(side->requests, i, 1);
}

void node_side_searched(struct node_side *side, int64_t queue_us, int64_t search_us, bool exact)
{
    if (!side)
        return;
    metric_count(side->searches, exact ? PATH_EXACT : PATH_IVF, 1);
    metric_observe(side->queue_wait, 0, (double)queue_us / US);
    metric_observe(side->search_seconds, 0, (double)search_us / US);
}

void node_side_wrote(struct node_side *side, enum node_side_rows kind, uint64_t rows)
{
    if (side)
        metric_count(side->rows_written, kind, rows);
}

void node_side_committed(struct node_side *side, int64_t took_us)
{
    if (side)
        metric_observe(side->commit_seconds, 0, (double)took_us / US);
}

void node_side_trained(struct node_side *side, int64_t took_us)
{
    if (side)
        metric_observe(side->training_seconds, 0, (double)took_us / US);
}

void node_side_mended(struct node_side *side, const struct index_upkeep *upkeep)
{
    if (!side)
        return;
    metric_count(side->upkeep, UPKEEP_SPLIT, upkeep->splits);
    metric_count(side->upkeep, UPKEEP_MERGE, upkeep->merges);
    metric_count(side->upkeep, UPKEEP_REWRITE, upkeep->rewrites);
    metric_count(side->upkeep, UPKEEP_MOVE, upkeep->moves);
}

struct metric *node_side_fsync_seconds(struct node_side *side)
{
    return side ? side->fsync_seconds : NULL;
}

// ---------------------------------------------------------------- routes

static void on_healthz(void *context, const struct http_request *request, struct http_reply *reply)
{
    (void)context;
    (void)request;
    http_put(reply, 200, "ok\n");
}

static void on_readyz(void *context, const struct http_request *request, struct http_reply *reply)
{
    struct node_side *side = context;
    (void)request;
    if (atomic_load(&side->drains))
        http_put(reply, 503, "not ready: draining\n");
    else if (!atomic_load(&side->node))
        http_put(reply, 503, "not ready: opening\n");
    else
        http_put(reply, 200, "ready\n");
}

static void on_metrics(void *context, const struct http_request *request, struct http_reply *reply)
{
    struct node_side *side = context;
    (void)request;
    reply->content_type = "text/plain; version=0.0.4; charset=utf-8";
    if (metrics_write(side->metrics, &reply->body) != STATUS_OK)
        http_put(reply, 503, "no memory for the metrics\n");
}

static void put_error(unsigned code, const char *text, struct http_reply *reply)
{
    http_put(reply, code, "%s\n", text);
}

// Metrics ask the database, which may wait for a disk; so a worker does, and health goes on.
static const struct http_route routes[] = {
    {.path = "/healthz", .is_quick = true, .handle = on_healthz},
    {.path = "/readyz", .is_quick = true, .handle = on_readyz},
    {.path = "/metrics", .handle = on_metrics},
};

// ---------------------------------------------------------------- life

enum status node_side_start(const char *listen, const char *version, struct node_side **out,
                            struct reason *why)
{
    assert(version && out);

    struct node_side *side = mem_alloc(sizeof(*side));
    side->metrics = metrics_create();
    metrics_add_process(side->metrics, version);
    add_counted(side);
    add_indexes(side);
    add_measured(side);
    metrics_add_collector(side->metrics, collect, side, NULL);
    const struct http_params params = {
        .listen = listen,
        .field = "--http",
        .routes = routes,
        .route_count = sizeof(routes) / sizeof(routes[0]),
        .context = side,
        .put_error = put_error,
    };
    enum status status = listen ? http_start(&params, &side->http, why) : STATUS_OK;
    if (status != STATUS_OK) {
        node_side_stop(&side);
        return status;
    }
    if (side->http)
        log_info("http_started", "port=%d", http_port(side->http));
    *out = side;
    return STATUS_OK;
}

int node_side_port(const struct node_side *side)
{
    return side && side->http ? http_port(side->http) : 0;
}

void node_side_open(struct node_side *side, struct node *node)
{
    if (side)
        atomic_store(&side->node, node);
}

void node_side_drain(struct node_side *side)
{
    if (side)
        atomic_store(&side->drains, true);
}

void node_side_close(struct node_side *side)
{
    if (side)
        http_stop(&side->http);
}

void node_side_stop(struct node_side **side)
{
    assert(side);

    if (!*side)
        return;
    http_stop(&(*side)->http);
    metrics_destroy(&(*side)->metrics);
    mem_free(*side);
    *side = NULL;
}
