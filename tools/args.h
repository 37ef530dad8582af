// SPDX-License-Identifier: Apache-2.0
// args.h - flags of a verb as a table: parsing and every error come from it; so do the help
// (help.h), the manual (manual.h) and the completion of shells (completion.h).
//
// A verb lists groups of flags; each flag names a member of the caller's options
// struct by offset and kind. What is not in the table does not exist: an
// unknown flag is an error that names the nearest known one. `--flag VALUE` and
// `--flag=VALUE` mean the same; `--` ends the flags; a lone `-` is an item.
//
// Thread-safety: pure, but for the caller's options.

#ifndef RECO_TOOLS_ARGS_H
#define RECO_TOOLS_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

#define ARGS_GROUPS_MAX 16  // groups of flags of one verb
#define ARGS_NUMBERS_MAX 16 // numbers in one comma list

// Texts in the order they were given; they point into argv.
struct args_list {
    const char **items;
    size_t count;
};

struct args_numbers {
    uint64_t items[ARGS_NUMBERS_MAX];
    size_t count;
};

enum args_kind {      // and the member at `offset`
    ARGS_SWITCH,      // bool: true when given
    ARGS_TEXT,        // const char *; "" unless it is a path
    ARGS_COUNT,       // uint64_t, low..high
    ARGS_NUMBER,      // double, low..high
    ARGS_CHOICE,      // int: place of the word in `choices`
    ARGS_LIST,        // struct args_list: may be given again and again
    ARGS_NUMBER_LIST, // struct args_numbers: "1,8,64", each low..high and none twice
};

struct args_flag {
    const char *name;     // "--min-coverage"
    const char *alias;    // "-q"; NULL: none
    enum args_kind kind;  //
    const char *argument; // how the help calls the value; NULL for a switch; see args_value_of()
    const char *fallback; // the default as the help shows it; NULL: none worth saying
    const char *help;     // one sentence without a full stop
    size_t offset;        // offsetof() in the options
    double low, high;     // allowed range of numbers, both ends included
    const char *choices;  // "auto|exact"
};

// A group ends with a flag whose name is NULL.
struct args_verb {
    const char *name;                                // "memory build"
    const char *items;                               // "NAME SOURCE..."; "" when it takes none
    const char *summary;                             // one line
    const char *details;                             // for the help; "" when none: help.h
    size_t items_min, items_max;                     //
    const struct args_flag *groups[ARGS_GROUPS_MAX]; // NULL ends
};

// What a value is, for completion, by how it is called: DIR is a folder; FILE, IMAGE and SOURCE
// and whatever has a dot (X.npy) are files.
enum args_value {
    ARGS_VALUE_WORD,
    ARGS_VALUE_FILE,
    ARGS_VALUE_FOLDER,
};
enum args_value args_value_of(const char *argument);

// What is no flag's value.
struct args_rest {
    struct args_list items;
    bool help; // --help was among the words: nothing else was checked
};

// Reads argv[0 .. argc-1], the words after the verb, into *options and *rest. Both point into argv;
// their lists are freed by args_free(). STATUS_INVALID saying which flag, which value and what is
// allowed.
enum status args_parse(const struct args_verb *verb, int argc, const char *const *argv,
                       void *options, struct args_rest *rest, struct reason *why) MUST_CHECK;

// Frees the lists of the options and the items.
void args_free(const struct args_verb *verb, void *options, struct args_list *items);

// A walk over all flags of a verb; begins as {.at = NULL}, ends with NULL.
struct args_walk {
    size_t group;
    const struct args_flag *at;
};
const struct args_flag *args_next_flag(const struct args_verb *verb, struct args_walk *walk);

// Whether the verb has this flag.
bool args_has(const struct args_verb *verb, const char *flag);

// Whole numbers and numbers as flags take them: all of `text`, within low..high.
enum status args_read_count(const char *name, const char *text, uint64_t low, uint64_t high,
                            uint64_t *out, struct reason *why) MUST_CHECK;
enum status args_read_number(const char *name, const char *text, double low, double high,
                             double *out, struct reason *why) MUST_CHECK;

#endif
