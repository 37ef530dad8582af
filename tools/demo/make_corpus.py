#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the demo corpus: a memory of emoji in six styles, and queries in a seventh.

usage: make_corpus.py NODE_MODULES OUT_DIR

NODE_MODULES holds emojibase-data 17.0.0 and the @iconify-json packages named in README.md.
Needs Python with Pillow, and librsvg 2 with cairo (Debian: librsvg2-2). Writes memory.tar.gz, queries.tar.gz
and pairs-b.tar.gz (webdataset: NAME.webp and NAME.json), labels-a.txt and labels-c.txt.

The same input gives the same bytes: entries are sorted, times are zero.
"""
import ctypes
import ctypes.util
import gzip
import hashlib
import io
import json
import re
import sys
import tarfile
from pathlib import Path

from PIL import Image

SIZE = 64
MEMORY_STYLES = ["noto", "noto-v1", "twemoji", "emojione", "fxemoji", "streamline-emojis"]
QUERY_STYLE = "fluent-emoji"
# Drawn by at least two of all nine styles: an entity. These two are share-alike:
# they are counted here, and none of their drawings goes into a file.
COUNTED_STYLES = ["openmoji", "emojione-v1"]
SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
COMPONENTS = 2  # emojibase's group of hair, skin tones and regional letters
FOLDED = str.maketrans("ñéôãåíç", "neoaaic", "’'“”")


def code_key(code):
    """1F3F4-200D-2620-FE0F -> 1f3f4-200d-2620"""
    parts = (part.lstrip("0") or "0" for part in code.lower().split("-"))
    return "-".join(part for part in parts if part not in ("fe0f", "fe0e"))


def slug(name):
    return re.sub("[^a-z0-9]+", "-", name.lower().translate(FOLDED)).strip("-")


def split_of(key):
    """A: the encoder learnt from it; B: for fusion heads; C: nobody has seen it."""
    part = int(hashlib.sha256(f"reco-v1:{key}".encode()).hexdigest(), 16) % 100
    return "A" if part < 50 else "B" if part < 70 else "C"


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def read_entities(modules):
    entities = {}
    for entry in read_json(modules / "emojibase-data/en/data.json"):
        key = code_key(entry["hexcode"])
        if entry.get("group", COMPONENTS) == COMPONENTS or SKIN_TONES & set(key.split("-")):
            continue
        entities[key] = {"name": entry["label"], "tags": entry.get("tags", [])}
    return entities


class Style:
    """One family of drawings: which icon draws which entity."""

    def __init__(self, modules, name, entities):
        folder = modules / "@iconify-json" / name
        self.name = name
        self.set = read_json(folder / "icons.json")
        self.icons = {}
        by_slug = {}
        for key, entity in entities.items():
            by_slug[slug(entity["name"])] = key
            by_slug[slug(entity["name"].replace(":", ""))] = key
        by_squashed = {s.replace("-", ""): key for s, key in by_slug.items()} if name == "fxemoji" else {}

        chars = folder / "chars.json"
        for code, icon in (read_json(chars) if chars.exists() else {}).items():
            if code_key(code) in entities:
                self.icons.setdefault(code_key(code), icon)
        for icon in sorted({*self.set["icons"], *self.set.get("aliases", {})}):
            flag = "flag-" + re.sub("^(flag-)?(for-)?", "", icon)
            key = by_slug.get(icon) or by_squashed.get(icon.replace("-", "")) or by_slug.get("flag-" + icon)
            if not key and icon.startswith("flag-for-"):
                key = by_slug.get(flag)
            if key:
                self.icons.setdefault(key, icon)
        self.icons = {key: icon for key, icon in self.icons.items() if self.svg(icon)}

    def svg(self, icon):
        aliases = self.set.get("aliases", {})
        while icon not in self.set["icons"] and icon in aliases:
            icon = aliases[icon]["parent"]
        drawing = self.set["icons"].get(icon)
        if drawing is None:
            return None
        left, top, width, height = (
            drawing.get(field, self.set.get(field, default))
            for field, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16)))
        return (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="{left} {top} {width} {height}" width="{SIZE}" height="{SIZE}">'
                f'{drawing["body"]}</svg>')


class Renderer:
    """librsvg through ctypes: SVG to RGB over white."""

    class Box(ctypes.Structure):
        _fields_ = [(field, ctypes.c_double) for field in ("x", "y", "width", "height")]

    def __init__(self):
        self.rsvg = ctypes.CDLL(ctypes.util.find_library("rsvg-2"))
        self.cairo = ctypes.CDLL(ctypes.util.find_library("cairo"))
        self.gobject = ctypes.CDLL(ctypes.util.find_library("gobject-2.0"))
        self.rsvg.rsvg_handle_new_from_data.restype = ctypes.c_void_p
        for name in ("cairo_image_surface_create", "cairo_create", "cairo_image_surface_get_data"):
            getattr(self.cairo, name).restype = ctypes.c_void_p

    def draw(self, svg):
        """RGB image, or None for a drawing that is blank or cannot be read."""
        data = svg.encode()
        handle = self.rsvg.rsvg_handle_new_from_data(data, ctypes.c_size_t(len(data)), None)
        if not handle:
            return None
        surface = ctypes.c_void_p(self.cairo.cairo_image_surface_create(0, SIZE, SIZE))
        context = ctypes.c_void_p(self.cairo.cairo_create(surface))
        box = self.Box(0, 0, SIZE, SIZE)
        self.rsvg.rsvg_handle_render_document(ctypes.c_void_p(handle), context, ctypes.byref(box), None)
        self.gobject.g_object_unref(ctypes.c_void_p(handle))
        self.cairo.cairo_destroy(context)
        self.cairo.cairo_surface_flush(surface)
        pixels = ctypes.string_at(self.cairo.cairo_image_surface_get_data(surface), SIZE * SIZE * 4)
        self.cairo.cairo_surface_destroy(surface)

        # Premultiplied blue, green, red, alpha; more than 60 pixels must be seen.
        if sum(alpha > 32 for alpha in pixels[3::4]) <= 60:
            return None
        rgb = bytearray(SIZE * SIZE * 3)
        for channel, source in enumerate((2, 1, 0)):
            rgb[channel::3] = bytes(min(255, colour + 255 - alpha)
                                    for colour, alpha in zip(pixels[source::4], pixels[3::4]))
        return Image.frombytes("RGB", (SIZE, SIZE), bytes(rgb))


def add(tar, name, data):
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    entry.mode = 0o644
    tar.addfile(entry, io.BytesIO(data))


def name_and_tags(entity):
    return ", ".join([entity["name"], *entity["tags"]])


def name_alone(entity):
    return entity["name"]


def write_tar(path, styles, keys, entities, images, words=name_and_tags):
    count = 0
    with gzip.GzipFile(path, "wb", compresslevel=9, mtime=0) as packed, \
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key in sorted(keys):
            for style in styles:
                image = images.get((key, style))
                if image is None:
                    continue
                entity = entities[key]
                webp = io.BytesIO()
                image.save(webp, "WEBP", lossless=True, quality=100, method=6)
                caption = {"caption": words(entity),
                           "entity": key, "name": entity["name"], "style": style,
                           "split": split_of(key)}
                add(tar, f"{key}_{style}.webp", webp.getvalue())
                add(tar, f"{key}_{style}.json", json.dumps(caption, ensure_ascii=False).encode())
                count += 1
    return count


def main(modules, out):
    entities = read_entities(modules)
    styles = [Style(modules, name, entities) for name in MEMORY_STYLES + COUNTED_STYLES + [QUERY_STYLE]]
    entities = {key: entity for key, entity in entities.items()
                if sum(key in style.icons for style in styles) >= 2}
    renderer = Renderer()
    images = {}
    for style in styles:
        if style.name in COUNTED_STYLES:
            continue
        for key in sorted(style.icons.keys() & entities.keys()):
            images[key, style.name] = renderer.draw(style.svg(style.icons[key]))

    memory = write_tar(out / "memory.tar.gz", MEMORY_STYLES, entities, entities, images)
    in_memory = {key for key, style in images if style != QUERY_STYLE and images[key, style]}
    asked = [key for key in entities if split_of(key) in "AC" and key in in_memory]
    queries = write_tar(out / "queries.tar.gz", [QUERY_STYLE], asked, entities, images)
    taught = [key for key in entities if split_of(key) == "B" and key in in_memory]
    pairs = write_tar(out / "pairs-b.tar.gz", [QUERY_STYLE], taught, entities, images, name_alone)
    for split in "AC":
        names = [entities[key]["name"] for key in sorted(entities) if split_of(key) == split]
        assert len(names) == len(set(names))
        text = "".join(f"{name}\n" for name in names)
        (out / f"labels-{split.lower()}.txt").write_text(text, encoding="utf-8")
        print(f"labels-{split.lower()}.txt: {len(names)} names")
    print(f"memory.tar.gz: {memory} pairs of {len(entities)} entities; queries.tar.gz: {queries} pictures; "
          f"pairs-b.tar.gz: {pairs} pairs")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
