#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the table of milliseconds for each step of a query, from `reco bench search --json`.

usage: latency.py RECO FOLDER [--shards 4] [--rows 1000000] [--queries 300] [--repetitions 3] [--index exact]
                  [--image FILE]...

FOLDER needs room for 6 GB; everything in it is made in a folder of its own and removed at the
end. Memories of made-up rows: 10,000 and 1,000,000 of the embedded model's dimension, in
its space, asked with pictures; 1,000,000 of 512 dimensions, asked with embeddings. Each is
asked to refine, one query at a time, standalone (everything in one process, one shard) and
through `reco up --shards N` over gRPC and encrypted ZeroMQ on loopback. Of the repetitions the
one with the middle total is shown. Needs `numpy`.
"""
import argparse
import json
import os
import signal
import subprocess
import tempfile

import numpy as np

import bulk_load

DIMENSION = 128  # of the embedded model
STEPS = ("decode", "preprocess", "encode", "queue", "fanout", "shard", "merge", "fetch", "fuse", "total", "wall")


def model_space(reco, image, folder):
    """The embedded model's space, as a memory that pictures built describes it."""
    pictures = os.path.join(folder, "pictures")
    os.makedirs(pictures)
    with open(image, "rb") as source, open(os.path.join(pictures, os.path.basename(image)), "wb") as copy:
        copy.write(source.read())
    with open(os.path.join(pictures, os.path.splitext(os.path.basename(image))[0] + ".txt"), "w") as caption:
        caption.write("a picture")
    data = os.path.join(folder, "space")
    subprocess.run([reco, "memory", "build", "space", pictures, "--data", data, "--quiet"], check=True,
                   stdout=subprocess.DEVNULL)
    line = subprocess.run([reco, "memory", "info", "space", "--data", data, "--json"], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    return json.loads(line)["space"]


def make_memories(arguments, folder, space, where):
    for name, rows in (("small", 10000), ("large", arguments.rows)):
        sources = [os.path.join(folder, "%s-%s.npy" % (name, side)) for side in ("images", "texts")]
        for seed, path in enumerate(sources):
            if not os.path.exists(path):
                bulk_load.make_array(path, rows, DIMENSION, "f2", seed + 1)
        subprocess.run([arguments.reco, "memory", "build", name, *sources, "--space", space, "--quiet", *where],
                       check=True, stdout=subprocess.DEVNULL)


def ask(arguments, where, *flags):
    """The repetition with the middle total, with the totals of all."""
    command = [arguments.reco, "bench", "search", "--refine", "--json", "--quiet", "--index", arguments.index, "--queries", str(arguments.queries),
               "--repetitions", str(arguments.repetitions), *where, *flags]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    runs = sorted(map(json.loads, lines), key=lambda run: run["steps_ms"]["total"]["median"])
    return runs[len(runs) // 2], [run["steps_ms"]["total"]["median"] for run in runs]


def measure(arguments, title, where, columns):
    images = [flag for image in arguments.image for flag in ("--image", image)]
    large = "{:,}".format(arguments.rows)
    for name, flags in (("10,000 x 128, pictures", ["--memory", "small", *images]),
                        (large + " x 128, pictures", ["--memory", "large", *images]),
                        (large + " x 512, embeddings", ["--synthetic", str(arguments.rows), "--dimension", "512"])):
        run, totals = ask(arguments, where, *flags)
        columns.append(("%s, %s" % (title, name), run))
        scan = run["scan_gb_per_second"]
        how = "by an index" if scan is None else "scan %.1f GB/s, a plain sum %.1f GB/s" % (
            scan, run["machine_gb_per_second"])
        print("# %s, %s: total %s ms; %s" % (title, name, " ".join("%.2f" % total for total in totals), how), flush=True)


def print_table(columns):
    print("| ms, median (p99) | " + " | ".join(title for title, _ in columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for step in STEPS:
        cells = ["%.2f (%.2f)" % (run["steps_ms"][step]["median"], run["steps_ms"][step]["p99"]) for _, run in columns]
        print("| %s | " % {"shard": "slowest shard", "wall": "seen by the caller"}.get(step, step)
              + " | ".join(cells) + " |")
    for shard in range(max(len(run["shards_ms"]) for _, run in columns)):
        cells = ["%.2f (%.2f)" % (run["shards_ms"][shard]["median"], run["shards_ms"][shard]["p99"])
                 if shard < len(run["shards_ms"]) else "" for _, run in columns]
        print("| shard %d | " % shard + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description="milliseconds of each step of a query")
    parser.add_argument("reco")
    parser.add_argument("folder")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rows", type=int, default=1000000, help="of the large memories")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--index", default="exact", choices=("auto", "exact", "ivf"))
    parser.add_argument("--image", action="append", required=True)
    arguments = parser.parse_args()

    columns = []
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="latency-") as folder:
        space = model_space(arguments.reco, arguments.image[0], folder)
        where = ["--data", os.path.join(folder, "alone")]
        make_memories(arguments, folder, space, where)
        measure(arguments, "standalone", where, columns)
        command = [arguments.reco, "up", "--shards", str(arguments.shards), "--port", "0", "--data",
                   os.path.join(folder, "cluster")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                              env=dict(os.environ, RECO_LOG="error")) as cluster:
            try:
                where = ["--server", cluster.stdout.readline().split()[1]]
                make_memories(arguments, folder, space, where)
                measure(arguments, "%d shards" % arguments.shards, where, columns)
            finally:
                cluster.send_signal(signal.SIGTERM)
    print_table(columns)


if __name__ == "__main__":
    main()
