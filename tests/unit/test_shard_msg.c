// SPDX-License-Identifier: Apache-2.0
// Goal: coordinator and node understand each other, and neither believes the other's counts.
//
// Method: as test_api_msg.c; the rows frame is given wrong lengths, wrong alignment and numbers
// that are none.

#include <math.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <wire/shard.pb-c.h>

#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "proto/wire/shard_msg.h"
#include "tests/unit/wire_build.h"
#include "tests/unit/wire_expect.h"
#include "tests/unit/wire_full.h"

static const struct text words[] = {T("one"), T("zwei \xc3\xa4"), T("three")};
static const uint64_t ids[] = {1, UINT64_MAX, 77};
static const uint32_t numbers[] = {0, 1, 1};
static const float floats[] = {0.5f, -0.25f, 3.0f, 0.125f, 1, 2};
static const uint16_t halves[12] = {0x3c00, 0x3800, 0, 0x3c00};
static const struct bytes none = {NULL, 0};

static struct bytes rows_of(const void *data, size_t bytes)
{
    return (struct bytes){data, bytes};
}

// Encodes, checks that `type` is full, decodes, encodes again: the same bytes.
#define ROUND_TRIP(name, type, message, rows)                                                      \
    do {                                                                                           \
        struct buffer first = {0};                                                                 \
        struct buffer second = {0};                                                                \
        struct arena *arena = arena_create(1 << 20);                                               \
        struct reason why = {{0}, {0}};                                                            \
        struct shard_##name again;                                                                 \
        cr_assert(eq(int, shard_encode_##name(message, &first), STATUS_OK));                       \
        const char *missing = full_missing(&reco__shard__v1__##type##__descriptor, built(&first)); \
        cr_expect(missing == NULL, "%s of %s is not filled", missing, #type);                      \
        cr_assert(                                                                                 \
            eq(int, shard_decode_##name(built(&first), rows, arena, &again, &why), STATUS_OK),     \
            "%s: %s", why.field, why.text);                                                        \
        cr_assert(eq(int, shard_encode_##name(&again, &second), STATUS_OK));                       \
        expect_same(&first, &second);                                                              \
        buffer_deinit(&first);                                                                     \
        buffer_deinit(&second);                                                                    \
        arena_destroy(&arena);                                                                     \
    } while (0)

// Decoding must fail with this status and field, and leave *out alone.
#define EXPECT_REFUSED(name, message, rows, expected_field)                                        \
    do {                                                                                           \
        struct buffer bytes = {0};                                                                 \
        struct arena *arena = arena_create(1 << 20);                                               \
        struct reason why = {{0}, {0}};                                                            \
        struct shard_##name again;                                                                 \
        struct shard_##name untouched;                                                             \
        memset(&again, 0x5a, sizeof(again));                                                       \
        memset(&untouched, 0x5a, sizeof(untouched));                                               \
        cr_assert(eq(int, shard_encode_##name(message, &bytes), STATUS_OK));                       \
        cr_expect(eq(int, shard_decode_##name(built(&bytes), rows, arena, &again, &why),           \
                     STATUS_INVALID));                                                             \
        expect_text(why.field, expected_field);                                                    \
        cr_expect(memcmp(&again, &untouched, sizeof(again)) == 0);                                 \
        buffer_deinit(&bytes);                                                                     \
        arena_destroy(&arena);                                                                     \
    } while (0)

// --- envelope

static struct shard_envelope full_envelope(void)
{
    return (struct shard_envelope){
        .version = SHARD_VERSION + 7, // a newer minor version is understood
        .type = SHARD_BULK_COMMIT,
        .reply = true,
        .request_id = UINT64_MAX,
        .deadline_us = 1000000,
        .status = STATUS_CORRUPT,
        .field = T("options.k"),
        .text = T("0; allowed: 1..256"),
        .trace = T("req-1"),
        .traceparent = T("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"),
        .body_crc = 0xdeadbeef,
        .rows_crc = 1,
        .credits = 64,
    };
}

Test(shard_msg, an_envelope_survives_the_wire)
{
    struct shard_envelope envelope = full_envelope();
    struct buffer first = {0};
    struct buffer second = {0};
    struct arena *arena = arena_create(1 << 16);
    struct shard_envelope again;
    cr_assert(eq(int, shard_encode_envelope(&envelope, &first), STATUS_OK));
    cr_expect(full_missing(&reco__shard__v1__envelope__descriptor, built(&first)) == NULL);
    cr_assert(eq(int, shard_decode_envelope(built(&first), arena, &again, NULL), STATUS_OK));
    cr_expect(eq(u64, again.request_id, UINT64_MAX));
    cr_expect(eq(int, again.status, STATUS_CORRUPT));
    cr_expect(text_equal(again.trace, envelope.trace));
    cr_expect(text_equal(again.traceparent, envelope.traceparent));
    cr_assert(eq(int, shard_encode_envelope(&again, &second), STATUS_OK));
    expect_same(&first, &second);
    buffer_deinit(&first);
    buffer_deinit(&second);
    arena_destroy(&arena);
}

static enum status decode_altered(uint32_t version, int type, uint32_t status, struct text trace,
                                  struct shard_envelope *out)
{
    struct shard_envelope envelope = full_envelope();
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 16);
    envelope.version = version;
    envelope.type = (enum shard_type)type;
    envelope.status = (enum status)status;
    envelope.trace = trace;
    cr_assert(eq(int, shard_encode_envelope(&envelope, &bytes), STATUS_OK));
    enum status result = shard_decode_envelope(built(&bytes), arena, out, NULL);
    buffer_deinit(&bytes);
    arena_destroy(&arena);
    return result;
}

Test(shard_msg, another_major_version_is_refused_but_can_be_answered)
{
    const uint32_t versions[] = {0, 999, 2000, UINT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        struct shard_envelope out = {0};
        cr_expect(eq(int, decode_altered(versions[i], SHARD_SEARCH, 0, T("t"), &out),
                     STATUS_UNSUPPORTED));
        cr_expect(eq(u64, out.request_id, UINT64_MAX));
        cr_expect(eq(int, out.type, SHARD_SEARCH));
    }
    struct shard_envelope out = {0};
    cr_expect(eq(int, decode_altered(SHARD_VERSION, 99, 0, T("t"), &out), STATUS_UNSUPPORTED));
    cr_expect(eq(int, decode_altered(SHARD_VERSION, -1, 0, T("t"), &out), STATUS_UNSUPPORTED));
    cr_expect(eq(u64, out.request_id, UINT64_MAX));
}

Test(shard_msg, a_status_of_a_newer_version_is_an_internal_error)
{
    struct shard_envelope out = {0};
    cr_assert(eq(int, decode_altered(SHARD_VERSION, 1, 4711, T("t"), &out), STATUS_OK));
    cr_expect(eq(int, out.status, STATUS_INTERNAL));
}

Test(shard_msg, a_trace_must_be_short_text)
{
    struct shard_envelope out = {.credits = 1};
    char longest[REQUEST_ID_BYTES_MAX + 1];
    memset(longest, 'x', sizeof(longest));
    cr_expect(eq(int, decode_altered(SHARD_VERSION, 1, 0, T("\xff\xfe"), &out), STATUS_INVALID));
    cr_expect(eq(int,
                 decode_altered(SHARD_VERSION, 1, 0, (struct text){longest, sizeof(longest)}, &out),
                 STATUS_INVALID));
    cr_expect(eq(u32, out.credits, 1));
    cr_expect(eq(
        int, decode_altered(SHARD_VERSION, 1, 0, (struct text){longest, sizeof(longest) - 1}, &out),
        STATUS_OK));
}

Test(shard_msg, an_envelope_of_more_than_8_KiB_is_refused)
{
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 20);
    struct shard_envelope out;
    build_number(&bytes, 1, SHARD_VERSION);
    build_run(&bytes, 90, 0, ENVELOPE_BYTES_MAX);
    cr_expect(eq(int, shard_decode_envelope(built(&bytes), arena, &out, NULL), STATUS_INVALID));
    cr_expect(eq(sz, arena_used(arena), 0));
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}

// --- bodies

static const struct shard_search_request search = {
    .generation = 3,
    .modality = MODALITY_TEXT,
    .dimension = 3,
    .row_count = 2,
    .k = K_WIRE_MAX,
    .want_payload = true,
    .exclude_ids = ids,
    .exclude_count = 3,
    .all_tags = words,
    .all_count = 3,
    .any_tags = words,
    .any_count = 1,
    .no_tags = words,
    .no_count = 2,
    .only_ids = ids,
    .only_count = 3,
    .has_only_ids = true,
    .index_mode = SHARD_INDEX_IVF,
    .probes = PROBES_MAX,
    .target_recall = TARGET_RECALL_MAX,
    .nodes = NODES_MAX,
    .rows = floats,
};

static const struct shard_search_reply found = {
    .counts = numbers + 1, // one hit each
    .row_count = 2,
    .ids = ids,
    .scores = floats,
    .pair_scores = floats + 1,
    .hit_count = 2,
    .records = 1000,
    .queue_us = 5,
    .search_us = 6,
    .vshards = 64,
    .exact = true,
    .lists_probed = 7,
    .codes_scanned = 8,
    .rows_refined = 9,
    .rows_read = UINT64_MAX,
    .payload = halves,
};

static const struct shard_write_request records = {
    3, 2, 3, words, words, words, words, numbers, halves,
};

Test(shard_msg, bodies_survive_the_wire)
{
    static const uint32_t own[] = {0, 5, 63};
    struct shard_hello hello = {T("reco 1")};
    struct shard_hello_reply hello_reply = {7, 64, T("reco-shard 1")};
    struct shard_ping_reply ping = {1, 2, 3, true};
    struct shard_fetch_request fetch = {3, ids, 3, true, true, true, 9};
    struct shard_fetch_reply fetched = {3, numbers, words, words, words, words, halves};
    struct shard_write_reply written = {3, numbers, words, 4, 5, 6};
    struct shard_ids_request delete = {3, ids, 3};
    struct shard_flags_reply flags = {numbers, 3};
    struct shard_create_request create = {3, 512, 64, own, 3};
    struct shard_generation_request generation = {3};
    struct shard_stats_reply stats = {1, 2, 3, 4, true, 512, 5, 6, 7, 8, 9};

    ROUND_TRIP(hello, hello, &hello, none);
    ROUND_TRIP(hello_reply, hello_reply, &hello_reply, none);
    ROUND_TRIP(ping_reply, ping_reply, &ping, none);
    ROUND_TRIP(search_request, search_request, &search, rows_of(floats, 24));
    ROUND_TRIP(search_reply, search_reply, &found, rows_of(halves, 8));
    ROUND_TRIP(fetch_request, fetch_request, &fetch, none);
    ROUND_TRIP(fetch_reply, fetch_reply, &fetched, rows_of(halves, 24));
    ROUND_TRIP(write_request, write_request, &records, rows_of(halves, 24));
    ROUND_TRIP(write_reply, write_reply, &written, none);
    ROUND_TRIP(ids_request, delete_request, &delete, none);
    ROUND_TRIP(ids_request, has_request, &delete, none);
    ROUND_TRIP(flags_reply, has_reply, &flags, none);
    ROUND_TRIP(create_request, create_request, &create, none);
    ROUND_TRIP(generation_request, drop_request, &generation, none);
    ROUND_TRIP(stats_reply, stats_reply, &stats, none);
    struct shard_export_request export = {3, 4, true, true};
    struct shard_export_reply exported = {3, 4, true, {5, 6}, none};
    ROUND_TRIP(export_request, export_request, &export, none);
    ROUND_TRIP(export_reply, export_reply, &exported, none);
}

Test(shard_msg, a_search_arrives_as_it_was_sent)
{
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 20);
    struct shard_search_request again;
    cr_assert(eq(int, shard_encode_search_request(&search, &bytes), STATUS_OK));
    cr_assert(eq(
        int, shard_decode_search_request(built(&bytes), rows_of(floats, 24), arena, &again, NULL),
        STATUS_OK));
    cr_expect(eq(u32, again.generation, 3));
    cr_expect(eq(int, again.modality, MODALITY_TEXT));
    cr_expect(eq(u32, again.dimension, 3));
    cr_expect(eq(u32, again.row_count, 2));
    cr_expect(eq(u32, again.k, K_WIRE_MAX));
    cr_expect(again.want_payload);
    cr_expect(eq(u64, again.exclude_ids[1], UINT64_MAX));
    cr_expect(memcmp(again.rows, floats, 24) == 0);
    cr_expect(eq(sz, (uintptr_t)again.rows % 64, 0));
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}

Test(shard_msg, empty_lists_survive_the_wire)
{
    struct shard_search_reply nothing = {
        .counts = (const uint32_t[]){0, 0}, .row_count = 2, .vshards = 1};
    struct shard_fetch_reply no_documents = {.count = 3, .found = numbers};
    struct shard_write_reply all_stored = {.stored = 3};
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 20);
    struct shard_search_reply hits;
    struct shard_fetch_reply documents;
    struct shard_write_reply written;
    cr_assert(eq(int, shard_encode_search_reply(&nothing, &bytes), STATUS_OK));
    cr_assert(
        eq(int, shard_decode_search_reply(built(&bytes), none, arena, &hits, NULL), STATUS_OK));
    cr_expect(eq(sz, hits.row_count, 2));
    cr_expect(eq(sz, hits.hit_count, 0));
    cr_expect(eq(ptr, (void *)hits.payload, NULL));
    bytes.count = 0;
    cr_assert(eq(int, shard_encode_fetch_reply(&no_documents, &bytes), STATUS_OK));
    cr_assert(
        eq(int, shard_decode_fetch_reply(built(&bytes), none, arena, &documents, NULL), STATUS_OK));
    cr_expect(eq(sz, documents.count, 3));
    cr_expect(eq(ptr, (void *)documents.keys, NULL));
    bytes.count = 0;
    cr_assert(eq(int, shard_encode_write_reply(&all_stored, &bytes), STATUS_OK));
    cr_assert(
        eq(int, shard_decode_write_reply(built(&bytes), none, arena, &written, NULL), STATUS_OK));
    cr_expect(eq(sz, written.count, 0));
    cr_expect(eq(u64, written.stored, 3));
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}

Test(shard_msg, a_write_without_captions_sends_empty_ones)
{
    struct shard_write_request keys_only = {.dimension = 2, .count = 3, .keys = words};
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 20);
    struct shard_write_request again;
    cr_assert(eq(int, shard_encode_write_request(&keys_only, &bytes), STATUS_OK));
    cr_assert(
        eq(int, shard_decode_write_request(built(&bytes), rows_of(halves, 24), arena, &again, NULL),
           STATUS_OK));
    cr_expect(eq(sz, again.captions[2].bytes, 0));
    cr_expect(again.captions[2].data != NULL);
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}

Test(shard_msg, searches_out_of_range_are_refused)
{
    struct shard_search_request bad = search;
    bad.modality = (enum modality)2;
    EXPECT_REFUSED(search_request, &bad, rows_of(floats, 24), "modality");
    bad = search;
    bad.dimension = 0;
    EXPECT_REFUSED(search_request, &bad, none, "dimension");
    bad.dimension = DIMENSION_MAX + 1;
    EXPECT_REFUSED(search_request, &bad, rows_of(floats, 24), "dimension");
    bad = search;
    bad.row_count = 0;
    EXPECT_REFUSED(search_request, &bad, none, "row_count");
    bad.row_count = SEARCH_ROWS_MAX + 1;
    EXPECT_REFUSED(search_request, &bad, rows_of(floats, 24), "row_count");
    bad = search;
    bad.k = 0;
    EXPECT_REFUSED(search_request, &bad, rows_of(floats, 24), "k");
    bad.k = K_WIRE_MAX + 1;
    EXPECT_REFUSED(search_request, &bad, rows_of(floats, 24), "k");
    bad = search;
    bad.has_only_ids = false; // a set without its word
    EXPECT_REFUSED(search_request, &bad, rows_of(floats, 24), "only_ids");
    bad = search;
    bad.index_mode = (enum shard_index)3;
    EXPECT_REFUSED(search_request, &bad, rows_of(floats, 24), "index_mode");
    bad = search;
    bad.probes = PROBES_MAX + 1;
    EXPECT_REFUSED(search_request, &bad, rows_of(floats, 24), "probes");
    bad = search;
    bad.nodes = NODES_MAX + 1;
    EXPECT_REFUSED(search_request, &bad, rows_of(floats, 24), "nodes");
    static const float recalls[] = {-0.5f, 0.499f, 0.9991f, 1};
    for (size_t i = 0; i < sizeof(recalls) / sizeof(recalls[0]); i++) {
        bad = search;
        bad.target_recall = recalls[i];
        EXPECT_REFUSED(search_request, &bad, rows_of(floats, 24), "target_recall");
    }
}

Test(shard_msg, rows_must_have_the_length_that_the_body_says)
{
    for (size_t length = 0; length < 24; length++) {
        EXPECT_REFUSED(search_request, &search, rows_of(floats, length), "rows");
        EXPECT_REFUSED(write_request, &records, rows_of(halves, length), "rows");
    }
    EXPECT_REFUSED(search_reply, &found, rows_of(halves, 7), "rows");
    EXPECT_REFUSED(search_reply, &found, rows_of(halves, 6), "rows");
    struct shard_ping_reply ping = {.records = 1};
    EXPECT_REFUSED(ping_reply, &ping, rows_of(halves, 2), "rows");

    // Products near 2^32 and beyond must not wrap around to a small length.
    struct shard_search_request large = search;
    large.row_count = SEARCH_ROWS_MAX;
    large.dimension = DIMENSION_MAX;
    EXPECT_REFUSED(search_request, &large, rows_of(floats, 0), "rows");
    large.row_count = 0x40000000;
    large.dimension = 4;
    EXPECT_REFUSED(search_request, &large, rows_of(floats, 0), "row_count");
}

Test(shard_msg, rows_must_be_numbers)
{
    float values[6] = {1, 2, 3, 4, 5, NAN};
    EXPECT_REFUSED(search_request, &search, rows_of(values, 24), "rows");
    values[5] = -INFINITY;
    EXPECT_REFUSED(search_request, &search, rows_of(values, 24), "rows");

    uint16_t bad[12] = {0};
    const uint16_t not_numbers[] = {0x7c00, 0xfc00, 0x7e00, 0xffff};
    for (size_t i = 0; i < 4; i++) {
        bad[11] = not_numbers[i];
        EXPECT_REFUSED(write_request, &records, rows_of(bad, 24), "rows");
        bad[11] = 0;
        bad[3] = not_numbers[i];
        EXPECT_REFUSED(search_reply, &found, rows_of(bad, 8), "rows");
        bad[3] = 0;
    }
}

Test(shard_msg, rows_at_any_address_are_read)
{
    uint8_t shifted[32];
    memcpy(shifted + 1, halves, 24);
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 20);
    struct shard_write_request again;
    cr_assert(eq(int, shard_encode_write_request(&records, &bytes), STATUS_OK));
    cr_assert(
        eq(int,
           shard_decode_write_request(built(&bytes), rows_of(shifted + 1, 24), arena, &again, NULL),
           STATUS_OK));
    cr_expect(eq(sz, (uintptr_t)again.rows % 2, 0));
    cr_expect(memcmp(again.rows, halves, 24) == 0);
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}

Test(shard_msg, hits_must_add_up)
{
    struct shard_search_reply bad = found;
    const uint32_t too_few[] = {1, 0};
    const uint32_t too_many[] = {K_WIRE_MAX + 1, 0};
    const uint32_t wrap[] = {UINT32_MAX, 3};
    bad.counts = too_few;
    EXPECT_REFUSED(search_reply, &bad, none, "ids");
    bad.counts = too_many;
    EXPECT_REFUSED(search_reply, &bad, none, "counts");
    bad.counts = wrap;
    EXPECT_REFUSED(search_reply, &bad, none, "counts");
}

Test(shard_msg, arrays_that_are_not_parallel_are_refused)
{
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 20);
    struct reason why = {{0}, {0}};
    struct shard_fetch_reply fetched;
    build_run(&bytes, 1, 1, 2);        // two found
    build_text(&bytes, 2, "key 1", 5); // one key
    cr_expect(eq(int, shard_decode_fetch_reply(built(&bytes), none, arena, &fetched, &why),
                 STATUS_INVALID));
    expect_text(why.field, "keys");

    bytes.count = 0;
    struct shard_write_request written;
    build_number(&bytes, 2, 1);
    build_text(&bytes, 3, "key", 3); // and no caption
    cr_expect(eq(
        int, shard_decode_write_request(built(&bytes), rows_of(halves, 4), arena, &written, &why),
        STATUS_INVALID));
    expect_text(why.field, "captions");

    bytes.count = 0;
    struct shard_flags_reply flags;
    build_run(&bytes, 1, 3, 1); // neither yes nor no nor already
    cr_expect(eq(int, shard_decode_flags_reply(built(&bytes), none, arena, &flags, &why),
                 STATUS_INVALID));
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}

Test(shard_msg, vshards_must_exist_and_be_named_once)
{
    const uint32_t beyond[] = {0, 64};
    const uint32_t twice[] = {5, 6, 5};
    const uint32_t none_of_them[] = {0};
    struct shard_create_request create = {1, 512, 64, beyond, 2};
    EXPECT_REFUSED(create_request, &create, none, "own");
    create.own = twice;
    create.own_count = 3;
    EXPECT_REFUSED(create_request, &create, none, "own");
    create.own = none_of_them;
    create.own_count = 0;
    EXPECT_REFUSED(create_request, &create, none, "own");
    create.own_count = 1;
    create.vshards = 0;
    EXPECT_REFUSED(create_request, &create, none, "vshards");
    create.vshards = VSHARDS_MAX + 1;
    EXPECT_REFUSED(create_request, &create, none, "vshards");
}

Test(shard_msg, the_largest_counts_fit_the_named_budget)
{
    struct buffer bytes = {0};
    build_run(&bytes, 1, 1, FETCH_IDS_MAX);
    for (uint32_t field = 2; field <= 5; field++)
        for (size_t i = 0; i < FETCH_IDS_MAX; i++)
            build_text(&bytes, field, "xy", 2);
    struct arena *arena = arena_create(SHARD_ARENA_BYTES(bytes.count, 0));
    struct shard_fetch_reply fetched;
    cr_expect(
        eq(int, shard_decode_fetch_reply(built(&bytes), none, arena, &fetched, NULL), STATUS_OK));
    arena_destroy(&arena);

    arena = arena_create(1 << 20);
    cr_expect(eq(int, shard_decode_fetch_reply(built(&bytes), none, arena, &fetched, NULL),
                 STATUS_NO_MEMORY));
    arena_destroy(&arena);

    // The largest search: 256 rows of 4096.
    size_t rows_bytes = (size_t)SEARCH_ROWS_MAX * DIMENSION_MAX * sizeof(float);
    uint8_t *rows = mem_alloc(rows_bytes);
    struct shard_search_request large = search;
    large.row_count = SEARCH_ROWS_MAX;
    large.dimension = DIMENSION_MAX;
    bytes.count = 0;
    cr_assert(eq(int, shard_encode_search_request(&large, &bytes), STATUS_OK));
    arena = arena_create(SHARD_ARENA_BYTES(bytes.count, rows_bytes));
    struct shard_search_request again;
    cr_expect(eq(
        int,
        shard_decode_search_request(built(&bytes), rows_of(rows, rows_bytes), arena, &again, NULL),
        STATUS_OK));
    arena_destroy(&arena);
    buffer_deinit(&bytes);
    mem_free(rows);
}

Test(shard_msg, every_cut_of_a_body_is_refused_or_read)
{
    struct buffer bytes = {0};
    struct shard_write_request shown = records;
    shown.hidden = NULL; // this one may lack
    cr_assert(eq(int, shard_encode_write_request(&shown, &bytes), STATUS_OK));
    for (size_t cut = 0; cut < bytes.count; cut++) {
        uint8_t *copy = mem_alloc(cut > 0 ? cut : 1); // a read behind the end is seen
        memcpy(copy, bytes.data, cut);
        struct arena *arena = arena_create(1 << 20);
        struct shard_write_request again;
        cr_expect(eq(int,
                     shard_decode_write_request((struct bytes){copy, cut}, rows_of(halves, 24),
                                                arena, &again, NULL),
                     STATUS_INVALID));
        arena_destroy(&arena);
        mem_free(copy);
    }
    buffer_deinit(&bytes);
}
