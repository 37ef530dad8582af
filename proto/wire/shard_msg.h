// SPDX-License-Identifier: Apache-2.0
// shard_msg.h - the messages between coordinator and node as plain structs, and their bytes.
//
// One struct for each message of proto/shard.proto. Decoding checks every count
// and length against proto/base/limits.h before it is believed; what a decoded
// struct points to lives in the arena given (or, for rows, in the frame). Encoding
// writes into a buffer of the caller's. Arrays named with a count are parallel.
//
// Thread-safety: pure functions.

#ifndef RECO_PROTO_WIRE_SHARD_MSG_H
#define RECO_PROTO_WIRE_SHARD_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/bytes.h"
#include "proto/base/embedding.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/packed.h"

#define SHARD_VERSION 1000u // major * 1000 + minor
#define SHARD_TAG_SEPARATOR '\x1f'

// Parts of a document, for shard_fetch_request.document_parts.
#define SHARD_DOCUMENT_KEY 1u
#define SHARD_DOCUMENT_CAPTION 2u
#define SHARD_DOCUMENT_SOURCE 4u
#define SHARD_DOCUMENT_TAGS 8u
#define SHARD_DOCUMENT_ALL 15u

// An arena's budget for decoding a body and rows of these lengths: texts of a few bytes
// take 64 bytes and their views, and a message has at most 4 * FETCH_IDS_MAX of them.
#define SHARD_ARENA_BYTES(body_bytes, rows_bytes)                                                  \
    ((size_t)4 * (body_bytes) + (size_t)(rows_bytes) + ((size_t)16 << 20))

enum shard_type {
    SHARD_NOTHING = 0,
    SHARD_HELLO = 1,
    SHARD_PING = 2,
    SHARD_CANCEL = 3,
    SHARD_SEARCH = 4,
    SHARD_FETCH = 5,
    SHARD_WRITE = 6,
    SHARD_DELETE = 7,
    SHARD_HAS = 8,
    SHARD_CREATE = 9,
    SHARD_DROP = 10,
    SHARD_STATS = 11,
    SHARD_BULK = 12,
    SHARD_BULK_COMMIT = 13,
    SHARD_HIDE = 14,
    SHARD_UNHIDE = 15,
    SHARD_EXPORT_BEGIN = 16,
    SHARD_EXPORT_NEXT = 17,
    SHARD_EXPORT_END = 18,
};

// "SEARCH"; "?" for a number that is none.
const char *shard_type_name(enum shard_type type);

struct shard_envelope {
    uint32_t version;
    enum shard_type type;
    bool reply;
    uint64_t request_id;
    uint64_t deadline_us; // left; 0 = none
    enum status status;   // of a reply
    struct text field;    // of a failed reply
    struct text text;
    struct text trace;       // the request's id
    struct text traceparent; // of a request
    uint32_t body_crc;
    uint32_t rows_crc;
    uint32_t credits;
};

struct shard_ping_reply {
    uint32_t queue_depth;
    uint64_t records;
    uint64_t bytes;
    bool read_only;
};

struct shard_hello {
    struct text program; // "reco-coordinator 0.1.0"
};

struct shard_hello_reply {
    uint32_t node;
    uint32_t credits;
    struct text program;
};

enum shard_index { // how a node is asked to search
    SHARD_INDEX_AUTO = 0,
    SHARD_INDEX_EXACT = 1,
    SHARD_INDEX_IVF = 2,
};

struct shard_search_request {
    uint32_t generation;
    enum modality modality;
    uint32_t dimension;
    uint32_t row_count;
    uint32_t k;
    bool want_payload;
    const uint64_t *exclude_ids;
    size_t exclude_count;
    const struct text *all_tags;
    size_t all_count;
    const struct text *any_tags;
    size_t any_count;
    const struct text *no_tags;
    size_t no_count;
    const uint64_t *only_ids;
    size_t only_count;
    bool has_only_ids;
    enum shard_index index_mode;
    uint32_t probes;     // 0: by target_recall
    float target_recall; // 0: TARGET_RECALL_DEFAULT
    uint32_t nodes;      // among which the rows are divided; 0: 1
    const float *rows;   // frame 2: [row_count][dimension]; aligned copy in the arena
};

struct shard_search_reply {
    const uint32_t *counts; // [row_count]
    size_t row_count;
    const uint64_t *ids; // [hit_count]
    const float *scores;
    const float *pair_scores;
    size_t hit_count;
    uint64_t records;
    uint32_t queue_us;
    uint32_t search_us;
    uint32_t vshards;
    bool exact;
    uint64_t lists_probed;
    uint64_t codes_scanned;
    uint64_t rows_refined;
    uint64_t rows_read;
    const uint16_t *payload; // frame 2: fp16 [hit_count][dimension], NULL without
};

struct shard_fetch_request {
    uint32_t generation;
    const uint64_t *ids;
    size_t count;
    bool want_documents;
    bool want_image_rows;
    bool want_text_rows;
    uint32_t document_parts; // SHARD_DOCUMENT_*; 0: all
};

