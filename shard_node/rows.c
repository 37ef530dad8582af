// SPDX-License-Identifier: Apache-2.0
// Slots, live bits, and the order in which things become visible.
//
// Appending writes image rows, text rows and slots behind the last slot, where nobody looks, and
// only then, under the lock, raises the count, sets the live bits, clears those of the slots that
// are replaced, and points the map at the new ones. A view copies count and live bits under the
// same lock: 1 bit for each row it is about to scan, so the copy costs nothing beside the scan.
//
// Room for the map and the bits is made before the lock is taken: the writer is the only one that
// changes them, so it may copy them while others read.

#include "shard_node/rows.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "proto/base/cpu.h"
#include "proto/base/hash.h"
#include "proto/base/limits.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "shard_node/disk_error.h"
#include "shard_node/distance.h"
#include "shard_node/rows_internal.h"

#define CHUNK 256       // records written by one pwritev and published under one lock
#define DAMAGED_SHARE 8 // more than one row in eight damaged: nothing there is worth keeping

// --- opening

static struct rows *new_rows(const struct rows_params *params, struct reason *why)
{
    assert(params->dimension >= 1 && params->dimension <= DIMENSION_MAX);

    struct rows *rows = mem_alloc(sizeof(*rows));
    const int used = snprintf(rows->directory, sizeof(rows->directory), "%s", params->directory);
    if (used < 1 || used >= ROWS_PATH_BYTES) {
        reason_set(why, STATUS_INVALID, "directory", "the path has %d bytes; at most %d", used,
                   ROWS_PATH_BYTES - 1);
        mem_free(rows);
        return NULL;
    }
    rows->generation = params->generation;
    rows->dimension = params->dimension;
    rows->store_identity = params->store_identity;
    const uint64_t slots = ROWS_FILE_BYTES_MAX / (params->dimension * sizeof(uint16_t));
    rows->slots_max = slots < ROWS_NONE ? (uint32_t)slots : ROWS_NONE - 1;
    for (int f = 0; f < ROWS_FILES; f++)
        rows->file[f].fd = -1;
    pthread_mutex_init(&rows->lock, NULL);
    return rows;
}

static enum status open_files(struct rows *rows, bool create, struct reason *why)
{
    enum status status = STATUS_OK;
    for (int f = 0; f < ROWS_FILES && status == STATUS_OK; f++)
        status = rows_file_open(rows, (enum rows_file_kind)f, create, why);
    return status;
}

static const struct rows_slot *slots_of(const struct rows *rows)
{
    return rows->file[ROWS_SLOTS].map;
}

const uint16_t *rows_row(const struct rows *rows, enum modality modality, uint32_t slot)
{
    return (const uint16_t *)rows->file[modality].map + (size_t)slot * rows->dimension;
}

const struct rows_slot *rows_slot(const struct rows *rows, uint32_t slot)
{
    return slots_of(rows) + slot;
}

static bool bit_is_set(const uint64_t *bits, uint32_t at)
{
    return (bits[at / 64] >> (at % 64) & 1) != 0;
}

static void set_bit(uint64_t *bits, uint32_t at)
{
    bits[at / 64] |= 1ull << (at % 64);
}

static void clear_bit(uint64_t *bits, uint32_t at)
{
    bits[at / 64] &= ~(1ull << (at % 64));
}

static bool row_is_sound(const struct rows *rows, uint32_t slot)
{
    const size_t bytes = (size_t)rows->dimension * sizeof(uint16_t);
    const uint32_t first = hash_crc32c(0, rows_row(rows, MODALITY_IMAGE, slot), bytes);
    return hash_crc32c(first, rows_row(rows, MODALITY_TEXT, slot), bytes) ==
           slots_of(rows)[slot].crc;
}

static void note_damaged(struct rows *rows, uint32_t slot, struct rows_opened *opened)
{
    const uint64_t id = slots_of(rows)[slot].id;
    log_warn("row_damaged", "generation=%" PRIu32 " slot=%" PRIu32 " id=%016" PRIx64,
             rows->generation, slot, id);
    clear_bit(rows->live, slot);
    opened->damaged = mem_grow(opened->damaged, opened->damaged_count + 1, sizeof(id));
    opened->damaged[opened->damaged_count++] = id;
}

