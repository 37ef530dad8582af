// SPDX-License-Identifier: Apache-2.0
#include "tools/eval_report.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "proto/base/system_error.h"
#include "tools/eval_plot.h"
#include "tools/output.h"

static const char *const style[] = {
    ":root{color-scheme:light dark;--ink:#1b1f24;--soft:#5b6470;--rule:#d9dee4;--paper:#fff;"
    "--panel:#f5f7f9;--good:#0b7a3b;--bad:#b3261e;--m0:#6b7280;--m1:#b45309;--m2:#1d5fbf;"
    "--m3:#8b2fb3}\n",
    "@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa4b0;--rule:#333a43;"
    "--paper:#14171b;--panel:#1c2127;--good:#57c785;--bad:#f2867c;--m0:#9aa4b0;--m1:#f0a24a;"
    "--m2:#76aefb;--m3:#cf8cf0}}\n",
    "*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);"
    "font:16px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,\"DejaVu Sans\",sans-serif}\n"
    "main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}\n"
    "h1{font-size:1.75rem;line-height:1.25;margin:0 0 .25rem}h2{font-size:1.3rem;margin:2.5rem 0 "
    ".5rem}h2[id]{border-top:1px solid var(--rule);margin-top:3rem;padding-top:1.5rem}"
    "h3{font-size:1.05rem;margin:1.75rem 0 .5rem}p{margin:.5rem 0;max-width:46rem}"
    ".soft{color:var(--soft)}\n",
    "a{color:inherit;text-underline-offset:.15em}nav ul{columns:15rem;margin:1.25rem 0;"
    "padding-left:1.1rem}footer{margin-top:3rem;font-size:.9rem}td .soft{font-size:.8rem}\n",
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;"
    "width:100%}td,th{padding:.4rem .75rem;text-align:right;white-space:nowrap;border-bottom:1px "
    "solid "
    "var(--rule)}th{white-space:normal;font-weight:600;color:var(--soft);font-size:.85rem;vertical-"
    "align:"
    "bottom}.left{text-align:left}\n",
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:1rem 0;"
    "font-size:.95rem}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}\n",
    "svg{display:block;width:100%;min-width:34rem;height:auto;background:var(--panel);border-"
    "radius:8px}"
    "svg text{fill:var(--ink);font-size:13px;font-variant-numeric:tabular-nums}svg .title{fill:"
    "var(--soft)}.end{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:var(--rule)}\n",
    ".line{fill:none;stroke-width:2.5;stroke-linejoin:round}.level{stroke-width:2;"
    "stroke-dasharray:6 5}.band{opacity:.16;stroke:none}svg .name{font-weight:600}.whisker{"
    "fill:none;stroke:var(--ink);stroke-width:1.5}\n",
    ".m0{stroke:var(--m0);fill:var(--m0)}.m1{stroke:var(--m1);fill:var(--m1)}.m2{stroke:var(--m2);"
    "fill:var(--m2)}.m3{stroke:var(--m3);fill:var(--m3)}svg .line{fill:none}svg text.m0,"
    "svg text.m1,svg text.m2,svg text.m3{stroke:none}.m0.name{fill:var(--m0)}.m1.name{fill:"
    "var(--m1)}.m2.name{fill:var(--m2)}.m3.name{fill:var(--m3)}.bar{stroke:none;opacity:.75}\n",
    ".example{display:grid;grid-template-columns:12rem 1fr;gap:1rem;padding:1rem 0;border-bottom:"
    "1px solid var(--rule)}.example:last-of-type{border:0}.example h3{font-size:1rem;margin:.4rem "
    "0 .1rem}.example p{margin:0;"
    "font-size:.9rem}.good{color:var(--good)}.bad{color:var(--bad)}\n",
    ".found{display:grid;grid-template-columns:repeat(auto-fill,minmax(7.5rem,1fr));gap:.75rem;"
    "margin:0;padding:0;list-style:none}.found li{font-size:.8rem;line-height:1.3;min-width:0}"
    ".found .caption{display:-webkit-box;-webkit-line-clamp:3;-webkit-box-orient:vertical;"
    "overflow:hidden;overflow-wrap:anywhere}\n",
    ".picture{display:flex;align-items:center;justify-content:center;width:88px;height:88px;"
    "background:#fff;border:1px solid var(--rule);border-radius:8px;color:#6b7280;font-size:.75rem"
    "}@media(max-width:40rem){.example{grid-template-columns:1fr}}\n",
};

