// SPDX-License-Identifier: Apache-2.0
// A head's file and its life. All numbers are copied into one array for each side, so the file need
// not stay mapped.

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"
#include "proto/base/words.h"
#include "shaders/models/fusion_head_internal.h"
#include "shaders/models/weights.h"

#define NAME_BYTES 48 // "image.score_embedding" and its like
#define NOTES 9

static const char *const sides[FUSION_HEAD_SIDES] = {
    [MODALITY_IMAGE] = "image",
    [MODALITY_TEXT] = "text",
};

// --- what every head must be

static enum status check_json(const char *name, struct text text, struct reason *why)
{
    if (text.bytes == 0)
        return STATUS_OK;
    struct json *value = NULL;
    struct reason inner = {0};
    enum status status = json_parse(text.data, text.bytes, &value, &inner);
    json_destroy(&value);
    if (status != STATUS_OK)
        return reason_set(why, status, name, "is no JSON: %s", inner.text);
    return STATUS_OK;
}

enum status fusion_head_check(const struct fusion_head_info *info, struct reason *why)
{
    size_t length = strnlen(info->space, sizeof(info->space));
    if (length == 0 || length > SPACE_BYTES_MAX || !bytes_is_utf8(info->space, length))
        return reason_set(why, STATUS_INVALID, "space", "is empty or longer than %d bytes of UTF-8",
                          SPACE_BYTES_MAX);
    if (info->k < 1 || info->k > K_WIRE_MAX)
        return reason_set(why, STATUS_INVALID, "k", "%" PRIu32 ": 1..%d is allowed", info->k,
                          K_WIRE_MAX);
    for (uint32_t side = 0; side < FUSION_HEAD_SIDES; side++) {
        enum status status = fusion_config_check(&info->config[side], why);
        if (status != STATUS_OK)
            return status;
        if (info->config[side].dimension != info->dimension)
            return reason_set(why, STATUS_INVALID, "dimension",
                              "%" PRIu32 ", but that of the %s config is %" PRIu32, info->dimension,
                              sides[side], info->config[side].dimension);
    }
    // A space says its dimension behind the last colon.
    const char *colon = strrchr(info->space, ':');
    if (colon && strtoul(colon + 1, NULL, 10) != info->dimension)
        return reason_set(why, STATUS_INVALID, "dimension", "%" PRIu32 ", but the space is %s",
                          info->dimension, info->space);
    length = strnlen(info->data, sizeof(info->data));
    if (length > FUSION_HEAD_DATA_BYTES_MAX || !bytes_is_utf8(info->data, length))
        return reason_set(why, STATUS_INVALID, "data", "is longer than %u bytes of UTF-8",
                          FUSION_HEAD_DATA_BYTES_MAX);
    enum status status = check_json("curve", info->curve, why);
    return status == STATUS_OK ? check_json("gate", info->gate, why) : status;
}

// --- reading

static enum status read_number(const struct weights *file, const char *name, uint64_t most,
                               uint64_t *out, struct reason *why)
{
    const char *text = weights_metadata(file, name);
    if (text && words_read_count(text, 0, most, out))
        return STATUS_OK;
    return reason_set(why, STATUS_CORRUPT, name, "'%.32s': an integer of 0..%" PRIu64 " is allowed",
                      text ? text : "", most);
}

// A text of at most `bytes` - 1 bytes.
static enum status read_text(const struct weights *file, const char *name, char *out, size_t bytes,
                             struct reason *why)
{
    const char *text = weights_metadata(file, name);
    if (!text || strlen(text) >= bytes)
        return reason_set(why, STATUS_CORRUPT, name, "is missing or longer than %zu bytes",
                          bytes - 1);
    memcpy(out, text, strlen(text) + 1);
    return STATUS_OK;
}

