// SPDX-License-Identifier: Apache-2.0
// Goal: a weights file gives exactly the numbers in it, and a broken or hostile one
// gives an error that says what is wrong: never a crash, a read outside the file, or
// numbers that are not there.
//
// Method: files made by hand in memory of exactly their size, so that a sanitizer sees
// every step too far; each header lie by itself; then every truncation of a small file
// and every change of one byte of its header.

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shaders/models/weights.h"
#include "tests/support/random_clip_small.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// --- common to the tests

// Whether two arrays are the same bits, which for floats is more than being equal.
static bool same_bits(const void *a, const void *b, size_t bytes)
{
    return memcmp(a, b, bytes) == 0;
}

// Whether `text` holds `part`.
static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

// A file from a header and `data_bytes` bytes 1, 2, 3, ...; freed by the caller.
static struct bytes make_file(const char *header, size_t data_bytes)
{
    size_t length = strlen(header);
    uint8_t *file = malloc(8 + length + data_bytes);
    cr_assert(file != NULL);
    bytes_put_u64_le(file, length);
    for (size_t i = 0; i < length; i++)
        file[8 + i] = (uint8_t)header[i];
    for (size_t i = 0; i < data_bytes; i++)
        file[8 + length + i] = (uint8_t)(i + 1);
    return (struct bytes){file, 8 + length + data_bytes};
}

static void free_file(struct bytes file)
{
    union {
        const uint8_t *given;
        void *owned;
    } data = {.given = file.data};
    free(data.owned);
}

static struct weights *open_file(struct bytes file)
{
    struct weights *weights = NULL;
    struct reason why = {0};
    enum status status = weights_open_bytes(file, &weights, &why);
    cr_assert(eq(int, status, STATUS_OK), "%s: %s", why.field, why.text);
    return weights;
}

// --- what is right

Test(weights, reads_f32_f16_and_bf16_bit_for_bit)
{
    static const char header[] =
        "{\"single\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
        "\"half\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[16,24]},"
        "\"brain\":{\"dtype\":\"BF16\",\"shape\":[2,1,2],\"data_offsets\":[24,32]}}";
    static const float single[] = {1.0f, -0.0f, FLT_MIN, 3.14159274f};
    static const uint16_t half[] = {0x3c00, 0x0001, 0xfbff, 0x3555};
    static const float half_values[] = {1.0f, 5.9604644775390625e-8f, -65504.0f, 0.333251953125f};
    static const uint16_t brain[] = {0x3f80, 0x0001, 0xff7f, 0x4049};
    static const uint32_t brain_bits[] = {0x3f800000, 0x00010000, 0xff7f0000, 0x40490000};

    struct bytes file = make_file(header, 32);
    uint8_t *data = malloc(file.count);
    cr_assert(data != NULL);
    memcpy(data, file.data, file.count);
    memcpy(data + file.count - 32, single, 16);
    memcpy(data + file.count - 16, half, 8);
    memcpy(data + file.count - 8, brain, 8);
    struct weights *weights = open_file((struct bytes){data, file.count});

    float values[4];
    const struct weights_tensor *tensor = weights_find(weights, "single");
    cr_assert(tensor != NULL);
    cr_expect(eq(u32, tensor->rank, 2));
    cr_expect(eq(sz, tensor->count, 4));
    cr_assert(eq(int, weights_read(tensor, values, NULL), STATUS_OK));
    cr_expect(same_bits(values, single, sizeof(values)));

    tensor = weights_find(weights, "half");
    cr_assert(tensor != NULL);
    cr_assert(eq(int, weights_read(tensor, values, NULL), STATUS_OK));
    cr_expect(same_bits(values, half_values, sizeof(values)));

    tensor = weights_find(weights, "brain");
    cr_assert(tensor != NULL);
    cr_expect(eq(u32, tensor->rank, 3));
    cr_assert(eq(int, weights_read(tensor, values, NULL), STATUS_OK));
    cr_expect(same_bits(values, brain_bits, sizeof(values)));

    weights_close(&weights);
    cr_expect(eq(ptr, weights, NULL));
    free(data);
    free_file(file);
}

