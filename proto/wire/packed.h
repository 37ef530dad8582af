// SPDX-License-Identifier: Apache-2.0
// packed.h - a record as one run of bytes, the same on the wire, in a snapshot and under a hash.
//
// Numbers are little-endian:
//
//   length     u32   of all that follows
//   key        u16   bytes of the four texts below
//   caption    u16
//   source     u16
//   tags       u16
//   dimension  u16   halves of each row
//   flags      u16   1: hidden; the other bits are 0
//   texts            key, caption, source, tags (in their order, joined by U+001F), UTF-8, no end
//                    mark
//   rows             image, text: IEEE half precision, [dimension] each
//
// The digest of a record is the first 16 bytes of the SHA-256 of everything behind `length`, read
// as a little-endian number of 128 bits. The content hash of a memory is the sum of its records'
// digests modulo 2^128: it depends on the records and on nothing else, not on their order or place.
// It is written as the sum's 16 bytes, lowest first, in 32 hexadecimal digits.
//
// Thread-safety: pure functions.

#ifndef RECO_PROTO_WIRE_PACKED_H
#define RECO_PROTO_WIRE_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define PACKED_LENGTH_BYTES 4
#define PACKED_HEAD_BYTES 12 // behind the length

struct packed_record {
    struct text key;
    struct text caption;
    struct text source;
    struct text tags; // joined
    bool hidden;
    uint32_t dimension;
    const uint8_t *image; // halves, little-endian, at any address: [2 * dimension]
    const uint8_t *text;
};

// Appends a record within all limits. STATUS_NO_MEMORY.
enum status packed_append(const struct packed_record *record, struct buffer *out) MUST_CHECK;

// Takes the first record off `rest`; *out points into it. STATUS_INVALID naming what is not as it
// must be: lengths, limits, UTF-8, numbers that are none, another dimension (unless 0). Nothing is
// taken then.
enum status packed_take(struct bytes *rest, uint32_t dimension, struct packed_record *out,
                        struct reason *why) MUST_CHECK;

// The joined tags one by one: takes the first off `rest`; false when there is none.
bool packed_take_tag(struct text *rest, struct text *out);

struct packed_digest {
    uint64_t low;
    uint64_t high;
};

#define PACKED_DIGEST_HEX_BYTES 33 // with the final NUL

// Adds the digest of one packed record, its length included.
void packed_digest_add(struct packed_digest *sum, struct bytes record);
void packed_digest_join(struct packed_digest *sum, const struct packed_digest *other);
void packed_digest_hex(const struct packed_digest *sum, char out[PACKED_DIGEST_HEX_BYTES]);

#endif
