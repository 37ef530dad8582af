// SPDX-License-Identifier: Apache-2.0
// The table, and how the first words of a command line find their line of it.

#include "tools/verbs.h"

#include <stdio.h>
#include <string.h>

#include "proto/base/words.h"

const struct verb *const verbs[] = {
    &verb_search,
    &verb_refine,
    &verb_classify,
    &verb_embed_image,
    &verb_embed_text,
    &verb_tokenize,
    &verb_preprocess,
    &verb_train,
    &verb_memory_build,
    &verb_memory_add,
    &verb_memory_delete,
    &verb_memory_hide,
    &verb_memory_unhide,
    &verb_memory_alias,
    &verb_memory_snapshot,
    &verb_memory_restore,
    &verb_memory_export,
    &verb_memory_get,
    &verb_memory_list,
    &verb_memory_info,
    &verb_memory_report,
    &verb_memory_drop,
    &verb_eval_zero_shot,
    &verb_eval_retrieval,
    &verb_eval_noise,
    &verb_eval_ksweep,
    &verb_eval_memory_size,
    &verb_eval_grid,
    &verb_eval_few_shot,
    &verb_eval_capacity,
    &verb_eval_oven,
    &verb_eval_all, // several of these
    &verb_up,
    &verb_status,
    &verb_keys_make,
    &verb_keys_show,
    &verb_bench_encode,
    &verb_bench_search,
    &verb_bench_index,
    &verb_bench_live,
    &verb_bench_train,
    &verb_bench_vectors,
    &verb_doctor,
    &verb_config,
    &verb_version,
    &verb_help,
};
const size_t verbs_count = sizeof(verbs) / sizeof(verbs[0]);

#define VERBS_MAX 64
#define SUMMARY_COLUMN 20 // of the help, where what a verb does begins

// Whether `name` ("memory build") is spelt by the first words, and by how many of them.
static int words_of(const char *name, int argc, const char *const *argv)
{
    int words = 0;
    for (const char *at = name; *at; words++) {
        size_t bytes = strcspn(at, " ");
        if (words == argc || strlen(argv[words]) != bytes || memcmp(at, argv[words], bytes) != 0)
            return 0;
        at += bytes;
        at += *at == ' ';
    }
    return words;
}

// Names a verb near to the words, also when only the second of two is wrong.
static const char *nearest_verb(int argc, const char *const *argv)
{
    const char *names[VERBS_MAX];
    for (size_t i = 0; i < verbs_count; i++)
        names[i] = verbs[i]->args.name;

    char two[64];
    const char *nearest = NULL;
    if (argc > 1 && (size_t)snprintf(two, sizeof(two), "%s %s", argv[0], argv[1]) < sizeof(two))
        nearest = words_nearest(two, names, verbs_count);
    return nearest ? nearest : words_nearest(argv[0], names, verbs_count);
}

enum status verbs_find(int argc, const char *const *argv, const struct verb **out, int *words,
                       struct reason *why)
{
    for (size_t i = 0; i < verbs_count; i++) {
        int taken = words_of(verbs[i]->args.name, argc, argv);
        if (taken > 0) {
            *out = verbs[i];
            *words = taken;
            return STATUS_OK;
        }
    }

    if (argv[0][0] == '-')
        return reason_set(why, STATUS_NOT_FOUND, NULL,
                          "'%s' is no verb; the verb comes first: reco VERB [flags] [items]; "
                          "`reco help` lists them",
                          argv[0]);

    // "memory" alone, or with a word it does not know: say what it does know.
    char known[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < verbs_count; i++) {
        size_t bytes = strlen(argv[0]);
        const char *name = verbs[i]->args.name;
        if (strncmp(name, argv[0], bytes) == 0 && name[bytes] == ' ' && used < sizeof(known))
            used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", used ? ", " : "",
                                     name + bytes + 1);
    }
    if (used && argc == 1)
        return reason_set(why, STATUS_NOT_FOUND, NULL, "reco %s needs one of: %s", argv[0], known);
    if (used)
        return reason_set(why, STATUS_NOT_FOUND, NULL, "unknown verb '%s %s': reco %s has %s",
                          argv[0], argv[1], argv[0], known);

    const char *nearest = nearest_verb(argc, argv);
    if (nearest)
        return reason_set(why, STATUS_NOT_FOUND, NULL, "unknown verb '%s'; did you mean %s?",
                          argv[0], nearest);
    return reason_set(why, STATUS_NOT_FOUND, NULL, "unknown verb '%s'; `reco help` lists them",
                      argv[0]);
}

static void print_line(const struct verb *verb, FILE *file)
{
    char left[64];
    (void)snprintf(left, sizeof(left), "  %s", verb->args.name);
    words_print_entry(file, words_width(file), left, SUMMARY_COLUMN, verb->args.summary);
}

bool verbs_print_family(const char *word, FILE *file)
{
    size_t bytes = strlen(word);
    bool any = false;
    for (size_t i = 0; i < verbs_count; i++) {
        const char *name = verbs[i]->args.name;
        if (strncmp(name, word, bytes) != 0 || name[bytes] != ' ')
            continue;
        if (!any)
            (void)fprintf(file, "usage: reco %s VERB [flags] [--] [items]\n\n", word);
        any = true;
        print_line(verbs[i], file);
    }
    if (any)
        (void)fprintf(file, "\n`reco help %s VERB` has every flag.\n", word);
    return any;
}

void verbs_print_all(FILE *file)
{
    (void)fputs("usage: reco VERB [flags] [--] [items]\n", file);
    const char *chapter = "";
    for (size_t i = 0; i < verbs_count; i++) {
        if (strcmp(chapter, verbs[i]->chapter) != 0) {
            chapter = verbs[i]->chapter;
            (void)fprintf(file, "\n%s\n", chapter);
        }
        print_line(verbs[i], file);
    }
    static const char closing[] =
        "`reco help VERB` has every flag. Without --server a verb does the work inside this "
        "process; with --server HOST:PORT it asks a server; the answers are the same. Exit status: "
        "0 all done, 1 an item failed, 2 wrong usage, 3 cluster unavailable.";
    (void)fputc('\n', file);
    words_print(file, words_width(file), closing, sizeof(closing) - 1, "", 0);
}
