// SPDX-License-Identifier: Apache-2.0
// reco train: a fusion head from pairs and a memory.
//
//   memory --> pairs, embedded once --> neighbours, found once --> steps --> HEAD.safetensors
//                                                                       gate -->|
//
// With --known and --without the same is done for known pairs and a second memory, to learn a gate
// from.
//
// Killed at any point and started again, the same command goes on from HEAD.safetensors.state and
// ends with the same bytes.

#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "tools/answers.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/recall.h"
#include "tools/train_run.h"
#include "tools/train_set.h"
#include "tools/verbs.h"

#define TERMS_REFINED 1         // place in the choices of --terms
#define INDEX_WAIT_US 120000000 // for an index that is being made

struct training {
    const struct options *options;
    struct client *client;
    struct dataset *datasets[TRAIN_GATE_KINDS];        // --pairs, --known
    struct train_memory memories[TRAIN_GATE_MEMORIES]; // --memory, --without
    struct train_pairs pairs[TRAIN_GATE_KINDS];
    struct train_neighbours neighbours[TRAIN_GATE_MEMORIES][TRAIN_GATE_KINDS];
    bool has_gate;
    struct train_gate gate;
    struct train_batches *batches;
    struct fusion_train *train;
    struct train_state state;
    bool has_all; // that it learns from: the cluster is not asked any more
    char data[HASH_SHA256_HEX_BYTES];
    int64_t start_us;
};

// --- flags

static enum status read_flags(const struct options *options, struct reason *why)
{
    if (!options->pairs.count)
        return reason_set(why, STATUS_INVALID, "--pairs", "is needed: the pairs to learn from");
    if (!options->out || !options->out[0])
        return reason_set(why, STATUS_INVALID, "--out", "is needed: the head's file");
    if (!options->known.count != !options->without)
        return reason_set(why, STATUS_INVALID, options->without ? "--known" : "--without",
                          "is needed with %s: a gate is learnt from known pairs and a memory "
                          "without them",
                          options->without ? "--without" : "--known");
    if (options->exclude_similar <= 0)
        return reason_set(why, STATUS_INVALID, "--exclude-similar",
                          "0 would leave out every neighbour; above 0, up to 1 is allowed");
    return STATUS_OK;
}

static enum status make_params(const struct training *training, struct fusion_train_params *params,
                               struct reason *why)
{
    const struct options *options = training->options;
    const struct train_memory *memory = &training->memories[TRAIN_GATE_WITH];
    *params = fusion_train_default(memory->dimension);
    params->k = (uint32_t)options->k;
    params->pairs = (uint32_t)options->train_batch;
    params->seed = options->seed;
    params->steps = options->steps;
    params->warmup = params->warmup < options->steps / 4 ? params->warmup : options->steps / 4;
    params->rate = (float)options->rate;
    params->rate_block = (float)options->rate_block;
    params->dropout = (float)options->dropout;
    params->scale = (float)options->scale;
    params->loss = (enum fusion_loss)options->train_loss;
    if (params->loss == FUSION_LOSS_ABSOLUTE)
        params->rate_scale = 0.0f;
    for (size_t i = 1; i < FUSION_TRAIN_TERMS && options->train_terms == TERMS_REFINED; i++)
        params->weight[i] = 0.0f;
    for (size_t side = 0; side < FUSION_HEAD_SIDES; side++)
        params->config[side].consensus = true;
    const enum status status =
        train_set(params->config, options->sets.items, options->sets.count, why);
    if (status)
        return status;
    for (size_t side = 0; side < FUSION_HEAD_SIDES; side++)
        if (params->config[side].dimension != memory->dimension)
            return reason_set(why, STATUS_INVALID, "--set",
                              "dimension=%u: the memory's space %s has %u",
                              params->config[side].dimension, memory->space, memory->dimension);
    return STATUS_OK;
}

