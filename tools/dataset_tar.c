// SPDX-License-Identifier: Apache-2.0
// A webdataset shard. Members that follow each other and share a stem (the name up to the first dot
// of its last part) are one sample. libarchive reads the tar as a stream; nothing is ever written
// to disk, so names in it can do no harm. Links, devices and names that lead out are refused all
// the same: what they stand for is not in the tar, and such a tar was not made for this.
//
// One header is read ahead: only the next member shows that a sample has ended.

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/dataset_internal.h"

#define BLOCK_BYTES ((size_t)1 << 20)
#define LABEL_FILE_BYTES_MAX ((size_t)4096) // of a .cls, which is a number or a name

struct dataset_tar {
    char *path;
    bool labelled;
    char *shard; // file name without its extensions
    struct archive *archive;
    struct archive_entry *entry; // read, not yet used; NULL: none
    bool ended;
    bool broken; // told by the next call
    char error[REASON_TEXT_BYTES];
    uint64_t samples;
};

// What one sample has so far; everything lives in the arena.
struct sample {
    struct text stem;
    struct bytes image, txt, json, label;
    bool bad; // `why` is set
};

size_t dataset_tar_stem_bytes(const char *name)
{
    static const char *const ends[] = {".tar",     ".tar.gz", ".tgz",
                                       ".tar.zst", ".tar.xz", ".tar.bz2"};
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (dataset_ends_with(name, ends[i]))
            return strlen(name) - strlen(ends[i]);
    return 0;
}

enum status dataset_tar_open(const char *path, bool labelled, struct dataset_tar **out,
                             struct reason *why)
{
    if (!dataset_is_file(path))
        return reason_set(why, STATUS_NOT_FOUND, path, "no such file");

    struct dataset_tar *tar = mem_alloc(sizeof(*tar));
    const char *slash = strrchr(path, '/');
    tar->path = mem_copy_text(path);
    tar->labelled = labelled;
    tar->shard = mem_copy_text(slash ? slash + 1 : path);
    tar->shard[dataset_tar_stem_bytes(tar->shard)] = 0;

    tar->archive = archive_read_new();
    assert(tar->archive);
    (void)archive_read_support_format_tar(tar->archive);
    (void)archive_read_support_filter_gzip(tar->archive);
    (void)archive_read_support_filter_bzip2(tar->archive);
    (void)archive_read_support_filter_xz(tar->archive);
    (void)archive_read_support_filter_zstd(tar->archive);
    if (archive_read_open_filename(tar->archive, path, BLOCK_BYTES) != ARCHIVE_OK) {
        enum status status = reason_set(why, STATUS_INVALID, path, "cannot be read as a tar: %s",
                                        archive_error_string(tar->archive));
        dataset_tar_close(&tar);
        return status;
    }
    *out = tar;
    return STATUS_OK;
}

void dataset_tar_close(struct dataset_tar **tar)
{
    if (!*tar)
        return;
    (void)archive_read_free((*tar)->archive);
    mem_free((*tar)->path);
    mem_free((*tar)->shard);
    mem_free(*tar);
    *tar = NULL;
}

// --- members

// The name as UTF-8 where the format says that it is; else its bytes as they are, which in the C
// locale libarchive will not take for UTF-8.
static const char *name_of(struct archive_entry *entry)
{
    const char *name = archive_entry_pathname_utf8(entry);
    return name ? name : archive_entry_pathname(entry);
}

// Splits "./a/b.seg.png" into stem "a/b" and extension "seg.png"; false without either.
static bool split_name(const char *name, struct text *stem, struct text *extension)
{
    while (name[0] == '.' && name[1] == '/')
        name += 2;
    const char *slash = strrchr(name, '/');
    const char *last = slash ? slash + 1 : name;
    const char *dot = strchr(last, '.');
    if (!dot || dot == last || !dot[1])
        return false;
    *stem = (struct text){name, (size_t)(dot - name)};
    *extension = text_of(dot + 1);
    return true;
}

