// SPDX-License-Identifier: Apache-2.0
// bus_internal.h - what bus_*.c share: the inside of a bus.
//
// Thread-safety: after bus_open() a bus does not change, but for the counter.

#ifndef RECO_PROTO_BUS_BUS_INTERNAL_H
#define RECO_PROTO_BUS_BUS_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "proto/bus/bus.h"

#define BUS_ZAP_DOMAIN "reco"

struct bus_zap;

struct bus {
    void *context;
    bool has_keys;
    struct bus_keys keys;
    struct bus_zap *zap;      // NULL without keys
    atomic_uint next_monitor; // gives each its own name
};

// Binds the handler that lets in only the holder of `coordinator_public`, and starts its thread.
enum status bus_zap_start(void *context, const char *coordinator_public, struct bus_zap **out,
                          struct reason *why) MUST_CHECK;
void bus_zap_stop(struct bus_zap **zap);

// bus_allow() of it.
enum status bus_zap_allow(struct bus_zap *zap, const char *const *keys, size_t count,
                          struct reason *why) MUST_CHECK;

// Tries a random key on a server of this context. STATUS_INTERNAL when it is let in or nobody asks
// the handler.
enum status bus_zap_test(void *context, struct bus_zap *zap, struct reason *why) MUST_CHECK;

#endif
