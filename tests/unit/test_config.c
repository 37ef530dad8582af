// SPDX-License-Identifier: Apache-2.0
// Goal: a configuration is what its file, environment and flags say, in this order of precedence;
// nothing unknown, doubled or out of range is taken, and the error names where it stands, what
// it is and what is allowed; what is printed reads back as the same.
//
// Method: a small table of every kind; hostile files; the tables of the real programs.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/config.h"
#include "proto/base/mem.h"
#include "proto/base/settings.h"

struct settings {
    const char *listen;
    uint64_t threads;
    bool strict;
    int level;
    struct config_list names;
};

static const struct config_table *const family[];
static const char *const others[] = {"RECO_LOG", NULL};

static const struct config_key keys[] = {
    {.section = "server",
     .name = "listen",
     .kind = CONFIG_TEXT,
     .fallback = "127.0.0.1:1",
     .offset = offsetof(struct settings, listen),
     .flag = "--listen",
     .argument = "HOST:PORT",
     .also = "RECO_LISTEN",
     .help = "where"},
    {.section = "server",
     .name = "threads",
     .kind = CONFIG_COUNT,
     .fallback = "2",
     .low = 1,
     .high = 64,
     .offset = offsetof(struct settings, threads),
     .flag = "--threads",
     .argument = "N",
     .help = "how many",
     .danger = "too many are slow",
     .reloads = true},
    {.section = "tls",
     .name = "strict",
     .kind = CONFIG_SWITCH,
     .fallback = "no",
     .offset = offsetof(struct settings, strict),
     .help = "whether"},
    {.section = "tls",
     .name = "names",
     .kind = CONFIG_LIST,
     .offset = offsetof(struct settings, names),
     .flag = "--name",
     .argument = "NAME",
     .help = "who"},
    {.section = "log",
     .name = "level",
     .kind = CONFIG_CHOICE,
     .fallback = "info",
     .choices = "error|info",
     .offset = offsetof(struct settings, level),
     .help = "which"},
};
static const struct config_table table = {
    .program = "mine",
    .summary = "A program.",
    .keys = keys,
    .key_count = sizeof(keys) / sizeof(keys[0]),
    .family = family,
    .other_variables = others,
};
static const struct config_key other_keys[] = {
    {.section = "disk",
     .name = "percent",
     .kind = CONFIG_COUNT,
     .fallback = "1",
     .high = 9,
     .help = "x"},
};
static const struct config_table other = {.program = "theirs",
                                          .keys = other_keys,
                                          .key_count = 1,
                                          .family = family,
                                          .other_variables = others};
static const struct config_table *const family[] = {&table, &other, NULL};

static enum status read_text(struct config *config, const char *text, bool shared,
                             struct reason *why)
{
    struct bytes bytes = {(const uint8_t *)text, strlen(text)};
    return config_read_text(config, "f.ini", bytes, shared, why);
}

static void accepts(const char *text, struct settings *settings, struct config **config)
{
    struct reason why = {0};
    *config = config_create(&table);
    cr_assert(eq(int, read_text(*config, text, false, &why), STATUS_OK), "%s", why.text);
    config_store(*config, settings);
}

static void refuses(const char *text, const char *expected)
{
    struct reason why = {0};
    struct config *config = config_create(&table);
    cr_expect(eq(int, read_text(config, text, false, &why), STATUS_INVALID), "%s", text);
    cr_expect(strstr(why.text, expected) != NULL, "'%s' is not in '%s'", expected, why.text);
    config_destroy(&config);
}

Test(config, defaults_are_there_without_a_file)
{
    struct settings settings;
    struct config *config = NULL;
    accepts("", &settings, &config);
    cr_expect_str_eq(settings.listen, "127.0.0.1:1");
    cr_expect(eq(u64, settings.threads, 2));
    cr_expect(not(settings.strict));
    cr_expect(eq(int, settings.level, 1));
    cr_expect(eq(sz, settings.names.count, 0));
    config_destroy(&config);
    cr_expect(eq(ptr, config, NULL));
}

