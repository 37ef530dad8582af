// SPDX-License-Identifier: Apache-2.0
// reco bench search: milliseconds of each step of a query, and how near the scan comes to
// what this machine's memory can deliver.
//
// Requests are made before the clock starts. Each thread has a client of its own and
// takes the next query until all are done.

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>

#include "proto/base/clock.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/base/thread.h"
#include "proto/wire/api_json.h"
#include "tools/answers.h"
#include "tools/measure.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/queries.h"
#include "tools/synthetic.h"
#include "tools/verbs.h"

#define REQUESTS_MAX 256 // different queries; more are asked in turn
#define QUERIES_MAX 10000000
#define CONCURRENCY_MAX 256
#define SYNTHETIC_RECORDS_MAX 1000000000
#define REPLY_ARENA_BYTES ((size_t)64 << 20)
#define CACHE_BYTES 256e6 // more than most CPUs keep
#define QUERY_SEED (UINT64_C(1) << 62)

// Steps in the order in which they happen; the shard is the slowest node's search.
#define STEPS(X)                                                                                   \
    X(decode) X(preprocess) X(encode) X(queue) X(fanout) X(shard) X(merge) X(fetch) X(fuse) X(total)
#define STEP_ENUM(name) STEP_##name,
enum step { STEPS(STEP_ENUM) STEP_COUNT };
#define STEP_NAME(name) #name,
static const char *const step_names[] = {STEPS(STEP_NAME)};

struct sample {
    float steps[STEP_COUNT];
    float shard[NODES_MAX];
    float wall; // as the caller sees it
    struct api_work work;
};

struct bench {
    const struct options *options;
    struct client *client;
    enum api_method method;
    struct buffer requests[REQUESTS_MAX];
    size_t request_count;
    uint64_t records;
    uint32_t dimension;
    char pin[MEMORIES_PIN_BYTES];
    double bandwidth; // bytes a second
    // of the run in progress
    struct sample *samples; // [options->queries]
    size_t shards;
    atomic_uint_fast64_t next;
    atomic_int failed; // status of the first failure
    double *sorted;    // room for one column
};

struct worker {
    struct bench *bench;
    struct client *client;
    struct thread *thread;
    struct reason why;
};

// --- requests

static enum api_method method_for(const struct options *options, enum api_input kind)
{
    if (!options->refine)
        return API_SEARCH;
    if (kind == API_INPUT_TEXT)
        return API_REFINE_TEXT;
    return kind == API_INPUT_EMBEDDING ? API_REFINE_EMBEDDING : API_REFINE_IMAGE;
}

static enum status add_request(struct bench *bench, const struct api_query_request *request,
                               struct reason *why)
{
    bench->method = method_for(bench->options, request->input);
    enum status status =
        api_encode_query(bench->method, request, &bench->requests[bench->request_count]);
    if (status)
        return reason_set(why, status, NULL, "a request cannot be made: %s", status_text(status));
    bench->request_count++;
    return STATUS_OK;
}

// The inputs of the flags, each once.
static enum status take_inputs(struct bench *bench, struct reason *why)
{
    struct queries queries;
    enum status status = queries_begin(&queries, bench->options, why);
    if (status) {
        queries_end(&queries);
        return status;
    }
    queries.message.memory = text_of(bench->pin);
    while (!status && bench->request_count < REQUESTS_MAX) {
        struct api_query_request request;
        struct reason inner = {.text = ""};
        enum queries_step step = queries_next(&queries, &request, &inner);
        if (step == QUERIES_END)
            break;
        status = step == QUERIES_BAD
                     ? reason_set(why, STATUS_INVALID, queries.name, "%s", inner.text)
                     : add_request(bench, &request, why);
    }
    queries_end(&queries);
    return status;
}

