// SPDX-License-Identifier: Apache-2.0
// Opening, closing, errors, metadata and generations. Everything that RocksDB reports becomes
// a status here; its handles must all be destroyed before rocksdb_close(), which aborts
// otherwise (Debian builds it with assertions).
//
// Recovery of the write-ahead log tolerates an incomplete last record and nothing else: a damaged
// record in the middle would take acknowledged records with it, so the node then refuses to
// start instead of forgetting them.

#include "shard_node/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rocksdb/c.h>

#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "shard_node/disk_error.h"
#include "shard_node/store_internal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rows are stored as they lie in memory");

#define CACHE_BYTES (64u << 20)
#define MEMTABLE_BYTES (32u << 20)
#define WAL_BYTES_MAX (256u << 20)
#define RECOVERY_TOLERATES_TORN_TAIL 0 // rocksdb::WALRecoveryMode
// RocksDB keeps a text log of its own and aborts when it writes to it after an earlier failure
// (disk full): headers at opening only, never a line later. What matters comes back as errors.
#define INFO_LOG_SILENT 5
#define META_FORMAT "format"
#define META_IDENTITY "identity"
#define META_SEQUENCE "sequence"
#define META_GENERATION "generation/" // and the number, u32 big-endian
#define META_GENERATION_BYTES (sizeof(META_GENERATION) - 1 + 4)
#define META_GENERATION_FIXED 17 // dropped u8, number, dimension, vshards, own_count u32

const char *const store_family_names[STORE_FAMILIES] = {"default", "vec", "doc", "key",
                                                        "hidden",  "log", "meta"};

// --- errors

enum status store_translate(char *error, const char *doing, struct reason *why)
{
    if (!error)
        return STATUS_OK;

    enum status status = STATUS_INTERNAL;
    if (store_error_is_no_space(error))
        status = STATUS_EXHAUSTED;
    else if (strncmp(error, "Corruption", 10) == 0)
        status = STATUS_CORRUPT;
    else if (strncmp(error, "IO error", 8) == 0)
        status = STATUS_IO;
    reason_set(why, status, "store", "%s: %s", doing, error);
    rocksdb_free(error);
    return status;
}

enum status store_translate_write(struct store *store, char *error, const char *doing,
                                  struct reason *why)
{
    if (!error)
        return STATUS_OK;

    if (store_error_is_no_space(error))
        store_set_out_of_space(store, error);
    else
        store_set_read_only(store, error);
    return store_translate(error, doing, why);
}

void store_set_read_only(struct store *store, const char *reason)
{
    if (atomic_exchange(&store->read_only, true))
        return;

    char quoted[LOG_QUOTE_BYTES];
    log_error("store_read_only", "directory=%s reason=%s", store->directory,
              log_quote(reason, quoted));
}

bool store_is_read_only(const struct store *store)
{
    return atomic_load(&store->read_only);
}

// --- metadata

void store_meta_put(rocksdb_writebatch_t *batch, const struct store *store, struct text key,
                    const void *value, size_t bytes)
{
    uint8_t crc[STORE_CRC_BYTES];
    bytes_put_u32_le(crc, hash_crc32c(0, value, bytes));
    const char *const keys[] = {key.data};
    const size_t key_bytes[] = {key.bytes};
    const char *const values[] = {value, (const char *)crc};
    const size_t value_bytes[] = {bytes, sizeof(crc)};
    rocksdb_writebatch_putv_cf(batch, store->family[STORE_META], 1, keys, key_bytes, 2, values,
                               value_bytes);
}

enum status store_meta_get(struct store *store, struct text key, struct buffer *value,
                           struct reason *why)
{
    char *error = NULL;
    rocksdb_pinnableslice_t *slice = rocksdb_get_pinned_cf(
        store->db, store->read, store->family[STORE_META], key.data, key.bytes, &error);
    enum status status = store_translate(error, "reading the metadata", why);
    if (status != STATUS_OK)
        return status;
    if (!slice)
        return STATUS_NOT_FOUND;

