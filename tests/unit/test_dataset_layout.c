// SPDX-License-Identifier: Apache-2.0
// Goal: data sets are read as their makers publish them: which split, which class, which name; and
// a tree that is not whole, or not what it seems, is told at once with file, line and what is
// allowed.
//
// Method: miniature trees of exactly the published form. The .mat files are SciPy's
// (tests/golden/mat).

#include "tests/unit/dataset_fixture.h"
#include "tools/dataset_place.h"

// --- reading

// Of each item "LABEL|KEY|CAPTION", or "!NAME: FIELD: REASON".
static char items[400][800];
static size_t item_count;
static char about[128];
static uint64_t total;

static enum status read_split(const char *name, const char *split, bool labelled,
                              struct reason *why)
{
    const char *sources[1] = {in_top(name)};
    const struct dataset_params params = {.format = -1, .labelled = labelled, .split = split};
    struct dataset *dataset = NULL;
    item_count = 0;
    const enum status status = dataset_open(sources, 1, &params, &dataset, why);
    if (status)
        return status;
    snprintf(about, sizeof(about), "%s", dataset_about(dataset) ? dataset_about(dataset) : "");
    total = dataset_total(dataset);
    for (;;) {
        struct arena *arena = arena_create((size_t)1 << 20);
        struct dataset_item item;
        struct reason bad = {.text = ""};
        const enum dataset_step step = dataset_next(dataset, arena, &item, &bad);
        char *line = items[item_count];
        const struct api_ingest_record *record = &item.record;
        if (step == DATASET_BAD)
            snprintf(line, sizeof(items[0]), "!%s: %s: %s", item.name, bad.field, bad.text);
        else if (step == DATASET_ITEM)
            snprintf(line, sizeof(items[0]), "%.*s|%.*s|%.*s", (int)item.label.bytes,
                     item.label.data ? item.label.data : "", (int)record->key.bytes,
                     record->key.data, (int)record->caption.bytes, record->caption.data);
        arena_destroy(&arena);
        if (step == DATASET_END)
            break;
        item_count++;
        cr_assert(item_count < 400);
    }
    dataset_close(&dataset);
    return STATUS_OK;
}

static void read_good(const char *name, const char *split)
{
    struct reason why = {.text = ""};
    cr_assert(eq(int, read_split(name, split, false, &why), STATUS_OK), "%s: %s", why.field,
              why.text);
}

static void expect_item(size_t index, const char *line)
{
    cr_assert(index < item_count, "only %zu items", item_count);
    cr_expect(eq(str, items[index], (char *)line));
}

static void expect_bad(const char *name, const char *split, enum status status, const char *words)
{
    struct reason why = {.text = ""};
    cr_expect(eq(int, read_split(name, split, false, &why), status), "%s: %s", why.field, why.text);
    char all[800];
    snprintf(all, sizeof(all), "%s: %s", why.field, why.text);
    cr_expect(strstr(all, words) != NULL, "'%s' lacks '%s'", all, words);
}

// What an evaluation is given: name, names of the classes, prompts.
static void expect_place(const char *folder, const char *split, const char *name,
                         const char *classes)
{
    const char *list[1] = {in_top(folder)};
    const struct args_list sources = {list, 1};
    struct dataset_place place;
    struct buffer lines = {0};
    struct reason why = {.text = ""};
    size_t count = 0;
    cr_assert(eq(int, dataset_place_find(&sources, split, &place, &why), STATUS_OK), "%s",
              why.text);
    cr_expect(eq(str, place.name, (char *)name));
    if (classes) {
        cr_assert(eq(int, dataset_place_classes(&place, &lines, &count, &why), STATUS_OK), "%s",
                  why.text);
        const size_t bytes = strlen(classes);
        cr_expect(lines.count >= bytes && memcmp(lines.data, classes, bytes) == 0, "%.*s",
                  (int)lines.count, (char *)lines.data);
        cr_expect(place.templates_text.bytes > 0);
    }
    buffer_deinit(&lines);
    dataset_place_deinit(&place);
}

