#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: no data race in the programs under a load as users and operators make it.

Method: programs that are built with ThreadSanitizer (preset tsan) are driven from outside: threads that
search, refine, classify, encode, ingest, build, delete and drop, with cancels and deadlines among
them, while a shard is killed and started again, signals come, and at the end the cluster drains under
load. Every report of the sanitizer is a failure; tests/tsan.supp names the libraries it cannot see.
Exit status 77 without grpcio.

usage: races.py PROGRAM_DIR SECONDS [SEED]
"""
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from front import Failure, Front, grpc
from procs import Cluster, children, wait_for

TESTS = Path(__file__).resolve().parents[1]
PICTURE = TESTS / "golden/tiny/images/anchor.fluent-emoji.png"
DIMENSION = 32
EXPECTED = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED", "NOT_FOUND",
            "FAILED_PRECONDITION", "ALREADY_EXISTS", "ABORTED"}


class Load:
    def __init__(self, address, seed):
        self.address = address
        self.seed = seed
        self.ended = threading.Event()
        self.done = {}
        self.wrong = []
        self.lock = threading.Lock()
        self.threads = []

    def start(self):
        actions = [self.search, self.search_other, self.refine, self.classify, self.encode, self.write, self.delete,
                   self.build, self.look, self.cancel]
        for number, action in enumerate(actions):
            thread = threading.Thread(target=self.repeat, args=(action, number))
            thread.start()
            self.threads.append(thread)

    def repeat(self, action, number):
        chance = random.Random(self.seed * 1000 + number)
        front = Front(self.address)
        while not self.ended.is_set():
            try:
                action(front, chance)
                with self.lock:
                    self.done[action.__name__] = self.done.get(action.__name__, 0) + 1
            except Failure as failure:
                if failure.code not in EXPECTED:
                    self.wrong.append(f"{action.__name__}: {failure}")
                    return
                self.ended.wait(0.02)
            except ValueError:
                return  # the channel is closed
        front.close()

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(60)
        assert not self.wrong, self.wrong

    @staticmethod
    def vector(chance, dimension=DIMENSION):
        return {"values": [chance.gauss(0, 1) for _ in range(dimension)]}

    def search(self, front, chance):
        front.call("Search", "Search", timeout=chance.choice([0.01, 20]), embedding=self.vector(chance),
                   options={"memory": "kept", "k": chance.randrange(1, 257)})

    def search_other(self, front, chance):
        front.call("Search", "Search", timeout=20, text=f"a text {chance.random()}", options={"k": 3, "memory": "default"})

    def refine(self, front, chance):
        front.call("Refiner", "RefineImage", timeout=20, image=PICTURE.read_bytes(), options={"k": 5, "memory": "default"})

    def classify(self, front, chance):
        labels = [f"label {chance.randrange(50)}-{i}" for i in range(3)]
        front.call("Classifier", "Classify", timeout=chance.choice([0.02, 20]), image=PICTURE.read_bytes(),
                   labels=labels, options={"k": 3, "memory": "default"})

    def encode(self, front, chance):
        front.call("Encoder", "EncodeText", timeout=20, texts=[f"text {chance.random()}" for _ in range(20)])

    def records(self, front, chance, count):
        return [front.message("IngestRecord", key=f"r{chance.randrange(3000)}", caption="c",
                              image_embedding=self.vector(chance)["values"],
                              text_embedding=self.vector(chance)["values"]) for _ in range(count)]

    def write(self, front, chance):
        asked = front.message("IngestRequest", memory="kept", records=self.records(front, chance, 20))
        front.call("Memory", "Ingest", timeout=20, stream=[asked])

    def delete(self, front, chance):
        front.call("Memory", "Delete", timeout=20, memory="kept", keys=[f"r{chance.randrange(3000)}" for _ in range(5)])

    def build(self, front, chance):
        name = f"built{chance.randrange(3)}"
        front.call("Memory", "Create", timeout=20, name=name, space=f"test:{DIMENSION}", building=True)
        messages = [front.message("IngestRequest", memory=name, records=self.records(front, chance, 40))
                    for _ in range(2)]
        messages.append(front.message("IngestRequest", memory=name, finish=True))
        front.call("Memory", "Ingest", timeout=20, stream=messages)
        if chance.random() < 0.7:
            front.call("Memory", "Drop", timeout=20, name=name)

    def look(self, front, chance):
        front.call("Memory", "List", timeout=20)
        front.call("Memory", "Describe", timeout=20, name="kept")
        front.call("Cluster", "ListNodes", timeout=20)

    def cancel(self, front, chance):
        send = front.channel.unary_unary("/reco.v1.Search/Search")
        asked = front.message("SearchRequest", embedding=self.vector(chance), options={"memory": "kept", "k": 9})
        call = send.future(asked.SerializeToString(), timeout=20)
        self.ended.wait(chance.random() * 0.02)
        call.cancel()
        try:
            call.exception()
        except grpc.FutureCancelledError:
            pass


def handles(pid, number):
    """Whether the process has its own idea of a signal."""
    text = Path(f"/proc/{pid}/status").read_text()
    masks = [int(line.split()[1], 16) for line in text.splitlines() if line.startswith(("SigBlk", "SigCgt"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def shards(cluster):
    return [pid for pid in children(cluster.process.pid) if "reco-shard" in Path(f"/proc/{pid}/cmdline").read_text()]


def disturb(cluster, seconds, chance):
    until = time.monotonic() + seconds
    killed = 0
    while time.monotonic() < until:
        time.sleep(min(6, seconds / 3))
        victim = chance.choice(shards(cluster))
        os.kill(victim, signal.SIGKILL)
        killed += 1
        for pid in cluster.pids():
            if pid != victim and handles(pid, signal.SIGHUP):
                os.kill(pid, signal.SIGHUP)
        wait_for("the shard is back", lambda: len(shards(cluster)) == 2 and victim not in shards(cluster), 60)
    return killed


def created(front, **fields):
    try:
        front.call("Memory", "Create", **fields)
    except Failure as failure:
        assert failure.code in EXPECTED, failure
        return failure.code == "ALREADY_EXISTS"
    return True


def reports(folder):
    found = [path for path in Path(folder).glob("tsan*") if path.stat().st_size > 0]
    for path in found:
        print(f"== {path.name}\n{path.read_text(errors='replace')[:6000]}")
    return found


def main():
    programs = Path(sys.argv[1]).resolve()
    seconds = float(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    with tempfile.TemporaryDirectory(prefix="reco-races-") as folder:
        options = f"suppressions={TESTS / 'tsan.supp'} log_path={folder}/tsan history_size=7"
        with Cluster(programs, Path(folder) / "data", "--shards", 2, environment={"TSAN_OPTIONS": options},
                     log=Path(folder) / "log") as cluster:
            front = Front(cluster.address)
            # Programs are slow under the sanitizer: a node may count as down for a moment.
            wait_for("a memory", lambda: created(front, name="kept", space=f"test:{DIMENSION}"))
            wait_for("another", lambda: created(front, name="default"))
            picture = PICTURE.read_bytes()
            records = [front.message("IngestRecord", key=f"k{i}", image=picture, caption=f"caption {i}") for i in range(30)]
            front.call("Memory", "Ingest", stream=[front.message("IngestRequest", memory="default", records=records)])
            load = Load(cluster.address, seed)
            load.start()
            killed = disturb(cluster, seconds, random.Random(seed))
            cluster.process.terminate()
            cluster.process.wait(120)
            load.end()
            front.close()
        log = (Path(folder) / "log").read_text(errors="replace")
        assert "ThreadSanitizer: CHECK" not in log and "FATAL: ThreadSanitizer" not in log, log[-3000:]
        found = reports(folder)
        assert not found, f"{len(found)} processes with reports"
        missing = {"search", "refine", "classify", "encode", "write", "delete", "build", "look", "cancel"} - set(load.done)
        assert not missing, f"never succeeded: {missing}"
    print(f"ok   no report; {killed} kills; done: {load.done}")


main()
