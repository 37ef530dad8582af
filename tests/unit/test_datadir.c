// SPDX-License-Identifier: Apache-2.0
// Goal: a data directory has one owner, says who it is, and never mixes with a stranger's files.
//
// Method: real folders under a temporary one; the second owner is a child process.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "coordinator/datadir.h"
#include "proto/base/bytes.h"

static char root[64];

static void make_root(void)
{
    (void)snprintf(root, sizeof(root), "/tmp/reco-datadir-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(root), NULL));
}

static void remove_root(void)
{
    char command[96];
    (void)snprintf(command, sizeof(command), "rm -rf %s", root);
    cr_assert(eq(int, system(command), 0));
}

TestSuite(datadir, .init = make_root, .fini = remove_root);

static const char *below(const char *name)
{
    static char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", root, name);
    return path;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    cr_assert(ne(ptr, file, NULL));
    (void)fputs(text, file);
    (void)fclose(file);
}

static enum status open_at(const char *path, uint32_t nodes, bool create, struct datadir **out,
                           struct reason *why)
{
    struct datadir_params params = {.path = path, .create = create, .nodes = nodes};
    return datadir_open(&params, out, why);
}

Test(datadir, is_made_with_its_parents_and_opened_again)
{
    struct datadir *datadir = NULL;
    const char *path = below("a/b/c");
    cr_assert(eq(int, open_at(path, 3, true, &datadir, NULL), STATUS_OK));
    cr_expect(eq(u32, datadir_nodes(datadir), 3));
    char node[DATADIR_PATH_BYTES];
    char keys[DATADIR_PATH_BYTES];
    datadir_node_path(datadir, 2, node);
    datadir_keys_path(datadir, keys);
    cr_expect(ne(ptr, strstr(node, "/a/b/c/node-2"), NULL));
    cr_expect(ne(ptr, strstr(keys, "/a/b/c/keys"), NULL));
    datadir_close(&datadir);
    cr_expect(eq(ptr, datadir, NULL));

    cr_assert(eq(int, open_at(path, 0, false, &datadir, NULL), STATUS_OK));
    cr_expect(eq(u32, datadir_nodes(datadir), 3));
    datadir_close(&datadir);
    datadir_close(&datadir); // NULL is allowed
}

Test(datadir, one_node_unless_told_otherwise)
{
    struct datadir *datadir = NULL;
    cr_assert(eq(int, open_at(below("one"), 0, true, &datadir, NULL), STATUS_OK));
    cr_expect(eq(u32, datadir_nodes(datadir), 1));
    datadir_close(&datadir);
}

Test(datadir, that_is_not_there_is_not_made_unasked)
{
    struct datadir *datadir = NULL;
    struct reason why = {0};
    struct stat about;
    cr_expect(eq(int, open_at(below("no"), 0, false, &datadir, &why), STATUS_NOT_FOUND));
    cr_expect(ne(ptr, strstr(why.text, "/no"), NULL));
    cr_expect(ne(int, stat(below("no"), &about), 0));
    cr_expect(eq(ptr, datadir, NULL));
}

Test(datadir, another_number_of_nodes_is_refused_naming_both)
{
    struct datadir *datadir = NULL;
    struct reason why = {0};
    cr_assert(eq(int, open_at(below("n"), 2, true, &datadir, NULL), STATUS_OK));
    datadir_close(&datadir);
    cr_expect(eq(int, open_at(below("n"), 5, true, &datadir, &why), STATUS_FAILED_PRECONDITION));
    cr_expect(ne(ptr, strstr(why.text, "5 shards"), NULL));
    cr_expect(ne(ptr, strstr(why.text, "with 2"), NULL));
}

Test(datadir, too_many_nodes_and_bad_paths_are_refused)
{
    struct datadir *datadir = NULL;
    static char long_path[DATADIR_PATH_BYTES + 10];
    memset(long_path, 'x', sizeof(long_path) - 1);
    cr_expect(eq(int, open_at(below("n"), 33, true, &datadir, NULL), STATUS_INVALID));
    cr_expect(eq(int, open_at("", 1, true, &datadir, NULL), STATUS_INVALID));
    cr_expect(eq(int, open_at(long_path, 1, true, &datadir, NULL), STATUS_INVALID));
    write_file(below("file"), "x");
    cr_expect(eq(int, open_at(below("file"), 1, true, &datadir, NULL), STATUS_INVALID));
    cr_expect(eq(int, open_at(below("file/below"), 1, true, &datadir, NULL), STATUS_INVALID));
}

Test(datadir, a_strangers_folder_is_left_alone)
{
    struct datadir *datadir = NULL;
    struct reason why = {0};
    struct stat about;
    write_file(below("precious.txt"), "x");
    cr_expect(eq(int, open_at(root, 1, true, &datadir, &why), STATUS_FAILED_PRECONDITION));
    cr_expect(ne(int, stat(below("LOCK"), &about), 0));
    cr_expect(ne(int, stat(below("FORMAT"), &about), 0));
}

Test(datadir, a_creation_that_was_cut_short_is_completed)
{
    struct datadir *datadir = NULL;
    write_file(below("LOCK"), "pid 1\n");
    write_file(below("FORMAT.tmp-1-0"), "rec");
    cr_assert(eq(int, open_at(root, 4, true, &datadir, NULL), STATUS_OK));
    cr_expect(eq(u32, datadir_nodes(datadir), 4));
    datadir_close(&datadir);
}

Test(datadir, a_newer_format_is_refused_by_name)
{
    struct datadir *datadir = NULL;
    struct reason why = {0};
    write_file(below("FORMAT"), "reco 7\nwhatever\n");
    cr_expect(eq(int, open_at(root, 0, true, &datadir, &why), STATUS_FAILED_PRECONDITION));
    cr_expect(ne(ptr, strstr(why.text, "format 7"), NULL));
    cr_expect(ne(ptr, strstr(why.text, "up to 1"), NULL));
}

Test(datadir, a_format_that_is_none_is_corrupt)
{
    static const char *const bad[] = {
        "",
        "reco",
        "reco 1",
        "reco 1\nnodes 0\n",
        "reco 1\nnodes 33\n",
        "\n\n",
        "reco x\n",
        "reco -1\n",
        "reco 1\nnodes 2",
        "nodes 1\nreco 1\n",
        "reco 0\nnodes 1\n",
        "reco 1\nnodes 99999999999999999999\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct datadir *datadir = NULL;
        struct reason why = {0};
        write_file(below("FORMAT"), bad[i]);
        cr_expect(eq(int, open_at(root, 0, true, &datadir, &why), STATUS_CORRUPT), "format %zu", i);
        cr_expect(eq(str, why.field, (char *)"FORMAT"));
    }
    char much[400];
    memset(much, 'x', sizeof(much) - 1);
    much[sizeof(much) - 1] = '\0';
    write_file(below("FORMAT"), much);
    struct datadir *datadir = NULL;
    cr_expect(eq(int, open_at(root, 0, true, &datadir, NULL), STATUS_CORRUPT));
}

// Opens in a child and says whether that was refused with a reason that has all of `words`.
static bool child_is_refused(const char *path, const char *const *words, size_t count)
{
    pid_t child = fork();
    cr_assert(ge(int, child, 0));
    if (child == 0) {
        struct datadir *datadir = NULL;
        struct reason why = {0};
        bool refused = open_at(path, 0, true, &datadir, &why) == STATUS_FAILED_PRECONDITION;
        for (size_t i = 0; i < count; i++)
            refused = refused && strstr(why.text, words[i]);
        _exit(refused ? 7 : 0);
    }
    int state = 0;
    cr_assert(eq(int, waitpid(child, &state, 0), child));
    return WIFEXITED(state) && WEXITSTATUS(state) == 7;
}

Test(datadir, that_is_held_is_refused_naming_holder_and_address)
{
    struct datadir *datadir = NULL;
    char pid[32];
    (void)snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
    struct datadir_params params = {.path = root, .create = true, .address = NULL};
    cr_assert(eq(int, datadir_open(&params, &datadir, NULL), STATUS_OK));

    const char *const words[] = {pid, "--server 127.0.0.1:7700"};
    cr_expect(child_is_refused(root, words, 1));
    cr_expect(not(child_is_refused(root, words, 2))); // no address is known yet
    cr_assert(eq(int, datadir_set_address(datadir, "127.0.0.1:7700"), STATUS_OK));
    cr_expect(child_is_refused(root, words, 2));

    datadir_close(&datadir);
    cr_expect(not(child_is_refused(root, words, 0)));
}

Test(datadir, the_lock_of_a_killed_holder_does_not_stay)
{
    int ready[2];
    cr_assert(eq(int, pipe(ready), 0));
    pid_t child = fork();
    if (child == 0) {
        struct datadir *datadir = NULL;
        struct datadir_params params = {.path = root, .create = true};
        if (datadir_open(&params, &datadir, NULL) == STATUS_OK)
            (void)!write(ready[1], "x", 1);
        pause();
    }
    char byte = 0;
    cr_assert(eq(int, (int)read(ready[0], &byte, 1), 1));
    struct datadir *datadir = NULL;
    cr_expect(eq(int, open_at(root, 0, false, &datadir, NULL), STATUS_FAILED_PRECONDITION));
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    cr_expect(eq(int, open_at(root, 0, false, &datadir, NULL), STATUS_OK));
    datadir_close(&datadir);
}

Test(datadir, default_path_follows_the_environment)
{
    char path[DATADIR_PATH_BYTES];
    (void)setenv("RECO_DATA", "/x", 1);
    (void)setenv("XDG_DATA_HOME", "/y", 1);
    (void)setenv("HOME", "/z", 1);
    cr_assert(eq(int, datadir_default_path(path), STATUS_OK));
    cr_expect(eq(str, path, (char *)"/x"));
    (void)unsetenv("RECO_DATA");
    cr_assert(eq(int, datadir_default_path(path), STATUS_OK));
    cr_expect(eq(str, path, (char *)"/y/reco"));
    (void)setenv("XDG_DATA_HOME", "", 1);
    cr_assert(eq(int, datadir_default_path(path), STATUS_OK));
    cr_expect(eq(str, path, (char *)"/z/.local/share/reco"));
    (void)unsetenv("HOME");
    cr_expect(eq(int, datadir_default_path(path), STATUS_NOT_FOUND));
}
