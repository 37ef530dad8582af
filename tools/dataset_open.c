// SPDX-License-Identifier: Apache-2.0
// Tells the kinds of sources apart and goes through them in the order given.
//
// Folders are listed and arrays opened at once, since their counts and dimension are
// asked for; a tar is opened only when its turn comes: there may be thousands.

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/mem.h"
#include "tools/dataset.h"
#include "tools/dataset_internal.h"

struct part {
    char *tar; // path of a shard that is not open yet
    struct dataset_tar *open_tar;
    struct dataset_folder *folder;
    struct dataset_arrays *arrays;
    struct dataset_manifest *manifest;
    struct dataset_layout *layout;
};

struct dataset {
    const struct dataset_params *params; // during dataset_open()
    struct part *parts;
    size_t count;
    size_t at;
    uint64_t total;
    bool total_known;
    uint64_t rows; // of all arrays so far
    uint32_t dimension;
    bool has_pictures;
    bool labelled;
    const char *entity; // of the params
    char about[128];
};

static struct part *add_part(struct dataset *dataset)
{
    if ((dataset->count & (dataset->count - 1)) == 0) {
        size_t room = dataset->count ? 2 * dataset->count : 1;
        dataset->parts = mem_grow(dataset->parts, room, sizeof(dataset->parts[0]));
    }
    struct part *part = &dataset->parts[dataset->count++];
    *part = (struct part){.tar = NULL};
    return part;
}

static void add_tar(struct dataset *dataset, const char *path)
{
    add_part(dataset)->tar = mem_copy_text(path);
    dataset->total_known = false;
    dataset->has_pictures = true;
}

// --- arrays

static enum status set_dimension(struct dataset *dataset, const char *source, uint32_t dimension,
                                 struct reason *why)
{
    if (dataset->dimension && dataset->dimension != dimension)
        return reason_set(why, STATUS_INVALID, source, "rows of %u numbers after rows of %u",
                          dimension, dataset->dimension);
    dataset->dimension = dimension;
    return STATUS_OK;
}

static enum status add_arrays(struct dataset *dataset, const char *images, const char *texts,
                              const char *metadata, struct reason *why)
{
    struct dataset_arrays *arrays = NULL;
    enum status status = dataset_arrays_open(images, texts, metadata, dataset->rows, &arrays, why);
    if (status)
        return status;
    add_part(dataset)->arrays = arrays;

    dataset->rows += dataset_arrays_rows(arrays);
    dataset->total += dataset_arrays_rows(arrays);
    return set_dimension(dataset, images, dataset_arrays_dimension(arrays), why);
}

// Parquet is another program's work: one that is shipped beside this one.
static enum status refuse_parquet(const char *path, struct reason *why)
{
    char script[DATASET_PATH_BYTES];
    dataset_find_script("convert_parquet.py", script);
    return reason_set(why, STATUS_UNSUPPORTED, path,
                      "parquet is not read; this makes what is read of it: python3 %s %s", script,
                      path);
}

static bool has_files(const char *folder, const char *suffix)
{
    struct dataset_list list = {0};
    struct reason ignored;
    (void)!dataset_list_files(folder, suffix, &list, &ignored);
    bool any = list.count > 0;
    dataset_list_free(&list);
    return any;
}

// The .jsonl of one shard of clip-retrieval's output, "" when there is no metadata at all.
static enum status find_metadata(const char *folder, const char *number,
                                 char out[DATASET_PATH_BYTES], struct reason *why)
{
    char metadata[DATASET_PATH_BYTES];
    char name[DATASET_PATH_BYTES];
    int used = snprintf(name, sizeof(name), "metadata%s.jsonl", number);
    if (used < 0 || (size_t)used >= sizeof(name) || !dataset_join(folder, "metadata", metadata) ||
        !dataset_join(metadata, name, out))
        return reason_set(why, STATUS_INVALID, folder, "its paths are too long");
    if (dataset_is_file(out))
        return STATUS_OK;

    if (has_files(metadata, ".jsonl"))
        return reason_set(why, STATUS_NOT_FOUND, out,
                          "no such file, though other shards have theirs");
    if (has_files(metadata, ".parquet"))
        return refuse_parquet(metadata, why);
    out[0] = 0;
    return STATUS_OK;
}

