// SPDX-License-Identifier: Apache-2.0
// One loop around sigtimedwait(). Children are made with posix_spawn(), which is safe in a
// process that has threads (a gRPC client runs some).

#include "tools/supervisor.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"

#define BACKOFF_FIRST_US ((int64_t)100000)
#define BACKOFF_LAST_US ((int64_t)5000000)
#define STEADY_US ((int64_t)10000000)

extern char **environ;

struct child {
    char *name;
    char **arguments; // ended by NULL
    pid_t pid;        // 0: not running
    bool wanted;      // to be started again when it dies
    unsigned starts;
    int64_t started_us;
    int64_t start_at_us; // when its backoff is over
    int64_t backoff_us;  // of its next death
};

struct supervisor {
    struct child children[SUPERVISOR_CHILDREN_MAX];
    size_t count;
    sigset_t signals;
    sigset_t previous;
    bool has_terminal; // whose end SIGHUP tells
};

struct supervisor *supervisor_begin(void)
{
    struct supervisor *supervisor = mem_alloc(sizeof(*supervisor));
    (void)sigemptyset(&supervisor->signals);
    (void)sigaddset(&supervisor->signals, SIGCHLD);
    (void)sigaddset(&supervisor->signals, SIGTERM);
    (void)sigaddset(&supervisor->signals, SIGINT);
    (void)sigaddset(&supervisor->signals, SIGHUP);
    supervisor->has_terminal = isatty(STDERR_FILENO) == 1;
    (void)pthread_sigmask(SIG_BLOCK, &supervisor->signals, &supervisor->previous);
    return supervisor;
}

size_t supervisor_add(struct supervisor *supervisor, const char *name, const char *const *arguments)
{
    assert(supervisor->count < SUPERVISOR_CHILDREN_MAX);

    struct child *child = &supervisor->children[supervisor->count];
    size_t count = 0;
    while (arguments[count])
        count++;
    assert(count > 0 && count < SUPERVISOR_ARGUMENTS_MAX);
    child->name = mem_copy_text(name);
    child->arguments = mem_alloc_array(count + 1, sizeof(char *));
    for (size_t i = 0; i < count; i++)
        child->arguments[i] = mem_copy_text(arguments[i]);
    child->backoff_us = BACKOFF_FIRST_US;
    return supervisor->count++;
}

// --- starting

// Everything about the process that differs from ours: signals as new, own process group, nothing
// on stdin, stdout to where stderr goes (our stdout is for "ready"). SIGHUP is blocked: one that is
// passed on before the child waits for it must not end it.
static int spawn(const struct supervisor *supervisor, struct child *child)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    sigset_t mask = supervisor->previous;
    (void)sigemptyset(&defaults);
    (void)sigaddset(&defaults, SIGPIPE);
    (void)sigaddset(&defaults, SIGHUP);
    (void)sigaddset(&mask, SIGHUP);

    int error = posix_spawn_file_actions_init(&actions);
    assert(!error);
    error = posix_spawnattr_init(&attributes);
    assert(!error);
    error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    if (!error)
        error = posix_spawnattr_setsigmask(&attributes, &mask);
    if (!error)
        error = posix_spawnattr_setsigdefault(&attributes, &defaults);
    if (!error)
        error = posix_spawnattr_setflags(
            &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    if (!error)
        error = posix_spawn(&child->pid, child->arguments[0], &actions, &attributes,
                            child->arguments, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attributes);
    return error;
}

enum status supervisor_start(struct supervisor *supervisor, size_t child, struct reason *why)
{
    assert(child < supervisor->count);

    struct child *starting = &supervisor->children[child];
    assert(!starting->pid);
    starting->wanted = true;
    int error = spawn(supervisor, starting);
    if (error) {
        starting->pid = 0;
        return reason_set(why, STATUS_IO, starting->arguments[0], "cannot be run: %s",
                          SYSTEM_ERROR(error));
    }
    starting->starts++;
    starting->started_us = clock_now_us();
    log_info("child_started", "child=%s pid=%ld", starting->name, (long)starting->pid);
    return STATUS_OK;
}

// Starts what is due, and returns when the next is.
static int64_t start_due(struct supervisor *supervisor)
{
    int64_t next_us = DEADLINE_NONE;
    for (size_t i = 0; i < supervisor->count; i++) {
        struct child *child = &supervisor->children[i];
        if (child->pid || !child->wanted || !child->starts)
            continue;
        struct reason why = {.text = ""};
        if (clock_passed(child->start_at_us) && supervisor_start(supervisor, i, &why)) {
            log_error("child_start_failed", "child=%s why=\"%s\"", child->name, why.text);
            child->start_at_us = clock_deadline_in_us(BACKOFF_LAST_US);
        }
        if (!child->pid && child->start_at_us < next_us)
            next_us = child->start_at_us;
    }
    return next_us;
}

// --- deaths

