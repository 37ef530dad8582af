#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes train.safetensors: what PyTorch's training of small fusion heads comes to, in double precision.

usage: make_fusion.py [FILE]

Two heads (the tensors' first word: "pre", "post") are trained from the same numbers on the same batches as
tests/golden/test_golden_fusion.c trains them: the state before, after one step and after fifty.
"""
import json
import pathlib
import struct
import sys

import numpy
import torch

import fusion_torch

SEED = 20261129
DIMENSION, PAIRS, K, BATCHES, STEPS = 16, 12, 5, 4, 50
PARAMS = {"rate": 2e-3, "rate_start": 10.0, "rate_scale": 5.0, "decay": 0.05, "clip": 1.0, "warmup": 5, "steps": 60,
          "scale": 30.0, "scale_max": 40.0}
COMMON = {"dimension": DIMENSION, "heads": 4, "mlp": 24, "activation": "gelu", "norm": "pre", "baseline": "weighted",
          "type_embedding": True, "score_embedding": False, "score_bias": False, "consensus": False, "epsilon": 1e-5}
CASES = {
    "pre": ({"consensus": True, "score_bias": True}, {"activation": "quick_gelu", "score_embedding": True}),
    "post": ({"norm": "post", "baseline": "mean"}, {"norm": "post", "baseline": "none", "type_embedding": False}),
}


def unit(rng, *shape):
    x = rng.standard_normal(shape)
    return x / numpy.linalg.norm(x, axis=-1, keepdims=True)


def make_batch(rng):
    """Numbers that are floats exactly, so that both programs see the same."""
    centre = unit(rng, PAIRS, DIMENSION)
    given, payload, scores, counts = [], [], [], []
    for side in range(2):
        x = centre + 0.8 * unit(rng, PAIRS, DIMENSION)
        given.append(x / numpy.linalg.norm(x, axis=-1, keepdims=True))
        n = centre[:, None] + unit(rng, PAIRS, K, DIMENSION)
        payload.append(n / numpy.linalg.norm(n, axis=-1, keepdims=True))
        scores.append(0.6 + 0.3 * rng.random((PAIRS, K)))
        count = numpy.full(PAIRS, K)
        count[:3] = [0, 1, 2 + side]
        counts.append(count)
    entities = numpy.arange(PAIRS)
    entities[7] = entities[6]
    as_floats = [[x.astype(numpy.float32) for x in part] for part in (given, payload, scores)]
    return as_floats + [counts, entities]


def tensors_of(batch):
    given, payload, scores, counts, entities = batch
    return {"embeddings": [torch.tensor(x, dtype=torch.float64) for x in given],
            "payload": [torch.tensor(x, dtype=torch.float64) for x in payload],
            "scores": [torch.tensor(x, dtype=torch.float64) for x in scores],
            "mask": [torch.tensor(numpy.arange(K)[None] < c[:, None], dtype=torch.float64) for c in counts],
            "entities": torch.tensor(entities)}


def begin(side, rng):
    for name in side.names:
        parameter = side.get(name)
        value = rng.standard_normal(parameter.shape) * (0.25 if name.endswith(".weight") else 0.05)
        if name.endswith("gain"):
            value += 1
        if name == "start":
            side.begin_start(numpy.array([2.0, 10.0, 0.3, 5.0], dtype=numpy.float32)[:len(value)])
            continue
        parameter.data = torch.tensor(value.astype(numpy.float32), dtype=torch.float64)


def numbers_of(side):
    values = [side.start() if name == "start" else side.get(name) for name in side.names]
    return torch.cat([value.detach().reshape(-1) for value in values]).numpy()


def save(path, arrays):
    header, blob = {}, b""
    for name, array in arrays.items():
        data = numpy.ascontiguousarray(array, dtype="<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)


def main():
    path = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "train.safetensors")
    rng = numpy.random.default_rng(SEED)
    batches = [make_batch(rng) for _ in range(BATCHES)]
    arrays = {}
    for number, (given, payload, scores, counts, entities) in enumerate(batches):
        for side, word in enumerate(("image", "text")):
            for what, values in (("embeddings", given), ("payload", payload), ("scores", scores), ("counts", counts)):
                arrays[f"batch{number}.{word}.{what}"] = numpy.asarray(values[side], dtype=numpy.float32)
        arrays[f"batch{number}.entities"] = entities.astype(numpy.float32)
    for case, changes in CASES.items():
        sides = [fusion_torch.Side({**COMMON, **change}, torch.float64) for change in changes]
        for side in sides:
            begin(side, rng)
        log_scale = torch.nn.Parameter(torch.tensor(PARAMS["scale"], dtype=torch.float64).log())
        optimiser = fusion_torch.optimiser_of(*sides, log_scale, PARAMS)
        losses = []
        for step in range(STEPS + 1):
            for word, side in zip(("image", "text"), sides):
                if step in (0, 1, STEPS):
                    arrays[f"{case}.{word}.after{step}"] = numbers_of(side)
            if step < STEPS:
                losses.append(fusion_torch.train_step(*sides, log_scale, optimiser, tensors_of(batches[step % BATCHES]),
                                                      PARAMS, step) + (log_scale.exp().item(),))
        arrays[f"{case}.steps"] = numpy.array(losses)
        print(case, "first and last step (loss, norm, scale):", losses[0], losses[-1])
    save(path, arrays)


if __name__ == "__main__":
    main()
