// SPDX-License-Identifier: Apache-2.0
// Goal: the store gives back exactly what it was given, says so when it cannot, and forgets
// nothing that it acknowledged.
//
// Method: a fresh directory for each test; reopening; records written with a wrong checksum, bytes
// changed on disk, a write-ahead log damaged in the middle, a file size limit in place of a broken
// disk.

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/hash.h"
#include "shard_node/store.h"

#define DIMENSION 64
#define GENERATION 9

static char directory[64];

static void make_directory(void)
{
    strcpy(directory, "test-store-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(directory), NULL));
}

static void remove_directory(void)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", directory);
    cr_expect(eq(int, system(command), 0));
}

TestSuite(store, .init = make_directory, .fini = remove_directory);

static struct store *open_store(void)
{
    struct store *store = NULL;
    struct reason why = {0};
    const struct store_params params = {.directory = directory};
    cr_assert(eq(int, store_open(&params, &store, &why), STATUS_OK), "%s", why.text);
    return store;
}

// A record whose content follows from its id and a version.
struct sample {
    uint16_t image[DIMENSION];
    uint16_t text[DIMENSION];
    char key[32];
    char caption[64];
    struct store_record record;
};

static void fill(struct sample *sample, uint64_t id, uint32_t version)
{
    for (size_t i = 0; i < DIMENSION; i++) {
        sample->image[i] = (uint16_t)((id * 131 + version * 17 + i) & 0x3bff);
        sample->text[i] = (uint16_t)((id * 37 + version * 5 + i * 3) & 0x3bff);
    }
    (void)snprintf(sample->key, sizeof(sample->key), "key-%" PRIu64, id);
    (void)snprintf(sample->caption, sizeof(sample->caption), "caption %" PRIu64 " v%" PRIu32, id,
                   version);
    sample->record = (struct store_record){
        .place = {GENERATION, (uint16_t)(id % 4), id},
        .dimension = DIMENSION,
        .image = sample->image,
        .text = sample->text,
        .rows_crc = store_rows_crc(sample->image, sample->text, DIMENSION),
        .key = text_of(sample->key),
        .caption = text_of(sample->caption),
        .source = text_of("somewhere"),
        .tags = text_of("a\x1f"
                        "b"),
    };
}

static void put(struct store *store, uint64_t id, uint32_t version)
{
    struct sample sample;
    fill(&sample, id, version);
    struct store_batch *batch = store_batch_begin(store);
    store_batch_put(batch, &sample.record);
    struct reason why = {0};
    cr_assert(eq(int, store_batch_commit(&batch, &why), STATUS_OK), "%s", why.text);
}

static void expect_record(struct store *store, uint64_t id, uint32_t version)
{
    struct sample sample;
    fill(&sample, id, version);
    uint16_t rows[2 * DIMENSION];
    struct reason why = {0};
    const struct store_place place = sample.record.place;
    cr_assert(eq(int, store_read_rows(store, place, DIMENSION, rows, &why), STATUS_OK),
              "id %" PRIu64 ": %s", id, why.text);
    cr_expect(eq(int, memcmp(rows, sample.image, sizeof(sample.image)), 0));
    cr_expect(eq(int, memcmp(rows + DIMENSION, sample.text, sizeof(sample.text)), 0));

    struct arena *arena = arena_create(1 << 20);
    struct store_document document;
    cr_assert(eq(int, store_read_document(store, place, arena, &document, &why), STATUS_OK));
    cr_expect(text_equal(document.key, sample.record.key));
    cr_expect(text_equal(document.caption, sample.record.caption));
    cr_expect(text_equal(document.source, sample.record.source));
    cr_expect(text_equal(document.tags, sample.record.tags));
    struct text key;
    cr_assert(eq(int, store_read_key(store, place, arena, &key, &why), STATUS_OK));
    cr_expect(text_equal(key, sample.record.key));
    arena_destroy(&arena);
}

