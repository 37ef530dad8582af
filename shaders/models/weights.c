// SPDX-License-Identifier: Apache-2.0
// The header is parsed once into an array sorted by name. Ranges are checked in the
// order of their beginnings: each must begin where the one before ended, the first at
// 0 and the last at the end of the file, which excludes overlaps and hidden bytes.

#include "shaders/models/weights.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/half.h"
#include "proto/base/json.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"

#define LENGTH_BYTES 8u
#define CHUNK 1024u // values converted at a time

struct weights {
    struct weights_tensor *tensor; // sorted by name
    size_t count;
    void *map; // NULL unless this object mapped the file
    size_t map_bytes;
    int file;          // the mapped one
    struct note *note; // of __metadata__
    size_t notes;
};

struct note {
    char *name;
    char *value;
};

static const struct {
    const char *name;
    uint32_t bytes;
    enum weights_dtype dtype;
} dtypes[] = {
    {"F32", 4, WEIGHTS_F32},    {"F16", 2, WEIGHTS_F16},       {"BF16", 2, WEIGHTS_BF16},
    {"F64", 8, WEIGHTS_OTHER},  {"I64", 8, WEIGHTS_OTHER},     {"I32", 4, WEIGHTS_OTHER},
    {"I16", 2, WEIGHTS_OTHER},  {"I8", 1, WEIGHTS_OTHER},      {"U64", 8, WEIGHTS_OTHER},
    {"U32", 4, WEIGHTS_OTHER},  {"U16", 2, WEIGHTS_OTHER},     {"U8", 1, WEIGHTS_OTHER},
    {"BOOL", 1, WEIGHTS_OTHER}, {"F8_E4M3", 1, WEIGHTS_OTHER}, {"F8_E5M2", 1, WEIGHTS_OTHER},
};

static bool text_is(struct text text, const char *expected)
{
    return text_equal(text, text_of(expected));
}

// --- one entry of the header

static enum status read_dtype(const struct json *entry, struct weights_tensor *tensor,
                              uint32_t *bytes, struct reason *why)
{
    const struct json *value = json_member(entry, "dtype");
    if (!json_is_text(value))
        return reason_set(why, STATUS_CORRUPT, tensor->name, "dtype is missing or not a text");
    struct text text = json_text(value);
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
        if (text_is(text, dtypes[i].name)) {
            tensor->dtype = dtypes[i].dtype;
            tensor->dtype_name = dtypes[i].name;
            *bytes = dtypes[i].bytes;
            return STATUS_OK;
        }
    }
    return reason_set(why, STATUS_UNSUPPORTED, tensor->name,
                      "dtype '%.*s' is not known; F32, F16 and BF16 can be read",
                      (int)(text.bytes < 32 ? text.bytes : 32), text.data);
}

static enum status read_shape(const struct json *entry, struct weights_tensor *tensor,
                              struct reason *why)
{
    const struct json *shape = json_member(entry, "shape");
    if (!json_is_array(shape))
        return reason_set(why, STATUS_CORRUPT, tensor->name, "shape is missing or not an array");
    size_t rank = json_count(shape);
    if (rank > WEIGHTS_RANK_MAX)
        return reason_set(why, STATUS_CORRUPT, tensor->name,
                          "shape has %zu dimensions; at most %u are possible", rank,
                          WEIGHTS_RANK_MAX);
    tensor->rank = (uint32_t)rank;
    tensor->count = 1;
    for (size_t i = 0; i < rank; i++) {
        int64_t size;
        if (!json_int(json_element(shape, i), &size) || size < 0)
            return reason_set(why, STATUS_CORRUPT, tensor->name,
                              "shape[%zu] is not an integer of 0 or more", i);
        tensor->shape[i] = (uint64_t)size;
        if (!mem_multiply(tensor->count, (size_t)size, &tensor->count))
            return reason_set(why, STATUS_CORRUPT, tensor->name, "shape is too large");
    }
    return STATUS_OK;
}

