# SPDX-License-Identifier: Apache-2.0
"""What the demo and the accuracy test share: the corpus, the reco program, counting right answers.

Python 3.9 and its standard library only.
"""
import gzip
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
MEMORY = FOLDER / "memory.tar.gz"
QUERIES = FOLDER / "queries.tar.gz"
PAIRS = FOLDER / "pairs-b.tar.gz"


def labels_file(split):
    return FOLDER / f"labels-{split.lower()}.txt"


def read_samples(path):
    """Yields (key, picture bytes, caption object) of a webdataset tar, in its order."""
    with gzip.open(path) as packed, tarfile.open(fileobj=packed) as tar:
        pictures = {}
        for entry in tar:
            key, _, kind = entry.name.partition(".")
            data = tar.extractfile(entry).read()
            if kind == "webp":
                pictures[key] = data
            else:
                yield key, pictures.pop(key), json.loads(data)


def write_samples(path, samples, kind_of_picture="webp"):
    """The reverse, without compression; samples as read_samples() gives them."""
    with tarfile.open(path, "w") as tar:
        for key, picture, caption in samples:
            for kind, data in ((kind_of_picture, picture), ("json", json.dumps(caption).encode())):
                entry = tarfile.TarInfo(f"{key}.{kind}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


def unpack_queries(folder, split):
    """Writes the split's query pictures to `folder`; returns {path: name of the thing}."""
    folder.mkdir(parents=True, exist_ok=True)
    answers = {}
    for key, picture, caption in read_samples(QUERIES):
        if caption["split"] == split:
            path = folder / f"{key}.webp"
            path.write_bytes(picture)
            answers[str(path)] = caption["name"]
    return answers


class Reco:
    """The program `reco` with flags that every call gets."""

    def __init__(self, program, *flags):
        self.program = str(program)
        self.flags = [str(flag) for flag in flags]

    def lines(self, verb, *arguments, stdin=None, timeout=600):
        """Runs a verb with --json; returns its objects. Raises with the program's own words."""
        command = [self.program, *verb.split(), *map(str, arguments), *self.flags, "--json"]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout,
                              check=False, env={**os.environ, "NO_COLOR": "1"})
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command[:6])} ...: exit {done.returncode}: "
                               f"{done.stderr.strip()[-2000:]}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def classify(self, answers, split, fusion, *more):
        """Classifies every picture of `answers` among the split's names."""
        return self.lines("classify", "-", "--labels", labels_file(split), "--fusion", fusion,
                          *more, stdin="".join(f"{path}\n" for path in answers))


def top1(lines, answers, side):
    """Share of right first answers, in percent; side: plain or refined."""
    right = sum(line[side][0]["label"] == answers[line["input"]] for line in lines)
    assert len(lines) == len(answers)
    return 100.0 * right / len(lines)
