# SPDX-License-Identifier: Apache-2.0
"""Processes for tests: a cluster of `reco up`, waiting, what a process uses."""
import os
import signal
import subprocess
import time
from pathlib import Path


def children(pid):
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def program_of(pid):
    """The name of a living process' program, of which Linux keeps 15 letters; else empty."""
    try:
        name, rest = Path(f"/proc/{pid}/stat").read_text().split("(", 1)[1].rsplit(")", 1)
        return "" if rest.split()[0] == "Z" else name
    except OSError:
        return ""


def is_alive(pid):
    return program_of(pid) != ""


class Cluster:
    """`reco up`, ended with the block."""

    def __init__(self, programs, data, *flags, environment=None, log=None):
        command = [str(Path(programs) / "reco"), "up", "--port", "0", "--data", str(data), *map(str, flags)]
        self.log = open(log, "ab") if log else None
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True,
                                        env={**os.environ, **(environment or {})})
        words = self.process.stdout.readline().split()
        if not words or words[0] != "ready":
            self.process.kill()
            self.process.wait(60)
            raise AssertionError(f"no ready line but {words}: {Path(log).read_text() if log else 'see above'}")
        self.address = words[1]

    def pids(self):
        """The process of the coordinator and those of the shards."""
        return [self.process.pid, *children(self.process.pid)]

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            status = self.process.wait(60)
            assert status == 0, f"reco up ended with {status}"
        if self.log:
            self.log.close()

    def kill(self):
        for pid in reversed(self.pids()):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        if failure[0] and self.process.poll() is None:
            self.kill()
        else:
            self.end()


def poll(condition, seconds):
    """The first true value of condition(), or its last one after `seconds`.

    The only place that polls: other processes' states have no descriptor to wait on.
    """
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > until:
            return value
        time.sleep(0.002)


def wait_for(what, condition, seconds=60):
    """The first true value of condition(); fails after `seconds`, which only a broken program needs."""
    value = poll(condition, seconds)
    if not value:
        raise AssertionError(f"not within {seconds} s: {what}")
    return value


def rss_bytes(pid):
    # AddressSanitizer keeps what was freed, up to 256 MiB of it: the size of such a process says nothing.
    if "libasan" in Path(f"/proc/{pid}/maps").read_text():
        return 0
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid):
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
