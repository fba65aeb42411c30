"""What is to be written for what `documents/` says: after that each key has what belongs to it, once."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.keys import key_digests
from workers.matching import (
    FOUND,
    HELD,
    MADE,
    NAMED,
    match_beside,
    match_same,
    split,
    wanted,
)

IDS = st.integers(0, 7).map(lambda number: f"{number * 37 % 256:02x}d{number}")
STATES = st.sampled_from(["run-1/1", "run-2/1", "run-2/7"])
KEYS = st.sampled_from(["a0", "b1", "c2", "d3"])


def table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(rows, schema)


@st.composite
def made(draw: st.DrawFn) -> list[dict[str, Any]]:
    rows = draw(st.lists(st.tuples(IDS, STATES), unique=True, max_size=10))
    return [
        {"id": name, "state": state, "run": state, "part": at // 3, "row": at}
        for at, (name, state) in enumerate(rows)
    ]


@st.composite
def found(draw: st.DrawFn) -> list[dict[str, Any]]:
    states = st.one_of(st.none(), st.tuples(IDS, STATES))
    rows = draw(st.lists(st.tuples(st.one_of(st.none(), IDS), states), max_size=14))
    return [
        {
            "id": name,
            "file": at % 3,
            "row": at // 3,
            "there": there and there[0],
            "state": there and there[1],
        }
        for at, (name, there) in enumerate(rows)
    ]


def newest(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in sorted(rows, key=lambda row: row["state"])}


def applied(
    documents: list[dict[str, Any]], rows: list[dict[str, Any]], pairs: pa.Table, out: pa.Table
) -> list[dict[str, Any]]:
    """The table after its files were written anew, as `into_same` writes them."""
    parts: dict[int, set[int | None]] = {}
    for pair in pairs.to_pylist():
        parts.setdefault(pair["file"], set()).add(pair["part"])
    places = {(row["file"], row["row"]) for row in out.to_pylist()}
    after = []
    for row in rows:
        if row["file"] in parts:
            made = newest(documents).get(row["id"])
            left_out = (row["file"], row["row"]) in places
            if made and made["part"] in parts[row["file"]] and not left_out:
                row = row | {"there": row["id"], "state": made["state"]}
            elif row["there"] != row["id"] or left_out:
                row = row | {"there": None, "state": None}
        after.append(row)
    return after


@given(made(), found(), st.booleans(), st.booleans())
def test_into_the_table_itself(
    documents: list[dict[str, Any]], rows: list[dict[str, Any]], keyed: bool, anew: bool
) -> None:
    pairs, out = match_same(table(documents, MADE), table(rows, FOUND), keyed=keyed, anew=anew)
    after = applied(documents, rows, pairs, out)
    known = newest(documents)
    for before, row in zip(rows, after, strict=True):
        if row["there"] is not None:
            assert row["there"] == row["id"], "no row has another document's answers"
        if row["there"] in known:
            assert row["state"] == known[row["there"]]["state"], "nor old ones"
        if before["there"] == before["id"] is not None and before["id"] not in known and not keyed:
            assert row == before, "what nothing is known of stays"
    answered = [row["there"] for row in after if row["there"] is not None]
    named = {row["id"] for row in rows} & set(known)
    assert named <= set(answered)
    if keyed:
        assert len(answered) == len(set(answered)), "one row of a key"
    else:
        assert all(row["there"] == row["id"] for row in after if row["id"] in known)
    again, _ = match_same(table(documents, MADE), table(after, FOUND), keyed=keyed, anew=False)
    assert not len(again), "done once it is done"


@given(made(), found(), st.booleans(), st.integers(2, 5))
def test_shares_find_what_all_at_once_find(
    documents: list[dict[str, Any]], rows: list[dict[str, Any]], keyed: bool, shares: int
) -> None:
    whole = match_same(table(documents, MADE), table(rows, FOUND), keyed=keyed, anew=False)
    pieces = zip(
        split(table(documents, MADE), "id", shares), split(table(rows, FOUND), "id", shares), strict=True
    )
    found = [match_same(*piece, keyed=keyed, anew=False) for piece in pieces]
    pairs: Counter[tuple[int, int | None]] = Counter()
    for row in [row for each in found for row in each[0].to_pylist()]:
        pairs[row["file"], row["part"]] += row["rows"]
    assert pairs == {(row["file"], row["part"]): row["rows"] for row in whole[0].to_pylist()}
    places = [tuple(row.values()) for each in found for row in each[1].to_pylist()]
    assert sorted(places) == sorted(tuple(row.values()) for row in whole[1].to_pylist())


@given(
    made(),
    st.lists(st.tuples(IDS, st.one_of(st.none(), KEYS)), max_size=8),
    st.lists(st.tuples(KEYS, IDS, STATES), max_size=8),
    st.booleans(),
)
def test_into_a_table_beside(
    documents: list[dict[str, Any]],
    source: list[tuple[str, str | None]],
    there: list[tuple[str, str, str]],
    anew: bool,
) -> None:
    named = table([{"id": name, "key": key} for name, key in source], NAMED)
    held = [
        {"key": key, "there": name, "state": state, "file": at % 2, "row": at // 2}
        for at, (key, name, state) in enumerate(there)
    ]
    want = wanted(table(documents, MADE), named)
    put, gone = match_beside(want, table(held, HELD), anew=anew)
    places = {(row["file"], row["row"]) for row in gone.to_pylist()}
    stay = [row for row in held if (row["file"], row["row"]) not in places]
    known = newest(documents)
    keys = {key for name, key in source if key is not None and name in known}
    kept = [row["key"] for row in stay]
    assert len(put) == len(keys) - len(keys & set(kept)), "each key that has a document is there"
    assert len([key for key in kept if key in keys]) == len(keys & set(kept)), "and once"
    assert [row for row in held if row["key"] not in keys] == [row for row in stay if row["key"] not in keys]
    for row in stay:
        if row["key"] in keys:
            assert not anew
            assert (row["there"], row["key"]) in source and row["state"] == known[row["there"]]["state"]
    assert all(row == known[row["id"]] for row in put.to_pylist())


PLUS_TWO = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (pa.array([7], pa.int16()), pa.array([7], pa.int64()), True),
        (pa.array(["7"], pa.string()), pa.array(["7"], pa.large_string()), True),
        (pa.array([Decimal("1.50")]), pa.array([Decimal("1.50")], pa.decimal128(9, 2)), True),
        (pa.array([b"\xff\x00"]), pa.array([b"\xff\x00"], pa.large_binary()), True),
        (pa.array([b"\xff\x00"]), pa.array([b"\xff\x01"]), False),
        (
            pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("ms", tz="UTC")),
            pa.array([datetime(2026, 1, 1, 2, tzinfo=PLUS_TWO)], pa.timestamp("ns", tz="+02:00")),
            True,
        ),
        (pa.array([True]), pa.array([False]), False),
    ],
)
def test_a_key_is_the_same_in_every_format(one: pa.Array, other: pa.Array, same: bool) -> None:
    digests = [key_digests([pa.chunked_array([column])]).to_pylist() for column in (one, other)]
    assert (digests[0] == digests[1]) is same


def test_a_key_with_a_null_in_it_is_none() -> None:
    columns = [pa.chunked_array([["a", None, "a"]]), pa.chunked_array([[1, 2, 3]])]
    found = key_digests(columns).to_pylist()
    assert found[1] is None and len({found[0], found[2]}) == 2


def known(*ids: str) -> pa.Table:
    return table(
        [{"id": name, "state": "s", "run": f"run-{at}", "part": at, "row": 0} for at, name in enumerate(ids)],
        MADE,
    )


def test_of_two_rows_with_one_key_that_which_has_the_answers_keeps_them() -> None:
    rows = [
        {"id": "a0", "file": 0, "row": 0, "there": None, "state": None},
        {"id": "a0", "file": 1, "row": 0, "there": "a0", "state": "s"},
    ]
    pairs, out = match_same(known("a0"), table(rows, FOUND), keyed=True, anew=False)
    assert not len(pairs) and out.to_pylist() == [{"file": 0, "row": 0}]


def test_a_key_that_has_come_to_name_two_documents_keeps_the_one_that_is_there() -> None:
    named = table([{"id": name, "key": "k0"} for name in ("a0", "b1")], NAMED)
    held = [{"key": "k0", "there": "a0", "state": "s", "file": 0, "row": 0}]
    want = wanted(known("a0", "b1"), named)
    assert [len(rows) for rows in match_beside(want, table(held, HELD), anew=False)] == [0, 0]
    put, _ = match_beside(want, HELD.empty_table(), anew=False)
    assert put["id"].to_pylist() == ["b1"], "of two new ones the last that was made"


def test_a_row_that_is_there_twice_is_there_once_after_it() -> None:
    named = table([{"id": "a0", "key": "k0"}], NAMED)
    held = [{"key": "k0", "there": "a0", "state": "s", "file": file, "row": 0} for file in (0, 1)]
    put, gone = match_beside(wanted(known("a0"), named), table(held, HELD), anew=False)
    assert not len(put) and gone.to_pylist() == [{"file": 1, "row": 0}]
