#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every kind of input that users bring, and what attackers make of it, given to the real program.

usage: inputs.py PROGRAM_DIR [CLASS[.test] ...]

Goal: the layouts that `reco help memory build` lists are read as it says, from files and from stdin;
what is broken or hostile is told by name, with what is allowed, costs only itself, leaves the
memory as it was, and takes no more memory than an honest input may.

Method: small sources made here, the embedded model, one process for each question. Builds run
under a limit of memory (not those with a sanitizer, which needs all there is).
Python's standard library only; a test that needs pyarrow is skipped without it.
"""
import gzip
import io
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tarfile
import unittest
import zlib
from pathlib import Path

import cli
from cli import IMAGES, Case, caption_of, make_folder, write_npy

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "golden" / "open_clip"))
import layout  # noqa: E402

TINY = TESTS.parent / "shaders" / "models" / "reco-tiny"
TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"
WRITABLE_BYTES = 1 << 30  # of memory; an honest build of these sources takes a quarter of it


def is_sanitized():
    return b"__asan_init" in (cli.PROGRAMS / "reco").read_bytes()


def limited():
    if not is_sanitized():
        # Not the address space: files of rows reserve more of that than they use.
        resource.setrlimit(resource.RLIMIT_DATA, (WRITABLE_BYTES, WRITABLE_BYTES))


class Inputs(Case):
    def build(self, *arguments, status=0, stdin=None, cwd=None):
        """Builds memory `m`; its JSON lines."""
        done = subprocess.run(
            [str(cli.PROGRAMS / "reco"), "memory", "build", "m", *map(str, arguments), "--data",
             str(self.data), "--json"], input=stdin, capture_output=True, timeout=cli.PATIENCE,
            check=False, cwd=cwd, preexec_fn=limited)
        self.errors = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, status, self.errors)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def named(self, lines):
        """What was left out: end of the item's name -> error."""
        return {line["item"].rsplit("/", 1)[-1]: line["error"] for line in lines if "item" in line}

    def keys(self, count):
        """Keys, captions and sources of all records of `m`, by key."""
        answer = self.lines("search", "--text", "a drawing", "-m", "m", "-k", str(count), "--data",
                            self.data)[0]
        return {one["key"]: (one["caption"], one["source"]) for one in answer["neighbours"]}


