// SPDX-License-Identifier: Apache-2.0
// metrics_process.c - what the kernel tells about this process, read from /proc when somebody asks.
//
// What cannot be read is not told. The memory limit is the smallest of the machine's memory and
// the limits of the control group (version 2) and of those above it.

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proto/base/mem.h"
#include "proto/base/metrics.h"

#define TEXT_BYTES 4096
#define STAT_FIELDS 22 // behind the name: from the state to the resident pages
#define STAT_USER 11
#define STAT_SYSTEM 12
#define STAT_START 19
#define STAT_VIRTUAL 20
#define STAT_RESIDENT 21

enum gauge {
    CPU_SECONDS,
    START_TIME,
    RESIDENT,
    VIRTUAL,
    OPEN_FDS,
    MAX_FDS,
    MEMORY_RATIO,
    GAUGES,
};

static const struct metric_params gauges[GAUGES] = {
    [CPU_SECONDS] = {.name = "process_cpu_seconds_total",
                     .help = "Processor time in user and kernel mode.",
                     .kind = METRIC_TOTAL},
    [START_TIME] = {.name = "process_start_time_seconds",
                    .help = "When the process started, seconds since 1970.",
                    .kind = METRIC_GAUGE},
    [RESIDENT] = {.name = "process_resident_memory_bytes",
                  .help = "Memory that is resident.",
                  .kind = METRIC_GAUGE},
    [VIRTUAL] = {.name = "process_virtual_memory_bytes",
                 .help = "Addresses in use.",
                 .kind = METRIC_GAUGE},
    [OPEN_FDS] = {.name = "process_open_fds",
                  .help = "Open file descriptors.",
                  .kind = METRIC_GAUGE},
    [MAX_FDS] = {.name = "process_max_fds",
                 .help = "How many file descriptors may be open.",
                 .kind = METRIC_GAUGE},
    [MEMORY_RATIO] = {.name = "reco_memory_used_ratio",
                      .help = "Resident memory as a share of what the process may use: the "
                              "control group's limit or the machine's memory.",
                      .kind = METRIC_GAUGE},
};

struct process {
    struct metric *metrics[GAUGES];
};

// A small file of /proc or /sys as text; false when it cannot be read.
static bool read_text(const char *path, char text[TEXT_BYTES])
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    size_t count = fread(text, 1, TEXT_BYTES - 1, file);
    text[count] = '\0';
    (void)fclose(file);
    return count > 0;
}

// The numbers of /proc/self/stat behind the program's name, which may hold anything.
static bool read_stat(double fields[STAT_FIELDS])
{
    char text[TEXT_BYTES];
    if (!read_text("/proc/self/stat", text))
        return false;
    const char *at = strrchr(text, ')');
    if (!at || strlen(at) < 4)
        return false;
    at += 3; // the state, a letter, is field 0
    for (size_t i = 1; i < STAT_FIELDS; i++) {
        char *end = NULL;
        fields[i] = strtod(at, &end);
        if (end == at)
            return false;
        at = end;
    }
    return true;
}

static bool read_boot_seconds(double *out)
{
    char line[256];
    bool found = false;
    FILE *file = fopen("/proc/stat", "re");
    while (file && !found && fgets(line, sizeof(line), file)) {
        found = strncmp(line, "btime ", 6) == 0;
        if (found)
            *out = strtod(line + 6, NULL);
    }
    if (file)
        (void)fclose(file);
    return found;
}

static double count_fds(void)
{
    DIR *directory = opendir("/proc/self/fd");
    double count = 0;
    if (!directory)
        return 0;
    // NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own
    while (readdir(directory))
        count++;
    (void)closedir(directory);
    return count - 3; // ".", ".." and the folder itself
}

// Bytes that this process may use.
static double memory_limit(void)
{
    double limit = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    char text[TEXT_BYTES];
    if (!read_text("/proc/self/cgroup", text))
        return limit;
    char *group = strstr(text, "0::/");
    if (!group)
        return limit;
    group += 3;
    group[strcspn(group, "\n")] = '\0';
    for (;;) {
        char path[TEXT_BYTES + 64];
        char value[TEXT_BYTES];
        (void)snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max", group);
        if (read_text(path, value) && value[0] >= '0' && value[0] <= '9') {
            double bytes = strtod(value, NULL);
            limit = bytes > 0 && bytes < limit ? bytes : limit;
        }
        char *slash = strrchr(group, '/');
        if (!slash)
            return limit;
        *slash = '\0'; // and the group above; "" is the topmost
    }
}

static void collect(void *context)
{
    struct process *process = context;
    double fields[STAT_FIELDS] = {0};
    double boot = 0;
    double tick = (double)sysconf(_SC_CLK_TCK);
    struct rlimit files;
    if (read_stat(fields)) {
        double resident = fields[STAT_RESIDENT] * (double)sysconf(_SC_PAGESIZE);
        metric_set(process->metrics[CPU_SECONDS], 0,
                   (fields[STAT_USER] + fields[STAT_SYSTEM]) / tick);
        metric_set(process->metrics[VIRTUAL], 0, fields[STAT_VIRTUAL]);
        metric_set(process->metrics[RESIDENT], 0, resident);
        metric_set(process->metrics[MEMORY_RATIO], 0, resident / memory_limit());
        if (read_boot_seconds(&boot))
            metric_set(process->metrics[START_TIME], 0, boot + fields[STAT_START] / tick);
    }
    metric_set(process->metrics[OPEN_FDS], 0, count_fds());
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        metric_set(process->metrics[MAX_FDS], 0, (double)files.rlim_cur);
}

void metrics_add_process(struct metrics *metrics, const char *version)
{
    const struct metric_params build = {
        .name = "reco_build_info",
        .help = "Always 1; the label tells the version.",
        .kind = METRIC_GAUGE,
        .labels = {{"version", &version, 1}},
    };
    metric_set(metrics_add(metrics, &build), 0, 1);
    struct process *process = mem_alloc(sizeof(*process));
    for (size_t i = 0; i < GAUGES; i++)
        process->metrics[i] = metrics_add(metrics, &gauges[i]);
    metrics_add_collector(metrics, collect, process, mem_free);
}
