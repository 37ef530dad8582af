// SPDX-License-Identifier: Apache-2.0
// Goal: the same question has the same id, prompts are what the templates say, and the cache keeps
// what was used last within its bytes.
//
// Method: small sets by hand; prototypes of known size.

#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "coordinator/labels.h"

static struct label_set *new_set(const struct text *labels, size_t count,
                                 const struct text *templates, size_t template_count)
{
    struct label_set *set = NULL;
    struct label_set_params params = {.space = "s:4",
                                      .labels = labels,
                                      .label_count = count,
                                      .templates = templates,
                                      .template_count = template_count,
                                      .default_template = "a photo of a {}."};
    cr_assert(eq(int, label_set_create(&params, &set, NULL), STATUS_OK));
    return set;
}

static enum status try_set(const struct text *labels, size_t count, const struct text *templates,
                           size_t template_count, struct reason *why)
{
    struct label_set *set = NULL;
    struct label_set_params params = {.space = "s:4",
                                      .labels = labels,
                                      .label_count = count,
                                      .templates = templates,
                                      .template_count = template_count,
                                      .default_template = "{}"};
    enum status status = label_set_create(&params, &set, why);
    label_set_release(&set);
    return status;
}

static bool prompt_is(const struct label_set *set, size_t label, size_t template, const char *text)
{
    char prompt[256];
    size_t bytes = label_set_prompt_bytes(set, label, template);
    label_set_prompt(set, label, template, prompt);
    return bytes == strlen(text) && memcmp(prompt, text, bytes) == 0;
}

Test(labels, prompts_put_the_label_in_the_place_of_the_braces)
{
    const struct text labels[] = {text_of("owl"), text_of("{}"), text_of("great auk")};
    const struct text templates[] = {text_of("{}"), text_of("a {} bird"), text_of("see {}")};
    struct label_set *set = new_set(labels, 3, templates, 3);
    cr_expect(prompt_is(set, 0, 0, "owl"));
    cr_expect(prompt_is(set, 0, 1, "a owl bird"));
    cr_expect(prompt_is(set, 1, 1, "a {} bird"));
    cr_expect(prompt_is(set, 2, 2, "see great auk"));
    label_set_release(&set);
    set = new_set(labels, 1, NULL, 0);
    cr_expect(prompt_is(set, 0, 0, "a photo of a owl."));
    label_set_release(&set);
}

Test(labels, the_same_question_has_the_same_id_and_no_other)
{
    const struct text labels[] = {text_of("a"), text_of("bc")};
    const struct text turned[] = {text_of("bc"), text_of("a")};
    const struct text cut[] = {text_of("ab"), text_of("c")};
    const struct text template = text_of("x {}");
    struct label_set *sets[] = {
        new_set(labels, 2, NULL, 0), new_set(labels, 2, NULL, 0),      new_set(turned, 2, NULL, 0),
        new_set(cut, 2, NULL, 0),    new_set(labels, 2, &template, 1), new_set(labels, 1, NULL, 0),
    };
    cr_expect(eq(str, sets[0]->id, sets[1]->id));
    cr_expect(eq(sz, strlen(sets[0]->id), LABEL_SET_ID_BYTES));
    for (int i = 1; i < 6; i++)
        for (int j = i + 1; j < 6; j++)
            cr_expect(ne(str, sets[i]->id, sets[j]->id));
    for (int i = 0; i < 6; i++)
        label_set_release(&sets[i]);
}

Test(labels, what_is_no_label_set_is_refused_by_name)
{
    static char huge[LABEL_BYTES_MAX + 1];
    memset(huge, 'x', sizeof(huge));
    const struct text good = text_of("owl");
    const struct text empty[] = {text_of("owl"), text_of("")};
    const struct text twice[] = {text_of("owl"), text_of("auk"), text_of("owl")};
    const struct text too_long = {huge, sizeof(huge)};
    const struct text none = text_of("no place");
    const struct text both = text_of("{} and {}");
    struct reason why = {0};
    cr_expect(eq(int, try_set(NULL, 0, NULL, 0, &why), STATUS_INVALID));
    cr_expect(eq(int, try_set(empty, 2, NULL, 0, &why), STATUS_INVALID));
    cr_expect(eq(str, why.field, (char *)"labels[1]"));
    cr_expect(eq(int, try_set(twice, 3, NULL, 0, &why), STATUS_INVALID));
    cr_expect(ne(ptr, strstr(why.text, "'owl'"), NULL));
    cr_expect(eq(int, try_set(&too_long, 1, NULL, 0, &why), STATUS_INVALID));
    cr_expect(eq(int, try_set(&good, 1, &none, 1, &why), STATUS_INVALID));
    cr_expect(eq(str, why.field, (char *)"templates[0]"));
    cr_expect(eq(int, try_set(&good, 1, &both, 1, &why), STATUS_INVALID));
    cr_expect(eq(int, try_set(&good, 1, NULL, 0, &why), STATUS_OK));
}

Test(labels, a_mean_is_a_unit_vector_and_one_vector_keeps_its_bits)
{
    const float vectors[] = {1, 0, 0, 1};
    const float opposite[] = {1, 0, -1, 0};
    const float odd[] = {0.6000001f, 0.8f};
    float out[2] = {7, 7};
    cr_assert(eq(int, label_prototypes_mean(vectors, 2, 2, out), STATUS_OK));
    cr_expect(epsilon_eq(flt, out[0], 0.70710678f, 1e-6f));
    cr_assert(eq(int, label_prototypes_mean(odd, 1, 2, out), STATUS_OK));
    cr_expect(eq(int, memcmp(odd, out, sizeof(out)), 0));
    cr_expect(eq(int, label_prototypes_mean(opposite, 2, 2, out), STATUS_INVALID));
}

