// SPDX-License-Identifier: Apache-2.0
// Goal: bytes from outside are judged right, buffers keep to their limits, and
// a file is either the old or the new one.
//
// Method: a table of hostile UTF-8, all code points, limits met and missed by
// one, file systems that refuse.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/bytes.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"

Test(text, is_equal_by_length_and_bytes)
{
    cr_expect(text_equal(text_of("abc"), text_of("abc")));
    cr_expect(not(text_equal(text_of("abc"), text_of("abd"))));
    cr_expect(not(text_equal(text_of("abc"), text_of("ab"))));
    cr_expect(text_equal((struct text){NULL, 0}, text_of("")));
    cr_expect(text_equal(text_of(NULL), text_of("")));
}

Test(text, is_ordered_by_bytes_then_length)
{
    struct text list[] = {text_of("b"),  text_of("\xc3\xa9"), {NULL, 0},
                          text_of("ab"), text_of("a"),        {"a\0z", 3}};
    const char *const wanted[] = {"", "a", "a", "ab", "b", "\xc3\xa9"};
    qsort(list, 6, sizeof(list[0]), text_compare);
    for (size_t i = 0; i < 6; i++)
        cr_expect(eq(int, strncmp(wanted[i], list[i].data ? list[i].data : "", list[i].bytes), 0));
    cr_expect(eq(sz, list[1].bytes, 1)); // "a" stands before "a\0z"
    cr_expect(eq(sz, list[2].bytes, 3));
    cr_expect(eq(int, text_compare(&list[3], &list[3]), 0));
}

// How a code point is written, straight from the definition.
static size_t encode(uint32_t code, uint8_t out[4])
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, code >>= 6)
        out[i] = (uint8_t)(0x80u | (code & 0x3fu));
    out[0] = (uint8_t)((0xf00u >> length) | code);
    return length;
}

Test(utf8, accepts_every_code_point_but_surrogates)
{
    for (uint32_t code = 0; code < 0x120000; code++) {
        uint8_t sequence[4];
        size_t length = encode(code, sequence);
        bool is_right = code < 0x110000 && (code < 0xd800 || code > 0xdfff);
        cr_assert(bytes_is_utf8(sequence, length) == is_right, "U+%04X", code);
        cr_assert(eq(sz, bytes_utf8_step(sequence, length), is_right ? length : 0));
    }
}

Test(utf8, knows_a_sequence_without_its_end)
{
    for (uint32_t code = 0x80; code < 0x110000; code += code < 0x1000 ? 1 : 61) {
        uint8_t sequence[4];
        size_t length = encode(code, sequence);
        bool is_right = code < 0xd800 || code > 0xdfff;
        for (size_t kept = 1; kept < length; kept++) {
            cr_assert(not(bytes_is_utf8(sequence, kept)));
            // The first byte of a surrogate could still become something else.
            cr_assert(bytes_utf8_is_cut(sequence, kept) == (is_right || kept == 1), "U+%04X", code);
        }
        cr_assert(not(bytes_utf8_is_cut(sequence, length)));
    }
    cr_expect(not(bytes_utf8_is_cut("a", 1)));
    cr_expect(not(bytes_utf8_is_cut("\x80", 1)));
    cr_expect(not(bytes_utf8_is_cut("\xe2\x41", 2)));
    cr_expect(not(bytes_utf8_is_cut(NULL, 0)));
}

Test(utf8, a_byte_order_mark_is_one_at_the_beginning)
{
    cr_expect(eq(sz, bytes_utf8_mark("\xef\xbb\xbf", 3), 3));
    cr_expect(eq(sz, bytes_utf8_mark("\xef\xbb\xbf\xef\xbb\xbf", 6), 3));
    cr_expect(eq(sz, bytes_utf8_mark("\xef\xbb\xbf", 2), 0));
    cr_expect(eq(sz, bytes_utf8_mark("\xff\xfe{}", 4), 0));
    cr_expect(eq(sz, bytes_utf8_mark(" \xef\xbb\xbf", 4), 0));
    cr_expect(eq(sz, bytes_utf8_mark(NULL, 0), 0));
}

