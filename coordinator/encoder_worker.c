// SPDX-License-Identifier: Apache-2.0
// encoder_worker.c - one question at a time, in the shared memory where it lies. The kernel
// kills this process when its coordinator is gone, also from a driver that does not come back.

#include "coordinator/encoder_worker.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"
#include "shaders/models/image.h"

#define FAILED 1
#define THREADS_MAX 1024

struct worker {
    const struct encoder_worker_params *params;
    struct clip *clip;
    int signals;     // SIGTERM and SIGINT, as a descriptor
    uint8_t *memory; // ENCODER_MSG_MEMORY_BYTES
    struct text texts[ENCODER_MSG_TEXTS_MAX];
};

enum status encoder_worker_read(int argc, char **argv, struct clip_params *out, struct reason *why)
{
    assert(argv && out);

    struct clip_params read = {.directory = NULL};
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        char *end = NULL;
        if (strcmp(argv[i], "--model") == 0)
            read.directory = value;
        else if (strcmp(argv[i], "--device") == 0)
            read.device = value;
        else if (strcmp(argv[i], "--threads") == 0)
            read.threads = (int)strtol(value, &end, 10);
        else
            return reason_set(why, STATUS_INVALID, argv[i], "is no flag of this program");
        if (end && (*end || end == value || read.threads < 0 || read.threads > THREADS_MAX))
            return reason_set(why, STATUS_INVALID, argv[i], "'%s'; 0 to %d is allowed", value,
                              THREADS_MAX);
    }
    if (argc % 2 == 0)
        return reason_set(why, STATUS_INVALID, argv[argc - 1], "a flag and its value are wanted");
    *out = read;
    return STATUS_OK;
}

// ---------------------------------------------------------------- the coordinator

