"""Caption: one sentence on what a picture or a page shows."""

from __future__ import annotations

from schemas.rows import PartKind
from schemas.tasks.base import Task


class Caption(Task):
    """What is to be seen, in one sentence."""

    kind = "caption"
    parts = frozenset({PartKind.PAGE, PartKind.IMAGE})

    max_tokens: int = 128

    def question(self) -> str:
        """Ask for the caption alone."""
        return self.prompt or (
            "Describe this image in one sentence that would let a person find it again. "
            "Answer with the sentence only."
        )
