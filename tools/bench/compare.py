#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Takes turns between reco's index and the best peers, at equal recall, and writes the table.

usage: compare.py FOLDER --peers OUT --reco RECO --to NAME [--rounds N] [--recall 0.95,0.99] [--family PATTERN]

FOLDER is what peers.py was given, OUT where it put its results: the three entries of Faiss whose names match
--family that together are nearest to the best of every case, and the best of hnswlib and of usearch. All are
built anew, in turn and once; each is a process of its own that stays. A round measures every
case (queries, how many at a time, threads) with every one of them, one after the other on the same cores;
who begins changes from round to round. Speed at a recall is interpolated between the two settings
around it, which are fixed before: of the peers by the sweep, of reco by one pass over its nprobe. For reco see
`reco help bench index`, --rounds.

Writes NAME.md and NAME.json: median, best and spread of all rounds, their ratios, bytes, seconds of building,
machine and versions. A round during which the load was more than threads + 0.3 is counted in the column
"busy": it is not left out, so look at the spread and repeat it on a quiet machine.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import index_front
from index_data import Vectors
from index_worker import K, Failed, Worker, clean_environment, pin
from peers import CASES, Results, family, fronts, machine

BUSY = 0.3  # of load beyond the threads of the test
PROBES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
OURS = "reco"


