#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: other people's gRPC clients use every RPC of reco, whatever language they are written in.

Method: one plan of calls (interop_plan.py) is carried out by grpcio (Python), by grpcurl (Go) and by
@grpc/grpc-js (JavaScript, interop.js), each against a memory of its own. Each also lists and
describes the services by reflection, decodes the details of errors, and watches the server's
health until a drain. An RPC of reco.proto that the plan leaves out fails the test.

grpcurl is taken from $GRPCURL or PATH, node's packages from $INTEROP_NODE_MODULES; what is missing
is skipped, with --install fetched into a temporary folder. Exit status 77 without grpcio.

usage: interop.py PROGRAM_DIR [--install]
"""
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from itertools import islice
from pathlib import Path

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
except ImportError:
    print("skipped: this Python has no grpcio (Debian: python3-grpcio)")
    sys.exit(77)

HERE = Path(__file__).resolve().parent
PROTO = HERE.parents[1] / "proto"
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tools" / "demo")]
from interop_plan import plan_of, snake  # noqa: E402
from scoring import MEMORY, Reco, read_samples, write_samples  # noqa: E402

GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4"
DEADLINE_SECONDS = 30
PATIENCE = 120
REFLECTION = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
HEALTH = "grpc.health.v1.Health"


def class_of(pool, name):
    descriptor = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


def read_protos(folder):
    """Descriptors of our files; both versions of reflection are one text."""
    wire = PROTO / "wire" / "rpc"
    shutil.copy(PROTO / "reco.proto", folder)
    for name in ("health", "status", "error_details", "reflection"):
        shutil.copy(wire / f"rpc_{name}.proto", folder)
    text = (wire / "rpc_reflection.proto").read_text().replace("v1alpha", "v1")
    (folder / "rpc_reflection_v1.proto").write_text(text)
    out = folder / "all.bin"
    subprocess.run(["protoc", f"-I{folder}", "--include_imports", f"--descriptor_set_out={out}",
                    *sorted(str(path) for path in folder.glob("*.proto"))], check=True)
    return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def pool_of(files):
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)
    return pool


class Python:
    """grpcio, with messages made from descriptors."""
    name = "grpcio"

    def __init__(self, address, files):
        self.channel = grpc.insecure_channel(address)
        self.pool = pool_of(files)

    def call(self, path, requests):
        service, method = path.split("/")
        described = self.pool.FindServiceByName(service).FindMethodByName(method)
        proto = descriptor_pb2.MethodDescriptorProto()
        described.CopyToProto(proto)
        asked = class_of(self.pool, described.input_type.full_name)
        answered = class_of(self.pool, described.output_type.full_name)
        kind = {(False, False): "unary_unary", (True, False): "stream_unary",
                (False, True): "unary_stream", (True, True): "stream_stream"}
        send = getattr(self.channel, kind[proto.client_streaming, proto.server_streaming])(
            f"/{path}", request_serializer=asked.SerializeToString, response_deserializer=answered.FromString)
        messages = [json_format.ParseDict(request, asked()) for request in requests]
        try:
            reply = send(iter(messages) if proto.client_streaming else messages[0], timeout=DEADLINE_SECONDS)
            replies = list(reply) if proto.server_streaming else [reply]
        except grpc.RpcError as error:
            return [], self.explain(error)
        return [json_format.MessageToDict(one, preserving_proto_field_name=True) for one in replies], None

    def explain(self, error):
        packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
        details = []
        if packed is not None:
            status = class_of(self.pool, "google.rpc.Status").FromString(packed)
            for one in status.details:
                name = one.type_url.rsplit("/", 1)[-1]
                message = class_of(self.pool, name).FromString(one.value)
                details.append({"@type": name, **json_format.MessageToDict(message)})
        return {"code": error.code().value[0], "message": error.details(), "details": details}

    def methods(self):
        """{service: methods} as each version of reflection tells them."""
        found = []
        for version in REFLECTION:
            path = f"{version}.ServerReflection/ServerReflectionInfo"
            (listed,), error = self.call(path, [{"list_services": ""}])
            assert error is None, error
            told = {}
            for service in listed["list_services_response"]["service"]:
                name = service["name"]
                (answer,), error = self.call(path, [{"file_containing_symbol": name}])
                assert error is None, error
                for packed in answer["file_descriptor_response"]["file_descriptor_proto"]:
                    file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(packed))
                    for one in file.service:
                        if f"{file.package}.{one.name}" == name:
                            told[name] = {method.name for method in one.method}
            found.append(told)
        assert found[0] == found[1], "the versions of reflection differ"
        return found[0]

    def watch(self):
        """Two ways: what has come, and a wait for the end."""
        states = Lines()

        def read():
            path = f"/{HEALTH}/Watch"
            asked = class_of(self.pool, "grpc.health.v1.HealthCheckRequest")
            answered = class_of(self.pool, "grpc.health.v1.HealthCheckResponse")
            call = self.channel.unary_stream(path, request_serializer=asked.SerializeToString,
                                             response_deserializer=answered.FromString)
            try:
                for reply in call(asked()):
                    states.put(json_format.MessageToDict(reply)["status"])
            except grpc.RpcError:
                pass
            states.end()
        threading.Thread(target=read, daemon=True).start()
        return states


class Lines:
    """Words that another thread puts and this one waits for."""

    def __init__(self):
        self.all = []
        self.ended = False
        self.changed = threading.Condition()

    def put(self, word):
        with self.changed:
            self.all.append(word)
            self.changed.notify_all()

    def end(self):
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def wait_for(self, word):
        with self.changed:
            self.changed.wait_for(lambda: word in self.all or self.ended, PATIENCE)
        assert word in self.all, f"{word} is not among {self.all}"


def watch_process(command, **named):
    """The words SERVING and NOT_SERVING of a program's output as they come."""
    states = Lines()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **named)

    def read():
        for line in process.stdout:
            for word in line.replace('"', " ").replace(",", " ").split():
                if word.endswith("SERVING"):
                    states.put(word)
        process.stdout.close()
        process.wait()
        states.end()
    threading.Thread(target=read, daemon=True).start()
    return states