Test(utf8, refuses_hostile_sequences)
{
    static const struct {
        const char *bytes;
        size_t count;
    } table[] = {
        {"\x80", 1},                         // an end without a beginning
        {"\xbf\xbf", 2},                     //
        {"\xc0\x80", 2},                     // overlong NUL
        {"\xc1\xbf", 2},                     // overlong 0x7f
        {"\xe0\x80\xaf", 3},                 // overlong slash
        {"\xe0\x9f\xbf", 3},                 //
        {"\xf0\x80\x80\xaf", 4},             //
        {"\xf0\x8f\xbf\xbf", 4},             //
        {"\xed\xa0\x80", 3},                 // a surrogate
        {"\xed\xbf\xbf", 3},                 //
        {"\xed\xa1\x8c\xed\xbe\xb4", 6},     // a pair of them (CESU-8)
        {"\xf4\x90\x80\x80", 4},             // U+110000
        {"\xf8\x88\x80\x80\x80", 5},         // five and six bytes
        {"\xfc\x84\x80\x80\x80\x80", 6},     //
        {"\xfe", 1},                         //
        {"\xff", 1},                         //
        {"\xc3", 1},                         // cut
        {"\xe2\x82", 2},                     //
        {"\xf0\x9f\xa6", 3},                 //
        {"\xc3\x28", 2},                     // the second byte is none
        {"\xe2\x28\xa1", 3},                 //
        {"\xe2\x82\x28", 3},                 //
        {"\xf0\x9f\x28\x80", 4},             //
        {"ok \xc3\xa9 then \xff and on", 18} // in the middle
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        cr_expect(not(bytes_is_utf8(table[i].bytes, table[i].count)), "line %zu", i);

    cr_expect(bytes_is_utf8(NULL, 0));
    cr_expect(bytes_is_utf8("a\0b", 3));
    cr_expect(bytes_is_utf8("\xef\xbb\xbf\xf0\x9f\xa6\x80\xf4\x8f\xbf\xbf", 11));
}

Test(numbers, are_written_in_the_order_that_the_name_says)
{
    uint8_t at[8];
    bytes_put_u16_be(at, 0x1234);
    cr_expect(eq(int, memcmp(at, "\x12\x34", 2), 0));
    cr_expect(eq(u16, bytes_get_u16_be(at), 0x1234));
    bytes_put_u32_be(at, 0xfedcba98u);
    cr_expect(eq(int, memcmp(at, "\xfe\xdc\xba\x98", 4), 0));
    cr_expect(eq(u32, bytes_get_u32_be(at), 0xfedcba98u));
    bytes_put_u64_be(at, UINT64_C(0xf123456789abcdef));
    cr_expect(eq(int, memcmp(at, "\xf1\x23\x45\x67\x89\xab\xcd\xef", 8), 0));
    cr_expect(eq(u64, bytes_get_u64_be(at), UINT64_C(0xf123456789abcdef)));
    bytes_put_u32_le(at, 0xfedcba98u);
    cr_expect(eq(int, memcmp(at, "\x98\xba\xdc\xfe", 4), 0));
    cr_expect(eq(u32, bytes_get_u32_le(at), 0xfedcba98u));
    bytes_put_u64_le(at, UINT64_C(0xf123456789abcdef));
    cr_expect(eq(int, memcmp(at, "\xef\xcd\xab\x89\x67\x45\x23\xf1", 8), 0));
    cr_expect(eq(u64, bytes_get_u64_le(at), UINT64_C(0xf123456789abcdef)));
}

Test(buffer, grows_and_keeps_what_it_has)
{
    struct buffer buffer = {0};
    for (unsigned i = 0; i < 10000; i++) {
        uint8_t byte = (uint8_t)i;
        cr_assert(eq(int, buffer_append(&buffer, &byte, 1), STATUS_OK));
    }
    cr_assert(eq(sz, buffer.count, 10000));
    for (unsigned i = 0; i < 10000; i++)
        cr_assert(eq(u8, buffer.data[i], (uint8_t)i));
    cr_expect(eq(int, buffer_append(&buffer, NULL, 0), STATUS_OK));
    buffer_deinit(&buffer);
    cr_expect(eq(ptr, buffer.data, NULL));
    cr_expect(eq(sz, buffer.count, 0));
}

Test(buffer, takes_its_limit_and_not_one_byte_more)
{
    uint8_t data[100] = {0};
    struct buffer buffer = {.count_max = 100};
    cr_expect(eq(int, buffer_append(&buffer, data, 60), STATUS_OK));
    cr_expect(eq(int, buffer_append(&buffer, data, 41), STATUS_NO_MEMORY));
    cr_expect(eq(sz, buffer.count, 60));
    cr_expect(eq(int, buffer_append(&buffer, data, 40), STATUS_OK));
    cr_expect(eq(int, buffer_append(&buffer, data, 1), STATUS_NO_MEMORY));
    cr_expect(eq(sz, buffer.count, 100));
    cr_expect(le(sz, buffer.room, 100));
    buffer_deinit(&buffer);
    cr_expect(eq(sz, buffer.count_max, 100));
}

Test(buffer, is_unchanged_when_memory_is_out_or_the_size_overflows)
{
    struct buffer buffer = {0};
    cr_assert(eq(int, buffer_append(&buffer, "abc", 3), STATUS_OK));
    mem_fail_after(1);
    cr_expect(eq(int, buffer_reserve(&buffer, 1000), STATUS_NO_MEMORY));
    mem_fail_after(0);
    cr_expect(eq(int, buffer_reserve(&buffer, SIZE_MAX), STATUS_NO_MEMORY));
    cr_expect(eq(int, buffer_reserve(&buffer, SIZE_MAX - 3), STATUS_NO_MEMORY));
    cr_expect(eq(sz, buffer.count, 3));
    cr_expect(eq(int, memcmp(buffer.data, "abc", 3), 0));
    buffer_deinit(&buffer);
}

// --- files

static char folder[] = "/tmp/test_bytes.XXXXXX";

static void enter_folder(void)
{
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    cr_assert(eq(int, chdir(folder), 0));
}

static void leave_folder(void)
{
    cr_assert(eq(int, chdir("/"), 0));
    char command[64];
    (void)snprintf(command, sizeof(command), "rm -r %s", folder);
    cr_assert(eq(int, system(command), 0));
}

static void expect_file(const char *path, const char *content)
{
    struct buffer got = {0};
    cr_assert(eq(int, bytes_read_file(path, 1 << 20, &got), STATUS_OK));
    cr_expect_str_eq((const char *)got.data, content);
    cr_expect(eq(sz, got.count, strlen(content)));
    mem_free(got.data);
}

static int files_here(void)
{
    FILE *list = popen("ls -A | wc -l", "r");
    cr_assert(ne(ptr, list, NULL));
    int count = -1;
    cr_assert(eq(int, fscanf(list, "%d", &count), 1));
    (void)pclose(list);
    return count;
}

TestSuite(file, .init = enter_folder, .fini = leave_folder);

Test(file, is_replaced_whole_and_leaves_nothing_beside_it)
{
    cr_assert(eq(int, bytes_replace_file("x", "first", 5), STATUS_OK));
    expect_file("x", "first");
    cr_assert(eq(int, bytes_replace_file("x", "2nd", 3), STATUS_OK));
    expect_file("x", "2nd");
    cr_assert(eq(int, bytes_replace_file("./x", NULL, 0), STATUS_OK));
    expect_file("x", "");

    char path[64];
    (void)snprintf(path, sizeof(path), "%s/y", folder);
    cr_assert(eq(int, bytes_replace_file(path, "abs", 3), STATUS_OK));
    expect_file("y", "abs");
    cr_expect(eq(int, files_here(), 2));
}

Test(file, keeps_its_permissions_when_replaced)
{
    cr_assert(eq(int, bytes_replace_file("secret", "1", 1), STATUS_OK));
    cr_assert(eq(int, chmod("secret", 0600), 0));
    cr_assert(eq(int, bytes_replace_file("secret", "2", 1), STATUS_OK));

    struct stat about;
    cr_assert(eq(int, stat("secret", &about), 0));
    cr_expect(eq(int, (int)(about.st_mode & 07777), 0600));
}

Test(file, that_cannot_be_replaced_gives_io_and_no_litter)
{
    cr_assert(eq(int, mkdir("directory", 0755), 0));
    cr_expect(eq(int, bytes_replace_file("directory", "1", 1), STATUS_IO));
    cr_expect(eq(int, errno, EISDIR));
    cr_expect(eq(int, bytes_replace_file("missing/x", "1", 1), STATUS_IO));
    cr_expect(eq(int, errno, ENOENT));
    cr_expect(eq(int, files_here(), 1));
}

Test(file, can_be_asked_whether_it_may_be_replaced)
{
    cr_assert(eq(int, mkdir("directory", 0755), 0));
    cr_assert(eq(int, mkfifo("pipe", 0600), 0));
    cr_assert(eq(int, bytes_replace_file("x", "old", 3), STATUS_OK));
    const struct {
        const char *path;
        int error;
    } table[] = {{"directory", EISDIR}, {"pipe", ESPIPE}, {"missing/y", ENOENT}, {"x/y", ENOTDIR}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        cr_expect(eq(int, bytes_try_replace(table[i].path), STATUS_IO));
        cr_expect(eq(int, errno, table[i].error), "%s", table[i].path);
    }
    cr_expect(eq(int, bytes_try_replace("x"), STATUS_OK));
    cr_expect(eq(int, bytes_try_replace("y"), STATUS_OK));
    cr_expect(eq(int, bytes_try_replace("directory/y"), STATUS_OK));
    cr_expect(eq(int, files_here(), 3));
    expect_file("x", "old");
}

Test(file, that_is_a_pipe_is_not_replaced)
{
    cr_assert(eq(int, mkfifo("pipe", 0600), 0));
    cr_assert(eq(int, symlink("pipe", "link"), 0));
    const char *const names[] = {"pipe", "link"};
    for (size_t i = 0; i < 2; i++) {
        const enum status status = bytes_replace_file(names[i], "1", 1);
        cr_expect(eq(int, status, STATUS_IO));
        cr_expect_str_eq(SYSTEM_TROUBLE(status), "is a pipe or device, not a file");
        struct stat about;
        cr_assert(eq(int, stat(names[i], &about), 0));
        cr_expect(eq(int, S_ISFIFO(about.st_mode) != 0, 1));
    }
    cr_expect(eq(int, files_here(), 2));
}

Test(file, stays_the_old_one_when_writing_fails)
{
    cr_assert(eq(int, bytes_replace_file("x", "old", 3), STATUS_OK));

    const struct rlimit limit = {.rlim_cur = 4096, .rlim_max = RLIM_INFINITY};
    const struct rlimit none = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    static char large[10000];
    cr_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
    enum status status = bytes_replace_file("x", large, sizeof(large));
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &none), 0));

    cr_expect(eq(int, status, STATUS_IO));
    expect_file("x", "old");
    cr_expect(eq(int, files_here(), 1));
}

