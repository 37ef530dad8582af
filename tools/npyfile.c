// SPDX-License-Identifier: Apache-2.0
// The header of a .npy file is a Python dictionary of three keys. This parser knows
// just that dictionary, not Python: quotes, True and False, and a tuple of numbers.
//
// Format: numpy/lib/format.py, "NPY format specification".

#include "tools/npyfile.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"

#define MAGIC "\x93NUMPY"
#define MAGIC_BYTES 6
#define PREFIX_BYTES 10        // magic, version, length of the header in two bytes
#define WRITE_HEADER_BYTES 128 // of files written here, a multiple of 64
#define ROWS_MAX (UINT64_C(1) << 40)
#define FVECS_PREFIX_BYTES 4
#define FVECS_COLUMNS_MAX 65536

struct npyfile {
    struct npyfile_info info;
    const uint8_t *map;
    size_t map_bytes;
    const uint8_t *numbers;
    size_t row_bytes; // from one row to the next
};

struct npyfile_writer {
    char *path;
    char *temporary;
    FILE *file;
    size_t columns;
    uint64_t rows;
    bool half;
};

// --- the header's text

struct cursor {
    const char *at;
    const char *end;
};

static void skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\n'))
        cursor->at++;
}

// Takes `word` after white space.
static bool take(struct cursor *cursor, const char *word)
{
    skip_space(cursor);
    size_t bytes = strlen(word);
    if ((size_t)(cursor->end - cursor->at) < bytes || memcmp(cursor->at, word, bytes) != 0)
        return false;
    cursor->at += bytes;
    return true;
}

// Takes 'text' or "text" without escapes.
static bool take_quoted(struct cursor *cursor, struct text *out)
{
    skip_space(cursor);
    if (cursor->at == cursor->end || (*cursor->at != '\'' && *cursor->at != '"'))
        return false;
    const char *begin = cursor->at + 1;
    const char *close = memchr(begin, *cursor->at, (size_t)(cursor->end - begin));
    if (!close)
        return false;
    *out = (struct text){begin, (size_t)(close - begin)};
    cursor->at = close + 1;
    return true;
}

static bool take_number(struct cursor *cursor, uint64_t *out)
{
    skip_space(cursor);
    uint64_t value = 0;
    const char *begin = cursor->at;
    while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9') {
        value = value * 10 + (uint64_t)(*cursor->at - '0');
        if (value > ROWS_MAX)
            return false;
        cursor->at++;
    }
    *out = value;
    return cursor->at > begin;
}

struct header {
    struct text type;
    bool fortran_order;
    uint64_t shape[2];
    size_t rank;
    unsigned seen; // bits: descr, fortran_order, shape
};

// "(3, 4)", "(3,)" or "()"; more than two dimensions leave rank at 3.
static bool take_shape(struct cursor *cursor, struct header *header)
{
    if (!take(cursor, "("))
        return false;
    header->rank = 0;
    while (!take(cursor, ")")) {
        uint64_t length = 0;
        if (!take_number(cursor, &length))
            return false;
        if (header->rank < 2)
            header->shape[header->rank] = length;
        header->rank += header->rank < 3;
        if (!take(cursor, ",")) {
            if (!take(cursor, ")"))
                return false;
            break;
        }
    }
    return true;
}

static bool take_entry(struct cursor *cursor, struct header *header)
{
    struct text key;
    if (!take_quoted(cursor, &key) || !take(cursor, ":"))
        return false;

    if (text_equal(key, text_of("descr"))) {
        header->seen |= 1;
        return take_quoted(cursor, &header->type);
    }
    if (text_equal(key, text_of("fortran_order"))) {
        header->seen |= 2;
        header->fortran_order = take(cursor, "True");
        return header->fortran_order || take(cursor, "False");
    }
    if (text_equal(key, text_of("shape"))) {
        header->seen |= 4;
        return take_shape(cursor, header);
    }
    return false;
}

