// SPDX-License-Identifier: Apache-2.0
// What a server would refuse in every one of a verb's requests is refused before the first, as
// wrong usage, by the name of the flag.

#include <ctype.h>
#include <string.h>

#include "coordinator/meta.h"
#include "proto/base/limits.h"
#include "tools/options.h"
#include "tools/parts.h"

#define EXCLUDED_MAX 256    // keys; proto/wire/wire_limits.c has the same
#define SHOWN_BYTES_MAX 160 // of a value in an error
#define DEDUP_MIN 0.5       // proto/wire/api_query.c has the same

// `text` is within the flag's bounds; else says so with `allowed`.
static enum status refuse(const char *flag, const char *text, const char *allowed,
                          struct reason *why)
{
    return reason_set(why, STATUS_INVALID, flag, "'%.*s' is not allowed: %s", SHOWN_BYTES_MAX, text,
                      allowed);
}

enum status options_check_memory(const char *flag, const char *memory, struct reason *why)
{
    struct reason inner = {.text = ""};
    const char *at = strchr(memory, '@');
    struct text name = {memory, at ? (size_t)(at - memory) : strlen(memory)};
    if (meta_check_name(name, &inner))
        return reason_set(why, STATUS_INVALID, flag, "%s", inner.text);

    uint64_t generation = 0;
    if (at && args_read_count(flag, at + 1, 1, UINT32_MAX, &generation, &inner))
        return refuse(flag, memory, "a name, or NAME@GENERATION with a generation from 1", why);
    return STATUS_OK;
}

static bool is_request_id(const char *id)
{
    size_t bytes = strlen(id);
    for (size_t i = 0; i < bytes; i++)
        if (!isgraph((unsigned char)id[i]))
            return false;
    return bytes >= 1 && bytes <= REQUEST_ID_BYTES_MAX;
}

static enum status check_template(const char *template, struct reason *why)
{
    const char *hole = strstr(template, "{}");
    if (hole && !strstr(hole + 2, "{}") && strlen(template) <= TEXT_BYTES_MAX)
        return STATUS_OK;
    return refuse("--template", template,
                  "a text with exactly one {}, where the label goes, as 'a photo of a {}.', is",
                  why);
}

static enum status check_key(const char *flag, const char *key, struct reason *why)
{
    size_t bytes = strlen(key);
    if (bytes >= 1 && bytes <= KEY_BYTES_MAX)
        return STATUS_OK;
    return refuse(flag, key, "the key of a record, 1 to 512 bytes, is", why);
}

// How far the index is looked into: one of three flags says it, and only where it is asked.
static enum status check_effort(const struct options *options, struct reason *why)
{
    const bool is_target = options->target_recall > 0;
    const int given = (options->approx >= 0) + is_target + (options->nprobe > 0);
    const char *flag = is_target              ? "--target-recall"
                       : options->approx >= 0 ? "--approx"
                                              : "--nprobe";
    if (given > 1)
        return reason_set(why, STATUS_INVALID, flag,
                          "is not allowed together with another of --approx, --target-recall and "
                          "--nprobe");
    if (given && options->index == API_INDEX_EXACT)
        return reason_set(why, STATUS_INVALID, flag,
                          "is not allowed with --index exact, which looks into everything");
    return STATUS_OK;
}

static enum status check_tag(const char *tag, struct reason *why)
{
    size_t bytes = strlen(tag);
    if (bytes >= 1 && bytes <= TAG_BYTES_MAX)
        return STATUS_OK;
    return refuse("--tag", tag, "1 to 128 bytes are", why);
}

enum status options_check(const struct options *options, struct reason *why)
{
    struct reason inner = {.text = ""};
    uint32_t dimension = 0;
    enum status status = STATUS_OK;

    if (options->memory[0])
        status = options_check_memory("--memory", options->memory, why);
    if (!status && options->request_id && !is_request_id(options->request_id))
        status = refuse("--request-id", options->request_id,
                        "1 to 64 printable ASCII characters without a space are", why);
    if (!status && options->space && meta_parse_space(text_of(options->space), &dimension, &inner))
        status = reason_set(why, STATUS_INVALID, "--space", "%s", inner.text);
    for (size_t i = 0; i < options->templates.count && !status; i++)
        status = check_template(options->templates.items[i], why);
    for (size_t i = 0; i < options->exclude.count && !status; i++)
        status = check_key("--exclude", options->exclude.items[i], why);
    for (size_t i = 0; i < options->only.count && !status; i++)
        status = check_key("--only", options->only.items[i], why);
    for (size_t i = 0; i < options->keys.count && !status; i++)
        status = check_key("--key", options->keys.items[i], why);
    for (size_t i = 0; i < options->tags.count && !status; i++)
        status = check_tag(options->tags.items[i], why);
    for (size_t i = 0; i < options->parts.count && !status; i++)
        status = parts_check(options->parts.items[i], why);
    if (!status && options->dedup > 0 && options->dedup < DEDUP_MIN)
        status = reason_set(why, STATUS_INVALID, "--dedup", "%g is not allowed: 0 or 0.5 to 1 is",
                            options->dedup);
    if (!status)
        status = check_effort(options, why);
    if (!status && options->exclude.count > EXCLUDED_MAX)
        status = reason_set(why, STATUS_INVALID, "--exclude", "%zu times; at most %d are allowed",
                            options->exclude.count, EXCLUDED_MAX);
    return status;
}
