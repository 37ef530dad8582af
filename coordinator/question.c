// SPDX-License-Identifier: Apache-2.0
// question.c - defaults and checks of a query's options.

#include "coordinator/question.h"

#include <assert.h>
#include <string.h>

#include "proto/base/hash.h"
#include "proto/wire/shard_msg.h"

// The gate opens from the floor (or the client's minimum similarity) to the ceiling. Similarities
// of a model have their own range; these hold for any until they are measured for one.
#define GATE_FLOOR 0.0
#define GATE_CEILING 1.0
#define GATE_WAY_MIN 0.001 // a minimum similarity of 1 still leaves a way to go

static struct fuser_params fuser_params(const struct clip_info *clip,
                                        const struct api_options *options)
{
    static const enum fusion_mode modes[] = {
        [API_FUSION_DEFAULT] = FUSION_WEIGHTED, [API_FUSION_NONE] = FUSION_NONE,
        [API_FUSION_MEAN] = FUSION_MEAN,        [API_FUSION_WEIGHTED] = FUSION_WEIGHTED,
        [API_FUSION_HEAD] = FUSION_HEAD,
    };
    bool has_minimum = options->min_similarity < 0 || options->min_similarity > 0;
    double floor = has_minimum ? (double)options->min_similarity : GATE_FLOOR;
    double ceiling = GATE_CEILING;
    if (ceiling < floor + GATE_WAY_MIN)
        ceiling = floor + GATE_WAY_MIN;
    return (struct fuser_params){
        .fusion = {.mode = modes[options->fusion],
                   .beta = clip->fusion_beta,
                   .temperature = clip->fusion_temperature,
                   .sharpness = FUSION_SHARPNESS_DEFAULT},
        .k = options->k,
        .min_similarity = options->min_similarity,
        .min_pair_similarity = options->min_pair_similarity,
        .dedup = options->dedup,
        .gate_floor = floor,
        .gate_ceiling = ceiling,
    };
}

enum image_profile question_image_profile(enum api_profile profile)
{
    static const enum image_profile profiles[] = {
        [API_PROFILE_DEFAULT] = IMAGE_PROFILE_RECO,
        [API_PROFILE_HF] = IMAGE_PROFILE_HF,
        [API_PROFILE_OPENAI] = IMAGE_PROFILE_OPENAI,
    };
    assert((size_t)profile < sizeof(profiles) / sizeof(profiles[0]));
    return profiles[profile];
}

// The wire's codec has checked ranges; these are what must hold before an array is indexed.
static enum status check_options(const struct api_options *options, struct reason *why)
{
    if (options->k < 1 || options->k > K_MAX)
        return reason_set(why, STATUS_INVALID, "options.k", "%u; allowed: 1..%d", options->k,
                          K_MAX);
    if (options->exclude_count > QUESTION_EXCLUDE_MAX)
        return reason_set(why, STATUS_INVALID, "options.exclude_keys", "%zu keys; at most %d",
                          options->exclude_count, QUESTION_EXCLUDE_MAX);
    if ((unsigned)options->fusion > API_FUSION_HEAD)
        return reason_set(why, STATUS_INVALID, "options.fusion", "%u is no fusion; allowed: 0..%d",
                          (unsigned)options->fusion, API_FUSION_HEAD);
    if ((unsigned)options->over > API_MODALITY_TEXT)
        return reason_set(why, STATUS_INVALID, "options.over", "%u is no modality; allowed: 0..%d",
                          (unsigned)options->over, API_MODALITY_TEXT);
    if ((unsigned)options->profile > API_PROFILE_OPENAI)
        return reason_set(why, STATUS_INVALID, "options.profile",
                          "%u is no profile; allowed: 0..%d", (unsigned)options->profile,
                          API_PROFILE_OPENAI);
    if ((unsigned)options->index > API_INDEX_IVF)
        return reason_set(why, STATUS_INVALID, "options.index", "%u is no index; allowed: 0..%d",
                          (unsigned)options->index, API_INDEX_IVF);
    if ((unsigned)options->approx > API_APPROX_ACCURATE)
        return reason_set(why, STATUS_INVALID, "options.approx", "%u is no effort; allowed: 0..%d",
                          (unsigned)options->approx, API_APPROX_ACCURATE);
    return STATUS_OK;
}

static float recall_of(const struct backend *backend, const struct api_options *options)
{
    static const float recalls[] = {
        [API_APPROX_FAST] = 0.90f,
        [API_APPROX_NORMAL] = 0.95f,
        [API_APPROX_ACCURATE] = 0.99f,
    };
    if (options->target_recall > 0)
        return options->target_recall;
    enum api_approx approx = options->approx;
    if (approx == API_APPROX_DEFAULT)
        approx = backend->approx;
    return recalls[approx == API_APPROX_DEFAULT ? API_APPROX_NORMAL : approx];
}

enum status question_resolve(const struct backend *backend, const struct api_options *options,
                             struct question *out, struct reason *why)
{
    assert(backend && options && out);

    enum status status = check_options(options, why);
    if (status != STATUS_OK)
        return status;

