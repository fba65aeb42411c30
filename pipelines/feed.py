"""The head of the stream: lists once, says what is owed and why, routes each document to one lane.

The list is written as it grows, to `_runs/<run_id>/listed/NNNNNN.parquet`, and each lane reads
those files in order. So the source is walked once however many lanes there are, a slow lane holds
up no other, a read that Ray runs again yields the same documents again, and the run can name what
it listed: at its end they become one file, `_runs/<run_id>/listed.parquet`.
"""

from __future__ import annotations

import asyncio
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.holdings import settled_down
from pipelines.incremental import passed_over, versions_met, walk
from pipelines.ledger import Ledger, places_in, read_ledger
from pipelines.occupancy import impatient
from pipelines.runs import encoded, names_of
from pipelines.sources.listing import documents_table
from schemas.errors import GemstreamError, JobError, SnapshotGone
from schemas.rows import KEPT, PartKind, listed_schema
from workers.fetch import IN_DOUBT
from workers.originals import Firsts
from workers.registry import EXPANDERS, resolve
from workers.sinks.reading import read_parts
from workers.sniff import HEAD_BYTES, sniff
from workers.storage import ObjectInfo
from workers.storage.factory import join, list_if_there, look_up, open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from pipelines.plan import Plan
    from pipelines.sources import Source

_PASSING = ("kept", "address")
"""Columns of a list that are of no use once the run has ended; an address may be what a job hides."""

DIGESTED = ("document_id", "version", "document_digest")

ROUTERS = 16
"""Threads that read heads of objects when there is more than one lane, and look up what could not be: each is
one small request."""


GROUP_ROWS = 100_000
"""Of a row group of the list, some 20 MB."""


def chunk_uri(output: str, run_id: str, index: int) -> str:
    """Where the n-th piece of a run's list lies."""
    return join(output, "_runs", run_id, "listed", f"{index:06d}.parquet")


@dataclass(frozen=True)
class Listed:
    """How far the listing is; `skipped` are those that go through no lane, `passed` those that are not listed
    at all, as earlier runs have done them and nothing about them has changed."""

    documents: int
    skipped: int
    ended: bool
    passed: int = 0

    @property
    def earlier(self) -> int:
        """Documents that the output holds already, listed or not."""
        return self.skipped + self.passed


