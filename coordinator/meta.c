// SPDX-License-Identifier: Apache-2.0
// meta.c - the table of memories in RAM and as one JSON file.
//
//   {"format": 1, "next_generation": 3,
//    "generations": [{"generation": 1, "memory": "birds", "state": "serving",
//                     "space": "...:512", "dimension": 512, "vshards": 64}],
//    "aliases": [{"name": "birds", "generation": 1}, {"name": "now", "memory": "birds"}]}
//
// A memory's own name is an alias too. Another one has a generation, or follows a memory's name.
//
// A change is made on a copy of the table, the copy is written, and only then takes the
// table's place: a full disk leaves everything as it was.

#include "coordinator/meta.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/meta_file.h"
#include "coordinator/meta_internal.h"
#include "proto/base/json.h"
#include "proto/base/mem.h"

#define META_FORMAT 2                  // 1 had no aliases but the memories' own names
#define META_FILE_BYTES_MAX (8u << 20) // 4,096 generations need about 2 MiB

static const char *const state_names[] = {
    [META_BUILDING] = "building",
    [META_SERVING] = "serving",
    [META_DROPPING] = "dropping",
    [META_RESTORING] = "restoring",
};
#define STATE_COUNT (sizeof(state_names) / sizeof(state_names[0]))

const char *meta_state_name(enum meta_state state)
{
    assert((size_t)state < STATE_COUNT);

    return state_names[state];
}

// ---------------------------------------------------------------- names

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool meta_is_name(struct text name)
{
    if (name.bytes < 1 || name.bytes > MEMORY_NAME_BYTES_MAX || !is_letter_or_digit(name.data[0]))
        return false;
    for (size_t i = 1; i < name.bytes; i++) {
        char c = name.data[i];
        if (!is_letter_or_digit(c) && c != '.' && c != '_' && c != '-')
            return false;
    }
    return true;
}

enum status meta_check_name(struct text name, struct reason *why)
{
    if (meta_is_name(name))
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, "name",
                      "'%.*s' is no name of a memory: 1..%d letters, digits, '.', '_' and '-', "
                      "the first a letter or digit",
                      (int)(name.bytes < 160 ? name.bytes : 160), name.data ? name.data : "",
                      MEMORY_NAME_BYTES_MAX);
}