    size_t bytes = 0;
    const char *data = rocksdb_pinnableslice_value(slice, &bytes);
    value->count = 0;
    if (bytes < STORE_CRC_BYTES ||
        bytes_get_u32_le((const uint8_t *)data + bytes - STORE_CRC_BYTES) !=
            hash_crc32c(0, data, bytes - STORE_CRC_BYTES))
        status = reason_set(why, STATUS_CORRUPT, "store", "metadata '%.*s' fails its checksum",
                            (int)key.bytes, key.data);
    else
        status = buffer_append(value, data, bytes - STORE_CRC_BYTES);
    rocksdb_pinnableslice_destroy(slice);
    return status;
}

static enum status meta_get_number(struct store *store, const char *key, uint64_t *out,
                                   struct reason *why)
{
    struct buffer value = {0};
    enum status status = store_meta_get(store, text_of(key), &value, why);
    if (status == STATUS_OK && value.count != sizeof(*out))
        status = reason_set(why, STATUS_CORRUPT, "store", "metadata '%s' has %zu bytes, not 8", key,
                            value.count);
    if (status == STATUS_OK)
        *out = bytes_get_u64_le(value.data);
    buffer_deinit(&value);
    return status;
}

static void meta_put_number(rocksdb_writebatch_t *batch, const struct store *store, const char *key,
                            uint64_t number)
{
    uint8_t value[8];
    bytes_put_u64_le(value, number);
    store_meta_put(batch, store, text_of(key), value, sizeof(value));
}

void store_put_sequence(rocksdb_writebatch_t *batch, const struct store *store, uint64_t sequence)
{
    meta_put_number(batch, store, META_SEQUENCE, sequence);
}

enum status store_write_synced(struct store *store, rocksdb_writebatch_t *batch, const char *doing,
                               struct reason *why)
{
    char *error = NULL;
    const int64_t began_us = clock_now_us();
    rocksdb_write(store->db, store->write, batch, &error);
    metric_observe(store->fsync_seconds, 0, (double)(clock_now_us() - began_us) / 1e6);
    return store_translate_write(store, error, doing, why);
}

enum status store_load_identity(struct store *store, struct reason *why)
{
    uint64_t format = 0;
    enum status status = meta_get_number(store, META_FORMAT, &format, why);
    if (status == STATUS_NOT_FOUND) {
        if (getrandom(&store->identity, sizeof(store->identity), 0) !=
            (ssize_t)sizeof(store->identity))
            return disk_error("store", "get random numbers for", store->directory, why);
        rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
        meta_put_number(batch, store, META_FORMAT, STORE_FORMAT);
        meta_put_number(batch, store, META_IDENTITY, store->identity);
        store_put_sequence(batch, store, 0);
        status = store_write_synced(store, batch, "creating the store", why);
        rocksdb_writebatch_destroy(batch);
        return status;
    }
    if (status != STATUS_OK)
        return status;
    if (format > STORE_FORMAT)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "store",
                          "%s has format %llu; this program reads up to %u: use a newer one",
                          store->directory, (unsigned long long)format, STORE_FORMAT);

    uint64_t sequence = 0;
    status = meta_get_number(store, META_IDENTITY, &store->identity, why);
    if (status == STATUS_OK)
        status = meta_get_number(store, META_SEQUENCE, &sequence, why);
    if (status == STATUS_NOT_FOUND)
        return reason_set(why, STATUS_CORRUPT, "store",
                          "%s has a format but no identity or sequence", store->directory);
    if (status == STATUS_OK)
        atomic_store(&store->sequence, sequence);
    return status;
}

// --- opening

rocksdb_options_t *store_options_of(const struct store *store, enum store_family family)
{
    return store->family_options[family] ? store->family_options[family] : store->options;
}

static void set_tables(rocksdb_options_t *options, rocksdb_cache_t *cache, size_t block_bytes)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_block_size(table, block_bytes);
    rocksdb_block_based_options_set_filter_policy(table,
                                                  rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_block_based_options_set_format_version(table, 5);
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
}