static void expect_absent(struct store *store, uint64_t id)
{
    uint16_t rows[2 * DIMENSION];
    struct reason why = {0};
    const struct store_place place = {GENERATION, (uint16_t)(id % 4), id};
    cr_expect(eq(int, store_read_rows(store, place, DIMENSION, rows, &why), STATUS_NOT_FOUND));
}

// `count` records of ascending place, ids first, first + 1 ...
static enum status bulk(struct store *store, uint64_t first, size_t count, uint32_t version,
                        struct reason *why)
{
    struct sample *samples = calloc(count, sizeof(*samples));
    struct store_record *records = calloc(count, sizeof(*records));
    size_t at = 0;
    for (size_t i = 0; i < count; i++)
        fill(&samples[i], first + i, version);
    for (uint64_t vshard = 0; vshard < 4; vshard++) {
        for (size_t i = 0; i < count; i++) {
            if ((first + i) % 4 == vshard)
                records[at++] = samples[i].record;
        }
    }
    const enum status status = store_bulk_write(store, records, count, why);
    free(samples);
    free(records);
    return status;
}

Test(store, gives_back_what_was_written_also_after_reopening)
{
    struct store *store = open_store();
    const uint64_t identity = store_identity(store);
    for (uint64_t id = 1; id <= 20; id++)
        put(store, id, 1);
    put(store, 7, 2);
    cr_expect(eq(u64, store_sequence(store), 21));
    expect_record(store, 7, 2);
    expect_record(store, 8, 1);
    expect_absent(store, 21);
    store_close(&store);
    cr_expect(eq(ptr, store, NULL));

    store = open_store();
    cr_expect(eq(u64, store_identity(store), identity));
    cr_expect(eq(u64, store_sequence(store), 21));
    expect_record(store, 7, 2);
    expect_record(store, 20, 1);
    store_close(&store);
}

Test(store, a_batch_is_one_thing_with_deletions_and_replacements_in_order)
{
    struct store *store = open_store();
    put(store, 1, 1);
    put(store, 2, 1);
    struct sample samples[3];
    struct store_batch *batch = store_batch_begin(store);
    store_batch_delete(batch, (struct store_place){GENERATION, 1, 1});
    fill(&samples[0], 2, 5);
    store_batch_put(batch, &samples[0].record);
    fill(&samples[1], 3, 1);
    store_batch_put(batch, &samples[1].record);
    store_batch_delete(batch, samples[1].record.place);
    cr_expect(eq(sz, store_batch_count(batch), 4));
    struct reason why;
    cr_assert(eq(int, store_batch_commit(&batch, &why), STATUS_OK));
    cr_expect(eq(ptr, batch, NULL));
    expect_absent(store, 1);
    expect_record(store, 2, 5);
    expect_absent(store, 3);
    cr_expect(eq(u64, store_sequence(store), 6));

    batch = store_batch_begin(store);
    fill(&samples[2], 4, 1);
    store_batch_put(batch, &samples[2].record);
    store_batch_cancel(&batch);
    expect_absent(store, 4);
    cr_expect(eq(u64, store_sequence(store), 6));
    store_close(&store);
}

struct seen {
    struct store_log_record records[32];
    size_t count;
};

static bool note(void *context, const struct store_log_record *record)
{
    struct seen *seen = context;
    cr_assert(lt(sz, seen->count, 32));
    seen->records[seen->count++] = *record;
    return true;
}