class Grpcurl:
    """The Go program, which learns every message by reflection."""
    name = "grpcurl"

    def __init__(self, address, program):
        self.address = address
        self.command = [program, "-plaintext", "-max-time", str(DEADLINE_SECONDS)]

    def run(self, *words, stdin=None):
        return subprocess.run([*self.command, *words], input=stdin, capture_output=True, text=True, check=False,
                              timeout=PATIENCE)

    def call(self, path, requests):
        done = self.run("-format-error", "-d", "@", self.address, path, stdin="\n".join(map(json.dumps, requests)))
        if done.returncode:
            error = json.loads(done.stderr[done.stderr.index("{"):])
            for detail in error.get("details", []):
                detail["@type"] = detail["@type"].rsplit("/", 1)[-1]
            return [], {"code": error["code"], "message": error["message"], "details": error.get("details", [])}
        replies, at, decoder = [], 0, json.JSONDecoder()
        text = done.stdout.strip()
        while at < len(text):
            reply, at = decoder.raw_decode(text, at)
            replies.append(snake(reply))
            at += len(text[at:]) - len(text[at:].lstrip())
        return replies, None

    def methods(self):
        listed = self.run(self.address, "list")
        assert listed.returncode == 0, listed.stderr
        found = {}
        for service in listed.stdout.split():
            described = self.run(self.address, "describe", service)
            assert described.returncode == 0, described.stderr
            found[service] = {line.split()[1] for line in described.stdout.splitlines()
                              if line.split()[:1] == ["rpc"]}
        return found

    def watch(self):
        command = [word for word in self.command if word not in ("-max-time", str(DEADLINE_SECONDS))]
        return watch_process([*command, "-d", "{}", self.address, f"{HEALTH}/Watch"])


