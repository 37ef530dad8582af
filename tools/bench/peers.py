#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the peers of the index over all their settings, and tells which are best at which recall.

usage: peers.py FOLDER --out OUT [--small] [--chance 1|2|3] [--only PATTERN] [--plan | --report]

FOLDER holds base.npy and queries-NAME.npy (`reco bench vectors`, datasets.py). What was measured is appended to
OUT/results.jsonl; the same command goes on where it was interrupted. Faiss' factories with lists of several
numbers, flat and HNSW coarse step, nprobe, k_factor and bits of the query; its HNSW32; hnswlib; usearch.

  --plan      lists what would be measured, with an estimate of the time, and ends
  --chance N  1: what is likely to be on the front; 2 (default): all but the hopeless; 3: everything
  --small     the first 100,000 rows, 200 queries, fewer settings, only what is likely: to try it
  --report    writes OUT/front.md and OUT/front.json from what is there, and ends (the end of a run does it too)

Each setting is asked 256 queries at a time on one thread. What is on an entry's front then is measured one
at a time and with two threads too. Needs the environment of README.md.
"""
import argparse
import json
import os
import platform
import re
import time
from pathlib import Path

import index_front
from index_data import Vectors
from index_engines import entries, estimate_seconds
from index_worker import K, Failed, Worker, clean_environment

LEVELS = [0.8, 0.9, 0.95, 0.98, 0.99, 0.995]
SMALL_ROWS, SMALL_QUERIES = 100000, 200
QUERIES = 1000
CASES = [(256, 1), (1, 1), (256, 2), (1, 2)]  # queries at a time, threads
ENOUGH = 0.9995     # recall beyond which more effort tells nothing
SLOW = 0.02         # of the fastest setting of the entry: nobody would use it
LEAST_RECALL = 0.5  # of what is measured beyond the first case


class Results:
    """The lines of OUT/results.jsonl."""

    def __init__(self, out):
        self.path = out / "results.jsonl"
        self.lines = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    self.lines.append(json.loads(line))
                except ValueError:
                    pass  # the last line of a run that was killed
            if not self.path.read_text().endswith("\n"):
                self.path.open("a").write("\n")

    def add(self, kind, **members):
        self.lines.append({"kind": kind, **members})
        with self.path.open("a") as file:
            file.write(json.dumps(self.lines[-1]) + "\n")

    def of(self, kind, **members):
        return [line for line in self.lines if line["kind"] == kind
                and all(line.get(name) == value for name, value in members.items())]

    def measured(self, entry, setting, queries, batch, threads):
        found = self.of("point", entry=entry, setting=setting, queries=queries, batch=batch, threads=threads)
        return found[-1] if found else None


class Sweep:
    def __init__(self, arguments, vectors, results):
        self.arguments, self.vectors, self.results = arguments, vectors, results
        self.rows = SMALL_ROWS if arguments.small else 0
        self.queries = SMALL_QUERIES if arguments.small else QUERIES

    def point(self, worker, setting, queries, batch, threads):
        found = self.results.measured(worker.name, setting, queries, batch, threads)
        if not found:
            found = worker.measure(setting, queries, batch, threads)
            self.results.add("point", entry=worker.name, **found)
        return found

    def line(self, worker, line, queries):
        """One setting after the other, until recall or patience is at its end."""
        fastest, last = 0, -1
        for value in line["values"]:
            point = self.point(worker, {**line["fixed"], line["sweep"]: value}, queries, *CASES[0])
            fastest = max(fastest, point["qps"])
            if point["recall"] >= ENOUGH or point["qps"] < SLOW * fastest:
                break
            if value >= 64 and point["recall"] < last + 0.0005:
                break
            last = point["recall"]

    def entry(self, name):
        worker = Worker(self.vectors.folder, self.arguments.out, self.rows, self.queries, name)
        try:
            built = worker.ask("build", threads=len(os.sched_getaffinity(0)))
            self.results.add("build", entry=name, **built)
            print("  built in %.0f s, %.0f bytes a vector (%.0f by RSS)" % (
                built["build_seconds"], built["bytes_per_vector"], built["rss_per_vector"]), flush=True)
            for queries in self.vectors.queries:
                for line in worker.ask("grid", small=self.arguments.small):
                    self.line(worker, line, queries)
                self.rest(worker, queries)
            self.results.add("done", entry=name)
        finally:
            worker.close()

    def rest(self, worker, queries):
        """The other cases of what is on the front, by the way it would be asked for."""
        points = self.results.of("point", entry=worker.name, queries=queries, batch=CASES[0][0],
                                 threads=CASES[0][1])
        for variant in sorted({point["variant"] for point in points}):
            front = index_front.front_of([point for point in points if point["variant"] == variant])
            for point in front:
                if point["recall"] >= LEAST_RECALL or point is front[-1]:
                    for batch, threads in CASES[1:]:
                        self.point(worker, point["setting"], queries, batch, threads)

    def run(self, plan):
        left = sum(seconds for _, _, seconds in plan)
        for number, (name, chance, seconds) in enumerate(plan):
            print("%d of %d, chance %d: %s, perhaps %s of %s left" % (
                number + 1, len(plan), chance, name, minutes(seconds), minutes(left)), flush=True)
            start = time.monotonic()
            try:
                self.entry(name)
            except Failed as failure:
                self.results.add("failed", entry=name, why=str(failure))
                print("  " + str(failure), flush=True)
            print("  took %s" % minutes(time.monotonic() - start), flush=True)
            left -= seconds


def minutes(seconds):
    return "%.0f s" % seconds if seconds < 90 else "%.0f min" % (seconds / 60) if seconds < 5400 else \
        "%.1f h" % (seconds / 3600)


def matrix_rate():
    """Operations a second of a matrix product with all threads: what training and assigning live on."""
    import numpy as np
    a, b = np.ones((2048, 512), np.float32), np.ones((512, 2048), np.float32)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        _ = a @ b
        best = min(best, time.perf_counter() - start)
    return 2.0 * 2048 * 2048 * 512 / best


def make_plan(arguments, vectors, results):
    """[(entry, chance, seconds)] of what is still to be done."""
    rate, trained, plan = matrix_rate(), set(), []
    for name, chance in entries(vectors.count, vectors.dimension, arguments.small):
        if chance > arguments.chance or not re.search(arguments.only, name):
            continue
        if results.of("done", entry=name):
            continue
        guess = estimate_seconds(name, vectors, rate, arguments.small)
        kind = (name.split(" ")[1], re.sub(r".*IVF(\d+).*", r"\1", name), "OPQ" in name)
        shared = guess.get("train", 0) if kind not in trained else 0
        trained.add(kind)
        plan.append((name, chance, shared + guess["build"] + guess["sweep"]))
    return plan


# --- the report

def fronts(results, queries, batch, threads):
    """{variant: points} of one case."""
    by_name = {}
    for point in results.of("point", queries=queries, batch=batch, threads=threads):
        by_name.setdefault(point["variant"], []).append(point)
    return {name: index_front.front_of(points) for name, points in by_name.items()}


def family(name):
    return name.split(" ")[0] if not name.startswith("faiss") else "faiss IVF" if "IVF" in name else "faiss HNSW"


def built_of(results, name):
    """What building the entry of a variant took."""
    found = results.of("build", entry=name.replace("_HNSW32", "")) or results.of("build", entry=name)
    return found[0] if found else {}


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {"cpu": model[1] if model else platform.machine(), "cores": len(os.sched_getaffinity(0)),
            "kernel": platform.release(), "python": platform.python_version()}


def report(arguments, vectors, results):
    out = {"machine": machine(), "rows": vectors.count, "dimension": vectors.dimension, "k": K,
           "versions": sorted({line["version"] for line in results.of("build")}), "cases": []}
    text = ["Rows: %d of %d dimensions. %s, %d cores. %s. recall@%d.\n" % (
        vectors.count, vectors.dimension, out["machine"]["cpu"], out["machine"]["cores"],
        "; ".join(out["versions"]), K)]
    for queries in vectors.queries:
        for batch, threads in CASES:
            cases = fronts(results, queries, batch, threads)
            rows = []
            for level in LEVELS:
                best = {}
                for name, points in cases.items():
                    qps = index_front.at_recall(points, level)
                    if qps is not None:
                        best[name] = qps
                out["cases"].append({"queries": queries, "batch": batch, "threads": threads, "recall": level,
                                     "qps": {name: round(qps, 1) for name, qps in sorted(best.items())}})
                for kind in ("faiss IVF", "faiss HNSW", "hnswlib", "usearch"):
                    of_kind = [(qps, name) for name, qps in best.items() if family(name) == kind]
                    if of_kind:
                        qps, name = max(of_kind)
                        built = built_of(results, name)
                        rows.append([level, name, "%.0f" % qps, built.get("bytes_per_vector", ""),
                                     built.get("rss_per_vector", ""), built.get("build_seconds", "")])
            if rows:
                text.append("### queries %s, %d at a time, %d thread%s\n" % (queries, batch, threads,
                                                                          "s" if threads > 1 else ""))
                text.append(index_front.table(["recall", "best of its kind", "queries/s", "bytes/vector", "by RSS",
                                               "build s"], rows))
    (arguments.out / "front.md").write_text("\n".join(text))
    (arguments.out / "front.json").write_text(json.dumps(out, indent=1) + "\n")
    print("written: %s and front.json" % (arguments.out / "front.md"))


def main():
    parser = argparse.ArgumentParser(description="sweeps the peers of the index")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--chance", type=int, choices=(1, 2, 3), default=2)
    parser.add_argument("--only", default="", metavar="PATTERN")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ.update(clean_environment())
    results = Results(arguments.out)
    vectors = Vectors(arguments.folder, SMALL_ROWS if arguments.small else 0,
                      SMALL_QUERIES if arguments.small else QUERIES)
    if arguments.report:
        return report(arguments, vectors, results)
    plan = make_plan(arguments, vectors, results)
    if arguments.plan:
        for name, chance, seconds in plan:
            print("chance %d  %8s  %s" % (chance, minutes(seconds), name))
    for chance in (1, 2, 3):
        part = [seconds for _, of_entry, seconds in plan if of_entry == chance]
        if part:
            print("chance %d: %d entries, perhaps %s" % (chance, len(part), minutes(sum(part))))
    if arguments.plan:
        return None
    vectors.load_truth()
    Sweep(arguments, vectors, results).run(plan)
    return report(arguments, vectors, results)


if __name__ == "__main__":
    main()