static void put_text(struct eval_page *page, const char *text)
{
    eval_page_text(page, text_of(text));
}

// The sentence that most readers want, of the best row.
static const struct eval_row *best_row(const struct eval_result *result)
{
    const struct eval_row *best = NULL;
    for (size_t i = 1; i < result->count; i++)
        if (result->rows[i].mode != FUSION_NONE &&
            (!best || result->rows[i].metrics[0].value > best->metrics[0].value))
            best = &result->rows[i];
    return best;
}

// "BEFORE 12.3 % AFTER without a memory".
struct words {
    const char *before, *after, *again; // again: before the figure with a memory
};

static struct words words_of(const char *metric)
{
    if (strcmp(metric, "acc1") == 0)
        return (struct words){"The right label comes first for", " of the queries", "for "};
    if (strcmp(metric, "image_retrieval_recall@5") == 0)
        return (struct words){"The right picture is among the first five for", " of the queries",
                              "for "};
    return (struct words){"The score, made of the accuracies of seen and unseen entities, is", "",
                          ""};
}

// How far the best mode comes at the first and at the last point.
static void put_course(const struct eval_result *result, const struct eval_row *best,
                       struct eval_page *page)
{
    const enum fusion_mode mode = best->mode;
    const struct eval_row *first = best;
    const struct eval_row *last = best;
    for (size_t i = 0; i < result->count; i++) {
        const struct eval_row *row = &result->rows[i];
        if (row->mode != mode)
            continue;
        first = row < first ? row : first;
        last = row;
    }
    eval_page_put(page, "; with it (%s) for <strong>%.1f %%</strong> (%s: ", eval_mode_word(mode),
                  100 * first->metrics[0].value, result->axis_words);
    put_text(page, first->point);
    eval_page_put(page, ") to <strong>%.1f %%</strong> (", 100 * last->metrics[0].value);
    put_text(page, last->point);
    eval_page_put(page, ")");
}

static void put_gain(const struct eval_result *result, const struct eval_row *best,
                     struct eval_page *page)
{
    const struct eval_metric *metric = &best->metrics[0];
    eval_page_put(page, ", and %s<strong>%.1f %%</strong> with it (%s",
                  words_of(metric->name).again, 100 * metric->value, eval_mode_word(best->mode));
    if (result->axis) {
        eval_page_put(page, "; %s: ", result->axis_words);
        put_text(page, best->point);
    }
    eval_page_put(page, "): %+.1f points, with 95 %% confidence between %+.1f and %+.1f",
                  100 * metric->delta, 100 * metric->difference.low, 100 * metric->difference.high);
}

static void put_summary(const struct eval_result *result, struct eval_page *page)
{
    const struct eval_row *best = best_row(result);
    const struct eval_metric *plain = &result->rows[0].metrics[0];
    const struct words words = words_of(plain->name);
    eval_page_put(page, "<p>%s <strong>%.1f %%</strong>%s without a memory", words.before,
                  100 * plain->value, words.after);
    if (best && result->axis && !isnan(best->at))
        put_course(result, best, page);
    else if (best)
        put_gain(result, best, page);
    eval_page_put(page, ".</p>\n");
}

// What is the same for all sections.
static void put_facts(const struct eval_result *result, struct eval_page *page)
{
    const struct eval *eval = result->eval;
    eval_page_put(page, "<dt>model</dt><dd>");
    put_text(page, eval->model);
    eval_page_put(page, "</dd>\n<dt>space</dt><dd>");
    put_text(page, eval->space);
    eval_page_put(page, "</dd>\n");
}

