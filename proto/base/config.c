// SPDX-License-Identifier: Apache-2.0
// config.c - values, their sources, the environment and the command line.
//
// A value is kept as the text that a file would say, once it has been checked; config_store()
// reads it again into the member's type. So what is printed is what is in force.

#include "proto/base/config.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

#include "proto/base/config_internal.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/words.h"

#define SWITCHES "no|yes" // in the order of false and true
#define BLANKS " \t"
#define VARIABLE_PREFIX "RECO_"

extern char **environ;

// ---------------------------------------------------------------- values

// Splits the slot's text at blanks into its items.
static void split(struct config_slot *slot)
{
    slot->items_text = mem_copy_text(slot->text);
    slot->items = mem_alloc_array(CONFIG_ITEMS_MAX, sizeof(slot->items[0]));
    slot->item_count = 0;
    char *at = slot->items_text + strspn(slot->items_text, BLANKS);
    while (*at && slot->item_count < CONFIG_ITEMS_MAX) {
        slot->items[slot->item_count++] = at;
        at += strcspn(at, BLANKS);
        if (*at)
            *at++ = '\0';
        at += strspn(at, BLANKS);
    }
}

static size_t count_items(const char *text)
{
    size_t count = 0;
    for (const char *at = text + strspn(text, BLANKS); *at; count++) {
        at += strcspn(at, BLANKS);
        at += strspn(at, BLANKS);
    }
    return count;
}

// Sets the key to a text that has been checked.
static void set_slot(struct config *config, size_t index, const char *text,
                     const struct config_place *place)
{
    struct config_slot *slot = &config->slots[index];
    char *copy = mem_copy_text(text);
    mem_free(slot->text);
    mem_free(slot->where);
    mem_free(slot->items_text);
    mem_free(slot->items);
    *slot = (struct config_slot){.text = copy, .source = place->source};
    slot->where = place->where ? mem_copy_text(place->where) : NULL;
    if (config->table->keys[index].kind == CONFIG_LIST)
        split(slot);
}

// What is allowed, for the error.
static void say_allowed(const struct config_key *key, char *out, size_t room)
{
    switch (key->kind) {
    case CONFIG_COUNT:
        (void)snprintf(out, room, "a whole number from %llu to %llu is",
                       (unsigned long long)key->low, (unsigned long long)key->high);
        break;
    case CONFIG_SWITCH:
        (void)snprintf(out, room, "%s is", SWITCHES);
        break;
    case CONFIG_CHOICE:
        (void)snprintf(out, room, "%s is", key->choices);
        break;
    case CONFIG_LIST:
        (void)snprintf(out, room, "at most %d words are", CONFIG_ITEMS_MAX);
        break;
    case CONFIG_TEXT:
        (void)snprintf(out, room, "a text without control characters is");
        break;
    }
}

