// SPDX-License-Identifier: Apache-2.0
// Passes go on until PASS_SECONDS are spent, at least two, the first of which only warms up.
//
// Recall: the score of each row that was found, from the file's floats and in double, is held
// against that of the k-th best. Without a file of truths that is the score of an exact scan, whose
// bits the index' own scores have too.

#include "tools/index_bench.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "proto/base/clock.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"
#include "shard_node/index/index.h"
#include "tools/exact_least.h"
#include "tools/npyfile.h"
#include "tools/unit_rows.h"

#define PASS_SECONDS 0.3
#define PASSES_MIN 2
#define CLOSE 1e-6 // scores nearer than this are a tie

struct set {
    float *queries; // [count][dimension]
    size_t count;
    double *least; // [count]: the score of the k-th best
    bool by_file;  // `least` is of the file's floats, else of the scan
};

struct worker {
    struct index_bench *bench;
    struct index_scratch *scratch;
    struct thread *thread;
    struct queue *begin; // one token for each range
    uint64_t codes, refined, rows;
};

struct index_bench {
    struct index_bench_params params;
    struct index_bench_about about;
    struct npyfile *file;
    struct unit_rows rows;
    struct epoch *epoch;
    struct index *index;
    struct set sets[INDEX_BENCH_SETS_MAX];
    size_t set_count;
    struct worker workers[INDEX_BENCH_THREADS_MAX];
    size_t worker_count;
    struct queue *end; // of all workers
    // of the pass under way
    const struct set *set;
    uint32_t probes;
    atomic_size_t next;    // query
    size_t last;           // of the range
    struct scan_hit *hits; // [queries][k]
    size_t *hit_counts;    // [queries]
    size_t room;           // queries that both have room for
};

// --- the index

// Rows at equal distances: the file's order may be anything.
static uint32_t *choose_sample(const struct index_bench *bench, uint32_t count)
{
    uint32_t *sample = mem_alloc_array(count, sizeof(*sample));
    for (uint64_t i = 0; i < count; i++)
        sample[i] = (uint32_t)(i * bench->about.rows / count);
    return sample;
}

static enum status build(struct index_bench *bench, struct reason *why)
{
    const struct index_params params = {
        .rows = {.dimension = (uint32_t)bench->about.dimension,
                 .rows = bench->rows.halves,
                 .slots = bench->rows.slots},
        .epoch = bench->epoch,
        .level = cpu_best(),
        .list_vectors = bench->params.list_vectors,
        .extra_bits = bench->params.extra_bits,
        .threads = bench->params.threads,
        .seed = bench->params.seed,
    };
    uint64_t rows = bench->about.rows;
    uint32_t wanted = index_sample_count(&params, rows);
    uint32_t count = wanted < rows ? wanted : (uint32_t)rows;
    uint32_t *sample = choose_sample(bench, count);

    int64_t start = clock_now_us();
    enum status status = index_train(&params, sample, count, rows, &bench->index, why);
    if (!status)
        status = index_extend(bench->index, (uint32_t)rows, NULL, why);
    bench->about.build_seconds = (double)(clock_now_us() - start) / 1e6;
    mem_free(sample);
    if (status)
        return status;

    struct index_about about;
    index_describe(bench->index, &about);
    bench->about.lists = about.lists;
    bench->about.index_bytes = (double)about.bytes / (double)rows;
    bench->about.row_bytes =
        (double)(bench->about.dimension * sizeof(uint16_t) + sizeof(struct rows_slot));
    return STATUS_OK;
}

// --- workers

// Answers queries until the range is at its end.
static void answer_range(struct worker *worker)
{
    struct index_bench *bench = worker->bench;
    uint32_t k = bench->params.k;
    size_t dimension = bench->about.dimension;
    for (;;) {
        size_t number = atomic_fetch_add_explicit(&bench->next, 1, memory_order_relaxed);
        if (number >= bench->last)
            return;
        const struct index_query query = {
            .query = bench->set->queries + number * dimension, .k = k, .probes = bench->probes};
        struct index_counts counts = {.probes = 0};
        bench->hit_counts[number] =
            index_search(bench->index, worker->scratch, &query, bench->hits + number * k, &counts);
        worker->codes += counts.codes;
        worker->refined += counts.refined;
        worker->rows += counts.rows;
    }
}

static void work(struct thread *self, void *context)
{
    struct worker *worker = context;
    thread_ready(self, STATUS_OK);
    while (queue_pop(worker->begin, DEADLINE_NONE)) {
        answer_range(worker);
        if (queue_push(worker->bench->end, worker))
            return;
    }
}

