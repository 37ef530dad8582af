#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The page of the demo's corpus: what its memory teaches, in all kinds of `reco eval`, and README.md's table of it.

usage: report.py PROGRAM_DIR PAGE [--readme FILE]

PROGRAM_DIR has reco, as build/release/bin after tools/demo.sh. The page is written to PAGE, the table to stdout as it
stands in README.md. With --readme the table of that file must have the same figures: its rows and columns may be fewer.
"""
import argparse
import html.parser
import io
import re
import sys
import tarfile
import tempfile
from pathlib import Path

from scoring import MEMORY, QUERIES, Reco, labels_file, read_samples

MODES = {"plain CLIP": "none", "mean": "mean", "weighted": "weighted", "head": "head"}
KINDS = "zero-shot,noise,memory-size,ksweep,grid,few-shot,capacity"
DIFFERENCE = "difference"  # to plain CLIP, in place of a point
FIRST = "new things"  # the data set that is asked in all kinds


def write_shard(folder, samples):
    """A split of CLIP_benchmark's layout: one shard of (picture, number of its label)."""
    folder.mkdir(parents=True)
    (folder / "nshards.txt").write_text("1\n")
    with tarfile.open(folder / "0.tar", "w") as tar:
        for i, (picture, number) in enumerate(samples):
            for kind, data in (("webp", picture), ("cls", str(number).encode())):
                entry = tarfile.TarInfo(f"s{i:05d}.{kind}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


def write_set(folder, names, asked, held):
    """A data set: `asked` and, for few-shot, `held`, as (picture, name)."""
    numbers = {name: number for number, name in enumerate(names)}
    write_shard(folder / "test", [(picture, numbers[name]) for picture, name in asked])
    if held:
        write_shard(folder / "train", [(picture, numbers[name]) for picture, name in held])
    (folder / "classnames.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


def write_sets(folder):
    """The queries of both splits, among the names of their split and among all names."""
    memory = list(read_samples(MEMORY))
    queries = list(read_samples(QUERIES))
    every = list(dict.fromkeys(caption["name"] for _, _, caption in memory))
    held = [(picture, caption["name"]) for _, picture, caption in memory if caption["split"] == "C"]
    sets = []
    for split, name in (("C", FIRST), ("A", "known things")):
        asked = [(picture, caption["name"]) for _, picture, caption in queries if caption["split"] == split]
        own = labels_file(split).read_text().splitlines()
        sets.append(write_set(folder / name, own, asked, held if name == FIRST else []))
        sets.append(write_set(folder / f"{name} among all names", every, asked, []))
    return sets


class Figures(html.parser.HTMLParser):
    """What the page says: {(heading, point, mode): percent as it is written there}; with DIFFERENCE as the point the
    difference to plain CLIP, with its interval."""

    def __init__(self, text):
        super().__init__()
        self.figures, self.heading, self.cells, self.words = {}, None, None, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag in ("h2", "td"):
            self.words = ""
        elif tag == "tr":
            self.cells = []

    def handle_data(self, data):
        if self.words is not None:
            self.words += data

    def handle_endtag(self, tag):
        if tag == "h2":
            self.heading, self.words = self.words, None
        elif tag == "td":
            self.cells.append(self.words)
            self.words = None
        elif tag == "tr" and self.cells and self.heading:
            mode = next((place for place in (0, 1) if self.cells[place] in MODES.values()), None)
            if mode is not None:
                point = self.cells[0] if mode else ""
                self.figures[self.heading, "" if point == "-" else point, self.cells[mode]] = self.cells[mode + 1]
                if not point:
                    self.figures[self.heading, DIFFERENCE, self.cells[mode]] = self.cells[-2]
        elif tag == "table" and self.heading is None:
            self.cells = None


def in_words(kind, point):
    count = f"{int(point):,}" if point.isdigit() else point
    return count + (" drawing" if point == "1" else " drawings") * (kind == "few-shot")


def rows_of(figures):
    """The table of README.md: (what the row says, section of the page, point)."""
    rows = []
    for words, name in (("new things (460 drawings, 567 names; the encoder has seen none of them)", FIRST),
                        ("known things (801 drawings, 966 names that the encoder was trained on)", "known things")):
        rows += [(words, f"{name}: zero-shot", ""),
                 ("the difference to plain CLIP (95 %)", f"{name}: zero-shot", DIFFERENCE),
                 ("the same, among all 1,914 names", f"{name} among all names: zero-shot", "")]
    for words, kind in (("new things, {} of the captions exchanged", "noise"),
                        ("new things, {} records of the memory", "memory-size"),
                        ("new things, nothing but {} of each in the memory", "few-shot"),
                        ("new things, taken in: {}", "capacity")):
        points = dict.fromkeys(point for heading, point, _ in figures if heading == f"{FIRST}: {kind}" and point)
        rows += [(words.format(in_words(kind, point)), f"{FIRST}: {kind}", point) for point in points]
    return rows


def table_of(figures):
    """The columns, and of each row its words, what it belongs to (a row that begins with `the` to the one before that
    does not) and {column: figure}."""
    modes = [column for column, mode in MODES.items() if any(key[2] == mode for key in figures)]
    table, owner = [], ""
    for words, heading, point in rows_of(figures):
        cells = {column: figures.get((heading, "" if MODES[column] == "none" and point != DIFFERENCE else point,
                                      MODES[column]), "") for column in modes}
        owner = owner if words.startswith("the ") else words
        table.append((words, owner, cells))
    return modes, table


def print_table(modes, table):
    print("| top-1, percent | " + " | ".join(modes) + " |\n|---|" + "---:|" * len(modes))
    for words, _, cells in table:
        print(f"| {words} | " + " | ".join(cells[mode] for mode in modes) + " |")


def differences(readme, table):
    """What the table of README.md says otherwise."""
    text = Path(readme).read_text(encoding="utf-8")
    found = re.search(r"^\| top-1, percent \|(.*)\|\n\|[-:| ]+\|\n((?:\|.*\|\n)+)", text, re.M)
    if not found:
        return [f"{readme}: no table that begins with '| top-1, percent |'"]
    columns = [name.strip() for name in found[1].split("|")]
    known = {(words, owner): cells for words, owner, cells in table}
    faults, owner = [], ""
    for line in found[2].splitlines():
        words, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        owner = owner if words.startswith("the ") else words
        right = known.get((words, owner))
        if right is None:
            faults.append(f"'{words}': no such row of the page")
        for column, figure in zip(columns, cells):
            if right is not None and figure != right.get(column, ""):
                faults.append(f"'{words}', {column}: {figure} in {readme}, {right.get(column, 'nothing')} on the page")
    return faults


def make(reco, page):
    """Writes the page with a Reco whose memory is the demo's; returns what it says."""
    with tempfile.TemporaryDirectory(prefix="reco-report-") as folder:
        reco.lines("eval all", *write_sets(Path(folder)), "--kinds", KINDS, "--report", page)
    return Figures(Path(page).read_text(encoding="utf-8")).figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", type=Path, help="the folder with reco")
    parser.add_argument("page", type=Path, help="where the page is written")
    parser.add_argument("--readme", type=Path, help="a file whose table must have the same figures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reco-report-") as folder:
        reco = Reco(given.programs / "reco", "--data", folder)
        reco.lines("memory build", "default", MEMORY)
        modes, table = table_of(make(reco, given.page))
    print_table(modes, table)
    faults = differences(given.readme, table) if given.readme else []
    print(*faults, sep="\n", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
