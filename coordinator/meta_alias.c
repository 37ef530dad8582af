// SPDX-License-Identifier: Apache-2.0
// meta_alias.c - names that point at memories, and rolling a memory's own name back.
//
// An alias points at a generation or follows a memory's own name; never at another alias, so there
// are no loops. A memory's own name points at one of its own generations, never at another's.

#include <assert.h>
#include <string.h>

#include "coordinator/meta_internal.h"

static int printed(struct text text)
{
    return (int)(text.bytes < 160 ? text.bytes : 160);
}

// The generation that `target` names, which must serve; *memory is set when it is a NAME.
static enum status find_target(const struct meta *meta, struct text target, struct text *memory,
                               struct meta_generation *found, struct reason *why)
{
    uint32_t number = 0;
    enum status status = target.bytes == 0 ? reason_set(why, STATUS_INVALID, "target",
                                                        "NAME or NAME@GENERATION is needed")
                                           : meta_split_name(target, memory, &number, why);
    if (status == STATUS_OK && number == 0 && !meta_table_is_memory(&meta->table, *memory) &&
        meta_table_alias(&meta->table, *memory))
        status = reason_set(why, STATUS_INVALID, "target",
                            "'%.*s' is an alias itself; a memory is needed", printed(*memory),
                            memory->data);
    if (status == STATUS_OK)
        status = meta_find(meta, target, META_FOR_QUERY, found, why);
    if (status == STATUS_OK && number != 0)
        memory->bytes = 0;
    return status;
}

static enum status check_alias(const struct meta *meta, struct text alias, struct text memory,
                               const struct meta_generation *found, struct reason *why)
{
    if (!meta_is_name(alias))
        return reason_set(why, STATUS_INVALID, "alias",
                          "'%.*s' is no name: 1..%d letters, digits, '.', '_' and '-', the first a "
                          "letter or digit",
                          printed(alias), alias.data ? alias.data : "", MEMORY_NAME_BYTES_MAX);
    if (!meta_table_is_memory(&meta->table, alias))
        return STATUS_OK;
    if (memory.bytes > 0 || !text_equal(text_of(found->memory), alias))
        return reason_set(
            why, STATUS_ALREADY_EXISTS, "alias",
            "'%.*s' is the name of a memory; it can only point at a generation of its "
            "own, %.*s@GENERATION",
            printed(alias), alias.data, printed(alias), alias.data);
    return STATUS_OK;
}

enum status meta_point(struct meta *meta, struct text alias, struct text target,
                       struct meta_generation *out, struct reason *why)
{
    assert(meta && out);

    struct text memory = {0};
    struct meta_generation found = {0};
    enum status status = find_target(meta, target, &memory, &found, why);
    if (status == STATUS_OK)
        status = check_alias(meta, alias, memory, &found, why);
    if (status != STATUS_OK)
        return status;

    struct meta_table next = meta_table_copy(&meta->table);
    struct meta_alias *entry = meta_table_alias(&next, alias);
    if (!entry && next.alias_count >= META_ALIASES_MAX) {
        meta_table_deinit(&next);
        return reason_set(why, STATUS_EXHAUSTED, "alias", "there are %d names; remove some",
                          META_ALIASES_MAX);
    }
    if (!entry)
        entry = &next.aliases[next.alias_count++];
    *entry = (struct meta_alias){.generation = memory.bytes > 0 ? 0 : found.number};
    memcpy(entry->name, alias.data, alias.bytes);
    if (memory.bytes > 0)
        memcpy(entry->memory, memory.data, memory.bytes);
    status = meta_commit(meta, &next, why);
    if (status == STATUS_OK)
        *out = found;
    return status;
}

enum status meta_unpoint(struct meta *meta, struct text alias, struct meta_generation *out,
                         struct reason *why)
{
    assert(meta && out);

    if (meta_table_is_memory(&meta->table, alias))
        return reason_set(why, STATUS_FAILED_PRECONDITION, "alias",
                          "'%.*s' is the name of a memory and goes only with it; drop that",
                          printed(alias), alias.data);
    if (!meta_table_alias(&meta->table, alias))
        return reason_set(why, STATUS_NOT_FOUND, "alias", "there is no alias '%.*s'",
                          printed(alias), alias.data ? alias.data : "");

    struct meta_table next = meta_table_copy(&meta->table);
    struct meta_alias *entry = meta_table_alias(&next, alias);
    const struct meta_generation *found = meta_table_at(&next, meta_table_target(&next, entry));
    assert(found);
    const struct meta_generation was = *found;
    *entry = next.aliases[--next.alias_count];
    const enum status status = meta_commit(meta, &next, why);
    if (status == STATUS_OK)
        *out = was;
    return status;
}

bool meta_is_alias(const struct meta *meta, struct text name)
{
    return !meta_table_is_memory(&meta->table, name) && meta_table_alias(&meta->table, name);
}

size_t meta_names(const struct meta *meta, uint32_t number, struct text *out, size_t room)
{
    size_t count = 0;
    for (uint32_t i = 0; i < meta->table.alias_count && count < room; i++)
        if (meta_table_target(&meta->table, &meta->table.aliases[i]) == number)
            out[count++] = text_of(meta->table.aliases[i].name);
    return count;
}

// Whether another generation of the memory could take its name over.
static bool has_other(const struct meta_table *table, struct text name, uint32_t number)
{
    for (uint32_t i = 0; i < table->count; i++)
        if (table->generations[i].number != number && table->generations[i].state == META_SERVING &&
            text_equal(text_of(table->generations[i].memory), name))
            return true;
    return false;
}

enum status meta_check_drop(const struct meta *meta, struct text name, uint32_t number,
                            struct reason *why)
{
    const struct meta_table *table = &meta->table;
    for (uint32_t i = 0; i < table->alias_count; i++) {
        const struct meta_alias *alias = &table->aliases[i];
        if (text_equal(text_of(alias->name), name))
            continue; // its own: it falls back, or goes with the memory
        const struct meta_generation *found = meta_table_at(table, meta_table_target(table, alias));
        if (!found || !text_equal(text_of(found->memory), name))
            continue;
        const bool stays = number != 0 && (alias->memory[0] ? found->number != number ||
                                                                  has_other(table, name, number)
                                                            : found->number != number);
        if (!stays)
            return reason_set(
                why, STATUS_FAILED_PRECONDITION, "memory",
                "the alias '%s' points at %s@%u; point it elsewhere or remove it first",
                alias->name, found->memory, found->number);
    }
    return STATUS_OK;
}