class Feed:
    """Walks the source in a thread of its own. Lives in an actor; knows nothing of Ray.

    Args:
        plan: where to write, what is current.
        source: what to walk.
    """

    def __init__(self, plan: Plan, source: Source) -> None:
        self._plan = plan
        self._source = source
        self._schema = listed_schema(plan.attributes)
        self._chunks = 0
        self._documents = 0
        self._skipped = 0
        self._passed = 0
        self._ended = False
        self._stopping = False
        self._fault: BaseException | None = None
        self._firsts = Firsts()
        self._begun: dict[str, str] = {}
        self._naming = threading.Lock()
        self._seeded = threading.Event()
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._walk, name="feed", daemon=True)
        self._thread.start()

    async def ready(self, index: int) -> bool:
        """Wait until chunk `index` is written; False when the list ended before it, well or not.

        A lane passes on what was listed before a fault and ends, so that its answers are kept; the
        fault is for the driver, from `check`.
        """
        return await asyncio.to_thread(self._wait, index)

    def progress(self) -> Listed:
        """Counts so far."""
        with self._news:
            return Listed(self._documents, self._skipped, self._ended, self._passed)

    async def first(self, digest: str, document_id: str) -> str:
        """Who is asked for all with this content: the first that is met, or one with all parts answered."""
        if not self._seeded.is_set():
            await asyncio.to_thread(self._seeded.wait)
        with self._naming:
            return self._firsts.add(digest, document_id)

    def stop(self) -> None:
        """Hand out nothing more; the walk ends at its next chunk."""
        with self._news:
            self._stopping = True
            self._news.notify_all()

    async def ended(self) -> None:
        """Wait until nothing more is listed."""
        await asyncio.to_thread(self._thread.join)

    def check(self) -> None:
        """Raise what stopped the listing, if anything did."""
        if self._fault is not None:
            raise self._fault

    def _wait(self, index: int) -> bool:
        with self._news:
            self._news.wait_for(lambda: self._chunks > index or self._ended or self._stopping)
            return self._chunks > index and not self._stopping

    def _walk(self) -> None:
        try:
            ledger = read_ledger(self._plan)
            self._seed(ledger)
            self._passed = passed_over(self._plan, self._source, ledger)
            with ThreadPoolExecutor(ROUTERS, thread_name_prefix="route") as routers:
                for documents in walk(self._plan, self._source, ledger):
                    if self._stopping:
                        break
                    self._publish(self._routed(documents, ledger, routers), ledger)
        except BaseException as error:  # noqa: BLE001 - kept for `check`, which raises it
            self._fault = self._told(error)
        finally:
            self._seeded.set()
            with self._news:
                self._ended = True
                self._news.notify_all()

    def _told(self, error: BaseException) -> BaseException:
        """A job that is wrong is one of which nothing was started. What turns out to be wrong further down a
        list, or was taken away under it, ends a run that has asked already, as a store does that fails."""
        if isinstance(error, SnapshotGone) or (isinstance(error, JobError) and self._chunks):
            return GemstreamError(error.message, **error.fields)
        return error

    def _seed(self, ledger: Ledger) -> None:
        """Documents of which all parts are answered are originals of whatever has their content. With `force`
        they are asked again, and with them the first of each content that is met."""
        plan = self._plan
        if plan.attaches and not plan.selection.force:
            told = np.zeros(len(ledger.originals), bool)
            for folder in ("documents", *_a_task_of_each_kind(plan)):
                if folder != "documents" and told.all() and len(self._begun) >= len(ledger.begun):
                    break  # but for what a run answered that was ended before it wrote documents' rows
                settled_down()(self._seed_from, folder, ledger, told)
        self._seeded.set()

    def _seed_from(self, folder: str, ledger: Ledger, told: npt.NDArray[np.bool_]) -> None:
        """`told` becomes true of each of the ledger's originals that is met; of what is half done it is kept
        what its content is."""
        plan = self._plan
        for part in read_parts(plan.output, plan.job.storage, folder, DIGESTED, _each_once, DIGESTED):
            told[ledger.places(part.rows).drop_null().to_numpy()] = True
            digested = part.rows.filter(pc.is_valid(part.rows["document_digest"]))
            rows = digested.filter(pc.is_valid(ledger.places(digested)))
            self._firsts.seed(rows["document_digest"], rows["document_id"])
            begun = digested.filter(pc.is_valid(places_in(names_of(digested), ledger.begun)))
            self._begun.update(
                zip(names_of(begun).to_pylist(), begun["document_digest"].to_pylist(), strict=True)
            )

    def _prefer(self, documents: pa.Table) -> None:
        """What is half done, and goes on in this run, is the original of whatever has its content, before any
        of its copies is met: of these all parts would be asked."""
        names = names_of(documents).to_pylist() if self._begun else ()
        with self._naming:
            for name, document_id in zip(names, documents["document_id"].to_pylist(), strict=False):
                if name in self._begun:
                    self._firsts.add(self._begun[name], document_id)

    def _routed(self, documents: pa.Table, ledger: Ledger, routers: ThreadPoolExecutor) -> pa.Table:
        """Mark what is owed and what is not, and name the lane of the rest."""
        documents = self._met_again(in_scope(documents, self._plan), routers)
        reasons = ledger.reasons(documents)
        skipped = ledger.skipped(reasons)
        idle = pc.or_(skipped, pc.invert(ledger.needed(documents)))
        self._prefer(documents.filter(pc.invert(idle)))
        pools = self._lanes(documents, idle, routers)
        documents = documents.drop_columns("lane").append_column("lane", pools)
        documents = documents.append_column("reason", reasons).append_column("skipped", skipped)
        documents = documents.append_column("kept", self._kept(documents, ledger))
        return documents.select(self._schema.names).cast(self._schema)

    def _met_again(self, documents: pa.Table, routers: ThreadPoolExecutor) -> pa.Table:
        """What could not be looked up when it was listed is looked up once more: without its version, what is
        done would be taken for something new."""
        unknown = pc.equal(documents["version"], "").combine_chunks()
        places = places_of(documents).filter(unknown).to_pylist()
        if not places:
            return documents
        found = documents_table(list(routers.map(self._info, places)))
        for name in ("version", "size", "modified"):
            at = documents.schema.get_field_index(name)
            known, told = documents[name].combine_chunks(), found[name].combine_chunks()
            known = pc.replace_with_mask(known, unknown, told)
            documents = documents.set_column(at, documents.schema.field(at), known)
        return documents

    def _info(self, uri: str) -> ObjectInfo:
        unknown = ObjectInfo(uri=uri, version="", size=-1)
        if self._stopping:
            return unknown
        try:
            # An outage was waited for when it was listed; a thousand of them are not waited for once more.
            return look_up(uri, impatient(self._plan.job.storage))
        except GemstreamError:  # the expand stage says what is wrong with it
            return unknown

    def _kept(self, documents: pa.Table, ledger: Ledger) -> pa.Array:
        """The answers that each document has; see IN_DOUBT."""
        kept, unknown = ledger.kept_answers(documents), pc.equal(documents["version"], "")
        if self._plan.selection.force or not pc.any(unknown).as_py():
            return kept
        in_doubt = pc.and_(unknown.combine_chunks(), ledger.answered(documents))
        return pc.if_else(in_doubt, pa.scalar([IN_DOUBT], KEPT), kept)

    def _lanes(self, documents: pa.Table, idle: pa.Array, routers: ThreadPoolExecutor) -> pa.Array:
        """The lane of each document; none of one that needs none, of which not even the first bytes are
        fetched."""
        nowhere = pa.nulls(len(documents), pa.string())
        if len(self._plan.lanes) == 1:
            return pc.if_else(idle, nowhere, self._plan.lanes[0].pool)
        due = documents.filter(pc.invert(idle))
        found = routers.map(self._lane, places_of(due).to_pylist(), due["version"].to_pylist())
        return pc.replace_with_mask(nowhere, pc.invert(idle), pa.array(list(found), pa.string()))

    def _lane(self, uri: str, version: str) -> str:
        """The lane whose model takes this document, by its first bytes. What cannot be read or is no
        document goes to the first lane, whose expand stage says what is wrong with it."""
        first = self._plan.lanes[0].pool
        if not version:  # a manifest's row that could not be looked up, and perhaps may not be
            return first
        try:
            head = open_storage(uri, self._plan.job.storage).read(uri, version=version, length=HEAD_BYTES)
            expander = sniff(head, uri).expander
        except GemstreamError:
            return first
        if expander is None:
            return first
        kind: PartKind = resolve(EXPANDERS, expander, "expander").part_kind
        return next((lane.pool for lane in self._plan.lanes if kind.value in lane.tasks_by_kind), first)

    def _publish(self, documents: pa.Table, ledger: Ledger) -> None:
        if not len(documents):
            return
        body = io.BytesIO()
        pq.write_table(documents, body, compression="zstd")
        uri = chunk_uri(self._plan.output, self._plan.run_id, self._chunks)
        open_storage(uri, self._plan.job.storage).publish(uri, body.getvalue())
        met = versions_met(ledger, documents) if self._passed else 0
        with self._news:
            self._chunks += 1
            self._passed -= met
            self._documents += len(documents)
            self._skipped += documents["lane"].null_count
            self._news.notify_all()


