// SPDX-License-Identifier: Apache-2.0
// Goal: an exact search returns the true best k in one order, whatever the threads, the blocks
// and their order, and stops when it is told to.
//
// Method: rows built in memory against a sort of all scores; many rows equal, so that ties are
// common; every kernel of this CPU.

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/half.h"
#include "proto/base/limits.h"
#include "shard_node/distance.h"
#include "shard_node/scan.h"
#include "shard_node/scan_pool.h"

#define DIMENSION 24

static uint64_t state = 42;

static uint64_t next_number(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

// A view as rows_view_begin() makes it.
struct world {
    struct rows_view view;
    uint16_t *rows[2];
    struct rows_slot *slots;
    uint64_t *live;
    float *queries;
    size_t query_count;
};

// Elements are small integers, so that many scores are equal.
static struct world new_world(size_t rows, size_t queries)
{
    struct world world = {.slots = calloc(rows + 1, sizeof(struct rows_slot)),
                          .live = calloc(rows / 64 + 1, 8),
                          .queries = calloc(queries * DIMENSION, sizeof(float)),
                          .query_count = queries};
    for (int side = 0; side < 2; side++) {
        world.rows[side] = calloc(rows * DIMENSION + 1, sizeof(uint16_t));
        for (size_t i = 0; i < rows * DIMENSION; i++)
            world.rows[side][i] = half_from_float((float)(next_number() % 3) - 1.0f);
        world.view.rows[side] = world.rows[side];
    }
    for (size_t r = 0; r < rows; r++) {
        world.slots[r].id = next_number() % 4 == 0 ? r : next_number();
        if (next_number() % 8 != 0) {
            world.live[r / 64] |= 1ull << (r % 64);
            world.view.live_count++;
        }
    }
    for (size_t i = 0; i < queries * DIMENSION; i++)
        world.queries[i] = (float)(next_number() % 3) - 1.0f;
    world.view.dimension = DIMENSION;
    world.view.slot_count = (uint32_t)rows;
    world.view.live = world.live;
    world.view.slots = world.slots;
    return world;
}

static void free_world(struct world *world)
{
    free(world->rows[0]);
    free(world->rows[1]);
    free(world->slots);
    free(world->live);
    free(world->queries);
}

static int compare(const void *a, const void *b)
{
    const struct neighbour *x = a;
    const struct neighbour *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

// All live rows, sorted.
static struct neighbour *sort_all(const struct world *world, enum modality modality, size_t query,
                                  size_t *count)
{
    struct neighbour *all = calloc(world->view.slot_count + 1, sizeof(*all));
    *count = 0;
    for (size_t r = 0; r < world->view.slot_count; r++) {
        if ((world->live[r / 64] >> (r % 64) & 1) == 0)
            continue;
        double sum = 0; // exact: small integers
        for (size_t i = 0; i < DIMENSION; i++)
            sum += (double)world->queries[query * DIMENSION + i] *
                   (double)half_to_float(world->rows[modality][r * DIMENSION + i]);
        all[(*count)++] = (struct neighbour){world->slots[r].id, (float)sum};
    }
    qsort(all, *count, sizeof(*all), compare);
    return all;
}

static void expect_true_best(const struct world *world, const struct scan_request *request,
                             const struct scan_lists *lists)
{
    for (size_t q = 0; q < request->query_count; q++) {
        size_t count = 0;
        struct neighbour *all = sort_all(world, request->modality, q, &count);
        const size_t expected = count < request->k ? count : request->k;
        const struct scan_hit *hits = NULL;
        cr_assert(eq(sz, scan_lists_get(lists, q, &hits), expected));
        for (size_t i = 0; i < expected; i++) {
            cr_assert(eq(u64, hits[i].neighbour.id, all[i].id), "query %zu, rank %zu", q, i);
            cr_assert(eq(flt, hits[i].neighbour.score, all[i].score));
            cr_assert(eq(u64, world->slots[hits[i].slot].id, all[i].id));
        }
        free(all);
    }
}

// A task that a test waits for.
struct search {
    struct scan_task task;
    const struct world *world;
    struct scan_request request;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool is_ended;
    enum status status;
    enum status prepare_status;
    atomic_int checks;
    int cancel_at; // check that says so; 0: none
};

static enum status prepare(struct scan_task *task)
{
    struct search *search = (struct search *)task;
    task->request = search->request;
    return search->prepare_status;
}

static bool is_cancelled(struct scan_task *task)
{
    struct search *search = (struct search *)task;
    const int check = atomic_fetch_add(&search->checks, 1) + 1;
    return search->cancel_at != 0 && check >= search->cancel_at;
}

static void finish(struct scan_task *task, enum status status, const struct scan_lists *lists)
{
    struct search *search = (struct search *)task;
    if (status == STATUS_OK)
        expect_true_best(search->world, &search->request, lists);
    else
        cr_expect(eq(ptr, (void *)lists, NULL));
    pthread_mutex_lock(&search->lock);
    search->is_ended = true;
    search->status = status;
    pthread_cond_signal(&search->ended);
    pthread_mutex_unlock(&search->lock);
}

static void init_search(struct search *search, const struct world *world, size_t k)
{
    memset(search, 0, sizeof(*search));
    search->task.prepare = prepare;
    search->task.is_cancelled = is_cancelled;
    search->task.finish = finish;
    search->world = world;
    search->request = (struct scan_request){.view = &world->view,
                                            .modality = MODALITY_TEXT,
                                            .queries = world->queries,
                                            .query_count = world->query_count,
                                            .k = k};
    pthread_mutex_init(&search->lock, NULL);
    pthread_cond_init(&search->ended, NULL);
}

static enum status wait_for(struct search *search)
{
    pthread_mutex_lock(&search->lock);
    while (!search->is_ended)
        pthread_cond_wait(&search->ended, &search->lock);
    pthread_mutex_unlock(&search->lock);
    return search->status;
}

Test(scan, equals_a_sort_of_everything_for_every_k_and_kernel)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 500, 5000};
    static const size_t ks[] = {1, 2, 10, 100, K_WIRE_MAX};
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct world world = new_world(sizes[s], 6);
        for (size_t i = 0; i < sizeof(ks) / sizeof(ks[0]); i++) {
            struct scan_request request = {.view = &world.view,
                                           .modality = MODALITY_IMAGE,
                                           .queries = world.queries,
                                           .query_count = 6,
                                           .k = ks[i]};
            for (int level = CPU_SCALAR; level < CPU_LEVELS; level++) {
                if (!cpu_has((enum cpu_level)level))
                    continue;
                struct scan_lists *lists = scan_lists_create(6, ks[i]);
                scan_lists_begin(lists, 6, ks[i]);
                for (size_t b = 0; b < scan_block_count(&request); b++)
                    scan_block((enum cpu_level)level, &request, b, lists);
                scan_lists_sort(lists);
                expect_true_best(&world, &request, lists);
                scan_lists_destroy(&lists);
            }
        }
        free_world(&world);
    }
}

