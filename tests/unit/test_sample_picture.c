// SPDX-License-Identifier: Apache-2.0
// Goal: the pictures made for measurements are whole PNG files and differ from each other.
//
// Method: the product's own decoder, which checks every checksum, reads them.

#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shaders/models/image.h"
#include "tools/sample_picture.h"

Test(sample_picture, decodes_and_each_number_gives_another_one)
{
    struct image images[2];
    for (uint32_t i = 0; i < 2; i++) {
        struct buffer file = {0};
        struct reason why = {.text = ""};
        cr_assert(eq(int, sample_picture_make(i, &file), STATUS_OK));
        cr_assert(eq(int,
                     image_decode((struct bytes){file.data, file.count}, IMAGE_PROFILE_RECO,
                                  &images[i], &why),
                     STATUS_OK),
                  "%s", why.text);
        cr_expect(eq(u32, images[i].width, SAMPLE_PICTURE_EDGE));
        cr_expect(eq(u32, images[i].height, SAMPLE_PICTURE_EDGE));
        buffer_deinit(&file);
    }
    size_t bytes = (size_t)3 * SAMPLE_PICTURE_EDGE * SAMPLE_PICTURE_EDGE;
    cr_expect(memcmp(images[0].rgb, images[1].rgb, bytes) != 0);
    image_deinit(&images[0]);
    image_deinit(&images[1]);
}
