"""documents -> parts: fetch, sniff, expand in a child process. One row at least for every document.

The accounting that nothing is lost by: each row carries `expected`, the answers its whole document
owes, and `settled`, those that the row settles by itself. A part to ask about settles none here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from schemas.errors import CorruptDocument, GemstreamError, ParserCrashed
from schemas.ids import canonical, digest
from schemas.rows import PARTS, PartKind, Shown, Status, error_value, with_attributes
from workers.expand import Expander, ExpandOptions, Opened, Part
from workers.fetch import DOCUMENT, Document, Fetched, Fetcher, documents_of
from workers.guard import Guard
from workers.registry import EXPANDERS, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from schemas.limits import Limits
    from schemas.storage import StorageOptions
    from workers.journal import Journal
    from workers.meter import Meter
    from workers.sniff import Sniffed

TABLE_BYTES = 4 * 1024 * 1024
"""A table is yielded at this much content: some 20 pages, two long clips."""
TWO_WORKERS = (
    "two workers died while they had this document in hand, the second with it alone; it is quarantined, "
    "and the others go on"
)
MAX_FAULTS = 3
"""Parts of one document that may take the parser down before the rest of it is given up."""

Row = dict[str, Any]


def expand(
    kind: str,
    path: Path,
    scratch: Path,
    options: ExpandOptions,
    limits: Limits,
    opened: Opened | None = None,
    start: int = 0,
    stop: int | None = None,
    step: int | None = None,
) -> Iterator[Opened | Part]:
    """What the child does: open the document unless it is, then make parts, `step` at a time.

    Args:
        kind: a key of `EXPANDERS`.
        path: the document's bytes.
        scratch: a folder that lives as long as the document is worked on.
        options: how to make parts.
        limits: what to refuse.
        opened: what an earlier call made of it; None to open it and yield that first.
        start: the first part to make.
        stop: the part to stop before; None for all of them.
        step: parts per call of the expander; None for as many as it likes.
    """
    expander: Expander = resolve(EXPANDERS, kind, "expander")()
    if opened is None:
        opened = expander.open(path, scratch, options, limits)
        yield opened
    end = opened.parts_total if stop is None else stop
    step = step or expander.chunk
    for begin in range(start, end, step):
        yield from expander.parts(path, scratch, opened, begin, min(begin + step, end), options, limits)


class Expand:
    """The stage. Constructing it starts nothing; the child process comes with the first table.

    Args:
        storage: how to reach the object stores.
        options: how documents become parts.
        limits: what one document may cost.
        tasks_by_kind: part kind -> names of the tasks asked of such parts. A document of any other
            kind is filtered, and not even fetched.
        meter: where counts go while the run is under way; one count per document.
        journal: what is in hand, for the worker that comes after this one.
    """

    def __init__(
        self,
        storage: StorageOptions,
        options: ExpandOptions,
        limits: Limits,
        tasks_by_kind: Mapping[str, Sequence[str]],
        meter: Meter | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._storage = storage
        self._options = options
        self._limits = limits
        self._tasks = {kind: tuple(names) for kind, names in tasks_by_kind.items() if names}
        self._meter = meter
        self._journal = journal
        self._guard: Guard | None = None
        self._fetcher: Fetcher | None = None

    def __call__(self, documents: pa.Table) -> Iterator[pa.Table]:
        """DOCUMENTS to PARTS, in order; `attributes` pass through, `kept` is handed on part by part."""
        if self._fetcher is None:
            self._fetcher = Fetcher(self._storage, self._limits, lambda sniffed: bool(self._asked(sniffed)))
        names = documents.column_names
        attributes = documents["attributes"].combine_chunks() if "attributes" in names else None
        rows: list[Row] = []
        size = failed = 0
        name = digest("table", *documents["document_id"].to_pylist())
        suspect = self._journal is not None and self._journal.begin(name) > 0
        for fetched in self._fetcher.stream(documents_of(documents)):
            for row in self._named(fetched) if suspect else self._rows(fetched):
                rows.append(row)
                size += len(row.get("content") or b"")
                failed += row.get("status") is Status.ERROR and "parts_total" not in row
                if size >= TABLE_BYTES:
                    yield _table(rows, attributes)
                    rows, size = [], 0
        if self._meter is not None:
            self._meter.add("expand", done=len(documents) - failed, failed=failed)
        if self._journal is not None:
            self._journal.end(name)
        if rows or not len(documents):
            yield _table(rows, attributes)

    def close(self) -> None:
        """End the child process, remove what was fetched. Closing twice is fine."""
        for live in (self._guard, self._fetcher):
            if live is not None:
                live.close()
        self._guard = self._fetcher = None

    def _asked(self, sniffed: Sniffed) -> tuple[str, ...]:
        """The tasks asked of what this document consists of."""
        if sniffed.expander is None:
            return ()
        return self._tasks.get(_member(sniffed.expander).part_kind.value, ())

    def _named(self, fetched: Fetched) -> Iterator[Row]:
        """The rows of a document that was in hand when a worker died, named in the journal meanwhile."""
        assert self._journal is not None
        document = fetched.document
        name = f"{document.document_id}/{document.version}"
        if self._journal.begin(name):
            fetched = replace(fetched, fault=ParserCrashed(TWO_WORKERS))
        yield from self._rows(fetched)
        self._journal.end(name)

    def _rows(self, fetched: Fetched) -> Iterator[Row]:
        """One document's rows."""
        base = _base(fetched)
        if fetched.fault is not None:
            yield base | _settled(Status.ERROR, error_value(fetched.fault, self._limits))
            return
        if fetched.sniffed is None or fetched.sniffed.expander is None or fetched.folder is None:
            yield base | _settled(Status.FILTERED, _reason(fetched))
            return
        names = self._asked(fetched.sniffed)
        work = _Work(fetched.document, fetched.sniffed.expander, fetched.folder, names, self._limits)
        parts = self._parts(work)
        try:
            opened = next(parts)
        except GemstreamError as fault:
            yield base | _settled(Status.ERROR, error_value(fault, self._limits))
            return
        base |= {
            "parts_total": opened.parts_total,
            "part_kind": _member(work.expander).part_kind.value,
            "expected": opened.parts_total * len(names),
            "document_metadata": _metadata(opened),
        }
        seen = 0
        try:
            for part in parts:
                seen = part.index + 1
                yield from _part_rows(base, part, work)
        except GemstreamError as fault:
            yield from _rest_rows(base, seen, work, fault)

    def _parts(self, work: _Work) -> Iterator[Any]:
        """What it is when opened, then each part. A part that takes the parser down is that part alone.

        Raises:
            GemstreamError: it does not open; or, after some parts, the rest of it is given up.
        """
        chunk = _member(work.expander).chunk
        # Where answers are kept, some parts need not be made; which ones, is known once it is open.
        first = self._stream(work, stop=0 if work.document.kept else None)
        opened: Opened = next(first)
        if opened.parts_total < 1:
            raise CorruptDocument("there is no part in it")
        stream: Iterator[Any] | None = first
        if work.document.kept:
            # To its end: it makes no part.
            stream = next(first, None)
        yield opened
        at = faults = singly_until = 0
        stop = opened.parts_total
        while at < opened.parts_total:
            if work.is_kept(at):
                yield Part(at)
                at += 1
                continue
            step = 1 if at < singly_until else chunk
            if stream is None:
                stop = singly_until if step == 1 else opened.parts_total
                stop = next((index for index in range(at, stop) if work.is_kept(index)), stop)
                stream = self._stream(work, opened=opened, start=at, stop=stop, step=step)
            try:
                for part in stream:
                    if part.index != at:
                        raise ParserCrashed(f"the parser made part {part.index} where {at} was due")
                    yield part
                    at += 1
                if at < stop:
                    raise ParserCrashed(f"the parser made no part {at}")
            except GemstreamError as fault:
                if step > 1 and opened.parts_total - at > 1:
                    # Some part of the chunk did it; asked for one by one, the others can be had.
                    singly_until = min(at + chunk, opened.parts_total)
                else:
                    faults += 1
                    if faults == MAX_FAULTS and at + 1 < opened.parts_total:
                        raise
                    yield Part(at, error=fault)
                    at += 1
            stream = None

    def _stream(self, work: _Work, **span: Any) -> Iterator[Any]:
        limits = self._limits
        if self._guard is None:
            self._guard = Guard(limits.expand_seconds, limits.expand_bytes, answers=(Opened, Part))
        libraries = _member(work.expander).libraries
        path = work.folder / DOCUMENT
        return self._guard.stream(
            libraries, expand, work.expander, path, work.folder, self._options, limits, **span
        )