Test(scan, does_not_depend_on_the_order_or_the_split_of_blocks)
{
    struct world world = new_world(20000, 3);
    struct scan_request request = {.view = &world.view,
                                   .modality = MODALITY_TEXT,
                                   .queries = world.queries,
                                   .query_count = 3,
                                   .k = 50};
    const size_t blocks = scan_block_count(&request);
    cr_assert(ge(sz, blocks, 4));
    for (int round = 0; round < 10; round++) {
        struct scan_lists *parts[3];
        for (int p = 0; p < 3; p++) {
            parts[p] = scan_lists_create(3, 50);
            scan_lists_begin(parts[p], 3, 50);
        }
        for (size_t b = blocks; b-- > 0;)
            scan_block(cpu_best(), &request, b, parts[next_number() % 3]);
        scan_lists_join(parts[round % 3], parts[(round + 1) % 3]);
        scan_lists_join(parts[round % 3], parts[(round + 2) % 3]);
        scan_lists_sort(parts[round % 3]);
        expect_true_best(&world, &request, parts[round % 3]);
        for (int p = 0; p < 3; p++)
            scan_lists_destroy(&parts[p]);
    }
    free_world(&world);
}

Test(scan_pool, gives_the_same_result_for_every_number_of_threads)
{
    struct world world = new_world(30000, 9);
    for (uint32_t threads = 1; threads <= 5; threads++) {
        struct scan_pool *pool = NULL;
        cr_assert(eq(int, scan_pool_create(threads, cpu_best(), NULL, &pool), STATUS_OK));
        struct search searches[12];
        for (size_t i = 0; i < 12; i++) {
            init_search(&searches[i], &world, 1 + 17 * i);
            cr_assert(eq(int, scan_pool_submit(pool, &searches[i].task), STATUS_OK));
        }
        for (size_t i = 0; i < 12; i++)
            cr_expect(eq(int, wait_for(&searches[i]), STATUS_OK));
        scan_pool_destroy(&pool);
    }
    free_world(&world);
}

