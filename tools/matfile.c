// SPDX-License-Identifier: Apache-2.0
// A file is a head of 128 bytes and then elements: a tag (kind, length), data, padding to 8 bytes.
// A variable is an element of the kind MATRIX, or of the kind COMPRESSED, which is one after zlib.
// In a matrix follow each other, as elements again: flags, lengths of the axes, name, and then
// numbers, letters, or the matrices of cells and fields.
//
// The format is MathWorks' "MAT-File Format", version 5. Numbers may be stored narrower than their
// class is: the tag says how. Nothing points anywhere in this format, so what is read is one walk
// forward, bounded by the file.
//
// Only what data sets have is read: real numbers, letters, cells, structs, of one row or column. No
// matrix is parsed inside another but those of cells and fields, so there is no depth to be
// bounded.

#include "tools/matfile.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define ZLIB_CONST // it takes what it reads as const
#include <zlib.h>

#include "proto/base/mem.h"
#include "tools/inputs.h"

#define HEAD_BYTES 128
#define INFLATED_BYTES_MAX (4 * MATFILE_BYTES_MAX) // of all variables that are walked over
#define FIELD_NAME_BYTES_MAX 64

// Kinds of elements.
enum kind {
    KIND_INT8 = 1,
    KIND_UINT8,
    KIND_INT16,
    KIND_UINT16,
    KIND_INT32,
    KIND_UINT32,
    KIND_SINGLE,
    KIND_DOUBLE = 9,
    KIND_INT64 = 12,
    KIND_UINT64,
    KIND_MATRIX,
    KIND_COMPRESSED,
    KIND_UTF8,
    KIND_UTF16,
};

// Classes of matrices; of numbers are all from the first to the last.
enum class {
    CLASS_CELL = 1,
    CLASS_STRUCT,
    CLASS_CHAR = 4,
    CLASS_NUMBERS_FIRST = 6,
    CLASS_NUMBERS_LAST = 15,
};

#define FLAG_COMPLEX 0x0800u

struct element {
    uint32_t kind;
    struct bytes data;
};

struct matrix {
    uint32_t class;
    bool is_complex;
    size_t rows, columns;
    struct text name;
    struct bytes rest; // behind the name
};

struct matfile {
    char *path;
    struct buffer bytes;
    struct buffer inflated; // the variable that was found, when it is compressed
    size_t inflated_bytes;  // of all that were walked over
    char variable[64];
    // By matfile_read_list() and matfile_read_table().
    struct bytes *cells; // [rows * columns]: a table's row after row
    size_t rows, columns;
    struct text fields; // names of the columns, each of field_bytes
    size_t field_bytes;
};

// --- elements

// Takes the element in front of *rest; false when it does not lie in it.
static bool take_element(struct bytes *rest, struct element *out)
{
    if (rest->count < 8)
        return false;
    const uint32_t first = bytes_get_u32_le(rest->data);
    const bool is_small = first >> 16 != 0; // kind, length and data in 8 bytes
    const size_t bytes = is_small ? first >> 16 : bytes_get_u32_le(rest->data + 4);
    const size_t head = is_small ? 4 : 8;
    if (bytes > rest->count - head || (is_small && bytes > 4))
        return false;
    out->kind = is_small ? first & 0xffff : first;
    out->data = (struct bytes){rest->data + head, bytes};
    size_t whole = head + bytes;
    if (out->kind != KIND_COMPRESSED)
        whole = (whole + 7) / 8 * 8;
    if (whole > rest->count) // padding that the end has cut off
        whole = rest->count;
    *rest = (struct bytes){rest->data + whole, rest->count - whole};
    return true;
}

// Takes what is in front of the content; false for what is no matrix, or none of two axes.
static bool parse_matrix(struct bytes data, struct matrix *out)
{
    struct element flags;
    struct element axes;
    struct element name;
    if (!take_element(&data, &flags) || flags.kind != KIND_UINT32 || flags.data.count < 4 ||
        !take_element(&data, &axes) || axes.kind != KIND_INT32 || axes.data.count != 8 ||
        !take_element(&data, &name) || name.kind != KIND_INT8)
        return false;
    const uint32_t first = bytes_get_u32_le(flags.data.data);
    *out = (struct matrix){
        .class = first & 0xff,
        .is_complex = (first & FLAG_COMPLEX) != 0,
        .rows = bytes_get_u32_le(axes.data.data),
        .columns = bytes_get_u32_le(axes.data.data + 4),
        .name = {(const char *)name.data.data, name.data.count},
        .rest = data,
    };
    return true;
}

