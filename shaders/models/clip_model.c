// SPDX-License-Identifier: Apache-2.0
// Opening: parse the small files, check every shape, prepare the weights for the
// device, hash the space. The mapped weights are let go at the end: the device has
// its own copy by then.

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proto/base/json.h"
#include "proto/base/mem.h"
#include "proto/base/thread.h"
#include "shaders/models/clip_internal.h"
#include "shaders/models/fusion.h"
#include "shaders/models/image.h"
#include "shaders/models/tokenizer.h"

#define DEFAULT_TEMPLATE "a photo of a {}."

// Gives on what a reader said, with the file's name where it named no field.
static enum status in_file(const char *file, enum status status, const struct reason *inner,
                           struct reason *why)
{
    if (status == STATUS_OK)
        return STATUS_OK;
    return reason_set(why, status, inner->field[0] ? inner->field : file, "%s", inner->text);
}

#define CONFIG_FILE(files) ((files)->openclip ? "open_clip_config.json" : "config.json")
#define WEIGHTS_FILE(files)                                                                        \
    ((files)->openclip ? "open_clip_model.safetensors" : "model.safetensors")

// Shape and preprocessing from the one file of open_clip's layout.
static enum status read_openclip(const struct json *document, struct clip *clip, struct reason *why)
{
    enum status status = clip_config_parse_openclip(document, &clip->config, why);
    if (status != STATUS_OK)
        return status;
    clip->image_params = mem_alloc(sizeof(*clip->image_params));
    return image_params_parse_openclip(json_member(document, "preprocess_cfg"),
                                       clip->config.image_size, clip->image_params, why);
}

static enum status read_config(const struct clip_files *files, struct clip *clip,
                               struct reason *why)
{
    struct json *document = NULL;
    struct reason inner = {0};
    enum status status = json_parse(files->config.data, files->config.count, &document, &inner);
    status = in_file(CONFIG_FILE(files), status, &inner, why);
    if (status == STATUS_OK)
        status = files->openclip ? read_openclip(document, clip, why)
                                 : clip_config_parse(document, &clip->config, why);
    json_destroy(&document);
    return status;
}

static enum status read_preprocessor(const struct clip_files *files, struct clip *clip,
                                     struct reason *why)
{
    if (!files->preprocessor.data)
        return STATUS_OK;
    clip->image_params = mem_alloc(sizeof(*clip->image_params));
    struct reason inner = {0};
    enum status status = image_params_parse(files->preprocessor, clip->config.image_size,
                                            clip->image_params, &inner);
    return in_file("preprocessor_config.json", status, &inner, why);
}

static enum status open_tokenizer(const struct clip_files *files, struct clip *clip,
                                  struct reason *why)
{
    bool is_json = !files->vocab.data && files->tokenizer.data;
    if (!files->vocab.data && !is_json)
        return STATUS_OK;
    const char *file = is_json ? "tokenizer.json" : "vocab.json";
    const struct clip_config *config = &clip->config;
    struct reason inner = {0};
    enum status status =
        is_json ? tokenizer_open_json(files->tokenizer, config->context, &clip->tokenizer, &inner)
                : tokenizer_open(files->vocab, files->merges, config->context, &clip->tokenizer,
                                 &inner);
    if (status != STATUS_OK)
        return in_file(file, status, &inner, why);
    uint32_t count = tokenizer_vocab_count(clip->tokenizer);
    if (count > config->vocabulary)
        return reason_set(why, STATUS_INVALID, file, "has %u tokens, but %s.vocab_size is %u",
                          count, files->openclip ? "text_cfg" : "text_config", config->vocabulary);
    uint32_t end = tokenizer_end_id(clip->tokenizer);
    if (config->end_token != 2 && config->end_token != end)
        return reason_set(why, STATUS_INVALID, file, "%s is %u, but text_config.eos_token_id is %u",
                          TOKENIZER_END, end, config->end_token);
    return STATUS_OK;
}

static enum status read_logit_scale(struct clip_loader *loader, struct clip *clip)
{
    const struct weights_tensor *tensor = NULL;
    float value;
    enum status status = clip_load_find(loader, "logit_scale", 0, NULL, &tensor);
    if (status == STATUS_OK)
        status = clip_load_values(loader, tensor, &value);
    if (status != STATUS_OK)
        return status;
    clip->info.logit_scale = exp((double)value);
    return STATUS_OK;
}

