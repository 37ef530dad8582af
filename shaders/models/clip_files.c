// SPDX-License-Identifier: Apache-2.0
// Where a model's files come from: a directory, or the program itself.

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/json.h"
#include "proto/base/mem.h"
#include "shaders/models/clip_internal.h"
#include "shaders/models/tokenizer.h"

#define SMALL_FILE_BYTES_MAX (1u << 20) // of config.json and its like; CLIP's have 4 KB

// --- the embedded model, see reco_tiny.S

extern const uint8_t reco_tiny_config[];
extern const uint8_t reco_tiny_config_end[];
extern const uint8_t reco_tiny_preprocessor[];
extern const uint8_t reco_tiny_preprocessor_end[];
extern const uint8_t reco_tiny_vocab[];
extern const uint8_t reco_tiny_vocab_end[];
extern const uint8_t reco_tiny_merges[];
extern const uint8_t reco_tiny_merges_end[];
extern const uint8_t reco_tiny_reco[];
extern const uint8_t reco_tiny_reco_end[];
extern const uint8_t reco_tiny_weights[];
extern const uint8_t reco_tiny_weights_end[];

static struct bytes between(const uint8_t *begin, const uint8_t *end)
{
    return (struct bytes){begin, (size_t)((uintptr_t)end - (uintptr_t)begin)};
}

void clip_files_embedded(struct clip_files *files, struct bytes *weights)
{
    *files = (struct clip_files){
        .name = "reco-tiny",
        .config = between(reco_tiny_config, reco_tiny_config_end),
        .preprocessor = between(reco_tiny_preprocessor, reco_tiny_preprocessor_end),
        .vocab = between(reco_tiny_vocab, reco_tiny_vocab_end),
        .merges = between(reco_tiny_merges, reco_tiny_merges_end),
        .reco = between(reco_tiny_reco, reco_tiny_reco_end),
    };
    *weights = between(reco_tiny_weights, reco_tiny_weights_end);
}

// --- reco.json

static enum status read_figure(const struct json *fusion, const char *key, double max, double *out,
                               struct reason *why)
{
    const struct json *value = json_member(fusion, key);
    if (!value)
        return STATUS_OK;
    double got;
    if (!json_double(value, &got) || !(got >= 0.0 && got <= max))
        return reason_set(why, STATUS_INVALID, "reco.json", "fusion.%s is not a number of 0..%g",
                          key, max);
    *out = got;
    return STATUS_OK;
}

// Whether "{}" stands in the text exactly once.
static bool has_one_place(struct text text)
{
    size_t places = 0;
    for (size_t i = 0; i + 1 < text.bytes; i++)
        places += text.data[i] == '{' && text.data[i + 1] == '}';
    return places == 1;
}

static enum status read_template(const struct json *document, struct clip *clip, struct reason *why)
{
    const struct json *value = json_member(document, "template");
    if (!value)
        return STATUS_OK;
    struct text text = json_text(value);
    if (!text.data || text.bytes >= CLIP_TEMPLATE_BYTES || !has_one_place(text))
        return reason_set(why, STATUS_INVALID, "reco.json",
                          "template is not a text below %d bytes with {} in it once",
                          CLIP_TEMPLATE_BYTES);
    memcpy(clip->template_text, text.data, text.bytes);
    clip->template_text[text.bytes] = '\0';
    return STATUS_OK;
}

enum status clip_files_read_reco(struct bytes file, struct clip *clip, struct reason *why)
{
    if (!file.data)
        return STATUS_OK;
    struct json *document = NULL;
    struct reason inner = {0};
    enum status status = json_parse(file.data, file.count, &document, &inner);
    if (status != STATUS_OK)
        return reason_set(why, status, "reco.json", "%s", inner.text);
    if (!json_is_object(document))
        status = reason_set(why, STATUS_INVALID, "reco.json", "is not a JSON object");
    const struct json *fusion = json_member(document, "fusion");
    if (status == STATUS_OK && fusion && !json_is_object(fusion))
        status = reason_set(why, STATUS_INVALID, "reco.json", "fusion is not an object");
    if (status == STATUS_OK)
        status = read_figure(fusion, "beta", 1000.0, &clip->info.fusion_beta, why);
    if (status == STATUS_OK)
        status = read_figure(fusion, "temperature", 10000.0, &clip->info.fusion_temperature, why);
    if (status == STATUS_OK)
        status = read_template(document, clip, why);
    json_destroy(&document);
    return status;
}

// --- a directory

struct wanted {
    const char *name; // NULL: not wanted in this layout
    size_t bytes_max;
    bool optional;
    struct buffer buffer;
};

enum { CONFIG, PREPROCESSOR, VOCAB, MERGES, TOKENIZER, RECO, WANTED_COUNT };

static enum status join(const char *directory, const char *name, char path[PATH_MAX],
                        struct reason *why)
{
    int length = snprintf(path, PATH_MAX, "%s/%s", directory, name);
    if (length < 0 || length >= PATH_MAX)
        return reason_set(why, STATUS_INVALID, "model", "the directory's name is too long");
    return STATUS_OK;
}

