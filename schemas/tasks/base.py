"""What every task has: the options a job may set, the question it asks, the shape of its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.rows import PartKind

if TYPE_CHECKING:
    import pyarrow as pa


class Task(BaseModel):
    """What is asked of a part. A member of the family is one subclass in one file.

    Class attributes:
        kind: the task's name in `TASKS`.
        version: part of every record's fingerprint; raised when the question or its reading changes.
        parts: the kinds of part it can be asked about.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    parts: ClassVar[frozenset[PartKind]]

    name: str = Field("", description="Folder of its records, task=<name>; the task's own name if not given.")
    prompt: str | None = Field(None, description="Asked instead of the task's own question.")
    max_tokens: int = Field(
        1024, gt=0, description="Budget of one answer; doubled once when an answer is cut."
    )
    temperature: float = Field(0.0, ge=0, le=2, description="Of the first try; retries go up by 0.3.")
    adapter: str | None = Field(None, description="One of models.adapters: the model answers through it.")

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_kind(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("name"):
            return {**values, "name": cls.kind}
        return values

    def question(self) -> str:
        """The instruction, as the model reads it."""
        raise TypeError(f"{type(self).__name__} must say what it asks")

    def json_schema(self) -> dict[str, Any] | None:
        """The JSON Schema that decoding is held to, or None for prose."""
        return None

    def choices(self) -> tuple[str, ...]:
        """The answers that decoding is held to, word for word; none for an answer that is free."""
        return ()

    def data_type(self) -> pa.DataType | None:
        """The Arrow type of the `data` column, or None for prose."""
        return None

    def fallback_to_page_text(self) -> bool:
        """Whether a page's own text layer may stand in when the model fails."""
        return False
