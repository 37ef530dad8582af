#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Evaluations, and what is no data set.

usage: eval.py PROGRAM_DIR [CLASS[.test] ...]

Goal: the metrics of `reco eval` are those of its embeddings, whichever way a data set comes, and the counts are those
of `reco classify`; mistakes are named with field, value and what is allowed.

Method: cli.py's. Search, hygiene, gate, fusion and metrics again in Python's doubles, from what `reco embed` and
`reco memory export` write.
"""
import hashlib
import html.parser
import io
import json
import math
import re
import shutil
import struct
import subprocess
import tarfile
import tempfile
import xml.etree.ElementTree
from pathlib import Path

import cli
from cli import IMAGES, Case, Cluster, caption_of, make_folder, make_rows, on_small_disk, read_npy, reco, write_npy

K = 5
KINDS = sorted({image.name.split(".")[0] for image in IMAGES})
ASKED = [image for image in IMAGES if "fluent" in image.name]
HELD = [image for image in IMAGES if "fluent" not in image.name]
TEMPLATES = ["a drawing of a {c}", "{c}"]


def kind_of(image):
    return image.name.split(".")[0]


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def write_benchmark(folder, samples, split="test", shards=2):
    """CLIP_benchmark's layout; samples: (picture, {extension: bytes})."""
    (folder / split).mkdir(parents=True)
    (folder / split / "nshards.txt").write_text(str(shards))
    for shard in range(shards):
        members = []
        for i, (picture, beside) in enumerate(samples):
            if i % shards == shard:
                members.append((f"s{i:07d}{picture.suffix}", picture.read_bytes()))
                members += [(f"s{i:07d}.{kind}", data) for kind, data in beside.items()]
        write_tar(folder / split / f"{shard}.tar", members)
    return folder


def classified(folder, images=None, **named):
    """The pictures with the numbers of their kinds."""
    samples = [(image, {"cls": str(KINDS.index(kind_of(image))).encode()}) for image in images or ASKED]
    write_benchmark(folder, samples, **named)
    (folder / "classnames.txt").write_text("".join(f"{kind}\n" for kind in KINDS))
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES))
    return folder


# --- the oracle

def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def unit(a):
    length = math.sqrt(dot(a, a))
    return [x / length for x in a]


def rows_of(path):
    shape, values = read_npy(path)
    return [values[i * shape[1]:(i + 1) * shape[1]] for i in range(shape[0])]


def neighbours(query, searched, payload, k):
    """What hygiene leaves of the nearest: (score, payload row), best first."""
    scored = sorted(((dot(query, row), -i) for i, row in enumerate(searched)), reverse=True)
    kept = []
    for score, place in scored[:2 * k + 8]:
        row = payload[-place]
        if any(other - score <= 1e-6 and dot(unit(row), unit(held)) > 0.9999 for other, held in kept):
            continue
        kept.append((score, row))
        if len(kept) == k:
            break
    return kept


def refined(query, searched, payload, mode, k):
    if mode == "none":
        return query
    kept = neighbours(query, searched, payload, k)
    shares = [math.exp(20 * (score - kept[0][0])) if mode == "weighted" else 1 for score, _ in kept]
    mixed = list(query)
    for share, (_, row) in zip(shares, kept):
        mixed = [x + 2 * share / sum(shares) * y for x, y in zip(mixed, row)]
    gate = min(max(kept[0][0], 0), 1)
    return unit([x + gate * (y - x) for x, y in zip(query, unit(mixed))])


def metrics_of(images, truth, prototypes):
    """Of the place of each picture's label."""
    places = []
    for image, right in zip(images, truth):
        scores = [dot(image, prototype) for prototype in prototypes]
        places.append(sum(score > scores[right] for score in scores))
    recalls = [sum(p == 0 for p, t in zip(places, truth) if t == label) / truth.count(label)
               for label in sorted(set(truth))]
    return {"acc1": sum(p == 0 for p in places) / len(places), "acc5": sum(p < 5 for p in places) / len(places),
            "mean_per_class_recall": sum(recalls) / len(recalls)}