// What is in no other file and must be the same when a training goes on.
static void name_flags(struct training *training)
{
    static const char *const kinds[] = {"auto", "exact", "ivf"};
    const struct options *options = training->options;
    struct train_state *state = &training->state;
    train_state_fact(state, "--memory", "%s", training->memories[TRAIN_GATE_WITH].pin);
    train_state_fact(state, "--without", "%s",
                     training->has_gate ? training->memories[TRAIN_GATE_WITHOUT].pin : "not given");
    train_state_fact(state, "--entity-field", "%s",
                     options->entity_field ? options->entity_field : "not given");
    train_state_fact(state, "--index", "%s", kinds[options->index]);
    train_state_fact(state, "--held-out", "%.9g", options->held_out);
    train_state_fact(state, "--noise", "%.9g", options->noise);
    train_state_fact(state, "--unrelated", "%.9g", options->unrelated);
    train_state_fact(state, "--exclude-similar", "%.9g", options->exclude_similar);
    train_state_fact(state, "--no-exclude", "%s", options->no_exclude ? "given" : "not given");
    train_state_fact(state, "--every", "%" PRIu64, options->every);
    train_state_fact(state, "--patience", "%" PRIu64, options->patience);
}

// --- what it learns from

static enum status look_at_other(struct training *training, struct reason *why)
{
    const struct train_memory *memory = &training->memories[TRAIN_GATE_WITH];
    struct train_memory *other = &training->memories[TRAIN_GATE_WITHOUT];
    const enum status status =
        train_memory_describe(other, training->client, training->options->without, why);
    if (status)
        return status;
    if (strcmp(other->pin, memory->pin) == 0)
        return reason_set(why, STATUS_INVALID, "--without",
                          "%s is --memory, too: another is needed, that has nothing of --known",
                          other->pin);
    if (strcmp(other->space, memory->space) != 0)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "--without",
                          "the space of %s is %s, that of --memory %s is %s", other->pin,
                          other->space, memory->pin, memory->space);
    return STATUS_OK;
}

static enum status look_at_memories(struct training *training, struct reason *why)
{
    const struct options *options = training->options;
    const char *name = options->memory[0] ? options->memory : "default";
    struct train_memory *memory = &training->memories[TRAIN_GATE_WITH];
    enum status status = train_memory_describe(memory, training->client, name, why);
    if (!status && options->k > memory->records)
        status = reason_set(why, STATUS_INVALID, "-k",
                            "%" PRIu64 ": the memory %s has %" PRIu64 " records", options->k,
                            memory->pin, memory->records);
    return status || !training->has_gate ? status : look_at_other(training, why);
}

// The files that stand at the end, and one that comes before: told at once, not when hours have
// passed.
static enum status check_files(const struct options *options, struct reason *why)
{
    struct train_state paths;
    enum status status = train_state_init(&paths, options->out, why);
    if (!status)
        status = output_check_file("--out", options->out, why);
    return status ? status : output_check_file("--out", paths.best_path, why);
}

// A training is made, and what an interrupted one has left is taken up, before anything that takes
// long.
static enum status prepare(struct training *training, struct reason *why)
{
    struct fusion_train_params params;
    enum status status = make_params(training, &params, why);
    if (!status)
        status = train_state_init(&training->state, training->options->out, why);
    if (!status)
        status = fusion_train_create(&params, 0, &training->train, why);
    if (status)
        return status;
    memcpy(training->state.weight, params.weight, sizeof(params.weight));
    name_flags(training);
    if (!train_state_exists(&training->state))
        return STATUS_OK;
    status = train_state_load(&training->state, training->train, why);
    if (!status)
        output_note("going on from step %" PRIu64 " (%s)", fusion_train_steps(training->train),
                    training->state.path);
    return status;
}

static enum status read_pairs(struct training *training, enum train_gate_kind kind,
                              struct reason *why)
{
    const struct train_memory *memory = &training->memories[TRAIN_GATE_WITH];
    const struct train_pairs_params params = {
        .client = training->client,
        .space = memory->space,
        .dimension = memory->dimension,
        .flag = kind == TRAIN_GATE_KNOWN_THINGS ? "--known" : "--pairs",
        .out = training->options->out,
        .entity = training->options->entity_field,
        .keep_going = training->options->keep_going,
    };
    const enum status status =
        train_pairs_read(&training->pairs[kind], training->datasets[kind], &params, why);
    if (!status)
        output_step("%u pairs of %s", training->pairs[kind].rows.count, params.flag);
    return status;
}

