// SPDX-License-Identifier: Apache-2.0
// Goal: reco-coordinator and two reco-shard processes serve over gRPC what a coordinator inside the
// process answers, bit for bit; it drains on SIGTERM; it refuses wrong usage and a held directory.
//
// Method: the built programs, loopback ports picked by the kernel, our own gRPC client.

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "coordinator/datadir.h"
#include "proto/base/clock.h"
#include "proto/base/thread.h"
#include "proto/rpc/rpc_client.h"
#include "tests/e2e/coordinator_house.h"
#include "tests/support/patience.h"

#define LINE 512

struct program {
    pid_t pid;
    FILE *out;
};

static struct program start(const char *const *arguments)
{
    int ends[2];
    cr_assert(eq(int, pipe(ends), 0));
    struct program program = {.pid = fork()};
    cr_assert(ge(int, program.pid, 0));
    if (program.pid == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        (void)!freopen("/dev/null", "w", stderr);
        (void)execv(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    (void)close(ends[1]);
    program.out = fdopen(ends[0], "r");
    return program;
}

// Waits for the end and gives the exit status.
static int ended(struct program *program)
{
    int state = 0;
    cr_assert(eq(int, waitpid(program->pid, &state, 0), program->pid));
    (void)fclose(program->out);
    return WIFEXITED(state) ? WEXITSTATUS(state) : -WTERMSIG(state);
}

static int run(const char *const *arguments)
{
    struct program program = start(arguments);
    return ended(&program);
}

struct cluster {
    char root[64];
    struct program shards[2];
    struct program coordinator;
    char address[LINE];
    unsigned short http_port; // of open_alone()
    struct rpc_client *client;
};

static char coordinator_path[LINE];
static char shard_path[LINE];

static void find_programs(void)
{
    (void)snprintf(coordinator_path, LINE, "%s/bin/reco-coordinator", RECO_BINARY_DIR);
    (void)snprintf(shard_path, LINE, "%s/bin/reco-shard", RECO_BINARY_DIR);
}

TestSuite(program, .init = find_programs, .timeout = 120);

static void start_shard(struct cluster *cluster, int index, char pair[LINE])
{
    char data[LINE];
    char keys[LINE];
    char number[16];
    char line[LINE];
    char query[LINE / 4];
    char bulk[LINE / 4];
    (void)snprintf(data, sizeof(data), "%s/node-%d", cluster->root, index);
    (void)snprintf(keys, sizeof(keys), "%s/keys", cluster->root);
    (void)snprintf(number, sizeof(number), "%d", index);
    const char *const arguments[] = {shard_path,
                                     "--data",
                                     data,
                                     "--keys",
                                     keys,
                                     "--index",
                                     number,
                                     "--query",
                                     "tcp://127.0.0.1:0",
                                     "--bulk",
                                     "tcp://127.0.0.1:0",
                                     "--die-with-parent",
                                     NULL};
    cluster->shards[index] = start(arguments);
    cr_assert(ne(ptr, fgets(line, sizeof(line), cluster->shards[index].out), NULL));
    cr_assert(eq(int, sscanf(line, "ready %127s %127s", query, bulk), 2), "%s", line);
    (void)snprintf(pair, LINE, "%s,%s", query, bulk);
}

static void open_cluster(struct cluster *cluster)
{
    struct bus_keys keys;
    struct datadir *datadir = NULL;
    char path[LINE];
    char pairs[2][LINE];
    char line[LINE];
    (void)snprintf(cluster->root, sizeof(cluster->root), "/tmp/reco-program-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(cluster->root), NULL));
    struct datadir_params params = {.path = cluster->root, .create = true, .nodes = 2};
    cr_assert(eq(int, datadir_open(&params, &datadir, NULL), STATUS_OK));
    datadir_close(&datadir);
    (void)snprintf(path, sizeof(path), "%s/keys", cluster->root);
    cr_assert(eq(int, bus_keys_load(path, true, &keys, NULL), STATUS_OK));
    for (int i = 0; i < 2; i++)
        start_shard(cluster, i, pairs[i]);
    const char *const arguments[] = {coordinator_path,
                                     "--data",
                                     cluster->root,
                                     "--listen",
                                     "127.0.0.1:0",
                                     "--node",
                                     pairs[0],
                                     "--node",
                                     pairs[1],
                                     "--threads",
                                     "1",
                                     "--die-with-parent",
                                     NULL};
    cluster->coordinator = start(arguments);
    cr_assert(ne(ptr, fgets(line, sizeof(line), cluster->coordinator.out), NULL));
    cr_assert(eq(int, sscanf(line, "ready %255s", cluster->address), 1), "%s", line);
    cr_assert(eq(int, rpc_client_open(cluster->address, &cluster->client, NULL), STATUS_OK));
}

// A coordinator without nodes, with a side port and one compute thread.
static void open_alone(struct cluster *cluster)
{
    char line[LINE];
    const char *const arguments[] = {coordinator_path, "--listen",  "127.0.0.1:0", "--http",
                                     "127.0.0.1:0",    "--threads", "1",           NULL};
    cluster->coordinator = start(arguments);
    cr_assert(ne(ptr, fgets(line, sizeof(line), cluster->coordinator.out), NULL));
    cr_assert(eq(int, sscanf(line, "ready %255s", cluster->address), 1));
    cr_assert(ne(ptr, fgets(line, sizeof(line), cluster->coordinator.out), NULL));
    cr_assert(eq(int, sscanf(line, "http 127.0.0.1:%hu", &cluster->http_port), 1));
    cr_assert(eq(int, rpc_client_open(cluster->address, &cluster->client, NULL), STATUS_OK));
    cr_assert(eq(int, rpc_client_health(cluster->client, clock_deadline_in_us(10000000), NULL),
                 STATUS_OK)); // connected
}

static void close_alone(struct cluster *cluster)
{
    rpc_client_close(&cluster->client);
    (void)kill(cluster->coordinator.pid, SIGTERM);
    cr_expect(eq(int, ended(&cluster->coordinator), 0));
}

// How many calls are under way, as the metrics say; -1 when they cannot be asked.
static int calls_under_way(const struct cluster *cluster)
{
    static const char question[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
                                   "Connection: close\r\n\r\n";
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(cluster->http_port),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int count = -1;
    char line[LINE];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
        send(fd, question, sizeof(question) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(question) - 1) {
        FILE *answer = fdopen(fd, "r");
        while (fgets(line, sizeof(line), answer))
            (void)sscanf(line, "reco_grpc_inflight %d", &count);
        (void)fclose(answer);
    } else {
        (void)close(fd);
    }
    return count;
}

static bool wait_calls(const struct cluster *cluster, int count)
{
    const int64_t limit_us = clock_deadline_in_us(PATIENCE_US);
    while (calls_under_way(cluster) != count)
        if (!patience_lasts(limit_us))
            return false;
    return true;
}

static void close_cluster(struct cluster *cluster)
{
    char command[96];
    rpc_client_close(&cluster->client);
    (void)kill(cluster->coordinator.pid, SIGTERM);
    cr_expect(eq(int, ended(&cluster->coordinator), 0));
    for (int i = 0; i < 2; i++) {
        (void)kill(cluster->shards[i].pid, SIGTERM);
        cr_expect(eq(int, ended(&cluster->shards[i]), 0));
    }
    (void)snprintf(command, sizeof(command), "rm -rf %s", cluster->root);
    cr_assert(eq(int, system(command), 0));
}

static enum status call(struct cluster *cluster, enum api_method method, struct buffer *request,
                        struct buffer *reply, struct reason *why)
{
    struct rpc_client_call params = {.path = api_method_info(method)->path,
                                     .request_id = text_of("e2e"),
                                     .deadline_us = clock_deadline_in_us(30000000)};
    enum status status = rpc_client_unary(
        cluster->client, &params, (struct bytes){request->data, request->count}, reply, why);
    buffer_deinit(request);
    return status;
}

// What the coordinator knows of a node.
static struct node_state {
    bool up;
    uint32_t in_flight;
} ask_node(struct cluster *cluster, uint32_t node)
{
    struct buffer request = {0};
    struct buffer reply = {0};
    struct api_node_list list;
    struct arena *arena = arena_create(1 << 20);
    cr_assert(eq(int, call(cluster, API_CLUSTER_LIST_NODES, &request, &reply, NULL), STATUS_OK));
    cr_assert(eq(int,
                 api_decode_node_list((struct bytes){reply.data, reply.count}, arena, &list, NULL),
                 STATUS_OK));
    cr_assert(eq(sz, list.count, 2));
    struct node_state state = {.up = text_equal(list.nodes[node].state, text_of("up")),
                               .in_flight = list.nodes[node].in_flight};
    arena_destroy(&arena);
    buffer_deinit(&reply);
    return state;
}

static void wait_node(struct cluster *cluster, uint32_t node, bool up)
{
    const int64_t limit_us = clock_deadline_in_us(PATIENCE_US);
    while (ask_node(cluster, node).up != up)
        cr_assert(patience_lasts(limit_us), "node %u did not change its state", node);
}

static void wait_nodes(struct cluster *cluster)
{
    wait_node(cluster, 0, true);
    wait_node(cluster, 1, true);
}

static void create(struct cluster *cluster)
{
    struct buffer request = {0};
    struct buffer reply = {0};
    struct reason why = {0};
    struct api_create_request message = {.name = text_of("m"), .space = text_of(HOUSE_SPACE)};
    cr_assert(eq(int, api_encode_create_request(&message, &request), STATUS_OK));
    cr_assert(eq(int, call(cluster, API_MEMORY_CREATE, &request, &reply, &why), STATUS_OK), "%s",
              why.text);
    buffer_deinit(&reply);
}

static void ingest(struct cluster *cluster, uint32_t records)
{
    struct rpc_stream *stream = NULL;
    struct buffer reply = {0};
    struct reason why = {0};
    struct api_ingest_reply told;
    struct arena *arena = arena_create(1 << 20);
    struct rpc_client_call params = {.path = api_method_info(API_MEMORY_INGEST)->path,
                                     .deadline_us = clock_deadline_in_us(60000000)};
    cr_assert(eq(int, rpc_stream_open(cluster->client, &params, &stream, &why), STATUS_OK));
    for (uint32_t i = 0; i < records; i++) {
        float image[HOUSE_DIMENSION];
        float text[HOUSE_DIMENSION];
        char key[16];
        char caption[32];
        house_embedding(i, 0, image);
        house_embedding(i, 1, text);
        (void)snprintf(key, sizeof(key), "k%u", i);
        (void)snprintf(caption, sizeof(caption), "caption %u", i);
        struct api_ingest_record record = {.key = text_of(key),
                                           .caption = text_of(caption),
                                           .source = text_of("house"),
                                           .image_embedding = image,
                                           .image_count = HOUSE_DIMENSION,
                                           .text_embedding = text,
                                           .text_count = HOUSE_DIMENSION};
        struct api_ingest_request request = {
            .memory = i == 0 ? text_of("m") : (struct text){0}, .records = &record, .count = 1};
        struct buffer message = {0};
        cr_assert(eq(int, api_encode_ingest_request(&request, &message), STATUS_OK));
        cr_assert(eq(int, rpc_stream_send(stream, (struct bytes){message.data, message.count}),
                     STATUS_OK));
        buffer_deinit(&message);
    }
    cr_assert(eq(int, rpc_stream_finish(&stream, &reply, &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(
        int, api_decode_ingest_reply((struct bytes){reply.data, reply.count}, arena, &told, NULL),
        STATUS_OK));
    cr_expect(eq(u64, told.stored, records));
    arena_destroy(&arena);
    buffer_deinit(&reply);
}

Test(program, serves_what_a_coordinator_in_the_process_answers)
{
    enum { RECORDS = 200 };
    struct cluster cluster = {0};
    struct house house;
    open_cluster(&cluster);
    cr_expect(eq(int, rpc_client_health(cluster.client, clock_deadline_in_us(10000000), NULL),
                 STATUS_OK));
    wait_nodes(&cluster);
    create(&cluster);
    ingest(&cluster, RECORDS);
    house_open(&house, 3, NULL);
    house_fill(&house, "m", RECORDS);
    for (uint32_t i = 0; i < 5; i++) {
        float embedding[HOUSE_DIMENSION];
        struct api_query_request question = house_question(i * 31, embedding);
        struct buffer request = {0};
        struct buffer reply = {0};
        struct reason why = {0};
        struct api_answer local;
        struct api_answer served;
        cr_assert(
            eq(int, house_query(&house, API_REFINE_EMBEDDING, &question, &local, NULL), STATUS_OK));
        cr_assert(eq(int, api_encode_query(API_REFINE_EMBEDDING, &question, &request), STATUS_OK));
        cr_assert(eq(int, call(&cluster, API_REFINE_EMBEDDING, &request, &reply, &why), STATUS_OK),
                  "%s", why.text);
        cr_assert(
            eq(int,
               api_decode_answer(API_REFINE_EMBEDDING, (struct bytes){reply.data, reply.count},
                                 house.arena, &served, NULL),
               STATUS_OK));
        cr_expect(house_same(&local, &served));
        cr_expect(text_equal(served.request_id, text_of("e2e")));
        buffer_deinit(&reply);
    }

    // An error keeps its status, its field and its words.
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(1, embedding);
    struct buffer request = {0};
    struct buffer reply = {0};
    struct reason why = {0};
    question.options.index = API_INDEX_EXACT;
    question.options.nprobe = 1;
    cr_assert(eq(int, api_encode_query(API_SEARCH, &question, &request), STATUS_OK));
    cr_expect(eq(int, call(&cluster, API_SEARCH, &request, &reply, &why), STATUS_INVALID));
    cr_expect(eq(str, why.field, (char *)"options.nprobe"));
    house_close(&house);
    close_cluster(&cluster);
}

Test(program, a_directory_that_is_served_is_refused_with_its_address)
{
    struct cluster cluster = {0};
    struct datadir *datadir = NULL;
    struct reason why = {0};
    open_cluster(&cluster);
    struct datadir_params params = {.path = cluster.root};
    cr_expect(eq(int, datadir_open(&params, &datadir, &why), STATUS_FAILED_PRECONDITION));
    cr_expect(ne(ptr, strstr(why.text, cluster.address), NULL), "%s", why.text);
    const char *const arguments[] = {coordinator_path,
                                     "--data",
                                     cluster.root,
                                     "--listen",
                                     "127.0.0.1:0",
                                     "--node",
                                     "tcp://127.0.0.1:9,tcp://127.0.0.1:9",
                                     NULL};
    cr_expect(eq(int, run(arguments), 1));
    close_cluster(&cluster);
}

Test(program, works_under_its_parents_lock)
{
    char root[] = "/tmp/reco-program-XXXXXX";
    char line[LINE] = "";
    char command[96];
    struct datadir *datadir = NULL;
    cr_assert(ne(ptr, mkdtemp(root), NULL));
    struct datadir_params params = {.path = root, .create = true, .nodes = 1};
    cr_assert(eq(int, datadir_open(&params, &datadir, NULL), STATUS_OK));
    const char *const arguments[] = {coordinator_path,
                                     "--data",
                                     root,
                                     "--listen",
                                     "127.0.0.1:0",
                                     "--node",
                                     "tcp://127.0.0.1:9,tcp://127.0.0.1:9",
                                     NULL};
    struct program program = start(arguments);
    cr_expect(ne(ptr, fgets(line, sizeof(line), program.out), NULL));
    cr_expect(eq(int, strncmp(line, "ready 127.0.0.1:", 16), 0));
    (void)kill(program.pid, SIGTERM);
    cr_expect(eq(int, ended(&program), 0));
    datadir_close(&datadir);
    (void)snprintf(command, sizeof(command), "rm -rf %s", root);
    cr_assert(eq(int, system(command), 0));
}

Test(program, encodes_without_a_data_directory)
{
    struct cluster cluster = {0};
    open_alone(&cluster);
    struct buffer request = {0};
    struct buffer reply = {0};
    struct reason why = {0};
    const struct text text = text_of("an owl");
    struct api_texts_request texts = {.texts = &text, .count = 1};
    cr_assert(eq(int, api_encode_texts_request(&texts, &request), STATUS_OK));
    cr_expect(eq(int, call(&cluster, API_ENCODE_TEXT, &request, &reply, &why), STATUS_OK), "%s",
              why.text);
    struct api_create_request message = {.name = text_of("m")};
    cr_assert(eq(int, api_encode_create_request(&message, &request), STATUS_OK));
    cr_expect(eq(int, call(&cluster, API_MEMORY_CREATE, &request, &reply, &why),
                 STATUS_FAILED_PRECONDITION));
    buffer_deinit(&reply);
    close_alone(&cluster);
}

static enum status refine(struct cluster *cluster, int64_t deadline_us, struct api_answer *answer,
                          struct arena *arena, struct reason *why)
{
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(7, embedding);
    struct buffer request = {0};
    struct buffer reply = {0};
    cr_assert(eq(int, api_encode_query(API_REFINE_EMBEDDING, &question, &request), STATUS_OK));
    struct rpc_client_call params = {.path = api_method_info(API_REFINE_EMBEDDING)->path,
                                     .deadline_us = clock_deadline_in_us(deadline_us)};
    enum status status = rpc_client_unary(cluster->client, &params,
                                          (struct bytes){request.data, request.count}, &reply, why);
    if (status == STATUS_OK) {
        uint8_t *copy = arena_alloc(arena, reply.count + 1);
        memcpy(copy, reply.data, reply.count);
        cr_assert(eq(int,
                     api_decode_answer(API_REFINE_EMBEDDING, (struct bytes){copy, reply.count},
                                       arena, answer, NULL),
                     STATUS_OK));
    }
    buffer_deinit(&request);
    buffer_deinit(&reply);
    return status;
}

Test(program, a_frozen_shard_costs_its_part_and_not_the_deadline)
{
    struct cluster cluster = {0};
    struct api_answer answer;
    struct reason why = {0};
    struct arena *arena = arena_create(1 << 24);
    open_cluster(&cluster);
    wait_nodes(&cluster);
    create(&cluster);
    ingest(&cluster, 100);
    cr_assert(eq(int, refine(&cluster, 10000000, &answer, arena, &why), STATUS_OK));
    cr_expect(eq(flt, answer.coverage, 1));

    (void)kill(cluster.shards[1].pid, SIGSTOP);
    cr_assert(eq(int, refine(&cluster, 1000000, &answer, arena, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(flt, answer.coverage, 0.5f));
    cr_assert(eq(sz, answer.degraded_count, 1));
    cr_expect(ne(ptr, strstr(answer.degraded[0].data, "node 1"), NULL));
    cr_expect(gt(flt, answer.gate, 0));

    wait_node(&cluster, 1, false); // then nobody waits for it
    int64_t begun_us = clock_now_us();
    cr_assert(eq(int, refine(&cluster, 10000000, &answer, arena, &why), STATUS_OK));
    cr_expect(lt(i64, clock_now_us() - begun_us, 5000000)); // half of the deadline
    cr_expect(ne(ptr, strstr(answer.degraded[0].data, "node 1 is down"), NULL));

    (void)kill(cluster.shards[1].pid, SIGCONT);
    wait_nodes(&cluster);
    cr_assert(eq(int, refine(&cluster, 10000000, &answer, arena, &why), STATUS_OK));
    cr_expect(eq(flt, answer.coverage, 1));
    arena_destroy(&arena);
    close_cluster(&cluster);
}

Test(program, a_shard_that_dies_while_a_stream_waits_for_it_fails_the_stream)
{
    struct cluster cluster = {0};
    struct rpc_stream *stream = NULL;
    struct buffer message = {0};
    struct buffer reply = {0};
    struct reason why = {0};
    float embedding[HOUSE_DIMENSION];
    struct api_ingest_record records[64];
    char keys[64][8];
    open_cluster(&cluster);
    wait_nodes(&cluster);
    create(&cluster);
    house_embedding(1, 0, embedding);
    for (int i = 0; i < 64; i++) { // some for each shard
        (void)snprintf(keys[i], sizeof(keys[i]), "k%d", i);
        records[i] = (struct api_ingest_record){.key = text_of(keys[i]),
                                                .image_embedding = embedding,
                                                .image_count = HOUSE_DIMENSION,
                                                .text_embedding = embedding,
                                                .text_count = HOUSE_DIMENSION};
    }
    (void)kill(cluster.shards[1].pid, SIGSTOP);
    struct api_ingest_request request = {.memory = text_of("m"), .records = records, .count = 64};
    cr_assert(eq(int, api_encode_ingest_request(&request, &message), STATUS_OK));
    struct rpc_client_call params = {.path = api_method_info(API_MEMORY_INGEST)->path,
                                     .deadline_us = clock_deadline_in_us(30000000)};
    cr_assert(eq(int, rpc_stream_open(cluster.client, &params, &stream, &why), STATUS_OK));
    cr_assert(
        eq(int, rpc_stream_send(stream, (struct bytes){message.data, message.count}), STATUS_OK));
    // The write is with the frozen shard, the next message is waited for.
    struct cluster asker = {0}; // a client has one call at a time
    cr_assert(eq(int, rpc_client_open(cluster.address, &asker.client, NULL), STATUS_OK));
    const int64_t limit_us = clock_deadline_in_us(PATIENCE_US);
    while (ask_node(&asker, 1).in_flight == 0)
        cr_assert(patience_lasts(limit_us));
    rpc_client_close(&asker.client);
    (void)kill(cluster.shards[1].pid, SIGKILL);
    cr_expect(eq(int, rpc_stream_finish(&stream, &reply, &why), STATUS_UNAVAILABLE));
    cr_expect(ne(ptr, strstr(why.text, "node 1"), NULL), "%s", why.text);
    buffer_deinit(&message);
    (void)ended(&cluster.shards[1]);
    char pair[LINE];
    start_shard(&cluster, 1, pair); // only so that there is one to stop
    close_cluster(&cluster);
}

struct interrupter {
    struct cluster *cluster;
};

static void interrupt_soon(struct thread *self, void *context)
{
    struct interrupter *interrupter = context;
    thread_ready(self, STATUS_OK);
    if (wait_calls(interrupter->cluster, 1))
        rpc_client_interrupt(interrupter->cluster->client);
}

struct late {
    struct cluster *cluster;
    enum status status;
};

// A long call: many texts.
static void encode_many(struct thread *self, void *context)
{
    enum { COUNT = 1024 };
    struct late *late = context;
    static struct text texts[COUNT];
    struct buffer request = {0};
    struct buffer reply = {0};
    for (int i = 0; i < COUNT; i++)
        texts[i] = text_of("one two three four five six seven eight nine ten eleven twelve");
    struct api_texts_request message = {.texts = texts, .count = COUNT};
    thread_ready(self, STATUS_OK);
    if (api_encode_texts_request(&message, &request) == STATUS_OK)
        late->status = call(late->cluster, API_ENCODE_TEXT, &request, &reply, NULL);
    buffer_deinit(&reply);
}

Test(program, lets_running_calls_finish_when_it_drains)
{
    struct cluster cluster = {0};
    struct thread *thread = NULL;
    open_alone(&cluster);
    struct late late = {&cluster, STATUS_INTERNAL};
    cr_assert(eq(int, thread_start("late", encode_many, &late, &thread), STATUS_OK));
    cr_assert(wait_calls(&cluster, 1)); // encoding takes longer than telling so
    (void)kill(cluster.coordinator.pid, SIGTERM);
    cr_expect(eq(int, ended(&cluster.coordinator), 0));
    thread_join(&thread);
    cr_expect(eq(int, late.status, STATUS_OK));
    rpc_client_close(&cluster.client);
}

Test(program, a_cancelled_call_leaves_nothing_behind)
{
    enum { COUNT = 1024 };
    struct cluster cluster = {0};
    struct thread *thread = NULL;
    struct interrupter interrupter = {&cluster};
    static struct text texts[COUNT];
    open_alone(&cluster);
    for (int i = 0; i < COUNT; i++)
        texts[i] = text_of("one two three four five six seven eight nine ten eleven twelve");
    for (int round = 0; round < 3; round++) {
        struct buffer request = {0};
        struct buffer reply = {0};
        struct reason why = {0};
        struct api_texts_request message = {.texts = texts, .count = COUNT};
        cr_assert(eq(int, api_encode_texts_request(&message, &request), STATUS_OK));
        cr_assert(wait_calls(&cluster, 0));
        cr_assert(eq(int, thread_start("stop", interrupt_soon, &interrupter, &thread), STATUS_OK));
        cr_expect(
            eq(int, call(&cluster, API_ENCODE_TEXT, &request, &reply, &why), STATUS_CANCELLED));
        thread_join(&thread);
        message.count = 1;
        cr_assert(eq(int, api_encode_texts_request(&message, &request), STATUS_OK));
        cr_expect(eq(int, call(&cluster, API_ENCODE_TEXT, &request, &reply, &why), STATUS_OK));
        buffer_deinit(&reply);
    }
    close_alone(&cluster);
}

Test(program, wrong_usage_exits_with_2)
{
    static const char *const cases[][6] = {
        {"--nonsense", NULL},        {"--data", NULL},
        {"--nodes", "33", NULL},     {"--nodes", "2", NULL}, // without --data
        {"--listen", "7700", NULL},  {"--listen", "127.0.0.1:70000", NULL},
        {"--threads", "many", NULL}, {"--log-level", "loud", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *arguments[8] = {coordinator_path};
        for (size_t j = 0; j < 6 && cases[i][j]; j++)
            arguments[j + 1] = cases[i][j];
        cr_expect(eq(int, run(arguments), 2), "case %zu", i);
    }
    const char *const help[] = {coordinator_path, "--help", NULL};
    const char *const version[] = {coordinator_path, "--version", NULL};
    const char *const no_model[] = {coordinator_path, "--model", "/nowhere", NULL};
    cr_expect(eq(int, run(help), 0));
    cr_expect(eq(int, run(version), 0));
    cr_expect(eq(int, run(no_model), 1));
}