Test(config, a_file_sets_every_kind)
{
    struct settings settings;
    struct config *config = NULL;
    accepts("\xef\xbb\xbf# a comment \xff\n[server]\r\n  listen = [::1]:7 ; behind\nthreads:3\n\n"
            "[tls]\nstrict=yes\nnames = a b\nnames =\tc\n; more\n[log] # x\nlevel = error",
            &settings, &config);
    cr_expect_str_eq(settings.listen, "[::1]:7");
    cr_expect(eq(u64, settings.threads, 3));
    cr_expect(settings.strict);
    cr_expect(eq(int, settings.level, 0));
    cr_assert(eq(sz, settings.names.count, 3));
    cr_expect_str_eq(settings.names.items[0], "a");
    cr_expect_str_eq(settings.names.items[2], "c");
    config_destroy(&config);

    accepts("[server]\nlisten =\n", &settings, &config);
    cr_expect(eq(ptr, (void *)settings.listen, NULL)); // set to nothing
    config_destroy(&config);
}

Test(config, an_error_names_the_place_the_value_and_what_is_allowed)
{
    refuses("[server]\n\nthreads = 65\n",
            "f.ini:3: [server] threads: '65' is not allowed: a whole number from 1 to 64 is");
    refuses("[server]\nthreads = 2x\n", "'2x' is not allowed");
    refuses("[server]\nthreads = -1\n", "'-1' is not allowed");
    refuses("[server]\nthreads =\n", "'' is not allowed");
    refuses("[server]\nthreads = 99999999999999999999\n", "is not allowed");
    refuses("[tls]\nstrict = maybe\n", "f.ini:2: [tls] strict: 'maybe' is not allowed: no|yes is");
    refuses("[log]\nlevel = loud\n", "'loud' is not allowed: error|info is");
    refuses("[server]\nlisten = a\tb\x01\n", "without control characters");
}

Test(config, what_is_unknown_is_refused_with_the_nearest)
{
    refuses("[servr]\nlisten = x\n", "f.ini:2: unknown section [servr]; did you mean server?");
    refuses("[server]\nlisen = x\n", "unknown key 'lisen' of [server]; did you mean listen?");
    refuses("[server]\nzebra = x\n", "unknown key 'zebra' of [server]; `reco config mine`");
    refuses("listen = x\n", "f.ini:1: 'listen' stands before any [section]");
    refuses("[disk]\npercent = 1\n", "[disk] percent is a key of theirs, not of mine");
    refuses("[server]\nthreads = 1\nlisten = x\nthreads = 1\n",
            "f.ini:4: [server] threads: given twice; the other stands at f.ini:2");
}

// What libinih alone would read as something else, in silence.
Test(config, what_the_parser_would_misread_is_refused)
{
    char text[512];
    refuses("[server] listen = x\n", "f.ini:1: text behind [section]");
    refuses("[server\nlisten = x\n", "f.ini:1: neither [section] nor key = value");
    refuses("[server]\nlisten\nthreads = 900\n", "f.ini:2: neither [section] nor key = value");
    refuses("[server]\nlisten = a\n continued\n", "f.ini:3: neither");
    refuses("[server]\nlisten = \xff\n", "f.ini:2: the line is not UTF-8");
    (void)snprintf(text, sizeof(text), "[server]\nlisten = %0*d\n", CONFIG_LINE_BYTES_MAX - 8, 1);
    refuses(text, "f.ini:2: the line has 198 bytes; at most 197 are allowed");
    (void)snprintf(text, sizeof(text), "[server]\n%0*d = 1\n", 100, 1);
    refuses(text, "f.ini:2: unknown key");

    struct reason why = {0};
    struct config *config = config_create(&table);
    static const char nul[] = "[server]\nlisten = a\0b\n";
    struct bytes bytes = {(const uint8_t *)nul, sizeof(nul) - 1};
    cr_expect(eq(int, config_read_text(config, "f.ini", bytes, false, &why), STATUS_INVALID));
    cr_expect(strstr(why.text, "NUL") != NULL, "%s", why.text);
    config_destroy(&config);
}

