// SPDX-License-Identifier: Apache-2.0
// A record must be as it was last acknowledged, or as a request made it whose answer never came;
// document, rows and tag must be of the same version.

#include "tests/e2e/kill_house.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/half.h"
#include "proto/base/hash.h"
#include "proto/base/log.h"

#define BATCH_MAX 40
#define CHECKED_AT_ONCE 1000
#define TAGS 7 // a record has that of its version: version % TAGS

char directory[64];
static uint64_t state;

uint64_t next_number(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

void set_seed(const char *test)
{
    const char *given = getenv("RECO_TEST_SEED");
    state = given ? strtoull(given, NULL, 10) : (uint64_t)clock_now_us() | 1;
    (void)printf("%s: RECO_TEST_SEED=%" PRIu64 "\n", test, state);
    (void)fflush(stdout);
}

void make_directory(void)
{
    strcpy(directory, "test-kill-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(directory), NULL));
    log_set_level(LOG_ERROR);
}

void remove_directory(void)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", directory);
    cr_expect(eq(int, system(command), 0));
}

// --- what should be there

struct known records[RECORDS_MAX];
static uint32_t record_count;
static uint32_t last_version;

static bool may_be(const struct known *known, uint32_t version)
{
    if (known->version == version)
        return true;
    for (int i = 0; i < known->maybe_count; i++) {
        if (known->maybe[i] == version)
            return true;
    }
    return false;
}

// Multiplies and shifts: any bit of `x` reaches the upper ones.
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    return x ^ x >> 29;
}

void fill_rows(uint64_t number, uint32_t version, uint16_t *rows)
{
    float row[2 * DIMENSION];
    uint64_t own = mix(number + ((uint64_t)version << 32)) | 1;
    for (size_t m = 0; m < 2; m++) {
        uint64_t centre = mix(version % CLUSTERS + 7 * m + 1) | 1;
        double norm = 0;
        for (size_t d = m * DIMENSION; d < (m + 1) * DIMENSION; d++) {
            centre = mix(centre + d);
            own = mix(own + d);
            row[d] = (float)((int64_t)(centre >> 40) - (1 << 23)) +
                     0.7F * (float)((int64_t)(own >> 40) - (1 << 23));
            norm += (double)row[d] * (double)row[d];
        }
        for (size_t d = m * DIMENSION; d < (m + 1) * DIMENSION; d++)
            row[d] = (float)((double)row[d] / sqrt(norm));
    }
    half_from_floats(row, rows, 2 * DIMENSION);
}

static void name_record(uint64_t number, char name[32])
{
    (void)snprintf(name, 32, "record/%" PRIu64, number);
}

uint64_t id_of(uint64_t number)
{
    char name[32];
    name_record(number, name);
    return hash_id(name, strlen(name));
}

// --- the process and the connection

static void run_program(int ready)
{
    char data[96];
    char keys[96];
    char log[96];
    (void)snprintf(data, sizeof(data), "%s/data", directory);
    (void)snprintf(keys, sizeof(keys), "%s/keys", directory);
    (void)snprintf(log, sizeof(log), "%s/log", directory);
    (void)unsetenv(
        "RECO_KILLS"); // which is ours; the program refuses variables that it does not know
    dup2(open(log, O_WRONLY | O_CREAT | O_APPEND, 0666), STDERR_FILENO);
    dup2(ready, STDOUT_FILENO);
    execl(RECO_BINARY_DIR "/bin/reco-shard", "reco-shard", "--data", data, "--keys", keys,
          "--query", "tcp://127.0.0.1:0", "--bulk", "tcp://127.0.0.1:0", "--search-threads", "1",
          "--log-level", "info", "--die-with-parent", (char *)NULL);
    _exit(127);
}

static pid_t start_process(char query[64], char bulk[64])
{
    int ready[2];
    cr_assert(eq(int, pipe(ready), 0));
    const pid_t pid = fork();
    if (pid == 0)
        run_program(ready[1]);
    close(ready[1]);
    FILE *output = fdopen(ready[0], "r");
    char line[256] = "";
    cr_assert(ne(ptr, fgets(line, sizeof(line), output), NULL), "reco-shard does not start");
    cr_assert(eq(int, sscanf(line, "ready %63s %63s", query, bulk), 2), "%s", line);
    (void)fclose(output);
    return pid;
}

