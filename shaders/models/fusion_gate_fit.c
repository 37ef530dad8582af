// SPDX-License-Identifier: Apache-2.0
// Logistic regression: evidence is scaled to mean 0 and deviation 1, the bias is the last unknown
// and bears no ridge. Newton's method with halved steps, until one gains nothing.

#include <assert.h>
#include <math.h>
#include <string.h>

#include "shaders/models/fusion_gate.h"

#define UNKNOWNS (FUSION_GATE_EVIDENCE + 1u)
#define STEPS_MAX 100
#define HALVINGS_MAX 30
#define GAIN_MIN 1e-12
#define DEVIATION_MIN 1e-9

struct fit {
    const struct fusion_gate_case *cases;
    size_t count;
    double weight; // of all cases
    double mean[FUSION_GATE_EVIDENCE];
    double deviation[FUSION_GATE_EVIDENCE];
};

static void scale(struct fit *fit)
{
    for (size_t c = 0; c < fit->count; c++) {
        fit->weight += fit->cases[c].weight;
        for (size_t i = 0; i < FUSION_GATE_EVIDENCE; i++)
            fit->mean[i] += fit->cases[c].weight * fit->cases[c].evidence[i];
    }
    for (size_t i = 0; i < FUSION_GATE_EVIDENCE; i++)
        fit->mean[i] /= fit->weight;
    for (size_t c = 0; c < fit->count; c++)
        for (size_t i = 0; i < FUSION_GATE_EVIDENCE; i++) {
            double off = fit->cases[c].evidence[i] - fit->mean[i];
            fit->deviation[i] += fit->cases[c].weight * off * off;
        }
    for (size_t i = 0; i < FUSION_GATE_EVIDENCE; i++)
        fit->deviation[i] = fmax(sqrt(fit->deviation[i] / fit->weight), DEVIATION_MIN);
}

static void row_of(const struct fit *fit, size_t c, double row[UNKNOWNS])
{
    for (size_t i = 0; i < FUSION_GATE_EVIDENCE; i++)
        row[i] = (fit->cases[c].evidence[i] - fit->mean[i]) / fit->deviation[i];
    row[FUSION_GATE_EVIDENCE] = 1;
}

static double logit_of(const double row[UNKNOWNS], const double x[UNKNOWNS])
{
    double sum = 0;
    for (size_t i = 0; i < UNKNOWNS; i++)
        sum += row[i] * x[i];
    return sum;
}

// Mean cross entropy and ridge.
static double loss_at(const struct fit *fit, const double x[UNKNOWNS])
{
    double loss = 0;
    for (size_t c = 0; c < fit->count; c++) {
        double row[UNKNOWNS];
        row_of(fit, c, row);
        double logit = logit_of(row, x) * (fit->cases[c].memory_is_right ? 1 : -1);
        // log(1 + exp(-logit)) without overflow.
        loss += fit->cases[c].weight * (log1p(exp(-fabs(logit))) + fmax(-logit, 0));
    }
    loss /= fit->weight;
    for (size_t i = 0; i < FUSION_GATE_EVIDENCE; i++)
        loss += FUSION_GATE_RIDGE * x[i] * x[i];
    return loss;
}

static void slopes_at(const struct fit *fit, const double x[UNKNOWNS], double gradient[UNKNOWNS],
                      double curvature[UNKNOWNS][UNKNOWNS])
{
    memset(gradient, 0, UNKNOWNS * sizeof(*gradient));
    memset(curvature, 0, UNKNOWNS * sizeof(*curvature));
    for (size_t c = 0; c < fit->count; c++) {
        double row[UNKNOWNS];
        row_of(fit, c, row);
        double p = 1 / (1 + exp(-logit_of(row, x)));
        double share = fit->cases[c].weight / fit->weight;
        for (size_t i = 0; i < UNKNOWNS; i++) {
            gradient[i] += share * (p - (fit->cases[c].memory_is_right ? 1 : 0)) * row[i];
            for (size_t j = 0; j < UNKNOWNS; j++)
                curvature[i][j] += share * p * (1 - p) * row[i] * row[j];
        }
    }
    for (size_t i = 0; i < FUSION_GATE_EVIDENCE; i++) {
        gradient[i] += 2 * FUSION_GATE_RIDGE * x[i];
        curvature[i][i] += 2 * FUSION_GATE_RIDGE;
    }
    curvature[FUSION_GATE_EVIDENCE][FUSION_GATE_EVIDENCE] += 1e-9;
}