Test(file, is_read_up_to_the_limit_and_not_one_byte_more)
{
    cr_assert(eq(int, bytes_replace_file("x", "12345", 5), STATUS_OK));
    struct buffer got = {.count = 77};
    cr_expect(eq(int, bytes_read_file("x", 4, &got), STATUS_INVALID));
    cr_expect(eq(sz, got.count, 77));
    cr_expect(eq(int, bytes_read_file("x", 5, &got), STATUS_OK));
    cr_expect(eq(sz, got.count, 5));
    cr_expect(eq(u8, got.data[5], 0));
    mem_free(got.data);

    cr_assert(eq(int, bytes_replace_file("empty", NULL, 0), STATUS_OK));
    cr_expect(eq(int, bytes_read_file("empty", 0, &got), STATUS_OK));
    cr_expect(eq(sz, got.count, 0));
    cr_expect(eq(u8, got.data[0], 0));
    mem_free(got.data);
}

Test(file, without_a_size_is_read_to_its_end)
{
    struct buffer got = {0};
    cr_expect(eq(int, bytes_read_file("/dev/zero", 100000, &got), STATUS_INVALID));

    cr_assert(eq(int, bytes_read_file("/proc/self/maps", SIZE_MAX, &got), STATUS_OK));
    cr_expect(gt(sz, got.count, 100));
    cr_expect(eq(sz, strlen((const char *)got.data), got.count));
    mem_free(got.data);
}

