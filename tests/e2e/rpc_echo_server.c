// SPDX-License-Identifier: Apache-2.0
// rpc_echo_server.c - the tests' echo service as a program, for clients in other languages.
//
// usage: rpc_echo_server [ADDRESS]   prints "ready HOST:PORT", ends with SIGTERM

#include <signal.h>
#include <stdio.h>

#include "tests/unit/rpc_echo.h"

int main(int argc, char **argv)
{
    sigset_t ends;
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGTERM);
    (void)sigaddset(&ends, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &ends, NULL); // before any thread starts

    struct rpc_echo *echo = NULL;
    struct reason why;
    if (rpc_echo_start(argc > 1 ? argv[1] : "127.0.0.1:0", &echo, &why) != STATUS_OK) {
        (void)fprintf(stderr, "rpc_echo_server: %s\n", why.text);
        return 1;
    }
    (void)printf("ready 127.0.0.1:%d\n", rpc_echo_port(echo));
    (void)fflush(stdout);

    int which;
    (void)sigwait(&ends, &which);
    rpc_echo_stop(&echo);
    return 0;
}
