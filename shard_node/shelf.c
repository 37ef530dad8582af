// SPDX-License-Identifier: Apache-2.0
// A short list under a mutex. Each generation counts its users; the shelf is one of them.

#include "shard_node/shelf.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "shard_node/disk_error.h"

#define PATH_BYTES 4096

struct shelf {
    struct store *store;
    struct epoch *epoch;
    char directory[PATH_BYTES];

    pthread_mutex_t lock; // everything below
    struct shelf_generation *first;
    uint32_t *dropped;
    size_t dropped_count;
};

static void path_of(const struct shelf *shelf, uint32_t number, char path[PATH_BYTES + 16])
{
    (void)snprintf(path, PATH_BYTES + 16, "%s/%" PRIu32, shelf->directory, number);
}

void shelf_path(const struct shelf *shelf, uint32_t number, const char *name,
                char path[SHELF_PATH_BYTES])
{
    (void)snprintf(path, SHELF_PATH_BYTES, "%s/%" PRIu32 "/%s", shelf->directory, number, name);
}

// --- opening

struct opening {
    struct shelf *shelf;
    enum status status;
    uint64_t after; // of shelf_follow()
    struct reason *why;
};

static void link_generation(struct shelf *shelf, const struct store_generation *about,
                            struct rows *rows, struct tags *tags)
{
    struct shelf_generation *generation = mem_alloc(sizeof(*generation));
    generation->about = *about;
    generation->rows = rows;
    generation->tags = tags;
    generation->references = 1;
    for (int m = 0; m < 2; m++)
        shelf_index_init(&generation->index[m]);
    atomic_init(&generation->is_dropped, false);
    pthread_mutex_lock(&shelf->lock);
    generation->next = shelf->first;
    shelf->first = generation;
    pthread_mutex_unlock(&shelf->lock);
}

static void note_dropped(struct shelf *shelf, uint32_t number)
{
    pthread_mutex_lock(&shelf->lock);
    shelf->dropped = mem_grow(shelf->dropped, shelf->dropped_count + 1, sizeof(number));
    shelf->dropped[shelf->dropped_count++] = number;
    pthread_mutex_unlock(&shelf->lock);
}

static void delete_files(const struct shelf *shelf, uint32_t number)
{
    char path[PATH_BYTES + 16];
    path_of(shelf, number, path);
    struct reason why = {0};
    if (rows_delete_files(path, &why) != STATUS_OK) {
        char quoted[LOG_QUOTE_BYTES];
        log_warn("rows_not_deleted", "generation=%" PRIu32 " error=%s", number,
                 log_quote(why.text, quoted));
    }
}

static void open_generation(void *context, const struct store_generation *about)
{
    struct opening *opening = context;
    struct shelf *shelf = opening->shelf;
    if (opening->status != STATUS_OK)
        return;
    if (about->dropped) {
        note_dropped(shelf, about->number);
        delete_files(shelf, about->number);
        return;
    }
    char path[PATH_BYTES + 16];
    path_of(shelf, about->number, path);
    struct rows *rows = NULL;
    opening->status = shelf_fill(shelf->store, about, path, &rows, opening->why);
    struct tags *tags = NULL;
    if (opening->status == STATUS_OK)
        opening->status = shelf_fill_tags(shelf->store, about, rows, &tags, opening->why);
    if (opening->status == STATUS_OK)
        link_generation(shelf, about, rows, tags);
    else
        rows_close(&rows);
}

enum status shelf_open(struct store *store, const char *directory, struct shelf **out,
                       struct reason *why)
{
    struct shelf *shelf = mem_alloc(sizeof(*shelf));
    shelf->store = store;
    shelf->epoch = epoch_create();
    pthread_mutex_init(&shelf->lock, NULL);

    struct opening opening = {.shelf = shelf, .status = STATUS_OK, .why = why};
    const int used = snprintf(shelf->directory, sizeof(shelf->directory), "%s", directory);
    if (!shelf->epoch)
        opening.status = reason_set(why, STATUS_NO_MEMORY, "", "no memory for the indexes' epoch");
    else if (used < 1 || used >= PATH_BYTES - 16)
        opening.status = reason_set(why, STATUS_INVALID, "directory",
                                    "the path has %d bytes; at most %d", used, PATH_BYTES - 17);
    else if (mkdir(directory, 0700) != 0 && errno != EEXIST)
        opening.status = disk_error("rows", "make", directory, why);
    enum status status = opening.status;
    if (status == STATUS_OK)
        status = store_list_generations(store, open_generation, &opening, why);
    if (status == STATUS_OK)
        status = opening.status;
    if (status != STATUS_OK) {
        shelf_close(&shelf);
        return status;
    }
    *out = shelf;
    return STATUS_OK;
}

static void free_generation(struct shelf_generation *generation)
{
    for (int m = 0; m < 2; m++)
        shelf_index_deinit(&generation->index[m]);
    rows_close(&generation->rows);
    tags_destroy(&generation->tags);
    mem_free(generation);
}

