"""documents -> parts: fetch, sniff, expand in a child process. One row at least for every document.

The accounting that nothing is lost by: each row carries `expected`, the answers its whole document
owes, and `settled`, those that the row settles by itself. A part to ask about settles none here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from schemas.errors import CorruptDocument, GemstreamError, ParserCrashed, ParserTimeout, StorageUnavailable
from schemas.ids import digest
from schemas.rows import Status, error_value
from workers.clock import Clock
from workers.expand import Expander, ExpandOptions, Opened, Part
from workers.fetch import DOCUMENT, Fetched, Fetcher, documents_of
from workers.guard import Guard
from workers.near import picture_hash
from workers.part_rows import (
    MAX_FAULTS,
    Row,
    Work,
    base_of,
    metadata_of,
    part_rows,
    reason_of,
    rest_rows,
    settled,
    table_of,
    unnamed,
)
from workers.registry import EXPANDERS, resolve

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from schemas.limits import Limits
    from schemas.storage import StorageOptions
    from workers.journal import Journal
    from workers.meter import Meter
    from workers.originals import Originals
    from workers.sniff import Sniffed

TABLE_BYTES = 1024 * 1024
"""A table is yielded at this much content, as Ray makes a block of: some ten pages, one long clip."""
WEIGHTY = ("content", "checked_content", "page_text", "document_metadata")
"""The columns that content is counted in, text by its characters: a page of it alone may have 100,000."""
METADATA_CHARACTERS = 500
"""Of each value of a document's metadata: it is in every row about the document. Sixty pages of text under a
title of 2 MB made one table of 118 MB, where they now make four of at most 1.1."""
METADATA_VALUES = 64
"""And so many of them; the expanders put what they measured in front of what the file says of itself."""
TWO_WORKERS = (
    "two workers died while they had this document in hand, the second with it alone; it is quarantined, "
    "and the others go on"
)
UNREAD = "its first bytes could not be read when it was listed, so no model was chosen for it; run again"


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
        opened = brief(expander.open(path, scratch, options, limits))
        yield opened
    end = opened.parts_total if stop is None else stop
    step = step or expander.chunk
    for begin in range(start, end, step):
        parts = expander.parts(path, scratch, opened, begin, min(begin + step, end), options, limits)
        yield from map(hashed, parts) if options.hashed else parts


def brief(opened: Opened) -> Opened:
    """What was opened, with no more metadata and warnings than every row about it can carry."""
    kept = list(opened.metadata.items())[:METADATA_VALUES]
    return replace(
        opened,
        metadata={_cut(name): _cut(value) for name, value in kept},
        warnings=tuple(_cut(warning) for warning in opened.warnings[:METADATA_VALUES]),
    )


def _cut(text: str) -> str:
    return text if len(text) <= METADATA_CHARACTERS else f"{text[: METADATA_CHARACTERS - 1]}…"


def hashed(part: Part) -> Part:
    """A part with the perceptual hash of its picture. It is made where the parser runs, under its limits."""
    return replace(part, picture_hash=picture_hash(part.content)) if part.content else part


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
        originals: which of several documents with the same content is asked about; all are if not given.
        elsewhere: part kinds that other lanes ask about. A document of such a kind is here because it could
            not be read when lanes were chosen: it has failed, and the next run asks about it.
    """

    def __init__(
        self,
        storage: StorageOptions,
        options: ExpandOptions,
        limits: Limits,
        tasks_by_kind: Mapping[str, Sequence[str]],
        meter: Meter | None = None,
        journal: Journal | None = None,
        originals: Originals | None = None,
        elsewhere: Collection[str] = (),
    ) -> None:
        self._storage = storage
        self._options = options
        self._limits = limits
        self._tasks = {kind: tuple(names) for kind, names in tasks_by_kind.items() if names}
        self._meter = meter
        self._journal = journal
        self._originals = originals
        self._elsewhere = frozenset(elsewhere)
        self._guard: Guard | None = None
        self._fetcher: Fetcher | None = None
        self._clock = Clock()
        self._crashes = 0

    def __call__(self, documents: pa.Table) -> Iterator[pa.Table]:
        """DOCUMENTS to PARTS, in order; `attributes` pass through, `kept` is handed on part by part."""
        self._clock.turn("working")
        if self._fetcher is None:
            self._fetcher = Fetcher(
                self._storage, self._limits, lambda sniffed: bool(self._asked(sniffed)), self._originals
            )
        names = documents.column_names
        attributes = documents["attributes"].combine_chunks() if "attributes" in names else None
        rows: list[Row] = []
        size = failed = parts = 0
        name = digest("table", *documents["document_id"].to_pylist())
        suspect = self._journal is not None and self._journal.begin(name) > 0
        for fetched in self._turning("fetching", self._fetcher.stream(documents_of(documents))):
            for row in self._named(fetched) if suspect else self._rows(fetched):
                rows.append(unnamed(row, fetched.document))
                size += sum(len(row.get(name) or "") for name in WEIGHTY)
                failed += row.get("status") is Status.ERROR and "parts_total" not in row
                parts += row.get("status") is None
                if size >= TABLE_BYTES:
                    yield from self._handed(table_of(rows, attributes))
                    rows, size = [], 0
        if self._meter is not None:
            crashes, self._crashes = self._crashes, 0
            self._meter.add(
                "expand", done=len(documents) - failed, failed=failed, parts=parts, crashes=crashes
            )
        if self._journal is not None:
            self._journal.end(name)
        if rows or not len(documents):
            yield from self._handed(table_of(rows, attributes))
        self._clock.turn("waiting")
        if self._meter is not None:
            self._meter.spent("expand", self._clock.take())

    def _handed(self, parts: pa.Table) -> Iterator[pa.Table]:
        """Parts on their way: whoever takes them may take their time."""
        self._clock.turn("handing")
        yield parts
        self._clock.turn("working")

    def _turning(self, state: str, fetched: Iterator[Fetched]) -> Iterator[Fetched]:
        """What comes, and in this state until it does."""
        while True:
            self._clock.turn(state)
            document = next(fetched, None)
            self._clock.turn("working")
            if document is None:
                return
            yield document

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

    def _is_elsewhere(self, sniffed: Sniffed) -> bool:
        kind = sniffed.expander and _member(sniffed.expander).part_kind.value
        return kind in self._elsewhere

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
        base = base_of(fetched)
        if fetched.fault is not None:
            yield base | settled(Status.ERROR, error_value(fetched.fault, self._limits))
            return
        if fetched.sniffed is None or fetched.sniffed.expander is None or fetched.folder is None:
            if fetched.sniffed is not None and self._is_elsewhere(fetched.sniffed):
                yield base | settled(Status.ERROR, error_value(StorageUnavailable(UNREAD), self._limits))
            else:
                yield base | settled(Status.FILTERED, reason_of(fetched))
            return
        if fetched.duplicate:
            yield base | {"status": Status.DUPLICATE, "expected": 1, "settled": 1}
            return
        names = self._asked(fetched.sniffed)
        work = Work(fetched.document, fetched.sniffed.expander, fetched.folder, names, self._limits)
        parts = self._parts(work)
        try:
            opened = next(parts)
        except GemstreamError as fault:
            yield base | settled(Status.ERROR, error_value(fault, self._limits))
            return
        base |= {
            "parts_total": opened.parts_total,
            "part_kind": _member(work.expander).part_kind.value,
            "expected": opened.parts_total * len(names),
            "document_metadata": metadata_of(opened),
        }
        seen = 0
        try:
            for part in parts:
                seen = part.index + 1
                yield from part_rows(base, part, work)
        except GemstreamError as fault:
            yield from rest_rows(base, seen, work, fault)

    def _parts(self, work: Work) -> Iterator[Any]:
        """What it is when opened, then each part. A part that takes the parser down is that part alone.

        Raises:
            GemstreamError: it does not open; or, after some parts, the rest of it is given up.
        """
        chunk = _member(work.expander).chunk
        # Where answers are kept, some parts need not be made; which ones, is known once it is open.
        first = self._stream(work, stop=0 if work.document.kept else None)
        opened = next(first, None)
        if not isinstance(opened, Opened):
            raise ParserCrashed("the parser did not say what the document is")
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
                    if not isinstance(part, Part) or part.index != at:
                        raise ParserCrashed(f"the parser made something else where part {at} was due")
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

    def _stream(self, work: Work, **span: Any) -> Iterator[Any]:
        limits = self._limits
        if self._guard is None:
            self._guard = Guard(limits.expand_seconds, limits.expand_bytes, answers=(Opened, Part))
        libraries = (*_member(work.expander).libraries, *(("imagehash",) if self._options.hashed else ()))
        path, named = work.folder / DOCUMENT, f"{work.document.document_id}/{work.document.version}"
        options = self._options.model_copy(update={"document": named})
        try:
            yield from self._guard.stream(
                libraries, expand, work.expander, path, work.folder, options, limits, **span
            )
        except (ParserCrashed, ParserTimeout):
            self._crashes += 1
            raise


def _member(expander: str) -> Any:
    return resolve(EXPANDERS, expander, "expander")
