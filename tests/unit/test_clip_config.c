// SPDX-License-Identifier: Apache-2.0
// Goal: config.json is understood as Hugging Face's library understands it, except that
// the activation must be written in it; and what cannot be right is refused by name.
//
// Method: small documents; each key absent, at its bounds and beyond.

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shaders/models/clip_config.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define BOTH                                                                                       \
    "\"text_config\":{\"hidden_act\":\"quick_gelu\"},"                                             \
    "\"vision_config\":{\"hidden_act\":\"quick_gelu\"}"

// Whether `text` holds `part`.
static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

static enum status parse(const char *text, struct clip_config *config, struct reason *why)
{
    struct json *document = NULL;
    cr_assert(eq(int, json_parse(text, strlen(text), &document, why), STATUS_OK), "%s: %s", text,
              why->text);
    enum status status = clip_config_parse(document, config, why);
    json_destroy(&document);
    return status;
}

static struct clip_config parse_right(const char *text)
{
    struct clip_config config = {0};
    struct reason why = {0};
    cr_assert(eq(int, parse(text, &config, &why), STATUS_OK), "%s: %s", text, why.text);
    return config;
}

Test(clip_config, missing_keys_have_hugging_face_s_defaults)
{
    struct clip_config config = parse_right("{" BOTH "}");
    cr_expect(eq(u32, config.dimension, 512));
    cr_expect(eq(u32, config.text.width, 512));
    cr_expect(eq(u32, config.text.mlp, 2048));
    cr_expect(eq(u32, config.text.layers, 12));
    cr_expect(eq(u32, config.text.heads, 8));
    cr_expect(eq(flt, config.text.epsilon, 1e-5f));
    cr_expect(eq(u32, config.vocabulary, 49408));
    cr_expect(eq(u32, config.context, 77));
    cr_expect(eq(u32, config.end_token, 49407));
    cr_expect(eq(u32, config.image.width, 768));
    cr_expect(eq(u32, config.image.mlp, 3072));
    cr_expect(eq(u32, config.image.layers, 12));
    cr_expect(eq(u32, config.image.heads, 12));
    cr_expect(eq(flt, config.image.epsilon, 1e-5f));
    cr_expect(eq(u32, config.image_size, 224));
    cr_expect(eq(u32, config.patch_size, 32));
    cr_expect(eq(u32, clip_config_image_tokens(&config), 50));
}

Test(clip_config, every_key_is_read_and_a_null_is_an_absent_one)
{
    struct clip_config config = parse_right(
        "{\"model_type\":\"clip\",\"projection_dim\":768,\"text_config\":{\"hidden_size\":768,"
        "\"intermediate_size\":3071,\"num_hidden_layers\":3,\"num_attention_heads\":12,"
        "\"hidden_act\":\"gelu\",\"layer_norm_eps\":1e-6,\"vocab_size\":1000,"
        "\"max_position_embeddings\":33,\"eos_token_id\":2,\"something\":[1]},\"vision_config\":{"
        "\"hidden_size\":1024,\"intermediate_size\":4097,\"num_hidden_layers\":null,"
        "\"num_attention_heads\":16,\"hidden_act\":\"quick_gelu\",\"layer_norm_eps\":0.0625,"
        "\"image_size\":336,\"patch_size\":14,\"num_channels\":3}}");
    cr_expect(eq(u32, config.dimension, 768));
    cr_expect(eq(u32, config.text.width, 768));
    cr_expect(eq(u32, config.text.mlp, 3071));
    cr_expect(eq(u32, config.text.layers, 3));
    cr_expect(eq(u32, config.text.heads, 12));
    cr_expect(eq(int, config.text.activation, CLIP_GELU));
    cr_expect(eq(flt, config.text.epsilon, 1e-6f));
    cr_expect(eq(u32, config.vocabulary, 1000));
    cr_expect(eq(u32, config.context, 33));
    cr_expect(eq(u32, config.end_token, 2));
    cr_expect(eq(u32, config.image.width, 1024));
    cr_expect(eq(u32, config.image.mlp, 4097));
    cr_expect(eq(u32, config.image.layers, 12));
    cr_expect(eq(u32, config.image.heads, 16));
    cr_expect(eq(int, config.image.activation, CLIP_QUICK_GELU));
    cr_expect(eq(flt, config.image.epsilon, 0.0625f));
    cr_expect(eq(u32, config.image_size, 336));
    cr_expect(eq(u32, config.patch_size, 14));
    cr_expect(eq(u32, clip_config_image_tokens(&config), 577));
}