@dataclass(frozen=True, slots=True)
class _Work:
    """A document that is to be expanded, and the names of the tasks that wait for its parts."""

    document: Document
    expander: str
    folder: Path
    names: tuple[str, ...]
    limits: Limits

    def kept(self, index: int) -> list[str]:
        """The tasks whose answer about this part the output holds already."""
        return [name for name in self.document.kept.get(index, ()) if name in self.names]

    def is_kept(self, index: int) -> bool:
        """Whether nothing is left to be asked about this part."""
        return len(self.kept(index)) == len(self.names)


def _member(expander: str) -> Any:
    return resolve(EXPANDERS, expander, "expander")


def _base(fetched: Fetched) -> Row:
    document = fetched.document
    return {
        "source": document.source,
        "document_id": document.document_id,
        "uri": document.uri,
        "version": document.version,
        "media_type": fetched.sniffed.media_type if fetched.sniffed else None,
    }


def _settled(status: Status, error: Row) -> Row:
    """The one row of a document that never came to have parts."""
    return {"status": status, "expected": 1, "settled": 1, "error": error}


def _reason(fetched: Fetched) -> Row:
    """Why nothing is asked about a document, as an `error` value."""
    sniffed = fetched.sniffed
    if sniffed is None or sniffed.expander is None:
        category, message = "not_a_document", "neither its name nor its content is that of a document"
    else:
        category, message = "no_task", f"no task of the job asks about {sniffed.media_type}"
    return {"stage": "sniff", "category": category, "message": message, "transient": False}


