// SPDX-License-Identifier: Apache-2.0
// Goal: the nodes are asked for an index as the client asked, or as the memory's size decides, and
// the answer says what all of them did together.
//
// Method: two nodes that are scripts: they keep what they were asked and answer as they were told.

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/bus/router.h"
#include "tests/e2e/coordinator_house.h"

#define NODES 2
#define WAIT_US 20000000
#define ARENA_BYTES ((size_t)16 << 20)

struct script {
    struct router *router;
    uint32_t vshards;                 // that it holds
    struct shard_search_request seen; // numbers only
    struct shard_search_reply reply;  // without hits
};

struct scripts {
    struct house house; // without nodes of its own
    struct script nodes[NODES];
};

static void answer_search(struct script *script, const struct router_request *request,
                          struct buffer *out)
{
    static const uint32_t none = 0;
    struct arena *arena = arena_create(ARENA_BYTES);
    struct reason why = {0};
    const enum status status =
        shard_decode_search_request(request->body, request->rows, arena, &script->seen, &why);
    struct shard_search_reply reply = script->reply;
    reply.counts = &none;
    reply.row_count = 1;
    reply.vshards = script->vshards;
    if (status != STATUS_OK || shard_encode_search_reply(&reply, out) != STATUS_OK)
        abort(); // on a thread where Criterion may not be used
    arena_destroy(&arena);
}

static void handle(void *context, struct router_request *request)
{
    struct script *script = context;
    struct buffer body = {0};
    if (request->type == SHARD_CREATE) {
        struct arena *arena = arena_create(ARENA_BYTES);
        struct shard_create_request create;
        if (shard_decode_create_request(request->body, request->rows, arena, &create, NULL) !=
            STATUS_OK)
            abort();
        script->vshards = (uint32_t)create.own_count;
        arena_destroy(&arena);
    } else if (request->type == SHARD_SEARCH) {
        answer_search(script, request, &body);
    }
    router_reply(&request, &(struct router_answer){.body = &body});
}

static void load(void *context, struct shard_ping_reply *out)
{
    (void)context;
    *out = (struct shard_ping_reply){0};
}

