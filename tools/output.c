// SPDX-License-Identifier: Apache-2.0
// Widths are counted in code points: good enough for the Latin, Greek and
// Cyrillic of captions; wide scripts only shift a column.

#include "tools/output.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"
#include "proto/base/words.h"

#define ITEM_BYTES_MAX ((size_t)1000) // of an item's name; the path of a file is seldom longer

#define PROGRESS_EVERY_US 200000
#define CELL_BYTES 1024
#define LAST_WIDTH_MIN 12 // a column cut to less says nothing

static struct {
    const char *verb;
    bool quiet;
    bool verbose;
    bool colour;
    bool progress_shown; // a progress line stands on the terminal
} output = {.verb = ""};

void output_begin(const char *verb, bool quiet, bool verbose)
{
    // Read before any thread is started.
    const char *term = getenv("TERM");          // NOLINT(concurrency-mt-unsafe)
    const char *no_colour = getenv("NO_COLOR"); // NOLINT(concurrency-mt-unsafe)
    output.verb = verb;
    output.quiet = quiet;
    output.verbose = verbose;
    output.colour =
        isatty(STDOUT_FILENO) && !(no_colour && no_colour[0]) && !(term && !strcmp(term, "dumb"));
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

// Writes with '?' for control characters, also those of C1, which are two bytes in UTF-8, and
// for bytes that are not UTF-8.
static void put_clean(const char *text, size_t bytes, FILE *file)
{
    for (size_t i = 0; i < bytes;) {
        size_t step = bytes_utf8_step(text + i, bytes - i);
        bool c1 = step == 2 && (unsigned char)text[i] == 0xc2 && (unsigned char)text[i + 1] < 0xa0;
        if (!step || c1 || is_control(text[i]))
            (void)fputc('?', file);
        else
            (void)fwrite(text + i, 1, step, file);
        i += step ? step : 1;
    }
}

static void clear_progress(void)
{
    if (output.progress_shown)
        (void)fputs("\r\033[K", stderr);
    output.progress_shown = false;
}

static void put_prefix(void)
{
    clear_progress();
    (void)fputs("reco", stderr);
    if (output.verb[0])
        (void)fprintf(stderr, " %s", output.verb);
    (void)fputs(": ", stderr);
}

void output_error(const char *item, const struct reason *why)
{
    (void)fflush(stdout);
    put_prefix();
    if (item && item[0]) {
        size_t bytes = strnlen(item, ITEM_BYTES_MAX + 1);
        put_clean(item, bytes > ITEM_BYTES_MAX ? ITEM_BYTES_MAX : bytes, stderr);
        (void)fputs(bytes > ITEM_BYTES_MAX ? "...: " : ": ", stderr);
    }
    if (why && why->field[0]) {
        put_clean(why->field, strlen(why->field), stderr);
        (void)fputs(": ", stderr);
    }
    const char *text = why && why->text[0] ? why->text : "failed";
    put_clean(text, strlen(text), stderr);
    (void)fputc('\n', stderr);
}

static void put_remark(const char *format, va_list arguments) PRINTF_LIKE(1, 0);

static void put_remark(const char *format, va_list arguments)
{
    char text[1024];
    (void)vsnprintf(text, sizeof(text), format, arguments);
    put_prefix();
    put_clean(text, strlen(text), stderr);
    (void)fputc('\n', stderr);
}

void output_note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (!output.quiet)
        put_remark(format, arguments);
    va_end(arguments);
}

void output_step(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (output.verbose)
        put_remark(format, arguments);
    va_end(arguments);
}

int output_exit(enum status status)
{
    int code = status_grpc_code(status);
    if (status == STATUS_OK)
        return 0;
    return code == status_grpc_code(STATUS_UNAVAILABLE) || code == status_grpc_code(STATUS_DEADLINE)
               ? 3
               : 1;
}

bool output_stdout_failed(const char *cause)
{
    struct pollfd reader = {.fd = STDOUT_FILENO};
    struct reason why = {.text = ""};
    if (poll(&reader, 1, 0) == 1 && reader.revents & (POLLERR | POLLHUP))
        return true;
    (void)reason_set(&why, STATUS_IO, "stdout", "cannot be written: %s", cause);
    output_error(NULL, &why);
    return false;
}

