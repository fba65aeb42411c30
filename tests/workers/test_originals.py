"""Of all documents with the same content one is the first, whoever asks and however often."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import digest
from workers import originals
from workers.originals import Firsts

ASKED = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 300)), max_size=200)


@given(ASKED, ASKED, st.integers(1, 40))
def test_the_first_stays_the_first(
    known: list[tuple[int, int]], asked: list[tuple[int, int]], recent: int
) -> None:
    firsts, model = Firsts(), dict[str, str]()
    for start in range(0, len(known), 50):
        some = [(digest(str(key)), digest(str(name))) for key, name in known[start : start + 50]]
        firsts.seed(*(pa.chunked_array([list(column)], pa.string()) for column in zip(*some, strict=True)))
        for key, name in some:
            model.setdefault(key, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(originals, "RECENT", recent)
        for content, document in asked:
            key, name = digest(str(content)), digest(str(document))
            assert firsts.add(key, name) == model.setdefault(key, name)


def test_zeros_at_the_end_are_part_of_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(originals, "RECENT", 1)
    firsts, name = Firsts(), "ab" * 8 + "00" * 8
    assert firsts.add("cd" * 15 + "00", name) == name
    assert firsts.add("cd" * 15 + "00", "ef" * 16) == name
    assert firsts.add("cd" * 15 + "01", "ef" * 16) == "ef" * 16
