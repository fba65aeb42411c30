"""Translate: speech by transcription and translation in one call, pages and pictures by their text."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pydantic import Field

from schemas.errors import UnparsableAnswer
from schemas.rows import PartKind, Shown
from schemas.tasks.base import NOUN, Said, Task, as_data


class Translate(Task):
    """Into one language. For speech the question is the one Gemma 3n was tuned for, word for word (Google's
    audio notebook, ai.google.dev/gemma/docs/capabilities/audio)."""

    kind = "translate"
    parts = frozenset(PartKind)
    may_be_empty = True
    transcript = True

    max_tokens: int = 2048
    to: str = Field(min_length=2, description="Language to translate into, in English words: German.")
    source: str | None = Field(None, description="Language it is in, in English words, if it is known.")

    def question(self, shown: Shown) -> str:
        """What is heard comes first and its translation on a line of its own; of what is seen, the latter."""
        if self.prompt:
            return self.prompt
        if shown is Shown.AUDIO:
            spoken = f"in {self.source}" if self.source else "in its original language"
            return (
                f"Transcribe the following speech segment {spoken}, then translate it into {self.to}. "
                f"When formatting the answer, first output the transcription {spoken}, then one newline, "
                f"then output the string '{self.to}: ', then the translation in {self.to}."
            )
        source = f" from {self.source}" if self.source else ""
        return (
            f"Translate all text in this {NOUN[shown]}{source} into {self.to}, in reading order, as "
            "Markdown: headings, lists and tables stay what they are, and so do names and numbers. "
            f"{as_data(shown)} Answer with the translation only; if there is no text, answer with nothing."
        )

    def data_type(self) -> pa.DataType:
        """What was heard (null where something was seen), its translation, the language of that."""
        names = ("transcription", "translation", "language")
        return pa.struct([pa.field(name, pa.large_string()) for name in names])

    def reading(self) -> dict[str, Any]:
        """The language, where a prompt of the job's own need not say it."""
        return {"to": self.to} if self.prompt else {}

    def data(self, said: Said) -> dict[str, Any]:
        """See `data_type`.

        Raises:
            UnparsableAnswer: speech, and there is no translation behind the transcription.
        """
        if said.shown is not Shown.AUDIO or not said.text:
            return {"transcription": None, "translation": said.text, "language": self.to}
        heard, mark, translated = said.text.partition(f"\n{self.to}: ")
        if not mark:
            raise UnparsableAnswer(f"no translation behind the transcription: no line begins with {self.to}:")
        return {"transcription": heard.strip(), "translation": translated.strip(), "language": self.to}

    def text(self, text: str, data: Any) -> str:
        """The translation alone."""
        translation: str = data["translation"]
        return translation
