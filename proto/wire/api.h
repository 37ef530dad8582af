// SPDX-License-Identifier: Apache-2.0
// api.h - the public messages of proto/reco.proto as plain structs, and their bytes.
//
// The server decodes requests and encodes replies; the client does the reverse.
// Decoding checks every maximum of proto/base/limits.h and every range in one
// place; a failure names the field as the client wrote it ("options.k"), the
// value, and what is allowed. What a decoded struct points to lives in the arena
// or in the message's bytes, which must outlive the struct. A zero struct is a
// request with every default.
//
// Thread-safety: pure functions.

#ifndef RECO_PROTO_WIRE_API_H
#define RECO_PROTO_WIRE_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/bytes.h"
#include "proto/base/embedding.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

// X(constant, service, method, client streams?, server streams?)
#define API_METHODS(X)                                                                             \
    X(ENCODE_IMAGE, "reco.v1.Encoder", "EncodeImage", false, false)                                \
    X(ENCODE_TEXT, "reco.v1.Encoder", "EncodeText", false, false)                                  \
    X(TOKENIZE, "reco.v1.Encoder", "Tokenize", false, false)                                       \
    X(ENCODE_STREAM, "reco.v1.Encoder", "EncodeStream", true, true)                                \
    X(LIST_MODELS, "reco.v1.Encoder", "ListModels", false, false)                                  \
    X(SEARCH, "reco.v1.Search", "Search", false, false)                                            \
    X(SEARCH_STREAM, "reco.v1.Search", "SearchStream", true, true)                                 \
    X(REFINE_IMAGE, "reco.v1.Refiner", "RefineImage", false, false)                                \
    X(REFINE_TEXT, "reco.v1.Refiner", "RefineText", false, false)                                  \
    X(REFINE_EMBEDDING, "reco.v1.Refiner", "RefineEmbedding", false, false)                        \
    X(REFINE_STREAM, "reco.v1.Refiner", "RefineStream", true, true)                                \
    X(GET_RECORDS, "reco.v1.Search", "GetRecords", false, false)                                   \
    X(GET_VECTORS, "reco.v1.Search", "GetVectors", false, false)                                   \
    X(COMPILE_LABELS, "reco.v1.Classifier", "CompileLabels", false, false)                         \
    X(CLASSIFY, "reco.v1.Classifier", "Classify", false, false)                                    \
    X(EXPLAIN, "reco.v1.Classifier", "Explain", false, false)                                      \
    X(CLASSIFY_STREAM, "reco.v1.Classifier", "ClassifyStream", true, true)                         \
    X(DISCOVER_LABELS, "reco.v1.Classifier", "DiscoverLabels", false, false)                       \
    X(MEMORY_CREATE, "reco.v1.Memory", "Create", false, false)                                     \
    X(MEMORY_DESCRIBE, "reco.v1.Memory", "Describe", false, false)                                 \
    X(MEMORY_LIST, "reco.v1.Memory", "List", false, false)                                         \
    X(MEMORY_INGEST, "reco.v1.Memory", "Ingest", true, false)                                      \
    X(MEMORY_DELETE, "reco.v1.Memory", "Delete", false, false)                                     \
    X(MEMORY_DROP, "reco.v1.Memory", "Drop", false, false)                                         \
    X(MEMORY_HIDE, "reco.v1.Memory", "Hide", false, false)                                         \
    X(MEMORY_UNHIDE, "reco.v1.Memory", "Unhide", false, false)                                     \
    X(MEMORY_ALIAS, "reco.v1.Memory", "Alias", false, false)                                       \
    X(MEMORY_SNAPSHOT, "reco.v1.Memory", "Snapshot", false, false)                                 \
    X(MEMORY_RESTORE, "reco.v1.Memory", "Restore", false, false)                                   \
    X(MEMORY_EXPORT, "reco.v1.Memory", "Export", false, true)                                      \
    X(CLUSTER_LIST_NODES, "reco.v1.Cluster", "ListNodes", false, false)
#define API_ENUM(name, service, method, client, server) API_##name,
enum api_method { API_METHODS(API_ENUM) API_METHOD_COUNT };
#undef API_ENUM