// An index that is being made would give the first pairs other neighbours than the last ones.
static enum status wait_for_index(const struct training *training,
                                  const struct train_memory *memory, struct reason *why)
{
    uint32_t nodes = 0;
    if (training->options->index == API_INDEX_EXACT)
        return STATUS_OK;
    enum status status = memories_count_nodes(training->client, &nodes, why);
    if (status || memory->rows.count < (uint64_t)INDEX_RECORDS_FROM * nodes)
        return status;
    const struct api_options options = {.k = 0};
    const struct recall_params params = {
        .memory = memory->pin, .options = &options, .sample = 1, .wait_us = INDEX_WAIT_US};
    struct recall_figures ignored[RECALL_WAYS];
    uint32_t asked = 0;
    return recall_measure(training->client, &params, ignored, &asked, why);
}

static enum status find_neighbours(struct training *training, enum train_gate_memory memory,
                                   enum train_gate_kind kind, struct reason *why)
{
    const struct options *options = training->options;
    const struct train_neighbours_params params = {
        .client = training->client,
        .memory = &training->memories[memory],
        .pairs = &training->pairs[kind],
        .k = (uint32_t)options->k,
        .index = (enum api_index)options->index,
        .similarity = options->exclude_similar,
        .keeps_self = options->no_exclude,
        .seed = options->seed,
        .held_out = options->held_out,
    };
    struct train_neighbours *found = &training->neighbours[memory][kind];
    const enum status status = train_neighbours_find(found, &params, why);
    if (!status)
        output_step("neighbours found in %s; %" PRIu64 " left out: the pairs themselves and "
                    "pictures nearly theirs",
                    params.memory->pin, found->excluded);
    return status;
}

// A memory, the pairs that belong to it, and the neighbours of all pairs that are there.
static enum status read_all(struct training *training, struct reason *why)
{
    const int count = training->has_gate ? TRAIN_GATE_KINDS : 1;
    enum status status = STATUS_OK;
    for (int i = 0; i < count && !status; i++) {
        struct train_memory *memory = &training->memories[i];
        status = train_memory_read(memory, training->client, training->options->out, why);
        if (!status)
            output_step("%u records of %s", memory->rows.count, memory->pin);
        if (!status)
            status = read_pairs(training, (enum train_gate_kind)i, why);
    }
    for (int memory = 0; memory < count && !status; memory++) {
        status = wait_for_index(training, &training->memories[memory], why);
        for (int kind = 0; kind < count && !status; kind++)
            status = find_neighbours(training, (enum train_gate_memory)memory,
                                     (enum train_gate_kind)kind, why);
    }
    return status;
}

// The data of an interrupted training must be these.
static enum status check_data(struct training *training, struct reason *why)
{
    static const char *const names[] = {
        "hash of the pairs",          "hash of the memory",
        "hash of the neighbours",     "hash of the known pairs",
        "hash of the memory without", "hash of known neighbours",
        "hash of neighbours without", "hash of known neighbours without"};
    const char *digests[] = {training->pairs[0].digest,         training->memories[0].digest,
                             training->neighbours[0][0].digest, training->pairs[1].digest,
                             training->memories[1].digest,      training->neighbours[0][1].digest,
                             training->neighbours[1][0].digest, training->neighbours[1][1].digest};
    const size_t count = training->has_gate ? sizeof(names) / sizeof(names[0]) : 3;
    struct train_state *state = &training->state;
    uint8_t digest[HASH_SHA256_BYTES];
    struct hash_sha256 hash;
    hash_sha256_init(&hash);
    for (size_t i = 0; i < count; i++) {
        train_state_fact(state, names[i], "%s", digests[i]);
        hash_sha256_update(&hash, digests[i], HASH_SHA256_HEX_BYTES);
    }
    hash_sha256_final(&hash, digest);
    hash_hex(digest, sizeof(digest), training->data);
    return state->point_count ? train_state_load(state, training->train, why) : STATUS_OK;
}

static enum status gather(struct training *training, struct reason *why)
{
    const struct options *options = training->options;
    enum status status = read_all(training, why);
    if (status)
        return status;
    const struct train_batches_params params = {
        .memory = &training->memories[TRAIN_GATE_WITH],
        .pairs = &training->pairs[TRAIN_GATE_NEW_THINGS],
        .neighbours = &training->neighbours[TRAIN_GATE_WITH][TRAIN_GATE_NEW_THINGS],
        .batch = (uint32_t)options->train_batch,
        .seed = options->seed,
        .held_out = options->held_out,
        .noise = options->noise,
        .unrelated = options->unrelated,
    };
    status = train_batches_create(&params, &training->batches, why);
    return status ? status : check_data(training, why);
}

// --- telling

