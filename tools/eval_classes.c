// SPDX-License-Identifier: Apache-2.0
// Prompts are made and encoded some hundred at a time, a name's templates side by side.

#include "tools/eval_classes.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/labels.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"

// --- reading

struct slot {
    size_t at, bytes; // of {} or {c}
};

// Where the label goes; `bytes` 0 when there is no such place or more than one.
static struct slot slot_of(struct text template)
{
    struct slot found = {0, 0};
    for (size_t i = 0; i < template.bytes; i++) {
        const char *at = template.data + i;
        const size_t left = template.bytes - i;
        const size_t bytes = left >= 2 && memcmp(at, "{}", 2) == 0    ? 2
                             : left >= 3 && memcmp(at, "{c}", 3) == 0 ? 3
                                                                      : 0;
        if (bytes && found.bytes)
            return (struct slot){0, 0};
        if (bytes)
            found = (struct slot){i, bytes};
    }
    return found;
}

static enum status check_templates(const struct eval_classes *classes, const char *from,
                                   struct reason *why)
{
    if (classes->template_count > TEMPLATES_MAX)
        return reason_set(why, STATUS_INVALID, from, "%zu templates: at most %d are allowed",
                          classes->template_count, TEMPLATES_MAX);
    for (size_t i = 0; i < classes->template_count; i++) {
        const struct text template = classes->templates[i];
        if (!slot_of(template).bytes)
            return reason_set(why, STATUS_INVALID, from,
                              "'%.*s' must have {} or {c} exactly once, where the label goes",
                              (int)(template.bytes < 200 ? template.bytes : 200), template.data);
        if (template.bytes > LABEL_PROMPT_BYTES_MAX - LABEL_BYTES_MAX)
            return reason_set(why, STATUS_INVALID, from, "a template of %zu bytes: at most %d",
                              template.bytes, LABEL_PROMPT_BYTES_MAX - LABEL_BYTES_MAX);
    }
    return STATUS_OK;
}

// The data set's own: in a file, or shipped.
static enum status read_template_lines(const struct dataset_place *place, struct label_file *out,
                                       struct reason *why)
{
    const struct text shipped = place->templates_text;
    struct reason inner = {.text = ""};
    const enum status status =
        place->templates[0]
            ? label_file_read_plain(place->templates, out, &inner)
            : label_file_parse_plain((struct bytes){(const uint8_t *)shipped.data, shipped.bytes},
                                     out, &inner);
    return status ? reason_set(why, status, NULL, "%s: %s", place->templates, inner.text)
                  : STATUS_OK;
}

static enum status read_templates(const struct options *options, const struct dataset_place *place,
                                  struct text model_template, struct eval_classes *out,
                                  struct reason *why)
{
    const struct args_list *given = &options->templates;
    const bool has_own = !given->count && (place->templates[0] || place->templates_text.data);
    if (has_own) {
        const enum status status = read_template_lines(place, &out->template_lines, why);
        if (status)
            return status;
    }
    const size_t lines = out->template_lines.label_count;
    out->template_count = given->count ? given->count : has_own ? lines : 1;
    out->templates = mem_alloc_array(out->template_count, sizeof(out->templates[0]));
    for (size_t i = 0; i < out->template_count; i++)
        out->templates[i] = given->count ? text_of(given->items[i])
                            : has_own    ? out->template_lines.labels[i]
                                         : model_template;
    return check_templates(out, given->count ? "--template" : has_own ? "templates" : "model", why);
}

static int compare_names(const void *a, const void *b)
{
    const struct eval_class_name *left = a;
    const struct eval_class_name *right = b;
    const int order = text_compare(&left->text, &right->text);
    return order ? order : (left->label > right->label) - (left->label < right->label);
}

static enum status read_native_labels(const struct dataset_place *place, struct eval_classes *out,
                                      struct reason *why)
{
    struct buffer lines = {0};
    size_t count = 0;
    struct reason inner = {.text = ""};
    enum status status = dataset_place_classes(place, &lines, &count, why);
    if (!status) {
        status =
            label_file_parse_plain((struct bytes){lines.data, lines.count}, &out->labels, &inner);
        if (status)
            status = reason_set(why, status, place->sources[0], "its classes: %s", inner.text);
    }
    buffer_deinit(&lines);
    return status;
}

