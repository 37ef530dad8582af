// SPDX-License-Identifier: Apache-2.0
// Goal: a head's file comes back as it was written, to the bit, and whatever is wrong with a file
// is told by field, value and what is allowed.
//
// Method: files made in memory; each lie is one change of a right file's header text (of equal
// length, or with the length mended), or one number of its tensors.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/mem.h"
#include "shaders/models/fusion_head.h"
#include "shaders/models/weights.h"
#include "tests/support/random_head.h"

#define SEED 20261129u
#define SPACE "0123abcd:12"
#define CURVE "[{\"step\":1,\"loss\":2.5}]"
#define GATE "{\"image\":{\"floor\":0.8}}"

static struct fusion_head_info some_info(void)
{
    struct fusion_head_info info = random_head_info(12, SPACE);
    info.config[MODALITY_TEXT].score_embedding = true;
    info.config[MODALITY_TEXT].score_bias = true;
    info.config[MODALITY_TEXT].beta = 1.7f;
    info.config[MODALITY_TEXT].norm = FUSION_NORM_POST;
    info.config[MODALITY_TEXT].mlp = 5;
    info.curve = text_of(CURVE);
    info.gate = text_of(GATE);
    info.seed = UINT64_MAX;
    info.steps = 1234;
    return info;
}

static struct buffer some_file(const struct fusion_head_info *info)
{
    float *numbers[FUSION_HEAD_SIDES];
    struct buffer file = {0};
    struct reason why = {0};
    random_head_both(info, SEED, numbers);
    cr_assert(
        eq(int, fusion_head_pack(info, (const float *const *)numbers, &file, &why), STATUS_OK),
        "%s: %s", why.field, why.text);
    mem_free(numbers[0]);
    mem_free(numbers[1]);
    return file;
}

static struct bytes bytes_of(const struct buffer *buffer)
{
    return (struct bytes){buffer->data, buffer->count};
}

Test(fusion_head_file, comes_back_as_it_was_written)
{
    struct fusion_head_info info = some_info();
    struct buffer file = some_file(&info);
    struct fusion_head *head = NULL;
    struct reason why = {0};
    cr_assert(eq(int, fusion_head_open_bytes(bytes_of(&file), SPACE, 1, &head, &why), STATUS_OK),
              "%s: %s", why.field, why.text);
    const struct fusion_head_info *got = fusion_head_info(head);
    cr_expect(eq(int, strcmp(got->space, SPACE), 0));
    cr_expect(eq(u32, got->dimension, 12));
    cr_expect(eq(u32, got->k, info.k));
    cr_expect(eq(int, strcmp(got->data, "none"), 0));
    cr_expect(eq(u64, got->seed, UINT64_MAX));
    cr_expect(eq(u64, got->steps, 1234));
    cr_expect(text_equal(got->curve, text_of(CURVE)));
    cr_expect(text_equal(got->gate, text_of(GATE)));

    const float *numbers[] = {fusion_head_numbers(head, MODALITY_IMAGE),
                              fusion_head_numbers(head, MODALITY_TEXT)};
    struct buffer again = {0};
    cr_assert(eq(int, fusion_head_pack(got, numbers, &again, &why), STATUS_OK));
    cr_expect(eq(sz, again.count, file.count));
    cr_expect(memcmp(again.data, file.data, file.count) == 0);
    buffer_deinit(&file);
    buffer_deinit(&again);
    fusion_head_close(&head);
}

Test(fusion_head_file, a_file_on_disk_is_the_same_as_one_in_memory)
{
    char folder[] = "/tmp/fusion_head.XXXXXX";
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/head.safetensors", folder);
    struct fusion_head_info info = some_info();
    float *numbers[FUSION_HEAD_SIDES];
    struct reason why = {0};
    random_head_both(&info, SEED, numbers);
    cr_assert(
        eq(int, fusion_head_save(path, &info, (const float *const *)numbers, &why), STATUS_OK),
        "%s", why.text);
    struct fusion_head *head = NULL;
    cr_assert(eq(int, fusion_head_open(path, NULL, 1, &head, &why), STATUS_OK), "%s", why.text);
    size_t bytes = fusion_layout_of(&info.config[MODALITY_TEXT]).count * sizeof(float);
    cr_expect(memcmp(fusion_head_numbers(head, MODALITY_TEXT), numbers[MODALITY_TEXT], bytes) == 0);
    fusion_head_close(&head);

    cr_expect(
        eq(int, fusion_head_open("/nonexistent/head", NULL, 1, &head, &why), STATUS_NOT_FOUND));
    cr_expect(eq(int,
                 fusion_head_save("/nonexistent/head", &info, (const float *const *)numbers, &why),
                 STATUS_IO));
    cr_expect(ne(ptr, strstr(why.text, "No such file"), NULL));
    (void)unlink(path);
    (void)rmdir(folder);
    mem_free(numbers[0]);
    mem_free(numbers[1]);
}