Test(weights, lists_tensors_by_name_and_finds_each_whatever_their_order_in_the_file)
{
    struct bytes file =
        make_file("{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[1,4]},"
                  "\"__metadata__\":{\"format\":\"pt\"},"
                  "\"c\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]},"
                  "\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[4,12]},"
                  "\"empty\":{\"dtype\":\"F32\",\"shape\":[7,0],\"data_offsets\":[4,4]}}  ",
                  12);
    static const char *const names[] = {"a", "b", "c", "empty"};
    struct weights *weights = open_file(file);
    cr_assert(eq(sz, weights_count(weights), COUNT(names)));
    for (size_t i = 0; i < COUNT(names); i++) {
        cr_expect(eq(str, (char *)weights_at(weights, i)->name, (char *)names[i]));
        cr_expect(eq(ptr, (void *)weights_find(weights, names[i]), (void *)weights_at(weights, i)));
    }
    cr_expect(eq(ptr, (void *)weights_find(weights, "__metadata__"), NULL));
    cr_expect(eq(ptr, (void *)weights_find(weights, "aa"), NULL));
    cr_expect(eq(ptr, (void *)weights_find(weights, ""), NULL));
    cr_expect(eq(u8, weights_find(weights, "b")->data[0], 2));
    cr_expect(eq(sz, weights_find(weights, "empty")->count, 0));
    cr_expect(eq(int, weights_read(weights_find(weights, "empty"), NULL, NULL), STATUS_OK));
    weights_close(&weights);
    free_file(file);
}

Test(weights, a_file_without_tensors_is_right)
{
    struct bytes file = make_file("{}", 0);
    struct weights *weights = open_file(file);
    cr_expect(eq(sz, weights_count(weights), 0));
    cr_expect(eq(ptr, (void *)weights_find(weights, "x"), NULL));
    weights_close(&weights);
    free_file(file);
}

