// SPDX-License-Identifier: Apache-2.0
// reco eval zero-shot, noise, ksweep, memory-size, grid, retrieval: what a memory changes, measured.
//
// All but retrieval are zero-shot classification at one or more points: what is changed at a point is the memory, the
// number of neighbours, or the sides that are searched and mixed in.

#include <math.h>
#include <stddef.h>
#include <stdio.h>

#include "proto/base/limits.h"
#include "tools/eval.h"
#include "tools/eval_examples.h"
#include "tools/eval_report.h"
#include "tools/eval_result.h"
#include "tools/eval_retrieval.h"
#include "tools/eval_zero.h"
#include "tools/output.h"
#include "tools/verbs.h"

// The first is what CLIP_benchmark's own models are given.
static const enum api_profile profiles[] = {API_PROFILE_OPENAI, API_PROFILE_HF,
                                            API_PROFILE_DEFAULT};

struct run {
    struct eval eval;
    struct eval_zero zero;
    struct eval_retrieval retrieval;
    struct eval_result result;
    bool is_told; // the failure, on stderr
};

// One point: how it is called, and what to measure there.
struct point {
    char text[EVAL_POINT_BYTES];
    double at; // NaN: no number
    uint32_t k;
    struct eval_zero_sides sides;
    bool keeps_hits; // the neighbours of the point before do here, too
};

// What a kind changes. `set` prepares the point and the memory for it.
struct kind {
    const char *name;
    const char *axis, *title, *words; // as in struct eval_result
    // Before anything is encoded: whether the memory is large enough.
    enum status (*check)(const struct run *run, struct reason *why);
    size_t (*count)(const struct run *run);
    enum status (*set)(struct run *run, size_t index, struct point *out, struct reason *why);
};

// --- points

static enum status check_k(const struct run *run, struct reason *why)
{
    return eval_check_k(&run->eval, "-k", run->eval.options->k, run->eval.memory.count, why);
}

static size_t one_point(const struct run *run)
{
    (void)run;
    return 1;
}

static enum status set_plain(struct run *run, size_t index, struct point *out, struct reason *why)
{
    (void)index;
    (void)why;
    *out = (struct point){.at = NAN, .k = (uint32_t)run->eval.options->k};
    return STATUS_OK;
}

static size_t count_noise(const struct run *run)
{
    return run->eval.options->shares.count;
}

static enum status set_noise(struct run *run, size_t index, struct point *out, struct reason *why)
{
    struct eval_memory *memory = &run->eval.memory;
    const uint64_t percent = run->eval.options->shares.items[index];
    const uint32_t wrong = (uint32_t)((memory->count * percent + 50) / 100);
    *out = (struct point){.at = (double)percent / 100, .k = (uint32_t)run->eval.options->k};
    (void)snprintf(out->text, sizeof(out->text), "%u %%", (unsigned)percent);
    const enum status status = eval_memory_exchange(memory, wrong, run->eval.options->seed);
    return status ? reason_set(why, status, "--noise", "no memory to exchange %u captions", wrong)
                  : STATUS_OK;
}

static size_t count_neighbours(const struct run *run)
{
    return run->eval.options->neighbours.count;
}

static uint64_t most_neighbours(const struct run *run)
{
    const struct args_numbers *list = &run->eval.options->neighbours;
    uint64_t most = 0;
    for (size_t i = 0; i < list->count; i++)
        most = list->items[i] > most ? list->items[i] : most;
    return most;
}

static enum status check_neighbours(const struct run *run, struct reason *why)
{
    return eval_check_k(&run->eval, "--neighbours", most_neighbours(run), run->eval.memory.count,
                        why);
}

// The largest k is searched for once; each takes the first of what was found.
static enum status set_neighbours(struct run *run, size_t index, struct point *out,
                                  struct reason *why)
{
    const uint64_t k = run->eval.options->neighbours.items[index];
    *out = (struct point){.at = (double)k, .k = (uint32_t)k, .keeps_hits = true};
    (void)snprintf(out->text, sizeof(out->text), "%u", out->k);
    return index > 0
               ? STATUS_OK
               : eval_zero_search(&run->zero, out->sides, (uint32_t)most_neighbours(run), why);
}

static size_t count_sizes(const struct run *run)
{
    const size_t given = run->eval.options->sizes.count;
    return given ? given : 4; // a 64th, a 16th, a quarter, all
}

