// SPDX-License-Identifier: Apache-2.0
// A state is a safetensors file: numbers and moments of each side as one tensor each, and the logit
// scale's logarithm with its moments. What training is (params) stands beside it as text, one "name
// value" a line, numbers of it to the bit; a state goes on only under the same.

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/mem.h"
#include "proto/base/words.h"
#include "shaders/models/fusion_train_internal.h"
#include "shaders/models/weights.h"

#define FORMAT "reco-train-1"
#define PARAMS_BYTES 4096
#define TENSORS (FUSION_HEAD_SIDES * 3 + 1)

static const char *const names[TENSORS] = {
    "image.numbers", "image.moment1", "image.moment2", "text.numbers",
    "text.moment1",  "text.moment2",  "scale",
};

struct lines {
    char text[PARAMS_BYTES];
    size_t count;
};

static void put_count(struct lines *lines, const char *name, uint64_t value)
{
    lines->count += (size_t)snprintf(lines->text + lines->count, PARAMS_BYTES - lines->count,
                                     "%s %" PRIu64 "\n", name, value);
    assert(lines->count < PARAMS_BYTES);
}

static void put_number(struct lines *lines, const char *name, float value)
{
    lines->count += (size_t)snprintf(lines->text + lines->count, PARAMS_BYTES - lines->count,
                                     "%s %.9g\n", name, (double)value);
    assert(lines->count < PARAMS_BYTES);
}

static void put_config(struct lines *lines, const char *name, const struct fusion_config *config)
{
    struct json_writer writer = {0};
    fusion_config_write(config, &writer);
    lines->count +=
        (size_t)snprintf(lines->text + lines->count, PARAMS_BYTES - lines->count, "%s %.*s\n", name,
                         (int)writer.out.count, (const char *)writer.out.data);
    assert(!writer.failed && lines->count < PARAMS_BYTES);
    json_writer_deinit(&writer);
}

static void put_params(const struct fusion_train_params *params, struct lines *lines)
{
    lines->count = 0;
    put_config(lines, "image", &params->config[MODALITY_IMAGE]);
    put_config(lines, "text", &params->config[MODALITY_TEXT]);
    put_count(lines, "k", params->k);
    put_count(lines, "pairs", params->pairs);
    put_count(lines, "seed", params->seed);
    put_count(lines, "steps", params->steps);
    put_count(lines, "warmup", params->warmup);
    put_number(lines, "rate", params->rate);
    put_number(lines, "rate_last", params->rate_last);
    put_number(lines, "rate_start", params->rate_start);
    put_number(lines, "rate_block", params->rate_block);
    put_number(lines, "rate_scale", params->rate_scale);
    put_number(lines, "decay", params->decay);
    put_number(lines, "beta1", params->beta1);
    put_number(lines, "beta2", params->beta2);
    put_number(lines, "epsilon", params->epsilon);
    put_number(lines, "clip", params->clip);
    put_number(lines, "scale", params->scale);
    put_number(lines, "scale_max", params->scale_max);
    put_number(lines, "weight[0]", params->weight[0]);
    put_number(lines, "weight[1]", params->weight[1]);
    put_number(lines, "weight[2]", params->weight[2]);
    put_number(lines, "dropout", params->dropout);
    put_count(lines, "same", (uint64_t)params->same);
    put_count(lines, "loss", (uint64_t)params->loss);
}

enum status fusion_train_pack(const struct fusion_train *train, struct text note,
                              struct buffer *out)
{
    assert(train && out);

    struct lines lines;
    char steps[24];
    const float scale[] = {train->log_scale, train->log_scale_moment1, train->log_scale_moment2};
    struct weights_entry entries[TENSORS];
    for (uint32_t i = 0; i < TENSORS; i++) {
        const struct train_side *side = &train->side[i / 3 < FUSION_HEAD_SIDES ? i / 3 : 0];
        const float *const parts[] = {side->numbers, side->moment1, side->moment2};
        entries[i] = (struct weights_entry){
            .name = names[i], .rank = 1, .shape = {side->layout.count}, .values = parts[i % 3]};
    }
    entries[TENSORS - 1].shape[0] = 3;
    entries[TENSORS - 1].values = scale;
    put_params(&train->params, &lines);
    (void)snprintf(steps, sizeof(steps), "%" PRIu64, train->steps);
    const struct weights_note notes[] = {
        {"format", text_of(FORMAT)},
        {"params", {lines.text, lines.count}},
        {"steps", text_of(steps)},
        {"note", note},
    };
    return weights_write(entries, TENSORS, notes, sizeof(notes) / sizeof(notes[0]), out);
}

