#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: one request is found by one trace id in the logs of the coordinator and of every shard that
it asked, each hop with a span of its own; the client is told the trace; what is no traceparent is
ignored.

Method: a cluster with debug logs; calls over gRPC (unary, a stream of questions, an ingest), over HTTP
and without any header; then the log is read. Exit status 77 without grpcio.

usage: traces.py PROGRAM_DIR
"""
import http.client
import json
import re
import sys
import tempfile
from pathlib import Path

from front import Front, grpc
from procs import Cluster, wait_for

SHARDS = 2
SPAN = "b7ad6b7169203331"
PICTURE = Path(__file__).resolve().parents[1] / "golden/tiny/images/anchor.fluent-emoji.png"
PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])")
WORDS = re.compile(r' id="([^"]+)" trace=([0-9a-f]{32}) span=([0-9a-f]{16})$')


def trace_of(number):
    return f"{number:032x}"


def parent_of(number, flags="01"):
    return f"00-{trace_of(number)}-{SPAN}-{flags}"


class Log:
    def __init__(self, path):
        self.path = path

    def lines(self, trace):
        """(event, text, id, span) of the lines of a trace."""
        found = []
        for line in self.path.read_text(errors="strict").splitlines():
            words = WORDS.search(line)
            if words and words[2] == trace:
                found.append((line.split()[2], line, words[1], words[3]))
        return found

    def check(self, trace, kinds, request=None):
        """The coordinator's line and one of every shard, of one id, on hops of their own."""
        def all_there():
            lines = self.lines(trace)
            nodes = {re.search(r"node=(\d+)", text)[1] for event, text, _, _ in lines
                     if event == "request" and re.search(rf"type=({kinds}) ", text)}
            calls = [line for line in lines if line[0] == "call"]
            return lines if calls and len(nodes) == SHARDS else None
        lines = wait_for(f"the lines of {trace}", all_there)
        hops = [span for event, _, _, span in lines if event in ("call", "request")]
        assert len(set(hops)) == len(hops), lines
        assert SPAN not in hops, lines
        ids = {name for _, _, name, _ in lines}
        assert len(ids) == 1 and (request is None or ids == {request}), lines
        return lines


def parent_in(metadata, key="traceparent"):
    found = [value for name, value in metadata if name.lower() == key]
    assert len(found) == 1, metadata
    return PARENT.fullmatch(found[0])


class Asker(Front):
    """Calls that also return what the server says before its answer."""

    def unary(self, service, method, metadata, **fields):
        asked = self.message("SearchRequest", **fields)
        send = self.channel.unary_unary(f"/reco.v1.{service}/{method}",
                                        request_serializer=lambda m: m.SerializeToString(),
                                        response_deserializer=lambda data: data)
        _, call = send.with_call(asked, timeout=60, metadata=metadata)
        return call.initial_metadata()

    def failing(self, metadata, **fields):
        send = self.channel.unary_unary("/reco.v1.Search/Search",
                                        request_serializer=lambda m: m.SerializeToString())
        try:
            send(self.message("SearchRequest", **fields), timeout=60, metadata=metadata)
        except grpc.RpcError as error:
            return error.initial_metadata()
        raise AssertionError("it did not fail")

    def stream(self, metadata, questions):
        send = self.channel.stream_stream("/reco.v1.Search/SearchStream",
                                          request_serializer=lambda m: m.SerializeToString(),
                                          response_deserializer=lambda data: data)
        call = send(iter(questions), timeout=60, metadata=metadata)
        replies = list(call)
        assert len(replies) == len(questions), replies
        return call.initial_metadata()


