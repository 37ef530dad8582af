// SPDX-License-Identifier: Apache-2.0
// dataset_internal.h - the kinds of sources, each with open, next and close.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_DATASET_INTERNAL_H
#define RECO_TOOLS_DATASET_INTERNAL_H

#include <stdbool.h>

#include "proto/base/bytes.h"
#include "proto/base/json.h"
#include "tools/dataset.h"

// --- dataset_list.c: names of files

struct dataset_list {
    char **names; // owned
    size_t count;
};

void dataset_list_add(struct dataset_list *list, const char *name);
void dataset_list_free(struct dataset_list *list);

// Sorted by length, then by bytes: shard 10 comes after shard 9.
void dataset_list_sort_numbered(struct dataset_list *list);

// Names of the files directly in `folder` that end with `suffix`, in no order. STATUS_NOT_FOUND,
// STATUS_IO.
enum status dataset_list_files(const char *folder, const char *suffix, struct dataset_list *out,
                               struct reason *why) MUST_CHECK;

bool dataset_is_folder(const char *path);
bool dataset_is_file(const char *path);
bool dataset_ends_with(const char *name, const char *suffix); // upper case counts as lower

// "FOLDER/NAME"; false when longer than DATASET_PATH_BYTES.
bool dataset_join(const char *folder, const char *name, char out[DATASET_PATH_BYTES]) MUST_CHECK;

// Where a script that is shipped lies: installed beside the program, else in the repository.
void dataset_find_script(const char *name, char out[DATASET_PATH_BYTES]);

// Whether the file extension (no dot) is one of a picture's.
bool dataset_is_picture(struct text extension);

// Reads a regular file and nothing else: a pipe would wait, a device never end. STATUS_NOT_FOUND,
// STATUS_INVALID, STATUS_IO, STATUS_NO_MEMORY. The caller ends *out with buffer_deinit().
enum status dataset_read_file(const char *path, size_t bytes_max, struct buffer *out,
                              struct reason *why) MUST_CHECK;

// Reads a picture's file into the arena.
enum status dataset_read_picture(const char *path, struct arena *arena,
                                 struct api_ingest_record *record, struct reason *why) MUST_CHECK;

// --- dataset_sidecar.c: what stands beside a picture

// Member names that may hold each part of a record, best first, ended by NULL.
struct dataset_names {
    const char *key[DATASET_NAMES_MAX + 1];
    const char *caption[DATASET_NAMES_MAX + 1];
    const char *source[DATASET_NAMES_MAX + 1];
    const char *tags[2];
};

struct text dataset_trimmed(struct text text); // without white space at both ends
struct bytes dataset_bytes_of(struct text text);

// The text in the arena. STATUS_NO_MEMORY.
enum status dataset_copy(struct arena *arena, struct text text, struct text *out,
                         struct reason *why) MUST_CHECK;

// Takes a caption: white space at both ends goes. STATUS_INVALID unless it is UTF-8.
enum status dataset_take_caption(struct bytes txt, struct arena *arena,
                                 struct api_ingest_record *record, struct reason *why) MUST_CHECK;

// The first of `names` (ended by NULL) that is a text, or a whole number written out; *out is
// unchanged when there is none. STATUS_INVALID for another kind of value.
enum status dataset_take_member(const struct json *object, const char *const *names,
                                struct arena *arena, struct text *out,
                                struct reason *why) MUST_CHECK;

// Takes the members named so, texts as they are. A caption that the record has stays. What
// img2dataset marks as failed is refused.
enum status dataset_take_object(const struct json *object, const struct dataset_names *names,
                                struct arena *arena, struct api_ingest_record *record,
                                struct reason *why) MUST_CHECK;

// Takes what item->entity_name names, if anything; STATUS_INVALID for another kind of value than a
// text or a whole number.
enum status dataset_take_entity(const struct json *object, struct arena *arena,
                                struct dataset_item *item, struct reason *why) MUST_CHECK;

// Takes "key", "caption" or "text", "tags", "source" or "url" or "image_path" of a JSON object, and
// its entity.
enum status dataset_take_json(struct bytes json, struct arena *arena, struct dataset_item *item,
                              struct reason *why) MUST_CHECK;

// Takes "image_embedding" and "text_embedding", arrays of `dimension` numbers both. STATUS_INVALID.
enum status dataset_take_embeddings(const struct json *object, uint32_t dimension,
                                    struct arena *arena, struct api_ingest_record *record,
                                    struct reason *why) MUST_CHECK;

// Whether all are finite and not all zero.
bool dataset_has_direction(const float *values, size_t count);

