// SPDX-License-Identifier: Apache-2.0
// Goal: the Vulkan runtime finds devices and says why one is not used, moves bytes unchanged,
// keeps the order of the calls, and refuses what a device cannot do in words.
//
// Method: on the machine's first usable device, which for most is the software one; skipped
// (exit 77) where there is none.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "shaders/gpu/gpu_internal.h"
#include "tests/support/vulkan_device.h"

static struct gpu_device device;

static struct gpu *open_gpu(void)
{
    struct gpu *gpu = NULL;
    struct reason why = {0};
    cr_assert(vulkan_device_find(&device));
    cr_assert(eq(int, gpu_open(device.uuid, &gpu, &why), STATUS_OK), "%s", why.text);
    return gpu;
}

static struct gpu_buffer *alloc(struct gpu *gpu, uint64_t bytes)
{
    struct gpu_buffer *buffer = NULL;
    struct reason why = {0};
    cr_assert(eq(int, gpu_alloc(gpu, bytes, &buffer, &why), STATUS_OK), "%s", why.text);
    return buffer;
}

Test(gpu, a_device_says_what_it_is)
{
    cr_assert(vulkan_device_find(&device));
    cr_expect(eq(sz, strlen(device.uuid), GPU_UUID_BYTES - 1));
    cr_expect(device.name[0] != '\0' && device.driver[0] != '\0');
    cr_expect(device.api_major > 1 || device.api_minor >= 2);
    cr_expect(device.half_storage);
    cr_expect(ge(u64, device.binding_bytes_max, UINT64_C(1) << 27));
    cr_expect(device.memory_bytes > 0 && device.allocation_bytes_max > 0);
    cr_expect(device.shared_bytes_max >= 16384 && device.invocations_max >= 128);
}

Test(gpu, a_device_that_is_not_usable_says_why)
{
    struct gpu_device devices[GPU_DEVICES_MAX];
    size_t count = 0;
    cr_assert(eq(int, gpu_list(devices, GPU_DEVICES_MAX, &count, NULL), STATUS_OK));
    for (size_t i = 0; i < count; i++)
        cr_expect(devices[i].usable == (devices[i].why_not[0] == '\0'));
}

Test(gpu, an_unknown_uuid_is_refused_naming_those_that_are_there)
{
    struct gpu *gpu = NULL;
    struct reason why = {0};
    cr_assert(vulkan_device_find(&device));
    cr_expect(
        eq(int, gpu_open("12345678-0000-0000-0000-000000000000", &gpu, &why), STATUS_NOT_FOUND));
    cr_expect(eq(ptr, gpu, NULL));
    cr_expect(strstr(why.text, device.uuid) != NULL, "%s", why.text);
    cr_expect(eq(int, strcmp(why.field, "device"), 0));
}

Test(gpu, bytes_come_back_as_they_went_whatever_their_number)
{
    static const uint64_t sizes[] = {4, 252, 256, 260, 4096, (UINT64_C(20) << 20) + 12};
    struct gpu *gpu = open_gpu();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *there = malloc(sizes[i]);
        uint8_t *back = calloc(1, sizes[i]);
        for (uint64_t b = 0; b < sizes[i]; b++)
            there[b] = (uint8_t)(b * 31 + b / 256 + i);
        struct gpu_buffer *buffer = alloc(gpu, sizes[i]);
        cr_assert(eq(int, gpu_upload(gpu, buffer, 0, there, sizes[i], NULL), STATUS_OK));
        cr_assert(eq(int, gpu_download(gpu, buffer, 0, back, sizes[i], NULL), STATUS_OK));
        cr_expect(eq(int, memcmp(there, back, sizes[i]), 0), "%llu bytes",
                  (unsigned long long)sizes[i]);
        gpu_free(gpu, &buffer);
        cr_expect(eq(ptr, buffer, NULL));
        free(back);
        free(there);
    }
    gpu_close(&gpu);
    cr_expect(eq(ptr, gpu, NULL));
}

Test(gpu, new_memory_is_zero_also_where_something_lay_before)
{
    static const uint32_t full[64] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct gpu *gpu = open_gpu();
    for (int i = 0; i < 4; i++) {
        uint32_t back[64];
        struct gpu_buffer *buffer = alloc(gpu, sizeof(full));
        cr_assert(eq(int, gpu_download(gpu, buffer, 0, back, sizeof(back), NULL), STATUS_OK));
        for (size_t v = 0; v < 64; v++)
            cr_assert(eq(u32, back[v], 0));
        cr_assert(eq(int, gpu_upload(gpu, buffer, 0, full, sizeof(full), NULL), STATUS_OK));
        gpu_free(gpu, &buffer);
    }
    gpu_close(&gpu);
}

