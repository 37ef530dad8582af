// SPDX-License-Identifier: Apache-2.0
// label_build.c - builds under way, found by the digest of what they make.
//
//   plain    texts of some labels -> compute job -> means -> ... -> done
//   refined  rows of some labels -> query -> refined rows -> ... -> done
//
// Prototypes refined while a node is down are kept as well, under a digest that names the nodes
// which were up; those that lack a node for another reason (too slow once) are handed out,
// with that reason, and not kept.

#include "coordinator/label_build.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/placement.h"
#include "coordinator/query.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define JOB_US 20000     // aim for a batch of prompts
#define PROMPTS_FIRST 64 // prompts in the first batch
#define PROMPTS_MAX 1024 // and in any
#define DEGRADED_BYTES_MAX 1024

struct label_builds {
    struct backend *backend;
    struct label_build *first;
    uint32_t count;
};

struct label_build {
    struct label_builds *builds;
    struct label_build *next;
    struct label_wait *waits;
    uint8_t digest[HASH_SHA256_BYTES];
    struct label_prototypes *target; // what is made
    size_t done;                     // labels of it that are there
    size_t batch;                    // labels under way
    struct timer timer;              // begins it

    // Plain.
    struct compute_job job;
    bool job_is_out;
    bool is_orphan; // ended while the job was out
    size_t prompts; // aim for the next batch
    void *scratch;  // texts, their bytes and embeddings of a batch

    // Refined.
    struct label_prototypes *plain;
    struct question question;
    enum modality over;
    uint32_t nodes; // that were up
    struct query *query;
    char degraded[DEGRADED_BYTES_MAX];
};

// ---------------------------------------------------------------- life of a build

static struct label_build *find(const struct label_builds *builds, const uint8_t *digest)
{
    for (struct label_build *build = builds->first; build; build = build->next)
        if (memcmp(build->digest, digest, HASH_SHA256_BYTES) == 0)
            return build;
    return NULL;
}

static void add_wait(struct label_build *build, struct label_wait *wait)
{
    wait->build = build;
    wait->next = build->waits;
    build->waits = wait;
}

static void unlink_build(struct label_build *build)
{
    struct label_build **at = &build->builds->first;
    while (*at != build)
        at = &(*at)->next;
    *at = build->next;
    build->builds->count--;
}

static void free_build(struct label_build *build)
{
    mem_free(build->scratch);
    label_prototypes_release(&build->target);
    label_prototypes_release(&build->plain);
    question_deinit(&build->question);
    mem_free(build);
}

// Takes it off the list, frees it as soon as its job is back.
static void end(struct label_build *build)
{
    assert(!build->waits);

    timers_disarm(&build->builds->backend->timers, &build->timer);
    query_destroy(&build->query);
    unlink_build(build);
    if (build->job_is_out) {
        compute_cancel(&build->job);
        build->is_orphan = true;
    } else {
        free_build(build);
    }
}

// Tells everyone who waits, then ends it.
static void finish(struct label_build *build, enum status status, const struct reason *why)
{
    while (build->waits) {
        struct label_wait *wait = build->waits;
        build->waits = wait->next;
        wait->build = NULL;
        wait->done(wait->context, status, why,
                   status == STATUS_OK ? label_prototypes_hold(build->target) : NULL);
    }
    end(build);
}

static enum status begin(struct label_builds *builds, const uint8_t *digest, struct label_set *set,
                         struct label_build **out, struct reason *why)
{
    if (builds->count >= LABEL_BUILDS_MAX)
        return reason_set(why, STATUS_EXHAUSTED, "labels",
                          "%d label sets are being made already; try again later",
                          LABEL_BUILDS_MAX);
    struct label_build *build = mem_alloc(sizeof(*build));
    build->builds = builds;
    memcpy(build->digest, digest, sizeof(build->digest));
    enum status status =
        label_prototypes_create(set, builds->backend->clip->dimension, &build->target);
    if (status != STATUS_OK) {
        free_build(build);
        return reason_set(why, status, "labels", "no memory for %zu prototypes", set->count);
    }
    memcpy(build->target->digest, digest, sizeof(build->digest));
    build->next = builds->first;
    builds->first = build;
    builds->count++;
    *out = build;
    return STATUS_OK;
}

