// SPDX-License-Identifier: Apache-2.0
// One table of fields serves checking, reading and writing, so that none is forgotten.

#include "shaders/models/fusion_config.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/limits.h"
#include "shaders/models/fusion.h"

#define CONSTANT_MAX 1000.0 // of beta, temperature and sharpness

enum field_kind {
    FIELD_COUNT,  // uint32_t
    FIELD_WORD,   // an enum, by its words
    FIELD_SWITCH, // bool
    FIELD_NUMBER, // float
};

#define WORDS_MAX 4

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset;
    double least; // of counts and numbers
    double most;
    const char *words[WORDS_MAX]; // by the enum's value
};

#define AT(member) offsetof(struct fusion_config, member)

static const struct field fields[] = {
    {"dimension", FIELD_COUNT, AT(dimension), 1, DIMENSION_MAX, {NULL}},
    {"heads", FIELD_COUNT, AT(heads), 1, FUSION_HEADS_MAX, {NULL}},
    {"mlp", FIELD_COUNT, AT(mlp), 0, FUSION_MLP_MAX, {NULL}},
    {"norm", FIELD_WORD, AT(norm), 0, 0, {"pre", "post", "none"}},
    {"baseline", FIELD_WORD, AT(baseline), 0, 0, {"weighted", "mean", "query", "none"}},
    {"activation", FIELD_WORD, AT(activation), 0, 0, {"gelu", "quick_gelu"}},
    {"block", FIELD_SWITCH, AT(block), 0, 0, {NULL}},
    {"type_embedding", FIELD_SWITCH, AT(type_embedding), 0, 0, {NULL}},
    {"score_embedding", FIELD_SWITCH, AT(score_embedding), 0, 0, {NULL}},
    {"score_bias", FIELD_SWITCH, AT(score_bias), 0, 0, {NULL}},
    {"consensus", FIELD_SWITCH, AT(consensus), 0, 0, {NULL}},
    {"pairing", FIELD_SWITCH, AT(pairing), 0, 0, {NULL}},
    {"beta", FIELD_NUMBER, AT(beta), 0, CONSTANT_MAX, {NULL}},
    {"temperature", FIELD_NUMBER, AT(temperature), 0, CONSTANT_MAX, {NULL}},
    {"sharpness", FIELD_NUMBER, AT(sharpness), 0, CONSTANT_MAX, {NULL}},
    {"epsilon", FIELD_NUMBER, AT(epsilon), 1e-12, 1, {NULL}},
};

#define FIELDS (sizeof(fields) / sizeof(fields[0]))

// Enums have the size of an unsigned in this compiler's ABI.
_Static_assert(sizeof(enum fusion_norm) == sizeof(uint32_t), "fields are read by their size");

static uint32_t count_at(const struct fusion_config *config, const struct field *field)
{
    uint32_t value;
    memcpy(&value, (const char *)config + field->offset, sizeof(value));
    return value;
}

static float number_at(const struct fusion_config *config, const struct field *field)
{
    float value;
    memcpy(&value, (const char *)config + field->offset, sizeof(value));
    return value;
}

static bool switch_at(const struct fusion_config *config, const struct field *field)
{
    bool value;
    memcpy(&value, (const char *)config + field->offset, sizeof(value));
    return value;
}

struct fusion_config fusion_config_default(uint32_t dimension)
{
    return (struct fusion_config){
        .dimension = dimension,
        .heads = dimension % 64 == 0 && dimension / 64 <= FUSION_HEADS_MAX ? dimension / 64 : 1,
        .mlp = 4 * dimension,
        .block = true,
        .type_embedding = true,
        .beta = (float)FUSION_BETA_DEFAULT,
        .temperature = (float)FUSION_TEMPERATURE_DEFAULT,
        .sharpness = (float)FUSION_SHARPNESS_DEFAULT,
        .epsilon = 1e-5f,
    };
}

// --- checking

static const char *field_name(const char *name, const char *field, char *text, size_t bytes)
{
    (void)snprintf(text, bytes, "%s%s%s", name ? name : "", name ? "." : "", field);
    return text;
}

