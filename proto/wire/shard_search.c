// SPDX-License-Identifier: Apache-2.0
// Bodies of SEARCH and FETCH. The sizes of frame 2 follow from the bodies; every product below
// is of factors that were checked before, and stays far under 2^64: 512 * 256 * 4096 * 4.

#include <assert.h>
#include <string.h>

#include "proto/wire/shard_internal.h"

#define IMAGE_AND_TEXT 2

// --- SEARCH

enum status shard_encode_search_request(const struct shard_search_request *message,
                                        struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__SearchRequest raw;
    reco__shard__v1__search_request__init(&raw);
    raw.generation = message->generation;
    raw.modality = (uint32_t)message->modality;
    raw.dimension = message->dimension;
    raw.row_count = message->row_count;
    raw.k = message->k;
    raw.want_payload = message->want_payload;
    raw.exclude_ids = wire_borrow(message->exclude_ids);
    raw.n_exclude_ids = message->exclude_count;
    raw.all_tags = wire_put_texts(&memory, message->all_tags, message->all_count);
    raw.n_all_tags = message->all_count;
    raw.any_tags = wire_put_texts(&memory, message->any_tags, message->any_count);
    raw.n_any_tags = message->any_count;
    raw.no_tags = wire_put_texts(&memory, message->no_tags, message->no_count);
    raw.n_no_tags = message->no_count;
    raw.only_ids = wire_borrow(message->only_ids);
    raw.n_only_ids = message->only_count;
    raw.has_only_ids = message->has_only_ids;
    raw.index_mode = (uint32_t)message->index_mode;
    raw.probes = message->probes;
    raw.target_recall = message->target_recall;
    raw.nodes = message->nodes;
    return wire_pack(&memory, &raw.base, out);
}

static enum status check_search(const Reco__Shard__V1__SearchRequest *raw, struct bytes rows,
                                struct reason *why)
{
    enum status status = wire_check_uint("modality", raw->modality, 0, 1, why);
    if (status == STATUS_OK)
        status = wire_check_uint("dimension", raw->dimension, 1, DIMENSION_MAX, why);
    if (status == STATUS_OK)
        status = wire_check_uint("row_count", raw->row_count, 1, SEARCH_ROWS_MAX, why);
    if (status == STATUS_OK)
        status = wire_check_uint("k", raw->k, 1, K_WIRE_MAX, why);
    if (status == STATUS_OK && raw->n_only_ids > 0 && !raw->has_only_ids)
        status = reason_set(why, STATUS_INVALID, "only_ids", "given without has_only_ids");
    if (status == STATUS_OK)
        status = wire_check_uint("index_mode", raw->index_mode, 0, SHARD_INDEX_IVF, why);
    if (status == STATUS_OK)
        status = wire_check_uint("probes", raw->probes, 0, PROBES_MAX, why);
    if (status == STATUS_OK)
        status = wire_check_recall("target_recall", raw->target_recall, why);
    if (status == STATUS_OK)
        status = wire_check_uint("nodes", raw->nodes, 0, NODES_MAX, why);
    if (status != STATUS_OK)
        return status;

    size_t expected = (size_t)raw->row_count * raw->dimension * sizeof(float);
    if (rows.count != expected)
        return reason_set(why, STATUS_INVALID, "rows", "%zu bytes; allowed: %zu", rows.count,
                          expected);
    return STATUS_OK;
}

