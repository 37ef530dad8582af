// SPDX-License-Identifier: Apache-2.0
// Goal: an address is either understood exactly or refused with words that name it, and
// nothing but this machine counts as loopback.
//
// Method: tables of good and bad texts.

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/address.h"

static const struct {
    const char *text;
    const char *host;
    int port;
    bool loopback;
} good[] = {
    {"127.0.0.1:7700", "127.0.0.1", 7700, true},
    {"127.255.0.9:0", "127.255.0.9", 0, true},
    {"localhost:65535", "localhost", 65535, true},
    {"LocalHost:1", "LocalHost", 1, true},
    {"[::1]:80", "::1", 80, true},
    {"10.0.0.1:80", "10.0.0.1", 80, false},
    {"0.0.0.0:80", "0.0.0.0", 80, false},
    {"[::]:80", "::", 80, false},
    {"[::ffff:127.0.0.1]:80", "::ffff:127.0.0.1", 80, false},
    {"node-7.rack.example:7700", "node-7.rack.example", 7700, false},
    {"localhost.example:1", "localhost.example", 1, false},
};

static const char *const bad[] = {
    "",
    ":",
    ":7700",
    "127.0.0.1",
    "127.0.0.1:",
    "127.0.0.1:65536",
    "127.0.0.1:-1",
    "127.0.0.1:+1",
    "127.0.0.1:1x",
    "127.0.0.1: 1",
    "127.0.0.1:000080",
    "127.0.0:80",
    "127.0.0.256:80",
    "::1:80",
    "[::1]",
    "[::1:80",
    "[]:80",
    "[127.0.0.1]:80",
    "[fe80::1%eth0]:80",
    "unix:/run/reco.sock",
    "dns:///localhost:80",
    "a b:80",
    ".example:80",
    "-x:80",
    "h\xc3\xb6st:80",
};

Test(address, understands_names_and_both_kinds_of_numbers)
{
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct address read;
        cr_assert(eq(int, address_parse(good[i].text, "--at", &read, NULL), STATUS_OK), "%s",
                  good[i].text);
        cr_expect(eq(str, read.host, (char *)good[i].host));
        cr_expect(eq(int, read.port, good[i].port));
        cr_expect(eq(int, read.loopback, good[i].loopback), "%s", good[i].text);
        char text[ADDRESS_TEXT_BYTES];
        cr_expect(eq(str, (char *)address_text(&read, read.port, text), (char *)good[i].text));
    }
}

Test(address, refuses_everything_else_by_name_and_leaves_the_result_alone)
{
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct address read = {.host = "before", .port = -7};
        struct reason why = {.field = ""};
        cr_expect(eq(int, address_parse(bad[i], "--at", &read, &why), STATUS_INVALID), "%s",
                  bad[i]);
        cr_expect(eq(str, why.field, (char *)"--at"));
        cr_expect(ne(ptr, strstr(why.text, bad[i]), NULL), "%s", bad[i]);
        cr_expect(eq(int, read.port, -7));
        cr_expect(eq(str, read.host, (char *)"before"));
    }
}

Test(address, refuses_a_host_longer_than_a_name_can_be)
{
    char text[ADDRESS_HOST_BYTES_MAX + 8];
    memset(text, 'a', sizeof(text));
    memcpy(text + ADDRESS_HOST_BYTES_MAX, ":80", 4);
    struct address read;
    cr_expect(eq(int, address_parse(text, "--at", &read, NULL), STATUS_OK));

    memcpy(text + ADDRESS_HOST_BYTES_MAX + 1, ":80", 4);
    text[ADDRESS_HOST_BYTES_MAX] = 'a';
    cr_expect(eq(int, address_parse(text, "--at", &read, NULL), STATUS_INVALID));
}

Test(address, that_is_taken_is_told_with_the_name_it_was_given_by)
{
    const struct address taken = {.host = "::1", .port = 1, .loopback = true};
    struct reason why = {.field = ""};
    cr_expect(eq(int, address_not_bound(&taken, "--at", &why), STATUS_UNAVAILABLE));
    cr_expect(eq(str, why.field, (char *)"--at"));
    cr_expect(ne(ptr, strstr(why.text, "[::1]:1: "), NULL), "%s", why.text);
}
