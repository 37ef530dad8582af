// SPDX-License-Identifier: Apache-2.0
// clip_internal.h - what the files of the CLIP model share.
//
// Thread-safety: as clip.h.

#ifndef RECO_SHADERS_MODELS_CLIP_INTERNAL_H
#define RECO_SHADERS_MODELS_CLIP_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "proto/base/hash.h"
#include "shaders/models/clip.h"
#include "shaders/models/clip_config.h"
#include "shaders/models/weights.h"
#include "shaders/ops/ops.h"

#define CLIP_SPACE_BYTES 80 // "<64 digits>:<dimension>" and a NUL

// The files of a model in memory. Empty ones were not there.
struct clip_files {
    const char *name;
    bool openclip;       // `config` is an open_clip_config.json, which has the preprocessing too
    struct bytes config; //
    struct bytes preprocessor;
    struct bytes vocab; // with merges; or else
    struct bytes merges;
    struct bytes tokenizer; // tokenizer.json
    struct bytes reco;
};

struct clip_layer {
    struct ops_view norm1_gain;
    struct ops_view norm1_bias;
    struct ops_view norm2_gain;
    struct ops_view norm2_bias;
    struct ops_matrix *qkv;
    struct ops_matrix *out; // adds to the residual stream
    struct ops_matrix *fc1; // with the activation
    struct ops_matrix *fc2; // adds to the residual stream
};

// One transformer with its place to work.
struct clip_stack {
    struct clip_tower shape;
    struct clip_layer *layer;      // [shape.layers]
    struct ops_buffer *parameters; // gains, biases, embeddings
    size_t parameters_used;        // elements handed out
    size_t parameters_count;

    size_t rows_max;           // of a batch: ops_batch_rows(), or the longest sequence
    size_t wide;               // columns of `z`
    struct ops_buffer *x;      // [rows_max][width], the residual stream
    struct ops_buffer *y;      // [rows_max][width]
    struct ops_buffer *z;      // [rows_max][wide]
    struct ops_buffer *read_x; // [rows_max][width]: the rows that are read out
    struct ops_buffer *read_y;
    struct ops_buffer *starts; // uint32_t [rows_max + 1]
    struct ops_buffer *reads;  // uint32_t [rows_max]

    struct ops_view last_gain; // normalisation before the projection
    struct ops_view last_bias;
    struct ops_matrix *projection;
};

struct clip_text_encoder {
    struct clip_stack stack;
    struct ops_view table;
    const struct weights_tensor
        *late_table; // where rows of `table` come from when they are needed; NULL: all are there
    bool used;       // rows of it, once
    struct ops_view positions;
    struct ops_buffer *ids;    // uint32_t [rows_max]
    struct ops_buffer *places; // uint32_t [rows_max]
    uint32_t *staging;         // [4 * rows_max + 1]: ids, places, starts, reads of a batch
};

struct clip_image_encoder {
    struct clip_stack stack;
    struct ops_view first; // class token
    struct ops_view positions;
    struct ops_view pre_gain;
    struct ops_view pre_bias;
    struct ops_matrix *patches;
    struct ops_buffer *pixels; // [batch][3][S][S], or bytes
    struct ops_buffer *table;  // [3][256]: what they stand for; NULL without image_params
    uint32_t batch;            // pictures at a time
    uint32_t *staging;         // [2 * batch + 1]: starts, reads
};

#define CLIP_OPENCLIP_TURNED 2 // projections, stored the other way round

struct clip_openclip {
    struct weights *weights; // under Hugging Face's names; NULL when not open
    uint8_t *turned[CLIP_OPENCLIP_TURNED];
    size_t turned_count;
};

// What weights are read from, by several threads. Of a hasty model it stays.
struct clip_reading {
    const struct weights *weights;
    const char *file; // for reasons
    bool late;        // weights are read when they are used
    atomic_bool failed;
    enum status status; // of the first thread that failed, and
    struct reason why;
    struct clip_source *sources;
};

struct clip {
    struct ops *ops;
    struct clip_reading reading;
    struct weights *weights;       // kept by a hasty model, else NULL
    struct clip_openclip openclip; // likewise; empty where the file has Hugging Face's names
    unsigned towers;               // CLIP_TEXTS and CLIP_IMAGES
    struct clip_config config;
    struct clip_text_encoder text;
    struct clip_image_encoder image;
    struct tokenizer *tokenizer;       // NULL without a vocabulary
    struct image_params *image_params; // NULL without preprocessor_config.json
    struct clip_info info;
    char name[CLIP_NAME_BYTES];
    char space[CLIP_SPACE_BYTES];
    char template_text[CLIP_TEMPLATE_BYTES];
};

