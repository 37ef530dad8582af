// SPDX-License-Identifier: Apache-2.0
// The data set is read a second time, up to the last picture that is wanted. Sources of records are
// paths of pictures, or "TAR:STEM"; each tar is read once.

#include "tools/eval_examples.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "coordinator/score.h"
#include "proto/base/mem.h"
#include "shaders/models/image.h"
#include "tools/dataset.h"
#include "tools/inputs.h"
#include "tools/png_file.h"

#define GAINED_MAX 6u
#define LOST_MAX 3u
#define ITEM_ARENA_BYTES ((size_t)64 << 20)
#define RECORDS_ARENA_BYTES ((size_t)16 << 20)

// --- which ones

enum story {
    STORY_GAINED,
    STORY_LOST,
    STORY_NEVER,
};

static bool is_story(const struct eval_zero *zero, size_t picture, enum story story)
{
    const bool plain = zero->plain[picture] == 0;
    const bool refined = zero->places[picture] == 0;
    return story == STORY_GAINED ? !plain && refined
           : story == STORY_LOST ? plain && !refined
                                 : !plain && !refined;
}

static void choose(const struct eval_zero *zero, enum story story, size_t most,
                   struct eval_examples *out)
{
    size_t all = 0;
    for (size_t i = 0; i < zero->set.count; i++)
        all += is_story(zero, i, story);
    const size_t count = all < most ? all : most;
    size_t seen = 0;
    size_t taken = 0;
    for (size_t i = 0; i < zero->set.count && taken < count; i++) {
        if (!is_story(zero, i, story))
            continue;
        // The middles of `count` equal parts.
        if (seen++ != (2 * taken + 1) * all / (2 * count))
            continue;
        taken++;
        out->list[out->count++] =
            (struct eval_example){.picture = (uint32_t)i, .truth = zero->set.truth[i]};
    }
}

// The label of the best name.
static uint32_t best_label(const struct eval_zero *zero, const float *query, const float *names)
{
    const uint32_t dimension = zero->eval->dimension;
    float best = -INFINITY;
    uint32_t label = 0;
    for (size_t i = 0; i < zero->classes.labels.name_count; i++) {
        const float score = score_dot(query, names + i * dimension, dimension);
        if (score > best) {
            best = score;
            label = zero->classes.labels.label_of[i];
        }
    }
    return label;
}

static void take_neighbours(const struct eval_zero *zero, struct eval_example *example)
{
    const struct eval_side *side = &zero->images;
    const struct eval_hit *hits = side->hits + (size_t)example->picture * side->width;
    const uint32_t found = side->found[example->picture];
    for (size_t i = 0; i < found && i < EVAL_EXAMPLE_NEIGHBOURS; i++)
        example->neighbours[example->neighbour_count++] = (struct eval_neighbour){
            .id = zero->eval->memory.slots[hits[i].slot].id,
            .score = hits[i].score,
            .caption = mem_copy_text(""),
            .source = mem_copy_text(""),
        };
}

// --- pictures

// A picture that cannot be read leaves the thumbnail empty.
static void make_thumbnail(struct bytes file, struct eval_thumbnail *out)
{
    struct image whole = {0};
    struct image small = {0};
    if (out->png.count || image_decode(file, IMAGE_PROFILE_RECO, &whole, NULL) != STATUS_OK)
        return;
    const uint32_t edge = whole.width > whole.height ? whole.width : whole.height;
    const double scale = edge > EVAL_THUMBNAIL_EDGE ? (double)EVAL_THUMBNAIL_EDGE / edge : 1;
    const uint32_t width = (uint32_t)fmax(1, round(whole.width * scale));
    const uint32_t height = (uint32_t)fmax(1, round(whole.height * scale));
    if (image_resize(&whole, width, height, &small, NULL) == STATUS_OK &&
        png_file_append(small.rgb, width, height, &out->png) == STATUS_OK) {
        out->width = width;
        out->height = height;
    }
    image_deinit(&small);
    image_deinit(&whole);
}