class Manifests(Inputs):
    def setUp(self):
        super().setUp()
        self.folder = self.top / "pictures"
        self.folder.mkdir()
        for i in range(3):
            shutil.copy(IMAGES[i], self.folder / f"p{i}.png")

    def test_csv_tsv_and_jsonl_make_the_same_memory(self):
        csv = "path,title,id,url\r\n" + "".join(
            f'pictures/p{i}.png,"{caption_of(IMAGES[i])}, ""nice""",k{i},http://x/{i}\r\n'
            for i in range(3))
        jsonl = "".join(json.dumps({"file": f"pictures/p{i}.png", "key": f"k{i}",
                                    "caption": caption_of(IMAGES[i]) + ', "nice"',
                                    "source": f"http://x/{i}"}) + "\n" for i in range(3))
        (self.top / "t.csv").write_text(csv)
        (self.top / "t.tsv").write_text(csv.replace(",", "\t").replace("\t \"\"nice", ", \"\"nice"))
        (self.top / "t.jsonl").write_text(jsonl)
        expected = {f"k{i}": (caption_of(IMAGES[i]) + ', "nice"', f"http://x/{i}") for i in range(3)}
        for name in ("t.csv", "t.tsv", "t.jsonl"):
            report = self.build(self.top / name, "--replace")[-1]
            self.assertEqual((report["records"], report["skipped"]), (3, 0), name)
            self.assertEqual(self.keys(3), expected, name)

    def test_stdin_is_a_manifest_or_a_list_of_sources(self):
        table = "was,says\n" + "".join(f"p{i}.png,{caption_of(IMAGES[i])}\n" for i in range(3))
        report = self.build("-", "--format", "csv", "--column", "image=was", "--column",
                            "caption=says", stdin=table.encode(), cwd=self.folder)[-1]
        self.assertEqual(report["records"], 3)
        self.assertEqual(self.keys(3)["p1"], (caption_of(IMAGES[1]), "p1.png"))

        one = make_folder(self.top / "one", IMAGES[3:5])
        (self.folder / "t.csv").write_text(table)
        report = self.build("-", "--replace", stdin=f"{one}\n\n{make_folder(self.top / 'two')}\n".encode())[-1]
        self.assertEqual(report["records"], len(IMAGES))
        self.build("-", status=1, stdin=b"")
        self.assertIn("stdin names no source", self.errors)

    def test_wrong_use_of_the_flags_is_told(self):
        self.build("-", "-", status=2)
        self.assertIn("stdin can be read once", self.errors)
        self.build(self.folder, "--format", "csv", status=2)
        self.assertIn("--format: is for -", self.errors)
        self.build("-", "--format", "xml", status=2)
        self.assertIn("csv", self.errors)
        self.build(self.folder, "--column", "picture=x", status=2)
        self.assertIn("image, caption, key, source, tags", self.errors)
        self.assertFalse(self.data.exists())

    def test_rows_that_lead_nowhere_cost_only_themselves(self):
        os.mkfifo(self.folder / "fifo.png")
        (self.folder / "t.csv").write_text(
            "image,caption\np0.png,good\n/dev/zero,x\nfifo.png,x\n.,x\nt.csv,itself\nnone.png,x\n"
            "https://example.org/a.png,x\n" + "p1.png," + "x" * (1 << 21) + "\np2.png,good too\n")
        lines = self.build(self.folder / "t.csv", status=1)
        self.assertEqual((lines[-1]["records"], lines[-1]["skipped"]), (2, 7))
        named = self.named(lines)
        for name, words in (("t.csv line 3", "'/dev/zero': is a pipe or device"),
                            ("t.csv line 4", "is a pipe or device: a regular file is allowed"),
                            ("t.csv line 5", "is a folder"),
                            ("t", "no known format"),
                            ("t.csv line 7", "no such file"),
                            ("t.csv line 8", "is a URL: a path is needed"),
                            ("t.csv line 9", "more than 1048576 bytes")):
            self.assertIn(name, named)
            self.assertIn(words, named[name])

    def test_a_manifest_that_is_no_file_is_refused_at_once(self):
        os.mkfifo(self.top / "fifo.csv")
        for source, words in ((self.top / "fifo.csv", "is a pipe or device"),
                              ("/dev/zero", "is a pipe or device")):
            self.build(source, status=1)
            self.assertIn(words, self.errors)
        self.build(self.top / "none.csv", status=1)
        self.assertIn("no such file or folder", self.errors)

    def test_labels_come_from_stdin(self):
        report = self.build(make_folder(self.top / "photos"))[-1]
        self.assertEqual(report["records"], len(IMAGES))
        flags = ("-m", "m", "--data", self.data)
        answer = self.lines("classify", IMAGES[0], "--labels", "-", *flags, stdin="owl\nanchor\n")[0]
        self.assertEqual({one["label"] for one in answer["plain"]}, {"owl", "anchor"})
        self.refused(2, "stdin can be read once", "classify", "-", "--labels", "-", *flags, stdin="owl\n")

    def test_every_verb_that_takes_items_takes_them_from_stdin(self):
        self.build(make_folder(self.top / "photos"))
        flags = ("-m", "m", "--data", self.data)
        paths = f"{IMAGES[0]}\n{IMAGES[1]}\n"
        write_npy(self.top / "e.npy", [[1.0] + [0.0] * 127])
        (self.top / "labels.txt").write_text("owl\nanchor\n")
        for arguments, stdin, count in (
                (("search", "--image", "-", *flags), paths, 2),
                (("search", "--text", "-", *flags), "an owl\nan anchor\n", 2),
                (("search", "--embedding", "-", *flags), f"{self.top / 'e.npy'}\n", 1),
                (("refine", "--image", "-", *flags), paths, 2),
                (("classify", "-", "--labels", self.top / "labels.txt", *flags), paths, 2),
                (("embed", "image", "-"), paths, 2),
                (("embed", "text", "-"), "a\nb\n", 2),
                (("tokenize", "-"), "a\nb\n", 2),
                (("preprocess", "-", "--out", self.top / "out"), paths, 2),
                (("memory", "delete", "m", "-", "--data", self.data), "penguin/noto\n", 1)):
            self.assertEqual(len(self.lines(*arguments, stdin=stdin)), count, arguments)

    def test_a_line_of_stdin_that_is_too_long_is_an_item_that_failed(self):
        self.refused(1, "0..65536", "embed", "text", "-", stdin="x" * (1 << 22) + "\n")


