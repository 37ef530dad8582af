// SPDX-License-Identifier: Apache-2.0
// service_list.c - Describe, List, ListNodes and ListModels: what there is. Alias answers as
// Describe.
//
// Records and bytes are asked from the nodes, one generation after the other. A node that does
// not answer is named beside the figures, which then lack its part.

#include <assert.h>
#include <stdio.h>

#include "coordinator/placement.h"
#include "coordinator/query.h"
#include "coordinator/roundup.h"
#include "coordinator/service.h"
#include "coordinator/walk.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#define NODE_LIMIT_US 5000000 // for a node to count, when the call has no earlier deadline

struct listing {
    struct service_call *call;
    struct arena *arena;
    struct roundup roundup;
    struct meta_generation *generations;
    struct api_memory_info *infos;
    size_t count;
    size_t next;
    bool wants_hash;
    struct walk walk; // of the hash
};

static void free_listing(struct listing *listing)
{
    roundup_cancel(&listing->roundup);
    walk_end(&listing->walk);
    arena_destroy(&listing->arena);
    mem_free(listing);
}

static void fail(struct listing *listing, enum status status, const struct reason *why)
{
    struct reason told = *why;
    service_fail(listing->call, status, &told);
    free_listing(listing);
}

// At the end, so that they are of one moment.
static void add_names(struct listing *listing)
{
    struct text found[META_ALIASES_MAX];
    for (size_t i = 0; i < listing->count; i++) {
        size_t count = meta_names(listing->call->backend->meta, listing->generations[i].number,
                                  found, META_ALIASES_MAX);
        struct text *names = arena_alloc_array(listing->arena, count, sizeof(*names));
        if (!names)
            return;
        for (size_t n = 0; n < count; n++)
            names[n] = found[n];
        listing->infos[i].aliases = names;
        listing->infos[i].alias_count = count;
    }
}

static void answer(struct listing *listing)
{
    struct buffer reply = {0};
    struct reason why = {0};
    struct api_memory_list list = {.memories = listing->infos, .count = listing->count};
    add_names(listing);
    enum status status = listing->call->method == API_MEMORY_LIST
                             ? api_encode_memory_list(&list, &reply)
                             : api_encode_memory_info(&listing->infos[0], &reply);
    if (status != STATUS_OK)
        (void)reason_set(&why, status, NULL, "the list does not fit a message");
    service_finish(listing->call, status, &reply, &why);
    buffer_deinit(&reply);
    free_listing(listing);
}

static void ask_next(struct listing *listing);

static void add_reason(struct listing *listing, struct api_memory_info *info, const char *what,
                       const char *reason)
{
    char text[REASON_TEXT_BYTES + 64];
    int bytes = snprintf(text, sizeof(text), "%s: %s", what, reason);
    struct text *all = arena_alloc_array(listing->arena, info->degraded_count + 1, sizeof(*all));
    char *copy = arena_copy_text(listing->arena, text, (size_t)bytes);
    if (!all || !copy)
        return;
    for (size_t i = 0; i < info->degraded_count; i++)
        all[i] = info->degraded[i];
    all[info->degraded_count++] = (struct text){copy, (size_t)bytes};
    info->degraded = all;
}

// Which nodes' parts are missing in the figures.
static void add_degraded(struct listing *listing, struct api_memory_info *info)
{
    const struct roundup *roundup = &listing->roundup;
    for (uint32_t node = 0; node < NODES_MAX; node++)
        if (roundup->asked & 1u << node && roundup->statuses[node] != STATUS_OK)
            add_reason(listing, info, "not counted", roundup->reasons[node].text);
}

// --- the content hash: every record is read, a digest for each step comes back

static void on_hashed(void *context)
{
    struct listing *listing = context;
    struct walk *walk = &listing->walk;
    struct api_memory_info *info = &listing->infos[listing->next];
    if (walk->status == STATUS_OK && !walk->is_done) {
        walk_next(walk);
        return;
    }
    char hex[PACKED_DIGEST_HEX_BYTES];
    packed_digest_hex(&walk->digest, hex);
    char *copy = arena_copy_text(listing->arena, hex, CONTENT_HASH_BYTES);
    if (walk->status != STATUS_OK)
        add_reason(listing, info, "no content hash", walk->why.text);
    else if (copy)
        info->content_hash = (struct text){copy, CONTENT_HASH_BYTES};
    listing->next++;
    ask_next(listing);
}