def _part_rows(base: Row, part: Part, work: _Work) -> Iterator[Row]:
    kept = work.kept(part.index)
    row = base | {
        "part_index": part.index,
        "width": part.width,
        "height": part.height,
        "rotation": part.rotation,
        "start_seconds": part.start_seconds,
        "end_seconds": part.end_seconds,
    }
    if part.error is None:
        yield row | {
            "settled": 0,
            "shown": _shown(base["part_kind"], part),
            "content": part.content or None,
            "content_hash": digest(part.content) if part.content else None,
            "page_text": part.text,
            "kept": kept or None,
        }
        return
    error = error_value(part.error, work.limits)
    yield row | {"status": Status.ERROR, "settled": len(work.names) - len(kept), "error": error}
    for name in kept:
        yield row | {"status": Status.KEPT, "settled": 1, "task": name}


def _shown(kind: str, part: Part) -> Shown:
    if kind == PartKind.AUDIO:
        return Shown.AUDIO
    return Shown.IMAGE if part.content else Shown.TEXT


def _rest_rows(base: Row, first: int, work: _Work, fault: GemstreamError) -> Iterator[Row]:
    """The parts that were given up, in one row; what the output holds of them already, each in its own."""
    total, owed = base["parts_total"], 0
    for index in range(first, total):
        kept = work.kept(index)
        owed += len(work.names) - len(kept)
        for name in kept:
            yield base | {"part_index": index, "status": Status.KEPT, "settled": 1, "task": name}
    error = error_value(fault, work.limits)
    error["message"] = (
        f"given up from part {first + 1} to {total}, after {MAX_FAULTS} faults: {fault.message}"
    )
    yield base | {"status": Status.ERROR, "settled": owed, "error": error}


def _metadata(opened: Opened) -> str:
    values: dict[str, Any] = dict(opened.metadata)
    if opened.warnings:
        values["warnings"] = list(opened.warnings)
    return canonical(values)


def _table(rows: list[Row], attributes: pa.Array | None) -> pa.Table:
    schema = with_attributes(PARTS, attributes.type if attributes is not None else None)
    columns: dict[str, pa.Array] = {
        field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in PARTS
    }
    if attributes is not None:
        columns["attributes"] = attributes.take(pa.array([row["source"] for row in rows], pa.int64()))
    return pa.table(columns, schema)