// Elements of a row or column; false for another shape, or for too many.
static bool count_elements(const struct matrix *matrix, size_t *out)
{
    if ((matrix->rows > 1 && matrix->columns > 1) || matrix->rows > MATFILE_ELEMENTS_MAX ||
        matrix->columns > MATFILE_ELEMENTS_MAX)
        return false;
    *out = matrix->rows * matrix->columns;
    return true;
}

static bool is_numeric(const struct matrix *matrix)
{
    return matrix->class >= CLASS_NUMBERS_FIRST && matrix->class <= CLASS_NUMBERS_LAST &&
           !matrix->is_complex;
}

// --- numbers and letters

// Bytes that a number takes as it is stored; 0: no kind of number.
static size_t bytes_of(uint32_t kind)
{
    static const uint8_t bytes[] = {
        [KIND_INT8] = 1,  [KIND_UINT8] = 1,  [KIND_INT16] = 2,  [KIND_UINT16] = 2,
        [KIND_INT32] = 4, [KIND_UINT32] = 4, [KIND_SINGLE] = 4, [KIND_DOUBLE] = 8,
        [KIND_INT64] = 8, [KIND_UINT64] = 8,
    };
    return kind < sizeof(bytes) ? bytes[kind] : 0;
}

static double number_at(const struct element *element, size_t index)
{
    const size_t bytes = bytes_of(element->kind);
    uint64_t bits = 0;
    for (size_t i = 0; i < bytes; i++)
        bits |= (uint64_t)element->data.data[index * bytes + i] << 8 * i;
    const uint32_t half = (uint32_t)bits;
    float single = 0;
    double value = 0;
    switch (element->kind) {
    case KIND_INT8:
        return (double)(int8_t)bits;
    case KIND_INT16:
        return (double)(int16_t)bits;
    case KIND_INT32:
        return (double)(int32_t)bits;
    case KIND_INT64:
        return (double)(int64_t)bits;
    case KIND_SINGLE:
        memcpy(&single, &half, sizeof(single));
        return (double)single;
    case KIND_DOUBLE:
        memcpy(&value, &bits, sizeof(value));
        return value;
    default:
        return (double)bits;
    }
}

static bool to_whole(double value, uint32_t *out)
{
    if (!(value >= 0) || value > (double)UINT32_MAX || floor(value) < value)
        return false;
    *out = (uint32_t)value;
    return true;
}

// The numbers of a matrix, as many as its axes say.
static bool find_numbers(const struct matrix *matrix, size_t *count, struct element *out)
{
    struct bytes rest = matrix->rest;
    if (!is_numeric(matrix) || !count_elements(matrix, count) || !take_element(&rest, out))
        return false;
    const size_t bytes = bytes_of(out->kind);
    return bytes > 0 && out->data.count == *count * bytes;
}

// A unit of UTF-16 as UTF-8; a half of a pair, which no data set has, becomes what no UTF-8 is.
static size_t put_unit(uint16_t unit, char *out)
{
    if (unit < 0x80) {
        out[0] = (char)unit;
        return 1;
    }
    if (unit < 0x800) {
        out[0] = (char)(0xc0 | unit >> 6);
        out[1] = (char)(0x80 | (unit & 0x3f));
        return 2;
    }
    out[0] = (char)(0xe0 | unit >> 12);
    out[1] = (char)(0x80 | (unit >> 6 & 0x3f));
    out[2] = (char)(0x80 | (unit & 0x3f));
    return 3;
}

