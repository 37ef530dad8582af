// SPDX-License-Identifier: Apache-2.0
// One stream of Export says which records pass; what each of its messages holds is changed by one
// call before the next message is read. So a batch at a time is held whatever the number of
// matches, and since an export is of one moment, the changes do not move what is still to come.
//
// Records that are so already are not written again: an interrupted run is repeated at the cost of
// reading.

#include "tools/matching.h"

#include <inttypes.h>
#include <stdio.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/answers.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/verbs.h"

#define STATE_BYTES 32

struct matching {
    const struct options *options;
    const struct matching_words *words;
    struct client *client; // for the calls; another one has the stream open
    char pin[MEMORIES_PIN_BYTES];
    uint64_t ids[GET_RECORDS_MAX]; // of the batch, those to be changed
    uint64_t matched;
    uint64_t already; // of these; the rest was changed, failed, or had gone meanwhile
    uint64_t changed;
    uint64_t failed;
    int exit_status;
    struct output_progress progress;
};

static bool is_already(const struct matching *matching, const struct api_record *record)
{
    return (matching->words->method == API_MEMORY_HIDE && record->hidden) ||
           (matching->words->method == API_MEMORY_UNHIDE && !record->hidden);
}

// Hides, shows or deletes the first `count` of the ids.
static enum status call(struct matching *matching, size_t count, struct arena *arena,
                        struct api_delete_reply *out, struct reason *why)
{
    const struct api_delete_request request = {
        .memory = text_of(matching->pin), .ids = matching->ids, .id_count = count};
    struct buffer message = {0};
    struct buffer reply = {0};
    enum status status = api_encode_delete_request(&request, &message);
    if (status)
        (void)reason_set(why, status, NULL, "the request cannot be made: %s", status_text(status));
    else
        status = client_call(matching->client, matching->words->method,
                             (struct bytes){message.data, message.count}, &reply, why);
    if (!status)
        status = api_decode_delete_reply((struct bytes){reply.data, reply.count}, arena, out, why);
    buffer_deinit(&reply);
    buffer_deinit(&message);
    return status;
}

// A line for each record of the batch; the missing ids stand in the order of the records.
static enum status tell_records(const struct matching *matching,
                                const struct api_export_reply *batch,
                                const struct api_delete_reply *reply)
{
    const struct matching_words *words = matching->words;
    const bool is_rehearsal = matching->options->dry_run;
    size_t missing = 0;
    enum status status = STATUS_OK;
    char would[STATE_BYTES];
    (void)snprintf(would, sizeof(would), "would be %s", words->done);
    for (size_t i = 0; i < batch->count && !status; i++) {
        const struct api_record *record = &batch->records[i];
        const char *state = is_rehearsal ? would : words->done;
        if (is_already(matching, record)) {
            state = words->already;
        } else if (missing < reply->missing_id_count && reply->missing_ids[missing] == record->id) {
            state = "missing";
            missing++;
        }
        status = answers_show_record(matching->options, record->key.data, record->id, state);
    }
    return status;
}

// A batch that failed: whether the work goes on.
static enum status tell_failure(struct matching *matching, const struct api_export_reply *batch,
                                size_t count, enum status status, struct reason *why)
{
    const int exit_status = output_exit(status);
    struct reason inner = *why;
    matching->failed += count;
    (void)reason_set(why, status, NULL, "%zu records, the first '%s': %s", count,
                     batch->records[0].key.data, inner.text);
    if (!matching->options->keep_going)
        return status;
    output_error(matching->pin, why);
    *why = (struct reason){.text = ""};
    if (exit_status > matching->exit_status)
        matching->exit_status = exit_status;
    return STATUS_OK;
}

static enum status take_batch(void *context, const struct api_export_reply *batch,
                              struct reason *why)
{
    struct matching *matching = context;
    size_t count = 0;
    memories_pin(&(struct api_memory_info){.name = batch->memory, .generation = batch->generation},
                 matching->pin);
    matching->matched += batch->count;
    for (size_t i = 0; i < batch->count; i++) {
        if (!is_already(matching, &batch->records[i]))
            matching->ids[count++] = batch->records[i].id;
    }
    matching->already += batch->count - count;

    struct arena *arena = arena_create(MEMORIES_ARENA_BYTES);
    struct api_delete_reply reply = {.deleted = 0};
    enum status status = STATUS_OK;
    if (count > 0 && !matching->options->dry_run)
        status = call(matching, count, arena, &reply, why);
    matching->changed += reply.deleted;
    if (status)
        status = tell_failure(matching, batch, count, status, why);
    else if (matching->options->json || matching->options->dry_run)
        status = tell_records(matching, batch, &reply);
    output_progress_update(&matching->progress, matching->matched, matching->failed);
    arena_destroy(&arena);
    return status;
}

// {"memory","matched","changed","failed"}, or a line for people.
static enum status tell_sums(const struct matching *matching)
{
    const bool is_rehearsal = matching->options->dry_run;
    char figure[OUTPUT_FIGURE_BYTES];
    if (!matching->options->json && matching->matched == 0) {
        printf("%s: no record matches the filter; nothing to do\n", matching->pin);
        return STATUS_OK;
    }
    if (!matching->options->json) {
        const uint64_t count =
            is_rehearsal ? matching->matched - matching->already : matching->changed;
        printf("%s: %s records match", matching->pin, output_count(matching->matched, figure));
        printf("; %s %s%s", output_count(count, figure), is_rehearsal ? "would be " : "",
               matching->words->done);
        if (matching->already > 0)
            printf(", %s were so before", output_count(matching->already, figure));
        if (matching->failed > 0)
            printf(", %s failed", output_count(matching->failed, figure));
        putchar('\n');
        return STATUS_OK;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "memory");
    json_put_cstr(&writer, matching->pin);
    json_name(&writer, "matched");
    json_put_uint(&writer, matching->matched);
    json_name(&writer, "changed");
    json_put_uint(&writer, matching->changed);
    json_name(&writer, "failed");
    json_put_uint(&writer, matching->failed);
    json_end_object(&writer);
    const enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

static int change_all(struct matching *matching, const struct api_filter *filter,
                      struct client *reader)
{
    const struct api_export_request request = {
        .memory = text_of(matching->options->items.items[0]),
        .fields = 1u << API_FIELD_KEY,
        .filter = *filter,
    };
    struct reason why = {.text = ""};
    char figure[OUTPUT_FIGURE_BYTES];
    enum status status = client_share(reader, &matching->client, &why);
    output_progress_begin(&matching->progress, "records", 0);
    if (!status)
        status = memories_export(reader, &request, take_batch, matching, &why);
    client_close(&matching->client);
    output_progress_end(&matching->progress);
    if (!status)
        return tell_sums(matching) ? VERBS_FAILED : matching->exit_status;
    if (why.text[0]) // else stdout is broken, which has been told
        output_error(matching->pin[0] ? matching->pin : NULL, &why);
    if (matching->changed > 0)
        output_note("%s records were %s before that; the same command goes on",
                    output_count(matching->changed, figure), matching->words->done);
    return output_exit(status);
}

int matching_change(const struct options *options, const struct matching_words *words,
                    const struct api_filter *filter, struct client *client)
{
    struct matching *matching = mem_alloc(sizeof(*matching));
    matching->options = options;
    matching->words = words;
    const int exit_status = change_all(matching, filter, client);
    mem_free(matching);
    return exit_status;
}
