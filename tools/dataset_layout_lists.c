// SPDX-License-Identifier: Apache-2.0
// Data sets that list their pictures in plain text.
//
//   CUB-200-2011   classes.txt "1 001.Black_footed_Albatross"; images.txt "1 PATH", image_class_labels.txt "1 CLASS"
//                  and train_test_split.txt "1 IS_TRAIN", line by line of the same picture; images/PATH
//   Food-101       meta/classes.txt; meta/train.txt and meta/test.txt "CLASS/NUMBER"; images/CLASS/NUMBER.jpg
//   Oxford Pets    annotations/trainval.txt and annotations/test.txt "BREED_NUMBER CLASS SPECIES BREED"; images/NAME.jpg
//   SUN397         ClassName.txt "/a/abbey"; Training_01.txt and Testing_01.txt "/a/abbey/PICTURE.jpg"; a/abbey/...

#include <stdio.h>
#include <string.h>

#include "tools/dataset_layout_internal.h"

static const struct text no_caption = {NULL, 0};

// --- CUB-200-2011

#define CUB_LISTS 3 // images, classes, splits

bool dataset_layout_is_cub(const char *root)
{
    return dataset_layout_has_file(root, "classes.txt") &&
           dataset_layout_has_file(root, "images.txt") &&
           dataset_layout_has_file(root, "image_class_labels.txt") &&
           dataset_layout_has_file(root, "train_test_split.txt");
}

// "001.Black_footed_Albatross" without its number.
static struct text without_number(struct text name)
{
    size_t digits = 0;
    while (digits < name.bytes && name.data[digits] >= '0' && name.data[digits] <= '9')
        digits++;
    if (!digits || digits + 1 >= name.bytes || name.data[digits] != '.')
        return name;
    return (struct text){name.data + digits + 1, name.bytes - digits - 1};
}

enum status dataset_layout_classes_cub(struct dataset_layout *layout, struct reason *why)
{
    struct dataset_layout_lines lines;
    enum status status = dataset_layout_begin_lines(layout, "classes.txt", &lines, why);
    while (!status && dataset_layout_next_line(&lines)) {
        uint32_t number = 0;
        struct reason inner = {.text = ""};
        const uint32_t next = (uint32_t)layout->keys.count + 1;
        if (lines.field_count != 2 ||
            !dataset_layout_number(lines.fields[0], next, next, &number)) {
            status = dataset_layout_refuse_line(&lines, why, "'%u NAME' is expected", next);
            break;
        }
        status = dataset_layout_add_class(layout, lines.fields[1], without_number(lines.fields[1]),
                                          &inner);
        if (status)
            status = dataset_layout_blame_line(&lines, status, &inner, why);
    }
    dataset_layout_end_lines(&lines);
    return status;
}

// Reads a line of each list, which are of one picture.
static enum status next_of_cub(struct dataset_layout_lines lists[CUB_LISTS], uint32_t number,
                               bool *is_end, struct reason *why)
{
    static const char *const words[CUB_LISTS] = {"PATH", "CLASS", "0 or 1"};
    *is_end = !dataset_layout_next_line(&lists[0]);
    for (size_t i = 0; i < CUB_LISTS; i++) {
        if (i > 0 && dataset_layout_next_line(&lists[i]) == *is_end)
            return dataset_layout_refuse_line(&lists[i], why,
                                              "the list is %s than %s: each picture has a line",
                                              *is_end ? "longer" : "shorter", lists[0].path);
        uint32_t found = 0;
        if (!*is_end && (lists[i].field_count != 2 ||
                         !dataset_layout_number(lists[i].fields[0], number, number, &found)))
            return dataset_layout_refuse_line(&lists[i], why, "'%u %s' is expected", number,
                                              words[i]);
    }
    return STATUS_OK;
}

