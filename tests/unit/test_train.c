// SPDX-License-Identifier: Apache-2.0
// Goal: entities are told by words and not by their spelling, and each is held out as a whole; a
// head's config is changed by the names of its file; the best point of a curve is the one with the
// lowest held-out loss, a later equal one is none; a training is not gone on with under another
// flag; a batch follows from seed and step alone, has held-out pairs never, and only what was asked
// for is spoilt.
//
// Method: a made-up memory of 40 records in 4 dimensions, whose payload tells whose it is.

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/mem.h"
#include "tools/train_batch.h"
#include "tools/train_set.h"
#include "tools/train_state.h"

#define RECORDS 40
#define K 3
#define BATCH 8

static uint64_t entity(const char *words)
{
    return train_pairs_entity(text_of(words));
}

Test(train, tells_entities_by_their_words)
{
    cr_expect(eq(u64, entity("Tawny  Owl"), entity(" tawny\towl\n")));
    cr_expect(ne(u64, entity("tawny owl"), entity("tawnyowl")));
    cr_expect(ne(u64, entity("tawny owl"), entity("tawny owls")));
    cr_expect(ne(u64, entity(""), 0));

    char longest[CAPTION_BYTES_MAX + 1];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    cr_expect(eq(u64, entity(longest), entity(longest)));
}

Test(train, holds_out_about_the_share_and_another_for_another_seed)
{
    int held = 0;
    int both = 0;
    for (uint64_t i = 1; i <= 10000; i++) {
        const bool one = train_pairs_is_held_out(i, 1, 0.2);
        held += one;
        both += one && train_pairs_is_held_out(i, 2, 0.2);
    }
    cr_expect(held > 1880 && held < 2120, "%d of 10,000", held); // 3 standard deviations
    cr_expect(both > 330 && both < 470, "%d in both", both);
    cr_expect(not(train_pairs_is_held_out(7, 1, 0)));
}

// --- --set

Test(train, sets_fields_of_both_sides_or_one)
{
    struct fusion_config config[2] = {fusion_config_default(64), fusion_config_default(64)};
    struct reason why = {.text = ""};
    const char *const all[] = {"mlp=32", "text.norm=post", "image.beta=0.25", "block=false"};
    cr_assert(eq(int, train_set(config, all, 4, &why), STATUS_OK), "%s", why.text);
    cr_expect(config[0].mlp == 32 && config[1].mlp == 32);
    cr_expect(config[0].norm == FUSION_NORM_PRE && config[1].norm == FUSION_NORM_POST);
    cr_expect(config[0].beta == 0.25f && config[1].beta == (float)FUSION_BETA_DEFAULT);
    cr_expect(config[0].block == false && config[1].block == false);
}

Test(train, sets_fields_that_need_each_other_in_any_order)
{
    const char *const all[] = {"baseline=query", "consensus=false"};
    const char *const turned[] = {"consensus=false", "baseline=query"};
    const char *const *const orders[] = {all, turned};
    for (size_t i = 0; i < 2; i++) {
        struct fusion_config config[2] = {fusion_config_default(64), fusion_config_default(64)};
        struct reason why = {.text = ""};
        config[0].consensus = config[1].consensus = true;
        cr_assert(eq(int, train_set(config, orders[i], 1, &why), i ? STATUS_OK : STATUS_INVALID));
        cr_assert(eq(int, train_set(config, orders[i], 2, &why), STATUS_OK), "%s", why.text);
        cr_expect(config[0].baseline == FUSION_BASELINE_QUERY && !config[1].consensus);
    }
}

