// SPDX-License-Identifier: Apache-2.0
// Goal: a calibrated gate keeps what CLIP knows where the memory knows nothing of it or is wrong,
// and takes the memory's answer where only that knows; the shares that are told are those of a
// plain count; captions are wrong as train_gate.h says; an entity of both kinds counts once; the
// same seed gives the same constants; where nothing can be learnt the flags are named.
//
// Method: a made-up world of 24 dimensions. Pictures of known things lie by their own texts; those
// of new things lie anywhere, and only a memory of them joins the two. Neighbours are found by
// looking at all records. In a memory of three records a ring goes one of two ways, so its scene
// with wrong captions is the scene of one of two other memories.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/mem.h"
#include "tests/support/random_head.h"
#include "tools/train_gate.h"

#define DIMENSION 24
#define K 4
#define THINGS 40
#define VIEWS 3
#define SEED 20261129u

// Places of train_gate.h's scenes.
enum { WHOLE, HALF_WRONG, WRONG, WITHOUT_WRONG, WITHOUT };

struct world {
    struct train_memory memories[TRAIN_GATE_MEMORIES];
    struct train_pairs pairs[TRAIN_GATE_KINDS];
    struct train_neighbours neighbours[TRAIN_GATE_MEMORIES][TRAIN_GATE_KINDS];
    struct train_gate_params params;
    struct fusion_head *head;
    uint64_t draw;
    char beside[64];
};

// --- making it

static void begin_rows(struct world *world, struct train_rows *rows)
{
    char folder[] = "/tmp/reco-gate-XXXXXX";
    struct reason why = {.text = ""};
    cr_assert(mkdtemp(folder) != NULL);
    (void)snprintf(world->beside, sizeof(world->beside), "%s/head", folder);
    cr_assert(eq(int, train_rows_begin(rows, world->beside, DIMENSION, &why), STATUS_OK), "%s",
              why.text);
    (void)rmdir(folder); // their files have no name
}

static void near(struct world *world, const float *centre, float noise, float *out)
{
    random_head_unit(&world->draw, DIMENSION, out);
    for (int i = 0; i < DIMENSION; i++)
        out[i] = centre[i] + noise * out[i];
}

static void add(struct world *world, struct train_rows *rows, const float *image, const float *text,
                float noise)
{
    float near_image[DIMENSION];
    float near_text[DIMENSION];
    struct reason why = {.text = ""};
    near(world, image, noise, near_image);
    near(world, text, noise / 2, near_text);
    cr_assert(eq(int, train_rows_add(rows, near_image, near_text, &why), STATUS_OK), "%s",
              why.text);
}

// A thing's pairs, and as many records in the memory that has it.
static void add_thing(struct world *world, enum train_gate_kind kind, uint64_t entity)
{
    float image[DIMENSION];
    float text[DIMENSION];
    struct train_pairs *pairs = &world->pairs[kind];
    random_head_unit(&world->draw, DIMENSION, image);
    random_head_unit(&world->draw, DIMENSION, text);
    for (int view = 0; view < VIEWS; view++) {
        const float *words = kind == TRAIN_GATE_KNOWN_THINGS ? image : text;
        add(world, &world->memories[TRAIN_GATE_WITH].rows, image, words, 0.5f);
        pairs->entities[pairs->rows.count] = entity;
        pairs->ids[pairs->rows.count] = fusion_config_mix(entity * VIEWS + (uint64_t)view);
        add(world, &pairs->rows, image, words, 0.7f);
    }
}

static void seal_memory(struct train_memory *memory)
{
    struct reason why = {.text = ""};
    cr_assert(eq(int, train_rows_seal(&memory->rows, &why), STATUS_OK), "%s", why.text);
    memory->dimension = DIMENSION;
    memory->places = mem_alloc_array(memory->rows.count, sizeof(memory->places[0]));
    for (uint32_t i = 0; i < memory->rows.count; i++)
        memory->places[i] = (struct train_memory_place){.id = 7 * i, .row = i};
}

// The K best of all records, best first.
static void find(const struct train_memory *memory, const struct train_pairs *pairs, uint32_t pair,
                 enum modality side, struct train_neighbours *found)
{
    float query[DIMENSION];
    float row[DIMENSION];
    uint32_t *rows = found->rows[side] + (size_t)pair * K;
    float *scores = found->scores[side] + (size_t)pair * K;
    uint32_t count = 0;
    train_rows_get(&pairs->rows, pair, side, query);
    for (uint32_t i = 0; i < memory->rows.count; i++) {
        train_rows_get(&memory->rows, i, side, row);
        const float score = (float)train_rows_dot(query, row, DIMENSION);
        uint32_t at = count < K ? count++ : K;
        for (; at > 0 && score > scores[at - 1]; at--)
            if (at < K) {
                scores[at] = scores[at - 1];
                rows[at] = rows[at - 1];
            }
        if (at < K) {
            scores[at] = score;
            rows[at] = i;
        }
    }
    found->counts[side][pair] = count;
}

