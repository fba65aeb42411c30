"""Where outcomes go: part files, and what is known of each when it is in place."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReceiptKind(StrEnum):
    """What a written file holds."""

    RECORDS = "records"
    ERRORS = "errors"
    FILTERED = "filtered"
    DUPLICATES = "duplicates"


@dataclass(frozen=True, slots=True)
class Receipt:
    """One file that is in place, whole. `bytes` is its size; `task` is None unless it holds records."""

    uri: str
    kind: ReceiptKind
    task: str | None
    rows: int
    bytes: int