// Solves a y = b by Cholesky's factors, in place; a is positive definite.
static void solve(double a[UNKNOWNS][UNKNOWNS], double b[UNKNOWNS])
{
    for (size_t j = 0; j < UNKNOWNS; j++) {
        for (size_t i = j; i < UNKNOWNS; i++) {
            double sum = a[i][j];
            for (size_t n = 0; n < j; n++)
                sum -= a[i][n] * a[j][n];
            a[i][j] = i == j ? sqrt(fmax(sum, 1e-300)) : sum / a[j][j];
        }
    }
    for (size_t i = 0; i < UNKNOWNS; i++) {
        for (size_t n = 0; n < i; n++)
            b[i] -= a[i][n] * b[n];
        b[i] /= a[i][i];
    }
    for (size_t i = UNKNOWNS; i-- > 0;) {
        for (size_t n = i + 1; n < UNKNOWNS; n++)
            b[i] -= a[n][i] * b[n];
        b[i] /= a[i][i];
    }
}

// One step; false when it gains nothing.
static bool improve(const struct fit *fit, double x[UNKNOWNS])
{
    double step[UNKNOWNS];
    double curvature[UNKNOWNS][UNKNOWNS];
    double before = loss_at(fit, x);
    slopes_at(fit, x, step, curvature);
    solve(curvature, step);
    double length = 1;
    for (int i = 0; i < HALVINGS_MAX; i++) {
        double next[UNKNOWNS];
        for (size_t n = 0; n < UNKNOWNS; n++)
            next[n] = x[n] - length * step[n];
        double gain = before - loss_at(fit, next);
        if (gain > 0) {
            memcpy(x, next, UNKNOWNS * sizeof(*x));
            return gain > GAIN_MIN;
        }
        length /= 2;
    }
    return false;
}

static enum status check(const struct fusion_gate_case *cases, size_t count, struct reason *why)
{
    size_t right = 0;
    for (size_t c = 0; c < count; c++) {
        assert(cases[c].weight > 0);
        right += cases[c].memory_is_right;
        for (size_t i = 0; i < FUSION_GATE_EVIDENCE; i++)
            if (!isfinite(cases[c].evidence[i]))
                return reason_set(why, STATUS_INVALID, "evidence", "of case %zu is not finite", c);
    }
    if (right == 0 || right == count)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "gate",
                          "of %zu answers that differ, the memory's was right in %zu: both kinds "
                          "are needed to learn from",
                          count, right);
    return STATUS_OK;
}

enum status fusion_gate_fit(const struct fusion_gate_case *cases, size_t count,
                            struct fusion_gate *out, struct reason *why)
{
    assert((cases || count == 0) && out);

    enum status status = check(cases, count, why);
    if (status != STATUS_OK)
        return status;
    struct fit fit = {.cases = cases, .count = count};
    double x[UNKNOWNS] = {0};
    scale(&fit);
    for (int i = 0; i < STEPS_MAX && improve(&fit, x); i++)
        ;
    out->bias = x[FUSION_GATE_EVIDENCE];
    for (size_t i = 0; i < FUSION_GATE_EVIDENCE; i++) {
        out->weights[i] = x[i] / fit.deviation[i];
        out->bias -= out->weights[i] * fit.mean[i];
    }
    return STATUS_OK;
}
