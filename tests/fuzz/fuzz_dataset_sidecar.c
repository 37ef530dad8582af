// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes of a .txt or .json beside a picture break their reader, and what it takes from
// them is within the limits or told.
//
// Method: the input is taken as a caption, then as JSON, into one record, as beside a picture that
// has both.

#include <stdlib.h>

#include "proto/base/limits.h"
#include "tools/dataset_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_create((size_t)4 << 20);
    struct reason why = {.text = ""};
    struct bytes bytes = {data, size};
    struct dataset_item item = {.record.key = text_of("k"), .entity_name = "url"};
    struct api_ingest_record *record = &item.record;
    if (dataset_take_caption(bytes, arena, record, &why))
        check(why.text[0]);
    for (int both = 0; both < 2; both++) {
        if (dataset_take_json(bytes, arena, &item, &why) || dataset_check(record, true, &why)) {
            check(why.text[0]);
        } else {
            check(record->key.bytes <= KEY_BYTES_MAX && record->caption.bytes <= CAPTION_BYTES_MAX);
            check(record->source.bytes <= SOURCE_BYTES_MAX && record->tag_count <= TAGS_MAX);
            check(bytes_is_utf8(record->source.data, record->source.bytes));
        }
        *record = (struct api_ingest_record){.key = text_of("k")}; // again without a .txt
    }
    arena_destroy(&arena);
    return 0;
}
