"""Where outcomes go: one file per kind of table, one Protocol for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa


class ReceiptKind(StrEnum):
    """What a written file holds."""

    RECORDS = "records"
    ERRORS = "errors"
    FILTERED = "filtered"


@dataclass(frozen=True, slots=True)
class Receipt:
    """One file that is in place, whole. `bytes` is its size; `task` is None unless it holds records."""

    uri: str
    kind: ReceiptKind
    task: str | None
    rows: int
    bytes: int


class Sink(Protocol):
    """One kind of table. Picklable: it is made on the driver and writes on workers."""

    def write(self, outcomes: pa.Table) -> list[Receipt]:
        """Write the rows of `rows.outcomes_schema`, but those that are "kept": the output has them.

        Writing the same rows again replaces what the first write left: a retry doubles nothing.

        Raises:
            GemstreamError: what `Storage.publish` raises. Some of the files may be in place.
        """
        ...
