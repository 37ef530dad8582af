// SPDX-License-Identifier: Apache-2.0
// CLIP's own answers are the same in every scene and are found once. Labels are in the order of
// their entities, which are hashes; those of the asked kind stand before the other's, so that its
// own answer is found on the way to the answer from all. An entity of both kinds is, among all
// labels, the asked kind's.

#include "tools/train_gate.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "coordinator/score.h"
#include "proto/base/cpu.h"
#include "proto/base/mem.h"
#include "proto/base/parallel.h"
#include "tools/output.h"
#include "tools/train_draw.h"
#include "tools/train_gate_internal.h"

#define BLOCK ((size_t)64) // queries that a head refines at a time
#define TALLIES ((size_t)TRAIN_GATE_SCENES * TRAIN_GATE_KINDS * TRAIN_GATE_LABELS)

const char *const train_gate_kinds[TRAIN_GATE_KINDS] = {"new", "known"};

const struct train_gate_scene train_gate_scenes[TRAIN_GATE_SCENES] = {
    {"memory", "memory", TRAIN_GATE_WITH, 0, {{true, 2}, {true, TRAIN_GATE_KNOWN}}},
    {"half_wrong", "half of its captions wrong", TRAIN_GATE_WITH, 0.5, {{true, 0.7}, {false, 0}}},
    {"wrong", "all captions wrong", TRAIN_GATE_WITH, 1, {{true, 0.3}, {true, TRAIN_GATE_KNOWN}}},
    {"without_wrong",
     "memory without them, all wrong",
     TRAIN_GATE_WITHOUT,
     1,
     {{false, 0}, {true, 0.3 * TRAIN_GATE_KNOWN}}},
    {"without",
     "memory without them",
     TRAIN_GATE_WITHOUT,
     0,
     {{true, 0}, {true, TRAIN_GATE_KNOWN}}},
};

struct things {
    uint32_t *labels; // [label_count] the first pair of each entity
    uint64_t *entities;
    bool *is_shared; // [label_count] with the other kind
    uint32_t label_count;
    uint32_t *pictures; // [picture_count] pairs
    uint32_t *truth;    // [picture_count] own labels
    uint32_t picture_count;
    float *plain;   // [label_count][dimension]
    float *refined; // in the scene
    // [picture_count][TRAIN_GATE_LABELS] CLIP's answers: own labels first, then the other kind's
    struct fusion_gate_list *answers;
};

// Up to BLOCK queries with their neighbours.
struct block {
    struct fusion_head_query queries[BLOCK];
    float *plain;   // [BLOCK][dimension]
    float *refined; // [BLOCK][dimension]
    float *payload; // [BLOCK][k][dimension]
    const float **pointers;
    float *pair_scores;
    struct fusion_gate_list answers[BLOCK * TRAIN_GATE_LABELS];
};

// What a scene has of one kind, from one set of labels.
struct tally {
    uint32_t plain;
    uint32_t refined;
    uint32_t chosen;
};

struct fitting {
    const struct train_gate_params *params;
    struct fusion_head *head;
    uint32_t dimension;
    uint32_t k;
    uint32_t threads;
    struct things things[TRAIN_GATE_KINDS];
    uint32_t *text_of; // by a row's picture: whose caption it has in the scene; NULL: its own
    uint32_t *image_of;
    struct block block;
    struct fusion_gate_case *cases;
    size_t *tally_of; // [count] where a case counts
    size_t count;
    size_t room;
    size_t learnt_count; // that the gate learns from: the first ones
    struct tally tallies[TALLIES];
    struct output_progress progress;
};

static enum status no_memory(struct reason *why)
{
    return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory to learn the gate in");
}

// --- who is asked

// Pairs with the keys that they are sorted by. NULL when out of memory.
static struct train_pairs_place *sort_by(const struct train_pairs *pairs, const uint64_t *keys)
{
    const uint32_t count = pairs->rows.count;
    struct train_pairs_place *places = mem_try_alloc_array(count, sizeof(*places));
    for (uint32_t i = 0; places && i < count; i++)
        places[i] = (struct train_pairs_place){.key = keys[i], .pair = i};
    if (places)
        train_pairs_sort(places, count);
    return places;
}

static bool find_label(const struct things *things, uint64_t entity, uint32_t *label)
{
    uint32_t low = 0;
    uint32_t high = things->label_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (things->entities[middle] < entity)
            low = middle + 1;
        else
            high = middle;
    }
    *label = low;
    return low < things->label_count && things->entities[low] == entity;
}