// One "img_emb/img_embNUMBER.npy" with what belongs to it.
static enum status add_shard(struct dataset *dataset, const char *folder, const char *name,
                             struct reason *why)
{
    static const char prefix[] = "img_emb";
    char inside[2 * DATASET_PATH_BYTES];
    char images[DATASET_PATH_BYTES];
    char texts[DATASET_PATH_BYTES];
    char metadata[DATASET_PATH_BYTES];
    char number[DATASET_PATH_BYTES];

    if (strncmp(name, prefix, strlen(prefix)) != 0)
        return reason_set(why, STATUS_INVALID, folder,
                          "img_emb/%s: a name like img_emb_0.npy is expected", name);
    (void)snprintf(number, sizeof(number), "%.*s",
                   (int)(strlen(name) - strlen(prefix) - strlen(".npy")), name + strlen(prefix));
    (void)snprintf(inside, sizeof(inside), "img_emb/%s", name);
    bool fits = dataset_join(folder, inside, images);
    (void)snprintf(inside, sizeof(inside), "text_emb/text_emb%s.npy", number);
    fits = fits && dataset_join(folder, inside, texts);
    if (!fits)
        return reason_set(why, STATUS_INVALID, folder, "its paths are too long");

    enum status status = find_metadata(folder, number, metadata, why);
    return status ? status : add_arrays(dataset, images, texts, metadata[0] ? metadata : NULL, why);
}

static enum status add_clip_retrieval(struct dataset *dataset, const char *folder,
                                      const char *images, struct reason *why)
{
    struct dataset_list shards = {0};
    enum status status = dataset_list_files(images, ".npy", &shards, why);
    dataset_list_sort_numbered(&shards);
    if (!status && !shards.count)
        status = reason_set(why, STATUS_INVALID, images, "has no .npy file");
    for (size_t i = 0; i < shards.count && !status; i++)
        status = add_shard(dataset, folder, shards.names[i], why);
    dataset_list_free(&shards);
    return status;
}

// --- manifests

// What an interrupted export has left is not taken for the whole.
static enum status check_whole(const char *folder, struct reason *why)
{
    char partial[DATASET_PATH_BYTES];
    if (!dataset_join(folder, DATASET_PARTIAL, partial) || !dataset_is_file(partial))
        return STATUS_OK;
    return reason_set(why, STATUS_FAILED_PRECONDITION, folder,
                      "an export into it was interrupted, or is under way (" DATASET_PARTIAL
                      "): export anew");
}

static enum status add_manifest(struct dataset *dataset, const char *path, struct reason *why)
{
    char folder[DATASET_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    (void)snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) : 1,
                   slash ? path : ".");
    struct dataset_manifest *manifest = NULL;
    enum status status = check_whole(slash == path ? "/" : folder, why);
    if (!status)
        status = dataset_manifest_open(path, dataset->params, &manifest, why);
    if (status)
        return status;
    add_part(dataset)->manifest = manifest;
    dataset->total_known = false;
    const uint32_t dimension = dataset_manifest_dimension(manifest);
    if (dimension)
        return set_dimension(dataset, path, dimension, why);
    dataset->has_pictures = true;
    return STATUS_OK;
}

// Our own export: records_0.jsonl and so on.
static enum status add_records(struct dataset *dataset, const char *folder, struct reason *why)
{
    static const char prefix[] = "records_";
    struct dataset_list list = {0};
    enum status status = dataset_list_files(folder, ".jsonl", &list, why);
    dataset_list_sort_numbered(&list);
    for (size_t i = 0; i < list.count && !status; i++) {
        char path[DATASET_PATH_BYTES];
        if (strncmp(list.names[i], prefix, strlen(prefix)) == 0 &&
            dataset_join(folder, list.names[i], path))
            status = add_manifest(dataset, path, why);
    }
    dataset_list_free(&list);
    return status;
}

// --- folders

