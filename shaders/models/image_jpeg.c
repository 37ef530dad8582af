// SPDX-License-Identifier: Apache-2.0
// JPEG through libjpeg-turbo; the only door to it.
//
// The library reports an error by longjmp to the one setjmp in run(). Everything that
// must be freed lives in struct reader, outside of the frames that are left.
//
// A file that ends early is an error, as in Pillow: the library would paint the
// rest grey. Damage inside the data that the library bridges is accepted, as in
// Pillow. A progressive file is decoded scan by scan, each over all blocks, so that their
// number is limited.

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "shaders/models/image_internal.h"

#define EXIF_MARKER (JPEG_APP0 + 1)
#define MARKER_BYTES_MAX 0xFFFF

struct reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    struct bytes file;
    struct image_raw *raw;
    enum status status; // of what this file decided; the reason is written
    struct reason *why;
};

static void fail_with(struct reader *reader, enum status status)
{
    reader->status = status;
    longjmp(reader->escape, 1);
}

static void on_error(j_common_ptr common)
{
    struct reader *reader = common->client_data;
    char text[JMSG_LENGTH_MAX];
    common->err->format_message(common, text);
    bool no_memory = common->err->msg_code == JERR_OUT_OF_MEMORY;
    fail_with(reader, reason_set(reader->why, no_memory ? STATUS_NO_MEMORY : STATUS_INVALID,
                                 IMAGE_FIELD, "broken JPEG: %s", text));
}

static void on_message(j_common_ptr common, int level)
{
    struct reader *reader = common->client_data;
    if (level < 0 && common->err->msg_code == JWRN_JPEG_EOF)
        fail_with(reader, reason_set(reader->why, STATUS_INVALID, IMAGE_FIELD,
                                     "broken JPEG: the file ends before its picture does"));
}

static void on_progress(j_common_ptr common)
{
    struct reader *reader = common->client_data;
    if (common->is_decompressor && reader->jpeg.input_scan_number > IMAGE_JPEG_SCANS_MAX)
        fail_with(reader, reason_set(reader->why, STATUS_INVALID, IMAGE_FIELD,
                                     "JPEG with more than %d scans", IMAGE_JPEG_SCANS_MAX));
}

static uint32_t find_orientation(const struct jpeg_decompress_struct *jpeg)
{
    for (jpeg_saved_marker_ptr marker = jpeg->marker_list; marker; marker = marker->next) {
        if (marker->data_length >= 6 && memcmp(marker->data, "Exif\0\0", 6) == 0)
            return image_exif_orientation((struct bytes){marker->data, marker->data_length});
    }
    return 1;
}

static enum image_mode choose_mode(struct jpeg_decompress_struct *jpeg)
{
    if (jpeg->jpeg_color_space == JCS_GRAYSCALE) {
        jpeg->out_color_space = JCS_GRAYSCALE;
        return IMAGE_GREY;
    }
    if (jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK) {
        jpeg->out_color_space = JCS_CMYK;
        return IMAGE_CMYK;
    }
    jpeg->out_color_space = JCS_RGB;
    return IMAGE_RGB;
}

// Four-colour files hold the lack of ink, as Adobe's programs write them.
static void invert(struct image_raw *raw)
{
    size_t count = (size_t)raw->width * raw->height * 4;
    for (size_t i = 0; i < count; i++)
        raw->data[i] = (uint8_t)(255 - raw->data[i]);
}

static void read_picture(struct reader *reader)
{
    struct jpeg_decompress_struct *jpeg = &reader->jpeg;
    struct image_raw *raw = reader->raw;
    jpeg_mem_src(jpeg, reader->file.data, (unsigned long)reader->file.count);
    jpeg_save_markers(jpeg, EXIF_MARKER, MARKER_BYTES_MAX);
    (void)jpeg_read_header(jpeg, TRUE);

    enum image_mode mode = choose_mode(jpeg);
    enum status status =
        image_raw_init(raw, jpeg->image_width, jpeg->image_height, mode, reader->why);
    if (status != STATUS_OK)
        fail_with(reader, status);
    raw->orientation = find_orientation(jpeg);

    (void)jpeg_start_decompress(jpeg);
    size_t row_bytes = (size_t)raw->width * image_mode_bytes(mode);
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = raw->data + jpeg->output_scanline * row_bytes;
        (void)jpeg_read_scanlines(jpeg, &row, 1);
    }
    (void)jpeg_finish_decompress(jpeg);
    if (mode == IMAGE_CMYK)
        invert(raw);
}

static void run(struct reader *reader)
{
    if (setjmp(reader->escape) == 0) {
        jpeg_create_decompress(&reader->jpeg);
        reader->jpeg.progress = &reader->progress;
        read_picture(reader);
    }
}

enum status image_jpeg_read(struct bytes file, struct image_raw *raw, struct reason *why)
{
    struct reader reader = {.file = file, .raw = raw, .why = why, .status = STATUS_OK};
    reader.jpeg.err = jpeg_std_error(&reader.errors);
    reader.jpeg.client_data = &reader;
    reader.errors.error_exit = on_error;
    reader.errors.emit_message = on_message;
    reader.progress.progress_monitor = on_progress;
    run(&reader);
    jpeg_destroy_decompress(&reader.jpeg);
    return reader.status;
}
