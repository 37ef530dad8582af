// SPDX-License-Identifier: Apache-2.0
// Goal: a caller's trace goes on when its traceparent is one by the rules of W3C Trace Context, and
// a new one begins otherwise; every hop has a span of its own; log lines name their request.
//
// Method: the rules one by one, each with the value that just breaks it; stderr led into a pipe.

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/trace.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"
#define GOOD "00-" TRACE "-" SPAN "-01"

static const char *told(const struct trace *trace)
{
    static char room[TRACE_PARENT_BYTES + 1];
    cr_assert(eq(sz, trace_parent(trace, room).bytes, TRACE_PARENT_BYTES));
    return room;
}

static bool goes_on(const char *parent)
{
    struct trace trace = {.id = "r"};
    bool is_same = trace_begin(&trace, text_of(parent));
    cr_expect(trace_is_begun(&trace));
    cr_expect(strcmp(trace.id, "r") == 0);
    cr_expect(is_same == (strncmp(told(&trace) + 3, TRACE, strlen(TRACE)) == 0), "%s", parent);
    cr_expect(strstr(told(&trace), SPAN) == NULL, "%s", parent); // this hop is another one
    return is_same;
}

Test(trace, a_valid_traceparent_goes_on_with_a_new_span)
{
    struct trace first = {.id = ""};
    struct trace second = {.id = ""};
    cr_expect(trace_begin(&first, text_of(GOOD)));
    cr_expect(eq(u64, first.high, 0x0af7651916cd43dd));
    cr_expect(eq(u64, first.low, 0x8448eb211c80319c));
    cr_expect(strncmp(told(&first), "00-" TRACE "-", 36) == 0);
    cr_expect(strcmp(told(&first) + 52, "-01") == 0);
    cr_expect(trace_begin(&second, text_of(told(&first))));
    cr_expect(first.span != second.span);
    cr_expect(trace_begin(&second, text_of("00-" TRACE "-" SPAN "-00")));
    cr_expect(strcmp(told(&second) + 52, "-00") == 0);
    // Bits without a meaning in version 00 are not told on.
    cr_expect(trace_begin(&second, text_of("00-" TRACE "-" SPAN "-fe")));
    cr_expect(strcmp(told(&second) + 52, "-00") == 0);
    cr_expect(trace_begin(&second, text_of("00-" TRACE "-" SPAN "-ff")));
    cr_expect(strcmp(told(&second) + 52, "-01") == 0);
}

Test(trace, one_half_of_the_trace_id_may_be_zeros)
{
    cr_expect(not(goes_on("00-00000000000000008448eb211c80319c-" SPAN "-0")));
    struct trace trace = {.id = ""};
    cr_expect(trace_begin(&trace, text_of("00-00000000000000008448eb211c80319c-" SPAN "-01")));
    cr_expect(trace_begin(&trace, text_of("00-8448eb211c80319c0000000000000000-" SPAN "-01")));
}

Test(trace, a_later_version_may_be_longer)
{
    cr_expect(goes_on("01-" TRACE "-" SPAN "-01"));
    cr_expect(goes_on("fe-" TRACE "-" SPAN "-01-and.what=ever it is"));
    cr_expect(goes_on("cc-" TRACE "-" SPAN "-01-"));
    cr_expect(not(goes_on("cc-" TRACE "-" SPAN "-01x")));
    cr_expect(not(goes_on("cc-" TRACE "-" SPAN "-01.what")));
}

