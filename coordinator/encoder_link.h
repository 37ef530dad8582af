// SPDX-License-Identifier: Apache-2.0
// encoder_link.h - the coordinator's end of a reco-encoder: starts it, asks it, watches it.
//
//   DOWN --backoff over: started--> STARTING --HELLO of the same model--> UP --question--> (reply)
//    ^                                 | ended, REFUSAL, no HELLO in 60 s   |  ended, late, not
//    |                                 v                                    v  believed
//    +---- it has ended: next start after 0.1 s, doubling to 60 s ----- ENDING (killed)
//
// A question that is not answered in its time, 2 s and eight times what it should take, counts as
// hung: the process is killed, and the caller computes by himself. So does he while the state is
// any but UP. After a minute of UP the next backoff is 0.1 s again.
//
// The process lives no longer than the thread that started it: the kernel kills it when that is
// gone, and it ends by itself when the socket is closed.
//
// Thread-safety: none; one thread makes every call.

#ifndef RECO_COORDINATOR_ENCODER_LINK_H
#define RECO_COORDINATOR_ENCODER_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/encoder_msg.h"

struct encoder_link;

struct encoder_link_params {
    const char *program;            // path of reco-encoder
    const struct clip_params *clip; // what it opens; read during the call only
    struct telemetry *telemetry;    // NULL: nothing is counted
};

// Starts the process; does not wait for it. STATUS_IO when it cannot be run, STATUS_EXHAUSTED when
// the system has no memory or file left to share.
enum status encoder_link_open(const struct encoder_link_params *params, struct encoder_link **out,
                              struct reason *why) MUST_CHECK;

// Ends the process, which has a second for it, and then the link. NULL is allowed.
void encoder_link_close(struct encoder_link **link);

// What the process must have opened. Waits until it has said so, has ended, or a minute has passed;
// only the first is UP, after the others it is tried again in its time. Fails with the process' own
// status and reason when it refused because of what it was told (--device, --model).
enum status encoder_link_wait(struct encoder_link *link, const struct clip_info *expected,
                              struct reason *why) MUST_CHECK;

// Takes what has come and does what is due. Never waits. Call it when the descriptor is readable or
// the time has come.
void encoder_link_turn(struct encoder_link *link);
int encoder_link_fd(const struct encoder_link *link); // -1: there is none at the moment
int64_t encoder_link_next_us(const struct encoder_link *link);

bool encoder_link_is_up(const struct encoder_link *link);
// The device that it computes on, as clip_info says it; only while it is up.
const char *encoder_link_device(const struct encoder_link *link);

// Encode as clip_encode_pictures() (at most ENCODER_PICTURES_MAX) and clip_encode_texts() (the
// first of `count`, as many as go in one question: *taken says how many). Any failure means that
// the caller computes by himself: STATUS_UNAVAILABLE when it is not up, else what the process said,
// or why it was killed.
enum status encoder_link_pictures(struct encoder_link *link, const uint8_t *pictures, size_t count,
                                  float *embeddings) MUST_CHECK;
enum status encoder_link_texts(struct encoder_link *link, const struct text *texts, size_t count,
                               float *embeddings, size_t *taken) MUST_CHECK;

#endif
