#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo: a cluster of four shards names drawings that its encoder has never seen.

Run it through tools/demo.sh.
"""
import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scoring import MEMORY, Reco, labels_file, top1, unpack_queries

SHARDS = 4
SHOWN = 12
WIDTH = 24


def say(text=""):
    print(text, flush=True)


def title(text):
    say()
    say(f"--- {text}")


def start_cluster(programs, data, device):
    command = [str(programs / "reco"), "up", "--shards", str(SHARDS), "--port", "0", "--data", str(data),
               "--device", device]
    log = (data.parent / "cluster.log").open("w")
    # A session of its own, so that --keep outlives this program.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True,
                               start_new_session=True)
    ready = process.stdout.readline().split()
    if len(ready) != 2 or ready[0] != "ready":
        raise RuntimeError(f"the cluster did not start; see {log.name}")
    return process, ready[1]


def encoder_device(reco):
    """Where the encoder runs now: a device that fails is left for the CPU."""
    return reco.lines("status")[0]["models"][0]["device"]


def children_named(parent, name):
    """Pids of the direct children of `parent` whose program is `name` (Linux keeps 15 letters)."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue
        program = stat[stat.index("(") + 1:stat.rindex(")")]
        if program == name[:15] and int(stat[stat.rindex(")") + 2:].split()[1]) == parent:
            found.append(int(folder.name))
    return sorted(found)


def cut(text):
    return text if len(text) <= WIDTH else text[:WIDTH - 3] + "..."


def build(reco):
    title(f"build the memory: {MEMORY.name}, drawings of 1,914 things in six styles, with captions")
    started = time.monotonic()
    for left in (2, 1, 0):
        try:
            report = reco.lines("memory build", "default", MEMORY)[-1]
            break
        except RuntimeError as failure:  # a machine too busy: the same command goes on
            if not left:
                raise
            say(f"once more: {failure}")
    say(f"{report['records']} image-text pairs in {time.monotonic() - started:.1f} s "
        f"on {SHARDS} shards, {report['bytes_per_record']:.0f} bytes a pair")


def choose_shown(plain, answers):
    """A dozen pictures spread over the split: a fixed choice that does not look at any answer."""
    paths = [line["input"] for line in plain]
    step = len(paths) // SHOWN
    return {path: answers[path] for path in paths[step // 2::step][:SHOWN]}


def side_by_side(reco, shown):
    title(f"{SHOWN} of them, asked without and with the memory (* = right)")
    say(f"{'the drawing shows':{WIDTH}}  {'without memory':{WIDTH}}   {'with memory':{WIDTH}}   "
        f"the neighbour that mattered most")
    for line in reco.classify(shown, "C", "head", "--explain"):
        name = shown[line["input"]]
        plain, refined = line["plain"][0]["label"], line["refined"][0]["label"]
        best = max(line["neighbours"], key=lambda neighbour: neighbour["effect"])
        say(f"{cut(name):{WIDTH}}  {cut(plain):{WIDTH}} {'*' if plain == name else ' '} "
            f"{cut(refined):{WIDTH}} {'*' if refined == name else ' '} "
            f"{cut(best['caption'].split(',')[0])} (score {best['score']:.2f}, effect {best['effect']:+.3f})")


def accuracy(reco, answers):
    title(f"right first answers over all {len(answers)} test drawings, 567 names to choose from")
    lines = {}
    for fusion in ("none", "mean", "weighted", "head"):
        started = time.monotonic()
        lines[fusion] = reco.classify(answers, "C", fusion)
        side = "refined" if fusion != "none" else "plain"
        say(f"  {fusion:9s} {top1(lines[fusion], answers, side):5.1f} %   "
            f"({(time.monotonic() - started) * 1000 / len(answers):.1f} ms a picture)")
    return lines


def kill_a_shard(reco, cluster, shown):
    title("one shard is killed (kill -9), the same question is asked again")
    question = dict(list(shown.items())[:1])
    for _ in range(10):
        victim = children_named(cluster.pid, "reco-shard")[2]
        os.kill(victim, signal.SIGKILL)
        line = reco.classify(question, "C", "head")[0]
        if line["coverage"] < 1:
            break
        time.sleep(0.5)  # it was back before the question came: once more
    say(f"  coverage {line['coverage']:.2f}; {'; '.join(line['degraded'])}")
    say(f"  answer   {line['refined'][0]['label']}")
    until = time.monotonic() + 20
    while line["coverage"] < 1 and time.monotonic() < until:
        time.sleep(0.1)
        line = reco.classify(question, "C", "head")[0]
    say(f"  the supervisor started it again: coverage {line['coverage']:.2f}")
    say(f"  answer   {line['refined'][0]['label']}")


def what_next(programs, address, cluster, folder):
    title("the cluster is left running; try")
    reco, server = programs / "reco", f"--server {address}"
    picture = sorted((folder / "queries").iterdir())[0]
    say(f"  {reco} status {server}")
    say(f"  {reco} search --image {picture} -k 5 {server}")
    say(f"  {reco} search --text 'a sour yellow fruit' --over text {server}")
    say(f"  {reco} classify {picture} --labels {labels_file('C')} --explain {server}")
    say(f"  kill {cluster.pid}    # ends it; its data is in {folder}")


def run(programs, folder, keep, device):
    began = time.monotonic()
    cluster, address = start_cluster(programs, folder / "data", device)
    try:
        reco = Reco(programs / "reco", "--server", address)
        say(f"cluster of {SHARDS} shards on {address}, its encoder on: {encoder_device(reco)}")
        build(reco)
        answers = unpack_queries(folder / "queries", "C")
        lines = accuracy(reco, answers)
        shown = choose_shown(lines["none"], answers)
        side_by_side(reco, shown)
        kill_a_shard(reco, cluster, shown)
        say()
        say(f"done in {time.monotonic() - began:.0f} s, the encoder on: {encoder_device(reco)}")
        if keep:
            what_next(programs, address, cluster, folder)
    finally:
        if not keep or sys.exc_info()[0]:
            cluster.terminate()
            cluster.wait(30)


def main():
    parser = argparse.ArgumentParser(description="The demo; run it through tools/demo.sh.")
    parser.add_argument("programs", type=Path, help="the folder with reco, reco-coordinator, reco-shard and reco-encoder")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running and print what to try next")
    parser.add_argument("--device", default="auto", help="where the encoder runs, as `reco doctor` names it")
    given = parser.parse_args()
    if given.keep:
        run(given.programs.resolve(), Path(tempfile.mkdtemp(prefix="reco-demo-")), True, given.device)
    else:
        with tempfile.TemporaryDirectory(prefix="reco-demo-") as folder:
            run(given.programs.resolve(), Path(folder), False, given.device)


if __name__ == "__main__":
    main()
