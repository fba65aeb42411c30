"""Answers beside the rows of a table: each row keeps its place and all that is not ours."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.documents import documents_schema
from schemas.enriched import answer_columns, enriched_schema
from schemas.errors import JobError
from workers.enrich import answers_of, columns_to_read, facts_of, into_same, states

INVOICE = pa.struct([pa.field("total", pa.decimal128(38, 9)), pa.field("lines", pa.list_(pa.string()))])
COLUMNS = answer_columns(["ocr", "extract"], {"extract": INVOICE})
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
TOTAL = {"total": Decimal("1.500000000"), "lines": ["tea", None]}


def documents(rows: list[dict[str, Any]]) -> pa.Table:
    schema = documents_schema(None, {"extract": INVOICE})
    facts = {"uri": "s3://lake/a", "version": "v1", "status": "ok", "answered_at": WHEN, "run_id": "run"}
    facts["engine_seconds"] = 0.5
    return pa.Table.from_pylist([facts | row for row in rows], schema).select(columns_to_read(COLUMNS))


def answers(*ids: str, text: str = "words", version: str | None = "v1") -> pa.Table:
    said = {"version": version, "answers": 1, "owed": 2, "texts": [("ocr", text)]}
    return answers_of(documents([said | {"document_id": name} for name in ids]), COLUMNS)


def test_a_row_of_documents_as_columns() -> None:
    data = {"extract": {"value": TOTAL, "parts": [("/total", [0])], "conflicts": []}}
    rows = answers_of(
        documents(
            [
                {
                    "document_id": "a",
                    "answers": 3,
                    "owed": 4,
                    "texts": [("other", "no"), ("ocr", "yes")],
                    "data": data,
                },
                {"document_id": "b", "status": "failed", "answers": 0, "texts": [], "data": None},
            ]
        ),
        COLUMNS,
    )
    assert rows.schema == enriched_schema(COLUMNS)
    read, failed = rows.to_pylist()
    assert read == {
        "gemstream_document_id": "a",
        "gemstream_version": "v1",
        "gemstream_status": "ok",
        "gemstream_missing": 1,
        "gemstream_answered_at": WHEN,
        "gemstream_run_id": "run",
        "gemstream_engine_seconds": 0.5,
        "ocr_text": "yes",
        "extract": TOTAL,
    }
    assert failed["gemstream_status"] == "failed" and failed["gemstream_missing"] is None
    assert failed["ocr_text"] is None and failed["extract"] is None


def test_a_task_that_a_row_was_made_without_is_null() -> None:
    columns = answer_columns(["ocr", "summarize", "receipts"], {"receipts": INVOICE})
    rows = documents([{"document_id": "a", "texts": [("ocr", "yes")], "data": {"extract": {"value": TOTAL}}}])
    assert answers_of(rows, columns).select([7, 8, 9]).to_pylist() == [
        {"ocr_text": "yes", "summarize_text": None, "receipts": None}
    ]


@pytest.mark.parametrize(
    "tasks", [["a-b", "a_b"], ["ocr", "ocr_text"], ["gemstream_status"]], ids=["dash", "text", "ours"]
)
def test_two_columns_of_one_name_are_refused(tasks: list[str]) -> None:
    merged = {name: INVOICE for name in tasks if name.endswith(("_text", "_status"))}
    with pytest.raises(JobError, match="rename"):
        answer_columns(tasks, merged)


OTHERS = pa.table(
    {
        "whole": pa.array([1, None, 3], pa.int16()),
        "money": pa.array([Decimal("1.10"), None, Decimal("-0.01")], pa.decimal128(9, 2)),
        "naive": pa.array([datetime(2026, 1, 1), None, datetime(1, 1, 1)], pa.timestamp("us")),
        "zoned": pa.array([WHEN, None, WHEN], pa.timestamp("ms", tz="Europe/Berlin")),
        "day": pa.array([date(2026, 1, 1), None, date(1, 1, 1)]),
        "raw": pa.array([b"\xff\x00", b"", None], pa.binary()),
        "tags": pa.array([["a", None], [], None], pa.list_(pa.string())),
        "nested": pa.array(
            [{"a": {"b": [1, None]}}, {"a": None}, None],
            pa.struct([("a", pa.struct([("b", pa.list_(pa.int32()))]))]),
        ),
        "pairs": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
        "kind": pa.array(["x", None, "x"]).dictionary_encode(),
        "share": pa.array([0.5, float("inf"), None], pa.float32()),
    }
)


def test_all_other_columns_are_as_they_were() -> None:
    ids = pa.array(["b", None, "a"])
    rows = into_same(OTHERS, ids, answers("a", "c"))
    assert rows.select(OTHERS.column_names).equals(OTHERS)
    assert rows["gemstream_document_id"].to_pylist() == [None, None, "a"]
    again = into_same(rows, ids, answers("b", text="new"))
    assert again.select(OTHERS.column_names).equals(OTHERS)
    assert again["ocr_text"].to_pylist() == ["new", None, "words"], "what nothing is known of stays"
    assert again.column_names == rows.column_names


def test_a_row_that_names_another_document_by_now_has_its_answers_no_more() -> None:
    rows = into_same(OTHERS, pa.array(["a", "b", "c"]), answers("a", "b", "c"))
    moved = into_same(rows, pa.array(["x", "b", None]), answers("b", text="new"))
    assert moved["ocr_text"].to_pylist() == [None, "new", None]
    assert moved["gemstream_status"].to_pylist() == [None, "ok", None]


def test_a_row_that_is_left_out_has_nothing() -> None:
    rows = into_same(OTHERS, pa.array(["a", "a", "a"]), answers("a"), pa.array([True, False, True]))
    assert rows["ocr_text"].to_pylist() == [None, "words", None]
    rows = into_same(rows, pa.array(["a", "a", "a"]), answers("a").slice(1), pa.array([False, True, True]))
    assert rows["ocr_text"].to_pylist() == [None, None, None]


def test_what_is_not_asked_any_more_stays_with_what_it_is_about() -> None:
    dropped = pa.array([[f"of {name}"] for name in "abcde"] + [["its owner's"]], pa.list_(pa.string()))
    rows = pa.table({"summary": dropped})
    rows = into_same(rows, pa.array([*"abcde", None]), answers(*"abcde"))
    ids = pa.array([*"abcxef"])
    now = pa.concat_tables([answers("a", "x", "f", text="new"), answers("b", text="new", version="v2")])
    out = pa.array([False, False, False, False, True, False])

    after = into_same(rows, ids, now, out, ["summary"])

    assert after["ocr_text"].to_pylist() == ["new", "new", "words", "new", None, "new"]
    assert after["summary"].to_pylist() == [["of a"], None, ["of c"], None, None, ["its owner's"]]
    assert after.schema == rows.schema
    moved = into_same(rows, pa.array([*"abcx", None, None]), answers().slice(0, 0), None, ["summary"])
    assert moved["summary"].to_pylist() == [["of a"], ["of b"], ["of c"], None, None, ["its owner's"]]


def test_without_a_version_it_stays_as_well() -> None:
    rows = into_same(pa.table({"summary": ["of a"]}), pa.array(["a"]), answers("a", version=None))
    after = into_same(rows, pa.array(["a"]), answers("a", text="new", version=None), None, ["summary"])
    assert (after["ocr_text"][0].as_py(), after["summary"][0].as_py()) == ("new", "of a")


NAMES = st.one_of(st.none(), st.sampled_from(["a", "b", "c", "d"]))


@given(
    st.lists(st.tuples(st.integers(), NAMES, NAMES, st.booleans()), max_size=12),
    st.sets(st.sampled_from(["a", "b", "c", "d"])),
)
def test_into_the_table(rows: list[tuple[int, str | None, str | None, bool]], known: set[str]) -> None:
    mine = pa.table({"mine": pa.array([row[0] for row in rows], pa.decimal128(38)).cast(pa.string())})
    there = pa.array([row[2] for row in rows], pa.string())
    before = into_same(mine, there, answers("a", "b", "c", "d", text="old"))
    ids = pa.array([row[1] for row in rows], pa.string())
    out = pa.array([row[3] for row in rows], pa.bool_())
    after = into_same(before, ids, answers(*sorted(known), text="new"), out)
    assert after["mine"].equals(before["mine"])
    for (_, name, had, left_out), row in zip(rows, after.to_pylist(), strict=True):
        if name is None or left_out:
            expected = (None, None)
        elif name in known:
            expected = (name, "new")
        else:
            expected = (name, "old") if had == name else (None, None)
        assert (row["gemstream_document_id"], row["ocr_text"]) == expected


def state(**facts: Any) -> str:
    row = {"document_id": "a", "answers": 1, "owed": 2, "texts": []} | facts
    return str(states(facts_of(documents([row])))[0])


def test_what_failed_once_more_is_no_other_state() -> None:
    later = {"run_id": "run-2", "answered_at": WHEN.replace(year=2027)}
    assert state() != state(**later), "made by another run: other answers"
    assert state(status="failed") == state(status="failed", **later)
    assert state(status="partial") == state(status="partial", **later)
    assert state(status="partial") != state(status="partial", answers=0, **later)
    assert state(status="partial") != state(status="partial", engine_seconds=0.6, **later), "answered anew"
    assert state(status="failed") != state(status="failed", version="v2", **later)
    assert state(status="failed") != state(**later)
    attached = {"status": "partial", "engine_seconds": None}
    assert state(**attached) != state(**attached, **later), "of another document, and its time is told there"
    assert state(status="failed", engine_seconds=None) == state(status="failed", engine_seconds=None, **later)
