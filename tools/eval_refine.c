// SPDX-License-Identifier: Apache-2.0
// Queries are taken in blocks, each by one thread with room of its own, as a coordinator's compute
// thread takes the rows of a job.

#include "tools/eval_refine.h"

#include <assert.h>
#include <stdatomic.h>

#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "proto/base/parallel.h"

#define BLOCK_HITS 4096u // of a block, about

// A thread's.
struct room {
    float *payload;                 // [rows][width][dimension]
    struct fuser_hit *hits;         // [rows][width]
    struct fuser_result *selection; // [rows]
    struct fuser_row *rows;         // [rows]
    struct reason why;
    enum status status;
};

struct refining {
    const struct eval_refine *refine;
    float *refined;
    uint32_t width;
    size_t rows; // queries of a block
    struct room *rooms;
    atomic_bool has_failed;
};

// Writes the neighbours of a query to `hits`; returns how many.
static uint32_t list_hits(const struct refining *refining, size_t query, struct fuser_hit *hits,
                          float *payload)
{
    const struct eval_refine *refine = refining->refine;
    const struct eval_memory *memory = refine->memory;
    if (refine->itself) {
        const float *own = refine->queries + query * memory->dimension;
        hits[0] = (struct fuser_hit){.score = 1, .pair_score = 1, .payload = own};
        return 1;
    }
    const struct eval_hit *found = refine->hits + query * refine->width;
    const uint32_t count =
        refine->found[query] < refining->width ? refine->found[query] : refining->width;
    for (uint32_t i = 0; i < count; i++) {
        float *values = payload + (size_t)i * memory->dimension;
        half_to_floats(memory->rows[refine->payload] + (size_t)found[i].slot * memory->dimension,
                       values, memory->dimension);
        hits[i] = (struct fuser_hit){
            .id = memory->slots[found[i].slot].id,
            .score = found[i].score,
            .pair_score = memory->slots[found[i].slot].pair_score,
            .payload = values,
        };
    }
    return count;
}

static void choose(const struct refining *refining, struct room *room, size_t query, size_t row)
{
    const struct eval_refine *refine = refining->refine;
    const uint32_t dimension = refine->memory->dimension;
    struct fuser_hit *hits = room->hits + row * refining->width;
    const uint32_t count =
        list_hits(refining, query, hits, room->payload + row * refining->width * dimension);
    const size_t at = query * dimension;
    room->rows[row] = (struct fuser_row){
        .query = refine->queries + at,
        .hits = hits,
        .selection = &room->selection[row],
        .refined = refining->refined + at,
    };
    fuser_select(refine->params, hits, count, &room->selection[row]);
    const struct fuser_result *selection = &room->selection[row];
    if (refine->best)
        refine->best[query] = selection->count > 0 ? hits[selection->kept[0]].score : 0;
}

static void refine_block(void *context, uint32_t worker, size_t piece)
{
    struct refining *refining = context;
    struct room *room = &refining->rooms[worker];
    if (atomic_load(&refining->has_failed))
        return;
    const size_t first = piece * refining->rows;
    const size_t left = refining->refine->count - first;
    const size_t count = left < refining->rows ? left : refining->rows;
    for (size_t i = 0; i < count; i++)
        choose(refining, room, first + i, i);
    room->status = fuser_refine_rows(refining->refine->params, room->rows, count, &room->why);
    if (room->status)
        atomic_store(&refining->has_failed, true);
}

static bool make_room(const struct refining *refining, struct room *room)
{
    const size_t hits = refining->rows * refining->width;
    room->payload = mem_try_alloc_array(hits, refining->refine->memory->dimension * sizeof(float));
    room->hits = mem_try_alloc_array(hits, sizeof(room->hits[0]));
    room->selection = mem_try_alloc_array(refining->rows, sizeof(room->selection[0]));
    room->rows = mem_try_alloc_array(refining->rows, sizeof(room->rows[0]));
    return room->payload && room->hits && room->selection && room->rows;
}

static enum status run(struct refining *refining, struct reason *why)
{
    const struct eval_refine *refine = refining->refine;
    for (uint32_t i = 0; i < refine->threads; i++)
        if (!make_room(refining, &refining->rooms[i]))
            return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory to refine %zu queries",
                              refining->rows);
    parallel_run(refine->threads, (refine->count + refining->rows - 1) / refining->rows,
                 refine_block, refining);
    for (uint32_t i = 0; i < refine->threads; i++)
        if (refining->rooms[i].status) {
            *why = refining->rooms[i].why;
            return refining->rooms[i].status;
        }
    return STATUS_OK;
}

static void free_room(struct room *room)
{
    mem_free(room->payload);
    mem_free(room->hits);
    mem_free(room->selection);
    mem_free(room->rows);
}

static struct refining begin(const struct eval_refine *refine)
{
    assert(refine && refine->params->k >= 1 && refine->params->k <= K_MAX);
    assert(refine->params->dimension == refine->memory->dimension);
    assert(!(refine->params->dedup > 0));

    const uint32_t wanted = EVAL_REFINE_WIDTH(refine->params->k);
    return (struct refining){.refine = refine,
                             .width = wanted < refine->width ? wanted : refine->width};
}

enum status eval_refine(const struct eval_refine *refine, float *refined, struct reason *why)
{
    struct refining refining = begin(refine);
    assert(refined && why);
    assert(refine->threads >= 1 && refine->threads <= PARALLEL_THREADS_MAX);

    refining.refined = refined;
    const size_t rows = BLOCK_HITS / refining.width;
    refining.rows = rows < FUSER_ROWS_MAX ? rows : FUSER_ROWS_MAX;
    refining.rooms = mem_alloc_array(refine->threads, sizeof(refining.rooms[0]));
    const enum status status = run(&refining, why);
    for (uint32_t i = 0; i < refine->threads; i++)
        free_room(&refining.rooms[i]);
    mem_free(refining.rooms);
    return status;
}

enum status eval_refine_nearest(const struct eval_refine *refine, size_t query,
                                const float *const *vectors, size_t count, double *nearest)
{
    struct refining refining = begin(refine);
    struct room room = {.hits = NULL};
    assert(query < refine->count && vectors && nearest);

    refining.rows = 1;
    const bool fits = make_room(&refining, &room);
    if (fits) {
        const uint32_t found = list_hits(&refining, query, room.hits, room.payload);
        fuser_select(refine->params, room.hits, found, room.selection);
        for (size_t i = 0; i < count; i++)
            nearest[i] =
                fuser_nearest(vectors[i], refine->memory->dimension, room.hits, room.selection);
    }
    free_room(&room);
    return fits ? STATUS_OK : STATUS_NO_MEMORY;
}
