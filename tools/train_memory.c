// SPDX-License-Identifier: Apache-2.0
// An Export gives the records in an order that depends on the nodes; sorted by id they mean the
// same on any.

#include "tools/train_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "tools/output.h"

struct reading {
    struct train_memory *memory;
    size_t room; // of places
    struct output_progress progress;
};

enum status train_memory_describe(struct train_memory *memory, struct client *client,
                                  const char *name, struct reason *why)
{
    struct arena *arena = arena_create(MEMORIES_ARENA_BYTES);
    struct api_memory_info info = {.generation = 0};
    enum status status = memories_describe(client, name, arena, &info, why);
    if (!status && info.space.bytes > SPACE_BYTES_MAX)
        status = reason_set(why, STATUS_CORRUPT, name, "the name of its space is too long");
    if (!status) {
        memories_pin(&info, memory->pin);
        (void)snprintf(memory->space, sizeof(memory->space), "%.*s", (int)info.space.bytes,
                       info.space.data);
        memory->dimension = info.dimension;
        memory->records = info.records;
    }
    if (!status && !info.records)
        status = reason_set(why, STATUS_FAILED_PRECONDITION, memory->pin,
                            "is empty: a head learns from neighbours");
    arena_destroy(&arena);
    return status;
}

static enum status take_record(struct reading *reading, const struct api_record *record,
                               struct reason *why)
{
    struct train_memory *memory = reading->memory;
    if (record->image_count != memory->dimension || record->text_count != memory->dimension)
        return reason_set(why, STATUS_CORRUPT, memory->pin,
                          "a record has %zu and %zu numbers instead of %u", record->image_count,
                          record->text_count, memory->dimension);
    if (memory->rows.count == reading->room) {
        reading->room = reading->room ? 2 * reading->room : 1024;
        memory->places = mem_grow(memory->places, reading->room, sizeof(memory->places[0]));
    }
    memory->places[memory->rows.count] =
        (struct train_memory_place){.id = record->id, .row = memory->rows.count};
    return train_rows_add(&memory->rows, record->image_embedding, record->text_embedding, why);
}

static enum status take(void *context, const struct api_export_reply *message, struct reason *why)
{
    struct reading *reading = context;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < message->count && !status; i++)
        if (!message->records[i].hidden)
            status = take_record(reading, &message->records[i], why);
    output_progress_update(&reading->progress, reading->memory->rows.count, 0);
    return status;
}

static int by_id(const void *a, const void *b)
{
    const uint64_t x = ((const struct train_memory_place *)a)->id;
    const uint64_t y = ((const struct train_memory_place *)b)->id;
    return (x > y) - (x < y);
}

// Of ids and embeddings in the order of the ids.
static void make_digest(struct train_memory *memory)
{
    const size_t width = (size_t)2 * memory->dimension;
    uint8_t digest[HASH_SHA256_BYTES];
    struct hash_sha256 state;
    hash_sha256_init(&state);
    for (uint32_t i = 0; i < memory->rows.count; i++) {
        const struct train_memory_place *place = &memory->places[i];
        hash_sha256_update(&state, &place->id, sizeof(place->id));
        hash_sha256_update(&state, memory->rows.halves + place->row * width,
                           width * sizeof(uint16_t));
    }
    hash_sha256_final(&state, digest);
    hash_hex(digest, sizeof(digest), memory->digest);
}

enum status train_memory_read(struct train_memory *memory, struct client *client, const char *out,
                              struct reason *why)
{
    const struct api_export_request request = {
        .memory = text_of(memory->pin),
        .fields = 1u << API_FIELD_IMAGE_EMBEDDING | 1u << API_FIELD_TEXT_EMBEDDING,
    };
    struct reading reading = {.memory = memory};
    enum status status = train_rows_begin(&memory->rows, out, memory->dimension, why);
    if (status)
        return status;
    output_progress_begin(&reading.progress, "records of the memory", memory->records);
    status = memories_export(client, &request, take, &reading, why);
    output_progress_end(&reading.progress);
    if (!status)
        status = train_rows_seal(&memory->rows, why);
    if (!status && !memory->rows.count)
        status = reason_set(why, STATUS_FAILED_PRECONDITION, memory->pin,
                            "all its records are hidden: a head learns from neighbours");
    if (status)
        return status;
    qsort(memory->places, memory->rows.count, sizeof(memory->places[0]), by_id);
    make_digest(memory);
    return STATUS_OK;
}

void train_memory_deinit(struct train_memory *memory)
{
    train_rows_deinit(&memory->rows);
    mem_free(memory->places);
    memory->places = NULL;
}

bool train_memory_find(const struct train_memory *memory, uint64_t id, uint32_t *row)
{
    const struct train_memory_place wanted = {.id = id};
    const struct train_memory_place *found =
        bsearch(&wanted, memory->places, memory->rows.count, sizeof(memory->places[0]), by_id);
    if (found)
        *row = found->row;
    return found != NULL;
}
