// SPDX-License-Identifier: Apache-2.0
// sealed.h - an input whose last 8 bytes are the hash of what is before them.
//
// Thread-safety: none.

#ifndef RECO_TESTS_SEALED_H
#define RECO_TESTS_SEALED_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "proto/base/bytes.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"

typedef void sealed_read(const uint8_t *data, size_t size);

// Reads the input as it is, and once more with the hash made right, since otherwise hardly any
// input would come behind it.
static inline void sealed_run(const uint8_t *data, size_t size, sealed_read *read)
{
    read(data, size);
    if (size < sizeof(uint64_t))
        return;
    const size_t end = size - sizeof(uint64_t);
    uint8_t *mended = mem_alloc(size);
    memcpy(mended, data, size);
    bytes_put_u64_le(mended + end, hash_id(mended, end));
    read(mended, size);
    mem_free(mended);
}

#endif
