#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memories that are large enough for an index, asked from outside.

usage: cli_index.py PROGRAM_DIR [CLASS[.test] ...]

Goal: a query says how it was searched and obeys what it was told about that, from the command line, over
the side port and by the server's configuration; the report measures what an index finds, inside the
process as with a server, and says of a small memory that it needs none.

Method: cli.py's. 25,000 made-up pairs of 64 numbers, which one node makes an index of; the tests wait
until it has one.
"""
import json
import re
import shutil
import struct
import tempfile
import urllib.request
from pathlib import Path

import cli
from cli import PATIENCE, Case, make_rows, reco, same_but_for_time
from procs import wait_for

RECORDS = 25000
DIMENSION = 64
WAYS = ("image", "text", "image_over_text", "text_over_image")


class Index(Case):
    @classmethod
    def setUpClass(cls):
        cls.shared = Path(tempfile.mkdtemp(prefix="reco-cli-"))
        cls.addClassCleanup(shutil.rmtree, cls.shared, True)
        cls.vectors = cls.shared / "vectors"
        small = make_rows(cls.shared / "small", 50, DIMENSION)
        for arguments in (
                ("bench", "vectors", "--out", cls.vectors, "--count", RECORDS, "--dimension", DIMENSION,
                 "--queries", RECORDS),
                ("memory", "build", "large", cls.vectors / "base.npy", cls.vectors / "queries-id.npy", "--space",
                 f"made:{DIMENSION}", "--data", cls.shared / "data"),
                ("memory", "build", "small", small, "--space", f"made:{DIMENSION}", "--data",
                 cls.shared / "data")):
            done = reco(*arguments)
            assert done.returncode == 0, done.stderr

    def setUp(self):
        super().setUp()
        self.data = self.shared / "data"

    def row(self, number):
        """A row of what was built from."""
        data = (self.vectors / "base.npy").read_bytes()
        size, = struct.unpack("<H", data[8:10])
        return list(struct.unpack_from(f"<{DIMENSION}f", data, 10 + size + 4 * DIMENSION * number))

    def report(self, *arguments):
        return self.lines("memory", "report", "--data", self.data, *arguments)[0]

    def check_report(self, report, recall):
        self.assertEqual((report["memory"], report["records"], report["index"], report["searched"]),
                         ("large", RECORDS, "ivf", "ivf"))
        self.assertGreater(report["bytes_per_record"], 4 * DIMENSION)
        self.assertEqual(report["sample"], 40)
        # Two sides; codes of a bit and three more for each number, and what belongs to them.
        self.assertEqual(report["index_vectors"], 2 * RECORDS)
        self.assertGreater(report["index_bytes_per_record"], 2 * DIMENSION / 2)
        self.assertGreater(report["index_lists"], 100)
        self.assertGreater(report["index_list_max"], 2 * RECORDS / report["index_lists"])
        for way in WAYS:
            question = report["questions"][way]
            self.assertGreaterEqual(report["recall_at_10"][way], recall, way)
            self.assertEqual(question["recall_at_10"], report["recall_at_10"][way])
            self.assertLessEqual(question["lowest"], question["recall_at_10"])
            self.assertFalse(question["exact"])
            self.assertGreater(question["lists_probed"], 0)
            self.assertLess(question["codes_scanned"], RECORDS)
            self.assertGreaterEqual(question["rows_read"], 10)

    def test_a_small_memory_needs_no_index_and_the_report_says_so(self):
        report = self.report("small")
        self.assertEqual((report["searched"], report["index"], report["sample"], report["questions"]),
                         ("exact", "exact", 0, {}))
        self.assertEqual(report["recall_at_10"], dict.fromkeys(WAYS, 1))
        done = self.run_ok("memory", "report", "small", "--data", self.data)
        self.assertIn("small@2: 50 records of 64 dimensions", done.stdout)
        self.assertIn("fewer than 20,000: every record is compared, recall is 1", done.stdout)
        one = self.top / "one.npy"
        cli.write_npy(one, [self.row(7)])
        for index in ("auto", "exact", "ivf"):
            answer = self.lines("search", "--embedding", one, "-m", "small", "--index", index, "--data", self.data)[0]
            self.assertEqual((answer["index"], answer["work"]["exact"]), ("exact", True))
            self.assertEqual(answer["work"]["lists_probed"], 0)
        self.refused(1, "nobody", "memory", "report", "nobody", "--data", self.data)
        self.refused(2, "--sample", "memory", "report", "small", "--sample", "0")

    def test_the_report_measures_what_the_index_of_this_process_finds(self):
        self.check_report(self.report("large", "--sample", 40, "--approx", "accurate"), 0.9)

    def test_a_served_memory_is_searched_as_it_is_asked(self):
        config = self.top / "reco.ini"
        config.write_text("[search]\napprox = fast\n")
        cluster = self.start("--config", config, "--http", "127.0.0.1:0", data=self.data)
        http = re.fullmatch(r"http (\S+)\n", cluster.process.stdout.readline())[1]
        one = self.top / "one.npy"
        cli.write_npy(one, [self.row(7)])

        def search(*flags):
            return self.lines("search", "--embedding", one, "-m", "large", "--server", cluster.address, *flags)[0]

        for side in ("image", "text"):
            wait_for("the node has an index", lambda side=side: search("--over", side)["index"] == "ivf", PATIENCE)
        exact = search("--index", "exact")
        self.assertEqual((exact["index"], exact["work"]["exact"], exact["work"]["lists_probed"]), ("exact", True, 0))

        answer = search()
        self.assertEqual((answer["index"], answer["work"]["exact"], answer["records"]), ("ivf", False, RECORDS))
        self.assertEqual(search("--approx", "fast")["work"], answer["work"], "the server's default")
        self.assertEqual(search("--target-recall", "0.9")["work"], answer["work"])
        self.assertLess(answer["work"]["codes_scanned"], RECORDS)
        lists = [search("--nprobe", count)["work"]["lists_probed"] for count in (1, 3, 8)]
        self.assertEqual(lists, [1, 3, 8])
        self.assertGreaterEqual(search("--approx", "accurate")["work"]["lists_probed"],
                                answer["work"]["lists_probed"])
        self.assertEqual(search("--nprobe", 4096)["work"]["codes_scanned"], RECORDS, "all lists are everything")
        for found, least in ((answer, 6), (search("--approx", "accurate"), 8)):  # of one question
            keys = [{one["key"] for one in some["neighbours"]} for some in (found, exact)]
            self.assertGreaterEqual(len(keys[0] & keys[1]), least)

        # The side port takes and gives the same.
        body = {"input": f"{one}[0]", "embedding": self.row(7),
                "options": {"memory": "large", "nprobe": 3, "index": "ivf"}}
        with urllib.request.urlopen(f"http://{http}/v1/search", json.dumps(body).encode(), PATIENCE) as reply:
            self.assertEqual(same_but_for_time([json.load(reply)]),
                             same_but_for_time([search("--nprobe", 3, "--index", "ivf")]))

        # So does refine; people are told in one word.
        told = self.run_ok("refine", "--embedding", one, "-m", "large", "--server", cluster.address)
        self.assertIn("one.npy[0] (ivf)\n", told.stdout)
        report = self.lines("memory", "report", "large", "--sample", 40, "--server", cluster.address, "--approx",
                            "accurate")[0]
        self.check_report(report, 0.9)
        self.assertEqual(cluster.stop(), 0)  # a killed one's shards hold the folder a moment longer


if __name__ == "__main__":
    cli.main()
