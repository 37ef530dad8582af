// SPDX-License-Identifier: Apache-2.0
// Texts of a batch are laid one behind the other without padding, each up to its end
// token: under the causal mask nothing behind it can reach it. A batch holds as many
// whole texts as a batch of tokens has room for.

#include <assert.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/models/clip_internal.h"
#include "shaders/models/tokenizer.h"

#define LEGACY_END_TOKEN 2u // files written before 2023: read at the largest id
#define TEXTS_AT_A_TIME 256u

static enum status load_table(struct clip_text_encoder *text, struct clip_reading *reading,
                              struct ops *ops, struct reason *why)
{
    enum status status = clip_load_view(reading, ops, text->late_table, text->table, why);
    if (status == STATUS_OK)
        text->late_table = NULL;
    return status;
}

enum status clip_text_load(struct clip_loader *loader, const struct clip_config *config,
                           struct clip_text_encoder *out)
{
    static const struct clip_stack_names names = {"text_model", "final_layer_norm",
                                                  "text_projection"};
    struct clip_stack *stack = &out->stack;
    size_t width = config->text.width;
    const struct clip_stack_sizes sizes = {
        .longest = config->context,
        .parameters =
            clip_load_room(config->vocabulary, width) + clip_load_room(config->context, width),
        .dimension = config->dimension,
    };
    stack->shape = config->text;
    // Before memory is taken for the table, the file must have shown that it holds one.
    const uint64_t table[2] = {config->vocabulary, width};
    const struct weights_tensor *tensor = NULL;
    enum status status =
        clip_load_find(loader, "text_model.embeddings.token_embedding.weight", 2, table, &tensor);
    if (status == STATUS_OK)
        status = clip_load_stack(loader, &names, &sizes, stack);
    if (status == STATUS_OK && !loader->check) {
        out->table = clip_load_place(stack, config->vocabulary, width);
        out->late_table = tensor;
        if (!loader->reading->late)
            status = load_table(out, loader->reading, loader->ops, loader->why);
    }
    if (status == STATUS_OK)
        status = clip_load_rows(loader, stack, "text_model.embeddings.position_embedding.weight",
                                config->context, width, &out->positions);
    if (loader->check)
        return status;
    if (status == STATUS_OK)
        status = ops_alloc(loader->ops, stack->rows_max, &out->ids, loader->why);
    if (status == STATUS_OK)
        status = ops_alloc(loader->ops, stack->rows_max, &out->places, loader->why);
    if (status == STATUS_OK)
        out->staging = mem_alloc_array(4 * stack->rows_max + 1, sizeof(out->staging[0]));
    return status;
}

void clip_text_free(struct ops *ops, struct clip_text_encoder *encoder)
{
    clip_stack_free(ops, &encoder->stack);
    ops_free(ops, &encoder->ids);
    ops_free(ops, &encoder->places);
    mem_free(encoder->staging);
    encoder->staging = NULL;
}

// Tokens of a text up to and with the one it is read at; 0 without one.
static uint32_t used_tokens(const struct clip_config *config, const uint32_t *ids, uint32_t count)
{
    if (config->end_token != LEGACY_END_TOKEN) {
        for (uint32_t i = 0; i < count; i++) {
            if (ids[i] == config->end_token)
                return i + 1;
        }
        return 0;
    }
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++) {
        if (ids[i] > ids[best])
            best = i;
    }
    return count > 0 ? best + 1 : 0;
}

static enum status check_ids(const struct clip_config *config, const struct clip_ids *ids,
                             struct reason *why)
{
    for (size_t t = 0; t < ids->texts; t++) {
        const uint32_t *text = ids->ids + t * ids->stride;
        if (ids->counts[t] > config->context || ids->counts[t] > ids->stride)
            return reason_set(why, STATUS_INVALID, "ids",
                              "text %zu has %u tokens; at most %u are possible", t, ids->counts[t],
                              config->context);
        for (uint32_t i = 0; i < ids->counts[t]; i++) {
            if (text[i] >= config->vocabulary)
                return reason_set(why, STATUS_INVALID, "ids",
                                  "text %zu has the token %u; the vocabulary has %u", t, text[i],
                                  config->vocabulary);
        }
        if (used_tokens(config, text, ids->counts[t]) == 0)
            return reason_set(why, STATUS_INVALID, "ids", "text %zu has no end token %u", t,
                              config->end_token);
    }
    return STATUS_OK;
}

// A batch in the host's memory.
struct batch {
    uint32_t *ids;
    uint32_t *places;
    uint32_t *starts;
    uint32_t *reads;
    struct clip_stack_run run;
};

// Takes texts from `first` on until the batch is full; returns the next text.
static size_t fill_batch(const struct clip *clip, const struct clip_ids *ids, size_t first,
                         struct batch *batch)
{
    size_t room = clip->text.stack.rows_max;
    batch->ids = clip->text.staging;
    batch->places = batch->ids + room;
    batch->reads = batch->places + room;
    batch->starts = batch->reads + room;
    batch->run = (struct clip_stack_run){.causal = true};