static enum status read_configs(const struct weights *file, struct fusion_head_info *info,
                                struct reason *why)
{
    const char *text = weights_metadata(file, "config");
    struct json *document = NULL;
    struct reason inner = {0};
    if (!text)
        return reason_set(why, STATUS_CORRUPT, "config", "is missing");
    enum status status = json_parse(text, strlen(text), &document, &inner);
    if (status != STATUS_OK)
        return reason_set(why, status == STATUS_INVALID ? STATUS_CORRUPT : status, "config",
                          "is no JSON: %s", inner.text);
    for (uint32_t side = 0; side < FUSION_HEAD_SIDES && status == STATUS_OK; side++)
        status = fusion_config_parse(json_member(document, sides[side]), sides[side],
                                     &info->config[side], why);
    json_destroy(&document);
    return status == STATUS_INVALID ? STATUS_CORRUPT : status;
}

static enum status read_info(const struct weights *file, const char *space,
                             struct fusion_head *head, struct reason *why)
{
    struct fusion_head_info *info = &head->info;
    const char *format = weights_metadata(file, "format");
    if (!format || strcmp(format, FUSION_HEAD_FORMAT) != 0)
        return reason_set(why, format ? STATUS_UNSUPPORTED : STATUS_CORRUPT, "format",
                          "'%.32s': %s is a fusion head that this version reads",
                          format ? format : "", FUSION_HEAD_FORMAT);
    uint64_t dimension = 0;
    uint64_t k = 0;
    enum status status = read_text(file, "space", info->space, sizeof(info->space), why);
    if (status == STATUS_OK && space && strcmp(space, info->space) != 0)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "space",
                          "the head was trained for %s, the embeddings are of %s", info->space,
                          space);
    if (status == STATUS_OK)
        status = read_number(file, "dimension", DIMENSION_MAX, &dimension, why);
    if (status == STATUS_OK)
        status = read_number(file, "k", K_WIRE_MAX, &k, why);
    if (status == STATUS_OK)
        status = read_text(file, "data", info->data, sizeof(info->data), why);
    if (status == STATUS_OK)
        status = read_number(file, "seed", UINT64_MAX, &info->seed, why);
    if (status == STATUS_OK)
        status = read_number(file, "steps", UINT64_MAX, &info->steps, why);
    if (status == STATUS_OK)
        status = read_configs(file, info, why);
    if (status != STATUS_OK)
        return status;
    info->dimension = (uint32_t)dimension;
    info->k = (uint32_t)k;
    info->curve = text_of(weights_metadata(file, "curve"));
    info->gate = text_of(weights_metadata(file, "gate"));
    status = fusion_head_check(info, why);
    return status == STATUS_INVALID ? STATUS_CORRUPT : status;
}

static void tensor_name(uint32_t side, const struct fusion_place *place, char name[NAME_BYTES])
{
    (void)snprintf(name, NAME_BYTES, "%s.%s", sides[side], place->name);
}

// Whether `numbers`, those of the side, have what is allowed where the tensor lies.
static enum status check_numbers(uint32_t side, const struct fusion_place *place,
                                 const float *numbers, struct reason *why)
{
    const float *own = numbers + place->offset;
    size_t i = 0;
    while (i < place->count && fabsf(own[i]) <= FUSION_HEAD_NUMBER_MAX) // not true of NaN
        i++;
    if (i == place->count)
        return STATUS_OK;
    char name[NAME_BYTES];
    tensor_name(side, place, name);
    return reason_set(why, STATUS_INVALID, name, "number %zu is %g: -%g..%g is allowed", i,
                      (double)own[i], (double)FUSION_HEAD_NUMBER_MAX,
                      (double)FUSION_HEAD_NUMBER_MAX);
}

