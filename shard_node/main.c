// SPDX-License-Identifier: Apache-2.0
// reco-shard: one shard node as a process.
//
// It prints "ready QUERY_ENDPOINT BULK_ENDPOINT" once it answers, reads its configuration again on
// SIGHUP, drains on SIGTERM or SIGINT, and exits with 0; with 1 when it cannot start, with 2 for
// wrong usage.

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "proto/base/config.h"
#include "proto/base/log.h"
#include "proto/base/machine.h"
#include "proto/base/settings.h"
#include "proto/bus/bus.h"
#include "proto/http/http.h"
#include "shard_node/node.h"
#include "shard_node/scan_pool.h"

#define EXIT_FAILED 1
#define EXIT_USAGE 2

_Static_assert(SETTINGS_SEARCH_THREADS_MAX == SCAN_POOL_THREADS_MAX, "one limit, known twice");

// How the program was started, for a reload.
struct command {
    int argc;
    const char *const *argv;
    const struct config *config; // as it was then
    bool die_with_parent;
};

// What no single key shows.
static enum status check_settings(const struct settings_shard *settings, struct reason *why)
{
    log_set_level((enum log_level)settings->log_level);
    if (!settings->directory)
        return reason_set(why, STATUS_INVALID, "--data", "is required: where the records are");
    if (!settings->keys)
        return reason_set(why, STATUS_INVALID, "--keys",
                          "is required: the folder with node.secret and coordinator.public");
    if (!settings->query || !settings->bulk)
        return reason_set(why, STATUS_INVALID, settings->query ? "--bulk" : "--query",
                          "empty; an endpoint is wanted");
    if (settings->disk_throttle_percent > settings->disk_full_percent)
        return reason_set(why, STATUS_INVALID, "--disk-throttle-percent",
                          "%" PRIu64 "; allowed: at most --disk-full-percent, which is %" PRIu64,
                          settings->disk_throttle_percent, settings->disk_full_percent);
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
    sigaddset(signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

// The coordinator of the folder and those of the list.
static enum status allow(const struct settings_shard *settings, const struct bus_keys *keys,
                         struct bus *bus, struct reason *why)
{
    const char *list[BUS_ALLOWED_MAX] = {keys->coordinator_public};
    if (settings->allow.count >= BUS_ALLOWED_MAX)
        return reason_set(why, STATUS_INVALID, "--allow", "%zu keys; at most %d are allowed",
                          settings->allow.count, BUS_ALLOWED_MAX - 1);
    for (size_t i = 0; i < settings->allow.count; i++)
        list[i + 1] = settings->allow.items[i];
    return bus_allow(bus, list, settings->allow.count + 1, why);
}

static enum status start(const struct settings_shard *settings, struct bus **bus,
                         struct node **node, struct reason *why)
{
    const bool is_on = settings->http && strcmp(settings->http, HTTP_LISTEN_OFF) != 0;
    struct bus_keys keys;
    enum status status = bus_keys_load(settings->keys, false, &keys, why);
    if (status == STATUS_OK)
        status = bus_open(&keys, bus, why);
    if (status == STATUS_OK)
        status = allow(settings, &keys, *bus, why);
    if (status == STATUS_OK)
        status = node_start(
            &(struct node_params){
                .bus = *bus,
                .directory = settings->directory,
                .query_endpoint = settings->query,
                .bulk_endpoint = settings->bulk,
                .index = (uint32_t)settings->index,
                .search_threads = (uint32_t)settings->search_threads,
                .disk_throttle_percent = (uint32_t)settings->disk_throttle_percent,
                .disk_full_percent = (uint32_t)settings->disk_full_percent,
                .memory_bytes_max = settings->memory_limit_mib << 20,
                .open_files_max = machine_store_files(),
                .http = is_on ? settings->http : NULL,
            },
            node, why);
    return status;
}

static int complain(int code, const struct reason *why)
{
    (void)fprintf(stderr, "reco-shard: %s%s%s\n", why->field, why->field[0] ? ": " : "", why->text);
    return code;
}

// Reads the configuration again and takes over what can be, all or nothing.
static void reload(const struct command *command, struct bus *bus)
{
    struct settings_shard settings = {0};
    struct config_words words;
    struct config *config = NULL;
    struct bus_keys keys;
    struct reason why = {0};
    char text[LOG_QUOTE_BYTES];
    enum status status =
        config_load(&settings_shard, command->argc, command->argv, &words, &config, &why);
    if (status == STATUS_OK) {
        config_store(config, &settings);
        status = settings.keys ? bus_keys_load(settings.keys, false, &keys, &why)
                               : reason_set(&why, STATUS_INVALID, "--keys", "is required");
    }
    if (status == STATUS_OK)
        status = allow(&settings, &keys, bus, &why);
    if (status == STATUS_OK) {
        log_set_level((enum log_level)settings.log_level);
        config_log_restarts(command->config, config);
        log_info("config_reloaded", "coordinators=%zu", settings.allow.count + 1);
    } else {
        log_error("config_refused", "field=\"%s\" reason=%s", why.field, log_quote(why.text, text));
    }
    config_destroy(&config);
}

// The whole life between the settings and the end; returns the exit status.
static int serve(const struct command *command, const struct settings_shard *settings)
{
    struct reason why = {0};
    machine_raise_files();
    sigset_t signals;
    block_signals(&signals);
    if (command->die_with_parent && !bind_to_parent())
        return EXIT_FAILED;

    struct bus *bus = NULL;
    struct node *node = NULL;
    const enum status status = start(settings, &bus, &node, &why);
    if (status != STATUS_OK) {
        bus_close(&bus);
        return complain(status == STATUS_INVALID ? EXIT_USAGE : EXIT_FAILED, &why);
    }
    (void)printf("ready %s %s\n", node_query_endpoint(node), node_bulk_endpoint(node));
    if (node_http_port(node) > 0)
        (void)printf("http %.*s:%d\n", (int)(strrchr(settings->http, ':') - settings->http),
                     settings->http, node_http_port(node));
    (void)fflush(stdout);

    int received = 0;
    while (received != SIGTERM && received != SIGINT)
        if (sigwait(&signals, &received) == 0 && received == SIGHUP)
            reload(command, bus);
    log_info("draining", "node=%" PRIu64 " signal=%d", settings->index, received);
    node_stop(&node);
    bus_close(&bus);
    return 0;
}

int main(int argc, char **argv)
{
    struct settings_shard settings = {0};
    struct config_words words;
    struct config *config = NULL;
    struct reason why = {0};
    if (config_load(&settings_shard, argc, (const char *const *)argv, &words, &config, &why) !=
        STATUS_OK)
        return complain(EXIT_USAGE, &why);
    int exit_status = 0;
    config_store(config, &settings);
    if (words.help)
        config_print_help(&settings_shard, stdout);
    else if (words.version)
        (void)printf("reco-shard %s\n", RECO_VERSION);
    else if (check_settings(&settings, &why) != STATUS_OK)
        exit_status = complain(EXIT_USAGE, &why);
    else if (words.print)
        config_print(config, NULL, stdout);
    else
        exit_status =
            serve(&(struct command){argc, (const char *const *)argv, config, words.die_with_parent},
                  &settings);
    config_destroy(&config);
    return exit_status;
}
