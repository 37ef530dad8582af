#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""--device cpu-bf16.

usage: cli_bf16.py PROGRAM_DIR [CLASS[.test] ...]

Goal: products in bfloat16 name what single precision names, every answer says that they were made so, and a CPU without
them says what is missing.

Method: every drawing of the demo's test splits (460 and 801) embedded and classified both ways; RECO_CPU=avx2 stands for
the other CPU. Where this one has no bfloat16 only that is asked.
"""
import math
import sys
import tempfile
from pathlib import Path

import cli
from cli import Case

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "demo"))
from scoring import Reco, unpack_queries  # noqa: E402

COSINE_MIN = 0.999   # seen: 0.99999
AGREEMENT_MIN = 0.98  # of first labels; seen: 1248 of 1261


def is_there():
    return cli.reco("embed", "text", "x", "--device", "cpu-bf16").returncode == 0


def cosine(x, y):
    return sum(p * q for p, q in zip(x, y)) / math.sqrt(sum(p * p for p in x) * sum(q * q for q in y))


class Bf16(Case):
    def test_a_cpu_without_it_says_so(self):
        self.refused(1, "cpu-bf16 asks for", "embed", "text", "x", "--device", "cpu-bf16", env={"RECO_CPU": "avx2"})

    def test_first_labels_agree_over_the_test_split(self):
        if not is_there():
            self.skipTest("this CPU has no bfloat16")
        single, half = (Reco(cli.PROGRAMS / "reco", "--device", name) for name in ("cpu", "cpu-bf16"))
        least, same, count = 1.0, 0, 0
        with tempfile.TemporaryDirectory() as scratch:
            for split in ("C", "A"):
                answers = unpack_queries(Path(scratch) / split, split)
                for a, b in zip(single.classify(answers, split, "none"), half.classify(answers, split, "none"),
                                strict=True):
                    self.assertEqual(a["input"], b["input"])
                    same += a["plain"][0]["label"] == b["plain"][0]["label"]
                    count += 1
                if split == "C":
                    names = "".join(f"{path}\n" for path in answers)
                    for a, b in zip(*(reco.lines("embed image", "-", stdin=names) for reco in (single, half)),
                                    strict=True):
                        least = min(least, cosine(a["embedding"], b["embedding"]))
        print(f"{same} of {count} first labels agree, cosine {least:.6f} or more")
        self.assertGreaterEqual(least, COSINE_MIN)
        self.assertGreaterEqual(same, AGREEMENT_MIN * count)

    def test_doctor_and_bench_name_it(self):
        if not is_there():
            self.skipTest("this CPU has no bfloat16")
        found = cli.reco("doctor", "--device", "cpu-bf16").stdout
        self.assertRegex(found, r"reco-tiny on cpu-bf16 \(cosine with single precision 0\.999\d+ or more\)")
        row = self.lines("bench", "encode", "--batch", 1, "--repetitions", 1, "--device", "cpu-bf16")[0]
        self.assertEqual(row["device"], "cpu-bf16")


if __name__ == "__main__":
    cli.main()
