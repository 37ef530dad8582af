// SPDX-License-Identifier: Apache-2.0
// Goal: pictures reach the model as transformers' CLIPImageProcessor on Pillow makes
// them, byte for byte where the format is lossless, and the resize to the last bit
// whatever the format.
//
// Method: golden/preprocess: 20 small files of every kind, the pixels that Pillow
// decodes and the tensors of two sizes. IMAGE_PROFILE_HF is compared with the plain
// tensors; IMAGE_PROFILE_RECO with those that have transparency over white (as
// transformers 5 does, too), the orientation applied, or the high byte of 16-bit grey, where
// there are such. The plain decoded pixels have transparency dropped.
// JPEG and lossy WebP depend on the decoder's arithmetic: 3 levels are allowed there.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/json.h"
#include "shaders/models/image.h"
#include "tests/support/gz.h"

#define FOLDER RECO_SOURCE_DIR "/tests/golden/preprocess/"
#define FILES 20
#define LEVELS_MAX 3
#define PATH_BYTES 512
#define SIZE_MAX_TESTED 224

static const uint32_t sizes[] = {224, 64};
static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
static const float std_[3] = {0.26862954f, 0.26130258f, 0.27577711f};

static struct image_params make_params(uint32_t size, enum image_profile profile)
{
    struct image_params params = {
        .size = size,
        .crop = IMAGE_CROP_FLOOR,
        .filter = IMAGE_FILTER_BICUBIC,
        .profile = profile,
        .rescale = 0.00392156862745098,
    };
    memcpy(params.mean, mean, sizeof(mean));
    memcpy(params.std, std_, sizeof(std_));
    return params;
}

struct picture {
    char name[128];
    char reco[16]; // ".white", ".turned", ".high" or ""
    uint32_t width;
    uint32_t height;
    bool lossy;
};

static bool contains(struct text text, const char *part)
{
    size_t bytes = strlen(part);
    for (size_t i = 0; i + bytes <= text.bytes; i++) {
        if (memcmp(text.data + i, part, bytes) == 0)
            return true;
    }
    return false;
}

static void describe(const struct json *row, struct picture *picture)
{
    *picture = (struct picture){.name = {0}};
    struct text name = json_text(json_member(row, "file"));
    cr_assert(name.bytes > 0 && name.bytes < sizeof(picture->name));
    memcpy(picture->name, name.data, name.bytes);
    int64_t width = 0;
    int64_t height = 0;
    cr_assert(json_int(json_member(row, "width"), &width));
    cr_assert(json_int(json_member(row, "height"), &height));
    picture->width = (uint32_t)width;
    picture->height = (uint32_t)height;
    picture->lossy = strstr(picture->name, ".jpg") || strstr(picture->name, "lossy");

    static const char *const variants[] = {".white", ".turned", ".high"};
    const struct json *tensors = json_member(row, "tensors");
    for (size_t i = 0; i < json_count(tensors); i++) {
        for (size_t v = 0; v < 3; v++) {
            if (contains(json_text(json_element(tensors, i)), variants[v]))
                (void)snprintf(picture->reco, sizeof(picture->reco), "%s", variants[v]);
        }
    }
}

static void for_each_picture(void (*check)(const struct picture *picture))
{
    struct json *index = NULL;
    struct reason why = {0};
    cr_assert(eq(int, json_parse_file(FOLDER "index.json", 1 << 20, &index, &why), STATUS_OK));
    cr_assert(eq(sz, json_count(index), FILES));
    for (size_t i = 0; i < FILES; i++) {
        struct picture picture;
        describe(json_element(index, i), &picture);
        check(&picture);
    }
    json_destroy(&index);
}

static void read_source(const struct picture *picture, struct gz *file)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof(path), "%s%s", FOLDER, picture->name);
    gz_read(path, file);
}

static void read_golden(const struct picture *picture, const char *variant, const char *what,
                        struct gz *file)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof(path), "%s%s%s.%s.npy.gz", FOLDER, picture->name, variant, what);
    gz_read(path, file);
}

// --- decoded pixels

static void check_pixels(const struct picture *picture, enum image_profile profile,
                         const char *variant)
{
    struct gz source;
    struct gz golden;
    read_source(picture, &source);
    read_golden(picture, variant, "rgb", &golden);
    size_t count = (size_t)picture->width * picture->height * 3;
    const uint8_t *wanted = gz_npy(&golden, "|u1", count);

    struct image image = {0};
    struct reason why = {0};
    enum status status =
        image_decode((struct bytes){source.data, source.count}, profile, &image, &why);
    cr_assert(eq(int, status, STATUS_OK), "%s: %s", picture->name, why.text);
    bool turned = strcmp(variant, ".turned") == 0;
    cr_assert(eq(u32, image.width, turned ? picture->height : picture->width));
    cr_assert(eq(u32, image.height, turned ? picture->width : picture->height));
    int worst = 0;
    for (size_t i = 0; i < count; i++) {
        int difference = abs((int)image.rgb[i] - (int)wanted[i]);
        worst = difference > worst ? difference : worst;
    }
    cr_expect(le(int, worst, picture->lossy ? LEVELS_MAX : 0), "%s%s", picture->name, variant);
    if (worst > 0)
        (void)printf("%s%s: decoded pixels differ by up to %d levels\n", picture->name, variant,
                     worst);
    image_deinit(&image);
    gz_free(&source);
    gz_free(&golden);
}