// Reads a number of 1..UINT32_MAX in plain digits.
static bool read_number(struct text text, uint32_t *out)
{
    uint64_t value = 0;
    if (text.bytes < 1 || text.bytes > 10 || text.data[0] == '0')
        return false;
    for (size_t i = 0; i < text.bytes; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    if (value > UINT32_MAX)
        return false;
    *out = (uint32_t)value;
    return true;
}

enum status meta_parse_space(struct text space, uint32_t *dimension, struct reason *why)
{
    size_t colon = space.bytes;
    while (colon > 0 && space.data[colon - 1] != ':')
        colon--;
    uint32_t value = 0;
    if (space.bytes <= SPACE_BYTES_MAX && colon > 1 &&
        meta_is_name((struct text){space.data, colon - 1}) &&
        read_number((struct text){space.data + colon, space.bytes - colon}, &value) &&
        value <= DIMENSION_MAX) {
        *dimension = value;
        return STATUS_OK;
    }
    return reason_set(why, STATUS_INVALID, "space",
                      "'%.*s' is no space: NAME:DIMENSION with letters, digits, '.', '_', '-' and "
                      "a dimension of 1..%d",
                      (int)(space.bytes < 160 ? space.bytes : 160), space.data ? space.data : "",
                      DIMENSION_MAX);
}

// Splits NAME or NAME@GENERATION; *number is 0 without one.
enum status meta_split_name(struct text full, struct text *name, uint32_t *number,
                            struct reason *why)
{
    *name = full.bytes == 0 ? text_of(META_NAME_DEFAULT) : full;
    *number = 0;
    const char *at = memchr(name->data, '@', name->bytes);
    if (at) {
        struct text digits = {at + 1, (size_t)(name->data + name->bytes - at - 1)};
        name->bytes = (size_t)(at - name->data);
        if (!read_number(digits, number))
            return reason_set(why, STATUS_INVALID, "memory",
                              "'%.*s' is no generation: NAME@GENERATION wants a number from 1",
                              (int)(digits.bytes < 160 ? digits.bytes : 160), digits.data);
    }
    return meta_check_name(*name, why);
}

// ---------------------------------------------------------------- the table

static int compare_generations(const void *a, const void *b)
{
    const struct meta_generation *left = a;
    const struct meta_generation *right = b;
    int order = strcmp(left->memory, right->memory);
    if (order != 0)
        return order;
    return left->number < right->number ? -1 : left->number > right->number;
}

void meta_table_deinit(struct meta_table *table)
{
    mem_free(table->generations);
    mem_free(table->aliases);
    *table = (struct meta_table){0};
}

// A copy with room for one more of each.
struct meta_table meta_table_copy(const struct meta_table *table)
{
    struct meta_table copy = *table;
    copy.generations = mem_alloc_array((size_t)table->count + 1, sizeof(table->generations[0]));
    copy.aliases = mem_alloc_array((size_t)table->alias_count + 1, sizeof(table->aliases[0]));
    if (table->count > 0)
        memcpy(copy.generations, table->generations, table->count * sizeof(table->generations[0]));
    if (table->alias_count > 0)
        memcpy(copy.aliases, table->aliases, table->alias_count * sizeof(table->aliases[0]));
    return copy;
}

struct meta_generation *meta_table_at(const struct meta_table *table, uint32_t number)
{
    for (uint32_t i = 0; i < table->count; i++)
        if (table->generations[i].number == number)
            return &table->generations[i];
    return NULL;
}

bool meta_table_is_memory(const struct meta_table *table, struct text name)
{
    for (uint32_t i = 0; i < table->count; i++)
        if (text_equal(text_of(table->generations[i].memory), name))
            return true;
    return false;
}

uint32_t meta_table_target(const struct meta_table *table, const struct meta_alias *alias)
{
    const struct meta_alias *own =
        alias->memory[0] ? meta_table_alias(table, text_of(alias->memory)) : alias;
    return own ? own->generation : 0;
}

struct meta_alias *meta_table_alias(const struct meta_table *table, struct text name)
{
    for (uint32_t i = 0; i < table->alias_count; i++)
        if (text_equal(text_of(table->aliases[i].name), name))
            return &table->aliases[i];
    return NULL;
}

// Points the name of a generation at it.
static void table_point(struct meta_table *table, const struct meta_generation *generation)
{
    struct meta_alias *alias = meta_table_alias(table, text_of(generation->memory));
    if (!alias) {
        alias = &table->aliases[table->alias_count++];
        memcpy(alias->name, generation->memory, sizeof(alias->name));
    }
    alias->generation = generation->number;
}

// After `memory` lost the generation it pointed at: the newest other one that serves, or none.
static void table_fall_back(struct meta_table *table, const char *memory)
{
    struct meta_alias *alias = meta_table_alias(table, text_of(memory));
    const struct meta_generation *newest = NULL;
    for (uint32_t i = 0; i < table->count; i++)
        if (strcmp(table->generations[i].memory, memory) == 0 &&
            table->generations[i].state == META_SERVING)
            newest = &table->generations[i];
    if (newest)
        table_point(table, newest);
    else if (alias)
        *alias = table->aliases[--table->alias_count];
}

static void write_table(struct json_writer *json, const struct meta_table *table)
{
    json_begin_object(json);
    json_name(json, "format");
    json_put_int(json, META_FORMAT);
    json_name(json, "next_generation");
    json_put_uint(json, table->next);
    json_name(json, "generations");
    json_begin_array(json);
    for (uint32_t i = 0; i < table->count; i++) {
        const struct meta_generation *generation = &table->generations[i];
        json_begin_object(json);
        json_name(json, "generation");
        json_put_uint(json, generation->number);
        json_name(json, "memory");
        json_put_cstr(json, generation->memory);
        json_name(json, "state");
        json_put_cstr(json, meta_state_name(generation->state));
        json_name(json, "space");
        json_put_cstr(json, generation->space);
        json_name(json, "dimension");
        json_put_uint(json, generation->dimension);
        json_name(json, "vshards");
        json_put_uint(json, generation->vshards);
        json_end_object(json);
    }
    json_end_array(json);
    json_name(json, "aliases");
    json_begin_array(json);
    for (uint32_t i = 0; i < table->alias_count; i++) {
        json_begin_object(json);
        json_name(json, "name");
        json_put_cstr(json, table->aliases[i].name);
        const struct meta_alias *alias = &table->aliases[i];
        json_name(json, alias->memory[0] ? "memory" : "generation");
        if (alias->memory[0])
            json_put_cstr(json, alias->memory);
        else
            json_put_uint(json, alias->generation);
        json_end_object(json);
    }
    json_end_array(json);
    json_end_object(json);
}

// Writes *next and lets it take the table's place; else drops it.
enum status meta_commit(struct meta *meta, struct meta_table *next, struct reason *why)
{
    if (next->count > 0)
        qsort(next->generations, next->count, sizeof(next->generations[0]), compare_generations);

    enum status status = STATUS_FAILED_PRECONDITION;
    if (meta->path[0] == '\0') {
        (void)reason_set(why, status, "data", "there is no data directory to keep memories in");
    } else {
        struct json_writer json = {0};
        write_table(&json, next);
        status = json.failed ? reason_set(why, STATUS_NO_MEMORY, "data", "no memory to write %s",
                                          meta->path)
                             : meta_file_replace(meta->path, json.out.data, json.out.count, why);
        json_writer_deinit(&json);
    }
    if (status != STATUS_OK) {
        meta_table_deinit(next);
        return status;
    }
    meta_table_deinit(&meta->table);
    meta->table = *next;
    return STATUS_OK;
}

// ---------------------------------------------------------------- reading the file

static bool member_number(const struct json *object, const char *name, int64_t max, uint32_t *out)
{
    int64_t value = 0;
    if (!json_int(json_member(object, name), &value) || value < 1 || value > max)
        return false;
    *out = (uint32_t)value;
    return true;
}

static bool member_text(const struct json *object, const char *name, char *out, size_t room)
{
    struct text text = json_text(json_member(object, name));
    if (text.bytes == 0 || text.bytes >= room || memchr(text.data, '\0', text.bytes))
        return false;
    memcpy(out, text.data, text.bytes);
    out[text.bytes] = '\0';
    return true;
}

static bool read_state(const struct json *object, enum meta_state *out)
{
    struct text text = json_text(json_member(object, "state"));
    for (size_t i = 0; i < STATE_COUNT; i++)
        if (text_equal(text, text_of(state_names[i]))) {
            *out = (enum meta_state)i;
            return true;
        }
    return false;
}

static bool read_generation(const struct json *object, const struct meta_table *table,
                            struct meta_generation *out)
{
    uint32_t dimension = 0;
    return member_number(object, "generation", UINT32_MAX, &out->number) &&
           out->number < table->next && !meta_table_at(table, out->number) &&
           member_text(object, "memory", out->memory, sizeof(out->memory)) &&
           meta_is_name(text_of(out->memory)) && read_state(object, &out->state) &&
           member_text(object, "space", out->space, sizeof(out->space)) &&
           meta_parse_space(text_of(out->space), &dimension, NULL) == STATUS_OK &&
           member_number(object, "dimension", DIMENSION_MAX, &out->dimension) &&
           dimension == out->dimension &&
           member_number(object, "vshards", VSHARDS_MAX, &out->vshards);
}

// What its memory is, is checked when all are read.
static bool read_alias(const struct json *object, const struct meta_table *table,
                       struct meta_alias *out)
{
    if (!member_text(object, "name", out->name, sizeof(out->name)) ||
        !meta_is_name(text_of(out->name)) || meta_table_alias(table, text_of(out->name)))
        return false;
    if (json_member(object, "memory"))
        return member_text(object, "memory", out->memory, sizeof(out->memory));
    if (!member_number(object, "generation", UINT32_MAX, &out->generation))
        return false;
    const struct meta_generation *generation = meta_table_at(table, out->generation);
    return generation && generation->state == META_SERVING &&
           (strcmp(generation->memory, out->name) == 0 ||
            !meta_table_is_memory(table, text_of(out->name)));
}

static bool aliases_are_sound(const struct meta_table *table)
{
    for (uint32_t i = 0; i < table->alias_count; i++) {
        const struct meta_alias *alias = &table->aliases[i];
        if (!alias->memory[0])
            continue;
        const struct meta_alias *own = meta_table_alias(table, text_of(alias->memory));
        if (!own || own->memory[0] || !meta_table_is_memory(table, text_of(alias->memory)) ||
            meta_table_is_memory(table, text_of(alias->name)))
            return false;
    }
    return true;
}

static enum status read_table(const struct json *document, struct meta_table *table,
                              struct reason *why)
{
    int64_t format = 0;
    if (!json_int(json_member(document, "format"), &format) || format < 1)
        return reason_set(why, STATUS_CORRUPT, "meta.json: format", "it must be a number from 1");
    if (format > META_FORMAT)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "meta.json: format",
                          "it is %lld and this program reads up to %d: use a newer one",
                          (long long)format, META_FORMAT);
    if (!member_number(document, "next_generation", UINT32_MAX, &table->next))
        return reason_set(why, STATUS_CORRUPT, "meta.json: next_generation",
                          "it must be a number of 1..%u", UINT32_MAX);

    const struct json *generations = json_member(document, "generations");
    const struct json *aliases = json_member(document, "aliases");
    if (!json_is_array(generations) || json_count(generations) > META_GENERATIONS_MAX ||
        !json_is_array(aliases) || json_count(aliases) > META_GENERATIONS_MAX + META_ALIASES_MAX)
        return reason_set(why, STATUS_CORRUPT, "meta.json",
                          "generations and aliases must be arrays of at most %d and %d",
                          META_GENERATIONS_MAX, META_GENERATIONS_MAX + META_ALIASES_MAX);

    table->generations =
        mem_alloc_array(json_count(generations) + 1, sizeof(table->generations[0]));
    table->aliases = mem_alloc_array(json_count(aliases) + 1, sizeof(table->aliases[0]));
    for (size_t i = 0; i < json_count(generations); i++) {
        if (!read_generation(json_element(generations, i), table,
                             &table->generations[table->count]))
            return reason_set(why, STATUS_CORRUPT, "meta.json: generations",
                              "element %zu is not a whole generation of its own", i);
        table->count++;
    }
    for (size_t i = 0; i < json_count(aliases); i++) {
        if (!read_alias(json_element(aliases, i), table, &table->aliases[table->alias_count]))
            return reason_set(why, STATUS_CORRUPT, "meta.json: aliases",
                              "element %zu does not name a serving generation", i);
        table->alias_count++;
    }
    if (!aliases_are_sound(table))
        return reason_set(why, STATUS_CORRUPT, "meta.json: aliases",
                          "one follows what is no serving memory");
    qsort(table->generations, table->count, sizeof(table->generations[0]), compare_generations);
    return STATUS_OK;
}