    size_t t = first;
    uint32_t row = 0;
    for (; t < ids->texts; t++) {
        const uint32_t *text = ids->ids + t * ids->stride;
        uint32_t count = used_tokens(&clip->config, text, ids->counts[t]);
        if (row + count > room)
            break;
        batch->starts[batch->run.sequences] = row;
        batch->reads[batch->run.sequences] = row + count - 1;
        batch->run.sequences++;
        for (uint32_t i = 0; i < count; i++) {
            batch->ids[row + i] = text[i];
            batch->places[row + i] = i;
        }
        row += count;
        if (count > batch->run.longest)
            batch->run.longest = count;
    }
    batch->starts[batch->run.sequences] = row;
    batch->run.rows = row;
    return t;
}

// Of a hasty model the first batch brings the rows of its own tokens, the second one all.
static enum status fill_table(struct clip *clip, const struct batch *batch, struct reason *why)
{
    struct clip_text_encoder *text = &clip->text;
    if (!text->late_table)
        return STATUS_OK;
    if (text->used)
        return load_table(text, &clip->reading, clip->ops, why);
    text->used = true;
    size_t width = text->table.columns;
    float *values = mem_alloc_array(width, sizeof(values[0]));
    enum status status = STATUS_OK;
    for (size_t i = 0; i < batch->run.rows && status == STATUS_OK; i++) {
        size_t at = batch->ids[i] * width;
        status = clip_load_part(&clip->reading, text->late_table, at, width, values);
        if (status == STATUS_OK)
            status = ops_upload(clip->ops, text->table.buffer, text->table.offset + at, values,
                                width, why);
    }
    mem_free(values);
    return status;
}

static enum status run_batch(struct clip *clip, const struct batch *batch, float *embeddings,
                             struct reason *why)
{
    struct clip_text_encoder *text = &clip->text;
    struct ops *ops = clip->ops;
    size_t rows = batch->run.rows;
    size_t sequences = batch->run.sequences;

    enum status status = fill_table(clip, batch, why);
    if (status == STATUS_OK)
        status = ops_upload(ops, text->ids, 0, batch->ids, rows, why);
    if (status == STATUS_OK)
        status = ops_upload(ops, text->places, 0, batch->places, rows, why);
    if (status == STATUS_OK)
        status = ops_upload(ops, text->stack.starts, 0, batch->starts, sequences + 1, why);
    if (status == STATUS_OK)
        status = ops_upload(ops, text->stack.reads, 0, batch->reads, sequences, why);
    if (status == STATUS_OK)
        status = ops_embed_tokens(ops,
                                  &(struct ops_embed_tokens){
                                      .table = text->table,
                                      .positions = text->positions,
                                      .ids = {text->ids, 0, 1, rows},
                                      .places = {text->places, 0, 1, rows},
                                      .target = {text->stack.x, 0, rows, text->stack.shape.width},
                                  },
                                  why);
    if (status == STATUS_OK)
        status = clip_stack_run(ops, &text->stack, &batch->run, embeddings, why);
    return status;
}

// All batches of these, until clip_stack_finish().
static enum status run_ids(struct clip *clip, const struct clip_ids *ids, float *embeddings,
                           struct reason *why)
{
    if (!(clip->towers & CLIP_TEXTS))
        return reason_set(why, STATUS_FAILED_PRECONDITION, "texts",
                          "the model %s was opened for pictures only", clip->name);
    enum status status = check_ids(&clip->config, ids, why);
    for (size_t t = 0; t < ids->texts && status == STATUS_OK;) {
        struct batch batch;
        size_t next = fill_batch(clip, ids, t, &batch);
        assert(next > t);
        status = run_batch(clip, &batch, embeddings + t * clip->config.dimension, why);
        t = next;
    }
    return clip_load_blame(&clip->reading, status, why);
}

enum status clip_encode_ids(struct clip *clip, const struct clip_ids *ids, float *embeddings,
                            struct reason *why)
{
    assert(clip);
    assert(ids);

    enum status status = run_ids(clip, ids, embeddings, why);
    return clip_stack_finish(clip->ops, status, why);
}

enum status clip_encode_texts(struct clip *clip, const struct text *texts, size_t count,
                              float *embeddings, struct reason *why)
{
    assert(clip);
    assert((texts && embeddings) || count == 0);

    if (!clip->tokenizer)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "vocab.json",
                          "the model %s was opened without a vocabulary", clip->name);
    size_t context = clip->config.context;
    uint32_t counts[TEXTS_AT_A_TIME];
    uint32_t *ids = mem_alloc_array(TEXTS_AT_A_TIME * context, sizeof(ids[0]));
    enum status status = STATUS_OK;
    for (size_t first = 0; first < count && status == STATUS_OK; first += TEXTS_AT_A_TIME) {
        size_t chunk = count - first < TEXTS_AT_A_TIME ? count - first : TEXTS_AT_A_TIME;
        for (size_t i = 0; i < chunk && status == STATUS_OK; i++)
            status = tokenizer_encode(clip->tokenizer, texts[first + i], ids + i * context,
                                      &counts[i], why);
        if (status == STATUS_OK)
            status = run_ids(clip, &(struct clip_ids){ids, counts, context, chunk},
                             embeddings + first * clip->config.dimension, why);
    }
    mem_free(ids);
    return clip_stack_finish(clip->ops, status, why);
}