static bool is_allowed(const struct config_key *key, const char *value)
{
    uint64_t number = 0;
    for (const char *at = value; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return false;
    switch (key->kind) {
    case CONFIG_COUNT:
        return words_read_count(value, key->low, key->high, &number);
    case CONFIG_SWITCH:
        return words_place(value, SWITCHES) >= 0;
    case CONFIG_CHOICE:
        return words_place(value, key->choices) >= 0;
    case CONFIG_LIST:
        return count_items(value) <= CONFIG_ITEMS_MAX;
    case CONFIG_TEXT:
        break;
    }
    return true;
}

// "FILE:3: [server] threads: ..." or "--threads: ...". A path may be longer than a reason's field.
static enum status refuse(const struct config_key *key, const struct config_place *place,
                          const char *text, struct reason *why)
{
    if (place->source == CONFIG_FILE)
        return reason_set(why, STATUS_INVALID, NULL, "%s: [%s] %s: %s", place->where, key->section,
                          key->name, text);
    return reason_set(why, STATUS_INVALID, place->where, "%s", text);
}

enum status config_put(struct config *config, size_t index, const struct config_place *place,
                       const char *value, struct reason *why)
{
    const struct config_key *key = &config->table->keys[index];
    struct config_slot *slot = &config->slots[index];
    char text[REASON_TEXT_BYTES];
    char allowed[192];
    assert(place->source >= slot->source);

    bool again = slot->source == place->source;
    if (again && key->kind != CONFIG_LIST) {
        (void)snprintf(text, sizeof(text), "given twice; the other stands at %s", slot->where);
        return refuse(key, place, text, why);
    }
    char *joined = NULL;
    if (again) {
        size_t room = strlen(slot->text) + strlen(value) + 2;
        joined = mem_alloc(room);
        (void)snprintf(joined, room, "%s%s%s", slot->text, slot->text[0] ? " " : "", value);
    } else {
        joined = mem_copy_text(value);
    }
    if (!is_allowed(key, joined)) {
        say_allowed(key, allowed, sizeof(allowed));
        (void)snprintf(text, sizeof(text), "'%.160s' is not allowed: %s", value, allowed);
        mem_free(joined);
        return refuse(key, place, text, why);
    }
    set_slot(config, index, joined, place);
    mem_free(joined);
    return STATUS_OK;
}

size_t config_find(const struct config_table *table, const char *section, const char *name)
{
    size_t i = 0;
    while (i < table->key_count &&
           (strcmp(table->keys[i].section, section) != 0 || strcmp(table->keys[i].name, name) != 0))
        i++;
    return i;
}

static size_t find_flag(const struct config_table *table, const char *flag)
{
    size_t i = 0;
    while (i < table->key_count && (!table->keys[i].flag || strcmp(table->keys[i].flag, flag) != 0))
        i++;
    return i;
}

struct config *config_create(const struct config_table *table)
{
    assert(table && table->key_count <= CONFIG_KEYS_MAX);

    struct config *config = mem_alloc(sizeof(*config));
    const struct config_place place = {.source = CONFIG_DEFAULT};
    config->table = table;
    for (size_t i = 0; i < table->key_count; i++) {
        const char *fallback = table->keys[i].fallback ? table->keys[i].fallback : "";
        assert(is_allowed(&table->keys[i], fallback));
        set_slot(config, i, fallback, &place);
    }
    return config;
}

void config_destroy(struct config **config)
{
    assert(config);

    struct config *freed = *config;
    if (!freed)
        return;
    for (size_t i = 0; i < freed->table->key_count; i++) {
        mem_free(freed->slots[i].text);
        mem_free(freed->slots[i].where);
        mem_free(freed->slots[i].items_text);
        mem_free(freed->slots[i].items);
    }
    mem_free(freed);
    *config = NULL;
}

void config_store(const struct config *config, void *settings)
{
    assert(config && settings);

    for (size_t i = 0; i < config->table->key_count; i++) {
        const struct config_key *key = &config->table->keys[i];
        const struct config_slot *slot = &config->slots[i];
        void *member = (char *)settings + key->offset;
        switch (key->kind) {
        case CONFIG_TEXT:
            *(const char **)member = slot->text[0] ? slot->text : NULL;
            break;
        case CONFIG_COUNT: {
            bool is_count = words_read_count(slot->text, key->low, key->high, member);
            assert(is_count);
            (void)is_count;
            break;
        }
        case CONFIG_SWITCH:
            *(bool *)member = words_place(slot->text, SWITCHES) == 1;
            break;
        case CONFIG_CHOICE:
            *(int *)member = words_place(slot->text, key->choices);
            break;
        case CONFIG_LIST:
            *(struct config_list *)member = (struct config_list){slot->items, slot->item_count};
            break;
        }
    }
}

// The key that a reason's field means; key_count when it is none.
static size_t find_field(const struct config_table *table, const char *field)
{
    char name[REASON_FIELD_BYTES + 2];
    (void)snprintf(name, sizeof(name), "--%s", field);
    size_t i = find_flag(table, field);
    if (i == table->key_count)
        i = find_flag(table, name);
    for (size_t at = 0; at < table->key_count && i == table->key_count; at++) {
        (void)snprintf(name, sizeof(name), "[%s] %s", table->keys[at].section,
                       table->keys[at].name);
        if (strcmp(name, field) == 0 || strcmp(table->keys[at].name, field) == 0)
            i = at;
    }
    return i;
}

void config_blame(const struct config *config, struct reason *why)
{
    assert(config);

    const size_t index = why ? find_field(config->table, why->field) : config->table->key_count;
    if (index == config->table->key_count)
        return;
    const struct config_key *key = &config->table->keys[index];
    const struct config_slot *slot = &config->slots[index];
    const struct reason inner = *why;
    if (slot->source != CONFIG_DEFAULT)
        (void)refuse(key, &(struct config_place){slot->source, slot->where}, inner.text, why);
    else if (key->flag && inner.field[0] != '[')
        (void)reason_set(why, STATUS_INVALID, key->flag, "%s", inner.text);
}

bool config_is_default(const struct config *config, const char *section, const char *name)
{
    size_t index = config_find(config->table, section, name);
    assert(index < config->table->key_count);

    return config->slots[index].source == CONFIG_DEFAULT;
}

void config_log_restarts(const struct config *before, const struct config *now)
{
    assert(before->table == now->table);

    for (size_t i = 0; i < now->table->key_count; i++) {
        const struct config_key *key = &now->table->keys[i];
        char value[LOG_QUOTE_BYTES];
        if (!key->reloads && strcmp(before->slots[i].text, now->slots[i].text) != 0)
            log_warn("config_needs_restart", "section=%s key=%s value=%s", key->section, key->name,
                     log_quote(now->slots[i].text, value));
    }
}

// ---------------------------------------------------------------- the environment

void config_variable(const struct config_key *key, char out[CONFIG_VARIABLE_BYTES])
{
    (void)snprintf(out, CONFIG_VARIABLE_BYTES, VARIABLE_PREFIX "%s_%s", key->section, key->name);
    for (char *at = out; *at; at++)
        *at = (char)toupper((unsigned char)*at);
}

// The key of the table that the variable sets; key_count when there is none.
static size_t find_variable(const struct config_table *table, const char *variable, bool also)
{
    size_t i = 0;
    for (; i < table->key_count; i++) {
        char name[CONFIG_VARIABLE_BYTES];
        config_variable(&table->keys[i], name);
        if (!also && strcmp(name, variable) == 0)
            break;
        if (also && table->keys[i].also && strcmp(table->keys[i].also, variable) == 0)
            break;
    }
    return i;
}

static bool is_elsewhere(const struct config_table *table, const char *variable)
{
    for (const char *const *other = table->other_variables; *other; other++)
        if (strcmp(*other, variable) == 0)
            return true;
    for (const struct config_table *const *member = table->family; *member; member++)
        if (find_variable(*member, variable, false) < (*member)->key_count ||
            find_variable(*member, variable, true) < (*member)->key_count)
            return true;
    return false;
}

static enum status unknown_variable(const struct config_table *table, const char *variable,
                                    struct reason *why)
{
    static const size_t room = (size_t)CONFIG_KEYS_MAX * CONFIG_TABLES_MAX;
    char(*names)[CONFIG_VARIABLE_BYTES] = mem_alloc_array(room, sizeof(names[0]));
    const char **list = mem_alloc_array(room, sizeof(list[0]));
    size_t count = 0;
    for (const struct config_table *const *member = table->family; *member; member++)
        for (size_t i = 0; i < (*member)->key_count && count < room; i++) {
            config_variable(&(*member)->keys[i], names[count]);
            list[count] = names[count];
            count++;
        }
    const char *nearest = words_nearest(variable, list, count);
    enum status status =
        nearest ? reason_set(why, STATUS_INVALID, variable,
                             "no key has this environment variable; did you mean %s?", nearest)
                : reason_set(why, STATUS_INVALID, variable,
                             "no key has this environment variable; --print-config lists the keys "
                             "and RECO_SECTION_KEY is made from them");
    mem_free(list);
    mem_free(names);
    return status;
}

// One "RECO_NAME=VALUE". `also` chooses which names are looked at.
static enum status read_variable(struct config *config, const char *entry, bool also,
                                 struct reason *why)
{
    char variable[CONFIG_VARIABLE_BYTES];
    size_t bytes = strcspn(entry, "=");
    size_t kept = bytes < sizeof(variable) ? bytes : sizeof(variable) - 1;
    memcpy(variable, entry, kept);
    variable[kept] = '\0';

    size_t index = find_variable(config->table, variable, also);
    if (index < config->table->key_count) {
        const struct config_place place = {CONFIG_ENVIRONMENT, variable};
        if (also && config->slots[index].source == CONFIG_ENVIRONMENT)
            return STATUS_OK; // the key's own variable goes before its other name
        return config_put(config, index, &place, entry[bytes] ? entry + bytes + 1 : "", why);
    }
    if (also || is_elsewhere(config->table, variable))
        return STATUS_OK;
    return unknown_variable(config->table, variable, why);
}

enum status config_read_environment(struct config *config, char *const *environment,
                                    struct reason *why)
{
    assert(config && environment);

    enum status status = STATUS_OK;
    for (int also = 0; also <= 1; also++)
        for (size_t i = 0; environment[i] && status == STATUS_OK; i++)
            if (strncmp(environment[i], VARIABLE_PREFIX, strlen(VARIABLE_PREFIX)) == 0)
                status = read_variable(config, environment[i], also == 1, why);
    return status;
}

// ---------------------------------------------------------------- the command line

enum status config_set_flag(struct config *config, const char *flag, const char *value,
                            struct reason *why)
{
    assert(config && flag && value);

    size_t index = find_flag(config->table, flag);
    if (index == config->table->key_count)
        return reason_set(why, STATUS_NOT_FOUND, flag, "no key has this flag");
    const struct config_place place = {CONFIG_FLAG, flag};
    return config_put(config, index, &place, value, why);
}

static bool read_switch(struct config_words *words, const char *name)
{
    const struct {
        const char *name;
        bool *target;
    } switches[] = {
        {"--config-shared", &words->shared},
        {"--print-config", &words->print},
        {"--help", &words->help},
        {"--version", &words->version},
        {"--die-with-parent", &words->die_with_parent},
    };
    for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++)
        if (strcmp(name, switches[i].name) == 0) {
            *switches[i].target = true;
            return true;
        }
    return false;
}

