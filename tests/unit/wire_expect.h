// SPDX-License-Identifier: Apache-2.0
// wire_expect.h - literals of texts and bytes, and what the tests of messages expect of them.
//
// Thread-safety: none.

#ifndef RECO_TESTS_UNIT_WIRE_EXPECT_H
#define RECO_TESTS_UNIT_WIRE_EXPECT_H

#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/bytes.h"

#define T(literal) ((struct text){literal, sizeof(literal) - 1})
#define B(literal) ((struct bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

static inline void expect_text(const char *text, const char *expected)
{
    cr_expect(strcmp(text, expected) == 0, "\"%s\", not \"%s\"", text, expected);
}

static inline void expect_same(const struct buffer *a, const struct buffer *b)
{
    cr_assert(eq(sz, a->count, b->count));
    cr_expect(a->count == 0 || memcmp(a->data, b->data, a->count) == 0);
}

#endif
