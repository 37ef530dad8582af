// SPDX-License-Identifier: Apache-2.0
// labels.c - label sets as one block of memory each, and a cache as a list, newest use first.
//
// Refined prototypes hold their set like plain ones; the set's own bytes are counted with the plain
// ones, which everything else is made from.

#include "coordinator/labels.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/embedding.h"
#include "proto/base/mem.h"

struct labels {
    size_t bytes_max;
    size_t bytes;
    uint32_t count;
    struct label_prototypes *kept[LABELS_CACHE_ENTRIES]; // latest use first
};

// ---------------------------------------------------------------- digests

// Lengths go in front, so that no two questions are the same bytes.
static void digest_text(struct hash_sha256 *state, struct text text)
{
    uint8_t bytes[8];
    bytes_put_u64_le(bytes, text.bytes);
    hash_sha256_update(state, bytes, sizeof(bytes));
    if (text.bytes > 0)
        hash_sha256_update(state, text.data, text.bytes);
}

static void digest_number(struct hash_sha256 *state, uint64_t value)
{
    uint8_t bytes[8];
    bytes_put_u64_le(bytes, value);
    hash_sha256_update(state, bytes, sizeof(bytes));
}

static void digest_double(struct hash_sha256 *state, double value)
{
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(bits));
    digest_number(state, bits);
}

static void digest_set(struct label_set *set, const char *space)
{
    struct hash_sha256 state;
    hash_sha256_init(&state);
    digest_text(&state, text_of(set->is_transient ? "reco candidates 1" : "reco label set 1"));
    digest_text(&state, text_of(space));
    digest_number(&state, set->template_count);
    for (size_t i = 0; i < set->template_count; i++)
        digest_text(&state, set->templates[i]);
    digest_number(&state, set->count);
    for (size_t i = 0; i < set->count; i++)
        digest_text(&state, set->labels[i]);
    hash_sha256_final(&state, set->digest);
    hash_hex(set->digest, LABEL_SET_ID_BYTES / 2, set->id);
}

void label_refined_digest(const struct label_set *set, const struct question *question,
                          uint64_t changes, uint32_t over, uint32_t nodes,
                          uint8_t digest[HASH_SHA256_BYTES])
{
    assert(set && question && digest);

    struct hash_sha256 state;
    const struct fuser_params *fuser = &question->fuser;
    hash_sha256_init(&state);
    digest_text(&state, text_of("reco refined labels 2"));
    hash_sha256_update(&state, set->digest, sizeof(set->digest));
    digest_number(&state, question->memory.number);
    digest_number(&state, changes);
    digest_number(&state, over);
    digest_number(&state, nodes);
    digest_number(&state, (uint64_t)fuser->fusion.mode);
    digest_double(&state, fuser->fusion.beta);
    digest_double(&state, fuser->fusion.temperature);
    digest_number(&state, fuser->k);
    digest_double(&state, (double)fuser->min_similarity);
    digest_double(&state, (double)fuser->min_pair_similarity);
    digest_double(&state, fuser->gate_floor);
    digest_double(&state, fuser->gate_ceiling);
    digest_number(&state, fuser->is_open);
    digest_number(&state, question->exclude_count);
    for (size_t i = 0; i < question->exclude_count; i++)
        digest_number(&state, question->exclude[i]);
    digest_double(&state, (double)fuser->dedup);
    digest_number(&state, (uint64_t)question->index);
    digest_number(&state, question->probes);
    digest_double(&state, (double)question->target_recall);
    digest_number(&state, question->filter != NULL);
    if (question->filter)
        hash_sha256_update(&state, question->filter->digest, sizeof(question->filter->digest));
    hash_sha256_final(&state, digest);
}

// ---------------------------------------------------------------- sets

static enum status check_twice(const struct label_set_params *params, struct reason *why)
{
    struct text *sorted = mem_try_alloc_array(params->label_count, sizeof(*sorted));
    if (!sorted)
        return reason_set(why, STATUS_NO_MEMORY, "labels", "no memory for %zu labels",
                          params->label_count);
    memcpy(sorted, params->labels, params->label_count * sizeof(*sorted));
    qsort(sorted, params->label_count, sizeof(*sorted), text_compare);

    enum status status = STATUS_OK;
    for (size_t i = 1; i < params->label_count && status == STATUS_OK; i++)
        if (text_equal(sorted[i - 1], sorted[i]))
            status =
                reason_set(why, STATUS_INVALID, "labels", "'%.*s' is there twice; every label once",
                           (int)(sorted[i].bytes < 200 ? sorted[i].bytes : 200), sorted[i].data);
    mem_free(sorted);
    return status;
}

// Offset of the template's {}; its length when there is none, or more than one.
static size_t find_slot(struct text template)
{
    size_t slot = template.bytes;
    for (size_t i = 0; i + 1 < template.bytes; i++) {
        if (template.data[i] != '{' || template.data[i + 1] != '}')
            continue;
        if (slot != template.bytes)
            return template.bytes;
        slot = i;
    }
    return slot;
}

