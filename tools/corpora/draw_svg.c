// SPDX-License-Identifier: Apache-2.0
// Draws SVG documents as PNG pictures over white, for corpora of icons (icons.py).
//
// usage: draw_svg SIZE < DOCUMENTS > PICTURES
//
// DOCUMENTS are SVG, each ended by a zero byte. For each one comes out a length, u32 little-endian,
// and so many bytes of PNG, SIZE x SIZE pixels, RGB. The length is 0 where a document cannot be
// read or shows next to nothing: icons without ink are found in every large set.
//
// One process for all, since starting librsvg takes a hundred times longer than an icon.
// A document cannot make it read files: none has an address that a link could be relative to.

#include <librsvg/rsvg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_MAX_PIXELS 4096
#define DOCUMENT_BYTES_MAX (16 << 20)
#define INK 32        // alpha of a pixel that can be seen
#define INK_PIXELS 60 // that many of 64 x 64 must be more
#define INK_AREA 4096

struct picture {
    unsigned char *data;
    size_t count;
    size_t room;
};

static _Noreturn void fail(const char *what)
{
    (void)fprintf(stderr, "draw_svg: %s\n", what);
    _Exit(1);
}

static cairo_status_t append(void *context, const unsigned char *data, unsigned int length)
{
    struct picture *picture = context;
    if (picture->room - picture->count < length) {
        size_t room = 2 * (picture->room + length);
        unsigned char *grown = realloc(picture->data, room);
        if (!grown)
            return CAIRO_STATUS_NO_MEMORY;
        picture->data = grown;
        picture->room = room;
    }
    memcpy(picture->data + picture->count, data, length);
    picture->count += length;
    return CAIRO_STATUS_SUCCESS;
}

// Draws on a transparent surface; false for a document that is none.
static bool draw(const char *document, size_t length, cairo_t *context, int size)
{
    GError *error = NULL;
    RsvgHandle *handle = rsvg_handle_new_from_data((const guint8 *)document, length, &error);
    if (!handle) {
        g_clear_error(&error);
        return false;
    }
    const RsvgRectangle whole = {0, 0, size, size};
    gboolean drawn = rsvg_handle_render_document(handle, context, &whole, &error);
    g_clear_error(&error);
    g_object_unref(handle);
    return drawn;
}

static bool has_ink(cairo_surface_t *surface, int size)
{
    const unsigned char *data = cairo_image_surface_get_data(surface);
    int stride = cairo_image_surface_get_stride(surface);
    long seen = 0;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            uint32_t pixel;
            memcpy(&pixel, data + (size_t)y * (size_t)stride + (size_t)x * 4, 4);
            seen += pixel >> 24 > INK;
        }
    return seen * INK_AREA > (long)INK_PIXELS * size * size;
}

// Writes the surface without its alpha, which is 255 everywhere.
static void encode(cairo_surface_t *surface, int size, struct picture *picture)
{
    cairo_surface_flush(surface);
    cairo_surface_t *opaque = cairo_image_surface_create_for_data(
        cairo_image_surface_get_data(surface), CAIRO_FORMAT_RGB24, size, size,
        cairo_image_surface_get_stride(surface));
    if (cairo_surface_write_to_png_stream(opaque, append, picture) != CAIRO_STATUS_SUCCESS)
        fail("a picture cannot be encoded");
    cairo_surface_destroy(opaque);
}

static void picture_of(const char *document, size_t length, int size, struct picture *picture)
{
    picture->count = 0;
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_ARGB32, size, size);
    cairo_t *context = cairo_create(surface);
    if (cairo_status(context) != CAIRO_STATUS_SUCCESS)
        fail("no memory for a picture");
    bool drawn = draw(document, length, context, size);
    cairo_surface_flush(surface);
    if (drawn && has_ink(surface, size)) {
        cairo_set_operator(context, CAIRO_OPERATOR_DEST_OVER);
        cairo_set_source_rgb(context, 1, 1, 1);
        cairo_paint(context);
        encode(surface, size, picture);
    }
    cairo_destroy(context);
    cairo_surface_destroy(surface);
}

static void write_picture(const struct picture *picture)
{
    unsigned char length[4];
    for (int i = 0; i < 4; i++)
        length[i] = (unsigned char)(picture->count >> (8 * i) & 0xff);
    if (fwrite(length, 1, 4, stdout) != 4 ||
        fwrite(picture->data, 1, picture->count, stdout) != picture->count)
        fail("cannot write the pictures");
}

int main(int argc, char **argv)
{
    char *end = NULL;
    long size = argc == 2 ? strtol(argv[1], &end, 10) : 0;
    if (size < 1 || size > SIZE_MAX_PIXELS || *end) {
        (void)fprintf(stderr, "usage: %s SIZE < DOCUMENTS > PICTURES; SIZE is 1 to %d\n", argv[0],
                      SIZE_MAX_PIXELS);
        return 2;
    }

    struct picture picture = {.count = 0};
    char *document = NULL;
    size_t room = 0;
    ssize_t length;
    while ((length = getdelim(&document, &room, 0, stdin)) > 0) {
        size_t bytes = (size_t)length - (document[length - 1] == 0);
        picture.count = 0;
        if (bytes <= DOCUMENT_BYTES_MAX)
            picture_of(document, bytes, (int)size, &picture);
        write_picture(&picture);
    }
    free(document);
    free(picture.data);
    return fflush(stdout) == 0 && !ferror(stdin) ? 0 : 1;
}
