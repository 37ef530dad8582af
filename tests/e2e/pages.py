#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a person reads and types before anything runs: help, manual pages, completion.

usage: pages.py PROGRAM_DIR PAGES_DIR [CLASS[.test] ...]

Goal: the program, its manual and the completion of three shells know the same verbs and flags, and
each is right by the judgement of the program that reads it.

Method: the help of every verb is the list to compare with. Pages are read by mandoc and man,
completion is asked of bash, zsh and fish; what is not installed is skipped, one by one.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from functools import lru_cache
from pathlib import Path

PROGRAMS = PAGES = None  # set by main()
WIDTH = 80
FLAG = re.compile(r"^  (?:(-\w), )?(--?[a-z][\w-]*)(?: (\S+))?", re.M)


def run(*command, **named):
    return subprocess.run([str(word) for word in command], text=True, capture_output=True, timeout=60,
                          check=False, **named)


@lru_cache(maxsize=None)
def helped(*words):
    done = run(PROGRAMS / "reco", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@lru_cache(maxsize=None)
def verbs():
    found = re.findall(r"^  (\w+(?: [\w-]+)?)  +\w", helped("help"), re.M)
    assert len(found) >= 20
    return found


def flags_of(verb):
    """(flag, alias or "", name of the value or "") of each, without --help."""
    _, _, listed = helped("help", *verb.split()).partition("\nflags:\n")
    return [(name, alias, value) for alias, name, value in FLAG.findall(listed)]


def spellings(verb):
    return sorted({word for name, alias, _ in flags_of(verb) for word in (name, alias) if word} | {"--help"})


def families():
    """First words of two-word verbs with what may follow."""
    found = {}
    for verb in verbs():
        first, _, second = verb.partition(" ")
        if second:
            found.setdefault(first, set()).add(second)
    return found


SERVERS = ("reco-coordinator", "reco-shard")


@lru_cache(maxsize=None)
def flags_of_server(program):
    """Its flags as its own help has them."""
    done = run(PROGRAMS / program, "--help")
    assert done.returncode == 0, done.stderr
    return sorted(name for _, name, _ in FLAG.findall(done.stdout))


def need(program):
    if not shutil.which(program):
        raise unittest.SkipTest(f"{program} is not installed")


class Help(unittest.TestCase):
    def test_both_ways_to_ask_give_the_same_text_in_80_columns(self):
        self.assertEqual(helped("help"), helped("--help"))
        texts = [helped("help"), helped("help", "memory")]
        texts += [run(PROGRAMS / program, "--help").stdout for program in SERVERS]
        for verb in verbs():
            texts.append(helped("help", *verb.split()))
            self.assertEqual(texts[-1], helped(*verb.split(), "--help"))
            self.assertTrue(texts[-1].startswith(f"usage: reco {verb}"), verb)
            self.assertTrue(verb == "help" or flags_of(verb), verb)
        for text in texts:
            for line in text.splitlines():
                self.assertLessEqual(len(line), WIDTH, line)


class Manual(unittest.TestCase):
    def pages(self):
        return sorted((PAGES / "man").glob("man*/*"))

    def read(self, page):
        """Its words as a person reads them."""
        text = page.read_text().replace("\\-", "-").replace("\\&", "").replace("\\:", "")
        for escape, sign in ("aq", "'"), ("ga", "`"), ("ha", "^"), ("ti", "~"):
            text = text.replace(f"\\({escape}", sign)
        return text

    def test_every_verb_has_a_page_with_every_flag(self):
        listed = self.read(PAGES / "man/man1/reco.1")
        for verb in verbs():
            name = "reco-" + verb.replace(" ", "-")
            self.assertIn(f".BR {name} (1)\n", listed)
            page = self.read(PAGES / f"man/man1/{name}.1")
            self.assertIn(f".SH \"NAME\"\n{name} - ", page)
            for flag, alias, value in flags_of(verb):
                tag = ".BR " + (f'"{alias}" ", " ' if alias else "") + f'"{flag}"' + (f' " {value}"' if value else "")
                self.assertIn(f".TP\n{tag}\n", page, verb)
        names = {"reco", *("reco-" + verb.replace(" ", "-") for verb in verbs())}
        self.assertEqual({page.stem for page in self.pages() if page.suffix == ".1"}, names)

    def test_the_servers_have_a_page_with_every_flag_and_one_with_every_key(self):
        for program in SERVERS:
            page = self.read(PAGES / f"man/man8/{program}.8")
            for flag in flags_of_server(program):
                self.assertRegex(page, rf'\.TP\n\.BR "{flag}"')
            self.assertGreater(len(flags_of_server(program)), 8)
        for program in ("reco", *SERVERS):
            page = self.read(PAGES / f"man/man5/{program}.ini.5")
            example = helped("config", program)
            keys = re.findall(r"^#(\w+) =", example, re.M)
            self.assertGreater(len(keys), 4)
            for key in keys:
                self.assertIn(f'.TP\n.B "{key}"\n', page)
            for section in re.findall(r"^\[\w+\]$", example, re.M):
                self.assertIn(f'.SH "{section}"\n', page)
            for variable in re.findall(r"RECO_[A-Z]+_[A-Z_]+", example):
                self.assertIn(variable, page)

    def test_pages_name_no_day_and_no_place_of_the_build(self):
        for page in self.pages():
            text = page.read_text()
            self.assertIsNone(re.search(r"\b20\d\d-\d\d|/build/", text), page)
            self.assertNotIn(str(PROGRAMS.parent), text)
            self.assertTrue(text.isascii(), page)

    def test_see_also_leads_to_pages_that_are_there(self):
        there = {(page.stem, page.suffix[1:]) for page in self.pages()}
        for page in self.pages():
            for name, section in re.findall(r"^\.BR (reco[\w.-]*) \((\d)\)", self.read(page), re.M):
                self.assertIn((name, section), there, page)

    def test_mandoc_finds_nothing(self):
        need("mandoc")
        done = run("mandoc", "-Tlint", "-Wwarning", *self.pages())
        # A page has no date, so that a build can be repeated.
        found = [line for line in done.stdout.splitlines() if "missing date" not in line]
        self.assertEqual(found, [])

    def test_man_finds_nothing(self):
        need("man")
        env = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": str(WIDTH), "MANROFFSEQ": ""}
        for page in self.pages():
            done = run("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page, env=env)
            self.assertEqual((done.returncode, done.stderr), (0, ""), page)


class Bash(unittest.TestCase):
    def complete(self, *words, folder=None, program="reco"):
        """What is offered for the last of the words."""
        need("bash")
        function = "_reco" if program == "reco" else "_reco_program"
        script = f'. "{PAGES}/bash-completion/completions/{program}"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));' \
                 f' {function}; printf "%s\\n" "${{COMPREPLY[@]}}"'
        done = run("bash", "-c", script, "bash", program, *words, cwd=folder)
        self.assertEqual((done.returncode, done.stderr), (0, ""), words)
        return sorted(done.stdout.split())

    def test_verbs_and_their_second_words(self):
        self.assertEqual(set(self.complete("")), {verb.split()[0] for verb in verbs()} | {"--help", "--version"})
        self.assertEqual(self.complete("cla"), ["classify"])
        for first, seconds in families().items():
            self.assertEqual(set(self.complete(first, "")), seconds)

    def test_every_flag_of_every_verb(self):
        for verb in verbs():
            self.assertEqual(self.complete(*verb.split(), "-"), spellings(verb), verb)
        for program in SERVERS:
            self.assertEqual(self.complete("-", program=program), flags_of_server(program))

    def test_values(self):
        self.assertEqual(self.complete("--log-level", "w", program="reco-shard"), ["warn"])
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "a-folder").mkdir()
            (Path(folder) / "a-file").touch()
            both = ["a-file", "a-folder"]
            self.assertEqual(self.complete("search", "--image", "a", folder=folder), both)
            self.assertEqual(self.complete("search", "--data", "a", folder=folder), ["a-folder"])
            self.assertEqual(self.complete("classify", "a", folder=folder), both)
            self.assertEqual(self.complete("memory", "build", "n", "a", folder=folder), both)
            self.assertEqual(self.complete("search", "--text", "a", folder=folder), [])
            self.assertEqual(self.complete("memory", "list", "a", folder=folder), [])
        self.assertEqual(self.complete("search", "--over", ""), ["image", "same", "text"])
        self.assertEqual(self.complete("search", "--over", "=", "i"), ["image"])
        self.assertEqual(self.complete("search", "--over", "="), ["image", "same", "text"])


class Zsh(unittest.TestCase):
    def complete(self, *words, program="reco"):
        """What the functions that zsh brings are asked to offer."""
        need("zsh")
        script = '''_arguments() { print -rl -- "$@"; }
            _describe() { print -rl -- "${(@P)2}"; }
            words=("$@"); CURRENT=$#; . "$PAGE"'''
        done = run("zsh", "-f", "-c", script, "zsh", program, *words,
                   env={**os.environ, "PAGE": str(PAGES / f"zsh/site-functions/_{program}")})
        self.assertEqual((done.returncode, done.stderr), (0, ""), words)
        return done.stdout.splitlines()

    def test_verbs_and_their_second_words(self):
        offered = {line.split(":")[0] for line in self.complete("")}
        self.assertEqual(offered, {verb.split()[0] for verb in verbs()})
        for first, seconds in families().items():
            self.assertEqual({line.split(":")[0] for line in self.complete(first, "")}, seconds)

    def flags(self, specs):
        return sorted({re.sub(r"^(\*|\([^)]*\))?(--?[\w-]+).*", r"\2", spec) for spec in specs if "[" in spec})

    def test_every_flag_of_every_verb(self):
        for verb in verbs():
            self.assertEqual(self.flags(self.complete(*verb.split(), "")), spellings(verb))
        for program in SERVERS:
            self.assertEqual(self.flags(self.complete("", program=program)), flags_of_server(program))

    def test_values(self):
        specs = "\n".join(self.complete("search", ""))
        self.assertIn(":SIDE:(same image text)", specs)
        self.assertRegex(specs, r"\*--image=\[.*\]:FILE:_files")
        self.assertRegex(specs, r"--data=\[.*\]:DIR:_files -/")


class Fish(unittest.TestCase):
    def complete(self, *words, folder=None, program="reco"):
        need("fish")
        with tempfile.TemporaryDirectory() as home:
            done = run("fish", "--no-config", "-c", f"source {PAGES}/fish/vendor_completions.d/{program}.fish; "
                       f"complete -C '{' '.join((program, *words))}'", cwd=folder,
                       env={**os.environ, "HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home,
                            "PATH": f"{PROGRAMS}:{os.environ['PATH']}"})
        self.assertEqual((done.returncode, done.stderr), (0, ""), words)
        return {line.split("\t")[0].rstrip("/") for line in done.stdout.splitlines()}

    def test_verbs_and_their_second_words(self):
        self.assertEqual(self.complete(""), {verb.split()[0] for verb in verbs()})
        for first, seconds in families().items():
            self.assertEqual(self.complete(first, ""), seconds)

    def test_every_flag_of_every_verb(self):
        for verb in verbs():
            words = [word for word in spellings(verb) if word.startswith("--")]
            self.assertEqual(sorted(self.complete(*verb.split(), "--")), words, verb)
        for program in SERVERS:
            self.assertEqual(sorted(self.complete("--", program=program)), flags_of_server(program))

    def test_values(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "a-folder").mkdir()
            (Path(folder) / "a-file").touch()
            both = {"a-file", "a-folder"}
            self.assertEqual(self.complete("search", "--image", "a-", folder=folder), both)
            self.assertEqual(self.complete("search", "--data", "a-", folder=folder), {"a-folder"})
            self.assertEqual(self.complete("classify", "a-", folder=folder), both)
            self.assertEqual(self.complete("memory", "list", "a-", folder=folder), set())
        self.assertEqual(self.complete("search", "--over", ""), {"image", "same", "text"})


def main():
    global PROGRAMS, PAGES
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    PROGRAMS, PAGES = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)


if __name__ == "__main__":
    main()
