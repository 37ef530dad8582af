#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The verbs that need no memory: tokenize, embed, preprocess.

usage: cli_models.py PROGRAM_DIR [CLASS[.test] ...]

Goal: they give the golden numbers of tests/golden/tiny, item by item, and name the item that failed.

Method: cli.py's, which says what the tests of the command line share.
"""
import json

import cli
from cli import GOLDEN, IMAGES, INDEX, Case, as_floats, read_npy


class Models(Case):
    def test_tokenize_gives_the_golden_ids(self):
        (rows, columns), ids = read_npy(GOLDEN / "input_ids.npy")
        texts = INDEX["texts"][:rows]
        lines = self.lines("tokenize", *texts)
        self.assertEqual([line["text"] for line in lines], texts)
        for i, line in enumerate(lines):
            golden = list(ids[i * columns:(i + 1) * columns])
            self.assertEqual(line["ids"], golden[:len(line["ids"])])
        self.assertEqual(self.lines("tokenize", "-", stdin="".join(f"{t}\n" for t in texts)), lines)
        done = self.refused(1, "is not UTF-8", "tokenize", "\udcff", "ok", "--keep-going", "--json")
        self.assertEqual([json.loads(line)["text"] for line in done.stdout.splitlines()], ["ok"])
        self.assertEqual(self.run_ok("tokenize", texts[0]).stdout,
                         " ".join(map(str, lines[0]["ids"])) + "\n")

    def check_embeddings(self, lines, golden, count):
        (_, columns), values = read_npy(GOLDEN / golden)
        for i in range(count):
            row = lines[i]["embedding"]
            self.assertEqual(len(row), columns)
            # Half precision weights, single precision sums in another order.
            for a, b in zip(row, values[i * columns:(i + 1) * columns]):
                self.assertAlmostEqual(a, b, delta=2e-4)

    def test_embed_gives_the_golden_embeddings(self):
        self.check_embeddings(self.lines("embed", "image", *IMAGES), "image_embeds_normalised.npy",
                              len(IMAGES))
        texts = INDEX["texts"]
        self.check_embeddings(self.lines("embed", "text", "-", stdin="".join(f"{t}\n" for t in texts)),
                              "text_embeds_normalised.npy", len(texts))

    def test_embed_writes_rows_in_the_order_of_the_items(self):
        lines = self.lines("embed", "image", *IMAGES[:3])
        out = self.top / "x.npy"
        named = self.lines("embed", "image", *IMAGES[:3], "--out", out)
        self.assertEqual([line["row"] for line in named], [0, 1, 2])
        shape, values = read_npy(out)
        self.assertEqual(shape, (3, 128))
        self.assertEqual(values, as_floats(value for line in lines for value in line["embedding"]))

    def test_a_failed_item_is_named_and_keep_going_does_the_rest(self):
        broken = self.top / "broken.png"
        broken.write_bytes(IMAGES[0].read_bytes()[:100])
        gone = self.top / "gone.png"
        items = [IMAGES[0], broken, IMAGES[1], gone, IMAGES[2]]
        done = self.refused(1, str(broken), "embed", "image", *items, "--json")
        self.assertNotIn(str(gone), done.stderr)
        self.assertEqual([json.loads(line)["input"] for line in done.stdout.splitlines()],
                         [str(IMAGES[0])])
        done = self.refused(1, str(broken), "embed", "image", *items, "--json", "--keep-going")
        self.assertIn(f"{gone}: no such file", done.stderr)
        self.assertEqual([json.loads(line)["input"] for line in done.stdout.splitlines()],
                         [str(path) for path in IMAGES[:3]])
        alone = self.lines("embed", "image", *IMAGES[:3])
        self.assertEqual([json.loads(line) for line in done.stdout.splitlines()], alone)

    def test_preprocess_writes_the_golden_pixels(self):
        out = self.top / "pixels"
        lines = self.lines("preprocess", *IMAGES[:2], "--out", out)
        (_, _, height, width), values = read_npy(GOLDEN / "pixel_values.npy")
        size = 3 * height * width
        for i, line in enumerate(lines):
            self.assertEqual(line["profile"], "reco")
            self.assertEqual(line["out"], str(out / f"{IMAGES[i].stem}.npy"))
            shape, pixels = read_npy(line["out"])
            self.assertEqual(shape, (3, height, width))
            self.assertEqual(pixels, values[i * size:(i + 1) * size])
        self.refused(1, "was already written", "preprocess", IMAGES[0], IMAGES[0], "--out", out)
        self.assertEqual(self.lines("preprocess", IMAGES[0], "--out", out, "--profile", "hf")[0]["profile"],
                         "hf")

    def test_a_model_that_is_none_is_told(self):
        self.refused(1, "no-model", "embed", "text", "x", "--model", self.top / "no-model")


if __name__ == "__main__":
    cli.main()