// The hash of the space goes over all weights on a thread of its own while they are prepared.
struct space_task {
    struct clip *clip;
    const struct weights *weights;
    const bool *used;
    struct clip_space_entry *entry;
};

static void run_space(const struct space_task *task)
{
    clip_space_compute(task->clip, task->weights, task->used, task->entry->digest);
    task->entry->dimension = task->clip->config.dimension;
}

static void compute_space(struct thread *self, void *context)
{
    const struct space_task *task = context;
    thread_ready(self, STATUS_OK);
    run_space(task);
}

// Names and shapes of both towers, so that all tensors that are used are known.
static enum status check_tensors(struct clip_loader *loader, struct clip *clip)
{
    loader->check = true;
    enum status status = clip_text_load(loader, &clip->config, &clip->text);
    if (status == STATUS_OK)
        status = clip_image_load(loader, &clip->config, &clip->image);
    loader->check = false;
    if (status == STATUS_OK)
        status = read_logit_scale(loader, clip);
    return status;
}

static enum status load(struct clip *clip, const struct clip_files *files,
                        const struct weights *weights, struct clip_space_memo *memo,
                        struct reason *why)
{
    struct clip_loader loader = {
        .ops = clip->ops,
        .reading = &clip->reading,
        .config_file = CONFIG_FILE(files),
        .used = mem_alloc_array(weights_count(weights) + 1, sizeof(bool)),
        .why = why,
    };
    clip->reading.weights = weights;
    clip->reading.file = WEIGHTS_FILE(files);
    struct thread *thread = NULL;
    enum status status = check_tensors(&loader, clip);
    if (status == STATUS_OK) {
        struct space_task task = {clip, weights, loader.used, &memo->entry};
        if (!memo->known && thread_start("reco-space", compute_space, &task, &thread) != STATUS_OK)
            run_space(&task);
        if (clip->towers & CLIP_TEXTS)
            status = clip_text_load(&loader, &clip->config, &clip->text);
        if (status == STATUS_OK && clip->towers & CLIP_IMAGES)
            status = clip_image_load(&loader, &clip->config, &clip->image);
        if (status == STATUS_OK && clip->towers & CLIP_IMAGES)
            status = clip_image_load_table(clip, why);
        thread_join(&thread);
    }
    mem_free(loader.used);
    char digits[HASH_SHA256_HEX_BYTES];
    hash_hex(memo->entry.digest, sizeof(memo->entry.digest), digits);
    (void)snprintf(clip->space, sizeof(clip->space), "%s:%" PRIu32, digits, memo->entry.dimension);
    return status;
}

static void describe(struct clip *clip, const struct clip_files *files)
{
    (void)snprintf(clip->name, sizeof(clip->name), "%s", files->name);
    (void)snprintf(clip->template_text, sizeof(clip->template_text), "%s", DEFAULT_TEMPLATE);
    clip->info = (struct clip_info){
        .name = clip->name,
        .device = ops_name(clip->ops),
        .agreement = 1.0,
        .space = clip->space,
        .dimension = clip->config.dimension,
        .context = clip->config.context,
        .image_size = clip->config.image_size,
        .image = clip->image_params,
        .fusion_beta = FUSION_BETA_DEFAULT,
        .fusion_temperature = FUSION_TEMPERATURE_DEFAULT,
        .template_text = clip->template_text,
    };
}

static enum status load_layout(struct clip *clip, const struct clip_files *files,
                               const struct weights *weights, struct clip_space_memo *memo,
                               struct reason *why)
{
    if (!files->openclip)
        return load(clip, files, weights, memo, why);
    enum status status = clip_openclip_open(weights, &clip->config, &clip->openclip, why);
    if (status == STATUS_OK)
        status = load(clip, files, clip->openclip.weights, memo, why);
    return status;
}

// The same model in single precision, for a few inputs; then it goes.
static enum status try_reduced(struct clip *clip, const struct clip_params *params,
                               const struct clip_files *files, const struct weights *weights,
                               struct reason *why)
{
    struct clip *exact = mem_alloc(sizeof(*exact));
    exact->config = clip->config;
    exact->towers = clip->towers;
    exact->reading.late = true;
    atomic_init(&exact->reading.failed, false);
    struct clip_space_memo memo = {.known = true}; // it is the other one's
    enum status status =
        ops_open("cpu", params->threads > 0 ? (uint32_t)params->threads : 0, &exact->ops, why);
    if (status == STATUS_OK)
        status = load_layout(exact, files, weights, &memo, why);
    if (status == STATUS_OK)
        status = clip_trial(clip, exact, why);
    clip_close(&exact);
    return status;
}

