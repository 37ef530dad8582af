// SPDX-License-Identifier: Apache-2.0
// Requests in JSON. Only what a reader of JSON must know is checked here: names, types, words,
// base64. Ranges and maxima are checked where every request is, in api_decode_query(): what is read
// here goes there as bytes.

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/words.h"
#include "proto/wire/api_json.h"

#define NAMES_MAX 16
#define K_DEFAULT 10
#define SHOWN_BYTES 48

struct reader {
    struct arena *arena;
    struct reason *why;
    const char *const *names; // of the whole document's members
};

// What was sent, short enough for an error.
static const char *shown(const struct json *value, char text[SHOWN_BYTES])
{
    double number = 0;
    if (json_double(value, &number))
        (void)snprintf(text, SHOWN_BYTES, "%.10g", number);
    else if (json_is_text(value))
        (void)snprintf(text, SHOWN_BYTES, "\"%.32s\"", json_text(value).data);
    else if (json_is_bool(value))
        (void)snprintf(text, SHOWN_BYTES, "%s", json_bool(value, false) ? "true" : "false");
    else if (json_is_array(value) || json_is_object(value))
        (void)snprintf(text, SHOWN_BYTES, "%s of %zu", json_is_array(value) ? "array" : "object",
                       json_count(value));
    else
        (void)snprintf(text, SHOWN_BYTES, "%s", value ? "null" : "nothing");
    return text;
}

static enum status wrong(struct reader *reader, const struct json *value, const char *field,
                         const char *allowed)
{
    char text[SHOWN_BYTES];
    return reason_set(reader->why, STATUS_INVALID, field, "%s; allowed: %s", shown(value, text),
                      allowed);
}

static enum status no_memory(struct reader *reader, const char *field)
{
    return reason_set(reader->why, STATUS_NO_MEMORY, field, "no memory for it");
}

static const char *const option_names[] = {"memory",
                                           "k",
                                           "over",
                                           "fusion",
                                           "min_similarity",
                                           "min_coverage",
                                           "exclude_keys",
                                           "index",
                                           "profile",
                                           "min_pair_similarity",
                                           "filter",
                                           "dedup",
                                           "fields",
                                           "nprobe",
                                           "target_recall",
                                           "approx",
                                           NULL};

static bool is_one_of(const char *name, const char *const *names)
{
    while (*names && strcmp(*names, name) != 0)
        names++;
    return *names != NULL;
}

// Every member of `object`, which stands at `where`, is one of `names`.
static enum status check_names(struct reader *reader, const struct json *object,
                               const char *const *names, const char *where)
{
    void *iterator = NULL;
    const char *name = NULL;
    const struct json *value = NULL;
    size_t count = 0;
    while (names[count])
        count++;
    assert(count <= NAMES_MAX);
    while (json_next(object, &iterator, &name, &value)) {
        if (is_one_of(name, names))
            continue;
        char field[REASON_FIELD_BYTES];
        (void)snprintf(field, sizeof(field), "%s%.40s", where, name);
        if (where[0] == '\0' && is_one_of(name, option_names))
            return reason_set(reader->why, STATUS_INVALID, field,
                              "belongs into \"options\": {\"options\": {\"%s\": ...}}", name);
        if (strcmp(where, "options.") == 0 && is_one_of(name, reader->names))
            return reason_set(reader->why, STATUS_INVALID, field,
                              "belongs beside \"options\", not into it");
        const char *near = words_nearest(name, names, count);
        if (near)
            return reason_set(reader->why, STATUS_INVALID, field,
                              "there is no such member; did you mean \"%s\"?", near);
        char all[REASON_TEXT_BYTES / 2] = "";
        size_t used = 0;
        for (size_t i = 0; i < count && used < sizeof(all); i++)
            used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i > 0 ? ", " : "",
                                     names[i]);
        return reason_set(reader->why, STATUS_INVALID, field,
                          "there is no such member; allowed: %s", all);
    }
    return STATUS_OK;
}

// ---------------------------------------------------------------- values; absent ones change nothing

static enum status read_text(struct reader *reader, const struct json *value, const char *field,
                             struct text *out)
{
    if (!value)
        return STATUS_OK;
    if (!json_is_text(value))
        return wrong(reader, value, field, "a text");
    *out = json_text(value);
    return STATUS_OK;
}

