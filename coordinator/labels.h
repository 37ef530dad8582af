// SPDX-License-Identifier: Apache-2.0
// labels.h - label sets, their class prototypes, and a bounded cache of both.
//
// A label set is labels and templates in the space of one model. A label's plain prototype is
// the normalised mean of its prompts' unit embeddings, a prompt being a template with the label in
// place of its {}. Refined prototypes are made from the plain ones by a memory; they depend on
// the memory's records and on the options, all of which go into their digest, so that stale ones
// are simply never found again.
//
// Whoever finds or makes an object holds it until label_set_release() or
// label_prototypes_release(); the cache holds what it keeps in the same way.
//
// Thread-safety: none; the loop thread makes every call. Values may be read by compute jobs.

#ifndef RECO_COORDINATOR_LABELS_H
#define RECO_COORDINATOR_LABELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/question.h"
#include "proto/base/bytes.h"
#include "proto/base/hash.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define LABELS_CACHE_BYTES ((size_t)256 << 20)
#define LABELS_CACHE_ENTRIES 1024 // found by walking a list
#define LABEL_PROMPT_BYTES_MAX TEXT_BYTES_MAX

struct labels;

struct label_set {
    uint8_t digest[HASH_SHA256_BYTES]; // of space, templates and labels
    char id[LABEL_SET_ID_BYTES + 1];   // its first half in hexadecimal digits
    size_t count;                      // labels, 1..LABELS_MAX
    const struct text *labels;
    size_t template_count; // 1..TEMPLATES_MAX
    const struct text *templates;
    size_t bytes;      // memory
    bool is_transient; // made for one answer: the cache does not keep what comes of it
    uint32_t holders;
};

struct label_prototypes {
    uint8_t digest[HASH_SHA256_BYTES]; // the set's, or label_refined_digest()
    struct label_set *set;             // held
    uint32_t dimension;
    float *values;    // [set->count][dimension], unit vectors
    float *best;      // [set->count] of refined ones: the score of a label's first neighbour, or 0
    float coverage;   // of refined ones: that of the searches that made them
    uint64_t records; // and the records searched
    struct api_work work; // by searches that did this
    char *degraded;       // why coverage is below 1, one a line; NULL when nothing is missing
    uint32_t holders;
};

// Copies labels and templates (without any, `default_template` is the one). STATUS_INVALID for a
// label that is empty, too long or there twice, and a template without exactly one {};
// STATUS_NO_MEMORY.
struct label_set_params {
    const char *space;
    const struct text *labels;
    size_t label_count;
    const struct text *templates;
    size_t template_count;
    const char *default_template;
    bool is_transient;
};
enum status label_set_create(const struct label_set_params *params, struct label_set **out,
                             struct reason *why) MUST_CHECK;
void label_set_release(struct label_set **set); // NULL is allowed

// Bytes of the prompt for a label and a template, and the prompt itself (not NUL-terminated).
size_t label_set_prompt_bytes(const struct label_set *set, size_t label, size_t template);
void label_set_prompt(const struct label_set *set, size_t label, size_t template, char *out);

// What refined prototypes depend on besides the plain ones. `nodes` is the mask of those that are
// up.
void label_refined_digest(const struct label_set *set, const struct question *question,
                          uint64_t changes, uint32_t over, uint32_t nodes,
                          uint8_t digest[HASH_SHA256_BYTES]);

// Room for the prototypes of a set; takes a hold of it. STATUS_NO_MEMORY.
enum status label_prototypes_create(struct label_set *set, uint32_t dimension,
                                    struct label_prototypes **out) MUST_CHECK;
void label_prototypes_release(struct label_prototypes **prototypes); // NULL is allowed
struct label_prototypes *label_prototypes_hold(struct label_prototypes *prototypes);

// Mean of `count` unit vectors [count][dimension], normalised, to `out`; of one vector its own
// bits. STATUS_INVALID when they cancel out.
enum status label_prototypes_mean(const float *vectors, size_t count, uint32_t dimension,
                                  float *out) MUST_CHECK;

// --- the cache

struct labels *labels_create(size_t bytes_max);
void labels_destroy(struct labels **labels); // NULL is allowed

// What is found is the caller's to release; NULL when it is not there.
struct label_prototypes *labels_find(struct labels *labels,
                                     const uint8_t digest[HASH_SHA256_BYTES]);
struct label_prototypes *labels_find_id(struct labels *labels, struct text label_set_id);

// Keeps prototypes, and lets go of those that were not used for longest until they fit. False
// when they are larger than the whole cache.
bool labels_keep(struct labels *labels, struct label_prototypes *prototypes);

size_t labels_bytes(const struct labels *labels); // that the cache holds

#endif
