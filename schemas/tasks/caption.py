"""Caption: what a picture or a page shows, in a sentence, at length, or for those who cannot see it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from schemas.rows import PartKind, Shown
from schemas.tasks.base import NOUN, Task


class Style(StrEnum):
    """How much is said, and for whom."""

    SHORT = "short"
    DETAILED = "detailed"
    ALT_TEXT = "alt_text"


ASKED = {
    Style.SHORT: "Describe this {noun} in one sentence that would let a person find it again.{language} "
    "Answer with the sentence only.",
    Style.DETAILED: "Describe this {noun} in one paragraph: what it shows, what stands out, how it is laid "
    "out, and the words in it that matter.{language} Answer with the paragraph only.",
    Style.ALT_TEXT: "Write the alternative text of this {noun} for a person who cannot see it: what it shows "
    "and what for, in at most 125 characters, without saying that it is a picture.{language} "
    "Answer with that text only.",
}
TOKENS = {Style.SHORT: 128, Style.DETAILED: 512, Style.ALT_TEXT: 128}


class Caption(Task):
    """What is to be seen."""

    kind = "caption"
    parts = frozenset({PartKind.PAGE, PartKind.IMAGE})

    style: Style = Field(Style.SHORT, description="short, detailed or alt_text.")
    max_tokens: int = Field(TOKENS[Style.SHORT], gt=0, description="By the style, if not given.")

    @model_validator(mode="before")
    @classmethod
    def _long_enough(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("style") in TOKENS:
            return {"max_tokens": TOKENS[values["style"]], **values}
        return values

    def question(self, shown: Shown) -> str:
        """Ask for the caption alone."""
        return self.prompt or ASKED[self.style].format(noun=NOUN[shown], language=self._in_language())
