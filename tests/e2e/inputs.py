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
    def run_limited(self, *arguments, **named):
        return subprocess.run([str(cli.PROGRAMS / "reco"), *map(str, arguments)], check=False,
                              capture_output=True, timeout=cli.PATIENCE, preexec_fn=limited, **named)

    def build(self, *arguments, status=0, stdin=None, cwd=None):
        """Builds memory `m`; its JSON lines."""
        done = self.run_limited("memory", "build", "m", *arguments, "--data", self.data, "--json",
                                input=stdin, cwd=cwd)
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
                            ("t.csv line 6", "no known format"),
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


def member(name, size=0, kind=b"0", data=b"", link=""):
    """A tar member whose header may lie."""
    header = bytearray(512)
    header[0:len(name)] = name.encode()
    header[100:108] = b"0000644\0"
    header[124:136] = b"%011o\0" % size if size < 1 << 33 else b"\x80" + size.to_bytes(11, "big")
    header[136:148] = b"00000000000\0"
    header[148:156] = b" " * 8
    header[156:157] = kind
    header[157:157 + len(link)] = link.encode()
    header[257:265] = b"ustar\x0000"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + b"\0" * (-len(data) % 512)


def sample(stem, picture):
    text = b"a drawing"
    return member(f"{stem}.png", len(picture), data=picture) + member(f"{stem}.txt", len(text), data=text)


def zeros(count, wrap):
    """`count` MiB of zeros in a deflate stream, made without compressing each."""
    chunk = bytes(1 << 20)
    deflate = zlib.compressobj(9, zlib.DEFLATED, wrap)
    first = deflate.compress(chunk) + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(chunk) + deflate.flush(zlib.Z_FULL_FLUSH)
    return first + block * (count - 1) + deflate.flush()