static uint64_t size_of(const struct run *run, size_t index)
{
    const struct options *options = run->eval.options;
    if (options->sizes.count)
        return options->sizes.items[index];
    uint64_t size = run->eval.memory.count;
    for (size_t i = index; i + 1 < 4; i++)
        size = size / 4 > options->k ? size / 4 : options->k;
    return size;
}

static enum status check_sizes(const struct run *run, struct reason *why)
{
    const struct eval_memory *memory = &run->eval.memory;
    enum status status = check_k(run, why);
    for (size_t i = 0; i < count_sizes(run) && !status && memory->count; i++) {
        const uint64_t size = size_of(run, i);
        if (size > memory->count)
            return reason_set(why, STATUS_INVALID, "--sizes",
                              "%llu: the memory %s has %u records; allowed: 1..%u",
                              (unsigned long long)size, memory->name, memory->count, memory->count);
        status = eval_check_k(&run->eval, "-k", run->eval.options->k, size, why);
    }
    return status;
}

static enum status set_size(struct run *run, size_t index, struct point *out, struct reason *why)
{
    const uint64_t size = size_of(run, index);
    *out = (struct point){.at = (double)size, .k = (uint32_t)run->eval.options->k};
    (void)snprintf(out->text, sizeof(out->text), "%llu", (unsigned long long)size);
    const enum status status =
        eval_memory_choose(&run->eval.memory, (uint32_t)size, run->eval.options->seed);
    return status ? reason_set(why, status, "--sizes", "no memory to choose %llu records",
                               (unsigned long long)size)
                  : STATUS_OK;
}

static size_t four_points(const struct run *run)
{
    (void)run;
    return 4;
}

static enum status set_sides(struct run *run, size_t index, struct point *out, struct reason *why)
{
    (void)why;
    *out = (struct point){.at = NAN,
                          .k = (uint32_t)run->eval.options->k,
                          .sides = {.search_across = index >= 2, .fuse_same = index % 2 == 1},
                          .keeps_hits = index % 2 == 1};
    (void)snprintf(out->text, sizeof(out->text), "search %s, fuse %s",
                   out->sides.search_across ? "across" : "own",
                   out->sides.fuse_same ? "own" : "across");
    return STATUS_OK;
}

// --- measuring

static enum status add_row(struct run *run, const struct eval_row *row)
{
    const enum status status = eval_result_add(&run->result, row);
    run->is_told = status != STATUS_OK;
    return status;
}

static enum status measure_point(struct run *run, const struct point *point, struct reason *why)
{
    enum status status = STATUS_OK;
    if (run->eval.memory.count && !point->keeps_hits)
        status = eval_zero_search(&run->zero, point->sides, point->k, why);
    for (size_t i = 1; i < run->eval.mode_count && !status; i++) {
        struct eval_row row = {.at = point->at};
        (void)snprintf(row.point, sizeof(row.point), "%s", point->text);
        status =
            eval_zero_measure(&run->zero, point->sides, run->eval.modes[i], point->k, &row, why);
        if (!status)
            status = add_row(run, &row);
    }
    return status;
}

// Plain CLIP asks no memory: one row of it stands for all points.
static enum status measure_plain(struct run *run, struct reason *why)
{
    static const struct eval_zero_sides sides = {.search_across = false};
    struct eval_row row = {.at = NAN, .point = "-"};
    const enum status status = eval_zero_measure(&run->zero, sides, FUSION_NONE,
                                                 (uint32_t)run->eval.options->k, &row, why);
    return status ? status : add_row(run, &row);
}

static enum status measure_points(struct run *run, const struct kind *kind, struct reason *why)
{
    enum status status = measure_plain(run, why);
    const size_t count = run->eval.mode_count > 1 ? kind->count(run) : 0;
    for (size_t i = 0; i < count && !status; i++) {
        struct point point;
        status = kind->set(run, i, &point, why);
        if (!status)
            status = measure_point(run, &point, why);
    }
    return status;
}

// --- the verbs

// Pictures with their neighbours, of the mode that is best: for one point only.
static enum status write_report(struct run *run, const char *what, struct reason *why)
{
    struct eval_examples examples = {.count = 0};
    struct eval_report report = {
        .result = &run->result, .what = what, .classes = &run->zero.classes};
    const struct eval_row *best = NULL;
    for (size_t i = 1; i < run->result.count; i++)
        if (!best || run->result.rows[i].metrics[0].value > best->metrics[0].value)
            best = &run->result.rows[i];
    enum status status = STATUS_OK;
    if (best && run->zero.images.hits && !run->result.axis) {
        status = eval_examples_collect(&run->zero, best->mode, &examples, why);
        report.examples = &examples;
    }
    if (!status)
        status = eval_report_write(run->eval.options->report, &report, why);
    eval_examples_deinit(&examples);
    return status;
}

