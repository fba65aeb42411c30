"""The drawn parts as they look and sound, fetched and expanded again, beside what was said of them."""

from __future__ import annotations

import time
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml

from pipelines.occupancy import impatient
from pipelines.page.media import outline, thumbnail
from pipelines.page.model import Piece, Said
from schemas.errors import GemstreamError, ObjectChanged, ObjectMissing
from schemas.rows import KEPT, Pages, PartKind, Status, owing_schema
from workers.expander import Expand
from workers.sinks.reading import read_part
from workers.storage.factory import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipelines.page.sample import Drawn, Place
    from pipelines.plan import Lane, Plan
    from schemas.storage import StorageOptions

SECONDS = 30.0
"""For all of them: begun is nothing after it."""
EACH_SECONDS = 10.0
"""For one, in its parser."""
OBJECT_BYTES = 64 * 1024 * 1024
"""A larger document is not fetched again for the sake of a picture."""
IMAGE_SIZE = 640
TEXT = 700
"""Characters of an answer that are shown."""


def gallery(plan: Plan, drawn: Iterable[Drawn], seconds: float = SECONDS) -> tuple[Piece, ...]:
    """Pieces of the page, in the order of what was drawn.

    Args:
        plan: of the run, whose lanes say how documents become parts.
        drawn: parts.
        seconds: when they are over, what is left has no picture.

    Raises:
        GemstreamError: the output cannot be read.
    """
    until = time.monotonic() + seconds
    answers = Answers(plan)
    lanes = [(Viewer(plan, lane), lane.tasks_by_kind) for lane in plan.lanes]
    viewers = {kind: viewer for viewer, kinds in lanes for kind in kinds}
    try:
        return tuple(_piece(part, answers.of(part), viewers, until) for part in drawn)
    finally:
        for viewer, _ in lanes:
            viewer.close()


def _piece(part: Drawn, answers: tuple[Said, ...], viewers: Mapping[str, Viewer], until: float) -> Piece:
    facts = part.facts
    seen: dict[str, str] = {}
    viewer = viewers.get(facts["part_kind"])
    if viewer is None:
        seen["note"] = "the job's models are not here, which say how it becomes parts"
    elif time.monotonic() > until:
        seen["note"] = "there was no time left to fetch it again"
    else:
        try:
            seen = viewer.view(facts)
        except GemstreamError as error:
            seen["note"] = f"not to be had any more: {error.message}"
    return Piece(
        uri=facts["uri"],
        part=facts["part_index"],
        parts_total=facts["parts_total"],
        kind=facts["part_kind"],
        media_type=facts["media_type"],
        start_seconds=facts["start_seconds"],
        end_seconds=facts["end_seconds"],
        answers=answers,
        **seen,
    )


class Answers:
    """Reads what was said of parts out of the files that it lies in."""

    def __init__(self, plan: Plan) -> None:
        self._storage = open_storage(plan.output, plan.job.storage)
        self._typed = set(plan.data_types)

    def of(self, part: Drawn) -> tuple[Said, ...]:
        """What is said of one part, by task."""
        found = [self._answer(place) for place in part.places]
        found += [_failed(row) for row in part.errors]
        return tuple(sorted(found, key=lambda said: said.task))

    def _answer(self, place: Place) -> Said:
        columns = ["text", "text_source", "valid", "invalid_fields", "confidence", "output_tokens", "seconds"]
        typed = place.task in self._typed
        rows = read_part(self._storage, place.info, [*columns, *(["data"] if typed else [])]).rows
        row = rows.slice(place.row, 1).to_pylist(maps_as_pydicts="lossy")[0]
        # Where an answer does not hold, all that was said is in its text.
        held = typed and row["data"] is not None
        text = _plain(row["data"]) if held else row["text"]
        return Said(
            task=place.task,
            **_cut(text),
            typed=held,
            source=row["text_source"],
            valid=row["valid"],
            invalid_fields=tuple(row["invalid_fields"] or ()),
            confidence=row["confidence"],
            output_tokens=row["output_tokens"],
            seconds=row["seconds"],
        )


def _plain(data: Any) -> str:
    """A typed answer as YAML, which is easier on the eye than JSON."""
    return yaml.safe_dump(_simple(data), sort_keys=False, allow_unicode=True, width=60)


