// SPDX-License-Identifier: Apache-2.0
// service_classify.c - CompileLabels, Classify, Explain and DiscoverLabels.
//
//   plain prototypes --> query of the image --+
//                   \--> refined prototypes --+--> scores --> answer
//
// DiscoverLabels begins with the query, whose captions give the labels. CompileLabels ends after
// the prototypes. Both sides are refined: the image by texts, the labels by images. When time runs
// out before the labels are refined, plain prototypes take their place and the answer says so;
// their build goes on for whoever asks next. When the image's gate is 0 the memory has no part in
// the answer: both lists are plain CLIP's. So they are where the gate of a head judges CLIP's own
// answer to be the likelier one.

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/answer.h"
#include "coordinator/candidates.h"
#include "coordinator/label_build.h"
#include "coordinator/labels.h"
#include "coordinator/query.h"
#include "coordinator/question.h"
#include "coordinator/service.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#define TOP_DEFAULT 5
#define EFFECTS_US 20000 // aim for a job of effects
#define NEIGHBOURS_MAX K_MAX
#define INLINE_WORK (1u << 20) // multiplications that the loop does itself: about 1 ms

struct classify {
    struct service_call *call; // NULL once it has ended
    struct backend *backend;
    struct arena *arena;
    struct question question;
    struct timer timer;
    int64_t soft_us;

    struct query_params params; // of the query; unused for CompileLabels
    float *row;                 // of an embedding
    enum modality own;          // of the query; images for CompileLabels
    struct query *query;
    bool query_is_done;
    uint32_t top;
    uint32_t candidates_max; // DiscoverLabels
    uint32_t fields;         // of the neighbours in the answer

    struct label_wait wait;
    struct label_prototypes *plain;
    struct label_prototypes *refined;
    bool labels_are_done; // refined, not needed, or given up
    int64_t labels_begun_us;
    float labels_ms;
    struct text labels_lack; // why plain prototypes take the refined ones' place

    struct compute_job job;
    bool job_is_out;
    struct score_explain explain;
};

static void free_classify(struct classify *classify)
{
    query_destroy(&classify->query);
    question_deinit(&classify->question);
    label_prototypes_release(&classify->plain);
    label_prototypes_release(&classify->refined);
    arena_destroy(&classify->arena);
    mem_free(classify);
}

// Ends everything but a job that is out, which frees the rest when it is back.
static void end(struct classify *classify, bool gone)
{
    timers_disarm(&classify->backend->timers, &classify->timer);
    label_build_leave(&classify->wait, gone);
    classify->call = NULL;
    if (classify->job_is_out)
        compute_cancel(&classify->job);
    else
        free_classify(classify);
}

static void fail(struct classify *classify, enum status status, const struct reason *why)
{
    struct reason told = *why;
    service_fail(classify->call, status, &told);
    end(classify, status == STATUS_CANCELLED);
}

static void fail_memory(struct classify *classify)
{
    struct reason why = {0};
    fail(classify, reason_set(&why, STATUS_NO_MEMORY, NULL, "no memory for the answer"), &why);
}

static bool is_compile(const struct classify *classify)
{
    return classify->call->method == API_COMPILE_LABELS;
}

static bool is_discover(const struct classify *classify)
{
    return classify->call->method == API_DISCOVER_LABELS;
}

// ---------------------------------------------------------------- answers

// Adds what refined prototypes lack; false when the call has ended over that.
static bool add_labels(struct classify *classify, struct api_answer *answer)
{
    enum status status = STATUS_OK;
    if (classify->refined)
        status = answer_add_labels(classify->refined, classify->arena, answer);
    if (status == STATUS_OK && classify->labels_lack.bytes > 0)
        status = answer_degrade(answer, classify->arena, classify->labels_lack);
    answer->timings.labels = classify->labels_ms;
    if (status != STATUS_OK) {
        fail_memory(classify);
        return false;
    }
    if (answer->coverage >= classify->question.min_coverage)
        return true;
    struct reason why = {0};
    fail(classify,
         reason_set(&why, STATUS_UNAVAILABLE, NULL,
                    "coverage %.3f is below min_coverage %.3f: %.*s", (double)answer->coverage,
                    (double)classify->question.min_coverage,
                    answer->degraded_count > 0 ? (int)answer->degraded[0].bytes : 0,
                    answer->degraded_count > 0 ? answer->degraded[0].data : ""),
         &why);
    return false;
}

