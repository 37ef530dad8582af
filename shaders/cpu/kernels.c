// SPDX-License-Identifier: Apache-2.0
// The vectors are the compiler's own, as wide as the level's registers (both gcc and
// clang know them). Where numbers are summed across a vector there are always 16
// lanes, in one or more registers, folded in one tree; everywhere else each lane is a
// result of its own. So all levels agree to the bit. No multiply is contracted with
// an add (-ffp-contract=off).
//
// Attention takes four queries at a time: their scores against all keys, the
// softmax, then the weighted sum of the values. A score is a sum over the head's
// elements in their order and a result a sum over the keys in their order; nothing
// depends on the other queries of the block or on what follows a causal row.

#include "shaders/cpu/kernels.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "shaders/cpu/kernels_lanes.h"

#define BLOCK 4u // queries at a time

#define CHUNK ((size_t)(WIDTH == 16 ? 1 : 2)) // registers of one query in the inner loops

static void layernorm(const float *source, const float *gain, const float *bias, float epsilon,
                      size_t width, float *target)
{
    size_t whole = width / KERNELS_LANES * KERNELS_LANES;
    float rest[KERNELS_LANES] = {0};

    struct sums sums = {0};
    for (size_t c = 0; c < whole; c += KERNELS_LANES) {
        for (uint32_t i = 0; i < PARTS; i++)
            sums.part[i] += load(source + c + i * WIDTH);
    }
    memcpy(rest, source + whole, (width - whole) * sizeof(float));
    for (uint32_t i = 0; i < PARTS; i++)
        sums.part[i] += load(rest + i * WIDTH);
    float mean = fold_sums(&sums) / (float)width;

    sums = (struct sums){0};
    for (size_t c = 0; c < whole; c += KERNELS_LANES) {
        for (uint32_t i = 0; i < PARTS; i++) {
            lanes d = load(source + c + i * WIDTH) - mean;
            sums.part[i] += d * d;
        }
    }
    for (size_t c = whole; c < width; c++) {
        float d = source[c] - mean;
        rest[c - whole] = d * d;
    }
    for (uint32_t i = 0; i < PARTS; i++)
        sums.part[i] += load(rest + i * WIDTH);
    float inverse = 1.0f / sqrtf(fold_sums(&sums) / (float)width + epsilon);

    for (size_t c = 0; c < whole; c += WIDTH)
        store(target + c, (load(source + c) - mean) * inverse * load(gain + c) + load(bias + c));
    for (size_t c = whole; c < width; c++)
        target[c] = (source[c] - mean) * inverse * gain[c] + bias[c];
}

static void add(const float *a, const float *b, size_t width, float *target)
{
    size_t c = 0;
    for (; c + WIDTH <= width; c += WIDTH)
        store(target + c, load(a + c) + load(b + c));
    for (; c < width; c++)
        target[c] = a[c] + b[c];
}

static inline size_t padded(size_t count)
{
    return (count + KERNELS_LANES - 1) / KERNELS_LANES * KERNELS_LANES;
}

// Scratch: keys [dimension][padded length], values [length][padded dimension], then
// the block's queries [dimension][BLOCK] and scores [BLOCK][padded length].
struct packed {
    float *keys;
    float *values;
    float *queries;
    float *scores;
    size_t length; // padded
    size_t dimension;
};

static struct packed pack(const struct kernels_head *head, float *scratch)
{
    struct packed packed = {.length = padded(head->length), .dimension = padded(head->dimension)};
    packed.keys = scratch;
    packed.values = packed.keys + head->dimension * packed.length;
    packed.queries = packed.values + head->length * packed.dimension;
    packed.scores = packed.queries + padded((size_t)BLOCK * head->dimension);

    for (size_t j = 0; j < head->length; j++) {
        const float *key = head->source + j * head->stride + head->width;
        for (size_t d = 0; d < head->dimension; d++)
            packed.keys[d * packed.length + j] = key[d];
    }
    for (size_t d = 0; d < head->dimension; d++) {
        for (size_t j = head->length; j < packed.length; j++)
            packed.keys[d * packed.length + j] = 0.0f;
    }
    for (size_t j = 0; j < head->length; j++) {
        const float *value = head->source + j * head->stride + 2 * head->width;
        float *to = packed.values + j * packed.dimension;
        memcpy(to, value, head->dimension * sizeof(float));
        memset(to + head->dimension, 0, (packed.dimension - head->dimension) * sizeof(float));
    }
    return packed;
}

// The block's scores against the keys `at`.. of one chunk.
static inline void score_chunk(const struct packed *packed, size_t dimension, size_t at)
{
    lanes sum[BLOCK][CHUNK] = {{{0}}};
    for (size_t d = 0; d < dimension; d++) {
        const float *key = packed->keys + d * packed->length + at;
        const float *query = packed->queries + d * BLOCK;
        for (uint32_t i = 0; i < CHUNK; i++) {
            lanes part = load(key + i * WIDTH);
            for (uint32_t b = 0; b < BLOCK; b++)
                sum[b][i] += part * query[b];
        }
    }
    for (uint32_t b = 0; b < BLOCK; b++) {
        for (uint32_t i = 0; i < CHUNK; i++)
            store(packed->scores + b * packed->length + at + i * WIDTH, sum[b][i]);
    }
}

