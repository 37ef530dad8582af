// SPDX-License-Identifier: Apache-2.0
// Goal: the messages of health, reflection and error details come out as they went in and match the
// public wire format; hostile bytes cost an error and a bounded arena, nothing else.
//
// Method: round trips, bytes written down by hand from the standard, and damaged messages. The
// index of descriptors is asked about gRPC's own files.

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/mem.h"
#include "proto/wire/rpc/descriptor_index.h"
#include "proto/wire/rpc/rpc_msg.h"

static struct arena *arena;
static struct buffer buffer;
static struct reason why;

static void begin(void)
{
    arena = arena_create(RPC_MSG_ARENA_BYTES);
}

static void end(void)
{
    arena_destroy(&arena);
    buffer_deinit(&buffer);
}

TestSuite(rpc_msg, .init = begin, .fini = end);

static struct bytes packed(void)
{
    return (struct bytes){buffer.data, buffer.count};
}

static void expect_bytes(const char *bytes, size_t count)
{
    cr_assert(eq(sz, buffer.count, count));
    cr_expect(memcmp(buffer.data, bytes, count) == 0);
}

// --- health

Test(rpc_msg, health_matches_the_standard_bytes)
{
    cr_assert(eq(int, rpc_msg_encode_health_request(text_of("a.B"), &buffer), STATUS_OK));
    expect_bytes("\x0a\x03"
                 "a.B",
                 5);
    struct text service;
    cr_assert(eq(int, rpc_msg_decode_health_request(arena, packed(), &service, &why), STATUS_OK));
    cr_expect(text_equal(service, text_of("a.B")));

    buffer.count = 0;
    cr_assert(eq(int, rpc_msg_encode_health_reply(RPC_MSG_SERVING, &buffer), STATUS_OK));
    expect_bytes("\x08\x01", 2);
    enum rpc_msg_serving serving;
    cr_assert(eq(int, rpc_msg_decode_health_reply(arena, packed(), &serving, &why), STATUS_OK));
    cr_expect(eq(int, serving, RPC_MSG_SERVING));
}

Test(rpc_msg, the_empty_message_asks_for_the_whole_server)
{
    struct text service = {"before", 6};
    cr_assert(eq(int, rpc_msg_decode_health_request(arena, packed(), &service, &why), STATUS_OK));
    cr_expect(eq(sz, service.bytes, 0));
}

Test(rpc_msg, a_state_of_the_future_counts_as_unknown)
{
    const uint8_t bytes[] = {0x08, 0x63};
    enum rpc_msg_serving serving = RPC_MSG_SERVING;
    cr_assert(
        eq(int,
           rpc_msg_decode_health_reply(arena, (struct bytes){bytes, sizeof(bytes)}, &serving, &why),
           STATUS_OK));
    cr_expect(eq(int, serving, RPC_MSG_SERVING_UNKNOWN));
}

Test(rpc_msg, refuses_texts_that_are_not_utf8_and_leaves_the_result_alone)
{
    const uint8_t bytes[] = {0x0a, 0x02, 0xc0, 0xaf};
    struct text service = {"before", 6};
    cr_expect(eq(
        int,
        rpc_msg_decode_health_request(arena, (struct bytes){bytes, sizeof(bytes)}, &service, &why),
        STATUS_INVALID));
    cr_expect(eq(str, why.field, (char *)"service"));
    cr_expect(eq(sz, service.bytes, 6));
}

Test(rpc_msg, refuses_a_message_longer_than_any_question)
{
    uint8_t *bytes = calloc(1, RPC_MSG_BYTES_MAX + 1);
    bytes[0] = 0x0a; // a string that fills the message: 3 bytes of header
    bytes[1] = (uint8_t)((RPC_MSG_BYTES_MAX - 3) & 0x7f) | 0x80;
    bytes[2] = (uint8_t)((RPC_MSG_BYTES_MAX - 3) >> 7);
    memset(bytes + 3, 'a', RPC_MSG_BYTES_MAX - 3);
    struct text service;
    struct bytes message = {bytes, RPC_MSG_BYTES_MAX};
    cr_expect(eq(int, rpc_msg_decode_health_request(arena, message, &service, &why), STATUS_OK));
    cr_expect(eq(sz, service.bytes, RPC_MSG_BYTES_MAX - 3));

    message.count++;
    cr_expect(
        eq(int, rpc_msg_decode_health_request(arena, message, &service, &why), STATUS_INVALID));
    cr_expect(ne(ptr, strstr(why.text, "8193 bytes"), NULL));
    free(bytes);
}

// --- reflection

