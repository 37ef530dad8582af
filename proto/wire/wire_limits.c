// SPDX-License-Identifier: Apache-2.0
// The table is written in the order of the .proto files. A text that may be absent has a
// minimum of 0 bytes; one with a minimum of 1 or more is required, except inside a oneof,
// where the minimum holds once the member is chosen.

#include "proto/wire/wire_limits.h"

#include <assert.h>
#include <string.h>

#include <wire/reco.pb-c.h>
#include <wire/shard.pb-c.h>

#include "proto/base/limits.h"
#include "proto/base/trace.h"

#define MEMORY_BYTES_MAX (MEMORY_NAME_BYTES_MAX + 11) // NAME@4294967295
#define WORD_BYTES_MAX 64                             // a state, an index, a version
#define ADDRESS_BYTES_MAX 256
#define REASON_BYTES_MAX 1024 // field and text of struct reason, with room
#define DEGRADED_MAX 64
#define MEMORIES_MAX 4096
#define DELETE_RECORDS_MAX 1024
#define TOKENS_MAX (TEXTS_MAX * (TEXT_BYTES_MAX + 2u)) // a token is a byte or more
#define EMBEDDINGS_MAX (TEXTS_MAX * DIMENSION_MAX)
#define HITS_MAX (SEARCH_ROWS_MAX * K_WIRE_MAX)
#define TAGS_BYTES_MAX (TAGS_MAX * (TAG_BYTES_MAX + 1)) // joined
#define PROGRAM_BYTES_MAX 128
#define MODEL_NAME_BYTES_MAX 256
#define MODELS_MAX 16

#define TEXT(name, bytes_min, bytes_max)                                                           \
    {                                                                                              \
        name, (bytes_min) > 0, 1, bytes_min, bytes_max                                             \
    }
#define CHOICE(name, bytes_min, bytes_max)                                                         \
    {                                                                                              \
        name, 0, 1, bytes_min, bytes_max                                                           \
    }
#define TEXTS(name, count_min, count_max, bytes_min, bytes_max)                                    \
    {                                                                                              \
        name, count_min, count_max, bytes_min, bytes_max                                           \
    }
#define NUMBERS(name, count_min, count_max)                                                        \
    {                                                                                              \
        name, count_min, count_max, 0, 0                                                           \
    }
#define MESSAGES(name, count_min, count_max)                                                       \
    {                                                                                              \
        name, count_min, count_max, 0, 0                                                           \
    }

// --- reco.proto

static const struct wire_limit query_options[] = {
    TEXT("memory", 0, MEMORY_BYTES_MAX),
    TEXTS("exclude_keys", 0, 256, 1, KEY_BYTES_MAX),
    NUMBERS("fields", 0, RECORD_FIELDS_MAX),
};

static const struct wire_limit filter[] = {
    TEXTS("all_tags", 0, FILTER_TAGS_MAX, 1, TAG_BYTES_MAX),
    TEXTS("any_tags", 0, FILTER_TAGS_MAX, 1, TAG_BYTES_MAX),
    TEXTS("no_tags", 0, FILTER_TAGS_MAX, 1, TAG_BYTES_MAX),
    TEXTS("keys", 0, FILTER_KEYS_MAX, 1, KEY_BYTES_MAX),
    NUMBERS("ids", 0, FILTER_IDS_MAX),
};

static const struct wire_limit record[] = {
    TEXT("key", 0, KEY_BYTES_MAX),
    TEXT("caption", 0, CAPTION_BYTES_MAX),
    TEXT("source", 0, SOURCE_BYTES_MAX),
    TEXTS("tags", 0, TAGS_MAX, 0, TAG_BYTES_MAX),
    NUMBERS("image_embedding", 0, DIMENSION_MAX),
    NUMBERS("text_embedding", 0, DIMENSION_MAX),
};

static const struct wire_limit neighbours[] = {
    NUMBERS("ids", 0, K_MAX),
    NUMBERS("scores", 0, K_MAX),
    TEXTS("keys", 0, K_MAX, 0, KEY_BYTES_MAX),
    TEXTS("captions", 0, K_MAX, 0, CAPTION_BYTES_MAX),
    TEXTS("sources", 0, K_MAX, 0, SOURCE_BYTES_MAX),
    NUMBERS("weights", 0, K_MAX),
    NUMBERS("effects", 0, K_MAX),
    MESSAGES("tags", 0, K_MAX),
    NUMBERS("image_embeddings", 0, K_MAX *DIMENSION_MAX),
    NUMBERS("text_embeddings", 0, K_MAX *DIMENSION_MAX),
};