static void answer_compiled(struct classify *classify)
{
    struct api_answer answer;
    answer_from_question(classify->call, &classify->question, &answer);
    answer.coverage = 1; // plain prototypes lack nothing
    if (classify->refined) {
        answer.records = classify->refined->records;
        answer_set_work(&answer, &classify->refined->work, classify->refined->coverage > 0);
    }
    answer.label_set_id = text_of(classify->plain->set->id);
    answer.label_count = (uint32_t)classify->plain->set->count;
    if (!add_labels(classify, &answer))
        return;
    answer_finish(classify->call, &answer);
    end(classify, false);
}

static bool take_top(const struct classify *classify, const struct neighbour *ranked,
                     struct api_labels *out)
{
    const struct label_set *set = classify->plain->set;
    size_t count = classify->top < set->count ? classify->top : set->count;
    struct text *labels = arena_alloc_array(classify->arena, count, sizeof(*labels));
    float *scores = arena_alloc_array(classify->arena, count, sizeof(*scores));
    if (!labels || !scores)
        return false;
    for (size_t i = 0; i < count; i++) {
        labels[i] = set->labels[ranked[i].id];
        scores[i] = ranked[i].score;
    }
    *out = (struct api_labels){.count = count, .labels = labels, .scores = scores};
    return true;
}

// How likely the memory's answer is the right one of two that differ: 3 * k * dimension products,
// on the loop's thread, few beside the labels'.
static double weigh(const struct classify *classify)
{
    const struct query_result *result = query_result(classify->query);
    const struct fuser_result *selection = &result->selections[0];
    const struct label_prototypes *labels = classify->plain;
    const size_t count = labels->set->count;
    const uint32_t dimension = result->dimension;
    struct fusion_gate_dispute dispute = {
        .plain = score_list(classify->job.score.plain_ranked, count),
        .refined = score_list(classify->job.score.refined_ranked, count),
    };
    const float *told[] = {result->plain, labels->values + dispute.plain.first * dimension,
                           labels->values + dispute.refined.first * dimension};
    dispute.nearest = fuser_nearest(told[0], dimension, result->hits, selection);
    dispute.told_plain = fuser_nearest(told[1], dimension, result->hits, selection);
    dispute.told_refined = fuser_nearest(told[2], dimension, result->hits, selection);
    dispute.known = (double)classify->refined->best[dispute.plain.first];
    double evidence[FUSION_GATE_EVIDENCE];
    fusion_gate_weigh(&dispute, evidence);
    return fusion_gate_value(classify->backend->gate, evidence);
}

// Gate and its reason. Where the gate of a head believes CLIP's own answer, that takes the refined
// one's place.
static bool judge(struct classify *classify, struct api_answer *answer)
{
    const struct query_result *result = query_result(classify->query);
    const struct fuser_result *selection = &result->selections[0];
    struct compute_score *score = &classify->job.score;
    answer->gate = (float)selection->gate;
    answer->gate_reason = text_of(selection->reason);
    if (!classify->question.fuser.is_open || !classify->refined || selection->gate <= 0 ||
        score->plain_ranked[0].id == score->refined_ranked[0].id)
        return true;

    const double gate = weigh(classify);
    char reason[FUSER_REASON_BYTES + 80];
    bool is_refined = gate >= FUSION_GATE_OPEN;
    (void)snprintf(reason, sizeof(reason),
                   is_refined ? "the memory's answer is the likelier one (%.2f); %s"
                              : "plain CLIP: the memory's answer is the less likely one (%.2f); %s",
                   gate, selection->reason);
    char *copy = arena_copy_text(classify->arena, reason, strlen(reason));
    if (!copy)
        return false;
    answer->gate_reason = text_of(copy);
    if (is_refined)
        return true;
    answer->gate = 0;
    score->refined_ranked = score->plain_ranked;
    if (score->effects)
        memset(score->effects, 0, selection->count * sizeof(score->effects[0]));
    return true;
}

static void answer_scored(struct classify *classify)
{
    const struct query_result *result = query_result(classify->query);
    const struct compute_score *score = &classify->job.score;
    struct api_answer answer;
    answer_from_result(classify->call, &classify->question, result, &answer);
    if (answer_neighbours(result, classify->fields, classify->arena, &answer.neighbours) !=
            STATUS_OK ||
        !judge(classify, &answer) || !take_top(classify, score->plain_ranked, &answer.plain) ||
        !take_top(classify, score->refined_ranked, &answer.refined)) {
        fail_memory(classify);
        return;
    }
    answer.neighbours.effects = score->effects;
    if (!add_labels(classify, &answer))
        return;
    answer_finish(classify->call, &answer);
    end(classify, false);
}