class Downloads(Inputs):
    """img2dataset's and clip-retrieval's output."""

    def meta(self, i, status="success"):
        return {"caption": caption_of(IMAGES[i]), "url": f"http://x/{i}", "key": f"00000000{i}",
                "status": status, "error_message": None if status == "success" else "HTTP Error 404",
                "width": 64, "height": 64, "original_width": 64, "exif": "{}", "sha256": "0"}

    def expect_samples(self, lines, count):
        self.assertEqual(lines[-1]["records"], count)
        self.assertEqual(self.keys(count)["000000001"], (caption_of(IMAGES[1]), "http://x/1"))

    def test_img2dataset_files(self):
        shard = self.top / "out" / "00000"
        shard.mkdir(parents=True)
        for i in range(3):
            shutil.copy(IMAGES[i], shard / f"00000000{i}.png")
            (shard / f"00000000{i}.txt").write_text(caption_of(IMAGES[i]))
            (shard / f"00000000{i}.json").write_text(json.dumps(self.meta(i), indent=4))
        (self.top / "out" / "00000.parquet").write_bytes(b"PAR1")  # metadata once more
        (self.top / "out" / "00000_stats.json").write_text('{"count": 4, "successes": 3}')
        self.expect_samples(self.build(self.top / "out"), 3)

    def test_img2dataset_webdataset(self):
        folder = self.top / "out"
        folder.mkdir()
        with tarfile.open(folder / "00000.tar", "w") as tar:
            for i in range(4):
                meta = json.dumps(self.meta(i, "failed_to_download" if i == 3 else "success"))
                parts = [("png", IMAGES[i].read_bytes())] if i < 3 else []
                parts += [("txt", caption_of(IMAGES[i]).encode()), ("json", meta.encode())]
                for end, data in parts:
                    member = tarfile.TarInfo(f"00000000{i}.{end}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        (folder / "00000.parquet").write_bytes(b"PAR1")
        (folder / "00000_stats.json").write_text("{}")
        lines = self.build(folder, status=1)
        self.expect_samples(lines, 3)
        self.assertIn('status: is "failed_to_download", HTTP Error 404: there is no picture',
                      self.named(lines)["00000.tar: 000000003"])

    def test_clip_retrieval_output_of_several_shards(self):
        for n, rows in ((0, 2), (1, 3), (10, 1)):
            for kind in ("img", "text"):
                path = self.top / "o" / f"{kind}_emb" / f"{kind}_emb_{n}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_npy(path, [[float(n == j % 11) + 0.1 * (i + 1) for j in range(16)]
                                 for i in range(rows)])
            path = self.top / "o" / "metadata" / f"metadata_{n}.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(json.dumps(
                {"key": f"s{n}/{i} ", "caption": f" c {n} {i}", "source": f"u{n}-{i}",
                 "tags": ["t", "é"]}) + "\n" for i in range(rows)))
        report = self.build(self.top / "o", "--space", "mine:16")[-1]
        self.assertEqual((report["records"], report["skipped"]), (6, 0))
        write_npy(self.top / "q.npy", [[1.0] * 16])
        answer = self.lines("search", "--embedding", self.top / "q.npy", "-m", "m", "--data", self.data,
                            "-k", "10")[0]
        found = {one["key"]: (one["caption"], one["source"]) for one in answer["neighbours"]}
        self.assertEqual(len(found), 6)
        self.assertEqual(found["s1/2 "], (" c 1 2", "u1-2"))  # texts as they are

    def test_parquet_is_converted_by_the_command_that_the_error_names(self):
        metadata = self.top / "o" / "metadata"
        for kind in ("img", "text"):
            path = self.top / "o" / f"{kind}_emb" / f"{kind}_emb_0.npy"
            path.parent.mkdir(parents=True)
            write_npy(path, [[1.0, 0.0], [0.0, 1.0]])
        metadata.mkdir()
        (metadata / "metadata_0.parquet").write_bytes(b"PAR1")
        self.build(self.top / "o", "--space", "mine:2", status=1)
        command = f"python3 tools/convert_parquet.py {metadata}"
        self.assertIn(command, self.errors)
        done = subprocess.run([sys.executable, TOOLS / "convert_parquet.py"], capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 2)

        done = subprocess.run([sys.executable, *command.split()[1:]], capture_output=True, text=True,
                              check=False, cwd=TOOLS.parent)
        self.assertEqual(done.returncode, 1)
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            self.assertIn("pyarrow is missing; install it with: pip install pyarrow", done.stderr)
            self.skipTest("pyarrow is missing")
        parquet.write_table(pyarrow.table({"caption": ["one", None], "key": ["a", "b"],
                                           "width": [1.5, float("nan")], "exif": [b"x", b"y"]}),
                            metadata / "metadata_0.parquet")
        subprocess.run([sys.executable, *command.split()[1:]], check=True, cwd=TOOLS.parent,
                       capture_output=True)
        self.assertEqual(self.build(self.top / "o", "--space", "mine:2")[-1]["records"], 2)

        pictures = self.top / "p"
        pictures.mkdir()
        rows = [self.meta(i, "failed_to_download" if i == 3 else "success") for i in range(4)]
        table = {name: [row[name] for row in rows] for name in rows[0]}
        table["jpg"] = [IMAGES[i].read_bytes() if i < 3 else None for i in range(4)]
        parquet.write_table(pyarrow.table(table), pictures / "00000.parquet")
        self.build(pictures, "--replace", status=1)
        self.assertIn(f"convert_parquet.py {pictures}", self.errors)
        subprocess.run([sys.executable, TOOLS / "convert_parquet.py", pictures], check=True,
                       capture_output=True)
        lines = self.build(pictures, "--replace", status=1)
        self.expect_samples(lines, 3)
        self.assertIn("HTTP Error 404", self.errors)