static rocksdb_options_t *new_options(int compression)
{
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_write_buffer_size(options, MEMTABLE_BYTES);
    rocksdb_options_set_compression(options, compression);
    // A bulk load puts sorted files beside each other: many of them on level 0 are no alarm.
    rocksdb_options_set_level0_file_num_compaction_trigger(options, 8);
    rocksdb_options_set_level0_slowdown_writes_trigger(options, 48);
    rocksdb_options_set_level0_stop_writes_trigger(options, 96);
    rocksdb_options_set_max_bytes_for_level_base(options, 1ull << 30);
    rocksdb_options_set_target_file_size_base(options, 256ull << 20);
    return options;
}

static void make_options(struct store *store, int open_files_max)
{
    store->cache = rocksdb_cache_create_lru(CACHE_BYTES);
    store->options = new_options(rocksdb_lz4_compression);
    set_tables(store->options, store->cache, 4096);
    rocksdb_options_set_create_if_missing(store->options, 1);
    rocksdb_options_set_create_missing_column_families(store->options, 1);
    rocksdb_options_set_max_background_jobs(store->options, 2);
    if (open_files_max > 0)
        rocksdb_options_set_max_open_files(store->options, open_files_max);
    rocksdb_options_set_max_total_wal_size(store->options, WAL_BYTES_MAX);
    // All memtables together, so that what opening writes out has room where the reserve was.
    rocksdb_options_set_db_write_buffer_size(store->options,
                                             (size_t)store_reserve_bytes(store) / 4 * 3);
    rocksdb_options_set_bytes_per_sync(store->options, 1u << 20);
    rocksdb_options_set_wal_recovery_mode(store->options, RECOVERY_TOLERATES_TORN_TAIL);
    rocksdb_options_set_info_log_level(store->options, INFO_LOG_SILENT);
    rocksdb_options_set_keep_log_file_num(store->options, 4);
    rocksdb_options_set_max_manifest_file_size(store->options, 16u << 20);
    rocksdb_options_set_stats_dump_period_sec(store->options, 0);
    rocksdb_options_set_stats_persist_period_sec(store->options, 0);

    // Rows of halves do not compress; 16 KiB hold eight records of 512 dimensions.
    store->family_options[STORE_VEC] = new_options(rocksdb_no_compression);
    set_tables(store->family_options[STORE_VEC], store->cache, 16384);

    store->family_options[STORE_DOC] = new_options(rocksdb_lz4_compression);
    set_tables(store->family_options[STORE_DOC], store->cache, 16384);
    rocksdb_options_set_enable_blob_files(store->family_options[STORE_DOC], 1);
    rocksdb_options_set_min_blob_size(store->family_options[STORE_DOC], 1024);
    rocksdb_options_set_blob_compression_type(store->family_options[STORE_DOC],
                                              rocksdb_lz4_compression);
    rocksdb_options_set_enable_blob_gc(store->family_options[STORE_DOC], 1);

    store->read = rocksdb_readoptions_create();
    store->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(store->write, 1);
}

static enum status make_directory(const char *path, struct reason *why)
{
    struct stat there;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return disk_error("directory", "make", path, why);
    if (stat(path, &there) == 0 && !S_ISDIR(there.st_mode))
        return reason_set(why, STATUS_INVALID, "directory", "%s is a file; a folder is allowed",
                          path);
    return STATUS_OK;
}

// One process at a time. The lock belongs to the open file and ends with the process.
static enum status lock_directory(struct store *store, struct reason *why)
{
    char path[STORE_PATH_BYTES + 8];
    (void)snprintf(path, sizeof(path), "%s/LOCK", store->directory);
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return disk_error("store", "open", path, why);

    char holder[32] = {0};
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        const ssize_t count = pread(fd, holder, sizeof(holder) - 1, 0);
        holder[count > 0 ? strcspn(holder, "\n") : 0] = '\0';
        close(fd);
        return reason_set(why, STATUS_FAILED_PRECONDITION, "store",
                          "%s is in use by process %s; one process at a time may hold it",
                          store->directory, holder[0] ? holder : "(unknown)");
    }
    const int count = snprintf(holder, sizeof(holder), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, holder, (size_t)count, 0) != count)
        log_warn("lock_unnamed", "path=%s", path); // only the holder's name is lost
    store->lock_fd = fd;
    return STATUS_OK;
}

