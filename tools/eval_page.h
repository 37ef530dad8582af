// SPDX-License-Identifier: Apache-2.0
// eval_page.h - writing HTML and SVG into memory: texts escaped, pictures as data, one flag for
// what fails.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_EVAL_PAGE_H
#define RECO_TOOLS_EVAL_PAGE_H

#include <stdbool.h>

#include "proto/base/bytes.h"
#include "proto/base/status.h"

// A zero struct is an empty page. `failed`: out of memory; checked once at the end.
struct eval_page {
    struct buffer out;
    bool failed;
};

// Markup: printf's format, at most 1,023 bytes at once.
void eval_page_put(struct eval_page *page, const char *format, ...) PRINTF_LIKE(2, 3);

// A text of others: markup in it is escaped, control characters and broken UTF-8 become U+FFFD.
void eval_page_text(struct eval_page *page, struct text text);

// All of another page behind this one.
void eval_page_join(struct eval_page *page, const struct eval_page *other);

// A PNG as the value of src.
void eval_page_png(struct eval_page *page, struct bytes png);

#endif
