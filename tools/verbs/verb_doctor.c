// SPDX-License-Identifier: Apache-2.0
// reco doctor: what this machine has, what reco will use of it and why, and what is wrong.

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "coordinator/datadir.h"
#include "proto/base/cpu.h"
#include "proto/base/limits.h"
#include "proto/base/system_error.h"
#include "shaders/gpu/gpu.h"
#include "shaders/models/clip.h"
#include "shaders/ops/ops.h"
#include "tools/answers.h"
#include "tools/client.h"
#include "tools/output.h"
#include "tools/ports.h"
#include "tools/verbs.h"
#include "tools/verbs/version.h"

#define FILES_MIN 4096 // RocksDB keeps its tables open
#define MEMINFO_BYTES_MAX 65536
#define DISK_THROTTLE 0.85 // share in use from which ingest slows down
#define DISK_REFUSE 0.92   // and from which writes are refused
#define DETAIL_BYTES 2048

enum finding {
    FINDING_OK,
    FINDING_NOTE,
    FINDING_PROBLEM,
};

struct doctor {
    const struct options *options;
    bool problem;
};

static void find(struct doctor *doctor, const char *check, enum finding finding, const char *format,
                 ...) PRINTF_LIKE(4, 5);

static void find(struct doctor *doctor, const char *check, enum finding finding, const char *format,
                 ...)
{
    static const char *const words[] = {"ok", "note", "problem"};
    char detail[DETAIL_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(detail, sizeof(detail), format, arguments);
    va_end(arguments);
    doctor->problem = doctor->problem || finding == FINDING_PROBLEM;

    if (!doctor->options->json) {
        printf("%-8s %-10s ", words[finding], check);
        output_text(text_of(detail));
        putchar('\n');
        return;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "check");
    json_put_cstr(&writer, check);
    json_name(&writer, "state");
    json_put_cstr(&writer, words[finding]);
    json_name(&writer, "detail");
    json_put_cstr(&writer, detail);
    json_end_object(&writer);
    (void)!answers_end_line(&writer);
    json_writer_deinit(&writer);
}

static void check_cpu(struct doctor *doctor)
{
    enum cpu_level level = cpu_best();
    find(doctor, "cpu", level == CPU_SCALAR ? FINDING_NOTE : FINDING_OK,
         "%s; kernels for %s%s; %d threads may be used", cpu_model(), cpu_level_name(level),
         cpu_has_bf16() ? ", --device cpu-bf16 possible" : "", cpu_count());
}

#define HEAD_DIMENSION 64u // of the models in circulation, nearly all

// Whether the device gives what the CPU gives, in words.
static bool try_device(const char *uuid, char text[OPS_DROPPED_BYTES + REASON_TEXT_BYTES])
{
    struct ops *ops = NULL;
    struct reason why = {.text = ""};
    char dropped[OPS_DROPPED_BYTES];
    enum status status = ops_open(uuid, 0, &ops, &why);
    if (status == STATUS_OK)
        status = ops_prepare_attention(ops, HEAD_DIMENSION, &why);
    if (status != STATUS_OK) {
        (void)snprintf(text, OPS_DROPPED_BYTES + REASON_TEXT_BYTES, "tried and refused: %s",
                       why.text);
    } else {
        ops_dropped(ops, dropped);
        (void)snprintf(text, OPS_DROPPED_BYTES + REASON_TEXT_BYTES, "tried, %s%s",
                       dropped[0] ? "not used since they are wrong: " : "all results right",
                       dropped);
    }
    ops_close(&ops);
    return status == STATUS_OK && dropped[0] == '\0';
}

// Every Vulkan device, what it can do, and why it is not used.
static void check_devices(struct doctor *doctor)
{
    struct gpu_device devices[GPU_DEVICES_MAX];
    size_t count = 0;
    struct reason why = {.text = ""};
    enum status status = gpu_list(devices, GPU_DEVICES_MAX, &count, &why);
    if (status != STATUS_OK || count == 0)
        find(doctor, "vulkan", FINDING_NOTE, "no device: %s; everything runs on the CPU", why.text);
    for (size_t i = 0; i < count; i++) {
        const struct gpu_device *device = &devices[i];
        char tried[OPS_DROPPED_BYTES + REASON_TEXT_BYTES] = "";
        bool is_right = device->usable && try_device(device->uuid, tried);
        bool is_good = is_right && device->kind != GPU_SOFTWARE;
        char memory[OUTPUT_FIGURE_BYTES];
        char array[OUTPUT_FIGURE_BYTES];
        find(doctor, "vulkan", is_good ? FINDING_OK : FINDING_NOTE,
             "%s %s, %s, driver %s, Vulkan %u.%u; %s of memory, arrays of at most %s%s; %s%s%s",
             device->uuid, device->name, gpu_kind_name(device->kind), device->driver,
             device->api_major, device->api_minor, output_bytes(device->memory_bytes, memory),
             output_bytes(device->binding_bytes_max, array),
             device->half_arithmetic ? ", 16-bit arithmetic" : "",
             device->usable ? tried : "not usable: ", device->why_not,
             !is_right ? ""
             : is_good ? "; --device with this UUID uses it"
                       : "; for tests: the CPU itself is faster");
    }
}

static uint64_t meminfo_kib(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void check_memory(struct doctor *doctor)
{
    struct buffer file = {0};
    if (bytes_read_file("/proc/meminfo", MEMINFO_BYTES_MAX, &file)) {
        find(doctor, "memory", FINDING_NOTE, "/proc/meminfo cannot be read");
        return;
    }
    char total[OUTPUT_FIGURE_BYTES];
    char available[OUTPUT_FIGURE_BYTES];
    const char *text = (const char *)file.data;
    find(doctor, "memory", FINDING_OK, "%s, %s of it available",
         output_bytes(meminfo_kib(text, "MemTotal:") * 1024, total),
         output_bytes(meminfo_kib(text, "MemAvailable:") * 1024, available));
    buffer_deinit(&file);
}

static void check_limits(struct doctor *doctor)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    bool low = files.rlim_cur != RLIM_INFINITY && files.rlim_cur < FILES_MIN;
    find(doctor, "files", low ? FINDING_NOTE : FINDING_OK, "%" PRIu64 " may be open at a time%s",
         (uint64_t)files.rlim_cur, low ? "; a large memory needs 4096: `ulimit -n 4096`" : "");
}

// --- data directory

static void check_disk(struct doctor *doctor, const char *path)
{
    struct statvfs about;
    if (statvfs(path, &about) != 0) {
        find(doctor, "disk", FINDING_NOTE, "%s: %s", path, SYSTEM_ERROR(errno));
        return;
    }
    uint64_t total = (uint64_t)about.f_blocks * about.f_frsize;
    uint64_t available = (uint64_t)about.f_bavail * about.f_frsize;
    double used = total ? 1 - (double)available / (double)total : 0;
    char total_text[OUTPUT_FIGURE_BYTES];
    char available_text[OUTPUT_FIGURE_BYTES];
    find(doctor, "disk",
         used >= DISK_REFUSE     ? FINDING_PROBLEM
         : used >= DISK_THROTTLE ? FINDING_NOTE
                                 : FINDING_OK,
         "%s free of %s (%.0f %% in use)", output_bytes(available, available_text),
         output_bytes(total, total_text), used * 100);
}

// Whether the folder can be made: its nearest parent that is there may be written.
static bool can_be_made(const char *path)
{
    char parent[CLIENT_PATH_BYTES];
    (void)snprintf(parent, sizeof(parent), "%s", path);
    for (char *slash = strrchr(parent, '/'); slash && slash != parent;
         slash = strrchr(parent, '/')) {
        *slash = '\0';
        if (access(parent, F_OK) == 0)
            return access(parent, W_OK | X_OK) == 0;
    }
    return access(path[0] == '/' ? "/" : ".", W_OK | X_OK) == 0;
}

static void check_data(struct doctor *doctor)
{
    char path[CLIENT_PATH_BYTES];
    struct reason why = {.text = ""};
    if (client_data_path(doctor->options, path, &why)) {
        find(doctor, "data", FINDING_PROBLEM, "%s: %s", why.field, why.text);
        return;
    }

    struct datadir *datadir = NULL;
    const struct datadir_params params = {.path = path};
    enum status status = datadir_open(&params, &datadir, &why);
    if (!status)
        find(doctor, "data", FINDING_OK, "%s, %u node%s, held by nobody", path,
             datadir_nodes(datadir), datadir_nodes(datadir) == 1 ? "" : "s");
    else if (status == STATUS_NOT_FOUND && !can_be_made(path))
        find(doctor, "data", FINDING_PROBLEM,
             "--data: %s is not there, and this user may not make it; name a folder that can be",
             path);
    else if (status == STATUS_NOT_FOUND || status == STATUS_FAILED_PRECONDITION)
        find(doctor, "data", FINDING_NOTE, "%s", why.text);
    else
        find(doctor, "data", FINDING_PROBLEM, "%s: %s", why.field, why.text);
    datadir_close(&datadir);
    if (status != STATUS_NOT_FOUND)
        check_disk(doctor, path);
}

// --- ports and model

static void check_ports(struct doctor *doctor)
{
    uint64_t given = doctor->options->port;
    uint64_t first = given == OPTIONS_PORT_UNSET ? OPTIONS_PORT_DEFAULT : given;
    uint64_t nodes = doctor->options->shards ? doctor->options->shards : 1;
    char taken[DETAIL_BYTES] = "";
    size_t used = 0;
    for (uint64_t i = 0; i < 1 + 2 * nodes; i++) {
        uint16_t port = (uint16_t)(i ? first + 9 + i : first);
        if (!ports_is_free(port) && used < sizeof(taken))
            used += (size_t)snprintf(taken + used, sizeof(taken) - used, " %u", port);
    }
    if (used)
        find(doctor, "ports", FINDING_NOTE, "taken:%s; `reco up --port P` uses others", taken);
    else
        find(doctor, "ports", FINDING_OK,
             "127.0.0.1:%" PRIu64 " and %" PRIu64 " to %" PRIu64 " are free for `reco up`", first,
             first + 10, first + 9 + 2 * nodes);
}

static void check_model(struct doctor *doctor)
{
    struct clip *clip = NULL;
    struct reason why = {.text = ""};
    const struct clip_params params = {.directory = doctor->options->model,
                                       .device = doctor->options->device};
    if (clip_open(&params, &clip, &why)) {
        find(doctor, "model", FINDING_PROBLEM, "%s%s%s", why.field, why.field[0] ? ": " : "",
             why.text);
        return;
    }
    const struct clip_info *info = clip_info(clip);
    char agreement[64] = "";
    if (info->agreement < 1.0)
        (void)snprintf(agreement, sizeof(agreement), " (cosine with single precision %.6f or more)",
                       info->agreement);
    find(doctor, "model", FINDING_OK,
         "%s on %s%s: %u dimensions, pictures of %u x %u, texts of %u tokens%s", info->name,
         info->device, agreement, info->dimension, info->image_size, info->image_size,
         info->context, doctor->options->model ? "" : "; embedded, since --model names no other");
    clip_close(&clip);
}

// What a coordinator starts where the device is not the CPU ([encoder] process).
static void check_encoder(struct doctor *doctor)
{
    char path[PATH_MAX + 32];
    ssize_t bytes = readlink("/proc/self/exe", path, PATH_MAX - 1);
    path[bytes > 0 ? bytes : 0] = '\0';
    char *slash = strrchr(path, '/');
    (void)snprintf(slash ? slash : path, 32, "/reco-encoder");
    bool is_there = access(path, X_OK) == 0;
    find(doctor, "encoder", is_there ? FINDING_OK : FINDING_NOTE,
         is_there ? "%s is there for `[encoder] process`"
                  : "%s is missing: it belongs beside this program, for `[encoder] process`",
         path);
}

static int run_doctor(const struct options *options)
{
    struct doctor doctor = {.options = options};
    find(&doctor, "version", FINDING_OK, "reco %s", RECO_VERSION);
    check_cpu(&doctor);
    check_devices(&doctor);
    check_memory(&doctor);
    check_limits(&doctor);
    check_data(&doctor);
    check_ports(&doctor);
    check_model(&doctor);
    check_encoder(&doctor);
    return doctor.problem ? VERBS_FAILED : VERBS_DONE;
}

static const struct args_flag doctor_flags[] = {
    {.name = "--port",
     .kind = ARGS_COUNT,
     .argument = "P",
     .fallback = "7700",
     .help = "looks whether the ports of `reco up --port P` are free",
     .offset = offsetof(struct options, port),
     .low = 1,
     .high = 65423},
    {.name = "--shards",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1",
     .help = "for so many shards",
     .offset = offsetof(struct options, shards),
     .low = 1,
     .high = NODES_MAX},
    {.name = NULL},
};

const struct verb verb_doctor = {
    .args =
        {.name = "doctor",
         .items = "",
         .summary = "what this machine has, what reco will use of it, what is wrong",
         .details =
             "Exit status 1 when something is a problem.\n\n"
             "JSON line for each check: {\"check\",\"state\",\"detail\"}, state \"ok\", \"note\"\n"
             "or \"problem\"",
         .groups = {doctor_flags, options_data, options_model, options_common}},
    .chapter = "this program",
    .run = run_doctor,
};