static void answer_without_labels(struct classify *classify)
{
    const struct query_result *result = query_result(classify->query);
    struct api_answer answer;
    answer_from_result(classify->call, &classify->question, result, &answer);
    answer.gate = (float)result->selections[0].gate;
    answer.gate_reason = text_of(result->selections[0].reason);
    if (answer_neighbours(result, classify->fields, classify->arena, &answer.neighbours) !=
            STATUS_OK ||
        answer_degrade(&answer, classify->arena,
                       text_of("the captions of the neighbours suggest no label")) != STATUS_OK) {
        fail_memory(classify);
        return;
    }
    answer_finish(classify->call, &answer);
    end(classify, false);
}

// ---------------------------------------------------------------- scores

// Asks for the effects of the next neighbours, as many as take about EFFECTS_US.
static enum status submit_scores(struct classify *classify, uint32_t from, uint32_t count,
                                 struct reason *why)
{
    struct compute_job *job = &classify->job;
    if (job->score.explain) {
        uint32_t all = classify->explain.selection->count;
        classify->explain.from = from;
        classify->explain.to = count < all - from ? from + count : all;
    }
    enum status status = compute_submit(classify->backend->compute, job, why);
    classify->job_is_out = status == STATUS_OK;
    return status;
}

static void on_scored(void *context, struct compute_job *job)
{
    struct classify *classify = context;
    classify->job_is_out = false;
    if (!classify->call) {
        free_classify(classify);
        return;
    }
    struct reason why = job->why;
    enum status status = job->status;
    const struct score_explain *explain = job->score.explain;
    if (status == STATUS_OK && explain && explain->to < explain->selection->count) {
        int64_t run_us = job->run_us > 0 ? job->run_us : 1;
        int64_t aim = (int64_t)(explain->to - explain->from) * EFFECTS_US / run_us;
        uint32_t count = aim < 1 ? 1 : aim > NEIGHBOURS_MAX ? NEIGHBOURS_MAX : (uint32_t)aim;
        status = submit_scores(classify, explain->to, count, &why);
        if (status == STATUS_OK)
            return;
    }
    if (status != STATUS_OK)
        fail(classify, status, &why);
    else
        answer_scored(classify);
}

static bool plan_scores(struct classify *classify)
{
    const struct query_result *result = query_result(classify->query);
    const struct label_prototypes *plain = classify->plain;
    const struct fuser_result *selection = &result->selections[0];
    bool uses_memory = classify->refined && selection->gate > 0;
    size_t count = plain->set->count;
    struct neighbour *ranked = arena_alloc_array(classify->arena, 2 * count, sizeof(*ranked));
    if (!ranked)
        return false;

    struct score_labels labels = {plain->values, count, plain->dimension};
    struct compute_score *score = &classify->job.score;
    *score = (struct compute_score){
        .plain_labels = labels,
        .refined_labels = labels,
        .plain = result->plain,
        .refined = result->refined,
        .plain_ranked = ranked,
        .refined_ranked = ranked + count,
    };
    if (uses_memory)
        score->refined_labels.values = classify->refined->values;
    if (classify->call->method != API_EXPLAIN)
        return true;

    classify->explain = (struct score_explain){
        .fuser = result->fuser,
        .query = result->plain,
        .refined = result->refined,
        .hits = result->hits,
        .selection = selection,
    };
    score->explain = &classify->explain;
    score->effects =
        arena_alloc_array(classify->arena, selection->count, sizeof(score->effects[0]));
    return score->effects != NULL;
}

static void on_deadline(void *context)
{
    struct classify *classify = context;
    struct reason why = {0};
    fail(classify,
         reason_set(&why, STATUS_DEADLINE, NULL, "the deadline passed before the labels were %s",
                    is_compile(classify) ? "refined; that goes on, ask again" : "scored"),
         &why);
}