enum status store_open_database(struct store *store, bool reading, struct reason *why)
{
    char path[STORE_PATH_BYTES + 8];
    (void)snprintf(path, sizeof(path), "%s/store", store->directory);
    const rocksdb_options_t *options[STORE_FAMILIES];
    for (int f = 0; f < STORE_FAMILIES; f++)
        options[f] = store_options_of(store, (enum store_family)f);

    char *error = NULL;
    if (reading)
        store->db = rocksdb_open_for_read_only_column_families(store->options, path, STORE_FAMILIES,
                                                               store_family_names, options,
                                                               store->family, 0, &error);
    else
        store->db =
            rocksdb_open_column_families(store->options, path, STORE_FAMILIES, store_family_names,
                                         options, store->family, &error);
    return store_translate(error, "opening the store", why);
}

void store_close_database(struct store *store)
{
    if (!store->db)
        return;
    rocksdb_cancel_all_background_work(store->db, 1);
    for (int f = 0; f < STORE_FAMILIES; f++)
        rocksdb_column_family_handle_destroy(store->family[f]);
    rocksdb_close(store->db);
    store->db = NULL;
}

// What was kept back is for a disk that filled up while nobody was here, too.
static enum status open_with_reserve(struct store *store, struct reason *why)
{
    enum status status = store_open_database(store, false, why);
    if (status != STATUS_EXHAUSTED)
        return status;
    store_give_up_reserve(store);
    return store_open_database(store, false, why);
}

enum status store_open(const struct store_params *params, struct store **out, struct reason *why)
{
    struct store *store = mem_alloc(sizeof(*store));
    store->lock_fd = -1;
    store_gate_init(&store->gate);
    store->disk_throttle_percent =
        params->disk_throttle_percent ? params->disk_throttle_percent : STORE_DISK_THROTTLE_PERCENT;
    store->disk_full_percent =
        params->disk_full_percent ? params->disk_full_percent : STORE_DISK_FULL_PERCENT;

    enum status status = STATUS_OK;
    const int used = snprintf(store->directory, sizeof(store->directory), "%s", params->directory);
    const int bulk = snprintf(store->bulk_directory, sizeof(store->bulk_directory), "%s/bulk",
                              params->directory);
    if (used < 1 || used >= STORE_PATH_BYTES - 64 || bulk < 1)
        status =
            reason_set(why, STATUS_INVALID, "directory",
                       "the path has %d bytes; 1 to %d are allowed", used, STORE_PATH_BYTES - 65);
    if (status == STATUS_OK)
        status = make_directory(store->directory, why);
    if (status == STATUS_OK)
        status = lock_directory(store, why);
    if (status == STATUS_OK)
        status = make_directory(store->bulk_directory, why);
    if (status == STATUS_OK) {
        make_options(store, params->open_files_max);
        status = open_with_reserve(store, why);
    }
    if (status == STATUS_OK)
        status = store_load_identity(store, why);
    if (status == STATUS_OK)
        status = store_bulk_recover(store, why);
    if (status != STATUS_OK) {
        store_close(&store);
        return status;
    }
    (void)store_disk_level(store); // makes the reserve
    *out = store;
    return STATUS_OK;
}

void store_close(struct store **store_pointer)
{
    struct store *store = *store_pointer;
    if (!store)
        return;

    store_close_database(store);
    if (store->options) {
        for (int f = 0; f < STORE_FAMILIES; f++) {
            if (store->family_options[f])
                rocksdb_options_destroy(store->family_options[f]);
        }
        rocksdb_options_destroy(store->options);
        rocksdb_cache_destroy(store->cache);
        rocksdb_readoptions_destroy(store->read);
        rocksdb_writeoptions_destroy(store->write);
    }
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    store_gate_deinit(&store->gate);
    mem_free(store);
    *store_pointer = NULL;
}

uint64_t store_identity(const struct store *store)
{
    return store->identity;
}

uint64_t store_sequence(const struct store *store)
{
    return atomic_load(&store->sequence);
}

