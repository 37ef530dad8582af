// SPDX-License-Identifier: Apache-2.0
// timers.h - calls back at a point in time, from the loop.
//
// There are a few hundred timers at most (one for each call and query), so a list that is
// walked once a turn of the loop is all it takes.
//
// Thread-safety: none; the loop thread makes every call, callbacks run inside timers_fire().

#ifndef RECO_COORDINATOR_TIMERS_H
#define RECO_COORDINATOR_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

struct timer {
    struct timer *next;
    struct timer *previous;
    bool armed;
    bool due; // in the second list
    int64_t at_us;
    void (*fire)(void *context);
    void *context;
};

struct timers {
    struct timer *first;
    struct timer *due; // while they fire
};

// `fire` is called once, at `at_us` or soon after; DEADLINE_NONE: never. A timer that is armed
// already is armed anew. It stays where it is until it has fired or is disarmed.
void timers_arm(struct timers *timers, struct timer *timer, int64_t at_us);
void timers_disarm(struct timers *timers, struct timer *timer); // also one that is not armed

// When the next one is due; DEADLINE_NONE without any.
int64_t timers_next_us(const struct timers *timers);

// Fires every timer that is due at `now_us`. What its callback arms fires in the next call.
void timers_fire(struct timers *timers, int64_t now_us);

#endif