static bool parse_dictionary(struct cursor *cursor, struct header *header)
{
    if (!take(cursor, "{"))
        return false;
    while (!take(cursor, "}")) {
        if (!take_entry(cursor, header))
            return false;
        if (!take(cursor, ",")) {
            if (!take(cursor, "}"))
                return false;
            break;
        }
    }
    skip_space(cursor);
    return cursor->at == cursor->end && header->seen == 7;
}

// Where the dictionary lies: after magic, version and its length.
static enum status find_header(struct bytes data, struct cursor *out, struct reason *why)
{
    if (data.count < PREFIX_BYTES || memcmp(data.data, MAGIC, MAGIC_BYTES) != 0)
        return reason_set(why, STATUS_INVALID, NULL, "not a .npy file");
    uint8_t major = data.data[MAGIC_BYTES];
    if (major < 1 || major > 3)
        return reason_set(why, STATUS_INVALID, NULL, ".npy version %u is not known: 1, 2 and 3 are",
                          major);

    size_t begin = major == 1 ? PREFIX_BYTES : PREFIX_BYTES + 2;
    if (data.count < begin)
        return reason_set(why, STATUS_INVALID, NULL, "ends inside its header");
    size_t bytes = major == 1 ? (size_t)data.data[8] | (size_t)data.data[9] << 8
                              : bytes_get_u32_le(data.data + 8);
    if (bytes > NPYFILE_HEADER_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, NULL,
                          "a header of %zu bytes: at most %u are allowed", bytes,
                          NPYFILE_HEADER_BYTES_MAX);
    if (data.count - begin < bytes)
        return reason_set(why, STATUS_INVALID, NULL, "ends inside its header");
    out->at = (const char *)data.data + begin;
    out->end = out->at + bytes;
    return STATUS_OK;
}

size_t npyfile_type_bytes(enum npyfile_type type)
{
    static const size_t bytes[] = {
        [NPYFILE_F32] = 4, [NPYFILE_F16] = 2, [NPYFILE_I32] = 4, [NPYFILE_I64] = 8};
    return bytes[type];
}