// The figures first: a page that cannot be written costs only itself.
static int finish(struct run *run, const char *what, enum status status, struct reason *why)
{
    const bool has_failed = run->zero.set.has_failed || run->retrieval.set.has_failed;
    if (!status && !run->eval.options->json)
        eval_result_print(&run->result);
    if (!status && run->eval.options->report)
        status = write_report(run, what, why);
    if (status && !run->is_told)
        output_error(NULL, why);
    // A file of this machine, not the cluster.
    if (status == STATUS_IO || (!status && has_failed))
        return VERBS_FAILED;
    return status ? output_exit(status) : VERBS_DONE;
}

static void end(struct run *run)
{
    eval_result_deinit(&run->result);
    eval_zero_end(&run->zero);
    eval_retrieval_end(&run->retrieval);
    eval_end(&run->eval);
}

static int run_kind(const struct options *options, const struct kind *kind)
{
    struct run run = {.is_told = false};
    struct reason why = {.text = ""};
    int exit_status = eval_begin(&run.eval, options);
    if (!exit_status) {
        enum status status = kind->check(&run, &why);
        if (!status)
            status = eval_zero_begin(&run.zero, &run.eval, profiles[options->profile], &why);
        run.result = (struct eval_result){
            .eval = &run.eval,
            .dataset = run.zero.place.name,
            .task = "zeroshot_classification",
            .axis = kind->axis,
            .axis_title = kind->title,
            .axis_words = kind->words,
            .encode_seconds = run.zero.set.seconds,
        };
        if (!status)
            status = measure_points(&run, kind, &why);
        exit_status = finish(&run, kind->name, status, &why);
    }
    end(&run);
    return exit_status;
}

static int run_zero_shot(const struct options *options)
{
    static const struct kind kind = {
        .name = "zero-shot", .check = check_k, .count = one_point, .set = set_plain};
    return run_kind(options, &kind);
}

static int run_noise(const struct options *options)
{
    static const struct kind kind = {"noise", "noise",     ">wrong", "captions exchanged",
                                     check_k, count_noise, set_noise};
    return run_kind(options, &kind);
}

static int run_ksweep(const struct options *options)
{
    static const struct kind kind = {"ksweep",      "neighbours",     ">k",
                                     "neighbours",  check_neighbours, count_neighbours,
                                     set_neighbours};
    return run_kind(options, &kind);
}

static int run_memory_size(const struct options *options)
{
    static const struct kind kind = {
        "memory-size", "size",      ">records", "records of the memory",
        check_sizes,   count_sizes, set_size};
    return run_kind(options, &kind);
}

static int run_grid(const struct options *options)
{
    static const struct kind kind = {"grid",  "sides",     "sides",  "sides",
                                     check_k, four_points, set_sides};
    return run_kind(options, &kind);
}

static int run_retrieval(const struct options *options)
{
    struct run run = {.is_told = false};
    struct reason why = {.text = ""};
    int exit_status = eval_begin(&run.eval, options);
    if (!exit_status) {
        enum status status = check_k(&run, &why);
        if (!status)
            status =
                eval_retrieval_begin(&run.retrieval, &run.eval, profiles[options->profile], &why);
        run.result = (struct eval_result){
            .eval = &run.eval,
            .dataset = run.retrieval.place.name,
            .task = "zeroshot_retrieval",
            .encode_seconds = run.retrieval.set.seconds,
        };
        for (size_t i = 0; i < run.eval.mode_count && !status; i++) {
            struct eval_row row = {.at = NAN};
            status = eval_retrieval_measure(&run.retrieval, run.eval.modes[i], &row, &why);
            if (!status)
                status = add_row(&run, &row);
        }
        exit_status = finish(&run, "retrieval", status, &why);
    }
    end(&run);
    return exit_status;
}

// --- flags

