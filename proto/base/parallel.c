// SPDX-License-Identifier: Apache-2.0
// Threads take the next number from one counter.

#include "proto/base/parallel.h"

#include <stdatomic.h>

#include "proto/base/thread.h"

struct parallel {
    parallel_body body;
    void *context;
    size_t pieces;
    atomic_size_t next;
    atomic_uint workers;
};

static void work(struct parallel *parallel)
{
    const uint32_t worker = atomic_fetch_add(&parallel->workers, 1);
    size_t piece;
    while ((piece = atomic_fetch_add(&parallel->next, 1)) < parallel->pieces)
        parallel->body(parallel->context, worker, piece);
}

static void thread_main(struct thread *self, void *context)
{
    thread_ready(self, STATUS_OK);
    work(context);
}

void parallel_run(uint32_t threads, size_t pieces, parallel_body body, void *context)
{
    struct parallel parallel = {.body = body, .context = context, .pieces = pieces};
    struct thread *others[PARALLEL_THREADS_MAX];
    uint32_t started = 0;
    while (started + 1 < threads && started + 1 < pieces && started < PARALLEL_THREADS_MAX &&
           thread_start("parallel", thread_main, &parallel, &others[started]) == STATUS_OK)
        started++;
    work(&parallel);
    for (uint32_t i = 0; i < started; i++)
        thread_join(&others[i]);
}