Test(config, the_longest_line_is_read_whole)
{
    char text[512];
    struct settings settings;
    struct config *config = NULL;
    (void)snprintf(text, sizeof(text), "[server]\nlisten = %0*d\n", CONFIG_LINE_BYTES_MAX - 9, 1);
    accepts(text, &settings, &config);
    cr_expect(eq(sz, strlen(settings.listen), CONFIG_LINE_BYTES_MAX - 9));
    config_destroy(&config);
}

Test(config, a_shared_file_may_have_keys_of_other_programs)
{
    struct reason why = {0};
    struct settings settings;
    struct config *config = config_create(&table);
    cr_expect(eq(int, read_text(config, "[disk]\npercent = 3\n[server]\nthreads = 5\n", true, &why),
                 STATUS_OK),
              "%s", why.text);
    config_store(config, &settings);
    cr_expect(eq(u64, settings.threads, 5));
    cr_expect(eq(int, read_text(config, "[disk]\npercnt = 3\n", true, &why), STATUS_INVALID));
    config_destroy(&config);
}

static enum status load(const char *const *argv, struct settings *settings, struct reason *why)
{
    struct config_words words;
    struct config *config = NULL;
    int argc = 0;
    while (argv[argc])
        argc++;
    *why = (struct reason){0};
    enum status status = config_load(&table, argc, argv, &words, &config, why);
    static char listen[64];
    if (status == STATUS_OK) {
        config_store(config, settings);
        (void)snprintf(listen, sizeof(listen), "%s", settings->listen ? settings->listen : "");
        settings->listen = listen;
    }
    config_destroy(&config);
    return status;
}

#define LOAD(settings, why, ...)                                                                   \
    load((const char *const[]){"mine", __VA_ARGS__, NULL}, settings, why)

Test(config, a_flag_goes_before_a_variable_and_that_before_the_file)
{
    char path[] = "/tmp/reco-config-XXXXXX";
    struct settings settings;
    struct reason why;
    int fd = mkstemp(path);
    static const char text[] = "[server]\nthreads = 3\nlisten = file\n";
    cr_assert(eq(int, (int)write(fd, text, strlen(text)), (int)strlen(text)));
    (void)close(fd);

    cr_expect(eq(int, LOAD(&settings, &why, "--config", path), STATUS_OK));
    cr_expect(eq(u64, settings.threads, 3));
    cr_assert(eq(int, setenv("RECO_SERVER_THREADS", "4", 1), 0));
    cr_assert(eq(int, setenv("RECO_LISTEN", "other name", 1), 0));
    cr_expect(eq(int, LOAD(&settings, &why, "--config", path), STATUS_OK));
    cr_expect(eq(u64, settings.threads, 4));
    cr_expect_str_eq(settings.listen, "other name");
    cr_assert(eq(int, setenv("RECO_SERVER_LISTEN", "own name", 1), 0));
    cr_expect(
        eq(int,
           LOAD(&settings, &why, "--threads", "5", "--config", path, "--name", "a", "--name", "b"),
           STATUS_OK));
    cr_expect(eq(u64, settings.threads, 5));
    cr_expect_str_eq(settings.listen, "own name");
    cr_expect(eq(sz, settings.names.count, 2));
    (void)unlink(path);
    cr_expect(eq(int, LOAD(&settings, &why, "--config", path), STATUS_INVALID));
    cr_expect(strstr(why.text, "cannot be read: not found") != NULL, "%s", why.text);
}

