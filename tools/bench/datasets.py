#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes folders for peers.py and compare.py of real vectors: base.npy and queries-NAME.npy, rows of unit length.

usage: datasets.py fashion OUT [--source FOLDER]
       datasets.py export EXPORT OUT [--queries N]

fashion: Fashion-MNIST as Debian's package dataset-fashion-mnist has it: 60,000 rows of 784, 10,000 queries. The
rows are scaled to length 1, so the neighbours are not those that are published for it: they are computed anew.

export: what `reco memory export` wrote. N pairs (1,000) drawn at random leave the rows and ask: OUT/images is
searched by pictures of the same kind and by their texts, OUT/texts by texts and by their pictures.
"""
import argparse
import gzip
from pathlib import Path

import numpy as np

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def unit(rows):
    rows = rows.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def save(folder, **arrays):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in arrays.items():
        np.save(folder / (name.replace("_", "-") + ".npy"), unit(rows))
        print("%s: %d rows of %d dimensions" % (folder / (name.replace("_", "-") + ".npy"), *rows.shape))


def read_idx(path):
    """Pictures of an IDX file as rows."""
    data = gzip.open(path).read()
    if data[:4] != b"\0\0\x08\x03":
        raise SystemExit("%s: no IDX file of pictures" % path)
    count, height, width = np.frombuffer(data, ">u4", 3, 4)
    return np.frombuffer(data, np.uint8, offset=16).reshape(count, height * width)


def make_fashion(source, out):
    if not source.exists():
        raise SystemExit("%s is not there: install Debian's dataset-fashion-mnist, or name its folder" % source)
    save(out, base=read_idx(source / "train-images-idx3-ubyte.gz"),
         queries_test=read_idx(source / "t10k-images-idx3-ubyte.gz"))


def read_shards(folder):
    paths = sorted(folder.glob("*.npy"), key=lambda path: (len(path.name), path.name))
    if not paths:
        raise SystemExit("%s: no .npy file" % folder)
    return np.concatenate([np.load(path) for path in paths])


def make_export(export, out, queries):
    images, texts = read_shards(export / "img_emb"), read_shards(export / "text_emb")
    if not 0 < queries < len(images):
        raise SystemExit("--queries %d: 1 to %d are allowed" % (queries, len(images) - 1))
    asks = np.zeros(len(images), bool)
    asks[np.random.default_rng(1).choice(len(images), queries, replace=False)] = True
    for name, rows in (("images", images), ("texts", texts)):
        save(out / name, base=rows[~asks], queries_images=images[asks], queries_texts=texts[asks])


def main():
    parser = argparse.ArgumentParser(description="makes folders of real vectors")
    kinds = parser.add_subparsers(dest="kind", required=True)
    fashion = kinds.add_parser("fashion")
    fashion.add_argument("out", type=Path)
    fashion.add_argument("--source", type=Path, default=DEBIAN)
    export = kinds.add_parser("export")
    export.add_argument("export", type=Path)
    export.add_argument("out", type=Path)
    export.add_argument("--queries", type=int, default=1000)
    arguments = parser.parse_args()
    if arguments.kind == "fashion":
        make_fashion(arguments.source, arguments.out)
    else:
        make_export(arguments.export, arguments.out, arguments.queries)


if __name__ == "__main__":
    main()