static enum status read_range(const struct json *entry, struct bytes data, uint32_t value_bytes,
                              struct weights_tensor *tensor, struct reason *why)
{
    const struct json *range = json_member(entry, "data_offsets");
    int64_t begin;
    int64_t end;
    if (!json_is_array(range) || json_count(range) != 2 ||
        !json_int(json_element(range, 0), &begin) || !json_int(json_element(range, 1), &end) ||
        begin < 0 || end < begin)
        return reason_set(why, STATUS_CORRUPT, tensor->name,
                          "data_offsets is not [begin, end] with 0 <= begin <= end");
    if ((uint64_t)end > data.count)
        return reason_set(why, STATUS_CORRUPT, tensor->name,
                          "ends at byte %lld, but the file has %zu bytes of data; is it truncated?",
                          (long long)end, data.count);
    size_t bytes;
    if (!mem_multiply(tensor->count, value_bytes, &bytes) || bytes != (size_t)(end - begin))
        return reason_set(why, STATUS_CORRUPT, tensor->name,
                          "shape and dtype need %zu values of %u bytes, data_offsets span %lld",
                          tensor->count, value_bytes, (long long)(end - begin));
    tensor->data = data.data + begin;
    tensor->bytes = bytes;
    return STATUS_OK;
}

static enum status read_entry(const char *name, const struct json *entry, struct bytes data,
                              struct weights_tensor *tensor, struct reason *why)
{
    size_t length = strlen(name);
    if (length > WEIGHTS_NAME_BYTES_MAX)
        return reason_set(why, STATUS_CORRUPT, "header",
                          "a tensor's name has %zu bytes; at most %u are possible", length,
                          WEIGHTS_NAME_BYTES_MAX);
    tensor->name = mem_copy_text(name);
    tensor->origin = tensor->name;
    if (!json_is_object(entry))
        return reason_set(why, STATUS_CORRUPT, name, "the header's entry is not an object");

    uint32_t bytes = 0;
    enum status status = read_dtype(entry, tensor, &bytes, why);
    if (status == STATUS_OK)
        status = read_shape(entry, tensor, why);
    if (status == STATUS_OK)
        status = read_range(entry, data, bytes, tensor, why);
    return status;
}

// --- the header as a whole

static int by_begin(const void *a, const void *b)
{
    const struct weights_tensor *x = a;
    const struct weights_tensor *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1; // empty ones first
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    const struct weights_tensor *x = a;
    const struct weights_tensor *y = b;
    return strcmp(x->name, y->name);
}

static enum status check_order(struct weights *weights, struct bytes data, struct reason *why)
{
    qsort(weights->tensor, weights->count, sizeof(weights->tensor[0]), by_begin);
    const uint8_t *at = data.data;
    for (size_t i = 0; i < weights->count; i++) {
        const struct weights_tensor *tensor = &weights->tensor[i];
        if (tensor->data != at)
            return reason_set(why, STATUS_CORRUPT, tensor->name, "its bytes %s",
                              tensor->data < at ? "overlap those of another tensor"
                                                : "leave a gap behind the tensor before");
        at += tensor->bytes;
    }
    if (at != data.data + data.count)
        return reason_set(why, STATUS_CORRUPT, "header",
                          "%zu bytes behind the last tensor belong to none",
                          (size_t)(data.data + data.count - at));
    qsort(weights->tensor, weights->count, sizeof(weights->tensor[0]), by_name);
    return STATUS_OK;
}

static enum status read_metadata(const struct json *entry, struct weights *weights,
                                 struct reason *why)
{
    if (!json_is_object(entry))
        return reason_set(why, STATUS_CORRUPT, "__metadata__", "is not a JSON object");
    weights->note = mem_alloc_array(json_count(entry) + 1, sizeof(weights->note[0]));
    void *iterator = NULL;
    const char *name;
    const struct json *value;
    while (json_next(entry, &iterator, &name, &value)) {
        if (!json_is_text(value))
            return reason_set(why, STATUS_CORRUPT, "__metadata__", "'%.32s' is not a text", name);
        struct note *note = &weights->note[weights->notes++];
        note->name = mem_copy_text(name);
        note->value = mem_copy_text(json_text(value).data);
    }
    return STATUS_OK;
}