static enum status check_field(const struct fusion_config *config, const struct field *field,
                               const char *name, struct reason *why)
{
    char full[REASON_FIELD_BYTES];
    double value = 0;
    switch (field->kind) {
    case FIELD_COUNT:
        value = count_at(config, field);
        break;
    case FIELD_NUMBER:
        value = (double)number_at(config, field);
        break;
    case FIELD_WORD:
        assert(count_at(config, field) < WORDS_MAX && field->words[count_at(config, field)]);
        return STATUS_OK;
    case FIELD_SWITCH:
        return STATUS_OK;
    }
    if (value >= field->least && value <= field->most) // false for NaN
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, field_name(name, field->name, full, sizeof(full)),
                      "%g: %g..%g is allowed", value, field->least, field->most);
}

static enum status check_named(const struct fusion_config *config, const char *name,
                               struct reason *why)
{
    char full[REASON_FIELD_BYTES];
    for (size_t i = 0; i < FIELDS; i++) {
        enum status status = check_field(config, &fields[i], name, why);
        if (status != STATUS_OK)
            return status;
    }
    if (config->dimension % config->heads != 0)
        return reason_set(why, STATUS_INVALID, field_name(name, "heads", full, sizeof(full)),
                          "%u: must divide the dimension %u", config->heads, config->dimension);
    if (config->consensus && config->baseline != FUSION_BASELINE_WEIGHTED)
        return reason_set(why, STATUS_INVALID, field_name(name, "consensus", full, sizeof(full)),
                          "true: allowed with the baseline weighted only");
    if (config->pairing && !config->consensus)
        return reason_set(why, STATUS_INVALID, field_name(name, "pairing", full, sizeof(full)),
                          "true: allowed with consensus only");
    if (!config->block && config->baseline >= FUSION_BASELINE_QUERY)
        return reason_set(why, STATUS_INVALID, field_name(name, "block", full, sizeof(full)),
                          "false: allowed with the baselines weighted and mean only");
    return STATUS_OK;
}

enum status fusion_config_check(const struct fusion_config *config, struct reason *why)
{
    assert(config);

    return check_named(config, NULL, why);
}

// --- JSON

static bool read_word(const struct field *field, struct text text, uint32_t *out)
{
    for (uint32_t i = 0; i < WORDS_MAX && field->words[i]; i++) {
        if (text_equal(text, text_of(field->words[i]))) {
            *out = i;
            return true;
        }
    }
    return false;
}

static void list_words(const struct field *field, char *text, size_t bytes)
{
    size_t at = 0;
    for (uint32_t i = 0; i < WORDS_MAX && field->words[i] && at < bytes; i++)
        at += (size_t)snprintf(text + at, bytes - at, "%s%s", i > 0 ? ", " : "", field->words[i]);
}

// A word in the place of a number or a switch is told as it is.
static enum status refuse_value(const struct json *value, const char *full, const char *missing,
                                const char *allowed, struct reason *why)
{
    const struct text got = json_text(value);
    if (!got.data)
        return reason_set(why, STATUS_INVALID, full, "%s; %s is allowed", missing, allowed);
    return reason_set(why, STATUS_INVALID, full, "'%.*s': %s is allowed",
                      (int)(got.bytes < 32 ? got.bytes : 32), got.data, allowed);
}

static enum status refuse_number(const struct json *value, const struct field *field,
                                 const char *full, const char *missing, struct reason *why)
{
    char allowed[64];
    (void)snprintf(allowed, sizeof(allowed), "%g..%g", field->least, field->most);
    return refuse_value(value, full, missing, allowed, why);
}