static void put_mat(const char *from, const char *to)
{
    char path[512];
    static char data[65536];
    snprintf(path, sizeof(path), RECO_SOURCE_DIR "/tests/golden/mat/%s", from);
    FILE *file = fopen(path, "rb");
    cr_assert(ne(ptr, file, NULL), "%s", path);
    const size_t bytes = fread(data, 1, sizeof(data), file);
    fclose(file);
    put_bytes(to, data, bytes);
}

static void drop(const char *name)
{
    cr_assert(eq(int, unlink(in_top(name)), 0));
}

TestSuite(dataset_layout, .init = make_top, .fini = remove_top);

// --- CUB-200-2011

static void put_cub(const char *folder)
{
    char name[128];
    static const char *const files[][2] = {
        {"classes.txt", "1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n"},
        {"images.txt", "1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg\n"
                       "2 001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg\n"
                       "3 002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg\n"
                       "4 002.Laysan_Albatross/Laysan_Albatross_0003_1033.jpg\n"},
        {"image_class_labels.txt", "1 1\n2 1\n3 2\n4 2\n"},
        {"train_test_split.txt", "1 0\n2 1\n3 1\n4 0\n"},
        {"images/001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg", "p"},
        {"images/001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg", "p"},
        {"images/002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg", "p"},
        {"images/002.Laysan_Albatross/Laysan_Albatross_0003_1033.jpg", "p"},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(name, sizeof(name), "%s/%s", folder, files[i][0]);
        put(name, files[i][1]);
    }
}

Test(dataset_layout, cub)
{
    put_cub("CUB_200_2011");
    read_good("CUB_200_2011", "test");
    cr_assert(eq(sz, item_count, 2));
    cr_expect(eq(u64, total, 2));
    expect_item(0,
                "0|images/001.Black_footed_Albatross/Black_Footed_Albatross_0046_18|Black footed "
                "Albatross");
    expect_item(1, "1|images/002.Laysan_Albatross/Laysan_Albatross_0003_1033|Laysan Albatross");
    cr_expect(eq(str, about, (char *)"cub-200-2011, split test"));
    read_good("CUB_200_2011", NULL); // a memory's
    cr_expect(eq(str, about, (char *)"cub-200-2011, split train"));
    expect_item(1, "1|images/002.Laysan_Albatross/Laysan_Albatross_0002_1027|Laysan Albatross");
    expect_place("CUB_200_2011", NULL, "cub-200-2011 (2 of 200 classes)",
                 "Black footed Albatross\nLaysan Albatross\n");
    expect_place("CUB_200_2011", "train", "cub-200-2011/train (2 of 200 classes)",
                 "Black footed Albatross\nLaysan Albatross\n");
}

Test(dataset_layout, cub_lists_that_do_not_fit)
{
    put_cub("cub");
    put("cub/image_class_labels.txt", "1 1\n2 1\n3 2\n");
    expect_bad("cub", "test", STATUS_INVALID,
               "image_class_labels.txt line 3: the list is shorter than");
    put("cub/image_class_labels.txt", "1 1\n2 1\n3 3\n4 2\n");
    expect_bad("cub", "test", STATUS_INVALID, "line 3: class '3': 1..2 is allowed");
    put("cub/image_class_labels.txt", "1 1\n2 1\n4 2\n3 2\n");
    expect_bad("cub", "test", STATUS_INVALID, "line 3: '3 CLASS' is expected");
    put("cub/image_class_labels.txt", "1 1\n2 1\n3 2\n4 2\n5 1\n");
    expect_bad("cub", "test", STATUS_INVALID, "line 5: the list is longer than");
    put_cub("cub");
    put("cub/train_test_split.txt", "1 0\n2 yes\n3 1\n4 0\n");
    expect_bad("cub", "test", STATUS_INVALID, "train_test_split.txt line 2: 'yes': 0 (test) or 1");
    put_cub("cub");
    put("cub/classes.txt", "1 001.Black_footed_Albatross\n3 002.Laysan_Albatross\n");
    expect_bad("cub", "test", STATUS_INVALID, "classes.txt line 2: '2 NAME' is expected");
    put_cub("cub");
    put("cub/images.txt", "1 ../../etc/passwd\n2 a.jpg\n3 b.jpg\n4 c.jpg\n");
    expect_bad("cub", "test", STATUS_INVALID,
               "images.txt line 1: the picture '../../etc/passwd': a relative path without ..");
}

