// SPDX-License-Identifier: Apache-2.0
// A tokenizer.json holds a whole pipeline: normalizer, pre-tokenizer, model, post-processor. We
// have one pipeline, CLIP's, and take the vocabulary and the merges; so every section is checked
// to say CLIP's, and what says anything else is refused: it would give other ids in silence.
//
// What the sections may say is what exporters of CLIP's tokenizer write. Merges come as texts
// "a b" or, from newer exporters, as pairs ["a", "b"]; both become the lines of a merges.txt.

#include <assert.h>
#include <stdio.h>

#include "proto/base/json.h"
#include "proto/base/mem.h"
#include "shaders/models/tokenizer_internal.h"

#define FILE_NAME "tokenizer.json"
#define WORDS "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"
#define END_TOKENS "<\\|startoftext\\|>|<\\|endoftext\\|>|"

static enum status refuse(struct reason *why, const char *section, const char *text)
{
    char field[REASON_FIELD_BYTES];
    (void)snprintf(field, sizeof(field), FILE_NAME ": %s", section);
    return reason_set(why, STATUS_UNSUPPORTED, field, "%s", text);
}

static bool says(const struct json *object, const char *key, const char *text)
{
    return text_equal(json_text(json_member(object, key)), text_of(text));
}

// Absent, null, false, 0 or "": a step that is not taken.
static bool is_off(const struct json *value)
{
    double number = 0;
    if (!value || json_is_null(value))
        return true;
    if (json_is_bool(value))
        return !json_bool(value, true);
    if (json_double(value, &number))
        return !(number < 0) && !(number > 0);
    return json_is_text(value) && json_text(value).bytes == 0;
}

// The steps of a "Sequence", or the one step that is none.
static const struct json *step_at(const struct json *section, const char *list, size_t index)
{
    if (says(section, "type", "Sequence"))
        return json_element(json_member(section, list), index);
    return index == 0 ? section : NULL;
}

// --- the sections

// Lower case is a must; NFC and single spaces are steps that our own cleaning does or needs not.
static enum status check_normalizer(const struct json *section, struct reason *why)
{
    bool lower = false;
    if (!json_is_object(section))
        return refuse(why, "normalizer", "is missing; CLIP's makes lower case");
    for (size_t i = 0; step_at(section, "normalizers", i); i++) {
        const struct json *step = step_at(section, "normalizers", i);
        const struct json *pattern = json_member(step, "pattern");
        lower = lower || says(step, "type", "Lowercase");
        if (says(step, "type", "Lowercase") || says(step, "type", "NFC"))
            continue;
        if (says(step, "type", "Replace") && says(pattern, "Regex", "\\s+") &&
            says(step, "content", " "))
            continue;
        return refuse(
            why, "normalizer",
            "has a step that is not CLIP's; NFC, Replace \\s+ by a space, and Lowercase are");
    }
    return lower ? STATUS_OK : refuse(why, "normalizer", "has no Lowercase; CLIP's has");
}

static bool is_split(const struct json *step)
{
    struct text regex = json_text(json_member(json_member(step, "pattern"), "Regex"));
    size_t before = strlen(END_TOKENS);
    if (regex.bytes > before && memcmp(regex.data, END_TOKENS, before) == 0) {
        regex.data += before;
        regex.bytes -= before;
    }
    return says(step, "type", "Split") && says(step, "behavior", "Removed") &&
           json_bool(json_member(step, "invert"), false) && text_equal(regex, text_of(WORDS));
}

static enum status check_pre_tokenizer(const struct json *section, struct reason *why)
{
    if (!is_split(step_at(section, "pretokenizers", 0)))
        return refuse(why, "pre_tokenizer", "does not begin with CLIP's Split into words");
    const struct json *bytes = step_at(section, "pretokenizers", 1);
    if (!says(bytes, "type", "ByteLevel") || !is_off(json_member(bytes, "add_prefix_space")) ||
        step_at(section, "pretokenizers", 2))
        return refuse(why, "pre_tokenizer",
                      "is not CLIP's: a Split, then ByteLevel without add_prefix_space");
    return STATUS_OK;
}

// Whether the template's piece at `index` is this token; NULL: the text itself.
static bool is_piece(const struct json *single, size_t index, const char *token)
{
    const struct json *piece = json_element(single, index);
    if (!token)
        return json_is_object(json_member(piece, "Sequence"));
    return says(json_member(piece, "SpecialToken"), "id", token);
}

// The end tokens go around the text; that is done here whatever the file says, so it must say it.
static enum status check_post_processor(const struct json *section, struct reason *why)
{
    if (!section || json_is_null(section))
        return STATUS_OK;
    const struct json *first = json_element(json_member(section, "cls"), 0);
    const struct json *last = json_element(json_member(section, "sep"), 0);
    if (says(section, "type", "RobertaProcessing") &&
        text_equal(json_text(first), text_of(TOKENIZER_START)) &&
        text_equal(json_text(last), text_of(TOKENIZER_END)))
        return STATUS_OK;
    const struct json *single = json_member(section, "single");
    if (says(section, "type", "TemplateProcessing") && json_count(single) == 3 &&
        is_piece(single, 0, TOKENIZER_START) && is_piece(single, 1, NULL) &&
        is_piece(single, 2, TOKENIZER_END))
        return STATUS_OK;
    return refuse(why, "post_processor",
                  "does not put " TOKENIZER_START " before and " TOKENIZER_END " behind the text");
}

