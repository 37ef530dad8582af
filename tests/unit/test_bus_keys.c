// SPDX-License-Identifier: Apache-2.0
// Goal: whoever does not hold the coordinator's key gets no answer from a node, and keys that
// cannot work are refused with the file's name.
//
// Method: key folders with all kinds of damage; clients with other keys, without keys, with bytes
// that are no ZMTP, against a node that must go on serving the right one.

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <zmq.h>

#include "proto/bus/bus_internal.h"
#include "tests/unit/bus_fixture.h"

#define REFUSED_US 1500000 // long enough for several handshakes

static char folder[64];

static void make_folder(void)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/reco-keys-XXXXXX");
    cr_assert(mkdtemp(folder) != NULL);
}

static void remove_folder(void)
{
    const char *const names[] = {"node.public", "node.secret", "coordinator.public",
                                 "coordinator.secret"};
    char path[128];
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(folder);
}

TestSuite(bus_keys, .init = make_folder, .fini = remove_folder);

static const char *path_of(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *content)
{
    cr_assert(eq(int, bytes_replace_file(path_of(name), content, strlen(content)), STATUS_OK));
}

static void load(bool create, struct bus_keys *keys)
{
    struct reason why = {{0}, {0}};
    cr_assert(eq(int, bus_keys_load(folder, create, keys, &why), STATUS_OK), "%s", why.text);
}

// --- files

Test(bus_keys, are_made_once_and_kept)
{
    struct bus_keys first;
    struct bus_keys second;
    load(true, &first);
    cr_expect(eq(sz, strlen(first.node_public), 40));
    cr_expect(eq(sz, strlen(first.coordinator_secret), 40));
    cr_expect(strcmp(first.node_public, first.coordinator_public) != 0);
    load(true, &second);
    cr_expect(memcmp(&first, &second, sizeof(first)) == 0);
    load(false, &second);
    cr_expect(memcmp(&first, &second, sizeof(first)) == 0);
}

Test(bus_keys, are_for_their_owner_only)
{
    const char *const names[] = {"node.public", "node.secret", "coordinator.public",
                                 "coordinator.secret"};
    struct bus_keys keys;
    struct stat about;
    mode_t before = umask(0);
    load(true, &keys);
    cr_expect(eq(int, (int)umask(before), 0)); // it is as we left it
    for (size_t i = 0; i < 4; i++) {
        cr_assert(eq(int, stat(path_of(names[i]), &about), 0));
        cr_expect(eq(int, about.st_mode & 0777, 0600), "%s", names[i]);
    }
}

Test(bus_keys, of_one_side_are_enough_for_it)
{
    struct bus_keys all;
    struct bus_keys some;
    load(true, &all);
    (void)unlink(path_of("coordinator.secret"));
    (void)unlink(path_of("node.public"));
    load(false, &some); // a node
    cr_expect(strcmp(some.node_secret, all.node_secret) == 0);
    cr_expect(eq(sz, strlen(some.coordinator_secret), 0));

    write_file("coordinator.secret", all.coordinator_secret);
    write_file("node.public", all.node_public);
    (void)unlink(path_of("node.secret"));
    load(false, &some); // a coordinator
    cr_expect(strcmp(some.coordinator_secret, all.coordinator_secret) == 0);
    cr_expect(eq(sz, strlen(some.node_secret), 0));
}

static void expect_refused(enum status expected, const char *name)
{
    struct bus_keys keys = {.node_public = "untouched"};
    struct reason why = {{0}, {0}};
    cr_expect(eq(int, bus_keys_load(folder, false, &keys, &why), expected), "%s", why.text);
    cr_expect(strstr(why.text, name) != NULL, "%s", why.text);
    cr_expect(strcmp(keys.node_public, "untouched") == 0);
}

Test(bus_keys, that_are_missing_are_named)
{
    struct bus_keys keys;
    expect_refused(STATUS_NOT_FOUND, folder);
    load(true, &keys);
    (void)unlink(path_of("coordinator.public"));
    (void)unlink(path_of("node.secret"));
    expect_refused(STATUS_NOT_FOUND, "coordinator.public");
}

