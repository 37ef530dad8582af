# SPDX-License-Identifier: Apache-2.0
"""The fusion head of shaders/models/fusion_config.h and its training step, in PyTorch with automatic differentiation.

Used by make_fusion.py, which makes the golden file, and by tools/bench/peers_train.py. `readout=False` computes queries,
output and MLP for all tokens, as a general transformer layer does.
"""
import math

import torch
from torch import nn
from torch.nn import functional


class Side(nn.Module):
    """One side of a head; parameters have the names and shapes of the head's file."""

    def __init__(self, config, dtype=torch.float32):
        super().__init__()
        self.config = config
        d, mlp, heads = config["dimension"], config["mlp"], config["heads"]
        shapes = []
        start = {"weighted": 4 if config["consensus"] else 2, "mean": 1}.get(config["baseline"], 0)
        if start:
            shapes.append(("start", (start,)))
        if config["type_embedding"]:
            shapes.append(("type", (2, d)))
        if config["score_embedding"]:
            shapes.append(("score_embedding", (d,)))
        if config["score_bias"]:
            shapes.append(("score_bias", (heads,)))
        if config["norm"] != "none":
            shapes += [("norm1.gain", (d,)), ("norm1.bias", (d,))]
        shapes += [("query.weight", (d, d)), ("query.bias", (d,)), ("key.weight", (d, d)), ("value.weight", (d, d)),
                   ("value.bias", (d,)), ("out.weight", (d, d)), ("out.bias", (d,))]
        if config["norm"] != "none":
            shapes += [("norm2.gain", (d,)), ("norm2.bias", (d,))]
        shapes += [("mlp1.weight", (mlp, d)), ("mlp1.bias", (mlp,)), ("mlp2.weight", (d, mlp)), ("mlp2.bias", (d,))]
        self.names = [name for name, _ in shapes]
        for name, shape in shapes:
            self.register_parameter("p_" + name.replace(".", "_"), nn.Parameter(torch.zeros(shape, dtype=dtype)))

    def get(self, name):
        return getattr(self, "p_" + name.replace(".", "_"), None)

    def start(self):
        """beta, temperature, consensus, sharpness: all but consensus learn in their logarithms."""
        raw = self.get("start")
        return torch.where(torch.arange(len(raw)) == 2, raw, raw.exp())

    def begin_start(self, numbers):
        numbers = torch.as_tensor(numbers, dtype=self.get("start").dtype)
        self.get("start").data = torch.where(torch.arange(len(numbers)) == 2, numbers, numbers.log())

    def norm(self, x, which):
        d = self.config["dimension"]
        return functional.layer_norm(x, (d,), self.get(f"norm{which}.gain"), self.get(f"norm{which}.bias"),
                                     self.config["epsilon"])

    def baseline(self, query, payload, scores, mask):
        config = self.config
        if config["baseline"] == "query":
            return query
        start = self.start()
        if config["baseline"] == "mean":
            weights = mask / mask.sum(1, keepdim=True).clamp(min=1)
        else:
            logits = (start[1] * scores).masked_fill(mask == 0, -math.inf)
            logits = torch.where(mask.sum(1, keepdim=True) > 0, logits, torch.zeros_like(logits))
            if config["consensus"]:
                first = logits.softmax(1) * mask
                alike = torch.exp(start[3] * (payload @ payload.transpose(1, 2) - 1))
                agreement = torch.log((alike * first[:, None, :]).sum(2).clamp(min=1e-30))
                logits = logits + start[2] * agreement
            weights = logits.softmax(1) * mask
        return query + start[0] * (weights[:, :, None] * payload).sum(1)

    def forward(self, query, payload, scores, mask, readout=True):
        """query [B, d], payload [B, k, d], scores and mask [B, k]; the refined unit embeddings."""
        config = self.config
        pairs, k, d = payload.shape
        heads = config["heads"]
        tokens = torch.cat([query[:, None], payload], 1)
        types = self.get("type")
        if types is not None:
            tokens = tokens + torch.cat([types[:1], types[1:].expand(k, d)])
        if config["score_embedding"]:
            all_scores = functional.pad(scores, (1, 0))
            tokens = tokens + all_scores[:, :, None] * self.get("score_embedding")
        x = tokens if not readout else tokens[:, :1]
        y = self.norm(tokens, 1) if config["norm"] == "pre" else tokens
        read = y if not readout else y[:, :1]

        def split(z):
            return z.view(pairs, -1, heads, d // heads).transpose(1, 2)

        q = split(functional.linear(read, self.get("query.weight"), self.get("query.bias")))
        keys = split(functional.linear(y, self.get("key.weight")))
        values = split(functional.linear(y, self.get("value.weight"), self.get("value.bias")))
        bias = functional.pad(torch.zeros_like(mask).masked_fill(mask == 0, -math.inf), (1, 0))[:, None, None]
        if config["score_bias"]:
            bias = bias + functional.pad(scores, (1, 0))[:, None, None] * self.get("score_bias")[None, :, None, None]
        o = functional.scaled_dot_product_attention(q, keys, values, attn_mask=bias)
        o = o.transpose(1, 2).reshape(pairs, -1, d)
        h = x + functional.linear(o, self.get("out.weight"), self.get("out.bias"))
        if config["norm"] == "post":
            h = self.norm(h, 1)
        z = self.norm(h, 2) if config["norm"] == "pre" else h
        t = functional.linear(z, self.get("mlp1.weight"), self.get("mlp1.bias"))
        t = functional.gelu(t) if config["activation"] == "gelu" else t * torch.sigmoid(1.702 * t)
        out = h + functional.linear(t, self.get("mlp2.weight"), self.get("mlp2.bias"))
        if config["norm"] == "post":
            out = self.norm(out, 2)
        out, x0 = out[:, 0], x[:, 0]
        if config["baseline"] != "none":
            out = self.baseline(query, payload, scores, mask) + out - x0
        return torch.where(mask.sum(1, keepdim=True) > 0, functional.normalize(out, dim=1), query)


def contrast(a, b, scale, entities):
    """Symmetric cross entropy; other pairs of one entity are left out."""
    logits = scale * a @ b.T
    if entities is not None:
        same = (entities[:, None] == entities[None, :]) & ~torch.eye(len(a), dtype=torch.bool)
        logits = logits.masked_fill(same, -math.inf)
    targets = torch.arange(len(a))
    return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2


def loss_of(image, text, batch, log_scale, readout=True):
    refined = [side(batch["embeddings"][s], batch["payload"][s], batch["scores"][s], batch["mask"][s], readout)
               for s, side in enumerate((image, text))]
    scale = log_scale.exp()
    given = batch["embeddings"]
    entities = batch["entities"]
    return (contrast(refined[0], refined[1], scale, entities) + contrast(refined[0], given[1], scale, entities) +
            contrast(given[0], refined[1], scale, entities))


def optimiser_of(image, text, log_scale, params):
    """AdamW with the groups of fusion_train.h; each group's "factor" is that of its rate."""
    decayed, plain, start = [], [], []
    for side in (image, text):
        for name in side.names:
            group = start if name == "start" else decayed if name.endswith(".weight") else plain
            group.append(side.get(name))
    groups = [{"params": decayed, "weight_decay": params["decay"], "factor": 1.0},
              {"params": plain, "weight_decay": 0.0, "factor": 1.0},
              {"params": start, "weight_decay": 0.0, "factor": params["rate_start"]},
              {"params": [log_scale], "weight_decay": 0.0, "factor": params["rate_scale"]}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=params["rate"], betas=(0.9, 0.999), eps=1e-8)


def rate_at(params, step):
    if step < params["warmup"]:
        return params["rate"] * (step + 1) / params["warmup"]
    way = min(1.0, (step - params["warmup"]) / (params["steps"] - params["warmup"]))
    return params["rate"] * 0.5 * (1 + math.cos(math.pi * way))


def train_step(image, text, log_scale, optimiser, batch, params, step, readout=True):
    loss = loss_of(image, text, batch, log_scale, readout)
    optimiser.zero_grad()
    loss.backward()
    everything = [p for group in optimiser.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(everything, params["clip"])
    for group in optimiser.param_groups:
        group["lr"] = rate_at(params, step) * group["factor"]
    optimiser.step()
    with torch.no_grad():
        log_scale.clamp_(max=math.log(params["scale_max"]))
    return loss.item(), norm.item()
