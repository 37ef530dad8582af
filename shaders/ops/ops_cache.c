// SPDX-License-Identifier: Apache-2.0
// What is known of a device is kept between runs, beside what its driver compiled: so that it is
// compared with the CPU once for each driver and each build of the kernels.

#include <assert.h>

#include "proto/base/bytes.h"
#include "proto/base/cache_file.h"
#include "proto/base/hash.h"
#include "proto/base/log.h"
#include "shaders/gpu/gpu.h"
#include "shaders/kernels/kernel_table.h"
#include "shaders/ops/ops_internal.h"

#define VERSION 3u // of the comparison: older verdicts are not believed

// Of all kernels of this build.
static uint64_t hash_kernels(void)
{
    uint64_t hashes[KERNEL_COUNT + 1] = {VERSION};
    for (int id = 0; id < KERNEL_COUNT; id++) {
        const struct kernel_entry *entry = kernel_table_entry((enum kernel_id)id);
        hashes[id + 1] = entry->words ? hash_id(entry->words, entry->bytes) : 0;
    }
    return hash_id(hashes, sizeof(hashes));
}

// A verdict in a note: possible, right, wrong, nothing, heads.
enum { AT_RIGHT = 4, AT_WRONG = 8, AT_HEADS = 16 };
_Static_assert(AT_HEADS + 8 * OPS_HEAD_WORDS <= GPU_NOTE_BYTES, "a verdict fits into a note");

void ops_cache_open(struct gpu *gpu, uint32_t possible, struct ops_verdict *verdict)
{
    char folder[CACHE_FILE_FOLDER_BYTES];
    uint8_t note[GPU_NOTE_BYTES] = {0};
    *verdict = (struct ops_verdict){.possible = possible};
    if (!cache_file_folder(folder))
        return;
    gpu_cache_open(gpu, folder, hash_kernels(), note);
    if (bytes_get_u32_le(note) != possible)
        return;
    verdict->right = bytes_get_u32_le(note + AT_RIGHT);
    verdict->wrong = bytes_get_u32_le(note + AT_WRONG);
    for (size_t i = 0; i < OPS_HEAD_WORDS; i++)
        verdict->heads[i] = bytes_get_u64_le(note + AT_HEADS + 8 * i);
}

void ops_cache_save(struct gpu *gpu, const struct ops_verdict *verdict)
{
    uint8_t note[GPU_NOTE_BYTES] = {0};
    struct reason why = {.text = ""};
    bytes_put_u32_le(note, verdict->possible);
    bytes_put_u32_le(note + AT_RIGHT, verdict->right);
    bytes_put_u32_le(note + AT_WRONG, verdict->wrong);
    for (size_t i = 0; i < OPS_HEAD_WORDS; i++)
        bytes_put_u64_le(note + AT_HEADS + 8 * i, verdict->heads[i]);
    char quoted[LOG_QUOTE_BYTES];
    if (gpu_cache_save(gpu, note, &why) != STATUS_OK)
        log_info("device_cache_not_written", "reason=%s", log_quote(why.text, quoted));
}
