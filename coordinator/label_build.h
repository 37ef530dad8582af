// SPDX-License-Identifier: Apache-2.0
// label_build.h - makes class prototypes, one build for all who wait for the same ones.
//
// Plain prototypes are encoded in short batches, so that queries come in between; refined ones are
// queries of as many rows as fit. A build goes on when a waiter runs out of time: the next to
// ask finds it further or done. It ends early only when every waiter is gone for good.
//
// Thread-safety: none; the loop thread makes every call.

#ifndef RECO_COORDINATOR_LABEL_BUILD_H
#define RECO_COORDINATOR_LABEL_BUILD_H

#include <stdbool.h>

#include "coordinator/backend.h"
#include "coordinator/labels.h"
#include "coordinator/question.h"
#include "proto/base/embedding.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define LABEL_BUILDS_MAX 16 // at once

struct label_builds;
struct label_build;

// One who waits; zero-initialise it, set done and context. It stays where it is while it waits.
struct label_wait {
    struct label_build *build; // NULL: does not wait
    struct label_wait *next;
    // With STATUS_OK `prototypes` are the receiver's to release; else NULL.
    void (*done)(void *context, enum status status, const struct reason *why,
                 struct label_prototypes *prototypes);
    void *context;
};

size_t label_builds_count(const struct label_builds *builds); // under way
struct label_builds *label_builds_create(struct backend *backend);

// Every build must have ended: see label_builds_cancel(). NULL is allowed.
void label_builds_destroy(struct label_builds **builds);

// Gives up all builds; those who wait are told STATUS_CANCELLED.
void label_builds_cancel(struct label_builds *builds);

// Sets *out to prototypes from the cache (the caller's to release), or to NULL; then wait->done
// is called later. STATUS_EXHAUSTED beyond LABEL_BUILDS_MAX, STATUS_NO_MEMORY.
enum status label_build_plain(struct label_builds *builds, struct label_set *set,
                              struct label_wait *wait, struct label_prototypes **out,
                              struct reason *why) MUST_CHECK;

// The same for prototypes refined by the question's memory; `over` is the side they are searched
// on. min_coverage is not looked at: see label_prototypes.coverage.
struct label_refine {
    struct label_prototypes *plain;
    const struct question *question;
    enum modality over;
};
enum status label_build_refined(struct label_builds *builds, const struct label_refine *refine,
                                struct label_wait *wait, struct label_prototypes **out,
                                struct reason *why) MUST_CHECK;

// Stops waiting; `gone`: and does not come back. Also for one that does not wait.
void label_build_leave(struct label_wait *wait, bool gone);

#endif
