// SPDX-License-Identifier: Apache-2.0
// Goal: one event is one line that a program can read, whatever was quoted into
// it; deadlines neither overflow nor spin; the CPU is named.
//
// Method: stderr led into a pipe; hostile texts; times at the ends of int64_t.

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/bytes.h"
#include "proto/base/clock.h"
#include "proto/base/cpu.h"
#include "proto/base/log.h"

static int log_pipe[2];
static int saved_stderr;

static void begin_capture(void)
{
    cr_assert(eq(int, pipe(log_pipe), 0));
    saved_stderr = dup(STDERR_FILENO);
    cr_assert(ge(int, dup2(log_pipe[1], STDERR_FILENO), 0));
}

// What was logged since, as one text; the capture ends.
static const char *end_capture(void)
{
    static char text[65536];
    cr_assert(ge(int, dup2(saved_stderr, STDERR_FILENO), 0));
    (void)close(log_pipe[1]);
    size_t count = 0;
    ssize_t got;
    while ((got = read(log_pipe[0], text + count, sizeof(text) - 1 - count)) > 0)
        count += (size_t)got;
    (void)close(log_pipe[0]);
    text[count] = '\0';
    return text;
}

// The part behind the time.
static const char *behind_time(const char *line)
{
    cr_assert(ge(sz, strlen(line), CLOCK_TEXT_BYTES));
    cr_assert(eq(chr, line[CLOCK_TEXT_BYTES - 1], ' '));
    return line + CLOCK_TEXT_BYTES;
}

Test(log, a_line_has_time_level_event_and_pairs)
{
    begin_capture();
    log_info("node_ready", "port=%d name=%s", 7070, "\"n 1\"");
    const char *text = end_capture();
    cr_expect(eq(chr, text[10], 'T'));
    cr_expect(eq(chr, text[23], 'Z'));
    cr_expect_str_eq(behind_time(text), "info node_ready port=7070 name=\"n 1\"\n");
}

Test(log, lines_above_the_level_are_dropped)
{
    char expected[256] = "";
    begin_capture();
    log_debug("a", "x=1"); // dropped: the default is info
    log_set_level(LOG_DEBUG);
    log_debug("b", "x=1");
    log_set_level(LOG_ERROR);
    log_info("c", "x=1");
    log_warn("d", "x=1");
    log_error("e", "x=1");
    const char *text = end_capture();
    (void)snprintf(expected, sizeof(expected), "%.24s debug b x=1\n%.24s error e x=1\n", text,
                   text + strcspn(text, "\n") + 1);
    cr_expect_str_eq(text, expected);
}

Test(log, knows_its_levels_by_name)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    enum log_level level = LOG_WARN;
    for (int i = 0; i < 4; i++) {
        cr_expect(eq(int, log_level_parse(names[i], &level), STATUS_OK));
        cr_expect(eq(int, (int)level, i));
    }
    static const char *const bad[] = {"", "INFO", "warning", "debug ", NULL};
    for (int i = 0; i < 5; i++)
        cr_expect(eq(int, log_level_parse(bad[i], &level), STATUS_INVALID));
    cr_expect(eq(int, (int)level, LOG_DEBUG));
}

Test(log, an_unquoted_newline_does_not_begin_a_line)
{
    begin_capture();
    log_error("bad", "x=%s", "1\n2026-01-01T00:00:00.000Z error forged y\x1b[2J\xc2\x9bm");
    const char *text = end_capture();
    cr_expect(eq(sz, strcspn(text, "\n"), strlen(text) - 1));
    cr_expect(eq(ptr, strchr(text, 0x1b), NULL));
    cr_expect(eq(ptr, strstr(text, "\xc2\x9b"), NULL));
}

Test(log, a_long_line_is_cut_between_characters_and_still_ends)
{
    static char crabs[10000];
    for (size_t lead = 0; lead < 4; lead++) {
        memset(crabs, 'a', lead);
        for (size_t i = lead; i + 5 < sizeof(crabs); i += 4)
            memcpy(crabs + i, "\xf0\x9f\xa6\x80", 5);
        begin_capture();
        log_error("long", "x=%s", crabs);
        const char *text = end_capture();
        size_t count = strlen(text);
        cr_expect(le(sz, count, 4096));
        cr_expect(gt(sz, count, 4090));
        cr_expect(eq(chr, text[count - 1], '\n'));
        cr_expect(bytes_is_utf8(text, count));
    }
}

Test(log, leaves_errno_alone)
{
    begin_capture();
    (void)close(STDERR_FILENO);
    errno = EDOM;
    log_error("x", "y=1"); // fails, silently
    cr_expect(eq(int, errno, EDOM));
    (void)end_capture();
}

