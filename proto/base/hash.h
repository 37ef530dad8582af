// SPDX-License-Identifier: Apache-2.0
// hash.h - the hashes that reco's formats are built on.
//
// Thread-safety: pure functions; a sha256 state belongs to one thread.

#ifndef RECO_PROTO_BASE_HASH_H
#define RECO_PROTO_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

// XXH3-64 with seed 0: a record's id from its string key.
uint64_t hash_id(const void *key, size_t bytes);

// CRC-32C (Castagnoli) as RFC 3720 defines it: start with crc = 0, go on with
// the value returned. SSE4.2 where the CPU has it.
uint32_t hash_crc32c(uint32_t crc, const void *data, size_t bytes);

#define HASH_SHA256_BYTES 32
#define HASH_SHA256_HEX_BYTES 65 // with the final NUL

struct hash_sha256 {
    uint64_t opaque[16]; // the library's state; see hash.c
};

void hash_sha256_init(struct hash_sha256 *state);
void hash_sha256_update(struct hash_sha256 *state, const void *data, size_t bytes);
void hash_sha256_final(struct hash_sha256 *state, uint8_t digest[HASH_SHA256_BYTES]);

// Writes 2 * bytes lower-case hexadecimal digits and a NUL.
void hash_hex(const uint8_t *data, size_t bytes, char *text);

#endif
