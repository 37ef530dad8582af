// SPDX-License-Identifier: Apache-2.0
// Goal: a status means the same in a function, on the wire and at the client,
// and a reason is safe to show whatever a stranger put into it.
//
// Method: the whole table, numbers outside it, and texts at the buffers' ends.

#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define STATUS_COUNT 16

Test(status, numbers_on_the_wire_never_move)
{
    cr_expect(eq(int, STATUS_OK, 0));
    cr_expect(eq(int, STATUS_INVALID, 1));
    cr_expect(eq(int, STATUS_NOT_FOUND, 2));
    cr_expect(eq(int, STATUS_ALREADY_EXISTS, 3));
    cr_expect(eq(int, STATUS_FAILED_PRECONDITION, 4));
    cr_expect(eq(int, STATUS_EXHAUSTED, 5));
    cr_expect(eq(int, STATUS_UNAVAILABLE, 6));
    cr_expect(eq(int, STATUS_DEADLINE, 7));
    cr_expect(eq(int, STATUS_CANCELLED, 8));
    cr_expect(eq(int, STATUS_NO_MEMORY, 9));
    cr_expect(eq(int, STATUS_IO, 10));
    cr_expect(eq(int, STATUS_CORRUPT, 11));
    cr_expect(eq(int, STATUS_UNSUPPORTED, 12));
    cr_expect(eq(int, STATUS_UNAUTHENTICATED, 13));
    cr_expect(eq(int, STATUS_DENIED, 14));
    cr_expect(eq(int, STATUS_INTERNAL, 15));
}

Test(status, every_line_has_its_own_text)
{
    for (int i = 0; i < STATUS_COUNT; i++) {
        cr_expect(status_is_known((uint32_t)i));
        for (int j = 0; j < i; j++)
            cr_expect(strcmp(status_text((enum status)i), status_text((enum status)j)) != 0);
    }
    cr_expect_str_eq(status_text(STATUS_NOT_FOUND), "not found");
}

Test(status, a_number_outside_the_table_is_unknown)
{
    cr_expect(not(status_is_known(STATUS_COUNT)));
    cr_expect(not(status_is_known(UINT32_MAX)));
    cr_expect_str_eq(status_text((enum status)STATUS_COUNT), "unknown status");
    cr_expect(eq(int, status_grpc_code((enum status)STATUS_COUNT), 2));
}

Test(status, a_grpc_code_leads_back_to_a_status_with_that_code)
{
    for (int i = 0; i < STATUS_COUNT; i++) {
        int code = status_grpc_code((enum status)i);
        cr_expect(ge(int, code, 0));
        cr_expect(le(int, code, 16));
        cr_expect(eq(int, status_grpc_code(status_from_grpc_code(code)), code));
    }
    cr_expect(eq(int, status_from_grpc_code(8), STATUS_EXHAUSTED));
    cr_expect(eq(int, status_from_grpc_code(14), STATUS_UNAVAILABLE));
}

Test(status, a_grpc_code_without_a_line_is_internal)
{
    const int strange[] = {2, 10, 11, 17, -1, 1000};
    for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++)
        cr_expect(eq(int, status_from_grpc_code(strange[i]), STATUS_INTERNAL));
}

Test(reason, returns_the_status_and_keeps_field_and_text)
{
    struct reason why;
    enum status status = reason_set(&why, STATUS_INVALID, "k", "%d: 1..%d is allowed", 300, 256);

    cr_expect(eq(int, status, STATUS_INVALID));
    cr_expect_str_eq(why.field, "k");
    cr_expect_str_eq(why.text, "300: 1..256 is allowed");
}

Test(reason, works_without_a_place_or_a_field)
{
    cr_expect(eq(int, reason_set(NULL, STATUS_IO, "x", "%s", "text"), STATUS_IO));

    struct reason why;
    cr_expect(eq(int, reason_set(&why, STATUS_IO, NULL, "text"), STATUS_IO));
    cr_expect_str_eq(why.field, "");
    cr_expect_str_eq(why.text, "text");
}

Test(reason, replaces_what_could_break_a_line_or_a_terminal)
{
    struct reason why;
    enum status status = reason_set(&why, STATUS_INVALID, "a\nb",
                                    "x\x1b[31m\ty\x7f z\xc2\x9b w\xff\xc0\x80 caf\xc3\xa9");

    cr_expect(eq(int, status, STATUS_INVALID));
    cr_expect_str_eq(why.field, "a?b");
    cr_expect_str_eq(why.text, "x?[31m?y? z? w??? caf\xc3\xa9");
}

Test(reason, keeps_the_end_of_a_long_path)
{
    char path[REASON_FIELD_BYTES + 64];
    memset(path, 'a', sizeof(path));
    for (size_t i = 0; i < sizeof(path); i += 16)
        path[i] = '/';
    strcpy(path + sizeof(path) - 16, "/model.json: k");
    struct reason why;
    cr_expect(eq(int, reason_set(&why, STATUS_INVALID, path, "is no number"), STATUS_INVALID));
    cr_expect(eq(sz, strlen(why.field), REASON_FIELD_BYTES - 1));
    cr_expect(eq(int, strncmp(why.field, "...", 3), 0));
    cr_expect(ne(ptr, strstr(why.field, "a/model.json: k"), NULL));

    // What just fits is kept as it is.
    const char *fits = path + strlen(path) + 1 - REASON_FIELD_BYTES;
    cr_expect(eq(int, reason_set(&why, STATUS_INVALID, fits, "is no number"), STATUS_INVALID));
    cr_expect(eq(int, strcmp(why.field, fits), 0));
}

Test(reason, is_cut_between_characters)
{
    // Every offset of a four-byte character against the end of the buffer.
    for (size_t lead = 0; lead < 4; lead++) {
        char text[REASON_TEXT_BYTES + 64] = "";
        memset(text, 'a', lead);
        while (strlen(text) < REASON_TEXT_BYTES + 8)
            strcat(text, "\xf0\x9f\xa6\x80");

        struct reason why;
        cr_expect(eq(int, reason_set(&why, STATUS_INVALID, text, "%s", text), STATUS_INVALID));
        cr_expect(bytes_is_utf8(why.text, strlen(why.text)));
        cr_expect(bytes_is_utf8(why.field, strlen(why.field)));
        cr_expect(eq(sz, strlen(why.text), lead + (REASON_TEXT_BYTES - 1 - lead) / 4 * 4));
        cr_expect(eq(sz, strlen(why.field), 3 + (REASON_FIELD_BYTES - 4) / 4 * 4));
        cr_expect(eq(int, strncmp(why.field, "...\xf0\x9f", 5), 0));
        cr_expect(eq(ptr, strchr(why.text, '?'), NULL));
    }
}
