// SPDX-License-Identifier: Apache-2.0
// Items are taken until a batch is full; a picture that the encoder refuses is taken out of it, and
// the others are asked for again.

#include "tools/eval_set.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/embedding.h"
#include "proto/base/mem.h"
#include "tools/args.h"
#include "tools/dataset.h"
#include "tools/encoding.h"
#include "tools/eval_oven.h"
#include "tools/output.h"

#define ARENA_BYTES ((size_t)160 << 20) // a batch, one picture above it, and its texts

// --- growing

// The array with more room in place of the old one; NULL, and the old one stays, when out of
// memory.
static void *grow(void *array, size_t used, size_t room, size_t bytes)
{
    void *larger = mem_try_alloc_array(room, bytes);
    if (!larger)
        return NULL;
    if (used)
        memcpy(larger, array, used * bytes);
    mem_free(array);
    return larger;
}

static bool make_room(struct eval_set *set, size_t more)
{
    if (set->count + more <= set->room)
        return true;
    const size_t room = 2 * set->room + more + 1024;
    float *images = grow(set->images, set->count, room, set->dimension * sizeof(float));
    set->images = images ? images : set->images;
    uint64_t *items = grow(set->items, set->count, room, sizeof(*items));
    set->items = items ? items : set->items;
    uint32_t *truth = grow(set->truth, set->count, room, sizeof(*truth));
    set->truth = truth ? truth : set->truth;
    uint8_t *parts = grow(set->parts, set->count, room, sizeof(*parts));
    set->parts = parts ? parts : set->parts;
    set->room = images && items && truth && parts ? room : set->room;
    return images && items && truth && parts;
}

static bool make_text_room(struct eval_set *set, size_t more)
{
    if (set->text_count + more <= set->text_room)
        return true;
    const size_t room = 2 * set->text_room + more + 1024;
    float *texts = grow(set->texts, set->text_count, room, set->dimension * sizeof(float));
    set->texts = texts ? texts : set->texts;
    uint32_t *image_of = grow(set->image_of, set->text_count, room, sizeof(*image_of));
    set->image_of = image_of ? image_of : set->image_of;
    set->text_room = texts && image_of ? room : set->text_room;
    return texts && image_of;
}

// --- a batch

struct entry {
    const char *name;
    uint64_t item;
    struct bytes picture;
    const float *embedding, *text_embedding; // of a source that brings them
    uint32_t truth;
    uint8_t part;
    struct text captions[EVAL_SET_CAPTIONS_MAX];
    size_t caption_count;
};

struct filling {
    const struct eval_set_params *params;
    struct eval_set *set;
    struct dataset *dataset;
    struct arena *arena; // of the batch
    struct entry entries[ENCODING_BATCH_MAX];
    size_t count;
    uint64_t items; // read so far
    bool ended;
    float *embeddings; // [ENCODING_BATCH_MAX][dimension]
    struct output_progress progress;
};

// Names a bad item; returns what ends everything.
static enum status leave_out(struct filling *filling, const char *name, enum status status,
                             struct reason *why)
{
    filling->set->has_failed = true;
    if (!filling->params->options->keep_going) {
        const struct reason inner = *why;
        return reason_set(why, status, NULL, "%s: %s%s%s", name, inner.field,
                          inner.field[0] ? ": " : "", inner.text);
    }
    output_error(name, why);
    return STATUS_OK;
}

static enum status read_label(const struct eval_classes *classes, const struct dataset_item *item,
                              uint32_t *out, struct reason *why)
{
    const size_t labels = classes->labels.label_count;
    const struct text text = item->label.bytes ? item->label : item->record.caption;
    uint64_t number = 0;
    char digits[24];
    (void)snprintf(digits, sizeof(digits), "%.*s", (int)text.bytes, text.data ? text.data : "");
    if (item->label.bytes && !args_read_count("label", digits, 0, UINT32_MAX, &number, NULL)) {
        *out = (uint32_t)number;
        return number < labels ? STATUS_OK
                               : reason_set(why, STATUS_INVALID, "label",
                                            "%s: %s has %zu labels; allowed: 0..%zu", digits,
                                            classes->from, labels, labels - 1);
    }
    if (eval_classes_find(classes, text, out))
        return STATUS_OK;
    return reason_set(
        why, STATUS_INVALID, "label",
        "'%.*s' is none of the %zu labels of %s; one of them, or an alias, is allowed",
        (int)(text.bytes < 100 ? text.bytes : 100), text.data ? text.data : "", labels,
        classes->from);
}

