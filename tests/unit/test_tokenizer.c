// SPDX-License-Identifier: Apache-2.0
// Goal: a vocabulary is read right or refused with the line or token that is wrong, and
// any bytes at all become ids that keep the promises of tokenizer.h.
//
// Method: a vocabulary of the 512 byte symbols and a few merges, made here and spoilt in
// one place at a time; reco-tiny's vocabulary for texts. That the ids are OpenAI's is
// tests/golden/test_golden_tokenizer.c's to show.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/base/thread.h"
#include "shaders/models/tokenizer.h"
#include "tests/support/tokenizer_json_made.h"

#define MODEL RECO_SOURCE_DIR "/shaders/models/reco-tiny/"
#define CONTEXT 32
#define SEED 3u

static uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

// --- made vocabularies

#define SYMBOLS 514 // of bytes and end tokens; the next id

static void append(struct buffer *out, const char *text)
{
    cr_assert(eq(int, buffer_append(out, text, strlen(text)), STATUS_OK));
}

// The byte symbols, the end tokens unless `skip` names one, and `more`.
static void make_vocab(struct buffer *out, const char *skip, const char *more)
{
    unsigned next = 0x100;
    append(out, "{");
    for (unsigned byte = 0; byte < 256; byte++) {
        bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
        unsigned code = printable ? byte : next++;
        char line[64];
        (void)snprintf(line, sizeof(line), "\"\\u%04x\":%u,\"\\u%04x</w>\":%u,", code, byte, code,
                       256 + byte);
        append(out, line);
    }
    append(out,
           strcmp(skip, TOKENIZER_START) == 0 ? "\"x1\":512," : "\"" TOKENIZER_START "\":512,");
    append(out, strcmp(skip, TOKENIZER_END) == 0 ? "\"x2\":513" : "\"" TOKENIZER_END "\":513");
    append(out, more);
    append(out, "}");
}

static enum status open_made(const char *skip, const char *more, const char *merges,
                             struct tokenizer **out, struct reason *why)
{
    struct buffer vocab = {0};
    make_vocab(&vocab, skip, more);
    enum status status =
        tokenizer_open((struct bytes){vocab.data, vocab.count},
                       (struct bytes){(const uint8_t *)merges, strlen(merges)}, CONTEXT, out, why);
    buffer_deinit(&vocab);
    return status;
}

static void expect_ids(const struct tokenizer *tokenizer, const char *text, const uint32_t *wanted,
                       uint32_t wanted_count)
{
    uint32_t ids[CONTEXT];
    uint32_t count = 0;
    cr_assert(eq(int, tokenizer_encode(tokenizer, text_of(text), ids, &count, NULL), STATUS_OK));
    cr_assert(eq(u32, count, wanted_count), "%s", text);
    cr_expect(eq(int, memcmp(ids, wanted, count * sizeof(*ids)), 0), "%s", text);
}