// Over all families.
static uint64_t sum_properties(const struct store *store, const char *const *properties,
                               size_t count)
{
    uint64_t sum = 0;
    for (int f = 0; f < STORE_FAMILIES; f++) {
        for (size_t p = 0; p < count; p++) {
            uint64_t bytes = 0;
            if (rocksdb_property_int_cf(store->db, store->family[f], properties[p], &bytes) == 0)
                sum += bytes;
        }
    }
    return sum;
}

uint64_t store_bytes(struct store *store)
{
    static const char *const properties[] = {"rocksdb.live-sst-files-size",
                                             "rocksdb.live-blob-file-size",
                                             "rocksdb.cur-size-all-mem-tables"};
    if (store_enter(store, NULL) != STATUS_OK)
        return 0;
    const uint64_t sum = sum_properties(store, properties, 3);
    store_leave(store);
    return sum;
}

uint64_t store_memory(struct store *store)
{
    static const char *const properties[] = {"rocksdb.cur-size-all-mem-tables",
                                             "rocksdb.estimate-table-readers-mem"};
    if (store_enter(store, NULL) != STATUS_OK)
        return 0;
    const uint64_t sum =
        sum_properties(store, properties, 2) + rocksdb_cache_get_usage(store->cache);
    store_leave(store);
    return sum;
}

uint64_t store_generation_bytes(struct store *store, uint32_t number)
{
    char from[4];
    char to[4];
    bytes_put_u32_be((uint8_t *)from, number);
    bytes_put_u32_be((uint8_t *)to, number + 1);
    const char *const starts[] = {from};
    const char *const limits[] = {to};
    const size_t lengths[] = {sizeof(from)};
    uint64_t sum = 0;
    if (store_enter(store, NULL) != STATUS_OK)
        return 0;
    for (int f = STORE_VEC; f <= STORE_LOG; f++) {
        uint64_t bytes = 0;
        char *error = NULL;
        rocksdb_approximate_sizes_cf(store->db, store->family[f], 1, starts, lengths, limits,
                                     lengths, &bytes, &error);
        if (store_translate(error, "estimating sizes", NULL) == STATUS_OK)
            sum += bytes;
    }
    store_leave(store);
    return sum;
}

// --- generations

static void generation_key(uint32_t number, char key[META_GENERATION_BYTES])
{
    memcpy(key, META_GENERATION, sizeof(META_GENERATION) - 1);
    bytes_put_u32_be((uint8_t *)key + sizeof(META_GENERATION) - 1, number);
}

static size_t encode_generation(const struct store_generation *generation, uint8_t *value)
{
    value[0] = generation->dropped ? 1 : 0;
    bytes_put_u32_le(value + 1, generation->number);
    bytes_put_u32_le(value + 5, generation->dimension);
    bytes_put_u32_le(value + 9, generation->vshards);
    bytes_put_u32_le(value + 13, generation->own_count);
    for (uint32_t i = 0; i < generation->own_count; i++)
        bytes_put_u16_be(value + META_GENERATION_FIXED + 2 * (size_t)i, generation->own[i]);
    return META_GENERATION_FIXED + 2 * (size_t)generation->own_count;
}

static bool decode_generation(const uint8_t *value, size_t bytes, struct store_generation *out)
{
    if (bytes < META_GENERATION_FIXED)
        return false;

    out->dropped = value[0] != 0;
    out->number = bytes_get_u32_le(value + 1);
    out->dimension = bytes_get_u32_le(value + 5);
    out->vshards = bytes_get_u32_le(value + 9);
    out->own_count = bytes_get_u32_le(value + 13);
    if (out->own_count > VSHARDS_MAX || bytes != META_GENERATION_FIXED + 2 * (size_t)out->own_count)
        return false;
    for (uint32_t i = 0; i < out->own_count; i++)
        out->own[i] = bytes_get_u16_be(value + META_GENERATION_FIXED + 2 * (size_t)i);
    if (out->dropped)
        return true;
    return out->dimension >= 1 && out->dimension <= DIMENSION_MAX && out->vshards >= 1 &&
           out->vshards <= VSHARDS_MAX && out->own_count <= out->vshards;
}

