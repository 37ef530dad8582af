// SPDX-License-Identifier: Apache-2.0
// Measures the tokenizer, one pass over a set of texts for each line of its input, so that
// another program can take turns with it (peers_tokenizer.py does).
//
// usage: tokenizer_bench VOCAB_JSON MERGES_TXT CONTEXT TEXTS
//
// TEXTS holds the texts, each followed by a byte 0. Prints "ready COUNT", then for each line
// read from stdin "NANOSECONDS IDS", the time of the pass and the number of ids it made.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/mem.h"
#include "shaders/models/tokenizer.h"

#define TEXTS_BYTES_MAX (256u << 20)

struct bench {
    struct tokenizer *tokenizer;
    struct text *texts;
    size_t count;
    uint32_t *ids;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct buffer read_file(const char *path, size_t bytes_max)
{
    struct buffer file = {0};
    if (bytes_read_file(path, bytes_max, &file) != STATUS_OK) {
        (void)fprintf(stderr, "tokenizer_bench: cannot read %s\n", path);
        _Exit(1);
    }
    return file;
}

static void open_tokenizer(struct bench *bench, char **argv)
{
    struct buffer vocab = read_file(argv[1], TOKENIZER_FILE_BYTES_MAX);
    struct buffer merges = read_file(argv[2], TOKENIZER_FILE_BYTES_MAX);
    struct reason why = {0};
    uint32_t context = (uint32_t)strtoul(argv[3], NULL, 10);
    if (tokenizer_open((struct bytes){vocab.data, vocab.count},
                       (struct bytes){merges.data, merges.count}, context, &bench->tokenizer,
                       &why) != STATUS_OK) {
        (void)fprintf(stderr, "tokenizer_bench: %s: %s\n", why.field, why.text);
        _Exit(1);
    }
    bench->ids = mem_alloc_array(context, sizeof(*bench->ids));
    buffer_deinit(&vocab);
    buffer_deinit(&merges);
}

static void split_texts(struct bench *bench, const struct buffer *file)
{
    for (size_t i = 0; i < file->count; i++)
        bench->count += file->data[i] == 0;
    bench->texts = mem_alloc_array(bench->count + 1, sizeof(*bench->texts));
    const char *at = (const char *)file->data;
    for (size_t i = 0; i < bench->count; i++) {
        bench->texts[i] = text_of(at);
        at += bench->texts[i].bytes + 1;
    }
}

static size_t pass(const struct bench *bench)
{
    size_t total = 0;
    for (size_t i = 0; i < bench->count; i++) {
        uint32_t count = 0;
        struct reason why = {0};
        if (tokenizer_encode(bench->tokenizer, bench->texts[i], bench->ids, &count, &why) !=
            STATUS_OK) {
            (void)fprintf(stderr, "tokenizer_bench: text %zu: %s\n", i, why.text);
            _Exit(1);
        }
        total += count;
    }
    return total;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        (void)fprintf(stderr, "usage: %s VOCAB_JSON MERGES_TXT CONTEXT TEXTS\n", argv[0]);
        return 2;
    }
    struct bench bench = {0};
    open_tokenizer(&bench, argv);
    struct buffer file = read_file(argv[4], TEXTS_BYTES_MAX);
    split_texts(&bench, &file);
    (void)printf("ready %zu\n", bench.count);
    (void)fflush(stdout);

    char line[64];
    while (fgets(line, sizeof(line), stdin)) {
        uint64_t start = now_ns();
        size_t ids = pass(&bench);
        uint64_t end = now_ns();
        (void)printf("%llu %zu\n", (unsigned long long)(end - start), ids);
        (void)fflush(stdout);
    }
    mem_free(bench.ids);
    mem_free(bench.texts);
    buffer_deinit(&file);
    tokenizer_close(&bench.tokenizer);
    return 0;
}