enum status shard_decode_search_request(struct bytes body, struct bytes rows, struct arena *arena,
                                        struct shard_search_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        shard_unpack(&reco__shard__v1__search_request__descriptor, body, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__SearchRequest *raw = (const void *)found;
    status = check_search(raw, rows, why);
    if (status != STATUS_OK)
        return status;

    struct wire_memory memory = {arena, STATUS_OK};
    size_t count = (size_t)raw->row_count * raw->dimension;
    float *values = wire_array(&memory, count, sizeof(*values));
    const struct text *all = wire_texts(&memory, raw->all_tags, raw->n_all_tags);
    const struct text *any = wire_texts(&memory, raw->any_tags, raw->n_any_tags);
    const struct text *no = wire_texts(&memory, raw->no_tags, raw->n_no_tags);
    status = wire_finish(&memory, why);
    if (status != STATUS_OK)
        return status;
    memcpy(values, rows.data, rows.count);
    if (!embedding_is_finite(values, count))
        return reason_set(why, STATUS_INVALID, "rows",
                          "a NaN or an infinity among %zu numbers; not allowed", count);

    *out = (struct shard_search_request){
        .generation = raw->generation,
        .modality = (enum modality)raw->modality,
        .dimension = raw->dimension,
        .row_count = raw->row_count,
        .k = raw->k,
        .want_payload = raw->want_payload,
        .exclude_ids = raw->exclude_ids,
        .exclude_count = raw->n_exclude_ids,
        .all_tags = all,
        .all_count = raw->n_all_tags,
        .any_tags = any,
        .any_count = raw->n_any_tags,
        .no_tags = no,
        .no_count = raw->n_no_tags,
        .only_ids = raw->only_ids,
        .only_count = raw->n_only_ids,
        .has_only_ids = raw->has_only_ids,
        .index_mode = (enum shard_index)raw->index_mode,
        .probes = raw->probes,
        .target_recall = raw->target_recall,
        .nodes = raw->nodes,
        .rows = values,
    };
    return STATUS_OK;
}

enum status shard_encode_search_reply(const struct shard_search_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__SearchReply raw;
    reco__shard__v1__search_reply__init(&raw);
    raw.counts = wire_borrow(message->counts);
    raw.n_counts = message->row_count;
    raw.ids = wire_borrow(message->ids);
    raw.n_ids = message->hit_count;
    raw.scores = wire_borrow(message->scores);
    raw.n_scores = message->hit_count;
    raw.pair_scores = wire_borrow(message->pair_scores);
    raw.n_pair_scores = message->hit_count;
    raw.records = message->records;
    raw.queue_us = message->queue_us;
    raw.search_us = message->search_us;
    raw.vshards = message->vshards;
    raw.exact = message->exact;
    raw.lists_probed = message->lists_probed;
    raw.codes_scanned = message->codes_scanned;
    raw.rows_refined = message->rows_refined;
    raw.rows_read = message->rows_read;
    return wire_pack(&memory, &raw.base, out);
}

static enum status check_hits(const Reco__Shard__V1__SearchReply *raw, struct reason *why)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < raw->n_counts; i++) {
        enum status status = wire_check_uint("counts", raw->counts[i], 0, K_WIRE_MAX, why);
        if (status != STATUS_OK)
            return status;
        sum += raw->counts[i];
    }
    enum status status = wire_check_count("ids", raw->n_ids, (size_t)sum, false, why);
    if (status == STATUS_OK)
        status = wire_check_count("scores", raw->n_scores, raw->n_ids, false, why);
    if (status == STATUS_OK)
        status = wire_check_count("pair_scores", raw->n_pair_scores, raw->n_ids, false, why);
    if (status == STATUS_OK)
        status = wire_check_uint("vshards", raw->vshards, 0, VSHARDS_MAX, why);
    if (status == STATUS_OK)
        status = wire_check_uint("exact", raw->exact, 0, 1, why);
    return status;
}

// Rows of equal length for each of `count` records, at most `per_record` embeddings each.
static enum status check_row_lengths(struct bytes rows, size_t count, size_t per_record,
                                     struct reason *why)
{
    if (rows.count == 0)
        return STATUS_OK;

    size_t unit = count * sizeof(uint16_t);
    size_t most = unit * DIMENSION_MAX * per_record;
    if (unit == 0 || rows.count % unit != 0 || rows.count > most)
        return reason_set(why, STATUS_INVALID, "rows",
                          "%zu bytes for %zu records; allowed: a multiple of %zu, at most %zu",
                          rows.count, count, unit, most);
    return wire_check_halves("rows", rows, rows.count, why);
}

