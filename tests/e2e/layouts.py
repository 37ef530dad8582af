#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Data sets as their makers publish them, from their folder to a figure.

usage: layouts.py PROGRAM_DIR [CLASS[.test] ...]

Goal: `reco eval`, `reco memory build` and `reco train` take the folders that people have downloaded, with names, splits
and prompts that are usual for them, and a row says by hashes which those were; a folder that is not whole is refused.

Method: cli.py's. Miniature trees with the golden drawings in them; the figure of a tree is that of the same pictures
in CLIP_benchmark's layout. What each loader reads is tests/unit/test_dataset_layout.c's.
"""
import hashlib
import json
import re
import shutil
import tempfile
from pathlib import Path

import cli
from cli import IMAGES, Case, reco
from eval import ASKED, HELD, KINDS, classified, kind_of

ROOT = Path(__file__).resolve().parent.parent.parent
WORDS = ROOT / "tools" / "datasets"
PART = f" ({len(KINDS)} of 200 classes)"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def lines_of(words):
    return "".join(f"{word}\n" for word in words)


def put(path, picture=None, text=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if picture:
        shutil.copy(picture, path)
    else:
        path.write_text(text)


def cub(folder):
    """The drawings that ask are the test split, the others the training split."""
    lists = {name: "" for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt")}
    for number, image in enumerate(IMAGES, 1):
        label = KINDS.index(kind_of(image)) + 1
        name = f"{label:03d}.{kind_of(image)}/{image.stem}.png"
        put(folder / "images" / name, image)
        lists["images.txt"] += f"{number} {name}\n"
        lists["image_class_labels.txt"] += f"{number} {label}\n"
        lists["train_test_split.txt"] += f"{number} {int(image not in ASKED)}\n"
    lists["classes.txt"] = "".join(f"{label} {label:03d}.{kind}\n" for label, kind in enumerate(KINDS, 1))
    for name, text in lists.items():
        put(folder / name, text=text)
    return folder


def flickr(folder):
    images = []
    for image in ASKED:
        put(folder / "flickr30k-images" / image.name, image)
        images.append({"filename": image.name, "split": "test", "imgid": len(images), "sentids": [],
                       "sentences": [{"raw": raw, "tokens": raw.split()} for raw in (kind_of(image), f"a {kind_of(image)} .")]})
    put(folder / "dataset_flickr30k.json", text=json.dumps({"images": images, "dataset": "flickr30k"}))
    return folder


class Layouts(Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="reco-layouts-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.local = cls.folder / "local"
        cls.cub = cub(cls.folder / "CUB_200_2011")

    def test_a_tree_gives_what_its_pictures_give(self):
        done = self.run_ok("memory", "build", "default", self.cub, "--data", self.local, "--json")
        self.assertEqual(json.loads(done.stdout.splitlines()[-1])["records"], len(HELD))
        lines = self.lines("eval", "zero-shot", self.cub, "--data", self.local, "-k", "3", "--modes", "none,weighted")
        other = classified(self.top / "set")
        (other / "zeroshot_classification_templates.txt").write_bytes((WORDS / "cub.templates.txt").read_bytes())
        same = self.lines("eval", "zero-shot", other, "--data", self.local, "-k", "3", "--modes", "none,weighted")
        for line, expected in zip(lines, same):
            self.assertEqual(line["metrics"], expected["metrics"])
            self.assertEqual((line["dataset"], expected["dataset"], line["count"]), (f"cub-200-2011{PART}", "set", len(ASKED)))
            for row in (line, expected):
                self.assertEqual(row["templates_sha256"], sha256((WORDS / "cub.templates.txt").read_bytes()))
                self.assertEqual(row["labels_sha256"], sha256(lines_of(KINDS).encode()))
        # The user's own names, and another split.
        labels = self.top / "labels.txt"
        labels.write_text(lines_of(f"{kind}\t{kind} thing" for kind in KINDS))
        line = self.lines("eval", "zero-shot", self.cub, "--data", self.local, "--modes", "none", "--split", "train",
                          "--labels", labels, "--template", "a {}")[0]
        self.assertEqual((line["dataset"], line["count"]), (f"cub-200-2011/train{PART}", len(HELD)))
        self.assertEqual(line["labels_sha256"], sha256(labels.read_bytes()))
        self.assertEqual(line["templates_sha256"], sha256(b"a {}\n"))

    def test_few_shots_come_from_its_training_split(self):
        line = self.lines("eval", "few-shot", self.cub, "--shots", "1", "--modes", "none,weighted", "-k", "1", "--data",
                          self.local)[1]
        self.assertEqual((line["memory"], line["records"], line["count"]), (f"cub-200-2011/train{PART}", len(KINDS), len(ASKED)))
        self.refused(1, "--shots-from: 'test' is what is measured", "eval", "few-shot", self.cub, "--shots-from", "test", "--data",
                     self.local)

    def test_captions_find_pictures(self):
        line = self.lines("eval", "retrieval", flickr(self.top / "flickr30k"), "--data", self.local, "--modes", "none")[0]
        self.assertEqual((line["dataset"], line["count"]), ("flickr30k", 2 * len(ASKED)))
        self.assertNotIn("labels_sha256", line)

    def test_what_is_refused(self):
        local = ("--data", self.local)
        self.refused(1, "cub-200-2011; allowed: train|test", "eval", "zero-shot", self.cub, "--split", "val", *local,
                     "--modes", "none")
        self.refused(2, "--split: 'val' is no split of cub-200-2011; allowed: train|test", "memory", "build", "x", self.cub,
                     "--split", "val", *local)
        short = self.top / "short.txt"
        short.write_text("one\ntwo\n")
        self.refused(1, f"has 2 labels: cub-200-2011{PART} has {len(KINDS)} classes", "eval", "zero-shot", self.cub, "--labels",
                     short, "--modes", "none", *local)
        pairs = flickr(self.top / "flickr30k")
        self.refused(1, "flickr30k has no classes", "eval", "zero-shot", pairs, "--modes", "none", *local)
        self.refused(1, "which stands alone", "eval", "zero-shot", self.cub, self.cub, "--modes", "none", *local)
        spoilt = self.top / "spoilt"
        shutil.copytree(self.cub, spoilt)
        shutil.rmtree(spoilt / "images" / f"001.{KINDS[0]}")
        self.refused(1, f"class 1 '{KINDS[0]}': none of its", "eval", "zero-shot", spoilt, "--modes", "none", *local)
        imagenet = self.top / "imagenet"
        put(imagenet / "val" / "n01440764" / "a.JPEG", ASKED[0])
        self.refused(1, "class n01440764 has no name here", "eval", "zero-shot", imagenet, "--modes", "none", *local)
        done = self.refused(2, "--split: no source is a data set", "train", "--pairs", pairs / "flickr30k-images", "--split",
                            "val", "--out", self.top / "h.safetensors", *local)
        self.assertNotIn("Traceback", done.stderr)


class Documents(Case):
    def test_every_shipped_list_is_in_the_document_with_its_hash(self):
        text = (ROOT / "tools" / "datasets.md").read_text()
        told = dict(re.findall(r"`([a-z]+\.[a-z]+\.txt)`[^\n]*`([0-9a-f]{64})`", text))
        self.assertEqual(told, {path.name: sha256(path.read_bytes()) for path in WORDS.glob("*.txt")})
        for path in WORDS.glob("*.templates.txt"):
            templates = path.read_text().splitlines()
            self.assertEqual(len(templates), len(set(templates)), path.name)
            self.assertTrue(all(template.count("{c}") == 1 for template in templates), path.name)
        self.assertEqual(len((WORDS / "imagenet.templates.txt").read_text().splitlines()), 80)
        self.assertEqual(len(set((WORDS / "flowers.names.txt").read_text().splitlines())), 102)


if __name__ == "__main__":
    cli.main()
