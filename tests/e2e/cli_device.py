#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The verbs that encode, with --device.

usage: cli_device.py PROGRAM_DIR [CLASS[.test] ...]

Goal: a Vulkan device gives the embeddings and labels that the CPU gives, and a device that cannot be used
is an error that says which can.

Method: the first device that `reco doctor` lists, software included; skipped (77) where there is none.
"""
import json
import re
import sys
from pathlib import Path

import cli
from cli import IMAGES, INDEX, Case

LABELS = Path(__file__).resolve().parent.parent.parent / "tools" / "demo" / "labels-c.txt"
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def first_device():
    for line in cli.reco("doctor", "--json").stdout.splitlines():
        check = json.loads(line)
        if check["check"] == "vulkan" and not re.search("not usable|refused", check["detail"]):
            found = re.match(UUID, check["detail"])
            if found:
                return found.group()
    return None


class Device(Case):
    def setUp(self):
        super().setUp()
        self.device = first_device()

    def both(self, *arguments, **named):
        return (self.lines(*arguments, "--device", "cpu", **named),
                self.lines(*arguments, "--device", self.device, **named))

    def check_embeddings(self, count, cpu, gpu):
        self.assertEqual((len(cpu), len(gpu)), (count, count))
        for a, b in zip(cpu, gpu):
            for x, y in zip(a["embedding"], b["embedding"]):
                self.assertAlmostEqual(x, y, delta=1e-6)

    def test_embeddings_are_the_cpu_s(self):
        self.check_embeddings(len(IMAGES), *self.both("embed", "image", *IMAGES))
        texts = "".join(f"{text}\n" for text in INDEX["texts"])
        self.check_embeddings(len(INDEX["texts"]), *self.both("embed", "text", "-", stdin=texts))

    def test_labels_are_the_cpu_s(self):
        cpu, gpu = self.both("classify", *IMAGES, "--labels", LABELS, "--fusion", "none", "--top", 3)
        names = [[[entry["label"] for entry in line["plain"]] for line in lines] for lines in (cpu, gpu)]
        self.assertEqual(len(names[0]), len(IMAGES))
        self.assertEqual(names[0], names[1])

    def test_a_profile_is_measured_by_the_device(self):
        lines = self.lines("bench", "encode", "--what", "text", "--batch", "1", "--repetitions", "1", "--profile",
                           "--device", self.device)
        rows = [line for line in lines if line["bench"] == "operation"]
        self.assertIn("attention", " ".join(row["operation"] for row in rows))
        self.assertAlmostEqual(sum(row["share"] for row in rows), 1, places=5)
        for row in rows:
            self.assertEqual(row["clock"], "device")
            self.assertGreater(row["seconds"], 0)
            self.assertNotIn("peak_share", row)

    def test_its_name_may_be_in_capitals(self):
        self.lines("embed", "text", "x", "--device", self.device.upper())

    def test_half_precision_is_a_choice_and_another_word_is_an_error(self):
        ask = ("embed", "text", "an anchor", "--device", self.device)
        single, half = (self.lines(*ask, env={"RECO_GPU": word})[0]["embedding"] for word in ("single", "half"))
        furthest = max(abs(x - y) for x, y in zip(single, half))
        self.assertLess(furthest, 2e-3)  # reco-tiny's weights are halves already
        self.refused(1, "possible are single and half", *ask, env={"RECO_GPU": "double"})

    def test_an_unknown_device_names_those_that_are_there(self):
        self.refused(1, self.device, "embed", "text", "x", "--device", "01234567-89ab-cdef-0123-456789abcdef")
        self.refused(1, "possible are auto, cpu, cpu-bf16, and the UUID", "embed", "text", "x", "--device", "vulkan")


if __name__ == "__main__":
    cli.PROGRAMS = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    if cli.PROGRAMS and not first_device():
        print("skipped: there is no Vulkan device here")
        sys.exit(77)
    cli.main()
