// SPDX-License-Identifier: Apache-2.0
// While rows come the index is mended without rest, where a node's thread would give it a twentieth
// of its time: what that costs is in the figures, and not put off.

#include "tools/index_live.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "shard_node/index/seed.h"
#include "shard_node/indexer.h"
#include "tools/exact_least.h"
#include "tools/npyfile.h"
#include "tools/unit_rows.h"

#define BUILT_PERCENT 55
#define INSERTED_PERCENT 90
#define ASK_SECONDS 1.0
#define FULL_SPEED 0.95
#define MENDS_PER_LIST 16 // in one step; more, and mending does not end

struct set {
    float *queries; // [count][dimension]
    size_t count;
    double *least; // [count], among the live rows
};

struct index_live {
    struct index_live_params params;
    struct unit_rows rows;
    _Atomic uint64_t *live; // a bit for each slot
    uint32_t live_count;
    atomic_uint end; // slots that were appended
    uint64_t seed;   // of the next draw
    struct epoch *epoch;
    struct index *index;
    struct set sets[INDEX_LIVE_SETS_MAX];
    size_t set_count;
};

static double seconds_since(int64_t began_us)
{
    return (double)(clock_now_us() - began_us) / 1e6;
}

// --- rows and queries

struct placed {
    double product;
    uint32_t row;
};

static int by_product(const void *a, const void *b)
{
    const struct placed *one = a;
    const struct placed *other = b;
    if (one->product != other->product)
        return one->product < other->product ? -1 : 1;
    return (one->row > other->row) - (one->row < other->row);
}

// The numbers of the rows by rising product with one of them. NULL: no memory.
static uint32_t *order_rows(struct index_live *live, const struct npyfile *file)
{
    const uint32_t count = (uint32_t)npyfile_info(file)->rows;
    const size_t dimension = (size_t)npyfile_info(file)->columns;
    struct placed *placed = mem_try_alloc_array(count, sizeof(*placed));
    uint32_t *order = mem_try_alloc_array(count, sizeof(*order));
    float *centre = mem_alloc_array(2 * dimension, sizeof(*centre));
    float *row = centre + dimension;
    npyfile_read_row(file, seed_below(&live->seed, count), centre);
    for (uint32_t i = 0; placed && order && i < count; i++) {
        placed[i] = (struct placed){.row = i};
        npyfile_read_row(file, i, row);
        for (size_t j = 0; j < dimension; j++)
            placed[i].product += (double)centre[j] * (double)row[j];
    }
    if (placed && order) {
        qsort(placed, count, sizeof(*placed), by_product);
        for (uint32_t i = 0; i < count; i++)
            order[i] = placed[i].row;
    } else {
        mem_free(order);
        order = NULL;
    }
    mem_free(placed);
    mem_free(centre);
    return order;
}

static enum status read_base(struct index_live *live, struct reason *why)
{
    const char *path = live->params.base;
    struct npyfile *file = NULL;
    enum status status = unit_rows_open(path, &file, why);
    if (status)
        return status;
    if (npyfile_info(file)->rows < INDEX_LIVE_ROWS_MIN) {
        status = reason_set(why, STATUS_INVALID, path, "has %llu rows; at least %d are needed",
                            (unsigned long long)npyfile_info(file)->rows, INDEX_LIVE_ROWS_MIN);
    } else {
        uint32_t *order = order_rows(live, file);
        status = order ? unit_rows_read(path, file, order, &live->rows, why)
                       : reason_set(why, STATUS_NO_MEMORY, NULL, "no memory to sort the rows");
        mem_free(order);
    }
    npyfile_close(&file);
    live->live = mem_alloc_array((size_t)live->rows.count / 64 + 1, sizeof(*live->live));
    return status;
}

static enum status read_queries(struct index_live *live, const char *path, struct reason *why)
{
    struct set *set = &live->sets[live->set_count++]; // freed with the rest
    enum status status =
        unit_rows_read_floats(path, live->rows.dimension, &set->queries, &set->count, why);
    if (status)
        return status;
    set->least = mem_try_alloc_array(set->count, sizeof(double));
    return set->least ? STATUS_OK
                      : reason_set(why, STATUS_NO_MEMORY, path, "no memory for the queries");
}

enum status index_live_create(const struct index_live_params *params, struct index_live **out,
                              struct reason *why)
{
    assert(params->queries->count >= 1 && params->queries->count <= INDEX_LIVE_SETS_MAX);
    assert(params->probes->count >= 1 && params->chunk >= 1);
    assert(params->seconds >= 1 && params->seconds <= INDEX_LIVE_SECONDS_MAX);
    assert(params->threads >= 1 && params->threads <= INDEX_LIVE_THREADS_MAX);

