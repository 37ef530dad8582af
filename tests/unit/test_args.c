// SPDX-License-Identifier: Apache-2.0
// Goal: a command line means what its table says, and every mistake is told with the
// flag, the value and what is allowed.
//
// Method: a made-up verb with one flag of each kind.

#include <stddef.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/words.h"
#include "tools/args.h"
#include "tools/help.h"

struct settings {
    bool fast;
    const char *name, *file;
    uint64_t k;
    double share;
    int kind;
    struct args_list tags;
    struct args_numbers batches;
};

static const struct args_flag first_group[] = {
    {.name = "--fast",
     .alias = "-f",
     .kind = ARGS_SWITCH,
     .help = "hurries",
     .offset = offsetof(struct settings, fast)},
    {.name = "--name",
     .kind = ARGS_TEXT,
     .argument = "TEXT",
     .help = "a name",
     .offset = offsetof(struct settings, name)},
    {.name = "--file",
     .kind = ARGS_TEXT,
     .argument = "X.npy",
     .help = "a file",
     .offset = offsetof(struct settings, file)},
    {.name = NULL},
};

static const struct args_flag second_group[] = {
    {.name = "-k",
     .kind = ARGS_COUNT,
     .argument = "N",
     .help = "neighbours",
     .offset = offsetof(struct settings, k),
     .low = 1,
     .high = 256},
    {.name = "--share",
     .kind = ARGS_NUMBER,
     .argument = "X",
     .help = "a share",
     .offset = offsetof(struct settings, share),
     .low = -1,
     .high = 1},
    {.name = "--kind",
     .kind = ARGS_CHOICE,
     .argument = "KIND",
     .help = "a kind",
     .offset = offsetof(struct settings, kind),
     .choices = "auto|exact|b"},
    {.name = "--tag",
     .kind = ARGS_LIST,
     .argument = "TAG",
     .help = "a tag",
     .offset = offsetof(struct settings, tags)},
    {.name = "--batch",
     .kind = ARGS_NUMBER_LIST,
     .argument = "N,N",
     .help = "batches",
     .offset = offsetof(struct settings, batches),
     .low = 1,
     .high = 64},
    {.name = NULL},
};

static const struct args_verb verb = {
    .name = "memory try",
    .items = "NAME SOURCE...",
    .summary = "tries",
    .details = "",
    .items_min = 1,
    .items_max = 3,
    .groups = {first_group, second_group},
};

#define WORDS(...)                                                                                 \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define PARSE(...)                                                                                 \
    args_parse(&verb, sizeof(WORDS(__VA_ARGS__)) / sizeof(char *), WORDS(__VA_ARGS__), &settings,  \
               &rest, &why)

static struct settings settings;
static struct args_rest rest;
static struct reason why;

static void begin(void)
{
    args_free(&verb, &settings, &rest.items);
    settings = (struct settings){.k = 10};
    why = (struct reason){.text = ""};
}

// A command line that must be refused, and the words that the reason must hold.
#define REFUSED(words, ...)                                                                        \
    do {                                                                                           \
        begin();                                                                                   \
        cr_expect(eq(int, PARSE(__VA_ARGS__), STATUS_INVALID));                                    \
        char told[1024];                                                                           \
        (void)snprintf(told, sizeof(told), "%s: %s", why.field, why.text);                         \
        cr_expect(strstr(told, words) != NULL, "'%s' lacks '%s'", told, words);                    \
    } while (0)

TestSuite(args, .fini = begin);

Test(args, reads_every_kind_of_flag_between_items)
{
    begin();
    cr_assert(eq(int,
                 PARSE("a", "--fast", "--name", "x y", "-k", "256", "b", "--share", "-0.5",
                       "--kind=exact", "--tag", "one", "--tag=two", "--batch", "1,8,64"),
                 STATUS_OK));

    cr_expect(settings.fast);
    cr_expect(eq(str, (char *)settings.name, (char *)"x y"));
    cr_expect(eq(u64, settings.k, 256));
    cr_expect(eq(dbl, settings.share, -0.5));
    cr_expect(eq(int, settings.kind, 1));
    cr_assert(eq(sz, settings.tags.count, 2));
    cr_expect(eq(str, (char *)settings.tags.items[1], (char *)"two"));
    cr_assert(eq(sz, settings.batches.count, 3));
    cr_expect(eq(u64, settings.batches.items[2], 64));
    cr_assert(eq(sz, rest.items.count, 2));
    cr_expect(eq(str, (char *)rest.items.items[1], (char *)"b"));
    cr_expect(not(rest.help));
}

Test(args, keeps_the_defaults_of_flags_that_are_not_given)
{
    begin();
    cr_assert(eq(int, PARSE("a"), STATUS_OK));
    cr_expect(eq(u64, settings.k, 10));
    cr_expect(eq(ptr, (void *)settings.name, NULL));
}

Test(args, two_dashes_end_the_flags_and_one_is_an_item)
{
    begin();
    cr_assert(eq(int, PARSE("-", "-f", "--", "--fast", "-k"), STATUS_OK));
    cr_assert(eq(sz, rest.items.count, 3));
    cr_expect(eq(str, (char *)rest.items.items[0], (char *)"-"));
    cr_expect(eq(str, (char *)rest.items.items[2], (char *)"-k"));
    cr_expect(settings.fast);
}