static const struct wire_limit tag_list[] = {
    TEXTS("tags", 0, TAGS_MAX, 0, TAG_BYTES_MAX),
};

static const struct wire_limit timings[] = {
    NUMBERS("shard", 0, NODES_MAX),
};

static const struct wire_limit answer[] = {
    TEXT("request_id", 0, REQUEST_ID_BYTES_MAX),
    TEXT("space", 0, SPACE_BYTES_MAX),
    TEXT("memory", 0, MEMORY_BYTES_MAX),
    TEXTS("degraded", 0, DEGRADED_MAX, 0, REASON_BYTES_MAX),
    TEXT("index", 0, WORD_BYTES_MAX),
};

static const struct wire_limit encode_image_request[] = {
    TEXTS("images", 1, IMAGES_MAX, 1, IMAGE_BYTES_MAX),
};

static const struct wire_limit texts_request[] = {
    // An empty text is a text: data sets have captions that are.
    TEXTS("texts", 1, TEXTS_MAX, 0, TEXT_BYTES_MAX),
};

static const struct wire_limit encode_reply[] = {
    TEXT("request_id", 0, REQUEST_ID_BYTES_MAX),
    TEXT("space", 0, SPACE_BYTES_MAX),
    NUMBERS("embeddings", 0, EMBEDDINGS_MAX),
};

static const struct wire_limit item_error[] = {
    TEXT("reason", 0, WORD_BYTES_MAX),
    TEXT("field", 0, REASON_BYTES_MAX),
    TEXT("message", 0, REASON_BYTES_MAX),
};

static const struct wire_limit encode_stream_request[] = {
    CHOICE("image", 1, IMAGE_BYTES_MAX),
    CHOICE("text", 0, TEXT_BYTES_MAX),
};

static const struct wire_limit model_info[] = {
    TEXT("name", 0, MODEL_NAME_BYTES_MAX), TEXT("space", 0, SPACE_BYTES_MAX),
    TEXT("device", 0, WORD_BYTES_MAX),     TEXTS("templates", 0, TEMPLATES_MAX, 0, TEXT_BYTES_MAX),
    TEXT("head", 0, PATH_BYTES_MAX),
};

static const struct wire_limit list_models_reply[] = {
    MESSAGES("models", 0, MODELS_MAX),
};

static const struct wire_limit tokenize_reply[] = {
    TEXT("request_id", 0, REQUEST_ID_BYTES_MAX),
    NUMBERS("counts", 0, TEXTS_MAX),
    NUMBERS("ids", 0, TOKENS_MAX),
};

static const struct wire_limit search_request[] = {
    CHOICE("image", 1, IMAGE_BYTES_MAX),
    CHOICE("text", 1, TEXT_BYTES_MAX),
    MESSAGES("parts", 0, QUERY_PARTS_MAX),
};

static const struct wire_limit query_part[] = {
    CHOICE("image", 1, IMAGE_BYTES_MAX),
    CHOICE("text", 1, TEXT_BYTES_MAX),
};

static const struct wire_limit float_vector[] = {
    NUMBERS("values", 1, DIMENSION_MAX),
};

static const struct wire_limit get_records_request[] = {
    TEXT("memory", 0, MEMORY_BYTES_MAX),
    TEXTS("keys", 0, GET_RECORDS_MAX, 1, KEY_BYTES_MAX),
    NUMBERS("ids", 0, GET_RECORDS_MAX),
    NUMBERS("fields", 0, RECORD_FIELDS_MAX),
};

static const struct wire_limit get_records_reply[] = {
    TEXT("request_id", 0, REQUEST_ID_BYTES_MAX),
    TEXT("memory", 0, MEMORY_BYTES_MAX),
    TEXT("space", 0, SPACE_BYTES_MAX),
    MESSAGES("records", 0, GET_RECORDS_MAX),
    TEXTS("missing_keys", 0, GET_RECORDS_MAX, 0, KEY_BYTES_MAX),
    NUMBERS("missing_ids", 0, GET_RECORDS_MAX),
    TEXTS("degraded", 0, DEGRADED_MAX, 0, REASON_BYTES_MAX),
};

static const struct wire_limit get_vectors_request[] = {
    TEXT("memory", 0, MEMORY_BYTES_MAX),
    TEXTS("keys", 0, GET_RECORDS_MAX, 1, KEY_BYTES_MAX),
    NUMBERS("ids", 0, GET_RECORDS_MAX),
};