Test(fusion_head_file, a_head_of_another_space_is_an_error_that_names_both)
{
    struct fusion_head_info info = some_info();
    struct buffer file = some_file(&info);
    struct fusion_head *head = NULL;
    struct reason why = {0};
    cr_expect(eq(int, fusion_head_open_bytes(bytes_of(&file), "other:12", 1, &head, &why),
                 STATUS_FAILED_PRECONDITION));
    cr_expect(eq(int, strcmp(why.field, "space"), 0));
    cr_expect(ne(ptr, strstr(why.text, SPACE), NULL), "%s", why.text);
    cr_expect(ne(ptr, strstr(why.text, "other:12"), NULL), "%s", why.text);
    cr_expect(eq(ptr, head, NULL));
    buffer_deinit(&file);
}

// One change of the header: `from` becomes `to`, and the length in front follows.
static struct buffer changed(const struct buffer *file, const char *from, const char *to)
{
    struct buffer out = {0};
    const char *at = NULL;
    for (size_t i = 8; i + strlen(from) <= file->count && !at; i++) {
        if (memcmp(file->data + i, from, strlen(from)) == 0)
            at = (const char *)file->data + i;
    }
    cr_assert(ne(ptr, (void *)at, NULL), "%s is not in the file", from);
    size_t before = (size_t)((const uint8_t *)at - file->data);
    uint8_t length[8];
    bytes_put_u64_le(length, bytes_get_u64_le(file->data) - strlen(from) + strlen(to));
    cr_assert(eq(int, buffer_append(&out, length, 8), STATUS_OK));
    cr_assert(eq(int, buffer_append(&out, file->data + 8, before - 8), STATUS_OK));
    cr_assert(eq(int, buffer_append(&out, to, strlen(to)), STATUS_OK));
    size_t behind = before + strlen(from);
    cr_assert(eq(int, buffer_append(&out, file->data + behind, file->count - behind), STATUS_OK));
    return out;
}

