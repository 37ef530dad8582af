// SPDX-License-Identifier: Apache-2.0
// Goal: no text makes the reader of a gate's constants crash; what it accepts can be used and written again.
//
// Method: the input is opened as constants of a space of two dimensions; a refusal must give a reason, accepted
// ones give a gate of 0..1 and are read again from what they write.

#include <stdint.h>
#include <stdlib.h>

#include "shaders/models/fusion_gate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int right)
{
    if (!right)
        abort();
}

static void use(const struct fusion_gates *gates)
{
    const float query[] = {1, 0};
    const double features[FUSION_GATE_FEATURES] = {0.5, 0.5, 0.5, 0.5, 0.5, 0.5};
    for (int side = 0; side < 2; side++) {
        float result[2];
        double gate = fusion_gate_value(gates, (enum modality)side, query, features);
        check(gate >= 0 && gate <= 1);
        (void)!fusion_gate_apply(gates, (enum modality)side, query, query, gate, result);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fusion_gates *gates = NULL;
    struct reason why = {0};
    struct text text = {(const char *)data, size};
    if (fusion_gates_open(text, 2, &gates, &why) != STATUS_OK) {
        check(why.text[0] != '\0' && !gates);
        return 0;
    }
    use(gates);
    struct json_writer writer = {0};
    struct fusion_gates *again = NULL;
    fusion_gates_write(gates, &writer);
    check(fusion_gates_open((struct text){(const char *)writer.out.data, writer.out.count}, 2,
                            &again, NULL) == STATUS_OK);
    fusion_gates_close(&again);
    json_writer_deinit(&writer);
    fusion_gates_close(&gates);
    return 0;
}