static enum status check_all_numbers(const struct fusion_head_info *info,
                                     const float *const numbers[FUSION_HEAD_SIDES],
                                     struct reason *why)
{
    enum status status = STATUS_OK;
    for (uint32_t side = 0; side < FUSION_HEAD_SIDES; side++) {
        const struct fusion_layout layout = fusion_layout_of(&info->config[side]);
        for (int i = 0; i < FUSION_TENSOR_COUNT && status == STATUS_OK; i++)
            status = check_numbers(side, &layout.tensor[i], numbers[side], why);
    }
    return status;
}

// Whether the tensor is there with the shape that the config gives it.
static enum status check_tensor(const struct weights *file, uint32_t side,
                                const struct fusion_place *place, struct reason *why)
{
    char name[NAME_BYTES];
    tensor_name(side, place, name);
    const struct weights_tensor *tensor = weights_find(file, name);
    if (!tensor)
        return reason_set(why, STATUS_CORRUPT, name, "this tensor is missing");
    if (place->rows > 0 && (tensor->rank != 2 || tensor->shape[0] != place->rows ||
                            tensor->shape[1] != place->columns))
        return reason_set(why, STATUS_CORRUPT, name,
                          "has %" PRIu32
                          " dimensions and %zu numbers; the config asks for [%" PRIu32 ", %" PRIu32
                          "]",
                          tensor->rank, tensor->count, place->rows, place->columns);
    if (place->rows == 0 && (tensor->rank != 1 || tensor->shape[0] != place->columns))
        return reason_set(why, STATUS_CORRUPT, name,
                          "has %" PRIu32
                          " dimensions and %zu numbers; the config asks for [%" PRIu32 "]",
                          tensor->rank, tensor->count, place->columns);
    return STATUS_OK;
}

// All of it, before memory is taken for what a config only claims.
static enum status check_tensors(const struct weights *file, const struct fusion_head *head,
                                 struct reason *why)
{
    size_t known = 0;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        for (int i = 0; i < FUSION_TENSOR_COUNT; i++) {
            const struct fusion_place *place = &head->side[s].layout.tensor[i];
            if (place->count == 0)
                continue;
            known++;
            enum status status = check_tensor(file, s, place, why);
            if (status != STATUS_OK)
                return status;
        }
    }
    if (weights_count(file) != known)
        return reason_set(why, STATUS_CORRUPT, "header",
                          "has %zu tensors, a head of this config has %zu", weights_count(file),
                          known);
    return STATUS_OK;
}

static enum status read_side(const struct weights *file, uint32_t number, struct fusion_side *side,
                             struct reason *why)
{
    side->numbers = mem_try_alloc_array(side->layout.count, sizeof(float));
    if (!side->numbers)
        return reason_set(why, STATUS_NO_MEMORY, "", "no memory for %zu numbers",
                          side->layout.count);
    enum status status = STATUS_OK;
    for (int i = 0; i < FUSION_TENSOR_COUNT && status == STATUS_OK; i++) {
        const struct fusion_place *place = &side->layout.tensor[i];
        char name[NAME_BYTES];
        tensor_name(number, place, name);
        if (place->count > 0)
            status = weights_read(weights_find(file, name), side->numbers + place->offset, why);
        if (status == STATUS_OK && check_numbers(number, place, side->numbers, why) != STATUS_OK)
            status = STATUS_CORRUPT;
    }
    return status;
}

static enum status read_numbers(const struct weights *file, struct fusion_head *head,
                                struct reason *why)
{
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++)
        head->side[s].layout = fusion_layout_of(&head->info.config[s]);
    enum status status = check_tensors(file, head, why);
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES && status == STATUS_OK; s++)
        status = read_side(file, s, &head->side[s], why);
    return status;
}

// --- life

// Texts of `info`, which belong to another, become the head's own.
static void own_texts(struct fusion_head *head)
{
    struct text *texts[] = {&head->info.curve, &head->info.gate};
    char **own[] = {&head->curve, &head->gate};
    for (int i = 0; i < 2; i++) {
        if (texts[i]->bytes == 0) {
            *texts[i] = (struct text){NULL, 0};
            continue;
        }
        *own[i] = mem_alloc(texts[i]->bytes + 1);
        memcpy(*own[i], texts[i]->data, texts[i]->bytes);
        texts[i]->data = *own[i];
    }
}

