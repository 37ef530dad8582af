// SPDX-License-Identifier: Apache-2.0
// Slots, live bits, and the order in which things become visible.
//
// Appending writes image rows, text rows and slots behind the last slot, where nobody looks, and
// only then, under the lock, sets the bits of the new slots, raises the count, clears the bits of
// the slots that are replaced, and points the map at the new ones. A view copies count and bits
// under the same lock: 1 bit for each row it is about to scan, so the copy costs nothing beside the
// scan.
//
// Who does not read all rows anyway reads bits and count where they are, without the lock. They
// never move: room for the most slots there may ever be is reserved as address space. The order
// above is for such a reader: one that finds the bit of a replaced slot cleared and reads the count
// afterwards finds the new slot below it.
//
// Room for the map is made before the lock is taken: the writer is the only one that changes it, so
// it may copy it while others read.

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
#include "proto/base/parallel.h"
#include "shard_node/disk_error.h"
#include "shard_node/distance.h"
#include "shard_node/rows_internal.h"

#define CHUNK 256        // records written by one pwritev and published under one lock
#define CHECK_SLOTS 4096 // checked by one thread at a time; whole words of bits
#define DAMAGED_SHARE 8  // more than one row in eight damaged: nothing there is worth keeping

// --- opening

// Two bits for each slot that there may be; only what is written takes memory. Shared, with nobody,
// since a private mapping counts as a whole against a limit of data (RLIMIT_DATA).
static bool reserve_bits(struct rows *rows)
{
    const size_t bytes = 2 * rows_words_of(rows->slots_max) * sizeof(*rows->live);
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return false;
    rows->bits_map = map;
    rows->bits_bytes = bytes;
    rows->live = map;
    rows->visible = rows->live + rows_words_of(rows->slots_max);
    return true;
}

static enum status new_rows(const struct rows_params *params, struct rows **out, struct reason *why)
{
    assert(params->dimension >= 1 && params->dimension <= DIMENSION_MAX);