// The user's names are those of the data set's classes, in their order, where it has classes.
static enum status check_native_labels(const struct dataset_place *place,
                                       const struct eval_classes *classes, struct reason *why)
{
    size_t count = 0;
    const enum status status = dataset_place_classes(place, NULL, &count, why);
    if (status || count == 0 || classes->labels.label_count == count)
        return status;
    return reason_set(why, STATUS_INVALID, "--labels", "'%s' has %zu labels: %s has %zu classes",
                      classes->from, classes->labels.label_count, place->name, count);
}

// A data set that is not there has no labels either: that is told first.
static enum status refuse_without_labels(const struct dataset_place *place, struct reason *why)
{
    for (size_t i = 0; i < place->source_count; i++)
        if (strcmp(place->sources[i], "-") != 0 && access(place->sources[i], F_OK) != 0)
            return reason_set(why, STATUS_NOT_FOUND, place->sources[i], "no such file or folder");
    return reason_set(why, STATUS_INVALID, "--labels",
                      "is needed: a file with one label per line; only a folder in "
                      "CLIP_benchmark's layout brings its own (classnames.txt), or a data set "
                      "as its makers publish it");
}

static enum status read_labels(const struct options *options, const struct dataset_place *place,
                               struct eval_classes *out, struct reason *why)
{
    struct reason inner = {.text = ""};
    enum status status = STATUS_OK;
    if (place->layout && !options->labels)
        return read_native_labels(place, out, why);
    if (options->labels)
        status = label_file_read(options->labels, &out->labels, &inner);
    else if (place->labels[0])
        status = label_file_read_plain(place->labels, &out->labels, &inner);
    else
        return refuse_without_labels(place, why);
    if (status)
        return reason_set(why, status, options->labels ? "--labels" : NULL, "'%s': %s", out->from,
                          inner.text);
    return place->layout ? check_native_labels(place, out, why) : STATUS_OK;
}

// --- what was measured with

static void finish_hash(struct hash_sha256 *state, char hex[HASH_SHA256_HEX_BYTES])
{
    uint8_t digest[HASH_SHA256_BYTES];
    hash_sha256_final(state, digest);
    hash_hex(digest, sizeof(digest), hex);
}

static void hash_labels(struct eval_classes *classes)
{
    const struct label_file *labels = &classes->labels;
    struct hash_sha256 state;
    hash_sha256_init(&state);
    for (size_t i = 0; i < labels->name_count; i++) {
        const bool is_last =
            i + 1 == labels->name_count || labels->label_of[i + 1] != labels->label_of[i];
        hash_sha256_update(&state, labels->names[i].data, labels->names[i].bytes);
        hash_sha256_update(&state, is_last ? "\n" : "\t", 1);
    }
    finish_hash(&state, classes->labels_sha256);
}

static void hash_templates(struct eval_classes *classes)
{
    struct hash_sha256 state;
    hash_sha256_init(&state);
    for (size_t i = 0; i < classes->template_count; i++) {
        hash_sha256_update(&state, classes->templates[i].data, classes->templates[i].bytes);
        hash_sha256_update(&state, "\n", 1);
    }
    finish_hash(&state, classes->templates_sha256);
}

enum status eval_classes_read(const struct options *options, const struct dataset_place *place,
                              struct text model_template, struct eval_classes *out,
                              struct reason *why)
{
    assert(options && place && out);

    *out = (struct eval_classes){.from = options->labels ? options->labels : place->labels};
    enum status status = read_labels(options, place, out, why);
    if (status)
        return status;
    status = read_templates(options, place, model_template, out, why);
    if (status)
        return status;
    out->sorted = mem_alloc_array(out->labels.name_count, sizeof(out->sorted[0]));
    for (size_t i = 0; i < out->labels.name_count; i++)
        out->sorted[i] = (struct eval_class_name){out->labels.names[i], out->labels.label_of[i]};
    qsort(out->sorted, out->labels.name_count, sizeof(out->sorted[0]), compare_names);
    hash_labels(out);
    hash_templates(out);
    return STATUS_OK;
}