static enum status add_layout(struct dataset *dataset, const struct dataset_layout_kind *kind,
                              const char *root, struct reason *why)
{
    struct dataset_layout *layout = NULL;
    const enum status status = dataset_layout_open(kind, root, dataset->params, &layout, why);
    if (status)
        return status;
    add_part(dataset)->layout = layout;
    dataset->has_pictures = true;
    dataset->total += dataset_layout_count(layout);
    dataset->total_known = dataset->total_known && dataset_layout_count(layout) > 0;
    dataset_layout_describe(layout, dataset->about, sizeof(dataset->about));
    return STATUS_OK;
}

static enum status add_folder(struct dataset *dataset, const char *path, struct reason *why)
{
    char images[DATASET_PATH_BYTES];
    char texts[DATASET_PATH_BYTES];
    if (!dataset_join(path, "img_emb", images) || !dataset_join(path, "text_emb", texts))
        return reason_set(why, STATUS_INVALID, path, "is too long");
    enum status status = check_whole(path, why);
    if (status)
        return status;
    if (dataset_is_folder(images) && dataset_is_folder(texts))
        return add_clip_retrieval(dataset, path, images, why);
    char records[DATASET_PATH_BYTES];
    if (dataset_join(path, "records_0.jsonl", records) && dataset_is_file(records))
        return add_records(dataset, path, why);
    const struct dataset_layout_kind *kind = dataset_layout_find(path);
    if (kind)
        return add_layout(dataset, kind, path, why);

    struct dataset_list tars = {0};
    struct dataset_folder *folder = NULL;
    status = dataset_folder_open(path, &folder, why);
    if (status)
        return status;
    size_t pictures = dataset_folder_count(folder);
    add_part(dataset)->folder = folder;
    dataset->total += pictures;
    dataset->has_pictures = true;

    status = dataset_list_files(path, "", &tars, why);
    dataset_list_sort_numbered(&tars);
    size_t shards = 0;
    for (size_t i = 0; i < tars.count && !status; i++) {
        char shard[DATASET_PATH_BYTES];
        if (dataset_tar_stem_bytes(tars.names[i]) && dataset_join(path, tars.names[i], shard)) {
            add_tar(dataset, shard);
            shards++;
        }
    }
    dataset_list_free(&tars);
    if (!status && !pictures && !shards && has_files(path, ".parquet"))
        return refuse_parquet(path, why);
    if (!status && !pictures && !shards)
        return reason_set(why, STATUS_INVALID, path,
                          "has no pictures (jpg, jpeg, png, webp, gif) and no .tar");
    return status;
}

// --- sources

// A pipe, a device: what would wait, or never end.
static enum status refuse_special(const char *path, struct reason *why)
{
    struct stat about;
    if (stat(path, &about) == 0)
        return reason_set(why, STATUS_INVALID, path,
                          "is a pipe or device; a regular file or a folder is allowed, and - with "
                          "--format for a manifest on stdin");
    return reason_set(why, STATUS_NOT_FOUND, path, "no such file or folder");
}

// Takes the source at sources[0] and counts in *taken how many belong together.
static enum status add_source(struct dataset *dataset, const char *const *sources, size_t count,
                              size_t *taken, struct reason *why)
{
    const char *source = sources[0];
    *taken = 1;
    if (strcmp(source, "-") == 0)
        return add_manifest(dataset, source, why);
    if (dataset_is_folder(source))
        return add_folder(dataset, source, why);
    if (dataset_ends_with(source, ".npy")) {
        if (count < 2 || !dataset_ends_with(sources[1], ".npy"))
            return reason_set(why, STATUS_INVALID, source,
                              "arrays come in pairs: IMAGES.npy TEXTS.npy [METADATA.jsonl]");
        bool metadata = count > 2 && dataset_ends_with(sources[2], ".jsonl");
        *taken = metadata ? 3 : 2;
        return add_arrays(dataset, source, sources[1], metadata ? sources[2] : NULL, why);
    }
    if (!dataset_is_file(source))
        return refuse_special(source, why);
    if (dataset_manifest_is_name(source))
        return add_manifest(dataset, source, why);
    if (dataset_ends_with(source, ".parquet"))
        return refuse_parquet(source, why);
    if (dataset_tar_stem_bytes(source)) {
        add_tar(dataset, source);
        return STATUS_OK;
    }
    return reason_set(why, STATUS_UNSUPPORTED, source,
                      "a folder, a .tar, a manifest (.csv, .tsv, .jsonl), or IMAGES.npy TEXTS.npy "
                      "[METADATA.jsonl] is allowed");
}