Test(rpc_msg, every_reflection_question_comes_back)
{
    for (int question = RPC_MSG_ASK_NOTHING; question <= RPC_MSG_ASK_SERVICES; question++) {
        const struct rpc_msg_reflection_request asked = {
            .question = (enum rpc_msg_question)question,
            .host = text_of("h"),
            .name = question == RPC_MSG_ASK_NOTHING ? text_of("") : text_of("reco.v1.Search"),
            .extension_number = question == RPC_MSG_ASK_EXTENSION ? 77 : 0,
        };
        buffer.count = 0;
        cr_assert(eq(int, rpc_msg_encode_reflection_request(&asked, &buffer), STATUS_OK));
        struct rpc_msg_reflection_request read;
        cr_assert(
            eq(int, rpc_msg_decode_reflection_request(arena, packed(), &read, &why), STATUS_OK));
        cr_expect(eq(int, read.question, asked.question));
        cr_expect(text_equal(read.host, asked.host));
        cr_expect(text_equal(read.name, asked.name));
        cr_expect(eq(int, read.extension_number, asked.extension_number));
    }
}

Test(rpc_msg, an_empty_service_question_is_still_a_question)
{
    const uint8_t bytes[] = {0x3a, 0x00};
    struct rpc_msg_reflection_request read;
    cr_assert(eq(
        int,
        rpc_msg_decode_reflection_request(arena, (struct bytes){bytes, sizeof(bytes)}, &read, &why),
        STATUS_OK));
    cr_expect(eq(int, read.question, RPC_MSG_ASK_SERVICES));
}

Test(rpc_msg, reflection_replies_match_the_standard_bytes)
{
    const struct rpc_msg_reflection_request asked = {.question = RPC_MSG_ASK_SERVICES};
    const struct text services[] = {text_of("a.B"), text_of("c.D")};
    struct rpc_msg_reflection_reply reply = {
        .request = &asked, .services = services, .service_count = 2};
    cr_assert(eq(int, rpc_msg_encode_reflection_reply(arena, &reply, &buffer), STATUS_OK));
    expect_bytes("\x12\x02\x3a\x00"         // original_request: list_services ""
                 "\x32\x0e\x0a\x05\x0a\x03" // list_services_response: service: name
                 "a.B\x0a\x05\x0a\x03"      //
                 "c.D",
                 20);

    const uint8_t file[] = {1, 2, 3};
    const struct bytes files[] = {{file, 3}};
    reply = (struct rpc_msg_reflection_reply){.request = &asked, .files = files, .file_count = 1};
    buffer.count = 0;
    cr_assert(eq(int, rpc_msg_encode_reflection_reply(arena, &reply, &buffer), STATUS_OK));
    expect_bytes("\x12\x02\x3a\x00\x22\x05\x0a\x03\x01\x02\x03", 11);

    reply = (struct rpc_msg_reflection_reply){
        .request = &asked, .error_code = 5, .error_message = "no"};
    buffer.count = 0;
    cr_assert(eq(int, rpc_msg_encode_reflection_reply(arena, &reply, &buffer), STATUS_OK));
    expect_bytes("\x12\x02\x3a\x00\x3a\x06\x08\x05\x12\x02no", 12);
}

// --- error details

static const struct rpc_msg_status full = {
    .code = 8,
    .message = {"too many", 8},
    .reason = {"EXHAUSTED", 9},
    .domain = {"reco", 4},
    .field = {"k", 1},
    .violation = {"k is 900", 8},
    .retry_us = 1500000,
};

Test(rpc_msg, error_details_come_back_complete)
{
    cr_assert(eq(int, rpc_msg_encode_status(arena, &full, &buffer), STATUS_OK));
    struct rpc_msg_status read;
    cr_assert(eq(int, rpc_msg_decode_status(arena, packed(), &read, &why), STATUS_OK));
    cr_expect(eq(int, read.code, 8));
    cr_expect(text_equal(read.message, full.message));
    cr_expect(text_equal(read.reason, full.reason));
    cr_expect(text_equal(read.domain, full.domain));
    cr_expect(text_equal(read.field, full.field));
    cr_expect(text_equal(read.violation, full.violation));
    cr_expect(eq(i64, read.retry_us, full.retry_us));
}

Test(rpc_msg, an_error_without_details_stays_without)
{
    const struct rpc_msg_status bare = {.code = 2, .message = text_of("?")};
    cr_assert(eq(int, rpc_msg_encode_status(arena, &bare, &buffer), STATUS_OK));
    expect_bytes("\x08\x02\x12\x01?", 5);
    struct rpc_msg_status read;
    cr_assert(eq(int, rpc_msg_decode_status(arena, packed(), &read, &why), STATUS_OK));
    cr_expect(eq(sz, read.reason.bytes, 0));
    cr_expect(eq(sz, read.field.bytes, 0));
    cr_expect(eq(i64, read.retry_us, 0));
}

