"""What answers are held against: the rows of a csv, jsonl or parquet, and the tasks they are about."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from schemas.errors import JobError, ObjectMissing
from workers.metrics.fields import Fields, meant
from workers.storage.factory import normalise, open_storage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from workers.metrics import Metric
    from workers.storage import StorageOptions

KEYS = ("uri", "part_index", "task")
VALUES = ("text", "label", "data")

Row = dict[str, Any]
Value = tuple[Any, set[str]]
"""What a row says of one task, and the columns that say it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What one answer should be.

    Attributes:
        row: its place in the file, from 1.
        name: the document, as the file has it.
        part_index: from 0; None for the document as a whole.
        task: the name of the task.
        expected: as its metric counts against it.
    """

    row: int
    name: str
    part_index: int | None
    task: str
    expected: Any


@dataclass(frozen=True, slots=True)
class References:
    """All of a file: in memory, as are the answers to them."""

    rows: tuple[Reference, ...]
    unused: tuple[str, ...]
    """Columns that say nothing about any of the tasks."""


def read_references(
    uri: str, options: StorageOptions, metrics: Mapping[str, Metric], asked: Collection[str]
) -> References:
    """The rows of a file of references.

    Columns:
        uri: the document: its address, or enough of the end of it to name one alone.
        part_index: which part of it, from 0; the document as a whole where it is missing or null.
        task: the task's name. Without this column, `text`, `label` and `data` are about the one task that
            has answers of that kind, and so are the columns named like fields.
        text: for ocr, transcribe, translate and other prose. An empty one expects an empty answer.
        label: for classify.
        data: for extract: the fields as one object (JSON in a csv); a field that is not in it is null. Or
            a column for each field, by dotted path: then only those fields are compared, and one that is
            named like a column of this list needs `data`.

    Args:
        uri: a .csv, .jsonl or .parquet.
        options: how to reach it.
        metrics: the tasks of the output, and how each is scored.
        asked: those that are looked at. A row that names another one is passed over.

    Raises:
        JobError: it is not there, empty, unreadable, or a row or column of it makes no sense; says which.
        GemstreamError: it cannot be reached.
    """
    rows = _read(normalise(uri), options)
    columns = list({name: None for row in rows for name in row})
    if "uri" not in columns:
        raise _fault(uri, f"there is no column 'uri'; its columns: {', '.join(map(repr, columns))}")
    found: list[Reference] = []
    used = set(KEYS)
    for number, row in enumerate(rows, 1):
        try:
            name, part = _name(row.get("uri")), _part(row.get("part_index"))
            for task, (value, names) in _said(row, "task" in columns, metrics, asked):
                used |= names
                found.append(Reference(number, name, part, task, metrics[task].expected(value)))
        except ValueError as error:
            raise _fault(uri, f"row {number}: {error}") from error
    return References(tuple(found), tuple(name for name in columns if name not in used))


def _said(
    row: Row, named: bool, metrics: Mapping[str, Metric], asked: Collection[str]
) -> Iterator[tuple[str, Value]]:
    """Each task that a row is about, and what the row has for it.

    Args:
        row: all of it.
        named: whether the file has a column `task`.
        metrics: the tasks of the output.
        asked: those that may be meant.
    """
    if named:
        task = str(row.get("task"))
        if task not in metrics:
            raise ValueError(f"no task {task!r}{meant(task, metrics)}")
        value = _value(row, metrics[task], named)
        if value is None:
            raise ValueError(f"nothing in column {metrics[task].expects!r}, which {task} is held against")
        if task in asked:
            yield task, value
        return
    found = {task: value for task in asked if (value := _value(row, metrics[task], named))}
    for expects in VALUES:
        about = [task for task in found if metrics[task].expects == expects]
        if len(about) > 1:
            raise ValueError(f"it may be about {' or '.join(about)}: add a column 'task', or give --task")
    if not found:
        wanted = " or ".join(sorted({metrics[task].expects for task in asked}))
        raise ValueError(f"nothing to hold {', '.join(asked)} against: it needs a value in {wanted}")
    yield from found.items()


def _value(row: Row, metric: Metric, named: bool) -> Value | None:
    """What a row has for a metric, and in which columns.

    Args:
        row: all of it.
        metric: that of one task.
        named: whether the row says its task; if not, `text` and `label` are never fields.
    """
    value = row.get(metric.expects)
    if not isinstance(metric, Fields):
        empty = metric.expects == "label" and not named and value == ""
        return None if _missing(value) or empty else (value, {metric.expects})
    if not _missing(value) and value != "":
        return _whole(value, metric), {"data"}
    names = {name for name in row if name in metric.paths and name not in (*KEYS, "data")}
    names -= set() if named else set(VALUES)
    return ({name: row[name] for name in names}, names) if names else None


def _whole(value: Any, metric: Fields) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_float=Decimal)
        except ValueError as error:
            raise ValueError(f"data is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"data is {value!r}, no object")
    return dict.fromkeys(metric.names) | value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"uri is {value!r}, which names nothing")
    return value


def _part(value: Any) -> int | None:
    """pandas makes floats of integers where some are missing."""
    if _missing(value) or value == "":
        return None
    try:
        index = float(value)
    except (TypeError, ValueError):
        index = -1
    if index < 0 or not index.is_integer():
        raise ValueError(f"part_index is {value!r}: parts are counted 0, 1, 2; leave it out for the document")
    return int(index)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _read(uri: str, options: StorageOptions) -> list[Row]:
    ending = uri.rpartition(".")[2].lower()
    if ending not in FORMATS:
        raise _fault(uri, f"write them as {', '.join('.' + known for known in FORMATS)}")
    try:
        content = open_storage(uri, options).read(uri)
    except ObjectMissing as error:
        raise JobError(f"references: {error.message}", key="references") from error
    try:
        rows: list[Row] = FORMATS[ending](content) if content else []
    except (ValueError, csv.Error) as error:  # of Arrow's too, and of text that is not UTF-8
        raise _fault(uri, str(error)) from error
    if not rows:
        raise _fault(uri, "there is no row in it")
    return rows


def _csv(content: bytes) -> list[Row]:
    """Every value is text: what type it is of, the task's answers say."""
    import pyarrow as pa
    import pyarrow.csv as pcsv

    header = next(csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")), [])
    double = sorted({name for name in header if header.count(name) > 1})
    if double:
        raise ValueError(f"two columns are named {double[0]!r}")
    rows = pcsv.read_csv(
        io.BytesIO(content),
        # A page's text has many lines, and one row may be a whole document.
        pcsv.ReadOptions(block_size=len(content) + 1),
        pcsv.ParseOptions(newlines_in_values=True),
        pcsv.ConvertOptions(column_types={name: pa.string() for name in header}, strings_can_be_null=False),
    )
    return list(rows.to_pylist())


def _jsonl(content: bytes) -> list[Row]:
    """By the line: Arrow's reader takes some strings for times, and has no decimals."""
    rows: list[Row] = []
    for number, line in enumerate(content.decode("utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_float=Decimal)
        except ValueError as error:
            raise ValueError(f"line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no JSON object")
        rows.append(row)
    return rows


def _parquet(content: bytes) -> list[Row]:
    import pyarrow.parquet as pq

    return list(pq.read_table(io.BytesIO(content)).to_pylist())


def _fault(uri: str, message: str) -> JobError:
    return JobError(f"references {uri}: {message}", key="references")


FORMATS = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
