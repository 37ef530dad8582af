#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: the fusion head that comes with reco-tiny is what the demo's corpus and the program make, byte for byte.

Method: tools/demo/train_head.py on the committed files, compared with the committed head. Exit status 77 while there
is none.

usage: head_again.py PROGRAM_DIR
"""
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
HEAD = SOURCE / "shaders" / "models" / "reco-tiny" / "head.safetensors"
PATIENCE = 3600


def first_difference(committed, made):
    place = next((i for i, (a, b) in enumerate(zip(committed, made)) if a != b), min(len(committed), len(made)))
    return (f"from byte {place} on: {committed[place:place + 60]} in the committed file of {len(committed)} bytes, "
            f"{made[place:place + 60]} in the one of {len(made)} that was made")


def main(programs):
    if not HEAD.exists():
        print(f"skipped: no {HEAD.relative_to(SOURCE)}")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "head"
        done = subprocess.run([sys.executable, SOURCE / "tools" / "demo" / "train_head.py", programs, out],
                              timeout=PATIENCE, check=False)
        if done.returncode != 0:
            print(f"FAIL train_head.py: exit {done.returncode}")
            return 1
        committed, made = HEAD.read_bytes(), out.read_bytes()
    if committed != made:
        print("FAIL another head,", first_difference(committed, made))
        return 1
    print(f"ok   the same {len(made)} bytes")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