static bool has_alpha(const struct picture *picture)
{
    return strcmp(picture->reco, ".white") == 0;
}

static void check_decoded(const struct picture *picture)
{
    check_pixels(picture, IMAGE_PROFILE_HF, has_alpha(picture) ? ".white" : "");
    check_pixels(picture, IMAGE_PROFILE_OPENAI, "");
    check_pixels(picture, IMAGE_PROFILE_RECO, picture->reco);
}

Test(golden_preprocess, decoded_pixels_are_pillows)
{
    for_each_picture(check_decoded);
}

// --- from the file to the tensor

static void check_tensor(const struct picture *picture, enum image_profile profile,
                         const char *variant, uint32_t size)
{
    struct gz source;
    struct gz golden;
    char what[8];
    (void)snprintf(what, sizeof(what), "%u", size);
    read_source(picture, &source);
    read_golden(picture, variant, what, &golden);
    size_t count = (size_t)3 * size * size;
    const float *wanted = gz_npy(&golden, "<f4", count * sizeof(float));

    static float pixels[3 * SIZE_MAX_TESTED * SIZE_MAX_TESTED];
    struct image_params params = make_params(size, profile);
    struct reason why = {0};
    enum status status =
        image_preprocess((struct bytes){source.data, source.count}, &params, pixels, NULL, &why);
    cr_assert(eq(int, status, STATUS_OK), "%s: %s", picture->name, why.text);
    if (picture->lossy) {
        for (size_t i = 0; i < count; i++) {
            float level = 1.0f / 255.0f / std_[i / ((size_t)size * size)];
            cr_assert(le(flt, fabsf(pixels[i] - wanted[i]), (LEVELS_MAX + 0.01f) * level));
        }
    } else {
        cr_expect(eq(int, memcmp(pixels, wanted, count * sizeof(float)), 0), "%s%s %u",
                  picture->name, variant, size);
    }
    gz_free(&source);
    gz_free(&golden);
}

static void check_tensors(const struct picture *picture)
{
    for (size_t i = 0; i < 2; i++) {
        check_tensor(picture, IMAGE_PROFILE_HF, "", sizes[i]);
        check_tensor(picture, IMAGE_PROFILE_RECO, picture->reco, sizes[i]);
    }
}

Test(golden_preprocess, tensors_are_those_of_transformers)
{
    for_each_picture(check_tensors);
}

// --- the resize alone, from Pillow's pixels

static void check_resized(const struct picture *picture, const char *variant, uint32_t size)
{
    struct gz decoded;
    struct gz golden;
    char what[8];
    (void)snprintf(what, sizeof(what), "%u", size);
    read_golden(picture, variant, "rgb", &decoded);
    read_golden(picture, variant, what, &golden);
    bool turned = strcmp(variant, ".turned") == 0;
    struct image image = {
        .width = turned ? picture->height : picture->width,
        .height = turned ? picture->width : picture->height,
    };
    // A copy without a byte behind it, so that a sanitizer sees what is read there.
    size_t bytes = (size_t)image.width * image.height * 3;
    image.rgb = malloc(bytes);
    cr_assert(ne(ptr, image.rgb, NULL));
    memcpy(image.rgb, gz_npy(&decoded, "|u1", bytes), bytes);
    size_t count = (size_t)size * size;
    const float *wanted = gz_npy(&golden, "<f4", 3 * count * sizeof(float));

    uint32_t shortest = image.width < image.height ? image.width : image.height;
    struct image resized = {0};
    enum status status = image_resize(&image, size * image.width / shortest,
                                      size * image.height / shortest, &resized, NULL);
    cr_assert(eq(int, status, STATUS_OK));
    size_t left = (resized.width - size) / 2;
    size_t top = (resized.height - size) / 2;
    size_t wrong = 0;
    for (size_t i = 0; i < 3 * count; i++) {
        size_t c = i / count;
        size_t y = top + i % count / size;
        size_t x = left + i % size;
        uint8_t value = resized.rgb[(y * resized.width + x) * 3 + c];
        float scaled = (float)((double)value * 0.00392156862745098);
        float pixel = (scaled - mean[c]) / std_[c];
        wrong += memcmp(&pixel, &wanted[i], sizeof(pixel)) != 0;
    }
    cr_expect(eq(sz, wrong, 0), "%s%s %u", picture->name, variant, size);
    image_deinit(&resized);
    free(image.rgb);
    gz_free(&decoded);
    gz_free(&golden);
}

static void check_resize(const struct picture *picture)
{
    for (size_t i = 0; i < 2; i++) {
        // Of pictures with alpha, the plain tensors come from the pixels over white.
        if (!has_alpha(picture))
            check_resized(picture, "", sizes[i]);
        check_resized(picture, picture->reco, sizes[i]);
    }
}

Test(golden_preprocess, resize_from_pillows_pixels_is_exact_to_the_last_bit)
{
    for_each_picture(check_resize);
}
