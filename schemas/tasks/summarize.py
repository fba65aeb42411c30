"""Summarize: what a part says, and what a document of several parts says, in a few sentences."""

from __future__ import annotations

from pydantic import Field

from schemas.rows import PartKind, Shown
from schemas.tasks.base import NOUN, Task, as_data

FAITHFUL = "Keep names, dates and amounts as they are, and add nothing that is not there."
ALONE = "Answer with the summary only."


class Summarize(Task):
    """The gist, part by part; then that of the document, from the summaries of its parts."""

    kind = "summarize"
    parts = frozenset(PartKind)

    max_tokens: int = 512
    sentences: int = Field(3, ge=1, le=20, description="How long it may be.")
    whole: bool = Field(
        True, description="Whether a document of several parts is summarized as a whole besides."
    )

    whole_prompt: str | None = Field(
        None, description="Asked about a document as a whole instead, over what was said of its parts."
    )

    def question(self, shown: Shown) -> str:
        """Ask for the gist alone, of what is there and nothing besides."""
        return self.prompt or (
            f"Summarize this {NOUN[shown]} in {self._length}. {FAITHFUL}{self._in_language()} "
            f"{as_data(shown)} {ALONE}"
        )

    def whole_question(self) -> str | None:
        """The same of the document, whose parts' summaries stand below the question, in order."""
        if not self.whole:
            return None
        return self.whole_prompt or (
            "Below is what the parts of one document say, in order, each in short. Summarize the document as "
            f"a whole in {self._length}. {FAITHFUL}{self._in_language()} {as_data(Shown.TEXT)} {ALONE}"
        )

    @property
    def _length(self) -> str:
        return "one sentence" if self.sentences == 1 else f"at most {self.sentences} sentences"
