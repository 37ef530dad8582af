// SPDX-License-Identifier: Apache-2.0
// One loop for search, refine and classify: they ask the same kinds of questions and
// treat failures alike.

#include "tools/queries.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/arena.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/output.h"

#define REPLY_BYTES_MAX ((size_t)64 << 20)

static enum status begin(struct queries *queries, const struct options *options,
                         enum api_input kind, const struct args_list *items, struct reason *why)
{
    *queries = (struct queries){.options = options, .kind = kind};
    inputs_init(&queries->inputs, items, kind != API_INPUT_TEXT);
    queries->exclude = mem_alloc_array(options->exclude.count + 1, sizeof(struct text));
    options_query_message(options, queries->exclude, &queries->message);
    enum status status = options_read_fields(options, &queries->message.fields, why);
    if (!status)
        status = filters_read(options, &queries->filters, why);
    queries->message.filter = queries->filters.filter;
    return status;
}

enum status queries_begin(struct queries *queries, const struct options *options,
                          struct reason *why)
{
    *queries = (struct queries){0};
    int kinds = (options->images.count > 0) + (options->texts.count > 0) +
                (options->embeddings.count > 0) + (options->parts.count > 0);
    if (kinds != 1)
        return reason_set(why, STATUS_INVALID, NULL,
                          "%s: one of --image, --text, --embedding and --part is needed",
                          kinds ? "more than one kind of input" : "nothing to ask");

    if (options->parts.count) {
        enum status status = begin(queries, options, API_INPUT_PARTS, &options->parts, why);
        return status ? status : parts_read(options, &queries->parts, why);
    }
    if (options->images.count)
        return begin(queries, options, API_INPUT_IMAGE, &options->images, why);
    if (options->texts.count)
        return begin(queries, options, API_INPUT_TEXT, &options->texts, why);
    return begin(queries, options, API_INPUT_EMBEDDING, &options->embeddings, why);
}

enum status queries_begin_rows(struct queries *queries, const struct options *options,
                               struct reason *why)
{
    return begin(queries, options, API_INPUT_EMBEDDING, &options->embeddings, why);
}

enum status queries_begin_pictures(struct queries *queries, const struct options *options,
                                   const struct args_list *items, struct reason *why)
{
    return begin(queries, options, API_INPUT_IMAGE, items, why);
}

void queries_end(struct queries *queries)
{
    inputs_deinit(&queries->inputs);
    buffer_deinit(&queries->picture);
    npyfile_close(&queries->rows);
    mem_free(queries->embedding);
    mem_free(queries->exclude);
    filters_deinit(&queries->filters);
    parts_deinit(&queries->parts);
    *queries = (struct queries){0};
}

static void set_name(struct queries *queries, const char *name)
{
    (void)snprintf(queries->name, sizeof(queries->name), "%s", name);
}

// --- arrays

static enum status open_rows(struct queries *queries, const char *path, struct reason *why)
{
    npyfile_close(&queries->rows);
    mem_free(queries->embedding);
    queries->embedding = NULL;

    enum status status = npyfile_open(path, &queries->rows, why);
    if (status)
        return status;
    uint64_t columns = npyfile_info(queries->rows)->columns;
    if (columns > DIMENSION_MAX) {
        npyfile_close(&queries->rows);
        return reason_set(why, STATUS_INVALID, NULL, "rows of %llu numbers: at most %d are allowed",
                          (unsigned long long)columns, DIMENSION_MAX);
    }
    if (npyfile_info(queries->rows)->rows == 0) {
        npyfile_close(&queries->rows);
        return reason_set(why, STATUS_INVALID, NULL, "it has no rows; each row is one question");
    }
    queries->embedding = mem_alloc_array((size_t)columns, sizeof(float));
    queries->rows_path = path;
    queries->row = 0;
    return STATUS_OK;
}

static enum queries_step next_row(struct queries *queries, struct api_query_request *out,
                                  struct reason *why)
{
    while (!queries->rows || queries->row == npyfile_info(queries->rows)->rows) {
        const char *path = inputs_next(&queries->inputs);
        if (!path)
            return QUERIES_END;
        set_name(queries, path);
        if (open_rows(queries, path, why))
            return QUERIES_BAD;
    }

    const struct npyfile_info *info = npyfile_info(queries->rows);
    npyfile_read_row(queries->rows, queries->row, queries->embedding);
    (void)snprintf(queries->name, sizeof(queries->name), "%s[%llu]", queries->rows_path,
                   (unsigned long long)queries->row);
    queries->row++;
    out->embedding = queries->embedding;
    out->embedding_count = (size_t)info->columns;
    out->embedding_modality =
        queries->options->modality == 1 ? API_MODALITY_TEXT : API_MODALITY_IMAGE;
    return QUERIES_ITEM;
}