#define EXPECT_IDS(tokenizer, text, ...)                                                           \
    expect_ids(tokenizer, text, (const uint32_t[]){__VA_ARGS__},                                   \
               sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

Test(tokenizer, merges_lowest_rank_first_and_all_of_a_round_from_the_left)
{
    // ab is made before bc</w>, though both fit "abc"; then abc</w> is out of reach.
    struct tokenizer *tokenizer = NULL;
    struct reason why = {0};
    cr_assert(eq(int,
                 open_made("", ",\"ab\":514,\"bc</w>\":515,\"abc</w>\":516,\"aa\":517",
                           "#version: 0.2\na b\nb c</w>\na bc</w>\na a\n", &tokenizer, &why),
                 STATUS_OK),
              "%s", why.text);
    cr_expect(eq(u32, tokenizer_vocab_count(tokenizer), 518));
    cr_expect(eq(u32, tokenizer_context(tokenizer), CONTEXT));
    EXPECT_IDS(tokenizer, "", 512, 513);
    EXPECT_IDS(tokenizer, "abc", 512, 514, 256 + 'c', 513);
    EXPECT_IDS(tokenizer, "bc", 512, 515, 513);
    EXPECT_IDS(tokenizer, "aaaaa", 512, 517, 517, 256 + 'a', 513);
    EXPECT_IDS(tokenizer, "ABAB ab", 512, 514, 'a', 256 + 'b', 'a', 256 + 'b', 513);
    tokenizer_close(&tokenizer);
    cr_expect(eq(ptr, tokenizer, NULL));
    tokenizer_close(&tokenizer);
}

Test(tokenizer, reads_merges_with_windows_line_ends_and_without_a_version)
{
    struct tokenizer *tokenizer = NULL;
    cr_assert(eq(int, open_made("", ",\"ab\":514", "a b\r\n\r\n", &tokenizer, NULL), STATUS_OK));
    EXPECT_IDS(tokenizer, "abc", 512, 514, 256 + 'c', 513);
    tokenizer_close(&tokenizer);
    // "#version" is a version only on the first line.
    struct reason why = {0};
    cr_assert(eq(int, open_made("", ",\"ab\":514", "a b\n#version: 0.2\n", &tokenizer, &why),
                 STATUS_INVALID));
    cr_expect(eq(str, why.field, (char *)"merges.txt: line 2"));
}

struct bad {
    const char *skip;
    const char *more;
    const char *merges;
    const char *field;
    const char *part; // of the reason
};

static const struct bad bad[] = {
    {TOKENIZER_START, "", "", "vocab.json", "<|startoftext|>"},
    {TOKENIZER_END, "", "", "vocab.json", "<|endoftext|>"},
    {"", ",\"ab\":515", "", "vocab.json", "\"ab\""}, // a hole at 514
    {"", ",\"ab\":-1", "", "vocab.json", "\"ab\""},
    {"", ",\"ab\":1.5", "", "vocab.json", "\"ab\""},
    {"", ",\"ab\":\"514\"", "", "vocab.json", "\"ab\""},
    {"", ",\"ab\":null", "", "vocab.json", "\"ab\""},
    {"", ",\"ab\":5", "", "vocab.json", "same id 5"},
    {"", ",\"\":514", "", "vocab.json", "0 bytes"},
    {"", ",\"a\":514", "", "", ""}, // a doubled key
    {"", "", "a\n", "merges.txt: line 1", "\"a\""},
    {"", "", "a \n", "merges.txt: line 1", "two tokens"},
    {"", "", " a\n", "merges.txt: line 1", "two tokens"},
    {"", "", "a  b\n", "merges.txt: line 1", "two tokens"},
    {"", ",\"ab\":514", "a b c\n", "merges.txt: line 1", "two tokens"},
    {"", ",\"ab\":514", "a b\na b\n", "merges.txt: line 2", "second time"},
    {"", ",\"ab\":514", "#version\na b\nab c\n", "merges.txt: line 3", "\"ab c\""},
    {"", "", "a b\n", "merges.txt: line 1", "the vocabulary lacks"},
    {"", "", "zz a\n", "merges.txt: line 1", "the vocabulary lacks"},
};

Test(tokenizer, refuses_a_bad_vocabulary_and_says_where)
{
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct tokenizer *tokenizer = NULL;
        struct reason why = {0};
        enum status status = open_made(bad[i].skip, bad[i].more, bad[i].merges, &tokenizer, &why);
        cr_expect(eq(int, status, STATUS_INVALID), "case %zu", i);
        cr_expect(eq(ptr, tokenizer, NULL));
        cr_expect(ne(ptr, strstr(why.field, bad[i].field), NULL), "case %zu: %s", i, why.field);
        cr_expect(ne(ptr, strstr(why.text, bad[i].part), NULL), "case %zu: %s", i, why.text);
    }
}

