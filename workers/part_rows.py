"""What became of a document and its parts -> rows of PARTS, each with what it settles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa

from schemas.ids import canonical, digest
from schemas.rows import PARTS, PartKind, Shown, Status, error_value, with_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schemas.errors import GemstreamError
    from schemas.limits import Limits
    from workers.expand import Opened, Part
    from workers.fetch import Document, Fetched

MAX_FAULTS = 3
"""Parts of one document that may take the parser down before the rest of it is given up."""

NO_DOCUMENT = "row://refused"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Work:
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


def base_of(fetched: Fetched) -> Row:
    """What all rows of a document say."""
    document = fetched.document
    return {
        "source": document.source,
        "document_id": document.document_id,
        "uri": document.uri,
        "version": document.version,
        "media_type": fetched.sniffed.media_type if fetched.sniffed else None,
        "document_digest": fetched.digest,
    }


def unnamed(row: Row, document: Document) -> Row:
    """A row whose message does not name a document that goes by another name: neither its address, nor how
    that is written in a request or quoted, nor its file's name."""
    error = row.get("error")
    if not document.hidden or not error or not error["message"]:
        return row
    if document.place.startswith(NO_DOCUMENT):  # with the reason, which names the row by its key
        message = "a row that is no document: its key or its address is null, or another row has its key"
        return row | {"error": error | {"message": message}}
    path = document.place.split("://", 1)[-1]
    spelled = {document.place, path, path.partition("/")[2], path.rpartition("/")[2]}
    spelled |= {other for name in spelled for other in (quote(name), repr(name)[1:-1])}
    names = "|".join(re.escape(name) for name in sorted(spelled - {""}, key=len, reverse=True))
    message = re.sub(rf"(?<!\w)({names})(?!\w)", document.uri, error["message"])
    return row | {"error": error | {"message": message}}


def settled(status: Status, error: Row) -> Row:
    """The one row of a document that never came to have parts."""
    return {"status": status, "expected": 1, "settled": 1, "error": error}


def reason_of(fetched: Fetched) -> Row:
    """Why nothing is asked about a document, as an `error` value."""
    sniffed = fetched.sniffed
    if sniffed is None or sniffed.expander is None:
        category, message = "not_a_document", "neither its name nor its content is that of a document"
    else:
        category, message = "no_task", f"no task of the job asks about {sniffed.media_type}"
    return {"stage": "sniff", "category": category, "message": message, "transient": False}


def part_rows(base: Row, part: Part, work: Work) -> Iterator[Row]:
    """A part to ask about, or the error that it is; and which answers about it the output holds."""
    kept = work.kept(part.index)
    row = base | {
        "part_index": part.index,
        "width": part.width,
        "height": part.height,
        "rotation": part.rotation,
        "tiles": part.tiles,
        "picture_hash": part.picture_hash,
        "start_seconds": part.start_seconds,
        "end_seconds": part.end_seconds,
    }
    if part.error is None:
        yield row | {
            "settled": 0,
            "shown": _shown(base["part_kind"], part),
            "content": part.content or None,
            "content_hash": _hash(part) if part.content else None,
            "page_text": part.text,
            "text_trusted": part.trusted,
            "checked_content": part.checked,
            "kept": kept or None,
        }
        return
    error = error_value(part.error, work.limits)
    yield row | {"status": Status.ERROR, "settled": len(work.names) - len(kept), "error": error}
    for name in kept:
        yield row | {"status": Status.KEPT, "settled": 1, "task": name}


def _hash(part: Part) -> str:
    """The name of what the model sees: the same bytes in tiles are another sight."""
    return digest(part.content, f"{part.tiles} tiles") if part.tiles else digest(part.content)


def _shown(kind: str, part: Part) -> Shown:
    if kind == PartKind.AUDIO:
        return Shown.AUDIO
    return Shown.IMAGE if part.content else Shown.TEXT


def rest_rows(base: Row, first: int, work: Work, fault: GemstreamError) -> Iterator[Row]:
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


def metadata_of(opened: Opened) -> str:
    """What a document says of itself, and what was repaired, as JSON."""
    values: dict[str, Any] = dict(opened.metadata)
    if opened.warnings:
        values["warnings"] = list(opened.warnings)
    return canonical(values).encode("utf-8", "replace").decode()


def table_of(rows: list[Row], attributes: pa.Array | None) -> pa.Table:
    """PARTS, with the attributes of the documents that the rows are from."""
    schema = with_attributes(PARTS, attributes.type if attributes is not None else None)
    columns: dict[str, pa.Array] = {
        field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in PARTS
    }
    if attributes is not None:
        columns["attributes"] = attributes.take(pa.array([row["source"] for row in rows], pa.int64()))
    return pa.table(columns, schema)
