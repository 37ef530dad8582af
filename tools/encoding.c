// SPDX-License-Identifier: Apache-2.0
// Read until the batch is full, ask, show, again. The order of the answers is the order of
// the items, and so is the order in which failures are told: a file that cannot be read
// ends its batch and is told after it.

#include "tools/encoding.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "tools/client.h"
#include "tools/inputs.h"
#include "tools/output.h"
#include "tools/verbs.h"

struct run {
    const struct options *options;
    enum api_method method;
    struct client *client;
    struct inputs inputs;
    struct encoding_batch batch;
    struct buffer request, reply;
    bool end;     // of the items, or because one failed
    bool failed;  // an item
    char *unread; // item behind the batch that could not be read; NULL: none
    struct reason unread_why;
};

static void drop_item(struct encoding_batch *batch, size_t index)
{
    mem_free(batch->names[index]);
    buffer_deinit(&batch->pictures[index]);
    batch->count--;
    memmove(&batch->names[index], &batch->names[index + 1],
            (batch->count - index) * sizeof(batch->names[0]));
    memmove(&batch->pictures[index], &batch->pictures[index + 1],
            (batch->count - index) * sizeof(batch->pictures[0]));
    batch->pictures[batch->count] = (struct buffer){0};
}

static void empty_batch(struct encoding_batch *batch)
{
    while (batch->count)
        drop_item(batch, batch->count - 1);
}

static void item_failed(struct run *run, const char *name, const struct reason *why)
{
    output_error(name, why);
    run->failed = true;
    if (!run->options->keep_going)
        run->end = true;
}

// Fills the batch from the items.
static void read_batch(struct run *run)
{
    struct encoding_batch *batch = &run->batch;
    size_t bytes = 0;
    while (!run->end && batch->count < ENCODING_BATCH_MAX && bytes < ENCODING_BATCH_BYTES) {
        const char *item = inputs_next(&run->inputs);
        if (!item) {
            run->end = true;
            break;
        }
        struct reason why = {.text = ""};
        struct buffer picture = {0};
        enum status status = run->method == API_ENCODE_IMAGE
                                 ? inputs_read_picture(item, &picture, &why)
                                 : inputs_check_text(item, &why);
        if (status) {
            run->unread = mem_copy_text(item);
            run->unread_why = why;
            break;
        }
        bytes += picture.count;
        batch->names[batch->count] = mem_copy_text(item);
        batch->pictures[batch->count++] = picture;
    }
}

static enum status encode_request(struct run *run)
{
    const struct encoding_batch *batch = &run->batch;
    struct bytes images[ENCODING_BATCH_MAX];
    struct text texts[ENCODING_BATCH_MAX];
    for (size_t i = 0; i < batch->count; i++) {
        images[i] = (struct bytes){batch->pictures[i].data, batch->pictures[i].count};
        texts[i] = text_of(batch->names[i]);
    }

    run->request.count = 0;
    if (run->method == API_ENCODE_IMAGE) {
        struct api_encode_image_request message = {
            .images = images,
            .count = batch->count,
            .profile = (enum api_profile)run->options->profile,
        };
        return api_encode_encode_image_request(&message, &run->request);
    }
    struct api_texts_request message = {.texts = texts, .count = batch->count};
    return api_encode_texts_request(&message, &run->request);
}

size_t encoding_blamed_item(const struct reason *why, size_t count)
{
    const char *bracket = strchr(why->field, '[');
    if (!bracket ||
        (strncmp(why->field, "images[", 7) != 0 && strncmp(why->field, "texts[", 6) != 0))
        return count;
    unsigned long long index = strtoull(bracket + 1, NULL, 10);
    return index < count ? (size_t)index : count;
}

// Asks for the batch, without those items that turn out bad. STATUS_OK also when none is left.
static enum status ask(struct run *run, struct reason *why)
{
    struct encoding_batch *batch = &run->batch;
    while (batch->count) {
        enum status status = encode_request(run);
        if (status)
            return reason_set(why, status, NULL, "the request cannot be made: %s",
                              status_text(status));
        struct bytes bytes = {run->request.data, run->request.count};
        status = client_call(run->client, run->method, bytes, &run->reply, why);
        size_t bad =
            status == STATUS_INVALID ? encoding_blamed_item(why, batch->count) : batch->count;
        if (!status || bad == batch->count)
            return status;

        // The item is named in front of the reason; "images[3]" would only confuse.
        why->field[0] = 0;
        item_failed(run, batch->names[bad], why);
        while (!run->options->keep_going && batch->count > bad + 1)
            drop_item(batch, batch->count - 1);
        drop_item(batch, bad);
    }
    return STATUS_OK;
}

// Nothing is told behind the failure that ended everything.
static void tell_unread(struct run *run)
{
    if (run->unread && (!run->failed || run->options->keep_going))
        item_failed(run, run->unread, &run->unread_why);
    mem_free(run->unread);
    run->unread = NULL;
}

static int run_batches(struct run *run, encoding_show show, void *context)
{
    while (!run->end) {
        struct reason why = {.text = ""};
        read_batch(run);
        enum status status = ask(run, &why);
        if (status) {
            output_error(run->batch.count == 1 ? run->batch.names[0] : NULL, &why);
            return output_exit(status);
        }
        if (run->batch.count &&
            show(context, &run->batch, (struct bytes){run->reply.data, run->reply.count}))
            return VERBS_FAILED;
        (void)fflush(stdout);
        empty_batch(&run->batch);
        tell_unread(run);
    }
    return run->failed ? VERBS_FAILED : VERBS_DONE;
}

int encoding_run(const struct options *options, enum api_method method, encoding_show show,
                 void *context)
{
    struct run *run = mem_alloc(sizeof(*run));
    struct reason why = {.text = ""};
    run->options = options;
    run->method = method;

    enum status status = client_open(options, CLIENT_ENCODER, &run->client, &why);
    int exit_status = client_blames_flags(&why) ? VERBS_USAGE : output_exit(status);
    if (status) {
        output_error(NULL, &why);
    } else {
        inputs_init(&run->inputs, &options->items, method == API_ENCODE_IMAGE);
        exit_status = run_batches(run, show, context);
        inputs_deinit(&run->inputs);
    }

    client_close(&run->client);
    mem_free(run->unread);
    empty_batch(&run->batch);
    buffer_deinit(&run->request);
    buffer_deinit(&run->reply);
    mem_free(run);
    return exit_status;
}
