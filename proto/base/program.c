// SPDX-License-Identifier: Apache-2.0

#include "proto/base/program.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/log.h"
#include "proto/base/machine.h"
#include "proto/base/mem.h"

#define LOOK_S 1

// A program as it was started.
struct run {
    const struct program *program;
    int argc;
    const char *const *argv;
    struct config_words words;
    struct config *config;
};

static int complain(const struct run *run, int code, const struct reason *why)
{
    (void)fprintf(stderr, "%s: %s%s%s\n", run->program->table->program, why->field,
                  why->field[0] ? ": " : "", why->text);
    return code;
}

// Configuration and settings from the words that the program was started with. Both are the
// caller's; both are NULL after a failure.
static enum status read_settings(const struct run *run, struct config_words *words,
                                 struct config **config, void **settings, struct reason *why)
{
    const struct config_table *table = run->program->table;
    enum status status = config_load(table, run->argc, run->argv, words, config, why);
    if (status != STATUS_OK)
        return status;
    *settings = mem_alloc(table->settings_bytes);
    config_store(*config, *settings);
    status = words->help || words->version ? STATUS_OK : run->program->check(*settings, why);
    if (status != STATUS_OK) {
        config_blame(*config, why);
        config_destroy(config);
        mem_free(*settings);
        *settings = NULL;
    }
    return status;
}

// The parent may be gone before the kernel was asked to tell.
static bool bind_to_parent(void)
{
    const pid_t parent = getppid();
    return prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == parent;
}

// Blocked in this thread before any other is started, so that they are only ever waited for here.
static void block_signals(sigset_t *signals)
{
    (void)sigemptyset(signals);
    (void)sigaddset(signals, SIGTERM);
    (void)sigaddset(signals, SIGINT);
    (void)sigaddset(signals, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

static void set_log_level(const struct program *program, const void *settings)
{
    const int *level = (const void *)((const char *)settings + program->level_offset);
    log_set_level((enum log_level) * level);
}

static void reload(const struct run *run)
{
    struct config_words words;
    struct config *config = NULL;
    void *settings = NULL;
    struct reason why = {0};
    char text[LOG_QUOTE_BYTES];
    enum status status = read_settings(run, &words, &config, &settings, &why);
    if (status == STATUS_OK) {
        status = run->program->reload(run->program->house, settings, &why);
        if (status != STATUS_OK)
            config_blame(config, &why);
    }
    if (status == STATUS_OK) {
        set_log_level(run->program, settings);
        config_log_restarts(run->config, config);
        log_info("config_reloaded", "file=%s", log_quote(words.file ? words.file : "", text));
    } else {
        log_error("config_refused", "field=\"%s\" reason=%s", why.field, log_quote(why.text, text));
    }
    config_destroy(&config);
    mem_free(settings);
}

static void wait_for_end(const struct run *run, const sigset_t *signals)
{
    const struct program *program = run->program;
    const struct timespec look = {.tv_sec = LOOK_S};
    int received = 0;
    while (received != SIGTERM && received != SIGINT) {
        received = sigtimedwait(signals, NULL, program->look ? &look : NULL);
        if (received == SIGHUP)
            reload(run);
        else if (received < 0 && program->look)
            program->look(program->house);
    }
    log_info("draining", "signal=%d", received);
}

static int serve(const struct run *run, const void *settings)
{
    const struct program *program = run->program;
    struct reason why = {0};
    sigset_t signals;
    set_log_level(program, settings);
    machine_raise_files();
    block_signals(&signals);
    if (run->words.die_with_parent && !bind_to_parent())
        return PROGRAM_FAILED;

    const enum status status = program->start(program->house, settings, &why);
    if (status == STATUS_OK) {
        program->announce(program->house);
        (void)fflush(stdout);
        wait_for_end(run, &signals);
    }
    program->stop(program->house);
    if (status == STATUS_OK)
        return 0;
    config_blame(run->config, &why);
    return complain(run, status == STATUS_INVALID ? PROGRAM_USAGE : PROGRAM_FAILED, &why);
}

int program_main(const struct program *program, int argc, const char *const *argv)
{
    assert(program && program->check && program->start && program->announce);
    assert(program->reload && program->stop);

    struct run run = {.program = program, .argc = argc, .argv = argv};
    void *settings = NULL;
    struct reason why = {0};
    if (read_settings(&run, &run.words, &run.config, &settings, &why) != STATUS_OK)
        return complain(&run, PROGRAM_USAGE, &why);
    int exit_status = 0;
    if (run.words.help)
        config_print_help(program->table, stdout);
    else if (run.words.version)
        (void)printf("%s %s\n", program->table->program, program->version);
    else if (run.words.print)
        config_print(run.config, NULL, stdout);
    else
        exit_status = serve(&run, settings);
    config_destroy(&run.config);
    mem_free(settings);
    return exit_status;
}