static void put_queries(const struct eval_section *section, struct eval_page *page)
{
    const struct eval_memory *memory = &section->result->eval->memory;
    char figure[OUTPUT_FIGURE_BYTES];
    eval_page_put(page, "<p class=\"soft\">%zu queries", section->result->rows[0].count);
    if (section->classes)
        eval_page_put(page, ", %zu labels", section->classes->labels.label_count);
    if (memory->count) {
        eval_page_put(page, "; memory ");
        put_text(page, memory->name);
        eval_page_put(page, " of %s records", output_count(memory->count, figure));
    }
    eval_page_put(page, ".</p>\n");
}

// --- the table

static void put_cells(const struct eval_result *result, const struct eval_row *row,
                      struct eval_page *page)
{
    char figure[EVAL_FIGURE_BYTES];
    eval_page_put(page, "<tr>");
    if (result->axis) {
        eval_page_put(page, "<td class=\"left\">");
        eval_page_text(page, text_of(row->point));
        eval_page_put(page, "</td>");
    }
    eval_page_put(page, "<td class=\"left\">%s</td>", eval_mode_word(row->mode));
    for (size_t i = 0; i < row->metric_count; i++)
        eval_page_put(page, "<td>%s</td>", eval_figure_share(row->metrics[i].value, figure));
    const bool is_plain = row->mode == FUSION_NONE;
    eval_page_put(page, "<td>%s</td><td>%.2f</td></tr>\n",
                  is_plain ? "" : eval_figure_difference(&row->metrics[0], figure), row->seconds);
}

static void put_table(const struct eval_result *result, int level, struct eval_page *page)
{
    const struct eval_row *first = &result->rows[0];
    eval_page_put(page, "<h%d>All figures</h%d>\n", level, level);
    eval_page_put(page, "<div class=\"wide\">\n<table>\n<thead><tr>");
    if (result->axis) {
        eval_page_put(page, "<th class=\"left\">");
        eval_page_text(page, text_of(result->axis_words));
        eval_page_put(page, "</th>");
    }
    eval_page_put(page, "<th class=\"left\">mode</th>");
    for (size_t i = 0; i < first->metric_count; i++)
        eval_page_put(page, "<th>%s</th>", eval_figure_name(first->metrics[i].name));
    eval_page_put(page,
                  "<th>%s less plain CLIP (95 %%)</th><th>seconds</th></tr></thead>\n<tbody>\n",
                  eval_figure_name(first->metrics[0].name));
    for (size_t i = 0; i < result->count; i++)
        put_cells(result, &result->rows[i], page);
    eval_page_put(page, "</tbody>\n</table>\n</div>\n");
}

// --- examples

static void put_picture(const struct eval_thumbnail *thumbnail, struct text words,
                        struct eval_page *page)
{
    eval_page_put(page, "<div class=\"picture\">");
    if (thumbnail->png.count) {
        eval_page_put(page, "<img width=\"%u\" height=\"%u\" alt=\"", thumbnail->width,
                      thumbnail->height);
        eval_page_text(page, words);
        eval_page_put(page, "\" src=\"");
        eval_page_png(page, (struct bytes){thumbnail->png.data, thumbnail->png.count});
        eval_page_put(page, "\">");
    } else {
        eval_page_put(page, "no picture");
    }
    eval_page_put(page, "</div>");
}

static void put_answer(const struct eval_section *section, const char *who, uint32_t label,
                       uint32_t truth, struct eval_page *page)
{
    const bool right = label == truth;
    eval_page_put(page, "<p>%s: <span class=\"%s\">", who, right ? "good" : "bad");
    eval_page_text(page, section->classes->labels.labels[label]);
    eval_page_put(page, "%s</span></p>\n", right ? " \xe2\x9c\x93" : "");
}