enum status meta_open(const char *directory, struct meta **out, struct reason *why)
{
    assert(out);

    struct meta *meta = mem_alloc(sizeof(*meta));
    meta->table.next = 1;
    enum status status = STATUS_OK;
    if (directory) {
        int bytes = snprintf(meta->path, sizeof(meta->path), "%s/meta.json", directory);
        if (bytes < 0 || (size_t)bytes >= sizeof(meta->path))
            status = reason_set(why, STATUS_INVALID, "data", "the path %s is too long", directory);
    }
    if (directory && status == STATUS_OK) {
        struct json *document = NULL;
        status = json_parse_file(meta->path, META_FILE_BYTES_MAX, &document, why);
        if (status == STATUS_NOT_FOUND)
            status = STATUS_OK; // a new directory
        else if (status == STATUS_OK)
            status = read_table(document, &meta->table, why);
        else if (status == STATUS_INVALID)
            status = STATUS_CORRUPT;
        json_destroy(&document);
    }
    if (status != STATUS_OK) {
        meta_close(&meta);
        return status;
    }
    *out = meta;
    return STATUS_OK;
}

void meta_close(struct meta **meta)
{
    assert(meta);

    if (!*meta)
        return;
    meta_table_deinit(&(*meta)->table);
    mem_free(*meta);
    *meta = NULL;
}