static void hash_records(struct listing *listing)
{
    listing->walk = (struct walk){
        .backend = listing->call->backend,
        .generation = listing->generations[listing->next],
        .want_digest = true,
        .trace = listing->call->trace,
        .step = on_hashed,
        .context = listing,
    };
    walk_begin(&listing->walk);
}

static void on_counted(void *context)
{
    struct listing *listing = context;
    struct api_memory_info *info = &listing->infos[listing->next];
    info->records = listing->roundup.records;
    info->bytes = listing->roundup.bytes;
    info->hidden = listing->roundup.hidden;
    info->indexes = listing->roundup.index;
    if (info->records - info->hidden >= INDEX_RECORDS_FROM)
        info->index = text_of("ivf");
    if (roundup_status(&listing->roundup, STATUS_OK, NULL) != STATUS_OK)
        add_degraded(listing, info);
    if (listing->wants_hash) {
        hash_records(listing);
        return;
    }
    listing->next++;
    ask_next(listing);
}

static void ask_next(struct listing *listing)
{
    while (listing->next < listing->count) {
        const struct meta_generation *generation = &listing->generations[listing->next];
        struct api_memory_info *info = &listing->infos[listing->next];
        *info = (struct api_memory_info){
            .name = text_of(generation->memory),
            .generation = generation->number,
            .state = text_of(meta_state_name(generation->state)),
            .space = text_of(generation->space),
            .dimension = generation->dimension,
            .vshards = generation->vshards,
            .index = text_of("exact"),
        };
        int64_t limit_us = clock_deadline_in_us(NODE_LIMIT_US);
        int64_t soft_us =
            query_soft_deadline_us(listing->call->begun_us, listing->call->deadline_us);
        listing->roundup.generation = *generation;
        if (roundup_begin(&listing->roundup, soft_us < limit_us ? soft_us : limit_us,
                          &listing->call->trace))
            return;
        // No node was there to be asked: the same, without waiting.
        if (roundup_status(&listing->roundup, STATUS_OK, NULL) != STATUS_OK)
            add_degraded(listing, info);
        listing->next++;
    }
    answer(listing);
}

static struct listing *create(struct service_call *call)
{
    struct listing *listing = mem_alloc(sizeof(*listing));
    listing->call = call;
    listing->arena = arena_create(SERVICE_ARENA_BYTES);
    listing->roundup.backend = call->backend;
    listing->roundup.type = SHARD_STATS;
    listing->roundup.done = on_counted;
    listing->roundup.context = listing;
    call->state = listing;
    return listing;
}

// Lists copies of `count` generations.
static void start(struct listing *listing, const struct meta_generation *generations, size_t count)
{
    struct reason why = {0};
    listing->count = count;
    listing->generations = arena_alloc_array(listing->arena, count, sizeof(*generations));
    listing->infos = arena_alloc_array(listing->arena, count, sizeof(listing->infos[0]));
    if (!listing->generations || !listing->infos) {
        fail(listing, reason_set(&why, STATUS_NO_MEMORY, NULL, "no memory for the list"), &why);
        return;
    }
    for (size_t i = 0; i < count; i++)
        listing->generations[i] = generations[i];
    ask_next(listing);
}

static void begin_describe(struct service_call *call)
{
    struct listing *listing = create(call);
    struct api_name_request request;
    struct meta_generation found;
    struct reason why = {0};
    enum status status = api_decode_name_request(call->message, listing->arena, &request, &why);
    if (status == STATUS_OK)
        status = meta_find(call->backend->meta, request.name, META_FOR_DESCRIBE, &found, &why);
    listing->wants_hash = status == STATUS_OK && request.content_hash;
    if (status != STATUS_OK)
        fail(listing, status, &why);
    else
        start(listing, &found, 1);
}

