// SPDX-License-Identifier: Apache-2.0
// service_export.c - Export: every record of a generation, a message at a time.
//
//   walk step -> packed records, copied --> message -> sent -> message -> sent ...
//       ^                                                                   |
//       +------------- when all of the step's records have gone <-----------+
//
// One step and one message are held, whatever the memory's size, and the next is asked for once the
// client has room: one that does not read stops the walk, and the nodes end what nobody asks
// for. The call ends with OK only behind the last record of the last node.

#include <assert.h>
#include <string.h>

#include "coordinator/filter.h"
#include "coordinator/service.h"
#include "coordinator/walk.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/half.h"
#include "proto/base/hash.h"
#include "proto/base/ids.h"
#include "proto/base/mem.h"

#define REQUEST_ARENA_BYTES ((size_t)16 << 20)
#define REPLY_ARENA_BYTES ((size_t)32 << 20)
#define REPLY_BYTES ((size_t)1 << 20) // of a message, about; gRPC's clients take 4 MiB
#define TAGS_ALL_MAX (TAGS_MAX + 1)

struct export
{
    struct service_call *call;
    struct arena *arena; // of the request
    struct api_export_request request;
    uint32_t fields;
    struct filter *filter; // NULL: all pass
    struct meta_generation memory;
    struct walk walk;
    struct buffer step; // records of one step of the walk,
    size_t at;          // of which so many bytes have been looked at
    bool has_sent;
};

static void free_export(struct export *export)
{
    walk_end(&export->walk);
    filter_release(&export->filter);
    buffer_deinit(&export->step);
    arena_destroy(&export->arena);
    mem_free(export);
}

static void end(struct export *export, enum status status, const struct reason *why)
{
    struct service_call *call = export->call;
    const struct reason told = *why;
    free_export(export);
    service_finish(call, status, NULL, &told);
}

static bool wants(const struct export *export, enum api_record_field field)
{
    return (export->fields & 1u << field) != 0;
}

// ---------------------------------------------------------------- which records

struct tags {
    struct text list[TAGS_ALL_MAX];
    size_t count;
};

static void split(struct text joined, struct tags *out)
{
    out->count = 0;
    while (out->count < TAGS_ALL_MAX && packed_take_tag(&joined, &out->list[out->count]))
        out->count++;
}

// How many of `wanted` there are.
static size_t count_tags(const struct tags *tags, const struct text *wanted, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < tags->count; j++)
            if (text_equal(wanted[i], tags->list[j])) {
                found++;
                break;
            }
    return found;
}

static bool passes(const struct filter *filter, uint64_t id, const struct tags *tags)
{
    if (!filter)
        return true;
    if (filter->has_ids && ids_find(filter->ids, filter->id_count, id) == IDS_NONE)
        return false;
    return count_tags(tags, filter->all, filter->all_count) == filter->all_count &&
           (filter->any_count == 0 || count_tags(tags, filter->any, filter->any_count) > 0) &&
           count_tags(tags, filter->no, filter->no_count) == 0;
}

// ---------------------------------------------------------------- a message

// A packed row as floats; NULL without memory.
static const float *take_row(const uint8_t *halves, size_t dimension, struct arena *arena)
{
    uint16_t aligned[DIMENSION_MAX]; // packed rows lie at any address
    float *floats = arena_alloc_array(arena, dimension, sizeof(*floats));
    if (!floats)
        return NULL;
    memcpy(aligned, halves, dimension * sizeof(aligned[0]));
    half_to_floats(aligned, floats, dimension);
    return floats;
}

// What was asked for of one record. The texts lie in the step.
static bool read_record(const struct export *export, const struct packed_record *packed,
                        const struct tags *tags, struct arena *arena, struct api_record *record)
{
    const size_t dimension = packed->dimension;
    record->hidden = packed->hidden;
    if (wants(export, API_FIELD_KEY))
        record->key = packed->key;
    if (wants(export, API_FIELD_CAPTION))
        record->caption = packed->caption;
    if (wants(export, API_FIELD_SOURCE))
        record->source = packed->source;
    if (wants(export, API_FIELD_TAGS) && tags->count > 0) {
        struct text *list = arena_alloc_array(arena, tags->count, sizeof(*list));
        if (!list)
            return false;
        memcpy(list, tags->list, tags->count * sizeof(*list));
        record->tags = list;
        record->tag_count = tags->count;
    }
    if (wants(export, API_FIELD_IMAGE_EMBEDDING)) {
        record->image_embedding = take_row(packed->image, dimension, arena);
        record->image_count = record->image_embedding ? dimension : 0;
    }
    if (wants(export, API_FIELD_TEXT_EMBEDDING)) {
        record->text_embedding = take_row(packed->text, dimension, arena);
        record->text_count = record->text_embedding ? dimension : 0;
    }
    return (!wants(export, API_FIELD_IMAGE_EMBEDDING) || record->image_embedding) &&
           (!wants(export, API_FIELD_TEXT_EMBEDDING) || record->text_embedding);
}

