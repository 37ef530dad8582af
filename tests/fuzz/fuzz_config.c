// SPDX-License-Identifier: Apache-2.0
// Goal: no file makes the reader of configurations crash; what it takes is printed as a file that
// it takes again and that means the same; what it refuses has a reason with the line.
//
// Method: the input is a file of the coordinator, read strictly and as one that is shared.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/config.h"
#include "proto/base/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static char *print(const struct config *config)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    check(file != NULL);
    config_print(config, NULL, file);
    check(fclose(file) == 0);
    return text;
}

// Reads and prints; NULL when the text is refused.
static char *read_and_print(const uint8_t *data, size_t size, bool shared)
{
    struct settings_coordinator settings = {0};
    struct reason why = {0};
    struct config *config = config_create(&settings_coordinator);
    char *text = NULL;
    if (config_read_text(config, "fuzz", (struct bytes){data, size}, shared, &why) == STATUS_OK) {
        config_store(config, &settings);
        text = print(config);
    } else {
        check(strncmp(why.text, "fuzz:", 5) == 0 && bytes_is_utf8(why.text, strlen(why.text)));
    }
    config_destroy(&config);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *strict = read_and_print(data, size, false);
    char *shared = read_and_print(data, size, true);
    check(!strict || (shared && strcmp(strict, shared) == 0));
    if (shared) {
        char *again = read_and_print((const uint8_t *)shared, strlen(shared), false);
        check(again != NULL);
        free(again);
    }
    free(strict);
    free(shared);
    return 0;
}
