# SPDX-License-Identifier: Apache-2.0
"""Goal: whoever listens beyond loopback encrypts and knows its clients; only those come in that
should; certificates, lists, limits and the log's level change while calls run, all or nothing.

Method: the real programs, certificates made by openssl, one fault at a time.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

PROGRAMS = None  # set by main()
PATIENCE = 60  # seconds; only a broken program meets it


def run(*arguments, **named):
    if "stdin" not in named and "input" not in named:
        named["stdin"] = subprocess.DEVNULL
    return subprocess.run([str(a) for a in arguments], text=True, errors="replace", capture_output=True,
                          timeout=PATIENCE, check=False, **named)


def openssl(*arguments):
    done = run("openssl", *arguments)
    assert done.returncode == 0, done.stderr


class Authority:
    """A CA of elliptic keys in a folder."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.key, self.certificate = folder / f"{name}.key", folder / f"{name}.crt"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", self.key, "-out", self.certificate, "-subj", f"/CN={name}", "-days", "2")

    def sign(self, name, common, alternative=None, days="2"):
        key, request, out = (self.folder / f"{name}.{end}" for end in ("key", "csr", "crt"))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                key, "-out", request, "-subj", f"/CN={common}")
        extra = self.folder / f"{name}.ext"
        extra.write_text(f"subjectAltName={alternative}\n" if alternative else "")
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
                "-CAcreateserial", "-out", out, "-days", days, "-extfile", extra)
        return out, key


class Server:
    """A reco-coordinator without memories; its log is kept."""

    def __init__(self, *arguments, program="reco-coordinator"):
        self.process = subprocess.Popen(
            [str(PROGRAMS / program), *map(str, arguments)], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines = []
        self.news = threading.Condition()
        ready = self.process.stdout.readline().split()
        assert ready and ready[0] == "ready", self.process.stderr.read()
        self.address = ready[1]
        self.endpoints = ",".join(ready[1:3])
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            with self.news:
                self.lines.append(line)
                self.news.notify_all()

    def wait_for(self, words, since=0):
        """The first line with these words."""
        end = time.monotonic() + PATIENCE
        with self.news:
            while time.monotonic() < end:
                for line in self.lines[since:]:
                    if words in line:
                        return line
                self.news.wait(end - time.monotonic())
        raise AssertionError(f"'{words}' is not in {self.lines}")

    def reload(self):
        since = len(self.lines)
        self.process.send_signal(signal.SIGHUP)
        return since

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("openssl"):
            raise unittest.SkipTest("openssl is not there")
        cls.top = Path(tempfile.mkdtemp(prefix="reco-secure-"))
        cls.addClassCleanup(shutil.rmtree, cls.top)
        cls.ca, cls.other = Authority(cls.top, "house"), Authority(cls.top, "stranger")
        local = "DNS:localhost,IP:127.0.0.1"
        cls.server = cls.ca.sign("server", "server", local)
        cls.renewed = cls.ca.sign("renewed", "renewed", local)
        cls.elsewhere = cls.ca.sign("elsewhere", "elsewhere", "DNS:elsewhere.example")
        cls.expired = cls.ca.sign("expired", "expired", local, days="-1")
        cls.alice = cls.ca.sign("alice", "ignored", "DNS:alice.ops.example")
        cls.bob = cls.ca.sign("bob", "bob.by-common-name")
        cls.mallory = cls.other.sign("mallory", "alice", "DNS:alice.ops.example")

    def start(self, *arguments):
        server = Server("--listen", "127.0.0.1:0", "--threads", "1", *arguments)
        self.addCleanup(server.stop)
        return server

    def secure(self, *arguments, pair=None):
        pair = pair or self.server
        return self.start("--tls-cert", pair[0], "--tls-key", pair[1], *arguments)

    def ask(self, server, *arguments, pair=None, ca=None, tls=True):
        flags = ["--tls-ca", ca or self.ca.certificate] if tls else []
        if pair:
            flags += ["--tls-cert", pair[0], "--tls-key", pair[1]]
        return run(PROGRAMS / "reco", "embed", "text", "x", "--json", "--server", server.address,
                   "--deadline-ms", "20000", *flags, *arguments)

    def answered(self, *arguments, **named):
        done = self.ask(*arguments, **named)
        self.assertEqual(done.returncode, 0, done.stderr)

    def refused(self, words, *arguments, **named):
        done = self.ask(*arguments, **named)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout, "")
        self.assertIn(words, done.stderr)