// ---------------------------------------------------------------- looking up

#define SHOWN "; `reco memory list` shows those that are, `reco memory build NAME SOURCE` makes one"

static enum status not_found(struct text name, struct reason *why)
{
    return reason_set(why, STATUS_NOT_FOUND, "memory", "there is no memory '%.*s'" SHOWN,
                      (int)name.bytes, name.data);
}

static enum status generation_not_found(const struct meta *meta, struct text name, uint32_t number,
                                        struct reason *why)
{
    char there[REASON_TEXT_BYTES / 2] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < meta->table.count && used < sizeof(there); i++)
        if (text_equal(text_of(meta->table.generations[i].memory), name))
            used += (size_t)snprintf(there + used, sizeof(there) - used, "%s@%u", used ? ", " : "",
                                     meta->table.generations[i].number);
    if (!used)
        return not_found(name, why);
    return reason_set(why, STATUS_NOT_FOUND, "memory", "'%.*s' has no generation @%u; it has %s",
                      (int)name.bytes, name.data, number, there);
}

// NAME@GENERATION.
static enum status find_pinned(const struct meta *meta, struct text name, uint32_t number,
                               enum meta_use use, const struct meta_generation **out,
                               struct reason *why)
{
    const struct meta_generation *found = meta_table_at(&meta->table, number);
    if (!found || !text_equal(text_of(found->memory), name))
        return generation_not_found(meta, name, number, why);
    bool fits = found->state == META_SERVING || use == META_FOR_DESCRIBE ||
                (use == META_FOR_WRITE && found->state == META_BUILDING) ||
                (use == META_FOR_RESTORE && found->state == META_RESTORING);
    if (!fits)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "memory", "%s@%u is %s, not serving",
                          found->memory, number, meta_state_name(found->state));
    *out = found;
    return STATUS_OK;
}