static enum status read_count(struct reader *reader, const struct json *value, const char *field,
                              uint32_t *out)
{
    int64_t number = 0;
    if (!value)
        return STATUS_OK;
    if (!json_int(value, &number) || number < 0 || number > (int64_t)UINT32_MAX)
        return wrong(reader, value, field, "a whole number of 0..4294967295");
    *out = (uint32_t)number;
    return STATUS_OK;
}

static enum status read_float(struct reader *reader, const struct json *value, const char *field,
                              float *out)
{
    double number = 0;
    if (!value)
        return STATUS_OK;
    if (!json_double(value, &number) || !(fabs(number) <= (double)FLT_MAX))
        return wrong(reader, value, field, "a number of -3.4e38..3.4e38");
    *out = (float)number;
    return STATUS_OK;
}

// `words`: "a|b|c"; the number of the first is 1.
static enum status read_word(struct reader *reader, const struct json *value, const char *field,
                             const char *words, int *out)
{
    char word[32];
    if (!value)
        return STATUS_OK;
    struct text text = json_text(value);
    if (!text.data || text.bytes >= sizeof(word))
        return wrong(reader, value, field, words);
    memcpy(word, text.data, text.bytes);
    word[text.bytes] = '\0';
    int place = words_place(word, words);
    if (place < 0)
        return reason_set(reader->why, STATUS_INVALID, field, "\"%s\"; allowed: %s", word, words);
    *out = place + 1;
    return STATUS_OK;
}

static enum status read_texts(struct reader *reader, const struct json *value, const char *field,
                              const struct text **out, size_t *out_count)
{
    if (!value)
        return STATUS_OK;
    if (!json_is_array(value))
        return wrong(reader, value, field, "an array of texts");
    size_t count = json_count(value);
    struct text *texts = arena_alloc_array(reader->arena, count, sizeof(*texts));
    if (!texts)
        return no_memory(reader, field);
    for (size_t i = 0; i < count; i++) {
        const struct json *element = json_element(value, i);
        if (!json_is_text(element)) {
            char name[REASON_FIELD_BYTES];
            (void)snprintf(name, sizeof(name), "%.40s[%zu]", field, i);
            return wrong(reader, element, name, "a text");
        }
        texts[i] = json_text(element);
    }
    *out = texts;
    *out_count = count;
    return STATUS_OK;
}

static enum status read_floats(struct reader *reader, const struct json *value, const char *field,
                               const float **out, size_t *out_count)
{
    if (!json_is_array(value) || json_count(value) == 0)
        return wrong(reader, value, field, "an array of numbers");
    size_t count = json_count(value);
    float *floats = arena_alloc_array(reader->arena, count, sizeof(*floats));
    if (!floats)
        return no_memory(reader, field);
    for (size_t i = 0; i < count; i++) {
        char name[REASON_FIELD_BYTES];
        (void)snprintf(name, sizeof(name), "%.40s[%zu]", field, i);
        enum status status = read_float(reader, json_element(value, i), name, &floats[i]);
        if (status != STATUS_OK)
            return status;
    }
    *out = floats;
    *out_count = count;
    return STATUS_OK;
}

// ---------------------------------------------------------------- base64

// 0..63, or -1. Both alphabets of RFC 4648 are taken.
static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

static enum status read_base64(struct reader *reader, const struct json *value, const char *field,
                               struct bytes *out)
{
    static const char allowed[] = "base64 (RFC 4648) without line breaks";
    struct text text = json_text(value);
    if (!text.data)
        return wrong(reader, value, field, allowed);
    size_t digits = text.bytes;
    while (digits > 0 && text.bytes - digits < 2 && text.data[digits - 1] == '=')
        digits--;
    if (digits % 4 == 1 || (text.bytes > digits && text.bytes % 4 != 0))
        return reason_set(reader->why, STATUS_INVALID, field, "%zu characters; allowed: %s",
                          text.bytes, allowed);
    uint8_t *bytes = arena_alloc_array(reader->arena, digits + 1, 1);
    if (!bytes)
        return no_memory(reader, field);
    size_t count = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < digits; i++) {
        int digit = base64_digit(text.data[i]);
        if (digit < 0)
            return reason_set(
                reader->why, STATUS_INVALID, field,
                "character %zu is none of base64; allowed: the bytes of a picture, not "
                "its path, as %s",
                i, allowed);
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 != 0)
            bytes[count++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    *out = (struct bytes){bytes, count};
    return STATUS_OK;
}

// ---------------------------------------------------------------- messages

