// SPDX-License-Identifier: Apache-2.0
// Goal: whoever cancels, is late or vanishes costs nothing afterwards: every counter is back to
// zero, and no work goes on 50 ms later.
//
// Method: a real coordinator with three nodes, over gRPC. Calls of every kind with random questions
// and deadlines are opened at random and cancelled at random, so that what is cancelled has come to
// any point of its way. RECO_CANCELS (default 500) says how many.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/rpc/rpc_client.h"
#include "tests/e2e/coordinator_house.h"

#define NODES 3
#define RECORDS 1000
#define DIMENSION HOUSE_MODEL_DIMENSION
#define SEATS 16   // calls that are open at once
#define LABELS 300 // of a label question of the storm
#define QUIET_US 50000
#define LONG_US 20000000

static struct house house;
static char address[32];
static struct buffer picture;

// A small generator: the same numbers in every run.
static uint32_t random_u32(void)
{
    static uint64_t state = 20261128;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static void open_house(void)
{
    house_open(&house, NODES, "127.0.0.1:0");
    house_fill(&house, "m", RECORDS);
    house_fill_model_space(&house, RECORDS);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%d", coordinator_port(house.coordinator));
    cr_assert(eq(int,
                 bytes_read_file(RECO_SOURCE_DIR "/tests/golden/tiny/images/anchor.noto.png",
                                 1 << 20, &picture),
                 STATUS_OK));
}

static void close_house(void)
{
    buffer_deinit(&picture);
    house_close(&house);
}

// --- what is left

#define ARENA_BYTES ((size_t)1 << 20)

// What is alive, all told; builds only where they are counted.
static size_t alive(size_t *builds)
{
    struct coordinator_counters left;
    struct buffer none = {0};
    struct bytes ignored;
    // A call turns the loop, after which the figures are new.
    cr_assert(eq(int, house_call(&house, API_LIST_MODELS, &none, &ignored, NULL), STATUS_OK));
    coordinator_counters(house.coordinator, &left);
    size_t depth = 0;
    for (uint32_t i = 0; i < NODES; i++)
        depth += node_queue_depth(house.nodes[i]);
    *builds = left.builds;
    return left.calls + left.rpc_calls + left.streams + left.items + left.stream_bytes +
           left.queries + left.jobs + left.requests + depth;
}

// Waits until nothing is left; how long that took. What the house was answered is forgotten: its
// arena would grow with the number of looks, and is counted with those of the coordinator.
static int64_t wait_quiet(void)
{
    int64_t begun_us = clock_now_us();
    size_t builds = 0;
    bool is_quiet = false;
    while (!is_quiet) {
        is_quiet = alive(&builds) + builds == 0;
        cr_assert(lt(i64, clock_now_us() - begun_us, LONG_US), "%zu builds", builds);
        arena_destroy(&house.arena);
        house.arena = arena_create(ARENA_BYTES);
    }
    return clock_now_us() - begun_us;
}

// --- questions of any kind

static struct text label_texts[LABELS];

static void make_labels(size_t count)
{
    static char names[LABELS][24];
    uint32_t salt = random_u32() % 4; // some are made anew, some are found
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "label %u of %zu", salt, i);
        label_texts[i] = text_of(names[i]);
    }
}

static void make_question(enum api_method method, struct api_query_request *request)
{
    static float row[DIMENSION];
    bool in_model_space = random_u32() % 2;
    *request = (struct api_query_request){
        .input = API_INPUT_EMBEDDING,
        .embedding = row,
        .embedding_count = in_model_space ? DIMENSION : HOUSE_DIMENSION,
        .options = {.memory = text_of(in_model_space ? "default" : "m"),
                    .k = 1 + random_u32() % 256,
                    .fusion = (enum api_fusion)(random_u32() % 4)},
    };
    for (size_t i = 0; i < DIMENSION; i++)
        row[i] = (float)(random_u32() % 2000) / 1000.0f - 0.99f;
    bool labels = method == API_CLASSIFY || method == API_EXPLAIN;
    if (method == API_REFINE_IMAGE || (method != API_REFINE_EMBEDDING && random_u32() % 4 == 0)) {
        request->input = API_INPUT_IMAGE;
        request->image = (struct bytes){picture.data, picture.count};
    }
    if (method == API_REFINE_TEXT) {
        request->input = API_INPUT_TEXT;
        request->text = text_of("a red anchor");
    }
    if (!labels)
        return;
    request->options.memory = text_of("default");
    request->embedding_count = DIMENSION;
    request->label_count = 1 + random_u32() % LABELS;
    make_labels(request->label_count);
    request->labels = label_texts;
}

