// SPDX-License-Identifier: Apache-2.0
// A hit is compared only with kept ones whose score is as good as equal, so collapsing
// costs next to nothing: hits come best first, and equal pairs have equal scores.

#include "coordinator/fuser.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/models/fusion_gate.h"
#include "shaders/models/fusion_head.h"

#define SAME_SCORE 1e-6f    // fp16 rows of one picture score the same; different ones do not
#define SAME_PAYLOAD 0.9999 // cosine: the same text, or the same picture

// Cosine of two rows that came from unit vectors through fp16.
static double cosine(const float *a, const float *b, uint32_t dimension)
{
    double product = 0;
    double squares_a = 0;
    double squares_b = 0;
    for (uint32_t i = 0; i < dimension; i++) {
        product += (double)a[i] * (double)b[i];
        squares_a += (double)a[i] * (double)a[i];
        squares_b += (double)b[i] * (double)b[i];
    }
    double lengths = sqrt(squares_a * squares_b);
    return lengths > 0 ? product / lengths : 0;
}

static bool repeats_a_kept_one(const struct fuser_hit *hits, size_t index, uint32_t dimension,
                               const struct fuser_result *result)
{
    for (uint32_t i = result->count; i-- > 0;) {
        const struct fuser_hit *kept = &hits[result->kept[i]];
        if (kept->score - hits[index].score > SAME_SCORE)
            return false;
        if (cosine(kept->payload, hits[index].payload, dimension) > SAME_PAYLOAD)
            return true;
    }
    return false;
}

// Whether the hit's row on the searched side is like that of one that is kept.
static bool is_like_a_kept_one(const struct fuser_params *params, const struct fuser_hit *hits,
                               size_t index, const struct fuser_result *result)
{
    for (uint32_t i = 0; i < result->count; i++) {
        const float *kept = hits[result->kept[i]].searched;
        double product = 0;
        for (uint32_t d = 0; d < params->dimension; d++)
            product += (double)kept[d] * (double)hits[index].searched[d];
        if (product >= (double)params->dedup)
            return true;
    }
    return false;
}

// What hygiene took away, for the reason.
struct dropped {
    size_t dissimilar;
    size_t mismatched;
    size_t repeated;
    size_t alike;
};

static void explain_empty(const struct fuser_params *params, size_t count,
                          const struct dropped *dropped, struct fuser_result *out)
{
    if (count == 0)
        (void)snprintf(out->reason, sizeof(out->reason), "plain CLIP: no neighbour was found");
    else if (dropped->mismatched == 0)
        (void)snprintf(out->reason, sizeof(out->reason),
                       "plain CLIP: no neighbour reaches the minimum similarity %.3f",
                       (double)params->min_similarity);
    else
        (void)snprintf(out->reason, sizeof(out->reason),
                       "plain CLIP: the pairs of all %zu neighbours disagree "
                       "(minimum pair similarity %.3f)",
                       dropped->mismatched, (double)params->min_pair_similarity);
}

// How far `score` is on the way from the floor to the ceiling, 0..1.
static double gate_of(const struct fuser_params *params, float score)
{
    if (params->is_open)
        return 1;
    double way = ((double)score - params->gate_floor) / (params->gate_ceiling - params->gate_floor);
    return fmin(fmax(way, 0), 1);
}

static void set_gate(const struct fuser_params *params, const struct fuser_hit *hits,
                     const struct dropped *dropped, struct fuser_result *out)
{
    double best = (double)hits[out->kept[0]].score;
    out->gate = gate_of(params, hits[out->kept[0]].score);
    if (out->gate <= 0)
        (void)snprintf(out->reason, sizeof(out->reason),
                       "plain CLIP: the best neighbour scores %.3f, not above %.3f", best,
                       params->gate_floor);
    else if (params->dedup > 0)
        (void)snprintf(out->reason, sizeof(out->reason),
                       "best neighbour scores %.3f; %u used, dropped %zu dissimilar, "
                       "%zu mismatched, %zu repeated, %zu alike",
                       best, out->count, dropped->dissimilar, dropped->mismatched,
                       dropped->repeated, dropped->alike);
    else
        (void)snprintf(out->reason, sizeof(out->reason),
                       "best neighbour scores %.3f; %u used, dropped %zu dissimilar, "
                       "%zu mismatched, %zu repeated",
                       best, out->count, dropped->dissimilar, dropped->mismatched,
                       dropped->repeated);
}

void fuser_select(const struct fuser_params *params, const struct fuser_hit *hits, size_t count,
                  struct fuser_result *out)
{
    assert(params && out && (hits || count == 0));
    assert(params->k >= 1 && params->k <= K_MAX);
    assert(params->gate_ceiling > params->gate_floor);

    // A floor of 0 means no floor: negative scores stay, as the interface says.
    bool has_floor = params->min_similarity < 0 || params->min_similarity > 0;
    bool has_pair_floor = params->min_pair_similarity < 0 || params->min_pair_similarity > 0;
    struct dropped dropped = {0};
    *out = (struct fuser_result){0};
    for (size_t i = 0; i < count && out->count < params->k; i++) {
        if (has_floor && hits[i].score < params->min_similarity)
            dropped.dissimilar++;
        else if (has_pair_floor && hits[i].pair_score < params->min_pair_similarity)
            dropped.mismatched++;
        else if (repeats_a_kept_one(hits, i, params->dimension, out))
            dropped.repeated++;
        else if (params->dedup > 0 && is_like_a_kept_one(params, hits, i, out))
            dropped.alike++;
        else
            out->kept[out->count++] = (uint32_t)i;
    }
    if (out->count == 0) {
        explain_empty(params, count, &dropped, out);
        return;
    }

