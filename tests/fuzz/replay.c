// SPDX-License-Identifier: Apache-2.0
// Goal: what fuzzing found stays found, in every build and without libFuzzer.
//
// Method: feeds every file of a corpus folder to LLVMFuzzerTestOneInput as it is,
// cut short at places spread over it, and with bits flipped. The flips come from a
// fixed seed, which is printed, and the name of each file is printed before it runs.
//
// usage: replay_NAME FOLDER

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEED 20240229u
#define FILES_MAX 1000
#define FILE_BYTES_MAX (4u << 20)
#define CUTS 48
#define FLIPS 48
#define FLIPPED_BITS_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t random_next(uint64_t *state)
{
    // splitmix64 (Steele, Lea, Flood 2014)
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static void fail(const char *what, const char *path)
{
    (void)fprintf(stderr, "replay: %s: %s\n", what, path);
    exit(1);
}

// Runs a copy of exactly `size` bytes, so that a sanitizer sees reads behind its end.
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (!copy)
        fail("out of memory", "copy");
    memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail("cannot open", path);
    uint8_t *data = malloc(FILE_BYTES_MAX);
    if (!data)
        fail("out of memory", path);
    *size = fread(data, 1, FILE_BYTES_MAX, file);
    if (ferror(file) || (*size == FILE_BYTES_MAX && fgetc(file) != EOF))
        fail("cannot read, or larger than 4 MiB", path);
    (void)fclose(file);
    return data;
}

static void replay(const char *path, uint64_t *random)
{
    size_t size = 0;
    uint8_t *data = read_file(path, &size);
    run(data, size);

    for (size_t i = 0; i < CUTS && i < size; i++)
        run(data,
            size < CUTS ? i : i * size / CUTS + (size_t)(random_next(random) % (size / CUTS)));

    for (size_t i = 0; i < FLIPS && size > 0; i++) {
        uint8_t *copy = malloc(size);
        if (!copy)
            fail("out of memory", path);
        memcpy(copy, data, size);
        size_t bits = 1 + (size_t)(random_next(random) % FLIPPED_BITS_MAX);
        // Half of the rounds hurt the head, where the formats keep their structure.
        size_t range = i % 2 == 0 || size < 64 ? size : 64;
        for (size_t bit = 0; bit < bits; bit++) {
            uint64_t where = random_next(random);
            copy[where % range] ^= (uint8_t)(1u << (where >> 61));
        }
        run(copy, size);
        free(copy);
    }
    free(data);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    DIR *folder = opendir(argv[1]);
    if (!folder)
        fail("cannot open the folder", argv[1]);

    // Sorted, so that each run does the same whatever the file system's order is.
    char *names[FILES_MAX];
    size_t count = 0;
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        if (entry->d_name[0] == '.')
            continue;
        if (count == FILES_MAX)
            fail("more than 1000 files", argv[1]);
        names[count] = strdup(entry->d_name);
        if (!names[count++])
            fail("out of memory", argv[1]);
    }
    (void)closedir(folder);
    if (count == 0)
        fail("no file in the folder", argv[1]);
    qsort(names, count, sizeof(names[0]), compare_names);

    (void)printf("seed %u, %zu files\n", SEED, count);
    uint64_t random = SEED;
    for (size_t i = 0; i < count; i++) {
        char path[4096];
        if (snprintf(path, sizeof(path), "%s/%s", argv[1], names[i]) >= (int)sizeof(path))
            fail("name too long", names[i]);
        (void)printf("%s\n", names[i]);
        (void)fflush(stdout);
        replay(path, &random);
        free(names[i]);
    }
    (void)printf("done\n");
    return 0;
}