// Copies a row of letters; false for something else, for what is not UTF-8, for control characters.
static bool copy_text(const struct matrix *matrix, char out[MATFILE_TEXT_BYTES_MAX])
{
    struct bytes rest = matrix->rest;
    struct element letters = {.kind = KIND_UTF8};
    size_t count = 0;
    if (matrix->class != CLASS_CHAR || !count_elements(matrix, &count) ||
        (count > 0 && (matrix->rows != 1 || !take_element(&rest, &letters))))
        return false;
    const bool is_wide = letters.kind == KIND_UINT16 || letters.kind == KIND_UTF16;
    if (!is_wide && letters.kind != KIND_UINT8 && letters.kind != KIND_INT8 &&
        letters.kind != KIND_UTF8)
        return false;
    // In UTF-8 the axes count letters and not bytes.
    const size_t units = letters.data.count / (is_wide ? 2 : 1);
    if (units >= MATFILE_TEXT_BYTES_MAX / 3 || units < count)
        return false;
    size_t bytes = 0;
    for (size_t i = 0; i < units; i++) {
        const uint8_t *at = letters.data.data + (is_wide ? 2 * i : i);
        const uint16_t unit = (uint16_t)(is_wide ? at[0] | at[1] << 8 : at[0]);
        if (unit < 0x20)
            return false;
        if (is_wide)
            bytes += put_unit(unit, out + bytes);
        else
            out[bytes++] = (char)unit;
    }
    out[bytes] = 0;
    return bytes_is_utf8(out, bytes);
}

// --- opening

static enum status check_head(const char *path, const struct buffer *file, struct reason *why)
{
    const char *head = (const char *)file->data;
    if (file->count >= HEAD_BYTES && memcmp(head, "MATLAB 7.3", 10) == 0)
        return reason_set(why, STATUS_UNSUPPORTED, path,
                          "is of MATLAB's version 7.3; version 5 is read (save -v7, or "
                          "scipy.io.savemat)");
    if (file->count >= HEAD_BYTES && memcmp(head + 124, "\x01\x00MI", 4) == 0)
        return reason_set(why, STATUS_UNSUPPORTED, path,
                          "was written by a machine whose numbers begin with the high byte; saved "
                          "anew by MATLAB or SciPy it can be read");
    if (file->count >= HEAD_BYTES && memcmp(head + 124, "\x00\x01IM", 4) == 0)
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, path, "is no .mat file of MATLAB's version 5");
}

enum status matfile_open(const char *path, struct matfile **out, struct reason *why)
{
    assert(path && out);

    struct stat about;
    if (stat(path, &about) == 0 && !S_ISREG(about.st_mode))
        return reason_set(why, STATUS_INVALID, path, "is no regular file");
    struct matfile *file = mem_alloc(sizeof(*file));
    struct reason inner = {.text = ""};
    file->path = mem_copy_text(path);
    enum status status = inputs_read_file(path, MATFILE_BYTES_MAX, &file->bytes, &inner);
    if (status)
        status = reason_set(why, status, path, "%s", inner.text);
    else
        status = check_head(path, &file->bytes, why);
    if (status)
        matfile_close(&file);
    else
        *out = file;
    return status;
}

void matfile_close(struct matfile **file)
{
    if (!*file)
        return;
    buffer_deinit(&(*file)->bytes);
    buffer_deinit(&(*file)->inflated);
    mem_free((*file)->cells);
    mem_free((*file)->path);
    mem_free(*file);
    *file = NULL;
}

// --- variables

static enum status broken(const struct matfile *file, const char *what, struct reason *why)
{
    return reason_set(why, STATUS_INVALID, file->path, "is broken: %s", what);
}

// Inflates a variable into file->inflated; z's state is the caller's to end.
static enum status inflate_all(struct matfile *file, z_stream *z, struct reason *why)
{
    file->inflated.count = 0;
    for (int result = Z_OK; result != Z_STREAM_END;) {
        uint8_t chunk[16384];
        z->next_out = chunk;
        z->avail_out = sizeof(chunk);
        result = inflate(z, Z_NO_FLUSH);
        const size_t got = sizeof(chunk) - z->avail_out;
        if ((result != Z_OK && result != Z_STREAM_END) || (result == Z_OK && got == 0))
            return broken(file, "a compressed variable does not end", why);
        file->inflated_bytes += got;
        if (file->inflated.count + got > MATFILE_BYTES_MAX ||
            file->inflated_bytes > INFLATED_BYTES_MAX)
            return reason_set(why, STATUS_INVALID, file->path,
                              "a variable of more than %zu bytes, uncompressed", MATFILE_BYTES_MAX);
        if (buffer_append(&file->inflated, chunk, got))
            return reason_set(why, STATUS_NO_MEMORY, file->path, "no memory to read it");
    }
    return STATUS_OK;
}

