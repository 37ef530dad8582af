// SPDX-License-Identifier: Apache-2.0
// All figures are floats written so that they read back as they were: a training that goes on
// compares the same numbers, and its head has the same curve to the byte.

#include "tools/train_state.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/mem.h"
#include "proto/base/system_error.h"

#define STATE_BYTES_MAX ((size_t)8 << 30)

static const char *const terms[FUSION_TRAIN_TERMS] = {"refined_refined", "refined_original",
                                                      "original_refined"};

enum status train_state_init(struct train_state *state, const char *out, struct reason *why)
{
    *state = (struct train_state){.weight = {1, 1, 1}};
    // Room for what is added to a name until a file is whole.
    if (strlen(out) + 64 > sizeof(state->path))
        return reason_set(why, STATUS_INVALID, "--out", "its path is too long");
    (void)snprintf(state->path, sizeof(state->path), "%s.state", out);
    (void)snprintf(state->best_path, sizeof(state->best_path), "%s.best", out);
    return STATUS_OK;
}

void train_state_deinit(struct train_state *state)
{
    mem_free(state->points);
    *state = (struct train_state){.points = NULL};
}

void train_state_fact(struct train_state *state, const char *name, const char *format, ...)
{
    if (state->fact_count == TRAIN_FACTS_MAX)
        return;
    struct train_fact *fact = &state->facts[state->fact_count++];
    fact->name = name;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(fact->value, sizeof(fact->value), format, arguments);
    va_end(arguments);
}

double train_state_sum(const struct train_state *state, const float loss[FUSION_TRAIN_TERMS])
{
    double sum = 0;
    for (size_t i = 0; i < FUSION_TRAIN_TERMS; i++)
        sum += (double)state->weight[i] * (double)loss[i];
    return sum;
}

bool train_state_add(struct train_state *state, const struct train_point *point)
{
    state->points = mem_grow(state->points, state->point_count + 1, sizeof(state->points[0]));
    state->points[state->point_count++] = *point;
    const double before = train_state_sum(state, state->points[state->best].held_out.loss);
    const bool is_best =
        state->point_count == 1 || train_state_sum(state, point->held_out.loss) < before;
    if (is_best)
        state->best = state->point_count - 1;
    return is_best;
}

size_t train_state_stale(const struct train_state *state)
{
    return state->point_count ? state->point_count - 1 - state->best : 0;
}

// --- writing

void train_state_put_loss(struct json_writer *writer, const float loss[FUSION_TRAIN_TERMS])
{
    json_begin_object(writer);
    for (size_t i = 0; i < FUSION_TRAIN_TERMS; i++) {
        json_name(writer, terms[i]);
        json_put_float(writer, loss[i]);
    }
    json_end_object(writer);
}

void train_state_put_figures(struct json_writer *writer, const struct train_figures *figures)
{
    json_begin_object(writer);
    json_name(writer, "loss");
    train_state_put_loss(writer, figures->loss);
    json_name(writer, "recall_at_1");
    json_put_float(writer, figures->recall);
    json_end_object(writer);
}

void train_state_put_point(struct json_writer *writer, const struct train_point *point)
{
    json_begin_object(writer);
    json_name(writer, "step");
    json_put_uint(writer, point->step);
    json_name(writer, "loss");
    if (point->step > 0)
        train_state_put_loss(writer, point->loss);
    else
        json_put_null(writer);
    json_name(writer, "lr");
    json_put_float(writer, point->rate);
    json_name(writer, "held_out");
    train_state_put_figures(writer, &point->held_out);
    json_end_object(writer);
}

void train_state_put_curve(struct json_writer *writer, const struct train_state *state)
{
    json_begin_object(writer);
    json_name(writer, "plain");
    train_state_put_figures(writer, &state->plain);
    json_name(writer, "points");
    json_begin_array(writer);
    for (size_t i = 0; i < state->point_count; i++)
        train_state_put_point(writer, &state->points[i]);
    json_end_array(writer);
    json_end_object(writer);
}

void train_state_write(const struct train_state *state, struct json_writer *writer)
{
    json_begin_object(writer);
    json_name(writer, "facts");
    json_begin_object(writer);
    for (size_t i = 0; i < state->fact_count; i++) {
        json_name(writer, state->facts[i].name);
        json_put_cstr(writer, state->facts[i].value);
    }
    json_end_object(writer);
    json_name(writer, "best");
    json_put_uint(writer, state->best);
    json_name(writer, "curve");
    train_state_put_curve(writer, state);
    json_end_object(writer);
}

// --- reading

static bool take_float(const struct json *value, float *out)
{
    double number = 0;
    if (!json_double(value, &number) || !(fabs(number) <= (double)FLT_MAX))
        return false;
    *out = (float)number;
    return true;
}

static bool take_loss(const struct json *object, float loss[FUSION_TRAIN_TERMS])
{
    bool is_whole = true;
    for (size_t i = 0; i < FUSION_TRAIN_TERMS; i++)
        is_whole = is_whole && take_float(json_member(object, terms[i]), &loss[i]);
    return is_whole;
}

