// SPDX-License-Identifier: Apache-2.0
// Goal: any bytes are a labels file or are refused with a reason; accepted names are within the
// limits and belong to labels that exist.
//
// Method: the input is a whole file of either kind.

#include <stdlib.h>

#include "proto/base/limits.h"
#include "tools/label_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static void check_file(struct label_file *file)
{
    check(file->label_count > 0 && file->label_count <= file->name_count);
    check(file->aliases_max > 0 && file->aliases_max <= LABEL_FILE_NAMES_PER_LABEL_MAX);
    for (size_t i = 0; i < file->name_count; i++) {
        check(file->names[i].bytes > 0 && file->names[i].bytes <= LABEL_BYTES_MAX);
        check(file->label_of[i] < file->label_count);
        check(bytes_is_utf8(file->names[i].data, file->names[i].bytes));
    }
    label_file_deinit(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bytes bytes = {data, size};
    struct label_file file = {.name_count = 0};
    struct reason why = {.text = ""};
    if (label_file_parse(bytes, &file, &why))
        check(why.text[0]);
    else
        check_file(&file);
    why.text[0] = 0;
    if (label_file_parse_plain(bytes, &file, &why)) {
        check(why.text[0]);
        return 0;
    }
    check(file.label_count == file.name_count);
    check_file(&file);
    return 0;
}
