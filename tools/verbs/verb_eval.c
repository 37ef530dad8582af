// SPDX-License-Identifier: Apache-2.0
// reco eval zero-shot: how often a picture's label is the first one, without and with the memory.

#include <stddef.h>
#include <stdio.h>

#include "proto/base/limits.h"
#include "tools/eval.h"
#include "tools/eval_result.h"
#include "tools/eval_zero.h"
#include "tools/output.h"
#include "tools/verbs.h"

// The first is what CLIP_benchmark's own models are given.
static const enum api_profile profiles[] = {API_PROFILE_OPENAI, API_PROFILE_HF,
                                            API_PROFILE_DEFAULT};

struct run {
    struct eval eval;
    struct eval_zero zero;
    struct eval_result result;
    bool is_told; // the failure, on stderr
};

static enum status measure_modes(struct run *run, struct reason *why)
{
    static const struct eval_zero_sides sides = {.search_across = false};
    const uint32_t k = (uint32_t)run->eval.options->k;
    enum status status = STATUS_OK;
    if (run->eval.memory.count)
        status = eval_zero_search(&run->zero, sides, k, why);
    for (size_t i = 0; i < run->eval.mode_count && !status; i++) {
        struct eval_row row = {.metric_count = 0};
        status = eval_zero_measure(&run->zero, sides, run->eval.modes[i], k, &row, why);
        if (status)
            return status;
        status = eval_result_add(&run->result, &row);
        run->is_told = status != STATUS_OK;
    }
    return status;
}

static int run_zero_shot(const struct options *options)
{
    struct run run = {.is_told = false};
    struct reason why = {.text = ""};
    int exit_status = eval_begin(&run.eval, options);
    if (!exit_status) {
        enum status status =
            eval_zero_begin(&run.zero, &run.eval, profiles[options->profile], &why);
        run.result = (struct eval_result){
            .eval = &run.eval,
            .dataset = run.zero.place.name,
            .task = "zeroshot_classification",
            .encode_seconds = run.zero.set.seconds,
        };
        if (!status)
            status = measure_modes(&run, &why);
        if (status && !run.is_told)
            output_error(NULL, &why);
        if (!status && !options->json)
            eval_result_print(&run.result);
        exit_status = status                    ? output_exit(status)
                      : run.zero.set.has_failed ? VERBS_FAILED
                                                : VERBS_DONE;
    }
    eval_result_deinit(&run.result);
    eval_zero_end(&run.zero);
    eval_end(&run.eval);
    return exit_status;
}

static const struct args_flag eval_flags[] = {
    {.name = "--modes",
     .kind = ARGS_TEXT,
     .argument = "LIST",
     .fallback = "none,mean,weighted",
     .help = "how neighbours are mixed in, one after the other: " EVAL_MODE_WORDS
             "; plain CLIP (none) is always measured, since the others are held against it",
     .offset = offsetof(struct options, modes)},
    {.name = "-k",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "10",
     .help = "neighbours",
     .offset = offsetof(struct options, k),
     .low = 1,
     .high = K_MAX},
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
    {.name = NULL},
};

static const struct args_flag zero_flags[] = {
    {.name = "--labels",
     .kind = ARGS_TEXT,
     .argument = "FILE",
     .fallback = "DATASET/classnames.txt",
     .help = "one label per line; tab-separated further columns are aliases; a line that begins "
             "with # is a comment; - reads them from stdin",
     .offset = offsetof(struct options, labels)},
    {.name = "--template",
     .kind = ARGS_LIST,
     .argument = "T",
     .fallback = "DATASET/zeroshot_classification_templates.txt, else the model's",
     .help = "a prompt with {} where the label goes, {c} in the file; several are averaged",
     .offset = offsetof(struct options, templates)},
    {.name = NULL},
};

const struct verb verb_eval_zero_shot = {
    .args =
        {.name = "eval zero-shot",
         .items = "DATASET...",
         .summary = "how often a picture's label comes first, without and with the memory",
         .details =
             "DATASET is a folder in CLIP_benchmark's webdataset layout (test/nshards.txt,\n"
             "test/0.tar ... with .jpg, .png or .webp and .cls; classnames.txt and\n"
             "zeroshot_classification_templates.txt beside test), or whatever `memory build`\n"
             "reads: then the caption of a picture is its label, which --labels must have.\n"
             "\n"
             "The memory is read once and searched exactly. Metrics are shares of all pictures;\n"
             "the difference to plain CLIP has a paired bootstrap interval of 95 %, with the\n"
             "same seed each time.\n"
             "\n"
             "JSON line, one for each mode, in CLIP_benchmark's shape: {\"dataset\",\"model\",\n"
             "\"pretrained\",\"task\",\"metrics\":{\"acc1\",\"acc5\",\"mean_per_class_recall\"},\n"
             "\"language\",\"mode\",\"memory\",\"records\",\"k\",\"count\",\"seconds\",\n"
             "\"encode_seconds\",\"intervals\":{\"acc1\":{\"low\",\"high\"}},\"differences\":\n"
             "{\"acc1\":{\"value\",\"low\",\"high\"}}}; acc5 is null below five labels",
         .items_min = 1,
         .items_max = SIZE_MAX,
         .groups = {zero_flags, eval_flags, options_memory, options_items, options_data,
                    options_model, options_server, options_common}},
    .chapter = "measuring",
    .run = run_zero_shot,
};
