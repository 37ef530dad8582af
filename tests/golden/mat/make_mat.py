#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_mat.py - .mat files of the form that data sets have, written by another program (SciPy 1.x).

usage: python3 make_mat.py          # in this folder; needs scipy

Variables, columns and kinds of numbers are those of Stanford Cars' devkit, of Flowers-102 and of ImageNet's devkit;
classes and pictures are made up.
"""
import struct
from pathlib import Path

import numpy
from scipy.io import savemat

HERE = Path(__file__).resolve().parent
CARS = ["Aster Comet Coupe 2012", "Borealis 9-R Wagon 2009", "Cedar C/V Van 2011"]


def cells(texts):
    out = numpy.empty((1, len(texts)), dtype=object)
    for i, text in enumerate(texts):
        out[0, i] = text
    return out


def table(rows, by_column=False):
    """An array of structs, 1 x N, or N x 1."""
    names = list(rows[0])
    out = numpy.empty((len(rows), 1) if by_column else (1, len(rows)), dtype=[(name, object) for name in names])
    for i, row in enumerate(rows):
        for name in names:
            out[(i, 0) if by_column else (0, i)][name] = row[name]
    return out


def boxes(**named):
    return {**{f"bbox_{side}": numpy.uint16(value) for side, value in zip(("x1", "y1", "x2", "y2"), (3, 4, 60, 50))},
            **named}


def save(name, variables, compressed=True):
    savemat(HERE / name, variables, do_compression=compressed, oned_as="row")


def cars():
    save("cars_meta.mat", {"class_names": cells(CARS)})
    train = [boxes(**{"class": numpy.uint8(label), "fname": f"{i:05d}.jpg"})
             for i, label in enumerate((2, 1, 3, 1), 1)]
    test = [boxes(**{"class": numpy.uint8(label), "fname": f"{i:05d}.jpg"}) for i, label in enumerate((3, 2, 1), 1)]
    save("cars_train_annos.mat", {"annotations": table(train)})
    save("cars_test_annos_withlabels.mat", {"annotations": table(test)}, compressed=False)
    save("cars_test_annos.mat", {"annotations": table([boxes(fname="00001.jpg")])})
    every = [boxes(**{"relative_im_path": f"car_ims/{i:06d}.jpg", "class": numpy.uint8(label), "test": numpy.uint8(test)})
             for i, (label, test) in enumerate(((1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)), 1)]
    save("cars_annos.mat", {"annotations": table(every), "class_names": cells(CARS)})


def flowers():
    """Each split has each of the 102 classes once."""
    labels = numpy.array([[i % 102 + 1 for i in range(306)]], dtype=numpy.uint8)
    save("imagelabels.mat", {"labels": labels})
    labels[0, 205] = 0
    save("imagelabels_zero.mat", {"labels": labels})
    save("setid.mat", {name: numpy.arange(first, first + 102, dtype=numpy.uint16).reshape(1, -1)
                       for name, first in (("trnid", 1), ("valid", 103), ("tstid", 205))})


def imagenet():
    rows = []
    for number, wnid, words, children in ((1, "n00000300", "heron, Ardea", []), (2, "n00000100", "kettle, kettle hole", []),
                                          (3, "n00000200", "lynx", []), (1001, "n00000400", "animal", [1, 3])):
        rows.append({"ILSVRC2012_ID": float(number), "WNID": wnid, "words": words, "gloss": "made up",
                     "num_children": float(len(children)), "children": numpy.array(children, dtype=float).reshape(1, -1),
                     "wordnet_height": float(bool(children)), "num_train_images": 1300.0})
    save("meta.mat", {"synsets": table(rows, by_column=True)})


def element(kind, data):
    """MATLAB 5's data element: tag, data, padding to 8 bytes."""
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind, dims, name, *rest):
    return element(14, element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack(f"<{len(dims)}i", *dims))
                   + element(1, name.encode()) + b"".join(rest))


def wide():
    """Letters of two bytes, as MATLAB itself writes them and SciPy does not."""
    texts = ["Citroën 2CV 1990", "Škoda 1200 Sedan 1955"]
    letters = [matrix(4, (1, len(text)), "", element(4, text.encode("utf-16-le"))) for text in texts]
    body = matrix(1, (1, len(texts)), "class_names", *letters)
    head = b"MATLAB 5.0 MAT-file, made up".ljust(116) + bytes(8) + struct.pack("<H", 0x0100) + b"IM"
    (HERE / "wide.mat").write_bytes(head + body)


def odd():
    """What a reader must refuse, each in its own variable."""
    save("odd.mat", {"half": numpy.array([[1, 2.5]]), "negative": numpy.array([[-1.0]]), "huge": numpy.array([[2.0 ** 40]]),
                     "square": numpy.ones((2, 2)), "complex": numpy.array([[1 + 2j]]), "text": "a text",
                     "empty": numpy.zeros((0, 0)), "nan": numpy.array([[numpy.nan]]), "cells": cells(["a", 7.0, "b\nc"]),
                     "letters": cells([numpy.array(["ab", "cd"])]), "rows": table([{"a": 1.0, "b": "x"}])})


if __name__ == "__main__":
    cars()
    flowers()
    imagenet()
    wide()
    odd()
