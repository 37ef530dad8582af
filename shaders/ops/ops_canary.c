// SPDX-License-Identifier: Apache-2.0
// Before a device is trusted, every operation runs on it once and on the CPU, on small ragged
// numbers: drivers advertise what they do wrongly, and no list of them is ever complete. An
// operation that can be done in several ways is tried in each alone, in both kinds of alignment and
// with every epilogue, which together are all pipelines there are; a way that is wrong is not used.
//
// A scene is one operation on one of the two; what fails in it stays in its status, so that the
// operations below read as what they compute.

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/half.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "shaders/ops/ops_internal.h"

#define NUMBERS 131072u // the largest array takes 90 * 3 * 3 * 128
#define ARRAYS_MAX 6u
#define ERROR_MAX 1e-9      // normalised and squared; single precision stays below 1e-11 here
#define HALF_ERROR_MAX 1e-6 // where operands are rounded to halves, which costs 3e-8 here

struct scene {
    struct ops *ops;
    const float *numbers; // [NUMBERS], to take from
    struct ops_buffer *arrays[ARRAYS_MAX];
    uint32_t count;
    enum status status; // of all calls so far
    struct reason *why;
    float *result; // [result_count], or NULL
    size_t result_count;
};

// An array of the device with this data, or of zeros.
static struct ops_view put(struct scene *scene, const void *data, size_t rows, size_t columns)
{
    struct ops_view view = {NULL, 0, rows, columns};
    size_t room = ops_rows_padded(scene->ops, rows) * columns;
    if (scene->status == STATUS_OK)
        scene->status = ops_alloc(scene->ops, room, &view.buffer, scene->why);
    if (scene->status != STATUS_OK)
        return view;
    scene->arrays[scene->count++] = view.buffer;
    if (data)
        scene->status = ops_upload(scene->ops, view.buffer, 0, data, rows * columns, scene->why);
    return view;
}

static struct ops_view put_numbers(struct scene *scene, size_t rows, size_t columns)
{
    // Each array begins at another number.
    return put(scene, scene->numbers + 100 * (size_t)scene->count, rows, columns);
}

static void take(struct scene *scene, struct ops_view target)
{
    scene->result_count = target.rows * target.columns;
    scene->result = mem_try_alloc_array(scene->result_count, sizeof(scene->result[0]));
    if (scene->status == STATUS_OK && !scene->result)
        scene->status = reason_set(scene->why, STATUS_NO_MEMORY, "device", "no memory to check it");
    if (scene->status == STATUS_OK)
        scene->status = ops_download(scene->ops, target.buffer, 0, scene->result,
                                     scene->result_count, scene->why);
}

// --- the operations

// More than one tile of every size in rows, columns and depth, and a rest.
#define ROWS 131
static const struct {
    uint32_t columns;
    uint32_t depth;
} products[] = {{257, 37}, {260, 40}}; // the second are multiples of four

static void run_product(struct scene *scene, uint32_t number, enum ops_epilogue epilogue)
{
    uint32_t columns = products[number].columns;
    uint32_t depth = products[number].depth;
    struct ops_view source = put_numbers(scene, ROWS, depth);
    struct ops_view target = put(scene, NULL, ROWS, columns);
    struct ops_matrix *matrix = NULL;
    const struct ops_matrix_params params = {
        .weights = scene->numbers + 7,
        .bias = scene->numbers + 3,
        .columns = columns,
        .depth = depth,
        .epilogue = epilogue,
    };
    if (scene->status == STATUS_OK)
        scene->status = ops_matrix_create(scene->ops, &params, &matrix, scene->why);
    if (scene->status == STATUS_OK)
        scene->status = ops_product(scene->ops, matrix, source, target, scene->why);
    take(scene, target);
    ops_matrix_destroy(scene->ops, &matrix);
}

static void run_layernorm(struct scene *scene)
{
    const struct ops_layernorm args = {
        .source = put_numbers(scene, 5, 37),
        .gain = put_numbers(scene, 1, 37),
        .bias = put_numbers(scene, 1, 37),
        .epsilon = 1e-5f,
        .target = put(scene, NULL, 5, 37),
    };
    if (scene->status == STATUS_OK)
        scene->status = ops_layernorm(scene->ops, &args, scene->why);
    take(scene, args.target);
}

