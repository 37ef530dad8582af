// SPDX-License-Identifier: Apache-2.0
// api_fixture.h - what the tests of the public messages share: messages that are filled in every
// field.
//
// Thread-safety: none.

#ifndef RECO_TESTS_UNIT_API_FIXTURE_H
#define RECO_TESTS_UNIT_API_FIXTURE_H

#include "proto/wire/api.h"
#include "tests/unit/wire_expect.h"

static const struct text words[] = {T("one"), T("zwei \xc3\xa4"), T("three")};
static const float floats[] = {0.5f, -0.25f, 3.0f};
static const uint64_t ids[] = {1, UINT64_MAX, 77};
static const char hex_id[] = "0123456789abcdef0123456789abcdef";

static const struct api_options full_options = {
    .memory = T("birds@7"),
    .k = 256,
    .over = API_MODALITY_TEXT,
    .fusion = API_FUSION_WEIGHTED,
    .min_similarity = -1,
    .min_coverage = 1,
    .exclude_keys = words,
    .exclude_count = 3,
    .index = API_INDEX_IVF,
    .profile = API_PROFILE_OPENAI,
    .min_pair_similarity = 0.5f,
    .filter = {words, 3, words, 2, words, 1, words, 3, ids, 3, true},
    .dedup = 0.95f,
    .fields = API_FIELDS_ALL,
    .nprobe = PROBES_MAX,
};

static const struct api_timings full_timings = {
    1, 2, 3, 4, 5, floats, 3, 6, 7, 8, 9, 10,
};

static const struct api_tag_list full_tags[] = {{words, 2}, {words, 0}, {words, 3}};

static const struct api_neighbours full_neighbours = {
    3, ids, floats, words, words, words, floats, floats, full_tags, 1, floats, floats,
};

static inline struct api_query_request full_query(enum api_input input)
{
    struct api_query_request query = {.input = input, .options = full_options};
    if (input == API_INPUT_IMAGE)
        query.image = B("\x89PNG\0 not really");
    if (input == API_INPUT_TEXT)
        query.text = T("a heron");
    if (input == API_INPUT_EMBEDDING) {
        query.embedding = floats;
        query.embedding_count = 3;
        query.embedding_modality = API_MODALITY_TEXT;
    }
    return query;
}

static inline struct api_answer full_answer(void)
{
    return (struct api_answer){
        .request_id = T("r-1"),
        .space = T("tiny:64"),
        .memory = T("birds"),
        .generation = 3,
        .coverage = 0.75f,
        .degraded = words,
        .degraded_count = 3,
        .timings = full_timings,
        .index = T("exact"),
        .records = UINT64_MAX,
        .work = {true, 1, 2, 3, UINT64_MAX},
        .embedding = floats,
        .embedding_count = 3,
        .gate = 0.25f,
        .fusion = API_FUSION_HEAD,
        .gate_reason = T("similar"),
        .neighbours = full_neighbours,
        .plain = {3, words, floats},
        .refined = {2, words, floats},
        .label_set_id = T(hex_id),
        .label_count = 3,
    };
}

#endif