    struct index_live *live = mem_alloc(sizeof(*live));
    live->params = *params;
    live->seed = params->seed;
    live->epoch = epoch_create();
    enum status status = read_base(live, why);
    for (size_t i = 0; i < params->queries->count && !status; i++)
        status = read_queries(live, params->queries->items[i], why);
    if (status) {
        index_live_destroy(&live);
        return status;
    }
    *out = live;
    return STATUS_OK;
}

void index_live_destroy(struct index_live **live)
{
    struct index_live *ending = *live;
    if (!ending)
        return;
    index_destroy(&ending->index);
    epoch_destroy(&ending->epoch);
    for (size_t i = 0; i < ending->set_count; i++) {
        mem_free(ending->sets[i].queries);
        mem_free(ending->sets[i].least);
    }
    mem_free(ending->live);
    unit_rows_deinit(&ending->rows);
    mem_free(ending);
    *live = NULL;
}

// --- live or dead

static void set_bit(struct index_live *live, uint32_t slot)
{
    (void)atomic_fetch_or(&live->live[slot / 64], UINT64_C(1) << (slot % 64));
    live->live_count++;
}

static void clear_bit(struct index_live *live, uint32_t slot)
{
    (void)atomic_fetch_and(&live->live[slot / 64], ~(UINT64_C(1) << (slot % 64)));
    live->live_count--;
}

// All live slots, shuffled. NULL: no memory.
static uint32_t *draw(struct index_live *live, struct reason *why)
{
    uint32_t *slots = mem_try_alloc_array((size_t)live->live_count + 1, sizeof(*slots));
    if (!slots) {
        (void)reason_set(why, STATUS_NO_MEMORY, NULL, "no memory to choose rows");
        return NULL;
    }
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < atomic_load(&live->end); slot++) {
        if (!rows_bit(live->live, slot))
            continue;
        const uint64_t at = seed_below(&live->seed, (uint64_t)count + 1);
        slots[count] = slots[at];
        slots[at] = slot;
        count++;
    }
    assert(count == live->live_count);
    return slots;
}

// --- what an index finds

static struct asker_source source_of(const struct index_live *live, struct index *index)
{
    return (struct asker_source){.index = index,
                                 .epoch = live->epoch,
                                 .rows = &live->rows,
                                 .live = live->live,
                                 .end = &live->end,
                                 .k = live->params.k};
}

static struct asker_queries queries_of(const struct index_live *live, size_t set, size_t probes)
{
    return (struct asker_queries){.queries = live->sets[set].queries,
                                  .least = live->sets[set].least,
                                  .count = live->sets[set].count,
                                  .probes = (uint32_t)live->params.probes->items[probes]};
}

static enum status find_truth(struct index_live *live, struct reason *why)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < live->set_count && !status; i++) {
        const struct exact_least_params params = {.rows = &live->rows,
                                                  .live = live->live,
                                                  .queries = live->sets[i].queries,
                                                  .query_count = live->sets[i].count,
                                                  .k = live->params.k,
                                                  .threads = live->params.threads};
        status = exact_least_find(&params, live->sets[i].least, why);
    }
    return status;
}

static enum status look(struct index_live *live, struct index *index, struct index_live_step *out,
                        struct reason *why)
{
    const struct asker_source source = source_of(live, index);
    enum status status = STATUS_OK;
    out->live = live->live_count;
    index_describe(index, &out->about);
    for (size_t set = 0; set < live->set_count && !status; set++) {
        for (size_t i = 0; i < live->params.probes->count && !status; i++) {
            const struct asker_queries queries = queries_of(live, set, i);
            status = asker_find(&source, &queries, live->params.threads, &out->found[set][i], why);
        }
    }
    return status;
}

// One that asks what all figures of speed are about: the first file with the first number of lists.
static enum status create_asker(struct index_live *live, struct asker **out, struct reason *why)
{
    const struct asker_source source = source_of(live, live->index);
    const struct asker_queries queries = queries_of(live, 0, 0);
    return asker_create(&source, &queries, out, why);
}

// --- taking in and mending

static uint32_t lists_of(struct index *index)
{
    struct index_about about;
    index_describe(index, &about);
    return about.lists;
}