// Vectors in all directions.
static enum status make_inputs(struct bench *bench, struct reason *why)
{
    float *row = mem_alloc_array(bench->dimension, sizeof(*row));
    struct api_query_request request = {
        .input = API_INPUT_EMBEDDING,
        .embedding = row,
        .embedding_count = bench->dimension,
        .embedding_modality = API_MODALITY_IMAGE,
    };
    struct queries queries; // for what bounds a query; it asks none itself
    enum status status = queries_begin_rows(&queries, bench->options, why);
    request.options = queries.message;
    request.options.memory = text_of(bench->pin);
    for (uint64_t i = 0; i < REQUESTS_MAX && i < bench->options->queries && !status; i++) {
        measure_random_row(QUERY_SEED | i, row, bench->dimension);
        status = add_request(bench, &request, why);
    }
    queries_end(&queries);
    mem_free(row);
    return status;
}

static enum status prepare(struct bench *bench, struct reason *why)
{
    const struct options *options = bench->options;
    char synthetic[SYNTHETIC_NAME_BYTES];
    const char *name = options->memory[0] != '\0' ? options->memory : "default";
    enum status status = STATUS_OK;
    if (options->synthetic) {
        synthetic_name(options->synthetic, (uint32_t)options->dimension, synthetic);
        status =
            synthetic_ensure(bench->client, options->synthetic, (uint32_t)options->dimension, why);
        name = synthetic;
    }

    struct arena *arena = arena_create(MEMORIES_ARENA_BYTES);
    struct api_memory_info info = {.generation = 0};
    if (!status)
        status = memories_describe(bench->client, name, arena, &info, why);
    if (!status && !info.records)
        status = reason_set(why, STATUS_FAILED_PRECONDITION, name, "has no record");
    if (!status) {
        memories_pin(&info, bench->pin);
        bench->records = info.records;
        bench->dimension = info.dimension;
    }
    arena_destroy(&arena);
    if (status)
        return status;

    bool given = options->images.count || options->texts.count || options->embeddings.count;
    status = given ? take_inputs(bench, why) : make_inputs(bench, why);
    if (!status && !bench->request_count)
        status = reason_set(why, STATUS_INVALID, NULL, "no query");
    return status ? status : measure_read_bandwidth(&bench->bandwidth, why);
}

// --- asking

static void take_timings(struct bench *bench, const struct api_timings *timings,
                         struct sample *sample)
{
    float slowest = 0;
    for (size_t i = 0; i < timings->shard_count && i < NODES_MAX; i++) {
        sample->shard[i] = timings->shard[i];
        slowest = timings->shard[i] > slowest ? timings->shard[i] : slowest;
    }
    const float steps[STEP_COUNT] = {
        [STEP_decode] = timings->decode, [STEP_preprocess] = timings->preprocess,
        [STEP_encode] = timings->encode, [STEP_queue] = timings->queue,
        [STEP_fanout] = timings->fanout, [STEP_shard] = slowest,
        [STEP_merge] = timings->merge,   [STEP_fetch] = timings->fetch,
        [STEP_fuse] = timings->fuse,     [STEP_total] = timings->total,
    };
    for (size_t i = 0; i < STEP_COUNT; i++)
        sample->steps[i] = steps[i];
    if (sample == bench->samples)
        bench->shards = timings->shard_count < NODES_MAX ? timings->shard_count : NODES_MAX;
}

static enum status ask_one(struct worker *worker, uint64_t number, struct buffer *reply)
{
    struct bench *bench = worker->bench;
    const struct buffer *request = &bench->requests[number % bench->request_count];
    struct sample *sample = &bench->samples[number];
    int64_t start = clock_now_us();
    enum status status =
        client_call(worker->client, bench->method, (struct bytes){request->data, request->count},
                    reply, &worker->why);
    sample->wall = (float)(clock_now_us() - start) / 1000.0f;
    if (status)
        return status;

    struct arena *arena = arena_create(REPLY_ARENA_BYTES);
    struct api_answer answer = {.coverage = 0};
    status = api_decode_answer(bench->method, (struct bytes){reply->data, reply->count}, arena,
                               &answer, &worker->why);
    if (!status && answer.coverage < 1.0f)
        status = reason_set(&worker->why, STATUS_UNAVAILABLE, NULL,
                            "a node did not answer: coverage %.3f", (double)answer.coverage);
    if (!status)
        take_timings(bench, &answer.timings, sample);
    sample->work = answer.work;
    arena_destroy(&arena);
    return status;
}

