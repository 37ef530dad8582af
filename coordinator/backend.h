// SPDX-License-Identifier: Apache-2.0
// backend.h - what every handler of a call stands on, in one place.
//
// Thread-safety: the loop thread's.

#ifndef RECO_COORDINATOR_BACKEND_H
#define RECO_COORDINATOR_BACKEND_H

#include "coordinator/compute.h"
#include "coordinator/fanout.h"
#include "coordinator/meta.h"
#include "coordinator/timers.h"
#include "shaders/models/fusion_head.h"

struct clerk;        // coordinator/clerk.h
struct labels;       // coordinator/labels.h
struct ledger;       // coordinator/ledger.h
struct label_builds; // coordinator/label_build.h
struct telemetry;    // coordinator/telemetry.h

struct backend {
    struct compute *compute;
    struct clerk *clerk;
    struct fanout *fanout;
    struct meta *meta;
    struct labels *labels;
    struct ledger *ledger;
    struct label_builds *builds;
    struct telemetry *telemetry;
    struct timers timers;
    struct fanout_ask farewells; // requests whose answers nobody waits for
    const struct clip_info *clip;
    struct fusion_head *head;       // of the clip's space; NULL: there is none
    const char *head_file;          // as trained_head_open() calls it
    const struct fusion_gate *gate; // of the head; NULL: it has none
    enum api_approx approx;         // of questions that do not say; DEFAULT: normal
    const char *snapshots; // the folder of those that are asked for over gRPC; NULL: there is none
    size_t queries;        // alive, those that only wait for a job to come back included
};

#endif