struct shard open_shard(void)
{
    struct shard shard = {0};
    struct reason why = {0};
    struct bus_keys keys;
    char path[96];
    char query[64];
    char bulk[64];
    (void)snprintf(path, sizeof(path), "%s/keys", directory);
    cr_assert(eq(int, bus_keys_load(path, true, &keys, &why), STATUS_OK), "%s", why.text);
    shard.pid = start_process(query, bulk);
    cr_assert(eq(int, bus_open(&keys, &shard.bus, &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(int, dealer_create(shard.bus, NULL, NULL, &shard.dealer, &why), STATUS_OK));
    dealer_trust_threads(shard.dealer); // a kill breaks the connection; a busy machine is silent
    cr_assert(eq(int, dealer_add_peer(shard.dealer, query, bulk, &shard.peer, &why), STATUS_OK));
    const int64_t until = clock_deadline_in_us(PATIENCE_US);
    struct dealer_peer_info info = {0};
    while (!info.up && !clock_passed(until)) {
        cr_assert(
            eq(int, dealer_poll(shard.dealer, NULL, 0, clock_deadline_in_us(20000)), STATUS_OK));
        dealer_peer_info(shard.dealer, shard.peer, &info);
    }
    cr_assert(info.up, "the node does not answer");
    return shard;
}

// Answers that had left before the kill still count.
void kill_shard(struct shard *shard)
{
    cr_assert(eq(int, kill(shard->pid, SIGKILL), 0));
    cr_assert(eq(int, waitpid(shard->pid, NULL, 0), shard->pid));
    const int64_t until = clock_deadline_in_us(100000);
    while (!clock_passed(until))
        cr_assert(eq(int, dealer_poll(shard->dealer, NULL, 0, until), STATUS_OK));
    dealer_destroy(&shard->dealer);
    bus_close(&shard->bus);
}

void stop_shard(struct shard *shard)
{
    int result = -1;
    cr_assert(eq(int, kill(shard->pid, SIGTERM), 0));
    cr_assert(eq(int, waitpid(shard->pid, &result, 0), shard->pid));
    cr_expect(eq(int, result, 0)); // drained, exit status 0
    dealer_destroy(&shard->dealer);
    bus_close(&shard->bus);
}

// --- one request after the other

void keep_answer(void *context, const struct dealer_reply *reply)
{
    struct answer *answer = context;
    answer->is_there = true;
    answer->status = reply->status;
    cr_assert(
        eq(int, buffer_append(&answer->body, reply->body.data, reply->body.count), STATUS_OK));
    cr_assert(
        eq(int, buffer_append(&answer->rows, reply->rows.data, reply->rows.count), STATUS_OK));
}

struct answer ask_with_rows(struct shard *shard, enum shard_type type, struct buffer *body,
                            struct bytes rows)
{
    struct answer answer = {0};
    const struct dealer_request request = {.peer = shard->peer,
                                           .class = DEALER_QUERY,
                                           .type = type,
                                           .body = {body->data, body->count},
                                           .rows = rows,
                                           .deadline_us = clock_deadline_in_us(PATIENCE_US),
                                           .done = keep_answer,
                                           .context = &answer};
    uint64_t ticket;
    cr_assert(eq(int, dealer_send(shard->dealer, &request, &ticket), STATUS_OK));
    while (!answer.is_there)
        cr_assert(eq(int, dealer_poll(shard->dealer, NULL, 0, request.deadline_us), STATUS_OK));
    buffer_deinit(body);
    return answer;
}

struct answer ask(struct shard *shard, enum shard_type type, struct buffer *body)
{
    return ask_with_rows(shard, type, body, (struct bytes){0});
}

void create_generation(struct shard *shard)
{
    uint32_t own[VSHARDS];
    for (uint32_t v = 0; v < VSHARDS; v++)
        own[v] = v;
    const struct shard_create_request request = {.generation = GENERATION,
                                                 .dimension = DIMENSION,
                                                 .vshards = VSHARDS,
                                                 .own = own,
                                                 .own_count = VSHARDS};
    struct buffer body = {0};
    cr_assert(eq(int, shard_encode_create_request(&request, &body), STATUS_OK));
    struct answer answer = ask(shard, SHARD_CREATE, &body);
    cr_assert(eq(int, answer.status, STATUS_OK));
    buffer_deinit(&answer.body);
    buffer_deinit(&answer.rows);
}

static uint32_t version_of(struct text caption)
{
    char copy[32] = "";
    memcpy(copy, caption.data, caption.bytes < 31 ? caption.bytes : 31);
    uint32_t version = 0;
    cr_assert(eq(int, sscanf(copy, "version %" SCNu32, &version), 1), "caption '%s'", copy);
    return version;
}

// Asks for records [first, first + count) and compares. Returns how many are there.
static uint64_t check_some(struct shard *shard, uint64_t first, size_t count)
{
    uint64_t ids[CHECKED_AT_ONCE];
    for (size_t i = 0; i < count; i++)
        ids[i] = id_of(first + i);
    const struct shard_fetch_request request = {.generation = GENERATION,
                                                .ids = ids,
                                                .count = count,
                                                .want_documents = true,
                                                .want_image_rows = true,
                                                .want_text_rows = true};
    struct buffer body = {0};
    cr_assert(eq(int, shard_encode_fetch_request(&request, &body), STATUS_OK));
    struct answer answer = ask(shard, SHARD_FETCH, &body);
    cr_assert(eq(int, answer.status, STATUS_OK));
    struct arena *arena = arena_create(64 << 20);
    struct shard_fetch_reply reply;
    struct reason why = {0};
    cr_assert(eq(int,
                 shard_decode_fetch_reply((struct bytes){answer.body.data, answer.body.count},
                                          (struct bytes){answer.rows.data, answer.rows.count},
                                          arena, &reply, &why),
                 STATUS_OK),
              "%s", why.text);
    uint64_t there = 0;
    for (size_t i = 0; i < count; i++) {
        struct known *known = &records[first + i];
        const uint32_t version = reply.found[i] ? version_of(reply.captions[i]) : 0;
        cr_assert(may_be(known, version),
                  "record %" PRIu64 " has version %" PRIu32 ", acknowledged was %" PRIu32,
                  first + i, version, known->version);
        if (version != 0) {
            uint16_t expected[2 * DIMENSION];
            fill_rows(first + i, version, expected);
            cr_assert(
                eq(int, memcmp(reply.rows + i * 2 * DIMENSION, expected, sizeof(expected)), 0),
                "record %" PRIu64 ": rows are not of version %" PRIu32, first + i, version);
            there++;
        }
        *known = (struct known){.version = version, .had = version ? version : known->had};
    }
    arena_destroy(&arena);
    buffer_deinit(&answer.body);
    buffer_deinit(&answer.rows);
    return there;
}

static void name_tag(uint32_t version, char tag[32])
{
    (void)snprintf(tag, 32, "of %" PRIu32, version % TAGS);
}

// As many records pass a filter as documents have its tag.
static void check_tag(struct shard *shard, uint32_t version, uint64_t expected)
{
    char tag[32];
    name_tag(version, tag);
    const struct text tags[] = {text_of(tag)};
    static const float row[DIMENSION] = {1};
    struct buffer body = {0};
    cr_assert(
        eq(int,
           shard_encode_search_request(&(struct shard_search_request){.generation = GENERATION,
                                                                      .dimension = DIMENSION,
                                                                      .row_count = 1,
                                                                      .k = 1,
                                                                      .all_tags = tags,
                                                                      .all_count = 1},
                                       &body),
           STATUS_OK));
    struct answer answer = ask_with_rows(shard, SHARD_SEARCH, &body,
                                         (struct bytes){(const uint8_t *)row, sizeof(row)});
    cr_assert(eq(int, answer.status, STATUS_OK));
    struct arena *arena = arena_create(1 << 20);
    struct shard_search_reply reply;
    cr_assert(eq(int,
                 shard_decode_search_reply((struct bytes){answer.body.data, answer.body.count},
                                           (struct bytes){answer.rows.data, answer.rows.count},
                                           arena, &reply, NULL),
                 STATUS_OK));
    cr_expect(eq(u64, reply.records, expected), "tag '%s'", tag);
    arena_destroy(&arena);
    buffer_deinit(&answer.body);
    buffer_deinit(&answer.rows);
}

static void check_tags(struct shard *shard)
{
    uint64_t expected[TAGS] = {0};
    for (size_t i = 0; i < record_count; i++)
        if (records[i].version != 0)
            expected[records[i].version % TAGS]++;
    for (uint32_t i = 0; i < TAGS; i++)
        check_tag(shard, i, expected[i]);
}

static void check_all(struct shard *shard)
{
    uint64_t there = 0;
    for (uint64_t first = 0; first < record_count; first += CHECKED_AT_ONCE)
        there += check_some(shard, first, CHECKED_AT_ONCE);
    check_tags(shard);

    struct buffer body = {0};
    cr_assert(eq(int,
                 shard_encode_generation_request(
                     &(struct shard_generation_request){.generation = GENERATION}, &body),
                 STATUS_OK));
    struct answer answer = ask(shard, SHARD_STATS, &body);
    struct arena *arena = arena_create(1 << 20);
    struct shard_stats_reply stats;
    struct reason why;
    cr_assert(eq(int,
                 shard_decode_stats_reply((struct bytes){answer.body.data, answer.body.count},
                                          (struct bytes){0}, arena, &stats, &why),
                 STATUS_OK));
    cr_expect(eq(u64, stats.records, there));
    cr_expect(eq(int, stats.read_only, 0));
    arena_destroy(&arena);
    buffer_deinit(&answer.body);
    buffer_deinit(&answer.rows);
}

// --- many requests at once

struct change changes[IN_FLIGHT];
static uint64_t acknowledged;
static int on_their_way;

// Bulk records wait for their commit; afterwards they are as good as written.
static struct {
    uint32_t numbers[RECORDS_MAX];
    uint32_t versions[RECORDS_MAX];
    size_t count;
    bool committing;
} bulk;

static void note_maybe(struct known *known, uint32_t version)
{
    cr_assert(lt(int, known->maybe_count, 4));
    known->maybe[known->maybe_count++] = version;
}

static void change_done(void *context, const struct dealer_reply *reply)
{
    struct change *change = context;
    for (size_t i = 0; i < change->count; i++) {
        struct known *known = &records[change->numbers[i]];
        if (!change->bulk) // else busy until the commit
            known->busy = false;
        if (reply->status == STATUS_OK && !change->bulk) {
            *known = (struct known){.version = change->version,
                                    .had = change->version ? change->version : known->had};
            acknowledged++;
        }
    }
    change->used = false;
    on_their_way--;
}

static void commit_done(void *context, const struct dealer_reply *reply)
{
    (void)context;
    for (size_t i = 0; i < bulk.count; i++) {
        struct known *known = &records[bulk.numbers[i]];
        known->busy = false;
        if (reply->status == STATUS_OK) {
            *known = (struct known){.version = bulk.versions[i], .had = bulk.versions[i]};
            acknowledged++;
        }
    }
    bulk.count = 0;
    bulk.committing = false;
    on_their_way--;
}

static struct change *free_change(void)
{
    for (int i = 0; i < IN_FLIGHT; i++) {
        if (!changes[i].used)
            return &changes[i];
    }
    return NULL;
}

static void pick_records(struct change *change, size_t wanted)
{
    change->count = 0;
    for (size_t i = 0; i < wanted; i++) {
        const uint32_t number = (uint32_t)(next_number() % record_count);
        struct known *known = &records[number];
        if (known->busy || known->maybe_count >= 3)
            continue;
        known->busy = true;
        note_maybe(known, change->version);
        change->numbers[change->count++] = number;
    }
}

static struct buffer write_body(const struct change *change, uint16_t *rows)
{
    char names[BULK_BATCH][32];
    char caption[32];
    char tag[32];
    struct text texts[4][BULK_BATCH] = {0};
    (void)snprintf(caption, sizeof(caption), "version %" PRIu32, change->version);
    name_tag(change->version, tag);
    for (size_t i = 0; i < change->count; i++) {
        texts[3][i] = text_of(tag);
        name_record(change->numbers[i], names[i]);
        texts[0][i] = text_of(names[i]);
        texts[1][i] = text_of(caption);
        fill_rows(change->numbers[i], change->version, rows + i * 2 * DIMENSION);
    }
    const struct shard_write_request request = {.generation = GENERATION,
                                                .dimension = DIMENSION,
                                                .count = change->count,
                                                .keys = texts[0],
                                                .captions = texts[1],
                                                .sources = texts[2],
                                                .tags = texts[3]};
    struct buffer body = {0};
    cr_assert(eq(int, shard_encode_write_request(&request, &body), STATUS_OK));
    return body;
}

struct buffer delete_body(const struct change *change)
{
    uint64_t ids[BULK_BATCH];
    for (size_t i = 0; i < change->count; i++)
        ids[i] = id_of(change->numbers[i]);
    const struct shard_ids_request request = {GENERATION, ids, change->count};
    struct buffer body = {0};
    cr_assert(eq(int, shard_encode_ids_request(&request, &body), STATUS_OK));
    return body;
}

// False when the node is gone.
bool send_change(struct shard *shard, struct change *change)
{
    static uint16_t rows[BULK_BATCH * 2 * DIMENSION];
    struct buffer body = change->version ? write_body(change, rows) : delete_body(change);
    const size_t rows_bytes = change->version ? change->count * 2 * DIMENSION * sizeof(*rows) : 0;
    const struct dealer_request request = {.peer = shard->peer,
                                           .class = change->bulk ? DEALER_BULK : DEALER_QUERY,
                                           .type = change->bulk      ? SHARD_BULK
                                                   : change->version ? SHARD_WRITE
                                                                     : SHARD_DELETE,
                                           .body = {body.data, body.count},
                                           .rows = {(const uint8_t *)rows, rows_bytes},
                                           .deadline_us = clock_deadline_in_us(PATIENCE_US),
                                           .done = change_done,
                                           .context = change};
    uint64_t ticket;
    const bool sent = dealer_send(shard->dealer, &request, &ticket) == STATUS_OK;
    buffer_deinit(&body);
    change->used = sent;
    on_their_way += sent;
    return sent;
}

static bool send_commit(struct shard *shard)
{
    struct buffer body = {0};
    cr_assert(eq(int,
                 shard_encode_generation_request(
                     &(struct shard_generation_request){.generation = GENERATION}, &body),
                 STATUS_OK));
    const struct dealer_request request = {.peer = shard->peer,
                                           .class = DEALER_BULK,
                                           .type = SHARD_BULK_COMMIT,
                                           .body = {body.data, body.count},
                                           .deadline_us = clock_deadline_in_us(PATIENCE_US),
                                           .done = commit_done};
    uint64_t ticket;
    const bool sent = dealer_send(shard->dealer, &request, &ticket) == STATUS_OK;
    buffer_deinit(&body);
    bulk.committing = sent;
    on_their_way += sent;
    return sent;
}

bool start_single(struct shard *shard, struct change *change)
{
    change->bulk = false;
    change->version = next_number() % 5 == 0 ? 0 : ++last_version;
    pick_records(change, 1 + next_number() % BATCH_MAX);
    return change->count == 0 || send_change(shard, change);
}

// Bulk records go out until there are some thousand, then the commit, then anew.
bool start_bulk(struct shard *shard, struct change *change)
{
    if (bulk.committing)
        return true;
    if (bulk.count > 1500 && on_their_way == 0)
        return send_commit(shard);
    if (bulk.count > 1500)
        return true;
    change->bulk = true;
    change->version = ++last_version;
    pick_records(change, BULK_BATCH);
    for (size_t i = 0; i < change->count; i++) {
        bulk.numbers[bulk.count] = change->numbers[i];
        bulk.versions[bulk.count++] = change->version;
    }
    return change->count == 0 || send_change(shard, change);
}

static void work_until(struct shard *shard, int64_t until_us,
                       bool (*start)(struct shard *, struct change *))
{
    bool alive = true;
    while (alive && !clock_passed(until_us)) {
        struct change *change = free_change();
        if (change)
            alive = start(shard, change);
        const int64_t poll_us = clock_deadline_in_us(change ? 0 : 2000);
        cr_assert(eq(int,
                     dealer_poll(shard->dealer, NULL, 0, poll_us < until_us ? poll_us : until_us),
                     STATUS_OK));
    }
}

static void forget_requests(void)
{
    for (int i = 0; i < IN_FLIGHT; i++)
        changes[i].used = false;
    for (size_t i = 0; i < record_count; i++)
        records[i].busy = false;
    bulk.count = 0;
    bulk.committing = false;
    on_their_way = 0;
}

// Without a kill until something is acknowledged; returns how long that took on this machine.
static int64_t warm_up(struct shard *shard, const struct kill_plan *plan)
{
    const int64_t began_us = clock_now_us();
    const int64_t until_us = clock_deadline_in_us(PATIENCE_US);
    while (acknowledged < plan->first && !clock_passed(until_us))
        work_until(shard, clock_deadline_in_us(10000), plan->start);
    cr_assert(ge(u64, acknowledged, plan->first)); // else it tests nothing
    return clock_now_us() - began_us;
}

void kill_and_check(const struct kill_plan *plan)
{
    set_seed(plan->name);
    record_count = plan->records;
    struct shard shard = open_shard();
    create_generation(&shard);
    const int64_t warm_us = warm_up(&shard, plan);
    const int64_t most_us = 2 * warm_us > plan->longest_us ? 2 * warm_us : plan->longest_us;
    const char *given = getenv("RECO_KILLS");
    const int kills = given ? atoi(given) : plan->kills;
    for (int i = 0; i < kills; i++) {
        work_until(&shard, clock_deadline_in_us((int64_t)(next_number() % (uint64_t)most_us)),
                   plan->start);
        kill_shard(&shard);
        forget_requests();
        shard = open_shard();
        check_all(&shard);
        if (plan->check)
            plan->check(&shard, i);
    }
    (void)printf("%s: %d kills, %" PRIu64 " records acknowledged\n", plan->name, kills,
                 acknowledged);
    stop_shard(&shard);
    shard = open_shard();
    check_all(&shard);
    if (plan->check)
        plan->check(&shard, KILL_LAST);
    stop_shard(&shard);
}
