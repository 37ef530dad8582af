// SPDX-License-Identifier: Apache-2.0
// Goal: a model opens from a directory or from the program itself, says what it is,
// encodes texts and pictures alike in every batch; and a directory with anything
// wrong in it gives an error that names the file.
//
// Method: the embedded reco-tiny, and folders of links to its files in which one is
// missing, damaged or replaced. What the embeddings are is tested in tests/golden.

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/bytes.h"
#include "shaders/models/clip.h"
#include "shaders/models/image.h"
#include "shaders/models/tokenizer.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TINY RECO_SOURCE_DIR "/shaders/models/reco-tiny"

enum { DIMENSION = 128, SIZE = 64, PICTURE = 3 * SIZE * SIZE };

// --- common to the tests

// Whether two arrays are the same bits, which for floats is more than being equal.
static bool same_bits(const void *a, const void *b, size_t bytes)
{
    return memcmp(a, b, bytes) == 0;
}

static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

static struct clip *open_model(const char *directory, int threads)
{
    const struct clip_params params = {.directory = directory, .threads = threads};
    struct clip *clip = NULL;
    struct reason why = {0};
    cr_assert(eq(int, clip_open(&params, &clip, &why), STATUS_OK), "%s: %s", why.field, why.text);
    return clip;
}

static void encode_texts(struct clip *clip, const struct text *texts, size_t count,
                         float *embeddings)
{
    struct reason why = {0};
    cr_assert(eq(int, clip_encode_texts(clip, texts, count, embeddings, &why), STATUS_OK), "%s",
              why.text);
}

static void encode_pixels(struct clip *clip, const float *pixels, size_t count, float *embeddings)
{
    struct reason why = {0};
    cr_assert(eq(int, clip_encode_pixels(clip, pixels, count, embeddings, &why), STATUS_OK), "%s",
              why.text);
}

static void make_picture(uint64_t seed, float pixels[PICTURE])
{
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < PICTURE; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        pixels[i] = (float)((double)(int64_t)state / 4611686018427387904.0);
    }
}

static double squared_length(const float *values)
{
    double sum = 0.0;
    for (size_t i = 0; i < DIMENSION; i++)
        sum += (double)values[i] * (double)values[i];
    return sum;
}

// --- opened for one kind of input

static struct clip *open_tower(unsigned towers)
{
    const struct clip_params params = {.towers = towers};
    struct clip *clip = NULL;
    struct reason why = {0};
    cr_assert(eq(int, clip_open(&params, &clip, &why), STATUS_OK), "%s: %s", why.field, why.text);
    return clip;
}

Test(clip, one_tower_has_the_space_and_the_bits_of_both)
{
    float pixels[PICTURE];
    float embeddings[4][DIMENSION];
    const struct text text = text_of("an otter");
    make_picture(5, pixels);
    struct clip *both = open_model(NULL, 1);
    struct clip *images = open_tower(CLIP_IMAGES);
    struct clip *texts = open_tower(CLIP_TEXTS);
    cr_expect(strcmp(clip_info(images)->space, clip_info(both)->space) == 0);
    cr_expect(strcmp(clip_info(texts)->space, clip_info(both)->space) == 0);

    encode_pixels(both, pixels, 1, embeddings[0]);
    encode_pixels(images, pixels, 1, embeddings[1]);
    encode_texts(both, &text, 1, embeddings[2]);
    encode_texts(texts, &text, 1, embeddings[3]);
    cr_expect(same_bits(embeddings[0], embeddings[1], sizeof(embeddings[0])));
    cr_expect(same_bits(embeddings[2], embeddings[3], sizeof(embeddings[2])));

    struct reason why = {0};
    cr_expect(eq(int, clip_encode_texts(images, &text, 1, embeddings[0], &why),
                 STATUS_FAILED_PRECONDITION));
    cr_expect(has(why.text, "pictures only"), "%s", why.text);
    cr_expect(eq(int, clip_encode_pixels(texts, pixels, 1, embeddings[0], &why),
                 STATUS_FAILED_PRECONDITION));
    cr_expect(has(why.text, "texts only"), "%s", why.text);
    static const uint8_t picture[IMAGE_PICTURE_BYTES(1)];
    why.text[0] = '\0';
    cr_expect(eq(int, clip_encode_pictures(texts, picture, 1, embeddings[0], &why),
                 STATUS_FAILED_PRECONDITION));
    cr_expect(has(why.text, "texts only"), "%s", why.text);
    clip_close(&texts);
    clip_close(&images);
    clip_close(&both);
}