def _simple(value: Any) -> Any:
    """With numbers as people write them: of 9 or 17 digits those that say something."""
    if isinstance(value, dict):
        return {str(key): _simple(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_simple(inner) for inner in value]
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value if isinstance(value, bool | int | str | date) or value is None else str(value)


def _failed(row: Mapping[str, Any]) -> Said:
    said = f"{row['message']}\n\n{row['text']}" if row["text"] else row["message"]
    return Said(task=row["task"], **_cut(said), error=row["category"])


def _cut(text: str | None) -> dict[str, Any]:
    text = (text or "").strip()
    return {"text": text[:TEXT], "more": max(0, len(text) - TEXT)}


class Viewer:
    """Makes one part of a document again, as a lane does, smaller.

    Args:
        plan: the run.
        lane: how its documents become parts.
    """

    def __init__(self, plan: Plan, lane: Lane) -> None:
        self._options = _hurried(plan.job.storage)
        self._table = plan.job.table
        self._tasks = lane.tasks_by_kind
        limits = plan.job.limits
        # Drawn, even where the model was shown its text: it is people who look at it here.
        small = {"image_size": IMAGE_SIZE, "pages": Pages.IMAGE, "checked_share": 0.0, "tiling": None}
        self._stage = Expand(
            storage=self._options,
            options=lane.expand.model_copy(update=small),
            limits=limits.model_copy(
                update={
                    "expand_seconds": min(limits.expand_seconds, EACH_SECONDS),
                    "object_bytes": min(limits.object_bytes, OBJECT_BYTES),
                }
            ),
            tasks_by_kind=lane.tasks_by_kind,
        )

    def view(self, facts: Mapping[str, Any]) -> dict[str, str]:
        """`picture`, `wave` or `note`.

        Raises:
            GemstreamError: the document is not there any more, or not to be had in time.
        """
        index, found = facts["part_index"], {}
        for table in self._stage(self._document(facts)):
            for row in table.select(["part_index", "status", "content", "error"]).to_pylist():
                if row["status"] == Status.ERROR and row["part_index"] in (None, index):
                    found = {"note": f"it does not open again: {row['error']['message']}"}
                elif row["part_index"] == index and row["status"] is None:
                    found = _shown(facts["part_kind"], row["content"])
        return found or {"note": "there is no such part any more"}

    def close(self) -> None:
        """End the parser's process."""
        self._stage.close()

    def _document(self, facts: Mapping[str, Any]) -> pa.Table:
        """The row of a document of which all parts but one are answered."""
        address = self._address(facts["uri"])
        info = open_storage(address, self._options).info(address)
        if info.version != facts["version"]:
            raise ObjectChanged("the document was replaced since it was answered")
        others = (part for part in range(facts["parts_total"] or 0) if part != facts["part_index"])
        names = self._tasks[facts["part_kind"]]
        kept = [f"{part}/{name}" for part in others for name in names]
        row = {name: facts[name] for name in ("document_id", "uri", "version")}
        row |= {"size": info.size, "address": address}
        schema = owing_schema(None)
        columns = {field.name: pa.array([row.get(field.name)], field.type) for field in schema}
        columns["kept"] = pa.array([kept], KEPT)
        return pa.table(columns, schema)

    def _address(self, uri: str) -> str:
        """Where a document is: what goes by the key of a table's row has the key behind it."""
        table = self._table
        if table is None or not table.key:
            return uri
        if table.bytes_column:
            raise ObjectMissing("it lies in the table, which is not read again for it")
        return uri.rpartition("#")[0]


def _hurried(options: StorageOptions) -> StorageOptions:
    """For what can be done without: no wait for a store that is away."""
    return impatient(options).model_copy(update={"attempts": 2, "connect_seconds": 5.0, "read_seconds": 10.0})


def _shown(kind: str, content: bytes | None) -> dict[str, str]:
    if content is None:
        return {"note": "nobody speaks in it" if kind == PartKind.AUDIO else "there is nothing to see of it"}
    return {"wave": outline(content)} if kind == PartKind.AUDIO else {"picture": thumbnail(content)}
