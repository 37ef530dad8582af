// SPDX-License-Identifier: Apache-2.0
// Goal: names, generations and states survive a restart exactly; numbers are never used
// again; what is not a whole file of ours is refused by name.
//
// Method: a real folder; every change is followed by opening the file again.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "coordinator/meta.h"

static char root[64];
static struct meta *meta;

static void reopen(void)
{
    meta_close(&meta);
    cr_assert(eq(int, meta_open(root, &meta, NULL), STATUS_OK));
}

static void make_root(void)
{
    (void)snprintf(root, sizeof(root), "/tmp/reco-meta-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(root), NULL));
    reopen();
}

static void remove_root(void)
{
    meta_close(&meta);
    char command[96];
    (void)snprintf(command, sizeof(command), "rm -rf %s", root);
    cr_assert(eq(int, system(command), 0));
}

TestSuite(meta, .init = make_root, .fini = remove_root);

static uint32_t add(const char *name, enum meta_state state)
{
    struct meta_generation generation = {
        .state = state, .space = "arrays:8", .dimension = 8, .vshards = 64};
    (void)snprintf(generation.memory, sizeof(generation.memory), "%s", name);
    cr_assert(eq(int, meta_reserve(meta, &generation.number, NULL), STATUS_OK));
    cr_assert(eq(int, meta_add(meta, &generation, NULL), STATUS_OK));
    reopen();
    return generation.number;
}

static enum status find(const char *name, enum meta_use use, uint32_t *number)
{
    struct meta_generation found = {0};
    enum status status = meta_find(meta, text_of(name), use, &found, NULL);
    *number = found.number;
    return status;
}

Test(meta, a_new_directory_has_no_memories)
{
    const struct meta_generation *all;
    uint32_t number;
    cr_expect(eq(sz, meta_list(meta, &all), 0));
    cr_expect(eq(int, find("default", META_FOR_QUERY, &number), STATUS_NOT_FOUND));
}

Test(meta, a_serving_memory_is_found_by_name_and_number)
{
    uint32_t number;
    cr_assert(eq(u32, add("birds", META_SERVING), 1));
    cr_expect(eq(int, find("birds", META_FOR_QUERY, &number), STATUS_OK));
    cr_expect(eq(u32, number, 1));
    cr_expect(eq(int, find("birds@1", META_FOR_QUERY, &number), STATUS_OK));
    cr_expect(eq(int, find("birds@2", META_FOR_QUERY, &number), STATUS_NOT_FOUND));
    cr_expect(eq(int, find("cars@1", META_FOR_QUERY, &number), STATUS_NOT_FOUND));
    cr_expect(eq(int, find("bird", META_FOR_QUERY, &number), STATUS_NOT_FOUND));
}

Test(meta, an_empty_name_means_default)
{
    uint32_t number;
    (void)add("default", META_SERVING);
    cr_expect(eq(int, find("", META_FOR_QUERY, &number), STATUS_OK));
}

Test(meta, what_is_no_name_is_refused)
{
    static const char *const bad[] = {
        "-x",  ".x", "a b",  "a/b",           "a@",           "a@0",     "a@01",
        "a@x", "@1", "a@-1", "a@99999999999", "a@4294967296", "\xc3\xa4"};
    uint32_t number;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect(eq(int, find(bad[i], META_FOR_QUERY, &number), STATUS_INVALID), "%s", bad[i]);
    char longest[MEMORY_NAME_BYTES_MAX + 2];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    cr_expect(eq(int, find(longest, META_FOR_QUERY, &number), STATUS_INVALID));
    cr_expect(eq(int, find(longest + 1, META_FOR_QUERY, &number), STATUS_NOT_FOUND));
}

Test(meta, a_build_is_invisible_until_it_serves)
{
    uint32_t number;
    struct meta_generation building;
    cr_assert(eq(u32, add("birds", META_BUILDING), 1));
    cr_expect(eq(int, find("birds", META_FOR_QUERY, &number), STATUS_NOT_FOUND));
    cr_expect(eq(int, find("birds@1", META_FOR_QUERY, &number), STATUS_FAILED_PRECONDITION));
    cr_expect(eq(int, find("birds", META_FOR_WRITE, &number), STATUS_OK));
    cr_expect(eq(int, find("birds@1", META_FOR_WRITE, &number), STATUS_OK));
    cr_expect(eq(int, find("birds", META_FOR_DESCRIBE, &number), STATUS_OK));
    cr_expect(eq(int, meta_find_building(meta, text_of("birds"), &building), STATUS_OK));

    cr_assert(eq(int, meta_serve(meta, 1, NULL), STATUS_OK));
    reopen();
    cr_expect(eq(int, find("birds", META_FOR_QUERY, &number), STATUS_OK));
    cr_expect(eq(int, meta_find_building(meta, text_of("birds"), &building), STATUS_NOT_FOUND));
}

Test(meta, a_replacement_takes_the_name_only_when_it_serves)
{
    uint32_t number;
    (void)add("birds", META_SERVING);
    cr_assert(eq(u32, add("birds", META_BUILDING), 2));
    cr_expect(eq(int, find("birds", META_FOR_QUERY, &number), STATUS_OK));
    cr_expect(eq(u32, number, 1));
    cr_expect(eq(int, find("birds", META_FOR_WRITE, &number), STATUS_OK));
    cr_expect(eq(u32, number, 1));
    cr_assert(eq(int, meta_serve(meta, 2, NULL), STATUS_OK));
    reopen();
    cr_expect(eq(int, find("birds", META_FOR_QUERY, &number), STATUS_OK));
    cr_expect(eq(u32, number, 2));
    cr_expect(eq(int, find("birds@1", META_FOR_QUERY, &number), STATUS_OK)); // still there

    // A second stream of the older build ends late.
    cr_assert(eq(int, meta_serve(meta, 1, NULL), STATUS_OK));
    cr_expect(eq(int, find("birds", META_FOR_QUERY, &number), STATUS_OK));
    cr_expect(eq(u32, number, 2));
}

Test(meta, a_drop_of_the_current_one_falls_back_to_the_newest_other)
{
    uint32_t number;
    for (int i = 0; i < 3; i++)
        (void)add("birds", META_SERVING);
    (void)add("birds", META_BUILDING);
    cr_assert(eq(int, meta_drop(meta, 3, NULL), STATUS_OK));
    reopen();
    cr_expect(eq(int, find("birds", META_FOR_QUERY, &number), STATUS_OK));
    cr_expect(eq(u32, number, 2));
    cr_expect(eq(int, find("birds@3", META_FOR_QUERY, &number), STATUS_FAILED_PRECONDITION));
    cr_assert(eq(int, meta_drop(meta, 3, NULL), STATUS_OK)); // again is no error
    cr_assert(eq(int, meta_remove(meta, 3, NULL), STATUS_OK));
    reopen();
    cr_expect(eq(int, find("birds@3", META_FOR_DESCRIBE, &number), STATUS_NOT_FOUND));
    cr_expect(eq(int, meta_remove(meta, 3, NULL), STATUS_NOT_FOUND));
    cr_assert(eq(int, meta_drop(meta, 2, NULL), STATUS_OK));
    cr_assert(eq(int, meta_drop(meta, 1, NULL), STATUS_OK));
    reopen();
    cr_expect(eq(int, find("birds", META_FOR_QUERY, &number), STATUS_NOT_FOUND));
}

Test(meta, a_drop_by_name_means_every_generation)
{
    static uint32_t numbers[META_GENERATIONS_MAX];
    size_t count = 0;
    (void)add("birds", META_SERVING);
    (void)add("cars", META_SERVING);
    (void)add("birds", META_BUILDING);
    cr_assert(eq(int, meta_find_drop(meta, text_of("birds"), numbers, &count, NULL), STATUS_OK));
    cr_expect(eq(sz, count, 2));
    cr_assert(eq(int, meta_find_drop(meta, text_of("birds@3"), numbers, &count, NULL), STATUS_OK));
    cr_expect(eq(sz, count, 1));
    cr_expect(eq(u32, numbers[0], 3));
    cr_expect(
        eq(int, meta_find_drop(meta, text_of("birds@2"), numbers, &count, NULL), STATUS_NOT_FOUND));
    cr_expect(eq(int, meta_find_drop(meta, text_of("x"), numbers, &count, NULL), STATUS_NOT_FOUND));
}

Test(meta, a_number_is_never_used_again)
{
    uint32_t number;
    cr_assert(eq(u32, add("birds", META_SERVING), 1));
    cr_assert(eq(int, meta_drop(meta, 1, NULL), STATUS_OK));
    cr_assert(eq(int, meta_remove(meta, 1, NULL), STATUS_OK));
    cr_assert(eq(int, meta_reserve(meta, &number, NULL), STATUS_OK)); // and never added
    cr_expect(eq(u32, number, 2));
    reopen();
    cr_assert(eq(int, meta_reserve(meta, &number, NULL), STATUS_OK));
    cr_expect(eq(u32, number, 3));
}

Test(meta, a_list_is_sorted_by_name_then_number)
{
    const struct meta_generation *all;
    (void)add("cars", META_SERVING);
    (void)add("birds", META_SERVING);
    (void)add("birds", META_SERVING);
    cr_assert(eq(sz, meta_list(meta, &all), 3));
    cr_expect(eq(u32, all[0].number, 2));
    cr_expect(eq(u32, all[1].number, 3));
    cr_expect(eq(u32, all[2].number, 1));
}

Test(meta, a_change_that_cannot_be_written_does_not_happen)
{
    uint32_t number = 77;
    struct reason why = {0};
    cr_assert(eq(u32, add("birds", META_SERVING), 1));
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/meta.json", root);
    cr_assert(eq(int, remove(path), 0));
    cr_assert(eq(int, mkdir(path, 0777), 0)); // a folder cannot be replaced by a file
    cr_expect(eq(int, meta_reserve(meta, &number, &why), STATUS_IO));
    cr_expect(eq(u32, number, 77));
    cr_expect(eq(int, meta_drop(meta, 1, NULL), STATUS_IO));
    cr_expect(eq(int, find("birds", META_FOR_QUERY, &number), STATUS_OK));
}

Test(meta, without_a_directory_nothing_can_be_added)
{
    struct meta *none = NULL;
    uint32_t number;
    cr_assert(eq(int, meta_open(NULL, &none, NULL), STATUS_OK));
    cr_expect(eq(int, meta_reserve(none, &number, NULL), STATUS_FAILED_PRECONDITION));
    meta_close(&none);
}

Test(meta, writes_are_counted_for_this_run_only)
{
    uint32_t number = add("birds", META_SERVING);
    meta_touch(meta, number);
    meta_touch(meta, number);
    meta_touch(meta, 99); // gone meanwhile: nothing to count
    cr_expect(eq(u64, meta_at(meta, number)->changes, 2));
    cr_assert(eq(u32, add("cars", META_SERVING), 2)); // reopens
    cr_expect(eq(u64, meta_at(meta, number)->changes, 0));
    cr_expect(eq(ptr, (void *)meta_at(meta, 99), NULL));
}

static enum status point(const char *alias, const char *target)
{
    struct meta_generation found = {0};
    struct reason why = {0};
    enum status status = meta_point(meta, text_of(alias), text_of(target), &found, &why);
    cr_expect(ne(int, status == STATUS_OK, why.text[0] != 0));
    reopen();
    return status;
}

static uint32_t meaning(const char *name)
{
    uint32_t number = 0;
    (void)!find(name, META_FOR_QUERY, &number);
    return number;
}

Test(meta, an_alias_follows_a_name_or_stays_with_a_generation)
{
    add("birds", META_SERVING);
    add("birds", META_SERVING);
    cr_expect(eq(int, point("now", "birds"), STATUS_OK));
    cr_expect(eq(int, point("then", "birds@1"), STATUS_OK));
    cr_expect(eq(u32, meaning("now"), 2));
    cr_expect(eq(u32, meaning("then"), 1));
    add("birds", META_SERVING);
    cr_expect(eq(u32, meaning("now"), 3));
    cr_expect(eq(u32, meaning("then"), 1));
    cr_expect(eq(int, point("then", "birds@2"), STATUS_OK)); // moved
    cr_expect(eq(u32, meaning("then"), 2));

    struct text names[4];
    cr_assert(eq(sz, meta_names(meta, 3, names, 4), 2)); // birds and now
    cr_expect(eq(sz, meta_names(meta, 1, names, 4), 0));
    struct meta_generation was = {0};
    cr_expect(eq(int, meta_unpoint(meta, text_of("now"), &was, NULL), STATUS_OK));
    cr_expect(eq(u32, was.number, 3));
    reopen();
    cr_expect(eq(u32, meaning("now"), 0));
    cr_expect(eq(int, meta_unpoint(meta, text_of("now"), &was, NULL), STATUS_NOT_FOUND));
    cr_expect(
        eq(int, meta_unpoint(meta, text_of("birds"), &was, NULL), STATUS_FAILED_PRECONDITION));
}

Test(meta, a_memory_is_rolled_back_to_a_generation_of_its_own)
{
    add("birds", META_SERVING);
    add("birds", META_SERVING);
    add("cars", META_SERVING);
    cr_expect(eq(int, point("birds", "birds@1"), STATUS_OK));
    cr_expect(eq(u32, meaning("birds"), 1));
    cr_expect(eq(int, point("birds", "cars@3"), STATUS_ALREADY_EXISTS));
    cr_expect(eq(int, point("birds", "cars"), STATUS_ALREADY_EXISTS));
    cr_expect(eq(int, point("birds", "birds"), STATUS_ALREADY_EXISTS));
    cr_expect(eq(u32, meaning("birds"), 1));
    cr_expect(eq(int, point("birds", "birds@2"), STATUS_OK));
    cr_expect(eq(u32, meaning("birds"), 2));
}

Test(meta, aliases_of_aliases_of_nothing_and_of_what_does_not_serve_are_refused)
{
    add("birds", META_SERVING);
    add("cars", META_BUILDING);
    cr_expect(eq(int, point("now", "birds"), STATUS_OK));
    cr_expect(eq(int, point("later", "now"), STATUS_INVALID));
    cr_expect(eq(int, point("now", "now"), STATUS_INVALID));
    cr_expect(eq(int, point("x", "nothing"), STATUS_NOT_FOUND));
    cr_expect(eq(int, point("x", "birds@9"), STATUS_NOT_FOUND));
    cr_expect(eq(int, point("x", "cars"), STATUS_NOT_FOUND));
    cr_expect(eq(int, point("x", "cars@2"), STATUS_FAILED_PRECONDITION));
    cr_expect(eq(int, point("x", ""), STATUS_INVALID));
    cr_expect(eq(int, point("a/b", "birds"), STATUS_INVALID));
    cr_expect(eq(int, point("", "birds"), STATUS_INVALID));
    cr_expect(eq(u32, meaning("now"), 1));
}

Test(meta, what_an_alias_points_at_is_not_dropped)
{
    uint32_t numbers[META_GENERATIONS_MAX];
    size_t count = 0;
    struct reason why = {0};
    add("birds", META_SERVING);
    add("birds", META_SERVING);
    cr_expect(eq(int, point("then", "birds@1"), STATUS_OK));
    static const char *const held[] = {"birds", "birds@1", "then"};
    for (size_t i = 0; i < 3; i++) {
        cr_expect(eq(int, meta_find_drop(meta, text_of(held[i]), numbers, &count, &why),
                     STATUS_FAILED_PRECONDITION));
        cr_expect(ne(ptr, strstr(why.text, "then"), NULL), "%s", why.text);
    }
    cr_expect(eq(int, meta_drop(meta, 1, &why), STATUS_FAILED_PRECONDITION));
    cr_expect(eq(int, meta_find_drop(meta, text_of("birds@2"), numbers, &count, &why), STATUS_OK));

    // One that follows the name holds the last generation only.
    cr_expect(eq(int, point("then", "birds"), STATUS_OK));
    cr_expect(eq(int, meta_drop(meta, 2, &why), STATUS_OK));
    reopen();
    cr_expect(eq(u32, meaning("then"), 1));
    cr_expect(eq(int, meta_drop(meta, 1, &why), STATUS_FAILED_PRECONDITION));
    reopen();
    cr_expect(eq(u32, meaning("then"), 1));
}

Test(meta, a_file_that_is_not_ours_is_refused)
{
#define GOOD                                                                                       \
    "{\"generation\":1,\"memory\":\"a\",\"state\":\"serving\",\"space\":\"s:8\",\"dimension\":8,"  \
    "\"vshards\":64}"
    static const struct {
        const char *text;
        enum status status;
    } bad[] = {
        {"", STATUS_CORRUPT},
        {"[]", STATUS_CORRUPT},
        {"{}", STATUS_CORRUPT},
        {"{\"format\":3}", STATUS_FAILED_PRECONDITION},
        {"{\"format\":1,\"generations\":[],\"aliases\":[]}", STATUS_CORRUPT},
        {"{\"format\":1,\"next_generation\":0,\"generations\":[],\"aliases\":[]}", STATUS_CORRUPT},
        {"{\"format\":1,\"next_generation\":1,\"generations\":[" GOOD "],\"aliases\":[]}",
         STATUS_CORRUPT}, // a number that was not handed out
        {"{\"format\":1,\"next_generation\":2,\"generations\":[" GOOD "," GOOD "],\"aliases\":[]}",
         STATUS_CORRUPT},
        {"{\"format\":1,\"next_generation\":2,\"generations\":[{}],\"aliases\":[]}",
         STATUS_CORRUPT},
        {"{\"format\":1,\"next_generation\":2,\"generations\":[" GOOD
         "],\"aliases\":[{\"name\":\"b\",\"generation\":7}]}",
         STATUS_CORRUPT},
        {"{\"format\":2,\"next_generation\":2,\"generations\":[" GOOD
         "],\"aliases\":[{\"name\":\"b\",\"memory\":\"a\"}]}",
         STATUS_CORRUPT}, // a has no name of its own
        {"{\"format\":2,\"next_generation\":2,\"generations\":[" GOOD
         "],\"aliases\":[{\"name\":\"a\",\"memory\":\"a\"}]}",
         STATUS_CORRUPT},
        {"{\"format\":2,\"next_generation\":2,\"generations\":[" GOOD
         "],\"aliases\":[{\"name\":\"b\",\"memory\":\"c\"},{\"name\":\"c\",\"memory\":\"b\"}]}",
         STATUS_CORRUPT},
        {"{\"format\":1,\"next_generation\":2,\"generations\":[" GOOD
         "],\"aliases\":[{\"name\":\"a\",\"generation\":2}]}",
         STATUS_CORRUPT},
        {"{\"format\":1,\"next_generation\":2,\"generations\":{},\"aliases\":[]}", STATUS_CORRUPT},
    };
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/meta.json", root);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        FILE *file = fopen(path, "w");
        cr_assert(ne(ptr, file, NULL));
        (void)fputs(bad[i].text, file);
        (void)fclose(file);
        struct meta *opened = NULL;
        struct reason why = {0};
        cr_expect(eq(int, meta_open(root, &opened, &why), bad[i].status), "file %zu", i);
        cr_expect(ne(str, why.field, (char *)""));
        cr_expect(eq(ptr, opened, NULL));
    }
}

Test(meta, spaces_are_a_name_and_a_dimension)
{
    static const char *const bad[] = {"",       ":8",    "a",    "a:",   "a:0", "a:08",
                                      "a:4097", "a b:8", "a:8x", "a:8:", "-a:8"};
    uint32_t dimension = 0;
    cr_expect(eq(int, meta_parse_space(text_of("arrays:512"), &dimension, NULL), STATUS_OK));
    cr_expect(eq(u32, dimension, 512));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect(eq(int, meta_parse_space(text_of(bad[i]), &dimension, NULL), STATUS_INVALID),
                  "%s", bad[i]);
    cr_expect(eq(u32, dimension, 512));
}
