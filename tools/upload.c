// SPDX-License-Identifier: Apache-2.0
// Streams of bounded length over a client.

#include "tools/upload.h"

#include "proto/base/arena.h"
#include "proto/wire/api.h"

#define REPLY_ARENA_BYTES ((size_t)16 << 20)

static enum status take_reply(struct upload *upload, struct reason *why)
{
    struct arena *arena = arena_create(REPLY_ARENA_BYTES);
    struct api_ingest_reply reply = {.generation = 0};
    struct bytes bytes = {upload->reply.data, upload->reply.count};

    enum status status = api_decode_ingest_reply(bytes, arena, &reply, why);
    if (!status) {
        upload->sent += upload->in_stream;
        upload->stored += reply.stored;
        upload->duplicates += reply.duplicates;
        upload->skipped += reply.skipped;
        upload->failed += reply.failed;
        for (size_t i = 0; i < reply.failed_listed; i++)
            upload->failed_one(upload->context, reply.failed_keys[i], reply.failed_reasons[i]);
        if (reply.failed > reply.failed_listed)
            upload->failed_one(upload->context, text_of("others"),
                               text_of("more records failed than an answer lists"));
    }
    arena_destroy(&arena);
    return status;
}

enum status upload_flush(struct upload *upload, struct reason *why)
{
    if (!upload->stream)
        return STATUS_OK;
    enum status status = client_stream_finish(&upload->stream, &upload->reply, why);
    if (!status)
        status = take_reply(upload, why);
    upload->in_stream = 0;
    return status;
}

enum status upload_send(struct upload *upload, struct bytes message, size_t count,
                        struct reason *why)
{
    enum status status = STATUS_OK;
    if (!upload->stream)
        status = client_stream_open(upload->client, API_MEMORY_INGEST, &upload->stream, why);
    if (status)
        return status;

    status = client_stream_send(upload->stream, message);
    if (status) {
        // The reason is with the end of the stream; an end without one is odd all the same.
        enum status ended = upload_flush(upload, why);
        return ended ? ended : reason_set(why, status, NULL, "%s", status_text(status));
    }
    upload->in_stream += count;
    return upload->in_stream >= upload->records_per_stream ? upload_flush(upload, why) : STATUS_OK;
}

void upload_deinit(struct upload *upload)
{
    struct reason ignored;
    if (upload->stream)
        (void)!client_stream_finish(&upload->stream, &upload->reply, &ignored);
    buffer_deinit(&upload->reply);
}
