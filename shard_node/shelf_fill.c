// SPDX-License-Identifier: Apache-2.0
// Brings rows up to the store when a generation is opened.
//
// Rows say up to which log sequence they are complete. The log behind it names the ids that may
// differ; each is looked up in the store, which alone says what is true, so the order of the log
// and how far the rows got beyond their checkpoint do not matter. A bulk load stands in the log as
// one record that names no ids; then, and when rows are missing or damaged, they are written anew
// from column family `vec`.

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "shard_node/shelf.h"

#define BATCH 256 // rows appended at once

struct touched {
    uint64_t *ids;
    size_t count;
    size_t room;
    bool too_many; // or a bulk load
};

static void touch(struct touched *touched, uint64_t id)
{
    if (touched->count == touched->room) {
        touched->room = touched->room ? touched->room * 2 : 1024;
        touched->ids = mem_grow(touched->ids, touched->room, sizeof(id));
    }
    touched->ids[touched->count++] = id;
}

static bool see_log(void *context, const struct store_log_record *record)
{
    struct touched *touched = context;
    if (record->operation == STORE_BULK || touched->count >= SHELF_TOUCHED_MAX) {
        touched->too_many = true;
        return false;
    }
    touch(touched, record->id);
    return true;
}

// --- all of them

struct refill {
    struct rows *rows;
    size_t dimension;
    uint16_t *copies; // [BATCH][2][dimension]: a cursor's row is valid until the next
    struct rows_item items[BATCH];
    size_t count;
    uint64_t damaged;
};

static enum status flush(struct refill *refill, struct reason *why)
{
    const enum status status = rows_append(refill->rows, refill->items, refill->count, why);
    refill->count = 0;
    return status;
}

static enum status add_row(struct refill *refill, const struct store_cursor_row *row,
                           struct reason *why)
{
    uint16_t *copy = refill->copies + refill->count * 2 * refill->dimension;
    memcpy(copy, row->rows, 2 * refill->dimension * sizeof(*copy));
    refill->items[refill->count++] = (struct rows_item){
        .id = row->place.id, .image = copy, .text = copy + refill->dimension, .crc = row->crc};
    return refill->count == BATCH ? flush(refill, why) : STATUS_OK;
}

// Damaged records are named in the log by the store and left out.
static enum status walk(struct refill *refill, struct store_cursor *cursor, struct reason *why)
{
    for (;;) {
        struct store_cursor_row row;
        enum status status = store_cursor_next(cursor, &row, why);
        if (status == STATUS_NOT_FOUND)
            return flush(refill, why);
        if (status == STATUS_CORRUPT) {
            refill->damaged++;
            continue;
        }
        if (status == STATUS_OK)
            status = add_row(refill, &row, why);
        if (status != STATUS_OK)
            return status;
    }
}

static enum status fill_anew(struct store *store, const struct rows_params *params,
                             const char *reason, struct rows **out, struct reason *why)
{
    const int64_t began_us = clock_now_us();
    struct refill *refill = mem_alloc(sizeof(*refill));
    refill->dimension = params->dimension;
    refill->copies = mem_alloc_array((size_t)BATCH * 2 * params->dimension, sizeof(uint16_t));
    enum status status = rows_create(params, &refill->rows, why);
    if (status == STATUS_OK) {
        struct store_cursor *cursor =
            store_cursor_begin(store, params->generation, params->dimension);
        status = walk(refill, cursor, why);
        store_cursor_end(&cursor);
    }
    if (status == STATUS_OK)
        status = rows_checkpoint(refill->rows, store_sequence(store), why);
    if (status == STATUS_OK) {
        char quoted[LOG_QUOTE_BYTES];
        log_info("rows_written_anew",
                 "generation=%" PRIu32 " records=%" PRIu64 " damaged=%" PRIu64
                 " seconds=%.3f reason=%s",
                 params->generation, rows_live_count(refill->rows), refill->damaged,
                 (double)(clock_now_us() - began_us) / 1e6, log_quote(reason, quoted));
        *out = refill->rows;
    } else {
        rows_close(&refill->rows);
    }
    mem_free(refill->copies);
    mem_free(refill);
    return status;
}

// --- those that changed

static enum status update_one(struct store *store, const struct store_generation *about,
                              struct rows *rows, uint64_t id, uint16_t *buffer)
{
    struct reason why = {0};
    const struct store_place place = {about->number, (uint16_t)(id % about->vshards), id};
    enum status status = store_read_rows(store, place, about->dimension, buffer, &why);
    if (status == STATUS_NOT_FOUND) {
        rows_remove(rows, id);
        return STATUS_OK;
    }
    if (status == STATUS_CORRUPT)
        return STATUS_OK; // logged; a sound row that is there stays
    if (status != STATUS_OK)
        return status;

    const struct rows_item item = {
        .id = id,
        .image = buffer,
        .text = buffer + about->dimension,
        .crc = store_rows_crc(buffer, buffer + about->dimension, about->dimension)};
    const uint32_t slot = rows_find(rows, id);
    if (slot != ROWS_NONE && rows_slot(rows, slot)->crc == item.crc)
        return STATUS_OK;
    return rows_append(rows, &item, 1, &why);
}

static enum status update_mark(struct store *store, const struct store_generation *about,
                               struct rows *rows, uint64_t id)
{
    struct reason why = {0};
    bool hidden = false;
    const struct store_place place = {about->number, (uint16_t)(id % about->vshards), id};
    const enum status status = store_read_hidden(store, place, &hidden, &why);
    if (status == STATUS_OK)
        (void)rows_hide(rows, id, hidden);
    return status;
}