def check_grpc(front, log, picture):
    question = {"image": picture, "options": {"memory": "kept", "k": 3}}
    told = parent_in(front.unary("Search", "Search",
                                 [("traceparent", parent_of(1)), ("x-request-id", "req-1")], **question))
    assert told[1] == trace_of(1) and told[2] != SPAN and told[3] == "01", told
    lines = log.check(trace_of(1), "SEARCH", "req-1")
    assert told[2] in [span for event, _, _, span in lines if event == "call"], lines

    told = parent_in(front.unary("Search", "Search", None, **question))
    assert told[3] == "00", told
    log.check(told[1], "SEARCH")

    told = parent_in(front.failing([("traceparent", parent_of(2))],
                                   **{**question, "options": {"memory": "nosuch", "k": 3}}))
    assert told[1] == trace_of(2), told
    failed = wait_for("the failed call", lambda: log.lines(trace_of(2)))
    assert " info call " in failed[0][1], failed # told without debug too

    one = front.message("SearchStreamRequest", tag=1, query=question)
    told = parent_in(front.stream([("traceparent", parent_of(3))], [one, one]))
    assert told[1] == trace_of(3), told
    items = log.check(trace_of(3), "SEARCH")
    assert len([event for event, _, _, _ in items if event == "item"]) == 2, items


def check_hostile(front, log):
    question = {"embedding": {"values": [1.0] * 128}, "options": {"memory": "kept", "k": 3}}
    good = parent_of(4)
    for bad in ([good[:-1]], [good + "0"], [good.upper()], ["ff" + good[2:]], [good + "-x"],
                [parent_of(0)], [good.replace(SPAN, "0" * 16)], ["x" * 3000], [good, good], [""],
                [good.replace("-", "_")]):
        told = parent_in(front.unary("Search", "Search", [("traceparent", value) for value in bad],
                                     **question))
        assert told[1] not in (trace_of(4), trace_of(0)), (bad, told)
    told = parent_in(front.unary("Search", "Search", [("traceparent", "cc" + good[2:] + "-later")],
                                 **question))
    assert told[1] == trace_of(4), told
    assert len([1 for event, _, _, _ in log.check(trace_of(4), "SEARCH") if event == "call"]) == 1


def check_http(address, log):
    body = json.dumps({"embedding": [1.0] * 128, "options": {"memory": "kept", "k": 3}})
    for headers, trace, request in (
            ({"traceparent": parent_of(5), "x-request-id": "web-1"}, trace_of(5), "web-1"),
            ({"traceparent": parent_of(0)}, None, None), ({"traceparent": "\x7f" * 200}, None, None),
            ({}, None, None)):
        client = http.client.HTTPConnection(address, timeout=60)
        client.request("POST", "/v1/search", body, headers)
        reply = client.getresponse()
        reply.read()
        assert reply.status == 200, reply.status
        told = parent_in(reply.getheaders())
        name = reply.getheader("x-request-id")
        assert (told[1] == trace) if trace else (told[1] != trace_of(0)), told
        assert name and (request is None or name == request), name
        log.check(told[1], "SEARCH", name)
        client.close()


def check_ingest(front, log, picture):
    records = [{"key": f"r{i}", "image": picture, "caption": f"thing {i}"} for i in range(12)]
    message = front.message("IngestRequest", memory="kept", records=records)
    front.call("Memory", "Ingest", stream=[message], metadata=[("traceparent", parent_of(9))])
    log.check(trace_of(9), "WRITE|BULK")


def main():
    picture = PICTURE.read_bytes()
    with tempfile.TemporaryDirectory(prefix="reco-traces-") as folder:
        path = Path(folder) / "log"
        with Cluster(sys.argv[1], Path(folder) / "data", "--verbose", "--shards", SHARDS,
                     log=path) as cluster:
            side = re.fullmatch(r"http (\S+)\n", cluster.process.stdout.readline())[1]
            log = Log(path)
            front = Asker(cluster.address)
            front.call("Memory", "Create", name="kept", metadata=[("traceparent", parent_of(8))])
            assert any(event == "memory_created" for event, _, _, _ in log.lines(trace_of(8)))
            check_ingest(front, log, picture)
            check_grpc(front, log, picture)
            check_hostile(front, log)
            check_http(side, log)
            front.close()
    print("ok")


if __name__ == "__main__":
    main()
