// SPDX-License-Identifier: Apache-2.0
// timers.c - due timers are first moved to a list of their own: callbacks may then arm and
// disarm any timer, those that are about to fire included.

#include "coordinator/timers.h"

#include <assert.h>
#include <stddef.h>

#include "proto/base/clock.h"

static void unlink_timer(struct timer **first, struct timer *timer)
{
    if (timer->previous)
        timer->previous->next = timer->next;
    else
        *first = timer->next;
    if (timer->next)
        timer->next->previous = timer->previous;
    timer->next = NULL;
    timer->previous = NULL;
}

static void link_timer(struct timer **first, struct timer *timer)
{
    timer->previous = NULL;
    timer->next = *first;
    if (*first)
        (*first)->previous = timer;
    *first = timer;
}

void timers_arm(struct timers *timers, struct timer *timer, int64_t at_us)
{
    assert(timers && timer && timer->fire);

    timers_disarm(timers, timer);
    if (at_us == DEADLINE_NONE)
        return;
    timer->at_us = at_us;
    timer->armed = true;
    link_timer(&timers->first, timer);
}

void timers_disarm(struct timers *timers, struct timer *timer)
{
    assert(timers && timer);

    if (!timer->armed)
        return;
    struct timer **list = timer->due ? &timers->due : &timers->first;
    unlink_timer(list, timer);
    timer->armed = false;
    timer->due = false;
}

int64_t timers_next_us(const struct timers *timers)
{
    int64_t next_us = DEADLINE_NONE;
    for (const struct timer *timer = timers->first; timer; timer = timer->next)
        if (timer->at_us < next_us)
            next_us = timer->at_us;
    return next_us;
}

void timers_fire(struct timers *timers, int64_t now_us)
{
    assert(timers && !timers->due);

    struct timer *following = NULL;
    for (struct timer *timer = timers->first; timer; timer = following) {
        following = timer->next;
        if (timer->at_us > now_us)
            continue;
        unlink_timer(&timers->first, timer);
        link_timer(&timers->due, timer);
        timer->due = true;
    }
    while (timers->due) {
        struct timer *timer = timers->due;
        timers_disarm(timers, timer);
        timer->fire(timer->context);
    }
}
