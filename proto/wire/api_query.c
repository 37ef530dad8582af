// SPDX-License-Identifier: Apache-2.0
// Search, Refiner and Classifier requests: one struct of ours, five messages on the wire. Each
// message is turned into its parts (struct parts), and the parts into ours, or the reverse.

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/wire/api_internal.h"

// The members that the request messages have in common, wherever they lie in each.
#define DEDUP_MIN 0.5f // below, records have little in common

struct parts {
    enum api_input input;
    ProtobufCBinaryData image;
    char *text;
    const Reco__V1__FloatVector *embedding;
    const Reco__V1__QueryOptions *options;
};

// --- options

// How far the index is looked into. The wire has room for one of the three only.
static enum status check_effort(const struct api_options *options, struct reason *why)
{
    const char *given = NULL;
    if (options->nprobe > 0)
        given = "options.nprobe";
    else if (options->approx != API_APPROX_DEFAULT)
        given = "options.approx";
    else if (options->target_recall < 0 || options->target_recall > 0)
        given = "options.target_recall";
    if (given && options->index == API_INDEX_EXACT)
        return reason_set(why, STATUS_INVALID, given,
                          "given together with an exact search, which looks into everything; "
                          "allowed: with index auto or ivf");

    enum status status = wire_check_uint("options.nprobe", options->nprobe, 0, PROBES_MAX, why);
    if (status == STATUS_OK)
        status = wire_check_recall("options.target_recall", options->target_recall, why);
    return status;
}

static enum status check_options(const struct api_options *options, struct reason *why)
{
    if (options->k == 0)
        return reason_set(why, STATUS_INVALID, "options.k", "required: 1..%d", K_MAX);

    enum status status = wire_check_uint("options.k", options->k, 1, K_MAX, why);
    if (status != STATUS_OK)
        return status;
    status = wire_check_float("options.min_similarity", options->min_similarity, -1, 1, why);
    if (status != STATUS_OK)
        return status;
    status = wire_check_float("options.min_coverage", options->min_coverage, 0, 1, why);
    if (status != STATUS_OK)
        return status;
    status =
        wire_check_float("options.min_pair_similarity", options->min_pair_similarity, -1, 1, why);
    if (status != STATUS_OK)
        return status;
    // Written so that a NaN fails too.
    if (!(options->dedup >= 0 && options->dedup <= 0) &&
        !(options->dedup >= DEDUP_MIN && options->dedup <= 1))
        return reason_set(why, STATUS_INVALID, "options.dedup", "%g; allowed: 0 or %g..1",
                          (double)options->dedup, (double)DEDUP_MIN);
    return check_effort(options, why);
}

// `raw` NULL: the client left the options out.
static enum status read_options(struct wire_memory *memory, const Reco__V1__QueryOptions *raw,
                                struct api_options *out, struct reason *why)
{
    Reco__V1__QueryOptions none;
    reco__v1__query_options__init(&none);
    if (!raw)
        raw = &none;

    *out = (struct api_options){
        .memory = wire_text(raw->memory),
        .k = raw->k,
        .over = (enum api_modality)raw->over,
        .fusion = (enum api_fusion)raw->fusion,
        .min_similarity = raw->min_similarity,
        .min_coverage = raw->min_coverage,
        .exclude_keys = wire_texts(memory, raw->exclude_keys, raw->n_exclude_keys),
        .exclude_count = raw->n_exclude_keys,
        .index = (enum api_index)raw->index,
        .profile = (enum api_profile)raw->profile,
        .min_pair_similarity = raw->min_pair_similarity,
        .dedup = raw->dedup,
    };
    if (raw->effort_case == RECO__V1__QUERY_OPTIONS__EFFORT_NPROBE)
        out->nprobe = raw->nprobe;
    else if (raw->effort_case == RECO__V1__QUERY_OPTIONS__EFFORT_TARGET_RECALL)
        out->target_recall = raw->target_recall;
    else if (raw->effort_case == RECO__V1__QUERY_OPTIONS__EFFORT_APPROX)
        out->approx = (enum api_approx)raw->approx;
    api_read_filter(memory, raw->filter, &out->filter);
    enum status status =
        api_read_fields("options.fields", raw->fields, raw->n_fields, &out->fields, why);
    return status == STATUS_OK ? check_options(out, why) : status;
}

