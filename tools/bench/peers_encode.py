#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the picture encoder with ONNX Runtime.

usage: peers_encode.py ENCODE_BENCH [--rounds N] [--folder DIR]

Needs the Python packages `numpy`, `onnx` and `onnxruntime`. The model has the shape of CLIP
ViT-B/32 and made-up weights, which cost as much as real ones. The graph is written here, with
those weights, and given to ONNX Runtime as f32 with all its optimisations. One picture and
16 at a time, with one thread and with all; the embeddings must agree to 1e-4.
"""
import argparse
import gzip
import json
import os
import shutil
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

import peers_common

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "..", "tests", "golden")
CLOSE = 1e-4
TOWERS = {"vision": ("vision_model", "visual_projection"), "text": ("text_model", "text_projection")}


def make_weights(config):
    """All tensors of the model by the names that this layout has for them."""
    random = np.random.default_rng(1)
    weights = {"logit_scale": np.array(config["logit_scale_init_value"], np.float32)}

    def add(name, *shape, scale=0.02, offset=0.0):
        weights[name] = (offset + scale * random.standard_normal(shape)).astype(np.float32)

    def add_norm(name, width):
        add(name + ".weight", width, offset=1.0)
        add(name + ".bias", width)

    for tower, (prefix, projection) in TOWERS.items():
        about = config[tower + "_config"]
        width = about["hidden_size"]
        for number in range(about["num_hidden_layers"]):
            layer = "%s.encoder.layers.%d." % (prefix, number)
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                add(layer + "self_attn.%s.weight" % part, width, width)
                add(layer + "self_attn.%s.bias" % part, width)
            for name, rows, columns in (("fc1", about["intermediate_size"], width),
                                        ("fc2", width, about["intermediate_size"])):
                add(layer + "mlp.%s.weight" % name, rows, columns)
                add(layer + "mlp.%s.bias" % name, rows)
            add_norm(layer + "layer_norm1", width)
            add_norm(layer + "layer_norm2", width)
        add(projection + ".weight", config["projection_dim"], width)
    vision, text = config["vision_config"], config["text_config"]
    tokens = (vision["image_size"] // vision["patch_size"]) ** 2 + 1
    add("vision_model.embeddings.class_embedding", vision["hidden_size"])
    add("vision_model.embeddings.patch_embedding.weight", vision["hidden_size"], 3, vision["patch_size"],
        vision["patch_size"])
    add("vision_model.embeddings.position_embedding.weight", tokens, vision["hidden_size"])
    add_norm("vision_model.pre_layrnorm", vision["hidden_size"])
    add_norm("vision_model.post_layernorm", vision["hidden_size"])
    add("text_model.embeddings.token_embedding.weight", text["vocab_size"], text["hidden_size"])
    add("text_model.embeddings.position_embedding.weight", text["max_position_embeddings"], text["hidden_size"])
    add_norm("text_model.final_layer_norm", text["hidden_size"])
    return weights


def write_model(folder, config, weights):
    """A model directory as reco reads it."""
    header, at = {}, 0
    for name, values in weights.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in weights.values():
            file.write(values.tobytes())
    preprocessor = {"do_resize": True, "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": True,
                    "crop_size": {"height": 224, "width": 224}, "do_rescale": True, "rescale_factor": 1 / 255,
                    "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    for name, content in (("config.json", config), ("preprocessor_config.json", preprocessor)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump(content, file)
    for name in ("vocab.json", "merges.txt"):
        with gzip.open(os.path.join(GOLDEN, "vocab_full", name + ".gz"), "rb") as source, \
                open(os.path.join(folder, name), "wb") as target:
            shutil.copyfileobj(source, target)


class Graph:
    """Nodes and weights of an ONNX graph; every node has one output, named by its number."""

    def __init__(self, weights):
        self.weights = weights
        self.nodes, self.used = [], {}

    def weight(self, name, change=None):
        values = self.weights[name]
        self.used[name] = numpy_helper.from_array(np.ascontiguousarray(change(values) if change else values), name)
        return name

    def constant(self, values):
        name = "constant%d" % len(self.used)
        self.used[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def add(self, kind, *inputs, **attributes):
        name = "node%d" % len(self.nodes)
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def norm(self, x, name):
        return self.add("LayerNormalization", x, self.weight(name + ".weight"), self.weight(name + ".bias"),
                        epsilon=1e-5)

    def dense(self, x, name):
        return self.add("Add", self.add("MatMul", x, self.weight(name + ".weight", np.transpose)),
                        self.weight(name + ".bias"))


def add_layer(graph, x, name, heads, width):
    """One layer of the transformer; returns the new residual stream."""
    split = graph.constant(np.array([0, 0, heads, width // heads], np.int64))
    z = graph.norm(x, name + "layer_norm1")
    q, k, v = (graph.add("Reshape", graph.dense(z, name + "self_attn." + part), split)
               for part in ("q_proj", "k_proj", "v_proj"))
    scores = graph.add("MatMul", graph.add("Transpose", q, perm=[0, 2, 1, 3]),
                       graph.add("Transpose", k, perm=[0, 2, 3, 1]))
    scores = graph.add("Mul", scores, graph.constant(np.float32((width // heads) ** -0.5)))
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), graph.add("Transpose", v, perm=[0, 2, 1, 3]))
    joined = graph.add("Reshape", graph.add("Transpose", mixed, perm=[0, 2, 1, 3]),
                       graph.constant(np.array([0, 0, width], np.int64)))
    x = graph.add("Add", x, graph.dense(joined, name + "self_attn.out_proj"))
    wide = graph.dense(graph.norm(x, name + "layer_norm2"), name + "mlp.fc1")
    gate = graph.add("Sigmoid", graph.add("Mul", wide, graph.constant(np.float32(1.702))))
    return graph.add("Add", x, graph.dense(graph.add("Mul", wide, gate), name + "mlp.fc2"))


def write_onnx(path, config, weights):
    about = config["vision_config"]
    width, size, patch = about["hidden_size"], about["image_size"], about["patch_size"]
    graph = Graph(weights)
    x = graph.add("Conv", "pixels", graph.weight("vision_model.embeddings.patch_embedding.weight"),
                  strides=[patch, patch])
    x = graph.add("Transpose", graph.add("Reshape", x, graph.constant(np.array([0, width, -1], np.int64))),
                  perm=[0, 2, 1])
    first = graph.add("Expand", graph.weight("vision_model.embeddings.class_embedding"),
                      graph.add("Concat", graph.add("Shape", "pixels", start=0, end=1),
                                graph.constant(np.array([1, width], np.int64)), axis=0))
    x = graph.add("Add", graph.add("Concat", first, x, axis=1),
                  graph.weight("vision_model.embeddings.position_embedding.weight"))
    x = graph.norm(x, "vision_model.pre_layrnorm")
    for number in range(about["num_hidden_layers"]):
        x = add_layer(graph, x, "vision_model.encoder.layers.%d." % number, about["num_attention_heads"], width)
    x = graph.norm(graph.add("Gather", x, graph.constant(np.int64(0)), axis=1), "vision_model.post_layernorm")
    x = graph.add("MatMul", x, graph.weight("visual_projection.weight", np.transpose))
    graph.nodes.append(helper.make_node("LpNormalization", [x], ["embeddings"], axis=-1, p=2))
    model = helper.make_model(
        helper.make_graph(graph.nodes, "clip",
                          [helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["n", 3, size, size])],
                          [helper.make_tensor_value_info("embeddings", onnx.TensorProto.FLOAT,
                                                         ["n", config["projection_dim"]])],
                          list(graph.used.values())),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def compare(arguments, folder, pixels, batch, threads):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, set(cores[-threads:]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(os.path.join(folder, "clip.onnx"), options,
                                           providers=["CPUExecutionProvider"])
    pixels.tofile(os.path.join(folder, "pixels"))
    bench = peers_common.Bench([arguments.bench, folder, os.path.join(folder, "pixels"), str(batch), str(threads),
                                os.path.join(folder, "embeddings")])

    def peer():
        return np.concatenate([session.run(None, {"pixels": pixels[start:start + batch]})[0]
                               for start in range(0, len(pixels), batch)])

    ours = np.fromfile(os.path.join(folder, "embeddings"), "<f4").reshape(len(pixels), -1)
    difference = float(np.abs(ours - peer()).max())
    if difference > CLOSE:
        raise SystemExit("the embeddings differ by %g" % difference)
    peers_common.compare("%d pictures, %d at a time, %d thread%s" % (
        len(pixels), batch, threads, "s" if threads > 1 else ""), bench, peer, arguments.rounds)
    print("  embeddings differ by at most %.1e" % difference, flush=True)
    bench.close()
    os.sched_setaffinity(0, cores)


def main():
    parser = argparse.ArgumentParser(description="encodes pictures beside ONNX Runtime")
    parser.add_argument("bench")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--folder", help="for the model; default: the system's folder for such files")
    arguments = parser.parse_args()
    with open(os.path.join(GOLDEN, "random-b32", "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    print("onnxruntime %s, ViT-B/32, f32" % onnxruntime.__version__)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        weights = make_weights(config)
        write_model(folder, config, weights)
        write_onnx(os.path.join(folder, "clip.onnx"), config, weights)
        size = config["vision_config"]["image_size"]
        pixels = np.random.default_rng(2).standard_normal((16, 3, size, size), np.float32)
        for count, batch in ((4, 1), (16, 16)):
            for threads in sorted({1, len(os.sched_getaffinity(0))}):
                compare(arguments, folder, pixels[:count], batch, threads)


if __name__ == "__main__":
    main()
