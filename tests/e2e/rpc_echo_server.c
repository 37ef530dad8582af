// SPDX-License-Identifier: Apache-2.0
// rpc_echo_server.c - the tests' echo service as a program, for clients in other languages.
//
// usage: rpc_echo_server [ADDRESS]
//
// Prints "ready HOST:PORT". SIGUSR1 turns serving off and on again, SIGTERM ends it.

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>

#include "tests/unit/rpc_echo.h"

int main(int argc, char **argv)
{
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGUSR1);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL); // before any thread starts

    struct rpc_echo *echo = NULL;
    struct reason why;
    if (rpc_echo_start(argc > 1 ? argv[1] : "127.0.0.1:0", &echo, &why) != STATUS_OK) {
        (void)fprintf(stderr, "rpc_echo_server: %s\n", why.text);
        return 1;
    }
    (void)printf("ready 127.0.0.1:%d\n", rpc_echo_port(echo));
    (void)fflush(stdout);

    bool serving = true;
    int which = 0;
    while (sigwait(&signals, &which) == 0 && which == SIGUSR1) {
        serving = !serving;
        rpc_echo_set_serving(echo, serving);
    }
    rpc_echo_stop(&echo);
    return 0;
}
