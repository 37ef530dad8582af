// SPDX-License-Identifier: Apache-2.0
// Goal: a picture file is decoded right or refused with a reason; whatever its bytes are,
// nothing crashes, leaks, or allocates before the size is checked.
//
// Method: the golden files of every format and the seeds of the fuzz target, whole, cut
// short, with bits flipped, and with sizes in their headers that lie. Allocation
// failures are injected one by one. Flips come from a fixed seed.

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/base/thread.h"
#include "shaders/models/image_internal.h"
#include "tests/support/gz.h"

#define GOLDEN RECO_SOURCE_DIR "/tests/golden/preprocess/"
#define SEEDS RECO_SOURCE_DIR "/tests/fuzz/corpus/image/"
#define SEED 5u
#define SIZE 32

static const char *const files[] = {
    GOLDEN "baseline444.jpg", GOLDEN "progressive.jpg",   GOLDEN "grey.jpg",
    GOLDEN "cmyk.jpg",        GOLDEN "exif6.jpg",         GOLDEN "rgb.png",
    GOLDEN "rgba.png",        GOLDEN "grey-alpha.png",    GOLDEN "palette.png",
    GOLDEN "bilevel.png",     GOLDEN "palette-alpha.png", GOLDEN "grey16.png",
    GOLDEN "rgb16.png",       GOLDEN "lossless.webp",     GOLDEN "lossy.webp",
    GOLDEN "tiny.png",
};

#define FILES (sizeof(files) / sizeof(files[0]))

static uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static struct bytes view(const struct gz *file)
{
    return (struct bytes){file->data, file->count};
}

// Reads a seed of the fuzz target without its first byte.
static struct bytes read_seed(const char *name, struct gz *file)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s%s", SEEDS, name);
    gz_read(path, file);
    return (struct bytes){file->data + 1, file->count - 1};
}

static struct image_params make_params(enum image_profile profile)
{
    return (struct image_params){
        .size = SIZE,
        .filter = IMAGE_FILTER_BICUBIC,
        .profile = profile,
        .rescale = 1.0 / 255.0,
        .std = {1, 1, 1},
    };
}

// Decodes; what comes back is either a picture or a reason.
static enum status decode(struct bytes file, enum image_profile profile, struct image *out)
{
    struct image image = {7, 7, NULL};
    struct reason why = {0};
    enum status status = image_decode(file, profile, &image, &why);
    if (status == STATUS_OK) {
        cr_assert(image.width > 0 && image.height > 0 && image.rgb);
        cr_assert(eq(sz, strlen(why.text), 0));
        *out = image;
    } else {
        cr_assert(eq(str, why.field, (char *)"image"));
        cr_assert(gt(sz, strlen(why.text), 0));
        cr_assert(eq(u32, image.width, 7));
    }
    return status;
}

static void expect_refused(struct bytes file, const char *part)
{
    struct image image = {7, 7, NULL};
    struct reason why = {0};
    // Nothing may be allocated before the refusal by this program's own hand.
    mem_fail_after(1);
    enum status status = image_decode(file, IMAGE_PROFILE_RECO, &image, &why);
    mem_fail_after(0);
    cr_expect(eq(int, status, STATUS_INVALID), "%s: %s", part, why.text);
    cr_expect(ne(ptr, strstr(why.text, part), NULL), "\"%s\" in \"%s\"", part, why.text);
    cr_expect(eq(u32, image.width, 7));
}

// --- what a file is

