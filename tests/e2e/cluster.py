#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: the promises to operators, with real processes that are stopped and killed.

  the same answer for 1, 2, 3, 4 and 8 shards, served or inside the command line
  a shard that is killed or frozen is named in the answer, and noticed when it comes back
  below min_coverage there is no answer; without any shard there is plain CLIP, and it says so
  a frozen cluster answers before the deadline
  reco up starts again what falls, ends well, and leaves nothing behind when it is killed

usage: cluster.py PROGRAM_DIR
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "demo"))
from demo import children_named  # noqa: E402
from scoring import MEMORY, Reco, read_samples, unpack_queries, write_samples  # noqa: E402

import procs  # noqa: E402
from procs import wait_for  # noqa: E402

RECORDS = 700
PICTURES = 6
LABELS = "lemon\nred apple\tapple\ncrab\numbrella\nmahjong red dragon\njoker\n"


class Cluster(procs.Cluster):
    def __init__(self, programs, folder, shards):
        super().__init__(programs, folder, "--shards", shards)
        self.reco = Reco(programs / "reco", "--server", self.address)

    def shards(self):
        return children_named(self.process.pid, "reco-shard")

    def __exit__(self, *failure):
        for pid in self.shards():
            os.kill(pid, signal.SIGCONT)
        super().__exit__(*failure)


def strip(lines):
    """Without what may differ: times and the request's name."""
    for line in lines:
        line.pop("timings_ms", None)
        line.pop("request_id", None)
    return json.dumps(lines, sort_keys=True)


def ask_everything(reco, pictures, labels):
    images = [flag for path in pictures for flag in ("--image", path)]
    return {
        "search": strip(reco.lines("search", *images, "-k", 25)),
        "search texts": strip(reco.lines("search", "--text", "a yellow fruit", "--text", "dragon")),
        "cross-modal": strip(reco.lines("search", *images, "--over", "text")),
        "refine": strip(reco.lines("refine", *images)),
        "refine texts": strip(reco.lines("refine", "--text", "red sea animal")),
        "mean": strip(reco.lines("refine", *images, "--fusion", "mean")),
        "classify": strip(reco.lines("classify", *pictures, "--labels", labels, "--explain")),
        "excluded": strip(reco.lines("search", *images, "--exclude", "part/1f004_noto")),
    }


def same_for_every_number_of_shards(programs, folder, pictures, labels):
    expected = None
    for shards in (1, 2, 3, 4, 8):
        data = folder / f"data-{shards}"
        with Cluster(programs, data, shards) as cluster:
            report = cluster.reco.lines("memory build", "default", folder / "part.tar")[-1]
            assert report["records"] == RECORDS, report
            answers = ask_everything(cluster.reco, pictures, labels)
        expected = expected or answers
        for question, answer in answers.items():
            assert answer == expected[question], f"{question} differs with {shards} shards"
    local = ask_everything(Reco(programs / "reco", "--data", folder / "data-3"), pictures, labels)
    for question, answer in local.items():
        assert answer == expected[question], f"{question} differs inside the command line"
    print("ok   the same answers with 1, 2, 3, 4 and 8 shards, served and local")


def exit_status(reco, *arguments):
    command = [reco.program, *map(str, arguments), *reco.flags, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def search_one(cluster, picture, *more):
    return cluster.reco.lines("search", "--image", picture, "--deadline-ms", 5000, *more)[0]


def survives_a_frozen_and_a_killed_shard(cluster, picture):
    whole = search_one(cluster, picture)
    assert whole["coverage"] == 1 and whole["degraded"] == []

    for signal_number in (signal.SIGSTOP, signal.SIGKILL):
        victim = cluster.shards()[1]
        os.kill(victim, signal_number)
        began = time.monotonic()
        # At most one question waits for the node that is not yet known to be gone.
        part = wait_for("the missing share is named",
                        lambda: (lambda line: line["coverage"] < 1 and line)(
                            search_one(cluster, picture)))
        noticed = time.monotonic() - began
        assert part["coverage"] == 0.75, part["coverage"]
        assert len(part["degraded"]) == 1 and "node" in part["degraded"][0], part["degraded"]
        if signal_number == signal.SIGSTOP:
            status, words = exit_status(cluster.reco, "search", "--image", picture,
                                        "--min-coverage", "0.9")
            assert status == 3 and "coverage" in words, (status, words)
            os.kill(victim, signal.SIGCONT)
        back = wait_for("the node is back", lambda: (lambda line: line["coverage"] == 1 and line)(
            search_one(cluster, picture)))
        assert strip([back]) == strip([whole])
        print(f"ok   {signal_number.name}: named after {noticed:.2f} s, the same answer when back")


def answers_in_time_when_all_are_frozen(cluster, picture):
    plain = cluster.reco.lines("embed image", picture)[0]["embedding"]
    for pid in cluster.shards():
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    line = cluster.reco.lines("refine", "--image", picture, "--deadline-ms", 700)[0]
    took = time.monotonic() - began
    assert line["embedding"] == plain and line["gate"] == 0 and line["coverage"] == 0
    assert line["degraded"] and "plain CLIP" in line["gate_reason"], line
    status, _ = exit_status(cluster.reco, "search", "--image", picture, "--deadline-ms", "700")
    assert status == 3, status
    status, _ = exit_status(cluster.reco, "refine", "--image", picture, "--deadline-ms", "700",
                            "--min-coverage", "0.5")
    assert status == 3, status
    for pid in cluster.shards():
        os.kill(pid, signal.SIGCONT)
    wait_for("all are back", lambda: exit_status(cluster.reco, "search", "--image", picture,
                                                 "--min-coverage", "1")[0] == 0)
    print(f"ok   all shards frozen: plain CLIP, bit for bit, in {took:.2f} s")


def starts_the_coordinator_again(cluster, picture):
    before = strip([search_one(cluster, picture)])
    os.kill(children_named(cluster.process.pid, "reco-coordinator")[0], signal.SIGKILL)
    wait_for("the coordinator is back", lambda: exit_status(
        cluster.reco, "search", "--image", picture, "--min-coverage", "1")[0] == 0)
    assert strip([search_one(cluster, picture)]) == before
    print("ok   a killed coordinator is started again and gives the same answer")


def leaves_no_orphan(programs, folder):
    cluster = Cluster(programs, folder / "data-4", 4)
    children = cluster.shards() + children_named(cluster.process.pid, "reco-coordinator")
    assert len(children) == 5
    cluster.process.kill()
    cluster.process.wait(10)
    wait_for("the children end", lambda: not any(Path(f"/proc/{pid}/exe").exists()
                                                 for pid in children))
    with Cluster(programs, folder / "data-4", 4):
        pass
    print("ok   reco up killed: no orphans, and the data opens again")


def main(programs):
    programs = Path(programs)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_samples(folder / "part.tar", islice(read_samples(MEMORY), RECORDS))
        labels = folder / "labels.txt"
        labels.write_text(LABELS)
        pictures = list(unpack_queries(folder / "queries", "C"))[:PICTURES]
        same_for_every_number_of_shards(programs, folder, pictures, labels)
        with Cluster(programs, folder / "data-4", 4) as cluster:
            survives_a_frozen_and_a_killed_shard(cluster, pictures[0])
            answers_in_time_when_all_are_frozen(cluster, pictures[0])
            starts_the_coordinator_again(cluster, pictures[0])
        leaves_no_orphan(programs, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
