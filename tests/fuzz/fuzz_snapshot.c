// SPDX-License-Identifier: Apache-2.0
// Goal: no manifest and no file of records makes the reader of snapshots crash, hang or give out what
// is no record.
//
// Method: the input as a manifest, and as what is in a file of records whose manifest has its length and
// checksum; then what is given out must be whole records that fill the file.

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/snapshot_internal.h"
#include "proto/base/mem.h"

#define DIMENSION 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];

static void check(bool right)
{
    if (!right)
        abort();
}

static void remove_folder(void)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/records-0.bin", folder);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/" SNAPSHOT_MANIFEST, folder);
    (void)unlink(path);
    (void)rmdir(folder);
}

static void write_file(const char *name, const void *data, size_t count)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    check(file && fwrite(data, 1, count, file) == count);
    check(fclose(file) == 0);
}

static void parse(struct bytes manifest)
{
    struct snapshot_about about;
    struct snapshot_file *files = NULL;
    size_t count = 0;
    struct reason why = {.text = ""};
    if (snapshot_parse_manifest(manifest, &about, &files, &count, &why) != STATUS_OK) {
        check(why.text[0] != '\0');
        return;
    }
    check(about.dimension >= 1 && about.dimension <= DIMENSION_MAX);
    check(about.vshards >= 1 && about.vshards <= VSHARDS_MAX && about.hidden <= about.records);
    check(strlen(about.content_hash) == CONTENT_HASH_BYTES && count <= SNAPSHOT_FILES_MAX);
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += files[i].bytes;
    check(bytes == about.bytes);
    mem_free(files);
}

static void read_records(size_t bytes)
{
    const struct snapshot_place place = {.name = folder};
    struct snapshot_reader *reader = NULL;
    struct reason why = {.text = ""};
    check(snapshot_reader_open(&place, NULL, &reader, &why) == STATUS_OK);
    size_t count = 1;
    size_t sum = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && count > 0) {
        struct bytes packed;
        status = snapshot_read(reader, 3, &packed, &count, &why);
        for (size_t i = 0; status == STATUS_OK && i < count; i++) {
            struct packed_record record;
            const size_t before = packed.count;
            check(packed_take(&packed, DIMENSION, &record, NULL) == STATUS_OK);
            sum += before - packed.count;
        }
        check(status != STATUS_OK || count == 0 || packed.count == 0);
    }
    check(status == STATUS_OK ? sum == bytes : why.text[0] != '\0');
    snapshot_reader_close(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    parse((struct bytes){data, size});
    if (size == 0 || size > (1u << 16))
        return 0;
    if (!folder[0]) {
        (void)snprintf(folder, sizeof(folder), "/tmp/reco-fuzz-XXXXXX");
        check(mkdtemp(folder) != NULL);
        check(atexit(remove_folder) == 0);
    }
    uint8_t *file = mem_alloc(SNAPSHOT_MAGIC_BYTES + size);
    memcpy(file, SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_BYTES);
    memcpy(file + SNAPSHOT_MAGIC_BYTES, data, size);
    char hex[HASH_SHA256_HEX_BYTES];
    char manifest[1024];
    const size_t bytes = SNAPSHOT_MAGIC_BYTES + size;
    snapshot_sha256((struct bytes){file, bytes}, hex);
    int length =
        snprintf(manifest, sizeof(manifest),
                 "{\"kind\":\"" SNAPSHOT_KIND "\",\"format\":1,\"memory\":\"m\",\"generation\":1,"
                 "\"space\":\"s:4\",\"dimension\":4,\"vshards\":1,\"records\":1,\"hidden\":0,"
                 "\"content_hash\":\"00000000000000000000000000000000\",\"files\":[{\"name\":"
                 "\"records-0.bin\",\"bytes\":%zu,\"sha256\":\"%s\"}]",
                 bytes, hex);
    snapshot_sha256((struct bytes){(const uint8_t *)manifest, (size_t)length}, hex);
    length +=
        snprintf(manifest + length, sizeof(manifest) - (size_t)length, ",\"sha256\":\"%s\"}", hex);
    write_file("records-0.bin", file, bytes);
    write_file(SNAPSHOT_MANIFEST, manifest, (size_t)length);
    mem_free(file);
    read_records(size);
    return 0;
}
