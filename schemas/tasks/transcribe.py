"""Transcribe: the words of a recording, segment by segment."""

from __future__ import annotations

from pydantic import Field

from schemas.rows import PartKind, Shown
from schemas.tasks.base import Task


class Transcribe(Task):
    """Speech to text in its original language.

    The question is the one that Gemma 3n was tuned for, word for word (Google's audio notebook,
    ai.google.dev/gemma/docs/capabilities/audio).
    """

    kind = "transcribe"
    parts = frozenset({PartKind.AUDIO})
    may_be_empty = True
    transcript = True

    max_tokens: int = 512
    spoken: str | None = Field(None, description="Spoken language in English words, if it is known.")

    def question(self, shown: Shown) -> str:
        """Google's transcription prompt, with the language when it is known."""
        if self.prompt:
            return self.prompt
        language = f"in {self.spoken} into {self.spoken} text" if self.spoken else "in its original language"
        return (
            f"Transcribe the following speech segment {language}. "
            "Follow these specific instructions for formatting the answer:\n"
            "* Only output the transcription, with no newlines.\n"
            "* When transcribing numbers, write the digits, i.e. write 1.7 and not one point seven, "
            "and write 3 instead of three."
        )
