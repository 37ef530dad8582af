#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares reco's encoders with ONNX Runtime, OpenVINO and PyTorch on the CPU.

usage: peers_encode.py RECO [--model b32,b16,l14] [--what image,text] [--batch 1,8,32] [--threads N]
                       [--rounds N] [--starts N] [--padding 77|longest] [--folder DIR] [--to FILE] [--device UUID]

Needs the Python packages `numpy`, `Pillow`, `torch` and `transformers`; without --device `onnx`, `onnxruntime` and
`openvino` too.

Each engine is a process of its own that has the same weights (seeded, as costly as real ones) in f32,
is asked for one measurement after the other, and waits in between without a thread running. A round is one measurement of every
engine, in turn and in alternating order; the ratio is taken round by round. PyTorch runs transformers' own
modules, one tower of them; ONNX Runtime and OpenVINO a graph of that tower that is written here
from the same weights. All of them see the same pixels or captions, prepared beforehand; reco's time
includes its tokenizing. The embeddings of all engines must agree to 1e-4.

Texts are padded by the peers to 77 tokens, as OpenAI's and open_clip's tokenizers do, or to the
longest of their batch, as transformers does on request. First answer: from the start of the process
to its first embedding on its stdout, the median of --starts of them in turn; each engine is started once before, when files
may not be in memory and reco has not seen the model yet, which is told beside it. Memory: the peak of the process when it has
done all batches.

