// SPDX-License-Identifier: Apache-2.0
#include "shaders/ops/ops_profile.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proto/base/mem.h"
#include "shaders/ops/ops_internal.h"

struct ops_profile {
    bool on;
    bool is_counting; // only
    bool of_device;   // the clock
    size_t count;
    struct ops_profile_row row[OPS_PROFILE_ROWS_MAX];
};

void ops_profile(struct ops *ops, bool on)
{
    assert(ops);

    if (!ops->profile && !on)
        return;
    if (!ops->profile)
        ops->profile = mem_alloc(sizeof(*ops->profile));
    if (on)
        ops->profile->count = 0;
    ops->profile->on = on;
    ops->profile->is_counting = false;
    bool of_device = ops->backend->clock && ops->backend->clock(ops->state, on);
    if (on)
        ops->profile->of_device = of_device;
}

void ops_profile_count(struct ops *ops, bool on)
{
    ops_profile(ops, on);
    if (ops->profile)
        ops->profile->is_counting = on;
}

bool ops_profile_is_counting(const struct ops_profile *profile)
{
    return ops_profile_is_on(profile) && profile->is_counting;
}

bool ops_profile_is_of_device(const struct ops_profile *profile)
{
    return ops_profile_is_on(profile) && profile->of_device;
}

const char *ops_profile_clock(const struct ops *ops)
{
    assert(ops);

    return ops->profile && ops->profile->of_device ? "device" : "host";
}

void ops_profile_destroy(struct ops_profile **profile)
{
    mem_free(*profile);
    *profile = NULL;
}

bool ops_profile_is_on(const struct ops_profile *profile)
{
    return profile && profile->on;
}

double ops_profile_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void name_work(const struct ops_work *work, char name[OPS_PROFILE_NAME_BYTES])
{
    if (work->depth > 0)
        (void)snprintf(name, OPS_PROFILE_NAME_BYTES, "%s %zu x %zu%s", work->kind, work->columns,
                       work->depth, work->variant);
    else
        (void)snprintf(name, OPS_PROFILE_NAME_BYTES, "%s %zu%s", work->kind, work->columns,
                       work->variant);
}

static struct ops_profile_row *row_of(struct ops_profile *profile, const struct ops_work *work)
{
    char name[OPS_PROFILE_NAME_BYTES];
    name_work(work, name);
    for (size_t i = 0; i < profile->count; i++) {
        if (strcmp(profile->row[i].name, name) == 0)
            return &profile->row[i];
    }
    if (profile->count == OPS_PROFILE_ROWS_MAX) {
        struct ops_profile_row *rest = &profile->row[OPS_PROFILE_ROWS_MAX - 1];
        (void)snprintf(rest->name, sizeof(rest->name), "others");
        return rest;
    }
    struct ops_profile_row *row = &profile->row[profile->count++];
    *row = (struct ops_profile_row){.calls = 0};
    memcpy(row->name, name, sizeof(name));
    return row;
}

void ops_profile_add(struct ops_profile *profile, const struct ops_work *work, double seconds)
{
    struct ops_profile_row *row = row_of(profile, work);
    row->calls++;
    row->rows += work->rows;
    row->seconds += seconds;
    row->operations += work->operations;
    row->bytes += work->bytes;
}

size_t ops_profile_rows(const struct ops *ops, const struct ops_profile_row **rows)
{
    assert(ops);
    assert(rows);

    *rows = ops->profile ? ops->profile->row : NULL;
    return ops->profile ? ops->profile->count : 0;
}

double ops_peak(struct ops *ops)
{
    assert(ops);

    return ops->backend->peak ? ops->backend->peak(ops->state) : 0;
}
