// SPDX-License-Identifier: Apache-2.0
// options.h - what the flags of every verb are read into, and the groups that verbs share.
//
// One struct serves all verbs: a verb reads the members whose flags are in its
// groups; the others keep the defaults of options_init().
//
// Thread-safety: plain data.

#ifndef RECO_TOOLS_OPTIONS_H
#define RECO_TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/limits.h"
#include "proto/wire/api.h"
#include "tools/args.h"

// Grouped by use, not by size: there is one of it.
struct options { // NOLINT(clang-analyzer-optin.performance.Padding)
    // every verb
    bool json, quiet, verbose, keep_going;
    const char *config; // the file; NULL: none
    bool print_config;
    // where the answer comes from
    const char *data;                                   // NULL: datadir_default_path()
    bool data_given;                                    // by a flag
    const char *server;                                 // NULL: inside this process
    const char *tls_ca, *tls_cert, *tls_key, *tls_name; // how to speak to it; NULL: not given
    const char *model;                                  // NULL: the embedded one
    const char *device;                                 // NULL: auto
    uint64_t deadline_ms;
    const char *request_id;
    const char *memory;
    bool memory_given; // by a flag
    // queries
    struct args_list images, texts, embeddings, parts;
    int modality; // of the embeddings: enum modality
    uint64_t k;
    int over;         // enum api_modality
    int fusion;       // enum api_fusion
    const char *head; // NULL: as the coordinator looks for one
    int index;        // enum api_index
    int train_loss;   // enum fusion_loss
    int train_terms;  // place in the choices of --terms
    int approx;       // enum api_approx less 1; -1: not given
    uint64_t nprobe;
    double target_recall;
    int profile; // enum api_profile
    double min_similarity, min_coverage, min_pair_similarity;
    double dedup;
    struct args_list exclude, filters, only;
    const char *out; // file, or folder of preprocess
    // classify
    const char *labels;
    struct args_list templates;
    uint64_t top;
    bool explain, no_labels;
    uint64_t candidates;
    // eval
    const char *modes, *split, *report; // modes NULL: the usual ones
    const char *kinds;                  // of eval all
    const char *shots_from;             // NULL: train
    const char *entities, *split_field; // of eval oven; NULL: labels, data_split
    struct args_numbers shots;
    struct args_numbers shares, neighbours, sizes; // sizes.count 0: parts of the whole
    // memories
    const char *space;
    bool replace, remove, hash, dry_run;
    int format; // of a manifest on stdin: place in DATASET_FORMATS; -1: none
    struct args_list columns;
    uint64_t vshards;
    const char *key, *caption, *source, *image, *image_embedding, *text_embedding;
    struct args_list tags, keys, ids;
    uint64_t shard_rows; // of a file of an export
    uint64_t sample;     // records that a report asks with
    const char *fields;  // NULL: the answer's default
    // up
    uint64_t shards;  // 0: as the data directory has it, else 1
    const char *http; // side ports of `reco up`; NULL: as the configuration says
    uint64_t port;    // OPTIONS_PORT_UNSET: as the configuration says
    // bench
    struct args_numbers batches, concurrency;
    uint64_t repetitions, queries, synthetic, dimension;
    uint64_t count, query_rows, seed; // of made-up vectors
    // bench index
    const char *base, *recall;
    struct args_list query_files, truths;
    struct args_numbers probes;
    uint64_t threads, batch, extra_bits, list_vectors;
    bool rounds;
    // bench encode
    int what;               // 0 images, 1 texts
    const char *texts_file; // NULL: captions of its own
    bool profile_operations, count_operations;
    uint64_t encode_threads; // 0: as many as this process may use
    uint64_t chunk, seconds; // bench live
    uint64_t train_pairs;    // bench train
    bool refine;
    // train
    struct args_list pairs, known, sets;
    uint64_t steps, train_batch, every, patience;
    double rate, rate_block, scale, held_out, dropout, noise, unrelated, exclude_similar;
    bool no_exclude;
    const char *entity_field; // NULL: the caption
    const char *without;      // NULL: the head gets no gate
    // what is no flag
    struct args_list items;
};

