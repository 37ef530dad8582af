// SPDX-License-Identifier: Apache-2.0
// Measures the picture encoder, one pass over a set of prepared pictures for each line of its
// input, so that another program can take turns with it (peers_encode.py does).
//
// usage: encode_bench MODEL PIXELS BATCH THREADS EMBEDDINGS
//
// PIXELS holds floats [count][3][S][S] without any header. A pass encodes all, BATCH at a time.
// Prints "ready COUNT", then for each line read from stdin "NANOSECONDS COUNT". The embeddings of a
// pass, f32, are written to EMBEDDINGS before the first line is read.

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proto/base/bytes.h"
#include "proto/base/mem.h"
#include "shaders/models/clip.h"

#define PIXELS_BYTES_MAX ((size_t)4 << 30)

struct bench {
    struct clip *clip;
    struct buffer pixels;
    size_t picture; // floats of one
    size_t dimension;
    size_t count;
    size_t batch;
    float *embeddings; // [count][dimension]
};

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static _Noreturn void fail(const char *what, const struct reason *why)
{
    (void)fprintf(stderr, "encode_bench: %s: %s %s\n", what, why->field, why->text);
    _Exit(1);
}

static void pass(struct bench *bench)
{
    const float *pixels = (const void *)bench->pixels.data;
    struct reason why = {.text = ""};
    for (size_t i = 0; i < bench->count; i += bench->batch) {
        size_t left = bench->count - i;
        if (clip_encode_pixels(bench->clip, pixels + i * bench->picture,
                               left < bench->batch ? left : bench->batch,
                               bench->embeddings + i * bench->dimension, &why) != STATUS_OK)
            fail("encoding", &why);
    }
}

static void start(struct bench *bench, char **argv)
{
    const struct clip_params params = {
        .directory = argv[1],
        .device = "cpu",
        .threads = (int)strtol(argv[4], NULL, 10),
    };
    struct reason why = {.text = ""};
    if (clip_open(&params, &bench->clip, &why) != STATUS_OK)
        fail(argv[1], &why);
    if (bytes_read_file(argv[2], PIXELS_BYTES_MAX, &bench->pixels) != STATUS_OK)
        fail(argv[2], &why);
    size_t size = clip_info(bench->clip)->image_size;
    bench->picture = 3 * size * size;
    bench->dimension = clip_info(bench->clip)->dimension;
    bench->count = bench->pixels.count / (bench->picture * sizeof(float));
    bench->batch = strtoul(argv[3], NULL, 10);
    if (bench->batch == 0)
        fail("BATCH must be 1 or more", &why);
    bench->embeddings =
        mem_alloc_array(bench->count * bench->dimension + 1, sizeof(*bench->embeddings));
    pass(bench);
}

static void write_embeddings(const struct bench *bench, const char *path)
{
    const struct reason none = {.text = ""};
    size_t count = bench->count * bench->dimension;
    FILE *file = fopen(path, "wbe");
    if (!file || fwrite(bench->embeddings, sizeof(float), count, file) != count ||
        fclose(file) != 0)
        fail(path, &none);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        (void)fprintf(stderr, "usage: %s MODEL PIXELS BATCH THREADS EMBEDDINGS\n", argv[0]);
        return 2;
    }
    struct bench bench = {.clip = NULL};
    start(&bench, argv);
    write_embeddings(&bench, argv[5]);
    (void)printf("ready %zu\n", bench.count);
    (void)fflush(stdout);

    char line[64];
    while (fgets(line, sizeof(line), stdin)) {
        uint64_t begun = now_ns();
        pass(&bench);
        (void)printf("%llu %zu\n", (unsigned long long)(now_ns() - begun), bench.count);
        (void)fflush(stdout);
    }
    clip_close(&bench.clip);
    mem_free(bench.embeddings);
    buffer_deinit(&bench.pixels);
    return 0;
}
