// SPDX-License-Identifier: Apache-2.0
// reco keys: the CURVE keys of a cluster, by which nodes and coordinators know each other.

#include <stdio.h>

#include "proto/base/json.h"
#include "proto/bus/bus.h"
#include "tools/answers.h"
#include "tools/output.h"
#include "tools/verbs.h"

static int run_keys(const struct options *options, bool create)
{
    const char *directory = options->items.items[0];
    struct bus_keys keys;
    struct reason why = {.text = ""};
    if (bus_keys_load(directory, create, &keys, &why) != STATUS_OK) {
        output_error(NULL, &why);
        return VERBS_FAILED;
    }
    if (!options->json) {
        (void)printf("node.public         %s\ncoordinator.public  %s\n", keys.node_public,
                     keys.coordinator_public);
        return VERBS_DONE;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "directory");
    json_put_cstr(&writer, directory);
    json_name(&writer, "node");
    json_put_cstr(&writer, keys.node_public);
    json_name(&writer, "coordinator");
    json_put_cstr(&writer, keys.coordinator_public);
    json_end_object(&writer);
    int exit_status = answers_end_line(&writer) ? VERBS_FAILED : VERBS_DONE;
    json_writer_deinit(&writer);
    return exit_status;
}

static int run_make(const struct options *options)
{
    return run_keys(options, true);
}

static int run_show(const struct options *options)
{
    return run_keys(options, false);
}

const struct verb verb_keys_make = {
    .args = {.name = "keys make",
             .items = "DIR",
             .summary = "makes the keys by which nodes and coordinators know each other",
             .details =
                 "Makes node.secret, node.public, coordinator.secret and coordinator.public, mode "
                 "0600, where they are missing; a key that is there is never overwritten. A node "
                 "needs node.secret and coordinator.public, a coordinator the other secret and "
                 "both public keys: copy no more than that.\n"
                 "\n"
                 "New keys for a coordinator, without a pause: put the cluster's node.public into "
                 "a new folder, run this verb on it, add the new coordinator.public to [node] "
                 "allow of every node and send it SIGHUP; start the coordinator with the new "
                 "folder; then put the new coordinator.public into the nodes' folders, take it "
                 "from allow and send SIGHUP again.\n"
                 "\n"
                 "JSON line: {\"directory\",\"node\",\"coordinator\"}",
             .items_min = 1,
             .items_max = 1,
             .groups = {options_common}},
    .chapter = "clusters",
    .run = run_make,
};

const struct verb verb_keys_show = {
    .args = {.name = "keys show",
             .items = "DIR",
             .summary = "the public keys of a folder",
             .details = "JSON line: {\"directory\",\"node\",\"coordinator\"}",
             .items_min = 1,
             .items_max = 1,
             .groups = {options_common}},
    .chapter = "clusters",
    .run = run_show,
};
