// SPDX-License-Identifier: Apache-2.0
// Goal: arrays come out as they went in, from our writer and from NumPy's own bytes, and
// no header, however made, leads outside the file.
//
// Method: files written here; headers as NumPy writes them and headers bent in one place.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/half.h"
#include "tools/npyfile.h"

static char path[80];

static void make_path(void)
{
    snprintf(path, sizeof(path), "/tmp/reco-npy-XXXXXX");
    int file = mkstemp(path);
    cr_assert(file >= 0);
    close(file);
}

static void remove_path(void)
{
    (void)unlink(path);
}

TestSuite(npyfile, .init = make_path, .fini = remove_path);

// A version 1 file with this dictionary and `bytes` zero bytes behind it.
static size_t file_of(const char *dictionary, size_t bytes, uint8_t *out)
{
    size_t length = strlen(dictionary);
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (uint8_t)(length & 0xff);
    out[9] = (uint8_t)(length >> 8);
    memcpy(out + 10, dictionary, length);
    memset(out + 10 + length, 0, bytes);
    return 10 + length + bytes;
}

static void write_path(const uint8_t *data, size_t count)
{
    FILE *out = fopen(path, "w");
    cr_assert(out != NULL);
    fwrite(data, 1, count, out);
    fclose(out);
}

static enum status parse(const char *dictionary, size_t bytes, struct npyfile_info *info)
{
    static uint8_t data[4096];
    size_t count = file_of(dictionary, bytes, data);
    size_t offset = 0;
    struct reason why = {.text = ""};
    enum status status = npyfile_parse((struct bytes){data, count}, count, info, &offset, &why);
    if (status)
        cr_expect(ne(str, why.text, (char *)""));
    else
        cr_expect(eq(sz, offset, 10 + strlen(dictionary)));
    return status;
}

