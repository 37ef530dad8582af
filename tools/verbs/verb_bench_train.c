// SPDX-License-Identifier: Apache-2.0
// reco bench train: steps of training a fusion head a second, and how long the head takes for one
// query.

#include <stddef.h>
#include <stdio.h>

#include "proto/base/clock.h"
#include "proto/base/cpu.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "shaders/models/fusion_train.h"
#include "tools/answers.h"
#include "tools/measure.h"
#include "tools/output.h"
#include "tools/verbs.h"

#define REPETITION_US 500000 // steps are repeated until so long is measured
#define REPETITIONS_MAX 1000
#define THREADS_MAX 64
#define PAIRS_MAX 4096
#define LINE_BYTES 64

struct bench {
    const struct options *options;
    struct fusion_train *train;
    struct fusion_train_batch batch;
    float *embeddings[FUSION_HEAD_SIDES];
    float *payload[FUSION_HEAD_SIDES];
    float *scores;
    uint32_t *counts;
    struct fusion_train_result result; // of the last step
    double refine_ms;                  // of one query by the head that is trained
};

// Pairs of made-up embeddings, each with k neighbours in whole.
static void make_batch(struct bench *bench, uint32_t pairs, uint32_t k, uint32_t dimension)
{
    uint64_t seed = bench->options->seed;
    bench->batch.pairs = pairs;
    bench->scores = mem_alloc_array((size_t)pairs * k, sizeof(float));
    bench->counts = mem_alloc_array(pairs, sizeof(uint32_t));
    for (uint32_t i = 0; i < pairs; i++)
        bench->counts[i] = k;
    for (size_t i = 0; i < (size_t)pairs * k; i++)
        bench->scores[i] = 0.9f - 0.01f * (float)(i % k);
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        size_t rows = (size_t)pairs * k;
        bench->embeddings[s] = mem_alloc_array((size_t)pairs * dimension, sizeof(float));
        bench->payload[s] = mem_alloc_array(rows * dimension, sizeof(float));
        for (uint32_t i = 0; i < pairs; i++)
            measure_random_row(seed++, bench->embeddings[s] + (size_t)i * dimension, dimension);
        for (size_t i = 0; i < rows; i++)
            measure_random_row(seed++, bench->payload[s] + i * dimension, dimension);
        bench->batch.embeddings[s] = bench->embeddings[s];
        bench->batch.payload[s] = bench->payload[s];
        bench->batch.scores[s] = bench->scores;
        bench->batch.counts[s] = bench->counts;
    }
}

static enum status start(struct bench *bench, struct reason *why)
{
    const struct options *options = bench->options;
    struct fusion_train_params params = fusion_train_default((uint32_t)options->dimension);
    params.pairs = (uint32_t)options->train_pairs;
    params.k = (uint32_t)options->k;
    params.seed = options->seed;
    make_batch(bench, params.pairs, params.k, (uint32_t)options->dimension);
    enum status status =
        fusion_train_create(&params, (uint32_t)options->encode_threads, &bench->train, why);
    // The first step touches all memory.
    return status ? status : fusion_train_step(bench->train, &bench->batch, &bench->result, why);
}

// Steps one after the other for REPETITION_US or a little longer; steps a second.
static enum status repeat(struct bench *bench, double *rate, struct reason *why)
{
    uint64_t steps = 0;
    int64_t begun = clock_now_us();
    int64_t now = begun;
    enum status status = STATUS_OK;
    while (!status && now - begun < REPETITION_US) {
        status = fusion_train_step(bench->train, &bench->batch, &bench->result, why);
        steps++;
        now = clock_now_us();
    }
    *rate = (double)steps / ((double)(now - begun) / 1e6);
    return status;
}

static uint64_t threads_of(const struct bench *bench)
{
    uint64_t threads = bench->options->encode_threads;
    return threads ? threads : (uint64_t)cpu_count();
}

// One picture after the other, as a coordinator without company refines them.
static enum status refine_all(struct bench *bench, struct fusion_head *head, struct reason *why)
{
    const uint32_t dimension = (uint32_t)bench->options->dimension;
    const size_t k = (size_t)bench->options->k;
    const float *payload[K_MAX];
    float refined[DIMENSION_MAX];
    uint64_t queries = 0;
    int64_t begun = clock_now_us();
    int64_t now = begun;
    for (; now - begun < REPETITION_US; queries++, now = clock_now_us()) {
        const size_t pair = queries % bench->batch.pairs;
        for (size_t i = 0; i < k; i++)
            payload[i] = bench->payload[0] + (pair * k + i) * dimension;
        struct fusion_head_query query = {
            .query = bench->embeddings[0] + pair * dimension,
            .neighbours = {k, bench->scores + pair * k, payload, NULL},
            .refined = refined,
        };
        enum status status = fusion_head_refine(head, MODALITY_IMAGE, &query);
        if (status)
            return reason_set(why, status, NULL, "the head cannot refine");
    }
    bench->refine_ms = (double)(now - begun) / 1e3 / (double)queries;
    return STATUS_OK;
}

static enum status measure_refining(struct bench *bench, struct reason *why)
{
    const struct fusion_train_params *params = fusion_train_params(bench->train);
    struct fusion_head_info info = {.space = "bench", .dimension = params->config[0].dimension};
    const float *numbers[FUSION_HEAD_SIDES];
    struct fusion_head *head = NULL;
    info.k = params->k;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        info.config[s] = params->config[s];
        numbers[s] = fusion_train_numbers(bench->train, (enum modality)s);
    }
    enum status status =
        fusion_head_create(&info, numbers, (uint32_t)threads_of(bench), &head, why);
    if (!status)
        status = refine_all(bench, head, why);
    fusion_head_close(&head);
    return status;
}

