// SPDX-License-Identifier: Apache-2.0
// Goal: every timer fires once, when it is due, whatever callbacks do with it and its neighbours.
//
// Method: time is a number that the test chooses.

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "coordinator/timers.h"
#include "proto/base/clock.h"

static struct timers timers;
static int fired[4];
static struct timer all[4];

static void count(void *context)
{
    (*(int *)context)++;
}

static void reset(void)
{
    timers = (struct timers){0};
    for (int i = 0; i < 4; i++) {
        fired[i] = 0;
        all[i] = (struct timer){.fire = count, .context = &fired[i]};
    }
}

TestSuite(timers, .init = reset);

Test(timers, fire_once_when_due)
{
    cr_expect(eq(i64, timers_next_us(&timers), DEADLINE_NONE));
    timers_arm(&timers, &all[0], 20);
    timers_arm(&timers, &all[1], 10);
    timers_arm(&timers, &all[2], DEADLINE_NONE);
    cr_expect(eq(i64, timers_next_us(&timers), 10));
    timers_fire(&timers, 9);
    cr_expect(eq(int, fired[0] + fired[1], 0));
    timers_fire(&timers, 15);
    timers_fire(&timers, 15);
    cr_expect(eq(int, fired[1], 1));
    cr_expect(eq(int, fired[0], 0));
    timers_fire(&timers, 100);
    cr_expect(eq(int, fired[0], 1));
    cr_expect(eq(int, fired[2], 0));
    cr_expect(eq(i64, timers_next_us(&timers), DEADLINE_NONE));
}

Test(timers, armed_again_have_the_new_time_only)
{
    timers_arm(&timers, &all[0], 10);
    timers_arm(&timers, &all[0], 50);
    timers_fire(&timers, 20);
    cr_expect(eq(int, fired[0], 0));
    timers_fire(&timers, 50);
    cr_expect(eq(int, fired[0], 1));
}

Test(timers, disarmed_do_not_fire)
{
    timers_arm(&timers, &all[0], 10);
    timers_arm(&timers, &all[1], 10);
    timers_disarm(&timers, &all[0]);
    timers_disarm(&timers, &all[0]); // again is allowed
    timers_fire(&timers, 20);
    cr_expect(eq(int, fired[0], 0));
    cr_expect(eq(int, fired[1], 1));
}

static void disarm_the_others(void *context)
{
    count(context);
    for (int i = 0; i < 4; i++)
        timers_disarm(&timers, &all[i]);
}

Test(timers, may_disarm_others_that_are_due_as_well)
{
    for (int i = 0; i < 4; i++) {
        all[i].fire = disarm_the_others;
        timers_arm(&timers, &all[i], 10);
    }
    timers_fire(&timers, 10);
    cr_expect(eq(int, fired[0] + fired[1] + fired[2] + fired[3], 1));
    cr_expect(eq(i64, timers_next_us(&timers), DEADLINE_NONE));
}

static void arm_itself(void *context)
{
    count(context);
    timers_arm(&timers, &all[0], 10);
}

Test(timers, armed_by_a_callback_fire_in_the_next_turn)
{
    all[0].fire = arm_itself;
    timers_arm(&timers, &all[0], 10);
    timers_fire(&timers, 10);
    cr_expect(eq(int, fired[0], 1)); // no endless turn
    timers_fire(&timers, 10);
    cr_expect(eq(int, fired[0], 2));
}
