// SPDX-License-Identifier: Apache-2.0
// clerk.c - two queues and a thread between them. Both hold more than there can be calls.

#include "coordinator/clerk.h"

#include <assert.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"

#define JOBS_MAX 1024

struct clerk {
    struct queue *waiting;
    struct queue *back; // with wake
    struct thread *thread;
    size_t running; // the loop's
};

static void body(struct thread *self, void *context)
{
    struct clerk *clerk = context;
    thread_ready(self, STATUS_OK);
    struct clerk_job *job = NULL;
    while ((job = queue_pop(clerk->waiting, DEADLINE_NONE)) != NULL) {
        job->status = STATUS_OK;
        job->run(job);
        const enum status pushed = queue_push(clerk->back, job);
        assert(pushed == STATUS_OK);
    }
}

enum status clerk_start(struct clerk **out)
{
    struct clerk *clerk = mem_alloc(sizeof(*clerk));
    clerk->waiting = queue_create(JOBS_MAX, false);
    clerk->back = queue_create(JOBS_MAX, true);
    enum status status = clerk->back ? STATUS_OK : STATUS_EXHAUSTED;
    if (status == STATUS_OK)
        status = thread_start("reco-clerk", body, clerk, &clerk->thread);
    if (status != STATUS_OK) {
        clerk_stop(&clerk);
        return status;
    }
    *out = clerk;
    return STATUS_OK;
}

void clerk_stop(struct clerk **clerk_pointer)
{
    struct clerk *clerk = *clerk_pointer;
    if (!clerk)
        return;
    assert(clerk->running == 0);
    queue_close(clerk->waiting);
    thread_join(&clerk->thread);
    queue_destroy(&clerk->waiting);
    if (clerk->back)
        queue_destroy(&clerk->back);
    mem_free(clerk);
    *clerk_pointer = NULL;
}

void clerk_submit(struct clerk *clerk, struct clerk_job *job)
{
    const enum status pushed = queue_push(clerk->waiting, job);
    assert(pushed == STATUS_OK);
    clerk->running++;
}

int clerk_fd(const struct clerk *clerk)
{
    return queue_fd(clerk->back);
}

void clerk_collect(struct clerk *clerk)
{
    struct clerk_job *job = NULL;
    while ((job = queue_try_pop(clerk->back)) != NULL) {
        clerk->running--;
        job->done(job->context); // the job may be gone afterwards
    }
}

size_t clerk_running(const struct clerk *clerk)
{
    return clerk->running;
}
