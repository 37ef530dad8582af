#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the operations of a batch would take on a large GPU, on paper.

usage: roofline.py [--bandwidth GB/s] [--product TFLOP/s] [--attention TFLOP/s] [--plain TFLOP/s]

Goes through the operations that shaders/models issues for a batch, in their order, and counts for
each what it must compute and move: weights in half precision, everything else in single, each
buffer once. An operation takes the longer of the two. The defaults are the rates to be reached on an
H200: 350 of its 990 TFLOP/s by matrix units in products, a quarter of that in attention, half of its 67 in
plain arithmetic, 70 % of its 4.8 TB/s. Nothing is measured.
"""
import argparse

# name, batch, tokens of an item, width, layers, heads, mlp, dimension, depth of the patches (0: text)
MODELS = [
    ("ViT-B/32 pictures", 1024, 50, 768, 12, 12, 3072, 512, 3072),
    ("ViT-B/32 pictures", 1, 50, 768, 12, 12, 3072, 512, 3072),
    ("ViT-B/32 texts of 77", 1024, 77, 512, 12, 8, 2048, 512, 0),
    ("ViT-B/32 texts of 9", 1024, 9, 512, 12, 8, 2048, 512, 0),
    ("ViT-L/14 pictures", 256, 257, 1024, 24, 16, 4096, 768, 588),
]


def product(rows, columns, depth, added=False):
    moved = rows * depth * 4 + columns * depth * 2 + rows * columns * 4 * (2 if added else 1)
    return ("product", 2 * rows * columns * depth, moved)


def rows_moved(name, rows, width, times, flops=1):
    return (name, flops * rows * width, rows * width * 4 * times)


def operations(batch, tokens, width, layers, heads, mlp, dimension, patch_depth):
    """(kind, floating point operations, bytes) of each operation of a batch."""
    rows = batch * tokens
    if patch_depth:
        patches = batch * (tokens - 1)
        yield rows_moved("patchify", patches, patch_depth, 2, 0)
        yield product(patches, width, patch_depth)
        yield rows_moved("embed_patches", rows, width, 2)
        yield rows_moved("layernorm", rows, width, 2, 8)
    else:
        yield rows_moved("embed_tokens", rows, width, 2)
    for layer in range(layers):
        yield rows_moved("layernorm", rows, width, 2, 8)
        yield product(rows, 3 * width, width)
        seen = tokens if patch_depth else (tokens + 1) / 2
        yield ("attention", 4 * rows * seen * width + 5 * rows * seen * heads, rows * width * 4 * 4)
        if layer == layers - 1:  # only the rows that are read out go on
            yield rows_moved("gather", batch, width, 2, 0)
            yield rows_moved("gather", batch, width, 2, 0)
            rows = batch
        yield product(rows, width, width, True)
        yield rows_moved("layernorm", rows, width, 2, 8)
        yield product(rows, mlp, width)
        yield product(rows, width, mlp, True)
    yield rows_moved("layernorm", rows, width, 2, 8)
    yield product(rows, dimension, width)
    yield rows_moved("normalise", rows, dimension, 2, 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bandwidth", type=float, default=0.7 * 4800, help="GB/s")
    parser.add_argument("--product", type=float, default=350, help="TFLOP/s")
    parser.add_argument("--attention", type=float, default=350 / 4, help="TFLOP/s")
    parser.add_argument("--plain", type=float, default=67 / 2, help="TFLOP/s of the rest")
    arguments = parser.parse_args()

    print("| batch | operation | calls | GFLOP | GB | FLOP/byte | ms | bound by |")
    print("|---|---|---|---|---|---|---|---|")
    for name, batch, *shape in MODELS:
        sums = {}
        for kind, flops, moved in operations(batch, *shape):
            rate = vars(arguments).get(kind, arguments.plain)
            compute = flops / rate / 1e9
            memory = moved / arguments.bandwidth / 1e6
            entry = sums.setdefault(kind, [0, 0, 0, 0, 0])
            for i, value in enumerate((1, flops, moved, max(compute, memory), compute - memory)):
                entry[i] += value
        total = [sum(entry[i] for entry in sums.values()) for i in range(4)]
        for kind, (calls, flops, moved, ms, more) in sorted(sums.items(), key=lambda item: -item[1][3]):
            print(f"| {batch} {name} | {kind} | {calls} | {flops / 1e9:.4g} | {moved / 1e9:.3g} | {flops / moved:.3g} "
                  f"| {ms:.3g} | {'arithmetic' if more > 0 else 'memory'} |")
        print(f"| {batch} {name} | **all** | {total[0]} | {total[1] / 1e9:.4g} | {total[2] / 1e9:.3g} | {total[1] / total[2]:.3g} "
              f"| **{total[3]:.3g}** | {batch / total[3] * 1e3:,.0f} a second |")


if __name__ == "__main__":
    main()