// Checks every live row, which also brings it into memory, and enters it into the map.
static enum status check_rows(struct rows *rows, struct rows_opened *opened, struct reason *why)
{
    for (int f = 0; f < ROWS_SLOTS; f++) {
        if (rows->slot_count > 0)
            (void)madvise(rows->file[f].map, rows->slot_count * rows->file[f].item_bytes,
                          MADV_WILLNEED); // a hint
    }
    for (uint32_t slot = 0; slot < rows->slot_count; slot++) {
        if (!bit_is_set(rows->live, slot))
            continue;
        if (!row_is_sound(rows, slot)) {
            note_damaged(rows, slot, opened);
            if (opened->damaged_count > rows->slot_count / DAMAGED_SHARE)
                return reason_set(why, STATUS_CORRUPT, "rows", "%s: %zu rows fail their checksum",
                                  rows->directory, opened->damaged_count);
            continue;
        }
        if (rows_map_put(&rows->map, slot, slots_of(rows)) != ROWS_NONE)
            return reason_set(why, STATUS_CORRUPT, "rows", "%s: id %016" PRIx64 " is live twice",
                              rows->directory, slots_of(rows)[slot].id);
        rows->live_count++;
    }
    return STATUS_OK;
}

static enum status take_over(struct rows *rows, struct rows_opened *opened, struct reason *why)
{
    struct rows_head head;
    enum status status = rows_head_read(rows, &head, why);
    if (status != STATUS_OK)
        return status;

    rows->live = head.live; // one word more than needed, so never of no length
    rows->live_words = rows_words_of(head.count) + 1;
    rows->live[rows->live_words - 1] = 0;
    rows->hidden = mem_try_alloc_array(rows->live_words, sizeof(*rows->hidden));
    if (!rows->hidden)
        return reason_set(why, STATUS_NO_MEMORY, "rows", "no memory for %zu words of bits",
                          rows->live_words);
    memset(rows->hidden, 0, rows->live_words * sizeof(*rows->hidden));
    opened->sequence = head.sequence;
    status = open_files(rows, false, why);
    for (int f = 0; f < ROWS_FILES && status == STATUS_OK; f++)
        status = rows_file_check(rows, (enum rows_file_kind)f, head.count, why);
    if (status != STATUS_OK)
        return status == STATUS_NOT_FOUND ? STATUS_CORRUPT : status; // a head without its files

    rows->slot_count = (uint32_t)head.count;
    rows->slots_crc = head.slots_crc;
    if (hash_crc32c(0, slots_of(rows), head.count * sizeof(struct rows_slot)) != head.slots_crc)
        return reason_set(why, STATUS_CORRUPT, "rows", "%s/slots fails its checksum",
                          rows->directory);
    struct rows_map map;
    status = rows_map_grow(&rows->map, rows->slot_count, slots_of(rows), &map);
    if (status != STATUS_OK)
        return reason_set(why, status, "rows", "no memory for a map of %" PRIu32 " slots",
                          rows->slot_count);
    rows->map = map;
    return check_rows(rows, opened, why);
}

enum status rows_open(const struct rows_params *params, struct rows **out,
                      struct rows_opened *opened, struct reason *why)
{
    struct rows *rows = new_rows(params, why);
    if (!rows)
        return STATUS_INVALID;

    struct rows_opened found = {0};
    const enum status status = take_over(rows, &found, why);
    if (status != STATUS_OK) {
        mem_free(found.damaged);
        rows_close(&rows);
        return status;
    }
    *opened = found;
    *out = rows;
    return STATUS_OK;
}

enum status rows_create(const struct rows_params *params, struct rows **out, struct reason *why)
{
    struct rows *rows = new_rows(params, why);
    if (!rows)
        return STATUS_INVALID;

    enum status status = STATUS_OK;
    if (mkdir(params->directory, 0700) != 0 && errno != EEXIST)
        status = disk_error("rows", "make", params->directory, why);
    // The head goes first: without it, whatever else is left says nothing.
    if (status == STATUS_OK)
        status = rows_head_remove(rows, why);
    if (status == STATUS_OK)
        status = open_files(rows, true, why);
    if (status != STATUS_OK) {
        rows_close(&rows);
        return status;
    }
    *out = rows;
    return STATUS_OK;
}