// Hands each item of some sources to `take`, until it says that it has enough.
typedef bool take_item(void *context, uint64_t index, const struct dataset_item *item);
static void walk(const char *const *sources, size_t count, take_item *take, void *context)
{
    const struct dataset_params params = {.format = -1, .labelled = true};
    struct dataset *dataset = NULL;
    struct reason why = {.text = ""};
    if (dataset_open(sources, count, &params, &dataset, &why) != STATUS_OK)
        return;
    enum dataset_step step = DATASET_ITEM;
    bool wants_more = true;
    for (uint64_t index = 0; step != DATASET_END && wants_more; index++) {
        struct arena *arena = arena_create(ITEM_ARENA_BYTES);
        struct dataset_item item;
        step = dataset_next(dataset, arena, &item, &why);
        if (step == DATASET_ITEM)
            wants_more = take(context, index, &item);
        arena_destroy(&arena);
    }
    dataset_close(&dataset);
}

struct own_pictures {
    const struct eval_zero *zero;
    struct eval_examples *examples;
    size_t found;
};

static bool take_own(void *context, uint64_t index, const struct dataset_item *item)
{
    struct own_pictures *own = context;
    for (size_t i = 0; i < own->examples->count; i++) {
        struct eval_example *example = &own->examples->list[i];
        if (own->zero->set.items[example->picture] != index)
            continue;
        make_thumbnail(item->record.image, &example->thumbnail);
        own->found++;
    }
    return own->found < own->examples->count;
}

static bool take_sourced(void *context, uint64_t index, const struct dataset_item *item)
{
    (void)index;
    struct eval_examples *examples = context;
    bool wants_more = false;
    for (size_t i = 0; i < examples->count; i++) {
        for (size_t j = 0; j < examples->list[i].neighbour_count; j++) {
            struct eval_neighbour *neighbour = &examples->list[i].neighbours[j];
            if (text_equal(text_of(neighbour->source), item->record.source))
                make_thumbnail(item->record.image, &neighbour->picture);
            wants_more |= neighbour->picture.png.count == 0;
        }
    }
    return wants_more;
}

// The tar of "TAR:STEM", owned by the caller; NULL for another source.
static char *tar_of(const char *source)
{
    static const char *const ends[] = {
        ".tar:", ".tar.gz:", ".tgz:", ".tar.zst:", ".tar.xz:", ".tar.bz2:"};
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        const char *at = strstr(source, ends[i]);
        if (!at)
            continue;
        char *tar = mem_copy_text(source);
        tar[(size_t)(at - source) + strlen(ends[i]) - 1] = 0;
        return tar;
    }
    return NULL;
}

static void read_picture(struct eval_examples *examples, struct eval_neighbour *neighbour)
{
    struct buffer file = {0};
    char *tar = tar_of(neighbour->source);
    if (tar) {
        const char *const sources[] = {tar};
        walk(sources, 1, take_sourced, examples);
    } else if (neighbour->source[0] &&
               inputs_read_picture(neighbour->source, &file, NULL) == STATUS_OK) {
        make_thumbnail((struct bytes){file.data, file.count}, &neighbour->picture);
    }
    // Not asked for again when it was not there.
    if (tar && !neighbour->picture.png.count)
        neighbour->source[0] = 0;
    buffer_deinit(&file);
    mem_free(tar);
}

// --- records

static void take_record(struct eval_examples *examples, const struct api_record *record)
{
    for (size_t i = 0; i < examples->count; i++) {
        for (size_t j = 0; j < examples->list[i].neighbour_count; j++) {
            struct eval_neighbour *neighbour = &examples->list[i].neighbours[j];
            if (neighbour->id != record->id)
                continue;
            mem_free(neighbour->caption);
            mem_free(neighbour->source);
            neighbour->caption = mem_alloc(record->caption.bytes + 1);
            neighbour->source = mem_alloc(record->source.bytes + 1);
            if (record->caption.bytes)
                memcpy(neighbour->caption, record->caption.data, record->caption.bytes);
            if (record->source.bytes)
                memcpy(neighbour->source, record->source.data, record->source.bytes);
        }
    }
}

