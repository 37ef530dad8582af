// SPDX-License-Identifier: Apache-2.0
// completion.h - what bash, zsh and fish need to complete command lines, from the tables of flags.
//
// Verbs, flags, the words of a choice, files and folders where a value or an item is one; nothing
// asks the program at run time.
//
// Thread-safety: pure.

#ifndef RECO_TOOLS_COMPLETION_H
#define RECO_TOOLS_COMPLETION_H

#include <stdio.h>

#include "tools/args.h"

// Of `reco`.
void completion_write_bash(FILE *file);
void completion_write_zsh(FILE *file);
void completion_write_fish(FILE *file);

// Of a program without verbs, whose name is program->name.
void completion_write_bash_program(const struct args_verb *program, FILE *file);
void completion_write_zsh_program(const struct args_verb *program, FILE *file);
void completion_write_fish_program(const struct args_verb *program, FILE *file);

#endif
