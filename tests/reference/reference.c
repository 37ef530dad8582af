// SPDX-License-Identifier: Apache-2.0
// Written to be read, not to be fast: one loop for each index of the formula.

#include "tests/reference/reference.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

float *reference_random(size_t count, uint64_t seed)
{
    float *values = aligned_alloc(64, (count * sizeof(float) + 127) / 64 * 64);
    assert(values);
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < count; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        values[i] = (float)((double)(int64_t)state / 9223372036854775808.0);
    }
    return values;
}

double *reference_widen(const float *values, size_t count)
{
    double *wide = calloc(count + 1, sizeof(*wide));
    assert(wide);
    for (size_t i = 0; i < count; i++)
        wide[i] = (double)values[i];
    return wide;
}

void reference_product(const struct reference_product *args)
{
    for (size_t row = 0; row < args->rows; row++) {
        for (size_t column = 0; column < args->columns; column++) {
            double sum = args->bias ? args->bias[column] : 0.0;
            for (size_t k = 0; k < args->depth; k++)
                sum +=
                    args->source[row * args->depth + k] * args->weights[column * args->depth + k];
            args->target[row * args->columns + column] = sum;
        }
    }
}

double reference_quick_gelu(double x)
{
    return x / (1.0 + exp(-1.702 * x));
}

double reference_gelu(double x)
{
    return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
}

void reference_layernorm(const struct reference_layernorm *args)
{
    for (size_t row = 0; row < args->rows; row++) {
        const double *source = args->source + row * args->width;
        double *target = args->target + row * args->width;
        double mean = 0.0;
        for (size_t c = 0; c < args->width; c++)
            mean += source[c];
        mean /= (double)args->width;
        double variance = 0.0;
        for (size_t c = 0; c < args->width; c++)
            variance += (source[c] - mean) * (source[c] - mean);
        variance /= (double)args->width;
        double deviation = sqrt(variance + args->epsilon);
        for (size_t c = 0; c < args->width; c++)
            target[c] = (source[c] - mean) / deviation * args->gain[c] + args->bias[c];
    }
}

// One query of one head; `weights` has room for the sequence.
static void attend(const struct reference_attention *args, size_t head, size_t row, double *weights)
{
    size_t dimension = args->width / args->heads;
    size_t stride = 3 * args->width;
    const double *query = args->source + row * stride + head * dimension;
    size_t seen = args->causal ? row + 1 : args->rows;

    double greatest = -(double)INFINITY;
    for (size_t j = 0; j < seen; j++) {
        const double *key = args->source + j * stride + args->width + head * dimension;
        weights[j] = 0.0;
        for (size_t d = 0; d < dimension; d++)
            weights[j] += query[d] * key[d];
        weights[j] /= sqrt((double)dimension);
        greatest = fmax(greatest, weights[j]);
    }
    double sum = 0.0;
    for (size_t j = 0; j < seen; j++) {
        weights[j] = exp(weights[j] - greatest);
        sum += weights[j];
    }
    for (size_t d = 0; d < dimension; d++) {
        double result = 0.0;
        for (size_t j = 0; j < seen; j++)
            result += weights[j] / sum *
                      args->source[j * stride + 2 * args->width + head * dimension + d];
        args->target[row * args->width + head * dimension + d] = result;
    }
}

void reference_attention(const struct reference_attention *args)
{
    double *weights = malloc((args->rows + 1) * sizeof(double));
    assert(weights);
    for (size_t head = 0; head < args->heads; head++) {
        for (size_t row = 0; row < args->rows; row++)
            attend(args, head, row, weights);
    }
    free(weights);
}

void reference_patchify(const double *pixels, size_t size, size_t patch, double *target)
{
    size_t side = size / patch;
    for (size_t row = 0; row < side; row++) {
        for (size_t column = 0; column < side; column++) {
            for (size_t channel = 0; channel < 3; channel++) {
                for (size_t y = 0; y < patch; y++) {
                    for (size_t x = 0; x < patch; x++)
                        *target++ =
                            pixels[(channel * size + row * patch + y) * size + column * patch + x];
                }
            }
        }
    }
}

void reference_normalise(double *values, size_t count)
{
    double sum = 0.0;
    for (size_t i = 0; i < count; i++)
        sum += values[i] * values[i];
    for (size_t i = 0; i < count; i++)
        values[i] /= sqrt(sum);
}

void reference_topk(const double *scores, size_t count, size_t k, double *target)
{
    for (size_t i = 0; i < count; i++) {
        size_t at = i < k ? i : k; // behind the last one kept
        for (; at > 0 && scores[i] > target[at - 1]; at--) {
            if (at < k)
                target[at] = target[at - 1];
        }
        if (at < k)
            target[at] = scores[i];
    }
}

double reference_squared_error(const float *values, const double *expected, size_t count)
{
    double error = 0.0;
    double size = 0.0;
    for (size_t i = 0; i < count; i++) {
        double difference = (double)values[i] - expected[i];
        error += difference * difference;
        size += expected[i] * expected[i];
    }
    return size > 0.0 ? error / size : error;
}
