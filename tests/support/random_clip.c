// SPDX-License-Identifier: Apache-2.0
// Names, shapes and digests of the tensors come from golden.json. The file is laid out
// as the safetensors library does: tensors by name, the header padded with spaces to a
// multiple of eight bytes; so even the digest of the whole file agrees.

#include "tests/support/random_clip.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/hash.h"
#include "proto/base/json.h"
#include "proto/base/mem.h"

#define SEED 20240229u
#define HEADER_BYTES_MAX (1u << 20)
#define LOGIT_SCALE 2.6592f
#define RANK_MAX 4

static void fail(const char *what, const char *text)
{
    (void)fprintf(stderr, "random_clip: %s: %s\n", what, text);
    abort();
}

struct tower {
    double width;
    double layers;
};

struct entry {
    const char *name;
    const struct json *golden;
    int64_t shape[RANK_MAX];
    size_t rank;
    size_t count;
};

struct plan {
    struct tower text;
    struct tower image;
    struct entry *entry; // sorted by name
    size_t entries;
};

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t fnv1a(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++)
        hash = (hash ^ (uint8_t)*text) * 0x100000001b3u;
    return hash;
}

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name);
    size_t end_length = strlen(end);
    return length >= end_length && strcmp(name + length - end_length, end) == 0;
}

// Deviation of a tensor's values; *base is their mean.
static double deviation_of(const struct plan *plan, const char *name, float *base)
{
    bool is_image = strncmp(name, "vis", 3) == 0;
    const struct tower *tower = is_image ? &plan->image : &plan->text;
    double thin = pow(tower->width, -0.5);
    double deep = pow(2.0 * tower->layers, -0.5);
    const struct {
        const char *end;
        double deviation;
    } rules[] = {
        {".bias", 0.02},
        {"class_embedding", thin},
        {"patch_embedding.weight", 0.02},
        {"token_embedding.weight", 0.02},
        {"position_embedding.weight", is_image ? 0.02 : 0.01},
        {"out_proj.weight", thin},
        {"fc1.weight", pow(2.0 * tower->width, -0.5)},
        {"fc2.weight", thin * deep},
        {"projection.weight", thin},
        {"q_proj.weight", thin * deep},
        {"k_proj.weight", thin * deep},
        {"v_proj.weight", thin * deep},
    };
    *base = 0.0f;
    if (strstr(name, "norm") && ends_with(name, ".weight")) {
        *base = 1.0f;
        return 0.05;
    }
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (ends_with(name, rules[i].end))
            return rules[i].deviation;
    }
    fail(name, "no rule for this name");
    return 0.0;
}

static void fill(const struct plan *plan, const struct entry *entry, float *values)
{
    if (strcmp(entry->name, "logit_scale") == 0) {
        values[0] = LOGIT_SCALE;
        return;
    }
    float base;
    float step = (float)(sqrt(3.0) * deviation_of(plan, entry->name, &base) / 8388608.0);
    uint64_t seed = mix(fnv1a(entry->name) ^ SEED);
    for (size_t i = 0; i < entry->count; i++) {
        int32_t raw = (int32_t)(mix(seed + (i + 1) * 0x9e3779b97f4a7c15u) >> 40);
        float product = (float)(raw - 8388608) * step;
        values[i] = base + product;
    }
}

static void check(const struct entry *entry, const float *values)
{
    struct hash_sha256 hash;
    uint8_t digest[HASH_SHA256_BYTES];
    char text[HASH_SHA256_HEX_BYTES];
    hash_sha256_init(&hash);
    hash_sha256_update(&hash, values, entry->count * sizeof(float));
    hash_sha256_final(&hash, digest);
    hash_hex(digest, sizeof(digest), text);
    if (!text_equal(json_text(json_member(entry->golden, "sha256")), text_of(text)))
        fail(entry->name, "SHA-256 differs from golden.json");
}

static int by_name(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;
    return strcmp(x->name, y->name);
}

static struct tower read_tower(const struct json *config, const char *section)
{
    struct tower tower = {0};
    const struct json *values = json_member(config, section);
    if (!json_double(json_member(values, "hidden_size"), &tower.width) ||
        !json_double(json_member(values, "num_hidden_layers"), &tower.layers))
        fail(section, "no hidden_size or num_hidden_layers");
    return tower;
}

