// SPDX-License-Identifier: Apache-2.0
// What is in force is one set: three texts and the patterns, replaced as a whole under the lock.
// gRPC asks for it by a callback before each handshake, with a "nothing new" when it has the set
// already.
//
// Whether texts fit together only gRPC can tell (OpenSSL is behind it). It is asked by a server
// that is never started: with credentials that do not fit its port cannot be added.

#include "proto/rpc/rpc_tls.h"

#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <grpc/grpc_security_constants.h>

#include "proto/base/bytes.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"
#include "proto/rpc/rpc_core.h"
#include "proto/rpc/rpc_internal.h"

#define FILES 3
#define NAME_BYTES_MAX 256 // of a client; a longer one fits no pattern
#define PROBE_ADDRESS "127.0.0.1:0"

// What tells that a file has changed.
struct stamp {
    dev_t device;
    ino_t inode;
    off_t bytes;
    struct timespec modified;
};

struct set {
    char *paths[FILES]; // certificate, key, client_ca; the last may be NULL
    char *texts[FILES];
    struct stamp stamps[FILES];
    char **names;
    size_t name_count;
};

struct rpc_tls {
    grpc_ssl_client_certificate_request_type request;
    bool knows_clients;
    pthread_mutex_t lock; // protects the rest
    struct set set;
    bool is_new;                 // gRPC has not got it yet
    struct stamp refused[FILES]; // what has been logged as bad
};

static const char *const file_names[FILES] = {"[tls] certificate", "[tls] key", "[tls] client_ca"};

// ---------------------------------------------------------------- sets

static void set_deinit(struct set *set)
{
    for (int i = 0; i < FILES; i++) {
        mem_free(set->paths[i]);
        mem_free(set->texts[i]);
    }
    for (size_t i = 0; i < set->name_count; i++)
        mem_free(set->names[i]);
    mem_free(set->names);
    *set = (struct set){.name_count = 0};
}

static struct stamp stamp_of(const char *path)
{
    struct stat stat_now;
    if (!path || stat(path, &stat_now) != 0)
        return (struct stamp){.bytes = -1};
    return (struct stamp){stat_now.st_dev, stat_now.st_ino, stat_now.st_size, stat_now.st_mtim};
}

static bool stamps_equal(const struct stamp *a, const struct stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->bytes == b->bytes &&
           a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec;
}

static enum status read_text(const char *path, const char *field, char **out, struct reason *why)
{
    struct buffer text = {0};
    enum status status = bytes_read_file(path, RPC_TLS_FILE_BYTES_MAX, &text);
    if (status != STATUS_OK)
        return reason_set(why, STATUS_INVALID, field, "%.200s cannot be read: %s", path,
                          SYSTEM_TROUBLE(status));
    if (!strstr((const char *)text.data, "-----BEGIN ")) {
        buffer_deinit(&text);
        return reason_set(why, STATUS_INVALID, field, "%.200s is not PEM", path);
    }
    *out = (char *)text.data;
    return STATUS_OK;
}

// gRPC 1.51 aborts when a set that comes by the callback has no CA, though no client is asked:
// then it is given the server's own certificate, which it has no use for.
static grpc_ssl_server_certificate_config *config_of(const struct set *set)
{
    const char *ca = set->texts[2] ? set->texts[2] : set->texts[0];
    grpc_ssl_pem_key_cert_pair pair = {.private_key = set->texts[1], .cert_chain = set->texts[0]};
    return grpc_ssl_server_certificate_config_create(ca, &pair, 1);
}

// Whether gRPC takes the texts.
static bool fits_together(const struct set *set, grpc_ssl_client_certificate_request_type request)
{
    grpc_server_credentials *credentials = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config(request, config_of(set)));
    grpc_server *server = grpc_server_create(NULL, NULL);
    grpc_completion_queue *queue = grpc_completion_queue_create_for_pluck(NULL);
    grpc_server_register_completion_queue(server, queue, NULL);
    bool fits = credentials && grpc_server_add_http2_port(server, PROBE_ADDRESS, credentials) > 0;
    if (credentials)
        grpc_server_credentials_release(credentials);
    grpc_server_shutdown_and_notify(server, queue, server);
    (void)grpc_completion_queue_pluck(queue, server, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    grpc_server_destroy(server);
    grpc_completion_queue_shutdown(queue);
    grpc_completion_queue_destroy(queue);
    return fits;
}