static void find_all(struct world *world)
{
    for (int memory = 0; memory < TRAIN_GATE_MEMORIES; memory++) {
        for (int kind = 0; kind < TRAIN_GATE_KINDS; kind++) {
            struct train_neighbours *found = &world->neighbours[memory][kind];
            const uint32_t count = world->pairs[kind].rows.count;
            found->k = K;
            for (int side = 0; side < TRAIN_NEIGHBOURS_SIDES; side++) {
                found->rows[side] = mem_alloc_array((size_t)count * K, sizeof(uint32_t));
                found->scores[side] = mem_alloc_array((size_t)count * K, sizeof(float));
                found->counts[side] = mem_alloc_array(count, sizeof(uint32_t));
                for (uint32_t pair = 0; pair < count; pair++)
                    find(&world->memories[memory], &world->pairs[kind], pair, (enum modality)side,
                         found);
            }
            world->params.neighbours[memory][kind] = found;
        }
        world->params.memories[memory] = &world->memories[memory];
        world->params.pairs[memory] = &world->pairs[memory];
    }
}

static void open_head(struct world *world, float beta)
{
    struct fusion_head_info info = random_head_info(DIMENSION, "made-up:24");
    float *numbers[FUSION_HEAD_SIDES];
    struct reason why = {.text = ""};
    for (int side = 0; side < 2; side++) {
        struct fusion_config *config = &info.config[side];
        config->block = false;
        config->consensus = config->pairing = true;
        config->beta = beta;
        numbers[side] = mem_alloc_array(fusion_layout_of(config).count, sizeof(float));
        fusion_config_begin(config, SEED, numbers[side]);
        const struct fusion_layout layout = fusion_layout_of(config);
        const struct fusion_place *start = &layout.tensor[FUSION_START];
        numbers[side][start->offset + start->count - 1] = 3; // pairing
    }
    cr_assert(eq(int,
                 fusion_head_create(&info, (const float *const *)numbers, 1, &world->head, &why),
                 STATUS_OK),
              "%s: %s", why.field, why.text);
    mem_free(numbers[0]);
    mem_free(numbers[1]);
}

// New things have the entities 1.., known ones those from `known_from` on.
static void begin_world(struct world *world, uint64_t known_from)
{
    *world = (struct world){.draw = SEED, .params = {.seed = 3}};
    struct reason why = {.text = ""};
    for (int i = 0; i < 2; i++) {
        begin_rows(world, &world->memories[i].rows);
        begin_rows(world, &world->pairs[i].rows);
        world->pairs[i].ids = mem_alloc_array((size_t)THINGS * VIEWS, sizeof(uint64_t));
        world->pairs[i].entities = mem_alloc_array((size_t)THINGS * VIEWS, sizeof(uint64_t));
    }
    for (uint64_t i = 0; i < THINGS; i++) {
        add_thing(world, TRAIN_GATE_NEW_THINGS, 1 + i);
        add_thing(world, TRAIN_GATE_KNOWN_THINGS, known_from + i);
    }
    for (int i = 0; i < 2; i++)
        cr_assert(eq(int, train_rows_seal(&world->pairs[i].rows, &why), STATUS_OK), "%s", why.text);
    for (int i = 0; i < 2 * THINGS; i++) {
        float image[DIMENSION];
        float text[DIMENSION];
        random_head_unit(&world->draw, DIMENSION, image);
        random_head_unit(&world->draw, DIMENSION, text);
        add(world, &world->memories[TRAIN_GATE_WITHOUT].rows, image, text, 0);
    }
}

static void open_world(struct world *world, uint64_t known_from, float beta)
{
    begin_world(world, known_from);
    seal_memory(&world->memories[0]);
    seal_memory(&world->memories[1]);
    find_all(world);
    open_head(world, beta);
}

static void close_world(struct world *world)
{
    for (int i = 0; i < 2; i++) {
        train_neighbours_deinit(&world->neighbours[i][0]);
        train_neighbours_deinit(&world->neighbours[i][1]);
        train_pairs_deinit(&world->pairs[i]);
        train_memory_deinit(&world->memories[i]);
    }
    fusion_head_close(&world->head);
}