Test(store, the_log_names_every_change_behind_a_sequence)
{
    struct store *store = open_store();
    put(store, 4, 1);
    put(store, 5, 1);
    struct store_batch *batch = store_batch_begin(store);
    store_batch_delete(batch, (struct store_place){GENERATION, 0, 4});
    struct reason why = {0};
    cr_assert(eq(int, store_batch_commit(&batch, &why), STATUS_OK));
    cr_assert(eq(int, bulk(store, 100, 10, 1, &why), STATUS_OK), "%s", why.text);

    struct store_generation generation = {
        .number = GENERATION, .dimension = DIMENSION, .vshards = 4, .own_count = 4};
    for (uint16_t v = 0; v < 4; v++)
        generation.own[v] = v;
    struct seen seen = {0};
    cr_assert(eq(int, store_read_log(store, &generation, 1, note, &seen, &why), STATUS_OK));
    cr_assert(eq(sz, seen.count, 3)); // the bulk load first, then vshard by vshard
    cr_expect(eq(int, seen.records[0].operation, STORE_BULK));
    cr_expect(eq(u64, seen.records[0].id, 10));
    cr_expect(eq(u64, seen.records[0].sequence, 4));
    cr_expect(eq(int, seen.records[1].operation, STORE_DELETE));
    cr_expect(eq(u64, seen.records[1].id, 4));
    cr_expect(eq(u64, seen.records[1].sequence, 3));
    cr_expect(eq(int, seen.records[2].operation, STORE_PUT));
    cr_expect(eq(u64, seen.records[2].id, 5));
    cr_expect(eq(u32, seen.records[2].epoch, STORE_EPOCH));
    struct sample sample;
    fill(&sample, 5, 1);
    cr_expect(eq(u32, seen.records[2].rows_crc, sample.record.rows_crc));
    store_close(&store);
}

Test(store, a_bulk_load_replaces_and_is_there_after_reopening)
{
    struct store *store = open_store();
    put(store, 105, 1);
    struct reason why = {0};
    cr_assert(eq(int, bulk(store, 100, 3000, 2, &why), STATUS_OK), "%s", why.text);
    put(store, 106, 3);
    expect_record(store, 105, 2);
    expect_record(store, 106, 3);
    cr_assert(eq(int, bulk(store, 2000, 3000, 4, &why), STATUS_OK), "%s", why.text);
    store_close(&store);
    store = open_store();
    for (uint64_t id = 100; id < 5000; id += 7)
        expect_record(store, id, id == 106 ? 3 : id >= 2000 ? 4 : 2);
    expect_absent(store, 5000);
    store_close(&store);
}

Test(store, a_cursor_walks_one_generation_in_order)
{
    struct store *store = open_store();
    struct reason why = {0};
    for (uint64_t id = 0; id < 10; id++)
        put(store, id, 1);
    struct sample other;
    fill(&other, 1, 1);
    other.record.place.generation = GENERATION + 1;
    struct store_batch *batch = store_batch_begin(store);
    store_batch_put(batch, &other.record);
    cr_assert(eq(int, store_batch_commit(&batch, &why), STATUS_OK));

    struct store_cursor *cursor = store_cursor_begin(store, GENERATION, DIMENSION);
    struct store_cursor_row row;
    static const uint64_t expected[] = {0, 4, 8, 1, 5, 9, 2, 6, 3, 7};
    for (size_t i = 0; i < 10; i++) {
        cr_assert(eq(int, store_cursor_next(cursor, &row, &why), STATUS_OK));
        cr_expect(eq(u64, row.place.id, expected[i]));
        struct sample sample;
        fill(&sample, row.place.id, 1);
        cr_expect(eq(u32, row.crc, sample.record.rows_crc));
        cr_expect(eq(int, memcmp(row.rows, sample.image, sizeof(sample.image)), 0));
    }
    cr_expect(eq(int, store_cursor_next(cursor, &row, &why), STATUS_NOT_FOUND));
    cr_expect(eq(int, store_cursor_next(cursor, &row, &why), STATUS_NOT_FOUND));
    store_cursor_end(&cursor);

    cursor = store_cursor_begin(store, GENERATION + 2, DIMENSION);
    cr_expect(eq(int, store_cursor_next(cursor, &row, &why), STATUS_NOT_FOUND));
    store_cursor_end(&cursor);
    store_close(&store);
}