// Reads tensors by name and remembers which were used.
struct clip_loader {
    struct ops *ops;
    struct clip_reading *reading;
    const char *config_file; // for reasons
    bool *used;              // [weights_count()]
    bool check;              // names and shapes only: nothing is read, prepared or allocated
    struct reason *why;
};

// Opens a model from files in memory; `weights` is only read during the call, or by a hasty model
// until it is closed: see clip_keep_weights(). Without vocabulary there is no tokenizer and
// clip_encode_texts() fails: for tests.
enum status clip_open_files(const struct clip_params *params, const struct clip_files *files,
                            const struct weights *weights, struct clip **out,
                            struct reason *why) MUST_CHECK;

// Gives a hasty model its weights, which it closes itself; *weights is then NULL. Any other one
// leaves them.
void clip_keep_weights(struct clip *clip, struct weights **weights);

// --- clip_load.c

// Finds a tensor and checks its shape. STATUS_NOT_FOUND, STATUS_INVALID.
enum status clip_load_find(struct clip_loader *loader, const char *name, uint32_t rank,
                           const uint64_t *shape, const struct weights_tensor **out) MUST_CHECK;

// Ends what products read from; the products must be gone.
void clip_load_end(struct clip_reading *reading);

// Gives on why reading failed, where it did; otherwise returns `status`.
enum status clip_load_blame(const struct clip_reading *reading, enum status status,
                            struct reason *why);

// Some values of a tensor into `target`. They are let go behind it.
enum status clip_load_part(struct clip_reading *reading, const struct weights_tensor *tensor,
                           size_t first, size_t count, float *target) MUST_CHECK;

// A tensor's values into a view, in pieces.
enum status clip_load_view(struct clip_reading *reading, struct ops *ops,
                           const struct weights_tensor *tensor, struct ops_view view,
                           struct reason *why) MUST_CHECK;

// A tensor's values as floats, with the file's name in what goes wrong.
enum status clip_load_values(struct clip_loader *loader, const struct weights_tensor *tensor,
                             float *target) MUST_CHECK;

// The product of a tensor's values, read as [columns][depth].
enum status clip_load_matrix(struct clip_loader *loader, const struct weights_tensor *tensor,
                             uint32_t columns, uint32_t depth, struct ops_matrix **out) MUST_CHECK;

// Elements of the stack's parameters that a vector or table takes.
size_t clip_load_room(size_t rows, size_t columns);

// A vector or table into the stack's parameters.
enum status clip_load_rows(struct clip_loader *loader, struct clip_stack *stack, const char *name,
                           size_t rows, size_t columns, struct ops_view *out) MUST_CHECK;

// Only the room of one that is filled later.
struct ops_view clip_load_place(struct clip_stack *stack, size_t rows, size_t columns);

// The stack's layers, last normalisation and projection; buffers for `longest` rows or more.
struct clip_stack_names {
    const char *tower;      // "text_model"
    const char *last_norm;  // "final_layer_norm"
    const char *projection; // "text_projection"
};
struct clip_stack_sizes {
    size_t longest;    // rows of the longest sequence
    size_t wide;       // columns that `z` needs besides its own
    size_t parameters; // elements of parameters besides its own, by clip_load_room()
    uint32_t dimension;
};
enum status clip_load_stack(struct clip_loader *loader, const struct clip_stack_names *names,
                            const struct clip_stack_sizes *sizes,
                            struct clip_stack *stack) MUST_CHECK;
void clip_stack_free(struct ops *ops, struct clip_stack *stack);

// --- clip_stack.c

// Runs the sequences in `x` through all layers and writes the unit embeddings of the
// rows named in `reads` ([sequences], one in each) to `embeddings`, until clip_stack_finish() at
// the latest.
struct clip_stack_run {
    size_t rows;
    uint32_t sequences;
    uint32_t longest;
    bool causal;
};
enum status clip_stack_run(struct ops *ops, const struct clip_stack *stack,
                           const struct clip_stack_run *run, float *embeddings,
                           struct reason *why) MUST_CHECK;

// Behind the last batch, also when one failed with `status`, which is returned then: nothing is
// written to embeddings any more.
enum status clip_stack_finish(struct ops *ops, enum status status, struct reason *why) MUST_CHECK;

