// SPDX-License-Identifier: Apache-2.0
// datadir.h - the data directory: what is in it, which version, who holds it.
//
//   FORMAT     "reco 1" and "nodes N": version and number of nodes, fixed at creation
//   LOCK       pid and address of the process that holds it (flock; left behind harmlessly)
//   meta.json  memories, generations, aliases (coordinator/meta)
//   keys/      CURVE keys of the cluster
//   node-0 .. node-N-1/
//
// Thread-safety: none; a datadir belongs to the thread that opened it.

#ifndef RECO_COORDINATOR_DATADIR_H
#define RECO_COORDINATOR_DATADIR_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

#define DATADIR_PATH_BYTES 4096

struct datadir;

struct datadir_params {
    const char *path;    // made, with its parents, when `create`
    bool create;         // else STATUS_NOT_FOUND when it is not there
    uint32_t nodes;      // wanted N; 0: as it is, 1 when new
    const char *address; // of the server that opens it, told to those who are refused; NULL: none
};

// Opens and locks. STATUS_FAILED_PRECONDITION when a live process holds it (naming pid and address
// and that `--server ADDRESS` reaches it), when it has another N, or a newer FORMAT (naming both);
// STATUS_CORRUPT for a FORMAT that is none; STATUS_IO. A directory that is not empty and has no
// FORMAT is refused: nothing of another's is ever written over.
enum status datadir_open(const struct datadir_params *params, struct datadir **out,
                         struct reason *why) MUST_CHECK;

// Releases the lock; sets *datadir to NULL. NULL is allowed.
void datadir_close(struct datadir **datadir);

// Tells those who will be refused where the server is, once it is known.
enum status datadir_set_address(struct datadir *datadir, const char *address) MUST_CHECK;

// Whether the process `pid` holds the data directory at `path`: a server that `reco up` starts
// works under its parent's lock.
bool datadir_is_held_by(const char *path, long pid);

const char *datadir_path(const struct datadir *datadir);
uint32_t datadir_nodes(const struct datadir *datadir);

// "PATH/node-INDEX" and "PATH/keys" into the caller's text.
void datadir_node_path(const struct datadir *datadir, uint32_t index, char out[DATADIR_PATH_BYTES]);
void datadir_keys_path(const struct datadir *datadir, char out[DATADIR_PATH_BYTES]);

// Where verbs look without --data: $RECO_DATA, else $XDG_DATA_HOME/reco, else
// ~/.local/share/reco. STATUS_NOT_FOUND without any of them.
enum status datadir_default_path(char out[DATADIR_PATH_BYTES]) MUST_CHECK;

#endif
