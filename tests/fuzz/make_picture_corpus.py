#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of the fuzz targets image, image_params, tokenizer and vocabulary.

usage: make_picture_corpus.py CORPUS_FOLDER

Needs the Python package `Pillow`. The pictures are a few pixels each, drawn here; the first
byte of an image seed picks the profile.
"""
import io
import os
import struct
import sys
import zlib

from PIL import Image


def pattern(mode, width=13, height=9):
    bands = len(Image.new(mode, (1, 1)).getbands())
    data = bytes((x * 19 + y * 7 + c * 85) % 256 for y in range(height) for x in range(width) for c in range(bands))
    return Image.frombytes(mode, (width, height), data)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(width, height, depth, colour, rows, chunks=(), interlace=0):
    """A PNG of any header, which Pillow does not write."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
    body = b"".join(chunk(name, data) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def images():
    rgb, rgba = pattern("RGB"), pattern("RGBA")
    palette = rgb.quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "rgb.png", saved(rgb, "PNG")
    yield "rgba.png", saved(rgba, "PNG")
    yield "grey-alpha.png", saved(pattern("LA"), "PNG")
    yield "bilevel.png", saved(pattern("L").convert("1"), "PNG")
    yield "palette.png", saved(palette, "PNG", transparency=bytes(range(0, 160, 10)))
    yield "exif.png", saved(rgb, "PNG", exif=exif)
    yield "grey16.png", png(5, 3, 16, 0, b"".join(b"\0" + bytes(range(r, r + 10)) for r in (0, 60, 120)),
                            [(b"tRNS", b"\0\1")])
    yield "rgba16.png", png(2, 2, 16, 6, b"".join(b"\0" + bytes(range(r, r + 16)) for r in (0, 60)))
    yield "colour-key.png", png(2, 2, 8, 2, b"\0\1\2\3\4\5\6\0\1\2\3\7\7\7", [(b"tRNS", b"\0\1\0\2\0\3")])
    # Passes 1, 6 and 7 are the only ones that a picture of 2 x 2 pixels has.
    yield "interlaced.png", png(2, 2, 8, 0, b"\0\x10" b"\0\x20" b"\0\x30\x40", interlace=1)
    yield "animated.png", saved(rgb, "PNG", save_all=True, append_images=[rgb.rotate(180)])
    yield "huge-header.png", png(60000, 60000, 8, 2, b"\0" * 100)
    yield "baseline.jpg", saved(rgb, "JPEG", quality=60, exif=exif)
    yield "progressive.jpg", saved(rgb, "JPEG", quality=60, progressive=True)
    yield "grey.jpg", saved(pattern("L"), "JPEG", quality=60)
    yield "cmyk.jpg", saved(pattern("CMYK"), "JPEG", quality=60)
    yield "restart.jpg", saved(pattern("RGB", 40, 40), "JPEG", quality=30, restart_marker_blocks=2)
    yield "lossless.webp", saved(rgba, "WEBP", lossless=True, exact=True)
    yield "lossy.webp", saved(rgb, "WEBP", quality=50)
    yield "lossy-alpha.webp", saved(rgba, "WEBP", quality=50, exif=exif)
    yield "animated.webp", saved(rgba, "WEBP", save_all=True, append_images=[rgba.rotate(180)], lossless=True)
    yield "palette.gif", saved(palette, "GIF")
    yield "interlaced.gif", saved(palette, "GIF", interlace=1, transparency=3)
    yield "grey.gif", saved(pattern("L"), "GIF")
    yield "animated.gif", saved(palette, "GIF", save_all=True, append_images=[palette.rotate(180)], duration=40)
    # A frame that hangs over a smaller screen.
    offset = bytearray(saved(pattern("L", 4, 4), "GIF"))
    offset[6:10] = struct.pack("<HH", 2, 2)
    yield "overhanging.gif", bytes(offset)


PARAMS = {
    "clip.json": b'{"do_center_crop":true,"do_normalize":true,"do_resize":true,"size":224,"crop_size":224,"resample":3,'
                 b'"image_mean":[0.48145466,0.4578275,0.40821073],"image_std":[0.26862954,0.26130258,0.27577711]}',
    "objects.json": b'{"image_processor_type":"CLIPImageProcessorFast","size":{"shortest_edge":224},'
                    b'"crop_size":{"height":224,"width":224},"rescale_factor":0.00392156862745098,"do_pad":null}',
    "empty.json": b"{}",
    "wrong.json": b'{"size":{"height":224,"width":224},"image_std":[0,1,2],"resample":"3"}',
}

TEXTS = {
    "plain": b"a photo of a cat, don't you think? 2019",
    "entities": b"&amp;amp; &lt;b&gt; &#x41;&#128512;&#0;&#xD800;&notit; &CounterClockwiseContourIntegral; & &#; &acE;",
    "scripts": "ΣΑΣ ΟΔΟΣ İstanbul ẞ 日本語 Привет שלום हिन्दी 👩‍👩‍👧 ½Ⅳ".encode(),
    "special": "<|startoftext|>a<|ENDOFTEXT|> <|endoftext| 'S 'll 'ſ \u0345\u1c80\u2028".encode(),
    "invalid": b"\xff\xfe\xc0\x80\xe2\x82\xf0\x9f\x98\xed\xa0\x80\xf4\x90\x80\x80a\x80",
    "spaces": b" \t\n\x1c\x1d a\x1cb \xc2\xa0\xe3\x80\x80c\x0b\x00d ",
    "long-word": b"ab" * 300 + b"!" * 200,
}

VOCABULARIES = {
    "small": b'@,"ab":514,"abc</w>":515\0#version: 0.2\na b\nab c</w>\n',
    "twice": b'@,"ab":514\0a b\na b\n',
    "unknown": b'@,"ab":515\0a b\r\nb c\n',
    "not-an-object": b"[1,2]\0",
    "hole": b'{"a":0,"b":2}\0a b',
    "merge-shapes": b'@,"ab":514\0a\n a b\na  b\na b c\n\n',
}


def write(folder, items):
    os.makedirs(folder, exist_ok=True)
    for name, data in items:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)


def main(folder):
    write(os.path.join(folder, "image"), ((name, bytes([i % 3]) + data) for i, (name, data) in enumerate(images())))
    write(os.path.join(folder, "image_params"), PARAMS.items())
    write(os.path.join(folder, "tokenizer"), TEXTS.items())
    write(os.path.join(folder, "vocabulary"), VOCABULARIES.items())


if __name__ == "__main__":
    main(*sys.argv[1:])
