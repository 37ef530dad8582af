// SPDX-License-Identifier: Apache-2.0
// The last colon separates host and port. A host of digits and dots alone must be an IPv4 address,
// so that a mistyped one is not looked up as a name.

#include "proto/base/address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/system_error.h"

#define PORT_DIGITS_MAX 5

#define NAME_BYTES                                                                                 \
    "abcdefghijklmnopqrstuvwxyz"                                                                   \
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"                                                                   \
    "0123456789.-"

static bool read_port(const char *digits, int *port)
{
    size_t count = strlen(digits);
    if (count < 1 || count > PORT_DIGITS_MAX || strspn(digits, "0123456789") != count)
        return false;

    int sum = 0;
    for (size_t i = 0; i < count; i++)
        sum = sum * 10 + (digits[i] - '0');
    *port = sum;
    return sum <= ADDRESS_PORT_MAX;
}

// Fills host and loopback from the `bytes` bytes before the colon.
static bool read_host(const char *text, size_t bytes, struct address *out)
{
    bool bracketed = bytes >= 2 && text[0] == '[' && text[bytes - 1] == ']';
    if (bracketed) {
        text++;
        bytes -= 2;
    }
    if (bytes < 1 || bytes > ADDRESS_HOST_BYTES_MAX)
        return false;
    memcpy(out->host, text, bytes);
    out->host[bytes] = '\0';

    if (bracketed) {
        struct in6_addr six;
        out->loopback = strcmp(out->host, "::1") == 0;
        return inet_pton(AF_INET6, out->host, &six) == 1;
    }
    if (strspn(out->host, "0123456789.") == bytes) {
        struct in_addr four;
        bool good = inet_pton(AF_INET, out->host, &four) == 1;
        out->loopback = good && ntohl(four.s_addr) >> 24 == 127;
        return good;
    }
    out->loopback = strcasecmp(out->host, "localhost") == 0;
    return strspn(out->host, NAME_BYTES) == bytes && out->host[0] != '.' && out->host[0] != '-';
}

enum status address_parse(const char *text, const char *field, struct address *out,
                          struct reason *why)
{
    assert(text);
    assert(out);

    struct address read = {.port = 0};
    const char *colon = strrchr(text, ':');
    if (!colon || !read_host(text, (size_t)(colon - text), &read) ||
        !read_port(colon + 1, &read.port))
        return reason_set(why, STATUS_INVALID, field,
                          "\"%s\" is not HOST:PORT; a host is a name, an IPv4 address or an IPv6 "
                          "address in brackets, a port is 0..%d",
                          text, ADDRESS_PORT_MAX);
    *out = read;
    return STATUS_OK;
}

const char *address_text(const struct address *address, int port, char out[ADDRESS_TEXT_BYTES])
{
    assert(address && port >= 0 && port <= ADDRESS_PORT_MAX);

    const bool is_six = strchr(address->host, ':') != NULL;
    (void)snprintf(out, ADDRESS_TEXT_BYTES, "%s%s%s:%d", is_six ? "[" : "", address->host,
                   is_six ? "]" : "", port);
    return out;
}

enum status address_not_bound(const struct address *address, const char *field, struct reason *why)
{
    assert(address);

    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in four = {.sin_family = AF_INET};
    six.sin6_port = htons((uint16_t)address->port);
    four.sin_port = six.sin6_port;
    if (inet_pton(AF_INET, address->host, &four.sin_addr) != 1)
        four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    bool is_six = strchr(address->host, ':') != NULL;
    int fd = socket(is_six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? errno : 0;
    if (fd >= 0) {
        int yes = 1;
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
        const void *any = is_six ? (const void *)&six : (const void *)&four;
        socklen_t bytes = is_six ? sizeof(six) : sizeof(four);
        if (bind(fd, any, bytes) != 0)
            error = errno;
        (void)close(fd);
    }

    const char *text = error != 0 ? SYSTEM_ERROR(error) : "it was taken a moment ago";
    char place[ADDRESS_TEXT_BYTES];
    return reason_set(why, STATUS_UNAVAILABLE, field, "cannot listen at %s: %s%s",
                      address_text(address, address->port, place), text,
                      error == EADDRINUSE ? "; end what listens there, or name another port" : "");
}