Test(config, variables_and_flags_are_checked_like_the_file)
{
    struct settings settings;
    struct reason why;
    static const struct {
        const char *variable, *value, *field, *text;
    } bad[] = {
        {"RECO_SERVER_THREADS", "no", "RECO_SERVER_THREADS", "'no' is not allowed: a whole number"},
        {"RECO_SERVR_THREADS", "1", "RECO_SERVR_THREADS", "did you mean RECO_SERVER_THREADS?"},
        {"RECO_", "1", "RECO_", "no key has this"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert(eq(int, setenv(bad[i].variable, bad[i].value, 1), 0));
        cr_expect(eq(int, LOAD(&settings, &why, "--threads", "1"), STATUS_INVALID));
        cr_expect_str_eq(why.field, bad[i].field);
        cr_expect(strstr(why.text, bad[i].text) != NULL, "%s", why.text);
        (void)unsetenv(bad[i].variable);
    }
    cr_assert(eq(int, setenv("RECO_LOG", "debug", 1), 0));      // no key
    cr_assert(eq(int, setenv("RECO_DISK_PERCENT", "x", 1), 0)); // another program's
    cr_expect(eq(int, LOAD(&settings, &why, "--threads", "1"), STATUS_OK), "%s", why.text);

    cr_expect(eq(int, LOAD(&settings, &why, "--threads", "0"), STATUS_INVALID));
    cr_expect_str_eq(why.field, "--threads");
    cr_expect(eq(int, LOAD(&settings, &why, "--threads"), STATUS_INVALID));
    cr_expect_str_eq(why.text, "needs a value");
    cr_expect(eq(int, LOAD(&settings, &why, "--threads", "1", "--threads", "1"), STATUS_INVALID));
    cr_expect(strstr(why.text, "given twice") != NULL, "%s", why.text);
    cr_expect(eq(int, LOAD(&settings, &why, "--thread", "1"), STATUS_INVALID));
    cr_expect_str_eq(why.text, "unknown flag; did you mean --threads?");
    cr_expect(eq(int, LOAD(&settings, &why, "item"), STATUS_INVALID));
    cr_expect_str_eq(why.field, "item");
}

Test(config, an_error_of_a_key_names_what_the_person_wrote)
{
    static const char file[] = "[server]\nlisten = a:1\n[tls]\nnames = x\n";
    static const struct {
        const char *field, *named, *text;
    } cases[] = {
        {"--listen", "", "f.ini:2: [server] listen: is bad"},
        {"listen", "", "f.ini:2: [server] listen: is bad"},
        {"[server] listen", "", "f.ini:2: [server] listen: is bad"},
        {"names", "", "f.ini:4: [tls] names: is bad"},
        {"--threads", "RECO_SERVER_THREADS", "is bad"},
        {"threads", "RECO_SERVER_THREADS", "is bad"},
        {"[tls] strict", "[tls] strict", "is bad"}, // at its default
        {"--other", "--other", "is bad"},
        {"", "", "is bad"},
    };
    char variable[] = "RECO_SERVER_THREADS=9";
    char *const environment[] = {variable, NULL};
    struct config *config = config_create(&table);
    struct reason why = {0};
    cr_assert(eq(int, read_text(config, file, false, &why), STATUS_OK));
    cr_assert(eq(int, config_read_environment(config, environment, &why), STATUS_OK));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)reason_set(&why, STATUS_INVALID, cases[i].field, "is bad");
        config_blame(config, &why);
        cr_expect_str_eq(why.field, cases[i].named, "%s", cases[i].field);
        cr_expect_str_eq(why.text, cases[i].text, "%s", cases[i].field);
    }
    cr_assert(eq(int, config_set_flag(config, "--listen", "b:2", &why), STATUS_OK));
    (void)reason_set(&why, STATUS_INVALID, "listen", "is bad");
    config_blame(config, &why);
    cr_expect_str_eq(why.field, "--listen");
    config_destroy(&config);

    config = config_create(&table);
    (void)reason_set(&why, STATUS_INVALID, "listen", "is bad");
    config_blame(config, &why);
    cr_expect_str_eq(why.field, "--listen");
    config_blame(config, NULL);
    config_destroy(&config);
}

static char *printed(const struct config *config)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    config_print(config, NULL, file);
    (void)fclose(file);
    return text;
}

