// SPDX-License-Identifier: Apache-2.0
// verbs.h - the table of what `reco` can do; one verbs/verb_*.c for each line of it.
//
// Thread-safety: constant data.

#ifndef RECO_TOOLS_VERBS_H
#define RECO_TOOLS_VERBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/args.h"
#include "tools/options.h"

// Exit statuses of the program: a promise to scripts.
enum verbs_exit {
    VERBS_DONE = 0,
    VERBS_FAILED = 1,      // an item failed and was named on stderr
    VERBS_USAGE = 2,       // the command line is wrong
    VERBS_UNAVAILABLE = 3, // the cluster cannot answer, or the deadline passed
};

struct verb {
    struct args_verb args;
    const char *chapter;                       // under which heading `reco help` lists it
    int (*run)(const struct options *options); // returns an exit status
};

// All verbs in the order of the help.
extern const struct verb *const verbs[];
extern const size_t verbs_count;

// Finds the verb at the start of argv[0 .. argc-1], one or two words long, and counts them in
// *words. STATUS_NOT_FOUND with the nearest known name.
enum status verbs_find(int argc, const char *const *argv, const struct verb **out, int *words,
                       struct reason *why) MUST_CHECK;

// `reco help memory`: the verbs that begin with this word. False, and nothing printed, when there
// is none of two words.
bool verbs_print_family(const char *word, FILE *file);

// `reco help`: every verb with its line.
void verbs_print_all(FILE *file);

extern const struct verb verb_help, verb_version, verb_doctor, verb_config;
extern const struct verb verb_tokenize, verb_preprocess, verb_embed_image, verb_embed_text;
extern const struct verb verb_memory_build, verb_memory_add, verb_memory_delete, verb_memory_get;
extern const struct verb verb_memory_export, verb_memory_report;
extern const struct verb verb_memory_hide, verb_memory_unhide, verb_memory_alias;
extern const struct verb verb_memory_snapshot, verb_memory_restore;
extern const struct verb verb_memory_list, verb_memory_info, verb_memory_drop;
extern const struct verb verb_search, verb_refine, verb_classify;
extern const struct verb verb_eval_zero_shot, verb_eval_retrieval, verb_eval_noise;
extern const struct verb verb_eval_ksweep, verb_eval_memory_size, verb_eval_grid,
    verb_eval_few_shot, verb_eval_capacity, verb_eval_oven, verb_eval_all;
extern const struct verb verb_train;
extern const struct verb verb_up, verb_status, verb_keys_make, verb_keys_show;
extern const struct verb verb_bench_encode, verb_bench_search, verb_bench_index, verb_bench_live,
    verb_bench_train, verb_bench_vectors;

#endif
