// SPDX-License-Identifier: Apache-2.0
// Grows the buffer by doubling until the file ends.

#include "tests/support/gz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#define NPY_HEAD_BYTES 10

static void fail(const char *what, const char *path)
{
    (void)fprintf(stderr, "gz: %s: %s\n", path, what);
    abort();
}

void gz_read(const char *path, struct gz *out)
{
    gzFile file = gzopen(path, "rb");
    if (!file)
        fail("cannot be opened", path);
    size_t room = 1 << 16;
    *out = (struct gz){.data = malloc(room)};
    for (;;) {
        if (!out->data)
            fail("out of memory", path);
        int got = gzread(file, out->data + out->count, (unsigned)(room - 1 - out->count));
        if (got < 0)
            fail("broken", path);
        if (got == 0)
            break;
        out->count += (size_t)got;
        if (room - 1 - out->count == 0) {
            room *= 2;
            out->data = realloc(out->data, room);
        }
    }
    out->data[out->count] = '\0';
    if (gzclose(file) != Z_OK)
        fail("ends early", path);
}

void gz_free(struct gz *file)
{
    free(file->data);
    *file = (struct gz){0};
}

const void *gz_npy(const struct gz *file, const char *type, size_t bytes)
{
    if (file->count < NPY_HEAD_BYTES || memcmp(file->data, "\x93NUMPY\x01", 7) != 0)
        fail("not a .npy file of version 1", type);
    size_t head = NPY_HEAD_BYTES + ((size_t)file->data[8] | (size_t)file->data[9] << 8);
    if (file->count != head + bytes)
        fail("an array of another size than expected", type);
    char wanted[32];
    (void)snprintf(wanted, sizeof(wanted), "'%s'", type);
    const char *text = (const char *)file->data + NPY_HEAD_BYTES;
    const char *found = strstr(text, wanted);
    if (!found || found >= (const char *)file->data + head)
        fail("an array of another type than expected", type);
    return file->data + head;
}
