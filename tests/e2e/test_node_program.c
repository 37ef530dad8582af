// SPDX-License-Identifier: Apache-2.0
// Goal: reco-shard says what is wrong with its flags and exits with 2, starts, drains and exits
// with 0, and ends with its parent when asked to.
//
// Method: the real program; its exit status and what it prints.

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/reason.h"
#include "proto/bus/bus.h"

#define PROGRAM RECO_BINARY_DIR "/bin/reco-shard"
#define ARGUMENTS_MAX 16

static char directory[64];
static char data[80];
static char keys[80];

static void make_directory(void)
{
    strcpy(directory, "test-program-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(directory), NULL));
    (void)snprintf(data, sizeof(data), "%s/data", directory);
    (void)snprintf(keys, sizeof(keys), "%s/keys", directory);
}

static void remove_directory(void)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", directory);
    cr_expect(eq(int, system(command), 0));
}

TestSuite(node_program, .timeout = 60, .init = make_directory, .fini = remove_directory);

// Starts the program; `output` is where its stream `from` (1 or 2) can be read.
static pid_t start(const char *const *arguments, int from, FILE **output)
{
    int ends[2];
    cr_assert(eq(int, pipe(ends), 0));
    const pid_t pid = fork();
    if (pid == 0) {
        char *all[ARGUMENTS_MAX + 2] = {(char *)PROGRAM};
        for (int i = 0; arguments[i] && i < ARGUMENTS_MAX; i++)
            all[i + 1] = (char *)arguments[i];
        dup2(ends[1], from);
        close(ends[0]);
        close(ends[1]);
        execv(PROGRAM, all);
        _exit(127);
    }
    close(ends[1]);
    *output = fdopen(ends[0], "r");
    return pid;
}

static int exit_status(pid_t pid)
{
    int result = -1;
    cr_assert(eq(int, waitpid(pid, &result, 0), pid));
    return WIFEXITED(result) ? WEXITSTATUS(result) : -1;
}

static void expect_complaint(const char *const *arguments, int status, const char *words)
{
    FILE *errors = NULL;
    const pid_t pid = start(arguments, STDERR_FILENO, &errors);
    char text[4096] = "";
    const size_t count = fread(text, 1, sizeof(text) - 1, errors);
    text[count] = '\0';
    (void)fclose(errors);
    cr_expect(eq(int, exit_status(pid), status), "%s", words);
    cr_expect(ne(ptr, strstr(text, words), NULL), "'%s' is not in '%s'", words, text);
}

