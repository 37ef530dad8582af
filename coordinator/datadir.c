// SPDX-License-Identifier: Apache-2.0
// datadir.c - opens, checks and locks the data directory.
//
// The lock is flock() on LOCK: the kernel lets go of it when its holder ends, however that happens.
// The text inside only tells who holds it. Order of opening: look whether the folder is ours or
// empty (nothing is written into a stranger's), lock, then read or write FORMAT. So two programs
// that create the same folder at once cannot both do it.

#include "coordinator/datadir.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/bytes.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"

#define FORMAT_VERSION 1u
#define FORMAT_BYTES_MAX 256
#define LOCK_BYTES_MAX 512
#define NAME_ROOM 64 // longest name below the directory, slash and NUL included

_Static_assert(PATH_MAX <= DATADIR_PATH_BYTES, "realpath() must fit");

struct datadir {
    char path[DATADIR_PATH_BYTES]; // absolute
    uint32_t nodes;
    int lock; // the open LOCK file
};

enum content {
    CONTENT_MISSING, // no such folder
    CONTENT_EMPTY,
    CONTENT_OURS, // has FORMAT
    CONTENT_FOREIGN,
    CONTENT_UNREADABLE,
};

// What an interrupted creation leaves behind counts as nothing.
static bool is_leftover(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "LOCK") == 0 ||
           strncmp(name, "FORMAT.tmp", strlen("FORMAT.tmp")) == 0;
}

static enum content look_inside(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder)
        return errno == ENOENT ? CONTENT_MISSING : CONTENT_UNREADABLE;

    enum content content = CONTENT_EMPTY;
    const struct dirent *entry = NULL;
    while ((entry = readdir(folder)) != NULL) { // NOLINT(concurrency-mt-unsafe): own stream
        if (strcmp(entry->d_name, "FORMAT") == 0) {
            content = CONTENT_OURS;
            break;
        }
        if (!is_leftover(entry->d_name))
            content = CONTENT_FOREIGN;
    }
    (void)closedir(folder);
    return content;
}

// What errno says of the path, and what helps.
static enum status refuse_path(const char *doing, const char *path, struct reason *why)
{
    int error = errno;
    const char *remedy = "";
    if (error == ENOTDIR)
        remedy = "; the data directory must be a folder, one of ours or a new one";
    else if (error == EACCES || error == EPERM || error == EROFS)
        remedy = "; name a folder that this user may write";
    return reason_set(why, error == ENOTDIR ? STATUS_INVALID : STATUS_IO, "data",
                      "cannot %s %s: %s%s", doing, path, SYSTEM_ERROR(error), remedy);
}

// Makes the folder and its parents.
static enum status make_folders(const char *path, struct reason *why)
{
    char part[DATADIR_PATH_BYTES];
    size_t count = strlen(path);
    for (size_t i = 1; i <= count; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST && errno != EISDIR)
            return refuse_path("make the folder", part, why);
    }
    return STATUS_OK;
}

static enum status check_content(const struct datadir_params *params, struct reason *why)
{
    enum content content = look_inside(params->path);
    switch (content) {
    case CONTENT_OURS:
        return STATUS_OK;
    case CONTENT_FOREIGN:
        return reason_set(why, STATUS_FAILED_PRECONDITION, "data",
                          "%s is no data directory (it has no FORMAT file) and is not empty; "
                          "name an empty or a new folder",
                          params->path);
    case CONTENT_UNREADABLE:
        return refuse_path("read the folder", params->path, why);
    case CONTENT_MISSING:
    case CONTENT_EMPTY:
        break;
    }

    if (!params->create)
        return reason_set(why, STATUS_NOT_FOUND, "data",
                          "there is no data directory at %s; building a memory or `reco up` "
                          "makes one",
                          params->path);
    return content == CONTENT_EMPTY ? STATUS_OK : make_folders(params->path, why);
}

// Reads what the holder of a lock wrote into it: its pid (0: unknown) and its address, if any.
static long read_lock(int lock, char address[LOCK_BYTES_MAX])
{
    char text[LOCK_BYTES_MAX] = {0};
    address[0] = '\0';
    ssize_t got = pread(lock, text, sizeof(text) - 1, 0);
    if (got <= 0 || strncmp(text, "pid ", 4) != 0)
        return 0;

    char *end = NULL;
    const char *label = "\naddress ";
    long pid = strtol(text + 4, &end, 10);
    if (strncmp(end, label, strlen(label)) == 0)
        (void)snprintf(address, LOCK_BYTES_MAX, "%s", end + strlen(label));
    address[strcspn(address, "\n")] = '\0';
    return pid;
}

