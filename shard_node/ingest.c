// SPDX-License-Identifier: Apache-2.0
// Groups of single records, and what they have in common with bulk loads.
//
// An id is a hash of a key, so a second key with the same id is refused, naming both. The key of
// a record that is there stands in column family `key`; the key of one that waits, in its entry.

#include "shard_node/ingest.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/hash.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "shard_node/ingest_internal.h"

#define KEY_ARENA_BYTES 4096u // one key
#define APPLY_BATCH 256

// --- life

struct ingest *ingest_create(const struct ingest_params *params)
{
    struct ingest *ingest = mem_alloc(sizeof(*ingest));
    ingest->store = params->store;
    ingest->shelf = params->shelf;
    ingest->bulk_bytes_max =
        params->bulk_bytes_max ? params->bulk_bytes_max : INGEST_BULK_BYTES_MAX;
    ingest->bulk_records_max =
        params->bulk_records_max ? params->bulk_records_max : INGEST_BULK_RECORDS_MAX;
    ingest->memory_max = params->memory_max;
    ingest->followed = store_sequence(params->store);
    return ingest;
}

void ingest_destroy(struct ingest **ingest_pointer)
{
    struct ingest *ingest = *ingest_pointer;
    if (!ingest)
        return;
    store_batch_cancel(&ingest->batch);
    ingest_clear(ingest, &ingest->group);
    ingest_clear(ingest, &ingest->bulk);
    ingest_free(&ingest->group);
    ingest_free(&ingest->bulk);
    for (size_t b = 0; b < ingest->block_count; b++)
        mem_free(ingest->blocks[b]);
    mem_free(ingest->blocks);
    mem_free(ingest);
    *ingest_pointer = NULL;
}

// --- waiting records

// A new array with the old one's items; the old one is freed.
static void *regrow(void *old, size_t count, size_t room, size_t bytes)
{
    void *grown = mem_try_alloc_array(room, bytes);
    if (!grown)
        return NULL;
    if (count > 0)
        memcpy(grown, old, count * bytes);
    mem_free(old);
    return grown;
}

enum status ingest_reserve(struct ingest_pending *pending, size_t more)
{
    if (pending->count + more > pending->room) {
        const size_t room = (pending->count + more) * 3 / 2 + 64;
        void *entries = regrow(pending->entries, pending->count, room, sizeof(*pending->entries));
        if (!entries)
            return STATUS_NO_MEMORY;
        pending->entries = entries;
        void *names = regrow(pending->names, pending->count, room, sizeof(*pending->names));
        if (!names)
            return STATUS_NO_MEMORY; // room stays as it was; the larger entries do no harm
        pending->names = names;
        pending->room = room;
    }
    if (rows_map_has_room(&pending->map, more))
        return STATUS_OK;
    struct rows_map grown;
    if (rows_map_grow(&pending->map, more, pending->names, &grown) != STATUS_OK)
        return STATUS_NO_MEMORY;
    rows_map_deinit(&pending->map);
    pending->map = grown;
    return STATUS_OK;
}

void ingest_push(struct ingest_pending *pending, const struct ingest_entry *entry)
{
    assert(pending->count < pending->room);

    const size_t index = pending->count++;
    pending->entries[index] = *entry;
    pending->names[index] = (struct rows_slot){.id = entry->record.place.id};
    (void)rows_map_put(&pending->map, (uint32_t)index, pending->names);
}

bool ingest_is_latest(const struct ingest_pending *pending, size_t index)
{
    return rows_map_find(&pending->map, pending->names[index].id, pending->names) == index;
}

void ingest_clear(struct ingest *ingest, struct ingest_pending *pending)
{
    for (size_t i = 0; i < pending->count; i++)
        (void)rows_map_remove(&pending->map, pending->names[i].id, pending->names);
    pending->count = 0;
    shelf_release(ingest->shelf, &pending->generation);
}

void ingest_free(struct ingest_pending *pending)
{
    mem_free(pending->entries);
    mem_free(pending->names);
    rows_map_deinit(&pending->map);
}

// --- results and checks