static enum status check_set(const struct label_set_params *params, struct reason *why)
{
    if (params->label_count < 1 || params->label_count > LABELS_MAX)
        return reason_set(why, STATUS_INVALID, "labels", "%zu labels; allowed: 1..%d",
                          params->label_count, LABELS_MAX);
    if (params->template_count > TEMPLATES_MAX)
        return reason_set(why, STATUS_INVALID, "templates", "%zu templates; at most %d",
                          params->template_count, TEMPLATES_MAX);
    char field[REASON_FIELD_BYTES];
    for (size_t i = 0; i < params->label_count; i++) {
        size_t bytes = params->labels[i].bytes;
        (void)snprintf(field, sizeof(field), "labels[%zu]", i);
        if (bytes < 1 || bytes > LABEL_BYTES_MAX)
            return reason_set(why, STATUS_INVALID, field, "it has %zu bytes; allowed: 1..%d", bytes,
                              LABEL_BYTES_MAX);
    }
    for (size_t i = 0; i < params->template_count; i++) {
        struct text template = params->templates[i];
        (void)snprintf(field, sizeof(field), "templates[%zu]", i);
        if (find_slot(template) == template.bytes)
            return reason_set(why, STATUS_INVALID, field,
                              "'%.*s' must have {} exactly once, where the label goes",
                              (int)(template.bytes < 200 ? template.bytes : 200),
                              template.data ? template.data : "");
        if (template.bytes > LABEL_PROMPT_BYTES_MAX - LABEL_BYTES_MAX)
            return reason_set(why, STATUS_INVALID, field, "it has %zu bytes; at most %d",
                              template.bytes, LABEL_PROMPT_BYTES_MAX - LABEL_BYTES_MAX);
    }
    return check_twice(params, why);
}

// Copies texts into `views` and their bytes to *at, which moves on.
static void copy_texts(const struct text *texts, size_t count, struct text *views, char **at)
{
    for (size_t i = 0; i < count; i++) {
        memcpy(*at, texts[i].data, texts[i].bytes);
        views[i] = (struct text){*at, texts[i].bytes};
        *at += texts[i].bytes;
    }
}

enum status label_set_create(const struct label_set_params *params, struct label_set **out,
                             struct reason *why)
{
    assert(params && params->space && params->default_template && out);

    enum status status = check_set(params, why);
    if (status != STATUS_OK)
        return status;

    struct text fallback = text_of(params->default_template);
    const struct text *templates = params->template_count > 0 ? params->templates : &fallback;
    size_t template_count = params->template_count > 0 ? params->template_count : 1;
    size_t bytes = (params->label_count + template_count) * sizeof(struct text);
    for (size_t i = 0; i < params->label_count; i++)
        bytes += params->labels[i].bytes;
    for (size_t i = 0; i < template_count; i++)
        bytes += templates[i].bytes;

    struct label_set *set = mem_try_alloc(sizeof(*set) + bytes);
    if (!set)
        return reason_set(why, STATUS_NO_MEMORY, "labels", "no memory for %zu labels",
                          params->label_count);
    struct text *views = (struct text *)(void *)(set + 1);
    char *at = (char *)(views + params->label_count + template_count);
    *set = (struct label_set){
        .count = params->label_count,
        .labels = views,
        .template_count = template_count,
        .templates = views + params->label_count,
        .bytes = sizeof(*set) + bytes,
        .is_transient = params->is_transient,
        .holders = 1,
    };
    copy_texts(params->labels, params->label_count, views, &at);
    copy_texts(templates, template_count, views + params->label_count, &at);
    digest_set(set, params->space);
    *out = set;
    return STATUS_OK;
}

void label_set_release(struct label_set **set)
{
    assert(set);

    if (*set && --(*set)->holders == 0)
        mem_free(*set);
    *set = NULL;
}

size_t label_set_prompt_bytes(const struct label_set *set, size_t label, size_t template)
{
    assert(set && label < set->count && template <set->template_count);

    return set->templates[template].bytes - 2 + set->labels[label].bytes;
}

void label_set_prompt(const struct label_set *set, size_t label, size_t template, char *out)
{
    assert(set && label < set->count && template <set->template_count &&out);

    struct text shape = set->templates[template];
    struct text name = set->labels[label];
    size_t slot = find_slot(shape);
    memcpy(out, shape.data, slot);
    memcpy(out + slot, name.data, name.bytes);
    memcpy(out + slot + name.bytes, shape.data + slot + 2, shape.bytes - slot - 2);
}

// ---------------------------------------------------------------- prototypes

enum status label_prototypes_create(struct label_set *set, uint32_t dimension,
                                    struct label_prototypes **out)
{
    assert(set && dimension >= 1 && dimension <= DIMENSION_MAX && out);