// Returns how many there are, of which no more than TRAIN_GATE_MAX are taken.
static uint32_t take_labels(struct things *things, const struct train_pairs_place *places,
                            uint32_t count)
{
    uint32_t all = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0 && places[i].key == places[i - 1].key)
            continue;
        if (all++ >= TRAIN_GATE_MAX)
            continue;
        things->labels[things->label_count] = places[i].pair;
        things->entities[things->label_count++] = places[i].key;
    }
    return all;
}

static uint32_t take_pictures(struct things *things, const struct train_pairs *pairs,
                              const struct train_pairs_place *places)
{
    uint32_t all = 0;
    for (uint32_t i = 0; i < pairs->rows.count; i++) {
        uint32_t label = 0;
        if (!find_label(things, pairs->entities[places[i].pair], &label) || all++ >= TRAIN_GATE_MAX)
            continue;
        things->pictures[things->picture_count] = places[i].pair;
        things->truth[things->picture_count++] = label;
    }
    return all;
}

static enum status choose(struct fitting *fitting, enum train_gate_kind kind, struct reason *why)
{
    struct things *things = &fitting->things[kind];
    const struct train_pairs *pairs = fitting->params->pairs[kind];
    const uint32_t count = pairs->rows.count;
    const uint32_t room = count < TRAIN_GATE_MAX ? count : TRAIN_GATE_MAX;
    struct train_pairs_place *by_entity = sort_by(pairs, pairs->entities);
    struct train_pairs_place *by_id = sort_by(pairs, pairs->ids);
    if (by_entity && by_id) {
        things->labels = mem_alloc_array(room, sizeof(things->labels[0]));
        things->entities = mem_alloc_array(room, sizeof(things->entities[0]));
        things->pictures = mem_alloc_array(room, sizeof(things->pictures[0]));
        things->truth = mem_alloc_array(room, sizeof(things->truth[0]));
        const uint32_t labels = take_labels(things, by_entity, count);
        const uint32_t pictures = take_pictures(things, pairs, by_id);
        if (labels > room || pictures > room)
            output_note("gate: of the %s things' %u labels %u are asked for, with %u of %u "
                        "pictures of these: the first by their hashes",
                        train_gate_kinds[kind], labels, things->label_count, things->picture_count,
                        pictures);
    }
    mem_free(by_entity);
    mem_free(by_id);
    return things->truth ? STATUS_OK : no_memory(why);
}

static void find_shared(struct things *things, const struct things *others)
{
    things->is_shared = mem_alloc_array(things->label_count, sizeof(things->is_shared[0]));
    for (uint32_t i = 0; i < things->label_count; i++) {
        uint32_t label = 0;
        things->is_shared[i] = find_label(others, things->entities[i], &label);
    }
}

static enum status make_room(struct fitting *fitting, struct reason *why)
{
    struct block *block = &fitting->block;
    const size_t dimension = fitting->dimension;
    block->plain = mem_try_alloc_array(BLOCK * dimension, sizeof(float));
    block->refined = mem_try_alloc_array(BLOCK * dimension, sizeof(float));
    block->payload = mem_try_alloc_array(BLOCK * fitting->k * dimension, sizeof(float));
    block->pointers = mem_try_alloc_array(BLOCK * fitting->k, sizeof(block->pointers[0]));
    block->pair_scores = mem_try_alloc_array(BLOCK * fitting->k, sizeof(float));
    bool fits =
        block->plain && block->refined && block->payload && block->pointers && block->pair_scores;
    for (int kind = 0; kind < TRAIN_GATE_KINDS; kind++) {
        struct things *things = &fitting->things[kind];
        things->plain = mem_try_alloc_array(things->label_count * dimension, sizeof(float));
        things->refined = mem_try_alloc_array(things->label_count * dimension, sizeof(float));
        things->answers = mem_try_alloc_array((size_t)things->picture_count * TRAIN_GATE_LABELS,
                                              sizeof(things->answers[0]));
        fits = fits && things->plain && things->refined && things->answers;
    }
    return fits ? STATUS_OK : no_memory(why);
}

// --- wrong captions

static void right_captions(struct fitting *fitting)
{
    mem_free(fitting->text_of);
    mem_free(fitting->image_of);
    fitting->text_of = NULL;
    fitting->image_of = NULL;
}

