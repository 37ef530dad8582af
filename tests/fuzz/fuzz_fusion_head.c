// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes make the reader of a fusion head's file crash, or take memory that the file does
// not account for; what it accepts can be run and written again.
//
// Method: the input is opened as a head of any space; a refusal must give a reason, an accepted
// head refines one query, and its packed form opens again.

#include <stdint.h>
#include <stdlib.h>

#include "shaders/models/fusion_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int right)
{
    if (!right)
        abort();
}

static void run(struct fusion_head *head)
{
    static float query[DIMENSION_MAX];
    static float refined[DIMENSION_MAX];
    const float *payload[] = {query, query};
    const float scores[] = {0.5f, 0.25f};
    query[0] = 1.0f;
    for (int side = 0; side < 2; side++) {
        struct fusion_head_query one = {
            .query = query, .neighbours = {2, scores, payload, NULL}, .refined = refined};
        enum status status = fusion_head_refine(head, (enum modality)side, &one);
        check(status == STATUS_OK || status == STATUS_INVALID);
    }
}

static void pack_again(const struct fusion_head *head)
{
    const float *numbers[] = {fusion_head_numbers(head, MODALITY_IMAGE),
                              fusion_head_numbers(head, MODALITY_TEXT)};
    struct buffer file = {0};
    struct fusion_head *again = NULL;
    check(fusion_head_pack(fusion_head_info(head), numbers, &file, NULL) == STATUS_OK);
    check(fusion_head_open_bytes((struct bytes){file.data, file.count},
                                 fusion_head_info(head)->space, 1, &again, NULL) == STATUS_OK);
    fusion_head_close(&again);
    buffer_deinit(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fusion_head *head = NULL;
    struct reason why = {0};
    if (fusion_head_open_bytes((struct bytes){data, size}, NULL, 1, &head, &why) != STATUS_OK) {
        check(why.text[0] != '\0' && !head);
        return 0;
    }
    run(head);
    pack_again(head);
    fusion_head_close(&head);
    return 0;
}