Test(store, a_record_with_a_wrong_checksum_is_named_and_skipped)
{
    struct store *store = open_store();
    put(store, 1, 1);
    put(store, 9, 1);
    struct sample sample;
    fill(&sample, 5, 1);
    sample.record.rows_crc ^= 1;
    struct store_batch *batch = store_batch_begin(store);
    store_batch_put(batch, &sample.record);
    struct reason why = {0};
    cr_assert(eq(int, store_batch_commit(&batch, &why), STATUS_OK));

    uint16_t rows[2 * DIMENSION];
    cr_expect(eq(int, store_read_rows(store, sample.record.place, DIMENSION, rows, &why),
                 STATUS_CORRUPT));
    cr_expect(ne(ptr, strstr(why.text, "0000000000000005"), NULL));

    struct store_cursor *cursor = store_cursor_begin(store, GENERATION, DIMENSION);
    struct store_cursor_row row;
    cr_expect(eq(int, store_cursor_next(cursor, &row, &why), STATUS_OK));
    cr_expect(eq(int, store_cursor_next(cursor, &row, &why), STATUS_CORRUPT));
    cr_expect(eq(u64, row.place.id, 5));
    cr_expect(eq(int, store_cursor_next(cursor, &row, &why), STATUS_OK));
    cr_expect(eq(u64, row.place.id, 9));
    cr_expect(eq(int, store_cursor_next(cursor, &row, &why), STATUS_NOT_FOUND));
    store_cursor_end(&cursor);

    // Another dimension than the one written is damage, too.
    cr_expect(eq(
        int,
        store_read_rows(store, (struct store_place){GENERATION, 1, 1}, DIMENSION - 1, rows, &why),
        STATUS_CORRUPT));
    store_close(&store);
}

// The largest file of the database whose name ends so.
static void find_file(const char *ending, char path[512])
{
    char folder[128];
    (void)snprintf(folder, sizeof(folder), "%s/store", directory);
    DIR *stream = opendir(folder);
    off_t largest = -1;
    for (struct dirent *entry = readdir(stream); entry; entry = readdir(stream)) {
        const size_t length = strlen(entry->d_name);
        if (length < strlen(ending) || strcmp(entry->d_name + length - strlen(ending), ending) != 0)
            continue;
        char candidate[512];
        (void)snprintf(candidate, sizeof(candidate), "%s/%s", folder, entry->d_name);
        struct stat about;
        if (stat(candidate, &about) == 0 && about.st_size > largest) {
            largest = about.st_size;
            strcpy(path, candidate);
        }
    }
    closedir(stream);
    cr_assert(ge(i64, largest, 0));
}

static void damage(const char *path, double share)
{
    struct stat about;
    cr_assert(eq(int, stat(path, &about), 0));
    const off_t at = (off_t)((double)about.st_size * share);
    const int fd = open(path, O_RDWR);
    uint8_t byte = 0;
    cr_assert(eq(sz, pread(fd, &byte, 1, at), 1));
    byte ^= 0x10;
    cr_assert(eq(sz, pwrite(fd, &byte, 1, at), 1));
    close(fd);
}

