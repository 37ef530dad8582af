#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the side ports promise, asked of a real cluster.

usage: side_port.py PROGRAM_DIR

Goal: health and readiness tell the truth while nodes die and processes drain; metrics hold exactly
the work that was done and are read by Prometheus' own parser (where it is installed; else by a
strict one of ours); queries in JSON answer the very lines of the command line, and refuse in words.

Method: `reco up` with two shards, known work, and what the counters say afterwards. A shard is
stopped with SIGSTOP, so that it stays gone until the test lets it go on.
"""
import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import cli
from procs import wait_for

try:
    from prometheus_client.parser import text_string_to_metric_families
except ImportError:
    text_string_to_metric_families = None

PATIENCE = 60


def parse_strictly(text):
    """{(name, labels): value} of the text format 0.0.4; fails where it is not that."""
    samples = {}
    types = {}
    family = None
    for line in text.split("\n")[:-1]:
        head = re.fullmatch(r"# (HELP|TYPE) ([a-z_:0-9]+) (.+)", line)
        if head:
            family = head[2]
            if head[1] == "TYPE":
                assert family not in types, line
                types[family] = head[3]
                assert head[3] in ("counter", "gauge", "histogram"), line
            continue
        sample = re.fullmatch(r"([a-z_:0-9]+)(?:\{(.*)\})? (\S+)", line)
        assert sample, line
        base = sample[1]
        if types[family] == "histogram":
            base = re.sub(r"_(bucket|sum|count)$", "", base)
        assert base == family, line
        labels = tuple(sorted(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', sample[2] or "")))
        assert (sample[1], labels) not in samples, line
        samples[sample[1], labels] = float(sample[3])
    assert text.endswith("\n") or not text
    return samples


def parse(text):
    samples = parse_strictly(text)
    if text_string_to_metric_families:
        theirs = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                theirs[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
        assert theirs == samples, set(theirs.items()) ^ set(samples.items())
    return samples


def value(samples, name, **labels):
    return samples.get((name, tuple(sorted(labels.items()))), 0)


def ask(address, method, path, body=None, headers=None):
    """Status, headers and body."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read().decode()
    finally:
        connection.close()