static enum status read_field(const struct json *value, const struct field *field, const char *full,
                              struct fusion_config *out, struct reason *why)
{
    char *at = (char *)out + field->offset;
    char words[64];
    int64_t count;
    uint32_t word;
    double number;
    bool is_on;
    switch (field->kind) {
    case FIELD_COUNT:
        if (!json_int(value, &count) || count < 0 || count > UINT32_MAX)
            return refuse_number(value, field, full, "is missing or no integer", why);
        word = (uint32_t)count;
        memcpy(at, &word, sizeof(word));
        return STATUS_OK;
    case FIELD_WORD:
        if (!read_word(field, json_text(value), &word)) {
            struct text got = json_text(value);
            list_words(field, words, sizeof(words));
            return reason_set(why, STATUS_INVALID, full, "'%.*s': one of %s is allowed",
                              (int)(got.bytes < 32 ? got.bytes : 32), got.data ? got.data : "",
                              words);
        }
        memcpy(at, &word, sizeof(word));
        return STATUS_OK;
    case FIELD_SWITCH:
        if (!json_is_bool(value))
            return refuse_value(value, full, "is missing or neither true nor false",
                                "true or false", why);
        is_on = json_bool(value, false);
        memcpy(at, &is_on, sizeof(is_on));
        return STATUS_OK;
    case FIELD_NUMBER:
        if (!json_double(value, &number))
            return refuse_number(value, field, full, "is missing or no number", why);
        memcpy(at, &(float){(float)number}, sizeof(float));
        return STATUS_OK;
    }
    return STATUS_INTERNAL;
}

enum status fusion_config_parse(const struct json *object, const char *name,
                                struct fusion_config *out, struct reason *why)
{
    assert(name && out);

    if (!json_is_object(object))
        return reason_set(why, STATUS_INVALID, name, "is missing or no JSON object");
    char full[REASON_FIELD_BYTES];
    struct fusion_config config = {0};
    for (size_t i = 0; i < FIELDS; i++) {
        enum status status =
            read_field(json_member(object, fields[i].name), &fields[i],
                       field_name(name, fields[i].name, full, sizeof(full)), &config, why);
        if (status != STATUS_OK)
            return status;
    }
    // Every field was there, so more members than fields are unknown ones.
    if (json_count(object) != FIELDS)
        return reason_set(
            why, STATUS_INVALID, name,
            "has %zu fields, this version knows %zu of them; was it made by a later one?",
            json_count(object), FIELDS);
    enum status status = check_named(&config, name, why);
    if (status == STATUS_OK)
        *out = config;
    return status;
}

void fusion_config_write(const struct fusion_config *config, struct json_writer *writer)
{
    assert(config && writer);

    json_begin_object(writer);
    for (size_t i = 0; i < FIELDS; i++) {
        const struct field *field = &fields[i];
        json_name(writer, field->name);
        switch (field->kind) {
        case FIELD_COUNT:
            json_put_uint(writer, count_at(config, field));
            break;
        case FIELD_WORD:
            json_put_cstr(writer, field->words[count_at(config, field)]);
            break;
        case FIELD_SWITCH:
            json_put_bool(writer, switch_at(config, field));
            break;
        case FIELD_NUMBER:
            json_put_float(writer, number_at(config, field));
            break;
        }
    }
    json_end_object(writer);
}

// --- the numbers

// How many of beta, temperature, consensus, sharpness and pairing a head has.
static uint32_t start_count(const struct fusion_config *config)
{
    if (config->baseline == FUSION_BASELINE_WEIGHTED)
        return config->pairing ? 5 : config->consensus ? 4 : 2;
    return config->baseline == FUSION_BASELINE_MEAN ? 1 : 0;
}

struct fusion_layout fusion_layout_of(const struct fusion_config *config)
{
    assert(config);