static enum status set_read(struct set *set, const struct rpc_tls_params *params,
                            grpc_ssl_client_certificate_request_type request, struct reason *why)
{
    const char *const paths[FILES] = {params->certificate, params->key, params->client_ca};
    struct set read = {.name_count = params->name_count};
    enum status status = STATUS_OK;
    read.names = mem_alloc_array(params->name_count + 1, sizeof(read.names[0]));
    for (size_t i = 0; i < params->name_count; i++)
        read.names[i] = mem_copy_text(params->names[i]);
    for (int i = 0; i < FILES && status == STATUS_OK; i++) {
        if (!paths[i])
            continue;
        read.paths[i] = mem_copy_text(paths[i]);
        read.stamps[i] = stamp_of(paths[i]); // before reading: a later change is seen
        status = read_text(paths[i], file_names[i], &read.texts[i], why);
    }
    if (status == STATUS_OK && !fits_together(&read, request))
        status = reason_set(why, STATUS_INVALID, file_names[0],
                            "%.120s and the key %.120s%s%.60s are no certificate that can be "
                            "used: is one damaged, or of another pair?",
                            paths[0], paths[1], paths[2] ? " with the CA " : "",
                            paths[2] ? paths[2] : "");
    if (status != STATUS_OK) {
        set_deinit(&read);
        return status;
    }
    set_deinit(set);
    *set = read;
    return STATUS_OK;
}

static grpc_ssl_client_certificate_request_type request_of(const struct rpc_tls_params *params)
{
    if (!params->client_ca)
        return GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    return params->clients == RPC_TLS_CLIENTS_REQUIRED
               ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
               : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY;
}

static enum status check_params(const struct rpc_tls_params *params, struct reason *why)
{
    if (!params->certificate || !params->key)
        return reason_set(why, STATUS_INVALID, file_names[params->certificate ? 1 : 0],
                          "is missing: TLS needs a certificate and its key");
    if (params->name_count > 0 && !params->client_ca)
        return reason_set(why, STATUS_INVALID, file_names[2],
                          "is missing: names of clients are believed only when a CA signs them");
    return STATUS_OK;
}

enum status rpc_tls_open(const struct rpc_tls_params *params, struct rpc_tls **out,
                         struct reason *why)
{
    assert(params && out);

    enum status status = check_params(params, why);
    if (status != STATUS_OK)
        return status;
    rpc_core_begin();
    struct rpc_tls *tls = mem_alloc(sizeof(*tls));
    tls->request = request_of(params);
    tls->knows_clients = params->client_ca && params->clients == RPC_TLS_CLIENTS_REQUIRED;
    int error = pthread_mutex_init(&tls->lock, NULL);
    assert(error == 0);
    (void)error;
    status = set_read(&tls->set, params, tls->request, why);
    if (status != STATUS_OK) {
        rpc_tls_close(&tls);
        return status;
    }
    *out = tls;
    return STATUS_OK;
}

void rpc_tls_close(struct rpc_tls **tls)
{
    assert(tls);

    if (!*tls)
        return;
    set_deinit(&(*tls)->set);
    (void)pthread_mutex_destroy(&(*tls)->lock);
    mem_free(*tls);
    *tls = NULL;
    rpc_core_end();
}

static void put_in_force(struct rpc_tls *tls, const struct set *set)
{
    (void)pthread_mutex_lock(&tls->lock);
    set_deinit(&tls->set);
    tls->set = *set;
    tls->is_new = true;
    (void)pthread_mutex_unlock(&tls->lock);
}

enum status rpc_tls_update(struct rpc_tls *tls, const struct rpc_tls_params *params,
                           struct reason *why)
{
    assert(tls && params);

    enum status status = check_params(params, why);
    if (status != STATUS_OK)
        return status;
    if (request_of(params) != tls->request)
        return reason_set(why, STATUS_INVALID, file_names[2],
                          "whether clients show certificates is changed by a restart only");
    struct set set = {.name_count = 0};
    status = set_read(&set, params, tls->request, why);
    if (status != STATUS_OK)
        return status;
    put_in_force(tls, &set);
    return STATUS_OK;
}

bool rpc_tls_knows_clients(const struct rpc_tls *tls)
{
    assert(tls);
    return tls->knows_clients;
}

// ---------------------------------------------------------------- handshakes

