// SPDX-License-Identifier: Apache-2.0
// ImageNet (ILSVRC2012), as people have it:
//
//   train/n01440764/*.JPEG, val/n01440764/*.JPEG     a folder for each class, as most programs want it
//   val/ILSVRC2012_val_00000001.JPEG                 as it was published: flat; which class is told by
//                                                    LOC_val_solution.csv, or the devkit's ground truth
//   ILSVRC/Data/CLS-LOC/train, .../val               the same inside Kaggle's archive
//
// A class's number is the place of its WordNet id among the sorted ones, as everywhere. Names:
// classnames.txt, one a line in that order (whoever has OpenAI's cleaned ones puts them there);
// else LOC_synset_mapping.txt; else the devkit's data/meta.mat. Of a synset's words the first is
// the name.

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "proto/base/system_error.h"
#include "tools/dataset_layout_internal.h"
#include "tools/matfile.h"

#define WNID_BYTES 9 // n01440764
#define OWN_NAMES "classnames.txt"
#define MAPPING "LOC_synset_mapping.txt"
#define SOLUTION "LOC_val_solution.csv"
#define CLASSES_MAX 1000 // of the devkit's numbers; higher ones are no leaves

static const struct text no_caption = {NULL, 0};
static const char *const metas[] = {"ILSVRC2012_devkit_t12/data/meta.mat", "data/meta.mat",
                                    "meta.mat", NULL};
static const char *const truths[] = {
    "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
    "data/ILSVRC2012_validation_ground_truth.txt", "ILSVRC2012_validation_ground_truth.txt", NULL};
static const char *const folders[2][4] = {
    {"val", "ILSVRC/Data/CLS-LOC/val", "ILSVRC2012_img_val", NULL},
    {"train", "ILSVRC/Data/CLS-LOC/train", "ILSVRC2012_img_train", NULL},
};

// --- recognising

static bool is_wnid(struct text text)
{
    uint32_t ignored = 0;
    return text.bytes == WNID_BYTES && text.data[0] == 'n' &&
           dataset_layout_number((struct text){text.data + 1, WNID_BYTES - 1}, 0, 99999999,
                                 &ignored);
}

static const char *first_file(const char *root, const char *const *names)
{
    while (*names && !dataset_layout_has_file(root, *names))
        names++;
    return *names;
}

static const char *pictures_folder(const char *root, bool is_train)
{
    const char *const *names = folders[is_train];
    while (*names && !dataset_layout_has_folder(root, *names))
        names++;
    return *names;
}

// Names in a folder: of classes, or of pictures that lie flat in it.
static enum status list_names(const char *path, bool classes, struct dataset_list *out,
                              struct reason *why)
{
    DIR *directory = opendir(path);
    if (!directory)
        return reason_set(why, STATUS_IO, path, "cannot be opened: %s", SYSTEM_ERROR(errno));
    enum status status = STATUS_OK;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory); // NOLINT(concurrency-mt-unsafe): own DIR
        if (!entry && errno)
            status = reason_set(why, STATUS_IO, path, "cannot be read: %s", SYSTEM_ERROR(errno));
        if (!entry)
            break;
        const char *dot = strrchr(entry->d_name, '.');
        const bool is_picture =
            dot && entry->d_name[0] != '.' && dataset_is_picture(text_of(dot + 1));
        if (classes ? is_wnid(text_of(entry->d_name)) : is_picture)
            dataset_list_add(out, entry->d_name);
    }
    (void)closedir(directory);
    return status;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum status list_sorted(const struct dataset_layout *layout, const char *folder,
                               bool classes, struct dataset_list *out, struct reason *why)
{
    char path[DATASET_PATH_BYTES];
    enum status status = dataset_layout_path(layout, folder, path, why);
    if (!status)
        status = list_names(path, classes, out, why);
    if (out->count)
        qsort(out->names, out->count, sizeof(out->names[0]), compare_texts);
    return status;
}

bool dataset_layout_is_imagenet(const char *root)
{
    if (dataset_layout_has_file(root, MAPPING) || first_file(root, metas))
        return pictures_folder(root, false) || pictures_folder(root, true);
    for (int is_train = 0; is_train < 2; is_train++) {
        char path[DATASET_PATH_BYTES];
        struct dataset_list classes = {.count = 0};
        struct reason ignored = {.text = ""};
        const char *folder = pictures_folder(root, is_train);
        if (folder && dataset_join(root, folder, path))
            (void)!list_names(path, true, &classes, &ignored);
        const bool found = classes.count > 0;
        dataset_list_free(&classes);
        if (found)
            return true;
    }
    return false;
}