void rows_close(struct rows **rows_pointer)
{
    struct rows *rows = *rows_pointer;
    if (!rows)
        return;
    for (int f = 0; f < ROWS_FILES; f++)
        rows_file_close(&rows->file[f]);
    rows_map_deinit(&rows->map);
    mem_free(rows->live);
    mem_free(rows->hidden);
    pthread_mutex_destroy(&rows->lock);
    mem_free(rows);
    *rows_pointer = NULL;
}

enum status rows_checkpoint(struct rows *rows, uint64_t sequence, struct reason *why)
{
    enum status status = STATUS_OK;
    for (int f = 0; f < ROWS_FILES && status == STATUS_OK; f++)
        status = rows_file_sync(rows, (enum rows_file_kind)f, why);
    return status == STATUS_OK ? rows_head_write(rows, sequence, why) : status;
}

// --- writing

static enum status reserve_map(struct rows *rows, size_t count)
{
    if (rows_map_has_room(&rows->map, count))
        return STATUS_OK;

    struct rows_map grown;
    const enum status status = rows_map_grow(&rows->map, count, slots_of(rows), &grown);
    if (status != STATUS_OK)
        return status;
    struct rows_map old = rows->map;
    pthread_mutex_lock(&rows->lock);
    rows->map = grown;
    pthread_mutex_unlock(&rows->lock);
    rows_map_deinit(&old);
    return STATUS_OK;
}

// A larger copy; the new bits are 0.
static uint64_t *grow_bits(const uint64_t *bits, size_t count, size_t words)
{
    uint64_t *grown = mem_try_alloc_array(words, sizeof(*grown));
    if (!grown)
        return NULL;
    if (count > 0)
        memcpy(grown, bits, count * sizeof(*grown));
    memset(grown + count, 0, (words - count) * sizeof(*grown));
    return grown;
}

static enum status reserve_live(struct rows *rows, size_t count)
{
    const size_t needed = rows_words_of((uint64_t)rows->slot_count + count);
    if (needed <= rows->live_words)
        return STATUS_OK;

    const size_t words = needed + needed / 2 + 64;
    uint64_t *live = grow_bits(rows->live, rows->live_words, words);
    uint64_t *hidden = live ? grow_bits(rows->hidden, rows->live_words, words) : NULL;
    if (!hidden) {
        mem_free(live);
        return STATUS_NO_MEMORY;
    }
    uint64_t *old_live = rows->live;
    uint64_t *old_hidden = rows->hidden;
    pthread_mutex_lock(&rows->lock);
    rows->live = live;
    rows->hidden = hidden;
    rows->live_words = words;
    pthread_mutex_unlock(&rows->lock);
    mem_free(old_live);
    mem_free(old_hidden);
    return STATUS_OK;
}

// For what is const by our promise to others, in a call whose own type is not.
static void *unconst(const void *pointer)
{
    void *same;
    memcpy(&same, &pointer, sizeof(same));
    return same;
}

static enum status write_chunk(struct rows *rows, const struct rows_item *items, size_t count,
                               uint64_t first, struct rows_slot *slots, struct reason *why)
{
    const size_t row_bytes = (size_t)rows->dimension * sizeof(uint16_t);
    const enum cpu_level level = cpu_best();
    struct iovec images[CHUNK];
    struct iovec texts[CHUNK];
    for (size_t i = 0; i < count; i++) {
        // writev's parts are not const, though it only reads them.
        images[i] = (struct iovec){unconst(items[i].image), row_bytes};
        texts[i] = (struct iovec){unconst(items[i].text), row_bytes};
        slots[i] = (struct rows_slot){
            .id = items[i].id,
            .crc = items[i].crc,
            .pair_score = distance_pair(level, items[i].image, items[i].text, rows->dimension)};
    }
    enum status status = rows_file_write(rows, ROWS_IMAGE, images, count, first, why);
    if (status == STATUS_OK)
        status = rows_file_write(rows, ROWS_TEXT, texts, count, first, why);
    struct iovec part = {slots, count * sizeof(*slots)};
    if (status == STATUS_OK)
        status = rows_file_write(rows, ROWS_SLOTS, &part, 1, first, why);
    return status;
}

