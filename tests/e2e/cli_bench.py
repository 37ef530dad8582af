#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`reco bench`: every repetition is told.

usage: cli_bench.py PROGRAM_DIR [CLASS[.test] ...]

Goal: measurements have the shape that the help promises, on made-up memories that are built once.

Method: cli.py's, which says what the tests of the command line share.
"""
from pathlib import Path

import cli
from cli import IMAGES, Case


class Bench(Case):
    def test_encode_tells_every_repetition(self):
        lines = self.lines("bench", "encode", "--batch", "1,4", "--repetitions", "2")
        self.assertEqual([(line["what"], line["batch"], line["repetition"]) for line in lines],
                         [(what, batch, i) for what in ("image", "text") for batch in (1, 4) for i in (0, 1)])
        for line in lines:
            self.assertGreater(line["per_second"], 0)
            self.assertGreater(line["timings_ms"]["encode"], 0)
        self.assertIn("per second", self.run_ok("bench", "encode", IMAGES[0], "--batch", "2", "--repetitions",
                                                "1").stdout)

    def test_search_measures_a_synthetic_memory_that_it_builds_once(self):
        asked = ("bench", "search", "--synthetic", "3000", "--dimension", "24", "-n", "20", "--repetitions", "2",
                 "--concurrency", "1,3", "--data", self.data)
        lines = self.lines(*asked)
        self.assertEqual([(line["concurrency"], line["repetition"]) for line in lines],
                         [(1, 0), (1, 1), (3, 0), (3, 1)])
        for line in lines:
            self.assertEqual((line["records"], line["dimension"], line["queries"]), (3000, 24, 20))
            self.assertTrue({"decode", "preprocess", "encode", "queue", "fanout", "shard", "merge", "fetch",
                             "fuse", "total", "wall"} <= set(line["steps_ms"]))
            self.assertGreater(line["machine_gb_per_second"], 0)
            self.assertGreaterEqual(line["steps_ms"]["total"]["p99"], line["steps_ms"]["total"]["median"])
        memories = self.lines("memory", "list", "--data", self.data)
        self.assertEqual([(m["memory"], m["records"], m["state"]) for m in memories],
                         [("synthetic-3000x24", 3000, "serving")])
        done = self.run_ok(*asked, "--refine")
        self.assertNotIn("building", done.stderr)
        self.assertIn("GB/s", done.stdout)

    def test_vectors_writes_the_same_files_again(self):
        out, again = self.top / "vectors", self.top / "again"
        lines = self.lines("bench", "vectors", "--out", out, "--count", "300", "--dimension", "48", "-n", "20")
        self.assertEqual([(Path(line["file"]).name, line["rows"], line["dimension"]) for line in lines],
                         [("base.npy", 300, 48), ("queries-id.npy", 20, 48), ("queries-ood.npy", 20, 48)])
        self.assertIn("200 rows", self.run_ok("bench", "vectors", "--out", again, "--count", "200", "--dimension",
                                              "48", "-n", "20").stdout)
        whole, begin = (out / "base.npy").read_bytes(), (again / "base.npy").read_bytes()
        self.assertEqual(whole[-300 * 48 * 4:-100 * 48 * 4], begin[-200 * 48 * 4:])  # fewer rows: the first ones
        self.assertEqual((out / "queries-ood.npy").read_bytes(), (again / "queries-ood.npy").read_bytes())
        self.refused(2, "--out: is needed", "bench", "vectors")
        self.refused(2, "--dimension", "bench", "vectors", "--out", out, "--dimension", "8")
        self.refused(1, "is a file", "bench", "vectors", "--out", out / "base.npy", "--count", "1")

    def test_search_needs_a_memory_with_records(self):
        self.refused(1, "reco memory build", "bench", "search", "--data", self.data)


if __name__ == "__main__":
    cli.main()
