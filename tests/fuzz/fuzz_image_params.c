// SPDX-License-Identifier: Apache-2.0
// Goal: no preprocessor_config.json breaks its reader, and what it accepts can be used.
//
// Method: parses the input; parameters that come back must be within their limits.

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "shaders/models/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image_params params = {0};
    struct reason why = {0};
    if (image_params_parse((struct bytes){data, size}, 224, &params, &why) != STATUS_OK)
        return 0;
    if (params.size != 224 || params.rescale <= 0)
        __builtin_trap();
    for (int i = 0; i < 3; i++) {
        if (!isfinite(params.mean[i]) || !isfinite(params.std[i]) || params.std[i] <= 0)
            __builtin_trap();
    }
    return 0;
}