class Layouts(Inputs):
    """Model directories."""

    def setUp(self):
        super().setUp()
        self.model = self.top / "model"

    def embed(self, kind, *items):
        self.run_ok("embed", kind, *items, "--out", self.top / "e.npy")
        return cli.read_npy(self.top / "e.npy")[1]

    def with_tokenizer_json(self, pairs):
        (self.model / "tokenizer.json").write_text(json.dumps(layout.tokenizer_json(
            json.loads((TINY / "vocab.json").read_text()), (TINY / "merges.txt").read_text(), pairs)))
        for name in ("vocab.json", "merges.txt"):
            (self.model / name).unlink(missing_ok=True)

    def test_open_clip_s_layout_is_the_same_model(self):
        layout.convert(TINY, self.model)
        texts = cli.INDEX["texts"]
        for kind, items, golden, flags in (("image", IMAGES, "images.npy", ("--profile", "openai")),
                                           ("text", texts, "texts.npy", ())):
            plain = self.embed(kind, *items, *flags)
            renamed = self.embed(kind, *items, *flags, "--model", self.model)
            self.assertEqual(plain, renamed)
            # As open_clip itself computes them, in single precision but in another order of sums.
            theirs = cli.read_npy(TESTS / "golden" / "open_clip" / golden)[1]
            self.assertLess(max(abs(a - b) for a, b in zip(renamed, theirs)), 2e-6)

        self.build(make_folder(self.top / "photos"))
        flags = ("-m", "m", "--data", self.data)
        self.with_tokenizer_json(pairs=True)
        renamed = self.lines("search", "--text", texts[0], *flags, "--model", self.model)
        plain = self.lines("search", "--text", texts[0], *flags)
        self.assertEqual(cli.same_but_for_time(renamed), cli.same_but_for_time(plain))

    def test_a_tokenizer_json_stands_in_for_the_two_files(self):
        shutil.copytree(TINY, self.model)
        texts = cli.INDEX["texts"][:20] + ["it's 25 ÄPFEL & pears\u00a0!", "<|endoftext|>"]
        plain = self.lines("tokenize", *texts)
        for pairs in (True, False):
            self.with_tokenizer_json(pairs)
            self.assertEqual(self.lines("tokenize", *texts, "--model", self.model), plain)
        shutil.copy(TINY / "vocab.json", self.model)
        self.refused(1, "merges.txt", "tokenize", "x", "--model", self.model)

    def test_both_layouts_in_one_directory_are_told_apart(self):
        layout.convert(TINY, self.model)
        for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
            shutil.copy(TINY / name, self.model)
        (self.model / "open_clip_model.safetensors").write_bytes(b"not read")
        self.run_ok("embed", "text", "x", "--model", self.model)
        # Another library's config.json beside open_clip's files is no CLIP of Hugging Face's.
        (self.model / "config.json").write_text('{"architecture": "vit_base_patch32_clip_224"}')
        self.refused(1, "open_clip_model.safetensors", "embed", "text", "x", "--model", self.model)

    def expect_refused(self, words):
        done = self.refused(1, words, "embed", "text", "x", "--model", self.model)
        self.assertEqual(done.stdout, "")

    def test_what_is_wrong_in_open_clip_s_files_is_named(self):
        layout.convert(TINY, self.model)
        config = self.model / "open_clip_config.json"
        right = json.loads(config.read_text())
        for section, key, value, words in (
                ("text_cfg", "hf_model_name", "roberta-base", "text_cfg.hf_model_name asks for another"),
                ("text_cfg", "pool_type", "last", "pool_type asks for another model than CLIP's"),
                ("text_cfg", "layers", 129, "layers is 129; 1..128 are possible"),
                ("text_cfg", "heads", 3, "heads does not divide width"),
                ("text_cfg", "mlp_ratio", 1e9, "mlp_ratio times width makes no perceptron"),
                ("text_cfg", "vocab_size", 5, "has 8706 tokens, but text_cfg.vocab_size is 5"),
                ("vision_cfg", "layers", [3, 4, 6, 3], "vision_cfg.layers is not an integer"),
                ("vision_cfg", "timm_model_name", "x", "timm_model_name asks for another model"),
                ("vision_cfg", "head_width", 0, "head_width is 0"),
                ("vision_cfg", "patch_size", 65, "patch_size 65 is larger than image_size 64"),
                ("vision_cfg", "layers", 5, "has no tensor visual.transformer.resblocks.4.ln_1.weight"),
                ("vision_cfg", "width", 384, "has shape [768,192]; open_clip_config.json needs")):
            wrong = json.loads(json.dumps(right))
            wrong["model_cfg"][section][key] = value
            config.write_text(json.dumps(wrong))
            self.expect_refused(words)
        for section, key, value, words in (
                ("model_cfg", "quick_gelu", "yes", "quick_gelu is not true or false"),
                ("model_cfg", "text_cfg", None, "text_cfg is not an object"),
                ("model_cfg", "custom_text", True, "custom_text asks for another model"),
                ("model_cfg", "embed_dim", 64, "has shape"),
                ("preprocess_cfg", "interpolation", "bilinear", 'is not "bicubic"'),
                ("preprocess_cfg", "std", [0, 1, 1], "must be three numbers above 0")):
            wrong = json.loads(json.dumps(right))
            wrong[section][key] = value
            config.write_text(json.dumps(wrong))
            self.expect_refused(words)
        config.write_text("{}")
        self.expect_refused("model_cfg is missing")
        config.write_text(json.dumps(right))

        weights = self.model / "open_clip_model.safetensors"
        tensors = layout.read_safetensors(weights)
        fused = "transformer.resblocks.0.attn.in_proj_weight"
        dtype, shape, data = tensors[fused]
        for name, tensor, words in (
                (fused, (dtype, [shape[0] - 1, shape[1]], data[:-2 * shape[1]]), "a multiple of three"),
                (fused, (dtype, [shape[0] - 3, shape[1]], data[:-6 * shape[1]]), f"{fused} has shape"),
                ("visual.proj", (dtype, [192 * 128], tensors["visual.proj"][2]), "is not a matrix"),
                ("text_projection", None, "has no tensor text_projection")):
            changed = {**tensors, name: tensor}
            layout.write_safetensors(weights, {k: v for k, v in changed.items() if v})
            self.expect_refused(words)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    cli.PROGRAMS = Path(sys.argv[1]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)


if __name__ == "__main__":
    main()
