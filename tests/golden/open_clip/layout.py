# SPDX-License-Identifier: Apache-2.0
"""A model directory of Hugging Face's CLIP layout in open_clip's. Python's standard library only."""
import json
import shutil
import struct
from pathlib import Path

LAYER = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj",
         "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
PLAIN = {
    "logit_scale": "logit_scale",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
TURNED = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}


def read_safetensors(path):
    """name -> (dtype, shape, bytes)"""
    data = Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: (one["dtype"], one["shape"],
                   data[8 + size + one["data_offsets"][0]:8 + size + one["data_offsets"][1]])
            for name, one in header.items()}


def write_safetensors(path, tensors):
    header = {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text
                           + b"".join(data for _, _, data in tensors.values()))


def turn(dtype, shape, data):
    size = {"F16": 2, "BF16": 2, "F32": 4}[dtype]
    rows, columns = shape
    cells = [data[i:i + size] for i in range(0, len(data), size)]
    return dtype, [columns, rows], b"".join(cells[r * columns + c] for c in range(columns)
                                            for r in range(rows))


def convert_tensors(theirs):
    """Hugging Face's tensors under open_clip's names."""
    ours = {PLAIN[name]: theirs[name] for name in PLAIN}
    ours.update({TURNED[name]: turn(*theirs[name]) for name in TURNED})
    for tower, prefix in (("text_model", "transformer"), ("vision_model", "visual.transformer")):
        n = 0
        while f"{tower}.encoder.layers.{n}.layer_norm1.weight" in theirs:
            before, behind = f"{tower}.encoder.layers.{n}.", f"{prefix}.resblocks.{n}."
            for end in ("weight", "bias"):
                for name, to in LAYER.items():
                    ours[f"{behind}{to}.{end}"] = theirs[f"{before}{name}.{end}"]
                parts = [theirs[f"{before}self_attn.{part}_proj.{end}"] for part in "qkv"]
                dtype, shape, _ = parts[0]
                ours[f"{behind}attn.in_proj_{end}"] = (dtype, [3 * shape[0], *shape[1:]],
                                                       b"".join(data for _, _, data in parts))
            n += 1
    return ours


def convert_config(config, preprocessor):
    text, vision = config["text_config"], config["vision_config"]
    return {
        "model_cfg": {
            "embed_dim": config["projection_dim"],
            "quick_gelu": text["hidden_act"] == "quick_gelu",
            "vision_cfg": {"image_size": vision["image_size"], "layers": vision["num_hidden_layers"],
                           "width": vision["hidden_size"], "patch_size": vision["patch_size"],
                           "head_width": vision["hidden_size"] // vision["num_attention_heads"],
                           "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"]},
            "text_cfg": {"context_length": text["max_position_embeddings"],
                         "vocab_size": text["vocab_size"], "width": text["hidden_size"],
                         "heads": text["num_attention_heads"], "layers": text["num_hidden_layers"],
                         "mlp_ratio": text["intermediate_size"] / text["hidden_size"]},
        },
        "preprocess_cfg": {"mean": preprocessor["image_mean"], "std": preprocessor["image_std"],
                           "interpolation": "bicubic", "resize_mode": "shortest"},
    }


def convert(source, target):
    """Writes the directory `target`; vocabulary and reco.json are copied."""
    source, target = Path(source), Path(target)
    target.mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt", "reco.json"):
        if (source / name).exists():
            shutil.copy(source / name, target / name)
    config = json.loads((source / "config.json").read_text())
    preprocessor = json.loads((source / "preprocessor_config.json").read_text())
    (target / "open_clip_config.json").write_text(
        json.dumps(convert_config(config, preprocessor), indent=2))
    write_safetensors(target / "open_clip_model.safetensors",
                      convert_tensors(read_safetensors(source / "model.safetensors")))


def tokenizer_json(vocab, merges, pairs=True):
    """What the tokenizers library writes for CLIP's tokenizer; older versions write merges as texts."""
    lines = [line for line in merges.split("\n") if line and not line.startswith("#version")]
    ends = ("<|startoftext|>", "<|endoftext|>")
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": vocab[end], "content": end, "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": True, "special": True} for end in ends],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m"
                                                   r"|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"},
             "behavior": "Removed", "invert": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
        "post_processor": {"type": "RobertaProcessing", "sep": [ends[1], vocab[ends[1]]],
                           "cls": [ends[0], vocab[ends[0]]], "trim_offsets": False,
                           "add_prefix_space": False},
        "decoder": None,
        "model": {"type": "BPE", "dropout": None, "unk_token": ends[1],
                  "continuing_subword_prefix": "", "end_of_word_suffix": "</w>", "fuse_unk": False,
                  "vocab": vocab, "merges": [line.split(" ") for line in lines] if pairs else lines},
    }
