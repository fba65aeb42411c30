"""The progress counts of a run: stages on any node add to them, the driver reads them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ray.actor import ActorHandle


class MeterActor:
    """Holds the counts of one run; lives in an actor."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._seconds: defaultdict[tuple[str, str, str], float] = defaultdict(float)
        self._draining = False

    def add(self, lane: str, stage: str, counts: Mapping[str, int]) -> None:
        """Add a stage's counts."""
        for what, count in counts.items():
            self._counts[lane, stage, what] += count

    def spent(self, lane: str, stage: str, seconds: Mapping[str, float]) -> None:
        """Add a worker's seconds by state."""
        for state, count in seconds.items():
            self._seconds[lane, stage, state] += count

    def drain(self) -> None:
        """From now on nothing more is begun."""
        self._draining = True

    def draining(self) -> bool:
        """Whether it has been said."""
        return self._draining

    def read(self) -> dict[tuple[str, str, str], int]:
        """Counts by (lane, stage, what): "done", "failed" and whatever else the stage counts."""
        return dict(self._counts)

    def times(self) -> dict[tuple[str, str, str], float]:
        """Seconds by (lane, stage, state)."""
        return dict(self._seconds)


def over_lanes(counts: Mapping[tuple[str, str, str], int]) -> Counter[tuple[str, str]]:
    """Counts by (stage, what), of all lanes together."""
    summed: Counter[tuple[str, str]] = Counter()
    for (_, stage, what), count in counts.items():
        summed[stage, what] += count
    return summed


ANSWER_SECONDS = 10.0
"""For one boolean, from an actor that may be on a node that is gone or stalls."""


@dataclass(frozen=True)
class MeterHandle:
    """A `workers.meter.Meter` that reaches the actor from any process: sent, and not waited for. `lane` is
    whose workers have it."""

    actor: ActorHandle[Any]
    lane: str = ""

    def add(self, stage: str, done: int = 0, failed: int = 0, **more: int) -> None:
        """Count work that a stage has finished."""
        self.actor.add.remote(self.lane, stage, {"done": done, "failed": failed, **more})

    def spent(self, stage: str, seconds: Mapping[str, float]) -> None:
        """Add what one worker of a stage did with its time."""
        self.actor.spent.remote(self.lane, stage, dict(seconds))

    def draining(self) -> bool:
        """See `workers.meter.Meter`."""
        import ray
        from ray.exceptions import RayError

        try:
            said: bool = ray.get(self.actor.draining.remote(), timeout=ANSWER_SECONDS)
        except RayError:
            return False  # if it is gone for good the driver, which reads it, ends the run
        return said
