// SPDX-License-Identifier: Apache-2.0
// reco eval: the flags and pages of its kinds; what they do is in eval_run.c.

#include <stddef.h>

#include "proto/base/limits.h"
#include "tools/eval.h"
#include "tools/eval_oven.h"
#include "tools/eval_run.h"
#include "tools/eval_shots.h"
#include "tools/verbs.h"

static int run_zero_shot(const struct options *options)
{
    return eval_run_kind(options, eval_kind_find(text_of("zero-shot")));
}

static int run_noise(const struct options *options)
{
    return eval_run_kind(options, eval_kind_find(text_of("noise")));
}

static int run_ksweep(const struct options *options)
{
    return eval_run_kind(options, eval_kind_find(text_of("ksweep")));
}

static int run_memory_size(const struct options *options)
{
    return eval_run_kind(options, eval_kind_find(text_of("memory-size")));
}

static int run_grid(const struct options *options)
{
    return eval_run_kind(options, eval_kind_find(text_of("grid")));
}

static int run_few_shot(const struct options *options)
{
    return eval_run_kind(options, eval_kind_find(text_of("few-shot")));
}

static int run_capacity(const struct options *options)
{
    return eval_run_kind(options, eval_kind_find(text_of("capacity")));
}

static int run_oven(const struct options *options)
{
    return eval_run_kind(options, &eval_kind_oven);
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
     .fallback = "the data directory's, else the model's own",
     .help = "the trained weights that the mode head uses",
     .offset = offsetof(struct options, head)},
    {.name = "--split",
     .kind = ARGS_TEXT,
     .argument = "NAME",
     .fallback = "test; val of ImageNet and OVEN",
     .help = "the part of a data set in CLIP_benchmark's layout, or as its makers publish it",
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

static const struct args_flag kinds_flags[] = {
    {.name = "--kinds",
     .kind = ARGS_TEXT,
     .argument = "LIST",
     .fallback = "all but few-shot and capacity",
     .help = "what is measured of the first data set, one after the other: " EVAL_KIND_WORDS,
     .offset = offsetof(struct options, kinds)},
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

static const struct args_flag oven_flags[] = {
    {.name = "--entities",
     .kind = ARGS_TEXT,
     .argument = "NAME",
     .help = "a memory whose records are what is chosen from, in place of --labels: each is the "
             "entity that its key names, and its text is compared as it is",
     .offset = offsetof(struct options, entities)},
    {.name = "--split-field",
     .kind = ARGS_TEXT,
     .argument = "NAME",
     .fallback = EVAL_OVEN_FIELD,
     .help =
         "the member or column that says whether a picture's entity was seen in training: its "
         "value ends with seen or unseen, or is 1 or 0; with query in it it is of the query set",
     .offset = offsetof(struct options, split_field)},
    {.name = NULL},
};

static const struct args_flag shots_flags[] = {
    {.name = "--shots",
     .kind = ARGS_NUMBER_LIST,
     .argument = "LIST",
     .fallback = "1,2,4,8,16",
     .help = "how many pictures of each label make the memory, at most, one after the other",
     .offset = offsetof(struct options, shots),
     .low = 1,
     .high = 4294967295.0},
    {.name = "--shots-from",
     .kind = ARGS_TEXT,
     .argument = "NAME",
     .fallback = EVAL_SHOTS_SPLIT,
     .help = "the part of the data set that they are drawn from, other than the one measured",
     .offset = offsetof(struct options, shots_from)},
    {.name = NULL},
};

#define COMMON_GROUPS                                                                              \
    eval_flags, options_memory, options_items, options_data, options_model, options_server,        \
        options_common

#define SET_WORDS                                                                                  \
    "DATASET is a folder in CLIP_benchmark's webdataset layout (test/nshards.txt,\n"               \
    "test/0.tar ... with .jpg, .png or .webp and .cls; classnames.txt and\n"                       \
    "zeroshot_classification_templates.txt beside test); or a folder of CUB-200-2011,\n"           \
    "Stanford Cars, Flowers-102, Oxford Pets, Food-101, ImageNet or SUN397 as it is\n"             \
    "published, which brings its labels, with the usual prompts; or whatever\n"                    \
    "`memory build` reads: then the caption of a picture is its label, which --labels\n"           \
    "must have.\n"

#define CHANCE_WORDS                                                                               \
    "The memory is read once and searched exactly. It may be any of the model's space,\n"          \
    "also another one than a head was trained with. Metrics are shares of all queries;\n"          \
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
#define JSON_ZERO                                                                                  \
    JSON_HEAD "{\"acc1\",\"acc5\",\"mean_per_class_recall\"}" JSON_TAIL                            \
              ", and\n\"labels_sha256\",\"templates_sha256\" of their lines as they were used"

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
                 "test/0.tar ... with .jpg, .png or .webp and .txt), a folder with Flickr30k or\n"
                 "COCO and Karpathy's list, or whatever `memory build` reads. Each line of a .txt\n"
                 "is a caption of its own.\n"
                 "\n" CHANCE_WORDS "\n" JSON_HEAD "{\"image_retrieval_recall@5\",\n"
                 "\"text_retrieval_recall@5\", both also @1 and @10}" JSON_TAIL
                 "; of images: captions ask, and count is theirs",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {k_flags, COMMON_GROUPS}},
    .chapter = "measuring",
    .run = eval_run_retrieval,
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

const struct verb verb_eval_few_shot = {
    .args = {.name = "eval few-shot",
             .items = "DATASET...",
             .summary = "zero-shot with a memory of a few pictures of each label",
             .details = SET_WORDS
             "\n"
             "The memory is made of another part of the data set, of train/ beside\n"
             "test/: each picture is paired with the prompts of its label. Pictures are\n"
             "drawn by lot, more have the fewer ones in them. --memory is refused, and so is\n"
             "the part that is measured: its pictures would find themselves.\n"
             "\n" CHANCE_WORDS "\n" JSON_ZERO "; and \"shots\", null for plain CLIP",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {shots_flags, label_flags, k_flags, seed_flags, COMMON_GROUPS}},
    .chapter = "measuring",
    .run = run_few_shot,
};

const struct verb verb_eval_capacity = {
    .args = {.name = "eval capacity",
             .items = "DATASET...",
             .summary = "zero-shot with nothing of the memory taken in: what a head does alone",
             .details = SET_WORDS
             "\n"
             "Neighbours: as zero-shot. Itself: the query is its only neighbour, so a mode\n"
             "that gains there gains by its own numbers and not by the memory. For a head\n"
             "that never saw a right neighbour train it with --set baseline=query on a\n"
             "memory whose captions are shuffled, and measure both.\n"
             "\n" CHANCE_WORDS "\n" JSON_ZERO "; and \"taken_in\"",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {label_flags, k_flags, COMMON_GROUPS}},
    .chapter = "measuring",
    .run = run_capacity,
};

const struct verb verb_eval_oven = {
    .args = {.name = "eval oven",
             .items = "DATASET...",
             .summary = "the right entity of all of them, as the OVEN benchmark scores it",
             .details =
                 "DATASET is OVEN's folder, or whatever `memory build` reads and has the field\n"
                 "--split-field. The caption of a picture is its entity; the question beside a\n"
                 "picture of the query set is not read.\n"
                 "\n"
                 "What is chosen from are the labels of --labels, refined as in zero-shot, or,\n"
                 "for millions, the records of a memory: --entities, which holds two embeddings\n"
                 "of each in RAM.\n"
                 "\n"
                 "  reco eval oven oven/ --split val,query_val --memory pairs --entities wiki\n"
                 "\n"
                 "The score of a set is the harmonic mean of the accuracies of seen and of unseen\n"
                 "entities, final that of the entity and the query set's scores; --split may\n"
                 "name several parts, which are measured together.\n"
                 "\n" CHANCE_WORDS "\n" JSON_HEAD "{\"final\",\"entity\",\"query\",\n"
                 "\"entity_seen\",\"entity_unseen\",\"query_seen\",\"query_unseen\"}" JSON_TAIL
                 "; metrics without queries are left out",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {oven_flags, label_flags, k_flags, COMMON_GROUPS}},
    .chapter = "measuring",
    .run = run_oven,
};

const struct verb verb_eval_all = {
    .args = {.name = "eval all",
             .items = "DATASET...",
             .summary = "several of these, of several data sets, as one page",
             .details =
                 "Each DATASET is one of its own here: a folder in CLIP_benchmark's layout, or\n"
                 "whatever else `eval zero-shot` takes as one. The first is measured in all\n"
                 "kinds, the others stand beside it, zero-shot: the same pictures among more\n"
                 "labels, say, or things that the model knows and must not forget; the\n"
                 "difference to plain CLIP and its interval tell.\n"
                 "\n"
                 "  reco eval all rare/ known/ --memory photos --report page.html\n"
                 "\n" CHANCE_WORDS "\n"
                 "JSON lines: those of the kinds, one after the other.",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {kinds_flags, label_flags, k_flags, noise_flags, neighbours_flags,
                        sizes_flags, shots_flags, seed_flags, COMMON_GROUPS}},
    .chapter = "measuring",
    .run = eval_run_all,
};
