// SPDX-License-Identifier: Apache-2.0
// Linked into tests that an emulator runs: Criterion starts its program anew for each test, and the
// kernel does not know how to start a program for another CPU. This takes the place of libc's
// function, and has the emulator start it.
//
// RECO_EMULATOR is the emulator's command line, a list of C strings.

#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORDS_MAX 64

int execve(const char *path, char *const argv[], char *const envp[])
{
    const char *words[WORDS_MAX] = {RECO_EMULATOR};
    size_t count = 0;
    while (words[count])
        count++;
    words[count++] = path;
    for (size_t i = 1; argv[0] && argv[i] && count + 1 < WORDS_MAX; i++)
        words[count++] = argv[i];
    return (int)syscall(SYS_execve, words[0], words, envp);
}
