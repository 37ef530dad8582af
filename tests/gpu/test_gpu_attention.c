// SPDX-License-Identifier: Apache-2.0
// Goal: attention on the GPU agrees with its formula for every sequence of a batch, and a
// row's bits depend on the rows that it sees only.
//
// Method: ragged batches with sequences of 0, 1, a group of keys +- 1, 50, 77, 197 and 257 rows
// against double precision, staged in shared memory and not; sequences alone and cut short.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/half.h"
#include "tests/gpu/gpu_fixture.h"
#include "tests/reference/reference.h"

TestSuite(gpu_attention, .init = gpu_fixture_open, .fini = gpu_fixture_close);

int main(int argc, char **argv)
{
    return gpu_fixture_main(argc, argv);
}

enum way { STAGED, SOFTWARE, MATRIX };

struct heads {
    uint32_t heads;
    uint32_t dimension;
    bool causal;
    enum way way;
};

// False where the device or the build cannot.
static bool constants_of(const struct heads *h, uint32_t constants[KERNEL_CONSTANTS_MAX])
{
    const struct kernel_matrix matrix = gpu_fixture_matrix();
    if (h->way == MATRIX)
        return kernel_table_attention_matrix(&matrix, h->dimension, constants);
    kernel_table_attention(h->dimension, h->way == SOFTWARE, constants);
    return true;
}

static uint32_t longest_of(const uint32_t *starts, uint32_t sequences)
{
    uint32_t longest = 0;
    for (uint32_t s = 0; s < sequences; s++) {
        uint32_t length = starts[s + 1] - starts[s];
        longest = length > longest ? length : longest;
    }
    return longest;
}

static void attend(const struct heads *h, const float *source, const uint32_t *starts,
                   uint32_t sequences, float *target)
{
    uint32_t width = h->heads * h->dimension;
    size_t rows = starts[sequences];
    struct attention_args args = {
        .width = width,
        .dimension = h->dimension,
        .causal = h->causal,
        .scale = (float)(1.0 / sqrt((double)h->dimension)),
    };
    uint32_t constants[KERNEL_CONSTANTS_MAX];
    cr_assert(constants_of(h, constants));
    struct kernel_run run = {
        .id = h->way == MATRIX ? KERNEL_ATTENTION_MATRIX : KERNEL_ATTENTION,
        .constants = constants,
        .args = &args,
        .arrays = {guarded_with(source, rows * 3 * width), guarded_with(starts, sequences + 1u),
                   guarded_poisoned(rows * width)},
    };
    kernel_table_attention_groups(constants, longest_of(starts, sequences), h->heads, sequences,
                                  run.groups);
    gpu_fixture_run(&run);
    guarded_end(&run.arrays[0], NULL);
    guarded_end(&run.arrays[1], NULL);
    guarded_end(&run.arrays[2], target);
}

static const uint32_t batch[] = {0, 1, 3, 18, 34, 51, 51, 101, 178};
enum { SEQUENCES = COUNT(batch) - 1 };

static void check_attention(const struct heads *h, const uint32_t *starts, uint32_t sequences)
{
    size_t width = (size_t)h->heads * h->dimension;
    size_t rows = starts[sequences];
    float *source = reference_random(rows * 3 * width, 41);
    for (size_t v = 0; v < rows * 3 * width; v++) {
        source[v] *= 4.0f; // a softmax far from flat
        if (h->way == MATRIX)
            source[v] = half_to_float(half_from_float(source[v]));
    }
    double *wide = reference_widen(source, rows * 3 * width);
    double *expected = calloc(rows * width, sizeof(double));
    for (uint32_t s = 0; s < sequences; s++)
        reference_attention(&(struct reference_attention){
            wide + (size_t)starts[s] * 3 * width, starts[s + 1] - starts[s], width, h->heads,
            h->causal, expected + starts[s] * width});
    float *target = malloc(rows * width * sizeof(float));
    attend(h, source, starts, sequences, target);
    char what[96];
    (void)snprintf(what, sizeof(what), "%u heads of %u, causal %d, way %d", h->heads, h->dimension,
                   h->causal, (int)h->way);
    // Scores near 100 lose two digits before the exponential; weights in half precision three more.
    expect_close(what, target, expected, rows * width, h->way == MATRIX ? 2e-7 : 1e-11);
    free(target);
    free(expected);
    free(wide);
    free(source);
}