// A ring through the first rows of an order by lot: each has the caption of the next. A larger
// share has the rows of a smaller one in it; rows are drawn by the order of the ids, which every
// cluster has alike.
static enum status spoil_captions(struct fitting *fitting, const struct train_gate_scene *scene,
                                  struct reason *why)
{
    const struct train_memory *memory = fitting->params->memories[scene->memory];
    const uint32_t count = memory->rows.count;
    const uint32_t wrong = (uint32_t)(scene->wrong * count);
    right_captions(fitting);
    if (wrong == 0)
        return STATUS_OK;
    uint32_t *order = mem_try_alloc_array(count, sizeof(order[0]));
    fitting->text_of = mem_try_alloc_array(count, sizeof(fitting->text_of[0]));
    fitting->image_of = mem_try_alloc_array(count, sizeof(fitting->image_of[0]));
    const bool fits = order && fitting->text_of && fitting->image_of;
    for (uint32_t i = 0; i < count && fits; i++) {
        order[i] = memory->places[i].row;
        fitting->text_of[i] = i;
    }
    if (fits) {
        const uint64_t state =
            train_draw_begin(fitting->params->seed, TRAIN_DRAW_WRONG, scene->memory);
        train_draw_shuffle(state, order, count);
        for (uint32_t i = 0; i < wrong; i++)
            fitting->text_of[order[i]] = order[(i + 1) % wrong];
        for (uint32_t i = 0; i < count; i++)
            fitting->image_of[fitting->text_of[i]] = i;
    }
    mem_free(order);
    return fits ? STATUS_OK : no_memory(why);
}

// --- refining

// Without payload.
static struct fusion_neighbours found_of(const struct train_neighbours *found, enum modality side,
                                         uint32_t pair)
{
    return (struct fusion_neighbours){.count = found->counts[side][pair],
                                      .scores = found->scores[side] + (size_t)pair * found->k};
}

// Which embeddings of which pairs a block takes.
struct queries {
    enum train_gate_kind kind;
    enum train_gate_memory memory;
    enum modality side;
    const uint32_t *pairs;
    uint32_t count;
};

static void put_neighbour(struct fitting *fitting, const struct queries *from, size_t at,
                          uint32_t row)
{
    const struct train_rows *rows = &fitting->params->memories[from->memory]->rows;
    const uint32_t *other = from->side == MODALITY_IMAGE ? fitting->text_of : fitting->image_of;
    struct block *block = &fitting->block;
    float *payload = block->payload + at * fitting->dimension;
    float searched[DIMENSION_MAX];
    train_rows_get(rows, row, from->side, searched);
    train_rows_get(rows, other ? other[row] : row, modality_other(from->side), payload);
    block->pair_scores[at] = (float)train_rows_dot(searched, payload, fitting->dimension);
    block->pointers[at] = payload;
}

static void put_query(struct fitting *fitting, const struct queries *from, uint32_t slot)
{
    const struct train_neighbours *found = fitting->params->neighbours[from->memory][from->kind];
    struct block *block = &fitting->block;
    const uint32_t pair = from->pairs[slot];
    const size_t at = (size_t)slot * fitting->k;
    float *plain = block->plain + (size_t)slot * fitting->dimension;
    float *refined = block->refined + (size_t)slot * fitting->dimension;
    train_rows_get(&fitting->params->pairs[from->kind]->rows, pair, from->side, plain);
    memcpy(refined, plain, fitting->dimension * sizeof(float)); // should nothing be left of it
    struct fusion_neighbours neighbours = found_of(found, from->side, pair);
    for (uint32_t n = 0; n < neighbours.count; n++)
        put_neighbour(fitting, from, at + n, found->rows[from->side][(size_t)pair * found->k + n]);
    neighbours.payload = block->pointers + at;
    neighbours.pair_scores = block->pair_scores + at;
    block->queries[slot] =
        (struct fusion_head_query){.query = plain, .neighbours = neighbours, .refined = refined};
}

static enum status refine_block(struct fitting *fitting, const struct queries *from,
                                struct reason *why)
{
    assert(from->count <= BLOCK);

    for (uint32_t slot = 0; slot < from->count; slot++)
        put_query(fitting, from, slot);
    return fusion_head_refine_batch(fitting->head, from->side, fitting->block.queries, from->count,
                                    why);
}

