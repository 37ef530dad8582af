// SPDX-License-Identifier: Apache-2.0
// gRPC counts grpc_init() and grpc_shutdown() itself, so begin and end only add the log.

#include "proto/rpc/rpc_core.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>

#include "proto/base/clock.h"
#include "proto/base/limits.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define US_PER_SECOND 1000000
#define NS_PER_US 1000

// Farther away than this, a deadline is none: 30 years.
#define FAR_US ((int64_t)30 * 365 * 24 * 3600 * US_PER_SECOND)

// --- life

static void log_message(gpr_log_func_args *args)
{
    char quoted[LOG_QUOTE_BYTES];
    log_debug("grpc", "severity=%s message=%s", gpr_log_severity_string(args->severity),
              log_quote(args->message, quoted));
}

static void redirect_log(void)
{
    gpr_set_log_function(log_message);
}

void rpc_core_begin(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, redirect_log);

    // gRPC's threads inherit the mask: signals stay with the program's own threads.
    sigset_t all;
    sigset_t previous;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &previous);
    grpc_init();
    (void)pthread_sigmask(SIG_SETMASK, &previous, NULL);
}

void rpc_core_end(void)
{
    grpc_shutdown();
}

grpc_arg rpc_core_arg(const char *key, int value)
{
    grpc_arg arg;
    memset(&arg, 0, sizeof(arg));
    arg.type = GRPC_ARG_INTEGER;
    memcpy(&arg.key, &key, sizeof(key)); // gRPC only reads it, but has no const there
    arg.value.integer = value;
    return arg;
}

// --- messages

enum status rpc_core_flatten(grpc_byte_buffer **buffer, struct rpc_core_message *out)
{
    assert(buffer && *buffer);
    assert(out);

    grpc_byte_buffer *taken = *buffer;
    *buffer = NULL;
    const grpc_slice_buffer *slices = &taken->data.raw.slice_buffer;
    if (slices->count <= 1) {
        struct bytes bytes = {NULL, 0};
        if (slices->count == 1)
            bytes = (struct bytes){GRPC_SLICE_START_PTR(slices->slices[0]),
                                   GRPC_SLICE_LENGTH(slices->slices[0])};
        *out = (struct rpc_core_message){bytes, taken, NULL};
        return STATUS_OK;
    }

    size_t total = grpc_byte_buffer_length(taken);
    uint8_t *copy = mem_try_alloc(total);
    if (!copy) {
        grpc_byte_buffer_destroy(taken);
        return STATUS_NO_MEMORY;
    }
    size_t at = 0;
    for (size_t i = 0; i < slices->count; i++) {
        size_t bytes = GRPC_SLICE_LENGTH(slices->slices[i]);
        memcpy(copy + at, GRPC_SLICE_START_PTR(slices->slices[i]), bytes);
        at += bytes;
    }
    assert(at == total);
    grpc_byte_buffer_destroy(taken);
    *out = (struct rpc_core_message){{copy, total}, NULL, copy};
    return STATUS_OK;
}

void rpc_core_message_deinit(struct rpc_core_message *message)
{
    assert(message);

    if (message->buffer)
        grpc_byte_buffer_destroy(message->buffer);
    mem_free(message->copy);
    *message = (struct rpc_core_message){.copy = NULL};
}

grpc_byte_buffer *rpc_core_give(struct buffer *reply)
{
    grpc_slice slice = grpc_empty_slice();
    if (reply && reply->count > 0)
        slice = grpc_slice_new(reply->data, reply->count, mem_free);
    else if (reply)
        buffer_deinit(reply);
    if (reply)
        *reply = (struct buffer){.count_max = reply->count_max};

    grpc_byte_buffer *given = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return given;
}

// --- metadata

size_t rpc_core_metadata(const grpc_metadata_array *array, const char *key, struct bytes *value)
{
    assert(array);
    assert(key);
    assert(value);

    size_t found = 0;
    for (size_t i = 0; i < array->count; i++) {
        const grpc_metadata *entry = &array->metadata[i];
        if (grpc_slice_str_cmp(entry->key, key) == 0 && found++ == 0)
            *value =
                (struct bytes){GRPC_SLICE_START_PTR(entry->value), GRPC_SLICE_LENGTH(entry->value)};
    }
    return found;
}

grpc_metadata rpc_core_entry(const char *key, const void *value, size_t bytes)
{
    assert(key);
    assert(value || bytes == 0);

    grpc_metadata entry;
    memset(&entry, 0, sizeof(entry));
    entry.key = grpc_slice_from_static_string(key);
    entry.value = grpc_slice_from_copied_buffer(value, bytes);
    return entry;
}

void rpc_core_entry_deinit(grpc_metadata *entry)
{
    assert(entry);

    grpc_slice_unref(entry->key);
    grpc_slice_unref(entry->value);
}

bool rpc_core_is_request_id(struct text id)
{
    if (id.bytes < 1 || id.bytes > REQUEST_ID_BYTES_MAX)
        return false;
    for (size_t i = 0; i < id.bytes; i++)
        if (id.data[i] <= ' ' || id.data[i] > '~')
            return false;
    return true;
}

// --- times

gpr_timespec rpc_core_timespec(int64_t deadline_us)
{
    if (deadline_us == DEADLINE_NONE)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);

    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_micros(clock_left_us(deadline_us), GPR_TIMESPAN));
}

int64_t rpc_core_deadline_us(gpr_timespec timespec)
{
    if (gpr_time_cmp(timespec, gpr_inf_future(timespec.clock_type)) == 0)
        return DEADLINE_NONE;

    gpr_timespec left = gpr_time_sub(timespec, gpr_now(timespec.clock_type));
    if (left.tv_sec >= FAR_US / US_PER_SECOND)
        return DEADLINE_NONE;
    if (left.tv_sec < 0)
        return clock_now_us();
    return clock_deadline_in_us(left.tv_sec * US_PER_SECOND + left.tv_nsec / NS_PER_US);
}
