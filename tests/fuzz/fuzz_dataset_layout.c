// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes in the lists of a data set break their loader: a tree is read, or refused with
// words.
//
// Method: the first byte of the input chooses a layout, the rest are its lists, parted by a byte of
// 0x1e. The tree has no pictures but one, which the first lines of the corpus name.

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/scratch.h"
#include "tools/dataset.h"

#define LISTS_MAX 4
#define FOLDERS_MAX 3
#define PARTING 0x1e

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
    const char *name, *split;
    const char *folders[FOLDERS_MAX];
    const char *lists[LISTS_MAX];
    const char *picture;
} trees[] = {
    {"cub",
     "test",
     {"images"},
     {"classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt"},
     "images/a.jpg"},
    {"food",
     "test",
     {"meta", "images", "images/pie"},
     {"meta/classes.txt", "meta/test.txt", "meta/train.txt"},
     "images/pie/1.jpg"},
    {"pets",
     "test",
     {"annotations", "images"},
     {"annotations/trainval.txt", "annotations/test.txt"},
     "images/Pug_1.jpg"},
    {"sun", "test", {"a", "a/abbey"}, {"ClassName.txt", "Testing_01.txt"}, "a/abbey/sun_a.jpg"},
    {"imagenet",
     "val",
     {"val"},
     {"LOC_synset_mapping.txt", "LOC_val_solution.csv", "classnames.txt"},
     "val/a.JPEG"},
    {"flickr", "test", {"images"}, {"dataset_flickr30k.json"}, "images/a.jpg"},
    {"oven",
     "val",
     {"oven_images", "oven_images/00"},
     {"oven_entity_val.jsonl"},
     "oven_images/00/oven_00.jpg"},
};
#define TREES (sizeof(trees) / sizeof(trees[0]))

static void check(bool right)
{
    if (!right)
        abort();
}

// The scratch folder goes with the process only when no folder is left in it.
static void remove_trees(void)
{
    char path[SCRATCH_PATH_BYTES + 128];
    for (size_t which = 0; which < TREES; which++) {
        const char *top = scratch_folder();
        (void)snprintf(path, sizeof(path), "%s/%s/%s", top, trees[which].name,
                       trees[which].picture);
        (void)unlink(path);
        for (size_t i = 0; i < LISTS_MAX && trees[which].lists[i]; i++) {
            (void)snprintf(path, sizeof(path), "%s/%s/%s", top, trees[which].name,
                           trees[which].lists[i]);
            (void)unlink(path);
        }
        for (size_t i = FOLDERS_MAX; i-- > 0;) {
            (void)snprintf(path, sizeof(path), "%s/%s/%s", top, trees[which].name,
                           trees[which].folders[i] ? trees[which].folders[i] : "");
            (void)rmdir(path);
        }
        (void)snprintf(path, sizeof(path), "%s/%s", top, trees[which].name);
        (void)rmdir(path);
    }
}

static void make_folder(const char *top, const char *name)
{
    char path[SCRATCH_PATH_BYTES + 64];
    (void)snprintf(path, sizeof(path), "%s/%s%s%s", scratch_folder(), top, name ? "/" : "",
                   name ? name : "");
    (void)mkdir(path, 0777);
}

static void write_tree(size_t which, const uint8_t *data, size_t size)
{
    char name[128];
    make_folder(trees[which].name, NULL);
    for (size_t i = 0; i < FOLDERS_MAX && trees[which].folders[i]; i++)
        make_folder(trees[which].name, trees[which].folders[i]);
    (void)snprintf(name, sizeof(name), "%s/%s", trees[which].name, trees[which].picture);
    scratch_write(name, "p", 1);
    for (size_t i = 0; i < LISTS_MAX && trees[which].lists[i]; i++) {
        const uint8_t *parting = size ? memchr(data, PARTING, size) : NULL;
        const size_t bytes = parting ? (size_t)(parting - data) : size;
        (void)snprintf(name, sizeof(name), "%s/%s", trees[which].name, trees[which].lists[i]);
        scratch_write(name, data, bytes);
        data += bytes + (parting != NULL);
        size -= bytes + (parting != NULL);
    }
}

static void read_tree(const char *path, const struct dataset_params *params)
{
    struct dataset *dataset = NULL;
    struct reason why = {.text = ""};
    if (dataset_open(&path, 1, params, &dataset, &why)) {
        check(why.text[0]);
        return;
    }
    for (enum dataset_step step = DATASET_ITEM; step != DATASET_END;) {
        struct arena *arena = arena_create((size_t)4 << 20);
        struct dataset_item item;
        step = dataset_next(dataset, arena, &item, &why);
        if (step == DATASET_ITEM)
            check(bytes_is_utf8(item.record.caption.data, item.record.caption.bytes));
        if (step != DATASET_END)
            check(item.name != NULL);
        arena_destroy(&arena);
    }
    dataset_close(&dataset);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool is_begun;
    if (!size)
        return 0;
    if (!is_begun)
        check(scratch_folder() && atexit(remove_trees) == 0); // in this order
    is_begun = true;
    char path[SCRATCH_PATH_BYTES + 64];
    const size_t which = data[0] % TREES;
    write_tree(which, data + 1, size - 1);
    (void)snprintf(path, sizeof(path), "%s/%s", scratch_folder(), trees[which].name);
    for (int labelled = 0; labelled < 2; labelled++) {
        const struct dataset_params params = {
            .format = -1, .labelled = labelled == 1, .split = trees[which].split};
        read_tree(path, &params);
    }
    return 0;
}
