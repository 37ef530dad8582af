// SPDX-License-Identifier: Apache-2.0
// patience.h - waiting for what has neither a descriptor nor a condition variable: the state of
// another process, a number that only a call tells.
//
//     const int64_t limit_us = clock_deadline_in_us(PATIENCE_US);
//     while (!is_there() && patience_lasts(limit_us))
//         continue;
//     cr_assert(is_there());
//
// Thread-safety: pure.

#ifndef RECO_TESTS_SUPPORT_PATIENCE_H
#define RECO_TESTS_SUPPORT_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "proto/base/clock.h"

#define PATIENCE_US 60000000 // only a broken program needs it

// Lets a moment pass; false when the limit has passed.
static inline bool patience_lasts(int64_t limit_us)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    if (clock_passed(limit_us))
        return false;
    (void)nanosleep(&moment, NULL);
    return true;
}

#endif