Test(npyfile, reads_what_it_wrote)
{
    const float rows[3][2] = {{1, 2}, {-3, 0.5f}, {1e-20f, 4}};
    struct npyfile_writer *writer = NULL;
    struct reason why = {.text = ""};
    cr_assert(eq(int, npyfile_create(path, 2, &writer, &why), STATUS_OK), "%s", why.text);
    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, npyfile_write_row(writer, rows[i], &why), STATUS_OK));
    cr_expect(eq(u64, npyfile_rows_written(writer), 3));
    cr_assert(eq(int, npyfile_finish(&writer, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(ptr, writer, NULL));

    struct npyfile *file = NULL;
    cr_assert(eq(int, npyfile_open(path, &file, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(u64, npyfile_info(file)->rows, 3));
    cr_expect(eq(u64, npyfile_info(file)->columns, 2));
    for (uint64_t i = 0; i < 3; i++) {
        float row[2];
        npyfile_read_row(file, i, row);
        cr_expect(memcmp(row, rows[i], sizeof(row)) == 0);
    }
    npyfile_close(&file);
}

Test(npyfile, an_abandoned_file_leaves_the_old_one)
{
    const float row[1] = {1};
    struct npyfile_writer *writer = NULL;
    struct reason why = {.text = ""};
    cr_assert(eq(int, npyfile_create(path, 1, &writer, &why), STATUS_OK));
    cr_assert(eq(int, npyfile_write_row(writer, row, &why), STATUS_OK));
    npyfile_abandon(&writer);

    FILE *file = fopen(path, "r");
    cr_assert(file != NULL);
    cr_expect(eq(int, fgetc(file), EOF));
    fclose(file);
}

Test(npyfile, reads_halves_at_odd_addresses)
{
    uint8_t data[256];
    const char *dictionary = "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 3)}"; // 57: odd
    size_t count = file_of(dictionary, 12, data);
    const float values[6] = {1, -2, 0.5f, 65504, 0, 3.14159f};
    for (int i = 0; i < 6; i++) {
        uint16_t half = half_from_float(values[i]);
        memcpy(data + count - 12 + 2 * i, &half, 2);
    }
    write_path(data, count);

    struct npyfile *file = NULL;
    struct reason why = {.text = ""};
    cr_assert(eq(int, npyfile_open(path, &file, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(int, npyfile_info(file)->type, NPYFILE_F16));
    for (uint64_t i = 0; i < 2; i++) {
        float row[3];
        npyfile_read_row(file, i, row);
        for (int j = 0; j < 3; j++)
            cr_expect(eq(flt, row[j], half_to_float(half_from_float(values[3 * i + j]))));
    }
    npyfile_close(&file);
}

Test(npyfile, reads_ids_and_keeps_them_apart_from_floats)
{
    uint8_t data[256];
    const int64_t values[4] = {0, -1, INT64_C(1) << 40, 7};
    size_t count = file_of("{'descr': '<i8', 'fortran_order': False, 'shape': (2, 2)}", 32, data);
    memcpy(data + count - 32, values, 32);
    write_path(data, count);
    struct npyfile *file = NULL;
    struct reason why = {.text = ""};
    cr_expect(eq(int, npyfile_open(path, &file, &why), STATUS_INVALID));
    cr_assert(eq(int, npyfile_open_ids(path, &file, &why), STATUS_OK), "%s", why.text);
    for (uint64_t i = 0; i < 4; i++)
        cr_expect(eq(i64, npyfile_read_id(file, i / 2, i % 2), values[i]));
    npyfile_close(&file);

    const int32_t narrow[3] = {5, -6, 7};
    count = file_of("{'descr': '<i4', 'fortran_order': False, 'shape': (3, 1)}", 12, data);
    memcpy(data + count - 12, narrow, 12);
    write_path(data, count);
    cr_assert(eq(int, npyfile_open_ids(path, &file, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(i64, npyfile_read_id(file, 1, 0), -6));
    npyfile_close(&file);

    count = file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1)}", 12, data);
    write_path(data, count);
    cr_expect(eq(int, npyfile_open_ids(path, &file, &why), STATUS_INVALID));
    cr_expect(eq(ptr, file, NULL));
}

Test(npyfile, reads_fvecs)
{
    const union {
        int32_t words[6];
        float floats[6];
        uint8_t bytes[24];
    } rows = {.words = {2, 0x3f800000, 0x40000000, 2, 0x3f000000, 0}};
    char name[sizeof(path) + 8];
    snprintf(name, sizeof(name), "%s.fvecs", path);
    cr_assert(rename(path, name) == 0);
    cr_assert(strlen(name) < sizeof(path));
    memcpy(path, name, strlen(name) + 1); // removed at the end
    write_path(rows.bytes, 24);
    struct npyfile *file = NULL;
    struct reason why = {.text = ""};
    cr_assert(eq(int, npyfile_open(path, &file, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(u64, npyfile_info(file)->rows, 2));
    float row[2];
    npyfile_read_row(file, 1, row);
    cr_expect(eq(flt, row[0], 0.5f));
    npyfile_close(&file);

    struct npyfile_info info;
    const int32_t bad[][6] = {{0, 0, 0, 0, 0, 0},
                              {-1, 0, 0, 0, 0, 0},
                              {2, 0, 0, 3, 0, 0},
                              {3, 0, 0, 0, 3, 0},
                              {65537, 0, 0, 0, 0, 0}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect(eq(int,
                     npyfile_parse_fvecs((struct bytes){(const uint8_t *)bad[i], 24}, &info, NULL),
                     STATUS_INVALID));
    for (size_t count = 0; count < 24; count++)
        if (count != 12)
            cr_expect(eq(int, npyfile_parse_fvecs((struct bytes){rows.bytes, count}, &info, NULL),
                         STATUS_INVALID));
}

Test(npyfile, takes_what_numpy_writes_and_what_others_may)
{
    struct npyfile_info info;
    cr_expect(eq(
        int, parse("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }    \n", 32, &info),
        STATUS_OK));
    cr_expect(eq(u64, info.rows, 2));
    cr_expect(eq(int, parse("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }", 16, &info),
                 STATUS_OK));
    cr_expect(eq(u64, info.rows, 1));
    cr_expect(eq(int,
                 parse("{\"shape\":(0,4),\"fortran_order\":False,\"descr\":\"<f2\"}", 0, &info),
                 STATUS_OK));
    cr_expect(eq(u64, info.rows, 0));
    // One dimension is the same in either order.
    cr_expect(eq(int, parse("{'descr': '<f4', 'fortran_order': True, 'shape': (4,), }", 16, &info),
                 STATUS_OK));
}

Test(npyfile, refuses_headers_that_do_not_fit)
{
    struct npyfile_info info;
    static const struct {
        const char *dictionary;
        size_t bytes;
    } bad[] = {
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 4), }", 64},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2, 4), }", 32},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2, 4), }", 32},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 4), }", 32},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 4},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 4), }", 32},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 0), }", 0},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }", 31}, // cut
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }", 33}, // something behind
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 4), }", 32},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", 0},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 4294967296), }", 0},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999, 4), }", 32},
        {"{'descr': '<f4', 'fortran_order': False}", 32},
        {"{'descr': '<f4', 'shape': (2, 4)}", 32},
        {"{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2, 4)}", 32},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), 'x': 1}", 32},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4)", 32},
        {"{'descr': '<f4, 'fortran_order': False, 'shape': (2, 4)}", 32},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2 4)}", 32},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4)} x", 32},
        {"", 32},
        {"{", 32},
        {"__import__('os').system('true')", 32},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect(eq(int, parse(bad[i].dictionary, bad[i].bytes, &info), STATUS_INVALID), "%s",
                  bad[i].dictionary);
}