def _a_task_of_each_kind(plan: Plan) -> list[str]:
    """Folders of records that between them speak of all documents with answers."""
    return sorted({f"records/task={names[0]}" for names in plan.tasks_by_kind.values() if names})


def _each_once(rows: pa.Table) -> pa.Table:
    return encoded(rows).group_by(list(DIGESTED), use_threads=False).aggregate([])


def places_of(documents: pa.Table) -> pa.ChunkedArray:
    """Where the bytes of each document are."""
    return pc.coalesce(documents["address"], documents["uri"])


def in_scope(documents: pa.Table, plan: Plan) -> pa.Table:
    """The listed documents that are this run's: not its own output, and of its shard if it has one."""
    documents = documents.filter(pc.invert(pc.starts_with(places_of(documents), join(plan.output, ""))))
    shard = plan.selection.shard
    if shard is None:
        return documents
    return documents.filter(pa.array(shard.holds(documents["document_id"].to_pylist()), pa.bool_()))


def read_list(plan: Plan, columns: list[str]) -> pa.Table:
    """Some columns of all that a run listed."""
    return pa.concat_tables([_list_schema(columns).empty_table(), *_listed(plan, columns)])


def close_list(plan: Plan) -> None:
    """Make one file of a list that nobody follows any more: ten thousand a run would slow every listing
    of the output. Little of it is held at once, beside what it comes to as Parquet."""
    storage, folder = open_storage(plan.output, plan.job.storage), join(plan.output, "_runs", plan.run_id)
    columns = [field.name for field in listed_schema(None) if field.name not in _PASSING]
    body, waiting, rows = io.BytesIO(), list[pa.Table](), 0
    with pq.ParquetWriter(body, _list_schema(columns), compression="zstd") as writer:
        for table in _listed(plan, columns):
            waiting.append(table)
            rows += len(table)
            if rows >= GROUP_ROWS:
                writer.write_table(pa.concat_tables(waiting))
                waiting, rows = [], 0
        writer.write_table(pa.concat_tables([_list_schema(columns).empty_table(), *waiting]))
    storage.publish(join(folder, "listed.parquet"), body.getvalue())
    for info in list_if_there(storage, join(folder, "listed")):
        storage.delete(info.uri)


def _list_schema(columns: list[str]) -> pa.Schema:
    return pa.schema([listed_schema(None).field(name) for name in columns])


def _listed(plan: Plan, columns: list[str]) -> Iterator[pa.Table]:
    storage = open_storage(plan.output, plan.job.storage)
    for info in list_if_there(storage, join(plan.output, "_runs", plan.run_id, "listed")):
        yield pq.read_table(io.BytesIO(storage.read(info.uri)), columns=columns).select(columns)


def read_chunk(plan: Plan, index: int, lane: str) -> Iterator[pa.Table]:
    """The documents of one chunk that go through a lane."""
    uri = chunk_uri(plan.output, plan.run_id, index)
    table = pq.read_table(io.BytesIO(open_storage(uri, plan.job.storage).read(uri)))
    mine = table.filter(pc.equal(table["lane"], lane))
    if len(mine):
        yield mine.drop_columns(["skipped", "reason"])
