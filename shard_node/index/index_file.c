// SPDX-License-Identifier: Apache-2.0
// Checkpoints of an index: one file, which is mapped and used where it lies.
//
//     head        struct head below
//     lists       {count u32, CRC-32C of its blocks u32} of each list, group after group
//     groups      how many lists each has, u32
//     centres     of the groups, then of all lists: halves [D], rotated
//     blocks      from a multiple of 4 KiB on, list after list: its blocks, then their extra parts (codes.h)
//
// Each part begins at a multiple of CODES_ALIGNMENT; what is between is zero. Where a part lies
// follows from the counts before it, so there are no offsets that could be wrong. Numbers are
// little-endian, as in the blocks. Codes of the centres are made again from the centres, which
// gives the same bits.
//
// Nothing in a file is believed: checksums guard against damage, and every number is checked before
// it is used, so that a file with right checksums and wrong numbers is refused as well. All blocks
// are checked when the file is opened: that is done at the speed of memory (README.md has the
// figure) and brings them into it.
//
// Which rows a file belongs to is said by a hash over their slots, ids and checksums. Slots that
// are given anew after a crash have other ones, and then the file is of no use. Only which of them
// are live may differ.

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/bytes.h"
#include "proto/base/half.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "shard_node/disk_error.h"
#include "shard_node/index/index_internal.h"

#define FORMAT 1u
#define BYTE_ORDER_MARK 0x01020304u
#define PAGE_BYTES 4096u
#define BUFFER_BYTES (1u << 20)
#define TEMPORARY ".tmp"
#define PATH_BYTES 4096

static const char magic[8] = {'R', 'E', 'C', 'O', 'I', 'N', 'D', 'X'};

struct head {
    char magic[8];
    uint32_t format;
    uint32_t byte_order;
    uint32_t dimension;
    uint32_t extra_bits;
    uint32_t list_vectors;
    uint32_t generation;
    uint32_t modality;
    uint32_t end; // slots below are covered
    uint64_t seed;
    uint64_t store;
    uint64_t slots_hash; // of the slots below `end`
    uint64_t vectors;    // in all lists
    uint64_t file_bytes;
    uint32_t group_count;
    uint32_t list_count;
    uint32_t tables_crc; // of what is between the head and the blocks
    float recall[INDEX_CURVES][INDEX_STEPS];
    uint8_t reserved[8];
    uint32_t crc; // of all before
};

_Static_assert(sizeof(struct head) == 192 && sizeof(struct head) % CODES_ALIGNMENT == 0, "as is");

struct list_entry {
    uint32_t count;
    uint32_t crc;
};

static uint64_t padded(uint64_t bytes, uint64_t to)
{
    return (bytes + to - 1) / to * to;
}

// Where the parts are; the counts are within their limits, so no sum overflows.
struct layout {
    uint64_t lists; // the table
    uint64_t groups;
    uint64_t group_centres;
    uint64_t centres;
    uint64_t blocks;
};

static struct layout lay_out(uint32_t dimensions, uint32_t groups, uint32_t lists)
{
    const uint64_t centre_bytes = (uint64_t)dimensions * sizeof(uint16_t);
    struct layout layout = {.lists = sizeof(struct head)};
    layout.groups =
        padded(layout.lists + (uint64_t)lists * sizeof(struct list_entry), CODES_ALIGNMENT);
    layout.group_centres =
        padded(layout.groups + (uint64_t)groups * sizeof(uint32_t), CODES_ALIGNMENT);
    layout.centres = layout.group_centres + groups * centre_bytes;
    layout.blocks = padded(layout.centres + lists * centre_bytes, PAGE_BYTES);
    return layout;
}

static uint64_t blocks_of(uint32_t count)
{
    return ((uint64_t)count + CODES_BLOCK - 1) / CODES_BLOCK;
}

static uint64_t hash_slots(const struct index *index, uint32_t end)
{
    return hash_id(index->params.rows.slots, end * sizeof(struct rows_slot));
}

// --- saving

// A file that is written from its front, through a buffer.
struct sink {
    int fd;
    const char *path;
    uint8_t *buffer; // [BUFFER_BYTES]
    size_t used;
    uint64_t offset;  // of the buffer
    uint64_t vectors; // in the lists so far
    struct reason *why;
};

