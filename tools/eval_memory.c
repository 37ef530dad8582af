// SPDX-License-Identifier: Apache-2.0
// Who is exchanged and who is left follows from an order by lot, made anew from the seed: the first
// ones of it.

#include "tools/eval_memory.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/cpu.h"
#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "proto/base/parallel.h"
#include "shard_node/distance.h"
#include "shard_node/index/seed.h"
#include "shard_node/scan.h"

#define SCAN_QUERIES 32u // of one piece of a search

// --- reading

static enum status make_room(struct eval_memory *memory, uint64_t count, uint32_t dimension)
{
    if (count > UINT32_MAX - 64)
        return STATUS_NO_MEMORY;
    size_t numbers = 0;
    if (!mem_multiply((size_t)count, dimension, &numbers))
        return STATUS_NO_MEMORY;
    memory->dimension = dimension;
    memory->room = (uint32_t)count;
    for (int side = 0; side < 2; side++)
        memory->rows[side] = mem_try_alloc_array(numbers + 1, sizeof(uint16_t));
    memory->slots = mem_try_alloc_array((size_t)count + 1, sizeof(memory->slots[0]));
    memory->live = mem_try_alloc_array((size_t)count / 64 + 1, sizeof(memory->live[0]));
    return memory->rows[0] && memory->rows[1] && memory->slots && memory->live ? STATUS_OK
                                                                               : STATUS_NO_MEMORY;
}

static enum status take_record(struct eval_memory *memory, const struct api_record *record,
                               struct reason *why)
{
    if (record->image_count != memory->dimension || record->text_count != memory->dimension)
        return reason_set(why, STATUS_CORRUPT, NULL,
                          "an exported record has %zu and %zu numbers instead of %u",
                          record->image_count, record->text_count, memory->dimension);
    if (memory->count == memory->room)
        return reason_set(why, STATUS_CORRUPT, NULL, "more than the %u records that were announced",
                          memory->room);
    const size_t at = (size_t)memory->count * memory->dimension;
    uint16_t *image = memory->rows[MODALITY_IMAGE] + at;
    uint16_t *text = memory->rows[MODALITY_TEXT] + at;
    half_from_floats(record->image_embedding, image, memory->dimension);
    half_from_floats(record->text_embedding, text, memory->dimension);
    memory->slots[memory->count++] = (struct rows_slot){
        .id = record->id,
        .pair_score = distance_pair(cpu_best(), image, text, memory->dimension),
    };
    return STATUS_OK;
}

struct reading {
    struct eval_memory *memory;
    bool began;
};

static enum status take(void *context, const struct api_export_reply *message, struct reason *why)
{
    struct reading *reading = context;
    struct eval_memory *memory = reading->memory;
    if (!reading->began) {
        reading->began = true;
        const struct api_memory_info info = {.name = message->memory,
                                             .generation = message->generation};
        memories_pin(&info, memory->name);
        (void)snprintf(memory->space, sizeof(memory->space), "%.*s", (int)message->space.bytes,
                       message->space.data);
        if (make_room(memory, message->total, message->dimension))
            return reason_set(why, STATUS_NO_MEMORY, NULL,
                              "no memory for %llu records of %u numbers",
                              (unsigned long long)message->total, message->dimension);
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; i < message->count && !status; i++)
        if (!message->records[i].hidden)
            status = take_record(memory, &message->records[i], why);
    return status;
}

enum status eval_memory_read(struct client *client, const char *name, struct eval_memory *out,
                             struct reason *why)
{
    assert(client && name && out);

    struct eval_memory memory = {.count = 0};
    struct reading reading = {.memory = &memory};
    const struct api_export_request request = {
        .memory = text_of(name),
        .fields = 1u << API_FIELD_IMAGE_EMBEDDING | 1u << API_FIELD_TEXT_EMBEDDING,
    };
    enum status status = memories_export(client, &request, take, &reading, why);
    if (!status && memory.count == 0)
        status = reason_set(why, STATUS_NOT_FOUND, "--memory",
                            "%s has no record that is shown: there is nothing to search",
                            memory.name[0] ? memory.name : name);
    if (!status && eval_memory_choose(&memory, memory.count, 0))
        status = reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for %u records", memory.count);
    if (status)
        eval_memory_deinit(&memory);
    else
        *out = memory;
    return status;
}