// An id is a whole number, as answers tell it. Readers of JSON often stop at 2^63: so a text is
// taken, too.
static bool read_id(const struct json *value, uint64_t *out)
{
    char digits[24];
    int64_t number = 0;
    struct text text = json_text(value);
    if (json_int(value, &number) && number >= 0) {
        *out = (uint64_t)number;
        return true;
    }
    if (!text.data || text.bytes >= sizeof(digits))
        return false;
    memcpy(digits, text.data, text.bytes);
    digits[text.bytes] = '\0';
    return words_read_count(digits, 0, UINT64_MAX, out);
}

static enum status read_ids(struct reader *reader, const struct json *value, const char *field,
                            const uint64_t **out, size_t *out_count)
{
    if (!value)
        return STATUS_OK;
    if (!json_is_array(value))
        return wrong(reader, value, field, "an array of ids");
    size_t count = json_count(value);
    uint64_t *ids = arena_alloc_array(reader->arena, count, sizeof(*ids));
    if (!ids)
        return no_memory(reader, field);
    for (size_t i = 0; i < count; i++) {
        char name[REASON_FIELD_BYTES];
        (void)snprintf(name, sizeof(name), "%.40s[%zu]", field, i);
        if (!read_id(json_element(value, i), &ids[i]))
            return wrong(reader, json_element(value, i), name, "a whole number, or one as a text");
    }
    *out = ids;
    *out_count = count;
    return STATUS_OK;
}

static enum status read_filter(struct reader *reader, const struct json *value,
                               struct api_filter *out)
{
    static const char *const names[] = {"all_tags", "any_tags", "no_tags", "keys", "ids", NULL};
    if (!value)
        return STATUS_OK;
    if (!json_is_object(value))
        return wrong(reader, value, "options.filter", "an object");
    enum status status = check_names(reader, value, names, "options.filter.");
    if (status == STATUS_OK)
        status = read_texts(reader, json_member(value, "all_tags"), "options.filter.all_tags",
                            &out->all_tags, &out->all_count);
    if (status == STATUS_OK)
        status = read_texts(reader, json_member(value, "any_tags"), "options.filter.any_tags",
                            &out->any_tags, &out->any_count);
    if (status == STATUS_OK)
        status = read_texts(reader, json_member(value, "no_tags"), "options.filter.no_tags",
                            &out->no_tags, &out->no_count);
    if (status == STATUS_OK)
        status = read_texts(reader, json_member(value, "keys"), "options.filter.keys", &out->keys,
                            &out->key_count);
    if (status == STATUS_OK)
        status = read_ids(reader, json_member(value, "ids"), "options.filter.ids", &out->ids,
                          &out->id_count);
    return status;
}

// The parts of a record that each neighbour is told with.
static enum status read_fields(struct reader *reader, const struct json *value, uint32_t *out)
{
    static const char words[] = "key|caption|source|tags|image_embedding|text_embedding|none";
    if (!value)
        return STATUS_OK;
    if (!json_is_array(value))
        return wrong(reader, value, "options.fields", words);
    for (size_t i = 0; i < json_count(value); i++) {
        int field = 0;
        enum status status =
            read_word(reader, json_element(value, i), "options.fields", words, &field);
        if (status != STATUS_OK)
            return status;
        *out |= 1u << field;
    }
    return STATUS_OK;
}

// The wire has room for one of them: a second one would be lost without a word.
static enum status check_effort(struct reader *reader, const struct json *options)
{
    static const char *const names[] = {"nprobe", "target_recall", "approx"};
    const char *first = NULL;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!json_member(options, names[i]))
            continue;
        char field[REASON_FIELD_BYTES];
        (void)snprintf(field, sizeof(field), "options.%s", names[i]);
        if (first)
            return reason_set(reader->why, STATUS_INVALID, field,
                              "given together with %s; allowed: one of nprobe, target_recall and "
                              "approx",
                              first);
        first = names[i];
    }
    return STATUS_OK;
}

static enum status read_options(struct reader *reader, const struct json *value,
                                struct api_options *out)
{
    out->k = K_DEFAULT;
    if (!value)
        return STATUS_OK;
    if (!json_is_object(value))
        return wrong(reader, value, "options", "an object");

