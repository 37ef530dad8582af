// SPDX-License-Identifier: Apache-2.0
// Goal: captions give the names that they hold, always the same ones, and no text makes trouble.
//
// Method: captions of both kinds with the names expected of them; bounds; bytes of every value.

#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "coordinator/candidates.h"

#define T(literal) ((struct text){literal, sizeof(literal) - 1})

// All names of the captions, joined by '|'.
static void expect_names(const struct text *captions, size_t count, const char *wanted)
{
    static struct text names[1000];
    char joined[4096] = "";
    size_t used = 0;
    struct arena *arena = arena_create(1 << 24);
    size_t found = candidates_collect(captions, count, 1000, arena, names);
    for (size_t i = 0; i < found && used < sizeof(joined); i++)
        used += (size_t)snprintf(joined + used, sizeof(joined) - used, "%s%.*s", i > 0 ? "|" : "",
                                 (int)names[i].bytes, names[i].data);
    cr_expect(eq(str, joined, (char *)wanted));
    arena_destroy(&arena);
}

Test(candidates, of_a_list_are_its_phrases_in_small_letters)
{
    const struct text captions[] = {
        T("Anchor, Ship; a tool | the Great Wall of China\nCAF\xc3\x89")};
    expect_names(captions, 1, "anchor|ship|tool|great wall of china|caf\xc3\xa9");
}

Test(candidates, of_running_text_are_runs_without_stop_words_at_the_ends)
{
    const struct text captions[] = {T("A photo of the red heron.")};
    expect_names(captions, 1, "photo|red|red heron|heron");
    const struct text two[] = {T("Look. Birds!")}; // no run goes beyond a sentence
    expect_names(two, 1, "look|birds");
}

Test(candidates, that_more_captions_have_come_first_and_each_comes_once)
{
    const struct text captions[] = {T("dollar, money"), T("anchor, ship, anchor"), T("anchor")};
    expect_names(captions, 3, "anchor|dollar|money|ship");
}

Test(candidates, are_bounded_and_survive_any_text)
{
    static char bytes[8192];
    struct text names[20];
    struct text caption = {bytes, sizeof(bytes)};
    for (unsigned seed = 0; seed < 50; seed++) {
        uint64_t state = seed;
        for (size_t i = 0; i < sizeof(bytes); i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            bytes[i] = (char)(state >> (seed % 2 ? 33 : 60));
        }
        struct arena *arena = arena_create(1 << 24);
        size_t found = candidates_collect(&caption, 1, 20, arena, names);
        cr_assert(found <= 20);
        for (size_t i = 0; i < found; i++)
            cr_assert(names[i].bytes >= 2 && names[i].bytes <= 64);
        arena_destroy(&arena);
    }
    struct arena *small = arena_create(1000);
    cr_expect(eq(sz, candidates_collect(&caption, 1, 20, small, names), SIZE_MAX));
    arena_destroy(&small);
    const struct text nothing[] = {T(""), T("  , ;|"), T("a, the, of"), T("1 2 3")};
    struct arena *arena = arena_create(1 << 24);
    cr_expect(eq(sz, candidates_collect(nothing, 4, 20, arena, names), 0));
    cr_expect(eq(sz, candidates_collect(NULL, 0, 20, arena, names), 0));
    arena_destroy(&arena);
}
