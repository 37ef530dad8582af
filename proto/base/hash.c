// SPDX-License-Identifier: Apache-2.0
// hash.c - XXH3, CRC-32C and SHA-256.
//
// XXH3 is that of libxxhash, SHA-256 that of libsodium, with whole blocks by the CPU's own
// instructions where it has them: 5 times as fast, and most of the time of opening a model. CRC-32C
// is the one instruction that SSE4.2 and ARMv8 have for it, or one table look-up per byte.

#include "proto/base/hash.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include <sodium/crypto_hash_sha256.h>
#include <xxhash.h>

#include "proto/base/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
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

// One instruction for 8 bytes, one for a byte. For ARM's, clang 14 has a name only in files that
// are compiled for CPUs that all have them.
#if defined(__x86_64__)
#define CRC_TARGET CPU_TARGET("sse4.2")

CRC_TARGET
static inline uint64_t crc_add_8(uint64_t crc, uint64_t word)
{
    return _mm_crc32_u64(crc, word);
}

CRC_TARGET
static inline uint64_t crc_add_1(uint64_t crc, uint8_t byte)
{
    return _mm_crc32_u8((uint32_t)crc, byte);
}

#elif defined(__aarch64__)
#define CRC_TARGET

static inline uint64_t crc_add_8(uint64_t crc, uint64_t word)
{
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(word));
    return crc;
}

static inline uint64_t crc_add_1(uint64_t crc, uint8_t byte)
{
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"((uint32_t)byte));
    return crc;
}

#endif

#if defined(CRC_TARGET)

CRC_TARGET
static uint32_t crc_by_instruction(uint32_t crc, const uint8_t *data, size_t bytes)
{
    uint64_t wide = crc;
    for (; bytes >= 8; data += 8, bytes -= 8) {
        uint64_t word;
        memcpy(&word, data, sizeof(word));
        wide = crc_add_8(wide, word);
    }
    for (; bytes > 0; data++, bytes--)
        wide = crc_add_1(wide, *data);
    return (uint32_t)wide;
}

#endif

// Between calls the value is inverted, as RFC 3720 presents it; inside it is not.
uint32_t hash_crc32c(uint32_t crc, const void *data, size_t bytes)
{
    assert(data || bytes == 0);

#if defined(CRC_TARGET)
    if (cpu_has_crc32c())
        return ~crc_by_instruction(~crc, data, bytes);
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

#define SHA256_BLOCK ((size_t)64)

#if defined(__x86_64__)

// FIPS 180-4, 4.2.2: the first 32 bits of the fractions of the cube roots of the first 64 primes.
static const uint32_t sha256_constants[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u,
    0xab1c5ed5u, 0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu,
    0x9bdc06a7u, 0xc19bf174u, 0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu,
    0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau, 0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u,
    0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u, 0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu,
    0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u, 0xa2bfe8a1u, 0xa81a664bu,
    0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u, 0x19a4c116u,
    0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u,
    0xc67178f2u};

// Whole blocks. The instructions keep the state as (a, b, e, f) and (c, d, g, h) and make two
// rounds each; four words of the schedule are one register.
CPU_TARGET("sha,sse4.1")
static void sha256_blocks(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const void *)state), 0xb1);
    __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const void *)(state + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(badc, hgfe, 8);
    __m128i cdgh = _mm_blend_epi16(hgfe, badc, 0xf0);

    for (; blocks > 0; blocks--, data += SHA256_BLOCK) {
        const __m128i abef_before = abef;
        const __m128i cdgh_before = cdgh;
        __m128i words[4]; // the last 16 of the schedule
        for (uint32_t i = 0; i < 16; i++) {
            __m128i *now = &words[i % 4];
            if (i < 4) {
                *now = _mm_shuffle_epi8(_mm_loadu_si128((const void *)(data + (size_t)16 * i)),
                                        big_endian);
            } else {
                const __m128i last = words[(i + 3) % 4];
                __m128i sum = _mm_sha256msg1_epu32(*now, words[(i + 1) % 4]);
                sum = _mm_add_epi32(sum, _mm_alignr_epi8(last, words[(i + 2) % 4], 4));
                *now = _mm_sha256msg2_epu32(sum, last);
            }
            __m128i round = _mm_add_epi32(
                *now, _mm_loadu_si128((const void *)(sha256_constants + (size_t)4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, round);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(round, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }

    __m128i feba = _mm_shuffle_epi32(abef, 0x1b);
    __m128i dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((void *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((void *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

// Takes the whole blocks that `data` begins with when the state is between two blocks; returns
// their bytes. What libsodium's state holds is public: chaining values, length in bits, a block
// that is not full.
static size_t take_blocks(struct hash_sha256 *state, const uint8_t *data, size_t bytes)
{
    crypto_hash_sha256_state *inner = library_state(state);
    size_t blocks = bytes / SHA256_BLOCK;
    if (blocks == 0 || inner->count % (8 * SHA256_BLOCK) != 0 || !cpu_has_sha())
        return 0;
    sha256_blocks(inner->state, data, blocks);
    inner->count += 8 * blocks * SHA256_BLOCK;
    return blocks * SHA256_BLOCK;
}

#else

static size_t take_blocks(struct hash_sha256 *state, const uint8_t *data, size_t bytes)
{
    (void)state;
    (void)data;
    (void)bytes;
    return 0;
}

#endif

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

    const uint8_t *at = data;
    while (bytes > 0) {
        size_t taken = take_blocks(state, at, bytes);
        if (taken == 0) {
            // Up to the end of the block that is begun, or all.
            size_t begun = library_state(state)->count / 8 % SHA256_BLOCK;
            taken = begun > 0 && bytes > SHA256_BLOCK - begun ? SHA256_BLOCK - begun : bytes;
            (void)crypto_hash_sha256_update(library_state(state), at, taken);
        }
        at += taken;
        bytes -= taken;
    }
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
