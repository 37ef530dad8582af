#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: bad input is an error that names field, value and what is allowed, and changes nothing.

Method: one table of bad calls to a cluster, each with the code, the field and the words that must come back
(BadRequest and ErrorInfo of google.rpc where the input is to blame). After each the server answers
the same search with the same bits, and at the end the memory is as it was.
Exit status 77 without grpcio.

usage: bad_input.py PROGRAM_DIR
"""
import struct
import sys
import tempfile
import zlib
from pathlib import Path

from front import Failure, Front, grpc
from procs import Cluster

DIMENSION = 128  # of the embedded model
NAN = float("nan")
PICTURE = Path(__file__).resolve().parents[1] / "golden/tiny/images/anchor.fluent-emoji.png"


def png_of(width, height):
    """A sound header that says so many pixels, and hardly any data."""
    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + \
        chunk(b"IEND", b"")


def vector(length=DIMENSION, **places):
    values = [1.0] + [0.0] * (length - 1)
    for place, value in places.items():
        values[int(place[1:])] = value
    return {"values": values}


def text_field(number, data):
    return bytes([number << 3 | 2]) + bytes([len(data)]) + data


def cases(picture):
    """Name, service, method, fields, code, field that is named, words of the text."""
    k = {"k": 3, "memory": "kept"}
    bad = "INVALID_ARGUMENT"
    search = ("Search", "Search")
    classify = ("Classifier", "Classify")
    many = [f"{i:05} " + "x" * 250 for i in range(19000)]
    return [
        ("NaN in an embedding", *search, {"embedding": vector(_3=NAN), "options": k}, bad, "embedding", "finite"),
        ("infinity", *search, {"embedding": vector(_0=float("inf")), "options": k}, bad, "embedding", "finite"),
        ("zeros", *search, {"embedding": vector(_0=0.0), "options": k}, bad, "embedding", ""),
        ("127 numbers", *search, {"embedding": vector(127), "options": k}, bad, "embedding", "128"),
        ("4097 numbers", *search, {"embedding": vector(4097), "options": k}, bad, "embedding", "4096"),
        ("no input", *search, {"options": k}, bad, "", "embedding"),
        ("another model's space", *search, {"image": picture, "options": {"k": 3, "memory": "other"}},
         "FAILED_PRECONDITION", "", "other:64"),
        ("k of 0", *search, {"image": picture, "options": {"memory": "kept"}}, bad, "options.k", "256"),
        ("k of 257", *search, {"image": picture, "options": {"k": 257, "memory": "kept"}}, bad, "options.k", "256"),
        ("unknown memory", *search, {"image": picture, "options": {"k": 3, "memory": "nosuch"}},
         "NOT_FOUND", "", "nosuch"),
        ("bad memory name", *search, {"image": picture, "options": {"k": 3, "memory": "no such/../x"}},
         ("INVALID_ARGUMENT", "NOT_FOUND"), "", "no such"),
        ("coverage of 2", *search, {"image": picture, "options": {**k, "min_coverage": 2}}, bad,
         "options.min_coverage", "1"),
        ("unknown fusion", "Refiner", "RefineText", {"text": "x", "options": {**k, "fusion": 77}}, bad,
         "options.fusion", "77"),
        ("no labels", *classify, {"image": picture, "options": k}, bad, "labels", ""),
        ("an empty label", *classify, {"image": picture, "labels": ["a", ""], "options": k}, bad, "labels[1]", ""),
        ("the same label twice", *classify, {"image": picture, "labels": ["cat", "dog", "cat"], "options": k}, bad,
         "labels", "cat"),
        ("5 MB in one label", *classify, {"image": picture, "labels": ["x" * 5000000], "options": k}, bad,
         "labels[0]", "512"),
        ("20,001 labels", *classify, {"image": picture, "labels": [f"l{i}" for i in range(20001)], "options": k}, bad,
         "labels", "20000"),
        ("5 MB of labels, one twice", *classify, {"image": picture, "labels": [*many, many[0]], "options": k}, bad,
         "labels", ""),
        ("invalid UTF-8", "Encoder", "EncodeText", {"raw": text_field(1, b"\xff\xfe")}, bad, "texts[0]", "UTF-8"),
        ("no picture", "Encoder", "EncodeImage", {"images": [b""]}, bad, "images[0]", ""),
        ("wrong magic", "Encoder", "EncodeImage", {"images": [b"GIFT" * 100]}, bad, "images[0]", ""),
        ("truncated picture", "Encoder", "EncodeImage", {"images": [picture, picture[:len(picture) // 2]]}, bad,
         "images[1]", ""),
        ("100,000 x 100,000 pixels", "Encoder", "EncodeImage", {"images": [png_of(100000, 100000)]}, bad,
         "images[0]", "100000"),
        ("65 pictures", "Encoder", "EncodeImage", {"images": [picture] * 65}, bad, "images", "64"),
        ("message over the limit", *search, {"raw": b"\x0a" + b"\xff\xff\xff\x7f" + bytes(65 << 20)},
         "RESOURCE_EXHAUSTED", None, "67108864"),
        ("no protobuf", *search, {"raw": b"\xff" * 40}, bad, "", ""),
        ("a key of 513 bytes", "Memory", "Delete", {"memory": "kept", "keys": ["k" * 513]}, bad, "keys[0]", "512"),
        ("nothing to delete", "Memory", "Delete", {"memory": "kept"}, bad, "", ""),
        ("memory is there", "Memory", "Create", {"name": "kept", "space": "other:64"},
         ("ALREADY_EXISTS", "FAILED_PRECONDITION"), "", "kept"),
        ("space without dimension", "Memory", "Create", {"name": "new", "space": "what"}, bad, "space", "what"),
        ("vshards of 5000", "Memory", "Create", {"name": "new", "vshards": 5000}, bad, "vshards", "4096"),
        ("drop what is not there", "Memory", "Drop", {"name": "nosuch"}, "NOT_FOUND", "", "nosuch"),
    ]


def raw_cases(front):
    """What grpcio's own checks would not let through, by name: the call and its code."""
    def call(path, **how):
        send = front.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        send(b"", timeout=20, **how)
    search = "/reco.v1.Search/Search"
    return [
        ("unknown method", lambda: call("/reco.v1.Search/Find"), "UNIMPLEMENTED"),
        ("unknown service", lambda: call("/nobody.v1.None/Do"), "UNIMPLEMENTED"),
        ("compression", lambda: front.channel.unary_unary(search)(
            bytes(4000), timeout=20, compression=grpc.Compression.Gzip), "UNIMPLEMENTED"),
        ("request id of 65 bytes", lambda: call(search, metadata=[("x-request-id", "r" * 65)]), "INVALID_ARGUMENT"),
        ("20 KB of metadata", lambda: call(search, metadata=[("x-large", "y" * 20000)]),
         ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL")),
    ]


def judge(name, failure, code, field, words):
    codes = code if isinstance(code, tuple) else (code,)
    assert failure.code in codes, f"{name}: {failure}, not {code}"
    assert len(failure.text) < 2000, f"{name}: {len(failure.text)} bytes of text"
    if field is None:
        return  # gRPC itself refuses
    assert failure.reason(), f"{name}: no ErrorInfo: {failure}"
    if failure.code == "INVALID_ARGUMENT" and field:
        assert failure.field().startswith(field), f"{name}: names '{failure.field()}': {failure}"
    assert words in failure.text + failure.field(), f"{name}: '{failure.text}' does not say '{words}'"


def expect_failure(name, action):
    try:
        action()
    except Failure as failure:
        return failure
    raise AssertionError(f"{name} was taken")


def main():
    programs = Path(sys.argv[1]).resolve()
    picture = PICTURE.read_bytes()
    with tempfile.TemporaryDirectory(prefix="reco-bad-") as folder, \
            Cluster(programs, Path(folder) / "data", "--shards", 2, log=Path(folder) / "log") as cluster:
        front = Front(cluster.address)
        pids = cluster.pids()
        front.call("Memory", "Create", name="kept")
        front.call("Memory", "Create", name="other", space="other:64")
        records = [front.message("IngestRecord", key=f"k{i}", image=picture, caption=f"caption {i}") for i in range(3)]
        front.call("Memory", "Ingest", stream=[front.message("IngestRequest", memory="kept", records=records)])

        def answer():
            reply = front.call("Search", "Search", image=picture, options={"k": 3, "memory": "kept"})
            return reply.neighbours.SerializeToString()

        def contents():
            memories = front.call("Memory", "List").memories
            return [(memory.name, memory.generation, memory.state, memory.records) for memory in memories]
        before, had = answer(), contents()
        table = cases(picture)
        for name, service, method, fields, code, field, words in table:
            failure = expect_failure(name, lambda: front.call(service, method, **fields))
            judge(name, failure, code, field, words)
            assert answer() == before, f"{name}: another answer afterwards"
        # gRPC 1.51 drops the connection that brings too much metadata (proto/README.md): others must not see it.
        stranger = Front(cluster.address, **{"grpc.use_local_subchannel_pool": 1})
        for name, action, code in raw_cases(stranger):
            try:
                action()
            except grpc.RpcError as error:
                codes = code if isinstance(code, tuple) else (code,)
                assert error.code().name in codes, f"{name}: {error.code().name}: {error.details()}"
            else:
                raise AssertionError(f"{name} was taken")
            assert answer() == before, f"{name}: another answer afterwards"
        nan = front.message("IngestRecord", key="nan", image_embedding=[NAN] * DIMENSION, text_embedding=[1.0] * DIMENSION)
        failure = expect_failure("NaN in a record", lambda: front.call(
            "Memory", "Ingest", stream=[front.message("IngestRequest", memory="kept", records=[nan])]))
        judge("NaN in a record", failure, "INVALID_ARGUMENT", "records[0].image_embedding", "finite")
        assert contents() == had, "the memories are not as they were"
        assert cluster.pids() == pids, "a process was restarted"
        stranger.close()
        front.close()
    print(f"ok   {len(table) + 6} kinds of bad input: named, refused, nothing changed")


main()