static enum status write_at(const struct sink *sink, const uint8_t *data, size_t bytes,
                            uint64_t offset)
{
    while (bytes > 0) {
        const ssize_t written = pwrite(sink->fd, data, bytes, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return disk_error("index", "write", sink->path, sink->why);
        data += written;
        bytes -= (size_t)written;
        offset += (uint64_t)written;
    }
    return STATUS_OK;
}

static enum status flush(struct sink *sink)
{
    const enum status status = write_at(sink, sink->buffer, sink->used, sink->offset);
    sink->offset += sink->used;
    sink->used = 0;
    return status;
}

static enum status write_part(struct sink *sink, const void *data, size_t bytes)
{
    if (sink->used + bytes > BUFFER_BYTES) {
        const enum status status = flush(sink);
        if (status != STATUS_OK)
            return status;
    }
    memcpy(sink->buffer + sink->used, data, bytes);
    sink->used += bytes;
    return STATUS_OK;
}

// The extra part of a block; places from `count` on, which are whatever was there before, become
// zero.
static enum status write_extra(struct sink *sink, const struct codes_shape *shape, void *extra,
                               uint32_t count, uint32_t *crc)
{
    const enum status status = write_part(sink, extra, codes_extra_bytes(shape));
    if (status != STATUS_OK)
        return status;
    uint8_t *const written = sink->buffer + sink->used - codes_extra_bytes(shape);
    const struct codes_extra parts = codes_extra_at(written);
    if (count < CODES_BLOCK) {
        const size_t left = CODES_BLOCK - count;
        memset(parts.add + count, 0, left * sizeof(*parts.add));
        memset(parts.factor + count, 0, left * sizeof(*parts.factor));
        memset(parts.rows + count * codes_extra_row_bytes(shape), 0,
               left * codes_extra_row_bytes(shape));
    }
    *crc = hash_crc32c(*crc, written, codes_extra_bytes(shape));
    return STATUS_OK;
}

static enum status write_list(struct sink *sink, const struct codes_shape *shape,
                              const struct list *list, struct list_entry *entry)
{
    enum status status = STATUS_OK;
    const size_t code_bytes = codes_block_bytes(shape);
    const uint32_t blocks = (uint32_t)blocks_of(list->count);
    *entry = (struct list_entry){.count = list->count};
    sink->vectors += list->count;
    for (uint32_t b = 0; b < blocks && status == STATUS_OK; b++) {
        entry->crc = hash_crc32c(entry->crc, list->blocks[b].codes, code_bytes);
        status = write_part(sink, list->blocks[b].codes, code_bytes);
    }
    for (uint32_t b = 0; b < blocks && status == STATUS_OK; b++)
        status = write_extra(sink, shape, list->blocks[b].extra, list->count - b * CODES_BLOCK,
                             &entry->crc);
    return status;
}

static enum status write_lists(struct sink *sink, const struct index *index,
                               struct list_entry *entries)
{
    const struct tree *tree = atomic_load(&index->tree);
    for (uint32_t g = 0; g < tree->group_count; g++) {
        const struct tree_group *group = tree->groups[g];
        for (uint32_t i = 0; i < group->count; i++, entries++) {
            const struct list *list = atomic_load(&group->cells[i]->list);
            if (!list || list->count == 0)
                continue;
            const enum status status = write_list(sink, &index->lists.shape, list, entries);
            if (status != STATUS_OK)
                return status;
        }
    }
    return flush(sink);
}

// What stands before the blocks, but for the entries of the lists, which are there already.
static void fill_tables(const struct index *index, const struct layout *layout, uint8_t *front)
{
    const struct tree *tree = atomic_load(&index->tree);
    const size_t centre_bytes = tree->dimensions * sizeof(uint16_t);
    uint8_t *centres = front + layout->centres;
    for (uint32_t g = 0; g < tree->group_count; g++) {
        const struct tree_group *group = tree->groups[g];
        memcpy(front + layout->groups + g * sizeof(group->count), &group->count,
               sizeof(group->count));
        memcpy(centres, group->centres, group->count * centre_bytes);
        centres += group->count * centre_bytes;
    }
    memcpy(front + layout->group_centres, tree->centres, tree->group_count * centre_bytes);
}

static void fill_head(const struct sink *sink, const struct index *index,
                      const struct index_origin *origin, uint64_t blocks, uint8_t *front)
{
    const struct tree *tree = atomic_load(&index->tree);
    struct head head = {
        .format = FORMAT,
        .byte_order = BYTE_ORDER_MARK,
        .dimension = index->params.rows.dimension,
        .extra_bits = index->params.extra_bits,
        .list_vectors = index->params.list_vectors,
        .generation = origin->generation,
        .modality = (uint32_t)origin->modality,
        .end = index_end(index),
        .seed = index->params.seed,
        .store = origin->store,
        .slots_hash = hash_slots(index, index_end(index)),
        .vectors = sink->vectors,
        .file_bytes = sink->offset,
        .group_count = tree->group_count,
        .list_count = tree->cell_count,
        .tables_crc = hash_crc32c(0, front + sizeof(head), blocks - sizeof(head)),
    };
    memcpy(head.magic, magic, sizeof(magic));
    for (size_t i = 0; i < INDEX_STEPS; i++)
        for (size_t curve = 0; curve < INDEX_CURVES; curve++)
            head.recall[curve][i] = atomic_load(&index->recall[curve][i]);
    head.crc = hash_crc32c(0, &head, offsetof(struct head, crc));
    memcpy(front, &head, sizeof(head));
}

// The blocks go first: their checksums stand before them.
static enum status write_file(struct sink *sink, const struct index *index,
                              const struct index_origin *origin)
{
    const struct tree *tree = atomic_load(&index->tree);
    const struct layout layout = lay_out(tree->dimensions, tree->group_count, tree->cell_count);
    uint8_t *front = mem_try_alloc(layout.blocks);
    sink->buffer = mem_try_alloc(BUFFER_BYTES);
    enum status status = front && sink->buffer ? STATUS_OK : STATUS_NO_MEMORY;
    if (status != STATUS_OK) {
        reason_set(sink->why, status, "index", "no memory to write %s", sink->path);
    } else {
        memset(front, 0, layout.blocks);
        sink->offset = layout.blocks;
        status = write_lists(sink, index, (struct list_entry *)(void *)(front + layout.lists));
    }
    if (status == STATUS_OK) {
        fill_tables(index, &layout, front);
        fill_head(sink, index, origin, layout.blocks, front);
        status = write_at(sink, front, layout.blocks, 0);
    }
    mem_free(front);
    mem_free(sink->buffer);
    if (status == STATUS_OK && fsync(sink->fd) != 0)
        status = disk_error("index", "sync", sink->path, sink->why);
    return status;
}

static enum status name_temporary(const char *path, char name[PATH_BYTES], struct reason *why)
{
    const int used = snprintf(name, PATH_BYTES, "%s" TEMPORARY, path);
    if (used < 0 || used >= PATH_BYTES)
        return reason_set(why, STATUS_INVALID, "index", "the path has %d bytes; at most %d", used,
                          PATH_BYTES - 1);
    return STATUS_OK;
}

enum status index_save(const struct index *index, const struct index_origin *origin,
                       const char *path, struct reason *why)
{
    char name[PATH_BYTES];
    enum status status = name_temporary(path, name, why);
    if (status != STATUS_OK)
        return status;
    struct sink sink = {.path = name, .why = why};
    sink.fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (sink.fd < 0)
        return disk_error("index", "make", name, why);
    status = write_file(&sink, index, origin);
    if (close(sink.fd) != 0 && status == STATUS_OK)
        status = disk_error("index", "close", name, why);
    if (status == STATUS_OK && rename(name, path) != 0)
        status = disk_error("index", "rename", name, why);
    if (status != STATUS_OK) {
        (void)unlink(name);
        return status;
    }
    if (!bytes_sync_folder_of(path))
        return disk_error("index", "sync the folder of", path, why);
    return STATUS_OK;
}

// --- opening

// A file that is being read.
struct source {
    const struct index_origin *origin;
    struct index *index;
    uint8_t *file;
    size_t bytes;
    struct head head;
    struct layout layout;
    uint64_t *seen; // a bit for each slot below the end
    uint64_t at;    // the next block
    uint64_t vectors;
    struct reason *why;
};

static enum status useless(const struct source *source, const char *what)
{
    return reason_set(source->why, STATUS_CORRUPT, "index", "%s", what);
}

static enum status no_memory(const struct source *source)
{
    return reason_set(source->why, STATUS_NO_MEMORY, "index", "no memory to open it");
}

static enum status check_form(struct source *source)
{
    const struct head *head = &source->head;
    if (source->bytes < sizeof(*head))
        return useless(source, "it is shorter than its head");
    memcpy(&source->head, source->file, sizeof(*head));
    if (memcmp(head->magic, magic, sizeof(magic)) != 0 || head->byte_order != BYTE_ORDER_MARK)
        return useless(source, "it is no index, or one of a machine with another byte order");
    if (head->format != FORMAT)
        return reason_set(source->why, STATUS_CORRUPT, "index",
                          "it has format %" PRIu32 "; this program knows %u", head->format, FORMAT);
    if (head->crc != hash_crc32c(0, head, offsetof(struct head, crc)))
        return useless(source, "its head is damaged");
    if (head->file_bytes != source->bytes)
        return reason_set(source->why, STATUS_CORRUPT, "index",
                          "it has %zu bytes; its head says %" PRIu64, source->bytes,
                          head->file_bytes);
    return STATUS_OK;
}

static enum status check_origin(const struct source *source)
{
    const struct head *head = &source->head;
    const struct index_params *params = &source->index->params;
    const struct index_origin *origin = source->origin;
    if (head->dimension != params->rows.dimension || head->extra_bits != params->extra_bits ||
        (params->list_vectors != 0 && head->list_vectors != params->list_vectors) ||
        head->seed != params->seed)
        return useless(source, "it was made with other parameters");
    if (head->store != origin->store || head->generation != origin->generation ||
        head->modality != (uint32_t)origin->modality)
        return useless(source, "it belongs to another store, generation or modality");
    if (head->end > origin->slot_count)
        return reason_set(source->why, STATUS_CORRUPT, "index",
                          "it covers %" PRIu32 " slots; there are %" PRIu32, head->end,
                          origin->slot_count);
    if (head->slots_hash != hash_slots(source->index, head->end))
        return useless(source, "it was made of other rows");
    if (head->list_vectors == 0)
        return useless(source, "its lists have no vectors");
    source->index->params.list_vectors = head->list_vectors;
    return STATUS_OK;
}

static enum status check_tables(struct source *source)
{
    const struct head *head = &source->head;
    const uint64_t most = (uint64_t)head->group_count * TREE_GROUP_CELLS_MAX;
    if (head->group_count < 1 || head->group_count > TREE_GROUPS_MAX ||
        head->list_count < head->group_count || head->list_count > most)
        return useless(source, "its number of lists or groups cannot be");
    const uint32_t dimensions = source->index->rotation.dimensions;
    source->layout = lay_out(dimensions, head->group_count, head->list_count);
    if (source->layout.blocks > source->bytes)
        return useless(source, "it is shorter than its tables");
    if (head->tables_crc !=
        hash_crc32c(0, source->file + sizeof(*head), source->layout.blocks - sizeof(*head)))
        return useless(source, "its tables are damaged");

    const uint16_t *halves = (const void *)(source->file + source->layout.group_centres);
    const size_t count = ((size_t)head->group_count + head->list_count) * dimensions;
    uint32_t infinite = 0;
    for (size_t i = 0; i < count; i++)
        infinite |= (halves[i] & 0x7c00u) == 0x7c00u;
    return infinite ? useless(source, "a centre is not finite") : STATUS_OK;
}

// A slot may be in two lists (index_maintain.c).
static enum status check_slots(struct source *source, const struct list *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        const struct codes_block block =
            codes_block_at(&source->index->lists.shape, list->blocks[i / CODES_BLOCK].codes);
        const uint32_t slot = block.slots[i % CODES_BLOCK];
        if (slot >= source->head.end)
            return useless(source, "a list has a slot that it does not cover");
        source->seen[slot / 64] |= 1ull << (slot % 64);
    }
    source->vectors += list->count;
    return STATUS_OK;
}

