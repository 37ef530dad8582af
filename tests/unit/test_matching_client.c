// SPDX-License-Identifier: Apache-2.0
// Goal: what a filter lets through is changed batch by batch in the generation that was read, what
// is so already is not written again, and what failed or had gone is told and counted.
//
// Method: a client that plays Export from a list of messages and takes the changes down, with one
// answer of each kind; what is printed goes to files.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/mem.h"
#include "tools/client_internal.h"
#include "tools/matching.h"
#include "tools/output.h"
#include "tools/verbs.h"

#define BATCHES 3
#define BATCH 4
#define PRINTED_BYTES 4096

// The other side: records 10..13, 20..23, 30..33, of which the odd ones are hidden.
static struct {
    size_t batch_count;
    size_t read;         // messages that were read
    size_t stream_fails; // reading this one fails; 0: none
    size_t call_fails;   // this call fails; 0: none
    uint64_t gone;       // there is no such record any more
    size_t calls;        // that came
    uint64_t changed[BATCHES * BATCH];
    size_t changed_count;
    bool is_shared; // the second handle
} other;

static struct {
    int exit_status;
    char out[PRINTED_BYTES];
    char err[PRINTED_BYTES];
} seen;

static enum status play_call(struct client *client, enum api_method method, struct bytes request,
                             struct buffer *reply, struct reason *why)
{
    (void)client;
    (void)method;
    struct arena *arena = arena_create((size_t)1 << 20);
    struct api_delete_request asked;
    cr_assert(eq(int, api_decode_delete_request(request, arena, &asked, why), STATUS_OK));
    cr_expect(text_equal(asked.memory, text_of("m@7")), "not the generation that was read");
    cr_expect(eq(sz, asked.key_count, 0));
    other.calls++;
    enum status status = STATUS_OK;
    if (other.calls == other.call_fails)
        status = reason_set(why, STATUS_UNAVAILABLE, NULL, "node 1 is down");
    struct api_delete_reply answer = {.missing_ids = &other.gone};
    for (size_t i = 0; !status && i < asked.id_count; i++) {
        if (asked.ids[i] == other.gone)
            answer.missing_id_count = 1;
        else
            other.changed[other.changed_count++] = asked.ids[i];
    }
    answer.deleted = asked.id_count - answer.missing_id_count;
    reply->count = 0;
    if (!status)
        status = api_encode_delete_reply(&answer, reply);
    arena_destroy(&arena);
    return status;
}

static enum status play_open(struct client *client, enum api_method method, void **out,
                             struct reason *why)
{
    (void)why;
    cr_expect(eq(int, (int)method, (int)API_MEMORY_EXPORT));
    *out = client;
    return STATUS_OK;
}

static enum status play_send(void *stream, struct bytes message)
{
    (void)stream;
    struct arena *arena = arena_create((size_t)1 << 20);
    struct api_export_request asked;
    struct reason why;
    cr_assert(eq(int, api_decode_export_request(message, arena, &asked, &why), STATUS_OK));
    cr_expect(eq(u32, asked.fields, 1u << API_FIELD_KEY));
    cr_expect(eq(sz, asked.filter.all_count, 1));
    arena_destroy(&arena);
    return STATUS_OK;
}

static void play_close_stream(void *stream)
{
    (void)stream;
}

static enum status play_receive(void *stream, struct buffer *message, bool *ended)
{
    (void)stream;
    struct api_record records[BATCH] = {{.id = 0}};
    char keys[BATCH][8];
    *ended = other.read > 0 && other.read >= other.batch_count;
    if (*ended)
        return STATUS_OK;
    other.read++;
    if (other.read == other.stream_fails)
        return STATUS_UNAVAILABLE;
    for (size_t i = 0; i < BATCH; i++) {
        records[i].id = 10 * other.read + i;
        records[i].hidden = i % 2 == 1;
        (void)snprintf(keys[i], sizeof(keys[i]), "k%zu", 10 * other.read + i);
        records[i].key = text_of(keys[i]);
    }
    const struct api_export_reply reply = {.memory = text_of("m"),
                                           .generation = 7,
                                           .space = text_of("s:4"),
                                           .dimension = 4,
                                           .records = records,
                                           .count = other.batch_count > 0 ? BATCH : 0};
    message->count = 0;
    return api_encode_export_reply(&reply, message);
}

static enum status play_finish(void **stream, struct buffer *reply, struct reason *why)
{
    (void)reply;
    (void)why;
    *stream = NULL;
    return STATUS_OK;
}

static enum status play_share(struct client *client, struct client **out, struct reason *why);

static void play_close(struct client *client)
{
    (void)client;
    other.is_shared = false;
}

static const struct client_calls play = {
    .call = play_call,
    .stream_open = play_open,
    .stream_send = play_send,
    .stream_close = play_close_stream,
    .stream_receive = play_receive,
    .stream_finish = play_finish,
    .share = play_share,
    .close = play_close,
};
static struct client first = {.calls = &play, .name = "there"};
static struct client second = {.calls = &play, .name = "there"};

static enum status play_share(struct client *client, struct client **out, struct reason *why)
{
    (void)why;
    cr_expect(eq(ptr, client, &first));
    other.is_shared = true;
    *out = &second;
    return STATUS_OK;
}

static void read_back(FILE *file, char out[PRINTED_BYTES])
{
    rewind(file);
    const size_t bytes = fread(out, 1, PRINTED_BYTES - 1, file);
    out[bytes] = '\0';
    (void)fclose(file);
}

