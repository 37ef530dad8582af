#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The icon corpus: drawn from packages, built into a memory (tools/corpora).

usage: corpora.py PROGRAM_DIR

Goal: every icon that shows something and may be used becomes a record with its words; what cannot be drawn,
is empty, is hidden or has a licence that we do not take is left out; the same packages give the same bytes.

Method: packages of a few icons made here, laid out as npm lays them. Skipped where draw_svg is not built, since
librsvg is missing.
"""
import json
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
CIRCLE = '<circle cx="8" cy="8" r="7" fill="%s"/>'
PROGRAMS = None  # set by main()


def about(licence, **more):
    return {"name": "A set", "author": {"name": "Someone"}, "license": {"spdx": licence}, "category": "UI", **more}


def write_packages(folder):
    sets = {
        "plain": (about("MIT"), {"red-ball": {"body": CIRCLE % "red"}, "ball": {"body": CIRCLE % "#00f"},
                                 "empty": {"body": ""}, "broken": {"body": "<g"},
                                 "secret": {"body": CIRCLE % "red", "hidden": True}}),
        "noto": (about("Apache-2.0", category="Emoji"), {"red-circle": {"body": CIRCLE % "red", "width": 32}}),
        "copyleft": (about("GPL-3.0"), {"ball": {"body": CIRCLE % "red"}}),
        "unpaid": (about("CC-BY-NC-4.0"), {"ball": {"body": CIRCLE % "red"}}),
    }
    json_folder = folder / "@iconify" / "json" / "json"
    json_folder.mkdir(parents=True)
    (folder / "emojibase-data" / "en").mkdir(parents=True)
    for name, (_, icons) in sets.items():
        (json_folder / (name + ".json")).write_text(json.dumps({"prefix": name, "icons": icons}))
    (json_folder.parent / "collections.json").write_text(json.dumps({name: entry[0] for name, entry in sets.items()}))
    (folder / "emojibase-data" / "en" / "data.json").write_text(json.dumps(
        [{"hexcode": "1F534", "label": "red circle", "tags": ["geometric", "red"]}]))


class Icons(unittest.TestCase):
    def build(self, folder, name):
        out = folder / name
        done = subprocess.run([sys.executable, HERE.parent.parent / "tools" / "corpora" / "icons.py", out, "--program",
                               PROGRAMS / "draw_svg", "--packages", folder / "node_modules"], capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return out, done.stdout

    def test_becomes_a_memory(self):
        with tempfile.TemporaryDirectory(prefix="reco-corpora-") as top:
            folder = Path(top)
            write_packages(folder / "node_modules")
            out, said = self.build(folder, "icons")
            self.assertIn("3 pairs of 2 sets", said)
            self.assertIn("2 icons show nothing", said)
            with tarfile.open(out / "icons-000.tar") as tar:
                words = [json.loads(tar.extractfile(member).read()) for member in tar if member.name.endswith("json")]
            self.assertEqual([(word["key"], word["caption"]) for word in words],
                             [("noto/red-circle", "red circle, geometric, red"), ("plain/ball", "ball"),
                              ("plain/red-ball", "red ball")])
            sources = json.loads((out / "sources.json").read_text())
            self.assertEqual({name: (source["licence"], source["icons"]) for name, source in sources.items()},
                             {"noto": ("Apache-2.0", 1), "plain": ("MIT", 2)})
            again, _ = self.build(folder, "again")
            self.assertEqual((out / "icons-000.tar").read_bytes(), (again / "icons-000.tar").read_bytes())

            done = subprocess.run([PROGRAMS / "reco", "memory", "build", "icons", out, "--data", folder / "data"],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("3 records", done.stdout)
            done = subprocess.run([PROGRAMS / "reco", "search", "--text", "red ball", "--memory", "icons", "--json",
                                   "--filter", "tag=set:plain", "--data", folder / "data"], capture_output=True,
                                  text=True, check=False)
            self.assertEqual({one["key"] for one in json.loads(done.stdout)["neighbours"]},
                             {"plain/ball", "plain/red-ball"})


def main():
    global PROGRAMS
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    PROGRAMS = Path(sys.argv[1]).resolve()
    if not (PROGRAMS / "draw_svg").exists():
        print("skipped: draw_svg is not built, librsvg2-dev is missing")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)


if __name__ == "__main__":
    main()
