// SPDX-License-Identifier: Apache-2.0
// reco-shard: one shard node as a process.
//
// It prints "ready QUERY_ENDPOINT BULK_ENDPOINT" once it answers, drains on SIGTERM or SIGINT, and
// exits with 0; with 1 when it cannot start, with 2 for wrong usage.

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "proto/base/limits.h"
#include "proto/base/log.h"
#include "proto/base/machine.h"
#include "proto/bus/bus.h"
#include "shard_node/node.h"
#include "shard_node/scan_pool.h"

#define EXIT_FAILED 1
#define EXIT_USAGE 2

static const char usage[] =
    "usage: reco-shard --data DIR --keys DIR [flags]\n"
    "\n"
    "One shard node: keeps its part of every memory below --data and answers the\n"
    "coordinator that holds the other half of the keys.\n"
    "\n"
    "  --data DIR            where its records are; made when missing\n"
    "  --keys DIR            node.secret and coordinator.public of the cluster\n"
    "  --index I             number of this node in its cluster, 0 to 31 (default 0)\n"
    "  --query ENDPOINT      for searches (default tcp://127.0.0.1:7710; port 0 picks one)\n"
    "  --bulk ENDPOINT       for bulk loads (default tcp://127.0.0.1:7711)\n"
    "  --search-threads N    0 to 256; 0 (default): as many as the process may use\n"
    "  --disk-throttle-percent N  from here on 8 MiB of new records a second (default 85)\n"
    "  --disk-full-percent N      from here on deletions only (default 92)\n"
    "  --memory-limit-mib N  for rows, buffers and caches; 0 (default): 90 % of what there is\n"
    "  --log-level LEVEL     error, warn, info (default) or debug\n"
    "  --die-with-parent     ends, like by SIGTERM, when the process that started it is gone\n"
    "  --help, --version\n"
    "\n"
    "Prints 'ready QUERY_ENDPOINT BULK_ENDPOINT' when it answers. SIGTERM drains it.\n";

struct flags {
    const char *data;
    const char *keys;
    const char *query;
    const char *bulk;
    const char *log_level;
    uint32_t index;
    uint32_t search_threads;
    uint32_t disk_throttle_percent;
    uint32_t disk_full_percent;
    uint32_t memory_limit_mib;
    bool die_with_parent;
    bool help;
    bool version;
};

// Reads a number of 0..max; false otherwise.
static bool read_number(const char *text, uint32_t max, uint32_t *out)
{
    char *end = NULL;
    errno = 0;
    const unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value > max)
        return false;
    *out = (uint32_t)value;
    return true;
}

static enum status read_number_flag(const char *name, const char *value, uint32_t max,
                                    uint32_t *out, struct reason *why)
{
    if (read_number(value, max, out))
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, name, "'%s'; 0 to %" PRIu32 " are allowed", value, max);
}

// One flag with a value.
static enum status read_value(struct flags *flags, const char *name, const char *value,
                              struct reason *why)
{
    const struct {
        const char *name;
        const char **target;
    } texts[] = {{"--data", &flags->data},
                 {"--keys", &flags->keys},
                 {"--query", &flags->query},
                 {"--bulk", &flags->bulk},
                 {"--log-level", &flags->log_level}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (strcmp(name, texts[i].name) == 0) {
            *texts[i].target = value;
            return STATUS_OK;
        }
    }
    const struct {
        const char *name;
        uint32_t max;
        uint32_t *target;
    } numbers[] = {{"--index", NODES_MAX - 1, &flags->index},
                   {"--search-threads", SCAN_POOL_THREADS_MAX, &flags->search_threads},
                   {"--disk-throttle-percent", 100, &flags->disk_throttle_percent},
                   {"--disk-full-percent", 100, &flags->disk_full_percent},
                   {"--memory-limit-mib", UINT32_MAX, &flags->memory_limit_mib}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(name, numbers[i].name) == 0)
            return read_number_flag(name, value, numbers[i].max, numbers[i].target, why);
    }
    return reason_set(why, STATUS_INVALID, name, "unknown flag; see reco-shard --help");
}

static bool read_switch(struct flags *flags, const char *name)
{
    if (strcmp(name, "--die-with-parent") == 0)
        flags->die_with_parent = true;
    else if (strcmp(name, "--help") == 0)
        flags->help = true;
    else if (strcmp(name, "--version") == 0)
        flags->version = true;
    else
        return false;
    return true;
}