With --device reco computes on that Vulkan device (`reco doctor` lists them), beside PyTorch alone: on its GPU
in half precision by autocast, if it has one, else on the CPU; the last lines say which. Embeddings agree to 5e-3.
"""
import argparse
import gzip
import json
import math
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
ENGINES = ("onnxruntime", "openvino", "pytorch")
CLOSE = 1e-4
CLOSE_HALF = 5e-3
SECONDS = 0.25  # of a measurement at least, as `reco bench encode` does
SHAPES = {  # patch; width, mlp, layers, heads of pictures; of texts; dimension
    "b32": (32, (768, 3072, 12, 12), (512, 2048, 12, 8), 512),
    "b16": (16, (768, 3072, 12, 12), (512, 2048, 12, 8), 512),
    "l14": (14, (1024, 4096, 24, 16), (768, 3072, 12, 12), 768),
}
CAPTIONS = (
    "a photo of a dog", "two people on a bench in the park", "a red car parked in front of a brick house at night",
    "an aerial view of a river delta with boats, painted in watercolour by a student", "snow",
    "a close-up of a bee on a purple flower, shallow depth of field",
    "the kitchen of a small restaurant during the evening rush", "graph paper with a hand-drawn map of an island",
)
TOWERS = {"image": ("vision_model", "visual_projection"), "text": ("text_model", "text_projection")}


# --- one model directory

def make_config(shape):
    patch, vision, text, dimension = SHAPES[shape]
    config = json.loads((GOLDEN / "random-b32" / "config.json").read_text(encoding="utf-8"))
    config["projection_dim"] = dimension
    for part, sizes in (("vision_config", vision), ("text_config", text)):
        keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        config[part].update(zip(keys, sizes), projection_dim=dimension)
    config["vision_config"]["patch_size"] = patch
    return config


def make_model(folder, shape):
    import torch
    import transformers
    config = make_config(shape)
    torch.manual_seed(1)
    model = transformers.CLIPModel(transformers.CLIPConfig(**config))
    model.save_pretrained(folder)
    preprocessor = {"do_resize": True, "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": True,
                    "crop_size": {"height": 224, "width": 224}, "do_rescale": True, "rescale_factor": 1 / 255,
                    "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    for name, content in (("config.json", config), ("preprocessor_config.json", preprocessor)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    for name in ("vocab.json", "merges.txt"):
        with gzip.open(GOLDEN / "vocab_full" / (name + ".gz"), "rb") as source, open(folder / name, "wb") as target:
            shutil.copyfileobj(source, target)


# --- the same weights as an ONNX graph

class Graph:
    """Nodes and weights of an ONNX graph; every node has one output, named by its number."""

    def __init__(self, weights):
        from onnx import helper, numpy_helper
        self.helper, self.numpy_helper = helper, numpy_helper
        self.weights = weights
        self.nodes, self.used = [], {}

    def weight(self, name, change=None):
        import numpy as np
        values = self.weights[name]
        values = np.ascontiguousarray(change(values) if change else values)
        self.used[name] = self.numpy_helper.from_array(values, name)
        return name

    def constant(self, values):
        import numpy as np
        name = "constant%d" % len(self.used)
        self.used[name] = self.numpy_helper.from_array(np.asarray(values), name)
        return name

    def ints(self, *values):
        import numpy as np
        return self.constant(np.array(values, np.int64))

    def add(self, kind, *inputs, **attributes):
        name = "node%d" % len(self.nodes)
        self.nodes.append(self.helper.make_node(kind, inputs, [name], **attributes))
        return name

    def norm(self, x, name):
        return self.add("LayerNormalization", x, self.weight(name + ".weight"), self.weight(name + ".bias"),
                        epsilon=1e-5)

    def dense(self, x, name):
        import numpy as np
        return self.add("Add", self.add("MatMul", x, self.weight(name + ".weight", np.transpose)),
                        self.weight(name + ".bias"))


def add_layer(graph, x, name, about, mask):
    """One layer of the transformer; returns the new residual stream."""
    import numpy as np
    heads, width = about["num_attention_heads"], about["hidden_size"]
    split = graph.ints(0, 0, heads, width // heads)
    z = graph.norm(x, name + "layer_norm1")
    q, k, v = (graph.add("Reshape", graph.dense(z, name + "self_attn." + part), split)
               for part in ("q_proj", "k_proj", "v_proj"))
    scores = graph.add("MatMul", graph.add("Transpose", q, perm=[0, 2, 1, 3]),
                       graph.add("Transpose", k, perm=[0, 2, 3, 1]))
    scores = graph.add("Mul", scores, graph.constant(np.float32((width // heads) ** -0.5)))
    if mask:
        scores = graph.add("Add", scores, mask)
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), graph.add("Transpose", v, perm=[0, 2, 1, 3]))
    joined = graph.add("Reshape", graph.add("Transpose", mixed, perm=[0, 2, 1, 3]), graph.ints(0, 0, width))
    x = graph.add("Add", x, graph.dense(joined, name + "self_attn.out_proj"))
    wide = graph.dense(graph.norm(x, name + "layer_norm2"), name + "mlp.fc1")
    gate = graph.add("Sigmoid", graph.add("Mul", wide, graph.constant(np.float32(1.702))))
    return graph.add("Add", x, graph.dense(graph.add("Mul", wide, gate), name + "mlp.fc2"))


def embed_pixels(graph, about):
    width, patch = about["hidden_size"], about["patch_size"]
    x = graph.add("Conv", "input", graph.weight("vision_model.embeddings.patch_embedding.weight"),
                  strides=[patch, patch])
    x = graph.add("Transpose", graph.add("Reshape", x, graph.ints(0, width, -1)), perm=[0, 2, 1])
    first = graph.add("Expand", graph.weight("vision_model.embeddings.class_embedding"),
                      graph.add("Concat", graph.add("Shape", "input", start=0, end=1), graph.ints(1, width), axis=0))
    x = graph.add("Add", graph.add("Concat", first, x, axis=1),
                  graph.weight("vision_model.embeddings.position_embedding.weight"))
    return graph.norm(x, "vision_model.pre_layrnorm")


def embed_ids(graph):
    """The embedded tokens, and the causal mask for their number."""
    import numpy as np
    length = graph.add("Shape", "input", start=1, end=2)
    positions = graph.add("Slice", graph.weight("text_model.embeddings.position_embedding.weight"), graph.ints(0),
                          length, graph.ints(0))
    x = graph.add("Add", graph.add("Gather", graph.weight("text_model.embeddings.token_embedding.weight"), "input"),
                  positions)
    mask = graph.constant(np.triu(np.full((77, 77), -1e9, np.float32), 1))
    mask = graph.add("Slice", mask, graph.ints(0, 0), graph.add("Concat", length, length, axis=0), graph.ints(0, 1))
    return x, mask


def write_onnx(path, what, config, weights):
    import numpy as np
    import onnx
    tower, projection = TOWERS[what]
    about = config["vision_config" if what == "image" else "text_config"]
    graph = Graph(weights)
    x, mask = (embed_pixels(graph, about), None) if what == "image" else embed_ids(graph)
    for number in range(about["num_hidden_layers"]):
        x = add_layer(graph, x, "%s.encoder.layers.%d." % (tower, number), about, mask)
    if what == "image":
        x = graph.norm(graph.add("Gather", x, graph.constant(np.int64(0)), axis=1), "vision_model.post_layernorm")
        given = graph.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["n", 3, 224, 224])
    else:
        x = graph.norm(x, "text_model.final_layer_norm")
        end = graph.add("ArgMax", "input", axis=1, keepdims=1)  # the end token has the largest id
        x = graph.add("GatherND", x, end, batch_dims=1)
        given = graph.helper.make_tensor_value_info("input", onnx.TensorProto.INT64, ["n", "length"])
    x = graph.add("MatMul", x, graph.weight(projection + ".weight", np.transpose))
    graph.nodes.append(graph.helper.make_node("LpNormalization", [x], ["embeddings"], axis=-1, p=2))
    result = graph.helper.make_tensor_value_info("embeddings", onnx.TensorProto.FLOAT, ["n", config["projection_dim"]])
    model = graph.helper.make_model(graph.helper.make_graph(graph.nodes, "clip", [given], [result],
                                                            list(graph.used.values())),
                                    opset_imports=[graph.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


# --- a peer, in a process of its own

def start_onnxruntime(folder, what, threads):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    session = onnxruntime.InferenceSession(str(folder / (what + ".onnx")), options, providers=["CPUExecutionProvider"])
    return lambda values: session.run(None, {"input": values})[0]


def start_openvino(folder, what, threads):
    import openvino
    compiled = openvino.Core().compile_model(str(folder / (what + ".onnx")), "CPU", {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY"})
    return lambda values: compiled(values)[0]


def start_pytorch(folder, what, threads, wants_gpu):
    import torch
    import transformers
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    kind = transformers.CLIPVisionModelWithProjection if what == "image" else transformers.CLIPTextModelWithProjection
    place = "cuda" if wants_gpu and torch.cuda.is_available() else "cpu"
    model = kind.from_pretrained(folder).eval().to(place)

    def encode(values):
        given = torch.from_numpy(values).to(place)
        with torch.autocast(place, torch.float16, enabled=place == "cuda"):
            found = model(pixel_values=given).image_embeds if what == "image" else model(input_ids=given).text_embeds
        return torch.nn.functional.normalize(found.float(), dim=-1).cpu().numpy()
    return encode, place


def work(engine, folder, what, threads, wants_gpu):
    """Answers lines of stdin, "BATCH" with "items seconds peak_rss_bytes"; before, the embeddings are written."""
    import numpy as np
    inputs = {int(path.stem.split("-")[-1]): np.load(path) for path in folder.glob("input-%s-*.npy" % what)}
    place = "cpu"
    if engine == "pytorch":
        encode, place = start_pytorch(folder, what, threads, wants_gpu)
    else:
        encode = {"onnxruntime": start_onnxruntime, "openvino": start_openvino}[engine](folder, what, threads)
    encode(inputs[1])
    print("ready", place, flush=True)
    np.save(folder / ("output-%s-%s.npy" % (what, engine)), encode(inputs[max(inputs)]))
    for line in sys.stdin:
        values = inputs[int(line)]
        items, start = 0, time.perf_counter()
        while items == 0 or time.perf_counter() - start < SECONDS:
            encode(values)
            items += len(values)
        seconds = time.perf_counter() - start
        status = pathlib.Path("/proc/self/status").read_text()  # getrusage()'s has the parent's in it
        peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
        print(items, seconds, peak, flush=True)


class Peer:
    def __init__(self, engine, folder, what, threads, wants_gpu=False):
        self.name = engine
        begun = time.perf_counter()
        self.process = subprocess.Popen([sys.executable, __file__, "--work", engine, str(folder), what, str(threads),
                                         "gpu" if wants_gpu else "cpu"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True)
        ready, _, self.place = self.process.stdout.readline().strip().partition(" ")
        if ready != "ready":
            raise SystemExit("%s did not start" % engine)
        self.first_answer = time.perf_counter() - begun
        self.peak = 0

    def measure(self, batch):
        self.process.stdin.write("%d\n" % batch)
        self.process.stdin.flush()
        items, seconds, self.peak = map(float, self.process.stdout.readline().split())
        return items / seconds

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Reco(Peer):
    def __init__(self, program, folder, what, threads, batches, device=None):
        self.name = "reco"
        self.place = device or "cpu"
        begun = time.perf_counter()
        command = [program, "bench", "encode", "--model", str(folder), "--what", what, "--threads", str(threads),
                   "--batch", ",".join(map(str, batches)), "--rounds", "--json"]
        command += ["--texts", str(folder / "texts.txt")] if what == "text" else []
        command += ["--device", device] if device else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, "XDG_CACHE_HOME": str(folder)})
        # The line tells a measurement already: of as many single items as take SECONDS.
        rate = json.loads(self.process.stdout.readline())["items_per_second"]
        self.first_answer = time.perf_counter() - begun - math.ceil(SECONDS * rate) / rate
        self.peak = 0

    def measure(self, batch):
        self.process.stdin.write("%d\n" % batch)
        self.process.stdin.flush()
        row = json.loads(self.process.stdout.readline())
        self.peak = row["peak_rss_bytes"]
        return row["items_per_second"]


# --- the comparison

def write_inputs(program, folder, what, batches, padding):
    import numpy as np
    if what == "text":
        import transformers
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
        texts = [CAPTIONS[i % len(CAPTIONS)] for i in range(max(batches + [1]))]
        (folder / "texts.txt").write_text("\n".join(CAPTIONS), encoding="utf-8")
        for batch in set(batches) | {1}:
            options = {"padding": "max_length", "max_length": 77} if padding == "77" else {"padding": True}
            ids = tokenizer(texts[:batch], return_tensors="np", **options)["input_ids"]
            np.save(folder / ("input-text-%d.npy" % batch), ids.astype(np.int64))
        return [["embed", "text", *CAPTIONS[:max(batches)]]]
    from PIL import Image
    count = max(batches)
    names = []
    for number in range(count):
        names.append(str(folder / ("picture%02d.png" % number)))
        values = np.random.default_rng(number).integers(0, 256, (14, 14, 3), np.uint8)
        Image.fromarray(values).resize((224, 224), Image.Resampling.BILINEAR).save(names[-1])
    pixels = np.stack([np.asarray(Image.open(name), np.float32) / 255 for name in names]).transpose(0, 3, 1, 2)
    pixels = np.ascontiguousarray((pixels - 0.5) / 0.5, np.float32)
    for batch in set(batches) | {1}:
        np.save(folder / ("input-image-%d.npy" % batch), pixels[:batch])
    return [["embed", "image", *names]]


def check(program, folder, what, asked, engines, device):
    """The embeddings of all agree."""
    import numpy as np
    for arguments in asked:
        done = subprocess.run([program, *arguments, "--model", str(folder), "--json",
                               *(["--device", device] if device else [])], stdout=subprocess.PIPE, text=True, check=True)
        ours = np.array([json.loads(line)["embedding"] for line in done.stdout.splitlines()], np.float32)
        for engine in engines:
            theirs = np.load(folder / ("output-%s-%s.npy" % (what, engine)))[:len(ours)]
            difference = float(np.abs(ours - theirs).max())
            if not difference < (CLOSE_HALF if device else CLOSE):
                raise SystemExit("%s: the embeddings differ by %g" % (engine, difference))


def start_all(arguments, names, folder, what, batches):
    """Starts all engines in turn, once and then --starts times; returns the last ones, and how long each took."""
    shutil.rmtree(folder / "reco", ignore_errors=True)  # what reco knows of the model from runs before
    starts = {name: [] for name in ("reco", *names)}
    for number in range(arguments.starts + 1):
        engines = []
        for name in starts:
            engines.append(Reco(arguments.reco, folder, what, arguments.threads, batches, arguments.device)
                           if name == "reco" else
                           Peer(name, folder, what, arguments.threads, bool(arguments.device)))
            starts[name].append(engines[-1].first_answer)
            if number < arguments.starts:
                engines[-1].close()
    return engines, starts


def compare(arguments, folder, shape, what):
    import numpy as np
    batches = [int(batch) for batch in arguments.batch.split(",")]
    asked = write_inputs(arguments.reco, folder, what, batches, arguments.padding)
    names = ("pytorch",) if arguments.device else ENGINES
    engines, starts = start_all(arguments, names, folder, what, batches)
    rates = {(engine.name, batch): [] for engine in engines for batch in batches}
    for number in range(arguments.rounds + 1):
        for batch in batches:
            for engine in engines if number % 2 else reversed(engines):
                rate = engine.measure(batch)
                if number > 0:  # the first round warms up
                    rates[engine.name, batch].append(rate)
    rows = []
    for batch in batches:
        ours = np.array(rates["reco", batch])
        row = {"model": shape, "what": what, "batch": batch, "threads": arguments.threads,
               "padding": arguments.padding if what == "text" else None, "reco": statistics.median(ours)}
        for engine in names:
            ratios = ours / np.array(rates[engine, batch])
            row[engine] = {"per_second": statistics.median(rates[engine, batch]), "ratio": statistics.median(ratios),
                           "least": min(ratios), "most": max(ratios)}
        rows.append(row)
    about = {engine.name: {"first_answer": statistics.median(starts[engine.name][1:]),
                           "very_first": starts[engine.name][0], "peak": engine.peak, "device": engine.place}
             for engine in engines}
    for engine in engines:
        engine.close()
    check(arguments.reco, folder, what, asked, names, arguments.device)
    return rows, about


def show(rows, about):
    names = [name for name in ENGINES if name in about]
    print("| model | what | batch | reco | %s |" % " | ".join("%s | ratio (range)" % name for name in names))
    print("|---|---|---:|---:|%s" % ("---:|---:|" * len(names)))
    for row in rows:
        cells = ["%.1f | **%.2f** (%.2f to %.2f)" % (row[name]["per_second"], row[name]["ratio"], row[name]["least"],
                                                     row[name]["most"]) for name in names]
        print("| %s | %s | %d | %.1f | %s |" % (row["model"], row["what"], row["batch"], row["reco"],
                                               " | ".join(cells)))
    for name, values in about.items():
        print("%s on %s: first answer %.3f s (the very first %.3f s), at most %.0f MB" % (
            name, values["device"], values["first_answer"], values["very_first"], values["peak"] / 1e6))
    sys.stdout.flush()


def main():
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]), sys.argv[6] == "gpu")
        return
    parser = argparse.ArgumentParser(description="encodes beside ONNX Runtime, OpenVINO and PyTorch")
    parser.add_argument("reco")
    parser.add_argument("--model", default="b32,b16,l14")
    parser.add_argument("--what", default="image,text")
    parser.add_argument("--batch", default="1,8,32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--padding", choices=("77", "longest"), default="77")
    parser.add_argument("--folder", help="for the models, which are kept there; default: made and removed")
    parser.add_argument("--to", help="file for a line of JSON for each model and kind")
    parser.add_argument("--device", help="UUID of a Vulkan device: reco there, beside PyTorch on its GPU")
    parser.add_argument("--prepare", action="store_true", help="makes the models only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for shape in arguments.model.split(","):
            folder = pathlib.Path(arguments.folder or temporary) / shape
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / ("model.safetensors" if arguments.device else "text.onnx")).exists():
                prepare(folder, shape, with_onnx=not arguments.device)
            for what in () if arguments.prepare else arguments.what.split(","):
                rows, about = compare(arguments, folder, shape, what)
                show(rows, about)
                if arguments.to:
                    with open(arguments.to, "a", encoding="utf-8") as file:
                        file.write(json.dumps({"rows": rows, "about": about}) + "\n")


def prepare(folder, shape, with_onnx):
    make_model(folder, shape)
    if not with_onnx:
        return
    import safetensors.numpy
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    for what in TOWERS:
        write_onnx(folder / (what + ".onnx"), what, make_config(shape), weights)


if __name__ == "__main__":
    main()
