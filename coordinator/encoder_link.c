// SPDX-License-Identifier: Apache-2.0
// encoder_link.c - a process ends for us when its end of the socket is closed, which the kernel
// does for it whatever it died of. Only then is it reaped, so nothing here waits for a process that
// hangs in a driver and cannot even be killed: until it is gone no other is started.
//
// What goes to the process is copied into the shared memory, and what comes back is copied out
// before it is looked at: a process that writes where it should not cannot change what is
// computed anew, nor what was found good.

#include "coordinator/encoder_link.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coordinator/telemetry.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"

#define SECOND_US ((int64_t)1000000)
#define START_US (60 * SECOND_US)         // from the start to HELLO
#define HANG_US (2 * SECOND_US)           // for an answer, and
#define HANG_TIMES 8                      // times what the process says that it takes,
#define ITEM_US_MAX (30 * SECOND_US)      // of which it may not say more
#define BACKOFF_FIRST_US (SECOND_US / 10) // from a death to the next start
#define BACKOFF_LAST_US (60 * SECOND_US)
#define STEADY_US (60 * SECOND_US) // up for so long: the next backoff is the first again
#define REAP_US 10000              // between two looks at one that has closed its socket
#define FAREWELL_US SECOND_US      // to end when the link is closed, and again when it is killed
#define ARGUMENTS_MAX 10
#define FD_ABOVE 10               // so that none is one of those that the process is given
#define UNIT_ERROR 1e-3           // of the length of a unit vector, fp16 kernels included
#define POLL_MS_MAX (3600 * 1000) // of one wait

enum state { DOWN, STARTING, UP, ENDING };

struct encoder_link {
    char *arguments[ARGUMENTS_MAX]; // ended by NULL; ours
    struct telemetry *telemetry;
    const struct clip_info *expected; // NULL before encoder_link_wait()
    enum state state;
    pid_t pid;  // 0 while DOWN
    int socket; // -1: there is none
    int file;   // of the memory
    uint8_t *memory;
    uint64_t number;    // of the last question
    int64_t since_us;   // when it was started or came up
    int64_t due_us;     // of what has a time in this state; DEADLINE_NONE
    int64_t backoff_us; // of the next death
    struct encoder_msg hello;
    enum status refusal; // that it was told last; OK: none
    struct reason why;
};

// ---------------------------------------------------------------- start

static enum status share_memory(struct encoder_link *link, struct reason *why)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    void *memory = MAP_FAILED;
    link->file = memfd_create("reco-encoder", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (link->file >= 0 && ftruncate(link->file, (off_t)ENCODER_MSG_MEMORY_BYTES) == 0 &&
        fcntl(link->file, F_ADD_SEALS, seals) == 0)
        memory =
            mmap(NULL, ENCODER_MSG_MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, link->file, 0);
    if (memory == MAP_FAILED)
        return reason_set(why, STATUS_EXHAUSTED, NULL, "no memory to share with reco-encoder: %s",
                          SYSTEM_ERROR(errno));
    link->memory = memory;
    return STATUS_OK;
}

// What of the process differs from this one: its two descriptors and nothing else that is open
// here, nothing on stdin, stdout to where stderr goes, no signal blocked, a group of its own
// (Ctrl-C is for the coordinator, which still needs it while it drains).
static int spawn(struct encoder_link *link, int socket, int file)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    (void)sigemptyset(&none);
    int error = posix_spawn_file_actions_init(&actions);
    assert(error == 0);
    error = posix_spawnattr_init(&attributes);
    assert(error == 0);
    error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, socket, ENCODER_MSG_SOCKET);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, file, ENCODER_MSG_MEMORY);
    if (!error)
        error = posix_spawn_file_actions_addclosefrom_np(&actions, ENCODER_MSG_MEMORY + 1);
    if (!error)
        error = posix_spawnattr_setsigmask(&attributes, &none);
    if (!error)
        error =
            posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    if (!error)
        error = posix_spawn(&link->pid, link->arguments[0], &actions, &attributes, link->arguments,
                            environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attributes);
    return error;
}

static void set_due(struct encoder_link *link, int64_t in_us)
{
    link->due_us = clock_deadline_in_us(in_us);
}