class Tls(Case):
    def test_a_server_with_a_certificate_answers_those_who_know_its_ca(self):
        server = self.secure()
        self.answered(server)
        self.refused("the given CA has not signed that server's certificate", server, ca=self.other.certificate)
        self.refused("does not answer (does it want TLS", server, tls=False)  # plain text

    def test_a_certificate_for_another_name_or_out_of_date_is_refused(self):
        server = self.secure(pair=self.elsewhere)
        self.refused("the server's certificate has another name", server)
        self.answered(server, "--tls-name", "elsewhere.example")
        self.refused("certificate verify failed", self.secure(pair=self.expired))

    def test_a_client_must_show_a_certificate_of_the_right_ca(self):
        server = self.secure("--tls-client-ca", self.ca.certificate)
        self.refused("", server)
        self.refused("", server, pair=self.mallory)
        self.refused("are certificate and key no pair?", server, pair=(self.alice[0], self.bob[1]))
        self.answered(server, pair=self.alice)
        self.answered(server, pair=self.bob)

    def test_only_clients_of_the_list_may_call(self):
        server = self.secure("--tls-client-ca", self.ca.certificate, "--tls-client-auth", "optional",
                             "--tls-client-name", "*.ops.example")
        self.answered(server, pair=self.alice)
        self.refused("the client 'bob.by-common-name' is not in this server's list", server,
                     pair=self.bob)
        self.refused("this server wants a client certificate", server)
        other = self.secure("--tls-client-ca", self.ca.certificate, "--tls-client-name", "bob.*",
                            "--tls-client-name", "ignored")
        self.answered(other, pair=self.bob)
        # A name beside alternative ones does not count.
        self.refused("'alice.ops.example' is not in", other, pair=self.alice)

    def test_files_that_do_not_fit_are_named_at_the_start(self):
        cases = (
            ("--tls-cert: ", "--tls-cert", self.server[0], "--tls-key", self.renewed[1]),
            ("[tls] key: is missing", "--tls-cert", self.server[0]),
            ("[tls] certificate: is missing", "--tls-key", self.server[1]),
            ("is not PEM", "--tls-cert", "/dev/null", "--tls-key", self.server[1]),
            ("cannot be read", "--tls-cert", self.top / "no", "--tls-key", self.server[1]),
            ("[tls] client_ca: is missing", "--tls-cert", self.server[0], "--tls-key",
             self.server[1], "--tls-client-name", "x"),
            ("--tls-client-auth: without --tls-client-ca", "--tls-cert", self.server[0], "--tls-key",
             self.server[1], "--tls-client-auth", "required"),
        )
        for words, *arguments in cases:
            done = run(PROGRAMS / "reco-coordinator", "--listen", "127.0.0.1:0", *arguments)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(words, done.stderr)

    def test_beyond_loopback_needs_tls_and_client_certificates(self):
        pair = ["--tls-cert", self.server[0], "--tls-key", self.server[1]]
        asked = [*pair, "--tls-client-ca", self.ca.certificate, "--tls-client-auth", "optional"]
        for arguments in ([], pair, asked):
            done = run(PROGRAMS / "reco-coordinator", "--listen", "0.0.0.0:0", *arguments)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("set [tls] certificate, key and client_ca", done.stderr)


class Reload(Case):
    def config(self, **keys):
        file = self.top / f"{self.id()}.ini"
        lines = []
        for name, value in keys.items():
            section, key = name.split("__")
            lines.append(f"[{section}]\n{key} = {value}\n")
        file.write_text("".join(lines))
        return file

    def copy(self, pair):
        """The pair where the server looks, replaced as an operator does: by renaming."""
        for source, name in zip(pair, ("live.crt", "live.key")):
            new = self.top / f"{name}.new"
            shutil.copy(source, new)
            os.replace(new, self.top / name)
        return self.top / "live.crt", self.top / "live.key"

    def served(self, server):
        host, port = server.address.split(":")
        done = run("openssl", "s_client", "-connect", f"{host}:{port}", "-alpn", "h2")
        return re.search(r"subject=CN = (\S+)", done.stdout).group(1)

    def test_a_renewed_certificate_is_taken_over_while_calls_run(self):
        server = self.secure(pair=self.copy(self.server))
        self.assertEqual(self.served(server), "server")
        items = "\n".join(f"text {i}" for i in range(400))
        running = subprocess.Popen(
            [str(PROGRAMS / "reco"), "embed", "text", "-", "--json", "--server", server.address,
             "--tls-ca", str(self.ca.certificate)], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)
        since = len(server.lines)
        self.copy(self.renewed)
        self.touch(server)
        server.wait_for("certificate_loaded", since)
        self.assertEqual(self.served(server), "renewed")
        out, _ = running.communicate(items, timeout=PATIENCE)
        self.assertEqual(running.returncode, 0)
        self.assertEqual(len(out.splitlines()), 400)

        since = len(server.lines)
        (self.top / "live.key").write_text("-----BEGIN nothing\n")
        server.wait_for("certificate_refused", since)
        self.assertEqual(self.served(server), "renewed")  # the old one stays

    def touch(self, server):
        """New connections until one has the new certificate."""
        end = time.monotonic() + PATIENCE
        while self.served(server) != "renewed" and time.monotonic() < end:
            pass

    def test_sighup_takes_lists_limits_and_level_over_or_nothing(self):
        base = dict(tls__certificate=self.server[0], tls__key=self.server[1],
                    tls__client_ca=self.ca.certificate)
        file = self.config(**base, tls__client_names="*.ops.example")
        server = self.start("--config", file)
        self.answered(server, pair=self.alice)
        self.refused("'bob.by-common-name' is not", server, pair=self.bob)

        self.config(**base, tls__client_names="bob.*", limits__message_bytes=65536,
                    log__level="debug", server__data="/elsewhere")
        since = server.reload()
        server.wait_for("config_reloaded", since)
        server.wait_for("config_needs_restart section=server key=data", since)
        self.answered(server, pair=self.bob)
        self.refused("'alice.ops.example' is not", server, pair=self.alice)
        big = "x" * 60000 + "\n" + "y" * 60000 + "\n"
        done = run(PROGRAMS / "reco", "embed", "text", "-", "--server", server.address, "--tls-ca",
                   self.ca.certificate, "--tls-cert", self.bob[0], "--tls-key", self.bob[1],
                   input=big)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("at most 65536 are allowed", done.stderr)

        # One bad line, and nothing of the rest is taken over.
        self.config(**base, tls__client_names="*.ops.example", limits__calls=0)
        since = server.reload()
        self.assertIn("[limits] calls", server.wait_for("config_refused", since))
        self.answered(server, pair=self.bob)
        self.config(**{**base, "tls__key": self.renewed[1]}, tls__client_names="*.ops.example")
        since = server.reload()
        server.wait_for("config_refused", since)
        self.answered(server, pair=self.bob)


