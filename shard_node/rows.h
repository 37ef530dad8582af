// SPDX-License-Identifier: Apache-2.0
// rows.h - the embeddings of one generation in mapped files, where a search scans them.
//
// A record has a slot; its image row, its text row and what is known about it stand at that slot of
// three files. Rows derive from the store: `head` says up to which log sequence, and whoever
// opens them applies what came later. A slot is written once: replacing a record takes a new
// slot and clears the live bit of the old one, so a search never sees a row half written.
//
// Thread-safety: append, remove, hide and checkpoint by one thread at a time; finding and viewing
// by any.

#ifndef RECO_SHARD_NODE_ROWS_H
#define RECO_SHARD_NODE_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/embedding.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shard_node/rows_map.h"

#define ROWS_FORMAT 1u
// Address space, not memory, for one file: 256 million rows of 512 dimensions.
#if defined(__SANITIZE_THREAD__) // leaves a program 1.5 TiB
#define ROWS_FILE_BYTES_MAX (1ull << 30)
#else
#define ROWS_FILE_BYTES_MAX (256ull << 30)
#endif
#define ROWS_NONE ROWS_MAP_NONE

struct rows;

struct rows_params {
    const char *directory; // of this generation; rows_create() makes it
    uint32_t generation;
    uint32_t dimension;
    uint64_t store_identity; // rows of another store are of no use
};

struct rows_opened {
    uint64_t sequence; // everything up to here is in them
    uint64_t *damaged; // ids whose rows failed their checksum and are out; freed by mem_free()
    size_t damaged_count;
};

// Opens what an earlier process left at its last checkpoint and checks every row. STATUS_NOT_FOUND
// when there is nothing, STATUS_CORRUPT when it is of no use, STATUS_IO, STATUS_NO_MEMORY.
enum status rows_open(const struct rows_params *params, struct rows **out,
                      struct rows_opened *opened, struct reason *why) MUST_CHECK;

// Begins with no rows; what was in the directory is gone.
enum status rows_create(const struct rows_params *params, struct rows **out,
                        struct reason *why) MUST_CHECK;

// Views must have ended. What came after the last checkpoint is forgotten. Sets *rows to NULL; NULL
// is allowed.
void rows_close(struct rows **rows);

// Removes the directory and all in it; it may be missing.
enum status rows_delete_files(const char *directory, struct reason *why) MUST_CHECK;

struct rows_item {
    uint64_t id;
    const uint16_t *image; // [dimension]
    const uint16_t *text;
    uint32_t crc;
    bool hidden; // as rows_hide(); without, it is what the record was that it replaces
};

// Adds records, replacing those with the same ids; the later of two in one call wins. STATUS_IO,
// STATUS_NO_MEMORY, STATUS_EXHAUSTED when the disk is full or the files are as large as they may
// get; then nothing is changed for those who look.
enum status rows_append(struct rows *rows, const struct rows_item *items, size_t count,
                        struct reason *why) MUST_CHECK;

// Whether the last rows_append() found no space on the disk. It may be called again.
bool rows_lacks_space(const struct rows *rows);

// Whether the record was there.
bool rows_remove(struct rows *rows, uint64_t id);

// Hides a record from all views that begin from now on, or shows it again. What replaces a hidden
// record is hidden; removing forgets it. Whether that changed anything; false when it is not there.
bool rows_hide(struct rows *rows, uint64_t id, bool hidden);
bool rows_is_hidden(struct rows *rows, uint64_t id);
uint64_t rows_hidden_count(struct rows *rows);

// Makes everything so far survive a crash, as everything up to `sequence`; but not what is
// hidden, which only the store knows after an opening. STATUS_EXHAUSTED: there is
// no space for the head, and the checkpoint before still counts. STATUS_IO.
enum status rows_checkpoint(struct rows *rows, uint64_t sequence, struct reason *why) MUST_CHECK;

// The slot of a live record, else ROWS_NONE.
uint32_t rows_find(struct rows *rows, uint64_t id);
void rows_find_many(struct rows *rows, const uint64_t *ids, size_t count, uint32_t *slots);

// Valid as long as the rows, also when the record is replaced or removed meanwhile.
const uint16_t *rows_row(const struct rows *rows, enum modality modality, uint32_t slot);
const struct rows_slot *rows_slot(const struct rows *rows, uint32_t slot);

uint64_t rows_live_count(struct rows *rows);
uint64_t rows_dead_count(struct rows *rows);  // slots of what was removed or replaced
uint64_t rows_bytes(const struct rows *rows); // of the files
uint64_t rows_heap_bytes(struct rows *rows);  // of what stands beside them in memory

// What is read without a lock. A bit for each slot below the count, where they stay as long as the
// rows: a visible record is live and not hidden. A replaced record's new bit is set before the
// count is raised, and its old one cleared afterwards: whoever finds a bit cleared and reads the
// count then finds the new slot below it.
uint32_t rows_slot_count(const struct rows *rows); // removed and replaced ones too
uint32_t
rows_covered(const struct rows *rows); // slots that a checkpoint has: no crash gives them anew
const _Atomic uint64_t *rows_visible(const struct rows *rows);
const _Atomic uint64_t *rows_live(const struct rows *rows);

// The records at one moment. Appending and removing go on beside it.
struct rows_view {
    size_t dimension;
    uint32_t slot_count;
    uint64_t
        live_count; // records that are not hidden; those not chosen too, until rows_view_recount()
    uint64_t dead_count;           // rows_dead_count() at that moment
    uint64_t *live;                // one bit for each slot, the view's own
    const uint16_t *rows[2];       // by enum modality: [slot_count][dimension]
    const struct rows_slot *slots; // [slot_count]
};

// Who is to be live in a view. A zero struct: everybody.
struct rows_choice {
    const uint64_t *excluded; // ids that are not
    size_t excluded_count;
    const uint64_t *only; // ids that are, and nobody else
    size_t only_count;
    bool has_only;
};

// STATUS_NO_MEMORY.
enum status rows_view_begin(struct rows *rows, const struct rows_choice *choice,
                            struct rows_view *out) MUST_CHECK;

// The same without bits of its own: `live` is NULL, and rows_visible() goes on changing.
void rows_view_share(struct rows *rows, struct rows_view *out);

void rows_view_recount(struct rows_view *view); // after bits of `live` were cleared
void rows_view_end(struct rows_view *view);

#endif
