// SPDX-License-Identifier: Apache-2.0
// Data sets that list their pictures in .mat files.
//
//   Stanford Cars   devkit/cars_meta.mat: class_names; devkit/cars_train_annos.mat and
//                   cars_test_annos_withlabels.mat: annotations.fname, .class; cars_train/, cars_test/.
//                   Or all in one: cars_annos.mat: class_names, annotations.relative_im_path, .class, .test; car_ims/
//   Flowers-102     imagelabels.mat: labels of jpg/image_00001.jpg and so on; setid.mat: trnid, valid, tstid

#include <stdio.h>
#include <string.h>

#include "proto/base/mem.h"
#include "tools/dataset_layout_internal.h"
#include "tools/matfile.h"

static const struct text no_caption = {NULL, 0};

static enum status open_mat(const struct dataset_layout *layout, const char *name,
                            struct matfile **out, struct reason *why)
{
    char path[DATASET_PATH_BYTES];
    const enum status status = dataset_layout_path(layout, name, path, why);
    return status ? status : matfile_open(path, out, why);
}

// --- Stanford Cars

#define CARS_ALL "cars_annos.mat"
#define CARS_META "devkit/cars_meta.mat"
#define CARS_TRAIN "devkit/cars_train_annos.mat"

bool dataset_layout_is_cars(const char *root)
{
    return dataset_layout_has_file(root, CARS_META) || dataset_layout_has_file(root, CARS_ALL);
}

static bool is_in_one(const struct dataset_layout *layout)
{
    return !dataset_layout_has_file(layout->root, CARS_META);
}

enum status dataset_layout_classes_cars(struct dataset_layout *layout, struct reason *why)
{
    struct matfile *file = NULL;
    size_t count = 0;
    enum status status = open_mat(layout, is_in_one(layout) ? CARS_ALL : CARS_META, &file, why);
    if (!status)
        status = matfile_read_list(file, "class_names", &count, why);
    for (size_t i = 0; i < count && !status; i++) {
        char name[MATFILE_TEXT_BYTES_MAX];
        status = matfile_text(file, NULL, i, name, why);
        if (!status)
            status = dataset_layout_add_class(layout, text_of(name), text_of(name), why);
    }
    matfile_close(&file);
    return status;
}

// Which columns say what.
struct annotations {
    const char *path, *label;
    const char *is_test; // NULL: all are of the split
    const char *folder;
};

static enum status take_car(struct dataset_layout *layout, struct matfile *file, size_t row,
                            const struct annotations *how, struct reason *why)
{
    char path[MATFILE_TEXT_BYTES_MAX];
    uint32_t label = 0;
    uint32_t is_test = 0;
    enum status status = matfile_text(file, how->path, row, path, why);
    if (!status)
        status = matfile_number(file, how->label, row, &label, why);
    if (!status && how->is_test)
        status = matfile_number(file, how->is_test, row, &is_test, why);
    if (status)
        return status;
    if (how->is_test && (is_test == 0) != dataset_layout_is_split(layout, "train"))
        return STATUS_OK;
    struct reason inner = {.text = ""};
    // 0 is no class: less 1 it is the highest number, which is told to be none.
    status = dataset_layout_add_picture(layout, how->folder, text_of(path), label - 1, no_caption,
                                        &inner);
    return status ? reason_set(why, status, NULL, "annotations, row %zu: %s", row + 1, inner.text)
                  : STATUS_OK;
}

static enum status read_cars(struct dataset_layout *layout, struct matfile *file,
                             const struct annotations *how, struct reason *why)
{
    size_t rows = 0;
    enum status status = matfile_read_table(file, "annotations", &rows, why);
    for (size_t i = 0; i < rows && !status; i++)
        status = take_car(layout, file, i, how, why);
    return status;
}

enum status dataset_layout_pictures_cars(struct dataset_layout *layout, struct reason *why)
{
    static const char *const lists[2][3] = {
        {"cars_test_annos_withlabels.mat", "devkit/cars_test_annos_withlabels.mat", NULL},
        {CARS_TRAIN, "cars_train_annos.mat", NULL},
    };
    const bool is_train = dataset_layout_is_split(layout, "train");
    const bool in_one = is_in_one(layout);
    struct annotations how = {"fname", "class", NULL, is_train ? "cars_train" : "cars_test"};
    if (in_one)
        how = (struct annotations){"relative_im_path", "class", "test", ""};
    char path[DATASET_PATH_BYTES];
    struct matfile *file = NULL;
    enum status status = in_one ? dataset_layout_path(layout, CARS_ALL, path, why)
                                : dataset_layout_choose(layout, lists[is_train], path, why);
    if (!status)
        status = matfile_open(path, &file, why);
    if (!status)
        status = read_cars(layout, file, &how, why);
    matfile_close(&file);
    return status;
}

// --- Flowers-102

// dataset_words.S
extern const char dataset_words_flower_names[], dataset_words_flower_names_end[];

bool dataset_layout_is_flowers(const char *root)
{
    return dataset_layout_has_file(root, "imagelabels.mat") &&
           dataset_layout_has_file(root, "setid.mat");
}

enum status dataset_layout_classes_flowers(struct dataset_layout *layout, struct reason *why)
{
    enum status status = STATUS_OK;
    for (const char *at = dataset_words_flower_names;
         at < dataset_words_flower_names_end && !status;) {
        const size_t bytes = strcspn(at, "\n");
        const struct text name = {at, bytes};
        status = dataset_layout_add_class(layout, name, name, why);
        at += bytes + 1;
    }
    return status;
}

static enum status take_flowers(struct dataset_layout *layout, const uint32_t *labels,
                                size_t label_count, const uint32_t *numbers, size_t count,
                                struct reason *why)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && !status; i++) {
        if (numbers[i] < 1 || numbers[i] > label_count)
            return reason_set(why, STATUS_INVALID, layout->root,
                              "setid.mat: picture %u: imagelabels.mat has labels of 1..%zu",
                              numbers[i], label_count);
        char name[32];
        struct reason inner = {.text = ""};
        (void)snprintf(name, sizeof(name), "image_%05u.jpg", numbers[i]);
        status = dataset_layout_add_picture(layout, "jpg", text_of(name),
                                            labels[numbers[i] - 1] - 1, no_caption, &inner);
        if (status)
            status = reason_set(why, status, layout->root, "imagelabels.mat: element %u: %s",
                                numbers[i], inner.text);
    }
    return status;
}

enum status dataset_layout_pictures_flowers(struct dataset_layout *layout, struct reason *why)
{
    const char *name = dataset_layout_is_split(layout, "train") ? "trnid"
                       : dataset_layout_is_split(layout, "val") ? "valid"
                                                                : "tstid";
    struct matfile *file = NULL;
    uint32_t *labels = NULL;
    uint32_t *numbers = NULL;
    size_t label_count = 0;
    size_t count = 0;
    enum status status = open_mat(layout, "imagelabels.mat", &file, why);
    if (!status)
        status = matfile_numbers(file, "labels", &labels, &label_count, why);
    matfile_close(&file);
    if (!status)
        status = open_mat(layout, "setid.mat", &file, why);
    if (!status)
        status = matfile_numbers(file, name, &numbers, &count, why);
    matfile_close(&file);
    if (!status)
        status = take_flowers(layout, labels, label_count, numbers, count, why);
    mem_free(labels);
    mem_free(numbers);
    return status;
}