Test(clip_config, an_activation_that_is_missing_or_unknown_is_an_error_that_names_both)
{
    static const struct {
        const char *text;
        const char *key;
    } cases[] = {
        {"{}", "text_config.hidden_act"},
        {"{\"text_config\":{},\"vision_config\":{}}", "text_config.hidden_act"},
        {"{\"text_config\":null,\"vision_config\":null}", "text_config.hidden_act"},
        {"{\"text_config\":{\"hidden_act\":\"gelu\"}}", "vision_config.hidden_act"},
        {"{\"vision_config\":{\"hidden_act\":\"gelu\"}}", "text_config.hidden_act"},
        {"{\"hidden_act\":\"gelu\"}", "text_config.hidden_act"},
        {"{\"text_config\":{\"hidden_act\":null},\"vision_config\":{\"hidden_act\":\"gelu\"}}",
         "text_config.hidden_act"},
        {"{\"text_config\":{\"hidden_act\":\"relu\"},\"vision_config\":{\"hidden_act\":\"gelu\"}}",
         "text_config.hidden_act is 'relu'"},
        {"{\"text_config\":{\"hidden_act\":\"\"},\"vision_config\":{\"hidden_act\":\"gelu\"}}",
         "text_config.hidden_act"},
        {"{\"text_config\":{\"hidden_act\":1},\"vision_config\":{\"hidden_act\":\"gelu\"}}",
         "text_config.hidden_act"},
        {"{\"text_config\":{\"hidden_act\":\"GELU\"},\"vision_config\":{\"hidden_act\":\"gelu\"}}",
         "'GELU'"},
        {"{\"text_config\":{\"hidden_act\":\"gelu\"},"
         "\"vision_config\":{\"hidden_act\":\"gelu_new\"}}",
         "vision_config.hidden_act is 'gelu_new'"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct clip_config config = {.dimension = 77};
        struct reason why = {0};
        cr_expect(eq(int, parse(cases[i].text, &config, &why), STATUS_INVALID), "%s",
                  cases[i].text);
        cr_expect(has(why.text, cases[i].key), "%s: %s", cases[i].text, why.text);
        cr_expect(has(why.text, "\"quick_gelu\"") && has(why.text, "\"gelu\""), "%s: %s",
                  cases[i].text, why.text);
        cr_expect(eq(u32, config.dimension, 77)); // unchanged
    }
}

Test(clip_config, both_forms_of_a_section_count_and_must_agree)
{
    struct clip_config config = parse_right(
        "{\"text_config_dict\":{\"hidden_act\":\"gelu\",\"hidden_size\":768},"
        "\"text_config\":{\"num_attention_heads\":12,\"hidden_size\":768,\"hidden_act\":\"gelu\"},"
        "\"vision_config_dict\":{\"hidden_act\":\"quick_gelu\"},\"vision_config\":null}");
    cr_expect(eq(u32, config.text.width, 768));
    cr_expect(eq(u32, config.text.heads, 12));
    cr_expect(eq(int, config.text.activation, CLIP_GELU));
    cr_expect(eq(int, config.image.activation, CLIP_QUICK_GELU));

    static const char *const wrong[] = {
        "{" BOTH ",\"text_config_dict\":{\"hidden_act\":\"gelu\"}}",
        "{\"text_config\":{\"hidden_act\":\"gelu\",\"hidden_size\":64},"
        "\"text_config_dict\":{\"hidden_size\":128}}",
        "{\"text_config\":{\"hidden_act\":\"gelu\",\"hidden_size\":64},"
        "\"text_config_dict\":{\"hidden_size\":\"64\"}}",
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct reason why = {0};
        cr_expect(eq(int, parse(wrong[i], &config, &why), STATUS_INVALID));
        cr_expect(has(why.text, "differs"), "%s", why.text);
    }
}

struct bound {
    const char *section; // "" for the top
    const char *key;
    long long min;
    long long max;
    const char *with; // what must be there too for a bound to be possible
};

// Each key at its bounds and one beyond, with what else must fit.
static const struct bound bounds[] = {
    {"", "projection_dim", 1, 4096, ""},
    {"text_config", "hidden_size", 1, 8192, "\"num_attention_heads\":1,"},
    {"text_config", "intermediate_size", 1, 32768, ""},
    {"text_config", "num_hidden_layers", 1, 128, ""},
    {"text_config", "num_attention_heads", 1, 128, ""},
    {"text_config", "vocab_size", 2, 1048576, ""},
    {"text_config", "max_position_embeddings", 2, 1024, ""},
    {"text_config", "eos_token_id", 0, 1048575, ""},
    {"vision_config", "hidden_size", 1, 8192, "\"num_attention_heads\":1,"},
    {"vision_config", "intermediate_size", 1, 32768, ""},
    {"vision_config", "image_size", 1, 1024, "\"patch_size\":%lld,"},
    {"vision_config", "patch_size", 4, 128, ""},
    {"vision_config", "num_channels", 3, 3, ""},
};

static enum status parse_with(const struct bound *bound, const char *value, long long number,
                              struct reason *why)
{
    char with[64];
    char text[512];
    struct clip_config config = {0};
    (void)snprintf(with, sizeof(with), "%s", bound->with);
    if (has(bound->with, "%"))
        (void)snprintf(with, sizeof(with), "\"patch_size\":%d,", number > 128 ? 128 : 1);
    bool top = bound->section[0] == '\0';
    bool is_text = strcmp(bound->section, "text_config") == 0;
    (void)snprintf(text, sizeof(text),
                   "{%s%s%s%s\"text_config\":{%s%s%s%s%s%s\"hidden_act\":\"gelu\"},"
                   "\"vision_config\":{%s%s%s%s%s%s\"hidden_act\":\"gelu\"}}",
                   top ? "\"projection_dim\":" : "", top ? value : "", top ? "," : "", "",
                   is_text ? with : "", is_text ? "\"" : "", is_text ? bound->key : "",
                   is_text ? "\":" : "", is_text ? value : "", is_text ? "," : "",
                   !top && !is_text ? with : "", !top && !is_text ? "\"" : "",
                   !top && !is_text ? bound->key : "", !top && !is_text ? "\":" : "",
                   !top && !is_text ? value : "", !top && !is_text ? "," : "");
    return parse(text, &config, why);
}

Test(clip_config, numbers_are_accepted_at_their_bounds_and_refused_beyond)
{
    static const char *const never[] = {
        "-1", "4294967296", "4294967299", "9223372036854775807", "1.5", "\"1\"", "[]", "{}", "true",
    };
    for (size_t i = 0; i < COUNT(bounds); i++) {
        const struct bound *bound = &bounds[i];
        const long long numbers[] = {bound->min, bound->max, bound->min - 1, bound->max + 1};
        for (size_t n = 0; n < COUNT(numbers); n++) {
            struct reason why = {0};
            char value[32];
            (void)snprintf(value, sizeof(value), "%lld", numbers[n]);
            enum status status = parse_with(bound, value, numbers[n], &why);
            cr_expect(eq(int, status, n < 2 ? STATUS_OK : STATUS_INVALID), "%s = %s: %s",
                      bound->key, value, why.text);
            cr_expect(n < 2 || has(why.text, bound->key) || has(why.text, "patch"), "%s = %s: %s",
                      bound->key, value, why.text);
        }
        for (size_t n = 0; n < COUNT(never); n++) {
            struct reason why = {0};
            cr_expect(eq(int, parse_with(bound, never[n], 0, &why), STATUS_INVALID), "%s = %s",
                      bound->key, never[n]);
            cr_expect(has(why.text, bound->key), "%s = %s: %s", bound->key, never[n], why.text);
        }
    }
}

Test(clip_config, shapes_that_do_not_fit_together_are_refused)
{
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"{\"text_config\":{\"hidden_act\":\"gelu\",\"num_attention_heads\":7}}",
         "num_attention_heads is 7, which does not divide hidden_size 512"},
        {"{\"text_config\":{\"hidden_act\":\"gelu\"},"
         "\"vision_config\":{\"hidden_act\":\"gelu\",\"image_size\":16}}",
         "patch_size 32 is larger than image_size 16"},
        {"{\"text_config\":{\"hidden_act\":\"gelu\"},"
         "\"vision_config\":{\"hidden_act\":\"gelu\",\"image_size\":1024,\"patch_size\":15}}",
         "make 4624 patches"},
        {"{\"text_config\":{\"hidden_act\":\"gelu\",\"layer_norm_eps\":0}}", "layer_norm_eps"},
        {"{\"text_config\":{\"hidden_act\":\"gelu\",\"layer_norm_eps\":-1e-5}}", "layer_norm_eps"},
        {"{\"text_config\":{\"hidden_act\":\"gelu\",\"layer_norm_eps\":\"1e-5\"}}",
         "layer_norm_eps"},
        {"{\"text_config\":{\"hidden_act\":\"gelu\",\"layer_norm_eps\":1e300}}", "layer_norm_eps"},
        {"{\"text_config\":{\"hidden_act\":\"gelu\",\"layer_norm_eps\":1e-300}}", "layer_norm_eps"},
        {"{\"text_config\":[]}", "text_config is not an object"},
        {"{\"text_config\":{\"hidden_act\":\"gelu\"},\"vision_config\":\"x\"}",
         "vision_config is not an object"},
        {"{\"text_config_dict\":7}", "text_config_dict is not an object"},
        {"[]", "not a JSON object"},
        {"7", "not a JSON object"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct clip_config config;
        struct reason why = {0};
        cr_expect(eq(int, parse(cases[i].text, &config, &why), STATUS_INVALID), "%s",
                  cases[i].text);
        cr_expect(has(why.text, cases[i].says), "%s: %s", cases[i].text, why.text);
        cr_expect(has(why.field, "config.json"));
    }
}

Test(clip_config, another_kind_of_model_is_not_supported_and_named)
{
    static const char *const kinds[] = {"\"siglip\"", "\"clip_text_model\"", "7", "null"};
    for (size_t i = 0; i < COUNT(kinds); i++) {
        char text[256];
        struct clip_config config;
        struct reason why = {0};
        (void)snprintf(text, sizeof(text), "{\"model_type\":%s," BOTH "}", kinds[i]);
        cr_expect(eq(int, parse(text, &config, &why), STATUS_UNSUPPORTED), "%s", kinds[i]);
        cr_expect(has(why.text, "only clip"), "%s", why.text);
    }
}
