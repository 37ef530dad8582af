// SPDX-License-Identifier: Apache-2.0
// The kernel gives the lowest free number to a new file, so the number itself says how many are
// open. One file is kept open for nothing: when even accept4() finds none, it is closed to take the
// connection and refuse it, or the listener would be told of it again and again.

#include "proto/rpc/rpc_accept.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/machine.h"

#define KEPT_SHARE 8    // of the files for everything else: an eighth,
#define KEPT_MAX 64     // at most so many
#define NUMBER_MAX 4096 // of a connection, however many files there may be
#define LOG_EVERY_US 1000000

// Not POSIX, so no header of ours declares it; the C library's header has an argument that is a
// union.
int accept4(int listener, struct sockaddr *address, socklen_t *bytes, int flags);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; // of `spare`
static int spare = -1;
static atomic_int numbers_max = -1; // of a connection; -1: any
static _Atomic int64_t logged_us;

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void rpc_accept_prepare(void)
{
    const uint64_t files = machine_files();
    const uint64_t kept = files / KEPT_SHARE < KEPT_MAX ? files / KEPT_SHARE : KEPT_MAX;
    atomic_store(&numbers_max, files - kept < NUMBER_MAX ? (int)(files - kept) : NUMBER_MAX);
    pthread_mutex_lock(&lock);
    if (spare < 0)
        spare = open_spare();
    pthread_mutex_unlock(&lock);
}

static void tell(void)
{
    const int64_t now = clock_now_us();
    if (now - atomic_load(&logged_us) < LOG_EVERY_US)
        return;
    atomic_store(&logged_us, now);
    log_warn("connection_refused", "reason=\"too many connections\" limit=%d",
             atomic_load(&numbers_max));
}

static int take(int listener, struct sockaddr *address, socklen_t *bytes, int flags)
{
    return (int)syscall(SYS_accept4, listener, address, bytes, flags);
}

// Takes the connection with the spare file and closes it. False when there was none to take.
static bool refuse_with_spare(int listener)
{
    pthread_mutex_lock(&lock);
    if (spare >= 0)
        close(spare);
    const int refused = take(listener, NULL, NULL, SOCK_CLOEXEC);
    if (refused >= 0)
        close(refused);
    spare = open_spare();
    pthread_mutex_unlock(&lock);
    return refused >= 0;
}

// In the place of the C library's.
int accept4(int listener, struct sockaddr *address, socklen_t *bytes, int flags)
{
    const socklen_t room = bytes ? *bytes : 0;
    for (;;) {
        if (bytes)
            *bytes = room;
        const int taken = take(listener, address, bytes, flags);
        const int most = atomic_load(&numbers_max);
        if (taken >= 0 && (most < 0 || taken < most))
            return taken;
        if (taken < 0 && (most < 0 || (errno != EMFILE && errno != ENFILE)))
            return -1;
        tell();
        if (taken >= 0) {
            close(taken);
        } else if (!refuse_with_spare(listener)) {
            errno = EAGAIN;
            return -1;
        }
    }
}
