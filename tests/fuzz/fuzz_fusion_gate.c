// SPDX-License-Identifier: Apache-2.0
// Goal: no text makes the reader of a gate's constants crash; what it accepts can be used and
// written again.
//
// Method: the input is read as constants; a refusal must give a reason, accepted ones give a gate
// of 0..1 and are read again from what they write.

#include <stdint.h>
#include <stdlib.h>

#include "shaders/models/fusion_gate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int right)
{
    if (!right)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fusion_gate gate;
    struct fusion_gate again;
    struct reason why = {0};
    if (fusion_gate_parse((struct text){(const char *)data, size}, &gate, &why) != STATUS_OK) {
        check(why.text[0] != '\0');
        return 0;
    }
    const double evidence[FUSION_GATE_EVIDENCE] = {0.5, 0.5, 0.1, 0.1, 0.1, 3, 0.5, 0.5, 0.5};
    double value = fusion_gate_value(&gate, evidence);
    check(value >= 0 && value <= 1);
    struct json_writer writer = {0};
    fusion_gate_write(&gate, &writer);
    check(fusion_gate_parse((struct text){(const char *)writer.out.data, writer.out.count}, &again,
                            NULL) == STATUS_OK);
    json_writer_deinit(&writer);
    return 0;
}
