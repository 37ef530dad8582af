// SPDX-License-Identifier: Apache-2.0
// A folder of pictures. All their paths are listed first and sorted, so that every
// build of the same folder is the same; the files are read one by one afterwards.
//
// Links to files are followed, links to folders are not: they could lead in circles.

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/mem.h"
#include "proto/base/system_error.h"
#include "tools/dataset_internal.h"

struct dataset_folder {
    char *path;
    struct dataset_list pictures; // relative to path
    size_t at;
};

// --- listing

struct walk {
    struct dataset_list todo; // folders, relative; a stack
    struct dataset_list *pictures;
};

static struct text extension_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    const char *dot = strrchr(slash ? slash : name, '.');
    return dot ? text_of(dot + 1) : (struct text){"", 0};
}

// Takes one entry of folder `where` (relative; "" for the top).
static enum status take_entry(struct walk *walk, const char *top, const char *where,
                              const char *name, struct reason *why)
{
    char relative[DATASET_PATH_BYTES];
    char path[DATASET_PATH_BYTES];
    bool fits = where[0] ? dataset_join(where, name, relative)
                         : snprintf(relative, sizeof(relative), "%s", name) > 0;
    if (!fits || !dataset_join(top, relative, path))
        return reason_set(why, STATUS_INVALID, where, "a path in it is longer than %d bytes",
                          DATASET_PATH_BYTES - 1);

    struct stat about;
    if (lstat(path, &about) != 0)
        return STATUS_OK; // gone since it was listed
    if (S_ISDIR(about.st_mode))
        dataset_list_add(&walk->todo, relative);
    else if (dataset_is_picture(extension_of(name)) && dataset_is_file(path))
        dataset_list_add(walk->pictures, relative);
    return STATUS_OK;
}

static enum status list_folder(struct walk *walk, const char *top, const char *where,
                               struct reason *why)
{
    char path[DATASET_PATH_BYTES];
    if (!dataset_join(top, where, path))
        return reason_set(why, STATUS_INVALID, top, "a path longer than %d bytes",
                          DATASET_PATH_BYTES - 1);
    DIR *directory = opendir(path);
    if (!directory)
        return reason_set(why, STATUS_IO, path, "cannot be opened: %s", SYSTEM_ERROR(errno));

    enum status status = STATUS_OK;
    while (!status) {
        errno = 0;
        const struct dirent *entry = readdir(directory); // NOLINT(concurrency-mt-unsafe): own DIR
        if (!entry && errno)
            status = reason_set(why, STATUS_IO, path, "cannot be read: %s", SYSTEM_ERROR(errno));
        if (!entry)
            break;
        if (entry->d_name[0] != '.')
            status = take_entry(walk, top, where, entry->d_name, why);
    }
    (void)closedir(directory);
    return status;
}

static size_t stem_bytes(const char *name)
{
    return strlen(name) - extension_of(name).bytes - 1;
}

// By stem, then by the whole name: pictures of one stem stand together.
static int compare_pictures(const void *a, const void *b)
{
    const char *x = *(const char *const *)a;
    const char *y = *(const char *const *)b;
    size_t x_stem = stem_bytes(x);
    size_t y_stem = stem_bytes(y);
    int order = memcmp(x, y, x_stem < y_stem ? x_stem : y_stem);
    if (order == 0 && x_stem != y_stem)
        order = x_stem < y_stem ? -1 : 1;
    return order ? order : strcmp(x, y);
}

enum status dataset_folder_open(const char *path, struct dataset_folder **out, struct reason *why)
{
    struct dataset_folder *folder = mem_alloc(sizeof(*folder));
    struct walk walk = {.pictures = &folder->pictures};
    folder->path = mem_copy_text(path);

    dataset_list_add(&walk.todo, "");
    enum status status = STATUS_OK;
    while (walk.todo.count && !status) {
        char where[DATASET_PATH_BYTES];
        char *last = walk.todo.names[--walk.todo.count];
        (void)snprintf(where, sizeof(where), "%s", last);
        mem_free(last);
        status = list_folder(&walk, path, where, why);
    }
    dataset_list_free(&walk.todo);
    if (status) {
        dataset_folder_close(&folder);
        return status;
    }
    if (folder->pictures.count)
        qsort(folder->pictures.names, folder->pictures.count, sizeof(char *), compare_pictures);
    *out = folder;
    return STATUS_OK;
}

