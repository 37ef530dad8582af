// SPDX-License-Identifier: Apache-2.0
// Goal: a packed record is read as it was written, everything else is refused by name, and the hash
// of many records depends on them alone.
//
// Method: round trips; one bad part at a time; every cut; a digest that sha256sum computed.

#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/mem.h"
#include "proto/wire/packed.h"

#define T(literal) ((struct text){literal, sizeof(literal) - 1})

static const uint8_t image[4] = {0x00, 0x3c, 0x00, 0x00}; // 1, 0
static const uint8_t text[4] = {0x00, 0x00, 0x00, 0xbc};  // 0, -1

static struct packed_record full_record(void)
{
    return (struct packed_record){
        T("key"), T("a caption"), T("http://x/y"), T("one\x1ftwo"), true, 2, image, text};
}

static struct buffer packed(const struct packed_record *record)
{
    struct buffer out = {0};
    cr_assert(eq(int, packed_append(record, &out), STATUS_OK));
    return out;
}

Test(packed, a_record_is_read_as_it_was_written)
{
    const struct packed_record record = full_record();
    struct buffer out = packed(&record);
    struct packed_record plain = {.key = T("k"), .dimension = 2, .image = text, .text = image};
    cr_assert(eq(int, packed_append(&plain, &out), STATUS_OK));
    struct bytes rest = {out.data, out.count};
    struct packed_record again;
    cr_assert(eq(int, packed_take(&rest, 2, &again, NULL), STATUS_OK));
    cr_expect(text_equal(again.key, record.key));
    cr_expect(text_equal(again.caption, record.caption));
    cr_expect(text_equal(again.source, record.source));
    cr_expect(again.hidden);
    cr_expect(eq(int, memcmp(again.image, image, 4), 0));
    cr_expect(eq(int, memcmp(again.text, text, 4), 0));
    struct text tags = again.tags;
    struct text tag;
    cr_assert(packed_take_tag(&tags, &tag));
    cr_expect(text_equal(tag, T("one")));
    cr_assert(packed_take_tag(&tags, &tag));
    cr_expect(text_equal(tag, T("two")));
    cr_expect(not(packed_take_tag(&tags, &tag)));
    cr_assert(eq(int, packed_take(&rest, 0, &again, NULL), STATUS_OK));
    cr_expect(text_equal(again.key, T("k")));
    cr_expect(not(again.hidden));
    cr_expect(eq(sz, rest.count, 0));
    buffer_deinit(&out);
}

static void expect_refused(struct buffer *bytes, uint32_t dimension, const char *field)
{
    struct bytes rest = {bytes->data, bytes->count};
    struct packed_record record;
    struct reason why = {0};
    cr_expect(eq(int, packed_take(&rest, dimension, &record, &why), STATUS_INVALID), "%s", field);
    cr_expect(eq(str, why.field, (char *)field));
    cr_expect(eq(sz, rest.count, bytes->count)); // nothing is taken
    buffer_deinit(bytes);
}

Test(packed, what_cannot_be_is_refused_by_name)
{
    char long_text[CAPTION_BYTES_MAX + 1];
    char separators[TAGS_MAX + 1];
    memset(long_text, 'x', sizeof(long_text));
    memset(separators, 0x1f, sizeof(separators));
    static const struct {
        const char *field;
        size_t offset; // of the field in the record that becomes `text`
    } cases[] = {{"key", offsetof(struct packed_record, key)},
                 {"caption", offsetof(struct packed_record, caption)},
                 {"source", offsetof(struct packed_record, source)},
                 {"tags", offsetof(struct packed_record, tags)}};
    const struct text bad[] = {{long_text, sizeof(long_text)}, T("caf\xe9"), T("a\0b")};
    for (size_t c = 0; c < 4; c++)
        for (size_t b = 0; b < 3; b++) {
            struct packed_record record = full_record();
            memcpy((char *)&record + cases[c].offset, &bad[b], sizeof(bad[b]));
            struct buffer bytes = packed(&record);
            expect_refused(&bytes, 2, cases[c].field);
        }
    struct packed_record record = full_record();
    record.key.bytes = 0;
    struct buffer bytes = packed(&record);
    expect_refused(&bytes, 2, "key");
    record = full_record();
    record.tags = (struct text){long_text, TAG_BYTES_MAX + 1};
    bytes = packed(&record);
    expect_refused(&bytes, 2, "tags");
    record.tags = (struct text){separators, sizeof(separators)};
    bytes = packed(&record);
    expect_refused(&bytes, 2, "tags");
    record = full_record();
    bytes = packed(&record);
    expect_refused(&bytes, 3, "dimension");
    static const uint8_t infinite[4] = {0x00, 0x3c, 0x00, 0x7c};
    record.text = infinite;
    bytes = packed(&record);
    expect_refused(&bytes, 2, "rows");
    record = full_record();
    bytes = packed(&record);
    bytes.data[14] = 2;
    expect_refused(&bytes, 2, "flags");
}

Test(packed, every_cut_is_refused)
{
    const struct packed_record record = full_record();
    struct buffer bytes = packed(&record);
    for (size_t cut = 0; cut < bytes.count; cut++) {
        uint8_t *copy = mem_alloc(cut > 0 ? cut : 1); // a read behind the end is seen
        memcpy(copy, bytes.data, cut);
        struct bytes rest = {copy, cut};
        struct packed_record out;
        cr_expect(eq(int, packed_take(&rest, 2, &out, NULL), STATUS_INVALID));
        mem_free(copy);
    }
    buffer_deinit(&bytes);
}

static void expect_hash(const struct packed_digest *sum, const char *hex)
{
    char found[PACKED_DIGEST_HEX_BYTES];
    packed_digest_hex(sum, found);
    cr_expect(eq(str, found, (char *)hex));
}

Test(packed, the_hash_is_the_sum_of_digests_whatever_their_order)
{
    const struct packed_record first = full_record();
    struct packed_record second = full_record();
    second.hidden = false;
    struct buffer a = packed(&first);
    struct buffer b = packed(&second);
    struct packed_digest none = {0};
    struct packed_digest one = {0};
    struct packed_digest ab = {0};
    struct packed_digest ba = {0};
    expect_hash(&none, "00000000000000000000000000000000");
    packed_digest_add(&one, (struct bytes){a.data, a.count});
    expect_hash(&one, "2a1c8f569eaf17d5bb96307f26c9c30b");
    packed_digest_add(&ab, (struct bytes){a.data, a.count});
    packed_digest_add(&ab, (struct bytes){b.data, b.count});
    packed_digest_add(&ba, (struct bytes){b.data, b.count});
    packed_digest_join(&ba, &one);
    expect_hash(&ab, "a150842fc7c96e3732bd737f88934da1");
    expect_hash(&ba, "a150842fc7c96e3732bd737f88934da1");
    struct packed_digest most = {UINT64_MAX, UINT64_MAX};
    packed_digest_join(&most, &(struct packed_digest){1, 0}); // the sum has 128 bits
    expect_hash(&most, "00000000000000000000000000000000");
    buffer_deinit(&a);
    buffer_deinit(&b);
}
