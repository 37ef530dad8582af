// SPDX-License-Identifier: Apache-2.0
// upload.h - sends records to a memory, a stream at a time, and adds up what came of them.
//
// A stream's reply lists at most 1,024 failures; so a stream ends after that many
// pictures (rows of arrays hardly fail: their streams are longer), and what it stored
// is acknowledged and safe.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_UPLOAD_H
#define RECO_TOOLS_UPLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/client.h"

#define UPLOAD_PICTURES_PER_STREAM 1024
#define UPLOAD_ROWS_PER_STREAM 65536

// Told once for every record that the memory refused: what upload_name() called it, else its key.
typedef void (*upload_failed)(void *context, struct text item, struct text reason);

struct upload_name {
    char *key;
    char *item;
};

struct upload {
    struct client *client;
    size_t records_per_stream;
    upload_failed failed_one;
    void *context;
    struct client_stream *stream; // NULL between streams
    size_t in_stream;             // records sent on it
    struct upload_name *names;    // of those
    size_t name_count;
    struct buffer reply;
    // sums of all streams that have ended
    uint64_t sent, stored, duplicates, skipped, failed;
};

// What to call a record of the next message, for people who do not know its key.
void upload_name(struct upload *upload, const char *key, const char *item);

// Sends one encoded IngestRequest of `count` records, which names its memory; ends the stream when
// it is long enough. Fails as the stream does; nothing is open then.
enum status upload_send(struct upload *upload, struct bytes message, size_t count,
                        struct reason *why) MUST_CHECK;

// Ends the stream, if one is open, and waits for what it says.
enum status upload_flush(struct upload *upload, struct reason *why) MUST_CHECK;

// Ends a stream that is open without asking for its answer, and frees.
void upload_deinit(struct upload *upload);

#endif
