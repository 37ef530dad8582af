// SPDX-License-Identifier: Apache-2.0
// Why no record is missed that stays while a search runs, replaced as it may be: a slot whose bit
// is cleared when it is looked at was replaced before, and then the new slot lies below a slot
// count that is read afterwards (rows.h). So the count is read once more after every look, and what
// came since is looked at, until nothing came. A record would have to be replaced in each of the
// ROUNDS_MAX rounds to slip through, and each takes microseconds.
//
// A view with bits of its own shows what was there when it was taken. The index may have dropped
// what has died since from its lists, so those slots are looked at one by one.
//
// A record may be seen in two slots, the old one before it was replaced and the new one; the new
// one stays. If that leaves too few, they are looked for as if lists had been missed.

#include "shard_node/probe.h"

#include <assert.h>
#include <stdbool.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"

#define ROUNDS_MAX 64

struct probe {
    enum cpu_level level;
    struct index_scratch *scratch;
    struct scan_lists *list; // one
    struct scan_hit hits[K_WIRE_MAX];
};

struct probe *probe_create(enum cpu_level level, struct epoch *epoch)
{
    struct probe *probe = mem_alloc(sizeof(*probe));
    probe->level = level;
    probe->scratch = index_scratch_create(epoch);
    probe->list = scan_lists_create(1, K_WIRE_MAX);
    if (!probe->scratch || !probe->list)
        probe_destroy(&probe);
    return probe;
}

void probe_destroy(struct probe **probe)
{
    if (!*probe)
        return;
    index_scratch_destroy(&(*probe)->scratch);
    scan_lists_destroy(&(*probe)->list);
    mem_free(*probe);
    *probe = NULL;
}

// One query on its way.
struct job {
    struct probe *probe;
    const struct probe_plan *plan;
    struct scan_request request; // of this query alone
    const _Atomic uint64_t *live;
    struct probe_counts *counts;
    size_t found; // hits of the index, in probe->hits
};

static bool is_found(const struct job *job, uint32_t slot)
{
    for (size_t i = 0; i < job->found; i++) {
        if (job->probe->hits[i].slot == slot)
            return true;
    }
    return false;
}

static void scan(const struct job *job, uint32_t first, uint32_t end)
{
    job->counts->rows += end - first;
    scan_slots(job->probe->level, &job->request, job->live, first, end, job->probe->list);
}

// Slots of the view below `end` that have died since.
static void scan_dead(const struct job *job, uint32_t end)
{
    const struct rows_view *view = job->request.view;
    const _Atomic uint64_t *live = rows_live(job->plan->rows);
    for (uint32_t first = 0; first < end; first += 64) {
        uint64_t dead = view->live[first / 64] & ~atomic_load(&live[first / 64]);
        for (; dead != 0; dead &= dead - 1) {
            const uint32_t slot = first + (uint32_t)__builtin_ctzll(dead);
            if (slot < end && !is_found(job, slot))
                scan(job, slot, slot + 1);
        }
    }
}

// Slots from `first` on, with those that are appended meanwhile.
static void scan_behind(const struct job *job, uint32_t first)
{
    const struct rows_view *view = job->request.view;
    if (view->live) { // as they were
        if (first < view->slot_count)
            scan(job, first, view->slot_count);
        if (rows_dead_count(job->plan->rows) != view->dead_count)
            scan_dead(job, first < view->slot_count ? first : view->slot_count);
        return;
    }
    for (int round = 0; round < ROUNDS_MAX; round++) {
        const uint32_t end = rows_slot_count(job->plan->rows);
        if (end <= first)
            return;
        scan(job, first, end);
        first = end;
    }
}

// Moves what is in the list to `hits`, each id once; returns how many there are.
static size_t take_hits(struct probe *probe)
{
    uint64_t ids[K_WIRE_MAX];
    const struct scan_hit *list;
    scan_lists_sort(probe->list);
    const size_t count = scan_lists_get(probe->list, 0, &list);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        size_t same = 0;
        while (same < kept && ids[same] != list[i].neighbour.id)
            same++;
        if (same < kept && probe->hits[same].slot > list[i].slot)
            continue;
        if (same < kept) {
            kept--;
            for (size_t at = same; at < kept; at++) {
                ids[at] = ids[at + 1];
                probe->hits[at] = probe->hits[at + 1];
            }
        }
        ids[kept] = list[i].neighbour.id;
        probe->hits[kept++] = list[i];
    }
    return kept;
}

// All rows that count, as they are at one moment; then no record is there twice. Returns `found`,
// and leaves the hits, when there is no memory for it.
static size_t scan_all(struct job *job, size_t found)
{
    const struct rows_view *given = job->request.view;
    struct rows_view own = {0};
    if (!given->live) {
        if (rows_view_begin(job->plan->rows, &(struct rows_choice){0}, &own) != STATUS_OK)
            return found;
        job->request.view = &own;
        job->live = (const _Atomic uint64_t *)own.live;
    }
    scan_lists_begin(job->probe->list, 1, job->request.k);
    scan(job, 0, job->request.view->slot_count);
    job->request.view = given;
    rows_view_end(&own);
    return take_hits(job->probe);
}

// Looks into so many lists and behind the index. Returns the number of hits; *all tells whether
// there are no more lists.
static size_t look(struct job *job, uint32_t probes, bool *all)
{
    struct probe *probe = job->probe;
    const size_t k = job->request.k;
    const struct index_query query = {.query = job->request.queries,
                                      .k = (uint32_t)k,
                                      .probes = probes,
                                      .live = job->live,
                                      .end = job->plan->end};
    struct index_counts counts;
    job->found = index_search(job->plan->index, probe->scratch, &query, probe->hits, &counts);
    job->counts->lists += counts.probes;
    job->counts->codes += counts.codes;
    job->counts->refined += counts.refined;
    job->counts->rows += counts.rows;
    scan_lists_begin(probe->list, 1, k);
    for (size_t i = 0; i < job->found; i++)
        scan_lists_offer(probe->list, 0, &probe->hits[i]);
    scan_behind(job, counts.end);
    *all = counts.probes < probes || probes == PROBES_MAX;
    return take_hits(probe);
}

void probe_query(struct probe *probe, const struct probe_plan *plan,
                 const struct scan_request *request, size_t query, struct scan_lists *lists,
                 struct probe_counts *counts)
{
    assert(plan->probes >= 1 && plan->probes <= PROBES_MAX && request->k <= K_WIRE_MAX);

    const struct rows_view *view = request->view;
    struct job job = {.probe = probe,
                      .plan = plan,
                      .request = *request,
                      .live = view->live ? (const _Atomic uint64_t *)view->live
                                         : rows_visible(plan->rows),
                      .counts = counts};
    job.request.queries += query * view->dimension;
    job.request.query_count = 1;

    uint32_t probes = plan->probes;
    bool all = false;
    size_t found = look(&job, probes, &all);
    while (found < request->k && found < view->live_count && !all) {
        probes = probes > PROBES_MAX / 2 ? PROBES_MAX : probes * 2;
        found = look(&job, probes, &all);
    }
    if (found < request->k && found < view->live_count)
        found = scan_all(&job, found);
    scan_lists_put(lists, query, probe->hits, found);
}
