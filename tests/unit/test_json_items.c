// SPDX-License-Identifier: Apache-2.0
// Goal: the elements of a member's array are found whatever stands before, between and in them, and
// what does not end is told.
//
// Method: small documents; every cut of one of them.

#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tools/json_items.h"

// The elements one after the other, with '|' behind each; "!REASON" where it ends badly.
static const char *walked(const char *document, size_t bytes)
{
    static char out[600];
    struct json_items items;
    struct reason why = {.text = ""};
    out[0] = 0;
    enum status status = json_items_begin(&items, (struct text){document, bytes}, "images", &why);
    while (!status) {
        struct text element;
        status = json_items_next(&items, &element, &why);
        if (status || !element.data)
            break;
        strncat(out, element.data, element.bytes);
        strcat(out, "|");
    }
    if (status)
        (void)snprintf(out + strlen(out), sizeof(out) - strlen(out), "!%s", why.text);
    return out;
}

static void expect(const char *document, const char *elements)
{
    cr_expect(eq(str, (char *)walked(document, strlen(document)), (char *)elements));
}

Test(json_items, elements_are_given_as_they_stand)
{
    expect("{\"images\":[]}", "");
    expect(" { \"images\" : [ 1 , {\"a\":[2,{}]} ,\n\"x]\\\"\" ] , \"more\":[] }",
           "1|{\"a\":[2,{}]}|\"x]\\\"\"|");
    expect(
        "{\"dataset\":\"images\",\"n\":-1.5e3,\"t\":true,\"o\":{\"images\":[9]},\"images\":[[7]]}",
        "[7]|");
    expect("\xef\xbb\xbf{\"images\":[1]}", "1|");
    expect("{\"images\":[{\"raw\":\"a \\\\\"}, {\"raw\":\"}\"}]}",
           "{\"raw\":\"a \\\\\"}|{\"raw\":\"}\"}|");
}

Test(json_items, what_is_no_such_document_is_told)
{
    expect("", "!broken JSON at byte 0: an object is expected");
    expect("[1]", "!broken JSON at byte 0: an object is expected");
    expect("\xef\xbb\xbf[1]", "!broken JSON at byte 3: an object is expected");
    expect("{}", "!broken JSON at byte 1: the name of a member is expected");
    expect("{\"a\":1}", "!has no member \"images\"");
    expect("{\"images\":7}", "!\"images\" is no array");
    expect("{\"images\" 7}", "!broken JSON at byte 10: ':' is expected");
    expect("{\"images\":[1 2]}", "1|!broken JSON at byte 13: ',' or ']' is expected");
    expect("{\"images\":[1,]}", "1|!broken JSON at byte 13: an element does not end");
}

Test(json_items, every_cut_is_told)
{
    static const char document[] =
        "{\"x\":{\"y\":[\"\\u00e9\"]},\"images\":[{\"a\":\"b\"},[1,2],\"c\"]";
    const size_t bytes = sizeof(document) - 1;
    for (size_t cut = 0; cut < bytes; cut++)
        cr_expect(strchr(walked(document, cut), '!') != NULL, "cut at %zu: %s", cut,
                  walked(document, cut));
    cr_expect(eq(str, (char *)walked(document, bytes), (char *)"{\"a\":\"b\"}|[1,2]|\"c\"|"));
}

Test(json_items, a_long_element_is_refused)
{
    static char document[JSON_ITEMS_BYTES_MAX + 64];
    const size_t start = (size_t)sprintf(document, "{\"images\":[\"");
    memset(document + start, 'a', JSON_ITEMS_BYTES_MAX);
    strcpy(document + start + JSON_ITEMS_BYTES_MAX, "\"]}");
    const char *end = walked(document, strlen(document));
    cr_expect(strstr(end, "element 0 has 1048578 bytes: at most 1048576") != NULL, "%s", end);
}
