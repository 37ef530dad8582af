// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes break the walk over a document's array, and every element lies inside the
// document, behind the last.
//
// Method: the input is the document; of what is no JSON at all the parser of elements is asked,
// too.

#include <stdlib.h>

#include "proto/base/json.h"
#include "tools/json_items.h"

#define VALUES_MAX 2000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_items items;
    struct reason why = {.text = ""};
    const char *text = (const char *)data;
    const char *behind = text;
    enum status status = json_items_begin(&items, (struct text){text, size}, "images", &why);
    while (!status) {
        struct text element;
        status = json_items_next(&items, &element, &why);
        if (status || !element.data)
            break;
        check(element.bytes && element.data >= behind &&
              element.data + element.bytes <= text + size);
        behind = element.data + element.bytes;
        struct json *document = NULL;
        struct reason ignored = {.text = ""};
        if (!json_parse_few(element.data, element.bytes, VALUES_MAX, &document, &ignored))
            json_destroy(&document);
    }
    check(!status || why.text[0]);
    return 0;
}
