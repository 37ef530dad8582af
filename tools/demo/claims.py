#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the fusion head and its gate are worth to a client, and whether that is what was promised.

usage: claims.py PROGRAM_DIR [--conditions a,b] [--heads FILE,FILE,FILE] [--icons FOLDER] [--openmoji NODE_MODULES]
                 [--long] [--json FILE]

PROGRAM_DIR has reco, as build/release/bin after tools/demo.sh. Each condition is a memory made by `reco memory build`,
each figure what `reco classify` answers. Prints a table of top-1 in percent and a line for each promise. Exit status: 1
if a promise does not hold, 2 if there is no answer. README.md has the conditions.
"""
import argparse
import json
import random
import re
import struct
import sys
import tarfile
import tempfile
import traceback
from pathlib import Path

from scoring import MEMORY, QUERIES, Reco, labels_file, read_samples, write_samples
from train_head import fold_of

HEAD = Path(__file__).resolve().parents[2] / "shaders" / "models" / "reco-tiny" / "head.safetensors"
DRAWS = 3  # of wrong captions, and of unrelated pairs with --long; heads of --heads
BOOTSTRAP = 2000
UNRELATED = 50000
OPENMOJI = "1.2.29"
MODES = ("plain", "mean", "weighted", "head without gate", "head")
FUSION = {"plain": "none", "mean": "mean", "weighted": "weighted", "head without gate": "head", "head": "head"}
FREE = ("mean", "weighted")  # modes that need no training
DIFFERENCES = (("head", "weighted"), ("head", "head without gate"), ("head", "plain"))

# What a head is to do: (words, mode, times, other mode, points to add, whether the interval must be above, too);
# the mode `best` is the better one of FREE.
AS_GOOD = ("the head is at least equal to the best mode without training", "head", 1, "best", 0, False)
BETTER = ("the head is better than the best mode without training, at 95 %", "head", 1, "best", 0, True)
COSTS = ("the gate costs at most 2 points", "head", 1, "head without gate", -2, False)
KEEPS = ("at least 0.9 of plain is kept", "head", 0.9, "plain", 0, False)
LOSES = ("at most 1 point of plain is lost", "head", 1, "plain", -1, False)


class Condition:
    """A memory and who is asked: `wrong` is the share of its captions that are another record's."""

    def __init__(self, words, split, promises, without="", wrong=0.0, unrelated=False):
        self.words, self.split, self.promises = words, split, promises
        self.without, self.wrong, self.unrelated = without, wrong, unrelated


CONDITIONS = {
    "new": Condition("new things", "C", (AS_GOOD, COSTS)),
    "new-half-wrong": Condition("new things, half of the captions wrong", "C", (BETTER, COSTS), wrong=0.5),
    "new-unrelated": Condition("new things, 50,000 unrelated pairs added", "C", (BETTER, COSTS), unrelated=True),
    "known": Condition("known things", "A", (LOSES,)),
    "known-removed": Condition("known things, not in the memory", "A", (KEEPS,), without="A"),
    "known-wrong": Condition("known things, all captions wrong", "A", (KEEPS,), wrong=1.0),
    "known-removed-wrong": Condition("known things, not in the memory, all captions wrong", "A", (KEEPS,),
                                     without="A", wrong=1.0),
}


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- memories

def exchanged(samples, share, seed):
    """The captions of a share of the samples, drawn by the seed, go round in a ring."""
    samples = list(samples)
    ring = random.Random(seed).sample(range(len(samples)), round(share * len(samples)))
    captions = [samples[i][2] for i in ring]
    for place, i in enumerate(ring):
        samples[i] = (*samples[i][:2], captions[(place + 1) % len(ring)])
    return samples


def words_of(text):
    return re.sub("[^a-z0-9]+", " ", text.lower()).split()


def related(caption, names):
    """Whether the caption holds one of the names, as a run of whole words."""
    words = words_of(caption)
    return any(tuple(words[i:j]) in names for i in range(len(words)) for j in range(i + 1, len(words) + 1))


def list_icons(folder, names):
    """[(tar, key, where its picture lies, caption)] of the icons of a corpus that have to do with none of the names."""
    found = []
    for path in sorted(folder.glob("icons-*.tar")):
        with tarfile.open(path) as tar:
            picture = None
            for entry in tar:
                if not entry.name.endswith(".json"):
                    picture = (entry.offset_data, entry.size)
                    continue
                about = json.load(tar.extractfile(entry))
                emoji = "category:Emoji" in about["tags"] or "emoji" in about["key"].split("/")[0]
                if not emoji and not related(about["caption"], names):
                    found.append((path, entry.name[:-len(".json")], picture, about["caption"]))
    return found


