// SPDX-License-Identifier: Apache-2.0
// The tables of the shared flags. A flag that only one verb has stands beside
// that verb.

#include "tools/options.h"

#include <stddef.h>
#include <string.h>

#include "proto/base/limits.h"

#define MEMBER(name) offsetof(struct options, name)

void options_init(struct options *options)
{
    *options = (struct options){
        .memory = "", // the server's default
        .k = 10,
        .approx = -1,
        .format = -1,
        .top = 5,
        .shares = {.items = {0, 25, 50, 75, 100}, .count = 5},
        .neighbours = {.items = {1, 2, 5, 10, 20, 50}, .count = 6},
        .shots = {.items = {1, 2, 4, 8, 16}, .count = 5},
        .candidates = 200,
        .vshards = VSHARDS_DEFAULT,
        .shard_rows = 1000000,
        .port = OPTIONS_PORT_UNSET,
        .batches = {.items = {1, 8, 64}, .count = 3},
        .concurrency = {.items = {1}, .count = 1},
        .repetitions = 5,
        .queries = 100,
        .sample = 200,
        .dimension = 512,
        .count = 1000000,
        .query_rows = 1000,
        .seed = 1,
        .recall = "0.95,0.99",
        .threads = 1,
        .batch = 1,
        .train_pairs = 256,
        .chunk = 1024,
        .seconds = 15,
        .extra_bits = 3,
        .steps = 1000,
        .train_batch = 256,
        .every = 50,
        .patience = 5,
        .rate = 5e-4,
        .rate_block = 1,
        .scale = 20,
        .dropout = 0.1,
        .noise = 0.5,
        .held_out = 0.1,
        .exclude_similar = 0.97,
    };
}

const struct args_flag options_common[] = {
    {.name = "--json",
     .kind = ARGS_SWITCH,
     .help = "one JSON object per line on stdout, nothing else there",
     .offset = MEMBER(json)},
    {.name = "--quiet",
     .alias = "-q",
     .kind = ARGS_SWITCH,
     .help = "no progress and no remarks; errors stay",
     .offset = MEMBER(quiet)},
    {.name = "--verbose",
     .alias = "-v",
     .kind = ARGS_SWITCH,
     .help = "says on stderr what is done, step by step",
     .offset = MEMBER(verbose)},
    {.name = "--config",
     .kind = ARGS_TEXT,
     .argument = "FILE",
     .help = "reads defaults of flags from this file; `reco config reco` prints an example",
     .offset = MEMBER(config)},
    {.name = "--print-config",
     .kind = ARGS_SWITCH,
     .help = "prints the configuration in force, and where each value comes from, and ends",
     .offset = MEMBER(print_config)},
    {.name = NULL},
};

const struct args_flag options_items[] = {
    {.name = "--keep-going",
     .kind = ARGS_SWITCH,
     .help = "does the rest when an item fails; the exit status is 1 all the same",
     .offset = MEMBER(keep_going)},
    {.name = NULL},
};

const struct args_flag options_model[] = {
    {.name = "--model",
     .kind = ARGS_TEXT,
     .argument = "DIR",
     .fallback = "the embedded reco-tiny",
     .help = "CLIP in Hugging Face's layout (config.json, model.safetensors, "
             "preprocessor_config.json) or open_clip's (open_clip_config.json, "
             "open_clip_model.safetensors), with vocab.json and merges.txt or tokenizer.json",
     .offset = MEMBER(model)},
    {.name = "--device",
     .kind = ARGS_TEXT,
     .argument = "NAME",
     .fallback = "auto",
     .help =
         "where the model runs: auto, cpu, cpu-bf16 (products in bfloat16, twice as fast, where "
         "the CPU and the model allow it), or the UUID of a Vulkan device, as `reco doctor` "
         "lists them",
     .offset = MEMBER(device)},
    {.name = NULL},
};

const struct args_flag options_server[] = {
    {.name = "--server",
     .kind = ARGS_TEXT,
     .argument = "HOST:PORT",
     .help = "asks this server; without it the work is done inside this process",
     .offset = MEMBER(server)},
    {.name = "--tls-ca",
     .kind = ARGS_TEXT,
     .argument = "FILE",
     .help = "speaks TLS to the server, whose certificate this CA has signed; the word system: the "
             "CAs of this machine",
     .offset = MEMBER(tls_ca)},
    {.name = "--tls-cert",
     .kind = ARGS_TEXT,
     .argument = "FILE",
     .help = "the certificate that is shown to the server",
     .offset = MEMBER(tls_cert)},
    {.name = "--tls-key",
     .kind = ARGS_TEXT,
     .argument = "FILE",
     .help = "the private key of it",
     .offset = MEMBER(tls_key)},
    {.name = "--tls-name",
     .kind = ARGS_TEXT,
     .argument = "NAME",
     .help = "the name in the server's certificate, where it is not the host",
     .offset = MEMBER(tls_name)},
    {.name = "--deadline-ms",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "none",
     .help = "longest time for one request, in milliseconds; records on their way into a memory "
             "have none",
     .offset = MEMBER(deadline_ms),
     .low = 1,
     .high = DEADLINE_MS_MAX},
    {.name = "--request-id",
     .kind = ARGS_TEXT,
     .argument = "ID",
     .fallback = "made by the server",
     .help = "name of the request in answers and logs, at most 64 characters",
     .offset = MEMBER(request_id)},
    {.name = NULL},
};