Test(dataset_layout, a_split_is_one_of_its_own)
{
    put_cub("cub");
    expect_bad("cub", "val", STATUS_INVALID,
               "--split: 'val' is no split of cub-200-2011; allowed: train|test");
    expect_bad("cub", "train|test", STATUS_INVALID, "--split: 'train|test' is no split");
    expect_bad("cub", "", STATUS_INVALID, "--split: '' is no split");
    put("plain/a.jpg", "p");
    put("plain/a.txt", "a caption");
    expect_bad("plain", "test", STATUS_INVALID, "--split: no source is a data set");
}

Test(dataset_layout, a_class_without_pictures_is_told)
{
    put_cub("cub");
    drop("cub/images/002.Laysan_Albatross/Laysan_Albatross_0003_1033.jpg");
    expect_bad("cub", "test", STATUS_NOT_FOUND,
               "class 2 'Laysan Albatross': none of its 1 pictures is there; the first is "
               "images/002.Laysan_Albatross/Laysan_Albatross_0003_1033.jpg");
    put("cub/train_test_split.txt", "1 0\n2 0\n3 1\n4 1\n");
    expect_bad("cub", "test", STATUS_INVALID,
               "class 2 'Laysan Albatross' has no picture in the split test");
    // One that is missing of a class that has others is an item that failed, no more.
    put("cub/train_test_split.txt", "1 0\n2 0\n3 0\n4 0\n");
    read_good("cub", "test");
    cr_assert(eq(sz, item_count, 4));
    cr_expect(strstr(items[3], "!") == items[3] && strstr(items[3], "0003_1033.jpg") != NULL);
}

// --- Food-101

static void put_food(void)
{
    put("food-101/meta/classes.txt", "apple_pie\nbaby_back_ribs\n");
    put("food-101/meta/labels.txt", "Apple pie\nBaby back ribs\n");
    put("food-101/meta/train.txt", "apple_pie/1005649\nbaby_back_ribs/1005293\n");
    put("food-101/meta/test.txt", "baby_back_ribs/1011328\napple_pie/1011328\nbaby_back_ribs/9\n");
    put("food-101/images/apple_pie/1005649.jpg", "p");
    put("food-101/images/apple_pie/1011328.jpg", "p");
    put("food-101/images/baby_back_ribs/1005293.jpg", "p");
    put("food-101/images/baby_back_ribs/1011328.jpg", "p");
    put("food-101/images/baby_back_ribs/9.jpg", "p");
}

Test(dataset_layout, food)
{
    put_food();
    read_good("food-101", "test");
    cr_assert(eq(sz, item_count, 3));
    expect_item(0, "1|images/baby_back_ribs/1011328|baby back ribs");
    expect_item(1, "0|images/apple_pie/1011328|apple pie");
    read_good("food-101", NULL);
    cr_assert(eq(sz, item_count, 2));
    expect_place("food-101", NULL, "food-101 (2 of 101 classes)", "apple pie\nbaby back ribs\n");
    put("food-101/meta/test.txt", "baby_back_ribs/1011328\npizza/1\n");
    expect_bad("food-101", "test", STATUS_INVALID,
               "meta/test.txt line 2: 'pizza/1' is in none of the 2 classes");
}

// --- Oxford Pets

static void put_pets(void)
{
    put("pets/annotations/trainval.txt", "Abyssinian_100 1 1 1\namerican_bulldog_100 2 2 1\n"
                                         "Egyptian_Mau_167 3 1 5\n");
    put("pets/annotations/test.txt", "#Image CLASS-ID SPECIES BREED ID\nEgyptian_Mau_7 3 1 5\n"
                                     "Abyssinian_201 1 1 1\namerican_bulldog_203 2 2 1\n");
    put("pets/images/Abyssinian_100.jpg", "p");
    put("pets/images/american_bulldog_100.jpg", "p");
    put("pets/images/Egyptian_Mau_167.jpg", "p");
    put("pets/images/Egyptian_Mau_7.jpg", "p");
    put("pets/images/Abyssinian_201.jpg", "p");
    put("pets/images/american_bulldog_203.jpg", "p");
}