Test(file, that_is_missing_is_told_from_one_that_cannot_be_read)
{
    struct buffer got = {0};
    cr_assert(eq(int, bytes_replace_file("x", "1", 1), STATUS_OK));
    cr_expect(eq(int, bytes_read_file("missing", 10, &got), STATUS_NOT_FOUND));
    cr_expect(eq(int, bytes_read_file("missing/x", 10, &got), STATUS_NOT_FOUND));
    cr_expect(eq(int, bytes_read_file("x/y", 10, &got), STATUS_NOT_FOUND));
    cr_expect(eq(int, bytes_read_file(".", 1 << 20, &got), STATUS_IO));
    cr_expect(eq(ptr, got.data, NULL));
}

Test(file, that_is_a_pipe_or_a_folder_is_refused_in_words_and_nobody_waits)
{
    struct buffer got = {0};
    cr_assert(eq(int, mkfifo("pipe", 0600), 0));
    enum status status = bytes_read_file("pipe", 10, &got);
    cr_expect(eq(int, status, STATUS_IO));
    cr_expect_str_eq(SYSTEM_TROUBLE(status), "is a pipe or device, not a file");
    status = bytes_read_file(".", 10, &got);
    cr_expect_str_eq(SYSTEM_TROUBLE(status), "Is a directory");
    status = bytes_read_file("missing", 10, &got);
    cr_expect_str_eq(SYSTEM_TROUBLE(status), "not found");
    cr_expect(eq(ptr, got.data, NULL));
}

Test(file, larger_than_memory_gives_no_memory)
{
    cr_assert(eq(int, bytes_replace_file("x", "1", 1), STATUS_OK));
    struct buffer got = {0};
    mem_fail_after(1);
    cr_expect(eq(int, bytes_read_file("x", 10, &got), STATUS_NO_MEMORY));
    mem_fail_after(2); // the first block is there, the next is not
    cr_expect(eq(int, bytes_read_file("/dev/zero", 1 << 20, &got), STATUS_NO_MEMORY));
    mem_fail_after(0);
    cr_expect(eq(ptr, got.data, NULL));
}