// --- what a model says of itself

Test(clip, the_embedded_model_says_what_it_is)
{
    struct clip *clip = open_model(NULL, 0);
    const struct clip_info *info = clip_info(clip);
    cr_expect(strcmp(info->name, "reco-tiny") == 0);
    cr_expect(strcmp(info->device, "cpu") == 0);
    cr_expect(eq(sz, strspn(info->space, "0123456789abcdef"), 64));
    cr_expect(strcmp(info->space + 64, ":128") == 0);
    cr_expect(eq(u32, info->dimension, DIMENSION));
    cr_expect(eq(u32, info->context, 32));
    cr_expect(eq(u32, info->image_size, SIZE));
    cr_assert(info->image != NULL);
    cr_expect(eq(u32, info->image->size, SIZE));
    cr_expect(eq(dbl, info->fusion_beta, 2.0));
    cr_expect(eq(dbl, info->fusion_temperature, 20.0));
    cr_expect(strcmp(info->template_text, "{}") == 0);
    cr_expect(gt(dbl, info->logit_scale, 1.0));
    cr_assert(clip_tokenizer(clip) != NULL);
    cr_expect(eq(u32, tokenizer_context(clip_tokenizer(clip)), 32));
    clip_close(&clip);
    cr_expect(eq(ptr, clip, NULL));
    clip_close(&clip);
}

Test(clip, the_same_files_in_a_directory_are_the_same_space_and_bits)
{
    static const char *const spellings[] = {TINY, TINY "/", TINY "///"};
    static float pixels[PICTURE];
    float expected[2 * DIMENSION];
    float got[2 * DIMENSION];
    const struct text text = text_of("an owl, bird");
    struct clip *embedded = open_model(NULL, 1);
    make_picture(1, pixels);
    encode_texts(embedded, &text, 1, expected);
    encode_pixels(embedded, pixels, 1, expected + DIMENSION);
    for (size_t i = 0; i < COUNT(spellings); i++) {
        struct clip *clip = open_model(spellings[i], 2);
        cr_expect(strcmp(clip_info(clip)->name, "reco-tiny") == 0);
        cr_expect(strcmp(clip_info(clip)->space, clip_info(embedded)->space) == 0);
        encode_texts(clip, &text, 1, got);
        encode_pixels(clip, pixels, 1, got + DIMENSION);
        cr_expect(same_bits(got, expected, sizeof(got)));
        clip_close(&clip);
    }
    clip_close(&embedded);
}

// --- batches

Test(clip, texts_have_the_same_bits_in_every_batch_place_and_thread_count)
{
    enum { TEXTS = 300 }; // more than are tokenized at a time
    static char words[TEXTS][64];
    static float alone[TEXTS][DIMENSION];
    static float together[TEXTS][DIMENSION];
    struct text texts[TEXTS];
    struct clip *one = open_model(NULL, 1);
    struct clip *two = open_model(NULL, 2);
    for (size_t t = 0; t < TEXTS; t++) {
        (void)snprintf(words[t], sizeof(words[t]), "%s %zu%.*s", t % 2 ? "violin" : "a red", t,
                       (int)(t % 40), " x y z x y z x y z x y z x y z x y z x y z x");
        texts[t] = text_of(words[t]);
        encode_texts(one, &texts[t], 1, alone[t]);
        cr_expect(fabs(squared_length(alone[t]) - 1.0) < 1e-6);
    }
    for (size_t first = 0; first + 7 <= TEXTS; first += 29) {
        encode_texts(first % 2 ? one : two, texts + first, 7, together[0]);
        cr_expect(same_bits(together, alone[first], 7 * sizeof(alone[0])));
    }
    encode_texts(two, texts, TEXTS, together[0]);
    cr_expect(same_bits(together, alone, sizeof(alone)));
    encode_texts(one, texts, TEXTS, together[0]);
    cr_expect(same_bits(together, alone, sizeof(alone)));
    clip_close(&two);
    clip_close(&one);
}

