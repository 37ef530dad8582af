// SPDX-License-Identifier: Apache-2.0
#include "tools/eval_shots.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "tools/dataset_place.h"
#include "tools/eval_set.h"

// Pictures and prototypes as halves, as a memory keeps them. A label is called by its first name.
static enum status fill(const struct eval_zero *zero, const struct eval_set *set,
                        struct eval_memory *out, struct reason *why)
{
    const uint32_t dimension = set->dimension;
    const struct label_file *labels = &zero->classes.labels;
    uint16_t *images = mem_try_alloc_array(set->count, dimension * sizeof(uint16_t));
    uint16_t *texts = mem_try_alloc_array(set->count, dimension * sizeof(uint16_t));
    uint32_t *first = mem_alloc_array(labels->label_count, sizeof(*first));
    for (size_t i = labels->name_count; i-- > 0;)
        first[labels->label_of[i]] = (uint32_t)i;
    enum status status = images && texts ? STATUS_OK : STATUS_NO_MEMORY;
    for (size_t i = 0; i < set->count && !status; i++) {
        half_from_floats(set->images + i * dimension, images + i * dimension, dimension);
        half_from_floats(zero->prototypes + (size_t)first[set->truth[i]] * dimension,
                         texts + i * dimension, dimension);
    }
    if (!status)
        status = eval_memory_of_rows(images, texts, (uint32_t)set->count, dimension, out);
    mem_free(images);
    mem_free(texts);
    mem_free(first);
    return status ? reason_set(why, status, NULL, "no memory for %zu labelled pictures", set->count)
                  : STATUS_OK;
}

static const char *split_of(const struct options *options)
{
    return options->shots_from ? options->shots_from : EVAL_SHOTS_SPLIT;
}

static enum status find_place(const struct options *options, const struct args_list *items,
                              struct dataset_place *out, struct reason *why)
{
    const enum status status = dataset_place_find(items, split_of(options), out, why);
    if (status && why && strcmp(why->field, "--split") == 0) // it came from another flag here
        (void)snprintf(why->field, sizeof(why->field), "--shots-from");
    return status;
}

// Of a data set as its makers publish it all parts have the same sources, else each has its own
// files.
static bool is_same(const struct dataset_place *a, const struct dataset_place *b)
{
    struct stat first;
    struct stat other;
    if (a->layout || b->layout)
        return a->layout == b->layout && strcmp(a->split, b->split) == 0;
    return stat(a->sources[0], &first) == 0 && stat(b->sources[0], &other) == 0 &&
           first.st_dev == other.st_dev && first.st_ino == other.st_ino;
}

enum status eval_shots_check(const struct options *options, const struct args_list *items,
                             struct reason *why)
{
    struct dataset_place measured = {.source_count = 0};
    struct dataset_place shots = {.source_count = 0};
    enum status status = dataset_place_find(items, options->split, &measured, why);
    if (!status)
        status = find_place(options, items, &shots, why);
    if (!status && is_same(&measured, &shots))
        status = reason_set(why, STATUS_INVALID, "--shots-from",
                            "'%s' is what is measured: its pictures would find themselves; "
                            "another part of the data set is allowed",
                            split_of(options));
    dataset_place_deinit(&measured);
    dataset_place_deinit(&shots);
    return status;
}

enum status eval_shots_read(const struct eval_zero *zero, const struct args_list *items,
                            struct eval_memory *out, bool *has_failed, struct reason *why)
{
    assert(zero && items && out && has_failed);

    const struct options *options = zero->eval->options;
    struct dataset_place place;
    struct eval_set set = {.count = 0};
    enum status status = find_place(options, items, &place, why);
    const struct eval_set_params params = {
        .options = options,
        .place = &place,
        .classes = &zero->classes,
        .encoder = &zero->encoder,
    };
    if (!status)
        status = eval_set_read(&params, &set, why);
    if (!status)
        status = fill(zero, &set, out, why);
    if (!status) {
        const bool names_split = place.layout != NULL;
        (void)snprintf(out->name, sizeof(out->name), "%.100s%s%.50s", place.name,
                       names_split ? "" : "/", names_split ? "" : split_of(options));
        (void)snprintf(out->space, sizeof(out->space), "%s", zero->eval->space);
        out->labels = set.truth;
        set.truth = NULL;
    }
    *has_failed = set.has_failed;
    eval_set_deinit(&set);
    dataset_place_deinit(&place);
    return status;
}
