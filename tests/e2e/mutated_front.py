#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: no bytes that reach the gRPC port stop the coordinator, make it grow, or cost it files.

Method: a cluster of one shard. For every method of proto/reco.proto messages are made from the
descriptors with random fields, damaged, and sent by grpcio; a real client's bytes on the wire are
recorded through a relay, damaged, and sent by plain sockets. Then the deepest nesting and
4 MiB of empty messages. At the end the cluster is asked properly. Memory is compared after
a first part, when caches are full, and at the end; files must all be closed.
Exit status 77 without grpcio.

usage: mutated_front.py PROGRAM_DIR MESSAGES [SEED]
"""
import random
import socket
import sys
import tempfile
import threading
from pathlib import Path

from front import Failure, Front, class_of, descriptor_pb2, grpc
from procs import Cluster, cpu_seconds, open_files, rss_bytes, wait_for

GROWTH_BYTES_MAX = 96 << 20
WARM_MESSAGES = 2000
IN_FLIGHT = 64
DIMENSION = 16
WORDS = ["", "default", "kept", "default@1", "a", "x" * 600, "é", "../x", "memory:16", "NONE"]
NUMBERS = [0, 1, 2, 5, 257, 65536, 2**31, 2**32 - 1]
FLOATS = [0.0, 1.0, -1.0, 0.5, float("nan"), float("inf"), 1e38]


def random_value(chance, field, depth):
    kind = field.type
    if kind == field.TYPE_MESSAGE:
        message = class_of(field.message_type.file.pool, field.message_type.full_name)()
        return fill(chance, message, depth + 1)
    if kind == field.TYPE_STRING:
        return chance.choice(WORDS)
    if kind == field.TYPE_BYTES:
        return chance.randbytes(chance.randrange(200))
    if kind in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return chance.choice(FLOATS)
    if kind == field.TYPE_BOOL:
        return chance.random() < 0.5
    if kind == field.TYPE_ENUM:
        return chance.choice(field.enum_type.values).number
    return chance.choice(NUMBERS)


def fill(chance, message, depth=0):
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.4 or depth > 4:
            continue
        if field.label != field.LABEL_REPEATED:
            value = random_value(chance, field, depth)
            if field.type == field.TYPE_MESSAGE:
                getattr(message, field.name).CopyFrom(value)
            else:
                setattr(message, field.name, value)
            continue
        count = chance.choice([0, 1, 2, DIMENSION, 40])
        values = [random_value(chance, field, depth) for _ in range(count if depth < 2 else 1)]
        getattr(message, field.name).extend(values)
    return message


def mutate(chance, data):
    data = bytearray(data)
    for _ in range(chance.randrange(4)):
        if data:
            data[chance.randrange(len(data))] = chance.choice([0, 0x7f, 0x80, 0xff, chance.randrange(256)])
    if chance.random() < 0.2 and data:
        del data[chance.randrange(len(data)):]
    if chance.random() < 0.2:
        at = chance.randrange(len(data) + 1)
        data[at:at] = chance.choice([b"\xff\xff\xff\xff\x0f", b"\x0b\x0b\x0b", chance.randbytes(9)])
    return bytes(data)


class Sender:
    """Sends damaged messages to every method there is, many at a time."""

    def __init__(self, front, chance):
        self.chance = chance
        self.methods = []
        file = front.pool.FindFileByName("reco.proto")
        streams = streaming(file.serialized_pb)
        for service in file.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                make = getattr(front.channel, streams[service.name, method.name])
                self.methods.append((method.input_type, streams[service.name, method.name], make(path)))
        self.front = front

    def send(self, count):
        out = set()
        for _ in range(count):
            described, kind, method = self.chance.choice(self.methods)
            message = class_of(self.front.pool, described.full_name)()

            def bytes_of():
                return mutate(self.chance, fill(self.chance, type(message)()).SerializeToString())
            asked = iter([bytes_of() for _ in range(self.chance.randrange(4))]) \
                if kind.startswith("stream_") else bytes_of()
            timeout = self.chance.choice([0.001, 0.05, 5])
            if kind.endswith("_stream"):
                try:
                    for _ in method(asked, timeout=timeout):
                        pass
                except grpc.RpcError:
                    pass
                continue
            out.add(method.future(asked, timeout=timeout))
            if len(out) >= IN_FLIGHT:
                out -= {call for call in out if call.done()} or wait_one(out)
        for call in out:
            call.exception()


def wait_one(calls):
    call = next(iter(calls))
    call.exception()
    return {call}


def streaming(serialized):
    """The channel's word for each method."""
    words = {}
    for service in descriptor_pb2.FileDescriptorProto.FromString(serialized).service:
        for method in service.method:
            words[service.name, method.name] = ("stream_" if method.client_streaming else "unary_") + \
                                               ("stream" if method.server_streaming else "unary")
    return words


def record(address, ask):
    """What a client that does `ask(address)` sends, byte by byte."""
    host, port = address.rsplit(":", 1)
    listener = socket.create_server(("127.0.0.1", 0))
    sent = bytearray()

    def pump(source, target, keep):
        while data := source.recv(65536):
            if keep:
                sent.extend(data)
            target.sendall(data)

    def relay():
        client, _ = listener.accept()
        server = socket.create_connection((host, int(port)))
        back = threading.Thread(target=quietly, args=(pump, server, client, False), daemon=True)
        back.start()
        quietly(pump, client, server, True)
        server.close()
    thread = threading.Thread(target=relay, daemon=True)
    thread.start()
    ask(f"127.0.0.1:{listener.getsockname()[1]}")
    thread.join(20)
    listener.close()
    return bytes(sent)


