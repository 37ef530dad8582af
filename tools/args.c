// SPDX-License-Identifier: Apache-2.0
// Parsing walks argv once. A flag is found by comparing names over the verb's
// groups: a verb has some thirty flags and a command line a handful, so a search
// from the front is enough.

#include "tools/args.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "proto/base/words.h"

#define NAMES_MAX 128 // flags of one verb

const struct args_flag *args_next_flag(const struct args_verb *verb, struct args_walk *walk)
{
    const struct args_flag *next = walk->at ? walk->at + 1 : verb->groups[0];
    while (walk->group < ARGS_GROUPS_MAX && next && !next->name) {
        walk->group++;
        next = walk->group < ARGS_GROUPS_MAX ? verb->groups[walk->group] : NULL;
    }
    walk->at = next;
    return next;
}

enum args_value args_value_of(const char *argument)
{
    static const char *const files[] = {"FILE", "IMAGE", "SOURCE"};
    if (strncmp(argument, "DIR", 3) == 0)
        return ARGS_VALUE_FOLDER;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (strncmp(argument, files[i], strlen(files[i])) == 0)
            return ARGS_VALUE_FILE;
    // "X.npy" is a file, the dots of "ITEM..." are none.
    const char *dot = strchr(argument, '.');
    return dot && dot[1] != '.' && dot[1] ? ARGS_VALUE_FILE : ARGS_VALUE_WORD;
}

// --- values

enum status args_read_count(const char *name, const char *text, uint64_t low, uint64_t high,
                            uint64_t *out, struct reason *why)
{
    if (words_read_count(text, low, high, out))
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, name,
                      "'%s' is not allowed: a whole number from %llu to %llu is", text,
                      (unsigned long long)low, (unsigned long long)high);
}

enum status args_read_number(const char *name, const char *text, double low, double high,
                             double *out, struct reason *why)
{
    char *end = NULL;
    double value = 0;
    // strtod also takes white space, "inf", "nan" and hexadecimal; a flag does not.
    if (text[0] && strspn(text, "0123456789+-.eE") == strlen(text))
        value = strtod(text, &end);

    if (!end || end == text || *end || !isfinite(value) || value < low || value > high)
        return reason_set(why, STATUS_INVALID, name,
                          "'%s' is not allowed: a number from %g to %g is", text, low, high);
    *out = value;
    return STATUS_OK;
}

static enum status read_numbers(const struct args_flag *flag, const char *text,
                                struct args_numbers *out, struct reason *why)
{
    struct args_numbers list = {.count = 0};
    const char *at = text;

    for (;;) {
        size_t bytes = strcspn(at, ",");
        char word[32];
        if (list.count == ARGS_NUMBERS_MAX || bytes >= sizeof(word))
            return reason_set(why, STATUS_INVALID, flag->name,
                              "'%s' is not allowed: at most %d numbers with commas between", text,
                              ARGS_NUMBERS_MAX);
        memcpy(word, at, bytes);
        word[bytes] = 0;
        enum status status = args_read_count(flag->name, word, (uint64_t)flag->low,
                                             (uint64_t)flag->high, &list.items[list.count], why);
        if (status)
            return status;
        for (size_t i = 0; i < list.count; i++)
            if (list.items[i] == list.items[list.count])
                return reason_set(why, STATUS_INVALID, flag->name,
                                  "'%s' is not allowed: %s comes twice", text, word);
        list.count++;
        if (!at[bytes])
            break;
        at += bytes + 1;
    }
    *out = list;
    return STATUS_OK;
}

static void list_push(struct args_list *list, const char *item)
{
    list->items = mem_grow(list->items, list->count + 1, sizeof(list->items[0]));
    list->items[list->count++] = item;
}

static enum status store(const struct args_flag *flag, const char *value, void *options,
                         struct reason *why)
{
    void *member = (char *)options + flag->offset;
    int place = 0;

    switch (flag->kind) {
    case ARGS_SWITCH:
        *(bool *)member = true;
        return STATUS_OK;
    case ARGS_TEXT:
        // A script's variable that is not set: what is usual would be taken in its place.
        if (!value[0] && args_value_of(flag->argument) != ARGS_VALUE_WORD)
            return reason_set(why, STATUS_INVALID, flag->name, "'' is not allowed: a path is");
        *(const char **)member = value;
        return STATUS_OK;
    case ARGS_LIST:
        list_push(member, value);
        return STATUS_OK;
    case ARGS_COUNT:
        return args_read_count(flag->name, value, (uint64_t)flag->low, (uint64_t)flag->high, member,
                               why);
    case ARGS_NUMBER:
        return args_read_number(flag->name, value, flag->low, flag->high, member, why);
    case ARGS_NUMBER_LIST:
        return read_numbers(flag, value, member, why);
    case ARGS_CHOICE:
        break;
    }

    place = words_place(value, flag->choices);
    if (place < 0)
        return reason_set(why, STATUS_INVALID, flag->name, "'%s' is not allowed: %s is", value,
                          flag->choices);
    *(int *)member = place;
    return STATUS_OK;
}