static const struct args_flag eval_flags[] = {
    {.name = "--modes",
     .kind = ARGS_TEXT,
     .argument = "LIST",
     .fallback = "none,mean,weighted, and head where there is one",
     .help = "how neighbours are mixed in, one after the other: " EVAL_MODE_WORDS
             "; plain CLIP (none) is always measured, since the others are held against it",
     .offset = offsetof(struct options, modes)},
    {.name = "--head",
     .kind = ARGS_TEXT,
     .argument = "FILE",
     .fallback = "the model's own",
     .help = "the trained weights that the mode head uses",
     .offset = offsetof(struct options, head)},
    {.name = "--split",
     .kind = ARGS_TEXT,
     .argument = "NAME",
     .fallback = "test",
     .help = "the part of a data set in CLIP_benchmark's layout",
     .offset = offsetof(struct options, split)},
    {.name = "--profile",
     .kind = ARGS_CHOICE,
     .argument = "NAME",
     .fallback = "openai, as others measure",
     .help = "how a picture becomes pixels: openai and hf do exactly what those programs do, reco "
             "lays transparency over white and applies EXIF rotation",
     .offset = offsetof(struct options, profile),
     .choices = "openai|hf|reco"},
    {.name = "--report",
     .kind = ARGS_TEXT,
     .argument = "X.html",
     .help = "writes a page with tables, a drawing and, of zero-shot, pictures with their "
             "neighbours, which needs no other file",
     .offset = offsetof(struct options, report)},
    {.name = NULL},
};

static const struct args_flag k_flags[] = {
    {.name = "-k",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "10",
     .help = "neighbours",
     .offset = offsetof(struct options, k),
     .low = 1,
     .high = K_MAX},
    {.name = NULL},
};

static const struct args_flag seed_flags[] = {
    {.name = "--seed",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1",
     .help = "draws the records by lot: the same ones for the same number",
     .offset = offsetof(struct options, seed),
     .low = 0,
     .high = 4294967295.0},
    {.name = NULL},
};

static const struct args_flag label_flags[] = {
    {.name = "--labels",
     .kind = ARGS_TEXT,
     .argument = "FILE",
     .fallback = "the data set's own",
     .help = "one label per line; tab-separated further columns are aliases; a line that begins "
             "with # is a comment; - reads them from stdin",
     .offset = offsetof(struct options, labels)},
    {.name = "--template",
     .kind = ARGS_LIST,
     .argument = "T",
     .fallback = "the data set's own, else the model's",
     .help = "a prompt with {} where the label goes, {c} in the file; several are averaged",
     .offset = offsetof(struct options, templates)},
    {.name = NULL},
};

static const struct args_flag noise_flags[] = {
    {.name = "--noise",
     .kind = ARGS_NUMBER_LIST,
     .argument = "LIST",
     .fallback = "0,25,50,75,100",
     .help = "percent of the memory's captions that are exchanged among each other",
     .offset = offsetof(struct options, shares),
     .low = 0,
     .high = 100},
    {.name = NULL},
};

static const struct args_flag neighbours_flags[] = {
    {.name = "--neighbours",
     .kind = ARGS_NUMBER_LIST,
     .argument = "LIST",
     .fallback = "1,2,5,10,20,50",
     .help = "how many neighbours are mixed in, one after the other",
     .offset = offsetof(struct options, neighbours),
     .low = 1,
     .high = K_MAX},
    {.name = NULL},
};

static const struct args_flag sizes_flags[] = {
    {.name = "--sizes",
     .kind = ARGS_NUMBER_LIST,
     .argument = "LIST",
     .fallback = "a 64th, a 16th, a quarter, all",
     .help = "how many of the memory's records may be found, one after the other",
     .offset = offsetof(struct options, sizes),
     .low = 1,
     .high = 4294967295.0},
    {.name = NULL},
};

#define COMMON_GROUPS                                                                              \
    eval_flags, options_memory, options_items, options_data, options_model, options_server,        \
        options_common

#define SET_WORDS                                                                                  \
    "DATASET is a folder in CLIP_benchmark's webdataset layout (test/nshards.txt,\n"               \
    "test/0.tar ... with .jpg, .png or .webp and .cls; classnames.txt and\n"                       \
    "zeroshot_classification_templates.txt beside test), or whatever `memory build`\n"             \
    "reads: then the caption of a picture is its label, which --labels must have.\n"

#define CHANCE_WORDS                                                                               \
    "The memory is read once and searched exactly. Metrics are shares of all queries;\n"           \
    "the difference to plain CLIP has a paired bootstrap interval of 95 %, with the\n"             \
    "same seed each time. in_memory counts the pictures that the memory has itself.\n"

