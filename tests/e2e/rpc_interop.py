#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: a gRPC client that we did not write understands a reco server.

Method: grpcio calls reflection, health and methods that do not exist, and decodes what
comes back by hand, so that nothing but the grpc module is needed.

usage: rpc_interop.py HOST:PORT              against a server that runs
       rpc_interop.py --spawn PROGRAM ARG... starts one that prints "ready HOST:PORT"

Exit status: 0 all well, 1 a check failed, 77 python has no grpc module (skipped).
"""

import signal
import subprocess
import sys
import time

try:
    import grpc
except ImportError:
    print("skipped: python has no grpc module")
    sys.exit(77)

TIMEOUT_S = 20
AT_ONCE_S = 0.1
INVALID, DEADLINE, NOT_FOUND, UNIMPLEMENTED, UNAVAILABLE = 3, 4, 5, 12, 14
HEALTH = "grpc.health.v1.Health"
REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
ECHO = "reco.test.Echo"

# gRPC code of each of the server's statuses, by number; names as ErrorInfo carries them.
STATUSES = {
    1: ("INVALID", 3), 2: ("NOT_FOUND", 5), 3: ("ALREADY_EXISTS", 6),
    4: ("FAILED_PRECONDITION", 9), 5: ("EXHAUSTED", 8), 6: ("UNAVAILABLE", 14),
    7: ("DEADLINE", 4), 8: ("CANCELLED", 1), 9: ("NO_MEMORY", 8), 10: ("IO", 14),
    11: ("CORRUPT", 15), 12: ("UNSUPPORTED", 12), 13: ("UNAUTHENTICATED", 16),
    14: ("DENIED", 7), 15: ("INTERNAL", 13),
}


# --- protobuf by hand

def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, value):
    """A length-delimited field."""
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(message):
    """All fields as {number: [values]}."""
    found, at = {}, 0

    def take_varint():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = take_varint()
        kind = key & 7
        if kind == 0:
            value = take_varint()
        elif kind == 2:
            count = take_varint()
            value, at = message[at:at + count], at + count
            assert len(value) == count, "a field longer than its message"
        else:
            count = {1: 8, 5: 4}[kind]
            value, at = message[at:at + count], at + count
        found.setdefault(key >> 3, []).append(value)
    return found


def text(message, number):
    return fields(message).get(number, [b""])[0].decode()


# --- checks

failures = 0


def check(good, what):
    global failures
    failures += not good
    print(("ok    " if good else "FAILED ") + what, flush=True)


def same(bytes_in):
    return bytes_in


def unary(channel, path, request=b"", **options):
    """The reply, or the error, and the call."""
    call = channel.unary_unary(path, request_serializer=same, response_deserializer=same)
    options.setdefault("timeout", TIMEOUT_S)
    try:
        return call.with_call(request, **options)
    except grpc.RpcError as error:
        return None, error


def details(error):
    """{type: value} of google.rpc.Status, which must agree with the plain status."""
    packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if packed is None:
        return {}
    status = fields(packed)
    assert status[1][0] == error.code().value[0], "codes differ"
    assert status[2][0].decode() == error.details(), "messages differ"
    return {text(one, 1).rsplit("/", 1)[1]: fields(one)[2][0] for one in status.get(3, [])}


def explained(error, code, reason):
    """Whether the error has that code and says so in its ErrorInfo."""
    if error.code().value[0] != code:
        return False
    info = details(error).get("google.rpc.ErrorInfo", b"")
    return text(info, 1) == reason and text(info, 2) == "reco"


def ask(channel, service, *questions):
    """Reflection's replies to questions, each (number, text)."""
    call = channel.stream_stream("/" + service + "/ServerReflectionInfo",
                                 request_serializer=same, response_deserializer=same)
    replies = list(call(iter([field(*question) for question in questions]), timeout=TIMEOUT_S))
    assert len(replies) == len(questions)
    for question, reply in zip(questions, replies):
        assert fields(reply)[2][0] == field(*question), "original_request differs"
    return [fields(reply) for reply in replies]


