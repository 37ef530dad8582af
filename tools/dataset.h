// SPDX-License-Identifier: Apache-2.0
// dataset.h - image-text pairs from folders, webdataset tars and arrays, one record after the
// other.
//
// A source is
//   a folder       of a data set as its makers publish it: CUB-200-2011, Stanford Cars,
//                  Flowers-102, Oxford Pets, Food-101, ImageNet, SUN397, Flickr30k, COCO, OVEN
//                  (tools/datasets.md), known by its files
//   a folder       pictures at any depth, each with a .txt or .json of the same stem; and the
//                  .tar shards that lie directly in it (img2dataset's output is either)
//   X.tar          webdataset: members of one stem are one sample; also .tar.gz, .tar.zst ...
//   X.csv, .tsv,   a manifest: a header that names columns, or an object in a line, and in each
//   .jsonl         row a picture's path, relative to the manifest; "-" is one on stdin. Lines of
//                  a .jsonl may have "image_embedding" and "text_embedding" instead
//   a folder with  records_0.jsonl and so on: an export of ours, such lines
//   a folder with  img_emb/ and text_emb/: clip-retrieval's output, captions from metadata/*.jsonl
//   A.npy B.npy [C.jsonl]  rows of images, the same rows of texts, one line each of metadata
//
// Key: the sidecar's "key"; else the path in the folder or manifest without extension, SHARD/STEM
// in a tar, the row number (counted through all arrays). Caption: the .txt, else "caption" or
// "text" of the .json. Source: "source" or "url", else where the picture lies. Tags: "tags".
//
// Every source is checked before use, nothing in it is believed.
//
// Thread-safety: none; a dataset belongs to one thread at a time.

#ifndef RECO_TOOLS_DATASET_H
#define RECO_TOOLS_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"

#define DATASET_PATH_BYTES 4096
#define DATASET_SIDECAR_BYTES_MAX ((size_t)1 << 20) // of a .txt, a .json, a line of .jsonl

// In a folder: an export into it is not whole.
#define DATASET_PARTIAL "export.partial"

#define DATASET_NAMES_MAX 7 // names that a column may have

struct dataset;

// Parts of a manifest's rows, and the words for them.
enum dataset_role {
    DATASET_IMAGE,
    DATASET_CAPTION,
    DATASET_KEY,
    DATASET_SOURCE,
    DATASET_TAGS,
    DATASET_ROLES,
};
#define DATASET_ROLE_WORDS "image, caption, key, source, tags"
#define DATASET_FORMATS "csv|tsv|jsonl" // in the order of enum rowfile_format

// Zero is the default, but for the format.
struct dataset_params {
    int format;                         // of a manifest on stdin; -1: none was given
    const char *columns[DATASET_ROLES]; // names of the user's own; NULL: the usual ones
    bool labelled;     // the .cls of a tar's sample is told, and such a sample needs no caption
    const char *split; // of a data set as its makers publish it; NULL: train
    const char
        *entity; // member or column that says what a pair is of, until dataset_close(); NULL: none
};

// Takes "ROLE=NAME"; `params` points into it. STATUS_INVALID.
enum status dataset_params_column(struct dataset_params *params, const char *assignment,
                                  struct reason *why) MUST_CHECK;

enum dataset_step {
    DATASET_ITEM,
    DATASET_BAD, // this one is left out: named, with the reason
    DATASET_END,
};

struct dataset_item {
    struct api_ingest_record record;
    const char *name; // for people: path, "SHARD.tar: STEM", "images.npy row 5"
    // What its .cls says, where params.labelled is set, or the number of a data set's class, from
    // 0; {NULL, 0}: none.
    struct text label;
    const char *entity_name; // params.entity
    struct text entity;      // what it says; {NULL, 0}: nothing
};

// Looks at all sources: which kind each is, which pictures a folder has, whether arrays fit.
// STATUS_NOT_FOUND, STATUS_INVALID, STATUS_IO, STATUS_UNSUPPORTED naming the source.
// NULL for `params` is all defaults.
enum status dataset_open(const char *const *sources, size_t count,
                         const struct dataset_params *params, struct dataset **out,
                         struct reason *why) MUST_CHECK;
void dataset_close(struct dataset **dataset); // NULL is allowed

// The next record; what it points to lives in `arena`. DATASET_BAD sets out->name and `why`.
enum dataset_step dataset_next(struct dataset *dataset, struct arena *arena,
                               struct dataset_item *out, struct reason *why);

// Records in all sources; 0 when that is known only at the end (tars).
uint64_t dataset_total(const struct dataset *dataset);

// Of a data set as its makers publish it: "cub-200-2011, split train"; NULL for other sources.
// Valid until dataset_close().
const char *dataset_about(const struct dataset *dataset);

// Numbers in an embedding that is given; 0 for pictures. A dataset is one or the other.
uint32_t dataset_dimension(const struct dataset *dataset);

#endif
