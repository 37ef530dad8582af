#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: a Vulkan device names what the CPU names, over all that the demo asks.

Method: the demo's memory, built once; every drawing of both splits (460 and 801) classified among the
split's names with and without the memory, on the CPU and on the first device that `reco doctor` lists,
software included (77 without one). First labels and neighbours must be the same, scores and the
embeddings of the test split within single precision. With --demo the demo itself runs on both, its whole
memory encoded there, and must show the same shares of right answers.

usage: device_labels.py PROGRAM_DIR [--demo]
"""
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import cli
import cli_device

DEMO = Path(__file__).resolve().parents[2] / "tools" / "demo"
sys.path.insert(0, str(DEMO))
from scoring import MEMORY, Reco, unpack_queries  # noqa: E402

ELEMENT_MAX = 1e-6    # of a unit embedding; seen: 2.1e-7
COSINE_MAX = 1e-6     # 1 - cosine of two embeddings written with seven digits
SCORE_MAX = 1e-5      # of a label; refined ones follow a softmax over neighbours; seen: 2.6e-7


def compare_embeddings(cpu, gpu):
    worst = [0.0, 0.0]
    for a, b in zip(cpu, gpu, strict=True):
        assert a["input"] == b["input"]
        x, y = a["embedding"], b["embedding"]
        worst[0] = max(worst[0], *(abs(p - q) for p, q in zip(x, y, strict=True)))
        dot = sum(p * q for p, q in zip(x, y))
        worst[1] = max(worst[1], abs(1 - dot / math.sqrt(sum(p * p for p in x) * sum(q * q for q in y))))
    print(f"{len(cpu)} embeddings: elements differ by {worst[0]:.1e}, 1 - cosine {worst[1]:.1e}")
    return worst[0] <= ELEMENT_MAX and worst[1] <= COSINE_MAX


def compare_answers(split, cpu, gpu):
    wrong, worst, closest = 0, 0.0, 1.0
    for a, b in zip(cpu, gpu, strict=True):
        assert a["input"] == b["input"] and a["coverage"] == b["coverage"] == 1
        keys = [[neighbour["key"] for neighbour in line["neighbours"]] for line in (a, b)]
        for side in ("plain", "refined"):
            first, second = a[side][0], b[side][0]
            worst = max(worst, abs(first["score"] - second["score"]))
            closest = min(closest, first["score"] - a[side][1]["score"])
            if first["label"] != second["label"] or sorted(keys[0]) != sorted(keys[1]):
                wrong += 1
                print(f"{a['input']}, {side}: {first} on the CPU, {second} on the device; neighbours {keys}")
    print(f"split {split}: {wrong} of {2 * len(cpu)} answers differ, scores by {worst:.1e}; "
          f"the closest second label is {closest:.1e} behind")
    return wrong == 0 and worst <= SCORE_MAX


def shown_by_demo(device, name):
    """The shares of right answers, in percent; the encoder must have run where it says from first to last."""
    done = subprocess.run([sys.executable, DEMO / "demo.py", cli.PROGRAMS, "--device", device], text=True,
                          stdout=subprocess.PIPE, check=True, timeout=1200)
    print(done.stdout)
    assert re.findall(r"encoder on: (\w+)", done.stdout) == [name, name]
    return re.findall(r"^  (?:none|mean|weighted) +([0-9.]+) %", done.stdout, re.MULTILINE)


def demo(device):
    cpu, gpu = shown_by_demo("cpu", "cpu"), shown_by_demo(device, "vulkan")
    return len(cpu) == 3 and cpu == gpu


def labels(device):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        both = [Reco(cli.PROGRAMS / "reco", "--device", name) for name in ("cpu", device)]
        data = ("--data", folder / "data")
        both[0].lines("memory build", "default", MEMORY, *data)
        holds = []
        for split in ("C", "A"):
            answers = unpack_queries(folder / split, split)
            holds.append(compare_answers(split, *(reco.classify(answers, split, "weighted", *data) for reco in both)))
            if split == "C":
                names = "".join(f"{path}\n" for path in answers)
                holds.append(compare_embeddings(*(reco.lines("embed image", "-", stdin=names) for reco in both)))
    return all(holds)


def main(programs, *flags):
    cli.PROGRAMS = Path(programs).resolve()
    device = cli_device.first_device()
    if not device:
        print("skipped: there is no Vulkan device here")
        return 77
    return 0 if (demo if flags == ("--demo",) else labels)(device) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
