// SPDX-License-Identifier: Apache-2.0
// The zlib stream has stored blocks only, one for each row: no compressor is needed, and any
// decoder reads it. PNG specification (W3C, second edition), RFC 1950, RFC 1951.

#include "tools/png_file.h"

#include <assert.h>
#include <stdbool.h>

_Static_assert(1 + 3 * PNG_FILE_EDGE_MAX <= 65535, "a row fits a stored block of deflate");

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

static enum status put_rows(const uint8_t *rgb, uint32_t width, uint32_t height,
                            struct buffer *stream)
{
    static const uint8_t header[2] = {0x78, 0x01};
    static const uint8_t filter = 0;
    const uint32_t bytes = 1 + 3 * width;
    uint32_t adler = 1;
    enum status status = buffer_append(stream, header, sizeof(header));
    for (uint32_t y = 0; y < height && !status; y++) {
        const uint8_t *row = rgb + (size_t)y * width * 3;
        const bool last = y + 1 == height;
        const uint8_t block[6] = {last,
                                  (uint8_t)(bytes & 0xff),
                                  (uint8_t)(bytes >> 8),
                                  (uint8_t)(~bytes & 0xff),
                                  (uint8_t)(~bytes >> 8 & 0xff),
                                  filter};
        adler = adler32_of(adler32_of(adler, &filter, 1), row, (size_t)width * 3);
        status = buffer_append(stream, block, sizeof(block));
        if (!status)
            status = buffer_append(stream, row, (size_t)width * 3);
    }
    uint8_t end[4];
    bytes_put_u32_be(end, adler);
    return status ? status : buffer_append(stream, end, sizeof(end));
}

enum status png_file_append(const uint8_t *rgb, uint32_t width, uint32_t height, struct buffer *out)
{
    assert(rgb && out);
    assert(width >= 1 && width <= PNG_FILE_EDGE_MAX && height >= 1 && height <= PNG_FILE_EDGE_MAX);

    uint8_t header[13] = {[8] = 8, [9] = 2}; // 8 bits, RGB
    struct buffer stream = {0};
    bytes_put_u32_be(header, width);
    bytes_put_u32_be(header + 4, height);

    enum status status = put_rows(rgb, width, height, &stream);
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
