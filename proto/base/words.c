// SPDX-License-Identifier: Apache-2.0
// words.c - nearness is Levenshtein's distance; the rest is plain.

#include "proto/base/words.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define NARROW_COLUMN 6 // of sentences that do not fit beside what they explain

// Levenshtein's distance with one row; words longer than the row count as far away.
static size_t distance(const char *a, const char *b)
{
    size_t a_bytes = strlen(a);
    size_t b_bytes = strlen(b);
    if (a_bytes >= WORDS_BYTES_MAX || b_bytes >= WORDS_BYTES_MAX)
        return WORDS_BYTES_MAX;

    size_t row[WORDS_BYTES_MAX + 1];
    for (size_t j = 0; j <= b_bytes; j++)
        row[j] = j;

    for (size_t i = 1; i <= a_bytes; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_bytes; j++) {
            size_t best = corner + (a[i - 1] == b[j - 1] ? 0 : 1);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            corner = row[j];
            row[j] = best;
        }
    }
    return row[b_bytes];
}

const char *words_nearest(const char *word, const char *const *names, size_t count)
{
    assert(word && (names || count == 0));

    size_t bytes = strlen(word);
    size_t limit = bytes / 3 > 2 ? bytes / 3 : 2;
    const char *best = NULL;

    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, names[i]);
        // A word that shares nothing with the name is no misspelling of it.
        if (d <= limit && d < strlen(names[i])) {
            limit = d == 0 ? 0 : d - 1;
            best = names[i];
            if (d == 0)
                break;
        }
    }
    return best;
}

bool words_read_count(const char *text, uint64_t low, uint64_t high, uint64_t *out)
{
    assert(text && out);

    char *end = NULL;
    errno = 0;
    unsigned long long value = isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
    if (!end || *end || errno || value < low || value > high)
        return false;
    *out = value;
    return true;
}

int words_place(const char *word, const char *choices)
{
    assert(word && choices);

    size_t bytes = strlen(word);
    int place = 0;
    for (const char *at = choices; at;) {
        size_t choice = strcspn(at, "|");
        if (choice == bytes && memcmp(at, word, bytes) == 0)
            return place;
        at = at[choice] ? at + choice + 1 : NULL;
        place++;
    }
    return -1;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n';
}

size_t words_piece(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (is_space(text[i]))
            return i;
        if (text[i] == ',' && i + 1 < bytes && strchr("\"{[", text[i + 1]))
            return i + 1;
    }
    return bytes;
}

size_t words_columns(FILE *file)
{
    struct winsize size = {.ws_col = 0};
    uint64_t columns = 0;
    const char *wanted = getenv("COLUMNS"); // NOLINT(concurrency-mt-unsafe): nobody sets it
    if (wanted && words_read_count(wanted, 1, UINT16_MAX, &columns))
        return (size_t)columns;
    const int fd = fileno(file);
    return fd >= 0 && isatty(fd) && ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

size_t words_width(FILE *file)
{
    const size_t columns = words_columns(file);
    if (columns == 0 || columns > WORDS_WIDTH)
        return WORDS_WIDTH;
    return columns < WORDS_WIDTH_MIN ? WORDS_WIDTH_MIN : columns;
}

void words_print(FILE *file, size_t width, const char *text, size_t bytes, const char *margin,
                 size_t column)
{
    assert(file && text && margin && strlen(margin) <= column);

    size_t at = column;
    bool space = false; // owed before the next piece
    for (size_t i = 0; i < bytes;) {
        size_t piece = words_piece(text + i, bytes - i);
        if (at > column && at + space + piece > width) {
            (void)fprintf(file, "\n%-*s", (int)column, margin);
            at = column;
        } else if (space && at > column) {
            (void)fputc(' ', file);
            at++;
        }
        (void)fwrite(text + i, 1, piece, file);
        at += piece;
        i += piece;
        space = i < bytes && is_space(text[i]);
        while (i < bytes && is_space(text[i]))
            i++;
    }
    (void)fputc('\n', file);
}

void words_print_entry(FILE *file, size_t width, const char *left, size_t column, const char *text)
{
    assert(file && left && text);

    if (2 * column >= width)
        column = NARROW_COLUMN;
    if (strlen(left) + 2 > column)
        (void)fprintf(file, "%s\n%*s", left, (int)column, "");
    else
        (void)fprintf(file, "%-*s", (int)column, left);
    words_print(file, width, text, strlen(text), "", column);
}
