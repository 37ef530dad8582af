// SPDX-License-Identifier: Apache-2.0
// Passes go on until PASS_SECONDS are spent, at least two, the first of which only warms up.
//
// Recall: the score of each row that was found, from the file's floats and in double, is held against that
// of the k-th best. Without a file of truths that is the score of an exact scan, whose bits the
// index' own scores have too.

#include "tools/index_bench.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "proto/base/clock.h"
#include "proto/base/half.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"
#include "shard_node/index/index.h"
#include "shard_node/index/parallel.h"
#include "shard_node/rows.h"
#include "tools/npyfile.h"

#define PASS_SECONDS 0.3
#define PASSES_MIN 2
#define UNIT_TOLERANCE 2e-3 // rows of halves are that far off
#define CLOSE 1e-6          // scores nearer than this are a tie
#define SCAN_QUERIES 32     // at a time, when truths are searched for

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
    uint16_t *halves;        // [rows][dimension]
    struct rows_slot *slots; // [rows]
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

// --- rows

static double length_of(const float *row, size_t dimension)
{
    double sum = 0;
    for (size_t i = 0; i < dimension; i++)
        sum += (double)row[i] * (double)row[i];
    return sqrt(sum);
}

static enum status check_unit(const char *path, uint64_t number, const float *row, size_t dimension,
                              struct reason *why)
{
    double length = length_of(row, dimension);
    if (fabs(length - 1) <= UNIT_TOLERANCE) // false for NaN
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, path, "row %llu has length %.4g: 1 is allowed",
                      (unsigned long long)number, length);
}

static enum status open_rows(const char *path, struct npyfile **file, struct reason *why)
{
    struct reason inner = {.text = ""};
    enum status status = npyfile_open(path, file, &inner);
    if (status)
        return reason_set(why, status, path, "%s", inner.text);
    const struct npyfile_info *info = npyfile_info(*file);
    if (info->rows < 1 || info->rows >= UINT32_MAX || info->columns > DIMENSION_MAX)
        return reason_set(why, STATUS_INVALID, path,
                          "%llu rows of %llu numbers: fewer than 2^32 of at most %d are allowed",
                          (unsigned long long)info->rows, (unsigned long long)info->columns,
                          DIMENSION_MAX);
    return STATUS_OK;
}

static enum status read_rows(struct index_bench *bench, struct reason *why)
{
    size_t dimension = bench->about.dimension;
    bench->halves = mem_try_alloc_array(bench->about.rows * dimension, sizeof(uint16_t));
    bench->slots = mem_try_alloc_array(bench->about.rows, sizeof(struct rows_slot));
    if (!bench->halves || !bench->slots)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for the rows");

    float *row = mem_alloc_array(dimension, sizeof(*row));
    enum status status = STATUS_OK;
    for (uint64_t i = 0; i < bench->about.rows && !status; i++) {
        npyfile_read_row(bench->file, i, row);
        status = check_unit(bench->params.base, i, row, dimension, why);
        half_from_floats(row, bench->halves + i * dimension, dimension);
        bench->slots[i] = (struct rows_slot){.id = i};
    }
    mem_free(row);
    return status;
}

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
                 .rows = bench->halves,
                 .slots = bench->slots},
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

struct finding {
    struct index_bench *bench;
    struct set *set;
    struct rows_view view;
    struct scan_lists *lists[PARALLEL_THREADS_MAX];
};

static void find_piece(void *context, uint32_t worker, size_t piece)
{
    struct finding *finding = context;
    struct set *set = finding->set;
    size_t dimension = finding->bench->about.dimension;
    size_t k = finding->bench->params.k;
    size_t first = piece * SCAN_QUERIES;
    size_t count = set->count - first < SCAN_QUERIES ? set->count - first : SCAN_QUERIES;
    const struct scan_request request = {
        .view = &finding->view,
        .modality = MODALITY_IMAGE,
        .queries = set->queries + first * dimension,
        .query_count = count,
        .k = k,
    };
    if (!finding->lists[worker])
        return; // told by the one who asked
    scan_lists_begin(finding->lists[worker], count, k);
    for (size_t block = 0; block < scan_block_count(&request); block++)
        scan_block(cpu_best(), &request, block, finding->lists[worker]);
    scan_lists_sort(finding->lists[worker]);
    for (size_t i = 0; i < count; i++) {
        const struct scan_hit *hits = NULL;
        size_t found = scan_lists_get(finding->lists[worker], i, &hits);
        set->least[first + i] = (double)hits[found - 1].neighbour.score;
    }
}

// By an exact scan of the halves.
static enum status find_truth(struct index_bench *bench, struct set *set, struct reason *why)
{
    uint64_t rows = bench->about.rows;
    uint64_t *live = mem_alloc_array((size_t)rows / 64 + 1, sizeof(*live));
    for (uint64_t i = 0; i < rows; i++)
        live[i / 64] |= UINT64_C(1) << (i % 64);
    struct finding *finding = mem_alloc(sizeof(*finding));
    finding->bench = bench;
    finding->set = set;
    finding->view = (struct rows_view){
        .dimension = (uint32_t)bench->about.dimension,
        .slot_count = (uint32_t)rows,
        .live_count = rows,
        .live = live,
        .rows = {bench->halves, bench->halves},
        .slots = bench->slots,
    };
    enum status status = STATUS_OK;
    for (size_t i = 0; i < bench->params.threads && !status; i++) {
        finding->lists[i] = scan_lists_create(SCAN_QUERIES, bench->params.k);
        if (!finding->lists[i])
            status = reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for an exact search");
    }
    if (!status)
        parallel_run(bench->params.threads, (set->count + SCAN_QUERIES - 1) / SCAN_QUERIES,
                     find_piece, finding);
    for (size_t i = 0; i < bench->params.threads; i++)
        scan_lists_destroy(&finding->lists[i]);
    mem_free(finding);
    mem_free(live);
    return status;
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
    struct npyfile *file = NULL;
    size_t dimension = bench->about.dimension;
    enum status status = open_rows(path, &file, why);
    if (!status && npyfile_info(file)->columns != dimension)
        status = reason_set(why, STATUS_INVALID, path, "rows of %llu numbers; the base has %zu",
                            (unsigned long long)npyfile_info(file)->columns, dimension);
    if (!status) {
        set->count = (size_t)npyfile_info(file)->rows;
        set->queries = mem_try_alloc_array(set->count * dimension, sizeof(float));
        set->least = mem_try_alloc_array(set->count, sizeof(double));
        if (!set->queries || !set->least)
            status = reason_set(why, STATUS_NO_MEMORY, path, "no memory for the queries");
    }
    for (size_t i = 0; !status && i < set->count; i++) {
        float *query = set->queries + i * dimension;
        npyfile_read_row(file, i, query);
        status = check_unit(path, i, query, dimension, why);
    }
    npyfile_close(&file);
    return status;
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

size_t index_bench_query_count(const struct index_bench *bench, size_t set)
{
    assert(set < bench->set_count);

    return bench->sets[set].count;
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
    enum status status = open_rows(params->base, &bench->file, why);
    if (!status && npyfile_info(bench->file)->rows < params->k)
        status =
            reason_set(why, STATUS_INVALID, params->base, "has fewer rows than k, %u", params->k);
    if (!status) {
        bench->about.rows = npyfile_info(bench->file)->rows;
        bench->about.dimension = (size_t)npyfile_info(bench->file)->columns;
        status = read_rows(bench, why);
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
    mem_free(ending->halves);
    mem_free(ending->slots);
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