// Mends until so many lists one after the other are well; 0: all of them.
static enum status mend(struct index_live *live, uint32_t wanted, struct index_live_step *out,
                        struct reason *why)
{
    struct index *index = live->index;
    uint64_t may = (uint64_t)MENDS_PER_LIST * lists_of(index);
    uint32_t left = wanted ? wanted : lists_of(index);
    while (left > 0) {
        if (!index_maintain(index, live->live, INDEXER_UPKEEP_LISTS, &out->upkeep))
            left -= left < INDEXER_UPKEEP_LISTS ? left : INDEXER_UPKEEP_LISTS;
        else if (may-- > 0)
            left = wanted ? wanted : lists_of(index);
        else
            return reason_set(why, STATUS_EXHAUSTED, NULL, "mending does not come to an end");
    }
    return STATUS_OK;
}

static enum status come_to_rest(struct index_live *live, struct index_live_step *out,
                                struct reason *why)
{
    const int64_t began_us = clock_now_us();
    const enum status status = mend(live, 0, out, why);
    out->rest_seconds = seconds_since(began_us);
    return status;
}

// Slots up to `until` are appended and taken in; with each, the next of `dying`, unless that is
// NULL, is cleared.
static enum status take_in(struct index_live *live, uint32_t until, const uint32_t *dying,
                           struct index_live_step *out, struct reason *why)
{
    enum status status = STATUS_OK;
    uint32_t end = atomic_load(&live->end);
    out->rows = until - end;
    const int64_t began_us = clock_now_us();
    while (end < until && !status) {
        const uint32_t next = until - end < live->params.chunk ? until : end + live->params.chunk;
        for (uint32_t slot = end; slot < next; slot++)
            set_bit(live, slot);
        atomic_store(&live->end, next);
        for (; dying && end < next; end++)
            clear_bit(live, *dying++);
        end = next;
        const int64_t extend_us = clock_now_us();
        status = index_extend(live->index, next, live->live, why);
        out->extend_seconds += seconds_since(extend_us);
        if (!status)
            status = mend(live, INDEXER_UPKEEP_LISTS, out, why);
    }
    out->seconds = seconds_since(began_us);
    return status;
}

// The same, while one asks who has asked before.
static enum status take_in_asked(struct index_live *live, uint32_t until, const uint32_t *dying,
                                 struct index_live_step *out, struct reason *why)
{
    struct asker *asker = NULL;
    enum status status = create_asker(live, &asker, why);
    if (status)
        return status;
    out->asked_before = asker_ask_for(asker, ASK_SECONDS);
    status = asker_start(asker, why);
    if (!status) {
        status = take_in(live, until, dying, out, why);
        out->asked = asker_stop(asker);
    }
    asker_destroy(&asker);
    if (!status)
        status = come_to_rest(live, out, why);
    if (!status)
        status = find_truth(live, why);
    return status ? status : look(live, live->index, out, why);
}

// --- the steps

static uint32_t part(const struct index_live *live, uint32_t percent)
{
    return (uint32_t)((uint64_t)live->rows.count * percent / 100);
}

static struct index_params params_of(const struct index_live *live)
{
    return (struct index_params){
        .rows = {.dimension = live->rows.dimension,
                 .rows = live->rows.halves,
                 .slots = live->rows.slots},
        .epoch = live->epoch,
        .level = cpu_best(),
        .threads = 1,
        .seed = live->params.seed,
    };
}

// Trains an index for the live rows and takes them in.
static enum status make(struct index_live *live, struct index **index, struct index_live_step *out,
                        struct reason *why)
{
    const struct index_params params = params_of(live);
    uint32_t *sample = draw(live, why);
    if (!sample)
        return STATUS_NO_MEMORY;
    const uint32_t wanted = index_sample_count(&params, live->live_count);
    const uint32_t count = wanted < live->live_count ? wanted : live->live_count;
    out->rows = live->live_count;
    const int64_t began_us = clock_now_us();
    enum status status = index_train(&params, sample, count, live->live_count, index, why);
    const int64_t extend_us = clock_now_us();
    if (!status)
        status = index_extend(*index, atomic_load(&live->end), live->live, why);
    out->extend_seconds = seconds_since(extend_us);
    out->seconds = seconds_since(began_us);
    mem_free(sample);
    return status;
}

enum status index_live_build(struct index_live *live, struct index_live_step *out,
                             struct reason *why)
{
    assert(!live->index);

    *out = (struct index_live_step){.rows = 0};
    for (uint32_t slot = 0; slot < part(live, BUILT_PERCENT); slot++)
        set_bit(live, slot);
    atomic_store(&live->end, part(live, BUILT_PERCENT));
    enum status status = make(live, &live->index, out, why);
    if (!status)
        status = find_truth(live, why);
    return status ? status : look(live, live->index, out, why);
}