static enum status read_list(struct source *source, const struct list_entry *entry,
                             struct list_cell *cell)
{
    if (entry->count == 0)
        return STATUS_OK;
    const struct lists *lists = &source->index->lists;
    const uint64_t bytes = blocks_of(entry->count) *
                           (codes_block_bytes(&lists->shape) + codes_extra_bytes(&lists->shape));
    if (bytes > source->bytes - source->at)
        return useless(source, "it is shorter than its lists");
    uint8_t *const memory = source->file + source->at;
    if (hash_crc32c(0, memory, bytes) != entry->crc)
        return useless(source, "a list is damaged");
    source->at += bytes;
    struct list *list = lists_map(lists, memory, entry->count);
    if (!list)
        return no_memory(source);
    atomic_store(&cell->list, list);
    return check_slots(source, list);
}

// `first` is the number of the group's first list.
static enum status read_group(struct source *source, uint32_t first, uint32_t count,
                              struct tree_group **out)
{
    const struct index *index = source->index;
    const struct tree *tree = atomic_load(&index->tree);
    const uint32_t dimensions = tree->dimensions;
    const uint32_t number = (uint32_t)(out - tree->groups);
    float *centres = mem_try_alloc_array(count, dimensions * sizeof(float));
    struct list_cell **cells = mem_try_alloc_array(count, sizeof(struct list_cell *));
    if (centres && cells) {
        float centre[CODES_DIMENSIONS_MAX];
        half_to_floats(tree->centres + (size_t)number * dimensions, centre, dimensions);
        half_to_floats((const uint16_t *)(const void *)(source->file + source->layout.centres) +
                           (size_t)first * dimensions,
                       centres, (size_t)count * dimensions);
        for (uint32_t i = 0; i < count; i++) {
            cells[i] = mem_alloc(sizeof(*cells[i]));
            cells[i]->number = first + i;
        }
        *out = tree_group_create(index->simd, dimensions, centre, centres, cells, count);
        for (uint32_t i = 0; !*out && i < count; i++)
            mem_free(cells[i]);
    }
    mem_free(centres);
    mem_free(cells);
    if (!*out)
        return no_memory(source);
    const struct list_entry *entries =
        (const struct list_entry *)(const void *)(source->file + source->layout.lists) + first;
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < count && status == STATUS_OK; i++)
        status = read_list(source, &entries[i], (*out)->cells[i]);
    return status;
}

