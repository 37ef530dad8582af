// SPDX-License-Identifier: Apache-2.0
// Pictures and captions go through one stream of the encoder, picture, caption, picture, caption;
// what their answers belong to waits in a ring of as many places as questions can be under way.

#include "tools/train_pairs.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/output.h"
#include "tools/train_asks.h"

#define ITEM_BYTES_MAX                                                                             \
    ((size_t)IMAGE_BYTES_MAX + ((size_t)4 << 20)) // a picture and what stands beside it

// A pair whose embeddings are being made.
struct waiting {
    char *name;
    uint64_t id;
    uint64_t entity;
    bool is_bad;
    float image[DIMENSION_MAX];
};

struct reading {
    struct train_pairs *pairs;
    const struct train_pairs_params *params;
    size_t room; // of ids and entities
    struct train_asks asks;
    struct waiting ring[API_STREAM_ITEMS];
    uint64_t asked; // pairs
    struct buffer message;
    struct output_progress progress;
};

// --- entities

uint64_t train_pairs_entity(struct text words)
{
    char normal[CAPTION_BYTES_MAX + 1];
    size_t used = 0;
    bool gap = false;
    for (size_t i = 0; i < words.bytes && used + 2 < sizeof(normal); i++) {
        const char c = words.data[i];
        if (c == ' ' || (c >= '\t' && c <= '\r')) {
            gap = used > 0;
            continue;
        }
        if (gap)
            normal[used++] = ' ';
        gap = false;
        normal[used] = c;
        if (c >= 'A' && c <= 'Z')
            normal[used] = (char)(c - 'A' + 'a');
        used++;
    }
    const uint64_t entity = hash_id(normal, used);
    return entity ? entity : 1;
}

static int by_key(const void *a, const void *b)
{
    const struct train_pairs_place *x = a;
    const struct train_pairs_place *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->pair > y->pair) - (x->pair < y->pair);
}

void train_pairs_sort(struct train_pairs_place *places, size_t count)
{
    qsort(places, count, sizeof(places[0]), by_key);
}

bool train_pairs_is_held_out(uint64_t entity, uint64_t seed, double share)
{
    const uint64_t both[2] = {entity, seed};
    const uint64_t drawn = hash_id(both, sizeof(both));
    return (double)(drawn >> 11) * 0x1p-53 < share;
}

static enum status entity_of(const struct dataset_item *item, const char *field, uint64_t *out,
                             struct reason *why)
{
    const struct text words = field ? item->entity : item->record.caption;
    if (!words.bytes)
        return reason_set(why, STATUS_INVALID, field ? field : "caption",
                          "is missing or empty: it tells which pairs are of one thing");
    *out = train_pairs_entity(words);
    return STATUS_OK;
}

// --- one pair

static void begin_pair(struct waiting *pair, const struct dataset_item *item, uint64_t entity)
{
    const struct text key = item->record.key;
    assert(!pair->name);
    pair->name = mem_copy_text(item->name);
    pair->id = hash_id(key.data, key.bytes);
    pair->entity = entity;
    pair->is_bad = false;
}

// Names an item that cannot be used; what is returned ends the reading unless it is STATUS_OK.
static enum status leave_out(struct reading *reading, const char *name, const struct reason *why)
{
    output_error(name, why);
    reading->pairs->bad++;
    return reading->params->keep_going ? STATUS_OK : STATUS_INVALID;
}

static enum status add(struct reading *reading, const struct waiting *pair, const float *text,
                       struct reason *why)
{
    struct train_pairs *pairs = reading->pairs;
    if (pairs->rows.count == reading->room) {
        reading->room = reading->room ? 2 * reading->room : 1024;
        pairs->ids = mem_grow(pairs->ids, reading->room, sizeof(pairs->ids[0]));
        pairs->entities = mem_grow(pairs->entities, reading->room, sizeof(pairs->entities[0]));
    }
    pairs->ids[pairs->rows.count] = pair->id;
    pairs->entities[pairs->rows.count] = pair->entity;
    struct reason inner = {.text = ""};
    const enum status status = train_rows_add(&pairs->rows, pair->image, text, &inner);
    if (status == STATUS_INVALID)
        return leave_out(reading, pair->name, &inner);
    if (status)
        *why = inner;
    output_progress_update(&reading->progress, pairs->rows.count, pairs->bad);
    return status;
}