// The first line in which two texts differ.
static enum status compare_params(const struct fusion_train *train, const char *packed,
                                  struct reason *why)
{
    struct lines lines;
    put_params(&train->params, &lines);
    const char *own = lines.text;
    while (*own && strncmp(own, packed, strcspn(own, "\n") + 1) == 0) {
        packed += strcspn(own, "\n") + 1;
        own += strcspn(own, "\n") + 1;
    }
    if (*own == '\0' && *packed == '\0')
        return STATUS_OK;
    char field[REASON_FIELD_BYTES];
    (void)snprintf(field, sizeof(field), "%.*s", (int)strcspn(own, " "), own);
    return reason_set(why, STATUS_FAILED_PRECONDITION, field,
                      "the state was made with '%.*s', this training has '%.*s'",
                      (int)strcspn(packed, "\n"), packed, (int)strcspn(own, "\n"), own);
}

static enum status check_state(const struct fusion_train *train, const struct weights *file,
                               uint64_t *steps, struct reason *why)
{
    const char *format = weights_metadata(file, "format");
    const char *params = weights_metadata(file, "params");
    const char *text = weights_metadata(file, "steps");
    if (!format || strcmp(format, FORMAT) != 0 || !params || !text ||
        !weights_metadata(file, "note"))
        return reason_set(why, STATUS_CORRUPT, "format", "'%.32s': %s is a state of training",
                          format ? format : "", FORMAT);
    enum status status = compare_params(train, params, why);
    if (status != STATUS_OK)
        return status;
    if (!words_read_count(text, 0, UINT64_MAX, steps))
        return reason_set(why, STATUS_CORRUPT, "steps",
                          "'%.32s': an integer of 0..%" PRIu64 " is allowed", text, UINT64_MAX);
    for (uint32_t i = 0; i < TENSORS; i++) {
        const struct weights_tensor *tensor = weights_find(file, names[i]);
        size_t wanted = i + 1 < TENSORS ? train->side[i / 3].layout.count : 3;
        if (!tensor || tensor->count != wanted)
            return reason_set(why, STATUS_CORRUPT, names[i],
                              "is missing or has not the %zu numbers of this config", wanted);
    }
    return STATUS_OK;
}

// All tensors behind each other in memory of their own, so that a bad one changes nothing.
static enum status read_state(struct fusion_train *train, const struct weights *file,
                              struct reason *why)
{
    size_t count = 3;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++)
        count += 3 * train->side[s].layout.count;
    float *all = mem_try_alloc_array(count, sizeof(*all));
    if (!all)
        return reason_set(why, STATUS_NO_MEMORY, "", "no memory for %zu numbers", count);
    enum status status = STATUS_OK;
    float *at = all;
    for (uint32_t i = 0; i < TENSORS && status == STATUS_OK; i++) {
        const struct weights_tensor *tensor = weights_find(file, names[i]);
        status = weights_read(tensor, at, why);
        at += tensor->count;
    }
    at = all;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES && status == STATUS_OK; s++) {
        struct train_side *side = &train->side[s];
        size_t bytes = side->layout.count * sizeof(float);
        memcpy(side->numbers, at, bytes);
        memcpy(side->moment1, at + side->layout.count, bytes);
        memcpy(side->moment2, at + 2 * side->layout.count, bytes);
        at += 3 * side->layout.count;
    }
    if (status == STATUS_OK) {
        train->log_scale = at[0];
        train->log_scale_moment1 = at[1];
        train->log_scale_moment2 = at[2];
    }
    mem_free(all);
    return status;
}

enum status fusion_train_restore(struct fusion_train *train, struct bytes packed, char **note,
                                 struct reason *why)
{
    assert(train && note);

    struct weights *file = NULL;
    uint64_t steps = 0;
    enum status status = weights_open_bytes(packed, &file, why);
    if (status != STATUS_OK)
        return status;
    status = check_state(train, file, &steps, why);
    if (status == STATUS_OK)
        status = read_state(train, file, why);
    if (status == STATUS_OK) {
        train->steps = steps;
        *note = mem_copy_text(weights_metadata(file, "note"));
    }
    weights_close(&file);
    return status;
}