// The next start, and a longer wait for the one after it.
static void back_off(struct encoder_link *link)
{
    link->state = DOWN;
    link->pid = 0;
    set_due(link, link->backoff_us);
    link->backoff_us =
        link->backoff_us * 2 < BACKOFF_LAST_US ? link->backoff_us * 2 : BACKOFF_LAST_US;
}

static enum status start(struct encoder_link *link, struct reason *why)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        enum status status = reason_set(why, STATUS_EXHAUSTED, NULL,
                                        "no socket for reco-encoder: %s", SYSTEM_ERROR(errno));
        back_off(link);
        return status;
    }
    int socket = fcntl(ends[1], F_DUPFD_CLOEXEC, FD_ABOVE);
    int file = fcntl(link->file, F_DUPFD_CLOEXEC, FD_ABOVE);
    int error = socket >= 0 && file >= 0 ? spawn(link, socket, file) : EMFILE;
    (void)close(ends[1]);
    if (socket >= 0)
        (void)close(socket);
    if (file >= 0)
        (void)close(file);
    if (error) {
        (void)close(ends[0]);
        back_off(link);
        return reason_set(why, STATUS_IO, link->arguments[0], "cannot be run: %s",
                          SYSTEM_ERROR(error));
    }
    link->socket = ends[0];
    link->state = STARTING;
    link->since_us = clock_now_us();
    set_due(link, START_US);
    log_info("encoder_started", "pid=%ld", (long)link->pid);
    return STATUS_OK;
}

static void start_again(struct encoder_link *link)
{
    struct reason why = {0};
    char quoted[LOG_QUOTE_BYTES];
    if (start(link, &why) != STATUS_OK)
        log_error("encoder_start_failed", "program=%s reason=%s", link->arguments[0],
                  log_quote(why.text, quoted));
}

// ---------------------------------------------------------------- end

static void set_down(struct encoder_link *link)
{
    if (link->state == UP)
        telemetry_encoder_state(link->telemetry, TELEMETRY_ENCODER_DOWN);
}

static void kill_process(struct encoder_link *link, enum telemetry_death cause, const char *words)
{
    char quoted[LOG_QUOTE_BYTES];
    log_warn("encoder_killed", "pid=%ld cause=%s reason=%s", (long)link->pid,
             telemetry_death_name(cause), log_quote(words, quoted));
    (void)kill(link->pid, SIGKILL);
    telemetry_encoder_death(link->telemetry, cause);
    set_down(link);
    link->state = ENDING;
    link->due_us = DEADLINE_NONE; // its socket tells
}

static void reap(struct encoder_link *link)
{
    int how = 0;
    if (waitpid(link->pid, &how, WNOHANG) != link->pid) {
        set_due(link, REAP_US);
        return;
    }
    const int64_t lived_us = clock_now_us() - link->since_us;
    if (lived_us >= STEADY_US)
        link->backoff_us = BACKOFF_FIRST_US;
    log_warn("encoder_ended", "pid=%ld %s=%d up_ms=%" PRId64 " restart_in_ms=%" PRId64,
             (long)link->pid, WIFSIGNALED(how) ? "signal" : "exit",
             WIFSIGNALED(how) ? WTERMSIG(how) : WEXITSTATUS(how), lived_us / 1000,
             link->backoff_us / 1000);
    back_off(link);
}

// Its end of the socket is closed. One that closed it by mistake is killed for it.
static void note_hangup(struct encoder_link *link)
{
    if (link->state != ENDING) {
        telemetry_encoder_death(link->telemetry, TELEMETRY_DEATH_EXIT);
        set_down(link);
    }
    (void)kill(link->pid, SIGKILL);
    (void)close(link->socket);
    link->socket = -1;
    link->state = ENDING;
    reap(link);
}

// ---------------------------------------------------------------- hearing

enum heard { HEARD_NOTHING, HEARD_MESSAGE, HEARD_NONSENSE, HEARD_END };

