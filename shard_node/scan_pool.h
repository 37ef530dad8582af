// SPDX-License-Identifier: Apache-2.0
// scan_pool.h - the threads that search: many for one request when it is alone, one for each when
// there are many.
//
// A task is prepared by one thread, its pieces are taken one after the other by whoever is free,
// and the thread that ends the last piece finishes it. A piece is a block of rows for all queries,
// or, when there is a plan for an index, a query. Tasks are served in the order of their
// submission.
//
//   submitted --> prepare --OK--> pieces by all threads --> finish(OK | CANCELLED)
//                     \--else--> finish(that status)
//
// Thread-safety: submit by any thread; create and destroy by one.

#ifndef RECO_SHARD_NODE_SCAN_POOL_H
#define RECO_SHARD_NODE_SCAN_POOL_H

#include <stdatomic.h>

#include "shard_node/probe.h"
#include "shard_node/scan.h"

#define SCAN_POOL_THREADS_MAX 256
#define SCAN_POOL_TASKS_MAX 256

struct scan_pool;

// The caller's object, alive until `finish` is called, which may free it.
struct scan_task {
    // Sets `request`, and `plan` for a search by an index, and returns OK, or why there is nothing
    // to search.
    enum status (*prepare)(struct scan_task *task);
    bool (*is_cancelled)(struct scan_task *task); // any thread, often; NULL for never
    // `lists` is sorted and valid during the call; NULL unless the status is OK.
    void (*finish)(struct scan_task *task, enum status status, const struct scan_lists *lists);
    struct scan_request request;
    struct probe_plan plan;     // without an index: every row is looked at
    struct probe_counts counts; // what the plan took; for finish()

    struct { // the pool's
        struct scan_task *next;
        int state;
        int workers;
        bool cancelled;
        size_t piece_count;
        atomic_size_t next_piece;
        struct scan_lists *lists;
    } pool;
};

// `threads` 0: as many as this process may use. `epoch` is that of the indexes in plans and
// outlives the pool; NULL: there are none. STATUS_NO_MEMORY.
enum status scan_pool_create(uint32_t threads, enum cpu_level level, struct epoch *epoch,
                             struct scan_pool **out) MUST_CHECK;

// Ends after all tasks have finished. Sets *pool to NULL; NULL is allowed.
void scan_pool_destroy(struct scan_pool **pool);

// STATUS_EXHAUSTED with SCAN_POOL_TASKS_MAX tasks unfinished; the task is then not the pool's.
enum status scan_pool_submit(struct scan_pool *pool, struct scan_task *task) MUST_CHECK;

size_t scan_pool_depth(struct scan_pool *pool); // tasks unfinished

#endif
