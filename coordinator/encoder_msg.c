// SPDX-License-Identifier: Apache-2.0
// encoder_msg.c - texts lie in the shared memory as their lengths, u32 each, then their bytes.

#include "coordinator/encoder_msg.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#define LENGTH_BYTES sizeof(uint32_t)

_Static_assert(ENCODER_MSG_TEXTS_MAX *(TEXT_BYTES_MAX + LENGTH_BYTES) <= ENCODER_MSG_INPUT_BYTES,
               "the longest texts fit");

static bool has_end(const char *text, size_t room)
{
    return memchr(text, '\0', room) != NULL;
}

// How many items a question of this kind may have; 0 for what is no question.
static uint32_t count_max(uint32_t kind)
{
    if (kind == ENCODER_MSG_PICTURES)
        return ENCODER_PICTURES_MAX;
    return kind == ENCODER_MSG_TEXTS ? ENCODER_MSG_TEXTS_MAX : 0;
}

enum status encoder_msg_read(struct bytes packet, struct encoder_msg *out, struct reason *why)
{
    assert(out);

    struct encoder_msg read;
    if (packet.count != sizeof(read))
        return reason_set(why, STATUS_CORRUPT, "message", "%zu bytes; %zu are wanted", packet.count,
                          sizeof(read));
    memcpy(&read, packet.data, sizeof(read));
    if (read.version != ENCODER_MSG_VERSION)
        return reason_set(why, STATUS_CORRUPT, "version", "%" PRIu32 "; this program speaks %d",
                          read.version, ENCODER_MSG_VERSION);
    if (read.kind >= ENCODER_MSG_KINDS)
        return reason_set(why, STATUS_CORRUPT, "kind", "%" PRIu32 " is none", read.kind);
    uint32_t most = count_max(read.kind);
    if ((most > 0 && read.count == 0) || read.count > most)
        return reason_set(why, STATUS_CORRUPT, "count", "%" PRIu32 "; at most %" PRIu32, read.count,
                          most);
    if (!status_is_known(read.status))
        return reason_set(why, STATUS_CORRUPT, "status", "%" PRIu32 " is none", read.status);
    if (read.dimension > DIMENSION_MAX)
        return reason_set(why, STATUS_CORRUPT, "dimension", "%" PRIu32 "; at most %d",
                          read.dimension, DIMENSION_MAX);
    if (!has_end(read.space, sizeof(read.space)) || !has_end(read.device, sizeof(read.device)) ||
        !has_end(read.why.field, sizeof(read.why.field)) ||
        !has_end(read.why.text, sizeof(read.why.text)))
        return reason_set(why, STATUS_CORRUPT, "message", "a text has no end");
    *out = read;
    return STATUS_OK;
}

size_t encoder_msg_put_texts(uint8_t *input, const struct text *texts, size_t count)
{
    assert(input && texts);

    // The lengths come first, so it is decided first how many go.
    size_t taken = 0;
    size_t bytes = 0;
    while (taken < count && taken < ENCODER_MSG_TEXTS_MAX &&
           texts[taken].bytes <= ENCODER_MSG_INPUT_BYTES - bytes &&
           bytes + texts[taken].bytes + LENGTH_BYTES <= ENCODER_MSG_INPUT_BYTES) {
        bytes += texts[taken].bytes + LENGTH_BYTES;
        taken++;
    }
    uint8_t *at = input + taken * LENGTH_BYTES;
    for (size_t i = 0; i < taken; i++) {
        uint32_t length = (uint32_t)texts[i].bytes;
        memcpy(input + i * LENGTH_BYTES, &length, LENGTH_BYTES);
        if (length > 0)
            memcpy(at, texts[i].data, length);
        at += length;
    }
    return taken;
}

enum status encoder_msg_get_texts(struct bytes input, size_t count, struct text *texts,
                                  struct reason *why)
{
    assert(texts && count <= ENCODER_MSG_TEXTS_MAX);

    size_t at = count * LENGTH_BYTES;
    for (size_t i = 0; i < count; i++) {
        uint32_t length = 0;
        if (at <= input.count)
            memcpy(&length, input.data + i * LENGTH_BYTES, LENGTH_BYTES);
        if (at > input.count || length > input.count - at)
            return reason_set(why, STATUS_CORRUPT, "texts", "text %zu ends behind its memory", i);
        texts[i] = (struct text){(const char *)input.data + at, length};
        at += length;
    }
    return STATUS_OK;
}
