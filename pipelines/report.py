"""What a run was: one object, shown as text and written as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from pipelines.history import History
from pipelines.reckoning import Reckoning
from pipelines.verdict import TOO_LITTLE, Bottleneck
from schemas.selection import Selection

if TYPE_CHECKING:
    from rich.console import RenderableType

EXIT_DONE, EXIT_CRASH, EXIT_BAD_JOB, EXIT_FAILED_SHARE, EXIT_BREACH = 0, 1, 2, 3, 4


class Counts(BaseModel):
    """Documents, each counted once: `listed` is the sum of the others, or the run says who is missing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listed: int = 0
    ok: int = 0
    partial: int = 0
    failed: int = 0
    filtered: int = 0
    skipped: int = 0

    @property
    def unaccounted(self) -> int:
        """Documents that were listed and of which nothing was heard."""
        return self.listed - self.ok - self.partial - self.failed - self.filtered - self.skipped


class TaskCounts(BaseModel):
    """One task over a run. `invalid` of the answers have fields that do not hold; `cached_tokens` of the
    prompts' were in the engine's prefix cache already; `seconds` is the sum of the requests' times in the
    engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: int
    invalid: int = 0
    prompt_tokens: int
    cached_tokens: int = 0
    output_tokens: int
    seconds: float


class TextLayerCounts(BaseModel):
    """How a task reads pages by eye, held against their own text layers where those can be trusted: `errors`
    in the `characters` of the `pages` that it read, `cer` their ratio, as `gemstream evaluate` has it.
    `not_read` are the pages of which the model made no answer of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pages: int
    not_read: int = 0
    errors: int
    characters: int
    cer: float | None


class FaultCounts(BaseModel):
    """How often a stage ended in a category."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: str
    stage: str
    category: str
    rows: int


class TableCounts(BaseModel):
    """A table of a data lake at the end of a run: its version, and the rows that came and went. A row that
    another has replaced counts as both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    version: str
    added: int = 0
    removed: int = 0

    @property
    def sentence(self) -> str:
        """What became of it, in one line."""
        if not self.added and not self.removed:
            return f"{self.uri} was up to date, at version {self.version}"
        return f"{self.uri} is at version {self.version}: {self.added} rows came, {self.removed} went"


class RunReport(BaseModel):
    """One run. `counts` are documents; `tasks` and `faults` are answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    output: str
    started: datetime
    seconds: float
    counts: Counts
    duplicates: int = Field(0, description="Of those, documents that have the answers of another one.")
    near: int = Field(
        0, description="Groups of documents and pages that are the same, or nearly, in `near/`."
    )
    media: dict[str, int] = Field(default_factory=dict)
    tasks: dict[str, TaskCounts] = Field(default_factory=dict)
    text_layer: dict[str, TextLayerCounts] = Field(default_factory=dict)
    faults: tuple[FaultCounts, ...] = ()
    redactions: dict[str, int] = Field(
        default_factory=dict, description="What was taken out of texts, by kind; never the values."
    )
    bottlenecks: dict[str, Bottleneck] = Field(default_factory=dict, description="By pool of engines.")
    reckoning: Reckoning | None = Field(
        None, description="What it took, beside what was expected, where the job has rates or prices."
    )
    history: History = History()
    selection: Selection = Selection()
    models: dict[str, str] = Field(default_factory=dict, description="Pool of engines -> model@revision.")
    versions: dict[str, str] = Field(default_factory=dict, description="Of what it ran on.")
    page: str | None = Field(None, description="Where its page is; told by the run, as the page comes last.")
    files: int = 0
    tables: dict[str, TableCounts] = Field(default_factory=dict, description="Of a data lake, by name.")
    stopped: str | None = Field(None, description="Why the run ended before its list did.")
    unsettled: tuple[str, ...] = Field((), description="Documents that still owe answers, by URI.")
    failed_share: float = 0.0
    allowed_share: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 done, 3 too many documents failed, 4 the counts do not add up."""
        if self.stopped is not None or self.failed_share > self.allowed_share:
            return EXIT_FAILED_SHARE
        if self.counts.unaccounted or self.unsettled:
            return EXIT_BREACH
        return EXIT_DONE

    @property
    def verdict(self) -> str:
        """The outcome in one line, with the next step."""
        if self.stopped is not None:
            return f"stopped: {self.stopped}: see {self.output}/errors"
        if self.exit_code == EXIT_FAILED_SHARE:
            return (
                f"{100 * self.failed_share:.3g}% of documents failed, {100 * self.allowed_share:.3g}% are "
                f"allowed (limits.failed_share): see {self.output}/errors"
            )
        if self.exit_code == EXIT_BREACH:
            lost = max(self.counts.unaccounted, len(self.unsettled))
            return f"{lost} documents are unaccounted for: run it again"
        if not self.counts.listed:
            return "nothing to do: no document under the input"
        if self.counts.skipped == self.counts.listed and self.selection.only:
            return "nothing to do: no document is one of those that were selected"
        if self.counts.skipped == self.counts.listed:
            return "nothing to do: the output holds every answer already"
        return "done"

    def table(self) -> RenderableType:
        """The report as tables of a terminal."""
        from rich.console import Group
        from rich.table import Table

        counts = Table(
            "listed", "ok", "partial", "failed", "filtered", "skipped", title=f"documents, run {self.run_id}"
        )
        values = self.counts
        counts.add_row(
            *(
                str(v)
                for v in (
                    values.listed,
                    values.ok,
                    values.partial,
                    values.failed,
                    values.filtered,
                    values.skipped,
                )
            )
        )
        tables: list[RenderableType] = [counts]
        if self.duplicates:
            tables.append(f"{self.duplicates} of them with the content of another, asked once for both")
        if self.near:
            tables.append(f"{self.near} groups of what is the same, or nearly: {self.output}/near")
        if self.tasks:
            names = ("task", "answers", "invalid", "tokens in", "cached", "tokens out", "s each")
            tasks = Table(*names, title="answers")
            for name, task in sorted(self.tasks.items()):
                tasks.add_row(
                    name,
                    str(task.answers),
                    str(task.invalid),
                    str(task.prompt_tokens),
                    f"{task.cached_tokens / task.prompt_tokens:.0%}" if task.prompt_tokens else "-",
                    str(task.output_tokens),
                    f"{task.seconds / task.answers:.2f}" if task.answers else "-",
                )
            tables.append(tasks)
        if self.text_layer:
            held = Table(
                *("task", "pages", "not read", "characters", "wrong"),
                title="read by eye, against the pages' own text",
            )
            for name, found in sorted(self.text_layer.items()):
                wrong = "-" if found.cer is None else f"{found.cer:.2%}"
                held.add_row(name, str(found.pages), str(found.not_read), str(found.characters), wrong)
            tables.append(held)
        if self.faults:
            faults = Table("rows", "status", "stage", "category", title="not answered")
            for fault in sorted(self.faults, key=lambda fault: -fault.rows):
                faults.add_row(str(fault.rows), fault.status, fault.stage, fault.category)
            tables.append(faults)
        if self.redactions:
            taken = ", ".join(f"{count} {kind}" for kind, count in self.redactions.items())
            tables.append(f"taken out of texts: {taken}")
        if self.reckoning is not None:
            tables.append(self.reckoning.table())
        for pool, verdict in self.bottlenecks.items():
            verb = ":" if verdict.sentence == TOO_LITTLE else " was held up by"
            tables.append(f"{pool}{verb} {verdict.sentence}")
        tables += [found.sentence for found in self.tables.values()]
        return Group(*tables)
