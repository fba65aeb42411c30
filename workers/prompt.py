"""part x task x model -> request.

The instruction is always one of ours, or the job's. A document is media beside it, or text below it
between marks that it cannot forge; either way it is data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from string import Template
from typing import TYPE_CHECKING, Any

from schemas.ids import digest
from schemas.rows import PartKind, Shown
from workers.engines import Media, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from schemas.tasks.base import Task

MARKUP = re.compile(
    r"<(?:/?(?:bos|eos|pad|unk|mask|start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token"
    r"|start_of_audio|end_of_audio|audio_soft_token|unused\d+)|\|[^<>|]{0,40}\|?|[^<>|]{0,40}\|)>"
    r"|<\s*+(?:/\s*+)?document\b(?:[^<>]*+>)?",
    re.IGNORECASE,
)
"""What ends a turn, in any spelling that Gemma's tokenizers read as one token, or a document, in any that a
model may take for our mark, which is no token: in the text of a document it is text. Nothing in it is tried
again (`*+`), so that a long row of spaces takes no longer than it is."""
BRACKETS = str.maketrans("<>", "‹›")
VALUE_CHARACTERS = 500
"""Of a manifest's value in a prompt; what is longer is no name, and is cut."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part to ask about. `identity` is document, version and part, as one string; without `media` it is
    shown as its `text`; `columns` are what a prompt may fill in. `trusted` is whether a page's `text` says
    what it shows, None where nobody asked, and `checked` what such a page looks like, if it is to be read by
    eye as well."""

    identity: str
    media: Media | None
    text: str | None
    kind: PartKind
    kept: frozenset[str] = frozenset()
    columns: Mapping[str, str] = field(default_factory=dict)
    trusted: bool | None = None
    checked: Media | None = None

    @property
    def silent(self) -> bool:
        """Whether it is a recording in which nobody speaks."""
        return self.kind is PartKind.AUDIO and self.media is None and self.text is None

    @property
    def shown(self) -> Shown:
        """How it is put before the model."""
        if self.media is None:
            return Shown.TEXT
        return Shown.AUDIO if self.media.kind is PartKind.AUDIO else Shown.IMAGE


@dataclass(frozen=True, slots=True)
class Ask:
    """One task as one model is asked it: made once on the driver, used for every part.

    `questions` are by how a part is shown; `made_of` names what the fingerprint is a hash of
    (`schemas.fingerprint.ingredients`). `room` is set where a whole document is asked about: so many
    characters of what its parts say fit beside the question.
    """

    task: Task
    questions: Mapping[Shown, str]
    fingerprint: str
    made_of: Mapping[str, str]
    max_tokens: int
    ceiling_tokens: int
    seed: int = 0
    room: int | None = None

    def asks(self, kind: PartKind) -> bool:
        """Whether a part of this kind is asked about."""
        return kind in self.task.asked_of


@dataclass(frozen=True, slots=True)
class Rung:
    """One try of the ladder."""

    attempt: int
    max_tokens: int
    temperature: float


def build(ask: Ask, part: Part, rung: Rung) -> Request:
    """The request of one try."""
    schema: dict[str, Any] | None = ask.task.json_schema()
    question = ask.questions[part.shown]
    if ask.task.columns:
        known = {name: as_text(value)[:VALUE_CHARACTERS] for name, value in part.columns.items()}
        written, question = question, Template(question).substitute(known)
        if not MARKUP.search(written):
            # Two values side by side, or one between signs of the prompt's, may make what neither is.
            question = as_text(question)
    if part.media is None:
        question = f"{question}\n\n<document>\n{as_text(part.text or '')}\n</document>"
    return Request(
        key=digest("request", part.identity, ask.task.name, ask.fingerprint),
        question=question,
        media=part.media,
        max_tokens=rung.max_tokens,
        temperature=rung.temperature,
        seed=ask.seed + rung.attempt,
        json_schema=schema,
        choices=ask.task.choices(),
        likelihoods=ask.task.likelihoods(),
        attempt=rung.attempt,
        adapter=ask.task.adapter,
    )


def columns_of(table: pa.Table) -> list[dict[str, str]]:
    """What a prompt may fill in: facts of the part, and the manifest's own columns."""
    own = table["attributes"].to_pylist() if "attributes" in table.column_names else [None] * len(table)
    facts = table.select(["uri", "part_index", "parts_total", "media_type"]).to_pylist()
    return [
        {name: "" if value is None else str(value) for name, value in (attributes or {}).items()}
        | {
            "uri": fact["uri"],
            "file_name": fact["uri"].rpartition("/")[2],
            "part_number": str((fact["part_index"] or 0) + 1),
            "parts_total": str(fact["parts_total"]),
            "media_type": str(fact["media_type"]),
        }
        for fact, attributes in zip(facts, own, strict=True)
    ]


def as_text(words: str) -> str:
    """A document's or a manifest's words, without what the model would read as a mark of the turn's."""
    return MARKUP.sub(lambda mark: mark[0].translate(BRACKETS), words)