// Messages of one stream that are under way at once, from a request that has been read to an answer
// that the client has taken.
#define API_STREAM_ITEMS 8

// An arena's budget for decoding a message of this length: enough for every message that is
// allowed. A hostile one is refused before it takes more.
#define API_ARENA_BYTES(message_bytes) ((size_t)4 * (message_bytes) + ((size_t)16 << 20))

struct api_method_info {
    const char *service; // "reco.v1.Search"
    const char *name;    // "Search"
    const char *path;    // "/reco.v1.Search/Search"
    bool client_streams;
    bool server_streams;
};

const struct api_method_info *api_method_info(enum api_method method);

// The FileDescriptorSet of reco.proto and what it imports, for reflection.
struct bytes api_descriptor_set(void);

enum api_modality { // of a query option
    API_MODALITY_DEFAULT = 0,
    API_MODALITY_IMAGE = 1,
    API_MODALITY_TEXT = 2,
};

enum api_fusion {
    API_FUSION_DEFAULT = 0,
    API_FUSION_NONE = 1,
    API_FUSION_MEAN = 2,
    API_FUSION_WEIGHTED = 3,
    API_FUSION_HEAD = 4,
};

enum api_index {
    API_INDEX_AUTO = 0,
    API_INDEX_EXACT = 1,
    API_INDEX_IVF = 2,
};

enum api_approx {
    API_APPROX_DEFAULT = 0,
    API_APPROX_FAST = 1,
    API_APPROX_NORMAL = 2,
    API_APPROX_ACCURATE = 3,
};

enum api_profile {
    API_PROFILE_DEFAULT = 0,
    API_PROFILE_HF = 1,
    API_PROFILE_OPENAI = 2,
};

// The parts of a record, as bits 1 << API_FIELD_x of a `fields` member; 0: the message's default.
enum api_record_field {
    API_FIELD_KEY = 1,
    API_FIELD_CAPTION = 2,
    API_FIELD_SOURCE = 3,
    API_FIELD_TAGS = 4,
    API_FIELD_IMAGE_EMBEDDING = 5,
    API_FIELD_TEXT_EMBEDDING = 6,
    API_FIELD_NONE = 7, // alone
};

#define API_FIELDS_OF_NEIGHBOURS                                                                   \
    (1u << API_FIELD_KEY | 1u << API_FIELD_CAPTION | 1u << API_FIELD_SOURCE)
#define API_FIELDS_OF_RECORDS (API_FIELDS_OF_NEIGHBOURS | 1u << API_FIELD_TAGS)
#define API_FIELDS_ALL                                                                             \
    (API_FIELDS_OF_RECORDS | 1u << API_FIELD_IMAGE_EMBEDDING | 1u << API_FIELD_TEXT_EMBEDDING)

// Which records may be found. A zero struct lets all pass.
struct api_filter {
    const struct text *all_tags;
    size_t all_count;
    const struct text *any_tags;
    size_t any_count;
    const struct text *no_tags;
    size_t no_count;
    const struct text *keys;
    size_t key_count;
    const uint64_t *ids;
    size_t id_count;
    bool only_listed; // keys and ids are a set also when there are none
};

struct api_record {
    uint64_t id;
    struct text key;
    struct text caption;
    struct text source;
    const struct text *tags;
    size_t tag_count;
    bool hidden;
    const float *image_embedding; // [image_count]
    size_t image_count;
    const float *text_embedding; // [text_count]
    size_t text_count;
};

struct api_options {
    struct text memory; // empty: "default"
    uint32_t k;
    enum api_modality over;
    enum api_fusion fusion;
    float min_similarity;
    float min_coverage;
    const struct text *exclude_keys;
    size_t exclude_count;
    enum api_index index;
    enum api_profile profile;
    float min_pair_similarity;
    struct api_filter filter;
    float dedup;
    uint32_t fields;
    uint32_t nprobe;        // 0: not given; at most one of the three is
    float target_recall;    // 0: not given
    enum api_approx approx; // DEFAULT: not given
};