Test(log, quotes_what_would_break_a_value)
{
    char target[LOG_QUOTE_BYTES];
    cr_expect_str_eq(log_quote("plain", target), "\"plain\"");
    cr_expect(eq(ptr, (void *)log_quote("x", target), target));
    cr_expect_str_eq(log_quote("", target), "\"\"");
    cr_expect_str_eq(log_quote(NULL, target), "\"\"");
    cr_expect_str_eq(log_quote("a\"b\\c=d\n\r\t", target), "\"a\\\"b\\\\c=d\\n\\r\\t\"");
    cr_expect_str_eq(log_quote("\x01\x1b[0m\x7f\xc2\x9b|", target),
                     "\"\\u0001\\u001b[0m\\u007f\\u009b|\"");
    cr_expect_str_eq(log_quote("caf\xc3\xa9 \xff\xc3", target),
                     "\"caf\xc3\xa9 \xef\xbf\xbd\xef\xbf\xbd\"");
}

Test(log, a_quoted_text_is_cut_to_the_room)
{
    static const char *const pieces[] = {"a",    "\"",          "\x01", "\xf0\x9f\xa6\x80",
                                         "\xff", "ab\xc3\xa9\n"};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        char text[4 * LOG_QUOTE_BYTES] = "";
        for (size_t n = 0; n < 2 * LOG_QUOTE_BYTES && strlen(text) < 3 * LOG_QUOTE_BYTES; n++) {
            char target[LOG_QUOTE_BYTES];
            memset(target, 'x', sizeof(target));
            (void)log_quote(text, target);
            size_t count = strlen(target);
            cr_assert(lt(sz, count, LOG_QUOTE_BYTES));
            cr_assert(eq(chr, target[0], '"'));
            cr_assert(eq(chr, target[count - 1], '"'));
            cr_assert(bytes_is_utf8(target, count));
            // What is cut says so and uses the room.
            bool cut = count > 4 && strcmp(target + count - 4, "...\"") == 0;
            cr_assert(cut ? count > LOG_QUOTE_BYTES - 12 : count <= LOG_QUOTE_BYTES - 1);
            (void)strcat(text, pieces[i]);
        }
    }
    char exact[LOG_QUOTE_BYTES - 2]; // fits to the last byte
    memset(exact, 'a', sizeof(exact) - 1);
    exact[sizeof(exact) - 1] = '\0';
    char target[LOG_QUOTE_BYTES];
    cr_expect(eq(sz, strlen(log_quote(exact, target)), LOG_QUOTE_BYTES - 1));
    cr_expect(eq(ptr, strstr(target, "..."), NULL));
}

// --- time

Test(clock, goes_forward)
{
    int64_t before = clock_now_us();
    cr_expect(gt(i64, before, 0));
    cr_expect(ge(i64, clock_now_us(), before));
}

Test(clock, a_deadline_has_what_is_left_of_it)
{
    int64_t deadline = clock_deadline_in_us(60000000);
    cr_expect(not(clock_passed(deadline)));
    cr_expect(gt(i64, clock_left_us(deadline), 50000000));
    cr_expect(le(i64, clock_left_us(deadline), 60000000));

    int64_t past = clock_deadline_in_us(-1);
    cr_expect(clock_passed(past));
    cr_expect(eq(i64, clock_left_us(past), 0));
    cr_expect(clock_passed(clock_deadline_in_us(0)));
    cr_expect(clock_passed(INT64_MIN));
    cr_expect(eq(i64, clock_left_us(INT64_MIN), 0));
    cr_expect(clock_passed(clock_deadline_in_us(INT64_MIN)));
}

Test(clock, no_deadline_stays_none)
{
    cr_expect(eq(i64, clock_deadline_in_us(DEADLINE_NONE), DEADLINE_NONE));
    cr_expect(eq(i64, clock_deadline_in_us(DEADLINE_NONE - 1), DEADLINE_NONE));
    cr_expect(eq(i64, clock_left_us(DEADLINE_NONE), DEADLINE_NONE));
    cr_expect(not(clock_passed(DEADLINE_NONE)));
}

Test(clock, a_poll_time_is_rounded_up_and_limited)
{
    cr_expect(eq(int, clock_poll_ms(DEADLINE_NONE, 1000), 1000));
    cr_expect(eq(int, clock_poll_ms(DEADLINE_NONE, INT_MAX), INT_MAX));
    cr_expect(eq(int, clock_poll_ms(0, 1000), 0));
    cr_expect(eq(int, clock_poll_ms(clock_deadline_in_us(60000000), 1000), 1000));
    cr_expect(eq(int, clock_poll_ms(clock_deadline_in_us(60000000), 0), 0));
    int wait = clock_poll_ms(clock_deadline_in_us(3600000000), INT_MAX);
    cr_expect(gt(int, wait, 3590000));
    cr_expect(le(int, wait, 3600000));
    // Less than a millisecond left is no reason to spin.
    int64_t deadline = clock_deadline_in_us(900);
    int rest = clock_poll_ms(deadline, 1000);
    cr_expect(rest == 1 || clock_passed(deadline));
}

