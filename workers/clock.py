"""What a stage does with its time: the seconds it spends in each of its states, and the places it fills.

It costs a reading of the clock at every turn, so every run can say what held it up.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """One worker that is in one state at a time.

    Args:
        now: seconds on a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._state: str | None = None
        self._since = now()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def turn(self, state: str) -> None:
        """From now on it is in this state."""
        self._count()
        self._state = state

    def take(self) -> dict[str, float]:
        """Seconds by state since the last time this was asked."""
        self._count()
        taken, self._seconds = dict(self._seconds), defaultdict(float)
        return taken

    def _count(self) -> None:
        now = self._now()
        if self._state is not None:
            self._seconds[self._state] += now - self._since
        self._since = now


class Places:
    """An engine with so many places, and the requests in it.

    Its seconds are by state: `full` where every place was taken, `partly`, `empty`, `loading`, and before
    that `unstarted`. `requests` is the sum over the requests of the seconds that each was in it while there
    was a model, `queued` of those that it says they waited inside, `open` that of the places.

    Args:
        places: requests that it works on at once.
        now: seconds on a clock that never goes back.
    """

    def __init__(self, places: int, now: Callable[[], float] = time.monotonic) -> None:
        self._places = places
        self._inside = 0
        self._loading: bool | None = None
        self._clock = Clock(now)
        self._clock.turn("unstarted")
        self._now = now
        self._since = now()
        self._requests = 0.0
        self._queued = 0.0
        self._open = 0.0

    def loading(self) -> None:
        """It is being started: what waits for it, it does not work on."""
        self._turn(loading=True)

    def ready(self) -> None:
        """It is there."""
        self._turn(loading=False)

    def enter(self) -> None:
        """A request goes in."""
        self._turn(change=1)

    def leave(self, queued: float = 0.0) -> None:
        """A request comes out, which waited inside for so many seconds."""
        self._queued += queued
        self._turn(change=-1)

    def take(self) -> dict[str, float]:
        """What it has spent since the last time this was asked."""
        self._turn()
        held = {"requests": self._requests, "queued": self._queued, "open": self._open}
        taken = self._clock.take() | held
        self._requests = self._queued = self._open = 0.0
        return taken

    def _turn(self, change: int = 0, loading: bool | None = None) -> None:
        now = self._now()
        if self._loading is False:
            self._requests += self._inside * (now - self._since)
            self._open += self._places * (now - self._since)
        self._since = now
        self._inside += change
        self._loading = self._loading if loading is None else loading
        self._clock.turn(self._state)

    @property
    def _state(self) -> str:
        if self._loading is None:
            return "unstarted"
        if self._loading:
            return "loading"
        if not self._inside:
            return "empty"
        return "full" if self._inside >= self._places else "partly"
