#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds that are interrupted.

usage: cli_resume.py PROGRAM_DIR [CLASS[.test] ...]

Goal: a build survives kill -9 and Ctrl-C: the same command goes on, stores nothing twice and loses
nothing that was called safe.

Method: cli.py's, which says what the tests of the command line share.
"""
import re
import signal
import subprocess

import cli
from cli import IMAGES, PATIENCE, Case, caption_of, make_folder, make_many


class Resume(Case):
    COUNT = 2200  # more than two streams of 1,024

    def kill_at(self, words, *arguments):
        """Kills a build when it says the words; the records that it called safe last."""
        build = subprocess.Popen([str(cli.PROGRAMS / "reco"), *map(str, arguments), "--verbose"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        safe = 0
        for line in build.stderr:
            safe = int((re.findall(r"(\d+) records are safe", line) or [safe])[0])
            if words in line:
                build.kill()
                break
        build.wait(PATIENCE)
        build.stderr.close()
        self.assertEqual(build.returncode, -signal.SIGKILL, f"'{words}' was never said")
        return safe

    def interrupt(self, *place):
        """Kills a build at its begin, after one stream and again; the memory must be whole, each record once."""
        folder = make_many(self.top / "many", self.COUNT)
        build = ("memory", "build", "m", folder, *place)
        self.kill_at("writing to", *build)
        safe = self.kill_at("records are safe", *build)
        self.assertGreaterEqual(self.lines("memory", "info", "m", *place)[0]["records"], safe)
        self.assertEqual(self.lines("memory", "info", "m", *place)[0]["state"], "building")
        self.refused(1, "the same command goes on with one that was interrupted", "search", "--text", "x", "-m", "m",
                     *place)
        self.kill_at("2048 records are safe", *build)
        report = self.lines(*build)[-1]
        self.assertEqual((report["records"], report["skipped"]), (self.COUNT, 0))
        self.assertGreaterEqual(report["resumed"], 2048)
        self.assertEqual(report["stored"], self.COUNT - report["resumed"])
        self.assertEqual(self.lines("memory", "info", "m", *place)[0]["state"], "serving")
        for i in (0, 1, self.COUNT // 2, self.COUNT - 1):
            text = f"{caption_of(IMAGES[i % len(IMAGES)])} number {i}"
            found = self.lines("search", "--text", text, "-m", "m", "-k", "256", *place)[0]["neighbours"]
            self.assertEqual([n["caption"] for n in found].count(text), 1)

    def test_ctrl_c_says_that_the_same_command_goes_on(self):
        folder = make_many(self.top / "many", self.COUNT)
        build = subprocess.Popen([str(cli.PROGRAMS / "reco"), "memory", "build", "m", str(folder), "-v", "--data",
                                  str(self.data)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in build.stderr:
            if "writing to" in line:
                build.send_signal(signal.SIGINT)
                break
        self.assertIn("interrupted; what is stored stays, and the same command goes on", build.stderr.read())
        self.assertEqual(build.wait(PATIENCE), -signal.SIGINT)
        build.stderr.close()

    def test_a_build_that_was_killed_goes_on_and_stores_nothing_twice(self):
        self.interrupt("--data", self.data)

    def test_a_build_into_a_server_goes_on_after_the_client_was_killed(self):
        cluster = self.start("--shards", "2")
        self.interrupt("--server", cluster.address)
        self.assertEqual(cluster.stop(), 0)

    def test_an_interrupted_replacement_leaves_the_old_generation_serving(self):
        place = ("--data", self.data)
        self.run_ok("memory", "build", "m", make_folder(self.top / "old", IMAGES[:5]), *place)
        build = ("memory", "build", "m", make_many(self.top / "many", self.COUNT), "--replace", *place)
        self.kill_at("records are safe", *build)
        info = self.lines("memory", "info", "m", *place)[0]
        self.assertEqual((info["generation"], info["records"]), (1, 5))
        report = self.lines(*build)[-1]
        self.assertEqual((report["generation"], report["records"]), (2, self.COUNT))
        self.assertGreaterEqual(report["resumed"], 1024)


if __name__ == "__main__":
    cli.main()
