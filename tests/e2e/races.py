#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: no data race in the programs under a load as users and operators make it.

Method: programs that are built with ThreadSanitizer (preset tsan) are driven from outside: threads that
search, refine, classify, encode, ingest, build, delete and drop, in streams too, hide, turn an alias,
filter, make snapshots, ask in JSON and read metrics, with cancels and deadlines among them, while a
shard is killed and started again, signals come, and at the end the cluster drains under load.
Every report of the sanitizer is a failure; tests/tsan.supp names the libraries it cannot see. So is a
run in which most work failed: it proves nothing. Exit status 77 without grpcio.

usage: races.py PROGRAM_DIR SECONDS [SEED]
"""
import http.client
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from front import Failure, Front, grpc
from procs import Cluster, children, poll, wait_for

TESTS = Path(__file__).resolve().parents[1]
PICTURE = TESTS / "golden/tiny/images/anchor.fluent-emoji.png"
DIMENSION = 32
EXPECTED = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED", "NOT_FOUND",
            "FAILED_PRECONDITION", "ALREADY_EXISTS", "ABORTED"}


class Load:
    def __init__(self, address, sides, seed):
        self.address = address
        self.sides = sides  # HTTP addresses, the coordinator's first
        self.seed = seed
        self.ended = threading.Event()
        self.done = {}
        self.failed = {}
        self.wrong = []
        self.lock = threading.Lock()
        self.threads = []
        self.names = []
        self.draining = False  # whatever fails now, fails because it must

    def start(self):
        actions = [self.search, self.search_other, self.refine, self.classify, self.encode, self.write, self.delete,
                   self.build, self.look, self.cancel, self.search_stream, self.classify_stream, self.encode_stream,
                   self.hide, self.turn, self.filtered, self.records_by_key, self.metrics, self.ask_json, self.snapshot]
        self.names = [action.__name__ for action in actions]
        for number, action in enumerate(actions):
            thread = threading.Thread(target=self.repeat, args=(action, number), daemon=True)
            thread.start()
            self.threads.append(thread)

    def repeat(self, action, number):
        chance = random.Random(self.seed * 1000 + number)
        front = Front(self.address, **{"grpc.use_local_subchannel_pool": 1})  # a connection of its own
        while not self.ended.is_set():
            try:
                action(front, chance)
                self.count(self.done, action.__name__)
                # Without a pause the load alone keeps two cores from answering PINGs: nodes count as down, and
                # nothing that needs them is tried at all.
                self.ended.wait(chance.random() * 0.4)
            except Failure as failure:
                if self.draining:
                    return
                self.count(self.failed, f"{action.__name__} {failure.code}")
                if failure.code not in EXPECTED:
                    self.wrong.append(f"{action.__name__}: {failure}")
                    return
                self.ended.wait(0.2)
            except ValueError:
                return  # the channel is closed
        front.close()

    def count(self, table, word):
        with self.lock:
            table[word] = table.get(word, 0) + 1

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
        return [front.message("IngestRecord", key=f"r{chance.randrange(3000)}", caption="c", tags=[chance.choice(["even", "odd"])],
                              image_embedding=self.vector(chance)["values"],
                              text_embedding=self.vector(chance)["values"]) for _ in range(count)]

    def write(self, front, chance):
        asked = front.message("IngestRequest", memory="kept", records=self.records(front, chance, 20))
        front.call("Memory", "Ingest", timeout=20, stream=[asked])

    def delete(self, front, chance):
        front.call("Memory", "Delete", timeout=20, memory="kept", keys=[f"r{chance.randrange(3000)}" for _ in range(5)])

    def build(self, front, chance):
        name = f"built{chance.random()}"
        front.call("Memory", "Create", timeout=20, name=name, space=f"test:{DIMENSION}", building=True)
        messages = [front.message("IngestRequest", memory=name, records=self.records(front, chance, 40))
                    for _ in range(2)]
        messages.append(front.message("IngestRequest", memory=name, finish=True))
        front.call("Memory", "Ingest", timeout=20, stream=messages)
        front.call("Memory", "Drop", timeout=20, name=name)

    def look(self, front, chance):
        front.call("Memory", "List", timeout=20)
        front.call("Memory", "Describe", timeout=20, name="kept")
        front.call("Cluster", "ListNodes", timeout=20)

    def converse(self, front, service, method, messages, timeout=20):
        """All answers of a stream; a client that leaves early is one as well."""
        described = front.pool.FindServiceByName(f"reco.v1.{service}").FindMethodByName(method)
        kind = type(front.message(described.output_type.name))
        path = f"/reco.v1.{service}/{method}"
        if isinstance(messages, list):
            call = front.channel.stream_stream(path)(iter([m.SerializeToString() for m in messages]), timeout=timeout)
        else:
            call = front.channel.unary_stream(path)(messages.SerializeToString(), timeout=timeout)
        try:
            return [kind.FromString(answer) for answer in call]
        except grpc.RpcError as error:
            raise Failure(error, front.errors) from None

    def expect_items(self, answers, count):
        assert len(answers) == count, len(answers)
        if all(answer.error.code for answer in answers):
            raise Late(answers[0].error)

    def search_stream(self, front, chance):
        questions = [front.message("SearchStreamRequest", tag=i, query={
            "embedding": self.vector(chance), "options": {"memory": "kept", "k": 5}}) for i in range(20)]
        self.expect_items(self.converse(front, "Search", "SearchStream", questions), 20)

    def classify_stream(self, front, chance):
        questions = [front.message("ClassifyStreamRequest", tag=i, query={
            "image": PICTURE.read_bytes(), "labels": ["a", "b"], "options": {"memory": "default", "k": 3}}) for i in range(3)]
        self.expect_items(self.converse(front, "Classifier", "ClassifyStream", questions), 3)

    def encode_stream(self, front, chance):
        questions = [front.message("EncodeStreamRequest", tag=i, text=f"text {chance.random()}") for i in range(10)]
        self.expect_items(self.converse(front, "Encoder", "EncodeStream", questions), 10)

    def hide(self, front, chance):
        keys = [f"r{chance.randrange(3000)}" for _ in range(5)]
        for method in ("Hide", "Unhide"):
            front.call("Memory", method, timeout=20, memory="kept", keys=keys)

    def turn(self, front, chance):
        front.call("Memory", "Alias", timeout=20, alias="turned", target=chance.choice(["kept", "second"]))
        front.call("Search", "Search", timeout=20, embedding=self.vector(chance), options={"memory": "turned", "k": 5})

    def filtered(self, front, chance):
        wanted = chance.choice([{"ids": range(1, 2000)}, {"keys": [f"r{i}" for i in range(200)]},
                                {"any_tags": ["even"], "no_tags": ["odd"]}])
        front.call("Search", "Search", timeout=20, embedding=self.vector(chance),
                   options={"memory": "kept", "k": 20, "filter": wanted, "dedup": chance.choice([0, 0.9])})
        front.call("Search", "Search", timeout=20, options={"memory": "kept", "k": 5}, parts=[
            {"embedding": self.vector(chance), "weight": 1}, {"embedding": self.vector(chance), "weight": -0.5}])

    def records_by_key(self, front, chance):
        keys = [f"r{chance.randrange(3000)}" for _ in range(50)]
        front.call("Search", "GetRecords", timeout=20, memory="kept", keys=keys)
        front.call("Search", "GetVectors", timeout=20, memory="kept", keys=keys)

    def ask_http(self, address, method, path, body=None):
        connection = http.client.HTTPConnection(address, timeout=20)
        try:
            connection.request(method, path, body)
            reply = connection.getresponse()
            reply.read()
            return reply.status
        except (OSError, http.client.HTTPException):
            raise Late(None) from None
        finally:
            connection.close()

    def metrics(self, front, chance):
        for path in ("/metrics", "/readyz", "/healthz"):
            self.ask_http(chance.choice(self.sides), "GET", path)

    def ask_json(self, front, chance):
        asked = {"embedding": self.vector(chance)["values"], "options": {"memory": "kept", "k": 5}}
        if self.ask_http(self.sides[0], "POST", "/v1/search", json.dumps(asked)) != 200:
            raise Late(None)
        self.ask_http(self.sides[0], "POST", "/v1/classify", json.dumps({"image": "AAAA", "labels": ["a"]}))

    def snapshot(self, front, chance):
        name = f"s{chance.random()}"
        front.call("Memory", "Snapshot", timeout=60, memory="kept", directory=name)
        front.call("Memory", "Restore", timeout=60, directory=name, memory=name)
        front.call("Memory", "Drop", timeout=20, name=name)

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
        # Who cancels learns nothing of how far the server is: without this, calls would pile up.
        front.call("Cluster", "ListNodes", timeout=20)


class Late(Failure):
    """What did not come by gRPC's own status: of an item, or over HTTP."""

    def __init__(self, error):
        Exception.__init__(self, str(error))
        self.code = {14: "UNAVAILABLE", 4: "DEADLINE_EXCEEDED", 8: "RESOURCE_EXHAUSTED", 5: "NOT_FOUND"}.get(
            error.code, str(error)) if error else "UNAVAILABLE"


