// SPDX-License-Identifier: Apache-2.0
// By the exact scan of a node, SCAN_QUERIES queries at a time.

#include "tools/exact_least.h"

#include <assert.h>

#include "proto/base/mem.h"
#include "proto/base/parallel.h"
#include "shard_node/rows.h"
#include "shard_node/scan.h"

#define SCAN_QUERIES 32

struct finding {
    const struct exact_least_params *params;
    double *least;
    struct rows_view view;
    struct scan_lists *lists[PARALLEL_THREADS_MAX];
};

static void find_piece(void *context, uint32_t worker, size_t piece)
{
    struct finding *finding = context;
    const struct exact_least_params *params = finding->params;
    size_t first = piece * SCAN_QUERIES;
    size_t left = params->query_count - first;
    size_t count = left < SCAN_QUERIES ? left : SCAN_QUERIES;
    const struct scan_request request = {
        .view = &finding->view,
        .modality = MODALITY_IMAGE,
        .queries = params->queries + first * params->rows->dimension,
        .query_count = count,
        .k = params->k,
    };
    struct scan_lists *lists = finding->lists[worker];
    scan_lists_begin(lists, count, params->k);
    for (size_t block = 0; block < scan_block_count(&request); block++)
        scan_block(cpu_best(), &request, block, lists);
    scan_lists_sort(lists);
    for (size_t i = 0; i < count; i++) {
        const struct scan_hit *hits = NULL;
        size_t found = scan_lists_get(lists, i, &hits);
        assert(found == params->k);
        finding->least[first + i] = (double)hits[found - 1].neighbour.score;
    }
}

// A copy of the bits, or all of them set.
static uint64_t *bits_of(const struct exact_least_params *params)
{
    size_t words = params->rows->count / 64 + 1;
    uint64_t *bits = mem_alloc_array(words, sizeof(*bits));
    for (uint32_t i = 0; i < params->rows->count; i++) {
        if (!params->live || rows_bit(params->live, i))
            bits[i / 64] |= UINT64_C(1) << (i % 64);
    }
    return bits;
}

enum status exact_least_find(const struct exact_least_params *params, double *least,
                             struct reason *why)
{
    assert(params->threads >= 1 && params->threads <= PARALLEL_THREADS_MAX);

    const struct unit_rows *rows = params->rows;
    struct finding *finding = mem_alloc(sizeof(*finding));
    finding->params = params;
    finding->least = least;
    finding->view = (struct rows_view){
        .dimension = rows->dimension,
        .slot_count = rows->count,
        .live_count = rows->count,
        .live = bits_of(params),
        .rows = {rows->halves, rows->halves},
        .slots = rows->slots,
    };
    enum status status = STATUS_OK;
    for (size_t i = 0; i < params->threads && !status; i++) {
        finding->lists[i] = scan_lists_create(SCAN_QUERIES, params->k);
        if (!finding->lists[i])
            status = reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for an exact search");
    }
    if (!status)
        parallel_run(params->threads, (params->query_count + SCAN_QUERIES - 1) / SCAN_QUERIES,
                     find_piece, finding);
    for (size_t i = 0; i < params->threads; i++)
        scan_lists_destroy(&finding->lists[i]);
    mem_free(finding->view.live);
    mem_free(finding);
    return status;
}