Test(image, refuses_what_is_no_picture_and_names_the_formats)
{
    static const char *const texts[] = {
        "",         "G",     "GIF",   "GIF88a",          "RIFF",     "RIFF\4\0\0\0WAVE",
        "%PDF-1.4", "BM6\0", "<svg>", "\x89PNG\r\n\x1a", "\xFF\xD8", "II*\0\x08\0\0\0",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        expect_refused((struct bytes){(const uint8_t *)texts[i], strlen(texts[i])},
                       "JPEG, PNG, WebP and GIF are allowed");
    expect_refused((struct bytes){NULL, 0}, "the file is empty");
}

Test(image, decodes_every_seed_of_the_fuzz_target)
{
    static const char *const broken[] = {"huge-header.png"};
    DIR *folder = opendir(SEEDS);
    cr_assert(ne(ptr, folder, NULL));
    int decoded = 0;
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, broken[0]) == 0)
            continue;
        struct gz file;
        struct bytes bytes = read_seed(entry->d_name, &file);
        for (int profile = 0; profile < 3; profile++) {
            struct image image = {0};
            cr_expect(eq(int, decode(bytes, (enum image_profile)profile, &image), STATUS_OK), "%s",
                      entry->d_name);
            image_deinit(&image);
            decoded++;
        }
        gz_free(&file);
    }
    (void)closedir(folder);
    cr_expect(ge(int, decoded, 3 * 24));
}

Test(image, shows_the_first_frame_of_animations)
{
    static const char *const animated[] = {"animated.png", "animated.webp", "animated.gif"};
    static const char *const still[] = {"rgb.png", "lossless.webp", "palette.gif"};
    for (size_t i = 0; i < 3; i++) {
        struct gz files_[2];
        struct image images[2] = {{0}, {0}};
        cr_assert(eq(int,
                     decode(read_seed(animated[i], &files_[0]), IMAGE_PROFILE_RECO, &images[0]),
                     STATUS_OK));
        cr_assert(eq(int, decode(read_seed(still[i], &files_[1]), IMAGE_PROFILE_RECO, &images[1]),
                     STATUS_OK));
        cr_assert(eq(u32, images[0].width, 13));
        cr_assert(eq(u32, images[0].height, 9));
        cr_expect(eq(int, memcmp(images[0].rgb, images[1].rgb, 13 * 9 * 3), 0), "%s", animated[i]);
        for (size_t j = 0; j < 2; j++) {
            image_deinit(&images[j]);
            gz_free(&files_[j]);
        }
    }
}

Test(image, grows_a_gif_screen_to_its_frame)
{
    struct gz file;
    struct image image = {0};
    cr_assert(
        eq(int, decode(read_seed("overhanging.gif", &file), IMAGE_PROFILE_HF, &image), STATUS_OK));
    cr_expect(eq(u32, image.width, 4));
    cr_expect(eq(u32, image.height, 4));
    image_deinit(&image);
    gz_free(&file);
}

Test(image, turns_each_adam7_and_key_coloured_pixel_right)
{
    struct gz file;
    struct image image = {0};
    cr_assert(
        eq(int, decode(read_seed("interlaced.png", &file), IMAGE_PROFILE_RECO, &image), STATUS_OK));
    static const uint8_t greys[] = {0x10, 0x20, 0x30, 0x40};
    for (size_t i = 0; i < 4; i++)
        cr_expect(eq(u8, image.rgb[3 * i], greys[i]));
    image_deinit(&image);
    gz_free(&file);

    // Pixel 0 has the transparent colour.
    struct bytes bytes = read_seed("colour-key.png", &file);
    cr_assert(eq(int, decode(bytes, IMAGE_PROFILE_RECO, &image), STATUS_OK));
    cr_expect(eq(u8, image.rgb[0], 255));
    cr_expect(eq(u8, image.rgb[3], 4));
    image_deinit(&image);
    cr_assert(eq(int, decode(bytes, IMAGE_PROFILE_OPENAI, &image), STATUS_OK));
    cr_expect(eq(u8, image.rgb[0], 1));
    image_deinit(&image);
    gz_free(&file);
}

// --- orientation

// Puts another orientation into the EXIF block of exif6.jpg.
static void patch_orientation(struct gz *file, uint8_t orientation)
{
    for (size_t i = 0; i + 12 < file->count; i++) {
        const uint8_t *at = file->data + i;
        if (memcmp(at, "\x01\x12\0\3\0\0\0\1\0", 9) == 0)
            file->data[i + 9] = orientation;
        else if (memcmp(at, "\x12\1\3\0\1\0\0\0", 8) == 0)
            file->data[i + 8] = orientation;
    }
}

