// SPDX-License-Identifier: Apache-2.0
// help.h - a verb as text for a terminal of 40 to 80 columns, from its table.
//
// The details of a verb are paragraphs, broken anew where they are shown, so that the width
// of the source says nothing. Lines that begin with a space are a table and stay as they are.
//
// Thread-safety: pure.

#ifndef RECO_TOOLS_HELP_H
#define RECO_TOOLS_HELP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "tools/args.h"

#define HELP_TEXT_BYTES 1024 // of a flag's sentence

// What `reco help VERB` and `reco VERB --help` print: usage, details, every flag.
void help_print(const struct args_verb *verb, FILE *file);

// The sentence of a flag with its choices, range and default.
void help_flag_text(const struct args_flag *flag, char text[HELP_TEXT_BYTES]);

// One paragraph or table of a verb's details; points into them.
struct help_block {
    const char *text;
    size_t bytes; // without the last line's end
    bool is_table;
};

// Takes the next block from *at, which begins as the details and is moved on; false at the end.
bool help_next_block(const char **at, struct help_block *block);

#endif