void rpc_tls_check_files(struct rpc_tls *tls)
{
    assert(tls);

    struct stamp now[FILES];
    bool changed = false;
    bool known_bad = true;
    for (int i = 0; i < FILES; i++) {
        now[i] = stamp_of(tls->set.paths[i]);
        changed = changed || (tls->set.paths[i] && !stamps_equal(&now[i], &tls->set.stamps[i]));
        known_bad = known_bad && stamps_equal(&now[i], &tls->refused[i]);
    }
    if (!changed || known_bad)
        return;

    // Only this thread changes the set, so it may be read without the lock.
    const struct rpc_tls_params params = {
        .certificate = tls->set.paths[0],
        .key = tls->set.paths[1],
        .client_ca = tls->set.paths[2],
        .names = (const char *const *)tls->set.names,
        .name_count = tls->set.name_count,
    };
    struct set set = {.name_count = 0};
    struct reason why = {.text = ""};
    if (set_read(&set, &params, tls->request, &why) == STATUS_OK) {
        put_in_force(tls, &set);
        return;
    }
    char text[LOG_QUOTE_BYTES];
    memcpy(tls->refused, now, sizeof(now));
    log_error("certificate_refused", "field=\"%s\" reason=%s", why.field,
              log_quote(why.text, text));
}

static grpc_ssl_certificate_config_reload_status fetch(void *context,
                                                       grpc_ssl_server_certificate_config **out)
{
    struct rpc_tls *tls = context;
    grpc_ssl_certificate_config_reload_status status = GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    (void)pthread_mutex_lock(&tls->lock);
    if (tls->is_new) {
        *out = config_of(&tls->set);
        tls->is_new = false;
        status = GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
        log_info("certificate_loaded", "file=\"%s\" clients=%zu", tls->set.paths[0],
                 tls->set.name_count);
    }
    (void)pthread_mutex_unlock(&tls->lock);
    return status;
}

grpc_server_credentials *rpc_tls_credentials(struct rpc_tls *tls)
{
    assert(tls);

    (void)pthread_mutex_lock(&tls->lock);
    tls->is_new = true;
    (void)pthread_mutex_unlock(&tls->lock);
    return grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(tls->request, fetch, tls));
}

// ---------------------------------------------------------------- names

bool rpc_tls_matches(const char *pattern, const char *name)
{
    assert(pattern && name);

    const char *star = NULL; // the last '*' passed
    const char *from = NULL; // and the name where it began to stand for nothing
    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            from = name;
        } else if (*pattern == *name) {
            pattern++;
            name++;
        } else if (star && *from != '.' && *from != '/') {
            pattern = star + 1;
            name = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

// With the lock: whether a value of the property fits a pattern. Counts the values.
static bool has_name(const struct rpc_tls *tls, const grpc_auth_context *context,
                     const char *property, size_t *count, char seen[NAME_BYTES_MAX])
{
    grpc_auth_property_iterator iterator =
        grpc_auth_context_find_properties_by_name(context, property);
    const grpc_auth_property *value = NULL;
    while ((value = grpc_auth_property_iterator_next(&iterator))) {
        char name[NAME_BYTES_MAX];
        (*count)++;
        // A NUL inside would make another name of it.
        if (value->value_length >= sizeof(name) ||
            memchr(value->value, 0, value->value_length) != NULL)
            continue;
        memcpy(name, value->value, value->value_length);
        name[value->value_length] = '\0';
        memcpy(seen, name, sizeof(name));
        for (size_t i = 0; i < tls->set.name_count; i++)
            if (rpc_tls_matches(tls->set.names[i], name))
                return true;
    }
    return false;
}

enum status rpc_tls_admit(struct rpc_tls *tls, grpc_call *call, struct reason *why)
{
    assert(tls && call);

    char seen[NAME_BYTES_MAX] = "";
    size_t count = 0;
    grpc_auth_context *context = grpc_call_auth_context(call);
    bool is_known = context && grpc_auth_context_peer_is_authenticated(context);
    (void)pthread_mutex_lock(&tls->lock);
    bool fits = tls->set.name_count == 0;
    if (!fits && is_known)
        fits = has_name(tls, context, GRPC_X509_SAN_PROPERTY_NAME, &count, seen);
    // The common name counts only for a certificate without any other (RFC 6125).
    if (!fits && is_known && count == 0)
        fits = has_name(tls, context, GRPC_X509_CN_PROPERTY_NAME, &count, seen);
    (void)pthread_mutex_unlock(&tls->lock);
    if (context)
        grpc_auth_context_release(context);
    if (fits)
        return STATUS_OK;
    if (!is_known)
        return reason_set(why, STATUS_UNAUTHENTICATED, NULL,
                          "this server wants a client certificate: --tls-cert and --tls-key");
    return reason_set(why, STATUS_DENIED, NULL,
                      "the client '%s' is not in this server's list ([tls] client_names)", seen);
}