// --- classes

// One class of what tells them, to be sorted.
struct synset {
    char wnid[WNID_BYTES + 1];
    uint32_t number; // of the devkit
    char *name;
};

struct synsets {
    struct synset *items;
    size_t count;
};

static void free_synsets(struct synsets *synsets)
{
    for (size_t i = 0; i < synsets->count; i++)
        mem_free(synsets->items[i].name);
    mem_free(synsets->items);
    *synsets = (struct synsets){.count = 0};
}

// Of "tench, Tinca tinca" the first.
static void add_synset(struct synsets *synsets, const char *wnid, uint32_t number,
                       struct text words)
{
    const char *comma = words.bytes ? memchr(words.data, ',', words.bytes) : NULL;
    const size_t bytes = comma ? (size_t)(comma - words.data) : words.bytes;
    if ((synsets->count & (synsets->count - 1)) == 0)
        synsets->items = mem_grow(synsets->items, synsets->count ? 2 * synsets->count : 1,
                                  sizeof(synsets->items[0]));
    struct synset *synset = &synsets->items[synsets->count++];
    *synset = (struct synset){.number = number, .name = mem_alloc(bytes + 1)};
    memcpy(synset->wnid, wnid, WNID_BYTES);
    if (bytes)
        memcpy(synset->name, words.data, bytes);
}

static enum status read_mapping(const struct dataset_layout *layout, struct synsets *out,
                                struct reason *why)
{
    struct dataset_layout_lines lines;
    enum status status = dataset_layout_begin_lines(layout, MAPPING, &lines, why);
    while (!status && dataset_layout_next_line(&lines)) {
        const struct text words = dataset_trimmed((struct text){
            lines.text.data + lines.fields[0].bytes, lines.text.bytes - lines.fields[0].bytes});
        if (!is_wnid(lines.fields[0]) || !words.bytes)
            status = dataset_layout_refuse_line(&lines, why,
                                                "'n01440764 tench, Tinca tinca' is expected");
        else if (out->count == DATASET_LAYOUT_CLASSES_MAX)
            status = dataset_layout_refuse_line(&lines, why, "more than %d classes",
                                                DATASET_LAYOUT_CLASSES_MAX);
        else
            add_synset(out, lines.fields[0].data, 0, words);
    }
    dataset_layout_end_lines(&lines);
    return status;
}

// The devkit's table has inner nodes of WordNet behind the thousand leaves.
static enum status read_meta(const struct dataset_layout *layout, const char *name,
                             struct synsets *out, struct reason *why)
{
    char path[DATASET_PATH_BYTES];
    struct matfile *file = NULL;
    size_t rows = 0;
    enum status status = dataset_layout_path(layout, name, path, why);
    if (!status)
        status = matfile_open(path, &file, why);
    if (!status)
        status = matfile_read_table(file, "synsets", &rows, why);
    for (size_t i = 0; i < rows && !status; i++) {
        char wnid[MATFILE_TEXT_BYTES_MAX];
        char words[MATFILE_TEXT_BYTES_MAX];
        uint32_t number = 0;
        uint32_t children = 0;
        status = matfile_number(file, "ILSVRC2012_ID", i, &number, why);
        if (!status)
            status = matfile_number(file, "num_children", i, &children, why);
        if (!status)
            status = matfile_text(file, "WNID", i, wnid, why);
        if (!status)
            status = matfile_text(file, "words", i, words, why);
        if (!status && !is_wnid(text_of(wnid)))
            status = reason_set(why, STATUS_INVALID, path,
                                "variable 'synsets', row %zu, WNID: '%.40s' is none", i + 1, wnid);
        if (!status && children == 0 && number >= 1 && number <= CLASSES_MAX)
            add_synset(out, wnid, number, text_of(words));
    }
    matfile_close(&file);
    return status;
}

static int compare_synsets(const void *a, const void *b)
{
    return strcmp(((const struct synset *)a)->wnid, ((const struct synset *)b)->wnid);
}

