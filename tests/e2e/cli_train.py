#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Training a fusion head.

usage: cli_train.py PROGRAM_DIR [CLASS[.test] ...]

Goal: `reco train` makes a head that helps on entities it has not seen, the same bytes for the same seed, also
after kill -9; what would teach copying is left out; known pairs and a memory without them give the head a gate;
what cannot be trained on is refused in words.

Method: a made-up memory of 16 dimensions whose pictures and texts have nothing in common but through the memory,
and the first things of the demo's corpus. cli.py says what the tests of the command line share.
"""
import fcntl
import io
import json
import os
import random
import signal
import struct
import subprocess
import tarfile

import cli
from cli import GOLDEN, IMAGES, PATIENCE, Case, make_folder, on_small_disk, write_npy

DIMENSION = 16
DEMO = GOLDEN.parents[2] / "tools" / "demo" / "memory.tar.gz"
QUICK = ("--batch", "32", "--steps", "60", "--every", "20", "--patience", "100", "--rate", "0.005")


def unit(row):
    length = sum(value * value for value in row) ** 0.5
    return [value / length for value in row]


def made_up(folder, entities=60, views=6, wrong=0.3, seed=5):
    """Pictures of an entity lie around one direction, its texts around another; some texts are another's."""
    draw = random.Random(seed)

    def direction():
        return [draw.gauss(0, 1) for _ in range(DIMENSION)]

    def near(centre, noise):
        return unit([value + noise * draw.gauss(0, 1) for value in centre])
    centres = [(unit(direction()), unit(direction())) for _ in range(entities)]
    images, texts, lines = [], [], []
    for i, (image, text) in enumerate(centres):
        for view in range(views):
            is_wrong = draw.random() < wrong
            images.append(near(image, 0.16))
            texts.append(near(centres[draw.randrange(entities)][1] if is_wrong else text, 0.08))
            lines.append(json.dumps({"key": f"{i}/{view}", "caption": f"Thing  {i}" if view % 2 else f"thing {i}",
                                     "thing": i}))
    for part, rows in (("img_emb", images), ("text_emb", texts)):
        (folder / part).mkdir(parents=True)
        write_npy(folder / part / f"{part}_0.npy", rows)
    (folder / "metadata").mkdir()
    (folder / "metadata" / "metadata_0.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def made_up_known(folder, entities=40, views=3, seed=7, joined=True):
    """Pictures lie by their own texts, so that no memory is needed; or, not joined, a memory of unrelated things."""
    draw = random.Random(seed)
    images, texts, lines = [], [], []
    for i in range(entities):
        image, text = ([draw.gauss(0, 1) for _ in range(DIMENSION)] for _ in range(2))
        for view in range(views):
            images.append(unit([value + 0.3 * draw.gauss(0, 1) for value in image]))
            texts.append(unit(image if joined else text))
            lines.append(json.dumps({"key": f"k{seed}/{i}/{view}", "caption": f"known {seed} {i}", "thing": f"k{i}"}))
    folder.mkdir()
    write_npy(folder / "a.npy", images)
    write_npy(folder / "b.npy", texts)
    (folder / "c.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "a.npy", folder / "b.npy", folder / "c.jsonl"


def metadata_of(head):
    data = head.read_bytes()
    header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
    return header["__metadata__"]


class Train(Case):
    def setUp(self):
        super().setUp()
        self.pairs = made_up(self.top / "pairs")
        self.run_ok("memory", "build", "m", self.pairs, "--space", f"made-up:{DIMENSION}", "--data", self.data)

    def train(self, out, *more, pairs=None):
        return self.lines("train", "--pairs", pairs or self.pairs, "-m", "m", "--out", self.top / out, "--data", self.data,
                          *QUICK, *more)

    def test_a_head_is_better_than_what_it_begins_with_and_says_how(self):
        *points, last = self.train("head")
        self.assertEqual([point["step"] for point in points], [20, 40, 60])
        for point in points:
            self.assertEqual(set(point["loss"]), {"refined_refined", "refined_original", "original_refined"})
            self.assertGreater(point["lr"], 0)
        sums = {name: sum(last["held_out"][name]["loss"].values()) for name in ("plain", "begin", "best")}
        self.assertLess(sums["best"], sums["begin"])
        self.assertLess(sums["begin"], sums["plain"])
        self.assertEqual(last["pairs"], 360)
        self.assertEqual(last["learnt"] + last["held_out_pairs"], 360)
        self.assertEqual(last["held_out_pairs"] % 6, 0, "an entity is held out as a whole, whatever case it has")
        said = metadata_of(self.top / "head")
        self.assertEqual((said["space"], said["k"], said["data"], said["steps"]),
                         (f"made-up:{DIMENSION}", "10", last["data"], str(last["best_step"])))
        self.assertEqual(json.loads(said["curve"])["points"][1:], points)
        self.assertEqual(sorted(path.name for path in self.top.iterdir() if path.name.startswith("head")), ["head"])

    def test_the_seed_decides_every_byte(self):
        augmented = ("--noise", "0.3", "--unrelated", "0.1", "--dropout", "0.2")
        self.train("a", *augmented)
        self.train("b", *augmented)
        self.train("c", *augmented, "--seed", "2")
        self.train("d")
        a, b, c, d = ((self.top / name).read_bytes() for name in "abcd")
        self.assertEqual(a, b)
        self.assertNotEqual(a, c)
        self.assertNotEqual(a, d)

    def test_a_server_of_three_shards_makes_the_same_bytes(self):
        self.train("local")
        cluster = self.start("--shards", "3", data=self.top / "other")
        self.run_ok("memory", "build", "m", self.pairs, "--space", f"made-up:{DIMENSION}", "--server", cluster.address)
        self.run_ok("train", "--pairs", self.pairs, "-m", "m", "--out", self.top / "remote", "--server", cluster.address,
                    *QUICK)
        self.assertEqual((self.top / "local").read_bytes(), (self.top / "remote").read_bytes())
        self.assertEqual(cluster.stop(), 0)

    def test_pairs_that_find_themselves_teach_copying(self):
        flags = ("--set", "block=false", "--steps", "200", "--every", "200", "--rate", "0.02", "--noise", "0", "--dropout",
                 "0")
        *_, honest, _ = self.train("honest", *flags)
        *_, copying, told = self.train("copying", *flags, "--no-exclude")
        loss = {name: sum(point["loss"].values()) for name, point in (("honest", honest), ("copying", copying))}
        held_out = {name: sum(point["held_out"]["loss"].values())
                    for name, point in (("honest", honest), ("copying", copying))}
        # What it learns from gets easy, and what it has not seen gets worse.
        self.assertLess(loss["copying"], 0.7 * loss["honest"])
        self.assertGreater(held_out["copying"], 1.1 * held_out["honest"])
        self.assertGreater(held_out["copying"], 1.5 * loss["copying"])
        self.assertLess(held_out["honest"], 1.5 * loss["honest"])
        self.assertGreater(told["excluded"], 0, "held-out pairs never find themselves")

    def kill_at(self, words, *arguments):
        run = subprocess.Popen([str(cli.PROGRAMS / "reco"), *map(str, arguments)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
        for line in run.stderr:
            if words in line:
                run.kill()
                break
        run.wait(PATIENCE)
        run.stderr.close()
        self.assertEqual(run.returncode, -signal.SIGKILL, f"'{words}' was never said")

    def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(self):
        flags = ("--steps", "120", "--every", "4", "--noise", "0.2")
        self.train("whole", *flags)
        broken = ("train", "--pairs", self.pairs, "-m", "m", "--out", self.top / "broken", "--data", self.data, *QUICK,
                  *flags)
        self.kill_at("step 8 of", *broken)
        self.assertFalse((self.top / "broken").exists())
        self.kill_at("step 24 of", *broken)
        self.refused(1, "seed", *broken, "--seed", "9")
        self.refused(1, "--noise: is 0.25 now; the training that would go on was begun with 0.2", *broken, "--noise",
                     "0.25")
        other = made_up(self.top / "other", seed=6)
        self.refused(1, "hash of the pairs", *broken, "--pairs", other)
        done = self.run_ok(*broken)
        self.assertRegex(done.stderr, r"going on from step (2[4-9]|[3-9]\d|1\d\d) ")
        self.assertEqual((self.top / "whole").read_bytes(), (self.top / "broken").read_bytes())
        self.assertFalse((self.top / "broken.state").exists() or (self.top / "broken.best").exists())

    def leave_no_place_for(self, head, *arguments):
        """A head whose file cannot take its name has all steps behind it, as one that is killed while its gate is made. The
        program is held by a full pipe while a folder is put there."""
        reading, writing = os.pipe()
        os.write(writing, bytes(fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)))
        run = subprocess.Popen([str(cli.PROGRAMS / "reco"), *map(str, arguments), "--json"], stdout=writing,
                               stderr=subprocess.PIPE, text=True)
        os.close(writing)
        said = iter(run.stderr.readline, "")
        self.assertTrue(any("before training" in line or "going on from" in line for line in said))
        (self.top / head).mkdir()
        with open(reading, "rb") as lines:
            lines.read()
        self.assertIn("cannot be written: Is a directory", run.stderr.read())
        run.stderr.close()
        self.assertEqual(run.wait(PATIENCE), 1)
        (self.top / head).rmdir()

    def gate_flags(self):
        known = made_up_known(self.top / "known")
        other = made_up_known(self.top / "unrelated", seed=8, joined=False)
        self.run_ok("memory", "build", "w", *other, "--space", f"made-up:{DIMENSION}", "--data", self.data)
        return [word for path in known for word in ("--known", path)], ["--without", "w"]

    def test_known_pairs_give_the_head_a_gate_that_a_kill_does_not_change(self):
        known, without = self.gate_flags()
        flags = ("--steps", "40", "--every", "4", *known, *without)
        *_, last = self.train("whole", *flags)
        gate = last["gate"]
        self.assertTrue(0 < gate["memory_right"] < gate["cases"], gate)
        self.assertEqual(json.loads(metadata_of(self.top / "whole")["gate"]), gate["constants"])
        self.assertEqual((gate["new"]["pictures"], gate["known"]["labels"]), (360, 40))
        new, lost = gate["new"]["memory"]["all"], gate["known"]["without"]["all"]
        self.assertGreater(new["refined"], new["plain"] + 0.2)
        self.assertGreater(new["chosen"], 0.9 * new["refined"])
        self.assertGreater(lost["chosen"], lost["refined"] + 0.2)
        self.assertGreater(lost["chosen"], 0.9 * lost["plain"])

        broken = ("train", "--pairs", self.pairs, "-m", "m", "--out", self.top / "broken", "--data", self.data, *QUICK,
                  *flags)
        self.kill_at("step 8 of", *broken)
        self.refused(1, "--without: is not given now", *[word for word in broken if word not in (*known, *without)])
        others = made_up_known(self.top / "others", seed=9)
        self.refused(1, "hash of the known pairs", *[others[known.index(word) // 2] if word in known[1::2] else word
                                                     for word in broken])
        self.leave_no_place_for("broken", *broken)
        done = self.run_ok(*broken)
        self.assertIn("going on from step 40 ", done.stderr)
        self.assertIn("gate: learnt from", done.stdout)
        self.assertEqual((self.top / "whole").read_bytes(), (self.top / "broken").read_bytes())
        self.assertFalse((self.top / "broken.state").exists() or (self.top / "broken.best").exists())

    def test_what_no_gate_can_be_learnt_from_is_told(self):
        known, without = self.gate_flags()
        broken = ("train", "--pairs", self.pairs, "-m", "m", "--out", self.top / "head", "--data", self.data, *QUICK)
        self.refused(2, "--without: is needed with --known", *broken, *known)
        self.refused(2, "--known: is needed with --without", *broken, *without)
        self.refused(2, "--known: - is not allowed", *broken, "--known", "-", *without)
        self.refused(1, "--without: m@1 is --memory, too", *broken, *known, "--without", "m")
        self.refused(1, "nothing", *broken, *known, "--without", "nothing")
        narrow = self.top / "narrow.npy"
        write_npy(narrow, [[1, 0], [0, 1]])
        self.run_ok("memory", "build", "narrow", narrow, narrow, "--space", "made-up:2", "--data", self.data)
        self.refused(1, "is made-up:2, that of --memory m@1 is made-up:16", *broken,
                     *known, "--without", "narrow")
        self.refused(1, "--known: has rows of 2 numbers", *broken, "--known", narrow, "--known", narrow, *without)
        self.assertFalse((self.top / "head").exists())
        # A head that leaves everything as it is has no answer that differs from CLIP's.
        done = self.refused(1, "--known, --without: no gate can be learnt from these: gate: of 0 answers that differ",
                            *broken, *known, *without, "--set", "block=false", "--set", "beta=0", "--rate", "1e-9",
                            "--steps", "2")
        self.assertIn("head stands without a gate", done.stderr)
        self.assertNotIn("gate", metadata_of(self.top / "head"))
        self.assertFalse((self.top / "head.state").exists())

    def test_a_damaged_state_is_told(self):
        broken = ("train", "--pairs", self.pairs, "-m", "m", "--out", self.top / "broken", "--data", self.data, *QUICK)
        (self.top / "broken.state").write_bytes(b"nonsense")
        self.refused(1, "broken.state", *broken)

    def test_other_memories_and_spaces_are_refused(self):
        out = ("--out", self.top / "head", "--data", self.data, *QUICK)
        narrow = self.top / "narrow"
        narrow.mkdir()
        write_npy(narrow / "a.npy", [[1, 0], [0, 1]])
        self.refused(1, "has rows of 2 numbers; the memory's space made-up:16", "train", "--pairs", narrow / "a.npy",
                     "--pairs", narrow / "a.npy", "-m", "m", *out)
        self.refused(1, "its space is made-up:16, but the model's is", "train", "--pairs",
                     make_folder(self.top / "pictures"), "-m", "m", *out)
        self.run_ok("memory", "build", "few", self.pairs, "--space", f"made-up:{DIMENSION}", "--data", self.data)
        for keys in ([f"{i}/{view}" for i in range(60) for view in range(6)],):
            self.run_ok("memory", "delete", "few", *keys[7:], "--data", self.data)
            self.refused(1, "-k: 10: the memory few@2 has 7 records", "train", "--pairs", self.pairs, "-m", "few", *out)
            self.run_ok("memory", "delete", "few", *keys[:7], "--data", self.data)
        self.refused(1, "few@2: is empty", "train", "--pairs", self.pairs, "-m", "few", *out)
        self.assertFalse((self.top / "head").exists())

    def test_bad_pairs_are_named_and_too_few_are_refused(self):
        out = ("-m", "m", "--out", self.top / "head", "--data", self.data, *QUICK)
        rows = [unit([float(i == j % DIMENSION) + 0.1 for i in range(DIMENSION)]) for j in range(20)]
        write_npy(self.top / "images.npy", rows)
        write_npy(self.top / "texts.npy", rows[:7] + [[float("nan")] * DIMENSION] + rows[8:])
        arrays = ("--pairs", self.top / "images.npy", "--pairs", self.top / "texts.npy")
        self.refused(1, "images.npy row 0: caption: is missing or empty", "train", *arrays, *out)
        lines = self.top / "lines.jsonl"
        lines.write_text("".join(json.dumps({"key": f"x{i}", "caption": f"c{i}"}) + "\n" for i in range(20)))
        done = self.refused(1, "images.npy row 7: text embedding: has an element that is not finite", "train", *arrays,
                            "--pairs", lines, *out)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        done = self.refused(1, "row 7: text embedding", "train", *arrays, "--pairs", lines, *out, "--keep-going", "--held-out", "0.6",
                            "--json")
        self.assertEqual(json.loads(done.stdout.splitlines()[-1])["left_out"], 1)
        self.refused(1, "--held-out: 0.001 of the entities are 0 pairs", "train", "--pairs", self.pairs, *out,
                     "--held-out", "0.001")
        self.refused(2, "--pairs", "train", *out)
        self.refused(2, "--out", "train", "--pairs", self.pairs, "-m", "m", "--data", self.data)
        self.refused(1, "mlp", "train", "--pairs", self.pairs, *out, "--set", "mlp=-1")
        self.refused(1, "depth", "train", "--pairs", self.pairs, *out, "--set", "image.depth=2")

    def test_a_memory_of_nothing_but_copies_teaches_nothing(self):
        same = self.top / "same"
        rows = [unit([1.0] + [0.001 * (i == j % DIMENSION) for i in range(1, DIMENSION)]) for j in range(40)]
        same.mkdir()
        write_npy(same / "a.npy", rows)
        lines = same / "a.jsonl"
        lines.write_text("".join(json.dumps({"key": f"s{i}", "caption": f"c{i}"}) + "\n" for i in range(40)))
        source = (same / "a.npy", same / "a.npy", lines)
        self.run_ok("memory", "build", "same", *source, "--space", f"made-up:{DIMENSION}", "--data", self.data)
        flags = [word for path in source for word in ("--pairs", path)]
        self.refused(1, "no pair has a neighbour in it, other than itself or a picture of similarity 0.97 or more",
                     "train", *flags, "-m", "same", "--out", self.top / "head", "--data", self.data, *QUICK)

    def test_a_field_of_the_metadata_tells_the_entity(self):
        *_, last = self.train("head", "--entity-field", "thing")
        self.assertEqual(last["held_out_pairs"] % 6, 0)
        self.refused(1, "row 0: nothing: is missing", "train", "--pairs", self.pairs, "-m", "m", "--out",
                     self.top / "other", "--data", self.data, *QUICK, "--entity-field", "nothing")

    def test_a_head_that_cannot_be_written_is_told_before_any_work(self):
        flags = ("train", "--pairs", self.pairs, "-m", "m", "--data", self.data, *QUICK)
        (self.top / "folder").mkdir()
        (self.top / "x.best").mkdir()
        allowed = "a file in a folder that may be written to is allowed"
        table = [("folder", "folder", "Is a directory"), ("missing/x", "missing/x", "No such file or directory"),
                 ("x", "x.best", "Is a directory")]
        if os.geteuid() != 0:
            (self.top / "locked").mkdir(mode=0o555)
            table.append(("locked/x", "locked/x", "Permission denied"))
        there = sorted(self.top.rglob("*"))
        for out, named, cause in table:
            done = self.refused(1, f"--out: '{self.top / named}' cannot be written: {cause}; {allowed}", *flags, "--out",
                                self.top / out)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        # Even before it is looked whether the pairs are there.
        self.refused(1, "--out: ", "train", "--pairs", self.top / "nothing", "--out", self.top / "folder")
        self.refused(2, "--out: '' is not allowed: a path is", *flags, "--out", "")
        self.assertEqual(sorted(self.top.rglob("*")), there)

    def test_a_head_that_is_there_stays_until_another_is_whole(self):
        head = self.top / "head"
        head.write_bytes(b"an old head")
        self.refused(1, "hides", "train", "--pairs", self.pairs, "-m", "m", "--out", head, "--data", self.data, *QUICK,
                     "--entity-field", "hides")
        self.assertEqual(head.read_bytes(), b"an old head")
        self.assertEqual(sorted(path.name for path in self.top.glob("head*")), ["head"])
        self.train("head")
        self.assertIn("space", metadata_of(head))

    def test_a_head_that_no_answer_comes_of_is_refused_by_its_name(self):
        data = (GOLDEN.parents[2] / "shaders" / "models" / "reco-tiny" / "head.safetensors").read_bytes()
        begin = 8 + struct.unpack("<Q", data[:8])[0]
        head = self.top / "absurd"
        head.write_bytes(data[:begin] + struct.pack("<f", 3.4e38) * ((len(data) - begin) // 4))
        said = f"'{head}': image.start: number 0 is 3.4e+38: -10000..10000 is allowed"
        for verb in (("refine", "--text", "x", "--fusion", "head"), ("up", "--port", "0")):
            self.refused(1, said, *verb, "--head", head, "--data", self.data)

    def test_a_full_disk_is_told_and_leaves_no_head(self):
        mount = self.top / "small"
        mount.mkdir()
        done = on_small_disk(self, mount, "96k", "train", "--pairs", self.pairs, "-m", "m", "--out", mount / "head",
                             "--data", self.data, *QUICK)
        status, *there = done.stdout.split()
        self.assertEqual(status, "1", done.stderr)
        self.assertIn("No space left on device", done.stderr)
        self.assertNotIn("head", there)


class Demo(Case):
    ENTITIES = 50

    def test_pictures_of_the_demo_train_a_head(self):
        subset = self.top / "subset.tar"
        with tarfile.open(DEMO) as whole, tarfile.open(subset, "w") as part:
            entities = set()
            for member in whole:
                entities.add(member.name.split("_")[0])
                if len(entities) > self.ENTITIES:
                    break
                data = whole.extractfile(member).read()
                part.addfile(member, io.BytesIO(data))
        self.run_ok("memory", "build", "m", subset, "--data", self.data)
        *points, last = self.lines("train", "--pairs", subset, "-m", "m", "--out", self.top / "head", "--data", self.data,
                                   "--entity-field", "entity", "--held-out", "0.3", "--batch", "64", "--steps", "40",
                                   "--every", "20", "--set", "block=false")
        self.assertEqual([point["step"] for point in points], [20, 40])
        best, begin, plain = (last["held_out"][name] for name in ("best", "begin", "plain"))
        self.assertLess(sum(best["loss"].values()), sum(begin["loss"].values()))
        self.assertLess(sum(begin["loss"].values()), sum(plain["loss"].values()))
        self.assertGreater(best["recall_at_1"], plain["recall_at_1"])
        asked = ("refine", "--image", IMAGES[0], "-m", "m", "--data", self.data, "--fusion")
        weighted, = self.lines(*asked, "weighted")
        refined, = self.lines(*asked, "head", "--head", self.top / "head")
        self.assertEqual([n["key"] for n in weighted["neighbours"]], [n["key"] for n in refined["neighbours"]])
        self.assertNotEqual(weighted["embedding"], refined["embedding"])


if __name__ == "__main__":
    cli.main()
