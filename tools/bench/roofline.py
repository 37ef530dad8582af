#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the operations of a batch would take on a large GPU, on paper.

usage: roofline.py RECO [--bandwidth GB/s] [--product TFLOP/s] [--attention TFLOP/s] [--plain TFLOP/s] [--weights BYTES]
       roofline.py - < LINES        lines of `reco bench encode --operations --json`, of models of your own

The operations are those that RECO, the program, records for a batch (`reco bench encode --operations`): of B/32, B/16 and
L/14 in models whose weights are all zero, since nothing is computed. They say what they compute and move, each operand
once. An operation takes the longer of the two. Weights are in half precision there, unless --weights is 4. The default
rates are those to be reached on an H200: 350 of its 990 TFLOP/s by matrix units in products, a quarter of that in
attention, half of its 67 in plain arithmetic, 70 % of its 4.8 TB/s. Nothing is measured.
"""
import argparse
import gzip
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from peers_encode import GOLDEN, make_config  # pylint: disable=wrong-import-position

OPERATION = re.compile(r"([a-z ]+) (\d+)(?: x (\d+))?(?:, .*)?")
LONG = "a " * 75  # 77 tokens with both ends
# model, name, what, items, the text in each item
BATCHES = (
    ("b32", "ViT-B/32 pictures", "image", 60, None), ("b32", "ViT-B/32 picture", "image", 1, None),
    ("b32", "captions of B/32 and B/16", "text", 64, None), ("b32", "texts of 77 of B/32 and B/16", "text", 52, LONG),
    ("b16", "ViT-B/16 pictures", "image", 60, None),
    ("l14", "ViT-L/14 pictures", "image", 60, None), ("l14", "captions of L/14", "text", 64, None),
)


# --- models without weights

def layers(prefix, about):
    width, mlp = about["hidden_size"], about["intermediate_size"]
    for number in range(about["num_hidden_layers"]):
        name = f"{prefix}.encoder.layers.{number}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield name + "self_attn." + part, [width, width]
        yield name + "mlp.fc1", [mlp, width]
        yield name + "mlp.fc2", [width, mlp]
        yield name + "layer_norm1", [width]
        yield name + "layer_norm2", [width]


def tensors(config):
    text, vision, dimension = config["text_config"], config["vision_config"], config["projection_dim"]
    wide, seen, patch = text["hidden_size"], vision["hidden_size"], vision["patch_size"]
    for name, shape in (*layers("text_model", text), *layers("vision_model", vision),
                        ("text_model.final_layer_norm", [wide]), ("vision_model.pre_layrnorm", [seen]),
                        ("vision_model.post_layernorm", [seen])):
        yield name + ".weight", shape
        yield name + ".bias", shape[:1]
    yield "text_model.embeddings.token_embedding.weight", [text["vocab_size"], wide]
    yield "text_model.embeddings.position_embedding.weight", [text["max_position_embeddings"], wide]
    yield "vision_model.embeddings.class_embedding", [seen]
    yield "vision_model.embeddings.patch_embedding.weight", [seen, 3, patch, patch]
    yield "vision_model.embeddings.position_embedding.weight", [(vision["image_size"] // patch) ** 2 + 1, seen]
    yield "text_projection.weight", [dimension, wide]
    yield "visual_projection.weight", [dimension, seen]
    yield "logit_scale", []


def make_model(folder, shape):
    """A directory that takes next to no room: the numbers of its weights are a hole of the file."""
    config, at, header = make_config(shape), 0, {}
    for name, sizes in tensors(config):
        end = at + 4 * math.prod(sizes)
        header[name] = {"dtype": "F32", "shape": sizes, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    third = [1 / 3] * 3
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "resample": 3, "image_mean": third,
        "image_std": third}), encoding="utf-8")
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes(gzip.decompress((GOLDEN / "vocab_full" / (name + ".gz")).read_bytes()))


def record(reco, top):
    """(name of a batch, lines of its operations) of each of BATCHES."""
    for shape, name, what, items, text in BATCHES:
        folder = top / shape
        if not folder.exists():
            folder.mkdir()
            make_model(folder, shape)
        asked = [reco, "bench", "encode", "--model", folder, "--what", what, "--batch", str(items), "--operations", "--json"]
        if text:
            (top / "texts").write_text(text + "\n", encoding="utf-8")
            asked += ["--texts", top / "texts"]
        done = subprocess.run(asked, stdout=subprocess.PIPE, check=True)
        yield f"{items} {name}", [json.loads(line) for line in done.stdout.splitlines()]


def read(file):
    """The same of lines that somebody else recorded."""
    batches = {}
    for line in map(json.loads, file):
        batches.setdefault((line["batch"], line["what"]), []).append(line)
    for (items, what), lines in batches.items():
        yield f"{items} {what}{'s' if items > 1 else ''}", lines


# --- the table

def show(name, lines, rates):
    sums = {}
    for line in lines:
        kind, columns, depth = OPERATION.fullmatch(line["operation"]).groups()
        moved = line["bytes"]
        if depth:  # recorded with weights of four bytes
            moved -= (4 - rates.weights) * int(columns) * int(depth) * line["calls"]
        compute = line["flops"] / vars(rates).get(kind, rates.plain) / 1e9
        memory = moved / rates.bandwidth / 1e6
        entry = sums.setdefault(kind, [0, 0, 0, 0, 0])
        for i, value in enumerate((line["calls"], line["flops"], moved, max(compute, memory), compute - memory)):
            entry[i] += value
    calls, flops, moved, ms = (sum(entry[i] for entry in sums.values()) for i in range(4))
    for kind, entry in sorted(sums.items(), key=lambda item: -item[1][3]):
        if entry[3] >= ms / 100:
            print(f"| {name} | {kind} | {entry[0]} | {entry[1] / 1e9:.4g} | {entry[2] / 1e9:.3g} | {entry[1] / entry[2]:.3g} "
                  f"| {entry[3]:.3g} | {'arithmetic' if entry[4] > 0 else 'memory'} |")
    print(f"| {name} | **all** | {calls} | {flops / 1e9:.4g} | {moved / 1e9:.3g} | {flops / moved:.3g} | **{ms:.3g}** "
          f"| {lines[0]['batch'] / ms * 1e3:,.0f} a second |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reco", help="the program, or - for lines on stdin")
    parser.add_argument("--bandwidth", type=float, default=0.7 * 4800, help="GB/s")
    parser.add_argument("--product", type=float, default=350, help="TFLOP/s")
    parser.add_argument("--attention", type=float, default=350 / 4, help="TFLOP/s")
    parser.add_argument("--plain", type=float, default=67 / 2, help="TFLOP/s of the rest")
    parser.add_argument("--weights", type=int, default=2, choices=(2, 4), help="bytes of a number of theirs")
    rates = parser.parse_args()

    print("| batch | operation | calls | GFLOP | GB | FLOP/byte | ms | bound by |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as top:
        for name, lines in read(sys.stdin) if rates.reco == "-" else record(rates.reco, pathlib.Path(top)):
            show(name, lines, rates)


if __name__ == "__main__":
    main()