Test(bus_keys, that_are_damaged_are_named)
{
    const char *const bad[] = {"",
                               "\n",
                               "short",
                               "0123456789012345678901234567890123456789x",
                               "012345678901234567890123456789012345678\x01",
                               "~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~"};
    struct bus_keys keys;
    load(true, &keys);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        write_file("node.secret", bad[i]);
        expect_refused(STATUS_CORRUPT, "node.secret");
    }
    char large[1000];
    memset(large, 'a', sizeof(large));
    large[999] = '\0';
    write_file("node.secret", large);
    expect_refused(STATUS_CORRUPT, "node.secret");
}

Test(bus_keys, of_two_pairs_do_not_go_together)
{
    struct bus_keys keys;
    struct bus_keys others;
    fixture_keys(&others);
    load(true, &keys);
    write_file("coordinator.public", others.coordinator_public);
    expect_refused(STATUS_CORRUPT, "coordinator.public");
}

Test(bus_keys, half_a_pair_after_a_crash_is_made_anew)
{
    struct bus_keys first;
    struct bus_keys second;
    load(true, &first);
    (void)unlink(path_of("node.public")); // the public half is written last
    load(true, &second);
    cr_expect(strcmp(first.node_secret, second.node_secret) != 0);
    cr_expect(strcmp(first.coordinator_secret, second.coordinator_secret) == 0);
    load(false, &first);
}

Test(bus_keys, a_folder_that_cannot_be_made_is_named)
{
    struct bus_keys keys;
    struct reason why = {{0}, {0}};
    cr_expect(eq(int, bus_keys_load("/dev/null/keys", true, &keys, &why), STATUS_IO));
    cr_expect(strstr(why.text, "/dev/null/keys") != NULL);
}

// --- the door

Test(bus_keys, a_door_without_a_guard_is_noticed)
{
    struct bus_keys keys;
    struct bus_zap *elsewhere = NULL;
    struct reason why = {{0}, {0}};
    fixture_keys(&keys);
    void *guarded = zmq_ctx_new();
    void *open = zmq_ctx_new();
    cr_assert(
        eq(int, bus_zap_start(guarded, keys.coordinator_public, &elsewhere, &why), STATUS_OK));
    cr_expect(eq(int, bus_zap_test(guarded, elsewhere, &why), STATUS_OK), "%s", why.text);
    // This context has no handler: ZeroMQ lets everyone in.
    cr_expect(eq(int, bus_zap_test(open, elsewhere, &why), STATUS_INTERNAL));
    cr_expect(strstr(why.text, "let in") != NULL, "%s", why.text);
    bus_zap_stop(&elsewhere);
    cr_expect(eq(int, zmq_ctx_term(guarded), 0));
    cr_expect(eq(int, zmq_ctx_term(open), 0));
}

Test(bus_keys, a_bus_with_a_key_that_is_none_does_not_open)
{
    struct bus_keys keys;
    struct bus *bus = NULL;
    struct reason why = {{0}, {0}};
    fixture_keys(&keys);
    keys.coordinator_public[7] = ' ';
    cr_expect(eq(int, bus_open(&keys, &bus, &why), STATUS_INVALID));
    cr_expect(bus == NULL);
}

struct door { // a node that the right caller reaches
    struct bus_keys keys;
    struct bus *bus;
    struct fixture_node node;
    struct fixture_caller caller;
};

