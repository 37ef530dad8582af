// SPDX-License-Identifier: Apache-2.0
// Goal: what is written is JSON whatever the values are, one line per value,
// and floats come back as they were.
//
// Method: written texts compared byte by byte and read back; floats of every
// exponent; failures of memory, depth and disk.

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/json.h"
#include "proto/base/mem.h"

// What the writer has so far, as a text for comparisons.
static const char *written(struct json_writer *writer)
{
    cr_assert(not(writer->failed));
    cr_assert(eq(int, buffer_append(&writer->out, "", 1), STATUS_OK));
    writer->out.count--;
    return (const char *)writer->out.data;
}

static const char *float_text(struct json_writer *writer, float value)
{
    json_writer_deinit(writer);
    json_put_float(writer, value);
    return written(writer);
}

Test(json_writer, puts_commas_where_they_belong)
{
    struct json_writer writer = {0};
    json_begin_object(&writer);
    json_name(&writer, "empty");
    json_begin_array(&writer);
    json_end_array(&writer);
    json_name(&writer, "list");
    json_begin_array(&writer);
    json_put_int(&writer, 1);
    json_begin_object(&writer);
    json_end_object(&writer);
    json_begin_array(&writer);
    json_put_bool(&writer, true);
    json_put_bool(&writer, false);
    json_end_array(&writer);
    json_put_null(&writer);
    json_end_array(&writer);
    json_name(&writer, "last");
    json_put_cstr(&writer, NULL);
    json_end_object(&writer);
    cr_expect_str_eq(written(&writer),
                     "{\"empty\":[],\"list\":[1,{},[true,false],null],\"last\":null}");
    json_writer_deinit(&writer);
}

Test(json_writer, escapes_text_and_mends_bad_utf8)
{
    struct json_writer writer = {0};
    json_begin_object(&writer);
    json_name(&writer, "a\"b\n");
    json_put_text(&writer, (struct text){"\"\\/\b\f\n\r\t\x01\x1f\x7f\0z", 13});
    json_name(&writer, "utf8");
    json_put_cstr(&writer, "caf\xc3\xa9 \xf0\x9f\xa6\x80 \xff|\xe2\x82|\xed\xa0\x80|");
    json_name(&writer, "none");
    json_put_text(&writer, (struct text){NULL, 0});
    json_end_object(&writer);
    cr_expect_str_eq(
        written(&writer),
        "{\"a\\\"b\\n\":\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\\u0000z\","
        "\"utf8\":\"caf\xc3\xa9 \xf0\x9f\xa6\x80 \xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd|"
        "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|\",\"none\":\"\"}");
    json_writer_deinit(&writer);
}

Test(json_writer, writes_whole_numbers_to_their_ends)
{
    struct json_writer writer = {0};
    json_begin_array(&writer);
    json_put_int(&writer, INT64_MIN);
    json_put_int(&writer, INT64_MAX);
    json_put_uint(&writer, UINT64_MAX);
    json_put_uint(&writer, 0);
    json_end_array(&writer);
    cr_expect_str_eq(written(&writer),
                     "[-9223372036854775808,9223372036854775807,18446744073709551615,0]");
    json_writer_deinit(&writer);
}

Test(json_writer, writes_floats_with_the_fewest_digits)
{
    struct json_writer writer = {0};
    cr_expect_str_eq(float_text(&writer, 0.1f), "0.1");
    cr_expect_str_eq(float_text(&writer, 1.0f), "1");
    cr_expect_str_eq(float_text(&writer, -0.0f), "-0.0");
    cr_expect_str_eq(float_text(&writer, 0.3333333433f), "0.33333334");
    cr_expect_str_eq(float_text(&writer, 16777216.0f), "16777216");
    cr_expect_str_eq(float_text(&writer, 1e10f), "1e+10");
    cr_expect_str_eq(float_text(&writer, FLT_TRUE_MIN), "1e-45");
    cr_expect_str_eq(float_text(&writer, FLT_MAX), "3.4028235e+38");
    cr_expect_str_eq(float_text(&writer, NAN), "null");
    cr_expect_str_eq(float_text(&writer, INFINITY), "null");
    cr_expect_str_eq(float_text(&writer, -INFINITY), "null");
    json_writer_deinit(&writer);
}

Test(json_writer, floats_read_back_to_the_same_bits_and_no_shorter_form_does)
{
    struct json_writer writer = {0};
    // Steps by a prime through all positive floats, subnormal ones included.
    for (uint32_t bits = 1; bits < 0x7f800000u; bits += 200003) {
        float value;
        memcpy(&value, &bits, sizeof(value));
        const char *text = float_text(&writer, value);
        cr_assert(strtof(text, NULL) == value, "%#x as %s", bits, text);

        int digits = 0;
        for (const char *at = text; *at && *at != 'e'; at++)
            digits += *at >= '0' && *at <= '9' && (digits > 0 || *at != '0');
        char shorter[512];
        if (digits > 1 && !strchr("0", text[strcspn(text, ".e") - 1])) {
            (void)snprintf(shorter, sizeof(shorter), "%.*g", digits - 1, (double)value);
            cr_assert(strtof(shorter, NULL) != value, "%s instead of %s", text, shorter);
        }
    }
    json_writer_deinit(&writer);
}

Test(json_writer, the_sign_of_zero_comes_back)
{
    struct json_writer writer = {0};
    json_put_float(&writer, -0.0f);
    struct json *document = NULL;
    cr_assert(eq(int, json_parse(writer.out.data, writer.out.count, &document, NULL), STATUS_OK));
    double value = 1.0;
    cr_expect(json_double(document, &value) && value == 0.0 && signbit(value));
    json_destroy(&document);
    json_writer_deinit(&writer);
}

