// SPDX-License-Identifier: Apache-2.0
// gpu_fixture.h - runs one kernel of the GPU at a time on arrays between guards.
//
// The device is the one that RECO_TEST_GPU names by its UUID, else the first usable one.
// Each array lies between guards full of a NaN, and what a kernel writes is full of it
// before, so that reading or writing a place too many, or leaving one out, shows.
//
// Thread-safety: none.

#ifndef RECO_TESTS_GPU_GPU_FIXTURE_H
#define RECO_TESTS_GPU_GPU_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shaders/gpu/gpu.h"
#include "shaders/kernels/kernel_table.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// The main() of these tests: 77, which is "skipped", where there is no device or no kernel.
int gpu_fixture_main(int argc, char **argv);

void gpu_fixture_open(void);
void gpu_fixture_close(void);
// What kernels by cooperative matrices are made for; 0 x 0 where the device has none.
struct kernel_matrix gpu_fixture_matrix(void);

// `count` elements of 4 bytes on the device.
struct guarded {
    struct gpu_buffer *buffer;
    size_t count;
};

struct guarded guarded_with(const void *data, size_t count);
struct guarded guarded_poisoned(size_t count);
// Ends *array; its elements go to `target` unless that is NULL. Fails when a guard was hurt.
void guarded_end(struct guarded *array, void *target);
// The bits of what was never written.
bool is_poison(float value);

struct kernel_run {
    enum kernel_id id;
    const uint32_t *constants; // as many as the kernel has
    const void *args;
    struct guarded arrays[GPU_BINDINGS_MAX];
    uint32_t groups[3];
};
// Makes the kernel, unless an earlier run had the same, and runs it; guarded_end() waits.
void gpu_fixture_run(const struct kernel_run *run);

// --- numbers

void *copy_of(const void *data, size_t bytes);
// |got - expected|^2 / |expected|^2 stays below `bound`, and no element is not finite.
void expect_close(const char *what, const float *got, const double *expected, size_t count,
                  double bound);
void expect_bits(const char *what, const float *got, const float *expected, size_t count);

#endif
