// SPDX-License-Identifier: Apache-2.0
// kill_house.h - a reco-shard that is killed at random moments while a client writes, deletes and
// bulk loads, and what has to be there afterwards.
//
// The real program, encrypted TCP, one connection. RECO_TEST_SEED chooses another seed, RECO_KILLS
// another number of kills. Every function fails the running test.
//
// Thread-safety: none; each Criterion test is a process of its own.

#ifndef RECO_TESTS_KILL_HOUSE_H
#define RECO_TESTS_KILL_HOUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/bytes.h"
#include "proto/base/status.h"
#include "proto/bus/dealer.h"

#define DIMENSION 96
#define CLUSTERS 61 // of the rows: those of one version are near each other
#define GENERATION 1
#define VSHARDS 16
#define RECORDS_MAX 40000
#define IN_FLIGHT 24
#define BULK_BATCH 400
#define PATIENCE_US 30000000

extern char directory[64]; // of the test

void make_directory(void);
void remove_directory(void);

uint64_t next_number(void);
void set_seed(const char *test); // and prints it

// --- the process and the connection

struct shard {
    pid_t pid;
    struct bus *bus;
    struct dealer *dealer;
    uint32_t peer;
};

struct shard open_shard(void); // its log is appended to DIRECTORY/log
void kill_shard(struct shard *shard);
void stop_shard(struct shard *shard);

struct answer {
    bool is_there;
    enum status status;
    struct buffer body;
    struct buffer rows;
};

// Each ends `body`. The caller ends what is in the answer.
struct answer ask(struct shard *shard, enum shard_type type, struct buffer *body);
struct answer ask_with_rows(struct shard *shard, enum shard_type type, struct buffer *body,
                            struct bytes rows);
void keep_answer(void *context, const struct dealer_reply *reply);

// --- records

struct known {
    uint32_t version;  // acknowledged; 0: not there
    uint32_t had;      // the last one that was not 0
    uint32_t maybe[4]; // versions of requests without an answer; 0 is a deletion
    int maybe_count;
    bool busy; // a request is on its way
};

extern struct known records[RECORDS_MAX];

void create_generation(struct shard *shard);
uint64_t id_of(uint64_t number);
void fill_rows(uint64_t number, uint32_t version, uint16_t *rows); // image, then text

struct change {
    bool used;
    bool bulk;
    uint32_t version; // 0: deletion
    size_t count;
    uint32_t numbers[BULK_BATCH];
};

extern struct change changes[IN_FLIGHT];

struct buffer delete_body(const struct change *change);
bool send_change(struct shard *shard, struct change *change); // false when the node is gone

// --- killing

// Each begins one change, and gives false when the node is gone.
bool start_single(struct shard *shard, struct change *change);
bool start_bulk(struct shard *shard, struct change *change);

#define KILL_LAST (-1) // what check is told at the end

struct kill_plan {
    const char *name;
    uint32_t records; // a multiple of 1,000
    uint64_t first;   // acknowledged before the first kill
    int kills;
    int64_t longest_us; // between two
    bool (*start)(struct shard *shard, struct change *change);
    void (*check)(struct shard *shard, int number); // after each kill, or NULL
};

void kill_and_check(const struct kill_plan *plan);

#endif