static const struct wire_limit get_vectors_reply[] = {
    TEXT("request_id", 0, REQUEST_ID_BYTES_MAX),
    TEXT("memory", 0, MEMORY_BYTES_MAX),
    TEXT("space", 0, SPACE_BYTES_MAX),
    NUMBERS("ids", 0, GET_RECORDS_MAX),
    NUMBERS("image_embeddings", 0, GET_RECORDS_MAX *DIMENSION_MAX),
    NUMBERS("text_embeddings", 0, GET_RECORDS_MAX *DIMENSION_MAX),
    TEXTS("missing_keys", 0, GET_RECORDS_MAX, 0, KEY_BYTES_MAX),
    NUMBERS("missing_ids", 0, GET_RECORDS_MAX),
    TEXTS("degraded", 0, DEGRADED_MAX, 0, REASON_BYTES_MAX),
};

static const struct wire_limit refine_image_request[] = {
    TEXT("image", 1, IMAGE_BYTES_MAX),
};

static const struct wire_limit refine_text_request[] = {
    TEXT("text", 1, TEXT_BYTES_MAX),
};

static const struct wire_limit refine_reply[] = {
    NUMBERS("embedding", 0, DIMENSION_MAX),
    TEXT("gate_reason", 0, REASON_BYTES_MAX),
};

static const struct wire_limit compile_labels_request[] = {
    TEXTS("labels", 1, LABELS_MAX, 1, LABEL_BYTES_MAX),
    TEXTS("templates", 0, TEMPLATES_MAX, 1, TEXT_BYTES_MAX),
};

static const struct wire_limit compile_labels_reply[] = {
    TEXT("request_id", 0, REQUEST_ID_BYTES_MAX),
    TEXT("label_set_id", 0, LABEL_SET_ID_BYTES),
};

static const struct wire_limit classify_request[] = {
    CHOICE("image", 1, IMAGE_BYTES_MAX),
    TEXT("label_set_id", 0, LABEL_SET_ID_BYTES),
    TEXTS("labels", 0, LABELS_MAX, 1, LABEL_BYTES_MAX),
    TEXTS("templates", 0, TEMPLATES_MAX, 1, TEXT_BYTES_MAX),
};

static const struct wire_limit discover_labels_request[] = {
    CHOICE("image", 1, IMAGE_BYTES_MAX),
};

static const struct wire_limit labels[] = {
    TEXTS("labels", 0, LABELS_MAX, 0, LABEL_BYTES_MAX),
    NUMBERS("scores", 0, LABELS_MAX),
};

static const struct wire_limit classify_reply[] = {
    TEXT("gate_reason", 0, REASON_BYTES_MAX),
};

static const struct wire_limit create_memory_request[] = {
    TEXT("name", 1, MEMORY_NAME_BYTES_MAX),
    TEXT("space", 0, SPACE_BYTES_MAX),
};

static const struct wire_limit name_request[] = {
    TEXT("name", 1, MEMORY_BYTES_MAX),
};

static const struct wire_limit memory_info[] = {
    TEXT("name", 0, MEMORY_BYTES_MAX),
    TEXT("state", 0, WORD_BYTES_MAX),
    TEXT("space", 0, SPACE_BYTES_MAX),
    TEXT("index", 0, WORD_BYTES_MAX),
    TEXTS("degraded", 0, DEGRADED_MAX, 0, REASON_BYTES_MAX),
    TEXTS("aliases", 0, MEMORIES_MAX, 0, MEMORY_NAME_BYTES_MAX),
    TEXT("content_hash", 0, CONTENT_HASH_BYTES),
};

static const struct wire_limit alias_request[] = {
    TEXT("alias", 1, MEMORY_NAME_BYTES_MAX),
    TEXT("target", 0, MEMORY_BYTES_MAX),
};

static const struct wire_limit snapshot_request[] = {
    TEXT("memory", 1, MEMORY_BYTES_MAX),
    TEXT("directory", 1, PATH_BYTES_MAX),
};

static const struct wire_limit restore_request[] = {
    TEXT("directory", 1, PATH_BYTES_MAX),
    TEXT("memory", 0, MEMORY_NAME_BYTES_MAX),
};

static const struct wire_limit snapshot_reply[] = {
    TEXT("request_id", 0, REQUEST_ID_BYTES_MAX),
    TEXT("memory", 0, MEMORY_BYTES_MAX),
    TEXT("directory", 0, PATH_BYTES_MAX),
    TEXT("content_hash", 0, CONTENT_HASH_BYTES),
};