static void score(struct classify *classify)
{
    if (!plan_scores(classify)) {
        fail_memory(classify);
        return;
    }
    struct compute_job *job = &classify->job;
    struct reason why = {0};
    job->kind = COMPUTE_SCORE;
    job->class = COMPUTE_QUERY;
    job->done = on_scored;
    job->context = classify;
    size_t work = job->score.plain_labels.count * classify->plain->dimension;
    if (work <= INLINE_WORK && !job->score.explain) {
        score_rank(job->score.plain, &job->score.plain_labels, job->score.plain_ranked);
        score_rank(job->score.refined, &job->score.refined_labels, job->score.refined_ranked);
        answer_scored(classify);
        return;
    }
    enum status status = submit_scores(classify, 0, 1, &why);
    if (status != STATUS_OK) {
        fail(classify, status, &why);
        return;
    }
    classify->timer.fire = on_deadline;
    timers_arm(&classify->backend->timers, &classify->timer, classify->call->deadline_us);
}

// Goes on once the query has ended and the labels are refined, or not needed.
static void go_on(struct classify *classify)
{
    if (is_compile(classify)) {
        if (classify->labels_are_done)
            answer_compiled(classify);
        return;
    }
    if (!classify->query_is_done)
        return;
    bool is_plain = query_result(classify->query)->selections[0].gate <= 0;
    if (!classify->labels_are_done && !is_plain)
        return;
    label_build_leave(&classify->wait, false);
    classify->labels_are_done = true;
    score(classify);
}

// ---------------------------------------------------------------- query and refined labels

static void discover(struct classify *classify);

static void on_query_done(void *context)
{
    struct classify *classify = context;
    const struct query_result *result = query_result(classify->query);
    classify->query_is_done = true;
    if (result->status != STATUS_OK)
        fail(classify, result->status, &result->why);
    else if (is_discover(classify))
        discover(classify);
    else
        go_on(classify);
}

// Plain prototypes take the place of refined ones.
static void do_without_refined(struct classify *classify, const char *reason)
{
    char *copy = arena_copy_text(classify->arena, reason, strlen(reason));
    classify->labels_lack = copy ? text_of(copy) : text_of("labels are not refined");
    classify->labels_are_done = true;
}

static void on_refined(void *context, enum status status, const struct reason *why,
                       struct label_prototypes *prototypes)
{
    struct classify *classify = context;
    classify->labels_ms += (float)(clock_now_us() - classify->labels_begun_us) / 1000.0f;
    classify->refined = prototypes;
    classify->labels_are_done = true;
    if (status == STATUS_CANCELLED || (status != STATUS_OK && is_compile(classify))) {
        fail(classify, status, why);
        return;
    }
    if (status != STATUS_OK) {
        struct reason told = {0};
        (void)reason_set(&told, status, NULL, "labels are not refined: %s", why->text);
        do_without_refined(classify, told.text);
    }
    go_on(classify);
}

// The query keeps its own time; this is for the labels beside it.
static void on_soft_deadline(void *context)
{
    struct classify *classify = context;
    if (is_compile(classify)) {
        on_deadline(classify);
        return;
    }
    if (classify->labels_are_done)
        return;
    label_build_leave(&classify->wait, false);
    do_without_refined(classify, "the deadline left no time to refine the labels: plain "
                                 "prototypes are used");
    go_on(classify);
}

static enum status refine_labels(struct classify *classify, struct reason *why)
{
    const struct question *question = &classify->question;
    struct label_refine refine = {
        .plain = classify->plain,
        .question = question,
        .over = question_over_labels(question, classify->own),
    };
    if (question->memory.number == 0 || question->fuser.fusion.mode == FUSION_NONE) {
        classify->labels_are_done = true;
        return STATUS_OK;
    }
    classify->wait = (struct label_wait){.done = on_refined, .context = classify};
    classify->labels_begun_us = clock_now_us();
    enum status status = label_build_refined(classify->backend->builds, &refine, &classify->wait,
                                             &classify->refined, why);
    classify->labels_are_done = status == STATUS_OK && classify->refined;
    return status;
}

// With the plain prototypes there.
static void begin_query(struct classify *classify)
{
    struct reason why = {0};
    enum status status = STATUS_OK;
    classify->timer.fire = on_soft_deadline;
    timers_arm(&classify->backend->timers, &classify->timer, classify->soft_us);
    if (!is_compile(classify) && !is_discover(classify))
        status = query_start(&classify->params, &classify->query, &why);
    if (status == STATUS_OK)
        status = refine_labels(classify, &why);
    if (status != STATUS_OK)
        fail(classify, status, &why);
    else
        go_on(classify);
}

// ---------------------------------------------------------------- plain labels

