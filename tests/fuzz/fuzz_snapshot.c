// SPDX-License-Identifier: Apache-2.0
// Goal: no manifest and no file of records makes the reader of snapshots crash, hang or give out
// what is no record.
//
// Method: the input as a manifest beside a file of one record, as it is and with its own checksum
// put right; or, when it does not begin like JSON, as what is in a file of records whose manifest
// has its length and checksum. What is given out must be whole records that fill the file.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/snapshot_internal.h"
#include "proto/base/mem.h"
#include "tests/fuzz/scratch.h"

#define RECORDS_NAME "records-0.bin"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

// Whether it is a manifest.
static bool parse(struct bytes manifest)
{
    struct snapshot_about about;
    struct snapshot_file *files = NULL;
    size_t count = 0;
    struct reason why = {.text = ""};
    if (snapshot_parse_manifest(manifest, &about, &files, &count, &why) != STATUS_OK) {
        check(why.text[0] != '\0');
        return false;
    }
    check(about.dimension >= 1 && about.dimension <= DIMENSION_MAX);
    check(about.vshards >= 1 && about.vshards <= VSHARDS_MAX && about.hidden <= about.records);
    check(strlen(about.content_hash) == CONTENT_HASH_BYTES && count <= SNAPSHOT_FILES_MAX);
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += files[i].bytes;
    check(bytes == about.bytes);
    mem_free(files);
    return true;
}

// Opens what is in the folder; NULL when it is refused.
static struct snapshot_reader *open_reader(void)
{
    const struct snapshot_place place = {.name = scratch_folder()};
    struct snapshot_reader *reader = NULL;
    struct reason why = {.text = ""};
    const enum status status = snapshot_reader_open(&place, NULL, &reader, &why);
    check((status == STATUS_OK) == (reader != NULL) && (reader || why.text[0] != '\0'));
    return reader;
}

// All records; `bytes` is what they fill, when none is refused.
static void read_records(struct snapshot_reader *reader, size_t bytes)
{
    const uint32_t dimension = snapshot_about(reader)->dimension;
    struct reason why = {.text = ""};
    size_t count = 1;
    size_t sum = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && count > 0) {
        struct bytes packed;
        status = snapshot_read(reader, 3, &packed, &count, &why);
        for (size_t i = 0; status == STATUS_OK && i < count; i++) {
            struct packed_record record;
            const size_t before = packed.count;
            check(packed_take(&packed, dimension, &record, NULL) == STATUS_OK);
            sum += before - packed.count;
        }
        check(status != STATUS_OK || count == 0 || packed.count == 0);
    }
    check(status == STATUS_OK ? sum == bytes : why.text[0] != '\0');
    snapshot_reader_close(&reader);
}

// The file of records, and its checksum.
static void write_records(const void *records, size_t bytes, char hex[HASH_SHA256_HEX_BYTES])
{
    uint8_t *file = mem_alloc(SNAPSHOT_MAGIC_BYTES + bytes);
    memcpy(file, SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_BYTES);
    memcpy(file + SNAPSHOT_MAGIC_BYTES, records, bytes);
    snapshot_sha256((struct bytes){file, SNAPSHOT_MAGIC_BYTES + bytes}, hex);
    scratch_write(RECORDS_NAME, file, SNAPSHOT_MAGIC_BYTES + bytes);
    mem_free(file);
}

// The manifest with the checksum of its own at its end, in place of its last byte.
static void write_sealed(const void *manifest, size_t bytes)
{
    char hex[HASH_SHA256_HEX_BYTES];
    char *file = mem_alloc(bytes + SNAPSHOT_TAIL_BYTES + 1);
    memcpy(file, manifest, bytes - 1);
    snapshot_sha256((struct bytes){(const uint8_t *)file, bytes - 1}, hex);
    const int tail =
        snprintf(file + bytes - 1, SNAPSHOT_TAIL_BYTES + 1, ",\"sha256\":\"%s\"}", hex);
    check(tail == SNAPSHOT_TAIL_BYTES);
    scratch_write(SNAPSHOT_MANIFEST, file, bytes - 1 + SNAPSHOT_TAIL_BYTES);
    mem_free(file);
}

// The input is to be the manifest beside a file that a right one may name. Its seal is looked at
// last.
static void attack_manifest(const uint8_t *data, size_t size, bool is_manifest)
{
    static const uint8_t record[] = "\x29\0\0\0\1\0\x09\0\0\0\3\0\4\0\0\0"
                                    "aa captiona\x1f"
                                    "b\0\x38\0\x38\0\x38\0\x38\0\x38\0\x38\0\x38\0\x38";
    char hex[HASH_SHA256_HEX_BYTES];
    write_records(record, sizeof(record) - 1, hex);
    scratch_write(SNAPSHOT_MANIFEST, data, size);
    struct snapshot_reader *reader = open_reader();
    snapshot_reader_close(&reader);
    if (is_manifest) {
        write_sealed(data, size);
        reader = open_reader();
    }
    if (reader)
        read_records(reader, snapshot_about(reader)->bytes > 0 ? sizeof(record) - 1 : 0);
}

// The input is what is in a file of records; the manifest has its length and checksum.
static void attack_records(const uint8_t *data, size_t size)
{
    char hex[HASH_SHA256_HEX_BYTES];
    char manifest[1024];
    write_records(data, size, hex);
    const int length =
        snprintf(manifest, sizeof(manifest),
                 "{\"kind\":\"" SNAPSHOT_KIND "\",\"format\":1,\"memory\":\"m\",\"generation\":1,"
                 "\"space\":\"s:4\",\"dimension\":4,\"vshards\":1,\"records\":1,\"hidden\":0,"
                 "\"content_hash\":\"00000000000000000000000000000000\",\"files\":[{\"name\":"
                 "\"" RECORDS_NAME "\",\"bytes\":%zu,\"sha256\":\"%s\"}]}",
                 SNAPSHOT_MAGIC_BYTES + size, hex);
    check(length > 0 && (size_t)length < sizeof(manifest));
    write_sealed(manifest, (size_t)length);
    struct snapshot_reader *reader = open_reader();
    check(reader != NULL);
    read_records(reader, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const bool is_manifest = parse((struct bytes){data, size});
    if (size == 0 || size > (1u << 16))
        return 0;
    if (data[0] == '{')
        attack_manifest(data, size, is_manifest);
    else
        attack_records(data, size);
    return 0;
}
