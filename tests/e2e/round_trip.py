#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Exports: out of a cluster, into files, back into a memory.

usage: round_trip.py PROGRAM_DIR [CLASS[.test] ...]

Goal: export, drop, build from the export is the same memory: the content hash, which is computed here
from the files alone, and every answer; what kill -9, a lost node or a full disk leaves of an export
is never taken for the whole, and the same command works afterwards.

Method: the real programs, four shards and one. The hash is computed as proto/wire/packed.h defines
it, by hashlib and struct. Interruptions come when the files of the export have grown to a size.
Without the right to mount, no full disk.
"""
import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import tempfile
from pathlib import Path

import cli
from cli import (IMAGES, PATIENCE, caption_of, make_folder, make_rows, on_small_disk, read_npy, reco,
                 same_but_for_time, write_npy)
from procs import wait_for

ROWS = 20000  # of a memory that takes long enough to be interrupted
DIMENSION = 64
SPACE = f"rows:{DIMENSION}"
PROMPTS = ("penguin", "rocket", "octopus")
FORMATS = ("npy", "jsonl")


def hash_of_records(records):
    """The content hash of (line of JSON, image row, text row), rows as bytes of halves."""
    total = 0
    for line, image, text in records:
        texts = [line["key"].encode(), line["caption"].encode(), line["source"].encode(),
                 "\x1f".join(line["tags"]).encode()]
        head = struct.pack("<6H", *map(len, texts), len(image) // 2, 1 if line.get("hidden") else 0)
        digest = hashlib.sha256(head + b"".join(texts) + image + text).digest()
        total += int.from_bytes(digest[:16], "little")
    return (total % 2**128).to_bytes(16, "little").hex()


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def rows_of(path):
    """The rows of an array, each as its bytes in half precision."""
    (count, dimension), values = read_npy(path)
    return [struct.pack(f"<{dimension}e", *values[i * dimension:(i + 1) * dimension]) for i in range(count)]


def read_export(folder):
    """The records of an export in either format, shard by shard."""
    for path in sorted(folder.glob("records_*.jsonl")):
        for line in lines_of(path):
            yield line, *(struct.pack(f"<{len(line[name])}e", *line[name])
                          for name in ("image_embedding", "text_embedding"))
    for path in sorted(folder.glob("metadata/metadata_*.jsonl")):
        number = path.stem.split("_")[1]
        rows = [rows_of(folder / part / f"{part}_{number}.npy") for part in ("img_emb", "text_emb")]
        lines = lines_of(path)
        assert len(lines) == len(rows[0]) == len(rows[1]), folder
        yield from zip(lines, *rows)


class Case(cli.Case):
    def content_hash(self, memory, *place):
        return self.lines("memory", "info", memory, "--hash", *place)[0]["content_hash"]

    def export(self, memory, out, *flags):
        return self.lines("memory", "export", memory, "--out", out, *flags)[0]


class Exports(Case):
    """Of memories that are left alone."""

    def test_an_export_becomes_the_same_memory_again(self):
        data = ["--data", self.top / "data"]
        rows = [[(7 * i + j * j) % 11 - 5 + 0.1 * i for j in range(8)] for i in range(50)]
        write_npy(self.top / "a.npy", rows)
        write_npy(self.top / "b.npy", rows[::-1])
        lines = [{"key": f" k\t{i}\n", "caption": f" \"c\" {i} \U0001f600\n", "source": "" if i % 2 else f"s{i} ",
                  "tags": ["b;x", "a ", " \u00e9"][:i % 4], "hidden": i % 5 == 0} for i in range(50)]
        (self.top / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.assertEqual(reco("memory", "build", "one", self.top / "a.npy", self.top / "b.npy", self.top / "m.jsonl",
                              "--space", "s:8", *data).returncode, 0)
        before = self.content_hash("one", *data)
        out = self.top / "x"
        told = reco("memory", "export", "one", "--out", out, "--shard-rows", "20", "--json", *data)
        self.assertEqual(json.loads(told.stdout),
                         {"memory": "one@1", "space": "s:8", "records": 50, "hidden": 10, "shards": 3})
        written = [json.loads(line) for i in range(3)
                   for line in (out / f"metadata/metadata_{i}.jsonl").read_text().splitlines()]
        plain = [{**line, "hidden": line.get("hidden", False)} for line in written]
        self.assertEqual(sorted(plain, key=lambda line: line["key"]), sorted(lines, key=lambda line: line["key"]))
        self.refused(1, "not empty", "memory", "export", "one", "--out", out, *data)
        nothing = reco("memory", "export", "one", "--out", self.top / "none", "--only", "nope", *data)
        self.assertEqual((nothing.returncode, nothing.stdout), (0, f"one@1: 0 records in {self.top / 'none'}\n"))
        self.assertIn("no record matches --filter and --only; no file was written", nothing.stderr)
        flat = self.top / "flat"
        self.assertEqual(reco("memory", "export", "one", "--out", flat, "--format", "jsonl", "--shard-rows", "20",
                              *data).returncode, 0)
        self.assertEqual(sorted(os.listdir(flat)), [f"records_{i}.jsonl" for i in range(3)])
        reco("memory", "drop", "one", *data)
        files = [flat / f"records_{i}.jsonl" for i in range(3)]
        for memory, sources in (("two", [out]), ("flat", [flat]), ("files", files)):
            self.assertEqual(reco("memory", "build", memory, *sources, "--space", "s:8", *data).returncode, 0)
            self.assertEqual(self.content_hash(memory, *data), before, memory)
        self.refuse_embeddings(files[0], data)
        (flat / "export.partial").write_text("")
        for source in (flat, files[1]):
            self.refused(1, "export anew", "memory", "build", "three", source, "--space", "s:8", *data)

        # What is only a part is not taken for the whole, and the same command makes it whole.
        (out / "export.partial").write_text("")
        self.refused(1, "export anew", "memory", "build", "three", out, "--space", "s:8", *data)
        self.assertEqual(reco("memory", "export", "two", "--out", out, "--filter", "tag=a ", *data).returncode, 0)
        self.assertEqual(len((out / "metadata/metadata_0.jsonl").read_text().splitlines()), 24)
        self.assertFalse((out / "img_emb/img_emb_1.npy").exists() or (out / "export.partial").exists())

    def refuse_embeddings(self, file, data):
        """What is wrong with an embedding costs its line, or in the first one the build."""
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        lines[1]["image_embedding"].pop()
        del lines[2]["text_embedding"]
        lines[3]["text_embedding"][4] = 1e39
        lines[4]["image_embedding"][0] = "1"
        lines[5]["image_embedding"] = [0] * 8
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        done = reco("memory", "build", "faulty", file, "--space", "s:8", "--json", *data)
        for words in ("image_embedding: 7 numbers: 8 are allowed", "text_embedding: is missing", "element 4 is 1e+39",
                      "element 0 is not a number", "image_embedding: is all zeros"):
            self.assertIn(words, done.stderr + done.stdout)
        self.assertEqual(json.loads(done.stdout.splitlines()[-1])["records"], len(lines) - 5)
        lines[0]["image_embedding"] = [1] * 4097
        file.write_text(json.dumps(lines[0]) + "\n")
        done = reco("memory", "build", "long", file, "--space", "s:8", *data)
        self.assertEqual(done.returncode, 1)
        self.assertIn("4097 numbers: an array of 1 to 4096", done.stderr)

    def test_four_shards_give_the_same_memory_back(self):
        """With records replaced, hidden, shown again and deleted since it was built."""
        cluster = self.start("--shards", "4")
        served = ("--server", cluster.address)
        keys = ["/".join(image.name.split(".")[:2]) for image in IMAGES]
        self.run_ok("memory", "build", "m", make_folder(self.top / "photos"), *served)
        for key, image in ((keys[0], IMAGES[1]), (keys[2], IMAGES[3]), (" new\t\u00e9", IMAGES[4])):
            self.run_ok("memory", "add", "m", "--key", key, "--image", image, "--caption",
                        f" {caption_of(image)} \"again\"\n\U0001f600", "--tag", "b;x", "--tag", " a", "--source", "", *served)
        self.run_ok("memory", "hide", "m", keys[2], keys[7], keys[8], *served)
        self.run_ok("memory", "unhide", "m", keys[8], *served)
        self.run_ok("memory", "delete", "m", keys[9], keys[10], *served)
        wanted = self.content_hash("m", *served)
        answers = self.answers(*served)
        for form in FORMATS:
            out = self.top / form
            told = self.export("m", out, "--format", form, "--shard-rows", "20", *served)
            self.assertEqual((told["records"], told["hidden"]), (len(IMAGES) - 1, 2))
            records = list(read_export(out))
            self.assertEqual(hash_of_records(records), wanted)
            by_key = {line["key"]: line for line, _, _ in records}
            self.assertEqual(len(by_key), len(IMAGES) - 1)
            self.assertEqual((by_key[keys[0]]["tags"], by_key[keys[2]]["hidden"]), (["b;x", " a"], True))
            self.assertFalse({keys[9], keys[10]} & set(by_key))
            self.run_ok("memory", "drop", "m", *served)
            self.assertEqual(self.lines("memory", "list", *served), [])
            self.run_ok("memory", "build", "m", out, "--space", told["space"], *served)
            self.assertEqual(self.content_hash("m", *served), wanted)
            self.assertEqual(self.answers(*served), answers)
        self.assertEqual(cluster.stop(), 0)
        alone = ("--data", self.top / "alone")
        self.run_ok("memory", "build", "m", out, "--space", told["space"], *alone)
        self.assertEqual((self.content_hash("m", *alone), self.answers(*alone)), (wanted, answers))

    def answers(self, *place):
        """Without what differs from call to call, and from one generation to the next."""
        labels = self.top / "labels.txt"
        labels.write_text("\n".join(PROMPTS))
        images = [flag for image in IMAGES[:12] for flag in ("--image", image)]
        texts = [flag for text in PROMPTS for flag in ("--text", text)]
        lines = [*self.lines("search", *images, "-k", 20, "-m", "m", *place),
                 *self.lines("search", *texts, "--fields", "key,caption,source,tags,text_embedding", "-m", "m", *place),
                 *self.lines("search", *images, "--filter", "tag= a", "-m", "m", *place),
                 *self.lines("refine", *texts, "-m", "m", *place),
                 *self.lines("classify", *IMAGES[:3], "-m", "m", "--labels", labels, *place)]
        return [{**line, "generation": 0} for line in same_but_for_time(lines)]


class Interruptions(Case):
    """One large memory in a cluster for all; each test leaves it as it was."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="reco-cli-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.rows = make_rows(cls.folder / "rows", ROWS, DIMENSION)
        cls.cluster = cli.Cluster(cls.folder / "served", "--shards", "4")
        cls.addClassCleanup(cls.cluster.stop)
        cls.served = ("--server", cls.cluster.address)
        done = reco("memory", "build", "m", cls.rows, "--space", SPACE, *cls.served)
        assert done.returncode == 0, done.stderr

    def setUp(self):
        super().setUp()
        self.wanted = self.content_hash("m", *self.served)
        self.out = self.top / "out"

    def begin(self, form, *place, then):
        """Begins an export and stops it when it has written a part."""
        process = subprocess.Popen([str(part) for part in (cli.PROGRAMS / "reco", "memory", "export", "m", "--out",
                                                           self.out, "--format", form, "--shard-rows", ROWS // 8, *place)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        name = "records_1.jsonl" if form == "jsonl" else "metadata/metadata_1.jsonl"
        wait_for("a part is written", lambda: process.poll() is not None or (self.out / name).exists())
        process.send_signal(then)
        return process

    def expect_a_part(self, *place):
        """Nothing of it is taken, neither the folder nor a file."""
        self.assertTrue((self.out / "export.partial").exists())
        for source in (self.out, *sorted(self.out.glob("records_*.jsonl"))):
            self.refused(1, "export anew", "memory", "build", "part", source, "--space", SPACE, *place)
        self.assertNotIn("part", [one["memory"] for one in self.lines("memory", "list", *place)])

    def expect_whole(self, form, *place):
        """The same command again; a second file of an old part may not be left."""
        told = self.export("m", self.out, "--format", form, *place)
        self.assertEqual((told["records"], told["shards"]), (ROWS, 1))
        self.assertFalse((self.out / "export.partial").exists())
        self.assertEqual(hash_of_records(read_export(self.out)), self.wanted)

    def wait_until_whole_again(self):
        wait_for("the memory is whole", lambda: self.lines("memory", "info", "m", "--hash", *self.served)[0]
                 .get("content_hash") == self.wanted)

    def kill_an_exporter(self, form, *place):
        process = self.begin(form, *place, then=signal.SIGKILL)
        self.assertEqual((process.communicate(timeout=PATIENCE), process.returncode), (("", ""), -signal.SIGKILL))
        self.expect_a_part(*place)
        self.expect_whole(form, *place)

    def test_an_exporter_that_is_killed_leaves_a_part_that_says_so(self):
        self.kill_an_exporter("npy", *self.served)

    def test_so_does_one_that_opens_the_data_itself(self):
        local = ("--data", self.data)
        self.run_ok("memory", "build", "m", self.rows, "--space", SPACE, *local)
        self.kill_an_exporter("jsonl", *local)

    def test_a_shard_that_is_killed_ends_the_export_with_its_name(self):
        process = self.begin("npy", *self.served, "--json", then=signal.SIGSTOP)
        victim = self.cluster.children()["reco-shard"][-1]
        os.kill(victim, signal.SIGKILL)
        wait_for("another one runs", lambda: victim not in self.cluster.children().get("reco-shard", [victim]))
        process.send_signal(signal.SIGCONT)
        told, words = process.communicate(timeout=PATIENCE)
        self.assertEqual((told, process.returncode), ("", 3), words)
        self.assertIn("node ", words)
        self.expect_a_part(*self.served)
        self.wait_until_whole_again()
        self.expect_whole("npy", *self.served)

    def test_a_share_that_is_missing_is_no_export(self):
        victim = self.cluster.children()["reco-shard"][1]
        os.kill(victim, signal.SIGSTOP)
        try:
            done = self.refused(3, "node ", "memory", "export", "m", "--out", self.out, "--json", *self.served)
        finally:
            os.kill(victim, signal.SIGCONT)
        self.assertEqual(done.stdout, "")
        self.expect_a_part(*self.served)
        self.wait_until_whole_again()
        self.expect_whole("npy", *self.served)

    def test_a_full_disk_is_said_and_hurts_nobody_else(self):
        mount = self.top / "disk"
        mount.mkdir()
        children = self.cluster.children()
        for form, size in (("npy", "1m"), ("jsonl", "1m"), ("npy", "8k"), ("npy", "4k")):
            done = on_small_disk(self, mount, size, "memory", "export", "m", "--out", mount / "out", "--format", form,
                                 "--json", *self.served)
            status, *left = done.stdout.splitlines()
            self.assertEqual(status, "1", done.stderr)
            self.assertIn(f"{mount}/out", done.stderr)
            self.assertIn("No space left on device", done.stderr)
            self.assertIn("export.partial", left, f"{form} {size}")
        self.assertEqual(self.content_hash("m", *self.served), self.wanted)
        self.assertEqual(self.cluster.children(), children)
        self.expect_whole("npy", *self.served)


if __name__ == "__main__":
    cli.main()