Test(scan_pool, ends_a_cancelled_search_early_and_others_not)
{
    struct world world = new_world(200000, 1);
    struct scan_pool *pool = NULL;
    cr_assert(eq(int, scan_pool_create(2, cpu_best(), NULL, &pool), STATUS_OK));
    struct search before_start;
    init_search(&before_start, &world, 5);
    before_start.cancel_at = 1;
    struct search during;
    init_search(&during, &world, 5);
    during.cancel_at = 2;
    struct search other;
    init_search(&other, &world, 5);
    cr_assert(eq(int, scan_pool_submit(pool, &before_start.task), STATUS_OK));
    cr_assert(eq(int, scan_pool_submit(pool, &during.task), STATUS_OK));
    cr_assert(eq(int, scan_pool_submit(pool, &other.task), STATUS_OK));
    cr_expect(eq(int, wait_for(&before_start), STATUS_CANCELLED));
    cr_expect(eq(int, wait_for(&during), STATUS_CANCELLED));
    cr_expect(eq(int, wait_for(&other), STATUS_OK));
    scan_pool_destroy(&pool);
    free_world(&world);
}

Test(scan_pool, passes_on_why_a_search_cannot_start)
{
    struct world world = new_world(10, 1);
    struct scan_pool *pool = NULL;
    cr_assert(eq(int, scan_pool_create(1, cpu_best(), NULL, &pool), STATUS_OK));
    struct search search;
    init_search(&search, &world, 5);
    search.prepare_status = STATUS_NOT_FOUND;
    cr_assert(eq(int, scan_pool_submit(pool, &search.task), STATUS_OK));
    cr_expect(eq(int, wait_for(&search), STATUS_NOT_FOUND));
    scan_pool_destroy(&pool);
    cr_expect(eq(ptr, pool, NULL));
    free_world(&world);
}

Test(scan_pool, refuses_more_tasks_than_it_may_hold_and_finishes_all_others)
{
    struct world world = new_world(50, 1);
    struct scan_pool *pool = NULL;
    cr_assert(eq(int, scan_pool_create(1, cpu_best(), NULL, &pool), STATUS_OK));
    static struct search searches[SCAN_POOL_TASKS_MAX + 200];
    size_t taken = 0;
    size_t refused = 0;
    for (size_t i = 0; i < SCAN_POOL_TASKS_MAX + 200; i++) {
        init_search(&searches[i], &world, 5);
        const enum status status = scan_pool_submit(pool, &searches[i].task);
        cr_assert(status == STATUS_OK || status == STATUS_EXHAUSTED);
        searches[i].prepare_status = STATUS_OK;
        if (status == STATUS_OK)
            taken++;
        else
            refused++;
    }
    cr_expect(ge(sz, taken, SCAN_POOL_TASKS_MAX));
    cr_expect(eq(sz, taken + refused, SCAN_POOL_TASKS_MAX + 200));
    scan_pool_destroy(&pool); // waits for what was taken
    size_t ended = 0;
    for (size_t i = 0; i < SCAN_POOL_TASKS_MAX + 200; i++)
        ended += searches[i].is_ended;
    cr_expect(eq(sz, ended, taken));
    free_world(&world);
}
