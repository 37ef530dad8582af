// SPDX-License-Identifier: Apache-2.0
// Goal: a preprocessor_config.json is done exactly or refused by name; nothing that it asks
// for is silently left out.
//
// Method: files as CLIP models have them, old and new, and each key with wrong values.

#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shaders/models/image.h"

static enum status parse(const char *text, struct image_params *params, struct reason *why)
{
    return image_params_parse((struct bytes){(const uint8_t *)text, strlen(text)}, 224, params,
                              why);
}

static const char *const good[] = {
    // OpenAI's models, 2021 and 2022
    "{\"crop_size\": 224, \"do_center_crop\": true, \"do_normalize\": true, \"do_resize\": true, "
    "\"feature_extractor_type\": \"CLIPFeatureExtractor\", \"image_mean\": [0.48145466, 0.4578275, "
    "0.40821073], \"image_std\": [0.26862954, 0.26130258, 0.27577711], \"resample\": 3, "
    "\"size\": 224}",
    // transformers 4
    "{\"crop_size\": {\"height\": 224, \"width\": 224}, \"do_center_crop\": true, "
    "\"do_convert_rgb\": true, \"do_normalize\": true, \"do_rescale\": true, \"do_resize\": true, "
    "\"image_processor_type\": \"CLIPImageProcessor\", \"rescale_factor\": 0.00392156862745098, "
    "\"resample\": 3, \"size\": {\"shortest_edge\": 224}}",
    // transformers 5 writes null for what is not set
    "{\"image_processor_type\": \"CLIPImageProcessorFast\", \"size\": {\"shortest_edge\": 224, "
    "\"longest_edge\": null}, \"crop_size\": null, \"do_pad\": null, \"device\": null, "
    "\"data_format\": \"channels_first\"}",
    "{}",
};

Test(image_params, reads_the_files_that_clip_models_have)
{
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct image_params params = {0};
        struct reason why = {0};
        cr_assert(eq(int, parse(good[i], &params, &why), STATUS_OK), "%s: %s", why.field, why.text);
        cr_expect(eq(u32, params.size, 224));
        cr_expect(eq(int, params.crop, IMAGE_CROP_FLOOR));
        cr_expect(eq(int, params.filter, IMAGE_FILTER_BICUBIC));
        cr_expect(eq(int, params.profile, IMAGE_PROFILE_RECO));
        cr_expect(eq(dbl, params.rescale, 1.0 / 255.0));
        cr_expect(eq(flt, params.mean[0], 0.48145466f));
        cr_expect(eq(flt, params.std[2], 0.27577711f));
        cr_expect(eq(sz, strlen(why.text), 0));
    }
}

Test(image_params, takes_other_numbers_as_they_are)
{
    struct image_params params = {0};
    cr_assert(eq(int,
                 parse("{\"image_mean\": [0.5, -1, 0], \"image_std\": [1, 2, 0.5], "
                       "\"rescale_factor\": 0.5}",
                       &params, NULL),
                 STATUS_OK));
    cr_expect(eq(flt, params.mean[1], -1.0f));
    cr_expect(eq(flt, params.std[1], 2.0f));
    cr_expect(eq(dbl, params.rescale, 0.5));
}

struct bad {
    const char *text;
    const char *field; // of the reason
    enum status status;
};

