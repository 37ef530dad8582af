// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes of the other side make the coordinator or its reco-encoder crash or read beyond
// the memory that they share; what was read is within its limits, and texts come back as they were
// put.
//
// Method: the input is a packet, and behind it the beginning of the shared memory.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/encoder_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static uint8_t room[ENCODER_MSG_INPUT_BYTES];

static void read_texts(struct bytes input, size_t count)
{
    static struct text texts[ENCODER_MSG_TEXTS_MAX];
    static struct text again[ENCODER_MSG_TEXTS_MAX];
    struct reason why = {0};
    if (encoder_msg_get_texts(input, count, texts, &why) != STATUS_OK) {
        check(why.text[0] != '\0');
        return;
    }
    for (size_t i = 0; i < count; i++)
        check((const uint8_t *)texts[i].data + texts[i].bytes <= input.data + input.count);
    if (count == 0)
        return;
    size_t taken = encoder_msg_put_texts(room, texts, count);
    check(taken == count);
    check(encoder_msg_get_texts((struct bytes){room, sizeof(room)}, taken, again, &why) ==
          STATUS_OK);
    for (size_t i = 0; i < count; i++)
        check(text_equal(texts[i], again[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct encoder_msg msg = {.count = 0};
    struct reason why = {0};
    size_t packet = size < sizeof(msg) ? size : sizeof(msg);
    enum status status = encoder_msg_read((struct bytes){data, packet}, &msg, &why);
    check(status == STATUS_OK || (status == STATUS_CORRUPT && why.text[0] != '\0'));
    if (status == STATUS_OK) {
        check(msg.kind < ENCODER_MSG_KINDS && msg.count <= ENCODER_MSG_TEXTS_MAX);
        check(status_is_known(msg.status) && msg.dimension <= DIMENSION_MAX);
        check(strlen(msg.space) + strlen(msg.device) + strlen(msg.why.text) < sizeof(msg));
    }
    struct bytes memory = {data + packet, size - packet};
    read_texts(memory, msg.count);
    read_texts(memory, size % (ENCODER_MSG_TEXTS_MAX + 1));
    return 0;
}
