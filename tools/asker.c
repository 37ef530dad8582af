// SPDX-License-Identifier: Apache-2.0

#include "tools/asker.h"

#include <assert.h>
#include <stdbool.h>

#include "proto/base/clock.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/base/parallel.h"
#include "proto/base/thread.h"
#include "shard_node/rows.h"
#include "shard_node/scan.h"

struct asker {
    struct asker_source source;
    struct asker_queries queries;
    struct index_scratch *scratch;
    struct scan_lists *lists;
    struct scan_hit hits[K_MAX];
    size_t hit_count;
    size_t next;                   // query
    uint64_t good;                 // hits of asker_find()
    uint64_t codes, refined, rows; // sums
    struct thread *thread;         // of asker_start()
    atomic_bool is_stopping;       //
    uint64_t asked;                // by it
    int64_t began_us, ended_us;    //
};

enum status asker_create(const struct asker_source *source, const struct asker_queries *queries,
                         struct asker **out, struct reason *why)
{
    assert(source->k >= 1 && source->k <= K_MAX);
    assert(queries->count > 0);

    struct asker *asker = mem_alloc(sizeof(*asker));
    asker->source = *source;
    asker->queries = *queries;
    asker->scratch = index_scratch_create(source->epoch);
    asker->lists = scan_lists_create(1, source->k);
    if (!asker->scratch || !asker->lists) {
        asker_destroy(&asker);
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for a thread's search");
    }
    *out = asker;
    return STATUS_OK;
}

void asker_destroy(struct asker **asker)
{
    if (!*asker)
        return;
    assert(!(*asker)->thread);
    index_scratch_destroy(&(*asker)->scratch);
    scan_lists_destroy(&(*asker)->lists);
    mem_free(*asker);
    *asker = NULL;
}

// --- a query

// The slots from `first` on, which the index did not look at, beside the hits that it has found.
static void scan_rest(struct asker *asker, const float *query, uint32_t first, uint32_t end)
{
    const struct asker_source *source = &asker->source;
    const struct rows_view view = {
        .dimension = source->rows->dimension,
        .slot_count = end,
        .live_count = end,
        .rows = {source->rows->halves, source->rows->halves},
        .slots = source->rows->slots,
    };
    const struct scan_request request = {.view = &view,
                                         .modality = MODALITY_IMAGE,
                                         .queries = query,
                                         .query_count = 1,
                                         .k = source->k};
    scan_lists_begin(asker->lists, 1, source->k);
    for (size_t i = 0; i < asker->hit_count; i++)
        scan_lists_offer(asker->lists, 0, &asker->hits[i]);
    scan_slots(cpu_best(), &request, source->live, first, end, asker->lists);
    scan_lists_sort(asker->lists);
    const struct scan_hit *hits = NULL;
    asker->hit_count = scan_lists_get(asker->lists, 0, &hits);
    for (size_t i = 0; i < asker->hit_count; i++)
        asker->hits[i] = hits[i];
}

static void ask(struct asker *asker, size_t number)
{
    const struct asker_source *source = &asker->source;
    const struct index_query query = {
        .query = asker->queries.queries + number * source->rows->dimension,
        .k = source->k,
        .probes = asker->queries.probes,
        .live = source->live,
    };
    struct index_counts counts = {.probes = 0};
    asker->hit_count = index_search(source->index, asker->scratch, &query, asker->hits, &counts);
    const uint32_t end = atomic_load(source->end);
    if (counts.end < end)
        scan_rest(asker, query.query, counts.end, end);
    asker->codes += counts.codes;
    asker->refined += counts.refined;
    asker->rows += counts.rows;
}

void asker_ask(struct asker *asker)
{
    ask(asker, asker->next);
    asker->next = (asker->next + 1) % asker->queries.count;
}

// --- how fast

double asker_ask_for(struct asker *asker, double seconds)
{
    const int64_t began_us = clock_now_us();
    const int64_t until_us = began_us + (int64_t)(seconds * 1e6);
    uint64_t asked = 0;
    int64_t now_us = began_us;
    for (; now_us < until_us; now_us = clock_now_us()) {
        asker_ask(asker);
        asked++;
    }
    return (double)asked * 1e6 / (double)(now_us - began_us);
}

static void work(struct thread *self, void *context)
{
    struct asker *asker = context;
    asker->began_us = clock_now_us();
    thread_ready(self, STATUS_OK);
    do {
        asker_ask(asker);
        asker->asked++;
    } while (!atomic_load(&asker->is_stopping));
    asker->ended_us = clock_now_us();
}

enum status asker_start(struct asker *asker, struct reason *why)
{
    assert(!asker->thread);

    asker->asked = 0;
    atomic_store(&asker->is_stopping, false);
    const enum status status = thread_start("reco-asker", work, asker, &asker->thread);
    return status ? reason_set(why, status, NULL, "no thread for asking") : STATUS_OK;
}

double asker_stop(struct asker *asker)
{
    assert(asker->thread);

    atomic_store(&asker->is_stopping, true);
    thread_join(&asker->thread);
    const int64_t spent_us = asker->ended_us - asker->began_us;
    return (double)asker->asked * 1e6 / (double)(spent_us > 0 ? spent_us : 1);
}

// --- what is found

struct pass {
    const struct asker_queries *queries;
    struct asker *askers[PARALLEL_THREADS_MAX];
};

static void find_one(void *context, uint32_t worker, size_t number)
{
    struct pass *pass = context;
    struct asker *asker = pass->askers[worker];
    ask(asker, number);
    for (size_t i = 0; i < asker->hit_count; i++)
        asker->good += rows_bit(asker->source.live, asker->hits[i].slot) &&
                       (double)asker->hits[i].neighbour.score >= pass->queries->least[number];
}

enum status asker_find(const struct asker_source *source, const struct asker_queries *queries,
                       uint32_t threads, struct asker_found *out, struct reason *why)
{
    assert(threads >= 1 && threads <= PARALLEL_THREADS_MAX);

    struct pass *pass = mem_alloc(sizeof(*pass));
    pass->queries = queries;
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < threads && !status; i++)
        status = asker_create(source, queries, &pass->askers[i], why);
    if (!status) {
        parallel_run(threads, queries->count, find_one, pass);
        const double count = (double)queries->count;
        *out = (struct asker_found){.recall = 0};
        for (uint32_t i = 0; i < threads; i++) {
            const struct asker *asker = pass->askers[i];
            out->recall += (double)asker->good / (count * source->k);
            out->codes += (double)asker->codes / count;
            out->refined += (double)asker->refined / count;
            out->rows += (double)asker->rows / count;
        }
    }
    for (uint32_t i = 0; i < threads; i++)
        asker_destroy(&pass->askers[i]);
    mem_free(pass);
    return status;
}