static bool find_type(struct text name, enum npyfile_type *out)
{
    static const char *const names[] = {
        [NPYFILE_F32] = "<f4", [NPYFILE_F16] = "<f2", [NPYFILE_I32] = "<i4", [NPYFILE_I64] = "<i8"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (text_equal(name, text_of(names[i]))) {
            *out = (enum npyfile_type)i;
            return true;
        }
    return false;
}

enum status npyfile_parse(struct bytes data, uint64_t file_bytes, struct npyfile_info *out,
                          size_t *offset, struct reason *why)
{
    struct cursor cursor = {NULL, NULL};
    enum status status = find_header(data, &cursor, why);
    if (status)
        return status;

    struct header header = {.rank = 0};
    const char *end = cursor.end;
    if (!parse_dictionary(&cursor, &header))
        return reason_set(why, STATUS_INVALID, NULL,
                          "its header is not a dictionary of descr, fortran_order and shape");

    enum npyfile_type type = NPYFILE_F32;
    if (!find_type(header.type, &type))
        return reason_set(
            why, STATUS_INVALID, NULL,
            "numbers of type '%.*s': '<f4' and '<f2' are allowed, for ids '<i4' and '<i8'",
            (int)(header.type.bytes < 32 ? header.type.bytes : 32), header.type.data);
    if (header.rank != 1 && header.rank != 2)
        return reason_set(why, STATUS_INVALID, NULL,
                          "an array of one or two dimensions is allowed");
    if (header.fortran_order && header.rank == 2)
        return reason_set(why, STATUS_INVALID, NULL, "in Fortran's order: C's is allowed");

    uint64_t rows = header.rank == 2 ? header.shape[0] : 1;
    uint64_t columns = header.shape[header.rank - 1];
    if (columns == 0 || columns > UINT32_MAX)
        return reason_set(why, STATUS_INVALID, NULL, "rows of %llu numbers",
                          (unsigned long long)columns);
    size_t begin = (size_t)(end - (const char *)data.data);
    uint64_t row_bytes = columns * npyfile_type_bytes(type);
    // Exact, so that neither a cut file nor a second array behind the first passes.
    if (rows > (UINT64_MAX >> 1) / row_bytes || file_bytes - begin != rows * row_bytes)
        return reason_set(why, STATUS_INVALID, NULL,
                          "%llu rows of %llu bytes do not fill the %llu bytes behind the header",
                          (unsigned long long)rows, (unsigned long long)row_bytes,
                          (unsigned long long)(file_bytes - begin));

    *out = (struct npyfile_info){.rows = rows, .columns = columns, .type = type};
    *offset = begin;
    return STATUS_OK;
}

enum status npyfile_parse_fvecs(struct bytes data, struct npyfile_info *out, struct reason *why)
{
    uint32_t columns = data.count >= FVECS_PREFIX_BYTES ? bytes_get_u32_le(data.data) : 0;
    if (columns == 0 || columns > FVECS_COLUMNS_MAX)
        return reason_set(why, STATUS_INVALID, NULL, "rows of %u numbers: 1 to %d are allowed",
                          columns, FVECS_COLUMNS_MAX);
    size_t row_bytes = FVECS_PREFIX_BYTES + (size_t)columns * sizeof(float);
    if (data.count % row_bytes != 0)
        return reason_set(why, STATUS_INVALID, NULL,
                          "%zu bytes are no whole number of rows of %zu bytes", data.count,
                          row_bytes);
    for (size_t at = 0; at < data.count; at += row_bytes)
        if (bytes_get_u32_le(data.data + at) != columns)
            return reason_set(why, STATUS_INVALID, NULL, "row %zu has %u numbers, the first has %u",
                              at / row_bytes, bytes_get_u32_le(data.data + at), columns);
    *out = (struct npyfile_info){
        .rows = data.count / row_bytes, .columns = columns, .type = NPYFILE_F32};
    return STATUS_OK;
}

// --- reading

static enum status map_file(int file, struct npyfile *npy, struct reason *why)
{
    struct stat about;
    if (fstat(file, &about) != 0)
        return reason_set(why, STATUS_IO, NULL, "cannot be read: %s", SYSTEM_ERROR(errno));
    if (!S_ISREG(about.st_mode))
        return reason_set(why, STATUS_INVALID, NULL, "not a regular file");
    if (about.st_size < PREFIX_BYTES)
        return reason_set(why, STATUS_INVALID, NULL, "not a .npy file");

    void *map = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (map == MAP_FAILED)
        return reason_set(why, STATUS_IO, NULL, "cannot be mapped: %s", SYSTEM_ERROR(errno));
    npy->map = map;
    npy->map_bytes = (size_t)about.st_size;
    return STATUS_OK;
}

static enum status read_npy(struct npyfile *npy, bool ids, struct reason *why)
{
    size_t offset = 0;
    struct bytes whole = {npy->map, npy->map_bytes};
    enum status status = npyfile_parse(whole, npy->map_bytes, &npy->info, &offset, why);
    if (status)
        return status;
    bool whole_numbers = npy->info.type == NPYFILE_I32 || npy->info.type == NPYFILE_I64;
    if (whole_numbers != ids)
        return reason_set(why, STATUS_INVALID, NULL,
                          ids ? "numbers with fractions: '<i4' and '<i8' are allowed"
                              : "whole numbers: '<f4' and '<f2' are allowed");
    npy->numbers = npy->map + offset;
    npy->row_bytes = (size_t)npy->info.columns * npyfile_type_bytes(npy->info.type);
    return STATUS_OK;
}

static enum status read_fvecs(struct npyfile *npy, struct reason *why)
{
    enum status status =
        npyfile_parse_fvecs((struct bytes){npy->map, npy->map_bytes}, &npy->info, why);
    npy->numbers = npy->map + FVECS_PREFIX_BYTES;
    npy->row_bytes = FVECS_PREFIX_BYTES + (size_t)npy->info.columns * sizeof(float);
    return status;
}

static bool has_ending(const char *path, const char *ending)
{
    size_t bytes = strlen(path);
    size_t wanted = strlen(ending);
    return bytes >= wanted && strcmp(path + bytes - wanted, ending) == 0;
}

static enum status open_file(const char *path, bool ids, struct npyfile **out, struct reason *why)
{
    assert(path && out);

    // Without O_NONBLOCK a pipe of that name would wait for its writer.
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return reason_set(why, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, NULL,
                          "cannot be opened: %s", SYSTEM_ERROR(errno));

    struct npyfile *npy = mem_alloc(sizeof(*npy));
    enum status status = map_file(file, npy, why);
    (void)close(file);
    if (!status)
        status =
            has_ending(path, ".fvecs") && !ids ? read_fvecs(npy, why) : read_npy(npy, ids, why);
    if (status) {
        npyfile_close(&npy);
        return status;
    }
    *out = npy;
    return STATUS_OK;
}

enum status npyfile_open(const char *path, struct npyfile **out, struct reason *why)
{
    return open_file(path, false, out, why);
}

enum status npyfile_open_ids(const char *path, struct npyfile **out, struct reason *why)
{
    return open_file(path, true, out, why);
}

void npyfile_close(struct npyfile **file)
{
    struct npyfile *npy = *file;
    if (npy && npy->map) {
        union {
            const uint8_t *mapped;
            void *whole;
        } both = {.mapped = npy->map}; // munmap() lacks the const
        (void)munmap(both.whole, npy->map_bytes);
    }
    mem_free(npy);
    *file = NULL;
}

const struct npyfile_info *npyfile_info(const struct npyfile *file)
{
    return &file->info;
}

void npyfile_read_row(const struct npyfile *file, uint64_t row, float *out)
{
    assert(row < file->info.rows);

    size_t columns = (size_t)file->info.columns;
    const uint8_t *at = file->numbers + row * file->row_bytes;
    if (file->info.type == NPYFILE_F32) {
        memcpy(out, at, columns * sizeof(float));
        return;
    }
    assert(file->info.type == NPYFILE_F16);
    // The numbers may begin at an odd address.
    for (size_t done = 0; done < columns;) {
        uint16_t part[512];
        size_t count = columns - done < 512 ? columns - done : 512;
        memcpy(part, at + done * sizeof(uint16_t), count * sizeof(uint16_t));
        half_to_floats(part, out + done, count);
        done += count;
    }
}

int64_t npyfile_read_id(const struct npyfile *file, uint64_t row, uint64_t column)
{
    assert(row < file->info.rows && column < file->info.columns);

    const uint8_t *at = file->numbers + row * file->row_bytes;
    int32_t narrow;
    int64_t wide;
    if (file->info.type == NPYFILE_I32) {
        memcpy(&narrow, at + column * sizeof(narrow), sizeof(narrow));
        return narrow;
    }
    assert(file->info.type == NPYFILE_I64);
    memcpy(&wide, at + column * sizeof(wide), sizeof(wide));
    return wide;
}

// --- writing

// Writes the first WRITE_HEADER_BYTES of a file.
static bool write_header(FILE *file, bool half, const size_t *shape, size_t rank)
{
    char header[WRITE_HEADER_BYTES + 1];
    size_t used = (size_t)snprintf(header, sizeof(header), MAGIC "%c%c%c%c", 1, '?',
                                   WRITE_HEADER_BYTES - PREFIX_BYTES, '?');
    header[7] = 0; // minor version and upper byte of the length: no character of a format
    header[9] = 0;
    used += (size_t)snprintf(header + used, sizeof(header) - used,
                             "{'descr': '<f%d', 'fortran_order': False, 'shape': (", half ? 2 : 4);
    for (size_t i = 0; i < rank; i++)
        used += (size_t)snprintf(header + used, sizeof(header) - used,
                                 rank > 1 && i ? ", %zu" : "%zu", shape[i]);
    used += (size_t)snprintf(header + used, sizeof(header) - used, rank == 1 ? ",), }" : "), }");
    assert(used < WRITE_HEADER_BYTES);

    memset(header + used, ' ', WRITE_HEADER_BYTES - used);
    header[WRITE_HEADER_BYTES - 1] = '\n';
    return fwrite(header, 1, WRITE_HEADER_BYTES, file) == WRITE_HEADER_BYTES;
}

static enum status write_failed(struct reason *why)
{
    return reason_set(why, STATUS_IO, NULL, "cannot be written: %s", SYSTEM_ERROR(errno));
}

static enum status create(const char *path, size_t columns, bool half, struct npyfile_writer **out,
                          struct reason *why)
{
    assert(path && columns > 0 && out);

    // Renaming over a folder would fail only when all the work is done, over a device it would not.
    struct stat there;
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode))
        return reason_set(why, STATUS_INVALID, NULL, "is a %s; the name of a file is allowed",
                          S_ISDIR(there.st_mode) ? "folder" : "pipe or device");

    struct npyfile_writer *writer = mem_alloc(sizeof(*writer));
    size_t room = strlen(path) + 32;
    writer->path = mem_copy_text(path);
    writer->temporary = mem_alloc(room);
    writer->columns = columns;
    writer->half = half;
    (void)snprintf(writer->temporary, room, "%s.tmp-%ld", path, (long)getpid());

    const size_t shape[2] = {0, columns};
    writer->file = fopen(writer->temporary, "wbe");
    if (!writer->file || !write_header(writer->file, half, shape, 2)) {
        enum status status = write_failed(why);
        npyfile_abandon(&writer);
        return status;
    }
    *out = writer;
    return STATUS_OK;
}

