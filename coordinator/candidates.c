// SPDX-License-Identifier: Apache-2.0
// A caption is cut into phrases, a phrase into words, and the words' runs into a table of names,
// which counts in how many captions each stands.

#include "coordinator/candidates.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/hash.h"

#define WORDS_MAX 256     // of a phrase; the rest of it is not looked at
#define PHRASE_WORDS 5    // a longer phrase of a list is running text
#define RUN_WORDS 3       // longest run of words in running text
#define NAME_BYTES_MAX 64 // no name is longer
#define NAMES_MAX 8192    // looked at in all

struct name {
    struct text text;
    uint64_t hash;
    uint32_t captions; // how many have it
    uint32_t last;     // the latest of them
    uint32_t order;    // of its first place
};

struct collection {
    struct arena *arena;
    struct name *names; // [NAMES_MAX]
    uint32_t count;
    uint32_t *places; // [2 * NAMES_MAX] index + 1
    uint32_t caption; // the current one
    bool failed;
};

// Words that say nothing at either end of a name.
static bool is_stop_word(struct text word)
{
    static const char *const words[] = {
        "a",    "about", "all",  "an",    "and",   "are",   "as",   "at",   "be",    "by",
        "for",  "from",  "has",  "have",  "her",   "his",   "in",   "into", "is",    "it",
        "its",  "many",  "more", "my",    "near",  "no",    "not",  "of",   "on",    "one",
        "or",   "other", "our",  "over",  "she",   "he",    "some", "that", "the",   "their",
        "them", "there", "they", "this",  "these", "those", "to",   "two",  "under", "up",
        "very", "was",   "were", "which", "while", "who",   "with", "you",  "your",
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (text_equal(word, text_of(words[i])))
            return true;
    return false;
}

// --- names

static void add_name(struct collection *all, struct text text)
{
    if (text.bytes < 2 || text.bytes > NAME_BYTES_MAX)
        return;
    const uint64_t hash = hash_id(text.data, text.bytes);
    const size_t mask = 2 * (size_t)NAMES_MAX - 1;
    size_t at = hash & mask;
    while (all->places[at] != 0) {
        struct name *name = &all->names[all->places[at] - 1];
        if (name->hash == hash && text_equal(name->text, text)) {
            name->captions += name->last != all->caption;
            name->last = all->caption;
            return;
        }
        at = (at + 1) & mask;
    }
    if (all->count == NAMES_MAX)
        return;
    const char *copy = arena_copy_text(all->arena, text.data, text.bytes);
    if (!copy) {
        all->failed = true;
        return;
    }
    all->names[all->count] = (struct name){.text = {copy, text.bytes},
                                           .hash = hash,
                                           .captions = 1,
                                           .last = all->caption,
                                           .order = all->count};
    all->places[at] = ++all->count;
}

// --- words

static bool is_space(unsigned char byte)
{
    return byte <= ' ';
}

// Bytes beyond ASCII are letters here: they are parts of them in nearly every text.
static bool is_letter(unsigned char byte)
{
    return (byte >= 'a' && byte <= 'z') || byte >= 0x80;
}

static bool is_word_byte(unsigned char byte)
{
    return is_letter(byte) || (byte >= '0' && byte <= '9');
}

// Without what is no letter or digit at its ends.
static struct text trim(const char *data, size_t bytes)
{
    while (bytes > 0 && !is_word_byte((unsigned char)data[0])) {
        data++;
        bytes--;
    }
    while (bytes > 0 && !is_word_byte((unsigned char)data[bytes - 1]))
        bytes--;
    return (struct text){data, bytes};
}

static bool has_letter(struct text text)
{
    for (size_t i = 0; i < text.bytes; i++)
        if (is_letter((unsigned char)text.data[i]))
            return true;
    return false;
}

// Words first..last as they stand in the phrase; a break between two of them makes it none.
static struct text run_of(const struct text *words, size_t first, size_t last)
{
    const char *end = words[last].data + words[last].bytes;
    return (struct text){words[first].data, (size_t)(end - words[first].data)};
}

static bool is_broken(struct text run)
{
    for (size_t i = 0; i + 1 < run.bytes; i++)
        if (strchr(".!?:\"()[]", run.data[i]) && is_space((unsigned char)run.data[i + 1]))
            return true;
    return false;
}

static void add_run(struct collection *all, const struct text *words, size_t first, size_t last)
{
    const struct text run = run_of(words, first, last);
    if (!is_stop_word(words[first]) && !is_stop_word(words[last]) && has_letter(run) &&
        !is_broken(run))
        add_name(all, run);
}

static void add_phrase(struct collection *all, struct text phrase, bool is_list)
{
    struct text words[WORDS_MAX];
    size_t count = 0;
    size_t at = 0;
    while (at < phrase.bytes && count < WORDS_MAX) {
        size_t end = at;
        while (end < phrase.bytes && !is_space((unsigned char)phrase.data[end]))
            end++;
        words[count] = trim(phrase.data + at, end - at);
        count += words[count].bytes > 0;
        at = end + 1;
    }

    if (is_list && count <= PHRASE_WORDS) {
        size_t first = 0;
        while (first < count && is_stop_word(words[first]))
            first++;
        while (count > first && is_stop_word(words[count - 1]))
            count--;
        if (first < count)
            add_run(all, words, first, count - 1);
        return;
    }
    for (size_t first = 0; first < count; first++)
        for (size_t last = first; last < count && last < first + RUN_WORDS; last++)
            add_run(all, words, first, last);
}

// --- captions

static void to_small(char *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        const unsigned char byte = (unsigned char)data[i];
        const unsigned char before = i > 0 ? (unsigned char)data[i - 1] : 0;
        if (byte >= 'A' && byte <= 'Z')
            data[i] = (char)(byte + ('a' - 'A'));
        else if (before == 0xc3 && byte >= 0x80 && byte <= 0x9e && byte != 0x97)
            data[i] = (char)(byte + 0x20); // U+00C0..U+00DE but for the times sign
    }
}

