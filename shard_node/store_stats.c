// SPDX-License-Identifier: Apache-2.0
// What RocksDB and the file system say about the store, by the column families that hold something.

#include <assert.h>
#include <string.h>
#include <sys/statvfs.h>

#include <rocksdb/c.h>

#include "shard_node/store_internal.h"

const char *const store_stats_families[STORE_STATS_FAMILIES] = {"vec",    "doc", "key",
                                                                "hidden", "log", "meta"};

static const char *const properties[STORE_STATS] = {
    [STORE_STAT_SST_BYTES] = "rocksdb.total-sst-files-size",
    [STORE_STAT_MEMTABLE_BYTES] = "rocksdb.cur-size-all-mem-tables",
    [STORE_STAT_PENDING_COMPACTION_BYTES] = "rocksdb.estimate-pending-compaction-bytes",
    [STORE_STAT_LEVEL0_FILES] = "rocksdb.num-files-at-level0",
    [STORE_STAT_BLOB_BYTES] = "rocksdb.live-blob-file-size",
    [STORE_STAT_BLOB_GARBAGE_BYTES] = "rocksdb.live-blob-file-garbage-size",
};

void store_time_writes(struct store *store, struct metric *seconds)
{
    store->fsync_seconds = seconds;
}

static double disk_used(const struct store *store)
{
    struct statvfs disk;
    if (statvfs(store->directory, &disk) != 0 || disk.f_blocks == disk.f_bfree)
        return -1;
    const double used = (double)(disk.f_blocks - disk.f_bfree);
    return used / (used + (double)disk.f_bavail);
}

// Some are texts, not integers: "rocksdb.num-files-at-level0".
static uint64_t property(const struct store *store, enum store_family family, const char *name)
{
    uint64_t value = 0;
    if (rocksdb_property_int_cf(store->db, store->family[family], name, &value) == 0)
        return value;
    char *text = rocksdb_property_value_cf(store->db, store->family[family], name);
    for (const char *at = text; at && *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (uint64_t)(*at - '0');
    rocksdb_free(text);
    return value;
}

void store_statistics(struct store *store, struct store_stats *out)
{
    _Static_assert(STORE_STATS_FAMILIES == STORE_FAMILIES - 1, "all but the default one");
    assert(store && out);

    *out = (struct store_stats){
        .crc_errors = atomic_load(&store->crc_errors),
        .disk_used = disk_used(store),
    };
    if (store_enter(store, NULL) != STATUS_OK)
        return;
    out->has_database = true;
    out->background_errors = property(store, STORE_DEFAULT, "rocksdb.background-errors");
    out->write_stopped = property(store, STORE_DEFAULT, "rocksdb.is-write-stopped") != 0;
    for (size_t i = 0; i < STORE_STATS; i++)
        for (size_t family = 0; family < STORE_STATS_FAMILIES; family++)
            out->family[i][family] =
                property(store, (enum store_family)(STORE_VEC + family), properties[i]);
    store_leave(store);
}