// --- encoding

static enum status check_answer(const struct reading *reading, const struct api_encode_reply *reply,
                                struct reason *why)
{
    const struct train_pairs_params *params = reading->params;
    if (!text_equal(reply->space, text_of(params->space)))
        return reason_set(why, STATUS_FAILED_PRECONDITION, "--memory",
                          "its space is %s, but the model's is %.*s: --model DIR names another",
                          params->space, (int)reply->space.bytes, reply->space.data);
    if (reply->dimension != params->dimension || reply->float_count != params->dimension)
        return reason_set(why, STATUS_CORRUPT, NULL, "an answer of %zu numbers instead of %u",
                          reply->float_count, params->dimension);
    return STATUS_OK;
}

static enum status take_embedding(struct reading *reading, struct waiting *pair, bool is_text,
                                  const struct api_encode_reply *reply, struct reason *why)
{
    const enum status status = check_answer(reading, reply, why);
    if (status)
        return status;
    if (is_text)
        return add(reading, pair, reply->embeddings, why);
    memcpy(pair->image, reply->embeddings, reading->params->dimension * sizeof(pair->image[0]));
    return STATUS_OK;
}

// The tag is twice the pair's number, and one more for its caption.
static enum status take(void *context, const struct api_stream_reply *answer, struct reason *why)
{
    struct reading *reading = context;
    struct waiting *pair = &reading->ring[answer->tag / 2 % API_STREAM_ITEMS];
    const bool is_text = answer->tag % 2 == 1;
    enum status status = STATUS_OK;
    if (answer->status == STATUS_INVALID && !pair->is_bad) {
        pair->is_bad = true;
        struct reason told = answer->why;
        told.field[0] = 0; // the item's name says it
        status = leave_out(reading, pair->name, &told);
    } else if (answer->status && answer->status != STATUS_INVALID) {
        *why = answer->why;
        status = answer->status;
    } else if (!pair->is_bad) {
        struct arena *arena = arena_create(API_ARENA_BYTES(answer->reply.count));
        struct api_encode_reply reply = {.dimension = 0};
        status = api_decode_encode_reply(answer->reply, arena, &reply, why);
        if (!status)
            status = take_embedding(reading, pair, is_text, &reply, why);
        arena_destroy(&arena);
    }
    if (is_text || status) {
        mem_free(pair->name);
        pair->name = NULL;
    }
    return status;
}

static enum status ask(struct reading *reading, const struct api_encode_stream_request *request,
                       struct reason *why)
{
    reading->message.count = 0;
    const enum status status = api_encode_encode_stream_request(request, &reading->message);
    if (status)
        return reason_set(why, status, NULL, "the request cannot be made: %s", status_text(status));
    return train_asks_put(&reading->asks,
                          (struct bytes){reading->message.data, reading->message.count}, why);
}

static enum status encode(struct reading *reading, const struct dataset_item *item, uint64_t entity,
                          struct reason *why)
{
    const struct api_ingest_record *record = &item->record;
    const uint64_t number = reading->asked++;
    struct waiting *pair = &reading->ring[number % API_STREAM_ITEMS];
    begin_pair(pair, item, entity); // at most half as many pairs are under way as questions
    const struct api_encode_stream_request picture = {
        .tag = 2 * number, .input = API_INPUT_IMAGE, .image = record->image};
    const struct api_encode_stream_request caption = {
        .tag = 2 * number + 1, .input = API_INPUT_TEXT, .text = record->caption};
    const enum status status = ask(reading, &picture, why);
    return status ? status : ask(reading, &caption, why);
}

