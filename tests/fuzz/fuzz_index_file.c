// SPDX-License-Identifier: Apache-2.0
// Goal: no file makes the reader of checkpoints of the index, or a search and an extension of what
// it has read, crash, hang, look outside of the file, or find a slot that is not there or is there
// twice.
//
// Method: an input that begins with 0 is a file. Any other is a number of changes to a sound file:
// place u16, value u32, one after the other, and at the end maybe one u16 at which it is cut. Both
// are tried with the checksums as they are and with such as fit.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/bytes.h"
#include "proto/base/half.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "shard_node/index/index_internal.h"
#include "shard_node/index/seed.h"
#include "tests/support/index_seal.h"

#define DIMENSION 8
#define SLOTS 300
#define COVERED 45
#define K 8
#define AT_SLOTS_HASH 56
#define CHANGE_BYTES 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint16_t rows[SLOTS][DIMENSION];
static struct rows_slot slots[SLOTS];
static uint8_t *sound;
static size_t sound_bytes;

static void check(bool right)
{
    if (!right)
        abort();
}

static struct index_params params_with(struct epoch *epoch)
{
    return (struct index_params){
        .rows = {.dimension = DIMENSION, .rows = rows[0], .slots = slots},
        .epoch = epoch,
        .level = CPU_SCALAR,
        .list_vectors = 64,
    };
}

static const struct index_origin origin = {
    .store = 7, .generation = 3, .modality = MODALITY_TEXT, .slot_count = SLOTS};

static void read_sound(const struct index *index)
{
    char folder[] = "/tmp/reco-fuzz-XXXXXX";
    check(mkdtemp(folder) != NULL);
    char path[sizeof(folder) + 8];
    struct buffer file = {0};
    strcat(strcpy(path, folder), "/index");
    check(index_save(index, &origin, path, NULL) == STATUS_OK);
    check(bytes_read_file(path, 1u << 20, &file) == STATUS_OK);
    check(unlink(path) == 0 && rmdir(folder) == 0);
    sound = file.data;
    sound_bytes = file.count;
}

static void make_sound(void)
{
    uint64_t seed = 20261129;
    uint32_t sample[SLOTS];
    for (uint32_t i = 0; i < SLOTS; i++) {
        sample[i] = i;
        slots[i].id = seed_next(&seed);
        for (uint32_t d = 0; d < DIMENSION; d++)
            rows[i][d] = half_from_float((float)(seed_next(&seed) >> 60) / 16 - 0.5F);
    }
    struct epoch *epoch = epoch_create();
    const struct index_params params = params_with(epoch);
    struct index *index = NULL;
    check(index_train(&params, sample, SLOTS, SLOTS, &index, NULL) == STATUS_OK);
    check(index_extend(index, COVERED, NULL, NULL) == STATUS_OK);
    read_sound(index);
    index_destroy(&index);
    epoch_destroy(&epoch);
}

static void search(struct index *index, struct epoch *epoch)
{
    const float query[DIMENSION] = {0.5F, -0.5F, 0.25F, 1};
    struct index_scratch *scratch = index_scratch_create(epoch);
    struct scan_hit hits[K];
    const struct index_query about = {.query = query, .k = K, .probes = 16};
    const size_t count = index_search(index, scratch, &about, hits, NULL);
    check(count <= K);
    for (size_t i = 0; i < count; i++) {
        check(hits[i].slot < index_end(index));
        for (size_t j = 0; j < i; j++)
            check(hits[i].slot != hits[j].slot);
    }
    index_scratch_destroy(&scratch);
}

static void try_to_read(uint8_t *file, size_t bytes)
{
    struct epoch *epoch = epoch_create();
    const struct index_params params = params_with(epoch);
    struct index *index = NULL;
    struct reason why = {.text = ""};
    const enum status status = index_read_file(&params, &origin, file, bytes, &index, &why);
    if (status == STATUS_OK) {
        search(index, epoch);
        check(index_end(index) <= SLOTS);
        check(index_extend(index, SLOTS, NULL, &why) == STATUS_OK);
        search(index, epoch);
        index_destroy(&index);
    } else {
        check(status == STATUS_CORRUPT && why.text[0] != '\0');
    }
    epoch_destroy(&epoch);
}

static void try_both(const uint8_t *data, size_t bytes)
{
    void *memory = NULL;
    check(posix_memalign(&memory, CODES_ALIGNMENT, bytes > 0 ? bytes : 1) == 0);
    uint8_t *const file = memory;
    if (bytes > 0)
        memcpy(file, data, bytes);
    try_to_read(file, bytes);
    if (bytes >= SEAL_HEAD_BYTES) {
        const uint32_t end = seal_get(file, SEAL_AT_END);
        const uint64_t hash = hash_id(slots, (end < SLOTS ? end : SLOTS) * sizeof(slots[0]));
        memcpy(file + AT_SLOTS_HASH, &hash, sizeof(hash));
        seal(file, bytes);
        try_to_read(file, bytes);
    }
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!sound)
        make_sound();
    if (size == 0 || size > (1u << 16))
        return 0;
    if (data[0] == 0) {
        try_both(data + 1, size - 1);
        return 0;
    }
    uint8_t *file = mem_alloc(sound_bytes);
    memcpy(file, sound, sound_bytes);
    size_t at = 1;
    for (; at + CHANGE_BYTES <= size; at += CHANGE_BYTES) {
        const size_t place = (size_t)data[at] | (size_t)data[at + 1] << 8;
        if (place + 4 <= sound_bytes)
            memcpy(file + place, data + at + 2, 4);
    }
    size_t bytes = sound_bytes;
    if (at + 2 <= size)
        bytes = ((size_t)data[at] | (size_t)data[at + 1] << 8) % (sound_bytes + 1);
    try_both(file, bytes);
    mem_free(file);
    return 0;
}