static bool takes_value(const char *name)
{
    static const char *const names[] = {"--data",
                                        "--keys",
                                        "--query",
                                        "--bulk",
                                        "--log-level",
                                        "--index",
                                        "--search-threads",
                                        "--disk-throttle-percent",
                                        "--disk-full-percent",
                                        "--memory-limit-mib"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

static enum status read_flags(int argc, char **argv, struct flags *flags, struct reason *why)
{
    for (int i = 1; i < argc; i++) {
        if (read_switch(flags, argv[i]))
            continue;
        if (!takes_value(argv[i]))
            return reason_set(why, STATUS_INVALID, argv[i], "unknown flag; see reco-shard --help");
        if (i + 1 == argc)
            return reason_set(why, STATUS_INVALID, argv[i], "needs a value");
        const enum status status = read_value(flags, argv[i], argv[i + 1], why);
        if (status != STATUS_OK)
            return status;
        i++;
    }
    if (flags->help || flags->version)
        return STATUS_OK;
    if (!flags->data || !flags->data[0])
        return reason_set(why, STATUS_INVALID, "--data", "is required: where the records are");
    if (!flags->keys || !flags->keys[0])
        return reason_set(why, STATUS_INVALID, "--keys",
                          "is required: the folder with node.secret and coordinator.public");
    enum log_level level = LOG_INFO;
    if (log_level_parse(flags->log_level, &level) != STATUS_OK)
        return reason_set(why, STATUS_INVALID, "--log-level",
                          "'%s'; error, warn, info and debug are allowed", flags->log_level);
    log_set_level(level);
    return STATUS_OK;
}

// The parent may be gone before the kernel was asked to tell.
static bool bind_to_parent(void)
{
    const pid_t parent = getppid();
    return prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == parent;
}

// Blocked in this thread before any other is started, so that they are only ever waited for here.
static void block_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

static enum status start(const struct flags *flags, struct bus **bus, struct node **node,
                         struct reason *why)
{
    struct bus_keys keys;
    enum status status = bus_keys_load(flags->keys, false, &keys, why);
    if (status == STATUS_OK)
        status = bus_open(&keys, bus, why);
    if (status == STATUS_OK)
        status = node_start(
            &(struct node_params){.bus = *bus,
                                  .directory = flags->data,
                                  .query_endpoint = flags->query,
                                  .bulk_endpoint = flags->bulk,
                                  .index = flags->index,
                                  .search_threads = flags->search_threads,
                                  .disk_throttle_percent = flags->disk_throttle_percent,
                                  .disk_full_percent = flags->disk_full_percent,
                                  .memory_bytes_max = (uint64_t)flags->memory_limit_mib << 20,
                                  .open_files_max = machine_store_files()},
            node, why);
    return status;
}

static int complain(int code, const struct reason *why)
{
    (void)fprintf(stderr, "reco-shard: %s%s%s\n", why->field, why->field[0] ? ": " : "", why->text);
    return code;
}

int main(int argc, char **argv)
{
    struct flags flags = {
        .query = "tcp://127.0.0.1:7710", .bulk = "tcp://127.0.0.1:7711", .log_level = "info"};
    struct reason why = {0};
    if (read_flags(argc, argv, &flags, &why) != STATUS_OK)
        return complain(EXIT_USAGE, &why);
    if (flags.help) {
        (void)fputs(usage, stdout);
        return 0;
    }
    if (flags.version) {
        (void)printf("reco-shard %s\n", RECO_VERSION);
        return 0;
    }

    machine_raise_files();
    sigset_t signals;
    block_signals(&signals);
    if (flags.die_with_parent && !bind_to_parent())
        return EXIT_FAILED;

    struct bus *bus = NULL;
    struct node *node = NULL;
    const enum status status = start(&flags, &bus, &node, &why);
    if (status != STATUS_OK) {
        bus_close(&bus);
        return complain(EXIT_FAILED, &why);
    }
    (void)printf("ready %s %s\n", node_query_endpoint(node), node_bulk_endpoint(node));
    (void)fflush(stdout);

    int received = 0;
    while (sigwait(&signals, &received) != 0)
        continue;
    log_info("draining", "node=%" PRIu32 " signal=%d", flags.index, received);
    node_stop(&node);
    bus_close(&bus);
    return 0;
}