static enum status read_header(const struct json *header, struct bytes data,
                               struct weights *weights, struct reason *why)
{
    if (!json_is_object(header))
        return reason_set(why, STATUS_CORRUPT, "header", "is not a JSON object");
    size_t entries = json_count(header);
    if (entries > WEIGHTS_TENSORS_MAX)
        return reason_set(why, STATUS_CORRUPT, "header", "has %zu entries; at most %u are possible",
                          entries, WEIGHTS_TENSORS_MAX);
    weights->tensor = mem_alloc_array(entries > 0 ? entries : 1, sizeof(weights->tensor[0]));

    void *iterator = NULL;
    const char *name;
    const struct json *entry;
    while (json_next(header, &iterator, &name, &entry)) {
        enum status status;
        if (strcmp(name, "__metadata__") == 0)
            status = read_metadata(entry, weights, why);
        else
            status = read_entry(name, entry, data, &weights->tensor[weights->count++], why);
        if (status != STATUS_OK)
            return status;
    }
    return check_order(weights, data, why);
}

static enum status parse(struct bytes file, struct weights *weights, struct reason *why)
{
    if (file.count < LENGTH_BYTES)
        return reason_set(why, STATUS_CORRUPT, "header",
                          "the file has %zu bytes; a safetensors file has at least 8", file.count);
    uint64_t length = bytes_get_u64_le(file.data);
    if (length > file.count - LENGTH_BYTES)
        return reason_set(why, STATUS_CORRUPT, "header",
                          "announces %llu bytes of header, but the file has %zu bytes",
                          (unsigned long long)length, file.count);
    if (length > WEIGHTS_HEADER_BYTES_MAX)
        return reason_set(why, STATUS_CORRUPT, "header", "has %llu bytes; at most %u are possible",
                          (unsigned long long)length, WEIGHTS_HEADER_BYTES_MAX);

    struct json *header = NULL;
    struct reason inner = {0};
    enum status status = json_parse(file.data + LENGTH_BYTES, (size_t)length, &header, &inner);
    if (status != STATUS_OK)
        return reason_set(why, status == STATUS_INVALID ? STATUS_CORRUPT : status, "header", "%s",
                          inner.text);
    size_t begin = LENGTH_BYTES + (size_t)length;
    struct bytes data = {file.data + begin, file.count - begin};
    status = read_header(header, data, weights, why);
    json_destroy(&header);
    return status;
}

enum status weights_open_bytes(struct bytes file, struct weights **out, struct reason *why)
{
    assert(file.data || file.count == 0);
    assert(out);

    struct weights *weights = mem_alloc(sizeof(*weights));
    enum status status = parse(file, weights, why);
    if (status != STATUS_OK) {
        weights_close(&weights);
        return status;
    }
    *out = weights;
    return STATUS_OK;
}

enum status weights_of_tensors(const struct weights_tensor *tensors, size_t count,
                               struct weights **out, struct reason *why)
{
    assert(tensors || count == 0);
    assert(out);

    struct weights *weights = mem_alloc(sizeof(*weights));
    weights->tensor = mem_alloc_array(count > 0 ? count : 1, sizeof(weights->tensor[0]));
    for (size_t i = 0; i < count; i++) {
        weights->tensor[i] = tensors[i];
        weights->tensor[i].name = mem_copy_text(tensors[i].name);
        weights->tensor[i].origin = mem_copy_text(tensors[i].origin);
    }
    weights->count = count;
    qsort(weights->tensor, count, sizeof(weights->tensor[0]), by_name);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(weights->tensor[i - 1].name, weights->tensor[i].name) == 0) {
            enum status status =
                reason_set(why, STATUS_INVALID, weights->tensor[i].origin, "comes a second time");
            weights_close(&weights);
            return status;
        }
    }
    *out = weights;
    return STATUS_OK;
}

