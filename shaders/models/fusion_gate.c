// SPDX-License-Identifier: Apache-2.0
// Sums are made in double, in the order of what is offered.

#include "shaders/models/fusion_gate.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

#define CONSTANT_MAX 1e6 // of bias and weights
#define VALUES_MAX 64    // in the JSON text

static const char *const names[FUSION_GATE_EVIDENCE] = {
    [FUSION_GATE_NEAREST] = "nearest",
    [FUSION_GATE_PLAIN] = "plain",
    [FUSION_GATE_PLAIN_SPREAD] = "plain_spread",
    [FUSION_GATE_REFINED_MARGIN] = "refined_margin",
    [FUSION_GATE_REFINED_SPREAD] = "refined_spread",
    [FUSION_GATE_LABELS] = "labels",
    [FUSION_GATE_KNOWN] = "known",
    [FUSION_GATE_TOLD_PLAIN] = "told_plain",
    [FUSION_GATE_TOLD_REFINED] = "told_refined",
};

void fusion_gate_offer(struct fusion_gate_list *list, size_t label, double product)
{
    assert(list);

    if (list->count == 0 || product > list->largest) {
        list->next = list->largest;
        list->largest = product;
        list->first = label;
    } else if (list->count == 1 || product > list->next) {
        list->next = product;
    }
    list->count++;
    list->sum += product;
    list->squares += product * product;
}

static double spread(const struct fusion_gate_list *list)
{
    const double count = (double)list->count;
    const double mean = list->sum / count;
    return sqrt(fmax(list->squares / count - mean * mean, 0));
}

void fusion_gate_weigh(const struct fusion_gate_dispute *dispute,
                       double evidence[FUSION_GATE_EVIDENCE])
{
    assert(dispute && evidence);
    const struct fusion_gate_list *plain = &dispute->plain;
    const struct fusion_gate_list *refined = &dispute->refined;
    assert(plain->count >= 2 && plain->count == refined->count);

    const double level = plain->sum / (double)plain->count;
    evidence[FUSION_GATE_NEAREST] = dispute->nearest - level;
    evidence[FUSION_GATE_PLAIN] = plain->largest - level;
    evidence[FUSION_GATE_PLAIN_SPREAD] = spread(plain);
    evidence[FUSION_GATE_REFINED_MARGIN] = refined->largest - refined->next;
    evidence[FUSION_GATE_REFINED_SPREAD] = spread(refined);
    evidence[FUSION_GATE_LABELS] = log((double)plain->count);
    evidence[FUSION_GATE_KNOWN] = dispute->known;
    evidence[FUSION_GATE_TOLD_PLAIN] = dispute->told_plain;
    evidence[FUSION_GATE_TOLD_REFINED] = dispute->told_refined;
}

double fusion_gate_value(const struct fusion_gate *gate,
                         const double evidence[FUSION_GATE_EVIDENCE])
{
    assert(gate && evidence);

    double sum = gate->bias;
    for (size_t i = 0; i < FUSION_GATE_EVIDENCE; i++)
        sum += gate->weights[i] * evidence[i];
    return 1 / (1 + exp(-sum));
}

double fusion_gate_nearest(const float *vector, uint32_t dimension,
                           const struct fusion_neighbours *neighbours)
{
    assert(vector && neighbours);

    double nearest = neighbours->count > 0 ? -HUGE_VAL : 0;
    for (size_t n = 0; n < neighbours->count; n++)
        nearest = fmax(nearest, embedding_dot(vector, neighbours->payload[n], dimension));
    return nearest;
}

// --- constants

static enum status read_constant(const struct json *object, const char *name, double *out,
                                 struct reason *why)
{
    char full[REASON_FIELD_BYTES];
    (void)snprintf(full, sizeof(full), "gate.%s", name);
    if (!json_double(json_member(object, name), out))
        return reason_set(why, STATUS_INVALID, full,
                          "is missing or no number; %.9g..%.9g is allowed", -CONSTANT_MAX,
                          CONSTANT_MAX);
    if (!(fabs(*out) <= CONSTANT_MAX))
        return reason_set(why, STATUS_INVALID, full, "%.9g: %.9g..%.9g is allowed", *out,
                          -CONSTANT_MAX, CONSTANT_MAX);
    return STATUS_OK;
}

static enum status read_all(const struct json *object, struct fusion_gate *out, struct reason *why)
{
    if (!json_is_object(object) || json_count(object) != FUSION_GATE_EVIDENCE + 1u)
        return reason_set(why, STATUS_INVALID, "gate",
                          "is no object of %u numbers (an earlier gate had 7: train the head anew)",
                          FUSION_GATE_EVIDENCE + 1u);
    enum status status = read_constant(object, "bias", &out->bias, why);
    for (size_t i = 0; i < FUSION_GATE_EVIDENCE && status == STATUS_OK; i++)
        status = read_constant(object, names[i], &out->weights[i], why);
    return status;
}

enum status fusion_gate_parse(struct text constants, struct fusion_gate *out, struct reason *why)
{
    assert(out);

    struct json *document = NULL;
    struct reason inner = {.text = ""};
    const enum status status =
        json_parse_few(constants.data, constants.bytes, VALUES_MAX, &document, &inner);
    if (status != STATUS_OK)
        return reason_set(why, status, "gate", "%s", inner.text);
    const enum status read = read_all(document, out, why);
    json_destroy(&document);
    return read;
}

void fusion_gate_write(const struct fusion_gate *gate, struct json_writer *writer)
{
    assert(gate && writer);

    json_begin_object(writer);
    json_name(writer, "bias");
    json_put_float(writer, (float)gate->bias);
    for (size_t i = 0; i < FUSION_GATE_EVIDENCE; i++) {
        json_name(writer, names[i]);
        json_put_float(writer, (float)gate->weights[i]);
    }
    json_end_object(writer);
}