static enum status find_coordinator(struct worker *worker, struct reason *why)
{
    struct stat about;
    if (fstat(ENCODER_MSG_SOCKET, &about) != 0 || !S_ISSOCK(about.st_mode) ||
        fstat(ENCODER_MSG_MEMORY, &about) != 0 || about.st_size != (off_t)ENCODER_MSG_MEMORY_BYTES)
        return reason_set(why, STATUS_FAILED_PRECONDITION, NULL,
                          "this program is started by reco-coordinator ([encoder] process), "
                          "which gives it a socket and memory; by hand it has nothing to do");
    void *memory = mmap(NULL, ENCODER_MSG_MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                        ENCODER_MSG_MEMORY, 0);
    if (memory == MAP_FAILED)
        return reason_set(why, STATUS_EXHAUSTED, NULL, "the memory cannot be mapped: %s",
                          SYSTEM_ERROR(errno));
    worker->memory = memory;

    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    worker->signals = signalfd(-1, &signals, SFD_CLOEXEC);
    // Its death is told also by the socket, but not to a driver that does not come back.
    if (worker->signals < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return reason_set(why, STATUS_EXHAUSTED, NULL, "%s", SYSTEM_ERROR(errno));
    return STATUS_OK;
}

static bool tell(const struct encoder_msg *msg)
{
    return send(ENCODER_MSG_SOCKET, msg, sizeof(*msg), MSG_NOSIGNAL) == (ssize_t)sizeof(*msg);
}

// The next question; false when none will come, or one that is not understood.
static bool hear(const struct worker *worker, struct encoder_msg *out, bool *is_understood)
{
    struct pollfd fds[] = {{.fd = ENCODER_MSG_SOCKET, .events = POLLIN},
                           {.fd = worker->signals, .events = POLLIN}};
    struct reason why = {0};
    char quoted[LOG_QUOTE_BYTES];
    uint8_t packet[sizeof(*out) + 1];
    int ready = 0;
    do {
        ready = poll(fds, 2, -1);
    } while (ready < 0 && errno == EINTR);
    ssize_t got = fds[0].revents ? recv(ENCODER_MSG_SOCKET, packet, sizeof(packet), 0) : 0;
    if (got <= 0)
        return false;
    *is_understood =
        encoder_msg_read((struct bytes){packet, (size_t)got}, out, &why) == STATUS_OK &&
        (out->kind == ENCODER_MSG_PICTURES || out->kind == ENCODER_MSG_TEXTS);
    if (!*is_understood)
        log_error("encoder_question", "reason=%s", log_quote(why.text, quoted));
    return *is_understood;
}

// ---------------------------------------------------------------- work

static enum status encode(struct worker *worker, const struct encoder_msg *question,
                          struct reason *why)
{
    const struct clip_info *info = clip_info(worker->clip);
    void *output = worker->memory + ENCODER_MSG_INPUT_BYTES;
    if (question->kind == ENCODER_MSG_TEXTS) {
        struct bytes input = {worker->memory, ENCODER_MSG_INPUT_BYTES};
        enum status status = encoder_msg_get_texts(input, question->count, worker->texts, why);
        return status == STATUS_OK
                   ? clip_encode_texts(worker->clip, worker->texts, question->count, output, why)
                   : status;
    }
    if (!info->image ||
        question->count * IMAGE_PICTURE_BYTES(info->image_size) > ENCODER_MSG_INPUT_BYTES)
        return reason_set(why, STATUS_UNSUPPORTED, "image", "the model %s takes no such pictures",
                          info->name);
    return clip_encode_pictures(worker->clip, worker->memory, question->count, output, why);
}

// How long one item takes; the second time, when everything is warm. 0 when it cannot be done.
static enum status measure(struct worker *worker, enum encoder_msg_kind kind, uint64_t *took_us,
                           struct reason *why)
{
    static const struct text anchor = {"a picture of an anchor", 22};
    const struct encoder_msg question = {.kind = kind, .count = 1};
    enum status status = STATUS_OK;
    if (kind == ENCODER_MSG_TEXTS)
        (void)encoder_msg_put_texts(worker->memory, &anchor, 1);
    for (int i = 0; i < 2 && status == STATUS_OK; i++) {
        int64_t begun_us = clock_now_us();
        status = encode(worker, &question, why);
        *took_us = (uint64_t)(clock_now_us() - begun_us);
    }
    if (status == STATUS_UNSUPPORTED) { // by the model: then nobody will ask
        *took_us = 0;
        return STATUS_OK;
    }
    return status;
}

// Opens the model and says so; false when that failed.
static bool greet(struct worker *worker)
{
    struct encoder_msg hello = {.version = ENCODER_MSG_VERSION, .kind = ENCODER_MSG_HELLO};
    struct reason why = {0};
    enum status status = clip_open(&worker->params->clip, &worker->clip, &why);
    if (status == STATUS_OK)
        status = measure(worker, ENCODER_MSG_PICTURES, &hello.picture_us, &why);
    if (status == STATUS_OK)
        status = measure(worker, ENCODER_MSG_TEXTS, &hello.text_us, &why);
    if (status != STATUS_OK) {
        hello.kind = ENCODER_MSG_REFUSAL;
        hello.status = status;
        hello.why = why;
        (void)tell(&hello);
        return false;
    }
    const struct clip_info *info = clip_info(worker->clip);
    hello.dimension = info->dimension;
    hello.image_size = info->image_size;
    (void)snprintf(hello.space, sizeof(hello.space), "%s", info->space);
    (void)snprintf(hello.device, sizeof(hello.device), "%s", info->device);
    return tell(&hello);
}

static void serve(struct worker *worker, bool *is_understood)
{
    struct encoder_msg question;
    while (hear(worker, &question, is_understood)) {
        struct encoder_msg reply = {
            .version = ENCODER_MSG_VERSION, .kind = ENCODER_MSG_REPLY, .number = question.number};
        reply.status = encode(worker, &question, &reply.why);
        if (worker->params->spoil)
            worker->params->spoil(&question, &reply,
                                  (void *)(worker->memory + ENCODER_MSG_INPUT_BYTES));
        if (!tell(&reply))
            return;
    }
}

int encoder_worker_run(const struct encoder_worker_params *params)
{
    assert(params);

    struct worker *worker = mem_alloc(sizeof(*worker));
    struct reason why = {0};
    worker->params = params;
    worker->signals = -1;
    bool is_good = find_coordinator(worker, &why) == STATUS_OK;
    if (!is_good)
        (void)fprintf(stderr, "reco-encoder: %s\n", why.text);
    else
        is_good = greet(worker);
    if (is_good)
        serve(worker, &is_good);
    clip_close(&worker->clip);
    if (worker->memory)
        (void)munmap(worker->memory, ENCODER_MSG_MEMORY_BYTES);
    if (worker->signals >= 0)
        (void)close(worker->signals);
    mem_free(worker);
    return is_good ? 0 : FAILED;
}
