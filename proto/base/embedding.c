// SPDX-License-Identifier: Apache-2.0
// embedding.c - checks and normalisation of embeddings.

#include "proto/base/embedding.h"

#include <assert.h>
#include <math.h>

const char *modality_name(enum modality modality)
{
    assert(modality == MODALITY_IMAGE || modality == MODALITY_TEXT);

    return modality == MODALITY_IMAGE ? "image" : "text";
}

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

    if (!embedding_is_finite(values, count))
        return STATUS_INVALID;

    // In double no sum of float squares overflows and none that is not zero vanishes.
    double sum = 0.0;
    for (size_t i = 0; i < count; i++)
        sum += (double)values[i] * (double)values[i];
    if (sum <= 0.0)
        return STATUS_INVALID;

    double length = sqrt(sum);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)((double)values[i] / length);
    return STATUS_OK;
}