class Memory(Case):
    """One memory for all: the drawings in three styles; the fourth asks."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="reco-eval-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.local = cls.folder / "local"
        cls.photos = make_folder(cls.folder / "photos", HELD)
        done = reco("memory", "build", "default", cls.photos, "--data", cls.local)
        assert done.returncode == 0, done.stderr

    def eval(self, kind, *arguments, head=False, **named):
        """Lines of the modes that need no head, unless --modes or `head` says otherwise."""
        modes = () if head or "--modes" in arguments else ("--modes", "mean,weighted")
        return self.lines("eval", kind, *arguments, *modes, "--data", self.local, **named)

    def refuse(self, status, words, kind, *arguments):
        self.refused(status, words, "eval", kind, *arguments, "--data", self.local)

    def embed(self, what, items, *flags):
        self.run_ok("embed", what, *items, "--out", self.top / "rows.npy", *flags)
        return rows_of(self.top / "rows.npy")

    def exported(self):
        self.run_ok("memory", "export", "default", "--out", self.top / "rows", "--data", self.local)
        return [rows_of(self.top / "rows" / side / f"{side}_0.npy") for side in ("img_emb", "text_emb")]


class ZeroShot(Memory):
    def expected(self, images, templates):
        truth = [KINDS.index(kind_of(image)) for image in images]
        queries = self.embed("image", images, "--profile", "openai")
        prompts = self.embed("text", [template.replace("{c}", kind) for kind in KINDS for template in templates])
        count = len(templates)
        plain = [unit([sum(column) for column in zip(*prompts[i * count:(i + 1) * count])])
                 for i in range(len(KINDS))]
        pictures, texts = self.exported()
        return {mode: metrics_of([refined(query, pictures, texts, mode, K) for query in queries], truth,
                                 [refined(prototype, texts, pictures, mode, K) for prototype in plain])
                for mode in ("none", "mean", "weighted")}

    def test_metrics_are_those_of_the_embeddings(self):
        # Classes of unequal sizes: recall by class differs from accuracy.
        images = ASKED + [ASKED[0]] * 5 + [IMAGES[i] for i in (1, 2, 3, 7, 9, 10)]
        folder = classified(self.top / "set", images)
        lines = self.eval("zero-shot", folder, "-k", K)
        expected = self.expected(images, TEMPLATES)
        self.assertEqual([line["mode"] for line in lines], ["none", "mean", "weighted"])
        for line in lines:
            for name, value in expected[line["mode"]].items():
                self.assertAlmostEqual(line["metrics"][name], value, 5, f"{line['mode']} {name}")
            self.assertEqual((line["dataset"], line["model"], line["task"], line["language"]),
                             ("set", "reco-tiny", "zeroshot_classification", "en"))
            self.assertEqual((line["memory"], line["records"], line["k"], line["count"]),
                             ("default@1", len(HELD), K, len(images)))
            self.assertTrue(line["pretrained"].endswith(":128"))
            for name, words in (("labels_sha256", KINDS), ("templates_sha256", TEMPLATES)):
                self.assertEqual(line[name], hashlib.sha256("".join(f"{word}\n" for word in words).encode()).hexdigest())
            low, high = line["intervals"]["acc1"].values()
            self.assertTrue(low <= line["metrics"]["acc1"] <= high)
            self.assertAlmostEqual(line["differences"]["acc1"]["value"],
                                   line["metrics"]["acc1"] - lines[0]["metrics"]["acc1"], 5)
        self.assertNotAlmostEqual(lines[0]["metrics"]["acc1"], lines[0]["metrics"]["mean_per_class_recall"], 2)
        self.assertGreater(lines[2]["differences"]["acc1"]["low"], 0)

    def test_folders_manifests_and_a_server_give_the_same(self):
        labels = self.top / "labels.txt"
        labels.write_text("# kinds\n" + "".join(f"{kind}\t{kind} thing\n" for kind in KINDS))
        manifest = self.top / "set.jsonl"
        manifest.write_text("".join(json.dumps({"image": str(image), "caption": kind_of(image)}) + "\n" for image in ASKED))
        folder = self.top / "set"
        folder.mkdir()
        for image in ASKED:
            shutil.copy(image, folder)
            (folder / image.with_suffix(".txt").name).write_text(f"{kind_of(image)} thing\n")
        cluster = Cluster(self.folder / "served", "--shards", "2")
        self.addCleanup(cluster.stop)
        self.run_ok("memory", "build", "default", self.photos, "--server", cluster.address)
        found = [self.eval("zero-shot", source, "--labels", labels) for source in (manifest, folder)]
        found.append(self.lines("eval", "zero-shot", manifest, "--labels", labels, "--modes", "mean,weighted",
                                "--server", cluster.address))
        alike = [[{key: value for key, value in line.items() if key not in ("dataset", "seconds", "encode_seconds")}
                  for line in lines] for lines in found]
        self.assertEqual(alike[0], alike[1])
        self.assertEqual(alike[0], alike[2])
        # And the counts are those of classify.
        for line in found[0]:
            answers = self.lines("classify", *ASKED, "--labels", labels, "--fusion", line["mode"], "--top", "1",
                                 "--profile", "openai", "--data", self.local)
            right = sum(answer["refined"][0]["label"] == kind_of(image) for answer, image in zip(answers, ASKED))
            self.assertAlmostEqual(line["metrics"]["acc1"], right / len(ASKED), 5)

    def test_other_splits_templates_labels_and_embeddings(self):
        folder = classified(self.top / "set", split="val", shards=1)
        plain = self.eval("zero-shot", folder, "--split", "val", "--modes", "none")
        self.assertEqual(len(plain), 1)
        self.assertIsNone(plain[0]["memory"])
        one = self.eval("zero-shot", folder, "--split", "val", "--modes", "none", "--template", "{}")
        self.assertNotEqual(one[0]["metrics"], plain[0]["metrics"])
        # Names as .cls, and labels of their own.
        named = write_benchmark(self.top / "named", [(image, {"cls": kind_of(image).encode()}) for image in ASKED])
        labels = self.top / "labels.txt"
        labels.write_text("".join(f"{kind}\n" for kind in KINDS))
        same = self.eval("zero-shot", named, "--labels", labels, "--modes", "none", "--template", "{}")
        self.assertEqual(same[0]["metrics"], one[0]["metrics"])
        # Fewer than five labels have no top 5.
        few = self.top / "few.txt"
        few.write_text("penguin\nowl\n")
        manifest = self.top / "few.csv"
        manifest.write_text("image,caption\n" + "".join(f"{image},{kind_of(image)}\n" for image in ASKED
                                                        if kind_of(image) in ("penguin", "owl")))
        self.assertIsNone(self.eval("zero-shot", manifest, "--labels", few)[0]["metrics"]["acc5"])
        # Embeddings in place of pictures.
        rows = self.embed("image", ASKED, "--profile", "openai")
        for side in ("img_emb", "text_emb", "metadata"):
            (self.top / "arrays" / side).mkdir(parents=True)
        write_npy(self.top / "arrays/img_emb/img_emb_0.npy", rows)
        write_npy(self.top / "arrays/text_emb/text_emb_0.npy", rows)
        (self.top / "arrays/metadata/metadata_0.jsonl").write_text(
            "".join(json.dumps({"key": f"k{i}", "caption": kind_of(image)}) + "\n" for i, image in enumerate(ASKED)))
        given = self.eval("zero-shot", self.top / "arrays", "--labels", labels, "--template", "{}")
        self.assertEqual(given[0]["metrics"], one[0]["metrics"])

    def test_labels_of_a_layout_may_repeat(self):
        folder = classified(self.top / "set", shards=1)
        (folder / "classnames.txt").write_text("".join(f"{kind}\n" for kind in KINDS + KINDS[:1]))
        self.assertEqual(self.eval("zero-shot", folder, "--modes", "none")[0]["count"], len(ASKED))
        labels = self.top / "labels.txt"
        labels.write_text("".join(f"{kind}\n" for kind in KINDS + KINDS[:1]))
        self.refuse(1, f"--labels: '{labels}': the name '{KINDS[0]}' comes twice", "zero-shot", folder, "--labels", labels)

    def test_says_what_the_memory_has_itself(self):
        labels = self.top / "labels.txt"
        labels.write_text("".join(f"{caption_of(image)}\n" for image in ASKED))
        done = self.run_ok("eval", "zero-shot", self.photos, "--labels", labels, "--data", self.local)
        self.assertIn(f"{len(HELD)} pictures of the data set are in the memory themselves", done.stderr)
        lines = self.eval("zero-shot", self.photos, "--labels", labels)
        self.assertEqual([line["in_memory"] for line in lines], [0, len(HELD), len(HELD)])
        other = self.eval("zero-shot", classified(self.top / "set"))
        self.assertEqual([line["in_memory"] for line in other], [0, 0, 0])

    def test_a_head(self):
        folder = classified(self.top / "set", shards=1)
        # The model's own is measured unless others are asked for.
        lines = self.eval("zero-shot", folder, head=True)
        self.assertEqual([line["mode"] for line in lines], ["none", "mean", "weighted", "head"])
        self.refuse(1, "/nonexistent", "zero-shot", folder, "--modes", "head", "--head", "/nonexistent")
        weighted = self.eval("zero-shot", folder, "--modes", "weighted")[1]
        space, head = weighted["pretrained"], self.top / "head.safetensors"
        subprocess.run([cli.PROGRAMS / "new_head", space, "128", head], check=True)
        lines = self.eval("zero-shot", folder, "--modes", "head,weighted", "--head", head)
        self.assertEqual([line["mode"] for line in lines], ["none", "head", "weighted"])
        # A head that was not trained is weighted fusion.
        self.assertEqual(lines[1]["metrics"], weighted["metrics"])
        # The data directory may have it.
        (self.local / "heads").mkdir()
        self.addCleanup(shutil.rmtree, self.local / "heads")
        shutil.copy(head, self.local / "heads" / f"{space.split(':')[0]}.safetensors")
        self.assertEqual(self.eval("zero-shot", folder, "--modes", "head")[1]["metrics"], weighted["metrics"])
        # A head is of a space, not of a memory: it takes in another one's neighbours.
        fewer = make_folder(self.top / "fewer", HELD[::2])
        self.run_ok("memory", "build", "fewer", fewer, "--data", self.local)
        self.addCleanup(reco, "memory", "drop", "fewer", "--data", self.local)
        lines = self.eval("zero-shot", folder, "--memory", "fewer", "--modes", "weighted,head", "--head", head)
        self.assertEqual(lines[2]["metrics"], lines[1]["metrics"])
        self.assertNotEqual(lines[2]["metrics"], weighted["metrics"])
        self.assertEqual((lines[2]["memory"].split("@")[0], lines[2]["records"]), ("fewer", len(HELD[::2])))
        other = self.top / "other.safetensors"
        subprocess.run([cli.PROGRAMS / "new_head", "other:128", "128", other], check=True)
        self.refuse(1, "other:128", "zero-shot", folder, "--modes", "head", "--head", other)
        data = head.read_bytes()
        header_bytes, = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8 + header_bytes])
        header["__metadata__"]["gate"] = '{"bias":1}'
        packed = json.dumps(header).encode()
        other.write_bytes(struct.pack("<Q", len(packed)) + packed + data[8 + header_bytes:])
        self.refuse(1, "other.safetensors': gate: is no object of 10 numbers", "zero-shot", folder, "--modes", "head",
                    "--head", other)

    def test_what_is_no_question(self):
        folder = classified(self.top / "set", shards=1)
        self.refuse(1, "nowhere: no such file or folder", "zero-shot", self.top / "nowhere")
        self.refuse(2, "--modes: 'best' is no mode; allowed: none, mean, weighted, head", "zero-shot", folder, "--modes", "mean,best")
        self.refuse(2, "--modes: 'mean' comes twice", "zero-shot", folder, "--modes", "mean,mean")
        self.refuse(1, f"-k: 100: of the memory default@1 {len(HELD)} records may be found; allowed: 1..{len(HELD)}",
                    "zero-shot", folder, "-k", "100")
        self.refuse(2, "--template: 'a thing' is not allowed: a text with exactly one {}", "zero-shot", folder, "--template", "a thing")
        self.refuse(1, "--labels: '/nonexistent'", "zero-shot", folder, "--labels", "/nonexistent")
        self.refuse(1, "--labels: is needed", "zero-shot", self.photos)
        self.refuse(1, "no memory", "zero-shot", folder, "--memory", "nobody")
        rows = make_rows(self.top / "rows", 20)
        self.run_ok("memory", "build", "rows", rows, "--space", "x:8", "--data", self.local)
        self.addCleanup(reco, "memory", "drop", "rows", "--data", self.local)
        self.refuse(1, "is in space x:8 and the model reco-tiny encodes into", "zero-shot", folder, "--memory", "rows", "-k", "3")

    def row_labels(self):
        (self.top / "rows.txt").write_text("row 0\nrow 1\nrow 2\n")
        return self.top / "rows.txt"

    def test_what_is_no_data_set(self):
        labels = self.top / "labels.txt"
        labels.write_text("".join(f"{kind}\n" for kind in KINDS))
        manifest = self.top / "set.csv"
        manifest.write_text(f"image,caption\n{ASKED[0]},unicorn\n{ASKED[1]},{kind_of(ASKED[1])}\n")
        self.refuse(1, f"label: 'unicorn' is none of the {len(KINDS)} labels of", "zero-shot", manifest, "--labels", labels)
        done = reco("eval", "zero-shot", manifest, "--labels", labels, "--keep-going", "--json", "--data", self.local)
        self.assertEqual((done.returncode, json.loads(done.stdout.splitlines()[0])["count"]), (1, 1))
        self.assertIn("unicorn", done.stderr)
        empty = self.top / "empty"
        empty.mkdir()
        self.refuse(1, "has no pictures", "zero-shot", empty, "--labels", labels)
        self.refuse(1, "its embeddings have 8 numbers and the model's space has dimension 128", "zero-shot",
                    make_rows(self.top / "rows", 3), "--labels", self.row_labels())
        write_tar(self.top / "empty.tar", [])
        self.refuse(1, "empty.tar: no picture in it can be used", "zero-shot", self.top / "empty.tar", "--labels", labels)
        bare = write_benchmark(self.top / "bare", [(image, {}) for image in ASKED])
        self.refuse(1, "the sample has no .txt and no .json, and no .cls", "zero-shot", bare, "--labels", labels)
        self.refuse(1, "classnames.txt", "zero-shot", bare)
        blank = write_benchmark(self.top / "blank", [(image, {"cls": b" \n"}) for image in ASKED])
        self.refuse(1, ".cls: is empty or not UTF-8", "zero-shot", blank, "--labels", labels)
        beyond = write_benchmark(self.top / "beyond", [(ASKED[0], {"cls": b"16"}), (ASKED[1], {"cls": b"-1"})], shards=1)
        self.refuse(1, f"label: 16: {labels} has {len(KINDS)} labels; allowed: 0..{len(KINDS) - 1}", "zero-shot", beyond, "--labels", labels)
        broken = write_benchmark(self.top / "broken", [(labels.rename(self.top / "broken.png"), {"cls": b"1"}), (ASKED[0], {"cls": b"1"})])
        labels.write_text("a\nb\n")
        self.refuse(1, "broken/test/0.tar: s0000000", "zero-shot", broken, "--labels", labels)
        done = reco("eval", "zero-shot", broken, "--labels", labels, "--keep-going", "--json", "--data", self.local)
        self.assertEqual((done.returncode, json.loads(done.stdout.splitlines()[0])["count"]), (1, 1))

    def test_what_is_no_layout(self):
        folder = classified(self.top / "set")
        shards = folder / "test" / "nshards.txt"
        for words in ("0", "many", "", "1 2"):
            shards.write_text(words)
            self.refuse(1, f"nshards.txt: '{words}' is not allowed: a whole number from 1 to 100000 is", "zero-shot", folder)
        shards.write_text("3\n")
        self.refuse(1, "2.tar: no such shard; nshards.txt says that there are 3", "zero-shot", folder)
        shards.unlink()
        self.refuse(1, "nshards.txt: no such file", "zero-shot", folder)
        self.refuse(1, "train/nshards.txt: no such file", "zero-shot", folder, "--split", "train")
        shards.write_text("2")
        self.refuse(1, "which stands alone", "zero-shot", folder, self.photos)
        (folder / "classnames.txt").write_text("a\n\nb\n")
        self.refuse(1, "line 3: an empty line before it", "zero-shot", folder)
        (folder / "classnames.txt").write_text("".join(f"{kind}\n" for kind in KINDS))
        (folder / "zeroshot_classification_templates.txt").write_text("a {c} of {c}\n")
        self.refuse(1, "'a {c} of {c}' must have {} or {c} exactly once", "zero-shot", folder)


MASK = (1 << 64) - 1


def drawn_order(count, seed):
    """Records in the order of their lots, as the program draws them (splitmix64)."""
    order = []
    for i in range(count):
        seed = (seed + 0x9e3779b97f4a7c15) & MASK
        mixed = seed
        mixed = ((mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9) & MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94d049bb133111eb) & MASK
        mixed ^= mixed >> 31
        other = (mixed >> 32) * (i + 1) >> 32
        order.append(i)
        order[i], order[other] = order[other], i
    return order


class Sweeps(Memory):
    """Zero-shot at several points, against the oracle with the memory that each point stands for."""

    def setUp(self):
        super().setUp()
        self.set = classified(self.top / "set")
        self.truth = [KINDS.index(kind_of(image)) for image in ASKED]
        # In the order of the shards.
        order = [i for shard in range(2) for i in range(len(ASKED)) if i % 2 == shard]
        self.images = self.embed("image", [ASKED[i] for i in order], "--profile", "openai")
        self.truth = [self.truth[i] for i in order]
        self.names = self.embed("text", KINDS)
        self.pictures, self.texts = self.exported()

    def expect(self, line, mode, k, pictures=None, texts=None, search_across=False, fuse_same=False):
        pictures, texts = pictures or self.pictures, texts or self.texts
        asked = (texts, pictures) if search_across else (pictures, texts)  # by pictures, by names
        mixed = (pictures, texts) if fuse_same else (texts, pictures)
        found = metrics_of([refined(query, asked[0], mixed[0], mode, k) for query in self.images], self.truth,
                           [refined(query, asked[1], mixed[1], mode, k) for query in self.names])
        for name, value in found.items():
            self.assertAlmostEqual(line["metrics"][name], value, 5, f"{mode} {name} of {line}")

    def sweep(self, kind, *arguments):
        lines = self.eval(kind, self.set, "--template", "{}", *arguments)
        self.assertEqual(lines[0]["mode"], "none")
        self.assertTrue(all(line["mode"] != "none" for line in lines[1:]))
        return lines

    def test_noise(self):
        lines = self.sweep("noise", "-k", K, "--noise", "0,50,100", "--seed", "7")
        self.assertEqual([(line["noise"], line["mode"]) for line in lines],
                         [(None, "none")] + [(share, mode) for share in (0, 0.5, 1) for mode in ("mean", "weighted")])
        order = drawn_order(len(HELD), 7)
        for line in lines[1:]:
            wrong = order[:round(len(HELD) * line["noise"])]
            texts = list(self.texts)
            for i, place in enumerate(wrong):
                texts[place] = self.texts[wrong[(i + 1) % len(wrong)]]
            self.expect(line, line["mode"], K, texts=texts)
        self.assertGreater(lines[2]["metrics"]["acc1"], lines[6]["metrics"]["acc1"] + 0.3)
        again = self.sweep("noise", "-k", K, "--noise", "100", "--seed", "7")
        self.assertEqual([line["metrics"] for line in again[1:]], [line["metrics"] for line in lines[5:]])

    def test_ksweep(self):
        lines = self.sweep("ksweep", "--neighbours", "1,3,20", "--modes", "weighted")
        self.assertEqual([line["neighbours"] for line in lines], [None, 1, 3, 20])
        for line in lines[1:]:
            self.assertEqual(line["k"], line["neighbours"])
            self.expect(line, "weighted", line["neighbours"])
        self.refuse(1, f"--neighbours: 200: of the memory default@1 {len(HELD)} records may be found", "ksweep", self.set,
                    "--neighbours", "3,200")

    def test_memory_size(self):
        lines = self.sweep("memory-size", "-k", K, "--sizes", f"10,{len(HELD)}", "--modes", "weighted", "--seed", "3")
        self.assertEqual([(line["size"], line["records"]) for line in lines[1:]], [(10, 10), (len(HELD), len(HELD))])
        left = sorted(drawn_order(len(HELD), 3)[:10])
        self.expect(lines[1], "weighted", K, [self.pictures[i] for i in left], [self.texts[i] for i in left])
        self.expect(lines[2], "weighted", K)
        usual = self.sweep("memory-size", "-k", "2", "--modes", "mean")
        self.assertEqual([line["size"] for line in usual[1:]],
                         [max(len(HELD) // part, 2) for part in (64, 16, 4, 1)])
        self.refuse(1, f"--sizes: 1000: the memory default@1 has {len(HELD)} records; allowed: 1..{len(HELD)}",
                    "memory-size", self.set, "--sizes", "1000")
        self.refuse(1, "-k: 10: of the memory default@1 5 records may be found; allowed: 1..5",
                    "memory-size", self.set, "--sizes", "40,5")

    def test_grid(self):
        lines = self.sweep("grid", "-k", K, "--modes", "weighted,mean")
        self.assertEqual(len(lines), 9)
        for line, (across, same) in zip(lines[1::2], ((False, False), (False, True), (True, False), (True, True))):
            self.assertEqual(line["sides"], f"search {'across' if across else 'own'}, fuse {'own' if same else 'across'}")
            self.expect(line, "weighted", K, search_across=across, fuse_same=same)
        self.assertIsNone(lines[0]["sides"])


    def test_few_shot(self):
        classified(self.top / "held", HELD, split="train", shards=1)
        (self.top / "held" / "train").rename(self.set / "train")
        held = self.embed("image", HELD, "--profile", "openai")
        lines = self.sweep("few-shot", "-k", K, "--shots", "1,2,9", "--seed", "5", "--modes", "weighted")
        order = drawn_order(len(HELD), 5)
        for line, shots in zip(lines[1:], (1, 2, 9)):
            chosen = []
            for place in order:
                same = sum(kind_of(HELD[other]) == kind_of(HELD[place]) for other in chosen)
                chosen += [place] if same < shots else []
            chosen.sort()
            self.assertEqual((line["shots"], line["records"], line["memory"]), (shots, len(chosen), "set/train"))
            self.expect(line, "weighted", K, [held[i] for i in chosen],
                        [self.names[KINDS.index(kind_of(HELD[i]))] for i in chosen])
        self.assertGreater(lines[3]["metrics"]["acc1"], lines[0]["metrics"]["acc1"])
        self.refuse(1, f"-k: 100: of the memory set/train {len(KINDS)} records may be found", "few-shot", self.set, "-k", "100")
        self.refuse(1, "dev/nshards.txt: no such file", "few-shot", self.set, "--shots-from", "dev")
        measured = "--shots-from: '{}' is what is measured: its pictures would find themselves"
        self.refuse(1, measured.format("test/../test"), "few-shot", self.set, "--shots-from", "test/../test")
        self.refuse(1, measured.format("train"), "few-shot", self.set, "--split", "train")
        self.refuse(2, "--memory: 'nobody' is not allowed: the memory is made of the data set's own pictures",
                    "few-shot", self.set, "--memory", "nobody")
        self.refuse(2, "--memory: 'nobody' is not allowed", "all", self.set, "--kinds", "few-shot", "--memory", "nobody")
        self.refuse(2, "--shots: '10,10' is not allowed: 10 comes twice", "few-shot", self.set, "--shots", "10,10")

    def test_capacity(self):
        lines = self.sweep("capacity", "-k", K)
        self.assertEqual([(line["taken_in"], line["mode"]) for line in lines],
                         [(None, "none")] + [(what, mode) for what in ("neighbours", "itself") for mode in ("mean", "weighted")])
        for line in lines[1:3]:
            self.expect(line, line["mode"], K)
        # A sum with itself keeps its direction: without a head nothing is gained.
        for line in lines[3:]:
            self.assertEqual(line["metrics"], lines[0]["metrics"])

    def test_all_are_the_kinds_one_after_the_other(self):
        other = classified(self.top / "other", IMAGES[:30])
        flags = ("-k", K, "--template", "{}", "--seed", "7", "--noise", "50", "--sizes", "20")
        lines = self.eval("all", self.set, other, "--kinds", "noise,zero-shot,memory-size", *flags)
        apart = []
        for kind, folder in (("noise", self.set), ("zero-shot", self.set), ("memory-size", self.set), ("zero-shot", other)):
            own = {"noise": flags[:-2], "memory-size": flags[:-4] + flags[-2:], "zero-shot": flags[:4]}[kind]
            apart += self.eval(kind, folder, *own)
        times = ("seconds", "encode_seconds")
        self.assertEqual([{key: value for key, value in line.items() if key not in times} for line in lines],
                         [{key: value for key, value in line.items() if key not in times} for line in apart])
        self.refuse(2, "--kinds: 'best' is no kind; allowed: zero-shot, noise", "all", self.set, "--kinds", "noise,best")
        self.refuse(2, "--labels: - is read once", "all", self.set, other, "--labels", "-")
        self.refuse(2, "--kinds: 'noise' comes twice", "all", self.set, "--kinds", "noise,noise")
        self.refuse(1, "-k: 100: of the memory", "all", self.set, "-k", "100")


class Oven(Memory):
    PARTS = ["entity_val_seen", "entity_val_unseen", "query_val_seen", "query_val_unseen"]

    def manifest(self, name, asked, split="data_split", parts=PARTS):
        path = self.top / name
        path.write_text("".join(json.dumps({"image": str(image), "caption": kind_of(image), split: parts[i % len(parts)]}) + "\n"
                                for i, image in enumerate(asked)))
        return path

    def expect(self, line, right):
        """`right`: whether each picture is named rightly, in the order of the parts."""
        parts = [right[i::4] for i in range(4)]
        shares = [sum(part) / len(part) for part in parts]
        for name, share in zip(("entity_seen", "entity_unseen", "query_seen", "query_unseen"), shares):
            self.assertAlmostEqual(line["metrics"][name], share, 6)
        mean = lambda a, b: 2 / (1 / max(a, 1e-14) + 1 / max(b, 1e-14))  # noqa: E731
        entity, query = (mean(*(round(share, 4) for share in shares[i:i + 2])) for i in (0, 2))
        for name, value in (("entity", entity), ("query", query), ("final", mean(entity, query))):
            self.assertAlmostEqual(line["metrics"][name], value, 6)
            self.assertTrue(line["intervals"][name]["low"] <= value <= line["intervals"][name]["high"])

    def test_scores_are_those_of_the_embeddings(self):
        asked = ASKED * 2 # all parts of each kind, nearly
        manifest = self.manifest("set.jsonl", asked)
        labels = self.top / "labels.txt"
        labels.write_text("".join(f"{kind}\n" for kind in KINDS))
        # The entities of another memory; its pictures are of no use here.
        folder = self.top / "wiki"
        folder.mkdir()
        rows = "".join(json.dumps({"image": str(HELD[0]), "caption": kind, "key": kind}) + "\n" for kind in KINDS)
        (folder / "wiki.jsonl").write_text(rows)
        self.run_ok("memory", "build", "wiki", folder / "wiki.jsonl", "--data", self.local)
        self.addCleanup(reco, "memory", "drop", "wiki", "--data", self.local)
        by_labels = self.eval("oven", manifest, "--labels", labels, "-k", K, "--template", "{}")
        by_entities = self.eval("oven", manifest, "--entities", "wiki", "-k", K)
        images = self.embed("image", ASKED, "--profile", "openai") * 2
        names = self.embed("text", KINDS)
        pictures, texts = self.exported()
        for mode, of_labels, of_entities in zip(("none", "mean", "weighted"), by_labels, by_entities):
            queries = [refined(query, pictures, texts, mode, K) for query in images]
            for line, choices in ((of_labels, [refined(name, texts, pictures, mode, K) for name in names]), (of_entities, names)):
                self.assertEqual((line["task"], line["mode"], line["count"]), ("oven", mode, len(asked)))
                best = [max(range(len(KINDS)), key=lambda i, query=query, choices=choices: dot(query, choices[i])) for query in queries]
                self.expect(line, [KINDS[found] == kind_of(image) for found, image in zip(best, asked)])
        self.assertGreater(by_labels[2]["metrics"]["final"], by_labels[0]["metrics"]["final"])
        self.assertGreater(by_entities[2]["metrics"]["final"], by_entities[0]["metrics"]["final"])
        plain = self.eval("oven", manifest, "--entities", "wiki", "--modes", "none")
        self.assertEqual(plain[0]["metrics"], by_entities[0]["metrics"])
        path = self.top / "page.html"
        self.run_ok("eval", "oven", manifest, "--entities", "wiki", "--data", self.local, "--report", path)
        self.assertIn("The score, made of the accuracies of seen and unseen entities", path.read_text())
        # Fields of one's own, and parts that are not there.
        seen = self.manifest("seen.jsonl", ASKED, "seen", ["1"])
        line = self.eval("oven", seen, "--labels", labels, "--template", "{}", "--split-field", "seen", "--modes", "none")[0]
        self.assertEqual(list(line["metrics"]), ["entity_seen"])

    def test_both_sets_of_its_own_layout(self):
        labels = self.top / "labels.txt"
        labels.write_text("".join(f"{kind}\n" for kind in KINDS))
        folder = self.top / "oven"
        (folder / "oven_images" / "04").mkdir(parents=True)
        for which, asked in (("entity", ASKED), ("query", ASKED[:7])):
            with open(folder / f"oven_{which}_val.jsonl", "w", encoding="utf-8") as lines:
                for i, image in enumerate(asked):
                    shutil.copy(image, folder / "oven_images" / "04" / f"oven_0400{i:04d}.png")
                    part = f"{which}_val_{'unseen' if i % 2 else 'seen'}"
                    print(json.dumps({"data_id": f"oven_{which}_val_{i:08d}", "image_id": f"oven_0400{i:04d}", "question": "?",
                                      "entity_id": f"Q{i}", "entity_text": kind_of(image), "data_split": part}), file=lines)
        run = lambda *split: self.eval("oven", folder, "--labels", labels, "-k", K, "--modes", "weighted", *split)[1]  # noqa: E731
        entity, query, both = run("--split", "val"), run("--split", "query_val"), run("--split", "val,query_val")
        self.assertEqual((entity["count"], query["count"], both["count"]), (len(ASKED), 7, len(ASKED) + 7))
        self.assertEqual(list(entity["metrics"]), ["entity", "entity_seen", "entity_unseen"])
        final = both["metrics"].pop("final")
        self.assertEqual(both["metrics"], {**entity["metrics"], **query["metrics"]})
        self.assertAlmostEqual(final, 2 / (1 / entity["metrics"]["entity"] + 1 / query["metrics"]["query"]), 6)
        self.refuse(1, "nonsense", "oven", folder, "--labels", labels, "--split", "val,nonsense")
        self.refuse(1, "--split: 'val' comes twice", "oven", folder, "--labels", labels, "--split", "val,query_val,val")

    def test_what_is_no_question(self):
        labels = self.top / "labels.txt"
        labels.write_text("".join(f"{kind}\n" for kind in KINDS))
        manifest = self.manifest("set.jsonl", ASKED, parts=["entity_train"])
        self.refuse(1, "data_split: 'entity_train' is not allowed: what ends with seen or unseen is", "oven", manifest, "--labels", labels)
        table = self.top / "set.csv"
        table.write_text(f"image,caption\n{ASKED[0]},{kind_of(ASKED[0])}\n")
        self.refuse(1, "--split-field: no column is named 'data_split'", "oven", table, "--labels", labels)
        self.refuse(1, "--entities: or --labels is needed", "oven", manifest)
        self.refuse(1, "--entities: stands in place of --labels", "oven", manifest, "--labels", labels, "--entities", "default")
        self.refuse(1, f"entity: '{kind_of(ASKED[0])}' is the key of no record of default@1", "oven",
                    self.manifest("set.jsonl", ASKED), "--entities", "default")
        rows = make_rows(self.top / "rows", 20)
        self.run_ok("memory", "build", "rows", rows, "--space", "x:8", "--data", self.local)
        self.addCleanup(reco, "memory", "drop", "rows", "--data", self.local)
        self.refuse(1, "--entities: rows@", "oven", manifest, "--entities", "rows")


class Retrieval(Memory):
    def test_metrics_are_those_of_the_embeddings(self):
        captions = [[caption_of(image), kind_of(image)][:1 + i % 2] for i, image in enumerate(ASKED)]
        folder = write_benchmark(self.top / "set", [(image, {"txt": "\n".join(lines).encode()})
                                                    for image, lines in zip(ASKED, captions)], shards=1)
        # Three records share each caption: with 6 neighbours none of them is left out by its number.
        lines = self.eval("retrieval", folder, "-k", "6")
        texts = [line for own in captions for line in own]
        image_of = [i for i, own in enumerate(captions) for _ in own]
        images = self.embed("image", ASKED, "--profile", "openai")
        rows = self.embed("text", texts)
        pictures, held = self.exported()
        for line in lines:
            asking = [refined(query, pictures, held, line["mode"], 6) for query in images]
            said = [refined(query, held, pictures, line["mode"], 6) for query in rows]
            table = [[dot(a, b) for b in said] for a in asking]
            of_text = [sum(table[i][t] > table[image_of[t]][t] for i in range(len(images))) for t in range(len(texts))]
            of_image = [min(sum(other > own for other in table[i]) for own, owner in zip(table[i], image_of) if owner == i)
                        for i in range(len(images))]
            for k in (1, 5, 10):
                self.assertAlmostEqual(line["metrics"][f"image_retrieval_recall@{k}"],
                                       sum(place < k for place in of_text) / len(texts), 5)
                self.assertAlmostEqual(line["metrics"][f"text_retrieval_recall@{k}"],
                                       sum(place < k for place in of_image) / len(images), 5)
            self.assertEqual((line["task"], line["count"]), ("zeroshot_retrieval", len(texts)))
        self.assertEqual([line["mode"] for line in lines], ["none", "mean", "weighted"])

    def test_what_is_no_data_set(self):
        folder = write_benchmark(self.top / "set", [(ASKED[0], {"txt": b" \n "})], shards=1)
        self.refuse(1, "caption: is empty", "retrieval", folder)
        many = write_benchmark(self.top / "many", [(ASKED[0], {"txt": b"a\n" * 65})], shards=1)
        self.refuse(1, "caption: at most 64 lines are allowed", "retrieval", many)
        bare = write_benchmark(self.top / "bare", [(ASKED[0], {"cls": b"1"})], shards=1)
        self.refuse(1, "the sample has no .txt and no .json", "retrieval", bare)


class Balance(html.parser.HTMLParser):
    """Whether every element that begins ends, inside its parent, and what the page refers to."""
    VOID = {"meta", "img", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.faults, self.tags, self.links, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        self.faults += self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data):
        self.words.append(data)


class Report(Memory):
    def page(self, kind, *arguments):
        path = self.top / "page.html"
        modes = () if "--modes" in arguments else ("--modes", "mean,weighted")
        self.run_ok("eval", kind, *arguments, *modes, "--data", self.local, "--report", path)
        text = path.read_text(encoding="utf-8")
        balance = Balance(text)
        self.assertEqual(balance.faults, [])
        self.assertNotIn("script", balance.tags)
        ways = [link for link in balance.links if link.startswith("#")]
        self.assertTrue(all(f'<h2 id="{way[1:]}">' in text for way in ways))
        balance.links = [link for link in balance.links if link not in ways]
        self.assertTrue(all(link.startswith("data:image/png;base64,") for link in balance.links))
        self.assertNotIn("http", re.sub(r"data:[^\"]*", "", text))
        self.assertNotIn("nan", re.sub(r"data:[^\"]*", "", text).replace("meaning", "").lower().split())
        for part in re.findall(r"<svg.*?</svg>", text, re.S):
            xml.etree.ElementTree.fromstring(part)
        return text, balance

    def test_pictures_with_their_neighbours(self):
        folder = classified(self.top / "set <i>&amp;")
        text, balance = self.page("zero-shot", folder)
        self.assertIn("<h1>set &lt;i&gt;&amp;amp;: zero-shot</h1>", text)
        self.assertEqual(balance.tags.count("svg"), 1)
        shown = balance.tags.count("section")
        self.assertTrue(3 <= shown <= 12)
        self.assertEqual(len(balance.links), 6 * shown) # itself and five neighbours
        self.assertIn("a drawing of a", text)
        # The same figures as the lines.
        lines = self.eval("zero-shot", folder)
        self.assertIn(f"{100 * lines[2]['metrics']['acc1']:.1f}", text)
        # Neighbours whose pictures are gone are shown by their words.
        moved = self.folder / "moved"
        self.photos.rename(moved)
        self.addCleanup(moved.rename, self.photos)
        _, balance = self.page("zero-shot", folder)
        self.assertEqual(len(balance.links), shown)

    def test_pictures_out_of_tars(self):
        held = self.top / "held.tar"
        write_tar(held, [member for i, image in enumerate(HELD) for member in
                         ((f"{i}.png", image.read_bytes()), (f"{i}.txt", caption_of(image).encode()))])
        self.run_ok("memory", "build", "tarred", held, "--data", self.local)
        self.addCleanup(reco, "memory", "drop", "tarred", "--data", self.local)
        _, balance = self.page("zero-shot", classified(self.top / "set"), "--memory", "tarred")
        self.assertEqual(len(balance.links), 6 * balance.tags.count("section"))

    def test_lines_and_bars(self):
        folder = classified(self.top / "set")
        for kind, points, flags in (("noise", 5, ()), ("ksweep", 3, ("--neighbours", "1,2,4")), ("memory-size", 4, ("-k", "2"))):
            text, balance = self.page(kind, folder, *flags)
            self.assertEqual(balance.tags.count("polyline"), 2, kind)
            self.assertEqual(balance.tags.count("circle"), 2 * points, kind)
        _, balance = self.page("grid", folder)
        self.assertEqual(balance.tags.count("rect"), 9)
        captions = make_folder(self.top / "asked", ASKED)
        text, balance = self.page("retrieval", captions)
        self.assertEqual(balance.tags.count("rect"), 3)
        self.assertIn("image@5", text)
        self.page("zero-shot", folder, "--modes", "none")

    def test_several_on_one_page(self):
        folder, other = classified(self.top / "set"), classified(self.top / "<other>", ASKED[:20])
        text, balance = self.page("all", folder, other, "-k", "2", "--neighbours", "1,2")
        headings = re.findall(r'<h2 id="s(\d)">(.*?)</h2>', text)
        self.assertEqual(headings, list(zip("123456", [f"set: {kind}" for kind in ("zero-shot", "noise", "ksweep", "memory-size",
                                                                                   "grid")] + ["&lt;other&gt;: zero-shot"])))
        self.assertEqual(len(re.findall('href="#s', text)), 6 + 2) # one way to each, and the overview's
        self.assertEqual(balance.tags.count("svg"), 6)
        self.assertEqual(len(balance.links), 6 * balance.tags.count("section")) # examples of the first alone
        lines = self.eval("zero-shot", other, "-k", "2")
        gain = lines[2]["differences"]["acc1"]
        self.assertIn(f"{100 * gain['value']:+.1f} ({100 * gain['low']:+.1f} .. {100 * gain['high']:+.1f})", text)

    def test_a_page_that_cannot_be_written(self):
        folder = classified(self.top / "set")
        done = self.refused(1, "--report: '/nonexistent/x.html' cannot be written", "eval", "zero-shot", folder, "--json",
                            "--data", self.local, "--report", "/nonexistent/x.html")
        self.assertEqual(done.stdout, "") # told before anything is measured
        # What could be written at first and cannot in the end: the figures are not lost.
        mount = self.top / "small"
        mount.mkdir()
        done = on_small_disk(self, mount, "16k", "eval", "zero-shot", folder, "--json", "--data", self.local, "--report",
                             mount / "x.html")
        *lines, status = done.stdout.splitlines()[:5]
        self.assertEqual((len([json.loads(line) for line in lines]), status), (4, "1"), done.stderr)
        self.assertRegex(done.stderr, "--report: '.*/x.html' cannot be written: No space left on device")


if __name__ == "__main__":
    cli.main()
