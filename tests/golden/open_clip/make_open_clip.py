#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes images.npy and texts.npy: embeddings of reco-tiny as open_clip itself computes them.

usage: make_open_clip.py        (needs open_clip_torch and safetensors; made with open_clip_torch 3.3.0)

The weights go through layout.py into open_clip's layout and are loaded strictly: not a tensor too
many, too few or of another shape. Inputs are the prepared pixels and token ids of ../tiny, so that
only the models are compared.
"""
import json
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from open_clip.model import CLIP
from open_clip.transform import image_transform
from PIL import Image
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import layout  # noqa: E402

TINY = HERE.parent.parent.parent / "shaders" / "models" / "reco-tiny"


def unit(rows):
    return torch.nn.functional.normalize(rows, dim=-1).float().numpy()


def main():
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        layout.convert(TINY, folder)
        config = json.loads((Path(folder) / "open_clip_config.json").read_text())["model_cfg"]
        model = CLIP(**config)
        state = load_file(Path(folder) / "open_clip_model.safetensors")
    model.load_state_dict({name: value.float() for name, value in state.items()}, strict=True)
    model.eval()

    golden = HERE.parent / "tiny"
    names = json.loads((golden / "index.json").read_text())["images"]
    prepare = image_transform(config["vision_cfg"]["image_size"], is_train=False)
    pixels = torch.stack([prepare(Image.open(golden / "images" / name)) for name in names])
    ids = torch.from_numpy(numpy.load(golden / "input_ids.npy").astype(numpy.int64))
    with torch.no_grad():
        images = unit(model.encode_image(pixels))
        texts = unit(model.encode_text(ids))
    numpy.save(HERE / "images.npy", images)
    numpy.save(HERE / "texts.npy", texts)


if __name__ == "__main__":
    main()
