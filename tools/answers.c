// SPDX-License-Identifier: Apache-2.0
// JSON lines come from proto/wire/api_json.c, which the side port uses too.

#include "tools/answers.h"

#include <inttypes.h>
#include <stdio.h>

#include "proto/wire/api_json.h"
#include "tools/output.h"

enum status answers_put_line(const struct options *options, enum api_method method,
                             const char *input, const struct api_answer *answer)
{
    struct json_writer writer = {.failed = false};
    struct api_answer told = *answer;
    if (options->request_id)
        told.request_id = text_of(options->request_id);
    api_json_put_answer(&writer, method, text_of(input), &told);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

enum status answers_show_record(const struct options *options, const char *key, uint64_t id,
                                const char *state)
{
    if (!options->json) {
        if (key)
            output_text(text_of(key));
        printf("%s%" PRIu64 "%s %s\n", key ? " (" : "", id, key ? ")" : "", state);
        return STATUS_OK;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "key");
    json_put_cstr(&writer, key);
    json_name(&writer, "id");
    json_put_uint(&writer, id);
    json_name(&writer, "status");
    json_put_cstr(&writer, state);
    json_end_object(&writer);
    const enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

void answers_print_input(const char *input, const struct api_answer *answer)
{
    printf("%s", output_bold());
    output_text(text_of(input));
    printf("%s%s\n", output_plain(), text_equal(answer->index, text_of("ivf")) ? " (ivf)" : "");
}

void answers_print_neighbours(const struct api_neighbours *neighbours, int indent)
{
    if (!neighbours->count) {
        printf("%*sno neighbours\n", indent, "");
        return;
    }

    const char *header[6] = {">score"};
    size_t columns = 1;
    if (neighbours->weights)
        header[columns++] = ">weight";
    if (neighbours->effects)
        header[columns++] = ">effect";
    header[columns++] = "key";
    header[columns++] = "caption";

    struct output_table table;
    output_table_begin(&table, header, columns);
    for (size_t i = 0; i < neighbours->count; i++) {
        output_cell(&table, "%.4f", (double)neighbours->scores[i]);
        if (neighbours->weights)
            output_cell(&table, "%.3f", (double)neighbours->weights[i]);
        if (neighbours->effects)
            output_cell(&table, "%+.4f", (double)neighbours->effects[i]);
        output_cell_text(&table, neighbours->keys ? neighbours->keys[i] : (struct text){"", 0});
        output_cell_text(&table,
                         neighbours->captions ? neighbours->captions[i] : (struct text){"", 0});
    }
    output_table_end(&table, indent);
}

void answers_print_state(const struct api_answer *answer, int indent)
{
    if (answer->coverage < 1.0f)
        printf("%*scoverage %.1f %%\n", indent, "", (double)answer->coverage * 100);
    for (size_t i = 0; i < answer->degraded_count; i++) {
        printf("%*sdegraded: ", indent, "");
        output_text(answer->degraded[i]);
        putchar('\n');
    }
}

enum status answers_end_line(struct json_writer *writer)
{
    enum status status = json_write_line(writer, stdout);
    if (status)
        (void)output_stdout_failed(status_text(status));
    return status;
}