// ---------------------------------------------------------------- plain

static void encode_batch(void *context);

static void finish_plain(struct label_build *build)
{
    struct reason why = {0};
    if (labels_keep(build->builds->backend->labels, build->target))
        finish(build, STATUS_OK, NULL);
    else
        finish(build,
               reason_set(&why, STATUS_EXHAUSTED, "labels",
                          "the prototypes of %zu labels are larger than the cache of %zu MiB",
                          build->target->set->count, LABELS_CACHE_BYTES >> 20),
               &why);
}

static void take_batch(struct label_build *build)
{
    struct label_prototypes *target = build->target;
    struct reason why = build->job.why;
    enum status status = build->job.status;
    size_t templates = target->set->template_count;
    for (size_t i = 0; i < build->batch && status == STATUS_OK; i++) {
        size_t label = build->done + i;
        status = label_prototypes_mean(
            build->job.texts.embeddings + i * templates * target->dimension, templates,
            target->dimension, target->values + label * target->dimension);
        if (status != STATUS_OK)
            (void)reason_set(&why, status, "labels",
                             "the prompts of label %zu cancel out to length 0", label);
    }
    mem_free(build->scratch);
    build->scratch = NULL;
    if (status != STATUS_OK) {
        finish(build, status, &why);
        return;
    }

    // The next batch takes about JOB_US.
    int64_t run_us = build->job.run_us > 0 ? build->job.run_us : 1;
    size_t aim = (size_t)((int64_t)(build->batch * templates) * JOB_US / run_us);
    build->prompts = aim < 1 ? 1 : aim > PROMPTS_MAX ? PROMPTS_MAX : aim;
    build->done += build->batch;
    if (build->done == target->set->count)
        finish_plain(build);
    else
        encode_batch(build);
}

static void on_job(void *context, struct compute_job *job)
{
    (void)job;
    struct label_build *build = context;
    build->job_is_out = false;
    if (build->is_orphan)
        free_build(build);
    else
        take_batch(build);
}

// Lays out texts, prompts and embeddings of the next batch in one block.
static bool lay_out(struct label_build *build)
{
    const struct label_set *set = build->target->set;
    size_t templates = set->template_count;
    size_t prompts = build->batch * templates;
    size_t embeddings = prompts * build->target->dimension * sizeof(float);
    size_t bytes = 0;
    for (size_t i = 0; i < prompts; i++)
        bytes += label_set_prompt_bytes(set, build->done + i / templates, i % templates);
    char *block = mem_try_alloc(embeddings + prompts * sizeof(struct text) + bytes);
    if (!block)
        return false;

    struct text *texts = (struct text *)(void *)(block + embeddings);
    char *at = (char *)(texts + prompts);
    for (size_t i = 0; i < prompts; i++) {
        size_t label = build->done + i / templates;
        texts[i] = (struct text){at, label_set_prompt_bytes(set, label, i % templates)};
        label_set_prompt(set, label, i % templates, at);
        at += texts[i].bytes;
    }
    build->scratch = block;
    build->job.texts = (struct compute_texts){
        .texts = texts, .count = prompts, .embeddings = (float *)(void *)block};
    return true;
}

