// SPDX-License-Identifier: Apache-2.0
// reco-shard: one shard node as a process.
//
// It prints "ready QUERY_ENDPOINT BULK_ENDPOINT" once it answers, reads its configuration again on
// SIGHUP, drains on SIGTERM or SIGINT, and exits with 0; with 1 when it cannot start, with 2 for
// wrong usage.

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/address.h"
#include "proto/base/log.h"
#include "proto/base/machine.h"
#include "proto/base/program.h"
#include "proto/base/settings.h"
#include "proto/bus/bus.h"
#include "proto/http/http.h"
#include "shard_node/node.h"
#include "shard_node/scan_pool.h"

_Static_assert(SETTINGS_SEARCH_THREADS_MAX == SCAN_POOL_THREADS_MAX, "one limit, known twice");

// What main() owns.
struct house {
    struct bus *bus;
    struct node *node;
    struct address http; // as it was asked for
};

// What no single key shows.
static enum status check_settings(const void *from, struct reason *why)
{
    const struct settings_shard *settings = from;
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
    if (settings->memory_limit_mib > 0 && settings->memory_limit_mib < SETTINGS_MEMORY_MIB_MIN)
        return reason_set(why, STATUS_INVALID, "--memory-limit-mib",
                          "%" PRIu64 "; allowed: 0, which is 90 %% of what there is, or at least "
                          "%d, which the node needs for itself",
                          settings->memory_limit_mib, SETTINGS_MEMORY_MIB_MIN);
    return STATUS_OK;
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

static bool wants_http(const struct settings_shard *settings)
{
    return settings->http && strcmp(settings->http, HTTP_LISTEN_OFF) != 0;
}

static enum status start(void *owned, const void *from, struct reason *why)
{
    struct house *house = owned;
    const struct settings_shard *settings = from;
    struct bus_keys keys;
    enum status status = bus_keys_load(settings->keys, false, &keys, why);
    if (status == STATUS_OK && wants_http(settings))
        status = address_parse(settings->http, "--http", &house->http, why);
    if (status == STATUS_OK)
        status = bus_open(&keys, &house->bus, why);
    if (status == STATUS_OK)
        status = allow(settings, &keys, house->bus, why);
    if (status == STATUS_OK)
        status = node_start(
            &(struct node_params){
                .bus = house->bus,
                .directory = settings->directory,
                .query_endpoint = settings->query,
                .bulk_endpoint = settings->bulk,
                .index = (uint32_t)settings->index,
                .search_threads = (uint32_t)settings->search_threads,
                .disk_throttle_percent = (uint32_t)settings->disk_throttle_percent,
                .disk_full_percent = (uint32_t)settings->disk_full_percent,
                .memory_bytes_max = settings->memory_limit_mib << 20,
                .open_files_max = machine_store_files(),
                .http = wants_http(settings) ? settings->http : NULL,
            },
            &house->node, why);
    return status;
}

static void announce(const void *owned)
{
    const struct house *house = owned;
    char http[ADDRESS_TEXT_BYTES];
    (void)printf("ready %s %s\n", node_query_endpoint(house->node),
                 node_bulk_endpoint(house->node));
    if (node_http_port(house->node) > 0)
        (void)printf("http %s\n", address_text(&house->http, node_http_port(house->node), http));
}

static enum status reload(void *owned, const void *from, struct reason *why)
{
    struct house *house = owned;
    const struct settings_shard *settings = from;
    struct bus_keys keys;
    enum status status = bus_keys_load(settings->keys, false, &keys, why);
    return status == STATUS_OK ? allow(settings, &keys, house->bus, why) : status;
}

static void stop(void *owned)
{
    struct house *house = owned;
    node_stop(&house->node);
    bus_close(&house->bus);
}

int main(int argc, char **argv)
{
    static struct house house;
    const struct program program = {
        .table = &settings_shard,
        .version = RECO_VERSION,
        .level_offset = offsetof(struct settings_shard, log_level),
        .house = &house,
        .check = check_settings,
        .start = start,
        .announce = announce,
        .reload = reload,
        .stop = stop,
    };
    return program_main(&program, argc, (const char *const *)argv);
}