Test(dataset_layout, pets)
{
    put_pets();
    read_good("pets", "test");
    cr_assert(eq(sz, item_count, 3));
    expect_item(0, "2|images/Egyptian_Mau_7|Egyptian Mau");
    expect_item(2, "1|images/american_bulldog_203|american bulldog");
    expect_place("pets", NULL, "oxford-pets (3 of 37 classes)",
                 "Abyssinian\namerican bulldog\nEgyptian Mau\n");
    put("pets/annotations/test.txt", "Abyssinian_201 1 1 1\nBengal_3 2 1 2\n");
    expect_bad("pets", "test", STATUS_INVALID,
               "test.txt line 2: class 2 is 'Bengal' here and was 'american_bulldog' before");
    put("pets/annotations/test.txt", "Abyssinian_201 4 1 1\n");
    expect_bad("pets", "test", STATUS_INVALID, "line 1: class 4: 1..3 is allowed");
    put("pets/annotations/test.txt", "Abyssinian 1\n");
    expect_bad("pets", "test", STATUS_INVALID, "line 1: 'BREED_NUMBER CLASS SPECIES BREED'");
    put("pets/annotations/trainval.txt", "Abyssinian_100 1 1 1\nEgyptian_Mau_167 3 1 5\n");
    expect_bad("pets", "train", STATUS_INVALID, "no picture of class 2, and some of higher");
}

// --- SUN397

Test(dataset_layout, sun)
{
    put("SUN397/ClassName.txt", "/a/abbey\n/a/airplane_cabin\n/c/church/indoor\n");
    put("SUN397/Partitions/Training_01.txt", "/a/abbey/sun_a.jpg\r\n/a/airplane_cabin/sun_b.jpg\r\n"
                                             "/c/church/indoor/sun_c.jpg\r\n");
    put("SUN397/Partitions/Testing_01.txt",
        "/c/church/indoor/sun_f.jpg\n/a/abbey/sun_d.jpg\n/a/airplane_cabin/sun_e.jpg\n");
    put("SUN397/a/abbey/sun_a.jpg", "p");
    put("SUN397/a/airplane_cabin/sun_b.jpg", "p");
    put("SUN397/c/church/indoor/sun_c.jpg", "p");
    put("SUN397/a/abbey/sun_d.jpg", "p");
    put("SUN397/a/airplane_cabin/sun_e.jpg", "p");
    put("SUN397/c/church/indoor/sun_f.jpg", "p");
    read_good("SUN397", "test");
    cr_assert(eq(sz, item_count, 3));
    expect_item(0, "2|c/church/indoor/sun_f|church indoor");
    read_good("SUN397", NULL);
    expect_item(1, "1|a/airplane_cabin/sun_b|airplane cabin");
    expect_place("SUN397", NULL, "sun397 (3 of 397 classes)",
                 "abbey\nairplane cabin\nchurch indoor\n");
    put("SUN397/Partitions/Testing_01.txt", "/a/zoo/sun_d.jpg\n");
    expect_bad("SUN397", "test", STATUS_INVALID,
               "Testing_01.txt line 1: '/a/zoo/sun_d.jpg' is in none");
    drop("SUN397/Partitions/Testing_01.txt");
    expect_bad("SUN397", "test", STATUS_NOT_FOUND,
               "Testing_01.txt: no such file; the split test of sun397 is listed in it");
    put("SUN397/ClassName.txt", "/a/abbey\nkitchen\n");
    expect_bad("SUN397", "train", STATUS_INVALID, "ClassName.txt line 2: 'kitchen': a class like");
}

// --- Stanford Cars