// `rates` is sorted.
static enum status show(const struct bench *bench, const double *rates, size_t count, double median)
{
    const struct options *options = bench->options;
    const uint64_t peak = measure_peak_bytes();
    if (!options->json) {
        (void)printf("%.2f steps a second (%.2f to %.2f), %.1f ms each; %llu pairs, %llu "
                     "neighbours, %llu dimensions, %llu threads, at most %.0f MB; one query is "
                     "refined in %.3f ms\n",
                     median, rates[0], rates[count - 1], 1000.0 / median,
                     (unsigned long long)options->train_pairs, (unsigned long long)options->k,
                     (unsigned long long)options->dimension, (unsigned long long)threads_of(bench),
                     (double)peak / 1e6, bench->refine_ms);
        return STATUS_OK;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "bench");
    json_put_cstr(&writer, "train");
    json_name(&writer, "steps_per_second");
    json_put_double(&writer, median);
    json_name(&writer, "slowest");
    json_put_double(&writer, rates[0]);
    json_name(&writer, "fastest");
    json_put_double(&writer, rates[count - 1]);
    json_name(&writer, "pairs");
    json_put_uint(&writer, options->train_pairs);
    json_name(&writer, "k");
    json_put_uint(&writer, options->k);
    json_name(&writer, "dimension");
    json_put_uint(&writer, options->dimension);
    json_name(&writer, "threads");
    json_put_uint(&writer, threads_of(bench));
    json_name(&writer, "loss");
    json_put_double(&writer, bench->result.loss);
    json_name(&writer, "refine_ms");
    json_put_double(&writer, bench->refine_ms);
    json_name(&writer, "peak_rss_bytes");
    json_put_uint(&writer, peak);
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

static enum status measure(struct bench *bench, size_t repetitions, struct reason *why)
{
    double *rates = mem_alloc_array(repetitions, sizeof(*rates));
    enum status status = STATUS_OK;
    for (size_t i = 0; i < repetitions && !status; i++)
        status = repeat(bench, &rates[i], why);
    if (!status)
        status = measure_refining(bench, why);
    if (!status) {
        double median = measure_quantile(rates, repetitions, 0.5);
        status = show(bench, rates, repetitions, median);
        if (!status && fflush(stdout) != 0)
            status = STATUS_IO;
        if (status)
            status = reason_set(why, status, NULL, "stdout cannot be written");
    }
    mem_free(rates);
    return status;
}

static int run_bench_train(const struct options *options)
{
    struct bench bench = {.options = options};
    struct reason why = {.text = ""};
    char line[LINE_BYTES];
    enum status status = start(&bench, &why);
    if (!status)
        status = measure(&bench, options->rounds ? 1 : (size_t)options->repetitions, &why);
    while (!status && options->rounds && fgets(line, sizeof(line), stdin))
        status = measure(&bench, 1, &why);
    if (status)
        output_error(NULL, &why);
    fusion_train_destroy(&bench.train);
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        mem_free(bench.embeddings[s]);
        mem_free(bench.payload[s]);
    }
    mem_free(bench.scores);
    mem_free(bench.counts);
    return output_exit(status);
}

static const struct args_flag train_flags[] = {
    {.name = "--pairs",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "256",
     .help = "pairs of a batch",
     .offset = offsetof(struct options, train_pairs),
     .low = 2,
     .high = PAIRS_MAX},
    {.name = "-k",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "10",
     .help = "neighbours of each embedding",
     .offset = offsetof(struct options, k),
     .low = 1,
     .high = K_MAX},
    {.name = "--dimension",
     .kind = ARGS_COUNT,
     .argument = "D",
     .fallback = "512",
     .help = "numbers of an embedding",
     .offset = offsetof(struct options, dimension),
     .low = 1,
     .high = DIMENSION_MAX},
    {.name = "--threads",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "as many as this process may use",
     .help = "of the CPU",
     .offset = offsetof(struct options, encode_threads),
     .low = 1,
     .high = THREADS_MAX},
    {.name = "--repetitions",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "5",
     .help = "measurements, half a second or one step long; the median counts",
     .offset = offsetof(struct options, repetitions),
     .low = 1,
     .high = REPETITIONS_MAX},
    {.name = "--seed",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1",
     .help = "other numbers for each; the same for the same",
     .offset = offsetof(struct options, seed),
     .low = 0,
     .high = 0x1p53},
    {.name = "--rounds",
     .kind = ARGS_SWITCH,
     .help = "measures once, and once more for each line of stdin",
     .offset = offsetof(struct options, rounds)},
    {.name = NULL},
};

const struct verb verb_bench_train = {
    .args = {.name = "bench train",
             .items = "",
             .summary = "steps of training a fusion head a second",
             .details =
                 "Trains the default head (one layer, heads of 64, MLP of 4 D, both sides) on\n"
                 "one batch of made-up embeddings: forward, three terms of the loss, backward,\n"
                 "AdamW. Nothing is read or written.\n\n"
                 "With --rounds another program can take turns with it.\n\n"
                 "JSON line for each measurement: {\"bench\",\"steps_per_second\",\"slowest\",\n"
                 "\"fastest\",\"pairs\",\"k\",\"dimension\",\"threads\",\"loss\",\n"
                 "\"refine_ms\",\"peak_rss_bytes\"}, refine_ms for one query alone",
             .groups = {train_flags, options_common}},
    .chapter = "measuring",
    .run = run_bench_train,
};