static void run_attention(struct scene *scene, uint32_t dimension, bool causal)
{
    static const uint32_t starts[] = {0, 1, 1, 20, 90};
    enum { HEADS = 3 };
    const struct ops_attention args = {
        .source = put_numbers(scene, 90, (size_t)3 * HEADS * dimension),
        .starts = put(scene, starts, 1, sizeof(starts) / sizeof(starts[0])),
        .heads = HEADS,
        .longest = 70,
        .causal = causal,
        .target = put(scene, NULL, 90, (size_t)HEADS * dimension),
    };
    if (scene->status == STATUS_OK)
        scene->status = ops_attention(scene->ops, &args, scene->why);
    take(scene, args.target);
}

static void run_embed_tokens(struct scene *scene)
{
    static const uint32_t ids[] = {3, 0, 6, 6, 1};
    static const uint32_t places[] = {0, 1, 2, 3, 0};
    const struct ops_embed_tokens args = {
        .table = put_numbers(scene, 7, 37),
        .positions = put_numbers(scene, 4, 37),
        .ids = put(scene, ids, 1, 5),
        .places = put(scene, places, 1, 5),
        .target = put(scene, NULL, 5, 37),
    };
    if (scene->status == STATUS_OK)
        scene->status = ops_embed_tokens(scene->ops, &args, scene->why);
    take(scene, args.target);
}

static void run_patchify(struct scene *scene)
{
    const struct ops_patchify args = {
        .pixels = put_numbers(scene, (size_t)2 * 3 * 17, 17),
        .patch = 5,
        .target = put(scene, NULL, (size_t)2 * 3 * 3, (size_t)3 * 5 * 5),
    };
    if (scene->status == STATUS_OK)
        scene->status = ops_patchify(scene->ops, &args, scene->why);
    take(scene, args.target);
}

static void run_patchify_normalise(struct scene *scene)
{
    enum { IMAGES = 2, SIZE = 17, PATCH = 5, SIDE = SIZE / PATCH };
    uint32_t words[IMAGES * OPS_PICTURE_WORDS(SIZE)];
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        words[i] = (uint32_t)i * 2654435761u; // every byte at last
    const struct ops_patchify_normalise args = {
        .pixels = put(scene, words, IMAGES, OPS_PICTURE_WORDS(SIZE)),
        .table = put_numbers(scene, 3, 256),
        .size = SIZE,
        .patch = PATCH,
        .target = put(scene, NULL, (size_t)IMAGES * SIDE * SIDE, (size_t)3 * PATCH * PATCH),
    };
    if (scene->status == STATUS_OK)
        scene->status = ops_patchify_normalise(scene->ops, &args, scene->why);
    take(scene, args.target);
}

static void run_embed_patches(struct scene *scene)
{
    const struct ops_embed_patches args = {
        .patches = put_numbers(scene, (size_t)3 * 4, 37),
        .first = put_numbers(scene, 1, 37),
        .positions = put_numbers(scene, 5, 37),
        .target = put(scene, NULL, (size_t)3 * 5, 37),
    };
    if (scene->status == STATUS_OK)
        scene->status = ops_embed_patches(scene->ops, &args, scene->why);
    take(scene, args.target);
}

static void run_gather(struct scene *scene)
{
    static const uint32_t rows[] = {8, 0, 3, 3};
    const struct ops_gather args = {
        .source = put_numbers(scene, 9, 37),
        .rows = put(scene, rows, 1, 4),
        .target = put(scene, NULL, 4, 37),
    };
    if (scene->status == STATUS_OK)
        scene->status = ops_gather(scene->ops, &args, scene->why);
    take(scene, args.target);
}

static void run_normalise(struct scene *scene)
{
    struct ops_view rows = put_numbers(scene, 5, 37);
    if (scene->status == STATUS_OK)
        scene->status = ops_normalise(scene->ops, rows, scene->why);
    take(scene, rows);
}

// Whole numbers, whose sums are exact, so that every id must be the CPU's, also where scores are
// equal.
static float whole(float number)
{
    return rintf(4 * number);
}

