// SPDX-License-Identifier: Apache-2.0
#include "tools/eval_shots.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

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

enum status eval_shots_read(const struct eval_zero *zero, const struct args_list *items,
                            struct eval_memory *out, bool *has_failed, struct reason *why)
{
    assert(zero && items && out && has_failed);

    const struct options *options = zero->eval->options;
    const char *split = options->shots_from ? options->shots_from : EVAL_SHOTS_SPLIT;
    struct dataset_place place;
    struct eval_set set = {.count = 0};
    enum status status = dataset_place_find(items, split, &place, why);
    if (status && why && strcmp(why->field, "--split") == 0) // it came from another flag here
        (void)snprintf(why->field, sizeof(why->field), "--shots-from");
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
                       names_split ? "" : "/", names_split ? "" : split);
        (void)snprintf(out->space, sizeof(out->space), "%s", zero->eval->space);
        out->labels = set.truth;
        set.truth = NULL;
    }
    *has_failed = set.has_failed;
    eval_set_deinit(&set);
    dataset_place_deinit(&place);
    return status;
}
