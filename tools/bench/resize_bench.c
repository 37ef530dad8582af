// SPDX-License-Identifier: Apache-2.0
// Measures the picture path, one pass for each line of its input, so that another program
// can take turns with it (peers_image.py does).
//
// usage: resize_bench resize FILE WIDTH HEIGHT    decoded once; each pass resizes
//        resize_bench preprocess FILE SIZE        each pass goes from the file to the floats
//
// Prints "ready WIDTH HEIGHT", then for each line read from stdin "NANOSECONDS CHECK": the
// time of the pass and the sum of the bytes made, modulo 2^32 (preprocess: 0).

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "shaders/models/image.h"

struct bench {
    bool resize;
    struct buffer file;
    struct image image; // decoded, for "resize"
    uint32_t width;
    uint32_t height;
    struct image_params params;
    float *pixels;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void must(enum status status, const struct reason *why)
{
    if (status != STATUS_OK) {
        (void)fprintf(stderr, "resize_bench: %s: %s\n", status_text(status), why->text);
        _Exit(1);
    }
}

static struct bytes view(const struct bench *bench)
{
    return (struct bytes){bench->file.data, bench->file.count};
}

static void prepare(struct bench *bench, int argc, char **argv)
{
    struct reason why = {0};
    must(bytes_read_file(argv[2], IMAGE_BYTES_MAX, &bench->file), &why);
    bench->resize = argc == 5;
    must(image_decode(view(bench), IMAGE_PROFILE_HF, &bench->image, &why), &why);
    bench->width = (uint32_t)strtoul(argv[3], NULL, 10);
    bench->height = bench->resize ? (uint32_t)strtoul(argv[4], NULL, 10) : bench->width;
    bench->params = (struct image_params){
        .size = bench->width,
        .filter = IMAGE_FILTER_BICUBIC,
        .profile = IMAGE_PROFILE_HF,
        .rescale = 1.0 / 255.0,
        .mean = {0.48145466f, 0.4578275f, 0.40821073f},
        .std = {0.26862954f, 0.26130258f, 0.27577711f},
    };
    bench->pixels = mem_alloc_array((size_t)3 * bench->width * bench->width, sizeof(float));
}

static uint32_t sum_bytes(const struct image *image)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < (size_t)image->width * image->height * 3; i++)
        sum += image->rgb[i];
    return sum;
}

static void pass(const struct bench *bench)
{
    struct reason why = {0};
    struct image resized = {0};
    uint64_t start = now_ns();
    if (bench->resize)
        must(image_resize(&bench->image, bench->width, bench->height, &resized, &why), &why);
    else
        must(image_preprocess(view(bench), &bench->params, bench->pixels, NULL, &why), &why);
    uint64_t end = now_ns();
    (void)printf("%llu %u\n", (unsigned long long)(end - start), sum_bytes(&resized));
    (void)fflush(stdout);
    image_deinit(&resized);
}

int main(int argc, char **argv)
{
    bool resize = argc == 5 && strcmp(argv[1], "resize") == 0;
    bool preprocess = argc == 4 && strcmp(argv[1], "preprocess") == 0;
    if (!resize && !preprocess) {
        (void)fprintf(stderr, "usage: %s resize FILE WIDTH HEIGHT | preprocess FILE SIZE\n",
                      argv[0]);
        return 2;
    }
    struct bench bench = {0};
    prepare(&bench, argc, argv);
    (void)printf("ready %u %u\n", bench.image.width, bench.image.height);
    (void)fflush(stdout);

    char line[64];
    while (fgets(line, sizeof(line), stdin))
        pass(&bench);
    mem_free(bench.pixels);
    image_deinit(&bench.image);
    buffer_deinit(&bench.file);
    return 0;
}
