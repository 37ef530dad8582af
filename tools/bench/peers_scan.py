#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the exact scan of a shard node with faiss' IndexFlatIP.

usage: peers_scan.py SCAN_BENCH [--rows N] [--dimension D] [--rounds N] [--folder DIR]

Needs the Python packages `faiss-cpu` and `numpy`, and for each row 10 bytes a dimension of
memory. The rows are unit vectors in all directions, in half precision; faiss gets the same
numbers as floats, which is the only thing it keeps: it reads twice the bytes. One query at a
time and 32 together, with one thread and with all. The ids must be the same, but for rows
whose scores differ by less than float's rounding.
"""
import argparse
import os
import tempfile

import faiss
import numpy as np

import peers_common

K = 10
CLOSE = 1e-5  # scores nearer than this may change places: both add up floats, in different order


def unit_rows(random, count, dimension):
    rows = random.standard_normal((count, dimension), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make_rows(path, count, dimension):
    """Writes the halves to a file; returns them as the floats that faiss gets."""
    random = np.random.default_rng(1)
    floats = np.empty((count, dimension), np.float32)
    with open(path, "wb") as file:
        for start in range(0, count, 8192):
            halves = unit_rows(random, min(8192, count - start), dimension).astype("<f2")
            halves.tofile(file)
            floats[start:start + len(halves)] = halves
    return floats


def check(index, queries, path):
    """Compares the ids of both; returns the share that is at the same place."""
    ours = np.fromfile(path, "<u4").reshape(len(queries), K)
    scores, theirs = index.search(queries, K)
    for query, found, best, ids in zip(queries, ours, scores, theirs):
        rows = np.stack([index.reconstruct(int(i)) for i in found])
        own = rows.astype(np.float64) @ query.astype(np.float64)
        if len(set(found.tolist())) != K or np.abs(own - best).max() > CLOSE:
            raise SystemExit("the best %d differ: %s and %s" % (K, found, ids))
    return float((ours == theirs).mean())


def compare(arguments, folder, index, queries, batch, threads):
    faiss.omp_set_num_threads(threads)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, set(cores[-threads:]))
    ids = os.path.join(folder, "ids")
    bench = peers_common.Bench([arguments.bench, os.path.join(folder, "rows"), str(arguments.dimension),
                                os.path.join(folder, "queries"), str(batch), str(K), str(threads), ids])
    same = check(index, queries, ids)

    def peer():
        for start in range(0, len(queries), batch):
            index.search(queries[start:start + batch], K)

    seconds = []
    run = bench.run

    def timed():
        result = run()
        seconds.append(result[0])
        return result

    bench.run = timed
    peers_common.compare("%d at a time, %d thread%s" % (batch, threads, "s" if threads > 1 else ""), bench, peer,
                         arguments.rounds)
    bench.close()
    os.sched_setaffinity(0, cores)
    search = float(np.median(seconds)) / (len(queries) // batch)
    rate = arguments.rows * arguments.dimension * 2 / search
    bandwidth = float(bench.ready[2])
    print("  one search %.2f ms, reads %.1f GB/s; a plain sum %.1f GB/s: %.2f; ids at the same place %.4f" % (
        search * 1e3, rate / 1e9, bandwidth / 1e9, rate / bandwidth, same), flush=True)


def main():
    parser = argparse.ArgumentParser(description="scans beside faiss")
    parser.add_argument("bench")
    parser.add_argument("--rows", type=int, default=1000000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", help="for the rows' file; default: the system's folder for such files")
    arguments = parser.parse_args()
    print("faiss %s, %d rows of %d dimensions, k %d" % (faiss.__version__, arguments.rows, arguments.dimension, K))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        floats = make_rows(os.path.join(folder, "rows"), arguments.rows, arguments.dimension)
        index = faiss.IndexFlatIP(arguments.dimension)
        index.add(floats)
        del floats
        queries = unit_rows(np.random.default_rng(2), 32, arguments.dimension).astype(np.float32)
        for count, batch in ((8, 1), (32, 32)):
            queries[:count].tofile(os.path.join(folder, "queries"))
            for threads in sorted({1, len(os.sched_getaffinity(0))}):
                compare(arguments, folder, index, queries[:count], batch, threads)


if __name__ == "__main__":
    main()
