// SPDX-License-Identifier: Apache-2.0
// listener.h - the one rule for every port: whoever can be reached from other machines encrypts
// and knows its clients, or does not start.
//
// Thread-safety: pure.

#ifndef RECO_PROTO_BASE_LISTENER_H
#define RECO_PROTO_BASE_LISTENER_H

#include <stdbool.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

struct listener {
    const char *field;   // what the error names: "--listen", "[http] listen"
    const char *address; // as it was written
    bool loopback;       // nobody on another machine can reach it
    bool encrypted;      //
    bool authenticated;  // clients show who they are, and strangers are turned away
    const char *way_out; // what to do instead: "or set [tls] certificate, key and client_ca"
};

// STATUS_INVALID, with what is missing and the way out, for a listener that breaks the rule.
enum status listener_check(const struct listener *listener, struct reason *why) MUST_CHECK;

#endif