static void put_example(const struct eval_section *section, const struct eval_example *example,
                        struct eval_page *page)
{
    const struct text truth = section->classes->labels.labels[example->truth];
    eval_page_put(page, "<section class=\"example\">\n<div>");
    put_picture(&example->thumbnail, truth, page);
    eval_page_put(page, "<h3>");
    eval_page_text(page, truth);
    eval_page_put(page, "</h3>\n");
    put_answer(section, "plain CLIP", example->plain, example->truth, page);
    put_answer(section, "with memory", example->refined, example->truth, page);
    eval_page_put(page, "</div>\n<ul class=\"found\">\n");
    for (size_t i = 0; i < example->neighbour_count; i++) {
        const struct eval_neighbour *neighbour = &example->neighbours[i];
        eval_page_put(page, "<li>");
        put_picture(&neighbour->picture, text_of(neighbour->caption), page);
        eval_page_put(page, "<span class=\"soft\">%.3f</span><span class=\"caption\">",
                      (double)neighbour->score);
        eval_page_text(page, text_of(neighbour->caption));
        eval_page_put(page, "</span></li>\n");
    }
    eval_page_put(page, "</ul>\n</section>\n");
}

static void put_examples(const struct eval_section *section, int level, struct eval_page *page)
{
    if (!section->examples || section->examples->count == 0)
        return;
    eval_page_put(page, "<h%d>Examples</h%d>\n", level, level);
    eval_page_put(page,
                  "<p class=\"soft\">Mode %s. Pictures that only the memory "
                  "names rightly, then those that it spoils, then those that neither knows; "
                  "of each kind some, evenly spread over the set. Beside each its nearest pictures "
                  "in the memory, with their similarity.</p>\n",
                  eval_mode_word(section->examples->mode));
    for (size_t i = 0; i < section->examples->count; i++)
        put_example(section, &section->examples->list[i], page);
}

// --- the overview

static const struct eval_row *row_of(const struct eval_result *result, enum fusion_mode mode)
{
    for (size_t i = 0; i < result->count; i++)
        if (result->rows[i].mode == mode)
            return &result->rows[i];
    return NULL;
}

// The first metric of each mode, and how much it is above plain CLIP's.
static void put_overview_row(const struct eval_section *section, size_t number,
                             struct eval_page *page)
{
    const struct eval_result *result = section->result;
    char figure[EVAL_FIGURE_BYTES];
    eval_page_put(page, "<tr><td class=\"left\"><a href=\"#s%zu\">", number);
    put_text(page, result->dataset);
    eval_page_put(page, "</a></td><td>%zu</td>", result->rows[0].count);
    for (size_t i = 0; i < result->eval->mode_count; i++) {
        const enum fusion_mode mode = result->eval->modes[i];
        const struct eval_row *row = row_of(result, mode);
        eval_page_put(page, "<td>%s", row ? eval_figure_share(row->metrics[0].value, figure) : "");
        if (row && mode != FUSION_NONE)
            eval_page_put(page, "<br><span class=\"soft\">%s</span>",
                          eval_figure_difference(&row->metrics[0], figure));
        eval_page_put(page, "</td>");
    }
    eval_page_put(page, "</tr>\n");
}

static void put_overview_head(const struct eval_section *section, struct eval_page *page)
{
    const struct eval *eval = section->result->eval;
    eval_page_put(page,
                  "<div class=\"wide\">\n<table>\n<thead><tr><th class=\"left\">%s, percent"
                  "</th><th>queries</th>",
                  eval_figure_name(section->result->rows[0].metrics[0].name));
    for (size_t i = 0; i < eval->mode_count; i++)
        eval_page_put(page, "<th>%s</th>", eval_mode_word(eval->modes[i]));
    eval_page_put(page, "</tr></thead>\n<tbody>\n");
}

static void put_way(const struct eval_section *section, size_t number, struct eval_page *page)
{
    eval_page_put(page, "<li><a href=\"#s%zu\">", number);
    put_text(page, section->result->dataset);
    eval_page_put(page, ": %s</a></li>\n", section->what);
}

// --- the page

