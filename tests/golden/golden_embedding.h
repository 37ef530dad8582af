// SPDX-License-Identifier: Apache-2.0
// golden_embedding.h - how far an embedding may be from the one that transformers gives.
//
// Thread-safety: none.

#ifndef RECO_TESTS_GOLDEN_GOLDEN_EMBEDDING_H
#define RECO_TESTS_GOLDEN_GOLDEN_EMBEDDING_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/support/vulkan_device.h"

// The promise is 0.99999 and 2e-4. Measured are 1 - 4e-13 and 2e-7; another CPU sums in
// another order, which costs as much again.
#define GOLDEN_COSINE_MIN 0.9999999
#define GOLDEN_ELEMENT_MAX 1e-5
// Of products of halves; measured are 1 - 3e-7 and 1e-4.
#define GOLDEN_HALF_COSINE_MIN 0.9995
#define GOLDEN_HALF_ELEMENT_MAX 2e-3

// Whether two arrays are the same bits, which for floats is more than being equal.
static inline bool golden_same_bits(const void *a, const void *b, size_t bytes)
{
    return memcmp(a, b, bytes) == 0;
}

// The largest differences so far, for the log (--verbose).
static double golden_element_worst = 0.0;
static double golden_cosine_worst = 1.0;

static inline void golden_log_worst(void)
{
    cr_log_info("an element differs by at most %.3g, 1 - cosine is at most %.3g",
                golden_element_worst, 1.0 - golden_cosine_worst);
}

static inline void golden_expect_embedding(const char *what, size_t index, const float *got,
                                           const float *expected, size_t dimension)
{
    double product = 0.0;
    double a = 0.0;
    double b = 0.0;
    double worst = 0.0;
    for (size_t i = 0; i < dimension; i++) {
        product += (double)got[i] * (double)expected[i];
        a += (double)got[i] * (double)got[i];
        b += (double)expected[i] * (double)expected[i];
        worst = fmax(worst, fabs((double)got[i] - (double)expected[i]));
    }
    double cosine = product / sqrt(a * b);
    const bool is_half = vulkan_device_is_half();
    golden_element_worst = fmax(golden_element_worst, worst);
    golden_cosine_worst = fmin(golden_cosine_worst, cosine);
    cr_expect(cosine > (is_half ? GOLDEN_HALF_COSINE_MIN : GOLDEN_COSINE_MIN),
              "%s %zu: cosine %.9f", what, index, cosine);
    cr_expect(worst < (is_half ? GOLDEN_HALF_ELEMENT_MAX : GOLDEN_ELEMENT_MAX),
              "%s %zu: an element differs by %g", what, index, worst);
    cr_expect(fabs(a - 1.0) < 1e-6, "%s %zu: squared length %.9f", what, index, a);
}

#endif
