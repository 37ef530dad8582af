// SPDX-License-Identifier: Apache-2.0
// A PNG whose zlib stream has stored blocks only: no compressor is needed, and any
// decoder reads it. PNG specification (W3C, second edition), RFC 1950, RFC 1951.

#include "tools/sample_picture.h"

#include <string.h>

#define ROW_BYTES (1 + 3 * SAMPLE_PICTURE_EDGE) // filter type 0, then RGB
#define ROWS_PER_BLOCK 64
#define BLOCK_BYTES (ROWS_PER_BLOCK * ROW_BYTES)

_Static_assert(BLOCK_BYTES <= 65535, "a stored block of deflate");
_Static_assert(SAMPLE_PICTURE_EDGE % ROWS_PER_BLOCK == 0, "whole blocks");

static uint32_t crc32_of(const uint8_t *data, size_t count)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < count; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static uint32_t adler32_of(uint32_t adler, const uint8_t *data, size_t count)
{
    uint32_t a = adler & 0xffff;
    uint32_t b = adler >> 16;
    for (size_t i = 0; i < count; i++) {
        a = (a + data[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

static enum status put_chunk(struct buffer *out, const char *type, const uint8_t *data,
                             size_t count)
{
    uint8_t number[4];
    bytes_put_u32_be(number, (uint32_t)count);
    enum status status = buffer_append(out, number, sizeof(number));
    size_t begin = out->count;
    if (!status)
        status = buffer_append(out, type, 4);
    if (!status && count)
        status = buffer_append(out, data, count);
    if (status)
        return status;
    bytes_put_u32_be(number, crc32_of(out->data + begin, out->count - begin));
    return buffer_append(out, number, sizeof(number));
}

static void draw_row(uint32_t number, uint32_t y, uint8_t row[ROW_BYTES])
{
    row[0] = 0;
    for (uint32_t x = 0; x < SAMPLE_PICTURE_EDGE; x++) {
        row[1 + 3 * x] = (uint8_t)(x * (1 + number % 7) + y);
        row[2 + 3 * x] = (uint8_t)(y * (1 + number % 5) ^ x);
        row[3 + 3 * x] = (uint8_t)(number * 37 + (x * y >> 6));
    }
}

static enum status put_pixels(uint32_t number, struct buffer *stream)
{
    static const uint8_t header[2] = {0x78, 0x01};
    uint32_t adler = 1;
    enum status status = buffer_append(stream, header, sizeof(header));

    for (uint32_t y = 0; y < SAMPLE_PICTURE_EDGE && !status; y++) {
        uint8_t row[ROW_BYTES];
        if (y % ROWS_PER_BLOCK == 0) {
            bool last = y + ROWS_PER_BLOCK == SAMPLE_PICTURE_EDGE;
            const uint8_t block[5] = {last, BLOCK_BYTES & 0xff, BLOCK_BYTES >> 8,
                                      ~BLOCK_BYTES & 0xff, (~BLOCK_BYTES >> 8) & 0xff};
            status = buffer_append(stream, block, sizeof(block));
        }
        draw_row(number, y, row);
        adler = adler32_of(adler, row, sizeof(row));
        if (!status)
            status = buffer_append(stream, row, sizeof(row));
    }

    uint8_t end[4];
    bytes_put_u32_be(end, adler);
    return status ? status : buffer_append(stream, end, sizeof(end));
}

enum status sample_picture_make(uint32_t number, struct buffer *out)
{
    uint8_t header[13] = {[8] = 8, [9] = 2}; // 8 bits, RGB
    struct buffer stream = {0};
    bytes_put_u32_be(header, SAMPLE_PICTURE_EDGE);
    bytes_put_u32_be(header + 4, SAMPLE_PICTURE_EDGE);

    enum status status = put_pixels(number, &stream);
    if (!status)
        status = buffer_append(out, "\x89PNG\r\n\x1a\n", 8);
    if (!status)
        status = put_chunk(out, "IHDR", header, sizeof(header));
    if (!status)
        status = put_chunk(out, "IDAT", stream.data, stream.count);
    if (!status)
        status = put_chunk(out, "IEND", NULL, 0);
    buffer_deinit(&stream);
    return status;
}
