#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains reco-tiny's fusion head from the demo's corpus.

usage: train_head.py PROGRAM_DIR OUT [--no-gate] [FLAG ...]

PROGRAM_DIR has reco, as build/release/bin after tools/demo.sh. The head is written to OUT, which must not be there
yet; the same corpus and program make the same bytes. Other flags go on to `reco train`; those of RECIPE that are
named again are replaced. With --no-gate the head learns no gate, from nothing but pairs and memory of splits A and B.
Split C is in nothing that is read here: README.md has the rules.
"""
import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

from scoring import MEMORY, PAIRS, QUERIES, Reco, read_samples, write_samples

FOLDS = 3
RECIPE = {
    "--index": "exact", "--loss": "absolute", "--terms": "refined", "--scale": "60", "--rate": "0.0015",
    "--steps": "150", "--every": "25", "--batch": "310", "--held-out": "0.3", "--patience": "99", "--seed": "1",
}
SETS = ("block=false", "pairing=true")
PATIENCE = 3600


def fold_of(key):
    """A third of the known things teaches the gate; no other use is made of the folds."""
    return int(hashlib.sha256(f"fold:{key}".encode()).hexdigest(), 16) % FOLDS


def known_pairs():
    """Drawings in the queries' style of known things, with their plain names."""
    for key, picture, about in read_samples(QUERIES):
        if about["split"] == "A" and fold_of(about["entity"]) == 0:
            yield key, picture, {**about, "caption": about["name"]}


def build(reco, folder, name, splits):
    """A memory of the things of `splits`, whose records have the demo's keys."""
    source = folder / name / MEMORY.name.removesuffix(".gz")
    source.parent.mkdir()
    write_samples(source, (sample for sample in read_samples(MEMORY) if sample[2]["split"] in splits))
    report = reco.lines("memory build", name, source)[-1]
    print(f"memory {name}: {report['records']} records, splits {', '.join(splits)}", flush=True)


def recipe(more):
    """The recipe's flags, without those that `more` gives."""
    given = {word.split("=")[0] for word in more}
    flags = [word for flag, value in RECIPE.items() if flag not in given for word in (flag, value)]
    return [*flags, *(word for field in SETS for word in ("--set", field)), *more]


def train(programs, out, gate, more):
    """Returns what `reco train` says at the end."""
    with tempfile.TemporaryDirectory(prefix="reco-head-") as scratch:
        folder = Path(scratch)
        # Not on a device: its last bits are its own.
        reco = Reco(programs / "reco", "--data", folder / "data", "--device", "cpu")
        build(reco, folder, "ab", "AB")
        asked = ["--pairs", PAIRS, "--memory", "ab"]
        if gate:
            build(reco, folder, "b", "B")
            write_samples(folder / "known.tar", known_pairs())
            asked += ["--known", folder / "known.tar", "--without", "b"]
        return reco.lines("train", *asked, *recipe(more), "--out", out, timeout=PATIENCE)[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False,
                                     epilog="Other flags go on to `reco train`.")
    parser.add_argument("programs", type=Path, help="the folder with reco")
    parser.add_argument("out", type=Path, help="where the head is written")
    parser.add_argument("--no-gate", dest="gate", action="store_false", help="learn no gate")
    given, more = parser.parse_known_args()
    if given.out.exists():
        parser.error(f"{given.out} is there already")
    said = train(given.programs.resolve(), given.out.resolve(), given.gate, more)
    print(json.dumps(said, indent=2))
    print(f"{given.out}: {given.out.stat().st_size} bytes, sha256 "
          f"{hashlib.sha256(given.out.read_bytes()).hexdigest()}")
    if said["best_step"] == 0:
        print("held-out pairs were best before the first step: this head is what training begins with", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