// Where the pixel at (x, y) of the turned picture lies in the file's.
static size_t source_of(uint32_t orientation, uint32_t width, uint32_t height, uint32_t x,
                        uint32_t y)
{
    uint32_t right = width - 1;
    uint32_t bottom = height - 1;
    uint32_t at[9][2] = {
        {0, 0}, {x, y},          {right - x, y},          {right - x, bottom - y}, {x, bottom - y},
        {y, x}, {y, bottom - x}, {right - y, bottom - x}, {right - y, x},
    };
    return (size_t)at[orientation][1] * width + at[orientation][0];
}

Test(image, applies_all_eight_orientations)
{
    struct gz file;
    gz_read(GOLDEN "exif6.jpg", &file);
    struct image plain = {0};
    cr_assert(eq(int, decode(view(&file), IMAGE_PROFILE_HF, &plain), STATUS_OK));
    for (uint32_t orientation = 0; orientation <= 9; orientation++) {
        patch_orientation(&file, (uint8_t)orientation);
        struct image turned = {0};
        cr_assert(eq(int, decode(view(&file), IMAGE_PROFILE_RECO, &turned), STATUS_OK));
        uint32_t known = orientation >= 1 && orientation <= 8 ? orientation : 1;
        cr_assert(eq(u32, turned.width, known >= 5 ? plain.height : plain.width));
        size_t wrong = 0;
        for (uint32_t y = 0; y < turned.height; y++) {
            for (uint32_t x = 0; x < turned.width; x++) {
                size_t from = source_of(known, plain.width, plain.height, x, y);
                wrong += memcmp(turned.rgb + 3 * ((size_t)y * turned.width + x),
                                plain.rgb + 3 * from, 3) != 0;
            }
        }
        cr_expect(eq(sz, wrong, 0), "orientation %u", orientation);
        image_deinit(&turned);
    }
    image_deinit(&plain);
    gz_free(&file);
}

Test(image, reads_orientations_of_png_and_webp)
{
    static const char *const names[] = {"exif.png", "lossy-alpha.webp"};
    for (size_t i = 0; i < 2; i++) {
        struct gz file;
        struct bytes bytes = read_seed(names[i], &file);
        struct image image = {0};
        cr_assert(eq(int, decode(bytes, IMAGE_PROFILE_RECO, &image), STATUS_OK));
        cr_expect(eq(u32, image.width, 9), "%s", names[i]);
        cr_expect(eq(u32, image.height, 13), "%s", names[i]);
        image_deinit(&image);
        cr_assert(eq(int, decode(bytes, IMAGE_PROFILE_OPENAI, &image), STATUS_OK));
        cr_expect(eq(u32, image.width, 13), "%s", names[i]);
        image_deinit(&image);
        gz_free(&file);
    }
}

Test(image, ignores_broken_exif)
{
    static const struct {
        const char *data;
        size_t count;
        uint32_t orientation;
    } blocks[] = {
        {"", 0, 1},
        {"Exif\0\0", 6, 1},
        {"MM\0*\0\0\0\x08", 8, 1},
        {"MM\0*\xFF\xFF\xFF\xFF\0\0", 10, 1},
        {"II*\0\x08\0\0\0\xFF\xFF", 10, 1},
        {"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0", 21, 1}, // entry cut short
        {"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0", 22, 6},
        {"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x08\0\0", 22, 8},
        {"MM\0*\0\0\0\x08\0\1\1\x12\0\4\0\0\0\1\0\0\0\3", 22, 3},
        {"MM\0*\0\0\0\x08\0\1\1\x12\0\2\0\0\0\1\0\x08\0\0", 22, 1}, // a text
        {"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x09\0\0", 22, 1},
        {"MI\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x08\0\0", 22, 1},
        {"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\5\0\0\0", 28, 5},
    };
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        // A copy of its exact size, for the sanitizer.
        uint8_t *copy = malloc(blocks[i].count + 1);
        cr_assert(ne(ptr, copy, NULL));
        memcpy(copy + 1, blocks[i].data, blocks[i].count);
        uint32_t found = image_exif_orientation((struct bytes){copy + 1, blocks[i].count});
        cr_expect(eq(u32, found, blocks[i].orientation), "block %zu", i);
        free(copy);
    }
}

