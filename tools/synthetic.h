// SPDX-License-Identifier: Apache-2.0
// synthetic.h - memories of made-up rows, for measuring a search of any size.
//
// Row i of a synthetic memory is the same everywhere: unit vectors in all directions from a
// generator that is seeded with i. Real embeddings lie closer together; for an exact scan,
// whose cost does not depend on the values, that makes no difference.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_SYNTHETIC_H
#define RECO_TOOLS_SYNTHETIC_H

#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/client.h"

#define SYNTHETIC_NAME_BYTES 64

// "synthetic-RECORDSxDIMENSION"
void synthetic_name(uint64_t records, uint32_t dimension, char out[SYNTHETIC_NAME_BYTES]);

// Makes sure that the memory of that name is there and whole, building what is missing.
enum status synthetic_ensure(struct client *client, uint64_t records, uint32_t dimension,
                             struct reason *why) MUST_CHECK;

#endif
