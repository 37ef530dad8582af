// SPDX-License-Identifier: Apache-2.0
// machine.h - what the machine and its administrator let this process have.
//
// Thread-safety: safe, except machine_raise_files(), which belongs at the start.

#ifndef RECO_PROTO_BASE_MACHINE_H
#define RECO_PROTO_BASE_MACHINE_H

#include <stdint.h>

// Memory of the machine, or of the control group when that is less.
uint64_t machine_memory_bytes(void);

// Raises the soft limit of open files to the hard one, and logs both.
void machine_raise_files(void);

// Files that may be open at a time.
uint64_t machine_files(void);

// How many of these a node's store may keep open: what sockets and row files leave, 64 at least.
int machine_store_files(void);

#endif