def unrelated_samples(icons, seed):
    """A draw of UNRELATED of them, as read_samples() gives samples, with their own pictures."""
    for number in sorted(random.Random(seed).sample(range(len(icons)), UNRELATED)):
        path, key, (offset, size), caption = icons[number]
        with path.open("rb") as tar:
            tar.seek(offset)
            yield f"{path.stem}-{key}", tar.read(size), {"caption": caption}


class Memories:
    """A Reco for each condition and draw, made when it is first asked for."""

    def __init__(self, program, folder, icons):
        self.program, self.folder, self.made = program, folder, {}
        self.samples = list(read_samples(MEMORY))
        self.names = list(dict.fromkeys(about["name"] for _, _, about in self.samples))
        self.icons = list_icons(icons, {tuple(words_of(name)) for name in self.names}) if icons else []
        if icons:
            say(f"{len(self.icons)} unrelated icons to draw from")

    def of(self, condition, draw):
        what = (condition.without, condition.wrong, draw if condition.wrong else 0,
                condition.unrelated, draw if condition.unrelated else 0)
        if what not in self.made:
            self.made[what] = self.build(condition, draw)
        return self.made[what]

    def build(self, condition, draw):
        folder = self.folder / f"memory-{len(self.made)}"
        folder.mkdir()
        samples = [sample for sample in self.samples if sample[2]["split"] != (condition.without or None)]
        sources = [folder / "memory.tar"]
        write_samples(sources[0], exchanged(samples, condition.wrong, draw))
        count = len(samples)
        if condition.unrelated:
            sources.append(folder / "unrelated.tar")
            write_samples(sources[1], unrelated_samples(self.icons, draw), "png")
            count += UNRELATED
        reco = Reco(self.program, "--data", folder / "data", "--device", "cpu")
        for left in (2, 1, 0):
            try:
                built = reco.lines("memory build", "default", *sources, timeout=3600)[-1]
                break
            except RuntimeError as failure:  # a machine too busy: the same command goes on
                if not left:
                    raise
                say(f"once more: {failure}")
        if built["records"] != count or built["skipped"]:
            raise RuntimeError(f"{count} records were to be stored: {built}")
        for source in sources:
            source.unlink()
        return reco


# ---- questions

def asked_of(about, split):
    """Not the third of the known things that the gate has learnt from."""
    return about["split"] == split and (split != "A" or fold_of(about["entity"]) != 0)


def unpack(folder, split):
    """{path: name} of the split's queries in the committed style."""
    folder.mkdir()
    answers = {}
    for key, picture, about in read_samples(QUERIES):
        if asked_of(about, split):
            path = folder / f"{key}.webp"
            path.write_bytes(picture)
            answers[str(path)] = about["name"]
    return answers


def draw_openmoji(folder, modules, split):
    """The same for OpenMoji's drawings, made by make_corpus.py's code. Share-alike: they stay in `folder`."""
    from make_corpus import Renderer, Style  # needs Pillow and librsvg
    entities = {about["entity"]: about for _, _, about in read_samples(MEMORY)}
    style, renderer = Style(modules, "openmoji", entities), Renderer()
    folder.mkdir()
    answers = {}
    for key, icon in sorted(style.icons.items()):
        image = renderer.draw(style.svg(icon)) if asked_of(entities[key], split) else None
        if image is not None:
            path = folder / f"{key}.webp"
            image.save(path, "WEBP", lossless=True)
            answers[str(path)] = entities[key]["name"]
    return answers


def without_gate(head, out):
    """A copy of a head's file (length of a JSON header, header, numbers) whose metadata has no gate."""
    data = head.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:end])
    if "gate" not in header["__metadata__"]:
        raise RuntimeError(f"{head} has no gate")
    del header["__metadata__"]["gate"]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    out.write_bytes(struct.pack("<Q", len(text)) + text + data[end:])
    return out


