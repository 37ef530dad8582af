// SPDX-License-Identifier: Apache-2.0
// Goal: no value of the store makes the reader of documents crash or look outside of it.
//
// Method: the input as it is, which fails its checksum nearly always, and again with a good
// checksum behind it, so that the lengths are what is tried. What is accepted must lie inside the
// value, one text behind the other, and fill it.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "shard_node/store.h"

#define LENGTHS_BYTES 8
#define CRC_BYTES 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static void decode(struct bytes value)
{
    struct store_document document;
    if (store_decode_document(value, &document) != STATUS_OK)
        return;
    const struct text texts[] = {document.key, document.caption, document.source, document.tags};
    const char *at = (const char *)value.data + LENGTHS_BYTES;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        check(texts[i].data == at);
        at += texts[i].bytes;
    }
    check(at + CRC_BYTES == (const char *)value.data + value.count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode((struct bytes){data, size});

    uint8_t *value = mem_alloc(size + CRC_BYTES);
    if (size > 0)
        memcpy(value, data, size);
    bytes_put_u32_le(value + size, hash_crc32c(0, value, size));
    decode((struct bytes){value, size + CRC_BYTES});
    mem_free(value);
    return 0;
}