enum status meta_find(const struct meta *meta, struct text name, enum meta_use use,
                      struct meta_generation *out, struct reason *why)
{
    assert(meta && out);

    struct text memory;
    uint32_t number;
    enum status status = meta_split_name(name, &memory, &number, why);
    if (status != STATUS_OK)
        return status;

    const struct meta_generation *found = NULL;
    const struct meta_alias *alias = meta_table_alias(&meta->table, memory);
    struct meta_generation building;
    if (number != 0) {
        status = find_pinned(meta, memory, number, use, &found, why);
        if (status != STATUS_OK)
            return status;
    } else if (alias) {
        found = meta_table_at(&meta->table, meta_table_target(&meta->table, alias));
    } else if (meta_find_building(meta, memory, &building) == STATUS_OK) {
        if (use == META_FOR_QUERY)
            return reason_set(why, STATUS_NOT_FOUND, "memory",
                              "memory '%s' is not finished (generation %u); it serves when its "
                              "`reco memory build` is, and the same command goes on with one that "
                              "was interrupted",
                              building.memory, building.number);
        found = &building;
    }
    if (!found)
        return not_found(memory, why);
    *out = *found;
    return STATUS_OK;
}

enum status meta_find_building(const struct meta *meta, struct text memory,
                               struct meta_generation *out)
{
    assert(meta && out);

    for (uint32_t i = 0; i < meta->table.count; i++) {
        const struct meta_generation *generation = &meta->table.generations[i];
        if (generation->state == META_BUILDING && text_equal(text_of(generation->memory), memory)) {
            *out = *generation;
            return STATUS_OK;
        }
    }
    return STATUS_NOT_FOUND;
}

enum status meta_find_drop(const struct meta *meta, struct text name, uint32_t *numbers,
                           size_t *count, struct reason *why)
{
    assert(meta && numbers && count);

    struct text memory;
    uint32_t number;
    enum status status = meta_split_name(name, &memory, &number, why);
    if (status != STATUS_OK)
        return status;

    size_t found = 0;
    for (uint32_t i = 0; i < meta->table.count; i++) {
        const struct meta_generation *generation = &meta->table.generations[i];
        if (text_equal(text_of(generation->memory), memory) &&
            (number == 0 || generation->number == number))
            numbers[found++] = generation->number;
    }
    if (found == 0 && number == 0 && meta_table_alias(&meta->table, memory))
        return reason_set(why, STATUS_FAILED_PRECONDITION, "memory",
                          "'%.*s' is an alias; `reco memory alias %.*s --remove` takes it away, or "
                          "drop what it points at",
                          (int)memory.bytes, memory.data, (int)memory.bytes, memory.data);
    if (found == 0)
        return number ? generation_not_found(meta, memory, number, why) : not_found(memory, why);
    *count = found;
    return meta_check_drop(meta, memory, number, why);
}

