"""How good an output is: one object, shown as tables, printed as JSON, kept as `quality.json`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import JobError, ObjectMissing
from workers.storage.factory import join, open_storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import RenderableType

    from workers.storage import StorageOptions

SHOWN, WORST = 20, 5
"""Fields, and documents of a task, that a terminal lists; `--json` has them all."""


class TaskQuality(BaseModel):
    """One task, over all its references. Scores are of the sums over them (micro averages)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    documents: int
    references: int
    missing: int = Field(description="References without an answer: they count as answers that say nothing.")
    unreferenced: int = Field(description="Answers without a reference: they count for nothing.")
    scores: dict[str, float]
    details: dict[str, dict[str, float]] = Field(
        description="The same by field or label, where there are any."
    )


class DocumentQuality(BaseModel):
    """One task, over the references to one document."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    task: str
    references: int
    missing: int
    scores: dict[str, float]


class Quality(BaseModel):
    """What `gemstream evaluate` found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: str
    references: str
    tasks: dict[str, TaskQuality]
    documents: tuple[DocumentQuality, ...] = Field(description="By task, the worst first.")
    unknown: tuple[str, ...] = Field(
        (), description="Names in the references that no document has; their answers are missing."
    )
    unused: tuple[str, ...] = Field((), description="Columns of the references that were not compared.")
    left_out: dict[str, int] = Field(
        default_factory=dict, description="Why a page of the sample has no reference -> how many."
    )

    def breaches(self, at_least: Iterable[str], at_most: Iterable[str]) -> list[str]:
        """Which of the bounds do not hold, in words.

        Args:
            at_least: `task.score=value`, for scores that should be high.
            at_most: the same, for error rates.

        Raises:
            JobError: a bound that is none, or of a score that there is not.
        """
        found = []
        for bound in at_least:
            score, value = self._bound(bound, "--at-least")
            if score < value:
                found.append(f"{bound.partition('=')[0]} is {score:.4f}, at least {value:g} is asked for")
        for bound in at_most:
            score, value = self._bound(bound, "--at-most")
            if score > value:
                found.append(f"{bound.partition('=')[0]} is {score:.4f}, at most {value:g} is asked for")
        return found

    def _bound(self, bound: str, flag: str) -> tuple[float, float]:
        name, _, value = bound.partition("=")
        known = {
            f"{task}.{score}": v for task, found in self.tasks.items() for score, v in found.scores.items()
        }
        try:
            wanted = float(value)
            if math.isnan(wanted):
                raise ValueError("no score is out of such a bound")
            return known[name], wanted
        except KeyError:
            raise JobError(f"{flag} {bound!r}: one of {', '.join(known)}", key=flag) from None
        except ValueError as error:
            raise JobError(f"{flag} {bound!r}: write it as task.score=0.95", key=flag) from error

    def table(self) -> RenderableType:
        """The totals, and those by field or label, as tables of a terminal."""
        from rich.console import Group
        from rich.table import Table

        totals = Table(
            *("task", "documents", "references", "missing", "unreferenced", "scores"), title="quality"
        )
        details = Table("task", "field or label", "scores", title="by field or label")
        for name, task in self.tasks.items():
            counts = (task.documents, task.references, task.missing, task.unreferenced)
            # One below the other: beside the counts, a terminal of 80 columns has no room for three.
            totals.add_row(name, *map(str, counts), _said(task.scores, "\n"))
            for detail, scores in list(task.details.items())[:SHOWN]:
                details.add_row(name, detail, _said(scores))
        return Group(*(table for table in (totals, details) if table.row_count))

    def lines(self) -> Iterator[str]:
        """The worst documents of each task, a line each so that grep finds them; what was not compared."""
        for name, task in self.tasks.items():
            worst = [document for document in self.documents if document.task == name][:WORST]
            if task.documents > len(worst):
                yield f"the worst of {task.documents} documents, {name} (--json has them all):"
            for document in worst:
                missing = f", {document.missing} of {document.references} missing" if document.missing else ""
                yield f"{document.uri} {name}: {_said(document.scores)}{missing}"
        for reason, count in sorted(self.left_out.items()):
            yield f"left out, {count}: {reason}"
        if self.unused:
            yield f"columns that were not compared: {', '.join(self.unused)}"
        if self.unknown:
            yield f"no such document, {len(self.unknown)}: {', '.join(map(repr, self.unknown[:SHOWN]))}"


def _said(scores: dict[str, float], between: str = ", ") -> str:
    return between.join(f"{name} {value:.4f}" for name, value in scores.items())


def read_quality(output: str, options: StorageOptions, run_id: str) -> Quality | None:
    """What was kept with a run; None where nothing was.

    Raises:
        JobError: another version of Gemstream kept it.
        GemstreamError: the output cannot be read.
    """
    uri = join(output, "_runs", run_id, "quality.json")
    try:
        return Quality.model_validate_json(open_storage(uri, options).read(uri))
    except ObjectMissing:
        return None
    except ValidationError as error:
        raise JobError(f"{uri} is of another version: evaluate again", key="run") from error


def save(quality: Quality, options: StorageOptions, run_id: str | None = None) -> str:
    """Keep it in the folder of a run, the latest if none is named. What was there is replaced.

    Returns:
        Its address.

    Raises:
        JobError: there is no such run.
        GemstreamError: the output cannot be read or written.
    """
    runs = join(quality.output, "_runs")
    storage = open_storage(runs, options)
    try:
        found = [info.uri for info in storage.list(runs) if info.uri.endswith("/job.yaml")]
    except ObjectMissing:
        found = []
    # Run ids begin with their time.
    folder = join(runs, run_id) if run_id else max(found, default="/").rpartition("/")[0]
    if f"{folder}/job.yaml" not in found:
        raise JobError(f"{quality.output} has no run {run_id or 'at all'} to save this with", key="run")
    uri = join(folder, "quality.json")
    storage.publish(uri, quality.model_dump_json(indent=2).encode())
    return uri