// Waits for a packet, at most until the deadline.
static enum heard hear(struct encoder_link *link, int64_t deadline_us, struct encoder_msg *out,
                       struct reason *why)
{
    for (;;) {
        struct pollfd fd = {.fd = link->socket, .events = POLLIN};
        int ready = poll(&fd, 1, clock_poll_ms(deadline_us, POLL_MS_MAX));
        if (ready > 0 && fd.revents & POLLIN)
            break;
        if (ready > 0)
            return HEARD_END;
        if ((ready == 0 || errno == EINTR) && !clock_passed(deadline_us))
            continue;
        return HEARD_NOTHING;
    }
    uint8_t packet[sizeof(*out) + 1]; // one that is too long is seen to be
    ssize_t got = recv(link->socket, packet, sizeof(packet), MSG_DONTWAIT);
    if (got <= 0)
        return HEARD_END;
    return encoder_msg_read((struct bytes){packet, (size_t)got}, out, why) == STATUS_OK
               ? HEARD_MESSAGE
               : HEARD_NONSENSE;
}

static bool is_expected(const struct encoder_link *link, const struct encoder_msg *hello,
                        struct reason *why)
{
    const struct clip_info *expected = link->expected;
    if (strcmp(hello->space, expected->space) == 0 && hello->dimension == expected->dimension &&
        hello->image_size == expected->image_size)
        return true;
    (void)reason_set(why, STATUS_FAILED_PRECONDITION, NULL,
                     "it opened another model, of the space %s; this process has %s", hello->space,
                     expected->space);
    return false;
}

// What comes without having been asked for.
static void take(struct encoder_link *link, const struct encoder_msg *msg)
{
    struct reason why = {0};
    char quoted[LOG_QUOTE_BYTES];
    if (link->state == ENDING)
        return;
    if (link->state == STARTING && msg->kind == ENCODER_MSG_REFUSAL) {
        link->refusal = (enum status)msg->status;
        link->why = msg->why;
        kill_process(link, TELEMETRY_DEATH_START, msg->why.text);
    } else if (link->state != STARTING || msg->kind != ENCODER_MSG_HELLO) {
        kill_process(link, TELEMETRY_DEATH_ANSWER, "a message that nothing was asked for");
    } else if (!is_expected(link, msg, &why)) {
        kill_process(link, TELEMETRY_DEATH_START, why.text);
    } else {
        link->hello = *msg;
        link->refusal = STATUS_OK;
        link->state = UP;
        link->due_us = DEADLINE_NONE;
        telemetry_encoder_state(link->telemetry, TELEMETRY_ENCODER_UP);
        log_info("encoder_up",
                 "pid=%ld device=%s took_ms=%" PRId64 " picture_us=%" PRIu64 " text_us=%" PRIu64,
                 (long)link->pid, log_quote(msg->device, quoted),
                 (clock_now_us() - link->since_us) / 1000, msg->picture_us, msg->text_us);
    }
}

void encoder_link_turn(struct encoder_link *link)
{
    assert(link && link->expected);

    enum heard heard = link->socket >= 0 ? HEARD_MESSAGE : HEARD_NOTHING;
    while (heard == HEARD_MESSAGE) {
        struct encoder_msg msg;
        struct reason why = {0};
        heard = hear(link, 0, &msg, &why);
        if (heard == HEARD_MESSAGE)
            take(link, &msg);
        else if (heard == HEARD_NONSENSE && link->state != ENDING)
            kill_process(link, TELEMETRY_DEATH_ANSWER, why.text);
        else if (heard == HEARD_END)
            note_hangup(link);
    }
    if (!clock_passed(link->due_us))
        return;
    if (link->state == STARTING)
        kill_process(link, TELEMETRY_DEATH_START, "it did not open its model within a minute");
    else if (link->state == ENDING)
        reap(link);
    else if (link->state == DOWN)
        start_again(link);
}

// ---------------------------------------------------------------- asking

static enum status give_up(struct encoder_link *link, enum telemetry_death cause,
                           enum status status, const char *words)
{
    kill_process(link, cause, words);
    return status;
}

