// SPDX-License-Identifier: Apache-2.0
// protobuf-c asks its allocator for every text, array and message. Here the allocator takes from
// an arena and never frees, so a message cannot take more than the arena's budget and nothing of
// it needs to be freed one by one.

#include "proto/wire/wire.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base/limits.h"
#include "proto/wire/wire_scan.h"

// Copies of texts while one message is encoded; the largest message has 64 MiB.
#define SCRATCH_BYTES_MAX ((size_t)4 * MESSAGE_BYTES_MAX)

#define HALF_EXPONENT 0x7c00u // all ones: NaN or infinity

struct budget {
    struct arena *arena;
    bool spent;
};

static void *allocate(void *context, size_t bytes)
{
    struct budget *budget = context;
    void *found = arena_alloc(budget->arena, bytes);
    budget->spent = budget->spent || !found;
    return found;
}

static void leave_to_arena(void *context, void *pointer)
{
    (void)context;
    (void)pointer;
}

// --- decoding

enum status wire_unpack(const ProtobufCMessageDescriptor *type, struct bytes message,
                        size_t bytes_max, struct arena *arena, ProtobufCMessage **out,
                        struct reason *why)
{
    assert(arena);
    assert(out);

    if (message.count > bytes_max)
        return reason_set(why, STATUS_INVALID, NULL, "%s of %zu bytes; allowed: at most %zu",
                          type->short_name, message.count, bytes_max);

    enum status status = wire_scan(type, message, why);
    if (status != STATUS_OK)
        return status;

    struct budget budget = {arena, false};
    ProtobufCAllocator allocator = {allocate, leave_to_arena, &budget};
    const uint8_t nothing = 0;
    ProtobufCMessage *found = protobuf_c_message_unpack(type, &allocator, message.count,
                                                        message.data ? message.data : &nothing);
    if (budget.spent)
        return reason_set(why, STATUS_NO_MEMORY, NULL,
                          "%s of %zu bytes needs more memory than a request may have",
                          type->short_name, message.count);
    if (!found)
        return reason_set(why, STATUS_INVALID, NULL, "%zu bytes that are no %s", message.count,
                          type->short_name);
    *out = found;
    return STATUS_OK;
}

struct text wire_text(const char *text)
{
    return text ? (struct text){text, strlen(text)} : (struct text){"", 0};
}

struct bytes wire_bytes(ProtobufCBinaryData bytes)
{
    return (struct bytes){bytes.data, bytes.len};
}

void *wire_array(struct wire_memory *memory, size_t count, size_t bytes)
{
    if (memory->status != STATUS_OK || count == 0)
        return NULL;

    void *array = arena_alloc_array(memory->arena, count, bytes);
    if (!array) {
        memory->status = STATUS_NO_MEMORY;
        return NULL;
    }
    memset(array, 0, count * bytes);
    return array;
}

const struct text *wire_texts(struct wire_memory *memory, char **texts, size_t count)
{
    struct text *views = wire_array(memory, count, sizeof(*views));
    for (size_t i = 0; views && i < count; i++)
        views[i] = wire_text(texts[i]);
    return views;
}

enum status wire_finish(const struct wire_memory *memory, struct reason *why)
{
    if (memory->status != STATUS_OK)
        return reason_set(why, memory->status, NULL,
                          "the message needs more memory than a request may have");
    return STATUS_OK;
}

// --- encoding

struct wire_memory wire_begin(void)
{
    return (struct wire_memory){arena_create(SCRATCH_BYTES_MAX), STATUS_OK};
}

char *wire_put_text(struct wire_memory *memory, struct text text)
{
    static char empty[1];
    if (memory->status != STATUS_OK || text.bytes == 0)
        return empty;

    if (memchr(text.data, 0, text.bytes) || !bytes_is_utf8(text.data, text.bytes)) {
        memory->status = STATUS_INVALID;
        return empty;
    }
    char *copy = arena_copy_text(memory->arena, text.data, text.bytes);
    if (!copy)
        memory->status = STATUS_NO_MEMORY;
    return copy ? copy : empty;
}

char **wire_put_texts(struct wire_memory *memory, const struct text *texts, size_t count)
{
    char **copies = wire_array(memory, count, sizeof(*copies));
    for (size_t i = 0; copies && i < count; i++)
        copies[i] = wire_put_text(memory, texts ? texts[i] : (struct text){NULL, 0});
    return copies;
}

void *wire_borrow(const void *pointer)
{
    union {
        const void *in;
        void *out;
    } view = {.in = pointer};
    return view.out;
}

ProtobufCBinaryData wire_put_bytes(struct bytes bytes)
{
    return (ProtobufCBinaryData){bytes.count, wire_borrow(bytes.data)};
}

static enum status append(const ProtobufCMessage *message, struct buffer *out)
{
    size_t bytes = protobuf_c_message_get_packed_size(message);
    if (bytes == 0)
        return STATUS_OK;

    enum status status = buffer_reserve(out, bytes);
    if (status != STATUS_OK)
        return status;

    out->count += protobuf_c_message_pack(message, out->data + out->count);
    return STATUS_OK;
}

enum status wire_pack(struct wire_memory *memory, const ProtobufCMessage *message,
                      struct buffer *out)
{
    assert(out);

    enum status status = memory->status;
    if (status == STATUS_OK)
        status = append(message, out);
    arena_destroy(&memory->arena);
    return status;
}

// --- checks

enum status wire_check_uint(const char *field, uint64_t value, uint64_t min, uint64_t max,
                            struct reason *why)
{
    if (value < min || value > max)
        return reason_set(why, STATUS_INVALID, field, "%" PRIu64 "; allowed: %" PRIu64 "..%" PRIu64,
                          value, min, max);
    return STATUS_OK;
}

enum status wire_check_float(const char *field, float value, float min, float max,
                             struct reason *why)
{
    if (value >= min && value <= max)
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, field, "%g; allowed: %g..%g", (double)value, (double)min,
                      (double)max);
}

enum status wire_check_recall(const char *field, float value, struct reason *why)
{
    // Written so that a NaN fails too.
    if ((value >= 0 && value <= 0) || (value >= TARGET_RECALL_MIN && value <= TARGET_RECALL_MAX))
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, field, "%g; allowed: 0 or %g..%g", (double)value,
                      (double)TARGET_RECALL_MIN, (double)TARGET_RECALL_MAX);
}

enum status wire_check_count(const char *field, size_t count, size_t expected, bool may_lack,
                             struct reason *why)
{
    if (count == expected || (count == 0 && may_lack))
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, field, "%zu elements; allowed: %s%zu", count,
                      may_lack ? "none or " : "", expected);
}

enum status wire_check_halves(const char *field, struct bytes rows, size_t expected_bytes,
                              struct reason *why)
{
    if (rows.count != expected_bytes)
        return reason_set(why, STATUS_INVALID, field, "%zu bytes; allowed: %zu", rows.count,
                          expected_bytes);

    unsigned bad = 0;
    for (size_t i = 0; i < rows.count; i += 2) {
        unsigned half = rows.data[i] | (unsigned)rows.data[i + 1] << 8;
        bad |= (half & HALF_EXPONENT) == HALF_EXPONENT;
    }
    if (bad)
        return reason_set(why, STATUS_INVALID, field,
                          "a NaN or an infinity among %zu numbers; not allowed", rows.count / 2);
    return STATUS_OK;
}
