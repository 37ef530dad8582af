#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: whoever attacks a cluster gets an error in words or the right answer, and everyone else goes on.

Method: real processes, one attack after the other, each followed by a proper question.
  clients    silent and slow connections at every port; JSON of absurd numbers and depth; filters of the
             largest size at once; weighted parts that are no numbers
  changes    records are hidden and an alias is turned under a load of searches: no answer is of the
             past once the change was acknowledged, none mixes two memories
  operators  a storm of SIGHUP with files that are none; kill -9 of the coordinator under streams
             and uploads: what was acknowledged is there
Exit status 77 without grpcio.

usage: hostile.py PROGRAM_DIR clients|changes|operators [SEED]
"""
import http.client
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from front import Failure, Front, grpc
from procs import Cluster, children, open_files, rss_bytes, wait_for

DIMENSION = 16
RECORDS = 1000
SILENT = 300
SLOW_BYTES = 15
FILTER_IDS = 16384
FILTERS_AT_ONCE = 256
PATIENCE = 60
GROWTH_BYTES_MAX = 192 << 20  # arenas of threads that have not parsed yet


def vector(number):
    chance = random.Random(number)
    return [chance.gauss(0, 1) for _ in range(DIMENSION)]


class House:
    """`reco up` with a memory called m, and its http address."""

    def __init__(self, programs, folder, *flags):
        self.log = folder / "log"
        self.cluster = Cluster(programs, folder / "data", "--shards", 2, *flags, log=self.log)
        self.address = self.cluster.address
        self.http = self.cluster.process.stdout.readline().split()[1]
        self.front = Front(self.address)
        self.make("m")

    def make(self, name, shift=0):
        self.front.call("Memory", "Create", name=name, space=f"test:{DIMENSION}")
        self.write(name, range(RECORDS), shift)

    def write(self, name, numbers, shift=0, front=None):
        front = front or self.front
        records = [front.message("IngestRecord", key=f"r{i}", caption=name, image_embedding=vector(i + shift),
                                 text_embedding=vector(i + shift + 1)) for i in numbers]
        return front.call("Memory", "Ingest", stream=[front.message("IngestRequest", memory=name, records=records)])

    def search(self, number, memory="m", front=None, timeout=PATIENCE, **options):
        return (front or self.front).call("Search", "Search", timeout=timeout, embedding={"values": vector(number)},
                                          options={"memory": memory, "k": 3, **options})

    def expect_well(self, what):
        """Old and new clients are answered, the right thing, by both ports."""
        for front in (self.front, Front(self.address, **{"grpc.use_local_subchannel_pool": 1})):
            reply = self.search(7, front=front)
            assert reply.neighbours.keys[0] == "r7" and reply.answer.coverage == 1, f"after {what}: {reply}"
            if front is not self.front:
                front.close()
        status, _ = self.get("/healthz")
        assert status == 200, f"after {what}: /healthz says {status}"
        print(f"ok   {what}", flush=True)

    def get(self, path, body=None):
        connection = http.client.HTTPConnection(self.http, timeout=PATIENCE)
        try:
            connection.request("POST" if body is not None else "GET", path, body)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def coordinator(self):
        return next((pid for pid in children(self.cluster.process.pid) if "reco-coordinator" in
                     Path(f"/proc/{pid}/cmdline").read_text()), None)

    def ports(self):
        """Of gRPC, HTTP, and the nodes: from the flags that their processes were started with."""
        found = [self.address, self.http]
        for pid in children(self.cluster.process.pid):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            found += [words[words.index(flag) + 1].removeprefix("tcp://") for flag in ("--query", "--bulk", "--http")
                      if "reco-shard" in words[0]]
        return found


# --- clients

def connect(stack, address):
    host, port = address.rsplit(":", 1)
    connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
    connection.settimeout(20)
    return connection


def silent(house):
    for address in house.ports():
        with ExitStack() as stack:
            for _ in range(SILENT):
                connect(stack, address)
            house.expect_well(f"{SILENT} silent connections to {address}")


def slow(house):
    """Requests that come a byte at a time: in the header, and in a body that was promised."""
    begin = b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Slow: "
    promised = begin + b"y\r\nContent-Length: 100000\r\n\r\n{"
    with ExitStack() as stack:
        connections = []
        for i in range(SILENT):
            connection = connect(stack, house.http)
            try:
                connection.sendall(begin if i % 2 else promised)
                connections.append(connection)
            except OSError:
                pass  # it made room for another
        for _ in range(SLOW_BYTES):
            for connection in connections:
                try:
                    connection.send(b"z")
                except OSError:
                    pass
            status, _ = house.get("/healthz")  # and so the next byte comes by itself
            assert status == 200
        house.expect_well("slow requests over HTTP")


def odd_numbers():
    digits = "9" * 100000
    yield '{"embedding":[' + digits + '],"options":{"memory":"m"}}'
    for number in ("1e999", "-1e999", "1e-99999", digits, "NaN", "Infinity", "1e39", "00", "+1", "0x10"):
        yield '{"embedding":[%s],"options":{"memory":"m"}}' % ",".join([number] * DIMENSION)
    for k in ("1e30", "-1", "2.5", digits, "4294967297", "18446744073709551617", "true", "null", '"3"', "[3]", "257"):
        yield '{"text":"a","options":{"k":%s}}' % k
    for weight in ("1e300", "-101", "0", "null"):
        yield '{"parts":[{"text":"a","weight":%s}]}' % weight
    for ids in ("-1", "1.5", "18446744073709551616", "1e3", '"0x"'):
        yield '{"embedding":[%s],"options":{"memory":"m","filter":{"ids":[%s]}}}' % (",".join(["1"] * DIMENSION), ids)


def odd_shapes():
    for depth in (1000, 1000000):
        yield "[" * depth
        yield '{"a":' * depth
        yield '{"options":' + "[" * depth + "]" * depth + "}"
    yield ""
    yield "null"
    yield "[]"
    yield '"' + "a" * (1 << 20) + '"'
    yield '{"text":"a","text":"b"}'
    yield '{"text":"\\ud800"}'
    yield '{"text":"a\\u0000b"}'
    yield '{"text":"a"} {"text":"b"}'
    yield '{"image":"%s"}' % ("!" * 1000)
    yield '{"image":""}'
    yield '{"image":"AAAA"}'
    yield '{"parts":[%s]}' % ",".join(['{"text":"a"}'] * 100000)
    yield '{"embedding":[%s]}' % ",".join(["1"] * 1000000)
    yield "{%s}" % ",".join(f'"m{i}":1' for i in range(100000))
    yield '{"text":"a","options":{"filter":{"any_tags":[%s]}}}' % ",".join(['"t"'] * 100000)
    yield '{"text":"a","options":{"exclude_keys":[%s]}}' % ",".join(['"t"'] * 100000)


def json_bodies(house):
    bodies = [*odd_numbers(), *odd_shapes()]
    refuse_bodies(house, bodies)
    rss = rss_bytes(house.coordinator())  # caches and arenas of threads are full
    refuse_bodies(house, bodies)
    grown = rss_bytes(house.coordinator()) - rss
    assert grown < GROWTH_BYTES_MAX, f"{grown >> 20} MiB more"
    house.expect_well(f"JSON of absurd numbers and shapes: {grown >> 20} MiB more")


def refuse_bodies(house, bodies):
    for body in bodies:
        begun = time.monotonic()
        status, text = house.get("/v1/search", body)
        took = time.monotonic() - begun
        answer = json.loads(text)
        assert 400 <= status < 500 and answer["error"]["message"], f"{body[:80]}: {status} {text[:300]}"
        assert took < 20, f"{body[:80]} took {took:.1f} s"
        if "--verbose" in sys.argv:
            print(f"{body[:60]} -> {status} {answer['error']['field']}: {answer['error']['message'][:120]}")


def filters(house):
    """Each asks for the one record that is in its set."""
    answers = {}
    wrong = []
    ids = house.front.call("Search", "GetRecords", memory="m", keys=[f"r{i}" for i in range(FILTERS_AT_ONCE)]).records
    id_of = {record.key: record.id for record in ids}
    send = house.front.channel.unary_unary("/reco.v1.Search/Search")
    calls = []
    for i in range(FILTERS_AT_ONCE):
        listed = [id_of[f"r{i}"], *range(1, FILTER_IDS)]
        message = house.front.message("SearchRequest", embedding={"values": vector(5)},
                                      options={"memory": "m", "k": 3, "filter": {"ids": listed}})
        calls.append((i, send.future(message.SerializeToString(), timeout=PATIENCE)))
    for i, call in calls:
        try:
            reply = type(house.front.message("SearchReply")).FromString(call.result())
            answers[i] = list(reply.neighbours.keys)
            if answers[i] != [f"r{i}"] or reply.answer.coverage < 1:
                wrong.append((i, answers[i], reply.answer.coverage))
        except grpc.RpcError as error:
            if error.code().name not in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
                wrong.append((i, str(error)[:200]))
    assert not wrong, wrong[:5]
    assert len(answers) > FILTERS_AT_ONCE // 4, f"only {len(answers)} were answered"
    house.expect_well(f"{FILTERS_AT_ONCE} filters of {FILTER_IDS} ids at once ({len(answers)} answered)")


def parts(house):
    nan, infinite = float("nan"), float("inf")
    good = vector(1)
    for what, given, field in (
            ("NaN", [{"embedding": {"values": [nan] * DIMENSION}, "weight": 1}], "parts[0].embedding"),
            ("infinity", [{"embedding": {"values": [infinite] + good[1:]}, "weight": 1}], "parts[0].embedding"),
            ("weight NaN", [{"embedding": {"values": good}, "weight": nan}], "parts[0].weight"),
            ("weight inf", [{"embedding": {"values": good}, "weight": infinite}], "parts[0].weight"),
            ("weight 0", [{"embedding": {"values": good}}], "parts[0].weight"),
            ("weight 101", [{"embedding": {"values": good}, "weight": 101}], "parts[0].weight"),
            ("nothing", [{"weight": 1}], "parts[0]"),
            ("a sum of nothing", [{"embedding": {"values": good}, "weight": w} for w in (1, -1)], "parts"),
            ("zeros", [{"embedding": {"values": [0.0] * DIMENSION}, "weight": 1}], "parts[0].embedding"),
            ("huge", [{"embedding": {"values": [3e38] * DIMENSION}, "weight": 100}], None),
            ("tiny", [{"embedding": {"values": [1e-45] * DIMENSION}, "weight": 1e-30}], "?"),
            ("too many", [{"embedding": {"values": good}, "weight": 1}] * 17, "parts"),
            ("another length", [{"embedding": {"values": good[1:]}, "weight": 1}], "parts[0].embedding"),
            ("no values", [{"embedding": {}, "weight": 1}], "parts[0].embedding")):
        try:
            reply = house.front.call("Search", "Search", parts=given, options={"memory": "m", "k": 3})
            assert field in (None, "?"), f"{what} was taken"
            assert all(abs(score) <= 1.001 for score in reply.neighbours.scores), f"{what}: {reply}"
        except Failure as failure:
            assert failure.code == "INVALID_ARGUMENT" and field is not None, f"{what}: {failure}"
            assert field == "?" or failure.field().startswith(field), f"{what}: {failure.field()}: {failure}"
    house.expect_well("parts that are no numbers")


def run_clients(programs, folder):
    with_house(programs, folder, silent, slow, json_bodies, filters, parts)


# --- changes

class Searchers:
    """Threads that search until they are ended; `check` sees each answer and when it was asked for."""

    def __init__(self, house, count, ask, check):
        self.house, self.ask, self.check = house, ask, check
        self.ended = threading.Event()
        self.wrong = []
        self.answers = 0
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        front = Front(self.house.address, **{"grpc.use_local_subchannel_pool": 1})
        try:
            while not self.ended.is_set():
                before = self.house.state()
                reply = self.ask(front)
                problem = self.check(before, reply, self.house.state())
                self.answers += 1
                if problem:
                    self.wrong.append(f"{number}: {problem}")
                    return
        except Exception as error:  # told by end()
            self.wrong.append(repr(error))
        finally:
            front.close()

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(PATIENCE)
        assert not self.wrong, self.wrong[:3]
        assert self.answers > 20, self.answers


def hide(house):
    """`done` tells how often each change was acknowledged: even numbers of it leave the record visible."""
    counter = {"begun": 0, "done": 0}
    house.state = lambda: dict(counter)

    def ask(front):
        return [list(house.search(7, front=front).neighbours.keys),
                [record.key for record in front.call("Search", "GetRecords", memory="m", keys=["r7"]).records]]

    def check(before, answer, after):
        if before["done"] == after["begun"]:  # nothing changed meanwhile
            seen = "r7" in answer[0]
            if seen != (before["done"] % 2 == 0):
                return f"{before} {answer} {after}"
        return None
    searchers = Searchers(house, 3, ask, check)
    for i in range(60):
        counter["begun"] += 1
        house.front.call("Memory", "Unhide" if i % 2 else "Hide", memory="m", keys=["r7"])
        counter["done"] += 1
        for _ in range(2):
            house.search(8)
    searchers.end()
    house.expect_well(f"60 times hidden and shown under {searchers.answers} searches")


def alias(house):
    house.make("other", shift=5)  # the same keys, other embeddings, its own captions
    counter = {"begun": 0, "done": 0}
    house.state = lambda: dict(counter)
    house.front.call("Memory", "Alias", alias="a", target="m")

    def ask(front):
        return house.search(7, "a", front=front)

    def check(before, reply, after):
        captions = set(reply.neighbours.captions)
        if len(captions) != 1 or reply.answer.coverage < 1:
            return f"mixed: {captions} {reply.answer.coverage}"
        right = {"m": "r7", "other": "r2"}[captions.pop()]
        if reply.neighbours.keys[0] != right:
            return f"{reply.neighbours.keys[0]} instead of {right}"
        if before["done"] == after["begun"] and (reply.neighbours.captions[0] == "m") != (before["done"] % 2 == 0):
            return f"{before} {reply.neighbours.captions[0]} {after}"
        return None
    searchers = Searchers(house, 3, ask, check)
    for i in range(60):
        counter["begun"] += 1
        house.front.call("Memory", "Alias", alias="a", target="m" if i % 2 else "other")
        counter["done"] += 1
        for _ in range(2):
            house.search(8)
    searchers.end()
    house.expect_well(f"an alias turned 60 times under {searchers.answers} searches")


def run_changes(programs, folder):
    with_house(programs, folder, hide, alias)


# --- operators

def storm(house, config):
    """Good files, bad ones, and things that are no files, while signals come as quick as they can."""
    pids = house.cluster.pids()[1:]
    files = {pid: open_files(pid) for pid in pids}
    for content in ("[log]\nlevel = info\n", "[log]\nlevel = wrong\n", "[log]\nlev\0el = info\n", None, "pipe", "[limits]\ncalls = 999999\n"):
        config.unlink(missing_ok=True) if not config.is_dir() else config.rmdir()
        if content is None:
            config.mkdir()
        elif content == "pipe":
            os.mkfifo(config)
        else:
            config.write_text(content)
        for _ in range(200):
            for pid in pids:
                os.kill(pid, signal.SIGHUP)
        house.search(3)
    config.unlink()
    config.write_text("[log]\nlevel = info\n")
    house.expect_well("a storm of SIGHUP over files that are none")
    assert house.cluster.pids()[1:] == pids, "a process was restarted"
    wait_for("files are closed", lambda: all(open_files(pid) < files[pid] + 16 for pid in pids))
    assert "config_refused" in house.log.read_text() or "reload" in house.log.read_text(), house.log.read_text()[-500:]


def kill(house):
    """Everything that was acknowledged before the kill is there after it."""
    chance = random.Random(SEED)
    for round_number in range(3):
        name = f"k{round_number}"
        house.front.call("Memory", "Create", name=name, space=f"test:{DIMENSION}")
        kept = []
        ended = threading.Event()

        def upload():
            front = Front(house.address, **{"grpc.use_local_subchannel_pool": 1})
            number = 0
            while not ended.is_set():
                try:
                    house.write(name, range(number, number + 20), front=front)
                    kept.extend(range(number, number + 20))
                    number += 20
                except Failure as failure:
                    assert failure.code in ("UNAVAILABLE", "CANCELLED"), failure
                    break
            front.close()

        outcome = []

        def stream():
            front = Front(house.address, **{"grpc.use_local_subchannel_pool": 1})
            send = front.channel.stream_stream("/reco.v1.Search/SearchStream")

            def questions():
                tag = 0
                while not ended.is_set():
                    tag += 1
                    yield front.message("SearchStreamRequest", tag=tag, query={
                        "embedding": {"values": vector(tag)}, "options": {"memory": "m", "k": 3}}).SerializeToString()
            try:
                for _ in send(questions(), timeout=PATIENCE):
                    outcome.append("answer")
            except grpc.RpcError as error:
                outcome.append(error.code().name)
            front.close()
        threads = [threading.Thread(target=upload), *(threading.Thread(target=stream) for _ in range(3))]
        for thread in threads:
            thread.start()
        stored = 20 * (1 + round_number + chance.randrange(20))
        wait_for("work is under way", lambda: len(kept) >= stored and outcome)
        victim = house.coordinator()
        os.kill(victim, signal.SIGKILL)
        ended.set()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a client hangs"
        assert outcome.count("UNAVAILABLE") == 3, set(outcome)
        wait_for("it is back", lambda: house.coordinator() not in (None, victim))

        def well():
            try:
                return house.search(7).answer.coverage == 1
            except Failure as failure:
                assert failure.code == "UNAVAILABLE", failure
                return False
        wait_for("it answers", well, 60)
        for begin in range(0, len(kept), 500):
            keys = [f"r{i}" for i in kept[begin:begin + 500]]
            reply = house.front.call("Search", "GetRecords", memory=name, keys=keys)
            assert not reply.missing_keys and not reply.degraded, reply.missing_keys
        house.expect_well(f"kill -9 of the coordinator: {len(kept)} acknowledged records are there")


def run_operators(programs, folder):
    config = folder / "reco.ini"
    config.write_text("[log]\nlevel = info\n")
    with_house(programs, folder, lambda house: storm(house, config), kill, flags=("--config", config))


def with_house(programs, folder, *attacks, flags=()):
    house = House(programs, folder, *flags)
    with house.cluster:
        pids = house.cluster.pids()
        house.expect_well("start")
        for attack in attacks:
            begun = time.monotonic()
            attack(house)
            print(f"     {time.monotonic() - begun:.1f} s", flush=True)
        if kill not in attacks:
            assert house.cluster.pids() == pids, "a process was restarted"
        house.front.close()


SEED = 1


def main():
    programs = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="reco-hostile-") as folder:
        {"clients": run_clients, "changes": run_changes, "operators": run_operators}[sys.argv[2]](programs, Path(folder))


main()