static void encode_batch(void *context)
{
    struct label_build *build = context;
    const struct label_set *set = build->target->set;
    struct reason why = {0};
    size_t left = set->count - build->done;
    build->batch = build->prompts / set->template_count;
    if (build->batch < 1)
        build->batch = 1;
    if (build->batch > left)
        build->batch = left;
    if (!lay_out(build)) {
        finish(build, reason_set(&why, STATUS_NO_MEMORY, "labels", "no memory for the prompts"),
               &why);
        return;
    }
    build->job.kind = COMPUTE_TEXTS;
    build->job.class = COMPUTE_QUERY;
    build->job.done = on_job;
    build->job.context = build;
    enum status status = compute_submit(build->builds->backend->compute, &build->job, &why);
    build->job_is_out = status == STATUS_OK;
    if (status != STATUS_OK)
        finish(build, status, &why);
}

enum status label_build_plain(struct label_builds *builds, struct label_set *set,
                              struct label_wait *wait, struct label_prototypes **out,
                              struct reason *why)
{
    assert(builds && set && wait && wait->done && !wait->build && out);

    *out = labels_find(builds->backend->labels, set->digest);
    if (*out)
        return STATUS_OK;
    struct label_build *build = find(builds, set->digest);
    if (!build) {
        enum status status = begin(builds, set->digest, set, &build, why);
        if (status != STATUS_OK)
            return status;
        assert(build);
        build->prompts = PROMPTS_FIRST;
        build->timer.fire = encode_batch;
        build->timer.context = build;
        timers_arm(&builds->backend->timers, &build->timer, clock_now_us());
    }
    add_wait(build, wait);
    return STATUS_OK;
}

// ---------------------------------------------------------------- refined

static void search_batch(void *context);

// Adds the reasons that are not there yet.
static void collect_degraded(struct label_build *build, const struct query_result *result)
{
    for (size_t i = 0; i < result->degraded_count; i++) {
        char line[DEGRADED_BYTES_MAX];
        (void)snprintf(line, sizeof(line), "labels: %.*s\n", (int)result->degraded[i].bytes,
                       result->degraded[i].data);
        size_t used = strlen(build->degraded);
        if (!strstr(build->degraded, line) && used + strlen(line) < sizeof(build->degraded))
            memcpy(build->degraded + used, line, strlen(line) + 1);
    }
}

// What the nodes that were up when it began can cover.
static float coverage_of(const struct label_build *build)
{
    struct placement placement = {build->question.memory.vshards,
                                  fanout_count(build->builds->backend->fanout)};
    uint32_t vshards = 0;
    for (uint32_t node = 0; node < placement.nodes; node++)
        if (build->nodes & 1u << node)
            vshards += placement_own(&placement, node, NULL);
    return (float)vshards / (float)placement.vshards;
}

static void finish_refined(struct label_build *build)
{
    struct label_prototypes *target = build->target;
    float expected = coverage_of(build);
    if (build->degraded[0] != '\0')
        target->degraded = mem_copy_text(build->degraded);
    bool is_whole = target->coverage >= expected && target->coverage <= expected;
    if (is_whole && (expected < 1 || !target->degraded))
        (void)labels_keep(build->builds->backend->labels, target);
    finish(build, STATUS_OK, NULL);
}

static void on_query_done(void *context)
{
    struct label_build *build = context;
    struct label_prototypes *target = build->target;
    const struct query_result *result = query_result(build->query);
    if (result->status != STATUS_OK) {
        struct reason why = result->why;
        finish(build, result->status, &why);
        return;
    }
    memcpy(target->values + build->done * target->dimension, result->refined,
           build->batch * target->dimension * sizeof(float));
    for (size_t i = 0; i < build->batch; i++) {
        const struct fuser_result *selection = &result->selections[i];
        float best = 0.0f;
        if (selection->count > 0)
            best = result->hits[result->hit_starts[i] + selection->kept[0]].score;
        target->best[build->done + i] = best;
    }
    if (build->done == 0 || result->coverage < target->coverage)
        target->coverage = result->coverage;
    target->records = result->records;
    target->work.exact = (build->done == 0 || target->work.exact) && result->work.exact;
    target->work.lists_probed += result->work.lists_probed;
    target->work.codes_scanned += result->work.codes_scanned;
    target->work.rows_refined += result->work.rows_refined;
    target->work.rows_read += result->work.rows_read;
    collect_degraded(build, result);
    query_destroy(&build->query);
    build->done += build->batch;
    if (build->done == target->set->count)
        finish_refined(build);
    else
        search_batch(build);
}

