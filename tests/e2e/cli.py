#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the command line promises, asked of the real program.

usage: cli.py PROGRAM_DIR [CLASS[.test] ...]

Goal: the verbs do what interface and help say, with one answer inside the process and from a
server; mistakes give the promised exit status and name what was wrong; a build survives kill -9;
`reco up` keeps its children running and leaves none behind.

Method: the embedded model, the drawings of tests/golden/tiny, temporary folders, free ports.
Python's standard library only.
"""
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "tiny"
INDEX = json.loads((GOLDEN / "index.json").read_text())
IMAGES = [GOLDEN / "images" / name for name in INDEX["images"]]
PROGRAMS = None  # set by main()
PATIENCE = 120  # seconds; only a broken program meets it


def reco(*arguments, stdin=None, env=None, timeout=PATIENCE):
    """Runs the program to its end."""
    return subprocess.run([str(PROGRAMS / "reco"), *map(str, arguments)], input=stdin, text=True,
                          capture_output=True, timeout=timeout, check=False,
                          env={**os.environ, "NO_COLOR": "1", "RECO_DATA": "/nonexistent/reco",
                               **(env or {})})


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
    kind = {"<f4": "f", "<i4": "i", "<i8": "q"}[header["descr"]]
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


def same_but_for_time(lines):
    """JSON lines without what differs from call to call."""
    return [{key: value for key, value in line.items() if key not in ("request_id", "timings_ms")}
            for line in lines]


class Cluster:
    """`reco up` in the background."""

    def __init__(self, data, *flags):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [str(PROGRAMS / "reco"), "up", "--port", "0", "--data", str(data), *map(str, flags)],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        if not re.fullmatch(r"ready 127\.0\.0\.1:\d+\n", line):
            log = self.read_log()
            self.kill()
            raise AssertionError(f"no ready line but {line!r}: {log}")
        self.address = line.split()[1]

    def read_log(self):
        self.log.seek(0)
        return self.log.read()

    def children(self):
        """Pids of living children by the name of their program."""
        found = {}
        for folder in Path("/proc").iterdir():
            try:
                name = (folder / "comm").read_text().strip()
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if int(fields[1]) == self.process.pid and fields[0] != "Z":
                found.setdefault(name, []).append(int(folder.name))
        return found

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE)
        self.process.stdout.close()
        self.log.close()
        return status

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)
        self.process.stdout.close()
        self.log.close()


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(what, seconds=PATIENCE):
    """Polls: the events looked for here have no descriptor to wait on."""
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


class Case(unittest.TestCase):
    def setUp(self):
        self.top = Path(tempfile.mkdtemp(prefix="reco-cli-"))
        self.addCleanup(shutil.rmtree, self.top, True)
        self.data = self.top / "data"

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


class Usage(Case):
    def test_without_a_verb_the_verbs_are_listed_and_that_is_wrong_usage(self):
        done = self.refused(2, "memory build")
        self.assertEqual(done.stdout, "")
        self.assertIn("classify", self.run_ok("help").stdout)
        self.assertIn("classify", self.run_ok("--help").stdout)

    def test_every_listed_verb_has_its_help(self):
        names = re.findall(r"^  (\w+(?: \w+)?)  +\w", self.run_ok("help").stdout, re.M)
        self.assertGreaterEqual(len(names), 20)
        for name in names:
            for done in self.run_ok("help", *name.split()), self.run_ok(*name.split(), "--help"):
                self.assertIn(f"usage: reco {name}", done.stdout)
                self.assertIn("--json", done.stdout)

    def test_an_unknown_verb_names_the_nearest(self):
        self.refused(2, "did you mean search?", "serch")
        self.refused(2, "did you mean memory build?", "memori", "build")
        self.refused(2, "reco memory has build, add, delete, ", "memory", "explode")
        self.refused(2, "reco memory needs one of: build", "memory")
        self.refused(2, "unknown verb 'train'", "train")

    def test_wrong_flags_are_wrong_usage(self):
        self.refused(2, "did you mean --min-coverage?", "search", "--min-covrage", "1")
        self.refused(2, "-k: '0' is not allowed: a whole number from 1 to 256 is", "search", "-k", "0")
        self.refused(2, "-k: needs a value", "search", "-k")
        self.refused(2, "'head' is not supported in this version", "refine", "--fusion", "head")
        self.refused(2, "'ivf' is not supported in this version", "search", "--index", "ivf")
        self.refused(2, "'vulkan' is not supported in this version", "embed", "text", "x", "--device",
                     "vulkan")
        self.refused(2, "nothing to ask: one of --image, --text, --embedding and --part", "search")
        self.refused(2, "more than one kind of input", "search", "--text", "x", "--image", "y")
        self.refused(2, "--labels: is needed", "classify", "x.png")
        self.refused(2, "--out: is needed", "preprocess", "x.png")
        self.refused(2, "'extra' is one too many", "status", "extra")
        self.refused(2, "excludes --server", "search", "--text", "x", "--server", "h:1", "--data", "d")
        self.refused(2, "excludes --server", "embed", "text", "x", "--server", "h:1", "--model", "d")
        for flag in ("--tls-ca", "--tls-cert", "--tls-key", "--tls-name"):
            self.refused(2, f"{flag}: needs --server", "search", "--text", "x", flag, "f")
        self.refused(2, "--dedup: 0.3 is not allowed: 0 or 0.5 to 1 is", "search", "--text", "x", "--dedup", "0.3")
        self.refused(2, "--server: ", "embed", "text", "x", "--server", "nonsense")
        self.refused(2, "RECO_LOG", "version", env={"RECO_LOG": "loud"})
        self.refused(2, "'-k' is no verb; the verb comes first", "-k", "3", "search")
        self.refused(2, "'extra' is one too many: only flags are allowed", "search", "extra", "--text", "x")

    def test_values_that_no_server_takes_are_wrong_usage(self):
        ask = ["search", "--text", "x", "--data", self.data]
        name = ["classify", IMAGES[0], "--labels", self.labels(), "--data", self.data]
        for flag, value, allowed, verb in (
                ("--memory", "a b", "is no name of a memory", ask),
                ("--memory", "m@", "NAME@GENERATION with a generation from 1", ask),
                ("--memory", "m@0", "NAME@GENERATION with a generation from 1", ask),
                ("--request-id", "two words", "1 to 64 printable", ask),
                ("--request-id", "x" * 65, "1 to 64 printable", ask),
                ("--exclude", "", "the key of a record, 1 to 512 bytes, is", ask),
                ("--template", "no hole", "exactly one {}", name),
                ("--template", "{} and {}", "exactly one {}", name),
                ("--template", "", "exactly one {}", name),
                ("--space", "foo", "NAME:DIMENSION", ["memory", "build", "m", "x.npy"]),
                ("--space", "foo:0", "NAME:DIMENSION", ["memory", "build", "m", "x.npy"]),
                ("--space", ":4", "NAME:DIMENSION", ["memory", "build", "m", "x.npy"])):
            done = self.refused(2, f"{flag}: '{value}' is n", *verb, flag, value)
            self.assertIn(allowed, done.stderr)
        self.refused(2, "--exclude: 257 times; at most 256", *ask, *["--exclude", "k"] * 257)
        self.refused(2, "NAME: 'a b' is no name of a memory", "memory", "build", "a b", self.top)
        self.refused(2, "NAME: '' is no name of a memory", "memory", "build", "", self.top)
        picture = ["memory", "add", "m", "--image", IMAGES[0]]
        self.refused(2, "--key: is needed", *picture, "--caption", "c")
        self.refused(2, "--caption: this, not empty", *picture, "--key", "k", "--caption", "")
        self.refused(2, "--image: excludes --image-embedding", *picture, "--key", "k", "--image-embedding", "x")
        self.assertFalse(self.data.exists())

    def test_a_file_where_a_folder_is_wanted_is_told_in_words(self):
        file = self.top / "file"
        file.touch()
        photos = make_folder(self.top / "photos", IMAGES[:1])
        for path in file, file / "below":
            for verb in (["memory", "list"], ["memory", "build", "m", photos], ["up", "--port", "0"],
                         ["status"], ["search", "--text", "x"]):
                done = self.refused(1, f"{file}", *verb, "--data", path)
                self.assertIn("Not a directory; the data directory must be a folder", done.stderr)
        self.refused(1, f"--out: '{file}' is a file; a folder is allowed", "preprocess", IMAGES[0], "--out", file)
        self.refused(1, f"{self.top}: is a folder", "embed", "text", "x", "--out", self.top)
        self.refused(1, "Is a directory", "embed", "image", self.top)
        self.refused(1, "Is a directory; name the files in it", "classify", IMAGES[0], "--labels", self.top)

    def test_the_verbs_of_a_family_are_listed(self):
        listed = self.run_ok("help", "memory").stdout
        self.assertIn("memory build", listed)
        self.assertNotIn("classify", listed)
        self.assertEqual(self.run_ok("memory", "--help").stdout, listed)
        self.refused(2, "unknown verb 'nothing'", "help", "nothing")

    def test_an_unknown_memory_is_named_with_the_way_to_see_all(self):
        self.run_ok("memory", "build", "m", make_folder(self.top / "photos", IMAGES[:1]), "--data", self.data)
        for verb in (["search", "--text", "x", "-m", "n"], ["memory", "info", "n"], ["memory", "drop", "n"]):
            done = self.refused(1, "there is no memory 'n'", *verb, "--data", self.data)
            self.assertIn("reco memory list", done.stderr)
        self.refused(1, "reco memory build NAME SOURCE", "search", "--text", "x", "--data", self.data)

    def test_a_missing_data_directory_is_named_with_the_way_to_make_one(self):
        for verb in (["search", "--text", "x"], ["memory", "list"],
                     ["classify", IMAGES[0], "--labels", self.labels()]):
            done = self.refused(1, str(self.data), *verb, "--data", self.data)
            self.assertIn("reco memory build", done.stderr)
            self.assertFalse(self.data.exists())

    def labels(self):
        path = self.top / "labels.txt"
        path.write_text("owl\n")
        return path

    def test_a_server_that_is_not_there_is_unavailable(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))  # taken, and nobody listens
            address = f"127.0.0.1:{free.getsockname()[1]}"
            done = self.refused(3, address, "embed", "text", "x", "--server", address,
                                "--deadline-ms", "2000")
            self.assertEqual(done.stdout, "")
            told = self.refused(3, address, "status", "--server", address, "--deadline-ms", "2000")
            self.assertTrue(told.stderr.startswith(f"reco status: {address} does not answer"), told.stderr)

    def test_a_wrong_port_or_protocol_is_told_with_what_to_do(self):
        cluster = Cluster(self.data, "--shards", "1", "--http", "127.0.0.1:0")
        self.addCleanup(lambda: cluster.process.poll() is None and cluster.kill())
        ask = ("embed", "text", "x", "--deadline-ms", "20000", "--server")
        side = cluster.process.stdout.readline().split()[1]
        self.refused(3, "that port speaks HTTP", *ask, side)
        certificate = self.top / "ca.pem"
        if shutil.which("openssl"):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                            "-subj", "/CN=x", "-keyout", self.top / "ca.key", "-out", certificate],
                           check=True, capture_output=True)
            self.refused(3, "that server speaks no TLS", *ask, cluster.address, "--tls-ca", certificate)
        self.assertEqual(cluster.stop(), 0)

    def test_a_configuration_stands_in_for_flags(self):
        file = self.top / "reco.ini"
        file.write_text("[client]\nserver = nonsense\ndeadline_ms = 7\n")
        self.refused(2, "--server: ", "embed", "text", "x", "--config", file)
        self.run_ok("doctor", "--config", file, "--data", self.data)  # has no --server
        # Work inside the process was asked for.
        self.refused(1, "reco memory build", "memory", "list", "--config", file, "--data", self.data)
        shown = self.run_ok("status", "--config", file, "--print-config", "--deadline-ms", "9",
                            env={"RECO_CLIENT_MEMORY": "birds"}).stdout
        self.assertIn(f"# From: {file}:2\nserver = nonsense", shown)
        self.assertIn("# From: --deadline-ms\ndeadline_ms = 9", shown)
        self.assertIn("# From: RECO_CLIENT_MEMORY\nmemory = birds", shown)

    def test_a_bad_configuration_is_wrong_usage(self):
        file = self.top / "reco.ini"
        file.write_text("[client]\nservr = x\n")
        self.refused(2, f"{file}:2: unknown key 'servr' of [client]; did you mean server?", "status",
                     "--config", file)
        self.refused(2, "did you mean RECO_CLIENT_SERVER?", "version", env={"RECO_CLIENT_SERVR": "x"})
        self.refused(2, "cannot be read", "version", "--config", self.top / "nowhere")
        file.write_text("[zzzzzzzz]\nx = 1\n")
        self.refused(2, "unknown section [zzzzzzzz]; `reco config reco` lists all of them", "status", "--config", file)
        self.refused(2, "reco config reco|reco-coordinator|reco-shard", "config")
        file.write_text("[disk\n")
        self.refused(2, "reco.ini:1: neither [section] nor key = value", "up", "--config", file)
        file.write_text("[server]\nlisten = x\n")
        self.refused(2, "[server] listen: 'x' is not allowed", "up", "--config", file)
        self.refused(2, "did you mean reco-shard?", "config", "reco-shart")
        self.assertIn("#listen = 127.0.0.1:7700", self.run_ok("config", "reco-coordinator").stdout)

    def test_up_prints_what_it_and_its_children_will_do(self):
        file = self.top / "reco.ini"
        file.write_text("[server]\nlisten = 127.0.0.1:7801\n[node]\nsearch_threads = 3\n")
        shown = self.run_ok("up", "--config", file, "--print-config").stdout
        for words in "[client]", "listen = 127.0.0.1:7801", "search_threads = 3":
            self.assertIn(words, shown)
        file.write_text(shown)  # and that is a valid file
        self.assertIn("search_threads = 3", self.run_ok("up", "--config", file, "--print-config").stdout)

    def test_an_output_that_cannot_be_written_fails(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([str(PROGRAMS / "reco"), "help"], stdout=full, text=True,
                                  stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("stdout", done.stderr)

    def test_version_and_doctor_speak(self):
        self.assertRegex(self.run_ok("version").stdout, r"^reco \d+\.\d+\.\d+\n$")
        self.assertEqual(self.run_ok("--version").stdout, self.run_ok("version").stdout)
        checks = {line["check"]: line for line in self.lines("doctor", "--data", self.data)}
        self.assertEqual(checks["model"]["state"], "ok")
        self.assertIn("not built in this version", checks["vulkan"]["detail"])
        self.assertIn(str(self.data), checks["data"]["detail"])
        if os.geteuid():  # root may write everywhere
            closed = self.top / "closed"
            closed.mkdir(mode=0o500)
            self.assertIn("this user may not make it", reco("doctor", "--data", closed / "data").stdout)
        broken = reco("doctor", "--data", self.data, "--model", self.top / "no-model")
        self.assertEqual(broken.returncode, 1)
        self.assertIn("problem", broken.stdout)


class Models(Case):
    def test_tokenize_gives_the_golden_ids(self):
        (rows, columns), ids = read_npy(GOLDEN / "input_ids.npy")
        texts = INDEX["texts"][:rows]
        lines = self.lines("tokenize", *texts)
        self.assertEqual([line["text"] for line in lines], texts)
        for i, line in enumerate(lines):
            golden = list(ids[i * columns:(i + 1) * columns])
            self.assertEqual(line["ids"], golden[:len(line["ids"])])
        self.assertEqual(self.lines("tokenize", "-", stdin="".join(f"{t}\n" for t in texts)), lines)
        done = self.refused(1, "is not UTF-8", "tokenize", "\udcff", "ok", "--keep-going", "--json")
        self.assertEqual([json.loads(line)["text"] for line in done.stdout.splitlines()], ["ok"])
        self.assertEqual(self.run_ok("tokenize", texts[0]).stdout,
                         " ".join(map(str, lines[0]["ids"])) + "\n")

    def check_embeddings(self, lines, golden, count):
        (_, columns), values = read_npy(GOLDEN / golden)
        for i in range(count):
            row = lines[i]["embedding"]
            self.assertEqual(len(row), columns)
            # Half precision weights, single precision sums in another order.
            for a, b in zip(row, values[i * columns:(i + 1) * columns]):
                self.assertAlmostEqual(a, b, delta=2e-4)

    def test_embed_gives_the_golden_embeddings(self):
        self.check_embeddings(self.lines("embed", "image", *IMAGES), "image_embeds_normalised.npy",
                              len(IMAGES))
        texts = INDEX["texts"]
        self.check_embeddings(self.lines("embed", "text", "-", stdin="".join(f"{t}\n" for t in texts)),
                              "text_embeds_normalised.npy", len(texts))

    def test_embed_writes_rows_in_the_order_of_the_items(self):
        lines = self.lines("embed", "image", *IMAGES[:3])
        out = self.top / "x.npy"
        named = self.lines("embed", "image", *IMAGES[:3], "--out", out)
        self.assertEqual([line["row"] for line in named], [0, 1, 2])
        shape, values = read_npy(out)
        self.assertEqual(shape, (3, 128))
        self.assertEqual(values, as_floats(value for line in lines for value in line["embedding"]))

    def test_a_failed_item_is_named_and_keep_going_does_the_rest(self):
        broken = self.top / "broken.png"
        broken.write_bytes(IMAGES[0].read_bytes()[:100])
        gone = self.top / "gone.png"
        items = [IMAGES[0], broken, IMAGES[1], gone, IMAGES[2]]
        done = self.refused(1, str(broken), "embed", "image", *items, "--json")
        self.assertNotIn(str(gone), done.stderr)
        self.assertEqual([json.loads(line)["input"] for line in done.stdout.splitlines()],
                         [str(IMAGES[0])])
        done = self.refused(1, str(broken), "embed", "image", *items, "--json", "--keep-going")
        self.assertIn(f"{gone}: no such file", done.stderr)
        self.assertEqual([json.loads(line)["input"] for line in done.stdout.splitlines()],
                         [str(path) for path in IMAGES[:3]])
        alone = self.lines("embed", "image", *IMAGES[:3])
        self.assertEqual([json.loads(line) for line in done.stdout.splitlines()], alone)

    def test_preprocess_writes_the_golden_pixels(self):
        out = self.top / "pixels"
        lines = self.lines("preprocess", *IMAGES[:2], "--out", out)
        (_, _, height, width), values = read_npy(GOLDEN / "pixel_values.npy")
        size = 3 * height * width
        for i, line in enumerate(lines):
            self.assertEqual(line["profile"], "reco")
            self.assertEqual(line["out"], str(out / f"{IMAGES[i].stem}.npy"))
            shape, pixels = read_npy(line["out"])
            self.assertEqual(shape, (3, height, width))
            self.assertEqual(pixels, values[i * size:(i + 1) * size])
        self.refused(1, "was already written", "preprocess", IMAGES[0], IMAGES[0], "--out", out)
        self.assertEqual(self.lines("preprocess", IMAGES[0], "--out", out, "--profile", "hf")[0]["profile"],
                         "hf")

    def test_a_model_that_is_none_is_told(self):
        self.refused(1, "no-model", "embed", "text", "x", "--model", self.top / "no-model")


class Memory(Case):
    def build(self, *arguments, status=0):
        done = reco("memory", "build", *arguments, "--data", self.data, "--json")
        self.assertEqual(done.returncode, status, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    def test_an_export_becomes_the_same_memory_again(self):
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            data = ["--data", root / "data"]
            rows = [[(7 * i + j * j) % 11 - 5 + 0.1 * i for j in range(8)] for i in range(50)]
            write_npy(root / "a.npy", rows)
            write_npy(root / "b.npy", rows[::-1])
            lines = [{"key": f" k\t{i}\n", "caption": f" \"c\" {i} \U0001f600\n", "source": "" if i % 2 else f"s{i} ",
                      "tags": ["b;x", "a ", " \u00e9"][:i % 4], "hidden": i % 5 == 0} for i in range(50)]
            (root / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            self.assertEqual(reco("memory", "build", "one", root / "a.npy", root / "b.npy", root / "m.jsonl",
                                  "--space", "s:8", *data).returncode, 0)

            def hash_of(memory):
                return json.loads(reco("memory", "info", memory, "--hash", "--json", *data).stdout)["content_hash"]
            before = hash_of("one")
            out = root / "x"
            told = reco("memory", "export", "one", "--out", out, "--shard-rows", "20", "--json", *data)
            self.assertEqual(json.loads(told.stdout),
                             {"memory": "one@1", "space": "s:8", "records": 50, "hidden": 10, "shards": 3})
            written = [json.loads(line) for i in range(3)
                       for line in (out / f"metadata/metadata_{i}.jsonl").read_text().splitlines()]
            plain = [{**line, "hidden": line.get("hidden", False)} for line in written]
            self.assertEqual(sorted(plain, key=lambda line: line["key"]), sorted(lines, key=lambda line: line["key"]))
            again = reco("memory", "export", "one", "--out", out, *data)
            self.assertEqual(again.returncode, 1)
            self.assertIn("not empty", again.stderr)
            flat = root / "flat"
            self.assertEqual(reco("memory", "export", "one", "--out", flat, "--format", "jsonl", "--shard-rows", "20",
                                  *data).returncode, 0)
            self.assertEqual(sorted(os.listdir(flat)), [f"records_{i}.jsonl" for i in range(3)])
            reco("memory", "drop", "one", *data)
            files = [flat / f"records_{i}.jsonl" for i in range(3)]
            for memory, sources in (("two", [out]), ("flat", [flat]), ("files", files)):
                self.assertEqual(reco("memory", "build", memory, *sources, "--space", "s:8", *data).returncode, 0)
                self.assertEqual(hash_of(memory), before, memory)
            self.refuse_embeddings(files[0], data)
            (flat / "export.partial").write_text("")
            for source in (flat, files[1]):
                refused = reco("memory", "build", "three", source, "--space", "s:8", *data)
                self.assertEqual(refused.returncode, 1)
                self.assertIn("export anew", refused.stderr)

            # What is only a part is not taken for the whole, and the same command makes it whole.
            (out / "export.partial").write_text("")
            refused = reco("memory", "build", "three", out, "--space", "s:8", *data)
            self.assertEqual(refused.returncode, 1)
            self.assertIn("export anew", refused.stderr)
            self.assertEqual(reco("memory", "export", "two", "--out", out, "--filter", "tag=a ", *data).returncode, 0)
            self.assertEqual(len((out / "metadata/metadata_0.jsonl").read_text().splitlines()), 24)
            self.assertFalse((out / "img_emb/img_emb_1.npy").exists() or (out / "export.partial").exists())

    def refuse_embeddings(self, file, data):
        """What is wrong with an embedding costs its line, or in the first one the build."""
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        lines[1]["image_embedding"].pop()
        del lines[2]["text_embedding"]
        lines[3]["text_embedding"][4] = 1e39
        lines[4]["image_embedding"][0] = "1"
        lines[5]["image_embedding"] = [0] * 8
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        done = reco("memory", "build", "faulty", file, "--space", "s:8", "--json", *data)
        for words in ("image_embedding: 7 numbers: 8 are allowed", "text_embedding: is missing", "element 4 is 1e+39",
                      "element 0 is not a number", "image_embedding: is all zeros"):
            self.assertIn(words, done.stderr + done.stdout)
        self.assertEqual(json.loads(done.stdout.splitlines()[-1])["records"], len(lines) - 5)
        lines[0]["image_embedding"] = [1] * 4097
        file.write_text(json.dumps(lines[0]) + "\n")
        done = reco("memory", "build", "long", file, "--space", "s:8", *data)
        self.assertEqual(done.returncode, 1)
        self.assertIn("4097 numbers: an array of 1 to 4096", done.stderr)

    def test_a_folder_becomes_a_memory_that_answers(self):
        folder = make_folder(self.top / "photos")
        lines, _ = self.build("drawings", folder)
        report = lines[-1]
        self.assertEqual((report["memory"], report["generation"], report["records"]),
                         ("drawings", 1, len(IMAGES)))
        self.assertEqual((report["skipped"], report["duplicates"], report["resumed"]), (0, 0, 0))
        self.assertGreater(report["bytes_per_record"], 4 * 128)
        self.assertIn("seconds", report)
        self.assertIsNone(report["recall_at_10"])

        answer = self.lines("search", "--image", IMAGES[0], "--memory", "drawings", "-k", "3", "--data",
                            self.data)[0]
        best = answer["neighbours"][0]
        kind, style, _ = IMAGES[0].name.split(".")
        self.assertEqual(best["key"], f"{kind}/{style}")
        self.assertEqual(best["caption"], caption_of(IMAGES[0]))
        self.assertEqual(best["source"], str(folder / kind / f"{style}.png"))
        self.assertGreater(best["score"], 0.999)
        self.assertEqual((len(answer["neighbours"]), answer["coverage"], answer["degraded"]), (3, 1, []))
        self.assertEqual(answer["records"], len(IMAGES))

    def test_building_again_replaces_by_key_and_stores_nothing_twice(self):
        folder = make_folder(self.top / "photos", IMAGES[:6])
        self.build("m", folder)
        report = self.build("m", folder)[0][-1]
        self.assertEqual((report["records"], report["duplicates"], report["stored"]), (6, 6, 6))
        report = self.build("m", make_folder(self.top / "more", IMAGES[4:9]))[0][-1]
        self.assertEqual((report["records"], report["duplicates"]), (9, 2))

    def test_replace_builds_the_next_generation(self):
        self.build("m", make_folder(self.top / "one", IMAGES[:6]))
        report = self.build("m", make_folder(self.top / "two", IMAGES[6:9]), "--replace")[0][-1]
        self.assertEqual((report["generation"], report["records"]), (2, 3))
        flags = ("--data", self.data)
        self.assertEqual(self.lines("memory", "info", "m", *flags)[0]["generation"], 2)
        self.assertEqual(self.lines("memory", "info", "m@1", *flags)[0]["records"], 6)
        self.assertEqual(self.lines("search", "--text", "x", "-m", "m@1", *flags)[0]["records"], 6)
        self.assertEqual(len(self.lines("memory", "list", *flags)), 2)
        self.run_ok("memory", "drop", "m@1", *flags)
        self.assertEqual(len(self.lines("memory", "list", *flags)), 1)

    def test_a_name_points_where_it_is_told_to(self):
        self.build("m", make_folder(self.top / "one", IMAGES[:6]))
        self.build("m", make_folder(self.top / "two", IMAGES[6:9]), "--replace")
        flags = ("--data", self.data)
        self.assertEqual(self.lines("memory", "alias", "now", "m", *flags)[0]["generation"], 2)
        self.assertEqual(self.lines("search", "--text", "x", "-m", "now", *flags)[0]["records"], 3)
        line = self.lines("memory", "alias", "m", "m@1", *flags)[0]  # rolled back
        self.assertEqual((line["generation"], line["records"], line["aliases"]), (1, 6, ["m", "now"]))
        self.assertEqual(self.lines("search", "--text", "x", "-m", "now", *flags)[0]["records"], 6)
        self.assertEqual({l["generation"]: l["aliases"] for l in self.lines("memory", "list", *flags)},
                         {1: ["m", "now"], 2: []})
        self.assertIn("m, now", self.run_ok("memory", "list", *flags).stdout)
        self.refused(1, "the alias 'now' points at m@1", "memory", "drop", "m", *flags)
        self.refused(1, "is an alias; `reco memory alias now --remove` takes it away", "memory", "drop", "now", *flags)
        self.refused(1, "is an alias", "memory", "build", "now", self.top / "one", "--replace", *flags)
        self.refused(2, "ALIAS and TARGET are needed", "memory", "alias", "now", *flags)
        self.assertTrue(self.lines("memory", "alias", "--remove", "now", *flags)[0]["removed"])
        self.refused(1, "there is no memory 'now'", "search", "--text", "x", "-m", "now", *flags)
        self.run_ok("memory", "drop", "m", *flags)

    def test_items_that_cannot_be_used_are_named_and_left_out(self):
        folder = make_folder(self.top / "photos", IMAGES[:4])
        (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        (folder / "broken.txt").write_text("broken")
        shutil.copy(IMAGES[5], folder / "mute.png")
        lines, errors = self.build("m", folder, status=1)
        self.assertEqual(lines[-1]["records"], 4)
        self.assertEqual(lines[-1]["skipped"], 2)
        named = {line["item"]: line["error"] for line in lines[:-1]}
        self.assertEqual(len(named), 2)
        self.assertIn("broken", named)
        self.assertIn("no .txt and no .json", named[str(folder / "mute.png")])
        self.assertIn("mute.png", errors)
        self.assertEqual(self.lines("memory", "info", "m", "--data", self.data)[0]["state"], "serving")

    def test_sources_that_hold_nothing_make_no_memory(self):
        (self.top / "empty").mkdir()
        self.refused(1, "has no pictures", "memory", "build", "m", self.top / "empty", "--data", self.data)
        self.refused(1, "no such file or folder", "memory", "build", "m", self.top / "none", "--data",
                     self.data)
        folder = self.top / "mute"
        folder.mkdir()
        shutil.copy(IMAGES[0], folder / "a.png")
        self.refused(1, "nothing was stored", "memory", "build", "m", folder, "--data", self.data)
        self.assertEqual(self.lines("memory", "list", "--data", self.data), [])
        self.refused(1, "m", "search", "--text", "x", "-m", "m", "--data", self.data)

    def test_hidden_records_are_in_no_answer(self):
        self.build("m", make_folder(self.top / "photos", IMAGES[:6]))
        flags = ("--data", self.data)
        ask = ("search", "--image", IMAGES[0], "--memory", "m", "-k", "6", *flags)
        keys = [n["key"] for n in self.lines(*ask)[0]["neighbours"]]
        self.assertEqual(len(keys), 6)
        line = self.lines("memory", "hide", "m", keys[0], "--key", keys[1], *flags)
        self.assertEqual([(l["key"], l["status"]) for l in line], [(keys[1], "hidden"), (keys[0], "hidden")])
        self.assertEqual(self.lines("memory", "hide", "m", keys[0], *flags)[0]["status"], "was hidden")
        self.assertEqual([n["key"] for n in self.lines(*ask)[0]["neighbours"]], keys[2:])
        info = self.lines("memory", "info", "m", *flags)[0]
        self.assertEqual((info["records"], info["hidden"]), (6, 2))
        told = self.lines("memory", "get", "m", *keys[:3], *flags)
        self.assertEqual([(l["key"], l["hidden"]) for l in told],
                         [(keys[0], True), (keys[1], True), (keys[2], False)])
        self.build("m", self.top / "photos")  # the same again: a takedown holds
        self.assertEqual([n["key"] for n in self.lines(*ask)[0]["neighbours"]], keys[2:])
        self.refused(1, "no such record", "memory", "hide", "m", "nobody", *flags)
        self.refused(2, "no record is named", "memory", "unhide", "m", *flags)
        self.assertEqual(self.lines("memory", "unhide", "m", *keys[:2], *flags)[0]["status"], "shown")
        self.assertEqual([n["key"] for n in self.lines(*ask)[0]["neighbours"]], keys)

    def test_a_webdataset_is_read_with_its_keys(self):
        tar_path = self.top / "birds-000.tar"
        with tarfile.open(tar_path, "w") as tar:
            for i, image in enumerate(IMAGES[:5]):
                sidecar = json.dumps({"caption": caption_of(image), "url": f"http://x/{i}",
                                      "tags": ["a", "b"], **({"key": "own"} if i == 4 else {})})
                for extension, data in (("png", image.read_bytes()), ("json", sidecar.encode())):
                    entry = tarfile.TarInfo(f"{i:06d}.{extension}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
        self.assertEqual(self.build("m", tar_path)[0][-1]["records"], 5)
        answer = self.lines("search", "--image", IMAGES[2], "-m", "m", "--data", self.data)[0]
        self.assertEqual(answer["neighbours"][0]["key"], "birds-000/000002")
        self.assertEqual(answer["neighbours"][0]["source"], "http://x/2")
        self.assertIn("own", [line["key"] for line in answer["neighbours"]])

    def test_arrays_need_a_space_and_keep_to_it(self):
        write_npy(self.top / "i.npy", [[1, 0, 0], [0, 2, 0], [0, 0, 3], [0, 0, 0]])
        write_npy(self.top / "t.npy", [[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 1, 1]])
        (self.top / "m.jsonl").write_text("".join(f'{{"caption": "row {i}"}}\n' for i in range(4)))
        arrays = (self.top / "i.npy", self.top / "t.npy", self.top / "m.jsonl")
        self.refused(2, "arrays need --space NAME:3", "memory", "build", "m", *arrays, "--data", self.data)
        lines, errors = self.build("m", *arrays, "--space", "other:3", status=1)
        self.assertEqual(lines[-1]["records"], 3)
        self.assertIn("i.npy row 3", errors)
        write_npy(self.top / "q.npy", [[0, 0.5, 0], [1, 0, 0]])
        answers = self.lines("search", "--embedding", self.top / "q.npy", "-m", "m", "-k", "1", "--data",
                             self.data)
        self.assertEqual([(line["input"], line["neighbours"][0]["key"], line["neighbours"][0]["caption"])
                          for line in answers],
                         [(f"{self.top / 'q.npy'}[0]", "1", "row 1"), (f"{self.top / 'q.npy'}[1]", "0", "row 0")])
        done = self.refused(1, "", "search", "--text", "x", "-m", "m", "--data", self.data)
        self.assertIn("other:3", done.stderr)
        self.refused(1, "its space is other:3", "memory", "build", "m", *arrays, "--space", "else:3",
                     "--data", self.data)
        self.refused(2, "--space: is for arrays", "memory", "build", "n",
                     make_folder(self.top / "photos", IMAGES[:2]), "--space", "x:3", "--data", self.data)

    def test_a_build_in_a_space_that_does_not_fit_leaves_nothing_behind(self):
        write_npy(self.top / "i.npy", [[1, 0, 0], [0, 1, 0]])
        arrays = (self.top / "i.npy", self.top / "i.npy")
        self.refused(1, "its space other:4 has 4 dimensions, the arrays have 3", "memory", "build", "m",
                     *arrays, "--space", "other:4", "--data", self.data)
        self.assertEqual(self.lines("memory", "list", "--data", self.data), [])
        lines, _ = self.build("m", *arrays, "--space", "other:3")
        self.assertEqual(lines[-1]["records"], 2)

    def test_single_records_come_and_go(self):
        self.build("m", make_folder(self.top / "photos", IMAGES[:4]))
        flags = ("--data", self.data)
        add = ("memory", "add", "m", "--key", "new one", "--image", IMAGES[10], "--caption", "a new thing",
               "--tag", "t", *flags)
        line = self.lines(*add)[0]
        self.assertEqual((line["key"], line["status"]), ("new one", "stored"))
        self.assertEqual(self.lines(*add)[0], {**line, "status": "replaced"})
        answer = self.lines("search", "--image", IMAGES[10], "-m", "m", "-k", "1", *flags)[0]
        self.assertEqual(answer["neighbours"][0]["id"], line["id"])
        self.assertEqual(answer["neighbours"][0]["caption"], "a new thing")

        self.refused(2, "--key: is needed", "memory", "add", "m", "--image", "x", *flags)
        self.refused(1, "new", "memory", "add", "m", "--key", "new", "--image", __file__, "--caption", "x",
                     *flags)
        done = self.refused(1, "no such key: there is no such record", "memory", "delete", "m", "no such key",
                            "new one", "--keep-going", "--json", *flags)
        self.assertEqual([json.loads(text)["status"] for text in done.stdout.splitlines()],
                         ["missing", "deleted"])
        one = self.lines("search", "--image", IMAGES[0], "-m", "m", "-k", "1", *flags)[0]["neighbours"][0]
        self.assertEqual(self.lines("memory", "delete", "m", "--id", one["id"], *flags)[0],
                         {"key": None, "id": one["id"], "status": "deleted"})
        self.assertEqual(self.lines("memory", "info", "m", *flags)[0]["records"], 3)
        self.assertEqual(self.lines("memory", "drop", "m", *flags), [{"memory": "m", "records": 3}])
        self.refused(1, "m", "memory", "info", "m", *flags)


class Asking(Case):
    """One memory for all; questions of every kind, inside the process and to a server."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="reco-cli-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        photos = make_folder(cls.folder / "photos", IMAGES[:40])
        cls.local = cls.folder / "local"
        done = reco("memory", "build", "default", photos, "--data", cls.local)
        assert done.returncode == 0, done.stderr
        cls.cluster = Cluster(cls.folder / "served", "--shards", "3")
        cls.addClassCleanup(cls.cluster.stop)
        done = reco("memory", "build", "default", photos, "--server", cls.cluster.address)
        assert done.returncode == 0, done.stderr
        cls.labels = cls.folder / "labels.txt"
        cls.labels.write_text("# kinds\npenguin\tflightless bird\noctopus\nrocket\tspace ship\ntiger\n")

    def both(self, *arguments, **named):
        """The answer, which must be the same from both."""
        here = self.lines(*arguments, "--data", self.local, **named)
        there = self.lines(*arguments, "--server", self.cluster.address, **named)
        self.assertEqual(same_but_for_time(here), same_but_for_time(there))
        return here

    def test_search_answers_alike_here_and_there(self):
        for over in ("image", "text", "same"):
            self.both("search", "--image", IMAGES[50], "--over", over)
            self.both("search", "--text", "a penguin", "--text", "a bee", "--over", over)
        lines = self.both("search", "--image", "-", stdin=f"{IMAGES[1]}\n\n{IMAGES[2]}\n")
        self.assertEqual([line["input"] for line in lines], [str(IMAGES[1]), str(IMAGES[2])])
        key = lines[0]["neighbours"][0]["key"]
        self.assertNotIn(key, [n["key"] for n in self.both("search", "--image", IMAGES[1], "--exclude", key)[0]["neighbours"]])
        few = self.both("search", "--image", IMAGES[1], "--min-similarity", "0.99", "-k", "20")[0]
        self.assertTrue(all(n["score"] >= 0.99 for n in few["neighbours"]))
        self.assertLess(len(few["neighbours"]), 20)

    def test_refine_answers_alike_here_and_there(self):
        for fusion in ("none", "mean", "weighted"):
            line = self.both("refine", "--image", IMAGES[45], "--fusion", fusion)[0]
            self.assertEqual(len(line["embedding"]), 128)
            self.assertIn("gate_reason", line)
            self.both("refine", "--text", "a rocket", "--fusion", fusion)
        plain = self.lines("embed", "image", IMAGES[45])[0]["embedding"]
        self.assertEqual(self.both("refine", "--image", IMAGES[45], "--fusion", "none")[0]["embedding"], plain)
        write_npy(self.top / "q.npy", [plain])
        lines = self.both("refine", "--embedding", self.top / "q.npy", "--out", self.top / "r.npy")
        shape, values = read_npy(self.top / "r.npy")
        self.assertEqual(shape, (1, 128))
        self.assertEqual(values, as_floats(lines[0]["embedding"]))

    def test_classify_answers_alike_here_and_there(self):
        for extra in ((), ("--explain",), ("--fusion", "none"), ("--fusion", "mean", "--top", "2"),
                      ("--template", "a drawing of a {}", "--template", "{}")):
            lines = self.both("classify", IMAGES[0], IMAGES[41], "--labels", self.labels, *extra)
            for line in lines:
                for side in ("plain", "refined"):
                    names = [entry["label"] for entry in line[side]]
                    self.assertEqual(len(names), 2 if "--top" in extra else 4)
                    self.assertTrue(set(names) <= {"penguin", "octopus", "rocket", "tiger"})
                    scores = [entry["score"] for entry in line[side]]
                    self.assertEqual(scores, sorted(scores, reverse=True))
                self.assertEqual("--explain" in extra, any("effect" in n for n in line["neighbours"]))

    def test_an_alias_speaks_for_its_label_with_its_own_score(self):
        flat = self.folder / "flat.txt"
        flat.write_text("penguin\nflightless bird\noctopus\nrocket\nspace ship\ntiger\n")
        for image in IMAGES[0], IMAGES[9]:
            line = self.both("classify", image, "--labels", self.labels, "--top", "4")[0]
            names = self.both("classify", image, "--labels", flat, "--top", "6")[0]
            owner = {"flightless bird": "penguin", "space ship": "rocket"}
            for side in ("plain", "refined"):
                best = {}
                for entry in names[side]:
                    best.setdefault(owner.get(entry["label"], entry["label"]), entry["score"])
                self.assertEqual({entry["label"]: entry["score"] for entry in line[side]}, best)

    def test_models_answer_alike_here_and_there(self):
        for verb in (["embed", "image", *IMAGES[:3]], ["embed", "text", "a", "b c"], ["tokenize", "a", "b"]):
            self.assertEqual(self.lines(*verb), self.lines(*verb, "--server", self.cluster.address))

    def test_mistakes_are_told_alike_here_and_there(self):
        broken = self.top / "broken.png"
        broken.write_bytes(b"no picture")
        for words, *verb in (("nothing", "search", "--text", "x", "-m", "nothing"),
                             ("broken.png", "search", "--image", broken),
                             ("broken.png", "classify", broken, "--labels", self.labels),
                             ("broken.png", "embed", "image", broken)):
            here = reco(*verb, *(() if verb[0] == "embed" else ("--data", self.local)))
            there = reco(*verb, "--server", self.cluster.address)
            self.assertEqual((here.returncode, here.stderr), (there.returncode, there.stderr))
            self.assertEqual(here.returncode, 1)
            self.assertIn(words, here.stderr)
        bad = self.folder / "bad.txt"
        bad.write_text("owl\nowl\n")
        self.refused(1, "the name 'owl' comes twice", "classify", IMAGES[0], "--labels", bad)

    def test_a_request_id_comes_back(self):
        for place in (("--data", self.local), ("--server", self.cluster.address)):
            line = self.lines("search", "--text", "x", "--request-id", "my-id", *place)[0]
            self.assertEqual(line["request_id"], "my-id")
            self.assertTrue(self.lines("search", "--text", "x", *place)[0]["request_id"])

    def test_text_for_people_has_the_same_facts(self):
        done = self.run_ok("classify", IMAGES[0], "--labels", self.labels, "--data", self.local)
        self.assertIn("plain CLIP", done.stdout)
        self.assertIn("with memory", done.stdout)
        self.assertIn("gate", done.stdout)
        self.assertNotIn("\033", done.stdout)
        self.assertEqual(done.stderr, "")

    def test_status_shows_nodes_and_memories(self):
        line = self.lines("status", "--server", self.cluster.address)[0]
        self.assertEqual([node["state"] for node in line["nodes"]], ["up"] * 3)
        self.assertEqual(sum(node["records"] for node in line["nodes"]), 40)
        self.assertEqual([memory["memory"] for memory in line["memories"]], ["default"])
        self.assertEqual(line["memories"][0]["records"], 40)
        self.assertIn("up", self.run_ok("status", "--server", self.cluster.address).stdout)

    def test_a_directory_that_a_server_holds_is_refused_with_its_address(self):
        served = self.folder / "served"
        self.refused(1, self.cluster.address, "search", "--text", "x", "--data", served)
        self.refused(1, self.cluster.address, "memory", "build", "m", self.folder / "photos", "--data", served)
        line = self.lines("status", "--data", served)[0]
        self.assertEqual(line["state"], "held")
        self.assertIn(self.cluster.address, line["detail"])
        self.assertEqual(self.lines("status", "--data", self.local)[0]["state"], "free")
        self.assertEqual(self.lines("status", "--data", self.top / "none")[0]["state"], "missing")


