// SPDX-License-Identifier: Apache-2.0
// reco bench encode: pictures and texts a second, by batch.

#include <stddef.h>
#include <stdio.h>

#include "proto/base/clock.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/wire/api_json.h"
#include "tools/answers.h"
#include "tools/inputs.h"
#include "tools/measure.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/sample_picture.h"
#include "tools/verbs.h"

#define ITEMS_PER_REPETITION 64 // or one batch, if that is more
#define PICTURES 16             // test cards without pictures of one's own
#define REPETITIONS_MAX 1000
#define REPLY_ARENA_BYTES ((size_t)64 << 20)

static const char *const captions[] = {
    "a photo of a dog",
    "two people on a bench in the park",
    "a red car parked in front of a brick house at night",
    "an aerial view of a river delta with boats, painted in watercolour by a student",
    "snow",
    "a close-up of a bee on a purple flower, shallow depth of field",
    "the kitchen of a small restaurant during the evening rush",
    "graph paper with a hand-drawn map of an island",
};
#define CAPTIONS (sizeof(captions) / sizeof(captions[0]))

struct bench {
    const struct options *options;
    struct client *client;
    struct buffer pictures[IMAGES_MAX];
    size_t picture_count;
    struct output_table table;
};

struct repetition {
    double seconds;
    size_t items;
    float decode, preprocess, encode, queue; // milliseconds, summed
};

static enum status load_pictures(struct bench *bench, struct reason *why)
{
    const struct args_list *items = &bench->options->items;
    enum status status = STATUS_OK;
    bench->picture_count = items->count ? items->count : PICTURES;
    if (bench->picture_count > IMAGES_MAX)
        return reason_set(why, STATUS_INVALID, NULL, "%zu pictures: at most %d are allowed",
                          items->count, IMAGES_MAX);
    for (size_t i = 0; i < bench->picture_count && !status; i++) {
        struct reason inner = {.text = ""};
        if (!items->count) {
            status = sample_picture_make((uint32_t)i, &bench->pictures[i]);
            continue;
        }
        status = inputs_read_picture(items->items[i], &bench->pictures[i], &inner);
        if (status)
            (void)reason_set(why, status, items->items[i], "%s", inner.text);
    }
    return status;
}

// The request for one batch of pictures or texts.
static enum status make_request(const struct bench *bench, enum api_method method, size_t batch,
                                struct buffer *out)
{
    if (method == API_ENCODE_IMAGE) {
        struct bytes images[IMAGES_MAX];
        for (size_t i = 0; i < batch; i++) {
            const struct buffer *picture = &bench->pictures[i % bench->picture_count];
            images[i] = (struct bytes){picture->data, picture->count};
        }
        const struct api_encode_image_request request = {
            .images = images,
            .count = batch,
            .profile = (enum api_profile)bench->options->profile,
        };
        return api_encode_encode_image_request(&request, out);
    }
    struct text texts[IMAGES_MAX];
    for (size_t i = 0; i < batch; i++)
        texts[i] = text_of(captions[i % CAPTIONS]);
    const struct api_texts_request request = {.texts = texts, .count = batch};
    return api_encode_texts_request(&request, out);
}

static enum status call_once(struct bench *bench, enum api_method method,
                             const struct buffer *request, struct repetition *sum,
                             struct reason *why)
{
    struct buffer reply = {0};
    struct arena *arena = arena_create(REPLY_ARENA_BYTES);
    struct api_encode_reply answer = {.dimension = 0};
    enum status status = client_call(bench->client, method,
                                     (struct bytes){request->data, request->count}, &reply, why);
    if (!status)
        status =
            api_decode_encode_reply((struct bytes){reply.data, reply.count}, arena, &answer, why);
    sum->decode += answer.timings.decode;
    sum->preprocess += answer.timings.preprocess;
    sum->encode += answer.timings.encode;
    sum->queue += answer.timings.queue;
    arena_destroy(&arena);
    buffer_deinit(&reply);
    return status;
}

static enum status repeat(struct bench *bench, enum api_method method, size_t batch,
                          const struct buffer *request, struct repetition *out, struct reason *why)
{
    size_t calls = batch >= ITEMS_PER_REPETITION ? 1 : (ITEMS_PER_REPETITION + batch - 1) / batch;
    enum status status = STATUS_OK;
    *out = (struct repetition){.items = calls * batch};
    int64_t start = clock_now_us();
    for (size_t i = 0; i < calls && !status; i++)
        status = call_once(bench, method, request, out, why);
    out->seconds = (double)(clock_now_us() - start) / 1e6;
    return status;
}

static enum status print_json(const char *what, size_t batch, size_t number,
                              const struct repetition *repetition)
{
    const struct api_timings timings = {
        .decode = repetition->decode,
        .preprocess = repetition->preprocess,
        .encode = repetition->encode,
        .queue = repetition->queue,
        .total = (float)(repetition->seconds * 1000),
    };
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "bench");
    json_put_cstr(&writer, "encode");
    json_name(&writer, "what");
    json_put_cstr(&writer, what);
    json_name(&writer, "batch");
    json_put_uint(&writer, batch);
    json_name(&writer, "repetition");
    json_put_uint(&writer, number);
    json_name(&writer, "items");
    json_put_uint(&writer, repetition->items);
    json_name(&writer, "seconds");
    json_put_double(&writer, repetition->seconds);
    json_name(&writer, "per_second");
    json_put_double(&writer, (double)repetition->items / repetition->seconds);
    api_json_put_timings(&writer, &timings);
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

