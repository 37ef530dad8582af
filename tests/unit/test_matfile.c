// SPDX-License-Identifier: Apache-2.0
// Goal: what SciPy and MATLAB write into a .mat file is read as it is; anything else is refused
// with file, variable and element, and a broken file costs only itself.
//
// Method: the files of tests/golden/mat, as they are and cut at every length; a variable that
// inflates to more than it may.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <zlib.h>

#include "proto/base/mem.h"
#include "tools/matfile.h"

#define FOLDER RECO_SOURCE_DIR "/tests/golden/mat/"

static struct matfile *opened(const char *name)
{
    char path[512];
    struct matfile *file = NULL;
    struct reason why = {.text = ""};
    snprintf(path, sizeof(path), FOLDER "%s", name);
    cr_assert(eq(int, matfile_open(path, &file, &why), STATUS_OK), "%s: %s", why.field, why.text);
    return file;
}

static void expect_words(const struct reason *why, const char *field, const char *words)
{
    cr_expect(strstr(why->field, field) != NULL, "'%s' lacks '%s'", why->field, field);
    cr_expect(strstr(why->text, words) != NULL, "'%s' lacks '%s'", why->text, words);
}

Test(matfile, numbers_of_any_kind_are_read)
{
    struct matfile *file = opened("setid.mat");
    struct reason why = {.text = ""};
    uint32_t *numbers = NULL;
    size_t count = 0;
    cr_assert(eq(int, matfile_numbers(file, "valid", &numbers, &count, &why), STATUS_OK));
    cr_assert(eq(sz, count, 102));
    cr_expect(eq(u32, numbers[0], 103));
    cr_expect(eq(u32, numbers[101], 204));
    mem_free(numbers);
    cr_assert(eq(int, matfile_numbers(file, "trnid", &numbers, &count, &why), STATUS_OK));
    cr_expect(eq(u32, numbers[101], 102));
    mem_free(numbers);
    cr_expect(eq(int, matfile_numbers(file, "testid", &numbers, &count, &why), STATUS_INVALID));
    expect_words(&why, "tests/golden", "has no variable 'testid'");
    matfile_close(&file);
    cr_expect(eq(ptr, file, NULL));
}

Test(matfile, texts_of_one_and_two_bytes_are_read)
{
    static const struct {
        const char *name, *text;
        size_t count, row;
    } cases[] = {
        {"cars_meta.mat", "Cedar C/V Van 2011", 3, 2},
        {"cars_annos.mat", "Aster Comet Coupe 2012", 3, 0},
        {"wide.mat", "Citro\xc3\xabn 2CV 1990", 2, 0},
        {"wide.mat", "\xc5\xa0koda 1200 Sedan 1955", 2, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct matfile *file = opened(cases[i].name);
        struct reason why = {.text = ""};
        char text[MATFILE_TEXT_BYTES_MAX];
        size_t count = 0;
        cr_assert(eq(int, matfile_read_list(file, "class_names", &count, &why), STATUS_OK));
        cr_expect(eq(sz, count, cases[i].count));
        cr_assert(eq(int, matfile_text(file, NULL, cases[i].row, text, &why), STATUS_OK), "%s",
                  why.text);
        cr_expect(eq(str, (char *)text, (char *)cases[i].text));
        matfile_close(&file);
    }
}

Test(matfile, tables_are_read_by_column_and_row)
{
    struct matfile *file = opened("cars_test_annos_withlabels.mat");
    struct reason why = {.text = ""};
    char text[MATFILE_TEXT_BYTES_MAX];
    uint32_t number = 0;
    size_t rows = 0;
    cr_assert(eq(int, matfile_read_table(file, "annotations", &rows, &why), STATUS_OK));
    cr_assert(eq(sz, rows, 3));
    cr_assert(eq(int, matfile_text(file, "fname", 1, text, &why), STATUS_OK));
    cr_expect(eq(str, (char *)text, (char *)"00002.jpg"));
    cr_assert(eq(int, matfile_number(file, "class", 0, &number, &why), STATUS_OK));
    cr_expect(eq(u32, number, 3));
    cr_expect(eq(int, matfile_number(file, "fname", 0, &number, &why), STATUS_INVALID));
    expect_words(&why, "withlabels.mat", "row 1, fname: a whole number");
    cr_expect(eq(int, matfile_text(file, "test", 2, text, &why), STATUS_INVALID));
    expect_words(&why, "withlabels.mat", "'annotations', row 3, test: a line of text");
    matfile_close(&file);
}

Test(matfile, what_is_no_row_of_whole_numbers_is_refused)
{
    static const char *const cases[][2] = {
        {"half", "element 2 is 2.5: whole numbers"},
        {"negative", "element 1 is -1"},
        {"huge", "element 1 is"},
        {"nan", "element 1 is"},
        {"square", "is not a row or column"},
        {"complex", "is not a row or column"},
        {"text", "is not a row or column"},
        {"cells", "is not a row or column of numbers"},
        {"rows", "is not a row or column of numbers"},
    };
    struct matfile *file = opened("odd.mat");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct reason why = {.text = ""};
        uint32_t *numbers = NULL;
        size_t count = 0;
        cr_expect(
            eq(int, matfile_numbers(file, cases[i][0], &numbers, &count, &why), STATUS_INVALID));
        expect_words(&why, "odd.mat", cases[i][1]);
    }
    matfile_close(&file);
}

