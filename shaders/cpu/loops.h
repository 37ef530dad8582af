// SPDX-License-Identifier: Apache-2.0
// loops.h - the inner loops of training, one table per CPU level. As in kernels.h every level gives
// the same bits.
//
// Thread-safety: pure.

#ifndef RECO_SHADERS_CPU_LOOPS_H
#define RECO_SHADERS_CPU_LOOPS_H

#include <stddef.h>

// One step of AdamW (Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019) on
// `count` numbers:
//   g = factor * gradient
//   moment1 = beta1 * moment1 + (1 - beta1) * g
//   moment2 = beta2 * moment2 + (1 - beta2) * g^2
//   numbers = keep * numbers - rate * moment1 / (sqrt(moment2) * second + epsilon)
struct loops_adamw {
    float *numbers;
    float *moment1;
    float *moment2;
    const float *gradient;
    size_t count;
    float factor;
    float beta1;
    float beta2;
    float keep;   // 1 - rate * decay
    float rate;   // over 1 - beta1^steps
    float second; // 1 / sqrt(1 - beta2^steps)
    float epsilon;
};

struct loops {
    // target[i * b_rows + j] = <a_i, b_j> of rows of `width` floats.
    void (*meet)(const float *a, size_t a_rows, const float *b, size_t b_rows, size_t width,
                 float *target);

    // target_i = sum of weights[i * count + j] * b_j over j, in order.
    void (*mix)(const float *weights, size_t rows, const float *b, size_t count, size_t width,
                float *target);

    // target = (source - mean) * inverse with inverse = 1 / sqrt(variance + epsilon), which is
    // returned; target may be source.
    float (*standardise)(const float *source, float epsilon, size_t width, float *target);

    // values[i] = e^values[i], for values of at most 0; below -87 the smallest normal number.
    void (*exponential)(float *values, size_t count);

    // value[i] = f(x[i]) and slope[i] = f'(x[i]); slope may be x.
    void (*gelu)(const float *x, size_t count, float *value, float *slope);
    void (*quick_gelu)(const float *x, size_t count, float *value, float *slope);

    // The same as a whole: target += factor * source, and target = a * b.
    void (*add_scaled)(float factor, const float *source, size_t count, float *target);
    void (*multiply)(const float *a, const float *b, size_t count, float *target);
    void (*multiply_add)(const float *a, const float *b, size_t count,
                         float *target); // target += a * b

    void (*adamw)(const struct loops_adamw *args);
};

extern const struct loops loops_scalar;
#if defined(__x86_64__)
extern const struct loops loops_avx2;
extern const struct loops loops_avx512;
#endif

// The table for cpu_best().
const struct loops *loops_best(void);

#endif