static void write_effort(const struct api_options *options, Reco__V1__QueryOptions *raw)
{
    if (options->nprobe > 0) {
        raw->effort_case = RECO__V1__QUERY_OPTIONS__EFFORT_NPROBE;
        raw->nprobe = options->nprobe;
    } else if (options->approx != API_APPROX_DEFAULT) {
        raw->effort_case = RECO__V1__QUERY_OPTIONS__EFFORT_APPROX;
        raw->approx = (Reco__V1__Approx)options->approx;
    } else if (options->target_recall < 0 || options->target_recall > 0) {
        raw->effort_case = RECO__V1__QUERY_OPTIONS__EFFORT_TARGET_RECALL;
        raw->target_recall = options->target_recall;
    }
}

static void write_options(struct wire_memory *memory, const struct api_options *options,
                          Reco__V1__QueryOptions *raw)
{
    reco__v1__query_options__init(raw);
    raw->memory = wire_put_text(memory, options->memory);
    raw->k = options->k;
    raw->over = (Reco__V1__Modality)options->over;
    raw->fusion = (Reco__V1__Fusion)options->fusion;
    raw->min_similarity = options->min_similarity;
    raw->min_coverage = options->min_coverage;
    raw->exclude_keys = wire_put_texts(memory, options->exclude_keys, options->exclude_count);
    raw->n_exclude_keys = options->exclude_count;
    raw->index = (Reco__V1__Index)options->index;
    raw->profile = (Reco__V1__Profile)options->profile;
    raw->min_pair_similarity = options->min_pair_similarity;
    raw->filter = api_write_filter(memory, &options->filter);
    raw->dedup = options->dedup;
    raw->fields = wire_array(memory, RECORD_FIELDS_MAX, sizeof(*raw->fields));
    raw->n_fields = raw->fields ? api_write_fields(options->fields, raw->fields) : 0;
    write_effort(options, raw);
}

// --- labels

static bool has_one_slot(struct text template)
{
    size_t slots = 0;
    for (size_t i = 0; i + 1 < template.bytes; i++)
        slots += template.data[i] == '{' && template.data[i + 1] == '}';
    return slots == 1;
}

// Each has exactly one {}.
static enum status check_templates(const struct text *templates, size_t count, struct reason *why)
{
    for (size_t i = 0; i < count; i++) {
        if (has_one_slot(templates[i]))
            continue;

        char field[REASON_FIELD_BYTES];
        (void)snprintf(field, sizeof(field), "templates[%zu]", i);
        return reason_set(why, STATUS_INVALID, field, "\"%s\"; allowed: a text with exactly one {}",
                          templates[i].data);
    }
    return STATUS_OK;
}

static bool is_hexadecimal(struct text text)
{
    for (size_t i = 0; i < text.bytes; i++)
        if (!strchr("0123456789abcdef", text.data[i]))
            return false;
    return true;
}

static enum status check_label_question(const struct api_query_request *query, struct reason *why)
{
    struct text id = query->label_set_id;
    if (id.bytes > 0 && (id.bytes != LABEL_SET_ID_BYTES || !is_hexadecimal(id)))
        return reason_set(why, STATUS_INVALID, "label_set_id",
                          "\"%s\"; allowed: %d lower-case hexadecimal digits", id.data,
                          LABEL_SET_ID_BYTES);
    if (id.bytes == 0 && query->label_count == 0)
        return reason_set(why, STATUS_INVALID, "labels",
                          "required: 1..%d labels, or a label_set_id", LABELS_MAX);
    if (id.bytes > 0 && (query->label_count > 0 || query->template_count > 0))
        return reason_set(why, STATUS_INVALID, "label_set_id",
                          "given together with labels or templates; allowed: one of the two");

    enum status status = wire_check_uint("top", query->top, 0, LABELS_MAX, why);
    if (status != STATUS_OK)
        return status;
    return check_templates(query->templates, query->template_count, why);
}

// --- decoding

static struct parts parts_of_search(const Reco__V1__SearchRequest *raw)
{
    struct parts parts = {.options = raw->options};
    if (raw->input_case == RECO__V1__SEARCH_REQUEST__INPUT_IMAGE) {
        parts.input = API_INPUT_IMAGE;
        parts.image = raw->image;
    } else if (raw->input_case == RECO__V1__SEARCH_REQUEST__INPUT_TEXT) {
        parts.input = API_INPUT_TEXT;
        parts.text = raw->text;
    } else if (raw->input_case == RECO__V1__SEARCH_REQUEST__INPUT_EMBEDDING) {
        parts.input = API_INPUT_EMBEDDING;
        parts.embedding = raw->embedding;
    }
    return parts;
}

