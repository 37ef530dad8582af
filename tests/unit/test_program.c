// SPDX-License-Identifier: Apache-2.0
// Goal: a server process lives as program.h draws it, whatever its words are: nothing is started
// by wrong words, what was started is stopped, a signal reloads or ends it, and an error names
// what the person wrote.
//
// Method: a program whose functions write down that they were called; its announcement sends the
// signals, which are blocked until it waits.

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/redirect.h>

#include "proto/base/log.h"
#include "proto/base/program.h"

struct settings {
    const char *listen;
    int level;
};

static const struct config_table *const family[];
static const char *const others[] = {NULL};
static const struct config_key keys[] = {
    {.section = "server",
     .name = "listen",
     .kind = CONFIG_TEXT,
     .fallback = "here",
     .offset = offsetof(struct settings, listen),
     .flag = "--listen",
     .argument = "PLACE",
     .help = "where",
     .reloads = true},
    {.section = "log",
     .name = "level",
     .kind = CONFIG_CHOICE,
     .fallback = "error",
     .choices = "error|warn|info|debug",
     .offset = offsetof(struct settings, level),
     .help = "which",
     .reloads = true},
};
static const struct config_table table = {.program = "mine",
                                          .summary = "A program.",
                                          .keys = keys,
                                          .key_count = 2,
                                          .settings_bytes = sizeof(struct settings),
                                          .family = family,
                                          .other_variables = others};
static const struct config_table *const family[] = {&table, NULL};

// A letter for each call: c, s, a, r, l, x.
struct house {
    char calls[64];
    char listen[64];  // last taken over
    const char *file; // written by the announcement; NULL: none
    int signals[3];   // sent by it, 0 ends; the lowest is taken first
};

static struct house house;

static char path[] = "/tmp/reco-program-XXXXXX";

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    cr_assert(file != NULL);
    cr_assert(fputs(text, file) >= 0);
    cr_assert(eq(int, fclose(file), 0));
}

static void note(const char *call)
{
    (void)strncat(house.calls, call, sizeof(house.calls) - strlen(house.calls) - 1);
}

static enum status check(const void *settings, struct reason *why)
{
    note("c");
    if (strcmp(((const struct settings *)settings)->listen, "wrong") == 0)
        return reason_set(why, STATUS_INVALID, "--listen", "is wrong");
    return STATUS_OK;
}

static enum status take(const char *call, const void *settings, struct reason *why)
{
    const char *listen = ((const struct settings *)settings)->listen;
    note(call);
    if (strcmp(listen, "taken") == 0)
        return reason_set(why, STATUS_UNAVAILABLE, "listen", "is taken");
    (void)snprintf(house.listen, sizeof(house.listen), "%s", listen);
    return STATUS_OK;
}

static enum status start(void *owned, const void *settings, struct reason *why)
{
    cr_expect(eq(ptr, owned, &house));
    return take("s", settings, why);
}

static void announce(const void *owned)
{
    cr_expect(eq(ptr, (void *)owned, &house));
    note("a");
    if (house.file)
        write_file(house.file);
    for (size_t i = 0; i < 3 && house.signals[i]; i++)
        (void)raise(house.signals[i]);
}

static enum status reload(void *owned, const void *settings, struct reason *why)
{
    cr_expect(eq(ptr, owned, &house));
    return take("r", settings, why);
}

static void look(void *owned)
{
    cr_expect(eq(ptr, owned, &house));
    note("l");
    (void)raise(SIGINT);
}

static void stop(void *owned)
{
    cr_expect(eq(ptr, owned, &house));
    note("x");
}

static const struct program program = {
    .table = &table,
    .version = "1.2.3",
    .level_offset = offsetof(struct settings, level),
    .house = &house,
    .check = check,
    .start = start,
    .announce = announce,
    .reload = reload,
    .look = look,
    .stop = stop,
};

#define RUN(...)                                                                                   \
    program_main(&program, sizeof((const char *[]){"mine", __VA_ARGS__}) / sizeof(char *),         \
                 (const char *[]){"mine", __VA_ARGS__})

