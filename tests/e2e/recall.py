#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The recall of the index, held to floors, and the same for any number of shards.

usage: recall.py PROGRAM_DIR [CLASS[.test] ...]

Goal: a change that costs recall is seen, and how a memory is divided among nodes does not change how well it is
searched.

Method: 100,000 made-up rows of 512 numbers. They, the training and the kernels are the same bits on
every machine, so each recall is one number; its floor lies 0.2 points below what was measured on
2026-11-29. Shards: 84,000 rows of 128 numbers and the report of a real cluster, the same 200 records
asking in all four ways.
"""
import json
import shutil
import tempfile
from pathlib import Path

import cli
from cli import Case, Cluster, reco
from procs import wait_for

ROWS = 100000
SHARED_ROWS, SHARED_DIMENSION = 84000, 128  # enough that each of four nodes makes an index
FLOORS = {"id": {8: 0.9843, 32: 0.9942}, "ood": {8: 0.8430, 32: 0.9477}}  # lists looked into, of 1,266
SAMPLE = 200
TARGET = 0.99  # lower ones are passed by more: of three lists or four, three are too few and four too many


class Recall(Case):
    @classmethod
    def setUpClass(cls):
        cls.vectors = Path(tempfile.mkdtemp(prefix="reco-recall-"))
        cls.addClassCleanup(shutil.rmtree, cls.vectors, True)
        done = reco("bench", "vectors", "--out", cls.vectors, "--count", ROWS)
        assert done.returncode == 0, done.stderr

    def test_no_recall_is_below_its_floor(self):
        files = [word for name in FLOORS for word in ("--queries", self.vectors / f"queries-{name}.npy")]
        for line in self.lines("bench", "index", "--base", self.vectors / "base.npy", *files, "--recall", "",
                               "--nprobe", "8,32", "--threads", "2"):
            name = Path(line["queries"]).stem.split("-")[1]
            self.assertGreaterEqual(line["recall"], FLOORS[name][line["settings"]["nprobe"]], line)

    def report(self, cluster):
        """None while a node counts as down: it may when everything else runs beside it."""
        done = reco("memory", "report", "m", "--sample", SAMPLE, "--target-recall", TARGET, "--server", cluster.address,
                    "--json")
        self.assertIn(done.returncode, (0, 3), done.stderr)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def recall_of(self, shards):
        cluster = Cluster(self.top / str(shards), "--shards", shards)
        try:
            base = self.top / "vectors" / "base.npy"
            self.run_ok("memory", "build", "m", base, base, "--space", f"made:{SHARED_DIMENSION}", "--server", cluster.address)
            report = wait_for("all nodes answer", lambda: self.report(cluster))
            self.assertEqual(report["searched"], "ivf")
            return sum(report["recall_at_10"].values()) / len(report["recall_at_10"])
        finally:
            cluster.stop()
            shutil.rmtree(self.top / str(shards))

    def test_shards_do_not_change_it(self):
        self.run_ok("bench", "vectors", "--out", self.top / "vectors", "--count", SHARED_ROWS, "--dimension",
                    SHARED_DIMENSION)
        recalls = [self.recall_of(shards) for shards in (1, 2, 4)]
        self.assertLess(max(recalls) - min(recalls), 0.005, recalls)
        self.assertGreater(min(recalls), TARGET - 0.005, recalls)


if __name__ == "__main__":
    cli.main()