static enum status encode_other(enum api_method method, struct buffer *out)
{
    static float rows[2][HOUSE_DIMENSION];
    char key[24];
    make_labels(40);
    struct api_texts_request texts = {label_texts, 1 + random_u32() % 40};
    struct bytes images[4];
    for (size_t i = 0; i < 4; i++)
        images[i] = (struct bytes){picture.data, picture.count};
    struct api_encode_image_request pictures = {.images = images, .count = 1 + random_u32() % 4};
    struct api_labels_request labels = {.labels = label_texts,
                                        .label_count = 1 + random_u32() % 40,
                                        .options = {.k = 1 + random_u32() % 20}};
    (void)snprintf(key, sizeof(key), "new %u", random_u32() % 1000);
    struct text name = text_of(key);
    house_embedding(random_u32() % 1000, 0, rows[0]);
    house_embedding(random_u32() % 1000, 1, rows[1]);
    struct api_ingest_record record = {.key = name,
                                       .image_embedding = rows[0],
                                       .image_count = HOUSE_DIMENSION,
                                       .text_embedding = rows[1],
                                       .text_count = HOUSE_DIMENSION};
    struct api_ingest_request ingest = {.memory = text_of("m"), .records = &record, .count = 1};
    struct api_delete_request gone = {.memory = text_of("m"), .keys = &name, .key_count = 1};
    struct api_name_request described = {.name = text_of("m")};
    struct api_encode_stream_request item = {
        .tag = 1, .input = API_INPUT_TEXT, .text = label_texts[0]};
    switch ((unsigned)method) {
    case API_ENCODE_IMAGE:
        return api_encode_encode_image_request(&pictures, out);
    case API_ENCODE_TEXT:
    case API_TOKENIZE:
        return api_encode_texts_request(&texts, out);
    case API_ENCODE_STREAM:
        return api_encode_encode_stream_request(&item, out);
    case API_COMPILE_LABELS:
        return api_encode_labels_request(&labels, out);
    case API_MEMORY_INGEST:
        return api_encode_ingest_request(&ingest, out);
    case API_MEMORY_DELETE:
        return api_encode_delete_request(&gone, out);
    case API_MEMORY_DESCRIBE:
        return api_encode_name_request(&described, out);
    default: // an empty message; where that is no question, the call fails
        return STATUS_OK;
    }
}

// One message for that method.
static void make_message(enum api_method method, struct buffer *out)
{
    enum api_method inner = method == API_SEARCH_STREAM     ? API_SEARCH
                            : method == API_CLASSIFY_STREAM ? API_CLASSIFY
                                                            : method;
    struct api_query_request request;
    out->count = 0;
    switch ((unsigned)inner) {
    case API_SEARCH:
    case API_REFINE_IMAGE:
    case API_REFINE_TEXT:
    case API_REFINE_EMBEDDING:
    case API_REFINE_STREAM:
    case API_CLASSIFY:
    case API_EXPLAIN:
        make_question(inner, &request);
        cr_assert(eq(int, api_encode_query(inner, &request, out), STATUS_OK));
        break;
    default:
        cr_assert(eq(int, encode_other(method, out), STATUS_OK));
        return;
    }
    if (!api_method_info(method)->server_streams)
        return;
    struct buffer question = *out;
    struct api_stream_request outer = {random_u32(), {question.data, question.count}};
    *out = (struct buffer){0};
    cr_assert(eq(int, api_encode_stream_request(&outer, out), STATUS_OK));
    buffer_deinit(&question);
}

// --- the storm