static void open_door(struct door *door)
{
    *door = (struct door){0};
    fixture_keys(&door->keys);
    cr_assert(eq(int, bus_open(&door->keys, &door->bus, NULL), STATUS_OK));
    fixture_start(&door->node, door->bus, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0", 0);
    fixture_connect(&door->caller, door->bus, router_query_endpoint(door->node.router),
                    router_bulk_endpoint(door->node.router));
}

static void close_door(struct door *door)
{
    fixture_expect_answer(&door->caller, 0);
    cr_expect(eq(u32, door->caller.changes, 1)); // it was up all the time
    dealer_destroy(&door->caller.dealer);
    fixture_stop(&door->node);
    bus_close(&door->bus);
}

// A caller with these keys does not come to see the node as up.
static void expect_shut_out(const struct door *door, const struct bus_keys *keys)
{
    struct bus *bus = NULL;
    struct dealer *dealer = NULL;
    uint32_t peer = 0;
    cr_assert(eq(int, bus_open(keys, &bus, NULL), STATUS_OK));
    cr_assert(eq(int, dealer_create(bus, NULL, NULL, &dealer, NULL), STATUS_OK));
    cr_assert(eq(int,
                 dealer_add_peer(dealer, router_query_endpoint(door->node.router),
                                 router_bulk_endpoint(door->node.router), &peer, NULL),
                 STATUS_OK));
    int64_t until = clock_deadline_in_us(REFUSED_US);
    struct dealer_peer_info info = {0};
    while (!clock_passed(until) && !info.up) {
        cr_assert(eq(int, dealer_poll(dealer, NULL, 0, until), STATUS_OK));
        dealer_peer_info(dealer, peer, &info);
    }
    cr_expect(not(info.up));
    dealer_destroy(&dealer);
    bus_close(&bus);
}

Test(bus_keys, another_coordinators_key_is_refused)
{
    struct door door;
    struct bus_keys stranger;
    open_door(&door);
    fixture_keys(&stranger);
    memcpy(stranger.node_public, door.keys.node_public, BUS_KEY_BYTES); // all but the key is right
    expect_shut_out(&door, &stranger);
    close_door(&door);
}

Test(bus_keys, the_wrong_node_is_not_believed)
{
    struct door door;
    struct bus_keys stranger;
    open_door(&door);
    fixture_keys(&stranger);
    memcpy(stranger.coordinator_public, door.keys.coordinator_public, BUS_KEY_BYTES);
    memcpy(stranger.coordinator_secret, door.keys.coordinator_secret, BUS_KEY_BYTES);
    expect_shut_out(&door, &stranger);
    close_door(&door);
}

Test(bus_keys, a_client_without_encryption_gets_nothing)
{
    struct door door;
    const int zero = 0;
    open_door(&door);
    void *context = zmq_ctx_new();
    void *socket = zmq_socket(context, ZMQ_DEALER);
    cr_assert(eq(int, zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof(zero)), 0));
    cr_assert(eq(int, zmq_connect(socket, router_query_endpoint(door.node.router)), 0));
    cr_assert(eq(int, zmq_send(socket, "hello", 5, 0), 5));
    zmq_pollitem_t item = {socket, 0, ZMQ_POLLIN, 0};
    cr_expect(eq(int, zmq_poll(&item, 1, REFUSED_US / 1000), 0));
    (void)zmq_close(socket);
    (void)zmq_ctx_term(context);
    close_door(&door);
}

Test(bus_keys, noise_on_the_port_harms_nobody)
{
    struct door door;
    open_door(&door);
    unsigned port = 0;
    cr_assert(
        eq(int, sscanf(router_query_endpoint(door.node.router), "tcp://127.0.0.1:%u", &port), 1));
    uint8_t noise[4096];
    uint32_t seed = 12345;
    for (int round = 0; round < 20; round++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int raw = socket(AF_INET, SOCK_STREAM, 0);
        cr_assert(raw >= 0);
        cr_assert(eq(int, connect(raw, (struct sockaddr *)&address, sizeof(address)), 0));
        for (size_t i = 0; i < sizeof(noise); i++) {
            seed = seed * 1664525u + 1013904223u;
            noise[i] = (uint8_t)(seed >> 24);
        }
        if (round % 2 == 0) // the beginning of a true greeting
            memcpy(noise, "\xff\0\0\0\0\0\0\0\x01\x7f\x03\0CURVE", 17);
        (void)send(raw, noise, round % 3 == 0 ? 20 : sizeof(noise), MSG_NOSIGNAL);
        (void)close(raw);
    }
    close_door(&door);
}
