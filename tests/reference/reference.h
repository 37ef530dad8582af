// SPDX-License-Identifier: Apache-2.0
// reference.h - every operation in double precision and the plainest loops: the oracle
// that each backend is measured against.
//
// Thread-safety: pure.

#ifndef RECO_TESTS_REFERENCE_REFERENCE_H
#define RECO_TESTS_REFERENCE_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Numbers to try them with, -1..1 with all bits of the mantissa in use; equal for equal seeds,
// aligned to 64 bytes. The same as doubles. The caller frees both.
float *reference_random(size_t count, uint64_t seed);
double *reference_widen(const float *values, size_t count);

// Arrays are contiguous, rows first.

struct reference_product {
    const double *source;  // [rows][depth]
    const double *weights; // [columns][depth]
    const double *bias;    // [columns], or NULL
    size_t rows;
    size_t columns;
    size_t depth;
    double *target; // [rows][columns]
};
void reference_product(const struct reference_product *args);

double reference_quick_gelu(double x); // x / (1 + e^(-1.702 x))
double reference_gelu(double x);       // x / 2 * (1 + erf(x / sqrt(2)))

struct reference_layernorm {
    const double *source; // [rows][width]
    const double *gain;   // [width]
    const double *bias;   // [width]
    double epsilon;
    size_t rows;
    size_t width;
    double *target; // [rows][width]; may be source
};
void reference_layernorm(const struct reference_layernorm *args);

struct reference_attention {
    const double *source; // [rows][3 * width]: queries, keys, values; heads side by side
    size_t rows;          // of one sequence
    size_t width;
    size_t heads;
    bool causal;
    double *target; // [rows][width]
};
void reference_attention(const struct reference_attention *args);

// [3][size][size] to [(size / patch)^2][3 * patch * patch], patches by rows.
void reference_patchify(const double *pixels, size_t size, size_t patch, double *target);

// Scales `count` values to unit length.
void reference_normalise(double *values, size_t count);

// The `k` greatest of `count` scores, greatest first, as many as there are.
void reference_topk(const double *scores, size_t count, size_t k, double *target);

// |a - b|^2 / |b|^2 of `count` values, the measure of all comparisons.
double reference_squared_error(const float *values, const double *expected, size_t count);

#endif
