// SPDX-License-Identifier: Apache-2.0
// rpc_echo.h - a server with its owner thread, for tests: rpc_echo.proto's service.
//
// Thread-safety: the functions may be called by any thread; stop by one.

#ifndef RECO_TESTS_UNIT_RPC_ECHO_H
#define RECO_TESTS_UNIT_RPC_ECHO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

#define RPC_ECHO_PATH "/reco.test.Echo/Echo"
#define RPC_ECHO_COLLECT_PATH "/reco.test.Echo/Collect"
#define RPC_ECHO_FAIL_PATH "/reco.test.Echo/Fail"
#define RPC_ECHO_REPEAT_PATH "/reco.test.Echo/Repeat"
#define RPC_ECHO_CHAT_PATH "/reco.test.Echo/Chat"
#define RPC_ECHO_HANG_PATH "/reco.test.Echo/Hang"
#define RPC_ECHO_FAIL_FIELD "options.k"
#define RPC_ECHO_FAIL_TEXT "k is 900; allowed are 1..256 \xe2\x80\x94 really"

struct rpc_echo;

// What has happened so far, or since the last look.
enum rpc_echo_count {
    RPC_ECHO_CALLS,     // CALL
    RPC_ECHO_MESSAGES,  // MESSAGE
    RPC_ECHO_SENT,      // SENT
    RPC_ECHO_CANCELLED, // CANCELLED
    RPC_ECHO_DONE,      // DONE
    RPC_ECHO_COUNTS,
};

enum status rpc_echo_start(const char *address, struct rpc_echo **out,
                           struct reason *why) MUST_CHECK;
void rpc_echo_stop(struct rpc_echo **echo);

int rpc_echo_port(const struct rpc_echo *echo);
void rpc_echo_set_serving(struct rpc_echo *echo, bool serving); // returns when it is so

// RepeatRequest as bytes.
#define RPC_ECHO_REPEAT_BYTES 15
void rpc_echo_repeat(uint32_t count, uint32_t bytes, enum status status,
                     uint8_t out[RPC_ECHO_REPEAT_BYTES]);

// How often that has happened.
size_t rpc_echo_counted(struct rpc_echo *echo, enum rpc_echo_count what);

// While paused, a stream's next message is not asked for.
void rpc_echo_pause(struct rpc_echo *echo, bool paused);

// Ends the owner thread; calls stay as they are until rpc_echo_stop().
void rpc_echo_leave(struct rpc_echo *echo);

// Waits until that has happened `count` times; false when the deadline comes first.
bool rpc_echo_wait(struct rpc_echo *echo, enum rpc_echo_count what, size_t count,
                   int64_t deadline_us);

// Of the last CALL and the last CANCELLED, at the owner.
int64_t rpc_echo_deadline_us(struct rpc_echo *echo);
int64_t rpc_echo_cancelled_us(struct rpc_echo *echo);
size_t rpc_echo_running(struct rpc_echo *echo);

#endif
