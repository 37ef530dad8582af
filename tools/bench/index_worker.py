# SPDX-License-Identifier: Apache-2.0
"""A process that holds one built peer and measures it when told to, and how to speak with it.

One process for each peer, so that its memory can be told and its threads are its own. Commands and answers are
lines of JSON. Cores: the last ones that this process may use, as many as the test has threads.
"""
import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

K = 10
CORES = sorted(os.sched_getaffinity(0))
HERE = Path(__file__).resolve().parent


def clean_environment():
    """What the peers' processes start with: their own choice of kernels, and threads that do not spin."""
    environment = dict(os.environ, OMP_WAIT_POLICY="PASSIVE", OMP_DYNAMIC="FALSE")
    environment.pop("OPENBLAS_CORETYPE", None)
    environment.pop("OMP_NUM_THREADS", None)
    environment.pop("OPENBLAS_NUM_THREADS", None)
    return environment


def pin(pid, threads):
    """All threads of a process run on the last `threads` cores."""
    cores = set(CORES[-threads:])
    for task in os.listdir("/proc/%d/task" % pid):
        try:
            os.sched_setaffinity(int(task), cores)
        except ProcessLookupError:
            pass  # it ended meanwhile


def private_bytes(pid="self"):
    """Memory of a process that is no file's."""
    for line in open("/proc/%s/status" % pid):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def trim():
    ctypes.CDLL(None).malloc_trim(0)


# --- in the process

class Holder:
    def __init__(self, folder, cache, rows, queries, name):
        from index_data import Vectors
        from index_engines import open_engine
        self.vectors = Vectors(folder, rows, queries).load_truth()
        self.engine = open_engine(name, self.vectors, Path(cache))
        self.ready = {}  # (queries, batch) -> search

    def build(self, threads):
        self.engine.version()  # loads what it loads once
        trim()
        before = private_bytes()
        seconds = self.engine.build(threads)
        trim()
        return {"count": self.vectors.count, "build_seconds": round(seconds, 2), "build_threads": threads,
                "bytes_per_vector": round(self.engine.bytes_per_vector(), 1),
                "rss_per_vector": round((private_bytes() - before) / self.vectors.count, 1),
                "version": self.engine.version()}

    def grid(self, small):
        return [{"fixed": fixed, "sweep": sweep, "values": values} for fixed, sweep, values in self.engine.grid(small)]

    def measure(self, setting, queries, batch, threads, seconds=0.3):
        """Passes over all queries until the time is spent, at least two; the best counts."""
        self.engine.set(setting)
        asked = self.vectors.queries[queries]
        if (queries, batch) not in self.ready:
            self.ready[queries, batch] = self.engine.prepare(asked, K, batch)
        search = self.ready[queries, batch]
        # Two threads and single queries: two callers with one thread each, or one caller whose
        # query is shared by two; whichever is quicker.
        ways = [(1, threads), (threads, 1)] if batch == 1 and threads > 1 else [(threads, 1)]
        best, way_of_best = float("inf"), None
        for way in ways:
            spent, passes = 0.0, 0
            while spent < seconds or passes < 2:
                start = time.perf_counter()
                ids = search(*way)
                took = time.perf_counter() - start
                spent, passes = spent + took, passes + 1
                if took < best and passes > 1:  # the first one warms up
                    best, way_of_best = took, way
                if passes == 1 and took > 4 * seconds:
                    best, way_of_best = min((best, way_of_best or way), (took, way))
                    break
        return {"variant": self.engine.variant(setting), "setting": setting, "queries": queries, "batch": batch,
                "threads": threads, "qps": round(len(asked) / best, 1), "callers": way_of_best[1],
                "recall": round(self.vectors.recall(queries, ids, K), 5), "load": round(os.getloadavg()[0], 2)}


def main():
    holder = None
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr
    for line in sys.stdin:
        command = json.loads(line)
        name = command.pop("do")
        try:
            if name == "open":
                holder = Holder(**command)
                answer = {"dimension": holder.vectors.dimension, "count": holder.vectors.count}
            else:
                answer = getattr(holder, name)(**command)
        except Exception as error:  # noqa: BLE001 - told to the one who asked
            answer = {"error": "%s: %s" % (type(error).__name__, error)}
        out.write(json.dumps(answer) + "\n")
        out.flush()


# --- from outside

class Failed(Exception):
    pass


class Worker:
    def __init__(self, folder, cache, rows, queries, name):
        self.name = name
        self.process = subprocess.Popen([sys.executable, str(HERE / "index_worker.py")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=clean_environment())
        try:
            self.ask("open", folder=str(folder), cache=str(cache), rows=rows, queries=queries, name=name)
        except BaseException:
            self.close()
            raise

    def ask(self, what, **arguments):
        self.process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Failed("%s ended with status %s" % (self.name, self.process.wait()))
        answer = json.loads(line)
        if "error" in answer:
            raise Failed("%s: %s" % (self.name, answer["error"]))
        return answer

    def measure(self, setting, queries, batch, threads, **more):
        pin(self.process.pid, threads)
        return self.ask("measure", setting=setting, queries=queries, batch=batch, threads=threads, **more)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


if __name__ == "__main__":
    main()
