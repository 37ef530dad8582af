// SPDX-License-Identifier: Apache-2.0
// random_clip GOLDEN VOCABULARY TARGET: writes a complete model directory with random
// weights of full size, for benchmarks. GOLDEN is tests/golden/random-NAME, VOCABULARY
// a folder with vocab.json and merges.txt; TARGET must exist and needs 610 MB for B/32.

#include <stdio.h>

#include "proto/base/mem.h"
#include "tests/support/random_clip.h"

static int copy(const char *from_folder, const char *to_folder, const char *name)
{
    char path[1024];
    struct buffer file = {0};
    (void)snprintf(path, sizeof(path), "%s/%s", from_folder, name);
    if (bytes_read_file(path, 64u << 20, &file) != STATUS_OK) {
        (void)fprintf(stderr, "random_clip: %s cannot be read\n", path);
        return 1;
    }
    (void)snprintf(path, sizeof(path), "%s/%s", to_folder, name);
    enum status status = bytes_replace_file(path, file.data, file.count);
    buffer_deinit(&file);
    if (status != STATUS_OK)
        (void)fprintf(stderr, "random_clip: %s cannot be written\n", path);
    return status != STATUS_OK;
}

int main(int argc, char **argv)
{
    static const char preprocessor[] =
        "{\"do_resize\": true, \"size\": {\"shortest_edge\": 224}, \"resample\": 3,\n"
        " \"do_center_crop\": true, \"crop_size\": {\"height\": 224, \"width\": 224},\n"
        " \"do_normalize\": true, \"image_mean\": [0.48145466, 0.4578275, 0.40821073],\n"
        " \"image_std\": [0.26862954, 0.26130258, 0.27577711]}\n";
    if (argc != 4) {
        (void)fprintf(stderr, "usage: random_clip GOLDEN VOCABULARY TARGET\n");
        return 2;
    }
    if (copy(argv[1], argv[3], "config.json") || copy(argv[2], argv[3], "vocab.json") ||
        copy(argv[2], argv[3], "merges.txt"))
        return 1;

    struct buffer file = {0};
    random_clip_make(argv[1], &file);
    char path[1024];
    (void)snprintf(path, sizeof(path), "%s/model.safetensors", argv[3]);
    enum status status = bytes_replace_file(path, file.data, file.count);
    if (status == STATUS_OK) {
        (void)snprintf(path, sizeof(path), "%s/preprocessor_config.json", argv[3]);
        status = bytes_replace_file(path, preprocessor, sizeof(preprocessor) - 1);
    }
    mem_free(file.data);
    if (status != STATUS_OK)
        (void)fprintf(stderr, "random_clip: %s cannot be written\n", path);
    return status != STATUS_OK;
}
