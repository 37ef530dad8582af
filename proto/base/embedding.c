// SPDX-License-Identifier: Apache-2.0
// embedding.c - checks and normalisation of embeddings.

#include "proto/base/embedding.h"

#include <assert.h>
#include <math.h>

#include "proto/base/half.h"

bool embedding_is_finite(const float *values, size_t count)
{
    assert(values || count == 0);

    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i]))
            return false;
    }
    return true;
}

enum status embedding_normalise(float *values, size_t count)
{
    assert(values || count == 0);

    // In double no sum of float squares overflows and none that is not zero vanishes: so the sum is
    // finite and positive just when all elements are finite and one is not zero.
    double sum = 0.0;
    for (size_t i = 0; i < count; i++)
        sum += (double)values[i] * (double)values[i];
    if (!isfinite(sum) || sum <= 0.0)
        return STATUS_INVALID;

    double length = sqrt(sum);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)((double)values[i] / length);
    return STATUS_OK;
}

#define LANES 8u // sums side by side, folded in one fixed tree: as fast as the machine adds

double embedding_dot(const float *a, const float *b, uint32_t dimension)
{
    assert((a && b) || dimension == 0);

    double lane[LANES] = {0};
    uint32_t i = 0;
    for (; i + LANES <= dimension; i += LANES)
        for (uint32_t j = 0; j < LANES; j++)
            lane[j] += (double)a[i + j] * (double)b[i + j];
    for (uint32_t j = 0; i < dimension; i++, j++)
        lane[j] += (double)a[i] * (double)b[i];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

// Rounding to a half changes an element by at most 2^-11 of it, or by 2^-25 where it is subnormal,
// so a unit vector's length changes by at most 2^-11 + 2^-25 * sqrt(DIMENSION_MAX), and the unit
// vector in floats was off by 2^-24 itself.
#define ROW_LENGTH_ERROR (0x1p-11 + 0x1p-19 + 0x1p-23)

bool embedding_is_row(const float *values, size_t count)
{
    assert(values || count == 0);

    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i]) || half_to_float(half_from_float(values[i])) != values[i])
            return false;
        sum += (double)values[i] * (double)values[i];
    }
    return fabs(sqrt(sum) - 1.0) <= ROW_LENGTH_ERROR;
}
