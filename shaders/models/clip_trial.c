// SPDX-License-Identifier: Apache-2.0
// A model in reduced precision is tried before it is used: a few texts and pictures, the same for
// every model, against single precision. How far bfloat16 goes depends on the weights, so nobody
// can say it beforehand.
//
// Texts are tokens at random of several lengths; pictures are waves of several lengths in three
// colours, since noise would say little: to a model all noise looks the same.

#include <math.h>

#include "proto/base/mem.h"
#include "shaders/models/clip_internal.h"

#define TEXTS 3u
#define PICTURES 2u

static uint32_t next(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

// The least cosine of two rows of unit vectors; -1 when one is not a number.
static double least_cosine(const float *a, const float *b, size_t rows, size_t dimension)
{
    double least = 1.0;
    for (size_t row = 0; row < rows; row++) {
        double cosine = 0.0;
        for (size_t i = 0; i < dimension; i++)
            cosine += (double)a[row * dimension + i] * (double)b[row * dimension + i];
        if (!(cosine >= least))
            least = isnan(cosine) ? -1.0 : cosine;
    }
    return least;
}

static void make_texts(const struct clip_config *config, uint32_t *ids, uint32_t counts[TEXTS])
{
    uint32_t state = 2463534242u;
    // Files that read at the largest id say 2 (clip_config.h).
    uint32_t end = config->end_token == 2 ? config->vocabulary - 1 : config->end_token;
    for (uint32_t t = 0; t < TEXTS; t++) {
        uint32_t *text = ids + (size_t)t * config->context;
        counts[t] = 2 + (config->context - 2) / (2u << t);
        for (uint32_t i = 0; i < config->context; i++) {
            text[i] = next(&state) % config->vocabulary;
            if (text[i] == end || i + 1 == counts[t])
                text[i] = i + 1 == counts[t] ? end : 0;
        }
    }
}

static enum status try_texts(struct clip *clip, struct clip *exact, double *least,
                             struct reason *why)
{
    const struct clip_config *config = &clip->config;
    uint32_t counts[TEXTS];
    uint32_t *ids = mem_alloc_array((size_t)TEXTS * config->context, sizeof(ids[0]));
    size_t floats = (size_t)TEXTS * config->dimension;
    float *embeddings = mem_alloc_array(2 * floats, sizeof(embeddings[0]));
    make_texts(config, ids, counts);
    const struct clip_ids texts = {ids, counts, config->context, TEXTS};
    enum status status = clip_encode_ids(clip, &texts, embeddings, why);
    if (status == STATUS_OK)
        status = clip_encode_ids(exact, &texts, embeddings + floats, why);
    if (status == STATUS_OK)
        *least = least_cosine(embeddings, embeddings + floats, TEXTS, config->dimension);
    mem_free(embeddings);
    mem_free(ids);
    return status;
}

static void make_pictures(size_t size, float *pixels)
{
    for (size_t p = 0; p < PICTURES; p++) {
        for (size_t colour = 0; colour < 3; colour++) {
            double across = 6.283 * (double)(1 + 3 * p + colour) / (double)size;
            double down = 6.283 * (double)(2 + p * p) / (double)size;
            for (size_t y = 0; y < size; y++) {
                for (size_t x = 0; x < size; x++)
                    *pixels++ = (float)(1.5 * sin(across * (double)x + (double)p) *
                                        cos(down * (double)y + (double)colour));
            }
        }
    }
}

static enum status try_pictures(struct clip *clip, struct clip *exact, double *least,
                                struct reason *why)
{
    size_t size = clip->config.image_size;
    size_t floats = (size_t)PICTURES * clip->config.dimension;
    float *pixels = mem_alloc_array((size_t)PICTURES * 3 * size * size, sizeof(pixels[0]));
    float *embeddings = mem_alloc_array(2 * floats, sizeof(embeddings[0]));
    make_pictures(size, pixels);
    enum status status = clip_encode_pixels(clip, pixels, PICTURES, embeddings, why);
    if (status == STATUS_OK)
        status = clip_encode_pixels(exact, pixels, PICTURES, embeddings + floats, why);
    if (status == STATUS_OK)
        *least = least_cosine(embeddings, embeddings + floats, PICTURES, clip->config.dimension);
    mem_free(embeddings);
    mem_free(pixels);
    return status;
}

enum status clip_trial(struct clip *clip, struct clip *exact, struct reason *why)
{
    double of_texts = 1.0;
    double of_pictures = 1.0;
    enum status status = STATUS_OK;
    if (clip->towers & CLIP_TEXTS)
        status = try_texts(clip, exact, &of_texts, why);
    if (status == STATUS_OK && clip->towers & CLIP_IMAGES)
        status = try_pictures(clip, exact, &of_pictures, why);
    if (status != STATUS_OK)
        return status;
    clip->info.agreement = of_texts < of_pictures ? of_texts : of_pictures;
    if (clip->info.agreement < CLIP_TRIAL_COSINE)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "device",
                          "%s: embeddings of %s have a cosine of %.6f with those in single "
                          "precision (texts %.6f, pictures %.6f); at least %g is needed, so this "
                          "model needs --device cpu",
                          clip->info.device, clip->name, clip->info.agreement, of_texts,
                          of_pictures, CLIP_TRIAL_COSINE);
    return STATUS_OK;
}
