#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the icon corpus: some 375,000 drawings with their names, from npm packages.

usage: icons.py OUT [--program DRAW_SVG] [--packages NODE_MODULES] [--size PIXELS] [--limit N]

Installs the packages of package-lock.json (exact versions, their hashes checked by npm) into OUT/packages, draws
each icon with DRAW_SVG (built where librsvg is; default: draw_svg of build/release or build/dev) and
writes OUT/icons-000.tar and so on, webdataset with PNG and JSON, which `reco memory build` reads, and
OUT/sources.json, who made what under which licence.

Sets under the GPL and those not for commercial use are left out, and hidden and empty icons. The key of an
icon is SET/NAME, its caption the name with spaces, its tags are its set and the set's category; an emoji of the
sets that draw emoji has the caption "name, tag, tag" of emojibase. The same packages give the same bytes.
"""
import argparse
import io
import json
import re
import struct
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAIRS_PER_TAR = 20000
REFUSED = re.compile("GPL|-NC-")
EMOJI = ["noto", "noto-v1", "twemoji", "emojione", "fxemoji", "streamline-emojis", "fluent-emoji", "openmoji",
         "emojione-v1"]
SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def install(out):
    """npm's packages in OUT/packages/node_modules."""
    folder = out / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules" / "@iconify" / "json" / "collections.json").exists():
        for name in ("package.json", "package-lock.json"):
            (folder / name).write_bytes((HERE / name).read_bytes())
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return folder / "node_modules"


def find_program():
    for preset in ("release", "dev"):
        path = HERE.parent.parent / "build" / preset / "bin" / "draw_svg"
        if path.exists():
            return path
    sys.exit("draw_svg is not built: install librsvg2-dev and build again, or name it with --program")


def emoji_captions(modules):
    """Captions by the words of a name: {"grinning face": "grinning face, cheerful, ..."}."""
    captions = {}
    for entry in read_json(modules / "emojibase-data" / "en" / "data.json"):
        if not SKIN_TONES & set(entry["hexcode"].lower().split("-")):
            words = re.sub("[^a-z0-9]+", " ", entry["label"].lower().replace("\u2019", "")).strip()
            captions[words] = ", ".join([entry["label"], *entry.get("tags", [])])
    return captions


def document_of(icons, drawing, size):
    left, top, width, height = (drawing.get(field, icons.get(field, default)) for field, default in (
        ("left", 0), ("top", 0), ("width", 16), ("height", 16)))
    return ('<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            'viewBox="%s %s %s %s" width="%d" height="%d">%s</svg>' % (
                left, top, width, height, size, size, drawing["body"]))


class Corpus:
    def __init__(self, modules):
        self.folder = modules / "@iconify" / "json"
        self.captions = emoji_captions(modules)
        self.about = {name: about for name, about in sorted(read_json(self.folder / "collections.json").items())
                      if not REFUSED.search(about["license"].get("spdx", "GPL"))}
        self.counts = dict.fromkeys(self.about, 0)

    def icons(self, size):
        """(set, name, SVG) of all, in order."""
        for name in self.about:
            icons = read_json(self.folder / "json" / (name + ".json"))
            for icon, drawing in sorted(icons["icons"].items()):
                if not drawing.get("hidden"):
                    yield name, icon, document_of(icons, drawing, size)

    def words_about(self, name, icon):
        words = icon.replace("-", " ")
        caption = self.captions.get(words, words) if name in EMOJI else words
        tags = ["set:" + name, "category:" + self.about[name].get("category", "none")]
        return {"key": name + "/" + icon, "caption": caption, "tags": tags, "source": "iconify:" + name + ":" + icon}

    def sources(self):
        return {name: {"title": about["name"], "author": about["author"]["name"], "icons": self.counts[name],
                       "licence": about["license"]["spdx"], "url": about["author"].get("url", "")}
                for name, about in self.about.items()}


class Painter:
    """draw_svg, fed by a thread of its own so that neither side waits for the other for ever."""

    def __init__(self, program, size):
        self.process = subprocess.Popen([str(program), str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def draw(self, documents):
        def feed():
            try:
                for document in documents:
                    self.process.stdin.write(document.encode().replace(b"\0", b"") + b"\0")
                self.process.stdin.close()
            except BrokenPipeError:
                pass  # it ended; the reader says so

        threading.Thread(target=feed, daemon=True).start()
        while length := self.process.stdout.read(4):
            yield self.process.stdout.read(struct.unpack("<I", length)[0])
        if self.process.wait() != 0:
            sys.exit("draw_svg failed")


class Tars:
    def __init__(self, out):
        self.out, self.count, self.tar, self.path = out, 0, None, None

    def add(self, pair):
        if self.count % PAIRS_PER_TAR == 0:
            self.end()
            self.path = self.out / ("icons-%03d.tar" % (self.count // PAIRS_PER_TAR))
            self.tar = tarfile.open(str(self.path) + ".tmp", "w", format=tarfile.USTAR_FORMAT)
        for ending, data in pair:
            entry = tarfile.TarInfo("%08d.%s" % (self.count, ending))
            entry.size, entry.mode = len(data), 0o644
            self.tar.addfile(entry, io.BytesIO(data))
        self.count += 1

    def end(self):
        if self.tar:
            self.tar.close()
            Path(str(self.path) + ".tmp").replace(self.path)
            self.tar = None


def main():
    parser = argparse.ArgumentParser(description="builds the icon corpus")
    parser.add_argument("out", type=Path)
    parser.add_argument("--program", type=Path)
    parser.add_argument("--packages", type=Path, help="a folder node_modules that is there already")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--limit", type=int, default=0, help="of icons, spread over all sets")
    arguments = parser.parse_args()
    program = arguments.program or find_program()
    arguments.out.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(arguments.packages or install(arguments.out))
    chosen = list(corpus.icons(arguments.size))
    if arguments.limit and arguments.limit < len(chosen):
        chosen = [chosen[i * len(chosen) // arguments.limit] for i in range(arguments.limit)]

    tars = Tars(arguments.out)
    pictures = Painter(program, arguments.size).draw(document for _, _, document in chosen)
    read = 0
    for (name, icon, _), picture in zip(chosen, pictures):
        read += 1
        if picture:
            words = json.dumps(corpus.words_about(name, icon), ensure_ascii=False).encode()
            tars.add([("png", picture), ("json", words)])
            corpus.counts[name] += 1
        if read % 10000 == 0:
            print("%d of %d" % (read, len(chosen)), file=sys.stderr, flush=True)
    tars.end()
    if read != len(chosen):
        sys.exit("draw_svg gave %d pictures of %d" % (read, len(chosen)))
    (arguments.out / "sources.json").write_text(json.dumps(corpus.sources(), indent=1, ensure_ascii=False) + "\n",
                                                encoding="utf-8")
    print("%d pairs of %d sets in %s; %d icons show nothing" % (
        tars.count, sum(count > 0 for count in corpus.counts.values()), arguments.out, read - tars.count))


if __name__ == "__main__":
    main()
