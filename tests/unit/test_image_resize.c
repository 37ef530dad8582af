// SPDX-License-Identifier: Apache-2.0
// Goal: every level of CPU resizes to the same bits, a crop is what cutting the whole
// gives, and no size reads or writes where it may not (under the sanitizers).
//
// Method: pictures of random pixels and sizes from a fixed seed. The expected pixels come
// from a second implementation below, which follows the description of the filter one
// pixel at a time; Pillow itself is behind tests/golden/test_golden_preprocess.c.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "shaders/models/image_internal.h"
#include "shaders/models/image_kernels.h"

#define SEED 11u

static uint64_t state = SEED;

static uint64_t random_next(void)
{
    uint64_t z = (state += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static uint32_t random_in(uint32_t low, uint32_t high)
{
    return low + (uint32_t)(random_next() % (high - low + 1));
}

static uint8_t *random_bytes(size_t count)
{
    uint8_t *bytes = malloc(count);
    cr_assert(ne(ptr, bytes, NULL));
    // Half of the pictures are black and white: the filter then leaves 0..255 most.
    bool extreme = random_next() % 2 == 0;
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(extreme ? (random_next() & 1) * 255 : random_next());
    return bytes;
}

// --- the second implementation

static double cubic(double x)
{
    x = fabs(x);
    if (x < 1)
        return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

static uint8_t weigh(const uint8_t *source, size_t step, uint32_t length, uint32_t target,
                     uint32_t full)
{
    double scale = (double)length / full;
    double stretch = scale > 1 ? scale : 1;
    double centre = (target + 0.5) * scale;
    int from = (int)(centre - 2 * stretch + 0.5);
    int to = (int)(centre + 2 * stretch + 0.5);
    from = from < 0 ? 0 : from;
    to = to > (int)length ? (int)length : to;
    double total = 0;
    for (int i = from; i < to; i++)
        total += cubic((i - centre + 0.5) * (1 / stretch));
    int64_t sum = 1 << 21;
    for (int i = from; i < to; i++) {
        double weight = cubic((i - centre + 0.5) * (1 / stretch)) / total * (1 << 22);
        sum += source[(size_t)i * step] * (int64_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    sum >>= 22;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static uint8_t *plain_across(const uint8_t *data, uint32_t width, uint32_t height,
                             uint32_t channels, uint32_t full)
{
    uint8_t *out = malloc((size_t)full * height * channels);
    cr_assert(ne(ptr, out, NULL));
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < full; x++)
            for (uint32_t c = 0; c < channels; c++)
                out[((size_t)y * full + x) * channels + c] =
                    weigh(data + (size_t)y * width * channels + c, channels, width, x, full);
    return out;
}

static uint8_t *plain_down(const uint8_t *data, uint32_t width, uint32_t height, uint32_t channels,
                           uint32_t full)
{
    size_t row = (size_t)width * channels;
    uint8_t *out = malloc(row * full);
    cr_assert(ne(ptr, out, NULL));
    for (uint32_t y = 0; y < full; y++)
        for (size_t i = 0; i < row; i++)
            out[y * row + i] = weigh(data + i, row, height, y, full);
    return out;
}

static uint8_t *plain_resize(const struct image_plane *plane, uint32_t width, uint32_t height)
{
    uint32_t channels = plane->channels;
    int64_t lost_width = (int64_t)plane->width - width;
    int64_t lost_height = (int64_t)plane->height - height;
    uint8_t *between;
    uint8_t *out;
    if (lost_height > 0 && lost_height > 2 * lost_width) {
        between = plain_down(plane->data, plane->width, plane->height, channels, height);
        out = plain_across(between, plane->width, height, channels, width);
    } else {
        between = plain_across(plane->data, plane->width, plane->height, channels, width);
        out = plain_down(between, width, plane->height, channels, height);
    }
    free(between);
    return out;
}

// --- tests

static struct image_window random_window(uint32_t full)
{
    uint32_t first = random_in(0, full - 1);
    return (struct image_window){full, first, random_in(1, full - first)};
}

static void check_window(const struct image_plane *plane, const uint8_t *whole,
                         struct image_window across, struct image_window down)
{
    size_t row = (size_t)across.count * plane->channels;
    uint8_t *out = malloc(row * down.count);
    cr_assert(ne(ptr, out, NULL));
    cr_assert(eq(int, image_resize_plane(plane, across, down, out, NULL), STATUS_OK));
    for (uint32_t y = 0; y < down.count; y++) {
        const uint8_t *wanted =
            whole + (((size_t)down.first + y) * across.full + across.first) * plane->channels;
        cr_expect(eq(int, memcmp(out + y * row, wanted, row), 0), "%u x %u to %u x %u, row %u",
                  plane->width, plane->height, across.full, down.full, y);
    }
    free(out);
}

static void check_random_resizes(uint32_t cases, uint32_t edge_max)
{
    for (uint32_t i = 0; i < cases; i++) {
        struct image_plane plane = {
            .width = random_in(1, edge_max),
            .height = random_in(1, edge_max),
            .channels = i % 2 == 0 ? 3 : random_in(1, 4),
        };
        uint8_t *data = random_bytes((size_t)plane.width * plane.height * plane.channels);
        plane.data = data;
        uint32_t width = i % 5 == 0 ? plane.width : random_in(1, edge_max);
        uint32_t height = i % 7 == 0 ? plane.height : random_in(1, edge_max);
        uint8_t *whole = plain_resize(&plane, width, height);
        check_window(&plane, whole, (struct image_window){width, 0, width},
                     (struct image_window){height, 0, height});
        check_window(&plane, whole, random_window(width), random_window(height));
        free(whole);
        free(data);
    }
}

Test(image_resize, gives_the_plain_implementations_bits_for_every_size_and_window)
{
    (void)printf("seed %u\n", SEED);
    check_random_resizes(300, 40);
    check_random_resizes(40, 200);
}

Test(image_resize, gives_the_same_bits_without_vector_instructions)
{
    cr_assert(eq(int, setenv("RECO_CPU", "scalar", 1), 0)); // before the first look at the CPU
    cr_assert(eq(int, cpu_best(), CPU_SCALAR));
    check_random_resizes(150, 40);
    check_random_resizes(20, 200);
}

Test(image_resize, keeps_a_picture_that_has_the_size_already)
{
    uint8_t *data = random_bytes(17 * 9 * 3);
    struct image image = {17, 9, data};
    struct image out = {0};
    cr_assert(eq(int, image_resize(&image, 17, 9, &out, NULL), STATUS_OK));
    cr_expect(eq(int, memcmp(out.rgb, data, 17 * 9 * 3), 0));
    cr_expect(ne(ptr, out.rgb, data));
    image_deinit(&out);
    cr_expect(eq(ptr, out.rgb, NULL));
    free(data);
}

Test(image_resize, keeps_a_flat_colour_flat)
{
    struct image image = {31, 77, malloc(31 * 77 * 3)};
    cr_assert(ne(ptr, image.rgb, NULL));
    memset(image.rgb, 201, 31 * 77 * 3);
    static const uint32_t edges[] = {1, 2, 30, 33, 200};
    for (size_t i = 0; i < 5; i++) {
        struct image out = {0};
        cr_assert(eq(int, image_resize(&image, edges[i], edges[4 - i], &out, NULL), STATUS_OK));
        for (size_t at = 0; at < (size_t)out.width * out.height * 3; at++)
            cr_assert(eq(u8, out.rgb[at], 201));
        image_deinit(&out);
    }
    free(image.rgb);
}

Test(image_resize, refuses_sizes_beyond_its_limits)
{
    uint8_t pixel[3] = {1, 2, 3};
    struct image image = {1, 1, pixel};
    static const uint32_t bad[][2] = {
        {0, 5},
        {5, 0},
        {60000, 60000},
        {UINT32_MAX, UINT32_MAX},
        {IMAGE_EDGE_MAX + 1, 1},
        {1, IMAGE_EDGE_MAX + 1},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct image out = {7, 7, pixel};
        struct reason why = {0};
        cr_expect(eq(int, image_resize(&image, bad[i][0], bad[i][1], &out, &why), STATUS_INVALID));
        cr_expect(eq(str, why.field, (char *)"image"));
        cr_expect(gt(sz, strlen(why.text), 0));
        cr_expect(eq(ptr, out.rgb, pixel)); // unchanged
    }
}

Test(image_resize, says_no_memory_at_every_allocation_and_leaks_nothing)
{
    uint8_t *data = random_bytes(60 * 50 * 3);
    struct image image = {60, 50, data};
    uint64_t n = 1;
    for (;; n++) {
        struct image out = {0};
        mem_fail_after(n);
        enum status status = image_resize(&image, 40, 45, &out, NULL);
        mem_fail_after(0);
        image_deinit(&out);
        if (status == STATUS_OK)
            break;
        cr_assert(eq(int, status, STATUS_NO_MEMORY));
        cr_assert(lt(u64, n, 100));
    }
    cr_expect(gt(u64, n, 3));
    free(data);
}