Test(clock, utc_text_is_the_time_now)
{
    char text[CLOCK_TEXT_BYTES];
    time_t before = time(NULL);
    clock_utc_text(text);
    time_t after = time(NULL);
    cr_assert(eq(sz, strlen(text), CLOCK_TEXT_BYTES - 1));

    struct tm read = {0};
    int ms = -1;
    cr_assert(eq(int,
                 sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &read.tm_year, &read.tm_mon,
                        &read.tm_mday, &read.tm_hour, &read.tm_min, &read.tm_sec, &ms),
                 7));
    read.tm_year -= 1900;
    read.tm_mon -= 1;
    time_t told = timegm(&read);
    cr_expect(told >= before && told <= after);
    cr_expect(ms >= 0 && ms <= 999);
}

// --- the CPU

Test(cpu, levels_have_names)
{
    cr_expect_str_eq(cpu_level_name(CPU_SCALAR), "scalar");
    cr_expect_str_eq(cpu_level_name(CPU_AVX2), "avx2");
    cr_expect_str_eq(cpu_level_name(CPU_AVX512), "avx512");
    cr_expect_str_eq(cpu_level_name(CPU_NEON), "neon");
}

Test(cpu, says_what_is_there)
{
    cr_expect(ge(int, cpu_count(), 1));
    cr_expect(gt(sz, strlen(cpu_model()), 0));
    cr_expect(ne(chr, cpu_model()[0], ' '));
    cr_expect(cpu_best() == CPU_AVX512 || !cpu_has_bf16());
    cr_expect(cpu_best() == CPU_SCALAR || cpu_best() == CPU_NEON || cpu_has_crc32c());
#if defined(__aarch64__)
    cr_expect(eq(int, (int)cpu_best(), CPU_NEON));
#else
    cr_expect(lt(int, (int)cpu_best(), CPU_NEON));
#endif
}

Test(cpu, has_the_levels_below_the_best_of_its_own_kind)
{
    cr_expect(cpu_has(CPU_SCALAR));
    cr_expect(cpu_has(cpu_best()));
    cr_expect(eq(int, cpu_has(CPU_AVX2), cpu_best() == CPU_AVX2 || cpu_best() == CPU_AVX512));
    cr_expect(eq(int, cpu_has(CPU_AVX512), cpu_best() == CPU_AVX512));
    cr_expect(eq(int, cpu_has(CPU_NEON), cpu_best() == CPU_NEON));
}

Test(cpu, the_environment_lowers_the_level)
{
    cr_assert(eq(int, setenv("RECO_CPU", "scalar", 1), 0));
    cr_expect(eq(int, (int)cpu_best(), CPU_SCALAR));
    cr_expect(not(cpu_has(CPU_AVX2)));
    cr_expect(not(cpu_has(CPU_NEON)));
    cr_expect(not(cpu_has_bf16()));
    cr_expect(not(cpu_has_crc32c()));
}

Test(cpu, the_environment_never_raises_the_level)
{
    cr_assert(eq(int, setenv("RECO_CPU", "avx512", 1), 0));
    cr_expect(eq(int, (int)cpu_best(), (int)cpu_hardware()));
    cr_expect(cpu_best() == CPU_AVX512 || !cpu_has_bf16());
    FILE *info = fopen("/proc/cpuinfo", "r");
    bool listed = false;
    char line[8192];
    while (info && fgets(line, sizeof(line), info))
        listed = listed || strstr(line, " avx512vl");
    if (info)
        (void)fclose(info);
    cr_expect(listed || !cpu_has(CPU_AVX512));
}

// A level of another kind of CPU is neither lower nor higher.
Test(cpu, the_environment_does_not_ask_for_another_kind_of_cpu)
{
#if defined(__aarch64__)
    cr_assert(eq(int, setenv("RECO_CPU", "avx2", 1), 0));
#else
    cr_assert(eq(int, setenv("RECO_CPU", "neon", 1), 0));
#endif
    cr_expect(eq(int, (int)cpu_best(), (int)cpu_hardware()));
}

Test(cpu, a_wish_that_names_no_level_is_ignored)
{
    cr_assert(eq(int, setenv("RECO_CPU", "sse9", 1), 0));
    cr_expect(eq(int, (int)cpu_best(), (int)cpu_hardware()));
#if defined(__x86_64__)
    FILE *info = fopen("/proc/cpuinfo", "r");
    bool has_avx2 = false;
    char line[8192];
    while (info && fgets(line, sizeof(line), info))
        has_avx2 = has_avx2 || (strstr(line, " avx2 ") && strstr(line, " f16c "));
    if (info)
        (void)fclose(info);
    cr_expect(cpu_has(CPU_AVX2) || !has_avx2);
#endif
}
