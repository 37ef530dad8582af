# SPDX-License-Identifier: Apache-2.0
"""The peers of the index: how each is built, set and asked.

An entry is a name like "faiss l2 IVF4096,SQ8", "hnswlib M16" or "usearch f32". One engine is one built entry.
grid() lists what its settings are swept over; search() gives the ids of all queries.

Faiss' own callers would pass arrays; here the pointers are made before the clock starts, which saves half of
what Python costs a single query. Its coarse k-means is shared by entries with the same number of lists:
its time counts for each. hnswlib and usearch are asked as their packages are.
"""
import json
import math
import re
import threading
import time

import numpy as np

BLOCK = 65536
TRAIN_POINTS = 64          # rows for each list of a k-means
TRAIN_POINTS_MAX = 524288  # but not more than this in all
ITERATIONS = 10
PROBES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
EXPANSIONS = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
EFFORT = 200  # of building a graph


def split_over(callers, calls, act):
    """Calls act(call) for all of `calls`, in turn, from so many threads at once."""
    if callers == 1:
        for call in calls:
            act(call)
        return
    threads = [threading.Thread(target=lambda part: [act(call) for call in part], args=(calls[i::callers],))
               for i in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Faiss:
    def __init__(self, name, vectors, cache):
        import faiss
        self.faiss = faiss
        _, metric, self.factory = name.split(" ")
        self.metric = {"l2": faiss.METRIC_L2, "ip": faiss.METRIC_INNER_PRODUCT}[metric]
        self.metric_name = metric
        self.vectors, self.cache = vectors, cache
        self.lists = int(match[1]) if (match := re.search(r"IVF(\d+)", self.factory)) else 0
        self.keep = []  # what the index points to

    def version(self):
        return "faiss %s (%s)" % (self.faiss.__version__, self.faiss.get_compile_options().strip())

    # --- building

    def centroids(self, threads):
        """Centroids of the k-means, made once for all entries, and the seconds that took."""
        path = self.cache / ("centroids-%s-%d.npy" % (self.metric_name, self.lists))
        if not path.exists():
            count = min(TRAIN_POINTS * self.lists, TRAIN_POINTS_MAX)
            start = time.perf_counter()
            kmeans = self.faiss.Kmeans(self.vectors.dimension, self.lists, niter=ITERATIONS, seed=1,
                                       spherical=self.metric_name == "ip", max_points_per_centroid=TRAIN_POINTS,
                                       min_points_per_centroid=1)
            kmeans.train(self.vectors.sample(count))
            seconds = time.perf_counter() - start
            path.with_suffix(".json").write_text(json.dumps({"seconds": seconds, "threads": threads}))
            np.save(path, kmeans.centroids)
        return np.load(path), json.loads(path.with_suffix(".json").read_text())["seconds"]

    def find_parts(self):
        down = self.faiss.downcast_index
        at = down(self.index)
        self.refine = None
        if isinstance(at, (self.faiss.IndexRefine, self.faiss.IndexRefineFlat)):
            self.refine, at = at, down(at.base_index)
        self.chain = None
        if isinstance(at, self.faiss.IndexPreTransform):
            self.chain, at = at, down(at.index)
        self.inner = at

    def place_centroids(self, threads):
        """The shared centroids become those of this index, turned as its rows will be. Seconds."""
        if self.chain:
            turn = self.faiss.downcast_VectorTransform(self.chain.chain.at(0))
            if not isinstance(turn, self.faiss.RandomRotationMatrix):
                return 0  # learns its turn, hence its centroids too
            turn.train(np.zeros((1, self.vectors.dimension), np.float32))
        found, seconds = self.centroids(threads)
        if self.chain:
            found = turn.apply(found)
        flat = self.faiss.IndexFlat(found.shape[1], self.metric)
        graph = self.faiss.IndexHNSWFlat(found.shape[1], 32, self.metric)
        graph.hnsw.efConstruction = EFFORT
        flat.add(found)
        graph.add(found)
        self.keep += [flat, graph]
        self.coarse = {"flat": flat, "hnsw": graph}
        self.inner.own_fields = False  # the old one is kept by self.keep
        self.keep.append(self.inner.quantizer)
        self.inner.quantizer = flat
        return seconds

    def build(self, threads):
        self.faiss.omp_set_num_threads(threads)
        self.index = self.faiss.index_factory(self.vectors.dimension, self.factory, self.metric)
        self.find_parts()
        self.coarse = {}
        spent = 0
        start = time.perf_counter()
        if self.lists:
            spent = self.place_centroids(threads)
            start = time.perf_counter()
            self.index.train(self.vectors.sample(max(100000, 32 * self.lists)))
        else:
            self.inner.hnsw.efConstruction = EFFORT
        for at in range(0, self.vectors.count, BLOCK):
            self.index.add(self.vectors.block(at, min(at + BLOCK, self.vectors.count)))
        return spent + time.perf_counter() - start

    def bytes_per_vector(self):
        dimension = self.vectors.dimension
        if not self.lists:
            return dimension * 4 + 32 * 2 * 4 * 1.07 + 8  # 64 links below, 32 at one in 32 above
        own = self.inner.code_size + 8 + self.lists * self.inner.d * 4 / self.vectors.count
        if self.factory.endswith(",RFlat"):
            own += dimension * 4
        elif self.factory.endswith(",Refine(SQ8)"):
            own += dimension
        return own

    # --- asking

    def grid(self, small):
        if not self.lists:
            return [({}, "ef", EXPANSIONS)]
        kinds = ["flat", "hnsw"] if self.coarse and self.lists >= 1000 else ["flat"] if self.coarse else ["own"]
        factors = ([4, 10] if small else [1, 2, 4, 10, 30]) if self.refine else [0]
        bits = [0]
        if "RaBitQ" in self.factory:
            bits = [8] if small else [4, 8]
        return [({"coarse": kind, "qb": bit, "k_factor": factor}, "nprobe", PROBES)
                for kind in kinds for bit in bits for factor in factors]

    def variant(self, setting):
        """The entry as one would ask Faiss' factory for it."""
        name = "faiss %s %s" % (self.metric_name, self.factory)
        return re.sub(r"(IVF\d+)", r"\1_HNSW32", name) if setting.get("coarse") == "hnsw" else name

    def set(self, setting):
        if not self.lists:
            self.inner.hnsw.efSearch = setting["ef"]
            return
        if self.coarse:
            self.inner.quantizer = self.coarse[setting["coarse"]]
        if setting["coarse"] != "flat":
            quantizer = self.faiss.downcast_index(self.inner.quantizer)
            quantizer.hnsw.efSearch = max(32, 2 * setting["nprobe"])
        self.inner.nprobe = setting["nprobe"]
        if setting["qb"]:
            self.inner.qb = setting["qb"]
        if self.refine:
            self.refine.k_factor = setting["k_factor"]

    def prepare(self, queries, k, batch):
        """A function search(threads) that answers all queries and returns the ids."""
        pointer, count = self.faiss.swig_ptr, len(queries)
        ids, scores = np.empty((count, k), np.int64), np.empty((count, k), np.float32)
        self.keep += [queries, ids, scores]
        calls = [(min(batch, count - at), pointer(queries[at:at + batch]), pointer(scores[at:at + batch]),
                  pointer(ids[at:at + batch])) for at in range(0, count, batch)]
        ask, set_threads = self.index.search_c, self.faiss.omp_set_num_threads

        def call(one):
            ask(one[0], one[1], k, one[2], one[3], None)

        def search(threads, callers):
            set_threads(threads)
            if callers == 1:
                for one in calls:
                    call(one)
            else:
                def first(one):  # OpenMP counts the threads of each caller by itself
                    set_threads(1)
                    call(one)
                split_over(callers, calls, first)
            return ids

        return search


class Hnswlib:
    def __init__(self, name, vectors, cache):
        import hnswlib
        self.name, self.vectors = name, vectors
        self.links = int(re.search(r"M(\d+)", name)[1])
        self.index = hnswlib.Index("ip", vectors.dimension)

    def version(self):
        from importlib.metadata import version
        return "hnswlib %s" % version("hnswlib")

    def build(self, threads):
        start = time.perf_counter()
        self.index.init_index(self.vectors.count, M=self.links, ef_construction=EFFORT, random_seed=1)
        for at in range(0, self.vectors.count, BLOCK):
            rows = self.vectors.block(at, min(at + BLOCK, self.vectors.count))
            self.index.add_items(rows, np.arange(at, at + len(rows)), num_threads=threads)
        return time.perf_counter() - start

    def bytes_per_vector(self):
        above = (self.links * 4 + 4) / (self.links - 1)
        return self.vectors.dimension * 4 + self.links * 2 * 4 + 4 + 8 + above + 16

    def grid(self, small):
        return [({}, "ef", EXPANSIONS)]

    def variant(self, setting):
        return self.name

    def set(self, setting):
        self.index.set_ef(setting["ef"])

    def prepare(self, queries, k, batch):
        parts = [queries[at:at + batch] for at in range(0, len(queries), batch)]
        ids = np.empty((len(queries), k), np.int64)

        def search(threads, callers):
            def call(i):
                ids[i * batch:i * batch + len(parts[i])] = self.index.knn_query(parts[i], k, num_threads=threads)[0]
            split_over(callers, range(len(parts)), call)
            return ids

        return search


class Usearch:
    def __init__(self, name, vectors, cache):
        from usearch.index import Index
        self.name, self.vectors = name, vectors
        self.index = Index(ndim=vectors.dimension, metric="ip", dtype=name.split(" ")[1], connectivity=16,
                           expansion_add=EFFORT)

    def version(self):
        import usearch
        return "usearch %s (%s)" % (usearch.__version__, self.index.hardware_acceleration)

    def build(self, threads):
        start = time.perf_counter()
        for at in range(0, self.vectors.count, BLOCK):
            rows = self.vectors.block(at, min(at + BLOCK, self.vectors.count))
            self.index.add(np.arange(at, at + len(rows)), rows, threads=threads)
        return time.perf_counter() - start

    def bytes_per_vector(self):
        return self.index.serialized_length / self.vectors.count

    def grid(self, small):
        return [({}, "ef", EXPANSIONS)]

    def variant(self, setting):
        return self.name

    def set(self, setting):
        self.index.expansion_search = setting["ef"]

    def prepare(self, queries, k, batch):
        parts = [queries[at:at + batch] for at in range(0, len(queries), batch)]
        ids = np.empty((len(queries), k), np.int64)

        def search(threads, callers):
            def call(i):
                keys = self.index.search(parts[i], k, threads=threads).keys
                ids[i * batch:i * batch + len(parts[i])] = keys
            split_over(callers, range(len(parts)), call)
            return ids

        return search


def open_engine(name, vectors, cache):
    kind = {"faiss": Faiss, "hnswlib": Hnswlib, "usearch": Usearch}[name.split(" ")[0]]
    return kind(name, vectors, cache)


# --- what there is to try

LIKELY, POSSIBLE, HOPELESS = 1, 2, 3  # to be on the front


def list_lengths(count, small):
    """Numbers of lists that a set of this size may want."""
    fitting = [lists for lists in (256, 1024, 4096, 16384) if 50 <= count / lists <= 1000 or lists == 256]
    return fitting[-2:] if small else fitting[-3:]


def entries(count, dimension, small=False):
    """[(name, chance)] for a set, the likely ones first."""
    fine, rough, turn = dimension // 4, dimension // 8, "RR%d," % dimension
    chances = {}

    def add(chance, name):
        chances.setdefault(name, chance)

    lengths = list_lengths(count, small)
    for lists in lengths:
        middle = LIKELY if lists != lengths[0] or len(lengths) < 3 else POSSIBLE
        ivf = "IVF%d," % lists
        for coding in ("RaBitQfs,RFlat", "SQ8", "PQ%dx4fs,RFlat" % fine, "RaBitQfs,Refine(SQ8)",
                       "PQ%dx4fs,Refine(SQ8)" % fine):
            add(middle, "faiss l2 " + ivf + coding)
        for coding in ("PQ%dx4fs,RFlat" % rough, "Flat"):
            add(POSSIBLE if middle == LIKELY else HOPELESS, "faiss l2 " + ivf + coding)
        for coding in ("RaBitQfs4", "RaBitQfs5", "RaBitQfs8"):
            add(middle if coding == "RaBitQfs4" else max(middle, POSSIBLE), "faiss l2 " + ivf + coding)
        for coding in ("RaBitQfs,RFlat", "RaBitQfs,Refine(SQ8)"):
            add(middle, "faiss l2 " + turn + ivf + coding)
        for coding in ("RaBitQfs4", "RaBitQfs5", "RaBitQfs8"):
            add(POSSIBLE, "faiss l2 " + turn + ivf + coding)
        for coding in ("RaBitQfs,RFlat", "SQ8", "PQ%dx4fs,RFlat" % fine, "RaBitQfs4"):
            add(POSSIBLE, "faiss ip " + ivf + coding)
    for links in (16, 32):
        add(LIKELY if links == 16 else POSSIBLE, "hnswlib M%d" % links)
    for kind in ("f32", "f16", "i8"):
        add(LIKELY if kind == "f16" else POSSIBLE, "usearch %s" % kind)
    add(LIKELY, "faiss l2 HNSW32")
    if not small and dimension % 64 == 0:
        top = lengths[-1]
        add(HOPELESS, "faiss l2 OPQ%d_%d,IVF%d_HNSW32,PQ%dx8" % (rough, rough * 7, top, rough))
        add(HOPELESS, "faiss l2 OPQ%d_%d,IVF%d_HNSW32,PQ%dx8" % (dimension // 2, dimension // 2 * 3, top,
                                                                 dimension // 2))
    chosen = [(name, chance) for name, chance in chances.items() if not small or chance == LIKELY]
    return sorted(chosen, key=lambda entry: entry[1])


ENCODE_US = {"SQ8": 2, "Flat": 1, "RaBitQfs,": 6, "RaBitQfs4": 80, "RaBitQfs5": 90, "RaBitQfs8": 110,
             "PQ": 7}  # of a row of 512 dimensions, one thread


def estimate_seconds(name, vectors, rate, small):
    """A rough guess from the number of operations; `rate` is what a matrix product reaches in a second."""
    count, dimension = vectors.count, vectors.dimension
    match = re.search(r"IVF(\d+)", name)
    if not match:
        build = count * EFFORT * 4.5e-6 * dimension / 512 * (1 if "f16" in name or "i8" in name else 1.3)
        return {"build": build, "sweep": 90 if not small else 30}
    lists = int(match[1])
    assign = 2.0 * count * lists * dimension / rate
    encode = next((us for kind, us in ENCODE_US.items() if kind in name.split(str(lists))[1]), 7)
    build = assign + count * encode * 1e-6 * dimension / 512 * 0.7
    if "OPQ" in name:
        build += 600 * math.sqrt(count / 1e6)
    trained = min(TRAIN_POINTS * lists, TRAIN_POINTS_MAX, count)
    lines = (5 if "Refine" in name or "RFlat" in name else 1) * (2 if "RaBitQ" in name else 1) * (2 if lists > 999 else 1)
    return {"train": 2.0 * trained * lists * dimension * ITERATIONS / rate, "build": build,
            "sweep": (lines * 6 + 20) * (0.4 if small else 2 * math.sqrt(count / 1e6) + 0.3)}