enum status eval_memory_of_rows(const uint16_t *images, const uint16_t *texts, uint32_t count,
                                uint32_t dimension, struct eval_memory *out)
{
    assert(images && texts && out);

    struct eval_memory memory = {.count = 0};
    enum status status = make_room(&memory, count, dimension);
    if (status) {
        eval_memory_deinit(&memory);
        return status;
    }
    const size_t bytes = (size_t)count * dimension * sizeof(uint16_t);
    memcpy(memory.rows[MODALITY_IMAGE], images, bytes);
    memcpy(memory.rows[MODALITY_TEXT], texts, bytes);
    for (uint32_t i = 0; i < count; i++)
        memory.slots[i] = (struct rows_slot){
            .id = i,
            .pair_score = distance_pair(cpu_best(), images + (size_t)i * dimension,
                                        texts + (size_t)i * dimension, dimension),
        };
    memory.count = count;
    status = eval_memory_choose(&memory, count, 0);
    if (status)
        eval_memory_deinit(&memory);
    else
        *out = memory;
    return status;
}

void eval_memory_deinit(struct eval_memory *memory)
{
    for (int side = 0; side < 2; side++)
        mem_free(memory->rows[side]);
    mem_free(memory->slots);
    mem_free(memory->live);
    mem_free(memory->texts_kept);
    mem_free(memory->labels);
    *memory = (struct eval_memory){.count = 0};
}

// --- memories that are not quite this one

// 0 .. count - 1 in an order by lot. NULL when out of memory.
static uint32_t *make_order(uint32_t count, uint64_t seed)
{
    uint32_t *order = mem_try_alloc_array((size_t)count + 1, sizeof(*order));
    for (uint32_t i = 0; order && i < count; i++) {
        const uint32_t other = (uint32_t)seed_below(&seed, (uint64_t)i + 1);
        order[i] = order[other];
        order[other] = i;
    }
    return order;
}

static void set_pair_scores(struct eval_memory *memory)
{
    for (uint32_t i = 0; i < memory->count; i++) {
        const size_t at = (size_t)i * memory->dimension;
        memory->slots[i].pair_score =
            distance_pair(cpu_best(), memory->rows[MODALITY_IMAGE] + at,
                          memory->rows[MODALITY_TEXT] + at, memory->dimension);
    }
}

enum status eval_memory_exchange(struct eval_memory *memory, uint32_t exchanged, uint64_t seed)
{
    assert(memory && exchanged <= memory->count);

    const size_t row_bytes = memory->dimension * sizeof(uint16_t);
    uint16_t *texts = memory->rows[MODALITY_TEXT];
    if (memory->texts_kept)
        memcpy(texts, memory->texts_kept, memory->count * row_bytes);
    else
        memory->texts_kept = mem_try_alloc_array(memory->count, row_bytes);
    uint32_t *order = make_order(memory->count, seed);
    if (!memory->texts_kept || !order) {
        mem_free(order);
        return STATUS_NO_MEMORY;
    }
    memcpy(memory->texts_kept, texts, memory->count * row_bytes);
    // A ring through them in an order by lot: each gets the text of the next.
    for (uint32_t i = 0; i < exchanged; i++)
        memcpy(texts + (size_t)order[i] * memory->dimension,
               memory->texts_kept + (size_t)order[(i + 1) % exchanged] * memory->dimension,
               row_bytes);
    mem_free(order);
    set_pair_scores(memory);
    return STATUS_OK;
}

enum status eval_memory_choose(struct eval_memory *memory, uint32_t count, uint64_t seed)
{
    assert(memory && count <= memory->count);