static void search_batch(void *context)
{
    struct label_build *build = context;
    struct label_prototypes *target = build->target;
    struct reason why = {0};
    size_t rows = query_rows_max(&build->question, target->dimension);
    build->batch = target->set->count - build->done;
    if (build->batch > rows)
        build->batch = rows;
    struct query_params params = {
        .backend = build->builds->backend,
        .question = &build->question,
        .input = API_INPUT_EMBEDDING,
        .rows = build->plain->values + build->done * target->dimension,
        .row_count = (uint32_t)build->batch,
        .dimension = target->dimension,
        .own = MODALITY_TEXT,
        .over = build->over,
        .deadline_us = DEADLINE_NONE,
        .done = on_query_done,
        .context = build,
    };
    // A set is made once, for all who asked for it: a trace of its own.
    (void)trace_set_id(&params.trace, text_of("labels"));
    (void)trace_begin(&params.trace, (struct text){NULL, 0});
    enum status status = query_start(&params, &build->query, &why);
    if (status != STATUS_OK)
        finish(build, status, &why);
}

enum status label_build_refined(struct label_builds *builds, const struct label_refine *refine,
                                struct label_wait *wait, struct label_prototypes **out,
                                struct reason *why)
{
    assert(builds && refine && wait && wait->done && !wait->build && out);

    struct backend *backend = builds->backend;
    const struct meta_generation *memory = meta_at(backend->meta, refine->question->memory.number);
    uint32_t nodes = fanout_up_mask(backend->fanout);
    uint8_t digest[HASH_SHA256_BYTES];
    label_refined_digest(refine->plain->set, refine->question, memory ? memory->changes : 0,
                         (uint32_t)refine->over, nodes, digest);
    *out = labels_find(backend->labels, digest);
    if (*out)
        return STATUS_OK;
    struct label_build *build = find(builds, digest);
    if (!build) {
        enum status status = begin(builds, digest, refine->plain->set, &build, why);
        if (status != STATUS_OK)
            return status;
        assert(build);
        build->plain = label_prototypes_hold(refine->plain);
        question_copy(&build->question, refine->question);
        build->question.min_coverage = 0;
        build->over = refine->over;
        build->nodes = nodes;
        build->timer.fire = search_batch;
        build->timer.context = build;
        timers_arm(&backend->timers, &build->timer, clock_now_us());
    }
    add_wait(build, wait);
    return STATUS_OK;
}

// ---------------------------------------------------------------- all builds

struct label_builds *label_builds_create(struct backend *backend)
{
    assert(backend);

    struct label_builds *builds = mem_alloc(sizeof(*builds));
    builds->backend = backend;
    return builds;
}

void label_builds_destroy(struct label_builds **builds)
{
    assert(builds);
    assert(!*builds || !(*builds)->first);

    mem_free(*builds);
    *builds = NULL;
}

void label_builds_cancel(struct label_builds *builds)
{
    assert(builds);

    struct reason why = {0};
    enum status status = reason_set(&why, STATUS_CANCELLED, NULL, "the coordinator stops");
    while (builds->first)
        finish(builds->first, status, &why);
}

void label_build_leave(struct label_wait *wait, bool gone)
{
    assert(wait);

    struct label_build *build = wait->build;
    if (!build)
        return;
    struct label_wait **at = &build->waits;
    while (*at != wait)
        at = &(*at)->next;
    *at = wait->next;
    wait->build = NULL;
    if (gone && !build->waits)
        end(build);
}

size_t label_builds_count(const struct label_builds *builds)
{
    assert(builds);

    return builds->count;
}