static void ask_all(struct worker *worker)
{
    struct bench *bench = worker->bench;
    struct buffer reply = {0};
    while (!atomic_load(&bench->failed)) {
        uint64_t number = atomic_fetch_add(&bench->next, 1);
        if (number >= bench->options->queries)
            break;
        enum status status = ask_one(worker, number, &reply);
        if (status)
            atomic_store(&bench->failed, (int)status);
    }
    buffer_deinit(&reply);
}

static void work(struct thread *self, void *context)
{
    thread_ready(self, STATUS_OK);
    ask_all(context);
}

// All queries once by `count` threads; *seconds is how long it took.
static enum status run_once(struct bench *bench, size_t count, double *seconds, struct reason *why)
{
    struct worker *workers = mem_alloc_array(count, sizeof(*workers));
    enum status status = STATUS_OK;
    atomic_store(&bench->next, 0);
    atomic_store(&bench->failed, STATUS_OK);
    for (size_t i = 0; i < count && !status; i++) {
        workers[i].bench = bench;
        status = client_share(bench->client, &workers[i].client, why);
    }

    int64_t start = clock_now_us();
    for (size_t i = 0; i < count && !status; i++)
        status = thread_start("reco-bench", work, &workers[i], &workers[i].thread);
    if (status)
        atomic_store(&bench->failed, (int)status);
    for (size_t i = 0; i < count; i++)
        thread_join(&workers[i].thread);
    *seconds = (double)(clock_now_us() - start) / 1e6;

    for (size_t i = 0; i < count; i++) {
        if (!status && workers[i].why.text[0])
            *why = workers[i].why;
        client_close(&workers[i].client);
    }
    mem_free(workers);
    return status ? status : (enum status)atomic_load(&bench->failed);
}

// --- figures

// Quantile of one step over all samples; step STEP_COUNT is the wall time.
static double quantile(struct bench *bench, size_t step, double share)
{
    size_t count = (size_t)bench->options->queries;
    for (size_t i = 0; i < count; i++)
        bench->sorted[i] =
            (double)(step == STEP_COUNT ? bench->samples[i].wall : bench->samples[i].steps[step]);
    return measure_quantile(bench->sorted, count, share);
}

static double shard_quantile(struct bench *bench, size_t shard, double share)
{
    size_t count = (size_t)bench->options->queries;
    for (size_t i = 0; i < count; i++)
        bench->sorted[i] = (double)bench->samples[i].shard[shard];
    return measure_quantile(bench->sorted, count, share);
}

// Means of a query; exact only when every query was.
static struct api_work mean_work(const struct bench *bench)
{
    const uint64_t count = bench->options->queries;
    assert(count > 0);
    struct api_work sum = {.exact = true};
    for (uint64_t i = 0; i < count; i++) {
        const struct api_work *work = &bench->samples[i].work;
        sum.exact = sum.exact && work->exact;
        sum.lists_probed += work->lists_probed;
        sum.codes_scanned += work->codes_scanned;
        sum.rows_refined += work->rows_refined;
        sum.rows_read += work->rows_read;
    }
    return (struct api_work){sum.exact, sum.lists_probed / count, sum.codes_scanned / count,
                             sum.rows_refined / count, sum.rows_read / count};
}

// Bytes a second of an exact scan: every row of one modality is read once, by all nodes at a time.
static double scan_rate(struct bench *bench)
{
    double ms = quantile(bench, STEP_shard, 0.5);
    double bytes = (double)bench->records * bench->dimension * 2;
    return ms > 0 ? bytes / ms * 1000 : 0;
}

static void put_pair(struct json_writer *writer, double median, double p99)
{
    json_begin_object(writer);
    json_name(writer, "median");
    json_put_double(writer, median);
    json_name(writer, "p99");
    json_put_double(writer, p99);
    json_end_object(writer);
}

