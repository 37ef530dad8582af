// SPDX-License-Identifier: Apache-2.0
// One list of tasks under one mutex; the pieces of a task under one atomic counter. A thread that
// scans blocks collects hits in lists of its own and joins them into the task's once, when there
// are no more, so threads meet twice for each task and not once for each block. A query by an index
// has a list of the task's to itself.

#include "shard_node/scan_pool.h"

#include <assert.h>
#include <pthread.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/base/thread.h"

#define PIECES_BETWEEN_CHECKS                                                                      \
    16 // of a thread, for up to as many queries; fewer for more: about 10 ms

enum task_state {
    TASK_NEW,
    TASK_PREPARING,
    TASK_RUNNING,
};

struct worker {
    struct scan_pool *pool;
    struct thread *thread;
    struct scan_lists *lists;
    struct probe *probe; // NULL without an epoch
};

struct scan_pool {
    enum cpu_level level;
    uint32_t worker_count;
    struct worker *workers;

    pthread_mutex_t lock; // everything below
    pthread_cond_t work;  // a task is new or has pieces, or the pool closes
    struct scan_task *first;
    struct scan_task **last;
    size_t task_count;
    bool closing;
};

static bool has_pieces(const struct scan_task *task)
{
    return task->pool.state == TASK_RUNNING &&
           atomic_load(&task->pool.next_piece) < task->pool.piece_count;
}

static struct scan_task *find_work(struct scan_pool *pool)
{
    for (struct scan_task *task = pool->first; task; task = task->pool.next) {
        if (task->pool.state == TASK_NEW || has_pieces(task))
            return task;
    }
    return NULL;
}

static void remove_task(struct scan_pool *pool, struct scan_task *task)
{
    struct scan_task **at = &pool->first;
    while (*at != task)
        at = &(*at)->pool.next;
    *at = task->pool.next;
    if (pool->last == &task->pool.next)
        pool->last = at;
    pool->task_count--;
    if (pool->closing)
        pthread_cond_broadcast(&pool->work);
}

// Called with the lock, returns with it.
static void end_task(struct scan_pool *pool, struct scan_task *task, enum status status)
{
    struct scan_lists *lists = task->pool.lists;
    pthread_mutex_unlock(&pool->lock);
    if (lists && status == STATUS_OK)
        scan_lists_sort(lists);
    pthread_mutex_lock(&pool->lock);
    remove_task(pool, task);
    pthread_mutex_unlock(&pool->lock);

    // The task may be gone after this.
    task->finish(task, status, status == STATUS_OK ? lists : NULL);
    scan_lists_destroy(&lists);
    pthread_mutex_lock(&pool->lock);
}

static enum status begin_task(struct scan_task *task)
{
    if (task->is_cancelled && task->is_cancelled(task))
        return STATUS_CANCELLED;
    const enum status status = task->prepare(task);
    if (status != STATUS_OK)
        return status;

    const struct scan_request *request = &task->request;
    assert(request->query_count <= SEARCH_ROWS_MAX && request->k <= K_WIRE_MAX);
    task->pool.lists = scan_lists_create(request->query_count, request->k);
    if (!task->pool.lists)
        return STATUS_NO_MEMORY;
    scan_lists_begin(task->pool.lists, request->query_count, request->k);
    task->pool.piece_count = task->plan.index ? request->query_count : scan_block_count(request);
    return STATUS_OK;
}

// Called with the lock, returns with it.
static void prepare_task(struct scan_pool *pool, struct scan_task *task)
{
    task->pool.state = TASK_PREPARING;
    pthread_mutex_unlock(&pool->lock);
    const enum status status = begin_task(task);
    pthread_mutex_lock(&pool->lock);
    if (status != STATUS_OK || task->pool.piece_count == 0) {
        end_task(pool, task, status);
        return;
    }
    task->pool.state = TASK_RUNNING;
    if (task->pool.piece_count > 1)
        pthread_cond_broadcast(&pool->work);
}

// How many pieces a thread does before it looks whether anybody still waits.
static size_t pieces_between_checks(const struct scan_task *task)
{
    const struct scan_request *request = &task->request;
    if (task->plan.index)
        return PIECES_BETWEEN_CHECKS;
    size_t rounds = (request->query_count + PIECES_BETWEEN_CHECKS - 1) / PIECES_BETWEEN_CHECKS;
    return rounds < PIECES_BETWEEN_CHECKS ? PIECES_BETWEEN_CHECKS / rounds : 1;
}

static void do_piece(struct worker *worker, struct scan_task *task, size_t piece,
                     struct probe_counts *counts)
{
    if (task->plan.index)
        probe_query(worker->probe, &task->plan, &task->request, piece, task->pool.lists, counts);
    else
        scan_block(worker->pool->level, &task->request, piece, worker->lists);
}