static enum status read_groups(struct source *source, struct tree *tree)
{
    const uint32_t *counts = (const void *)(source->file + source->layout.groups);
    source->at = source->layout.blocks;
    enum status status = STATUS_OK;
    for (uint32_t g = 0; g < tree->group_count && status == STATUS_OK; g++) {
        const uint32_t left = source->head.list_count - tree->cell_count;
        if (counts[g] < 1 || counts[g] > TREE_GROUP_CELLS_MAX || counts[g] > left)
            return useless(source, "its groups do not have as many lists as there are");
        status = read_group(source, tree->cell_count, counts[g], &tree->groups[g]);
        tree->cell_count += counts[g];
    }
    if (status != STATUS_OK)
        return status;
    if (tree->cell_count != source->head.list_count || source->at != source->bytes ||
        source->vectors != source->head.vectors)
        return useless(source, "its lists are not as many or as long as its head says");
    return STATUS_OK;
}

static enum status read_tree(struct source *source)
{
    struct index *index = source->index;
    const uint32_t groups = source->head.group_count;
    const uint32_t dimensions = index->rotation.dimensions;
    const size_t centre_bytes = (size_t)groups * dimensions * sizeof(uint16_t);
    const size_t words = (size_t)source->head.end / 64 + 1;
    index->group_centres = mem_try_alloc_aligned(CODES_ALIGNMENT, centre_bytes);
    index->group_norms = mem_try_alloc_array(groups, sizeof(float));
    source->seen = mem_try_alloc_array(words, sizeof(uint64_t));
    if (!index->group_centres || !index->group_norms || !source->seen)
        return no_memory(source);
    memset(source->seen, 0, words * sizeof(uint64_t));
    memcpy(index->group_centres, source->file + source->layout.group_centres, centre_bytes);
    for (uint32_t g = 0; g < groups; g++)
        index->group_norms[g] =
            tree_norm(index->group_centres + (size_t)g * dimensions, dimensions);