static struct parts parts_of_classify(const Reco__V1__ClassifyRequest *raw)
{
    struct parts parts = {.options = raw->options};
    if (raw->input_case == RECO__V1__CLASSIFY_REQUEST__INPUT_IMAGE) {
        parts.input = API_INPUT_IMAGE;
        parts.image = raw->image;
    } else if (raw->input_case == RECO__V1__CLASSIFY_REQUEST__INPUT_EMBEDDING) {
        parts.input = API_INPUT_EMBEDDING;
        parts.embedding = raw->embedding;
    }
    return parts;
}

// A SearchRequest is the question of these two.
static bool asks_as_search(enum api_method method)
{
    return method == API_SEARCH || method == API_REFINE_STREAM;
}

static enum status read_part(const Reco__V1__QueryPart *raw, size_t index,
                             struct api_query_part *out, struct reason *why)
{
    char field[REASON_FIELD_BYTES];
    *out = (struct api_query_part){.weight = raw->weight};
    if (raw->input_case == RECO__V1__QUERY_PART__INPUT_IMAGE) {
        out->input = API_INPUT_IMAGE;
        out->image = wire_bytes(raw->image);
    } else if (raw->input_case == RECO__V1__QUERY_PART__INPUT_TEXT) {
        out->input = API_INPUT_TEXT;
        out->text = wire_text(raw->text);
    } else if (raw->input_case == RECO__V1__QUERY_PART__INPUT_EMBEDDING) {
        out->input = API_INPUT_EMBEDDING;
        out->embedding = raw->embedding->values;
        out->embedding_count = raw->embedding->n_values;
        out->embedding_modality = (enum api_modality)raw->embedding->modality;
    } else {
        (void)snprintf(field, sizeof(field), "parts[%zu].input", index);
        return reason_set(why, STATUS_INVALID, field, "required: an image, a text or an embedding");
    }
    bool is_zero = out->weight >= 0 && out->weight <= 0;
    if (!is_zero && out->weight >= -QUERY_WEIGHT_MAX && out->weight <= QUERY_WEIGHT_MAX)
        return STATUS_OK;
    (void)snprintf(field, sizeof(field), "parts[%zu].weight", index);
    return reason_set(why, STATUS_INVALID, field, "%g; allowed: -%d..%d, but not 0",
                      (double)out->weight, QUERY_WEIGHT_MAX, QUERY_WEIGHT_MAX);
}

static enum status read_parts(struct wire_memory *memory, const Reco__V1__SearchRequest *raw,
                              struct api_query_request *out, struct reason *why)
{
    if (raw->n_parts == 0)
        return STATUS_OK;
    if (raw->input_case != RECO__V1__SEARCH_REQUEST__INPUT__NOT_SET)
        return reason_set(why, STATUS_INVALID, "parts",
                          "given together with an input; allowed: one of the two");
    struct api_query_part *parts = wire_array(memory, raw->n_parts, sizeof(*parts));
    for (size_t i = 0; parts && i < raw->n_parts; i++) {
        enum status status = read_part(raw->parts[i], i, &parts[i], why);
        if (status != STATUS_OK)
            return status;
    }
    out->input = API_INPUT_PARTS;
    out->parts = parts;
    out->part_count = raw->n_parts;
    return STATUS_OK;
}

static const ProtobufCMessageDescriptor *request_type(enum api_method method)
{
    if (asks_as_search(method))
        return &reco__v1__search_request__descriptor;
    if (method == API_REFINE_IMAGE)
        return &reco__v1__refine_image_request__descriptor;
    if (method == API_REFINE_TEXT)
        return &reco__v1__refine_text_request__descriptor;
    if (method == API_REFINE_EMBEDDING)
        return &reco__v1__refine_embedding_request__descriptor;

    if (method == API_DISCOVER_LABELS)
        return &reco__v1__discover_labels_request__descriptor;

    assert(method == API_CLASSIFY || method == API_EXPLAIN);
    return &reco__v1__classify_request__descriptor;
}

