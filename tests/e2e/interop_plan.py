# SPDX-License-Identifier: Apache-2.0
"""The calls that every client of interop.py makes, and what is right in their answers.

At least one call of each RPC of proto/reco.proto. Requests and answers are JSON as protobuf maps
it; the clients differ in what they do with defaults, so a check takes a missing member as its
default and a 64-bit number as text.
"""
import base64
import re
from dataclasses import dataclass
from typing import Callable

LABELS = ["lemon", "crab", "umbrella"]
DIMENSION = 4
ROWS = ([1, 0, 0, 0], [0, 1, 0, 0], [0.6, 0.8, 0, 0])


@dataclass
class Step:
    path: str
    requests: list
    check: Callable


def snake(value):
    """camelCase members as the proto spells them."""
    if isinstance(value, dict):
        return {re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "_" + found[1].lower(), key): snake(one)
                for key, one in value.items()}
    return [snake(one) for one in value] if isinstance(value, list) else value


def count(reply, *path):
    """The length of the list at the path."""
    for name in path:
        reply = reply.get(name) or {}
    return len(reply)


def must(good):
    assert good


def plan_of(client, samples, rpcs):
    """The steps for those RPCs that there are."""
    image = base64.b64encode(samples[0][1]).decode()
    other = base64.b64encode(samples[1][1]).decode()
    memory = f"of-{client}"
    options = {"k": 3}
    own = {"memory": memory, "k": 2}
    row = {"values": list(ROWS[0])}
    records = [{"key": f"row/{i}", "image_embedding": values, "text_embedding": values, "caption": f"row {i}",
                "tags": ["even" if i % 2 == 0 else "odd"], "source": "here"} for i, values in enumerate(ROWS)]

    def embeddings(expected):
        return lambda replies: must(count(replies[0], "embeddings") == expected * replies[0]["dimension"])

    def neighbours(expected):
        return lambda replies: must(count(replies[0], "neighbours", "ids") == expected
                                    and replies[0]["answer"]["coverage"] == 1)

    def refined(replies):
        neighbours(3)(replies)
        must(count(replies[0], "embedding") == 128 and 0 <= replies[0].get("gate", 0) <= 1)

    def labelled(replies):
        must(replies[0]["plain"]["labels"] and replies[0]["refined"]["labels"])

    def streamed(inner):
        """Two items are answered in order and by tag, and the bad one between them alone fails."""
        def check(replies):
            must([int(reply.get("tag", 0)) for reply in replies] == [1, 2, 3])
            must([bool(reply.get("error")) for reply in replies] == [False, True, False])
            must(replies[1]["error"]["code"] == 3 and replies[1]["error"]["field"])
            inner([replies[0]["reply"]])
            inner([replies[2]["reply"]])
        return check

    def three(good, bad):
        return [{"tag": 1, **good}, {"tag": 2, **bad}, {"tag": 3, **good}]

    def search(k):
        return {"query": {"image": image, "options": {"k": k}}}

    def named(k):
        return {"query": {"image": image, "labels": LABELS, "options": {"k": k}}}

    steps = [
        ("Encoder/EncodeImage", [{"images": [image, other]}], embeddings(2)),
        ("Encoder/EncodeText", [{"texts": ["an owl", "a crab"]}], embeddings(2)),
        ("Encoder/Tokenize", [{"texts": ["an owl"]}],
         lambda replies: must(replies[0]["counts"][0] == count(replies[0], "ids") > 2)),
        ("Encoder/EncodeStream", three({"text": "an owl"}, {"image": base64.b64encode(b"no picture").decode()}),
         streamed(embeddings(1))),
        ("Encoder/ListModels", [{}], lambda replies: must(replies[0]["models"][0]["dimension"] == 128
                                                          and replies[0]["models"][0]["head"] == "embedded")),
        ("Search/Search", [{"image": image, "options": options}], lambda replies: must(
            count(replies[0], "neighbours", "ids") == 3 and replies[0]["neighbours"]["scores"][0] > 0.999)),
        ("Search/SearchStream", three(search(3), search(0)), streamed(neighbours(3))),
        ("Refiner/RefineImage", [{"image": image, "options": options}], refined),
        ("Refiner/RefineText", [{"text": "an owl", "options": options}], refined),
        ("Refiner/RefineEmbedding", [{"embedding": {"values": [1] + [0] * 127}, "options": options}], refined),
        ("Refiner/RefineStream", three(search(3), search(0)), streamed(refined)),
        ("Classifier/CompileLabels", [{"labels": LABELS, "options": options}], lambda replies: must(
            replies[0]["count"] == 3 and len(replies[0]["label_set_id"]) == 32)),
        ("Classifier/Classify", [{"image": image, "labels": LABELS, "options": options, "top": 2}],
         lambda replies: must(count(replies[0], "plain", "labels") == count(replies[0], "refined", "labels") == 2)),
        ("Classifier/Explain", [{"image": image, "labels": LABELS, "options": options}],
         lambda replies: must(count(replies[0], "neighbours", "effects") == 3)),
        ("Classifier/ClassifyStream", three(named(3), named(0)), streamed(labelled)),
        ("Classifier/DiscoverLabels", [{"image": image, "options": options, "top": 2}], labelled),
        ("Memory/Create", [{"name": memory, "space": f"made-up:{DIMENSION}"}],
         lambda replies: must(replies[0]["dimension"] == DIMENSION)),
        ("Memory/Ingest", [{"memory": memory, "records": records[:1]}, {"records": records[1:]}],
         lambda replies: must(int(replies[0]["stored"]) == 3 and int(replies[0].get("failed", 0)) == 0)),
        ("Memory/Describe", [{"name": memory}],
         lambda replies: must(int(replies[0]["records"]) == 3 and replies[0]["state"] == "serving")),
        ("Memory/List", [{}], lambda replies: must(memory in [one["name"] for one in replies[0]["memories"]])),
        ("Search/Search", [{"embedding": row, "options": own}], neighbours(2)),
        ("Search/GetRecords", [{"memory": memory, "keys": ["row/0", "gone"]}], lambda replies: must(
            [one["caption"] for one in replies[0]["records"]] == ["row 0"]
            and replies[0]["missing_keys"] == ["gone"])),
        ("Search/GetVectors", [{"memory": memory, "keys": ["row/0"]}],
         lambda replies: must(list(replies[0]["image_embeddings"]) == ROWS[0])),
        ("Memory/Hide", [{"memory": memory, "keys": ["row/0"]}], lambda replies: must(int(replies[0]["changed"]) == 1)),
        *([("Search/Search", [{"embedding": row, "options": {"memory": memory, "k": 3}}], neighbours(2))]
          if "reco.v1.Memory/Hide" in rpcs else []),
        ("Memory/Unhide", [{"memory": memory, "keys": ["row/0"]}],
         lambda replies: must(int(replies[0]["changed"]) == 1)),
        ("Memory/Alias", [{"alias": f"also-{memory}", "target": memory}],
         lambda replies: must(f"also-{memory}" in replies[0]["aliases"])),
        ("Memory/Export", [{"memory": memory}], lambda replies: must(
            sorted(one["key"] for reply in replies for one in reply.get("records", [])) == ["row/0", "row/1", "row/2"])),
        ("Memory/Snapshot", [{"memory": memory, "directory": f"saved-{client}"}],
         lambda replies: must(int(replies[0]["records"]) == 3)),
        ("Memory/Restore", [{"directory": f"saved-{client}", "memory": f"back-{client}"}],
         lambda replies: must(int(replies[0]["records"]) == 3)),
        ("Memory/Delete", [{"memory": memory, "keys": ["row/1", "gone"]}], lambda replies: must(
            int(replies[0]["deleted"]) == 1 and replies[0]["missing_keys"] == ["gone"])),
        ("Memory/Alias", [{"alias": f"also-{memory}", "remove": True}], lambda replies: None),
        ("Memory/Drop", [{"name": memory}], lambda replies: must(int(replies[0]["records"]) == 2)),
        ("Cluster/ListNodes", [{}], lambda replies: must([one["state"] for one in replies[0]["nodes"]] == ["up"] * 2)),
    ]
    steps = [Step(f"reco.v1.{path}", requests, check) for path, requests, check in steps]
    return [step for step in steps if step.path in rpcs]
