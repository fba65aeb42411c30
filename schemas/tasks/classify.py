"""Classify: one label of the job's own for a part, and how likely each of them was."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pydantic import Field, field_validator

from schemas.rows import PartKind, Shown
from schemas.tasks.base import NOUN, Said, Task, as_data


class Classify(Task):
    """Which of the labels fits best. Decoding is held to them, so the answer is always one of them."""

    kind = "classify"
    parts = frozenset(PartKind)
    usual = frozenset({PartKind.PAGE, PartKind.IMAGE})

    max_tokens: int = 32
    labels: tuple[str, ...] = Field(min_length=2, description="The labels to choose from.")

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        for label in labels:
            if not label or label != label.strip():
                raise ValueError(f"{label!r} is empty or begins or ends with a space")
        if len(set(labels)) < len(labels):
            raise ValueError("a label is there twice")
        return labels

    def question(self, shown: Shown) -> str:
        """Name the labels and ask for one."""
        return self.prompt or (
            f"Which one of these labels fits this {NOUN[shown]} best: {', '.join(self.labels)}? "
            f"Answer with the label only. {as_data(shown)}"
        )

    def choices(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    def likelihoods(self) -> bool:
        """A label that was a close thing should say so."""
        return True

    def data_type(self) -> pa.DataType:
        """The label, its probability, and that of each: null where the engine does not tell."""
        return pa.struct(
            [
                pa.field("label", pa.string()),
                pa.field("probability", pa.float64()),
                pa.field("probabilities", pa.map_(pa.string(), pa.float64())),
            ]
        )

    def data(self, said: Said) -> dict[str, Any]:
        """See `data_type`; labels are sorted by probability."""
        if said.likelihoods is None:
            return {"label": said.text, "probability": None, "probabilities": None}
        ordered = sorted(said.likelihoods.items(), key=lambda item: -item[1])
        return {
            "label": said.text,
            "probability": said.likelihoods[said.text],
            "probabilities": ordered,
        }
