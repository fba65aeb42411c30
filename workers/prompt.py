"""part x task x model -> request.

The question is always one of ours (or the job's), and the document is only ever media beside it:
nothing of a document's text is pasted into an instruction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.ids import digest
from workers.engines import Media, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.rows import PartKind
    from schemas.tasks.base import Task


@dataclass(frozen=True, slots=True)
class Ask:
    """One task as one model is asked it: made once on the driver, used for every part.

    `made_of` names what the fingerprint is a hash of (`schemas.fingerprint.ingredients`).
    """

    task: Task
    question: str
    fingerprint: str
    made_of: Mapping[str, str]
    max_tokens: int
    ceiling_tokens: int
    seed: int = 0

    def asks(self, kind: PartKind) -> bool:
        """Whether a part of this kind is asked about."""
        return kind in self.task.parts


@dataclass(frozen=True, slots=True)
class Rung:
    """One try of the ladder."""

    attempt: int
    max_tokens: int
    temperature: float


def build(ask: Ask, identity: str, media: Media, rung: Rung) -> Request:
    """The request of one try.

    Args:
        ask: task, question and budget.
        identity: document, version and part, as one string.
        media: what is shown.
        rung: which try this is.
    """
    schema: dict[str, Any] | None = ask.task.json_schema()
    return Request(
        key=digest("request", identity, ask.task.name, ask.fingerprint),
        question=ask.question,
        media=media,
        max_tokens=rung.max_tokens,
        temperature=rung.temperature,
        seed=ask.seed + rung.attempt,
        json_schema=schema,
        choices=ask.task.choices(),
        attempt=rung.attempt,
        adapter=ask.task.adapter,
    )