static enum status take_cub(struct dataset_layout *layout,
                            const struct dataset_layout_lines lists[CUB_LISTS], struct reason *why)
{
    uint32_t label = 0;
    uint32_t is_train = 0;
    const uint32_t classes = (uint32_t)layout->keys.count;
    if (!dataset_layout_number(lists[1].fields[1], 1, classes, &label))
        return dataset_layout_refuse_line(&lists[1], why, "class '%.*s': 1..%u is allowed",
                                          (int)lists[1].fields[1].bytes, lists[1].fields[1].data,
                                          classes);
    if (!dataset_layout_number(lists[2].fields[1], 0, 1, &is_train))
        return dataset_layout_refuse_line(&lists[2], why, "'%.*s': 0 (test) or 1 is allowed",
                                          (int)lists[2].fields[1].bytes, lists[2].fields[1].data);
    if ((is_train == 1) != dataset_layout_is_split(layout, "train"))
        return STATUS_OK;
    struct reason inner = {.text = ""};
    const enum status status = dataset_layout_add_picture(layout, "images", lists[0].fields[1],
                                                          label - 1, no_caption, &inner);
    return status ? dataset_layout_blame_line(&lists[0], status, &inner, why) : STATUS_OK;
}

enum status dataset_layout_pictures_cub(struct dataset_layout *layout, struct reason *why)
{
    static const char *const names[CUB_LISTS] = {"images.txt", "image_class_labels.txt",
                                                 "train_test_split.txt"};
    struct dataset_layout_lines lists[CUB_LISTS] = {{.line = 0}};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < CUB_LISTS && !status; i++)
        status = dataset_layout_begin_lines(layout, names[i], &lists[i], why);
    bool is_end = false;
    for (uint32_t number = 1; !status && !is_end; number++) {
        status = next_of_cub(lists, number, &is_end, why);
        if (!status && !is_end)
            status = take_cub(layout, lists, why);
    }
    for (size_t i = 0; i < CUB_LISTS; i++)
        dataset_layout_end_lines(&lists[i]);
    return status;
}

// --- classes by their names: Food-101, SUN397

// Reads one class a line.
static enum status read_classes(struct dataset_layout *layout, const char *list, size_t cut,
                                struct reason *why)
{
    struct dataset_layout_lines lines;
    enum status status = dataset_layout_begin_lines(layout, list, &lines, why);
    while (!status && dataset_layout_next_line(&lines)) {
        struct reason inner = {.text = ""};
        struct text name = lines.text;
        if (name.bytes <= cut || (cut && (name.data[0] != '/' || name.data[2] != '/'))) {
            status =
                dataset_layout_refuse_line(&lines, why, "'%.*s': a class like /a/abbey is expected",
                                           (int)(name.bytes < 100 ? name.bytes : 100), name.data);
            break;
        }
        name = (struct text){name.data + cut, name.bytes - cut};
        status = dataset_layout_add_class(layout, lines.text, name, &inner);
        if (status)
            status = dataset_layout_blame_line(&lines, status, &inner, why);
    }
    dataset_layout_end_lines(&lines);
    return status;
}

struct named {
    const char *list;   // of the pictures
    const char *folder; // that they lie in
    const char *ending; // that the list leaves out
    size_t skipped;     // bytes in front of a path
};

// Takes lines of CLASS/PICTURE.
static enum status take_named(struct dataset_layout *layout, const struct named *how,
                              const struct dataset_layout_lines *lines, struct reason *why)
{
    char path[DATASET_PATH_BYTES];
    uint32_t label = 0;
    size_t slash = lines->text.bytes;
    while (slash > 0 && lines->text.data[slash - 1] != '/')
        slash--;
    const struct text key = {lines->text.data, slash ? slash - 1 : 0};
    if (!key.bytes || !dataset_layout_find_class(layout, key, &label))
        return dataset_layout_refuse_line(lines, why, "'%.*s' is in none of the %zu classes",
                                          (int)(lines->text.bytes < 200 ? lines->text.bytes : 200),
                                          lines->text.data, layout->keys.count);
    const int used = snprintf(path, sizeof(path), "%.*s%s", (int)(lines->text.bytes - how->skipped),
                              lines->text.data + how->skipped, how->ending);
    struct reason inner = {.text = ""};
    const struct text rest = {path, used > 0 && (size_t)used < sizeof(path) ? (size_t)used : 0};
    const enum status status =
        dataset_layout_add_picture(layout, how->folder, rest, label, no_caption, &inner);
    return status ? dataset_layout_blame_line(lines, status, &inner, why) : STATUS_OK;
}

