#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`reco up`: children kept running and none left behind.

usage: cli_up.py PROGRAM_DIR [CLASS[.test] ...]

Goal: whatever is killed, the cluster comes back with what was built; a start that cannot succeed ends.

Method: cli.py's, which says what the tests of the command line share.
"""
import json
import os
import signal
import socket
import subprocess

import cli
from cli import IMAGES, PATIENCE, Case, make_folder, same_but_for_time
from procs import is_alive, wait_for


class Up(Case):
    def test_sigterm_ends_everything_with_status_0(self):
        cluster = self.start("--shards", "3")
        children = cluster.children()
        self.assertEqual({name: len(pids) for name, pids in children.items()},
                         {"reco-shard": 3, "reco-coordinato": 1})
        self.assertEqual(cluster.stop(), 0)
        self.assertFalse([pid for pids in children.values() for pid in pids if is_alive(pid)])
        self.assertEqual(self.lines("status", "--data", self.data)[0]["state"], "free")

    def test_what_was_built_is_there_after_a_restart_and_for_a_lone_verb(self):
        cluster = self.start("--shards", "2")
        folder = make_folder(self.top / "photos", IMAGES[:10])
        self.run_ok("memory", "build", "m", folder, "--server", cluster.address)
        asked = ("search", "--image", IMAGES[0], "-m", "m")
        first = same_but_for_time(self.lines(*asked, "--server", cluster.address))
        self.assertEqual(cluster.stop(), 0)
        self.assertEqual(same_but_for_time(self.lines(*asked, "--data", self.data)), first)
        cluster = self.start()  # as many as the directory has
        self.assertEqual(len(cluster.children()["reco-shard"]), 2)
        self.assertEqual(same_but_for_time(self.lines(*asked, "--server", cluster.address)), first)
        self.assertEqual(cluster.stop(), 0)

    def test_a_killed_child_is_started_again(self):
        cluster = self.start("--shards", "2")
        folder = make_folder(self.top / "photos", IMAGES[:10])
        self.run_ok("memory", "build", "m", folder, "--server", cluster.address)
        for name in ("reco-shard", "reco-coordinato"):
            victim = cluster.children()[name][0]
            os.kill(victim, signal.SIGKILL)
            wait_for("the next one runs", lambda: victim not in cluster.children().get(name, [victim]))
            self.wait_until_whole(cluster, "m")
        self.assertEqual(len(cluster.children()["reco-shard"]), 2)
        self.assertEqual(cluster.stop(), 0)

    def test_classify_goes_on_when_the_coordinator_was_started_again_meanwhile(self):
        cluster = self.start()
        self.run_ok("memory", "build", "default", make_folder(self.top / "photos", IMAGES[:10]), "--server",
                    cluster.address)
        labels = self.top / "labels.txt"
        labels.write_text("penguin\noctopus\n")
        classify = subprocess.Popen(
            [str(cli.PROGRAMS / "reco"), "classify", "-", "--labels", str(labels), "--server", cluster.address,
             "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        answers = []
        for _ in range(2):
            classify.stdin.write(f"{IMAGES[0]}\n")
            answers.append(json.loads(classify.stdout.readline()))
            victim = cluster.children()["reco-coordinato"][0]
            os.kill(victim, signal.SIGKILL)
            wait_for("the coordinator ends", lambda: not is_alive(victim))
            self.wait_until_whole(cluster, "default")
        classify.stdin.close()
        self.assertEqual(classify.wait(PATIENCE), 0)
        classify.stdout.close()
        self.assertEqual(*same_but_for_time(answers))
        self.assertEqual(cluster.stop(), 0)

    def test_kill_9_of_the_supervisor_leaves_no_orphan(self):
        cluster = self.start("--shards", "2")
        children = [pid for pids in cluster.children().values() for pid in pids]
        self.assertEqual(len(children), 3)
        cluster.kill()
        wait_for("the children end", lambda: not any(map(is_alive, children)))
        again = self.start()
        self.assertEqual(again.stop(), 0)

    def test_sighup_reaches_every_child(self):
        config = self.top / "reco.ini"
        config.write_text("[log]\nlevel = info\n")
        cluster = self.start("--shards", "2", "--config", config)
        children = cluster.children()
        cluster.process.send_signal(signal.SIGHUP)
        wait_for("all have read it again", lambda: cluster.read_log().count("config_reloaded") == 3)
        self.assertEqual(cluster.children(), children)
        self.assertEqual(cluster.stop(), 0)

    def test_a_second_one_and_another_number_of_shards_are_refused(self):
        cluster = self.start("--shards", "2")
        self.refused(1, str(self.data), "up", "--port", "0", "--data", self.data)
        self.assertEqual(cluster.stop(), 0)
        self.refused(1, "2", "up", "--port", "0", "--shards", "3", "--data", self.data)
        self.refused(2, "--shards: '33'", "up", "--shards", "33", "--data", self.data)

    def test_a_taken_port_is_named(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            if port > 65423 + 10:
                self.skipTest("the kernel picked a port too high for --port")
            self.refused(1, f"127.0.0.1:{port} is taken", "up", "--port", min(port, 65423) if port <= 65423
                         else port - 10, "--data", self.data)
            self.refused(1, f"127.0.0.1:{port} is taken", "up", "--port", port - 10, "--data", self.data)
            self.assertFalse(self.data.exists(), "it would fix the number of shards")

    def test_a_start_that_cannot_succeed_ends(self):
        self.refused(1, "reco-coordinator ended", "up", "--port", "0", "--data", self.data, "--model",
                     self.top / "no-model")


if __name__ == "__main__":
    cli.main()