static void put_cars(void)
{
    put_mat("cars_meta.mat", "stanford_cars/devkit/cars_meta.mat");
    put_mat("cars_train_annos.mat", "stanford_cars/devkit/cars_train_annos.mat");
    put_mat("cars_test_annos_withlabels.mat", "stanford_cars/cars_test_annos_withlabels.mat");
    for (int i = 1; i <= 4; i++) {
        char name[64];
        snprintf(name, sizeof(name), "stanford_cars/cars_train/%05d.jpg", i);
        put(name, "p");
        snprintf(name, sizeof(name), "stanford_cars/cars_test/%05d.jpg", i);
        put(name, "p");
    }
}

Test(dataset_layout, cars)
{
    put_cars();
    read_good("stanford_cars", "test");
    cr_assert(eq(sz, item_count, 3));
    expect_item(0, "2|cars_test/00001|Cedar C/V Van 2011");
    expect_item(2, "0|cars_test/00003|Aster Comet Coupe 2012");
    read_good("stanford_cars", NULL);
    cr_assert(eq(sz, item_count, 4));
    expect_item(0, "1|cars_train/00001|Borealis 9-R Wagon 2009");
    expect_place("stanford_cars", NULL, "stanford-cars (3 of 196 classes)",
                 "Aster Comet Coupe 2012\nBorealis 9-R Wagon 2009\nCedar C/V Van 2011\n");
    // The list without labels, which the devkit has.
    put_mat("cars_test_annos.mat", "stanford_cars/cars_test_annos_withlabels.mat");
    expect_bad("stanford_cars", "test", STATUS_INVALID,
               "variable 'annotations', row 1, class: a whole number");
    drop("stanford_cars/cars_test_annos_withlabels.mat");
    expect_bad("stanford_cars", "test", STATUS_NOT_FOUND,
               "cars_test_annos_withlabels.mat: no such");
    put("stanford_cars/devkit/cars_meta.mat", "not a .mat");
    expect_bad("stanford_cars", "train", STATUS_INVALID, "cars_meta.mat: is no .mat file");
}

Test(dataset_layout, cars_in_one_list)
{
    put_mat("cars_annos.mat", "cars/cars_annos.mat");
    for (int i = 1; i <= 6; i++) {
        char name[64];
        snprintf(name, sizeof(name), "cars/car_ims/%06d.jpg", i);
        put(name, "p");
    }
    read_good("cars", "test");
    cr_assert(eq(sz, item_count, 3));
    expect_item(1, "1|car_ims/000004|Borealis 9-R Wagon 2009");
    read_good("cars", "train");
    expect_item(2, "2|car_ims/000005|Cedar C/V Van 2011");
}

// --- Flowers-102

Test(dataset_layout, flowers)
{
    put_mat("imagelabels.mat", "flowers-102/imagelabels.mat");
    put_mat("setid.mat", "flowers-102/setid.mat");
    for (int i = 1; i <= 306; i++) {
        char name[64];
        snprintf(name, sizeof(name), "flowers-102/jpg/image_%05d.jpg", i);
        put(name, "p");
    }
    read_good("flowers-102", "test");
    cr_assert(eq(sz, item_count, 102));
    expect_item(0, "0|jpg/image_00205|pink primrose");
    expect_item(92, "92|jpg/image_00297|air plant");
    expect_item(101, "101|jpg/image_00306|blackberry lily");
    read_good("flowers-102", "val");
    expect_item(0, "0|jpg/image_00103|pink primrose");
    expect_place("flowers-102", NULL, "flowers-102", "pink primrose\nhard-leaved pocket orchid\n");
    drop("flowers-102/jpg/image_00306.jpg");
    expect_bad("flowers-102", "test", STATUS_NOT_FOUND,
               "class 102 'blackberry lily': none of its 1");
    put_mat("imagelabels_zero.mat", "flowers-102/imagelabels.mat");
    expect_bad("flowers-102", "test", STATUS_INVALID,
               "imagelabels.mat: element 206: class 0: 1..102 is allowed");
    put_mat("setid.mat", "flowers-102/imagelabels.mat");
    expect_bad("flowers-102", "test", STATUS_INVALID, "has no variable 'labels'");
}

// --- ImageNet

