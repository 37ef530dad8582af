// SPDX-License-Identifier: Apache-2.0
// A port is tried by binding it. Picked ones are all held until the last is known, so
// that none comes twice.

#include "tools/ports.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/system_error.h"

// A socket bound to the port (0: any) of the loopback; -1.
static int bind_port(uint16_t port)
{
    int file = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (file < 0)
        return -1;
    // What listens later sets it too: a port with connections that are only lingering is free.
    const int yes = 1;
    (void)setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    const struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
    };
    // A listener of another user of SO_REUSEADDR shows only at listen().
    if (bind(file, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
        (port == 0 || listen(file, 1) == 0))
        return file;
    int error = errno;
    (void)close(file);
    errno = error;
    return -1;
}

bool ports_is_free(uint16_t port)
{
    assert(port);

    int file = bind_port(port);
    if (file >= 0)
        (void)close(file);
    return file >= 0;
}

enum status ports_pick(uint16_t *ports, size_t count, struct reason *why)
{
    assert(count <= PORTS_MAX);

    int files[PORTS_MAX];
    size_t held = 0;
    while (held < count) {
        struct sockaddr_in address = {.sin_family = AF_INET};
        socklen_t bytes = sizeof(address);
        int file = bind_port(0);
        if (file < 0)
            break;
        files[held] = file;
        if (getsockname(file, (struct sockaddr *)&address, &bytes) != 0) {
            (void)close(file);
            break;
        }
        ports[held++] = ntohs(address.sin_port);
    }
    int error = errno;
    bool enough = held == count;
    while (held)
        (void)close(files[--held]);
    return enough
               ? STATUS_OK
               : reason_set(why, STATUS_EXHAUSTED, NULL, "no free ports: %s", SYSTEM_ERROR(error));
}