enum status ingest_results_begin(struct arena *arena, size_t count, struct ingest_results *out)
{
    uint32_t *status = arena_alloc_array(arena, count, sizeof(*status));
    struct text *reasons = arena_alloc_array(arena, count, sizeof(*reasons));
    if (!status || !reasons)
        return STATUS_NO_MEMORY;
    memset(status, 0, count * sizeof(*status));
    memset(reasons, 0, count * sizeof(*reasons));
    *out = (struct ingest_results){
        .arena = arena, .count = count, .status = status, .reasons = reasons};
    return STATUS_OK;
}

void ingest_note(struct ingest_results *results, size_t index, enum status status,
                 const struct reason *why)
{
    const size_t bytes = strlen(why->text);
    const char *copy = arena_copy_text(results->arena, why->text, bytes);
    results->status[index] = (uint32_t)status;
    results->reasons[index] =
        copy ? (struct text){copy, bytes} : text_of("no memory is left for the reason");
    results->refused++;
}

void ingest_results_end(const struct ingest_results *results, struct shard_write_reply *reply)
{
    if (results->refused == 0)
        return;
    reply->count = results->count;
    reply->status = results->status;
    reply->reasons = results->reasons;
}

enum status ingest_check_request(const struct shelf_generation *generation,
                                 const struct shard_write_request *request, struct reason *why)
{
    if (request->dimension != generation->about.dimension)
        return reason_set(why, STATUS_INVALID, "dimension",
                          "%" PRIu32 "; generation %" PRIu32 " has %" PRIu32, request->dimension,
                          request->generation, generation->about.dimension);
    return STATUS_OK;
}

static enum status collision(struct store_place place, struct text ours, struct text theirs,
                             struct reason *why)
{
    // Shortened, so that both have room in the reason.
    const int most = 160;
    return reason_set(why, STATUS_ALREADY_EXISTS, "keys",
                      "key '%.*s' has the id %016" PRIx64 " of another key, '%.*s': one of the two "
                      "needs another name",
                      ours.bytes < (size_t)most ? (int)ours.bytes : most, ours.data, place.id,
                      theirs.bytes < (size_t)most ? (int)theirs.bytes : most, theirs.data);
}

// Whether the record's id is taken, and by the same key.
static enum status check_key(struct ingest *ingest, const struct ingest_pending *pending,
                             struct ingest_entry *new, struct reason *why)
{
    const struct store_record *record = &new->record;
    const uint32_t waiting = rows_map_find(&pending->map, record->place.id, pending->names);
    if (waiting != ROWS_MAP_NONE) {
        const struct ingest_entry *entry = &pending->entries[waiting];
        new->replaces = entry->kind != INGEST_DELETE;
        new->hidden = new->record.hidden || entry->hidden;
        if (entry->kind == INGEST_PUT && !text_equal(entry->record.key, record->key))
            return collision(record->place, record->key, entry->record.key, why);
        if (entry->kind == INGEST_PUT) // of the two only the later may be written
            new->record.hidden = new->record.hidden || entry->record.hidden;
        if (entry->kind != INGEST_MARK)
            return STATUS_OK;
    } else {
        new->replaces = rows_find(pending->generation->rows, record->place.id) != ROWS_NONE;
        new->hidden =
            new->record.hidden || rows_is_hidden(pending->generation->rows, record->place.id);
    }
    if (!new->replaces)
        return STATUS_OK;

    struct arena *arena = arena_create(KEY_ARENA_BYTES);
    struct text key = {0};
    struct reason ignored; // a key that cannot be read is logged; writing the record mends it
    enum status status = store_read_key(ingest->store, record->place, arena, &key, &ignored);
    if (status == STATUS_OK && !text_equal(key, record->key))
        status = collision(record->place, record->key, key, why);
    else
        status = STATUS_OK;
    arena_destroy(&arena);
    return status;
}

enum status ingest_check(struct ingest *ingest, const struct ingest_pending *pending,
                         const struct shard_write_request *request, size_t index,
                         struct ingest_entry *entry, struct reason *why)
{
    const struct shelf_generation *generation = pending->generation;
    const struct text key = request->keys[index];
    if (key.bytes < 1 || key.bytes > KEY_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, "keys", "%zu bytes; 1 to %d are allowed", key.bytes,
                          KEY_BYTES_MAX);