class Ours:
    """`reco bench index --rounds`: built once, then asked line by line."""

    def __init__(self, program, vectors, flags):
        self.names = list(vectors.query_paths)
        self.limits = {name: len(rows) for name, rows in vectors.queries.items()}
        command = [str(program), "bench", "index", "--json", "--rounds", "--base", str(vectors.base_path), "-k", str(K),
                   "--threads", str(len(os.sched_getaffinity(0))), *flags]
        for name in self.names:
            command += ["--queries", str(vectors.query_paths[name]),
                        "--truth", str(vectors.truth_paths[name])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self.read()
        self.about["version"] = subprocess.run([str(program), "version"], stdout=subprocess.PIPE, text=True,
                                               check=True).stdout.splitlines()[0]

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise Failed("reco bench index ended with status %s" % self.process.wait())
        return json.loads(line)

    def measure(self, setting, queries, batch, threads):
        pin(self.process.pid, threads)
        self.process.stdin.write("%d %d %d %d %d\n" % (self.names.index(queries), self.limits[queries], batch, threads,
                                                       setting["nprobe"]))
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Competitor:
    """One that takes part, and at which settings its recall is around each level."""

    def __init__(self, name, worker, about):
        self.name, self.worker, self.about = name, worker, about
        self.around = {}  # (queries, batch, threads, level) -> (below, above), points

    def settings(self, queries, batch, threads, levels):
        chosen = []
        for level in levels:
            for point in self.around.get((queries, batch, threads, level), ()):
                if point["setting"] not in chosen:
                    chosen.append(point["setting"])
        return chosen


def cases_of(vectors):
    return [(queries, batch, threads) for queries in vectors.queries for batch, threads in CASES
            if threads <= len(os.sched_getaffinity(0))]


def choose_entries(results, vectors, levels, wanted, count):
    """The names of variants that match, by what they reach in each case."""
    table = []
    for case in cases_of(vectors):
        for level in levels:
            reached = {name: index_front.at_recall(points, level) for name, points in fronts(results, *case).items()
                       if re.search(wanted, name)}
            table.append({name: qps for name, qps in reached.items() if qps})
    return index_front.choose(table, count)


def entry_of(results, variant):
    return next(line["entry"] for line in results.of("point") if line["variant"] == variant)


class Comparison:
    def __init__(self, arguments, vectors, results):
        self.arguments, self.vectors, self.results = arguments, vectors, results
        self.levels = [float(level) for level in arguments.recall.split(",")]
        self.competitors = []
        self.workers = {}
        self.samples = {}  # (name, case, level) -> a speed for each round
        self.busy = {}     # case -> rounds

    def close(self):
        for worker in self.workers.values():
            worker.close()

    # --- who takes part

    def start_ours(self):
        ours = Ours(self.arguments.reco, self.vectors, self.arguments.flag)
        self.workers[OURS] = ours
        competitor = Competitor(OURS, ours, ours.about)
        for queries in self.vectors.queries:
            points = [{**ours.measure({"nprobe": probes}, queries, 256, 1), "setting": {"nprobe": probes}}
                      for probes in PROBES]
            self.place(competitor, queries, lambda *case, points=points: points)
        self.competitors.append(competitor)

    def start_peers(self, variants, cache):
        for variant in variants:
            entry = entry_of(self.results, variant)
            if entry not in self.workers:
                print("building " + entry, flush=True)
                worker = Worker(self.vectors.folder, cache, 0, self.arguments.queries, entry)
                self.workers[entry] = worker
                worker.about = worker.ask("build", threads=len(os.sched_getaffinity(0)))
            competitor = Competitor(variant, self.workers[entry], self.workers[entry].about)
            for queries in self.vectors.queries:
                self.place(competitor, queries, lambda *case: fronts(self.results, *case).get(variant, []))
            self.competitors.append(competitor)

    def place(self, competitor, queries, points_of):
        for case in cases_of(self.vectors):
            if case[0] == queries:
                for level in self.levels:
                    found = index_front.bracket(index_front.front_of(points_of(*case)), level)
                    if found:
                        competitor.around[(*case, level)] = found

    def time_build(self, entry, cache):
        """How long another entry takes to be built in this run."""
        print("building " + entry + ", for its time only", flush=True)
        worker = Worker(self.vectors.folder, cache, 0, self.arguments.queries, entry)
        try:
            return worker.ask("build", threads=len(os.sched_getaffinity(0)))
        finally:
            worker.close()

    # --- rounds

    def run_round(self, number):
        for case in cases_of(self.vectors):
            start = number % len(self.competitors)
            loads = []
            for competitor in self.competitors[start:] + self.competitors[:start]:
                measured = {}
                for setting in competitor.settings(*case, self.levels):
                    loads.append(os.getloadavg()[0])
                    measured[json.dumps(setting)] = competitor.worker.measure(setting, *case)
                self.take(competitor, case, measured)
            self.busy[case] = self.busy.get(case, 0) + (max(loads, default=0) > case[2] + BUSY)

    def take(self, competitor, case, measured):
        for level in self.levels:
            ends = competitor.around.get((*case, level))
            if ends:
                below, above = (measured[json.dumps(point["setting"])] for point in ends)
                self.samples.setdefault((competitor.name, case, level), []).append(
                    index_front.between(below, above, level))

    # --- the table

    def rows(self, case, level):
        ours = self.samples.get((OURS, case, level))
        for competitor in self.competitors:
            sample = self.samples.get((competitor.name, case, level))
            row = {"name": competitor.name, "queries": case[0], "batch": case[1], "threads": case[2], "recall": level,
                   "bytes_per_vector": competitor.about["bytes_per_vector"],
                   "build_seconds": competitor.about["build_seconds"], "qps": sample, "busy": self.busy.get(case, 0)}
            if sample and ours and competitor.name != OURS:
                ratios = [a / b for a, b in zip(ours, sample)]
                row["ratio"] = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
            yield row

    def write(self, builds):
        everything = [row for case in cases_of(self.vectors) for level in self.levels for row in self.rows(case, level)]
        peer_versions = sorted({competitor.about["version"] for competitor in self.competitors})
        about = {"machine": machine(), "versions": peer_versions, "rows": self.vectors.count,
                 "dimension": self.vectors.dimension, "k": K, "rounds": self.arguments.rounds,
                 "date": time.strftime("%Y-%m-%d"), "builds": builds}
        self.arguments.to.with_suffix(".json").write_text(json.dumps({**about, "table": everything}, indent=1) + "\n")
        text = ["%d rows of %d dimensions, recall@%d; %s, %d cores; %s; %s; %d rounds.\n" % (
            self.vectors.count, self.vectors.dimension, K, about["machine"]["cpu"], about["machine"]["cores"],
            "; ".join(peer_versions), about["date"], self.arguments.rounds)]
        lines = []
        for row in everything:
            sample, ratio = row["qps"], row.get("ratio")
            lines.append([
                row["queries"], row["batch"], row["threads"], row["recall"], row["name"],
                "%.0f" % statistics.median(sample) if sample else "not reached", "%.0f" % max(sample) if sample else "",
                "%.0f to %.0f" % (min(sample), max(sample)) if sample else "",
                "%.2f (%.2f to %.2f)" % (ratio["median"], ratio["low"], ratio["high"]) if ratio else "",
                "%.0f" % row["bytes_per_vector"], "%.0f" % row["build_seconds"], row["busy"]])
        text.append(index_front.table(["queries", "at a time", "threads", "recall", "of", "queries/s, median", "best",
                                       "spread", "reco / this", "bytes/vector", "build s", "busy"], lines))
        text += ["Built in this run with %d threads: %s, %.0f s.\n" % (built["build_threads"], name, built["build_seconds"])
                 for name, built in builds.items()]
        self.arguments.to.with_suffix(".md").write_text("\n".join(text))
        print("\n".join(text))


def main():
    parser = argparse.ArgumentParser(description="the index beside its best peers")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", type=Path, required=True, help="what peers.py wrote")
    parser.add_argument("--reco", type=Path, help="the program; without it only the peers are measured")
    parser.add_argument("--to", type=Path, required=True, help="name of the two files, without ending")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recall", default="0.95,0.99")
    parser.add_argument("--family", default="^faiss", help="which of Faiss' entries: 'faiss .*IVF' for these alone")
    parser.add_argument("--entries", type=int, default=3)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--build", action="append", default=[], metavar="ENTRY",
                        help="times the building of this entry too: 'faiss l2 IVF4096,RaBitQfs4'")
    parser.add_argument("--flag", action="append", default=[], help="more flags of reco bench index")
    arguments = parser.parse_args()
    os.environ.update(clean_environment())
    results = Results(arguments.peers)
    vectors = Vectors(arguments.folder, 0, arguments.queries).load_truth()
    if {line["count"] for line in results.of("build")} != {vectors.count}:
        raise SystemExit("%s was not measured on the %d rows of %s" % (arguments.peers, vectors.count, arguments.folder))
    comparison = Comparison(arguments, vectors, results)
    variants = choose_entries(results, vectors, comparison.levels, arguments.family, arguments.entries)
    if not variants:
        raise SystemExit("%s has no entry that reaches %s: run peers.py first" % (arguments.peers, arguments.recall))
    for beside in ("^hnswlib", "^usearch"):
        variants += choose_entries(results, vectors, comparison.levels, beside, 1)
    print("beside: " + "; ".join(variants), flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.peers) as cache:
        try:
            builds = {entry: comparison.time_build(entry, cache) for entry in arguments.build}
            if arguments.reco:
                comparison.start_ours()
            comparison.start_peers(variants, cache)
            for number in range(arguments.rounds + 1):
                comparison.run_round(number)
                if number == 0:  # warms up
                    comparison.samples.clear()
                    comparison.busy.clear()
                print("round %d of %d" % (number, arguments.rounds), flush=True)
            comparison.write(builds)
        finally:
            comparison.close()


if __name__ == "__main__":
    main()
