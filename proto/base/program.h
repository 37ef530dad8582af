// SPDX-License-Identifier: Apache-2.0
// program.h - the life of a server process, the same for each: main() is a table and one call.
//
//   configuration -> check -> start -> announce -> wait --SIGTERM, SIGINT--> stop -> exit 0
//        |             |        |                  |  ^
//        |             |        v                  v  |
//        |             |     stop, exit 1        SIGHUP: configuration -> check -> reload
//        +-------------+--> exit 2
//
// --help, --version and --print-config end it before anything is started. Errors name what the
// person wrote: the flag, the variable, or the line of the file.
//
// Thread-safety: none; the main thread owns it, before any other is started.

#ifndef RECO_PROTO_BASE_PROGRAM_H
#define RECO_PROTO_BASE_PROGRAM_H

#include "proto/base/config.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define PROGRAM_FAILED 1 // exit status: it could not start
#define PROGRAM_USAGE 2  // or what it was told is wrong

// Settings are those of the table. Errors call a key by its flag, or "[section] name".
struct program {
    const struct config_table *table;
    const char *version;
    size_t level_offset; // offsetof() the int of [log] level in the settings
    void *house;         // given back to every function below
    // What no single key shows. Starts nothing and changes nothing.
    enum status (*check)(const void *settings, struct reason *why);
    // STATUS_INVALID is wrong usage. The settings stay until stop has returned. What a failed start
    // leaves is stop's.
    enum status (*start)(void *house, const void *settings, struct reason *why);
    void (*announce)(const void *house); // prints "ready ..."
    // Takes over what can be, all or nothing; the settings end with the call.
    enum status (*reload)(void *house, const void *settings, struct reason *why);
    void (*look)(void *house); // called every second while it waits; NULL: no need
    void (*stop)(void *house);
};

// Returns the exit status.
int program_main(const struct program *program, int argc, const char *const *argv);

#endif