// --- damage

Test(image, refuses_files_that_end_early)
{
    for (size_t i = 0; i < FILES; i++) {
        struct gz file;
        gz_read(files[i], &file);
        for (size_t cut = 0; cut < 60; cut++) {
            size_t count = file.count * cut / 60;
            uint8_t *copy = malloc(count + 1);
            cr_assert(ne(ptr, copy, NULL));
            memcpy(copy, file.data, count);
            struct image image = {0};
            enum status status = decode((struct bytes){copy, count}, IMAGE_PROFILE_RECO, &image);
            cr_expect(eq(int, status, STATUS_INVALID), "%s cut to %zu of %zu", files[i], count,
                      file.count);
            image_deinit(&image);
            free(copy);
        }
        gz_free(&file);
    }
}

Test(image, survives_flipped_bits)
{
    (void)printf("seed %u\n", SEED);
    uint64_t state = SEED;
    for (size_t i = 0; i < FILES; i++) {
        struct gz file;
        gz_read(files[i], &file);
        for (int round = 0; round < 60; round++) {
            uint8_t *copy = malloc(file.count);
            cr_assert(ne(ptr, copy, NULL));
            memcpy(copy, file.data, file.count);
            for (uint64_t flips = 1 + random_next(&state) % 6; flips > 0; flips--) {
                uint64_t where = random_next(&state);
                copy[where % (round % 2 && file.count > 128 ? 128 : file.count)] ^=
                    (uint8_t)(1u << (where >> 61));
            }
            struct image image = {0};
            enum status status =
                decode((struct bytes){copy, file.count}, (enum image_profile)(round % 3), &image);
            cr_assert(status == STATUS_OK || status == STATUS_INVALID);
            image_deinit(&image);
            free(copy);
        }
        gz_free(&file);
    }
}

// --- sizes that lie

static uint32_t crc32_of(const uint8_t *data, size_t count)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < count; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void png_bomb(uint32_t width, uint32_t height, const char *part)
{
    struct gz file;
    gz_read(GOLDEN "rgb.png", &file);
    bytes_put_u32_be(file.data + 16, width);
    bytes_put_u32_be(file.data + 20, height);
    bytes_put_u32_be(file.data + 29, crc32_of(file.data + 12, 17));
    expect_refused(view(&file), part);
    gz_free(&file);
}

static void jpeg_bomb(const char *path, uint16_t width, uint16_t height, const char *part)
{
    struct gz file;
    gz_read(path, &file);
    size_t at = 2;
    while (file.data[at + 1] != 0xC0 && file.data[at + 1] != 0xC2) // to the start of the frame
        at += 2 + (size_t)bytes_get_u16_be(file.data + at + 2);
    bytes_put_u16_be(file.data + at + 5, height);
    bytes_put_u16_be(file.data + at + 7, width);
    expect_refused(view(&file), part);
    gz_free(&file);
}

static void gif_bomb(uint16_t width, uint16_t height, bool frame, const char *part)
{
    struct gz file;
    struct bytes bytes = read_seed("grey.gif", &file);
    uint8_t *data = file.data + 1;
    size_t at = 6;
    if (frame) {
        at = 13 + ((size_t)6 << (data[10] & 7)); // behind the palette
        while (data[at] != ',')
            at++;
        at += 5;
    }
    data[at] = (uint8_t)width;
    data[at + 1] = (uint8_t)(width >> 8);
    data[at + 2] = (uint8_t)height;
    data[at + 3] = (uint8_t)(height >> 8);
    expect_refused(bytes, part);
    gz_free(&file);
}

// A lossless WebP that says 16,384 x 16,384.
static void webp_bomb(void)
{
    uint8_t data[64] = "RIFF\x38\0\0\0WEBPVP8L\x2C\0\0\0\x2F";
    bytes_put_u32_le(data + 21, 16383u | 16383u << 14);
    expect_refused((struct bytes){data, sizeof(data)}, "16384 x 16384 pixels");
}