    struct tree *tree = mem_alloc(sizeof(*tree) + groups * sizeof(struct tree_group *));
    tree->dimensions = dimensions;
    tree->group_count = groups;
    tree->centres = index->group_centres;
    tree->norms = index->group_norms;
    atomic_store(&index->tree, tree);
    return read_groups(source, tree);
}

static enum status take_recall(const struct source *source)
{
    for (size_t curve = 0; curve < INDEX_CURVES; curve++) {
        float before = 0;
        for (size_t i = 0; i < INDEX_STEPS; i++) {
            const float recall = source->head.recall[curve][i];
            if (!(recall >= before && recall <= 1))
                return useless(source, "its recall is no share, or falls with more probes");
            atomic_store(&source->index->recall[curve][i], recall);
            before = recall;
        }
    }
    return STATUS_OK;
}

static enum status take_in_missing(const struct source *source)
{
    struct index *index = source->index;
    uint32_t *slots = NULL;
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < source->head.end; slot++) {
        if ((source->seen[slot / 64] >> (slot % 64) & 1) ||
            !index_is_live(source->origin->live, slot))
            continue;
        if (!slots)
            slots = mem_try_alloc_array(source->head.end - slot, sizeof(*slots));
        if (!slots)
            return no_memory(source);
        slots[count++] = slot;
    }
    if (count == 0)
        return STATUS_OK;
    const enum status status = index_take_in(index, atomic_load(&index->tree), slots, count);
    mem_free(slots);
    index->vectors += count;
    return status == STATUS_OK ? STATUS_OK : no_memory(source);
}

