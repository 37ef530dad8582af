#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""reco-encoder as a process: whoever kills, freezes or orphans it, no query fails.

usage: encoder_process.py PROGRAM_DIR

Goal: under load, with kill -9 and SIGSTOP of the encoder, every question is answered with the bits that it
is answered with anyway; a frozen one is found; a deadline holds meanwhile; nothing is left behind.

Method: a coordinator without nodes, whose refinements are plain embeddings, asked in JSON from
several threads. The CPU computes in both processes.
"""
import concurrent.futures
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

from procs import is_alive, program_of, rss_bytes, wait_for

PROGRAMS = Path(sys.argv.pop(1)) if len(sys.argv) > 1 else None
PATIENCE = 60
ASKERS = 6
WORDS = [f"a drawing of {thing}" for thing in ("an anchor", "a bird", "the sea", "seven boats", "rain", "a letter")]


class Coordinator:
    def __init__(self, *flags):
        self.process = subprocess.Popen(
            [PROGRAMS / "reco-coordinator", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--threads", "1",
             "--log-level", "error", *flags], stdout=subprocess.PIPE, text=True)
        assert re.match("ready ", self.process.stdout.readline())
        self.http = self.process.stdout.readline().split()[1]

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(self.http, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def embed(self, text, **headers):
        """Status, and the embedding."""
        question = json.dumps({"text": text, "options": {"fusion": "none"}})
        status, answer = self.ask("POST", "/v1/refine", question,
                                  {name.replace("_", "-"): value for name, value in headers.items()})
        return status, json.loads(answer).get("embedding", answer)

    def metric(self, line):
        found = re.search(f"^{re.escape(line)} (\\S+)$", self.ask("GET", "/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    def ready(self):
        return self.ask("GET", "/readyz")

    def encoder(self):
        """Its process; None while there is none."""
        for task in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            for pid in task.read_text().split():
                if program_of(int(pid)) == "reco-encoder":
                    return int(pid)
        return None

    def wait_up(self, but=None):
        wait_for("the encoder is up", lambda: self.metric("reco_encoder_up") == 1 and self.encoder() not in (None, but))
        return self.encoder()

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        status = self.process.wait(PATIENCE)
        self.process.stdout.close()
        return status


class EncoderProcess(unittest.TestCase):
    def start(self, *flags):
        coordinator = Coordinator(*flags)
        self.addCleanup(coordinator.end)
        return coordinator

    @classmethod
    def setUpClass(cls):
        alone = Coordinator("--encoder-process", "off")
        cls.expected = {words: alone.embed(words)[1] for words in WORDS}
        assert alone.encoder() is None
        assert alone.end() == 0

    def under_load(self, coordinator, work):
        """Does the work while several threads ask; all must be answered well. How many questions that were."""
        over = threading.Event()

        def ask(seat):
            count = 0
            while not over.is_set():
                words = WORDS[(seat + count) % len(WORDS)]
                self.assertEqual(coordinator.embed(words), (200, self.expected[words]))
                count += 1
            return count

        with concurrent.futures.ThreadPoolExecutor(ASKERS) as pool:
            askers = [pool.submit(ask, seat) for seat in range(ASKERS)]
            try:
                work()
            finally:
                over.set()
            return sum(asker.result() for asker in askers)

    def test_kills_under_load_fail_no_query_and_change_no_bit(self):
        coordinator = self.start("--encoder-process", "on")

        def kill_four():
            victim = None
            for _ in range(4):
                victim = coordinator.wait_up(but=victim)
                before = coordinator.metric('reco_encode_batches_total{by="process"}')
                wait_for("it computes",
                         lambda: coordinator.metric('reco_encode_batches_total{by="process"}') > before)
                os.kill(victim, signal.SIGKILL)
            coordinator.wait_up(but=victim)

        self.assertGreater(self.under_load(coordinator, kill_four), 50)
        self.assertEqual(coordinator.metric('reco_encoder_deaths_total{cause="exit"}'), 4)
        self.assertGreater(coordinator.metric('reco_encode_batches_total{by="cpu"}'), 0)
        self.assertEqual(coordinator.end(), 0)

    def test_its_memory_does_not_grow_with_what_it_is_asked(self):
        coordinator = self.start("--encoder-process", "on")
        pid = coordinator.wait_up()
        sizes = []
        for _ in range(2):
            for i in range(100):
                self.assertEqual(coordinator.embed("an anchor, " * (i * 50 + 1))[0], 200)
            sizes.append(rss_bytes(pid))
        self.assertEqual(coordinator.encoder(), pid)
        self.assertLess(sizes[1] - sizes[0], 4 << 20)
        self.assertLess(sizes[1], 256 << 20)

    def test_one_that_freezes_is_found_and_replaced(self):
        coordinator = self.start("--encoder-process", "on")
        victim = coordinator.wait_up()

        def freeze():
            os.kill(victim, signal.SIGSTOP)
            wait_for("it is given up", lambda: coordinator.metric('reco_encoder_deaths_total{cause="hang"}') == 1)
            wait_for("it is gone", lambda: not is_alive(victim))
            coordinator.wait_up(but=victim)

        self.under_load(coordinator, freeze)

    def test_a_deadline_holds_while_it_is_frozen_and_readyz_says_that_it_is_down(self):
        coordinator = self.start("--encoder-process", "on")
        victim = coordinator.wait_up()
        wait_for("it is ready", lambda: coordinator.ready() == (200, "ready\n"))
        os.kill(victim, signal.SIGSTOP)
        began = time.monotonic()
        status, _ = coordinator.embed(WORDS[0], x_deadline_ms="300")
        self.assertEqual(status, 504)
        self.assertLess(time.monotonic() - began, 1.9)  # the frozen one is given up after 2 s only
        self.assertEqual(coordinator.embed(WORDS[0]), (200, self.expected[WORDS[0]]))
        wait_for("it is back", lambda: coordinator.ready() == (200, "ready\n"))

    def test_sigterm_to_it_alone_is_a_restart_and_to_the_coordinator_the_end_of_both(self):
        coordinator = self.start("--encoder-process", "on")
        first = coordinator.wait_up()
        os.kill(first, signal.SIGTERM)
        second = coordinator.wait_up(but=first)
        self.assertEqual(coordinator.embed(WORDS[1]), (200, self.expected[WORDS[1]]))
        self.assertEqual(coordinator.end(), 0)
        self.assertFalse(is_alive(second))

    def test_it_does_not_outlive_its_coordinator_even_when_it_hangs(self):
        coordinator = self.start("--encoder-process", "on")
        orphan = coordinator.wait_up()
        os.kill(orphan, signal.SIGSTOP)
        coordinator.process.kill()
        wait_for("it is gone", lambda: not is_alive(orphan))

    def test_a_crash_loop_is_told_and_costs_no_answer(self):
        coordinator = self.start("--encoder-process", "on")
        victim = None
        for _ in range(4):
            victim = coordinator.wait_up(but=victim)
            os.kill(victim, signal.SIGKILL)
        wait_for("it says so", lambda: coordinator.ready() ==
                 (200, "ready; reco-encoder is down, the CPU computes\n"))
        self.assertEqual(coordinator.embed(WORDS[2]), (200, self.expected[WORDS[2]]))

    def test_there_is_none_where_the_cpu_computes_anyway_and_by_hand_it_says_what_it_is(self):
        coordinator = self.start("--device", "cpu")
        self.assertEqual(coordinator.embed(WORDS[0]), (200, self.expected[WORDS[0]]))
        self.assertIsNone(coordinator.encoder())
        by_hand = subprocess.run([PROGRAMS / "reco-encoder"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                 close_fds=True, check=False)
        self.assertEqual(by_hand.returncode, 1)
        self.assertIn("is started by reco-coordinator", by_hand.stderr)
        wrong = subprocess.run([PROGRAMS / "reco-encoder", "--threads", "many"], capture_output=True, text=True,
                               check=False)
        self.assertEqual((wrong.returncode, wrong.stderr),
                         (2, "reco-encoder: --threads: 'many'; 0 to 1024 is allowed\n"))


if __name__ == "__main__":
    unittest.main()