static enum status read_named(struct dataset_layout *layout, const struct named *how,
                              struct reason *why)
{
    struct dataset_layout_lines lines;
    enum status status = dataset_layout_begin_lines(layout, how->list, &lines, why);
    while (!status && dataset_layout_next_line(&lines))
        status = take_named(layout, how, &lines, why);
    dataset_layout_end_lines(&lines);
    return status;
}

bool dataset_layout_is_food(const char *root)
{
    return dataset_layout_has_file(root, "meta/classes.txt") &&
           dataset_layout_has_file(root, "meta/train.txt") &&
           dataset_layout_has_file(root, "meta/test.txt");
}

enum status dataset_layout_classes_food(struct dataset_layout *layout, struct reason *why)
{
    return read_classes(layout, "meta/classes.txt", 0, why);
}

enum status dataset_layout_pictures_food(struct dataset_layout *layout, struct reason *why)
{
    const bool is_train = dataset_layout_is_split(layout, "train");
    const struct named how = {.list = is_train ? "meta/train.txt" : "meta/test.txt",
                              .folder = "images",
                              .ending = ".jpg"};
    return read_named(layout, &how, why);
}

#define SUN_CUT 3 // "/a/"

bool dataset_layout_is_sun(const char *root)
{
    return dataset_layout_has_file(root, "ClassName.txt");
}

enum status dataset_layout_classes_sun(struct dataset_layout *layout, struct reason *why)
{
    const enum status status = read_classes(layout, "ClassName.txt", SUN_CUT, why);
    for (size_t i = 0; i < layout->names.count && !status; i++)
        for (char *at = layout->names.names[i]; *at; at++)
            if (*at == '/')
                *at = ' ';
    return status;
}

enum status dataset_layout_pictures_sun(struct dataset_layout *layout, struct reason *why)
{
    static const char *const lists[2][4] = {
        {"Testing_01.txt", "Partitions/Testing_01.txt", "partitions/Testing_01.txt", NULL},
        {"Training_01.txt", "Partitions/Training_01.txt", "partitions/Training_01.txt", NULL},
    };
    char path[DATASET_PATH_BYTES];
    const enum status status =
        dataset_layout_choose(layout, lists[dataset_layout_is_split(layout, "train")], path, why);
    const struct named how = {
        .list = path + strlen(layout->root) + (path[strlen(layout->root)] == '/'),
        .folder = "",
        .ending = "",
        .skipped = 1,
    };
    return status ? status : read_named(layout, &how, why);
}

// --- Oxford Pets

#define PETS_CLASSES_MAX 1000 // 37

bool dataset_layout_is_pets(const char *root)
{
    return dataset_layout_has_file(root, "annotations/trainval.txt") &&
           dataset_layout_has_file(root, "annotations/test.txt");
}

// What one line says: "Egyptian_Mau_167 12 1 4".
struct pet {
    struct text picture;
    struct text breed; // the picture's name without its number
    uint32_t number;   // of the class, from 1
};

static enum status parse_pet(const struct dataset_layout_lines *lines, struct pet *out,
                             struct reason *why)
{
    *out = (struct pet){.picture = lines->fields[0], .breed = lines->fields[0]};
    while (out->breed.bytes > 1 && out->breed.data[out->breed.bytes - 1] != '_')
        out->breed.bytes--;
    out->breed.bytes -= out->breed.bytes > 0;
    if (lines->field_count >= 2 && out->breed.bytes &&
        dataset_layout_number(lines->fields[1], 1, PETS_CLASSES_MAX, &out->number))
        return STATUS_OK;
    return dataset_layout_refuse_line(lines, why, "'BREED_NUMBER CLASS SPECIES BREED' is expected");
}