static enum status refine_labels(struct fitting *fitting, enum train_gate_kind kind,
                                 enum train_gate_memory memory, struct reason *why)
{
    struct things *things = &fitting->things[kind];
    const size_t dimension = fitting->dimension;
    enum status status = STATUS_OK;
    for (uint32_t first = 0; first < things->label_count && !status; first += BLOCK) {
        const uint32_t left = things->label_count - first;
        const struct queries from = {kind, memory, MODALITY_TEXT, things->labels + first,
                                     left < BLOCK ? left : (uint32_t)BLOCK};
        status = refine_block(fitting, &from, why);
        if (status)
            break;
        const size_t bytes = from.count * dimension * sizeof(float);
        memcpy(things->plain + first * dimension, fitting->block.plain, bytes);
        memcpy(things->refined + first * dimension, fitting->block.refined, bytes);
    }
    return status;
}

// --- answers

// Pictures of one kind, answered by several threads.
struct answering {
    const struct fitting *fitting;
    enum train_gate_kind kind;
    bool is_refined;              // and in the block; else as CLIP embeds them
    struct fusion_gate_list *out; // [pictures][TRAIN_GATE_LABELS]
};

static void answer_one(void *context, uint32_t worker, size_t piece)
{
    (void)worker;
    const struct answering *answering = context;
    const struct fitting *fitting = answering->fitting;
    const enum train_gate_kind kind = answering->kind;
    const struct things *own = &fitting->things[kind];
    const struct things *other = &fitting->things[TRAIN_GATE_KINDS - 1 - kind];
    const size_t dimension = fitting->dimension;
    const bool is_refined = answering->is_refined;
    const float *own_labels = is_refined ? own->refined : own->plain;
    const float *other_labels = is_refined ? other->refined : other->plain;
    struct fusion_gate_list *out = answering->out + piece * TRAIN_GATE_LABELS;
    float plain[DIMENSION_MAX];
    const float *query = plain;
    if (is_refined)
        query = fitting->block.queries[piece].refined;
    else
        train_rows_get(&fitting->params->pairs[kind]->rows, own->pictures[piece], MODALITY_IMAGE,
                       plain);
    struct fusion_gate_list list = {.count = 0};
    for (uint32_t i = 0; i < own->label_count; i++)
        fusion_gate_offer(&list, i,
                          (double)score_dot(query, own_labels + i * dimension, fitting->dimension));
    out[TRAIN_GATE_OWN] = list;
    for (uint32_t i = 0; i < other->label_count; i++)
        if (!other->is_shared[i])
            fusion_gate_offer(
                &list, own->label_count + i,
                (double)score_dot(query, other_labels + i * dimension, fitting->dimension));
    out[TRAIN_GATE_ALL] = list;
}

static void answer(const struct answering *answering, uint32_t count)
{
    struct answering shared = *answering;
    parallel_run(answering->fitting->threads, count, answer_one, &shared);
}

// --- cases

static double largest(const struct fusion_neighbours *neighbours)
{
    double best = neighbours->count > 0 ? (double)neighbours->scores[0] : 0;
    for (size_t n = 1; n < neighbours->count; n++)
        best = fmax(best, (double)neighbours->scores[n]);
    return best;
}

// Whose label it is; takes the other kind's to its own place.
static enum train_gate_kind kind_of(const struct fitting *fitting, enum train_gate_kind kind,
                                    size_t *label)
{
    const uint32_t own = fitting->things[kind].label_count;
    if (*label < own)
        return kind;
    *label -= own;
    return (enum train_gate_kind)(TRAIN_GATE_KINDS - 1 - kind);
}

// How well the memory knows the label.
static double known_of(const struct fitting *fitting, enum train_gate_kind kind,
                       enum train_gate_memory memory, size_t label)
{
    const enum train_gate_kind whose = kind_of(fitting, kind, &label);
    const struct fusion_neighbours neighbours =
        found_of(fitting->params->neighbours[memory][whose], MODALITY_TEXT,
                 fitting->things[whose].labels[label]);
    return largest(&neighbours);
}

// What the query's neighbours say of the label.
static double told_of(const struct fitting *fitting, enum train_gate_kind kind, size_t label,
                      const struct fusion_neighbours *neighbours)
{
    const enum train_gate_kind whose = kind_of(fitting, kind, &label);
    return fusion_gate_nearest(fitting->things[whose].plain + label * fitting->dimension,
                               fitting->dimension, neighbours);
}

static size_t tally_at(size_t scene, size_t kind, size_t labels)
{
    return (scene * TRAIN_GATE_KINDS + kind) * TRAIN_GATE_LABELS + labels;
}

