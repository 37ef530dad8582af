// SPDX-License-Identifier: Apache-2.0
// reco tokenize: texts to token ids, a batch at a time.

#include <stdio.h>

#include "proto/base/arena.h"
#include "tools/answers.h"
#include "tools/client.h"
#include "tools/encoding.h"
#include "tools/output.h"
#include "tools/verbs.h"

struct tokenizing {
    const struct options *options;
};

static enum status show_ids(const struct options *options, const char *text, const uint32_t *ids,
                            size_t count)
{
    struct json_writer writer = {.failed = false};
    enum status status = STATUS_OK;

    if (options->json) {
        json_begin_object(&writer);
        json_name(&writer, "text");
        json_put_cstr(&writer, text);
        json_name(&writer, "ids");
        json_begin_array(&writer);
        for (size_t i = 0; i < count; i++)
            json_put_uint(&writer, ids[i]);
        json_end_array(&writer);
        json_end_object(&writer);
        status = answers_end_line(&writer);
    } else {
        for (size_t i = 0; i < count; i++)
            printf(i ? " %u" : "%u", ids[i]);
        putchar('\n');
    }
    json_writer_deinit(&writer);
    return status;
}

static enum status show_batch(void *context, const struct encoding_batch *batch, struct bytes reply)
{
    const struct tokenizing *tokenizing = context;
    struct arena *arena = arena_create(ENCODING_REPLY_BYTES_MAX);
    struct api_tokenize_reply answer = {.count = 0};
    struct reason why = {.text = ""};

    enum status status = api_decode_tokenize_reply(reply, arena, &answer, &why);
    size_t sum = 0;
    for (size_t i = 0; i < answer.count; i++)
        sum += answer.counts[i];
    if (!status && (answer.count != batch->count || sum != answer.id_count))
        status = reason_set(&why, STATUS_CORRUPT, NULL, "an answer of %zu lists for %zu texts",
                            answer.count, batch->count);
    if (status)
        output_error(NULL, &why);

    size_t at = 0;
    for (size_t i = 0; i < batch->count && !status; i++) {
        status = show_ids(tokenizing->options, batch->names[i], answer.ids + at, answer.counts[i]);
        at += answer.counts[i];
    }
    arena_destroy(&arena);
    return status;
}

static int run_tokenize(const struct options *options)
{
    struct tokenizing tokenizing = {.options = options};
    return encoding_run(options, API_TOKENIZE, show_batch, &tokenizing);
}

const struct verb verb_tokenize = {
    .args = {.name = "tokenize",
             .items = "TEXT...",
             .summary = "texts to token ids, start and end tokens included",
             .details =
                 "The ids are OpenAI's, unpadded; a text longer than the model's context is\n"
                 "cut. - reads one text per line from stdin.\n\n"
                 "JSON line: {\"text\",\"ids\":[...]}",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {options_items, options_model, options_server, options_common}},
    .chapter = "models",
    .run = run_tokenize,
};