static void add_row(struct bench *bench, const char *what, size_t batch, double *rates,
                    const struct repetition *last)
{
    size_t count = (size_t)bench->options->repetitions;
    double items = (double)last->items;
    output_cell(&bench->table, "%s", what);
    output_cell(&bench->table, "%zu", batch);
    output_cell(&bench->table, "%.1f", measure_quantile(rates, count, 0.5));
    output_cell(&bench->table, "%.1f", rates[0]); // sorted by the line above
    output_cell(&bench->table, "%.1f", rates[count - 1]);
    output_cell(&bench->table, "%.3f", (double)last->decode / items);
    output_cell(&bench->table, "%.3f", (double)last->preprocess / items);
    output_cell(&bench->table, "%.3f", (double)last->encode / items);
}

static enum status bench_batch(struct bench *bench, enum api_method method, size_t batch,
                               struct reason *why)
{
    const char *what = method == API_ENCODE_IMAGE ? "image" : "text";
    double *rates = mem_alloc_array((size_t)bench->options->repetitions, sizeof(*rates));
    struct buffer request = {0};
    struct repetition repetition = {.items = 0};
    enum status status = make_request(bench, method, batch, &request);

    // Once without counting: buffers and matrix kernels are made with the first call of a shape.
    if (!status)
        status = call_once(bench, method, &request, &repetition, why);
    for (size_t i = 0; i < bench->options->repetitions && !status; i++) {
        status = repeat(bench, method, batch, &request, &repetition, why);
        rates[i] = (double)repetition.items / repetition.seconds;
        if (!status && bench->options->json)
            status = print_json(what, batch, i, &repetition);
    }
    if (!status && !bench->options->json)
        add_row(bench, what, batch, rates, &repetition);
    buffer_deinit(&request);
    mem_free(rates);
    return status;
}

static int bench_all(struct bench *bench)
{
    static const char *const header[] = {"what",     ">batch",     ">per second",    ">slowest",
                                         ">fastest", ">decode ms", ">preprocess ms", ">encode ms"};
    const struct args_numbers *batches = &bench->options->batches;
    struct reason why = {.text = ""};
    enum status status = load_pictures(bench, &why);

    if (!bench->options->json)
        output_table_begin(&bench->table, header, sizeof(header) / sizeof(header[0]));
    for (size_t i = 0; i < batches->count && !status; i++)
        status = bench_batch(bench, API_ENCODE_IMAGE, (size_t)batches->items[i], &why);
    for (size_t i = 0; i < batches->count && !status; i++)
        status = bench_batch(bench, API_ENCODE_TEXT, (size_t)batches->items[i], &why);
    if (!bench->options->json)
        output_table_end(&bench->table, 0);
    if (status)
        output_error(NULL, &why);
    return output_exit(status);
}

static int run_bench_encode(const struct options *options)
{
    struct bench *bench = mem_alloc(sizeof(*bench));
    bench->options = options;
    int exit_status = memories_open_client(options, CLIENT_ENCODER, &bench->client);
    if (!exit_status)
        exit_status = bench_all(bench);
    client_close(&bench->client);
    for (size_t i = 0; i < IMAGES_MAX; i++)
        buffer_deinit(&bench->pictures[i]);
    mem_free(bench);
    return exit_status;
}

static const struct args_flag bench_flags[] = {
    {.name = "--batch",
     .kind = ARGS_NUMBER_LIST,
     .argument = "N,N...",
     .fallback = "1,8,64",
     .help = "items in one call",
     .offset = offsetof(struct options, batches),
     .low = 1,
     .high = IMAGES_MAX},
    {.name = "--repetitions",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "5",
     .help = "measurements of each batch; the median is shown, --json shows all",
     .offset = offsetof(struct options, repetitions),
     .low = 1,
     .high = REPETITIONS_MAX},
    {.name = NULL},
};

const struct verb verb_bench_encode = {
    .args = {.name = "bench encode",
             .items = "[IMAGE...]",
             .summary = "pictures and texts a second, by batch",
             .details =
                 "Without pictures of your own, test cards of 256 x 256 are encoded; theirs cost\n"
                 "almost nothing to decode. Texts are eight captions of different length.\n\n"
                 "JSON line for each repetition: "
                 "{\"bench\",\"what\",\"batch\",\"repetition\",\"items\",\n"
                 "\"seconds\",\"per_second\",\"timings_ms\":{}}; the timings are sums over the "
                 "repetition",
             .items_max = SIZE_MAX,
             .groups = {bench_flags, options_profile, options_model, options_server,
                        options_common}},
    .chapter = "measuring",
    .run = run_bench_encode,
};
