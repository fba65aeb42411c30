"""Summarize: what a part says, in a few sentences."""

from __future__ import annotations

from pydantic import Field

from schemas.rows import PartKind, Shown
from schemas.tasks.base import NOUN, Task, as_data


class Summarize(Task):
    """The gist, part by part; `documents/` joins a document's."""

    kind = "summarize"
    parts = frozenset(PartKind)

    max_tokens: int = 512
    sentences: int = Field(3, ge=1, le=20, description="How long it may be.")

    def question(self, shown: Shown) -> str:
        """Ask for the gist alone, of what is there and nothing besides."""
        many = "one sentence" if self.sentences == 1 else f"at most {self.sentences} sentences"
        return self.prompt or (
            f"Summarize this {NOUN[shown]} in {many}. Keep names, dates and amounts as they are, and add "
            f"nothing that is not there.{self._in_language()} {as_data(shown)} Answer with the summary only."
        )