static enum status wait_for_reply(struct encoder_link *link, const struct encoder_msg *asked,
                                  int64_t limit_us)
{
    struct encoder_msg reply;
    struct reason why = {0};
    switch (hear(link, clock_deadline_in_us(limit_us), &reply, &why)) {
    case HEARD_NOTHING:
        (void)reason_set(&why, STATUS_DEADLINE, NULL, "no answer within %" PRId64 " ms",
                         limit_us / 1000);
        return give_up(link, TELEMETRY_DEATH_HANG, STATUS_DEADLINE, why.text);
    case HEARD_END:
        note_hangup(link);
        return STATUS_IO;
    case HEARD_NONSENSE:
        return give_up(link, TELEMETRY_DEATH_ANSWER, STATUS_CORRUPT, why.text);
    case HEARD_MESSAGE:
        break;
    }
    if (reply.kind != ENCODER_MSG_REPLY || reply.number != asked->number)
        return give_up(link, TELEMETRY_DEATH_ANSWER, STATUS_CORRUPT,
                       "an answer to another question");
    enum status status = (enum status)reply.status;
    // The last two are about what was asked. A device that failed in any other way is not mended in
    // place.
    if (status == STATUS_OK || status == STATUS_INVALID || status == STATUS_UNSUPPORTED)
        return status;
    return give_up(link, TELEMETRY_DEATH_DEVICE, STATUS_IO, reply.why.text);
}

// Copies the embeddings out and looks at the copy.
static bool take_embeddings(const struct encoder_link *link, size_t count, float *embeddings)
{
    size_t dimension = link->expected->dimension;
    memcpy(embeddings, link->memory + ENCODER_MSG_INPUT_BYTES,
           count * dimension * sizeof(*embeddings));
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        for (size_t j = 0; j < dimension; j++)
            sum += (double)embeddings[i * dimension + j] * (double)embeddings[i * dimension + j];
        if (!(fabs(sqrt(sum) - 1) <= UNIT_ERROR)) // NaN, too, is not
            return false;
    }
    return true;
}

static enum status ask(struct encoder_link *link, enum encoder_msg_kind kind, size_t count,
                       float *embeddings)
{
    const struct encoder_msg question = {
        .version = ENCODER_MSG_VERSION,
        .kind = kind,
        .number = ++link->number,
        .count = (uint32_t)count,
    };
    if (send(link->socket, &question, sizeof(question), MSG_NOSIGNAL | MSG_DONTWAIT) !=
        (ssize_t)sizeof(question)) {
        note_hangup(link);
        return STATUS_IO;
    }
    uint64_t item_us = kind == ENCODER_MSG_PICTURES ? link->hello.picture_us : link->hello.text_us;
    int64_t item = item_us < (uint64_t)ITEM_US_MAX ? (int64_t)item_us : ITEM_US_MAX;
    enum status status =
        wait_for_reply(link, &question, HANG_US + HANG_TIMES * (int64_t)count * item);
    if (status == STATUS_OK && !take_embeddings(link, count, embeddings))
        return give_up(link, TELEMETRY_DEATH_ANSWER, STATUS_CORRUPT,
                       "an embedding that is no unit vector");
    return status;
}

enum status encoder_link_pictures(struct encoder_link *link, const uint8_t *pictures, size_t count,
                                  float *embeddings)
{
    assert(link && pictures && count > 0 && count <= ENCODER_PICTURES_MAX);

    size_t bytes = count * IMAGE_PICTURE_BYTES(link->expected->image_size);
    if (link->state != UP || bytes > ENCODER_MSG_INPUT_BYTES)
        return STATUS_UNAVAILABLE;
    memcpy(link->memory, pictures, bytes);
    return ask(link, ENCODER_MSG_PICTURES, count, embeddings);
}

enum status encoder_link_texts(struct encoder_link *link, const struct text *texts, size_t count,
                               float *embeddings, size_t *taken)
{
    assert(link && texts && count > 0 && taken);

    if (link->state != UP)
        return STATUS_UNAVAILABLE;
    *taken = encoder_msg_put_texts(link->memory, texts, count);
    if (*taken == 0)
        return STATUS_UNAVAILABLE;
    return ask(link, ENCODER_MSG_TEXTS, *taken, embeddings);
}

// ---------------------------------------------------------------- life

