// SPDX-License-Identifier: Apache-2.0
// Goal: a checkpoint is the index again, bit for bit, or is refused with a reason; whatever happens
// while one is written, the one before is there.
//
// Method: an index and what is opened of its file, side by side; a small file with every byte
// changed, cut at every length, and with wrong numbers under right checksums; saves that are killed
// or find no space.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/mem.h"
#include "proto/base/thread.h"
#include "shard_node/index/index_internal.h"
#include "tests/support/index_seal.h"
#include "tests/unit/index_fixture.h"

#define SMALL 256 // rows of a file that can be damaged in every place

static char folder[64];
static char path[96];

static void begin(void)
{
    strcpy(folder, "test-index-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    (void)snprintf(path, sizeof(path), "%s/index-image", folder);
    open_world();
}

static void end(void)
{
    char name[112];
    close_world();
    (void)snprintf(name, sizeof(name), "%s.tmp", path);
    (void)unlink(name);
    (void)unlink(path);
    cr_expect(eq(int, rmdir(folder), 0));
}

TestSuite(index_file, .init = begin, .fini = end, .timeout = 240);

static struct index_origin origin_of(uint32_t slot_count)
{
    return (struct index_origin){
        .store = 0x77, .generation = 3, .modality = MODALITY_TEXT, .slot_count = slot_count};
}

static void save(const struct index *index)
{
    const struct index_origin origin = origin_of(0);
    struct reason why = {0};
    cr_assert(eq(int, index_save(index, &origin, path, &why), STATUS_OK), "%s", why.text);
}

static struct index *open_again(const struct index_params *params)
{
    const struct index_origin origin = origin_of(ROWS);
    struct reason why = {0};
    struct index *index = NULL;
    cr_assert(eq(int, index_open(params, &origin, path, &index, &why), STATUS_OK), "%s", why.text);
    return index;
}

static void extend(struct index *index, uint32_t to)
{
    cr_assert(eq(int, index_extend(index, to, NULL, NULL), STATUS_OK));
}

// The file in memory that is aligned and not a byte too long.
static uint8_t *copy_of(const uint8_t *file, size_t bytes)
{
    void *copy = NULL;
    cr_assert(eq(int, posix_memalign(&copy, 4096, bytes > 0 ? bytes : 1), 0));
    memcpy(copy, file, bytes);
    return copy;
}

static uint8_t *read_back(size_t *bytes)
{
    static uint8_t file[8 << 20];
    const int fd = open(path, O_RDONLY);
    *bytes = 0;
    ssize_t got = 0;
    while ((got = read(fd, file + *bytes, sizeof(file) - *bytes)) > 0)
        *bytes += (size_t)got;
    (void)close(fd);
    return copy_of(file, *bytes);
}

Test(index_file, answers_as_what_was_saved_also_after_more_rows)
{
    for (uint32_t extra_bits = 3; extra_bits <= 7; extra_bits += 4) {
        struct index_params params = params_of(cpu_best(), 1);
        params.extra_bits = extra_bits;
        struct index *index = train(&params);
        extend(index, ROWS / 2 + 5);
        cr_assert(eq(int, index_calibrate(index, NULL), STATUS_OK));
        save(index);
        struct index *again = open_again(&params);
        struct index_about about[2];
        index_describe(index, &about[0]);
        index_describe(again, &about[1]);
        cr_expect(eq(u32, index_end(again), ROWS / 2 + 5));
        cr_expect(eq(u64, about[1].vectors, about[0].vectors));
        cr_expect(eq(u32, about[1].lists, about[0].lists));
        for (int percent = 50; percent < 100; percent += 7)
            cr_expect(eq(u32, index_probes(again, (float)percent / 100, 3),
                         index_probes(index, (float)percent / 100, 3)));
        expect_same_answers(index, again);
        for (uint32_t to = ROWS / 2 + 6; to < ROWS; to += 977) {
            extend(index, to);
            extend(again, to);
        }
        expect_same_answers(index, again);

        // And they make the same file, byte for byte.
        size_t bytes[2];
        save(index);
        uint8_t *first = read_back(&bytes[0]);
        save(again);
        uint8_t *second = read_back(&bytes[1]);
        cr_expect(eq(sz, bytes[0], bytes[1]));
        cr_expect(bytes[0] == bytes[1] && memcmp(first, second, bytes[0]) == 0);
        free(first);
        free(second);
        index_destroy(&index);
        index_destroy(&again);
    }
}

Test(index_file, upkeep_goes_on_in_what_was_opened)
{
    const struct index_params params = params_of(cpu_best(), 1);
    uint64_t live[ROWS / 64 + 1];
    for (size_t i = 0; i < sizeof(live) / sizeof(live[0]); i++)
        live[i] = seed_next(&seed) & 0x5555555555555555u;
    struct index *index = build(&params);
    save(index);
    struct index *again = open_again(&params);
    struct index_upkeep upkeep[2] = {{0}, {0}};
    while (index_maintain(index, shared(live), 10000, &upkeep[0]))
        ;
    while (index_maintain(again, shared(live), 10000, &upkeep[1]))
        ;
    cr_expect(upkeep[1].rewrites > 0 && upkeep[1].merges > 0);
    cr_expect(memcmp(&upkeep[0], &upkeep[1], sizeof(upkeep[0])) == 0);
    expect_same_answers(index, again);
    save(again);
    index_destroy(&index);
    struct index_origin origin = origin_of(ROWS);
    origin.live = shared(live);
    cr_assert(eq(int, index_open(&params, &origin, path, &index, NULL), STATUS_OK));
    expect_same_answers(index, again);
    index_destroy(&again);
    index_destroy(&index);
}

Test(index_file, a_row_that_was_dead_and_lives_again_is_found)
{
    const struct index_params params = params_of(cpu_best(), 1);
    uint64_t live[ROWS / 64 + 1];
    for (size_t i = 0; i < sizeof(live) / sizeof(live[0]); i++)
        live[i] = seed_next(&seed);
    struct index *index = train(&params);
    cr_assert(eq(int, index_extend(index, ROWS, shared(live), NULL), STATUS_OK));
    save(index);
    index_destroy(&index);
    index = open_again(&params);
    struct index *whole = build(&params);
    struct index_about about;
    index_describe(index, &about);
    cr_expect(eq(u64, about.vectors, ROWS));
    struct index_scratch *scratch = index_scratch_create(world.epoch);
    for (size_t q = 0; q < QUERIES; q++) {
        struct scan_hit hits[2][K];
        const struct index_query query = {
            .query = world.queries + q * DIMENSION, .k = K, .probes = about.lists};
        cr_assert(eq(sz, index_search(index, scratch, &query, hits[0], NULL), K));
        cr_assert(eq(sz, index_search(whole, scratch, &query, hits[1], NULL), K));
        // Every row is somewhere; in which order the lists have them decides only about near
        // misses.
        cr_expect(eq(u32, hits[0][0].slot, hits[1][0].slot));
    }
    index_scratch_destroy(&scratch);
    index_destroy(&index);
    index_destroy(&whole);
}

static atomic_bool is_over;

static void search_on(struct thread *self, void *context)
{
    struct index *index = context;
    struct index_scratch *scratch = index_scratch_create(world.epoch);
    thread_ready(self, STATUS_OK);
    for (size_t q = 0; !atomic_load(&is_over); q = (q + 1) % QUERIES) {
        struct scan_hit hits[K];
        const struct index_query query = {
            .query = world.queries + q * DIMENSION, .k = K, .probes = 8};
        cr_assert(eq(sz, index_search(index, scratch, &query, hits, NULL), K));
    }
    index_scratch_destroy(&scratch);
}

Test(index_file, is_saved_while_others_search)
{
    const struct index_params params = params_of(cpu_best(), 1);
    struct index *index = build(&params);
    struct thread *reader = NULL;
    cr_assert(eq(int, thread_start("reader", search_on, index, &reader), STATUS_OK));
    for (int i = 0; i < 4; i++)
        save(index);
    atomic_store(&is_over, true);
    thread_join(&reader);
    struct index *again = open_again(&params);
    expect_same_answers(index, again);
    index_destroy(&index);
    index_destroy(&again);
}

// --- files that are of no use

static struct index_params small_params(void)
{
    struct index_params params = params_of(cpu_best(), 1);
    params.list_vectors = 64;
    return params;
}

static struct index *small_index(const struct index_params *params)
{
    uint32_t sample[SMALL];
    for (uint32_t i = 0; i < SMALL; i++)
        sample[i] = i;
    struct index *index = NULL;
    cr_assert(eq(int, index_train(params, sample, SMALL, SMALL, &index, NULL), STATUS_OK));
    extend(index, SMALL);
    return index;
}

static uint8_t *small_file(const struct index_params *params, size_t *bytes)
{
    struct index *index = small_index(params);
    save(index);
    index_destroy(&index);
    return read_back(bytes);
}

static enum status try_to_read(const struct index_params *params, uint8_t *file, size_t bytes,
                               struct reason *why)
{
    const struct index_origin origin = origin_of(ROWS);
    struct index *index = NULL;
    *why = (struct reason){0};
    const enum status status = index_read_file(params, &origin, file, bytes, &index, why);
    cr_assert(eq(int, status == STATUS_OK, index != NULL));
    index_destroy(&index);
    return status;
}

Test(index_file, a_changed_byte_is_seen_wherever_it_is)
{
    const struct index_params params = small_params();
    struct reason why;
    size_t bytes;
    uint8_t *file = small_file(&params, &bytes);
    cr_assert(eq(int, try_to_read(&params, file, bytes, &why), STATUS_OK), "%s", why.text);
    for (size_t i = 0; i < bytes; i++) {
        const uint8_t bit = (uint8_t)(1u << (i % 8));
        file[i] ^= bit;
        cr_assert(eq(int, try_to_read(&params, file, bytes, &why), STATUS_CORRUPT), "byte %zu", i);
        cr_assert(why.text[0] != '\0');
        file[i] ^= bit;
    }
    free(file);
}

Test(index_file, is_refused_at_every_length_but_its_own)
{
    const struct index_params params = small_params();
    struct reason why;
    size_t bytes;
    uint8_t *file = small_file(&params, &bytes);
    for (size_t cut = 0; cut < bytes; cut += cut < 5000 || cut > bytes - 600 ? 1 : 7) {
        uint8_t *copy = copy_of(file, cut);
        cr_assert(eq(int, try_to_read(&params, copy, cut, &why), STATUS_CORRUPT), "%zu", cut);
        seal(copy, cut); // and when the length and what is there are declared to be right
        cr_assert(eq(int, try_to_read(&params, copy, cut, &why), STATUS_CORRUPT), "%zu", cut);
        free(copy);
    }
    uint8_t *longer = copy_of(file, bytes);
    longer = realloc(longer, bytes + 64);
    memset(longer + bytes, 0, 64);
    uint8_t *copy = copy_of(longer, bytes + 64);
    cr_expect(eq(int, try_to_read(&params, copy, bytes + 64, &why), STATUS_CORRUPT));
    seal(copy, bytes + 64);
    cr_expect(eq(int, try_to_read(&params, copy, bytes + 64, &why), STATUS_CORRUPT));
    free(copy);
    free(longer);
    free(file);
}

static void expect_refused(const struct index_params *params, const uint8_t *file, size_t bytes,
                           size_t at, uint32_t value, const char *reason)
{
    struct reason why;
    uint8_t *copy = copy_of(file, bytes);
    seal_set(copy, at, value);
    seal(copy, bytes);
    cr_expect(eq(int, try_to_read(params, copy, bytes, &why), STATUS_CORRUPT), "%u at %zu: no %s",
              value, at, reason);
    cr_expect(strstr(why.text, reason) != NULL, "%u at %zu: %s", value, at, why.text);
    free(copy);
}

Test(index_file, wrong_numbers_under_right_checksums_are_refused)
{
    const struct index_params params = small_params();
    size_t bytes;
    uint8_t *file = small_file(&params, &bytes);
    const uint32_t lists = seal_get(file, SEAL_AT_LISTS);
    const uint32_t groups = seal_get(file, SEAL_AT_GROUPS);
    const size_t blocks = (size_t)seal_blocks(file);
    const size_t counts = (size_t)seal_padded(SEAL_HEAD_BYTES + 8 * (uint64_t)lists, 64);
    const struct codes_shape shape = {.dimensions = codes_dimensions(DIMENSION), .extra_bits = 3};
    const size_t slots = blocks + codes_block_bytes(&shape) - CODES_BLOCK * sizeof(uint32_t);
    cr_assert(lists == 4 && groups == 2, "%u %u", lists, groups);
    const struct {
        size_t at;
        uint32_t value;
        const char *reason;
    } wrong[] = {
        {SEAL_AT_FORMAT, 2, "format 2"},
        {SEAL_AT_DIMENSION, 0, "parameters"},
        {SEAL_AT_DIMENSION, 95, "parameters"},
        {SEAL_AT_DIMENSION, UINT32_MAX, "parameters"},
        {SEAL_AT_EXTRA_BITS, 7, "parameters"},
        {SEAL_AT_END, SMALL - 1, "other rows"},
        {SEAL_AT_END, ROWS + 1, "covers 12001 slots; there are 12000"},
        {SEAL_AT_END, UINT32_MAX, "covers"},
        {SEAL_AT_GROUPS, 0, "groups"},
        {SEAL_AT_GROUPS, 1, "lists"},
        {SEAL_AT_GROUPS, lists + 1, "groups"},
        {SEAL_AT_GROUPS, TREE_GROUPS_MAX + 1, "groups"},
        {SEAL_AT_GROUPS, UINT32_MAX, "groups"},
        {SEAL_AT_LISTS, 0, "groups"},
        {SEAL_AT_LISTS, groups, "lists"},
        {SEAL_AT_LISTS, 2 * TREE_GROUP_CELLS_MAX, "tables"},
        {SEAL_AT_LISTS, UINT32_MAX, "groups"},
        {SEAL_AT_VECTORS, SMALL + 1, "head says"},
        {SEAL_AT_VECTORS + 4, 1, "head says"},
        {SEAL_HEAD_BYTES, UINT32_MAX, "shorter than its lists"},
        {SEAL_HEAD_BYTES, UINT32_MAX - 30, "shorter than its lists"},
        {SEAL_HEAD_BYTES, 0, ""},
        {counts, 0, "groups"},
        {counts, lists, "groups"},
        {counts, UINT32_MAX, "groups"},
        {slots, SMALL, "does not cover"},
        {slots, UINT32_MAX, "does not cover"},
        {SEAL_AT_RECALL, 0x7fc00000, "recall"},                         // not a number
        {SEAL_AT_RECALL, 0xbf800000, "recall"},                         // -1
        {SEAL_AT_RECALL + 4 * (INDEX_STEPS - 1), 0x3f8147ae, "recall"}, // 1.01
        {SEAL_AT_RECALL + 4, 0, "recall"},
        {SEAL_AT_RECALL + 4 * (2 * INDEX_STEPS - 1), 0x3f8147ae, "recall"}, // of the nearest alone
        {counts + 64, 0x7c00, "finite"},
        {counts + 64 + (size_t)2 * DIMENSION, 0x7e007e00, "finite"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        expect_refused(&params, file, bytes, wrong[i].at, wrong[i].value, wrong[i].reason);
    free(file);
}

static void expect_foreign(const struct index_params *params, const struct index_origin *origin,
                           const char *reason)
{
    struct index *index = NULL;
    struct reason why = {0};
    cr_expect(eq(int, index_open(params, origin, path, &index, &why), STATUS_CORRUPT));
    cr_expect(strstr(why.text, reason) && strstr(why.text, path), "%s: %s", reason, why.text);
    cr_expect(index == NULL);
}

Test(index_file, an_index_of_other_rows_is_refused)
{
    const struct index_params params = small_params();
    struct index *index = small_index(&params);
    save(index);
    index_destroy(&index);
    struct index_params other = params;
    other.seed++;
    const struct index_origin origin = origin_of(ROWS);
    expect_foreign(&other, &origin, "parameters");
    other = params;
    other.list_vectors = 128;
    expect_foreign(&other, &origin, "parameters");
    other = params;
    other.extra_bits = 7;
    expect_foreign(&other, &origin, "parameters");
    other = params;
    other.rows.dimension = 95;
    expect_foreign(&other, &origin, "parameters");
    struct index_origin foreign = origin;
    foreign.store++;
    expect_foreign(&params, &foreign, "another store");
    foreign = origin;
    foreign.generation++;
    expect_foreign(&params, &foreign, "generation");
    foreign = origin;
    foreign.modality = MODALITY_IMAGE;
    expect_foreign(&params, &foreign, "modality");
    foreign = origin;
    foreign.slot_count = SMALL - 1;
    expect_foreign(&params, &foreign, "covers 256 slots; there are 255");
    world.slots[SMALL].id++; // one that is not covered
    index = open_again(&params);
    index_destroy(&index);
    world.slots[SMALL - 1].crc++;
    expect_foreign(&params, &origin, "other rows");
}

Test(index_file, says_what_is_there_instead_of_a_file)
{
    const struct index_params params = small_params();
    const struct index_origin origin = origin_of(ROWS);
    struct index *index = NULL;
    struct reason why = {0};
    cr_expect(eq(int, index_open(&params, &origin, path, &index, &why), STATUS_NOT_FOUND));
    cr_expect(strstr(why.text, path) != NULL);
    (void)close(open(path, O_CREAT | O_WRONLY, 0600));
    cr_expect(eq(int, index_open(&params, &origin, path, &index, &why), STATUS_CORRUPT));
    cr_expect(eq(int, unlink(path), 0));
    cr_expect(eq(int, mkdir(path, 0700), 0));
    cr_expect(eq(int, index_open(&params, &origin, path, &index, &why), STATUS_CORRUPT));
    index = small_index(&params);
    cr_expect(eq(int, index_save(index, &origin, path, &why), STATUS_IO)); // no file to replace
    index_destroy(&index);
    cr_expect(eq(int, rmdir(path), 0));
}

// --- trouble on the way

Test(index_file, no_memory_is_said_and_nothing_is_lost)
{
    const struct index_params params = small_params();
    struct index *index = small_index(&params);
    const struct index_origin origin = origin_of(ROWS);
    enum status status = STATUS_NO_MEMORY;
    for (uint64_t n = 1; status != STATUS_OK; n++) {
        mem_fail_after(n);
        status = index_save(index, &origin, path, NULL);
        mem_fail_after(0);
        cr_assert(status == STATUS_OK || status == STATUS_NO_MEMORY);
        cr_assert(lt(u64, n, 1000));
    }
    struct index *again = NULL;
    for (uint64_t n = 1; !again; n++) {
        mem_fail_after(n);
        status = index_open(&params, &origin, path, &again, NULL);
        mem_fail_after(0);
        cr_assert(eq(int, status, again ? STATUS_OK : STATUS_NO_MEMORY));
        cr_assert(lt(u64, n, 1000));
    }
    expect_same_answers(index, again);
    index_destroy(&index);
    index_destroy(&again);
}

Test(index_file, a_full_disk_leaves_the_old_one)
{
    const struct index_params params = params_of(cpu_best(), 1);
    char name[112];
    struct index *index = train(&params);
    extend(index, 1000);
    save(index);
    extend(index, ROWS);
    (void)snprintf(name, sizeof(name), "%s.tmp", path);
    cr_assert(eq(int, symlink("/dev/full", name), 0));
    const struct index_origin origin = origin_of(0);
    struct reason why = {0};
    cr_expect(eq(int, index_save(index, &origin, path, &why), STATUS_EXHAUSTED));
    cr_expect(strstr(why.text, "cannot write") != NULL, "%s", why.text);
    cr_expect(ne(int, access(name, F_OK), 0)); // and takes no space
    struct index *again = open_again(&params);
    cr_expect(eq(u32, index_end(again), 1000));
    index_destroy(&again);
    save(index);
    again = open_again(&params);
    cr_expect(eq(u32, index_end(again), ROWS));
    index_destroy(&again);
    index_destroy(&index);
}

// Ends with SIGXFSZ once the file is longer than `bytes`.
static void save_in_a_process(const struct index *index, rlim_t bytes)
{
    const pid_t pid = fork();
    if (pid == 0) {
        const struct index_origin origin = origin_of(0);
        const struct rlimit limit = {.rlim_cur = bytes, .rlim_max = bytes};
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || signal(SIGXFSZ, SIG_DFL) == SIG_ERR)
            _exit(1);
        _exit(index_save(index, &origin, path, NULL) == STATUS_OK ? 0 : 1);
    }
    int result = 0;
    cr_assert(eq(int, waitpid(pid, &result, 0), pid));
    cr_assert(eq(int, WTERMSIG(result), SIGXFSZ));
}

Test(index_file, a_killed_save_leaves_the_old_one)
{
    const struct index_params params = params_of(cpu_best(), 1);
    char name[112];
    struct index *index = train(&params);
    extend(index, 8000);
    save(index);
    struct stat about;
    cr_assert(eq(int, stat(path, &about), 0));
    extend(index, ROWS);
    (void)snprintf(name, sizeof(name), "%s.tmp", path);
    for (int kills = 0; kills < 12; kills++) {
        save_in_a_process(index, seed_below(&seed, (uint64_t)about.st_size));
        cr_expect(eq(int, access(name, F_OK), 0));
        struct index *again = open_again(&params);
        cr_expect(eq(u32, index_end(again), 8000));
        cr_expect(ne(int, access(name, F_OK), 0)); // what was begun is cleared away
        index_destroy(&again);
    }
    // All of it is written, but it has not got its name.
    cr_assert(eq(int, link(path, name), 0));
    save(index);
    struct index *again = open_again(&params);
    cr_expect(eq(u32, index_end(again), ROWS));
    index_destroy(&again);
    index_destroy(&index);
}
