// SPDX-License-Identifier: Apache-2.0

#include "tools/unit_rows.h"

#include <math.h>

#include "proto/base/half.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"

#define UNIT_TOLERANCE 2e-3 // rows of halves are that far off

static double length_of(const float *row, size_t dimension)
{
    double sum = 0;
    for (size_t i = 0; i < dimension; i++)
        sum += (double)row[i] * (double)row[i];
    return sqrt(sum);
}

static enum status check_unit(const char *path, uint64_t number, const float *row, size_t dimension,
                              struct reason *why)
{
    double length = length_of(row, dimension);
    if (fabs(length - 1) <= UNIT_TOLERANCE) // false for NaN
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, path, "row %llu has length %.4g: 1 is allowed",
                      (unsigned long long)number, length);
}

enum status unit_rows_open(const char *path, struct npyfile **out, struct reason *why)
{
    struct npyfile *file = NULL;
    struct reason inner = {.text = ""};
    enum status status = npyfile_open(path, &file, &inner);
    if (status)
        return reason_set(why, status, path, "%s", inner.text);
    const struct npyfile_info *info = npyfile_info(file);
    if (info->rows < 1 || info->rows >= UINT32_MAX || info->columns > DIMENSION_MAX) {
        status = reason_set(why, STATUS_INVALID, path,
                            "%llu rows of %llu numbers: fewer than 2^32 of at most %d are allowed",
                            (unsigned long long)info->rows, (unsigned long long)info->columns,
                            DIMENSION_MAX);
        npyfile_close(&file);
        return status;
    }
    *out = file;
    return STATUS_OK;
}

enum status unit_rows_read(const char *path, const struct npyfile *file, const uint32_t *order,
                           struct unit_rows *out, struct reason *why)
{
    const struct npyfile_info *info = npyfile_info(file);
    const uint32_t dimension = (uint32_t)info->columns;
    *out = (struct unit_rows){.count = (uint32_t)info->rows, .dimension = dimension};
    out->halves = mem_try_alloc_array((size_t)out->count * dimension, sizeof(uint16_t));
    out->slots = mem_try_alloc_array(out->count, sizeof(struct rows_slot));
    if (!out->halves || !out->slots)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for the rows");

    float *row = mem_alloc_array(dimension, sizeof(*row));
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < out->count && !status; i++) {
        const uint32_t number = order ? order[i] : i;
        npyfile_read_row(file, number, row);
        status = check_unit(path, number, row, dimension, why);
        half_from_floats(row, out->halves + (size_t)i * dimension, dimension);
        out->slots[i] = (struct rows_slot){.id = i};
    }
    mem_free(row);
    return status;
}

void unit_rows_deinit(struct unit_rows *rows)
{
    mem_free(rows->halves);
    mem_free(rows->slots);
    *rows = (struct unit_rows){.count = 0};
}

static enum status read_floats(const char *path, const struct npyfile *file, float *rows,
                               struct reason *why)
{
    const struct npyfile_info *info = npyfile_info(file);
    enum status status = STATUS_OK;
    for (uint64_t i = 0; i < info->rows && !status; i++) {
        float *row = rows + i * info->columns;
        npyfile_read_row(file, i, row);
        status = check_unit(path, i, row, (size_t)info->columns, why);
    }
    return status;
}

enum status unit_rows_read_floats(const char *path, uint32_t dimension, float **out, size_t *count,
                                  struct reason *why)
{
    struct npyfile *file = NULL;
    enum status status = unit_rows_open(path, &file, why);
    if (status)
        return status;
    const struct npyfile_info *info = npyfile_info(file);
    float *rows = mem_try_alloc_array((size_t)info->rows * info->columns, sizeof(*rows));
    if (info->columns != dimension)
        status = reason_set(why, STATUS_INVALID, path, "rows of %llu numbers; the base has %u",
                            (unsigned long long)info->columns, dimension);
    else if (!rows)
        status = reason_set(why, STATUS_NO_MEMORY, path, "no memory for the queries");
    else
        status = read_floats(path, file, rows, why);
    if (!status) {
        *out = rows;
        *count = (size_t)info->rows;
    } else {
        mem_free(rows);
    }
    npyfile_close(&file);
    return status;
}
