// SPDX-License-Identifier: Apache-2.0
// Goal: a JSON document is read as it stands or refused with a place and a
// reason; no document costs more than its share of stack or memory.
//
// Method: a table of hostile texts, documents at and one over each limit, every
// allocation failing once.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/json.h"
#include "proto/base/mem.h"

static struct json *parse(const char *text)
{
    struct json *document = NULL;
    struct reason why = {0};
    enum status status = json_parse(text, strlen(text), &document, &why);
    cr_assert(status == STATUS_OK, "%s: %s", text, why.text);
    return document;
}

static void expect_refused(const char *text, size_t bytes)
{
    struct json *document = NULL;
    struct reason why = {0};
    enum status status = json_parse(text, bytes, &document, &why);
    cr_expect(status == STATUS_INVALID, "%.*s", (int)(bytes < 80 ? bytes : 80), text);
    cr_expect(eq(ptr, document, NULL));
    cr_expect(ne(chr, why.text[0], '\0'));
}

Test(json, reads_every_kind_of_value)
{
    struct json *document =
        parse(" { \"object\": {}, \"array\": [1, 2.5, -3], \"text\": \"caf\\u00e9\","
              "\"yes\": true, \"no\": false, \"nothing\": null } \n");
    cr_expect(json_is_object(document));
    cr_expect(eq(sz, json_count(document), 6));
    cr_expect(json_is_object(json_member(document, "object")));
    cr_expect(eq(sz, json_count(json_member(document, "object")), 0));

    const struct json *array = json_member(document, "array");
    int64_t whole = 0;
    double number = 0;
    cr_expect(json_is_array(array));
    cr_expect(eq(sz, json_count(array), 3));
    cr_expect(json_int(json_element(array, 2), &whole) && whole == -3);
    cr_expect(json_double(json_element(array, 0), &number) && number == 1.0);
    cr_expect(json_double(json_element(array, 1), &number) && number == 2.5);
    cr_expect(eq(ptr, (void *)json_element(array, 3), NULL));

    struct text text = json_text(json_member(document, "text"));
    cr_expect(text_equal(text, text_of("caf\xc3\xa9")));
    cr_expect(json_is_text(json_member(document, "text")));
    cr_expect(json_is_bool(json_member(document, "yes")));
    cr_expect(json_bool(json_member(document, "yes"), false));
    cr_expect(not(json_bool(json_member(document, "no"), true)));
    cr_expect(json_is_null(json_member(document, "nothing")));
    json_destroy(&document);
    cr_expect(eq(ptr, document, NULL));
    json_destroy(&document);
}

Test(json, a_single_value_is_a_document)
{
    static const char *const table[] = {"1",    "-0.5e-3", "\"\"",     "true",
                                        "null", "[]",      "\t{}\r\n", "\xef\xbb\xbf {}"};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct json *document = parse(table[i]);
        json_destroy(&document);
    }
}

Test(json, getters_answer_absent_for_the_wrong_kind_and_for_nothing)
{
    struct json *document = parse("{\"t\": \"x\", \"i\": 1, \"r\": 1.0, \"a\": [1]}");
    const struct json *text = json_member(document, "t");
    const struct json *values[] = {NULL, text, json_member(document, "missing")};
    int64_t whole = 42;
    double number = 42;
    for (int i = 0; i < 3; i++) {
        cr_expect(not(json_int(values[i], &whole)));
        cr_expect(not(json_double(values[i], &number)));
        cr_expect(json_bool(values[i], true));
        cr_expect(not(json_bool(values[i], false)));
        cr_expect(not(json_is_null(values[i])));
        cr_expect(not(json_is_object(values[i])));
        cr_expect(not(json_is_array(values[i])));
        cr_expect(not(json_is_number(values[i])));
        cr_expect(not(json_is_bool(values[i])));
        cr_expect(eq(ptr, (void *)json_member(values[i], "t"), NULL));
        cr_expect(eq(ptr, (void *)json_element(values[i], 0), NULL));
        cr_expect(eq(sz, json_count(values[i]), 0));
        void *iterator = NULL;
        cr_expect(not(json_next(values[i], &iterator, NULL, NULL)));
    }
    cr_expect(not(json_is_text(NULL)));
    cr_expect(eq(ptr, (void *)json_text(json_member(document, "i")).data, NULL));
    cr_expect(eq(ptr, (void *)json_text(NULL).data, NULL));
    cr_expect(not(json_int(json_member(document, "r"), &whole)));
    cr_expect(eq(ptr, (void *)json_member(json_member(document, "a"), "t"), NULL));
    cr_expect(eq(ptr, (void *)json_element(document, 0), NULL));
    cr_expect(eq(i64, whole, 42));
    cr_expect(eq(dbl, number, 42.0));
    json_destroy(&document);
}

