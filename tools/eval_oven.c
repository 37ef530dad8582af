// SPDX-License-Identifier: Apache-2.0
// A draw of the bootstrap draws as many queries of each part as there are, and all scores follow
// from what it finds: of a query only matters whether plain CLIP, the mode, both or none were
// right.

#include "tools/eval_oven.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shard_node/index/seed.h"
#include "tools/eval_score.h"

#define STEPS 10000.0 // an accuracy is rounded to: hundredths of a percent
#define NOTHING 1e-14 // what 0 counts in a harmonic mean

enum metric {
    METRIC_FINAL,
    METRIC_ENTITY,
    METRIC_QUERY,
    METRIC_PART, // and the other parts
    METRICS = METRIC_PART + EVAL_OVEN_PARTS,
};
static const char *const names[METRICS] = {
    "final", "entity", "query", "entity_seen", "entity_unseen", "query_seen", "query_unseen",
};
_Static_assert((int)METRICS <= EVAL_METRICS_MAX, "no room for the metrics of OVEN");

enum status eval_oven_read_part(const char *field, struct text value, uint8_t *out,
                                struct reason *why)
{
    assert(field && out);

    static const struct {
        const char *end;
        bool is_seen;
    } ends[] = {{"unseen", false}, {"seen", true}, {"0", false}, {"1", true}};
    bool is_query = false;
    for (size_t i = 0; i + 5 <= value.bytes && !is_query; i++)
        is_query = memcmp(value.data + i, "query", 5) == 0;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        const size_t bytes = strlen(ends[i].end);
        if (value.bytes < bytes ||
            memcmp(value.data + value.bytes - bytes, ends[i].end, bytes) != 0)
            continue;
        const enum eval_oven_part seen = is_query ? EVAL_OVEN_QUERY_SEEN : EVAL_OVEN_ENTITY_SEEN;
        *out = (uint8_t)(seen + !ends[i].is_seen);
        return STATUS_OK;
    }
    return reason_set(why, STATUS_INVALID, field,
                      "'%.*s' is not allowed: what ends with seen or unseen is, or 1 or 0",
                      (int)(value.bytes < 100 ? value.bytes : 100), value.data ? value.data : "");
}

// --- scores

static double harmonic(double a, double b)
{
    return 2 / (1 / fmax(a, NOTHING) + 1 / fmax(b, NOTHING));
}

// From accuracies of the parts, NaN where there is none, to all metrics.
static void combine(const double parts[EVAL_OVEN_PARTS], double out[METRICS])
{
    double rounded[EVAL_OVEN_PARTS];
    for (size_t i = 0; i < EVAL_OVEN_PARTS; i++) {
        rounded[i] = round(parts[i] * STEPS) / STEPS;
        out[METRIC_PART + i] = parts[i];
    }
    // fmax() would take a number in place of NaN.
    static const size_t seen[] = {EVAL_OVEN_ENTITY_SEEN, EVAL_OVEN_QUERY_SEEN};
    for (size_t i = 0; i < 2; i++) {
        const double a = rounded[seen[i]];
        const double b = rounded[seen[i] + 1];
        out[METRIC_ENTITY + i] = isnan(a) || isnan(b) ? (double)NAN : harmonic(a, b);
    }
    const double entity = out[METRIC_ENTITY];
    const double query = out[METRIC_QUERY];
    out[METRIC_FINAL] = isnan(entity) || isnan(query) ? (double)NAN : harmonic(entity, query);
}

// Queries of a part by who was right.
struct tally {
    size_t both, mode, plain; // mode: it alone
    size_t count;
};

static double share(size_t right, size_t count)
{
    return count ? (double)right / (double)count : (double)NAN;
}

static void draw_part(const struct tally *tally, uint64_t *seed, double *mode, double *plain)
{
    size_t by_mode = 0;
    size_t by_plain = 0;
    for (size_t i = 0; i < tally->count; i++) {
        const uint64_t drawn = seed_below(seed, tally->count);
        by_mode += drawn < tally->both + tally->mode;
        by_plain += drawn < tally->both;
        by_plain +=
            drawn >= tally->both + tally->mode && drawn < tally->both + tally->mode + tally->plain;
    }
    *mode = share(by_mode, tally->count);
    *plain = share(by_plain, tally->count);
}

struct drawn {
    double values[METRICS][EVAL_SCORE_DRAWS], differences[METRICS][EVAL_SCORE_DRAWS];
};

static void draw_all(const struct tally tallies[EVAL_OVEN_PARTS], struct drawn *drawn)
{
    uint64_t seed = EVAL_SCORE_SEED;
    for (size_t draw = 0; draw < EVAL_SCORE_DRAWS; draw++) {
        double mode[EVAL_OVEN_PARTS];
        double plain[EVAL_OVEN_PARTS];
        double of_mode[METRICS];
        double of_plain[METRICS];
        for (size_t i = 0; i < EVAL_OVEN_PARTS; i++)
            draw_part(&tallies[i], &seed, &mode[i], &plain[i]);
        combine(mode, of_mode);
        combine(plain, of_plain);
        for (size_t i = 0; i < METRICS; i++) {
            drawn->values[i][draw] = of_mode[i];
            drawn->differences[i][draw] = of_mode[i] - of_plain[i];
        }
    }
}

void eval_oven_score(const struct eval_oven_answers *answers, struct eval_row *row)
{
    assert(answers && answers->count && row);

    struct tally tallies[EVAL_OVEN_PARTS] = {{.count = 0}};
    for (size_t i = 0; i < answers->count; i++) {
        assert(answers->parts[i] < EVAL_OVEN_PARTS);
        struct tally *tally = &tallies[answers->parts[i]];
        const bool mode = answers->places[i] == 0;
        const bool plain = answers->plain[i] == 0;
        tally->count++;
        tally->both += mode && plain;
        tally->mode += mode && !plain;
        tally->plain += !mode && plain;
    }
    double mode[EVAL_OVEN_PARTS];
    double plain[EVAL_OVEN_PARTS];
    double of_mode[METRICS];
    double of_plain[METRICS];
    for (size_t i = 0; i < EVAL_OVEN_PARTS; i++) {
        mode[i] = share(tallies[i].both + tallies[i].mode, tallies[i].count);
        plain[i] = share(tallies[i].both + tallies[i].plain, tallies[i].count);
    }
    combine(mode, of_mode);
    combine(plain, of_plain);
    struct drawn *drawn = mem_alloc(sizeof(*drawn));
    draw_all(tallies, drawn);
    row->metric_count = 0;
    for (size_t i = 0; i < METRICS; i++) {
        if (isnan(of_mode[i])) // without queries
            continue;
        struct eval_metric *metric = &row->metrics[row->metric_count++];
        *metric = (struct eval_metric){
            .name = names[i],
            .value = of_mode[i],
            .is_share = true,
            .interval = eval_score_middle(drawn->values[i]),
            .delta = of_mode[i] - of_plain[i],
            .difference = eval_score_middle(drawn->differences[i]),
        };
    }
    mem_free(drawn);
}
