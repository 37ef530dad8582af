// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes make the reader of a state of training crash, or change a training that it
// refuses.
//
// Method: the input is restored into a training of a tiny head; a refusal must give a reason and
// leave the numbers as they were, an accepted state packs to one that is accepted again.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/models/fusion_train.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int right)
{
    if (!right)
        abort();
}

// As the corpus was packed.
static struct fusion_train *tiny(void)
{
    struct fusion_train_params params = fusion_train_default(2);
    struct fusion_train *train = NULL;
    params.k = 1;
    params.pairs = 2;
    params.config[0].mlp = 1;
    params.config[1].mlp = 0;
    check(fusion_train_create(&params, 1, &train, NULL) == STATUS_OK);
    return train;
}

static void restore(struct fusion_train *train, const struct buffer *state)
{
    char *note = NULL;
    struct bytes bytes = {state->data, state->count};
    check(fusion_train_restore(train, bytes, &note, NULL) == STATUS_OK);
    mem_free(note);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fusion_train *train;
    static struct buffer fresh;
    if (!train) {
        train = tiny();
        check(fusion_train_pack(train, text_of("note"), &fresh) == STATUS_OK);
    }
    struct reason why = {0};
    struct buffer now = {0};
    char *note = NULL;
    if (fusion_train_restore(train, (struct bytes){data, size}, &note, &why) != STATUS_OK) {
        check(why.text[0] != '\0' && !note);
        check(fusion_train_pack(train, text_of("note"), &now) == STATUS_OK);
        check(now.count == fresh.count && memcmp(now.data, fresh.data, now.count) == 0);
    } else {
        check(fusion_train_pack(train, text_of(note), &now) == STATUS_OK);
        mem_free(note);
        restore(train, &now);
        restore(train, &fresh);
    }
    buffer_deinit(&now);
    return 0;
}
