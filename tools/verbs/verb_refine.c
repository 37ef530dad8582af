// SPDX-License-Identifier: Apache-2.0
// reco refine: embeddings refined by the memory, as JSON or as rows of a file.

#include <stddef.h>
#include <stdio.h>

#include "tools/answers.h"
#include "tools/memories.h"
#include "tools/npyfile.h"
#include "tools/output.h"
#include "tools/queries.h"
#include "tools/verbs.h"

struct refine {
    struct queries queries;
    const struct options *options;
    struct npyfile_writer *writer; // with --out
    size_t columns;
};

static enum api_method refine_method(enum api_input kind)
{
    if (kind == API_INPUT_TEXT)
        return API_REFINE_TEXT;
    return kind == API_INPUT_EMBEDDING ? API_REFINE_EMBEDDING : API_REFINE_IMAGE;
}

static enum status write_row(struct refine *refine, const struct api_answer *answer,
                             struct reason *why)
{
    enum status status = STATUS_OK;
    if (!answer->embedding_count)
        return reason_set(why, STATUS_CORRUPT, NULL, "an answer without embedding");
    if (!refine->writer) {
        status =
            npyfile_create(refine->options->out, answer->embedding_count, &refine->writer, why);
        refine->columns = answer->embedding_count;
    }
    if (!status && answer->embedding_count != refine->columns)
        status = reason_set(why, STATUS_CORRUPT, NULL, "rows of %zu and of %zu numbers",
                            refine->columns, answer->embedding_count);
    return status ? status : npyfile_write_row(refine->writer, answer->embedding, why);
}

static enum status show(void *context, const struct queries_answer *answer)
{
    struct refine *refine = context;
    struct reason why = {.text = ""};
    if (refine->options->out && write_row(refine, answer->answer, &why)) {
        output_error(refine->options->out, &why);
        return STATUS_IO;
    }
    if (refine->options->json)
        return answers_put_line(refine->options, refine_method(answer->request->input),
                                answer->input, answer->answer);

    answers_print_input(answer->input, answer->answer);
    printf("  gate %.3f: ", (double)answer->answer->gate);
    output_text(answer->answer->gate_reason);
    putchar('\n');
    answers_print_neighbours(&answer->answer->neighbours, 2);
    answers_print_state(answer->answer, 2);
    return STATUS_OK;
}

static int finish(struct refine *refine, int exit_status)
{
    struct reason why = {.text = ""};
    if (!refine->writer)
        return exit_status;
    uint64_t rows = npyfile_rows_written(refine->writer);
    if (npyfile_finish(&refine->writer, &why)) {
        output_error(refine->options->out, &why);
        return VERBS_FAILED;
    }
    if (!refine->options->json)
        output_note("%llu rows of %zu numbers in %s", (unsigned long long)rows, refine->columns,
                    refine->options->out);
    return exit_status;
}

static int run_refine(const struct options *options)
{
    struct refine refine = {.options = options};
    struct reason why = {.text = ""};
    if (queries_begin(&refine.queries, options, &why)) {
        output_error(NULL, &why);
        queries_end(&refine.queries);
        return VERBS_USAGE;
    }
    struct client *client = NULL;
    int exit_status = memories_open_client(options, CLIENT_READ, &client);
    if (!exit_status)
        exit_status = queries_run(&refine.queries, client, refine_method, show, &refine);
    exit_status = finish(&refine, exit_status);
    queries_end(&refine.queries);
    client_close(&client);
    return exit_status;
}

static const struct args_flag refine_flags[] = {
    {.name = "--out",
     .kind = ARGS_TEXT,
     .argument = "X.npy",
     .help = "writes the refined embeddings as rows of an f32 array, in the order of the inputs; "
             "failed inputs have no row",
     .offset = offsetof(struct options, out)},
    {.name = NULL},
};

const struct verb verb_refine = {
    .args =
        {.name = "refine",
         .items = "",
         .summary = "an embedding made better by the memory's neighbours",
         .details =
             "The neighbours' other side (texts for a picture) is mixed into the query's\n"
             "embedding; the gate says how much, and why. Gate 0 is plain CLIP, bit for\n"
             "bit.\n\n"
             "JSON line: that of search, with \"embedding\",\"fusion\",\"gate\",\"gate_reason\"",
         .groups = {refine_flags, options_fusion, options_input, options_query, options_fields,
                    options_memory, options_items, options_data, options_model, options_server,
                    options_profile, options_common}},
    .chapter = "asking",
    .run = run_refine,
};
