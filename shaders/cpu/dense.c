// SPDX-License-Identifier: Apache-2.0
// Checks what is asked for and picks who multiplies.

#include "shaders/cpu/dense.h"

#include <assert.h>

#include "proto/base/cpu.h"
#include "proto/base/mem.h"
#include "shaders/cpu/dense_fma.h"
#include "shaders/cpu/dense_internal.h"

struct dense {
    const struct dense_kind *kind;
    void *state; // the kind's
    struct team *team;
};

struct dense_matrix {
    const struct dense *dense;
    void *prepared; // the kind's
    uint32_t columns;
    uint32_t depth;
};

const struct dense_fma *dense_fma_best(void)
{
#if defined(__x86_64__)
    if (cpu_hardware() >= CPU_AVX512)
        return &dense_fma_avx512;
    if (cpu_hardware() >= CPU_AVX2)
        return &dense_fma_avx2;
    return NULL;
#elif defined(__aarch64__)
    return &dense_fma_neon;
#else
    return NULL;
#endif
}

enum status dense_open_kind(const struct dense_kind *kind, struct team *team, struct dense **out,
                            struct reason *why)
{
    assert(kind);
    assert(team);
    assert(out);

    struct dense *dense = mem_alloc(sizeof(*dense));
    dense->kind = kind;
    dense->team = team;
    enum status status = kind->open(team, &dense->state);
    if (status != STATUS_OK) {
        mem_free(dense);
        return reason_set(why, status, "device", "matrix products do not start on this CPU: %s",
                          status_text(status));
    }
    *out = dense;
    return STATUS_OK;
}

enum status dense_open(struct team *team, enum dense_precision precision, struct dense **out,
                       struct reason *why)
{
    if (precision == DENSE_BF16 && !cpu_has_bf16())
        return reason_set(why, STATUS_UNSUPPORTED, "device",
                          "this CPU has no instruction for bfloat16 (AVX512-BF16), which cpu-bf16 "
                          "asks for; cpu computes in single precision");
    if (precision == DENSE_BF16)
        return dense_open_kind(&dense_panels_bf16_kind, team, out, why);
    return dense_open_kind(dense_fma_best() ? &dense_panels_kind : &dense_tiles_kind, team, out,
                           why);
}

void dense_close(struct dense **dense)
{
    assert(dense);

    if (!*dense)
        return;
    (*dense)->kind->close((*dense)->state);
    mem_free(*dense);
    *dense = NULL;
}

// All rows in one array, for a kind that wants them so.
static enum status prepare_gathered(struct dense *dense, const struct dense_params *params,
                                    void **prepared)
{
    struct dense_params gathered = *params;
    size_t count = (size_t)params->columns * params->depth;
    float *weights = mem_try_alloc_array(count, sizeof(float));
    if (!weights)
        return STATUS_NO_MEMORY;
    enum status status =
        params->rows(params->context, 0, params->columns, 0, params->depth, weights);
    gathered.weights = weights;
    if (status == STATUS_OK)
        status = dense->kind->prepare(dense->state, &gathered, prepared);
    mem_free(weights);
    return status;
}

enum status dense_prepare(struct dense *dense, const struct dense_params *params,
                          struct dense_matrix **out, struct reason *why)
{
    assert(dense);
    assert(params && (params->weights || params->rows));
    assert(out);

    if (params->columns < 1 || params->columns > DENSE_SIZE_MAX || params->depth < 1 ||
        params->depth > DENSE_SIZE_MAX)
        return reason_set(why, STATUS_INVALID, "shape", "a matrix of %u x %u: 1..%u are possible",
                          params->columns, params->depth, DENSE_SIZE_MAX);

    struct dense_matrix *matrix = mem_alloc(sizeof(*matrix));
    *matrix = (struct dense_matrix){dense, NULL, params->columns, params->depth};
    enum status status = params->weights || dense->kind->takes_rows
                             ? dense->kind->prepare(dense->state, params, &matrix->prepared)
                             : prepare_gathered(dense, params, &matrix->prepared);
    if (status != STATUS_OK) {
        mem_free(matrix);
        return reason_set(why, status, "shape", "a matrix of %u x %u cannot be prepared: %s",
                          params->columns, params->depth, status_text(status));
    }
    *out = matrix;
    return STATUS_OK;
}

void dense_free(struct dense_matrix **matrix)
{
    assert(matrix);

    if (!*matrix)
        return;
    (*matrix)->dense->kind->free((*matrix)->dense->state, (*matrix)->prepared);
    mem_free(*matrix);
    *matrix = NULL;
}

enum status dense_run(struct dense *dense, const struct dense_matrix *matrix, const float *source,
                      size_t rows, float *target, struct reason *why)
{
    assert(dense);
    assert(matrix && matrix->dense == dense);
    assert((source && target) || rows == 0);

    if (rows == 0)
        return STATUS_OK;
    enum status status = dense->kind->run(dense->state, matrix->prepared, source, rows, target);
    if (status != STATUS_OK)
        return reason_set(why, status, "device", "a product of %u x %u failed: %s", matrix->columns,
                          matrix->depth, status_text(status));
    return STATUS_OK;
}