static void put_imagenet(void)
{
    put("in/val/n00000100/ILSVRC2012_val_00000002.JPEG", "p");
    put("in/val/n00000200/ILSVRC2012_val_00000003.JPEG", "p");
    put("in/val/n00000300/ILSVRC2012_val_00000001.JPEG", "p");
    put("in/val/n00000300/ILSVRC2012_val_00000004.JPEG", "p");
    put("in/val/n00000300/._ILSVRC2012_val_00000004.JPEG", "what macOS leaves");
}

Test(dataset_layout, imagenet_in_folders)
{
    put_imagenet();
    expect_bad("in", "val", STATUS_NOT_FOUND,
               "class n00000100 has no name here: classnames.txt, LOC_synset_mapping.txt or the "
               "devkit's data/meta.mat would have them, and the folder lacks one; --labels FILE");
    struct reason why = {.text = ""};
    cr_assert(eq(int, read_split("in", "val", true, &why), STATUS_OK), "%s", why.text);
    expect_item(3, "2|val/n00000300/ILSVRC2012_val_00000004|"); // for an evaluation with --labels
    expect_place("in", NULL, "imagenet (3 of 1000 classes)", NULL);

    put("in/LOC_synset_mapping.txt",
        "n00000100 kettle, kettle hole\nn00000200 lynx\nn00000300 heron, Ardea\n");
    read_good("in", "val");
    cr_assert(eq(sz, item_count, 4));
    expect_item(0, "0|val/n00000100/ILSVRC2012_val_00000002|kettle");
    expect_item(2, "2|val/n00000300/ILSVRC2012_val_00000001|heron");
    expect_bad("in", NULL, STATUS_NOT_FOUND, "no folder train, ILSVRC/Data/CLS-LOC/train");
    put("in/classnames.txt", "kettle (pot)\nlynx\nheron bird\n"); // the user's own come first
    expect_place("in", NULL, "imagenet (3 of 1000 classes)", "kettle (pot)\nlynx\nheron bird\n");
    put("in/classnames.txt", "kettle\nlynx\n");
    expect_bad("in", "val", STATUS_INVALID, "classnames.txt has 2 names: there are 3 classes");
    drop("in/classnames.txt");

    put("in/LOC_synset_mapping.txt",
        "n00000100 kettle\nn00000200 lynx\nn00000300 heron\nn00000400 owl\n");
    expect_bad("in", "val", STATUS_INVALID, "class 4 'owl' has no picture in the split val");
    put("in/LOC_synset_mapping.txt", "n00000100 kettle\nn00000200 lynx\n");
    expect_bad("in", "val", STATUS_INVALID, "val/n00000300: LOC_synset_mapping.txt does not have");
    put("in/LOC_synset_mapping.txt", "n00000100 kettle\nlynx\n");
    expect_bad("in", "val", STATUS_INVALID, "LOC_synset_mapping.txt line 2: 'n01440764 tench");
    put("in/LOC_synset_mapping.txt", "n00000100 kettle\nn00000100 lynx\n");
    expect_bad("in", "val", STATUS_INVALID, "LOC_synset_mapping.txt has n00000100 twice");
}

Test(dataset_layout, imagenet_flat_with_the_devkit)
{
    put_mat("meta.mat", "in/ILSVRC2012_devkit_t12/data/meta.mat");
    put("in/ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", "1\n2\n3\n1\n");
    for (int i = 1; i <= 4; i++) {
        char name[64];
        snprintf(name, sizeof(name), "in/val/ILSVRC2012_val_%08d.JPEG", i);
        put(name, "p");
    }
    put("in/train/n00000100/n00000100_1.JPEG", "p");
    put("in/train/n00000200/n00000200_1.JPEG", "p");
    put("in/train/n00000300/n00000300_1.JPEG", "p");
    read_good("in", "val");
    cr_assert(eq(sz, item_count, 4));
    expect_item(0, "2|val/ILSVRC2012_val_00000001|heron"); // the devkit's number 1 is n00000300
    expect_item(1, "0|val/ILSVRC2012_val_00000002|kettle");
    read_good("in", NULL);
    expect_item(2, "2|train/n00000300/n00000300_1|heron");
    expect_place("in", NULL, "imagenet (3 of 1000 classes)", "kettle\nlynx\nheron\n");
    put("in/ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", "1\n1001\n");
    expect_bad("in", "val", STATUS_INVALID,
               "ground_truth.txt line 2: '1001': the number of a class");
    drop("in/ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt");
    expect_bad("in", "val", STATUS_NOT_FOUND, "val has no folders of classes (n01440764 ...)");
}