struct seat {
    struct rpc_client *client;
    struct rpc_stream *stream; // NULL: free
    bool streams;              // the server does
};

static void sit_down(struct seat *seat, enum api_method method)
{
    const struct api_method_info *info = api_method_info(method);
    struct rpc_client_call call = {
        .path = info->path, .deadline_us = DEADLINE_NONE, .server_streams = info->server_streams};
    if (random_u32() % 2)
        call.deadline_us = clock_deadline_in_us(200 + random_u32() % 30000);
    struct reason why = {0};
    enum status status = rpc_stream_open(seat->client, &call, &seat->stream, &why);
    if (status != STATUS_OK) {
        cr_assert(eq(int, status, STATUS_DEADLINE), "%s", why.text);
        return;
    }
    seat->streams = info->server_streams;
    struct buffer message = {0};
    size_t count = info->client_streams ? random_u32() % 6 : 1;
    for (size_t i = 0; i < count; i++) {
        make_message(method, &message);
        if (rpc_stream_send(seat->stream, (struct bytes){message.data, message.count}))
            break; // its deadline has passed
    }
    buffer_deinit(&message);
    if (!info->client_streams || random_u32() % 2)
        rpc_stream_close(seat->stream);
}

static void stand_up(struct seat *seat)
{
    struct buffer reply = {0};
    bool ended = false;
    if (random_u32() % 4 > 0)
        rpc_client_interrupt(seat->client);
    else if (seat->streams) {
        rpc_stream_close(seat->stream); // so that there is an answer or the end
        (void)!rpc_stream_receive(seat->stream, &reply, &ended);
    }
    reply.count = 0;
    (void)!rpc_stream_finish(&seat->stream, seat->streams ? NULL : &reply, NULL);
    buffer_deinit(&reply);
}

// Methods that nobody should try at random: they would change what the rest stands on.
static bool is_left_out(enum api_method method)
{
    return method == API_MEMORY_CREATE || method == API_MEMORY_DROP;
}

static size_t wanted_cancels(void)
{
    const char *text = getenv("RECO_CANCELS");
    long count = text ? strtol(text, NULL, 10) : 500;
    return count > 0 ? (size_t)count : 500;
}

Test(cancel, a_storm_of_cancels_and_deadlines_leaves_nothing, .timeout = 900)
{
    open_house();
    (void)wait_quiet();
    struct coordinator_counters before;
    coordinator_counters(house.coordinator, &before);
    static struct seat seats[SEATS];
    for (size_t i = 0; i < SEATS; i++)
        cr_assert(eq(int, rpc_client_open(address, &seats[i].client, NULL), STATUS_OK));

    size_t wanted = wanted_cancels();
    for (size_t made = 0; made < wanted;) {
        struct seat *seat = &seats[random_u32() % SEATS];
        if (seat->stream) {
            stand_up(seat);
            continue;
        }
        enum api_method method = (enum api_method)(random_u32() % API_METHOD_COUNT);
        if (is_left_out(method))
            continue;
        sit_down(seat, method);
        made++;
    }
    for (size_t i = 0; i < SEATS; i++) {
        if (seats[i].stream)
            stand_up(&seats[i]);
        rpc_client_close(&seats[i].client);
    }

    // Label sets that someone was late for are made to their end: that is promised.
    cr_log_info("%zu cancels, quiet after %lld us", wanted, (long long)wait_quiet());
    // The nodes, here in the same process, may still end what nobody waits for any more.
    struct coordinator_counters after;
    int64_t until_us = clock_deadline_in_us(LONG_US);
    do
        coordinator_counters(house.coordinator, &after);
    while (after.arena_bytes > before.arena_bytes && !clock_passed(until_us));
    cr_expect(le(sz, after.arena_bytes, before.arena_bytes), "%zu bytes more in arenas",
              after.arena_bytes - before.arena_bytes);
    close_house();
}

// --- long work

#define MANY_LABELS 20000
#define TRIES 5 // the best counts

// What this process has worked, whatever else the machine does meanwhile.
static int64_t worked_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