// --- clip_text.c, clip_image.c

enum status clip_text_load(struct clip_loader *loader, const struct clip_config *config,
                           struct clip_text_encoder *out) MUST_CHECK;
void clip_text_free(struct ops *ops, struct clip_text_encoder *encoder);

enum status clip_image_load(struct clip_loader *loader, const struct clip_config *config,
                            struct clip_image_encoder *out) MUST_CHECK;
// What bytes of pictures stand for, when clip->image_params are known.
enum status clip_image_load_table(struct clip *clip, struct reason *why) MUST_CHECK;
void clip_image_free(struct ops *ops, struct clip_image_encoder *encoder);

// Encodes token ids: text t is ids[t * stride .. + counts[t]]. It is read at its first
// end token (or largest id, see clip_config.h) and not run beyond. STATUS_INVALID for an
// id outside the vocabulary, a text too long, or without an end token.
struct clip_ids {
    const uint32_t *ids;
    const uint32_t *counts;
    size_t stride;
    size_t texts;
};
enum status clip_encode_ids(struct clip *clip, const struct clip_ids *ids, float *embeddings,
                            struct reason *why) MUST_CHECK;

// --- clip_openclip.c

// Renames the tensors that the configuration asks for; `file` must stay as long as *out.
// STATUS_NOT_FOUND naming the first that is missing, STATUS_INVALID, STATUS_NO_MEMORY; nothing is
// open then.
enum status clip_openclip_open(const struct weights *file, const struct clip_config *config,
                               struct clip_openclip *out, struct reason *why) MUST_CHECK;
void clip_openclip_close(struct clip_openclip *openclip);

// --- clip_space.c

#define CLIP_SPACE_VERSION "reco space 2" // what is hashed, and how

// Hashes what decides which embeddings are comparable.
void clip_space_compute(const struct clip *clip, const struct weights *weights, const bool *used,
                        uint8_t digest[HASH_SHA256_BYTES]);

// --- clip_trial.c

#define CLIP_TRIAL_COSINE 0.999

// Compares a model with `exact`, the same in single precision, and notes how near they are.
// STATUS_FAILED_PRECONDITION when that is below CLIP_TRIAL_COSINE; otherwise what encoding may
// return.
enum status clip_trial(struct clip *clip, struct clip *exact, struct reason *why) MUST_CHECK;

// --- clip_space_cache.c

#define CLIP_SPACE_CACHE_ENTRIES 64u
#define CLIP_SPACE_CACHE_BYTES_MIN ((uint64_t)16 << 20) // of weights: less is hashed in 10 ms

struct clip_space_entry {
    uint8_t key[HASH_SHA256_BYTES]; // of the model's files
    uint8_t digest[HASH_SHA256_BYTES];
    uint32_t dimension;
};

// Looks for `entry->key` in a file's content and fills in the rest. False when it is not there, or
// the file not whole.
bool clip_space_cache_find(struct bytes file, struct clip_space_entry *entry);

// Appends the content with `added` in front to `out`; the oldest entry goes when there are too
// many. STATUS_NO_MEMORY.
enum status clip_space_cache_add(struct bytes file, const struct clip_space_entry *added,
                                 struct buffer *out) MUST_CHECK;

// Between looking and keeping.
struct clip_space_memo {
    bool known; // `entry` is the model's, whole
    bool may_keep;
    struct weights_identity identity;
    struct clip_space_entry entry;
};

// Looks whether the space of these files was computed before, and the weights have not changed
// since. `now_ns` is the time of the clock that files are dated by.
void clip_space_recall(struct clip_space_memo *memo, const struct clip_files *files,
                       const struct weights *weights, int64_t now_ns);

// Keeps what was computed since clip_space_recall() for the next time, if the weights are still the
// same.
void clip_space_keep(const struct clip_space_memo *memo, const struct weights *weights);

// --- clip_files.c

// Files of the embedded reco-tiny.
void clip_files_embedded(struct clip_files *files, struct bytes *weights);

// reco.json; absent keys keep what `clip` has. STATUS_INVALID.
enum status clip_files_read_reco(struct bytes file, struct clip *clip,
                                 struct reason *why) MUST_CHECK;

// Opens the model in a directory.
enum status clip_files_open_directory(const struct clip_params *params, struct clip **out,
                                      struct reason *why) MUST_CHECK;

#endif