Test(node_program, wrong_flags_are_named_and_end_with_2)
{
    const struct {
        const char *arguments[8];
        const char *words;
    } cases[] = {
        {{NULL}, "--data: is required"},
        {{"--data", "d", NULL}, "--keys: is required"},
        {{"--data", NULL}, "--data: needs a value"},
        {{"--date", "d", NULL}, "--date: unknown flag"},
        {{"--data", "d", "--keys", "k", "--index", "32", NULL},
         "--index: '32' is not allowed: a whole number from 0 to 31"},
        {{"--data", "d", "--keys", "k", "--index", "-1", NULL}, "--index: '-1'"},
        {{"--data", "d", "--keys", "k", "--search-threads", "1x", NULL},
         "'1x' is not allowed: a whole number from 0 to 256"},
        {{"--data", "d", "--keys", "k", "--log-level", "loud", NULL},
         "'loud' is not allowed: error|warn"},
        {{"--data", "d", "--keys", "k", "--memory-limit-mib", "63", NULL},
         "--memory-limit-mib: 63; allowed: 0, which is 90 % of what there is, or at least 64"},
        {{"stray", NULL}, "stray: unknown flag"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_complaint(cases[i].arguments, 2, cases[i].words);
}

Test(node_program, what_cannot_start_is_named_and_ends_with_1_or_2)
{
    const char *const no_keys[] = {"--data", data, "--keys", keys, NULL};
    expect_complaint(no_keys, 1, keys);
    struct bus_keys made;
    struct reason why = {0};
    cr_assert(eq(int, bus_keys_load(keys, true, &made, &why), STATUS_OK), "%s", why.text);
    const char *const no_folder[] = {"--data", "no/such/folder", "--keys", keys, NULL};
    expect_complaint(no_folder, 1, "--data: cannot make no/such/folder: No such file");
    const char *const no_file[] = {"--data", "/dev/null", "--keys", keys, NULL};
    expect_complaint(no_file, 2, "--data: /dev/null is a file; a folder is allowed");
    const char *const bad_endpoint[] = {"--data",  data,          "--keys", keys, "--query",
                                        "carrier", "--log-level", "error",  NULL};
    expect_complaint(bad_endpoint, 2, "--query: 'carrier'");
}

Test(node_program, help_and_version_are_printed)
{
    static const char *const flags[] = {"--help", "--version"};
    static const char *const words[] = {"usage: reco-shard", "reco-shard "};
    for (int i = 0; i < 2; i++) {
        const char *const arguments[] = {flags[i], NULL};
        FILE *output = NULL;
        const pid_t pid = start(arguments, STDOUT_FILENO, &output);
        char line[256] = "";
        cr_assert(ne(ptr, fgets(line, sizeof(line), output), NULL));
        cr_expect(eq(int, strncmp(line, words[i], strlen(words[i])), 0), "%s", line);
        (void)fclose(output);
        cr_expect(eq(int, exit_status(pid), 0));
    }
}

Test(node_program, a_second_process_on_the_directory_is_refused_and_term_drains_the_first)
{
    struct bus_keys made;
    struct reason why = {0};
    cr_assert(eq(int, bus_keys_load(keys, true, &made, &why), STATUS_OK), "%s", why.text);
    const char *const arguments[] = {"--data",      data,
                                     "--keys",      keys,
                                     "--query",     "tcp://127.0.0.1:0",
                                     "--bulk",      "tcp://127.0.0.1:0",
                                     "--log-level", "error",
                                     NULL};
    FILE *output = NULL;
    const pid_t pid = start(arguments, STDOUT_FILENO, &output);
    char line[256] = "";
    cr_assert(ne(ptr, fgets(line, sizeof(line), output), NULL));
    cr_expect(eq(int, strncmp(line, "ready tcp://127.0.0.1:", 22), 0), "%s", line);
    char words[64];
    (void)snprintf(words, sizeof(words), "in use by process %ld;", (long)pid);
    expect_complaint(arguments, 1, words);
    cr_assert(eq(int, kill(pid, SIGTERM), 0));
    (void)fclose(output);
    cr_expect(eq(int, exit_status(pid), 0));
}

Test(node_program, dies_with_its_parent_when_asked_to)
{
    struct bus_keys made;
    struct reason why = {0};
    cr_assert(eq(int, bus_keys_load(keys, true, &made, &why), STATUS_OK), "%s", why.text);
    int ends[2]; // open for writing as long as the program or its parent lives
    cr_assert(eq(int, pipe(ends), 0));
    const pid_t parent = fork();
    if (parent == 0) {
        const char *const arguments[] = {"--data",
                                         data,
                                         "--keys",
                                         keys,
                                         "--query",
                                         "tcp://127.0.0.1:0",
                                         "--bulk",
                                         "tcp://127.0.0.1:0",
                                         "--log-level",
                                         "error",
                                         "--die-with-parent",
                                         NULL};
        FILE *output = NULL;
        (void)start(arguments, STDOUT_FILENO, &output);
        char line[256] = "";
        const bool ready = fgets(line, sizeof(line), output) != NULL;
        _exit(ready ? 0 : 1);
    }
    close(ends[1]);
    cr_expect(eq(int, exit_status(parent), 0));
    char byte;
    cr_expect(eq(sz, read(ends[0], &byte, 1), 0)); // the end of the last holder, by the alarm else
    close(ends[0]);
}