Test(tokenizer, refuses_files_that_are_no_vocabulary)
{
    static const char *const texts[] = {"", "[]", "{}", "null", "{\"a\":0", "{\"a\":0}", "\xff"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct tokenizer *tokenizer = NULL;
        struct reason why = {0};
        struct bytes vocab = {(const uint8_t *)texts[i], strlen(texts[i])};
        cr_expect(eq(int, tokenizer_open(vocab, (struct bytes){0}, CONTEXT, &tokenizer, &why),
                     STATUS_INVALID),
                  "%s", texts[i]);
        cr_expect(gt(sz, strlen(why.text), 0));
    }
}

Test(tokenizer, misses_any_byte_symbol)
{
    struct buffer vocab = {0};
    make_vocab(&vocab, "", "");
    // The symbol of byte 0x41, and the one that ends a word with it.
    static const char *const names[] = {"\"\\u0041\":", "\"\\u0041</w>\":"};
    for (size_t i = 0; i < 2; i++) {
        char *copy = malloc(vocab.count + 1);
        cr_assert(ne(ptr, copy, NULL));
        memcpy(copy, vocab.data, vocab.count);
        copy[vocab.count] = '\0';
        char *at = strstr(copy, names[i]);
        cr_assert(ne(ptr, at, NULL));
        memcpy(at, "\"\\u0F41", 7);
        struct tokenizer *tokenizer = NULL;
        struct reason why = {0};
        cr_expect(eq(int,
                     tokenizer_open((struct bytes){(const uint8_t *)copy, vocab.count},
                                    (struct bytes){0}, CONTEXT, &tokenizer, &why),
                     STATUS_INVALID));
        cr_expect(ne(ptr, strstr(why.text, i == 0 ? "\"A\"" : "\"A</w>\""), NULL), "%s", why.text);
        free(copy);
    }
    buffer_deinit(&vocab);
}

// --- tokenizer.json

static void make_json(struct buffer *out, const char *more, const char *merges, bool pairs)
{
    struct buffer vocab = {0};
    make_vocab(&vocab, "", more);
    tokenizer_json_make((struct bytes){vocab.data, vocab.count},
                        (struct bytes){(const uint8_t *)merges, strlen(merges)}, pairs, out);
    buffer_deinit(&vocab);
}

Test(tokenizer, a_tokenizer_json_is_the_same_tokenizer)
{
    static const char more[] = ",\"ab\":514,\"abc</w>\":515,\"\\\"\\\\\":516";
    static const char merges[] = "a b\nab c</w>\n\" \\\n";
    struct tokenizer *plain = NULL;
    struct reason why = {0};
    cr_assert(eq(int, open_made("", more, merges, &plain, &why), STATUS_OK), "%s", why.text);
    for (int pairs = 0; pairs < 2; pairs++) {
        struct buffer file = {0};
        struct tokenizer *tokenizer = NULL;
        make_json(&file, more, merges, pairs);
        cr_assert(eq(int,
                     tokenizer_open_json((struct bytes){file.data, file.count}, CONTEXT, &tokenizer,
                                         &why),
                     STATUS_OK),
                  "%s: %s", why.field, why.text);
        EXPECT_IDS(tokenizer, "abc", 512, 515, 513);
        cr_expect(memcmp(tokenizer_hash(tokenizer), tokenizer_hash(plain), TOKENIZER_HASH_BYTES) ==
                  0);
        tokenizer_close(&tokenizer);
        buffer_deinit(&file);
    }
    tokenizer_close(&plain);

    // A merge less is another one.
    struct tokenizer *other = NULL;
    cr_assert(eq(int, open_made("", more, "a b\n", &plain, &why), STATUS_OK));
    cr_assert(eq(int, open_made("", more, "a b\nab c</w>\n", &other, &why), STATUS_OK));
    cr_expect(memcmp(tokenizer_hash(other), tokenizer_hash(plain), TOKENIZER_HASH_BYTES) != 0);
    tokenizer_close(&plain);
    tokenizer_close(&other);
}

