// SPDX-License-Identifier: Apache-2.0
// gpu.h - a compute device behind Vulkan: its memory, its kernels, its queue.
//
// libvulkan is looked for when it is first needed; a machine without it has no device.
// Work is recorded by gpu_upload(), gpu_fill() and gpu_dispatch() and runs in the order of
// the calls, each seeing all that the earlier ones wrote. It is submitted when enough has
// come together, and at the latest by gpu_download() and gpu_finish(), which wait. A few
// submissions are in flight at a time; whoever records further ones waits for the first of them.
//
// A failure of recording, submitting or waiting loses work that was promised, so the device
// then refuses everything but gpu_free(), gpu_kernel_destroy() and gpu_close().
//
// Thread-safety: none. One thread at a time uses a gpu and what it made.

#ifndef RECO_SHADERS_GPU_GPU_H
#define RECO_SHADERS_GPU_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

#define GPU_DEVICES_MAX 16
#define GPU_UUID_BYTES 37 // "6d657361-3232-2e33-2e36-000000000000" and a NUL
#define GPU_NAME_BYTES 256
#define GPU_REASON_BYTES 160
#define GPU_BINDINGS_MAX 8
#define GPU_PUSH_BYTES_MAX 128 // what every device has
#define GPU_CONSTANTS_MAX 16
#define GPU_ALIGNMENT 256 // bytes; every offset of a view is a multiple

struct gpu;
struct gpu_buffer;
struct gpu_kernel;

enum gpu_kind { GPU_OTHER, GPU_INTEGRATED, GPU_DISCRETE, GPU_VIRTUAL, GPU_SOFTWARE };

struct gpu_device {
    char uuid[GPU_UUID_BYTES];
    char name[GPU_NAME_BYTES];
    char driver[2 * GPU_NAME_BYTES];
    enum gpu_kind kind;
    uint32_t api_major;
    uint32_t api_minor;
    uint32_t subgroup;             // invocations
    uint64_t memory_bytes;         // its largest heap of its own
    uint64_t binding_bytes_max;    // what one kernel sees as one array
    uint64_t allocation_bytes_max; // taken from the driver at once
    uint32_t shared_bytes_max;     // of a workgroup
    uint32_t invocations_max;      // of a workgroup
    uint32_t matrix_m; // size of the matrices of halves that a subgroup multiplies, with sums in
    uint32_t matrix_n; // floats (VK_KHR_cooperative_matrix); 0 where there are none
    uint32_t matrix_k;
    bool half_storage; // 16-bit floats in buffers; every usable device has them
    bool half_arithmetic;
    bool usable;                    // gpu_open() takes it
    char why_not[GPU_REASON_BYTES]; // "" when it is usable
};

// "discrete"
const char *gpu_kind_name(enum gpu_kind kind);

// Lists the machine's devices, at most `max`, in the driver's order. *count is 0, with the
// reason in *why, where there is no libvulkan or no driver; that is no failure.
enum status gpu_list(struct gpu_device *out, size_t max, size_t *count,
                     struct reason *why) MUST_CHECK;

// Opens the device with this UUID, in either case. STATUS_NOT_FOUND naming those that are
// there, STATUS_UNSUPPORTED for one that is not usable, STATUS_NO_MEMORY.
enum status gpu_open(const char *uuid, struct gpu **out, struct reason *why) MUST_CHECK;

// Waits for the device, unless it did not answer before, frees it and sets *gpu to NULL. What it
// made must be gone. NULL is allowed.
void gpu_close(struct gpu **gpu);

// Valid until gpu_close().
const struct gpu_device *gpu_device(const struct gpu *gpu);

// --- what is kept between runs

#define GPU_NOTE_BYTES 32

// From now on what the driver compiles can be kept in a file of `folder`, and *note beside it. What
// an earlier run left there is taken, unless it is torn, not this user's, or of another device,
// driver or `key`; then, and where the file cannot be read, all is as if there were none, and the
// note is zeros. At most once, best before the first kernel.
void gpu_cache_open(struct gpu *gpu, const char *folder, uint64_t key,
                    uint8_t note[GPU_NOTE_BYTES]);

