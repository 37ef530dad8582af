#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: what `cmake --install` puts down is all that a user needs, wherever it comes to lie.

Method: installs the build into a temporary prefix, and again with DESTDIR for a package; moves
the prefix; then asks the demo's question and runs a cluster from there with an empty environment
and another working folder. man, systemd-analyze and mandoc judge their files where they are installed.

usage: install.py CMAKE BUILD_DIR [TEST ...]
"""
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

CMAKE = BUILD = None  # set by main()
SOURCE = Path(__file__).resolve().parents[2]
EXPOSURE_MAX = 20  # tenths; systemd-analyze security tells 1.2 and 1.3
EXPECTED = """
    bin/reco bin/reco-coordinator bin/reco-encoder bin/reco-shard
    etc/reco/reco.example.ini etc/reco/reco-coordinator.example.ini etc/reco/reco-shard.example.ini
    lib/systemd/system/reco.service lib/systemd/system/reco-coordinator.service
    lib/systemd/system/reco-shard@.service
    share/bash-completion/completions/reco share/zsh/site-functions/_reco
    share/fish/vendor_completions.d/reco.fish
    share/doc/reco/README.md share/doc/reco/LICENSE share/doc/reco/proto/reco.proto
    share/doc/reco/deploy/README.md
    share/reco/models/reco-tiny/model.safetensors share/reco/models/reco-tiny/README.md
    share/reco/demo/memory.tar.gz share/reco/demo/labels-c.txt share/reco/demo/README.md
    share/reco/demo/anchor.fluent-emoji.png
    share/man/man1/reco.1 share/man/man1/reco-memory-build.1
    share/man/man8/reco-coordinator.8 share/man/man8/reco-shard.8
    share/man/man5/reco.ini.5 share/man/man5/reco-coordinator.ini.5 share/man/man5/reco-shard.ini.5
