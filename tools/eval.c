// SPDX-License-Identifier: Apache-2.0
// The gate and the constants of fusion are those of a coordinator that was given no flags
// (question.c).

#include "tools/eval.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/trained_head.h"
#include "proto/base/cpu.h"
#include "proto/base/mem.h"
#include "proto/base/parallel.h"
#include "tools/eval_refine.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/verbs.h"

#define MODES_DEFAULT "none,mean,weighted"

static const char *const words[EVAL_MODES] = {
    [FUSION_NONE] = "none",
    [FUSION_MEAN] = "mean",
    [FUSION_WEIGHTED] = "weighted",
    [FUSION_HEAD] = "head",
};

const char *eval_mode_word(enum fusion_mode mode)
{
    assert((unsigned)mode < EVAL_MODES);
    return words[mode];
}

// --- modes

static bool has_mode(const struct eval *eval, enum fusion_mode mode)
{
    for (size_t i = 0; i < eval->mode_count; i++)
        if (eval->modes[i] == mode)
            return true;
    return false;
}

static enum status add_mode(struct eval *eval, const char *word, size_t bytes, struct reason *why)
{
    for (size_t i = 0; i < EVAL_MODES; i++) {
        if (strlen(words[i]) != bytes || memcmp(words[i], word, bytes) != 0)
            continue;
        if (has_mode(eval, (enum fusion_mode)i))
            return reason_set(why, STATUS_INVALID, "--modes", "'%s' comes twice", words[i]);
        eval->modes[eval->mode_count++] = (enum fusion_mode)i;
        return STATUS_OK;
    }
    return reason_set(why, STATUS_INVALID, "--modes", "'%.*s' is no mode; allowed: %s", (int)bytes,
                      word, EVAL_MODE_WORDS);
}

// What others are held against is measured first, whether it was asked for or not.
static enum status read_modes(struct eval *eval, struct reason *why)
{
    const char *at = eval->options->modes ? eval->options->modes : MODES_DEFAULT;
    while (at) {
        const size_t bytes = strcspn(at, ",");
        const enum status status = add_mode(eval, at, bytes, why);
        if (status)
            return status;
        at = at[bytes] == ',' ? at + bytes + 1 : NULL;
    }
    size_t place = 0;
    while (place < eval->mode_count && eval->modes[place] != FUSION_NONE)
        place++;
    eval->mode_count += place == eval->mode_count;
    memmove(eval->modes + 1, eval->modes, place * sizeof(eval->modes[0]));
    eval->modes[0] = FUSION_NONE;
    return STATUS_OK;
}

// --- model, memory and head

static enum status read_model(struct eval *eval, struct reason *why)
{
    struct arena *arena = arena_create(MEMORIES_ARENA_BYTES);
    struct buffer reply = {0};
    struct api_model_list list = {.count = 0};
    enum status status =
        client_call(eval->client, API_LIST_MODELS, (struct bytes){NULL, 0}, &reply, why);
    if (!status)
        status = api_decode_model_list((struct bytes){reply.data, reply.count}, arena, &list, why);
    if (!status) {
        const struct api_model_info none = {.dimension = 0};
        const struct api_model_info *model = list.count ? &list.models[0] : &none;
        const struct text template = model->template_count ? model->templates[0] : text_of("{}");
        (void)snprintf(eval->model, sizeof(eval->model), "%.*s", (int)model->name.bytes,
                       model->name.data ? model->name.data : "");
        (void)snprintf(eval->space, sizeof(eval->space), "%.*s", (int)model->space.bytes,
                       model->space.data ? model->space.data : "");
        (void)snprintf(eval->template_text, sizeof(eval->template_text), "%.*s",
                       (int)template.bytes, template.data);
        eval->dimension = model->dimension;
        eval->beta = (double)model->fusion_beta;
        eval->temperature = (double)model->fusion_temperature;
        const bool whole = eval->dimension >= 1 && eval->dimension <= DIMENSION_MAX &&
                           isfinite(eval->beta) && eval->beta > 0 && isfinite(eval->temperature) &&
                           eval->temperature >= 0;
        if (!whole)
            status = reason_set(why, STATUS_FAILED_PRECONDITION, "model",
                                "the server tells no dimension or no constants of fusion: it is "
                                "older than this program");
    }
    buffer_deinit(&reply);
    arena_destroy(&arena);
    return status;
}