Test(clip, pictures_have_the_same_bits_in_every_batch_place_and_thread_count)
{
    enum { PICTURES = 70 }; // more than one batch of the encoder
    static float pixels[PICTURES][PICTURE];
    static float alone[PICTURES][DIMENSION];
    static float together[PICTURES][DIMENSION];
    struct clip *one = open_model(NULL, 1);
    struct clip *two = open_model(NULL, 2);
    for (size_t p = 0; p < PICTURES; p++) {
        make_picture(p, pixels[p]);
        encode_pixels(one, pixels[p], 1, alone[p]);
        cr_expect(fabs(squared_length(alone[p]) - 1.0) < 1e-6);
    }
    for (size_t first = 0; first + 7 <= PICTURES; first += 9) {
        encode_pixels(first % 2 ? one : two, pixels[first], 7, together[0]);
        cr_expect(same_bits(together, alone[first], 7 * sizeof(alone[0])));
    }
    encode_pixels(two, pixels[0], PICTURES, together[0]);
    cr_expect(same_bits(together, alone, sizeof(alone)));
    encode_pixels(one, pixels[0], PICTURES, together[0]);
    cr_expect(same_bits(together, alone, sizeof(alone)));
    clip_close(&two);
    clip_close(&one);
}

Test(clip, empty_and_over_long_texts_have_embeddings_and_too_large_ones_an_error)
{
    enum { LONG = TEXT_BYTES_MAX + 1 };
    struct clip *clip = open_model(NULL, 1);
    float a[DIMENSION];
    float b[DIMENSION];
    const struct text empty = {NULL, 0};
    encode_texts(clip, &empty, 1, a);
    cr_expect(fabs(squared_length(a) - 1.0) < 1e-6);

    // Two texts that differ behind the 32 tokens of the context only.
    char *text = malloc(LONG);
    cr_assert(text != NULL);
    for (size_t i = 0; i < LONG; i++)
        text[i] = i % 2 ? ' ' : 'a';
    encode_texts(clip, &(struct text){text, 400}, 1, a);
    encode_texts(clip, &(struct text){text, 500}, 1, b);
    cr_expect(same_bits(a, b, sizeof(a)));

    struct reason why = {0};
    const struct text texts[2] = {empty, {text, LONG}};
    float both[2 * DIMENSION];
    cr_expect(eq(int, clip_encode_texts(clip, texts, 2, both, &why), STATUS_INVALID));
    cr_expect(ne(sz, strlen(why.text), 0));
    free(text);
    cr_expect(eq(int, clip_encode_texts(clip, NULL, 0, NULL, NULL), STATUS_OK));
    cr_expect(eq(int, clip_encode_pixels(clip, NULL, 0, NULL, NULL), STATUS_OK));
    clip_close(&clip);
}

// --- parameters

Test(clip, refuses_a_device_or_number_of_threads_that_is_not_there)
{
    struct clip *clip = NULL;
    struct reason why = {0};
    cr_expect(
        eq(int, clip_open(&(struct clip_params){.device = "vulkan"}, &clip, &why), STATUS_INVALID));
    cr_expect(has(why.text, "vulkan") && has(why.text, "auto, cpu, cpu-bf16"), "%s", why.text);
    cr_expect(
        eq(int, clip_open(&(struct clip_params){.threads = -1}, &clip, &why), STATUS_INVALID));
    cr_expect(has(why.field, "threads"), "%s", why.field);
    cr_expect(eq(int, clip_open(&(struct clip_params){.directory = TINY "/none"}, &clip, &why),
                 STATUS_NOT_FOUND));
    cr_expect(has(why.text, TINY "/none/config.json"), "%s", why.text);
    cr_expect(eq(ptr, clip, NULL));
}

// --- directories

static const char *const files[] = {
    "config.json", "merges.txt", "model.safetensors", "preprocessor_config.json",
    "reco.json",   "vocab.json",
};

struct folder {
    char path[512];
};

// A folder of links to the files of reco-tiny.
static struct folder make_folder(void)
{
    struct folder folder = {RECO_BINARY_DIR "/test_clip_XXXXXX"};
    cr_assert(mkdtemp(folder.path) != NULL);
    for (size_t i = 0; i < COUNT(files); i++) {
        char from[1024];
        char to[1024];
        (void)snprintf(from, sizeof(from), TINY "/%s", files[i]);
        (void)snprintf(to, sizeof(to), "%s/%s", folder.path, files[i]);
        cr_assert(eq(int, symlink(from, to), 0));
    }
    return folder;
}

static void remove_file(const struct folder *folder, const char *name)
{
    char path[1024];
    (void)snprintf(path, sizeof(path), "%s/%s", folder->path, name);
    (void)unlink(path);
}

static void put_file(const struct folder *folder, const char *name, const void *data, size_t count)
{
    char path[1024];
    remove_file(folder, name);
    (void)snprintf(path, sizeof(path), "%s/%s", folder->path, name);
    FILE *file = fopen(path, "wb");
    cr_assert(file != NULL);
    cr_assert(eq(sz, fwrite(data, 1, count, file), count));
    cr_assert(eq(int, fclose(file), 0));
}

