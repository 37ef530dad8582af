// SPDX-License-Identifier: Apache-2.0
// Goal: no .mat file breaks its reader, and what it gives is within its limits or told.
//
// Method: the input is the file. Every variable that a data set has is asked for as what it should
// be.

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "tests/fuzz/scratch.h"
#include "tools/matfile.h"

#define ROWS_MAX 64 // of a table that are read

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static void read_numbers(struct matfile *file, const char *name)
{
    struct reason why = {.text = ""};
    uint32_t *numbers = NULL;
    size_t count = 0;
    if (matfile_numbers(file, name, &numbers, &count, &why)) {
        check(why.text[0]);
        return;
    }
    check(count <= MATFILE_ELEMENTS_MAX);
    mem_free(numbers);
}

static void read_row(struct matfile *file, const char *column, size_t row)
{
    struct reason why = {.text = ""};
    char text[MATFILE_TEXT_BYTES_MAX];
    uint32_t number = 0;
    if (matfile_text(file, column, row, text, &why))
        check(why.text[0]);
    else
        check(bytes_is_utf8(text, strlen(text)));
    if (column && matfile_number(file, column, row, &number, &why))
        check(why.text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const columns[] = {"fname", "class", "relative_im_path", "test",
                                          "WNID",  "words", "ILSVRC2012_ID"};
    char path[SCRATCH_PATH_BYTES + 16];
    struct matfile *file = NULL;
    struct reason why = {.text = ""};
    size_t count = 0;
    scratch_write("a.mat", data, size);
    (void)snprintf(path, sizeof(path), "%s/a.mat", scratch_folder());
    if (matfile_open(path, &file, &why)) {
        check(why.text[0]);
        return 0;
    }
    read_numbers(file, "labels");
    read_numbers(file, "trnid");
    if (!matfile_read_list(file, "class_names", &count, &why))
        for (size_t i = 0; i < count && i < ROWS_MAX; i++)
            read_row(file, NULL, i);
    for (int which = 0; which < 2; which++)
        if (!matfile_read_table(file, which ? "synsets" : "annotations", &count, &why))
            for (size_t i = 0; i < count && i < ROWS_MAX; i++)
                for (size_t j = 0; j < sizeof(columns) / sizeof(columns[0]); j++)
                    read_row(file, columns[j], i);
    matfile_close(&file);
    return 0;
}