enum status output_make_folder(const char *folder, struct reason *why)
{
    struct stat there;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return reason_set(why, STATUS_IO, folder, "cannot be made: %s", SYSTEM_ERROR(errno));
    if (stat(folder, &there) == 0 && !S_ISDIR(there.st_mode))
        return reason_set(why, STATUS_INVALID, "--out", "'%s' is a file; a folder is allowed",
                          folder);
    return STATUS_OK;
}

enum status output_check_file(const char *flag, const char *path, struct reason *why)
{
    if (!bytes_try_replace(path))
        return STATUS_OK;
    return reason_set(why, STATUS_IO, flag,
                      "'%s' cannot be written: %s; a file in a folder that may be written to is "
                      "allowed",
                      path, SYSTEM_ERROR(errno));
}

void output_text(struct text text)
{
    put_clean(text.data, text.bytes, stdout);
}

const char *output_bytes(uint64_t bytes, char out[OUTPUT_FIGURE_BYTES])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 999.95 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1000;
        unit++;
    }
    (void)snprintf(out, OUTPUT_FIGURE_BYTES, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

const char *output_count(uint64_t count, char out[OUTPUT_FIGURE_BYTES])
{
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%" PRIu64, count);
    size_t used = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = 0;
    return out;
}

const char *output_seconds(double seconds, char out[OUTPUT_FIGURE_BYTES])
{
    if (seconds < 60) {
        (void)snprintf(out, OUTPUT_FIGURE_BYTES, seconds < 10 ? "%.1f s" : "%.0f s", seconds);
        return out;
    }
    uint64_t whole = (uint64_t)seconds;
    if (whole < 3600)
        (void)snprintf(out, OUTPUT_FIGURE_BYTES, "%" PRIu64 " min %" PRIu64 " s", whole / 60,
                       whole % 60);
    else
        (void)snprintf(out, OUTPUT_FIGURE_BYTES, "%" PRIu64 " h %" PRIu64 " min", whole / 3600,
                       whole / 60 % 60);
    return out;
}

const char *output_bold(void)
{
    return output.colour ? "\033[1m" : "";
}

const char *output_plain(void)
{
    return output.colour ? "\033[0m" : "";
}

// --- table

static void add_cell(struct output_table *table, const char *text, size_t bytes)
{
    char *cell = mem_alloc(bytes + 1);
    memcpy(cell, text, bytes);
    table->cells = mem_grow(table->cells, table->count + 1, sizeof(table->cells[0]));
    table->cells[table->count++] = cell;
}

void output_table_begin(struct output_table *table, const char *const *header, size_t columns)
{
    assert(columns > 0 && columns <= OUTPUT_COLUMNS_MAX);

    *table = (struct output_table){.columns = columns};
    for (size_t i = 0; i < columns; i++) {
        table->right[i] = header[i][0] == '>';
        const char *name = header[i] + (table->right[i] ? 1 : 0);
        add_cell(table, name, strlen(name));
    }
}

void output_cell(struct output_table *table, const char *format, ...)
{
    char text[CELL_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    add_cell(table, text, strlen(text));
}

void output_cell_text(struct output_table *table, struct text text)
{
    add_cell(table, text.data ? text.data : "", text.bytes);
}

static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

// Bytes of the first `width` code points.
static size_t bytes_of_width(const char *text, size_t width)
{
    size_t bytes = 0;
    while (text[bytes] && (width > 0 || ((unsigned char)text[bytes] & 0xc0) == 0x80))
        width -= ((unsigned char)text[bytes++] & 0xc0) != 0x80 ? 1 : 0;
    return bytes;
}

// One line for each cell, as "HEADER  VALUE", an empty one between rows: for a terminal that is too
// narrow for the columns.
static void print_upright(const struct output_table *table, int indent)
{
    size_t widest = 0;
    for (size_t i = 0; i < table->columns; i++) {
        const size_t width = width_of(table->cells[i]);
        widest = width > widest ? width : widest;
    }
    for (size_t i = table->columns; i < table->count; i++) {
        const char *header = table->cells[i % table->columns];
        if (i % table->columns == 0 && i > table->columns)
            putchar('\n');
        if (!table->cells[i][0])
            continue;
        printf("%*s%s%s%s%*s", indent, "", output_bold(), header, output_plain(),
               (int)(widest - width_of(header)) + 2, "");
        put_clean(table->cells[i], strlen(table->cells[i]), stdout);
        putchar('\n');
    }
}

// One row of print_rows().
static void print_row(const struct output_table *table, size_t first, const size_t *widths,
                      size_t last_width)
{
    int blanks = 0; // owed before the next cell that says something
    for (size_t column = 0; column < table->columns; column++) {
        const char *cell = table->cells[first + column];
        const size_t width = width_of(cell);
        const int gap = (int)(widths[column] - width);
        const bool cut = column + 1 == table->columns && last_width > 0 && width > last_width;
        if (cell[0]) {
            printf("%*s", blanks + (table->right[column] ? gap : 0), "");
            put_clean(cell, cut ? bytes_of_width(cell, last_width - 3) : strlen(cell), stdout);
            printf("%s", cut ? "..." : "");
            blanks = table->right[column] ? 0 : gap;
        } else {
            blanks += gap;
        }
        blanks += widths[column] > 0 ? 2 : 0;
    }
}

// The last column is cut after `last_width`, 0: nowhere. Columns without a single letter are left
// out, and no line ends with blanks.
static void print_rows(const struct output_table *table, const size_t *widths, size_t last_width,
                       int indent)
{
    for (size_t first = 0; first < table->count; first += table->columns) {
        printf("%*s%s", indent, "", first == 0 ? output_bold() : "");
        print_row(table, first, widths, last_width);
        printf("%s\n", first == 0 ? output_plain() : "");
    }
}

void output_table_end(struct output_table *table, int indent)
{
    size_t widths[OUTPUT_COLUMNS_MAX] = {0};
    for (size_t i = 0; i < table->count; i++) {
        size_t width = width_of(table->cells[i]);
        size_t column = i % table->columns;
        widths[column] = width > widths[column] ? width : widths[column];
    }

    // What goes to a file or another program stays whole.
    const size_t room = isatty(STDOUT_FILENO) ? words_columns(stdout) : 0;
    size_t before = (size_t)indent;
    for (size_t i = 0; i + 1 < table->columns; i++)
        before += widths[i] > 0 ? widths[i] + 2 : 0;
    const size_t last = widths[table->columns - 1];
    if (room == 0 || before + last <= room)
        print_rows(table, widths, 0, indent);
    else if (before + LAST_WIDTH_MIN <= room && !table->right[table->columns - 1])
        print_rows(table, widths, room - before, indent);
    else
        print_upright(table, indent);

    for (size_t i = 0; i < table->count; i++)
        mem_free(table->cells[i]);
    mem_free(table->cells);
    *table = (struct output_table){0};
}

// --- progress

void output_progress_begin(struct output_progress *progress, const char *what, uint64_t total)
{
    *progress = (struct output_progress){
        .what = what,
        .total = total,
        .start_us = clock_now_us(),
        .visible = !output.quiet && isatty(STDERR_FILENO),
    };
}

void output_progress_update(struct output_progress *progress, uint64_t done, uint64_t failed)
{
    int64_t now = clock_now_us();
    if (!progress->visible || now - progress->shown_us < PROGRESS_EVERY_US)
        return;
    progress->shown_us = now;

    double seconds = (double)(now - progress->start_us) / 1e6;
    double rate = seconds > 0 ? (double)(done - progress->first) / seconds : 0;
    char count[OUTPUT_FIGURE_BYTES];
    char total[OUTPUT_FIGURE_BYTES];
    char left[OUTPUT_FIGURE_BYTES];
    (void)fprintf(stderr, "\r\033[K%s", output_count(done, count));
    if (progress->total)
        (void)fprintf(stderr, " of %s", output_count(progress->total, total));
    (void)fprintf(stderr, " %s, %.0f a second", progress->what, rate);
    if (progress->total > done && rate > 0)
        (void)fprintf(stderr, ", %s left",
                      output_seconds((double)(progress->total - done) / rate, left));
    if (failed)
        (void)fprintf(stderr, ", %s failed", output_count(failed, count));
    (void)fputs(progress->tail, stderr);
    (void)fflush(stderr);
    output.progress_shown = true;
}

void output_progress_end(struct output_progress *progress)
{
    (void)progress;
    clear_progress();
}
