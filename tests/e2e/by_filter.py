#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hiding, showing and deleting all records that match a filter.

usage: by_filter.py PROGRAM_DIR [CLASS[.test] ...]

Goal: `reco memory hide|unhide|delete NAME --filter` reaches every record that matches as it is now, on
every shard and beyond one batch, and no other; an interrupted run is repeated; mistakes change nothing.

Method: a memory of made-up rows with tags, three shards behind a server and one inside the process; what is
left is read back by `memory export` and by searches. Python's standard library only.
"""
import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import cli
from cli import Case, Cluster, reco, write_npy

ROWS = 6000  # enough for several batches, and for more lines than a pipe holds
FEW = 300
DIMENSION = 8


def row(number):
    """One that is its own nearest neighbour."""
    return [((number * 7919 + j * j * 104729) % 2003) / 1000 - 1 for j in range(DIMENSION)]


def tags_of(number):
    """Two of three records are "old"; one of five is "seen", one is "only"."""
    return [tag for tag, has in (("old", number % 3), ("seen", number % 5 == 0), ("only", number == 17)) if has]


def make_source(folder, numbers, tags):
    for part in ("img_emb", "text_emb", "metadata"):
        (folder / part).mkdir(parents=True)
    rows = [row(number) for number in numbers]
    write_npy(folder / "img_emb" / "img_emb_0.npy", rows)
    write_npy(folder / "text_emb" / "text_emb_0.npy", rows)
    (folder / "metadata" / "metadata_0.jsonl").write_text("".join(
        json.dumps({"key": f"k{number}", "caption": f"row {number}", "tags": tags(number)}) + "\n"
        for number in numbers))
    return folder


class Matching(Case):
    def build(self, *place, numbers=range(FEW), tags=tags_of):
        with tempfile.TemporaryDirectory(dir=self.top) as folder:
            source = make_source(Path(folder) / "source", numbers, tags)
            self.run_ok("memory", "build", "m", source, "--space", f"rows:{DIMENSION}", *place)

    def kept(self, *place):
        """Number of each record that is there -> whether it is hidden."""
        out = Path(tempfile.mkdtemp(dir=self.top)) / "out"
        self.run_ok("memory", "export", "m", "--out", out, *place)
        lines = [json.loads(line) for line in (out / "metadata" / "metadata_0.jsonl").read_text().splitlines()]
        shutil.rmtree(out)
        return {int(line["key"][1:]): line.get("hidden", False) for line in lines}

    def change(self, verb, *flags):
        """Lines by key, and the sums."""
        *lines, sums = self.lines("memory", verb, "m", *flags)
        self.assertEqual(sums["failed"], 0)
        self.assertEqual(sums["matched"], len(lines))
        return {line["key"]: line["status"] for line in lines}, sums["changed"]

    def check_all(self, *place):
        """From a new memory to one where all that is "old" is deleted."""
        old = {number for number in range(ROWS) if "old" in tags_of(number)}
        seen = {number for number in range(ROWS) if "seen" in tags_of(number)}
        self.assertGreater(len(old - seen), 2 * 1024)  # more than any batch

        lines, changed = self.change("hide", "--filter", "tag=old", "--filter", "no:tag=seen", "--dry-run", *place)
        self.assertEqual(lines, {f"k{number}": "would be hidden" for number in old - seen})
        self.assertEqual((changed, any(self.kept(*place).values())), (0, False))
        lines, changed = self.change("hide", "--filter", "tag=old", "--filter", "no:tag=seen", *place)
        self.assertEqual((changed, set(lines.values())), (len(old - seen), {"hidden"}))
        self.assertEqual({number for number, hidden in self.kept(*place).items() if hidden}, old - seen)

        # Those that are hidden match too, and are not changed again.
        lines, changed = self.change("hide", "--filter", "any:tag=old", "--filter", "any:tag=seen", *place)
        self.assertEqual({key for key, state in lines.items() if state == "was hidden"},
                         {f"k{number}" for number in old - seen})
        self.assertEqual((changed, len(lines)), (len(seen), len(old | seen)))
        wanted = {f"k{number}" for number in set(range(ROWS)) - old - seen}
        found = self.lines("search", "--embedding", self.top / "one.npy", "-m", "m", "-k", 256, *place)[0]["neighbours"]
        self.assertEqual(len(found), 256)
        self.assertLessEqual({one["key"] for one in found}, wanted)

        self.assertEqual(self.change("unhide", "--filter", "any:tag=seen", *place)[1], len(seen))
        self.assertEqual({number for number, hidden in self.kept(*place).items() if hidden}, old - seen)
        lines, changed = self.change("delete", "--filter", "tag=old", *place)
        self.assertEqual((changed, len(lines)), (len(old), len(old)))
        self.assertEqual(set(self.kept(*place)), set(range(ROWS)) - old)
        self.assertEqual(self.change("delete", "--filter", "tag=old", *place), ({}, 0))

    def test_three_shards_and_one_process_do_the_same(self):
        write_npy(self.top / "one.npy", [row(1)])
        for place in ("served", "local"):
            with self.subTest(place):
                cluster = Cluster(self.data, "--shards", "3") if place == "served" else None
                where = ("--server", cluster.address) if cluster else ("--data", self.top / "local")
                try:
                    self.build(*where, numbers=range(ROWS))
                    self.check_all(*where)
                finally:
                    if cluster:
                        cluster.stop()

    def test_a_replaced_record_matches_by_what_it_is_now(self):
        place = ("--data", self.data)
        self.build(*place)
        self.build(*place, numbers=range(30), tags=lambda number: ["new"])
        lines, changed = self.change("delete", "--filter", "tag=new", *place)
        self.assertEqual((set(lines), changed), ({f"k{number}" for number in range(30)}, 30))
        self.build(*place, numbers=range(40, 70), tags=lambda number: ["new"])
        self.change("delete", "--filter", "tag=old", *place)
        self.assertEqual(set(self.kept(*place)),
                         set(range(40, 70)) | {number for number in range(30, FEW) if not number % 3})

    def test_people_are_told_how_many(self):
        place = ("--data", self.data)
        self.build(*place)
        self.assertEqual(self.run_ok("memory", "hide", "m", "--filter", "tag=only", *place).stdout,
                         "m@1: 1 records match; 1 hidden\n")
        listed = self.run_ok("memory", "delete", "m", "--filter", "tag=only", "--dry-run", *place).stdout.splitlines()
        self.assertEqual((listed[0].split()[0], listed[1]), ("k17", "m@1: 1 records match; 1 would be deleted"))
        self.assertEqual(self.run_ok("memory", "unhide", "m@1", "--filter", "tag=nobody", *place).stdout,
                         "m@1: no record matches the filter; nothing to do\n")

    def test_mistakes_change_nothing(self):
        place = ("--data", self.data)
        self.build(*place)
        self.refused(2, "any:tag=VALUE", "memory", "delete", "m", "--filter", "old", *place)
        self.refused(2, "1..", "memory", "delete", "m", "--filter", "tag=", *place)
        self.refused(2, "excludes KEY", "memory", "delete", "m", "k1", "--filter", "tag=old", *place)
        self.refused(2, "excludes KEY", "memory", "hide", "m", "--id", "1", "--filter", "tag=old", *place)
        self.refused(2, "goes with --filter", "memory", "delete", "m", "k1", "--dry-run", *place)
        self.refused(1, "nowhere", "memory", "delete", "nowhere", "--filter", "tag=old", *place)
        self.assertEqual(self.kept(*place), {number: False for number in range(FEW)})

    def test_a_run_that_was_killed_is_repeated(self):
        cluster = Cluster(self.data, "--shards", "2")
        self.addCleanup(lambda: cluster.process.poll() is None and cluster.kill())
        place = ("--server", cluster.address)
        self.build(*place, numbers=range(ROWS))
        old = {number for number in range(ROWS) if "old" in tags_of(number)}
        process = subprocess.Popen([str(cli.PROGRAMS / "reco"), "memory", "delete", "m", "--filter", "tag=old", "--json",
                                    *place], stdout=subprocess.PIPE, text=True)
        first = json.loads(process.stdout.readline())  # more than a pipe holds is still to come
        process.kill()
        process.wait(cli.PATIENCE)
        process.stdout.close()
        self.assertEqual(first["status"], "deleted")
        left = set(self.kept(*place))
        self.assertLess(len(left), ROWS)
        self.assertGreater(len(left), ROWS - len(old), "it was faster than the kill")
        self.assertEqual(self.change("delete", "--filter", "tag=old", *place)[1], len(left) - (ROWS - len(old)))
        self.assertEqual(set(self.kept(*place)), set(range(ROWS)) - old)

        cluster.kill()
        self.refused(3, cluster.address, "memory", "delete", "m", "--filter", "tag=seen", *place)
        self.assertEqual(set(self.kept("--data", self.data)), set(range(ROWS)) - old)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    cli.PROGRAMS = Path(sys.argv[1]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)


if __name__ == "__main__":
    main()
