// SPDX-License-Identifier: Apache-2.0
// weights.h - named tensors in a safetensors file.
//
// The file is eight bytes of header length (little-endian), a JSON header that gives
// each tensor a dtype, a shape and a range of bytes, then the bytes. Everything in
// the header is checked against the file when it is opened: dtypes are known, shapes
// and ranges agree, ranges lie inside the file, do not overlap and leave no gap. So
// whoever holds a tensor may read all of it. Bytes are not copied: a file is mapped.
//
// A file that shrinks while it is mapped kills the process that reads it, as with
// every mapping; replace weights by rename, never in place.
//
// Thread-safety: an open file may be read by many threads.

#ifndef RECO_SHADERS_MODELS_WEIGHTS_H
#define RECO_SHADERS_MODELS_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define WEIGHTS_HEADER_BYTES_MAX (16u << 20) // 65,536 tensors need about 12 MB
#define WEIGHTS_TENSORS_MAX 65536u
#define WEIGHTS_RANK_MAX 8u
#define WEIGHTS_NAME_BYTES_MAX 512u

struct weights;

enum weights_dtype {
    WEIGHTS_F32,
    WEIGHTS_F16,
    WEIGHTS_BF16,
    WEIGHTS_OTHER, // known to the format, not readable as floats
};

struct weights_tensor {
    const char *name;
    const char *origin; // how the file calls it, for reasons; the name unless said otherwise
    enum weights_dtype dtype;
    const char *dtype_name; // as in the file: "F32", "I64"
    uint32_t rank;
    uint64_t shape[WEIGHTS_RANK_MAX];
    size_t count;        // product of the shape; 1 for rank 0
    const uint8_t *data; // any alignment
    size_t bytes;
};

// Maps a file. STATUS_NOT_FOUND, STATUS_IO, STATUS_CORRUPT for one that breaks the
// format, STATUS_UNSUPPORTED for a dtype that this version does not know.
enum status weights_open(const char *path, struct weights **out, struct reason *why) MUST_CHECK;

// The same from memory, which must stay as long as *out.
enum status weights_open_bytes(struct bytes file, struct weights **out,
                               struct reason *why) MUST_CHECK;

// What tells a file from another one and from itself with other bytes, as far as that can be told
// without reading it.
struct weights_identity {
    uint64_t device;
    uint64_t inode;
    uint64_t bytes;
    int64_t modified_ns; // since 1970; the content
    int64_t
        changed_ns; // likewise; the content or what is said about the file, set by the kernel alone
};

// Asks anew at each call. False for weights that are not a file of their own.
bool weights_identity(const struct weights *weights, struct weights_identity *out);

// Tensors given one by one, for files of another layout. Names and origins are copied; the bytes
// must stay as long as *out. STATUS_INVALID when two have the same name.
enum status weights_of_tensors(const struct weights_tensor *tensors, size_t count,
                               struct weights **out, struct reason *why) MUST_CHECK;

// Frees *weights with all its tensors and sets it to NULL. NULL is allowed.
void weights_close(struct weights **weights);

size_t weights_count(const struct weights *weights);

// The tensor `index` in the order of the names' bytes; it lives as long as `weights`.
const struct weights_tensor *weights_at(const struct weights *weights, size_t index);

// NULL when there is none of that name.
const struct weights_tensor *weights_find(const struct weights *weights, const char *name);

// The text `name` of the file's __metadata__, NULL when there is none; it lives as long as
// `weights`.
const char *weights_metadata(const struct weights *weights, const char *name);

// Writes the tensor's `count` values as floats. STATUS_UNSUPPORTED for WEIGHTS_OTHER,
// STATUS_CORRUPT when a value is not finite; the target is then partly written.
enum status weights_read(const struct weights_tensor *tensor, float *target,
                         struct reason *why) MUST_CHECK;

// The same for its values `first` .. `first + count - 1`.
enum status weights_read_part(const struct weights_tensor *tensor, size_t first, size_t count,
                              float *target, struct reason *why) MUST_CHECK;

// Lets the memory of a mapped tensor's bytes `first` .. `first + bytes - 1` go; whole pages only,
// and they come back from the file when they are read again. Without effect on tensors that this
// object did not map. Any thread may call it, at any time.
void weights_release(const struct weights *weights, const struct weights_tensor *tensor,
                     size_t first, size_t bytes);

// --- writing (weights_write.c)

struct weights_entry {
    const char *name;
    uint32_t rank;
    uint64_t shape[WEIGHTS_RANK_MAX];
    const float *values; // written as F32
};

struct weights_note {
    const char *name;
    struct text value; // UTF-8
};

// Appends the bytes of a safetensors file with those tensors, in that order, and notes as its
// __metadata__. STATUS_NO_MEMORY.
enum status weights_write(const struct weights_entry *entries, size_t count,
                          const struct weights_note *notes, size_t note_count,
                          struct buffer *out) MUST_CHECK;

#endif