// Replaces the first `from` in the file.
static void change(struct buffer *file, const char *from, const char *to)
{
    struct buffer changed = {0};
    const char *at = strstr((const char *)file->data, from);
    cr_assert(ne(ptr, (void *)at, NULL), "'%s' is not in the file", from);
    size_t before = (size_t)(at - (const char *)file->data);
    cr_assert(eq(int, buffer_append(&changed, file->data, before), STATUS_OK));
    append(&changed, to);
    cr_assert(eq(int,
                 buffer_append(&changed, at + strlen(from), file->count - before - strlen(from)),
                 STATUS_OK));
    buffer_deinit(file);
    *file = changed;
}

Test(tokenizer, a_tokenizer_json_that_is_not_clip_s_is_refused_by_section)
{
    static const struct {
        const char *from, *to, *field, *words;
    } cases[] = {
        {"\"BPE\"", "\"WordPiece\"", "tokenizer.json: model", "is not a BPE"},
        {"\"</w>\",", "\"\",", "tokenizer.json: model.end_of_word_suffix", "is not \"</w>\""},
        {"\"dropout\":null", "\"dropout\":0.1", "tokenizer.json: model.dropout", "is set"},
        {"\"continuing_subword_prefix\":\"\"", "\"continuing_subword_prefix\":\"##\"",
         "tokenizer.json: model.continuing_subword_prefix", "is set"},
        {"{\"type\":\"Lowercase\"}", "{\"type\":\"NFC\"}", "tokenizer.json: normalizer",
         "has no Lowercase"},
        {"{\"type\":\"NFC\"}", "{\"type\":\"NFKD\"}", "tokenizer.json: normalizer",
         "a step that is not CLIP's"},
        {"[\\\\p{N}]", "[\\\\p{N}]+", "tokenizer.json: pre_tokenizer", "CLIP's Split"},
        {"\"invert\":true", "\"invert\":false", "tokenizer.json: pre_tokenizer", "CLIP's Split"},
        {"\"add_prefix_space\":false", "\"add_prefix_space\":true", "tokenizer.json: pre_tokenizer",
         "without add_prefix_space"},
        {"\"cls\":[\"<|startoftext|>\"", "\"cls\":[\"[CLS]\"", "tokenizer.json: post_processor",
         "does not put"},
        {"\"content\":\"<|startoftext|>\"", "\"content\":\"<mask>\"",
         "tokenizer.json: added_tokens", "'<mask>' is none of CLIP's"},
        {"\"id\":513", "\"id\":12", "tokenizer.json", "is 513 in the vocabulary, but 12"},
        {"[\"a\",\"b\"]", "[\"a\"]", "tokenizer.json: model.merges", "entry 0 must be two tokens"},
        {"[\"a\",\"b\"]", "[\"a b\",\"c\"]", "tokenizer.json: model.merges", "entry 0"},
        {"[\"a\",\"b\"]", "[\"a\",\"z\"]", "tokenizer.json: model.merges: line 1", "lacks"},
        {"\"merges\"", "\"merge\"", "tokenizer.json: model.merges", "must be an array"},
        {"\"vocab\"", "\"vocabulary\"", "tokenizer.json", "must be an object of token: id"},
        {"{", "[", "tokenizer.json", "line 1"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buffer file = {0};
        struct tokenizer *tokenizer = NULL;
        struct reason why = {0};
        make_json(&file, ",\"ab\":514", "a b\n", true);
        change(&file, cases[i].from, cases[i].to);
        cr_expect(ne(int,
                     tokenizer_open_json((struct bytes){file.data, file.count}, CONTEXT, &tokenizer,
                                         &why),
                     STATUS_OK),
                  "case %zu", i);
        cr_expect(strcmp(why.field, cases[i].field) == 0, "case %zu: '%s'", i, why.field);
        cr_expect(strstr(why.text, cases[i].words) != NULL, "case %zu: %s", i, why.text);
        cr_expect(eq(ptr, tokenizer, NULL));
        buffer_deinit(&file);
    }
}

Test(tokenizer, refuses_a_context_out_of_range)
{
    static const uint32_t contexts[] = {0, 1, TOKENIZER_CONTEXT_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        struct tokenizer *tokenizer = NULL;
        struct reason why = {0};
        cr_expect(
            eq(int,
               tokenizer_open((struct bytes){0}, (struct bytes){0}, contexts[i], &tokenizer, &why),
               STATUS_INVALID));
        cr_expect(eq(str, why.field, (char *)"context"));
    }
}

Test(tokenizer, says_no_memory_at_every_allocation_and_leaks_nothing)
{
    struct tokenizer *tokenizer = NULL;
    uint64_t n = 1;
    for (;; n++) {
        struct reason why = {0};
        struct buffer vocab = {0};
        make_vocab(&vocab, "", ",\"ab\":514");
        mem_fail_after(n);
        enum status status =
            tokenizer_open((struct bytes){vocab.data, vocab.count},
                           (struct bytes){(const uint8_t *)"a b", 3}, CONTEXT, &tokenizer, &why);
        mem_fail_after(0);
        buffer_deinit(&vocab);
        if (status == STATUS_OK)
            break;
        cr_assert(eq(int, status, STATUS_NO_MEMORY));
        cr_assert(lt(u64, n, 10000)); // the JSON document allocates a lot
    }
    cr_expect(gt(u64, n, 4));

    char text[2000];
    memset(text, 'x', sizeof(text));
    uint32_t ids[CONTEXT] = {77};
    uint32_t count = 77;
    mem_fail_after(1);
    enum status status =
        tokenizer_encode(tokenizer, (struct text){text, sizeof(text)}, ids, &count, NULL);
    mem_fail_after(0);
    cr_expect(eq(int, status, STATUS_NO_MEMORY));
    cr_expect(eq(u32, count, 77));
    cr_expect(eq(u32, ids[0], 77));
    tokenizer_close(&tokenizer);
}

// --- texts

static struct tokenizer *open_tiny(uint32_t context)
{
    struct buffer vocab = {0};
    struct buffer merges = {0};
    cr_assert(eq(int, bytes_read_file(MODEL "vocab.json", 1 << 20, &vocab), STATUS_OK));
    cr_assert(eq(int, bytes_read_file(MODEL "merges.txt", 1 << 20, &merges), STATUS_OK));
    struct tokenizer *tokenizer = NULL;
    struct reason why = {0};
    cr_assert(
        eq(int,
           tokenizer_open((struct bytes){vocab.data, vocab.count},
                          (struct bytes){merges.data, merges.count}, context, &tokenizer, &why),
           STATUS_OK),
        "%s", why.text);
    buffer_deinit(&vocab);
    buffer_deinit(&merges);
    return tokenizer;
}

static uint32_t encode(const struct tokenizer *tokenizer, struct text text, uint32_t *ids)
{
    uint32_t count = 0;
    struct reason why = {0};
    cr_assert(eq(int, tokenizer_encode(tokenizer, text, ids, &count, &why), STATUS_OK), "%s",
              why.text);
    cr_assert(ge(u32, count, 2));
    cr_assert(le(u32, count, tokenizer_context(tokenizer)));
    cr_assert(eq(u32, ids[0], tokenizer_start_id(tokenizer)));
    cr_assert(eq(u32, ids[count - 1], tokenizer_end_id(tokenizer)));
    return count;
}

static void expect_same(const struct tokenizer *tokenizer, struct text a, struct text b)
{
    uint32_t ids[2][CONTEXT];
    uint32_t counts[2] = {encode(tokenizer, a, ids[0]), encode(tokenizer, b, ids[1])};
    cr_assert(eq(u32, counts[0], counts[1]), "%.*s", (int)a.bytes, a.data);
    cr_expect(eq(int, memcmp(ids[0], ids[1], counts[0] * sizeof(uint32_t)), 0), "%.*s",
              (int)a.bytes, a.data);
}

Test(tokenizer, cuts_an_over_long_text_and_ends_it_all_the_same)
{
    struct tokenizer *whole = open_tiny(TOKENIZER_CONTEXT_MAX);
    static uint32_t all[TOKENIZER_CONTEXT_MAX];
    char text[400] = "";
    for (int i = 0; i < 60; i++)
        strcat(text, i % 2 == 0 ? "cat " : "dog ");
    uint32_t all_count = encode(whole, text_of(text), all);
    cr_assert(gt(u32, all_count, 60));
    static const uint32_t contexts[] = {2, 3, 31, 32, 61, 62, 63};
    for (size_t i = 0; i < sizeof(contexts) / sizeof(contexts[0]); i++) {
        struct tokenizer *tokenizer = open_tiny(contexts[i]);
        uint32_t ids[100];
        uint32_t count = encode(tokenizer, text_of(text), ids);
        uint32_t wanted = contexts[i] < all_count ? contexts[i] : all_count;
        cr_expect(eq(u32, count, wanted));
        cr_expect(eq(int, memcmp(ids, all, (count - 1) * sizeof(*ids)), 0));
        tokenizer_close(&tokenizer);
    }
    tokenizer_close(&whole);
}

Test(tokenizer, takes_the_largest_text_and_refuses_a_larger_one)
{
    struct tokenizer *tokenizer = open_tiny(CONTEXT);
    static char text[TEXT_BYTES_MAX + 1];
    static const char *const fillings[] = {"a",        "ab",   "!", " ",  "&",           "&amp;",
                                           "\xCE\xA3", "\xF0", "1", "'s", "\xE1\xBA\x9E"};
    for (size_t f = 0; f < sizeof(fillings) / sizeof(fillings[0]); f++) {
        for (size_t i = 0; i < sizeof(text); i++)
            text[i] = fillings[f][i % strlen(fillings[f])];
        uint32_t ids[CONTEXT] = {77};
        (void)encode(tokenizer, (struct text){text, TEXT_BYTES_MAX}, ids);
        uint32_t count = 77;
        struct reason why = {0};
        ids[0] = 77;
        cr_expect(eq(
            int, tokenizer_encode(tokenizer, (struct text){text, sizeof(text)}, ids, &count, &why),
            STATUS_INVALID));
        cr_expect(eq(str, why.field, (char *)"text"));
        cr_expect(eq(u32, count, 77));
        cr_expect(eq(u32, ids[0], 77));
    }
    tokenizer_close(&tokenizer);
}

Test(tokenizer, reads_ill_formed_utf8_as_replacement_characters)
{
    static const struct {
        const char *bytes;
        const char *text;
    } cases[] = {
        {"a\xFF"
         "b",
         "a\uFFFDb"},
        {"\x80", "\uFFFD"},
        {"\xC0\x80", "\uFFFD\uFFFD"}, // overlong
        {"\xE2\x82", "\uFFFD"},       // cut short: one for the whole
        {"\xE2\x82"
         "a",
         "\uFFFDa"},
        {"\xF0\x9F\x98", "\uFFFD"},
        {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},           // a surrogate
        {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"}, // beyond U+10FFFF
        {"\xF8\x88\x80\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"},
        {"caf\xE9", "caf\uFFFD"}, // Latin-1
    };
    struct tokenizer *tokenizer = open_tiny(CONTEXT);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_same(tokenizer, text_of(cases[i].bytes), text_of(cases[i].text));
    tokenizer_close(&tokenizer);
}

Test(tokenizer, cleans_as_documented)
{
    static const struct {
        const char *text;
        const char *cleaned;
    } cases[] = {
        {" \t\n\x1c cat \xC2\x85\xE3\x80\x80", "cat"},
        {"Tom &amp;amp; Jerry", "tom & jerry"},
        {"&amp;amp;amp;", "&amp;"}, // twice, not three times: written so that it stays
        {"&#67;&#x41;t", "cat"},
        {"\u0130", "i\u0307"},
        {"\u039F\u0394\u039F\u03A3 \u03A3\u0391", "\u03BF\u03B4\u03BF\u03C2 \u03C3\u03B1"},
        {"<|ENDOFTEXT|>", "<|endoftext|>"},
    };
    struct tokenizer *tokenizer = open_tiny(CONTEXT);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (i != 2)
            expect_same(tokenizer, text_of(cases[i].text), text_of(cases[i].cleaned));
    }
    // What is left of "&amp;amp;amp;" would be unescaped again: it is compared by count.
    uint32_t ids[CONTEXT];
    cr_expect(eq(u32, encode(tokenizer, text_of("&amp;amp;amp;"), ids), 2 + 3));

    expect_same(tokenizer, (struct text){NULL, 0}, text_of(" \n "));
    tokenizer_close(&tokenizer);
}

Test(tokenizer, keeps_its_promises_for_random_bytes)
{
    (void)printf("seed %u\n", SEED);
    uint64_t state = SEED;
    struct tokenizer *tokenizer = open_tiny(CONTEXT);
    for (int round = 0; round < 3000; round++) {
        size_t count = (size_t)(random_next(&state) % 600);
        char *text = malloc(count + 1);
        cr_assert(ne(ptr, text, NULL));
        static const char likely[] = "&#;x1 aA's<|\xCE\xA3\xE2\x82\xF0\x9F\xC4\xB0";
        for (size_t i = 0; i < count; i++)
            text[i] = likely[random_next(&state) % (sizeof(likely) - 1)];
        for (size_t i = 0; i < count; i += 1 + (size_t)(random_next(&state) % 5))
            memset(text + i, (int)(random_next(&state) % 256), 1);
        uint32_t ids[CONTEXT];
        uint32_t written = encode(tokenizer, (struct text){text, count}, ids);
        for (uint32_t i = 0; i < written; i++)
            cr_assert(lt(u32, ids[i], tokenizer_vocab_count(tokenizer)));
        free(text);
    }
    tokenizer_close(&tokenizer);
}

// --- threads

struct work {
    const struct tokenizer *tokenizer;
    uint64_t sum;
};

static uint64_t sum_of_texts(const struct tokenizer *tokenizer)
{
    uint64_t state = SEED;
    uint64_t sum = 0;
    for (int round = 0; round < 2000; round++) {
        char text[200];
        for (size_t i = 0; i < sizeof(text); i++)
            text[i] = "etaoin shrdlu'&;9"[random_next(&state) % 17];
        uint32_t ids[CONTEXT];
        uint32_t count = 0;
        if (tokenizer_encode(tokenizer, (struct text){text, sizeof(text)}, ids, &count, NULL) !=
            STATUS_OK)
            abort();
        for (uint32_t i = 0; i < count; i++)
            sum = sum * 31 + ids[i];
    }
    return sum;
}

static void body(struct thread *self, void *context)
{
    thread_ready(self, STATUS_OK);
    struct work *work = context;
    work->sum = sum_of_texts(work->tokenizer);
}

Test(tokenizer, serves_many_threads_at_once)
{
    struct tokenizer *tokenizer = open_tiny(CONTEXT);
    struct work works[4];
    struct thread *threads[4] = {NULL};
    for (int i = 0; i < 4; i++) {
        works[i] = (struct work){.tokenizer = tokenizer};
        cr_assert(eq(int, thread_start("encode", body, &works[i], &threads[i]), STATUS_OK));
    }
    uint64_t wanted = sum_of_texts(tokenizer);
    for (int i = 0; i < 4; i++) {
        thread_join(&threads[i]);
        cr_expect(eq(u64, works[i].sum, wanted));
    }
    tokenizer_close(&tokenizer);
}