static enum status inflate_variable(struct matfile *file, struct bytes compressed,
                                    struct element *out, struct reason *why)
{
    z_stream z = {.next_in = compressed.data, .avail_in = (uInt)compressed.count};
    if (inflateInit(&z) != Z_OK)
        return reason_set(why, STATUS_NO_MEMORY, file->path, "no memory to read it");
    const enum status status = inflate_all(file, &z, why);
    (void)inflateEnd(&z);
    if (status)
        return status;
    struct bytes rest = {file->inflated.data, file->inflated.count};
    return take_element(&rest, out) ? STATUS_OK
                                    : broken(file, "a compressed variable is none", why);
}

// Walks over the variables to the one of this name.
static enum status find_variable(struct matfile *file, const char *name, struct matrix *out,
                                 struct reason *why)
{
    struct bytes rest = {file->bytes.data + HEAD_BYTES, file->bytes.count - HEAD_BYTES};
    (void)snprintf(file->variable, sizeof(file->variable), "%s", name);
    file->inflated_bytes = 0;
    while (rest.count) {
        struct element element;
        if (!take_element(&rest, &element))
            return broken(file, "it ends inside a variable", why);
        enum status status = STATUS_OK;
        if (element.kind == KIND_COMPRESSED)
            status = inflate_variable(file, element.data, &element, why);
        if (status)
            return status;
        if (element.kind == KIND_MATRIX && parse_matrix(element.data, out) &&
            text_equal(out->name, text_of(name)))
            return STATUS_OK;
    }
    return reason_set(why, STATUS_INVALID, file->path,
                      "has no variable '%s' that is a row or column", name);
}

static enum status refuse_variable(const struct matfile *file, const char *what, struct reason *why)
{
    return reason_set(why, STATUS_INVALID, file->path,
                      "variable '%s' is not a row or column of %s, at most %zu", file->variable,
                      what, MATFILE_ELEMENTS_MAX);
}

enum status matfile_numbers(struct matfile *file, const char *name, uint32_t **out, size_t *count,
                            struct reason *why)
{
    assert(file && name && out && count);

    struct matrix matrix = {.class = 0};
    struct element numbers;
    size_t elements = 0;
    const enum status status = find_variable(file, name, &matrix, why);
    if (status)
        return status;
    if (!find_numbers(&matrix, &elements, &numbers))
        return refuse_variable(file, "numbers", why);
    uint32_t *found = mem_alloc_array(elements + 1, sizeof(*found));
    for (size_t i = 0; i < elements; i++) {
        const double value = number_at(&numbers, i);
        if (to_whole(value, &found[i]))
            continue;
        mem_free(found);
        return reason_set(why, STATUS_INVALID, file->path,
                          "variable '%s': element %zu is %g: whole numbers from 0 are allowed",
                          name, i + 1, value);
    }
    *out = found;
    *count = elements;
    return STATUS_OK;
}

// Finds where each matrix of cells or fields lies.
static enum status read_cells(struct matfile *file, struct bytes rest, size_t rows, size_t columns,
                              struct reason *why)
{
    const size_t count = rows * columns;
    if (rest.count / 8 < count) // each has a tag
        return broken(file, "it ends inside a variable", why);
    mem_free(file->cells);
    file->cells = mem_alloc_array(count + 1, sizeof(file->cells[0]));
    file->rows = rows;
    file->columns = columns;
    for (size_t i = 0; i < count; i++) {
        struct element element;
        if (!take_element(&rest, &element) || element.kind != KIND_MATRIX)
            return broken(file, "a cell or field is no matrix", why);
        file->cells[i] = element.data;
    }
    return STATUS_OK;
}

enum status matfile_read_list(struct matfile *file, const char *name, size_t *count,
                              struct reason *why)
{
    assert(file && name && count);

