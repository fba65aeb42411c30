"""The progress counts of a run: stages on any node add to them, the driver reads them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.actor import ActorHandle


class MeterActor:
    """Holds the counts of one run; lives in an actor."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._draining = False

    def add(self, stage: str, done: int, failed: int) -> None:
        """Add a stage's counts."""
        self._counts[stage, "done"] += done
        self._counts[stage, "failed"] += failed

    def drain(self) -> None:
        """From now on nothing more is begun."""
        self._draining = True

    def draining(self) -> bool:
        """Whether it has been said."""
        return self._draining

    def read(self) -> dict[tuple[str, str], int]:
        """Counts by (stage, "done" | "failed")."""
        return dict(self._counts)


@dataclass(frozen=True)
class MeterHandle:
    """A `workers.meter.Meter` that reaches the actor from any process: sent, and not waited for."""

    actor: ActorHandle[Any]

    def add(self, stage: str, done: int = 0, failed: int = 0) -> None:
        """Count work that a stage has finished."""
        self.actor.add.remote(stage, done, failed)

    def draining(self) -> bool:
        """See `workers.meter.Meter`."""
        import ray

        said: bool = ray.get(self.actor.draining.remote())
        return said