Test(trace, what_is_no_traceparent_begins_a_new_trace)
{
    static const char *const bad[] = {
        "",
        "-",
        "00",
        "00-" TRACE "-" SPAN "-0",
        "00-" TRACE "-" SPAN "-011",
        "00-" TRACE "-" SPAN "-01-",
        "00-" TRACE "-" SPAN "-01-more",
        " 00-" TRACE "-" SPAN "-01",
        "00-" TRACE "-" SPAN "-01 ",
        "ff-" TRACE "-" SPAN "-01",
        "0x-" TRACE "-" SPAN "-01",
        "FE-" TRACE "-" SPAN "-01",
        "00-00000000000000000000000000000000-" SPAN "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01",
        "00-" TRACE "-B7AD6B7169203331-01",
        "00-" TRACE "-" SPAN "-0A",
        "00-" TRACE "-" SPAN "-g0",
        "00_" TRACE "-" SPAN "-01",
        "00-" TRACE "_" SPAN "-01",
        "00-" TRACE "-" SPAN "_01",
        "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
        "00-\xc3\xa9"
        "f7651916cd43dd8448eb211c80319c-" SPAN "-01",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect(not(goes_on(bad[i])), "%s", bad[i]);
    struct trace trace = {.id = ""};
    cr_expect(not(trace_begin(&trace, (struct text){NULL, 0})));
    cr_expect(not(trace_begin(&trace, (struct text){GOOD "\0x", TRACE_PARENT_BYTES + 2})));
}

Test(trace, new_traces_and_spans_are_never_the_same)
{
    struct trace before = {.id = ""};
    for (int i = 0; i < 1000; i++) {
        struct trace trace = {.id = ""};
        cr_assert(not(trace_begin(&trace, (struct text){NULL, 0})));
        cr_expect(trace.high != before.high);
        cr_expect(trace.low != before.low);
        cr_expect(trace.span != before.span);
        cr_expect(trace.span != 0);
        cr_expect(not(trace.sampled));
        before = trace;
    }
}

Test(trace, an_id_is_text_and_is_cut)
{
    char longest[REQUEST_ID_BYTES_MAX + 9];
    memset(longest, 'x', sizeof(longest));
    struct trace trace = {.id = "old"};
    cr_expect(trace_set_id(&trace, (struct text){longest, sizeof(longest)}));
    cr_expect(eq(sz, strlen(trace.id), REQUEST_ID_BYTES_MAX));
    cr_expect(trace_set_id(&trace, text_of("short")));
    cr_expect(strcmp(trace.id, "short") == 0);
    cr_expect(not(trace_set_id(&trace, text_of("\xff"))));
    cr_expect(strcmp(trace.id, "") == 0);
}

Test(trace, nothing_is_told_without_a_trace)
{
    char room[TRACE_PARENT_BYTES + 1];
    char words[TRACE_WORDS_BYTES];
    struct trace trace = {.id = ""};
    cr_expect(eq(sz, trace_parent(&trace, room).bytes, 0));
    cr_expect(strcmp(trace_words(&trace, words), "") == 0);
    (void)trace_set_id(&trace, text_of("a \"b\""));
    cr_expect(strcmp(trace_words(&trace, words), "id=\"a \\\"b\\\"\"") == 0);
}

// What was logged by `write_lines`, as one text.
static const char *logged(void (*write_lines)(const struct trace *trace), const struct trace *trace)
{
    static char text[65536];
    int ends[2];
    cr_assert(eq(int, pipe(ends), 0));
    int saved = dup(STDERR_FILENO);
    cr_assert(ge(int, dup2(ends[1], STDERR_FILENO), 0));
    write_lines(trace);
    cr_assert(ge(int, dup2(saved, STDERR_FILENO), 0));
    (void)close(ends[1]);
    (void)close(saved);
    size_t count = 0;
    ssize_t got = 0;
    while ((got = read(ends[0], text + count, sizeof(text) - 1 - count)) > 0)
        count += (size_t)got;
    (void)close(ends[0]);
    text[count] = '\0';
    return text;
}

static void write_two(const struct trace *trace)
{
    struct trace copy = *trace;
    trace_follow(&copy);
    memset(&copy, 0, sizeof(copy)); // it was copied
    log_info("deep", "slot=%d", 7);
    log_debug("hidden", "slot=%d", 8);
    log_info("bare", "%s", "");
    trace_follow(NULL);
    trace_line(trace, LOG_WARN, "own", "n=%d", 1);
    log_info("nobody", "n=%d", 2);
}

Test(trace, the_lines_of_a_thread_name_the_request_that_it_follows)
{
    struct trace trace = {.id = "req-1"};
    char end[TRACE_WORDS_BYTES + 32];
    char words[TRACE_WORDS_BYTES];
    cr_assert(trace_begin(&trace, text_of(GOOD)));
    (void)snprintf(end, sizeof(end), " deep slot=7 %s\n", trace_words(&trace, words));
    cr_expect(strstr(words, "id=\"req-1\" trace=" TRACE " span=") != NULL);
    const char *text = logged(write_two, &trace);
    cr_expect(strstr(text, end) != NULL, "%s", text);
    (void)snprintf(end, sizeof(end), " warn own n=1 %s\n", words);
    cr_expect(strstr(text, end) != NULL, "%s", text);
    cr_expect(strstr(text, " nobody n=2\n") != NULL, "%s", text);
    cr_expect(strstr(text, "hidden") == NULL);
}

static void write_long(const struct trace *trace)
{
    static char text[6000];
    memset(text, 'x', sizeof(text) - 1);
    trace_line(trace, LOG_INFO, "long", "text=%s", text);
}

Test(trace, a_line_that_is_cut_keeps_its_request)
{
    struct trace trace = {.id = ""};
    char id[REQUEST_ID_BYTES_MAX + 1] = "";
    memset(id, '\x01', REQUEST_ID_BYTES_MAX); // six bytes each, quoted
    (void)trace_set_id(&trace, text_of(id));
    cr_assert(trace_begin(&trace, text_of(GOOD)));
    char words[TRACE_WORDS_BYTES];
    const char *text = logged(write_long, &trace);
    cr_expect(le(sz, strlen(text), 4096));
    cr_expect(strstr(text, trace_words(&trace, words)) != NULL);
    cr_expect(eq(chr, text[strlen(text) - 1], '\n'));
}

Test(trace, a_failed_or_slow_end_is_told_without_debug)
{
    cr_expect(eq(int, trace_level(STATUS_OK, TRACE_SLOW_US - 1), LOG_DEBUG));
    cr_expect(eq(int, trace_level(STATUS_OK, TRACE_SLOW_US), LOG_INFO));
    cr_expect(eq(int, trace_level(STATUS_INVALID, 0), LOG_INFO));
    cr_expect(eq(int, trace_level(STATUS_UNAVAILABLE, 0), LOG_INFO));
    cr_expect(eq(int, trace_level(STATUS_CANCELLED, 0), LOG_DEBUG));
    cr_expect(eq(int, trace_level(STATUS_INTERNAL, 0), LOG_WARN));
    cr_expect(eq(int, trace_level(STATUS_CORRUPT, 0), LOG_WARN));
}