static enum status open_weights(struct weights **file, const char *space, uint32_t threads,
                                struct fusion_head **out, struct reason *why)
{
    struct fusion_head *head = mem_alloc(sizeof(*head));
    enum status status = read_info(*file, space, head, why);
    if (status != STATUS_OK) {
        mem_free(head);
        weights_close(file);
        return status;
    }
    own_texts(head);
    status = read_numbers(*file, head, why);
    weights_close(file);
    if (status == STATUS_OK)
        status = fusion_head_prepare(head, threads, why);
    if (status != STATUS_OK) {
        fusion_head_close(&head);
        return status;
    }
    *out = head;
    return STATUS_OK;
}

enum status fusion_head_open(const char *path, const char *space, uint32_t threads,
                             struct fusion_head **out, struct reason *why)
{
    assert(path && out);

    struct weights *file = NULL;
    enum status status = weights_open(path, &file, why);
    return status == STATUS_OK ? open_weights(&file, space, threads, out, why) : status;
}

// See reco_tiny.S.
extern const uint8_t reco_tiny_head[];
extern const uint8_t reco_tiny_head_end[];

struct bytes fusion_head_embedded(void)
{
    return (struct bytes){reco_tiny_head,
                          (size_t)((uintptr_t)reco_tiny_head_end - (uintptr_t)reco_tiny_head)};
}

enum status fusion_head_open_bytes(struct bytes bytes, const char *space, uint32_t threads,
                                   struct fusion_head **out, struct reason *why)
{
    assert(out);

    struct weights *file = NULL;
    enum status status = weights_open_bytes(bytes, &file, why);
    return status == STATUS_OK ? open_weights(&file, space, threads, out, why) : status;
}

enum status fusion_head_create(const struct fusion_head_info *info,
                               const float *const numbers[FUSION_HEAD_SIDES], uint32_t threads,
                               struct fusion_head **out, struct reason *why)
{
    assert(info && numbers && out);

    enum status status = fusion_head_check(info, why);
    if (status == STATUS_OK)
        status = check_all_numbers(info, numbers, why);
    if (status != STATUS_OK)
        return status;
    struct fusion_head *head = mem_alloc(sizeof(*head));
    head->info = *info;
    own_texts(head);
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES && status == STATUS_OK; s++) {
        struct fusion_side *side = &head->side[s];
        side->layout = fusion_layout_of(&info->config[s]);
        side->numbers = mem_try_alloc_array(side->layout.count, sizeof(float));
        if (!side->numbers)
            status = reason_set(why, STATUS_NO_MEMORY, "", "no memory for %zu numbers",
                                side->layout.count);
        else
            memcpy(side->numbers, numbers[s], side->layout.count * sizeof(float));
    }
    if (status == STATUS_OK)
        status = fusion_head_prepare(head, threads, why);
    if (status != STATUS_OK) {
        fusion_head_close(&head);
        return status;
    }
    *out = head;
    return STATUS_OK;
}

void fusion_head_close(struct fusion_head **head)
{
    assert(head);

    if (!*head)
        return;
    fusion_head_release(*head);
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++)
        mem_free((*head)->side[s].numbers);
    mem_free((*head)->curve);
    mem_free((*head)->gate);
    mem_free(*head);
    *head = NULL;
}

const struct fusion_head_info *fusion_head_info(const struct fusion_head *head)
{
    assert(head);

    return &head->info;
}

const float *fusion_head_numbers(const struct fusion_head *head, enum modality side)
{
    assert(head);

    return head->side[side].numbers;
}

// --- writing