static enum status refuse_held(const struct datadir *datadir, struct reason *why)
{
    char address[LOCK_BYTES_MAX];
    long pid = read_lock(datadir->lock, address);

    if (address[0] != '\0')
        return reason_set(why, STATUS_FAILED_PRECONDITION, "data",
                          "process %ld serves %s at %s; use --server %s, or stop it", pid,
                          datadir->path, address, address);
    if (pid <= 0) // it has the lock and has not written down who it is
        return reason_set(why, STATUS_FAILED_PRECONDITION, "data",
                          "another process uses %s; wait until it has ended", datadir->path);
    return reason_set(why, STATUS_FAILED_PRECONDITION, "data",
                      "process %ld uses %s; wait until it has ended", pid, datadir->path);
}

static enum status take_lock(struct datadir *datadir, struct reason *why)
{
    char path[DATADIR_PATH_BYTES + NAME_ROOM];
    (void)snprintf(path, sizeof(path), "%s/LOCK", datadir->path);
    datadir->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (datadir->lock < 0)
        return refuse_path("open", path, why);

    if (flock(datadir->lock, LOCK_EX | LOCK_NB) == 0)
        return STATUS_OK;
    if (errno == EWOULDBLOCK)
        return refuse_held(datadir, why);
    return refuse_path("lock", path, why);
}

// Reads "NAME NUMBER\n" and moves *at behind it.
static bool read_line(const char **at, const char *name, uint32_t *out)
{
    size_t bytes = strlen(name);
    if (strncmp(*at, name, bytes) != 0 || (*at)[bytes] != ' ')
        return false;

    const char *digit = *at + bytes + 1;
    uint64_t value = 0;
    size_t digits = 0;
    for (; digit[digits] >= '0' && digit[digits] <= '9'; digits++) {
        value = value * 10 + (uint64_t)(digit[digits] - '0');
        if (value > UINT32_MAX)
            return false;
    }
    if (digits == 0 || digit[digits] != '\n')
        return false;
    *at = digit + digits + 1;
    *out = (uint32_t)value;
    return true;
}

static enum status read_format(struct datadir *datadir, const char *path, uint32_t wanted,
                               struct reason *why)
{
    struct buffer file = {0};
    enum status status = bytes_read_file(path, FORMAT_BYTES_MAX, &file);
    if (status == STATUS_INVALID)
        return reason_set(why, STATUS_CORRUPT, "FORMAT", "%s is longer than %d bytes", path,
                          FORMAT_BYTES_MAX);
    if (status != STATUS_OK)
        return reason_set(why, status, "FORMAT", "cannot read %s: %s", path,
                          SYSTEM_TROUBLE(status));

    const char *at = (const char *)file.data;
    uint32_t version = 0;
    uint32_t nodes = 0;
    bool has_version = read_line(&at, "reco", &version);
    bool has_nodes = has_version && read_line(&at, "nodes", &nodes);
    buffer_deinit(&file);

    if (has_version && version > FORMAT_VERSION)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "FORMAT",
                          "%s has format %u; this program reads up to %u: use a newer one", path,
                          version, FORMAT_VERSION);
    if (!has_nodes || version < 1 || nodes < 1 || nodes > NODES_MAX)
        return reason_set(why, STATUS_CORRUPT, "FORMAT",
                          "%s must say 'reco %u' and 'nodes N' with N of 1..%d", path,
                          FORMAT_VERSION, NODES_MAX);
    if (wanted != 0 && wanted != nodes)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "shards",
                          "%u shards are asked for and %s was made with %u; their number is fixed",
                          wanted, datadir->path, nodes);
    datadir->nodes = nodes;
    return STATUS_OK;
}

// With the lock held: reads FORMAT, or writes the first one.
static enum status open_format(struct datadir *datadir, const struct datadir_params *params,
                               struct reason *why)
{
    char path[DATADIR_PATH_BYTES + NAME_ROOM];
    (void)snprintf(path, sizeof(path), "%s/FORMAT", datadir->path);
    if (look_inside(datadir->path) == CONTENT_OURS)
        return read_format(datadir, path, params->nodes, why);

    char text[FORMAT_BYTES_MAX];
    datadir->nodes = params->nodes == 0 ? 1 : params->nodes;
    int bytes = snprintf(text, sizeof(text), "reco %u\nnodes %u\n", FORMAT_VERSION, datadir->nodes);
    if (bytes_replace_file(path, text, (size_t)bytes) != STATUS_OK)
        return reason_set(why, STATUS_IO, "data", "cannot write %s", path);
    return STATUS_OK;
}