// Scores, then ids as shares of all rows; 1 where there was no row.
static void take_found(struct scene *scene, struct ops_view scores, struct ops_view ids,
                       uint32_t rows)
{
    size_t count = scores.rows * scores.columns;
    scene->result_count = 2 * count;
    scene->result = mem_alloc_array(scene->result_count, sizeof(scene->result[0]));
    uint32_t *found = mem_alloc_array(count, sizeof(found[0]));
    if (scene->status == STATUS_OK)
        scene->status =
            ops_download(scene->ops, scores.buffer, 0, scene->result, count, scene->why);
    if (scene->status == STATUS_OK)
        scene->status = ops_download(scene->ops, ids.buffer, 0, found, count, scene->why);
    for (size_t i = 0; i < count; i++)
        scene->result[count + i] = (float)(found[i] < rows ? found[i] : rows) / (float)rows;
    mem_free(found);
}

static void run_search(struct scene *scene, uint32_t row_count, uint32_t k)
{
    enum { QUERIES = 17, DEPTH = 20 };
    size_t count = (size_t)row_count * DEPTH;
    float queries[QUERIES * DEPTH];
    uint16_t *halves = mem_alloc_array(count, sizeof(halves[0]));
    for (size_t i = 0; i < count; i++)
        halves[i] = half_from_float(whole(scene->numbers[i]));
    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++)
        queries[i] = whole(scene->numbers[count + i]);
    const struct ops_score_topk args = {
        .queries = put(scene, queries, QUERIES, DEPTH),
        .rows = put(scene, halves, row_count, DEPTH / 2),
        .ids = put(scene, NULL, QUERIES, k),
        .scores = put(scene, NULL, QUERIES, k),
    };
    if (scene->status == STATUS_OK)
        scene->status = ops_score_topk(scene->ops, &args, scene->why);
    take_found(scene, args.scores, args.ids, row_count);
    mem_free(halves);
}

// --- both, side by side

enum trial_kind {
    PRODUCT,
    LAYERNORM,
    ATTENTION,
    TOKENS,
    PATCHIFY,
    NORMALISED,
    PATCHES,
    GATHER,
    NORMALISE,
    SEARCH,
};

struct trial {
    const char *name;
    enum trial_kind kind;
    uint32_t number; // of the product, dimension of the heads, or rows
    uint32_t choice; // epilogue, causal, or k
};

static void run(struct scene *scene, const struct trial *trial)
{
    switch (trial->kind) {
    case PRODUCT:
        run_product(scene, trial->number, (enum ops_epilogue)trial->choice);
        break;
    case LAYERNORM:
        run_layernorm(scene);
        break;
    case ATTENTION:
        run_attention(scene, trial->number, trial->choice == 1);
        break;
    case TOKENS:
        run_embed_tokens(scene);
        break;
    case PATCHIFY:
        run_patchify(scene);
        break;
    case NORMALISED:
        run_patchify_normalise(scene);
        break;
    case PATCHES:
        run_embed_patches(scene);
        break;
    case GATHER:
        run_gather(scene);
        break;
    case NORMALISE:
        run_normalise(scene);
        break;
    case SEARCH:
        run_search(scene, trial->number, trial->choice);
        break;
    }
    for (uint32_t i = 0; i < scene->count; i++)
        ops_free(scene->ops, &scene->arrays[i]);
    scene->count = 0;
}

// |got - expected|^2 / |expected|^2; not a number when `got` has one that is none.
static double squared_error(const float *got, const float *expected, size_t count)
{
    double error = 0;
    double all = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = (double)got[i] - (double)expected[i];
        error += difference * difference;
        all += (double)expected[i] * (double)expected[i];
    }
    return error / all;
}

// A device that is tried.
struct canary {
    struct ops *device;
    struct ops *cpu;
    float *numbers; // [NUMBERS]
    double error_max;
    struct reason *why; // never NULL
};

// What a driver refuses a kernel with, and what the operations themselves find wrong.
static bool is_wrong(enum status status)
{
    return status == STATUS_INTERNAL || status == STATUS_UNSUPPORTED;
}

// *error is how wrong the device was, HUGE_VAL when it cannot do it. A failure that says nothing of
// the operation is returned.
static enum status try(const struct canary *canary, const struct trial *trial, double *error)
{
    struct scene got = {.ops = canary->device, .numbers = canary->numbers, .why = canary->why};
    struct scene expected = {.ops = canary->cpu, .numbers = canary->numbers, .why = canary->why};
    run(&got, trial);
    enum status status = got.status;
    *error = HUGE_VAL;
    if (status == STATUS_OK) {
        run(&expected, trial);
        status = expected.status;
        if (status == STATUS_OK)
            *error = squared_error(got.result, expected.result, got.result_count);
    } else if (is_wrong(status)) {
        status = STATUS_OK;
    }
    mem_free(got.result);
    mem_free(expected.result);
    return status;
}

