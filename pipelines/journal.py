"""The journal of one run: an actor that outlives the workers, and the handle they are given."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.actor import ActorHandle

NODES_LOST = 2
"""Nodes that may go with something in hand before it is suspected of that. A spot instance goes without
anybody's fault, and some hundred requests with it; what takes a whole machine down does so every time."""


class JournalActor:
    """Holds what is in hand on any node; memory for that alone."""

    def __init__(self) -> None:
        self._in_hand: defaultdict[str, list[str]] = defaultdict(list)

    def begin(self, key: str, node: str) -> int:
        """See `workers.journal.Journal`; `node` is the id of the worker's."""
        before = self._in_hand[key]
        died = len(before)
        if before:
            alive = _alive()
            died -= min(NODES_LOST, sum(other not in alive for other in before))
        before.append(node)
        return died

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

        node = ray.get_runtime_context().get_node_id()
        died: int = ray.get(self.actor.begin.remote(key, node))
        return died

    def end(self, key: str) -> None:
        """See `workers.journal.Journal`."""
        self.actor.end.remote(key)


def _alive() -> set[str]:
    """Ids of the nodes that there are."""
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
