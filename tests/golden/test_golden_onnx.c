// SPDX-License-Identifier: Apache-2.0
// Goal: operations give what the ONNX project's own vectors say, which nobody here has computed.
//
// Method: Debian's libonnx-testdata has inputs and outputs of operators, a TensorProto in each
// file. Those that our operations cover, also in a roundabout way: a softmax is attention with unit
// vectors for keys and values; erf and sigmoid are inside the two GELUs. Skipped (77) where the
// package is missing.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/bytes.h"
#include "shaders/ops/ops.h"
#include "tests/reference/reference.h"
#include "tests/support/vulkan_device.h"

#define FOLDER "/usr/share/libonnx-testdata/data/node/"
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ERROR_MAX 1e-11 // normalised and squared; numpy computed them in single precision

enum { DIMS_MAX = 6, FLOAT = 1, INT64 = 7 };

static struct ops *ops;

static void open_ops(void)
{
    struct reason why = {0};
    cr_assert(eq(int, ops_open(vulkan_device_name(), 2, &ops, &why), STATUS_OK), "%s", why.text);
}

static void close_ops(void)
{
    ops_close(&ops);
}

TestSuite(golden_onnx, .init = open_ops, .fini = close_ops);

// --- their files

struct tensor {
    size_t dim[DIMS_MAX];
    size_t rank;
    size_t count;
    float *values; // of whole numbers too
};

static uint64_t varint(const struct buffer *file, size_t *at)
{
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
        cr_assert(lt(sz, *at, file->count));
        uint8_t byte = file->data[(*at)++];
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return value;
    }
    cr_fatal("a number without an end");
}

// TensorProto: 1 dims, 2 data_type, 9 raw_data; what else is there has no part in it.
static struct tensor read_tensor(const char *name, const char *which)
{
    char path[512];
    struct buffer file = {0};
    struct tensor tensor = {.count = 1};
    uint64_t type = 0;
    (void)snprintf(path, sizeof(path), FOLDER "%s/test_data_set_0/%s.pb", name, which);
    cr_assert(eq(int, bytes_read_file(path, 1u << 20, &file), STATUS_OK), "%s", path);
    for (size_t at = 0; at < file.count;) {
        uint64_t key = varint(&file, &at);
        uint64_t value = varint(&file, &at); // or the length
        cr_assert(key % 8 == 0 || key % 8 == 2, "%s: field %llu", path, (unsigned long long)key);
        if (key == (1 << 3)) {
            cr_assert(tensor.rank < DIMS_MAX);
            tensor.dim[tensor.rank++] = value;
            tensor.count *= value;
        }
        if (key == (2 << 3))
            type = value;
        if (key % 8 == 0)
            continue;
        cr_assert(value <= file.count - at, "%s", path);
        const uint8_t *raw = file.data + at;
        at += value;
        if (key != (9 << 3 | 2))
            continue;
        size_t each = type == INT64 ? 8 : 4;
        bool is_known = type == FLOAT || type == INT64;
        cr_assert(is_known && value == tensor.count * each, "%s", path);
        free(tensor.values);
        tensor.values = calloc(tensor.count, sizeof(float));
        for (size_t i = 0; i < tensor.count; i++) {
            if (type == INT64)
                tensor.values[i] = (float)(int64_t)bytes_get_u64_le(raw + 8 * i);
            else
                memcpy(&tensor.values[i], raw + 4 * i, 4);
        }
    }
    cr_assert(tensor.values != NULL && tensor.count > 0, "%s has no values", path);
    buffer_deinit(&file);
    return tensor;
}

// --- running

static struct ops_view put(const void *data, size_t rows, size_t columns)
{
    struct ops_view view = {NULL, 0, rows, columns};
    cr_assert(eq(int, ops_alloc(ops, ops_rows_padded(ops, rows) * columns, &view.buffer, NULL),
                 STATUS_OK));
    if (data)
        cr_assert(eq(int, ops_upload(ops, view.buffer, 0, data, rows * columns, NULL), STATUS_OK));
    return view;
}

static void expect(const char *name, struct ops_view target, const float *expected)
{
    size_t count = target.rows * target.columns;
    float *got = malloc(count * sizeof(float));
    double *wide = malloc(count * sizeof(double));
    for (size_t i = 0; i < count; i++)
        wide[i] = (double)expected[i];
    cr_assert(eq(int, ops_download(ops, target.buffer, 0, got, count, NULL), STATUS_OK));
    double error = reference_squared_error(got, wide, count);
    cr_expect(error < (vulkan_device_is_half() ? 1e-5 : ERROR_MAX), "%s: %g", name, error);
    free(wide);
    free(got);
}

// target = f(source * weights^T + bias), where `target` is what is added to with OPS_ADD.
struct product {
    const float *source;
    const float *weights;
    const float *bias;
    const float *target;
    size_t rows;
    size_t columns;
    size_t depth;
    enum ops_epilogue epilogue;
};

