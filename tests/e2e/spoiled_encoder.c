// SPDX-License-Identifier: Apache-2.0
// spoiled_encoder - reco-encoder with a driver that fails as the test wants it: RECO_SPOIL says
// how, "HOW" or "HOW:N", at the N-th question of this process. It is a program of the tests only.

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/encoder_worker.h"

static char how[32];
static unsigned long at;
static unsigned long questions;

static bool is(const char *name)
{
    return strcmp(how, name) == 0;
}

static void spoil(const struct encoder_msg *question, struct encoder_msg *reply, float *output)
{
    (void)question;
    if (++questions != at)
        return;
    if (is("die"))
        (void)raise(SIGKILL);
    while (is("hang"))
        (void)pause();
    if (is("close"))
        (void)close(ENCODER_MSG_SOCKET); // and goes on
    if (is("nan"))
        output[0] = NAN;
    if (is("zero"))
        output[0] = output[1] += 1.0f;
    if (is("number"))
        reply->number++;
    if (is("kind"))
        reply->kind = ENCODER_MSG_HELLO;
    if (is("version"))
        reply->version = 99;
    if (is("lost") || is("memory") || is("refuse")) {
        reply->status = is("lost")     ? STATUS_UNAVAILABLE
                        : is("memory") ? STATUS_NO_MEMORY
                                       : STATUS_INVALID;
        (void)reason_set(&reply->why, (enum status)reply->status, NULL, "the driver says %s", how);
    }
}

int main(int argc, char **argv)
{
    struct encoder_worker_params params = {.spoil = spoil};
    struct reason why = {0};
    const char *plan = getenv("RECO_SPOIL");
    if (plan && sscanf(plan, "%31[a-z]:%lu", how, &at) < 1)
        return 2;
    if (is("start")) { // without the words of a sanitizer
        (void)signal(SIGSEGV, SIG_DFL);
        (void)raise(SIGSEGV);
    }
    if (encoder_worker_read(argc, argv, &params.clip, &why) != STATUS_OK)
        return 2;
    if (is("model"))
        params.clip.directory = getenv("RECO_SPOIL_MODEL");
    return encoder_worker_run(&params);
}
