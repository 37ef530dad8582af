#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares `reco memory build` from arrays with writing as many bytes to one file.

usage: bulk_load.py RECO FOLDER [--rows N] [--dimension D] [--type f2|f4] [--rounds N] [--no-captions]

FOLDER lies on the disk that is measured; everything is made in a folder of its own within
it and removed at the end. It needs room for the arrays and twice the store. A round is a
build into an empty data directory by one process with one shard, and a sequential write of
as many bytes as that build left on the disk, ended by fdatasync(); the order changes with
each round. The arrays are read once before, so both work from memory. Needs `numpy`.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time

import numpy as np

BLOCK = 8 << 20
SETTLE_S = 5
WORDS = ("photo", "drawing", "painting", "bird", "harbour", "street", "night", "red", "old", "small", "market", "snow")


def make_array(path, rows, dimension, kind, seed):
    """Unit rows in all directions; blocks, so that large ones need little memory."""
    random = np.random.default_rng(seed)
    array = np.lib.format.open_memmap(path, mode="w+", dtype="<" + kind, shape=(rows, dimension))
    for start in range(0, rows, 8192):
        block = random.standard_normal((min(8192, rows - start), dimension), np.float32)
        array[start:start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    array.flush()


def make_captions(path, rows, seed):
    random = np.random.default_rng(seed)
    with open(path, "w", encoding="utf-8") as file:
        for start in range(0, rows, 8192):
            for words in random.integers(0, len(WORDS), (min(8192, rows - start), 8)):
                json.dump({"caption": " ".join(WORDS[i] for i in words)}, file)
                file.write("\n")


def stored_bytes(folder):
    """What the files take on the disk, as du counts it."""
    blocks = 0
    for path, _, names in os.walk(folder):
        for name in names:
            blocks += os.lstat(os.path.join(path, name)).st_blocks
    return blocks * 512


def settle():
    """A virtual machine gives freed memory back to its host after seconds, and is slow to get it again; so each
    measurement begins after that, not with what the one before has just freed."""
    os.sync()
    time.sleep(SETTLE_S)


def build(arguments, sources, folder):
    shutil.rmtree(folder, ignore_errors=True)
    settle()
    command = [arguments.reco, "memory", "build", "bench", *sources, "--data", folder, "--space",
               "bench:%d" % arguments.dimension, "--json", "--quiet"]
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - start
    line = json.loads(done.stdout.splitlines()[-1])
    if line["records"] != arguments.rows:
        raise SystemExit("%d records of %d" % (line["records"], arguments.rows))
    return seconds, stored_bytes(folder)


def write_disk(path, count):
    """A sequential write of `count` bytes that are on the disk at the end; its seconds."""
    block = np.random.default_rng(1).bytes(BLOCK)
    settle()
    start = time.perf_counter()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    left = count
    while left > 0:
        left -= os.write(fd, block[:min(BLOCK, left)])
    os.fdatasync(fd)
    os.close(fd)
    seconds = time.perf_counter() - start
    os.unlink(path)
    return seconds


def main():
    parser = argparse.ArgumentParser(description="builds beside plain writes")
    parser.add_argument("reco")
    parser.add_argument("folder")
    parser.add_argument("--rows", type=int, default=1000000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--type", choices=("f2", "f4"), default="f2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-captions", action="store_true")
    arguments = parser.parse_args()

    shares, rates = [], []
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bulk-load-") as folder:
        sources = [os.path.join(folder, name) for name in ("images.npy", "texts.npy", "captions.jsonl")]
        make_array(sources[0], arguments.rows, arguments.dimension, arguments.type, 1)
        make_array(sources[1], arguments.rows, arguments.dimension, arguments.type, 2)
        make_captions(sources[2], arguments.rows, 3)
        if arguments.no_captions:
            sources.pop()
        data, plain = os.path.join(folder, "data"), os.path.join(folder, "plain")
        pair_bytes = arguments.rows * arguments.dimension * 2 * 2
        count = 2 * pair_bytes  # what the plain write of a first round writes when it comes first
        for number in range(arguments.rounds):
            if number % 2:
                disk = write_disk(plain, count)
                seconds, stored = build(arguments, sources, data)
            else:
                seconds, stored = build(arguments, sources, data)
                disk = write_disk(plain, stored)
            written = count if number % 2 else stored
            count = stored
            shares.append((stored / seconds) / (written / disk))
            rates.append(arguments.rows / seconds)
            print("round %d: build %.2f s, %.0f records/s, %.2f GB stored: %.0f MB/s (each pair once: %.0f MB/s); "
                  "plain write %.0f MB/s; share %.2f" % (
                      number, seconds, rates[-1], stored / 1e9, stored / seconds / 1e6, pair_bytes / seconds / 1e6,
                      written / disk / 1e6, shares[-1]), flush=True)
        shutil.rmtree(data, ignore_errors=True)
    print("%d x %d %s%s: median %.0f records/s; share of the plain write: median %.2f, %.2f to %.2f" % (
        arguments.rows, arguments.dimension, arguments.type, "" if not arguments.no_captions else ", no captions",
        statistics.median(rates), statistics.median(shares), min(shares), max(shares)))


if __name__ == "__main__":
    main()
