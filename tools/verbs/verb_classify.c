// SPDX-License-Identifier: Apache-2.0
// reco classify: labels for pictures, without and with the memory side by side.
//
// The labels are compiled once and asked for by their id. Each name of a label is a
// label of its own to the server; the best of a label's names speaks for it. If the best
// T labels are wanted and no label has more than M names, they are among the best T * M names.

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/answers.h"
#include "tools/label_file.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/queries.h"
#include "tools/verbs.h"

#define COMPILE_ARENA_BYTES ((size_t)1 << 20)

struct classify {
    struct queries queries;
    const struct options *options;
    struct label_file labels;
    struct text *templates;
    char label_set_id[LABEL_SET_ID_BYTES + 1];
    struct client *client;
    struct text *ranked; // [2 * options->top], plain and refined
    float *scores;
};

// --- labels

// Stdin holds the labels or the pictures, not both.
static enum status check_stdin(const struct options *options, struct reason *why)
{
    const struct args_list *lists[] = {&options->items, &options->embeddings};
    bool taken = options->labels && strcmp(options->labels, "-") == 0;
    for (size_t i = 0; taken && i < 2; i++)
        for (size_t j = 0; j < lists[i]->count; j++)
            if (strcmp(lists[i]->items[j], "-") == 0)
                return reason_set(why, STATUS_INVALID, "--labels",
                                  "- here and among the inputs: stdin can be read once");
    return STATUS_OK;
}

static enum status read_labels(struct classify *classify, struct reason *why)
{
    const struct options *options = classify->options;
    struct reason inner = {.text = ""};
    if (options->no_labels)
        return options->labels || options->templates.count || options->explain
                   ? reason_set(why, STATUS_INVALID, "--no-labels",
                                "goes with neither --labels nor --template nor --explain")
                   : STATUS_OK;
    if (!options->labels)
        return reason_set(why, STATUS_INVALID, "--labels",
                          "is needed: a file with one label per line; or --no-labels, which takes "
                          "them from the captions of the neighbours");
    enum status status = label_file_read(options->labels, &classify->labels, &inner);
    if (status == STATUS_NOT_FOUND)
        return reason_set(why, status, "--labels", "'%s': %s; it names one with a label per line",
                          options->labels, inner.text);
    if (status)
        return reason_set(why, status, options->labels, "%s", inner.text);

    classify->templates = mem_alloc_array(options->templates.count + 1, sizeof(struct text));
    for (size_t i = 0; i < options->templates.count; i++)
        classify->templates[i] = text_of(options->templates.items[i]);
    classify->ranked = mem_alloc_array(2 * (size_t)options->top, sizeof(struct text));
    classify->scores = mem_alloc_array(2 * (size_t)options->top, sizeof(float));
    return STATUS_OK;
}

static enum status compile_labels(struct classify *classify, struct reason *why)
{
    const struct api_labels_request request = {
        .labels = classify->labels.names,
        .label_count = classify->labels.name_count,
        .templates = classify->templates,
        .template_count = classify->options->templates.count,
        .options = classify->queries.message,
    };
    struct buffer message = {0};
    struct buffer bytes = {0};
    enum status status = api_encode_labels_request(&request, &message);
    if (status)
        return reason_set(why, status, NULL, "the labels cannot be sent: %s", status_text(status));
    status = client_call(classify->client, API_COMPILE_LABELS,
                         (struct bytes){message.data, message.count}, &bytes, why);

    struct arena *arena = arena_create(COMPILE_ARENA_BYTES);
    struct api_answer answer = {.label_count = 0};
    if (!status)
        status = api_decode_answer(API_COMPILE_LABELS, (struct bytes){bytes.data, bytes.count},
                                   arena, &answer, why);
    if (!status && answer.label_set_id.bytes != LABEL_SET_ID_BYTES)
        status = reason_set(why, STATUS_CORRUPT, NULL, "an answer without the id of the labels");
    if (!status)
        memcpy(classify->label_set_id, answer.label_set_id.data, LABEL_SET_ID_BYTES);
    arena_destroy(&arena);
    buffer_deinit(&bytes);
    buffer_deinit(&message);
    return status;
}

static enum status renew_labels(void *context, struct reason *why)
{
    return compile_labels(context, why);
}

// --- answers

