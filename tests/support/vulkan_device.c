// SPDX-License-Identifier: Apache-2.0
// The list is asked for once in a process: loading drivers takes a while.

#include "tests/support/vulkan_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

bool vulkan_device_find(struct gpu_device *out)
{
    struct gpu_device devices[GPU_DEVICES_MAX];
    size_t count = 0;
    if (gpu_list(devices, GPU_DEVICES_MAX, &count, NULL) != STATUS_OK)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (devices[i].usable) {
            *out = devices[i];
            return true;
        }
    }
    return false;
}

static bool is_wanted(void)
{
    const char *wanted = getenv("RECO_TEST_DEVICE");
    return wanted && strcmp(wanted, "vulkan") == 0;
}

const char *vulkan_device_name(void)
{
    static struct gpu_device device;
    if (!is_wanted())
        return "cpu";
    if (device.uuid[0] == '\0')
        cr_assert(vulkan_device_find(&device));
    return device.uuid;
}

int vulkan_device_main(int argc, char **argv)
{
    struct gpu_device device;
    if (is_wanted() && !vulkan_device_find(&device)) {
        puts("skipped: there is no Vulkan device here");
        return 77;
    }
    struct criterion_test_set *tests = criterion_initialize();
    int result = 0;
    if (criterion_handle_args(argc, argv, true))
        result = !criterion_run_all_tests(tests);
    criterion_finalize(tests);
    return result;
}