static void replace_bits(struct rows *rows, uint32_t old, uint32_t slot)
{
    clear_bit(rows->live, old);
    if (!bit_is_set(rows->hidden, old))
        return;
    clear_bit(rows->hidden, old);
    set_bit(rows->hidden, slot);
}

static void publish(struct rows *rows, const struct rows_item *items, size_t count)
{
    pthread_mutex_lock(&rows->lock);
    for (size_t i = 0; i < count; i++) {
        const uint32_t slot = rows->slot_count++;
        const uint32_t replaced = rows_map_put(&rows->map, slot, slots_of(rows));
        set_bit(rows->live, slot);
        if (replaced == ROWS_NONE)
            rows->live_count++;
        else
            replace_bits(rows, replaced, slot);
        if (items[i].hidden && !bit_is_set(rows->hidden, slot)) {
            set_bit(rows->hidden, slot);
            rows->hidden_count++;
        }
    }
    pthread_mutex_unlock(&rows->lock);
}

enum status rows_append(struct rows *rows, const struct rows_item *items, size_t count,
                        struct reason *why)
{
    if (count > rows->slots_max - rows->slot_count)
        return reason_set(why, STATUS_EXHAUSTED, "rows",
                          "generation %" PRIu32 " has %" PRIu32 " slots on this node, of %" PRIu32
                          " at most; %zu more do not fit: add nodes, or restart the node if many "
                          "records were replaced",
                          rows->generation, rows->slot_count, rows->slots_max, count);
    if (reserve_map(rows, count) != STATUS_OK || reserve_live(rows, count) != STATUS_OK)
        return reason_set(why, STATUS_NO_MEMORY, "rows", "no memory to name %zu more rows", count);

    uint32_t crc = rows->slots_crc;
    for (size_t done = 0; done < count; done += CHUNK) {
        const size_t now = count - done < CHUNK ? count - done : CHUNK;
        struct rows_slot slots[CHUNK];
        const enum status status =
            write_chunk(rows, items + done, now, (uint64_t)rows->slot_count + done, slots, why);
        if (status != STATUS_OK)
            return status;
        crc = hash_crc32c(crc, slots, now * sizeof(*slots));
    }
    rows->slots_crc = crc;
    for (size_t done = 0; done < count; done += CHUNK)
        publish(rows, items + done, count - done < CHUNK ? count - done : CHUNK);
    return STATUS_OK;
}

bool rows_lacks_space(const struct rows *rows)
{
    return rows->lacks_space;
}

bool rows_remove(struct rows *rows, uint64_t id)
{
    pthread_mutex_lock(&rows->lock);
    const uint32_t slot = rows_map_remove(&rows->map, id, slots_of(rows));
    if (slot != ROWS_NONE) {
        clear_bit(rows->live, slot);
        rows->live_count--;
        if (bit_is_set(rows->hidden, slot))
            rows->hidden_count--;
        clear_bit(rows->hidden, slot);
    }
    pthread_mutex_unlock(&rows->lock);
    return slot != ROWS_NONE;
}

bool rows_hide(struct rows *rows, uint64_t id, bool hidden)
{
    pthread_mutex_lock(&rows->lock);
    const uint32_t slot = rows_map_find(&rows->map, id, slots_of(rows));
    const bool changes = slot != ROWS_NONE && bit_is_set(rows->hidden, slot) != hidden;
    if (changes && hidden) {
        set_bit(rows->hidden, slot);
        rows->hidden_count++;
    } else if (changes) {
        clear_bit(rows->hidden, slot);
        rows->hidden_count--;
    }
    pthread_mutex_unlock(&rows->lock);
    return changes;
}

// --- reading

uint32_t rows_find(struct rows *rows, uint64_t id)
{
    pthread_mutex_lock(&rows->lock);
    const uint32_t slot = rows_map_find(&rows->map, id, slots_of(rows));
    pthread_mutex_unlock(&rows->lock);
    return slot;
}