Test(dataset_layout, imagenet_of_kaggle)
{
    put("in/LOC_synset_mapping.txt", "n00000100 kettle\nn00000200 lynx\n");
    put("in/LOC_val_solution.csv",
        "ImageId,PredictionString\nILSVRC2012_val_00000002,n00000200 85 1 499 272 \n"
        "ILSVRC2012_val_00000001,n00000100 1 2 3 4 n00000100 1 2 3 4 \n");
    put("in/ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG", "p");
    put("in/ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000002.JPEG", "p");
    read_good("in", "val");
    cr_assert(eq(sz, item_count, 2));
    expect_item(0, "1|ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000002|lynx");
    put("in/LOC_val_solution.csv",
        "ImageId,PredictionString\nILSVRC2012_val_00000002,n00000900 85 1\n");
    expect_bad("in", "val", STATUS_INVALID, "LOC_val_solution.csv line 2: 'PICTURE,CLASS ...'");
}

// --- Flickr30k and COCO

#define SENTENCE(text) "{\"tokens\":[\"a\",\"b\"],\"raw\":\"" text "\",\"imgid\":0,\"sentid\":0}"

Test(dataset_layout, flickr)
{
    put("f/dataset_flickr30k.json",
        "{\"images\": [{\"sentids\": [0, 1], \"imgid\": 0, \"sentences\": [" SENTENCE(
            "Two men .") ", " SENTENCE("A \\\"green\\\"\\nhat. ") "], \"split\": \"train\", "
                                                                  "\"filename\": "
                                                                  "\"1000092795.jpg\"}, "
                                                                  "{\"sentids\": [5], \"imgid\": "
                                                                  "1, \"sentences\": [" SENTENCE(
                                                                      "A child] }.") "], "
                                                                                     "\"split\": "
                                                                                     "\"test\", "
                                                                                     "\"filename\":"
                                                                                     " \"10002456."
                                                                                     "jpg\"}], "
                                                                                     "\"dataset\": "
                                                                                     "\"flickr30k\""
                                                                                     "}");
    put("f/flickr30k-images/1000092795.jpg", "p");
    put("f/flickr30k-images/10002456.jpg", "p");
    read_good("f", "test");
    cr_assert(eq(sz, item_count, 1));
    expect_item(0, "|flickr30k-images/10002456|A child] }.");
    read_good("f", NULL);
    expect_item(0, "|flickr30k-images/1000092795|Two men .\nA \"green\" hat.");
    expect_place("f", NULL, "flickr30k", NULL);
    expect_bad("f", "val", STATUS_INVALID, "the split val has no pictures");
    drop("f/flickr30k-images/10002456.jpg");
    expect_bad("f", "test", STATUS_NOT_FOUND,
               "images[1]: the picture 10002456.jpg lies neither in");
    put("f/dataset_flickr30k.json",
        "{\"images\":[{\"filename\":\"a.jpg\",\"split\":\"test\",\"sentences\":[]}]}");
    expect_bad("f", "test", STATUS_INVALID,
               "dataset_flickr30k.json: images[0]: sentences: no caption");
    put("f/dataset_flickr30k.json", "{\"images\":[{\"filename\":\"a.jpg\"},}");
    expect_bad("f", "test", STATUS_INVALID, "images[0]: \"filename\" and \"split\" are expected");
    put("f/dataset_flickr30k.json", "{\"images\":[{\"filename\":7 \"a\"}]}");
    expect_bad("f", "test", STATUS_INVALID, "dataset_flickr30k.json: images[0]: ");
    put("f/dataset_flickr30k.json", "{\"images\":[{\"filename\":\"a.jpg\",\"split\":\"val\"");
    expect_bad("f", "test", STATUS_INVALID, "broken JSON at byte");
    put("f/dataset_flickr30k.json", "{\"annotations\":[]}");
    expect_bad("f", "test", STATUS_INVALID, "dataset_flickr30k.json: has no member \"images\"");
}