    struct matrix matrix = {.class = 0};
    size_t cells = 0;
    file->rows = 0;
    enum status status = find_variable(file, name, &matrix, why);
    if (!status && (matrix.class != CLASS_CELL || !count_elements(&matrix, &cells)))
        status = refuse_variable(file, "cells", why);
    if (!status)
        status = read_cells(file, matrix.rest, cells, 1, why);
    file->fields = (struct text){NULL, 0};
    if (status)
        file->rows = 0;
    else
        *count = cells;
    return status;
}

// Takes the names of a table's columns.
static bool read_fields(struct matfile *file, struct bytes *rest, size_t *columns)
{
    struct element length;
    struct element names;
    if (!take_element(rest, &length) || length.kind != KIND_INT32 || length.data.count != 4 ||
        !take_element(rest, &names) || names.kind != KIND_INT8)
        return false;
    file->field_bytes = bytes_get_u32_le(length.data.data);
    if (file->field_bytes < 1 || file->field_bytes > FIELD_NAME_BYTES_MAX)
        return false;
    file->fields = (struct text){(const char *)names.data.data, names.data.count};
    *columns = names.data.count / file->field_bytes;
    return *columns > 0;
}

enum status matfile_read_table(struct matfile *file, const char *name, size_t *rows,
                               struct reason *why)
{
    assert(file && name && rows);

    struct matrix matrix = {.class = 0};
    size_t elements = 0;
    size_t columns = 0;
    file->rows = 0;
    enum status status = find_variable(file, name, &matrix, why);
    if (!status && (matrix.class != CLASS_STRUCT || !count_elements(&matrix, &elements)))
        status = refuse_variable(file, "structs", why);
    if (!status && !read_fields(file, &matrix.rest, &columns))
        status = broken(file, "the names of a table's columns", why);
    if (!status && elements * columns > MATFILE_ELEMENTS_MAX)
        status = refuse_variable(file, "structs with their fields", why);
    if (!status)
        status = read_cells(file, matrix.rest, elements, columns, why);
    if (status)
        file->rows = 0;
    else
        *rows = elements;
    return status;
}

// --- elements of what was read

// The place of a column; file->columns: there is none. A name ends at a NUL, or fills its place.
static size_t find_column(const struct matfile *file, const char *column)
{
    size_t at = 0;
    while (at < file->columns) {
        const char *name = file->fields.data + at * file->field_bytes;
        const char *end = memchr(name, 0, file->field_bytes);
        if (text_equal((struct text){name, end ? (size_t)(end - name) : file->field_bytes},
                       text_of(column)))
            break;
        at++;
    }
    return at;
}

static bool find_cell(const struct matfile *file, const char *column, size_t row,
                      struct matrix *out)
{
    assert(row < file->rows && (column != NULL) == (file->fields.data != NULL));
    const size_t at = column ? find_column(file, column) : 0;
    return at < file->columns && parse_matrix(file->cells[row * file->columns + at], out);
}

static enum status refuse_cell(const struct matfile *file, const char *column, size_t row,
                               const char *what, struct reason *why)
{
    return reason_set(why, STATUS_INVALID, file->path, "variable '%s', row %zu%s%s: %s is needed",
                      file->variable, row + 1, column ? ", " : "", column ? column : "", what);
}

enum status matfile_text(struct matfile *file, const char *column, size_t row,
                         char out[MATFILE_TEXT_BYTES_MAX], struct reason *why)
{
    assert(file && out);

    struct matrix matrix;
    if (find_cell(file, column, row, &matrix) && copy_text(&matrix, out))
        return STATUS_OK;
    return refuse_cell(file, column, row, "a line of text", why);
}

enum status matfile_number(struct matfile *file, const char *column, size_t row, uint32_t *out,
                           struct reason *why)
{
    assert(file && out);

    struct matrix matrix;
    struct element number;
    size_t count = 0;
    if (find_cell(file, column, row, &matrix) && find_numbers(&matrix, &count, &number) &&
        count == 1 && to_whole(number_at(&number, 0), out))
        return STATUS_OK;
    return refuse_cell(file, column, row, "a whole number from 0", why);
}
