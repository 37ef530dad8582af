// SPDX-License-Identifier: Apache-2.0
// The first frame of a GIF through giflib; the only door to it.
//
// The frame lies on the logical screen, which grows when the frame is larger; what it
// does not cover is transparent when the frame has a transparent colour, else colour
// 0. A palette that is a plain ramp of grey makes a grey picture. All as in Pillow.

#include <assert.h>
#include <string.h>

#include <gif_lib.h>

#include "shaders/models/image_internal.h"

struct source {
    struct bytes file;
    size_t at;
};

static int on_read(GifFileType *gif, GifByteType *out, int count)
{
    struct source *source = gif->UserData;
    size_t left = source->file.count - source->at;
    size_t taken = (size_t)count < left ? (size_t)count : left;
    memcpy(out, source->file.data + source->at, taken);
    source->at += taken;
    return (int)taken;
}

static enum status broken(int error, struct reason *why)
{
    if (error == D_GIF_ERR_NOT_ENOUGH_MEM)
        return reason_set(why, STATUS_NO_MEMORY, IMAGE_FIELD, "no memory to decode GIF");
    if (error == D_GIF_ERR_READ_FAILED || error == D_GIF_ERR_EOF_TOO_SOON)
        return reason_set(why, STATUS_INVALID, IMAGE_FIELD,
                          "broken GIF: the file ends before its picture does");
    const char *text = GifErrorString(error);
    return reason_set(why, STATUS_INVALID, IMAGE_FIELD, "broken GIF: %s",
                      text ? text : "its data make no picture");
}

// --- records before the first frame

static enum status read_extension(GifFileType *gif, int *transparent, struct reason *why)
{
    int code = 0;
    GifByteType *block = NULL;
    if (DGifGetExtension(gif, &code, &block) != GIF_OK)
        return broken(gif->Error, why);
    GraphicsControlBlock control;
    if (code == GRAPHICS_EXT_FUNC_CODE && block && block[0] == 4 &&
        DGifExtensionToGCB(4, block + 1, &control) == GIF_OK &&
        control.TransparentColor != NO_TRANSPARENT_COLOR)
        *transparent = control.TransparentColor;
    while (block) {
        if (DGifGetExtensionNext(gif, &block) != GIF_OK)
            return broken(gif->Error, why);
    }
    return STATUS_OK;
}

// Reads up to the description of the first frame.
static enum status find_frame(GifFileType *gif, int *transparent, struct reason *why)
{
    for (;;) {
        GifRecordType type = UNDEFINED_RECORD_TYPE;
        if (DGifGetRecordType(gif, &type) != GIF_OK)
            return broken(gif->Error, why);
        if (type == IMAGE_DESC_RECORD_TYPE)
            return DGifGetImageDesc(gif) == GIF_OK ? STATUS_OK : broken(gif->Error, why);
        if (type != EXTENSION_RECORD_TYPE)
            return reason_set(why, STATUS_INVALID, IMAGE_FIELD, "broken GIF: it has no frame");
        enum status status = read_extension(gif, transparent, why);
        if (status != STATUS_OK)
            return status;
    }
}

// --- palette

// Whether each colour is the grey of its own number.
static bool is_grey_ramp(const ColorMapObject *map)
{
    for (int i = 0; map && i < map->ColorCount; i++) {
        const GifColorType *colour = &map->Colors[i];
        if (colour->Red != i || colour->Green != i || colour->Blue != i)
            return false;
    }
    return true;
}

static void fill_palette(const ColorMapObject *map, int transparent, struct image_raw *raw)
{
    for (int i = 0; map && i < map->ColorCount && i < 256; i++) {
        uint8_t *entry = raw->palette[i];
        entry[0] = map->Colors[i].Red;
        entry[1] = map->Colors[i].Green;
        entry[2] = map->Colors[i].Blue;
    }
    if (transparent >= 0 && transparent < 256)
        raw->palette[transparent][3] = 0;
}

// --- pixels

static enum status read_rows(GifFileType *gif, struct image_raw *raw, struct reason *why)
{
    static const struct {
        uint32_t first;
        uint32_t step;
    } passes[] = {{0, 1}, {0, 8}, {4, 8}, {2, 4}, {1, 2}};

    const GifImageDesc *frame = &gif->Image;
    size_t from = frame->Interlace ? 1 : 0;
    size_t to = frame->Interlace ? 5 : 1;
    for (size_t pass = from; pass < to; pass++) {
        for (uint32_t y = passes[pass].first; y < (uint32_t)frame->Height; y += passes[pass].step) {
            uint8_t *row = raw->data + ((size_t)frame->Top + y) * raw->width + (size_t)frame->Left;
            if (DGifGetLine(gif, row, frame->Width) != GIF_OK)
                return broken(gif->Error, why);
        }
    }
    return STATUS_OK;
}

static enum status read_frame(GifFileType *gif, enum image_profile profile, struct image_raw *raw,
                              struct reason *why)
{
    int transparent = NO_TRANSPARENT_COLOR;
    enum status status = find_frame(gif, &transparent, why);
    if (status != STATUS_OK)
        return status;

    // All from 16-bit fields.
    const GifImageDesc *frame = &gif->Image;
    uint64_t right = (uint64_t)frame->Left + (uint64_t)frame->Width;
    uint64_t bottom = (uint64_t)frame->Top + (uint64_t)frame->Height;
    uint64_t width = right > (uint64_t)gif->SWidth ? right : (uint64_t)gif->SWidth;
    uint64_t height = bottom > (uint64_t)gif->SHeight ? bottom : (uint64_t)gif->SHeight;
    status = image_check_size((uint64_t)frame->Width, (uint64_t)frame->Height, why);
    if (status == STATUS_OK)
        status = image_raw_init(raw, width, height, IMAGE_PALETTE, why);
    if (status != STATUS_OK)
        return status;

    const ColorMapObject *map = frame->ColorMap ? frame->ColorMap : gif->SColorMap;
    if (is_grey_ramp(map) && profile == IMAGE_PROFILE_OPENAI)
        raw->mode = IMAGE_GREY;
    fill_palette(map, transparent, raw);
    memset(raw->data, transparent == NO_TRANSPARENT_COLOR ? 0 : transparent,
           (size_t)width * height);
    return read_rows(gif, raw, why);
}

enum status image_gif_read(struct bytes file, enum image_profile profile, struct image_raw *raw,
                           struct reason *why)
{
    struct source source = {.file = file};
    int error = 0;
    GifFileType *gif = DGifOpen(&source, on_read, &error);
    if (!gif)
        return broken(error, why);
    enum status status = read_frame(gif, profile, raw, why);
    (void)DGifCloseFile(gif, &error);
    return status;
}