static void put_steps(struct bench *bench, struct json_writer *writer)
{
    json_name(writer, "steps_ms");
    json_begin_object(writer);
    for (size_t step = 0; step < STEP_COUNT; step++) {
        json_name(writer, step_names[step]);
        put_pair(writer, quantile(bench, step, 0.5), quantile(bench, step, 0.99));
    }
    json_name(writer, "wall");
    put_pair(writer, quantile(bench, STEP_COUNT, 0.5), quantile(bench, STEP_COUNT, 0.99));
    json_end_object(writer);
    json_name(writer, "shards_ms");
    json_begin_array(writer);
    for (size_t shard = 0; shard < bench->shards; shard++)
        put_pair(writer, shard_quantile(bench, shard, 0.5), shard_quantile(bench, shard, 0.99));
    json_end_array(writer);
}

static enum status print_json(struct bench *bench, size_t concurrency, size_t repetition,
                              double seconds)
{
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "bench");
    json_put_cstr(&writer, "search");
    json_name(&writer, "memory");
    json_put_cstr(&writer, bench->pin);
    json_name(&writer, "records");
    json_put_uint(&writer, bench->records);
    json_name(&writer, "dimension");
    json_put_uint(&writer, bench->dimension);
    json_name(&writer, "k");
    json_put_uint(&writer, bench->options->k);
    json_name(&writer, "concurrency");
    json_put_uint(&writer, concurrency);
    json_name(&writer, "repetition");
    json_put_uint(&writer, repetition);
    json_name(&writer, "queries");
    json_put_uint(&writer, bench->options->queries);
    json_name(&writer, "seconds");
    json_put_double(&writer, seconds);
    json_name(&writer, "per_second");
    json_put_double(&writer, (double)bench->options->queries / seconds);
    put_steps(bench, &writer);
    const struct api_work work = mean_work(bench);
    json_name(&writer, "index");
    json_put_cstr(&writer, work.exact ? "exact" : "ivf");
    api_json_put_work(&writer, &work);
    json_name(&writer, "scan_gb_per_second"); // an index reads no whole side
    if (work.exact)
        json_put_double(&writer, scan_rate(bench) / 1e9);
    else
        json_put_null(&writer);
    json_name(&writer, "machine_gb_per_second");
    json_put_double(&writer, bench->bandwidth / 1e9);
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

static void print_text(struct bench *bench, size_t concurrency, size_t repetition, double seconds)
{
    static const char *const header[] = {"step", ">median ms", ">p99 ms"};
    struct output_table table;
    printf("%s, %" PRIu64 " records of %u dimensions, k %" PRIu64 ", %zu at a time", bench->pin,
           bench->records, bench->dimension, bench->options->k, concurrency);
    if (bench->options->repetitions > 1)
        printf(", repetition %zu", repetition);
    printf("\n");

    output_table_begin(&table, header, 3);
    for (size_t step = 0; step <= STEP_COUNT; step++) {
        output_cell(&table, "%s", step == STEP_COUNT ? "seen by the caller" : step_names[step]);
        output_cell(&table, "%.3f", quantile(bench, step, 0.5));
        output_cell(&table, "%.3f", quantile(bench, step, 0.99));
    }
    for (size_t shard = 0; shard < bench->shards && bench->shards > 1; shard++) {
        output_cell(&table, "shard %zu", shard);
        output_cell(&table, "%.3f", shard_quantile(bench, shard, 0.5));
        output_cell(&table, "%.3f", shard_quantile(bench, shard, 0.99));
    }
    output_table_end(&table, 2);
    const struct api_work work = mean_work(bench);
    printf("  %.1f queries a second; ", (double)bench->options->queries / seconds);
    if (!work.exact) {
        printf("by an index: %" PRIu64 " lists, %" PRIu64 " codes, %" PRIu64 " refined, %" PRIu64
               " rows a query\n",
               work.lists_probed, work.codes_scanned, work.rows_refined, work.rows_read);
        return;
    }
    printf("the scan reads %.2f GB/s, a plain sum %.2f GB/s: %.0f %%\n", scan_rate(bench) / 1e9,
           bench->bandwidth / 1e9, scan_rate(bench) / bench->bandwidth * 100);
    if ((double)bench->records * bench->dimension * 2 < CACHE_BYTES)
        puts("  (so few rows may lie in the CPU's caches: no measure of its memory)");
}

