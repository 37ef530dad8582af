// SPDX-License-Identifier: Apache-2.0
// json_items.h - the elements of one array of a JSON document, one after the other.
//
// For documents that are too large to be parsed whole: only where elements begin and end is looked
// for, and each is left to json_parse_few(). What is broken between them is told; what is broken
// inside one is its parser's to tell.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_JSON_ITEMS_H
#define RECO_TOOLS_JSON_ITEMS_H

#include <stddef.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define JSON_ITEMS_BYTES_MAX ((size_t)1 << 20) // of an element

struct json_items {
    struct text document; // borrowed
    size_t at;
    size_t count; // elements that were given
};

// Goes to the array that the outermost object has as member `name`. STATUS_INVALID when there is
// none.
enum status json_items_begin(struct json_items *items, struct text document, const char *name,
                             struct reason *why) MUST_CHECK;

// Points *out at the next element; {NULL, 0} behind the last. STATUS_INVALID for an array that does
// not end, or an element that is too long.
enum status json_items_next(struct json_items *items, struct text *out,
                            struct reason *why) MUST_CHECK;

#endif
