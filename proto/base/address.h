// SPDX-License-Identifier: Apache-2.0
// address.h - reads HOST:PORT and knows which hosts are this machine alone.
//
// Thread-safety: pure functions.

#ifndef RECO_PROTO_BASE_ADDRESS_H
#define RECO_PROTO_BASE_ADDRESS_H

#include <stdbool.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

#define ADDRESS_HOST_BYTES_MAX 253 // the longest name that DNS knows
#define ADDRESS_PORT_MAX 65535
#define ADDRESS_TEXT_BYTES (ADDRESS_HOST_BYTES_MAX + 9) // with brackets, port and NUL

struct address {
    char host[ADDRESS_HOST_BYTES_MAX + 1]; // without brackets
    int port;                              // 0..65535
    bool loopback; // 127.0.0.0/8, ::1 or localhost: nobody on another machine can reach it
};

// Takes "127.0.0.1:7700", "name:7700" and "[::1]:7700". STATUS_INVALID, naming `field` and the
// text, for anything else: no scheme, no path, no bare IPv6 address.
enum status address_parse(const char *text, const char *field, struct address *out,
                          struct reason *why) MUST_CHECK;

// "HOST:PORT" with this host, in brackets where it needs them, and that port. Returns `out`.
const char *address_text(const struct address *address, int port, char out[ADDRESS_TEXT_BYTES]);

// After a server could not listen at a loopback address: tries the same to find out why, and
// returns STATUS_UNAVAILABLE with the system's words. `field` says whose address it is.
enum status address_not_bound(const struct address *address, const char *field,
                              struct reason *why) MUST_CHECK;

#endif