static void note_death(struct child *child, int how)
{
    int64_t up_us = clock_now_us() - child->started_us;
    if (up_us >= STEADY_US)
        child->backoff_us = BACKOFF_FIRST_US;
    if (child->wanted)
        log_warn("child_died", "child=%s pid=%ld %s=%d up_ms=%lld restart_in_ms=%lld", child->name,
                 (long)child->pid, WIFSIGNALED(how) ? "signal" : "exit",
                 WIFSIGNALED(how) ? WTERMSIG(how) : WEXITSTATUS(how), (long long)(up_us / 1000),
                 (long long)(child->backoff_us / 1000));
    else
        log_info("child_ended", "child=%s pid=%ld", child->name, (long)child->pid);

    child->pid = 0;
    child->start_at_us = clock_deadline_in_us(child->backoff_us);
    child->backoff_us *= 2;
    if (child->backoff_us > BACKOFF_LAST_US)
        child->backoff_us = BACKOFF_LAST_US;
}

// Collects all that have ended; whether there was one.
static bool reap(struct supervisor *supervisor)
{
    bool any = false;
    for (size_t i = 0; i < supervisor->count; i++) {
        struct child *child = &supervisor->children[i];
        int how = 0;
        if (child->pid && waitpid(child->pid, &how, WNOHANG) == child->pid) {
            note_death(child, how);
            any = true;
        }
    }
    return any;
}

// The next signal before the deadline; 0 when none came.
static int next_signal(const struct supervisor *supervisor, int64_t deadline_us)
{
    for (;;) {
        int64_t left_us = clock_left_us(deadline_us);
        if (left_us > 3600 * (int64_t)1000000)
            left_us = 3600 * (int64_t)1000000;
        const struct timespec wait = {.tv_sec = left_us / 1000000,
                                      .tv_nsec = left_us % 1000000 * 1000};
        int got = sigtimedwait(&supervisor->signals, NULL, &wait);
        if (got > 0)
            return got;
        if (errno != EINTR)
            return 0;
    }
}

// Signals those of the children first .. last-1 that run; 0: only counts them.
static size_t signal_running(const struct supervisor *supervisor, size_t first, size_t last,
                             int signal_number)
{
    size_t running = 0;
    for (size_t i = first; i < last; i++) {
        const struct child *child = &supervisor->children[i];
        if (!child->pid)
            continue;
        running++;
        if (signal_number)
            (void)kill(child->pid, signal_number);
    }
    return running;
}

enum supervisor_event supervisor_wait(struct supervisor *supervisor, int64_t deadline_us)
{
    // A child may have ended before its signal was looked for.
    if (reap(supervisor))
        return SUPERVISOR_DIED;
    int64_t due_us = start_due(supervisor);
    int got = next_signal(supervisor, due_us < deadline_us ? due_us : deadline_us);
    if (got == SIGTERM || got == SIGINT || (got == SIGHUP && supervisor->has_terminal))
        return SUPERVISOR_STOP;
    if (got == SIGHUP)
        (void)signal_running(supervisor, 0, supervisor->count, SIGHUP);
    if (got == SIGCHLD && reap(supervisor))
        return SUPERVISOR_DIED;
    (void)start_due(supervisor);
    return SUPERVISOR_TIMEOUT;
}

unsigned supervisor_starts(const struct supervisor *supervisor, size_t child)
{
    return supervisor->children[child].starts;
}

pid_t supervisor_pid(const struct supervisor *supervisor, size_t child)
{
    return supervisor->children[child].pid;
}

// --- the end

void supervisor_stop(struct supervisor *supervisor, size_t first, size_t last, int64_t deadline_us)
{
    assert(first <= last && last <= supervisor->count);

    for (size_t i = first; i < last; i++)
        supervisor->children[i].wanted = false;
    (void)signal_running(supervisor, first, last, SIGTERM);
    while (signal_running(supervisor, first, last, 0)) {
        if (reap(supervisor))
            continue;
        int got = next_signal(supervisor, deadline_us);
        if (got == 0 || got == SIGTERM || got == SIGINT) {
            log_warn("children_killed", "reason=%s", got ? "second signal" : "too slow");
            (void)signal_running(supervisor, first, last, SIGKILL);
            deadline_us = DEADLINE_NONE;
        }
    }
}

void supervisor_end(struct supervisor **supervisor)
{
    struct supervisor *ending = *supervisor;
    if (!ending)
        return;
    for (size_t i = 0; i < ending->count; i++) {
        struct child *child = &ending->children[i];
        assert(!child->pid);
        for (size_t j = 0; child->arguments[j]; j++)
            mem_free(child->arguments[j]);
        mem_free(child->arguments);
        mem_free(child->name);
    }
    (void)pthread_sigmask(SIG_SETMASK, &ending->previous, NULL);
    mem_free(ending);
    *supervisor = NULL;
}
