#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes of parquet files what `reco memory build` reads.

usage: convert_parquet.py FOLDER_OR_FILE...

A file with pictures in it (img2dataset's output_format parquet: a column jpg, jpeg, png, webp or
gif) becomes a webdataset X.tar; any other (clip-retrieval's metadata, a table of paths) becomes
X.jsonl with one object a row, in the order of the rows. The results lie beside the files; an
existing one is replaced when it is whole. Needs pyarrow: pip install pyarrow
"""
import base64
import datetime
import decimal
import io
import json
import os
import sys
import tarfile
from pathlib import Path

PICTURES = ("jpg", "jpeg", "png", "webp", "gif")
ROWS = 1024  # read at a time


def plain(value):
    """What JSON has no word for."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, (datetime.date, datetime.datetime, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return str(value)


def line_of(row):
    # A NaN is no JSON; pandas means "nothing" by it.
    row = {name: None if isinstance(value, float) and value != value else value
           for name, value in row.items()}
    return json.dumps(row, ensure_ascii=False, default=plain)


def rows_of(file):
    for batch in file.iter_batches(batch_size=ROWS):
        yield from batch.to_pylist()


def write_lines(file, target):
    count = 0
    with open(target, "w", encoding="utf-8", newline="\n") as out:
        for row in rows_of(file):
            out.write(line_of(row) + "\n")
            count += 1
    return count


def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def write_tar(file, target, picture):
    count = 0
    with tarfile.open(target, "w") as tar:
        for number, row in enumerate(rows_of(file)):
            data = row.pop(picture)
            key = str(row.get("key") or f"{number:09d}")
            stem = key.replace("/", "_").replace(".", "_")
            if data:
                add(tar, f"{stem}.{picture}", data)
                count += 1
            # A sample that could not be fetched keeps its .json, whose status says why.
            add(tar, f"{stem}.json", line_of(row).encode())
    return count


def convert(path, parquet):
    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        picture = next((name for name in PICTURES if name in names), None)
        target = path.with_suffix(".tar" if picture else ".jsonl")
        partial = target.with_name(target.name + ".partial")
        try:
            count = write_tar(file, partial, picture) if picture else write_lines(file, partial)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    print(f"{target}: {count} {'pictures' if picture else 'rows'}")


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        from pyarrow import parquet
    except ImportError:
        print("convert_parquet.py: pyarrow is missing; install it with: pip install pyarrow",
              file=sys.stderr)
        return 1
    failed = False
    for source in map(Path, sys.argv[1:]):
        files = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
        if not files:
            print(f"convert_parquet.py: {source}: has no .parquet file", file=sys.stderr)
            failed = True
        for path in files:
            try:
                convert(path, parquet)
            except (OSError, ValueError) as error:
                print(f"convert_parquet.py: {path}: {error}", file=sys.stderr)
                failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