static void change(enum api_method method, bool json, bool dry_run, bool keep_going)
{
    static const char *name = "m";
    struct options options;
    options_init(&options);
    options.items = (struct args_list){.items = &name, .count = 1};
    options.json = json;
    options.dry_run = dry_run;
    options.keep_going = keep_going;
    const struct text tag = text_of("t");
    const struct api_filter filter = {.all_tags = &tag, .all_count = 1};
    const struct matching_words words = {method, method == API_MEMORY_DELETE ? "deleted" : "hidden",
                                         method == API_MEMORY_DELETE ? "deleted" : "was hidden"};
    FILE *files[2] = {tmpfile(), tmpfile()};
    int saved[2];
    (void)fflush(stdout);
    for (int i = 0; i < 2; i++) {
        saved[i] = dup(i + 1);
        cr_assert(files[i] != NULL && dup2(fileno(files[i]), i + 1) == i + 1);
    }
    output_begin("memory change", false, false);
    seen.exit_status = matching_change(&options, &words, &filter, &first);
    (void)fflush(stdout);
    for (int i = 0; i < 2; i++) {
        (void)dup2(saved[i], i + 1);
        (void)close(saved[i]);
    }
    read_back(files[0], seen.out);
    read_back(files[1], seen.err);
    cr_expect(not(other.is_shared), "the second handle stays open");
}

static void expect_words(const char *printed, const char *words)
{
    cr_expect(strstr(printed, words) != NULL, "'%s' lacks '%s'", printed, words);
}

static void expect_text(const char *printed, const char *text)
{
    cr_expect(strcmp(printed, text) == 0, "'%s' is not '%s'", printed, text);
}

Test(matching, every_match_is_deleted_in_batches_and_summed_up)
{
    other.batch_count = BATCHES;
    other.gone = 21;
    change(API_MEMORY_DELETE, true, false, false);
    cr_expect(eq(int, seen.exit_status, VERBS_DONE));
    cr_expect(eq(sz, other.calls, BATCHES));
    cr_expect(eq(sz, other.changed_count, BATCHES * BATCH - 1));
    cr_expect(eq(u64, other.changed[0], 10));
    cr_expect(eq(u64, other.changed[BATCHES * BATCH - 2], 33));
    expect_words(seen.out, "{\"key\":\"k20\",\"id\":20,\"status\":\"deleted\"}\n"
                           "{\"key\":\"k21\",\"id\":21,\"status\":\"missing\"}\n"
                           "{\"key\":\"k22\",\"id\":22,\"status\":\"deleted\"}\n");
    expect_words(seen.out, "{\"memory\":\"m@7\",\"matched\":12,\"changed\":11,\"failed\":0}\n");
}

Test(matching, what_is_hidden_is_not_hidden_again)
{
    other.batch_count = 1;
    change(API_MEMORY_HIDE, false, false, false);
    cr_expect(eq(int, seen.exit_status, VERBS_DONE));
    cr_expect(eq(sz, other.changed_count, 2));
    cr_expect(eq(u64, other.changed[1], 12));
    expect_text(seen.out, "m@7: 4 records match; 2 hidden, 2 were so before\n");
}

Test(matching, a_rehearsal_changes_nothing)
{
    other.batch_count = 1;
    change(API_MEMORY_HIDE, false, true, false);
    cr_expect(eq(int, seen.exit_status, VERBS_DONE));
    cr_expect(eq(sz, other.calls, 0));
    expect_text(seen.out,
                "k10 (10) would be hidden\nk11 (11) was hidden\nk12 (12) would be hidden\n"
                "k13 (13) was hidden\nm@7: 4 records match; 2 would be hidden, 2 were so before\n");
}

Test(matching, nothing_that_matches_is_said)
{
    change(API_MEMORY_DELETE, false, false, false);
    cr_expect(eq(int, seen.exit_status, VERBS_DONE));
    cr_expect(eq(sz, other.calls, 0));
    expect_text(seen.out, "m@7: no record matches the filter; nothing to do\n");
}

Test(matching, a_batch_that_fails_ends_the_work_and_what_was_done_is_told)
{
    other.batch_count = BATCHES;
    other.call_fails = 2;
    change(API_MEMORY_DELETE, false, false, false);
    cr_expect(eq(int, seen.exit_status, VERBS_UNAVAILABLE));
    cr_expect(eq(sz, other.calls, 2));
    cr_expect(eq(sz, other.read, 2));
    expect_text(seen.out, "");
    expect_words(seen.err, "m@7: 4 records, the first 'k20': node 1 is down\n");
    expect_words(seen.err, "4 records were deleted before that; the same command goes on\n");
}

Test(matching, keep_going_does_the_other_batches)
{
    other.batch_count = BATCHES;
    other.call_fails = 2;
    change(API_MEMORY_DELETE, true, false, true);
    cr_expect(eq(int, seen.exit_status, VERBS_UNAVAILABLE));
    cr_expect(eq(sz, other.calls, BATCHES));
    expect_words(seen.err, "m@7: 4 records, the first 'k20': node 1 is down\n");
    cr_expect(strstr(seen.out, "k20") == NULL, "told as if it were done");
    expect_words(seen.out, "{\"memory\":\"m@7\",\"matched\":12,\"changed\":8,\"failed\":4}\n");
}

Test(matching, a_stream_that_breaks_is_no_smaller_answer)
{
    other.batch_count = BATCHES;
    other.stream_fails = 3;
    change(API_MEMORY_DELETE, true, false, true);
    cr_expect(eq(int, seen.exit_status, VERBS_UNAVAILABLE));
    cr_expect(strstr(seen.out, "matched") == NULL, "summed up as if it were all");
    expect_words(seen.err, "8 records were deleted before that; the same command goes on\n");
}
