// SPDX-License-Identifier: Apache-2.0
// query_end.c - how a query ends: with its answer, as plain CLIP or with an error; and what was not
// had on the way there.
//
// What goes missing is written down at once, one line each, since the answer, the reason of plain
// CLIP and the error all tell it.

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/query_internal.h"

void query_degrade(struct query *query, const char *format, ...)
{
    struct query_result *result = &query->result;
    if (result->degraded_count == QUERY_DEGRADED_MAX)
        return;
    char text[QUERY_TEXT_BYTES] = {0};
    va_list arguments;
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it is, in the line above
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    struct reason clean; // what a node said is made fit to be shown
    (void)reason_set(&clean, STATUS_OK, NULL, "%s", text);
    size_t count = strlen(clean.text);
    char *copy = arena_copy_text(query->arena, clean.text, count);
    if (copy)
        result->degraded[result->degraded_count++] = (struct text){copy, count};
}

void query_lose_node(struct query *query, uint32_t node, enum status status, struct text text)
{
    struct query_node *lost = &query->nodes[node];
    lost->answered = false;
    query->losses++;
    enum telemetry_degraded reason = TELEMETRY_NODE_FAILED;
    if (status == STATUS_DEADLINE)
        reason = TELEMETRY_NODE_LATE;
    else if (status == STATUS_UNAVAILABLE)
        reason = TELEMETRY_NODE_DOWN;
    telemetry_degraded(query->params.backend->telemetry, reason);
    if (status == STATUS_DEADLINE)
        query_degrade(query, "node %u did not answer within the deadline (%.0f ms left)", node,
                      (double)lost->left_us / 1000);
    else if (status == STATUS_UNAVAILABLE)
        query_degrade(query, "node %u is down", node);
    else
        query_degrade(query, "node %u: %s%s%.*s", node, status_text(status),
                      text.bytes > 0 ? ": " : "", (int)text.bytes, text.data ? text.data : "");
}

void query_finish(struct query *query)
{
    struct query_result *result = &query->result;
    timers_disarm(&query->params.backend->timers, &query->timer);
    query->state = QUERY_DONE;
    result->row_count = query->params.row_count;
    result->dimension = query->params.dimension;
    result->plain = query->plain;
    result->refined = query->refined;
    result->fuser = &query->question.fuser;
    result->hits = query->hits;
    result->hit_starts = query->hit_starts;
    result->selections = query->selections;
    result->documents = query->documents;
    result->timings.shard = result->shard_ms;
    if (result->status == STATUS_OK)
        telemetry_query(query->params.backend->telemetry, &result->timings, result->coverage);
    query->params.done(query->params.context);
}

void query_fail(struct query *query, enum status status, const struct reason *why)
{
    query->result.status = status;
    query->result.why = *why;
    query_finish(query);
}

// The reasons so far, in one line.
static void join_reasons(const struct query *query, char *text, size_t room)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < query->result.degraded_count && used + 1 < room; i++) {
        struct text line = query->result.degraded[i];
        int bytes = snprintf(text + used, room - used, "%s%.*s", i > 0 ? "; " : "", (int)line.bytes,
                             line.data);
        used += bytes < 0 ? 0 : (size_t)bytes;
    }
}

void query_answer_plain(struct query *query)
{
    char reasons[FUSER_REASON_BYTES - sizeof("plain CLIP: ")];
    uint32_t rows = query->params.row_count;
    join_reasons(query, reasons, sizeof(reasons));
    memset(query->hit_starts, 0, ((size_t)rows + 1) * sizeof(query->hit_starts[0]));
    memcpy(query->refined, query->plain,
           (size_t)rows * query->params.dimension * sizeof(query->plain[0]));
    for (uint32_t row = 0; row < rows; row++) {
        struct fuser_result *selection = &query->selections[row];
        selection->count = 0;
        selection->gate = 0;
        (void)snprintf(selection->reason, sizeof(selection->reason), "plain CLIP: %s", reasons);
    }
    query_finish(query);
}

void query_fail_coverage(struct query *query)
{
    char reasons[REASON_TEXT_BYTES / 2];
    struct reason why = {0};
    join_reasons(query, reasons, sizeof(reasons));
    (void)reason_set(&why, STATUS_UNAVAILABLE, NULL, "coverage %.3f is below min_coverage %.3f: %s",
                     (double)query->result.coverage, (double)query->question.min_coverage, reasons);
    query_fail(query, STATUS_UNAVAILABLE, &why);
}

void query_go_without(struct query *query, enum status status)
{
    char reasons[REASON_TEXT_BYTES / 2];
    struct reason why = {0};
    query->result.coverage = 0;
    query->result.records = 0;
    query->result.work = (struct api_work){0};
    join_reasons(query, reasons, sizeof(reasons));
    if (query->params.needs_neighbours)
        query_fail(query, reason_set(&why, status, NULL, "no shard answered: %s", reasons), &why);
    else if (query->question.min_coverage > 0)
        query_fail_coverage(query);
    else
        query_answer_plain(query);
}