static enum status start_workers(struct index_bench *bench, struct reason *why)
{
    bench->end = queue_create(INDEX_BENCH_THREADS_MAX, false);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < bench->params.threads && !status; i++) {
        struct worker *worker = &bench->workers[i];
        worker->bench = bench;
        worker->scratch = index_scratch_create(bench->epoch);
        if (!worker->scratch)
            return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for a thread's search");
        worker->begin = queue_create(1, false);
        bench->worker_count++;
        status = thread_start("reco-bench", work, worker, &worker->thread);
    }
    return status ? reason_set(why, status, NULL, "no thread for searching") : STATUS_OK;
}

static void stop_workers(struct index_bench *bench)
{
    for (size_t i = 0; i < INDEX_BENCH_THREADS_MAX; i++) {
        struct worker *worker = &bench->workers[i];
        if (worker->begin)
            queue_close(worker->begin);
        thread_join(&worker->thread);
        queue_destroy(&worker->begin);
        index_scratch_destroy(&worker->scratch);
    }
    queue_destroy(&bench->end);
}

// One thread answers here, so that nobody is waited for.
static void answer(struct index_bench *bench, size_t first, size_t last, uint32_t threads)
{
    atomic_store(&bench->next, first);
    bench->last = last;
    if (threads == 1) {
        answer_range(&bench->workers[0]);
        return;
    }
    for (size_t i = 0; i < threads; i++) {
        enum status status = queue_push(bench->workers[i].begin, bench);
        assert(!status); // it has room for one, and the one before was taken
        (void)status;
    }
    for (size_t i = 0; i < threads; i++)
        (void)queue_pop(bench->end, DEADLINE_NONE);
}

// --- what is true

// By an exact scan of the halves.
static enum status find_truth(struct index_bench *bench, struct set *set, struct reason *why)
{
    const struct exact_least_params params = {
        .rows = &bench->rows,
        .queries = set->queries,
        .query_count = set->count,
        .k = bench->params.k,
        .threads = bench->params.threads,
    };
    return exact_least_find(&params, set->least, why);
}

static double exact_score(const struct index_bench *bench, const float *query, uint64_t row,
                          float *room)
{
    double sum = 0;
    npyfile_read_row(bench->file, row, room);
    for (size_t i = 0; i < bench->about.dimension; i++)
        sum += (double)query[i] * (double)room[i];
    return sum;
}

static enum status read_truth(struct index_bench *bench, struct set *set, const char *path,
                              struct reason *why)
{
    struct npyfile *file = NULL;
    struct reason inner = {.text = ""};
    enum status status = npyfile_open_ids(path, &file, &inner);
    if (status)
        return reason_set(why, status, path, "%s", inner.text);
    const struct npyfile_info *info = npyfile_info(file);
    uint32_t k = bench->params.k;
    if (info->rows < 1 || info->columns < k)
        status = reason_set(why, STATUS_INVALID, path, "%llu rows of %llu ids; k is %u",
                            (unsigned long long)info->rows, (unsigned long long)info->columns, k);
    if (info->rows < set->count)
        set->count = (size_t)info->rows;

    float *room = mem_alloc_array(bench->about.dimension, sizeof(*room));
    for (size_t i = 0; i < set->count && !status; i++) {
        int64_t id = npyfile_read_id(file, i, k - 1);
        if (id < 0 || (uint64_t)id >= bench->about.rows)
            status = reason_set(why, STATUS_INVALID, path, "row %zu has id %lld: 0 to %llu exist",
                                i, (long long)id, (unsigned long long)(bench->about.rows - 1));
        else
            set->least[i] =
                exact_score(bench, set->queries + i * bench->about.dimension, (uint64_t)id, room);
    }
    mem_free(room);
    npyfile_close(&file);
    return status;
}

static enum status read_queries(struct index_bench *bench, struct set *set, const char *path,
                                struct reason *why)
{
    enum status status =
        unit_rows_read_floats(path, bench->rows.dimension, &set->queries, &set->count, why);
    if (status)
        return status;
    set->least = mem_try_alloc_array(set->count, sizeof(double));
    return set->least ? STATUS_OK
                      : reason_set(why, STATUS_NO_MEMORY, path, "no memory for the queries");
}

// Room for the hits of so many queries.
static enum status make_room(struct index_bench *bench, size_t count, struct reason *why)
{
    if (count <= bench->room)
        return STATUS_OK;
    mem_free(bench->hits);
    mem_free(bench->hit_counts);
    bench->room = 0;
    bench->hits = mem_try_alloc_array(count * bench->params.k, sizeof(*bench->hits));
    bench->hit_counts = mem_try_alloc_array(count, sizeof(*bench->hit_counts));
    if (!bench->hits || !bench->hit_counts)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for %zu answers", count);
    bench->room = count;
    return STATUS_OK;
}

