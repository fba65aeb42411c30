"""The text that PDFs carry, as the reference of what was read from their pages: ground truth for free."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.references import Reference
from schemas.errors import JobError
from schemas.rows import IDENTITY, Pages, PartKind, Shown, Status, owing_schema
from workers.expand import ExpandOptions
from workers.expander import Expand
from workers.sinks.reading import read_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from schemas.job import JobSpec
    from workers.metrics import Metric

SAMPLE = 100
"""Documents opened where nobody says how many."""
IMAGE_SIZE = 32
"""Pixels that a page is drawn at which has no text to be trusted; nobody looks at it."""
ANY_LENGTH = 1 << 31

COLUMNS = ["uri", "version", "part_index", "status", "error", "page_text", "shown"]
OWING = owing_schema(None)

Place = tuple[str, str, int]
"""Task, address and part of an answer."""


def read_text_layer(
    output: str, metrics: Mapping[str, Metric], job: JobSpec, sample: int | None
) -> tuple[list[Reference], Counter[str]]:
    """Open a sample of the output's PDFs again, each in a child process with limits, and read their text.

    The sample is the documents with the lowest ids, which are hashes: a fair one, and the same each time.

    Args:
        output: of a job.
        metrics: its tasks that read pages, and how each is scored.
        job: how to reach the documents, their passwords, and what one may cost.
        sample: how many documents.

    Returns:
        A reference for each page with a text layer to be trusted and each task that read it by eye; and why
        other pages have none.

    Raises:
        JobError: there is not one.
        GemstreamError: the output cannot be read.
    """
    documents, borrowed = _documents(output, metrics, job)
    documents = documents.sort_by("document_id").slice(0, sample or SAMPLE)
    versions = dict(zip(documents["uri"].to_pylist(), documents["version"].to_pylist(), strict=True))
    references: list[Reference] = []
    left_out: Counter[str] = Counter()
    for page in _pages(documents, job):
        reason = _reason(page, versions[page["uri"]])
        if reason:
            left_out[reason] += 1
            continue
        for task, metric in metrics.items():
            place = (task, page["uri"], page["part_index"])
            if place in borrowed:
                left_out["the answer was made from the text layer"] += 1
                continue
            expected = metric.expected(page["page_text"])
            references.append(Reference(len(references) + 1, page["uri"], page["part_index"], task, expected))
    if not references:
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "there are no PDFs"
        raise JobError(f"no page of {output} can be held against a text layer: {why}", key="references")
    return references, left_out


def _documents(output: str, metrics: Mapping[str, Metric], job: JobSpec) -> tuple[pa.Table, frozenset[Place]]:
    """The PDFs that were read, and which answers are made from their text layer already."""
    found = [IDENTITY.empty_table()]
    borrowed: set[Place] = set()
    columns = [*IDENTITY.names, "media_type", "part_index", "text_source", "shown"]
    for task in metrics:
        for rows in read_columns(output, job.storage, f"records/task={task}", columns):
            rows = rows.filter(pc.equal(rows["media_type"], "application/pdf"))
            found.append(rows.select(IDENTITY.names).cast(IDENTITY))
            taken = pc.equal(rows["text_source"], "text_layer")
            own = rows.filter(pc.or_kleene(taken, pc.equal(rows["shown"], Shown.TEXT.value)))
            places = zip(own["uri"].to_pylist(), own["part_index"].to_pylist(), strict=True)
            borrowed |= {(task, uri, part) for uri, part in places}
    # While a run is under way there may be two versions; whichever is left out below will have changed.
    rows = pa.concat_tables(found).group_by("document_id").aggregate([("uri", "max"), ("version", "max")])
    return rows.rename_columns(IDENTITY.names), frozenset(borrowed)


def _pages(documents: pa.Table, job: JobSpec) -> Iterator[dict[str, Any]]:
    options = ExpandOptions(
        passwords=job.expand.tried(), image_size=IMAGE_SIZE, pages=Pages.AUTO, text_characters=ANY_LENGTH
    )
    stage = Expand(job.storage, options, job.limits, {PartKind.PAGE.value: ["ocr"]})
    # Without a size, each is looked up: its version is that of today.
    for name in ("size", "kept"):
        documents = documents.append_column(name, pa.nulls(len(documents), OWING.field(name).type))
    try:
        for table in stage(documents):
            yield from table.select(COLUMNS).to_pylist()
    finally:
        stage.close()


def _reason(page: dict[str, Any], version: str) -> str:
    """Why a page is no reference; empty if it is one."""
    if page["status"] == Status.ERROR.value:
        return f"{page['error']['category']}: {page['error']['message']}"
    if page["version"] != version:
        return "the document has changed since it was read"
    if page["status"] is not None:
        return "it is no PDF any more"
    if not page["page_text"]:
        return "it has no text layer"
    if page["shown"] != Shown.TEXT.value:
        return "its text layer is too short, no text, or a scanner's"
    return ""