Test(gpu_attention, agrees_with_the_reference_for_every_sequence_of_a_batch)
{
    static const uint32_t shapes[][2] = {{1, 1}, {3, 5}, {2, 16}, {5, 17}, {3, 64}};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        for (int kind = 0; kind < 4; kind++) {
            struct heads h = {shapes[i][0], shapes[i][1], kind % 2 == 1, kind / 2};
            check_attention(&h, batch, SEQUENCES);
        }
    }
}

Test(gpu_attention, agrees_with_the_reference_at_the_lengths_of_pictures)
{
    static const uint32_t starts[] = {0, 197, 454};
    for (int kind = 0; kind < 4; kind++) {
        struct heads h = {2, 64, kind % 2 == 1, kind / 2};
        check_attention(&h, starts, 2);
    }
}

Test(gpu_attention, does_the_widest_head_and_the_shortest_sequences)
{
    static const uint32_t starts[] = {0, 1, 2, 3, 20};
    struct heads h = {1, KERNEL_HEAD_MAX, true, STAGED};
    check_attention(&h, starts, 4);
    h.dimension = KERNEL_HEAD_MAX - 1;
    h.way = SOFTWARE;
    check_attention(&h, starts, 4);
}

Test(gpu_attention, survives_scores_that_overflow_a_naive_softmax)
{
    const uint32_t starts[] = {0, 5};
    struct heads h = {1, 16, false, STAGED};
    float source[5 * 48];
    float target[5 * 16];
    for (size_t i = 0; i < COUNT(source); i++)
        source[i] = i % 3 ? 900.0f : -900.0f;
    attend(&h, source, starts, 1, target);
    for (size_t i = 0; i < COUNT(target); i++)
        cr_expect(isfinite(target[i]) && fabsf(target[i]) <= 900.0f);
}

Test(gpu_attention, by_cooperative_matrices_agrees_with_the_reference)
{
    static const uint32_t shapes[][2] = {{1, 1}, {3, 17}, {3, 64}, {2, 80}, {1, KERNEL_HEAD_MAX}};
    uint32_t constants[KERNEL_CONSTANTS_MAX];
    if (!constants_of(&(struct heads){1, 64, false, MATRIX}, constants))
        cr_skip_test("the device has no cooperative matrices, or the build no kernel for them");
    for (size_t i = 0; i < 2 * COUNT(shapes); i++) {
        struct heads h = {shapes[i / 2][0], shapes[i / 2][1], i % 2 == 1, MATRIX};
        check_attention(&h, batch, SEQUENCES);
    }
}

Test(gpu_attention, a_sequence_has_the_same_bits_alone_again_and_cut_behind_a_row)
{
    uint32_t constants[KERNEL_CONSTANTS_MAX];
    for (int kind = 0; kind < 6; kind++) {
        struct heads h = {3, 20, kind % 2 == 1, kind / 2};
        if (!constants_of(&h, constants))
            continue;
        size_t width = 60;
        size_t rows = batch[SEQUENCES];
        float *source = reference_random(rows * 3 * width, 43);
        float *first = malloc(rows * width * sizeof(float));
        float *other = malloc(rows * width * sizeof(float));
        attend(&h, source, batch, SEQUENCES, first);
        attend(&h, source, batch, SEQUENCES, other);
        expect_bits("again", other, first, rows * width);
        for (uint32_t s = 0; s < SEQUENCES; s++) {
            uint32_t length = batch[s + 1] - batch[s];
            const float *own = source + batch[s] * 3 * width;
            const uint32_t alone[] = {0, length};
            if (length == 0)
                continue;
            attend(&h, own, alone, 1, other);
            expect_bits("alone", other, first + batch[s] * width, length * width);
            const uint32_t cut[] = {0, length / 2 + 1};
            if (!h.causal)
                continue;
            attend(&h, own, cut, 1, other);
            expect_bits("cut", other, first + batch[s] * width, (length / 2 + 1) * width);
        }
        free(other);
        free(first);
        free(source);
    }
}