const struct args_flag options_data[] = {
    {.name = "--data",
     .kind = ARGS_TEXT,
     .argument = "DIR",
     .fallback = "$RECO_DATA, else $XDG_DATA_HOME/reco, else ~/.local/share/reco",
     .help = "the data directory: memories and state",
     .offset = MEMBER(data)},
    {.name = NULL},
};

const struct args_flag options_memory[] = {
    {.name = "--memory",
     .alias = "-m",
     .kind = ARGS_TEXT,
     .argument = "NAME",
     .fallback = "default",
     .help = "the memory; NAME@GENERATION pins one generation",
     .offset = MEMBER(memory)},
    {.name = NULL},
};

const struct args_flag options_profile[] = {
    {.name = "--profile",
     .kind = ARGS_CHOICE,
     .argument = "NAME",
     .fallback = "reco: transparency over white, EXIF rotation applied",
     .help = "how a picture becomes pixels: hf and openai do exactly what those programs do",
     .offset = MEMBER(profile),
     .choices = "reco|hf|openai"},
    {.name = NULL},
};

const struct args_flag options_query[] = {
    {.name = "-k",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "10",
     .help = "neighbours",
     .offset = MEMBER(k),
     .low = 1,
     .high = K_MAX},
    {.name = "--over",
     .kind = ARGS_CHOICE,
     .argument = "SIDE",
     .fallback = "same: the query's own",
     .help = "which side of the memory is searched",
     .offset = MEMBER(over),
     .choices = "same|image|text"},
    {.name = "--index",
     .kind = ARGS_CHOICE,
     .argument = "KIND",
     .fallback = "auto",
     .help = "how the memory is searched: exact compares every record, ivf uses the index where "
             "there is one, auto is exact where a node has fewer than 20,000 records",
     .offset = MEMBER(index),
     .choices = "auto|exact|ivf"},
    OPTIONS_EFFORT_FLAGS,
    {.name = "--min-similarity",
     .kind = ARGS_NUMBER,
     .argument = "X",
     .fallback = "0: no floor",
     .help = "neighbours below are dropped",
     .offset = MEMBER(min_similarity),
     .low = -1,
     .high = 1},
    {.name = "--min-pair-similarity",
     .kind = ARGS_NUMBER,
     .argument = "X",
     .fallback = "0: no floor",
     .help = "neighbours whose own image and text agree less are dropped",
     .offset = MEMBER(min_pair_similarity),
     .low = -1,
     .high = 1},
    {.name = "--min-coverage",
     .kind = ARGS_NUMBER,
     .argument = "X",
     .fallback = "0: whatever share answers, named in the answer",
     .help = "smallest share of the memory that must answer",
     .offset = MEMBER(min_coverage),
     .low = 0,
     .high = 1},
    {.name = "--exclude",
     .kind = ARGS_LIST,
     .argument = "KEY",
     .help = "a record that must not be a neighbour",
     .offset = MEMBER(exclude)},
    OPTIONS_FILTER_FLAG("only records"),
    OPTIONS_ONLY_FLAG,
    {.name = "--dedup",
     .kind = ARGS_NUMBER,
     .argument = "X",
     .fallback = "0: off",
     .help = "leaves out neighbours whose embedding has this inner product or more, 0.5 to 1, with "
             "a better one's",
     .offset = MEMBER(dedup),
     .low = 0,
     .high = 1},
    {.name = NULL},
};

const struct args_flag options_records[] = {
    {.name = "--key",
     .kind = ARGS_LIST,
     .argument = "KEY",
     .help = "a record by its key, the same as KEY, also one that begins with -",
     .offset = MEMBER(keys)},
    {.name = "--id",
     .kind = ARGS_LIST,
     .argument = "ID",
     .help = "a record by its number",
     .offset = MEMBER(ids)},
    {.name = NULL},
};