    uint32_t *order = make_order(memory->count, seed);
    if (!order)
        return STATUS_NO_MEMORY;
    memset(memory->live, 0, ((size_t)memory->room / 64 + 1) * sizeof(memory->live[0]));
    for (uint32_t i = 0; i < count; i++)
        memory->live[order[i] / 64] |= UINT64_C(1) << (order[i] % 64);
    memory->live_count = count;
    mem_free(order);
    return STATUS_OK;
}

enum status eval_memory_choose_shots(struct eval_memory *memory, uint32_t label_count,
                                     uint32_t shots, uint64_t seed)
{
    assert(memory && memory->labels);

    uint32_t *order = make_order(memory->count, seed);
    uint32_t *taken = mem_alloc_array(label_count, sizeof(*taken));
    const bool fits = order != NULL;
    if (fits) {
        memset(memory->live, 0, ((size_t)memory->room / 64 + 1) * sizeof(memory->live[0]));
        memory->live_count = 0;
    }
    for (uint32_t i = 0; i < memory->count && fits; i++) {
        const uint32_t slot = order[i];
        if (taken[memory->labels[slot]]++ >= shots)
            continue;
        memory->live[slot / 64] |= UINT64_C(1) << (slot % 64);
        memory->live_count++;
    }
    mem_free(order);
    mem_free(taken);
    return fits ? STATUS_OK : STATUS_NO_MEMORY;
}

// --- searching

struct searching {
    const struct eval_search *search;
    struct rows_view view;
    struct eval_hit *hits;
    uint32_t *found;
    struct scan_lists *lists[PARALLEL_THREADS_MAX];
};

static void search_piece(void *context, uint32_t worker, size_t piece)
{
    struct searching *searching = context;
    const struct eval_search *search = searching->search;
    const size_t first = piece * SCAN_QUERIES;
    const size_t left = search->count - first;
    const struct scan_request request = {
        .view = &searching->view,
        .modality = search->over,
        .queries = search->queries + first * search->memory->dimension,
        .query_count = left < SCAN_QUERIES ? left : SCAN_QUERIES,
        .k = search->width,
    };
    struct scan_lists *lists = searching->lists[worker];
    scan_lists_begin(lists, request.query_count, request.k);
    for (size_t block = 0; block < scan_block_count(&request); block++)
        scan_block(cpu_best(), &request, block, lists);
    scan_lists_sort(lists);
    for (size_t i = 0; i < request.query_count; i++) {
        const struct scan_hit *list = NULL;
        const size_t count = scan_lists_get(lists, i, &list);
        struct eval_hit *hits = searching->hits + (first + i) * search->width;
        for (size_t j = 0; j < count; j++)
            hits[j] = (struct eval_hit){list[j].slot, list[j].neighbour.score};
        searching->found[first + i] = (uint32_t)count;
    }
}

enum status eval_memory_search(const struct eval_search *search, struct eval_hit *hits,
                               uint32_t *found, struct reason *why)
{
    assert(search && hits && found);
    assert(search->width >= 1 && search->width <= K_WIRE_MAX);
    assert(search->threads >= 1 && search->threads <= PARALLEL_THREADS_MAX);

    const struct eval_memory *memory = search->memory;
    struct searching *searching = mem_alloc(sizeof(*searching));
    searching->search = search;
    searching->hits = hits;
    searching->found = found;
    searching->view = (struct rows_view){
        .dimension = memory->dimension,
        .slot_count = memory->count,
        .live_count = memory->live_count,
        .live = memory->live,
        .rows = {memory->rows[0], memory->rows[1]},
        .slots = memory->slots,
    };
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < search->threads && !status; i++) {
        searching->lists[i] = scan_lists_create(SCAN_QUERIES, search->width);
        if (!searching->lists[i])
            status = reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for an exact search");
    }
    if (!status)
        parallel_run(search->threads, (search->count + SCAN_QUERIES - 1) / SCAN_QUERIES,
                     search_piece, searching);
    for (uint32_t i = 0; i < search->threads; i++)
        scan_lists_destroy(&searching->lists[i]);
    mem_free(searching);
    return status;
}
