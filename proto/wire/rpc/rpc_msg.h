// SPDX-License-Identifier: Apache-2.0
// rpc_msg.h - the messages of gRPC's own services as plain structs, and their bytes.
//
// Health (grpc.health.v1), reflection (grpc.reflection.v1alpha, and v1, which has the same
// bytes) and the error details of google.rpc. A decoded text lives in the arena. A message
// longer than RPC_MSG_BYTES_MAX, one that is not well formed and a text that is not UTF-8
// are STATUS_INVALID; outputs are then unchanged. Encoding appends to a buffer and gives
// STATUS_NO_MEMORY when that is full.
//
// Thread-safety: pure functions.

#ifndef RECO_PROTO_WIRE_RPC_RPC_MSG_H
#define RECO_PROTO_WIRE_RPC_RPC_MSG_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define RPC_MSG_BYTES_MAX 8192 // of a message to decode; they are questions with one name
#define RPC_MSG_ARENA_BYTES ((size_t)256 << 10) // what decoding one message may take at most
#define RPC_MSG_DETAILS_MAX 8                   // details looked at in one google.rpc.Status

// --- grpc.health.v1

enum rpc_msg_serving { // numbers of the standard
    RPC_MSG_SERVING_UNKNOWN = 0,
    RPC_MSG_SERVING = 1,
    RPC_MSG_NOT_SERVING = 2,
    RPC_MSG_SERVICE_UNKNOWN = 3,
};

enum status rpc_msg_encode_health_request(struct text service, struct buffer *out) MUST_CHECK;
enum status rpc_msg_decode_health_request(struct arena *arena, struct bytes message,
                                          struct text *service, struct reason *why) MUST_CHECK;
enum status rpc_msg_encode_health_reply(enum rpc_msg_serving serving,
                                        struct buffer *out) MUST_CHECK;
enum status rpc_msg_decode_health_reply(struct arena *arena, struct bytes message,
                                        enum rpc_msg_serving *serving,
                                        struct reason *why) MUST_CHECK;

// --- grpc.reflection

enum rpc_msg_question {
    RPC_MSG_ASK_NOTHING, // the client set none, or one that this version does not know
    RPC_MSG_ASK_FILE_BY_NAME,
    RPC_MSG_ASK_FILE_OF_SYMBOL,
    RPC_MSG_ASK_EXTENSION,
    RPC_MSG_ASK_EXTENSION_NUMBERS,
    RPC_MSG_ASK_SERVICES,
};

struct rpc_msg_reflection_request {
    enum rpc_msg_question question;
    struct text host;
    struct text name;         // file, symbol or type, as the question has it
    int32_t extension_number; // RPC_MSG_ASK_EXTENSION only
};

// One of three: an error (code is not 0), files, or services.
struct rpc_msg_reflection_reply {
    const struct rpc_msg_reflection_request *request; // repeated in the reply
    int error_code;                                   // a gRPC status code
    const char *error_message;
    const struct bytes *files; // FileDescriptorProtos
    size_t file_count;
    const struct text *services;
    size_t service_count;
};

enum status rpc_msg_encode_reflection_request(const struct rpc_msg_reflection_request *request,
                                              struct buffer *out) MUST_CHECK;
enum status rpc_msg_decode_reflection_request(struct arena *arena, struct bytes message,
                                              struct rpc_msg_reflection_request *request,
                                              struct reason *why) MUST_CHECK;
// The arena holds the intermediate structs; STATUS_NO_MEMORY also when its budget is spent.
enum status rpc_msg_encode_reflection_reply(struct arena *arena,
                                            const struct rpc_msg_reflection_reply *reply,
                                            struct buffer *out) MUST_CHECK;

// The FileDescriptorSet of health, of both versions of reflection and of the error details, under
// the standard's paths, with what they import.
struct bytes rpc_msg_descriptor_set(void);

// --- google.rpc

struct rpc_msg_status {
    int code; // a gRPC status code
    struct text message;
    struct text reason;    // ErrorInfo; empty: no such detail
    struct text domain;    //
    struct text field;     // BadRequest, first violation; empty: no such detail
    struct text violation; //
    int64_t retry_us;      // RetryInfo; 0: no such detail
};

// Texts that are not UTF-8 are sent with '?' in place of every byte above 127.
enum status rpc_msg_encode_status(struct arena *arena, const struct rpc_msg_status *details,
                                  struct buffer *out) MUST_CHECK;
enum status rpc_msg_decode_status(struct arena *arena, struct bytes message,
                                  struct rpc_msg_status *details, struct reason *why) MUST_CHECK;

#endif