#define JSON_HEAD                                                                                  \
    "JSON line, one for each row, in CLIP_benchmark's shape: {\"dataset\",\"model\",\n"            \
    "\"pretrained\",\"task\",\"metrics\":"
#define JSON_TAIL                                                                                  \
    ",\"language\",\"mode\",\"memory\",\n"                                                         \
    "\"records\",\"k\",\"count\",\"in_memory\",\"seconds\",\"encode_seconds\",\n"                  \
    "\"intervals\":{METRIC:{\"low\",\"high\"}},\n"                                                 \
    "\"differences\":{METRIC:{\"value\",\"low\",\"high\"}}}"
#define JSON_ZERO JSON_HEAD "{\"acc1\",\"acc5\",\"mean_per_class_recall\"}" JSON_TAIL

const struct verb verb_eval_zero_shot = {
    .args = {.name = "eval zero-shot",
             .items = "DATASET...",
             .summary = "how often a picture's label comes first, without and with the memory",
             .details =
                 SET_WORDS "\n" CHANCE_WORDS "\n" JSON_ZERO "; acc5 is null below five labels",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {label_flags, k_flags, COMMON_GROUPS}},
    .chapter = "measuring",
    .run = run_zero_shot,
};

const struct verb verb_eval_retrieval = {
    .args = {.name = "eval retrieval",
             .items = "DATASET...",
             .summary = "how often captions find their picture and pictures their caption",
             .details =
                 "DATASET is a folder in CLIP_benchmark's webdataset layout (test/nshards.txt,\n"
                 "test/0.tar ... with .jpg, .png or .webp and .txt), or whatever `memory build`\n"
                 "reads. Each line of a .txt is a caption of its own.\n"
                 "\n" CHANCE_WORDS "\n" JSON_HEAD "{\"image_retrieval_recall@5\",\n"
                 "\"text_retrieval_recall@5\", both also @1 and @10}" JSON_TAIL
                 "; of images: captions ask, and count is theirs",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {k_flags, COMMON_GROUPS}},
    .chapter = "measuring",
    .run = run_retrieval,
};

const struct verb verb_eval_noise = {
    .args = {.name = "eval noise",
             .items = "DATASET...",
             .summary = "zero-shot with a share of the memory's captions exchanged",
             .details = SET_WORDS "\n"
                                  "Captions go round by lot; a larger share has the smaller ones' "
                                  "records in it.\n\n" CHANCE_WORDS "\n" JSON_ZERO
                                  "; and \"noise\", 0..1, null for plain CLIP",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {noise_flags, label_flags, k_flags, seed_flags, COMMON_GROUPS}},
    .chapter = "measuring",
    .run = run_noise,
};

const struct verb verb_eval_ksweep = {
    .args = {.name = "eval ksweep",
             .items = "DATASET...",
             .summary = "zero-shot with few and with many neighbours",
             .details = SET_WORDS "\n" CHANCE_WORDS "\n" JSON_ZERO
                                  "; and \"neighbours\", null for plain CLIP",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {neighbours_flags, label_flags, COMMON_GROUPS}},
    .chapter = "measuring",
    .run = run_ksweep,
};

const struct verb verb_eval_memory_size = {
    .args = {.name = "eval memory-size",
             .items = "DATASET...",
             .summary = "zero-shot with parts of the memory",
             .details = SET_WORDS "\n"
                                  "Records are drawn by lot; a larger part has the smaller ones in "
                                  "it.\n\n" CHANCE_WORDS "\n" JSON_ZERO
                                  "; and \"size\", null for plain CLIP",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {sizes_flags, label_flags, k_flags, seed_flags, COMMON_GROUPS}},
    .chapter = "measuring",
    .run = run_memory_size,
};

const struct verb verb_eval_grid = {
    .args = {.name = "eval grid",
             .items = "DATASET...",
             .summary = "zero-shot with every choice of sides that are searched and mixed in",
             .details =
                 SET_WORDS "\n"
                           "Search own: pictures search pictures, labels texts; across: the other "
                           "way round.\n"
                           "Fuse across: pictures take in texts, labels pictures; own: their own "
                           "kind.\n\n" CHANCE_WORDS "\n" JSON_ZERO "; and \"sides\"",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {label_flags, k_flags, COMMON_GROUPS}},
    .chapter = "measuring",
    .run = run_grid,
};
