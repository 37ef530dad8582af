// SPDX-License-Identifier: Apache-2.0
// Goal: each piece is done once, by a worker that is told apart, whatever the number of threads.
//
// Method: counters for each piece and worker; as many threads as pieces, fewer, more, none.

#include <stdatomic.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/parallel.h"

#define PIECES 1000

struct tally {
    uint32_t threads;
    atomic_uint done[PIECES];
    atomic_bool busy[PARALLEL_THREADS_MAX];
    atomic_uint wrong; // a worker that is none, or is two at once
};

static void count(void *context, uint32_t worker, size_t piece)
{
    struct tally *tally = context;
    if (worker >= tally->threads || atomic_exchange(&tally->busy[worker], true)) {
        atomic_fetch_add(&tally->wrong, 1);
        return;
    }
    atomic_fetch_add(&tally->done[piece], 1);
    atomic_store(&tally->busy[worker], false);
}

Test(parallel, does_each_piece_once)
{
    static const uint32_t threads[] = {1, 2, 3, 16, PARALLEL_THREADS_MAX};
    static const size_t pieces[] = {0, 1, 2, 17, PIECES};
    for (size_t t = 0; t < sizeof(threads) / sizeof(threads[0]); t++) {
        for (size_t p = 0; p < sizeof(pieces) / sizeof(pieces[0]); p++) {
            static struct tally tally;
            tally = (struct tally){.threads = threads[t]};
            parallel_run(threads[t], pieces[p], count, &tally);
            cr_expect(eq(u32, tally.wrong, 0));
            for (size_t i = 0; i < PIECES; i++)
                cr_expect(eq(u32, tally.done[i], i < pieces[p]), "%zu of %zu", i, pieces[p]);
        }
    }
}
