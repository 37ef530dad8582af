// SPDX-License-Identifier: Apache-2.0
// Goal: a labels file gives labels with their aliases, mistakes name the line, and the best of a
// label's names speaks for it.
//
// Method: files as texts.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/limits.h"
#include "tools/label_file.h"

static enum status parse(const char *text, struct label_file *out, struct reason *why)
{
    return label_file_parse((struct bytes){(const uint8_t *)text, strlen(text)}, out, why);
}

static void expect_refused(const char *text, const char *words)
{
    struct label_file file = {.data = NULL};
    struct reason why = {.text = ""};
    cr_expect(eq(int, parse(text, &file, &why), STATUS_INVALID));
    cr_expect(strstr(why.text, words) != NULL, "'%s' lacks '%s'", why.text, words);
    cr_expect(eq(ptr, file.data, NULL));
}

Test(label_file, reads_labels_aliases_comments_and_blank_lines)
{
    struct label_file file;
    struct reason why = {.text = ""};
    cr_assert(eq(int,
                 parse("\xef\xbb\xbf# birds\n\nowl\tStrix aluco\ttawny owl\n  penguin \r\n\n"
                       "#x\tnot this\nC# player\t\tmusician",
                       &file, &why),
                 STATUS_OK),
              "%s", why.text);
    cr_assert(eq(sz, file.label_count, 3));
    cr_assert(eq(sz, file.name_count, 6));
    cr_expect(eq(sz, file.aliases_max, 3));
    cr_expect(text_equal(file.labels[1], text_of("penguin")));
    cr_expect(text_equal(file.labels[2], text_of("C# player")));
    cr_expect(text_equal(file.names[2], text_of("tawny owl")));
    cr_expect(eq(u32, file.label_of[2], 0));
    cr_expect(eq(u32, file.label_of[5], 2));
    label_file_deinit(&file);
}

Test(label_file, refuses_what_cannot_be_a_list_of_labels)
{
    expect_refused("", "has no label");
    expect_refused("# only\n\n\t\t\n", "has no label");
    expect_refused("owl\ncat\nowl\n", "the name 'owl' comes twice");
    expect_refused("owl\tbird\ncat\tbird\n", "the name 'bird' comes twice");
    expect_refused("owl\n\xff\xfe\n", "line 2: not UTF-8");

    char longest[LABEL_BYTES_MAX + 2];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    expect_refused(longest, "at most 512 are allowed");
    char many[4 * LABEL_FILE_NAMES_PER_LABEL_MAX + 8] = "";
    for (int i = 0; i <= LABEL_FILE_NAMES_PER_LABEL_MAX; i++)
        snprintf(many + strlen(many), sizeof(many) - strlen(many), "%d\t", i);
    expect_refused(many, "at most 64 names");
}

Test(label_file, takes_as_many_names_as_the_limit_and_no_more)
{
    size_t room = (size_t)(LABELS_MAX + 1) * 8 + 1;
    char *text = malloc(room);
    size_t used = 0;
    for (int i = 0; i < LABELS_MAX; i++)
        used += (size_t)snprintf(text + used, room - used, "%d\n", i);
    struct label_file file;
    struct reason why = {.text = ""};
    cr_assert(eq(int, parse(text, &file, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(sz, file.label_count, LABELS_MAX));
    label_file_deinit(&file);

    snprintf(text + used, room - used, "more\n");
    expect_refused(text, "more than the 20000 names");
    free(text);
}

Test(label_file, the_best_name_speaks_for_its_label)
{
    struct label_file file;
    struct reason why = {.text = ""};
    cr_assert(eq(int, parse("owl\tStrix\ncat\tfeline\ndog\n", &file, &why), STATUS_OK));
    const struct text names[] = {text_of("Strix"), text_of("feline"), text_of("unknown"),
                                 text_of("owl"),   text_of("dog"),    text_of("cat")};
    const float scores[] = {0.9f, 0.8f, 0.75f, 0.7f, 0.6f, 0.5f};
    const struct api_labels all = {.count = 6, .labels = names, .scores = scores};
    const struct api_labels none = {.count = 0};
    struct text labels[3];
    float best[3];

    cr_assert(eq(sz, label_file_rank(&file, &all, 3, labels, best), 3));
    cr_expect(text_equal(labels[0], text_of("owl")));
    cr_expect(eq(flt, best[0], 0.9f));
    cr_expect(text_equal(labels[1], text_of("cat")));
    cr_expect(text_equal(labels[2], text_of("dog")));
    cr_expect(eq(flt, best[2], 0.6f));
    cr_expect(eq(sz, label_file_rank(&file, &all, 1, labels, best), 1));
    cr_expect(eq(sz, label_file_rank(&file, &none, 3, labels, best), 0));
    label_file_deinit(&file);
}

Test(label_file, says_when_there_is_no_file)
{
    struct label_file file;
    struct reason why = {.text = ""};
    cr_expect(eq(int, label_file_read("/nonexistent/labels.txt", &file, &why), STATUS_NOT_FOUND));
    cr_expect(eq(str, why.text, (char *)"no such file"));
}
