// SPDX-License-Identifier: Apache-2.0
// ports.h - which TCP ports of this machine's loopback are free.
//
// Thread-safety: pure.

#ifndef RECO_TOOLS_PORTS_H
#define RECO_TOOLS_PORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

#define PORTS_MAX 104

// Whether a program could listen at 127.0.0.1:PORT now.
bool ports_is_free(uint16_t port);

// Asks the kernel for `count` different free ports. STATUS_EXHAUSTED.
enum status ports_pick(uint16_t *ports, size_t count, struct reason *why) MUST_CHECK;

#endif