size_t meta_list(const struct meta *meta, const struct meta_generation **out)
{
    assert(meta && out);

    *out = meta->table.generations;
    return meta->table.count;
}

const struct meta_generation *meta_at(const struct meta *meta, uint32_t number)
{
    assert(meta);

    return meta_table_at(&meta->table, number);
}

// ---------------------------------------------------------------- changes

enum status meta_reserve(struct meta *meta, uint32_t *number, struct reason *why)
{
    assert(meta && number);

    if (meta->table.next == UINT32_MAX)
        return reason_set(why, STATUS_EXHAUSTED, "name", "all numbers of generations are used up");
    struct meta_table next = meta_table_copy(&meta->table);
    uint32_t reserved = next.next++;
    enum status status = meta_commit(meta, &next, why);
    if (status == STATUS_OK)
        *number = reserved;
    return status;
}

enum status meta_add(struct meta *meta, const struct meta_generation *generation,
                     struct reason *why)
{
    assert(meta && generation);
    assert(generation->number >= 1 && generation->number < meta->table.next);
    assert(!meta_table_at(&meta->table, generation->number));

    if (meta->table.count >= META_GENERATIONS_MAX)
        return reason_set(why, STATUS_EXHAUSTED, "name",
                          "there are %u generations; drop some (at most %d)", meta->table.count,
                          META_GENERATIONS_MAX);
    struct meta_table next = meta_table_copy(&meta->table);
    next.generations[next.count++] = *generation;
    if (generation->state == META_SERVING)
        table_point(&next, generation);
    return meta_commit(meta, &next, why);
}

static enum status no_generation(uint32_t number, struct reason *why)
{
    return reason_set(why, STATUS_NOT_FOUND, "memory", "generation %u is gone", number);
}

enum status meta_serve(struct meta *meta, uint32_t number, struct reason *why)
{
    assert(meta);

    struct meta_table next = meta_table_copy(&meta->table);
    struct meta_generation *found = meta_table_at(&next, number);
    if (!found || found->state == META_DROPPING) {
        meta_table_deinit(&next);
        return no_generation(number, why);
    }
    if (found->state == META_SERVING) { // the name may have moved on meanwhile
        meta_table_deinit(&next);
        return STATUS_OK;
    }
    found->state = META_SERVING;
    table_point(&next, found);
    return meta_commit(meta, &next, why);
}

enum status meta_drop(struct meta *meta, uint32_t number, struct reason *why)
{
    assert(meta);

    struct meta_table next = meta_table_copy(&meta->table);
    struct meta_generation *found = meta_table_at(&next, number);
    if (!found || found->state == META_DROPPING) {
        meta_table_deinit(&next);
        return found ? STATUS_OK : no_generation(number, why);
    }
    const enum status held = meta_check_drop(meta, text_of(found->memory), number, why);
    if (held != STATUS_OK) { // an alias that came after the drop had begun
        meta_table_deinit(&next);
        return held;
    }
    found->state = META_DROPPING;
    const struct meta_alias *alias = meta_table_alias(&next, text_of(found->memory));
    if (alias && alias->generation == number)
        table_fall_back(&next, found->memory);
    return meta_commit(meta, &next, why);
}

enum status meta_remove(struct meta *meta, uint32_t number, struct reason *why)
{
    assert(meta);

    const struct meta_generation *found = meta_table_at(&meta->table, number);
    if (!found)
        return no_generation(number, why);
    assert(found->state == META_DROPPING);

    struct meta_table next = meta_table_copy(&meta->table);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < next.count; i++)
        if (next.generations[i].number != number)
            next.generations[kept++] = next.generations[i];
    next.count = kept;
    return meta_commit(meta, &next, why);
}

void meta_touch(struct meta *meta, uint32_t number)
{
    assert(meta);

    struct meta_generation *found = meta_table_at(&meta->table, number);
    if (found)
        found->changes++;
}

void meta_set_shown(struct meta *meta, uint32_t number, uint64_t shown)
{
    assert(meta);

    struct meta_generation *found = meta_table_at(&meta->table, number);
    if (found)
        found->shown = shown;
}
