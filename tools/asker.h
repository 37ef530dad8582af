// SPDX-License-Identifier: Apache-2.0
// asker.h - asks an index while it changes, as a node does: the slots that the index lacks are
// scanned.
//
// Thread-safety: an asker belongs to one thread; between asker_start() and asker_stop() to its own.
// Others may append, clear bits, extend and mend the index meanwhile.

#ifndef RECO_TOOLS_ASKER_H
#define RECO_TOOLS_ASKER_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shard_node/index/index.h"
#include "tools/unit_rows.h"

// Who is asked. Copied; what it points to outlives the asker.
struct asker_source {
    struct index *index;
    struct epoch *epoch;
    const struct unit_rows *rows;
    const _Atomic uint64_t *live; // bits of the slots that count
    const atomic_uint *end;       // slots from here on are not there yet
    uint32_t k;                   // 1..K_MAX
};

// What is asked, again and again from the first on.
struct asker_queries {
    const float *queries; // [count][dimension]
    const double *least;  // [count], as exact_least_find(); read by asker_find() only
    size_t count;
    uint32_t probes;
};

struct asker;

// STATUS_NO_MEMORY.
enum status asker_create(const struct asker_source *source, const struct asker_queries *queries,
                         struct asker **out, struct reason *why) MUST_CHECK;
void asker_destroy(struct asker **asker); // NULL is allowed

// Asks the next query.
void asker_ask(struct asker *asker);

// Asks for so long; returns queries a second.
double asker_ask_for(struct asker *asker, double seconds);

// Asks on a thread of its own until it is stopped, which tells queries a second. STATUS_EXHAUSTED.
enum status asker_start(struct asker *asker, struct reason *why) MUST_CHECK;
double asker_stop(struct asker *asker);

struct asker_found {
    double recall;               // at k
    double codes, refined, rows; // means of a query, as index_counts
};

// Asks each query once, from so many threads; nobody changes the index or the bits meanwhile. What
// is dead does not count as found. STATUS_NO_MEMORY.
enum status asker_find(const struct asker_source *source, const struct asker_queries *queries,
                       uint32_t threads, struct asker_found *out, struct reason *why) MUST_CHECK;

#endif
