// SPDX-License-Identifier: Apache-2.0
// The disk below a store: how full it is, what is kept back, and how the store comes back after a
// write found no space.
//
//   room --85 %--> throttled --92 %--> full      by statvfs, five points of hysteresis downwards
//     \______________ ENOSPC ___________/
//                       |
//                 out of space --store_reopen()--> one of the above
//
// A write that found no space is no mystery: the disk took what it had room for and said so. What
// RocksDB still holds in memory of it is not believed all the same. The database is closed
// and opened again as after a kill: its log is read from the disk, and everything acknowledged must
// be in it. Opening needs space too, and so do deletions; for them a file is kept back
// (`reserve`), which is given up when the disk is full and made again when there is room.
//
// An error of fsync() or close() is not among these: then nobody knows what is on the disk, and the
// store stays read-only until a person has looked at it.

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <rocksdb/c.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "shard_node/store_internal.h"

#define RELEASE_PERCENT 5u
#define RESERVE_BYTES_MAX (64u << 20)
#define RESERVE_SHARE 16u        // of the file system at most
#define OPENING_BYTES (4u << 20) // what opening takes beside what stood in memtables
#define CLOSE_WAIT_US 200000

// --- who uses the database

void store_gate_init(struct store_gate *gate)
{
    pthread_mutex_init(&gate->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&gate->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

void store_gate_deinit(struct store_gate *gate)
{
    assert(gate->users == 0);
    pthread_cond_destroy(&gate->changed);
    pthread_mutex_destroy(&gate->lock);
}

enum status store_enter(struct store *store, struct reason *why)
{
    struct store_gate *gate = &store->gate;
    pthread_mutex_lock(&gate->lock);
    while (gate->closing)
        pthread_cond_wait(&gate->changed, &gate->lock);
    const bool open = store->db != NULL;
    gate->users += open;
    pthread_mutex_unlock(&gate->lock);
    return open ? STATUS_OK
                : reason_set(why, STATUS_UNAVAILABLE, "store",
                             "the store could not be opened again since its disk was full; it is "
                             "tried every second");
}

void store_leave(struct store *store)
{
    struct store_gate *gate = &store->gate;
    pthread_mutex_lock(&gate->lock);
    assert(gate->users > 0);
    gate->users--;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

// Waits a moment until nobody uses the database and keeps everybody out; false when somebody stays.
static bool close_gate(struct store_gate *gate)
{
    const int64_t until_us = clock_deadline_in_us(CLOSE_WAIT_US);
    const struct timespec until = {until_us / 1000000, (until_us % 1000000) * 1000};
    pthread_mutex_lock(&gate->lock);
    gate->closing = true;
    int waited = 0;
    while (gate->users > 0 && waited == 0)
        waited = pthread_cond_timedwait(&gate->changed, &gate->lock, &until);
    const bool closed = gate->users == 0;
    if (!closed) {
        gate->closing = false;
        pthread_cond_broadcast(&gate->changed);
    }
    pthread_mutex_unlock(&gate->lock);
    return closed;
}

static void open_gate(struct store_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->closing = false;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

// --- what is kept back

static void reserve_path(const struct store *store, char path[STORE_PATH_BYTES + 16])
{
    (void)snprintf(path, STORE_PATH_BYTES + 16, "%s/reserve", store->directory);
}

uint64_t store_reserve_bytes(const struct store *store)
{
    struct statvfs disk;
    if (statvfs(store->directory, &disk) != 0)
        return RESERVE_BYTES_MAX;
    const uint64_t share = (uint64_t)disk.f_blocks * disk.f_frsize / RESERVE_SHARE;
    return share < RESERVE_BYTES_MAX ? share : RESERVE_BYTES_MAX;
}

static void make_reserve(struct store *store)
{
    const off_t bytes = (off_t)store_reserve_bytes(store);
    char path[STORE_PATH_BYTES + 16];
    reserve_path(store, path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return; // tried again with the next look at the disk
    store->has_reserve = posix_fallocate(fd, 0, bytes) == 0;
    close(fd);
    if (!store->has_reserve)
        (void)unlink(path);
}

void store_give_up_reserve(struct store *store)
{
    char path[STORE_PATH_BYTES + 16];
    reserve_path(store, path);
    if (unlink(path) == 0)
        log_warn("disk_reserve_used", "directory=%s", store->directory);
    store->has_reserve = false;
}

// --- how full the disk is

// In percent of what is for everybody, as df counts: what is reserved for root belongs to neither
// side. false when nobody knows.
static bool ask_disk(const struct store *store, struct statvfs *disk, uint64_t more,
                     uint32_t *percent)
{
    if (statvfs(store->directory, disk) != 0 || disk->f_blocks == disk->f_bfree)
        return false;
    const uint64_t used = (disk->f_blocks - disk->f_bfree) * disk->f_frsize;
    const uint64_t whole = used + disk->f_bavail * disk->f_frsize;
    *percent = (uint32_t)((used + more) * 100 / whole);
    return true;
}

// A level is reached at its threshold and left five points below it.
static bool is_at(uint32_t percent, uint32_t threshold, bool already)
{
    if (already && threshold > RELEASE_PERCENT)
        threshold -= RELEASE_PERCENT;
    return percent >= threshold;
}

enum store_disk store_disk_level(struct store *store)
{
    struct statvfs disk;
    uint32_t percent = 0;
    if (!ask_disk(store, &disk, 0, &percent))
        return store->disk; // unknown is not full; a write that does not fit fails by itself
    enum store_disk level = STORE_DISK_ROOM;
    if (is_at(percent, store->disk_full_percent, store->disk == STORE_DISK_FULL))
        level = STORE_DISK_FULL;
    else if (is_at(percent, store->disk_throttle_percent, store->disk != STORE_DISK_ROOM))
        level = STORE_DISK_THROTTLED;
    if (level != store->disk) {
        static const char *const names[] = {"disk_has_room", "disk_throttled", "disk_full"};
        log_warn(names[level], "directory=%s used_percent=%" PRIu32, store->directory, percent);
    }
    store->disk = level;
    store->disk_percent = percent;
    if (!store->has_reserve && level != STORE_DISK_FULL && !store_is_out_of_space(store))
        make_reserve(store);
    return level;
}

static enum status disk_is_full(const struct store *store, uint32_t percent, struct reason *why)
{
    const uint32_t limit = store->disk_full_percent;
    return reason_set(why, STATUS_EXHAUSTED, "disk",
                      "%s: its disk is %" PRIu32 " %% full, from %" PRIu32 " %% on the node "
                      "stores nothing new, but deletes; it goes on by itself below %" PRIu32 " %%",
                      store->directory, percent, limit,
                      limit > RELEASE_PERCENT ? limit - RELEASE_PERCENT : limit);
}

enum status store_may_write(struct store *store, bool deleting, struct reason *why)
{
    if (store_is_read_only(store))
        return reason_set(why, STATUS_FAILED_PRECONDITION, "store",
                          "the node is read-only since a write failed; its log says why, and it "
                          "writes again after a restart");
    const enum store_disk level = store_disk_level(store);
    if (store_is_out_of_space(store))
        return reason_set(why, STATUS_EXHAUSTED, "disk",
                          "%s: its disk has no space left, not even for deletions; the node goes "
                          "on by itself when there is some",
                          store->directory);
    return deleting || level != STORE_DISK_FULL ? STATUS_OK
                                                : disk_is_full(store, store->disk_percent, why);
}

enum status store_may_grow(struct store *store, uint64_t bytes, struct reason *why)
{
    const enum status status = store_may_write(store, false, why);
    struct statvfs disk;
    uint32_t percent = 0;
    if (status != STATUS_OK || !ask_disk(store, &disk, bytes, &percent) ||
        percent < store->disk_full_percent)
        return status;
    return disk_is_full(store, percent, why);
}

// --- out of space

bool store_error_is_no_space(const char *error)
{
    static const char *const unsure[] = {"While fsync", "While fdatasync", "While sync_file_range",
                                         "While closing"};
    for (size_t i = 0; i < sizeof(unsure) / sizeof(unsure[0]); i++) {
        if (strstr(error, unsure[i]))
            return false;
    }
    return strstr(error, "No space left on device") || strstr(error, "Disk quota exceeded");
}

void store_set_out_of_space(struct store *store, const char *reason)
{
    if (atomic_exchange(&store->out_of_space, true))
        return;
    char quoted[LOG_QUOTE_BYTES];
    log_error("store_out_of_space", "directory=%s reason=%s", store->directory,
              log_quote(reason, quoted));
}

bool store_is_out_of_space(const struct store *store)
{
    return atomic_load(&store->out_of_space);
}

// What is in memtables stands in RocksDB's log, and opening writes it into files.
static bool has_room_to_open(struct store *store)
{
    uint64_t needed = OPENING_BYTES;
    for (int f = 0; store->db && f < STORE_FAMILIES; f++) {
        uint64_t bytes = 0;
        if (rocksdb_property_int_cf(store->db, store->family[f], "rocksdb.cur-size-all-mem-tables",
                                    &bytes) == 0)
            needed += bytes;
    }
    struct statvfs disk;
    return statvfs(store->directory, &disk) != 0 || disk.f_bavail * disk.f_frsize >= needed;
}

// Opens the database and sees whether it has everything that was acknowledged.
static enum status open_and_check(struct store *store, struct reason *why)
{
    const uint64_t identity = store->identity;
    const uint64_t sequence = store_sequence(store);
    enum status status = store_open_database(store, false, why);
    if (status == STATUS_OK)
        status = store_load_identity(store, why);
    if (status == STATUS_OK && (store->identity != identity || store_sequence(store) < sequence))
        status = reason_set(why, STATUS_CORRUPT, "store",
                            "%s ends at sequence %" PRIu64 ", but %" PRIu64 " was acknowledged",
                            store->directory, store_sequence(store), sequence);
    if (status == STATUS_OK)
        status = store_bulk_recover(store, why);
    return status;
}

enum status store_reopen(struct store *store, struct reason *why)
{
    assert(store_is_out_of_space(store));

    const int64_t began_us = clock_now_us();
    store_give_up_reserve(store);
    if (!has_room_to_open(store))
        return reason_set(why, STATUS_EXHAUSTED, "disk", "%s: its disk has no space left",
                          store->directory);
    if (!close_gate(&store->gate))
        return reason_set(why, STATUS_UNAVAILABLE, "store", "somebody reads the store");
    store_close_database(store);
    atomic_store(&store->out_of_space, false);
    enum status status = open_and_check(store, why);
    if (status == STATUS_EXHAUSTED || store_is_out_of_space(store)) {
        status = STATUS_EXHAUSTED;
        atomic_store(&store->out_of_space, true);
    } else if (status != STATUS_OK) {
        store_set_read_only(store, why ? why->text : "it could not be opened again");
    }
    if (status != STATUS_OK) { // to read, no space is needed
        struct reason ignored = {0};
        store_close_database(store);
        if (store_open_database(store, true, &ignored) != STATUS_OK)
            store_close_database(store);
    }
    open_gate(&store->gate);
    if (status == STATUS_OK)
        log_info("store_reopened", "directory=%s sequence=%" PRIu64 " seconds=%.3f",
                 store->directory, store_sequence(store),
                 (double)(clock_now_us() - began_us) / 1e6);
    return status;
}