struct shard_document { // one record's texts
    struct text key;
    struct text caption;
    struct text source;
    struct text tags; // joined
};

enum shard_found { // of a record that was fetched
    SHARD_FOUND_NOT = 0,
    SHARD_FOUND_SHOWN = 1,
    SHARD_FOUND_HIDDEN = 2,
};

struct shard_fetch_reply {
    size_t count;
    const uint32_t *found;   // enum shard_found
    const struct text *keys; // NULL without documents
    const struct text *captions;
    const struct text *sources;
    const struct text *tags;
    const uint16_t
        *rows; // frame 2: for each id the image row (if asked), then the text row (if asked)
};

struct shard_write_request {
    uint32_t generation;
    uint32_t dimension;
    size_t count;
    const struct text *keys;
    const struct text *captions;
    const struct text *sources;
    const struct text *tags;
    const uint32_t *hidden; // 1 or 0 for each; NULL: all 0
    const uint16_t *rows;   // frame 2: fp16 [count][2][dimension]: image, text
};

struct shard_write_reply {
    size_t count; // 0 when every record is stored
    const uint32_t *status;
    const struct text *reasons;
    uint64_t stored;
    uint64_t duplicates;
    uint64_t sequence;
};

struct shard_ids_request { // DELETE, HAS, HIDE, UNHIDE
    uint32_t generation;
    const uint64_t *ids;
    size_t count;
};

#define SHARD_FLAG_ALREADY 2u // of HIDE and UNHIDE: it was so already

struct shard_flags_reply { // of the same: for each id 1 or 0, there is none
    const uint32_t *flags;
    size_t count;
};

struct shard_create_request {
    uint32_t generation;
    uint32_t dimension;
    uint32_t vshards;
    const uint32_t *own;
    size_t own_count;
};

struct shard_generation_request { // DROP, BULK_COMMIT, STATS
    uint32_t generation;
};

struct shard_stats_reply {
    uint64_t records; // of a DROP reply: records that went
    uint64_t bytes;
    uint64_t rows_bytes;
    uint64_t sequence;
    bool read_only;
    uint32_t dimension;
    uint64_t hidden;
    uint64_t index_bytes;
    uint64_t index_lists;
    uint64_t index_vectors;
    uint64_t index_list_max;
};

struct shard_export_request { // EXPORT_BEGIN, EXPORT_NEXT, EXPORT_END
    uint32_t generation;
    uint64_t cursor;
    bool want_records;
    bool want_digest;
};

struct shard_export_reply {
    uint64_t cursor;
    uint64_t count;
    bool end;
    struct packed_digest digest;
    struct bytes packed; // frame 2
};

// A record's tags out of their joined form: how many there are, and views of them.
size_t shard_tag_count(struct text joined);
void shard_split_tags(struct text joined, struct text *out);

// Frame 0. Texts live in the arena. STATUS_INVALID for malformed bytes or values out
// of range; STATUS_UNSUPPORTED for another major version or an unknown type (*out is then
// set, so that it can be answered). An unknown status is read as STATUS_INTERNAL.
enum status shard_encode_envelope(const struct shard_envelope *envelope,
                                  struct buffer *out) MUST_CHECK;
enum status shard_decode_envelope(struct bytes frame, struct arena *arena,
                                  struct shard_envelope *out, struct reason *why) MUST_CHECK;

// Frames 1 (body) and 2 (rows). `rows` is the caller's and is not part of the
// body; encode functions write the body only. Decoders take frame 2 where the
// message has rows and check its length against the body's counts. STATUS_INVALID
// names the field; STATUS_NO_MEMORY when the arena's budget is spent: SHARD_ARENA_BYTES
// is enough for every message that is allowed.
#define SHARD_CODEC(name)                                                                          \
    enum status shard_encode_##name(const struct shard_##name *message, struct buffer *out)        \
        MUST_CHECK;                                                                                \
    enum status shard_decode_##name(struct bytes body, struct bytes rows, struct arena *arena,     \
                                    struct shard_##name *out, struct reason *why) MUST_CHECK;

SHARD_CODEC(hello)
SHARD_CODEC(hello_reply)
SHARD_CODEC(ping_reply)
SHARD_CODEC(search_request)
SHARD_CODEC(search_reply) // rows: any multiple of the hit count; the caller checks the dimension
SHARD_CODEC(fetch_request)
SHARD_CODEC(fetch_reply)
SHARD_CODEC(write_request)
SHARD_CODEC(write_reply)
SHARD_CODEC(ids_request)
SHARD_CODEC(flags_reply)
SHARD_CODEC(create_request)
SHARD_CODEC(generation_request)
SHARD_CODEC(stats_reply)
SHARD_CODEC(export_request)
SHARD_CODEC(export_reply) // rows: packed records, which packed_take() checks

#endif