static void begin(void)
{
    int fd = mkstemp(path);
    cr_assert(ge(int, fd, 0));
    (void)close(fd);
}

static void end(void)
{
    (void)unlink(path);
}

TestSuite(program, .init = begin, .fini = end, .timeout = 60);

Test(program, starts_waits_for_a_signal_and_stops)
{
    house.signals[0] = SIGTERM;
    cr_expect(eq(int, RUN("--listen", "there"), 0));
    cr_expect(eq(str, house.calls, (char *)"csax"));
    cr_expect(eq(str, house.listen, (char *)"there"));
}

Test(program, looks_while_it_waits)
{
    cr_expect(eq(int, RUN("--listen", "there"), 0));
    cr_expect(eq(str, house.calls, (char *)"csalx"));
}

Test(program, starts_nothing_on_wrong_words_and_says_which)
{
    cr_redirect_stderr();
    cr_expect(eq(int, RUN("--lisen", "x"), PROGRAM_USAGE));
    cr_expect(eq(str, house.calls, (char *)""));
    cr_expect(eq(int, RUN("--listen", "wrong"), PROGRAM_USAGE));
    cr_expect(eq(str, house.calls, (char *)"c"));
    write_file("[server]\nlisten = wrong\n");
    cr_expect(eq(int, RUN("--config", path), PROGRAM_USAGE));
    (void)fflush(stderr);

    char expected[256];
    (void)snprintf(expected, sizeof(expected),
                   "mine: --lisen: unknown flag; did you mean --listen?\n"
                   "mine: --listen: is wrong\n"
                   "mine: %s:2: [server] listen: is wrong\n",
                   path);
    cr_expect_stderr_eq_str(expected);
}

Test(program, stops_what_a_failed_start_leaves)
{
    cr_redirect_stderr();
    cr_expect(eq(int, RUN("--listen", "taken"), PROGRAM_FAILED));
    cr_expect(eq(str, house.calls, (char *)"csx"));
    (void)fflush(stderr);
    cr_expect_stderr_eq_str("mine: --listen: is taken\n");
}

Test(program, tells_about_itself_without_starting)
{
    cr_redirect_stdout();
    cr_expect(eq(int, RUN("--version"), 0));
    cr_expect(eq(int, RUN("--help", "--listen", "wrong"), 0));
    cr_expect(eq(str, house.calls, (char *)""));
    cr_expect(eq(int, RUN("--print-config"), 0));
    cr_expect(eq(str, house.calls, (char *)"c"));
}

// Starts with one file, and finds another at SIGHUP.
static int run_changed(const char *file)
{
    write_file("[server]\nlisten = first\n");
    house.file = file;
    house.signals[0] = SIGHUP;
    house.signals[1] = SIGTERM;
    return program_main(&program, 3, (const char *[]){"mine", "--config", path});
}

Test(program, takes_a_changed_file_over_on_sighup)
{
    cr_expect(eq(int, run_changed("[server]\nlisten = second\n"), 0));
    cr_expect(eq(str, house.calls, (char *)"csacrx"));
    cr_expect(eq(str, house.listen, (char *)"second"));
}

Test(program, refuses_a_bad_file_on_sighup_and_goes_on)
{
    cr_redirect_stderr();
    cr_expect(eq(int, run_changed("[server]\nlisten = wrong\n"), 0));
    cr_expect(eq(str, house.calls, (char *)"csacx"));
    cr_expect(eq(str, house.listen, (char *)"first"));
    (void)fflush(stderr);

    char line[256] = "";
    FILE *told = cr_get_redirected_stderr();
    while (fgets(line, sizeof(line), told) && !strstr(line, "config_refused"))
        continue;
    cr_expect(strstr(line, ":2: [server] listen: is wrong") != NULL, "%s", line);
}

Test(program, lets_a_running_program_refuse_what_it_cannot_take_over)
{
    cr_expect(eq(int, run_changed("[server]\nlisten = taken\n"), 0));
    cr_expect(eq(str, house.calls, (char *)"csacrx"));
    cr_expect(eq(str, house.listen, (char *)"first"));
}
