# SPDX-License-Identifier: Apache-2.0
"""Takes turns between a bench program and a peer, on one core, and prints the ratio.

Both run on the same core, never at the same time: a round is one pass of each, in
alternating order, so that what else the machine does hits both alike. The ratio of each
round is what is compared, not the ratio of two averages.
"""
import os
import statistics
import subprocess
import time


class Bench:
    """A bench program that makes one pass for each line it reads."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self.process.stdout.readline().split()
        if not self.ready or self.ready[0] != "ready":
            raise SystemExit("%s did not start" % command[0])

    def run(self):
        """Makes a pass; returns its seconds and its check value."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        ns, check = self.process.stdout.readline().split()
        return int(ns) * 1e-9, int(check)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def pin():
    """Keeps this process and those it starts on one core."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})


def compare(name, bench, peer, rounds):
    """Runs rounds of bench.run() and peer(); prints and returns the median ratio of times, peer / bench."""
    ours, theirs = [], []
    for i in range(rounds + 2):
        for turn in (0, 1) if i % 2 == 0 else (1, 0):
            if turn == 0:
                seconds = bench.run()[0]
                if i >= 2:  # the first two rounds warm caches
                    ours.append(seconds)
            else:
                start = time.perf_counter()
                peer()
                if i >= 2:
                    theirs.append(time.perf_counter() - start)
    ratios = sorted(b / a for a, b in zip(ours, theirs))
    tenth = len(ratios) // 10
    print("%-34s ours %9.3f ms  peer %9.3f ms  ratio %6.2f  (10 %% to 90 %% of %d rounds: %.2f to %.2f)" % (
        name, statistics.median(ours) * 1e3, statistics.median(theirs) * 1e3,
        statistics.median(ratios), len(ratios), ratios[tenth], ratios[-1 - tenth]), flush=True)
    return statistics.median(ratios)
