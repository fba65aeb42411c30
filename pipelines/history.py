"""How far a run was at which second: kept while it goes on, for its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Mapping

POINTS = 600
"""That a report keeps at most, whatever the run's length: 20 kB of JSON."""


class History(BaseModel):
    """Counts so far at each of some moments, as columns of one length. Two looks in between are as one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: tuple[float, ...] = Field((), description="Since the start.")
    listed: tuple[int, ...] = Field((), description="Documents.")
    expanded: tuple[int, ...] = Field((), description="Documents that were taken apart, or could not be.")
    answered: tuple[int, ...] = Field((), description="Questions that have an answer.")
    unanswered: tuple[int, ...] = Field((), description="Questions that ended in an error.")
    written: tuple[int, ...] = Field((), description="Rows of records and errors.")


class Recorder:
    """Takes the counts in. When there are too many points every second one goes, and as long as one and the
    next were apart then, nothing is taken in afterwards: looking more often costs nothing."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int, int, int, int, int]] = [(0.0, 0, 0, 0, 0, 0)]
        self._last = self._points[0]
        self._apart = 0.0

    def add(self, seconds: float, counts: Mapping[tuple[str, str], int], listed: int, written: int) -> None:
        """Take in what the run has come to.

        Args:
            seconds: since its start.
            counts: of the meter, by (stage, "done" | "failed").
            listed: documents.
            written: rows.
        """
        expanded = sum(counts.get(("expand", how), 0) for how in ("done", "failed"))
        answered, unanswered = (counts.get(("infer", how), 0) for how in ("done", "failed"))
        self._last = (round(seconds, 2), listed, expanded, answered, unanswered, written)
        if seconds - self._points[-1][0] < self._apart:
            return
        self._points.append(self._last)
        if len(self._points) > POINTS:
            self._points = self._points[::2]
            self._apart = seconds / len(self._points)

    def history(self) -> History:
        """What was kept, and where it is now."""
        points = self._points if self._points[-1] == self._last else [*self._points, self._last]
        columns = zip(*points, strict=True)
        return History(**dict(zip(History.model_fields, columns, strict=True)))