    *out = (struct question){
        .fuser = fuser_params(backend->clip, options),
        .chooses_fusion = options->fusion == API_FUSION_DEFAULT,
        .profile = question_image_profile(options->profile),
        .over = options->over,
        .min_coverage = options->min_coverage,
        .index = options->index,
        .probes = options->nprobe,
        .target_recall = recall_of(backend, options),
    };
    status = meta_find(backend->meta, options->memory, META_FOR_QUERY, &out->memory, why);
    if (status == STATUS_NOT_FOUND && options->memory.bytes == 0 &&
        options->fusion == API_FUSION_NONE)
        out->memory = (struct meta_generation){0};
    else if (status != STATUS_OK)
        return status;

    out->fields =
        options->fields == 0 ? API_FIELDS_OF_NEIGHBOURS : options->fields & ~(1u << API_FIELD_NONE);
    for (size_t i = 0; i < options->exclude_count; i++)
        out->exclude[out->exclude_count++] =
            hash_id(options->exclude_keys[i].data, options->exclude_keys[i].bytes);
    return filter_create(&options->filter, &out->filter, why);
}

// Why the head does not fit; STATUS_OK when it does.
static enum status check_head(const struct backend *backend, enum modality own,
                              const struct question *question, struct reason *why)
{
    if (!backend->head)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "options.fusion",
                          "head: there is none for the model '%s'; `reco train` makes one; "
                          "allowed without: none, mean, weighted",
                          backend->clip->name);
    const struct fusion_head_info *info = fusion_head_info(backend->head);
    if (strcmp(info->space, question->memory.space) != 0)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "options.fusion",
                          "head: it refines embeddings of space %s, the memory's are of %s",
                          info->space, question->memory.space);
    if (question_over(question, own) != own)
        return reason_set(why, STATUS_INVALID, "options.over",
                          "%s: a head refines by neighbours on the query's own side, which is %s; "
                          "leave it out, or let fusion be mean or weighted",
                          own == MODALITY_IMAGE ? "text" : "image",
                          own == MODALITY_IMAGE ? "image" : "text");
    return STATUS_OK;
}

enum status question_settle_fusion(const struct backend *backend, enum modality own,
                                   struct question *question, struct reason *why)
{
    assert(backend && question);

    struct fusion_params *fusion = &question->fuser.fusion;
    if (question->chooses_fusion && question->memory.number != 0 &&
        check_head(backend, own, question, NULL) == STATUS_OK)
        fusion->mode = FUSION_HEAD;
    fusion->head = backend->head;
    fusion->modality = own;
    return fusion->mode == FUSION_HEAD ? check_head(backend, own, question, why) : STATUS_OK;
}

void question_copy(struct question *out, const struct question *question)
{
    *out = *question;
    out->filter = filter_hold(question->filter);
}

void question_deinit(struct question *question)
{
    filter_release(&question->filter);
}

enum status question_check_space(const struct backend *backend,
                                 const struct meta_generation *memory, struct reason *why)
{
    assert(backend && memory);

    if (memory->number == 0 || text_equal(text_of(memory->space), text_of(backend->clip->space)))
        return STATUS_OK;
    return reason_set(why, STATUS_FAILED_PRECONDITION, "space",
                      "memory %s@%u is in space %s and the model %s encodes into %s: their "
                      "embeddings cannot be compared; send an embedding, or open the model of "
                      "that space",
                      memory->memory, memory->number, memory->space, backend->clip->name,
                      backend->clip->space);
}

enum status question_embedding(const float *values, size_t count, uint32_t dimension, float *out,
                               struct reason *why)
{
    assert((values || count == 0) && out);

    if (count != dimension)
        return reason_set(why, STATUS_INVALID, "embedding",
                          "it has %zu values and the space has dimension %u", count, dimension);
    memcpy(out, values, count * sizeof(*out));
    if (embedding_normalise(out, count) != STATUS_OK)
        return reason_set(why, STATUS_INVALID, "embedding",
                          "it has length 0 or a value that is not finite; allowed: any direction");
    return STATUS_OK;
}

uint32_t question_document_parts(uint32_t fields)
{
    static const uint32_t parts[] = {
        [API_FIELD_KEY] = SHARD_DOCUMENT_KEY,
        [API_FIELD_CAPTION] = SHARD_DOCUMENT_CAPTION,
        [API_FIELD_SOURCE] = SHARD_DOCUMENT_SOURCE,
        [API_FIELD_TAGS] = SHARD_DOCUMENT_TAGS,
    };
    uint32_t found = 0;
    for (uint32_t field = API_FIELD_KEY; field <= API_FIELD_TAGS; field++) {
        if (fields & 1u << field)
            found |= parts[field];
    }
    return found;
}

enum modality question_over(const struct question *question, enum modality own)
{
    if (question->over == API_MODALITY_DEFAULT)
        return own;
    return question->over == API_MODALITY_IMAGE ? MODALITY_IMAGE : MODALITY_TEXT;
}

enum modality question_over_labels(const struct question *question, enum modality own)
{
    return question_over(question, own) == own ? MODALITY_TEXT : MODALITY_IMAGE;
}