static enum status check_model(const struct json *model, struct reason *why)
{
    static const char *const off[] = {"dropout", "continuing_subword_prefix", "byte_fallback",
                                      "ignore_merges"};
    if (!json_is_object(model) || (json_member(model, "type") && !says(model, "type", "BPE")))
        return refuse(why, "model", "is not a BPE");
    if (!says(model, "end_of_word_suffix", "</w>"))
        return refuse(why, "model.end_of_word_suffix", "is not \"</w>\", as CLIP's is");
    for (size_t i = 0; i < sizeof(off) / sizeof(off[0]); i++) {
        char section[40];
        (void)snprintf(section, sizeof(section), "model.%s", off[i]);
        if (!is_off(json_member(model, off[i])))
            return refuse(why, section, "is set; CLIP's has no such thing");
    }
    return STATUS_OK;
}

// Tokens that are found before the model sees a text: CLIP has two.
static enum status check_added(const struct json *added, struct reason *why)
{
    for (size_t i = 0; i < json_count(added); i++) {
        const struct json *token = json_element(added, i);
        int64_t id = 0;
        struct text content = json_text(json_member(token, "content"));
        if (!json_int(json_member(token, "id"), &id) || !content.data)
            return reason_set(why, STATUS_INVALID, FILE_NAME ": added_tokens",
                              "entry %zu has no id and content", i);
        if (!says(token, "content", TOKENIZER_START) && !says(token, "content", TOKENIZER_END))
            return reason_set(why, STATUS_UNSUPPORTED, FILE_NAME ": added_tokens",
                              "'%.*s' is none of CLIP's, " TOKENIZER_START " and " TOKENIZER_END,
                              (int)(content.bytes < 64 ? content.bytes : 64), content.data);
    }
    return STATUS_OK;
}

static enum status check_sections(const struct json *root, struct reason *why)
{
    if (!json_is_object(root))
        return reason_set(why, STATUS_INVALID, FILE_NAME, "must be an object");
    enum status status = check_model(json_member(root, "model"), why);
    if (status == STATUS_OK)
        status = check_normalizer(json_member(root, "normalizer"), why);
    if (status == STATUS_OK)
        status = check_pre_tokenizer(json_member(root, "pre_tokenizer"), why);
    if (status == STATUS_OK)
        status = check_post_processor(json_member(root, "post_processor"), why);
    if (status == STATUS_OK)
        status = check_added(json_member(root, "added_tokens"), why);
    return status;
}

// --- merges

static bool is_part(struct text part)
{
    return part.bytes > 0 && !memchr(part.data, ' ', part.bytes) &&
           !memchr(part.data, '\n', part.bytes) && !memchr(part.data, '\r', part.bytes);
}

static enum status append_line(struct buffer *out, struct text left, struct text right)
{
    if (!is_part(left) || !is_part(right))
        return STATUS_INVALID;
    enum status status = buffer_append(out, left.data, left.bytes);
    if (status == STATUS_OK)
        status = buffer_append(out, " ", 1);
    if (status == STATUS_OK)
        status = buffer_append(out, right.data, right.bytes);
    return status == STATUS_OK ? buffer_append(out, "\n", 1) : status;
}

// "a b" or ["a", "b"] as a line.
static enum status append_merge(struct buffer *out, const struct json *merge)
{
    struct text text = json_text(merge);
    if (json_is_array(merge) && json_count(merge) == 2)
        return append_line(out, json_text(json_element(merge, 0)),
                           json_text(json_element(merge, 1)));
    const char *space = text.bytes ? memchr(text.data, ' ', text.bytes) : NULL;
    if (!space)
        return STATUS_INVALID;
    size_t left = (size_t)(space - text.data);
    return append_line(out, (struct text){text.data, left},
                       (struct text){space + 1, text.bytes - left - 1});
}

static enum status join_merges(const struct json *merges, struct buffer *out, struct reason *why)
{
    if (!json_is_array(merges))
        return reason_set(why, STATUS_INVALID, FILE_NAME ": model.merges", "must be an array");
    out->count_max = TOKENIZER_FILE_BYTES_MAX;
    for (size_t i = 0; i < json_count(merges); i++) {
        enum status status = append_merge(out, json_element(merges, i));
        if (status == STATUS_INVALID)
            return reason_set(why, status, FILE_NAME ": model.merges",
                              "entry %zu must be two tokens, \"a b\" or [\"a\", \"b\"]", i);
        if (status != STATUS_OK)
            return reason_set(why, status, FILE_NAME ": model.merges", "%s", status_text(status));
    }
    return STATUS_OK;
}

enum status tokenizer_open_json(struct bytes tokenizer_json, uint32_t context,
                                struct tokenizer **out, struct reason *why)
{
    assert(out);

    struct json *root = NULL;
    struct buffer merges = {0};
    struct reason inner = {.text = ""};
    enum status status = tokenizer_check(tokenizer_json.count, FILE_NAME, context, why);
    if (status != STATUS_OK)
        return status;
    status = json_parse(tokenizer_json.data, tokenizer_json.count, &root, &inner);
    if (status != STATUS_OK)
        return reason_set(why, status, FILE_NAME, "%s", inner.text);
    status = check_sections(root, why);
    const struct json *model = json_member(root, "model");
    if (status == STATUS_OK)
        status = join_merges(json_member(model, "merges"), &merges, why);
    if (status == STATUS_OK) {
        const struct tokenizer_source source = {
            .vocab = json_member(model, "vocab"),
            .added = json_member(root, "added_tokens"),
            .merges = {merges.data ? merges.data : (const uint8_t *)"", merges.count},
            .vocab_file = FILE_NAME,
            .merges_file = FILE_NAME ": model.merges",
        };
        status = tokenizer_build(&source, context, out, why);
    }
    buffer_deinit(&merges);
    json_destroy(&root);
    return status;
}