Test(dataset_layout, coco)
{
    put("coco/dataset_coco.json",
        "{\"images\": [{\"filepath\": \"val2014\", \"sentids\": [1], \"filename\": "
        "\"COCO_val2014_000000391895.jpg\", \"imgid\": 0, \"split\": \"test\", \"sentences\": "
        "[" SENTENCE("A man on a moped.") "], \"cocoid\": 391895}, {\"filepath\": \"val2014\", "
                                          "\"filename\": \"b.jpg\", "
                                          "\"split\": \"restval\", \"sentences\": [" SENTENCE(
                                              "b") "]}, {\"filepath\": \"train2014\", "
                                                   "\"filename\": \"c.jpg\", \"split\": \"train\", "
                                                   "\"sentences\": [" SENTENCE("c") "]}]}");
    put("coco/images/val2014/COCO_val2014_000000391895.jpg", "p");
    put("coco/images/val2014/b.jpg", "p");
    put("coco/images/train2014/c.jpg", "p");
    read_good("coco", "test");
    cr_assert(eq(sz, item_count, 1));
    expect_item(0, "|images/val2014/COCO_val2014_000000391895|A man on a moped.");
    read_good("coco", "train"); // and restval
    cr_assert(eq(sz, item_count, 2));
    expect_item(0, "|images/val2014/b|b");
    expect_item(1, "|images/train2014/c|c");
}

// --- OVEN

#define OVEN_LINE(number, picture, name)                                                           \
    "{\"data_id\": \"oven_entity_val_0000000" number "\", \"image_id\": \"" picture                \
    "\", \"question\": \"what is the model of this aircraft?\", \"entity_id\": \"Q1141409\", "     \
    "\"entity_text\": \"" name "\", \"data_split\": \"entity_val_seen\"}\n"

Test(dataset_layout, oven)
{
    put("oven/oven_data/oven_entity_val.jsonl",
        OVEN_LINE("0", "oven_04925417", "Dassault Falcon 900") OVEN_LINE("1", "oven_05000001",
                                                                         "Saab 35")
            OVEN_LINE("2", "oven_05000002", "Gone") "{\"data_id\": \"oven_entity_test_00000003\", "
                                                    "\"image_id\": \"oven_05000001\"}\n[1]\n");
    put("oven/oven_images/04/oven_04925417.jpg", "p");
    put("oven/oven_images/05/oven_05000001.JPEG", "p");
    read_good("oven", "val");
    cr_assert(eq(sz, item_count, 5));
    cr_expect(eq(u64, total, 0)); // known at the end
    expect_item(0, "|oven_entity_val_00000000|Dassault Falcon 900");
    expect_item(1, "|oven_entity_val_00000001|Saab 35");
    cr_expect(strstr(items[2], "oven_entity_val.jsonl line 3: image_id: oven_05000002: no such "
                               "picture in") != NULL,
              "%s", items[2]);
    cr_expect(strstr(items[3], "line 4: entity_text: is missing") != NULL, "%s", items[3]);
    cr_expect(strstr(items[4], "line 5: : is no object") != NULL, "%s", items[4]);
    expect_bad("oven", NULL, STATUS_NOT_FOUND, "oven_entity_train.jsonl: no such file");
    expect_place("oven", NULL, "oven", NULL);
}

Test(dataset_layout, an_ordinary_folder_stays_one)
{
    put("photos/train/a.jpg", "p");
    put("photos/train/a.txt", "a caption");
    put("photos/classes.txt", "1 one\n");
    put("photos/test.txt", "x");
    struct reason why = {.text = ""};
    cr_assert(eq(int, read_split("photos", NULL, false, &why), STATUS_OK));
    cr_assert(eq(sz, item_count, 1));
    expect_item(0, "|train/a|a caption");
    cr_expect(eq(str, about, (char *)""));
}
