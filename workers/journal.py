"""What is being worked on, written down where it outlives the worker: who is named there twice killed it."""

from __future__ import annotations

from typing import Protocol

MAX_DEATHS = 2
"""Workers that may die with something in hand before it is given up. One may have died of anything; what
was in hand then is worked on alone, and the second death has one culprit."""


class Journal(Protocol):
    """Where a worker says what it takes in hand. Ray runs the work of a dead worker again, without end."""

    def begin(self, key: str) -> int:
        """Take something in hand; how many workers that said so before may have died of it; one whose
        whole machine went did not, unless that happens again and again."""
        ...

    def end(self, key: str) -> None:
        """It is done with, well or not; never blocks."""
        ...