static const struct lie {
    const char *from;
    const char *to;
    enum status status;
    const char *field;
    const char *text; // part of the reason
} lies[] = {
    {"reco-head-1", "reco-head-2", STATUS_UNSUPPORTED, "format", "'reco-head-2'"},
    {"\"format\":", "\"formal\":", STATUS_CORRUPT, "format", "reco-head-1"},
    {"\"space\":\"" SPACE "\"", "\"spade\":\"\"", STATUS_CORRUPT, "space", "missing"},
    {"\"dimension\":\"12\"", "\"dimension\":\"13\"", STATUS_CORRUPT, "dimension", "13"},
    {"\"dimension\":\"12\"", "\"dimension\":\"-1\"", STATUS_CORRUPT, "dimension", "0..4096"},
    {"\"k\":\"10\"", "\"k\":\"0\"", STATUS_CORRUPT, "k", "0: 1..512"},
    {"\"k\":\"10\"", "\"k\":\"513\"", STATUS_CORRUPT, "k", "513"},
    {"\"seed\":\"18446744073709551615\"", "\"seed\":\"x\"", STATUS_CORRUPT, "seed", "'x'"},
    {"\"seed\":\"18446744073709551615\"", "\"seed\":\"18446744073709551616\"", STATUS_CORRUPT,
     "seed", "'18446744073709551616': an integer of 0..18446744073709551615 is allowed"},
    {"\"steps\":\"1234\"", "\"steps\":\"12.4\"", STATUS_CORRUPT, "steps", "12.4"},
    {"\"config\":", "\"confit\":", STATUS_CORRUPT, "config", "missing"},
    {"\\\"heads\\\":4", "\\\"heads\\\":5", STATUS_CORRUPT, "heads",
     "5: must divide the dimension 12"},
    {"\\\"heads\\\":4", "\\\"heads\\\":0", STATUS_CORRUPT, "image.heads", "0: 1..64"},
    {"\\\"heads\\\":4", "\\\"heads\\\":99", STATUS_CORRUPT, "image.heads", "99: 1..64"},
    {"\\\"norm\\\":\\\"pre\\\"", "\\\"norm\\\":\\\"up\\\"", STATUS_CORRUPT, "image.norm",
     "'up': one of pre, post, none"},
    {"\\\"type_embedding\\\":true", "\\\"type_embedding\\\":3", STATUS_CORRUPT,
     "image.type_embedding", "true or false"},
    {"\\\"beta\\\":2", "\\\"beta\\\":-2", STATUS_CORRUPT, "image.beta", "-2: 0..1000"},
    {"\\\"beta\\\":2", "\\\"better\\\":2", STATUS_CORRUPT, "image.beta", "missing"},
    {"\\\"beta\\\":2", "\\\"beta\\\":2,\\\"more\\\":1", STATUS_CORRUPT, "image", "17 fields"},
    {"\\\"consensus\\\":false,\\\"pairing\\\":false,\\\"beta\\\":1.7",
     "\\\"consensus\\\":true,\\\"pairing\\\":false,\\\"beta\\\":1.7", STATUS_CORRUPT, "text.start",
     "[4]"},
    {"\\\"text\\\":", "\\\"next\\\":", STATUS_CORRUPT, "text", "missing"},
    {"\"image.query.weight\"", "\"image.queer.weight\"", STATUS_CORRUPT, "image.query.weight",
     "missing"},
    {"\\\"type_embedding\\\":true", "\\\"type_embedding\\\":false", STATUS_CORRUPT, "header",
     "36 tensors, a head of this config has 35"},
    {"\\\"mlp\\\":48", "\\\"mlp\\\":49", STATUS_CORRUPT, "image.mlp1.weight", "[49, 12]"},
    {"\\\"mlp\\\":48", "\\\"mlp\\\":4096", STATUS_CORRUPT, "image.mlp1.weight", "[4096, 12]"},
    {"\"curve\":\"[", "\"curve\":\"", STATUS_CORRUPT, "curve", "no JSON"},
};

Test(fusion_head_file, names_each_lie)
{
    struct fusion_head_info info = some_info();
    struct buffer file = some_file(&info);
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct buffer bad = changed(&file, lies[i].from, lies[i].to);
        struct fusion_head *head = NULL;
        struct reason why = {0};
        cr_expect(
            eq(int, fusion_head_open_bytes(bytes_of(&bad), SPACE, 1, &head, &why), lies[i].status),
            "lie %zu, %s: %s", i, why.field, why.text);
        cr_expect(ne(ptr, strstr(why.field, lies[i].field), NULL), "lie %zu: '%s'", i, why.field);
        cr_expect(ne(ptr, strstr(why.text, lies[i].text), NULL), "lie %zu: '%s'", i, why.text);
        cr_expect(eq(ptr, head, NULL));
        buffer_deinit(&bad);
    }
    buffer_deinit(&file);
}

// Puts `number` in the place of the one float of the file that has the bits of `mark`.
static void replace_number(struct buffer *file, float mark, float number)
{
    size_t found = 0;
    for (size_t at = 0; at + sizeof(mark) <= file->count; at++) {
        if (memcmp(file->data + at, &mark, sizeof(mark)) == 0) {
            memcpy(file->data + at, &number, sizeof(number));
            found++;
        }
    }
    cr_assert(eq(sz, found, 1));
}