void shelf_close(struct shelf **shelf_pointer)
{
    struct shelf *shelf = *shelf_pointer;
    if (!shelf)
        return;
    while (shelf->first) {
        struct shelf_generation *generation = shelf->first;
        assert(generation->references == 1);
        shelf->first = generation->next;
        free_generation(generation);
    }
    epoch_destroy(&shelf->epoch);
    mem_free(shelf->dropped);
    pthread_mutex_destroy(&shelf->lock);
    mem_free(shelf);
    *shelf_pointer = NULL;
}

// --- use

struct shelf_generation *shelf_acquire(struct shelf *shelf, uint32_t number)
{
    pthread_mutex_lock(&shelf->lock);
    struct shelf_generation *generation = shelf->first;
    while (generation && generation->about.number != number)
        generation = generation->next;
    if (generation)
        generation->references++;
    pthread_mutex_unlock(&shelf->lock);
    return generation;
}

struct shelf_generation *shelf_acquire_after(struct shelf *shelf, uint32_t number)
{
    struct shelf_generation *found = NULL;
    pthread_mutex_lock(&shelf->lock);
    for (struct shelf_generation *at = shelf->first; at; at = at->next) {
        const bool is_nearer = !found || at->about.number < found->about.number;
        if (at->about.number > number && is_nearer)
            found = at;
    }
    if (found)
        found->references++;
    pthread_mutex_unlock(&shelf->lock);
    return found;
}

struct epoch *shelf_epoch(const struct shelf *shelf)
{
    return shelf->epoch;
}

void shelf_release(struct shelf *shelf, struct shelf_generation **generation_pointer)
{
    struct shelf_generation *generation = *generation_pointer;
    if (!generation)
        return;
    pthread_mutex_lock(&shelf->lock);
    assert(generation->references > 0);
    const bool last = --generation->references == 0;
    pthread_mutex_unlock(&shelf->lock);
    if (last) { // the shelf gave it up before: it was dropped
        delete_files(shelf, generation->about.number);
        free_generation(generation);
    }
    *generation_pointer = NULL;
}

static int compare_vshards(const void *a, const void *b)
{
    const uint16_t x = *(const uint16_t *)a;
    const uint16_t y = *(const uint16_t *)b;
    return x < y ? -1 : x > y;
}

bool shelf_owns(const struct shelf_generation *generation, uint32_t vshard)
{
    const uint16_t key = (uint16_t)vshard;
    return vshard < generation->about.vshards &&
           bsearch(&key, generation->about.own, generation->about.own_count, sizeof(key),
                   compare_vshards) != NULL;
}

bool shelf_was_dropped(struct shelf *shelf, uint32_t number)
{
    bool dropped = false;
    pthread_mutex_lock(&shelf->lock);
    for (size_t i = 0; i < shelf->dropped_count; i++)
        dropped = dropped || shelf->dropped[i] == number;
    pthread_mutex_unlock(&shelf->lock);
    return dropped;
}

static size_t count_generations(struct shelf *shelf)
{
    pthread_mutex_lock(&shelf->lock);
    size_t count = shelf->dropped_count;
    for (const struct shelf_generation *at = shelf->first; at; at = at->next)
        count++;
    pthread_mutex_unlock(&shelf->lock);
    return count;
}

enum status shelf_add(struct shelf *shelf, const struct store_generation *about, struct reason *why)
{
    if (count_generations(shelf) >= SHELF_GENERATIONS_MAX)
        return reason_set(why, STATUS_EXHAUSTED, "generation",
                          "this node has seen %d generations; it remembers no more",
                          SHELF_GENERATIONS_MAX);

    char path[PATH_BYTES + 16];
    path_of(shelf, about->number, path);
    const struct rows_params params = {.directory = path,
                                       .generation = about->number,
                                       .dimension = about->dimension,
                                       .store_identity = store_identity(shelf->store)};
    struct rows *rows = NULL;
    enum status status = rows_create(&params, &rows, why);
    if (status == STATUS_OK)
        status = rows_checkpoint(rows, store_sequence(shelf->store), why);
    if (status != STATUS_OK) {
        rows_close(&rows);
        return status;
    }
    link_generation(shelf, about, rows, tags_create());
    return STATUS_OK;
}

uint64_t shelf_remove(struct shelf *shelf, uint32_t number, bool dropped)
{
    pthread_mutex_lock(&shelf->lock);
    struct shelf_generation **at = &shelf->first;
    while (*at && (*at)->about.number != number)
        at = &(*at)->next;
    struct shelf_generation *generation = *at;
    if (generation)
        *at = generation->next;
    pthread_mutex_unlock(&shelf->lock);

    if (dropped)
        note_dropped(shelf, number);
    if (!generation)
        return 0;
    atomic_store(&generation->is_dropped, true);
    const uint64_t records = rows_live_count(generation->rows);
    shelf_release(shelf, &generation);
    return records;
}