// Writes the file, if it would change: after a crash the old or the new one is there. STATUS_IO,
// STATUS_NO_MEMORY: nothing is lost but time at the next start.
enum status gpu_cache_save(struct gpu *gpu, const uint8_t note[GPU_NOTE_BYTES],
                           struct reason *why) MUST_CHECK;

// --- memory

// `bytes` of the device's memory, all zero, beginning at a multiple of GPU_ALIGNMENT.
// STATUS_UNSUPPORTED above allocation_bytes_max, STATUS_NO_MEMORY.
enum status gpu_alloc(struct gpu *gpu, uint64_t bytes, struct gpu_buffer **out,
                      struct reason *why) MUST_CHECK;
void gpu_free(struct gpu *gpu, struct gpu_buffer **buffer); // NULL is allowed

// Offset and bytes are multiples of 4. `data` is only read, and only during the call.
enum status gpu_upload(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset,
                       const void *data, uint64_t bytes, struct reason *why) MUST_CHECK;
enum status gpu_download(struct gpu *gpu, const struct gpu_buffer *buffer, uint64_t offset,
                         void *data, uint64_t bytes, struct reason *why) MUST_CHECK;
enum status gpu_fill(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset, uint64_t bytes,
                     uint32_t value, struct reason *why) MUST_CHECK;

// Downloads later: *data is written at some time until the end of the next gpu_finish() or
// gpu_download(), or, when anything fails before, perhaps never. It must stay until then.
enum status gpu_fetch(struct gpu *gpu, const struct gpu_buffer *buffer, uint64_t offset, void *data,
                      uint64_t bytes, struct reason *why) MUST_CHECK;

// --- kernels

struct gpu_kernel_params {
    const char *name;      // for reasons and timings; must outlive the kernel
    const uint32_t *words; // SPIR-V with the entry point "main"
    size_t word_count;
    uint32_t bindings;                     // storage buffers 0 .. bindings - 1 of set 0
    uint32_t push_bytes;                   // 0..GPU_PUSH_BYTES_MAX, a multiple of 4
    uint32_t constants[GPU_CONSTANTS_MAX]; // specialisation constants with the ids 0 .. - 1
    uint32_t constant_count;
};

// STATUS_NO_MEMORY; STATUS_INTERNAL when the driver refuses it.
enum status gpu_kernel_create(struct gpu *gpu, const struct gpu_kernel_params *params,
                              struct gpu_kernel **out, struct reason *why) MUST_CHECK;
void gpu_kernel_destroy(struct gpu *gpu, struct gpu_kernel **kernel); // waits; NULL is allowed

// --- work

// A part of a buffer as a kernel sees it.
struct gpu_view {
    const struct gpu_buffer *buffer;
    uint64_t offset; // bytes, a multiple of GPU_ALIGNMENT
    uint64_t bytes;  // more than 0
};

struct gpu_dispatch {
    const struct gpu_kernel *kernel;
    struct gpu_view views[GPU_BINDINGS_MAX]; // as many as the kernel has bindings
    const void *push;                        // push_bytes of the kernel
    uint32_t groups[3];                      // 1..65535 each
    double work; // operations on floats, about: decides how much is submitted at a time
};

// STATUS_UNSUPPORTED, and nothing is recorded, for a view above binding_bytes_max.
enum status gpu_dispatch(struct gpu *gpu, const struct gpu_dispatch *dispatch,
                         struct reason *why) MUST_CHECK;

// Submits what is recorded and waits until all is done. STATUS_UNAVAILABLE when the device is
// lost or does not answer.
enum status gpu_finish(struct gpu *gpu, struct reason *why) MUST_CHECK;

// Measures, from the next submission on, or no more, how long the device works, on its own clock.
// False, and nothing is measured, when its queue has none.
bool gpu_clock(struct gpu *gpu, bool on);

// Seconds of what gpu_finish() waited for since the last call.
double gpu_clock_take(struct gpu *gpu);

#endif
