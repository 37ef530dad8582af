// SPDX-License-Identifier: Apache-2.0
// cpu.c - what this CPU can do, and which kernels to use.
//
// CPUID is asked once. Wide registers count only when the operating system
// saves them, which XCR0 tells. Compilers' own feature tests are not used:
// gcc and clang know different names.
//
// AArch64 without NEON is none that Linux runs on, so there the compiler's word is enough;
// for what is optional, and for the model, the kernel is asked.

#include "proto/base/cpu.h"

#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define MODEL_BYTES 49 // CPUID gives 48

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct {
    enum cpu_level level;
    enum cpu_level hardware;
    bool has_bf16;
    bool has_crc32c;
    bool has_sha;
    char model[MODEL_BYTES];
} found;

static const char *const level_names[CPU_LEVELS] = {
    [CPU_SCALAR] = "scalar", [CPU_AVX2] = "avx2", [CPU_AVX512] = "avx512", [CPU_NEON] = "neon"};

#if defined(__x86_64__)

#define ECX1_SSE41 (1u << 9 | 1u << 19) // SSSE3, SSE4.1
#define ECX1_SSE42 (1u << 20)
#define ECX1_OSXSAVE (1u << 27)
#define ECX1_FMA (1u << 12)
#define ECX1_AVX (1u << 28)
#define ECX1_F16C (1u << 29)
#define EBX7_AVX2 (1u << 5)
#define EBX7_AVX512 (1u << 16 | 1u << 17 | 1u << 30 | 1u << 31) // F, DQ, BW, VL
#define EBX7_SHA (1u << 29)
#define EAX7_1_BF16 (1u << 5)
#define XCR0_AVX 0x06u    // SSE and AVX registers
#define XCR0_AVX512 0xe6u // and masks, upper halves, registers 16..31

struct registers {
    unsigned a, b, c, d;
};

// All zero for a leaf that the CPU does not have.
static struct registers ask(unsigned leaf, unsigned sub_leaf)
{
    struct registers r = {0};
    if (__get_cpuid_count(leaf, sub_leaf, &r.a, &r.b, &r.c, &r.d) == 0)
        r = (struct registers){0};
    return r;
}

// The registers that the operating system saves.
static uint32_t saved_registers(void)
{
    uint32_t low;
    uint32_t high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    return low;
}

static void look_at_model(void)
{
    char text[MODEL_BYTES] = {0};
    for (unsigned i = 0; i < 3; i++) {
        struct registers r = ask(0x80000002u + i, 0);
        memcpy(text + 16 * (size_t)i, &r, sizeof(r));
    }

    // Some pad the name in front, some behind.
    size_t begin = strspn(text, " ");
    size_t end = strlen(text);
    while (end > begin && text[end - 1] == ' ')
        end--;
    if (end > begin) {
        memcpy(found.model, text + begin, end - begin);
        found.model[end - begin] = '\0';
    }
}

static void look_at_cpu(void)
{
    struct registers one = ask(1, 0);
    struct registers seven = ask(7, 0);
    found.has_crc32c = (one.c & ECX1_SSE42) != 0;
    found.has_sha = (one.c & ECX1_SSE41) == ECX1_SSE41 && (seven.b & EBX7_SHA) != 0;

    uint32_t saved = (one.c & ECX1_OSXSAVE) ? saved_registers() : 0;
    const uint32_t wanted = ECX1_AVX | ECX1_FMA | ECX1_F16C;
    if ((saved & XCR0_AVX) == XCR0_AVX && (one.c & wanted) == wanted && (seven.b & EBX7_AVX2))
        found.level = CPU_AVX2;
    if (found.level == CPU_AVX2 && (saved & XCR0_AVX512) == XCR0_AVX512 &&
        (seven.b & EBX7_AVX512) == EBX7_AVX512)
        found.level = CPU_AVX512;
    found.has_bf16 = found.level == CPU_AVX512 && seven.a >= 1 && (ask(7, 1).a & EAX7_1_BF16) != 0;
    look_at_model();
}

#elif defined(__aarch64__)

// MIDR_EL1, which Linux reads for us where it says so.
static void look_at_model(unsigned long capabilities)
{
    if ((capabilities & HWCAP_CPUID) == 0)
        return;
    uint64_t id;
    __asm__("mrs %0, MIDR_EL1" : "=r"(id));
    (void)snprintf(found.model, sizeof(found.model), "AArch64, implementer 0x%02x, part 0x%03x",
                   (unsigned)(id >> 24 & 0xffu), (unsigned)(id >> 4 & 0xfffu));
}

static void look_at_cpu(void)
{
    unsigned long capabilities = getauxval(AT_HWCAP);
    found.level = CPU_NEON;
    found.has_crc32c = (capabilities & HWCAP_CRC32) != 0;
    look_at_model(capabilities);
}

#else

static void look_at_cpu(void)
{
}

#endif

// Whether a CPU whose best level is `best` has `level` too.
static bool includes(enum cpu_level best, enum cpu_level level)
{
    return level == CPU_SCALAR || level == best || (level == CPU_AVX2 && best == CPU_AVX512);
}

static void look(void)
{
    memcpy(found.model, "unknown", sizeof("unknown"));
    look_at_cpu();
    found.hardware = found.level;

    // Nothing in this program changes its environment.
    const char *wish = getenv("RECO_CPU"); // NOLINT(concurrency-mt-unsafe)
    for (size_t i = 0; wish && i < CPU_LEVELS; i++) {
        if (strcmp(wish, level_names[i]) == 0 && includes(found.hardware, (enum cpu_level)i))
            found.level = (enum cpu_level)i;
    }
    found.has_bf16 = found.has_bf16 && found.level == CPU_AVX512;
    if (wish && strcmp(wish, level_names[CPU_SCALAR]) == 0) {
        found.has_crc32c = false;
        found.has_sha = false;
    }
}

enum cpu_level cpu_best(void)
{
    (void)pthread_once(&once, look);
    return found.level;
}

enum cpu_level cpu_hardware(void)
{
    (void)pthread_once(&once, look);
    return found.hardware;
}

bool cpu_has(enum cpu_level level)
{
    return includes(cpu_best(), level);
}

const char *cpu_level_name(enum cpu_level level)
{
    return level_names[level];
}

bool cpu_has_bf16(void)
{
    (void)pthread_once(&once, look);
    return found.has_bf16;
}

bool cpu_has_sha(void)
{
    (void)pthread_once(&once, look);
    return found.has_sha;
}

bool cpu_has_crc32c(void)
{
    (void)pthread_once(&once, look);
    return found.has_crc32c;
}

int cpu_count(void)
{
    cpu_set_t usable;
    if (sched_getaffinity(0, sizeof(usable), &usable) == 0 && CPU_COUNT(&usable) > 0)
        return CPU_COUNT(&usable);

    // More processors than a cpu_set_t has bits.
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

const char *cpu_model(void)
{
    (void)pthread_once(&once, look);
    return found.model;
}
