"""Ask: any question of the job's own, with what is known of the document filled in."""

from __future__ import annotations

from string import Template

from pydantic import Field, field_validator

from schemas.rows import PartKind, Shown
from schemas.tasks.base import Task

COLUMNS = ("uri", "file_name", "part_number", "parts_total", "media_type")
"""What a prompt may name besides the manifest's own columns."""
OF_CONTENT = frozenset({"part_number", "parts_total", "media_type"})
"""Those that are the same for documents with the same bytes."""


class Ask(Task):
    """Free prose in answer to the job's prompt.

    `$file_name` in the prompt is the document's, `$supplier` the manifest's column of that name. What is
    filled in is no part of the fingerprint: a manifest that says something else of a document that was
    asked about does not make it new; `--force` asks again.
    """

    kind = "ask"
    parts = frozenset(PartKind)

    prompt: str = Field(min_length=1, description="The question; $column stands for a document's own value.")

    @field_validator("prompt")
    @classmethod
    def _template(cls, prompt: str) -> str:
        if not Template(prompt).is_valid():
            raise ValueError("a $ begins the name of a column; write $$ for a dollar")
        return prompt

    @property
    def columns(self) -> tuple[str, ...]:
        """The names that the prompt fills in."""
        return tuple(Template(self.prompt).get_identifiers())

    def question(self, shown: Shown) -> str:
        """The prompt as it was written."""
        return self.prompt + self._in_language()
