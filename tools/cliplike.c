// SPDX-License-Identifier: Apache-2.0
// Powers of a place are products of repeated square roots: x^-5/8 = 1 / (x^1/2 x^1/8). The normal
// distribution is a sum of four uniform numbers, which the rotation mixes further.
//
// The rotation is rounds of random signs and a Walsh-Hadamard transform. Where the dimension is
// no power of two, the rounds transform the largest power of two of the first and of the
// last elements in turn; these overlap, so that each element reaches all others.

#include "tools/cliplike.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>

#include "proto/base/embedding.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"

#define SUPERS 400 // large clusters
#define SUBS 50    // small ones in each
#define CLUSTERS ((size_t)SUPERS * SUBS)
#define ROUNDS 4
#define ZIPF_OFFSET 10 // keeps the largest clusters from having most of the rows

enum stream { // of random numbers; rows have theirs by kind
    STREAM_MEANS = 16,
    STREAM_SUPERS,
    STREAM_SUBS,
    STREAM_SIGNS,
    STREAM_ORDER,
};

// Squares of these are the shares of a row's energy.
struct blend {
    float mean, super, sub, noise;
};

struct cliplike {
    uint64_t seed;
    size_t dimension;
    size_t block;      // the largest power of two within the dimension
    float *means;      // [2][dimension]: of rows, of texts
    float *supers;     // [SUPERS][dimension]
    float *subs;       // [CLUSTERS][dimension]
    float *noise;      // [dimension]: its spectrum
    float *signs;      // [ROUNDS][dimension]: +-1, within the block also its scale
    double *sizes;     // [CLUSTERS]: sums of the clusters' weights up to each
    uint32_t *cluster; // [CLUSTERS]: which cluster has which weight
};

// --- random numbers: SplitMix64

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t next_random(uint64_t *state)
{
    return mix(*state += 0x9e3779b97f4a7c15u);
}

static uint64_t begin_stream(uint64_t seed, uint64_t stream, uint64_t number)
{
    return mix(mix(mix(seed) + stream) + number);
}

// Whole, mean 0, standard deviation 65536 / sqrt(3).
static float next_normal(uint64_t *state)
{
    uint64_t bits = next_random(state);
    int32_t sum = 0;
    for (unsigned part = 0; part < 4; part++)
        sum += (int32_t)(bits >> (16 * part) & 0xffff) * 2 - 65535;
    return (float)sum * 0.5f;
}

#define NORMAL_SCALE (sqrt(3.0) / 65536)

// --- making a set

// x^-(eighths / 8)
static double power(double x, unsigned eighths)
{
    double half = sqrt(x);
    double quarter = sqrt(half);
    double result = eighths & 8 ? x : 1;
    result *= eighths & 4 ? half : 1;
    result *= eighths & 2 ? quarter : 1;
    result *= eighths & 1 ? sqrt(quarter) : 1;
    return 1 / result;
}

// Energies of the elements fall as place^-(eighths / 8) and add up to 1; scales for next_normal().
static void fill_spectrum(float *spectrum, size_t dimension, unsigned eighths)
{
    double sum = 0;
    for (size_t i = 0; i < dimension; i++)
        sum += power((double)(i + 1), eighths);
    for (size_t i = 0; i < dimension; i++)
        spectrum[i] = (float)(sqrt(power((double)(i + 1), eighths) / sum) * NORMAL_SCALE);
}

static void fill_rows(float *rows, size_t count, const float *spectrum, size_t dimension,
                      uint64_t state)
{
    for (size_t row = 0; row < count; row++)
        for (size_t i = 0; i < dimension; i++)
            rows[row * dimension + i] = next_normal(&state) * spectrum[i];
}

static void fill_signs(struct cliplike *set)
{
    uint64_t state = begin_stream(set->seed, STREAM_SIGNS, 0);
    float scale = (float)(1 / sqrt((double)set->block));
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t first = round % 2 ? set->dimension - set->block : 0;
        float *signs = set->signs + round * set->dimension;
        for (size_t i = 0; i < set->dimension; i++) {
            float size = i >= first && i < first + set->block ? scale : 1;
            signs[i] = next_random(&state) & 1 ? size : -size;
        }
    }
}

// Weights (place + offset)^-5/8, dealt to the clusters in random order.
static void fill_sizes(struct cliplike *set)
{
    uint64_t state = begin_stream(set->seed, STREAM_ORDER, 0);
    double sum = 0;
    for (uint32_t i = 0; i < CLUSTERS; i++) {
        sum += power(i + ZIPF_OFFSET, 5);
        set->sizes[i] = sum;
        set->cluster[i] = i;
    }
    for (size_t i = CLUSTERS - 1; i > 0; i--) {
        size_t other = next_random(&state) % (i + 1);
        uint32_t moved = set->cluster[i];
        set->cluster[i] = set->cluster[other];
        set->cluster[other] = moved;
    }
}

static void make_unit(float *row, size_t dimension)
{
    enum status status = embedding_normalise(row, dimension);
    assert(!status); // far from zero
    (void)status;
}

