// SPDX-License-Identifier: Apache-2.0
// A file of slots that a crash gives anew is of no use afterwards, so nothing is saved before
// rows_covered() has reached the end of the index. Then the indexer takes in exactly what is
// covered, and no more before it has saved it.

#include "shard_node/keeper.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"

static struct index_origin origin_of(const struct keeper *keeper,
                                     const struct shelf_generation *generation,
                                     enum modality modality)
{
    return (struct index_origin){
        .store = store_identity(keeper->store),
        .generation = generation->about.number,
        .modality = modality,
        .slot_count = rows_slot_count(generation->rows),
        .live = rows_live(generation->rows),
    };
}

static void path_of(const struct keeper *keeper, const struct shelf_generation *generation,
                    enum modality modality, char path[SHELF_PATH_BYTES])
{
    shelf_path(keeper->shelf, generation->about.number,
               modality == MODALITY_IMAGE ? "index-image" : "index-text", path);
}

static void note_bytes(struct shelf_index *side, const char *path)
{
    struct stat about;
    atomic_store(&side->file_bytes, stat(path, &about) == 0 ? (uint64_t)about.st_size : 0);
}

bool keeper_open(const struct keeper *keeper, struct shelf_generation *generation,
                 enum modality modality, const struct index_params *params, struct index **out)
{
    const int64_t began_us = clock_now_us();
    const struct index_origin origin = origin_of(keeper, generation, modality);
    char path[SHELF_PATH_BYTES];
    char quoted[LOG_QUOTE_BYTES];
    struct reason why = {0};
    path_of(keeper, generation, modality, path);
    const enum status status = index_open(params, &origin, path, out, &why);
    note_bytes(&generation->index[modality], path);
    if (status == STATUS_NOT_FOUND)
        return false;
    if (status != STATUS_OK) {
        log_warn("index_not_opened", "generation=%" PRIu32 " modality=%d status=%s reason=%s",
                 generation->about.number, (int)modality, status_text(status),
                 log_quote(why.text, quoted));
        return false;
    }
    generation->index[modality].kept = (struct shelf_index_kept){.end = index_end(*out)};
    log_info("index_opened",
             "generation=%" PRIu32 " modality=%d slots=%" PRIu32 " of=%" PRIu32 " seconds=%.3f",
             generation->about.number, (int)modality, index_end(*out), origin.slot_count,
             (double)(clock_now_us() - began_us) / 1e6);
    return true;
}

uint32_t keeper_due(const struct shelf_generation *generation, enum modality modality)
{
    const struct shelf_index *side = &generation->index[modality];
    const uint32_t covered = rows_covered(generation->rows);
    if (covered < atomic_load(&side->end) || !clock_passed(side->kept.not_before_us))
        return 0;
    const uint64_t more = covered - side->kept.end;
    return side->kept.end == 0 || more * KEEPER_PART >= side->kept.end ? covered : 0;
}

void keeper_save(const struct keeper *keeper, struct shelf_generation *generation,
                 enum modality modality, const struct index *index)
{
    const int64_t began_us = clock_now_us();
    struct shelf_index *side = &generation->index[modality];
    const struct index_origin origin = origin_of(keeper, generation, modality);
    char path[SHELF_PATH_BYTES];
    struct reason why = {0};
    path_of(keeper, generation, modality, path);
    enum status status = store_may_grow(keeper->store, atomic_load(&side->bytes), &why);
    if (status == STATUS_OK)
        status = index_save(index, &origin, path, &why);
    note_bytes(side, path);
    if (status != STATUS_OK) {
        char quoted[LOG_QUOTE_BYTES];
        log_warn("index_not_saved", "generation=%" PRIu32 " modality=%d status=%s reason=%s",
                 generation->about.number, (int)modality, status_text(status),
                 log_quote(why.text, quoted));
        side->kept.not_before_us = clock_deadline_in_us(KEEPER_RETRY_US);
        return;
    }
    side->kept = (struct shelf_index_kept){.end = index_end(index)};
    log_info("index_saved",
             "generation=%" PRIu32 " modality=%d slots=%" PRIu32 " bytes=%" PRIu64 " seconds=%.3f",
             generation->about.number, (int)modality, index_end(index),
             (uint64_t)atomic_load(&side->file_bytes), (double)(clock_now_us() - began_us) / 1e6);
}

static void save_at_the_end(const struct keeper *keeper, struct shelf_generation *generation,
                            enum modality modality)
{
    struct shelf_index *side = &generation->index[modality];
    struct shelf_lease *lease = shelf_index_lease(side);
    if (lease && index_end(lease->index) <= rows_covered(generation->rows) &&
        (index_end(lease->index) != side->kept.end || side->kept.has_changed))
        keeper_save(keeper, generation, modality, lease->index);
    shelf_index_end(side, &lease);
}

void keeper_save_all(const struct keeper *keeper)
{
    uint32_t number = 0;
    struct shelf_generation *generation;
    while ((generation = shelf_acquire_after(keeper->shelf, number)) != NULL) {
        number = generation->about.number;
        save_at_the_end(keeper, generation, MODALITY_IMAGE);
        save_at_the_end(keeper, generation, MODALITY_TEXT);
        shelf_release(keeper->shelf, &generation);
    }
}