static const struct wire_limit restore_reply[] = {
    TEXT("request_id", 0, REQUEST_ID_BYTES_MAX),
    TEXT("memory", 0, MEMORY_BYTES_MAX),
    TEXT("content_hash", 0, CONTENT_HASH_BYTES),
};

static const struct wire_limit list_memories_reply[] = {
    MESSAGES("memories", 0, MEMORIES_MAX),
};

static const struct wire_limit ingest_request[] = {
    TEXT("memory", 0, MEMORY_BYTES_MAX),
    MESSAGES("records", 0, WRITE_RECORDS_MAX),
};

static const struct wire_limit ingest_record[] = {
    TEXT("key", 1, KEY_BYTES_MAX),
    TEXT("image", 0, IMAGE_BYTES_MAX),
    NUMBERS("image_embedding", 0, DIMENSION_MAX),
    TEXT("caption", 0, CAPTION_BYTES_MAX),
    NUMBERS("text_embedding", 0, DIMENSION_MAX),
    TEXTS("tags", 0, TAGS_MAX, 1, TAG_BYTES_MAX),
    TEXT("source", 0, SOURCE_BYTES_MAX),
};

static const struct wire_limit ingest_reply[] = {
    TEXT("request_id", 0, REQUEST_ID_BYTES_MAX),
    TEXT("memory", 0, MEMORY_BYTES_MAX),
    TEXTS("failed_keys", 0, WRITE_RECORDS_MAX, 0, KEY_BYTES_MAX),
    TEXTS("failed_reasons", 0, WRITE_RECORDS_MAX, 0, REASON_BYTES_MAX),
};

static const struct wire_limit delete_records_request[] = {
    TEXT("memory", 0, MEMORY_BYTES_MAX),
    TEXTS("keys", 0, DELETE_RECORDS_MAX, 1, KEY_BYTES_MAX),
    NUMBERS("ids", 0, DELETE_RECORDS_MAX),
};

static const struct wire_limit delete_records_reply[] = {
    TEXT("request_id", 0, REQUEST_ID_BYTES_MAX),
    TEXTS("missing_keys", 0, DELETE_RECORDS_MAX, 0, KEY_BYTES_MAX),
    NUMBERS("missing_ids", 0, DELETE_RECORDS_MAX),
};

static const struct wire_limit export_request[] = {
    TEXT("memory", 0, MEMORY_BYTES_MAX),
    NUMBERS("fields", 0, RECORD_FIELDS_MAX),
};

static const struct wire_limit export_reply[] = {
    TEXT("memory", 0, MEMORY_BYTES_MAX),
    TEXT("space", 0, SPACE_BYTES_MAX),
    MESSAGES("records", 0, GET_RECORDS_MAX),
};

static const struct wire_limit drop_memory_reply[] = {
    TEXT("request_id", 0, REQUEST_ID_BYTES_MAX),
};

static const struct wire_limit node_info[] = {
    TEXT("address", 0, ADDRESS_BYTES_MAX),
    TEXT("state", 0, WORD_BYTES_MAX),
};

static const struct wire_limit list_nodes_reply[] = {
    TEXT("version", 0, WORD_BYTES_MAX),
    TEXT("space", 0, SPACE_BYTES_MAX),
    MESSAGES("nodes", 0, NODES_MAX),
};

// --- shard.proto

static const struct wire_limit shard_envelope[] = {
    TEXT("field", 0, REASON_BYTES_MAX),
    TEXT("text", 0, REASON_BYTES_MAX),
    TEXT("trace", 0, REQUEST_ID_BYTES_MAX),
    TEXT("traceparent", 0, TRACE_PARENT_BYTES),
};

static const struct wire_limit shard_program[] = {
    TEXT("program", 0, PROGRAM_BYTES_MAX),
};

static const struct wire_limit shard_search_request[] = {
    NUMBERS("exclude_ids", 0, 256),
    TEXTS("all_tags", 0, FILTER_TAGS_MAX, 1, TAG_BYTES_MAX),
    TEXTS("any_tags", 0, FILTER_TAGS_MAX, 1, TAG_BYTES_MAX),
    TEXTS("no_tags", 0, FILTER_TAGS_MAX, 1, TAG_BYTES_MAX),
    NUMBERS("only_ids", 0, FILTER_IDS_MAX),
};

static const struct wire_limit shard_search_reply[] = {
    NUMBERS("counts", 1, SEARCH_ROWS_MAX),
    NUMBERS("ids", 0, HITS_MAX),
    NUMBERS("scores", 0, HITS_MAX),
    NUMBERS("pair_scores", 0, HITS_MAX),
};

