// SPDX-License-Identifier: Apache-2.0
// Everything is computed in double from the floats given and rounded once, at the end.
// The refined embedding is made first as a unit vector, then the gate moves from the query
// towards it; with gate 1 the second step would only add rounding, so it is left out.

#include "shaders/models/fusion.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "shaders/models/fusion_head.h"

// The mode and constants of the sum that a head's residual starts from.
static struct fusion_params start_of_head(const struct fusion_params *params)
{
    const struct fusion_config *config = &fusion_head_info(params->head)->config[params->modality];
    return (struct fusion_params){
        .mode = config->baseline == FUSION_BASELINE_WEIGHTED ? FUSION_WEIGHTED : FUSION_MEAN,
        .beta = (double)config->beta,
        .temperature = (double)config->temperature,
    };
}

void fusion_weights(const struct fusion_params *params, const float *scores, size_t count,
                    double *weights)
{
    assert(params && count <= K_WIRE_MAX);
    assert((scores && weights) || count == 0);

    struct fusion_params start;
    if (params->mode == FUSION_HEAD) {
        start = start_of_head(params);
        params = &start;
    }
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

bool fusion_scale_to_unit(double *values, uint32_t dimension)
{
    assert(values);

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

void fusion_start(const struct fusion_params *params, const float *query, uint32_t dimension,
                  const struct fusion_neighbours *neighbours, double *start)
{
    assert(params && query && neighbours && start);

    double weights[K_WIRE_MAX];
    fusion_weights(params, neighbours->scores, neighbours->count, weights);
    for (uint32_t i = 0; i < dimension; i++)
        start[i] = fused_element(params, query[i], neighbours, weights, i);
}

// Moves from the query towards the unit vector `refined` and writes the result.
static enum status finish(const float *query, double *refined, uint32_t dimension, double gate,
                          float *result)
{
    if (gate < 1) {
        for (uint32_t i = 0; i < dimension; i++)
            refined[i] = (double)query[i] + gate * (refined[i] - (double)query[i]);
        if (!fusion_scale_to_unit(refined, dimension))
            return STATUS_INVALID;
    }
    for (uint32_t i = 0; i < dimension; i++)
        result[i] = (float)refined[i];
    return STATUS_OK;
}

enum status fusion_apply_gate(const float *query, const float *refined, uint32_t dimension,
                              double gate, float *result)
{
    assert(query && refined && result);
    assert(dimension >= 1 && dimension <= DIMENSION_MAX);
    assert(gate >= 0 && gate <= 1);

    if (gate <= 0 || gate >= 1) {
        memmove(result, gate <= 0 ? query : refined, dimension * sizeof(*result));
        return STATUS_OK;
    }
    double values[DIMENSION_MAX];
    for (uint32_t i = 0; i < dimension; i++)
        values[i] = (double)refined[i];
    return finish(query, values, dimension, gate, result);
}

static enum status refine_by_head(const struct fusion_params *params, const float *query,
                                  const struct fusion_neighbours *neighbours, double gate,
                                  float *result)
{
    uint32_t dimension = fusion_head_info(params->head)->dimension;
    float refined[DIMENSION_MAX];
    struct fusion_head_query one = {query, *neighbours, refined, STATUS_OK};
    enum status status = fusion_head_refine(params->head, params->modality, &one);
    return status == STATUS_OK ? fusion_apply_gate(query, refined, dimension, gate, result)
                               : status;
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
    if (params->mode == FUSION_HEAD) {
        assert(params->head && fusion_head_info(params->head)->dimension == dimension);
        return refine_by_head(params, query, neighbours, gate, result);
    }

    double refined[DIMENSION_MAX];
    fusion_start(params, query, dimension, neighbours, refined);
    if (!fusion_scale_to_unit(refined, dimension))
        return STATUS_INVALID;
    return finish(query, refined, dimension, gate, result);
}
