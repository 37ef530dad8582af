// SPDX-License-Identifier: Apache-2.0
// The bandwidth is what a scan of the same threads could reach at best: the sum of
// 64-bit words costs next to nothing beside the reading.

#include "tools/measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/cpu.h"
#include "proto/base/embedding.h"
#include "proto/base/mem.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"

#define TIMES 3
#define SUM_LANES 32
#define THREADS_MAX 256

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

double measure_quantile(double *values, size_t count, double share)
{
    if (!count)
        return 0;
    qsort(values, count, sizeof(*values), compare);
    double rank = ceil(share * (double)count);
    size_t place = rank < 1 ? 0 : (size_t)rank - 1;
    return values[place < count ? place : count - 1];
}

// SplitMix64.
static uint64_t next_random(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void measure_random_row(uint64_t seed, float *row, size_t count)
{
    // Sums of four uniform numbers are near enough to a normal distribution, hence the
    // direction of the row to uniform.
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = next_random(&seed);
        int32_t sum = 0;
        for (int part = 0; part < 4; part++)
            sum += (int32_t)(bits >> (16 * part) & 0xffff) - 32768;
        row[i] = (float)sum;
    }
    row[0] += row[0] == 0 ? 1.0f : 0.0f; // never all zeros
    enum status status = embedding_normalise(row, count);
    (void)status;
}

// --- bandwidth

struct reader {
    const uint64_t *words;
    size_t count;
    struct queue *begin; // one token for each reader and time
    struct queue *end;
    uint64_t sum;
    struct thread *thread;
};

// Lanes that do not wait for each other, so that the loads alone set the pace.
static uint64_t sum_words(const uint64_t *words, size_t count)
{
    uint64_t lanes[SUM_LANES] = {0};
    for (size_t i = 0; i + SUM_LANES <= count; i += SUM_LANES)
        for (size_t lane = 0; lane < SUM_LANES; lane++)
            lanes[lane] += words[i + lane];

    uint64_t sum = 0;
    for (size_t lane = 0; lane < SUM_LANES; lane++)
        sum += lanes[lane];
    return sum;
}

static void read_words(struct thread *self, void *context)
{
    struct reader *reader = context;
    thread_ready(self, STATUS_OK);
    while (queue_pop(reader->begin, DEADLINE_NONE)) {
        reader->sum += sum_words(reader->words, reader->count);
        if (queue_push(reader->end, reader))
            break;
    }
}

// Lets all readers run once; seconds from the first token to the last answer.
static double run_once(struct reader *readers, size_t count)
{
    int64_t start = clock_now_us();
    for (size_t i = 0; i < count; i++)
        if (queue_push(readers[i].begin, &readers[i]))
            return HUGE_VAL;
    for (size_t i = 0; i < count; i++)
        if (!queue_pop(readers[i].end, DEADLINE_NONE))
            return HUGE_VAL;
    return (double)(clock_now_us() - start) / 1e6;
}

enum status measure_read_bandwidth(double *bytes_per_second, struct reason *why)
{
    size_t count = (size_t)cpu_count() < THREADS_MAX ? (size_t)cpu_count() : THREADS_MAX;
    size_t words = MEASURE_BUFFER_BYTES / sizeof(uint64_t);
    uint64_t *buffer = mem_try_alloc(MEASURE_BUFFER_BYTES);
    if (!buffer)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no %zu MiB for measuring the bandwidth",
                          MEASURE_BUFFER_BYTES >> 20);
    for (size_t i = 0; i < words; i++)
        buffer[i] = i; // pages that were never written would all be the same one

    struct reader *readers = mem_alloc_array(count, sizeof(*readers));
    struct queue *end = queue_create(count, false);
    enum status status = STATUS_OK;
    size_t started = 0;
    for (; started < count && !status; started++) {
        struct reader *reader = &readers[started];
        reader->words = buffer + words / count * started;
        reader->count = words / count;
        reader->begin = queue_create(1, false);
        reader->end = end;
        status = thread_start("reco-measure", read_words, reader, &reader->thread);
    }

    double best = HUGE_VAL;
    for (int i = 0; i < TIMES && !status; i++)
        best = fmin(best, run_once(readers, count));
    for (size_t i = 0; i < started; i++) {
        queue_close(readers[i].begin);
        thread_join(&readers[i].thread);
        queue_destroy(&readers[i].begin);
    }
    queue_destroy(&end);
    mem_free(readers);
    mem_free(buffer);
    if (status)
        return reason_set(why, status, NULL, "no thread for measuring the bandwidth");
    size_t summed = words / count * count;
    *bytes_per_second = (double)(summed * sizeof(uint64_t)) / best;
    return STATUS_OK;
}

uint64_t measure_peak_bytes(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    uint64_t kib = 0;
    while (file && kib == 0 && fgets(line, sizeof(line), file))
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtoull(line + 6, NULL, 10);
    if (file)
        (void)fclose(file);
    return kib * 1024;
}
