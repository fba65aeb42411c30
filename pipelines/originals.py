"""How workers reach what the feed knows of documents with the same content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.actor import ActorHandle


@dataclass(frozen=True)
class OriginalsHandle:
    """A `workers.originals.Originals` that reaches the feed from any process: a call for each document."""

    feed: ActorHandle[Any]

    def is_original(self, digest: str, document_id: str) -> bool:
        """See `workers.originals.Originals`."""
        import ray

        first: str = ray.get(self.feed.first.remote(digest, document_id))
        return first == document_id
