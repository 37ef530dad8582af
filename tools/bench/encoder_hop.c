// SPDX-License-Identifier: Apache-2.0
// encoder_hop - what it costs that encoding runs in a process of its own, and what it brings that
// askers share batches.
//
// usage: encoder_hop PROGRAM PICTURE ROUNDS [MODEL]
//
// Two computes are alive in this process: one computes here, the other has reco-encoder (PROGRAM),
// both on the CPU with all threads. In each round each of them, in turn, gets what 1, 8 and 32
// askers ask, of whom each asks again when he has his answer. So load of the machine falls on both
// alike. Told is the best round of each and, for several askers, the ratio to one asker.

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/compute.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#define ROUNDS_MAX 101
#define ASKERS_MAX 32
#define QUESTIONS 64 // of one round, all askers together

struct asker {
    struct compute_job job;
    struct compute *compute;
    struct text text;
    struct bytes file;
    enum status status;
    struct reason why;
    float *embedding;
};

static struct asker askers[ASKERS_MAX];
static int rounds;
static int left; // questions that are not asked yet

static void ask(struct asker *asker);

static void on_done(void *context, struct compute_job *job)
{
    if (job->status != STATUS_OK) {
        (void)fprintf(stderr, "encoder_hop: %s\n", job->why.text);
        _Exit(1);
    }
    if (left > 0)
        ask(context);
}

static void ask(struct asker *asker)
{
    left--;
    asker->job.done = on_done;
    asker->job.context = asker;
    if (asker->job.kind == COMPUTE_TEXTS)
        asker->job.texts = (struct compute_texts){&asker->text, 1, asker->embedding};
    else
        asker->job.images = (struct encoder_images){.files = &asker->file,
                                                    .count = 1,
                                                    .embeddings = asker->embedding,
                                                    .statuses = &asker->status,
                                                    .reasons = &asker->why};
    struct reason why = {0};
    if (compute_submit(asker->compute, &asker->job, &why) != STATUS_OK)
        _Exit(1);
}

// Milliseconds of one question.
static double run(struct compute *compute, enum compute_kind kind, int count)
{
    int64_t begun_us = clock_now_us();
    left = QUESTIONS;
    for (int i = 0; i < count; i++) {
        askers[i].compute = compute;
        askers[i].job.kind = kind;
        ask(&askers[i]);
    }
    while (compute_running(compute) > 0) {
        struct pollfd fd = {.fd = compute_fd(compute), .events = POLLIN};
        (void)poll(&fd, 1, -1);
        compute_collect(compute);
    }
    return (double)(clock_now_us() - begun_us) / 1000 / QUESTIONS;
}

// The best round: what others do on the machine only adds to it.
static double best(const double *values)
{
    double least = values[0];
    for (int i = 1; i < rounds; i++)
        least = values[i] < least ? values[i] : least;
    return least;
}

static void measure(struct compute *const *computes, enum compute_kind kind)
{
    static const int counts[] = {1, 8, 32};
    static double took_ms[3][2][ROUNDS_MAX];
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < 3; i++)
            for (int way = 0; way < 2; way++) {
                int turn = (way + round) % 2;
                took_ms[i][turn][round] = run(computes[turn], kind, counts[i]);
            }
    double alone_ms[] = {best(took_ms[0][0]), best(took_ms[0][1])};
    for (int i = 0; i < 3; i++) {
        double here_ms = best(took_ms[i][0]);
        double there_ms = best(took_ms[i][1]);
        (void)printf("%-8s %2d askers: here %8.3f ms each (%.2f times one asker's speed), process "
                     "%8.3f (%.2f); the process costs %+.3f ms\n",
                     kind == COMPUTE_TEXTS ? "texts" : "pictures", counts[i], here_ms,
                     alone_ms[0] / here_ms, there_ms, alone_ms[1] / there_ms, there_ms - here_ms);
    }
}

static struct compute *start(const char *model, const char *program)
{
    struct reason why = {0};
    struct compute *compute = NULL;
    const struct encoder_params params = {.clip = {.directory = model, .device = "cpu"},
                                          .process = program};
    if (compute_start(&params, &compute, &why) != STATUS_OK) {
        (void)fprintf(stderr, "encoder_hop: %s: %s\n", why.field, why.text);
        _Exit(1);
    }
    return compute;
}

int main(int argc, char **argv)
{
    struct buffer picture = {0};
    rounds = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0;
    if (rounds < 1 || rounds > ROUNDS_MAX ||
        bytes_read_file(argv[2], IMAGE_BYTES_MAX, &picture) != STATUS_OK) {
        (void)fputs("usage: encoder_hop PROGRAM PICTURE ROUNDS [MODEL]\n", stderr);
        return 2;
    }
    const char *model = argc > 4 ? argv[4] : NULL;
    struct compute *computes[] = {start(model, NULL), start(model, argv[1])};
    for (int i = 0; i < ASKERS_MAX; i++) {
        askers[i].text = text_of("a drawing of an anchor by the sea");
        askers[i].file = (struct bytes){picture.data, picture.count};
        askers[i].embedding =
            mem_alloc_array(compute_info(computes[0])->dimension, sizeof(*askers[i].embedding));
    }
    measure(computes, COMPUTE_TEXTS);
    measure(computes, COMPUTE_IMAGES);
    for (int i = 0; i < ASKERS_MAX; i++)
        mem_free(askers[i].embedding);
    compute_stop(&computes[0]);
    compute_stop(&computes[1]);
    buffer_deinit(&picture);
    return 0;
}
