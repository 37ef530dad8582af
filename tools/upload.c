// SPDX-License-Identifier: Apache-2.0
// Streams of bounded length over a client.

#include "tools/upload.h"

#include "proto/base/arena.h"
#include "proto/base/mem.h"
#include "proto/wire/api.h"

#define REPLY_ARENA_BYTES ((size_t)16 << 20)

void upload_name(struct upload *upload, const char *key, const char *item)
{
    const size_t count = upload->name_count;
    if ((count & (count - 1)) == 0)
        upload->names = mem_grow(upload->names, count ? 2 * count : 1, sizeof(upload->names[0]));
    upload->names[count] = (struct upload_name){mem_copy_text(key), mem_copy_text(item)};
    upload->name_count++;
}

static void forget_names(struct upload *upload)
{
    for (size_t i = 0; i < upload->name_count; i++) {
        mem_free(upload->names[i].key);
        mem_free(upload->names[i].item);
    }
    mem_free(upload->names);
    upload->names = NULL;
    upload->name_count = 0;
}

// The last of that key: the one that would have stayed.
static struct text item_of(const struct upload *upload, struct text key)
{
    for (size_t i = upload->name_count; i > 0; i--)
        if (text_equal(text_of(upload->names[i - 1].key), key))
            return text_of(upload->names[i - 1].item);
    return key;
}

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
            upload->failed_one(upload->context, item_of(upload, reply.failed_keys[i]),
                               reply.failed_reasons[i]);
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
    forget_names(upload);
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
    forget_names(upload);
    buffer_deinit(&upload->reply);
}
