// SPDX-License-Identifier: Apache-2.0
// dataset_layout_internal.h - how data sets lie on disk as their makers publish them: what each
// layout tells.
//
// A layout says which classes there are and which pictures a split has. Both are read at once,
// before any picture, so that a tree that is not whole is told at the start and not after an hour.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_DATASET_LAYOUT_INTERNAL_H
#define RECO_TOOLS_DATASET_LAYOUT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/dataset_internal.h"

#define DATASET_LAYOUT_CLASSES_MAX 100000
#define DATASET_LAYOUT_PICTURES_MAX 20000000
#define DATASET_LAYOUT_LIST_BYTES_MAX ((size_t)256 << 20) // of a list, or a JSON of captions
#define DATASET_LAYOUT_NONE SIZE_MAX                      // no caption of its own

struct dataset_layout_picture {
    size_t path, caption; // where they begin in `texts`
    uint32_t label;
};

struct rowfile;

struct dataset_layout {
    const struct dataset_layout_kind *kind;
    char *root;
    const char *split;         // one of kind->splits, without those behind it
    struct dataset_list keys;  // what classes are called in the lists
    struct dataset_list names; // [keys.count] for people; "": it has none
    size_t last;               // class that was found last
    char *names_from;          // the file that has them; NULL: none was found
    struct buffer texts;       // NUL behind each
    struct dataset_layout_picture *pictures;
    size_t count, room, at;
    struct rowfile *rows; // of a layout that is read line by line
    char *rows_path;
};

// What a loader has for its layout.
typedef bool dataset_layout_here(const char *root);
typedef enum status dataset_layout_read(struct dataset_layout *layout,
                                        struct reason *why) MUST_CHECK;
typedef enum dataset_step dataset_layout_step(struct dataset_layout *layout, struct arena *arena,
                                              struct dataset_item *out, struct reason *why);

// One row of the table in dataset_layout.c.
struct dataset_layout_kind {
    const char *name;
    dataset_layout_here *is_here;
    const char *splits; // "train|test"; the first is what memories are built from
    const char *measured;
    size_t classes;                        // of the whole
    const char *templates, *templates_end; // one a line
    dataset_layout_read *read_classes;     // keys and names; NULL: there are no classes
    dataset_layout_read *read_pictures;
    // In place of read_pictures(): opens `rows`, and the next item of them.
    dataset_layout_read *open_rows;
    dataset_layout_step *next;
};

// --- dataset_layout.c: what loaders share

bool dataset_layout_has_file(const char *root, const char *name);
bool dataset_layout_has_folder(const char *root, const char *name);

// Whether it is the split that was asked for.
bool dataset_layout_is_split(const struct dataset_layout *layout, const char *word);

// "ROOT/NAME". STATUS_INVALID when it is too long.
enum status dataset_layout_path(const struct dataset_layout *layout, const char *name,
                                char out[DATASET_PATH_BYTES], struct reason *why) MUST_CHECK;

// The first of the names (ended by NULL) that is a file, in `out`. STATUS_NOT_FOUND naming the
// first.
enum status dataset_layout_choose(const struct dataset_layout *layout, const char *const *names,
                                  char out[DATASET_PATH_BYTES], struct reason *why) MUST_CHECK;

// A class, with its name for people: '_' becomes a blank. STATUS_INVALID for a name that is not
// UTF-8, or too long.
enum status dataset_layout_add_class(struct dataset_layout *layout, struct text key,
                                     struct text name, struct reason *why) MUST_CHECK;

// The class of a key; false when it is none.
bool dataset_layout_find_class(struct dataset_layout *layout, struct text key, uint32_t *label);

// A picture, "FOLDER/REST" below the root; `caption` {NULL, 0}: its class says it. STATUS_INVALID
// for a path that leads out, for a label that is none.
enum status dataset_layout_add_picture(struct dataset_layout *layout, const char *folder,
                                       struct text rest, uint32_t label, struct text caption,
                                       struct reason *why) MUST_CHECK;

// Lines of a list below the root.
struct dataset_layout_lines {
    char path[DATASET_PATH_BYTES];
    struct buffer data;
    size_t at;
    uint64_t line;         // of `text`, from 1
    struct text text;      // without white space at both ends
    struct text fields[4]; // the first of it, parted by blanks
    size_t field_count;    // of all
};

// STATUS_NOT_FOUND, STATUS_IO, STATUS_INVALID naming the file. dataset_layout_end_lines() always.
enum status dataset_layout_begin_lines(const struct dataset_layout *layout, const char *name,
                                       struct dataset_layout_lines *out,
                                       struct reason *why) MUST_CHECK;
void dataset_layout_end_lines(struct dataset_layout_lines *lines);

// The next line with something in it; false at the end.
bool dataset_layout_next_line(struct dataset_layout_lines *lines);

// "PATH line N: TEXT", as STATUS_INVALID; `field` of `why` stays empty.
enum status dataset_layout_refuse_line(const struct dataset_layout_lines *lines, struct reason *why,
                                       const char *format, ...) PRINTF_LIKE(3, 4);

// The same in front of what `inner` says.
enum status dataset_layout_blame_line(const struct dataset_layout_lines *lines, enum status status,
                                      const struct reason *inner, struct reason *why);

// A whole number of digits only, low..high.
bool dataset_layout_number(struct text digits, uint32_t low, uint32_t high, uint32_t *out);

// --- the loaders

dataset_layout_here dataset_layout_is_cub, dataset_layout_is_food, dataset_layout_is_pets,
    dataset_layout_is_sun, dataset_layout_is_cars, dataset_layout_is_flowers,
    dataset_layout_is_imagenet, dataset_layout_is_flickr, dataset_layout_is_coco,
    dataset_layout_is_oven;

dataset_layout_read dataset_layout_classes_cub, dataset_layout_classes_food,
    dataset_layout_classes_pets, dataset_layout_classes_sun, dataset_layout_classes_cars,
    dataset_layout_classes_flowers, dataset_layout_classes_imagenet;

dataset_layout_read dataset_layout_pictures_cub, dataset_layout_pictures_food,
    dataset_layout_pictures_pets, dataset_layout_pictures_sun, dataset_layout_pictures_cars,
    dataset_layout_pictures_flowers, dataset_layout_pictures_imagenet,
    dataset_layout_pictures_karpathy; // of flickr30k and coco

dataset_layout_read dataset_layout_rows_oven;
dataset_layout_step dataset_layout_next_oven;

#endif
