"""Documents of an S3 prefix with 200,000 keys: our source, against the paginator of boto3.

The server is a real one, SeaweedFS. It takes some 200 PUTs a second, so one object is put and the others are
made of it by the server's own backup of metadata: what it says of the one is saved, written 200,000 times
under other names, and loaded, 5,500 a second. They share one content, and are listed like any other.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.pair import Pair, Result, measure, timed

if TYPE_CHECKING:
    from deploy.demo.objectstore import ObjectStore

KEYS = 200_000
A_FOLDER = 1_000
TURNS = 2
"""Of each side, at most; to fill the server takes longer than both."""
AT_ONCE = 8
"""Entries that are loaded at a time: 40,000 took 7 s, and 21 one by one."""
STRAGGLERS = 100
"""The shell leaves before the last of a load are in: so many are loaded once more behind all of them."""

SERVED = "served.json"


@dataclass(frozen=True)
class Listing(Pair):
    """A pair whose inputs lie in a server that runs while it is measured."""

    def results(self, module: str, folder: Path, repetitions: int, scale: float) -> Iterator[Result]:
        """Start the server, fill it, and measure both sides.

        Raises:
            RuntimeError: other keys are listed than were made.
        """
        from deploy.demo.objectstore import object_store

        count = round(KEYS * scale)
        with object_store() as store:
            fill(store, count, folder)
            (folder / SERVED).write_text(json.dumps({"url": store.url("inbox"), **store.environment()}))
            result = measure(self, module, folder, min(repetitions, TURNS))
        if result.ours[0].units != count:
            raise RuntimeError(f"{count} keys were made and {result.ours[0].units} listed")
        yield result


def fill(store: ObjectStore, count: int, folder: Path) -> None:
    """Have so many objects under `inbox/`, 1,000 a folder."""
    store.client().put_object(Bucket=store.bucket, Key=b"/".join(_names(0)).decode(), Body=b"%PDF-1.4")
    saved, many = folder / "saved.meta", folder / "many.meta"
    _shell(store, f"fs.meta.save -o {saved} /buckets/{store.bucket}/inbox")
    one = _last_entry(saved.read_bytes())
    entries = [_renamed(one, number) for number in range(count)]
    many.write_bytes(b"".join([*entries, *entries[-STRAGGLERS:]]))
    _shell(store, f"fs.meta.load -v=false -concurrency={AT_ONCE} {many}")


def _names(number: int) -> tuple[bytes, bytes]:
    """The folder and the own name of the n-th object, as long as those of any other."""
    return b"inbox/%06d" % (number // A_FOLDER), b"%09d.pdf" % number


def _last_entry(saved: bytes) -> bytes:
    """Of a saved file, in which each entry has its length before it, in 4 bytes; the last is our object."""
    at = end = 0
    while end < len(saved):
        at, end = end, end + 4 + int.from_bytes(saved[end : end + 4], "big")
    return saved[at:end]


def _renamed(one: bytes, number: int) -> bytes:
    """The entry of the first object as that of another; since names are of one length, so is all else."""
    for before, now in zip(_names(0), _names(number), strict=True):
        one = one.replace(before, now)
    return one


def _shell(store: ObjectStore, command: str) -> None:
    """Have SeaweedFS' own shell do something."""
    from deploy.demo.objectstore import weed_binary
    from deploy.demo.ports import LOOPBACK

    options = (store.data_dir / "mini.options").read_text().splitlines()
    ports = dict(line.split("=", 1) for line in options if "=" in line)
    addresses = [
        f"-{name}={LOOPBACK}:{ports[f'{name}.port']}.{ports[f'{name}.port.grpc']}"
        for name in ("master", "filer")
    ]
    subprocess.run(
        [weed_binary(), "shell", *addresses], input=f"{command}\n", text=True, check=True, capture_output=True
    )


def _served(folder: Path) -> str:
    """The prefix to list; the way there is in the environment afterwards, as for any AWS program."""
    told: dict[str, str] = json.loads((folder / SERVED).read_text())
    os.environ |= {key: value for key, value in told.items() if key != "url"}
    return told["url"]


def _ours(folder: Path) -> None:
    from pipelines.sources.prefix import PrefixSource
    from schemas.storage import StorageOptions

    source = PrefixSource([_served(folder)], StorageOptions())
    source.check()  # which makes the client
    timed(lambda: sum(len(table) for table in source.documents()))


def _paginator(folder: Path) -> None:
    import boto3

    bucket, _, prefix = _served(folder).removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/", MaxKeys=1)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    timed(lambda: sum(len(page.get("Contents", ())) for page in pages))


PAIRS = {
    "listing": Listing(
        "listing",
        "an S3 prefix of 200,000 keys as tables of documents with their ids, against boto3's paginator, of "
        "whose pages the keys are counted; the server is SeaweedFS on the same cores",
        "key",
        0.9,
        lambda folder, scale: None,
        _ours,
        _paginator,
    )
}