Test(fusion_head_file, a_number_that_no_answer_comes_of_is_an_error_in_file_and_memory)
{
    const float mark = 0x1.23456p-3f;
    const struct {
        float number;
        const char *text;      // of the file
        const char *in_memory; // of numbers and of what is written
    } table[] = {
        {NAN, "not finite", "number 0 is "},
        {INFINITY, "not finite", "number 0 is inf: -10000..10000 is allowed"},
        {3.4e38f, "number 0 is 3.4e+38: -10000..10000", "number 0 is 3.4e+38: -10000..10000"},
        {-10001.0f, "number 0 is -10001: -10000..10000", "number 0 is -10001: -10000..10000"},
        {10000.0f, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct fusion_head_info info = some_info();
        float *numbers[FUSION_HEAD_SIDES];
        random_head_both(&info, SEED, numbers);
        const float *const own[FUSION_HEAD_SIDES] = {numbers[0], numbers[1]};
        const struct fusion_layout layout = fusion_layout_of(&info.config[MODALITY_TEXT]);
        float *at = &numbers[MODALITY_TEXT][layout.tensor[FUSION_MLP2_BIAS].offset];
        struct buffer file = {0};
        struct buffer none = {0};
        struct fusion_head *head = NULL;
        struct reason why = {0};
        const bool is_right = !table[i].text;
        *at = mark;
        cr_assert(eq(int, fusion_head_pack(&info, own, &file, &why), STATUS_OK));
        replace_number(&file, mark, table[i].number);
        *at = table[i].number;

        cr_expect(eq(int, fusion_head_open_bytes(bytes_of(&file), SPACE, 1, &head, &why),
                     is_right ? STATUS_OK : STATUS_CORRUPT));
        cr_expect(is_right || strcmp(why.field, "text.mlp2.bias") == 0);
        cr_expect(is_right || strstr(why.text, table[i].text), "%s", why.text);
        fusion_head_close(&head);
        const enum status wanted = is_right ? STATUS_OK : STATUS_INVALID;
        cr_expect(eq(int, fusion_head_create(&info, own, 1, &head, &why), wanted));
        cr_expect(is_right || strcmp(why.field, "text.mlp2.bias") == 0);
        cr_expect(is_right || strstr(why.text, table[i].in_memory), "%s", why.text);
        fusion_head_close(&head);
        cr_expect(eq(int, fusion_head_pack(&info, own, &none, &why), wanted));
        cr_expect(eq(int, none.count > 0, is_right));
        buffer_deinit(&none);
        buffer_deinit(&file);
        mem_free(numbers[0]);
        mem_free(numbers[1]);
    }
}

Test(fusion_head_file, refuses_to_write_what_would_not_be_read)
{
    const float *const numbers[FUSION_HEAD_SIDES] = {NULL, NULL}; // never looked at
    struct fusion_head_info bad[6];
    for (size_t i = 0; i < 6; i++)
        bad[i] = some_info();
    bad[0].k = 0;
    bad[1].space[0] = '\0';
    bad[2].config[MODALITY_TEXT].dimension = 16;
    bad[3].config[MODALITY_TEXT].heads = 5;
    bad[4].gate = text_of("{");
    bad[5].config[MODALITY_IMAGE].temperature = NAN;
    for (size_t i = 0; i < 6; i++) {
        struct buffer file = {0};
        struct reason why = {0};
        cr_expect(eq(int, fusion_head_pack(&bad[i], numbers, &file, &why), STATUS_INVALID), "%zu",
                  i);
        cr_expect(ne(chr, why.text[0], '\0'));
        cr_expect(eq(sz, file.count, 0));
    }
}

Test(fusion_head_file, memory_that_runs_out_is_an_error_wherever_it_does)
{
    struct fusion_head_info info = some_info();
    struct buffer file = some_file(&info);
    enum status status = STATUS_INTERNAL;
    uint64_t n = 1;
    for (; status != STATUS_OK && n < 5000; n++) {
        struct fusion_head *head = NULL;
        mem_fail_after(n);
        status = fusion_head_open_bytes(bytes_of(&file), SPACE, 1, &head, NULL);
        mem_fail_after(0);
        if (status != STATUS_OK)
            cr_assert(eq(int, status, STATUS_NO_MEMORY), "at %llu", (unsigned long long)n);
        fusion_head_close(&head);
    }
    cr_expect(eq(int, status, STATUS_OK));
    cr_expect(gt(u64, n, 20));
    buffer_deinit(&file);
}