Test(rpc_msg, what_is_sent_is_always_utf8)
{
    struct rpc_msg_status broken = full;
    broken.message = text_of("k\xffk");
    cr_assert(eq(int, rpc_msg_encode_status(arena, &broken, &buffer), STATUS_OK));
    struct rpc_msg_status read;
    cr_assert(eq(int, rpc_msg_decode_status(arena, packed(), &read, &why), STATUS_OK));
    cr_expect(text_equal(read.message, text_of("k?k")));
}

Test(rpc_msg, a_detail_of_unknown_type_is_passed_over)
{
    // Status{code 3, message "m", details [Any{"x/y", "\xff"}, Any{ErrorInfo, broken}]}
    const char bytes[] =
        "\x08\x03\x12\x01m"
        "\x1a\x08\x0a\x03x/y\x12\x01\xff"
        "\x1a\x2f\x0a\x28type.googleapis.com/google.rpc.ErrorInfo\x12\x03\x0a\x63z";
    struct bytes message = {(const uint8_t *)bytes, sizeof(bytes) - 1};
    struct rpc_msg_status read;
    cr_assert(eq(int, rpc_msg_decode_status(arena, message, &read, &why), STATUS_OK));
    cr_expect(eq(int, read.code, 3));
    cr_expect(eq(sz, read.reason.bytes, 0));
}

Test(rpc_msg, every_cut_and_every_flipped_bit_is_survived)
{
    cr_assert(eq(int, rpc_msg_encode_status(arena, &full, &buffer), STATUS_OK));
    struct rpc_msg_status read;
    for (size_t bit = 0; bit < buffer.count * 8; bit++) {
        arena_destroy(&arena);
        arena = arena_create(RPC_MSG_ARENA_BYTES);
        uint8_t *copy = malloc(buffer.count); // exactly as long, for a sanitizer to see
        memcpy(copy, buffer.data, buffer.count);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        (void)!rpc_msg_decode_status(arena, (struct bytes){copy, buffer.count}, &read, &why);
        (void)!rpc_msg_decode_status(arena, (struct bytes){copy, bit / 8}, &read, &why);
        free(copy);
    }
}

Test(rpc_msg, a_bomb_of_small_parts_ends_at_the_arenas_budget)
{
    // 4,096 empty details: each costs protobuf-c a struct.
    uint8_t bytes[RPC_MSG_BYTES_MAX];
    for (size_t i = 0; i < sizeof(bytes); i += 2) {
        bytes[i] = 0x1a;
        bytes[i + 1] = 0;
    }
    struct rpc_msg_status read;
    cr_expect(eq(int,
                 rpc_msg_decode_status(arena, (struct bytes){bytes, sizeof(bytes)}, &read, &why),
                 STATUS_INVALID));
    cr_expect(le(sz, arena_used(arena), RPC_MSG_ARENA_BYTES));
}

Test(rpc_msg, no_memory_is_told)
{
    struct rpc_msg_status read;
    cr_assert(eq(int, rpc_msg_encode_status(arena, &full, &buffer), STATUS_OK));
    mem_fail_after(1);
    struct arena *empty = arena_create(RPC_MSG_ARENA_BYTES);
    cr_expect(eq(int, rpc_msg_decode_status(empty, packed(), &read, &why), STATUS_INVALID));
    struct buffer other = {.count = 0};
    cr_expect(eq(int, rpc_msg_encode_status(empty, &full, &other), STATUS_NO_MEMORY));
    cr_expect(eq(int, rpc_msg_encode_health_reply(RPC_MSG_SERVING, &other), STATUS_NO_MEMORY));
    mem_fail_after(0);
    arena_destroy(&empty);
}

// --- descriptors

static struct descriptor_index *own_index(void)
{
    struct bytes set = rpc_msg_descriptor_set();
    struct descriptor_index *index = NULL;
    cr_assert(eq(int, descriptor_index_create(&set, 1, &index, &why), STATUS_OK));
    return index;
}

Test(rpc_msg, the_index_finds_files_and_every_kind_of_symbol)
{
    static const struct {
        const char *symbol;
        const char *file;
    } known[] = {
        {"grpc.health.v1.Health", "grpc/health/v1/health.proto"},
        {"grpc.health.v1.Health.Check", "grpc/health/v1/health.proto"},
        {"grpc.health.v1.HealthCheckRequest", "grpc/health/v1/health.proto"},
        {"grpc.health.v1.HealthCheckResponse.ServingStatus", "grpc/health/v1/health.proto"},
        {"grpc.reflection.v1.ServerReflection", "grpc/reflection/v1/reflection.proto"},
        {"grpc.reflection.v1alpha.ServerReflection", "grpc/reflection/v1alpha/reflection.proto"},
        {"google.rpc.BadRequest.FieldViolation", "google/rpc/error_details.proto"},
        {"google.protobuf.Duration", "google/protobuf/duration.proto"},
    };
    struct descriptor_index *index = own_index();
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        size_t of;
        size_t named;
        cr_assert(descriptor_index_file_of(index, text_of(known[i].symbol), &of), "%s",
                  known[i].symbol);
        cr_assert(descriptor_index_file_named(index, text_of(known[i].file), &named), "%s",
                  known[i].file);
        cr_expect(eq(sz, of, named));
    }
    size_t file;
    cr_expect(not(descriptor_index_file_of(index, text_of("grpc.health.v1"), &file)));
    cr_expect(not(descriptor_index_file_of(index, text_of(""), &file)));
    cr_expect(not(descriptor_index_file_of(index, text_of("Check"), &file)));
    cr_expect(not(descriptor_index_file_named(index, text_of("health.proto"), &file)));
    descriptor_index_destroy(&index);
    cr_expect(eq(ptr, index, NULL));
}

