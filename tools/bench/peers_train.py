#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares a step of training a fusion head with PyTorch on the same CPU.

usage: peers_train.py RECO [--pairs N] [-k N] [--dimension D] [--threads N] [--rounds N] [--seconds S]

Needs the Python packages `numpy` and `torch`.

Three processes hold a head of the default config and one batch of made-up embeddings: `reco bench train`, PyTorch that computes
queries, output and MLP for the query's token alone ("readout"), and PyTorch that computes them for all tokens ("whole"), as a
general layer does. PyTorch's head is tests/golden/fusion/fusion_torch.py, whose steps reco's equal; it has the faster of
its two AdamW (fused or for-each). A round is one measurement of each, in turn and in alternating order, the other two
waiting without a thread running; the ratio is taken round by round.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "fusion"))

PARAMS = {"rate": 5e-4, "rate_start": 10.0, "rate_scale": 10.0, "decay": 0.01, "clip": 1.0, "warmup": 50, "steps": 1000,
          "scale": 100.0, "scale_max": 100.0}


# --- PyTorch, in a process of its own

def work(readout, fused, pairs, k, dimension, threads, seconds):
    import fusion_torch
    import torch
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    config = {"dimension": dimension, "heads": max(1, dimension // 64), "mlp": 4 * dimension, "activation": "gelu",
              "norm": "pre", "baseline": "weighted", "type_embedding": True, "score_embedding": False, "score_bias": False,
              "consensus": False, "epsilon": 1e-5}
    sides = [fusion_torch.Side(config), fusion_torch.Side(config)]
    for side in sides:
        for name in side.names:
            parameter = side.get(name)
            if name.endswith("gain"):
                parameter.data.fill_(1.0)
            elif name == "start":
                side.begin_start([2.0, 20.0])
            elif name in ("query.weight", "key.weight", "value.weight", "mlp1.weight"):
                parameter.data.uniform_(-(3 / dimension) ** 0.5, (3 / dimension) ** 0.5)
    log_scale = torch.nn.Parameter(torch.tensor(PARAMS["scale"]).log())
    optimiser = fusion_torch.optimiser_of(*sides, log_scale, PARAMS)
    if fused:
        optimiser = torch.optim.AdamW(optimiser.param_groups, lr=PARAMS["rate"], fused=True)

    def unit(*shape):
        return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)

    batch = {"embeddings": [unit(pairs, dimension) for _ in range(2)],
             "payload": [unit(pairs, k, dimension) for _ in range(2)],
             "scores": [(0.9 - 0.01 * torch.arange(k)).expand(pairs, k).contiguous() for _ in range(2)],
             "mask": [torch.ones(pairs, k) for _ in range(2)], "entities": None}
    step = 0
    while True:
        begun, steps = time.perf_counter(), 0
        while steps == 0 or time.perf_counter() - begun < seconds:
            fusion_torch.train_step(*sides, log_scale, optimiser, batch, PARAMS, step, readout)
            step += 1
            steps += 1
        print(steps / (time.perf_counter() - begun), flush=True)
        if not sys.stdin.readline():
            return


class Engine:
    """A process that measures once at its start and once for each line; steps a second."""

    def __init__(self, command, read):
        self.read = read
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("%s ended" % self.process.args)
        return self.read(line)

    def measure(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def start(args):
    sizes = [args.pairs, args.k, args.dimension, args.threads]
    engines = {"reco": Engine([args.reco, "bench", "train", "--json", "--rounds", "--pairs", str(args.pairs), "-k",
                               str(args.k), "--dimension", str(args.dimension), "--threads", str(args.threads)],
                              lambda line: json.loads(line)["steps_per_second"])}
    for name, readout in (("readout", 1), ("whole", 0)):
        choices = []
        for fused in (0, 1):
            command = [sys.executable, __file__, "--work", *map(str, [readout, fused, *sizes, args.seconds])]
            choices.append(Engine(command, float))
            choices[-1].measure()
        rates = [choice.measure() for choice in choices]
        slower = choices[rates.index(min(rates))]
        slower.close()
        choices.remove(slower)
        engines[name] = choices[0]
    return engines


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "--work":
        readout, fused, pairs, k, dimension, threads = map(int, sys.argv[2:8])
        work(bool(readout), bool(fused), pairs, k, dimension, threads, float(sys.argv[8]))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("reco")
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    args = parser.parse_args()
    engines = start(args)
    rates = {name: [] for name in engines}
    for number in range(args.rounds):
        order = list(engines) if number % 2 == 0 else list(reversed(engines))
        for name in order:
            rates[name].append(engines[name].measure())
    for engine in engines.values():
        engine.close()
    for name, values in rates.items():
        ratios = sorted(ours / theirs for ours, theirs in zip(rates["reco"], values))
        tenth = len(ratios) // 10
        print("%-8s %8.2f steps/s  %7.1f ms  reco / it %5.2f  (10 %% to 90 %%: %.2f to %.2f)" % (
            name, statistics.median(values), 1000 / statistics.median(values), statistics.median(ratios), ratios[tenth],
            ratios[-1 - tenth]))


if __name__ == "__main__":
    main()