enum status shelf_append(struct shelf_generation *generation, const struct rows_item *items,
                         const struct text *tags, size_t count, struct reason *why)
{
    // The writer is the only one that appends, so these are the slots the items will get.
    const uint64_t first = rows_slot_count(generation->rows);
    for (size_t i = 0; i < count && first + i < ROWS_NONE; i++) {
        if (tags_add(generation->tags, (uint32_t)(first + i), tags[i]) != STATUS_OK)
            return reason_set(why, STATUS_NO_MEMORY, "tags",
                              "no memory for the tags of %zu records", count);
    }
    return rows_append(generation->rows, items, count, why);
}

enum status shelf_checkpoint(struct shelf *shelf, struct shelf_generation *generation, bool always,
                             struct reason *why)
{
    if (generation->changes == 0 || (!always && generation->changes < SHELF_CHECKPOINT_RECORDS))
        return STATUS_OK;
    if (store_is_out_of_space(shelf->store))
        return STATUS_OK; // rows may lack what the store has; shelf_follow() comes first
    const enum status status = rows_checkpoint(generation->rows, store_sequence(shelf->store), why);
    if (status == STATUS_OK)
        generation->changes = 0;
    if (status != STATUS_EXHAUSTED)
        return status;
    log_warn("checkpoint_later", "generation=%" PRIu32 " reason=disk_full",
             generation->about.number);
    return STATUS_OK; // the one before holds, and the log leads on from it
}

// Only the writer links and unlinks, so it may walk without the lock.
enum status shelf_checkpoint_all(struct shelf *shelf, struct reason *why)
{
    enum status status = STATUS_OK;
    for (struct shelf_generation *at = shelf->first; at; at = at->next) {
        const enum status one = shelf_checkpoint(shelf, at, true, why);
        if (one != STATUS_OK)
            status = one;
    }
    return status;
}

// Rows of records that were not acknowledged yet, then the tags of all, since those of a failed
// append may have been noted for slots that others have got.
static void catch_up(struct opening *opening, struct shelf_generation *there)
{
    struct store *store = opening->shelf->store;
    struct tags *tags = NULL;
    opening->status =
        shelf_catch_up(store, &there->about, there->rows, opening->after, opening->why);
    if (opening->status == STATUS_OK)
        opening->status = shelf_fill_tags(store, &there->about, there->rows, &tags, opening->why);
    if (opening->status == STATUS_OK)
        tags_exchange(there->tags, tags);
    tags_destroy(&tags);
}

static void follow_generation(void *context, const struct store_generation *about)
{
    struct opening *opening = context;
    struct shelf *shelf = opening->shelf;
    if (opening->status != STATUS_OK)
        return;
    struct shelf_generation *there = shelf_acquire(shelf, about->number);
    if (about->dropped && !shelf_was_dropped(shelf, about->number))
        (void)shelf_remove(shelf, about->number, true);
    else if (!about->dropped && !there)
        open_generation(opening, about);
    else if (!about->dropped)
        catch_up(opening, there);
    shelf_release(shelf, &there);
}

enum status shelf_follow(struct shelf *shelf, uint64_t after, struct reason *why)
{
    struct opening opening = {.shelf = shelf, .status = STATUS_OK, .after = after, .why = why};
    const enum status status =
        store_list_generations(shelf->store, follow_generation, &opening, why);
    return status == STATUS_OK ? opening.status : status;
}

uint64_t shelf_memory(struct shelf *shelf)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&shelf->lock);
    for (struct shelf_generation *at = shelf->first; at; at = at->next)
        bytes += rows_bytes(at->rows) + rows_heap_bytes(at->rows) + tags_bytes(at->tags) +
                 atomic_load(&at->index[0].bytes) + atomic_load(&at->index[1].bytes);
    pthread_mutex_unlock(&shelf->lock);
    return bytes;
}

void shelf_index_add_up(struct shelf *shelf, struct shelf_index_totals *out)
{
    *out = (struct shelf_index_totals){0};
    pthread_mutex_lock(&shelf->lock);
    for (struct shelf_generation *at = shelf->first; at; at = at->next) {
        for (int m = 0; m < 2; m++) {
            struct shelf_index *side = &at->index[m];
            const uint64_t end = atomic_load(&side->end);
            if (end == 0)
                continue;
            out->rows += end;
            out->waiting += rows_slot_count(at->rows) - end;
            out->lists += atomic_load(&side->lists);
            out->bytes += atomic_load(&side->bytes);
        }
    }
    pthread_mutex_unlock(&shelf->lock);
}

void shelf_totals(struct shelf *shelf, uint64_t *records, uint64_t *bytes)
{
    *records = 0;
    *bytes = 0;
    pthread_mutex_lock(&shelf->lock);
    for (struct shelf_generation *at = shelf->first; at; at = at->next) {
        *records += rows_live_count(at->rows);
        *bytes += rows_bytes(at->rows) + atomic_load(&at->index[0].file_bytes) +
                  atomic_load(&at->index[1].file_bytes);
    }
    pthread_mutex_unlock(&shelf->lock);
}