// Records of the step that pass, as many as a message has.
static enum status collect(struct export *export, struct arena *arena, struct api_record *records,
                           size_t *count, struct reason *why)
{
    size_t bytes = 0;
    *count = 0;
    while (export->at < export->step.count && *count < GET_RECORDS_MAX && bytes < REPLY_BYTES) {
        struct bytes rest = {export->step.data + export->at, export->step.count - export->at};
        const size_t left = rest.count;
        struct packed_record packed;
        struct reason inner = {0};
        enum status status = packed_take(&rest, export->memory.dimension, &packed, &inner);
        if (status != STATUS_OK)
            return reason_set(why, STATUS_CORRUPT, NULL, "a record that a node sent: %s: %s",
                              inner.field, inner.text);
        const size_t taken = left - rest.count;
        struct tags tags;
        split(packed.tags, &tags);
        const uint64_t id = hash_id(packed.key.data, packed.key.bytes);
        export->at += taken;
        if (!passes(export->filter, id, &tags))
            continue;
        records[*count] = (struct api_record){.id = id};
        if (!read_record(export, &packed, &tags, arena, &records[*count]))
            return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for records");
        (*count)++;
        bytes += 2 * taken; // halves become floats
    }
    return STATUS_OK;
}

// The next message into `out`, which stays empty when none of the step's records is left to be
// sent.
static enum status write_message(struct export *export, struct buffer *out, struct reason *why)
{
    struct arena *arena = arena_create(REPLY_ARENA_BYTES);
    struct api_record *records = arena_alloc_array(arena, GET_RECORDS_MAX, sizeof(*records));
    size_t count = 0;
    enum status status = records ? collect(export, arena, records, &count, why)
                                 : reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for records");
    const bool is_last = export->walk.is_done && export->at == export->step.count;
    if (status == STATUS_OK && (count > 0 || (is_last && !export->has_sent))) {
        const struct api_export_reply reply = {
            .memory = text_of(export->memory.memory),
            .generation = export->memory.number,
            .space = text_of(export->memory.space),
            .dimension = export->memory.dimension,
            .records = records,
            .count = count,
            .total = export->walk.total,
        };
        status = api_encode_export_reply(&reply, out);
        if (status != STATUS_OK)
            (void)reason_set(why, status, NULL, "no memory for a message");
    }
    arena_destroy(&arena);
    return status;
}

// ---------------------------------------------------------------- the call

// What comes next; the last thing that its caller does.
static void advance(struct export *export)
{
    struct buffer message = {0};
    struct reason why = {0};
    enum status status = STATUS_OK;
    if (clock_passed(export->call->deadline_us))
        status = reason_set(&why, STATUS_DEADLINE, NULL, "%llu records were read in time",
                            (unsigned long long)export->walk.count);
    while (status == STATUS_OK && message.count == 0 &&
           (export->at < export->step.count || (export->walk.is_done && !export->has_sent)))
        status = write_message(export, &message, &why);
    if (status == STATUS_OK && message.count > 0) {
        export->has_sent = true;
        service_send(export->call, &message);
        return;
    }
    buffer_deinit(&message);
    if (status != STATUS_OK || export->walk.is_done)
        end(export, status, &why);
    else
        walk_next(&export->walk);
}

static void on_step(void *context)
{
    struct export *export = context;
    struct walk *walk = &export->walk;
    struct reason why = walk->why;
    enum status status = walk->status;
    // A cursor that is gone: its node was started again, or the client took nothing for too long.
    if (status == STATUS_NOT_FOUND)
        status = STATUS_UNAVAILABLE;
    export->step.count = 0;
    export->at = 0;
    if (status == STATUS_OK &&
        buffer_append(&export->step, walk->packed.data, walk->packed.count) != STATUS_OK)
        status = reason_set(&why, STATUS_NO_MEMORY, NULL, "no memory for records");
    if (status != STATUS_OK)
        end(export, status, &why);
    else
        advance(export);
}

static enum status read_request(struct export *export, struct reason *why)
{
    static const char prefix[] = "options.";
    struct service_call *call = export->call;
    enum status status =
        api_decode_export_request(call->message, export->arena, &export->request, why);
    if (status != STATUS_OK)
        return status;
    export->fields = export->request.fields ? export->request.fields : API_FIELDS_ALL;
    status = filter_create(&export->request.filter, &export->filter, why);
    // Here the filter is a member of the request itself.
    if (status != STATUS_OK && strncmp(why->field, prefix, sizeof(prefix) - 1) == 0)
        memmove(why->field, why->field + sizeof(prefix) - 1,
                strlen(why->field) + 1 - (sizeof(prefix) - 1));
    if (status != STATUS_OK)
        return status;
    return meta_find(call->backend->meta, export->request.memory, META_FOR_QUERY, &export->memory,
                     why);
}

static void begin(struct service_call *call)
{
    struct export *export = mem_alloc(sizeof(*export));
    struct reason why = {0};
    export->call = call;
    export->arena = arena_create(REQUEST_ARENA_BYTES);
    call->state = export;
    const enum status status = read_request(export, &why);
    if (status != STATUS_OK) {
        end(export, status, &why);
        return;
    }
    export->walk = (struct walk){
        .backend = call->backend,
        .generation = export->memory,
        .want_records = true,
        .trace = call->trace,
        .step = on_step,
        .context = export,
    };
    walk_begin(&export->walk);
}

static void on_sent(struct service_call *call)
{
    advance(call->state);
}

static void cancel(struct service_call *call)
{
    struct reason why = {0};
    const enum status status = reason_set(&why, STATUS_CANCELLED, NULL, "cancelled");
    end(call->state, status, &why);
}

const struct service_handler service_export = {.begin = begin, .sent = on_sent, .cancel = cancel};
