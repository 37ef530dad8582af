// SPDX-License-Identifier: Apache-2.0
// thread.c - threads as objects.
//
//   starting --thread_ready(OK)--> running --body returns--> ended --thread_join--> freed
//      |
//      +------thread_ready(failure), body returns, joined and freed by thread_start

#include "proto/base/thread.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "proto/base/mem.h"

#define THREAD_NAME_BYTES 16 // Linux keeps no more, with the NUL

struct thread {
    pthread_t handle;
    thread_body body;
    void *context;
    char name[THREAD_NAME_BYTES];
    pthread_mutex_t lock; // protects `answered` and `answer`
    pthread_cond_t answer_changed;
    bool answered;
    enum status answer;
};

static void *run_thread(void *argument)
{
    struct thread *self = argument;

    (void)prctl(PR_SET_NAME, self->name, 0, 0, 0); // a missing name is no harm
    self->body(self, self->context);
    assert(self->answered); // read by the thread that wrote it: no lock needed
    return NULL;
}

// All signals go to the main thread, except those that this thread's own
// instructions raise.
static void block_signals(sigset_t *previous)
{
    sigset_t blocked;
    (void)sigfillset(&blocked);
    (void)sigdelset(&blocked, SIGSEGV);
    (void)sigdelset(&blocked, SIGBUS);
    (void)sigdelset(&blocked, SIGFPE);
    (void)sigdelset(&blocked, SIGILL);
    (void)sigdelset(&blocked, SIGABRT);
    (void)sigdelset(&blocked, SIGTRAP);
    (void)pthread_sigmask(SIG_SETMASK, &blocked, previous);
}

static enum status wait_for_answer(struct thread *thread)
{
    (void)pthread_mutex_lock(&thread->lock);
    while (!thread->answered)
        (void)pthread_cond_wait(&thread->answer_changed, &thread->lock);
    enum status answer = thread->answer;
    (void)pthread_mutex_unlock(&thread->lock);
    return answer;
}

static void free_thread(struct thread *thread)
{
    (void)pthread_cond_destroy(&thread->answer_changed);
    (void)pthread_mutex_destroy(&thread->lock);
    mem_free(thread);
}

enum status thread_start(const char *name, thread_body body, void *context, struct thread **out)
{
    assert(name);
    assert(body);
    assert(out);

    struct thread *thread = mem_alloc(sizeof(*thread));
    thread->body = body;
    thread->context = context;
    (void)snprintf(thread->name, sizeof(thread->name), "%.15s", name);
    int error = pthread_mutex_init(&thread->lock, NULL);
    error |= pthread_cond_init(&thread->answer_changed, NULL);
    assert(error == 0);

    sigset_t previous;
    block_signals(&previous);
    error = pthread_create(&thread->handle, NULL, run_thread, thread);
    (void)pthread_sigmask(SIG_SETMASK, &previous, NULL);
    if (error != 0) { // the system has no more threads or no memory for a stack
        free_thread(thread);
        return STATUS_EXHAUSTED;
    }

    enum status answer = wait_for_answer(thread);
    if (answer != STATUS_OK) {
        (void)pthread_join(thread->handle, NULL);
        free_thread(thread);
        return answer;
    }
    *out = thread;
    return STATUS_OK;
}

void thread_ready(struct thread *self, enum status status)
{
    assert(self);

    (void)pthread_mutex_lock(&self->lock);
    assert(!self->answered);
    self->answered = true;
    self->answer = status;
    (void)pthread_cond_signal(&self->answer_changed);
    (void)pthread_mutex_unlock(&self->lock);
}

void thread_join(struct thread **thread)
{
    assert(thread);

    if (!*thread)
        return;
    int error = pthread_join((*thread)->handle, NULL);
    assert(error == 0);
    (void)error;
    free_thread(*thread);
    *thread = NULL;
}