    const uint64_t id = hash_id(key.data, key.bytes);
    const uint32_t vshard = (uint32_t)(id % generation->about.vshards);
    if (!shelf_owns(generation, vshard))
        return reason_set(why, STATUS_INVALID, "keys",
                          "id %016" PRIx64 " belongs to vshard %" PRIu32
                          ", which is not on this node",
                          id, vshard);

    const size_t dimension = request->dimension;
    entry->kind = INGEST_PUT;
    entry->record = (struct store_record){
        .place = {request->generation, (uint16_t)vshard, id},
        .dimension = dimension,
        .image = request->rows + index * 2 * dimension,
        .text = request->rows + (index * 2 + 1) * dimension,
        .key = key,
        .caption = request->captions[index],
        .source = request->sources[index],
        .tags = request->tags[index],
        .hidden = request->hidden && request->hidden[index] != 0,
    };
    return check_key(ingest, pending, entry, why);
}

// --- groups

enum status ingest_begin(struct ingest *ingest, uint32_t generation, struct reason *why)
{
    assert(!ingest->group.generation && !ingest->batch);

    if (ingest->bulk.count > 0 && ingest->bulk.generation->about.number == generation) {
        const enum status status = ingest_bulk_flush(ingest, why);
        if (status != STATUS_OK)
            return status;
    }
    ingest->group.generation = shelf_acquire(ingest->shelf, generation);
    if (!ingest->group.generation)
        return reason_set(why, STATUS_NOT_FOUND, "generation",
                          "generation %" PRIu32 " is not on this node", generation);
    ingest->batch = store_batch_begin(ingest->store);
    return STATUS_OK;
}

size_t ingest_group_count(const struct ingest *ingest)
{
    return ingest->group.count;
}

static void add_write(struct ingest *ingest, const struct shard_write_request *request,
                      size_t index, struct ingest_results *results, struct shard_write_reply *reply)
{
    struct reason reason = {0};
    struct ingest_entry entry = {0};
    const enum status status =
        ingest_check(ingest, &ingest->group, request, index, &entry, &reason);
    if (status != STATUS_OK) {
        ingest_note(results, index, status, &reason);
        return;
    }
    entry.record.rows_crc =
        store_rows_crc(entry.record.image, entry.record.text, entry.record.dimension);
    ingest_push(&ingest->group, &entry);
    store_batch_put(ingest->batch, &entry.record);
    reply->stored++;
    reply->duplicates += entry.replaces;
}

enum status ingest_write(struct ingest *ingest, const struct shard_write_request *request,
                         struct arena *arena, struct shard_write_reply *reply, struct reason *why)
{
    assert(ingest->batch);

    enum status status = ingest_check_request(ingest->group.generation, request, why);
    if (status == STATUS_OK)
        status = ingest_may_grow(ingest, ingest_request_bytes(request), why);
    if (status != STATUS_OK)
        return status;

    struct ingest_results results = {0};
    if (ingest_results_begin(arena, request->count, &results) != STATUS_OK ||
        ingest_reserve(&ingest->group, request->count) != STATUS_OK)
        return reason_set(why, STATUS_NO_MEMORY, "", "no memory for %zu records", request->count);

    *reply = (struct shard_write_reply){0};
    for (size_t i = 0; i < request->count; i++)
        add_write(ingest, request, i, &results, reply);
    ingest_results_end(&results, reply);
    return STATUS_OK;
}

// Room for a flag and a place in the group for each id of a deletion or a takedown, which need next
// to no room of the disk.
static enum status begin_flags(struct ingest *ingest, size_t count, struct arena *arena,
                               uint32_t **flags, struct reason *why)
{
    assert(ingest->batch);

    const enum status status = store_may_write(ingest->store, true, why);
    if (status != STATUS_OK)
        return status;
    *flags = arena_alloc_array(arena, count, sizeof(**flags));
    if (!*flags || ingest_reserve(&ingest->group, count) != STATUS_OK)
        return reason_set(why, STATUS_NO_MEMORY, "ids", "no memory for %zu ids", count);
    return STATUS_OK;
}

