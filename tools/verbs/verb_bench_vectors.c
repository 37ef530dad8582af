// SPDX-License-Identifier: Apache-2.0
// reco bench vectors: files of made-up vectors for measuring an index.

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/answers.h"
#include "tools/cliplike.h"
#include "tools/npyfile.h"
#include "tools/output.h"
#include "tools/verbs.h"

#define COUNT_MAX 1000000000
#define QUERIES_MAX 1000000
#define ROWS_PER_STEP 4096 // between two looks at the clock

struct vectors {
    const struct options *options;
    struct cliplike *set;
    float *row;
    char path[PATH_BYTES_MAX + 1];
};

static const struct {
    const char *name;
    enum cliplike_kind kind;
} files[] = {
    {"base.npy", CLIPLIKE_BASE},
    {"queries-id.npy", CLIPLIKE_QUERY_ID},
    {"queries-ood.npy", CLIPLIKE_QUERY_OOD},
};

static enum status fill(struct vectors *vectors, enum cliplike_kind kind, uint64_t count,
                        struct npyfile_writer *writer, struct reason *why)
{
    struct output_progress progress;
    enum status status = STATUS_OK;
    output_progress_begin(&progress, "rows", count);
    for (uint64_t i = 0; i < count && !status; i++) {
        cliplike_row(vectors->set, kind, i, vectors->row);
        status = npyfile_write_row(writer, vectors->row, why);
        if (i % ROWS_PER_STEP == 0)
            output_progress_update(&progress, i, 0);
    }
    output_progress_end(&progress);
    return status;
}

static enum status show(const struct vectors *vectors, uint64_t count)
{
    const struct options *options = vectors->options;
    if (!options->json) {
        char figure[OUTPUT_FIGURE_BYTES];
        printf("%s: %s rows of %" PRIu64 " dimensions\n", vectors->path,
               output_count(count, figure), options->dimension);
        return STATUS_OK;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "file");
    json_put_cstr(&writer, vectors->path);
    json_name(&writer, "rows");
    json_put_uint(&writer, count);
    json_name(&writer, "dimension");
    json_put_uint(&writer, options->dimension);
    json_name(&writer, "seed");
    json_put_uint(&writer, options->seed);
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

static enum status write_file(struct vectors *vectors, size_t file, struct reason *why)
{
    const struct options *options = vectors->options;
    uint64_t count = files[file].kind == CLIPLIKE_BASE ? options->count : options->query_rows;
    int length =
        snprintf(vectors->path, sizeof(vectors->path), "%s/%s", options->out, files[file].name);
    if (length < 0 || (size_t)length >= sizeof(vectors->path))
        return reason_set(why, STATUS_INVALID, "--out", "is longer than %d bytes", PATH_BYTES_MAX);

    struct npyfile_writer *writer = NULL;
    struct reason inner = {.text = ""};
    enum status status = npyfile_create(vectors->path, (size_t)options->dimension, &writer, &inner);
    if (!status)
        status = fill(vectors, files[file].kind, count, writer, &inner);
    if (!status)
        status = npyfile_finish(&writer, &inner);
    npyfile_abandon(&writer);
    if (status)
        return reason_set(why, status, vectors->path, "%s", inner.text);
    return show(vectors, count);
}

static int run_bench_vectors(const struct options *options)
{
    struct vectors vectors = {.options = options};
    struct reason why = {.text = ""};
    if (!options->out) {
        (void)reason_set(&why, STATUS_INVALID, "--out", "is needed: the folder for the files");
        output_error(NULL, &why);
        return VERBS_USAGE;
    }

    enum status status = output_make_folder(options->out, &why);
    if (!status)
        status = cliplike_create(options->seed, (size_t)options->dimension, &vectors.set, &why);
    vectors.row = mem_alloc_array((size_t)options->dimension, sizeof(float));
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]) && !status; i++)
        status = write_file(&vectors, i, &why);
    if (status)
        output_error(NULL, &why);
    cliplike_destroy(&vectors.set);
    mem_free(vectors.row);
    return output_exit(status);
}

static const struct args_flag vectors_flags[] = {
    {.name = "--out",
     .kind = ARGS_TEXT,
     .argument = "DIR",
     .help = "folder for the files, made when missing",
     .offset = offsetof(struct options, out)},
    {.name = "--count",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1000000",
     .help = "rows to search",
     .offset = offsetof(struct options, count),
     .low = 1,
     .high = COUNT_MAX},
    {.name = "--dimension",
     .kind = ARGS_COUNT,
     .argument = "D",
     .fallback = "512",
     .help = "numbers in a row",
     .offset = offsetof(struct options, dimension),
     .low = CLIPLIKE_DIMENSION_MIN,
     .high = DIMENSION_MAX},
    {.name = "--queries",
     .alias = "-n",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1000",
     .help = "queries of each kind",
     .offset = offsetof(struct options, query_rows),
     .low = 1,
     .high = QUERIES_MAX},
    {.name = "--seed",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1",
     .help = "other vectors for each; the same for the same",
     .offset = offsetof(struct options, seed),
     .low = 0,
     .high = 0x1p53},
    {.name = NULL},
};

const struct verb verb_bench_vectors = {
    .args =
        {.name = "bench vectors",
         .items = "--out DIR",
         .summary = "files of made-up vectors that lie as CLIP's do",
         .details =
             "Writes base.npy, queries-id.npy and queries-ood.npy, f32 rows of unit length, for\n"
             "measuring an index: 20,000 clusters of very different sizes within 400 larger\n"
             "ones. Queries \"id\" lie as the rows, queries \"ood\" as texts that ask among\n"
             "pictures. The same seed gives the same bytes on every machine; more rows begin\n"
             "with the same rows. Real embeddings are less cleanly clustered.\n\n"
             "JSON line for each file: {\"file\",\"rows\",\"dimension\",\"seed\"}",
         .groups = {vectors_flags, options_common}},
    .chapter = "measuring",
    .run = run_bench_vectors,
};