Test(gpu, calls_take_effect_in_their_order)
{
    struct gpu *gpu = open_gpu();
    struct gpu_buffer *buffer = alloc(gpu, 1024);
    uint32_t back[256];
    const uint32_t mark = 7;
    cr_assert(eq(int, gpu_fill(gpu, buffer, 0, 1024, 5, NULL), STATUS_OK));
    cr_assert(eq(int, gpu_upload(gpu, buffer, 512, &mark, 4, NULL), STATUS_OK));
    cr_assert(eq(int, gpu_fill(gpu, buffer, 516, 4, 9, NULL), STATUS_OK));
    cr_assert(eq(int, gpu_download(gpu, buffer, 0, back, 1024, NULL), STATUS_OK));
    for (size_t i = 0; i < 256; i++)
        cr_expect(eq(u32, back[i], i == 128 ? 7 : i == 129 ? 9 : 5));
    gpu_free(gpu, &buffer);
    gpu_close(&gpu);
}

Test(gpu, its_clock_measures_what_was_waited_for_and_nothing_else)
{
    enum { BYTES = 1 << 20 };
    struct gpu *gpu = open_gpu();
    struct gpu_buffer *buffer = alloc(gpu, BYTES);
    static uint32_t back[BYTES / 4];
    cr_assert(eq(int, gpu_finish(gpu, NULL), STATUS_OK));
    if (!gpu_clock(gpu, true)) {
        cr_log_info("no clock");
    } else {
        int64_t begun_us = clock_now_us();
        for (uint32_t i = 0; i < 20; i++)
            cr_assert(eq(int, gpu_fill(gpu, buffer, 0, BYTES, i, NULL), STATUS_OK));
        cr_expect(eq(dbl, gpu_clock_take(gpu), 0));
        cr_assert(eq(int, gpu_finish(gpu, NULL), STATUS_OK));
        double seconds = gpu_clock_take(gpu);
        cr_expect(seconds > 0 && seconds * 1e6 <= (double)(clock_now_us() - begun_us) + 1, "%g",
                  seconds);
        cr_expect(eq(dbl, gpu_clock_take(gpu), 0));
        cr_assert(eq(int, gpu_download(gpu, buffer, 0, back, BYTES, NULL), STATUS_OK));
        cr_expect(gt(dbl, gpu_clock_take(gpu), 0));
        cr_expect(eq(u32, back[BYTES / 4 - 1], 19));
    }
    cr_expect(not(gpu_clock(gpu, false)));
    cr_assert(eq(int, gpu_fill(gpu, buffer, 0, BYTES, 1, NULL), STATUS_OK));
    cr_assert(eq(int, gpu_finish(gpu, NULL), STATUS_OK));
    cr_expect(eq(dbl, gpu_clock_take(gpu), 0));
    gpu_free(gpu, &buffer);
    gpu_close(&gpu);
}

// --- work in flight

static PFN_vkWaitSemaphores real_wait;
static PFN_vkQueueSubmit real_submit;
static uint64_t submits;
static uint64_t waited_for; // the last ticket

static VKAPI_ATTR VkResult VKAPI_CALL counting_wait(VkDevice handle,
                                                    const VkSemaphoreWaitInfo *info,
                                                    uint64_t timeout)
{
    waited_for = info->pValues[0];
    return real_wait(handle, info, timeout);
}

static VKAPI_ATTR VkResult VKAPI_CALL counting_submit(VkQueue queue, uint32_t count,
                                                      const VkSubmitInfo *info, VkFence fence)
{
    submits++;
    return real_submit(queue, count, info, fence);
}

static void patch_counting(struct gpu_api *api)
{
    if (api->WaitSemaphores && api->WaitSemaphores != counting_wait) {
        real_wait = api->WaitSemaphores;
        real_submit = api->QueueSubmit;
        api->WaitSemaphores = counting_wait;
        api->QueueSubmit = counting_submit;
    }
}

