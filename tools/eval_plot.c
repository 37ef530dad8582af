// SPDX-License-Identifier: Apache-2.0
// Coordinates are SVG's, y downwards. Steps of k and of sizes are drawn by their logarithms.

#include "tools/eval_plot.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define WIDTH 720.0
#define HEIGHT 340.0
#define LEFT 52.0
#define RIGHT 110.0 // where lines are named
#define TOP 16.0
#define BOTTOM 48.0
#define NAME_STEP 17.0 // between names of lines
#define BAR_HEIGHT 22.0
#define BAR_STEP 34.0
#define LETTER 6.9 // of a bar's name, about

struct frame {
    const struct eval_result *result;
    double x_low, x_high;
    double y_high; // share at the upper edge; the lower edge is 0
    double y_step;
    bool is_log;
};

// --- scales

static double scaled(const struct frame *frame, double at)
{
    return frame->is_log ? log2(at) : at;
}

static double x_of(const struct frame *frame, double at)
{
    const double range = frame->x_high - frame->x_low;
    const double share = range > 0 ? (scaled(frame, at) - frame->x_low) / range : 0.5;
    return LEFT + share * (WIDTH - LEFT - RIGHT);
}

static double y_of(const struct frame *frame, double share)
{
    return HEIGHT - BOTTOM - share / frame->y_high * (HEIGHT - TOP - BOTTOM);
}

// The step of a scale up to `high` that gives at most six lines.
static double step_of(double high)
{
    static const double steps[] = {0.01, 0.02, 0.05, 0.1, 0.2};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (high / steps[i] <= 6)
            return steps[i];
    return 0.2;
}

static double highest(const struct eval_result *result)
{
    double high = 0.01;
    for (size_t i = 0; i < result->count; i++)
        high = fmax(high, result->rows[i].metrics[0].interval.high);
    return high;
}

static struct frame frame_of(const struct eval_result *result)
{
    struct frame frame = {.result = result, .x_low = (double)INFINITY, .x_high = -(double)INFINITY};
    frame.is_log = strcmp(result->axis, "noise") != 0;
    for (size_t i = 0; i < result->count; i++) {
        if (isnan(result->rows[i].at))
            continue;
        frame.x_low = fmin(frame.x_low, scaled(&frame, result->rows[i].at));
        frame.x_high = fmax(frame.x_high, scaled(&frame, result->rows[i].at));
    }
    const double high = highest(result);
    frame.y_step = step_of(high);
    frame.y_high = ceil(high / frame.y_step) * frame.y_step;
    return frame;
}

// --- lines

