// SPDX-License-Identifier: Apache-2.0
// index_bench.h - an index over the rows of a file, and how fast it answers the queries of others.
//
// The index is the one that a node keeps, called as a node calls it. Rows are kept as halves, as a
// node keeps them, and are counted as memory of the index. One bench holds one index and any
// number of sets of queries; it is built once and measured again and again.
//
// Thread-safety: one thread makes every call; a run has threads of its own.

#ifndef RECO_TOOLS_INDEX_BENCH_H
#define RECO_TOOLS_INDEX_BENCH_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

#define INDEX_BENCH_THREADS_MAX 64
#define INDEX_BENCH_SETS_MAX 8

struct index_bench;

struct index_bench_params {
    const char *base;      // .npy or .fvecs, rows of unit length
    uint32_t k;            // 1..K_MAX
    uint32_t threads;      // of building, and the most of a run
    uint32_t extra_bits;   // 0: the index' own choice; 3 or 7
    uint32_t list_vectors; // 0: the same
    uint64_t seed;
};

struct index_bench_about {
    uint64_t rows;
    size_t dimension;
    uint32_t lists;
    double index_bytes; // of each vector: codes, ids, centres
    double row_bytes;   // of each vector: its halves, its id
    double build_seconds;
};

// Reads the rows and builds the index. STATUS_INVALID for rows that are not of unit length, and as
// npyfile_open() and index_train(). The caller ends *out with index_bench_destroy().
enum status index_bench_create(const struct index_bench_params *params, struct index_bench **out,
                               struct reason *why) MUST_CHECK;
void index_bench_destroy(struct index_bench **bench); // NULL is allowed
const struct index_bench_about *index_bench_about(const struct index_bench *bench);

// Adds a set of queries; sets are numbered from 0. `truth` is a .npy of whole numbers, in each row
// at least the k best ids of the query among the rows, best first; queries beyond its rows are left
// out. NULL: they are searched for, among the halves. Only the k-th is used: what scores as well as
// it counts as found, so ties may come in any order.
enum status index_bench_add_queries(struct index_bench *bench, const char *queries,
                                    const char *truth, struct reason *why) MUST_CHECK;

struct index_bench_run {
    size_t set;
    size_t queries; // the first ones of the set; 0: all
    // 1: each thread asks for itself; more: the threads share a batch and end it together
    uint32_t batch;
    uint32_t threads; // 1..params.threads
    uint32_t probes;
};

struct index_bench_result {
    double recall; // at k
    double per_second;
    double codes, refined, rows; // means of a query, as index_counts
};

// Asks all queries several times; the fastest pass counts.
void index_bench_run(struct index_bench *bench, const struct index_bench_run *run,
                     struct index_bench_result *out);

#endif