// An animation on a canvas of 60,000 x 60,000.
static void webp_canvas_bomb(void)
{
    struct gz file;
    struct bytes bytes = read_seed("animated.webp", &file);
    uint8_t *canvas = file.data + 1 + 24;
    for (int i = 0; i < 2; i++) {
        canvas[3 * i] = (uint8_t)(59999 & 0xFF);
        canvas[3 * i + 1] = (uint8_t)(59999 >> 8);
        canvas[3 * i + 2] = 0;
    }
    expect_refused(bytes, "60000 x 60000 pixels");
    gz_free(&file);
}

Test(image, checks_the_size_before_it_allocates)
{
    png_bomb(60000, 60000, "60000 x 60000 pixels");
    png_bomb(0x7FFFFFFF, 0x7FFFFFFF, "2147483647 x 2147483647 pixels");
    png_bomb(IMAGE_EDGE_MAX + 1, 1, "an edge may have at most");
    png_bomb(10000, 10001, "100000000 in all");
    png_bomb(10000, 9999, "must have a byte for each 1000");
    png_bomb(0, 5, "PNG");
    png_bomb(5, 0, "PNG");
    png_bomb(UINT32_MAX, 1, "PNG");
    jpeg_bomb(GOLDEN "baseline.jpg", 60000, 60000, "60000 x 60000 pixels");
    jpeg_bomb(GOLDEN "progressive.jpg", 60000, 60000, "60000 x 60000 pixels");
    jpeg_bomb(GOLDEN "baseline.jpg", 0, 100, "JPEG");
    jpeg_bomb(GOLDEN "baseline.jpg", 100, 0, "JPEG");
    jpeg_bomb(GOLDEN "baseline.jpg", 65535, 65535, "JPEG"); // above libjpeg's own 65,500
    gif_bomb(60000, 60000, false, "60000 x 60000 pixels");
    gif_bomb(60000, 60000, true, "60000 x 60000 pixels");
    gif_bomb(0, 5, true, "at least 1 x 1");
    gif_bomb(5, 0, true, "at least 1 x 1");
    webp_bomb();
    webp_canvas_bomb();
}

// The pixel data are far too short for the size: the file is refused without waiting long.
Test(image, refuses_a_small_file_that_claims_the_largest_size)
{
    struct gz file;
    gz_read(GOLDEN "rgb.png", &file);
    bytes_put_u32_be(file.data + 16, 10000);
    bytes_put_u32_be(file.data + 20, 10000);
    bytes_put_u32_be(file.data + 29, crc32_of(file.data + 12, 17));
    struct image image = {0};
    cr_expect(eq(int, decode(view(&file), IMAGE_PROFILE_HF, &image), STATUS_INVALID));
    gz_free(&file);
}

Test(image, refuses_a_jpeg_of_too_many_scans)
{
    struct gz file;
    gz_read(GOLDEN "progressive.jpg", &file);
    size_t last = 0; // the last scan
    for (size_t i = 2; i + 1 < file.count; i++)
        last = file.data[i] == 0xFF && file.data[i + 1] == 0xDA ? i : last;
    size_t scan = file.count - 2 - last;
    struct buffer many = {0};
    cr_assert(eq(int, buffer_append(&many, file.data, file.count - 2), STATUS_OK));
    for (int i = 0; i < 2 * IMAGE_JPEG_SCANS_MAX; i++)
        cr_assert(eq(int, buffer_append(&many, file.data + last, scan), STATUS_OK));
    cr_assert(eq(int, buffer_append(&many, "\xFF\xD9", 2), STATUS_OK));
    struct image image = {0};
    struct reason why = {0};
    enum status status =
        image_decode((struct bytes){many.data, many.count}, IMAGE_PROFILE_RECO, &image, &why);
    cr_expect(eq(int, status, STATUS_INVALID));
    cr_expect(ne(ptr, strstr(why.text, "scans"), NULL), "%s", why.text);
    buffer_deinit(&many);
    gz_free(&file);
}

static void append(struct buffer *out, const void *data, size_t count)
{
    cr_assert(eq(int, buffer_append(out, data, count), STATUS_OK));
}

static void append_u32(struct buffer *out, uint32_t value)
{
    uint8_t bytes[4];
    bytes_put_u32_be(bytes, value);
    append(out, bytes, 4);
}