Test(rpc_msg, a_file_comes_with_what_it_imports)
{
    struct descriptor_index *index = own_index();
    struct bytes files[DESCRIPTOR_INDEX_FILES_MAX];
    size_t file;
    cr_assert(descriptor_index_file_named(index, text_of("google/rpc/status.proto"), &file));
    cr_expect(eq(sz, descriptor_index_with_imports(index, file, files), 2));
    cr_assert(descriptor_index_file_named(index, text_of("grpc/health/v1/health.proto"), &file));
    cr_expect(eq(sz, descriptor_index_with_imports(index, file, files), 1));
    descriptor_index_destroy(&index);
}

Test(rpc_msg, the_same_set_twice_is_the_set_once)
{
    const struct bytes sets[] = {rpc_msg_descriptor_set(), rpc_msg_descriptor_set()};
    struct descriptor_index *index = NULL;
    cr_assert(eq(int, descriptor_index_create(sets, 2, &index, &why), STATUS_OK));
    descriptor_index_destroy(&index);
    cr_assert(eq(int, descriptor_index_create(NULL, 0, &index, &why), STATUS_OK));
    descriptor_index_destroy(&index);
}

Test(rpc_msg, imports_in_a_circle_end)
{
    // FileDescriptorSet of "a" importing "b" and "b" importing "a".
    const char bytes[] = "\x0a\x06\x0a\x01"
                         "a\x1a\x01"
                         "b"
                         "\x0a\x06\x0a\x01"
                         "b\x1a\x01"
                         "a";
    struct bytes set = {(const uint8_t *)bytes, sizeof(bytes) - 1};
    struct descriptor_index *index = NULL;
    cr_assert(eq(int, descriptor_index_create(&set, 1, &index, &why), STATUS_OK));
    struct bytes files[DESCRIPTOR_INDEX_FILES_MAX];
    cr_expect(eq(sz, descriptor_index_with_imports(index, 0, files), 2));
    descriptor_index_destroy(&index);
}

Test(rpc_msg, damaged_descriptors_are_refused_or_read_never_followed_outside)
{
    struct bytes whole = rpc_msg_descriptor_set();
    struct descriptor_index *index = NULL;
    for (size_t cut = 0; cut < whole.count; cut++) {
        uint8_t *copy = malloc(cut + 1);
        memcpy(copy, whole.data, cut);
        struct bytes set = {copy, cut};
        if (descriptor_index_create(&set, 1, &index, &why) == STATUS_OK)
            descriptor_index_destroy(&index);
        free(copy);
    }
    uint8_t *copy = malloc(whole.count + 1);
    for (size_t at = 0; at < whole.count; at++) {
        memcpy(copy, whole.data, whole.count);
        copy[at] ^= 0x95;
        struct bytes set = {copy, whole.count};
        if (descriptor_index_create(&set, 1, &index, &why) == STATUS_OK)
            descriptor_index_destroy(&index);
    }
    free(copy);
}

Test(rpc_msg, more_files_than_the_index_holds_are_refused)
{
    uint8_t bytes[(DESCRIPTOR_INDEX_FILES_MAX + 1) * 6];
    for (size_t i = 0; i <= DESCRIPTOR_INDEX_FILES_MAX; i++) {
        const uint8_t one[] = {0x0a, 0x04, 0x0a, 0x02, 'f', (uint8_t)(1 + i)};
        memcpy(bytes + 6 * i, one, 6);
    }
    struct descriptor_index *index = NULL;
    struct bytes set = {bytes, DESCRIPTOR_INDEX_FILES_MAX * 6};
    cr_assert(eq(int, descriptor_index_create(&set, 1, &index, &why), STATUS_OK));
    descriptor_index_destroy(&index);
    set.count += 6;
    cr_expect(eq(int, descriptor_index_create(&set, 1, &index, &why), STATUS_INVALID));
    cr_expect(eq(str, why.field, (char *)"descriptor set"));
}
