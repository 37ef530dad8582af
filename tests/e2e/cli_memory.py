#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memories made, changed and dropped by the command line.

usage: cli_memory.py PROGRAM_DIR [CLASS[.test] ...]

Goal: every source becomes the memory that the help promises, and what cannot be used is named and left
out.

Method: cli.py's, which says what the tests of the command line share.
"""
import io
import json
import shutil
import tarfile

import cli
from cli import IMAGES, Case, caption_of, make_folder, reco, write_npy


class Memory(Case):
    def build(self, *arguments, status=0):
        done = reco("memory", "build", *arguments, "--data", self.data, "--json")
        self.assertEqual(done.returncode, status, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    def test_a_folder_becomes_a_memory_that_answers(self):
        folder = make_folder(self.top / "photos")
        lines, _ = self.build("drawings", folder)
        report = lines[-1]
        self.assertEqual((report["memory"], report["generation"], report["records"]),
                         ("drawings", 1, len(IMAGES)))
        self.assertEqual((report["skipped"], report["duplicates"], report["resumed"]), (0, 0, 0))
        self.assertGreater(report["bytes_per_record"], 4 * 128)
        self.assertIn("seconds", report)
        self.assertIsNone(report["recall_at_10"])

        answer = self.lines("search", "--image", IMAGES[0], "--memory", "drawings", "-k", "3", "--data",
                            self.data)[0]
        best = answer["neighbours"][0]
        kind, style, _ = IMAGES[0].name.split(".")
        self.assertEqual(best["key"], f"{kind}/{style}")
        self.assertEqual(best["caption"], caption_of(IMAGES[0]))
        self.assertEqual(best["source"], str(folder / kind / f"{style}.png"))
        self.assertGreater(best["score"], 0.999)
        self.assertEqual((len(answer["neighbours"]), answer["coverage"], answer["degraded"]), (3, 1, []))
        self.assertEqual(answer["records"], len(IMAGES))

    def test_building_again_replaces_by_key_and_stores_nothing_twice(self):
        folder = make_folder(self.top / "photos", IMAGES[:6])
        self.build("m", folder)
        report = self.build("m", folder)[0][-1]
        self.assertEqual((report["records"], report["duplicates"], report["stored"]), (6, 6, 6))
        report = self.build("m", make_folder(self.top / "more", IMAGES[4:9]))[0][-1]
        self.assertEqual((report["records"], report["duplicates"]), (9, 2))

    def test_replace_builds_the_next_generation(self):
        self.build("m", make_folder(self.top / "one", IMAGES[:6]))
        report = self.build("m", make_folder(self.top / "two", IMAGES[6:9]), "--replace")[0][-1]
        self.assertEqual((report["generation"], report["records"]), (2, 3))
        flags = ("--data", self.data)
        self.assertEqual(self.lines("memory", "info", "m", *flags)[0]["generation"], 2)
        self.assertEqual(self.lines("memory", "info", "m@1", *flags)[0]["records"], 6)
        self.assertEqual(self.lines("search", "--text", "x", "-m", "m@1", *flags)[0]["records"], 6)
        self.assertEqual(len(self.lines("memory", "list", *flags)), 2)
        self.run_ok("memory", "drop", "m@1", *flags)
        self.assertEqual(len(self.lines("memory", "list", *flags)), 1)

    def test_a_name_points_where_it_is_told_to(self):
        self.build("m", make_folder(self.top / "one", IMAGES[:6]))
        self.build("m", make_folder(self.top / "two", IMAGES[6:9]), "--replace")
        flags = ("--data", self.data)
        self.assertEqual(self.lines("memory", "alias", "now", "m", *flags)[0]["generation"], 2)
        self.assertEqual(self.lines("search", "--text", "x", "-m", "now", *flags)[0]["records"], 3)
        line = self.lines("memory", "alias", "m", "m@1", *flags)[0]  # rolled back
        self.assertEqual((line["generation"], line["records"], line["aliases"]), (1, 6, ["m", "now"]))
        self.assertEqual(self.lines("search", "--text", "x", "-m", "now", *flags)[0]["records"], 6)
        self.assertEqual({l["generation"]: l["aliases"] for l in self.lines("memory", "list", *flags)},
                         {1: ["m", "now"], 2: []})
        self.assertIn("m, now", self.run_ok("memory", "list", *flags).stdout)
        self.refused(1, "the alias 'now' points at m@1", "memory", "drop", "m", *flags)
        self.refused(1, "is an alias; `reco memory alias now --remove` takes it away", "memory", "drop", "now", *flags)
        self.refused(1, "is an alias", "memory", "build", "now", self.top / "one", "--replace", *flags)
        self.refused(1, "'m' has no generation @7; it has @1, @2", "memory", "alias", "now", "m@7", *flags)
        self.refused(2, "ALIAS and TARGET are needed", "memory", "alias", "now", *flags)
        self.assertTrue(self.lines("memory", "alias", "--remove", "now", *flags)[0]["removed"])
        self.refused(1, "there is no memory 'now'", "search", "--text", "x", "-m", "now", *flags)
        self.run_ok("memory", "drop", "m", *flags)

    def test_items_that_cannot_be_used_are_named_and_left_out(self):
        folder = make_folder(self.top / "photos", IMAGES[:4])
        (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        (folder / "broken.txt").write_text("broken")
        shutil.copy(IMAGES[5], folder / "mute.png")
        lines, errors = self.build("m", folder, status=1)
        self.assertEqual(lines[-1]["records"], 4)
        self.assertEqual(lines[-1]["skipped"], 2)
        named = {line["item"]: line["error"] for line in lines[:-1]}
        self.assertEqual(len(named), 2)
        self.assertIn(str(folder / "broken.png"), named)
        self.assertIn("no .txt and no .json", named[str(folder / "mute.png")])
        self.assertIn("mute.png", errors)
        self.assertEqual(self.lines("memory", "info", "m", "--data", self.data)[0]["state"], "serving")

    def test_sources_that_hold_nothing_make_no_memory(self):
        (self.top / "empty").mkdir()
        self.refused(1, "has no pictures", "memory", "build", "m", self.top / "empty", "--data", self.data)
        self.refused(1, "no such file or folder", "memory", "build", "m", self.top / "none", "--data",
                     self.data)
        folder = self.top / "mute"
        folder.mkdir()
        shutil.copy(IMAGES[0], folder / "a.png")
        self.refused(1, "all 1 items were left out for the reasons above", "memory", "build", "m", folder, "--data",
                     self.data)
        (self.top / "empty.jsonl").touch()
        self.refused(1, "the sources hold no item; a manifest needs a line for each, as `reco help memory build`",
                     "memory", "build", "m", self.top / "empty.jsonl", "--data", self.data)
        self.assertEqual(self.lines("memory", "list", "--data", self.data), [])
        self.refused(1, "m", "search", "--text", "x", "-m", "m", "--data", self.data)

    def test_hidden_records_are_in_no_answer(self):
        self.build("m", make_folder(self.top / "photos", IMAGES[:6]))
        flags = ("--data", self.data)
        ask = ("search", "--image", IMAGES[0], "--memory", "m", "-k", "6", *flags)
        keys = [n["key"] for n in self.lines(*ask)[0]["neighbours"]]
        self.assertEqual(len(keys), 6)
        line = self.lines("memory", "hide", "m", keys[0], "--key", keys[1], *flags)
        self.assertEqual([(l["key"], l["status"]) for l in line], [(keys[1], "hidden"), (keys[0], "hidden")])
        self.assertEqual(self.lines("memory", "hide", "m", keys[0], *flags)[0]["status"], "was hidden")
        self.assertEqual([n["key"] for n in self.lines(*ask)[0]["neighbours"]], keys[2:])
        info = self.lines("memory", "info", "m", *flags)[0]
        self.assertEqual((info["records"], info["hidden"]), (6, 2))
        told = self.lines("memory", "get", "m", *keys[:3], *flags)
        self.assertEqual([(l["key"], l["hidden"]) for l in told],
                         [(keys[0], True), (keys[1], True), (keys[2], False)])
        self.build("m", self.top / "photos")  # the same again: a takedown holds
        self.assertEqual([n["key"] for n in self.lines(*ask)[0]["neighbours"]], keys[2:])
        self.refused(1, "no such record", "memory", "hide", "m", "nobody", *flags)
        self.refused(2, "no record is named", "memory", "unhide", "m", *flags)
        self.assertEqual(self.lines("memory", "unhide", "m", *keys[:2], *flags)[0]["status"], "shown")
        self.assertEqual([n["key"] for n in self.lines(*ask)[0]["neighbours"]], keys)

    def test_a_webdataset_is_read_with_its_keys(self):
        tar_path = self.top / "birds-000.tar"
        with tarfile.open(tar_path, "w") as tar:
            for i, image in enumerate(IMAGES[:5]):
                sidecar = json.dumps({"caption": caption_of(image), "url": f"http://x/{i}",
                                      "tags": ["a", "b"], **({"key": "own"} if i == 4 else {})})
                for extension, data in (("png", image.read_bytes()), ("json", sidecar.encode())):
                    entry = tarfile.TarInfo(f"{i:06d}.{extension}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
        self.assertEqual(self.build("m", tar_path)[0][-1]["records"], 5)
        answer = self.lines("search", "--image", IMAGES[2], "-m", "m", "--data", self.data)[0]
        self.assertEqual(answer["neighbours"][0]["key"], "birds-000/000002")
        self.assertEqual(answer["neighbours"][0]["source"], "http://x/2")
        self.assertIn("own", [line["key"] for line in answer["neighbours"]])

    def test_arrays_need_a_space_and_keep_to_it(self):
        write_npy(self.top / "i.npy", [[1, 0, 0], [0, 2, 0], [0, 0, 3], [0, 0, 0]])
        write_npy(self.top / "t.npy", [[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 1, 1]])
        (self.top / "m.jsonl").write_text("".join(f'{{"caption": "row {i}"}}\n' for i in range(4)))
        arrays = (self.top / "i.npy", self.top / "t.npy", self.top / "m.jsonl")
        self.refused(2, "arrays need --space NAME:3", "memory", "build", "m", *arrays, "--data", self.data)
        lines, errors = self.build("m", *arrays, "--space", "other:3", status=1)
        self.assertEqual(lines[-1]["records"], 3)
        self.assertIn("i.npy row 3", errors)
        write_npy(self.top / "q.npy", [[0, 0.5, 0], [1, 0, 0]])
        answers = self.lines("search", "--embedding", self.top / "q.npy", "-m", "m", "-k", "1", "--data",
                             self.data)
        self.assertEqual([(line["input"], line["neighbours"][0]["key"], line["neighbours"][0]["caption"])
                          for line in answers],
                         [(f"{self.top / 'q.npy'}[0]", "1", "row 1"), (f"{self.top / 'q.npy'}[1]", "0", "row 0")])
        done = self.refused(1, "", "search", "--text", "x", "-m", "m", "--data", self.data)
        self.assertIn("other:3", done.stderr)
        self.refused(1, "its space is other:3", "memory", "build", "m", *arrays, "--space", "else:3",
                     "--data", self.data)
        self.refused(2, "--space: is for arrays", "memory", "build", "n",
                     make_folder(self.top / "photos", IMAGES[:2]), "--space", "x:3", "--data", self.data)

    def test_a_build_in_a_space_that_does_not_fit_leaves_nothing_behind(self):
        write_npy(self.top / "i.npy", [[1, 0, 0], [0, 1, 0]])
        arrays = (self.top / "i.npy", self.top / "i.npy")
        self.refused(1, "its space other:4 has 4 dimensions, the arrays have 3", "memory", "build", "m",
                     *arrays, "--space", "other:4", "--data", self.data)
        self.assertEqual(self.lines("memory", "list", "--data", self.data), [])
        lines, _ = self.build("m", *arrays, "--space", "other:3")
        self.assertEqual(lines[-1]["records"], 2)

    def test_single_records_come_and_go(self):
        self.build("m", make_folder(self.top / "photos", IMAGES[:4]))
        flags = ("--data", self.data)
        add = ("memory", "add", "m", "--key", "new one", "--image", IMAGES[10], "--caption", "a new thing",
               "--tag", "t", *flags)
        line = self.lines(*add)[0]
        self.assertEqual((line["key"], line["status"]), ("new one", "stored"))
        self.assertEqual(self.lines(*add)[0], {**line, "status": "replaced"})
        answer = self.lines("search", "--image", IMAGES[10], "-m", "m", "-k", "1", *flags)[0]
        self.assertEqual(answer["neighbours"][0]["id"], line["id"])
        self.assertEqual(answer["neighbours"][0]["caption"], "a new thing")

        self.refused(2, "--key: is needed", "memory", "add", "m", "--image", "x", *flags)
        self.refused(1, "new", "memory", "add", "m", "--key", "new", "--image", __file__, "--caption", "x",
                     *flags)
        done = self.refused(1, "no such key: there is no such record", "memory", "delete", "m", "no such key",
                            "new one", "--keep-going", "--json", *flags)
        self.assertEqual([json.loads(text)["status"] for text in done.stdout.splitlines()],
                         ["missing", "deleted"])
        one = self.lines("search", "--image", IMAGES[0], "-m", "m", "-k", "1", *flags)[0]["neighbours"][0]
        self.assertEqual(self.lines("memory", "delete", "m", "--id", one["id"], *flags)[0],
                         {"key": None, "id": one["id"], "status": "deleted"})
        self.assertEqual(self.lines("memory", "info", "m", *flags)[0]["records"], 3)
        self.assertEqual(self.lines("memory", "drop", "m", *flags), [{"memory": "m", "records": 3}])
        self.refused(1, "m", "memory", "info", "m", *flags)


if __name__ == "__main__":
    cli.main()
