"""Accuracy, of answers that are one of a few labels."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from workers.metrics import Scores


class Labels:
    """The share of labels that are right, word for word."""

    expects: ClassVar[str] = "label"
    leads: ClassVar[str] = "accuracy"
    rising: ClassVar[bool] = True
    library: ClassVar[str] = ""

    def __init__(self, data_type: pa.DataType | None, fold: bool) -> None:
        self._fold = fold

    def expected(self, value: Any) -> str:
        """A label, which is not empty."""
        label = self._read(value)
        if not label:
            raise ValueError("an empty label")
        return label

    def whole(self, answers: Sequence[Any]) -> Any:
        """The label of all parts, if it is one."""
        if len({self._read(answer) for answer in answers}) > 1:
            raise ValueError("its parts have labels of their own, and they differ: give part_index")
        return answers[0]

    def count(self, expected: str, answer: Any) -> Counter[Any]:
        """The label expected, and whether it was given."""
        return Counter({(expected, "all"): 1, (expected, "right"): int(self._read(answer) == expected)})

    def scores(self, counts: Counter[Any]) -> Scores:
        """`accuracy`."""
        right = sum(count for (_, what), count in counts.items() if what == "right")
        return {"accuracy": right / (counts.total() - right)}

    def details(self, counts: Counter[Any]) -> dict[str, Scores]:
        """By the label that is expected."""
        labels = sorted({label for label, _ in counts})
        return {label: {"accuracy": counts[label, "right"] / counts[label, "all"]} for label in labels}

    def _read(self, value: Any) -> str:
        text = "" if value is None else " ".join(str(value).split())
        return text.casefold() if self._fold else text