static void put_grid(const struct frame *frame, struct eval_page *page)
{
    const struct eval_result *result = frame->result;
    const int lines = (int)lround(frame->y_high / frame->y_step);
    for (int i = 0; i <= lines; i++) {
        const double y = y_of(frame, i * frame->y_step);
        eval_page_put(page,
                      "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                      "<text class=\"end\" x=\"%.1f\" y=\"%.1f\">%.0f</text>\n",
                      LEFT, WIDTH - RIGHT, y, y, LEFT - 8, y + 4, 100 * i * frame->y_step);
    }
    double last = -(double)INFINITY;
    for (size_t i = 0; i < result->count; i++) {
        const struct eval_row *row = &result->rows[i];
        const double x = x_of(frame, row->at);
        if (isnan(row->at) || fabs(x - last) < 1)
            continue;
        last = x;
        eval_page_put(page, "<text class=\"middle\" x=\"%.1f\" y=\"%.1f\">", x,
                      HEIGHT - BOTTOM + 18);
        eval_page_text(page, text_of(row->point));
        eval_page_put(page, "</text>\n");
    }
    eval_page_put(page, "<text class=\"middle title\" x=\"%.1f\" y=\"%.1f\">",
                  (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8);
    eval_page_text(page, text_of(result->axis_words));
    eval_page_put(page, "</text>\n");
}

static bool is_of(const struct eval_row *row, enum fusion_mode mode)
{
    return row->mode == mode && !isnan(row->at);
}

// The band between the ends of the intervals: there along the upper ends, back along the lower
// ones.
static void put_band(const struct frame *frame, enum fusion_mode mode, struct eval_page *page)
{
    const struct eval_result *result = frame->result;
    eval_page_put(page, "<polygon class=\"band m%d\" points=\"", (int)mode);
    for (size_t i = 0; i < result->count; i++)
        if (is_of(&result->rows[i], mode))
            eval_page_put(page, "%.1f,%.1f ", x_of(frame, result->rows[i].at),
                          y_of(frame, result->rows[i].metrics[0].interval.high));
    for (size_t i = result->count; i-- > 0;)
        if (is_of(&result->rows[i], mode))
            eval_page_put(page, "%.1f,%.1f ", x_of(frame, result->rows[i].at),
                          y_of(frame, result->rows[i].metrics[0].interval.low));
    eval_page_put(page, "\"/>\n");
}

static void put_line(const struct frame *frame, enum fusion_mode mode, struct eval_page *page)
{
    const struct eval_result *result = frame->result;
    eval_page_put(page, "<polyline class=\"line m%d\" points=\"", (int)mode);
    for (size_t i = 0; i < result->count; i++)
        if (is_of(&result->rows[i], mode))
            eval_page_put(page, "%.1f,%.1f ", x_of(frame, result->rows[i].at),
                          y_of(frame, result->rows[i].metrics[0].value));
    eval_page_put(page, "\"/>\n");
    for (size_t i = 0; i < result->count; i++) {
        const struct eval_row *row = &result->rows[i];
        if (!is_of(row, mode))
            continue;
        eval_page_put(page, "<circle class=\"dot m%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>%s, ",
                      (int)mode, x_of(frame, row->at), y_of(frame, row->metrics[0].value),
                      eval_mode_word(mode));
        eval_page_text(page, text_of(row->point));
        eval_page_put(page, ": %.1f (%.1f to %.1f)</title></circle>\n", 100 * row->metrics[0].value,
                      100 * row->metrics[0].interval.low, 100 * row->metrics[0].interval.high);
    }
}

static void put_plain(const struct frame *frame, struct eval_page *page)
{
    const double y = y_of(frame, frame->result->rows[0].metrics[0].value);
    eval_page_put(page,
                  "<line class=\"level m0\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
                  LEFT, WIDTH - RIGHT, y, y);
}

// Names at the right ends of the lines, kept apart from each other.
struct name {
    enum fusion_mode mode;
    double y;
};

static void put_names(const struct frame *frame, struct eval_page *page)
{
    const struct eval_result *result = frame->result;
    struct name names[EVAL_MODES];
    size_t count = 0;
    for (int mode = 0; mode < (int)EVAL_MODES; mode++) {
        double y = (double)NAN;
        for (size_t i = 0; i < result->count; i++)
            if (result->rows[i].mode == (enum fusion_mode)mode)
                y = y_of(frame, result->rows[i].metrics[0].value);
        if (isnan(y))
            continue;
        size_t place = count++;
        for (; place > 0 && names[place - 1].y > y; place--)
            names[place] = names[place - 1];
        names[place] = (struct name){(enum fusion_mode)mode, y};
    }
    // From the lowest upwards: none below the axis, none on the one beneath it.
    double limit = HEIGHT - BOTTOM;
    for (size_t i = count; i-- > 0;) {
        names[i].y = fmin(names[i].y, limit);
        limit = names[i].y - NAME_STEP;
    }
    for (size_t i = 0; i < count; i++)
        eval_page_put(page, "<text class=\"name m%d\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                      (int)names[i].mode, WIDTH - RIGHT + 10, names[i].y + 4,
                      eval_mode_word(names[i].mode));
}

static void put_lines(const struct eval_result *result, struct eval_page *page)
{
    const struct frame frame = frame_of(result);
    eval_page_put(page,
                  "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s in percent\">\n",
                  WIDTH, HEIGHT, result->rows[0].metrics[0].name);
    put_grid(&frame, page);
    put_plain(&frame, page);
    for (size_t i = 1; i < result->eval->mode_count; i++)
        put_band(&frame, result->eval->modes[i], page);
    for (size_t i = 1; i < result->eval->mode_count; i++)
        put_line(&frame, result->eval->modes[i], page);
    put_names(&frame, page);
    eval_page_put(page, "</svg>\n");
}

// --- bars

// Where bars begin: behind the longest of their names.
static double left_of(const struct eval_result *result)
{
    size_t longest = 0;
    for (size_t i = 0; i < result->count; i++) {
        const struct eval_row *row = &result->rows[i];
        const size_t letters = strlen(eval_mode_word(row->mode)) + strlen(row->point) + 2;
        longest = letters > longest ? letters : longest;
    }
    return 24 + LETTER * (double)longest;
}

static void put_bar(const struct eval_result *result, size_t place, struct eval_page *page)
{
    const struct eval_row *row = &result->rows[place];
    const struct eval_metric *metric = &row->metrics[0];
    const double left = left_of(result);
    const double unit = (WIDTH - left - RIGHT) / highest(result);
    const double y = TOP + (double)place * BAR_STEP;
    const double middle = y + BAR_HEIGHT / 2;
    const double low = left + metric->interval.low * unit;
    const double end = left + metric->interval.high * unit;
    eval_page_put(page, "<text class=\"end\" x=\"%.1f\" y=\"%.1f\">%s", left - 10, middle + 4,
                  eval_mode_word(row->mode));
    if (row->point[0] && row->mode != FUSION_NONE) {
        eval_page_put(page, ", ");
        eval_page_text(page, text_of(row->point));
    }
    eval_page_put(page,
                  "</text><rect class=\"bar m%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                  "height=\"%.1f\"/>",
                  (int)row->mode, left, y, metric->value * unit, BAR_HEIGHT);
    eval_page_put(page,
                  "<path class=\"whisker\" d=\"M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8\"/>"
                  "<text class=\"value\" x=\"%.1f\" y=\"%.1f\">%.1f</text>\n",
                  low, middle, end, low, middle - 4, end, middle - 4, end + 8, middle + 4,
                  100 * metric->value);
}

static void put_bars(const struct eval_result *result, struct eval_page *page)
{
    eval_page_put(
        page, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s in percent\">\n", WIDTH,
        2 * TOP + (double)result->count * BAR_STEP, result->rows[0].metrics[0].name);
    for (size_t i = 0; i < result->count; i++)
        put_bar(result, i, page);
    eval_page_put(page, "</svg>\n");
}

void eval_plot_append(const struct eval_result *result, struct eval_page *page)
{
    assert(result && page && result->count > 0);

    size_t points = 0;
    for (size_t i = 0; i < result->count; i++)
        points += isnan(result->rows[i].at) ? 0 : 1;
    if (points > result->eval->mode_count - 1)
        put_lines(result, page);
    else
        put_bars(result, page);
}
