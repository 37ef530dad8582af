// SPDX-License-Identifier: Apache-2.0
// Names, paths and lists of them.

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"
#include "tools/dataset_internal.h"
#include "tools/inputs.h"

void dataset_list_add(struct dataset_list *list, const char *name)
{
    // Grows by halves, so that a million names are not a million copies.
    if ((list->count & (list->count - 1)) == 0) {
        size_t room = list->count ? 2 * list->count : 1;
        list->names = mem_grow(list->names, room, sizeof(list->names[0]));
    }
    list->names[list->count++] = mem_copy_text(name);
}

void dataset_list_free(struct dataset_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        mem_free(list->names[i]);
    mem_free(list->names);
    *list = (struct dataset_list){0};
}

static int compare_numbered(const void *a, const void *b)
{
    const char *x = *(const char *const *)a;
    const char *y = *(const char *const *)b;
    size_t x_bytes = strlen(x);
    size_t y_bytes = strlen(y);
    if (x_bytes != y_bytes)
        return x_bytes < y_bytes ? -1 : 1;
    return strcmp(x, y);
}

void dataset_list_sort_numbered(struct dataset_list *list)
{
    if (list->count)
        qsort(list->names, list->count, sizeof(list->names[0]), compare_numbered);
}

enum status dataset_list_files(const char *folder, const char *suffix, struct dataset_list *out,
                               struct reason *why)
{
    DIR *directory = opendir(folder);
    if (!directory)
        return reason_set(why, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, folder,
                          "cannot be opened: %s", SYSTEM_ERROR(errno));

    enum status status = STATUS_OK;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory); // NOLINT(concurrency-mt-unsafe): own DIR
        if (!entry && errno)
            status = reason_set(why, STATUS_IO, folder, "cannot be read: %s", SYSTEM_ERROR(errno));
        if (!entry)
            break;
        char path[DATASET_PATH_BYTES];
        if (entry->d_name[0] != '.' && dataset_ends_with(entry->d_name, suffix) &&
            dataset_join(folder, entry->d_name, path) && dataset_is_file(path))
            dataset_list_add(out, entry->d_name);
    }
    (void)closedir(directory);
    return status;
}

bool dataset_is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

bool dataset_is_file(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISREG(about.st_mode);
}

bool dataset_ends_with(const char *name, const char *suffix)
{
    size_t bytes = strlen(name);
    size_t end = strlen(suffix);
    return bytes >= end && strncasecmp(name + bytes - end, suffix, end) == 0;
}

bool dataset_join(const char *folder, const char *name, char out[DATASET_PATH_BYTES])
{
    size_t bytes = strlen(folder);
    const char *slash = bytes && folder[bytes - 1] == '/' ? "" : "/";
    int used = snprintf(out, DATASET_PATH_BYTES, "%s%s%s", folder, slash, name);
    return used > 0 && used < DATASET_PATH_BYTES;
}

bool dataset_is_picture(struct text extension)
{
    static const char *const known[] = {"jpg", "jpeg", "png", "webp", "gif"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strlen(known[i]) == extension.bytes &&
            strncasecmp(known[i], extension.data, extension.bytes) == 0)
            return true;
    return false;
}

enum status dataset_read_file(const char *path, size_t bytes_max, struct buffer *out,
                              struct reason *why)
{
    struct stat about;
    if (stat(path, &about) == 0 && !S_ISREG(about.st_mode))
        return reason_set(why, STATUS_INVALID, NULL, "is %s: a regular file is allowed",
                          S_ISDIR(about.st_mode) ? "a folder" : "a pipe or device");
    return inputs_read_file(path, bytes_max, out, why);
}

enum status dataset_read_picture(const char *path, struct arena *arena,
                                 struct api_ingest_record *record, struct reason *why)
{
    struct buffer picture = {0};
    enum status status = dataset_read_file(path, IMAGE_BYTES_MAX, &picture, why);
    if (!status && !picture.count)
        status = reason_set(why, STATUS_INVALID, "picture", "the file is empty");
    if (status) {
        buffer_deinit(&picture);
        return status;
    }
    uint8_t *copy = arena_alloc(arena, picture.count);
    if (copy && picture.data)
        memcpy(copy, picture.data, picture.count);
    record->image = (struct bytes){copy, picture.count};
    buffer_deinit(&picture);
    return copy ? STATUS_OK : reason_set(why, STATUS_NO_MEMORY, NULL, "out of memory");
}

void dataset_find_script(const char *name, char out[DATASET_PATH_BYTES])
{
    char program[DATASET_PATH_BYTES / 2];
    ssize_t bytes = readlink("/proc/self/exe", program, sizeof(program) - 1);
    program[bytes > 0 ? bytes : 0] = 0;
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = 0;
    (void)snprintf(out, DATASET_PATH_BYTES, "%s/../share/reco/%s", program, name);
    if (!dataset_is_file(out))
        (void)snprintf(out, DATASET_PATH_BYTES, "tools/%s", name);
}