    int over = 0;
    int fusion = 0;
    int index = 0;
    int profile = 0;
    int approx = 0;
    enum status status = check_names(reader, value, option_names, "options.");
    if (status == STATUS_OK)
        status = read_text(reader, json_member(value, "memory"), "options.memory", &out->memory);
    if (status == STATUS_OK)
        status = read_count(reader, json_member(value, "k"), "options.k", &out->k);
    if (status == STATUS_OK)
        status = read_word(reader, json_member(value, "over"), "options.over", "image|text", &over);
    if (status == STATUS_OK)
        status = read_word(reader, json_member(value, "fusion"), "options.fusion",
                           "none|mean|weighted|head", &fusion);
    if (status == STATUS_OK)
        status = read_float(reader, json_member(value, "min_similarity"), "options.min_similarity",
                            &out->min_similarity);
    if (status == STATUS_OK)
        status = read_float(reader, json_member(value, "min_coverage"), "options.min_coverage",
                            &out->min_coverage);
    if (status == STATUS_OK)
        status = read_texts(reader, json_member(value, "exclude_keys"), "options.exclude_keys",
                            &out->exclude_keys, &out->exclude_count);
    if (status == STATUS_OK)
        status = read_word(reader, json_member(value, "index"), "options.index", "auto|exact|ivf",
                           &index);
    if (status == STATUS_OK)
        status = read_word(reader, json_member(value, "profile"), "options.profile",
                           "reco|hf|openai", &profile);
    if (status == STATUS_OK)
        status = read_float(reader, json_member(value, "min_pair_similarity"),
                            "options.min_pair_similarity", &out->min_pair_similarity);
    if (status == STATUS_OK)
        status = read_float(reader, json_member(value, "dedup"), "options.dedup", &out->dedup);
    if (status == STATUS_OK)
        status = read_filter(reader, json_member(value, "filter"), &out->filter);
    if (status == STATUS_OK)
        status = read_fields(reader, json_member(value, "fields"), &out->fields);
    if (status == STATUS_OK)
        status = read_count(reader, json_member(value, "nprobe"), "options.nprobe", &out->nprobe);
    if (status == STATUS_OK)
        status = read_float(reader, json_member(value, "target_recall"), "options.target_recall",
                            &out->target_recall);
    if (status == STATUS_OK)
        status = read_word(reader, json_member(value, "approx"), "options.approx",
                           "fast|normal|accurate", &approx);
    if (status == STATUS_OK)
        status = check_effort(reader, value);
    out->over = (enum api_modality)over;
    out->fusion = (enum api_fusion)fusion;
    out->index = (enum api_index)(index > 0 ? index - 1 : 0);
    out->profile = (enum api_profile)(profile > 0 ? profile - 1 : 0);
    out->approx = (enum api_approx)approx;
    return status;
}

static enum status read_input(struct reader *reader, const struct json *document,
                              struct api_query_request *out)
{
    const struct json *image = json_member(document, "image");
    const struct json *text = json_member(document, "text");
    const struct json *embedding = json_member(document, "embedding");
    if ((image != NULL) + (text != NULL) + (embedding != NULL) > 1)
        return reason_set(reader->why, STATUS_INVALID, "input",
                          "more than one is given; allowed: one of image, text and embedding");
    if (image) {
        out->input = API_INPUT_IMAGE;
        return read_base64(reader, image, "image", &out->image);
    }
    if (text) {
        out->input = API_INPUT_TEXT;
        return read_text(reader, text, "text", &out->text);
    }
    if (!embedding)
        return STATUS_OK; // the server says what it needs
    int modality = 0;
    out->input = API_INPUT_EMBEDDING;
    enum status status =
        read_floats(reader, embedding, "embedding", &out->embedding, &out->embedding_count);
    if (status == STATUS_OK)
        status = read_word(reader, json_member(document, "embedding_modality"),
                           "embedding_modality", "image|text", &modality);
    out->embedding_modality = (enum api_modality)modality;
    return status;
}

static enum status read_part(struct reader *reader, const struct json *value,
                             struct api_query_part *out)
{
    static const char *const names[] = {"image",  "text", "embedding", "embedding_modality",
                                        "weight", NULL};
    struct api_query_request input = {.input = API_INPUT_NONE};
    float weight = 1;
    if (!json_is_object(value))
        return wrong(reader, value, "", "an object");
    enum status status = check_names(reader, value, names, "");
    if (status == STATUS_OK)
        status = read_input(reader, value, &input);
    if (status == STATUS_OK)
        status = read_float(reader, json_member(value, "weight"), "weight", &weight);
    *out = (struct api_query_part){
        .input = input.input,
        .image = input.image,
        .text = input.text,
        .embedding = input.embedding,
        .embedding_count = input.embedding_count,
        .embedding_modality = input.embedding_modality,
        .weight = weight,
    };
    return status;
}

