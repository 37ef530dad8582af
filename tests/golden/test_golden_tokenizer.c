// SPDX-License-Identifier: Apache-2.0
// Goal: the ids are those of OpenAI's tokenizer (without its ftfy step), on every line
// of both golden files: eight languages, edge cases, over-long and random texts.
//
// Method: golden/tokenizer/*.jsonl.gz through the two vocabularies, read from vocab.json and
// merges.txt and, the same, from a tokenizer.json; every difference is printed, none is allowed.

#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/json.h"
#include "shaders/models/tokenizer.h"
#include "tests/support/gz.h"
#include "tests/support/tokenizer_json_made.h"

#define GOLDEN RECO_SOURCE_DIR "/tests/golden/"
#define TINY RECO_SOURCE_DIR "/shaders/models/reco-tiny/"
#define LINES 6729
#define IDS_MAX 77
#define PRINTED_MAX 20

static struct tokenizer *open_vocabulary(const char *vocab, const char *merges, uint32_t context)
{
    struct gz files[2];
    gz_read(vocab, &files[0]);
    gz_read(merges, &files[1]);
    struct tokenizer *tokenizer = NULL;
    struct reason why = {0};
    enum status status =
        tokenizer_open((struct bytes){files[0].data, files[0].count},
                       (struct bytes){files[1].data, files[1].count}, context, &tokenizer, &why);
    cr_assert(eq(int, status, STATUS_OK), "%s: %s", why.field, why.text);
    gz_free(&files[0]);
    gz_free(&files[1]);
    return tokenizer;
}

static struct tokenizer *open_json(const char *vocab, const char *merges, uint32_t context,
                                   bool pairs)
{
    struct gz files[2];
    struct buffer made = {0};
    gz_read(vocab, &files[0]);
    gz_read(merges, &files[1]);
    tokenizer_json_make((struct bytes){files[0].data, files[0].count},
                        (struct bytes){files[1].data, files[1].count}, pairs, &made);
    struct tokenizer *tokenizer = NULL;
    struct reason why = {0};
    enum status status =
        tokenizer_open_json((struct bytes){made.data, made.count}, context, &tokenizer, &why);
    cr_assert(eq(int, status, STATUS_OK), "%s: %s", why.field, why.text);
    buffer_deinit(&made);
    gz_free(&files[0]);
    gz_free(&files[1]);
    return tokenizer;
}

static bool ids_agree(const struct json *wanted, const uint32_t *ids, uint32_t count)
{
    if (json_count(wanted) != count)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        int64_t id = -1;
        if (!json_int(json_element(wanted, i), &id) || id != (int64_t)ids[i])
            return false;
    }
    return true;
}

// Our JSON reader refuses U+0000, which one text has: it travels as a private character.
#define NUL_ESCAPE "\\u0000"
#define STAND_IN_ESCAPE "\\uf0f0"
#define STAND_IN "\xEF\x83\xB0"

static void hide_nul(char *line)
{
    for (char *at = strstr(line, NUL_ESCAPE); at; at = strstr(at, NUL_ESCAPE))
        memcpy(at, STAND_IN_ESCAPE, strlen(STAND_IN_ESCAPE));
}

// Copies a text with the stand-ins made U+0000 again.
static struct text restore_nul(struct text text, char *room)
{
    size_t count = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        room[count++] = text.data[i];
        if (text.bytes - i >= 3 && memcmp(text.data + i, STAND_IN, 3) == 0) {
            room[count - 1] = '\0';
            i += 2;
        }
    }
    return (struct text){room, count};
}

// Whether one line agrees.
static bool check_line(const struct tokenizer *tokenizer, const char *line, size_t bytes)
{
    struct json *document = NULL;
    struct reason why = {0};
    cr_assert(eq(int, json_parse(line, bytes, &document, &why), STATUS_OK), "%s", why.text);
    static char room[65536];
    struct text text = restore_nul(json_text(json_member(document, "text")), room);
    uint32_t ids[IDS_MAX];
    uint32_t count = 0;
    cr_assert(eq(int, tokenizer_encode(tokenizer, text, ids, &count, &why), STATUS_OK), "%s",
              why.text);
    bool agrees = ids_agree(json_member(document, "ids"), ids, count);
    json_destroy(&document);
    return agrees;
}

static void check_file(struct tokenizer *tokenizer, const char *path)
{
    struct gz file;
    gz_read(path, &file);
    hide_nul((char *)file.data);
    size_t lines = 0;
    size_t wrong = 0;
    const char *at = (const char *)file.data;
    const char *end = at + file.count;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t bytes = (size_t)((stop ? stop : end) - at);
        lines++;
        if (!check_line(tokenizer, at, bytes) && wrong++ < PRINTED_MAX)
            (void)fprintf(stderr, "differs: %.*s\n", (int)bytes, at);
        at += bytes + 1;
    }
    cr_expect(eq(sz, wrong, 0));
    cr_expect(eq(sz, lines, LINES));
    gz_free(&file);
    tokenizer_close(&tokenizer);
}

Test(golden_tokenizer, full_vocabulary_gives_openai_ids_on_every_line)
{
    check_file(
        open_vocabulary(GOLDEN "vocab_full/vocab.json.gz", GOLDEN "vocab_full/merges.txt.gz", 77),
        GOLDEN "tokenizer/tokenizer_full.jsonl.gz");
}

Test(golden_tokenizer, tiny_vocabulary_gives_openai_ids_on_every_line)
{
    check_file(open_vocabulary(TINY "vocab.json", TINY "merges.txt", 32),
               GOLDEN "tokenizer/tokenizer_tiny.jsonl.gz");
}

Test(golden_tokenizer, a_tokenizer_json_of_pairs_gives_openai_ids_on_every_line)
{
    check_file(
        open_json(GOLDEN "vocab_full/vocab.json.gz", GOLDEN "vocab_full/merges.txt.gz", 77, true),
        GOLDEN "tokenizer/tokenizer_full.jsonl.gz");
}

Test(golden_tokenizer, a_tokenizer_json_of_texts_gives_openai_ids_on_every_line)
{
    check_file(open_json(TINY "vocab.json", TINY "merges.txt", 32, false),
               GOLDEN "tokenizer/tokenizer_tiny.jsonl.gz");
}