class Asker:
    """Who of the queries was answered rightly, in every mode; what does not depend on a draw is asked once."""

    def __init__(self, memories, heads, folder):
        self.memories, self.known = memories, {}
        self.heads = heads or [None]  # None: the program's own
        self.bare = [without_gate(head or HEAD, folder / f"bare-{i}.safetensors") for i, head in enumerate(self.heads)]

    def check_own_head(self, answers):
        """The program's own head is HEAD, whose copy without a gate stands beside it."""
        if self.heads != [None]:
            return
        reco = self.memories.of(CONDITIONS["new"], 0)
        own, committed = (self.ask(reco, answers, labels_file("C"), "head", head) for head in (None, HEAD))
        if own != committed:
            raise RuntimeError(f"the program has another head than {HEAD}: build it again")

    def ask(self, reco, answers, labels, fusion, head):
        """[whether the first answer is right] in the order of the queries."""
        key = (id(reco) if fusion != "none" else None, id(answers), labels, fusion, head)
        if key not in self.known:
            more = ["--head", head] if head else []
            lines = reco.lines("classify", "-", "--labels", labels, "--fusion", fusion, "--index", "exact", "--top", 1,
                               "--fields", "none", *more, stdin="".join(f"{path}\n" for path in answers))
            if [line["input"] for line in lines] != list(answers) or any(line["coverage"] < 1 for line in lines):
                raise RuntimeError(f"an answer is missing, or a part of the memory: {lines[0]}")
            side = "plain" if fusion == "none" else "refined"
            self.known[key] = [line[side][0]["label"] == answers[line["input"]] for line in lines]
        return self.known[key]

    def shares(self, condition, answers, labels, draws):
        """{mode: [share of the draws in which a query was answered rightly]}; draw i has head i, too."""
        found = {mode: [0.0] * len(answers) for mode in MODES}
        for draw in range(draws):
            reco = self.memories.of(condition, draw)
            for mode, shares in found.items():
                files = {"head": self.heads, "head without gate": self.bare}.get(mode, [None])
                right = self.ask(reco, answers, labels, FUSION[mode], files[draw % len(files)])
                for i, one in enumerate(right):
                    shares[i] += one / draws
        return found


# ---- figures

_choices = {}


def interval(first, second):
    """[mean, 2.5 %, 97.5 %] of first - second in points: a paired bootstrap over the queries."""
    gaps = [100 * (a - b) for a, b in zip(first, second)]
    count = len(gaps)
    if count not in _choices:
        draw = random.Random(0)
        _choices[count] = [draw.choices(range(count), k=count) for _ in range(BOOTSTRAP)]
    means = sorted(sum(map(gaps.__getitem__, chosen)) / count for chosen in _choices[count])
    return [sum(gaps) / count, means[round(0.025 * BOOTSTRAP)], means[round(0.975 * BOOTSTRAP) - 1]]


def best_free(top1):
    return max(FREE, key=top1.get)


def row_of(about, shares):
    top1 = {mode: 100 * sum(values) / len(values) for mode, values in shares.items()}
    gaps = {f"{a} - {b}": interval(shares[a], shares[b]) for a, b in DIFFERENCES}
    for mode in ("head", "head without gate"):
        gaps[f"{mode} - best"] = interval(shares[mode], shares[best_free(top1)])
    return {**about, "queries": len(shares["head"]), "top1": top1, "differences": gaps}


def in_words(row, gap):
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*row["differences"][gap])


def verdict(row, promise):
    """One promise about one row: what was wanted, what there is, whether it holds."""
    words, mode, times, other, points, surely = promise
    against = best_free(row["top1"]) if other == "best" else other
    has, wanted = row["top1"][mode], times * row["top1"][against] + points
    holds = has >= wanted - 1e-9
    figures = f"{mode} {has:.1f}, {against} {row['top1'][against]:.1f}"
    if times != 1:
        figures += f", which is {has / row['top1'][against]:.2f} of it"
    if other == "best":
        figures += f", {in_words(row, 'head - best')}; without gate {in_words(row, 'head without gate - best')}"
    if surely:
        holds = row["differences"]["head - best"][1] > 0
    return {"style": row["style"], "condition": row["condition"], "names": row["names"], "promise": words,
            "figures": figures, "holds": holds}


def print_table(rows):
    gaps = [f"{a} - {b}" for a, b in DIFFERENCES]
    print(f"| top-1, percent | drawings | names | {' | '.join(MODES)} | {' | '.join(gaps)} |")
    print("|---|---|---|" + "---:|" * (len(MODES) + len(gaps)))
    for row in rows:
        cells = [f"{row['top1'][mode]:.1f}" for mode in MODES]
        cells += [in_words(row, gap) for gap in gaps]
        print(f"| {row['words']} | {row['queries']} {row['style']} | {row['names']} | {' | '.join(cells)} |")
    print()