enum status index_live_insert(struct index_live *live, struct index_live_step *out,
                              struct reason *why)
{
    *out = (struct index_live_step){.rows = 0};
    return take_in_asked(live, part(live, INSERTED_PERCENT), NULL, out, why);
}

enum status index_live_delete(struct index_live *live, struct index_live_step *out,
                              struct reason *why)
{
    *out = (struct index_live_step){.rows = live->live_count / 2};
    uint32_t *dying = draw(live, why);
    if (!dying)
        return STATUS_NO_MEMORY;
    const int64_t began_us = clock_now_us();
    for (uint32_t i = 0; i < out->rows; i++)
        clear_bit(live, dying[i]);
    out->seconds = seconds_since(began_us);
    mem_free(dying);
    enum status status = come_to_rest(live, out, why);
    if (!status)
        status = find_truth(live, why);
    return status ? status : look(live, live->index, out, why);
}

enum status index_live_replace(struct index_live *live, struct index_live_step *out,
                               struct reason *why)
{
    *out = (struct index_live_step){.rows = 0};
    uint32_t *dying = draw(live, why);
    if (!dying)
        return STATUS_NO_MEMORY;
    assert(live->rows.count - atomic_load(&live->end) <= live->live_count);
    const enum status status = take_in_asked(live, live->rows.count, dying, out, why);
    mem_free(dying);
    return status;
}

enum status index_live_fresh(struct index_live *live, struct index_live_step *out,
                             struct reason *why)
{
    *out = (struct index_live_step){.rows = 0};
    struct index *index = NULL;
    enum status status = make(live, &index, out, why);
    if (!status)
        status = look(live, index, out, why);
    index_destroy(&index);
    return status;
}

// --- restart

static enum status make_name(const struct index_live *live, char path[PATH_BYTES_MAX + 1],
                             struct reason *why)
{
    const char *folder = live->params.folder;
    const int length = snprintf(path, PATH_BYTES_MAX + 1, "%s/reco-live-XXXXXX", folder);
    if (length < 0 || length > PATH_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, NULL, "the folder's name is longer than %d bytes",
                          PATH_BYTES_MAX);
    const int fd = mkstemp(path);
    if (fd < 0)
        return reason_set(why, STATUS_IO, folder, "no file can be made there");
    (void)close(fd);
    return STATUS_OK;
}

// Since the opening began; the index is open and has answered once.
static enum status open_and_ask(struct index_live *live, const struct index_origin *origin,
                                const char *path, struct index_live_restart *out,
                                struct reason *why)
{
    const struct index_params params = params_of(live);
    struct asker *asker = NULL;
    const int64_t began_us = clock_now_us();
    enum status status = index_open(&params, origin, path, &live->index, why);
    out->open_seconds = seconds_since(began_us);
    if (!status)
        status = create_asker(live, &asker, why);
    if (status)
        return status;
    asker_ask(asker);
    out->first_answer_seconds = seconds_since(began_us);
    while (!out->is_full && out->seconds < live->params.seconds) {
        const double asked = asker_ask_for(asker, ASK_SECONDS);
        out->asked[out->seconds++] = asked;
        out->is_full = asked >= FULL_SPEED * out->asked_before;
    }
    asker_destroy(&asker);
    return STATUS_OK;
}

enum status index_live_restart(struct index_live *live, struct index_live_restart *out,
                               struct reason *why)
{
    *out = (struct index_live_restart){.seconds = 0};
    const struct index_origin origin = {.store = live->params.seed,
                                        .generation = 1,
                                        .modality = MODALITY_IMAGE,
                                        .slot_count = live->rows.count,
                                        .live = live->live};
    char path[PATH_BYTES_MAX + 1];
    struct asker *asker = NULL;
    enum status status = create_asker(live, &asker, why);
    if (status)
        return status;
    out->asked_before = asker_ask_for(asker, ASK_SECONDS);
    asker_destroy(&asker);

    status = make_name(live, path, why);
    if (status)
        return status;
    const int64_t began_us = clock_now_us();
    status = index_save(live->index, &origin, path, why);
    out->save_seconds = seconds_since(began_us);
    struct stat about;
    if (!status && stat(path, &about) == 0)
        out->bytes = (uint64_t)about.st_size;
    index_destroy(&live->index);
    if (!status)
        status = open_and_ask(live, &origin, path, out, why);
    (void)unlink(path);
    return status;
}
