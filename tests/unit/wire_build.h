// SPDX-License-Identifier: Apache-2.0
// wire_build.h - writes protobuf bytes by hand, so that tests can also write wrong ones.
//
// Thread-safety: none.

#ifndef RECO_TESTS_UNIT_WIRE_BUILD_H
#define RECO_TESTS_UNIT_WIRE_BUILD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/bytes.h"

static inline void build_bytes(struct buffer *out, const void *data, size_t count)
{
    if (count > 0 && buffer_append(out, data, count) != STATUS_OK)
        abort();
}

static inline void build_varint(struct buffer *out, uint64_t number)
{
    uint8_t bytes[10];
    size_t count = 0;
    do {
        bytes[count++] = (uint8_t)((number & 0x7f) | (number > 0x7f ? 0x80 : 0));
        number >>= 7;
    } while (number > 0);
    build_bytes(out, bytes, count);
}

static inline void build_tag(struct buffer *out, uint32_t field, unsigned wire_type)
{
    build_varint(out, (uint64_t)field << 3 | wire_type);
}

static inline void build_number(struct buffer *out, uint32_t field, uint64_t number)
{
    build_tag(out, field, 0);
    build_varint(out, number);
}

static inline void build_text(struct buffer *out, uint32_t field, const void *data, size_t count)
{
    build_tag(out, field, 2);
    build_varint(out, count);
    build_bytes(out, data, count);
}

// `count` bytes, all `byte`.
static inline void build_run(struct buffer *out, uint32_t field, uint8_t byte, size_t count)
{
    build_tag(out, field, 2);
    build_varint(out, count);
    if (buffer_reserve(out, count) != STATUS_OK)
        abort();
    memset(out->data + out->count, byte, count);
    out->count += count;
}

static inline struct bytes built(const struct buffer *buffer)
{
    return (struct bytes){buffer->data, buffer->count};
}

#endif