void dataset_folder_close(struct dataset_folder **folder)
{
    if (!*folder)
        return;
    dataset_list_free(&(*folder)->pictures);
    mem_free((*folder)->path);
    mem_free(*folder);
    *folder = NULL;
}

size_t dataset_folder_count(const struct dataset_folder *folder)
{
    return folder->pictures.count;
}

// --- reading

// Reads PATH-without-extension + `suffix`; STATUS_NOT_FOUND when there is none.
static enum status read_sidecar(const char *picture, const char *suffix, struct buffer *out,
                                struct reason *why)
{
    char path[DATASET_PATH_BYTES + 8];
    (void)snprintf(path, sizeof(path), "%.*s%s", (int)stem_bytes(picture), picture, suffix);
    struct reason inner = {.text = ""};
    enum status status = dataset_read_file(path, DATASET_SIDECAR_BYTES_MAX, out, &inner);
    if (status && status != STATUS_NOT_FOUND)
        return reason_set(why, status, suffix, "%s", inner.text);
    return status;
}

static enum status take_sidecars(const char *picture, struct arena *arena,
                                 struct dataset_item *item, struct reason *why)
{
    struct buffer text = {0};
    enum status status = read_sidecar(picture, ".txt", &text, why);
    bool found = status == STATUS_OK;
    if (!status)
        status =
            dataset_take_caption((struct bytes){text.data, text.count}, arena, &item->record, why);
    buffer_deinit(&text);
    if (status && status != STATUS_NOT_FOUND)
        return status;

    struct buffer json = {0};
    status = read_sidecar(picture, ".json", &json, why);
    found = found || status == STATUS_OK;
    if (!status)
        status = dataset_take_json((struct bytes){json.data, json.count}, arena, item, why);
    buffer_deinit(&json);
    if (status && status != STATUS_NOT_FOUND)
        return status;
    if (!found)
        return reason_set(why, STATUS_NOT_FOUND, "caption",
                          "there is no .txt and no .json of the same name beside it");
    return STATUS_OK;
}

static enum status read_item(const struct dataset_folder *folder, const char *path,
                             struct arena *arena, struct dataset_item *out, struct reason *why)
{
    const char *relative = folder->pictures.names[folder->at];
    const char *previous = folder->at ? folder->pictures.names[folder->at - 1] : NULL;
    size_t stem = stem_bytes(relative);
    if (previous && stem_bytes(previous) == stem && memcmp(previous, relative, stem) == 0)
        return reason_set(why, STATUS_ALREADY_EXISTS, "key",
                          "%s has the same name but for the extension", previous);

    struct api_ingest_record *record = &out->record;
    const char *key = arena_copy_text(arena, relative, stem);
    const char *source = arena_copy_text(arena, path, strlen(path));
    if (!key || !source)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "out of memory");
    record->key = (struct text){key, stem};
    record->source = text_of(source);
    enum status status = take_sidecars(path, arena, out, why);
    if (!status)
        status = dataset_check(record, true, why);
    return status ? status : dataset_read_picture(path, arena, record, why);
}

enum dataset_step dataset_folder_next(struct dataset_folder *folder, struct arena *arena,
                                      struct dataset_item *out, struct reason *why)
{
    if (folder->at == folder->pictures.count)
        return DATASET_END;

    char path[DATASET_PATH_BYTES] = "";
    dataset_begin_item(out, NULL);
    enum status status = STATUS_OK;
    if (!dataset_join(folder->path, folder->pictures.names[folder->at], path))
        status = reason_set(why, STATUS_INVALID, NULL, "its path is too long");
    out->name = dataset_format(arena, "%s", path);
    if (!status)
        status = read_item(folder, path, arena, out, why);
    folder->at++;
    return status ? DATASET_BAD : DATASET_ITEM;
}