enum api_input {
    API_INPUT_NONE = 0,
    API_INPUT_IMAGE,
    API_INPUT_TEXT,
    API_INPUT_EMBEDDING,
    API_INPUT_PARTS, // of SearchRequest only
};

struct api_query_part {
    enum api_input input; // IMAGE, TEXT or EMBEDDING
    struct bytes image;
    struct text text;
    const float *embedding; // [embedding_count]
    size_t embedding_count;
    enum api_modality embedding_modality;
    float weight;
};

// SearchRequest, Refine*Request and ClassifyRequest: one struct, since they ask
// the same thing for different answers. Members that a message lacks stay zero.
struct api_query_request {
    enum api_input input;
    struct bytes image;
    struct text text;
    const float *embedding; // [embedding_count]
    size_t embedding_count;
    enum api_modality embedding_modality;
    const struct api_query_part *parts; // [part_count]
    size_t part_count;
    struct api_options options;
    struct text label_set_id; // the rest: Classify and Explain only
    const struct text *labels;
    size_t label_count;
    const struct text *templates;
    size_t template_count;
    uint32_t top;            // 0: 5; also of DiscoverLabels
    uint32_t candidates_max; // DiscoverLabels; 0: 200
};

struct api_labels_request { // CompileLabels
    const struct text *labels;
    size_t label_count;
    const struct text *templates;
    size_t template_count;
    struct api_options options;
};

struct api_encode_image_request {
    const struct bytes *images;
    size_t count;
    enum api_profile profile;
};

struct api_texts_request { // EncodeText and Tokenize
    const struct text *texts;
    size_t count;
};

// A question of SearchStream, RefineStream or ClassifyStream: the bytes of a SearchRequest or
// ClassifyRequest, whose codec is that of API_SEARCH, API_REFINE_STREAM and API_CLASSIFY.
struct api_stream_request {
    uint64_t tag;
    struct bytes question;
};

struct api_encode_stream_request { // of EncodeStream
    uint64_t tag;
    enum api_input input; // an image or a text
    struct bytes image;
    struct text text;
    enum api_profile profile;
};

struct api_create_request {
    struct text name;
    struct text space;
    uint32_t vshards;
    bool replace;
    bool building;
};

struct api_name_request { // Describe, Drop
    struct text name;
    bool content_hash; // Describe
};

struct api_alias_request {
    struct text alias;
    struct text target;
    bool remove;
};

struct api_snapshot_request {
    struct text memory;
    struct text directory;
};

struct api_restore_request {
    struct text directory;
    struct text memory; // empty: the snapshot's own
    bool replace;
};

struct api_ingest_record {
    struct text key;
    struct bytes image;
    const float *image_embedding; // [image_count]
    size_t image_count;
    struct text caption;
    const float *text_embedding; // [text_count]
    size_t text_count;
    const struct text *tags;
    size_t tag_count;
    struct text source;
    bool hidden;
};

struct api_ingest_request {
    struct text memory;
    const struct api_ingest_record *records;
    size_t count;
    bool finish;
    bool skip_existing;
};

struct api_delete_request { // Delete, Hide, Unhide
    struct text memory;
    const struct text *keys;
    size_t key_count;
    const uint64_t *ids;
    size_t id_count;
};

struct api_export_request {
    struct text memory;
    uint32_t fields;
    struct api_filter filter;
};

struct api_records_request { // GetRecords and GetVectors
    struct text memory;
    const struct text *keys;
    size_t key_count;
    const uint64_t *ids;
    size_t id_count;
    uint32_t fields;            // GetRecords
    enum api_modality modality; // GetVectors; default: both
};

// --- replies

struct api_timings { // milliseconds
    float decode, preprocess, encode, queue, fanout;
    const float *shard;
    size_t shard_count;
    float merge, fetch, fuse, labels, total;
};

struct api_tag_list {
    const struct text *tags;
    size_t count;
};

