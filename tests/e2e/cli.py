# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command line share: the program run to its end, a cluster in the background,
small sources, and a test case with folders of its own.

They use the embedded model, the drawings of tests/golden/tiny, temporary folders, free ports, and
Python's standard library only. Each file is one ctest and ends in main().
"""
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import procs
from procs import wait_for

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "tiny"
INDEX = json.loads((GOLDEN / "index.json").read_text())
IMAGES = [GOLDEN / "images" / name for name in INDEX["images"]]
PROGRAMS = None  # set by main()
PATIENCE = 120  # seconds; only a broken program meets it


def reco(*arguments, stdin=None, env=None, timeout=PATIENCE):
    """Runs the program to its end. Mesa's drivers leak on purpose: where one is loaded leaks are not looked for."""
    loads_driver = arguments[:1] == ("doctor",) or "--device" in arguments
    return subprocess.run([str(PROGRAMS / "reco"), *map(str, arguments)], input=stdin, text=True,
                          capture_output=True, timeout=timeout, check=False,
                          env={**os.environ, "NO_COLOR": "1", "RECO_DATA": "/nonexistent/reco",
                               **({"ASAN_OPTIONS": "detect_leaks=0"} if loads_driver else {}), **(env or {})})


def read_npy(path):
    """Shape and flat values of a little-endian .npy file of version 1."""
    data = Path(path).read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00", path
    size = struct.unpack("<H", data[8:10])[0]
    header = eval(data[10:10 + size].decode(), {"__builtins__": {}})  # our own and golden files
    assert not header["fortran_order"]
    count = 1
    for length in header["shape"]:
        count *= length
    kind = {"<f2": "e", "<f4": "f", "<i4": "i", "<i8": "q"}[header["descr"]]
    return header["shape"], struct.unpack(f"<{count}{kind}", data[10 + size:])


def write_npy(path, rows):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0])}), }}"
    header = header.ljust(117) + "\n"
    values = [value for row in rows for value in row]
    Path(path).write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
                           + struct.pack(f"<{len(values)}f", *values))


def as_floats(values):
    """Single precision, which is what the texts of JSON stand for."""
    values = list(values)
    return struct.unpack(f"<{len(values)}f", struct.pack(f"<{len(values)}f", *values))


def caption_of(path):
    return f"a drawing of a {path.name.split('.')[0]}"


def make_folder(folder, images=None):
    """Pictures with captions: keys are KIND/STYLE, as `penguin/noto`."""
    for image in images or IMAGES:
        kind, style, _ = image.name.split(".")
        (folder / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder / kind / f"{style}.png")
        (folder / kind / f"{style}.txt").write_text(caption_of(image) + "\n")
    return folder


def make_many(folder, count):
    """`count` pictures, each with a key of its own."""
    folder.mkdir()
    for i in range(count):
        shutil.copy(IMAGES[i % len(IMAGES)], folder / f"{i:05d}.png")
        (folder / f"{i:05d}.txt").write_text(f"{caption_of(IMAGES[i % len(IMAGES)])} number {i}")
    return folder


def make_rows(folder, count, dimension=8):
    """Embeddings as clip-retrieval leaves them: keys k0, k1, ..."""
    for part in ("img_emb", "text_emb", "metadata"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rows = [[((i * 7919 + j * 104729) % 2003) / 1000 - 1 for j in range(dimension)] for i in range(count)]
    write_npy(folder / "img_emb" / "img_emb_0.npy", rows)
    write_npy(folder / "text_emb" / "text_emb_0.npy", rows)
    (folder / "metadata" / "metadata_0.jsonl").write_text(
        "".join(json.dumps({"key": f"k{i}", "caption": f"row {i}"}) + "\n" for i in range(count)))
    return folder


def on_small_disk(case, mount, size, *arguments):
    """Runs the program where `mount` is a disk of that size; then says its status and what is there."""
    space = ["unshare", "-m", "--propagation", "private"]
    if not shutil.which("unshare") or subprocess.run([*space, "mount", "-t", "tmpfs", "none", mount],
                                                     capture_output=True, check=False).returncode:
        case.skipTest("this user may not mount a file system of its own")
    script = f'mount -t tmpfs -o size={size} none "$0" && "$@"; echo $?; ls -R "$0"'
    return subprocess.run([*space, "sh", "-c", script, *map(str, (mount, PROGRAMS / "reco", *arguments))],
                          capture_output=True, text=True, check=False, timeout=PATIENCE,
                          env={**os.environ, "NO_COLOR": "1"})


def same_but_for_time(lines):
    """JSON lines without what differs from call to call."""
    return [{key: value for key, value in line.items() if key not in ("request_id", "timings_ms")}
            for line in lines]


class Cluster(procs.Cluster):
    """`reco up` in the background; what it logs is kept beside its data."""

    def __init__(self, data, *flags):
        self.log_path = Path(f"{data}.log")
        self.log_path.unlink(missing_ok=True)
        super().__init__(PROGRAMS, data, *flags, log=self.log_path)

    def read_log(self):
        return self.log_path.read_text()

    def children(self):
        """Pids of living children by the name of their program."""
        found = {}
        for pid in procs.children(self.process.pid):
            found.setdefault(procs.program_of(pid), []).append(pid)
        found.pop("", None)
        return found

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.close()

    def kill(self):
        """Only `reco up` itself: the children end because it is gone."""
        self.process.kill()
        return self.close()

    def close(self):
        status = self.process.wait(PATIENCE)
        self.process.stdout.close()
        self.log.close()
        return status


class Case(unittest.TestCase):
    def setUp(self):
        self.top = Path(tempfile.mkdtemp(prefix="reco-cli-"))
        self.addCleanup(shutil.rmtree, self.top, True)
        self.data = self.top / "data"

    def start(self, *flags, data=None):
        """A cluster that does not outlive the test."""
        cluster = Cluster(data or self.data, *flags)
        self.addCleanup(lambda: cluster.process.poll() is None and cluster.kill())
        return cluster

    def wait_until_whole(self, cluster, memory):
        """Until every shard answers, and so the coordinator too."""
        def whole():
            done = reco("search", "--image", IMAGES[0], "-m", memory, "--json", "--server", cluster.address,
                        "--deadline-ms", "2000")
            return done.returncode == 0 and json.loads(done.stdout)["coverage"] == 1
        wait_for(f"{memory} answers whole", whole, PATIENCE)

    def run_ok(self, *arguments, **named):
        done = reco(*arguments, **named)
        self.assertEqual(done.returncode, 0, f"{arguments}: {done.stderr}")
        return done

    def lines(self, *arguments, **named):
        done = self.run_ok(*arguments, "--json", **named)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def refused(self, status, words, *arguments, **named):
        done = reco(*arguments, **named)
        self.assertEqual(done.returncode, status, f"{arguments}: {done.stderr}")
        self.assertIn(words, done.stderr)
        return done


def main():
    """Runs the classes of the file that was started: PROGRAM_DIR [CLASS[.test] ...]."""
    global PROGRAMS
    if len(sys.argv) < 2:
        sys.exit(sys.modules["__main__"].__doc__)
    PROGRAMS = Path(sys.argv[1]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
