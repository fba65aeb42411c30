"""What an output says, read with none of Gemstream's code, and whether it says what a quiet run says."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from deploy.demo.objectstore import ObjectStore
from tests.chaos.lake import TASKS

RECORD_KEY = ["uri", "version", "part_index", "fingerprint"]
ERROR_KEY = ["uri", "part_index", "task", "category"]
Key = tuple[Any, ...]


class Place(Protocol):
    """Where an output lies."""

    def names(self, folder: str) -> list[str]:
        """Everything below a folder, by its path in the output."""
        ...

    def read(self, name: str) -> bytes:
        """One file."""
        ...


@dataclass(frozen=True)
class Folder:
    """An output on this machine."""

    path: Path

    def names(self, folder: str) -> list[str]:
        found = (self.path / folder).rglob("*")
        return sorted(str(path.relative_to(self.path)) for path in found if path.is_file())

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


@dataclass(frozen=True)
class Bucket:
    """An output in a store, by its prefix."""

    store: ObjectStore
    prefix: str

    @property
    def url(self) -> str:
        return self.store.url(self.prefix)

    def names(self, folder: str) -> list[str]:
        pages = self.store.client().get_paginator("list_objects_v2")
        root = f"{self.prefix}/"
        return [
            entry["Key"].removeprefix(root)
            for page in pages.paginate(Bucket=self.store.bucket, Prefix=f"{root}{folder}/")
            for entry in page.get("Contents", ())
        ]

    def read(self, name: str) -> bytes:
        answer = self.store.client().get_object(Bucket=self.store.bucket, Key=f"{self.prefix}/{name}")
        content: bytes = answer["Body"].read()
        return content


@dataclass(frozen=True)
class Output:
    """All that matters of an output. `questions` are (uri, part, task) with an answer, `parts` how many a
    document has; `documents` what its row in `documents/` says, once for each row."""

    keys: Counter[Key]
    texts: dict[Key, str]
    questions: set[Key]
    parts: dict[str, int]
    answered: dict[Key, datetime]
    errors: set[Key]
    documents: Counter[Key]
    counts: dict[str, int] | None

    @property
    def uris(self) -> set[str]:
        """The documents that have answers."""
        return set(self.parts)

    def among(self, names: Container[str]) -> Output:
        """What it says of some of the documents, by their names."""

        def keep(key: Key) -> bool:
            return key[0].rpartition("/")[2] in names

        return Output(
            Counter({key: times for key, times in self.keys.items() if keep(key)}),
            {key: text for key, text in self.texts.items() if keep(key)},
            {key for key in self.questions if keep(key)},
            {uri: total for uri, total in self.parts.items() if keep((uri,))},
            {key: moment for key, moment in self.answered.items() if keep(key)},
            {key for key in self.errors if keep(key)},
            Counter({key: times for key, times in self.documents.items() if keep(key)}),
            self.counts,
        )

    @property
    def failed(self) -> dict[str, str]:
        """Name -> category of the documents of which no part was ever made, and why."""
        return {uri.rpartition("/")[2]: kind for uri, _, task, kind in self.errors if task is None}


def read_output(place: Place, tasks: tuple[str, ...] = TASKS) -> Output:
    """Everything in it. `counts` is None where the last run did not come to its end."""
    keys: Counter[Key] = Counter()
    texts: dict[Key, str] = {}
    questions: set[Key] = set()
    parts: dict[str, int] = {}
    answered: dict[Key, datetime] = {}
    for task in tasks:
        for row in _rows(place, f"records/task={task}"):
            key = (*(row[name] for name in RECORD_KEY), task)
            keys[key] += 1
            texts[key] = row["text"]
            questions.add((row["uri"], row["part_index"], task))
            parts[row["uri"]] = row["parts_total"]
            answered[key] = row["answered_at"]
    runs = sorted(name.split("/")[1] for name in place.names("_runs") if name.endswith("/job.yaml"))
    ended = runs and f"_runs/{runs[-1]}/counts.json" in place.names(f"_runs/{runs[-1]}")
    return Output(
        keys,
        texts,
        questions,
        parts,
        answered,
        {_error(row) for row in _rows(place, "errors")},
        Counter(_document(row) for row in _rows(place, "documents")),
        json.loads(place.read(f"_runs/{runs[-1]}/counts.json")) if ended else None,
    )


def part_files(place: Place) -> set[str]:
    """What has been published so far."""
    return {name for name in place.names("records") if name.endswith(".parquet")}


def assert_lawful(output: Output) -> None:
    """`listed = ok + partial + failed + filtered + skipped` in the last run, which came to its end."""
    assert output.counts is not None, "the last run wrote no counts.json"
    counts = dict(output.counts)
    assert counts.pop("listed") == sum(counts.values()), output.counts


def assert_begun(output: Output, quiet: Output, said: str = "") -> None:
    """What a run that was ended before its end has written is a part of what a quiet run writes."""
    assert output.counts is None, f"a run that did not end says that it did ({said})"
    assert output.keys and set(output.keys.values()) == {1}, said
    assert output.keys < quiet.keys and output.texts.items() <= quiet.texts.items(), said
    assert output.errors <= quiet.errors, f"errors of the run's end ({said}): {output.errors - quiet.errors}"


def assert_not_asked_again(output: Output, before: Output) -> None:
    """What was answered has the answer that it had."""
    again = [key for key, moment in before.answered.items() if output.answered[key] != moment]
    assert not again, f"{len(again)} of {len(before.answered)} were asked again: {again[:5]}"


def assert_same(output: Output, quiet: Output, said: str = "") -> None:
    """By key, without one record twice, with the same words and the same failures; and the law holds.

    Args:
        output: of the run that was disturbed, and those after it.
        quiet: of the run that nobody disturbed.
        said: what reproduces the disturbance: its seed, and what was done when.
    """
    twice = {key: times for key, times in output.keys.items() if times > 1}
    lost, foreign = quiet.keys - output.keys, output.keys - quiet.keys
    assert not twice, f"{len(twice)} records are there more than once ({said}): {list(twice)[:5]}"
    assert not lost, f"{len(lost)} records are lost ({said}): {list(lost)[:5]}"
    assert not foreign, f"{len(foreign)} records nobody asked for ({said}): {list(foreign)[:5]}"
    assert output.texts == quiet.texts, said
    assert output.errors == quiet.errors, f"the failures differ ({said}): {output.errors ^ quiet.errors}"
    assert output.documents == quiet.documents, f"documents/ differs ({said})"
    assert_lawful(output)


def _rows(place: Place, folder: str) -> Iterator[dict[str, Any]]:
    for name in place.names(folder):
        if name.endswith(".parquet"):
            table: pa.Table = pq.ParquetFile(io.BytesIO(place.read(name))).read()
            yield from table.to_pylist()


def _document(row: dict[str, Any]) -> Key:
    missing = [(gap["part_index"], gap["task"], gap["category"]) for gap in row["missing"]]
    return (row["uri"], row["version"], row["status"], tuple(sorted(row["texts"])), tuple(missing))


def _error(row: dict[str, Any]) -> Key:
    return tuple(row[name] for name in ERROR_KEY)
