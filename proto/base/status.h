// SPDX-License-Identifier: Apache-2.0
// status.h - the one list of results that functions, messages and processes share.
//
// Each line of STATUS_TABLE gives the enum constant, its number on the wire,
// its text and the gRPC code that a client sees. Numbers are contract: lines are
// only appended, never renumbered.
//
// Thread-safety: all functions are pure.

#ifndef RECO_PROTO_BASE_STATUS_H
#define RECO_PROTO_BASE_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(which, first) __attribute__((format(printf, which, first)))
#else
#define MUST_CHECK
#define PRINTF_LIKE(which, first)
#endif

// X(name, number on the wire, gRPC code, text)
#define STATUS_TABLE(X)                                                                            \
    X(OK, 0, 0, "ok")                                                                              \
    X(INVALID, 1, 3, "invalid argument")                                                           \
    X(NOT_FOUND, 2, 5, "not found")                                                                \
    X(ALREADY_EXISTS, 3, 6, "already exists")                                                      \
    X(FAILED_PRECONDITION, 4, 9, "failed precondition")                                            \
    X(EXHAUSTED, 5, 8, "resource exhausted")                                                       \
    X(UNAVAILABLE, 6, 14, "unavailable")                                                           \
    X(DEADLINE, 7, 4, "deadline exceeded")                                                         \
    X(CANCELLED, 8, 1, "cancelled")                                                                \
    X(NO_MEMORY, 9, 8, "out of memory")                                                            \
    X(IO, 10, 14, "input or output error")                                                         \
    X(CORRUPT, 11, 15, "data corrupt")                                                             \
    X(UNSUPPORTED, 12, 12, "not supported")                                                        \
    X(UNAUTHENTICATED, 13, 16, "unauthenticated")                                                  \
    X(DENIED, 14, 7, "permission denied")                                                          \
    X(INTERNAL, 15, 13, "internal error")

#define STATUS_ENUM(name, number, grpc, text) STATUS_##name = (number),
enum status { STATUS_TABLE(STATUS_ENUM) };
#undef STATUS_ENUM

// Text of a status, in lower case; "unknown status" for a number outside the table.
const char *status_text(enum status status);

// The gRPC status code (0..16) for a status; 2 (UNKNOWN) outside the table.
int status_grpc_code(enum status status);

// The status for a gRPC code; STATUS_INTERNAL for a code that no line has.
enum status status_from_grpc_code(int code);

// "INVALID": what ErrorInfo and ItemError say; "UNKNOWN" outside the table.
const char *status_name(enum status status);

// The status of that name, if `grpc_code` is the one that belongs to it; else *out is unchanged.
bool status_named(const char *name, size_t bytes, int grpc_code, enum status *out);

// Whether `number` is one of the table's; for values that come from a peer.
bool status_is_known(uint32_t number);

#endif
