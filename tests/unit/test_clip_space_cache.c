// SPDX-License-Identifier: Apache-2.0
// Goal: the space of a model that was opened before is believed as long as no byte of its files can
// have changed, and never otherwise; its cache stays small, and what is wrong with it costs time
// only.
//
// Method: the content of the file with every byte and length changed; then a model in a folder,
// made large by a tensor that nobody uses, its times moved and its weights written anew behind the
// model's back.

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/cache_file.h"
#include "shaders/models/clip_internal.h"
#include "tests/support/random_clip_small.h"

#define LATER_NS INT64_C(10000000000)
#define PATH_BYTES 128

// --- the content of the file

static struct clip_space_entry entry_of(uint32_t number)
{
    struct clip_space_entry entry = {.dimension = number};
    memset(entry.key, (int)number, sizeof(entry.key));
    memset(entry.digest, (int)number + 1, sizeof(entry.digest));
    return entry;
}

static bool is_found(const struct buffer *file, size_t count, uint32_t number)
{
    struct clip_space_entry wanted = entry_of(number);
    struct clip_space_entry found = {.dimension = 0};
    memcpy(found.key, wanted.key, sizeof(found.key));
    bool there = clip_space_cache_find((struct bytes){file->data, count}, &found);
    cr_expect(eq(int, there &&memcmp(&found, &wanted, sizeof(found)) != 0, 0));
    return there;
}

static void add(struct buffer *file, uint32_t number)
{
    struct clip_space_entry entry = entry_of(number);
    struct buffer after = {0};
    cr_assert(eq(int, clip_space_cache_add((struct bytes){file->data, file->count}, &entry, &after),
                 STATUS_OK));
    buffer_deinit(file);
    *file = after;
}

Test(clip_space_cache, keeps_the_newest_entries_each_once)
{
    struct buffer file = {0};
    for (uint32_t i = 0; i < CLIP_SPACE_CACHE_ENTRIES; i++)
        add(&file, i);
    size_t full = file.count;
    add(&file, 3);
    cr_expect(eq(sz, file.count, full));
    for (uint32_t i = 0; i < CLIP_SPACE_CACHE_ENTRIES; i++)
        cr_expect(is_found(&file, file.count, i), "%u", i);
    add(&file, 200);
    cr_expect(eq(sz, file.count, full));
    cr_expect(is_found(&file, file.count, 200) && is_found(&file, file.count, 3));
    cr_expect(not(is_found(&file, file.count, 0))); // the oldest
    buffer_deinit(&file);
}

Test(clip_space_cache, a_file_that_is_not_whole_has_nothing)
{
    struct buffer file = {0};
    add(&file, 1);
    add(&file, 2);
    for (size_t i = 0; i < file.count; i++) {
        file.data[i] ^= 0x40;
        cr_expect(not(is_found(&file, file.count, 1) || is_found(&file, file.count, 2)), "%zu", i);
        file.data[i] ^= 0x40;
        cr_expect(not(is_found(&file, i, 1)));
    }
    cr_expect(is_found(&file, file.count, 1));
    file.data[20] ^= 1; // begun anew by the next one
    add(&file, 5);
    cr_expect(is_found(&file, file.count, 5) && !is_found(&file, file.count, 1));
    buffer_deinit(&file);
}

// --- a model

static char own[] = "/tmp/reco-space-XXXXXX";

static void path_of(const char *name, char path[PATH_BYTES])
{
    (void)snprintf(path, PATH_BYTES, "%s/%s", own, name);
}

// The small model with a tensor of the smallest size that is worth a cache, which takes no room on
// the disk.
static void write_model(void)
{
    struct buffer small;
    char header[1 << 15];
    char path[PATH_BYTES];
    random_clip_small(&small);
    size_t length = (size_t)bytes_get_u64_le(small.data);
    size_t used = small.count - 8 - length;
    int bytes = snprintf(header + 8, sizeof(header) - 8,
                         "%.*s,\"unused\":{\"dtype\":\"U8\",\"shape\":[%llu],\"data_offsets\":[%zu,"
                         "%llu]}}",
                         (int)length - 1, (const char *)small.data + 8,
                         (unsigned long long)CLIP_SPACE_CACHE_BYTES_MIN, used,
                         (unsigned long long)(used + CLIP_SPACE_CACHE_BYTES_MIN));
    cr_assert(bytes > 0 && (size_t)bytes < sizeof(header) - 8);
    bytes_put_u64_le((uint8_t *)header, (uint64_t)bytes);
    path_of("model.safetensors", path);
    FILE *file = fopen(path, "wb");
    cr_assert(file != NULL);
    cr_assert(fwrite(header, 8 + (size_t)bytes, 1, file) == 1);
    cr_assert(fwrite(small.data + 8 + length, used, 1, file) == 1);
    cr_assert(eq(int, fclose(file), 0));
    cr_assert(
        eq(int, truncate(path, (off_t)(8 + (size_t)bytes + used + CLIP_SPACE_CACHE_BYTES_MIN)), 0));
    buffer_deinit(&small);
}

static void begin(void)
{
    cr_assert(mkdtemp(own) != NULL);
    cr_assert(eq(int, setenv("XDG_CACHE_HOME", own, 1), 0));
    write_model();
}

static void end(void)
{
    char command[sizeof(own) + 16];
    (void)snprintf(command, sizeof(command), "rm -r %s", own);
    cr_expect(eq(int, system(command), 0));
}