enum status npyfile_create(const char *path, size_t columns, struct npyfile_writer **out,
                           struct reason *why)
{
    return create(path, columns, false, out, why);
}

enum status npyfile_create_half(const char *path, size_t columns, struct npyfile_writer **out,
                                struct reason *why)
{
    return create(path, columns, true, out, why);
}

static bool write_halves(struct npyfile_writer *writer, const float *row)
{
    uint16_t part[512];
    for (size_t done = 0; done < writer->columns;) {
        const size_t left = writer->columns - done;
        const size_t count = left < 512 ? left : 512;
        half_from_floats(row + done, part, count);
        if (fwrite(part, sizeof(part[0]), count, writer->file) != count)
            return false;
        done += count;
    }
    return true;
}

enum status npyfile_write_row(struct npyfile_writer *writer, const float *row, struct reason *why)
{
    if (writer->half ? !write_halves(writer, row)
                     : fwrite(row, sizeof(*row), writer->columns, writer->file) != writer->columns)
        return write_failed(why);
    writer->rows++;
    return STATUS_OK;
}

uint64_t npyfile_rows_written(const struct npyfile_writer *writer)
{
    return writer->rows;
}

enum status npyfile_finish(struct npyfile_writer **writer, struct reason *why)
{
    struct npyfile_writer *ending = *writer;
    const size_t shape[2] = {(size_t)ending->rows, ending->columns};