enum status index_bench_add_queries(struct index_bench *bench, const char *queries,
                                    const char *truth, struct reason *why)
{
    if (bench->set_count == INDEX_BENCH_SETS_MAX)
        return reason_set(why, STATUS_INVALID, queries, "at most %d files of queries are allowed",
                          INDEX_BENCH_SETS_MAX);
    struct set *set = &bench->sets[bench->set_count++]; // freed with the bench
    enum status status = read_queries(bench, set, queries, why);
    set->by_file = truth != NULL;
    if (!status)
        status = truth ? read_truth(bench, set, truth, why) : find_truth(bench, set, why);
    return status ? status : make_room(bench, set->count, why);
}

// --- life

enum status index_bench_create(const struct index_bench_params *params, struct index_bench **out,
                               struct reason *why)
{
    assert(params->threads >= 1 && params->threads <= INDEX_BENCH_THREADS_MAX);
    assert(params->k >= 1 && params->k <= K_MAX);

    struct index_bench *bench = mem_alloc(sizeof(*bench));
    bench->params = *params;
    bench->epoch = epoch_create();
    enum status status = unit_rows_open(params->base, &bench->file, why);
    if (!status && npyfile_info(bench->file)->rows < params->k)
        status =
            reason_set(why, STATUS_INVALID, params->base, "has fewer rows than k, %u", params->k);
    if (!status) {
        bench->about.rows = npyfile_info(bench->file)->rows;
        bench->about.dimension = (size_t)npyfile_info(bench->file)->columns;
        status = unit_rows_read(params->base, bench->file, NULL, &bench->rows, why);
    }
    if (!status)
        status = build(bench, why);
    if (!status)
        status = start_workers(bench, why);
    if (status) {
        index_bench_destroy(&bench);
        return status;
    }
    *out = bench;
    return STATUS_OK;
}

void index_bench_destroy(struct index_bench **bench)
{
    struct index_bench *ending = *bench;
    if (!ending)
        return;
    if (ending->end)
        stop_workers(ending);
    index_destroy(&ending->index);
    epoch_destroy(&ending->epoch);
    for (size_t i = 0; i < ending->set_count; i++) {
        mem_free(ending->sets[i].queries);
        mem_free(ending->sets[i].least);
    }
    mem_free(ending->hits);
    mem_free(ending->hit_counts);
    unit_rows_deinit(&ending->rows);
    npyfile_close(&ending->file);
    mem_free(ending);
    *bench = NULL;
}

const struct index_bench_about *index_bench_about(const struct index_bench *bench)
{
    return &bench->about;
}

// --- a run

static double recall_of(const struct index_bench *bench, const struct set *set, size_t queries)
{
    size_t good = 0;
    uint32_t k = bench->params.k;
    float *room = mem_alloc_array(bench->about.dimension, sizeof(*room));
    for (size_t i = 0; i < queries; i++)
        for (size_t j = 0; j < bench->hit_counts[i]; j++) {
            const struct neighbour *hit = &bench->hits[i * k + j].neighbour;
            double score = (double)hit->score;
            if (set->by_file)
                score =
                    exact_score(bench, set->queries + i * bench->about.dimension, hit->id, room);
            good += score >= set->least[i] - (set->by_file ? CLOSE : 0);
        }
    mem_free(room);
    return (double)good / ((double)queries * k);
}

static double pass(struct index_bench *bench, const struct index_bench_run *run, size_t queries)
{
    size_t batch = run->batch > 1 ? run->batch : queries;
    int64_t start = clock_now_us();
    for (size_t first = 0; first < queries; first += batch)
        answer(bench, first, queries - first < batch ? queries : first + batch, run->threads);
    return (double)(clock_now_us() - start) / 1e6;
}

void index_bench_run(struct index_bench *bench, const struct index_bench_run *run,
                     struct index_bench_result *out)
{
    assert(run->set < bench->set_count);
    assert(run->threads >= 1 && run->threads <= bench->params.threads);

    const struct set *set = &bench->sets[run->set];
    size_t queries = run->queries && run->queries < set->count ? run->queries : set->count;
    bench->set = set;
    bench->probes = run->probes;
    double best = HUGE_VAL;
    double spent = 0;
    for (size_t i = 0; i < PASSES_MIN || spent < PASS_SECONDS; i++) {
        for (size_t j = 0; j < bench->worker_count; j++)
            bench->workers[j].codes = bench->workers[j].refined = bench->workers[j].rows = 0;
        double seconds = pass(bench, run, queries);
        spent += seconds;
        if (i > 0)
            best = fmin(best, seconds);
    }

    *out = (struct index_bench_result){.recall = recall_of(bench, set, queries),
                                       .per_second = (double)queries / best};
    for (size_t i = 0; i < bench->worker_count; i++) {
        out->codes += (double)bench->workers[i].codes / (double)queries;
        out->refined += (double)bench->workers[i].refined / (double)queries;
        out->rows += (double)bench->workers[i].rows / (double)queries;
    }
}