    uint32_t d = config->block ? config->dimension : 0;
    uint32_t mlp = config->block ? config->mlp : 0;
    uint32_t norm1 = config->norm == FUSION_NORM_NONE ? 0 : d;
    uint32_t norm2 = mlp > 0 ? norm1 : 0;
    uint32_t mlp_d = mlp > 0 ? d : 0;
    uint32_t heads = config->block && config->score_bias ? config->heads : 0;
    struct fusion_layout layout =
        {
            .tensor =
                {
                    [FUSION_START] = {"start", 0, 0, 0, start_count(config), false},
                    [FUSION_TYPE] = {"type", 0, 0, 2, config->type_embedding ? d : 0, false},
                    [FUSION_SCORE_EMBEDDING] = {"score_embedding", 0, 0, 0,
                                                config->score_embedding ? d : 0, false},
                    [FUSION_SCORE_BIAS] = {"score_bias", 0, 0, 0, heads, false},
                    [FUSION_NORM1_GAIN] = {"norm1.gain", 0, 0, 0, norm1, false},
                    [FUSION_NORM1_BIAS] = {"norm1.bias", 0, 0, 0, norm1, false},
                    [FUSION_QUERY_WEIGHT] = {"query.weight", 0, 0, d, d, true},
                    [FUSION_QUERY_BIAS] = {"query.bias", 0, 0, 0, d, false},
                    [FUSION_KEY_WEIGHT] = {"key.weight", 0, 0, d, d, true},
                    [FUSION_VALUE_WEIGHT] = {"value.weight", 0, 0, d, d, true},
                    [FUSION_VALUE_BIAS] = {"value.bias", 0, 0, 0, d, false},
                    [FUSION_OUT_WEIGHT] = {"out.weight", 0, 0, d, d, true},
                    [FUSION_OUT_BIAS] = {"out.bias", 0, 0, 0, d, false},
                    [FUSION_NORM2_GAIN] = {"norm2.gain", 0, 0, 0, norm2, false},
                    [FUSION_NORM2_BIAS] = {"norm2.bias", 0, 0, 0, norm2, false},
                    [FUSION_MLP1_WEIGHT] = {"mlp1.weight", 0, 0, mlp, mlp_d, true},
                    [FUSION_MLP1_BIAS] = {"mlp1.bias", 0, 0, 0, mlp, false},
                    [FUSION_MLP2_WEIGHT] = {"mlp2.weight", 0, 0, mlp_d, mlp, true},
                    [FUSION_MLP2_BIAS] = {"mlp2.bias", 0, 0, 0, mlp_d, false},
                },
        };
    for (int i = 0; i < FUSION_TENSOR_COUNT; i++) {
        struct fusion_place *place = &layout.tensor[i];
        bool is_matrix = i == FUSION_TYPE || place->decays;
        place->offset = layout.count;
        place->count = (size_t)(is_matrix ? place->rows : 1) * place->columns;
        layout.count += place->count;
    }
    return layout;
}

struct fusion_params fusion_config_start(const struct fusion_config *config, const float *numbers)
{
    assert(config && numbers);

    uint32_t count = start_count(config);
    const float *start = numbers + fusion_layout_of(config).tensor[FUSION_START].offset;
    return (struct fusion_params){
        .mode = config->baseline == FUSION_BASELINE_WEIGHTED ? FUSION_WEIGHTED : FUSION_MEAN,
        .beta = count > 0 ? (double)start[0] : 0.0,
        .temperature = count > 1 ? (double)start[1] : 0.0,
        .consensus = count > 2 ? (double)start[2] : 0.0,
        .sharpness = count > 3 ? (double)start[3] : 0.0,
        .pairing = count > 4 ? (double)start[4] : 0.0,
    };
}

// splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
uint64_t fusion_config_mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void fusion_config_begin(const struct fusion_config *config, uint64_t seed, float *numbers)
{
    assert(config && numbers);

    static const enum fusion_tensor drawn[] = {FUSION_QUERY_WEIGHT, FUSION_KEY_WEIGHT,
                                               FUSION_VALUE_WEIGHT, FUSION_MLP1_WEIGHT};
    static const enum fusion_tensor ones[] = {FUSION_NORM1_GAIN, FUSION_NORM2_GAIN};
    struct fusion_layout layout = fusion_layout_of(config);
    memset(numbers, 0, layout.count * sizeof(*numbers));
    uint64_t state = seed;
    for (size_t i = 0; i < sizeof(drawn) / sizeof(drawn[0]); i++) {
        const struct fusion_place *place = &layout.tensor[drawn[i]];
        float bound = (float)sqrt(3.0 / config->dimension);
        for (size_t n = 0; n < place->count; n++) {
            float unit = (float)(fusion_config_mix(state) >> 40) / 8388608.0f - 1.0f;
            numbers[place->offset + n] = bound * unit;
            state += 0x9e3779b97f4a7c15u;
        }
    }
    const float start[] = {config->beta, config->temperature, 0.0f, config->sharpness, 0.0f};
    memcpy(numbers + layout.tensor[FUSION_START].offset, start,
           layout.tensor[FUSION_START].count * sizeof(*start));
    for (size_t i = 0; i < sizeof(ones) / sizeof(ones[0]); i++) {
        const struct fusion_place *place = &layout.tensor[ones[i]];
        for (size_t n = 0; n < place->count; n++)
            numbers[place->offset + n] = 1.0f;
    }
}
