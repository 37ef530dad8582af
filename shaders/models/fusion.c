// SPDX-License-Identifier: Apache-2.0
// Everything is computed in double from the floats given and rounded once, at the end.
// The refined embedding is made first as a unit vector, then the gate moves from the query
// towards it; with gate 1 the second step would only add rounding, so it is left out.

#include "shaders/models/fusion.h"

#include <assert.h>
#include <math.h>
#include <string.h>

void fusion_weights(const struct fusion_params *params, const float *scores, size_t count,
                    double *weights)
{
    assert(params && count <= K_WIRE_MAX);
    assert((scores && weights) || count == 0);

    // Softmax less its largest exponent, so that no exponential overflows.
    double temperature = params->mode == FUSION_WEIGHTED ? params->temperature : 0;
    double largest = -HUGE_VAL;
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, temperature * (double)scores[i]);

    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        weights[i] = exp(temperature * (double)scores[i] - largest);
        sum += weights[i];
    }
    for (size_t i = 0; i < count; i++)
        weights[i] /= sum;
}

// Scales to unit length. False for a length of 0 or one that is no number.
static bool scale_to_unit(double *values, uint32_t dimension)
{
    double squares = 0;
    for (uint32_t i = 0; i < dimension; i++)
        squares += values[i] * values[i];
    double length = sqrt(squares);
    if (!isfinite(length) || length < 1e-12)
        return false;

    for (uint32_t i = 0; i < dimension; i++)
        values[i] /= length;
    return true;
}

// One element of query + beta * sum(weight * payload).
static double fused_element(const struct fusion_params *params, float query,
                            const struct fusion_neighbours *neighbours, const double *weights,
                            uint32_t at)
{
    double sum = 0;
    for (size_t i = 0; i < neighbours->count; i++)
        sum += weights[i] * (double)neighbours->payload[i][at];
    return (double)query + params->beta * sum;
}

enum status fusion_refine(const struct fusion_params *params, const float *query,
                          uint32_t dimension, const struct fusion_neighbours *neighbours,
                          double gate, float *result)
{
    assert(params && query && neighbours && result);
    assert(dimension >= 1 && dimension <= DIMENSION_MAX);
    assert(gate >= 0 && gate <= 1);

    if (params->mode == FUSION_NONE || neighbours->count == 0 || gate <= 0) {
        memmove(result, query, dimension * sizeof(*query));
        return STATUS_OK;
    }

    double weights[K_WIRE_MAX];
    double refined[DIMENSION_MAX];
    fusion_weights(params, neighbours->scores, neighbours->count, weights);
    for (uint32_t i = 0; i < dimension; i++)
        refined[i] = fused_element(params, query[i], neighbours, weights, i);
    if (!scale_to_unit(refined, dimension))
        return STATUS_INVALID;

    if (gate < 1) {
        for (uint32_t i = 0; i < dimension; i++)
            refined[i] = (double)query[i] + gate * (refined[i] - (double)query[i]);
        if (!scale_to_unit(refined, dimension))
            return STATUS_INVALID;
    }
    for (uint32_t i = 0; i < dimension; i++)
        result[i] = (float)refined[i];
    return STATUS_OK;
}
