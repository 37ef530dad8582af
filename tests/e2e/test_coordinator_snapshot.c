// SPDX-License-Identifier: Apache-2.0
// Goal: a snapshot has the records of one moment, and what is restored of it answers as the memory
// did, bit for bit; what is damaged, foreign or not whole is refused by name and leaves nothing.
//
// Method: houses of one and of four nodes; files that are changed byte by byte.

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "tests/e2e/coordinator_house.h"
#include "tests/support/patience.h"

static char folder[64]; // of the snapshots of one test

static void make_folder(void)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/reco-snapshot-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
}

static void remove_folder(void)
{
    char command[96];
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    cr_assert(eq(int, system(command), 0));
}

TestSuite(snapshot, .init = make_folder, .fini = remove_folder);

static const char *path_of(const char *name)
{
    static char path[160];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static enum status snapshot(struct house *house, const char *memory,
                            struct api_snapshot_reply *reply, struct reason *why)
{
    struct buffer message = {0};
    struct bytes bytes;
    const struct api_snapshot_request request = {text_of(memory), text_of(folder)};
    cr_assert(eq(int, api_encode_snapshot_request(&request, &message), STATUS_OK));
    const enum status status = house_call(house, API_MEMORY_SNAPSHOT, &message, &bytes, why);
    if (status == STATUS_OK)
        cr_assert(eq(int, api_decode_snapshot_reply(bytes, house->arena, reply, NULL), STATUS_OK));
    return status;
}

static enum status restore(struct house *house, const char *memory, bool replace,
                           struct api_restore_reply *reply, struct reason *why)
{
    struct buffer message = {0};
    struct bytes bytes;
    const struct api_restore_request request = {text_of(folder), text_of(memory), replace};
    cr_assert(eq(int, api_encode_restore_request(&request, &message), STATUS_OK));
    const enum status status = house_call(house, API_MEMORY_RESTORE, &message, &bytes, why);
    if (status == STATUS_OK)
        cr_assert(eq(int, api_decode_restore_reply(bytes, house->arena, reply, NULL), STATUS_OK));
    return status;
}

static struct api_snapshot_reply must_snapshot(struct house *house)
{
    struct reason why = {0};
    struct api_snapshot_reply saved;
    cr_assert(eq(int, snapshot(house, "m", &saved, &why), STATUS_OK), "%s", why.text);
    return saved;
}

static struct api_restore_reply must_restore(struct house *house, const char *memory, bool replace)
{
    struct reason why = {0};
    struct api_restore_reply restored;
    cr_assert(eq(int, restore(house, memory, replace, &restored, &why), STATUS_OK), "%s", why.text);
    return restored;
}

static size_t memories(struct house *house)
{
    struct buffer message = {0};
    struct bytes reply;
    struct api_memory_list list;
    cr_assert(eq(int, house_call(house, API_MEMORY_LIST, &message, &reply, NULL), STATUS_OK));
    cr_assert(eq(int, api_decode_memory_list(reply, house->arena, &list, NULL), STATUS_OK));
    return list.count;
}

static void hide(struct house *house, const char *memory, const char *key)
{
    struct buffer message = {0};
    struct bytes reply;
    const struct text keys[] = {text_of(key)};
    const struct api_delete_request request = {text_of(memory), keys, 1, NULL, 0};
    cr_assert(eq(int, api_encode_delete_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, house_call(house, API_MEMORY_HIDE, &message, &reply, NULL), STATUS_OK));
}

// Searches and refinements over both modalities, with and without tags.
static void expect_same_answers(struct house *left, struct house *right)
{
    static const struct text tags[] = {{"m3", 2}};
    for (uint32_t i = 0; i < 48; i++) {
        float embedding[HOUSE_DIMENSION];
        struct api_answer answers[2];
        struct api_query_request question = house_question(i * 7, embedding);
        question.options.memory = text_of("m");
        question.options.over = i % 3 == 1 ? API_MODALITY_TEXT : API_MODALITY_IMAGE;
        if (i % 4 == 3) {
            question.options.filter.all_tags = tags;
            question.options.filter.all_count = 1;
        }
        const enum api_method method = i % 2 == 0 ? API_SEARCH : API_REFINE_EMBEDDING;
        cr_assert(eq(int, house_query(left, method, &question, &answers[0], NULL), STATUS_OK));
        cr_assert(eq(int, house_query(right, method, &question, &answers[1], NULL), STATUS_OK));
        cr_assert(gt(sz, answers[0].neighbours.count, 0));
        cr_expect(house_same(&answers[0], &answers[1]), "question %u", i);
    }
}

// From a house of `from` nodes into one of `to`.
static void expect_round_trip(uint32_t from, uint32_t to)
{
    struct house old;
    struct house new;
    struct api_ingest_reply stored;
    house_open(&old, from, NULL);
    house_open(&new, to, NULL);
    house_create(&old, "m", false, false);
    const struct house_ingest ingest = {.memory = "m", .to = 700, .tag = "all"};
    cr_assert(eq(int, house_ingest(&old, &ingest, &stored, NULL), STATUS_OK));
    hide(&old, "m", "k7");
    hide(&old, "m", "k21");
    const struct api_snapshot_reply saved = must_snapshot(&old);
    cr_expect(eq(u64, saved.records, 700));
    const struct api_restore_reply restored = must_restore(&new, "", false);
    cr_expect(text_equal(restored.memory, text_of("m")));
    cr_expect(eq(u64, restored.records, 700));
    cr_expect(text_equal(restored.content_hash, saved.content_hash));
    expect_same_answers(&old, &new);
    house_restart(&new);
    expect_same_answers(&old, &new);
    house_close(&old);
    house_close(&new);
}

Test(snapshot, of_four_nodes_answers_the_same_from_one)
{
    expect_round_trip(4, 1);
}

Test(snapshot, of_one_node_answers_the_same_from_four)
{
    expect_round_trip(1, 4);
}

Test(snapshot, of_nothing_is_a_memory_of_nothing)
{
    struct house house;
    house_open(&house, 2, NULL);
    house_create(&house, "m", false, false);
    (void)must_snapshot(&house);
    const struct api_restore_reply restored = must_restore(&house, "n", false);
    cr_expect(eq(u64, restored.records, 0));
    house_close(&house);
}

Test(snapshot, takes_no_name_that_is_taken)
{
    struct house house;
    struct reason why = {0};
    struct api_snapshot_reply saved;
    struct api_restore_reply restored;
    house_open(&house, 2, NULL);
    house_fill(&house, "m", 100);
    saved = must_snapshot(&house);
    cr_expect(eq(int, snapshot(&house, "m", &saved, &why), STATUS_ALREADY_EXISTS));
    cr_expect(eq(int, restore(&house, "", false, &restored, &why), STATUS_ALREADY_EXISTS));
    house_create(&house, "b", true, false);
    cr_expect(eq(int, restore(&house, "b", true, &restored, &why), STATUS_ALREADY_EXISTS));
    restored = must_restore(&house, "", true);
    cr_expect(eq(u32, restored.generation, 3));
    house_close(&house);
}

// --- damage

struct file {
    uint8_t *data;
    size_t count;
};

static struct file read_file(const char *name)
{
    struct file file = {NULL, 0};
    FILE *stream = fopen(path_of(name), "rb");
    cr_assert(ne(ptr, stream, NULL));
    file.data = malloc(1 << 20);
    file.count = fread(file.data, 1, 1 << 20, stream);
    (void)fclose(stream);
    return file;
}

static void write_file(const char *name, const void *data, size_t count)
{
    FILE *stream = fopen(path_of(name), "wb");
    cr_assert(ne(ptr, stream, NULL));
    cr_assert(eq(sz, fwrite(data, 1, count, stream), count));
    cr_assert(eq(int, fclose(stream), 0));
}

// The memory must stay away, and the reason must have these words.
static void expect_refused(struct house *house, const char *words, const char *more)
{
    struct reason why = {0};
    struct api_restore_reply restored;
    const enum status status = restore(house, "back", false, &restored, &why);
    cr_expect(ne(int, status, STATUS_OK));
    cr_expect(strstr(why.text, words) && strstr(why.text, more), "%s, %s: %s", words, more,
              why.text);
    cr_expect(eq(sz, memories(house), 1), "%s", why.text);
}

// A manifest with another text in place of one, and a checksum that is right.
static void forge(const struct file *manifest, const char *text, const char *other)
{
    char forged[8192];
    const char *tail = ",\"sha256\":\"";
    char *whole = strndup((const char *)manifest->data, manifest->count);
    char *at = strstr(whole, text);
    cr_assert(ne(ptr, at, NULL));
    (void)snprintf(forged, sizeof(forged), "%.*s%s%s", (int)(at - whole), whole, other,
                   at + strlen(text));
    free(whole);
    char *last = forged;
    for (char *next = forged; (next = strstr(next, tail)) != NULL; next++)
        last = next;
    struct hash_sha256 sha;
    uint8_t digest[HASH_SHA256_BYTES];
    char hex[HASH_SHA256_HEX_BYTES];
    hash_sha256_init(&sha);
    hash_sha256_update(&sha, forged, (size_t)(last - forged));
    hash_sha256_final(&sha, digest);
    hash_hex(digest, sizeof(digest), hex);
    (void)snprintf(last, 128, "%s%s\"}", tail, hex);
    write_file("manifest.json", forged, strlen(forged));
}

static void damage_records(struct house *house)
{
    const struct file records = read_file("records-0.bin");
    for (size_t at = 0; at < records.count; at += records.count / 23) {
        records.data[at] ^= 0x10;
        write_file("records-0.bin", records.data, records.count);
        expect_refused(house, "records-0.bin", "");
        records.data[at] ^= 0x10;
    }
    write_file("records-0.bin", records.data, records.count - 1);
    expect_refused(house, "records-0.bin", "bytes, and the manifest says");
    write_file("records-0.bin", records.data, records.count + 1);
    expect_refused(house, "records-0.bin", "bytes, and the manifest says");
    cr_assert(eq(int, unlink(path_of("records-0.bin")), 0));
    expect_refused(house, "records-0.bin", "not there");
    cr_assert(eq(int, symlink("/etc/passwd", path_of("records-0.bin")), 0));
    expect_refused(house, "records-0.bin", "a link");
    cr_assert(eq(int, unlink(path_of("records-0.bin")), 0));
    cr_assert(eq(int, mkdir(path_of("records-0.bin"), 0700), 0));
    expect_refused(house, "records-0.bin", "no file");
    cr_assert(eq(int, rmdir(path_of("records-0.bin")), 0));
    write_file("records-0.bin", records.data, records.count);
    free(records.data);
}

static void damage_manifest(struct house *house)
{
    const struct file manifest = read_file("manifest.json");
    for (size_t at = 0; at < manifest.count; at += 5) {
        manifest.data[at] ^= 0x01;
        write_file("manifest.json", manifest.data, manifest.count);
        expect_refused(house, "manifest.json", "");
        manifest.data[at] ^= 0x01;
    }
    for (size_t count = 0; count < manifest.count; count += 37) {
        write_file("manifest.json", manifest.data, count);
        expect_refused(house, "manifest.json", "");
    }
    forge(&manifest, "reco snapshot", "tar");
    expect_refused(house, "manifest.json", "kind");
    forge(&manifest, "\"format\":1", "\"format\":2");
    expect_refused(house, "manifest.json", "use a newer one");
    forge(&manifest, "\"records\":100", "\"records\":99");
    expect_refused(house, "content hash", "the manifest says 99");
    forge(&manifest, "\"content_hash\":\"", "\"content_hash\":\"00");
    expect_refused(house, "manifest.json", "content_hash");
    forge(&manifest, "\"dimension\":32", "\"dimension\":31");
    expect_refused(house, "manifest.json", "dimension");
    forge(&manifest, "records-0.bin", "../records-0.bin");
    expect_refused(house, "manifest.json", "must be named records-0.bin");
    cr_assert(eq(int, unlink(path_of("manifest.json")), 0));
    expect_refused(house, "manifest.json", "not finished");
    write_file("manifest.json", manifest.data, manifest.count);
    free(manifest.data);
}

Test(snapshot, that_is_not_whole_is_refused_by_name)
{
    struct house house;
    house_open(&house, 2, NULL);
    house_fill(&house, "m", 100);
    const struct api_snapshot_reply saved = must_snapshot(&house);
    damage_records(&house);
    damage_manifest(&house);
    const struct api_restore_reply restored = must_restore(&house, "back", false);
    cr_expect(text_equal(restored.content_hash, saved.content_hash));
    house_close(&house);
}

// --- interruptions

Test(snapshot, goes_on_where_one_was_cut_off_and_nowhere_else)
{
    struct house house;
    struct reason why = {0};
    struct api_snapshot_reply saved;
    house_open(&house, 2, NULL);
    house_fill(&house, "m", 100);
    write_file("records-0.bin", "half", 4); // what kill -9 leaves
    write_file("manifest.json.tmp", "{", 1);
    write_file("holiday.jpg", "x", 1); // and somebody else's
    cr_expect(eq(int, snapshot(&house, "m", &saved, &why), STATUS_ALREADY_EXISTS));
    cr_expect(eq(int, access(path_of("records-0.bin"), F_OK), 0));
    cr_assert(eq(int, unlink(path_of("holiday.jpg")), 0));
    (void)must_snapshot(&house);
    (void)must_restore(&house, "back", false);
    house_close(&house);
}

static bool is_gone(void *context)
{
    int *asked = context;
    return (*asked)-- <= 0;
}

// Calls of all lengths are cancelled: what is left is a whole memory or none.
Test(snapshot, that_is_cancelled_leaves_nothing)
{
    struct house house;
    struct reason why = {0};
    house_open(&house, 2, NULL);
    house_fill(&house, "m", 3000);
    (void)must_snapshot(&house);
    for (int patience = 0; patience < 4; patience++) {
        struct buffer message = {0};
        struct buffer reply = {0};
        int left = patience;
        const struct api_restore_request request = {text_of(folder), text_of("back"), true};
        cr_assert(eq(int, api_encode_restore_request(&request, &message), STATUS_OK));
        const struct coordinator_request call = {
            .method = API_MEMORY_RESTORE,
            .message = {message.data, message.count},
            .deadline_us = DEADLINE_NONE,
            .is_gone = is_gone,
            .context = &left,
        };
        const size_t before = memories(&house);
        const enum status status = coordinator_call_as(house.coordinator, &call, &reply, &why);
        cr_expect(status == STATUS_OK || status == STATUS_CANCELLED);
        cr_expect(eq(sz, memories(&house), before + (status == STATUS_OK)));
        buffer_deinit(&message);
        buffer_deinit(&reply);
    }
    (void)must_restore(&house, "back", true);
    house_close(&house);
}

// --- while others write

struct writer {
    struct house house; // the same cluster, with an arena of its own
    atomic_uint acknowledged;
    atomic_bool stop;
};

static void *write_on(void *context)
{
    struct writer *writer = context;
    for (uint32_t at = 100; !atomic_load(&writer->stop) && at < 100000; at += 20) {
        struct api_ingest_reply stored;
        const struct house_ingest ingest = {.memory = "m", .from = at, .to = at + 20};
        cr_assert(eq(int, house_ingest(&writer->house, &ingest, &stored, NULL), STATUS_OK));
        atomic_store(&writer->acknowledged, at + 20);
    }
    return NULL;
}

Test(snapshot, has_all_that_was_acknowledged_before_it_and_nothing_from_after_it)
{
    struct house house;
    struct writer writer = {.acknowledged = 100};
    pthread_t thread;
    house_open(&house, 4, NULL);
    house_fill(&house, "m", 100);
    writer.house = house;
    writer.house.arena = arena_create((size_t)256 << 20);
    cr_assert(eq(int, pthread_create(&thread, NULL, write_on, &writer), 0));
    for (int i = 0; i < 3; i++) {
        const uint32_t before = atomic_load(&writer.acknowledged);
        const int64_t limit_us = clock_deadline_in_us(PATIENCE_US);
        while (atomic_load(&writer.acknowledged) == before) // writes do go on
            cr_assert(patience_lasts(limit_us));
        const uint32_t least = atomic_load(&writer.acknowledged);
        const struct api_snapshot_reply saved = must_snapshot(&house);
        const uint32_t most = atomic_load(&writer.acknowledged) + 20;
        cr_expect(ge(u64, saved.records, least));
        cr_expect(le(u64, saved.records, most));
        const struct api_restore_reply restored = must_restore(&house, "back", true);
        cr_expect(eq(u64, restored.records, saved.records));
        cr_expect(text_equal(restored.content_hash, saved.content_hash));
        remove_folder();
        make_folder();
    }
    atomic_store(&writer.stop, true);
    cr_assert(eq(int, pthread_join(thread, NULL), 0));
    arena_destroy(&writer.house.arena);
    house_close(&house);
}