def check_reflection(channel, service):
    listed = ask(channel, service, (7, ""))[0][6][0]
    services = sorted(text(one, 1) for one in fields(listed)[1])
    check({HEALTH, *REFLECTION} <= set(services), service + " lists " + " ".join(services))

    described = True
    for name in services:
        by_symbol, by_method = ask(channel, service, (4, name), (4, name + ".NoSuchMethod"))
        files = [fields(one) for one in fields(by_symbol[4][0])[1]]
        names = {one[1][0].decode() for one in files}
        imports = {path.decode() for one in files for path in one.get(3, [])}
        first = files[0]
        declared = {first.get(2, [b""])[0].decode() + "." + text(one, 1)
                    for one in first.get(6, [])}
        described &= name in declared and imports <= names
        described &= fields(by_method[7][0])[1][0] == NOT_FOUND
        by_name = ask(channel, service, (3, first[1][0].decode()))[0]
        described &= by_name[4] == by_symbol[4]
    check(described, service + " describes each of them, with its imports")

    unknown = ask(channel, service, (3, "no/such.proto"), (4, "no.Such"), (5, field(1, "x")),
                  (6, "google.protobuf.FileOptions"), (4, HEALTH))
    codes = [fields(one[7][0])[1][0] for one in unknown[:4]]
    check(codes == [NOT_FOUND, NOT_FOUND, UNIMPLEMENTED, UNIMPLEMENTED] and 4 in unknown[4],
          service + " refuses what there is not, and goes on")
    return services


def check_health(channel, services):
    good = True
    for name in ["", *services]:
        reply, call = unary(channel, "/" + HEALTH + "/Check", field(1, name) if name else b"")
        good &= reply == b"\x08\x01"
    check(good, "health says SERVING for the server and each service")
    _, error = unary(channel, "/" + HEALTH + "/Check", field(1, "no.Such"))
    check(explained(error, NOT_FOUND, "NOT_FOUND"), "health knows no other service")
    _, error = unary(channel, "/" + HEALTH + "/Check", b"\x0a\xff")
    check(explained(error, INVALID, "INVALID"), "health refuses what is no message")

    watch = channel.unary_stream("/" + HEALTH + "/Watch", request_serializer=same,
                                 response_deserializer=same)
    for name, state in (("", b"\x08\x01"), (services[0], b"\x08\x01"), ("no.Such", b"\x08\x03")):
        call = watch(field(1, name), timeout=TIMEOUT_S)
        check(next(call) == state, "health Watch tells the state of \"" + name + "\"")
        call.cancel()


def check_refusals(channel):
    for path in ("/no.Such/Method", "/" + HEALTH + "/Missing", "/x"):
        began = time.monotonic()
        _, error = unary(channel, path)
        took = time.monotonic() - began
        check(explained(error, UNIMPLEMENTED, "UNSUPPORTED") and path in error.details()
              and took < AT_ONCE_S, "%s is refused by name after %.1f ms" % (path, took * 1e3))

    _, error = unary(channel, "/" + HEALTH + "/Check", field(1, HEALTH * 20),
                     compression=grpc.Compression.Gzip)
    check(error.code().value[0] == UNIMPLEMENTED, "a compressed message is refused")

    _, call = unary(channel, "/" + HEALTH + "/Check", metadata=(("x-request-id", "id-1"),))
    check(("x-request-id", "id-1") in call.initial_metadata(), "the request id comes back")
    for bad in ("a" * 65, "two words"):
        _, error = unary(channel, "/" + HEALTH + "/Check", metadata=(("x-request-id", bad),))
        request = details(error).get("google.rpc.BadRequest", b"")
        named = request and text(fields(request)[1][0], 1) == "x-request-id"
        check(explained(error, INVALID, "INVALID") and named, "a bad request id is refused")


