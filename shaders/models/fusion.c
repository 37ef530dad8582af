// SPDX-License-Identifier: Apache-2.0
// Everything is computed in double from the floats given and rounded once, at the end.
// The refined embedding is made first as a unit vector, then the gate moves from the query
// towards it; with gate 1 the second step would only add rounding, so it is left out.

#include "shaders/models/fusion.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "shaders/models/fusion_head.h"

// Less the largest exponent, so that no exponential overflows.
void fusion_soften(double *values, size_t count)
{
    assert(values || count == 0);

    double largest = -HUGE_VAL;
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, values[i]);
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        values[i] = exp(values[i] - largest);
        sum += values[i];
    }
    for (size_t i = 0; i < count; i++)
        values[i] /= sum;
}

// agreement[i] = log(sum_j shares[j] * exp(sharpness * (<n_i, n_j> - 1)))
static void agree(const struct fusion_params *params, uint32_t dimension,
                  const struct fusion_neighbours *neighbours, const double *shares,
                  double *agreement)
{
    size_t count = neighbours->count;
    memset(agreement, 0, count * sizeof(*agreement));
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j <= i; j++) {
            double product =
                embedding_dot(neighbours->payload[i], neighbours->payload[j], dimension);
            double alike = exp(params->sharpness * (product - 1));
            agreement[i] += shares[j] * alike;
            if (j < i)
                agreement[j] += shares[i] * alike;
        }
    }
    for (size_t i = 0; i < count; i++)
        agreement[i] = log(agreement[i]);
}

void fusion_weights(const struct fusion_params *params, uint32_t dimension,
                    const struct fusion_neighbours *neighbours, double *weights)
{
    assert(params && neighbours && neighbours->count <= K_WIRE_MAX);
    assert((neighbours->scores && weights) || neighbours->count == 0);

    struct fusion_params start = *params;
    if (params->mode == FUSION_HEAD)
        start = fusion_config_start(&fusion_head_info(params->head)->config[params->modality],
                                    fusion_head_numbers(params->head, params->modality));
    size_t count = neighbours->count;
    double temperature = start.mode == FUSION_WEIGHTED ? start.temperature : 0;
    double logits[K_WIRE_MAX];
    for (size_t i = 0; i < count; i++) {
        double pair = neighbours->pair_scores ? (double)neighbours->pair_scores[i] : 0;
        logits[i] = temperature * (double)neighbours->scores[i] + start.pairing * pair;
    }
    memcpy(weights, logits, count * sizeof(*weights));
    fusion_soften(weights, count);
    bool has_consensus = start.consensus < 0 || start.consensus > 0;
    if (start.mode != FUSION_WEIGHTED || !has_consensus)
        return;

    double agreement[K_WIRE_MAX];
    agree(&start, dimension, neighbours, weights, agreement);
    for (size_t i = 0; i < count; i++)
        weights[i] = logits[i] + start.consensus * agreement[i];
    fusion_soften(weights, count);
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
    fusion_weights(params, dimension, neighbours, weights);
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