class Choosing(Case):
    """Filters, weighted parts, fields, dedup, records by name, labels from captions."""

    @classmethod
    def setUpClass(cls):
        cls.shared = Path(tempfile.mkdtemp(prefix="reco-cli-"))
        cls.addClassCleanup(shutil.rmtree, cls.shared, True)
        cls.images = IMAGES[:8]
        make_folder(cls.shared / "pictures", cls.images[:1])
        reco("memory", "build", "default", cls.shared / "pictures", "--data", cls.shared / "data").check_returncode()
        for number, image in enumerate(cls.images):
            kind, style, _ = image.name.split(".")
            reco("memory", "add", "default", "--data", cls.shared / "data", "--key", f"{kind}/{style}", "--image",
                 image, "--caption", caption_of(image), "--tag", kind, "--tag",
                 "even" if number % 2 == 0 else "odd").check_returncode()

    def setUp(self):
        super().setUp()
        self.data = self.shared / "data"

    def refused(self, status, words, *arguments, **named):
        done = super().refused(status, words[0], *arguments, **named)
        for word in words[1:]:
            self.assertIn(word, done.stderr)

    def search(self, *flags, **named):
        return self.lines("search", "--data", self.data, *flags, **named)[0]

    def found(self, *flags, **named):
        return [one["key"] for one in self.search(*flags, **named)["neighbours"]]

    def test_filters_and_sets_hold(self):
        picture = ("--image", self.images[0], "-k", 256)
        kinds = [image.name.split(".")[0] for image in self.images]
        keys = [".".join(image.name.split(".")[:2]).replace(".", "/") for image in self.images]
        everything = set(self.found(*picture))
        self.assertEqual(everything, set(keys))
        kind = kinds[0]
        self.assertEqual(set(self.found(*picture, "--filter", f"tag={kind}")),
                         {key for key in keys if key.startswith(kind + "/")})
        self.assertEqual(set(self.found(*picture, "--filter", f"no:tag={kind}")),
                         {key for key in keys if not key.startswith(kind + "/")})
        self.assertEqual(set(self.found(*picture, "--filter", "any:tag=odd", "--filter", "any:tag=nobody")),
                         set(keys[1::2]))
        answer = self.search(*picture, "--only", "-", stdin=f"{keys[1]}\n{keys[2]}\nnobody\n")
        self.assertEqual({one["key"] for one in answer["neighbours"]}, {keys[1], keys[2]})
        self.assertEqual(answer["records"], 2)
        self.assertEqual(self.found(*picture, "--only", "-", stdin=""), [])
        self.run_ok("memory", "delete", "default", keys[-1], "--data", self.data)
        self.assertNotIn(keys[-1], self.found(*picture, "--filter", "tag=odd"))
        self.refused(2, ["--filter", "any:tag=VALUE"], "search", "--data", self.data, *picture, "--filter", "odd")

    def test_parts_weigh_and_mistakes_are_named(self):
        alone = self.found("--image", self.images[0])
        self.assertEqual(self.found("--part", f"image={self.images[0]}"), alone)
        mixed = self.search("--part", f"image={self.images[0]}@0.5", "--part", f"image={self.images[-1]}@0.6", "--part",
                            "text=a pencil@-0.1")
        self.assertIn(len(mixed["neighbours"]), (7, 8))
        flags = ("search", "--data", self.data, "--part")
        self.refused(1, ["parts[0].weight", "not 0"], *flags, "text=owl@0")
        self.refused(1, ["parts", "cancel out"], *flags, "text=owl@1", "--part", "text=owl@-1")
        self.refused(2, ["--part", "image=FILE@WEIGHT"], *flags, "sound=a.wav")

    def test_fields_are_those_asked_for(self):
        picture = ("--image", self.images[0], "-k", 2)
        one = self.search(*picture, "--fields", "tags,text_embedding")["neighbours"][0]
        self.assertEqual(set(one), {"id", "score", "tags", "text_embedding"})
        self.assertEqual(len(one["text_embedding"]), 128)
        self.assertEqual(set(self.search(*picture, "--fields", "none")["neighbours"][0]), {"id", "score"})
        self.refused(2, ["--fields", "'colour'", "caption"], "search", "--data", self.data, *picture, "--fields",
                     "key,colour")
        few = self.found("--image", self.images[0], "--dedup", 0.5)
        self.assertEqual(few[0], self.found("--image", self.images[0])[0])

    def test_records_come_by_name(self):
        kind, style, _ = self.images[0].name.split(".")
        line = self.lines("memory", "get", "default", f"{kind}/{style}", "--data", self.data)[0]
        self.assertEqual((line["key"], line["tags"]), (f"{kind}/{style}", [kind, "even"]))
        again = self.lines("memory", "get", "default", "--id", line["id"], "--fields", "all", "--data", self.data)[0]
        self.assertEqual(len(again["image_embedding"]), 128)
        self.refused(1, ["nobody", "no such record"], "memory", "get", "default", "--key", "nobody", "--data", self.data)

    def test_labels_come_from_captions(self):
        line = self.lines("classify", self.images[0], "--no-labels", "--top", 3, "--data", self.data)[0]
        self.assertEqual(len(line["refined"]), 3)
        self.assertTrue(all(not one["label"].startswith("a ") for one in line["refined"]))
        self.refused(2, ["--no-labels", "--labels"], "classify", self.images[0], "--no-labels", "--labels", "x", "--data",
                     self.data)


