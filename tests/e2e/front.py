# SPDX-License-Identifier: Apache-2.0
"""A client of reco.v1 for tests: grpcio, with the messages of proto/reco.proto by protoc.

Also what those tests share: a cluster of `reco up`, waiting, the details of an error.
"""
import functools
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
except ImportError:
    print("skipped: this Python has no grpcio (Debian: python3-grpcio)")
    sys.exit(77)

PROTO = Path(__file__).resolve().parents[2] / "proto"
DEADLINE_SECONDS = 60
DETAILS = """syntax = "proto3"; package details;
message Any { string type_url = 1; bytes value = 2; }
message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
message Violation { string field = 1; string description = 2; }
message BadRequest { repeated Violation field_violations = 1; }
message ErrorInfo { string reason = 1; string domain = 2; }
message Duration { int64 seconds = 1; int32 nanos = 2; }
message RetryInfo { Duration retry_delay = 1; }
"""


@functools.lru_cache(maxsize=None)
def pool_of(folder, *names):
    with tempfile.TemporaryDirectory(prefix="reco-protoc-") as work:
        target = Path(work) / "set"
        subprocess.run(["protoc", f"-I{folder}", f"-o{target}", *names], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


@functools.lru_cache(maxsize=None)
def class_of(pool, name):
    descriptor = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


@functools.lru_cache(maxsize=None)
def error_pool():
    with tempfile.TemporaryDirectory(prefix="reco-details-") as work:
        (Path(work) / "details.proto").write_text(DETAILS, encoding="ascii")
        return pool_of(work, "details.proto")


class Failure(Exception):
    """What a call ended with: code, text, and the details by their type's last word."""

    def __init__(self, error, pool):
        self.code = error.code().name
        self.text = error.details()
        super().__init__(f"{self.code}: {self.text}")
        self.details = {}
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                for detail in class_of(pool, "details.Status").FromString(value).details:
                    name = detail.type_url.rsplit(".", 1)[-1]
                    self.details[name] = class_of(pool, f"details.{name}").FromString(detail.value)

    def field(self):
        request = self.details.get("BadRequest")
        return request.field_violations[0].field if request else ""

    def reason(self):
        return self.details["ErrorInfo"].reason if "ErrorInfo" in self.details else ""


class Front:
    """Calls by name: front.Search("Search", options={...})."""

    def __init__(self, address, **options):
        limits = {"grpc.max_send_message_length": -1, "grpc.max_receive_message_length": -1}
        self.channel = grpc.insecure_channel(address, list({**limits, **options}.items()))
        self.pool = pool_of(PROTO, "reco.proto")
        self.errors = error_pool()

    def message(self, name, **fields):
        return class_of(self.pool, f"reco.v1.{name}")(**fields)

    def call(self, service, method, *, timeout=DEADLINE_SECONDS, metadata=None, **fields):
        """One request, one reply; a stream of requests is given as `stream`."""
        described = self.pool.FindServiceByName(f"reco.v1.{service}").FindMethodByName(method)
        asked = class_of(self.pool, described.input_type.full_name)
        answered = class_of(self.pool, described.output_type.full_name)
        path = f"/reco.v1.{service}/{method}"
        coders = {"request_serializer": lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
                  "response_deserializer": answered.FromString}
        try:
            if "stream" in fields:
                send = self.channel.stream_unary(path, **coders)
                return send(iter(fields["stream"]), timeout=timeout, metadata=metadata)
            send = self.channel.unary_unary(path, **coders)
            message = fields["raw"] if "raw" in fields else asked(**fields)
            return send(message, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise Failure(error, self.errors) from None

    def close(self):
        self.channel.close()
