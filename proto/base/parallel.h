// SPDX-License-Identifier: Apache-2.0
// parallel.h - does numbered pieces of work with several threads, which end with it: for what takes
// seconds.
//
// Thread-safety: any thread may run one of its own.

#ifndef RECO_PROTO_BASE_PARALLEL_H
#define RECO_PROTO_BASE_PARALLEL_H

#include <stddef.h>
#include <stdint.h>

#define PARALLEL_THREADS_MAX 256

typedef void (*parallel_body)(void *context, uint32_t worker, size_t piece);

// Calls body(context, worker, 0 .. pieces - 1), each once, from up to `threads` threads, of which
// the caller is one; `worker` is below `threads` and tells them apart. Returns when all have
// returned. Threads that cannot be started are done without.
void parallel_run(uint32_t threads, size_t pieces, parallel_body body, void *context);

#endif