enum status datadir_open(const struct datadir_params *params, struct datadir **out,
                         struct reason *why)
{
    assert(params && params->path && out);

    if (params->path[0] == '\0' || strlen(params->path) > DATADIR_PATH_BYTES - NAME_ROOM)
        return reason_set(why, STATUS_INVALID, "data",
                          "the path of a data directory has 1..%d bytes, not %zu",
                          DATADIR_PATH_BYTES - NAME_ROOM, strlen(params->path));
    if (params->nodes > NODES_MAX)
        return reason_set(why, STATUS_INVALID, "shards", "%u shards are asked for; at most %d",
                          params->nodes, NODES_MAX);
    enum status status = check_content(params, why);
    if (status != STATUS_OK)
        return status;

    struct datadir *datadir = mem_alloc(sizeof(*datadir));
    datadir->lock = -1;
    if (!realpath(params->path, datadir->path) ||
        strlen(datadir->path) > DATADIR_PATH_BYTES - NAME_ROOM)
        status = reason_set(why, STATUS_IO, "data", "cannot resolve the path %s", params->path);
    if (status == STATUS_OK)
        status = take_lock(datadir, why);
    if (status == STATUS_OK)
        status = open_format(datadir, params, why);
    if (status == STATUS_OK && datadir_set_address(datadir, params->address) != STATUS_OK)
        status = reason_set(why, STATUS_IO, "data", "cannot write into %s/LOCK", datadir->path);
    if (status != STATUS_OK) {
        datadir_close(&datadir);
        return status;
    }
    *out = datadir;
    return STATUS_OK;
}

void datadir_close(struct datadir **datadir)
{
    assert(datadir);

    if (!*datadir)
        return;
    if ((*datadir)->lock >= 0)
        (void)close((*datadir)->lock);
    mem_free(*datadir);
    *datadir = NULL;
}

enum status datadir_set_address(struct datadir *datadir, const char *address)
{
    assert(datadir);

    char text[LOCK_BYTES_MAX];
    int bytes =
        address ? snprintf(text, sizeof(text), "pid %ld\naddress %.256s\n", (long)getpid(), address)
                : snprintf(text, sizeof(text), "pid %ld\n", (long)getpid());
    // In place: the lock is on this file, another one under its name would not be locked.
    if (ftruncate(datadir->lock, 0) != 0 ||
        pwrite(datadir->lock, text, (size_t)bytes, 0) != (ssize_t)bytes)
        return STATUS_IO;
    return STATUS_OK;
}

bool datadir_is_held_by(const char *path, long pid)
{
    assert(path);

    char file[DATADIR_PATH_BYTES + NAME_ROOM];
    char address[LOCK_BYTES_MAX];
    int bytes = snprintf(file, sizeof(file), "%s/LOCK", path);
    int lock = bytes > 0 && (size_t)bytes < sizeof(file)
                   ? open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
                   : -1;
    if (lock < 0)
        return false;
    bool is_held = flock(lock, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    bool is_his = read_lock(lock, address) == pid;
    (void)close(lock);
    return is_held && is_his;
}

const char *datadir_path(const struct datadir *datadir)
{
    return datadir->path;
}

uint32_t datadir_nodes(const struct datadir *datadir)
{
    return datadir->nodes;
}

void datadir_node_path(const struct datadir *datadir, uint32_t index, char out[DATADIR_PATH_BYTES])
{
    assert(datadir && index < datadir->nodes);

    int bytes = snprintf(out, DATADIR_PATH_BYTES, "%s/node-%u", datadir->path, index);
    assert(bytes > 0 && bytes < DATADIR_PATH_BYTES);
    (void)bytes;
}

void datadir_keys_path(const struct datadir *datadir, char out[DATADIR_PATH_BYTES])
{
    assert(datadir);

    int bytes = snprintf(out, DATADIR_PATH_BYTES, "%s/keys", datadir->path);
    assert(bytes > 0 && bytes < DATADIR_PATH_BYTES);
    (void)bytes;
}

enum status datadir_default_path(char out[DATADIR_PATH_BYTES])
{
    static const struct {
        const char *variable;
        const char *below;
    } places[] = {{"RECO_DATA", ""}, {"XDG_DATA_HOME", "/reco"}, {"HOME", "/.local/share/reco"}};

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody here changes the environment
        const char *value = getenv(places[i].variable);
        if (!value || value[0] == '\0')
            continue;
        int bytes = snprintf(out, DATADIR_PATH_BYTES, "%s%s", value, places[i].below);
        return bytes > 0 && bytes < DATADIR_PATH_BYTES ? STATUS_OK : STATUS_NOT_FOUND;
    }
    return STATUS_NOT_FOUND;
}
