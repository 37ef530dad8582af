# SPDX-License-Identifier: Apache-2.0
"""Points of recall and queries a second: their front, what lies between them, tables.

A point is a dictionary with `recall` and `qps`. Only the standard library is used, so that the tests
need nothing else.
"""
import math


def front_of(points):
    """The points that no other beats in both; recall rises, speed falls."""
    front = []
    for point in sorted(points, key=lambda point: (-point["qps"], -point["recall"])):
        if not front or point["recall"] > front[-1]["recall"]:
            front.append(point)
    return front


def bracket(front, level):
    """The neighbours of a recall on a front: (below, above). The fastest point stands for all that lies
    below it: (it, it). None where no point comes up to the level."""
    for i, point in enumerate(front):
        if point["recall"] >= level:
            return (front[i - 1] if i else point), point
    return None


def between(below, above, level):
    """Queries a second at a recall between two points: the logarithm is taken as linear."""
    if below["recall"] >= level or above["recall"] <= below["recall"]:
        return above["qps"]
    share = (level - below["recall"]) / (above["recall"] - below["recall"])
    return math.exp(math.log(below["qps"]) * (1 - share) + math.log(above["qps"]) * share)


def at_recall(points, level):
    """Queries a second at a recall, by interpolation on the front; None where it is not reached."""
    ends = bracket(front_of(points), level)
    return between(*ends, level) if ends else None


def choose(cases, count):
    """The names that together lose least, over all cases, against taking the best of each case.

    `cases` is a list of {name: qps}. One name after the other is taken, each time the one that
    helps most; a case that no chosen name reaches counts as a factor of ten.
    """
    chosen = []

    def loss(names):
        total = 0
        for case in cases:
            if case:
                best = max((case[name] for name in names if name in case), default=max(case.values()) / 10)
                total += math.log(max(case.values()) / best)
        return total

    names = sorted({name for case in cases for name in case})
    while len(chosen) < count and len(chosen) < len(names):
        chosen.append(min((name for name in names if name not in chosen), key=lambda name: loss(chosen + [name])))
    return chosen


def table(header, rows):
    """Markdown; columns but the first stand on the right."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