static void fit(const struct world *world, struct train_gate *gate)
{
    struct reason why = {.text = ""};
    cr_assert(eq(int, train_gate_fit(&world->params, world->head, gate, &why), STATUS_OK), "%s: %s",
              why.field, why.text);
}

// --- what a gate is for

Test(train_gate, keeps_what_clip_knows_and_takes_what_only_the_memory_knows)
{
    struct world world;
    struct train_gate gate;
    open_world(&world, 1000, 2);
    fit(&world, &gate);
    for (int i = 0; i < FUSION_GATE_EVIDENCE; i++)
        cr_expect(ne(dbl, gate.gate.weights[i], 0.0), "evidence %d tells something here", i);
    cr_expect(gate.memory_right > 0 && gate.memory_right < gate.cases);
    for (int labels = 0; labels < TRAIN_GATE_LABELS; labels++) {
        const struct train_gate_shares *new_things =
            &gate.shares[WHOLE][TRAIN_GATE_NEW_THINGS][labels];
        cr_expect(new_things->plain < 0.2 && new_things->refined > 0.7, "%f %f", new_things->plain,
                  new_things->refined);
        cr_expect(new_things->chosen > new_things->refined - 0.05, "%f of %f", new_things->chosen,
                  new_things->refined);
        static const struct {
            int scene;
            double kept; // of what CLIP knows
        } others[] = {{WITHOUT, 0.95}, {WITHOUT_WRONG, 0.95}, {WRONG, 0.85}};
        for (int i = 0; i < 3; i++) {
            const struct train_gate_shares *known =
                &gate.shares[others[i].scene][TRAIN_GATE_KNOWN_THINGS][labels];
            cr_expect(known->plain > 0.8 && known->refined < known->plain - 0.2, "%d: %f %f", i,
                      known->plain, known->refined);
            cr_expect(known->chosen > others[i].kept * known->plain, "%d: %f of %f", i,
                      known->chosen, known->plain);
        }
        const struct train_gate_shares *known =
            &gate.shares[WHOLE][TRAIN_GATE_KNOWN_THINGS][labels];
        cr_expect(known->chosen > known->plain - 0.01, "%f of %f", known->chosen, known->plain);
    }
    close_world(&world);
}

Test(train_gate, is_the_same_for_the_same_seed_alone)
{
    struct world world;
    struct train_gate one;
    struct train_gate again;
    struct train_gate other;
    open_world(&world, 1000, 2);
    fit(&world, &one);
    fit(&world, &again);
    cr_expect(memcmp(&one.gate, &again.gate, sizeof(one.gate)) == 0);
    cr_expect(memcmp(one.shares, again.shares, sizeof(one.shares)) == 0);
    world.params.seed = 4;
    fit(&world, &other);
    cr_expect(memcmp(&one.gate, &other.gate, sizeof(one.gate)) != 0);
    for (int kind = 0; kind < TRAIN_GATE_KINDS; kind++) // its choices are the other gate's
        for (int labels = 0; labels < TRAIN_GATE_LABELS; labels++) {
            const struct train_gate_shares *shares = &one.shares[WHOLE][kind][labels];
            const struct train_gate_shares *others = &other.shares[WHOLE][kind][labels];
            cr_expect(eq(dbl, shares->plain, others->plain));
            cr_expect(eq(dbl, shares->refined, others->refined));
        }
    close_world(&world);
}

// --- the shares

// One embedding, plain and refined by fusion_head_refine(). Captions are as they are.
static void refine(const struct world *world, enum train_gate_kind kind, enum modality side,
                   uint32_t pair, float out[2][DIMENSION])
{
    const struct train_neighbours *found = &world->neighbours[TRAIN_GATE_WITH][kind];
    const struct train_rows *rows = &world->memories[TRAIN_GATE_WITH].rows;
    float payload[K][DIMENSION];
    float pair_scores[K];
    const float *pointers[K];
    for (uint32_t n = 0; n < K; n++) {
        float searched[DIMENSION];
        const uint32_t row = found->rows[side][pair * K + n];
        train_rows_get(rows, row, side, searched);
        train_rows_get(rows, row, modality_other(side), payload[n]);
        pair_scores[n] = (float)train_rows_dot(searched, payload[n], DIMENSION);
        pointers[n] = payload[n];
    }
    train_rows_get(&world->pairs[kind].rows, pair, side, out[0]);
    struct fusion_head_query query = {
        .query = out[0],
        .neighbours = {K, found->scores[side] + (size_t)pair * K, pointers, pair_scores},
        .refined = out[1]};
    cr_assert(eq(int, fusion_head_refine(world->head, side, &query), STATUS_OK));
}