static void append_chunk(struct buffer *out, const char *name, const struct buffer *data)
{
    append_u32(out, (uint32_t)data->count);
    size_t start = out->count;
    append(out, name, 4);
    append(out, data->data, data->count);
    append_u32(out, crc32_of(out->data + start, out->count - start));
}

// A bilevel PNG of one column, whose rows are stored uncompressed.
static void make_column(uint32_t height, struct buffer *out)
{
    struct buffer head = {0};
    append_u32(&head, 1);
    append_u32(&head, height);
    append(&head, "\1\0\0\0\0", 5);
    struct buffer rows = {0};
    append(&rows, "\x78\x01", 2);
    size_t left = (size_t)height * 2;
    while (left > 0) {
        static const uint8_t zeros[65534];
        size_t count = left < sizeof(zeros) ? left : sizeof(zeros);
        left -= count;
        const uint8_t block[] = {left == 0, (uint8_t)count, (uint8_t)(count >> 8), (uint8_t)~count,
                                 (uint8_t)(~count >> 8)};
        append(&rows, block, sizeof(block));
        append(&rows, zeros, count);
    }
    append_u32(&rows, (height * 2 % 65521) << 16 | 1); // Adler-32 of zeros
    append(out, "\x89PNG\r\n\x1A\n", 8);
    append_chunk(out, "IHDR", &head);
    append_chunk(out, "IDAT", &rows);
    append_chunk(out, "IEND", &(struct buffer){0});
    buffer_deinit(&head);
    buffer_deinit(&rows);
}

// With a shortest edge of 32 the longest is 32 times as long.
Test(image, refuses_a_thin_picture_that_would_become_too_long)
{
    static float pixels[3 * SIZE * SIZE];
    static const uint32_t heights[] = {IMAGE_EDGE_MAX / SIZE, IMAGE_EDGE_MAX / SIZE + 1};
    for (size_t i = 0; i < 2; i++) {
        for (int profile = 0; profile < 3; profile++) {
            struct buffer file = {0};
            make_column(heights[i], &file);
            struct image_params params = make_params((enum image_profile)profile);
            struct reason why = {0};
            enum status status = image_preprocess((struct bytes){file.data, file.count}, &params,
                                                  pixels, NULL, &why);
            cr_expect(eq(int, status, i == 0 ? STATUS_OK : STATUS_INVALID), "%s", why.text);
            cr_expect(eq(int, strstr(why.text, "longest") != NULL, i == 1));
            buffer_deinit(&file);
        }
    }
}

Test(image, a_prepared_picture_and_its_table_are_the_floats_whatever_the_size)
{
    static const uint32_t sizes[] = {1, 5, 31, SIZE};
    struct gz file;
    gz_read(GOLDEN "baseline.jpg", &file);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        static float pixels[3 * SIZE * SIZE];
        static uint8_t picture[IMAGE_PICTURE_BYTES(SIZE) + 1];
        float table[3][256];
        struct image_params params = make_params(IMAGE_PROFILE_OPENAI);
        params.size = sizes[i];
        size_t count = (size_t)sizes[i] * sizes[i];
        size_t bytes = IMAGE_PICTURE_BYTES(sizes[i]);
        memset(picture, 99, sizeof(picture));
        image_table(&params, table);
        cr_assert(eq(int, image_preprocess(view(&file), &params, pixels, NULL, NULL), STATUS_OK));
        cr_assert(eq(int, image_prepare(view(&file), &params, picture, NULL, NULL), STATUS_OK));
        for (size_t c = 0; c < 3; c++)
            for (size_t at = 0; at < count; at++)
                cr_assert(eq(flt, pixels[c * count + at], table[c][picture[3 * at + c]]));
        for (size_t at = 3 * count; at < bytes; at++)
            cr_expect(eq(u8, picture[at], 0));
        cr_expect(eq(u8, picture[bytes], 99));
    }
    gz_free(&file);
}