static enum status read_wanted(const char *directory, struct wanted *wanted, struct reason *why)
{
    char path[PATH_MAX];
    enum status status = join(directory, wanted->name, path, why);
    if (status == STATUS_OK)
        status = bytes_read_file(path, wanted->bytes_max, &wanted->buffer);
    else
        return status;
    if (status == STATUS_NOT_FOUND && wanted->optional)
        return STATUS_OK;
    if (status != STATUS_OK)
        return reason_set(why, status, "model",
                          "%s: %s; a model directory holds config.json, model.safetensors, "
                          "preprocessor_config.json (or open_clip_config.json and "
                          "open_clip_model.safetensors), and vocab.json with merges.txt (or "
                          "tokenizer.json)",
                          path, status_text(status));
    return STATUS_OK;
}

static struct bytes view(const struct wanted *wanted)
{
    return (struct bytes){wanted->buffer.data, wanted->buffer.count};
}

// The last part of a path, without slashes behind it.
static void last_part(const char *path, char name[CLIP_NAME_BYTES])
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    size_t length = end - begin < CLIP_NAME_BYTES ? end - begin : CLIP_NAME_BYTES - 1;
    memcpy(name, path + begin, length);
    name[length] = '\0';
}

static enum status open_weights(const char *directory, const char *file, struct weights **out,
                                struct reason *why)
{
    char path[PATH_MAX];
    enum status status = join(directory, file, path, why);
    if (status != STATUS_OK)
        return status;
    struct reason inner = {0};
    status = weights_open(path, out, &inner);
    if (status != STATUS_OK)
        return reason_set(why, status, file, "%s%s%s", inner.field, inner.field[0] ? ": " : "",
                          inner.text);
    return STATUS_OK;
}

static bool has_file(const char *directory, const char *name)
{
    char path[PATH_MAX];
    struct reason ignored;
    return join(directory, name, path, &ignored) == STATUS_OK && access(path, F_OK) == 0;
}

// Both layouts may lie in one directory. Hugging Face's counts, unless its config.json is another
// library's: then it does not say what kind of model it is.
static bool is_openclip(const char *directory)
{
    if (!has_file(directory, "open_clip_config.json"))
        return false;
    char path[PATH_MAX];
    struct json *document = NULL;
    struct reason ignored;
    if (join(directory, "config.json", path, &ignored) != STATUS_OK ||
        json_parse_file(path, SMALL_FILE_BYTES_MAX, &document, &ignored) != STATUS_OK)
        return true;
    bool typed = json_member(document, "model_type") || json_member(document, "text_config");
    json_destroy(&document);
    return !typed;
}

static enum status open_wanted(const struct clip_params *params, const struct wanted *wanted,
                               bool openclip, struct clip **out, struct reason *why)
{
    char name[CLIP_NAME_BYTES];
    struct weights *weights = NULL;
    enum status status =
        open_weights(params->directory,
                     openclip ? "open_clip_model.safetensors" : "model.safetensors", &weights, why);
    if (status != STATUS_OK)
        return status;
    last_part(params->directory, name);
    const struct clip_files files = {
        .name = name,
        .openclip = openclip,
        .config = view(&wanted[CONFIG]),
        .preprocessor = view(&wanted[PREPROCESSOR]),
        .vocab = view(&wanted[VOCAB]),
        .merges = view(&wanted[MERGES]),
        .tokenizer = view(&wanted[TOKENIZER]),
        .reco = view(&wanted[RECO]),
    };
    status = clip_open_files(params, &files, weights, out, why);
    if (status == STATUS_OK)
        clip_keep_weights(*out, &weights);
    weights_close(&weights);
    return status;
}

enum status clip_files_open_directory(const struct clip_params *params, struct clip **out,
                                      struct reason *why)
{
    const char *directory = params->directory;
    bool openclip = is_openclip(directory);
    // tokenizer.json stands in only where neither of the two files is.
    bool json = !has_file(directory, "vocab.json") && !has_file(directory, "merges.txt") &&
                has_file(directory, "tokenizer.json");
    struct wanted wanted[WANTED_COUNT] = {
        [CONFIG] = {openclip ? "open_clip_config.json" : "config.json",
                    SMALL_FILE_BYTES_MAX,
                    false,
                    {0}},
        [PREPROCESSOR] = {openclip ? NULL : "preprocessor_config.json",
                          SMALL_FILE_BYTES_MAX,
                          false,
                          {0}},
        [VOCAB] = {json ? NULL : "vocab.json", TOKENIZER_FILE_BYTES_MAX, false, {0}},
        [MERGES] = {json ? NULL : "merges.txt", TOKENIZER_FILE_BYTES_MAX, false, {0}},
        [TOKENIZER] = {json ? "tokenizer.json" : NULL, TOKENIZER_FILE_BYTES_MAX, false, {0}},
        [RECO] = {"reco.json", SMALL_FILE_BYTES_MAX, true, {0}},
    };
    enum status status = STATUS_OK;
    for (size_t i = 0; i < WANTED_COUNT && status == STATUS_OK; i++)
        if (wanted[i].name)
            status = read_wanted(directory, &wanted[i], why);
    if (status == STATUS_OK)
        status = open_wanted(params, wanted, openclip, out, why);
    for (size_t i = 0; i < WANTED_COUNT; i++)
        buffer_deinit(&wanted[i].buffer);
    return status;
}
