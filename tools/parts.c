// SPDX-License-Identifier: Apache-2.0
// The weight is what stands behind the last @, when that is a number; a value may have others. Also
// nan and inf are numbers here, and refused: a text that ends so takes a weight behind it.

#include "tools/parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "tools/inputs.h"
#include "tools/npyfile.h"

static const char *const prefixes[] = {
    [API_INPUT_IMAGE] = "image=",
    [API_INPUT_TEXT] = "text=",
    [API_INPUT_EMBEDDING] = "embedding=",
};

// What one --part says: a value, which ends before "@WEIGHT"; without that the weight is 1.
struct spoken {
    enum api_input input;
    const char *value;
    size_t bytes;
    float weight;
};

static enum status parse(const char *word, struct spoken *out, struct reason *why)
{
    const enum api_input inputs[] = {API_INPUT_IMAGE, API_INPUT_TEXT, API_INPUT_EMBEDDING};
    const char *at = strrchr(word, '@');
    char *end = NULL;
    double weight = at && at[1] ? strtod(at + 1, &end) : 1;
    if (end && *end) { // what the last @ is followed by is no number
        end = NULL;
        weight = 1;
    }
    if (!isfinite(weight) || fabs(weight) > QUERY_WEIGHT_MAX || (float)weight == 0) {
        (void)reason_set(why, STATUS_INVALID, "--part",
                         "'%s': '%s' is no weight; allowed: -%d to %d, but not 0", word,
                         at ? at + 1 : "", QUERY_WEIGHT_MAX, QUERY_WEIGHT_MAX);
        return STATUS_INVALID;
    }
    const size_t bytes = end ? (size_t)(at - word) : strlen(word);
    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
        const char *prefix = prefixes[inputs[i]];
        const size_t begun = strlen(prefix);
        if (bytes <= begun || memcmp(word, prefix, begun) != 0)
            continue;
        *out = (struct spoken){inputs[i], word + begun, bytes - begun, (float)weight};
        return STATUS_OK;
    }
    (void)reason_set(why, STATUS_INVALID, "--part",
                     "'%s'; allowed: image=FILE@WEIGHT, text=TEXT@WEIGHT, "
                     "embedding=FILE.npy@WEIGHT",
                     word);
    return STATUS_INVALID;
}

enum status parts_check(const char *word, struct reason *why)
{
    struct spoken spoken;
    return parse(word, &spoken, why);
}

// The one row of an array, kept in `out`.
static enum status read_row(const char *path, struct api_query_part *part, float **out,
                            struct reason *why)
{
    struct npyfile *file = NULL;
    enum status status = npyfile_open(path, &file, why);
    if (status)
        return status;
    const struct npyfile_info *info = npyfile_info(file);
    if (info->rows != 1 || info->columns > DIMENSION_MAX) {
        status = reason_set(
            why, STATUS_INVALID, NULL, "%llu rows of %llu numbers; allowed: one row of at most %d",
            (unsigned long long)info->rows, (unsigned long long)info->columns, DIMENSION_MAX);
    } else {
        part->embedding_count = (size_t)info->columns;
        *out = mem_alloc_array(part->embedding_count, sizeof(**out));
        npyfile_read_row(file, 0, *out);
        part->embedding = *out;
    }
    npyfile_close(&file);
    return status;
}

static enum status read_part(const struct options *options, size_t index, struct parts *out,
                             struct reason *why)
{
    struct api_query_part *part = &out->list[index];
    struct spoken spoken;
    enum status status = parse(options->parts.items[index], &spoken, why);
    if (status)
        return status;
    char *value = mem_alloc(spoken.bytes + 1);
    memcpy(value, spoken.value, spoken.bytes);
    out->words[index] = value;
    part->input = spoken.input;
    part->weight = spoken.weight;
    struct reason inner = {.text = ""};
    if (spoken.input == API_INPUT_IMAGE) {
        status = inputs_read_picture(value, &out->pictures[index], &inner);
        part->image = (struct bytes){out->pictures[index].data, out->pictures[index].count};
    } else if (spoken.input == API_INPUT_TEXT) {
        part->text = text_of(value);
        status = inputs_check_text(value, &inner);
    } else {
        part->embedding_modality = options->modality == 1 ? API_MODALITY_TEXT : API_MODALITY_IMAGE;
        status = read_row(value, part, &out->embeddings[index], &inner);
    }
    if (!status)
        return STATUS_OK;
    const char *at = status == STATUS_NOT_FOUND ? strrchr(value, '@') : NULL;
    return reason_set(why, status, "--part", "%s%s: %s%s%s%s", prefixes[spoken.input], value,
                      inner.text, at ? "; a weight is a number, '" : "", at ? at + 1 : "",
                      at ? "' is none" : "");
}

enum status parts_read(const struct options *options, struct parts *out, struct reason *why)
{
    if (options->parts.count > QUERY_PARTS_MAX)
        return reason_set(why, STATUS_INVALID, "--part", "%zu parts; at most %d are allowed",
                          options->parts.count, QUERY_PARTS_MAX);
    out->count = options->parts.count;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < out->count && !status; i++)
        status = read_part(options, i, out, why);
    return status;
}

void parts_deinit(struct parts *parts)
{
    for (size_t i = 0; i < QUERY_PARTS_MAX; i++) {
        mem_free(parts->words[i]);
        mem_free(parts->embeddings[i]);
        buffer_deinit(&parts->pictures[i]);
    }
    *parts = (struct parts){0};
}