static void check_product(const char *name, const struct product *p, const float *expected)
{
    struct ops_view source = put(p->source, p->rows, p->depth);
    struct ops_view target = put(p->target, p->rows, p->columns);
    struct ops_matrix *matrix = NULL;
    const struct ops_matrix_params params = {.weights = p->weights,
                                             .bias = p->bias,
                                             .columns = (uint32_t)p->columns,
                                             .depth = (uint32_t)p->depth,
                                             .epilogue = p->epilogue};
    cr_assert(eq(int, ops_matrix_create(ops, &params, &matrix, NULL), STATUS_OK));
    cr_assert(eq(int, ops_product(ops, matrix, source, target, NULL), STATUS_OK));
    expect(name, target, expected);
    ops_matrix_destroy(ops, &matrix);
    ops_free(ops, &source.buffer);
    ops_free(ops, &target.buffer);
}

static float *turned(const float *values, size_t rows, size_t columns)
{
    float *target = malloc(rows * columns * sizeof(float));
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            target[c * rows + r] = values[r * columns + c];
    return target;
}

// --- vectors

Test(golden_onnx, products_are_matmul)
{
    static const char *const names[] = {"test_matmul_2d", "test_matmul_3d", "test_matmul_4d"};
    for (size_t i = 0; i < COUNT(names); i++) {
        struct tensor a = read_tensor(names[i], "input_0");
        struct tensor b = read_tensor(names[i], "input_1");
        struct tensor y = read_tensor(names[i], "output_0");
        size_t rows = a.dim[a.rank - 2];
        size_t depth = a.dim[a.rank - 1];
        size_t columns = b.dim[b.rank - 1];
        for (size_t m = 0; m < a.count / (rows * depth); m++) {
            float *weights = turned(b.values + m * depth * columns, depth, columns);
            const struct product p = {
                a.values + m * rows * depth, weights, NULL, NULL, rows, columns, depth, OPS_PLAIN};
            check_product(names[i], &p, y.values + m * rows * columns);
            free(weights);
        }
        free(a.values);
        free(b.values);
        free(y.values);
    }
}

Test(golden_onnx, products_with_bias_and_residual_are_gemm)
{
    static const struct {
        const char *name;
        bool is_turned; // B is [columns][depth] already
        enum ops_epilogue epilogue;
    } cases[] = {
        {"test_gemm_default_no_bias", false, OPS_PLAIN},
        {"test_gemm_default_zero_bias", false, OPS_PLAIN},
        {"test_gemm_default_vector_bias", false, OPS_PLAIN},
        {"test_gemm_default_matrix_bias", false, OPS_ADD},
        {"test_gemm_transposeB", true, OPS_PLAIN},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct tensor a = read_tensor(cases[i].name, "input_0");
        struct tensor b = read_tensor(cases[i].name, "input_1");
        struct tensor y = read_tensor(cases[i].name, "output_0");
        struct tensor c = {.count = 0};
        if (strstr(cases[i].name, "no_bias") == NULL)
            c = read_tensor(cases[i].name, "input_2");
        size_t columns = y.dim[1];
        float *weights = turned(b.values, a.dim[1], columns);
        bool adds = cases[i].epilogue == OPS_ADD;
        cr_assert(adds || c.count == 0 || c.count == columns);
        const struct product p = {
            .source = a.values,
            .weights = cases[i].is_turned ? b.values : weights,
            .bias = adds ? NULL : c.values,
            .target = adds ? c.values : NULL,
            .rows = y.dim[0],
            .columns = columns,
            .depth = a.dim[1],
            .epilogue = cases[i].epilogue,
        };
        check_product(cases[i].name, &p, y.values);
        free(weights);
        free(a.values);
        free(b.values);
        free(c.values);
        free(y.values);
    }
}

Test(golden_onnx, gelu_holds_their_erf_and_quick_gelu_their_sigmoid)
{
    static const struct {
        const char *name;
        enum ops_epilogue epilogue;
    } cases[] = {{"test_erf", OPS_GELU},
                 {"test_sigmoid", OPS_QUICK_GELU},
                 {"test_sigmoid_example", OPS_QUICK_GELU}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct tensor x = read_tensor(cases[i].name, "input_0");
        struct tensor y = read_tensor(cases[i].name, "output_0");
        const float one = 1.0f;
        for (size_t v = 0; v < x.count; v++) {
            // x / 2 * (1 + erf(x / sqrt(2))) at sqrt(2) x; x * sigmoid(1.702 x) at x / 1.702.
            bool erf = cases[i].epilogue == OPS_GELU;
            double at = erf ? sqrt(2.0) * (double)x.values[v] : (double)x.values[v] / 1.702;
            double f = (double)y.values[v];
            y.values[v] = (float)(erf ? at / 2 * (1 + f) : at * f);
            x.values[v] = (float)at;
        }
        const struct product p = {x.values, &one, NULL, NULL, x.count, 1, 1, cases[i].epilogue};
        check_product(cases[i].name, &p, y.values);
        free(x.values);
        free(y.values);
    }
}