// Things are alike but for their numbers: the first pair of thing t is pair t * VIEWS.
static void count_right(const struct world *world, enum train_gate_kind kind, uint32_t sets,
                        uint32_t right[2])
{
    static float labels[2 * THINGS][2][DIMENSION];
    for (uint32_t i = 0; i < sets * THINGS; i++)
        refine(world, (enum train_gate_kind)(i < THINGS ? kind : 1 - kind), MODALITY_TEXT,
               i % THINGS * VIEWS, labels[i]);
    for (uint32_t pair = 0; pair < THINGS * VIEWS; pair++) {
        float images[2][DIMENSION];
        refine(world, kind, MODALITY_IMAGE, pair, images);
        for (int way = 0; way < 2; way++) {
            bool is_best = true;
            const double own = train_rows_dot(images[way], labels[pair / VIEWS][way], DIMENSION);
            for (uint32_t i = 0; i < sets * THINGS; i++)
                is_best = is_best && own >= train_rows_dot(images[way], labels[i][way], DIMENSION);
            right[way] += is_best;
        }
    }
}

Test(train_gate, tells_the_shares_of_a_plain_count)
{
    struct world world;
    struct train_gate gate;
    open_world(&world, 1000, 2);
    fit(&world, &gate);
    for (int kind = 0; kind < TRAIN_GATE_KINDS; kind++) {
        cr_expect(gate.pictures[kind] == THINGS * VIEWS && gate.labels[kind] == THINGS);
        for (uint32_t labels = 0; labels < TRAIN_GATE_LABELS; labels++) {
            const struct train_gate_shares *shares = &gate.shares[WHOLE][kind][labels];
            uint32_t right[2] = {0};
            count_right(&world, (enum train_gate_kind)kind, labels + 1, right);
            cr_expect(eq(dbl, shares->plain, (double)right[0] / (THINGS * VIEWS)));
            cr_expect(eq(dbl, shares->refined, (double)right[1] / (THINGS * VIEWS)));
        }
    }
    close_world(&world);
}

Test(train_gate, counts_an_entity_of_both_kinds_once)
{
    struct world world;
    struct train_gate gate;
    open_world(&world, 1, 2);
    fit(&world, &gate);
    for (int scene = 0; scene < TRAIN_GATE_SCENES; scene++)
        for (int kind = 0; kind < TRAIN_GATE_KINDS; kind++)
            cr_expect(memcmp(&gate.shares[scene][kind][TRAIN_GATE_OWN],
                             &gate.shares[scene][kind][TRAIN_GATE_ALL],
                             sizeof(gate.shares[scene][kind][0])) == 0,
                      "scene %d, kind %d", scene, kind);
    close_world(&world);
}

// Two known things, 4,200 pictures: of those whose ids are too large to be asked for all are of the
// other thing.
Test(train_gate, asks_for_no_more_than_it_says_and_the_first_by_their_hashes)
{
    struct world world;
    struct train_gate gate;
    begin_world(&world, 1000);
    struct train_pairs *pairs = &world.pairs[TRAIN_GATE_KNOWN_THINGS];
    float thing[2][DIMENSION];
    train_pairs_deinit(pairs);
    begin_rows(&world, &pairs->rows);
    pairs->ids = mem_alloc_array(TRAIN_GATE_MAX + 104, sizeof(uint64_t));
    pairs->entities = mem_alloc_array(TRAIN_GATE_MAX + 104, sizeof(uint64_t));
    random_head_unit(&world.draw, DIMENSION, thing[0]);
    random_head_unit(&world.draw, DIMENSION, thing[1]);
    for (uint64_t id = TRAIN_GATE_MAX + 104; id-- > 0;) {
        const uint64_t which = id % 2;
        pairs->ids[pairs->rows.count] = id;
        pairs->entities[pairs->rows.count] = 1000 + which;
        add(&world, &pairs->rows, thing[id < TRAIN_GATE_MAX ? which : 1 - which], thing[which],
            0.2f);
    }
    cr_assert(eq(int, train_rows_seal(&pairs->rows, NULL), STATUS_OK));
    seal_memory(&world.memories[0]);
    seal_memory(&world.memories[1]);
    find_all(&world);
    open_head(&world, 2);
    fit(&world, &gate);
    cr_expect(eq(u32, gate.pictures[TRAIN_GATE_KNOWN_THINGS], TRAIN_GATE_MAX));
    cr_expect(eq(u32, gate.labels[TRAIN_GATE_KNOWN_THINGS], 2));
    cr_expect(eq(dbl, gate.shares[WITHOUT][TRAIN_GATE_KNOWN_THINGS][TRAIN_GATE_OWN].plain, 1.0));
    close_world(&world);
}

