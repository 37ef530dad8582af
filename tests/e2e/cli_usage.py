#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What stands between a user and an answer: verbs, flags, values, configuration.

usage: cli_usage.py PROGRAM_DIR [CLASS[.test] ...]

Goal: a mistake gives the promised exit status and names what was wrong and what is allowed; nothing
is made by a command that was refused.

Method: cli.py's, which says what the tests of the command line share.
"""
import fcntl
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import termios

import cli
from cli import IMAGES, Case, make_folder, reco


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

    def test_help_fits_a_narrow_terminal(self):
        names = re.findall(r"^  (\w+(?: \w+)?)  +\w", self.run_ok("help").stdout, re.M)
        widths = (("40", 40), ("10", 40), ("66", 66), ("500", 80), ("x", 80))
        cases = [("help " + name, "40", 40) for name in ["", *names]]
        for verb, columns, limit in cases + [("help search", *width) for width in widths]:
            for line in self.run_ok(*verb.split(), env={"COLUMNS": columns}).stdout.split("\n"):
                # Names of flags and examples stay whole.
                if not re.match(r" {1,5}\S| {6}(http|curl)", line):
                    self.assertLessEqual(len(line), limit, f"{verb} {columns}: {line}")
        self.assertEqual(self.run_ok("help", "search", env={"COLUMNS": "80"}).stdout,
                         self.run_ok("help", "search").stdout)
        example = self.run_ok("config", "reco-shard", env={"COLUMNS": "40"}).stdout
        self.assertEqual(example, self.run_ok("config", "reco-shard").stdout)

    def on_terminal(self, columns, *arguments):
        """The lines that a terminal of that width is shown."""
        parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {**os.environ, "NO_COLOR": "1"}
        environment.pop("COLUMNS", None)
        done = subprocess.run([str(cli.PROGRAMS / "reco"), *map(str, arguments)], stdout=child, stderr=subprocess.PIPE, env=environment,
                              timeout=60, check=False)
        os.close(child)
        told = b""
        try:
            while data := os.read(parent, 65536):
                told += data
        except OSError:  # the other end is closed, and all is read
            pass
        os.close(parent)
        self.assertEqual(done.returncode, 0, done.stderr)
        return told.decode().replace("\r\n", "\n").rstrip("\n").split("\n")

    def test_tables_fit_a_narrow_terminal(self):
        caption = "a picture of something with a caption that is far too long for a line, " * 2 + "ever"
        self.run_ok("memory", "build", "m", make_folder(self.top / "photos", IMAGES[:2]), "--data", self.data)
        self.run_ok("memory", "add", "m", "--key", "long", "--image", IMAGES[2], "--caption", caption, "--data", self.data)
        ask = ("search", "--image", IMAGES[2], "-m", "m", "--data", self.data)
        wide = self.run_ok(*ask).stdout
        self.assertIn(caption, wide)
        for told in wide, self.run_ok("memory", "list", "--data", self.data).stdout:
            self.assertNotRegex(told, re.compile(" $", re.M))
        cut = self.on_terminal(60, *ask)
        self.assertTrue(any(line.endswith("...") and "a picture of" in line for line in cut), cut)
        self.assertLessEqual(max(len(line) for line in cut[1:]), 60, cut)
        upright = self.on_terminal(20, *ask)
        self.assertTrue(any(re.fullmatch(r" *key +long", line) for line in upright), upright)
        self.assertEqual("\n".join(self.on_terminal(300, *ask)), wide.rstrip("\n"))

    def test_an_unknown_verb_names_the_nearest(self):
        self.refused(2, "did you mean search?", "serch")
        self.refused(2, "did you mean memory build?", "memori", "build")
        self.refused(2, "reco memory has build, add, delete, ", "memory", "explode")
        self.refused(2, "reco memory needs one of: build", "memory")
        self.refused(2, "unknown verb 'fly'", "fly")

    def test_wrong_flags_are_wrong_usage(self):
        self.refused(2, "did you mean --min-coverage?", "search", "--min-covrage", "1")
        self.refused(2, "-k: '0' is not allowed: a whole number from 1 to 256 is", "search", "-k", "0")
        self.refused(2, "-k: needs a value", "search", "-k")
        self.refused(1, "--labels: 'cat,dog': no such file", "classify", "x.png", "--labels", "cat,dog")
        self.refused(2, "--nprobe: '0' is not allowed: a whole number from 1 to 4096 is", "search", "--nprobe", "0")
        self.refused(2, "--target-recall: '1' is not allowed: a number from 0.5 to 0.999 is", "search",
                     "--target-recall", "1")
        self.refused(2, "--approx: 'best' is not allowed: fast|normal|accurate is", "search", "--approx", "best")
        self.refused(2, "--approx: is not allowed together with another of --approx, --target-recall and --nprobe",
                     "refine", "--text", "x", "--approx", "fast", "--nprobe", "3")
        self.refused(2, "--nprobe: is not allowed with --index exact", "classify", "x.png", "--labels", "x",
                     "--index", "exact", "--nprobe", "3")
        self.refused(2, "nothing to ask: one of --image, --text, --embedding and --part", "search")
        self.refused(2, "more than one kind of input", "search", "--text", "x", "--image", "y")
        self.refused(2, "--labels: is needed", "classify", "x.png")
        self.refused(2, "--out: is needed", "preprocess", "x.png")
        self.refused(2, "excludes --server", "search", "--text", "x", "--server", "h:1", "--data", "d")
        self.refused(2, "excludes --server", "embed", "text", "x", "--server", "h:1", "--model", "d")
        for flag in ("--tls-ca", "--tls-cert", "--tls-key", "--tls-name"):
            self.refused(2, f"{flag}: needs --server", "search", "--text", "x", flag, "f")
        self.refused(2, "--dedup: 0.3 is not allowed: 0 or 0.5 to 1 is", "search", "--text", "x", "--dedup", "0.3")
        self.refused(2, "--server: ", "embed", "text", "x", "--server", "nonsense")
        self.refused(2, "RECO_LOG", "version", env={"RECO_LOG": "loud"})
        self.refused(2, "'-k' is no verb; the verb comes first", "-k", "3", "search")
        self.refused(2, "'extra' is one too many: only flags are allowed, as --image extra or", "search", "extra",
                     "--text", "x")
        self.refused(2, "only flags are allowed; see `reco help status`", "status", "extra")
        self.refused(2, "image=none.png@x: no such file; a weight is a number, 'x' is none", "search", "--part",
                     "image=none.png@x", "--data", self.data)

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
                ("--only", "", "the key of a record, 1 to 512 bytes, is", ask),
                ("--key", "", "the key of a record, 1 to 512 bytes, is", ["memory", "get", "m"]),
                ("--template", "no hole", "exactly one {}", name),
                ("--template", "{} and {}", "exactly one {}", name),
                ("--template", "", "exactly one {}", name),
                ("--space", "foo", "NAME:DIMENSION", ["memory", "build", "m", "x.npy"]),
                ("--space", "foo:0", "NAME:DIMENSION", ["memory", "build", "m", "x.npy"]),
                ("--space", ":4", "NAME:DIMENSION", ["memory", "build", "m", "x.npy"])):
            done = self.refused(2, f"{flag}: '{value}' is n", *verb, flag, value)
            self.assertIn(allowed, done.stderr)
        weigh = ["search", "--data", self.data, "--part"]
        for weight in ("nan", "inf", "-inf", "0", "-0", "1e-50", "101", "-200", "1e9"):
            done = self.refused(2, f"--part: 'text=x@{weight}': '{weight}' is no weight; allowed: -100 to 100, but not 0",
                                *weigh, f"text=x@{weight}")
        for part in ("x", "x@1", "text=", "text=@1", "picture=x", "=x", ""):
            self.refused(2, f"--part: '{part}'; allowed: image=FILE@WEIGHT, text=TEXT@WEIGHT", *weigh, part)
        self.refused(2, "--exclude: 257 times; at most 256", *ask, *["--exclude", "k"] * 257)
        self.refused(2, "NAME: 'a b' is no name of a memory", "memory", "build", "a b", self.top)
        self.refused(2, "NAME: '' is no name of a memory", "memory", "build", "", self.top)
        self.refused(2, "ALIAS: 'a b' is no name of a memory", "memory", "alias", "a b", "m")
        self.refused(2, "ALIAS: 'a@1': a name is allowed, without a generation", "memory", "alias", "a@1", "m")
        self.refused(2, "TARGET: 'm@0'", "memory", "alias", "a", "m@0")
        picture = ["memory", "add", "m", "--image", IMAGES[0]]
        self.refused(2, "--key: is needed", *picture, "--caption", "c")
        self.refused(2, "--caption: this, not empty", *picture, "--key", "k", "--caption", "")
        self.refused(2, "--tag: '' is not allowed: 1 to 128 bytes are", *picture, "--key", "k", "--tag", "")
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
        self.run_ok("memory", "build", "m", photos, "--data", self.data)
        self.refused(1, f"--out: '{file}' is a file; a folder is allowed", "memory", "export", "m", "--out", file,
                     "--data", self.data)
        self.refused(1, "Not a directory", "keys", "make", file)
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
        cluster = self.start("--shards", "1", "--http", "127.0.0.1:0")
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
        self.refused(2, "reco.ini:2: [client] server: ", "embed", "text", "x", "--config", file)
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
        self.refused(2, '[server] listen: "x" is not HOST:PORT', "up", "--config", file)
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
            done = subprocess.run([str(cli.PROGRAMS / "reco"), "help"], stdout=full, text=True,
                                  stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("stdout", done.stderr)

    def test_a_reader_that_has_enough_is_no_error(self):
        for arguments in (["help"], ["tokenize", "--json", *["word"] * 2000]):
            ends = os.pipe()
            os.close(ends[0])
            done = subprocess.run([str(cli.PROGRAMS / "reco"), *arguments], stdout=ends[1], text=True,
                                  stderr=subprocess.PIPE, check=False)
            os.close(ends[1])
            self.assertEqual((done.returncode, done.stderr), (-signal.SIGPIPE, ""))

    def test_version_and_doctor_speak(self):
        self.assertRegex(self.run_ok("version").stdout, r"^reco \d+\.\d+\.\d+\n$")
        self.assertEqual(self.run_ok("--version").stdout, self.run_ok("version").stdout)
        checks = {line["check"]: line for line in self.lines("doctor", "--data", self.data)}
        self.assertEqual(checks["model"]["state"], "ok")
        # A device with its UUID, or why there is none.
        self.assertRegex(checks["vulkan"]["detail"], "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} |^no device: ")
        self.assertIn(str(self.data), checks["data"]["detail"])
        if os.geteuid():  # root may write everywhere
            closed = self.top / "closed"
            closed.mkdir(mode=0o500)
            self.assertIn("this user may not make it", reco("doctor", "--data", closed / "data").stdout)
        broken = reco("doctor", "--data", self.data, "--model", self.top / "no-model")
        self.assertEqual(broken.returncode, 1)
        self.assertIn("problem", broken.stdout)


if __name__ == "__main__":
    cli.main()