// --- all of them

static enum status take_item(struct reading *reading, const struct dataset_item *item,
                             struct reason *why)
{
    const struct api_ingest_record *record = &item->record;
    struct reason inner = {.text = ""};
    uint64_t entity = 0;
    if (record->hidden) // a takedown holds here too
        return STATUS_OK;
    if (entity_of(item, reading->params->entity, &entity, &inner))
        return leave_out(reading, item->name, &inner);
    if (!record->image_count)
        return encode(reading, item, entity, why);
    // An array's row waits for nothing: any place serves.
    struct waiting *pair = &reading->ring[0];
    begin_pair(pair, item, entity);
    memcpy(pair->image, record->image_embedding, record->image_count * sizeof(pair->image[0]));
    const enum status status = add(reading, pair, record->text_embedding, why);
    mem_free(pair->name);
    pair->name = NULL;
    return status;
}

static enum status read_all(struct reading *reading, struct dataset *dataset, struct reason *why)
{
    enum status status = STATUS_OK;
    for (bool more = true; more && !status;) {
        struct arena *arena = arena_create(ITEM_BYTES_MAX);
        struct dataset_item item;
        struct reason inner = {.text = ""};
        switch (dataset_next(dataset, arena, &item, &inner)) {
        case DATASET_ITEM:
            status = take_item(reading, &item, why);
            break;
        case DATASET_BAD:
            status = leave_out(reading, item.name, &inner);
            break;
        case DATASET_END:
        default:
            more = false;
            break;
        }
        arena_destroy(&arena);
    }
    return status;
}

static enum status finish(struct reading *reading, struct reason *why)
{
    struct train_pairs *pairs = reading->pairs;
    const enum status status = train_rows_seal(&pairs->rows, why);
    if (status)
        return status;
    if (!pairs->rows.count)
        return reason_set(why, STATUS_INVALID, reading->params->flag,
                          "has no pair that can be used");
    uint8_t digest[HASH_SHA256_BYTES];
    struct hash_sha256 state = pairs->rows.digest;
    hash_sha256_update(&state, pairs->ids, pairs->rows.count * sizeof(pairs->ids[0]));
    hash_sha256_update(&state, pairs->entities, pairs->rows.count * sizeof(pairs->entities[0]));
    hash_sha256_final(&state, digest);
    hash_hex(digest, sizeof(digest), pairs->digest);
    return STATUS_OK;
}

enum status train_pairs_read(struct train_pairs *pairs, struct dataset *dataset,
                             const struct train_pairs_params *params, struct reason *why)
{
    const uint32_t given = dataset_dimension(dataset);
    if (given && given != params->dimension)
        return reason_set(why, STATUS_FAILED_PRECONDITION, params->flag,
                          "has rows of %u numbers; the memory's space %s has %u dimensions", given,
                          params->space, params->dimension);
    struct reading *reading = mem_alloc(sizeof(*reading));
    reading->pairs = pairs;
    reading->params = params;
    reading->asks.take = take;
    reading->asks.context = reading;
    enum status status = train_rows_begin(&pairs->rows, params->out, params->dimension, why);
    if (!status && !given)
        status = train_asks_begin(&reading->asks, params->client, API_ENCODE_STREAM, why);
    output_progress_begin(&reading->progress, "pairs", dataset_total(dataset));
    if (!status)
        status = read_all(reading, dataset, why);
    status = train_asks_end(&reading->asks, status, why);
    output_progress_end(&reading->progress);
    if (!status)
        status = finish(reading, why);
    for (size_t i = 0; i < API_STREAM_ITEMS; i++)
        mem_free(reading->ring[i].name);
    buffer_deinit(&reading->message);
    mem_free(reading);
    return status;
}

void train_pairs_deinit(struct train_pairs *pairs)
{
    train_rows_deinit(&pairs->rows);
    mem_free(pairs->ids);
    mem_free(pairs->entities);
    *pairs = (struct train_pairs){.ids = NULL};
}
