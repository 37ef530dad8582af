// SPDX-License-Identifier: Apache-2.0
// Goal: a stream answers each question as a call of its own would, bit for bit and in order, eight
// of them side by side; what is wrong with one ends no other; and whoever does not read, leaves or
// lets go costs nothing.
//
// Method: real nodes, the coordinator served over gRPC and called within the process, the same
// conversation both ways. Two gates, which the linker puts before the node's dispatch and the
// encoder (--wrap), hold what has come as far as there, until the test lets it go.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/thread.h"
#include "proto/bus/router.h"
#include "proto/rpc/rpc_client.h"
#include "shaders/models/clip.h"
#include "tests/e2e/coordinator_house.h"

#define RECORDS 1000
#define QUESTIONS 40
#define LONG_US 20000000

static struct house house;
static char address[32];

static void open_house(void)
{
    house_open(&house, 2, "127.0.0.1:0");
    house_fill(&house, "m", RECORDS);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%d", coordinator_port(house.coordinator));
}

// --- a stream, whichever way

struct talk {
    struct rpc_client *client; // NULL: within the process
    struct rpc_stream *remote;
    struct coordinator_stream *local;
};

static struct talk talk_to(enum api_method method, bool by_rpc, int64_t deadline_us)
{
    struct talk talk = {0};
    struct reason why = {0};
    if (!by_rpc) {
        cr_assert(eq(int, coordinator_stream_open(house.coordinator, method, &talk.local, &why),
                     STATUS_OK));
        return talk;
    }
    const struct rpc_client_call call = {
        .path = api_method_info(method)->path, .deadline_us = deadline_us, .server_streams = true};
    cr_assert(eq(int, rpc_client_open(address, &talk.client, &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(int, rpc_stream_open(talk.client, &call, &talk.remote, &why), STATUS_OK));
    return talk;
}

static enum status say(struct talk *talk, const struct buffer *message)
{
    struct bytes bytes = {message->data, message->count};
    return talk->local ? coordinator_stream_send(talk->local, bytes)
                       : rpc_stream_send(talk->remote, bytes);
}

static void say_no_more(struct talk *talk)
{
    if (talk->local)
        coordinator_stream_close(talk->local);
    else
        rpc_stream_close(talk->remote);
}

// The next answer, in the house's arena; false at the end.
static bool hear(struct talk *talk, struct api_stream_reply *out)
{
    struct buffer message = {0};
    struct reason why = {0};
    bool ended = false;
    enum status status = talk->local ? coordinator_stream_receive(talk->local, &message, &ended)
                                     : rpc_stream_receive(talk->remote, &message, &ended);
    cr_assert(eq(int, status, STATUS_OK));
    if (!ended) {
        uint8_t *copy = arena_alloc(house.arena, message.count + 1);
        memcpy(copy, message.data, message.count);
        cr_assert(
            eq(int,
               api_decode_stream_reply((struct bytes){copy, message.count}, house.arena, out, &why),
               STATUS_OK),
            "%s: %s", why.field, why.text);
    }
    buffer_deinit(&message);
    return !ended;
}

static enum status talk_end(struct talk *talk, struct reason *why)
{
    enum status status = talk->local ? coordinator_stream_finish(&talk->local, NULL, why)
                                     : rpc_stream_finish(&talk->remote, NULL, why);
    rpc_client_close(&talk->client);
    return status;
}

static void expect_end(struct talk *talk)
{
    struct api_stream_reply reply;
    struct reason why = {0};
    cr_assert(not(hear(talk, &reply)));
    cr_assert(eq(int, talk_end(talk, &why), STATUS_OK), "%s", why.text);
}

// --- questions

static uint64_t tag_of(uint32_t i)
{
    return (i + 1) * 0x9e3779b97f4a7c15u; // of ten bytes on the wire, and none alike
}

static void say_bytes(struct talk *talk, uint64_t tag, struct bytes question)
{
    struct buffer message = {0};
    const struct api_stream_request request = {tag, question};
    cr_assert(eq(int, api_encode_stream_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, say(talk, &message), STATUS_OK));
    buffer_deinit(&message);
}

// As which method the question of a stream is encoded and its answer decoded.
static enum api_method single(enum api_method stream)
{
    return stream == API_SEARCH_STREAM     ? API_SEARCH
           : stream == API_CLASSIFY_STREAM ? API_CLASSIFY
                                           : API_REFINE_STREAM;
}

static void ask(struct talk *talk, enum api_method stream, uint64_t tag,
                const struct api_query_request *request)
{
    struct buffer question = {0};
    cr_assert(eq(int, api_encode_query(single(stream), request, &question), STATUS_OK));
    say_bytes(talk, tag, (struct bytes){question.data, question.count});
    buffer_deinit(&question);
}

static struct api_answer expect_answer(struct talk *talk, enum api_method stream, uint64_t tag)
{
    struct api_stream_reply reply;
    struct api_answer answer;
    struct reason why = {0};
    cr_assert(hear(talk, &reply));
    cr_assert(eq(int, reply.status, STATUS_OK), "%s: %s", reply.why.field, reply.why.text);
    cr_expect(eq(u64, reply.tag, tag));
    cr_assert(eq(int, api_decode_answer(single(stream), reply.reply, house.arena, &answer, &why),
                 STATUS_OK));
    return answer;
}

static void expect_error(struct talk *talk, uint64_t tag, enum status status, const char *field)
{
    struct api_stream_reply reply;
    cr_assert(hear(talk, &reply));
    cr_expect(eq(u64, reply.tag, tag));
    cr_expect(eq(int, reply.status, status), "%s: %s", reply.why.field, reply.why.text);
    cr_expect(eq(str, reply.why.field, (char *)field), "%s", reply.why.text);
    cr_expect(gt(sz, strlen(reply.why.text), 0));
}

static struct api_query_request question_of(uint32_t i, float embedding[HOUSE_DIMENSION])
{
    struct api_query_request request = house_question(i * 7, embedding);
    request.options.k = 1 + i % 20;
    request.options.fusion = i % 2 ? API_FUSION_MEAN : API_FUSION_WEIGHTED;
    return request;
}

static void wait_nothing_is_left(void)
{
    int64_t limit_us = clock_deadline_in_us(LONG_US);
    struct coordinator_counters left = {.calls = 1};
    while (left.calls + left.rpc_calls + left.streams + left.items + left.stream_bytes +
           left.queries + left.jobs + left.requests) {
        cr_assert(not(clock_passed(limit_us)),
                  "calls %zu rpc %zu streams %zu items %zu queries %zu", left.calls, left.rpc_calls,
                  left.streams, left.items, left.queries);
        struct buffer none = {0};
        struct bytes ignored;
        // A call turns the loop, after which the figures are new.
        cr_assert(eq(int, house_call(&house, API_LIST_MODELS, &none, &ignored, NULL), STATUS_OK));
        coordinator_counters(house.coordinator, &left);
    }
}

// --- answers

static void conversation(enum api_method stream, enum api_method alone, bool by_rpc)
{
    struct talk talk = talk_to(stream, by_rpc, DEADLINE_NONE);
    float embedding[HOUSE_DIMENSION];
    struct api_answer expected;
    struct reason why = {0};
    uint32_t asked = 0;
    for (uint32_t i = 0; i < QUESTIONS; i++) {
        for (; asked < QUESTIONS && asked < i + API_STREAM_ITEMS; asked++) {
            struct api_query_request request = question_of(asked, embedding);
            ask(&talk, stream, tag_of(asked), &request);
        }
        if (asked == QUESTIONS)
            say_no_more(&talk);
        struct api_answer answer = expect_answer(&talk, stream, tag_of(i));
        struct api_query_request request = question_of(i, embedding);
        cr_assert(eq(int, house_query(&house, alone, &request, &expected, &why), STATUS_OK));
        cr_expect(house_same(&expected, &answer), "question %u", i);
    }
    expect_end(&talk);
}

Test(stream, answers_are_those_of_single_calls_in_the_order_of_the_questions)
{
    open_house();
    for (int by_rpc = 0; by_rpc < 2; by_rpc++) {
        conversation(API_SEARCH_STREAM, API_SEARCH, by_rpc);
        conversation(API_REFINE_STREAM, API_REFINE_EMBEDDING, by_rpc);
    }
    wait_nothing_is_left();
    house_close(&house);
}

static const struct text words[] = {{"anchor", 6}, {"", 0}, {"a red apple on a tree", 21}};

static void say_word(struct talk *talk, uint32_t i)
{
    struct buffer message = {0};
    const struct api_encode_stream_request request = {
        .tag = tag_of(i), .input = API_INPUT_TEXT, .text = words[i % 3]};
    cr_assert(eq(int, api_encode_encode_stream_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, say(talk, &message), STATUS_OK));
    buffer_deinit(&message);
}

static struct api_encode_reply encode_alone(void)
{
    struct buffer message = {0};
    struct bytes bytes;
    struct api_encode_reply reply;
    const struct api_texts_request texts = {words, 3};
    cr_assert(eq(int, api_encode_texts_request(&texts, &message), STATUS_OK));
    cr_assert(eq(int, house_call(&house, API_ENCODE_TEXT, &message, &bytes, NULL), STATUS_OK));
    cr_assert(eq(int, api_decode_encode_reply(bytes, house.arena, &reply, NULL), STATUS_OK));
    return reply;
}

Test(stream, embeddings_are_those_of_single_calls)
{
    open_house();
    struct api_encode_reply alone = encode_alone();
    size_t bytes = alone.dimension * sizeof(float);
    for (int by_rpc = 0; by_rpc < 2; by_rpc++) {
        struct talk talk = talk_to(API_ENCODE_STREAM, by_rpc, DEADLINE_NONE);
        for (uint32_t i = 0; i < 6; i++)
            say_word(&talk, i);
        struct buffer nothing = {0};
        const struct api_encode_stream_request none = {.tag = 6};
        cr_assert(eq(int, api_encode_encode_stream_request(&none, &nothing), STATUS_OK));
        cr_assert(eq(int, say(&talk, &nothing), STATUS_OK));
        buffer_deinit(&nothing);
        const struct api_encode_stream_request picture = {
            .tag = 7, .input = API_INPUT_IMAGE, .image = {(const uint8_t *)"no picture", 10}};
        cr_assert(eq(int, api_encode_encode_stream_request(&picture, &nothing), STATUS_OK));
        cr_assert(eq(int, say(&talk, &nothing), STATUS_OK));
        buffer_deinit(&nothing);
        say_no_more(&talk);
        for (uint32_t i = 0; i < 6; i++) {
            struct api_stream_reply reply;
            struct api_encode_reply one;
            cr_assert(hear(&talk, &reply));
            cr_expect(eq(u64, reply.tag, tag_of(i)));
            cr_assert(eq(int, reply.status, STATUS_OK), "%s", reply.why.text);
            cr_assert(
                eq(int, api_decode_encode_reply(reply.reply, house.arena, &one, NULL), STATUS_OK));
            cr_assert(eq(sz, one.float_count, alone.dimension));
            cr_expect(memcmp(one.embeddings, alone.embeddings + i % 3 * alone.dimension, bytes) ==
                      0);
        }
        expect_error(&talk, 6, STATUS_INVALID, "input");
        expect_error(&talk, 7, STATUS_INVALID, "image");
        expect_end(&talk);
    }
    wait_nothing_is_left();
    house_close(&house);
}

Test(stream, a_bad_question_is_told_in_its_answer_and_ends_no_other)
{
    open_house();
    for (int by_rpc = 0; by_rpc < 2; by_rpc++) {
        struct talk talk = talk_to(API_SEARCH_STREAM, by_rpc, DEADLINE_NONE);
        float embedding[HOUSE_DIMENSION];
        struct api_query_request good = question_of(1, embedding);
        struct api_query_request bad = good;
        ask(&talk, API_SEARCH_STREAM, 1, &good);
        bad.options.k = 0;
        ask(&talk, API_SEARCH_STREAM, 2, &bad);
        bad.options.k = 257;
        ask(&talk, API_SEARCH_STREAM, 3, &bad);
        bad = good;
        bad.options.memory = text_of("nowhere");
        ask(&talk, API_SEARCH_STREAM, 4, &bad);
        bad = good;
        bad.embedding_count = HOUSE_DIMENSION - 1;
        ask(&talk, API_SEARCH_STREAM, 5, &bad);
        say_bytes(&talk, 6, (struct bytes){(const uint8_t *)"\x07nonsense", 9});
        say_bytes(&talk, 7, (struct bytes){NULL, 0}); // a tag without a question
        ask(&talk, API_SEARCH_STREAM, 8, &good);
        struct api_answer first = expect_answer(&talk, API_SEARCH_STREAM, 1);
        expect_error(&talk, 2, STATUS_INVALID, "options.k");
        expect_error(&talk, 3, STATUS_INVALID, "options.k");
        expect_error(&talk, 4, STATUS_NOT_FOUND, "memory");
        expect_error(&talk, 5, STATUS_INVALID, "embedding");
        expect_error(&talk, 6, STATUS_INVALID, "");
        expect_error(&talk, 7, STATUS_INVALID, "input");
        struct api_answer last = expect_answer(&talk, API_SEARCH_STREAM, 8);
        cr_expect(house_same(&first, &last));

        struct buffer damaged = {0}; // what is not even a stream's message
        cr_assert(eq(int, buffer_append(&damaged, "\x08\x09\x12\x7f!", 5), STATUS_OK));
        cr_assert(eq(int, say(&talk, &damaged), STATUS_OK));
        buffer_deinit(&damaged);
        expect_error(&talk, 9, STATUS_INVALID, "");
        say_no_more(&talk);
        expect_end(&talk);
    }
    wait_nothing_is_left();
    house_close(&house);
}

Test(stream, an_empty_stream_ends_well)
{
    open_house();
    for (int by_rpc = 0; by_rpc < 2; by_rpc++) {
        struct talk talk = talk_to(API_CLASSIFY_STREAM, by_rpc, DEADLINE_NONE);
        say_no_more(&talk);
        expect_end(&talk);
    }
    house_close(&house);
}

// --- side by side

#define HELD_MAX 64
#define LINE 12 // questions that are sent at once, more than may be under way

// Searches that have come to the node, in the order of the questions.
static struct {
    pthread_mutex_t lock; // of all; the node is called under it
    pthread_cond_t opened;
    bool is_closed;
    void *node;
    struct router_request *held[HELD_MAX]; // NULL: let go
    size_t came;
    size_t waiting;
    size_t waiting_most;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER};

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): names that the linker
// gives
void __real_dispatch_request(void *context, struct router_request *request);
void __wrap_dispatch_request(void *context, struct router_request *request);

void __wrap_dispatch_request(void *context, struct router_request *request)
{
    (void)pthread_mutex_lock(&gate.lock);
    if (gate.is_closed && request->type == SHARD_SEARCH) {
        cr_assert(lt(sz, gate.came, HELD_MAX));
        gate.node = context;
        gate.held[gate.came++] = request;
        gate.waiting++;
        if (gate.waiting > gate.waiting_most)
            gate.waiting_most = gate.waiting;
    } else {
        __real_dispatch_request(context, request);
    }
    (void)pthread_mutex_unlock(&gate.lock);
}

enum status __real_clip_encode_texts(struct clip *clip, const struct text *texts, size_t count,
                                     float *embeddings, struct reason *why);
enum status __wrap_clip_encode_texts(struct clip *clip, const struct text *texts, size_t count,
                                     float *embeddings, struct reason *why);

enum status __wrap_clip_encode_texts(struct clip *clip, const struct text *texts, size_t count,
                                     float *embeddings, struct reason *why)
{
    (void)pthread_mutex_lock(&gate.lock);
    while (gate.is_closed)
        (void)pthread_cond_wait(&gate.opened, &gate.lock);
    (void)pthread_mutex_unlock(&gate.lock);
    return __real_clip_encode_texts(clip, texts, count, embeddings, why);
}

static void gate_close(void)
{
    (void)pthread_mutex_lock(&gate.lock);
    gate.is_closed = true;
    gate.came = gate.waiting = gate.waiting_most = 0;
    (void)pthread_mutex_unlock(&gate.lock);
}

// With the lock held.
static void let_go(size_t place)
{
    struct router_request *request = gate.held[place];
    gate.held[place] = NULL;
    gate.waiting -= request ? 1 : 0;
    if (request)
        __real_dispatch_request(gate.node, request);
}

static void gate_let_go(size_t place)
{
    (void)pthread_mutex_lock(&gate.lock);
    let_go(place);
    (void)pthread_mutex_unlock(&gate.lock);
}

// Opens it, and returns the largest number that waited there at one time.
static size_t gate_open(void)
{
    (void)pthread_mutex_lock(&gate.lock);
    gate.is_closed = false;
    for (size_t i = 0; i < gate.came; i++)
        let_go(i);
    const size_t most = gate.waiting_most;
    (void)pthread_cond_broadcast(&gate.opened);
    (void)pthread_mutex_unlock(&gate.lock);
    return most;
}

// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)

static size_t gate_waiting(void)
{
    (void)pthread_mutex_lock(&gate.lock);
    const size_t waiting = gate.waiting;
    (void)pthread_mutex_unlock(&gate.lock);
    return waiting;
}

// Until so many questions are being answered and so many of their searches are at the gate.
static void wait_under_way(size_t items, size_t searches)
{
    const int64_t limit_us = clock_deadline_in_us(LONG_US);
    struct coordinator_counters counters = {.items = SIZE_MAX};
    while (counters.items != items || gate_waiting() != searches) {
        cr_assert(not(clock_passed(limit_us)), "%zu items, %zu searches; expected %zu, %zu",
                  counters.items, gate_waiting(), items, searches);
        struct buffer none = {0};
        struct bytes ignored;
        cr_assert(eq(int, house_call(&house, API_LIST_MODELS, &none, &ignored, NULL), STATUS_OK));
        coordinator_counters(house.coordinator, &counters);
    }
}

static struct api_query_request line_question(enum api_method stream, uint32_t i, float *embedding)
{
    static const struct text labels[] = {{"anchor", 6}, {"apple", 5}, {"penguin", 7}};
    if (stream != API_CLASSIFY_STREAM)
        return question_of(i, embedding);
    house_model_embedding(1000 + i, embedding);
    return (struct api_query_request){
        .input = API_INPUT_EMBEDDING,
        .embedding = embedding,
        .embedding_count = HOUSE_MODEL_DIMENSION,
        .options = {.k = 1 + i, .fusion = API_FUSION_WEIGHTED},
        .labels = labels,
        .label_count = 3,
    };
}

// The first eight all wait at the node; it answers the last of them first. Their answers come in
// the order of the questions all the same, and only then the others begin.
static void line_up(enum api_method stream, enum api_method alone, bool by_rpc)
{
    const uint32_t count = by_rpc ? LINE : API_STREAM_ITEMS; // what a send must not wait for
    float embedding[HOUSE_MODEL_DIMENSION];
    struct api_answer *expected = arena_alloc_array(house.arena, LINE, sizeof(*expected));
    struct reason why = {0};
    for (uint32_t i = 0; i < count; i++) {
        const struct api_query_request request = line_question(stream, i, embedding);
        cr_assert(eq(int, house_query(&house, alone, &request, &expected[i], &why), STATUS_OK),
                  "%s", why.text);
    }
    struct talk talk = talk_to(stream, by_rpc, DEADLINE_NONE);
    gate_close();
    for (uint32_t i = 0; i < count; i++) {
        const struct api_query_request request = line_question(stream, i, embedding);
        ask(&talk, stream, tag_of(i), &request);
    }
    wait_under_way(API_STREAM_ITEMS, API_STREAM_ITEMS);
    for (size_t place = API_STREAM_ITEMS - 1; place > 0; place--) {
        gate_let_go(place);
        wait_under_way(place, place); // none is begun in the place of one whose answer waits
    }
    cr_expect(eq(sz, gate_open(), API_STREAM_ITEMS));
    say_no_more(&talk);
    for (uint32_t i = 0; i < count; i++) {
        const struct api_answer answer = expect_answer(&talk, stream, tag_of(i));
        cr_expect(house_same(&expected[i], &answer), "question %u", i);
    }
    expect_end(&talk);
}

Test(stream, eight_questions_run_side_by_side_and_are_answered_in_order)
{
    house_open(&house, 1, "127.0.0.1:0");
    house_fill(&house, "m", RECORDS);
    house_fill_model_space(&house, 200);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%d", coordinator_port(house.coordinator));
    for (int by_rpc = 1; by_rpc >= 0; by_rpc--) { // in the process a send may wait: the last one
        line_up(API_SEARCH_STREAM, API_SEARCH, by_rpc);
        line_up(API_REFINE_STREAM, API_REFINE_EMBEDDING, by_rpc);
        line_up(API_CLASSIFY_STREAM, API_CLASSIFY, by_rpc);
    }
    wait_nothing_is_left();
    house_close(&house);
}

Test(stream, eight_texts_wait_for_the_encoder_together)
{
    open_house();
    for (int by_rpc = 1; by_rpc >= 0; by_rpc--) { // in the process a send may wait: the last one
        const uint32_t count = by_rpc ? LINE : API_STREAM_ITEMS;
        struct talk talk = talk_to(API_ENCODE_STREAM, by_rpc, DEADLINE_NONE);
        gate_close();
        for (uint32_t i = 0; i < count; i++) {
            if (i == 1) // has nothing to wait for, but others before it
                say_bytes(&talk, tag_of(i), (struct bytes){NULL, 0});
            else
                say_word(&talk, i);
        }
        wait_under_way(API_STREAM_ITEMS - 1, 0);
        struct coordinator_counters counters;
        coordinator_counters(house.coordinator, &counters);
        cr_expect(eq(sz, counters.jobs, API_STREAM_ITEMS - 1));
        (void)gate_open();
        say_no_more(&talk);
        for (uint32_t i = 0; i < count; i++) {
            struct api_stream_reply reply;
            if (i == 1) {
                expect_error(&talk, tag_of(i), STATUS_INVALID, "input");
                continue;
            }
            cr_assert(hear(&talk, &reply));
            cr_expect(eq(u64, reply.tag, tag_of(i)));
            cr_expect(eq(int, reply.status, STATUS_OK), "%s", reply.why.text);
        }
        expect_end(&talk);
    }
    wait_nothing_is_left();
    house_close(&house);
}

// --- who does not read, leaves or lets go

// A question of 128 KiB, with an answer of about 8 KiB.
static void make_large(struct api_query_request *request, float embedding[HOUSE_DIMENSION])
{
    static char keys[256][KEY_BYTES_MAX];
    static struct text texts[256];
    *request = house_question(3, embedding);
    for (size_t i = 0; i < 256; i++) {
        memset(keys[i], 'a', sizeof(keys[i]));
        (void)snprintf(keys[i], 8, "%07zu", i);
        keys[i][7] = '-';
        texts[i] = (struct text){keys[i], sizeof(keys[i])};
    }
    request->options.k = 200;
    request->options.exclude_keys = texts;
    request->options.exclude_count = 256;
}

static size_t resident_kib(void)
{
    char line[256];
    size_t kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    cr_assert(ne(ptr, file, NULL));
    while (fgets(line, sizeof(line), file))
        if (sscanf(line, "VmRSS: %zu", &kib) == 1)
            break;
    (void)fclose(file);
    return kib;
}

#define UNREAD_MAX 2000 // questions; their answers are far more than what the connection holds

Test(stream, a_client_that_does_not_read_is_not_read_either)
{
    open_house();
    struct talk talk = talk_to(API_SEARCH_STREAM, true, clock_deadline_in_us(2000000));
    float embedding[HOUSE_DIMENSION];
    struct api_query_request request;
    make_large(&request, embedding);
    struct buffer question = {0};
    struct buffer message = {0};
    cr_assert(eq(int, api_encode_query(API_SEARCH, &request, &question), STATUS_OK));
    const struct api_stream_request outer = {1, {question.data, question.count}};
    cr_assert(eq(int, api_encode_stream_request(&outer, &message), STATUS_OK));

    size_t before_kib = resident_kib();
    size_t sent = 0;
    while (sent <= UNREAD_MAX && say(&talk, &message) == STATUS_OK)
        sent++;
    cr_expect(lt(sz, sent, UNREAD_MAX));
#ifndef __SANITIZE_ADDRESS__ // which keeps what was freed, up to 256 MiB of it
    cr_expect(lt(sz, resident_kib(), before_kib + ((size_t)48 << 10)));
#else
    (void)before_kib;
#endif
    buffer_deinit(&question);
    buffer_deinit(&message);
    struct reason why = {0};
    enum status status = talk_end(&talk, &why);
    cr_expect(status == STATUS_DEADLINE || status == STATUS_CANCELLED, "%d", (int)status);
    wait_nothing_is_left();
    house_close(&house);
}

Test(stream, at_most_eight_questions_are_under_way)
{
    open_house();
    struct talk talk = talk_to(API_SEARCH_STREAM, false, DEADLINE_NONE);
    float embedding[HOUSE_DIMENSION];
    struct api_query_request request = question_of(1, embedding);
    for (uint32_t i = 0; i < API_STREAM_ITEMS; i++)
        ask(&talk, API_SEARCH_STREAM, i, &request);
    // All are answered, and keep their places: nobody has taken an answer.
    struct coordinator_counters counters = {.items = 1};
    int64_t limit_us = clock_deadline_in_us(LONG_US);
    while (counters.items > 0 || counters.stream_bytes == 0) {
        struct buffer none = {0};
        struct bytes ignored;
        cr_assert(not(clock_passed(limit_us)));
        cr_assert(eq(int, house_call(&house, API_LIST_MODELS, &none, &ignored, NULL), STATUS_OK));
        coordinator_counters(house.coordinator, &counters);
    }
    cr_expect(eq(sz, counters.streams, 1));
    for (uint32_t i = 0; i < API_STREAM_ITEMS; i++)
        (void)expect_answer(&talk, API_SEARCH_STREAM, i);
    ask(&talk, API_SEARCH_STREAM, 99, &request);
    (void)expect_answer(&talk, API_SEARCH_STREAM, 99);
    cr_expect(eq(int, talk_end(&talk, NULL), STATUS_CANCELLED)); // before the end
    wait_nothing_is_left();
    house_close(&house);
}

Test(stream, who_leaves_in_the_middle_leaves_nothing_behind)
{
    open_house();
    static const enum api_method methods[] = {API_SEARCH_STREAM, API_REFINE_STREAM};
    for (int round = 0; round < 20; round++) {
        enum api_method method = methods[round % 2];
        struct talk talk = talk_to(method, round % 4 < 2, DEADLINE_NONE);
        float embedding[HOUSE_DIMENSION];
        struct api_query_request request = question_of((uint32_t)round, embedding);
        for (int i = 0; i < round % 9; i++)
            ask(&talk, method, 1, &request);
        for (int i = 0; i < round % 9 / 2; i++)
            (void)expect_answer(&talk, method, 1);
        bool closed = round % 3 == 0;
        if (closed)
            say_no_more(&talk);
        enum status status = talk_end(&talk, NULL);
        bool may_be_over = closed && round % 9 == 0; // all that was asked has been answered
        cr_expect(status == STATUS_CANCELLED || may_be_over, "%d", (int)status);
    }
    wait_nothing_is_left();
    house_close(&house);
}

Test(stream, more_streams_than_allowed_are_told_to_come_back)
{
    open_house();
    struct talk talks[64];
    for (size_t i = 0; i < 64; i++)
        talks[i] = talk_to(API_SEARCH_STREAM, false, DEADLINE_NONE);
    struct talk late = talk_to(API_SEARCH_STREAM, true, DEADLINE_NONE);
    struct api_stream_reply reply;
    struct reason why = {0};
    cr_assert(not(hear(&late, &reply)));
    cr_expect(eq(int, talk_end(&late, &why), STATUS_EXHAUSTED));
    cr_expect(ne(ptr, strstr(why.text, "64 streams"), NULL), "%s", why.text);
    for (size_t i = 0; i < 64; i++)
        cr_expect(eq(int, talk_end(&talks[i], NULL), STATUS_CANCELLED));
    wait_nothing_is_left();
    house_close(&house);
}

// --- stopping

static void stop_with_grace(struct thread *self, void *context)
{
    const int64_t *grace_us = context;
    thread_ready(self, STATUS_OK);
    coordinator_stop(&house.coordinator, *grace_us);
}

Test(stream, a_server_that_stops_answers_what_it_has_and_tells_its_streams_after_the_grace)
{
    open_house();
    struct talk talk = talk_to(API_SEARCH_STREAM, true, DEADLINE_NONE);
    float embedding[HOUSE_DIMENSION];
    struct api_query_request request = question_of(1, embedding);
    ask(&talk, API_SEARCH_STREAM, 1, &request);
    (void)expect_answer(&talk, API_SEARCH_STREAM, 1); // the stream is open for sure

    int64_t grace_us = 1000000;
    int64_t begun_us = clock_now_us();
    struct thread *stopper = NULL;
    cr_assert(eq(int, thread_start("stopper", stop_with_grace, &grace_us, &stopper), STATUS_OK));
    struct rpc_client *client = NULL;
    struct reason why = {0};
    cr_assert(eq(int, rpc_client_open(address, &client, &why), STATUS_OK));
    enum status health = STATUS_OK;
    while (health == STATUS_OK)
        health = rpc_client_health(client, clock_deadline_in_us(LONG_US), &why);
    cr_expect(eq(int, health, STATUS_UNAVAILABLE));
    cr_expect(ne(ptr, strstr(why.text, "is not serving"), NULL), "%s", why.text);
    struct buffer reply = {0};
    const struct rpc_client_call list = {.path = api_method_info(API_LIST_MODELS)->path,
                                         .deadline_us = clock_deadline_in_us(LONG_US)};
    cr_expect(eq(int, rpc_client_unary(client, &list, (struct bytes){0}, &reply, &why),
                 STATUS_UNAVAILABLE));
    rpc_client_close(&client);

    ask(&talk, API_SEARCH_STREAM, 2, &request); // a stream that is open goes on
    (void)expect_answer(&talk, API_SEARCH_STREAM, 2);
    struct api_stream_reply none;
    cr_assert(not(hear(&talk, &none)));
    cr_expect(ge(i64, clock_now_us() - begun_us, grace_us));
    cr_expect(eq(int, talk_end(&talk, &why), STATUS_UNAVAILABLE));
    cr_expect(eq(str, why.text, (char *)"the server is stopping"));
    thread_join(&stopper);
    cr_expect(lt(i64, clock_now_us() - begun_us, grace_us + 3000000));
    house_close(&house);
}
