// SPDX-License-Identifier: Apache-2.0
// The header is a Python dictionary in a fixed form; three keys of it are read.

#include "tests/support/npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *path, const char *text)
{
    (void)fprintf(stderr, "npy: %s: %s\n", path, text);
    abort();
}

static const struct {
    const char *text;
    size_t bytes;
} types[] = {
    [NPY_F32] = {"'<f4'", 4},
    [NPY_I32] = {"'<i4'", 4},
    [NPY_U8] = {"'|u1'", 1},
};

static void read_shape(const char *path, const char *header, struct npy *out)
{
    const char *at = strstr(header, "'shape': (");
    if (!at)
        fail(path, "no shape");
    at += strlen("'shape': (");
    out->count = 1;
    while (*at != ')') {
        char *end;
        unsigned long long size = strtoull(at, &end, 10);
        if (end == at || out->rank == NPY_RANK_MAX)
            fail(path, "bad shape");
        out->shape[out->rank++] = (size_t)size;
        out->count *= (size_t)size;
        at = end + strspn(end, ", ");
    }
}

void npy_read(const char *path, enum npy_type type, struct npy *out)
{
    memset(out, 0, sizeof(*out));
    out->type = type;
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(path, "cannot be opened");
    unsigned char start[10];
    if (fread(start, 1, sizeof(start), file) != sizeof(start) ||
        memcmp(start, "\x93NUMPY\x01", 7) != 0)
        fail(path, "not a .npy file of version 1");
    size_t length = (size_t)start[8] | (size_t)start[9] << 8;
    char *header = calloc(1, length + 1);
    if (!header || fread(header, 1, length, file) != length)
        fail(path, "header cut short");
    if (!strstr(header, types[type].text) || !strstr(header, "'fortran_order': False"))
        fail(path, "another type or order than expected");
    read_shape(path, header, out);
    free(header);
    out->data = malloc(out->count * types[type].bytes + 1);
    if (!out->data || fread(out->data, types[type].bytes, out->count, file) != out->count)
        fail(path, "data cut short");
    (void)fclose(file);
}

void npy_free(struct npy *array)
{
    free(array->data);
    memset(array, 0, sizeof(*array));
}

const float *npy_floats(const struct npy *array)
{
    return array->type == NPY_F32 ? array->data : NULL;
}

const int32_t *npy_ints(const struct npy *array)
{
    return array->type == NPY_I32 ? array->data : NULL;
}