    bool written =
        fseek(ending->file, 0, SEEK_SET) == 0 && write_header(ending->file, ending->half, shape, 2);
    bool closed = fclose(ending->file) == 0;
    ending->file = NULL;
    enum status status = STATUS_OK;
    if (!written || !closed || rename(ending->temporary, ending->path) != 0)
        status = write_failed(why);
    else
        ending->temporary[0] = 0;
    npyfile_abandon(writer);
    return status;
}

void npyfile_abandon(struct npyfile_writer **writer)
{
    struct npyfile_writer *ending = *writer;
    if (!ending)
        return;
    if (ending->file)
        (void)fclose(ending->file);
    if (ending->temporary[0])
        (void)unlink(ending->temporary);
    mem_free(ending->temporary);
    mem_free(ending->path);
    mem_free(ending);
    *writer = NULL;
}

enum status npyfile_save(const char *path, const float *values, const size_t *shape, size_t rank,
                         struct reason *why)
{
    assert(rank > 0 && rank <= NPYFILE_RANK_MAX);

    size_t count = 1;
    for (size_t i = 0; i < rank; i++)
        if (!mem_multiply(count, shape[i], &count))
            return reason_set(why, STATUS_NO_MEMORY, NULL, "an array this large");

    FILE *file = fopen(path, "wbe");
    if (!file)
        return write_failed(why);
    bool written = write_header(file, false, shape, rank) &&
                   fwrite(values, sizeof(*values), count, file) == count;
    bool closed = fclose(file) == 0;
    return written && closed ? STATUS_OK : write_failed(why);
}
