// SPDX-License-Identifier: Apache-2.0
// bus.h - what dealers and routers of one process share: the ZeroMQ context and the keys.
//
// Endpoints are "tcp://ADDRESS:PORT" (always encrypted with CURVE) or
// "inproc://NAME" (one process, one bus, no keys). Whoever does not hold a
// coordinator key that a node knows is refused by the ZAP handler; bus_open tests with a
// random key that it really is.
//
// Thread-safety: a bus may be used by many threads; keys are plain data.

#ifndef RECO_PROTO_BUS_BUS_H
#define RECO_PROTO_BUS_BUS_H

#include <stddef.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

#define BUS_KEY_BYTES 41 // Z85 text of a CURVE key and a NUL
#define BUS_ENDPOINT_BYTES 128

struct bus;

// Keys of one cluster: files `node.public node.secret coordinator.public
// coordinator.secret` in one directory, mode 0600. A node needs node.secret and
// coordinator.public; a coordinator coordinator.secret and both public ones.
struct bus_keys {
    char node_public[BUS_KEY_BYTES];
    char node_secret[BUS_KEY_BYTES]; // empty for a coordinator that does not have it
    char coordinator_public[BUS_KEY_BYTES];
    char coordinator_secret[BUS_KEY_BYTES]; // empty for a node that does not have it
};

// Reads the keys; with `create` makes the directory and the pairs when there are none
// (each file written so that a crash leaves the old or the new one).
// STATUS_NOT_FOUND, STATUS_CORRUPT naming the file, STATUS_IO.
enum status bus_keys_load(const char *directory, bool create, struct bus_keys *out,
                          struct reason *why) MUST_CHECK;

// Opens a context. With `keys` (copied) its ZAP handler is bound first and then tested: a
// probe with a random key must be refused, else STATUS_INTERNAL. Without keys only
// inproc:// endpoints are accepted.
enum status bus_open(const struct bus_keys *keys, struct bus **out, struct reason *why) MUST_CHECK;

// Replaces the list of coordinators that may come in: public keys, 1..BUS_ALLOWED_MAX. Who is
// connected stays connected. STATUS_INVALID, the list unchanged, when one is no key. Any thread.
#define BUS_ALLOWED_MAX 16
enum status bus_allow(struct bus *bus, const char *const *keys, size_t count,
                      struct reason *why) MUST_CHECK;

// Every dealer and router of it must be gone. Sets *bus to NULL; NULL is allowed.
void bus_close(struct bus **bus);

#endif
