// SPDX-License-Identifier: Apache-2.0
// packed.c - see packed.h.

#include "proto/wire/packed.h"

#include <assert.h>
#include <string.h>

#include "proto/base/hash.h"

#define HIDDEN 1u
#define HALF_EXPONENT 0x7c00u // all ones: an infinity or no number
#define TAG_SEPARATOR '\x1f'
#define DIGEST_BYTES 16

static uint32_t get_u16(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8;
}

static void put_u16(uint8_t *at, size_t value)
{
    assert(value <= UINT16_MAX);
    at[0] = (uint8_t)(value & 0xff);
    at[1] = (uint8_t)(value >> 8);
}

enum status packed_append(const struct packed_record *record, struct buffer *out)
{
    const struct text texts[4] = {record->key, record->caption, record->source, record->tags};
    const size_t row_bytes = 2 * (size_t)record->dimension;
    uint8_t head[PACKED_LENGTH_BYTES + PACKED_HEAD_BYTES];
    size_t bytes = PACKED_HEAD_BYTES + 2 * row_bytes;
    for (size_t i = 0; i < 4; i++) {
        put_u16(head + PACKED_LENGTH_BYTES + 2 * i, texts[i].bytes);
        bytes += texts[i].bytes;
    }
    put_u16(head + PACKED_LENGTH_BYTES + 8, record->dimension);
    put_u16(head + PACKED_LENGTH_BYTES + 10, record->hidden ? HIDDEN : 0);
    bytes_put_u32_le(head, (uint32_t)bytes);

    enum status status = buffer_reserve(out, PACKED_LENGTH_BYTES + bytes);
    if (status == STATUS_OK)
        status = buffer_append(out, head, sizeof(head));
    for (size_t i = 0; i < 4 && status == STATUS_OK; i++)
        status = buffer_append(out, texts[i].data, texts[i].bytes);
    if (status == STATUS_OK)
        status = buffer_append(out, record->image, row_bytes);
    if (status == STATUS_OK)
        status = buffer_append(out, record->text, row_bytes);
    return status;
}

bool packed_take_tag(struct text *rest, struct text *out)
{
    if (rest->bytes == 0)
        return false;
    const char *end = memchr(rest->data, TAG_SEPARATOR, rest->bytes);
    out->data = rest->data;
    out->bytes = end ? (size_t)(end - rest->data) : rest->bytes;
    const size_t taken = end ? out->bytes + 1 : out->bytes;
    rest->data += taken;
    rest->bytes -= taken;
    return true;
}

static enum status check_texts(const struct packed_record *record, struct reason *why)
{
    const struct {
        const char *name;
        struct text text;
        size_t bytes_min, bytes_max;
    } texts[] = {
        {"key", record->key, 1, KEY_BYTES_MAX},
        {"caption", record->caption, 0, CAPTION_BYTES_MAX},
        {"source", record->source, 0, SOURCE_BYTES_MAX},
        {"tags", record->tags, 0, TAGS_MAX * (TAG_BYTES_MAX + 1) - 1},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const struct text text = texts[i].text;
        if (text.bytes < texts[i].bytes_min || text.bytes > texts[i].bytes_max)
            return reason_set(why, STATUS_INVALID, texts[i].name,
                              "%zu bytes; %zu to %zu are allowed", text.bytes, texts[i].bytes_min,
                              texts[i].bytes_max);
        if (!bytes_is_utf8(text.data, text.bytes) || memchr(text.data, '\0', text.bytes))
            return reason_set(why, STATUS_INVALID, texts[i].name, "is no UTF-8 text");
    }
    size_t count = 0;
    struct text rest = record->tags;
    struct text tag;
    for (; packed_take_tag(&rest, &tag); count++)
        if (tag.bytes > TAG_BYTES_MAX)
            return reason_set(why, STATUS_INVALID, "tags", "one of %zu bytes; at most %d",
                              tag.bytes, TAG_BYTES_MAX);
    if (count > TAGS_MAX)
        return reason_set(why, STATUS_INVALID, "tags", "%zu; at most %d", count, TAGS_MAX);
    return STATUS_OK;
}

