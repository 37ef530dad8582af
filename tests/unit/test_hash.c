// SPDX-License-Identifier: Apache-2.0
// Goal: ids, checksums and space hashes are those that the formats promise,
// whichever instructions compute them.
//
// Method: published vectors: RFC 3720 appendix B.4 for CRC-32C, FIPS 180-4's
// examples for SHA-256, the self-test of xxhsum 0.8 for XXH3.

#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <sodium/crypto_hash_sha256.h>

#include "proto/base/cpu.h"
#include "proto/base/hash.h"

// xxhsum's test buffer.
static void fill_xxh_buffer(uint8_t *buffer, size_t count)
{
    uint64_t generator = 2654435761u;
    for (size_t i = 0; i < count; i++) {
        buffer[i] = (uint8_t)(generator >> 56);
        generator *= UINT64_C(11400714785074694797);
    }
}

Test(hash, id_is_xxh3_of_the_key)
{
    static const struct {
        size_t bytes;
        uint64_t id;
    } table[] = {
        {0, UINT64_C(0x2D06800538D394C2)},    {1, UINT64_C(0xC44BDFF4074EECDB)},
        {6, UINT64_C(0x27B56A84CD2D7325)},    {12, UINT64_C(0xA713DAF0DFBB77E7)},
        {24, UINT64_C(0xA3FE70BF9D3510EB)},   {48, UINT64_C(0x397DA259ECBA1F11)},
        {80, UINT64_C(0xBCDEFBBB2C47C90A)},   {195, UINT64_C(0xCD94217EE362EC3A)},
        {512, UINT64_C(0x617E49599013CB6B)},  {2048, UINT64_C(0xDD59E2C3A5F038E0)},
        {2240, UINT64_C(0x6E73A90539CF2948)}, {2367, UINT64_C(0xCB37AEB9E5D361ED)},
    };
    uint8_t buffer[2367];
    fill_xxh_buffer(buffer, sizeof(buffer));
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        cr_expect(eq(u64, hash_id(buffer, table[i].bytes), table[i].id));
    cr_expect(eq(u64, hash_id(NULL, 0), table[0].id));
}

static void check_crc_vectors(void)
{
    uint8_t block[32];
    memset(block, 0, sizeof(block));
    cr_expect(eq(u32, hash_crc32c(0, block, 32), 0x8a9136aau));
    memset(block, 0xff, sizeof(block));
    cr_expect(eq(u32, hash_crc32c(0, block, 32), 0x62a8ab43u));
    for (unsigned i = 0; i < 32; i++)
        block[i] = (uint8_t)i;
    cr_expect(eq(u32, hash_crc32c(0, block, 32), 0x46dd794eu));
    for (unsigned i = 0; i < 32; i++)
        block[i] = (uint8_t)(31 - i);
    cr_expect(eq(u32, hash_crc32c(0, block, 32), 0x113fdb5cu));

    const uint8_t read_command[48] = {0x01, 0xc0, 0, 0,    0,    0, 0, 0,    0,    0, 0,    0,
                                      0,    0,    0, 0,    0x14, 0, 0, 0,    0,    0, 0x04, 0,
                                      0,    0,    0, 0x14, 0,    0, 0, 0x18, 0x28, 0, 0,    0,
                                      0,    0,    0, 0,    0x02, 0, 0, 0,    0,    0, 0,    0};
    cr_expect(eq(u32, hash_crc32c(0, read_command, sizeof(read_command)), 0xd9963a56u));

    cr_expect(eq(u32, hash_crc32c(0, "123456789", 9), 0xe3069283u));
    cr_expect(eq(u32, hash_crc32c(0, NULL, 0), 0));
}

Test(hash, crc32c_has_the_values_of_rfc_3720)
{
    check_crc_vectors();
}

Test(hash, crc32c_has_the_values_of_rfc_3720_by_table)
{
    cr_assert(eq(int, setenv("RECO_CPU", "scalar", 1), 0));
    cr_assert(not(cpu_has_crc32c()));
    check_crc_vectors();
}

// One bit at a time: slow, and independent of both paths.
static uint32_t crc_by_bits(const uint8_t *data, size_t bytes)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < bytes; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            uint32_t top = (crc ^ (uint32_t)(data[i] >> bit)) & 1u;
            crc = (crc >> 1) ^ (top ? 0x82f63b78u : 0);
        }
    }
    return ~crc;
}

Test(hash, crc32c_in_parts_at_any_alignment_is_that_of_the_whole)
{
    uint8_t data[100];
    fill_xxh_buffer(data, sizeof(data));
    for (size_t begin = 0; begin < 9; begin++) {
        uint32_t whole = crc_by_bits(data + begin, sizeof(data) - begin);
        for (size_t cut = begin; cut <= sizeof(data); cut++) {
            uint32_t crc = hash_crc32c(0, data + begin, cut - begin);
            crc = hash_crc32c(crc, data + cut, sizeof(data) - cut);
            cr_assert(eq(u32, crc, whole));
        }
    }
}

static void expect_sha256(const char *text, size_t repeat, const char *hex)
{
    struct hash_sha256 state;
    hash_sha256_init(&state);
    for (size_t i = 0; i < repeat; i++)
        hash_sha256_update(&state, text, strlen(text));
    hash_sha256_update(&state, NULL, 0);

    uint8_t digest[HASH_SHA256_BYTES];
    hash_sha256_final(&state, digest);
    char got[HASH_SHA256_HEX_BYTES];
    hash_hex(digest, sizeof(digest), got);
    cr_expect_str_eq(got, hex);
}

Test(hash, sha256_has_the_values_of_fips_180)
{
    expect_sha256("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect_sha256("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect_sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    expect_sha256("a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Parts of every length, at every place in a block, against libsodium alone.
Test(hash, sha256_in_parts_is_that_of_the_whole_with_any_instructions)
{
    uint8_t data[700];
    fill_xxh_buffer(data, sizeof(data));
    for (size_t cut = 0; cut <= sizeof(data); cut++) {
        struct hash_sha256 state;
        uint8_t got[HASH_SHA256_BYTES];
        uint8_t expected[HASH_SHA256_BYTES];
        hash_sha256_init(&state);
        hash_sha256_update(&state, data, cut);
        hash_sha256_update(&state, data + cut, sizeof(data) - cut);
        hash_sha256_final(&state, got);
        cr_assert(eq(int, crypto_hash_sha256(expected, data, sizeof(data)), 0));
        cr_assert(memcmp(got, expected, sizeof(got)) == 0, "cut at %zu", cut);
    }
}

Test(hash, sha256_without_the_instructions_has_the_values_of_fips_180)
{
    cr_assert(eq(int, setenv("RECO_CPU", "scalar", 1), 0)); // before the first look at the CPU
    cr_expect(not(cpu_has_sha()));
    expect_sha256("a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

Test(hash, hex_is_lower_case_and_ends_with_nul)
{
    const uint8_t data[] = {0x00, 0x9f, 0xa0, 0xff};
    char text[9];
    memset(text, 'x', sizeof(text));
    hash_hex(data, sizeof(data), text);
    cr_expect_str_eq(text, "009fa0ff");
    hash_hex(NULL, 0, text);
    cr_expect_str_eq(text, "");
}