static enum status read_memory(struct eval *eval, struct reason *why)
{
    const enum status status =
        eval_memory_read(eval->client, eval->options->memory, &eval->memory, why);
    if (status || strcmp(eval->memory.space, eval->space) == 0)
        return status;
    return reason_set(why, STATUS_FAILED_PRECONDITION, "--memory",
                      "%s is in space %s and the model %s encodes into %s: their embeddings cannot "
                      "be compared; name a memory or a --model of one space",
                      eval->memory.name, eval->memory.space, eval->model, eval->space);
}

// Without --modes a head is measured where there is one.
static enum status open_head(struct eval *eval, struct reason *why)
{
    const struct options *options = eval->options;
    char data[CLIENT_PATH_BYTES];
    const bool has_data = !options->server && !client_data_path(options, data, NULL);
    const struct trained_head_params params = {
        .file = options->head,
        .model = options->model,
        .data = has_data ? data : NULL,
        .space = eval->space,
        .threads = eval->threads,
    };
    enum status status = trained_head_open(&params, &eval->head, NULL, why);
    eval->has_gate = !status && eval->head && fusion_head_info(eval->head)->gate.bytes > 0;
    if (eval->has_gate)
        status = fusion_gate_parse(fusion_head_info(eval->head)->gate, &eval->gate, why);
    if (status)
        return status;
    if (eval->head && !has_mode(eval, FUSION_HEAD))
        eval->modes[eval->mode_count++] = FUSION_HEAD;
    if (eval->head || !has_mode(eval, FUSION_HEAD))
        return STATUS_OK;
    return reason_set(why, STATUS_NOT_FOUND, "--modes",
                      "head: there is none for the model %s; `reco train` makes one, --head FILE "
                      "names one",
                      eval->model);
}

int eval_begin(struct eval *eval, const struct options *options, bool brings_memory)
{
    assert(eval && options);

    struct reason why = {.text = ""};
    *eval = (struct eval){.options = options, .threads = (uint32_t)cpu_count()};
    if (eval->threads > PARALLEL_THREADS_MAX)
        eval->threads = PARALLEL_THREADS_MAX;
    enum status status = read_modes(eval, &why);
    if (!status && brings_memory && options->memory_given)
        status = reason_set(&why, STATUS_INVALID, "--memory",
                            "'%s' is not allowed: the memory is made of the data set's own "
                            "pictures, --shots-from says of which",
                            options->memory);
    int exit_status = status ? VERBS_USAGE : VERBS_DONE;
    if (!status && options->report &&
        (status = output_check_file("--report", options->report, &why)))
        exit_status = VERBS_FAILED;
    if (status) {
        output_error(NULL, &why);
        return exit_status;
    }
    const bool plain = eval->mode_count == 1 || brings_memory;
    const bool reads = !plain || options->entities;
    exit_status =
        memories_open_client(options, reads ? CLIENT_READ : CLIENT_ENCODER, &eval->client);
    if (exit_status)
        return exit_status;
    status = read_model(eval, &why);
    if (!status && !plain)
        status = read_memory(eval, &why);
    if (!status && (!options->modes || has_mode(eval, FUSION_HEAD)))
        status = open_head(eval, &why);
    if (status)
        output_error(NULL, &why);
    return status ? output_exit(status) : VERBS_DONE;
}

void eval_end(struct eval *eval)
{
    fusion_head_close(&eval->head);
    eval_memory_deinit(&eval->memory);
    client_close(&eval->client);
}