""".split()


def install(prefix, destdir=None):
    """Installs with `prefix`, below `destdir` when there is one."""
    env = {**os.environ, "DESTDIR": str(destdir)} if destdir else os.environ
    done = subprocess.run([CMAKE, "--install", BUILD, "--prefix", prefix], env=env, text=True,
                          capture_output=True, check=False)
    if done.returncode:
        raise AssertionError(done.stdout + done.stderr)


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.top = Path(tempfile.mkdtemp(prefix="reco-install-"))
        cls.addClassCleanup(shutil.rmtree, cls.top, True)
        cls.first = cls.top / "first"
        install(cls.first)
        cls.installed = files_below(cls.first)
        cls.units = {path.name: path.read_text() for path in (cls.first / "lib/systemd/system").iterdir()}
        cls.prefix = cls.top / "moved to"
        cls.first.rename(cls.prefix)

    def run_there(self, *words, **named):
        """A program of the moved prefix, with nothing of this tree within reach."""
        work = self.top / "work"
        work.mkdir(exist_ok=True)
        done = subprocess.run([self.prefix / "bin" / words[0], *map(str, words[1:])], cwd=work, text=True,
                              capture_output=True, check=False, timeout=300,
                              env={"PATH": "/usr/bin:/bin", "HOME": str(work)}, **named)
        self.assertEqual(done.returncode, 0, f"{words}: {done.stderr}")
        return done.stdout

    def test_everything_is_there_and_nothing_of_the_build(self):
        self.assertEqual([path for path in EXPECTED if path not in self.installed], [])
        for path in self.installed:
            file = self.prefix / path
            if not path.startswith("bin/") and file.suffix not in (".gz", ".safetensors", ".png"):
                self.assertNotIn(str(BUILD), file.read_text(), path)
                self.assertNotIn(str(SOURCE), file.read_text(), path)

    def test_the_demo_answers_from_a_moved_prefix(self):
        demo = self.prefix / "share/reco/demo"
        self.run_there("reco", "memory", "build", "default", demo / "memory.tar.gz")
        line = json.loads(self.run_there("reco", "classify", demo / "anchor.fluent-emoji.png", "--labels",
                                         demo / "labels-c.txt", "-k", "5", "--json"))
        self.assertEqual(line["refined"][0]["label"], "anchor")
        self.assertNotEqual(line["plain"][0]["label"], "anchor")
        model = self.run_there("reco", "embed", "text", "anchor", "--json", "--model",
                               self.prefix / "share/reco/models/reco-tiny")
        self.assertEqual(model, self.run_there("reco", "embed", "text", "anchor", "--json"))

    def test_a_cluster_starts_from_a_moved_prefix(self):
        work = self.top / "cluster"
        cluster = subprocess.Popen([self.prefix / "bin/reco", "up", "--shards", "2", "--port", "0", "--data", work],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=self.top,
                                   env={"PATH": "/usr/bin:/bin"})
        try:
            address = cluster.stdout.readline().split()[1]
            status = json.loads(self.run_there("reco", "status", "--json", "--server", address))
            self.assertEqual(len(status["nodes"]), 2)
        finally:
            cluster.terminate()
            self.assertEqual(cluster.wait(60), 0)
            cluster.stdout.close()

    def test_a_package_has_the_same_files_and_names_where_they_will_be(self):
        staged = self.top / "staged"
        install("/opt/reco", destdir=staged)
        self.assertEqual(files_below(staged / "opt/reco"), self.installed)
        self.assertEqual(files_below(staged), [f"opt/reco/{path}" for path in self.installed])
        for name, text in self.units.items():
            there = (staged / "opt/reco/lib/systemd/system" / name).read_text()
            self.assertEqual(there, text.replace(str(self.first), "/opt/reco"))
            self.assertIn("ExecStart=/opt/reco/bin/reco", there)
            self.assertNotIn("/usr/local", there)

    def test_units_are_right_and_hardened(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("systemd-analyze is not installed")
        again = self.top / "for-systemd"
        install(again)
        units = sorted((again / "lib/systemd/system").iterdir())
        env = {**os.environ, "MANPATH": str(again / "share/man"), "SYSTEMD_LOG_LEVEL": "notice"}
        for unit in units:
            name = unit.name.replace("@.", "@0.")
            done = subprocess.run(["systemd-analyze", "verify", unit.with_name(name)], text=True, env=env,
                                  capture_output=True, check=False)
            told = [line for line in done.stderr.splitlines() if str(again) in line or "reco" in line]
            self.assertEqual((done.returncode, told), (0, []), unit.name)
            done = subprocess.run(["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}",
                                   unit], text=True, capture_output=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout[-400:])

    def test_the_units_commands_run_with_the_files_of_the_readme(self):
        top = self.top / "units"
        top.mkdir()
        text = (self.prefix / "share/doc/reco/deploy/README.md").read_text()
        ports = {7700: 0}
        with contextlib.ExitStack() as held:
            for port in range(7710, 7714):
                free = held.enter_context(socket.socket())
                free.bind(("127.0.0.1", 0))
                ports[port] = free.getsockname()[1]

        def here(said):
            for path, place in (("/usr/local/etc/reco", top), ("/usr/local/bin", self.prefix / "bin"),
                                ("/var/lib/reco", top)):
                said = said.replace(path, str(place))
            return re.sub(r":(77\d\d)\b", lambda found: f":{ports[int(found[1])]}", said)

        for block in re.findall(r"(?:^    .*\n)+", text, re.M):
            lines = [line[4:] for line in block.splitlines()]
            if lines[0].startswith("# /usr/local/etc/reco/"):
                listed = "\n".join(lines[1:])
                if "endpoints" not in listed:
                    listed = re.sub(r"^count = 2$", "endpoints = " + " ".join(
                        f"tcp://127.0.0.1:{7710 + 2 * i},tcp://127.0.0.1:{7711 + 2 * i}" for i in (0, 1)), listed,
                                    flags=re.M)
                Path(here(lines[0][2:])).write_text(here(listed) + "\n")

        def start(unit, instance):
            command = re.search(r"^ExecStart=(.*)$", self.units[unit].replace(str(self.first), "/usr/local"), re.M)
            words = [here(word.replace("%i", instance)) for word in command[1].split()]
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            line = process.stdout.readline()
            self.assertTrue(line.startswith("ready "), f"{words}: {line!r}")
            return process, line.split()[1]

        running = []
        try:
            coordinator, address = start("reco-coordinator.service", "")
            running.append(coordinator)
            for i in "01":
                running.append(start("reco-shard@.service", i)[0])
            until = time.monotonic() + 60
            states = []
            while states != ["up", "up"]:  # the coordinator greets its nodes again and again
                self.assertLess(time.monotonic(), until, states)
                status = json.loads(self.run_there("reco", "status", "--json", "--server", address))
                states = [node["state"] for node in status["nodes"]]
            photos = top / "photos"
            photos.mkdir()
            shutil.copy(self.prefix / "share/reco/demo/anchor.fluent-emoji.png", photos / "a.png")
            (photos / "a.txt").write_text("an anchor")
            self.run_there("reco", "memory", "build", "m", photos, "--server", address)
            line = json.loads(self.run_there("reco", "memory", "info", "m", "--json", "--server", address))
            self.assertEqual((line["records"], line["degraded"]), (1, []))
        finally:
            for process in running:
                process.terminate()
            for process in running:
                self.assertEqual(process.wait(60), 0)
                process.stdout.close()

    def test_pages_are_found_by_man(self):
        if not shutil.which("man"):
            self.skipTest("man is not installed")
        for page in ("reco", "reco-memory-build"):
            done = subprocess.run(["man", "-M", self.prefix / "share/man", page], text=True, check=False,
                                  capture_output=True, env={**os.environ, "MANPAGER": "cat", "MANWIDTH": "80"})
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stdout, re.compile("synopsis", re.I))


def main():
    global CMAKE, BUILD
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    CMAKE, BUILD = sys.argv[1], Path(sys.argv[2]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)


if __name__ == "__main__":
    main()
