// SPDX-License-Identifier: Apache-2.0
// What happens to a text before it is cut into words: decoding, character
// references, trimming, lower case. Each byte of the result carries the kind of
// its code point, so that cutting words needs no second look at Unicode.
//
// Runs of white space are not shortened: no word holds any, so that only the
// white space at the ends could matter (U+001C..U+001F are trimmed there, but
// elsewhere they are part of words, as in Python's str.strip and \s of regex).
//
// ASCII text without an ampersand, the common case, takes a short way.

#include <assert.h>
#include <stdlib.h>

#include <utf8proc.h>

#include "shaders/models/tokenizer_internal.h"

#define REPLACEMENT 0xFFFDu
#define CAPITAL_SIGMA 0x3A3u
#define FINAL_SIGMA 0x3C2u
#define CAPITAL_I_WITH_DOT 0x130u
#define DOT_ABOVE 0x307u
#define CODE_POINT_MAX 0x10FFFFu
#define ENTITY_NAME_MAX 32

// The property White_Space.
static bool is_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

static bool is_trimmed(uint32_t code)
{
    return is_space(code) || (code >= 0x1C && code <= 0x1F);
}

#define CATEGORY(name) (1u << UTF8PROC_CATEGORY_##name)
#define LETTERS (CATEGORY(LU) | CATEGORY(LL) | CATEGORY(LT) | CATEGORY(LM) | CATEGORY(LO))
#define NUMBERS (CATEGORY(ND) | CATEGORY(NL) | CATEGORY(NO))
#define WITH_CASE (CATEGORY(LU) | CATEGORY(LL) | CATEGORY(LT))
#define MODIFIERS (CATEGORY(MN) | CATEGORY(ME) | CATEGORY(CF) | CATEGORY(LM) | CATEGORY(SK))

static bool is_of(uint32_t code, uint32_t categories)
{
    return 1u << (unsigned)utf8proc_category((utf8proc_int32_t)code) & categories;
}

// U+0345 is the one mark whose case variant is a letter (iota); without regard to case
// it is then in no class of the expression, and no word holds it.
#define YPOGEGRAMMENI 0x345u

uint32_t tokenizer_fold(uint32_t code)
{
    uint32_t kind = is_space(code) || code == YPOGEGRAMMENI ? TOKENIZER_SPACE
                    : is_of(code, LETTERS)                  ? TOKENIZER_LETTER
                    : is_of(code, NUMBERS)                  ? TOKENIZER_NUMBER
                                                            : TOKENIZER_OTHER;
    return kind << 24 | (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
}

// --- UTF-8

static size_t put_utf8(uint8_t *out, uint32_t code)
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xC0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xE0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        out[2] = (uint8_t)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    out[3] = (uint8_t)(0x80 | (code & 0x3F));
    return 4;
}