Test(golden_onnx, layernorm_is_layer_normalization_over_every_axis)
{
    static const char *const names[] = {
        "2d_axis0",         "2d_axis1",         "2d_axis_negative_1", "3d_axis0_epsilon",
        "3d_axis1_epsilon", "3d_axis2_epsilon", "4d_axis0",           "4d_axis1",
        "4d_axis2",         "4d_axis3",         "4d_axis_negative_2", "default_axis",
    };
    for (size_t i = 0; i < COUNT(names); i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "test_layer_normalization_%s", names[i]);
        struct tensor x = read_tensor(name, "input_0");
        struct tensor gain = read_tensor(name, "input_1");
        struct tensor bias = read_tensor(name, "input_2");
        struct tensor y = read_tensor(name, "output_0");
        size_t width = gain.count;
        const struct ops_layernorm args = {
            .source = put(x.values, x.count / width, width),
            .gain = put(gain.values, 1, width),
            .bias = put(bias.values, 1, width),
            .epsilon = strstr(name, "epsilon") ? 1e-1f : 1e-5f,
            .target = put(NULL, x.count / width, width),
        };
        cr_assert(eq(int, ops_layernorm(ops, &args, NULL), STATUS_OK));
        expect(name, args.target, y.values);
        struct ops_buffer *buffers[] = {args.source.buffer, args.gain.buffer, args.bias.buffer,
                                        args.target.buffer};
        for (size_t b = 0; b < COUNT(buffers); b++)
            ops_free(ops, &buffers[b]);
        free(x.values);
        free(gain.values);
        free(bias.values);
        free(y.values);
    }
}

// Rows of softmax, as many as a sequence of `n` unit vectors has queries for.
static void check_softmax(const char *name, const float *x, size_t rows, size_t n, const float *y)
{
    const uint32_t starts[] = {0, (uint32_t)n};
    float *source = calloc(3 * n * n, sizeof(float));
    for (size_t r = 0; r < n; r++) {
        for (size_t c = 0; r < rows && c < n; c++)
            source[r * 3 * n + c] = (float)((double)x[r * n + c] * sqrt((double)n));
        source[r * 3 * n + n + r] = 1;
        source[r * 3 * n + 2 * n + r] = 1;
    }
    const struct ops_attention args = {
        .source = put(source, n, 3 * n),
        .starts = put(starts, 1, 2),
        .heads = 1,
        .longest = (uint32_t)n,
        .target = put(NULL, n, n),
    };
    cr_assert(eq(int, ops_attention(ops, &args, NULL), STATUS_OK));
    struct ops_view target = args.target;
    target.rows = rows;
    expect(name, target, y);
    struct ops_buffer *buffers[] = {args.source.buffer, args.starts.buffer, args.target.buffer};
    for (size_t b = 0; b < COUNT(buffers); b++)
        ops_free(ops, &buffers[b]);
    free(source);
}

Test(golden_onnx, attention_holds_their_softmax)
{
    static const char *const names[] = {"test_softmax_axis_2", "test_softmax_default_axis",
                                        "test_softmax_example", "test_softmax_large_number"};
    for (size_t i = 0; i < COUNT(names); i++) {
        struct tensor x = read_tensor(names[i], "input_0");
        struct tensor y = read_tensor(names[i], "output_0");
        size_t n = x.dim[x.rank - 1];
        size_t rows = x.count / n;
        for (size_t first = 0; first < rows; first += n)
            check_softmax(names[i], x.values + first * n, rows - first < n ? rows - first : n, n,
                          y.values + first * n);
        free(x.values);
        free(y.values);
    }
}

Test(golden_onnx, gather_is_gather_of_the_first_axis)
{
    struct tensor x = read_tensor("test_gather_0", "input_0");
    struct tensor chosen = read_tensor("test_gather_0", "input_1");
    struct tensor y = read_tensor("test_gather_0", "output_0");
    size_t width = x.dim[1] * x.dim[2] * x.dim[3];
    uint32_t rows[16];
    cr_assert(le(sz, chosen.count, COUNT(rows)));
    for (size_t i = 0; i < chosen.count; i++)
        rows[i] = (uint32_t)chosen.values[i];
    struct ops_gather args = {
        .source = put(x.values, x.dim[0], width),
        .rows = put(rows, 1, chosen.count),
        .target = put(NULL, chosen.count, width),
    };
    cr_assert(eq(int, ops_gather(ops, &args, NULL), STATUS_OK));
    expect("test_gather_0", args.target, y.values);
    ops_free(ops, &args.source.buffer);
    ops_free(ops, &args.rows.buffer);
    ops_free(ops, &args.target.buffer);
    free(x.values);
    free(chosen.values);
    free(y.values);
}

int main(int argc, char **argv)
{
    if (access(FOLDER "test_matmul_2d", R_OK) != 0) {
        puts("skipped: Debian's libonnx-testdata is not installed");
        return 77;
    }
    return vulkan_device_main(argc, argv);
}