// Two means at a right angle, whatever the seed: how far the texts are is the same for all.
static void fill_means(struct cliplike *set)
{
    size_t dimension = set->dimension;
    float *texts = set->means + dimension;
    double cosine = 0;
    fill_spectrum(set->noise, dimension, 0); // flat
    fill_rows(set->means, 2, set->noise, dimension, begin_stream(set->seed, STREAM_MEANS, 0));
    make_unit(set->means, dimension);
    for (size_t i = 0; i < dimension; i++)
        cosine += (double)set->means[i] * (double)texts[i];
    for (size_t i = 0; i < dimension; i++)
        texts[i] = (float)((double)texts[i] - cosine * (double)set->means[i]);
    make_unit(texts, dimension);
}

static void fill(struct cliplike *set)
{
    size_t dimension = set->dimension;
    fill_means(set);
    fill_spectrum(set->noise, dimension, 8);
    fill_rows(set->supers, SUPERS, set->noise, dimension,
              begin_stream(set->seed, STREAM_SUPERS, 0));
    fill_spectrum(set->noise, dimension, 7);
    fill_rows(set->subs, CLUSTERS, set->noise, dimension, begin_stream(set->seed, STREAM_SUBS, 0));
    fill_spectrum(set->noise, dimension, 6);
    fill_signs(set);
    fill_sizes(set);
}

enum status cliplike_create(uint64_t seed, size_t dimension, struct cliplike **out,
                            struct reason *why)
{
    assert(out);

    if (dimension < CLIPLIKE_DIMENSION_MIN || dimension > DIMENSION_MAX)
        return reason_set(why, STATUS_INVALID, "dimension", "is %zu; %d to %d are allowed",
                          dimension, CLIPLIKE_DIMENSION_MIN, DIMENSION_MAX);

    struct cliplike *set = mem_alloc(sizeof(*set));
    set->seed = seed;
    set->dimension = dimension;
    set->block = CLIPLIKE_DIMENSION_MIN;
    while (set->block * 2 <= dimension)
        set->block *= 2;
    set->means = mem_alloc_array(2 * dimension, sizeof(float));
    set->noise = mem_alloc_array(dimension, sizeof(float));
    set->signs = mem_alloc_array(ROUNDS * dimension, sizeof(float));
    set->sizes = mem_alloc_array(CLUSTERS, sizeof(double));
    set->cluster = mem_alloc_array(CLUSTERS, sizeof(uint32_t));
    set->supers = mem_try_alloc_array(SUPERS * dimension, sizeof(float));
    set->subs = mem_try_alloc_array(CLUSTERS * dimension, sizeof(float));
    if (!set->supers || !set->subs) {
        cliplike_destroy(&set);
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for clusters of %zu dimensions",
                          dimension);
    }
    fill(set);
    *out = set;
    return STATUS_OK;
}

void cliplike_destroy(struct cliplike **set)
{
    struct cliplike *ending = *set;
    if (!ending)
        return;
    mem_free(ending->means);
    mem_free(ending->noise);
    mem_free(ending->signs);
    mem_free(ending->sizes);
    mem_free(ending->cluster);
    mem_free(ending->supers);
    mem_free(ending->subs);
    mem_free(ending);
    *set = NULL;
}

// --- rows

// Each element becomes a sum of all, with signs: unscaled, [count] a power of two.
static void hadamard(float *values, size_t count)
{
    for (size_t step = 1; step < count; step *= 2)
        for (size_t i = 0; i < count; i += 2 * step)
            for (size_t j = i; j < i + step; j++) {
                float a = values[j];
                float b = values[j + step];
                values[j] = a + b;
                values[j + step] = a - b;
            }
}

static void rotate(const struct cliplike *set, float *row)
{
    for (size_t round = 0; round < ROUNDS; round++) {
        const float *signs = set->signs + round * set->dimension;
        for (size_t i = 0; i < set->dimension; i++)
            row[i] *= signs[i];
        hadamard(round % 2 ? row + (set->dimension - set->block) : row, set->block);
    }
}

static size_t pick_cluster(const struct cliplike *set, uint64_t *state)
{
    double share = (double)(next_random(state) >> 11) * 0x1p-53;
    double wanted = share * set->sizes[CLUSTERS - 1];
    size_t low = 0;
    size_t high = CLUSTERS - 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (set->sizes[middle] < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return set->cluster[low];
}

static struct blend blend_of(double mean, double super, double sub, double noise)
{
    return (struct blend){(float)sqrt(mean), (float)sqrt(super), (float)sqrt(sub),
                          (float)sqrt(noise)};
}

void cliplike_row(const struct cliplike *set, enum cliplike_kind kind, uint64_t number, float *row)
{
    size_t dimension = set->dimension;
    uint64_t state = begin_stream(set->seed, kind, number);
    size_t cluster = pick_cluster(set, &state);
    bool is_text = kind == CLIPLIKE_QUERY_OOD;
    const float *mean = set->means + (is_text ? dimension : 0);
    const float *super = set->supers + cluster / SUBS * dimension;
    const float *sub = set->subs + cluster * dimension;
    const struct blend blend =
        is_text ? blend_of(0.50, 0.12, 0.12, 0.26) : blend_of(0.45, 0.20, 0.17, 0.18);

    for (size_t i = 0; i < dimension; i++) {
        float noise = next_normal(&state) * set->noise[i];
        row[i] = blend.mean * mean[i] + blend.super * super[i] + blend.sub * sub[i] +
                 blend.noise * noise;
    }
    rotate(set, row);
    make_unit(row, dimension);
}
