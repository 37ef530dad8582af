// SPDX-License-Identifier: Apache-2.0
// The flags that were given become values of the configuration, so that the usual precedence
// holds; then every member whose flag the verb has is read back.

#include "tools/client_config.h"

#include <assert.h>
#include <stdio.h>

#include "proto/base/address.h"
#include "proto/base/settings.h"

extern char **environ;

enum status client_config_read(const struct config_table *table, const struct options *options,
                               struct config **out, struct reason *why)
{
    struct config *config = config_create(table);
    enum status status = STATUS_OK;
    if (options->config)
        status = config_read_file(config, options->config, true, why);
    if (status == STATUS_OK)
        status = config_read_environment(config, environ, why);
    if (status != STATUS_OK)
        config_destroy(&config);
    else
        *out = config;
    return status;
}

static enum status set_flags(const struct options *options, struct config *config,
                             struct reason *why)
{
    char deadline[32];
    (void)snprintf(deadline, sizeof(deadline), "%llu", (unsigned long long)options->deadline_ms);
    const struct {
        const char *flag;
        const char *value;
    } given[] = {
        {"--server", options->server},
        {"--data", options->data},
        {"--model", options->model},
        {"--head", options->head},
        {"--tls-ca", options->tls_ca},
        {"--tls-cert", options->tls_cert},
        {"--tls-key", options->tls_key},
        {"--tls-name", options->tls_name},
        {"--memory", options->memory[0] ? options->memory : NULL},
        {"--deadline-ms", options->deadline_ms ? deadline : NULL},
    };
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof(given) / sizeof(given[0]) && status == STATUS_OK; i++)
        if (given[i].value)
            status = config_set_flag(config, given[i].flag, given[i].value, why);
    return status;
}

// Whether the verb's work is asked for inside this process.
static bool is_local(const struct options *options)
{
    return !options->server && (options->data || options->model || options->head);
}

enum status client_config_apply(const struct args_verb *verb, struct options *options,
                                struct config **out, struct reason *why)
{
    assert(verb && options && out);

    struct config *config = NULL;
    enum status status = client_config_read(&settings_client, options, &config, why);
    if (status == STATUS_OK)
        status = set_flags(options, config, why);
    if (status != STATUS_OK) {
        config_destroy(&config);
        return status;
    }
    struct settings_client settings = {0};
    config_store(config, &settings);
    bool local = is_local(options);
    options->data_given = options->data != NULL;
    options->memory_given = options->memory[0] != 0;
    if (args_has(verb, "--server") && !local && !options->server)
        options->server = settings.server;
    if (options->server) {
        options->tls_ca = settings.tls_ca;
        options->tls_cert = settings.tls_cert;
        options->tls_key = settings.tls_key;
        options->tls_name = settings.tls_name;
    }
    // A server has its own data directory and model: what is given with it is refused later.
    if (args_has(verb, "--data") && !options->server)
        options->data = settings.data;
    if (args_has(verb, "--model") && !options->server)
        options->model = settings.model;
    if (args_has(verb, "--head") && !options->server)
        options->head = settings.head;
    if (args_has(verb, "--memory") && settings.memory)
        options->memory = settings.memory;
    if (args_has(verb, "--deadline-ms"))
        options->deadline_ms = settings.deadline_ms;
    struct address address;
    if (options->server && !options->print_config &&
        address_parse(options->server, "--server", &address, why)) {
        config_blame(config, why);
        config_destroy(&config);
        return STATUS_INVALID;
    }
    *out = config;
    return STATUS_OK;
}
