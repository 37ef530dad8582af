#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: other people's gRPC clients use reco without its files: reflection tells them all.

Method: a cluster of two shards with a part of the demo's memory. grpcio (Python) lists the services by
reflection, builds the messages from the descriptors it is given, and calls Search and Classify with
a deadline; grpcurl (Go; on PATH or in $GRPCURL) does the same where it is installed.
Exit status 77 without grpcio.

usage: interop.py PROGRAM_DIR
"""
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
except ImportError:
    print("skipped: this Python has no grpcio (Debian: python3-grpcio)")
    sys.exit(77)

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "demo"))
from scoring import MEMORY, Reco, read_samples, write_samples  # noqa: E402

SERVICES = ["reco.v1.Encoder", "reco.v1.Search", "reco.v1.Refiner", "reco.v1.Classifier",
            "reco.v1.Memory", "reco.v1.Cluster", "grpc.health.v1.Health"]
LABELS = ["lemon", "crab", "umbrella"]
DEADLINE_SECONDS = 10


def reflection_messages():
    """The public v1alpha reflection messages, as far as they are needed here."""
    file = descriptor_pb2.FileDescriptorProto(name="asked.proto", package="asked", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto

    def message(name, *fields):
        added = file.message_type.add(name=name)
        for number, label, kind, title, of in fields:
            added.field.add(name=title, number=number, label=label, type=kind, type_name=of or None)

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    message("Request", (4, one, field.TYPE_STRING, "symbol", ""), (7, one, field.TYPE_STRING, "list", ""))
    message("Files", (1, many, field.TYPE_BYTES, "files", ""))
    message("Service", (1, one, field.TYPE_STRING, "name", ""))
    message("Services", (1, many, field.TYPE_MESSAGE, "services", ".asked.Service"))
    message("Response", (4, one, field.TYPE_MESSAGE, "files", ".asked.Files"),
            (6, one, field.TYPE_MESSAGE, "services", ".asked.Services"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [class_of(pool, f"asked.{name}") for name in ("Request", "Response")]


def class_of(pool, name):
    descriptor = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


class Client:
    """A client that knows nothing but the address."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.request, self.response = reflection_messages()
        self.pool = descriptor_pool.DescriptorPool()
        files = {}
        for service in self.services():
            for data in self.ask(symbol=service).files.files:
                file = descriptor_pb2.FileDescriptorProto.FromString(data)
                files[file.name] = file
        for file in files.values():
            self.pool.Add(file)

    def ask(self, **what):
        call = self.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=self.request.SerializeToString,
            response_deserializer=self.response.FromString)
        return next(iter(call(iter([self.request(**what)]), timeout=DEADLINE_SECONDS)))

    def services(self):
        return [service.name for service in self.ask(list="*").services.services
                if "reflection" not in service.name]

    def call(self, service, method, message, timeout=DEADLINE_SECONDS):
        described = self.pool.FindServiceByName(service).FindMethodByName(method)
        asked = class_of(self.pool, described.input_type.full_name)
        answered = class_of(self.pool, described.output_type.full_name)
        send = self.channel.unary_unary(f"/{service}/{method}",
                                        request_serializer=asked.SerializeToString,
                                        response_deserializer=answered.FromString)
        return send(asked(**message), timeout=timeout)


def try_grpcio(address, picture):
    client = Client(address)
    missing = set(SERVICES) - set(client.services())
    assert not missing, f"reflection does not list {missing}"

    found = client.call("reco.v1.Search", "Search", {"image": picture, "options": {"k": 3}})
    assert len(found.neighbours.ids) == 3 and found.answer.coverage == 1
    assert found.neighbours.scores[0] > 0.999, "a picture of the memory finds itself"

    named = client.call("reco.v1.Classifier", "Classify",
                        {"image": picture, "labels": LABELS, "options": {"k": 5}, "top": 2})
    assert len(named.plain.labels) == 2 and len(named.refined.labels) == 2

    try:
        client.call("reco.v1.Search", "Search", {"image": picture})
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        assert "options.k" in error.details(), error
    else:
        raise AssertionError("k is required")
    print("ok   grpcio: reflection, Search, Classify, an error that names its field")


def try_grpcurl(program, address, picture):
    def run(*arguments):
        command = [program, "-plaintext", "-max-time", str(DEADLINE_SECONDS), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    listed = run(address, "list").split()
    assert set(SERVICES) <= set(listed), listed
    image = base64.b64encode(picture).decode()
    found = json.loads(run("-d", json.dumps({"image": image, "options": {"k": 3}}), address,
                           "reco.v1.Search/Search"))
    assert len(found["neighbours"]["ids"]) == 3
    named = json.loads(run("-d", json.dumps({"image": image, "labels": LABELS, "options": {"k": 5}}),
                           address, "reco.v1.Classifier/Classify"))
    assert len(named["refined"]["labels"]) == 3
    print("ok   grpcurl: list, Search, Classify")


def main(programs):
    programs = Path(programs)
    samples = list(islice(read_samples(MEMORY), 300))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_samples(folder / "part.tar", samples)
        cluster = subprocess.Popen([programs / "reco", "up", "--shards", "2", "--port", "0",
                                    "--data", folder / "data"], stdout=subprocess.PIPE, text=True)
        try:
            address = cluster.stdout.readline().split()[1]
            Reco(programs / "reco", "--server", address).lines("memory build", "default",
                                                               folder / "part.tar")
            try_grpcio(address, samples[0][1])
            grpcurl = os.environ.get("GRPCURL") or shutil.which("grpcurl")
            if grpcurl:
                try_grpcurl(grpcurl, address, samples[0][1])
            else:
                print("skip grpcurl: not installed")
        finally:
            cluster.terminate()
            assert cluster.wait(60) == 0, "reco up does not end well"
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