// --- parsing

static const struct args_flag *find_flag(const struct args_verb *verb, const char *name,
                                         size_t bytes)
{
    struct args_walk walk = {.at = NULL};
    for (const struct args_flag *flag = args_next_flag(verb, &walk); flag;
         flag = args_next_flag(verb, &walk)) {
        if (strlen(flag->name) == bytes && memcmp(flag->name, name, bytes) == 0)
            return flag;
        if (flag->alias && strlen(flag->alias) == bytes && memcmp(flag->alias, name, bytes) == 0)
            return flag;
    }
    return NULL;
}

bool args_has(const struct args_verb *verb, const char *flag)
{
    return find_flag(verb, flag, strlen(flag)) != NULL;
}

static enum status unknown_flag(const struct args_verb *verb, const char *word, size_t bytes,
                                struct reason *why)
{
    char name[WORDS_BYTES_MAX];
    size_t kept = bytes < sizeof(name) ? bytes : sizeof(name) - 1;
    memcpy(name, word, kept);
    name[kept] = 0;

    const char *names[NAMES_MAX];
    size_t count = 0;
    struct args_walk walk = {.at = NULL};
    for (const struct args_flag *flag = args_next_flag(verb, &walk); flag && count < NAMES_MAX;
         flag = args_next_flag(verb, &walk))
        names[count++] = flag->name;

    const char *nearest = words_nearest(name, names, count);
    if (nearest)
        return reason_set(why, STATUS_INVALID, NULL, "unknown flag %s; did you mean %s?", name,
                          nearest);
    return reason_set(why, STATUS_INVALID, NULL, "unknown flag %s; see `reco help %s`", name,
                      verb->name);
}

// Takes one flag with its value, which may be the next word; *taken counts the words.
static enum status take_flag(const struct args_verb *verb, int left, const char *const *words,
                             void *options, int *taken, struct reason *why)
{
    const char *word = words[0];
    size_t bytes = strcspn(word, "=");
    const struct args_flag *flag = find_flag(verb, word, bytes);
    if (!flag)
        return unknown_flag(verb, word, bytes, why);

    const char *value = word[bytes] ? word + bytes + 1 : NULL;
    if (flag->kind == ARGS_SWITCH && value)
        return reason_set(why, STATUS_INVALID, flag->name, "takes no value, got '%s'", value);

    *taken = 1;
    if (flag->kind != ARGS_SWITCH && !value) {
        if (left < 2)
            return reason_set(why, STATUS_INVALID, flag->name, "needs a value: %s", flag->argument);
        value = words[1];
        *taken = 2;
    }
    return store(flag, value, options, why);
}

static enum status check_items(const struct args_verb *verb, const struct args_list *items,
                               struct reason *why)
{
    if (items->count < verb->items_min)
        return reason_set(why, STATUS_INVALID, NULL, "%s: reco %s %s",
                          items->count ? "something is missing" : "nothing given", verb->name,
                          verb->items);
    if (items->count && !verb->items_max && find_flag(verb, "--image", strlen("--image")))
        return reason_set(why, STATUS_INVALID, NULL,
                          "'%s' is one too many: only flags are allowed, as --image %s or "
                          "--text '%s'; see `reco help %s`",
                          items->items[0], items->items[0], items->items[0], verb->name);
    if (items->count && !verb->items_max)
        return reason_set(why, STATUS_INVALID, NULL,
                          "'%s' is one too many: only flags are allowed; see `reco help %s`",
                          items->items[0], verb->name);
    if (items->count > verb->items_max)
        return reason_set(why, STATUS_INVALID, NULL, "'%s' is one too many: reco %s%s%s",
                          items->items[verb->items_max], verb->name, verb->items[0] ? " " : "",
                          verb->items);
    return STATUS_OK;
}

enum status args_parse(const struct args_verb *verb, int argc, const char *const *argv,
                       void *options, struct args_rest *rest, struct reason *why)
{
    assert(verb && options && rest);

    bool flags_ended = false;
    enum status status = STATUS_OK;
    rest->help = false;
    for (int i = 0; i < argc && !status;) {
        const char *word = argv[i];
        int taken = 1;
        if (flags_ended || word[0] != '-' || !word[1]) {
            list_push(&rest->items, word);
        } else if (strcmp(word, "--") == 0) {
            flags_ended = true;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            rest->help = true;
            return STATUS_OK;
        } else {
            status = take_flag(verb, argc - i, argv + i, options, &taken, why);
        }
        i += taken;
    }
    return status ? status : check_items(verb, &rest->items, why);
}

void args_free(const struct args_verb *verb, void *options, struct args_list *items)
{
    struct args_walk walk = {.at = NULL};
    for (const struct args_flag *flag = args_next_flag(verb, &walk); flag;
         flag = args_next_flag(verb, &walk)) {
        if (flag->kind != ARGS_LIST)
            continue;
        struct args_list *list = (struct args_list *)(void *)((char *)options + flag->offset);
        mem_free(list->items);
        *list = (struct args_list){0};
    }
    mem_free(items->items);
    *items = (struct args_list){0};
}