Test(json_writer, writes_figures_with_six_digits)
{
    struct json_writer writer = {0};
    json_begin_array(&writer);
    json_put_double(&writer, 1.0 / 3.0);
    json_put_double(&writer, 12.5);
    json_put_double(&writer, (double)NAN);
    json_put_double(&writer, (double)INFINITY);
    json_put_double(&writer, -DBL_MAX);
    json_end_array(&writer);
    cr_expect_str_eq(written(&writer), "[0.333333,12.5,null,null,-1.79769e+308]");
    json_writer_deinit(&writer);
}

Test(json_writer, what_it_writes_reads_back)
{
    struct json_writer writer = {0};
    json_begin_object(&writer);
    for (unsigned c = 1; c < 128; c++) {
        char name[] = {(char)c, 0};
        json_name(&writer, name);
        json_begin_array(&writer);
        json_put_cstr(&writer, name);
        json_put_uint(&writer, c);
        json_put_float(&writer, (float)c / 7.0f);
        json_end_array(&writer);
    }
    json_end_object(&writer);

    struct json *document = NULL;
    struct reason why = {0};
    enum status status = json_parse(writer.out.data, writer.out.count, &document, &why);
    cr_assert(status == STATUS_OK, "%s", why.text);
    cr_expect(eq(sz, json_count(document), 127));
    for (unsigned c = 1; c < 128; c++) {
        char name[] = {(char)c, 0};
        const struct json *list = json_member(document, name);
        double number = 0;
        int64_t whole = 0;
        cr_assert(text_equal(json_text(json_element(list, 0)), text_of(name)));
        cr_assert(json_int(json_element(list, 1), &whole) && whole == c);
        cr_assert(json_double(json_element(list, 2), &number) && (float)number == (float)c / 7.0f);
    }
    json_destroy(&document);
    json_writer_deinit(&writer);
}

Test(json_writer, writes_one_line_after_another)
{
    FILE *file = tmpfile();
    struct json_writer writer = {0};
    for (int i = 0; i < 3; i++) {
        json_begin_array(&writer);
        json_put_int(&writer, i);
        json_end_array(&writer);
        cr_assert(eq(int, json_write_line(&writer, file), STATUS_OK));
        cr_expect(eq(sz, writer.out.count, 0));
    }
    char text[64] = "";
    rewind(file);
    cr_assert(eq(sz, fread(text, 1, sizeof(text) - 1, file), 12));
    cr_expect_str_eq(text, "[0]\n[1]\n[2]\n");
    (void)fclose(file);
    json_writer_deinit(&writer);
}

static void nest(struct json_writer *writer, int depth)
{
    for (int i = 0; i < depth; i++)
        json_begin_array(writer);
    for (int i = 0; i < depth; i++)
        json_end_array(writer);
}

Test(json_writer, nests_60_deep_and_refuses_more)
{
    FILE *file = tmpfile();
    struct json_writer writer = {0};
    nest(&writer, 60);
    cr_expect(eq(int, json_write_line(&writer, file), STATUS_OK));
    nest(&writer, 61);
    cr_expect(eq(int, json_write_line(&writer, file), STATUS_NO_MEMORY));
    nest(&writer, 1000);
    cr_expect(eq(int, json_write_line(&writer, file), STATUS_NO_MEMORY));
    nest(&writer, 3); // usable again
    cr_expect(eq(int, json_write_line(&writer, file), STATUS_OK));
    cr_expect(eq(long, ftell(file), 121 + 7));
    (void)fclose(file);
    json_writer_deinit(&writer);
}

Test(json_writer, says_once_that_memory_ran_out)
{
    FILE *file = tmpfile();
    struct json_writer writer = {0};
    mem_fail_after(1);
    json_begin_object(&writer);
    json_name(&writer, "x");
    json_put_cstr(&writer, "y");
    json_end_object(&writer);
    cr_expect(eq(int, json_write_line(&writer, file), STATUS_NO_MEMORY));
    mem_fail_after(0);

    json_put_int(&writer, 1); // usable again
    cr_expect(eq(int, json_write_line(&writer, file), STATUS_OK));
    cr_expect(eq(long, ftell(file), 2));
    (void)fclose(file);
    json_writer_deinit(&writer);
}

Test(json_writer, keeps_to_the_limit_of_its_buffer)
{
    FILE *file = tmpfile();
    struct json_writer writer = {.out = {.count_max = 16}};
    json_put_cstr(&writer, "longer than sixteen bytes");
    cr_expect(eq(int, json_write_line(&writer, file), STATUS_NO_MEMORY));
    json_put_cstr(&writer, "short");
    cr_expect(eq(int, json_write_line(&writer, file), STATUS_OK));
    (void)fclose(file);
    json_writer_deinit(&writer);
}

Test(json_writer, says_that_the_disk_is_full)
{
    FILE *file = fopen("/dev/full", "w");
    cr_assert(ne(ptr, file, NULL));
    (void)setvbuf(file, NULL, _IONBF, 0);
    struct json_writer writer = {0};
    json_put_int(&writer, 1);
    cr_expect(eq(int, json_write_line(&writer, file), STATUS_IO));
    cr_expect(eq(sz, writer.out.count, 0));
    (void)fclose(file);
    json_writer_deinit(&writer);
}