Test(store, a_damaged_block_is_found_and_costs_little_more_than_itself)
{
    struct store *store = open_store();
    // Ids spread over 64 bits, as hashes are.
    const size_t count = 4000;
    struct sample *samples = calloc(count, sizeof(*samples));
    struct store_record *records = calloc(count, sizeof(*records));
    for (size_t i = 0; i < count; i++) {
        fill(&samples[i], i, 1);
        records[i] = samples[i].record;
        records[i].place.vshard = i < count / 2 ? 0 : 1;
        records[i].place.id = (uint64_t)(i % (count / 2)) * (UINT64_MAX / (count / 2));
    }
    struct reason why = {0};
    cr_assert(eq(int, store_bulk_write(store, records, count, &why), STATUS_OK));
    store_close(&store);
    free(samples);
    free(records);

    char path[512];
    find_file(".sst", path);
    damage(path, 0.3);
    damage(path, 0.6);

    store = open_store();
    struct store_cursor *cursor = store_cursor_begin(store, GENERATION, DIMENSION);
    struct store_cursor_row row;
    size_t good = 0;
    size_t bad = 0;
    for (;;) {
        const enum status status = store_cursor_next(cursor, &row, &why);
        if (status == STATUS_NOT_FOUND)
            break;
        cr_assert(status == STATUS_OK || status == STATUS_CORRUPT);
        good += status == STATUS_OK;
        bad += status == STATUS_CORRUPT;
        cr_assert(lt(sz, good + bad, 2 * count));
    }
    cr_expect(eq(sz, bad, 2));
    cr_expect(lt(sz, good, count));
    // A block of 16 KiB holds about 60 of these records; skipping may double that.
    cr_expect(ge(sz, good, count - 2 * 160), "%zu of %zu", good, count);
    store_cursor_end(&cursor);
    store_close(&store);
}

Test(store, refuses_to_open_when_the_log_lost_something_in_the_middle)
{
    struct store *store = open_store();
    for (uint64_t id = 0; id < 200; id++)
        put(store, id, 1);
    store_close(&store);
    char path[512];
    find_file(".log", path);
    damage(path, 0.5);

    const struct store_params params = {.directory = directory};
    struct reason why = {0};
    cr_expect(eq(int, store_open(&params, &store, &why), STATUS_CORRUPT));
    cr_expect(eq(ptr, store, NULL));
}

Test(store, an_incomplete_last_record_of_the_log_is_no_damage)
{
    struct store *store = open_store();
    for (uint64_t id = 0; id < 50; id++)
        put(store, id, 1);
    store_close(&store);
    char path[512];
    find_file(".log", path);
    struct stat about;
    cr_assert(eq(int, stat(path, &about), 0));
    cr_assert(eq(int, truncate(path, about.st_size - 20), 0));
    store = open_store();
    expect_record(store, 48, 1);
    expect_absent(store, 49);
    cr_expect(eq(u64, store_sequence(store), 49));
    put(store, 49, 2);
    expect_record(store, 49, 2);
    store_close(&store);
}

Test(store, belongs_to_one_at_a_time)
{
    struct store *store = open_store();
    const struct store_params params = {.directory = directory};
    struct store *second = NULL;
    struct reason why = {0};
    cr_expect(eq(int, store_open(&params, &second, &why), STATUS_FAILED_PRECONDITION));
    char pid[32];
    (void)snprintf(pid, sizeof(pid), "process %ld;", (long)getpid());
    cr_expect(ne(ptr, strstr(why.text, pid), NULL), "%s", why.text);

    const pid_t child = fork();
    if (child == 0) {
        struct store *third = NULL;
        _exit(store_open(&params, &third, NULL) == STATUS_FAILED_PRECONDITION ? 0 : 1);
    }
    int result = -1;
    waitpid(child, &result, 0);
    cr_expect(eq(int, result, 0));
    store_close(&store);
    store = open_store();
    store_close(&store);
}

Test(store, is_read_only_after_a_write_failed_and_still_reads)
{
    struct store *store = open_store();
    put(store, 1, 1);
    (void)signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {1, RLIM_INFINITY};
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
    struct sample sample;
    fill(&sample, 2, 1);
    struct store_batch *batch = store_batch_begin(store);
    store_batch_put(batch, &sample.record);
    struct reason why = {0};
    cr_expect(eq(int, store_batch_commit(&batch, &why), STATUS_IO));
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &none), 0));

    cr_expect(store_is_read_only(store));
    cr_expect(eq(int, store_may_write(store, false, &why), STATUS_FAILED_PRECONDITION));
    cr_expect(eq(int, store_may_write(store, true, &why), STATUS_FAILED_PRECONDITION));
    expect_record(store, 1, 1);
    cr_expect(eq(u64, store_sequence(store), 1));
    store_close(&store);

    store = open_store();
    cr_expect(eq(int, store_is_read_only(store), 0));
    expect_record(store, 1, 1);
    put(store, 2, 2);
    expect_record(store, 2, 2);
    store_close(&store);
}