enum status shard_decode_search_reply(struct bytes body, struct bytes rows, struct arena *arena,
                                      struct shard_search_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        shard_unpack(&reco__shard__v1__search_reply__descriptor, body, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__SearchReply *raw = (const void *)found;
    status = check_hits(raw, why);
    if (status == STATUS_OK)
        status = check_row_lengths(rows, raw->n_ids, 1, why);
    if (status != STATUS_OK)
        return status;

    struct wire_memory memory = {arena, STATUS_OK};
    const uint16_t *payload = shard_halves(&memory, rows);
    status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = (struct shard_search_reply){
            .counts = raw->counts,
            .row_count = raw->n_counts,
            .ids = raw->ids,
            .scores = raw->scores,
            .pair_scores = raw->pair_scores,
            .hit_count = raw->n_ids,
            .records = raw->records,
            .queue_us = raw->queue_us,
            .search_us = raw->search_us,
            .vshards = raw->vshards,
            .exact = raw->exact == 1,
            .lists_probed = raw->lists_probed,
            .codes_scanned = raw->codes_scanned,
            .rows_refined = raw->rows_refined,
            .rows_read = raw->rows_read,
            .payload = payload,
        };
    return status;
}

// --- FETCH

size_t shard_tag_count(struct text joined)
{
    size_t count = joined.bytes > 0 ? 1 : 0;
    for (size_t i = 0; i < joined.bytes; i++)
        count += joined.data[i] == SHARD_TAG_SEPARATOR;
    return count;
}

void shard_split_tags(struct text joined, struct text *out)
{
    size_t begun = 0;
    for (size_t i = 0; i <= joined.bytes && joined.bytes > 0; i++) {
        if (i < joined.bytes && joined.data[i] != SHARD_TAG_SEPARATOR)
            continue;
        *out++ = (struct text){joined.data + begun, i - begun};
        begun = i + 1;
    }
}

enum status shard_encode_fetch_request(const struct shard_fetch_request *message,
                                       struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__FetchRequest raw;
    reco__shard__v1__fetch_request__init(&raw);
    raw.generation = message->generation;
    raw.ids = wire_borrow(message->ids);
    raw.n_ids = message->count;
    raw.want_documents = message->want_documents;
    raw.want_image_rows = message->want_image_rows;
    raw.want_text_rows = message->want_text_rows;
    raw.document_parts = message->document_parts;
    return wire_pack(&memory, &raw.base, out);
}

enum status shard_decode_fetch_request(struct bytes body, struct bytes rows, struct arena *arena,
                                       struct shard_fetch_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status = shard_unpack_alone(&reco__shard__v1__fetch_request__descriptor, body, rows,
                                            arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__FetchRequest *raw = (const void *)found;
    status = wire_check_uint("document_parts", raw->document_parts, 0, SHARD_DOCUMENT_ALL, why);
    if (status != STATUS_OK)
        return status;
    *out = (struct shard_fetch_request){
        .generation = raw->generation,
        .ids = raw->ids,
        .count = raw->n_ids,
        .want_documents = raw->want_documents,
        .want_image_rows = raw->want_image_rows,
        .want_text_rows = raw->want_text_rows,
        .document_parts = raw->document_parts,
    };
    return STATUS_OK;
}

enum status shard_encode_fetch_reply(const struct shard_fetch_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__FetchReply raw;
    reco__shard__v1__fetch_reply__init(&raw);
    size_t documents = message->keys ? message->count : 0;
    raw.found = wire_borrow(message->found);
    raw.n_found = message->count;
    raw.keys = wire_put_texts(&memory, message->keys, documents);
    raw.n_keys = documents;
    raw.captions = wire_put_texts(&memory, message->captions, documents);
    raw.n_captions = documents;
    raw.sources = wire_put_texts(&memory, message->sources, documents);
    raw.n_sources = documents;
    raw.tags = wire_put_texts(&memory, message->tags, documents);
    raw.n_tags = documents;
    return wire_pack(&memory, &raw.base, out);
}

static enum status check_fetched(const Reco__Shard__V1__FetchReply *raw, struct reason *why)
{
    for (size_t i = 0; i < raw->n_found; i++) {
        enum status status = wire_check_uint("found", raw->found[i], 0, SHARD_FOUND_HIDDEN, why);
        if (status != STATUS_OK)
            return status;
    }
    enum status status = wire_check_count("keys", raw->n_keys, raw->n_found, true, why);
    if (status == STATUS_OK)
        status = wire_check_count("captions", raw->n_captions, raw->n_keys, false, why);
    if (status == STATUS_OK)
        status = wire_check_count("sources", raw->n_sources, raw->n_keys, false, why);
    if (status == STATUS_OK)
        status = wire_check_count("tags", raw->n_tags, raw->n_keys, false, why);
    return status;
}

enum status shard_decode_fetch_reply(struct bytes body, struct bytes rows, struct arena *arena,
                                     struct shard_fetch_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        shard_unpack(&reco__shard__v1__fetch_reply__descriptor, body, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__FetchReply *raw = (const void *)found;
    status = check_fetched(raw, why);
    if (status == STATUS_OK)
        status = check_row_lengths(rows, raw->n_found, IMAGE_AND_TEXT, why);
    if (status != STATUS_OK)
        return status;

    struct wire_memory memory = {arena, STATUS_OK};
    struct shard_fetch_reply reply = {
        .count = raw->n_found,
        .found = raw->found,
        .keys = wire_texts(&memory, raw->keys, raw->n_keys),
        .captions = wire_texts(&memory, raw->captions, raw->n_captions),
        .sources = wire_texts(&memory, raw->sources, raw->n_sources),
        .tags = wire_texts(&memory, raw->tags, raw->n_tags),
        .rows = shard_halves(&memory, rows),
    };
    status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = reply;
    return status;
}