// Reads a sequence that starts with a byte of 0x80 or more, and returns how many
// bytes it took: those of the code point, or of a maximal ill-formed subsequence.
static size_t get_utf8(const uint8_t *at, size_t left, uint32_t *code)
{
    uint8_t lead = at[0];
    *code = REPLACEMENT;
    if (lead < 0xC2 || lead > 0xF4)
        return 1;

    size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    uint32_t value = lead & (0x7Fu >> length);
    uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    for (size_t i = 1; i < length; i++) {
        if (i >= left || at[i] < low || at[i] > high)
            return i;
        value = value << 6 | (at[i] & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    *code = value;
    return length;
}

static size_t decode(struct text text, uint32_t *code, bool *ampersand)
{
    const uint8_t *at = (const uint8_t *)text.data;
    const uint8_t *end = at + text.bytes;
    size_t count = 0;
    while (at < end) {
        if (*at < 0x80) {
            *ampersand |= *at == '&';
            code[count++] = *at++;
        } else {
            at += get_utf8(at, (size_t)(end - at), &code[count++]);
        }
    }
    return count;
}

// --- HTML character references

// The code points for the numbers 0x80..0x9F, as windows-1252 has them.
static const uint16_t c1_codes[32] = {
    0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021, 0x2C6,  0x2030, 0x160,
    0x2039, 0x152,  0x8D,   0x17D,  0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E,  0x178,
};

// Writes what the reference of number `value` stands for: one code point or none.
static size_t put_number(uint32_t value, uint32_t *out)
{
    if (value == 0 || (value >= 0xD800 && value <= 0xDFFF) || value > CODE_POINT_MAX) {
        out[0] = REPLACEMENT;
        return 1;
    }
    if (value >= 0x80 && value <= 0x9F) {
        out[0] = c1_codes[value - 0x80];
        return 1;
    }
    bool dropped = value <= 8 || value == 0xB || (value >= 0xE && value <= 0x1F) || value == 0x7F ||
                   (value >= 0xFDD0 && value <= 0xFDEF) || (value & 0xFFFE) == 0xFFFE;
    if (dropped)
        return 0;
    out[0] = value;
    return 1;
}

static int digit_value(uint32_t code, uint32_t base)
{
    if (code >= '0' && code <= '9')
        return (int)(code - '0');
    if (base == 16 && code >= 'a' && code <= 'f')
        return (int)(code - 'a' + 10);
    if (base == 16 && code >= 'A' && code <= 'F')
        return (int)(code - 'A' + 10);
    return -1;
}

// Reads "#123;" or "#x1F;" at `code`; returns the code points read, 0 when it is neither.
static size_t unescape_number(const uint32_t *code, size_t count, uint32_t *out, size_t *written)
{
    size_t at = 1;
    uint32_t base = 10;
    if (at < count && (code[at] == 'x' || code[at] == 'X')) {
        base = 16;
        at++;
    }
    size_t digits = 0;
    uint32_t value = 0;
    for (; at < count && digit_value(code[at], base) >= 0; at++, digits++) {
        value = value * base + (uint32_t)digit_value(code[at], base);
        value = value > CODE_POINT_MAX ? CODE_POINT_MAX + 1 : value;
    }
    if (digits == 0)
        return 0;
    *written = put_number(value, out);
    return at < count && code[at] == ';' ? at + 1 : at;
}

static int compare_entity(const void *name, const void *entity)
{
    return strcmp(name, ((const struct tokenizer_entity *)entity)->name);
}

static const struct tokenizer_entity *find_entity(const char *name)
{
    return bsearch(name, tokenizer_entities, TOKENIZER_ENTITY_COUNT, sizeof(tokenizer_entities[0]),
                   compare_entity);
}

// Reads a name at `code`, the longest one that the standard knows; returns the
// code points read, 0 when there is none (the characters then stay).
static size_t unescape_name(const uint32_t *code, size_t count, uint32_t *out, size_t *written)
{
    char name[ENTITY_NAME_MAX + 2];
    size_t length = 0;
    while (length < count && length < ENTITY_NAME_MAX && code[length] > ' ' &&
           code[length] < 0x7F && code[length] != '<' && code[length] != '&' &&
           code[length] != '#' && code[length] != ';') {
        name[length] = (char)code[length];
        length++;
    }
    if (length < count && code[length] == ';')
        name[length++] = ';';

    for (; length > 1; length--) {
        name[length] = '\0';
        const struct tokenizer_entity *entity = find_entity(name);
        if (!entity)
            continue;
        out[0] = entity->first;
        out[1] = entity->second;
        *written = entity->second ? 2 : 1;
        return length;
    }
    return 0;
}

// Replaces HTML character references once and returns the new count. In place: a reference never
// has fewer code points than what it stands for (the shortest with two has five), so writing stays
// behind reading.
static size_t unescape(uint32_t *code, size_t count)
{
    size_t target = 0;
    size_t at = 0;
    while (at < count) {
        uint32_t found[2];
        size_t written = 0;
        size_t read = 0;
        if (code[at] == '&' && at + 1 < count) {
            const uint32_t *behind = code + at + 1;
            size_t left = count - at - 1;
            read = *behind == '#' ? unescape_number(behind, left, found, &written)
                                  : unescape_name(behind, left, found, &written);
        }
        if (read == 0) {
            code[target++] = code[at++];
            continue;
        }
        at += 1 + read;
        for (size_t i = 0; i < written; i++)
            code[target++] = found[i];
    }
    return target;
}

// --- lower case

// Characters that the rule for the final sigma looks through (Case_Ignorable):
// marks, modifiers, format characters, and the word-internal punctuation of Word_Break.
static bool is_case_ignorable(uint32_t code)
{
    static const uint16_t punctuation[] = {
        '\'',   '.',    ':',    0xB7,   0x387,  0x55F,  0x5F4,  0x2018, 0x2019,
        0x2024, 0x2027, 0xFE13, 0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A,
    };
    for (size_t i = 0; i < sizeof(punctuation) / sizeof(punctuation[0]); i++) {
        if (code == punctuation[i])
            return true;
    }
    return is_of(code, MODIFIERS);
}

// Cased, of those that are not Case_Ignorable.
static bool is_cased(uint32_t code)
{
    return is_of(code, WITH_CASE) || code == 0xAA || code == 0xBA ||
           (code >= 0x2160 && code <= 0x217F) || (code >= 0x24B6 && code <= 0x24E9) ||
           (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) ||
           (code >= 0x1F170 && code <= 0x1F189);
}

// Unicode's Final_Sigma: a cased letter before and none behind. Each scan ends at
// the next sigma at the latest, so that a text costs linear time.
static bool is_final_sigma(const uint32_t *code, size_t count, size_t at)
{
    size_t before = at;
    while (before > 0 && is_case_ignorable(code[before - 1]))
        before--;
    if (before == 0 || !is_cased(code[before - 1]))
        return false;
    size_t behind = at + 1;
    while (behind < count && is_case_ignorable(code[behind]))
        behind++;
    return behind == count || !is_cased(code[behind]);
}

// Writes one code point and its kind; returns the bytes written.
static size_t put_folded(uint8_t *bytes, uint8_t *kind, uint32_t folded)
{
    size_t length = put_utf8(bytes, folded & 0xFFFFFF);
    memset(kind, (int)(folded >> 24), length);
    return length;
}

static size_t lower(const struct tokenizer *tokenizer, const uint32_t *code, size_t count,
                    uint8_t *bytes, uint8_t *kind)
{
    size_t target = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t folded = code[i] < 0x10000 ? tokenizer->fold[code[i]] : tokenizer_fold(code[i]);
        if (code[i] == CAPITAL_SIGMA && is_final_sigma(code, count, i))
            folded = (uint32_t)TOKENIZER_LETTER << 24 | FINAL_SIGMA;
        if (code[i] == CAPITAL_I_WITH_DOT) {
            target +=
                put_folded(bytes + target, kind + target, (uint32_t)TOKENIZER_LETTER << 24 | 'i');
            folded = (uint32_t)TOKENIZER_OTHER << 24 | DOT_ABOVE;
        }
        target += put_folded(bytes + target, kind + target, folded);
    }
    return target;
}

// --- the whole

static bool is_plain(const uint8_t *data, size_t count)
{
    uint8_t high = 0;
    uint8_t ampersand = 0;
    for (size_t i = 0; i < count; i++) {
        high |= data[i];
        ampersand |= data[i] == '&';
    }
    return !(high & 0x80) && !ampersand;
}

static size_t clean_plain(const struct tokenizer *tokenizer, const uint8_t *data, size_t count,
                          struct tokenizer_scratch *scratch)
{
    while (count > 0 && is_trimmed(data[count - 1]))
        count--;
    while (count > 0 && is_trimmed(data[0])) {
        data++;
        count--;
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t folded = tokenizer->fold[data[i]];
        scratch->bytes[i] = (uint8_t)folded;
        scratch->kind[i] = (uint8_t)(folded >> 24);
    }
    return count;
}

size_t tokenizer_clean(const struct tokenizer *tokenizer, struct text text,
                       struct tokenizer_scratch *scratch)
{
    const uint8_t *data = (const uint8_t *)text.data;
    size_t count;
    if (is_plain(data, text.bytes)) {
        count = clean_plain(tokenizer, data, text.bytes, scratch);
    } else {
        bool ampersand = false;
        const uint32_t *code = scratch->code;
        size_t codes = decode(text, scratch->code, &ampersand);
        if (ampersand)
            codes = unescape(scratch->code, unescape(scratch->code, codes));
        while (codes > 0 && is_trimmed(code[codes - 1]))
            codes--;
        while (codes > 0 && is_trimmed(code[0])) {
            code++;
            codes--;
        }
        count = lower(tokenizer, code, codes, scratch->bytes, scratch->kind);
    }
    assert(count <= 3 * text.bytes);
    memset(scratch->bytes + count, 0, TOKENIZER_PAD);
    scratch->kind[count] = TOKENIZER_SPACE;
    return count;
}
