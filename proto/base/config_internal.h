// SPDX-License-Identifier: Apache-2.0
// config_internal.h - the inside of a configuration, shared by config.c, config_file.c and
// config_print.c.
//
// Thread-safety: none.

#ifndef RECO_PROTO_BASE_CONFIG_INTERNAL_H
#define RECO_PROTO_BASE_CONFIG_INTERNAL_H

#include "proto/base/config.h"

enum config_source { // in rising precedence
    CONFIG_DEFAULT,
    CONFIG_FILE,
    CONFIG_ENVIRONMENT,
    CONFIG_FLAG,
};

// One key. `text` is the value as a file would say it.
struct config_slot {
    char *text;  // owned, never NULL; the items of a list with one blank between them
    char *where; // owned; "FILE:12", "RECO_SERVER_LISTEN", "--listen"; NULL for a default
    enum config_source source;
    char *items_text;   // owned; the list's items, each ended by NUL
    const char **items; // owned; pointers into items_text
    size_t item_count;
};

struct config {
    const struct config_table *table;
    struct config_slot slots[CONFIG_KEYS_MAX];
};

// Where a value stands, and how far up: what config_put() and its errors need.
struct config_place {
    enum config_source source;
    const char *where;
};

// The place of the key in the table; key_count when it has none.
size_t config_find(const struct config_table *table, const char *section, const char *name);

// Checks `value` and sets key `index` to it. A second value from the same source is refused, but
// for a list, which grows by it.
enum status config_put(struct config *config, size_t index, const struct config_place *place,
                       const char *value, struct reason *why) MUST_CHECK;

// "RECO_SECTION_KEY" of a key.
#define CONFIG_VARIABLE_BYTES 128
void config_variable(const struct config_key *key, char out[CONFIG_VARIABLE_BYTES]);

#endif