static enum status fail_errno(struct reason *why, enum status status, const char *path,
                              const char *what, int error)
{
    return reason_set(why, status, "", "%s cannot be %s: %s", path, what, SYSTEM_ERROR(error));
}

static enum status map_file(const char *path, struct weights *weights, struct reason *why)
{
    // Without O_NONBLOCK a pipe of that name would wait for its writer.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail_errno(why, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, path, "opened",
                          errno);
    struct stat state;
    if (fstat(fd, &state) != 0 || !S_ISREG(state.st_mode)) {
        (void)close(fd);
        return reason_set(why, STATUS_IO, "", "%s is not a regular file", path);
    }
    if (state.st_size < (off_t)LENGTH_BYTES) {
        (void)close(fd);
        return reason_set(why, STATUS_CORRUPT, "header",
                          "the file has %lld bytes; a safetensors file has at least 8",
                          (long long)state.st_size);
    }
    void *got = mmap(NULL, (size_t)state.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (got == MAP_FAILED) {
        int error = errno;
        (void)close(fd);
        return fail_errno(why, STATUS_IO, path, "mapped", error);
    }
    weights->map = got;
    weights->map_bytes = (size_t)state.st_size;
    weights->file = fd;
    return STATUS_OK;
}

enum status weights_open(const char *path, struct weights **out, struct reason *why)
{
    assert(path);
    assert(out);

    struct weights *weights = mem_alloc(sizeof(*weights));
    enum status status = map_file(path, weights, why);
    if (status == STATUS_OK) {
        struct bytes file = {weights->map, weights->map_bytes};
        status = parse(file, weights, why);
    }
    if (status != STATUS_OK) {
        weights_close(&weights);
        return status;
    }
    *out = weights;
    return STATUS_OK;
}

static int64_t nanoseconds(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

bool weights_identity(const struct weights *weights, struct weights_identity *out)
{
    assert(weights);
    assert(out);

    struct stat state;
    if (!weights->map || fstat(weights->file, &state) != 0)
        return false;
    *out = (struct weights_identity){
        .device = (uint64_t)state.st_dev,
        .inode = (uint64_t)state.st_ino,
        .bytes = (uint64_t)state.st_size,
        .modified_ns = nanoseconds(state.st_mtim),
        .changed_ns = nanoseconds(state.st_ctim),
    };
    return true;
}

// Names are given out as constant; here they are freed.
static void free_name(const char *name)
{
    union {
        const char *given;
        void *owned;
    } text = {.given = name};
    mem_free(text.owned);
}

void weights_close(struct weights **weights)
{
    assert(weights);

    if (!*weights)
        return;
    for (size_t i = 0; i < (*weights)->count; i++) {
        const struct weights_tensor *tensor = &(*weights)->tensor[i];
        if (tensor->origin != tensor->name)
            free_name(tensor->origin);
        free_name(tensor->name);
    }
    mem_free((*weights)->tensor);
    for (size_t i = 0; i < (*weights)->notes; i++) {
        mem_free((*weights)->note[i].name);
        mem_free((*weights)->note[i].value);
    }
    mem_free((*weights)->note);
    if ((*weights)->map) {
        (void)munmap((*weights)->map, (*weights)->map_bytes);
        (void)close((*weights)->file);
    }
    mem_free(*weights);
    *weights = NULL;
}

size_t weights_count(const struct weights *weights)
{
    assert(weights);

    return weights->count;
}

const struct weights_tensor *weights_at(const struct weights *weights, size_t index)
{
    assert(weights && index < weights->count);

    return &weights->tensor[index];
}

const struct weights_tensor *weights_find(const struct weights *weights, const char *name)
{
    assert(weights);
    assert(name);

    struct weights_tensor key = {.name = name};
    return bsearch(&key, weights->tensor, weights->count, sizeof(key), by_name);
}

const char *weights_metadata(const struct weights *weights, const char *name)
{
    assert(weights);
    assert(name);

    for (size_t i = 0; i < weights->notes; i++) {
        if (strcmp(weights->note[i].name, name) == 0)
            return weights->note[i].value;
    }
    return NULL;
}

// --- values

static void widen(enum weights_dtype dtype, const uint8_t *data, size_t count, float *target)
{
    uint16_t halves[CHUNK];
    assert(count <= CHUNK);

    memcpy(halves, data, count * sizeof(halves[0]));
    if (dtype == WEIGHTS_F16) {
        half_to_floats(halves, target, count);
    } else {
        for (size_t i = 0; i < count; i++)
            target[i] = half_bf16_to_float(halves[i]);
    }
}

// Copies values and tells whether all are finite. Without branches, and four sums at a time, the
// compiler makes vectors of it: this is done with every weight of a model when it is opened.
static bool copy_finite(const uint8_t *data, size_t count, float *target)
{
    enum { STEP = 16 };
    uint32_t bad[STEP] = {0};
    size_t i = 0;
    for (; i + STEP <= count; i += STEP) {
        uint32_t bits[STEP];
        memcpy(bits, data + i * sizeof(float), sizeof(bits));
        for (size_t k = 0; k < STEP; k++)
            bad[k] |= (bits[k] & 0x7f800000u) == 0x7f800000u;
        memcpy(target + i, bits, sizeof(bits));
    }
    for (; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, data + i * sizeof(float), sizeof(bits));
        bad[0] |= (bits & 0x7f800000u) == 0x7f800000u;
        memcpy(target + i, &bits, sizeof(bits));
    }
    uint32_t any = 0;
    for (size_t k = 0; k < STEP; k++)
        any |= bad[k];
    return any == 0;
}