static enum status unknown_flag(const struct config_table *table, const char *name,
                                struct reason *why)
{
    const char *names[CONFIG_KEYS_MAX + 5] = {"--config", "--print-config", "--help", "--version"};
    size_t count = 4;
    for (size_t i = 0; i < table->key_count; i++)
        if (table->keys[i].flag)
            names[count++] = table->keys[i].flag;
    const char *nearest = words_nearest(name, names, count);
    if (nearest)
        return reason_set(why, STATUS_INVALID, name, "unknown flag; did you mean %s?", nearest);
    return reason_set(why, STATUS_INVALID, name, "unknown flag; see %s --help", table->program);
}

// Walks the words; sets keys when `config` is not NULL, else only *words and whether all is known.
static enum status walk(const struct config_table *table, int argc, const char *const *argv,
                        struct config_words *words, struct config *config, struct reason *why)
{
    for (int i = 1; i < argc; i++) {
        if (read_switch(words, argv[i]))
            continue;
        bool is_file = strcmp(argv[i], "--config") == 0;
        if (!is_file && find_flag(table, argv[i]) == table->key_count)
            return unknown_flag(table, argv[i], why);
        if (i + 1 == argc)
            return reason_set(why, STATUS_INVALID, argv[i], "needs a value");
        const char *value = argv[++i];
        if (is_file && words->file && !config)
            return reason_set(why, STATUS_INVALID, argv[i - 1], "given twice");
        if (is_file)
            words->file = value;
        enum status status =
            config && !is_file ? config_set_flag(config, argv[i - 1], value, why) : STATUS_OK;
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

enum status config_load(const struct config_table *table, int argc, const char *const *argv,
                        struct config_words *words, struct config **out, struct reason *why)
{
    assert(table && words && out);

    *words = (struct config_words){0};
    enum status status = walk(table, argc, argv, words, NULL, why);
    if (status != STATUS_OK)
        return status;
    struct config *config = config_create(table);
    bool is_all = words->help || words->version;
    if (!is_all && words->file)
        status = config_read_file(config, words->file, words->shared, why);
    if (!is_all && status == STATUS_OK)
        status = config_read_environment(config, environ, why);
    if (!is_all && status == STATUS_OK)
        status = walk(table, argc, argv, words, config, why);
    if (status != STATUS_OK)
        config_destroy(&config);
    else
        *out = config;
    return status;
}