const struct args_flag options_fusion[] = {
    {.name = "--fusion",
     .kind = ARGS_CHOICE,
     .argument = "HOW",
     .fallback = "auto",
     .help = "how neighbours are mixed in: none is plain CLIP, mean counts all alike, weighted "
             "counts near ones more, head is the trained transformer; auto: head where there is "
             "one, else weighted",
     .offset = MEMBER(fusion),
     .choices = "auto|none|mean|weighted|head"},
    {.name = "--head",
     .kind = ARGS_TEXT,
     .argument = "FILE",
     .fallback = "the data directory's, else the model's own, if there is one",
     .help = "a trained fusion head (`reco train`); not with --server, which has its own",
     .offset = MEMBER(head)},
    {.name = NULL},
};

const struct args_flag options_input[] = {
    {.name = "--image",
     .kind = ARGS_LIST,
     .argument = "FILE",
     .help = "asks with a picture; - reads one path per line from stdin",
     .offset = MEMBER(images)},
    {.name = "--text",
     .kind = ARGS_LIST,
     .argument = "TEXT",
     .help = "asks with a text; - reads one text per line from stdin",
     .offset = MEMBER(texts)},
    {.name = "--embedding",
     .kind = ARGS_LIST,
     .argument = "FILE.npy",
     .help = "asks with each row of an array; - reads one path per line from stdin",
     .offset = MEMBER(embeddings)},
    {.name = "--modality",
     .kind = ARGS_CHOICE,
     .argument = "WHAT",
     .fallback = "image",
     .help = "what the rows of --embedding were made from",
     .offset = MEMBER(modality),
     .choices = "image|text"},
    {.name = NULL},
};

const struct args_flag options_fields[] = {
    {.name = "--fields",
     .kind = ARGS_TEXT,
     .argument = "LIST",
     .fallback = "key, caption and source; of `memory get` also tags",
     .help = "what of each record is told, separated by commas: key, caption, source, tags, "
             "image_embedding, text_embedding, all, or none (ids and scores only)",
     .offset = MEMBER(fields)},
    {.name = NULL},
};

static uint32_t field_of(const char *word, size_t bytes)
{
    static const struct {
        const char *word;
        uint32_t bits;
    } known[] = {
        {"key", 1u << API_FIELD_KEY},
        {"caption", 1u << API_FIELD_CAPTION},
        {"source", 1u << API_FIELD_SOURCE},
        {"tags", 1u << API_FIELD_TAGS},
        {"image_embedding", 1u << API_FIELD_IMAGE_EMBEDDING},
        {"text_embedding", 1u << API_FIELD_TEXT_EMBEDDING},
        {"all", API_FIELDS_ALL},
        {"none", 1u << API_FIELD_NONE},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strlen(known[i].word) == bytes && memcmp(known[i].word, word, bytes) == 0)
            return known[i].bits;
    }
    return 0;
}

enum status options_read_fields(const struct options *options, uint32_t *out, struct reason *why)
{
    const char *at = options->fields;
    uint32_t fields = 0;
    while (at) {
        const size_t bytes = strcspn(at, ",");
        const uint32_t field = field_of(at, bytes);
        if (field == 0)
            return reason_set(why, STATUS_INVALID, "--fields",
                              "'%.*s' is no field; allowed: key, caption, source, tags, "
                              "image_embedding, text_embedding, all, none",
                              (int)bytes, at);
        fields |= field;
        at = at[bytes] == ',' ? at + bytes + 1 : NULL;
    }
    const uint32_t none = 1u << API_FIELD_NONE;
    if ((fields & none) && fields != none)
        return reason_set(why, STATUS_INVALID, "--fields", "none goes with no other field");
    *out = fields;
    return STATUS_OK;
}

void options_query_message(const struct options *options, struct text *exclude,
                           struct api_options *out)
{
    for (size_t i = 0; i < options->exclude.count; i++)
        exclude[i] = text_of(options->exclude.items[i]);

    *out = (struct api_options){
        .memory = text_of(options->memory),
        .k = (uint32_t)options->k,
        .over = (enum api_modality)options->over,
        .fusion = (enum api_fusion)options->fusion,
        .min_similarity = (float)options->min_similarity,
        .min_coverage = (float)options->min_coverage,
        .exclude_keys = exclude,
        .exclude_count = options->exclude.count,
        .index = (enum api_index)options->index,
        .profile = (enum api_profile)options->profile,
        .min_pair_similarity = (float)options->min_pair_similarity,
        .dedup = (float)options->dedup,
        .nprobe = (uint32_t)options->nprobe,
        .target_recall = (float)options->target_recall,
        .approx = (enum api_approx)(options->approx + 1),
    };
}