enum status ingest_delete(struct ingest *ingest, const struct shard_ids_request *request,
                          struct arena *arena, struct shard_flags_reply *reply, struct reason *why)
{
    uint32_t *flags = NULL;
    const enum status status = begin_flags(ingest, request->count, arena, &flags, why);
    if (status != STATUS_OK)
        return status;

    struct ingest_pending *group = &ingest->group;
    const struct shelf_generation *generation = group->generation;
    for (size_t i = 0; i < request->count; i++) {
        const uint64_t id = request->ids[i];
        const uint32_t waiting = rows_map_find(&group->map, id, group->names);
        const bool present = waiting != ROWS_MAP_NONE
                                 ? group->entries[waiting].kind != INGEST_DELETE
                                 : rows_find(generation->rows, id) != ROWS_NONE;
        flags[i] = present ? 1 : 0;
        if (!present)
            continue;
        const struct ingest_entry entry = {
            .record.place = {generation->about.number, (uint16_t)(id % generation->about.vshards),
                             id}};
        ingest_push(group, &entry);
        store_batch_delete(ingest->batch, entry.record.place);
    }
    *reply = (struct shard_flags_reply){flags, request->count};
    return STATUS_OK;
}

// What a group's commit will have made of a record.
static bool is_there(const struct ingest_pending *group, uint64_t id, uint32_t waiting,
                     bool *hidden)
{
    struct rows *rows = group->generation->rows;
    if (waiting == ROWS_MAP_NONE) {
        *hidden = rows_is_hidden(rows, id);
        return rows_find(rows, id) != ROWS_NONE;
    }
    *hidden = group->entries[waiting].hidden;
    return group->entries[waiting].kind != INGEST_DELETE;
}

enum status ingest_hide(struct ingest *ingest, const struct shard_ids_request *request, bool hidden,
                        struct arena *arena, struct shard_flags_reply *reply, struct reason *why)
{
    uint32_t *flags = NULL;
    const enum status status = begin_flags(ingest, request->count, arena, &flags, why);
    if (status != STATUS_OK)
        return status;

    struct ingest_pending *group = &ingest->group;
    const struct store_generation *about = &group->generation->about;
    for (size_t i = 0; i < request->count; i++) {
        const uint64_t id = request->ids[i];
        const uint32_t waiting = rows_map_find(&group->map, id, group->names);
        bool was_hidden = false;
        const bool there = is_there(group, id, waiting, &was_hidden);
        flags[i] = !there ? 0 : was_hidden == hidden ? SHARD_FLAG_ALREADY : 1;
        if (flags[i] != 1)
            continue;
        const struct ingest_entry entry = {
            .record.place = {about->number, (uint16_t)(id % about->vshards), id},
            .kind = INGEST_MARK,
            .hidden = hidden};
        if (waiting == ROWS_MAP_NONE)
            ingest_push(group, &entry);
        else // the record itself still waits to be written
            group->entries[waiting].hidden = hidden;
        store_batch_hide(ingest->batch, entry.record.place, hidden);
    }
    *reply = (struct shard_flags_reply){flags, request->count};
    return STATUS_OK;
}

static enum status append(struct ingest *ingest, const struct ingest_pending *pending,
                          const struct rows_item *items, const struct text *tags, size_t count,
                          struct reason *why)
{
    const enum status status = shelf_append(pending->generation, items, tags, count, why);
    if (status != STATUS_OK)
        ingest_fell_behind(ingest, pending->generation, why->text);
    return status;
}

