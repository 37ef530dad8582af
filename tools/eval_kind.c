// SPDX-License-Identifier: Apache-2.0
#include "tools/eval_kind.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

static enum status check_k(const struct eval *eval, struct reason *why)
{
    return eval_check_k(eval, "-k", eval->options->k, eval->memory.count, why);
}

static size_t one_point(const struct eval *eval)
{
    (void)eval;
    return 1;
}

static enum status set_plain(struct eval_asking asking, size_t index, struct eval_point *out,
                             struct reason *why)
{
    (void)index;
    (void)why;
    *out = (struct eval_point){.at = (double)NAN, .k = (uint32_t)asking.eval->options->k};
    return STATUS_OK;
}

static size_t count_noise(const struct eval *eval)
{
    return eval->options->shares.count;
}

static enum status set_noise(struct eval_asking asking, size_t index, struct eval_point *out,
                             struct reason *why)
{
    struct eval_memory *memory = &asking.eval->memory;
    const uint64_t percent = asking.eval->options->shares.items[index];
    const uint32_t wrong = (uint32_t)((memory->count * percent + 50) / 100);
    *out = (struct eval_point){.at = (double)percent / 100, .k = (uint32_t)asking.eval->options->k};
    (void)snprintf(out->text, sizeof(out->text), "%u %%", (unsigned)percent);
    const enum status status = eval_memory_exchange(memory, wrong, asking.eval->options->seed);
    return status ? reason_set(why, status, "--noise", "no memory to exchange %u captions", wrong)
                  : STATUS_OK;
}

static size_t count_neighbours(const struct eval *eval)
{
    return eval->options->neighbours.count;
}

static uint64_t most_neighbours(const struct eval *eval)
{
    const struct args_numbers *list = &eval->options->neighbours;
    uint64_t most = 0;
    for (size_t i = 0; i < list->count; i++)
        most = list->items[i] > most ? list->items[i] : most;
    return most;
}

static enum status check_neighbours(const struct eval *eval, struct reason *why)
{
    return eval_check_k(eval, "--neighbours", most_neighbours(eval), eval->memory.count, why);
}

// The largest k is searched for once; each takes the first of what was found.
static enum status set_neighbours(struct eval_asking asking, size_t index, struct eval_point *out,
                                  struct reason *why)
{
    const uint64_t k = asking.eval->options->neighbours.items[index];
    *out = (struct eval_point){.at = (double)k, .k = (uint32_t)k, .keeps_hits = true};
    (void)snprintf(out->text, sizeof(out->text), "%u", out->k);
    return index > 0 ? STATUS_OK
                     : eval_zero_search(asking.zero, out->sides,
                                        (uint32_t)most_neighbours(asking.eval), why);
}

static size_t count_sizes(const struct eval *eval)
{
    const size_t given = eval->options->sizes.count;
    return given ? given : 4; // a 64th, a 16th, a quarter, all
}

static uint64_t size_of(const struct eval *eval, size_t index)
{
    const struct options *options = eval->options;
    if (options->sizes.count)
        return options->sizes.items[index];
    uint64_t size = eval->memory.count;
    for (size_t i = index; i + 1 < 4; i++)
        size = size / 4 > options->k ? size / 4 : options->k;
    return size;
}

static enum status check_sizes(const struct eval *eval, struct reason *why)
{
    const struct eval_memory *memory = &eval->memory;
    enum status status = check_k(eval, why);
    for (size_t i = 0; i < count_sizes(eval) && !status && memory->count; i++) {
        const uint64_t size = size_of(eval, i);
        if (size > memory->count)
            return reason_set(why, STATUS_INVALID, "--sizes",
                              "%llu: the memory %s has %u records; allowed: 1..%u",
                              (unsigned long long)size, memory->name, memory->count, memory->count);
        status = eval_check_k(eval, "-k", eval->options->k, size, why);
    }
    return status;
}

static enum status set_size(struct eval_asking asking, size_t index, struct eval_point *out,
                            struct reason *why)
{
    const uint64_t size = size_of(asking.eval, index);
    *out = (struct eval_point){.at = (double)size, .k = (uint32_t)asking.eval->options->k};
    (void)snprintf(out->text, sizeof(out->text), "%llu", (unsigned long long)size);
    const enum status status =
        eval_memory_choose(&asking.eval->memory, (uint32_t)size, asking.eval->options->seed);
    return status ? reason_set(why, status, "--sizes", "no memory to choose %llu records",
                               (unsigned long long)size)
                  : STATUS_OK;
}