static const struct wire_limit shard_ids[] = {
    NUMBERS("ids", 0, FETCH_IDS_MAX),
};

static const struct wire_limit shard_fetch_reply[] = {
    NUMBERS("found", 0, FETCH_IDS_MAX),
    TEXTS("keys", 0, FETCH_IDS_MAX, 0, KEY_BYTES_MAX),
    TEXTS("captions", 0, FETCH_IDS_MAX, 0, CAPTION_BYTES_MAX),
    TEXTS("sources", 0, FETCH_IDS_MAX, 0, SOURCE_BYTES_MAX),
    TEXTS("tags", 0, FETCH_IDS_MAX, 0, TAGS_BYTES_MAX),
};

static const struct wire_limit shard_write_request[] = {
    TEXTS("keys", 1, WRITE_RECORDS_MAX, 1, KEY_BYTES_MAX),
    TEXTS("captions", 0, WRITE_RECORDS_MAX, 0, CAPTION_BYTES_MAX),
    TEXTS("sources", 0, WRITE_RECORDS_MAX, 0, SOURCE_BYTES_MAX),
    TEXTS("tags", 0, WRITE_RECORDS_MAX, 0, TAGS_BYTES_MAX),
    NUMBERS("hidden", 0, WRITE_RECORDS_MAX),
};

static const struct wire_limit shard_write_reply[] = {
    NUMBERS("status", 0, WRITE_RECORDS_MAX),
    TEXTS("reasons", 0, WRITE_RECORDS_MAX, 0, REASON_BYTES_MAX),
};

static const struct wire_limit shard_delete_reply[] = {
    NUMBERS("deleted", 0, FETCH_IDS_MAX),
};

static const struct wire_limit shard_has_reply[] = {
    NUMBERS("has", 0, FETCH_IDS_MAX),
};

static const struct wire_limit shard_create_request[] = {
    NUMBERS("own", 1, VSHARDS_MAX),
};

#define LIMITS(descriptor, fields)                                                                 \
    {                                                                                              \
        &descriptor##__descriptor, fields, sizeof(fields) / sizeof((fields)[0]), false             \
    }
#define NO_LIMITS(descriptor)                                                                      \
    {                                                                                              \
        &descriptor##__descriptor, NULL, 0, false                                                  \
    }

