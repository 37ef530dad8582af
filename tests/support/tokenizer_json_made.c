// SPDX-License-Identifier: Apache-2.0
// The sections are those that the tokenizers library writes for CLIP's tokenizer; that it reads the
// result was tried with its version 0.23.3.

#include "tests/support/tokenizer_json_made.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/json.h"

static void append_bytes(struct buffer *out, const void *data, size_t bytes)
{
    if (buffer_append(out, data, bytes) != STATUS_OK)
        abort();
}

static void append_text(struct buffer *out, const char *text)
{
    append_bytes(out, text, strlen(text));
}

static int64_t id_of(const struct json *vocab, const char *token)
{
    int64_t id = 0;
    if (!json_int(json_member(vocab, token), &id))
        abort();
    return id;
}

static void append_added(struct buffer *out, const struct json *vocab, const char *token)
{
    char entry[256];
    (void)snprintf(entry, sizeof(entry),
                   "{\"id\":%lld,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                   "\"rstrip\":false,\"normalized\":true,\"special\":true}",
                   (long long)id_of(vocab, token), token);
    append_text(out, entry);
}

static void append_quoted(struct buffer *out, const char *data, size_t bytes)
{
    append_text(out, "\"");
    for (size_t i = 0; i < bytes; i++) {
        if (data[i] == '"' || data[i] == '\\')
            append_text(out, "\\");
        append_bytes(out, data + i, 1);
    }
    append_text(out, "\"");
}

static void append_merge(struct buffer *out, const char *line, size_t bytes, bool pairs)
{
    const char *space = memchr(line, ' ', bytes);
    size_t left = space ? (size_t)(space - line) : 0;
    if (!pairs) {
        append_quoted(out, line, bytes);
        return;
    }
    append_text(out, "[");
    append_quoted(out, line, left);
    append_text(out, ",");
    append_quoted(out, line + left + 1, bytes - left - 1);
    append_text(out, "]");
}

static void append_merges(struct buffer *out, struct bytes merges, bool pairs)
{
    const char *at = (const char *)merges.data;
    const char *end = at + merges.count;
    for (bool first = true; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t bytes = (size_t)((stop ? stop : end) - at);
        if (bytes > 0 && !(bytes > 8 && memcmp(at, "#version", 8) == 0)) {
            append_text(out, first ? "" : ",");
            append_merge(out, at, bytes, pairs);
            first = false;
        }
        at += bytes + 1;
    }
}

void tokenizer_json_make(struct bytes vocab_json, struct bytes merges_txt, bool pairs,
                         struct buffer *out)
{
    struct json *vocab = NULL;
    if (json_parse(vocab_json.data, vocab_json.count, &vocab, NULL) != STATUS_OK)
        abort();
    append_text(out,
                "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    append_added(out, vocab, "<|startoftext|>");
    append_text(out, ",");
    append_added(out, vocab, "<|endoftext|>");
    append_text(out, "],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{"
                     "\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\" \"},{"
                     "\"type\":\"Lowercase\"}]},\"pre_tokenizer\":{\"type\":\"Sequence\","
                     "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"");
    append_text(out, pairs ? "<\\\\|startoftext\\\\|>|<\\\\|endoftext\\\\|>|" : "");
    append_text(out, "'s|'t|'re|'ve|'m|'ll|'d|[\\\\p{L}]+|[\\\\p{N}]|[^\\\\s\\\\p{L}\\\\p{N}]+\"},"
                     "\"behavior\":\"Removed\",\"invert\":true},{\"type\":\"ByteLevel\","
                     "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}]},"
                     "\"post_processor\":{\"type\":\"RobertaProcessing\",\"sep\":");
    char ends[128];
    (void)snprintf(
        ends, sizeof(ends), "[\"<|endoftext|>\",%lld],\"cls\":[\"<|startoftext|>\",%lld]",
        (long long)id_of(vocab, "<|endoftext|>"), (long long)id_of(vocab, "<|startoftext|>"));
    append_text(out, ends);
    append_text(out, ",\"trim_offsets\":false,"
                     "\"add_prefix_space\":false},\"decoder\":null,\"model\":{\"type\":\"BPE\","
                     "\"dropout\":null,\"unk_token\":\"<|endoftext|>\","
                     "\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"</w>\","
                     "\"fuse_unk\":false,\"vocab\":");
    append_bytes(out, vocab_json.data, vocab_json.count);
    append_text(out, ",\"merges\":[");
    append_merges(out, merges_txt, pairs);
    append_text(out, "]}}");
    append_bytes(out, "", 1);
    out->count--;
    json_destroy(&vocab);
}