enum status dataset_open(const char *const *sources, size_t count,
                         const struct dataset_params *params, struct dataset **out,
                         struct reason *why)
{
    static const struct dataset_params none = {.format = -1};
    assert(count > 0);

    struct dataset *dataset = mem_alloc(sizeof(*dataset));
    dataset->params = params ? params : &none;
    dataset->labelled = dataset->params->labelled;
    dataset->entity = dataset->params->entity;
    dataset->total_known = true;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && !status;) {
        size_t taken = 0;
        status = add_source(dataset, sources + i, count - i, &taken, why);
        i += taken;
    }
    if (!status && dataset->has_pictures && dataset->dimension)
        status = reason_set(why, STATUS_INVALID, NULL,
                            "pictures and arrays in one build: build them one after the other");
    if (!status && dataset->params->split && !dataset->about[0])
        status = reason_set(why, STATUS_INVALID, "--split",
                            "no source is a data set as its makers publish it, which has splits");
    if (status)
        dataset_close(&dataset);
    else
        *out = dataset;
    return status;
}

void dataset_close(struct dataset **dataset)
{
    struct dataset *closing = *dataset;
    if (!closing)
        return;
    for (size_t i = 0; i < closing->count; i++) {
        dataset_tar_close(&closing->parts[i].open_tar);
        dataset_folder_close(&closing->parts[i].folder);
        dataset_arrays_close(&closing->parts[i].arrays);
        dataset_manifest_close(&closing->parts[i].manifest);
        dataset_layout_close(&closing->parts[i].layout);
        mem_free(closing->parts[i].tar);
    }
    mem_free(closing->parts);
    mem_free(closing);
    *dataset = NULL;
}

static enum dataset_step next_of(struct part *part, bool labelled, struct arena *arena,
                                 struct dataset_item *out, struct reason *why)
{
    if (part->folder)
        return dataset_folder_next(part->folder, arena, out, why);
    if (part->arrays)
        return dataset_arrays_next(part->arrays, arena, out, why);
    if (part->manifest)
        return dataset_manifest_next(part->manifest, arena, out, why);
    if (part->layout)
        return dataset_layout_next(part->layout, arena, out, why);
    if (!part->tar)
        return DATASET_END; // a tar that could not be opened
    if (part->open_tar)
        return dataset_tar_next(part->open_tar, arena, out, why);

    dataset_begin_item(out, dataset_format(arena, "%s", part->tar));
    if (!dataset_tar_open(part->tar, labelled, &part->open_tar, why))
        return dataset_tar_next(part->open_tar, arena, out, why);
    why->field[0] = 0; // the item's name says it
    mem_free(part->tar);
    part->tar = NULL;
    return DATASET_BAD;
}

enum dataset_step dataset_next(struct dataset *dataset, struct arena *arena,
                               struct dataset_item *out, struct reason *why)
{
    out->entity_name = dataset->entity;
    while (dataset->at < dataset->count) {
        enum dataset_step step =
            next_of(&dataset->parts[dataset->at], dataset->labelled, arena, out, why);
        if (step != DATASET_END)
            return step;
        dataset_tar_close(&dataset->parts[dataset->at].open_tar);
        dataset->at++;
    }
    return DATASET_END;
}

uint64_t dataset_total(const struct dataset *dataset)
{
    return dataset->total_known ? dataset->total : 0;
}

const char *dataset_about(const struct dataset *dataset)
{
    return dataset->about[0] ? dataset->about : NULL;
}

uint32_t dataset_dimension(const struct dataset *dataset)
{
    return dataset->dimension;
}