static void remove_folder(const struct folder *folder)
{
    for (size_t i = 0; i < COUNT(files); i++)
        remove_file(folder, files[i]);
    cr_expect(eq(int, rmdir(folder->path), 0));
}

static void read_tiny(const char *name, struct buffer *out)
{
    char path[1024];
    (void)snprintf(path, sizeof(path), TINY "/%s", name);
    *out = (struct buffer){0};
    cr_assert(eq(int, bytes_read_file(path, 64u << 20, out), STATUS_OK));
}

// Expects the folder to be refused with both texts in the reason.
static void expect_refused(const struct folder *folder, enum status status, const char *file,
                           const char *says)
{
    struct clip *clip = NULL;
    struct reason why = {0};
    enum status got = clip_open(&(struct clip_params){.directory = folder->path}, &clip, &why);
    cr_expect(eq(int, got, status), "%s '%s': %s: %s", file, says, why.field, why.text);
    cr_expect(has(why.field, file) || has(why.text, file), "%s: %s, %s", file, why.field, why.text);
    cr_expect(has(why.text, says), "%s: '%s' does not say '%s'", file, why.text, says);
    cr_expect(eq(ptr, clip, NULL));
    clip_close(&clip);
}

Test(clip, a_missing_file_is_named_and_only_reco_json_may_be_missing)
{
    for (size_t i = 0; i < COUNT(files); i++) {
        struct folder folder = make_folder();
        remove_file(&folder, files[i]);
        if (strcmp(files[i], "reco.json") != 0) {
            expect_refused(&folder, STATUS_NOT_FOUND, files[i], files[i]);
        } else {
            struct clip *clip = open_model(folder.path, 1);
            cr_expect(strcmp(clip_info(clip)->template_text, "a photo of a {}.") == 0);
            cr_expect(eq(dbl, clip_info(clip)->fusion_beta, 2.0));
            clip_close(&clip);
        }
        remove_folder(&folder);
    }
}

Test(clip, an_empty_or_cut_file_is_named)
{
    for (size_t i = 0; i < COUNT(files); i++) {
        struct buffer whole;
        read_tiny(files[i], &whole);
        struct folder folder = make_folder();
        const size_t counts[] = {0, 1, 9, 100, whole.count / 2, whole.count - 2};
        for (size_t c = 0; c < COUNT(counts); c++) {
            // A shorter list of merges is a list of merges.
            if (strcmp(files[i], "merges.txt") == 0 || counts[c] >= whole.count)
                continue;
            struct clip *clip = NULL;
            struct reason why = {0};
            put_file(&folder, files[i], whole.data, counts[c]);
            enum status status =
                clip_open(&(struct clip_params){.directory = folder.path}, &clip, &why);
            cr_expect(ne(int, status, STATUS_OK), "%s of %zu bytes", files[i], counts[c]);
            cr_expect(has(why.field, files[i]) || has(why.text, files[i]),
                      "%s of %zu bytes: %s: %s", files[i], counts[c], why.field, why.text);
            clip_close(&clip);
        }
        remove_folder(&folder);
        buffer_deinit(&whole);
    }
}

// Writes reco-tiny's file with `from` replaced by `to` at its first place.
static void put_changed(const struct folder *folder, const char *name, const char *from,
                        const char *to)
{
    struct buffer whole;
    read_tiny(name, &whole);
    const char *text = (const char *)whole.data;
    const char *at = strstr(text, from);
    cr_assert(at != NULL, "%s has no '%s'", name, from);
    struct buffer changed = {0};
    size_t before = (size_t)(at - text);
    size_t behind = before + strlen(from);
    cr_assert(eq(int, buffer_append(&changed, text, before), STATUS_OK));
    cr_assert(eq(int, buffer_append(&changed, to, strlen(to)), STATUS_OK));
    cr_assert(eq(int, buffer_append(&changed, text + behind, whole.count - behind), STATUS_OK));
    put_file(folder, name, changed.data, changed.count);
    buffer_deinit(&changed);
    buffer_deinit(&whole);
}

