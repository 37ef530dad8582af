// SPDX-License-Identifier: Apache-2.0
// index.h - IVF over one modality of one generation: finds good neighbours without reading every
// row.
//
// The index knows slots of rows (rows.h), which are written once and keep their number. It covers
// the slots below index_end(); whoever searches scans the few behind it exactly, so a row is found
// from the moment it is appended, and the index takes it in later. It holds no vectors: lists have
// codes, the last step multiplies the query with the rows themselves, so a score has the same bits
// as that of an exact scan.
//
//     train --> extend (again and again, as rows are appended) --> search at any time
//
// Same parameters and rows, same index, and the same answers, bit for bit: for every instruction
// set, batch and number of threads. One thread answers one query.
//
// Thread-safety: searching by any thread, each with its own scratch; all else by one thread at a
// time.

#ifndef RECO_SHARD_NODE_INDEX_INDEX_H
#define RECO_SHARD_NODE_INDEX_INDEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/cpu.h"
#include "proto/base/embedding.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shard_node/index/epoch.h"
#include "shard_node/rows_map.h"
#include "shard_node/scan.h"

#define INDEX_LIST_VECTORS_MIN 64  // of a list, on average
#define INDEX_LIST_VECTORS_MAX 256 //
#define INDEX_RECORDS_MIN 256      // fewer cannot be trained on

struct index;

// The rows of one modality. They stay where they are as long as the index lives.
struct index_rows {
    uint32_t dimension;
    const uint16_t *rows;          // [slots][dimension], halves
    const struct rows_slot *slots; // [slots]; ids break ties
};

struct index_params {
    struct index_rows rows;
    struct epoch *epoch; // outlives the index
    enum cpu_level level;
    uint32_t list_vectors; // 0: index_list_vectors(); index_open(): as it was made
    uint32_t extra_bits;   // 0: 3; else 3 or 7
    uint32_t threads;      // for training and extending; 0: 1
    uint64_t seed;
    // Training and calibrating give up when one of them is true; nothing else reads them. NULL:
    // never.
    const atomic_bool *given_up[2];
};

// How many vectors a list has on average with so many records: a quarter of their root, within
// INDEX_LIST_VECTORS_MIN and _MAX. README.md has the figures.
uint32_t index_list_vectors(uint64_t records);

// Learns centres from `sample`, slots of live rows, for `records` vectors in all. The index is
// empty. STATUS_NO_MEMORY, STATUS_CANCELLED, STATUS_INVALID with fewer than INDEX_RECORDS_MIN in
// the sample.
enum status index_train(const struct index_params *params, const uint32_t *sample,
                        uint32_t sample_count, uint64_t records, struct index **out,
                        struct reason *why) MUST_CHECK;

// Nobody may search any more. Sets *index to NULL; NULL is allowed.
void index_destroy(struct index **index);

// How many slots of a sample index_train() wants for so many records.
uint32_t index_sample_count(const struct index_params *params, uint64_t records);

// Takes in the slots from index_end() up to `end`, without those whose bit in `live` is not set
// (NULL: all are) and who are left out for ever: records that are only hidden have to be in `live`.
// STATUS_NO_MEMORY: nothing was taken in.
enum status index_extend(struct index *index, uint32_t end, const _Atomic uint64_t *live,
                         struct reason *why) MUST_CHECK;

// What has changed the lists since they were learnt.
struct index_upkeep {
    uint64_t splits;
    uint64_t merges;
    uint64_t rewrites; // of lists with many dead vectors, or that lie in memory to be given back
    uint64_t moves;    // of vectors to a nearer list
};

// Looks at the next `lists` lists and mends the first that has become too large, too small or too
// full of dead vectors, or that lies where little else does, so that this memory can be given back;
// `live` as above. Adds to *upkeep. Returns false when none of them needed it. When there is no
// memory the index stays as it is.
bool index_maintain(struct index *index, const _Atomic uint64_t *live, uint32_t lists,
                    struct index_upkeep *upkeep);

// Measures, on a sample of its rows, what recall@10 how many probes give. `live` as above. Until
// then index_probes() goes by what CLIP-like vectors need. STATUS_NO_MEMORY, STATUS_CANCELLED when
// given up: it goes on as before.
enum status index_calibrate(struct index *index, const _Atomic uint64_t *live) MUST_CHECK;

// How many probes are expected to find this share (above 0, below 1) of the true ten best, for
// queries that are like the rows; as many as were tried when none is enough. `wanted`, 1 to 10: how
// many of the ten are among these rows; fewer where they are a part of a memory, and the nearer
// ones are found by fewer probes. Any thread.
uint32_t index_probes(const struct index *index, float target_recall, float wanted);

// The rows that a checkpoint belongs to.
struct index_origin {
    uint64_t store; // its identity
    uint32_t generation;
    enum modality modality;
    uint32_t slot_count; // index_open(): that are there
    // index_open(): bits of those that are records, hidden ones too; NULL: all.
    const _Atomic uint64_t *live;
};

// Replaces the file at `path` by a checkpoint of the index, so that after a crash either the old or
// the new one is there. STATUS_EXHAUSTED when the disk is full, STATUS_IO, STATUS_NO_MEMORY: the
// old one stays.
//
// A checkpoint is of use as long as the slots below index_end() are what they are now: save when
// rows_checkpoint() has covered them.
enum status index_save(const struct index *index, const struct index_origin *origin,
                       const char *path, struct reason *why) MUST_CHECK;

// Maps a checkpoint instead of training: answers as the one that was saved, bit for bit. Live slots
// that it covers but lacks, since they were dead when it was made, are taken in. STATUS_NOT_FOUND,
// STATUS_CORRUPT when it is damaged or was made of other rows, with other parameters or
// by another version; STATUS_IO, STATUS_NO_MEMORY.
enum status index_open(const struct index_params *params, const struct index_origin *origin,
                       const char *path, struct index **out, struct reason *why) MUST_CHECK;

// Slots below are covered.
uint32_t index_end(const struct index *index);

struct index_about {
    uint32_t lists;
    uint64_t vectors;      // in lists, dead ones too
    uint64_t bytes;        // of memory
    uint32_t longest;      // vectors of the longest list, up to 64 calls ago
    uint32_t list_vectors; // of a list, as they should be
};
void index_describe(struct index *index, struct index_about *out);

// What one thread needs to search.
struct index_scratch;
struct index_scratch *index_scratch_create(struct epoch *epoch); // NULL: no memory, or too many
void index_scratch_destroy(struct index_scratch **scratch);      // NULL is allowed

struct index_query {
    const float *query;  // [dimension], finite, at most 65504 in size
    uint32_t k;          // 1..K_WIRE_MAX
    uint32_t probes;     // lists to look into, 1..TREE_PROBES_MAX
    uint32_t candidates; // multiplied exactly; 0: as many as is good for k
    // Bits of the slots that count, read when a slot is looked at; NULL: all.
    const _Atomic uint64_t *live;
    uint32_t end; // slots from here on are not looked at; 0: all that are covered are
};

struct index_counts {
    uint32_t probes;  // lists
    uint64_t codes;   // sign codes
    uint32_t refined; // extra codes
    uint32_t rows;    // exact products
    uint32_t
        end; // slots from here on were not looked at: index_end() at the beginning, or the query's
};

// Writes the best hits, best first, at most query->k; returns how many. `counts` may be NULL.
size_t index_search(struct index *index, struct index_scratch *scratch,
                    const struct index_query *query, struct scan_hit *hits,
                    struct index_counts *counts);

#endif
