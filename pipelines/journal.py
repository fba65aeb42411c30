"""The journal of one run: an actor that outlives the workers, and the handle they are given."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.actor import ActorHandle


class JournalActor:
    """Holds what is in hand on any node; memory for that alone."""

    def __init__(self) -> None:
        self._in_hand: Counter[str] = Counter()

    def begin(self, key: str) -> int:
        """See `workers.journal.Journal`."""
        self._in_hand[key] += 1
        return self._in_hand[key] - 1

    def end(self, key: str) -> None:
        """See `workers.journal.Journal`."""
        del self._in_hand[key]


@dataclass(frozen=True)
class JournalHandle:
    """A `workers.journal.Journal` that reaches the actor from any process."""

    actor: ActorHandle[Any]

    def begin(self, key: str) -> int:
        """See `workers.journal.Journal`."""
        import ray

        before: int = ray.get(self.actor.begin.remote(key))
        return before

    def end(self, key: str) -> None:
        """See `workers.journal.Journal`."""
        self.actor.end.remote(key)