class Shard(Case):
    def test_wrong_usage_ends_with_2(self):
        for flags, wanted in ((("--disk-throttle-percent", "95"), "at most --disk-full-percent, which is 92"),
                              (("--query", "ipc:///x"), "'ipc:///x' is no endpoint"),
                              (("--allow", "x"), "'x' is not a public key")):
            run(PROGRAMS / "reco", "keys", "make", self.top / "keys")
            done = run(PROGRAMS / "reco-shard", "--data", self.top / "n", "--keys", self.top / "keys", *flags)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(wanted, done.stderr)


class Up(Case):
    def write(self, client=True):
        path = self.top / "up.ini"
        lines = ["[tls]", f"certificate = {self.server[0]}", f"key = {self.server[1]}",
                 f"client_ca = {self.ca.certificate}", "client_auth = required"]
        if client:
            lines += ["[client]", f"tls_ca = {self.ca.certificate}", f"tls_cert = {self.alice[0]}",
                      f"tls_key = {self.alice[1]}"]
        path.write_text("\n".join(lines) + "\n", encoding="ascii")
        return path

    def test_a_cluster_with_tls_becomes_ready_and_hands_sighup_on(self):
        server = Server("up", "--port", "0", "--data", self.top / "cluster", "--shards", "2",
                        "--config", self.write(), program="reco")
        self.addCleanup(server.stop)
        self.answered(server, pair=self.alice)
        self.refused("", server, tls=False)
        since = server.reload()
        for _ in range(3):  # the coordinator and both shards
            line = server.wait_for("config_reloaded", since)
            since = server.lines.index(line, since) + 1
        self.answered(server, pair=self.alice)

    def test_a_cluster_with_tls_says_that_it_needs_a_client(self):
        done = run(PROGRAMS / "reco", "up", "--port", "0", "--data", self.top / "none",
                   "--config", self.write(client=False))
        self.assertEqual(done.returncode, 2)
        self.assertIn("[client] tls_ca", done.stderr)


class Keys(Case):
    def reco(self, *arguments):
        done = run(PROGRAMS / "reco", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_keys_are_private_and_never_overwritten(self):
        folder = self.top / "made"
        first = self.reco("keys", "make", folder)
        for file in folder.iterdir():
            self.assertEqual(file.stat().st_mode & 0o777, 0o600, file)
        self.assertEqual(self.reco("keys", "make", folder), first)
        self.assertEqual(self.reco("keys", "show", folder), first)
        self.assertEqual(run(PROGRAMS / "reco", "keys", "show", self.top / "none").returncode, 1)

    def test_sighup_lets_a_further_coordinator_in(self):
        keys, further = self.top / "keys", self.top / "further"
        self.reco("keys", "make", keys)
        further.mkdir()
        shutil.copy(keys / "node.public", further)
        self.reco("keys", "make", further)
        self.assertFalse((further / "node.secret").exists())

        config = self.top / "shard.ini"
        config.write_text("")
        node = Server("--data", self.top / "node", "--keys", keys, "--query", "tcp://127.0.0.1:0",
                      "--bulk", "tcp://127.0.0.1:0", "--config", config, program="reco-shard")
        self.addCleanup(node.stop)
        server = self.start("--data", self.top / "data", "--node", node.endpoints, "--keys", further)

        def is_up():
            return '"state":"up"' in self.reco("status", "--json", "--server", server.address)

        self.assertFalse(any(is_up() for _ in range(5)))  # its key is unknown
        config.write_text("[node]\nallow = nonsense\n")
        node.wait_for("config_refused", node.reload())
        config.write_text(f"[node]\nallow = {(further / 'coordinator.public').read_text()}")
        node.wait_for("config_reloaded", node.reload())
        end = time.monotonic() + PATIENCE
        while not is_up():
            self.assertLess(time.monotonic(), end)


def main():
    global PROGRAMS
    PROGRAMS = Path(sys.argv.pop(1))
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])


if __name__ == "__main__":
    main()