Test(train, refuses_fields_and_values_that_are_none)
{
    static const struct {
        const char *assignment;
        const char *words;
    } bad[] = {
        {"mlp", "FIELD=VALUE"},
        {"=3", "FIELD=VALUE"},
        {"depth=2", "'depth' is no field"},
        {"mlp=-1", "mlp"},
        {"norm=before", "norm"},
        {"block=3", "block"},
        {"text.=3", "'' is no field"},
        {"heads=7", "heads"},
        {"beta=[1]", "beta"},
        {"beta=nan", "'nan': 0..1000 is allowed"},
        {"block=no", "'no': true or false is allowed"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fusion_config config[2] = {fusion_config_default(64), fusion_config_default(64)};
        struct reason why = {.text = ""};
        cr_expect(eq(int, train_set(config, &bad[i].assignment, 1, &why), STATUS_INVALID), "%s",
                  bad[i].assignment);
        cr_expect(strstr(why.field, bad[i].words) || strstr(why.text, bad[i].words),
                  "%s: '%s: %s' lacks '%s'", bad[i].assignment, why.field, why.text, bad[i].words);
        const struct fusion_config same = fusion_config_default(64);
        cr_expect(config[0].mlp == same.mlp && config[1].mlp == same.mlp);
    }
}

// --- the curve

static struct train_point point(uint64_t step, float held_out)
{
    return (struct train_point){.step = step, .held_out = {.loss = {held_out, 1, 1}}};
}

Test(train, keeps_the_first_of_the_best_points)
{
    struct train_state state;
    struct reason why = {.text = ""};
    cr_assert(eq(int, train_state_init(&state, "head", &why), STATUS_OK));
    static const float losses[] = {5, 3, 4, 3, 3.5f};
    for (uint64_t i = 0; i < 5; i++) {
        const struct train_point next = point(10 * i, losses[i]);
        cr_expect(eq(int, train_state_add(&state, &next), i < 2));
    }
    cr_expect(eq(sz, state.best, 1));
    cr_expect(eq(sz, train_state_stale(&state), 3));
    train_state_deinit(&state);
}

Test(train, goes_on_under_the_same_flags_only)
{
    struct train_state first;
    struct train_state second;
    struct reason why = {.text = ""};
    struct json_writer writer = {.failed = false};
    cr_assert(eq(int, train_state_init(&first, "head", &why), STATUS_OK));
    cr_assert(eq(int, train_state_init(&second, "head", &why), STATUS_OK));
    const struct train_point begin = point(0, 0.1f);
    (void)train_state_add(&first, &begin);
    train_state_fact(&first, "--noise", "%.9g", 0.2);
    train_state_write(&first, &writer);
    const struct text note = {(const char *)writer.out.data, writer.out.count};

    train_state_fact(&second, "--noise", "%.9g", 0.25);
    cr_expect(eq(int, train_state_parse(&second, note, &why), STATUS_FAILED_PRECONDITION));
    cr_expect(strcmp(why.field, "--noise") == 0);
    cr_expect(strstr(why.text, "0.25") && strstr(why.text, "0.2:"), "%s", why.text);
    cr_expect(eq(sz, second.point_count, 0));

    second.fact_count = 0;
    train_state_fact(&second, "--noise", "%.9g", 0.2);
    cr_expect(eq(int, train_state_parse(&second, note, &why), STATUS_OK), "%s", why.text);
    cr_expect(second.points[0].held_out.loss[0] == 0.1f);
    json_writer_deinit(&writer);
    train_state_deinit(&first);
    train_state_deinit(&second);
}

// --- batches

struct world {
    struct train_memory memory;
    struct train_pairs pairs;
    struct train_neighbours neighbours;
    struct train_batches *batches;
};

// Record i has the picture (cos i, sin i, 0, 0) and the text (0, 0, cos i, sin i), turned by a
// whole number of degrees; pair i is record i and has the K records behind it as neighbours.
static void add_row(struct train_rows *rows, uint32_t i)
{
    static const float circle[5][2] = {{1, 0}, {0.8f, 0.6f}, {0.6f, 0.8f}, {0, 1}, {-0.6f, 0.8f}};
    const float *a = circle[i % 5];
    const float *b = circle[i / 5 % 5];
    const float image[4] = {a[0], a[1], b[0], b[1]};
    const float text[4] = {b[0], a[1], a[0], b[1]};
    struct reason why = {.text = ""};
    cr_assert(eq(int, train_rows_add(rows, image, text, &why), STATUS_OK), "%s", why.text);
}

static void open_world(struct world *world, double held_out, double noise, double unrelated)
{
    char folder[] = "/tmp/reco-train-XXXXXX";
    char beside[64];
    struct reason why = {.text = ""};
    memset(world, 0, sizeof(*world));
    cr_assert(mkdtemp(folder) != NULL);
    (void)snprintf(beside, sizeof(beside), "%s/head", folder);
    cr_assert(eq(int, train_rows_begin(&world->memory.rows, beside, 4, &why), STATUS_OK));
    cr_assert(eq(int, train_rows_begin(&world->pairs.rows, beside, 4, &why), STATUS_OK));
    (void)rmdir(folder); // their files have no name
    world->memory.dimension = 4;
    world->memory.places = mem_alloc_array(RECORDS, sizeof(world->memory.places[0]));
    world->pairs.ids = mem_alloc_array(RECORDS, sizeof(world->pairs.ids[0]));
    world->pairs.entities = mem_alloc_array(RECORDS, sizeof(world->pairs.entities[0]));
    world->neighbours.k = K;
    for (int side = 0; side < 2; side++) {
        world->neighbours.rows[side] = mem_alloc_array((size_t)RECORDS * K, sizeof(uint32_t));
        world->neighbours.scores[side] = mem_alloc_array((size_t)RECORDS * K, sizeof(float));
        world->neighbours.counts[side] = mem_alloc_array(RECORDS, sizeof(uint32_t));
    }
    for (uint32_t i = 0; i < RECORDS; i++) {
        add_row(&world->memory.rows, i);
        add_row(&world->pairs.rows, i);
        world->memory.places[i] = (struct train_memory_place){.id = 100 + i, .row = i};
        world->pairs.entities[i] = 1 + i / 2;
        for (int side = 0; side < 2; side++) {
            world->neighbours.counts[side][i] = i % 4;
            for (uint32_t n = 0; n < K; n++) {
                world->neighbours.rows[side][i * K + n] = (i + 1 + n) % RECORDS;
                world->neighbours.scores[side][i * K + n] = (float)i;
            }
        }
    }
    cr_assert(eq(int, train_rows_seal(&world->memory.rows, &why), STATUS_OK));
    cr_assert(eq(int, train_rows_seal(&world->pairs.rows, &why), STATUS_OK));
    const struct train_batches_params params = {.memory = &world->memory,
                                                .pairs = &world->pairs,
                                                .neighbours = &world->neighbours,
                                                .batch = BATCH,
                                                .seed = 3,
                                                .held_out = held_out,
                                                .noise = noise,
                                                .unrelated = unrelated};
    cr_assert(eq(int, train_batches_create(&params, &world->batches, &why), STATUS_OK), "%s: %s",
              why.field, why.text);
}

static void close_world(struct world *world)
{
    train_batches_destroy(&world->batches);
    train_neighbours_deinit(&world->neighbours);
    train_pairs_deinit(&world->pairs);
    train_memory_deinit(&world->memory);
}

// How many of the neighbours of a batch differ in score or payload from those that were found.
static void count_spoilt(const struct world *world, const struct fusion_train_batch *batch,
                         size_t *scores, size_t *payloads, size_t *all)
{
    for (uint32_t slot = 0; slot < batch->pairs; slot++) {
        for (uint32_t n = 0; n < batch->counts[0][slot]; n++) {
            // The score says which pair it is.
            float payload[4];
            const float score = batch->scores[0][slot * K + n];
            const uint32_t pair = score >= 0 && score < RECORDS ? (uint32_t)score : 0;
            const bool is_found = score == (float)pair && pair % 4 == batch->counts[0][slot];
            train_rows_get(&world->memory.rows, (pair + 1 + n) % RECORDS, MODALITY_TEXT, payload);
            *scores += !is_found;
            *payloads += memcmp(payload, batch->payload[0] + ((size_t)slot * K + n) * 4,
                                sizeof(payload)) != 0;
            (*all)++;
        }
    }
}

Test(train, draws_the_same_batch_for_the_same_step)
{
    struct world world;
    struct world again;
    struct fusion_train_batch batch;
    float seen[BATCH * 4];
    uint64_t entities[BATCH];
    open_world(&world, 0.2, 0.3, 0.3);
    open_world(&again, 0.2, 0.3, 0.3);
    train_batches_get(world.batches, 11, &batch); // in the third pass, at once
    memcpy(seen, batch.embeddings[1], sizeof(seen));
    memcpy(entities, batch.entities, sizeof(entities));
    float payload[BATCH * K * 4];
    memcpy(payload, batch.payload[1], sizeof(payload));
    for (uint64_t step = 0; step <= 11; step++) {
        train_batches_get(again.batches, step, &batch);
        train_batches_get_held_out(again.batches, 0, &(struct fusion_train_batch){.pairs = 0});
    }
    train_batches_get(again.batches, 11, &batch);
    cr_expect(memcmp(seen, batch.embeddings[1], sizeof(seen)) == 0);
    cr_expect(memcmp(entities, batch.entities, sizeof(entities)) == 0);
    for (uint32_t slot = 0; slot < BATCH; slot++)
        for (uint32_t n = 0; n < batch.counts[1][slot]; n++)
            cr_expect(memcmp(payload + (slot * K + n) * 4, batch.payload[1] + (slot * K + n) * 4,
                             4 * sizeof(float)) == 0);
    close_world(&world);
    close_world(&again);
}

Test(train, learns_every_entity_once_a_pass_and_never_a_held_out_one)
{
    struct world world;
    open_world(&world, 0.3, 0, 0);
    const uint32_t learnt = train_batches_learnt(world.batches);
    cr_assert(eq(u32, learnt + train_batches_held_out(world.batches), RECORDS));
    uint32_t seen[RECORDS / 2 + 1] = {0};
    cr_assert(eq(u32, train_batches_size(world.batches), BATCH));
    for (uint64_t step = 0; step < learnt / 2; step++) { // BATCH passes over pairs of pairs
        struct fusion_train_batch batch;
        train_batches_get(world.batches, step, &batch);
        for (uint32_t slot = 0; slot < batch.pairs; slot++)
            seen[batch.entities[slot]]++;
    }
    for (uint64_t one = 1; one <= RECORDS / 2; one++)
        cr_expect(eq(u32, seen[one], train_pairs_is_held_out(one, 3, 0.3) ? 0 : BATCH));
    close_world(&world);
}

Test(train, spoils_what_was_asked_for)
{
    static const struct {
        double noise, unrelated;
    } ways[] = {{0, 0}, {0.8, 0}, {0, 0.5}};
    for (size_t way = 0; way < 3; way++) {
        struct world world;
        struct fusion_train_batch batch;
        size_t scores = 0;
        size_t payloads = 0;
        size_t all = 0;
        open_world(&world, 0.2, ways[way].noise, ways[way].unrelated);
        for (uint64_t step = 0; step < 100; step++) {
            train_batches_get(world.batches, step, &batch);
            count_spoilt(&world, &batch, &scores, &payloads, &all);
        }
        const double share = (double)payloads / (double)all;
        // Of a noise of 0.8 a quarter is as much, a quarter half as much on average, half none.
        cr_expect(way == 0 ? payloads == 0
                           : share > (way == 1 ? 0.2 : 0.4) && share < (way == 1 ? 0.4 : 0.6),
                  "way %zu: %f", way, share);
        cr_expect(way < 2 ? scores == 0 : (double)scores / (double)all > 0.4, "way %zu", way);
        scores = payloads = all = 0;
        train_batches_get_held_out(world.batches, 0, &batch);
        count_spoilt(&world, &batch, &scores, &payloads, &all);
        cr_expect(scores == 0 && payloads == 0, "held-out pairs are as they are");
        close_world(&world);
    }
}
