#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: a disk that fills up costs no acknowledged record, and everything comes back by itself.

Method: a cluster on a small tmpfs in a mount namespace of its own. The disk is filled by somebody else's
file, once to where ingest is slowed down and refused, and three times to the last byte while
single records and a bulk load are written. Each time: what was refused says why, searches and
deletions go on, a memory can be dropped, and writes resume without a restart once the file is
gone. At the end every record is looked up, also after kill -9.
Exit status 77 where no file system may be mounted.

usage: disk_full.py PROGRAM_DIR
"""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from pathlib import Path

from front import Failure, Front
from procs import Cluster, poll, wait_for

MOUNT_BYTES = 512 << 20
DIMENSION = 512
RECORDS = 256  # of one message
RATE_BYTES = 8 << 20  # NODE_THROTTLE_BYTES
RELEASED_PERCENT = 87


def enter_namespace(folder):
    """Starts this script again where it may mount."""
    if "DISK_FULL_MOUNT" in os.environ:
        return
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c",
               f'mount -t tmpfs -o size={MOUNT_BYTES} none "$0" && exec "$@"', folder, sys.executable, *sys.argv]
    probe = ["unshare", "-m", "--propagation", "private", "mount", "-t", "tmpfs", "none", folder]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True, check=False).returncode:
        print("skipped: this user may not mount a file system of its own")
        sys.exit(77)
    done = subprocess.run(command, env={**os.environ, "DISK_FULL_MOUNT": folder}, check=False)
    sys.exit(done.returncode)


class Filler:
    """Somebody else's file."""

    def __init__(self, mount):
        self.path = Path(mount) / "somebody-elses"
        self.mount = mount

    def percent(self):
        disk = os.statvfs(self.mount)
        used = disk.f_blocks - disk.f_bfree
        return 100 * used / (used + disk.f_bavail)

    def fill(self, percent):
        chunk = bytes(1 << 20)
        with open(self.path, "ab", buffering=0) as file:
            while self.percent() < percent:
                try:
                    file.write(chunk)
                except OSError:
                    chunk = chunk[:len(chunk) // 2]
                    if not chunk:
                        return

    def stay_full(self, until):
        while not until.is_set():
            self.fill(100)
            until.wait(0.02)

    def empty(self):
        self.path.unlink(missing_ok=True)


class Writer:
    """Writes records and knows which were acknowledged, were perhaps stored, and were deleted."""

    def __init__(self, front):
        self.front = front
        self.random = random.Random(4)
        self.vectors = [array("f", (self.random.gauss(0, 1) for _ in range(DIMENSION))).tolist()
                        for _ in range(8)]
        self.next = 0
        self.acknowledged = {}
        self.gone = set()
        self.perhaps_gone = set()  # named in a deletion that one node refused and another may have done

    def record(self):
        key = f"r{self.next}"
        self.next += 1
        return self.front.message("IngestRecord", key=key, caption=f"caption of {key}",
                                  image_embedding=self.vectors[self.next % 8],
                                  text_embedding=self.vectors[self.next % 7])

    def write(self, memory, count, **more):
        """One stream with one message; all of it counts as acknowledged when it is answered."""
        records = [self.record() for _ in range(count)]
        asked = self.front.message("IngestRequest", memory=memory, records=records, **more)
        reply = self.front.call("Memory", "Ingest", stream=[asked])
        if reply.failed:
            raise RefusedRecords(list(reply.failed_reasons))
        assert reply.stored == count, reply
        self.acknowledged.setdefault(memory, set()).update(record.key for record in records)
        return sum(record.ByteSize() for record in records)

    def delete(self, memory, count):
        keys = sorted(self.acknowledged[memory])[:count]
        try:
            reply = self.front.call("Memory", "Delete", memory=memory, keys=keys)
        except Failure:
            self.perhaps_gone.update(keys)
            raise
        assert reply.deleted + len(reply.missing_keys) == count, reply
        assert self.perhaps_gone.issuperset(reply.missing_keys), reply
        self.acknowledged[memory].difference_update(keys)
        self.gone.update(keys)

    def search(self, memory):
        reply = self.front.call("Search", "Search", embedding={"values": self.vectors[0]},
                                options={"memory": memory, "k": 5})
        assert len(reply.neighbours.ids) == 5 and reply.answer.coverage == 1, reply

    def check(self, memory):
        """Every acknowledged record is there, no deleted one is."""
        keys = sorted(self.acknowledged[memory] - self.perhaps_gone)
        for at in range(0, len(keys), 1000):
            records = [self.front.message("IngestRecord", key=key, image_embedding=self.vectors[0],
                                          text_embedding=self.vectors[0]) for key in keys[at:at + 1000]]
            asked = self.front.message("IngestRequest", memory=memory, records=records, skip_existing=True)
            reply = self.front.call("Memory", "Ingest", stream=[asked])
            assert reply.skipped == len(records), f"{len(records) - reply.skipped} acknowledged records are lost"
        gone = sorted(self.gone)[:1000]
        reply = self.front.call("Memory", "Delete", memory=memory, keys=gone)
        assert reply.deleted == 0 and len(reply.missing_keys) == len(gone), "deleted records came back"


class RefusedRecords(Exception):
    pass


def is_refusal(failure):
    """The words and details of a refusal, judged."""
    assert isinstance(failure, Failure), failure
    assert failure.code == "RESOURCE_EXHAUSTED", failure
    assert "disk" in failure.text, failure
    assert "RetryInfo" in failure.details, failure
    return failure


def write_until_refused(writer, memory):
    bytes_written = 0
    while True:
        try:
            bytes_written += writer.write(memory, RECORDS)
        except Failure as failure:
            return bytes_written, is_refusal(failure)


def resumes(writer, memory):
    def writes():
        try:
            return writer.write(memory, 20)  # some for each node
        except Failure as failure:
            is_refusal(failure)
            return False
    wait_for("writes resume", writes)


def slows_down_then_refuses(writer, filler):
    filler.fill(83)
    began = None
    bytes_written = 0
    while True:
        if began is None and filler.percent() >= 85.5:
            began = time.monotonic()
        try:
            written = writer.write("default", RECORDS)
        except Failure as failure:
            refused = is_refusal(failure)
            break
        bytes_written += written if began else 0
    seconds = time.monotonic() - began
    rate = bytes_written / seconds
    assert "92 %" in refused.text and "87 %" in refused.text, refused
    # Two nodes; what they count, rows of halves, is about half of the bytes that are sent here.
    assert rate < 1.3 * 2 * 2 * RATE_BYTES, f"{rate / 2**20:.1f} MiB/s between 85 and 92 % full"
    writer.search("default")
    writer.delete("default", 10)
    began = time.monotonic()
    writer.delete("default", 200)
    assert time.monotonic() - began < 5, "deletions are not slowed down"
    filler.empty()
    assert filler.percent() < RELEASED_PERCENT
    resumes(writer, "default")
    print(f"ok   85 %: {rate / 2**20:.1f} MiB of messages a second; 92 %: refused; then it resumes")


def survives_no_space(writer, filler, round_number):
    name = f"dropped-{round_number}"
    writer.front.call("Memory", "Create", name=name, space=f"test:{DIMENSION}")
    writer.write(name, 20)
    ended = threading.Event()
    full = threading.Thread(target=filler.stay_full, args=(ended,))
    full.start()
    try:
        write_until_refused(writer, "default")
        writer.search("default")
        # The first deletion may come before the node has given up its reserve.
        deleted = poll(lambda: deletes(writer), 5)
        writer.search("default")
    finally:
        ended.set()
        full.join()
    filler.empty()
    resumes(writer, "default")
    writer.delete("default", 10)
    writer.front.call("Memory", "Drop", name=name)
    return deleted


def deletes(writer):
    try:
        writer.delete("default", 10)
        return True
    except Failure as failure:
        is_refusal(failure)
        return False


def drops_on_a_full_disk(writer, filler):
    """The disk is full, but nobody takes what is given back."""
    writer.front.call("Memory", "Create", name="large", space=f"test:{DIMENSION}")
    for _ in range(10):
        writer.write("large", RECORDS)
    filler.fill(100)
    write_until_refused(writer, "default")
    wait_for("deletions on a full disk", lambda: attempt(lambda: writer.delete("default", 10)))
    writer.search("default")
    wait_for("a drop on a full disk", lambda: attempt(lambda: writer.front.call("Memory", "Drop", name="large")))
    filler.empty()
    resumes(writer, "default")
    print("ok   100 %: deletes and drops")


def attempt(action):
    try:
        action()
        return True
    except Failure as failure:
        assert failure.code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"), failure
        return False


def bulk_load_meets_no_space(writer, filler):
    front = writer.front
    front.call("Memory", "Create", name="built", space=f"test:{DIMENSION}", building=True)
    filler.fill(84)
    ended = threading.Event()
    full = threading.Thread(target=filler.stay_full, args=(ended,))
    keys = []

    def messages(then_full):
        for number in range(24):
            records = [writer.record() for _ in range(RECORDS)]
            keys.extend(record.key for record in records)
            yield front.message("IngestRequest", memory="built", records=records)
            if number == 4 and then_full:
                full.start()
    try:
        front.call("Memory", "Ingest", stream=messages(True))
        raise AssertionError("a bulk load on a full disk was acknowledged")
    except Failure as failure:
        assert failure.code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"), failure
    finally:
        ended.set()
        if full.ident:
            full.join()
    writer.search("default")
    filler.empty()
    resumes(writer, "default")
    reply = front.call("Memory", "Ingest", stream=messages(False))
    assert reply.failed == 0 and reply.stored == 24 * RECORDS, reply
    front.call("Memory", "Ingest", stream=[front.message("IngestRequest", memory="built", finish=True)])
    writer.acknowledged["built"] = set(keys[-24 * RECORDS:])
    writer.check("built")
    front.call("Memory", "Drop", name="built")
    print("ok   a bulk load that meets a full disk says so, and another one follows")


def written(writer):
    try:
        writer.write("default", 3)
        return True
    except (Failure, RefusedRecords):
        return False


def main():
    programs = Path(sys.argv[1]).resolve()
    if "DISK_FULL_MOUNT" not in os.environ:
        with tempfile.TemporaryDirectory(prefix="reco-disk-") as folder:
            enter_namespace(folder)
    mount = Path(os.environ["DISK_FULL_MOUNT"])
    filler = Filler(mount)
    log = os.environ.get("DISK_FULL_LOG")
    with Cluster(programs, mount / "data", "--shards", 2, log=log) as cluster:
        pids = cluster.pids()
        front = Front(cluster.address)
        writer = Writer(front)
        front.call("Memory", "Create", name="default", space=f"test:{DIMENSION}")
        writer.write("default", 600)
        slows_down_then_refuses(writer, filler)
        deleted = [survives_no_space(writer, filler, i) for i in range(3)]
        print(f"ok   three times without any space; deletions meanwhile: {deleted}")
        drops_on_a_full_disk(writer, filler)
        bulk_load_meets_no_space(writer, filler)
        writer.check("default")
        assert cluster.pids() == pids, "a process was restarted"
        front.close()
        cluster.kill()
    with Cluster(programs, mount / "data", "--shards", 2, log=log) as cluster:
        writer.front = Front(cluster.address)
        writer.check("default")
        writer.search("default")
        writer.front.close()
    print(f"ok   {len(writer.acknowledged['default'])} acknowledged records are there after kill -9")
    filler.fill(100)  # while nobody is here
    with Cluster(programs, mount / "data", "--shards", 2, log=log) as cluster:
        writer.front = Front(cluster.address)
        writer.check("default")
        writer.search("default")
        filler.empty()
        wait_for("writes are taken", lambda: written(writer))
        writer.check("default")
        writer.front.close()
    print("ok   starts on a full disk, answers, and writes once there is room")


main()
