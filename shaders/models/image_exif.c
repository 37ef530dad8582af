// SPDX-License-Identifier: Apache-2.0
// Finds the orientation in a block of EXIF: a TIFF header, then a directory of
// twelve-byte entries (tag, type, count, value), after the TIFF 6.0 specification.
// Only the first directory is read; every offset is checked.

#include <string.h>

#include "shaders/models/image_internal.h"

#define HEADER_BYTES 8
#define ENTRY_BYTES 12
#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT 3
#define TYPE_LONG 4

struct tiff {
    struct bytes bytes;
    bool big_endian;
};

static uint32_t get_u16(const struct tiff *tiff, size_t at)
{
    const uint8_t *data = tiff->bytes.data + at;
    return tiff->big_endian ? bytes_get_u16_be(data) : (uint32_t)data[0] | (uint32_t)data[1] << 8;
}

static uint32_t get_u32(const struct tiff *tiff, size_t at)
{
    const uint8_t *data = tiff->bytes.data + at;
    return tiff->big_endian ? bytes_get_u32_be(data) : bytes_get_u32_le(data);
}

uint32_t image_exif_orientation(struct bytes exif)
{
    if (exif.count >= 6 && memcmp(exif.data, "Exif\0\0", 6) == 0)
        exif = (struct bytes){exif.data + 6, exif.count - 6};
    if (exif.count < HEADER_BYTES)
        return 1;
    struct tiff tiff = {exif, exif.data[0] == 'M'};
    if (memcmp(exif.data, "MM\0*", 4) != 0 && memcmp(exif.data, "II*\0", 4) != 0)
        return 1;

    size_t at = get_u32(&tiff, 4);
    if (at > exif.count - 2)
        return 1;
    uint32_t entries = get_u16(&tiff, at);
    at += 2;
    for (uint32_t i = 0; i < entries && exif.count - at >= ENTRY_BYTES; i++, at += ENTRY_BYTES) {
        if (get_u16(&tiff, at) != TAG_ORIENTATION)
            continue;
        uint32_t type = get_u16(&tiff, at + 2);
        uint32_t value = 0;
        if (type == TYPE_SHORT)
            value = get_u16(&tiff, at + 8);
        else if (type == TYPE_LONG)
            value = get_u32(&tiff, at + 8);
        return value >= 1 && value <= 8 ? value : 1;
    }
    return 1;
}
