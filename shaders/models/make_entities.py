#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tokenizer_entities.c: the named character references of HTML.

usage: make_entities.py > tokenizer_entities.c

The names and their code points are facts of the HTML standard (section "Named
character references"); they are read here from Python's html.entities, which
holds the same list, so that the table agrees with Python's html.unescape.
"""
from html.entities import html5

HEAD = """// SPDX-License-Identifier: Apache-2.0
// The named character references of the HTML standard and their code points,
// sorted by name; written by make_entities.py, not by hand. A name without a
// semicolon is one that the standard also knows without it.

#include "shaders/models/tokenizer_internal.h"

// clang-format off
const struct tokenizer_entity tokenizer_entities[TOKENIZER_ENTITY_COUNT] = {"""


def main():
    print(HEAD)
    line = "   "
    for name in sorted(html5):
        code_points = [ord(c) for c in html5[name]] + [0]
        item = ' {"%s", 0x%X, 0x%X},' % (name, code_points[0], code_points[1])
        if len(line) + len(item) > 100:
            print(line)
            line = "   "
        line += item
    print(line)
    print("};")


if __name__ == "__main__":
    main()