static bool is_right(const struct canary *canary, double error)
{
    return error < canary->error_max; // not when it is not a number
}

static enum status refuse(const struct canary *canary, const char *name, double error)
{
    struct reason inner = *canary->why;
    if (error == HUGE_VAL)
        return reason_set(canary->why, STATUS_UNAVAILABLE, "device",
                          "%s fails there, so it is not used: %s", name, inner.text);
    return reason_set(canary->why, STATUS_UNAVAILABLE, "device",
                      "%s is wrong there by %g, so it is not used", name, error);
}

static enum status open_canary(struct canary *canary, struct ops *device, struct reason *why)
{
    *canary = (struct canary){.device = device, .error_max = ERROR_MAX, .why = why};
    enum status status = ops_open("cpu", 1, &canary->cpu, why);
    canary->numbers = mem_alloc_array(NUMBERS, sizeof(canary->numbers[0]));
    uint32_t state = 1;
    for (size_t i = 0; i < NUMBERS; i++) {
        state = state * 1664525u + 1013904223u;
        canary->numbers[i] = (float)((double)state / 2147483648.0 - 1.0); // -1..1
    }
    return status;
}

static enum status close_canary(struct canary *canary, enum status status, struct reason *why)
{
    mem_free(canary->numbers);
    ops_close(&canary->cpu);
    if (status == STATUS_OK)
        return status;
    return reason_set(why, status, canary->why->field, "%s", canary->why->text);
}

// --- ways

static const char *way_name(enum ops_way way)
{
    static const char *const names[OPS_WAY_COUNT] = {
        [OPS_WAY_PRODUCT_DIRECT] = "products without shared memory",
        [OPS_WAY_PRODUCT_FEW] = "products of few rows",
        [OPS_WAY_PRODUCT_32] = "products in tiles of 32 rows",
        [OPS_WAY_PRODUCT_64] = "products in tiles of 64 rows",
        [OPS_WAY_PRODUCT_128] = "products in tiles of 128 rows",
        [OPS_WAY_PRODUCT_MATRIX] = "products by cooperative matrices",
        [OPS_WAY_ATTENTION] = "attention without shared memory",
        [OPS_WAY_ATTENTION_STAGED] = "attention in shared memory",
        [OPS_WAY_ATTENTION_MATRIX] = "attention by cooperative matrices",
    };
    return names[way];
}

// The trials of an operation in one way, up to the first that is wrong.
static enum status try_way(const struct canary *canary, const struct trial *trials, size_t count,
                           double *error)
{
    enum status status = STATUS_OK;
    *error = 0;
    for (size_t i = 0; i < count && status == STATUS_OK && is_right(canary, *error); i++)
        status = try(canary, &trials[i], error);
    return status;
}

// Tries each way of an operation, `mask`, that the device has room for; the first, its way out,
// only when no other is right. What is right by cooperative matrices needs no other. The device
// goes on with those that are right.
static enum status try_ways(struct canary *canary, uint32_t mask, const struct trial *trials,
                            size_t count)
{
    struct ops *device = canary->device;
    struct ops_verdict *verdict = device->verdict;
    uint32_t right = 0;
    uint32_t wrong = 0;
    double error = 0;
    enum status status = STATUS_OK;
    for (int way = OPS_WAY_COUNT - 1; way >= 0 && status == STATUS_OK; way--) {
        uint32_t bit = 1u << way;
        bool is_way_out = (mask & (bit - 1)) == 0;
        if (!(verdict->possible & mask & ~verdict->wrong & bit) || (is_way_out && right) ||
            (right & OPS_WAYS_MATRIX))
            continue;
        bool is_half = (bit & OPS_WAYS_MATRIX) ||
                       (bit & OPS_WAYS_PRODUCT && verdict->possible & OPS_HALF_WEIGHTS);
        canary->error_max = is_half ? HALF_ERROR_MAX : ERROR_MAX;
        ops_vulkan_use(device->state, (verdict->possible & ~mask) | bit);
        status = try_way(canary, trials, count, &error);
        if (status == STATUS_OK && is_right(canary, error))
            right |= bit;
        else if (status == STATUS_OK && !is_way_out)
            wrong |= bit;
        if (wrong & bit)
            log_warn("device_way_dropped", "way=\"%s\" error=%g", way_name((enum ops_way)way),
                     error);
    }
    // Attention that is wrong with these heads was right with others, but what is left was not
    // tried.
    if (wrong & OPS_WAYS_ATTENTION)
        memset(verdict->heads, 0, sizeof(verdict->heads));
    canary->error_max = ERROR_MAX;
    verdict->wrong |= wrong;
    verdict->right = (verdict->right & ~mask) | right;
    ops_vulkan_use(device->state, ops_verdict_ways(verdict));
    return status != STATUS_OK || right ? status : refuse(canary, trials[0].name, error);
}