// "parts" instead of one input.
static enum status read_parts(struct reader *reader, const struct json *value,
                              struct api_query_request *out)
{
    if (!value)
        return STATUS_OK;
    if (out->input != API_INPUT_NONE || !json_is_array(value) || json_count(value) == 0)
        return wrong(reader, value, "parts",
                     "an array of inputs with their weights, and no other input");
    size_t count = json_count(value);
    struct api_query_part *parts = arena_alloc_array(reader->arena, count, sizeof(*parts));
    if (!parts)
        return no_memory(reader, "parts");
    for (size_t i = 0; i < count; i++) {
        enum status status = read_part(reader, json_element(value, i), &parts[i]);
        if (status == STATUS_OK)
            continue;
        struct reason inner = *reader->why;
        char field[REASON_FIELD_BYTES];
        (void)snprintf(field, sizeof(field), "parts[%zu]%s%.30s", i, inner.field[0] ? "." : "",
                       inner.field);
        return reason_set(reader->why, status, field, "%s", inner.text);
    }
    out->input = API_INPUT_PARTS;
    out->parts = parts;
    out->part_count = count;
    return STATUS_OK;
}

static enum api_method method_of(enum api_json_verb verb, enum api_input input, bool explain)
{
    if (verb == API_JSON_SEARCH)
        return API_SEARCH;
    if (verb == API_JSON_CLASSIFY)
        return explain ? API_EXPLAIN : API_CLASSIFY;
    if (input == API_INPUT_TEXT)
        return API_REFINE_TEXT;
    return input == API_INPUT_EMBEDDING ? API_REFINE_EMBEDDING : API_REFINE_IMAGE;
}

static enum status read_labels(struct reader *reader, const struct json *document, bool *explain,
                               struct api_query_request *out)
{
    const struct json *wanted = json_member(document, "explain");
    if (wanted && !json_is_bool(wanted))
        return wrong(reader, wanted, "explain", "true, false");
    *explain = json_bool(wanted, false);
    enum status status = read_texts(reader, json_member(document, "labels"), "labels", &out->labels,
                                    &out->label_count);
    if (status == STATUS_OK)
        status = read_texts(reader, json_member(document, "templates"), "templates",
                            &out->templates, &out->template_count);
    if (status == STATUS_OK)
        status = read_text(reader, json_member(document, "label_set_id"), "label_set_id",
                           &out->label_set_id);
    if (status == STATUS_OK)
        status = read_count(reader, json_member(document, "top"), "top", &out->top);
    return status;
}

enum status api_json_read_query(enum api_json_verb verb, const struct json *document,
                                struct arena *arena, struct api_json_query *out, struct reason *why)
{
    static const char *const search_names[] = {
        "input", "image", "text", "embedding", "embedding_modality", "options", "parts", NULL};
    static const char *const refine_names[] = {
        "input", "image", "text", "embedding", "embedding_modality", "options", NULL};
    static const char *const classify_names[] = {
        "input",   "image",   "embedding", "embedding_modality",
        "options", "labels",  "templates", "label_set_id",
        "top",     "explain", NULL};
    assert(arena && out);

    struct reader reader = {.arena = arena, .why = why};
    struct api_json_query query = {.name = {NULL, 0}};
    bool explain = false;
    bool is_classify = verb == API_JSON_CLASSIFY;
    const char *const *names = verb == API_JSON_SEARCH ? search_names : refine_names;
    if (is_classify)
        names = classify_names;
    reader.names = names;
    if (!json_is_object(document))
        return wrong(&reader, document, "body", "a JSON object");
    enum status status = check_names(&reader, document, names, "");
    if (status == STATUS_OK)
        status = read_text(&reader, json_member(document, "input"), "input", &query.name);
    if (status == STATUS_OK)
        status = read_input(&reader, document, &query.request);
    if (status == STATUS_OK && verb == API_JSON_SEARCH)
        status = read_parts(&reader, json_member(document, "parts"), &query.request);
    if (status == STATUS_OK)
        status = read_options(&reader, json_member(document, "options"), &query.request.options);
    if (status == STATUS_OK && is_classify)
        status = read_labels(&reader, document, &explain, &query.request);
    if (status != STATUS_OK)
        return status;
    if (!query.name.data && query.request.input == API_INPUT_TEXT)
        query.name = query.request.text;
    else if (!query.name.data)
        query.name = text_of(query.request.input == API_INPUT_EMBEDDING ? "embedding"
                             : query.request.input == API_INPUT_PARTS   ? "parts"
                                                                        : "image");
    query.method = method_of(verb, query.request.input, explain);
    *out = query;
    return STATUS_OK;
}
