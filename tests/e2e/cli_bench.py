#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`reco bench`: every repetition is told.

usage: cli_bench.py PROGRAM_DIR [CLASS[.test] ...]

Goal: measurements have the shape that the help promises, on made-up memories that are built once.

Method: cli.py's, which says what the tests of the command line share.
"""
import json
import operator
import struct
import subprocess
import sys
from pathlib import Path

import cli
from cli import IMAGES, Case

ROOFLINE = Path(__file__).resolve().parents[2] / "tools" / "bench" / "roofline.py"


def write_ids(path, rows):
    rows = list(rows)
    header = f"{{'descr': '<i4', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0])}), }}".ljust(117) + "\n"
    values = [value for row in rows for value in row]
    Path(path).write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
                           + struct.pack(f"<{len(values)}i", *values))


class Bench(Case):
    def test_encode_measures_batches_and_operations(self):
        for what in ("image", "text"):
            lines = self.lines("bench", "encode", "--what", what, "--batch", "1,4", "--repetitions", "1", "--threads",
                               "2", "--profile")
            rows = [line for line in lines if line["bench"] == "encode"]
            self.assertEqual([(row["what"], row["batch"], row["threads"], row["device"]) for row in rows],
                             [(what, batch, 2, "cpu") for batch in (1, 4)])
            for row in rows:
                self.assertGreater(row["items_per_second"], 0)
                self.assertGreater(row["first_answer_seconds"], 0)
                self.assertGreater(row["peak_rss_bytes"], 1 << 20)
            operations = [line for line in lines if line["bench"] == "operation"]
            self.assertIn("attention", " ".join(line["operation"] for line in operations))
            self.assertAlmostEqual(sum(line["share"] for line in operations), 2, places=5)  # of two batches
            for line in operations:
                self.assertEqual(line["clock"], "host")
                self.assertLess(line["peak_share"], 1.5, line)  # what else runs may lower the measured peak
        self.assertIn("per second", self.run_ok("bench", "encode", IMAGES[0], "--batch", "2", "--repetitions",
                                                "1").stdout)

    def test_encode_counts_the_operations_that_it_would_do(self):
        for what in ("image", "text"):
            asked = ("bench", "encode", "--what", what, "--threads", "1", "--repetitions", "1", "--batch")
            counted = self.lines(*asked, "1,4", "--operations")
            self.assertEqual({(line["bench"], line["what"]) for line in counted}, {("count", what)})
            done = [line for line in self.lines(*asked, "4", "--profile") if line["bench"] == "operation"]
            rows = [(line["operation"], line["rows"]) for line in counted if line["batch"] == 4]
            self.assertEqual(rows, [(line["operation"], line["rows"]) for line in done])
            one = {line["operation"]: line for line in counted if line["batch"] == 1}
            for line in counted:
                if line["batch"] == 4 and line["operation"].startswith("product") and what == "image":
                    self.assertAlmostEqual(line["flops"], 4 * one[line["operation"]]["flops"])
            # Per call the same as what was done, however many batches that were.
            for line, other in zip([line for line in counted if line["batch"] == 4], done):
                self.assertAlmostEqual(line["flops"] / line["calls"] / 1e9,
                                       other["gflops"] * other["seconds"] / other["calls"], places=6)
        shown = self.run_ok("bench", "encode", "--batch", "2", "--operations").stdout
        self.assertIn("GFLOP", shown)
        self.refused(1, "goes with neither", "bench", "encode", "--operations", "--profile")
        on_paper = subprocess.run([sys.executable, ROOFLINE, "-"], input="\n".join(map(json.dumps, counted)),
                                  capture_output=True, text=True, check=True)
        self.assertIn("| 4 texts | **all** | ", on_paper.stdout)

    def test_encode_reads_texts_and_takes_turns(self):
        texts = Path(self.data) / "texts.txt"
        texts.parent.mkdir(parents=True, exist_ok=True)
        texts.write_text("a cat\n\nan otter in a river", encoding="utf-8")
        done = self.run_ok("bench", "encode", "--what", "text", "--texts", str(texts), "--rounds", "--json",
                           stdin="2\n1\n")
        self.assertEqual([json.loads(line)["batch"] for line in done.stdout.splitlines()], [1, 2, 1])
        refused = cli.reco("bench", "encode", "--rounds", stdin="99\n")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("'99'", refused.stderr)
        texts.write_text("\n", encoding="utf-8")
        refused = cli.reco("bench", "encode", "--what", "text", "--texts", str(texts))
        self.assertIn("has no line", refused.stderr)

    def test_train_measures_steps_and_takes_turns(self):
        small = ("bench", "train", "--pairs", "8", "-k", "3", "--dimension", "32", "--threads", "1")
        row, = self.lines(*small, "--repetitions", "1")
        self.assertEqual([row[name] for name in ("bench", "pairs", "k", "dimension", "threads")], ["train", 8, 3, 32, 1])
        self.assertGreater(row["steps_per_second"], 0)
        self.assertGreater(row["loss"], 0)
        self.assertEqual(len(self.lines(*small, "--rounds", stdin="\n\n")), 3)
        self.assertIn("steps a second", self.run_ok(*small, "--repetitions", "1").stdout)
        self.refused(2, "--pairs", "bench", "train", "--pairs", "1")

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
            self.assertEqual((line["index"], line["work"]["exact"]), ("exact", True))
            self.assertGreater(line["scan_gb_per_second"], 0)
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

    def make_vectors(self, count=3000):
        self.run_ok("bench", "vectors", "--out", self.top, "--count", count, "--dimension", "32", "-n", "60")
        return ["bench", "index", "--base", self.top / "base.npy", "--queries", self.top / "queries-id.npy"]

    def test_index_tells_the_speed_at_a_recall(self):
        asked = self.make_vectors()
        for flags in ([], ["--batch", "16", "--threads", "2"]):
            lines = self.lines(*asked, "--recall", "0.5,0.9,0.97", *flags)
            self.assertEqual(len(lines), 3)
            for line, recall in zip(lines, (0.5, 0.9, 0.97)):
                self.assertGreaterEqual(line["recall"], recall)
                self.assertGreater(line["qps"], 0)
                self.assertGreater(line["bytes_per_vector"], line["index_bytes_per_vector"])
                self.assertGreater(line["build_seconds"], 0)
                if isinstance(line["settings"]["nprobe"], list):
                    self.assertAlmostEqual(line["recall"], recall)
                    self.assertLess(*line["settings"]["nprobe"])
        shown = self.run_ok(*asked, "--nprobe", "1,4", "--recall", "", "--extra-bits", "7").stdout
        self.assertIn("3,000 rows of 32 dimensions", shown)
        self.assertEqual(len(shown.splitlines()), 4)

    def test_index_finds_everything_where_it_looks_everywhere(self):
        asked = self.make_vectors() + ["--recall", "", "--nprobe", "4096"]
        line, = self.lines(*asked)
        self.assertGreater(line["recall"], 0.995)  # against its own exact scan: bounds hold but for a few
        truth = list(self.exact_ids(10))
        write_ids(self.top / "truth.npy", truth)
        line, = self.lines(*asked, "--truth", self.top / "truth.npy")
        self.assertGreater(line["recall"], 0.98)  # halves change places that are close
        write_ids(self.top / "truth.npy", [[(i + 1500) % 3000 for i in row] for row in truth])
        line, = self.lines(*asked, "--truth", self.top / "truth.npy")
        self.assertGreater(line["recall"], 0.995)  # worse ids: everything found is at least as good
        write_ids(self.top / "truth.npy", [row[:9] for row in truth])
        self.refused(1, "k is 10", *asked, "--truth", self.top / "truth.npy")
        write_ids(self.top / "truth.npy", [[3000] * 10] * 60)
        self.refused(1, "0 to 2999 exist", *asked, "--truth", self.top / "truth.npy")

    def exact_ids(self, k):
        (count, dimension), values = cli.read_npy(self.top / "base.npy")
        rows = [values[i * dimension:(i + 1) * dimension] for i in range(count)]
        (count, _), values = cli.read_npy(self.top / "queries-id.npy")
        for i in range(count):
            query = values[i * dimension:(i + 1) * dimension]
            scores = [sum(map(operator.mul, query, row)) for row in rows]
            yield sorted(range(len(rows)), key=lambda row, scores=scores: (-scores[row], row))[:k]

    def test_index_takes_turns(self):
        asked = [*self.make_vectors(), "--queries", self.top / "queries-ood.npy", "--threads", "2", "--rounds", "--json"]
        with subprocess.Popen([cli.PROGRAMS / "reco", *asked], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as process:
            about, lines = json.loads(process.stdout.readline()), []
            for line in ("0 20 1 1 4", "1 0 256 2 8", "0 0 1 2 4096"):  # each answer before the next question
                process.stdin.write(line + "\n")
                process.stdin.flush()
                lines.append(json.loads(process.stdout.readline()))
            process.stdin.close()
            self.assertEqual(process.wait(), 0)
        self.assertEqual((about["count"], about["dimension"]), (3000, 32))
        self.assertEqual([(Path(line["queries"]).name, line["batch"], line["threads"], line["settings"]["nprobe"])
                          for line in lines],
                         [("queries-id.npy", 1, 1, 4), ("queries-ood.npy", 256, 2, 8), ("queries-id.npy", 1, 2, 4096)])
        self.assertGreater(lines[2]["recall"], 0.995)
        for bad in ("0 0 1 3 8", "2 0 1 1 8", "0 0 0 1 8", "0 0 1 1 0", "0 0 1 1", "0 0 1 1 8 9", "x"):
            done = cli.reco(*asked, stdin=bad + "\n")
            self.assertEqual(done.returncode, 1, bad)
            self.assertIn("SET QUERIES BATCH THREADS NPROBE", done.stderr)

    def test_index_refuses_what_it_cannot_measure(self):
        asked = self.make_vectors()
        cli.write_npy(self.top / "long.npy", [[1.0] * 32] * 300)
        cli.write_npy(self.top / "narrow.npy", [[1.0]] * 300)
        self.refused(2, "--base: is needed", "bench", "index")
        self.refused(2, "--queries: is needed", *asked[:4])
        self.refused(2, "--truth", *asked, "--truth", "a", "--truth", "b")
        self.refused(2, "3 and 7", *asked, "--extra-bits", "5")
        self.refused(2, "does not rise", *asked, "--recall", "0.9,0.8")
        self.refused(2, "--recall", *asked, "--recall", "0.9,x")
        self.refused(1, "length", *asked[:3], self.top / "long.npy", *asked[4:])
        self.refused(1, "the base has 32", *asked[:5], self.top / "narrow.npy")
        self.refused(1, "cannot be opened", *asked[:5], self.top / "none.npy")

    def make_live(self):
        return ["bench", "live", *self.make_vectors(6000)[2:], "--queries", self.top / "queries-ood.npy", "--nprobe",
                "4,4096", "--chunk", "200", "--seconds", "2", "--out", self.top / "kept"]

    def test_live_tells_what_became_of_an_index(self):
        asked = self.make_live()
        *lines, restart = self.lines(*asked)
        self.assertEqual([(line["step"], line["rows"], line["live"]) for line in lines],
                         [("built", 3300, 3300), ("insert", 2100, 5400), ("delete", 2700, 2700), ("replace", 600, 2700),
                          ("fresh", 2700, 2700)])
        for line in lines:
            self.assertEqual([(Path(found["queries"]).name, found["nprobe"]) for found in line["found"]],
                             [(f"queries-{kind}.npy", nprobe) for kind in ("id", "ood") for nprobe in (4, 4096)])
            for few, everywhere in (line["found"][:2], line["found"][2:]):
                self.assertGreater(everywhere["recall"], 0.99)  # what is live is found; what is dead counts for nothing
                self.assertEqual(everywhere["codes"], line["vectors"])
                self.assertTrue(0.3 < few["recall"] < 1, few)
                self.assertLess(few["codes"], everywhere["codes"])
            self.assertGreaterEqual(line["vectors"], line["live"])
            self.assertGreater(line["index_bytes_per_vector"], 0)
            self.assertGreater(line["lists"], 1)
        built, insert, delete, replace, fresh = lines
        for line in (insert, replace):
            self.assertGreaterEqual(line["per_second_unmended"], line["per_second"])
            self.assertGreater(min(line["per_second"], line["qps"], line["qps_before"]), 0)
        self.assertGreater(min(insert["upkeep"][what] for what in ("splits", "moves")), 0)  # they crowd
        self.assertGreater(delete["upkeep"]["rewrites"] + delete["upkeep"]["merges"], 0)
        self.assertLess(delete["microseconds_each"], 1000)
        self.assertGreater(min(built["seconds"], fresh["seconds"]), 0)
        self.check_losses(replace, fresh)
        self.check_restart(restart)
        self.assertEqual(list((self.top / "kept").iterdir()), [])

        shown = self.run_ok(*asked, "--threads", "2").stdout  # figures do not depend on who computes them when
        for line in lines:
            for found in line["found"]:
                self.assertRegex(shown, rf"(?m)^{line['step']} +{found['nprobe']} +{found['recall']:.4f} "
                                        rf".*{Path(found['queries']).name}$")
        self.assertRegex(shown, r"(?m)^restart  .* saved in .*, first answer after")

    def check_losses(self, churned, fresh):
        self.assertAlmostEqual(fresh["bytes_ratio"],
                               churned["index_bytes_per_vector"] / fresh["index_bytes_per_vector"], places=3)
        self.assertTrue(0.5 < fresh["bytes_ratio"] < 2)
        for before, after in zip(churned["found"], fresh["found"]):
            self.assertAlmostEqual(after["points_lost"], 100 * (after["recall"] - before["recall"]), places=3)
            self.assertLess(after["points_lost"], 15)  # of a few lists, asked 60 times
            at_codes = after["points_lost_at_codes"]
            if at_codes is not None:  # between the two numbers of lists
                self.assertTrue(100 * (after["recall"] - 1) <= at_codes < 30)

    def check_restart(self, restart):
        self.assertEqual(restart["step"], "restart")
        self.assertGreater(restart["bytes"], 2700 * (32 // 8 + 4))
        self.assertGreater(min(restart["save_seconds"], restart["open_seconds"], restart["qps_before"]), 0)
        self.assertGreaterEqual(restart["first_answer_ms"], 999 * restart["open_seconds"])
        self.assertEqual([qps >= 0.949 * restart["qps_before"] for qps in restart["qps"][:-1]],
                         [False] * (len(restart["qps"]) - 1))
        self.assertTrue(restart["full_speed"] or len(restart["qps"]) == 2)

    def test_live_refuses_what_it_cannot_measure(self):
        asked = self.make_live()
        self.refused(2, "--base: is needed", "bench", "live")
        self.refused(2, "--queries: is needed", *asked[:4])
        for flag, value in (("--nprobe", "0"), ("--nprobe", "4097"), ("--chunk", "0"), ("--seconds", "0"), ("--threads", "65"),
                            ("-k", "0")):
            self.refused(2, flag, *asked, flag, value)
        self.refused(2, "at most 8 files", *asked, *["--queries", "x"] * 7)
        self.refused(1, "is a file", *asked[:-1], self.top / "base.npy")  # --out
        cli.write_npy(self.top / "few.npy", [[1.0] + [0.0] * 31] * 999)
        cli.write_npy(self.top / "narrow.npy", [[1.0]] * 300)
        self.refused(1, "at least 1000", *asked[:3], self.top / "few.npy", *asked[4:])
        self.refused(1, "the base has 32", *asked, "--queries", self.top / "narrow.npy")
        self.refused(1, "cannot be opened", *asked, "--queries", self.top / "none.npy")

    def test_search_needs_a_memory_with_records(self):
        self.refused(1, "reco memory build", "bench", "search", "--data", self.data)


if __name__ == "__main__":
    cli.main()
