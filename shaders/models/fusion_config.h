// SPDX-License-Identifier: Apache-2.0
// fusion_config.h - what a fusion head computes, and where its numbers lie.
//
// With q the query, n_i the payload rows and s_i their scores (a set, no order):
//
//   p_i    = inner product of the neighbour's own picture and text
//   t_i    = temperature * s_i + pairing * p_i
//   A_i    = log(sum(softmax(t)_j * exp(sharpness * (<n_i, n_j> - 1))))    over all j
//   w      = softmax(t + consensus * A)
//   start  = q + beta * sum(w_i n_i)        (baseline)
//   x_0    = q + type[0]                    x_i = n_i + type[1] + s_i * score_embedding
//   y      = norm1(x)                       (norm pre; else y = x)
//   l_hi   = <Wq y_0 + bq, Wk y_i>_h / sqrt(d / heads) + score_bias_h * s_i    (last term: i >= 1)
//   o_h    = sum(softmax(l_h)_i (Wv y_i + bv)_h) over i = 0..k
//   h      = x_0 + Wo o + bo                (norm post: norm1 of that)
//   out    = h + W2 f(W1 norm2(h) + b1) + b2    (norm post: norm2(h + W2 f(W1 h + b1) + b2))
//   refined = normalise(start + out - x_0), or normalise(out) with baseline none, or
//             normalise(start) without block
//
// beta, temperature, consensus, sharpness and pairing are numbers of the head, learned like the
// others. Keys have no bias: it would add the same to every logit of a query, which softmax does
// not see.
//
// All numbers of one head are one array of floats, tensor by tensor in the order of FUSION_TENSORS.
//
// Thread-safety: pure functions.

#ifndef RECO_SHADERS_MODELS_FUSION_CONFIG_H
#define RECO_SHADERS_MODELS_FUSION_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/json.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define FUSION_HEADS_MAX 64u
#define FUSION_MLP_MAX 65536u

enum fusion_norm {
    FUSION_NORM_PRE,
    FUSION_NORM_POST,
    FUSION_NORM_NONE,
};

enum fusion_baseline {
    FUSION_BASELINE_WEIGHTED, // start = q + beta * sum(w_i n_i)
    FUSION_BASELINE_MEAN,     // start = q + beta * sum(n_i) / k
    FUSION_BASELINE_QUERY,    // start = q
    FUSION_BASELINE_NONE,     // refined = normalise(out)
};

enum fusion_activation {
    FUSION_GELU,
    FUSION_QUICK_GELU,
};

struct fusion_config {
    uint32_t dimension; // 1..DIMENSION_MAX
    uint32_t heads;     // 1..FUSION_HEADS_MAX, a divisor of dimension
    uint32_t mlp;       // hidden units, 0 (no MLP)..FUSION_MLP_MAX
    enum fusion_norm norm;
    enum fusion_baseline baseline;
    enum fusion_activation activation;
    bool block; // the transformer; without it only what the residual starts from is left
    bool type_embedding;
    bool score_embedding;
    bool score_bias;
    bool consensus;    // neighbours that agree get more; with baseline weighted only. Begins at 0
    bool pairing;      // so do those whose picture and text agree; with consensus only. Begins at 0
    float beta;        // 0..1000; what it begins with, and so the next two
    float temperature; // 0..1000
    float sharpness;   // 0..1000
    float epsilon;     // of the norms, 1e-12..1
};

// What is used unless said otherwise: heads of 64, MLP of 4 d, pre-norm, GELU, type embeddings, no
// scores, weighted baseline with the constants of fusion.h, no consensus (sharpness 10), no
// pairing, epsilon 1e-5.
struct fusion_config fusion_config_default(uint32_t dimension);

// STATUS_INVALID with field, value and what is allowed.
enum status fusion_config_check(const struct fusion_config *config, struct reason *why) MUST_CHECK;

// From and to a JSON object that has every field; enums by their words. Reading checks too, refuses
// fields that are missing or unknown, and says `name` before a field in reasons.
enum status fusion_config_parse(const struct json *object, const char *name,
                                struct fusion_config *out, struct reason *why) MUST_CHECK;
void fusion_config_write(const struct fusion_config *config, struct json_writer *writer);

// Name in a file, rows (0: a vector), columns, whether weight decay applies.
enum fusion_tensor {
    FUSION_START, // beta, temperature, consensus, sharpness, pairing: as many as there are
    FUSION_TYPE,  // [2][d]: query, neighbour
    FUSION_SCORE_EMBEDDING, // [d]
    FUSION_SCORE_BIAS,      // [heads]
    FUSION_NORM1_GAIN,      // [d]
    FUSION_NORM1_BIAS,      // [d]
    FUSION_QUERY_WEIGHT,    // [d][d]
    FUSION_QUERY_BIAS,      // [d]
    FUSION_KEY_WEIGHT,      // [d][d]
    FUSION_VALUE_WEIGHT,    // [d][d]
    FUSION_VALUE_BIAS,      // [d]
    FUSION_OUT_WEIGHT,      // [d][d]
    FUSION_OUT_BIAS,        // [d]
    FUSION_NORM2_GAIN,      // [d]
    FUSION_NORM2_BIAS,      // [d]
    FUSION_MLP1_WEIGHT,     // [mlp][d]
    FUSION_MLP1_BIAS,       // [mlp]
    FUSION_MLP2_WEIGHT,     // [d][mlp]
    FUSION_MLP2_BIAS,       // [d]
    FUSION_TENSOR_COUNT,
};

struct fusion_place {
    const char *name; // "query.weight"
    size_t offset;    // of its first number
    size_t count;     // of numbers; 0: this head has no such tensor
    uint32_t rows;    // 0: a vector of `columns`
    uint32_t columns;
    bool decays; // matrices do; start, biases, gains, types and what belongs to scores do not
};

struct fusion_layout {
    struct fusion_place tensor[FUSION_TENSOR_COUNT];
    size_t count; // of all numbers
};

// `config` has been checked.
struct fusion_layout fusion_layout_of(const struct fusion_config *config);

// What the numbers of a head start from, as fusion.h takes it: without baseline `beta` is 0.
struct fusion_params;
struct fusion_params fusion_config_start(const struct fusion_config *config, const float *numbers);

// Fills the `fusion_layout_of(config).count` numbers of a new head: matrices uniform in
// +-sqrt(3 / depth), gains 1, the start as the config says, all else 0, the output layers Wo and W2
// too. So a head with pre-norm or none begins as its baseline, to the bit. The same seed gives the
// same numbers.
void fusion_config_begin(const struct fusion_config *config, uint64_t seed, float *numbers);

// A number that looks random for each one given; the same for the same.
uint64_t fusion_config_mix(uint64_t number);

#endif