Test(args, a_value_may_begin_with_a_dash_or_be_empty)
{
    begin();
    cr_assert(eq(int, PARSE("a", "--name", "--fast", "--tag", "-", "--tag="), STATUS_OK));
    cr_expect(eq(str, (char *)settings.name, (char *)"--fast"));
    cr_expect(not(settings.fast));
    cr_expect(eq(str, (char *)settings.tags.items[1], (char *)""));
}

Test(args, help_wins_over_what_is_missing)
{
    begin();
    cr_assert(eq(int, PARSE("--help", "--nonsense"), STATUS_OK));
    cr_expect(rest.help);
}

Test(args, names_the_nearest_flag_for_an_unknown_one)
{
    REFUSED("did you mean --share?", "a", "--shar", "1");
    REFUSED("did you mean --name?", "a", "--nmae", "1");
    REFUSED("unknown flag --colour-of-the-sky; see `reco help memory try`", "a",
            "--colour-of-the-sky");
    REFUSED("unknown flag -x", "a", "-x");
    REFUSED("unknown flag -k10", "a", "-k10");
}

Test(args, refuses_numbers_that_are_none_or_out_of_range)
{
    REFUSED("-k: '0' is not allowed: a whole number from 1 to 256 is", "a", "-k", "0");
    REFUSED("-k: '257'", "a", "-k", "257");
    REFUSED("-k: '-1'", "a", "-k", "-1");
    REFUSED("-k: '+1'", "a", "-k", "+1");
    REFUSED("-k: ' 1'", "a", "-k", " 1");
    REFUSED("-k: '1 '", "a", "-k", "1 ");
    REFUSED("-k: '1e2'", "a", "-k", "1e2");
    REFUSED("-k: '0x10'", "a", "-k", "0x10");
    REFUSED("-k: ''", "a", "-k", "");
    REFUSED("-k: '18446744073709551617'", "a", "-k", "18446744073709551617");
    REFUSED("--share: '1.5' is not allowed: a number from -1 to 1 is", "a", "--share", "1.5");
    REFUSED("--share: 'nan'", "a", "--share", "nan");
    REFUSED("--share: 'inf'", "a", "--share", "inf");
    REFUSED("--share: '0x1'", "a", "--share", "0x1");
    REFUSED("--share: '1.'..", "a", "--share", "1.'..");
    REFUSED("--share: ''", "a", "--share", "");
    REFUSED("--batch: '65'", "a", "--batch", "1,65");
    REFUSED("--batch: ''", "a", "--batch", "1,,2");
    REFUSED("--batch: ''", "a", "--batch", "1,");
    REFUSED("--batch: '8,1,8' is not allowed: 8 comes twice", "a", "--batch", "8,1,8");
    REFUSED("--batch: '8,08' is not allowed: 08 comes twice", "a", "--batch", "8,08");
    REFUSED("at most 16 numbers", "a", "--batch", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17");
}

Test(args, refuses_choices_switches_and_values_that_do_not_fit)
{
    REFUSED("--kind: 'x' is not allowed: auto|exact|b is", "a", "--kind", "x");
    REFUSED("--kind: 'auto|exact' is not allowed", "a", "--kind", "auto|exact");
    REFUSED("--kind: '' is not allowed", "a", "--kind", "");
    REFUSED("--fast: takes no value, got 'yes'", "a", "--fast=yes");
    REFUSED("--name: needs a value: TEXT", "a", "--name");
    REFUSED("--file: '' is not allowed: a path is", "a", "--file", "");
    REFUSED("--file: '' is not allowed: a path is", "a", "--file=");
}

Test(args, counts_the_items)
{
    REFUSED("nothing given: reco memory try NAME SOURCE...", "--fast");
    REFUSED("'d' is one too many", "a", "b", "c", "d");
}

Test(args, nearest_is_silent_when_nothing_is_near)
{
    const char *const names[] = {"search", "status", "up"};
    const char *search = words_nearest("serch", names, 3);
    const char *status = words_nearest("statsu", names, 3);
    cr_expect(eq(ptr, (void *)search, (void *)names[0]));
    cr_expect(eq(ptr, (void *)status, (void *)names[1]));
    cr_expect(eq(ptr, (void *)words_nearest("zebra", names, 3), NULL));
    cr_expect(eq(ptr, (void *)words_nearest("xy", names, 3), NULL)); // shares nothing with "up"
    char longest[200];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    cr_expect(eq(ptr, (void *)words_nearest(longest, names, 3), NULL));
}

Test(args, help_shows_defaults_ranges_and_choices)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    help_print(&verb, file);
    (void)fclose(file);
    cr_expect(strstr(text, "usage: reco memory try NAME SOURCE... [flags]") != NULL);
    cr_expect(strstr(text, "-f, --fast") != NULL);
    cr_expect(strstr(text, "1 to 256") != NULL);
    cr_expect(strstr(text, "one of auto|exact|b") != NULL);
    cr_expect(strstr(text, "may be given again") != NULL);
    free(text);
}