enum status weights_read_part(const struct weights_tensor *tensor, size_t first, size_t count,
                              float *target, struct reason *why)
{
    assert(tensor);
    assert(target || count == 0);
    assert(first <= tensor->count && count <= tensor->count - first);

    if (tensor->dtype == WEIGHTS_OTHER)
        return reason_set(why, STATUS_UNSUPPORTED, tensor->name,
                          "has dtype %s; F32, F16 and BF16 can be read", tensor->dtype_name);
    size_t value_bytes = tensor->dtype == WEIGHTS_F32 ? 4 : 2;
    for (size_t done = 0; done < count; done += CHUNK) {
        size_t at = first + done;
        size_t some = count - done < CHUNK ? count - done : CHUNK;
        const uint8_t *data = tensor->data + at * value_bytes;
        if (tensor->dtype != WEIGHTS_F32) {
            widen(tensor->dtype, data, some, target + done);
            data = (const uint8_t *)(target + done);
        }
        if (!copy_finite(data, some, target + done))
            return reason_set(why, STATUS_CORRUPT, tensor->name,
                              "has a value that is not finite among numbers %zu..%zu", at,
                              at + some - 1);
    }
    return STATUS_OK;
}

enum status weights_read(const struct weights_tensor *tensor, float *target, struct reason *why)
{
    assert(tensor);

    return weights_read_part(tensor, 0, tensor->count, target, why);
}

void weights_release(const struct weights *weights, const struct weights_tensor *tensor,
                     size_t first, size_t bytes)
{
    assert(weights);
    assert(tensor);
    assert(first <= tensor->bytes && bytes <= tensor->bytes - first);

    if (!weights->map)
        return;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *map = weights->map;
    // Whole pages only: the ends belong to the neighbours too.
    size_t begin = (size_t)(tensor->data - map) + first;
    size_t from = (begin + page - 1) / page * page;
    size_t to = (begin + bytes) / page * page;
    if (from < to)
        (void)madvise(map + from, to - from, MADV_DONTNEED);
}
