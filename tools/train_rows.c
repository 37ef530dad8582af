// SPDX-License-Identifier: Apache-2.0
// The file is unlinked as soon as it is open: nothing is left of it, whatever ends the program.

#include "tools/train_rows.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/half.h"
#include "proto/base/limits.h"
#include "proto/base/system_error.h"
#include "tools/dataset.h"

static enum status failed(const char *what, struct reason *why)
{
    const int error = errno;
    return reason_set(why, STATUS_IO, "--out", "the file of embeddings beside it %s: %s", what,
                      SYSTEM_ERROR(error));
}

static size_t row_bytes(const struct train_rows *rows)
{
    return (size_t)2 * rows->dimension * sizeof(uint16_t);
}

enum status train_rows_begin(struct train_rows *rows, const char *beside, uint32_t dimension,
                             struct reason *why)
{
    assert(dimension >= 1 && dimension <= DIMENSION_MAX);

    char path[DATASET_PATH_BYTES];
    const int used = snprintf(path, sizeof(path), "%s.XXXXXX", beside);
    if (used < 0 || (size_t)used >= sizeof(path))
        return reason_set(why, STATUS_INVALID, "--out", "its path is too long");
    *rows = (struct train_rows){.dimension = dimension};
    hash_sha256_init(&rows->digest);
    const int fd = mkstemp(path);
    if (fd < 0)
        return failed("cannot be made", why);
    (void)unlink(path);
    rows->file = fdopen(fd, "w+b");
    if (!rows->file) {
        (void)close(fd);
        return failed("cannot be opened", why);
    }
    return STATUS_OK;
}

static enum status take_half(const float *values, uint32_t dimension, uint16_t *out)
{
    float unit[DIMENSION_MAX];
    memcpy(unit, values, dimension * sizeof(unit[0]));
    if (!embedding_is_row(unit, dimension) && embedding_normalise(unit, dimension))
        return STATUS_INVALID;
    half_from_floats(unit, out, dimension);
    return STATUS_OK;
}

enum status train_rows_add(struct train_rows *rows, const float *image, const float *text,
                           struct reason *why)
{
    uint16_t halves[2 * DIMENSION_MAX];
    if (take_half(image, rows->dimension, halves))
        return reason_set(why, STATUS_INVALID, "image embedding",
                          "has an element that is not finite, or is all zeros");
    if (take_half(text, rows->dimension, halves + rows->dimension))
        return reason_set(why, STATUS_INVALID, "text embedding",
                          "has an element that is not finite, or is all zeros");
    if (rows->count == UINT32_MAX)
        return reason_set(why, STATUS_EXHAUSTED, NULL, "more than %u pairs", UINT32_MAX);
    if (fwrite(halves, row_bytes(rows), 1, rows->file) != 1)
        return failed("cannot be written", why);
    hash_sha256_update(&rows->digest, halves, row_bytes(rows));
    rows->count++;
    return STATUS_OK;
}

enum status train_rows_seal(struct train_rows *rows, struct reason *why)
{
    if (fflush(rows->file))
        return failed("cannot be written", why);
    if (rows->count == 0)
        return STATUS_OK;
    void *mapped =
        mmap(NULL, row_bytes(rows) * rows->count, PROT_READ, MAP_SHARED, fileno(rows->file), 0);
    if (mapped == MAP_FAILED)
        return failed("cannot be mapped", why);
    rows->mapped = mapped;
    rows->halves = mapped;
    return STATUS_OK;
}

void train_rows_deinit(struct train_rows *rows)
{
    if (rows->mapped)
        (void)munmap(rows->mapped, row_bytes(rows) * rows->count);
    if (rows->file)
        (void)fclose(rows->file);
    *rows = (struct train_rows){.dimension = 0};
}

void train_rows_get(const struct train_rows *rows, uint32_t row, enum modality side, float *out)
{
    assert(row < rows->count);

    const size_t at = (size_t)row * 2 + (side == MODALITY_TEXT ? 1 : 0);
    half_to_floats(rows->halves + at * rows->dimension, out, rows->dimension);
}

double train_rows_dot(const float *a, const float *b, uint32_t dimension)
{
    double sum = 0;
    for (uint32_t i = 0; i < dimension; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}