// All parts are one query, named by its words.
static enum queries_step next_parts(struct queries *queries, struct api_query_request *out)
{
    if (queries->parts_are_asked)
        return QUERIES_END;
    queries->parts_are_asked = true;
    size_t used = 0;
    queries->name[0] = '\0';
    for (size_t i = 0; i < queries->parts.count && used < sizeof(queries->name) - 1; i++)
        used += (size_t)snprintf(queries->name + used, sizeof(queries->name) - used, "%s%s",
                                 i > 0 ? " " : "", queries->options->parts.items[i]);
    out->parts = queries->parts.list;
    out->part_count = queries->parts.count;
    return QUERIES_ITEM;
}

enum queries_step queries_next(struct queries *queries, struct api_query_request *out,
                               struct reason *why)
{
    *out = (struct api_query_request){
        .input = queries->kind,
        .options = queries->message,
        .label_set_id = queries->extra.label_set_id,
        .top = queries->extra.top,
        .candidates_max = queries->extra.candidates_max,
    };
    if (queries->kind == API_INPUT_EMBEDDING)
        return next_row(queries, out, why);

    if (queries->kind == API_INPUT_PARTS)
        return next_parts(queries, out);

    const char *item = inputs_next(&queries->inputs);
    if (!item)
        return QUERIES_END;
    set_name(queries, item);
    if (queries->kind == API_INPUT_TEXT) {
        out->text = text_of(item);
        return inputs_check_text(item, why) ? QUERIES_BAD : QUERIES_ITEM;
    }

    buffer_deinit(&queries->picture);
    queries->picture = (struct buffer){0};
    if (inputs_read_picture(item, &queries->picture, why))
        return QUERIES_BAD;
    out->image = (struct bytes){queries->picture.data, queries->picture.count};
    return QUERIES_ITEM;
}

// --- asking

struct asking {
    struct client *client;
    queries_method method;
    struct buffer request, reply;
};

static enum status ask(struct asking *asking, const struct api_query_request *request,
                       struct arena *arena, struct api_answer *answer, struct reason *why)
{
    enum api_method method = asking->method(request->input);
    asking->request.count = 0;
    enum status status = api_encode_query(method, request, &asking->request);
    if (status)
        return reason_set(why, status, NULL, "the request cannot be made: %s", status_text(status));

    struct bytes bytes = {asking->request.data, asking->request.count};
    status = client_call(asking->client, method, bytes, &asking->reply, why);
    if (status)
        return status;
    bytes = (struct bytes){asking->reply.data, asking->reply.count};
    return api_decode_answer(method, bytes, arena, answer, why);
}

static enum status ask_or_renew(struct queries *queries, struct asking *asking,
                                const struct api_query_request *request, struct arena *arena,
                                struct api_answer *answer, struct reason *why)
{
    enum status status = ask(asking, request, arena, answer, why);
    if (status != STATUS_NOT_FOUND || !queries->extra.renew)
        return status;
    status = queries->extra.renew(queries->extra.context, why);
    return status ? status : ask(asking, request, arena, answer, why);
}

int queries_run(struct queries *queries, struct client *client, queries_method method,
                queries_show show, void *context)
{
    struct asking asking = {.client = client, .method = method};
    int exit_status = 0;
    for (;;) {
        struct reason why = {.text = ""};
        struct api_query_request request;
        enum queries_step step = queries_next(queries, &request, &why);
        if (step == QUERIES_END)
            break;

        struct arena *arena = arena_create(REPLY_BYTES_MAX);
        struct api_answer answer = {.coverage = 0};
        enum status status = STATUS_INVALID;
        int worst = 1; // what cannot be read is a failed item
        if (step == QUERIES_ITEM) {
            status = ask_or_renew(queries, &asking, &request, arena, &answer, &why);
            worst = output_exit(status);
        }
        if (status) {
            output_error(queries->name, &why);
            exit_status = worst > exit_status ? worst : exit_status;
        } else if (show(context, &(struct queries_answer){queries->name, &request, &answer})) {
            exit_status = exit_status > 1 ? exit_status : 1;
            arena_destroy(&arena);
            break;
        }
        arena_destroy(&arena);
        (void)fflush(stdout); // whoever feeds stdin line by line waits for this one
        if (status && !queries->options->keep_going)
            break;
    }
    buffer_deinit(&asking.request);
    buffer_deinit(&asking.reply);
    return exit_status;
}