// The labels of an answer's names; points into *classify, where each side (0 plain, 1 refined) has
// its own place, until the next call for it.
static struct api_labels rank(struct classify *classify, size_t side,
                              const struct api_labels *names)
{
    if (classify->options->no_labels)
        return *names;
    size_t top = (size_t)classify->options->top;
    struct text *ranked = classify->ranked + side * top;
    float *scores = classify->scores + side * top;
    size_t count = label_file_rank(&classify->labels, names, top, ranked, scores);
    return (struct api_labels){.count = count, .labels = ranked, .scores = scores};
}

static enum status show_json(struct classify *classify, const struct queries_answer *answer)
{
    struct api_answer told = *answer->answer;
    told.plain = rank(classify, 0, &answer->answer->plain);
    told.refined = rank(classify, 1, &answer->answer->refined);
    return answers_put_line(classify->options, API_CLASSIFY, answer->input, &told);
}

// Both rankings side by side: each in its own pair of columns.
static void print_sides(struct classify *classify, const struct api_answer *answer)
{
    static const char *const header[] = {"plain CLIP", ">score", "with memory", ">score"};
    struct api_labels plain = rank(classify, 0, &answer->plain);
    struct api_labels refined = rank(classify, 1, &answer->refined);

    struct output_table table;
    output_table_begin(&table, header, 4);
    for (size_t i = 0; i < plain.count || i < refined.count; i++) {
        output_cell_text(&table, i < plain.count ? plain.labels[i] : (struct text){"", 0});
        if (i < plain.count)
            output_cell(&table, "%.4f", (double)plain.scores[i]);
        else
            output_cell_text(&table, (struct text){"", 0});
        output_cell_text(&table, i < refined.count ? refined.labels[i] : (struct text){"", 0});
        if (i < refined.count)
            output_cell(&table, "%.4f", (double)refined.scores[i]);
        else
            output_cell_text(&table, (struct text){"", 0});
    }
    output_table_end(&table, 2);
}

static enum status show(void *context, const struct queries_answer *answer)
{
    struct classify *classify = context;
    if (classify->options->json)
        return show_json(classify, answer);

    answers_print_input(answer->input, answer->answer);
    print_sides(classify, answer->answer);
    printf("  gate %.3f: ", (double)answer->answer->gate);
    output_text(answer->answer->gate_reason);
    putchar('\n');
    answers_print_neighbours(&answer->answer->neighbours, 2);
    answers_print_state(answer->answer, 2);
    return STATUS_OK;
}

// --- asking

static enum api_method classify_method(enum api_input kind)
{
    (void)kind;
    return API_CLASSIFY;
}

static enum api_method explain_method(enum api_input kind)
{
    (void)kind;
    return API_EXPLAIN;
}

static enum api_method discover_method(enum api_input kind)
{
    (void)kind;
    return API_DISCOVER_LABELS;
}

static int discover_all(struct classify *classify)
{
    classify->queries.extra = (struct queries_extra){
        .top = (uint32_t)classify->options->top,
        .candidates_max = (uint32_t)classify->options->candidates,
    };
    return queries_run(&classify->queries, classify->client, discover_method, show, classify);
}

static int ask_all(struct classify *classify)
{
    struct reason why = {.text = ""};
    enum status status = compile_labels(classify, &why);
    if (status) {
        output_error(NULL, &why);
        return output_exit(status);
    }
    output_step("%zu labels with %zu names compiled", classify->labels.label_count,
                classify->labels.name_count);

    uint64_t names = classify->options->top * classify->labels.aliases_max;
    if (names > classify->labels.name_count)
        names = classify->labels.name_count;
    classify->queries.extra = (struct queries_extra){
        .label_set_id = text_of(classify->label_set_id),
        .top = (uint32_t)names,
        .renew = renew_labels,
        .context = classify,
    };
    return queries_run(&classify->queries, classify->client,
                       classify->options->explain ? explain_method : classify_method, show,
                       classify);
}

// Plain CLIP needs no memory: without a named one a data directory that is not there is no error.
static enum client_need what_is_needed(const struct options *options)
{
    char path[CLIENT_PATH_BYTES];
    bool plain = options->fusion == API_FUSION_NONE && options->memory[0] == '\0';
    if (!plain || options->server || client_data_path(options, path, NULL) != STATUS_OK)
        return CLIENT_READ;
    return access(path, F_OK) == 0 ? CLIENT_READ : CLIENT_ENCODER;
}

