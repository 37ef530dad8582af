#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: what README.md tells people to copy and paste works as it stands there.

Method: a cluster with the demo's memory, as the README's tour makes it; the tour's question must have the answer that
is shown, to the last digit. Then each section "Ask from ..." is carried out by a shell, word for word but for the port,
in a folder that has only what the block names.
Exit status 77 without grpcio.

usage: readme.py PROGRAM_DIR
"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import grpc  # noqa: F401
except ImportError:
    print("skipped: this Python has no grpcio (Debian: python3-grpcio)")
    sys.exit(77)

SOURCE = Path(__file__).resolve().parents[2]
PATIENCE = 120
# What the section's output must hold: the anchor's best neighbour, whoever asks.
EXPECTED = {"Python": "memory/2693_noto", "curl": "memory/2693_noto"}


def blocks():
    """{language: the commands of its section}"""
    found = {}
    for language, body in re.findall(r"^## Ask from (\w+)\n(.*?)(?=^## )", (SOURCE / "README.md").read_text(),
                                     re.M | re.S):
        block = re.search(r"(?:^    .*\n|^\n(?=    ))+", body, re.M)[0]
        found[language] = "".join(line[4:] or "\n" for line in block.splitlines(True))
    return found


def tour():
    """The tour's question, and the lines that are shown as its answer."""
    found = re.search(r"^    \$ (reco classify tests/(?:.*\\\n)*.*\n)((?:    (?!\$).*\n)+)",
                      (SOURCE / "README.md").read_text(), re.M)
    return found[1].strip(), [line[4:] for line in found[2].splitlines()]


def same(shown, printed):
    """Whether a line is as it is shown; "..." stands for what was left out at its end."""
    return printed.startswith(shown[:-3]) if shown.endswith("...") else printed.rstrip() == shown.rstrip()


def main(programs):
    programs = Path(programs).resolve()
    told = blocks()
    assert set(told) == set(EXPECTED), told.keys()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "bin").mkdir()
        (folder / "bin" / "python3").symlink_to(sys.executable)
        for name in ("proto", "tests", "tools"):
            (folder / name).symlink_to(SOURCE / name)
        cluster = subprocess.Popen([programs / "reco", "up", "--shards", "2", "--port", "0", "--data", folder / "data"],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            address = cluster.stdout.readline().split()[1]
            side = cluster.stdout.readline().split()[1]
            subprocess.run([programs / "reco", "memory", "build", "default", SOURCE / "tools/demo/memory.tar.gz",
                            "--server", address, "--quiet"], check=True, stdout=subprocess.DEVNULL)
            question, answer = tour()
            printed = subprocess.run(["sh", "-e", "-c", f"{question} --server {address}"], cwd=folder, text=True,
                                     capture_output=True, check=True, timeout=PATIENCE,
                                     env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}).stdout.splitlines()
            assert len(answer) == len(printed) > 5 and all(map(same, answer, printed)), "\n".join(printed)
            print(f"ok   tour: {printed[2]}")
            for language, block in told.items():
                block = block.replace("127.0.0.1:7700", address).replace("127.0.0.1:7780", side)
                done = subprocess.run(["sh", "-e", "-c", block], cwd=folder, text=True, capture_output=True,
                                      check=False, timeout=PATIENCE,
                                      env={**os.environ, "PATH": f"{folder}/bin:{programs}:{os.environ['PATH']}"})
                assert done.returncode == 0, f"{language}: {done.stderr}\n{block}"
                assert EXPECTED[language] in done.stdout, f"{language}: {done.stdout}"
                print(f"ok   {language}: {done.stdout.splitlines()[0]}")
        finally:
            cluster.terminate()
            assert cluster.wait(PATIENCE) == 0
            cluster.stdout.close()
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