def check_metadata_limit(address):
    """On a connection of its own: gRPC 1.51 gives it up along with the call."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.insecure_channel(address, options=options) as channel:
        _, error = unary(channel, "/" + HEALTH + "/Check", metadata=(("x-much", "v" * 8192),))
        check(error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, "too much metadata is refused")


def check_echo(channel):
    path = "/" + ECHO + "/"
    reply, _ = unary(channel, path + "Echo", field(1, "h\u00e9llo"))
    check(reply == field(1, "h\u00e9llo"), "Echo")
    large = bytes(16 << 20)
    reply, _ = unary(channel, path + "Echo", large)
    check(reply == large, "Echo of 16 MiB")

    collect = channel.stream_unary(path + "Collect", request_serializer=same,
                                   response_deserializer=same)
    reply = collect((bytes(count) for count in range(100)), timeout=TIMEOUT_S)
    total = fields(reply)
    check(int.from_bytes(total[1][0], "little") == 100
          and int.from_bytes(total[2][0], "little") == 4950, "Collect of 100 messages")

    for number, (name, code) in STATUSES.items():
        _, error = unary(channel, path + "Fail", b"\x08" + bytes([number]))
        found = details(error)
        violation = fields(found["google.rpc.BadRequest"])[1][0]
        retry = "google.rpc.RetryInfo" in found
        check(explained(error, code, name) and text(violation, 1) == "options.k"
              and error.details() == "options.k: " + text(violation, 2) and retry == (number in (5, 6)),
              "status %s arrives with its details" % name)

    began = time.monotonic()
    _, error = unary(channel, path + "Hang", timeout=0.2)
    took = time.monotonic() - began
    check(error.code().value[0] == DEADLINE and took < 1, "a deadline ends a call")


def check_drain(address, server):
    """The spawned echo server is told to stop serving, to serve again, and to end."""
    with grpc.insecure_channel(address) as channel:
        watch = channel.unary_stream("/" + HEALTH + "/Watch", request_serializer=same,
                                     response_deserializer=same)(b"", timeout=TIMEOUT_S)
        check(next(watch) == b"\x08\x01", "health Watch says SERVING")
        server.send_signal(signal.SIGUSR1)
        check(next(watch) == b"\x08\x02", "health Watch tells of NOT_SERVING")
        _, error = unary(channel, "/" + ECHO + "/Echo")
        check(explained(error, UNAVAILABLE, "UNAVAILABLE")
              and "google.rpc.RetryInfo" in details(error), "a draining server says when to retry")
        reply, _ = unary(channel, "/" + HEALTH + "/Check", field(1, ECHO))
        check(reply == b"\x08\x02", "health says NOT_SERVING")
        server.send_signal(signal.SIGUSR1)
        check(next(watch) == b"\x08\x01", "health Watch tells of SERVING")
        server.send_signal(signal.SIGTERM)
        try:
            next(watch)
            check(False, "health Watch ends with the server")
        except grpc.RpcError as error:
            check(explained(error, UNAVAILABLE, "UNAVAILABLE"), "health Watch ends with the server")


def check_server(address):
    options = (("grpc.max_receive_message_length", 64 << 20), ("grpc.enable_http_proxy", 0))
    with grpc.insecure_channel(address, options=options) as channel:
        grpc.channel_ready_future(channel).result(timeout=TIMEOUT_S)
        lists = [check_reflection(channel, service) for service in REFLECTION]
        check(lists[0] == lists[1], "both versions of reflection agree")
        check_health(channel, lists[0])
        check_refusals(channel)
        if ECHO in lists[0]:
            check_echo(channel)
    check_metadata_limit(address)


def main():
    if len(sys.argv) < 2 or sys.argv[1] == "--spawn" and len(sys.argv) < 3:
        sys.exit(__doc__)
    if sys.argv[1] != "--spawn":
        check_server(sys.argv[1])
    else:
        server = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, text=True)
        try:
            word, _, address = server.stdout.readline().strip().partition(" ")
            check(word == "ready", "the server is ready at " + address)
            check_server(address)
            if "rpc_echo_server" in sys.argv[2]:
                check_drain(address, server)
        finally:
            server.send_signal(signal.SIGTERM)
        check(server.wait(TIMEOUT_S) == 0, "the server ends when told to")
    print("%d checks failed" % failures)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