static void put_section(const struct eval_section *section, int level, struct eval_page *page)
{
    const struct eval_result *result = section->result;
    put_summary(result, page);
    put_queries(section, page);
    eval_page_put(page, "<h%d>%s, percent</h%d>\n<div class=\"wide\">\n", level,
                  result->rows[0].metrics[0].name, level);
    eval_plot_append(result, page);
    eval_page_put(page, "</div>\n");
    put_table(result, level, page);
    put_examples(section, level, page);
}

void eval_report_add(struct eval_report *report, const struct eval_section *section)
{
    assert(report && section && section->result->count > 0);

    const struct eval_result *result = section->result;
    const size_t number = ++report->count;
    if (number == 1) {
        if (report->is_of_many)
            eval_page_put(&report->title, "Evaluations with ");
        put_text(&report->title, report->is_of_many ? result->eval->model : result->dataset);
        if (!report->is_of_many)
            eval_page_put(&report->title, ": %s", section->what);
        put_facts(result, &report->facts);
    }
    if (!report->is_of_many) {
        put_section(section, 2, &report->sections);
        return;
    }
    if (!result->axis && report->overview.out.count == 0)
        put_overview_head(section, &report->overview);
    if (!result->axis)
        put_overview_row(section, number, &report->overview);
    put_way(section, number, &report->ways);
    eval_page_put(&report->sections, "<h2 id=\"s%zu\">", number);
    put_text(&report->sections, result->dataset);
    eval_page_put(&report->sections, ": %s</h2>\n", section->what);
    put_section(section, 3, &report->sections);
}

static void put_page(const struct eval_report *report, struct eval_page *page)
{
    eval_page_put(page, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                        "<title>");
    eval_page_join(page, &report->title);
    eval_page_put(page, "</title>\n<style>\n");
    for (size_t i = 0; i < sizeof(style) / sizeof(style[0]); i++)
        eval_page_put(page, "%s", style[i]);
    eval_page_put(page, "</style>\n</head>\n<body>\n<main>\n<h1>");
    eval_page_join(page, &report->title);
    eval_page_put(page, "</h1>\n<dl>\n");
    eval_page_join(page, &report->facts);
    eval_page_put(page, "</dl>\n");
    if (report->overview.out.count) {
        eval_page_join(page, &report->overview);
        eval_page_put(page, "</tbody>\n</table>\n</div>\n");
    }
    if (report->ways.out.count) {
        eval_page_put(page, "<nav><ul>\n");
        eval_page_join(page, &report->ways);
        eval_page_put(page, "</ul></nav>\n");
    }
    eval_page_join(page, &report->sections);
    eval_page_put(
        page, "<footer class=\"soft\"><p>Figures are percent of the queries. In brackets: the "
              "interval of 95 %% of the difference to plain CLIP, a bootstrap over the queries, "
              "paired, 2,000 draws. Seconds: search, fusion and ranking of all queries, without "
              "encoding.</p></footer>\n</main>\n</body>\n</html>\n");
}

enum status eval_report_write(const char *path, const struct eval_report *report,
                              struct reason *why)
{
    assert(path && report && report->count > 0);

    struct eval_page page = {.failed = false};
    put_page(report, &page);
    enum status status = STATUS_OK;
    if (page.failed)
        status = reason_set(why, STATUS_NO_MEMORY, "--report", "no memory for the page");
    else
        status = bytes_replace_file(path, page.out.data, page.out.count);
    if (status && !page.failed)
        (void)reason_set(why, status, "--report", "'%s' cannot be written: %s", path,
                         SYSTEM_TROUBLE(status));
    buffer_deinit(&page.out);
    return status;
}

void eval_report_deinit(struct eval_report *report)
{
    buffer_deinit(&report->title.out);
    buffer_deinit(&report->facts.out);
    buffer_deinit(&report->overview.out);
    buffer_deinit(&report->ways.out);
    buffer_deinit(&report->sections.out);
    *report = (struct eval_report){.count = 0};
}