// What is no entity's key is a fault of the question: a wrong answer would count against the model.
static enum status read_entity(const struct eval_entities *entities,
                               const struct dataset_item *item, uint32_t *out, struct reason *why)
{
    const struct text text = item->label.bytes ? item->label : item->record.caption;
    if (eval_entities_find(entities, text, out))
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, "entity",
                      "'%.*s' is the key of no record of %s, whose keys are the entities",
                      (int)(text.bytes < 100 ? text.bytes : 100), text.data ? text.data : "",
                      entities->memory.name);
}

static enum status read_captions(const struct dataset_item *item, struct entry *entry,
                                 struct reason *why)
{
    const enum status status = dataset_place_lines(
        item->record.caption, entry->captions, EVAL_SET_CAPTIONS_MAX, &entry->caption_count, why);
    if (status || entry->caption_count || entry->text_embedding)
        return status;
    return reason_set(why, STATUS_INVALID, "caption", "is empty");
}

// A label or an entity, or else captions; and the part.
static enum status read_answer(const struct eval_set_params *params,
                               const struct dataset_item *item, struct entry *entry,
                               struct reason *why)
{
    enum status status = STATUS_OK;
    if (params->entities)
        status = read_entity(params->entities, item, &entry->truth, why);
    else if (params->classes)
        status = read_label(params->classes, item, &entry->truth, why);
    else
        status = read_captions(item, entry, why);
    if (!status && params->part_field)
        status = eval_oven_read_part(params->part_field, item->entity, &entry->part, why);
    return status;
}

static enum status take_item(struct filling *filling, const struct dataset_item *item,
                             struct reason *why)
{
    struct entry *entry = &filling->entries[filling->count];
    *entry = (struct entry){
        .name = item->name,
        .item = filling->items - 1,
        .picture = item->record.image,
        .embedding = item->record.image_count ? item->record.image_embedding : NULL,
        .text_embedding = item->record.text_count ? item->record.text_embedding : NULL,
    };
    const enum status status = read_answer(filling->params, item, entry, why);
    filling->count += status == STATUS_OK;
    return status;
}

static enum status fill_batch(struct filling *filling, struct reason *why)
{
    size_t bytes = 0;
    enum status status = STATUS_OK;
    while (!status && filling->count < ENCODING_BATCH_MAX && bytes < ENCODING_BATCH_BYTES) {
        struct dataset_item item;
        struct reason inner = {.text = ""};
        const enum dataset_step step =
            dataset_next(filling->dataset, filling->arena, &item, &inner);
        filling->ended = step == DATASET_END;
        if (filling->ended)
            break;
        filling->items++;
        bytes += step == DATASET_ITEM ? item.record.image.count : 0;
        const enum status bad =
            step == DATASET_BAD ? STATUS_INVALID : take_item(filling, &item, &inner);
        if (bad) {
            status = leave_out(filling, item.name, bad, &inner);
            if (status)
                *why = inner;
        }
        // Bad ones stay in the arena, too.
        if (bad && arena_used(filling->arena) > ENCODING_BATCH_BYTES)
            break;
    }
    return status;
}

// --- to embeddings

static enum status take_given(struct filling *filling, struct reason *why)
{
    const uint32_t dimension = filling->set->dimension;
    if (dataset_dimension(filling->dataset) != dimension)
        return reason_set(why, STATUS_INVALID, filling->params->place->name,
                          "its embeddings have %u numbers and the model's space has dimension %u",
                          dataset_dimension(filling->dataset), dimension);
    for (size_t i = 0; i < filling->count; i++) {
        float *row = filling->embeddings + i * dimension;
        memcpy(row, filling->entries[i].embedding, dimension * sizeof(*row));
        const enum status status = embedding_normalise(row, dimension);
        if (status)
            return reason_set(why, status, NULL,
                              "%s: its embedding has length 0 or a number that is not finite",
                              filling->entries[i].name);
    }
    return STATUS_OK;
}

static enum status encode_batch(struct filling *filling, struct reason *why)
{
    struct bytes pictures[ENCODING_BATCH_MAX];
    while (filling->count) {
        for (size_t i = 0; i < filling->count; i++)
            pictures[i] = filling->entries[i].picture;
        enum status status = eval_encode_pictures(filling->params->encoder, pictures,
                                                  filling->count, filling->embeddings, why);
        const size_t bad =
            status == STATUS_INVALID ? encoding_blamed_item(why, filling->count) : filling->count;
        if (!status || bad == filling->count)
            return status;
        why->field[0] = 0; // the name says which
        status = leave_out(filling, filling->entries[bad].name, status, why);
        if (status)
            return status;
        filling->count--;
        memmove(&filling->entries[bad], &filling->entries[bad + 1],
                (filling->count - bad) * sizeof(filling->entries[0]));
    }
    return STATUS_OK;
}