#define OPTIONS_PORT_UNSET UINT64_MAX
#define OPTIONS_PORT_DEFAULT 7700

// Every default.
void options_init(struct options *options);

// --filter and --only, alike in every table; `what` begins the sentence: "only records".
#define OPTIONS_FILTER_FLAG(what)                                                                  \
    {                                                                                              \
        .name = "--filter", .kind = ARGS_LIST, .argument = "tag=VALUE",                            \
        .help = what " with this tag, and with that of every further --filter; any:tag=VALUE: "    \
                     "with one of these; no:tag=VALUE: without it",                                \
        .offset = offsetof(struct options, filters)                                                \
    }
// Of a source that is a data set as its makers publish it.
#define OPTIONS_SPLIT_FLAG                                                                         \
    {                                                                                              \
        .name = "--split", .kind = ARGS_TEXT, .argument = "NAME", .fallback = "train",             \
        .help = "the part of a data set as its makers publish it: train, val or test",             \
        .offset = offsetof(struct options, split)                                                  \
    }
#define OPTIONS_ONLY_FLAG                                                                          \
    {                                                                                              \
        .name = "--only", .kind = ARGS_LIST, .argument = "KEY",                                    \
        .help = "only these records; - reads one key per line from stdin",                         \
        .offset = offsetof(struct options, only)                                                   \
    }

// How far an index is looked into.
#define OPTIONS_EFFORT_FLAGS                                                                       \
    {.name = "--approx",                                                                           \
     .kind = ARGS_CHOICE,                                                                          \
     .argument = "HOW",                                                                            \
     .fallback = "as the server is configured: normal",                                            \
     .help = "how near to the true best the index comes: target recall 0.90, 0.95 or 0.99; not "   \
             "with --target-recall or --nprobe",                                                   \
     .offset = offsetof(struct options, approx),                                                   \
     .choices = "fast|normal|accurate"},                                                           \
        {.name = "--target-recall",                                                                \
         .kind = ARGS_NUMBER,                                                                      \
         .argument = "X",                                                                          \
         .help = "the share of the true best that the index is to find, 0.5 to 0.999; not with "   \
                 "--nprobe",                                                                       \
         .offset = offsetof(struct options, target_recall),                                        \
         .low = 0.5,                                                                               \
         .high = 0.999},                                                                           \
    {                                                                                              \
        .name = "--nprobe", .kind = ARGS_COUNT, .argument = "N",                                   \
        .help = "lists of the index that each node looks into, in place of a target",              \
        .offset = offsetof(struct options, nprobe), .low = 1, .high = PROBES_MAX                   \
    }

extern const struct args_flag options_common[];  // --json --quiet --verbose --config --print-config
extern const struct args_flag options_items[];   // --keep-going
extern const struct args_flag options_model[];   // --model --device
extern const struct args_flag options_server[];  // --server --tls-... --deadline-ms --request-id
extern const struct args_flag options_data[];    // --data
extern const struct args_flag options_memory[];  // --memory
extern const struct args_flag options_profile[]; // --profile
extern const struct args_flag options_records[]; // --key --id
extern const struct args_flag options_query[];   // -k --over ... what bounds a search
extern const struct args_flag options_fusion[];  // --fusion
extern const struct args_flag options_fields[];  // --fields
extern const struct args_flag options_input[];   // --image --text --embedding --modality

// Whether the values of the flags are what a server takes; STATUS_INVALID names the flag.
enum status options_check(const struct options *options, struct reason *why) MUST_CHECK;

// The same for one NAME or NAME@GENERATION; `flag` is what the error calls it.
enum status options_check_memory(const char *flag, const char *memory,
                                 struct reason *why) MUST_CHECK;

// The bits of --fields, 0 for the default. STATUS_INVALID naming the word that is none.
enum status options_read_fields(const struct options *options, uint32_t *out,
                                struct reason *why) MUST_CHECK;

// The options of a query message; the texts point into `options`
// and `exclude`, which has room for options->exclude.count.
void options_query_message(const struct options *options, struct text *exclude,
                           struct api_options *out);

#endif