// Shows durable entries to searches. After a failure the node is read-only.
static enum status apply(struct ingest *ingest, const struct ingest_pending *pending,
                         struct reason *why)
{
    struct rows_item items[APPLY_BATCH];
    struct text tags[APPLY_BATCH];
    size_t count = 0;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < pending->count && status == STATUS_OK; i++) {
        const struct store_record *record = &pending->entries[i].record;
        if (!ingest_is_latest(pending, i))
            continue;
        if (pending->entries[i].kind == INGEST_DELETE)
            (void)rows_remove(pending->generation->rows, record->place.id);
        if (pending->entries[i].kind != INGEST_PUT)
            continue;
        tags[count] = record->tags;
        items[count++] = (struct rows_item){.id = record->place.id,
                                            .image = record->image,
                                            .text = record->text,
                                            .crc = record->rows_crc,
                                            .hidden = pending->entries[i].hidden};
        if (count == APPLY_BATCH) {
            status = append(ingest, pending, items, tags, count, why);
            count = 0;
        }
    }
    if (status == STATUS_OK)
        status = append(ingest, pending, items, tags, count, why);
    for (size_t i = 0; i < pending->count && status == STATUS_OK; i++)
        if (ingest_is_latest(pending, i) && pending->entries[i].kind != INGEST_DELETE)
            (void)rows_hide(pending->generation->rows, pending->entries[i].record.place.id,
                            pending->entries[i].hidden);
    pending->generation->changes += pending->count;
    return status;
}

enum status ingest_commit(struct ingest *ingest, struct reason *why)
{
    assert(ingest->batch);

    struct reason own = {0};
    struct reason *reason = why ? why : &own;
    enum status status = store_batch_commit(&ingest->batch, reason);
    if (status == STATUS_OK)
        status = apply(ingest, &ingest->group, reason);
    if (status == STATUS_OK &&
        shelf_checkpoint(ingest->shelf, ingest->group.generation, false, &own) != STATUS_OK)
        store_set_read_only(ingest->store, own.text); // what was asked for is done all the same
    if (status == STATUS_OK)
        ingest_has_followed(ingest);
    ingest_clear(ingest, &ingest->group);
    return status;
}

// --- limits

size_t ingest_request_bytes(const struct shard_write_request *request)
{
    size_t sum = request->count * 2 * request->dimension * sizeof(uint16_t);
    for (size_t i = 0; i < request->count; i++)
        sum += request->keys[i].bytes + request->captions[i].bytes + request->sources[i].bytes +
               request->tags[i].bytes;
    return sum;
}

enum status ingest_may_grow(struct ingest *ingest, size_t bytes, struct reason *why)
{
    // What waits in the buffer is written twice as well: into the store and into the rows.
    const uint64_t waiting = ingest->bulk_bytes + bytes;
    const enum status status = store_may_grow(ingest->store, 2 * waiting, why);
    if (status != STATUS_OK || ingest->memory_max == 0)
        return status;
    const uint64_t used =
        shelf_memory(ingest->shelf) + store_memory(ingest->store) + ingest->bulk_bytes;
    // Bytes of the buffer are there twice for a moment: as buffer and as rows.
    if (used + waiting <= ingest->memory_max)
        return STATUS_OK;
    return reason_set(why, STATUS_EXHAUSTED, "memory",
                      "the node uses %" PRIu64 " MiB for rows, buffers and caches, and this needs "
                      "%" PRIu64 " MiB more; %" PRIu64 " MiB are allowed: it stores nothing new, "
                      "but deletes, until records are dropped or the limit is raised",
                      used >> 20, (waiting >> 20) + 1, ingest->memory_max >> 20);
}

void ingest_fell_behind(struct ingest *ingest, const struct shelf_generation *generation,
                        const char *reason)
{
    if (rows_lacks_space(generation->rows))
        store_set_out_of_space(ingest->store, reason);
    else
        store_set_read_only(ingest->store, reason);
}

void ingest_has_followed(struct ingest *ingest)
{
    if (!store_is_out_of_space(ingest->store) && !store_is_read_only(ingest->store))
        ingest->followed = store_sequence(ingest->store);
}

enum status ingest_recover(struct ingest *ingest, struct reason *why)
{
    assert(!ingest->batch);

    struct reason own = {0};
    struct reason *reason = why ? why : &own;
    enum status status = store_reopen(ingest->store, reason);
    if (status != STATUS_OK)
        return status;
    status = shelf_follow(ingest->shelf, ingest->followed, reason);
    if (status == STATUS_EXHAUSTED)
        store_set_out_of_space(ingest->store, reason->text);
    else if (status != STATUS_OK)
        store_set_read_only(ingest->store, reason->text);
    else
        ingest_has_followed(ingest);
    return status;
}

// --- generations