def quietly(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        pass


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frames_of(data):
    frames = []
    while len(data) >= 9:
        length = 9 + int.from_bytes(data[:3], "big")
        frames.append(data[:length])
        data = data[length:]
    return frames


def mutate_frames(chance, frames):
    """Whole frames are repeated, left out, exchanged; headers and bodies are damaged."""
    frames = list(frames)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(frames))
        what = chance.randrange(5)
        if what == 0:
            frames.insert(at, chance.choice(frames))
        elif what == 1 and len(frames) > 1:
            frames.pop(at)
        elif what == 2:
            frames[at] = mutate(chance, frames[at])
        elif what == 3:
            header = bytearray(frames[at][:9].ljust(9, b"\0"))
            header[chance.randrange(9)] = chance.randrange(256)
            frames[at] = bytes(header) + frames[at][9:]
        else:
            body = chance.randbytes(chance.randrange(64))
            frames.insert(at, len(body).to_bytes(3, "big") + bytes([chance.randrange(12), chance.randrange(256)]) +
                          chance.randrange(9).to_bytes(4, "big") + body)
    return b"".join(frames)


def send_raw(address, chance, frames, count):
    host, port = address.rsplit(":", 1)
    for _ in range(count):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            def talk():
                connection.sendall(PREFACE + mutate_frames(chance, frames))
                if chance.random() < 0.05:
                    connection.settimeout(0.05)
                    connection.recv(65536)
            quietly(talk)


def expect_cheap(front, pid, what, raw):
    """Refused, at no cost. The clock of processes has steps of 10 ms, so many are sent."""
    rss = rss_bytes(pid)
    before = cpu_seconds(pid)
    tries = 20
    for _ in range(tries):
        try:
            front.call("Search", "Search", raw=raw)
        except Failure as failure:
            assert failure.code == "INVALID_ARGUMENT", f"{what}: {failure}"
        else:
            raise AssertionError(f"{what} was taken")
    seconds = (cpu_seconds(pid) - before) / tries
    grown = rss_bytes(pid) - rss
    assert grown < 64 << 20, f"{what}: {grown >> 20} MiB"
    return seconds * 1000


def nested(depth):
    """One message in another, so many times: each length is that of all inside."""
    lengths = []
    inner = 0
    for _ in range(depth):
        lengths.append(inner)
        inner += 1 + len(varint(inner))
    return b"".join(b"\x22" + varint(length) for length in reversed(lengths))


def varint(number):
    out = bytearray()
    while number > 0x7f:
        out.append(number & 0x7f | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def main():
    programs = Path(sys.argv[1]).resolve()
    messages = int(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="reco-mutated-") as folder, \
            Cluster(programs, Path(folder) / "data", "--shards", 1, log=Path(folder) / "log") as cluster:
        front = Front(cluster.address)
        front.call("Memory", "Create", name="kept", space=f"memory:{DIMENSION}")
        records = [front.message("IngestRecord", key=f"k{i}", image_embedding=[float(i == j) for j in range(DIMENSION)],
                                 text_embedding=[1.0] * DIMENSION) for i in range(DIMENSION)]
        front.call("Memory", "Ingest", stream=[front.message("IngestRequest", memory="kept", records=records)])
        coordinator = next(pid for pid in cluster.pids() if "reco-coordinator" in
                           Path(f"/proc/{pid}/cmdline").read_text())

        def ask(address):
            other = Front(address)
            for _ in range(3):
                other.call("Search", "Search", embedding={"values": [1.0] * DIMENSION},
                           options={"memory": "kept", "k": 3})
            other.close()
        frames = frames_of(record(cluster.address, ask)[len(PREFACE):])
        assert len(frames) > 5, "nothing was recorded"

        def attack(count):
            Sender(front, chance).send(count)
            send_raw(cluster.address, chance, frames, count)

        files = open_files(coordinator)
        # gRPC keeps what it once held for 4,096 connections at once, 46 KiB each; half of a long run reaches that.
        is_long = messages >= 2 * WARM_MESSAGES
        attack(messages // 2 if is_long else WARM_MESSAGES)
        rss = rss_bytes(coordinator)
        attack(messages - messages // 2 if is_long else messages)
        deep = expect_cheap(front, coordinator, "nesting of 100,000", nested(100000))
        empty = expect_cheap(front, coordinator, "4 MiB of empty messages", b"\x22\x00" * (2 << 20))
        grown = rss_bytes(coordinator) - rss
        assert grown < GROWTH_BYTES_MAX, f"{grown >> 20} MiB more than after the first part"
        wait_for("files are closed", lambda: open_files(coordinator) < files + 16)
        last = Front(cluster.address)
        last.call("Memory", "Create", name="afterwards", space=f"memory:{DIMENSION}")
        last.call("Memory", "Ingest", stream=[last.message("IngestRequest", memory="afterwards", records=records)])
        reply = last.call("Search", "Search", embedding={"values": [1.0] + [0.0] * (DIMENSION - 1)},
                          options={"memory": "afterwards", "k": 3})
        assert reply.neighbours.keys[0] == "k0" and reply.answer.coverage == 1, reply
        assert coordinator in cluster.pids(), "the coordinator was restarted"
        last.close()
        front.close()
    print(f"ok   {messages} damaged messages and connections (seed {seed}): {grown >> 20} MiB more")
    print(f"ok   refused: nesting of 100,000 in {deep:.1f} ms, 4 MiB of empty messages in {empty:.1f} ms of CPU")


main()
