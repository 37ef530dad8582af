// SPDX-License-Identifier: Apache-2.0
// encoder_msg.h - what the coordinator and its reco-encoder say to each other, and the memory that
// they share.
//
//   coordinator                                  reco-encoder
//        |<------------- HELLO ----------------------| the model is open; or REFUSAL: it cannot be
//        | input                                     |
//        |-------------- PICTURES or TEXTS --------->|
//        |<------------- REPLY ----------------------| output
//
// A message is one packet of a socket pair of this machine, always of one size, in the byte order
// of the machine. Prepared pictures and texts lie in the first part of the shared memory,
// embeddings in the second: whoever has the turn writes, and the turn goes with the message. One
// question is under way at a time.
//
// Neither side believes the other: lengths, numbers and texts are checked here.
//
// Thread-safety: pure.

#ifndef RECO_COORDINATOR_ENCODER_MSG_H
#define RECO_COORDINATOR_ENCODER_MSG_H

#include <stddef.h>
#include <stdint.h>

#include "coordinator/encoder.h"
#include "proto/base/bytes.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define ENCODER_MSG_VERSION 2
#define ENCODER_MSG_SOCKET 3 // file descriptors of reco-encoder: its end of the socket pair,
#define ENCODER_MSG_MEMORY 4 // and the shared memory

#define ENCODER_MSG_TEXTS_MAX 256 // of one question
#define ENCODER_MSG_INPUT_BYTES ((size_t)32 << 20)
#define ENCODER_MSG_OUTPUT_BYTES ((size_t)ENCODER_MSG_TEXTS_MAX * DIMENSION_MAX * sizeof(float))
#define ENCODER_MSG_MEMORY_BYTES (ENCODER_MSG_INPUT_BYTES + ENCODER_MSG_OUTPUT_BYTES)

#define ENCODER_MSG_DEVICE_BYTES 160

enum encoder_msg_kind {
    ENCODER_MSG_HELLO,
    ENCODER_MSG_REFUSAL,
    ENCODER_MSG_PICTURES,
    ENCODER_MSG_TEXTS,
    ENCODER_MSG_REPLY,
    ENCODER_MSG_KINDS,
};

// What a kind does not use is zero.
struct encoder_msg {
    uint32_t version; // ENCODER_MSG_VERSION
    uint32_t kind;    // enum encoder_msg_kind
    uint64_t number;  // of the question, and of its reply
    uint32_t count;   // pictures (1..ENCODER_PICTURES_MAX) or texts (1..ENCODER_MSG_TEXTS_MAX)
    uint32_t status;  // enum status, of REPLY and REFUSAL
    // HELLO: what was opened, and how long one picture (0: the model has none) and one text take.
    uint32_t dimension;
    uint32_t image_size;
    uint64_t picture_us;
    uint64_t text_us;
    char space[SPACE_BYTES_MAX];
    char device[ENCODER_MSG_DEVICE_BYTES];
    // REPLY and REFUSAL that are not OK.
    struct reason why;
};

// Reads a packet. STATUS_CORRUPT with what is wrong: its size, another version, an unknown kind,
// numbers out of their range, a text without end.
enum status encoder_msg_read(struct bytes packet, struct encoder_msg *out,
                             struct reason *why) MUST_CHECK;

// Puts the first of `count` texts into `input` (ENCODER_MSG_INPUT_BYTES), as many as go; returns
// how many, at most ENCODER_MSG_TEXTS_MAX; 0 when the first one is too long.
size_t encoder_msg_put_texts(uint8_t *input, const struct text *texts, size_t count);

// Points texts[count] into `input`. STATUS_CORRUPT when they do not lie within it.
enum status encoder_msg_get_texts(struct bytes input, size_t count, struct text *texts,
                                  struct reason *why) MUST_CHECK;

#endif