static const struct bad bad[] = {
    {"", "", STATUS_INVALID},
    {"[]", "preprocessor_config.json", STATUS_INVALID},
    {"null", "preprocessor_config.json", STATUS_INVALID},
    {"{\"size\": 224", "", STATUS_INVALID},
    {"{\"resample\": 2}", "resample", STATUS_UNSUPPORTED},
    {"{\"resample\": 9}", "resample", STATUS_UNSUPPORTED},
    {"{\"resample\": \"bicubic\"}", "resample", STATUS_INVALID},
    {"{\"do_resize\": false}", "do_resize", STATUS_UNSUPPORTED},
    {"{\"do_center_crop\": false}", "do_center_crop", STATUS_UNSUPPORTED},
    {"{\"do_rescale\": false}", "do_rescale", STATUS_UNSUPPORTED},
    {"{\"do_normalize\": false}", "do_normalize", STATUS_UNSUPPORTED},
    {"{\"do_convert_rgb\": false}", "do_convert_rgb", STATUS_UNSUPPORTED},
    {"{\"do_pad\": true}", "do_pad", STATUS_UNSUPPORTED},
    {"{\"do_resize\": 1}", "do_resize", STATUS_INVALID},
    {"{\"image_processor_type\": \"SiglipImageProcessor\"}", "image_processor_type",
     STATUS_UNSUPPORTED},
    {"{\"feature_extractor_type\": \"ViTFeatureExtractor\"}", "feature_extractor_type",
     STATUS_UNSUPPORTED},
    {"{\"size\": 0}", "size", STATUS_INVALID},
    {"{\"size\": -224}", "size", STATUS_INVALID},
    {"{\"size\": 224.5}", "size", STATUS_INVALID},
    {"{\"size\": 100000}", "size", STATUS_INVALID},
    {"{\"size\": \"224\"}", "size", STATUS_INVALID},
    {"{\"size\": {\"height\": 224, \"width\": 224}}", "size", STATUS_UNSUPPORTED},
    {"{\"size\": {\"shortest_edge\": 224, \"longest_edge\": 300}}", "size", STATUS_UNSUPPORTED},
    {"{\"size\": {\"shortest_edge\": null}}", "size", STATUS_UNSUPPORTED},
    {"{\"size\": 256}", "crop_size", STATUS_UNSUPPORTED},
    {"{\"size\": 336, \"crop_size\": 336}", "size", STATUS_INVALID}, // the model takes 224
    {"{\"crop_size\": {\"height\": 224}}", "crop_size", STATUS_INVALID},
    {"{\"crop_size\": {\"height\": 224, \"width\": 200}}", "crop_size", STATUS_UNSUPPORTED},
    {"{\"crop_size\": true}", "crop_size", STATUS_INVALID},
    {"{\"rescale_factor\": 0}", "rescale_factor", STATUS_INVALID},
    {"{\"rescale_factor\": -1}", "rescale_factor", STATUS_INVALID},
    {"{\"rescale_factor\": 255}", "rescale_factor", STATUS_INVALID},
    {"{\"rescale_factor\": \"1/255\"}", "rescale_factor", STATUS_INVALID},
    {"{\"image_mean\": 0.5}", "image_mean", STATUS_INVALID},
    {"{\"image_mean\": [0.5, 0.5]}", "image_mean", STATUS_INVALID},
    {"{\"image_mean\": [0.5, 0.5, 1e300]}", "image_mean", STATUS_INVALID},
    {"{\"image_mean\": [0.5, 0.5, null]}", "image_mean", STATUS_INVALID},
    {"{\"image_std\": [0.5, 0.5, 0]}", "image_std", STATUS_INVALID},
    {"{\"image_std\": [0.5, 0.5, -1]}", "image_std", STATUS_INVALID},
    {"{\"image_std\": [0.5, 0.5, 1e-300]}", "image_std", STATUS_INVALID},
};

Test(image_params, refuses_what_it_does_not_do_and_names_the_key)
{
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct image_params params = {.size = 77};
        struct reason why = {0};
        cr_expect(eq(int, parse(bad[i].text, &params, &why), bad[i].status), "%s", bad[i].text);
        cr_expect(ne(ptr, strstr(why.field, bad[i].field), NULL), "%s: %s", bad[i].text, why.field);
        cr_expect(gt(sz, strlen(why.text), 0), "%s", bad[i].text);
        cr_expect(eq(u32, params.size, 77)); // unchanged
    }
}

Test(image_params, refuses_a_file_that_is_too_large)
{
    static char text[IMAGE_CONFIG_BYTES_MAX + 2];
    memset(text, ' ', IMAGE_CONFIG_BYTES_MAX + 1);
    struct image_params params = {0};
    struct reason why = {0};
    cr_expect(eq(int, parse(text, &params, &why), STATUS_INVALID));
}

Test(image_params, profiles_have_names)
{
    cr_expect_str_eq(image_profile_name(IMAGE_PROFILE_RECO), "reco");
    cr_expect_str_eq(image_profile_name(IMAGE_PROFILE_HF), "hf");
    cr_expect_str_eq(image_profile_name(IMAGE_PROFILE_OPENAI), "openai");
}
