// SPDX-License-Identifier: Apache-2.0
// A safetensors file: the header's length, the header padded with spaces to a multiple of eight
// bytes, so that the numbers behind it are aligned, then the numbers.

#include <assert.h>

#include "proto/base/json.h"
#include "shaders/models/weights.h"

static size_t entry_bytes(const struct weights_entry *entry)
{
    size_t count = 1;
    for (uint32_t i = 0; i < entry->rank; i++)
        count *= (size_t)entry->shape[i];
    return count * sizeof(float);
}

static void put_entry(struct json_writer *writer, const struct weights_entry *entry, size_t begin)
{
    json_name(writer, entry->name);
    json_begin_object(writer);
    json_name(writer, "dtype");
    json_put_cstr(writer, "F32");
    json_name(writer, "shape");
    json_begin_array(writer);
    for (uint32_t i = 0; i < entry->rank; i++)
        json_put_uint(writer, entry->shape[i]);
    json_end_array(writer);
    json_name(writer, "data_offsets");
    json_begin_array(writer);
    json_put_uint(writer, begin);
    json_put_uint(writer, begin + entry_bytes(entry));
    json_end_array(writer);
    json_end_object(writer);
}

static void put_header(struct json_writer *writer, const struct weights_entry *entries,
                       size_t count, const struct weights_note *notes, size_t note_count)
{
    json_begin_object(writer);
    json_name(writer, "__metadata__");
    json_begin_object(writer);
    for (size_t i = 0; i < note_count; i++) {
        json_name(writer, notes[i].name);
        json_put_text(writer, notes[i].value);
    }
    json_end_object(writer);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        put_entry(writer, &entries[i], at);
        at += entry_bytes(&entries[i]);
    }
    json_end_object(writer);
}

enum status weights_write(const struct weights_entry *entries, size_t count,
                          const struct weights_note *notes, size_t note_count, struct buffer *out)
{
    assert(entries || count == 0);
    assert(notes || note_count == 0);
    assert(out);

    struct json_writer writer = {0};
    put_header(&writer, entries, count, notes, note_count);
    enum status status = writer.failed ? STATUS_NO_MEMORY : STATUS_OK;
    while (status == STATUS_OK && writer.out.count % 8 != 0)
        status = buffer_append(&writer.out, " ", 1);
    uint8_t length[8];
    bytes_put_u64_le(length, writer.out.count);
    if (status == STATUS_OK)
        status = buffer_append(out, length, sizeof(length));
    if (status == STATUS_OK)
        status = buffer_append(out, writer.out.data, writer.out.count);
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = buffer_append(out, entries[i].values, entry_bytes(&entries[i]));
    json_writer_deinit(&writer);
    return status;
}