static void copy_arguments(struct encoder_link *link, const struct encoder_link_params *params)
{
    char threads[16];
    size_t count = 0;
    const struct clip_params *clip = params->clip;
    (void)snprintf(threads, sizeof(threads), "%d", clip->threads);
    link->arguments[count++] = mem_copy_text(params->program);
    link->arguments[count++] = mem_copy_text("--threads");
    link->arguments[count++] = mem_copy_text(threads);
    if (clip->device) {
        link->arguments[count++] = mem_copy_text("--device");
        link->arguments[count++] = mem_copy_text(clip->device);
    }
    if (clip->directory) {
        link->arguments[count++] = mem_copy_text("--model");
        link->arguments[count++] = mem_copy_text(clip->directory);
    }
    assert(count < ARGUMENTS_MAX);
}

enum status encoder_link_open(const struct encoder_link_params *params, struct encoder_link **out,
                              struct reason *why)
{
    assert(params && params->program && params->clip && out);

    struct encoder_link *link = mem_alloc(sizeof(*link));
    link->telemetry = params->telemetry;
    link->socket = -1;
    link->file = -1;
    link->backoff_us = BACKOFF_FIRST_US;
    copy_arguments(link, params);
    telemetry_encoder_state(link->telemetry, TELEMETRY_ENCODER_DOWN);
    enum status status = share_memory(link, why);
    if (status == STATUS_OK)
        status = start(link, why);
    if (status != STATUS_OK) {
        encoder_link_close(&link);
        return status;
    }
    *out = link;
    return STATUS_OK;
}

// Waits until the process is gone, at most so long.
static bool wait_gone(struct encoder_link *link, int64_t within_us)
{
    int64_t deadline_us = clock_deadline_in_us(within_us);
    struct encoder_msg ignored;
    while (link->pid && !clock_passed(deadline_us)) {
        if (link->socket >= 0 && hear(link, deadline_us, &ignored, NULL) == HEARD_END) {
            (void)close(link->socket);
            link->socket = -1;
        } else if (link->socket < 0) {
            (void)poll(NULL, 0, 1);
        }
        if (link->socket < 0 && waitpid(link->pid, NULL, WNOHANG) == link->pid)
            link->pid = 0;
    }
    return !link->pid;
}

void encoder_link_close(struct encoder_link **link)
{
    assert(link);

    struct encoder_link *ending = *link;
    if (!ending)
        return;
    const pid_t pid = ending->pid;
    if (ending->socket >= 0)
        (void)shutdown(ending->socket, SHUT_WR);
    if (pid && !wait_gone(ending, FAREWELL_US)) {
        (void)kill(pid, SIGKILL);
        if (!wait_gone(ending, FAREWELL_US))
            log_error("encoder_stuck", "pid=%ld", (long)pid);
    }
    if (ending->socket >= 0)
        (void)close(ending->socket);
    if (ending->memory)
        (void)munmap(ending->memory, ENCODER_MSG_MEMORY_BYTES);
    if (ending->file >= 0)
        (void)close(ending->file);
    for (size_t i = 0; ending->arguments[i]; i++)
        mem_free(ending->arguments[i]);
    mem_free(ending);
    *link = NULL;
}

enum status encoder_link_wait(struct encoder_link *link, const struct clip_info *expected,
                              struct reason *why)
{
    assert(link && expected);

    link->expected = expected;
    while (link->state == STARTING) {
        struct pollfd fd = {.fd = link->socket, .events = POLLIN};
        (void)poll(&fd, 1, clock_poll_ms(link->due_us, POLL_MS_MAX));
        encoder_link_turn(link);
    }
    if (link->refusal != STATUS_INVALID && link->refusal != STATUS_NOT_FOUND &&
        link->refusal != STATUS_UNSUPPORTED)
        return STATUS_OK;
    if (why)
        *why = link->why;
    return link->refusal;
}

int encoder_link_fd(const struct encoder_link *link)
{
    return link->socket;
}

int64_t encoder_link_next_us(const struct encoder_link *link)
{
    return link->due_us;
}

bool encoder_link_is_up(const struct encoder_link *link)
{
    return link->state == UP;
}

const char *encoder_link_device(const struct encoder_link *link)
{
    return link->hello.device;
}