// Every limit of a record; `needs_caption` unless its text embedding is given.
enum status dataset_check(const struct api_ingest_record *record, bool needs_caption,
                          struct reason *why) MUST_CHECK;

// A formatted text in the arena; NULL when it is spent.
const char *dataset_format(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);

// --- the kinds. What is read goes into *out, which has the name of the entity already.

// Begins an item anew, but for the name of the entity.
void dataset_begin_item(struct dataset_item *item, const char *name);

struct dataset_folder;
enum status dataset_folder_open(const char *path, struct dataset_folder **out,
                                struct reason *why) MUST_CHECK;
enum dataset_step dataset_folder_next(struct dataset_folder *folder, struct arena *arena,
                                      struct dataset_item *out, struct reason *why);
void dataset_folder_close(struct dataset_folder **folder);
size_t dataset_folder_count(const struct dataset_folder *folder);

// Length of a tar's name without .tar, .tar.gz ...; 0 for what is no tar's name.
size_t dataset_tar_stem_bytes(const char *name);

struct dataset_tar;
enum status dataset_tar_open(const char *path, bool labelled, struct dataset_tar **out,
                             struct reason *why) MUST_CHECK;
enum dataset_step dataset_tar_next(struct dataset_tar *tar, struct arena *arena,
                                   struct dataset_item *out, struct reason *why);
void dataset_tar_close(struct dataset_tar **tar);

struct dataset_arrays;
// `metadata` may be NULL; `first_row` is the number of the first row among all arrays.
enum status dataset_arrays_open(const char *images, const char *texts, const char *metadata,
                                uint64_t first_row, struct dataset_arrays **out,
                                struct reason *why) MUST_CHECK;
enum dataset_step dataset_arrays_next(struct dataset_arrays *arrays, struct arena *arena,
                                      struct dataset_item *out, struct reason *why);
void dataset_arrays_close(struct dataset_arrays **arrays);
uint64_t dataset_arrays_rows(const struct dataset_arrays *arrays);
uint32_t dataset_arrays_dimension(const struct dataset_arrays *arrays);

struct dataset_manifest;
// `path` may be "-": stdin, whose format must be given.
enum status dataset_manifest_open(const char *path, const struct dataset_params *params,
                                  struct dataset_manifest **out, struct reason *why) MUST_CHECK;
enum dataset_step dataset_manifest_next(struct dataset_manifest *manifest, struct arena *arena,
                                        struct dataset_item *out, struct reason *why);
void dataset_manifest_close(struct dataset_manifest **manifest);

// Numbers of an embedding, where the first line of a .jsonl has such: then all do. 0: pictures.
uint32_t dataset_manifest_dimension(const struct dataset_manifest *manifest);

// Whether the name is that of a manifest.
bool dataset_manifest_is_name(const char *name);

// --- dataset_layout.c: data sets as their makers publish them

struct dataset_layout;
struct dataset_layout_kind;

// The layout that the folder has, by its files; NULL: none that is known.
const struct dataset_layout_kind *dataset_layout_find(const char *folder);
const char *dataset_layout_name(const struct dataset_layout_kind *kind);

// Classes of the whole data set; 0: it has captions.
size_t dataset_layout_whole(const struct dataset_layout_kind *kind);

// A split that an evaluation measures; what `split` names must be one. STATUS_INVALID naming those
// that there are.
enum status dataset_layout_measured(const struct dataset_layout_kind *kind, const char *split,
                                    const char **out, struct reason *why) MUST_CHECK;

// The prompts that are usual for it, one a line; {NULL, 0}: those of the model.
struct text dataset_layout_templates(const struct dataset_layout_kind *kind);

// How many classes it has, 0: none of its own. With `lines` their names, one a line: STATUS_INVALID
// when it has none, STATUS_NOT_FOUND when they have no names here; else as opening.
enum status dataset_layout_classes(const struct dataset_layout_kind *kind, const char *root,
                                   struct buffer *lines, size_t *count,
                                   struct reason *why) MUST_CHECK;

// Reads which pictures the split has (NULL: that which memories are built from), and sees that each
// class has one that is there. With `labelled` names are not needed.
enum status dataset_layout_open(const struct dataset_layout_kind *kind, const char *root,
                                const struct dataset_params *params, struct dataset_layout **out,
                                struct reason *why) MUST_CHECK;
enum dataset_step dataset_layout_next(struct dataset_layout *layout, struct arena *arena,
                                      struct dataset_item *out, struct reason *why);
void dataset_layout_close(struct dataset_layout **layout);

// Its name and the split, for people.
void dataset_layout_describe(const struct dataset_layout *layout, char *out, size_t bytes);

// Pictures; 0: known only at the end.
size_t dataset_layout_count(const struct dataset_layout *layout);

#endif