static void add_case(struct fitting *fitting, const struct fusion_gate_case *one, size_t tally)
{
    if (fitting->count == fitting->room) {
        fitting->room = fitting->room ? 2 * fitting->room : 1024;
        fitting->cases = mem_grow(fitting->cases, fitting->room, sizeof(fitting->cases[0]));
        fitting->tally_of =
            mem_grow(fitting->tally_of, fitting->room, sizeof(fitting->tally_of[0]));
    }
    fitting->tally_of[fitting->count] = tally;
    fitting->cases[fitting->count++] = *one;
    if (one->weight > 0)
        fitting->learnt_count = fitting->count;
}

// One picture in one scene, of which the block has the refined embedding.
static void compare(struct fitting *fitting, size_t scene, enum train_gate_kind kind,
                    uint32_t picture, size_t slot)
{
    const struct things *things = &fitting->things[kind];
    const enum train_gate_memory memory = train_gate_scenes[scene].memory;
    const struct fusion_head_query *query = &fitting->block.queries[slot];
    for (size_t labels = 0; labels < TRAIN_GATE_LABELS; labels++) {
        const struct fusion_gate_list *plain =
            &things->answers[(size_t)picture * TRAIN_GATE_LABELS + labels];
        const struct fusion_gate_list *refined =
            &fitting->block.answers[slot * TRAIN_GATE_LABELS + labels];
        const size_t place = tally_at(scene, kind, labels);
        struct tally *tally = &fitting->tallies[place];
        const bool plain_is_right = plain->first == things->truth[picture];
        const bool refined_is_right = refined->first == things->truth[picture];
        tally->plain += plain_is_right;
        tally->refined += refined_is_right;
        tally->chosen += plain_is_right && refined_is_right;
        if (plain_is_right == refined_is_right)
            continue;
        const struct fusion_gate_dispute dispute = {
            .plain = *plain,
            .refined = *refined,
            .nearest = fusion_gate_nearest(query->query, fitting->dimension, &query->neighbours),
            .known = known_of(fitting, kind, memory, plain->first),
            .told_plain = told_of(fitting, kind, plain->first, &query->neighbours),
            .told_refined = told_of(fitting, kind, refined->first, &query->neighbours),
        };
        struct fusion_gate_case one = {
            .weight = train_gate_scenes[scene].asked[kind].weight,
            .memory_is_right = refined_is_right,
        };
        fusion_gate_weigh(&dispute, one.evidence);
        add_case(fitting, &one, place);
    }
}

static enum status ask(struct fitting *fitting, size_t scene, enum train_gate_kind kind,
                       struct reason *why)
{
    const struct things *things = &fitting->things[kind];
    enum status status = STATUS_OK;
    for (uint32_t first = 0; first < things->picture_count && !status; first += BLOCK) {
        const uint32_t left = things->picture_count - first;
        const struct queries from = {kind, train_gate_scenes[scene].memory, MODALITY_IMAGE,
                                     things->pictures + first,
                                     left < BLOCK ? left : (uint32_t)BLOCK};
        status = refine_block(fitting, &from, why);
        const struct answering refined = {
            .fitting = fitting, .kind = kind, .is_refined = true, .out = fitting->block.answers};
        if (!status)
            answer(&refined, from.count);
        for (uint32_t i = 0; i < from.count && !status; i++)
            compare(fitting, scene, kind, first + i, i);
    }
    return status;
}

// Both kinds' labels are refined even where only one kind is asked: they are among all labels.
// Known things come first, so that what is only shown comes last.
static enum status play(struct fitting *fitting, size_t scene, struct reason *why)
{
    enum status status = spoil_captions(fitting, &train_gate_scenes[scene], why);
    for (int kind = 0; kind < TRAIN_GATE_KINDS && !status; kind++)
        status = refine_labels(fitting, (enum train_gate_kind)kind, train_gate_scenes[scene].memory,
                               why);
    for (int kind = TRAIN_GATE_KINDS; kind-- > 0 && !status;) {
        const struct things *things = &fitting->things[kind];
        const struct answering plainly = {
            .fitting = fitting, .kind = (enum train_gate_kind)kind, .out = things->answers};
        if (scene == 0)
            answer(&plainly, things->picture_count);
        if (train_gate_scenes[scene].asked[kind].is_asked)
            status = ask(fitting, scene, (enum train_gate_kind)kind, why);
    }
    output_progress_update(&fitting->progress, scene + 1, 0);
    return status;
}

// --- the gate

// Takes the constants as a head's file will have them.
static enum status round_constants(struct fusion_gate *gate, struct reason *why)
{
    struct json_writer writer = {.failed = false};
    fusion_gate_write(gate, &writer);
    const enum status status =
        writer.failed
            ? no_memory(why)
            : fusion_gate_parse((struct text){(const char *)writer.out.data, writer.out.count},
                                gate, why);
    json_writer_deinit(&writer);
    return status;
}