def chunk_of(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, depth=1, kind=0, idat=None, extra=b""):
    if idat is None:
        idat = zlib.compress(bytes((width * depth // 8 + 2) * min(height, 64)))
    return (b"\x89PNG\r\n\x1a\n" + chunk_of(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
            + extra + chunk_of(b"IDAT", idat) + chunk_of(b"IEND", b""))


class Hostile(Inputs):
    """After each attack the memory answers as before."""

    def setUp(self):
        super().setUp()
        self.build(make_folder(self.top / "honest", IMAGES[:3]))
        self.before = self.state()
        self.picture = IMAGES[3].read_bytes()

    def state(self):
        flags = ("m", "--data", self.data)
        info = self.lines("memory", "info", *flags)[0]
        answer = self.lines("search", "--text", "x", "-m", *flags)
        return info["records"], info["generation"], cli.same_but_for_time(answer)

    def refuse(self, *sources, words):
        """Nothing of these sources is stored; every one of `words` is told."""
        lines = self.build(*sources, status=1)
        self.assertEqual(lines[-1].get("stored", 0) if lines else 0, 0)
        for word in words:
            self.assertIn(word, self.errors)
        return lines

    def test_tars_that_lead_out_lie_or_never_end(self):
        tar = self.top / "t.tar"
        for name, kind, words in (("../../x.png", b"0", "has a name with .. in it"),
                                  ("a/../../x.png", b"0", "has a name with .. in it"),
                                  ("/etc/x.png", b"0", "has an absolute name"),
                                  ("/etc/passwd", b"0", "has an absolute name"),
                                  ("x.png", b"2", "is a symbolic link"),
                                  ("x.png", b"1", "is a hard link"),
                                  ("dev/sda", b"3", "is a device"),
                                  ("x.png", b"6", "is a pipe or socket")):
            size = len(self.picture) if kind == b"0" else 0
            tar.write_bytes(member(name, size, kind, self.picture if size else b"",
                                   "/etc/passwd" if kind in b"12" else "")
                            + member(name.replace(".png", ".txt"), 1, data=b"x") + bytes(1024))
            self.refuse(tar, words=[f"the member '{name}' {words}",
                                    "plain files with relative names are allowed"])
        tar.write_bytes(member("x.png", 8 << 30, data=self.picture))
        self.refuse(tar, words=["picture: 8589934592 bytes: at most 33554432", "the tar is broken"])
        tar.write_bytes(member("x.png", (1 << 63) - 1) + member("y.png", len(self.picture)))
        self.refuse(tar, words=["t.tar"])
        tar.write_bytes(member("x.jpg", 1 << 20, b"L", b"n" * 1000) + bytes(1024))
        self.refuse(tar, words=["the tar is broken"])
        self.assertEqual(self.state(), self.before)

        # A hundred thousand members are one sample and cost their reading only.
        tar.write_bytes(member("a.cls") * 100000 + sample("b", self.picture) + bytes(1024))
        lines = self.build(tar, status=1)
        self.assertEqual((lines[-1]["stored"], lines[-1]["skipped"]), (1, 1))
        # More than the memory that is allowed, from five kilobytes: what is too large is never held.
        head = gzip.compress(member("x.png", 1200 << 20))
        bomb = gzip.compress(head + zeros(1200, 31), 9)
        self.assertLess(len(bomb), 20000)
        (self.top / "zeros.tar.gz").write_bytes(bomb)
        self.refuse(self.top / "zeros.tar.gz", words=["1258291200 bytes: at most 33554432"])

    def test_arrays_with_lying_headers(self):
        right = self.top / "right.npy"
        wrong = self.top / "wrong.npy"
        write_npy(right, [[1.0, 0.0], [0.0, 1.0]])

        def header(text, data=bytes(16), version=1, length=None):
            text = text.encode().ljust(117) + b"\n"
            size = len(text) if length is None else length
            wrong.write_bytes(b"\x93NUMPY" + bytes([version, 0])
                              + struct.pack("<H" if version == 1 else "<I", size) + text + data)

        shape = "{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }"
        for arguments, words in (
                ((shape % ("<f4", "False", "1099511627776, 1099511627776"),), "rows of"),
                ((shape % ("<f4", "False", "2305843009213693952, 2"),), "dictionary"),
                ((shape % ("<f4", "False", "3, 2"),), "do not fill the 16 bytes"),
                ((shape % ("<f4", "False", "1, 2"),), "do not fill the 16 bytes"),
                ((shape % ("<f4", "False", "-2, 2"),), "dictionary"),
                ((shape % ("<f4", "False", "2, 2, 1"),), "one or two dimensions"),
                ((shape % ("<f4", "True", "2, 2"),), "Fortran's order: C's is allowed"),
                ((shape % ("<f8", "False", "2, 2"), bytes(32)), "'<f8': '<f4' and '<f2' are allowed"),
                ((shape % ("|O", "False", "2, 2"),), "'|O': '<f4' and '<f2' are allowed"),
                ((shape % ("<f4", "False", "__import__('os').system('true')"),), "dictionary"),
                (("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2, 2), }",), "dictionary"),
                (("", bytes(16), 2, 0xFFFFFFF0), "4294967280 bytes: at most"),
                (("", b"", 2, 60000), "ends inside its header"),
                (("", b"", 9), "version 9 is not known")):
            header(*arguments)
            self.refuse(wrong, right, "--space", "mine:2", words=["wrong.npy", words])
        os.mkfifo(self.top / "fifo.npy")
        self.refuse(self.top / "fifo.npy", right, "--space", "mine:2", words=["not a regular file"])
        self.assertEqual(self.state(), self.before)

    def test_weights_with_lying_headers(self):
        model = self.top / "model"
        shutil.copytree(TINY, model)
        tensor = '{"dtype":"F32","shape":[%s],"data_offsets":[%s]}'

        def refused(header, words, length=None, data=bytes(16)):
            header = header.encode()
            size = len(header) if length is None else length
            (model / "model.safetensors").write_bytes(struct.pack("<Q", size) + header + data)
            done = self.run_limited("embed", "text", "x", "--model", model)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(words, done.stderr.decode())
            self.assertIn("model.safetensors", done.stderr.decode())

        pair = '{"a":' + tensor + ',"b":' + tensor + "}"
        refused(pair % ("2", "0,8", "3", "4,16"), "overlap those of another tensor")
        refused(pair % ("1", "0,4", "2", "8,16"), "leave a gap")
        refused('{"a":' + tensor % ("4", "8,24") + "}", "ends at byte 24")
        refused('{"a":' + tensor % ("4", "18446744073709551600,18446744073709551616") + "}", "too big integer")
        refused('{"a":' + tensor % ("4", "9223372036854775792,9223372036854775807") + "}", "ends at byte")
        refused('{"a":' + tensor % ("9223372036854775807,9", "0,16") + "}", "shape is too large")
        refused('{"a":' + tensor % ("4", "16,0") + "}", "data_offsets is not")
        refused('{"a":%s,"a":%s}' % (tensor % ("4", "0,16"), tensor % ("4", "0,16")), "header")
        refused("{}", "announces", length=(1 << 64) - 1)
        refused("{}", "announces", length=1 << 40)
        refused(" " * (100 << 20), "at most 16777216 are possible")
        refused('{"a":' * 100000, "header")
        self.assertEqual(self.state(), self.before)

    def test_pictures_that_unfold(self):
        text = zeros(200, 15)  # 200 MiB in a text chunk, and in a colour profile
        animated = (b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6)
                    + (b"!\xf9\x04\0\0\0\0\0," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
                       + b"\x02\x02\x4c\x01\0") * 50 + b";")
        webp = (b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\xfe\x3f\0" * 2
                + b"ANIM" + struct.pack("<I", 6) + bytes(6))
        pictures = {
            "header.png": (png(100000, 100000), "100000"),
            "idat.png": (png(30000, 30000, idat=zlib.compress(bytes(3751 * 30000), 9)), "30000"),
            "text.png": (png(64, 64, extra=chunk_of(b"zTXt", b"k\0\0" + text)), None),
            "profile.png": (png(64, 64, extra=chunk_of(b"iCCP", b"k\0\0" + text)), None),
            "animated.gif": (animated, "65535"),
            "frames.webp": (b"RIFF" + struct.pack("<I", len(webp) + 4) + b"WEBP" + webp, "16383"),
            "empty.jpg": (b"", "empty"),
        }
        corpus = TESTS / "fuzz" / "corpus" / "image"
        for name in ("baseline.jpg", "progressive.jpg", "rgb.png", "lossy.webp", "lossless.webp",
                     "interlaced.gif"):
            whole = (corpus / name).read_bytes()
            pictures["cut-" + name] = (whole[:len(whole) * 2 // 3], "")
        folder = self.top / "pictures"
        folder.mkdir()
        for name, (data, _) in pictures.items():
            (folder / name).write_bytes(data)
            (folder / name).with_suffix(".txt").write_text("x")
        report = self.build(folder, status=1)
        errors = self.errors.splitlines()
        for name, (_, words) in pictures.items():
            told = [line for line in errors if name.rsplit(".", 1)[0] in line]
            if words is not None:
                self.assertTrue(told and words in told[0], f"{name}: {told}")
        # Texts and profiles beside the pixels are not looked at: those two pictures may be taken.
        self.assertLessEqual(report[-1]["stored"], 2)

    def test_texts_without_end(self):
        folder = self.top / "f"
        folder.mkdir()
        for stem, name, data in (("deep", "deep.json", b'{"caption":' + b"[" * 100000),
                                 ("large", "large.json", b'{"caption":"' + b"x" * (2 << 20)),
                                 ("long", "long.txt", b"x" * 9000)):
            shutil.copy(IMAGES[0], folder / f"{stem}.png")
            (folder / name).write_bytes(data)
        shutil.copy(IMAGES[0], folder / "fifo.png")
        os.mkfifo(folder / "fifo.txt")
        self.refuse(folder, words=["deep.png: broken JSON", "1048576", "caption: 9000 bytes",
                                   "is a pipe or device"])
        table = self.top / "t.csv"
        with open(table, "wb") as out:
            out.write(b"image,caption\n")
            out.seek(1 << 30, os.SEEK_CUR)  # a line of a gigabyte, and hardly any disk
            out.write(b"\nnone.png,x\n")
        self.refuse(table, words=["t.csv line 2: a row of more than 1048576 bytes", "t.csv line 3"])
        self.assertEqual(self.state(), self.before)


if __name__ == "__main__":
    cli.main()
