"""Rows of a table by their addresses: the same whoever reads them, and found again where they are owed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.sources.seen import among
from pipelines.sources.table import REFUSED
from schemas.ids import document_id
from tests.pipelines.test_table_source import growing, lake, listed, opened, put, why

__all__ = ["growing", "lake"]


@pytest.mark.parametrize("key", [None, "id"])
def test_a_relative_address_is_refused_wherever_it_is_read(
    lake: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """It would name one object to who lists the table, and another to who brings answers to it."""
    put(lake, {"id": [1, 2, 3], "uri": ["1.png", "~/2.png", str(lake / "3.png")]})
    found = []
    for folder in (lake, lake / "t"):
        monkeypatch.chdir(folder)
        found.append(listed(opened(lake, **({"key": key} if key else {}), include=["3.png"])))
    assert found[0] == found[1]
    one, two, three = found[0]
    assert (one["uri"], two["uri"]) == (("1.png#id=1", "~/2.png#id=2") if key else ("1.png", "~/2.png"))
    assert "row 0 of p.parquet: '1.png' is relative" in why(one)
    assert "row 1 of p.parquet: '~/2.png' is relative" in why(two)
    assert three["version"] not in ("", REFUSED)


def test_what_is_owed_is_found_in_whatever_order_it_is_told(lake: Path, growing: Any) -> None:
    for number in range(1, 6):
        growing(number)
    source = opened(lake)
    source.since = (source.pinned or {})["version"]
    for numbers in ([1, 2, 3], [5, 3, 1, 3], [4], []):
        owed = pa.array([document_id(f"file://{lake}/{n}.png") for n in numbers] + ["0", "g"], pa.string())
        assert {row["attributes"]["id"] for row in listed(source, owed)} == set(numbers)
    assert among(pa.array(["a"]), pa.array([], pa.string())).to_pylist() == [False]