static void write_configs(const struct fusion_head_info *info, struct json_writer *writer)
{
    json_begin_object(writer);
    for (uint32_t side = 0; side < FUSION_HEAD_SIDES; side++) {
        json_name(writer, sides[side]);
        fusion_config_write(&info->config[side], writer);
    }
    json_end_object(writer);
}

static size_t list_entries(const struct fusion_head_info *info,
                           const float *const numbers[FUSION_HEAD_SIDES],
                           struct weights_entry *entries, char (*names)[NAME_BYTES])
{
    size_t count = 0;
    for (uint32_t side = 0; side < FUSION_HEAD_SIDES; side++) {
        struct fusion_layout layout = fusion_layout_of(&info->config[side]);
        for (int i = 0; i < FUSION_TENSOR_COUNT; i++) {
            const struct fusion_place *place = &layout.tensor[i];
            if (place->count == 0)
                continue;
            tensor_name(side, place, names[count]);
            struct weights_entry *entry = &entries[count];
            *entry = (struct weights_entry){.name = names[count],
                                            .rank = place->rows > 0 ? 2 : 1,
                                            .shape = {place->columns},
                                            .values = numbers[side] + place->offset};
            if (place->rows > 0) {
                entry->shape[0] = place->rows;
                entry->shape[1] = place->columns;
            }
            count++;
        }
    }
    return count;
}

enum status fusion_head_pack(const struct fusion_head_info *info,
                             const float *const numbers[FUSION_HEAD_SIDES], struct buffer *out,
                             struct reason *why)
{
    assert(info && numbers && out);

    enum status status = fusion_head_check(info, why);
    if (status == STATUS_OK)
        status = check_all_numbers(info, numbers, why);
    if (status != STATUS_OK)
        return status;
    struct weights_entry entries[FUSION_HEAD_SIDES * FUSION_TENSOR_COUNT];
    char names[FUSION_HEAD_SIDES * FUSION_TENSOR_COUNT][NAME_BYTES];
    size_t count = list_entries(info, numbers, entries, names);

    struct json_writer config = {0};
    write_configs(info, &config);
    char number[4][24];
    (void)snprintf(number[0], sizeof(number[0]), "%" PRIu32, info->dimension);
    (void)snprintf(number[1], sizeof(number[1]), "%" PRIu32, info->k);
    (void)snprintf(number[2], sizeof(number[2]), "%" PRIu64, info->seed);
    (void)snprintf(number[3], sizeof(number[3]), "%" PRIu64, info->steps);
    struct weights_note notes[NOTES + 1] = {
        {"format", text_of(FUSION_HEAD_FORMAT)},
        {"space", text_of(info->space)},
        {"dimension", text_of(number[0])},
        {"k", text_of(number[1])},
        {"config", {(const char *)config.out.data, config.out.count}},
        {"data", text_of(info->data)},
        {"seed", text_of(number[2])},
        {"steps", text_of(number[3])},
    };
    size_t note_count = NOTES - 1;
    if (info->curve.bytes > 0)
        notes[note_count++] = (struct weights_note){"curve", info->curve};
    if (info->gate.bytes > 0)
        notes[note_count++] = (struct weights_note){"gate", info->gate};
    if (config.failed || weights_write(entries, count, notes, note_count, out) != STATUS_OK)
        status = reason_set(why, STATUS_NO_MEMORY, "", "no memory for the head's file");
    json_writer_deinit(&config);
    return status;
}

enum status fusion_head_save(const char *path, const struct fusion_head_info *info,
                             const float *const numbers[FUSION_HEAD_SIDES], struct reason *why)
{
    assert(path);

    struct buffer file = {0};
    enum status status = fusion_head_pack(info, numbers, &file, why);
    if (status == STATUS_OK && bytes_replace_file(path, file.data, file.count) != STATUS_OK)
        status = reason_set(why, STATUS_IO, "", "%s cannot be written: %s", path,
                            SYSTEM_TROUBLE(STATUS_IO));
    buffer_deinit(&file);
    return status;
}