class Resume(Case):
    COUNT = 2200  # more than two streams of 1,024

    def kill_at(self, words, *arguments):
        """Kills a build when it says the words; the records that it called safe last."""
        build = subprocess.Popen([str(PROGRAMS / "reco"), *map(str, arguments), "--verbose"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        safe = 0
        for line in build.stderr:
            safe = int((re.findall(r"(\d+) records are safe", line) or [safe])[0])
            if words in line:
                build.kill()
                break
        build.wait(PATIENCE)
        build.stderr.close()
        self.assertEqual(build.returncode, -signal.SIGKILL, f"'{words}' was never said")
        return safe

    def interrupt(self, *place):
        """Kills a build at its begin, after one stream and again; the memory must be whole, each record once."""
        folder = make_many(self.top / "many", self.COUNT)
        build = ("memory", "build", "m", folder, *place)
        self.kill_at("writing to", *build)
        safe = self.kill_at("records are safe", *build)
        self.assertGreaterEqual(self.lines("memory", "info", "m", *place)[0]["records"], safe)
        self.assertEqual(self.lines("memory", "info", "m", *place)[0]["state"], "building")
        self.refused(1, "the same command goes on with one that was interrupted", "search", "--text", "x", "-m", "m",
                     *place)
        self.kill_at("2048 records are safe", *build)
        report = self.lines(*build)[-1]
        self.assertEqual((report["records"], report["skipped"]), (self.COUNT, 0))
        self.assertGreaterEqual(report["resumed"], 2048)
        self.assertEqual(report["stored"], self.COUNT - report["resumed"])
        self.assertEqual(self.lines("memory", "info", "m", *place)[0]["state"], "serving")
        for i in (0, 1, self.COUNT // 2, self.COUNT - 1):
            text = f"{caption_of(IMAGES[i % len(IMAGES)])} number {i}"
            found = self.lines("search", "--text", text, "-m", "m", "-k", "256", *place)[0]["neighbours"]
            self.assertEqual([n["caption"] for n in found].count(text), 1)

    def test_ctrl_c_says_that_the_same_command_goes_on(self):
        folder = make_many(self.top / "many", self.COUNT)
        build = subprocess.Popen([str(PROGRAMS / "reco"), "memory", "build", "m", str(folder), "-v", "--data",
                                  str(self.data)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in build.stderr:
            if "writing to" in line:
                build.send_signal(signal.SIGINT)
                break
        self.assertIn("interrupted; what is stored stays, and the same command goes on", build.stderr.read())
        self.assertEqual(build.wait(PATIENCE), -signal.SIGINT)
        build.stderr.close()

    def test_a_build_that_was_killed_goes_on_and_stores_nothing_twice(self):
        self.interrupt("--data", self.data)

    def test_a_build_into_a_server_goes_on_after_the_client_was_killed(self):
        cluster = Cluster(self.data, "--shards", "2")
        self.addCleanup(lambda: cluster.process.poll() is None and cluster.kill())
        self.interrupt("--server", cluster.address)
        self.assertEqual(cluster.stop(), 0)

    def test_an_interrupted_replacement_leaves_the_old_generation_serving(self):
        place = ("--data", self.data)
        self.run_ok("memory", "build", "m", make_folder(self.top / "old", IMAGES[:5]), *place)
        build = ("memory", "build", "m", make_many(self.top / "many", self.COUNT), "--replace", *place)
        self.kill_at("records are safe", *build)
        info = self.lines("memory", "info", "m", *place)[0]
        self.assertEqual((info["generation"], info["records"]), (1, 5))
        report = self.lines(*build)[-1]
        self.assertEqual((report["generation"], report["records"]), (2, self.COUNT))
        self.assertGreaterEqual(report["resumed"], 1024)


class Up(Case):
    def start(self, *flags):
        cluster = Cluster(self.data, *flags)
        self.addCleanup(lambda: cluster.process.poll() is None and cluster.kill())
        return cluster

    def test_sigterm_ends_everything_with_status_0(self):
        cluster = self.start("--shards", "3")
        children = cluster.children()
        self.assertEqual({name: len(pids) for name, pids in children.items()},
                         {"reco-shard": 3, "reco-coordinato": 1})
        self.assertEqual(cluster.stop(), 0)
        self.assertFalse([pid for pids in children.values() for pid in pids if is_alive(pid)])
        self.assertEqual(self.lines("status", "--data", self.data)[0]["state"], "free")

    def test_what_was_built_is_there_after_a_restart_and_for_a_lone_verb(self):
        cluster = self.start("--shards", "2")
        folder = make_folder(self.top / "photos", IMAGES[:10])
        self.run_ok("memory", "build", "m", folder, "--server", cluster.address)
        asked = ("search", "--image", IMAGES[0], "-m", "m")
        first = same_but_for_time(self.lines(*asked, "--server", cluster.address))
        self.assertEqual(cluster.stop(), 0)
        self.assertEqual(same_but_for_time(self.lines(*asked, "--data", self.data)), first)
        cluster = self.start()  # as many as the directory has
        self.assertEqual(len(cluster.children()["reco-shard"]), 2)
        self.assertEqual(same_but_for_time(self.lines(*asked, "--server", cluster.address)), first)
        self.assertEqual(cluster.stop(), 0)

    def test_a_killed_child_is_started_again(self):
        cluster = self.start("--shards", "2")
        folder = make_folder(self.top / "photos", IMAGES[:10])
        self.run_ok("memory", "build", "m", folder, "--server", cluster.address)
        for name in ("reco-shard", "reco-coordinato"):
            victim = cluster.children()[name][0]
            os.kill(victim, signal.SIGKILL)
            self.assertTrue(wait_until(lambda: victim not in cluster.children().get(name, [victim])))

            def whole():
                done = reco("search", "--image", IMAGES[0], "-m", "m", "--json", "--server",
                            cluster.address, "--deadline-ms", "2000")
                return done.returncode == 0 and json.loads(done.stdout)["coverage"] == 1
            self.assertTrue(wait_until(whole), cluster.read_log())
        self.assertEqual(len(cluster.children()["reco-shard"]), 2)
        self.assertEqual(cluster.stop(), 0)

    def test_classify_goes_on_when_the_coordinator_was_started_again_meanwhile(self):
        cluster = self.start()
        self.run_ok("memory", "build", "default", make_folder(self.top / "photos", IMAGES[:10]), "--server",
                    cluster.address)
        labels = self.top / "labels.txt"
        labels.write_text("penguin\noctopus\n")
        classify = subprocess.Popen(
            [str(PROGRAMS / "reco"), "classify", "-", "--labels", str(labels), "--server", cluster.address,
             "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        answers = []
        for _ in range(2):
            classify.stdin.write(f"{IMAGES[0]}\n")
            answers.append(json.loads(classify.stdout.readline()))
            victim = cluster.children()["reco-coordinato"][0]
            os.kill(victim, signal.SIGKILL)

            def whole():
                done = reco("search", "--image", IMAGES[0], "--json", "--server", cluster.address,
                            "--deadline-ms", "2000")
                return done.returncode == 0 and json.loads(done.stdout)["coverage"] == 1
            self.assertTrue(wait_until(lambda: not is_alive(victim)) and wait_until(whole))
        classify.stdin.close()
        self.assertEqual(classify.wait(PATIENCE), 0)
        classify.stdout.close()
        self.assertEqual(*same_but_for_time(answers))
        self.assertEqual(cluster.stop(), 0)

    def test_kill_9_of_the_supervisor_leaves_no_orphan(self):
        cluster = self.start("--shards", "2")
        children = [pid for pids in cluster.children().values() for pid in pids]
        self.assertEqual(len(children), 3)
        cluster.kill()
        self.assertTrue(wait_until(lambda: not any(map(is_alive, children))))
        again = self.start()
        self.assertEqual(again.stop(), 0)

    def test_sighup_reaches_every_child(self):
        config = self.top / "reco.ini"
        config.write_text("[log]\nlevel = info\n")
        cluster = self.start("--shards", "2", "--config", config)
        children = cluster.children()
        cluster.process.send_signal(signal.SIGHUP)
        self.assertTrue(wait_until(lambda: cluster.read_log().count("config_reloaded") == 3),
                        cluster.read_log())
        self.assertEqual(cluster.children(), children)
        self.assertEqual(cluster.stop(), 0)

    def test_a_second_one_and_another_number_of_shards_are_refused(self):
        cluster = self.start("--shards", "2")
        self.refused(1, str(self.data), "up", "--port", "0", "--data", self.data)
        self.assertEqual(cluster.stop(), 0)
        self.refused(1, "2", "up", "--port", "0", "--shards", "3", "--data", self.data)
        self.refused(2, "--shards: '33'", "up", "--shards", "33", "--data", self.data)

    def test_a_taken_port_is_named(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            if port > 65423 + 10:
                self.skipTest("the kernel picked a port too high for --port")
            self.refused(1, f"127.0.0.1:{port} is taken", "up", "--port", min(port, 65423) if port <= 65423
                         else port - 10, "--data", self.data)
            self.refused(1, f"127.0.0.1:{port} is taken", "up", "--port", port - 10, "--data", self.data)

    def test_a_start_that_cannot_succeed_ends(self):
        self.refused(1, "reco-coordinator ended", "up", "--port", "0", "--data", self.data, "--model",
                     self.top / "no-model")


class Bench(Case):
    def test_encode_tells_every_repetition(self):
        lines = self.lines("bench", "encode", "--batch", "1,4", "--repetitions", "2")
        self.assertEqual([(line["what"], line["batch"], line["repetition"]) for line in lines],
                         [(what, batch, i) for what in ("image", "text") for batch in (1, 4) for i in (0, 1)])
        for line in lines:
            self.assertGreater(line["per_second"], 0)
            self.assertGreater(line["timings_ms"]["encode"], 0)
        self.assertIn("per second", self.run_ok("bench", "encode", IMAGES[0], "--batch", "2", "--repetitions",
                                                "1").stdout)

    def test_search_measures_a_synthetic_memory_that_it_builds_once(self):
        asked = ("bench", "search", "--synthetic", "3000", "--dimension", "24", "-n", "20", "--repetitions", "2",
                 "--concurrency", "1,3", "--data", self.data)
        lines = self.lines(*asked)
        self.assertEqual([(line["concurrency"], line["repetition"]) for line in lines],
                         [(1, 0), (1, 1), (3, 0), (3, 1)])
        for line in lines:
            self.assertEqual((line["records"], line["dimension"], line["queries"]), (3000, 24, 20))
            self.assertTrue({"decode", "preprocess", "encode", "queue", "fanout", "shard", "merge", "fetch",
                             "fuse", "total", "wall"} <= set(line["steps_ms"]))
            self.assertGreater(line["machine_gb_per_second"], 0)
            self.assertGreaterEqual(line["steps_ms"]["total"]["p99"], line["steps_ms"]["total"]["median"])
        memories = self.lines("memory", "list", "--data", self.data)
        self.assertEqual([(m["memory"], m["records"], m["state"]) for m in memories],
                         [("synthetic-3000x24", 3000, "serving")])
        done = self.run_ok(*asked, "--refine")
        self.assertNotIn("building", done.stderr)
        self.assertIn("GB/s", done.stdout)

    def test_search_needs_a_memory_with_records(self):
        self.refused(1, "reco memory build", "bench", "search", "--data", self.data)


def main():
    global PROGRAMS
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    PROGRAMS = Path(sys.argv[1]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)


if __name__ == "__main__":
    main()
