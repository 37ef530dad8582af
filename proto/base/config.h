// SPDX-License-Identifier: Apache-2.0
// config.h - the configuration of a program as a table: one line for each key.
//
// A key is set, in rising precedence, by its default, by a line of the file (INI), by the
// environment variable RECO_SECTION_KEY and by a flag. What is in no table does not exist: an
// unknown section, key, variable or flag is an error that names the nearest known one. Parsing,
// checks, errors, help, the documented example and the print of what is in force all come from
// the table.
//
//   config_load() -> config_store() into the program's settings ... config_destroy()
//
// All tables of the family are known to each program, so that one environment, and one shared
// file, may serve several of them.
//
// Thread-safety: none; a configuration belongs to one thread at a time.

#ifndef RECO_PROTO_BASE_CONFIG_H
#define RECO_PROTO_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define CONFIG_KEYS_MAX 96   // of one program
#define CONFIG_TABLES_MAX 8  // of a family
#define CONFIG_ITEMS_MAX 256 // of one list
#define CONFIG_FILE_BYTES_MAX (256u << 10)
#define CONFIG_LINE_BYTES_MAX 197 // of a file: what libinih as Debian builds it takes in one piece

#define CONFIG_TEXT_BYTES 1024 // of one sentence of a description

struct config;

struct config_list {
    const char *const *items;
    size_t count;
};

enum config_kind { // and the member at `offset`
    CONFIG_TEXT,   // const char *: NULL when empty
    CONFIG_COUNT,  // uint64_t, low..high
    CONFIG_SWITCH, // bool: yes or no
    CONFIG_CHOICE, // int: place of the word in `choices`
    CONFIG_LIST,   // struct config_list: items with blanks between them, on one line or several
};

struct config_key {
    const char *section, *name; // letters, digits and '_'
    const char *fallback;       // the default, as a file would say it; NULL: empty
    uint64_t low, high;         // COUNT
    const char *choices;        // CHOICE: "auto|cpu"
    size_t offset;              // offsetof() in the settings
    const char *flag;           // "--listen"; NULL: none
    const char *argument;       // how help calls the value: "HOST:PORT"
    const char *also;           // another environment variable that means the same; NULL: none
    const char *help;           // what it is: sentences without the last full stop
    const char *danger;         // what goes wrong with a careless value; NULL: nothing
    enum config_kind kind;      //
    bool reloads;               // SIGHUP takes a new value over
};

struct config_table {
    const char *program; // "reco-shard"
    const char *summary; // paragraphs for the help
    const struct config_key *keys;
    size_t key_count;
    size_t settings_bytes;
    const struct config_table *const *family; // all programs, this one too; ended by NULL
    const char *const *other_variables;       // RECO_... that are no keys; ended by NULL
};

// What the command line says besides keys.
struct config_words {
    const char *file;     // --config FILE
    bool shared;          // --config-shared: the file also has keys of other programs
    bool print;           // --print-config
    bool help, version;   //
    bool die_with_parent; // --die-with-parent
};

// Every key at its default. config_destroy() frees it and sets *config to NULL; NULL is allowed.
struct config *config_create(const struct config_table *table);
void config_destroy(struct config **config);

// Defaults, then the file that `argv` names, then the environment, then the flags. Every word of
// argv[1 .. argc-1] must be a flag. STATUS_INVALID with what is wrong, where, and what is allowed;
// with --help or --version nothing but the words is read.
enum status config_load(const struct config_table *table, int argc, const char *const *argv,
                        struct config_words *words, struct config **out,
                        struct reason *why) MUST_CHECK;

// The steps of it. A failure leaves some keys set: the configuration is then to be destroyed.
// `shared`: keys of other programs of the family are passed over, not refused.
enum status config_read_file(struct config *config, const char *path, bool shared,
                             struct reason *why) MUST_CHECK;
enum status config_read_text(struct config *config, const char *name, struct bytes text,
                             bool shared, struct reason *why) MUST_CHECK;
enum status config_read_environment(struct config *config, char *const *environment,
                                    struct reason *why) MUST_CHECK;
// Sets the key whose flag it is; a list grows. STATUS_NOT_FOUND when no key has this flag.
enum status config_set_flag(struct config *config, const char *flag, const char *value,
                            struct reason *why) MUST_CHECK;

// Writes every key to its member of *settings; texts and lists belong to the configuration.
void config_store(const struct config *config, void *settings);

// Makes an error that calls a key by its flag ("--listen", "listen") or its name ("[tls] key",
// "key") name what the person wrote instead: a line of a file, a variable or a flag; of a key at
// its default the flag. Other errors stay as they are.
void config_blame(const struct config *config, struct reason *why);

// Whether the key is at its default: neither file nor environment nor a flag sets it.
bool config_is_default(const struct config *config, const char *section, const char *name);

// Logs a warning for every key that differs and that only a restart takes over.
void config_log_restarts(const struct config *before, const struct config *now);

// What is in force, as a valid file: every key with its documentation and where its value comes
// from. Keys that `printed` has as well are left out, NULL for none.
void config_print(const struct config *config, const struct config_table *printed, FILE *file);

// The documented example: every key commented out, at its default.
void config_print_example(const struct config_table *table, FILE *file);

// A key in words, as the example and the manual tell it.
struct config_description {
    char help[CONFIG_TEXT_BYTES];
    char facts[CONFIG_TEXT_BYTES];  // what is allowed, default, flag, variable
    char danger[CONFIG_TEXT_BYTES]; // empty when there is none
};
void config_describe(const struct config_key *key, struct config_description *out);

// The flags of struct config_words, which every program has; ended by a NULL name.
struct config_flag {
    const char *name, *argument, *help; // no argument: a switch
};
extern const struct config_flag config_flags[];

// The help of a program: usage and every flag.
void config_print_help(const struct config_table *table, FILE *file);

#endif