static size_t four_points(const struct eval *eval)
{
    (void)eval;
    return 4;
}

static enum status set_sides(struct eval_asking asking, size_t index, struct eval_point *out,
                             struct reason *why)
{
    (void)why;
    *out = (struct eval_point){.at = (double)NAN,
                               .k = (uint32_t)asking.eval->options->k,
                               .sides = {.search_across = index >= 2, .fuse_same = index % 2 == 1},
                               .keeps_hits = index % 2 == 1};
    (void)snprintf(out->text, sizeof(out->text), "search %s, fuse %s",
                   out->sides.search_across ? "across" : "own",
                   out->sides.fuse_same ? "own" : "across");
    return STATUS_OK;
}

static enum status check_nothing(const struct eval *eval, struct reason *why)
{
    (void)eval;
    (void)why;
    return STATUS_OK;
}

static size_t count_shots(const struct eval *eval)
{
    return eval->options->shots.count;
}

static enum status set_shots(struct eval_asking asking, size_t index, struct eval_point *out,
                             struct reason *why)
{
    struct eval_memory *memory = &asking.eval->memory;
    const struct options *options = asking.eval->options;
    const uint64_t shots = options->shots.items[index];
    const size_t labels = asking.zero->classes.labels.label_count;
    *out = (struct eval_point){.at = (double)shots, .k = (uint32_t)options->k};
    (void)snprintf(out->text, sizeof(out->text), "%u", (unsigned)shots);
    const enum status status =
        eval_memory_choose_shots(memory, (uint32_t)labels, (uint32_t)shots, options->seed);
    if (status)
        return reason_set(why, status, "--shots", "no memory to choose %u pictures of each label",
                          (unsigned)shots);
    return eval_check_k(asking.eval, "-k", options->k, memory->live_count, why);
}

static size_t two_points(const struct eval *eval)
{
    (void)eval;
    return 2;
}

static enum status set_capacity(struct eval_asking asking, size_t index, struct eval_point *out,
                                struct reason *why)
{
    (void)why;
    *out = (struct eval_point){.at = (double)NAN,
                               .k = (uint32_t)asking.eval->options->k,
                               .sides = {.fuse_itself = index == 1},
                               .keeps_hits = index == 1};
    (void)snprintf(out->text, sizeof(out->text), index == 1 ? "itself" : "neighbours");
    return STATUS_OK;
}

// --- all of them

const struct eval_kind eval_kinds[EVAL_KINDS] = {
    {.name = "zero-shot", .check = check_k, .count = one_point, .set = set_plain},
    {.name = "noise",
     .axis = "noise",
     .title = ">wrong",
     .words = "captions exchanged",
     .check = check_k,
     .count = count_noise,
     .set = set_noise},
    {.name = "ksweep",
     .axis = "neighbours",
     .title = ">k",
     .words = "neighbours",
     .check = check_neighbours,
     .count = count_neighbours,
     .set = set_neighbours},
    {.name = "memory-size",
     .axis = "size",
     .title = ">records",
     .words = "records of the memory",
     .check = check_sizes,
     .count = count_sizes,
     .set = set_size},
    {.name = "grid",
     .axis = "sides",
     .title = "sides",
     .words = "sides",
     .check = check_k,
     .count = four_points,
     .set = set_sides},
    {.name = "few-shot",
     .axis = "shots",
     .title = ">shots",
     .words = "pictures of each label",
     .check = check_nothing,
     .brings_memory = true,
     .count = count_shots,
     .set = set_shots},
    {.name = "capacity",
     .axis = "taken_in",
     .title = "taken in",
     .words = "taken in",
     .check = check_k,
     .count = two_points,
     .set = set_capacity},
};

const struct eval_kind eval_kind_oven = {
    .name = "oven", .check = check_k, .is_oven = true, .count = one_point, .set = set_plain};

const struct eval_kind *eval_kind_find(struct text name)
{
    for (size_t i = 0; i < EVAL_KINDS; i++)
        if (text_equal(name, text_of(eval_kinds[i].name)))
            return &eval_kinds[i];
    return NULL;
}

enum status eval_kind_reset(struct eval *eval, struct reason *why)
{
    assert(eval);

    struct eval_memory *memory = &eval->memory;
    enum status status = STATUS_OK;
    if (memory->texts_kept)
        status = eval_memory_exchange(memory, 0, 0);
    if (!status && memory->live_count < memory->count)
        status = eval_memory_choose(memory, memory->count, 0);
    return status ? reason_set(why, status, NULL, "no memory for %u records", memory->count)
                  : STATUS_OK;
}