static enum status read_records(const struct eval_zero *zero, struct eval_examples *examples,
                                struct reason *why)
{
    uint64_t ids[EVAL_EXAMPLES_MAX * EVAL_EXAMPLE_NEIGHBOURS];
    struct api_records_request message = {
        .memory = text_of(zero->eval->memory.name),
        .ids = ids,
        .fields = 1u << API_FIELD_CAPTION | 1u << API_FIELD_SOURCE,
    };
    for (size_t i = 0; i < examples->count; i++)
        for (size_t j = 0; j < examples->list[i].neighbour_count; j++)
            ids[message.id_count++] = examples->list[i].neighbours[j].id;
    if (message.id_count == 0)
        return STATUS_OK;
    struct arena *arena = arena_create(RECORDS_ARENA_BYTES);
    struct buffer request = {0};
    struct buffer reply = {0};
    struct api_records_reply answer = {.count = 0};
    enum status status = api_encode_records_request(false, &message, &request);
    if (status)
        (void)reason_set(why, status, NULL, "the request cannot be made: %s", status_text(status));
    else
        status = client_call(zero->eval->client, API_GET_RECORDS,
                             (struct bytes){request.data, request.count}, &reply, why);
    if (!status)
        status = api_decode_records_reply(false, (struct bytes){reply.data, reply.count}, arena,
                                          &answer, why);
    for (size_t i = 0; i < answer.count && !status; i++)
        take_record(examples, &answer.records[i]);
    buffer_deinit(&request);
    buffer_deinit(&reply);
    arena_destroy(&arena);
    return status;
}

// --- all of it

enum status eval_examples_collect(struct eval_zero *zero, enum fusion_mode mode,
                                  struct eval_examples *out, struct reason *why)
{
    assert(zero && zero->images.hits && out);

    *out = (struct eval_examples){.mode = mode};
    struct eval_row row = {.metric_count = 0};
    static const struct eval_zero_sides sides = {.search_across = false};
    enum status status =
        eval_zero_measure(zero, sides, mode, (uint32_t)zero->eval->options->k, &row, why);
    if (status)
        return status;
    choose(zero, STORY_GAINED, GAINED_MAX, out);
    choose(zero, STORY_LOST, LOST_MAX, out);
    choose(zero, STORY_NEVER, EVAL_EXAMPLES_MAX - GAINED_MAX - LOST_MAX, out);
    for (size_t i = 0; i < out->count; i++) {
        struct eval_example *example = &out->list[i];
        const size_t at = (size_t)example->picture * zero->eval->dimension;
        example->plain = best_label(zero, zero->images.queries + at, zero->prototypes);
        example->refined = best_label(zero, zero->images.refined + at, zero->names.refined);
        take_neighbours(zero, example);
    }
    status = read_records(zero, out, why);
    if (status)
        return status;
    struct own_pictures own = {.zero = zero, .examples = out};
    walk((const char *const *)zero->place.sources, zero->place.source_count, take_own, &own);
    for (size_t i = 0; i < out->count; i++)
        for (size_t j = 0; j < out->list[i].neighbour_count; j++)
            if (!out->list[i].neighbours[j].picture.png.count)
                read_picture(out, &out->list[i].neighbours[j]);
    return STATUS_OK;
}

void eval_examples_deinit(struct eval_examples *examples)
{
    for (size_t i = 0; i < examples->count; i++) {
        struct eval_example *example = &examples->list[i];
        buffer_deinit(&example->thumbnail.png);
        for (size_t j = 0; j < example->neighbour_count; j++) {
            mem_free(example->neighbours[j].caption);
            mem_free(example->neighbours[j].source);
            buffer_deinit(&example->neighbours[j].picture.png);
        }
    }
    *examples = (struct eval_examples){.count = 0};
}