static int run_classify(const struct options *options)
{
    struct classify classify = {.options = options};
    struct reason why = {.text = ""};
    bool arrays = options->embeddings.count > 0;

    enum status status = check_stdin(options, &why);
    bool is_usage = status || !options->labels || options->no_labels;
    int exit_status = is_usage ? VERBS_USAGE : VERBS_FAILED;
    if (!status)
        status = read_labels(&classify, &why);
    if (!status && arrays == (options->items.count > 0)) {
        status = reason_set(&why, STATUS_INVALID, NULL,
                            "either IMAGE... or --embedding FILE.npy is needed");
        exit_status = VERBS_USAGE;
    }
    if (!status) {
        status = arrays ? queries_begin_rows(&classify.queries, options, &why)
                        : queries_begin_pictures(&classify.queries, options, &options->items, &why);
        exit_status = VERBS_USAGE;
    }
    if (status) {
        output_error(NULL, &why);
    } else {
        exit_status = memories_open_client(options, what_is_needed(options), &classify.client);
        if (!exit_status)
            exit_status = options->no_labels ? discover_all(&classify) : ask_all(&classify);
    }

    queries_end(&classify.queries);
    client_close(&classify.client);
    label_file_deinit(&classify.labels);
    mem_free(classify.templates);
    mem_free(classify.ranked);
    mem_free(classify.scores);
    return exit_status;
}

static const struct args_flag classify_flags[] = {
    {.name = "--labels",
     .kind = ARGS_TEXT,
     .argument = "FILE",
     .help = "one label per line; tab-separated further columns are aliases; a line that begins "
             "with # is a comment; - reads them from stdin",
     .offset = offsetof(struct options, labels)},
    {.name = "--template",
     .kind = ARGS_LIST,
     .argument = "T",
     .fallback = "the model's",
     .help = "a prompt with {} where the label goes",
     .offset = offsetof(struct options, templates)},
    {.name = "--top",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "5",
     .help = "labels to answer",
     .offset = offsetof(struct options, top),
     .low = 1,
     .high = LABELS_MAX},
    {.name = "--no-labels",
     .kind = ARGS_SWITCH,
     .help = "takes the labels from the captions of the neighbours instead of a file",
     .offset = offsetof(struct options, no_labels)},
    {.name = "--candidates",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "200",
     .help = "with --no-labels: how many names of the captions are looked at",
     .offset = offsetof(struct options, candidates),
     .low = 1,
     .high = CANDIDATES_MAX},
    {.name = "--explain",
     .kind = ARGS_SWITCH,
     .help = "adds the effect of each neighbour: how the winner's margin changes without it",
     .offset = offsetof(struct options, explain)},
    {.name = "--embedding",
     .kind = ARGS_LIST,
     .argument = "FILE.npy",
     .help = "classifies the rows of an array of image embeddings instead of pictures; - reads one "
             "path per line from stdin",
     .offset = offsetof(struct options, embeddings)},
    {.name = NULL},
};

const struct verb verb_classify = {
    .args =
        {.name = "classify",
         .items = "IMAGE... --labels FILE | --no-labels",
         .summary = "labels for pictures, without and with the memory side by side",
         .details =
             "- reads one path per line from stdin. An alias is another name of the same label:\n"
             "the best of a label's names speaks for it, and the answer shows the first. The\n"
             "margin behind --explain is between names.\n\n"
             "Where the first labels without and with the memory differ, the gate of a trained\n"
             "head says which one is the likelier; when it is CLIP's own, both lists are plain\n"
             "CLIP's and the gate is 0.\n\n"
             "JSON line: "
             "{\"input\",\"plain\":[{\"label\",\"score\"}],\"refined\":[{\"label\",\"score\"}],\n"
             "\"fusion\",\"gate\",\"gate_reason\",\"neighbours\":[{\"id\",\"key\",\"score\","
             "\"caption\","
             "\"source\",\n"
             "\"weight\",\"effect\"}],\"coverage\",\"degraded\":[],\"memory\",\"generation\","
             "\"space\",\n"
             "\"index\",\"records\",\"work\":{},\"request_id\",\"timings_ms\":{}}; effect only "
             "with\n"
             "--explain",
         .items_max = SIZE_MAX,
         .groups = {classify_flags, options_fusion, options_query, options_fields, options_profile,
                    options_memory, options_items, options_data, options_model, options_server,
                    options_common}},
    .chapter = "asking",
    .run = run_classify,
};