static void on_plain(void *context, enum status status, const struct reason *why,
                     struct label_prototypes *prototypes)
{
    struct classify *classify = context;
    classify->plain = prototypes;
    classify->labels_ms += (float)(clock_now_us() - classify->labels_begun_us) / 1000.0f;
    if (status != STATUS_OK)
        fail(classify, status, why);
    else
        begin_query(classify);
}

static void on_plain_late(void *context)
{
    struct classify *classify = context;
    struct reason why = {0};
    fail(classify,
         reason_set(&why, STATUS_DEADLINE, NULL,
                    "the deadline passed before the labels were encoded; that goes on, ask again "
                    "or call CompileLabels first"),
         &why);
}

// Finds or makes the plain prototypes; goes on at once when they are there.
static void get_labels(struct classify *classify, struct text label_set_id,
                       const struct label_set_params *params)
{
    struct backend *backend = classify->backend;
    struct reason why = {0};
    enum status status = STATUS_OK;
    if (label_set_id.bytes > 0) {
        classify->plain = labels_find_id(backend->labels, label_set_id);
        if (!classify->plain)
            status = reason_set(&why, STATUS_NOT_FOUND, "label_set_id",
                                "'%.*s' is not known (any more); call CompileLabels",
                                (int)label_set_id.bytes, label_set_id.data);
    } else {
        struct label_set *set = NULL;
        classify->wait = (struct label_wait){.done = on_plain, .context = classify};
        classify->labels_begun_us = clock_now_us();
        status = label_set_create(params, &set, &why);
        if (status == STATUS_OK)
            status =
                label_build_plain(backend->builds, set, &classify->wait, &classify->plain, &why);
        label_set_release(&set);
    }
    if (status != STATUS_OK) {
        fail(classify, status, &why);
    } else if (classify->plain) {
        begin_query(classify);
    } else {
        classify->timer.fire = on_plain_late;
        timers_arm(&backend->timers, &classify->timer, classify->call->deadline_us);
    }
}

// ---------------------------------------------------------------- labels from captions

static struct label_set_params set_params(const struct classify *classify)
{
    const struct clip_info *clip = classify->backend->clip;
    return (struct label_set_params){.space = clip->space, .default_template = clip->template_text};
}

// What the neighbours' captions suggest, as a label set of its own; no names: an answer without
// labels.
static void discover(struct classify *classify)
{
    const struct query_result *result = query_result(classify->query);
    size_t count = result->documents ? result->selections[0].count : 0;
    struct text *captions = arena_alloc_array(classify->arena, count, sizeof(*captions));
    struct text *names =
        arena_alloc_array(classify->arena, classify->candidates_max, sizeof(*names));
    size_t found = SIZE_MAX;
    for (size_t i = 0; captions && i < count; i++)
        captions[i] = result->documents[i].caption;
    if (captions && names)
        found =
            candidates_collect(captions, count, classify->candidates_max, classify->arena, names);
    if (found == SIZE_MAX) {
        fail_memory(classify);
        return;
    }
    if (found == 0) {
        answer_without_labels(classify);
        return;
    }
    struct label_set_params params = set_params(classify);
    params.labels = names;
    params.label_count = found;
    params.is_transient = true;
    get_labels(classify, (struct text){0}, &params);
}

// ---------------------------------------------------------------- begin

static struct classify *create(struct service_call *call)
{
    struct classify *classify = mem_alloc(sizeof(*classify));
    classify->call = call;
    classify->backend = call->backend;
    classify->arena = arena_create(SERVICE_ARENA_BYTES);
    classify->timer.context = classify;
    classify->soft_us = query_soft_deadline_us(call->begun_us, call->deadline_us);
    call->state = classify;
    return classify;
}

// What must hold for labels and image alike: the labels are texts of the model's space.
static enum status resolve(struct classify *classify, const struct api_options *options,
                           struct reason *why)
{
    const struct backend *backend = classify->backend;
    enum status status = question_resolve(backend, options, &classify->question, why);
    if (status == STATUS_OK)
        status = question_check_space(backend, &classify->question.memory, why);
    return status;
}

// Which fusion it is. With the gate of a head, answers are judged and not embeddings.
static enum status settle(struct classify *classify, struct reason *why)
{
    struct question *question = &classify->question;
    enum status status = question_settle_fusion(classify->backend, classify->own, question, why);
    question->fuser.is_open = classify->backend->gate && question->fuser.fusion.mode == FUSION_HEAD;
    return status;
}

