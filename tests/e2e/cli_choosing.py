#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which records answer: filters, weighted parts, fields, dedup, records by name.

usage: cli_choosing.py PROGRAM_DIR [CLASS[.test] ...]

Goal: what was asked for comes back, and nothing else; labels come from captions when there are none.

Method: cli.py's, which says what the tests of the command line share.
"""
import shutil
import tempfile
from pathlib import Path

import cli
from cli import IMAGES, Case, caption_of, make_folder, reco


class Choosing(Case):
    """Filters, weighted parts, fields, dedup, records by name, labels from captions."""

    @classmethod
    def setUpClass(cls):
        cls.shared = Path(tempfile.mkdtemp(prefix="reco-cli-"))
        cls.addClassCleanup(shutil.rmtree, cls.shared, True)
        cls.images = IMAGES[:8]
        make_folder(cls.shared / "pictures", cls.images[:1])
        reco("memory", "build", "default", cls.shared / "pictures", "--data", cls.shared / "data").check_returncode()
        for number, image in enumerate(cls.images):
            kind, style, _ = image.name.split(".")
            reco("memory", "add", "default", "--data", cls.shared / "data", "--key", f"{kind}/{style}", "--image",
                 image, "--caption", caption_of(image), "--tag", kind, "--tag",
                 "even" if number % 2 == 0 else "odd").check_returncode()

    def setUp(self):
        super().setUp()
        self.data = self.shared / "data"

    def refused(self, status, words, *arguments, **named):
        done = super().refused(status, words[0], *arguments, **named)
        for word in words[1:]:
            self.assertIn(word, done.stderr)

    def search(self, *flags, **named):
        return self.lines("search", "--data", self.data, *flags, **named)[0]

    def found(self, *flags, **named):
        return [one["key"] for one in self.search(*flags, **named)["neighbours"]]

    def test_filters_and_sets_hold(self):
        picture = ("--image", self.images[0], "-k", 256)
        kinds = [image.name.split(".")[0] for image in self.images]
        keys = [".".join(image.name.split(".")[:2]).replace(".", "/") for image in self.images]
        everything = set(self.found(*picture))
        self.assertEqual(everything, set(keys))
        kind = kinds[0]
        self.assertEqual(set(self.found(*picture, "--filter", f"tag={kind}")),
                         {key for key in keys if key.startswith(kind + "/")})
        self.assertEqual(set(self.found(*picture, "--filter", f"no:tag={kind}")),
                         {key for key in keys if not key.startswith(kind + "/")})
        self.assertEqual(set(self.found(*picture, "--filter", "any:tag=odd", "--filter", "any:tag=nobody")),
                         set(keys[1::2]))
        answer = self.search(*picture, "--only", "-", stdin=f"{keys[1]}\n{keys[2]}\nnobody\n")
        self.assertEqual({one["key"] for one in answer["neighbours"]}, {keys[1], keys[2]})
        self.assertEqual(answer["records"], 2)
        self.assertEqual(self.found(*picture, "--only", "-", stdin=""), [])
        self.run_ok("memory", "delete", "default", keys[-1], "--data", self.data)
        self.assertNotIn(keys[-1], self.found(*picture, "--filter", "tag=odd"))
        self.refused(2, ["--filter", "any:tag=VALUE"], "search", "--data", self.data, *picture, "--filter", "odd")

    def test_parts_weigh_and_mistakes_are_named(self):
        alone = self.found("--image", self.images[0])
        self.assertEqual(self.found("--part", f"image={self.images[0]}"), alone)
        mixed = self.search("--part", f"image={self.images[0]}@0.5", "--part", f"image={self.images[-1]}@0.6", "--part",
                            "text=a pencil@-0.1")
        self.assertIn(len(mixed["neighbours"]), (7, 8))
        flags = ("search", "--data", self.data, "--part")
        self.refused(2, ["'0' is no weight", "not 0"], *flags, "text=owl@0")
        self.refused(1, ["parts", "cancel out"], *flags, "text=owl@1", "--part", "text=owl@-1")
        self.refused(2, ["--part", "image=FILE@WEIGHT"], *flags, "sound=a.wav")

    def test_fields_are_those_asked_for(self):
        picture = ("--image", self.images[0], "-k", 2)
        one = self.search(*picture, "--fields", "tags,text_embedding")["neighbours"][0]
        self.assertEqual(set(one), {"id", "score", "tags", "text_embedding"})
        self.assertEqual(len(one["text_embedding"]), 128)
        self.assertEqual(set(self.search(*picture, "--fields", "none")["neighbours"][0]), {"id", "score"})
        self.refused(2, ["--fields", "'colour'", "caption"], "search", "--data", self.data, *picture, "--fields",
                     "key,colour")
        few = self.found("--image", self.images[0], "--dedup", 0.5)
        self.assertEqual(few[0], self.found("--image", self.images[0])[0])

    def test_records_come_by_name(self):
        kind, style, _ = self.images[0].name.split(".")
        line = self.lines("memory", "get", "default", f"{kind}/{style}", "--data", self.data)[0]
        self.assertEqual((line["key"], line["tags"]), (f"{kind}/{style}", [kind, "even"]))
        again = self.lines("memory", "get", "default", "--id", line["id"], "--fields", "all", "--data", self.data)[0]
        self.assertEqual(len(again["image_embedding"]), 128)
        self.refused(1, ["nobody", "no such record"], "memory", "get", "default", "--key", "nobody", "--data", self.data)

    def test_labels_come_from_captions(self):
        line = self.lines("classify", self.images[0], "--no-labels", "--top", 3, "--data", self.data)[0]
        self.assertEqual(len(line["refined"]), 3)
        self.assertTrue(all(not one["label"].startswith("a ") for one in line["refined"]))
        self.refused(2, ["--no-labels", "--labels"], "classify", self.images[0], "--no-labels", "--labels", "x", "--data",
                     self.data)


if __name__ == "__main__":
    cli.main()