static bool is_separator(char byte)
{
    return byte == ',' || byte == ';' || byte == '|' || byte == '\n';
}

static void add_caption(struct collection *all, struct text caption)
{
    char *small = arena_copy_text(all->arena, caption.data ? caption.data : "", caption.bytes);
    if (!small) {
        all->failed = true;
        return;
    }
    to_small(small, caption.bytes);
    bool is_list = false;
    for (size_t i = 0; i < caption.bytes; i++)
        is_list = is_list || is_separator(small[i]);
    size_t begun = 0;
    for (size_t i = 0; i <= caption.bytes; i++) {
        if (i < caption.bytes && !is_separator(small[i]))
            continue;
        add_phrase(all, (struct text){small + begun, i - begun}, is_list);
        begun = i + 1;
    }
}

static int compare_names(const void *a, const void *b)
{
    const struct name *left = a;
    const struct name *right = b;
    if (left->captions != right->captions)
        return left->captions > right->captions ? -1 : 1;
    return left->order < right->order ? -1 : left->order > right->order;
}

size_t candidates_collect(const struct text *captions, size_t count, size_t max,
                          struct arena *arena, struct text *out)
{
    assert((captions || count == 0) && arena && out);

    struct collection all = {.arena = arena};
    all.names = arena_alloc_array(arena, NAMES_MAX, sizeof(*all.names));
    all.places = arena_zero(arena, 2 * (size_t)NAMES_MAX * sizeof(*all.places));
    if (!all.names || !all.places)
        return SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        all.caption = (uint32_t)i;
        add_caption(&all, captions[i]);
    }
    if (all.failed)
        return SIZE_MAX;
    qsort(all.names, all.count, sizeof(*all.names), compare_names);
    const size_t kept = all.count < max ? all.count : max;
    for (size_t i = 0; i < kept; i++)
        out[i] = all.names[i].text;
    return kept;
}