// A class's name comes from its pictures; all of them must say the same.
static enum status take_breed(struct dataset_layout *layout,
                              const struct dataset_layout_lines *lines, const struct pet *pet,
                              struct reason *why)
{
    struct reason inner = {.text = ""};
    if (pet->number > layout->keys.count) {
        const enum status status = dataset_layout_add_class(layout, pet->breed, pet->breed, &inner);
        return status ? dataset_layout_blame_line(lines, status, &inner, why) : STATUS_OK;
    }
    const char *before = layout->keys.names[pet->number - 1];
    if (text_equal(pet->breed, text_of(before)))
        return STATUS_OK;
    return dataset_layout_refuse_line(lines, why, "class %u is '%.*s' here and was '%s' before",
                                      pet->number, (int)pet->breed.bytes, pet->breed.data, before);
}

// Finds the pictures of one class; *is_last when there is none of it or of a higher number.
static enum status find_breed(struct dataset_layout *layout, struct dataset_layout_lines *lines,
                              uint32_t number, bool *is_last, struct reason *why)
{
    enum status status = STATUS_OK;
    lines->at = 0;
    lines->line = 0;
    *is_last = true;
    while (!status && dataset_layout_next_line(lines)) {
        struct pet pet;
        if (lines->text.data[0] == '#')
            continue;
        status = parse_pet(lines, &pet, why);
        *is_last = *is_last && !status && pet.number < number;
        if (!status && pet.number == number)
            status = take_breed(layout, lines, &pet, why);
    }
    if (!status && !*is_last && layout->keys.count < number)
        return reason_set(why, STATUS_INVALID, NULL,
                          "%s: no picture of class %u, and some of higher classes", lines->path,
                          number);
    return status;
}

enum status dataset_layout_classes_pets(struct dataset_layout *layout, struct reason *why)
{
    struct dataset_layout_lines lines;
    bool is_last = false;
    enum status status =
        dataset_layout_begin_lines(layout, "annotations/trainval.txt", &lines, why);
    for (uint32_t number = 1; !status && !is_last; number++)
        status = find_breed(layout, &lines, number, &is_last, why);
    dataset_layout_end_lines(&lines);
    return status;
}

static enum status take_pet(struct dataset_layout *layout, const struct dataset_layout_lines *lines,
                            struct reason *why)
{
    struct pet pet;
    char path[DATASET_PATH_BYTES];
    enum status status = parse_pet(lines, &pet, why);
    if (!status && pet.number > layout->keys.count)
        status = dataset_layout_refuse_line(lines, why, "class %u: 1..%zu is allowed", pet.number,
                                            layout->keys.count);
    if (!status)
        status = take_breed(layout, lines, &pet, why);
    if (status)
        return status;
    struct reason inner = {.text = ""};
    const int used =
        snprintf(path, sizeof(path), "%.*s.jpg", (int)pet.picture.bytes, pet.picture.data);
    const struct text rest = {path, used > 0 && (size_t)used < sizeof(path) ? (size_t)used : 0};
    status = dataset_layout_add_picture(layout, "images", rest, pet.number - 1, no_caption, &inner);
    return status ? dataset_layout_blame_line(lines, status, &inner, why) : STATUS_OK;
}

enum status dataset_layout_pictures_pets(struct dataset_layout *layout, struct reason *why)
{
    const bool is_train = dataset_layout_is_split(layout, "train");
    struct dataset_layout_lines lines;
    enum status status = dataset_layout_begin_lines(
        layout, is_train ? "annotations/trainval.txt" : "annotations/test.txt", &lines, why);
    while (!status && dataset_layout_next_line(&lines))
        if (lines.text.data[0] != '#')
            status = take_pet(layout, &lines, why);
    dataset_layout_end_lines(&lines);
    return status;
}
