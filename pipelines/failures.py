"""The dead letters: what failed and is not made good yet, grouped and listed; and the way to try it again."""

from __future__ import annotations

import io
import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, Field

from pipelines.flags import job_of, storage_of
from pipelines.occupancy import refuse_no_output
from schemas.errors import JobError, ObjectMissing, categories
from schemas.job import overlay
from schemas.rows import ERRORS
from schemas.secrets import MASK
from schemas.selection import ONLY, Reason, Selection
from schemas.storage import StorageOptions
from workers.sinks.reading import read_columns
from workers.storage.factory import join, normalise, open_storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import RenderableType

    from schemas.job import JobSpec

MASKED = ("expand", "engine", "storage", "sink", "table")
"""Parts of a job that are written down without their secrets (`JobSpec.public`)."""
COLUMNS = ["uri", "part_index", "task", "stage", "category", "message", "setting", "attempts", "run_id"]
SHOWN = 50
"""Rows listed on a terminal; `--json` has them all."""


class Group(BaseModel):
    """How often a stage ended in a category."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: str
    stage: str
    rows: int
    documents: int
    setting: str | None = Field(description="The limit to raise, where one was hit.")
    example: str = Field(description="One of the messages.")


class Failures(BaseModel):
    """What an output's `errors/` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: str
    groups: tuple[Group, ...]
    rows: tuple[dict[str, Any], ...]

    def table(self) -> RenderableType:
        """The groups as a table of a terminal."""
        from rich.table import Table

        table = Table("documents", "rows", "stage", "category", "setting", "for example", title="failed")
        for group in self.groups:
            counts = (str(group.documents), str(group.rows))
            table.add_row(*counts, group.stage, group.category, group.setting, group.example)
        return table

    def lines(self) -> Iterator[str]:
        """The rows, a line each so that grep finds them; and what to do next."""
        if not self.rows:
            yield f"nothing failed in {self.output}, or all of it is made good"
            return
        for row in self.rows[:SHOWN]:
            part = "" if row["part_index"] is None else f" part {row['part_index'] + 1}"
            task = f" {row['task']}" if row["task"] else ""
            yield f"{row['uri']}{part}{task}: {row['category']}: {row['message']}"
        if len(self.rows) > SHOWN:
            yield f"and {len(self.rows) - SHOWN} more: --json has them all"
        category = self.groups[0].category
        yield f"to try again: gemstream retry {shlex.quote(self.output)} --category {category}"


def read_failures(output: str, only: Iterable[str] = (), options: StorageOptions | None = None) -> Failures:
    """What failed, the most frequent first.

    Args:
        output: of a job.
        only: categories; all if none is given.
        options: how to reach it.

    Raises:
        JobError: no such category, or no run has written there.
        GemstreamError: the output cannot be read.
    """
    wanted, options = _known(only), options or StorageOptions()
    schema = pa.schema([ERRORS.field(name) for name in COLUMNS])
    tables = [schema.empty_table()]
    for table in read_columns(output, options, "errors", COLUMNS):
        tables.append(table.cast(schema))
    if len(tables) == 1:
        refuse_no_output(output, options, "nothing could have failed there")
    rows = pa.concat_tables(tables).sort_by([("uri", "ascending"), ("part_index", "ascending")]).to_pylist()
    if wanted:
        rows = [row for row in rows if row["category"] in wanted]
    counts = Counter((row["category"], row["stage"]) for row in rows)
    groups = [
        _group(kind, [row for row in rows if (row["category"], row["stage"]) == kind])
        for kind, _ in counts.most_common()
    ]
    return Failures(output=normalise(output), groups=tuple(groups), rows=tuple(rows))


def _group(kind: tuple[str, str], rows: list[dict[str, Any]]) -> Group:
    return Group(
        category=kind[0],
        stage=kind[1],
        rows=len(rows),
        documents=len({row["uri"] for row in rows}),
        setting=rows[0]["setting"],
        example=rows[0]["message"],
    )


def failed_selection(only: Iterable[str]) -> Selection:
    """The documents that failed, with an error of these categories if any are given; if none are, those
    that an earlier run was ended over as well, of which there need be no error.

    Raises:
        JobError: no such category.
    """
    categories = _known(only)
    return Selection(only=frozenset({Reason.FAILED}) if categories else ONLY["failed"], categories=categories)


def last_job(output: str, settings: list[str] | None) -> JobSpec:
    """The job of the newest run below an output, with `--set` on top. Without its limit: what failed may lie
    behind it, and was met by a run before.

    Raises:
        JobError: there is none, or it had secrets, which are not written down.
        GemstreamError: the output cannot be read.
    """
    root = normalise(output)
    storage = open_storage(root, storage_of(settings, others=True))
    try:
        runs = [info.uri for info in storage.list(join(root, "_runs")) if info.uri.endswith("/job.yaml")]
    except ObjectMissing:
        runs = []
    if not runs:
        raise JobError(f"{root} holds no run of Gemstream: nothing to try again", key="output")
    # Run ids begin with their time.
    values = yaml.safe_load(io.BytesIO(storage.read(max(runs))))
    # A prompt may have stars of its own.
    if MASK in str([values.get(name) for name in MASKED]):
        raise JobError(
            f"the job of {max(runs)} had passwords, which no run writes down: name the job file as well",
            key="job",
        )
    return job_of(None, overlay(values, {"output": root, "limit": None}), settings)


def _known(only: Iterable[str]) -> frozenset[str]:
    wanted = frozenset(only)
    unknown = sorted(wanted - categories())
    if unknown:
        raise JobError(f"--category {unknown[0]!r}: one of {', '.join(sorted(categories()))}", key="category")
    return wanted
