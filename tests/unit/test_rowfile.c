// SPDX-License-Identifier: Apache-2.0
// Goal: rows of CSV, TSV and JSONL come out as RFC 4180 means them, and no file makes the reader
// take more memory than a row may have, or lose its place.
//
// Method: small files; each row is written as LINE:field|field.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/mem.h"
#include "tools/rowfile.h"

static char path[64];

static void make_path(void)
{
    snprintf(path, sizeof(path), "/tmp/reco-rowfile-XXXXXX");
    int file = mkstemp(path);
    cr_assert(ge(int, file, 0));
    close(file);
}

static void remove_path(void)
{
    unlink(path);
}

TestSuite(rowfile, .init = make_path, .fini = remove_path);

static void put(const char *data, size_t bytes)
{
    FILE *file = fopen(path, "w");
    cr_assert(ne(ptr, file, NULL));
    cr_assert(eq(sz, fwrite(data, 1, bytes, file), bytes));
    fclose(file);
}

// All rows of the file, one behind the other, with '\n' after each; a bad one is LINE!reason.
static char *rows_of(enum rowfile_format format, bool keep_empty)
{
    static char out[4096];
    size_t used = 0;
    struct rowfile *file = NULL;
    struct reason why = {.text = ""};
    cr_assert(eq(int, rowfile_open(path, format, &file, &why), STATUS_OK), "%s", why.text);
    if (keep_empty)
        rowfile_keep_empty(file);
    out[0] = 0;
    for (;;) {
        struct rowfile_row row;
        enum rowfile_step step = rowfile_next(file, &row, &why);
        if (step == ROWFILE_END)
            break;
        used += (size_t)snprintf(out + used, sizeof(out) - used, "%llu%c",
                                 (unsigned long long)row.line, step == ROWFILE_BAD ? '!' : ':');
        if (step == ROWFILE_BAD)
            used += (size_t)snprintf(out + used, sizeof(out) - used, "%s", why.text);
        for (size_t i = 0; i < row.count; i++)
            used += (size_t)snprintf(out + used, sizeof(out) - used, "%s%.*s", i ? "|" : "",
                                     (int)row.fields[i].bytes, row.fields[i].data);
        used += (size_t)snprintf(out + used, sizeof(out) - used, "\n");
        cr_assert(lt(sz, used, sizeof(out)));
    }
    rowfile_close(&file);
    cr_expect(eq(ptr, file, NULL));
    return out;
}

static void expect(enum rowfile_format format, const char *text, const char *rows)
{
    put(text, strlen(text));
    cr_expect(strcmp(rows_of(format, false), rows) == 0, "%s", rows_of(format, false));
}

Test(rowfile, csv_is_what_rfc_4180_says)
{
    expect(ROWFILE_CSV, "", "");
    expect(ROWFILE_CSV, "\n\r\n\n", "");
    expect(ROWFILE_CSV, "a,b\n1,2\n", "1:a|b\n2:1|2\n");
    expect(ROWFILE_CSV, "a,b\r\n1,2", "1:a|b\n2:1|2\n");
    expect(ROWFILE_CSV, ",\n,,\n", "1:|\n2:||\n");
    expect(ROWFILE_CSV, "\"a,\"\"b\"\"\",\"\"\n", "1:a,\"b\"|\n");
    expect(ROWFILE_CSV, "\"two\r\nlines\",x\r\ny,z\r\n", "1:two\r\nlines|x\n3:y|z\n");
    expect(ROWFILE_CSV, "a\"b,c\"\n", "1:a\"b|c\"\n"); // a quote inside a plain field is text
    expect(ROWFILE_CSV, "a\rb,\"c\"\r\n", "1:a\rb|c\n");
    expect(ROWFILE_CSV, " \"a\" ,b\n", "1: \"a\" |b\n");
}

Test(rowfile, a_byte_order_mark_is_no_part_of_the_first_field)
{
    expect(ROWFILE_CSV, "\xEF\xBB\xBFimage,b\n", "1:image|b\n");
    expect(ROWFILE_CSV, "\xEF\xBB\xBF\"image\",b\n", "1:image|b\n");
    expect(ROWFILE_CSV, "\xEF\xBB\xBF", "");
    expect(ROWFILE_CSV, "\xEF\xBC\xA1,b\n", "1:\xEF\xBC\xA1|b\n"); // begins like one, is none
    expect(ROWFILE_CSV, "\xEF", "1:\xEF\n");
    expect(ROWFILE_JSONL, "\xEF\xBB\xBF{}\n", "1:{}\n");
}

Test(rowfile, tsv_has_tabs_and_jsonl_whole_lines)
{
    expect(ROWFILE_TSV, "a\tb,c\n\"1\t2\"\t3\n", "1:a|b,c\n2:1\t2|3\n");
    expect(ROWFILE_JSONL, "{\"a\": \"b,c\"}\r\n\n[1]", "1:{\"a\": \"b,c\"}\n3:[1]\n");
    put("{}\n\n{}\n", 6);
    cr_expect(strcmp(rows_of(ROWFILE_JSONL, true), "1:{}\n2:\n3:{}\n") == 0);
}