static int compare_vshards(const void *a, const void *b)
{
    const uint16_t x = *(const uint16_t *)a;
    const uint16_t y = *(const uint16_t *)b;
    return x < y ? -1 : x > y;
}

static bool same_shape(const struct store_generation *a, const struct store_generation *b)
{
    return a->dimension == b->dimension && a->vshards == b->vshards &&
           a->own_count == b->own_count &&
           memcmp(a->own, b->own, a->own_count * sizeof(a->own[0])) == 0;
}

static enum status check_generation(struct ingest *ingest, const struct store_generation *about,
                                    bool *exists, struct reason *why)
{
    *exists = false;
    if (about->number < 1 || about->number == UINT32_MAX)
        return reason_set(why, STATUS_INVALID, "generation",
                          "%" PRIu32 "; 1 to %" PRIu32 " are allowed", about->number,
                          UINT32_MAX - 1);
    if (shelf_was_dropped(ingest->shelf, about->number))
        return reason_set(why, STATUS_FAILED_PRECONDITION, "generation",
                          "generation %" PRIu32 " was dropped; its number is never used again",
                          about->number);
    struct shelf_generation *there = shelf_acquire(ingest->shelf, about->number);
    if (!there)
        return STATUS_OK;
    *exists = true;
    enum status status = STATUS_OK;
    if (!same_shape(&there->about, about))
        status =
            reason_set(why, STATUS_ALREADY_EXISTS, "generation",
                       "generation %" PRIu32 " is there with dimension %" PRIu32 ", %" PRIu32
                       " vshards, %" PRIu32 " of them here; asked for are %" PRIu32 ", %" PRIu32
                       " and %" PRIu32,
                       about->number, there->about.dimension, there->about.vshards,
                       there->about.own_count, about->dimension, about->vshards, about->own_count);
    shelf_release(ingest->shelf, &there);
    return status;
}

enum status ingest_create_generation(struct ingest *ingest,
                                     const struct shard_create_request *request, struct reason *why)
{
    struct store_generation *about = mem_alloc(sizeof(*about));
    about->number = request->generation;
    about->dimension = request->dimension;
    about->vshards = request->vshards;
    about->own_count = (uint32_t)request->own_count;
    for (size_t i = 0; i < request->own_count; i++)
        about->own[i] = (uint16_t)request->own[i];
    qsort(about->own, about->own_count, sizeof(about->own[0]), compare_vshards);

    bool exists = false;
    enum status status = check_generation(ingest, about, &exists, why);
    if (status == STATUS_OK && !exists) {
        status = store_may_write(ingest->store, false, why);
        if (status == STATUS_OK)
            status = shelf_add(ingest->shelf, about, why);
        if (status == STATUS_OK) {
            status = store_create_generation(ingest->store, about, why);
            if (status != STATUS_OK)
                (void)shelf_remove(ingest->shelf, about->number, false);
        }
        if (status == STATUS_OK)
            log_info("generation_created",
                     "generation=%" PRIu32 " dimension=%" PRIu32 " vshards=%" PRIu32
                     " own=%" PRIu32,
                     about->number, about->dimension, about->vshards, about->own_count);
    }
    mem_free(about);
    return status;
}

enum status ingest_drop_generation(struct ingest *ingest, uint32_t number, uint64_t *records,
                                   struct reason *why)
{
    *records = 0;
    if (shelf_was_dropped(ingest->shelf, number))
        return STATUS_OK;
    struct shelf_generation *there = shelf_acquire(ingest->shelf, number);
    if (!there)
        return reason_set(why, STATUS_NOT_FOUND, "generation",
                          "generation %" PRIu32 " is not on this node", number);
    shelf_release(ingest->shelf, &there);

    enum status status = store_may_write(ingest->store, true, why);
    if (status == STATUS_OK)
        status = store_drop_generation(ingest->store, number, why);
    if (status != STATUS_OK)
        return status;
    if (ingest->bulk.generation && ingest->bulk.generation->about.number == number)
        ingest_bulk_forget(ingest);
    *records = shelf_remove(ingest->shelf, number, true);
    log_info("generation_dropped", "generation=%" PRIu32 " records=%" PRIu64, number, *records);
    return STATUS_OK;
}