struct api_neighbours { // parallel arrays of `count`; NULL arrays are left out
    size_t count;
    const uint64_t *ids;
    const float *scores;
    const struct text *keys;
    const struct text *captions;
    const struct text *sources;
    const float *weights;
    const float *effects;
    const struct api_tag_list *tags;
    size_t dimension;              // of the embeddings
    const float *image_embeddings; // [count][dimension]
    const float *text_embeddings;
};

struct api_labels {
    size_t count;
    const struct text *labels;
    const float *scores;
};

struct api_work { // of a search, sums over the nodes
    bool exact;
    uint64_t lists_probed;
    uint64_t codes_scanned;
    uint64_t rows_refined;
    uint64_t rows_read;
};

// SearchReply, RefineReply, ClassifyReply and CompileLabelsReply: one struct;
// members that a message lacks are not encoded and stay zero when decoded.
struct api_answer {
    struct text request_id;
    struct text space;
    struct text memory;
    uint32_t generation;
    float coverage;
    const struct text *degraded;
    size_t degraded_count;
    struct api_timings timings;
    struct text index;
    uint64_t records;
    struct api_work work;
    enum api_fusion fusion; // that was used
    const float *embedding; // Refine
    size_t embedding_count;
    float gate;
    struct text gate_reason;
    struct api_neighbours neighbours;
    struct api_labels plain; // Classify
    struct api_labels refined;
    struct text label_set_id; // CompileLabels
    uint32_t label_count;
};

// GetRecordsReply and GetVectorsReply. The latter has ids and embeddings as arrays of their own.
struct api_records_reply {
    struct text request_id;
    struct text memory;
    uint32_t generation;
    struct text space;
    uint32_t dimension;
    const struct api_record *records;
    size_t count;
    const uint64_t *ids; // [vector_count]
    size_t vector_count;
    const float *image_embeddings; // [image_floats]
    size_t image_floats;
    const float *text_embeddings; // [text_floats]
    size_t text_floats;
    const struct text *missing_keys;
    size_t missing_key_count;
    const uint64_t *missing_ids;
    size_t missing_id_count;
    const struct text *degraded;
    size_t degraded_count;
};

struct api_export_reply {
    struct text memory;
    uint32_t generation;
    struct text space;
    uint32_t dimension;
    const struct api_record *records;
    size_t count;
    uint64_t total;
};

struct api_encode_reply {
    struct text request_id;
    struct text space;
    uint32_t dimension;
    const float *embeddings; // [count * dimension]
    size_t float_count;
    struct api_timings timings;
};

// An answer of all four streams: the bytes of the unary call's reply, or why there is none.
struct api_stream_reply {
    uint64_t tag;
    enum status status;
    struct reason why;  // unless STATUS_OK
    struct bytes reply; // STATUS_OK
};

struct api_model_info {
    struct text name;
    struct text space;
    uint32_t dimension;
    uint32_t image_size;
    uint32_t context_length;
    struct text device;
    const struct text *templates;
    size_t template_count;
    float fusion_beta;
    float fusion_temperature;
    struct text head; // its file; "": there is none
    bool head_has_gate;
};

struct api_model_list {
    const struct api_model_info *models;
    size_t count;
};

struct api_tokenize_reply {
    struct text request_id;
    const uint32_t *counts;
    size_t count;
    const uint32_t *ids;
    size_t id_count;
};

struct api_memory_index { // of both sides and all nodes; zero while there is none
    uint64_t bytes;       // of memory
    uint64_t lists;
    uint64_t vectors;
    uint64_t list_max; // vectors of the longest list
};

struct api_memory_info {
    struct text name;
    uint32_t generation;
    struct text state;
    struct text space;
    uint32_t dimension;
    uint32_t vshards;
    uint64_t records;
    uint64_t bytes;
    struct text index;
    const struct text *degraded;
    size_t degraded_count;
    uint64_t hidden;
    const struct text *aliases;
    size_t alias_count;
    struct text content_hash;
    struct api_memory_index indexes;
};

struct api_memory_list {
    const struct api_memory_info *memories;
    size_t count;
};