def handles(pid, number):
    """Whether the process has its own idea of a signal."""
    text = Path(f"/proc/{pid}/status").read_text()
    masks = [int(line.split()[1], 16) for line in text.splitlines() if line.startswith(("SigBlk", "SigCgt"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def is_shard(pid):
    try:
        return "reco-shard" in Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:  # it ended meanwhile
        return False


def shards(cluster):
    return [pid for pid in children(cluster.process.pid) if is_shard(pid)]


def sides(cluster):
    """The HTTP addresses; a node that is started again keeps its own."""
    found = [cluster.process.stdout.readline().split()[1]]
    for pid in shards(cluster):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        found.append(words[words.index("--http") + 1])
    return found


def disturb(cluster, load, seconds, chance):
    """Between two kills everything is done at least once, if it can be within a minute: on a machine
    with much else to do, nodes that were killed every few seconds would never be up together."""
    until = time.monotonic() + seconds
    killed = 0
    while time.monotonic() < until:
        before = dict(load.done)
        poll(lambda: all(load.done.get(name, 0) > before.get(name, 0) for name in load.names), 60)
        time.sleep(min(6, seconds / 3))  # shapes the load: what is raced against is work of all ages
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
        options = f"suppressions={TESTS / 'tsan.supp'} log_path={folder}/tsan history_size=7 ignore_noninstrumented_modules=1"
        with Cluster(programs, Path(folder) / "data", "--shards", 2, environment={"TSAN_OPTIONS": options},
                     log=Path(folder) / "log") as cluster:
            front = Front(cluster.address)
            # Programs are slow under the sanitizer: a node may count as down for a moment.
            wait_for("a memory", lambda: created(front, name="kept", space=f"test:{DIMENSION}"))
            wait_for("a second one", lambda: created(front, name="second", space=f"test:{DIMENSION}"))
            wait_for("another", lambda: created(front, name="default"))
            picture = PICTURE.read_bytes()
            records = [front.message("IngestRecord", key=f"k{i}", image=picture, caption=f"caption {i}") for i in range(30)]
            front.call("Memory", "Ingest", stream=[front.message("IngestRequest", memory="default", records=records)])
            begun = (Path(folder) / "log").stat().st_size
            load = Load(cluster.address, sides(cluster), seed)
            load.start()
            killed = disturb(cluster, load, seconds, random.Random(seed))
            load.draining = True
            cluster.process.terminate()
            cluster.process.wait(120)
            load.end()
            front.close()
        log = (Path(folder) / "log").read_text(errors="replace")
        # At the start it may give up on a busy machine, and is started again.
        died = [line for line in log[begun:].splitlines() if "child_died child=coordinator" in line]
        assert not died, f"{died}: {log[-3000:]}"
        assert "ThreadSanitizer: CHECK" not in log and "FATAL: ThreadSanitizer" not in log, log[-3000:]
        found = reports(folder)
        assert not found, f"{len(found)} processes with reports"
        # Making and dropping memories needs both nodes, and one is killed every few seconds.
        done, failed = sum(load.done.values()), sum(load.failed.values())
        print(f"seed {seed}: {killed} kills; {done} done: {load.done}; {failed} failed: {load.failed}")
        missing = set(load.names) - set(load.done)
        assert not missing, f"never succeeded: {missing}"
        assert done > 2 * failed, "most of it failed: the run proves nothing"
    print("ok   no report")


main()