static void begin_alias(struct service_call *call)
{
    struct listing *listing = create(call);
    struct meta *meta = call->backend->meta;
    struct api_alias_request request;
    struct meta_generation found;
    struct reason why = {0};
    enum status status = api_decode_alias_request(call->message, listing->arena, &request, &why);
    if (status == STATUS_OK && request.remove && request.target.bytes > 0)
        status = reason_set(&why, STATUS_INVALID, "target", "'%.*s'; with remove there is none",
                            (int)request.target.bytes, request.target.data);
    if (status == STATUS_OK && request.remove)
        status = meta_unpoint(meta, request.alias, &found, &why);
    else if (status == STATUS_OK)
        status = meta_point(meta, request.alias, request.target, &found, &why);
    if (status != STATUS_OK)
        fail(listing, status, &why);
    else
        start(listing, &found, 1);
}

static void begin_list(struct service_call *call)
{
    const struct meta_generation *all = NULL;
    size_t count = meta_list(call->backend->meta, &all);
    start(create(call), all, count);
}

static void cancel(struct service_call *call)
{
    struct reason why = {0};
    fail(call->state, reason_set(&why, STATUS_CANCELLED, NULL, "cancelled"), &why);
}

// ---------------------------------------------------------------- nodes

// How many vshards of all generations a node holds.
static uint32_t count_vshards(const struct meta *meta, uint32_t node, uint32_t nodes)
{
    const struct meta_generation *all = NULL;
    size_t count = meta_list(meta, &all);
    uint32_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        struct placement placement = {all[i].vshards, nodes};
        sum += placement_own(&placement, node, NULL);
    }
    return sum;
}

static void begin_nodes(struct service_call *call)
{
    struct dealer_peer_info peers[NODES_MAX];
    struct api_node_info infos[NODES_MAX];
    const struct fanout *fanout = call->backend->fanout;
    uint32_t count = fanout_count(fanout);
    for (uint32_t node = 0; node < count; node++) {
        struct dealer_peer_info *peer = &peers[node];
        fanout_info(fanout, node, peer);
        infos[node] = (struct api_node_info){
            .index = node,
            .address = text_of(peer->query_endpoint),
            .state = text_of(peer->up ? "up" : "down"),
            .records = peer->load.records,
            .bytes = peer->load.bytes,
            .in_flight = peer->in_flight,
            .ping_ms = (float)peer->ping_us / 1000.0f,
            .read_only = peer->load.read_only,
            .vshards = count_vshards(call->backend->meta, node, count),
            .queue_depth = peer->load.queue_depth,
        };
    }
    struct api_node_list list = {
        .version = text_of("reco " RECO_VERSION),
        .space = text_of(call->backend->clip->space),
        .nodes = infos,
        .count = count,
    };
    struct buffer reply = {0};
    enum status status = api_encode_node_list(&list, &reply);
    service_answer(call, status, &reply);
}

// ---------------------------------------------------------------- models

// There is one: the one that the coordinator has opened.
static void begin_models(struct service_call *call)
{
    const struct clip_info *clip = call->backend->clip;
    const struct text template = text_of(clip->template_text);
    struct api_model_info info = {
        .name = text_of(clip->name),
        .space = text_of(clip->space),
        .dimension = clip->dimension,
        .image_size = clip->image_size,
        .context_length = clip->context,
        .device = text_of(compute_device(call->backend->compute)),
        .templates = &template,
        .template_count = 1,
        .fusion_beta = (float)clip->fusion_beta,
        .fusion_temperature = (float)clip->fusion_temperature,
        .head = text_of(call->backend->head_file),
        .head_has_gate = call->backend->gate != NULL,
    };
    struct api_model_list list = {.models = &info, .count = 1};
    struct buffer reply = {0};
    enum status status = api_encode_model_list(&list, &reply);
    service_answer(call, status, &reply);
}

static void cancel_begun(struct service_call *call)
{
    (void)call;
    assert(false && "it ends where it begins");
}

const struct service_handler service_describe = {.begin = begin_describe, .cancel = cancel};
const struct service_handler service_alias = {.begin = begin_alias, .cancel = cancel};
const struct service_handler service_list = {.begin = begin_list, .cancel = cancel};
const struct service_handler service_list_nodes = {.begin = begin_nodes, .cancel = cancel_begun};
const struct service_handler service_list_models = {.begin = begin_models, .cancel = cancel_begun};