    float scores[K_MAX];
    float pair_scores[K_MAX];
    const float *payload[K_MAX];
    double weights[K_MAX];
    for (uint32_t i = 0; i < out->count; i++) {
        scores[i] = hits[out->kept[i]].score;
        pair_scores[i] = hits[out->kept[i]].pair_score;
        payload[i] = hits[out->kept[i]].payload;
    }
    const struct fusion_neighbours neighbours = {out->count, scores, payload, pair_scores};
    fusion_weights(&params->fusion, params->dimension, &neighbours, weights);
    for (uint32_t i = 0; i < out->count; i++)
        out->weights[i] = (float)weights[i];
    if (params->fusion.mode == FUSION_NONE)
        (void)snprintf(out->reason, sizeof(out->reason), "plain CLIP: fusion is none");
    else
        set_gate(params, hits, &dropped, out);
}

double fuser_nearest(const float *vector, uint32_t dimension, const struct fuser_hit *hits,
                     const struct fuser_result *selection)
{
    assert(vector && selection && (hits || selection->count == 0));

    const float *payload[K_MAX];
    for (uint32_t i = 0; i < selection->count; i++)
        payload[i] = hits[selection->kept[i]].payload;
    const struct fusion_neighbours neighbours = {.count = selection->count, .payload = payload};
    return fusion_gate_nearest(vector, dimension, &neighbours);
}

enum status fuser_refine(const struct fuser_params *params, const float *query,
                         const struct fuser_hit *hits, const struct fuser_result *selection,
                         uint32_t without, float *result)
{
    assert(params && query && selection && result);
    assert(without == FUSER_ALL || without < selection->count);

    float scores[K_MAX];
    float pair_scores[K_MAX];
    const float *payload[K_MAX];
    struct fusion_neighbours neighbours = {0, scores, payload, pair_scores};
    for (uint32_t i = 0; i < selection->count; i++) {
        if (i == without)
            continue;
        scores[neighbours.count] = hits[selection->kept[i]].score;
        pair_scores[neighbours.count] = hits[selection->kept[i]].pair_score;
        payload[neighbours.count++] = hits[selection->kept[i]].payload;
    }

    // The gate follows the best of the neighbours that are left.
    double gate = selection->gate;
    if (without == 0 && neighbours.count > 0)
        gate = gate_of(params, scores[0]);
    return fusion_refine(&params->fusion, query, params->dimension, &neighbours, gate, result);
}

// Nothing is left of query plus payload: that is no direction to go.
static void stay(const struct fuser_params *params, const struct fuser_row *row)
{
    static const char reason[] = "plain CLIP: query and payload cancel out";
    memcpy(row->refined, row->query, params->dimension * sizeof(*row->refined));
    memcpy(row->selection->reason, reason, sizeof(reason));
    row->selection->gate = 0;
}

// The scores and payloads of a batch's neighbours, as a head wants them.
struct head_room {
    float scores[FUSER_ROWS_MAX][K_MAX];
    float pair_scores[FUSER_ROWS_MAX][K_MAX];
    const float *payload[FUSER_ROWS_MAX][K_MAX];
    struct fusion_head_query queries[FUSER_ROWS_MAX];
};

static enum status refine_rows_by_head(const struct fuser_params *params,
                                       const struct fuser_row *rows, size_t count,
                                       struct head_room *room, struct reason *why)
{
    for (size_t r = 0; r < count; r++) {
        const struct fuser_result *selection = rows[r].selection;
        for (uint32_t i = 0; i < selection->count; i++) {
            room->scores[r][i] = rows[r].hits[selection->kept[i]].score;
            room->pair_scores[r][i] = rows[r].hits[selection->kept[i]].pair_score;
            room->payload[r][i] = rows[r].hits[selection->kept[i]].payload;
        }
        room->queries[r] = (struct fusion_head_query){
            .query = rows[r].query,
            .neighbours = {selection->count, room->scores[r], room->payload[r],
                           room->pair_scores[r]},
            .refined = rows[r].refined,
        };
    }
    enum status status = fusion_head_refine_batch(params->fusion.head, params->fusion.modality,
                                                  room->queries, count, why);
    for (size_t r = 0; r < count && status == STATUS_OK; r++)
        if (room->queries[r].status != STATUS_OK ||
            fusion_apply_gate(rows[r].query, rows[r].refined, params->dimension,
                              rows[r].selection->gate, rows[r].refined) != STATUS_OK)
            stay(params, &rows[r]);
    return status;
}

enum status fuser_refine_rows(const struct fuser_params *params, const struct fuser_row *rows,
                              size_t count, struct reason *why)
{
    assert(params && (rows || count == 0) && count <= FUSER_ROWS_MAX);

    if (params->fusion.mode != FUSION_HEAD) {
        for (size_t r = 0; r < count; r++)
            if (fuser_refine(params, rows[r].query, rows[r].hits, rows[r].selection, FUSER_ALL,
                             rows[r].refined) != STATUS_OK)
                stay(params, &rows[r]);
        return STATUS_OK;
    }
    struct head_room *room = mem_try_alloc(sizeof(*room));
    if (!room)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory to refine %zu rows", count);
    enum status status = refine_rows_by_head(params, rows, count, room, why);
    mem_free(room);
    return status;
}