Test(weights, refuses_to_read_integers_as_floats_and_names_them)
{
    struct bytes file =
        make_file("{\"ids\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    struct weights *weights = open_file(file);
    struct reason why = {0};
    float value = 7.0f;
    cr_expect(
        eq(int, weights_read(weights_find(weights, "ids"), &value, &why), STATUS_UNSUPPORTED));
    cr_expect(has(why.field, "ids"));
    cr_expect(has(why.text, "I32") && has(why.text, "BF16"), "%s", why.text);
    weights_close(&weights);
    free_file(file);
}

Test(weights, a_value_that_is_not_finite_is_an_error_wherever_it_stands)
{
    enum { VALUES = 2500 }; // more than are converted at a time
    static const struct {
        const char *dtype;
        uint32_t bytes;
        uint32_t bad;
    } cases[] = {
        {"F32", 4, 0x7f800000}, {"F32", 4, 0xff800000}, {"F32", 4, 0x7fc00000},
        {"F32", 4, 0xff800001}, {"F16", 2, 0x7c00},     {"F16", 2, 0xfe00},
        {"BF16", 2, 0x7f80},    {"BF16", 2, 0xffc0},
    };
    static const size_t places[] = {0, 1, 1023, 1024, VALUES - 1};
    static float values[VALUES];
    for (size_t i = 0; i < COUNT(cases) * COUNT(places); i++) {
        size_t c = i / COUNT(places);
        size_t place = places[i % COUNT(places)];
        size_t bytes = (size_t)VALUES * cases[c].bytes;
        char header[128];
        (void)snprintf(header, sizeof(header),
                       "{\"x\":{\"dtype\":\"%s\",\"shape\":[%d],\"data_offsets\":[0,%zu]}}",
                       cases[c].dtype, VALUES, bytes);
        struct bytes file = make_file(header, bytes);
        uint8_t *copy = malloc(file.count);
        cr_assert(copy != NULL);
        memcpy(copy, file.data, file.count - bytes);
        memset(copy + file.count - bytes, 0, bytes);
        memcpy(copy + file.count - bytes + place * cases[c].bytes, &cases[c].bad, cases[c].bytes);
        struct weights *weights = open_file((struct bytes){copy, file.count});
        struct reason why = {0};
        cr_expect(eq(int, weights_read(weights_at(weights, 0), values, &why), STATUS_CORRUPT));
        cr_expect(has(why.text, "not finite"), "%s", why.text);
        weights_close(&weights);
        free(copy);
        free_file(file);
    }
}

// --- what is wrong

struct lie {
    const char *header;
    const char *says; // part of the reason
    size_t data_bytes;
    enum status status;
};

#define ENTRY(dtype, shape, offsets)                                                               \
    "{\"x\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const struct lie lies[] = {
    // JSON
    {"", "", 0, STATUS_CORRUPT},
    {"{", "", 0, STATUS_CORRUPT},
    {"[]", "not a JSON object", 0, STATUS_CORRUPT},
    {"null", "not a JSON object", 0, STATUS_CORRUPT},
    {"{}x", "", 0, STATUS_CORRUPT},
    {"{\"x\":1}", "not an object", 0, STATUS_CORRUPT},
    {"{\"x\":[]}", "not an object", 0, STATUS_CORRUPT},
    {"{\"x\":{}}", "dtype", 0, STATUS_CORRUPT},
    // dtype
    {ENTRY("4", "[1]", "[0,4]"), "dtype", 4, STATUS_CORRUPT},
    {ENTRY("\"F33\"", "[1]", "[0,4]"), "F33", 4, STATUS_UNSUPPORTED},
    {ENTRY("\"f32\"", "[1]", "[0,4]"), "f32", 4, STATUS_UNSUPPORTED},
    {ENTRY("\"F16\"", "[1]", "[0,4]"), "need 1 values of 2 bytes", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[2]", "[0,4]"), "need 2 values of 4 bytes", 4, STATUS_CORRUPT},
    // shape
    {ENTRY("\"F32\"", "1", "[0,4]"), "shape", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "null", "[0,4]"), "shape", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[-1]", "[0,4]"), "shape[0]", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[1,\"1\"]", "[0,4]"), "shape[1]", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[1.0]", "[0,4]"), "shape[0]", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), "9 dimensions", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[4611686018427387904,4]", "[0,4]"), "too large", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[9223372036854775807]", "[0,4]"), "shape and dtype", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[4611686018427387905]", "[0,4]"), "shape and dtype", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[92233720368547758070]", "[0,4]"), "", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[0]", "[0,4]"), "need 0 values", 4, STATUS_CORRUPT},
    // data_offsets
    {ENTRY("\"F32\"", "[1]", "null"), "data_offsets", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[1]", "[]"), "data_offsets", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[1]", "[0]"), "data_offsets", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[1]", "[0,4,8]"), "data_offsets", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[1]", "[0,\"4\"]"), "data_offsets", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[1]", "[-4,0]"), "data_offsets", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[1]", "[4,0]"), "data_offsets", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[1]", "[0,8]"), "truncated", 4, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]"), "truncated", 4,
     STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[1]", "[1,5]"), "gap", 5, STATUS_CORRUPT},
    {ENTRY("\"F32\"", "[1]", "[0,4]"), "1 bytes behind the last tensor", 5, STATUS_CORRUPT},
    // more than one
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
     "overlap", 3, STATUS_CORRUPT},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
     "overlap", 2, STATUS_CORRUPT},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"y\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
     "gap", 3, STATUS_CORRUPT},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
     "\"y\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}}",
     "overlap", 4, STATUS_CORRUPT},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
     "", 2, STATUS_CORRUPT},
};

Test(weights, names_each_lie_of_a_header)
{
    for (size_t i = 0; i < COUNT(lies); i++) {
        struct bytes file = make_file(lies[i].header, lies[i].data_bytes);
        struct weights *weights = NULL;
        struct reason why = {0};
        enum status status = weights_open_bytes(file, &weights, &why);
        cr_expect(eq(int, status, lies[i].status), "%s: %s", lies[i].header, why.text);
        cr_expect(has(why.text, lies[i].says), "%s: '%s' does not say '%s'", lies[i].header,
                  why.text, lies[i].says);
        cr_expect(ne(sz, strlen(why.text), 0));
        cr_expect(eq(ptr, weights, NULL));
        free_file(file);
    }
}

Test(weights, refuses_a_header_length_that_the_file_does_not_have)
{
    static const uint64_t lengths[] = {
        3,
        4,
        1u << 20,
        UINT32_MAX,
        INT64_MAX,
        UINT64_MAX,
        (1u << 24) + 1,
        UINT64_MAX - 7,
        UINT64_MAX - 8,
    };
    for (size_t i = 0; i < COUNT(lengths); i++) {
        struct bytes right = make_file("{}", 0);
        uint8_t *file = malloc(right.count);
        cr_assert(file != NULL);
        memcpy(file, right.data, right.count);
        bytes_put_u64_le(file, lengths[i]);
        struct weights *weights = NULL;
        struct reason why = {0};
        cr_expect(eq(int, weights_open_bytes((struct bytes){file, right.count}, &weights, &why),
                     STATUS_CORRUPT));
        cr_expect(has(why.text, "header"), "%s", why.text);
        free(file);
        free_file(right);
    }
}