def print_verdicts(verdicts):
    for one in verdicts:
        print(f"{'ok  ' if one['holds'] else 'FAIL'} {one['style']}, {one['condition']}, {one['names']} names: "
              f"{one['promise']}: {one['figures']}")
    print(f"{sum(one['holds'] for one in verdicts)} of {len(verdicts)} promises hold")


def draws_of(condition, given):
    if given.heads or condition.wrong or (condition.unrelated and given.long):
        return DRAWS
    return 1


def measure(given, folder):
    """Rows of the table, and the promises about them."""
    memories = Memories(given.programs / "reco", folder, given.icons)
    asker = Asker(memories, given.heads, folder)
    every = folder / "all.txt"
    every.write_text("".join(f"{name}\n" for name in memories.names))
    styles = {"fluent": lambda out, split: unpack(out, split)}
    if given.openmoji:
        styles["openmoji"] = lambda out, split: draw_openmoji(out, given.openmoji, split)
    queries = {(style, split): make(folder / f"{style}-{split}", split)
               for style, make in styles.items() for split in "CA"}
    asker.check_own_head(queries["fluent", "C"])
    rows, verdicts = {}, []
    for name in given.conditions:  # one memory after the other
        condition = CONDITIONS[name]
        for style in styles:
            for names, labels in (("own", labels_file(condition.split)), ("all", every)):
                shares = asker.shares(condition, queries[style, condition.split], labels, draws_of(condition, given))
                about = {"style": style, "condition": name, "words": condition.words, "names": names}
                rows[style, name, names] = row_of(about, shares)
                say(f"{style} {name} {names}: " + ", ".join(f"{m} {v:.1f}" for m, v in
                                                           rows[style, name, names]["top1"].items()))
    in_order = [rows[key] for key in sorted(rows, key=lambda key: list(styles).index(key[0]))]
    for row in in_order:
        verdicts += [verdict(row, promise) for promise in CONDITIONS[row["condition"]].promises]
    return in_order, verdicts


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", type=Path, help="the folder with reco")
    parser.add_argument("--conditions", help=f"of {','.join(CONDITIONS)}; default all, new-unrelated with --icons")
    parser.add_argument("--heads", help="three heads with gates (train_head.py), whose mean is taken; "
                        "default the program's own")
    parser.add_argument("--icons", type=Path, help="an icon corpus (tools/corpora), whose pairs are the unrelated ones")
    parser.add_argument("--openmoji", type=Path, help="a folder node_modules with @iconify-json/openmoji: asks in that "
                        "style, too")
    parser.add_argument("--long", action="store_true", help="draws the unrelated pairs three times, not once")
    parser.add_argument("--json", type=Path, help="writes rows and verdicts to this file")
    given = parser.parse_args()
    usual = [name for name in CONDITIONS if given.icons or not CONDITIONS[name].unrelated]
    given.conditions = given.conditions.split(",") if given.conditions else usual
    for name in given.conditions:
        if name not in usual:
            parser.error(f"--conditions: '{name}', allowed: {', '.join(usual)}" +
                         ("" if given.icons else "; with --icons also new-unrelated"))
    given.heads = [Path(name).resolve() for name in given.heads.split(",")] if given.heads else []
    if len(given.heads) not in (0, DRAWS):
        parser.error(f"--heads: {len(given.heads)} files, {DRAWS} are wanted")
    if given.icons and not list(given.icons.glob("icons-*.tar")):
        parser.error(f"--icons: {given.icons} has no icons-*.tar; tools/corpora/icons.py makes them")
    if given.openmoji:
        package = given.openmoji / "@iconify-json" / "openmoji" / "package.json"
        version = json.loads(package.read_text())["version"] if package.exists() else "no package"
        if version != OPENMOJI:
            parser.error(f"--openmoji: {given.openmoji} has {version}, @iconify-json/openmoji {OPENMOJI} is wanted")
    given.programs = given.programs.resolve()
    return given


def main():
    given = parse()
    with tempfile.TemporaryDirectory(prefix="reco-claims-") as folder:
        rows, verdicts = measure(given, Path(folder))
    print_table(rows)
    print_verdicts(verdicts)
    if given.json:
        given.json.write_text(json.dumps({"rows": rows, "verdicts": verdicts}, indent=1) + "\n")
    return 0 if all(one["holds"] for one in verdicts) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception:  # not 1, which is an answer
        traceback.print_exc()
        sys.exit(2)
