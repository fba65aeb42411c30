"""Which of the listed documents a run works on, and why a document has anything to be done."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from schemas.shard import Shard


class Reason(StrEnum):
    """Why a document is worked on, in the order in which one goes before another."""

    DONE = "done"
    """The output holds every answer: nothing to do."""
    NEW = "new"
    """The output holds nothing about it."""
    VERSION = "new version"
    """It was replaced in the source since it was answered."""
    CHANGED = "changed"
    """It is asked otherwise now; `changed: prompt, model` says what is other."""
    FAILED = "failed"
    """An earlier run wrote an error about it."""
    TASK = "new task"
    """It is asked something more."""
    UNFINISHED = "unfinished"
    """An earlier run was ended over it."""
    FILTERED = "filtered"
    """Nothing asked about it when it was met before; looked at again, which costs its first bytes."""
    FORCED = "forced"
    """The output holds every answer, and the run was told to ask again."""


ONLY = {
    "new": frozenset({Reason.NEW, Reason.FILTERED}),
    "changed": frozenset({Reason.VERSION, Reason.CHANGED, Reason.TASK}),
    "failed": frozenset({Reason.FAILED, Reason.UNFINISHED}),
}
"""What `--only` takes -> the reasons it stands for."""


class Selection(BaseModel):
    """What a run is narrowed to, or widened to. It is of one run, so no part of the job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    only: frozenset[Reason] = Field(frozenset(), description="Documents with these reasons; all if empty.")
    categories: frozenset[str] = Field(
        frozenset(), description="Documents with an error of these categories; any if empty."
    )
    force: bool = Field(False, description="Ask everything again, answered or not.")
    shard: Shard | None = Field(None, description="Only the documents of one share of several.")

    @property
    def is_share(self) -> bool:
        """Whether runs of other shares may be at work beside it."""
        return self.shard is not None and self.shard.count > 1

    def takes(self, reason: str) -> bool:
        """Whether a document with this reason (`changed: prompt` counts as `changed`) is worked on."""
        kind = Reason(reason.partition(":")[0])
        if kind is Reason.DONE:
            return False
        return not self.only or kind in self.only or kind is Reason.FORCED