// Turns the first `count` scores into e^(score - greatest), the rest up to `room`
// into zeros, and returns the sum.
static float soften(float *scores, size_t count, size_t room)
{
    size_t whole = padded(count);
    for (size_t j = count; j < whole; j++)
        scores[j] = -FLT_MAX;
    lanes most = all(-FLT_MAX);
    for (size_t j = 0; j < whole; j += WIDTH)
        most = greater(load(scores + j), most);
    float lane[WIDTH];
    store(lane, most);
    float greatest = lane[0];
    for (uint32_t i = 1; i < WIDTH; i++)
        greatest = lane[i] > greatest ? lane[i] : greatest;

    for (size_t j = 0; j < whole; j += WIDTH)
        store(scores + j, exponential(load(scores + j) - greatest));
    memset(scores + count, 0, (room - count) * sizeof(float));
    struct sums sums = {0};
    for (size_t j = 0; j < whole; j += KERNELS_LANES) {
        for (uint32_t i = 0; i < PARTS; i++)
            sums.part[i] += load(scores + j + i * WIDTH);
    }
    return fold_sums(&sums);
}

// The weighted sums of the values' elements `at`.. of one chunk.
static inline void weigh_chunk(const struct packed *packed, size_t keys, size_t at,
                               float target[BLOCK][CHUNK * WIDTH])
{
    lanes sum[BLOCK][CHUNK] = {{{0}}};
    for (size_t j = 0; j < keys; j++) {
        const float *value = packed->values + j * packed->dimension + at;
        const float *weight = packed->scores + j;
        for (uint32_t i = 0; i < CHUNK; i++) {
            lanes part = load(value + i * WIDTH);
            for (uint32_t b = 0; b < BLOCK; b++)
                sum[b][i] += part * weight[b * packed->length];
        }
    }
    for (uint32_t b = 0; b < BLOCK; b++) {
        for (uint32_t i = 0; i < CHUNK; i++)
            store(target[b] + i * WIDTH, sum[b][i]);
    }
}

// Four queries of the head; a block that ends early repeats its last row.
struct block {
    uint32_t first;
    uint32_t count; // rows that are there
    size_t keys;    // that the last of them sees
};

static inline uint32_t row_of(const struct block *block, uint32_t b)
{
    return block->first + (b < block->count ? b : block->count - 1);
}

static void scale_queries(const struct kernels_head *head, const struct packed *packed,
                          const struct block *block)
{
    for (uint32_t b = 0; b < BLOCK; b++) {
        const float *query = head->source + row_of(block, b) * head->stride;
        for (size_t d = 0; d < head->dimension; d++)
            packed->queries[d * BLOCK + b] = query[d] * head->scale;
    }
}

static void mix_values(const struct kernels_head *head, const struct packed *packed,
                       const struct block *block, const float sums[BLOCK])
{
    for (size_t at = 0; at < head->dimension; at += CHUNK * WIDTH) {
        float sum[BLOCK][CHUNK * WIDTH];
        weigh_chunk(packed, block->keys, at, sum);
        size_t left = head->dimension - at;
        size_t chunk = left < CHUNK * WIDTH ? left : CHUNK * WIDTH;
        for (uint32_t b = 0; b < block->count; b++) {
            float *target = head->target + (block->first + b) * head->target_stride + at;
            for (size_t d = 0; d < chunk; d++)
                target[d] = sum[b][d] / sums[b];
        }
    }
}

static void attend_block(const struct kernels_head *head, const struct packed *packed,
                         uint32_t first)
{
    struct block block = {.first = first, .count = BLOCK};
    if (head->length - first < BLOCK)
        block.count = head->length - first;
    block.keys = head->causal ? first + block.count : head->length;

    scale_queries(head, packed, &block);
    for (size_t at = 0; at < padded(block.keys); at += CHUNK * WIDTH)
        score_chunk(packed, head->dimension, at);
    float sums[BLOCK];
    for (uint32_t b = 0; b < BLOCK; b++) {
        size_t seen = head->causal ? (size_t)row_of(&block, b) + 1 : head->length;
        sums[b] = soften(packed->scores + b * packed->length, seen, padded(block.keys));
    }
    mix_values(head, packed, &block, sums);
}

static void attend(const struct kernels_head *head, float *scratch)
{
    struct packed packed = pack(head, scratch);
    for (uint32_t first = 0; first < head->length; first += BLOCK)
        attend_block(head, &packed, first);
}

#define TABLE_NAME_(level) kernels_##level
#define TABLE_NAME(level) TABLE_NAME_(level)

const struct kernels TABLE_NAME(KERNELS_LEVEL) = {
    .layernorm = layernorm,
    .head = attend,
    .add = add,
};

#ifdef KERNELS_CHOOSE // set for one of the levels
#include "proto/base/cpu.h"

size_t kernels_head_scratch(uint32_t length, uint32_t dimension)
{
    return dimension * padded(length) + length * padded(dimension) +
           padded((size_t)BLOCK * dimension) + BLOCK * padded(length);
}

const struct kernels *kernels_best(void)
{
#if defined(__x86_64__)
    enum cpu_level level = cpu_best();
    if (level >= CPU_AVX512)
        return &kernels_avx512;
    if (level >= CPU_AVX2)
        return &kernels_avx2;
#endif
    return &kernels_scalar;
}
#endif