Test(clip, a_file_that_does_not_fit_the_others_is_named)
{
    static const struct {
        const char *file;
        const char *from;
        const char *to;
        const char *says;
        enum status status;
    } cases[] = {
        {"config.json", "\"hidden_act\": \"quick_gelu\",", "", "\"quick_gelu\"", STATUS_INVALID},
        {"config.json", "\"hidden_act\": \"quick_gelu\",", "\"hidden_act\": \"gelu_fast\",",
         "\"gelu\" are possible", STATUS_INVALID},
        {"config.json", "\"vocab_size\": 8706", "\"vocab_size\": 8705", "vocab_size is 8705",
         STATUS_INVALID},
        {"config.json", "\"eos_token_id\": 8705", "\"eos_token_id\": 8704", "eos_token_id is 8704",
         STATUS_INVALID},
        {"config.json", "\"image_size\": 64", "\"image_size\": 80", "80", STATUS_INVALID},
        {"config.json", "\"clip\"", "\"siglip\"", "only clip", STATUS_UNSUPPORTED},
        {"preprocessor_config.json", "\"shortest_edge\": 64", "\"shortest_edge\": 32",
         "shortest_edge", STATUS_UNSUPPORTED},
        {"vocab.json", "{", "[", "", STATUS_INVALID},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct folder folder = make_folder();
        put_changed(&folder, cases[i].file, cases[i].from, cases[i].to);
        expect_refused(&folder, cases[i].status, "json", cases[i].says); // two may be to blame
        remove_folder(&folder);
    }
}

Test(clip, reco_json_sets_the_fusion_and_the_template_and_leaves_the_space_alone)
{
    static const char text[] =
        "{\"fusion\": {\"beta\": 0.5}, \"template\": \"icon of {}!\", \"x\": 1}";
    struct clip *tiny = open_model(NULL, 1);
    struct folder folder = make_folder();
    put_file(&folder, "reco.json", text, strlen(text));
    struct clip *clip = open_model(folder.path, 1);
    cr_expect(eq(dbl, clip_info(clip)->fusion_beta, 0.5));
    cr_expect(eq(dbl, clip_info(clip)->fusion_temperature, 20.0));
    cr_expect(strcmp(clip_info(clip)->template_text, "icon of {}!") == 0);
    cr_expect(strcmp(clip_info(clip)->space, clip_info(tiny)->space) == 0);
    clip_close(&clip);
    clip_close(&tiny);
    remove_folder(&folder);
}

Test(clip, a_reco_json_that_is_wrong_is_refused)
{
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"", ""},
        {"[]", "not a JSON object"},
        {"{\"fusion\": 2}", "fusion is not an object"},
        {"{\"fusion\": {\"beta\": \"2\"}}", "fusion.beta"},
        {"{\"fusion\": {\"beta\": -1}}", "fusion.beta"},
        {"{\"fusion\": {\"beta\": 1e9}}", "fusion.beta"},
        {"{\"fusion\": {\"temperature\": null}}", "fusion.temperature"},
        {"{\"fusion\": {\"temperature\": -0.1}}", "fusion.temperature"},
        {"{\"template\": 7}", "template"},
        {"{\"template\": \"\"}", "template"},
        {"{\"template\": \"a photo\"}", "template"},
        {"{\"template\": \"{} and {}\"}", "template"},
    };
    struct folder folder = make_folder();
    for (size_t i = 0; i < COUNT(cases); i++) {
        put_file(&folder, "reco.json", cases[i].text, strlen(cases[i].text));
        expect_refused(&folder, STATUS_INVALID, "reco.json", cases[i].says);
    }
    char text[600] = "{\"template\": \"{}";
    memset(text + strlen(text), 'x', CLIP_TEMPLATE_BYTES);
    (void)snprintf(text + strlen(text), 8, "\"}");
    put_file(&folder, "reco.json", text, strlen(text));
    expect_refused(&folder, STATUS_INVALID, "reco.json", "template");
    remove_folder(&folder);
}

Test(clip, numeric_preprocessing_belongs_to_the_space)
{
    struct clip *tiny = open_model(NULL, 1);
    struct folder folder = make_folder();
    put_changed(&folder, "preprocessor_config.json", "0.48145466", "0.48145467");
    struct clip *same = open_model(folder.path, 1); // the same float
    put_changed(&folder, "preprocessor_config.json", "0.48145466", "0.4815");
    struct clip *other = open_model(folder.path, 1);
    cr_expect(strcmp(clip_info(same)->space, clip_info(tiny)->space) == 0);
    cr_expect(strcmp(clip_info(other)->space, clip_info(tiny)->space) != 0);
    clip_close(&other);
    clip_close(&same);
    clip_close(&tiny);
    remove_folder(&folder);
}