static const struct clip_files files = {.name = "small"};

static struct clip_files small_files(void)
{
    struct clip_files all = files;
    all.config =
        (struct bytes){(const uint8_t *)random_clip_small_config, strlen(random_clip_small_config)};
    return all;
}

static struct weights *open_weights(void)
{
    char path[PATH_BYTES];
    struct weights *weights = NULL;
    struct reason why = {0};
    path_of("model.safetensors", path);
    cr_assert(eq(int, weights_open(path, &weights, &why), STATUS_OK), "%s", why.text);
    return weights;
}

static void space_of(char space[CLIP_SPACE_BYTES])
{
    struct weights *weights = open_weights();
    struct clip *clip = NULL;
    struct reason why = {0};
    const struct clip_params params = {.threads = 1};
    const struct clip_files all = small_files();
    cr_assert(eq(int, clip_open_files(&params, &all, weights, &clip, &why), STATUS_OK), "%s",
              why.text);
    (void)snprintf(space, CLIP_SPACE_BYTES, "%s", clip_info(clip)->space);
    clip_close(&clip);
    weights_close(&weights);
}

static int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

// Keeps a space that no model has, as if it had been computed for the files as they are, `ns` from
// now on.
static void keep_another(int64_t ns)
{
    struct weights *weights = open_weights();
    struct clip_space_memo memo;
    const struct clip_files all = small_files();
    clip_space_recall(&memo, &all, weights, now_ns() + ns);
    cr_expect(not(memo.known));
    memset(memo.entry.digest, 0xab, sizeof(memo.entry.digest));
    memo.entry.dimension = 18;
    clip_space_keep(&memo, weights);
    weights_close(&weights);
}

static bool is_another(const char *space)
{
    return strncmp(space, "abababab", 8) == 0;
}

Test(clip_space_cache, a_known_space_is_not_computed_again, .init = begin, .fini = end)
{
    char space[CLIP_SPACE_BYTES];
    char again[CLIP_SPACE_BYTES];
    space_of(space);
    cr_expect(not(is_another(space)));
    keep_another(LATER_NS);
    space_of(again);
    cr_expect(is_another(again), "%s", again);
    cr_expect(strcmp(again + 64, space + 64) == 0); // the dimension
}

Test(clip_space_cache, weights_that_changed_just_now_are_hashed_again, .init = begin, .fini = end)
{
    char space[CLIP_SPACE_BYTES];
    keep_another(0);
    space_of(space);
    cr_expect(not(is_another(space)));
    keep_another(0); // neither was that one kept
}

Test(clip_space_cache, a_change_behind_the_back_is_seen, .init = begin, .fini = end)
{
    char path[PATH_BYTES];
    char space[CLIP_SPACE_BYTES];
    struct stat before;
    path_of("model.safetensors", path);
    keep_another(LATER_NS);
    // One byte of a tensor that counts, and the time of the content put back.
    cr_assert(eq(int, stat(path, &before), 0));
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    const off_t last = before.st_size - (off_t)CLIP_SPACE_CACHE_BYTES_MIN - 1;
    cr_assert(fd >= 0 && pwrite(fd, "\x3d", 1, last) == 1);
    const struct timespec times[2] = {before.st_atim, before.st_mtim};
    cr_assert(eq(int, futimens(fd, times), 0));
    cr_assert(eq(int, close(fd), 0));
    space_of(space);
    cr_expect(not(is_another(space)));
}

Test(clip_space_cache, another_file_or_config_is_another_model, .init = begin, .fini = end)
{
    struct clip_space_memo memo;
    struct clip_files all = small_files();
    keep_another(LATER_NS);
    struct weights *weights = open_weights();
    clip_space_recall(&memo, &all, weights, now_ns());
    cr_expect(memo.known);
    all.openclip = true;
    clip_space_recall(&memo, &all, weights, now_ns());
    cr_expect(not(memo.known));
    all = small_files();
    all.config.count--;
    clip_space_recall(&memo, &all, weights, now_ns());
    cr_expect(not(memo.known));
    struct bytes *const small[] = {&all.preprocessor, &all.vocab, &all.merges, &all.tokenizer};
    for (size_t i = 0; i < sizeof(small) / sizeof(small[0]); i++) {
        all = small_files();
        *small[i] = (struct bytes){(const uint8_t *)"", 0}; // empty instead of absent
        clip_space_recall(&memo, &all, weights, now_ns());
        cr_expect(not(memo.known), "%zu", i);
    }
    weights_close(&weights);
    write_model(); // the same bytes in the same file
    all = small_files();
    weights = open_weights();
    clip_space_recall(&memo, &all, weights, now_ns());
    cr_expect(not(memo.known));
    weights_close(&weights);
}

Test(clip_space_cache, a_link_or_no_folder_costs_time_only, .init = begin, .fini = end)
{
    char space[CLIP_SPACE_BYTES];
    char from[PATH_BYTES];
    char to[PATH_BYTES];
    keep_another(LATER_NS);
    path_of("reco/spaces.cache", from);
    path_of("elsewhere", to);
    cr_assert(eq(int, rename(from, to), 0));
    cr_assert(eq(int, symlink(to, from), 0));
    space_of(space);
    cr_expect(not(is_another(space)));
    cr_assert(eq(int, setenv("XDG_CACHE_HOME", "/dev/null", 1), 0));
    keep_another(LATER_NS);
    space_of(space);
    cr_expect(not(is_another(space)));
}
