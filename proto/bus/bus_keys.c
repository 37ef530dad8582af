// SPDX-License-Identifier: Apache-2.0
// Each key is a file of 40 Z85 characters and a newline.

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zmq.h>

#include "proto/base/bytes.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"
#include "proto/bus/bus.h"

#define PATH_BYTES 4096
#define KEY_FILE_BYTES_MAX 128

struct key_file {
    const char *name;
    char *key; // BUS_KEY_BYTES
};

static enum status join(const char *directory, const char *name, char path[PATH_BYTES],
                        struct reason *why)
{
    int written = snprintf(path, PATH_BYTES, "%s/%s", directory, name);
    if (written < 0 || written >= PATH_BYTES)
        return reason_set(why, STATUS_INVALID, "keys", "the path %.60s... is too long", directory);
    return STATUS_OK;
}

// Reads one key. STATUS_NOT_FOUND leaves the key empty.
static enum status read_key(const char *directory, const struct key_file *file, struct reason *why)
{
    char path[PATH_BYTES];
    struct buffer content = {0};
    uint8_t raw[32];

    file->key[0] = '\0';
    enum status status = join(directory, file->name, path, why);
    if (status != STATUS_OK)
        return status;
    status = bytes_read_file(path, KEY_FILE_BYTES_MAX, &content);
    if (status == STATUS_NOT_FOUND)
        return status;
    if (status == STATUS_INVALID)
        return reason_set(why, STATUS_CORRUPT, "keys", "%s has more than %d bytes", path,
                          KEY_FILE_BYTES_MAX);
    if (status != STATUS_OK)
        return reason_set(why, status, "keys", "%s cannot be read: %s", path,
                          SYSTEM_TROUBLE(status));

    size_t count = content.count;
    while (count > 0 && (content.data[count - 1] == '\n' || content.data[count - 1] == '\r'))
        count--;
    bool good = count == BUS_KEY_BYTES - 1;
    if (good) {
        memcpy(file->key, content.data, count);
        file->key[count] = '\0';
        good = strlen(file->key) == count && zmq_z85_decode(raw, file->key) != NULL;
    }
    buffer_deinit(&content);
    if (good)
        return STATUS_OK;
    file->key[0] = '\0';
    return reason_set(why, STATUS_CORRUPT, "keys", "%s is not a key of 40 Z85 characters", path);
}

static enum status write_key(const char *directory, const struct key_file *file, struct reason *why)
{
    char path[PATH_BYTES];
    char line[BUS_KEY_BYTES + 1];

    enum status status = join(directory, file->name, path, why);
    if (status != STATUS_OK)
        return status;
    (void)snprintf(line, sizeof(line), "%s\n", file->key);
    // The mask belongs to the process; keys are made at its start, before its threads.
    mode_t before = umask(077);
    status = bytes_replace_file(path, line, strlen(line));
    (void)umask(before);
    if (status != STATUS_OK)
        return reason_set(why, status, "keys", "%s cannot be written: %s", path,
                          SYSTEM_TROUBLE(status));
    return STATUS_OK;
}

// A public key that does not belong to its secret locks everyone out, with no word why.
static enum status check_pair(const char *directory, const struct key_file *public_file,
                              const struct key_file *secret_file, struct reason *why)
{
    char expected[BUS_KEY_BYTES];
    if (public_file->key[0] == '\0' || secret_file->key[0] == '\0')
        return STATUS_OK;
    if (zmq_curve_public(expected, secret_file->key) != 0)
        return reason_set(why, STATUS_UNSUPPORTED, "keys", "this ZeroMQ is built without CURVE");
    if (strcmp(expected, public_file->key) != 0)
        return reason_set(why, STATUS_CORRUPT, "keys", "%s/%s does not belong to %s", directory,
                          public_file->name, secret_file->name);
    return STATUS_OK;
}

// The public half is written last: a pair whose public half is there is whole.
static enum status create_pair(const char *directory, const struct key_file *public_file,
                               const struct key_file *secret_file, struct reason *why)
{
    if (zmq_curve_keypair(public_file->key, secret_file->key) != 0)
        return reason_set(why, STATUS_UNSUPPORTED, "keys", "this ZeroMQ is built without CURVE");
    enum status status = write_key(directory, secret_file, why);
    return status == STATUS_OK ? write_key(directory, public_file, why) : status;
}

// Either half may be missing afterwards, where `create` is false.
static enum status load_pair(const char *directory, bool create, const struct key_file *public_file,
                             const struct key_file *secret_file, struct reason *why)
{
    enum status status = read_key(directory, public_file, why);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND)
        return status;
    status = read_key(directory, secret_file, why);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND)
        return status;
    if (create && public_file->key[0] == '\0')
        return create_pair(directory, public_file, secret_file, why);
    return check_pair(directory, public_file, secret_file, why);
}

enum status bus_keys_load(const char *directory, bool create, struct bus_keys *out,
                          struct reason *why)
{
    struct bus_keys keys = {0};
    const struct key_file files[] = {
        {"node.public", keys.node_public},
        {"node.secret", keys.node_secret},
        {"coordinator.public", keys.coordinator_public},
        {"coordinator.secret", keys.coordinator_secret},
    };

    if (create && mkdir(directory, 0700) != 0 && errno != EEXIST)
        return reason_set(why, STATUS_IO, "keys", "%s cannot be made: %s", directory,
                          SYSTEM_ERROR(errno));
    for (int pair = 0; pair < 4; pair += 2) {
        enum status status = load_pair(directory, create, &files[pair], &files[pair + 1], why);
        if (status != STATUS_OK)
            return status;
    }
    if (keys.coordinator_public[0] == '\0' ||
        (keys.node_secret[0] == '\0' && keys.coordinator_secret[0] == '\0') ||
        (keys.coordinator_secret[0] != '\0' && keys.node_public[0] == '\0'))
        return reason_set(why, STATUS_NOT_FOUND, "keys",
                          "%s holds no keys: a node needs node.secret and coordinator.public, a "
                          "coordinator coordinator.secret and both public ones",
                          directory);
    *out = keys;
    return STATUS_OK;
}