Test(store, a_bulk_load_that_cannot_be_written_leaves_nothing)
{
    struct store *store = open_store();
    put(store, 100, 1);
    (void)signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {100000, RLIM_INFINITY};
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
    struct reason why = {0};
    cr_expect(eq(int, bulk(store, 100, 5000, 2, &why), STATUS_IO));
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &none), 0));
    cr_expect(store_is_read_only(store));
    expect_record(store, 100, 1);
    expect_absent(store, 101);
    store_close(&store);
    store = open_store();
    expect_record(store, 100, 1);
    expect_absent(store, 101);
    cr_assert(eq(int, bulk(store, 100, 5000, 3, &why), STATUS_OK), "%s", why.text);
    expect_record(store, 5099, 3);
    store_close(&store);
}

Test(store, a_full_disk_refuses_writes_and_allows_deletions)
{
    const struct store_params params = {.directory = directory, .disk_full_percent = 1};
    struct store *store = NULL;
    struct reason why = {0};
    cr_assert(eq(int, store_open(&params, &store, &why), STATUS_OK));
    cr_expect(eq(int, store_may_write(store, false, &why), STATUS_EXHAUSTED));
    cr_expect(ne(ptr, strstr(why.text, "1 %"), NULL));
    cr_expect(eq(int, store_may_write(store, true, &why), STATUS_OK));
    store_close(&store);
}

struct listed {
    struct store_generation all[8];
    size_t count;
};

static void list(void *context, const struct store_generation *generation)
{
    struct listed *listed = context;
    cr_assert(lt(sz, listed->count, 8));
    listed->all[listed->count++] = *generation;
}

Test(store, generations_come_back_and_a_dropped_one_is_gone_for_good)
{
    struct store *store = open_store();
    struct reason why = {0};
    static struct store_generation generation = {
        .number = GENERATION, .dimension = DIMENSION, .vshards = 4, .own_count = 2, .own = {1, 3}};
    cr_assert(eq(int, store_create_generation(store, &generation, &why), STATUS_OK));
    generation.number = 300;
    cr_assert(eq(int, store_create_generation(store, &generation, &why), STATUS_OK));
    put(store, 5, 1);
    cr_assert(eq(int, bulk(store, 1000, 3000, 1, &why), STATUS_OK));
    cr_assert(eq(int, store_drop_generation(store, GENERATION, &why), STATUS_OK));
    expect_absent(store, 5);
    expect_absent(store, 1001);
    store_close(&store);

    store = open_store();
    static struct listed listed;
    cr_assert(eq(int, store_list_generations(store, list, &listed, &why), STATUS_OK));
    cr_assert(eq(sz, listed.count, 2));
    cr_expect(listed.all[0].dropped);
    cr_expect(eq(u32, listed.all[0].number, GENERATION));
    cr_expect(eq(int, listed.all[1].dropped, 0));
    cr_expect(eq(u32, listed.all[1].number, 300));
    cr_expect(eq(u32, listed.all[1].dimension, DIMENSION));
    cr_expect(eq(u32, listed.all[1].own_count, 2));
    cr_expect(eq(u32, listed.all[1].own[1], 3));
    expect_absent(store, 1001);
    struct store_cursor *cursor = store_cursor_begin(store, GENERATION, DIMENSION);
    struct store_cursor_row row;
    cr_expect(eq(int, store_cursor_next(cursor, &row, &why), STATUS_NOT_FOUND));
    store_cursor_end(&cursor);
    store_close(&store);
}