Test(npyfile, refuses_every_cut_of_a_good_file)
{
    uint8_t data[256];
    size_t whole = file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }", 32, data);
    for (size_t count = 0; count < whole; count++) {
        // A copy of just that size, so that a sanitizer sees any step beyond it.
        uint8_t *copy = malloc(count ? count : 1);
        memcpy(copy, data, count);
        struct npyfile_info info;
        size_t offset = 0;
        cr_expect(eq(int, npyfile_parse((struct bytes){copy, count}, count, &info, &offset, NULL),
                     STATUS_INVALID));
        free(copy);
    }
}

Test(npyfile, refuses_wrong_magic_version_and_header_length)
{
    uint8_t data[256];
    struct npyfile_info info;
    size_t offset = 0;
    size_t count = file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }", 32, data);
    const struct {
        size_t at;
        uint8_t value;
    } changes[] = {{0, 0x92}, {5, 'X'}, {6, 0}, {6, 4}, {6, 255}, {8, 0}, {9, 255}};
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        uint8_t bent[256];
        memcpy(bent, data, count);
        bent[changes[i].at] = changes[i].value;
        cr_expect(eq(int, npyfile_parse((struct bytes){bent, count}, count, &info, &offset, NULL),
                     STATUS_INVALID));
    }
    data[6] = 2; // four bytes of length: the dictionary's first two among them
    cr_expect(eq(int, npyfile_parse((struct bytes){data, count}, count, &info, &offset, NULL),
                 STATUS_INVALID));
}

Test(npyfile, says_why_a_file_cannot_be_opened)
{
    struct npyfile *file = NULL;
    struct reason why = {.text = ""};
    cr_expect(eq(int, npyfile_open("/nonexistent/x.npy", &file, &why), STATUS_NOT_FOUND));
    cr_expect(eq(int, npyfile_open("/tmp", &file, &why), STATUS_INVALID));
    cr_expect(eq(int, npyfile_open(path, &file, &why), STATUS_INVALID)); // empty
    cr_expect(eq(ptr, file, NULL));

    struct npyfile_writer *writer = NULL;
    cr_expect(eq(int, npyfile_create("/nonexistent/x.npy", 2, &writer, &why), STATUS_IO));
    cr_expect(eq(ptr, writer, NULL));
}

Test(npyfile, saves_arrays_of_three_dimensions)
{
    const float values[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const size_t shape[3] = {3, 2, 2};
    struct reason why = {.text = ""};
    cr_assert(eq(int, npyfile_save(path, values, shape, 3, &why), STATUS_OK));

    char text[128 + sizeof(values) + 1] = "";
    FILE *file = fopen(path, "r");
    cr_assert(eq(sz, fread(text, 1, sizeof(text), file), 128 + sizeof(values)));
    fclose(file);
    cr_expect(memcmp(text, "\x93NUMPY\x01\x00\x76\x00", 10) == 0);
    cr_expect(strncmp(text + 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 2), }",
                      62) == 0);
    cr_expect(eq(chr, text[127], '\n'));
    cr_expect(memcmp(text + 128, values, sizeof(values)) == 0);
}
