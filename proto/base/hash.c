// SPDX-License-Identifier: Apache-2.0
// hash.c - XXH3, CRC-32C and SHA-256.
//
// XXH3 is that of libxxhash, SHA-256 that of libsodium. CRC-32C is the one
// instruction that SSE4.2 has for it, or one table look-up per byte.

#include "proto/base/hash.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include <sodium/crypto_hash_sha256.h>
#include <xxhash.h>

#include "proto/base/cpu.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#define CRC32C_POLYNOMIAL 0x82f63b78u // 0x1edc6f41 with the bits mirrored

static pthread_once_t crc_once = PTHREAD_ONCE_INIT;
static uint32_t crc_table[256];

uint64_t hash_id(const void *key, size_t bytes)
{
    assert(key || bytes == 0);

    return XXH3_64bits(key, bytes);
}

static void fill_crc_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1u) ? CRC32C_POLYNOMIAL : 0u);
        crc_table[byte] = crc;
    }
}

static uint32_t crc_by_table(uint32_t crc, const uint8_t *data, size_t bytes)
{
    (void)pthread_once(&crc_once, fill_crc_table);
    for (size_t i = 0; i < bytes; i++)
        crc = (crc >> 8) ^ crc_table[(crc ^ data[i]) & 0xffu];
    return crc;
}

#if defined(__x86_64__)

CPU_TARGET("sse4.2")
static uint32_t crc_by_sse42(uint32_t crc, const uint8_t *data, size_t bytes)
{
    uint64_t wide = crc;
    for (; bytes >= 8; data += 8, bytes -= 8) {
        uint64_t word;
        memcpy(&word, data, sizeof(word));
        wide = _mm_crc32_u64(wide, word);
    }
    crc = (uint32_t)wide;
    for (; bytes > 0; data++, bytes--)
        crc = _mm_crc32_u8(crc, *data);
    return crc;
}

#endif

// Between calls the value is inverted, as RFC 3720 presents it; inside it is not.
uint32_t hash_crc32c(uint32_t crc, const void *data, size_t bytes)
{
    assert(data || bytes == 0);

#if defined(__x86_64__)
    if (cpu_has_sse42())
        return ~crc_by_sse42(~crc, data, bytes);
#endif
    return ~crc_by_table(~crc, data, bytes);
}

_Static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(struct hash_sha256),
               "libsodium's state has outgrown ours");
_Static_assert(_Alignof(crypto_hash_sha256_state) <= _Alignof(struct hash_sha256),
               "libsodium's state wants a stricter alignment than ours");

static crypto_hash_sha256_state *library_state(struct hash_sha256 *state)
{
    return (crypto_hash_sha256_state *)(void *)state->opaque;
}

// The functions of libsodium below always return 0.
void hash_sha256_init(struct hash_sha256 *state)
{
    assert(state);

    memset(state, 0, sizeof(*state));
    (void)crypto_hash_sha256_init(library_state(state));
}

void hash_sha256_update(struct hash_sha256 *state, const void *data, size_t bytes)
{
    assert(state);
    assert(data || bytes == 0);

    if (bytes > 0)
        (void)crypto_hash_sha256_update(library_state(state), data, bytes);
}

void hash_sha256_final(struct hash_sha256 *state, uint8_t digest[HASH_SHA256_BYTES])
{
    assert(state);
    assert(digest);

    (void)crypto_hash_sha256_final(library_state(state), digest);
}

void hash_hex(const uint8_t *data, size_t bytes, char *text)
{
    assert(data || bytes == 0);
    assert(text);

    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < bytes; i++) {
        text[2 * i] = digits[data[i] >> 4];
        text[2 * i + 1] = digits[data[i] & 0x0fu];
    }
    text[2 * bytes] = '\0';
}