struct api_ingest_reply {
    struct text request_id;
    struct text memory;
    uint32_t generation;
    uint64_t stored;
    uint64_t duplicates;
    const struct text *failed_keys;
    const struct text *failed_reasons;
    size_t failed_listed;
    uint64_t failed;
    uint64_t skipped;
};

struct api_delete_reply { // Delete, Hide, Unhide
    struct text request_id;
    uint64_t deleted; // or changed
    const struct text *missing_keys;
    size_t missing_key_count;
    const uint64_t *missing_ids;
    size_t missing_id_count;
};

struct api_snapshot_reply {
    struct text request_id;
    struct text memory;
    uint32_t generation;
    struct text directory;
    uint64_t records;
    uint64_t bytes;
    struct text content_hash;
};

struct api_restore_reply {
    struct text request_id;
    struct text memory;
    uint32_t generation;
    uint64_t records;
    struct text content_hash;
};

struct api_drop_reply {
    struct text request_id;
    uint64_t records;
};

struct api_node_info {
    struct text address;
    struct text state;
    uint64_t records;
    uint64_t bytes;
    uint32_t index;
    uint32_t in_flight;
    float ping_ms;
    bool read_only;
    uint32_t vshards;
    uint32_t queue_depth;
};

struct api_node_list {
    struct text version;
    struct text space;
    const struct api_node_info *nodes;
    size_t count;
};

// `method` chooses the message for those structs that serve several.
enum status api_encode_query(enum api_method method, const struct api_query_request *message,
                             struct buffer *out) MUST_CHECK;
enum status api_decode_query(enum api_method method, struct bytes message, struct arena *arena,
                             struct api_query_request *out, struct reason *why) MUST_CHECK;
enum status api_encode_answer(enum api_method method, const struct api_answer *message,
                              struct buffer *out) MUST_CHECK;
enum status api_decode_answer(enum api_method method, struct bytes message, struct arena *arena,
                              struct api_answer *out, struct reason *why) MUST_CHECK;

// `vectors`: GetVectors, else GetRecords.
enum status api_encode_records_request(bool vectors, const struct api_records_request *message,
                                       struct buffer *out) MUST_CHECK;
enum status api_decode_records_request(bool vectors, struct bytes message, struct arena *arena,
                                       struct api_records_request *out,
                                       struct reason *why) MUST_CHECK;
enum status api_encode_records_reply(bool vectors, const struct api_records_reply *message,
                                     struct buffer *out) MUST_CHECK;
enum status api_decode_records_reply(bool vectors, struct bytes message, struct arena *arena,
                                     struct api_records_reply *out, struct reason *why) MUST_CHECK;

// The tag is read from a damaged message, too, as far as it comes before the damage; what
// *out points to lies in the message.
enum status api_encode_stream_request(const struct api_stream_request *message,
                                      struct buffer *out) MUST_CHECK;
enum status api_decode_stream_request(struct bytes message, struct api_stream_request *out,
                                      struct reason *why) MUST_CHECK;

#define API_CODEC(name)                                                                            \
    enum status api_encode_##name(const struct api_##name *message, struct buffer *out)            \
        MUST_CHECK;                                                                                \
    enum status api_decode_##name(struct bytes message, struct arena *arena,                       \
                                  struct api_##name *out, struct reason *why) MUST_CHECK;

API_CODEC(labels_request)
API_CODEC(encode_image_request)
API_CODEC(texts_request)
API_CODEC(create_request)
API_CODEC(name_request)
API_CODEC(alias_request)
API_CODEC(snapshot_request)
API_CODEC(restore_request)
API_CODEC(ingest_request)
API_CODEC(delete_request)
API_CODEC(encode_stream_request)
API_CODEC(encode_reply)
API_CODEC(stream_reply)
API_CODEC(model_list)
API_CODEC(tokenize_reply)
API_CODEC(memory_info)
API_CODEC(memory_list)
API_CODEC(ingest_reply)
API_CODEC(delete_reply)
API_CODEC(snapshot_reply)
API_CODEC(restore_reply)
API_CODEC(drop_reply)
API_CODEC(export_request)
API_CODEC(export_reply)
API_CODEC(node_list)

#endif
