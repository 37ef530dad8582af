// SPDX-License-Identifier: Apache-2.0
// How a run works: the caller publishes the run by storing its number in `open`,
// then takes jobs from the counter `next` like every worker. When no job is left
// it closes the run (open = 0) and waits until nobody is inside.
//
// A worker enters by counting itself in `inside` and only then reading `open`;
// the caller closes by writing `open` and only then reading `inside`. Both are
// sequentially consistent, so either the worker sees the run closed, or the
// caller sees the worker. A worker that sleeps through a whole run is therefore
// never waited for, and the fields of a run are never rewritten while it is read.
//
// Between the operations of one forward pass a worker yields for some microseconds
// before it sleeps: waking a sleeper costs as much as a small operation.

#include "shaders/cpu/team.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "proto/base/cpu.h"
#include "proto/base/mem.h"
#include "proto/base/thread.h"

#define TEAM_YIELDS 64

struct team_worker {
    struct team *team;
    struct thread *thread;
    uint32_t number;
};

struct team {
    uint32_t workers;

    team_job body; // the fields of the open run
    void *context;
    uint32_t jobs;

    atomic_uint next;   // the next job to take
    atomic_uint open;   // number of the open run, 0 = none
    atomic_uint inside; // workers that may look at the open run
    uint32_t number;    // of the last run; only the caller's

    pthread_mutex_t mutex; // guards the two below and every sleep
    pthread_cond_t wake;
    uint32_t published; // number of the last run, for sleepers
    bool ending;

    struct team_worker member[TEAM_WORKERS_MAX]; // 1..workers - 1 have threads
};

static void take_jobs(struct team *team, uint32_t worker)
{
    for (;;) {
        uint32_t job = atomic_fetch_add(&team->next, 1);
        if (job >= team->jobs)
            return;
        team->body(team->context, job, worker);
    }
}

// Joins the run that is open, if it is not `seen` already; returns its number or `seen`.
static uint32_t join_open_run(struct team *team, uint32_t worker, uint32_t seen)
{
    if (atomic_load(&team->open) == 0)
        return seen;
    atomic_fetch_add(&team->inside, 1);
    uint32_t open = atomic_load(&team->open);
    if (open != 0 && open != seen) {
        take_jobs(team, worker);
        seen = open;
    }
    atomic_fetch_sub(&team->inside, 1);
    return seen;
}

static void work(struct thread *self, void *context)
{
    struct team_worker *member = context;
    struct team *team = member->team;
    uint32_t seen = 0;

    thread_ready(self, STATUS_OK);
    for (;;) {
        for (int i = 0; i < TEAM_YIELDS; i++) {
            uint32_t before = seen;
            seen = join_open_run(team, member->number, seen);
            if (seen != before)
                i = 0;
            else
                (void)sched_yield();
        }

        pthread_mutex_lock(&team->mutex);
        while (!team->ending && team->published == seen)
            pthread_cond_wait(&team->wake, &team->mutex);
        bool ending = team->ending;
        uint32_t published = team->published;
        pthread_mutex_unlock(&team->mutex);
        if (ending)
            return;
        seen = join_open_run(team, member->number, seen);
        if (seen != published && atomic_load(&team->open) == 0)
            seen = published; // that run ended without this worker
    }
}

enum status team_create(uint32_t workers, struct team **out, struct reason *why)
{
    assert(out);

    if (workers == 0)
        workers = (uint32_t)cpu_count();
    if (workers > TEAM_WORKERS_MAX)
        workers = TEAM_WORKERS_MAX;

    struct team *team = mem_alloc(sizeof(*team));
    atomic_init(&team->next, 0);
    atomic_init(&team->open, 0);
    atomic_init(&team->inside, 0);
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->wake, NULL);
    team->workers = 1;
    for (uint32_t i = 1; i < workers; i++) {
        struct team_worker *member = &team->member[i];
        member->team = team;
        member->number = i;
        enum status status = thread_start("reco-compute", work, member, &member->thread);
        if (status != STATUS_OK) {
            team_destroy(&team);
            return reason_set(why, status, "threads", "thread %u of %u could not be started", i + 1,
                              workers);
        }
        team->workers = i + 1;
    }
    *out = team;
    return STATUS_OK;
}

void team_destroy(struct team **team_in)
{
    assert(team_in);

    struct team *team = *team_in;
    if (!team)
        return;
    pthread_mutex_lock(&team->mutex);
    team->ending = true;
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->mutex);
    for (uint32_t i = 1; i < team->workers; i++)
        thread_join(&team->member[i].thread);
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->mutex);
    mem_free(team);
    *team_in = NULL;
}

uint32_t team_workers(const struct team *team)
{
    assert(team);

    return team->workers;
}

void team_run(struct team *team, uint32_t jobs, team_job body, void *context)
{
    assert(team);
    assert(body);

    if (jobs < 2 || team->workers == 1) {
        for (uint32_t job = 0; job < jobs; job++)
            body(context, job, 0);
        return;
    }

    team->body = body;
    team->context = context;
    team->jobs = jobs;
    atomic_store(&team->next, 0);
    team->number = team->number == UINT32_MAX ? 1 : team->number + 1;
    atomic_store(&team->open, team->number);

    pthread_mutex_lock(&team->mutex);
    team->published = team->number;
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->mutex);

    take_jobs(team, 0);
    atomic_store(&team->open, 0);
    while (atomic_load(&team->inside) != 0)
        (void)sched_yield();
}