static bool take_figures(const struct json *object, struct train_figures *out)
{
    return take_loss(json_member(object, "loss"), out->loss) &&
           take_float(json_member(object, "recall_at_1"), &out->recall);
}

static bool take_point(const struct json *object, struct train_point *out)
{
    int64_t step = 0;
    if (!json_int(json_member(object, "step"), &step) || step < 0)
        return false;
    out->step = (uint64_t)step;
    return (step == 0 || take_loss(json_member(object, "loss"), out->loss)) &&
           take_float(json_member(object, "lr"), &out->rate) &&
           take_figures(json_member(object, "held_out"), &out->held_out);
}

// The first fact with another value. A fact that only one of the two has is compared later, or was
// before.
static enum status compare(const struct train_state *state, const struct json *facts,
                           struct reason *why)
{
    for (size_t i = 0; i < state->fact_count; i++) {
        const struct train_fact *fact = &state->facts[i];
        const struct text then = json_text(json_member(facts, fact->name));
        if (then.data && !text_equal(then, text_of(fact->value)))
            return reason_set(why, STATUS_FAILED_PRECONDITION, fact->name,
                              "is %s now; the training that would go on was begun with %.*s: give "
                              "that again, or remove the file to begin anew",
                              fact->value, (int)(then.bytes < 200 ? then.bytes : 200), then.data);
    }
    return STATUS_OK;
}

static bool take_curve(const struct json *curve, int64_t best, struct train_state *out)
{
    const struct json *points = json_member(curve, "points");
    const size_t count = json_count(points);
    if (!json_is_array(points) || count == 0 || best < 0 || (uint64_t)best >= count ||
        !take_figures(json_member(curve, "plain"), &out->plain))
        return false;
    out->points = mem_try_alloc_array(count, sizeof(out->points[0]));
    if (!out->points)
        return false;
    out->point_count = count;
    out->best = (size_t)best;
    for (size_t i = 0; i < count; i++)
        if (!take_point(json_element(points, i), &out->points[i]) ||
            (i > 0 && out->points[i].step <= out->points[i - 1].step))
            return false;
    return true;
}

enum status train_state_parse(struct train_state *state, struct text note, struct reason *why)
{
    struct json *document = NULL;
    struct reason inner = {.text = ""};
    if (note.bytes > TRAIN_NOTE_BYTES_MAX || json_parse(note.data, note.bytes, &document, &inner))
        return reason_set(why, STATUS_CORRUPT, NULL, "its note is damaged: %s", inner.text);
    enum status status = compare(state, json_member(document, "facts"), why);
    struct train_state read = {.points = NULL};
    int64_t best = -1;
    (void)json_int(json_member(document, "best"), &best);
    if (!status && !take_curve(json_member(document, "curve"), best, &read))
        status = reason_set(why, STATUS_CORRUPT, NULL, "its note has no whole curve");
    json_destroy(&document);
    if (status) {
        mem_free(read.points);
        return status;
    }
    assert(read.points);
    mem_free(state->points);
    state->plain = read.plain;
    state->points = read.points;
    state->point_count = read.point_count;
    state->best = read.best;
    return STATUS_OK;
}

// --- files

bool train_state_exists(const struct train_state *state)
{
    return access(state->path, F_OK) == 0;
}

enum status train_state_load(struct train_state *state, struct fusion_train *train,
                             struct reason *why)
{
    struct buffer file = {0};
    struct reason inner = {.text = ""};
    char *note = NULL;
    enum status status = bytes_read_file(state->path, STATE_BYTES_MAX, &file);
    if (status)
        return reason_set(why, status, state->path, "%s", SYSTEM_TROUBLE(status));
    status = fusion_train_restore(train, (struct bytes){file.data, file.count}, &note, &inner);
    mem_free(file.data);
    if (!status)
        status = train_state_parse(state, text_of(note), &inner);
    assert(status || state->points);
    if (!status && state->points[state->point_count - 1].step != fusion_train_steps(train))
        status = reason_set(&inner, STATUS_CORRUPT, NULL, "its note is of another step");
    mem_free(note);
    return status ? reason_set(why, status, NULL, "%s: %s%s%s", state->path, inner.field,
                               inner.field[0] ? ": " : "", inner.text)
                  : STATUS_OK;
}

enum status train_state_save(const struct train_state *state, const struct fusion_train *train,
                             struct reason *why)
{
    struct json_writer writer = {.failed = false};
    struct buffer packed = {0};
    train_state_write(state, &writer);
    enum status status = writer.failed ? STATUS_NO_MEMORY : STATUS_OK;
    if (!status)
        status = fusion_train_pack(
            train, (struct text){(const char *)writer.out.data, writer.out.count}, &packed);
    json_writer_deinit(&writer);
    if (status)
        status = reason_set(why, status, state->path, "%s", status_text(status));
    else if ((status = bytes_replace_file(state->path, packed.data, packed.count)))
        status =
            reason_set(why, status, state->path, "cannot be written: %s", SYSTEM_TROUBLE(status));
    buffer_deinit(&packed);
    return status;
}

void train_state_remove(const struct train_state *state)
{
    // The state first: without it OUT.best is not looked at.
    (void)unlink(state->path);
    (void)unlink(state->best_path);
}