static void put_uint(struct json_writer *writer, const char *name, uint64_t value)
{
    json_name(writer, name);
    json_put_uint(writer, value);
}

static uint64_t count_bad(const struct training *training)
{
    return training->pairs[TRAIN_GATE_NEW_THINGS].bad +
           training->pairs[TRAIN_GATE_KNOWN_THINGS].bad;
}

static void show_json(const struct training *training)
{
    const struct train_memory *memory = &training->memories[TRAIN_GATE_WITH];
    const struct train_state *state = &training->state;
    const struct train_point *best = &state->points[state->best];
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "head");
    json_put_cstr(&writer, training->options->out);
    json_name(&writer, "space");
    json_put_cstr(&writer, memory->space);
    json_name(&writer, "memory");
    json_put_cstr(&writer, memory->pin);
    put_uint(&writer, "pairs", training->pairs[TRAIN_GATE_NEW_THINGS].rows.count);
    put_uint(&writer, "learnt", train_batches_learnt(training->batches));
    put_uint(&writer, "held_out_pairs", train_batches_held_out(training->batches));
    put_uint(&writer, "left_out", count_bad(training));
    put_uint(&writer, "excluded",
             training->neighbours[TRAIN_GATE_WITH][TRAIN_GATE_NEW_THINGS].excluded);
    put_uint(&writer, "steps", fusion_train_steps(training->train));
    put_uint(&writer, "best_step", best->step);
    json_name(&writer, "data");
    json_put_cstr(&writer, training->data);
    json_name(&writer, "held_out");
    json_begin_object(&writer);
    json_name(&writer, "plain");
    train_state_put_figures(&writer, &state->plain);
    json_name(&writer, "begin");
    train_state_put_figures(&writer, &state->points[0].held_out);
    json_name(&writer, "best");
    train_state_put_figures(&writer, &best->held_out);
    json_end_object(&writer);
    json_name(&writer, "gate");
    if (training->has_gate)
        train_gate_put(&training->gate, &writer);
    else
        json_put_null(&writer);
    json_name(&writer, "seconds");
    json_put_double(&writer, (double)(clock_now_us() - training->start_us) / 1e6);
    json_end_object(&writer);
    (void)!answers_end_line(&writer); // a broken stdout is told at the end of the program
    json_writer_deinit(&writer);
}

static void put_row(const struct training *training, struct output_table *table, const char *name,
                    const struct train_figures *figures)
{
    output_cell(table, "%s", name);
    output_cell(table, "%.3f", (double)figures->recall);
    output_cell(table, "%.4f", train_state_sum(&training->state, figures->loss));
    for (size_t term = 0; term < FUSION_TRAIN_TERMS; term++)
        output_cell(table, "%.4f", (double)figures->loss[term]);
}

static void show_text(const struct training *training)
{
    static const char *const header[] = {
        "held out",         ">recall@1",         ">loss",
        ">refined-refined", ">refined-original", ">original-refined"};
    const struct train_state *state = &training->state;
    struct output_table table;
    char figure[OUTPUT_FIGURE_BYTES];
    printf("%s: a head for %s, best at step %" PRIu64 " of %" PRIu64 "; ", training->options->out,
           training->memories[TRAIN_GATE_WITH].space, state->points[state->best].step,
           fusion_train_steps(training->train));
    printf("learnt from %s pairs, ", output_count(train_batches_learnt(training->batches), figure));
    printf("measured on %s of entities held out\n",
           output_count(train_batches_held_out(training->batches), figure));
    output_table_begin(&table, header, sizeof(header) / sizeof(header[0]));
    put_row(training, &table, "plain CLIP", &state->plain);
    put_row(training, &table, "before training", &state->points[0].held_out);
    put_row(training, &table, "the head", &state->points[state->best].held_out);
    output_table_end(&table, 2);
    if (training->has_gate)
        train_gate_show(&training->gate);
}