static const struct wire_limits table[] = {
    LIMITS(reco__v1__query_options, query_options),
    LIMITS(reco__v1__filter, filter),
    LIMITS(reco__v1__record, record),
    LIMITS(reco__v1__neighbours, neighbours),
    LIMITS(reco__v1__tag_list, tag_list),
    LIMITS(reco__v1__timings, timings),
    LIMITS(reco__v1__answer, answer),
    NO_LIMITS(reco__v1__search_work),
    LIMITS(reco__v1__item_error, item_error),
    LIMITS(reco__v1__encode_image_request, encode_image_request),
    LIMITS(reco__v1__encode_text_request, texts_request),
    LIMITS(reco__v1__encode_reply, encode_reply),
    LIMITS(reco__v1__encode_stream_request, encode_stream_request),
    NO_LIMITS(reco__v1__encode_stream_reply),
    LIMITS(reco__v1__tokenize_request, texts_request),
    LIMITS(reco__v1__tokenize_reply, tokenize_reply),
    NO_LIMITS(reco__v1__list_models_request),
    LIMITS(reco__v1__model_info, model_info),
    LIMITS(reco__v1__list_models_reply, list_models_reply),
    LIMITS(reco__v1__search_request, search_request),
    LIMITS(reco__v1__query_part, query_part),
    LIMITS(reco__v1__float_vector, float_vector),
    NO_LIMITS(reco__v1__search_reply),
    LIMITS(reco__v1__get_records_request, get_records_request),
    LIMITS(reco__v1__get_records_reply, get_records_reply),
    LIMITS(reco__v1__get_vectors_request, get_vectors_request),
    LIMITS(reco__v1__get_vectors_reply, get_vectors_reply),
    LIMITS(reco__v1__refine_image_request, refine_image_request),
    LIMITS(reco__v1__refine_text_request, refine_text_request),
    NO_LIMITS(reco__v1__refine_embedding_request),
    LIMITS(reco__v1__refine_reply, refine_reply),
    NO_LIMITS(reco__v1__search_stream_request),
    NO_LIMITS(reco__v1__search_stream_reply),
    NO_LIMITS(reco__v1__refine_stream_request),
    NO_LIMITS(reco__v1__refine_stream_reply),
    LIMITS(reco__v1__compile_labels_request, compile_labels_request),
    LIMITS(reco__v1__compile_labels_reply, compile_labels_reply),
    LIMITS(reco__v1__classify_request, classify_request),
    LIMITS(reco__v1__discover_labels_request, discover_labels_request),
    LIMITS(reco__v1__labels, labels),
    LIMITS(reco__v1__classify_reply, classify_reply),
    NO_LIMITS(reco__v1__classify_stream_request),
    NO_LIMITS(reco__v1__classify_stream_reply),
    LIMITS(reco__v1__create_memory_request, create_memory_request),
    LIMITS(reco__v1__describe_memory_request, name_request),
    LIMITS(reco__v1__memory_info, memory_info),
    NO_LIMITS(reco__v1__list_memories_request),
    LIMITS(reco__v1__list_memories_reply, list_memories_reply),
    LIMITS(reco__v1__ingest_request, ingest_request),
    LIMITS(reco__v1__ingest_record, ingest_record),
    LIMITS(reco__v1__ingest_reply, ingest_reply),
    LIMITS(reco__v1__delete_records_request, delete_records_request),
    LIMITS(reco__v1__delete_records_reply, delete_records_reply),
    LIMITS(reco__v1__hide_request, delete_records_request),
    LIMITS(reco__v1__hide_reply, delete_records_reply),
    LIMITS(reco__v1__alias_request, alias_request),
    LIMITS(reco__v1__snapshot_request, snapshot_request),
    LIMITS(reco__v1__snapshot_reply, snapshot_reply),
    LIMITS(reco__v1__restore_request, restore_request),
    LIMITS(reco__v1__restore_reply, restore_reply),
    LIMITS(reco__v1__export_request, export_request),
    LIMITS(reco__v1__export_reply, export_reply),
    LIMITS(reco__v1__drop_memory_request, name_request),
    LIMITS(reco__v1__drop_memory_reply, drop_memory_reply),
    NO_LIMITS(reco__v1__list_nodes_request),
    LIMITS(reco__v1__node_info, node_info),
    LIMITS(reco__v1__list_nodes_reply, list_nodes_reply),

    {&reco__shard__v1__envelope__descriptor, shard_envelope,
     sizeof(shard_envelope) / sizeof(shard_envelope[0]), true},
    LIMITS(reco__shard__v1__hello, shard_program),
    LIMITS(reco__shard__v1__hello_reply, shard_program),
    NO_LIMITS(reco__shard__v1__ping_reply),
    LIMITS(reco__shard__v1__search_request, shard_search_request),
    LIMITS(reco__shard__v1__search_reply, shard_search_reply),
    LIMITS(reco__shard__v1__fetch_request, shard_ids),
    LIMITS(reco__shard__v1__fetch_reply, shard_fetch_reply),
    LIMITS(reco__shard__v1__write_request, shard_write_request),
    LIMITS(reco__shard__v1__write_reply, shard_write_reply),
    LIMITS(reco__shard__v1__delete_request, shard_ids),
    LIMITS(reco__shard__v1__delete_reply, shard_delete_reply),
    LIMITS(reco__shard__v1__has_request, shard_ids),
    LIMITS(reco__shard__v1__has_reply, shard_has_reply),
    LIMITS(reco__shard__v1__create_request, shard_create_request),
    NO_LIMITS(reco__shard__v1__drop_request),
    NO_LIMITS(reco__shard__v1__drop_reply),
    NO_LIMITS(reco__shard__v1__commit_request),
    NO_LIMITS(reco__shard__v1__stats_request),
    NO_LIMITS(reco__shard__v1__stats_reply),
    NO_LIMITS(reco__shard__v1__export_request),
    NO_LIMITS(reco__shard__v1__export_reply),
};

const struct wire_limits *wire_limits_of(const ProtobufCMessageDescriptor *type)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (table[i].type == type)
            return &table[i];

    assert(false); // every message has its limits here
    return NULL;
}

const struct wire_limit *wire_limits_field(const struct wire_limits *limits, const char *field)
{
    for (size_t i = 0; i < limits->count; i++)
        if (strcmp(limits->fields[i].field, field) == 0)
            return &limits->fields[i];
    return NULL;
}

const struct wire_limits *wire_limits_all(size_t *count)
{
    *count = sizeof(table) / sizeof(table[0]);
    return table;
}
