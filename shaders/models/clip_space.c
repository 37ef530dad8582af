// SPDX-License-Identifier: Apache-2.0
// The name of an embedding space: SHA-256 over everything that decides an embedding,
// in one fixed order, each part with its length before it, so that no two inputs give
// the same stream. Device, precision, batch and what is done with transparency or EXIF
// are left out: embeddings made either way may be compared.

#include <string.h>

#include "proto/base/bytes.h"
#include "proto/base/hash.h"
#include "shaders/models/clip_internal.h"
#include "shaders/models/image.h"
#include "shaders/models/tokenizer.h"

#define PIECE_BYTES ((size_t)4 << 20) // of a tensor in memory at a time

static void add_part(struct hash_sha256 *hash, const void *data, size_t bytes)
{
    uint8_t length[8];
    bytes_put_u64_le(length, bytes);
    hash_sha256_update(hash, length, sizeof(length));
    if (bytes > 0)
        hash_sha256_update(hash, data, bytes);
}

static void add_text(struct hash_sha256 *hash, const char *text)
{
    add_part(hash, text, strlen(text));
}

static void add_number(struct hash_sha256 *hash, uint64_t number)
{
    uint8_t bytes[8];
    bytes_put_u64_le(bytes, number);
    add_part(hash, bytes, sizeof(bytes));
}

// A number by its bits as float: what the arithmetic uses.
static void add_float(struct hash_sha256 *hash, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    add_number(hash, bits);
}

static void add_double(struct hash_sha256 *hash, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    add_number(hash, bits);
}

static void add_tower(struct hash_sha256 *hash, const struct clip_tower *tower)
{
    add_number(hash, tower->width);
    add_number(hash, tower->mlp);
    add_number(hash, tower->layers);
    add_number(hash, tower->heads);
    add_text(hash, clip_config_activation_name(tower->activation));
    add_float(hash, tower->epsilon);
}

// The token at which texts are read. "Where the largest id stands" is the end token's place when
// that has the largest id; both ways of saying it are one model.
static uint32_t end_of(const struct clip *clip)
{
    const struct tokenizer *tokenizer = clip->tokenizer;
    bool is_largest =
        tokenizer && tokenizer_end_id(tokenizer) + 1 == tokenizer_vocab_count(tokenizer);
    return clip->config.end_token == 2 && is_largest ? tokenizer_end_id(tokenizer)
                                                     : clip->config.end_token;
}

static void add_architecture(struct hash_sha256 *hash, const struct clip_config *config,
                             uint32_t end_token)
{
    add_text(hash, "clip");
    add_number(hash, config->dimension);
    add_tower(hash, &config->text);
    add_number(hash, config->vocabulary);
    add_number(hash, config->context);
    add_number(hash, end_token);
    add_tower(hash, &config->image);
    add_number(hash, config->image_size);
    add_number(hash, config->patch_size);
}

// As add_part(), letting go what was hashed.
static void add_bytes(struct hash_sha256 *hash, const struct weights *weights,
                      const struct weights_tensor *tensor)
{
    uint8_t length[8];
    bytes_put_u64_le(length, tensor->bytes);
    hash_sha256_update(hash, length, sizeof(length));
    for (size_t at = 0; at < tensor->bytes; at += PIECE_BYTES) {
        size_t left = tensor->bytes - at;
        size_t bytes = left < PIECE_BYTES ? left : PIECE_BYTES;
        hash_sha256_update(hash, tensor->data + at, bytes);
        weights_release(weights, tensor, at, bytes);
    }
}

static void add_tensors(struct hash_sha256 *hash, const struct weights *weights, const bool *used)
{
    for (size_t i = 0; i < weights_count(weights); i++) {
        if (!used[i])
            continue;
        const struct weights_tensor *tensor = weights_at(weights, i);
        add_text(hash, tensor->name);
        add_text(hash, tensor->dtype_name);
        add_number(hash, tensor->rank);
        for (uint32_t d = 0; d < tensor->rank; d++)
            add_number(hash, tensor->shape[d]);
        add_bytes(hash, weights, tensor);
    }
}

// The numbers that make pixels of a decoded picture; the profile, which says what is
// done with transparency and EXIF, is left out.
static void add_preprocessing(struct hash_sha256 *hash, const struct image_params *params)
{
    if (!params) {
        add_text(hash, "no pictures");
        return;
    }
    add_number(hash, params->size);
    add_number(hash, (uint64_t)params->crop);
    add_number(hash, (uint64_t)params->filter);
    add_double(hash, params->rescale);
    for (int i = 0; i < 3; i++) {
        add_float(hash, params->mean[i]);
        add_float(hash, params->std[i]);
    }
}

void clip_space_compute(const struct clip *clip, const struct weights *weights, const bool *used,
                        uint8_t digest[HASH_SHA256_BYTES])
{
    struct hash_sha256 hash;
    hash_sha256_init(&hash);
    add_text(&hash, CLIP_SPACE_VERSION);
    add_architecture(&hash, &clip->config, end_of(clip));
    add_tensors(&hash, weights, used);
    add_part(&hash, clip->tokenizer ? tokenizer_hash(clip->tokenizer) : NULL,
             clip->tokenizer ? TOKENIZER_HASH_BYTES : 0);
    add_preprocessing(&hash, clip->image_params);
    hash_sha256_final(&hash, digest);
}
