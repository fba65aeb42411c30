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
        self._counts: Counter[tuple[str, str]] = Counter()
        self._seconds: defaultdict[tuple[str, str, str], float] = defaultdict(float)
        self._draining = False

    def add(self, stage: str, done: int, failed: int) -> None:
        """Add a stage's counts."""
        self._counts[stage, "done"] += done
        self._counts[stage, "failed"] += failed

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

    def read(self) -> dict[tuple[str, str], int]:
        """Counts by (stage, "done" | "failed")."""
        return dict(self._counts)

    def times(self) -> dict[tuple[str, str, str], float]:
        """Seconds by (lane, stage, state)."""
        return dict(self._seconds)


def placed_in(lane: str) -> str:
    """What the engines' workers of a lane are counted as, that have come to be on some node."""
    return f"engines of {lane}"


@dataclass(frozen=True)
class MeterHandle:
    """A `workers.meter.Meter` that reaches the actor from any process: sent, and not waited for. `lane` is
    whose workers have it."""

    actor: ActorHandle[Any]
    lane: str = ""

    def add(self, stage: str, done: int = 0, failed: int = 0) -> None:
        """Count work that a stage has finished."""
        self.actor.add.remote(stage, done, failed)

    def spent(self, stage: str, seconds: Mapping[str, float]) -> None:
        """Add what one worker of a stage did with its time."""
        self.actor.spent.remote(self.lane, stage, dict(seconds))

    def placed(self) -> None:
        """See `workers.meter.Meter`."""
        self.actor.add.remote(placed_in(self.lane), 1, 0)

    def draining(self) -> bool:
        """See `workers.meter.Meter`."""
        import ray

        said: bool = ray.get(self.actor.draining.remote())
        return said