static enum status check_rows(const struct packed_record *record, struct reason *why)
{
    for (size_t i = 0; i < 2 * (size_t)record->dimension; i++) // both: they lie behind each other
        if ((get_u16(record->image + 2 * i) & HALF_EXPONENT) == HALF_EXPONENT)
            return reason_set(why, STATUS_INVALID, "rows", "element %zu is no number", i);
    return STATUS_OK;
}

enum status packed_take(struct bytes *rest, uint32_t dimension, struct packed_record *out,
                        struct reason *why)
{
    if (rest->count < PACKED_LENGTH_BYTES + PACKED_HEAD_BYTES)
        return reason_set(why, STATUS_INVALID, "length",
                          "%zu bytes are left; a record has at least %d", rest->count,
                          PACKED_LENGTH_BYTES + PACKED_HEAD_BYTES);
    const size_t bytes = bytes_get_u32_le(rest->data);
    if (bytes > rest->count - PACKED_LENGTH_BYTES)
        return reason_set(why, STATUS_INVALID, "length", "%zu; %zu bytes are left", bytes,
                          rest->count - PACKED_LENGTH_BYTES);

    const uint8_t *head = rest->data + PACKED_LENGTH_BYTES;
    struct text texts[4];
    const char *at = (const char *)head + PACKED_HEAD_BYTES;
    size_t expected = PACKED_HEAD_BYTES;
    for (size_t i = 0; i < 4; i++) {
        texts[i] = (struct text){at, get_u16(head + 2 * i)};
        at += texts[i].bytes;
        expected += texts[i].bytes;
    }
    const uint32_t own = get_u16(head + 8);
    const uint32_t flags = get_u16(head + 10);
    expected += 4 * (size_t)own;
    if (bytes != expected)
        return reason_set(why, STATUS_INVALID, "length", "%zu; its parts have %zu", bytes,
                          expected);
    if (own < 1 || own > DIMENSION_MAX || (dimension != 0 && own != dimension))
        return reason_set(why, STATUS_INVALID, "dimension", "%u; %u is wanted", own,
                          dimension ? dimension : DIMENSION_MAX);
    if (flags > HIDDEN)
        return reason_set(why, STATUS_INVALID, "flags", "%u; 0 and 1 are known", flags);

    const uint8_t *rows = (const uint8_t *)at;
    const struct packed_record record = {
        texts[0], texts[1], texts[2], texts[3], flags == HIDDEN, own, rows, rows + 2 * (size_t)own};
    enum status status = check_texts(&record, why);
    if (status == STATUS_OK)
        status = check_rows(&record, why);
    if (status != STATUS_OK)
        return status;
    rest->data += PACKED_LENGTH_BYTES + bytes;
    rest->count -= PACKED_LENGTH_BYTES + bytes;
    *out = record;
    return STATUS_OK;
}

void packed_digest_add(struct packed_digest *sum, struct bytes record)
{
    assert(record.count > PACKED_LENGTH_BYTES);

    struct hash_sha256 state;
    uint8_t digest[HASH_SHA256_BYTES];
    hash_sha256_init(&state);
    hash_sha256_update(&state, record.data + PACKED_LENGTH_BYTES,
                       record.count - PACKED_LENGTH_BYTES);
    hash_sha256_final(&state, digest);
    const struct packed_digest one = {bytes_get_u64_le(digest), bytes_get_u64_le(digest + 8)};
    packed_digest_join(sum, &one);
}

void packed_digest_join(struct packed_digest *sum, const struct packed_digest *other)
{
    const uint64_t low = sum->low + other->low;
    sum->high += other->high + (low < sum->low ? 1 : 0);
    sum->low = low;
}

void packed_digest_hex(const struct packed_digest *sum, char out[PACKED_DIGEST_HEX_BYTES])
{
    uint8_t bytes[DIGEST_BYTES];
    bytes_put_u64_le(bytes, sum->low);
    bytes_put_u64_le(bytes + 8, sum->high);
    hash_hex(bytes, sizeof(bytes), out);
}
