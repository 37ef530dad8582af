// SPDX-License-Identifier: Apache-2.0
// The weight is what stands behind the last @, when that is a number; a value may have others.

#include "tools/parts.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "tools/inputs.h"
#include "tools/npyfile.h"

// Cuts "@WEIGHT" off the word; without one the weight is 1.
static float take_weight(char *word)
{
    char *at = strrchr(word, '@');
    if (!at || at[1] == '\0')
        return 1;
    char *end = NULL;
    const float weight = strtof(at + 1, &end);
    if (*end != '\0')
        return 1;
    *at = '\0';
    return weight;
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
    char *word = mem_copy_text(options->parts.items[index]);
    out->words[index] = word;
    part->weight = take_weight(word);
    enum status status = STATUS_OK;
    if (strncmp(word, "image=", 6) == 0) {
        part->input = API_INPUT_IMAGE;
        status = inputs_read_picture(word + 6, &out->pictures[index], why);
        part->image = (struct bytes){out->pictures[index].data, out->pictures[index].count};
    } else if (strncmp(word, "text=", 5) == 0 && word[5] != '\0') {
        part->input = API_INPUT_TEXT;
        part->text = text_of(word + 5);
        status = inputs_check_text(word + 5, why);
    } else if (strncmp(word, "embedding=", 10) == 0) {
        part->input = API_INPUT_EMBEDDING;
        part->embedding_modality = options->modality == 1 ? API_MODALITY_TEXT : API_MODALITY_IMAGE;
        status = read_row(word + 10, part, &out->embeddings[index], why);
    } else {
        return reason_set(why, STATUS_INVALID, "--part",
                          "'%s'; allowed: image=FILE@WEIGHT, text=TEXT@WEIGHT, "
                          "embedding=FILE.npy@WEIGHT",
                          options->parts.items[index]);
    }
    if (status) {
        const struct reason inner = why ? *why : (struct reason){{0}, {0}};
        (void)reason_set(why, status, "--part", "%s: %s", word, inner.text);
    }
    return status;
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