static enum status fit(struct fitting *fitting, struct train_gate *out, struct reason *why)
{
    struct reason inner = {.text = ""};
    enum status status = fusion_gate_fit(fitting->cases, fitting->learnt_count, &out->gate, &inner);
    if (!status)
        status = round_constants(&out->gate, &inner);
    if (status == STATUS_FAILED_PRECONDITION || status == STATUS_INVALID)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "--known, --without",
                          "no gate can be learnt from these: %s: %s", inner.field, inner.text);
    if (status)
        *why = inner;
    return status;
}

static void count_all(struct fitting *fitting, struct train_gate *out)
{
    out->cases = fitting->learnt_count;
    for (size_t i = 0; i < fitting->count; i++) {
        const struct fusion_gate_case *one = &fitting->cases[i];
        const bool is_open = fusion_gate_value(&out->gate, one->evidence) >= FUSION_GATE_OPEN;
        fitting->tallies[fitting->tally_of[i]].chosen += is_open == one->memory_is_right;
        out->memory_right += i < fitting->learnt_count && one->memory_is_right;
    }
    for (size_t kind = 0; kind < TRAIN_GATE_KINDS; kind++) {
        const struct things *things = &fitting->things[kind];
        const double pictures = things->picture_count;
        out->pictures[kind] = things->picture_count;
        out->labels[kind] = things->label_count;
        for (size_t scene = 0; scene < TRAIN_GATE_SCENES; scene++)
            for (size_t labels = 0; labels < TRAIN_GATE_LABELS; labels++) {
                const struct tally *tally = &fitting->tallies[tally_at(scene, kind, labels)];
                out->shares[scene][kind][labels] =
                    (struct train_gate_shares){.plain = tally->plain / pictures,
                                               .refined = tally->refined / pictures,
                                               .chosen = tally->chosen / pictures};
            }
    }
}

static enum status play_all(struct fitting *fitting, struct reason *why)
{
    enum status status = STATUS_OK;
    for (int kind = 0; kind < TRAIN_GATE_KINDS && !status; kind++)
        status = choose(fitting, (enum train_gate_kind)kind, why);
    if (!status)
        status = make_room(fitting, why);
    if (status)
        return status;
    find_shared(&fitting->things[0], &fitting->things[1]);
    find_shared(&fitting->things[1], &fitting->things[0]);
    output_progress_begin(&fitting->progress, "scenes of the gate", TRAIN_GATE_SCENES);
    for (size_t scene = 0; scene < TRAIN_GATE_SCENES && !status; scene++)
        status = play(fitting, scene, why);
    output_progress_end(&fitting->progress);
    return status;
}

static void release(struct fitting *fitting)
{
    right_captions(fitting);
    for (int kind = 0; kind < TRAIN_GATE_KINDS; kind++) {
        struct things *things = &fitting->things[kind];
        mem_free(things->labels);
        mem_free(things->entities);
        mem_free(things->is_shared);
        mem_free(things->pictures);
        mem_free(things->truth);
        mem_free(things->plain);
        mem_free(things->refined);
        mem_free(things->answers);
    }
    mem_free(fitting->block.plain);
    mem_free(fitting->block.refined);
    mem_free(fitting->block.payload);
    mem_free(fitting->block.pointers);
    mem_free(fitting->block.pair_scores);
    mem_free(fitting->cases);
    mem_free(fitting->tally_of);
    mem_free(fitting);
}

enum status train_gate_fit(const struct train_gate_params *params, struct fusion_head *head,
                           struct train_gate *out, struct reason *why)
{
    struct fitting *fitting = mem_alloc(sizeof(*fitting));
    *fitting = (struct fitting){
        .params = params,
        .head = head,
        .dimension = params->memories[TRAIN_GATE_WITH]->dimension,
        .k = params->neighbours[TRAIN_GATE_WITH][TRAIN_GATE_NEW_THINGS]->k,
        .threads = (uint32_t)cpu_count(),
    };
    if (fitting->threads > PARALLEL_THREADS_MAX)
        fitting->threads = PARALLEL_THREADS_MAX;
    struct train_gate gate = {.cases = 0};
    enum status status = play_all(fitting, why);
    if (!status)
        status = fit(fitting, &gate, why);
    if (!status) {
        count_all(fitting, &gate);
        *out = gate;
    }
    release(fitting);
    return status;
}
