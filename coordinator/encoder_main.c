// SPDX-License-Identifier: Apache-2.0
// reco-encoder: the model on its device, in a process of its own, for the reco-coordinator that
// starts it: a driver that crashes or hangs takes this process with it and no query.

#include <stdio.h>
#include <string.h>

#include "coordinator/encoder_worker.h"

#define USAGE 2

int main(int argc, char **argv)
{
    struct encoder_worker_params params = {.spoil = NULL};
    struct reason why = {0};
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        (void)puts("reco-encoder " RECO_VERSION);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        (void)puts(
            "reco-encoder encodes pictures and texts for the reco-coordinator that starts it\n"
            "([encoder] process), as --model DIR, --device NAME and --threads N say. By hand\n"
            "it has nothing to do but --version and --help.");
        return 0;
    }
    if (encoder_worker_read(argc, argv, &params.clip, &why) != STATUS_OK) {
        (void)fprintf(stderr, "reco-encoder: %s: %s\n", why.field, why.text);
        return USAGE;
    }
    return encoder_worker_run(&params);
}