static enum status read_all(struct source *source)
{
    assert(source->file);

    struct index *index = source->index;
    index->lists.map_begin = source->file;
    index->lists.map_end = source->file + source->bytes;
    enum status status = check_form(source);
    if (status == STATUS_OK)
        status = check_origin(source);
    if (status == STATUS_OK)
        status = check_tables(source);
    if (status == STATUS_OK)
        status = take_recall(source);
    if (status == STATUS_OK)
        status = read_tree(source);
    if (status != STATUS_OK)
        return status;
    index->vectors = source->vectors;
    atomic_store(&index->end, source->head.end);
    return take_in_missing(source);
}

enum status index_read_file(const struct index_params *params, const struct index_origin *origin,
                            void *file, size_t bytes, struct index **out, struct reason *why)
{
    struct source source = {
        .origin = origin, .index = index_create(params), .file = file, .bytes = bytes, .why = why};
    const enum status status = read_all(&source);
    mem_free(source.seen);
    if (status == STATUS_OK)
        *out = source.index;
    else
        index_destroy(&source.index);
    return status;
}

static enum status map_file(const char *path, void **map, size_t *bytes, struct reason *why)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return reason_set(why, STATUS_NOT_FOUND, "index", "there is no %s", path);
    if (fd < 0)
        return disk_error("index", "open", path, why);
    struct stat about;
    enum status status = STATUS_OK;
    if (fstat(fd, &about) != 0)
        status = disk_error("index", "look at", path, why);
    else if (!S_ISREG(about.st_mode) || about.st_size == 0)
        status = reason_set(why, STATUS_CORRUPT, "index", "%s is empty or no file", path);
    if (status == STATUS_OK) {
        *bytes = (size_t)about.st_size;
        *map = mmap(NULL, *bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (*map == MAP_FAILED)
            status = disk_error("index", "map", path, why);
        else
            (void)madvise(*map, *bytes, MADV_WILLNEED); // a hint
    }
    (void)close(fd);
    return status;
}

enum status index_open(const struct index_params *params, const struct index_origin *origin,
                       const char *path, struct index **out, struct reason *why)
{
    char name[PATH_BYTES];
    enum status status = name_temporary(path, name, why);
    if (status != STATUS_OK)
        return status;
    (void)unlink(name); // of a save that a crash has ended

    void *map = NULL;
    size_t bytes = 0;
    struct reason found = {0};
    status = map_file(path, &map, &bytes, why);
    if (status != STATUS_OK)
        return status;
    struct index *index = NULL;
    status = index_read_file(params, origin, map, bytes, &index, &found);
    if (status != STATUS_OK) {
        (void)munmap(map, bytes);
        return reason_set(why, status, "index", "%s: %s", path, found.text);
    }
    index->map = map;
    index->map_bytes = bytes;
    *out = index;
    return STATUS_OK;
}
