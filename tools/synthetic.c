// SPDX-License-Identifier: Apache-2.0
// Built like any memory: created as building, filled by key, finished. An interrupted
// build is gone on with.

#include "tools/synthetic.h"

#include <inttypes.h>
#include <stdio.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/measure.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/upload.h"

#define ROWS_PER_MESSAGE 1024
#define KEY_BYTES 24
#define TEXT_SEED (UINT64_C(1) << 63) // keeps the two modalities' generators apart

_Static_assert(ROWS_PER_MESSAGE <= WRITE_RECORDS_MAX, "one message");

struct rows {
    struct api_ingest_record records[ROWS_PER_MESSAGE];
    char keys[ROWS_PER_MESSAGE][KEY_BYTES];
    float *values; // [ROWS_PER_MESSAGE][2][dimension]
    struct buffer message;
};

void synthetic_name(uint64_t records, uint32_t dimension, char out[SYNTHETIC_NAME_BYTES])
{
    (void)snprintf(out, SYNTHETIC_NAME_BYTES, "synthetic-%" PRIu64 "x%u", records, dimension);
}

static void refused(void *context, struct text item, struct text reason)
{
    (void)context;
    output_note("record %.*s: %.*s", (int)item.bytes, item.data, (int)reason.bytes, reason.data);
}

static enum status fill_message(struct rows *rows, const char *memory, uint64_t first, size_t count,
                                uint32_t dimension)
{
    for (size_t i = 0; i < count; i++) {
        float *image = rows->values + 2 * i * dimension;
        float *text = image + dimension;
        measure_random_row(first + i, image, dimension);
        measure_random_row((first + i) | TEXT_SEED, text, dimension);
        (void)snprintf(rows->keys[i], KEY_BYTES, "%" PRIu64, first + i);
        rows->records[i] = (struct api_ingest_record){
            .key = text_of(rows->keys[i]),
            .image_embedding = image,
            .image_count = dimension,
            .text_embedding = text,
            .text_count = dimension,
        };
    }
    const struct api_ingest_request request = {
        .memory = text_of(memory),
        .records = rows->records,
        .count = count,
        .skip_existing = true,
    };
    rows->message.count = 0;
    return api_encode_ingest_request(&request, &rows->message);
}

static enum status finish(struct upload *upload, const char *memory, struct reason *why)
{
    const struct api_ingest_request request = {.memory = text_of(memory), .finish = true};
    struct buffer message = {0};
    enum status status = api_encode_ingest_request(&request, &message);
    if (!status)
        status = upload_send(upload, (struct bytes){message.data, message.count}, 0, why);
    if (!status)
        status = upload_flush(upload, why);
    buffer_deinit(&message);
    return status;
}

static enum status fill(struct client *client, const char *memory, uint64_t records,
                        uint32_t dimension, struct reason *why)
{
    struct upload upload = {
        .client = client,
        .records_per_stream = UPLOAD_ROWS_PER_STREAM,
        .failed_one = refused,
    };
    struct rows *rows = mem_alloc(sizeof(*rows));
    struct output_progress progress;
    enum status status = STATUS_OK;

    rows->values = mem_alloc_array((size_t)2 * ROWS_PER_MESSAGE * dimension, sizeof(float));
    output_progress_begin(&progress, "records", records);
    for (uint64_t done = 0; done < records && !status;) {
        size_t count =
            records - done < ROWS_PER_MESSAGE ? (size_t)(records - done) : (size_t)ROWS_PER_MESSAGE;
        status = fill_message(rows, memory, done, count, dimension);
        if (!status)
            status = upload_send(&upload, (struct bytes){rows->message.data, rows->message.count},
                                 count, why);
        done += count;
        output_progress_update(&progress, done, upload.failed);
    }
    if (!status)
        status = upload_flush(&upload, why);
    output_progress_end(&progress);
    if (!status && upload.failed)
        status = reason_set(why, STATUS_INTERNAL, memory, "%" PRIu64 " records were refused",
                            upload.failed);
    if (!status)
        status = finish(&upload, memory, why);

    upload_deinit(&upload);
    buffer_deinit(&rows->message);
    mem_free(rows->values);
    mem_free(rows);
    return status;
}

enum status synthetic_ensure(struct client *client, uint64_t records, uint32_t dimension,
                             struct reason *why)
{
    char name[SYNTHETIC_NAME_BYTES];
    char space[SYNTHETIC_NAME_BYTES];
    struct arena *arena = arena_create(MEMORIES_ARENA_BYTES);
    struct api_memory_info info = {.generation = 0};
    struct reason inner = {.text = ""};

    synthetic_name(records, dimension, name);
    (void)snprintf(space, sizeof(space), "synthetic:%u", dimension);
    enum status status = memories_describe(client, name, arena, &info, &inner);
    if (status == STATUS_NOT_FOUND) {
        const struct api_create_request request = {
            .name = text_of(name),
            .space = text_of(space),
            .building = true,
        };
        status = memories_create(client, &request, arena, &info, &inner);
    }
    if (status)
        *why = inner;

    bool whole = !status && text_equal(info.state, text_of("serving")) && info.records == records;
    if (!status && !whole) {
        output_note("building %s", name);
        status = fill(client, name, records, dimension, why);
    }
    arena_destroy(&arena);
    return status;
}
