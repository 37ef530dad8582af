// SPDX-License-Identifier: Apache-2.0
// There is room for one offer. `from_us` is when the next one is taken: never while there is one.

#include "shard_node/audit.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/cpu.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"

#define REST_US 1000000
#define REST_TIMES 19  // as long as the audit took
#define WEIGHT 0.05F   // of the newest audit in the mean
#define MEANS_MAX 4096 // generations and modalities that are kept apart

// What was answered.
struct task {
    uint32_t generation;
    enum modality modality;
    uint32_t dimension;
    size_t k; // 1..AUDIT_K
    size_t count;
    uint64_t ids[AUDIT_K];
    float query[];
};

struct mean {
    uint32_t generation;
    enum modality modality;
    float recall;
};

struct audit {
    struct audit_params params;
    struct queue *offers;
    struct thread *thread;
    atomic_int_least64_t from_us;
    atomic_bool is_stopping;
    struct mean *means; // the thread's
    size_t mean_count;
};

void audit_offer(struct audit *audit, const struct audit_offer *offer)
{
    if (!audit)
        return;
    int64_t from_us = atomic_load_explicit(&audit->from_us, memory_order_relaxed);
    if (!clock_passed(from_us) ||
        !atomic_compare_exchange_strong(&audit->from_us, &from_us, DEADLINE_NONE))
        return;
    struct task *task = mem_alloc(sizeof(*task) + offer->dimension * sizeof(float));
    task->generation = offer->generation;
    task->modality = offer->modality;
    task->dimension = offer->dimension;
    task->k = offer->k < AUDIT_K ? offer->k : AUDIT_K;
    task->count = offer->count < task->k ? offer->count : task->k;
    for (size_t i = 0; i < task->count; i++)
        task->ids[i] = offer->hits[i].neighbour.id;
    memcpy(task->query, offer->query, offer->dimension * sizeof(float));
    if (queue_push(audit->offers, task) != STATUS_OK)
        mem_free(task); // it is being stopped
}

static float share_found(const struct task *task, const struct scan_hit *truth, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < task->count; j++)
            found += truth[i].neighbour.id == task->ids[j];
    }
    return count == 0 ? 1 : (float)found / (float)count;
}

static void note(struct audit *audit, const struct task *task, float recall)
{
    struct mean *mean = NULL;
    for (size_t i = 0; i < audit->mean_count && !mean; i++) {
        if (audit->means[i].generation == task->generation &&
            audit->means[i].modality == task->modality)
            mean = &audit->means[i];
    }
    if (!mean) {
        if (audit->mean_count == MEANS_MAX)
            audit->mean_count = 0; // they are estimates; what is asked is soon there again
        mean = &audit->means[audit->mean_count++];
        *mean = (struct mean){task->generation, task->modality, recall};
    }
    mean->recall += WEIGHT * (recall - mean->recall);
    node_side_audited(audit->params.side, task->generation, task->modality, mean->recall);
}

// False when it was given up.
static bool scan_all(const struct audit *audit, const struct scan_request *request,
                     struct scan_lists *lists)
{
    const enum cpu_level level = cpu_best();
    const size_t blocks = scan_block_count(request);
    scan_lists_begin(lists, 1, request->k);
    for (size_t block = 0; block < blocks; block++) {
        if (atomic_load(&audit->is_stopping))
            return false;
        scan_block(level, request, block, lists);
    }
    scan_lists_sort(lists);
    return true;
}

static void do_task(struct audit *audit, const struct task *task)
{
    struct shelf_generation *generation = shelf_acquire(audit->params.shelf, task->generation);
    if (!generation)
        return;
    struct rows_view view = {0};
    struct scan_lists *lists = scan_lists_create(1, task->k);
    if (lists && rows_view_begin(generation->rows, &(struct rows_choice){0}, &view) == STATUS_OK) {
        const struct scan_request request = {.view = &view,
                                             .modality = task->modality,
                                             .queries = task->query,
                                             .query_count = 1,
                                             .k = task->k};
        if (scan_all(audit, &request, lists)) {
            const struct scan_hit *truth;
            const size_t count = scan_lists_get(lists, 0, &truth);
            note(audit, task, share_found(task, truth, count));
        }
        rows_view_end(&view);
    }
    scan_lists_destroy(&lists);
    shelf_release(audit->params.shelf, &generation);
}

static void run(struct thread *self, void *context)
{
    struct audit *audit = context;
    thread_ready(self, STATUS_OK);
    struct task *task;
    while ((task = queue_pop(audit->offers, DEADLINE_NONE)) != NULL) {
        const int64_t began_us = clock_now_us();
        if (!atomic_load(&audit->is_stopping))
            do_task(audit, task);
        mem_free(task);
        const int64_t rest_us = REST_TIMES * (clock_now_us() - began_us);
        const int64_t least_us = audit->params.rest_us;
        atomic_store(&audit->from_us,
                     clock_deadline_in_us(rest_us > least_us ? rest_us : least_us));
    }
}

enum status audit_start(const struct audit_params *params, struct audit **out)
{
    struct audit *audit = mem_alloc(sizeof(*audit));
    audit->params = *params;
    if (audit->params.rest_us == 0)
        audit->params.rest_us = REST_US;
    audit->means = mem_alloc_array(MEANS_MAX, sizeof(*audit->means));
    audit->offers = queue_create(1, false);
    const enum status status = thread_start("audit", run, audit, &audit->thread);
    if (status != STATUS_OK) {
        audit_stop(&audit);
        return status;
    }
    *out = audit;
    return STATUS_OK;
}

void audit_stop(struct audit **at)
{
    assert(at);

    struct audit *audit = *at;
    if (!audit)
        return;
    atomic_store(&audit->is_stopping, true);
    queue_close(audit->offers);
    thread_join(&audit->thread);
    struct task *task;
    while ((task = queue_try_pop(audit->offers)) != NULL)
        mem_free(task);
    queue_destroy(&audit->offers);
    mem_free(audit->means);
    mem_free(audit);
    *at = NULL;
}
