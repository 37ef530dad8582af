// SPDX-License-Identifier: Apache-2.0
// Measures the exact scan of a shard node, one pass over a set of queries for each line of its
// input, so that another program can take turns with it (peers_scan.py does).
//
// usage: scan_bench ROWS DIMENSION QUERIES BATCH K THREADS IDS
//
// ROWS holds half-precision rows, QUERIES float ones, both without any header. A pass asks all
// queries, BATCH in one search. Prints "ready COUNT BYTES_PER_SECOND" (rows, and how fast a plain
// sum reads memory here), then for each line read from stdin "NANOSECONDS SUM": the time of the
// pass and the sum of the ids found, cut to 32 bits. The ids of a pass, u32 [queries][K], are
// written to IDS before the first line is read.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proto/base/bytes.h"
#include "proto/base/mem.h"
#include "shard_node/rows_map.h"
#include "shard_node/scan_pool.h"
#include "tools/measure.h"

#define FILE_BYTES_MAX ((size_t)16 << 30)

struct bench {
    struct scan_task task; // first
    struct buffer rows;
    struct buffer queries;
    struct rows_view view;
    struct rows_slot *slots;
    uint64_t *live;
    size_t query_count;
    size_t batch;
    size_t k;
    size_t first;  // query of the search under way
    uint32_t *ids; // [query_count][k]
    struct scan_pool *pool;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool is_ended;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static _Noreturn void fail(const char *what)
{
    (void)fprintf(stderr, "scan_bench: %s\n", what);
    _Exit(1);
}

static struct buffer read_file(const char *path)
{
    struct buffer file = {0};
    if (bytes_read_file(path, FILE_BYTES_MAX, &file) != STATUS_OK)
        fail(path);
    return file;
}

static size_t number(const char *text)
{
    size_t value = strtoul(text, NULL, 10);
    if (value == 0)
        fail("DIMENSION, BATCH, K and THREADS are whole numbers of 1 or more");
    return value;
}

// All rows are live and have their numbers as ids.
static void make_view(struct bench *bench, size_t dimension)
{
    size_t count = bench->rows.count / (dimension * sizeof(uint16_t));
    bench->slots = mem_alloc_array(count + 1, sizeof(*bench->slots));
    bench->live = mem_alloc_array(count / 64 + 1, sizeof(*bench->live));
    for (size_t i = 0; i < count; i++) {
        bench->slots[i].id = i;
        bench->live[i / 64] |= UINT64_C(1) << (i % 64);
    }
    const uint16_t *rows = (const void *)bench->rows.data;
    bench->view = (struct rows_view){
        .dimension = dimension,
        .slot_count = (uint32_t)count,
        .live_count = count,
        .live = bench->live,
        .rows = {rows, rows},
        .slots = bench->slots,
    };
    bench->query_count = bench->queries.count / (dimension * sizeof(float));
}

static enum status prepare(struct scan_task *task)
{
    const struct bench *bench = (const struct bench *)task;
    size_t left = bench->query_count - bench->first;
    task->request = (struct scan_request){
        .view = &bench->view,
        .modality = MODALITY_IMAGE,
        .queries =
            (const float *)(const void *)bench->queries.data + bench->first * bench->view.dimension,
        .query_count = left < bench->batch ? left : bench->batch,
        .k = bench->k,
    };
    return STATUS_OK;
}

static void finish(struct scan_task *task, enum status status, const struct scan_lists *lists)
{
    struct bench *bench = (struct bench *)task;
    if (status != STATUS_OK)
        fail("a search failed");
    for (size_t i = 0; i < task->request.query_count; i++) {
        const struct scan_hit *hits = NULL;
        size_t count = scan_lists_get(lists, i, &hits);
        for (size_t j = 0; j < count; j++)
            bench->ids[(bench->first + i) * bench->k + j] = (uint32_t)hits[j].neighbour.id;
    }
    pthread_mutex_lock(&bench->lock);
    bench->is_ended = true;
    pthread_cond_signal(&bench->ended);
    pthread_mutex_unlock(&bench->lock);
}

static uint32_t pass(struct bench *bench)
{
    uint32_t sum = 0;
    for (bench->first = 0; bench->first < bench->query_count; bench->first += bench->batch) {
        bench->is_ended = false;
        if (scan_pool_submit(bench->pool, &bench->task) != STATUS_OK)
            fail("a search was refused");
        pthread_mutex_lock(&bench->lock);
        while (!bench->is_ended)
            pthread_cond_wait(&bench->ended, &bench->lock);
        pthread_mutex_unlock(&bench->lock);
    }
    for (size_t i = 0; i < bench->query_count * bench->k; i++)
        sum += bench->ids[i];
    return sum;
}

static void write_ids(const struct bench *bench, const char *path)
{
    size_t count = bench->query_count * bench->k;
    FILE *file = fopen(path, "wbe");
    if (!file || fwrite(bench->ids, sizeof(*bench->ids), count, file) != count || fclose(file) != 0)
        fail(path);
}

static void start(struct bench *bench, char **argv)
{
    double bandwidth = 0;
    bench->rows = read_file(argv[1]);
    bench->queries = read_file(argv[3]);
    bench->batch = number(argv[4]);
    bench->k = number(argv[5]);
    make_view(bench, number(argv[2]));
    bench->ids = mem_alloc_array(bench->query_count * bench->k + 1, sizeof(*bench->ids));
    bench->task.prepare = prepare;
    bench->task.finish = finish;
    pthread_mutex_init(&bench->lock, NULL);
    pthread_cond_init(&bench->ended, NULL);
    if (scan_pool_create((uint32_t)number(argv[6]), cpu_best(), NULL, &bench->pool) != STATUS_OK)
        fail("no threads");
    if (measure_read_bandwidth(&bandwidth, NULL) != STATUS_OK)
        fail("no memory to measure its bandwidth");
    (void)pass(bench);
    write_ids(bench, argv[7]);
    (void)printf("ready %u %.0f\n", bench->view.slot_count, bandwidth);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        (void)fprintf(stderr, "usage: %s ROWS DIMENSION QUERIES BATCH K THREADS IDS\n", argv[0]);
        return 2;
    }
    struct bench bench = {.is_ended = false};
    start(&bench, argv);

    char line[64];
    while (fgets(line, sizeof(line), stdin)) {
        uint64_t begun = now_ns();
        uint32_t sum = pass(&bench);
        (void)printf("%llu %u\n", (unsigned long long)(now_ns() - begun), sum);
        (void)fflush(stdout);
    }
    scan_pool_destroy(&bench.pool);
    mem_free(bench.ids);
    mem_free(bench.slots);
    mem_free(bench.live);
    buffer_deinit(&bench.rows);
    buffer_deinit(&bench.queries);
    return 0;
}
