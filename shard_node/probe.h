// SPDX-License-Identifier: Apache-2.0
// probe.h - the best neighbours of one query row by an index, and by a scan of what it does not
// cover yet.
//
// What is missed is missed because its list was not looked into, never for another reason: rows
// behind the end of the index are multiplied exactly, a record that is replaced meanwhile is found
// in one of its slots and once, and where fewer than k are found although there are more, more
// lists are looked into, in the end all rows of one moment. Scores have the bits of an exact scan.
//
// Thread-safety: a plan may be shared; a probe belongs to one thread.

#ifndef RECO_SHARD_NODE_PROBE_H
#define RECO_SHARD_NODE_PROBE_H

#include <stdint.h>

#include "proto/base/cpu.h"
#include "shard_node/index/index.h"
#include "shard_node/scan.h"

// How a request is searched by an index. With a view that has bits of its own (`live`), those
// count, and `end` is index_end() from before the view was taken; else the bits and slots of `rows`
// as they are meanwhile.
struct probe_plan {
    struct index *index; // NULL: not by an index
    struct rows *rows;
    uint32_t probes; // 1..PROBES_MAX
    uint32_t end;
};

// What it took.
struct probe_counts {
    uint64_t lists;
    uint64_t codes;
    uint64_t refined;
    uint64_t rows; // multiplied exactly
};

struct probe;

// NULL when there is no memory or no place in the epoch, which is that of all indexes it is used
// with.
struct probe *probe_create(enum cpu_level level, struct epoch *epoch);
void probe_destroy(struct probe **probe); // NULL is allowed

// Sets list `query` of the request's lists and adds to *counts.
void probe_query(struct probe *probe, const struct probe_plan *plan,
                 const struct scan_request *request, size_t query, struct scan_lists *lists,
                 struct probe_counts *counts);

#endif
