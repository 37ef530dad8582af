// SPDX-License-Identifier: Apache-2.0
// reco - the command line: finds the verb, reads its flags, runs it.

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/log.h"
#include "proto/base/system_error.h"
#include "tools/client_config.h"
#include "tools/help.h"
#include "tools/output.h"
#include "tools/verbs.h"

// In a one-shot verb the log of the parts inside this process is noise; RECO_LOG
// (error, warn, info, debug) asks for it. The supervisor logs what it does.
static enum status set_log_level(const struct options *options, const struct verb *verb,
                                 struct reason *why)
{
    enum log_level level = verb == &verb_up ? LOG_INFO : LOG_ERROR;
    const char *wanted = getenv("RECO_LOG"); // NOLINT(concurrency-mt-unsafe): no thread yet
    if (options->verbose)
        level = verb == &verb_up ? LOG_DEBUG : LOG_INFO;
    if (options->quiet)
        level = LOG_ERROR;
    if (wanted && wanted[0] && log_level_parse(wanted, &level))
        return reason_set(why, STATUS_INVALID, "RECO_LOG",
                          "'%s' is not allowed: error, warn, info and debug are", wanted);
    log_set_level(level);
    return STATUS_OK;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

// `reco up` prints more: it has children.
static int run_or_print(const struct verb *verb, const struct options *options,
                        const struct config *config)
{
    if (!options->print_config)
        return verb->run(options);
    config_print(config, NULL, stdout);
    return verb == &verb_up ? verb->run(options) : VERBS_DONE;
}

static int run(const struct verb *verb, int argc, const char *const *argv)
{
    struct options options;
    struct reason why = {.text = ""};
    struct args_rest rest = {.help = false};
    int exit_status = VERBS_USAGE;
    struct config *config = NULL;

    options_init(&options);
    output_begin(verb->args.name, false, false);
    enum status status = args_parse(&verb->args, argc, argv, &options, &rest, &why);
    options.items = rest.items;
    if (!status && rest.help) {
        help_print(&verb->args, stdout);
        exit_status = VERBS_DONE;
    } else if (!status) {
        output_begin(verb->args.name, options.quiet, options.verbose);
        status = options_check(&options, &why);
        if (!status)
            status = set_log_level(&options, verb, &why);
        if (!status)
            status = client_config_apply(&verb->args, &options, &config, &why);
        if (!status)
            exit_status = run_or_print(verb, &options, config);
    }
    if (status)
        output_error(NULL, &why);
    args_free(&verb->args, &options, &options.items);
    config_destroy(&config);
    return exit_status;
}

// Behind the last word on stdout. Without a reader the process ends in silence, as filters do.
static int finish(int exit_status)
{
    bool flushed = fflush(stdout) == 0;
    const char *cause = SYSTEM_ERROR(errno);
    if (flushed && !ferror(stdout))
        return exit_status;
    // Of a write that failed earlier, errno is long gone.
    if (output_stdout_failed(flushed ? "is its disk full?" : cause)) {
        (void)signal(SIGPIPE, SIG_DFL);
        (void)raise(SIGPIPE);
    }
    return exit_status ? exit_status : VERBS_FAILED;
}

int main(int argc, char **argv)
{
    const char *const *words = (const char *const *)argv + 1;
    struct reason why = {.text = ""};
    const struct verb *verb = NULL;
    int used = 1;

    // A reader that goes away does not end what was begun: see finish().
    (void)signal(SIGPIPE, SIG_IGN);
    output_begin("", false, false);
    if (argc < 2) {
        verbs_print_all(stderr);
        return VERBS_USAGE;
    }

    if (argc == 3 && is_help(words[1]) && verbs_print_family(words[0], stdout))
        return VERBS_DONE;
    if (is_help(words[0])) {
        verb = &verb_help;
    } else if (strcmp(words[0], "--version") == 0) {
        verb = &verb_version;
    } else if (verbs_find(argc - 1, words, &verb, &used, &why)) {
        output_error(NULL, &why);
        return VERBS_USAGE;
    }

    return finish(run(verb, argc - 1 - used, words + used));
}