bool rows_is_hidden(struct rows *rows, uint64_t id)
{
    pthread_mutex_lock(&rows->lock);
    const uint32_t slot = rows_map_find(&rows->map, id, slots_of(rows));
    const bool hidden = slot != ROWS_NONE && bit_is_set(rows->hidden, slot);
    pthread_mutex_unlock(&rows->lock);
    return hidden;
}

uint64_t rows_hidden_count(struct rows *rows)
{
    pthread_mutex_lock(&rows->lock);
    const uint64_t count = rows->hidden_count;
    pthread_mutex_unlock(&rows->lock);
    return count;
}

uint64_t rows_live_count(struct rows *rows)
{
    pthread_mutex_lock(&rows->lock);
    const uint64_t count = rows->live_count;
    pthread_mutex_unlock(&rows->lock);
    return count;
}

uint64_t rows_slot_count(struct rows *rows)
{
    pthread_mutex_lock(&rows->lock);
    const uint64_t count = rows->slot_count;
    pthread_mutex_unlock(&rows->lock);
    return count;
}

uint64_t rows_bytes(struct rows *rows)
{
    const uint64_t slot_bytes =
        2 * (uint64_t)rows->dimension * sizeof(uint16_t) + sizeof(struct rows_slot);
    return rows_slot_count(rows) * slot_bytes;
}

uint64_t rows_heap_bytes(struct rows *rows)
{
    pthread_mutex_lock(&rows->lock);
    const uint64_t bytes = rows->live_words * sizeof(*rows->live) +
                           rows->map.bucket_count * sizeof(*rows->map.buckets);
    pthread_mutex_unlock(&rows->lock);
    return bytes;
}

// The live bits of those who are chosen, under the lock.
static void choose(const struct rows *rows, const struct rows_choice *choice, uint64_t *live)
{
    const size_t words = rows_words_of(rows->slot_count);
    if (choice->has_only)
        memset(live, 0, words * sizeof(*live));
    for (size_t w = 0; w < words && !choice->has_only; w++)
        live[w] = rows->live[w] & ~rows->hidden[w];
    for (size_t i = 0; i < choice->only_count; i++) {
        const uint32_t slot = rows_map_find(&rows->map, choice->only[i], slots_of(rows));
        if (slot != ROWS_NONE && bit_is_set(rows->live, slot) && !bit_is_set(rows->hidden, slot))
            set_bit(live, slot);
    }
    for (size_t i = 0; i < choice->excluded_count; i++) {
        const uint32_t slot = rows_map_find(&rows->map, choice->excluded[i], slots_of(rows));
        if (slot != ROWS_NONE)
            clear_bit(live, slot);
    }
}

void rows_view_recount(struct rows_view *view)
{
    view->live_count = 0;
    for (size_t w = 0; w < rows_words_of(view->slot_count); w++)
        view->live_count += (uint64_t)__builtin_popcountll(view->live[w]);
}

enum status rows_view_begin(struct rows *rows, const struct rows_choice *choice,
                            struct rows_view *out)
{
    // Memory is not asked for under the lock. The rows may grow meanwhile: there is a margin, and
    // another try for when it does not do.
    for (int tries = 0; tries < 8; tries++) {
        const size_t room = rows_words_of(rows_slot_count(rows)) + 64;
        uint64_t *live = mem_try_alloc_array(room, sizeof(*live));
        if (!live)
            return STATUS_NO_MEMORY;

        pthread_mutex_lock(&rows->lock);
        const size_t words = rows_words_of(rows->slot_count);
        if (words > room) {
            pthread_mutex_unlock(&rows->lock);
            mem_free(live);
            continue;
        }
        choose(rows, choice, live);
        *out = (struct rows_view){.dimension = rows->dimension,
                                  .slot_count = rows->slot_count,
                                  .live_count = rows->live_count - rows->hidden_count,
                                  .live = live,
                                  .rows = {rows->file[ROWS_IMAGE].map, rows->file[ROWS_TEXT].map},
                                  .slots = slots_of(rows)};
        pthread_mutex_unlock(&rows->lock);
        return STATUS_OK;
    }
    return STATUS_NO_MEMORY;
}

void rows_view_end(struct rows_view *view)
{
    mem_free(view->live);
    *view = (struct rows_view){0};
}
