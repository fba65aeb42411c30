"""One commit of whole data files: workers write them, the driver takes them in, and takes others out.

What a commit is to bring is worked out of a snapshot. Should somebody else commit meanwhile, it is worked out
anew of the newer one, and what is written already and still wanted is used again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pipelines.cluster import unwrapped
from pipelines.lake.staged import marked
from schemas.errors import ObjectChanged, ObjectMissing, SnapshotGone, StorageUnavailable
from schemas.ids import digest
from workers.tables import KEY, RUN, open_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pipelines.plan import Plan
    from schemas.storage import StorageOptions
    from schemas.tables import Place
    from workers.tables import DataFile, Snapshot, Staged

FILE_ROWS = 100_000
FILE_BYTES = 256 * 1024 * 1024
"""A data file is written at this many rows or bytes of Arrow, whichever comes first: some 64 MB of Parquet,
at the fourth of it that prose comes to (`workers/sinks/parquet.py`). A worker holds one at a time."""

RETRIES = 5
"""Of a portion whose worker was lost."""

ATTEMPTS = 8
"""Commits that others were faster than, before giving way: with as many shards at work side by side, and
waits that double, the last of them has its turn."""


class Portion(Protocol):
    """Some of the rows that a commit brings. Picklable; they are read where they are written."""

    @property
    def name(self) -> str:
        """Of letters, digits and dashes, and of its content: the same rows have the same name."""
        ...

    def rows(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """The rows, some thousand at a time, of the schema.

        Raises:
            ObjectChanged: what they are read of is not there any more (so do ObjectMissing, SnapshotGone):
                look again.
        """
        ...


@dataclass(frozen=True)
class Change:
    """What one commit is to bring to a table.

    Attributes:
        snapshot: what it was worked out of.
        portions: rows to be written and taken in.
        remove: files of the snapshot that go.
        schema: of the table from now on.
        added: rows that are new, of those in `portions`.
        removed: rows that go, of those in `remove`.
    """

    snapshot: Snapshot
    portions: tuple[Portion, ...]
    remove: tuple[DataFile, ...]
    schema: pa.Schema
    added: int = 0
    removed: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be done: new columns come with their first rows."""
        return not self.portions and not self.remove

    @property
    def content(self) -> str:
        """Names what it does, whoever does it and however often."""
        portions = sorted(portion.name for portion in self.portions)
        return digest(*portions, "", *sorted(file.path for file in self.remove), "", str(self.schema))


@dataclass
class Committer:
    """Brings changes to one table, each in one commit.

    Args:
        plan: the run.
        place: of the table.
        properties: of its commits, besides those of every one.
        check: called right before a commit: raises if this run may not write any more.
    """

    plan: Plan
    place: Place
    properties: Mapping[str, str]
    check: Callable[[], None]
    _written: dict[str, tuple[Staged, ...]] = field(default_factory=dict)

    def bring(self, find: Callable[[], Change]) -> Change:
        """Work out what there is to do, write it, and commit it; again, where somebody else was faster.

        Nothing is written and nothing committed where there is nothing to do. Runs on the connected Ray.

        Args:
            find: works it out, of the newest snapshot.

        Returns:
            What was done.

        Raises:
            StorageUnavailable: others kept being faster; or the store or the catalog does not answer.
            GemstreamError: what was written is removed by a later run.
        """
        tries = Retrying(
            retry=retry_if_exception_type((_Overtaken, ObjectChanged, ObjectMissing, SnapshotGone)),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=10),
            reraise=True,
        )
        try:
            return tries(self._try, find)
        except _Overtaken as error:
            # The job is not wrong: the next run, or `gemstream sync`, makes up for it.
            raise StorageUnavailable(
                f"{self.place.uri}: other writers committed each time before this run could, {ATTEMPTS} times"
            ) from error

    def _try(self, find: Callable[[], Change]) -> Change:
        change = find()
        if change.is_empty:
            return change
        plan, table = self.plan, open_table(self.place, self.plan.job.storage)
        with marked(plan.output, plan.job.storage, plan.run_id, self.place):
            table.evolve(change.schema)
            wanted = self._stage(change)
            properties = {**self.properties, RUN: plan.run_id, KEY: self._key(change)}
            self.check()
            if not table.commit(change.snapshot, wanted, change.remove, properties):
                raise _Overtaken
            if len(wanted) < sum(map(len, self._written.values())):
                table.discard(plan.run_id)
        return change

    def _stage(self, change: Change) -> list[Staged]:
        """Have written what is not yet, by tasks of one core each; all files of the change."""
        import ray

        # A file is of its rows and of their columns.
        wanted = {digest(portion.name, str(change.schema)): portion for portion in change.portions}
        new = sorted(wanted.keys() - self._written.keys())
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(write_portion)
        told = (self.place, self.plan.job.storage, self.plan.run_id)
        try:
            files = ray.get([task.remote(*told, name, wanted[name], change.schema) for name in new])
        except ray.exceptions.RayError as error:
            raise unwrapped(error) from error
        self._written |= dict(zip(new, files, strict=True))
        return [file for name in sorted(wanted) for file in self._written[name]]

    def _key(self, change: Change) -> str:
        return digest("commit", self.plan.run_id, self.place.uri, change.content)


class _Overtaken(Exception):
    """Somebody else has committed what this change does not go with."""


def write_portion(
    place: Place, storage: StorageOptions, run_id: str, name: str, portion: Portion, schema: pa.Schema
) -> tuple[Staged, ...]:
    """Write a portion's rows beside those of the table, as files of FILE_ROWS or FILE_BYTES."""
    table = open_table(place, storage)
    pieces = gathered(portion.rows(schema))
    return tuple(table.stage(rows, run_id, f"{name}-{index}") for index, rows in enumerate(pieces))


def gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables as large as data files are to be."""
    held: list[Any] = []
    for table in tables:
        if not len(table):
            continue
        held.append(table)
        if sum(map(len, held)) >= FILE_ROWS or sum(each.nbytes for each in held) >= FILE_BYTES:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)