// Takes pieces until there are none; returns how many it did.
static size_t do_pieces(struct worker *worker, struct scan_task *task, struct probe_counts *counts,
                        bool *cancelled)
{
    const size_t between = pieces_between_checks(task);
    size_t done = 0;
    for (;;) {
        const size_t piece = atomic_fetch_add(&task->pool.next_piece, 1);
        if (piece >= task->pool.piece_count)
            return done;
        if (done == 0)
            scan_lists_begin(worker->lists, task->request.query_count, task->request.k);
        do_piece(worker, task, piece, counts);
        done++;
        if (done % between == 0 && task->is_cancelled && task->is_cancelled(task)) {
            *cancelled = true;
            atomic_store(&task->pool.next_piece, task->pool.piece_count);
            return done;
        }
    }
}

// Called with the lock, returns with it.
static void run_task(struct worker *worker, struct scan_task *task)
{
    struct scan_pool *pool = worker->pool;
    task->pool.workers++;
    pthread_mutex_unlock(&pool->lock);
    bool cancelled = false;
    struct probe_counts counts = {0};
    const size_t done = do_pieces(worker, task, &counts, &cancelled);
    pthread_mutex_lock(&pool->lock);

    task->pool.cancelled = task->pool.cancelled || cancelled;
    task->counts.lists += counts.lists;
    task->counts.codes += counts.codes;
    task->counts.refined += counts.refined;
    task->counts.rows += counts.rows;
    if (done > 0 && !task->pool.cancelled && !task->plan.index)
        scan_lists_join(task->pool.lists, worker->lists);
    if (--task->pool.workers == 0)
        end_task(pool, task, task->pool.cancelled ? STATUS_CANCELLED : STATUS_OK);
}

static void work(struct thread *self, void *context)
{
    struct worker *worker = context;
    struct scan_pool *pool = worker->pool;
    thread_ready(self, STATUS_OK);

    pthread_mutex_lock(&pool->lock);
    while (!pool->closing || pool->task_count > 0) {
        struct scan_task *task = find_work(pool);
        if (!task)
            pthread_cond_wait(&pool->work, &pool->lock);
        else if (task->pool.state == TASK_NEW)
            prepare_task(pool, task);
        else
            run_task(worker, task);
    }
    pthread_mutex_unlock(&pool->lock);
}

static enum status start_worker(struct worker *worker, struct epoch *epoch)
{
    worker->lists = scan_lists_create(SEARCH_ROWS_MAX, K_WIRE_MAX);
    if (epoch)
        worker->probe = probe_create(worker->pool->level, epoch);
    if (!worker->lists || (epoch && !worker->probe))
        return STATUS_NO_MEMORY;
    return thread_start("search", work, worker, &worker->thread);
}

enum status scan_pool_create(uint32_t threads, enum cpu_level level, struct epoch *epoch,
                             struct scan_pool **out)
{
    if (threads == 0)
        threads = (uint32_t)cpu_count();
    if (threads > SCAN_POOL_THREADS_MAX)
        threads = SCAN_POOL_THREADS_MAX;

    struct scan_pool *pool = mem_alloc(sizeof(*pool));
    pool->level = level;
    pool->last = &pool->first;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pool->workers = mem_alloc_array(threads, sizeof(*pool->workers));

    enum status status = STATUS_OK;
    for (uint32_t t = 0; t < threads && status == STATUS_OK; t++) {
        pool->workers[t].pool = pool;
        status = start_worker(&pool->workers[t], epoch);
        pool->worker_count++;
    }
    if (status != STATUS_OK) {
        scan_pool_destroy(&pool);
        return status;
    }
    *out = pool;
    return STATUS_OK;
}

void scan_pool_destroy(struct scan_pool **pool_pointer)
{
    struct scan_pool *pool = *pool_pointer;
    if (!pool)
        return;

    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t t = 0; t < pool->worker_count; t++) {
        thread_join(&pool->workers[t].thread);
        scan_lists_destroy(&pool->workers[t].lists);
        probe_destroy(&pool->workers[t].probe);
    }
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    mem_free(pool->workers);
    mem_free(pool);
    *pool_pointer = NULL;
}

enum status scan_pool_submit(struct scan_pool *pool, struct scan_task *task)
{
    task->pool.next = NULL;
    task->pool.state = TASK_NEW;
    task->pool.workers = 0;
    task->pool.cancelled = false;
    task->pool.piece_count = 0;
    atomic_init(&task->pool.next_piece, 0);
    task->pool.lists = NULL;
    task->plan = (struct probe_plan){0};
    task->counts = (struct probe_counts){0};

    pthread_mutex_lock(&pool->lock);
    const bool full = pool->task_count >= SCAN_POOL_TASKS_MAX || pool->closing;
    if (!full) {
        *pool->last = task;
        pool->last = &task->pool.next;
        pool->task_count++;
        pthread_cond_signal(&pool->work);
    }
    pthread_mutex_unlock(&pool->lock);
    return full ? STATUS_EXHAUSTED : STATUS_OK;
}

size_t scan_pool_depth(struct scan_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    const size_t depth = pool->task_count;
    pthread_mutex_unlock(&pool->lock);
    return depth;
}
