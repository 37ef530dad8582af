// SPDX-License-Identifier: Apache-2.0
// PNG through libpng; the only door to it.
//
// The library reports an error by longjmp to the one setjmp in run(). Everything that
// must be freed lives in struct reader, outside of the frames that are left.
//
// Chunks that change no pixel here are skipped unread: compressed text and colour
// profiles would cost time and memory that the file chooses.

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "shaders/models/image_internal.h"

#define LIBRARY_BYTES (256u << 10) // of libpng and zlib before the first row

struct reader {
    png_structp png;
    png_infop info;
    struct bytes file;
    size_t at; // next byte of the file
    enum image_profile profile;
    struct image_raw *raw;
    enum status status; // of what this file decided; the reason is written
    struct reason *why;
};

static void fail_with(struct reader *reader, enum status status)
{
    reader->status = status;
    png_longjmp(reader->png, 1);
}

static void on_error(png_structp png, png_const_charp text)
{
    struct reader *reader = png_get_error_ptr(png);
    fail_with(reader, reason_set(reader->why, STATUS_INVALID, IMAGE_FIELD, "broken PNG: %s", text));
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

// A chunk says how long it is, and libpng 1.6.39 takes memory for it before it looks for its bytes.
// No chunk is longer than the file; what rows need is known to be allowed once raw->data is there.
static png_voidp on_allocate(png_structp png, png_alloc_size_t bytes)
{
    const struct reader *reader = png_get_mem_ptr(png);
    if (!reader->raw->data && bytes > reader->file.count + LIBRARY_BYTES)
        return NULL;
    return malloc(bytes); // the library's own, not ours
}

static void on_free(png_structp png, png_voidp pointer)
{
    (void)png;
    free(pointer);
}

static void on_read(png_structp png, png_bytep out, size_t count)
{
    struct reader *reader = png_get_io_ptr(png);
    if (count > reader->file.count - reader->at)
        png_error(png, "the file ends before its picture does");
    memcpy(out, reader->file.data + reader->at, count);
    reader->at += count;
}

// --- how the pixels are said

static void skip_other_chunks(png_structp png)
{
    static const png_byte known[] = {
        't', 'R', 'N', 'S', '\0', // transparency
        'e', 'X', 'I', 'f', '\0', // orientation
    };
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_AS_DEFAULT, known, (int)(sizeof(known) / 5));
}

static enum image_mode choose_grey(struct reader *reader, int depth, bool key)
{
    // Pillow knows no transparent colour in 16-bit grey.
    if (key && (depth < 16 || reader->profile == IMAGE_PROFILE_RECO)) {
        png_set_tRNS_to_alpha(reader->png);
        png_set_strip_16(reader->png);
        return IMAGE_GREY_ALPHA;
    }
    if (depth < 8)
        png_set_expand_gray_1_2_4_to_8(reader->png);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    png_set_swap(reader->png);
#endif
    return depth == 16 ? IMAGE_GREY16 : depth == 1 ? IMAGE_BILEVEL : IMAGE_GREY;
}

static enum image_mode choose_mode(struct reader *reader)
{
    png_structp png = reader->png;
    int depth = png_get_bit_depth(png, reader->info);
    bool key =
        reader->profile != IMAGE_PROFILE_OPENAI && png_get_valid(png, reader->info, PNG_INFO_tRNS);
    switch (png_get_color_type(png, reader->info)) {
    case PNG_COLOR_TYPE_PALETTE:
        png_set_packing(png);
        return IMAGE_PALETTE;
    case PNG_COLOR_TYPE_GRAY:
        return choose_grey(reader, depth, key);
    case PNG_COLOR_TYPE_GRAY_ALPHA:
        png_set_strip_16(png);
        return IMAGE_GREY_ALPHA;
    case PNG_COLOR_TYPE_RGB_ALPHA:
        png_set_strip_16(png);
        return IMAGE_RGBA;
    default:
        if (key)
            png_set_tRNS_to_alpha(png);
        png_set_strip_16(png);
        return key ? IMAGE_RGBA : IMAGE_RGB;
    }
}

static void read_palette(struct reader *reader)
{
    png_colorp colours = NULL;
    int count = 0;
    if (!(png_get_PLTE(reader->png, reader->info, &colours, &count) & PNG_INFO_PLTE))
        png_error(reader->png, "no palette");
    for (int i = 0; i < count && i < 256; i++) {
        uint8_t *entry = reader->raw->palette[i];
        entry[0] = colours[i].red;
        entry[1] = colours[i].green;
        entry[2] = colours[i].blue;
    }
    png_bytep alpha = NULL;
    int alphas = 0;
    if (png_get_tRNS(reader->png, reader->info, &alpha, &alphas, NULL) & PNG_INFO_tRNS) {
        for (int i = 0; alpha && i < alphas && i < 256; i++)
            reader->raw->palette[i][3] = alpha[i];
    }
}

// --- the whole

static void read_picture(struct reader *reader)
{
    png_structp png = reader->png;
    struct image_raw *raw = reader->raw;
    png_set_read_fn(png, reader, on_read);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); // ours is checked below
    skip_other_chunks(png);
    png_read_info(png, reader->info);

    uint32_t width = png_get_image_width(png, reader->info);
    uint32_t height = png_get_image_height(png, reader->info);
    enum image_mode mode = choose_mode(reader);
    enum status status = image_raw_init(raw, width, height, mode, reader->why);
    if (status != STATUS_OK)
        fail_with(reader, status);
    if (mode == IMAGE_PALETTE)
        read_palette(reader);

    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, reader->info);
    size_t row_bytes = (size_t)width * image_mode_bytes(mode);
    if (png_get_rowbytes(png, reader->info) != row_bytes)
        png_error(png, "unexpected pixel format");
    for (int pass = 0; pass < passes; pass++) {
        for (uint32_t y = 0; y < height; y++)
            png_read_row(png, raw->data + y * row_bytes, NULL);
    }
    png_read_end(png, reader->info);

    png_bytep exif = NULL;
    png_uint_32 exif_bytes = 0;
    if (png_get_eXIf_1(png, reader->info, &exif_bytes, &exif) & PNG_INFO_eXIf)
        raw->orientation = image_exif_orientation((struct bytes){exif, exif_bytes});
}

static void run(struct reader *reader)
{
    if (setjmp(png_jmpbuf(reader->png)) == 0)
        read_picture(reader);
}

enum status image_png_read(struct bytes file, enum image_profile profile, struct image_raw *raw,
                           struct reason *why)
{
    struct reader reader = {
        .file = file,
        .profile = profile,
        .raw = raw,
        .status = STATUS_OK,
        .why = why,
    };
    reader.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &reader, on_error, on_warning,
                                          &reader, on_allocate, on_free);
    reader.info = reader.png ? png_create_info_struct(reader.png) : NULL;
    if (reader.info)
        run(&reader);
    else
        reader.status = reason_set(why, STATUS_NO_MEMORY, IMAGE_FIELD, "no memory to read PNG");
    png_destroy_read_struct(&reader.png, &reader.info, NULL);
    return reader.status;
}
