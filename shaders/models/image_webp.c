// SPDX-License-Identifier: Apache-2.0
// WebP through libwebp; the only door to it.
//
// An animation gives its first frame on a transparent canvas, which is what a viewer
// shows first.

#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

#include "shaders/models/image_internal.h"

static enum status broken(VP8StatusCode code, struct reason *why)
{
    if (code == VP8_STATUS_OUT_OF_MEMORY)
        return reason_set(why, STATUS_NO_MEMORY, IMAGE_FIELD, "no memory to decode WebP");
    const char *text = code == VP8_STATUS_NOT_ENOUGH_DATA || code == VP8_STATUS_SUSPENDED
                           ? "the file ends before its picture does"
                       : code == VP8_STATUS_UNSUPPORTED_FEATURE
                           ? "it uses a feature that libwebp does not know"
                           : "its data make no picture";
    return reason_set(why, STATUS_INVALID, IMAGE_FIELD, "broken WebP: %s", text);
}

// Where a picture goes: `width` x `height` pixels in lines of `pitch` bytes.
struct area {
    enum image_mode mode;
    uint8_t *data;
    size_t pitch;
    uint32_t width;
    uint32_t height;
};

static enum status decode(struct bytes picture, const struct area *area, struct reason *why)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return reason_set(why, STATUS_INTERNAL, IMAGE_FIELD, "libwebp has another version");
    VP8StatusCode code = WebPGetFeatures(picture.data, picture.count, &config.input);
    if (code != VP8_STATUS_OK)
        return broken(code, why);
    if ((uint32_t)config.input.width != area->width ||
        (uint32_t)config.input.height != area->height)
        return broken(VP8_STATUS_BITSTREAM_ERROR, why);

    config.output.colorspace = area->mode == IMAGE_RGBA ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = area->data;
    config.output.u.RGBA.stride = (int)area->pitch;
    config.output.u.RGBA.size =
        area->pitch * (area->height - 1) + (size_t)area->width * image_mode_bytes(area->mode);
    code = WebPDecode(picture.data, picture.count, &config);
    WebPFreeDecBuffer(&config.output);
    return code == VP8_STATUS_OK ? STATUS_OK : broken(code, why);
}

static enum status read_still(struct bytes file, const WebPBitstreamFeatures *features,
                              struct image_raw *raw, struct reason *why)
{
    enum image_mode mode = features->has_alpha ? IMAGE_RGBA : IMAGE_RGB;
    enum status status =
        image_raw_init(raw, (uint64_t)features->width, (uint64_t)features->height, mode, why);
    if (status != STATUS_OK)
        return status;
    const struct area area = {mode, raw->data, (size_t)raw->width * image_mode_bytes(mode),
                              raw->width, raw->height};
    return decode(file, &area, why);
}

static enum status read_frame(const WebPIterator *frame, struct image_raw *raw, struct reason *why)
{
    uint64_t right = (uint64_t)frame->x_offset + (uint64_t)frame->width;
    uint64_t bottom = (uint64_t)frame->y_offset + (uint64_t)frame->height;
    if (frame->x_offset < 0 || frame->y_offset < 0 || right > raw->width || bottom > raw->height)
        return reason_set(why, STATUS_INVALID, IMAGE_FIELD,
                          "broken WebP: its first frame lies outside of the picture");
    size_t pitch = (size_t)raw->width * 4;
    memset(raw->data, 0, pitch * raw->height);
    uint8_t *data = raw->data + (size_t)frame->y_offset * pitch + (size_t)frame->x_offset * 4;
    const struct area area = {IMAGE_RGBA, data, pitch, (uint32_t)frame->width,
                              (uint32_t)frame->height};
    struct bytes picture = {frame->fragment.bytes, frame->fragment.size};
    return decode(picture, &area, why);
}

static enum status read_animation(WebPDemuxer *demuxer, struct image_raw *raw, struct reason *why)
{
    enum status status =
        image_raw_init(raw, WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_WIDTH),
                       WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_HEIGHT), IMAGE_RGBA, why);
    if (status != STATUS_OK)
        return status;
    WebPIterator frame;
    if (!WebPDemuxGetFrame(demuxer, 1, &frame))
        return reason_set(why, STATUS_INVALID, IMAGE_FIELD, "broken WebP: it has no frame");
    status = read_frame(&frame, raw, why);
    WebPDemuxReleaseIterator(&frame);
    return status;
}

static uint32_t find_orientation(const WebPDemuxer *demuxer)
{
    WebPChunkIterator chunk;
    uint32_t orientation = 1;
    if (WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk)) {
        orientation = image_exif_orientation((struct bytes){chunk.chunk.bytes, chunk.chunk.size});
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    return orientation;
}

enum status image_webp_read(struct bytes file, struct image_raw *raw, struct reason *why)
{
    WebPBitstreamFeatures features;
    VP8StatusCode code = WebPGetFeatures(file.data, file.count, &features);
    if (code != VP8_STATUS_OK)
        return broken(code, why);
    enum status status = image_check_size((uint64_t)features.width, (uint64_t)features.height, why);
    if (status != STATUS_OK)
        return status;

    WebPData data = {file.data, file.count};
    WebPDemuxer *demuxer = WebPDemux(&data);
    if (features.has_animation && !demuxer)
        return broken(VP8_STATUS_NOT_ENOUGH_DATA, why);
    status = features.has_animation ? read_animation(demuxer, raw, why)
                                    : read_still(file, &features, raw, why);
    if (status == STATUS_OK && demuxer)
        raw->orientation = find_orientation(demuxer);
    WebPDemuxDelete(demuxer);
    return status;
}
