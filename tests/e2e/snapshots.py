#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Snapshots of memories as a user makes and uses them.

usage: snapshots.py PROGRAM_DIR [CLASS[.test] ...]

Goal: a memory goes from one cluster to another and answers there as it did, bit for bit; a server
writes and reads only below its own folder; what kill -9 or a full disk leaves is never seen, and the
same command works afterwards.

Method: the real programs, one and four shards; kills while files and states say that work is under
way. Python's standard library only; without the right to mount, no full disk.
"""
import shutil
import signal
import subprocess

import cli
from cli import IMAGES, Case, make_folder, make_rows, on_small_disk, reco, same_but_for_time
from procs import wait_for

ROWS = 40000  # of a memory that takes long enough to be killed over
PROMPTS = ("penguin", "rocket", "octopus")


def bytes_below(folder):
    """On the disk; files come and go meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += 512 * path.stat().st_blocks
        except FileNotFoundError:
            pass
    return total


class Snapshots(Case):
    def answers(self, *place):
        """Of searches, refinements and a classification, without what differs from call to call."""
        lines = []
        labels = self.top / "labels.txt"
        labels.write_text("\n".join(PROMPTS))
        for prompt in PROMPTS:
            lines += self.lines("search", "--text", prompt, "-m", "m", *place)
            lines += self.lines("refine", "--text", prompt, "-m", "m", *place)
        for image in IMAGES[::16]:
            lines += self.lines("classify", image, "-m", "m", "--labels", labels, *place)
        return same_but_for_time(lines)

    def content_hash(self, *place):
        return self.lines("memory", "info", "m", "--hash", *place)[0]["content_hash"]

    def test_one_shard_four_shards_and_back_answer_alike(self):
        local = ("--data", self.data)
        self.run_ok("memory", "build", "m", make_folder(self.top / "photos"), *local)
        self.run_ok("memory", "hide", "m", "penguin/noto", *local)
        self.run_ok("memory", "add", "m", "--key", "tagged", "--image", IMAGES[0], "--caption", "x", "--tag", "t", *local)
        wanted = self.answers(*local)
        saved = self.lines("memory", "snapshot", "m", self.top / "one", *local)[0]
        self.assertEqual((saved["records"], saved["content_hash"]), (len(IMAGES) + 1, self.content_hash(*local)))

        cluster = self.start("--shards", "4", data=self.top / "four")
        served = ("--server", cluster.address)
        shutil.copytree(self.top / "one", self.top / "four" / "snapshots" / "one")
        back = self.lines("memory", "restore", "one", *served)[0]
        self.assertEqual((back["memory"], back["content_hash"]), ("m", saved["content_hash"]))
        self.assertEqual(self.answers(*served), wanted)
        self.assertEqual(self.content_hash(*served), saved["content_hash"])
        self.run_ok("memory", "snapshot", "m", "two", *served)
        third = ("--data", self.top / "third")
        self.run_ok("memory", "restore", self.top / "four" / "snapshots" / "two", *third)
        self.assertEqual(self.answers(*third), wanted)
        tagged = self.lines("search", "--image", IMAGES[0], "-m", "m", "--filter", "tag=t", *third)[0]
        self.assertEqual([one["key"] for one in tagged["neighbours"]], ["tagged"])
        self.assertEqual(self.lines("memory", "info", "m", *third)[0]["hidden"], 1)

    def test_a_server_stays_below_its_folder(self):
        cluster = self.start("--shards", "1")
        served = ("--server", cluster.address)
        self.run_ok("memory", "build", "m", make_folder(self.top / "photos", IMAGES[:4]), *served)
        outside = self.top / "outside"
        for name in ("../out", "..", ".", "a/b", outside, ".hidden", "", "a\nb", "-x"):
            for verb in (("snapshot", "--", "m", name), ("restore", "--", name)):
                done = reco("memory", verb[0], *served, *verb[1:])
                self.assertIn(done.returncode, (1, 2), f"{verb}: {done.stdout}")
                self.assertIn("directory", done.stderr)
        self.assertFalse((self.data / "snapshots").exists())
        self.run_ok("memory", "snapshot", "m", "good", *served)
        outside.mkdir()
        (self.data / "snapshots" / "link").symlink_to(outside)
        self.refused(1, "link", "memory", "snapshot", "m", "link", *served)
        self.assertEqual(list(outside.iterdir()), [])
        shutil.copytree(self.data / "snapshots" / "good", outside, dirs_exist_ok=True)
        self.refused(1, "link", "memory", "restore", "link", "n", *served)
        self.refused(1, "has a snapshot already", "memory", "snapshot", "m", "good", *served)
        self.refused(1, "gone", "memory", "restore", "gone", "n", *served)

    def test_a_folder_of_the_configuration_is_the_one(self):
        folder = self.top / "backup"
        (self.top / "reco.ini").write_text(f"[snapshots]\ndirectory = {folder}\n")
        cluster = self.start("--shards", "1", "--config", self.top / "reco.ini")
        served = ("--server", cluster.address)
        self.run_ok("memory", "build", "m", make_folder(self.top / "photos", IMAGES[:4]), *served)
        self.run_ok("memory", "snapshot", "m", "monday", *served)
        self.assertTrue((folder / "monday" / "manifest.json").exists())
        self.run_ok("memory", "restore", "monday", "n", *served)

    def kill_when(self, condition, *arguments):
        """True when it was killed, False when it was faster."""
        process = subprocess.Popen([str(cli.PROGRAMS / "reco"), *map(str, arguments)], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        wait_for("it is time", lambda: process.poll() is not None or condition())
        process.kill()
        return process.wait(cli.PATIENCE) == -signal.SIGKILL

    def test_what_kill_leaves_is_not_seen_and_the_command_works_again(self):
        place = ("--data", self.data)
        snap = self.top / "snap"
        self.run_ok("memory", "build", "m", make_rows(self.top / "rows", ROWS), "--space", "rows:8", *place)
        wanted = self.content_hash(*place)
        killed = 0
        for more in (0, 100_000, 1_000_000):  # bytes on disk
            shutil.rmtree(snap, ignore_errors=True)
            first = snap / "records-0.bin"
            killed += self.kill_when(lambda: first.exists() and first.stat().st_size >= more,
                                     "memory", "snapshot", "m", snap, *place)
            if not (snap / "manifest.json").exists():
                self.refused(1, "manifest.json", "memory", "restore", snap, "n", *place)
                self.run_ok("memory", "snapshot", "m", snap, *place)
        self.assertGreater(killed, 0)

        meta = self.data / "meta.json"
        killed = 0
        for steps in (0, 1, 4):  # by which the data has grown, some megabytes each
            sizes = set()

            def is_time():
                if "restoring" in meta.read_text():
                    sizes.add(bytes_below(self.data))
                return len(sizes) > steps
            killed += self.kill_when(is_time, "memory", "restore", snap, "n", *place)
            states = {one["memory"]: one["state"] for one in self.lines("memory", "list", *place)}
            if states.get("n") == "serving":
                self.run_ok("memory", "drop", "n", *place)
            else:
                self.refused(1, "n", "search", "--text", "x", "-m", "n", *place)
        self.assertGreater(killed, 0)
        back = self.lines("memory", "restore", snap, "n", *place)[0]
        self.assertEqual((back["records"], back["content_hash"]), (ROWS, wanted))
        self.assertEqual(len(self.lines("memory", "list", *place)), 2)  # nothing is left over
        self.assertEqual(self.content_hash(*place), wanted)

    def test_a_full_disk_is_said_and_leaves_nothing(self):
        mount = self.top / "disk"
        mount.mkdir()
        place = ("--data", self.data)
        self.run_ok("memory", "build", "m", make_rows(self.top / "rows", 20000), "--space", "rows:8", *place)
        done = on_small_disk(self, mount, "200k", "memory", "snapshot", "m", mount / "snap", *place)
        self.assertEqual(done.stdout.split(), ["1", f"{mount}:"])
        self.assertIn("records-0.bin", done.stderr)
        self.assertIn("No space left on device", done.stderr)


if __name__ == "__main__":
    cli.main()