static struct parts parts_of_discover(const Reco__V1__DiscoverLabelsRequest *raw)
{
    struct parts parts = {.options = raw->options};
    if (raw->input_case == RECO__V1__DISCOVER_LABELS_REQUEST__INPUT_IMAGE) {
        parts.input = API_INPUT_IMAGE;
        parts.image = raw->image;
    } else if (raw->input_case == RECO__V1__DISCOVER_LABELS_REQUEST__INPUT_EMBEDDING) {
        parts.input = API_INPUT_EMBEDDING;
        parts.embedding = raw->embedding;
    }
    return parts;
}

static struct parts parts_of(enum api_method method, const void *message)
{
    if (method == API_DISCOVER_LABELS)
        return parts_of_discover(message);
    if (asks_as_search(method))
        return parts_of_search(message);
    if (method == API_REFINE_IMAGE) {
        const Reco__V1__RefineImageRequest *raw = message;
        return (struct parts){
            .input = API_INPUT_IMAGE, .image = raw->image, .options = raw->options};
    }
    if (method == API_REFINE_TEXT) {
        const Reco__V1__RefineTextRequest *raw = message;
        return (struct parts){.input = API_INPUT_TEXT, .text = raw->text, .options = raw->options};
    }
    if (method == API_REFINE_EMBEDDING) {
        const Reco__V1__RefineEmbeddingRequest *raw = message;
        return (struct parts){
            .input = raw->embedding ? API_INPUT_EMBEDDING : API_INPUT_NONE,
            .embedding = raw->embedding,
            .options = raw->options,
        };
    }
    return parts_of_classify(message);
}

static enum status refuse_no_input(enum api_method method, struct reason *why)
{
    if (method == API_REFINE_EMBEDDING)
        return reason_set(why, STATUS_INVALID, "embedding", "required: 1..%d floats",
                          DIMENSION_MAX);
    return reason_set(why, STATUS_INVALID, "input", "required: an image%s or an embedding",
                      asks_as_search(method) ? ", a text, parts" : "");
}

enum status api_decode_query(enum api_method method, struct bytes message, struct arena *arena,
                             struct api_query_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *raw = NULL;
    enum status status = api_unpack(request_type(method), message, arena, &raw, why);
    if (status != STATUS_OK)
        return status;

    struct parts parts = parts_of(method, raw);
    struct wire_memory memory = {arena, STATUS_OK};
    struct api_query_request query = {
        .input = parts.input,
        .image = wire_bytes(parts.image),
        .text = wire_text(parts.text),
    };
    if (asks_as_search(method)) {
        status = read_parts(&memory, (const void *)raw, &query, why);
        if (status != STATUS_OK)
            return status;
    }
    if (query.input == API_INPUT_NONE)
        return refuse_no_input(method, why);
    if (parts.embedding) {
        query.embedding = parts.embedding->values;
        query.embedding_count = parts.embedding->n_values;
        query.embedding_modality = (enum api_modality)parts.embedding->modality;
    }
    status = read_options(&memory, parts.options, &query.options, why);
    if (status != STATUS_OK)
        return status;

    if (method == API_CLASSIFY || method == API_EXPLAIN) {
        const Reco__V1__ClassifyRequest *classify = (const void *)raw;
        query.label_set_id = wire_text(classify->label_set_id);
        query.labels = wire_texts(&memory, classify->labels, classify->n_labels);
        query.label_count = classify->n_labels;
        query.templates = wire_texts(&memory, classify->templates, classify->n_templates);
        query.template_count = classify->n_templates;
        query.top = classify->top;
    }

    if (method == API_DISCOVER_LABELS) {
        const Reco__V1__DiscoverLabelsRequest *discover = (const void *)raw;
        query.top = discover->top;
        query.candidates_max = discover->candidates_max;
        status = wire_check_uint("top", query.top, 0, CANDIDATES_MAX, why);
        if (status == STATUS_OK)
            status =
                wire_check_uint("candidates_max", query.candidates_max, 0, CANDIDATES_MAX, why);
        if (status != STATUS_OK)
            return status;
    }

    status = wire_finish(&memory, why);
    if (status == STATUS_OK && request_type(method) == &reco__v1__classify_request__descriptor)
        status = check_label_question(&query, why);
    if (status == STATUS_OK)
        *out = query;
    return status;
}

// --- encoding

