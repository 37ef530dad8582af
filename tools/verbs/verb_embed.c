// SPDX-License-Identifier: Apache-2.0
// reco embed image, reco embed text: unit embeddings as JSON lines or as rows of a file.

#include <stddef.h>
#include <stdio.h>

#include "proto/base/arena.h"
#include "proto/wire/api_json.h"
#include "tools/answers.h"
#include "tools/encoding.h"
#include "tools/npyfile.h"
#include "tools/output.h"
#include "tools/verbs.h"

#define SHOWN_VALUES 4 // of an embedding, for people

struct embedding {
    const struct options *options;
    struct npyfile_writer *writer; // with --out
    size_t columns;
};

static enum status write_row(struct embedding *embedding, const float *values, size_t count,
                             struct reason *why)
{
    enum status status = STATUS_OK;
    if (!embedding->writer) {
        status = npyfile_create(embedding->options->out, count, &embedding->writer, why);
        embedding->columns = count;
    }
    if (!status && count != embedding->columns)
        status = reason_set(why, STATUS_CORRUPT, NULL, "rows of %zu and of %zu numbers",
                            embedding->columns, count);
    return status ? status : npyfile_write_row(embedding->writer, values, why);
}

static enum status show_json(const struct embedding *embedding, const char *input,
                             const float *values, size_t count)
{
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "input");
    json_put_cstr(&writer, input);
    if (embedding->writer) {
        json_name(&writer, "out");
        json_put_cstr(&writer, embedding->options->out);
        json_name(&writer, "row");
        json_put_uint(&writer, npyfile_rows_written(embedding->writer) - 1);
    } else {
        api_json_put_floats(&writer, "embedding", values, count);
    }
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

static enum status show_row(struct embedding *embedding, const char *input, const float *values,
                            size_t count)
{
    struct reason why = {.text = ""};
    if (embedding->options->out && write_row(embedding, values, count, &why)) {
        output_error(embedding->options->out, &why);
        return STATUS_IO;
    }
    if (embedding->options->json)
        return show_json(embedding, input, values, count);
    if (embedding->options->out)
        return STATUS_OK;

    output_text(text_of(input));
    printf(": %zu numbers: ", count);
    for (size_t i = 0; i < count && i < SHOWN_VALUES; i++)
        printf("%.4f ", (double)values[i]);
    puts(count > SHOWN_VALUES ? "..." : "");
    return STATUS_OK;
}

static enum status show_batch(void *context, const struct encoding_batch *batch, struct bytes reply)
{
    struct embedding *embedding = context;
    struct arena *arena = arena_create(ENCODING_REPLY_BYTES_MAX);
    struct api_encode_reply answer = {.dimension = 0};
    struct reason why = {.text = ""};

    enum status status = api_decode_encode_reply(reply, arena, &answer, &why);
    if (!status && (!answer.dimension || answer.float_count != batch->count * answer.dimension))
        status = reason_set(&why, STATUS_CORRUPT, NULL, "an answer of %zu numbers for %zu items",
                            answer.float_count, batch->count);
    if (status)
        output_error(NULL, &why);
    for (size_t i = 0; i < batch->count && !status; i++)
        status = show_row(embedding, batch->names[i], answer.embeddings + i * answer.dimension,
                          answer.dimension);
    arena_destroy(&arena);
    return status;
}

static int run_embed(const struct options *options, enum api_method method)
{
    struct embedding embedding = {.options = options};
    struct reason why = {.text = ""};

    int exit_status = encoding_run(options, method, show_batch, &embedding);
    if (!embedding.writer)
        return exit_status;

    uint64_t rows = npyfile_rows_written(embedding.writer);
    if (npyfile_finish(&embedding.writer, &why)) {
        output_error(options->out, &why);
        return VERBS_FAILED;
    }
    if (!options->json)
        output_note("%llu rows of %zu numbers in %s", (unsigned long long)rows, embedding.columns,
                    options->out);
    return exit_status;
}

static int run_embed_image(const struct options *options)
{
    return run_embed(options, API_ENCODE_IMAGE);
}

static int run_embed_text(const struct options *options)
{
    return run_embed(options, API_ENCODE_TEXT);
}

static const struct args_flag embed_flags[] = {
    {.name = "--out",
     .kind = ARGS_TEXT,
     .argument = "X.npy",
     .help = "writes the embeddings as rows of an f32 array, in the order of the items; failed "
             "items have no row",
     .offset = offsetof(struct options, out)},
    {.name = NULL},
};

#define EMBED_JSON                                                                                 \
    "JSON line: {\"input\",\"embedding\":[...]}, with --out {\"input\",\"out\",\"row\"}"

const struct verb verb_embed_image = {
    .args = {.name = "embed image",
             .items = "IMAGE...",
             .summary = "pictures to unit embeddings",
             .details =
                 "JPEG, PNG, WebP and GIF; - reads one path per line from stdin.\n\n" EMBED_JSON,
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {embed_flags, options_profile, options_items, options_model, options_server,
                        options_common}},
    .chapter = "models",
    .run = run_embed_image,
};

const struct verb verb_embed_text = {
    .args = {.name = "embed text",
             .items = "TEXT...",
             .summary = "texts to unit embeddings",
             .details = "- reads one text per line from stdin.\n\n" EMBED_JSON,
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {embed_flags, options_items, options_model, options_server, options_common}},
    .chapter = "models",
    .run = run_embed_text,
};
