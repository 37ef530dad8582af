// SPDX-License-Identifier: Apache-2.0
// new_head SPACE DIMENSION OUT - writes a fusion head as training begins with it: its answers are
// those of weighted fusion.

#include <stdio.h>
#include <stdlib.h>

#include "proto/base/mem.h"
#include "shaders/models/fusion_head.h"
#include "tests/support/random_head.h"

#define SEED 20261129u

int main(int argc, char **argv)
{
    if (argc != 4) {
        (void)fprintf(stderr, "usage: new_head SPACE DIMENSION OUT\n");
        return 2;
    }
    const uint32_t dimension = (uint32_t)strtoul(argv[2], NULL, 10);
    const struct fusion_head_info info = random_head_info(dimension, argv[1]);
    float *numbers[FUSION_HEAD_SIDES];
    for (size_t i = 0; i < FUSION_HEAD_SIDES; i++) {
        const struct fusion_layout layout = fusion_layout_of(&info.config[i]);
        numbers[i] = mem_alloc_array(layout.count, sizeof(float));
        fusion_config_begin(&info.config[i], SEED, numbers[i]);
    }
    struct reason why = {.text = ""};
    const enum status status =
        fusion_head_save(argv[3], &info, (const float *const *)numbers, &why);
    for (size_t i = 0; i < FUSION_HEAD_SIDES; i++)
        mem_free(numbers[i]);
    if (status)
        (void)fprintf(stderr, "new_head: %s: %s\n", why.field, why.text);
    return status ? 1 : 0;
}