Test(config, what_is_printed_is_a_file_that_means_the_same)
{
    struct settings settings;
    struct config *config = NULL;
    struct reason why = {0};
    accepts("[server]\nthreads = 7\nlisten = a b:c\n[tls]\nnames = x y\n", &settings, &config);
    char *text = printed(config);
    cr_expect(strstr(text, "# From: f.ini:2\nthreads = 7\n") != NULL, "%s", text);
    cr_expect(strstr(text, "# From: default\nlevel = info\n") != NULL);
    cr_expect(strstr(text, "# DANGER: too many are slow.") != NULL);
    cr_expect(strstr(text, "RECO_SERVER_THREADS") != NULL);

    struct config *again = config_create(&table);
    cr_assert(eq(int, read_text(again, text, false, &why), STATUS_OK), "%s", why.text);
    struct settings second;
    config_store(again, &second);
    cr_expect(eq(u64, second.threads, 7));
    cr_expect_str_eq(second.listen, "a b:c");
    cr_expect(eq(sz, second.names.count, 2));
    config_destroy(&again);
    config_destroy(&config);
    free(text);
}

Test(config, a_value_that_no_line_can_say_is_printed_as_a_comment)
{
    char longest[400];
    const char *values[] = {"a ;b", " a", "a ", longest, "\xff"};
    (void)snprintf(longest, sizeof(longest), "%0*d", 300, 1);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct reason why = {0};
        struct config *config = config_create(&table);
        struct config *again = config_create(&table);
        cr_assert(eq(int, config_set_flag(config, "--listen", values[i], &why), STATUS_OK));
        char *text = printed(config);
        cr_expect(eq(int, read_text(again, text, false, &why), STATUS_OK), "%s", why.text);
        cr_expect(config_is_default(again, "server", "listen"));
        config_destroy(&config);
        config_destroy(&again);
        free(text);
    }
}

// The committed examples are what the tables say; `reco config PROGRAM` prints them anew.
Test(config, the_committed_examples_are_up_to_date)
{
    for (size_t i = 0; settings_tables[i]; i++) {
        char path[512];
        char *text = NULL;
        size_t bytes = 0;
        struct buffer committed = {0};
        (void)snprintf(path, sizeof(path), "%s/deploy/%s.example.ini", RECO_SOURCE_DIR,
                       settings_tables[i]->program);
        FILE *file = open_memstream(&text, &bytes);
        config_print_example(settings_tables[i], file);
        (void)fclose(file);
        cr_assert(eq(int, bytes_read_file(path, 1 << 20, &committed), STATUS_OK), "%s", path);
        cr_expect_str_eq((const char *)committed.data, text,
                         "%s is old: build/dev/bin/reco config %s > deploy/%s.example.ini", path,
                         settings_tables[i]->program, settings_tables[i]->program);

        // And it is a valid file, with every key when the marks are taken away.
        struct reason why = {0};
        struct config *config = config_create(settings_tables[i]);
        cr_expect(eq(int,
                     config_read_text(config, "example",
                                      (struct bytes){committed.data, committed.count}, false, &why),
                     STATUS_OK),
                  "%s", why.text);
        config_destroy(&config);
        buffer_deinit(&committed);
        free(text);
    }
}

Test(config, every_key_of_every_program_is_documented_and_named_once)
{
    for (size_t t = 0; settings_tables[t]; t++) {
        const struct config_table *one = settings_tables[t];
        cr_expect(le(sz, one->key_count, CONFIG_KEYS_MAX));
        for (size_t i = 0; i < one->key_count; i++) {
            const struct config_key *key = &one->keys[i];
            cr_expect(key->help && key->help[0]);
            cr_expect(not(key->flag && !key->argument), "%s", key->flag);
            cr_expect(lt(sz, key->offset, one->settings_bytes));
            for (size_t j = 0; j < i; j++) {
                bool same = strcmp(one->keys[j].section, key->section) == 0 &&
                            strcmp(one->keys[j].name, key->name) == 0;
                cr_expect(not(same), "[%s] %s is there twice", key->section, key->name);
                cr_expect(not(key->flag && one->keys[j].flag &&
                              strcmp(one->keys[j].flag, key->flag) == 0));
            }
        }
    }
}