static enum status bench_all(struct bench *bench, struct reason *why)
{
    const struct options *options = bench->options;
    enum status status = prepare(bench, why);
    double seconds = 0;
    // Once without counting: pages and buffers are touched for the first time.
    if (!status)
        status = run_once(bench, 1, &seconds, why);
    for (size_t i = 0; i < options->concurrency.count && !status; i++) {
        for (size_t j = 0; j < options->repetitions && !status; j++) {
            size_t concurrency = (size_t)options->concurrency.items[i];
            status = run_once(bench, concurrency, &seconds, why);
            if (!status && options->json)
                status = print_json(bench, concurrency, j, seconds);
            else if (!status)
                print_text(bench, concurrency, j, seconds);
        }
    }
    return status;
}

static int run_bench_search(const struct options *options)
{
    struct bench *bench = mem_alloc(sizeof(*bench));
    struct reason why = {.text = ""};
    bench->options = options;
    int exit_status = memories_open_client(options, options->synthetic ? CLIENT_WRITE : CLIENT_READ,
                                           &bench->client);
    if (!exit_status) {
        bench->samples = mem_alloc_array((size_t)options->queries, sizeof(*bench->samples));
        bench->sorted = mem_alloc_array((size_t)options->queries, sizeof(*bench->sorted));
        enum status status = bench_all(bench, &why);
        if (status)
            output_error(NULL, &why);
        exit_status = output_exit(status);
    }
    client_close(&bench->client);
    for (size_t i = 0; i < REQUESTS_MAX; i++)
        buffer_deinit(&bench->requests[i]);
    mem_free(bench->samples);
    mem_free(bench->sorted);
    mem_free(bench);
    return exit_status;
}

static const struct args_flag bench_flags[] = {
    {.name = "--queries",
     .alias = "-n",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "100",
     .help = "queries in one repetition",
     .offset = offsetof(struct options, queries),
     .low = 1,
     .high = QUERIES_MAX},
    {.name = "--concurrency",
     .kind = ARGS_NUMBER_LIST,
     .argument = "N,N...",
     .fallback = "1",
     .help = "queries at a time",
     .offset = offsetof(struct options, concurrency),
     .low = 1,
     .high = CONCURRENCY_MAX},
    {.name = "--repetitions",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "5",
     .help = "measurements for each number at a time",
     .offset = offsetof(struct options, repetitions),
     .low = 1,
     .high = 1000},
    {.name = "--refine",
     .kind = ARGS_SWITCH,
     .help = "measures refining: a search, then the fusion of what it found",
     .offset = offsetof(struct options, refine)},
    {.name = "--synthetic",
     .kind = ARGS_COUNT,
     .argument = "N",
     .help = "searches the memory synthetic-NxD of N made-up rows, built first when missing",
     .offset = offsetof(struct options, synthetic),
     .low = 1,
     .high = SYNTHETIC_RECORDS_MAX},
    {.name = "--dimension",
     .kind = ARGS_COUNT,
     .argument = "D",
     .fallback = "512",
     .help = "numbers in a row of --synthetic",
     .offset = offsetof(struct options, dimension),
     .low = 1,
     .high = DIMENSION_MAX},
    {.name = NULL},
};

const struct verb verb_bench_search = {
    .args =
        {.name = "bench search",
         .items = "",
         .summary = "milliseconds of each step of a query, and the scan's GB/s",
         .details =
             "Asks with made-up vectors, or with the inputs of the flags. The shard's line is the\n"
             "slowest node of each query. GB/s counts every fp16 row of one side once, beside "
             "what\n"
             "a plain sum over 512 MiB reaches with all threads in the same run.\n\n"
             "JSON line for each repetition: "
             "{\"bench\",\"memory\",\"records\",\"dimension\",\"k\",\n"
             "\"concurrency\",\"repetition\",\"queries\",\"seconds\",\"per_second\",\"steps_ms\":{"
             "STEP:\n"
             "{\"median\",\"p99\"}},\"shards_ms\":[],\"index\",\"work\":{means of a query},\n"
             "\"scan_gb_per_second\" (null by an index),\"machine_gb_per_second\"}",
         .groups = {bench_flags, options_input, options_fusion, options_query, options_profile,
                    options_memory, options_data, options_model, options_server, options_common}},
    .chapter = "measuring",
    .run = run_bench_search,
};