// --- wrong captions

#define FEW 3

// A memory of three records, each with the caption of the one that is `turn` behind it.
static void open_few(struct world *world, int turn)
{
    float images[FEW][DIMENSION];
    float texts[FEW][DIMENSION];
    begin_world(world, 1000);
    train_rows_deinit(&world->memories[TRAIN_GATE_WITH].rows);
    begin_rows(world, &world->memories[TRAIN_GATE_WITH].rows);
    for (int i = 0; i < FEW; i++) {
        random_head_unit(&world->draw, DIMENSION, images[i]);
        random_head_unit(&world->draw, DIMENSION, texts[i]);
    }
    for (int i = 0; i < FEW; i++)
        cr_assert(eq(int,
                     train_rows_add(&world->memories[TRAIN_GATE_WITH].rows, images[i],
                                    texts[(i + turn) % FEW], NULL),
                     STATUS_OK));
    seal_memory(&world->memories[0]);
    seal_memory(&world->memories[1]);
    find_all(world);
    open_head(world, 0.5f);
}

Test(train_gate, wrong_captions_go_round_in_a_ring)
{
    struct train_gate turned[FEW];
    for (int turn = 0; turn < FEW; turn++) {
        struct world world;
        open_few(&world, turn);
        fit(&world, &turned[turn]);
        close_world(&world);
    }
    // The ring goes one way or the other, and the same for pictures and labels.
    bool is_turned[FEW] = {true, true, true};
    for (int turn = 0; turn < FEW; turn++)
        for (int kind = 0; kind < TRAIN_GATE_KINDS; kind++)
            for (int labels = 0; labels < TRAIN_GATE_LABELS; labels++)
                is_turned[turn] =
                    is_turned[turn] && turned[0].shares[WRONG][kind][labels].refined ==
                                           turned[turn].shares[WHOLE][kind][labels].refined;
    cr_expect(is_turned[1] + is_turned[2] == 1 && !is_turned[0], "%d %d %d", is_turned[0],
              is_turned[1], is_turned[2]);

    // Of three records one is half of them, and a ring of one changes nothing.
    cr_expect(eq(dbl, turned[0].shares[HALF_WRONG][TRAIN_GATE_NEW_THINGS][0].refined,
                 turned[0].shares[WHOLE][TRAIN_GATE_NEW_THINGS][0].refined));
}

// The same records in the order that another cluster exports them in.
static void turn_round(struct world *world, struct train_memory *memory)
{
    struct train_rows rows = memory->rows;
    const uint32_t count = rows.count;
    memory->rows = (struct train_rows){.dimension = 0};
    begin_rows(world, &memory->rows);
    for (uint32_t i = count; i-- > 0;) {
        float image[DIMENSION];
        float text[DIMENSION];
        train_rows_get(&rows, i, MODALITY_IMAGE, image);
        train_rows_get(&rows, i, MODALITY_TEXT, text);
        cr_assert(eq(int, train_rows_add(&memory->rows, image, text, NULL), STATUS_OK));
        memory->places[i].row = count - 1 - i;
    }
    cr_assert(eq(int, train_rows_seal(&memory->rows, NULL), STATUS_OK));
    train_rows_deinit(&rows);
}

Test(train_gate, does_not_depend_on_the_order_of_the_records)
{
    struct world world;
    struct train_gate gate[2];
    open_world(&world, 1000, 2);
    fit(&world, &gate[0]);
    for (int i = 0; i < 2; i++) {
        turn_round(&world, &world.memories[i]);
        train_neighbours_deinit(&world.neighbours[i][0]);
        train_neighbours_deinit(&world.neighbours[i][1]);
    }
    find_all(&world);
    fit(&world, &gate[1]);
    cr_expect(memcmp(&gate[0].gate, &gate[1].gate, sizeof(gate[0].gate)) == 0);
    close_world(&world);
}

// --- nothing to learn

Test(train_gate, answers_that_never_differ_are_refused_by_the_flags_names)
{
    struct world world;
    struct train_gate gate = {.cases = 7};
    struct reason why = {.text = ""};
    open_world(&world, 1000, 0); // the head leaves everything as it is
    cr_expect(eq(int, train_gate_fit(&world.params, world.head, &gate, &why),
                 STATUS_FAILED_PRECONDITION));
    cr_expect(strcmp(why.field, "--known, --without") == 0, "%s", why.field);
    cr_expect(strstr(why.text, "of 0 answers that differ") != NULL, "%s", why.text);
    cr_expect(eq(u64, gate.cases, 7), "what fails writes nothing");
    close_world(&world);
}