// A cluster of scripts with the memory "m", and what questions aim at that do not say.
static void open_scripts(struct scripts *scripts, enum api_approx approx)
{
    static const char *const names[NODES][2] = {{"inproc://a-query", "inproc://a-bulk"},
                                                {"inproc://b-query", "inproc://b-bulk"}};
    struct house *house = &scripts->house;
    struct reason why = {0};
    struct coordinator_node nodes[NODES];
    log_set_level(LOG_ERROR);
    *scripts = (struct scripts){.house = {.node_count = 0}};
    (void)snprintf(house->root, sizeof(house->root), "/tmp/reco-scripts-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(house->root), NULL));
    house->arena = arena_create(ARENA_BYTES);
    cr_assert(eq(int, bus_open(NULL, &house->bus, &why), STATUS_OK), "%s", why.text);
    for (uint32_t i = 0; i < NODES; i++) {
        const struct router_params params = {.bus = house->bus,
                                             .query_endpoint = names[i][0],
                                             .bulk_endpoint = names[i][1],
                                             .node = i,
                                             .handle = handle,
                                             .load = load,
                                             .context = &scripts->nodes[i]};
        scripts->nodes[i].reply = (struct shard_search_reply){.exact = true, .records = 5000};
        cr_assert(eq(int, router_start(&params, &scripts->nodes[i].router, &why), STATUS_OK), "%s",
                  why.text);
        nodes[i] = (struct coordinator_node){names[i][0], names[i][1]};
    }
    const struct coordinator_params params = {
        .data_directory = house->root,
        .bus = house->bus,
        .nodes = nodes,
        .node_count = NODES,
        .clip = {.threads = 1},
        .approx = approx,
    };
    cr_assert(eq(int, coordinator_start(&params, &house->coordinator, &why), STATUS_OK), "%s",
              why.text);
    cr_assert(eq(int, coordinator_wait_nodes(house->coordinator, clock_deadline_in_us(WAIT_US)),
                 STATUS_OK));
    house_create(house, "m", false, false);
}

static void close_scripts(struct scripts *scripts)
{
    char command[96];
    coordinator_stop(&scripts->house.coordinator, WAIT_US);
    for (uint32_t i = 0; i < NODES; i++)
        router_stop(&scripts->nodes[i].router);
    bus_close(&scripts->house.bus);
    arena_destroy(&scripts->house.arena);
    (void)snprintf(command, sizeof(command), "rm -rf %s", scripts->house.root);
    cr_assert(eq(int, system(command), 0));
}

static struct api_answer search(struct scripts *scripts, const struct api_options *options)
{
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(7, embedding);
    struct api_answer answer = {.records = 0};
    struct reason why = {0};
    question.options = *options;
    question.options.memory = text_of("m");
    question.options.k = 3;
    cr_assert(
        eq(int, house_query(&scripts->house, API_SEARCH, &question, &answer, &why), STATUS_OK),
        "%s: %s", why.field, why.text);
    return answer;
}

// Asks with these options; what both nodes were asked.
static struct shard_search_request asked(struct scripts *scripts, const struct api_options *options)
{
    (void)search(scripts, options);
    const struct shard_search_request *first = &scripts->nodes[0].seen;
    const struct shard_search_request *second = &scripts->nodes[1].seen;
    cr_expect(eq(int, first->index_mode, second->index_mode));
    cr_expect(eq(u32, first->probes, second->probes));
    cr_expect(eq(flt, first->target_recall, second->target_recall));
    return *first;
}

Test(coordinator_index, a_client_says_how_far_to_look)
{
    struct scripts scripts;
    struct shard_search_request seen;
    open_scripts(&scripts, API_APPROX_DEFAULT);
    seen = asked(&scripts, &(struct api_options){.index = API_INDEX_IVF});
    cr_expect(eq(int, seen.index_mode, SHARD_INDEX_IVF));
    cr_expect(eq(u32, seen.probes, 0));
    cr_expect(eq(flt, seen.target_recall, 0.95f));
    seen = asked(&scripts, &(struct api_options){.approx = API_APPROX_FAST});
    cr_expect(eq(flt, seen.target_recall, 0.90f));
    seen = asked(&scripts, &(struct api_options){.approx = API_APPROX_NORMAL});
    cr_expect(eq(flt, seen.target_recall, 0.95f));
    seen = asked(&scripts, &(struct api_options){.approx = API_APPROX_ACCURATE});
    cr_expect(eq(flt, seen.target_recall, 0.99f));
    seen = asked(&scripts, &(struct api_options){.target_recall = 0.5f});
    cr_expect(eq(flt, seen.target_recall, 0.5f));
    seen = asked(&scripts, &(struct api_options){.nprobe = 7});
    cr_expect(eq(u32, seen.probes, 7));
    seen = asked(&scripts, &(struct api_options){.index = API_INDEX_EXACT});
    cr_expect(eq(int, seen.index_mode, SHARD_INDEX_EXACT));
    close_scripts(&scripts);

    open_scripts(&scripts, API_APPROX_ACCURATE); // of a client that does not say
    seen = asked(&scripts, &(struct api_options){.k = 1});
    cr_expect(eq(flt, seen.target_recall, 0.99f));
    seen = asked(&scripts, &(struct api_options){.approx = API_APPROX_FAST});
    cr_expect(eq(flt, seen.target_recall, 0.90f));
    close_scripts(&scripts);
}

Test(coordinator_index, the_size_of_the_memory_decides_unless_the_client_does)
{
    static const struct text tag = {"t", 1};
    const struct api_options automatic = {.index = API_INDEX_AUTO};
    const struct api_options filtered = {.filter = {.all_tags = &tag, .all_count = 1}};
    struct scripts scripts;
    open_scripts(&scripts, API_APPROX_DEFAULT);

    // Nobody has counted yet: the nodes decide. They have 10,000 together.
    cr_expect(eq(int, asked(&scripts, &automatic).index_mode, SHARD_INDEX_AUTO));
    cr_expect(eq(int, asked(&scripts, &automatic).index_mode, SHARD_INDEX_EXACT));
    const struct api_options ivf = {.index = API_INDEX_IVF};
    cr_expect(eq(int, asked(&scripts, &ivf).index_mode, SHARD_INDEX_IVF));

    // Of many records only some pass a filter: that says nothing of the memory. The search after
    // one of all knows that it has grown.
    scripts.nodes[0].reply.records = INDEX_RECORDS_FROM;
    cr_expect(eq(int, asked(&scripts, &filtered).index_mode, SHARD_INDEX_EXACT));
    cr_expect(eq(int, asked(&scripts, &automatic).index_mode, SHARD_INDEX_EXACT));
    cr_expect(eq(int, asked(&scripts, &automatic).index_mode, SHARD_INDEX_AUTO));
    scripts.nodes[0].reply.records = 10;
    cr_expect(eq(int, asked(&scripts, &filtered).index_mode, SHARD_INDEX_AUTO));
    cr_expect(eq(int, asked(&scripts, &automatic).index_mode, SHARD_INDEX_AUTO));
    cr_expect(eq(int, asked(&scripts, &automatic).index_mode, SHARD_INDEX_EXACT));
    close_scripts(&scripts);
}

Test(coordinator_index, an_answer_sums_up_what_the_nodes_did)
{
    const struct api_options options = {.index = API_INDEX_IVF};
    struct scripts scripts;
    open_scripts(&scripts, API_APPROX_DEFAULT);
    scripts.nodes[0].reply = (struct shard_search_reply){.records = 30000,
                                                         .exact = true,
                                                         .lists_probed = 1,
                                                         .codes_scanned = 2,
                                                         .rows_refined = 3,
                                                         .rows_read = 4};
    scripts.nodes[1].reply = (struct shard_search_reply){.records = 70000,
                                                         .exact = false,
                                                         .lists_probed = 10,
                                                         .codes_scanned = 20,
                                                         .rows_refined = 30,
                                                         .rows_read = UINT32_MAX};
    struct api_answer answer = search(&scripts, &options);
    cr_expect(text_equal(answer.index, text_of("ivf")));
    cr_expect(not(answer.work.exact));
    cr_expect(eq(u64, answer.records, 100000));
    cr_expect(eq(u64, answer.work.lists_probed, 11));
    cr_expect(eq(u64, answer.work.codes_scanned, 22));
    cr_expect(eq(u64, answer.work.rows_refined, 33));
    cr_expect(eq(u64, answer.work.rows_read, UINT64_C(4) + UINT32_MAX));

    scripts.nodes[1].reply.exact = true;
    answer = search(&scripts, &options);
    cr_expect(text_equal(answer.index, text_of("exact")));
    cr_expect(answer.work.exact);
    close_scripts(&scripts);
}