class JavaScript:
    """interop.js in a node of its own; the plan goes in line by line."""
    name = "grpc-js"

    def __init__(self, address, modules):
        self.command = ["node", str(HERE / "interop.js"), address, str(PROTO)]
        self.env = {**os.environ, "NODE_PATH": str(modules)}
        self.process = subprocess.Popen([*self.command, "calls"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=self.env)

    def call(self, path, requests):
        self.process.stdin.write(json.dumps({"path": path, "requests": requests}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"node ended at {path}"
        told = json.loads(line)
        if told["error"]:
            told["error"]["details"] = [{key: value for key, value in snake(one).items()}
                                        for one in told["error"]["details"]]
        return told["replies"], told["error"]

    def methods(self):
        return Python.methods(self)

    def watch(self):
        return watch_process([*self.command, "watch"], env=self.env)

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(PATIENCE) == 0
        self.process.stdout.close()


def detail(error, name):
    found = [snake(one) for one in error["details"] if one["@type"] == f"google.rpc.{name}"]
    assert len(found) == 1, f"{name} is not among {error}"
    return found[0]


def refused(client, path, request, code, field):
    """A call whose error must name the field in a BadRequest."""
    _, error = client.call(path, [request])
    assert error and error["code"] == code, (path, error)
    assert detail(error, "ErrorInfo")["domain"] == "reco"
    named = [one["field"] for one in detail(error, "BadRequest")["field_violations"]]
    assert named == [field] and field in error["message"], error


def try_plan(client, steps, wanted):
    told = client.methods()
    for service, methods in wanted.items():
        assert told.get(service) == methods, f"{service}: reflection tells {told.get(service)}"
    for step in steps:
        replies, error = client.call(step.path, step.requests)
        assert error is None, f"{client.name} {step.path}: {error}"
        try:
            step.check(replies)
        except Exception as failure:
            raise AssertionError(f"{client.name} {step.path}: {failure!r}: {str(replies)[:2000]}") from failure
    refused(client, "reco.v1.Search/Search", {"text": "x", "options": {"k": 0}}, 3, "options.k")
    refused(client, "reco.v1.Memory/Describe", {"name": "a b"}, 3, "name")
    refused(client, "reco.v1.Memory/Describe", {"name": "gone"}, 5, "memory")
    (state,), error = client.call(f"{HEALTH}/Check", [{"service": "reco.v1.Search"}])
    assert error is None and state["status"] == "SERVING", state
    print(f"ok   {client.name}: reflection, {len(steps)} calls of {sum(map(len, wanted.values()))} RPCs, errors, health")


def try_retry_and_drain(clients, server):
    """`server` is a coordinator whose nodes are away."""
    watchers = [client.watch() for client in clients]
    for client, states in zip(clients, watchers):
        states.wait_for("SERVING")
        _, error = client.call("reco.v1.Memory/Create", [{"name": "x"}])
        assert error and error["code"] == 14, error
        delay = detail(error, "RetryInfo")["retry_delay"]
        assert delay == "0.500s" or int(delay.get("nanos", 0)) == 500000000, delay
    server.terminate()
    for states in watchers:
        states.wait_for("NOT_SERVING")
    assert server.wait(PATIENCE) == 0
    print("ok   " + ", ".join(client.name for client in clients) + ": when to retry; health sees the drain")


def services_of(files):
    """{service: methods} of reco.proto."""
    return {f"{file.package}.{service.name}": {method.name for method in service.method}
            for file in files if file.package == "reco.v1" for service in file.service}


def clients_of(address, files, grpcurl, modules):
    yield Python(address, files)
    if grpcurl:
        yield Grpcurl(address, grpcurl)
    if modules and shutil.which("node"):
        yield JavaScript(address, modules)


def install(folder):
    """Both other clients, in the versions that are pinned here and in interop/package.json."""
    grpcurl = modules = None
    if shutil.which("go"):
        subprocess.run(["go", "install", GRPCURL], check=True, env={**os.environ, "GOBIN": str(folder)})
        grpcurl = folder / "grpcurl"
    if shutil.which("npm"):
        shutil.copy(HERE / "interop" / "package.json", folder)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], check=True, cwd=folder)
        modules = folder / "node_modules"
    return grpcurl, modules


def find_clients(folder, wanted):
    grpcurl = os.environ.get("GRPCURL") or shutil.which("grpcurl")
    modules = os.environ.get("INTEROP_NODE_MODULES")
    if wanted:
        got = install(folder)
        grpcurl, modules = grpcurl or got[0], modules or got[1]
    if not grpcurl:
        print("skip grpcurl: not installed")
    if not modules or not shutil.which("node"):
        print("skip grpc-js: no node, or no packages for it")
    return grpcurl, modules


def start(*command):
    """The process and the address of its ready line."""
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert line.startswith("ready "), f"no ready line but {line!r}"
    return process, line.split()[1]


def main(programs, *flags):
    programs = Path(programs).resolve()
    samples = list(islice(read_samples(MEMORY), 60))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "proto").mkdir()
        files = read_protos(folder / "proto").file
        wanted = services_of(files)
        found = find_clients(folder, "--install" in flags)
        write_samples(folder / "part.tar", samples)
        data = folder / "data"
        cluster, address = start(programs / "reco", "up", "--shards", "2", "--port", "0", "--data", data)
        try:
            Reco(programs / "reco", "--server", address).lines("memory build", "default", folder / "part.tar")
            for client in clients_of(address, files, *found):
                rpcs = {f"{service}/{method}" for service, methods in wanted.items() for method in methods}
                steps = plan_of(client.name, samples, rpcs)
                missing = rpcs - {step.path for step in steps}
                assert not missing, f"the plan has no call of {sorted(missing)}"
                try_plan(client, steps, wanted)
                if isinstance(client, JavaScript):
                    client.end()
        finally:
            cluster.terminate()
            assert cluster.wait(PATIENCE) == 0, "reco up does not end well"
            cluster.stdout.close()

        nowhere = "tcp://127.0.0.1:1,tcp://127.0.0.1:1"
        server, address = start(programs / "reco-coordinator", "--data", data, "--listen", "127.0.0.1:0", "--node",
                                nowhere, "--node", nowhere)
        try:
            clients = list(clients_of(address, files, *found))
            try_retry_and_drain(clients, server)
            for client in clients:
                if isinstance(client, JavaScript):
                    client.end()
        finally:
            server.kill()
            server.wait(PATIENCE)
            server.stdout.close()
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
