"""Questions about whole documents: asked over what was answered about their parts, once that is written.

It is a pass of its own behind the stream, over the part files, so that it goes on after a crash like
everything else, and finds a document whose parts were answered by several runs. Its engines start anew,
and only if there is something to ask.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.holdings import read_holdings, slices
from pipelines.runs import names_of
from schemas.rows import IDENTITY, PARTS, Shown, records_schema, with_attributes
from workers.condense import BETWEEN
from workers.sinks.reading import read_part
from workers.storage.factory import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipelines.holdings import Holdings
    from pipelines.plan import Plan
    from workers.prompt import Ask

GROUP = 500
"""Documents a read task: of a hundred parts each, with three sentences a part, some 25 MB."""
FACTS = (*IDENTITY.names, "media_type", "document_digest", "parts_total", "part_kind", "document_metadata")
COLUMNS = (*FACTS, "part_index", "fingerprint", "text", "answered_at")


@dataclass(frozen=True)
class Group:
    """Documents that one question about whole documents is to be asked of.

    Attributes:
        ask: the question.
        fingerprint: of the answers about their parts.
        names: `document_id/version` of each.
        files: the part files that those answers are in.
    """

    ask: Ask
    fingerprint: str
    names: pa.Array
    files: tuple[str, ...]


def due(plan: Plan, listed: pa.Table) -> dict[str, list[Group]]:
    """What is to be asked about whole documents, by lane: of those that this run listed and works on, whose
    parts all have an answer, and which have none as a whole.

    Args:
        plan: the run; everything about parts is written.
        listed: the run's list: document_id, version, skipped.

    Raises:
        GemstreamError: the output cannot be read.
    """
    if not any(lane.wholes for lane in plan.lanes):
        return {}
    work = listed.filter(pc.invert(listed["skipped"]))
    found: defaultdict[str, list[Group]] = defaultdict(list)
    for share, documents in slices(plan, work):
        holdings = read_holdings(share)
        for lane in plan.lanes:
            for ask in lane.wholes:
                of_parts = next(other.fingerprint for other in lane.asks if other.task == ask.task)
                found[lane.pool] += _groups(plan, holdings, documents, ask, of_parts)
    return {pool: groups for pool, groups in found.items() if groups}


def _groups(plan: Plan, holdings: Holdings, work: pa.Table, ask: Ask, of_parts: str) -> Iterator[Group]:
    answers = holdings.answers.filter(pc.equal(holdings.answers["task"], ask.task.name))
    kinds = [kind for kind, names in plan.wholes_by_kind.items() if ask.task.name in names]
    answers = answers.filter(pc.is_in(answers["part_kind"], pa.array(kinds, pa.string())))
    answers = answers.filter(about(answers, work))
    whole = answers.filter(pc.equal(answers["fingerprint"], ask.fingerprint))
    about_parts = answers.filter(pc.equal(answers["fingerprint"], of_parts))
    parts = about_parts.group_by("name").aggregate([("part_index", "count_distinct"), ("parts_total", "max")])
    several = pc.and_(
        pc.greater(parts["parts_total_max"], 1),
        pc.greater_equal(parts["part_index_count_distinct"], parts["parts_total_max"]),
    )
    names = parts["name"].filter(several)
    if not plan.selection.force:
        names = names.filter(pc.invert(pc.is_in(names, whole["name"].combine_chunks())))
    wanted = about_parts.filter(pc.is_in(about_parts["name"], names.combine_chunks()))
    # Documents that lie in the same files are read together.
    first = wanted.group_by("name", use_threads=False).aggregate([("file", "min")])
    first = first.sort_by([("file_min", "ascending"), ("name", "ascending")])
    for start in range(0, len(first), GROUP):
        group = first["name"].slice(start, GROUP).combine_chunks()
        files = wanted.filter(pc.is_in(wanted["name"], group))["file"].unique().to_pylist()
        uris = tuple(holdings.files[file].uri for file in sorted(files))
        yield Group(ask, of_parts, group, uris)


def about(answers: pa.Table, work: pa.Table) -> pa.ChunkedArray:
    """Which answers are about these documents. A manifest's entry that could not be looked up has no version
    to go by."""
    unknown = work["document_id"].filter(pc.equal(work["version"], "")).combine_chunks()
    named = pc.is_in(answers["name"], names_of(work).combine_chunks())
    return pc.or_(named, pc.is_in(answers["document_id"], unknown))


def read_wholes(plan: Plan, group: Group) -> Iterator[pa.Table]:
    """The documents of a group as PARTS: each is one row, of no part, whose text is what its parts say.

    Raises:
        GemstreamError: the output cannot be read.
    """
    rows = _answers(plan, group)
    # Two versions of an object are two documents, where it is not known which of them was listed.
    rows = rows.append_column("name", names_of(rows))
    rows = rows.sort_by([(name, "ascending") for name in ("name", "part_index", "answered_at")])
    # Of two answers about a part, which a force leaves until the run has swept, the later one counts.
    rows = _one_of(rows, ["name", "part_index"], "max")
    told = rows.filter(pc.fill_null(pc.not_equal(rows["text"], ""), False))
    texts = told.group_by("name", use_threads=False).aggregate([("text", "list")])
    joined = pc.binary_join(texts["text_list"].combine_chunks(), pa.scalar(BETWEEN, pa.large_string()))
    documents = _one_of(rows, ["name"], "min")
    found = pc.index_in(documents["name"], texts["name"].combine_chunks())
    count = len(documents)
    columns = {name: documents[name] for name in FACTS}
    columns |= {
        "page_text": joined.take(found.combine_chunks()),
        "shown": pa.repeat(pa.scalar(Shown.TEXT.value), count),
        "expected": pa.repeat(pa.scalar(1, pa.int32()), count),
        "settled": pa.repeat(pa.scalar(0, pa.int32()), count),
    }
    schema = wholes_schema(plan)
    if plan.attributes is not None:
        columns["attributes"] = documents["attributes"]
    yield pa.table(
        {field.name: columns.get(field.name, pa.nulls(count, field.type)) for field in schema}
    ).cast(schema)


def wholes_schema(plan: Plan) -> pa.Schema:
    """PARTS, with the manifest's own columns if there is one with any."""
    return with_attributes(PARTS, plan.attributes)


def _answers(plan: Plan, group: Group) -> pa.Table:
    """What was answered about the parts of a group's documents."""
    columns = [*COLUMNS, *([] if plan.attributes is None else ["attributes"])]
    schema = records_schema(None, plan.attributes)
    tables = [pa.schema([schema.field(name) for name in columns]).empty_table()]
    storage = open_storage(plan.output, plan.job.storage)
    for uri in group.files:
        rows = read_part(storage, storage.info(uri), columns).rows
        rows = rows.filter(pc.equal(rows["fingerprint"], group.fingerprint))
        tables.append(
            rows.filter(pc.is_in(names_of(rows), group.names)).select(columns).cast(tables[0].schema)
        )
    return pa.concat_tables(tables)


def _one_of(rows: pa.Table, key: list[str], which: str) -> pa.Table:
    """Of rows with the same key the first ("min") or the last ("max"), in their order."""
    places = rows.select(key).append_column("row", pa.array(range(len(rows)), pa.int64()))
    found = places.group_by(key, use_threads=False).aggregate([("row", which)])
    return rows.take(found[f"row_{which}"].combine_chunks().sort())
