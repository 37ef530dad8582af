// SPDX-License-Identifier: Apache-2.0
// The places are tried one after the other; "is not there" is told from "cannot be used" by the
// status alone.

#include "coordinator/trained_head.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "shaders/models/fusion_gate.h"

// A head whose gate cannot be used is told when it is opened, with its file.
static enum status open_with_gate(const struct trained_head_params *params, const char *path,
                                  struct fusion_head **head, struct reason *why)
{
    struct fusion_gate ignored;
    const enum status status = fusion_head_open(path, params->space, params->threads, head, why);
    if (status != STATUS_OK || fusion_head_info(*head)->gate.bytes == 0)
        return status;
    const enum status parsed = fusion_gate_parse(fusion_head_info(*head)->gate, &ignored, why);
    if (parsed != STATUS_OK)
        fusion_head_close(head);
    return parsed == STATUS_INVALID ? STATUS_CORRUPT : parsed;
}

static enum status open_file(const struct trained_head_params *params, const char *path,
                             struct fusion_head **head, struct reason *why)
{
    struct reason inner = {.text = ""};
    const enum status status = open_with_gate(params, path, head, &inner);
    return status == STATUS_OK ? status
                               : reason_set(why, status, "head", "'%s': %s%s%s", path, inner.field,
                                            inner.field[0] ? ": " : "", inner.text);
}

// STATUS_OK with *head NULL when no file is there.
static enum status open_if_there(const struct trained_head_params *params, const char *path,
                                 struct fusion_head **head, struct reason *why)
{
    const enum status status = open_file(params, path, head, why);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

// The first that is there; its path is left in `path`.
static enum status find(const struct trained_head_params *params, char path[PATH_MAX],
                        struct fusion_head **head, struct reason *why)
{
    enum status status = STATUS_OK;
    if (params->file) {
        (void)snprintf(path, PATH_MAX, "%s", params->file);
        return open_file(params, params->file, head, why);
    }
    if (params->data) {
        (void)snprintf(path, PATH_MAX, "%s/heads/%.*s.safetensors", params->data,
                       (int)strcspn(params->space, ":"), params->space);
        status = open_if_there(params, path, head, why);
    }
    if (status == STATUS_OK && !*head && params->model) {
        (void)snprintf(path, PATH_MAX, "%s/head.safetensors", params->model);
        status = open_if_there(params, path, head, why);
    }
    if (status == STATUS_OK && !*head && !params->model) {
        (void)snprintf(path, PATH_MAX, "%s", TRAINED_HEAD_EMBEDDED);
        status = fusion_head_open_bytes(fusion_head_embedded(), params->space, params->threads,
                                        head, why);
    }
    return status;
}

static void put_as_utf8(const char *path, char out[TRAINED_HEAD_FILE_BYTES])
{
    const size_t bytes = strlen(path);
    size_t at = 0;
    while (at < bytes && at < TRAINED_HEAD_FILE_BYTES - 4) {
        const size_t step = bytes_utf8_step(path + at, bytes - at);
        memcpy(out + at, step ? path + at : "?", step ? step : 1);
        at += step ? step : 1;
    }
    out[at] = 0;
}

enum status trained_head_open(const struct trained_head_params *params, struct fusion_head **head,
                              char file[TRAINED_HEAD_FILE_BYTES], struct reason *why)
{
    assert(params && params->space && head);

    char path[PATH_MAX] = "";
    *head = NULL;
    const enum status status = find(params, path, head, why);
    if (file)
        put_as_utf8(*head ? path : "", file);
    return status;
}