Test(json, walks_all_members_once)
{
    struct json *document = parse("{\"a\": 1, \"b\": 10, \"c\": 100}");
    void *iterator = NULL;
    const char *name = NULL;
    const struct json *value = NULL;
    int64_t sum = 0;
    int64_t names = 0;
    while (json_next(document, &iterator, &name, &value)) {
        int64_t number = 0;
        cr_assert(json_int(value, &number));
        sum += number;
        names += name[0];
    }
    cr_expect(eq(i64, sum, 111));
    cr_expect(eq(i64, names, 'a' + 'b' + 'c'));
    json_destroy(&document);
}

Test(json, refuses_what_is_no_json)
{
    static const char *const table[] = {
        "",
        " ",
        "{",
        "[",
        "}",
        "]",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\" 1}",
        "{\"a\":}",
        "{1:1}",
        "[1 2]",
        "[,1]",
        "[1]]",
        "{} {}",
        "1 2",
        "[] x",
        "nul",
        "True",
        "NaN",
        "Infinity",
        "-Infinity",
        "-",
        "+1",
        "01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x10",
        "1e999",
        "-1e999",
        "9223372036854775808",
        "-9223372036854775809",
        "\"abc",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\u0000\"",
        "\"a\tb\"",
        "\"a\nb\"",
        "{\"a\\u0000b\":1}",
        "// comment\n1",
        "/* comment */ 1",
        "\"\xff\"",
        "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"",
        "\xef\xbb\xbf",
        "\xef\xbb\xbf\xef\xbb\xbf{}",
        "{}\xef\xbb\xbf",
        "\xef\xbb{}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "[{\"x\":{\"a\":1,\"b\":2,\"a\":1}}]",
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        expect_refused(table[i], strlen(table[i]));
    expect_refused("1\0", 2);
    expect_refused("[1\0,2]", 6);
    expect_refused("[true\0]", 7);
    expect_refused("{}\0{}", 5);
    expect_refused("\0", 1);
}

Test(json, names_line_and_column_of_what_is_wrong)
{
    const char text[] = "{\n  \"a\": 1,\n  \"b\": oops\n}\n";
    struct json *document = NULL;
    struct reason why = {0};
    cr_expect(eq(int, json_parse(text, strlen(text), &document, &why), STATUS_INVALID));
    cr_expect(strstr(why.text, "line 3, column ") == why.text, "%s", why.text);
    cr_expect(eq(int, json_parse(text, strlen(text), &document, NULL), STATUS_INVALID));
}

Test(json, keeps_whole_numbers_exactly)
{
    struct json *document = parse("[9223372036854775807, -9223372036854775808, 0, -0]");
    int64_t value = 1;
    cr_expect(json_int(json_element(document, 0), &value) && value == INT64_MAX);
    cr_expect(json_int(json_element(document, 1), &value) && value == INT64_MIN);
    cr_expect(json_int(json_element(document, 2), &value) && value == 0);
    cr_expect(json_int(json_element(document, 3), &value) && value == 0);
    json_destroy(&document);
}

// `depth` brackets around nothing.
static char *nested(const char *open, const char *close, size_t depth)
{
    char *text = mem_alloc(depth * (strlen(open) + strlen(close)) + 2);
    char *at = text;
    for (size_t i = 0; i < depth; i++)
        at = stpcpy(at, open);
    at = stpcpy(at, "1");
    for (size_t i = 0; i < depth; i++)
        at = stpcpy(at, close);
    return text;
}

Test(json, takes_the_depth_limit_and_no_more)
{
    static const char *const pairs[][2] = {{"[", "]"}, {"{\"a\":", "}"}, {"[{\"a\":", "}]"}};
    for (size_t i = 0; i < 3; i++) {
        size_t levels = i == 2 ? JSON_DEPTH_MAX / 2 : JSON_DEPTH_MAX;
        char *text = nested(pairs[i][0], pairs[i][1], levels);
        struct json *document = parse(text);
        json_destroy(&document);
        mem_free(text);

        text = nested(pairs[i][0], pairs[i][1], levels + 1);
        expect_refused(text, strlen(text));
        mem_free(text);
    }
}

Test(json, a_million_brackets_are_refused_not_followed)
{
    char *text = nested("[", "]", 1000000);
    expect_refused(text, strlen(text));
    expect_refused(text, 1000000); // none closed
    mem_free(text);
}

Test(json, brackets_inside_texts_do_not_count)
{
    char *inside = nested("[", "]", 1000);
    char *text = mem_alloc(strlen(inside) + 16);
    (void)sprintf(text, "\"\\\"%s\\\\\"", inside);
    struct json *document = parse(text);
    cr_expect(eq(sz, json_text(document).bytes, strlen(inside) + 2));
    json_destroy(&document);
    mem_free(text);
    mem_free(inside);
}

Test(json, too_many_values_and_too_many_bytes_are_refused)
{
    size_t bytes = 2 * (size_t)JSON_VALUES_MAX + 1;
    char *text = mem_alloc(bytes + 1);
    for (size_t i = 0; i < bytes; i += 2)
        memcpy(text + i, ",1", 2);
    text[0] = '[';
    text[bytes - 1] = ']';
    expect_refused(text, bytes);
    mem_free(text);

    expect_refused("1", (size_t)JSON_BYTES_MAX + 1); // refused before it is read
}

Test(json, of_a_stranger_has_as_many_values_as_the_reader_says)
{
    struct json *document = NULL;
    struct reason why = {0};
    cr_expect(eq(int, json_parse_few("[1,2,3]", 7, 4, &document, &why), STATUS_OK));
    json_destroy(&document);
    cr_expect(eq(int, json_parse_few("[1,2,3]", 7, 3, &document, &why), STATUS_INVALID));
    cr_expect_str_eq(why.text, "has more than 3 values");
    cr_expect(eq(ptr, document, NULL));
}

Test(json, answers_no_memory_at_every_allocation)
{
    const char text[] = "{\"name\": \"a text that is long enough to need its own block\", "
                        "\"list\": [1, 2.5, {\"x\": null, \"y\": [true, \"\\u00e9\"]}]}";
    uint64_t n = 1;
    for (;; n++) {
        struct json *document = NULL;
        struct reason why = {0};
        mem_fail_after(n);
        enum status status = json_parse(text, strlen(text), &document, &why);
        mem_fail_after(0);
        if (status == STATUS_OK) {
            cr_expect(eq(sz, json_count(json_member(document, "list")), 3));
            json_destroy(&document);
            break;
        }
        cr_assert(eq(int, status, STATUS_NO_MEMORY));
        cr_assert(eq(ptr, document, NULL));
    }
    cr_expect(gt(u64, n, 10));
}

Test(json, a_file_is_named_in_its_reason)
{
    char path[] = "/tmp/test_json.XXXXXX";
    int file = mkstemp(path);
    cr_assert(ge(int, file, 0));
    cr_assert(eq(int, (int)write(file, "{\"a\": 1}", 8), 8));

    struct json *document = NULL;
    struct reason why = {0};
    cr_expect(eq(int, json_parse_file(path, 8, &document, &why), STATUS_OK));
    cr_expect(eq(sz, json_count(document), 1));
    json_destroy(&document);

    cr_expect(eq(int, json_parse_file(path, 7, &document, &why), STATUS_INVALID));
    cr_expect_str_eq(why.field, strrchr(path, '/') + 1);
    cr_expect(ne(ptr, strstr(why.text, "7 bytes"), NULL));

    cr_assert(eq(int, (int)write(file, "x", 1), 1));
    cr_expect(eq(int, json_parse_file(path, 100, &document, &why), STATUS_INVALID));
    cr_expect(ne(ptr, strstr(why.text, "line 1"), NULL));
    (void)close(file);
    (void)unlink(path);

    cr_expect(eq(int, json_parse_file(path, 100, &document, &why), STATUS_NOT_FOUND));
    cr_expect(ne(ptr, strstr(why.text, path), NULL));
    cr_expect(eq(int, json_parse_file("/tmp", 100, &document, &why), STATUS_IO));
    cr_expect(eq(ptr, document, NULL));
}