// OpenAI's program divides a byte by 255 in single precision.
Test(image, a_byte_stands_for_the_same_float_in_both_programs)
{
    struct image_params params = make_params(IMAGE_PROFILE_OPENAI);
    float table[3][256];
    image_table(&params, table);
    for (size_t c = 0; c < 3; c++)
        for (int value = 0; value < 256; value++)
            cr_expect(
                eq(flt, table[c][value], ((float)value / 255.0f - params.mean[c]) / params.std[c]));
}

// --- memory and threads

Test(image, says_no_memory_at_every_allocation_and_leaks_nothing)
{
    static float pixels[3 * SIZE * SIZE];
    for (size_t i = 0; i < FILES; i++) {
        struct gz file;
        gz_read(files[i], &file);
        for (int profile = 0; profile < 3; profile++) {
            struct image_params params = make_params((enum image_profile)profile);
            enum status status = STATUS_NO_MEMORY;
            for (uint64_t n = 1; status != STATUS_OK; n++) {
                cr_assert(lt(u64, n, 100));
                pixels[0] = 77;
                struct reason why = {0};
                mem_fail_after(n);
                status = image_preprocess(view(&file), &params, pixels, NULL, &why);
                mem_fail_after(0);
                if (status != STATUS_OK) {
                    cr_assert(eq(int, status, STATUS_NO_MEMORY), "%s: %s", files[i], why.text);
                    cr_assert(eq(str, why.field, (char *)"image"));
                    cr_assert(eq(flt, pixels[0], 77));
                }
            }
        }
        gz_free(&file);
    }
}

Test(image, tells_the_time_of_both_steps)
{
    struct gz file;
    gz_read(GOLDEN "baseline.jpg", &file);
    static float pixels[3 * SIZE * SIZE];
    struct image_params params = make_params(IMAGE_PROFILE_RECO);
    struct image_timing timing = {-1, -1};
    cr_assert(eq(int, image_preprocess(view(&file), &params, pixels, &timing, NULL), STATUS_OK));
    cr_expect(gt(dbl, timing.decode_ms, 0));
    cr_expect(gt(dbl, timing.preprocess_ms, 0));

    struct image_timing untouched = {-1, -1};
    cr_assert(
        eq(int, image_preprocess((struct bytes){file.data, 100}, &params, pixels, &untouched, NULL),
           STATUS_INVALID));
    cr_expect(eq(dbl, untouched.decode_ms, -1));
    gz_free(&file);
}

#define THREADS 4
#define ROUNDS 5

struct work {
    enum image_profile profile;
    uint64_t sum; // over all files
};

static uint64_t sum_of_files(enum image_profile profile)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < FILES; i++) {
        struct gz file;
        gz_read(files[i], &file);
        float pixels[3 * SIZE * SIZE];
        struct image_params params = make_params(profile);
        if (image_preprocess(view(&file), &params, pixels, NULL, NULL) != STATUS_OK)
            abort();
        struct image image = {0};
        if (image_decode((struct bytes){file.data, file.count / 2}, profile, &image, NULL) !=
            STATUS_INVALID)
            abort();
        for (size_t p = 0; p < 3 * SIZE * SIZE; p++) {
            uint32_t bits;
            memcpy(&bits, &pixels[p], sizeof(bits));
            sum = sum * 31 + bits;
        }
        gz_free(&file);
    }
    return sum;
}

static void body(struct thread *self, void *context)
{
    thread_ready(self, STATUS_OK);
    struct work *work = context;
    for (int i = 0; i < ROUNDS; i++)
        work->sum = sum_of_files(work->profile);
}

Test(image, gives_the_same_floats_in_many_threads_at_once)
{
    struct work works[THREADS];
    struct thread *threads[THREADS] = {NULL};
    for (int i = 0; i < THREADS; i++) {
        works[i] = (struct work){.profile = (enum image_profile)(i % 3)};
        cr_assert(eq(int, thread_start("decode", body, &works[i], &threads[i]), STATUS_OK));
    }
    for (int i = 0; i < THREADS; i++)
        thread_join(&threads[i]);
    for (int i = 0; i < THREADS; i++)
        cr_expect(eq(u64, works[i].sum, sum_of_files(works[i].profile)));
}
