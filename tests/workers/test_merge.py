"""Answers about pages become one about the document: nothing is lost, and every value has its page."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.documents import documents_schema, merged_type
from schemas.rows import ERRORS, records_schema
from schemas.tasks import make_task
from tests.workers.documents import BOTH, page
from workers.assemble import assemble
from workers.merge import merge
from workers.sinks.parquet import encode

INVOICE = make_task(
    {
        "task": "extract",
        "fields": {
            "number": "text",
            "issued": "date?",
            "total": "decimal",
            "paid": "boolean",
            "buyer": {"name": "text", "age": "integer"},
            "lines": [{"item": "text", "tags": ["text"]}],
        },
    }
).data_type()
assert INVOICE is not None


def invoice(**values: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {field.name: None for field in INVOICE}
    return nothing | values


def scalars(data_type: pa.DataType) -> st.SearchStrategy[Any]:
    """Few values, so that pages agree and disagree often."""
    if pa.types.is_struct(data_type):
        return st.none() | st.fixed_dictionaries({each.name: scalars(each.type) for each in data_type})
    if pa.types.is_list(data_type):
        return st.none() | st.lists(scalars(data_type.value_type), max_size=3)
    few = {
        pa.string(): ["", "a"],
        pa.int64(): [0, 1],
        pa.bool_(): [True, False],
        pa.date32(): [date(2024, 1, 2), date(2024, 2, 1)],
    }
    return st.sampled_from([None, *few.get(data_type, [Decimal("0.000000001"), Decimal(10)])])


ANSWERS = st.lists(scalars(INVOICE), min_size=1, max_size=5)


def at(value: Any, pointer: str) -> Any:
    for step in pointer.split("/")[1:]:
        if value is None or (isinstance(value, list) and int(step) >= len(value)):
            return None
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def leaves(value: Any, pointer: str = "") -> dict[str, Any]:
    """Pointer -> each scalar that is not null, and each item of a list."""
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in leaves(inner, f"{pointer}/{name}").items()}
    if isinstance(value, list):
        return {f"{pointer}/{place}": item for place, item in enumerate(value) if item is not None}
    return {} if value is None else {pointer: value}


def lists(value: Any, pointer: str = "") -> dict[str, list[Any]]:
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in lists(inner, f"{pointer}/{name}").items()}
    return {pointer: value} if isinstance(value, list) else {}


@given(scalars(INVOICE))
def test_one_page_is_its_own_document(answer: Any) -> None:
    found = merge([(7, answer)], INVOICE)
    if answer is None:
        assert found is None
        return
    assert found is not None and found["value"] == answer and found["conflicts"] == []
    assert dict(found["parts"]) == dict.fromkeys(leaves(answer), [7])


@given(ANSWERS, st.data())
def test_a_page_that_says_nothing_changes_nothing(answers: list[Any], data: st.DataObject) -> None:
    said = list(enumerate(answers))
    nothing = data.draw(st.sampled_from([None, invoice()]))
    place = data.draw(st.integers(0, len(said)))
    more = [*said[:place], (99, nothing), *said[place:]]
    before, after = merge(said, INVOICE), merge(more, INVOICE)
    if before is None:
        assert after is None or not leaves(after["value"])
    else:
        assert after == before


@given(ANSWERS)
def test_every_value_is_of_a_page_that_says_it_and_no_page_is_left_out(answers: list[Any]) -> None:
    found = merge(list(enumerate(answers)), INVOICE)
    if found is None:
        assert answers == [None] * len(answers)
        return
    parts, conflicts = dict(found["parts"]), dict(found["conflicts"])
    assert parts.keys() == leaves(found["value"]).keys()
    joined = {pointer: [] for each in answers for pointer in lists(each)}  # type: ignore[var-annotated]
    for part, answer in enumerate(answers):
        for pointer, items in lists(answer).items():
            joined[pointer] += [(part, item) for item in items]
    assert {pointer: [item for _, item in items] for pointer, items in joined.items()} == lists(
        found["value"]
    )
    for pointer, items in joined.items():
        said = {f"{pointer}/{i}": [part] for i, (part, item) in enumerate(items) if item is not None}
        assert said.items() <= parts.items()
    items = {f"{pointer}/{i}" for pointer, found_ in joined.items() for i in range(len(found_))}
    for pointer in parts.keys() - items:
        says = [(part, at(answer, pointer)) for part, answer in enumerate(answers)]
        says = [(part, value) for part, value in says if value is not None]
        assert at(found["value"], pointer) == says[0][1], "the first that is not null"
        assert parts[pointer] == [part for part, value in says if value == says[0][1]]
        others = [part for part, value in says if value != says[0][1]]
        assert [other["part_index"] for other in conflicts.pop(pointer, [])] == others
    assert conflicts == {}


@given(ANSWERS, st.randoms(use_true_random=False))
def test_where_pages_agree_their_order_is_no_matter(answers: list[Any], chance: random.Random) -> None:
    """It decides which of two values stands for the document, and how the items of a list follow."""
    shuffled = chance.sample(answers, len(answers))
    before, after = (merge(list(enumerate(each)), INVOICE) for each in (answers, shuffled))
    if before is None or after is None:
        assert before is after
        return
    agreed = leaves(before["value"]).keys() - dict(before["conflicts"]).keys()
    agreed = {pointer for pointer in agreed if not pointer.startswith("/lines/")}
    assert dict(before["conflicts"]).keys() == dict(after["conflicts"]).keys()
    assert [at(before["value"], pointer) for pointer in agreed] == [
        at(after["value"], pointer) for pointer in agreed
    ]
    both = [sorted(map(str, each["value"]["lines"] or ())) for each in (before, after)]
    assert both[0] == both[1]


@given(st.lists(ANSWERS, min_size=1, max_size=4))
def test_what_is_merged_is_of_its_type(documents: list[list[Any]]) -> None:
    values = [merge(list(enumerate(answers)), INVOICE) for answers in documents]
    column = pa.array(values, merged_type(INVOICE))
    column.validate(full=True)
    assert column.is_null().to_pylist() == [value is None for value in values]


@pytest.mark.parametrize(
    ("data_type", "values", "text"),
    [
        (pa.decimal128(38, 9), (Decimal(1), Decimal("12345678901234567890123456789.500000000")), None),
        (pa.bool_(), (True, False), "false"),
        (pa.date32(), (date(2024, 1, 2), date(2024, 2, 1)), "2024-02-01"),
        (pa.timestamp("us", tz="UTC"), (datetime(1, 1, 1, tzinfo=UTC), datetime(2, 1, 1, tzinfo=UTC)), None),
        (pa.float64(), (1.5, 1e300), "1e+300"),
        (pa.int64(), (1, -(2**63)), None),
        (pa.string(), ("a", 'b"\n'), 'b"\n'),
    ],
)
def test_what_others_say_is_text_that_sql_casts_back(
    data_type: pa.DataType, values: tuple[Any, Any], text: str | None
) -> None:
    types = pa.struct([("x", data_type)])
    found = merge([(0, {"x": values[0]}), (1, {"x": values[1]})], types)
    assert found is not None
    other = dict(found["conflicts"])["/x"][0]["value"]
    assert text is None or other == text
    table = pa.table({"other": [other], "value": pa.array([values[1]], data_type)})
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("t", table)
        kind = connection.execute("SELECT typeof(value) FROM t").fetchone()
        assert kind is not None
        assert connection.execute(f"SELECT CAST(other AS {kind[0]}) = value FROM t").fetchone() == (True,)


def documents(**records: list[dict[str, Any]]) -> pa.Table:
    """`documents/` of pages with `data` of type INVOICE, and of OCR."""
    tables = {
        task: pa.Table.from_pylist(rows, schema=records_schema(INVOICE if task == "extract" else None, None))
        for task, rows in records.items()
    }
    table = assemble(tables, ERRORS.empty_table(), BOTH, [], "run-2", None)
    assert table.schema.equals(documents_schema(None, {"extract": INVOICE}), check_metadata=True)
    table.validate(full=True)
    return table


def test_a_document_is_asked_as_a_whole_in_sql(tmp_path: Path) -> None:
    lines = [{"item": name, "tags": ["x"]} for name in ("bolt", "nut", "nail")]
    first = invoice(number="7", total=Decimal("12.5"), lines=lines[:1], buyer={"name": "Ada", "age": None})
    last = invoice(number="7", total=Decimal(13), lines=lines[1:], issued=date(2024, 2, 29))
    table = documents(
        extract=[
            page(1, 2, "{}", data=last),
            page(1, 0, "{}", data=first),
            page(1, 1, "{}", data=None),
            page(3, 0, "{}", total=1, data=invoice()),
        ],
        ocr=[page(1, part) for part in range(3)] + [page(2, 0, total=1), page(3, 0, total=1)],
    )
    file = tmp_path / "documents.parquet"
    file.write_bytes(encode(table))
    assert pq.read_table(file).equals(table)
    with duckdb.connect() as connection:

        def query(what: str) -> list[Any]:
            return connection.execute(f"SELECT {what} FROM '{file}' ORDER BY document_id").fetchall()

        assert query(
            "data.extract.value.total, data.extract.value.issued, data.extract.value.buyer.name"
        ) == [
            (Decimal("12.5"), date(2024, 2, 29), "Ada"),
            (None, None, None),
            (None, None, None),
        ]
        assert query("list_transform(data.extract.value.lines, lambda l: l.item)")[0] == (
            ["bolt", "nut", "nail"],
        )
        assert query("data.extract.parts['/number'], data.extract.parts['/lines/2']")[0] == ([0, 2], [2])
        assert query("data.extract.conflicts['/total'], cardinality(data.extract.conflicts)") == [
            ([{"part_index": 2, "value": "13"}], 1),
            (None, None),
            (None, 0),
        ]
        assert query("data IS NULL, data.extract IS NULL") == [(False, False), (True, True), (False, False)]
    said = pd.read_parquet(file)["data"][0]["extract"]
    assert said["value"]["total"] == Decimal("12.5") and dict(said["parts"])["/issued"].tolist() == [2]


def test_an_answer_that_is_not_asked_for_is_not_merged() -> None:
    heard = page(1, 0, "{}", total=1, part_kind="audio", data=invoice(number="7"))
    assert documents(extract=[heard], ocr=[page(1, 0, total=1)])["data"].to_pylist() == [None]


def test_thousands_of_documents_are_merged_each_by_itself() -> None:
    rows = [
        page(number, part, "{}", total=2, data=invoice(number=f"{number}", total=Decimal(part)))
        for number in range(2_000)
        for part in (1, 0)
    ]
    column = documents(extract=rows)["data"].combine_chunks().field("extract").to_pylist()
    assert [value["value"]["number"] for value in column] == [str(number) for number in range(2_000)]
    assert {value["value"]["total"] for value in column} == {Decimal(0)}