Test(store, a_document_is_read_exactly_or_not_at_all)
{
    // {"k", "", "src", "t"} by hand.
    uint8_t value[8 + 5 + 4] = {1, 0, 0, 0, 3, 0, 1, 0, 'k', 's', 'r', 'c', 't'};
    bytes_put_u32_le(value + 13, hash_crc32c(0, value, 13));
    struct store_document document;
    cr_assert(
        eq(int, store_decode_document((struct bytes){value, sizeof(value)}, &document), STATUS_OK));
    cr_expect(text_equal(document.key, text_of("k")));
    cr_expect(eq(sz, document.caption.bytes, 0));
    cr_expect(text_equal(document.source, text_of("src")));
    cr_expect(text_equal(document.tags, text_of("t")));

    for (size_t i = 0; i < sizeof(value); i++) {
        value[i] ^= 4;
        cr_expect(eq(int, store_decode_document((struct bytes){value, sizeof(value)}, &document),
                     STATUS_CORRUPT));
        value[i] ^= 4;
    }
    for (size_t bytes = 0; bytes < sizeof(value); bytes++)
        cr_expect(eq(int, store_decode_document((struct bytes){value, bytes}, &document),
                     STATUS_CORRUPT));
    // A good checksum over lengths that do not add up.
    for (uint8_t length = 0; length < 20; length++) {
        value[2] = length;
        bytes_put_u32_le(value + 13, hash_crc32c(0, value, 13));
        cr_expect(eq(int, store_decode_document((struct bytes){value, sizeof(value)}, &document),
                     length == 0 ? STATUS_OK : STATUS_CORRUPT));
    }
}

Test(store, texts_of_every_allowed_length_come_back)
{
    struct store *store = open_store();
    struct sample sample;
    fill(&sample, 3, 1);
    static char caption[CAPTION_BYTES_MAX];
    static char source[SOURCE_BYTES_MAX];
    static char tags[TAGS_MAX * (TAG_BYTES_MAX + 1)];
    static char key[KEY_BYTES_MAX];
    memset(caption, 'c', sizeof(caption));
    memset(source, 's', sizeof(source));
    memset(tags, 't', sizeof(tags));
    memset(key, 'k', sizeof(key));
    sample.record.caption = (struct text){caption, sizeof(caption)};
    sample.record.source = (struct text){source, sizeof(source)};
    sample.record.tags = (struct text){tags, sizeof(tags)};
    sample.record.key = (struct text){key, sizeof(key)};
    struct store_batch *batch = store_batch_begin(store);
    store_batch_put(batch, &sample.record);
    struct reason why = {0};
    cr_assert(eq(int, store_batch_commit(&batch, &why), STATUS_OK));
    struct arena *arena = arena_create(1 << 20);
    struct store_document document;
    cr_assert(eq(int, store_read_document(store, sample.record.place, arena, &document, &why),
                 STATUS_OK));
    cr_expect(text_equal(document.caption, sample.record.caption));
    cr_expect(text_equal(document.tags, sample.record.tags));
    cr_expect(text_equal(document.key, sample.record.key));
    arena_destroy(&arena);
    // No room is an answer.
    arena = arena_create(100);
    cr_expect(eq(int, store_read_document(store, sample.record.place, arena, &document, &why),
                 STATUS_NO_MEMORY));
    arena_destroy(&arena);
    store_close(&store);
}

Test(store, refuses_a_directory_that_a_newer_program_wrote_or_that_cannot_be)
{
    struct store *store = NULL;
    struct reason why = {0};
    struct store_params params = {.directory = "no/such/parent/here"};
    cr_expect(eq(int, store_open(&params, &store, &why), STATUS_IO));
    params.directory = "";
    cr_expect(eq(int, store_open(&params, &store, &why), STATUS_INVALID));
    static char longest[5000];
    memset(longest, 'x', sizeof(longest) - 1);
    params.directory = longest;
    cr_expect(eq(int, store_open(&params, &store, &why), STATUS_INVALID));
}
