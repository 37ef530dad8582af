#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the tokenizer with Hugging Face's fast one (`tokenizers`, Rust) on one core.

usage: peers_tokenizer.py TOKENIZER_BENCH REPOSITORY [ROUNDS]

Needs the Python packages `tokenizers` and `transformers`. Two sets of texts: the golden
texts (eight languages, emoji, over-long ones) and English captions built from their
names. Hugging Face's side is the bare Rust tokenizer in one call for the whole set, without
offsets where its version can do that.
"""
import gzip
import json
import os
import sys
import tempfile

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import peers_common

TEMPLATES = ["a photo of a {}.", "a bad photo of the {}, seen in 2019!", "itap of my {}", "A close-up of one small {} on the table",
             "{}"]


def golden_texts(folder):
    with gzip.open(os.path.join(folder, "tokenizer", "tokenizer_full.jsonl.gz"), "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts = [row["text"] for row in rows if "\0" not in row["text"]]
    names = [row["text"] for row in rows if row["kind"] == "name en"]
    return texts, [template.format(name) for name in names for template in TEMPLATES]


def peer_of(folder):
    from transformers import CLIPTokenizer
    tokenizer = CLIPTokenizer.from_pretrained(folder).backend_tokenizer
    tokenizer.enable_truncation(77)
    encode = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
    return tokenizer, encode


def main(program, repository, rounds=40):
    peers_common.pin()
    golden = os.path.join(repository, "tests", "golden")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("vocab.json", "merges.txt"):
            with gzip.open(os.path.join(golden, "vocab_full", name + ".gz")) as source, \
                    open(os.path.join(folder, name), "wb") as target:
                target.write(source.read())
        tokenizer, encode = peer_of(folder)
        texts, captions = golden_texts(golden)
        for name, some in (("golden texts, 8 languages", texts), ("English captions", captions)):
            path = os.path.join(folder, "texts")
            with open(path, "wb") as file:
                file.write(b"".join(text.encode() + b"\0" for text in some))
            bench = peers_common.Bench([program, os.path.join(folder, "vocab.json"), os.path.join(folder, "merges.txt"),
                                        "77", path])
            ids = sum(len(encoded.ids) for encoded in encode(some))
            print("%s: %d texts, %d bytes, ids ours %d, peer %d" % (
                name, len(some), os.path.getsize(path) - len(some), bench.run()[1], ids))
            peers_common.compare(name, bench, lambda: encode(some), int(rounds))
            bench.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
