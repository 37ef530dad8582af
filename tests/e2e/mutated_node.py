#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: no bytes that reach a node's ports stop it, make it grow, or cost it files.

Method: reco-shard as a process. Plain connections send damaged ZMTP greetings; mutate_node, which has the
cluster's keys, sends damaged messages of every type and asks properly at the end. Memory is
compared after a first part, when caches are full, and at the end; files must be closed.

usage: mutated_node.py PROGRAM_DIR MESSAGES [SEED]
"""
import random
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from procs import open_files, rss_bytes, wait_for

GROWTH_BYTES_MAX = 64 << 20
WARM_MESSAGES = 2000
GREETING = (b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + b"\0" + bytes(31))
HELLO = b"\x04\xc8\x05HELLO\x01\x00" + bytes(72 + 32 + 8 + 80)


def mutate(chance, data):
    data = bytearray(data)
    for _ in range(chance.randrange(1, 8)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    if chance.random() < 0.3:
        del data[chance.randrange(len(data)):]
    if chance.random() < 0.3:
        data += chance.randbytes(chance.randrange(300))
    return bytes(data)


def send_raw(endpoint, chance, count):
    """Each connection sends one damaged beginning, some of them leave at once."""
    host, port = endpoint.removeprefix("tcp://").split(":")
    for _ in range(count):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            try:
                connection.sendall(mutate(chance, GREETING) if chance.random() < 0.5
                                   else GREETING + mutate(chance, HELLO))
                if chance.random() < 0.1:
                    connection.settimeout(0.05)
                    connection.recv(100)
            except OSError:
                pass  # closed by the other side, or nothing to read


def main():
    programs = Path(sys.argv[1]).resolve()
    messages = int(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="reco-mutated-") as folder:
        folder = Path(folder)
        subprocess.run([programs / "mutate_node", folder / "keys"], check=True)
        shard = subprocess.Popen([programs / "reco-shard", "--data", folder / "data", "--keys", folder / "keys",
                                  "--query", "tcp://127.0.0.1:0", "--bulk", "tcp://127.0.0.1:0",
                                  "--log-level", "error"], stdout=subprocess.PIPE, text=True)
        try:
            _, query, bulk = shard.stdout.readline().split()

            def attack(count, with_seed):
                subprocess.run([programs / "mutate_node", folder / "keys", query, bulk, str(count), str(with_seed)],
                               check=True, timeout=3600)
                for endpoint in (query, bulk):
                    send_raw(endpoint, chance, max(10, count // 100))

            files = open_files(shard.pid)
            attack(WARM_MESSAGES, seed)
            rss = rss_bytes(shard.pid)
            attack(messages, seed + 1)
            attack(100, seed + 2)
            grown = rss_bytes(shard.pid) - rss
            assert grown < GROWTH_BYTES_MAX, f"{grown >> 20} MiB more than after the first part"
            # Memories that came into being have files of their own.
            wait_for("files are closed", lambda: open_files(shard.pid) < files + 48)
            assert shard.poll() is None, f"the node ended with {shard.returncode}"
            shard.terminate()
            assert shard.wait(60) == 0, f"the node ended with {shard.returncode}"
        finally:
            if shard.poll() is None:
                shard.kill()
                shard.wait()
    print(f"ok   {messages} damaged messages (seed {seed}): {grown >> 20} MiB more")


main()
