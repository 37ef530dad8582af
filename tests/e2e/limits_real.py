#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: too many connections and too little memory are refusals, not ends, and pass by themselves.

Method: real processes.
  files   a cluster under a low limit of open files; strangers hold more connections than there are
          files, at the gRPC port and at a node's. The client that is there goes on, health answers,
          and new clients are served once the strangers are gone.
  memory  a node with a small limit takes records until it refuses them, with words; its memory stays
          there, searches and deletions go on, and after a drop it takes records again.
Exit status 77 without grpcio.

usage: limits_real.py PROGRAM_DIR files|memory
"""
import functools
import resource
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from front import Failure, Front
from procs import Cluster, rss_bytes, wait_for

DIMENSION = 1024
FILES = 256
MEMORY_MIB = 64
RSS_SLACK = 200 << 20  # program, libraries, threads' stacks, what is being written


def connections(stack, port, count):
    """As many as the other side lets through."""
    for _ in range(count):
        connection = stack.enter_context(socket.socket())
        connection.settimeout(0.5)
        try:
            connection.connect(("127.0.0.1", port))
        except OSError:
            return


@functools.lru_cache(maxsize=None)
def vector(number):
    return [float((number * 31 + i * 17) % 97 - 48) for i in range(DIMENSION)]


def write(front, memory, first, count):
    records = [front.message("IngestRecord", key=f"r{i}", caption="c", image_embedding=vector(i % 97),
                             text_embedding=vector((i + 1) % 97)) for i in range(first, first + count)]
    return front.call("Memory", "Ingest", stream=[front.message("IngestRequest", memory=memory, records=records)])


def search(front, memory):
    return front.call("Search", "Search", timeout=20, embedding={"values": vector(3)}, options={"memory": memory, "k": 3})


def run_files(programs, folder):
    # What this process starts has its limit, so the strangers live in two of their own.
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    with Cluster(programs, folder / "data", "--shards", 1, log=folder / "log") as cluster:
        pids = cluster.pids()
        front = Front(cluster.address)
        front.call("Memory", "Create", name="m", space=f"test:{DIMENSION}")
        write(front, "m", 0, 20)
        before = search(front, "m").neighbours.SerializeToString()
        nodes = front.call("Cluster", "ListNodes").nodes
        ports = [int(cluster.address.rsplit(":", 1)[1]), int(nodes[0].address.rsplit(":", 1)[1])]
        for port in ports:
            strangers = [subprocess.Popen([sys.executable, __file__, "--stranger", str(port)], stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE) for _ in range(2)]
            for stranger in strangers:
                stranger.stdout.readline()
            for _ in range(5):
                reply = search(front, "m")
                assert reply.neighbours.SerializeToString() == before, reply
            write(front, "m", 0, 20)
            check_health(front)
            for stranger in strangers:
                stranger.stdin.close()
                stranger.wait(60)

            def new_client():
                other = Front(cluster.address, **{"grpc.use_local_subchannel_pool": 1})
                try:
                    return search(other, "m")
                except Failure as failure:
                    assert failure.code == "UNAVAILABLE", failure
                    return None
                finally:
                    other.close()
            wait_for("a new client is served", new_client, 60)
        assert cluster.pids() == pids, "a process was restarted"
        front.close()
    print(f"ok   {FILES} files, 400 strangers at each port: the old client goes on, new ones come back")


def check_health(front):
    send = front.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert send(b"", timeout=20) == b"\x08\x01", "health does not say SERVING"


def stranger(port):
    with ExitStack() as stack:
        connections(stack, port, FILES - 56)
        print("here", flush=True)
        sys.stdin.read()


class House:
    """One node with its limit and a coordinator, each started by itself."""

    def __init__(self, programs, folder, *flags):
        subprocess.run([programs / "mutate_node", folder / "keys"], check=True)
        self.log = open(folder / "log", "ab")
        self.node = self.start([programs / "reco-shard", "--data", folder / "node", "--keys", folder / "keys",
                                "--query", "tcp://127.0.0.1:0", "--bulk", "tcp://127.0.0.1:0", *flags])
        _, query, bulk = self.node.stdout.readline().split()
        self.front = self.start([programs / "reco-coordinator", "--data", folder / "front", "--keys", folder / "keys",
                                 "--listen", "127.0.0.1:0", "--node", f"{query},{bulk}"])
        self.address = self.front.stdout.readline().split()[1]

    def start(self, command):
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        for process in (self.front, self.node):
            process.terminate()
            status = process.wait(60)
            assert failure[0] or status == 0, f"ended with {status}"
        self.log.close()


def run_memory(programs, folder):
    with House(programs, folder, "--memory-limit-mib", str(MEMORY_MIB)) as house:
        front = Front(house.address)
        front.call("Memory", "Create", name="m", space=f"test:{DIMENSION}")
        front.call("Memory", "Create", name="other", space=f"test:{DIMENSION}")
        write(front, "m", 0, 100)
        written = 0
        try:
            while written < 400000:
                write(front, "other", written, 500)
                written += 500
            raise AssertionError("the limit was never reached")
        except Failure as failure:
            assert failure.code == "RESOURCE_EXHAUSTED" and f"{MEMORY_MIB} MiB" in failure.text, failure
            assert "RetryInfo" in failure.details, failure
        most = rss_bytes(house.node.pid)
        assert most < (MEMORY_MIB << 20) + RSS_SLACK, f"{most >> 20} MiB"
        search(front, "m")
        assert front.call("Memory", "Delete", memory="m", keys=["r1", "r2"]).deleted == 2
        front.call("Memory", "Drop", name="other")
        wait_for("records are taken again", lambda: write(front, "m", 1, 2).stored == 2)
        assert house.node.poll() is None
        front.close()
    print(f"ok   {MEMORY_MIB} MiB: refused after {written} records at {most >> 20} MiB; taken again after a drop")


def main():
    if sys.argv[1] == "--stranger":
        stranger(int(sys.argv[2]))
        return
    programs = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="reco-limits-") as folder:
        {"files": run_files, "memory": run_memory}[sys.argv[2]](programs, Path(folder))


main()
