// SPDX-License-Identifier: Apache-2.0
// bytes.c - views of memory, fixed-width numbers, UTF-8 and growing buffers.

#include "proto/base/bytes.h"

#include <assert.h>
#include <string.h>

#include "proto/base/mem.h"

#define BUFFER_ROOM_FIRST 64

struct text text_of(const char *nul_terminated)
{
    if (!nul_terminated)
        return (struct text){NULL, 0};
    return (struct text){nul_terminated, strlen(nul_terminated)};
}

bool text_equal(struct text a, struct text b)
{
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

int text_compare(const void *a, const void *b)
{
    const struct text *left = a;
    const struct text *right = b;
    const size_t common = left->bytes < right->bytes ? left->bytes : right->bytes;
    const int order = common > 0 ? memcmp(left->data, right->data, common) : 0;
    return order != 0 ? order : (left->bytes > right->bytes) - (left->bytes < right->bytes);
}

// What the first byte of a sequence says: its length and the range of its
// second byte (Unicode 15, table 3-7). That range is what keeps out overlong
// forms, surrogates and values above U+10FFFF. Length 0: no sequence begins so.
struct utf8_lead {
    uint8_t length;
    uint8_t second_low;
    uint8_t second_high;
};

static struct utf8_lead utf8_lead_of(uint8_t byte)
{
    if (byte < 0x80)
        return (struct utf8_lead){1, 0, 0};
    if (byte < 0xc2 || byte > 0xf4)
        return (struct utf8_lead){0, 0, 0};
    if (byte < 0xe0)
        return (struct utf8_lead){2, 0x80, 0xbf};
    if (byte < 0xf0) {
        uint8_t low = byte == 0xe0 ? 0xa0 : 0x80;
        uint8_t high = byte == 0xed ? 0x9f : 0xbf;
        return (struct utf8_lead){3, low, high};
    }
    uint8_t low = byte == 0xf0 ? 0x90 : 0x80;
    uint8_t high = byte == 0xf4 ? 0x8f : 0xbf;
    return (struct utf8_lead){4, low, high};
}

// How many of the sequence's bytes are there and right, at least 1 when it has a length.
static size_t utf8_right_bytes(struct utf8_lead lead, const uint8_t *at, size_t count)
{
    if (lead.length < 2 || count < 2 || at[1] < lead.second_low || at[1] > lead.second_high)
        return 1;
    size_t right = 2;
    while (right < lead.length && right < count && (at[right] & 0xc0u) == 0x80u)
        right++;
    return right;
}

size_t bytes_utf8_step(const void *data, size_t count)
{
    assert(data || count == 0);

    if (count == 0)
        return 0;
    const uint8_t *at = data;
    struct utf8_lead lead = utf8_lead_of(at[0]);
    return lead.length > 0 && utf8_right_bytes(lead, at, count) == lead.length ? lead.length : 0;
}

size_t bytes_utf8_mark(const void *data, size_t count)
{
    assert(data || count == 0);

    return count >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

bool bytes_utf8_is_cut(const void *data, size_t count)
{
    assert(data || count == 0);

    if (count == 0)
        return false;
    const uint8_t *at = data;
    struct utf8_lead lead = utf8_lead_of(at[0]);
    return lead.length > count && utf8_right_bytes(lead, at, count) == count;
}

// Most text is ASCII: eight such bytes are one step.
bool bytes_is_utf8(const void *data, size_t count)
{
    assert(data || count == 0);

    const uint8_t *at = data;
    size_t done = 0;
    while (done < count) {
        uint64_t eight = UINT64_MAX;
        if (count - done >= sizeof(eight))
            memcpy(&eight, at + done, sizeof(eight));
        if ((eight & 0x8080808080808080u) == 0) {
            done += sizeof(eight);
            continue;
        }
        size_t step = bytes_utf8_step(at + done, count - done);
        if (step == 0)
            return false;
        done += step;
    }
    return true;
}

void bytes_put_u16_be(uint8_t *at, uint16_t v)
{
    at[0] = (uint8_t)(v >> 8);
    at[1] = (uint8_t)v;
}

void bytes_put_u32_be(uint8_t *at, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> (24 - 8 * i));
}

void bytes_put_u64_be(uint8_t *at, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        at[i] = (uint8_t)(v >> (56 - 8 * i));
}

uint16_t bytes_get_u16_be(const uint8_t *at)
{
    return (uint16_t)((unsigned)at[0] << 8 | at[1]);
}

uint32_t bytes_get_u32_be(const uint8_t *at)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < 4; i++)
        v = v << 8 | at[i];
    return v;
}

uint64_t bytes_get_u64_be(const uint8_t *at)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++)
        v = v << 8 | at[i];
    return v;
}

void bytes_put_u32_le(uint8_t *at, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> (8 * i));
}

void bytes_put_u64_le(uint8_t *at, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        at[i] = (uint8_t)(v >> (8 * i));
}

// In one expression compilers see a single load; in a loop they do not.
uint32_t bytes_get_u32_le(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

uint64_t bytes_get_u64_le(const uint8_t *at)
{
    uint64_t v = 0;
    for (unsigned i = 8; i > 0; i--)
        v = v << 8 | at[i - 1];
    return v;
}

// Doubles the room, so that many small appends cost little; never above count_max.
enum status buffer_reserve(struct buffer *buffer, size_t more)
{
    assert(buffer);
    assert(buffer->count <= buffer->room);

    size_t needed;
    if (!mem_add(buffer->count, more, &needed))
        return STATUS_NO_MEMORY;
    if (buffer->count_max > 0 && needed > buffer->count_max)
        return STATUS_NO_MEMORY;
    if (needed <= buffer->room)
        return STATUS_OK;

    size_t room = buffer->room > SIZE_MAX / 2 ? needed : buffer->room * 2;
    if (room < BUFFER_ROOM_FIRST)
        room = BUFFER_ROOM_FIRST;
    if (buffer->count_max > 0 && room > buffer->count_max)
        room = buffer->count_max;
    if (room < needed)
        room = needed;

    uint8_t *data = mem_try_alloc(room);
    if (!data)
        return STATUS_NO_MEMORY;
    if (buffer->count > 0)
        memcpy(data, buffer->data, buffer->count);
    mem_free(buffer->data);
    buffer->data = data;
    buffer->room = room;
    return STATUS_OK;
}

enum status buffer_append(struct buffer *buffer, const void *data, size_t count)
{
    assert(data || count == 0);

    enum status status = buffer_reserve(buffer, count);
    if (status != STATUS_OK)
        return status;
    if (count > 0)
        memcpy(buffer->data + buffer->count, data, count);
    buffer->count += count;
    return STATUS_OK;
}

void buffer_deinit(struct buffer *buffer)
{
    assert(buffer);

    mem_free(buffer->data);
    *buffer = (struct buffer){.count_max = buffer->count_max};
}