static void set_broken(struct dataset_tar *tar)
{
    const char *error = archive_error_string(tar->archive);
    (void)snprintf(tar->error, sizeof(tar->error), "%s", error ? error : "cannot be read");
    tar->broken = true;
    tar->ended = true;
    tar->entry = NULL;
}

// Why a member is not taken, whatever its extension; NULL for a file with a name of its own.
static const char *refusal(struct archive_entry *entry)
{
    if (archive_entry_hardlink(entry))
        return "is a hard link";
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
        break;
    case AE_IFLNK:
        return "is a symbolic link";
    case AE_IFCHR:
    case AE_IFBLK:
        return "is a device";
    default:
        return "is a pipe or socket";
    }
    const char *name = name_of(entry);
    if (name[0] == '/')
        return "has an absolute name";
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || !part[2]))
            return "has a name with .. in it";
    }
    return NULL;
}

// The header of the next file of a sample, or of a member that is refused; NULL at the end or when
// the tar is broken.
static struct archive_entry *peek(struct dataset_tar *tar)
{
    struct text stem;
    struct text extension;
    while (!tar->entry && !tar->ended) {
        int result = archive_read_next_header(tar->archive, &tar->entry);
        if (result == ARCHIVE_EOF) {
            tar->ended = true;
            tar->entry = NULL;
        } else if (result < ARCHIVE_WARN) {
            set_broken(tar);
        } else if (archive_entry_filetype(tar->entry) == AE_IFDIR || !name_of(tar->entry) ||
                   (!refusal(tar->entry) && !split_name(name_of(tar->entry), &stem, &extension))) {
            tar->entry = NULL; // folders, files without extension
        }
    }
    return tar->entry;
}

// Reads the current member's bytes into the arena.
static enum status read_member(struct dataset_tar *tar, const char *what, size_t bytes_max,
                               struct arena *arena, struct bytes *out, struct reason *why)
{
    int64_t size = archive_entry_size(tar->entry);
    if (size < 0 || (uint64_t)size > bytes_max)
        return reason_set(why, STATUS_INVALID, what, "%lld bytes: at most %zu are allowed",
                          (long long)size, bytes_max);
    if (out->data)
        return reason_set(why, STATUS_INVALID, what, "the sample has two");

    uint8_t *data = arena_alloc(arena, (size_t)size + 1);
    if (!data)
        return reason_set(why, STATUS_NO_MEMORY, what, "%s", status_text(STATUS_NO_MEMORY));
    size_t used = 0;
    while (used < (size_t)size) {
        la_ssize_t got = archive_read_data(tar->archive, data + used, (size_t)size - used);
        if (got < 0)
            set_broken(tar);
        if (got <= 0)
            return reason_set(why, STATUS_INVALID, what, "the tar ends inside it");
        used += (size_t)got;
    }
    *out = (struct bytes){data, used};
    return STATUS_OK;
}

static void take_member(struct dataset_tar *tar, struct text extension, struct arena *arena,
                        struct sample *sample, struct reason *why)
{
    enum status status = STATUS_OK;
    const char *refused = refusal(tar->entry);
    if (refused)
        status = reason_set(why, STATUS_INVALID, NULL,
                            "the member '%.100s' %s; plain files with relative names are allowed",
                            name_of(tar->entry), refused);
    else if (dataset_is_picture(extension))
        status = read_member(tar, "picture", IMAGE_BYTES_MAX, arena, &sample->image, why);
    else if (text_equal(extension, text_of("txt")))
        status = read_member(tar, ".txt", DATASET_SIDECAR_BYTES_MAX, arena, &sample->txt, why);
    else if (text_equal(extension, text_of("json")))
        status = read_member(tar, ".json", DATASET_SIDECAR_BYTES_MAX, arena, &sample->json, why);
    else if (tar->labelled && text_equal(extension, text_of("cls")))
        status = read_member(tar, ".cls", LABEL_FILE_BYTES_MAX, arena, &sample->label, why);
    sample->bad = sample->bad || status != STATUS_OK;
}

