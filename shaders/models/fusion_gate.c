// SPDX-License-Identifier: Apache-2.0
// Sums are made in double and in one order: neighbours as given, elements from the first.

#include "shaders/models/fusion_gate.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/mem.h"

#define ENTROPY_TEMPERATURE 20.0
#define OPEN_BIAS 40.0f     // its sigmoid is 1 in double
#define CONSTANT_MAX 1e6    // of bias, weights and elements
#define LEFT_MIN 1e-6       // of the length beside the centre
#define UNIT_TOLERANCE 1e-3 // of the centre's length
#define GATE_VALUES_MAX                                                                            \
    20000 // in the JSON text: two sides of two rows of DIMENSION_MAX and little else

_Static_assert(GATE_VALUES_MAX > 4 * DIMENSION_MAX + 64, "the largest constants can be read");

static double dot(const float *a, const float *b, uint32_t dimension)
{
    double sum = 0;
    for (uint32_t i = 0; i < dimension; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

// --- features

static double entropy_of(const float *scores, size_t count, double largest)
{
    if (count < 2)
        return 0;
    // With e_i = exp(x_i), S = sum e: -sum (e_i / S) log(e_i / S) = log S - sum(e_i x_i) / S.
    double sum = 0;
    double moment = 0;
    for (size_t i = 0; i < count; i++) {
        double x = ENTROPY_TEMPERATURE * ((double)scores[i] - largest);
        sum += exp(x);
        moment += exp(x) * x;
    }
    return (log(sum) - moment / sum) / log((double)count);
}

void fusion_gate_features(const struct fusion_params *params, const float *query,
                          uint32_t dimension, const struct fusion_neighbours *neighbours,
                          double features[FUSION_GATE_FEATURES])
{
    assert(params && query && neighbours && features);
    assert(dimension >= 1 && dimension <= DIMENSION_MAX && neighbours->count <= K_WIRE_MAX);

    memset(features, 0, FUSION_GATE_FEATURES * sizeof(*features));
    if (neighbours->count == 0)
        return;

    double weights[K_WIRE_MAX];
    fusion_weights(params, dimension, neighbours, weights);
    double largest = -HUGE_VAL;
    double smallest = HUGE_VAL;
    double nearest = -HUGE_VAL;
    for (size_t n = 0; n < neighbours->count; n++) {
        largest = fmax(largest, (double)neighbours->scores[n]);
        smallest = fmin(smallest, (double)neighbours->scores[n]);
        nearest = fmax(nearest, dot(query, neighbours->payload[n], dimension));
    }
    double squares = 0;
    double along = 0;
    for (uint32_t i = 0; i < dimension; i++) {
        double mean = 0;
        for (size_t n = 0; n < neighbours->count; n++)
            mean += weights[n] * (double)neighbours->payload[n][i];
        squares += mean * mean;
        along += mean * (double)query[i];
    }
    double length = sqrt(squares);
    features[FUSION_GATE_BEST] = largest;
    features[FUSION_GATE_MARGIN] = largest - smallest;
    features[FUSION_GATE_AGREEMENT] = length;
    features[FUSION_GATE_CONSISTENCY] = length < 1e-12 ? 0 : along / length;
    features[FUSION_GATE_ENTROPY] = entropy_of(neighbours->scores, neighbours->count, largest);
    features[FUSION_GATE_NEAREST] = nearest;
}

double fusion_gate_value(const struct fusion_gates *gates, enum modality side, const float *query,
                         const double features[FUSION_GATE_FEATURES])
{
    assert(gates && query && features);

    const struct fusion_gate *gate = &gates->side[side];
    double sum = (double)gate->bias;
    for (int i = 0; i < FUSION_GATE_FEATURES; i++)
        sum += (double)gate->weights[i] * features[i];
    if (gate->familiarity)
        sum += dot(gate->familiarity, query, gates->dimension);
    double value = 1 / (1 + exp(-sum));
    return value < (double)gate->floor ? 0 : value;
}

// --- the step

enum status fusion_gate_apply(const struct fusion_gates *gates, enum modality side,
                              const float *query, const float *refined, double gate, float *result)
{
    assert(gates && query && refined && result);
    assert(gate >= 0 && gate <= 1);

    const float *centre = gates->side[side].centre;
    if (!centre || gate <= 0)
        return fusion_apply_gate(query, refined, gates->dimension, gate, result);

    double values[DIMENSION_MAX];
    double along = dot(refined, centre, gates->dimension);
    double squares = 0;
    for (uint32_t i = 0; i < gates->dimension; i++) {
        values[i] = (double)refined[i] - along * (double)centre[i];
        squares += values[i] * values[i];
    }
    // What floats leave of an embedding along the centre is no direction.
    if (squares < LEFT_MIN * LEFT_MIN || !fusion_scale_to_unit(values, gates->dimension))
        return STATUS_INVALID;

    double level = (double)gates->side[side].level;
    double rest = sqrt(1 - level * level);
    for (uint32_t i = 0; i < gates->dimension; i++) {
        double anchored = rest * values[i] + level * (double)centre[i];
        values[i] = (double)query[i] + gate * (anchored - (double)query[i]);
    }
    if (!fusion_scale_to_unit(values, gates->dimension))
        return STATUS_INVALID;
    for (uint32_t i = 0; i < gates->dimension; i++)
        result[i] = (float)values[i];
    return STATUS_OK;
}

// --- constants

static const char *const side_names[FUSION_GATE_SIDES] = {
    [MODALITY_IMAGE] = "image", [MODALITY_TEXT] = "text"};

#define SIDE_FIELDS 6u

static enum status read_number(const struct json *value, const char *name, double least,
                               double most, float *out, struct reason *why)
{
    double number;
    if (!json_double(value, &number))
        return reason_set(why, STATUS_INVALID, name, "is missing or no number; %g..%g is allowed",
                          least, most);
    if (!(number >= least && number <= most))
        return reason_set(why, STATUS_INVALID, name, "%g: %g..%g is allowed", number, least, most);
    *out = (float)number;
    return STATUS_OK;
}

static enum status read_numbers(const struct json *array, const char *name, size_t count,
                                float *out, struct reason *why)
{
    if (!json_is_array(array) || json_count(array) != count)
        return reason_set(why, STATUS_INVALID, name, "is no array of %zu numbers", count);
    for (size_t i = 0; i < count; i++) {
        enum status status =
            read_number(json_element(array, i), name, -CONSTANT_MAX, CONSTANT_MAX, &out[i], why);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

// An array of `dimension` numbers, or null: *out stays NULL.
static enum status read_row(const struct json *value, const char *name, uint32_t dimension,
                            float **out, struct reason *why)
{
    if (json_is_null(value))
        return STATUS_OK;
    *out = mem_try_alloc_array(dimension, sizeof(**out));
    if (!*out)
        return reason_set(why, STATUS_NO_MEMORY, name, "no memory for %u numbers", dimension);
    return read_numbers(value, name, dimension, *out, why);
}

static enum status read_side(const struct json *object, const char *name, uint32_t dimension,
                             struct fusion_gate *out, struct reason *why)
{
    if (!json_is_object(object) || json_count(object) != SIDE_FIELDS)
        return reason_set(why, STATUS_INVALID, name, "is missing or no object of %u fields",
                          SIDE_FIELDS);
    char field[REASON_FIELD_BYTES];
#define FIELD(word) ((void)snprintf(field, sizeof(field), "%s.%s", name, word), field)
#define MEMBER(word) json_member(object, word), FIELD(word)
    enum status status = read_number(MEMBER("bias"), -CONSTANT_MAX, CONSTANT_MAX, &out->bias, why);
    if (status == STATUS_OK)
        status = read_numbers(MEMBER("weights"), FUSION_GATE_FEATURES, out->weights, why);
    if (status == STATUS_OK)
        status = read_number(MEMBER("floor"), 0, 1, &out->floor, why);
    if (status == STATUS_OK)
        status = read_number(MEMBER("level"), -0.999, 0.999, &out->level, why);
    if (status == STATUS_OK)
        status = read_row(MEMBER("centre"), dimension, &out->centre, why);
    if (status == STATUS_OK)
        status = read_row(MEMBER("familiarity"), dimension, &out->familiarity, why);
    if (status != STATUS_OK || !out->centre)
        return status;

    double length = sqrt(dot(out->centre, out->centre, dimension));
    if (fabs(length - 1) > UNIT_TOLERANCE)
        return reason_set(why, STATUS_INVALID, FIELD("centre"), "has length %g: 1 is allowed",
                          length);
#undef MEMBER
#undef FIELD
    return STATUS_OK;
}

static enum status read_sides(const struct json *object, struct fusion_gates *gates,
                              struct reason *why)
{
    if (!json_is_object(object) || json_count(object) != FUSION_GATE_SIDES)
        return reason_set(why, STATUS_INVALID, "gate", "is no object of image and text");
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < FUSION_GATE_SIDES && status == STATUS_OK; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "gate.%s", side_names[i]);
        status = read_side(json_member(object, side_names[i]), name, gates->dimension,
                           &gates->side[i], why);
    }
    return status;
}

enum status fusion_gates_open(struct text constants, uint32_t dimension, struct fusion_gates **out,
                              struct reason *why)
{
    assert(out && dimension >= 1 && dimension <= DIMENSION_MAX);

    struct fusion_gates *gates = mem_alloc(sizeof(*gates));
    gates->dimension = dimension;
    if (constants.bytes == 0) {
        for (uint32_t i = 0; i < FUSION_GATE_SIDES; i++)
            gates->side[i].bias = OPEN_BIAS;
        *out = gates;
        return STATUS_OK;
    }
    struct json *document = NULL;
    enum status status =
        json_parse_few(constants.data, constants.bytes, GATE_VALUES_MAX, &document, why);
    if (status == STATUS_OK)
        status = read_sides(document, gates, why);
    json_destroy(&document);
    if (status != STATUS_OK)
        fusion_gates_close(&gates);
    *out = gates;
    return status;
}

void fusion_gates_close(struct fusion_gates **gates)
{
    if (!gates || !*gates)
        return;
    for (uint32_t i = 0; i < FUSION_GATE_SIDES; i++) {
        mem_free((*gates)->side[i].centre);
        mem_free((*gates)->side[i].familiarity);
    }
    mem_free(*gates);
    *gates = NULL;
}

static void write_numbers(struct json_writer *writer, const char *name, const float *numbers,
                          size_t count)
{
    json_name(writer, name);
    if (!numbers) {
        json_put_null(writer);
        return;
    }
    json_begin_array(writer);
    for (size_t i = 0; i < count; i++)
        json_put_float(writer, numbers[i]);
    json_end_array(writer);
}

void fusion_gates_write(const struct fusion_gates *gates, struct json_writer *writer)
{
    assert(gates && writer);

    json_begin_object(writer);
    for (uint32_t i = 0; i < FUSION_GATE_SIDES; i++) {
        const struct fusion_gate *gate = &gates->side[i];
        json_name(writer, side_names[i]);
        json_begin_object(writer);
        json_name(writer, "bias");
        json_put_float(writer, gate->bias);
        write_numbers(writer, "weights", gate->weights, FUSION_GATE_FEATURES);
        json_name(writer, "floor");
        json_put_float(writer, gate->floor);
        json_name(writer, "level");
        json_put_float(writer, gate->level);
        write_numbers(writer, "centre", gate->centre, gates->dimension);
        write_numbers(writer, "familiarity", gate->familiarity, gates->dimension);
        json_end_object(writer);
    }
    json_end_object(writer);
}
