#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Questions of every kind, inside the process and to a server.

usage: cli_asking.py PROGRAM_DIR [CLASS[.test] ...]

Goal: one answer, whoever gives it; mistakes are told alike too.

Method: cli.py's, which says what the tests of the command line share.
"""
import shutil
import tempfile
from pathlib import Path

import cli
from cli import IMAGES, Case, Cluster, as_floats, make_folder, read_npy, reco, same_but_for_time, write_npy


class Asking(Case):
    """One memory for all; questions of every kind, inside the process and to a server."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="reco-cli-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        photos = make_folder(cls.folder / "photos", IMAGES[:40])
        cls.local = cls.folder / "local"
        done = reco("memory", "build", "default", photos, "--data", cls.local)
        assert done.returncode == 0, done.stderr
        cls.cluster = Cluster(cls.folder / "served", "--shards", "3")
        cls.addClassCleanup(cls.cluster.stop)
        done = reco("memory", "build", "default", photos, "--server", cls.cluster.address)
        assert done.returncode == 0, done.stderr
        cls.labels = cls.folder / "labels.txt"
        cls.labels.write_text("# kinds\npenguin\tflightless bird\noctopus\nrocket\tspace ship\ntiger\n")

    def both(self, *arguments, **named):
        """The answer, which must be the same from both."""
        here = self.lines(*arguments, "--data", self.local, **named)
        there = self.lines(*arguments, "--server", self.cluster.address, **named)
        self.assertEqual(same_but_for_time(here), same_but_for_time(there))
        return here

    def test_search_answers_alike_here_and_there(self):
        for over in ("image", "text", "same"):
            self.both("search", "--image", IMAGES[50], "--over", over)
            self.both("search", "--text", "a penguin", "--text", "a bee", "--over", over)
        lines = self.both("search", "--image", "-", stdin=f"{IMAGES[1]}\n\n{IMAGES[2]}\n")
        self.assertEqual([line["input"] for line in lines], [str(IMAGES[1]), str(IMAGES[2])])
        key = lines[0]["neighbours"][0]["key"]
        self.assertNotIn(key, [n["key"] for n in self.both("search", "--image", IMAGES[1], "--exclude", key)[0]["neighbours"]])
        few = self.both("search", "--image", IMAGES[1], "--min-similarity", "0.99", "-k", "20")[0]
        self.assertTrue(all(n["score"] >= 0.99 for n in few["neighbours"]))
        self.assertLess(len(few["neighbours"]), 20)

    def test_refine_answers_alike_here_and_there(self):
        for fusion in ("none", "mean", "weighted"):
            line = self.both("refine", "--image", IMAGES[45], "--fusion", fusion)[0]
            self.assertEqual(len(line["embedding"]), 128)
            self.assertIn("gate_reason", line)
            self.both("refine", "--text", "a rocket", "--fusion", fusion)
        plain = self.lines("embed", "image", IMAGES[45])[0]["embedding"]
        self.assertEqual(self.both("refine", "--image", IMAGES[45], "--fusion", "none")[0]["embedding"], plain)
        write_npy(self.top / "q.npy", [plain])
        lines = self.both("refine", "--embedding", self.top / "q.npy", "--out", self.top / "r.npy")
        shape, values = read_npy(self.top / "r.npy")
        self.assertEqual(shape, (1, 128))
        self.assertEqual(values, as_floats(lines[0]["embedding"]))
        nothing = self.top / "nothing.npy"
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 128), }".ljust(117) + "\n"
        nothing.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
        self.refused(1, "nothing.npy: it has no rows", "refine", "--embedding", nothing, "--data", self.local)

    def test_classify_answers_alike_here_and_there(self):
        for extra in ((), ("--explain",), ("--fusion", "none"), ("--fusion", "mean", "--top", "2"),
                      ("--template", "a drawing of a {}", "--template", "{}")):
            lines = self.both("classify", IMAGES[0], IMAGES[41], "--labels", self.labels, *extra)
            for line in lines:
                for side in ("plain", "refined"):
                    names = [entry["label"] for entry in line[side]]
                    self.assertEqual(len(names), 2 if "--top" in extra else 4)
                    self.assertTrue(set(names) <= {"penguin", "octopus", "rocket", "tiger"})
                    scores = [entry["score"] for entry in line[side]]
                    self.assertEqual(scores, sorted(scores, reverse=True))
                self.assertEqual("--explain" in extra, any("effect" in n for n in line["neighbours"]))

    def test_an_alias_speaks_for_its_label_with_its_own_score(self):
        flat = self.folder / "flat.txt"
        flat.write_text("penguin\nflightless bird\noctopus\nrocket\nspace ship\ntiger\n")
        for image in IMAGES[0], IMAGES[9]:
            line = self.both("classify", image, "--labels", self.labels, "--top", "4")[0]
            names = self.both("classify", image, "--labels", flat, "--top", "6")[0]
            owner = {"flightless bird": "penguin", "space ship": "rocket"}
            for side in ("plain", "refined"):
                best = {}
                for entry in names[side]:
                    best.setdefault(owner.get(entry["label"], entry["label"]), entry["score"])
                self.assertEqual({entry["label"]: entry["score"] for entry in line[side]}, best)

    def test_models_answer_alike_here_and_there(self):
        for verb in (["embed", "image", *IMAGES[:3]], ["embed", "text", "a", "b c"], ["tokenize", "a", "b"]):
            self.assertEqual(self.lines(*verb), self.lines(*verb, "--server", self.cluster.address))

    def test_mistakes_are_told_alike_here_and_there(self):
        broken = self.top / "broken.png"
        broken.write_bytes(b"no picture")
        for words, *verb in (("nothing", "search", "--text", "x", "-m", "nothing"),
                             ("broken.png", "search", "--image", broken),
                             ("broken.png", "classify", broken, "--labels", self.labels),
                             ("broken.png", "embed", "image", broken)):
            here = reco(*verb, *(() if verb[0] == "embed" else ("--data", self.local)))
            there = reco(*verb, "--server", self.cluster.address)
            self.assertEqual((here.returncode, here.stderr), (there.returncode, there.stderr))
            self.assertEqual(here.returncode, 1)
            self.assertIn(words, here.stderr)
        bad = self.folder / "bad.txt"
        bad.write_text("owl\nowl\n")
        self.refused(1, "the name 'owl' comes twice", "classify", IMAGES[0], "--labels", bad)

    def test_a_request_id_comes_back(self):
        for place in (("--data", self.local), ("--server", self.cluster.address)):
            line = self.lines("search", "--text", "x", "--request-id", "my-id", *place)[0]
            self.assertEqual(line["request_id"], "my-id")
            self.assertTrue(self.lines("search", "--text", "x", *place)[0]["request_id"])

    def test_text_for_people_has_the_same_facts(self):
        done = self.run_ok("classify", IMAGES[0], "--labels", self.labels, "--data", self.local)
        self.assertIn("plain CLIP", done.stdout)
        self.assertIn("with memory", done.stdout)
        self.assertIn("gate", done.stdout)
        self.assertNotIn("\033", done.stdout)
        self.assertEqual(done.stderr, "")

    def test_status_shows_nodes_and_memories(self):
        line = self.lines("status", "--server", self.cluster.address)[0]
        self.assertEqual([node["state"] for node in line["nodes"]], ["up"] * 3)
        self.assertEqual(sum(node["records"] for node in line["nodes"]), 40)
        self.assertEqual([memory["memory"] for memory in line["memories"]], ["default"])
        self.assertEqual(line["memories"][0]["records"], 40)
        self.assertEqual(line["models"], [{"name": "reco-tiny", "device": "cpu", "head": "embedded", "gate": True}])
        shown = self.run_ok("status", "--server", self.cluster.address).stdout
        self.assertIn("up", shown)
        self.assertIn("\nmodel reco-tiny on cpu\nhead embedded, with a gate\n", shown)

    def test_a_directory_that_a_server_holds_is_refused_with_its_address(self):
        served = self.folder / "served"
        self.refused(1, self.cluster.address, "search", "--text", "x", "--data", served)
        self.refused(1, self.cluster.address, "memory", "build", "m", self.folder / "photos", "--data", served)
        line = self.lines("status", "--data", served)[0]
        self.assertEqual(line["state"], "held")
        self.assertIn(self.cluster.address, line["detail"])
        self.assertEqual(self.lines("status", "--data", self.local)[0]["state"], "free")
        self.assertEqual(self.lines("status", "--data", self.top / "none")[0]["state"], "missing")


if __name__ == "__main__":
    cli.main()