// Which classes there are, by the first that tells them: the mapping, the devkit, the folders.
static enum status read_synsets(struct dataset_layout *layout, struct synsets *out,
                                struct reason *why)
{
    const char *meta = first_file(layout->root, metas);
    enum status status = STATUS_OK;
    if (dataset_layout_has_file(layout->root, MAPPING)) {
        layout->names_from = mem_copy_text(MAPPING);
        status = read_mapping(layout, out, why);
    } else if (meta) {
        layout->names_from = mem_copy_text(meta);
        status = read_meta(layout, meta, out, why);
    } else {
        struct dataset_list classes = {.count = 0};
        for (int is_train = 0; is_train < 2 && !status && !classes.count; is_train++) {
            const char *folder = pictures_folder(layout->root, is_train);
            if (folder)
                status = list_sorted(layout, folder, true, &classes, why);
        }
        for (size_t i = 0; i < classes.count && !status; i++)
            add_synset(out, classes.names[i], 0, (struct text){NULL, 0});
        dataset_list_free(&classes);
    }
    if (out->count)
        qsort(out->items, out->count, sizeof(out->items[0]), compare_synsets);
    for (size_t i = 1; i < out->count && !status; i++)
        if (strcmp(out->items[i - 1].wnid, out->items[i].wnid) == 0)
            status = reason_set(why, STATUS_INVALID, layout->root, "%s has %s twice",
                                layout->names_from, out->items[i].wnid);
    if (!status && !out->count)
        status = reason_set(why, STATUS_INVALID, layout->root,
                            "no class: neither a name like n01440764 in %s nor a folder called so",
                            layout->names_from ? layout->names_from : MAPPING);
    return status;
}

// The user's own names in place of those found.
static enum status read_own_names(struct dataset_layout *layout, struct synsets *synsets,
                                  struct reason *why)
{
    struct dataset_layout_lines lines;
    size_t at = 0;
    enum status status = dataset_layout_begin_lines(layout, OWN_NAMES, &lines, why);
    while (!status && dataset_layout_next_line(&lines)) {
        if (at == synsets->count) {
            status = dataset_layout_refuse_line(
                &lines, why, "one name too many: there are %zu classes", synsets->count);
            break;
        }
        mem_free(synsets->items[at].name);
        synsets->items[at].name = mem_alloc(lines.text.bytes + 1);
        memcpy(synsets->items[at++].name, lines.text.data, lines.text.bytes);
    }
    if (!status && at < synsets->count)
        status = reason_set(why, STATUS_INVALID, NULL, "%s has %zu names: there are %zu classes",
                            lines.path, at, synsets->count);
    dataset_layout_end_lines(&lines);
    mem_free(layout->names_from);
    layout->names_from = mem_copy_text(OWN_NAMES);
    return status;
}

static enum status read_all_classes(struct dataset_layout *layout, struct synsets *synsets,
                                    struct reason *why)
{
    enum status status = read_synsets(layout, synsets, why);
    if (!status && dataset_layout_has_file(layout->root, OWN_NAMES))
        status = read_own_names(layout, synsets, why);
    for (size_t i = 0; i < synsets->count && !status; i++)
        status = dataset_layout_add_class(layout, text_of(synsets->items[i].wnid),
                                          text_of(synsets->items[i].name), why);
    return status;
}

enum status dataset_layout_classes_imagenet(struct dataset_layout *layout, struct reason *why)
{
    struct synsets synsets = {.count = 0};
    const enum status status = read_all_classes(layout, &synsets, why);
    free_synsets(&synsets);
    return status;
}

// --- pictures in folders of their classes

static enum status take_class(struct dataset_layout *layout, const char *folder, const char *wnid,
                              struct reason *why)
{
    char inside[DATASET_PATH_BYTES];
    struct dataset_list names = {.count = 0};
    uint32_t label = 0;
    if (!dataset_layout_find_class(layout, text_of(wnid), &label))
        return reason_set(why, STATUS_INVALID, layout->root, "%s/%s: %s does not have this class",
                          folder, wnid,
                          layout->names_from ? layout->names_from : "the other split");
    enum status status =
        dataset_join(folder, wnid, inside)
            ? list_sorted(layout, inside, false, &names, why)
            : reason_set(why, STATUS_INVALID, layout->root, "its paths are too long");
    for (size_t i = 0; i < names.count && !status; i++)
        status = dataset_layout_add_picture(layout, inside, text_of(names.names[i]), label,
                                            no_caption, why);
    dataset_list_free(&names);
    return status;
}

// --- pictures that lie flat

// Takes "ILSVRC2012_val_00048981,n03995372 85 1 499 272".
static enum status take_solution(struct dataset_layout *layout, const char *folder,
                                 const struct dataset_layout_lines *lines, struct reason *why)
{
    const char *comma = memchr(lines->text.data, ',', lines->text.bytes);
    const size_t stem = comma ? (size_t)(comma - lines->text.data) : 0;
    const size_t left = lines->text.bytes - stem;
    uint32_t label = 0;
    char name[256];
    if (!stem || left < 1 + WNID_BYTES || stem + 8 > sizeof(name) ||
        !dataset_layout_find_class(layout, (struct text){comma + 1, WNID_BYTES}, &label))
        return dataset_layout_refuse_line(
            lines, why, "'PICTURE,CLASS ...' with one of the %zu classes is expected",
            layout->keys.count);
    (void)snprintf(name, sizeof(name), "%.*s.JPEG", (int)stem, lines->text.data);
    struct reason inner = {.text = ""};
    const enum status status =
        dataset_layout_add_picture(layout, folder, text_of(name), label, no_caption, &inner);
    return status ? dataset_layout_blame_line(lines, status, &inner, why) : STATUS_OK;
}