    struct rows *rows = mem_alloc(sizeof(*rows));
    const int used = snprintf(rows->directory, sizeof(rows->directory), "%s", params->directory);
    if (used < 1 || used >= ROWS_PATH_BYTES) {
        mem_free(rows);
        reason_set(why, STATUS_INVALID, "directory", "the path has %d bytes; at most %d", used,
                   ROWS_PATH_BYTES - 1);
        return STATUS_INVALID;
    }
    rows->generation = params->generation;
    rows->dimension = params->dimension;
    rows->store_identity = params->store_identity;
    const uint64_t slots = ROWS_FILE_BYTES_MAX / (params->dimension * sizeof(uint16_t));
    rows->slots_max = slots < ROWS_NONE ? (uint32_t)slots : ROWS_NONE - 1;
    for (int f = 0; f < ROWS_FILES; f++)
        rows->file[f].fd = -1;
    pthread_mutex_init(&rows->lock, NULL);
    if (!reserve_bits(rows)) {
        reason_set(why, STATUS_NO_MEMORY, "rows",
                   "no address space for the bits of %" PRIu32 " slots", rows->slots_max);
        rows_close(&rows);
        return STATUS_NO_MEMORY;
    }
    *out = rows;
    return STATUS_OK;
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

// Only the writer changes bits, one after the other.
static void set_bit(_Atomic uint64_t *bits, uint32_t at)
{
    const uint64_t word = atomic_load_explicit(&bits[at / 64], memory_order_relaxed);
    atomic_store_explicit(&bits[at / 64], word | 1ull << (at % 64), memory_order_release);
}

static void clear_bit(_Atomic uint64_t *bits, uint32_t at)
{
    const uint64_t word = atomic_load_explicit(&bits[at / 64], memory_order_relaxed);
    atomic_store_explicit(&bits[at / 64], word & ~(1ull << (at % 64)), memory_order_release);
}

static bool is_hidden(const struct rows *rows, uint32_t slot)
{
    return rows_bit(rows->live, slot) && !rows_bit(rows->visible, slot);
}

static uint32_t slot_count(const struct rows *rows)
{
    return (uint32_t)atomic_load_explicit(&rows->slot_count, memory_order_acquire);
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
    clear_bit(rows->visible, slot);
    opened->damaged = mem_grow(opened->damaged, opened->damaged_count + 1, sizeof(id));
    opened->damaged[opened->damaged_count++] = id;
}

struct check {
    const struct rows *rows;
    uint64_t *sound; // a bit for each live slot whose row is
};

static void check_piece(void *context, uint32_t worker, size_t piece)
{
    (void)worker;
    const struct check *check = context;
    const struct rows *rows = check->rows;
    const uint32_t slots = slot_count(rows);
    const uint32_t first = (uint32_t)piece * CHECK_SLOTS;
    const uint32_t end = slots - first < CHECK_SLOTS ? slots : first + CHECK_SLOTS;
    for (uint32_t slot = first; slot < end; slot++) {
        if (rows_bit(rows->live, slot) && row_is_sound(rows, slot))
            check->sound[slot / 64] |= 1ull << (slot % 64);
    }
}

static enum status enter_sound(struct rows *rows, const uint64_t *sound, struct rows_opened *opened,
                               struct reason *why)
{
    const uint32_t slots = slot_count(rows);
    for (uint32_t slot = 0; slot < slots; slot++) {
        if (!rows_bit(rows->live, slot))
            continue;
        if ((sound[slot / 64] >> (slot % 64) & 1) == 0) {
            note_damaged(rows, slot, opened);
            if (opened->damaged_count > slots / DAMAGED_SHARE)
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

// Checks every live row with all cores, which also brings it into memory, and enters it into the
// map.
static enum status check_rows(struct rows *rows, struct rows_opened *opened, struct reason *why)
{
    const uint32_t slots = slot_count(rows);
    for (int f = 0; f < ROWS_SLOTS; f++) {
        if (slots > 0)
            (void)madvise(rows->file[f].map, slots * rows->file[f].item_bytes,
                          MADV_WILLNEED); // a hint
    }
    const size_t words = rows_words_of(slots) + 1;
    struct check check = {rows, mem_try_alloc_array(words, sizeof(uint64_t))};
    if (!check.sound)
        return reason_set(why, STATUS_NO_MEMORY, "rows", "no memory to check %" PRIu32 " slots",
                          slots);
    memset(check.sound, 0, words * sizeof(uint64_t));
    parallel_run((uint32_t)cpu_count(), (slots + CHECK_SLOTS - 1) / CHECK_SLOTS, check_piece,
                 &check);
    const enum status status = enter_sound(rows, check.sound, opened, why);
    mem_free(check.sound);
    return status;
}

static enum status take_over(struct rows *rows, struct rows_opened *opened, struct reason *why)
{
    struct rows_head head;
    enum status status = rows_head_read(rows, &head, why);
    if (status != STATUS_OK)
        return status;

    for (size_t w = 0; w < rows_words_of(head.count); w++) {
        atomic_init(&rows->live[w], head.live[w]);
        atomic_init(&rows->visible[w], head.live[w]);
    }
    mem_free(head.live);
    opened->sequence = head.sequence;
    status = open_files(rows, false, why);
    for (int f = 0; f < ROWS_FILES && status == STATUS_OK; f++)
        status = rows_file_check(rows, (enum rows_file_kind)f, head.count, why);
    if (status != STATUS_OK)
        return status == STATUS_NOT_FOUND ? STATUS_CORRUPT : status; // a head without its files

    atomic_init(&rows->slot_count, (uint32_t)head.count);
    atomic_init(&rows->covered, (uint32_t)head.count);
    rows->slots_crc = head.slots_crc;
    if (hash_crc32c(0, slots_of(rows), head.count * sizeof(struct rows_slot)) != head.slots_crc)
        return reason_set(why, STATUS_CORRUPT, "rows", "%s/slots fails its checksum",
                          rows->directory);
    struct rows_map map;
    status = rows_map_grow(&rows->map, head.count, slots_of(rows), &map);
    if (status != STATUS_OK)
        return reason_set(why, status, "rows", "no memory for a map of %" PRIu64 " slots",
                          head.count);
    rows->map = map;
    return check_rows(rows, opened, why);
}

enum status rows_open(const struct rows_params *params, struct rows **out,
                      struct rows_opened *opened, struct reason *why)
{
    struct rows *rows = NULL;
    struct rows_opened found = {0};
    enum status status = new_rows(params, &rows, why);
    if (status == STATUS_OK)
        status = take_over(rows, &found, why);
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
    struct rows *rows = NULL;
    enum status status = new_rows(params, &rows, why);
    if (status == STATUS_OK && mkdir(params->directory, 0700) != 0 && errno != EEXIST)
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
    if (rows->bits_map)
        munmap(rows->bits_map, rows->bits_bytes);
    pthread_mutex_destroy(&rows->lock);
    mem_free(rows);
    *rows_pointer = NULL;
}

enum status rows_checkpoint(struct rows *rows, uint64_t sequence, struct reason *why)
{
    enum status status = STATUS_OK;
    for (int f = 0; f < ROWS_FILES && status == STATUS_OK; f++)
        status = rows_file_sync(rows, (enum rows_file_kind)f, why);
    if (status == STATUS_OK)
        status = rows_head_write(rows, sequence, why);
    if (status == STATUS_OK)
        atomic_store(&rows->covered, slot_count(rows));
    return status;
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

// Shows a new slot, unless the record is hidden. Returns the slot that it replaces, or ROWS_NONE.
static uint32_t show(struct rows *rows, uint32_t slot, bool hidden)
{
    const uint32_t replaced = rows_map_put(&rows->map, slot, slots_of(rows));
    const bool was_hidden = replaced != ROWS_NONE && is_hidden(rows, replaced);
    set_bit(rows->live, slot);
    if (!hidden && !was_hidden)
        set_bit(rows->visible, slot);
    if (replaced == ROWS_NONE)
        rows->live_count++;
    if (hidden && !was_hidden)
        rows->hidden_count++;
    return replaced;
}

static void publish(struct rows *rows, const struct rows_item *items, size_t count)
{
    uint32_t replaced[CHUNK];
    pthread_mutex_lock(&rows->lock);
    const uint32_t first = slot_count(rows);
    for (size_t i = 0; i < count; i++)
        replaced[i] = show(rows, first + (uint32_t)i, items[i].hidden);
    atomic_store_explicit(&rows->slot_count, first + (uint32_t)count, memory_order_release);
    for (size_t i = 0; i < count; i++) {
        if (replaced[i] == ROWS_NONE)
            continue;
        clear_bit(rows->visible, replaced[i]);
        clear_bit(rows->live, replaced[i]);
    }
    pthread_mutex_unlock(&rows->lock);
}

enum status rows_append(struct rows *rows, const struct rows_item *items, size_t count,
                        struct reason *why)
{
    const uint32_t first = slot_count(rows);
    if (count > rows->slots_max - first)
        return reason_set(why, STATUS_EXHAUSTED, "rows",
                          "generation %" PRIu32 " has %" PRIu32 " slots on this node, of %" PRIu32
                          " at most; %zu more do not fit: add nodes, or restart the node if many "
                          "records were replaced",
                          rows->generation, first, rows->slots_max, count);
    if (reserve_map(rows, count) != STATUS_OK)
        return reason_set(why, STATUS_NO_MEMORY, "rows", "no memory to name %zu more rows", count);

    uint32_t crc = rows->slots_crc;
    for (size_t done = 0; done < count; done += CHUNK) {
        const size_t now = count - done < CHUNK ? count - done : CHUNK;
        struct rows_slot slots[CHUNK];
        const enum status status =
            write_chunk(rows, items + done, now, (uint64_t)first + done, slots, why);
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
        if (is_hidden(rows, slot))
            rows->hidden_count--;
        clear_bit(rows->visible, slot);
        clear_bit(rows->live, slot);
        rows->live_count--;
    }
    pthread_mutex_unlock(&rows->lock);
    return slot != ROWS_NONE;
}

bool rows_hide(struct rows *rows, uint64_t id, bool hidden)
{
    pthread_mutex_lock(&rows->lock);
    const uint32_t slot = rows_map_find(&rows->map, id, slots_of(rows));
    const bool changes = slot != ROWS_NONE && is_hidden(rows, slot) != hidden;
    if (changes && hidden) {
        clear_bit(rows->visible, slot);
        rows->hidden_count++;
    } else if (changes) {
        set_bit(rows->visible, slot);
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

void rows_find_many(struct rows *rows, const uint64_t *ids, size_t count, uint32_t *slots)
{
    pthread_mutex_lock(&rows->lock);
    rows_map_find_many(&rows->map, ids, count, slots_of(rows), slots);
    pthread_mutex_unlock(&rows->lock);
}

bool rows_is_hidden(struct rows *rows, uint64_t id)
{
    pthread_mutex_lock(&rows->lock);
    const uint32_t slot = rows_map_find(&rows->map, id, slots_of(rows));
    const bool hidden = slot != ROWS_NONE && is_hidden(rows, slot);
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

uint64_t rows_dead_count(struct rows *rows)
{
    pthread_mutex_lock(&rows->lock);
    const uint64_t count = slot_count(rows) - rows->live_count;
    pthread_mutex_unlock(&rows->lock);
    return count;
}

uint32_t rows_slot_count(const struct rows *rows)
{
    return slot_count(rows);
}

uint32_t rows_covered(const struct rows *rows)
{
    return (uint32_t)atomic_load(&rows->covered);
}

const _Atomic uint64_t *rows_visible(const struct rows *rows)
{
    return rows->visible;
}

const _Atomic uint64_t *rows_live(const struct rows *rows)
{
    return rows->live;
}

uint64_t rows_bytes(const struct rows *rows)
{
    const uint64_t slot_bytes =
        2 * (uint64_t)rows->dimension * sizeof(uint16_t) + sizeof(struct rows_slot);
    return rows_slot_count(rows) * slot_bytes;
}

uint64_t rows_heap_bytes(struct rows *rows)
{
    pthread_mutex_lock(&rows->lock);
    const uint64_t bytes = 2 * rows_words_of(slot_count(rows)) * sizeof(*rows->live) +
                           rows->map.bucket_count * sizeof(*rows->map.buckets);
    pthread_mutex_unlock(&rows->lock);
    return bytes;
}

// The visible bits of those who are chosen, under the lock.
static void choose(const struct rows *rows, const struct rows_choice *choice, uint64_t *live)
{
    const size_t words = rows_words_of(slot_count(rows));
    if (choice->has_only)
        memset(live, 0, words * sizeof(*live));
    for (size_t w = 0; w < words && !choice->has_only; w++)
        live[w] = atomic_load_explicit(&rows->visible[w], memory_order_relaxed);
    for (size_t i = 0; i < choice->only_count; i++) {
        const uint32_t slot = rows_map_find(&rows->map, choice->only[i], slots_of(rows));
        if (slot != ROWS_NONE && rows_bit(rows->visible, slot))
            live[slot / 64] |= 1ull << (slot % 64);
    }
    for (size_t i = 0; i < choice->excluded_count; i++) {
        const uint32_t slot = rows_map_find(&rows->map, choice->excluded[i], slots_of(rows));
        if (slot != ROWS_NONE)
            live[slot / 64] &= ~(1ull << (slot % 64));
    }
}

// Everything but the bits, under the lock.
static struct rows_view view_of(const struct rows *rows)
{
    return (struct rows_view){.dimension = rows->dimension,
                              .slot_count = slot_count(rows),
                              .live_count = rows->live_count - rows->hidden_count,
                              .dead_count = slot_count(rows) - rows->live_count,
                              .rows = {rows->file[ROWS_IMAGE].map, rows->file[ROWS_TEXT].map},
                              .slots = slots_of(rows)};
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
        if (rows_words_of(slot_count(rows)) > room) {
            pthread_mutex_unlock(&rows->lock);
            mem_free(live);
            continue;
        }
        choose(rows, choice, live);
        *out = view_of(rows);
        out->live = live;
        pthread_mutex_unlock(&rows->lock);
        return STATUS_OK;
    }
    return STATUS_NO_MEMORY;
}

void rows_view_share(struct rows *rows, struct rows_view *out)
{
    pthread_mutex_lock(&rows->lock);
    *out = view_of(rows);
    pthread_mutex_unlock(&rows->lock);
}

void rows_view_end(struct rows_view *view)
{
    mem_free(view->live);
    *view = (struct rows_view){0};
}