static enum status update(struct store *store, const struct store_generation *about,
                          struct rows *rows, const struct touched *touched, struct reason *why)
{
    uint16_t *buffer = mem_alloc_array((size_t)about->dimension * 2, sizeof(*buffer));
    enum status status = STATUS_OK;
    for (size_t i = 0; i < touched->count && status == STATUS_OK; i++)
        status = update_one(store, about, rows, touched->ids[i], buffer);
    for (size_t i = 0; i < touched->count && status == STATUS_OK; i++)
        status = update_mark(store, about, rows, touched->ids[i]);
    mem_free(buffer);
    if (status != STATUS_OK)
        return reason_set(why, status, "rows", "cannot bring generation %" PRIu32 " up to date: %s",
                          about->number, status_text(status));
    if (touched->count == 0)
        return STATUS_OK;
    log_info("rows_brought_up", "generation=%" PRIu32 " looked_up=%zu", about->number,
             touched->count);
    return rows_checkpoint(rows, store_sequence(store), why);
}

// --- rows in use

// The walk knows of records that are there, not of deletions. Those stand in the log by their ids,
// and the writer stops at the first failure: behind a bulk load there are none.
static enum status append_missing(struct store *store, const struct store_generation *about,
                                  struct rows *rows, struct reason *why)
{
    struct store_cursor *cursor = store_cursor_begin(store, about->number, about->dimension);
    enum status status = STATUS_OK;
    while (status == STATUS_OK || status == STATUS_CORRUPT) {
        struct store_cursor_row row;
        status = store_cursor_next(cursor, &row, why);
        if (status != STATUS_OK)
            continue;
        const uint32_t slot = rows_find(rows, row.place.id);
        if (slot != ROWS_NONE && rows_slot(rows, slot)->crc == row.crc)
            continue;
        status = rows_append(rows,
                             &(struct rows_item){.id = row.place.id,
                                                 .image = row.rows,
                                                 .text = row.rows + about->dimension,
                                                 .crc = row.crc},
                             1, why);
    }
    store_cursor_end(&cursor);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status shelf_catch_up(struct store *store, const struct store_generation *about,
                           struct rows *rows, uint64_t after, struct reason *why)
{
    struct touched touched = {0};
    enum status status = store_read_log(store, about, after, see_log, &touched, why);
    if (status == STATUS_OK)
        status = touched.too_many ? append_missing(store, about, rows, why)
                                  : update(store, about, rows, &touched, why);
    mem_free(touched.ids);
    return status;
}

// --- opening

// Why the rows cannot be used as they are; NULL when they can.
static const char *judge(struct store *store, const struct store_generation *about,
                         struct rows *rows, const struct rows_opened *opened,
                         struct touched *touched)
{
    for (size_t i = 0; i < opened->damaged_count; i++)
        touch(touched, opened->damaged[i]);
    if (opened->sequence > store_sequence(store)) {
        log_error("store_is_behind_rows",
                  "generation=%" PRIu32 " store_sequence=%" PRIu64 " rows_sequence=%" PRIu64,
                  about->number, store_sequence(store), opened->sequence);
        return "the store is older than the rows";
    }
    const uint64_t slots = rows_slot_count(rows);
    const uint64_t dead = slots - rows_live_count(rows);
    if (dead > SHELF_COMPACT_SLOTS && dead > slots / SHELF_COMPACT_SHARE)
        return "many slots are dead";

    struct reason why = {0};
    if (store_read_log(store, about, opened->sequence, see_log, touched, &why) != STATUS_OK) {
        char quoted[LOG_QUOTE_BYTES];
        log_error("log_unreadable", "generation=%" PRIu32 " error=%s", about->number,
                  log_quote(why.text, quoted));
        return "the log behind them cannot be read";
    }
    return touched->too_many ? "they are far behind" : NULL;
}

static void hide(void *context, uint64_t id)
{
    struct rows *rows = context;
    (void)rows_hide(rows, id, true);
}

static enum status fill(struct store *store, const struct store_generation *about,
                        const char *directory, struct rows **out, struct reason *why)
{
    const struct rows_params params = {.directory = directory,
                                       .generation = about->number,
                                       .dimension = about->dimension,
                                       .store_identity = store_identity(store)};
    struct rows *rows = NULL;
    struct rows_opened opened = {0};
    struct reason found = {0};
    enum status status = rows_open(&params, &rows, &opened, &found);
    if (status == STATUS_NOT_FOUND || status == STATUS_CORRUPT)
        return fill_anew(store, &params, found.text, out, why);
    if (status != STATUS_OK)
        return reason_set(why, status, found.field, "%s", found.text);

    struct touched touched = {0};
    const char *useless = judge(store, about, rows, &opened, &touched);
    if (!useless)
        status = update(store, about, rows, &touched, why);
    mem_free(touched.ids);
    mem_free(opened.damaged);
    if (useless) {
        rows_close(&rows);
        return fill_anew(store, &params, useless, out, why);
    }
    if (status != STATUS_OK)
        rows_close(&rows);
    else
        *out = rows;
    return status;
}

enum status shelf_fill(struct store *store, const struct store_generation *about,
                       const char *directory, struct rows **out, struct reason *why)
{
    struct rows *rows = NULL;
    enum status status = fill(store, about, directory, &rows, why);
    if (status != STATUS_OK)
        return status;
    // Rather no node than one that shows what was taken down.
    status = store_list_hidden(store, about->number, hide, rows, why);
    if (status == STATUS_OK)
        *out = rows;
    else
        rows_close(&rows);
    return status;
}