static enum status see_generation(rocksdb_iterator_t *at, struct store_generation *generation,
                                  struct reason *why)
{
    size_t bytes = 0;
    const uint8_t *value = (const uint8_t *)rocksdb_iter_value(at, &bytes);
    if (bytes < STORE_CRC_BYTES ||
        bytes_get_u32_le(value + bytes - STORE_CRC_BYTES) !=
            hash_crc32c(0, value, bytes - STORE_CRC_BYTES) ||
        !decode_generation(value, bytes - STORE_CRC_BYTES, generation))
        return reason_set(why, STATUS_CORRUPT, "store", "the entry of a generation is damaged");
    return STATUS_OK;
}

enum status store_list_generations(struct store *store, store_generation_seen seen, void *context,
                                   struct reason *why)
{
    struct store_generation *generation = mem_alloc(sizeof(*generation));
    rocksdb_iterator_t *at =
        rocksdb_create_iterator_cf(store->db, store->read, store->family[STORE_META]);
    rocksdb_iter_seek(at, META_GENERATION, sizeof(META_GENERATION) - 1);

    enum status status = STATUS_OK;
    while (status == STATUS_OK && rocksdb_iter_valid(at)) {
        size_t bytes = 0;
        const char *key = rocksdb_iter_key(at, &bytes);
        if (bytes != META_GENERATION_BYTES ||
            memcmp(key, META_GENERATION, sizeof(META_GENERATION) - 1) != 0)
            break;
        status = see_generation(at, generation, why);
        if (status == STATUS_OK)
            seen(context, generation);
        rocksdb_iter_next(at);
    }
    char *error = NULL;
    rocksdb_iter_get_error(at, &error);
    rocksdb_iter_destroy(at);
    mem_free(generation);
    const enum status walked = store_translate(error, "listing the generations", why);
    return status == STATUS_OK ? walked : status;
}

static void put_generation(rocksdb_writebatch_t *batch, const struct store *store,
                           const struct store_generation *generation)
{
    char key[META_GENERATION_BYTES];
    uint8_t value[META_GENERATION_FIXED + 2 * VSHARDS_MAX];
    generation_key(generation->number, key);
    const size_t bytes = encode_generation(generation, value);
    store_meta_put(batch, store, (struct text){key, sizeof(key)}, value, bytes);
}

enum status store_create_generation(struct store *store, const struct store_generation *generation,
                                    struct reason *why)
{
    assert(generation->number >= 1 && generation->own_count <= VSHARDS_MAX);

    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    put_generation(batch, store, generation);
    const enum status status = store_write_synced(store, batch, "creating a generation", why);
    rocksdb_writebatch_destroy(batch);
    return status;
}

enum status store_drop_generation(struct store *store, uint32_t number, struct reason *why)
{
    assert(number >= 1 && number < UINT32_MAX);

    struct store_generation *gone = mem_alloc(sizeof(*gone));
    gone->number = number;
    gone->dropped = true;
    char from[4];
    char to[4];
    bytes_put_u32_be((uint8_t *)from, number);
    bytes_put_u32_be((uint8_t *)to, number + 1);

    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    put_generation(batch, store, gone);
    for (int f = STORE_VEC; f <= STORE_LOG; f++)
        rocksdb_writebatch_delete_range_cf(batch, store->family[f], from, sizeof(from), to,
                                           sizeof(to));
    const enum status status = store_write_synced(store, batch, "dropping a generation", why);
    rocksdb_writebatch_destroy(batch);
    mem_free(gone);
    if (status != STATUS_OK)
        return status;

    // Whole files go at once; what shares a file with others goes with the next compaction.
    for (int f = STORE_VEC; f <= STORE_LOG; f++) {
        char *error = NULL;
        rocksdb_delete_file_in_range_cf(store->db, store->family[f], from, sizeof(from), to,
                                        sizeof(to), &error);
        struct reason ignored;
        if (store_translate(error, "freeing space", &ignored) != STATUS_OK)
            log_warn("drop_frees_later", "generation=%u error=%s", number, ignored.text);
    }
    return STATUS_OK;
}
