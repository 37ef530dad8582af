// SPDX-License-Identifier: Apache-2.0
// The most that this machine multiplies and adds: every worker runs chains that do not wait
// for memory or for each other.

#include <assert.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "shaders/cpu/dense.h"
#include "shaders/cpu/dense_fma.h"

#define TRIES 10
#define ROUNDS ((size_t)200000) // of one try: some milliseconds

#define PLAIN_LANES 4u

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

// Where there is no fused multiply-add: a product and a sum, in the compiler's own vectors.
static float plain_chains(size_t rounds)
{
    typedef float lanes __attribute__((vector_size(PLAIN_LANES * sizeof(float))));
    lanes sum[DENSE_FMA_CHAINS] = {{0}};
    for (size_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < DENSE_FMA_CHAINS; i++)
            sum[i] = sum[i] * 0.999f + 0.999f;
    }
    float result = 0.0f;
    for (uint32_t i = 0; i < DENSE_FMA_CHAINS; i++)
        result += sum[i][0];
    return result;
}

struct peak_run {
    const struct dense_fma *fma;
    float result[TEAM_WORKERS_MAX]; // used, so that the work is not left out
};

static void peak_job(void *context, uint32_t job, uint32_t worker)
{
    struct peak_run *run = context;
    (void)worker;
    run->result[job] = run->fma ? run->fma->chains(ROUNDS) : plain_chains(ROUNDS);
}

double dense_peak(struct team *team, enum dense_precision precision)
{
    assert(team);

    struct peak_run run = {.fma = dense_fma_best()};
#if defined(__x86_64__)
    if (precision == DENSE_BF16)
        run.fma = &dense_fma_bf16;
#else
    assert(precision == DENSE_SINGLE);
#endif
    uint32_t lanes = run.fma ? run.fma->panel / 2 * run.fma->numbers : PLAIN_LANES;
    double flops = 2.0 * lanes * DENSE_FMA_CHAINS;
    double best = 0;
    for (int i = 0; i < TRIES; i++) {
        double begun = now();
        team_run(team, team_workers(team), peak_job, &run);
        double rate = flops * (double)ROUNDS * team_workers(team) / (now() - begun);
        best = rate > best ? rate : best;
    }
    return best;
}
