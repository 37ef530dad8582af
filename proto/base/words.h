// SPDX-License-Identifier: Apache-2.0
// words.h - reads words that people type, and answers in words.
//
// Flags, configuration files and environment variables are all typed by people: they share how a
// number is read, which name a misspelt one was most likely meant to be, and how help is broken
// into lines.
//
// Thread-safety: pure, but for the caller's FILE.

#ifndef RECO_PROTO_BASE_WORDS_H
#define RECO_PROTO_BASE_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/base/status.h"

#define WORDS_BYTES_MAX 64 // of a name that is compared for nearness
#define WORDS_WIDTH 80     // of a text, where nothing says that there is less room
#define WORDS_WIDTH_MIN 40 // and never less than this

// The entry of names[count] that `word` was most likely meant to be; NULL when none is near.
const char *words_nearest(const char *word, const char *const *names, size_t count);

// Reads a whole number of low..high that is all of `text`; false, *out unchanged, otherwise.
bool words_read_count(const char *text, uint64_t low, uint64_t high, uint64_t *out) MUST_CHECK;

// Place of `word` in "a|b|c"; -1 when it is not there.
int words_place(const char *word, const char *choices);

// The bytes of `text` up to where it may be broken: a space, a line's end, or behind a comma in the
// long rows of JSON names.
size_t words_piece(const char *text, size_t bytes);

// Columns of a terminal: what COLUMNS says, else what `file` says, when it is one; 0: not known.
size_t words_columns(FILE *file);

// How wide a help text is to be: words_columns() between WORDS_WIDTH_MIN and WORDS_WIDTH.
size_t words_width(FILE *file);

// Prints words from column `column` on, broken at `width`, and ends the line; every further
// line begins with `margin` and blanks up to the column. The caller has filled the columns before.
void words_print(FILE *file, size_t width, const char *text, size_t bytes, const char *margin,
                 size_t column);

// One entry of a help text: `left`, then the sentences from `column` on; where that is half of the
// width or more, or `left` is too long, they begin on a line of their own.
void words_print_entry(FILE *file, size_t width, const char *left, size_t column, const char *text);

#endif