static void write_embedding(const struct api_query_request *query, Reco__V1__FloatVector *raw)
{
    reco__v1__float_vector__init(raw);
    raw->values = wire_borrow(query->embedding);
    raw->n_values = query->embedding_count;
    raw->modality = (Reco__V1__Modality)query->embedding_modality;
}

static Reco__V1__QueryPart **write_parts(struct wire_memory *memory,
                                         const struct api_query_request *query)
{
    size_t count = query->part_count;
    Reco__V1__QueryPart **list = wire_array(memory, count, sizeof(Reco__V1__QueryPart *));
    Reco__V1__QueryPart *raw = wire_array(memory, count, sizeof(*raw));
    Reco__V1__FloatVector *vectors = wire_array(memory, count, sizeof(*vectors));
    for (size_t i = 0; list && raw && vectors && i < count; i++) {
        const struct api_query_part *part = &query->parts[i];
        reco__v1__query_part__init(&raw[i]);
        raw[i].weight = part->weight;
        if (part->input == API_INPUT_IMAGE) {
            raw[i].input_case = RECO__V1__QUERY_PART__INPUT_IMAGE;
            raw[i].image = wire_put_bytes(part->image);
        } else if (part->input == API_INPUT_TEXT) {
            raw[i].input_case = RECO__V1__QUERY_PART__INPUT_TEXT;
            raw[i].text = wire_put_text(memory, part->text);
        } else if (part->input == API_INPUT_EMBEDDING) {
            reco__v1__float_vector__init(&vectors[i]);
            vectors[i].values = wire_borrow(part->embedding);
            vectors[i].n_values = part->embedding_count;
            vectors[i].modality = (Reco__V1__Modality)part->embedding_modality;
            raw[i].input_case = RECO__V1__QUERY_PART__INPUT_EMBEDDING;
            raw[i].embedding = &vectors[i];
        }
        list[i] = &raw[i];
    }
    return raw && vectors ? list : NULL;
}

static enum status encode_search(const struct api_query_request *query, struct buffer *out)
{
    struct wire_memory memory = wire_begin();
    Reco__V1__SearchRequest raw;
    reco__v1__search_request__init(&raw);
    Reco__V1__FloatVector vector;
    Reco__V1__QueryOptions options;
    write_options(&memory, &query->options, &options);
    raw.options = &options;

    if (query->input == API_INPUT_IMAGE) {
        raw.input_case = RECO__V1__SEARCH_REQUEST__INPUT_IMAGE;
        raw.image = wire_put_bytes(query->image);
    } else if (query->input == API_INPUT_TEXT) {
        raw.input_case = RECO__V1__SEARCH_REQUEST__INPUT_TEXT;
        raw.text = wire_put_text(&memory, query->text);
    } else if (query->input == API_INPUT_EMBEDDING) {
        write_embedding(query, &vector);
        raw.input_case = RECO__V1__SEARCH_REQUEST__INPUT_EMBEDDING;
        raw.embedding = &vector;
    } else if (query->input == API_INPUT_PARTS) {
        raw.parts = write_parts(&memory, query);
        raw.n_parts = raw.parts ? query->part_count : 0;
    }
    return wire_pack(&memory, &raw.base, out);
}

static enum status encode_refine_image(const struct api_query_request *query, struct buffer *out)
{
    struct wire_memory memory = wire_begin();
    Reco__V1__RefineImageRequest raw;
    reco__v1__refine_image_request__init(&raw);
    Reco__V1__QueryOptions options;
    write_options(&memory, &query->options, &options);
    raw.options = &options;
    raw.image = wire_put_bytes(query->image);
    return wire_pack(&memory, &raw.base, out);
}

static enum status encode_refine_text(const struct api_query_request *query, struct buffer *out)
{
    struct wire_memory memory = wire_begin();
    Reco__V1__RefineTextRequest raw;
    reco__v1__refine_text_request__init(&raw);
    Reco__V1__QueryOptions options;
    write_options(&memory, &query->options, &options);
    raw.options = &options;
    raw.text = wire_put_text(&memory, query->text);
    return wire_pack(&memory, &raw.base, out);
}

static enum status encode_refine_embedding(const struct api_query_request *query,
                                           struct buffer *out)
{
    struct wire_memory memory = wire_begin();
    Reco__V1__RefineEmbeddingRequest raw;
    reco__v1__refine_embedding_request__init(&raw);
    Reco__V1__FloatVector vector;
    Reco__V1__QueryOptions options;
    write_options(&memory, &query->options, &options);
    raw.options = &options;
    if (query->input == API_INPUT_EMBEDDING) {
        write_embedding(query, &vector);
        raw.embedding = &vector;
    }
    return wire_pack(&memory, &raw.base, out);
}