Test(labels, refined_ones_depend_on_everything_that_changes_them)
{
    const struct text label = text_of("owl");
    struct label_set *set = new_set(&label, 1, NULL, 0);
    uint8_t digests[16][HASH_SHA256_BYTES];
    struct question question = {.fuser = {.k = 10}};
    question.memory.number = 1;
    int n = 0;
    label_refined_digest(set, &question, 0, 1, 1, digests[n++]);
    label_refined_digest(set, &question, 1, 1, 1, digests[n++]);
    label_refined_digest(set, &question, 0, 0, 1, digests[n++]);
    label_refined_digest(set, &question, 0, 1, 3, digests[n++]);
    question.memory.number = 2;
    label_refined_digest(set, &question, 0, 1, 1, digests[n++]);
    question.fuser.k = 11;
    label_refined_digest(set, &question, 0, 1, 1, digests[n++]);
    question.fuser.fusion.mode = FUSION_MEAN;
    label_refined_digest(set, &question, 0, 1, 1, digests[n++]);
    question.fuser.min_similarity = 0.5f;
    label_refined_digest(set, &question, 0, 1, 1, digests[n++]);
    question.fuser.min_pair_similarity = 0.5f;
    label_refined_digest(set, &question, 0, 1, 1, digests[n++]);
    question.exclude_count = 1;
    label_refined_digest(set, &question, 0, 1, 1, digests[n++]);
    question.exclude[0] = 5;
    label_refined_digest(set, &question, 0, 1, 1, digests[n++]);
    question.index = API_INDEX_IVF;
    label_refined_digest(set, &question, 0, 1, 1, digests[n++]);
    question.probes = 8;
    label_refined_digest(set, &question, 0, 1, 1, digests[n++]);
    question.target_recall = 0.9f;
    label_refined_digest(set, &question, 0, 1, 1, digests[n++]);
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++)
            cr_expect(ne(int, memcmp(digests[i], digests[j], HASH_SHA256_BYTES), 0));
    uint8_t again[HASH_SHA256_BYTES];
    label_refined_digest(set, &question, 0, 1, 1, again);
    cr_expect(eq(int, memcmp(again, digests[n - 1], sizeof(again)), 0));
    label_set_release(&set);
}

// --- the cache

static struct label_prototypes *new_plain(const char *name)
{
    const struct text label = text_of(name);
    struct label_set *set = new_set(&label, 1, NULL, 0);
    struct label_prototypes *prototypes = NULL;
    cr_assert(eq(int, label_prototypes_create(set, 1000, &prototypes), STATUS_OK));
    label_set_release(&set);
    return prototypes;
}

Test(labels, the_cache_keeps_what_was_used_last)
{
    struct label_prototypes *made[4];
    uint8_t digests[4][HASH_SHA256_BYTES];
    static const char *const names[] = {"a", "b", "c", "d"};
    struct labels *labels = labels_create(14000); // three of about 4.2 kB each
    for (int i = 0; i < 4; i++) {
        made[i] = new_plain(names[i]);
        memcpy(digests[i], made[i]->digest, sizeof(digests[i]));
        cr_expect(labels_keep(labels, made[i]));
        struct label_prototypes *first = labels_find(labels, digests[0]);
        cr_expect(eq(ptr, (void *)first, (void *)made[0]));
        label_prototypes_release(&first);
    }
    cr_expect(le(sz, labels_bytes(labels), 14000));
    struct label_prototypes *second = labels_find(labels, digests[1]);
    cr_expect(eq(ptr, (void *)second, NULL)); // the one that was not used
    cr_expect(eq(u32, made[1]->holders, 1));  // but who holds it still has it
    struct label_prototypes *found = labels_find_id(labels, text_of(made[3]->set->id));
    cr_expect(eq(ptr, (void *)found, (void *)made[3]));
    label_prototypes_release(&found);
    for (int i = 0; i < 4; i++)
        label_prototypes_release(&made[i]);
    labels_destroy(&labels);
}

Test(labels, what_is_larger_than_the_cache_is_not_kept)
{
    struct labels *labels = labels_create(1000);
    struct label_prototypes *made = new_plain("a");
    cr_expect(not(labels_keep(labels, made)));
    cr_expect(eq(sz, labels_bytes(labels), 0));
    label_prototypes_release(&made);
    labels_destroy(&labels);
}

Test(labels, the_number_of_entries_is_bounded)
{
    struct labels *labels = labels_create((size_t)1 << 30);
    char name[16];
    for (int i = 0; i < LABELS_CACHE_ENTRIES + 10; i++) {
        (void)snprintf(name, sizeof(name), "%d", i);
        struct label_prototypes *made = new_plain(name);
        cr_assert(labels_keep(labels, made));
        cr_assert(labels_keep(labels, made)); // twice is once
        label_prototypes_release(&made);
    }
    cr_expect(le(sz, labels_bytes(labels), (size_t)LABELS_CACHE_ENTRIES * 4500));
    labels_destroy(&labels);
}