void eval_classes_deinit(struct eval_classes *classes)
{
    label_file_deinit(&classes->labels);
    label_file_deinit(&classes->template_lines);
    mem_free(classes->templates);
    mem_free(classes->sorted);
    *classes = (struct eval_classes){.from = NULL};
}

bool eval_classes_find(const struct eval_classes *classes, struct text name, uint32_t *label)
{
    size_t low = 0;
    size_t high = classes->labels.name_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (text_compare(&classes->sorted[middle].text, &name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == classes->labels.name_count || !text_equal(classes->sorted[low].text, name))
        return false;
    *label = classes->sorted[low].label;
    return true;
}

// --- prototypes

// Writes the prompt of a name, of at most TEXT_BYTES_MAX bytes; returns how many.
static size_t write_prompt(struct text template, struct text name, char *out)
{
    const struct slot slot = slot_of(template);
    const size_t rest = template.bytes - slot.at - slot.bytes;
    memcpy(out, template.data, slot.at);
    memcpy(out + slot.at, name.data, name.bytes);
    memcpy(out + slot.at + name.bytes, template.data + slot.at + slot.bytes, rest);
    return slot.at + name.bytes + rest;
}

// Prompts of some names at a time.
struct prompts {
    const struct eval_classes *classes;
    const struct eval_encoder *encoder;
    struct text *texts; // [names * templates]
    char *bytes;        // what they point to
    float *embeddings;  // [names * templates][dimension]
    float *values;      // [all names][dimension]
};

static enum status encode_names(struct prompts *prompts, size_t first, size_t count,
                                struct reason *why)
{
    const struct eval_classes *classes = prompts->classes;
    const uint32_t dimension = prompts->encoder->dimension;
    const size_t templates = classes->template_count;
    char *at = prompts->bytes;
    for (size_t i = 0; i < count * templates; i++) {
        const struct text name = classes->labels.names[first + i / templates];
        prompts->texts[i] =
            (struct text){at, write_prompt(classes->templates[i % templates], name, at)};
        at += prompts->texts[i].bytes;
    }
    enum status status = eval_encode_texts(prompts->encoder, prompts->texts, count * templates,
                                           prompts->embeddings, why);
    for (size_t i = 0; i < count && !status; i++) {
        const struct text name = classes->labels.names[first + i];
        status = label_prototypes_mean(prompts->embeddings + i * templates * dimension, templates,
                                       dimension, prompts->values + (first + i) * dimension);
        if (status)
            return reason_set(why, status, "--labels",
                              "the prompts of '%.*s' cancel out to length 0", (int)name.bytes,
                              name.data);
    }
    return status;
}

static enum status encode_all(struct prompts *prompts, size_t batch, struct reason *why)
{
    const size_t names = prompts->classes->labels.name_count;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < names && !status; i += batch)
        status = encode_names(prompts, i, names - i < batch ? names - i : batch, why);
    return status;
}

enum status eval_classes_encode(const struct eval_classes *classes,
                                const struct eval_encoder *encoder, float **out, struct reason *why)
{
    assert(classes && encoder && out);

    const size_t whole = EVAL_ENCODE_TEXTS / classes->template_count;
    const size_t batch = whole < 1 ? 1 : whole;
    const size_t most = batch * classes->template_count;
    size_t bytes = 0;
    for (size_t i = 0; i < classes->template_count; i++)
        bytes += classes->templates[i].bytes + LABEL_BYTES_MAX;
    struct prompts prompts = {
        .classes = classes,
        .encoder = encoder,
        .texts = mem_try_alloc_array(most, sizeof(struct text)),
        .bytes = mem_try_alloc_array(batch, bytes),
        .embeddings = mem_try_alloc_array(most, encoder->dimension * sizeof(float)),
        .values =
            mem_try_alloc_array(classes->labels.name_count, encoder->dimension * sizeof(float)),
    };
    const bool fits = prompts.texts && prompts.bytes && prompts.embeddings && prompts.values;
    const enum status status =
        fits ? encode_all(&prompts, batch, why)
             : reason_set(why, STATUS_NO_MEMORY, "--labels", "no memory for %zu prototypes",
                          classes->labels.name_count);
    mem_free(prompts.texts);
    mem_free(prompts.bytes);
    mem_free(prompts.embeddings);
    if (status)
        mem_free(prompts.values);
    else
        *out = prompts.values;
    return status;
}
