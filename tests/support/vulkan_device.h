// SPDX-License-Identifier: Apache-2.0
// vulkan_device.h - the Vulkan device that tests run on: the first that can be used, which on most
// machines is the software one.
//
// A test of operations or models that calls vulkan_device_main() runs on the CPU, and once more
// with RECO_TEST_DEVICE=vulkan on that device.
//
// Thread-safety: none.

#ifndef RECO_TESTS_SUPPORT_VULKAN_DEVICE_H
#define RECO_TESTS_SUPPORT_VULKAN_DEVICE_H

#include <stdbool.h>

#include "shaders/gpu/gpu.h"

// Finds it; false where there is none.
bool vulkan_device_find(struct gpu_device *out);

// The device's name for ops_open() and clip_open(): "cpu", or its UUID.
const char *vulkan_device_name(void);

// Whether that device multiplies halves: by cooperative matrices, or because RECO_GPU says so.
bool vulkan_device_is_half(void);

// From now on this process keeps what it knows of devices in a folder of its own, and compiled
// kernels of Mesa where they were. Returns where the file of this device will be; ended by
// vulkan_device_own_cache_end().
const char *vulkan_device_own_cache(const char *uuid);
void vulkan_device_own_cache_end(void);

// Runs the program's Criterion tests; 77, which is "skipped", when the device is wanted and not
// there.
int vulkan_device_main(int argc, char **argv);

#endif