static struct json *read_json(const char *folder, const char *name)
{
    char path[1024];
    struct json *document = NULL;
    struct reason why = {0};
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (json_parse_file(path, 16u << 20, &document, &why) != STATUS_OK)
        fail(path, why.text);
    return document;
}

static void make_plan(const struct json *config, const struct json *golden, struct plan *plan)
{
    plan->text = read_tower(config, "text_config");
    plan->image = read_tower(config, "vision_config");
    const struct json *tensors = json_member(golden, "tensors");
    plan->entry = mem_alloc_array(json_count(tensors) + 1, sizeof(plan->entry[0]));

    void *iterator = NULL;
    const char *name;
    const struct json *value;
    while (json_next(tensors, &iterator, &name, &value)) {
        struct entry *entry = &plan->entry[plan->entries++];
        const struct json *shape = json_member(value, "shape");
        entry->name = name;
        entry->golden = value;
        entry->rank = json_count(shape);
        entry->count = 1;
        if (entry->rank > RANK_MAX)
            fail(name, "too many dimensions");
        for (size_t i = 0; i < entry->rank; i++) {
            if (!json_int(json_element(shape, i), &entry->shape[i]))
                fail(name, "bad shape");
            entry->count *= (size_t)entry->shape[i];
        }
    }
    if (plan->entries == 0)
        fail("golden.json", "no tensors");
    qsort(plan->entry, plan->entries, sizeof(plan->entry[0]), by_name);
}

// Writes the JSON header, padded; returns its length and the bytes of data in *data_bytes.
static size_t write_header(const struct plan *plan, char *header, size_t *data_bytes)
{
    size_t used =
        (size_t)snprintf(header, HEADER_BYTES_MAX, "{\"__metadata__\":{\"format\":\"pt\"}");
    size_t at = 0;
    for (size_t i = 0; i < plan->entries; i++) {
        const struct entry *entry = &plan->entry[i];
        char shape[96];
        size_t length = 0;
        shape[0] = '\0';
        for (size_t d = 0; d < entry->rank; d++)
            length += (size_t)snprintf(shape + length, sizeof(shape) - length, "%s%lld",
                                       d > 0 ? "," : "", (long long)entry->shape[d]);
        size_t end = at + entry->count * sizeof(float);
        used += (size_t)snprintf(header + used, HEADER_BYTES_MAX - used,
                                 ",\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],"
                                 "\"data_offsets\":[%zu,%zu]}",
                                 entry->name, shape, at, end);
        if (used + 16 > HEADER_BYTES_MAX)
            fail(entry->name, "header too long");
        at = end;
    }
    header[used++] = '}';
    while (used % 8 != 0)
        header[used++] = ' ';
    *data_bytes = at;
    return used;
}

void random_clip_make(const char *folder, struct buffer *out)
{
    struct json *config = read_json(folder, "config.json");
    struct json *golden = read_json(folder, "golden.json");
    struct plan plan = {0};
    make_plan(config, golden, &plan);

    char *header = mem_alloc(HEADER_BYTES_MAX);
    size_t data_bytes = 0;
    size_t header_bytes = write_header(&plan, header, &data_bytes);
    *out = (struct buffer){0};
    out->count = 8 + header_bytes + data_bytes;
    out->data = mem_try_alloc(out->count);
    if (!out->data)
        fail(folder, "no memory for the weights");
    bytes_put_u64_le(out->data, header_bytes);
    memcpy(out->data + 8, header, header_bytes);

    uint8_t *at = out->data + 8 + header_bytes; // a multiple of 8, as mem_try_alloc's memory
    for (size_t i = 0; i < plan.entries; i++) {
        float *values = (float *)(void *)at;
        fill(&plan, &plan.entry[i], values);
        check(&plan.entry[i], values);
        at += plan.entry[i].count * sizeof(float);
    }
    mem_free(header);
    mem_free(plan.entry);
    json_destroy(&golden);
    json_destroy(&config);
}