static void begin_compile(struct service_call *call)
{
    struct classify *classify = create(call);
    struct api_labels_request request;
    struct reason why = {0};
    enum status status = api_decode_labels_request(call->message, classify->arena, &request, &why);
    if (status == STATUS_OK)
        status = resolve(classify, &request.options, &why);
    if (status == STATUS_OK)
        status = settle(classify, &why);
    if (status != STATUS_OK) {
        fail(classify, status, &why);
        return;
    }
    struct label_set_params params = set_params(classify);
    params.labels = request.labels;
    params.label_count = request.label_count;
    params.templates = request.templates;
    params.template_count = request.template_count;
    get_labels(classify, (struct text){0}, &params);
}

static enum status plan_query(struct classify *classify, const struct api_query_request *request,
                              struct reason *why)
{
    uint32_t dimension = classify->backend->clip->dimension;
    if (request->input == API_INPUT_EMBEDDING) {
        if (request->embedding_modality == API_MODALITY_TEXT)
            classify->own = MODALITY_TEXT;
        classify->row = arena_alloc_array(classify->arena, dimension, sizeof(float));
        if (!classify->row)
            return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for an embedding");
        enum status status = question_embedding(request->embedding, request->embedding_count,
                                                dimension, classify->row, why);
        if (status != STATUS_OK)
            return status;
    } else if (request->input != API_INPUT_IMAGE) {
        return reason_set(why, STATUS_INVALID, "input",
                          "nothing to classify; send an image or an embedding");
    }
    enum status fits = settle(classify, why);
    if (fits != STATUS_OK)
        return fits;
    classify->top = request->top == 0 ? TOP_DEFAULT : request->top;
    classify->candidates_max =
        request->candidates_max == 0 ? CANDIDATES_DEFAULT : request->candidates_max;
    classify->fields = classify->question.fields;
    classify->params = (struct query_params){
        .backend = classify->backend,
        .question = &classify->question,
        .input = request->input,
        .image = request->image,
        .rows = classify->row,
        .row_count = 1,
        .dimension = dimension,
        .own = classify->own,
        .over = question_over(&classify->question, classify->own),
        .wants_documents = true,
        .deadline_us = classify->call->deadline_us,
        .trace = classify->call->trace,
        .done = on_query_done,
        .context = classify,
    };
    return STATUS_OK;
}

static void begin_classify(struct service_call *call)
{
    struct classify *classify = create(call);
    struct api_query_request request;
    struct reason why = {0};
    enum status status =
        api_decode_query(call->method, call->message, classify->arena, &request, &why);
    if (status == STATUS_OK)
        status = resolve(classify, &request.options, &why);
    if (status == STATUS_OK)
        status = plan_query(classify, &request, &why);
    if (status != STATUS_OK) {
        fail(classify, status, &why);
        return;
    }
    struct label_set_params params = set_params(classify);
    params.labels = request.labels;
    params.label_count = request.label_count;
    params.templates = request.templates;
    params.template_count = request.template_count;
    get_labels(classify, request.label_set_id, &params);
}

static void begin_discover(struct service_call *call)
{
    struct classify *classify = create(call);
    struct api_query_request request;
    struct reason why = {0};
    enum status status =
        api_decode_query(call->method, call->message, classify->arena, &request, &why);
    if (status == STATUS_OK)
        status = resolve(classify, &request.options, &why);
    if (status == STATUS_OK && classify->question.memory.number == 0)
        status = reason_set(&why, STATUS_NOT_FOUND, "memory",
                            "there is no memory '%s', which is asked unless options.memory names "
                            "another, and labels come from captions",
                            META_NAME_DEFAULT);
    if (status == STATUS_OK)
        status = plan_query(classify, &request, &why);
    classify->question.fields |= 1u << API_FIELD_CAPTION;
    classify->params.needs_neighbours = true;
    if (status == STATUS_OK)
        status = query_start(&classify->params, &classify->query, &why);
    if (status != STATUS_OK)
        fail(classify, status, &why);
}

static void cancel(struct service_call *call)
{
    struct reason why = {0};
    fail(call->state, reason_set(&why, STATUS_CANCELLED, NULL, "cancelled"), &why);
}

const struct service_handler service_compile_labels = {.begin = begin_compile, .cancel = cancel};
const struct service_handler service_classify = {.begin = begin_classify, .cancel = cancel};
const struct service_handler service_discover = {.begin = begin_discover, .cancel = cancel};