static enum status encode_classify(const struct api_query_request *query, struct buffer *out)
{
    struct wire_memory memory = wire_begin();
    Reco__V1__ClassifyRequest raw;
    reco__v1__classify_request__init(&raw);
    Reco__V1__FloatVector vector;
    Reco__V1__QueryOptions options;
    write_options(&memory, &query->options, &options);
    raw.options = &options;

    if (query->input == API_INPUT_IMAGE) {
        raw.input_case = RECO__V1__CLASSIFY_REQUEST__INPUT_IMAGE;
        raw.image = wire_put_bytes(query->image);
    } else if (query->input == API_INPUT_EMBEDDING) {
        write_embedding(query, &vector);
        raw.input_case = RECO__V1__CLASSIFY_REQUEST__INPUT_EMBEDDING;
        raw.embedding = &vector;
    }
    raw.label_set_id = wire_put_text(&memory, query->label_set_id);
    raw.labels = wire_put_texts(&memory, query->labels, query->label_count);
    raw.n_labels = query->label_count;
    raw.templates = wire_put_texts(&memory, query->templates, query->template_count);
    raw.n_templates = query->template_count;
    raw.top = query->top;
    return wire_pack(&memory, &raw.base, out);
}

static enum status encode_discover(const struct api_query_request *query, struct buffer *out)
{
    struct wire_memory memory = wire_begin();
    Reco__V1__DiscoverLabelsRequest raw;
    reco__v1__discover_labels_request__init(&raw);
    Reco__V1__FloatVector vector;
    Reco__V1__QueryOptions options;
    write_options(&memory, &query->options, &options);
    raw.options = &options;
    if (query->input == API_INPUT_IMAGE) {
        raw.input_case = RECO__V1__DISCOVER_LABELS_REQUEST__INPUT_IMAGE;
        raw.image = wire_put_bytes(query->image);
    } else if (query->input == API_INPUT_EMBEDDING) {
        write_embedding(query, &vector);
        raw.input_case = RECO__V1__DISCOVER_LABELS_REQUEST__INPUT_EMBEDDING;
        raw.embedding = &vector;
    }
    raw.top = query->top;
    raw.candidates_max = query->candidates_max;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_encode_query(enum api_method method, const struct api_query_request *message,
                             struct buffer *out)
{
    assert(message);

    if (asks_as_search(method))
        return encode_search(message, out);
    if (method == API_REFINE_IMAGE)
        return encode_refine_image(message, out);
    if (method == API_REFINE_TEXT)
        return encode_refine_text(message, out);
    if (method == API_REFINE_EMBEDDING)
        return encode_refine_embedding(message, out);
    if (method == API_DISCOVER_LABELS)
        return encode_discover(message, out);

    assert(method == API_CLASSIFY || method == API_EXPLAIN);
    return encode_classify(message, out);
}

// --- CompileLabels

enum status api_encode_labels_request(const struct api_labels_request *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__CompileLabelsRequest raw;
    reco__v1__compile_labels_request__init(&raw);
    Reco__V1__QueryOptions options;
    write_options(&memory, &message->options, &options);
    raw.options = &options;
    raw.labels = wire_put_texts(&memory, message->labels, message->label_count);
    raw.n_labels = message->label_count;
    raw.templates = wire_put_texts(&memory, message->templates, message->template_count);
    raw.n_templates = message->template_count;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_labels_request(struct bytes message, struct arena *arena,
                                      struct api_labels_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__compile_labels_request__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__CompileLabelsRequest *raw = (const void *)found;
    struct wire_memory memory = {arena, STATUS_OK};
    struct api_labels_request request = {
        .labels = wire_texts(&memory, raw->labels, raw->n_labels),
        .label_count = raw->n_labels,
        .templates = wire_texts(&memory, raw->templates, raw->n_templates),
        .template_count = raw->n_templates,
    };
    status = read_options(&memory, raw->options, &request.options, why);
    if (status == STATUS_OK)
        status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        status = check_templates(request.templates, request.template_count, why);
    if (status == STATUS_OK)
        *out = request;
    return status;
}