static enum status open_into(struct clip *clip, const struct clip_params *params,
                             const struct clip_files *files, const struct weights *weights,
                             struct reason *why)
{
    enum status status =
        ops_open(params->device ? params->device : "auto",
                 params->threads > 0 ? (uint32_t)params->threads : 0, &clip->ops, why);
    if (status == STATUS_OK)
        status = read_config(files, clip, why);
    if (status == STATUS_OK)
        status = read_preprocessor(files, clip, why);
    if (status != STATUS_OK)
        return status;
    clip->reading.late = params->hasty && ops_reads_late(clip->ops);
    struct clip_space_memo memo;
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_REALTIME, &now); // files are dated by it
    clip_space_recall(&memo, files, weights, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
    // For pictures the tokenizer is only hashed, and checked to fit: both was done when the space
    // became known.
    if (!memo.known || clip->towers & CLIP_TEXTS)
        status = open_tokenizer(files, clip, why);
    if (status != STATUS_OK)
        return status;
    describe(clip, files);
    status = clip_files_read_reco(files->reco, clip, why);
    if (status == STATUS_OK)
        status = load_layout(clip, files, weights, &memo, why);
    if (status == STATUS_OK)
        clip_space_keep(&memo, weights);
    if (status == STATUS_OK && ops_is_reduced(clip->ops))
        status = try_reduced(clip, params, files, weights, why);
    return status;
}

static void end_reading(struct clip *clip)
{
    clip_load_end(&clip->reading);
    clip_openclip_close(&clip->openclip);
    weights_close(&clip->weights);
}

enum status clip_open_files(const struct clip_params *params, const struct clip_files *files,
                            const struct weights *weights, struct clip **out, struct reason *why)
{
    assert(params);
    assert(files && files->name);
    assert(weights);
    assert(out);

    struct clip *clip = mem_alloc(sizeof(*clip));
    clip->towers = params->towers ? params->towers : CLIP_TEXTS | CLIP_IMAGES;
    atomic_init(&clip->reading.failed, false);
    enum status status = open_into(clip, params, files, weights, why);
    if (status != STATUS_OK) {
        clip_close(&clip);
        return status;
    }
    if (!clip->reading.late)
        end_reading(clip);
    *out = clip;
    return STATUS_OK;
}

void clip_keep_weights(struct clip *clip, struct weights **weights)
{
    assert(clip);

    if (!clip->reading.late)
        return;
    clip->weights = *weights;
    *weights = NULL;
}

enum status clip_open(const struct clip_params *params, struct clip **out, struct reason *why)
{
    assert(params);
    assert(out);

    if (params->threads < 0)
        return reason_set(why, STATUS_INVALID, "threads", "%d: 0 or more are possible",
                          params->threads);
    if (params->directory)
        return clip_files_open_directory(params, out, why);

    struct clip_files files;
    struct bytes file;
    clip_files_embedded(&files, &file);
    struct weights *weights = NULL;
    enum status status = weights_open_bytes(file, &weights, why);
    struct clip_params whole = *params;
    whole.hasty = false;
    if (status == STATUS_OK)
        status = clip_open_files(&whole, &files, weights, out, why);
    weights_close(&weights);
    return status;
}

void clip_close(struct clip **clip_in)
{
    assert(clip_in);

    struct clip *clip = *clip_in;
    if (!clip)
        return;
    if (clip->ops) {
        clip_text_free(clip->ops, &clip->text);
        clip_image_free(clip->ops, &clip->image);
    }
    end_reading(clip);
    ops_close(&clip->ops);
    tokenizer_close(&clip->tokenizer);
    mem_free(clip->image_params);
    mem_free(clip);
    *clip_in = NULL;
}

const struct clip_info *clip_info(const struct clip *clip)
{
    assert(clip);

    return &clip->info;
}

const struct tokenizer *clip_tokenizer(const struct clip *clip)
{
    assert(clip);

    return clip->tokenizer;
}

struct ops *clip_ops(struct clip *clip)
{
    assert(clip);

    return clip->ops;
}
