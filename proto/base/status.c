// SPDX-License-Identifier: Apache-2.0
// status.c - the functions over STATUS_TABLE.
//
// Each walks the table by X-macro, so that a line appended there needs no
// change here.

#include "proto/base/status.h"

#include <stddef.h>
#include <string.h>

struct status_line {
    uint32_t number;
    int grpc_code;
    const char *name;
    const char *text;
};

#define STATUS_LINE(name, number, grpc, text) {(number), (grpc), #name, (text)},
static const struct status_line status_lines[] = {STATUS_TABLE(STATUS_LINE)};
#undef STATUS_LINE

#define STATUS_LINE_COUNT (sizeof(status_lines) / sizeof(status_lines[0]))
#define GRPC_UNKNOWN 2

static const struct status_line *line_of(uint32_t number)
{
    for (size_t i = 0; i < STATUS_LINE_COUNT; i++) {
        if (status_lines[i].number == number)
            return &status_lines[i];
    }
    return NULL;
}

const char *status_text(enum status status)
{
    const struct status_line *line = line_of((uint32_t)status);
    return line ? line->text : "unknown status";
}

int status_grpc_code(enum status status)
{
    const struct status_line *line = line_of((uint32_t)status);
    return line ? line->grpc_code : GRPC_UNKNOWN;
}

const char *status_name(enum status status)
{
    const struct status_line *line = line_of((uint32_t)status);
    return line ? line->name : "UNKNOWN";
}

bool status_named(const char *name, size_t bytes, int grpc_code, enum status *out)
{
    for (size_t i = 0; i < STATUS_LINE_COUNT; i++) {
        const struct status_line *line = &status_lines[i];
        if (line->grpc_code == grpc_code && strlen(line->name) == bytes &&
            memcmp(line->name, name, bytes) == 0) {
            *out = (enum status)line->number;
            return true;
        }
    }
    return false;
}

// Two lines may share a gRPC code; the first of them answers.
enum status status_from_grpc_code(int code)
{
    for (size_t i = 0; i < STATUS_LINE_COUNT; i++) {
        if (status_lines[i].grpc_code == code)
            return (enum status)status_lines[i].number;
    }
    return STATUS_INTERNAL;
}

bool status_is_known(uint32_t number)
{
    return line_of(number) != NULL;
}
