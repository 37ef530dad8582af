// SPDX-License-Identifier: Apache-2.0
// The thread walks over all sides whenever there is news, and does for each what is due; each tells
// when it wants to be looked at again. News is one token in a queue, so that many notices are one
// walk.
//
// Upkeep may take a twentieth of one core: after a turn it rests for nineteen times as long.

#include "shard_node/indexer.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "proto/base/clock.h"
#include "proto/base/cpu.h"
#include "proto/base/limits.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"
#include "shard_node/index/seed.h"
#include "shard_node/keeper.h"

#define SEED 0x7265636fu
#define UPKEEP_REST 19

struct indexer {
    struct indexer_params params;
    struct queue *news;
    struct thread *thread;
    atomic_bool is_stopping;
};

// A side that is worked on.
struct work {
    struct indexer *indexer;
    struct shelf_generation *generation;
    enum modality modality;
    struct shelf_index *side;
};

static bool is_unwanted(const struct work *work)
{
    return atomic_load(&work->indexer->is_stopping) || atomic_load(&work->generation->is_dropped);
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

// --- making one

// What an index of so many records takes, about: codes, extra bits, their constants and slot
// numbers.
static uint64_t bytes_for(const struct work *work, uint64_t records)
{
    return records * (work->generation->about.dimension / 2 + 48);
}

static bool has_memory(const struct work *work, uint64_t records)
{
    const struct indexer_params *params = &work->indexer->params;
    if (params->memory_max == 0)
        return true;
    const uint64_t used = shelf_memory(params->shelf) + store_memory(params->store);
    return used + bytes_for(work, records) <= params->memory_max;
}

static struct index_params params_of(const struct work *work)
{
    const struct rows *rows = work->generation->rows;
    return (struct index_params){
        .rows = {.dimension = work->generation->about.dimension,
                 .rows = rows_row(rows, work->modality, 0),
                 .slots = rows_slot(rows, 0)},
        .epoch = shelf_epoch(work->indexer->params.shelf),
        .level = cpu_best(),
        .threads = work->indexer->params.threads,
        .seed = SEED + 2 * (uint64_t)work->generation->about.number + work->modality,
        .given_up = {&work->indexer->is_stopping, &work->generation->is_dropped},
    };
}

// `wanted` live slots of those below `end`, or fewer, in no order; each is as likely as the other.
static uint32_t draw(const _Atomic uint64_t *live, uint32_t end, uint32_t wanted, uint64_t seed,
                     uint32_t *sample)
{
    uint32_t count = 0;
    uint64_t seen = 0;
    for (uint32_t slot = 0; slot < end; slot++) {
        if (!rows_bit(live, slot))
            continue;
        seen++;
        const uint64_t at =
            count < wanted ? seed_below(&seed, (uint64_t)count + 1) : seed_below(&seed, seen);
        if (count < wanted) { // shuffled as it grows
            sample[count] = slot;
            sample[count++] = sample[at];
            sample[at] = slot;
        } else if (at < wanted) {
            sample[at] = slot;
        }
    }
    return count;
}

static enum status train(struct work *work, uint64_t records, struct index **out,
                         struct reason *why)
{
    const struct index_params params = params_of(work);
    const struct rows *rows = work->generation->rows;
    const uint32_t wanted = index_sample_count(&params, records);
    uint32_t *sample = mem_try_alloc_array(wanted, sizeof(*sample));
    if (!sample)
        return reason_set(why, STATUS_NO_MEMORY, "", "no memory for a sample of %" PRIu32, wanted);
    const uint32_t count =
        draw(rows_live(rows), rows_slot_count(rows), wanted, params.seed, sample);
    const enum status status = index_train(&params, sample, count, records, out, why);
    mem_free(sample);
    return status;
}

// Takes in the slots below `until`, a chunk at a time.
static enum status take_in(struct work *work, struct index *index, uint32_t until,
                           struct reason *why)
{
    const _Atomic uint64_t *live = rows_live(work->generation->rows);
    enum status status = STATUS_OK;
    for (uint32_t end = index_end(index); status == STATUS_OK && end < until;) {
        if (is_unwanted(work))
            return STATUS_CANCELLED;
        end = until - end < INDEXER_CHUNK ? until : end + INDEXER_CHUNK;
        status = index_extend(index, end, live, why);
    }
    return status;
}

// Until the index covers most of the slots, which may go on coming.
static enum status fill(struct work *work, struct index *index, struct reason *why)
{
    enum status status = STATUS_OK;
    uint32_t slots = rows_slot_count(work->generation->rows);
    while (status == STATUS_OK &&
           index_end(index) < (uint64_t)slots * INDEXER_COVER_PERCENT / 100) {
        status = take_in(work, index, slots, why);
        slots = rows_slot_count(work->generation->rows);
    }
    return status;
}

static void begin_upkeep(struct work *work)
{
    struct shelf_index_notes *notes = &work->side->notes;
    struct rows *rows = work->generation->rows;
    notes->dead_seen = rows_dead_count(rows);
    notes->upkeep_left = atomic_load(&work->side->lists);
}

static void put_off(struct work *work, enum status status, const struct reason *why)
{
    if (status == STATUS_CANCELLED)
        return;
    char quoted[LOG_QUOTE_BYTES];
    log_warn("index_not_made", "generation=%" PRIu32 " modality=%d status=%s reason=%s",
             work->generation->about.number, (int)work->modality, status_text(status),
             log_quote(why->text, quoted));
    work->side->notes.train_from_us = clock_deadline_in_us(INDEXER_RETRY_US);
}

// Until then nobody knows how many lists a search must look into, so nobody is shown the index.
static enum status calibrate(struct work *work, struct index *index, struct reason *why)
{
    const int64_t began_us = clock_now_us();
    const enum status status = index_calibrate(index, rows_live(work->generation->rows));
    if (status != STATUS_OK)
        return reason_set(why, status, "", "no memory to measure its recall");
    log_info("index_calibrated",
             "generation=%" PRIu32 " modality=%d probes_90=%" PRIu32 " probes_95=%" PRIu32
             " probes_99=%" PRIu32 " seconds=%.3f",
             work->generation->about.number, (int)work->modality, index_probes(index, 0.90F, 10),
             index_probes(index, 0.95F, 10), index_probes(index, 0.99F, 10),
             (double)(clock_now_us() - began_us) / 1e6);
    return STATUS_OK;
}

static void make(struct work *work, uint64_t records)
{
    struct reason why = {0};
    struct index *index = NULL;
    const int64_t began_us = clock_now_us();
    enum status status = STATUS_OK;
    if (!has_memory(work, records))
        status = reason_set(&why, STATUS_NO_MEMORY, "",
                            "it takes about %" PRIu64 " MiB, more than the node may still have",
                            (bytes_for(work, records) >> 20) + 1);
    if (status == STATUS_OK)
        status = train(work, records, &index, &why);
    const int64_t trained_us = clock_now_us();
    if (status == STATUS_OK)
        status = fill(work, index, &why);
    const int64_t filled_us = clock_now_us();
    if (status == STATUS_OK)
        status = calibrate(work, index, &why);
    if (status != STATUS_OK) {
        index_destroy(&index);
        put_off(work, status, &why);
        return;
    }
    shelf_index_publish(work->side, &index);
    work->side->notes =
        (struct shelf_index_notes){.trained_for = records, .waits_from_us = clock_now_us()};
    work->side->kept = (struct shelf_index_kept){0};
    begin_upkeep(work);
    node_side_trained(work->indexer->params.side, trained_us - began_us);
    log_info("index_made",
             "generation=%" PRIu32 " modality=%d records=%" PRIu64 " lists=%" PRIu32
             " train_seconds=%.3f fill_seconds=%.3f",
             work->generation->about.number, (int)work->modality, records,
             (uint32_t)atomic_load(&work->side->lists), (double)(trained_us - began_us) / 1e6,
             (double)(filled_us - trained_us) / 1e6);
}

static struct keeper keeper_of(const struct work *work)
{
    const struct indexer_params *params = &work->indexer->params;
    return (struct keeper){.shelf = params->shelf, .store = params->store};
}

// What an earlier process has made. False when there is nothing of use.
static bool open_kept(struct work *work, uint64_t records)
{
    const struct keeper keeper = keeper_of(work);
    const struct index_params params = params_of(work);
    struct index *index = NULL;
    if (!has_memory(work, records) ||
        !keeper_open(&keeper, work->generation, work->modality, &params, &index))
        return false;
    struct index_about about;
    index_describe(index, &about);
    shelf_index_publish(work->side, &index);
    work->side->notes = (struct shelf_index_notes){
        .trained_for = (uint64_t)about.lists * about.list_vectors,
        .waits_from_us = clock_now_us(),
    };
    begin_upkeep(work);
    return true;
}

// --- keeping it up

// Rows that wait; tells when to look again.
static int64_t catch_up(struct work *work, struct index *index)
{
    struct shelf_index_notes *notes = &work->side->notes;
    const uint32_t slots = rows_slot_count(work->generation->rows);
    const uint32_t waiting = slots - index_end(index);
    if (waiting == 0) {
        notes->waits_from_us = 0;
        return DEADLINE_NONE;
    }
    if (notes->waits_from_us == 0)
        notes->waits_from_us = clock_now_us();
    const int64_t until_us = notes->waits_from_us + INDEXER_WAIT_US;
    if (waiting < INDEXER_ROWS && !clock_passed(until_us))
        return until_us;

    struct reason why = {0};
    const enum status status = take_in(work, index, slots, &why);
    shelf_index_note(work->side);
    notes->waits_from_us = 0;
    notes->upkeep_left = atomic_load(&work->side->lists);
    if (status == STATUS_OK || status == STATUS_CANCELLED)
        return DEADLINE_NONE;
    char quoted[LOG_QUOTE_BYTES];
    log_warn("index_stays_behind", "generation=%" PRIu32 " modality=%d reason=%s",
             work->generation->about.number, (int)work->modality, log_quote(why.text, quoted));
    return clock_deadline_in_us(INDEXER_RETRY_US);
}

// A turn of mending, when one is due; tells when the next one is.
static int64_t mend(struct work *work, struct index *index)
{
    struct shelf_index_notes *notes = &work->side->notes;
    struct rows *rows = work->generation->rows;
    if (notes->dead_seen != rows_dead_count(rows))
        begin_upkeep(work);
    if (notes->upkeep_left == 0)
        return DEADLINE_NONE;
    if (!clock_passed(notes->upkeep_from_us))
        return notes->upkeep_from_us;

    struct index_upkeep upkeep = {0};
    const int64_t began_us = clock_now_us();
    if (index_maintain(index, rows_live(rows), INDEXER_UPKEEP_LISTS, &upkeep)) {
        work->side->kept.has_changed = true;
        shelf_index_note(work->side);
        notes->upkeep_left = atomic_load(&work->side->lists);
    } else {
        notes->upkeep_left -=
            notes->upkeep_left < INDEXER_UPKEEP_LISTS ? notes->upkeep_left : INDEXER_UPKEEP_LISTS;
    }
    node_side_mended(work->indexer->params.side, &upkeep);
    const int64_t now_us = clock_now_us();
    notes->upkeep_from_us = now_us + UPKEEP_REST * (now_us - began_us);
    return notes->upkeep_left == 0 ? DEADLINE_NONE : notes->upkeep_from_us;
}

// Saves the index when that is due; first it takes in what it has to cover, and nothing behind
// that.
static void keep(struct work *work, struct index *index)
{
    const uint32_t until = keeper_due(work->generation, work->modality);
    struct reason why = {0};
    if (until == 0 || is_unwanted(work) || take_in(work, index, until, &why) != STATUS_OK)
        return; // without memory: catch_up() says so
    shelf_index_note(work->side);
    const struct keeper keeper = keeper_of(work);
    keeper_save(&keeper, work->generation, work->modality, index);
}

static int64_t tend(struct work *work)
{
    struct rows *rows = work->generation->rows;
    struct shelf_index_notes *notes = &work->side->notes;
    const uint64_t hidden = rows_hidden_count(rows); // counts of two moments
    const uint64_t live = rows_live_count(rows);
    const uint64_t records = live > hidden ? live - hidden : 0;
    if (is_unwanted(work))
        return DEADLINE_NONE;
    if (records >= INDEX_RECORDS_FROM && records >= INDEXER_GROWTH * notes->trained_for &&
        clock_passed(notes->train_from_us) && (notes->trained_for > 0 || !open_kept(work, records)))
        make(work, records);

    struct shelf_lease *lease = shelf_index_lease(work->side);
    if (!lease)
        return clock_passed(notes->train_from_us) ? DEADLINE_NONE : notes->train_from_us;
    keep(work, lease->index);
    int64_t next_us = catch_up(work, lease->index);
    next_us = sooner(next_us, mend(work, lease->index));
    shelf_index_end(work->side, &lease);
    return next_us;
}

// --- the thread

// All sides; returns when one of them wants to be looked at again.
static int64_t walk(struct indexer *indexer)
{
    int64_t next_us = DEADLINE_NONE;
    uint32_t number = 0;
    struct shelf_generation *generation;
    while (!atomic_load(&indexer->is_stopping) &&
           (generation = shelf_acquire_after(indexer->params.shelf, number)) != NULL) {
        number = generation->about.number;
        for (int m = 0; m < 2; m++) {
            struct work work = {.indexer = indexer,
                                .generation = generation,
                                .modality = (enum modality)m,
                                .side = &generation->index[m]};
            next_us = sooner(next_us, tend(&work));
        }
        shelf_release(indexer->params.shelf, &generation);
    }
    return next_us;
}

static void run(struct thread *self, void *context)
{
    struct indexer *indexer = context;
    thread_ready(self, STATUS_OK);
    while (!atomic_load(&indexer->is_stopping))
        (void)queue_pop(indexer->news, walk(indexer));
}

enum status indexer_start(const struct indexer_params *params, struct indexer **out)
{
    struct indexer *indexer = mem_alloc(sizeof(*indexer));
    indexer->params = *params;
    const uint32_t cores = (uint32_t)cpu_count();
    if (params->threads == 0)
        indexer->params.threads = cores < 2 ? 1 : cores / 2;
    indexer->news = queue_create(1, false);
    const enum status status = thread_start("indexer", run, indexer, &indexer->thread);
    if (status != STATUS_OK) {
        indexer_stop(&indexer);
        return status;
    }
    *out = indexer;
    return STATUS_OK;
}

void indexer_stop(struct indexer **at)
{
    struct indexer *indexer = *at;
    if (!indexer)
        return;
    atomic_store(&indexer->is_stopping, true);
    queue_close(indexer->news);
    thread_join(&indexer->thread);
    while (queue_try_pop(indexer->news))
        ;
    queue_destroy(&indexer->news);
    mem_free(indexer);
    *at = NULL;
}

void indexer_notice(struct indexer *indexer)
{
    if (indexer)
        (void)!queue_push(indexer->news, indexer); // a token that is there already is enough
}