// Reads all members of the next sample. false at the end of the tar.
static bool read_sample(struct dataset_tar *tar, struct arena *arena, struct sample *sample,
                        struct reason *why)
{
    for (struct archive_entry *entry = peek(tar); entry; entry = peek(tar)) {
        struct text stem = text_of(name_of(entry)); // of a refused one without extension
        struct text extension = {NULL, 0};
        (void)split_name(name_of(entry), &stem, &extension);
        if (sample->stem.data && !text_equal(stem, sample->stem))
            break;
        if (!sample->stem.data) {
            const char *copy = arena_copy_text(arena, stem.data, stem.bytes);
            if (!copy)
                sample->bad = true;
            sample->stem = copy ? (struct text){copy, stem.bytes} : text_of("?");
        }
        if (!sample->bad)
            take_member(tar, extension, arena, sample, why);
        tar->entry = NULL;
    }
    return sample->stem.data != NULL;
}

// --- records

static enum status make_record(const struct dataset_tar *tar, const struct sample *sample,
                               struct arena *arena, struct dataset_item *item, struct reason *why)
{
    struct api_ingest_record *record = &item->record;
    const char *key =
        dataset_format(arena, "%s/%.*s", tar->shard, (int)sample->stem.bytes, sample->stem.data);
    const char *source =
        dataset_format(arena, "%s:%.*s", tar->path, (int)sample->stem.bytes, sample->stem.data);
    if (!key || !source)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "%s", status_text(STATUS_NO_MEMORY));
    *record = (struct api_ingest_record){
        .key = text_of(key),
        .source = text_of(source),
        .image = sample->image,
    };

    // The .json first: it may say why there is no picture.
    enum status status = STATUS_OK;
    if (sample->txt.data)
        status = dataset_take_caption(sample->txt, arena, record, why);
    if (!status && sample->json.data)
        status = dataset_take_json(sample->json, arena, item, why);
    if (!status && !sample->image.data)
        status = reason_set(why, STATUS_INVALID, NULL,
                            "the sample has no picture (jpg, jpeg, png, webp or gif)");
    const bool needs_caption = !sample->label.data;
    if (!status && needs_caption && !sample->txt.data && !sample->json.data)
        status = reason_set(why, STATUS_INVALID, tar->labelled ? "label" : "caption",
                            "the sample has no .txt and no .json%s",
                            tar->labelled ? ", and no .cls" : "");
    return status ? status : dataset_check(record, needs_caption, why);
}

static enum status take_label(const struct sample *sample, struct dataset_item *out,
                              struct reason *why)
{
    if (!sample->label.data)
        return STATUS_OK;
    out->label =
        dataset_trimmed((struct text){(const char *)sample->label.data, sample->label.count});
    if (!out->label.bytes || !bytes_is_utf8(out->label.data, out->label.bytes))
        return reason_set(why, STATUS_INVALID, ".cls", "is empty or not UTF-8");
    return STATUS_OK;
}

enum dataset_step dataset_tar_next(struct dataset_tar *tar, struct arena *arena,
                                   struct dataset_item *out, struct reason *why)
{
    dataset_begin_item(out, tar->path);
    struct sample sample = {.bad = false};
    if (!read_sample(tar, arena, &sample, why)) {
        if (!tar->broken)
            return DATASET_END;
        tar->broken = false;
        (void)reason_set(why, STATUS_CORRUPT, NULL, "the tar is broken after %llu samples: %s",
                         (unsigned long long)tar->samples, tar->error);
        return DATASET_BAD;
    }

    const char *name =
        dataset_format(arena, "%s: %.*s", tar->path, (int)sample.stem.bytes, sample.stem.data);
    out->name = name ? name : tar->path;
    tar->samples++;
    if (sample.bad || make_record(tar, &sample, arena, out, why) || take_label(&sample, out, why))
        return DATASET_BAD;
    return DATASET_ITEM;
}