static enum status add_captions(struct filling *filling, const struct entry *entry, uint32_t image,
                                struct reason *why)
{
    struct eval_set *set = filling->set;
    const uint32_t dimension = set->dimension;
    const size_t count = entry->text_embedding ? 1 : entry->caption_count;
    if (!make_text_room(set, count))
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for %zu captions",
                          set->text_count + count);
    float *rows = set->texts + set->text_count * dimension;
    enum status status = STATUS_OK;
    if (entry->text_embedding) {
        memcpy(rows, entry->text_embedding, dimension * sizeof(*rows));
        status = embedding_normalise(rows, dimension);
        if (status)
            return reason_set(why, status, NULL,
                              "%s: its text embedding has length 0 or a number that is not finite",
                              entry->name);
    } else {
        status = eval_encode_texts(filling->params->encoder, entry->captions, count, rows, why);
    }
    for (size_t i = 0; i < count; i++)
        set->image_of[set->text_count + i] = image;
    set->text_count += count;
    return status;
}

static enum status add_batch(struct filling *filling, struct reason *why)
{
    struct eval_set *set = filling->set;
    enum status status =
        dataset_dimension(filling->dataset) ? take_given(filling, why) : encode_batch(filling, why);
    if (status)
        return status;
    if (!make_room(set, filling->count) || set->count + filling->count > UINT32_MAX)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for %zu pictures",
                          set->count + filling->count);
    for (size_t i = 0; i < filling->count && !status; i++) {
        memcpy(set->images + set->count * set->dimension, filling->embeddings + i * set->dimension,
               set->dimension * sizeof(float));
        set->items[set->count] = filling->entries[i].item;
        set->truth[set->count] = filling->entries[i].truth;
        set->parts[set->count] = filling->entries[i].part;
        if (!filling->params->classes && !filling->params->entities)
            status = add_captions(filling, &filling->entries[i], (uint32_t)set->count, why);
        set->count++;
    }
    return status;
}

static enum status read_batches(struct filling *filling, struct reason *why)
{
    const size_t before = filling->set->count;
    enum status status = STATUS_OK;
    while (!filling->ended && !status) {
        filling->arena = arena_create(ARENA_BYTES);
        filling->count = 0;
        status = fill_batch(filling, why);
        if (!status && filling->count)
            status = add_batch(filling, why);
        arena_destroy(&filling->arena);
        output_progress_update(&filling->progress, filling->set->count, 0);
    }
    if (!status && filling->set->count == before)
        status = reason_set(why, STATUS_INVALID, filling->params->place->name,
                            "no picture in it can be used; one at least is needed");
    return status;
}

enum status eval_set_read(const struct eval_set_params *params, struct eval_set *out,
                          struct reason *why)
{
    assert(params && params->place->source_count && out);

    const struct dataset_params how = {
        .format = -1,
        .labelled = params->classes || params->entities,
        .entity = params->part_field,
        .split = params->place->split,
    };
    const int64_t began = clock_now_us();
    out->dimension = params->encoder->dimension;
    struct filling *filling = mem_alloc(sizeof(*filling));
    filling->params = params;
    filling->set = out;
    filling->embeddings =
        mem_alloc_array((size_t)ENCODING_BATCH_MAX * params->encoder->dimension, sizeof(float));
    enum status status = dataset_open((const char *const *)params->place->sources,
                                      params->place->source_count, &how, &filling->dataset, why);
    if (status && params->part_field && strcmp(why->field, "--entity-field") == 0)
        (void)snprintf(why->field, sizeof(why->field), "--split-field"); // this verb's name of it
    if (!status) {
        output_progress_begin(&filling->progress, "pictures", dataset_total(filling->dataset));
        status = read_batches(filling, why);
        output_progress_end(&filling->progress);
    }
    dataset_close(&filling->dataset);
    mem_free(filling->embeddings);
    mem_free(filling);
    out->seconds += (double)(clock_now_us() - began) / 1e6;
    return status;
}

void eval_set_deinit(struct eval_set *set)
{
    mem_free(set->images);
    mem_free(set->items);
    mem_free(set->truth);
    mem_free(set->parts);
    mem_free(set->texts);
    mem_free(set->image_of);
    *set = (struct eval_set){.count = 0};
}
