// SPDX-License-Identifier: Apache-2.0
// reco preprocess: the exact pixels that the model sees, as files for comparison with other
// programs.

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/models/clip.h"
#include "shaders/models/image.h"
#include "tools/answers.h"
#include "tools/inputs.h"
#include "tools/npyfile.h"
#include "tools/output.h"
#include "tools/verbs.h"

#define PATH_BYTES 4096

struct preprocess {
    const struct options *options;
    struct image_params params;
    float *pixels;  // [3][S][S]
    char **written; // paths so far: none may be written twice
    size_t written_count;
};

// DIR/NAME.npy, NAME being the picture's file name without its extension.
static enum status name_target(struct preprocess *preprocess, const char *input,
                               char out[PATH_BYTES], struct reason *why)
{
    const char *slash = strrchr(input, '/');
    const char *name = slash ? slash + 1 : input;
    const char *dot = strrchr(name, '.');
    int bytes = dot && dot > name ? (int)(dot - name) : (int)strlen(name);

    int used = snprintf(out, PATH_BYTES, "%s/%.*s.npy", preprocess->options->out, bytes, name);
    if (used < 0 || used >= PATH_BYTES)
        return reason_set(why, STATUS_INVALID, NULL, "its path is longer than %d bytes",
                          PATH_BYTES - 1);
    for (size_t i = 0; i < preprocess->written_count; i++)
        if (strcmp(preprocess->written[i], out) == 0)
            return reason_set(why, STATUS_ALREADY_EXISTS, NULL,
                              "%s was already written for an item of the same name", out);
    return STATUS_OK;
}

static enum status show(const struct preprocess *preprocess, const char *input, const char *target)
{
    const char *profile = image_profile_name(preprocess->params.profile);
    if (!preprocess->options->json) {
        output_text(text_of(input));
        printf(" -> ");
        output_text(text_of(target));
        printf(" (%s)\n", profile);
        return STATUS_OK;
    }

    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "input");
    json_put_cstr(&writer, input);
    json_name(&writer, "out");
    json_put_cstr(&writer, target);
    json_name(&writer, "profile");
    json_put_cstr(&writer, profile);
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

static enum status do_item(struct preprocess *preprocess, const char *input, struct reason *why)
{
    char target[PATH_BYTES];
    struct buffer picture = {0};
    enum status status = name_target(preprocess, input, target, why);
    if (!status)
        status = inputs_read_picture(input, &picture, why);
    if (!status)
        status = image_preprocess((struct bytes){picture.data, picture.count}, &preprocess->params,
                                  preprocess->pixels, NULL, why);
    buffer_deinit(&picture);

    const size_t shape[3] = {3, preprocess->params.size, preprocess->params.size};
    if (!status)
        status = npyfile_save(target, preprocess->pixels, shape, 3, why);
    if (status)
        return status;

    size_t count = preprocess->written_count;
    preprocess->written = mem_grow(preprocess->written, count + 1, sizeof(char *));
    preprocess->written[count] = mem_copy_text(target);
    preprocess->written_count++;
    return show(preprocess, input, target);
}

static int do_items(struct preprocess *preprocess)
{
    int exit_status = VERBS_DONE;
    struct inputs inputs;
    inputs_init(&inputs, &preprocess->options->items, true);
    for (const char *item = inputs_next(&inputs); item; item = inputs_next(&inputs)) {
        struct reason why = {.text = ""};
        if (!do_item(preprocess, item, &why))
            continue;
        output_error(item, &why);
        exit_status = VERBS_FAILED;
        if (!preprocess->options->keep_going)
            break;
    }
    inputs_deinit(&inputs);
    return exit_status;
}

static enum status prepare(const struct clip_info *info, struct preprocess *preprocess,
                           struct reason *why)
{
    if (!info->image)
        return reason_set(why, STATUS_FAILED_PRECONDITION, info->name,
                          "has no preprocessor_config.json");
    preprocess->params = *info->image;
    preprocess->params.profile = (enum image_profile)preprocess->options->profile;

    enum status status = output_make_folder(preprocess->options->out, why);
    if (status)
        return status;
    size_t size = preprocess->params.size;
    preprocess->pixels = mem_alloc_array(3 * size * size, sizeof(float));
    return STATUS_OK;
}

static int run_preprocess(const struct options *options)
{
    struct preprocess preprocess = {.options = options};
    struct reason why = {.text = ""};
    struct clip *clip = NULL;
    struct clip_params params = {.directory = options->model, .device = options->device};

    if (!options->out) {
        (void)reason_set(&why, STATUS_INVALID, "--out", "is needed: the folder for the arrays");
        output_error(NULL, &why);
        return VERBS_USAGE;
    }
    enum status status = clip_open(&params, &clip, &why);
    if (!status)
        status = prepare(clip_info(clip), &preprocess, &why);
    int exit_status = VERBS_FAILED;
    if (status)
        output_error(NULL, &why);
    else
        exit_status = do_items(&preprocess);

    for (size_t i = 0; i < preprocess.written_count; i++)
        mem_free(preprocess.written[i]);
    mem_free(preprocess.written);
    mem_free(preprocess.pixels);
    clip_close(&clip);
    return exit_status;
}

static const struct args_flag preprocess_flags[] = {
    {.name = "--out",
     .kind = ARGS_TEXT,
     .argument = "DIR",
     .help = "folder for the arrays, made when missing",
     .offset = offsetof(struct options, out)},
    {.name = NULL},
};

const struct verb verb_preprocess = {
    .args = {.name = "preprocess",
             .items = "IMAGE... --out DIR",
             .summary = "the exact pixel tensor that the model sees",
             .details =
                 "Writes DIR/NAME.npy, f32 [3][S][S], for each picture NAME.jpg (JPEG, PNG,\n"
                 "WebP, GIF). - reads one path per line from stdin. Works on this machine\n"
                 "only, with the model of --model.\n\n"
                 "JSON line: {\"input\",\"out\",\"profile\"}",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {preprocess_flags, options_profile, options_items, options_model,
                        options_common}},
    .chapter = "models",
    .run = run_preprocess,
};
