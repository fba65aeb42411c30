"""Where stages say how far they are, and hear that the run is to end. The driver hands them one that
reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class Meter(Protocol):
    """Counts per stage, for the progress lines; the report's counts come from the files."""

    def add(self, stage: str, done: int = 0, failed: int = 0, **more: int) -> None:
        """Count work that a stage has finished, once per table; never blocks, never fails the stage.

        Args:
            stage: whose.
            done: units of it that came out well.
            failed: units that did not.
            **more: whatever else it counts, by name: `parts`, `crashes`, `retries`, `starts`, and
                `placed`: workers that are on a node, which had room for them.
        """
        ...

    def spent(self, stage: str, seconds: Mapping[str, float]) -> None:
        """Add what one worker of a stage did with its time, by state (`workers.clock`); never blocks."""
        ...

    def draining(self) -> bool:
        """Whether the run is being ended: what has begun is finished, nothing else is begun. False as well
        where nobody can be asked; may block for some seconds, never fails the stage."""
        ...