enum status eval_check_k(const struct eval *eval, const char *flag, uint64_t k, uint64_t records,
                         struct reason *why)
{
    if (k <= records || eval->memory.count == 0)
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, flag,
                      "%llu: of the memory %s %llu records may be found; allowed: 1..%llu",
                      (unsigned long long)k, eval->memory.name, (unsigned long long)records,
                      (unsigned long long)records);
}

// --- a side

enum status eval_side_search(struct eval_side *side, const struct eval *eval, enum modality over,
                             uint32_t k, struct reason *why)
{
    assert(side && eval && side->queries);

    const uint32_t width = EVAL_REFINE_WIDTH(k);
    mem_free(side->hits);
    mem_free(side->found);
    side->over = over;
    side->width = width;
    side->hits = mem_try_alloc_array(side->count, width * sizeof(side->hits[0]));
    side->found = mem_try_alloc_array(side->count, sizeof(side->found[0]));
    if (!side->hits || !side->found)
        return reason_set(why, STATUS_NO_MEMORY, NULL,
                          "no memory for the neighbours of %zu queries", side->count);
    const struct eval_search search = {
        .memory = &eval->memory,
        .over = over,
        .queries = side->queries,
        .count = side->count,
        .width = width,
        .threads = eval->threads,
    };
    const enum status status = eval_memory_search(&search, side->hits, side->found, why);
    side->held = 0;
    for (size_t i = 0; i < side->count && !status && over == side->own; i++)
        side->held += side->found[i] > 0 && side->hits[i * width].score > EVAL_HELD;
    return status;
}

static struct fuser_params params_of(const struct eval_side *side, const struct eval *eval,
                                     struct eval_how how)
{
    return (struct fuser_params){
        .fusion = {.mode = how.mode,
                   .beta = eval->beta,
                   .temperature = eval->temperature,
                   .sharpness = FUSION_SHARPNESS_DEFAULT,
                   .head = eval->head,
                   .modality = side->own},
        .dimension = eval->dimension,
        .k = how.k,
        .gate_floor = 0,
        .gate_ceiling = 1,
        .is_open = how.is_open,
    };
}

static struct eval_refine refine_of(const struct eval_side *side, const struct eval *eval,
                                    struct eval_how how, const struct fuser_params *params)
{
    return (struct eval_refine){
        .memory = &eval->memory,
        .payload = how.payload,
        .itself = how.itself,
        .queries = side->queries,
        .hits = side->hits,
        .found = side->found,
        .count = side->count,
        .width = side->width,
        .params = params,
        .threads = eval->threads,
        .best = side->best,
    };
}

enum status eval_side_refine(struct eval_side *side, const struct eval *eval, struct eval_how how,
                             const float **out, struct reason *why)
{
    assert(side && eval && out);

    if (how.mode == FUSION_NONE) {
        *out = side->queries;
        return STATUS_OK;
    }
    if (!side->refined)
        side->refined = mem_try_alloc_array(side->count, eval->dimension * sizeof(float));
    if (!side->best)
        side->best = mem_try_alloc_array(side->count, sizeof(side->best[0]));
    if (!side->refined || !side->best)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for %zu refined embeddings",
                          side->count);
    const struct fuser_params params = params_of(side, eval, how);
    const struct eval_refine refine = refine_of(side, eval, how, &params);
    *out = side->refined;
    return eval_refine(&refine, side->refined, why);
}

enum status eval_side_nearest(const struct eval_side *side, const struct eval *eval,
                              struct eval_how how, size_t query, const float *const vectors[3],
                              double nearest[3])
{
    assert(side && eval && vectors && nearest);

    const struct fuser_params params = params_of(side, eval, how);
    const struct eval_refine refine = refine_of(side, eval, how, &params);
    return eval_refine_nearest(&refine, query, vectors, 3, nearest);
}

void eval_side_deinit(struct eval_side *side)
{
    mem_free(side->hits);
    mem_free(side->found);
    mem_free(side->refined);
    mem_free(side->best);
    *side = (struct eval_side){.count = 0};
}
