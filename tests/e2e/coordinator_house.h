// SPDX-License-Identifier: Apache-2.0
// coordinator_house.h - a whole cluster inside a test: nodes, a bus, a coordinator, a folder.
//
// Every function fails the running test when something goes wrong that the test did not ask for.
//
// Thread-safety: none.

#ifndef RECO_TESTS_COORDINATOR_HOUSE_H
#define RECO_TESTS_COORDINATOR_HOUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/coordinator.h"
#include "proto/base/arena.h"
#include "proto/base/reason.h"
#include "proto/bus/bus.h"
#include "proto/wire/api.h"
#include "shard_node/node.h"

#define HOUSE_DIMENSION 32
#define HOUSE_SPACE "arrays:32"

struct house {
    char root[64];
    uint32_t node_count;
    struct bus *bus;
    struct node *nodes[NODES_MAX];
    struct coordinator *coordinator;
    struct arena *arena; // of what calls return
    int64_t deadline_us; // of the next calls; 0: none
};

// A new folder with `nodes` nodes behind inproc://, and `listen` (NULL: no gRPC).
void house_open(struct house *house, uint32_t nodes, const char *listen);
void house_close(struct house *house);

void house_restart(struct house *house); // closes everything and opens it again on the same folder
void house_stop_node(struct house *house, uint32_t node);
void house_start_node(struct house *house, uint32_t node); // and waits until it is up
void house_wait_down(struct house *house, uint32_t node);

// One call with encoded bytes; *reply is in the house's arena.
enum status house_call(struct house *house, enum api_method method, struct buffer *request,
                       struct bytes *reply, struct reason *why);

// --- memories of arrays: record i has key "k<i>", caption "caption <i>", random embeddings

void house_create(struct house *house, const char *name, bool building, bool replace);
enum status house_create_status(struct house *house, const struct api_create_request *request,
                                struct api_memory_info *info, struct reason *why);

// Embeddings of record i for a modality: 0 image, 1 text.
void house_embedding(uint32_t record, uint32_t modality, float out[HOUSE_DIMENSION]);

struct house_ingest {
    const char *memory;
    uint32_t from, to; // records [from, to)
    bool finish;
    bool skip_existing;
    uint32_t batch;  // records of a message; 0: 100
    const char *tag; // of every record, beside "m<i % 10>"; NULL: no tags at all
};
enum status house_ingest(struct house *house, const struct house_ingest *ingest,
                         struct api_ingest_reply *reply, struct reason *why);
void house_fill(struct house *house, const char *name, uint32_t records); // create and ingest

// Embeddings of the embedded model's dimension, some numbers from 1 to 2000 for each `seed`, no
// unit vectors.
#define HOUSE_MODEL_DIMENSION 128
void house_model_embedding(uint32_t seed, float out[HOUSE_MODEL_DIMENSION]);
// The memory "default" in the embedded model's space, of such embeddings; at most
// WRITE_RECORDS_MAX.
void house_fill_model_space(struct house *house, uint32_t records);

// --- questions

// A search or refinement by the embedding of a record (plus noise), k = 10, over images.
struct api_query_request house_question(uint32_t record, float embedding[HOUSE_DIMENSION]);
enum status house_query(struct house *house, enum api_method method,
                        const struct api_query_request *request, struct api_answer *answer,
                        struct reason *why);
enum status house_compile(struct house *house, const struct api_labels_request *request,
                          struct api_answer *answer, struct reason *why);

// Whether two answers have the same neighbours, scores, embedding and gate, bit for bit.
bool house_same(const struct api_answer *a, const struct api_answer *b);

#endif
