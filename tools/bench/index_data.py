# SPDX-License-Identifier: Apache-2.0
"""A folder of vectors with queries, their exact neighbours, and recall.

The folder holds base.npy (or base.fvecs) and one or more queries-NAME.npy (or .fvecs), rows of unit length,
f32 or f16. The exact neighbours are computed once and kept beside them as truth-NAME-HASH.npz; for `reco bench
index` also as .npy (i32, the best 100).
"""
import hashlib
from pathlib import Path

import numpy as np

TRUTH = 100  # neighbours that are kept for each query
BLOCK = 16384
CLOSE = 1e-6  # scores nearer than this are a tie: programs add up floats in different orders


def read_rows(path):
    """The rows of a file, mapped."""
    if path.suffix == ".fvecs":
        words = np.memmap(path, np.int32, "r")
        dimension = int(words[0])
        if words.size % (dimension + 1):
            raise SystemExit("%s: no rows of %d dimensions" % (path, dimension))
        return words.view(np.float32).reshape(-1, dimension + 1)[:, 1:]
    rows = np.load(path, mmap_mode="r")
    if rows.ndim != 2 or rows.dtype not in (np.float32, np.float16):
        raise SystemExit("%s: an array of f32 or f16 with two dimensions is allowed" % path)
    return rows


def find(folder, pattern):
    return sorted(path for path in Path(folder).glob(pattern) if path.suffix in (".npy", ".fvecs"))


class Vectors:
    """What is searched, what asks, and what is true."""

    def __init__(self, folder, rows=0, queries=0):
        self.folder = Path(folder)
        base = find(folder, "base.*")
        asking = find(folder, "queries-*.*")
        if len(base) != 1 or not asking:
            raise SystemExit("%s: needs one base.npy and queries-NAME.npy (reco bench vectors makes them)" % folder)
        self.base_path = base[0]
        self.base = read_rows(base[0])
        self.base = self.base[:rows] if rows else self.base
        self.query_paths = {path.stem[len("queries-"):]: path for path in asking}
        self.queries = {}
        for name, path in self.query_paths.items():
            taken = read_rows(path)
            self.queries[name] = np.ascontiguousarray(taken[:queries] if queries else taken, np.float32)
        for name, some in [("base", self.base[:1000]), *self.queries.items()]:
            off = np.abs(np.linalg.norm(some.astype(np.float32), axis=1) - 1).max()
            if off > 2e-3:
                raise SystemExit("%s: rows are not of unit length (off by %.3g)" % (name, off))
        self.truth, self.truth_paths = {}, {}

    @property
    def count(self):
        return len(self.base)

    @property
    def dimension(self):
        return self.base.shape[1]

    def block(self, start, end):
        return np.ascontiguousarray(self.base[start:end], np.float32)

    def sample(self, count):
        """Rows drawn at random, always the same."""
        if count >= self.count:
            return self.block(0, self.count)
        chosen = np.sort(np.random.default_rng(1).choice(self.count, count, replace=False))
        return np.ascontiguousarray(self.base[chosen], np.float32)

    def load_truth(self):
        for name, queries in self.queries.items():
            digest = hashlib.sha256(queries.tobytes())
            digest.update(self.block(0, 100).tobytes() + self.block(self.count - 100, self.count).tobytes())
            digest.update(str(self.base.shape).encode())
            path = self.folder / ("truth-%s-%s.npz" % (name, digest.hexdigest()[:12]))
            if not path.exists():
                ids, scores = exact(self, queries, min(TRUTH, self.count))
                np.savez(path.with_suffix(".tmp.npz"), ids=ids, scores=scores)
                np.save(path.with_suffix(".npy"), ids.astype(np.int32))
                path.with_suffix(".tmp.npz").replace(path)
            self.truth_paths[name] = path.with_suffix(".npy")
            with np.load(path) as kept:
                self.truth[name] = (kept["ids"], kept["scores"])
        return self

    def recall(self, name, ids, k):
        """Share of the true best k that was found. What scores as the k-th best is as good as that: ties
        may come in any order. No id counts twice."""
        queries, least = self.queries[name], self.truth[name][1][:, k - 1]
        ids = ids[:, :k]
        scores = np.einsum("qkd,qd->qk", self.base[np.maximum(ids, 0)].astype(np.float32, copy=False), queries)
        good = (ids >= 0) & (scores >= least[:, None] - CLOSE)
        for place in range(1, ids.shape[1]):
            good[:, place] &= (ids[:, :place] != ids[:, place:place + 1]).all(axis=1)
        return float(good.sum() / (len(queries) * k))


def exact(vectors, queries, k):
    """Ids and scores of the best k rows, best first; of equal scores the lower id."""
    ids = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0), np.float32)
    for start in range(0, vectors.count, BLOCK):
        rows = vectors.block(start, min(start + BLOCK, vectors.count))
        found = queries @ rows.T
        if found.shape[1] > k:
            best = np.argpartition(-found, k - 1, axis=1)[:, :k]
        else:
            best = np.broadcast_to(np.arange(found.shape[1]), found.shape)
        ids = np.concatenate([ids, best + start], axis=1)
        scores = np.concatenate([scores, np.take_along_axis(found, best, axis=1)], axis=1)
        order = np.lexsort((ids, -scores), axis=1)[:, :k]
        ids = np.take_along_axis(ids, order, axis=1)
        scores = np.take_along_axis(scores, order, axis=1)
    return ids, scores