Test(matfile, lists_and_tables_refuse_what_they_are_not)
{
    struct matfile *file = opened("odd.mat");
    struct reason why = {.text = ""};
    char text[MATFILE_TEXT_BYTES_MAX];
    size_t count = 0;
    cr_expect(eq(int, matfile_read_list(file, "rows", &count, &why), STATUS_INVALID));
    expect_words(&why, "odd.mat", "'rows' is not a row or column of cells");
    cr_expect(eq(int, matfile_read_table(file, "cells", &count, &why), STATUS_INVALID));
    expect_words(&why, "odd.mat", "'cells' is not a row or column of structs");
    cr_assert(eq(int, matfile_read_list(file, "cells", &count, &why), STATUS_OK));
    cr_expect(eq(int, matfile_text(file, NULL, 0, text, &why), STATUS_OK));
    cr_expect(eq(int, matfile_text(file, NULL, 1, text, &why), STATUS_INVALID));
    expect_words(&why, "odd.mat", "'cells', row 2: a line of text");
    cr_expect(eq(int, matfile_text(file, NULL, 2, text, &why), STATUS_INVALID)); // two lines
    cr_assert(eq(int, matfile_read_list(file, "letters", &count, &why), STATUS_OK));
    cr_expect(
        eq(int, matfile_text(file, NULL, 0, text, &why), STATUS_INVALID)); // a square of letters
    matfile_close(&file);
}

// --- files that are none

static void write_file(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    cr_assert(ne(ptr, file, NULL));
    cr_assert(eq(sz, fwrite(data, 1, bytes, file), bytes));
    fclose(file);
}

Test(matfile, only_version_5_is_opened)
{
    char path[] = "/tmp/reco-matfile-XXXXXX";
    char head[512];
    struct matfile *file = NULL;
    struct reason why = {.text = ""};
    close(mkstemp(path));
    cr_expect(eq(int, matfile_open(path, &file, &why), STATUS_INVALID)); // empty
    memset(head, ' ', sizeof(head));
    memcpy(head, "MATLAB 7.3 MAT-file", 19);
    memcpy(head + 124, "\x00\x02IM", 4);
    write_file(path, head, sizeof(head));
    cr_expect(eq(int, matfile_open(path, &file, &why), STATUS_UNSUPPORTED));
    expect_words(&why, path, "7.3");
    memcpy(head, "MATLAB 4.0", 10);
    write_file(path, head, sizeof(head));
    cr_expect(eq(int, matfile_open(path, &file, &why), STATUS_INVALID));
    expect_words(&why, path, "version 5");
    unlink(path);
    cr_expect(eq(int, matfile_open(path, &file, &why), STATUS_NOT_FOUND));
    cr_expect(eq(int, matfile_open("/dev/zero", &file, &why), STATUS_INVALID));
    cr_expect(eq(int, matfile_open("/tmp", &file, &why), STATUS_INVALID));
}

// A few kilobytes that would be more than the limit allows.
Test(matfile, what_inflates_beyond_the_limit_is_refused)
{
    char path[] = "/tmp/reco-matfile-XXXXXX";
    const size_t zeros = MATFILE_BYTES_MAX + 4096;
    uint8_t *plain = calloc(1, zeros);
    uLongf bytes = compressBound(zeros);
    uint8_t *file = calloc(1, 136 + bytes);
    cr_assert(plain && file);
    cr_assert(eq(int, compress2(file + 136, &bytes, plain, zeros, 1), Z_OK));
    memcpy(file, "MATLAB 5.0", 10);
    memcpy(file + 124, "\x00\x01IM\x0f\0\0\0", 8);
    bytes_put_u32_le(file + 132, (uint32_t)bytes);
    close(mkstemp(path));
    write_file(path, file, 136 + bytes);
    struct matfile *opened = NULL;
    struct reason why = {.text = ""};
    uint32_t *numbers = NULL;
    size_t count = 0;
    cr_assert(eq(int, matfile_open(path, &opened, &why), STATUS_OK));
    cr_expect(eq(int, matfile_numbers(opened, "labels", &numbers, &count, &why), STATUS_INVALID));
    expect_words(&why, path, "a variable of more than 67108864 bytes, uncompressed");
    matfile_close(&opened);
    unlink(path);
    free(plain);
    free(file);
}

// Reads everything that a cut file still has.
static void read_what_there_is(const char *path)
{
    struct matfile *file = NULL;
    struct reason why = {.text = ""};
    char text[MATFILE_TEXT_BYTES_MAX];
    uint32_t *numbers = NULL;
    size_t count = 0;
    if (matfile_open(path, &file, &why))
        return;
    if (!matfile_numbers(file, "labels", &numbers, &count, &why))
        mem_free(numbers);
    count = 0;
    if (!matfile_read_list(file, "class_names", &count, &why))
        for (size_t i = 0; i < count; i++)
            (void)!matfile_text(file, NULL, i, text, &why);
    count = 0;
    if (!matfile_read_table(file, "annotations", &count, &why))
        for (size_t i = 0; i < count; i++)
            (void)!matfile_text(file, "fname", i, text, &why);
    matfile_close(&file);
}

Test(matfile, a_file_that_is_cut_is_refused_at_any_length)
{
    static const char *const names[] = {"cars_meta.mat", "cars_train_annos.mat", "imagelabels.mat",
                                        "wide.mat", "cars_test_annos_withlabels.mat"};
    char path[] = "/tmp/reco-matfile-XXXXXX";
    close(mkstemp(path));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char whole[4096];
        char source[512];
        snprintf(source, sizeof(source), FOLDER "%s", names[i]);
        FILE *file = fopen(source, "rb");
        const size_t bytes = fread(whole, 1, sizeof(whole), file);
        fclose(file);
        write_file(path, whole, bytes);
        for (size_t cut = bytes - 1; cut >= 120; cut--) {
            cr_assert(eq(int, truncate(path, (off_t)cut), 0));
            read_what_there_is(path);
        }
    }
    unlink(path);
}