Test(rowfile, a_wrong_quote_costs_its_line_only)
{
    expect(ROWFILE_CSV, "a,\"b\"c\nd,e\n",
           "1!column 2: text behind a closing quote; a quote inside is doubled\n2:d|e\n");
    expect(ROWFILE_CSV, "a,\"b\nc",
           "1!column 2: a quote is not closed before the end of the file\n");
    expect(ROWFILE_CSV, "\"a\"\rb\nc\n",
           "1!column 1: text behind a closing quote; a quote inside is doubled\n2:c\n");
}

// `count` of `byte` between a good row before and one behind.
static void put_long(char before, char byte, size_t count)
{
    char *data = mem_alloc(count + 16);
    size_t used = (size_t)sprintf(data, "x,y\n%c", before);
    memset(data + used, byte, count);
    memcpy(data + used + count, "\nlast\n", 6);
    put(data, used + count + 6);
    mem_free(data);
}

Test(rowfile, a_row_too_long_is_passed_over_and_the_next_one_read)
{
    static const char told[] =
        "1:x|y\n2!a row of more than 1048576 bytes or 1024 columns is passed over up to line 2; is "
        "a quote not closed?\n3:last\n";
    put_long('a', 'b', ROWFILE_ROW_BYTES_MAX);
    cr_expect(strcmp(rows_of(ROWFILE_CSV, false), told) == 0);
    cr_expect(strstr(rows_of(ROWFILE_JSONL, false), strstr(told, "\n2!")) != NULL);
    put_long('"', 'b', ROWFILE_ROW_BYTES_MAX + 1);
    cr_expect(strcmp(rows_of(ROWFILE_CSV, false), told) == 0);
    put_long('a', ',', ROWFILE_FIELDS_MAX);
    cr_expect(strcmp(rows_of(ROWFILE_CSV, false), told) == 0);

    // The longest that is allowed.
    put_long('a', ',', ROWFILE_FIELDS_MAX - 1);
    cr_expect(strstr(rows_of(ROWFILE_CSV, false), "\n3:last\n") != NULL);
    cr_expect(eq(ptr, strchr(rows_of(ROWFILE_CSV, false), '!'), NULL));
}

Test(rowfile, a_quote_never_closed_costs_a_row_not_the_file)
{
    size_t lines = ROWFILE_ROW_BYTES_MAX / 8 + 100;
    char *data = mem_alloc(lines * 8 + 16);
    size_t used = (size_t)sprintf(data, "a,\"b\n");
    for (size_t i = 0; i < lines; i++)
        used += (size_t)sprintf(data + used, "c,ddddd\n");
    put(data, used);
    mem_free(data);

    struct rowfile *file = NULL;
    struct rowfile_row row;
    struct reason why = {.text = ""};
    cr_assert(eq(int, rowfile_open(path, ROWFILE_CSV, &file, &why), STATUS_OK));
    cr_expect(eq(int, rowfile_next(file, &row, &why), ROWFILE_BAD));
    cr_expect(eq(u64, row.line, 1));
    size_t good = 0;
    while (rowfile_next(file, &row, &why) == ROWFILE_ROW)
        good += row.count == 2;
    cr_expect(ge(sz, good, 98));
    rowfile_close(&file);
}

Test(rowfile, a_line_of_256_megabytes_takes_no_memory)
{
    FILE *file = fopen(path, "w");
    cr_assert(ne(ptr, file, NULL));
    fputs("{}\n", file);
    cr_assert(eq(int, fseek(file, 1L << 28, SEEK_CUR), 0)); // a hole of zeros
    fputs("\n{\"a\":1}\n", file);
    fclose(file);
    struct rusage usage;
    cr_assert(eq(int, getrusage(RUSAGE_SELF, &usage), 0));
    long kib = usage.ru_maxrss;
    const char *rows = rows_of(ROWFILE_JSONL, false);
    cr_expect(strstr(rows, "\n3:{\"a\":1}\n") != NULL);
    cr_assert(eq(int, getrusage(RUSAGE_SELF, &usage), 0));
    cr_expect(lt(long, usage.ru_maxrss - kib, 16384));
}

Test(rowfile, only_regular_files_are_opened_and_nothing_waits)
{
    struct rowfile *file = NULL;
    struct reason why = {.text = ""};
    cr_expect(
        eq(int, rowfile_open("/nonexistent.csv", ROWFILE_CSV, &file, &why), STATUS_NOT_FOUND));
    cr_expect(eq(int, rowfile_open("/dev/zero", ROWFILE_CSV, &file, &why), STATUS_INVALID));
    cr_expect(strstr(why.text, "is not a regular file") != NULL);
    cr_expect(eq(int, rowfile_open("/tmp", ROWFILE_CSV, &file, &why), STATUS_INVALID));
    unlink(path);
    cr_assert(eq(int, mkfifo(path, 0600), 0));
    cr_expect(eq(int, rowfile_open(path, ROWFILE_CSV, &file, &why), STATUS_INVALID));
    cr_expect(eq(ptr, file, NULL));
}
