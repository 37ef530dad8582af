// SPDX-License-Identifier: Apache-2.0
// measure.h - medians, and how fast this machine reads memory.
//
// Thread-safety: pure, but for the threads that measure_read_bandwidth() runs.

#ifndef RECO_TOOLS_MEASURE_H
#define RECO_TOOLS_MEASURE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

#define MEASURE_BUFFER_BYTES ((size_t)512 << 20) // far beyond any cache

// The value below which `share` (0..1) of the values lie: the nearest rank. Sorts `values`; 0 when
// there is none.
double measure_quantile(double *values, size_t count, double share);

// Bytes a second at which all usable threads together sum up one large buffer; the best of three
// times. STATUS_NO_MEMORY, STATUS_EXHAUSTED without a thread.
enum status measure_read_bandwidth(double *bytes_per_second, struct reason *why) MUST_CHECK;

// The most memory that this program has had at once (VmHWM); 0 when Linux does not say. Not
// getrusage()'s, which has that of whoever started it in it.
uint64_t measure_peak_bytes(void);

// A unit vector that depends on `seed` only.
void measure_random_row(uint64_t seed, float *row, size_t count);

#endif
