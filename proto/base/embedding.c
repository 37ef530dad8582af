// SPDX-License-Identifier: Apache-2.0
// embedding.c - checks and normalisation of embeddings.

#include "proto/base/embedding.h"

#include <assert.h>
#include <math.h>

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