static enum status read_solution(struct dataset_layout *layout, const char *folder,
                                 struct reason *why)
{
    struct dataset_layout_lines lines;
    enum status status = dataset_layout_begin_lines(layout, SOLUTION, &lines, why);
    while (!status && dataset_layout_next_line(&lines))
        if (lines.line > 1) // names of columns
            status = take_solution(layout, folder, &lines, why);
    dataset_layout_end_lines(&lines);
    return status;
}

// The label of each of the devkit's numbers; UINT32_MAX: none.
static enum status read_numbers(struct dataset_layout *layout, uint32_t labels[CLASSES_MAX + 1],
                                struct reason *why)
{
    struct synsets synsets = {.count = 0};
    const char *meta = first_file(layout->root, metas);
    for (size_t i = 0; i <= CLASSES_MAX; i++)
        labels[i] = UINT32_MAX;
    enum status status =
        meta ? read_meta(layout, meta, &synsets, why)
             : reason_set(why, STATUS_NOT_FOUND, layout->root,
                          "%s: no such file; it says which class the numbers of %s are", metas[0],
                          truths[0]);
    for (size_t i = 0; i < synsets.count && !status; i++)
        (void)dataset_layout_find_class(layout, text_of(synsets.items[i].wnid),
                                        &labels[synsets.items[i].number]);
    free_synsets(&synsets);
    return status;
}

// Line N is the class of picture N.
static enum status read_truth(struct dataset_layout *layout, const char *list, const char *folder,
                              struct reason *why)
{
    uint32_t labels[CLASSES_MAX + 1];
    struct dataset_layout_lines lines;
    enum status status = read_numbers(layout, labels, why);
    if (status)
        return status;
    status = dataset_layout_begin_lines(layout, list, &lines, why);
    while (!status && dataset_layout_next_line(&lines)) {
        uint32_t number = 0;
        char name[48];
        if (!dataset_layout_number(lines.text, 1, CLASSES_MAX, &number) ||
            labels[number] == UINT32_MAX) {
            status = dataset_layout_refuse_line(
                &lines, why, "'%.*s': the number of a class, 1..%d, is expected",
                (int)(lines.text.bytes < 40 ? lines.text.bytes : 40), lines.text.data, CLASSES_MAX);
            break;
        }
        (void)snprintf(name, sizeof(name), "ILSVRC2012_val_%08llu.JPEG",
                       (unsigned long long)lines.line);
        status = dataset_layout_add_picture(layout, folder, text_of(name), labels[number],
                                            no_caption, why);
    }
    dataset_layout_end_lines(&lines);
    return status;
}

static enum status read_flat(struct dataset_layout *layout, const char *folder, struct reason *why)
{
    const char *truth = first_file(layout->root, truths);
    if (dataset_layout_has_file(layout->root, SOLUTION))
        return read_solution(layout, folder, why);
    if (truth)
        return read_truth(layout, truth, folder, why);
    return reason_set(why, STATUS_NOT_FOUND, layout->root,
                      "%s has no folders of classes (n01440764 ...), and neither " SOLUTION
                      " nor the devkit's %s tells the class of a picture",
                      folder, truths[0]);
}

enum status dataset_layout_pictures_imagenet(struct dataset_layout *layout, struct reason *why)
{
    const bool is_train = dataset_layout_is_split(layout, "train");
    const char *folder = pictures_folder(layout->root, is_train);
    struct dataset_list classes = {.count = 0};
    if (!folder)
        return reason_set(why, STATUS_NOT_FOUND, layout->root,
                          "no folder %s, %s or %s: the pictures of the split", folders[is_train][0],
                          folders[is_train][1], folders[is_train][2]);
    enum status status = list_sorted(layout, folder, true, &classes, why);
    if (!status && !classes.count && !is_train)
        status = read_flat(layout, folder, why);
    for (size_t i = 0; i < classes.count && !status; i++)
        status = take_class(layout, folder, classes.names[i], why);
    dataset_list_free(&classes);
    return status;
}