// False when it has ended before it could be cancelled.
static bool ask_and_cancel(struct rpc_client *client, enum api_method method,
                           const struct buffer *message)
{
    const struct rpc_client_call call = {.path = api_method_info(method)->path,
                                         .deadline_us = DEADLINE_NONE};
    struct rpc_stream *stream = NULL;
    struct buffer reply = {0};
    size_t builds = 0;
    cr_assert(eq(int, rpc_stream_open(client, &call, &stream, NULL), STATUS_OK));
    cr_assert(
        eq(int, rpc_stream_send(stream, (struct bytes){message->data, message->count}), STATUS_OK));
    rpc_stream_close(stream);
    struct coordinator_counters counters = {.jobs = 0};
    int64_t limit_us = clock_deadline_in_us(LONG_US);
    while (counters.jobs == 0) { // until the long part has begun
        cr_assert(not(clock_passed(limit_us)));
        (void)alive(&builds);
        coordinator_counters(house.coordinator, &counters);
    }
    rpc_client_interrupt(client);
    enum status status = rpc_stream_finish(&stream, &reply, NULL);
    buffer_deinit(&reply);
    return status == STATUS_CANCELLED;
}

// The least work from a cancel of this call to silence, microseconds.
static int64_t silence_after(enum api_method method, const struct buffer *message)
{
    struct rpc_client *client = NULL;
    int64_t best_us = LONG_US;
    cr_assert(eq(int, rpc_client_open(address, &client, NULL), STATUS_OK));
    for (int i = 0; i < TRIES && best_us > QUIET_US; i++) {
        bool cancelled = ask_and_cancel(client, method, message);
        int64_t begun_us = worked_us();
        (void)wait_quiet();
        int64_t took_us = worked_us() - begun_us;
        if (cancelled && took_us < best_us)
            best_us = took_us;
    }
    rpc_client_close(&client);
    return best_us;
}

static struct text many_labels[MANY_LABELS];

static void make_many_labels(void)
{
    static char names[MANY_LABELS][16];
    for (size_t i = 0; i < MANY_LABELS; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "thing %zu", i);
        many_labels[i] = text_of(names[i]);
    }
}

Test(cancel, a_label_build_stops_when_nobody_waits_for_it_any_more)
{
    open_house();
    make_many_labels();
    static const struct text templates[] = {
        {"a {}", 4}, {"the {}", 6}, {"one {}", 6}, {"no {}", 5}};
    struct api_labels_request request = {.labels = many_labels,
                                         .label_count = MANY_LABELS,
                                         .templates = templates,
                                         .template_count = 4,
                                         .options = {.k = 10}};
    struct buffer message = {0};
    cr_assert(eq(int, api_encode_labels_request(&request, &message), STATUS_OK));
    cr_expect(lt(i64, silence_after(API_COMPILE_LABELS, &message), QUIET_US));
    buffer_deinit(&message);
    close_house();
}

Test(cancel, an_explanation_stops_and_lets_others_pass)
{
    open_house();
    make_many_labels();
    float row[DIMENSION];
    for (size_t i = 0; i < DIMENSION; i++)
        row[i] = (float)(random_u32() % 2000) / 1000.0f - 0.99f;
    struct api_labels_request labels = {.labels = many_labels,
                                        .label_count = MANY_LABELS,
                                        .options = {.k = 10, .fusion = API_FUSION_NONE}};
    struct api_answer compiled;
    struct reason why = {0};
    cr_assert(eq(int, house_compile(&house, &labels, &compiled, &why), STATUS_OK), "%s", why.text);
    struct api_query_request request = {
        .input = API_INPUT_EMBEDDING,
        .embedding = row,
        .embedding_count = DIMENSION,
        .options = {.k = 256, .fusion = API_FUSION_NONE},
        .label_set_id = compiled.label_set_id,
    };
    struct buffer message = {0};
    cr_assert(eq(int, api_encode_query(API_EXPLAIN, &request, &message), STATUS_OK));
    cr_expect(lt(i64, silence_after(API_EXPLAIN, &message), QUIET_US));
    buffer_deinit(&message);
    close_house();
}
