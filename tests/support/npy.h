// SPDX-License-Identifier: Apache-2.0
// npy.h - reads arrays of NumPy's .npy format, version 1.0, little-endian, C order.
//
// For tests: every problem ends the program with a message.
//
// Thread-safety: pure.

#ifndef RECO_TESTS_SUPPORT_NPY_H
#define RECO_TESTS_SUPPORT_NPY_H

#include <stddef.h>
#include <stdint.h>

#define NPY_RANK_MAX 8

enum npy_type {
    NPY_F32,
    NPY_I32,
    NPY_U8,
};

struct npy {
    enum npy_type type;
    uint32_t rank;
    size_t shape[NPY_RANK_MAX];
    size_t count;
    void *data; // freed by npy_free()
};

void npy_read(const char *path, enum npy_type type, struct npy *out);
void npy_free(struct npy *array);

const float *npy_floats(const struct npy *array);
const int32_t *npy_ints(const struct npy *array);

#endif