class SidePort(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        root = Path(cls.folder.name)
        cls.cluster = cli.Cluster(root / "data", "--shards", "2")
        line = cls.cluster.process.stdout.readline()
        cls.http = re.fullmatch(r"http (127\.0\.0\.1:\d+)\n", line)[1]
        built = cli.reco("memory", "build", "default", cli.make_folder(root / "source"),
                         "--server", cls.cluster.address)
        assert built.returncode == 0, built.stderr
        cls.records = len(cli.IMAGES)

    @classmethod
    def tearDownClass(cls):
        if cls.cluster.process.poll() is None:
            cls.cluster.process.send_signal(signal.SIGTERM)
            cls.cluster.process.wait(PATIENCE)
        cls.cluster.kill()
        cls.folder.cleanup()

    def node_ports(self):
        """Side ports of the nodes: pairs of process id and address."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
            except OSError:
                continue
            if words[0].endswith(b"/reco-shard") and parent == str(self.cluster.process.pid):
                found.append((int(words[words.index(b"--index") + 1]), int(folder.name),
                              words[words.index(b"--http") + 1].decode()))
        return [(pid, address) for _, pid, address in sorted(found)]

    def metrics(self, address=None):
        status, headers, text = ask(address or self.http, "GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertEqual(headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
        return parse(text)

    def post(self, verb, request, path="", **headers):
        status, got, text = ask(self.http, "POST", f"/v1/{verb}{path}", json.dumps(request),
                                {name.replace("_", "-"): text for name, text in headers.items()})
        self.assertEqual(got["Content-Type"], "application/json")
        return status, json.loads(text)

    def refused(self, status, field, verb, request, path="", **headers):
        got, answer = self.post(verb, request, path, **headers)
        self.assertEqual((got, answer["error"]["field"]), (status, field), answer)
        self.assertTrue(answer["error"]["message"])
        return answer["error"]

    # ---------------------------------------------------------------- health

    def test_health_and_readiness(self):
        for address in [self.http] + [address for _, address in self.node_ports()]:
            self.assertEqual(ask(address, "GET", "/healthz")[::2], (200, "ok\n"))
            self.assertEqual(ask(address, "GET", "/readyz")[::2], (200, "ready\n"))
            self.assertEqual(ask(address, "HEAD", "/readyz")[::2], (200, ""))
            self.assertEqual(ask(address, "GET", "/nothing")[0], 404)
            status, headers, _ = ask(address, "POST", "/healthz", "x")
            self.assertEqual((status, headers["Allow"]), (405, "GET, HEAD"))

    def test_silent_connections_do_not_keep_health_from_answering(self):
        host, port = self.http.split(":")
        silent = [socket.create_connection((host, int(port))) for _ in range(900)]
        began = time.monotonic()
        self.assertEqual(ask(self.http, "GET", "/healthz")[0], 200)
        self.assertLess(time.monotonic() - began, 5)
        for one in silent:
            one.close()

    # ---------------------------------------------------------------- JSON

    def test_answers_are_the_lines_of_the_command_line(self):
        image = cli.IMAGES[0]
        data = base64.b64encode(image.read_bytes()).decode()
        labels = ["anchor", "bicycle", "penguin"]
        file = Path(self.folder.name) / "labels.txt"
        file.write_text("\n".join(labels) + "\n")
        server = ("--server", self.cluster.address, "--json", "-k", "5")
        cases = [
            (("search", "--text", "an anchor"), "search", {"text": "an anchor"}),
            (("search", "--image", image), "search", {"image": data}),
            (("search", "--text", "x", "--over", "image"), "search",
             {"text": "x", "options": {"over": "image"}}),
            (("refine", "--image", image, "--fusion", "mean"), "refine",
             {"image": data, "options": {"fusion": "mean"}}),
            (("refine", "--text", "an anchor"), "refine", {"text": "an anchor"}),
            (("classify", image, "--labels", file), "classify",
             {"image": data, "labels": labels, "top": 5}),
            (("classify", image, "--labels", file, "--explain"), "classify",
             {"image": data, "labels": labels, "top": 5, "explain": True}),
        ]
        for arguments, verb, request in cases:
            line = cli.reco(*arguments, *server)
            self.assertEqual(line.returncode, 0, line.stderr)
            request.setdefault("options", {})["k"] = 5
            request["input"] = json.loads(line.stdout)["input"]
            status, answer = self.post(verb, request)
            self.assertEqual(status, 200, answer)
            told = cli.same_but_for_time([json.loads(line.stdout), answer])
            self.assertEqual(told[0], told[1])
            self.assertEqual(list(json.loads(line.stdout)), list(answer))  # the same order, too

    def test_an_embedding_is_taken_and_named(self):
        _, refined = self.post("refine", {"text": "an anchor", "options": {"fusion": "none"}})
        status, answer = self.post("search", {"embedding": refined["embedding"],
                                              "embedding_modality": "text"})
        self.assertEqual((status, answer["input"]), (200, "embedding"))
        self.assertEqual(len(answer["neighbours"]), 10)
        status, answer = self.post("search", {"text": "x"}, x_request_id="mine")
        self.assertEqual((answer["input"], answer["request_id"]), ("x", "mine"))

    def test_parts_filters_and_fields(self):
        _, all_of_them = self.post("search", {"text": "an anchor"})
        best = all_of_them["neighbours"][0]
        status, answer = self.post("search", {
            "parts": [{"text": "an anchor"}, {"text": "an anchor", "weight": 2}],
            "options": {"k": 3, "fields": ["key", "tags"], "dedup": 0.999}})
        self.assertEqual((status, answer["input"]), (200, "parts"), answer)
        self.assertEqual(set(answer["neighbours"][0]), {"id", "key", "score", "tags"})
        for chosen in ({"keys": [best["key"]]}, {"ids": [str(best["id"])]}):
            status, answer = self.post("search", {"text": "x", "options": {"filter": chosen}})
            self.assertEqual([one["key"] for one in answer["neighbours"]], [best["key"]], answer)
        self.refused(400, "parts", "search", {"text": "a", "parts": [{"text": "b"}]})
        self.refused(400, "parts[1].wieght", "search",
                     {"parts": [{"text": "b"}, {"text": "c", "wieght": 2}]})
        self.refused(400, "options.filter.ids[0]", "search",
                     {"text": "a", "options": {"filter": {"ids": [-1]}}})
        self.refused(400, "options.fields", "search", {"text": "a", "options": {"fields": ["kye"]}})

    def test_bad_requests_are_refused_in_words(self):
        text = {"text": "anchor"}
        error = self.refused(400, "optons", "search", {**text, "optons": {}})
        self.assertIn('"options"', error["message"])
        self.assertEqual(error["code"], "INVALID_ARGUMENT")
        error = self.refused(400, "options.fusin", "refine", {**text, "options": {"fusin": "mean"}})
        self.assertIn('"fusion"', error["message"])
        error = self.refused(400, "options.fusion", "refine", {**text, "options": {"fusion": "meen"}})
        self.assertIn("none|mean|weighted", error["message"])
        error = self.refused(400, "memory", "search", {**text, "memory": "m"})
        self.assertIn('belongs into "options": {"options": {"memory": ...}}', error["message"])
        error = self.refused(400, "k", "classify", {"image": "AAAA", "labels": ["a"], "k": 3})
        self.assertIn('belongs into "options"', error["message"])
        error = self.refused(400, "options.text", "search", {"options": {"k": 3, **text}})
        self.assertIn('belongs beside "options"', error["message"])
        error = self.refused(400, "options.labels", "search", {**text, "options": {"labels": ["a"]}})
        self.assertIn("there is no such member", error["message"])
        self.refused(400, "options.k", "search", {**text, "options": {"k": 0}})
        self.refused(400, "options.k", "search", {**text, "options": {"k": 257}})
        self.refused(400, "options.k", "search", {**text, "options": {"k": -1}})
        self.refused(400, "options.k", "search", {**text, "options": {"k": "5"}})
        self.refused(400, "options.min_similarity", "search",
                     {**text, "options": {"min_similarity": 1e39}})
        self.refused(400, "options.exclude_keys[1]", "search",
                     {**text, "options": {"exclude_keys": ["a", 2]}})
        self.refused(400, "input", "search", {})
        self.refused(400, "input", "search", {**text, "image": "AAAA"})
        self.refused(400, "text", "classify", {**text, "labels": ["a"]})
        self.refused(400, "labels", "classify", {"image": "AAAA"})
        self.refused(400, "image", "search", {"image": "AA?A"})
        self.refused(400, "image", "search", {"image": "AAAAA"})
        self.refused(400, "image", "search", {"image": ["A"]})
        self.refused(400, "embedding", "search", {"embedding": [1, 2, 3]})
        self.refused(400, "embedding[1]", "search", {"embedding": [1, "x"]})
        self.refused(400, "embedding", "search", {"embedding": []})
        self.refused(400, "deadline_ms", "search", text, "?deadline_ms=soon")
        self.refused(400, "x-deadline-ms", "search", text, x_deadline_ms="0")
        self.refused(400, "x-request-id", "search", text, x_request_id="i" * 65)
        self.refused(404, "memory", "search", {**text, "options": {"memory": "nowhere"}})
        self.assertEqual(self.post("search", [])[0], 400)
        for body in ("", "{", '{"text":1,"text":2}', "[" * 100000, "nul", '{"text":"\\ud800"}'):
            status, _, answer = ask(self.http, "POST", "/v1/search", body)
            self.assertEqual(status, 400, answer)
            self.assertIn("error", json.loads(answer))
        status, _, answer = ask(self.http, "POST", "/v1/search", "x",
                                {"Content-Length": str(100 << 20)})
        self.assertEqual((status, json.loads(answer)["error"]["code"]), (413, "INVALID_ARGUMENT"))
        self.assertEqual(ask(self.http, "GET", "/healthz")[0], 200)

    # ---------------------------------------------------------------- metrics

    def test_metrics_count_what_was_done(self):
        method = {"method": "reco.v1.Search/Search"}
        nodes = self.node_ports()
        before = self.metrics()
        shards = [self.metrics(address) for _, address in nodes]
        for i in range(7):
            found = cli.reco("search", "--text", f"thing {i}", "--server", self.cluster.address)
            self.assertEqual(found.returncode, 0, found.stderr)
        for _ in range(3):
            lost = cli.reco("search", "--text", "x", "--memory", "nowhere", "--server",
                            self.cluster.address)
            self.assertEqual(lost.returncode, 1)
        for _ in range(4):
            self.assertEqual(self.post("search", {"text": "over HTTP"})[0], 200)
        self.assertEqual(self.post("search", {})[0], 400)
        after = self.metrics()

        def grew(name, **labels):
            return value(after, name, **labels) - value(before, name, **labels)

        self.assertEqual(grew("reco_grpc_requests_total", code="OK", **method), 7)
        self.assertEqual(grew("reco_grpc_requests_total", code="NOT_FOUND", **method), 3)
        self.assertEqual(grew("reco_grpc_request_duration_seconds_count", **method), 10)
        self.assertEqual(value(after, "reco_grpc_inflight"), 0)
        self.assertEqual(grew("reco_http_requests_total", path="/v1/search", code="200"), 4)
        self.assertEqual(grew("reco_http_requests_total", path="/v1/search", code="400"), 1)
        self.assertEqual(grew("reco_search_coverage_ratio_count"), 11)
        self.assertEqual(grew("reco_search_coverage_ratio_sum"), 11)
        self.assertEqual(grew("reco_search_coverage_ratio_bucket", le="0.99"), 0)
        self.assertEqual(grew("reco_search_stage_seconds_count", stage="fanout"), 11)
        for i, (_, address) in enumerate(nodes):
            node = self.metrics(address)
            # One SEARCH each; payload and documents come by FETCH.
            self.assertGreaterEqual(grew("reco_fanout_requests_total", node=str(i), result="ok"), 11)
            self.assertEqual(value(node, "reco_shard_queue_wait_seconds_count")
                             - value(shards[i], "reco_shard_queue_wait_seconds_count"), 11)
            self.assertEqual(value(node, "reco_shard_requests_total", type="search")
                             - value(shards[i], "reco_shard_requests_total", type="search"), 11)
            self.assertEqual(value(node, "reco_shard_searches_total", path="exact")
                             - value(shards[i], "reco_shard_searches_total", path="exact"), 11)
            self.assertEqual(value(after, "reco_node_up", node=str(i)), 1)
            self.assertGreater(value(after, "reco_credits_available", node=str(i)), 0)
        self.assertEqual(grew("reco_search_degraded_total", reason="node_down"), 0)

    def test_the_rows_of_the_shards_add_up(self):
        shards = [self.metrics(address) for _, address in self.node_ports()]
        self.assertEqual(len(shards), 2)
        self.assertEqual(sum(value(one, "reco_shard_rows") for one in shards), self.records)
        self.assertEqual(sum(value(one, "reco_write_rows_total", operation=operation)
                             for one in shards for operation in ("write", "bulk")), self.records)
        for one in shards:
            self.assertEqual(value(one, "reco_readonly"), 0)
            self.assertEqual(value(one, "reco_crc_errors_total"), 0)
            # Too few records for an index.
            self.assertEqual(value(one, "reco_shard_searches_total", path="ivf"), 0)
            self.assertEqual(value(one, "reco_shard_index_training_seconds_count"), 0)
            self.assertEqual(value(one, "reco_shard_index_upkeep_total", work="split"), 0)
            for of in ("rows", "waiting_rows", "lists", "bytes"):
                self.assertEqual(value(one, "reco_shard_index_" + of), 0)
            self.assertGreater(value(one, "reco_fsync_seconds_count"), 0)
            self.assertGreater(value(one, "reco_write_commit_seconds_count"), 0)
            self.assertIn(("reco_rocksdb_sst_bytes", (("cf", "vec"),)), one)
            self.assertTrue(0 < value(one, "reco_disk_used_ratio") <= 1)
            self.assertTrue(0 < value(one, "reco_memory_used_ratio") < 1)
            self.assertGreater(value(one, "process_resident_memory_bytes"), 1 << 20)

    def test_x_a_node_that_is_gone_is_told(self):
        pid, _ = self.node_ports()[1]
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for("the node counts as down", lambda: value(self.metrics(), "reco_node_up", node="1") == 0)
            status, _, text = ask(self.http, "GET", "/readyz")
            self.assertEqual((status, text), (200, "ready; down: node 1\n"))
            before = self.metrics()
            for _ in range(5):
                status, answer = self.post("search", {"text": "half"})
                self.assertEqual((status, answer["coverage"]), (200, 0.5))
            self.refused(503, "", "search", {"text": "half", "options": {"min_coverage": 1}})
            after = self.metrics()
            for name, labels, wanted in (
                    ("reco_search_degraded_total", {"reason": "node_down"}, 6),
                    ("reco_fanout_requests_total", {"node": "1", "result": "down"}, 6),
                    ("reco_search_coverage_ratio_count", {}, 5),
                    ("reco_search_coverage_ratio_sum", {}, 2.5),
                    ("reco_http_requests_total", {"path": "/v1/search", "code": "503"}, 1)):
                self.assertEqual(value(after, name, **labels) - value(before, name, **labels),
                                 wanted, name)
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_for("it is ready", lambda: ask(self.http, "GET", "/readyz")[2] == "ready\n")

    # ---------------------------------------------------------------- the end

    def leave_while_it_waits(self, pid):
        """Whether the call was cancelled before the node was given up."""
        before = value(self.metrics(), "reco_cancel_total", reason="client")
        host, port = self.http.split(":")
        body = b'{"text":"wait for me"}'
        os.kill(pid, signal.SIGSTOP)  # so that the search waits for a node, 0.6 s at most
        try:
            with socket.create_connection((host, int(port))) as one:
                one.sendall(b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
                            % (len(body), body))
            wait_for("the cancel is counted",
                     lambda: value(self.metrics(), "reco_cancel_total", reason="client") > before
                     or value(self.metrics(), "reco_node_up", node="0") == 0)
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_for("it is ready", lambda: ask(self.http, "GET", "/readyz")[2] == "ready\n")
        return value(self.metrics(), "reco_cancel_total", reason="client") > before

    def test_y_a_client_that_leaves_cancels_its_call(self):
        pid, _ = self.node_ports()[0]
        self.assertTrue(any(self.leave_while_it_waits(pid) for _ in range(5)))

    def test_z_it_ends_with_the_cluster(self):
        self.cluster.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.cluster.process.wait(PATIENCE), 0)
        with self.assertRaises(OSError):
            ask(self.http, "GET", "/healthz")


class Programs(unittest.TestCase):
    def run_program(self, name, *arguments):
        return subprocess.run([str(cli.PROGRAMS / name), *arguments], capture_output=True, text=True,
                              timeout=PATIENCE, check=False)

    def test_only_the_loopback_is_taken(self):
        for address in ("0.0.0.0:0", "192.0.2.1:80", "[::]:0"):
            done = self.run_program("reco-coordinator", "--listen", "127.0.0.1:0", "--http", address)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("proxy", done.stderr)

    def test_it_can_be_off_and_drains(self):
        for flag, lines in (("off", 1), ("127.0.0.1:0", 2)):
            process = subprocess.Popen(
                [str(cli.PROGRAMS / "reco-coordinator"), "--listen", "127.0.0.1:0", "--http", flag],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            told = [process.stdout.readline()]
            if lines == 2:
                told.append(process.stdout.readline())
                address = told[1].split()[1]
                wait_for("it is ready", lambda: ask(address, "GET", "/readyz")[::2] == (200, "ready\n"))
            process.send_signal(signal.SIGTERM)
            rest = process.stdout.read()
            self.assertEqual((process.wait(PATIENCE), rest), (0, ""))
            process.stdout.close()


if __name__ == "__main__":
    cli.main()