Test(gpu, what_is_fetched_comes_later_and_only_the_last_but_two_submissions_are_waited_for)
{
    // Each round fills the staging memory of a command buffer more than once.
    enum { ROUNDS = 9, COUNT = (5 << 20) / 4 };
    gpu_api_patch = patch_counting;
    struct gpu *gpu = open_gpu();
    struct gpu_buffer *buffer = alloc(gpu, COUNT * sizeof(uint32_t));
    uint32_t *there = malloc(COUNT * sizeof(uint32_t));
    uint32_t *back = calloc((size_t)ROUNDS * COUNT, sizeof(uint32_t));
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < COUNT; i++)
            there[i] = i * 31 + round;
        cr_assert(eq(int, gpu_upload(gpu, buffer, 0, there, COUNT * 4, NULL), STATUS_OK));
        cr_assert(eq(int, gpu_fill(gpu, buffer, 8, 4, round, NULL), STATUS_OK));
        cr_assert(eq(int, gpu_fetch(gpu, buffer, 0, back + (size_t)round * COUNT, COUNT * 4, NULL),
                     STATUS_OK));
        // Two others go on while one is waited for.
        cr_expect(le(u64, waited_for + 2, submits), "round %u", round);
    }
    cr_expect(ge(u64, submits, ROUNDS));
    cr_assert(eq(int, gpu_finish(gpu, NULL), STATUS_OK));
    cr_expect(eq(u64, waited_for, submits));
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const uint32_t *got = back + (size_t)round * COUNT;
        uint32_t wrong = 0;
        for (uint32_t i = 0; i < COUNT; i++)
            wrong += got[i] != (i == 2 ? round : i * 31 + round);
        cr_expect(eq(u32, wrong, 0), "round %u", round);
    }
    gpu_free(gpu, &buffer);
    free(back);
    free(there);
    gpu_close(&gpu);
}

static PFN_vkGetPhysicalDeviceQueueFamilyProperties real_families;

static VKAPI_ATTR void VKAPI_CALL families_without_clock(VkPhysicalDevice physical, uint32_t *count,
                                                         VkQueueFamilyProperties *out)
{
    real_families(physical, count, out);
    for (uint32_t i = 0; i < *count; i++)
        out[i].timestampValidBits = 0;
}

static void patch_families(struct gpu_api *api)
{
    if (api->GetPhysicalDeviceQueueFamilyProperties &&
        api->GetPhysicalDeviceQueueFamilyProperties != families_without_clock) {
        real_families = api->GetPhysicalDeviceQueueFamilyProperties;
        api->GetPhysicalDeviceQueueFamilyProperties = families_without_clock;
    }
}

Test(gpu, a_queue_without_a_clock_says_so_and_works)
{
    gpu_api_patch = patch_families;
    struct gpu *gpu = open_gpu();
    struct gpu_buffer *buffer = alloc(gpu, 64);
    cr_expect(not(gpu_clock(gpu, true)));
    cr_assert(eq(int, gpu_finish(gpu, NULL), STATUS_OK));
    cr_expect(eq(dbl, gpu_clock_take(gpu), 0));
    gpu_free(gpu, &buffer);
    gpu_close(&gpu);
}

Test(gpu, buffers_do_not_overlap_and_freed_room_is_used_again)
{
    enum { BUFFERS = 40, ROUNDS = 400 };
    struct gpu *gpu = open_gpu();
    struct gpu_buffer *buffers[BUFFERS] = {0};
    uint32_t marks[BUFFERS] = {0};
    uint64_t sizes[BUFFERS] = {0};
    uint32_t state = 12345;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        state = state * 1664525u + 1013904223u;
        uint32_t at = (state >> 8) % BUFFERS;
        if (buffers[at]) {
            uint32_t ends[2];
            cr_assert(eq(int, gpu_download(gpu, buffers[at], 0, &ends[0], 4, NULL), STATUS_OK));
            cr_assert(eq(int, gpu_download(gpu, buffers[at], sizes[at] - 4, &ends[1], 4, NULL),
                         STATUS_OK));
            cr_expect(ends[0] == marks[at] && ends[1] == marks[at], "round %u", round);
            gpu_free(gpu, &buffers[at]);
            continue;
        }
        // 40 of at most 1 MiB: 400 of them would not fit without being given back.
        sizes[at] = 4 + (state >> 12) / 4 * 4 % (1 << 20);
        marks[at] = round;
        buffers[at] = alloc(gpu, sizes[at]);
        cr_assert(eq(int, gpu_fill(gpu, buffers[at], 0, sizes[at], round, NULL), STATUS_OK));
    }
    for (uint32_t i = 0; i < BUFFERS; i++)
        gpu_free(gpu, &buffers[i]);
    gpu_close(&gpu);
}

Test(gpu, an_array_above_the_device_s_limit_is_refused_with_the_limit)
{
    struct gpu *gpu = open_gpu();
    struct gpu_buffer *buffer = NULL;
    struct reason why = {0};
    char limit[32];
    (void)snprintf(limit, sizeof(limit), "%llu",
                   (unsigned long long)gpu_device(gpu)->allocation_bytes_max);
    cr_expect(eq(int, gpu_alloc(gpu, gpu_device(gpu)->allocation_bytes_max + 4, &buffer, &why),
                 STATUS_UNSUPPORTED));
    cr_expect(strstr(why.text, limit) != NULL, "%s", why.text);
    cr_expect(eq(ptr, buffer, NULL));
    gpu_close(&gpu);
}

int main(int argc, char **argv)
{
    return vulkan_device_main(argc, argv);
}