    float *values = mem_try_alloc_array(set->count * ((size_t)dimension + 1), sizeof(*values));
    if (!values)
        return STATUS_NO_MEMORY;
    struct label_prototypes *prototypes = mem_alloc(sizeof(*prototypes));
    memcpy(prototypes->digest, set->digest, sizeof(prototypes->digest));
    prototypes->set = set;
    prototypes->dimension = dimension;
    prototypes->values = values;
    prototypes->best = values + set->count * dimension;
    prototypes->coverage = 1;
    prototypes->holders = 1;
    set->holders++;
    *out = prototypes;
    return STATUS_OK;
}

struct label_prototypes *label_prototypes_hold(struct label_prototypes *prototypes)
{
    assert(prototypes && prototypes->holders > 0);

    prototypes->holders++;
    return prototypes;
}

void label_prototypes_release(struct label_prototypes **prototypes)
{
    assert(prototypes);

    struct label_prototypes *released = *prototypes;
    *prototypes = NULL;
    if (!released || --released->holders > 0)
        return;
    label_set_release(&released->set);
    mem_free(released->values);
    mem_free(released->degraded);
    mem_free(released);
}

enum status label_prototypes_mean(const float *vectors, size_t count, uint32_t dimension,
                                  float *out)
{
    assert(vectors && count > 0 && out);
    assert(dimension >= 1 && dimension <= DIMENSION_MAX);

    if (count == 1) {
        memcpy(out, vectors, dimension * sizeof(*out));
        return STATUS_OK;
    }
    float mean[DIMENSION_MAX];
    for (uint32_t i = 0; i < dimension; i++) {
        double sum = 0;
        for (size_t j = 0; j < count; j++)
            sum += (double)vectors[j * dimension + i];
        mean[i] = (float)(sum / (double)count);
    }
    enum status status = embedding_normalise(mean, dimension);
    if (status == STATUS_OK)
        memcpy(out, mean, dimension * sizeof(*out));
    return status;
}

// ---------------------------------------------------------------- the cache

static size_t bytes_of(const struct label_prototypes *prototypes)
{
    size_t bytes = sizeof(*prototypes) +
                   prototypes->set->count * ((size_t)prototypes->dimension + 1) * sizeof(float);
    if (memcmp(prototypes->digest, prototypes->set->digest, sizeof(prototypes->digest)) == 0)
        bytes += prototypes->set->bytes;
    return bytes;
}

struct labels *labels_create(size_t bytes_max)
{
    struct labels *labels = mem_alloc(sizeof(*labels));
    labels->bytes_max = bytes_max;
    return labels;
}

static void drop_last(struct labels *labels)
{
    struct label_prototypes *last = labels->kept[--labels->count];
    labels->bytes -= bytes_of(last);
    label_prototypes_release(&last);
}

void labels_destroy(struct labels **labels)
{
    assert(labels);

    if (!*labels)
        return;
    while ((*labels)->count > 0)
        drop_last(*labels);
    mem_free(*labels);
    *labels = NULL;
}

// Puts an entry at the front; those before place `index` move back by one.
static void put_first(struct labels *labels, struct label_prototypes *first, uint32_t index)
{
    for (uint32_t i = index; i > 0; i--)
        labels->kept[i] = labels->kept[i - 1];
    labels->kept[0] = first;
}

// Moves entry `index` to the front and gives it out.
static struct label_prototypes *use(struct labels *labels, uint32_t index)
{
    put_first(labels, labels->kept[index], index);
    return label_prototypes_hold(labels->kept[0]);
}

struct label_prototypes *labels_find(struct labels *labels, const uint8_t digest[HASH_SHA256_BYTES])
{
    assert(labels && digest);

    for (uint32_t i = 0; i < labels->count; i++)
        if (memcmp(labels->kept[i]->digest, digest, HASH_SHA256_BYTES) == 0)
            return use(labels, i);
    return NULL;
}

struct label_prototypes *labels_find_id(struct labels *labels, struct text label_set_id)
{
    assert(labels);

    for (uint32_t i = 0; i < labels->count; i++) {
        const struct label_prototypes *kept = labels->kept[i];
        bool is_plain = memcmp(kept->digest, kept->set->digest, HASH_SHA256_BYTES) == 0;
        if (is_plain && text_equal(text_of(kept->set->id), label_set_id))
            return use(labels, i);
    }
    return NULL;
}

bool labels_keep(struct labels *labels, struct label_prototypes *prototypes)
{
    assert(labels && prototypes);

    struct label_prototypes *same = labels_find(labels, prototypes->digest);
    if (same) { // two were made at once; either will do
        label_prototypes_release(&same);
        return true;
    }
    if (prototypes->set->is_transient)
        return true;
    size_t bytes = bytes_of(prototypes);
    if (bytes > labels->bytes_max)
        return false;
    while (labels->count == LABELS_CACHE_ENTRIES || labels->bytes + bytes > labels->bytes_max)
        drop_last(labels);
    put_first(labels, label_prototypes_hold(prototypes), labels->count++);
    labels->bytes += bytes;
    return true;
}

size_t labels_bytes(const struct labels *labels)
{
    return labels->bytes;
}
