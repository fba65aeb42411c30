"""How good answers are: one file per way to tell, one Protocol for all of them.

A metric counts one answer against one reference; counts of pairs add up to those of a document and of
a task, and the scores are made of the sums (micro averages). Nothing here knows where either comes
from. An answer that is missing counts as one that says nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from schemas.errors import JobError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    import pyarrow as pa

METRICS = {
    "ocr": "workers.metrics.edits:Edits",
    "transcribe": "workers.metrics.edits:Edits",
    "caption": "workers.metrics.prose:Prose",
    "translate": "workers.metrics.prose:Prose",
    "summarize": "workers.metrics.prose:Prose",
    "ask": "workers.metrics.prose:Prose",
    "classify": "workers.metrics.labels:Labels",
    "extract": "workers.metrics.fields:Fields",
    "call": "workers.metrics.fields:Fields",
    "moderate": "workers.metrics.fields:Fields",
}
"""Kind of task -> how its answers are scored."""

Scores = dict[str, float]
"""Name of a score -> its value; shares go from 0 to 1."""


class Metric(Protocol):
    """One way to tell.

    Class attributes:
        expects: the column of a reference that it reads: "text", "label" or "data".
        leads: the score that documents are put in order by.
        rising: whether more of that is better.
        library: what it imports of the `evaluate` extra; empty for nothing.
    """

    expects: ClassVar[str]
    leads: ClassVar[str]
    rising: ClassVar[bool]
    library: ClassVar[str]

    def __init__(self, data_type: pa.DataType | None, fold: bool) -> None:
        """For one task.

        Args:
            data_type: of the answers' `data` column, if they have one.
            fold: whether case is nothing, and punctuation in texts.
        """
        ...

    def expected(self, value: Any) -> Any:
        """What a reference says, ready to be counted against.

        Raises:
            ValueError: it is no value that an answer could have.
        """
        ...

    def whole(self, answers: Sequence[Any]) -> Any:
        """One answer for the document, of those about its parts, in order. Not asked for texts, which
        `documents/` has.

        Raises:
            ValueError: its parts do not make one.
        """
        ...

    def count(self, expected: Any, answer: Any) -> Counter[Any]:
        """One pair; `answer` is the `text` of a record, or its `data`, or None where there is none."""
        ...

    def scores(self, counts: Counter[Any]) -> Scores:
        """Of the sum of some pairs' counts."""
        ...

    def details(self, counts: Counter[Any]) -> dict[str, Scores]:
        """The same by field or label, where there are any."""
        ...


def library(name: str) -> Any:
    """A library of the `evaluate` extra.

    Raises:
        JobError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise JobError(
            f"evaluate needs {error.name}: pip install 'gemstream[evaluate]'", key="evaluate"
        ) from error
