#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares resizing and preprocessing of pictures with Pillow, on one core.

usage: peers_image.py RESIZE_BENCH [ROUNDS]

Needs the Python packages `Pillow` and `numpy`. The pictures are drawn here: gradients with
noise, saved as JPEG (quality 90) and PNG. `resize` compares Image.resize of a decoded
picture, whole, with image_resize; `preprocess` the way from the file's bytes to the
normalised floats: convert, resize, crop, scale, normalise, with Pillow and numpy.
"""
import io
import os
import sys
import tempfile

import numpy as np
from PIL import Image

import peers_common

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
SIZES = [(3000, 2000), (1000, 667), (500, 375), (256, 256), (200, 130)]
EDGE = 224


def draw(width, height):
    random = np.random.default_rng(width * 100003 + height)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    smooth = np.stack([x / width * 255, y / height * 255, 127.5 + 127.5 * np.sin(x / 31) * np.cos(y / 17)], 2)
    noise = random.normal(0, 12, (height, width, 3))
    return Image.fromarray((smooth + noise).round().clip(0, 255).astype(np.uint8), "RGB")


def resized(width, height):
    shortest = min(width, height)
    return EDGE * width // shortest, EDGE * height // shortest


def preprocess(data):
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image = image.resize(resized(*image.size), Image.Resampling.BICUBIC)
    left, top = (image.width - EDGE) // 2, (image.height - EDGE) // 2
    image = image.crop((left, top, left + EDGE, top + EDGE))
    pixels = (np.asarray(image).astype(np.float64) * (1 / 255)).astype(np.float32)
    return np.ascontiguousarray(((pixels - MEAN) / STD).transpose(2, 0, 1))


def main(program, rounds=40):
    peers_common.pin()
    rounds = int(rounds)
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            picture = draw(width, height)
            path = os.path.join(folder, "picture.png")
            picture.save(path, compress_level=1)
            target = resized(width, height)
            bench = peers_common.Bench([program, "resize", path, str(target[0]), str(target[1])])
            wanted = int(np.asarray(picture.resize(target, Image.Resampling.BICUBIC)).sum(dtype=np.uint64)) % 2**32
            if bench.run()[1] != wanted:
                raise SystemExit("%d x %d: the resized pictures differ" % (width, height))
            peers_common.compare("resize %d x %d to %d x %d" % (width, height, *target), bench,
                                 lambda: picture.resize(target, Image.Resampling.BICUBIC), rounds)
            bench.close()
        for width, height in SIZES[1:]:
            picture = draw(width, height)
            for name, options in (("jpg", dict(quality=90)), ("png", {})):
                path = os.path.join(folder, "picture." + name)
                picture.save(path, **options)
                with open(path, "rb") as file:
                    data = file.read()
                bench = peers_common.Bench([program, "preprocess", path, str(EDGE)])
                peers_common.compare("preprocess %d x %d %s" % (width, height, name), bench, lambda: preprocess(data),
                                     rounds)
                bench.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
