// SPDX-License-Identifier: Apache-2.0
// Goal: no file in the place of compiled kernels is given to a driver unless it is whole and this
// driver's; what is read lies inside the file and is written back as the same bytes.
//
// Method: the input is read as it is, and once more sealed (sealed.h).

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shaders/gpu/gpu_internal.h"
#include "tests/fuzz/sealed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct gpu_cache_identity identity = {
    .vendor = 0x10de, .device = 0x2335, .driver = 7, .cache_uuid = {1, 2, 3}, .words = 4, .key = 5};

static void check(bool right)
{
    if (!right)
        abort();
}

static void read_file(const uint8_t *data, size_t size)
{
    struct gpu_cache_content content;
    if (!gpu_cache_read(&identity, (struct bytes){data, size}, &content))
        return;
    check(content.pipelines.data >= data && content.pipelines.count <= size);
    check(content.pipelines.data + content.pipelines.count <= data + size);
    check(content.pipelines.count == 0 || content.pipelines.count >= 32);
    struct buffer again = {0};
    check(gpu_cache_write(&identity, &content, &again) == STATUS_OK);
    check(again.count == size && memcmp(again.data, data, size) == 0);
    buffer_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sealed_run(data, size, read_file);
    return 0;
}