// Ctrl-C ends the program as always, but not without a word.
static void tell_interrupted(int number)
{
    static const char words[] = "\nreco train: interrupted; the same command goes on from the last "
                                "step that was measured\n";
    (void)!write(STDERR_FILENO, words, sizeof(words) - 1);
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

// --- the verb

static enum status train(struct training *training, struct reason *why)
{
    const struct options *options = training->options;
    enum status status = look_at_memories(training, why);
    if (!status)
        status = prepare(training, why);
    if (!status)
        status = gather(training, why);
    if (status)
        return status;
    training->has_all = true;
    struct train_gate_params gate = {.seed = options->seed};
    for (size_t i = 0; i < TRAIN_GATE_KINDS; i++) {
        gate.memories[i] = &training->memories[i];
        gate.pairs[i] = &training->pairs[i];
        for (size_t kind = 0; kind < TRAIN_GATE_KINDS; kind++)
            gate.neighbours[i][kind] = &training->neighbours[i][kind];
    }
    const struct train_run run = {
        .out = options->out,
        .space = training->memories[TRAIN_GATE_WITH].space,
        .data = training->data,
        .every = options->every,
        .patience = options->patience,
        .json = options->json,
        .train = training->train,
        .batches = training->batches,
        .state = &training->state,
        .gate_params = training->has_gate ? &gate : NULL,
        .gate = &training->gate,
    };
    (void)signal(SIGINT, tell_interrupted);
    return train_run(&run, why);
}

static int train_and_tell(struct training *training)
{
    struct reason why = {.text = ""};
    const enum status status = train(training, &why);
    if (status) {
        // A pair that ended it was named already.
        if (why.text[0])
            output_error(NULL, &why);
        // A file that cannot be written is no fault of the cluster's.
        return training->has_all || strcmp(why.field, "--out") == 0 ? VERBS_FAILED
                                                                    : output_exit(status);
    }
    if (training->options->json)
        show_json(training);
    else
        show_text(training);
    return count_bad(training) ? VERBS_FAILED : VERBS_DONE;
}

static enum status open_sources(struct training *training, enum train_gate_kind kind,
                                struct reason *why)
{
    const struct options *options = training->options;
    const bool is_known = kind == TRAIN_GATE_KNOWN_THINGS;
    const struct args_list *sources = is_known ? &options->known : &options->pairs;
    struct dataset_params params = {
        .format = -1, .entity = options->entity_field, .split = options->split};
    for (size_t i = 0; i < options->columns.count; i++) {
        const enum status status = dataset_params_column(&params, options->columns.items[i], why);
        if (status)
            return status;
    }
    for (size_t i = 0; i < sources->count; i++)
        if (strcmp(sources->items[i], "-") == 0)
            return reason_set(why, STATUS_INVALID, is_known ? "--known" : "--pairs",
                              "- is not allowed: an interrupted training reads them again");
    return dataset_open(sources->items, sources->count, &params, &training->datasets[kind], why);
}

static void release(struct training *training)
{
    train_batches_destroy(&training->batches);
    for (size_t i = 0; i < TRAIN_GATE_KINDS; i++) {
        for (size_t kind = 0; kind < TRAIN_GATE_KINDS; kind++)
            train_neighbours_deinit(&training->neighbours[i][kind]);
        train_pairs_deinit(&training->pairs[i]);
        train_memory_deinit(&training->memories[i]);
        dataset_close(&training->datasets[i]);
    }
    train_state_deinit(&training->state);
    fusion_train_destroy(&training->train);
    client_close(&training->client);
    mem_free(training);
}

static int run_train(const struct options *options)
{
    struct training *training = mem_alloc(sizeof(*training));
    struct reason why = {.text = ""};
    training->options = options;
    training->start_us = clock_now_us();
    training->has_gate = options->known.count > 0;
    int exit_status = VERBS_USAGE;
    enum status status = read_flags(options, &why);
    if (!status && (status = check_files(options, &why)))
        exit_status = VERBS_FAILED;
    for (int kind = 0; kind < (training->has_gate ? TRAIN_GATE_KINDS : 1) && !status; kind++)
        if ((status = open_sources(training, (enum train_gate_kind)kind, &why)))
            exit_status = why.field[0] == '-' ? VERBS_USAGE : VERBS_FAILED;
    if (status)
        output_error(NULL, &why);
    else
        exit_status = memories_open_client(options, CLIENT_READ, &training->client);
    if (!status && !exit_status)
        exit_status = train_and_tell(training);
    release(training);
    return exit_status;
}

static const struct args_flag train_flags[] = {
    {.name = "--pairs",
     .kind = ARGS_LIST,
     .argument = "SOURCE",
     .help = "pairs to learn from, as `memory build` takes them",
     .offset = offsetof(struct options, pairs)},
    {.name = "--out",
     .kind = ARGS_TEXT,
     .argument = "HEAD.safetensors",
     .help = "the head's file; FILE.state and FILE.best stand beside it until it is made",
     .offset = offsetof(struct options, out)},
    {.name = "--column",
     .kind = ARGS_LIST,
     .argument = "ROLE=NAME",
     .help = "which column of manifests is the image, caption, key, source or tags, where it has "
             "another than the usual name",
     .offset = offsetof(struct options, columns)},
    OPTIONS_SPLIT_FLAG,
    {.name = "--entity-field",
     .kind = ARGS_TEXT,
     .argument = "NAME",
     .fallback = "the caption, but for case and white space",
     .help = "the member of a sidecar or metadata, or the column, that pairs of one thing have in "
             "common",
     .offset = offsetof(struct options, entity_field)},
    {.name = "--held-out",
     .kind = ARGS_NUMBER,
     .argument = "SHARE",
     .fallback = "0.1",
     .help = "of the entities, drawn by the seed: they are never learnt and say when to stop",
     .offset = offsetof(struct options, held_out),
     .low = 0.001,
     .high = 0.9},
    {.name = "-k",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "10",
     .help = "neighbours",
     .offset = offsetof(struct options, k),
     .low = 1,
     .high = K_MAX},
    {.name = "--index",
     .kind = ARGS_CHOICE,
     .argument = "KIND",
     .fallback = "auto",
     .help = "how neighbours are found, as in `search`; exact finds the same on every machine",
     .offset = offsetof(struct options, index),
     .choices = "auto|exact|ivf"},
    {.name = "--exclude-similar",
     .kind = ARGS_NUMBER,
     .argument = "X",
     .fallback = "0.97",
     .help = "a record whose picture has this inner product or more with the pair's own is no "
             "neighbour",
     .offset = offsetof(struct options, exclude_similar),
     .low = 0,
     .high = 1},
    {.name = "--no-exclude",
     .kind = ARGS_SWITCH,
     .help = "lets pairs find themselves, which teaches copying: to see what it does",
     .offset = offsetof(struct options, no_exclude)},
    {.name = "--known",
     .kind = ARGS_LIST,
     .argument = "SOURCE",
     .help = "pairs that the encoder knows without a memory, each caption a label: with --without "
             "the head learns a gate from them",
     .offset = offsetof(struct options, known)},
    {.name = "--without",
     .kind = ARGS_TEXT,
     .argument = "NAME",
     .help = "a memory that has nothing of --known: where it answers, the gate learns to leave "
             "CLIP's own answers alone",
     .offset = offsetof(struct options, without)},
    {.name = NULL},
};

static const struct args_flag course_flags[] = {
    {.name = "--steps",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1000",
     .help = "batches to learn from at most",
     .offset = offsetof(struct options, steps),
     .low = 1,
     .high = 1e9},
    {.name = "--batch",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "256",
     .help = "pairs in each",
     .offset = offsetof(struct options, train_batch),
     .low = 2,
     .high = FUSION_TRAIN_PAIRS_MAX},
    {.name = "--rate",
     .kind = ARGS_NUMBER,
     .argument = "X",
     .fallback = "0.0005",
     .help = "highest rate of learning",
     .offset = offsetof(struct options, rate),
     .low = 1e-9,
     .high = 1},
    {.name = "--rate-block",
     .kind = ARGS_NUMBER,
     .argument = "X",
     .fallback = "1",
     .help = "factor of it for the transformer; 0 leaves it as it begins",
     .offset = offsetof(struct options, rate_block),
     .low = 0,
     .high = 100},
    {.name = "--loss",
     .kind = ARGS_CHOICE,
     .argument = "KIND",
     .choices = "cross-entropy|absolute",
     .fallback = "cross-entropy",
     .help = "absolute: 1 - p of the right answer in the place of -log p",
     .offset = offsetof(struct options, train_loss)},
    {.name = "--terms",
     .kind = ARGS_CHOICE,
     .argument = "WHICH",
     .choices = "all|refined",
     .fallback = "all",
     .help = "refined: no refined side learns to meet one that is not",
     .offset = offsetof(struct options, train_terms)},
    {.name = "--scale",
     .kind = ARGS_NUMBER,
     .argument = "X",
     .fallback = "20",
     .help = "the logit scale at first; with cross-entropy it is learnt, up to CLIP's 100",
     .offset = offsetof(struct options, scale),
     .low = 1,
     .high = 100},
    {.name = "--dropout",
     .kind = ARGS_NUMBER,
     .argument = "SHARE",
     .fallback = "0.1",
     .help = "of the neighbours that a step does not see",
     .offset = offsetof(struct options, dropout),
     .low = 0,
     .high = 0.99},
    {.name = "--noise",
     .kind = ARGS_NUMBER,
     .argument = "SHARE",
     .fallback = "0.5",
     .help = "of the neighbours that get another record's caption or picture, in a quarter of the "
             "batches; a quarter has fewer, half of them none",
     .offset = offsetof(struct options, noise),
     .low = 0,
     .high = 1},
    {.name = "--unrelated",
     .kind = ARGS_NUMBER,
     .argument = "SHARE",
     .fallback = "0",
     .help = "of the neighbours whose place another record takes, with its own score",
     .offset = offsetof(struct options, unrelated),
     .low = 0,
     .high = 1},
    {.name = "--every",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "50",
     .help = "steps after which held-out pairs are measured and FILE.state is written",
     .offset = offsetof(struct options, every),
     .low = 1,
     .high = 1e9},
    {.name = "--patience",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "5",
     .help = "measurements without a better one after which it stops",
     .offset = offsetof(struct options, patience),
     .low = 1,
     .high = 1e9},
    {.name = "--seed",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1",
     .help = "of all that is drawn: the same one makes the same file",
     .offset = offsetof(struct options, seed),
     .low = 0,
     .high = 9007199254740992},
    {.name = "--set",
     .kind = ARGS_LIST,
     .argument = "FIELD=VALUE",
     .help = "a field of the head's config, of one side as image.FIELD=VALUE: block, consensus, "
             "pairing, heads, mlp, norm, baseline and so on",
     .offset = offsetof(struct options, sets)},
    {.name = NULL},
};

const struct verb verb_train = {
    .args =
        {.name = "train",
         .items = "",
         .summary = "a fusion head from pairs and a memory; resumes",
         .details =
             "Embeds the pairs once, finds the neighbours of each picture and each caption in the\n"
             "memory once, and learns how a query and its neighbours become one embedding. Model "
             "and\n"
             "memory stay as they are. The memory may be the pairs themselves: what a pair would "
             "only\n"
             "copy, its own record and pictures nearly its own, is no neighbour.\n"
             "\n"
             "Entities that are held out say which weights are best: those with the lowest loss "
             "on\n"
             "them are saved, those before the first step among them. The head begins as weighted\n"
             "fusion.\n"
             "\n"
             "With --known and --without the head has a gate, too: where CLIP's answer and the "
             "memory's\n"
             "differ it says which one to take. It is learnt when the head is, from pictures of "
             "both\n"
             "kinds of pairs, among the labels of their own kind and of both, in both memories, "
             "with\n"
             "captions as they are and wrong. Where all answers that differ are of one kind there "
             "is\n"
             "nothing to learn: the command fails, and the head stands without a gate.\n"
             "\n"
             "Interrupted, the same command goes on and ends with the same file as if it had not\n"
             "been. Other flags or other data than it was begun with are refused.\n"
             "\n"
             "JSON line for each measurement: {\"step\",\"loss\":{\"refined_refined\","
             "\"refined_original\",\n"
             "\"original_refined\"},\"lr\",\"held_out\":{\"loss\",\"recall_at_1\"}}, where loss is "
             "the "
             "mean since\n"
             "the one before; last line {\"head\",\"space\",\"memory\",\"pairs\",\"learnt\","
             "\"held_out_pairs\",\n"
             "\"left_out\",\"excluded\",\"steps\",\"best_step\",\"data\",\"held_out\":{\"plain\","
             "\"begin\",\"best\"},\n"
             "\"gate\":{\"cases\",\"memory_right\",\"constants\",\"new\",\"known\"},"
             "\"seconds\"}. Each of new and known is\n"
             "{\"pictures\",\"labels\"} and for each scene (memory, half_wrong, wrong, "
             "without_wrong,\n"
             "without) {\"own\",\"all\"}: shares of right answers {\"plain\",\"refined\","
             "\"chosen\"} among those labels.",
         .items_max = 0,
         .groups = {train_flags, course_flags, options_memory, options_items, options_data,
                    options_model, options_server, options_common}},
    .chapter = "models",
    .run = run_train,
};