static enum status try_products(struct canary *canary)
{
    enum { EPILOGUES = OPS_ADD + 1, COUNT = 2 * EPILOGUES };
    _Static_assert(sizeof(products) / sizeof(products[0]) == 2, "two shapes");
    struct trial trials[COUNT];
    for (uint32_t i = 0; i < COUNT; i++)
        trials[i] = (struct trial){"a product", PRODUCT, i / EPILOGUES, i % EPILOGUES};
    return try_ways(canary, OPS_WAYS_PRODUCT, trials, COUNT);
}

// What can be done in one way only.
static enum status try_each(const struct canary *canary, const struct trial *trials, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double error = 0;
        enum status status = try(canary, &trials[i], &error);
        if (status == STATUS_OK && !is_right(canary, error))
            status = refuse(canary, trials[i].name, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

enum status ops_canary(struct ops *device, struct reason *why)
{
    static const struct trial rest[] = {
        {"layernorm", LAYERNORM, 0, 0}, {"embed_tokens", TOKENS, 0, 0},
        {"patchify", PATCHIFY, 0, 0},   {"patchify_normalise", NORMALISED, 0, 0},
        {"gather", GATHER, 0, 0},       {"embed_patches", PATCHES, 0, 0},
        {"normalise", NORMALISE, 0, 0},
    };
    struct canary canary;
    struct reason inner = {.text = ""};
    enum status status = open_canary(&canary, device, &inner);
    if (status == STATUS_OK)
        status = try_products(&canary);
    if (status == STATUS_OK)
        status = try_each(&canary, rest, sizeof(rest) / sizeof(rest[0]));
    return close_canary(&canary, status, why);
}

enum status ops_canary_attention(struct ops *device, uint32_t dimension, struct reason *why)
{
    const struct trial trials[] = {
        {"attention", ATTENTION, dimension, 0},
        {"attention", ATTENTION, dimension, 1},
    };
    struct canary canary;
    struct reason inner = {.text = ""};
    enum status status = open_canary(&canary, device, &inner);
    if (status == STATUS_OK)
        status = try_ways(&canary, OPS_WAYS_ATTENTION, trials, 2);
    return close_canary(&canary, status, why);
}

enum status ops_canary_search(struct ops *device, struct reason *why)
{
    // Lists of either length; rows of three blocks, and fewer rows than are asked for.
    static const struct trial trials[] = {{"search", SEARCH, 600, 10}, {"search", SEARCH, 30, 40}};
    struct canary canary;
    struct reason inner = {.text = ""};
    enum status status = open_canary(&canary, device, &inner);
    if (status == STATUS_OK)
        status = try_each(&canary, trials, 2);
    return close_canary(&canary, status, why);
}

uint32_t ops_verdict_ways(const struct ops_verdict *verdict)
{
    // Attention is tried when the dimension of its heads is known.
    uint32_t attention = verdict->possible & OPS_WAYS_ATTENTION & ~verdict->wrong;
    if (attention & OPS_WAYS_MATRIX)
        attention &= OPS_WAYS_MATRIX;
    return (verdict->possible & verdict->right & OPS_WAYS_PRODUCT) | attention;
}

void ops_dropped(const struct ops *ops, char text[OPS_DROPPED_BYTES])
{
    assert(ops);

    size_t at = 0;
    text[0] = '\0';
    for (int way = 0; ops->verdict && way < OPS_WAY_COUNT; way++) {
        if (ops->verdict->wrong & (1u << way))
            at += (size_t)snprintf(text + at, OPS_DROPPED_BYTES - at, "%s%s", at > 0 ? ", " : "",
                                   way_name((enum ops_way)way));
    }
}