Test(weights, refuses_a_huge_header_before_it_is_parsed)
{
    size_t length = WEIGHTS_HEADER_BYTES_MAX + 1;
    char *header = malloc(length + 1);
    cr_assert(header != NULL);
    memset(header, ' ', length);
    memcpy(header, "{}", 2);
    header[length] = '\0';
    struct bytes file = make_file(header, 0);
    struct weights *weights = NULL;
    struct reason why = {0};
    cr_expect(eq(int, weights_open_bytes(file, &weights, &why), STATUS_CORRUPT));
    cr_expect(has(why.text, "at most 16777216"), "%s", why.text);
    free_file(file);
    free(header);
}

Test(weights, refuses_too_many_tensors_and_too_long_names)
{
    struct buffer header = {0};
    cr_assert(eq(int, buffer_append(&header, "{", 1), STATUS_OK));
    for (uint32_t i = 0; i <= WEIGHTS_TENSORS_MAX; i++) {
        char entry[96];
        int length = snprintf(entry, sizeof(entry),
                              "%s\"%u\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                              i > 0 ? "," : "", i);
        cr_assert(eq(int, buffer_append(&header, entry, (size_t)length), STATUS_OK));
    }
    cr_assert(eq(int, buffer_append(&header, "}", 2), STATUS_OK));
    struct bytes file = make_file((const char *)header.data, 0);
    struct weights *weights = NULL;
    struct reason why = {0};
    cr_expect(eq(int, weights_open_bytes(file, &weights, &why), STATUS_CORRUPT));
    cr_expect(has(why.text, "at most 65536"), "%s", why.text);
    free_file(file);
    buffer_deinit(&header);

    char name[WEIGHTS_NAME_BYTES_MAX + 2];
    char one[WEIGHTS_NAME_BYTES_MAX + 128];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    (void)snprintf(one, sizeof(one),
                   "{\"%s\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", name);
    file = make_file(one, 0);
    cr_expect(eq(int, weights_open_bytes(file, &weights, &why), STATUS_CORRUPT));
    cr_expect(has(why.text, "at most 512"), "%s", why.text);
    free_file(file);
}

Test(weights, refuses_json_that_nests_deep)
{
    const size_t depth = 200000;
    size_t room = 2 * depth + 16;
    char *header = malloc(room);
    cr_assert(header != NULL);
    int begin = snprintf(header, room, "{\"x\":");
    memset(header + begin, '[', depth);
    memset(header + begin + depth, ']', depth);
    (void)snprintf(header + begin + 2 * depth, room - 2 * depth - (size_t)begin, "}");
    struct bytes file = make_file(header, 0);
    struct weights *weights = NULL;
    cr_expect(eq(int, weights_open_bytes(file, &weights, NULL), STATUS_CORRUPT));
    free_file(file);
    free(header);
}

// Opens and, when that works, reads everything.
static enum status use(const uint8_t *data, size_t count)
{
    struct weights *weights = NULL;
    struct reason why = {0};
    enum status status = weights_open_bytes((struct bytes){data, count}, &weights, &why);
    if (status != STATUS_OK) {
        cr_expect(ne(sz, strlen(why.text), 0));
        return status;
    }
    for (size_t i = 0; i < weights_count(weights); i++) {
        const struct weights_tensor *tensor = weights_at(weights, i);
        float *values = malloc((tensor->count + 1) * sizeof(float));
        cr_assert(values != NULL);
        (void)!weights_read(tensor, values, NULL);
        free(values);
    }
    weights_close(&weights);
    return STATUS_OK;
}

static struct bytes small_file(void)
{
    return make_file("{\"__metadata__\":{\"format\":\"pt\"},"
                     "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                     "\"b\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[24,32]},"
                     "\"c\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[32,34]}}",
                     34);
}

Test(weights, every_truncation_is_an_error)
{
    struct bytes file = small_file();
    cr_expect(eq(int, use(file.data, file.count), STATUS_OK));
    for (size_t count = 0; count < file.count; count++) {
        uint8_t *part = malloc(count + 1); // malloc(0) may be NULL
        uint8_t *exact = count > 0 ? malloc(count) : part;
        cr_assert(part != NULL && exact != NULL);
        memcpy(exact, file.data, count);
        cr_expect(eq(int, use(exact, count), STATUS_CORRUPT), "%zu bytes", count);
        if (exact != part)
            free(exact);
        free(part);
    }
    free_file(file);
}

Test(weights, every_truncation_of_a_whole_model_s_header_is_an_error)
{
    struct buffer model;
    random_clip_small(&model);
    size_t header = (size_t)bytes_get_u64_le(model.data);
    for (size_t count = 0; count <= 8 + header; count++) {
        uint8_t *exact = malloc(count > 0 ? count : 1);
        cr_assert(exact != NULL);
        memcpy(exact, model.data, count);
        cr_expect(eq(int, use(exact, count), STATUS_CORRUPT), "%zu bytes", count);
        free(exact);
    }
    buffer_deinit(&model);
}

Test(weights, no_change_of_a_byte_leads_outside_the_file)
{
    static const uint8_t values[] = {0,   1,   ' ', '"', ',', '-', '.', '0',  '1',  '2',
                                     '9', ':', '[', ']', '{', '}', 'F', 0x7f, 0x80, 0xff};
    struct bytes file = small_file();
    size_t header = file.count - 34;
    uint8_t *copy = malloc(file.count);
    cr_assert(copy != NULL);
    for (size_t at = 0; at < header; at++) {
        for (size_t i = 0; i < COUNT(values); i++) {
            memcpy(copy, file.data, file.count);
            copy[at] = values[i];
            (void)!use(copy, file.count); // what it says does not matter, only that it returns
        }
    }
    free(copy);
    free_file(file);
}

// --- files on disk

static void write_file(const char *path, const void *data, size_t count)
{
    FILE *file = fopen(path, "wb");
    cr_assert(file != NULL);
    cr_assert(eq(sz, fwrite(data, 1, count, file), count));
    cr_assert(eq(int, fclose(file), 0));
}

Test(weights, a_mapped_file_is_the_same_as_one_in_memory)
{
    char path[] = RECO_BINARY_DIR "/test_weights_XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    (void)close(fd);
    struct bytes file = small_file();
    write_file(path, file.data, file.count);

    struct weights *mapped = NULL;
    struct reason why = {0};
    cr_assert(eq(int, weights_open(path, &mapped, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(int, unlink(path), 0)); // the mapping stays
    struct weights *memory = open_file(file);
    cr_assert(eq(sz, weights_count(mapped), weights_count(memory)));
    for (size_t i = 0; i < weights_count(mapped); i++) {
        const struct weights_tensor *a = weights_at(mapped, i);
        const struct weights_tensor *b = weights_at(memory, i);
        cr_expect(eq(str, (char *)a->name, (char *)b->name));
        cr_assert(eq(sz, a->bytes, b->bytes));
        cr_expect(same_bits(a->data, b->data, a->bytes));
    }
    weights_close(&memory);
    weights_close(&mapped);
    free_file(file);
}

Test(weights, a_path_that_holds_no_file_is_an_error_that_names_it)
{
    char folder[] = RECO_BINARY_DIR "/test_weights_XXXXXX";
    cr_assert(mkdtemp(folder) != NULL);
    char path[sizeof(folder) + 16];
    struct weights *weights = NULL;
    struct reason why = {0};

    (void)snprintf(path, sizeof(path), "%s/none", folder);
    cr_expect(eq(int, weights_open(path, &weights, &why), STATUS_NOT_FOUND));
    cr_expect(has(why.text, path), "%s", why.text);

    cr_expect(eq(int, weights_open(folder, &weights, &why), STATUS_IO));
    cr_expect(has(why.text, "regular"), "%s", why.text);

    (void)snprintf(path, sizeof(path), "%s/pipe", folder);
    cr_assert(eq(int, mkfifo(path, 0600), 0));
    cr_expect(eq(int, weights_open(path, &weights, &why), STATUS_IO));
    (void)unlink(path);

    (void)snprintf(path, sizeof(path), "%s/file", folder);
    for (size_t count = 0; count < 8; count++) {
        write_file(path, "1234567", count);
        cr_expect(eq(int, weights_open(path, &weights, &why), STATUS_CORRUPT));
    }
    (void)unlink(path);
    (void)rmdir(folder);
    cr_expect(eq(ptr, weights, NULL));
}
